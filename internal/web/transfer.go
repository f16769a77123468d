package web

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/importer"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/web/ui"
)

const (
	// importMost bounds the files of one import together; what they unpack to, the room bounds.
	importMost = 48 << 20
	// importText bounds what is typed beside them.
	importText = 8 << 10
	// importTaken is how long an import may take from its first byte on.
	importTaken = 5 * time.Minute
	// importRows is how many entries a page lists.
	importRows = 300
	// exportTaken is how long a browser may take to receive a piece of an export, exportEnd how long the record of its end may take.
	exportTaken, exportEnd = 30 * time.Second, 5 * time.Second
)

// routeTransfer names the pages that bring files in and take archives out.
func (s *site) routeTransfer(mux *http.ServeMux) {
	mux.HandleFunc("GET /import", s.signedIn(s.needing(identity.CredentialWrite, s.fresh(s.importForm))))
	mux.HandleFunc("POST /import", s.signedIn(s.importFiles))
	mux.HandleFunc("GET /export", s.signedIn(s.needing(identity.CredentialReveal, s.fresh(s.exportForm))))
	mux.HandleFunc("POST /export", s.submitted(s.export))
}

// importPage asks for files, and shows what would become, or became, of everything in them.
type importPage struct {
	ui.Frame
	Tabs    []ui.NavLink
	Alert   string
	Hidden  []ui.Hidden
	Files   ui.Field
	Inputs  []ui.Field
	Formats ui.Choice
	// Report is what the room said; nil before there is one.
	Report *importer.Report
	Facts  []ui.Fact
	Table  ui.Table
	// Sum names what the page shows, and Offer is the label of the button that does it; "" where there is nothing to do, or something stands in the way.
	Sum, Offer string
}

func (s *site) transferTabs(v visitor, here string) []ui.NavLink {
	tabs := []ui.NavLink{{Label: "Import", Href: "/import", Current: here == "/import"}}
	if v.may(identity.CredentialReveal) {
		tabs = append(tabs, ui.NavLink{Label: "Export", Href: "/export", Current: here == "/export"})
	}
	return tabs
}

func (s *site) importPage(r *http.Request, v visitor, form url.Values) *importPage {
	p := &importPage{Frame: s.frame(r, v, "Import"), Tabs: s.transferTabs(v, "/import"), Hidden: v.proving()}
	p.Files = ui.Field{Name: "files", Label: "Files", Type: "file", Hint: "Up to 48 MiB together. They are read in memory and kept nowhere."}
	p.Formats = ui.Choice{Name: "format", Label: "Format", Hint: "It is found out for each file where nothing is chosen.", Options: []ui.Option{{Label: "find it out"}}}
	for _, f := range importer.Formats() {
		p.Formats.Options = append(p.Formats.Options, ui.Option{Value: f.Name, Label: f.Title, Chosen: form.Get("format") == f.Name})
	}
	p.Inputs = []ui.Field{
		{Name: "passphrase", Label: "Passphrase", Type: "password", Autocomplete: "off", MaxLength: 4096, Optional: true, Hint: "Opens an encrypted file: a passphrase, or an age identity."},
		{Name: "name", Label: "Name of the account", Value: form.Get("name"), Autocomplete: "off", MaxLength: 200, Optional: true, Hint: "Of a file that has no name for it, such as that of Claude Code."},
	}
	return p
}

func (s *site) importForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.show(w, r, http.StatusOK, importView(s.importPage(r, v, url.Values{})))
}

// upload is what a form with files holds.
type upload struct {
	form  url.Values
	files []importer.File
}

// readUpload reads a form with files into memory: nothing of them is written anywhere. What is typed comes first, and the form's token with it, so that
// a form without it is turned away before its files are read.
func (s *site) readUpload(w http.ResponseWriter, r *http.Request, v visitor) (u upload, ok bool) {
	conn := http.NewResponseController(w)
	_, _ = conn.SetReadDeadline(time.Now().Add(importTaken)), conn.SetWriteDeadline(time.Now().Add(importTaken+pageTaken)) // best effort: not every connection has one
	r.Body = http.MaxBytesReader(w, r.Body, importMost+1<<20)
	u.form = url.Values{}
	r.PostForm, r.Form = u.form, u.form
	parts, err := r.MultipartReader()
	owned := false
	for err == nil {
		var part *multipart.Part
		if part, err = parts.NextPart(); err != nil {
			break
		}
		if name := part.FileName(); name != "" {
			if !owned {
				if owned = s.ownForm(w, r, v); !owned {
					return u, false
				}
			}
			var data []byte
			if len(u.files) == importer.MaxFiles {
				err = fault.New(fault.TooLarge, "body_too_large", "These are too many files. Import at most "+strconv.Itoa(importer.MaxFiles)+" at once.")
			} else if data, err = io.ReadAll(part); err == nil {
				u.files = append(u.files, importer.File{Name: name, Data: data})
			}
			continue
		}
		var text []byte
		if text, err = io.ReadAll(io.LimitReader(part, importText+1)); err == nil && len(text) > importText {
			err = fault.New(fault.TooLarge, "body_too_large", "A field is too long. Nothing was done.")
		}
		if len(u.form) < 20 {
			u.form.Add(part.FormName(), string(text))
		}
	}
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, io.EOF):
		return u, owned || s.ownForm(w, r, v)
	case errors.As(err, &large), fault.KindOf(err) == fault.TooLarge:
		s.fail(w, r, fault.New(fault.TooLarge, "body_too_large", "The files are too large, or too many: 48 MiB together at most. Nothing was done; import them one after the other."))
	default:
		s.fail(w, r, fault.New(fault.Invalid, "malformed_request", "The form could not be read. Nothing was done; open the page again."))
	}
	return u, false
}

// sumOf names what a page shows of an import: these files, read like this, and what becomes of each entry. It is made with the session's secret, so that it
// tells nothing of what stands in the files.
func (v visitor) sumOf(u upload, decided string) string {
	key := sha256.Sum256([]byte("signalbox import\x00" + v.cookie))
	h := hmac.New(sha256.New, key[:])
	put := func(text string) { _, _ = h.Write([]byte(strconv.Itoa(len(text)) + ":" + text)) } // a hash never fails
	put(u.form.Get("format"))
	put(u.form.Get("name"))
	for _, f := range u.files {
		put(f.Name)
		put(string(f.Data))
	}
	put(decided)
	return hex.EncodeToString(h.Sum(nil))
}

// importFiles looks at files, or imports them: exactly what the page has shown, or nothing.
func (s *site) importFiles(w http.ResponseWriter, r *http.Request, v visitor) {
	err := allowed(v, identity.CredentialWrite)
	if err == nil {
		err = identity.RequireFresh(v.Caller, time.Now())
	}
	if err == nil && !s.uploads.begin(v.UserID) {
		err = fault.New(fault.TooMany, "rate_limited", "Another import is under way. Try again when it is through.").After(10)
	}
	if err != nil {
		s.settled(w, r, v, err, "", "/import", nil)
		return
	}
	defer s.uploads.end(v.UserID)
	u, ok := s.readUpload(w, r, v)
	if !ok {
		return
	}
	p := s.importPage(r, v, u.form)
	storing := u.form.Get("act") == "store"
	var report importer.Report
	if len(u.files) == 0 {
		err = fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With("/files", "must be chosen")
	}
	req := importer.Request{Files: u.files, Format: u.form.Get("format"), Name: strings.TrimSpace(u.form.Get("name")), Passphrase: secret.FromString(u.form.Get("passphrase")), DryRun: !storing}
	if decided := u.form.Get("decided"); err == nil && storing {
		req.Expect = decided
		if decided == "" || !hmac.Equal([]byte(u.form.Get("sum")), []byte(v.sumOf(u, decided))) {
			err = fault.New(fault.Conflict, "state_conflict", "These are not the files, or not the format and name, that were looked at, so nothing was imported. Look again, then import.")
		}
	}
	if err == nil {
		report, err = s.Importer.Import(r.Context(), v.Caller, req)
	}
	if err == nil {
		s.reported(r, v, p, u, report)
		s.show(w, r, http.StatusOK, importView(p))
		return
	}
	s.settled(w, r, v, err, "", "/import", func(f *fault.Error) {
		named := fault.New(f.Kind, f.Code, f.Detail)
		for _, e := range f.Fields {
			if at, found := strings.CutPrefix(e.Pointer, "/files/"); found {
				if n, bad := strconv.Atoi(at); bad == nil && n >= 0 && n < len(u.files) {
					e.Pointer, e.Message = "/files", u.files[n].Name+" "+e.Message
				}
			}
			_ = named.With(e.Pointer, e.Message)
		}
		one := []ui.Field{p.Files}
		p.Alert = mark(markChoices(named, []ui.Choice{p.Formats}), one, p.Inputs)
		p.Files = one[0]
		p.Alert = cmp.Or(p.Alert, "Nothing was imported. Mend what is marked.")
		s.refuse(w, r, f, importView(p))
	})
}

// reported fills a page with what became, or would become, of everything.
func (s *site) reported(r *http.Request, v visitor, p *importPage, u upload, report importer.Report) {
	reader := s.reader(r)
	p.Report = &report
	number := func(term string, n int) {
		p.Facts = append(p.Facts, ui.Fact{Term: term, Value: ui.Text(reader.Number(int64(n)))})
	}
	number("Entries", report.Entries)
	number("New", report.Created)
	number("Here already", report.Duplicates)
	number("Left out", report.Skipped)
	number("Refused", report.Wrong)
	p.Facts = append(p.Facts, ui.Fact{Term: "Format", Value: ui.Text(strings.Join(report.Formats, ", "))})
	if len(report.Trains) > 0 {
		p.Facts = append(p.Facts, ui.Fact{Term: "Trains that are made", Value: ui.Text(strings.Join(report.Trains, ", ")), Wide: true})
	}
	if !report.SecretsCompared {
		p.Facts = append(p.Facts, ui.Fact{Term: "Secrets", Value: ui.Text("not compared with those that are stored: you may reveal none"), Wide: true})
	}
	p.Table = ui.Table{ID: "entries", Caption: "What becomes of each entry", Columns: []ui.Column{{Label: "Name"}, {Label: "What"}, {Label: "Where"}, {Label: "Becomes"}, {Label: "Why"}},
		Empty: ui.Empty{Text: "There is no entry in the files."}}
	for _, one := range report.Rows[:min(len(report.Rows), importRows)] {
		kind := one.Kind
		if one.Type != "" {
			kind = one.Type
		}
		why := strings.Join(append([]string{one.Reason}, one.Notes...), "; ")
		name := ui.Text(cmp.Or(one.Name, "entry "+strconv.Itoa(one.Number)))
		if one.ID != "" && one.Kind == "credential" {
			name = ui.Link(one.Name, credentialPath(one.ID))
		}
		p.Table.Rows = append(p.Table.Rows, ui.Row{ID: strconv.Itoa(one.Number), Cells: []templ.Component{name, ui.Text(strings.ReplaceAll(kind, "_", " ")), ui.Faint(strings.Trim(one.File+", "+one.Place, ", ")),
			becomes(one), whyView(strings.Trim(why, "; "), one)}})
	}
	if left := report.LeftOut + max(0, len(report.Rows)-importRows); left > 0 {
		p.Facts = append(p.Facts, ui.Fact{Term: "Not listed", Value: ui.Text(reader.Count(left, "entry") + "; signalbox import --dry-run lists more"), Wide: true})
	}
	if report.DryRun && report.Wrong == 0 && report.Created > 0 {
		p.Sum, p.Offer = v.sumOf(u, report.Sum), "Import "+strings.Replace(reader.Count(report.Created, "new entry"), "new entrys", "new entries", 1)
	}
}

func becomes(row importer.Row) templ.Component {
	switch row.Action {
	case importer.Create:
		if row.ID != "" {
			return ui.Badge(ui.Good, "imported")
		}
		return ui.Badge(ui.Good, "new")
	case importer.Duplicate:
		return ui.Badge(ui.Idle, "here already")
	case importer.Skip:
		return ui.Badge(ui.Idle, "left out")
	}
	return ui.Badge(ui.Bad, "refused")
}

// importSaid is what an import came to, in a sentence.
func importSaid(r *importer.Report) string {
	switch {
	case r.Applied:
		return "It was imported. Everything that is listed as imported is stored; delete the files where nobody needs them any more."
	case r.Wrong > 0:
		return "Nothing is imported while an entry is refused. Correct those in the file, or take them out, and look again."
	case r.Created == 0:
		return "There is nothing new in the files, so there is nothing to import."
	}
	return "Nothing was stored yet. This is what an import does; it does exactly this, or nothing."
}

func (s *site) exportPage(r *http.Request, v visitor) *askedPage {
	form := r.PostForm
	return &askedPage{Frame: s.frame(r, v, "Export"), Back: "/import", BackLabel: "Import and export", Action: "/export", Submit: "Export what I may reveal", Hidden: v.proving(),
		Lead: "Everything that you may reveal leaves in one archive, encrypted with age before it does. Each credential in it is on record as revealed by you. It can be imported again.",
		Inputs: []ui.Field{
			{Name: "reason", Label: "Reason", Value: form.Get("reason"), MaxLength: 500, Autocomplete: "off", Focus: true, Hint: "It is recorded with your name."},
			{Name: "passphrase", Label: "Passphrase", Type: "password", MaxLength: 1024, Autocomplete: "new-password", Free: true, Hint: "16 characters or more. Without it nobody opens the archive, and nobody can tell it you again."},
			{Name: "again", Label: "The passphrase once more", Type: "password", MaxLength: 1024, Autocomplete: "new-password", Free: true},
			{Name: "recipients", Label: "Or recipients of age", Value: form.Get("recipients"), Rows: 2, MaxLength: 8000, Autocomplete: "off", Optional: true, Hint: "age1…, in place of a passphrase; one a line."},
		}}
}

func (s *site) exportForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.show(w, r, http.StatusOK, askedView(s.exportPage(r, v)))
}

// export sends an archive as it is made. A browser that is gone, or a right that is taken back meanwhile, breaks it off, and what was sent is no archive.
func (s *site) export(w http.ResponseWriter, r *http.Request, v visitor) {
	form := r.PostForm
	req := importer.ExportRequest{Recipients: strings.Fields(form.Get("recipients")), Passphrase: secret.FromString(form.Get("passphrase")), Reason: form.Get("reason")}
	err := s.AdmitReveal(r.Context(), v.Caller)
	switch {
	case err != nil:
	case !r.ProtoAtLeast(1, 1):
		err = fault.New(fault.Invalid, "malformed_request", "An export needs HTTP/1.1 or later, also from a proxy in between (nginx: proxy_http_version 1.1).")
	case len(req.Recipients) > 0 && form.Get("passphrase") != "":
		err = fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With("/recipients", "must be left out when there is a passphrase; choose one of the two")
	case form.Get("passphrase") != form.Get("again"):
		err = fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With("/again", "must be the same passphrase")
	}
	if err == nil && !s.sheets.begin(v.UserID) {
		err = fault.New(fault.TooMany, "rate_limited", "Other files are being sent. Ask again in a moment.").After(5)
	} else if err == nil {
		defer s.sheets.end(v.UserID)
	}
	var e *importer.Export
	if err == nil {
		e, err = s.Importer.Export(r.Context(), v.Caller, req)
	}
	if err != nil {
		s.settled(w, r, v, err, "", "/export", func(f *fault.Error) {
			p := s.exportPage(r, v)
			p.Alert = mark(f, p.Inputs)
			s.refuse(w, r, f, askedView(p))
		})
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="signalbox-export.age"`)
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Time{}) // that of a short request would cancel this one
	err = e.WriteTo(r.Context(), piecewise{w, conn}, func(ctx context.Context) error {
		caller, err := s.sheets.again(ctx, v.cookie)
		if err == nil {
			_, err = identity.Within(caller, identity.CredentialReveal)
		}
		return err
	})
	why := ""
	if err != nil {
		why = "broken_off"
		switch {
		case r.Context().Err() != nil:
			why = "client_gone"
		case fault.KindOf(err) == fault.Unauthenticated, fault.KindOf(err) == fault.Forbidden:
			why = "revoked"
		}
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), exportEnd)
	defer cancel()
	if bad := e.Close(end, why); bad != nil {
		s.Log.LogAttrs(end, slog.LevelWarn, "the end of an export was not recorded", slog.String("request_id", requestIDOf(r)), slog.String("code", fault.Of(bad).Code))
	}
	if err != nil {
		s.Log.LogAttrs(end, slog.LevelWarn, "an export of credentials broke off", slog.String("request_id", requestIDOf(r)), slog.String("reason", why), slog.String("code", fault.Of(err).Code))
		panic(http.ErrAbortHandler) // net/http's documented way to break an answer off
	}
}

// piecewise lets a browser take so long for each piece of an answer, and no longer.
type piecewise struct {
	io.Writer
	conn *http.ResponseController
}

// Write sends a piece.
func (p piecewise) Write(b []byte) (int, error) {
	if err := p.conn.SetWriteDeadline(time.Now().Add(exportTaken)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.Writer.Write(b)
}
