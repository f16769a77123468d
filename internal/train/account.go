package train

import (
	"sync/atomic"
	"time"
	"unique"

	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// account is a linked credential, opened. It is immutable but for its cool-down; a change makes a new one.
type account struct {
	vault.Material
	name, id string // as in Material, nearer for sorting
	// bearer says that the secret goes into Authorization; else it goes into x-api-key.
	bearer bool
	header secret.Value // the header's whole value
	// route is how its requests go out; nil is as all others.
	route *outbound.Route
	// obstacle says why the credential can never be lent as it is; "" when nothing stands in the way.
	obstacle string
	// loan is what requests under /use are lent; nil where there is nothing, and then unlent says why.
	loan   *loan
	unlent string
	// baseBound says that the host of the base URL is among the hosts that the secret may go to.
	baseBound bool
	// cooling is shared by all versions of the credential; a cool-down says to which version it belongs.
	cooling *atomic.Pointer[coolDown]
	// refreshAt and waitAt are when a fresh access token is fetched in the background, and from when on a request waits for it; zero for never.
	refreshAt, waitAt time.Time
	// used is when the account was last lent. All versions share it.
	used *vault.Use
	// gauge is how full it is. All versions share it, too.
	gauge *gauge
}

func newAccount(m vault.Material, cooling *atomic.Pointer[coolDown], used *vault.Use) *account {
	if cooling == nil {
		cooling, used = new(atomic.Pointer[coolDown]), vault.NewUse(m.ID)
	}
	pack(&m.ID, &m.Name, &m.AccountID)
	m.Type, m.State = unique.Make(m.Type).Value(), unique.Make(m.State).Value() // there are few of each
	m.Provider = unique.Make(m.Provider).Value()
	a := &account{Material: m, name: m.Name, id: m.ID, cooling: cooling, used: used, gauge: new(gauge)}
	a.plan()
	var value secret.Value
	switch m.Type {
	case vault.APIKey:
		value = m.Secrets["api_key"]
		a.header = value
	case vault.OAuth:
		value = m.Secrets["access_token"]
		a.bearer, a.header = true, secret.FromString("Bearer "+value.Reveal())
	}
	var err error
	a.route, err = m.Route()
	switch {
	case m.Damaged: // Usable says so
	case !a.isAccount():
		a.obstacle = "it cannot serve an LLM provider"
	case m.BaseURL == nil || m.BaseURL.Host == "":
		a.obstacle = "it has no base_url"
	case err != nil:
		a.obstacle = "its CA bundle or its proxy cannot be read; set its upstream anew"
	case value.IsZero():
		a.obstacle = "its secret is empty"
	case !sendable(value):
		a.obstacle = "its secret holds characters that no HTTP header can carry"
	}
	a.baseBound = m.BaseURL != nil && m.Bound(m.BaseURL)
	a.loan, a.unlent = newLoan(&m)
	if err != nil && a.unlent == "" {
		a.unlent = "its CA bundle or its proxy cannot be read; set its upstream anew"
	}
	// The parts are not needed any more; a refresh or a reveal opens them anew.
	a.Secrets = nil
	return a
}

func (a *account) isAccount() bool { return a.AccountID != "" }

// sendable reports whether a value can stand in a header (RFC 9110, section 5.5).
func sendable(v secret.Value) bool {
	b := v.Bytes()
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return len(b) > 0 && b[0] != ' ' && b[0] != '\t' && b[len(b)-1] != ' ' && b[len(b)-1] != '\t'
}

// barred says why the account cannot be lent at that moment, cool-downs aside; "" when it can.
func (a *account) barred(now time.Time) string {
	if a.obstacle != "" {
		return a.obstacle
	}
	return a.Usable(now)
}

// held says why somebody has the account lent to no new request; "" when nobody does. Unlike what bars it, this leaves its tokens alone.
func (a *account) held() string {
	why := a.Lending.State.Held()
	if why != "" && a.Lending.By != "" {
		why += " by " + a.Lending.By
	}
	if why != "" && a.Lending.Reason != "" {
		why += ": " + a.Lending.Reason
	}
	return why
}

// withdrawn reports whether running streams must not go on with the account.
func (a *account) withdrawn() bool { return a.State != vault.Active || a.Lending.State.Cuts() }

// coolDown says until when an account is not used after a failure upstream. It is immutable.
type coolDown struct {
	version int64
	until   time.Time
	at      time.Time
	status  int // the upstream's; 0 when it was not reached
	reason  string
	// stored says that the database has it; one that it could not take lives in memory until it ends.
	stored bool
}

// coolsUntil returns the cool-down in force at that moment, or nil.
func (a *account) coolsUntil(now time.Time) *coolDown {
	c := a.cooling.Load()
	if c == nil || c.version != a.Version || !c.until.After(now) {
		return nil
	}
	return c
}

func (a *account) target() store.Target {
	return store.Target{Kind: "credential", ID: a.id, Name: a.name}
}

// is reports whether a client names this account so.
func (a *account) is(name string) bool { return a.id == name || a.AccountID == name || a.name == name }
