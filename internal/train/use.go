package train

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/scrub"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// loan is what a request under /use is lent of a credential.
type loan struct {
	in vault.Injected
	// scrubber looks for what is lent in what comes back. Making one costs more than a request, so it is made with the first request and kept for this version.
	scrubber func() (*scrub.Scrubber, error)
}

// newLoan returns what a request under /use is lent, or why it can be lent nothing, in words for a person.
func newLoan(m *vault.Material) (*loan, string) {
	in, why := m.Injected()
	switch {
	case why != "":
		return nil, why
	case m.BaseURL == nil || m.BaseURL.Host == "":
		return nil, "it has no base_url, so nobody knows where it belongs; set base_url"
	case m.AccountID != "" && len(m.Paths) == 0:
		return nil, "it is an account of an LLM provider, whose requests go to /v1; to lend it here as well, set the paths that it may be sent to"
	}
	switch n := len(strings.TrimSpace(in.Secret.Reveal())); {
	case n < scrub.Shortest:
		return nil, "its secret has under 8 bytes, which cannot be told from other text in an answer, so an echo of it could not be taken out; rotate it to a longer one"
	case n > scrub.Longest:
		return nil, "its secret has over 64 KiB, too much to look for in an answer; rotate it to a shorter one"
	}
	lent := in.Secret
	return &loan{in: in, scrubber: sync.OnceValues(func() (*scrub.Scrubber, error) { return scrub.New(lent) })}, ""
}

// barredHere says why the credential cannot be lent under /use at that moment; "" when it can.
func (a *account) barredHere(now time.Time) string {
	if why := a.Usable(now); why != "" {
		return why
	}
	return a.unlent
}

// named finds the credential of the train that a request under /use names: by its alias, else by its id, its account id or, where one credential alone has
// it, its name. There is nothing to fail over to, so cool-downs do not count here: the upstream's own answer says more.
func (l *line) named(t *trip, now time.Time) (*rung, error) {
	g := l.find(t.want.Use)
	if g == nil {
		return nil, fault.New(fault.NotFound, "not_found",
			"No credential by that name is linked to the train "+l.Slug+". The path is /use/ALIAS/…, with the alias of a link of this train; an operator sees them with `signalbox train show "+l.Slug+"` and adds one with `signalbox train link "+l.Slug+" CREDENTIAL --alias ALIAS`.")
	}
	a := g.account
	t.llm = a.isAccount()
	switch why := a.barredHere(now); {
	case slices.Contains(t.stale, a.id):
		return nil, fault.New(fault.Forbidden, "no_account", "The access token of the credential "+g.called()+" has ended, and no fresh one could be had. An operator finds out more with `signalbox cred show` and may have to log in again.")
	case slices.Contains(t.tried, a.id):
		return nil, fault.New(fault.Forbidden, "no_account", "The credential "+g.called()+" was paused, drained, unlinked or changed a moment ago. Send the request again; if it is refused again, ask an operator.")
	case why != "":
		return nil, fault.New(fault.Forbidden, "not_lendable", "The credential "+g.called()+" cannot be lent here: "+why+". That is an operator's to mend.")
	case a.held() != "":
		return nil, fault.New(fault.Forbidden, "no_account", "The credential "+g.called()+" is paused or drained: an operator has it lent to nobody for now. Ask them to resume it: signalbox account resume.")
	}
	if !vault.MethodAllowed(a.Methods, t.want.Method) {
		return nil, fault.New(fault.Forbidden, "path_denied", "The credential "+g.called()+" may not be used with that method. It allows: "+strings.Join(a.Methods, ", ")+". An operator can change its methods.")
	}
	t.pattern = ""
	if len(a.Paths) > 0 {
		i := slices.IndexFunc(a.Paths, func(p string) bool { return vault.PathAllowed([]string{p}, t.want.Below) })
		if i < 0 {
			return nil, fault.New(fault.Forbidden, "path_denied", "The credential "+g.called()+" may not be used for that path. It allows: "+listed(a.Paths)+". An operator can change its paths.")
		}
		t.pattern = a.Paths[i]
	}
	if t.llm && proxied(strings.TrimSuffix(a.BaseURL.Path, "/")+t.want.Below) {
		return nil, fault.New(fault.Forbidden, "path_denied", "Messages, batches and files of an LLM account go to /v1 of this Signalbox, where limits and ownership are seen to, and not through /use. Send the request there.")
	}
	return g, nil
}

// proxied reports whether /v1 serves that path of an LLM provider, or one that only differs from it in how it is written. What is counted and owned there is
// not to be had without it.
func proxied(path string) bool {
	path = strings.ToLower(path)
	for _, root := range [...]string{"/v1/messages", "/v1/files", "/v1/complete"} {
		if strings.Contains(path, root) {
			return true
		}
	}
	return strings.ContainsRune(path, '%') // an LLM provider's paths need no escapes
}

// find returns the rung that a name means; nil for none, and where two could be meant.
func (l *line) find(name string) *rung {
	var found *rung
	byName := 0
	for i := range l.rungs {
		g := &l.rungs[i]
		switch {
		case g.alias != "" && g.alias == name:
			return g
		case g.account.id == name, g.account.AccountID != "" && g.account.AccountID == name:
			found, byName = g, -len(l.rungs) // no name comes before an id
		case g.account.name == name:
			if byName++; byName == 1 {
				found = g
			}
		}
	}
	if byName > 1 {
		return nil
	}
	return found
}

// called is what people of the train call the credential.
func (g *rung) called() string {
	if g.alias != "" {
		return g.alias
	}
	return g.account.name
}

// useFacts are what the intent of a request under /use says of it. A path may hold what somebody pasted, so it stands there as the pattern that let it through, which an
// operator wrote, and as a digest, by which a path that is suspected can be recognised.
func (l *Lease) useFacts() []store.Detail {
	w := &l.trip.want
	sum := sha256.Sum256([]byte(w.Below))
	pattern := l.trip.pattern
	if pattern == "" {
		pattern = "/…"
	}
	return []store.Detail{
		store.Str("path", clip("/use/"+l.alias+pattern, 256)), store.Str("alias", clip(l.alias, 128)), store.Str("path_digest", hex.EncodeToString(sum[:16])),
	}
}

// put puts the secret into a request, in place of whatever the request says there.
func (in *loan) put(req *http.Request) {
	h := req.Header
	delete(h, headerAuthorization)
	delete(h, headerKey)
	if in.in.Query {
		req.URL.RawQuery = withParameter(req.URL.RawQuery, in.in.Name, in.in.Value.Reveal())
		return
	}
	for name := range h {
		if sameHeader(name, in.in.Name) {
			delete(h, name)
		}
	}
	h[http.CanonicalHeaderKey(in.in.Name)] = []string{in.in.Value.Reveal()}
}

// Scrubber returns what takes the secret of a lease under /use out of what the upstream answers. Where there is none, the answer must not be passed on.
func (l *Lease) Scrubber() (*scrub.Scrubber, error) {
	if l.account.loan == nil {
		return nil, scrub.ErrNone
	}
	return l.account.loan.scrubber()
}

// Renew settles a lease under /use whose access token the upstream refused (401), and grants another one with a fresh token: once a request. It returns nil without an
// error, and leaves the lease as it is, when there is no fresh token to be had: the upstream's answer is then what there is to say.
func (l *Lease) Renew(ctx context.Context) (*Lease, error) {
	r, a := l.room, l.account
	if !a.Refreshes || slices.Contains(l.trip.denied, a.id) || l.cause.Load() != nil {
		return nil, nil
	}
	version, err := r.refresher.Fresh(ctx, a.id, a.Version, oauth.Denied)
	if err != nil || version <= a.Version || r.knows(ctx, a.id, version) != nil {
		return nil, nil
	}
	if !l.settled.CompareAndSwap(false, true) {
		return nil, ErrSettled
	}
	l.fail(ctx, Failure{Status: http.StatusUnauthorized})
	t := l.trip
	t.denied, t.only = append(slices.Clone(t.denied), a.id), a.id
	next, err := r.grant(ctx, &t)
	if err != nil {
		t.hold.finish()
		return nil, err
	}
	t.hold.carry()
	return next, nil
}
