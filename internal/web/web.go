// Package web serves the dashboard, the pages that people open in a browser. What they are made of is internal/web/ui.
//
// Promise: every page is plain HTML that works without JavaScript, passkeys excepted, which browsers give to scripts only; the
// Content-Security-Policy allows nothing from elsewhere and nothing inline; a form that another site submits is refused; a password, key or token is in
// no page but the one that shows a new one once and the one with a login code to be pasted, and in no log line.
//
// Limits: pages hold no rules. What somebody may do is decided by the rooms that the REST API calls as well; a page hides what would be refused.
// What the pages do not show yet is done over the command line and the REST API.
//
// Invariants: every answer carries the security headers and Cache-Control: no-store, the embedded assets excepted; an unknown path is 404; what a
// signed-in person submits carries the token of their form; a return path is one of this server.
package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/importer"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/probe"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

//go:embed assets/style.css assets/icon.svg assets/passkey.js assets/htmx.js assets/app.js assets/copy.js assets/proof.js assets/import.js
var files embed.FS

// Config is what the pages need.
type Config struct {
	Identity *identity.Room
	Logins   *oauth.Logins
	Vault    *vault.Room
	Trains   *train.Room
	// OAuth refreshes tokens; nil on an instance that does not. Audit is read.
	OAuth *oauth.Room
	Audit *audit.Log
	// Ledger tells what was used; nil has none of the pages of usage and of requests.
	Ledger *ledger.Room
	// ClientIP says where a request came from, for the record; nil leaves that out.
	ClientIP func(*http.Request) string
	Log      *slog.Logger
	// Admit counts a request of somebody who is signed in, wholly or half, and returns why it must wait; nil counts nothing.
	Admit func(context.Context, identity.Caller) error
	// AdmitReveal counts a secret that is revealed, and returns why it must wait; nil counts nothing.
	AdmitReveal func(context.Context, identity.Caller) error
	// ReadOnly refuses every form that changes something.
	ReadOnly bool
	// PublicURL is where browsers reach this server. When it is nil, single sign-on works on this machine alone.
	PublicURL *url.URL
	// Header is single sign-on by a trusted proxy's header; its zero value is none.
	Header HeaderSSO
	// DB tells open pages what changed; New subscribes to it, so it must not be started yet. Nil tells nothing.
	DB *store.DB
	// Draining, once closed, ends the connections on which pages are told. Nil never does.
	Draining <-chan struct{}
	// Styleguide serves the page of all components.
	Styleguide bool
	// Probe tries credentials, Importer brings files in and takes archives out; nil has none of their pages.
	Probe    *probe.Room
	Importer *importer.Room
	// Incidents keeps what happened that should not have; nil has none of its pages.
	Incidents *incident.Room
	// Notify holds the channels; nil has none of their pages.
	Notify *notify.Room
	// Keys are the data keys; their zero value has none of their pages, nor has it without DB.
	Keys Keys
	// Operations tells what is in force and how it goes; its zero value tells nothing.
	Operations Operations
	// Closed is the answer to every request of an instance that serves no pages, which needs no room; nil serves them. What the answer looks like
	// is served where it is one of being unavailable.
	Closed error
}

// site is the handler. Its fields do not change after New.
type site struct {
	Config
	build   string // changes with the assets, so that browsers may keep them
	hub     *hub
	follow  *follow
	strides *strides[keyring.Rekey]
	backing *strides[backupNews]
	packed  map[string][]byte // the assets, compressed
	sheets  *sheets           // the files that are being sent
	uploads *sheets           // those that are being read, and are in memory meanwhile
}

// New returns the handler of everything outside /api, /v1 and the health checks.
func New(cfg Config) (http.Handler, error) {
	if cfg.Closed == nil && (cfg.Identity == nil || cfg.Logins == nil || cfg.Vault == nil || cfg.Trains == nil || cfg.Audit == nil) {
		return nil, errors.New("web: people, logins, a vault, trains and the log are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.ClientIP == nil {
		cfg.ClientIP = func(*http.Request) string { return "" }
	}
	if cfg.Admit == nil {
		cfg.Admit = func(context.Context, identity.Caller) error { return nil }
	}
	if cfg.AdmitReveal == nil {
		cfg.AdmitReveal = func(context.Context, identity.Caller) error { return nil }
	}
	s := &site{Config: cfg, sheets: &sheets{again: cfg.Identity.Unattended, most: sheetsMost, mostEach: sheetsEach, each: map[string]int{}}, uploads: &sheets{most: 2, mostEach: 1, each: map[string]int{}}, hub: &hub{pages: map[chan struct{}]*listener{}}, follow: &follow{}, strides: &strides[keyring.Rekey]{}, backing: &strides[backupNews]{}}
	if cfg.DB != nil {
		cfg.DB.Subscribe(s.hub.heard)
	}
	var err error
	if s.build, err = digest(); err != nil {
		return nil, err
	}
	if s.packed, err = pack(); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /setup", s.setupForm)
	mux.HandleFunc("POST /setup", s.setup)
	mux.HandleFunc("GET /sign-in", s.signInForm)
	mux.HandleFunc("POST /sign-in", s.signIn)
	mux.HandleFunc("POST /sso/{provider}", s.ssoBegin)
	mux.HandleFunc("GET /sso/{provider}/callback", s.ssoCallback)
	mux.HandleFunc("POST /step-up/{provider}", s.submitted(s.ssoStepUp))
	mux.HandleFunc("GET /invite", s.inviteForm)
	mux.HandleFunc("POST /invite", s.invite)
	mux.HandleFunc("GET /sign-out", s.signedIn(s.signOutForm))
	mux.HandleFunc("POST /sign-out", s.submitted(s.signOut))
	mux.HandleFunc("GET /step-up", s.signedIn(s.stepUpForm))
	mux.HandleFunc("POST /step-up", s.submitted(s.stepUp))
	mux.HandleFunc("GET /step-up/fresh", s.signedIn(s.isFresh))
	mux.HandleFunc("POST /sign-in/passkey/ask", s.askSignInPasskey)
	mux.HandleFunc("POST /sign-in/passkey", s.signInPasskey)
	mux.HandleFunc("GET /sign-in/second", s.pending(s.secondForm))
	mux.HandleFunc("POST /sign-in/second", s.pending(s.second))
	mux.HandleFunc("POST /sign-in/second/passkey/ask", s.pending(s.askSecondPasskey))
	mux.HandleFunc("POST /sign-in/second/passkey", s.pending(s.secondPasskey))
	mux.HandleFunc("POST /sign-in/second/register", s.pending(whilePending(s.registerPasskey)))
	mux.HandleFunc("POST /sign-in/second/app", s.pending(whilePending(s.offerApp("/sign-in/second/app/confirm"))))
	mux.HandleFunc("POST /sign-in/second/app/confirm", s.pending(whilePending(s.confirmApp("/sign-in/second/app/confirm"))))
	mux.HandleFunc("POST /step-up/passkey/ask", s.submitted(s.askStepUpPasskey))
	mux.HandleFunc("POST /step-up/passkey", s.submitted(s.stepUpPasskey))
	mux.HandleFunc("GET /cli", s.signedIn(s.fresh(s.cliForm)))
	mux.HandleFunc("POST /cli", s.submitted(s.cliAgree))
	mux.HandleFunc("POST /cli/cancel", s.submitted(s.cliCancel))
	mux.HandleFunc("POST /theme", s.submitted(s.theme))
	mux.HandleFunc("GET /account", s.signedIn(s.account))
	mux.HandleFunc("GET /account/factors", s.signedIn(s.fresh(s.factors)))
	mux.HandleFunc("POST /account/factors/app", s.submitted(s.offerApp("/account/factors/app/confirm")))
	mux.HandleFunc("POST /account/factors/app/confirm", s.submitted(s.confirmApp("/account/factors/app/confirm")))
	mux.HandleFunc("POST /account/factors/app/remove", s.submitted(s.removeApp))
	mux.HandleFunc("POST /account/factors/codes", s.submitted(s.renewCodes))
	mux.HandleFunc("POST /account/factors/passkeys/ask", s.submitted(s.askRegister))
	mux.HandleFunc("POST /account/factors/passkeys", s.submitted(s.registerPasskey))
	mux.HandleFunc("POST /account/factors/passkeys/{id}/rename", s.submitted(s.renamePasskey))
	mux.HandleFunc("POST /account/factors/passkeys/{id}/remove", s.submitted(s.removePasskey))
	mux.HandleFunc("POST /account/name", s.submitted(s.changeName))
	mux.HandleFunc("POST /account/password", s.submitted(s.changePassword))
	mux.HandleFunc("POST /account/sessions/{id}/end", s.submitted(s.endSession))
	mux.HandleFunc("POST /account/sessions/end-others", s.submitted(s.endOtherSessions))
	s.routeTrains(mux)
	s.routeCredentials(mux)
	s.routeHomes(mux)
	s.routeDue(mux)
	if s.Incidents != nil {
		s.routeIncidents(mux)
		s.routeContain(mux)
		s.routeRadius(mux)
	}
	if s.Importer != nil {
		s.routeTransfer(mux)
	}
	s.routeAccounts(mux)
	s.routeConnections(mux)
	s.routeAudit(mux)
	if s.Ledger != nil {
		s.routeLent(mux)
	}
	s.routePeople(mux)
	s.routeGroups(mux)
	s.routeServices(mux)
	s.routeTokens(mux)
	s.routeSettings(mux)
	s.routeFilters(mux)
	mux.HandleFunc("GET /live", s.signedIn(s.live))
	if cfg.Styleguide {
		mux.HandleFunc("GET /styleguide", s.signedIn(s.styleguide))
	}
	mux.HandleFunc("GET /search", s.signedIn(s.search))
	mux.HandleFunc("GET /assets/{file}", s.asset)
	mux.HandleFunc("/", s.elsewhere)
	if cfg.Closed != nil {
		closed := http.NewServeMux()
		if fault.KindOf(cfg.Closed) == fault.Unavailable { // a person may come by; to an instance that has no pages at all, nobody does
			closed.HandleFunc("GET /assets/{file}", s.asset)
		}
		closed.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, cfg.Closed) })
		return s.dress(s.clean(closed)), nil
	}
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(s.crossOrigin))
	return s.dress(guard.Handler(s.clean(s.unlessReadOnly(mux)))), nil
}

// unlessReadOnly turns forms away while nothing may be changed. Signing in and out and proving oneself again change nothing but who is there.
func (s *site) unlessReadOnly(next http.Handler) http.Handler {
	if !s.ReadOnly {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet, r.Method == http.MethodHead, comesOrGoes(r.URL.Path), reveals(r.URL.Path):
			next.ServeHTTP(w, r)
		default:
			s.fail(w, r, readOnly())
		}
	})
}

// comesOrGoes reports whether a form changes only who is there. Enrolling a second factor is no such form, even while a sign-in waits for one.
func comesOrGoes(path string) bool {
	switch path {
	case "/sign-in", "/sign-in/passkey/ask", "/sign-in/passkey", "/sign-in/second", "/sign-in/second/passkey/ask", "/sign-in/second/passkey", "/sign-out",
		"/step-up", "/theme", "/cli", "/cli/cancel":
		return true
	}
	if strings.HasPrefix(path, "/people/") && strings.Contains(path, "/sessions/") {
		return true
	}
	return strings.HasPrefix(path, "/account/sessions/") || strings.HasPrefix(path, "/sso/") || strings.HasPrefix(path, "/step-up/")
}

// reveals reports whether a form shows secret fields, or takes them out, which changes nothing.
func reveals(path string) bool {
	return path == "/export" || strings.HasPrefix(path, "/credentials/") && strings.HasSuffix(path, "/reveal")
}

func readOnly() error {
	return fault.New(fault.Forbidden, "read_only", "This Signalbox is read-only, so nothing was changed. Ask its operator when changes are possible again.")
}

// clean turns away paths that the mux would answer with a redirect.
func (s *site) clean(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cleaned := path.Clean(r.URL.Path); r.URL.Path != cleaned && r.URL.Path != cleaned+"/" || r.URL.Path == "//" {
			s.elsewhere(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// digest names the state of the assets.
func digest() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(files, "assets", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(files, path)
		_, _ = sum.Write(b) // a hash never fails
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:6]), err
}

// pack compresses the assets.
func pack() (map[string][]byte, error) {
	out := map[string][]byte{}
	list, err := files.ReadDir("assets")
	for _, f := range list {
		var text []byte
		if text, err = files.ReadFile("assets/" + f.Name()); err != nil {
			break
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(text) // a Buffer never fails
		_ = z.Close()
		out[f.Name()] = b.Bytes()
	}
	return out, err
}

// asset serves one embedded file. Browsers may keep what is named by the digest, as the pages name it. Only assets are compressed: a page holds secrets of its
// reader beside what others wrote, and its length would tell of them.
func (s *site) asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	b, err := fs.ReadFile(files, "assets/"+name)
	if err != nil {
		s.elsewhere(w, r)
		return
	}
	if r.URL.RawQuery == s.build {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	} else { // named otherwise than by a page of this build
		w.Header().Set("Cache-Control", "no-cache")
	}
	w.Header().Set("Vary", "Accept-Encoding")
	if packed := s.packed[name]; packed != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		b = packed
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(b))
}

// pageTaken is how long a page may take from the request until the browser has it. What goes on for longer moves the end with each part of it: /live, and
// files for spreadsheets.
const pageTaken = 90 * time.Second

type requestID struct{}

// dress sets what every answer carries. Referrer-Policy is same-origin rather than no-referrer because with the latter browsers send
// "Origin: null", and a form could not be told from one on another site where Sec-Fetch-Site is missing.
func (s *site) dress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := store.NewID("req")
		h := w.Header()
		h.Set("X-Request-ID", id)
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", policy("'self'"))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		// It stays in force when the handler has returned, since the end of the answer is sent after that; then the server lifts it.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(pageTaken)) // best effort: not every connection has one
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestID{}, id)))
	})
}

// policy is what a page may do; its forms lead to formAction alone.
func policy(formAction string) string {
	return "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; form-action " + formAction + "; base-uri 'none'; frame-ancestors 'none'"
}

func requestIDOf(r *http.Request) string {
	id, _ := r.Context().Value(requestID{}).(string)
	return id
}

// show writes a page or a part of one or, when it cannot be made, a plain error.
func (s *site) show(w http.ResponseWriter, r *http.Request, status int, view templ.Component) {
	var b bytes.Buffer
	if err := view.Render(r.Context(), &b); err != nil {
		s.Log.Error("a page could not be made", "request_id", requestIDOf(r), "cause", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a browser that is gone needs no page
}

func (s *site) notice(w http.ResponseWriter, r *http.Request, status int, title, text, command string) {
	s.show(w, r, status, noticeView(s.sheet(r, title), text, command, ""))
}

// fail shows what went wrong in the fault's own words; the cause goes to the log.
func (s *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.Of(err)
	if f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		s.Log.Error("a page failed", "request_id", requestIDOf(r), "code", f.Code, "cause", f.Unwrap())
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", retryAfter(f))
	}
	status := f.Kind.Status()
	if status == http.StatusUnauthorized { // RFC 9110 wants a challenge with 401, and a page has none
		status = http.StatusForbidden
	}
	s.show(w, r, status, noticeView(s.sheet(r, "That did not work"), f.Detail, "", requestIDOf(r)))
}

func retryAfter(f *fault.Error) string { return strconv.Itoa(f.RetryAfter) }

func (s *site) home(w http.ResponseWriter, r *http.Request) {
	has, err := s.Identity.HasAdministrator(r.Context())
	switch {
	case err != nil:
		s.fail(w, r, err)
	case !has:
		http.Redirect(w, r, "/setup", http.StatusSeeOther)
	default:
		s.signedIn(func(w http.ResponseWriter, r *http.Request, v visitor) {
			s.overview(w, r, v)
		})(w, r)
	}
}

// elsewhere answers unknown paths, and known ones asked with another method.
func (s *site) elsewhere(w http.ResponseWriter, r *http.Request) {
	allow := map[string]string{
		"/": "GET, HEAD", "/account": "GET, HEAD", "/account/factors": "GET, HEAD", "/sign-in/second": "GET, HEAD, POST", "/setup": "GET, HEAD, POST", "/sign-in": "GET, HEAD, POST", "/sign-out": "GET, HEAD, POST",
		"/step-up": "GET, HEAD, POST", "/invite": "GET, HEAD, POST", "/connect": "GET, HEAD, POST", "/connections": "GET, HEAD", "/accounts": "GET, HEAD, POST", "/trains": "GET, HEAD, POST", "/credentials": "GET, HEAD, POST", "/clients": "GET, HEAD, POST", "/services": "GET, HEAD, POST", "/infrastructure": "GET, HEAD, POST", "/due": "GET, HEAD", "/requests": "GET, HEAD", "/usage": "GET, HEAD", "/incidents": "GET, HEAD, POST", "/import": "GET, HEAD, POST", "/export": "GET, HEAD, POST", "/search": "GET, HEAD", "/people": "GET, HEAD, POST", "/groups": "GET, HEAD, POST", "/service-accounts": "GET, HEAD, POST", "/tokens": "GET, HEAD, POST", "/settings": "GET, HEAD", "/settings/keys": "GET, HEAD, POST", "/settings/backups": "GET, HEAD", "/audit": "GET, HEAD", "/cli": "GET, HEAD, POST",
	}[r.URL.Path]
	if allow != "" && r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", allow)
		s.notice(w, r, http.StatusMethodNotAllowed, "Not like this", "This page cannot be asked for in that way.", "")
		return
	}
	s.notice(w, r, http.StatusNotFound, "There is nothing here", "Signalbox has no page at this address. The REST API is under /api, and agents use /v1.", "")
}

func (s *site) crossOrigin(w http.ResponseWriter, r *http.Request) {
	s.Log.Warn("a form from another site was refused", "request_id", requestIDOf(r))
	s.notice(w, r, http.StatusForbidden, "Refused", "This form was sent from another site, so nothing was done. Open the page of this Signalbox itself and fill in the form there.", "")
}
