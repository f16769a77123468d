package probe

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

const (
	authBearer = "bearer"
	authBasic  = "basic"
	authHeader = "header"
	maxPath    = 1024
)

// Auths returns the ways in which a secret goes into a request.
func Auths() []string { return []string{authBearer, authBasic, authHeader} }

// check refuses an ask that could mean something else than it says.
func (a Ask) check() error {
	f := fault.New(fault.Unprocessable, "validation_failed", "The credential cannot be tested like this. Correct the fields that are named and try again; nothing was sent.")
	if a.Path != "" {
		u, err := url.Parse(a.Path)
		if err != nil || len(a.Path) > maxPath || !strings.HasPrefix(a.Path, "/") || strings.HasPrefix(a.Path, "//") || u.Host != "" || u.Fragment != "" || strings.Contains(a.Path, "#") ||
			strings.ContainsAny(u.Path, "\\") || hasDots(u.Path) {
			f.With("/path", "must be a path below base_url, such as /v1/models, with a query if it needs one and without ..")
		}
	}
	if a.Auth != "" && a.Auth != authBearer && a.Auth != authBasic && a.Auth != authHeader {
		f.With("/auth", "must be bearer, basic or header")
	}
	if (a.Auth == authHeader) != (a.Header != "") {
		f.With("/header", "goes with auth header, and only with that")
	} else if a.Header != "" && !mayCarry(a.Header) {
		f.With("/header", "must be the name of a header that carries a key, such as X-Api-Key")
	}
	if a.HostKey != "" && (!strings.HasPrefix(a.HostKey, "SHA256:") || len(a.HostKey) != len("SHA256:")+43) {
		f.With("/host_key", "must be a fingerprint as ssh-keygen -l shows it: SHA256: and 43 characters")
	}
	if len(f.Fields) > 0 {
		return f
	}
	return nil
}

func hasDots(path string) bool {
	for s := range strings.SplitSeq(path, "/") {
		if s == ".." || s == "." {
			return true
		}
	}
	return false
}

// mayCarry takes names of headers that say nothing about the message itself.
func mayCarry(name string) bool {
	if len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return false
	}
	name = http.CanonicalHeaderKey(name)
	return strings.HasPrefix(name, "X-") && !strings.HasPrefix(name, "X-Forwarded") || name == "Authorization" || name == "Api-Key" || name == "Apikey" || strings.HasSuffix(name, "-Token") || strings.HasSuffix(name, "-Key")
}

// cheapPath is a path of a known provider that needs the credential and costs nothing.
func cheapPath(provider string) string {
	if provider == "anthropic" {
		return "/v1/models"
	}
	return ""
}

func (r *Room) tryHTTP(ctx context.Context, t vault.Trial, ask Ask) Result {
	if ask.Offline {
		return Result{Outcome: Unsupported, Detail: "Only its server can tell whether this credential works. Test it without offline."}
	}
	if t.BaseURL == nil {
		return Result{Outcome: Unsupported, Detail: "It is not known where this credential is used. Give it a base_url, then test it again."}
	}
	u := *t.BaseURL
	path := ask.Path
	if path == "" {
		path = cheapPath(t.Provider)
	}
	if path != "" {
		below, err := url.Parse(path)
		if err != nil {
			return Result{Outcome: Unsupported, Detail: "The path cannot be read."}
		}
		u = *u.JoinPath(below.EscapedPath())
		u.RawQuery = below.RawQuery
	}
	target := u.Scheme + "://" + u.Host
	if !t.Bound(&u) {
		return Result{Outcome: Forbidden, Detail: "The credential is not bound to the host of its base_url. Put that host into hosts, or correct base_url."}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Result{Outcome: Unsupported, Detail: "The path cannot be read."}
	}
	req.Header.Set("User-Agent", "signalbox")
	if problem := apply(req, t, ask); problem != "" {
		return Result{Outcome: Unsupported, Detail: problem}
	}
	client := r.http
	route, err := t.Route()
	if err != nil {
		return Result{Outcome: Unsupported, Detail: "The CA bundle or the proxy of this account cannot be read. Set its upstream anew."}
	}
	if route != nil {
		o := r.options
		o.Route = route
		client = outbound.NewClient(r.policy, o)
		defer client.CloseIdleConnections()
	}
	resp, err := client.Do(req)
	if err != nil {
		return failed(err, target)
	}
	_ = resp.Body.Close() // nothing that it says is wanted
	out := Result{Target: target, Status: resp.StatusCode}
	switch {
	case resp.StatusCode < 300:
		out.Outcome, out.Detail = OK, "The server took the request. If the path needs no credential, give one that does with path."
	case resp.StatusCode < 400:
		out.Outcome, out.Detail = Refused, "The server answered with a redirect, which is not followed: the secret goes to no other place. Set base_url to where it leads, or give a path."
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		out.Outcome, out.Detail = Unauthorized, "The server does not take this credential for this path. Rotate it, or check how the server wants it (auth) and what it may do there."
	case resp.StatusCode == http.StatusTooManyRequests:
		out.Outcome, out.Detail = Refused, "The server has had too many requests. Test again later."
	case resp.StatusCode >= 500:
		out.Outcome, out.Detail = Refused, "The server failed. That says nothing about the credential; test again later."
	default:
		out.Outcome, out.Detail = Refused, "The server did not take the request. Give a path that it knows and that needs the credential."
	}
	return out
}

// apply puts the secret where it belongs, or says why it does not know where.
func apply(req *http.Request, t vault.Trial, ask Ask) string {
	field := map[vault.Type]string{vault.Password: "password", vault.APIKey: "api_key", vault.OAuth: "access_token", vault.JWT: "token"}[t.Type]
	value, ok := t.Secrets[field]
	if !ok {
		return "The credential lacks the secret that would be sent. Rotate it."
	}
	auth := ask.Auth
	if auth == "" {
		auth = authBearer
		if t.Type == vault.Password {
			auth = authBasic
		}
	}
	if ask.Auth == "" && t.Provider == "anthropic" {
		req.Header.Set("anthropic-version", "2023-06-01")
		if t.Type == vault.APIKey {
			return put(req, "x-api-key", "", value)
		}
		req.Header.Set("anthropic-beta", "oauth-2025-04-20")
	}
	switch auth {
	case authBasic:
		if t.Username == "" {
			return "A user name belongs to a password. Set username, then test again."
		}
		req.SetBasicAuth(t.Username, value.Reveal())
		return ""
	case authHeader:
		return put(req, ask.Header, "", value)
	}
	return put(req, "Authorization", "Bearer ", value)
}

func put(req *http.Request, header, prefix string, value secret.Value) string {
	text := value.Reveal()
	if strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "The secret holds characters that cannot stand in a header."
	}
	req.Header.Set(header, prefix+text)
	return ""
}
