package train

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
)

// oauthBeta is the beta that Anthropic's API wants named with an OAuth token.
const oauthBeta = "oauth-2025-04-20"

// The headers by their canonical names, since they are set without http.Header's own look-up.
const (
	headerAuthorization = "Authorization"
	headerKey           = "X-Api-Key"
	headerBeta          = "Anthropic-Beta"
)

// Apply puts the credential into a request, after removing what the request carries of the kind. The request must go to a host that the
// credential is bound to: https, or the plain http of the account's own base URL, no user name in the URL, and no other name in the Host
// header; else the fault is host_not_bound. A lease that was cut or settled applies nothing.
func (l *Lease) Apply(req *http.Request) error {
	if f := l.cause.Load(); f != nil {
		return f
	}
	if l.settled.Load() {
		return fault.New(fault.Conflict, "state_conflict", "The lease on this account has ended; a request needs a new one.")
	}
	if !l.account.boundTo(req) {
		return fault.New(fault.Forbidden, "host_not_bound",
			"The account may not be sent to the host of this request. An operator can set the credential's hosts or base_url.")
	}
	h := req.Header
	if h == nil {
		h = http.Header{}
		req.Header = h
	}
	if l.trip.want.Use != "" {
		if l.account.loan == nil || !within(l.account.BaseURL, req.URL) {
			return fault.New(fault.Forbidden, "host_not_bound", "The credential may not be sent outside of its base_url.")
		}
		l.account.loan.put(req)
		return nil
	}
	delete(h, headerAuthorization)
	delete(h, headerKey)
	if l.account.bearer {
		h[headerAuthorization] = []string{l.account.header.Reveal()}
		h[headerBeta] = betas(h[headerBeta])
		return nil
	}
	h[headerKey] = []string{l.account.header.Reveal()}
	return nil
}

// lentIn reports whether a text that an upstream sent back holds what was lent to it.
func (a *account) lentIn(text string) bool {
	key := strings.TrimPrefix(a.header.Reveal(), "Bearer ")
	return key == "" || strings.Contains(text, key)
}

// boundTo reports whether the secret may go where the request goes. Whatever two readers could understand differently is a refusal.
func (a *account) boundTo(req *http.Request) bool {
	u := req.URL
	if u == nil || u.User != nil || u.Opaque != "" || u.Host == "" {
		return false
	}
	if req.Host != "" && req.Host != u.Host && !strings.EqualFold(req.Host, u.Host) {
		return false
	}
	base := a.BaseURL
	if u.Scheme == base.Scheme && u.Host == base.Host {
		return a.baseBound
	}
	switch u.Scheme {
	case "https":
		return a.Bound(u)
	case "http":
		// Never in the clear what the operator did not set up in the clear, on that very host and port.
		return base.Scheme == "http" && sameHost(u, base) && a.Bound(u)
	}
	return false
}

func sameHost(a, b *url.URL) bool {
	return strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

// betas returns one anthropic-beta line: ours, then what the client sent, each once and in its order.
func betas(sent []string) []string {
	out := append(make([]string, 0, 4), oauthBeta)
	for _, line := range sent {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return []string{strings.Join(out, ",")}
}
