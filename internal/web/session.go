package web

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
)

// visitor is a signed-in person at a page.
type visitor struct {
	identity.Caller
	cookie string
}

// formToken is what a form of the visitor's pages carries: another site can make a browser send the cookie, but cannot read a page. It is
// derived from the session's secret, tells nothing of it, and changes with it.
func (v visitor) formToken() string {
	sum := sha256.Sum256([]byte("signalbox form\x00" + v.cookie))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// stranger is the caller before anybody knows who asks.
func (s *site) stranger(r *http.Request) identity.Caller {
	return identity.Caller{Kind: identity.KindAnonymous, RequestID: requestIDOf(r), IP: s.ClientIP(r), UserAgent: r.UserAgent()}
}

// visitor returns who is signed in. An Authorization header is for the API and says nothing here. A cookie that is no session's is counted as
// a guess, and refused as "rate_limited" when there were too many.
func (s *site) visitor(r *http.Request) (visitor, error) {
	cookie, from := identity.CookieSecret(r), s.stranger(r)
	session := s.Identity.Session
	if unattended(r) {
		session = s.Identity.Unattended
	}
	caller, err := session(r.Context(), cookie)
	if err != nil {
		if cookie != "" && fault.KindOf(err) == fault.Unauthenticated {
			err = s.Identity.Refuse(r.Context(), from.IP, identity.FailedSession, err)
		}
		return visitor{}, err
	}
	caller.RequestID, caller.IP, caller.UserAgent = from.RequestID, from.IP, from.UserAgent
	return visitor{Caller: caller, cookie: cookie}, nil
}

// signedIn serves a page to whoever is signed in and sends others to the sign-in, from where they come back.
func (s *site) signedIn(serve func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.byHeader(w, r) {
			return
		}
		v, err := s.visitor(r)
		if err == nil {
			err = s.Admit(r.Context(), v.Caller)
		}
		switch {
		case err == nil:
			serve(w, r, v)
		case fault.KindOf(err) == fault.Unauthenticated:
			next := ""
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				next = r.URL.RequestURI()
			}
			http.Redirect(w, r, withNext("/sign-in", next), http.StatusSeeOther)
		default:
			s.fail(w, r, err)
		}
	}
}

// submitted is signedIn for forms: they must carry the visitor's form token.
func (s *site) submitted(serve func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
	return s.submittedUpTo(maxForm, serve)
}

// submittedUpTo is submitted for forms of which some are larger: those with secrets, of which a few are certificates.
func (s *site) submittedUpTo(most int64, serve func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
	return s.signedIn(func(w http.ResponseWriter, r *http.Request, v visitor) {
		if !s.readFormUpTo(w, r, most) {
			return
		}
		if !s.ownForm(w, r, v) {
			return
		}
		serve(w, r, v)
	})
}

// readForm reads a form, or answers that it cannot be read.
func (s *site) readForm(w http.ResponseWriter, r *http.Request) bool {
	return s.readFormUpTo(w, r, maxForm)
}

func (s *site) readFormUpTo(w http.ResponseWriter, r *http.Request, most int64) bool {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(formTime)) // best effort: not every connection has one
	r.Body = http.MaxBytesReader(w, r.Body, most)
	err := r.ParseForm()
	if err == nil {
		return true
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		s.fail(w, r, fault.New(fault.TooLarge, "body_too_large", "The form is too large. Nothing was done."))
	} else {
		s.fail(w, r, fault.New(fault.Invalid, "malformed_request", "The form could not be read. Nothing was done; open the page again."))
	}
	return false
}

// plainLocal are the paths of this server that one can be sent back to: letters that mean the same to every reader of an address, and no
// second slash at the beginning, behind which a host would stand.
var plainLocal = regexp.MustCompile(`^/([A-Za-z0-9_~-][A-Za-z0-9_.~/-]*)?(\?[A-Za-z0-9_.~=&%+,:-]*)?$`)

// localPath returns where to go after a sign-in: next when it is a page of this server, else the front page.
func localPath(next string) string {
	if len(next) > 1000 || !plainLocal.MatchString(next) {
		return "/"
	}
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil {
		return "/"
	}
	switch u.Path {
	case "/sign-in", "/sign-in/second", "/sign-out", "/setup", "/invite":
		return "/"
	}
	return next
}

// withNext adds to a page's address where to go afterwards.
func withNext(page, next string) string {
	if next = localPath(next); next == "/" {
		return page
	}
	return page + "?next=" + url.QueryEscape(next)
}
