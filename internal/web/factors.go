package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/web/ui"
)

// factorsPage is what people see and change of their second factors.
type factorsPage struct {
	ui.Frame
	Alert, Done   string
	Form          string
	App           string // since when
	Passkeys      []passkeyLine
	RecoveryCodes int
	Any, Demanded bool
	Register      *passkeyForm
	NoPasskey     string
}

type passkeyLine struct {
	ID, Name, Since, Used, Suspect string
}

// enrolPage is for somebody who must have a second factor and has none.
type enrolPage struct {
	ui.Frame
	Alert, Next string
	Hidden      []ui.Hidden
	Register    *passkeyForm
	NoPasskey   string
}

// appPage shows the secret of an authenticator app, once.
type appPage struct {
	ui.Frame
	Alert, Secret, URI, Action string
	Code                       templ.Component
	Inputs                     []ui.Field
	Hidden                     []ui.Hidden
}

// codesPage shows recovery codes, once.
type codesPage struct {
	ui.Frame
	Done, Codes, Next string
}

func passkeyNameInput() ui.Field {
	return ui.Field{Name: "name", Label: "Name of the new passkey", Type: "text", Value: "Passkey", Autocomplete: "off", MaxLength: 100, Hint: "The device that keeps it, so that you know which to remove when it is lost."}
}

func (s *site) registerForm(r *http.Request, hidden []ui.Hidden, base string) (*passkeyForm, string) {
	if _, err := s.Identity.Site(r.Host); err != nil {
		return nil, fault.Of(err).Detail
	}
	return &passkeyForm{Build: s.build, Ask: base + "/ask", Action: base, Ceremony: "create", Submit: "Add a passkey", Hidden: hidden, Inputs: []ui.Field{passkeyNameInput()}}, ""
}

func (s *site) factorsPage(r *http.Request, v visitor) (*factorsPage, error) {
	have, err := s.Identity.Factors(r.Context(), v.Caller, "")
	if err != nil {
		return nil, err
	}
	p := &factorsPage{Frame: s.frame(r, v, "Second factors"), Form: v.formToken(), RecoveryCodes: have.RecoveryCodes, Any: have.Any(), Demanded: have.Demanded}
	if have.TOTPSince != nil {
		p.App = clock(*have.TOTPSince)
	}
	for _, one := range have.Passkeys {
		line := passkeyLine{ID: one.ID, Name: one.Name, Since: clock(one.CreatedAt), Used: "never"}
		if one.LastUsedAt != nil {
			line.Used = clock(*one.LastUsedAt)
		}
		if one.SuspectAt != nil {
			line.Suspect = clock(*one.SuspectAt)
		}
		p.Passkeys = append(p.Passkeys, line)
	}
	p.Register, p.NoPasskey = s.registerForm(r, v.hidden(), "/account/factors/passkeys")
	return p, nil
}

func (s *site) factors(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.factorsPage(r, v)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	p.Done = map[string]string{
		"removed": "The second factor was removed.", "renamed": "The passkey has its new name.", "added": "The passkey was added.",
	}[r.URL.Query().Get("done")]
	s.show(w, r, http.StatusOK, factorsView(p))
}

// settleFactors leads back to the page of second factors, to a proof that is wanted first, or shows what was wrong.
func (s *site) settleFactors(w http.ResponseWriter, r *http.Request, v visitor, what string, err error) {
	f := fault.Of(err)
	switch {
	case err == nil:
		http.Redirect(w, r, "/account/factors?done="+what, http.StatusSeeOther)
	case v.Kind == identity.KindAnonymous: // who is half signed in has no such ui.Frame
		s.fail(w, r, err)
	case f.Code == "step_up_required":
		http.Redirect(w, r, withNext("/step-up", r.URL.RequestURI()), http.StatusSeeOther)
	case f.Kind == fault.Unprocessable || f.Kind == fault.Conflict || f.Kind == fault.NotFound || f.Code == "passkey_refused":
		p, perr := s.factorsPage(r, v)
		if perr != nil {
			s.fail(w, r, perr)
			return
		}
		p.Alert = alertOf(f)
		s.refuse(w, r, f, factorsView(p))
	default:
		s.fail(w, r, err)
	}
}

// alertOf is a fault in one sentence or two, with what is said of its fields.
func alertOf(f *fault.Error) string {
	text := f.Detail
	for _, field := range f.Fields {
		text += " The " + strings.TrimPrefix(field.Pointer, "/") + " " + field.Message + "."
	}
	return text
}

func (s *site) enrolPage(r *http.Request, v visitor, next string) *enrolPage {
	p := &enrolPage{Frame: s.sheet(r, "Add a second factor"), Next: next, Hidden: v.hidden(ui.Hidden{Name: "next", Value: next})}
	p.Register, p.NoPasskey = s.registerForm(r, p.Hidden, "/sign-in/second/register")
	if p.Register != nil {
		p.Register.Ask = "/sign-in/second/passkey/ask"
	}
	return p
}

// offerApp makes the secret of an authenticator app and shows it. The page that shows it is the answer to a form, so that looking at a page makes none.
func (s *site) offerApp(action string) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		offer, err := s.Identity.OfferTOTP(r.Context(), v.Caller)
		if err != nil {
			s.settleFactors(w, r, v, "", err)
			return
		}
		text := offer.URI.Reveal()
		image, err := drawQR(text)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		p := &appPage{Frame: s.frame(r, v, "Add an authenticator app"), Secret: spaced(offer.Secret.Reveal()), URI: text, Code: image, Action: action,
			Hidden: v.hidden(ui.Hidden{Name: "next", Value: nextOf(r)}), Inputs: []ui.Field{codeInput()}}
		p.Inputs[0].Focus = true
		s.show(w, r, http.StatusOK, appView(p))
	}
}

// spaced is a secret in groups, for reading and typing.
func spaced(text string) string {
	var b strings.Builder
	for i, c := range text {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// drawQR draws a text as SVG: dark modules on white, in either theme.
func drawQR(text string) (templ.Component, error) {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return nil, fmt.Errorf("the QR code of an authenticator app cannot be drawn") // not the cause, which may repeat the text
	}
	const quiet = 4 // modules around it, which the standard wants
	size := code.Bounds().Dx()
	var path strings.Builder
	for y := range size {
		for x := range size {
			if dark(code, x, y) {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	all := size + 2*quiet
	return templ.Raw(fmt.Sprintf(`<svg class="qr" viewBox="0 0 %d %d" role="img" aria-label="QR code for your authenticator app" shape-rendering="crispEdges"><rect width="%d" height="%d" fill="#fff"/><path fill="#000" d="%s"/></svg>`, all, all, all, all, path.String())), nil
}

func dark(code barcode.Barcode, x, y int) bool {
	r, _, _, _ := code.At(x, y).RGBA()
	return r == 0
}

// confirmApp takes the first code of a new app. A wrong one leaves its secret as it is, which the app has by now and the page does not show again.
func (s *site) confirmApp(action string) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		done, err := s.Identity.ConfirmTOTP(r.Context(), v.Caller, secret.FromString(r.PostForm.Get("code")))
		if err == nil {
			s.enrolled(w, r, done, "The authenticator app is your second factor now.")
			return
		}
		f := fault.Of(err)
		if f.Code != "second_factor_wrong" && f.Kind != fault.TooMany {
			s.settleFactors(w, r, v, "", err)
			return
		}
		p := &appPage{Frame: s.frame(r, v, "Add an authenticator app"), Alert: f.Detail, Action: action, Hidden: v.hidden(ui.Hidden{Name: "next", Value: nextOf(r)}), Inputs: []ui.Field{codeInput()}}
		s.refuse(w, r, f, appView(p))
	}
}

func (s *site) registerPasskey(w http.ResponseWriter, r *http.Request, v visitor) {
	at, err := s.Identity.Site(r.Host)
	var done identity.Enrolment
	if err == nil {
		done, err = s.Identity.RegisterPasskey(r.Context(), v.Caller, at, r.PostForm.Get("name"), answerOf(r))
	}
	if err == nil {
		s.enrolled(w, r, done, "The passkey is your second factor now. It signs you in without a password, too.")
		return
	}
	s.settleFactors(w, r, v, "", err)
}

// enrolled shows the recovery codes that came with a first factor, or leads back.
func (s *site) enrolled(w http.ResponseWriter, r *http.Request, done identity.Enrolment, what string) {
	http.SetCookie(w, done.Cookie())
	if len(done.Codes) == 0 {
		http.Redirect(w, r, "/account/factors?done=added", http.StatusSeeOther)
		return
	}
	s.showCodes(w, r, done.User.Name, what, nextOf(r), done.Codes)
}

func (s *site) showCodes(w http.ResponseWriter, r *http.Request, person, what, next string, codes []secret.Value) {
	lines := make([]string, len(codes))
	for i, c := range codes {
		lines[i] = c.Reveal()
	}
	if next == "/" {
		next = "/account/factors"
	}
	p := &codesPage{Frame: s.sheet(r, "Your recovery codes"), Done: what, Codes: strings.Join(lines, "\n"), Next: next}
	p.Person = person
	s.show(w, r, http.StatusOK, codesView(p))
}

func (s *site) renewCodes(w http.ResponseWriter, r *http.Request, v visitor) {
	codes, err := s.Identity.RegenerateRecoveryCodes(r.Context(), v.Caller)
	if err != nil {
		s.settleFactors(w, r, v, "", err)
		return
	}
	s.showCodes(w, r, v.Name, "The codes that you had before are void.", "/account/factors", codes)
}

func (s *site) removeApp(w http.ResponseWriter, r *http.Request, v visitor) {
	s.settleFactors(w, r, v, "removed", s.Identity.RemoveTOTP(r.Context(), v.Caller))
}

func (s *site) renamePasskey(w http.ResponseWriter, r *http.Request, v visitor) {
	_, err := s.Identity.RenamePasskey(r.Context(), v.Caller, r.PathValue("id"), r.PostForm.Get("name"))
	s.settleFactors(w, r, v, "renamed", err)
}

func (s *site) removePasskey(w http.ResponseWriter, r *http.Request, v visitor) {
	s.settleFactors(w, r, v, "removed", s.Identity.RemovePasskey(r.Context(), v.Caller, r.PathValue("id")))
}

func (s *site) askRegister(w http.ResponseWriter, r *http.Request, v visitor) {
	s.askPasskey(w, r, v.Caller, identity.PasskeyRegister)
}

// fresh leads from a page to the step-up first when the last proof is too old for what the page does: its forms would be refused.
func (s *site) fresh(serve func(http.ResponseWriter, *http.Request, visitor)) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		if identity.RequireFresh(v.Caller, time.Now()) != nil {
			http.Redirect(w, r, withNext("/step-up", r.URL.RequestURI()), http.StatusSeeOther)
			return
		}
		serve(w, r, v)
	}
}

// whilePending is a form of a sign-in that waits for a first factor, as the same form of somebody who is signed in.
func whilePending(serve func(http.ResponseWriter, *http.Request, visitor)) func(http.ResponseWriter, *http.Request, visitor, []identity.Proof) {
	return func(w http.ResponseWriter, r *http.Request, v visitor, _ []identity.Proof) { serve(w, r, v) }
}
