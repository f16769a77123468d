package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

const (
	flowPrefix  = "oaf"
	flowPurpose = "oauth flow"
	// FlowLife is how long somebody may take at the provider.
	FlowLife = 10 * time.Minute
	// flowKept is how long a login that ended is remembered, so that a second answer can be told what it is.
	flowKept = 24 * time.Hour

	// Logins that have begun and not ended: of one caller, and of all.
	flowsEach = 50
	flowsAll  = 10_000
)

// Way is how the person's consent comes back.
type Way string

// The ways.
const (
	// ByBrowser: to the callback page of this server, in the session that began.
	ByBrowser Way = "browser"
	// ByLoopback: to a port of the person's own machine, where the command line listens (RFC 8252).
	ByLoopback Way = "loopback"
	// ByPaste: the person copies what the provider's page shows.
	ByPaste Way = "paste"
)

// Start says what login is begun: for a new credential, by its metadata, or anew for one that is there.
type Start struct {
	Provider string // its name; may be left out with CredentialID
	// CredentialID is what gets new tokens; "" stores a new credential, of which New needs a name.
	CredentialID string
	New          Draft
	Scopes       []string // nil: the provider's, or those of the credential
	Resource     string   // RFC 8707

	Way         Way
	RedirectURL string // of ByBrowser the callback of this server, of ByLoopback the port's
	Next        string // where the callback page leads to; who calls has made sure that it is a page of ours
}

// Draft is what a credential that a login stores is called.
type Draft struct {
	Name        string   `json:"name,omitempty"`
	Description string   `json:"description,omitempty"`
	BaseURL     string   `json:"base_url,omitempty"`
	Hosts       []string `json:"hosts,omitempty"`
	PluginName  string   `json:"plugin_name,omitempty"`
	Tags        []string `json:"tags,omitempty"`
}

// Begun is a login that waits for a person's consent. The address holds the state, so it is for that person's browser alone.
type Begun struct {
	ID          string
	Way         Way
	Provider    string // its name
	Title       string
	Address     secret.Value
	RedirectURL string
	ExpiresAt   time.Time
}

// flow is everything that is remembered of a login. It is sealed as one text, bound to its row: who writes the database can neither read the
// verifier nor have the code sent elsewhere.
type flow struct {
	Way         Way      `json:"way"`
	Provider    string   `json:"provider"`
	State       string   `json:"provider_state"` // the provider's ETag: its addresses and client are those that the person was sent to
	Issuer      string   `json:"issuer"`         // recorded before the redirect
	NamesItself bool     `json:"names_itself"`
	ClientID    string   `json:"client_id"`
	RedirectURL string   `json:"redirect_url"`
	Verifier    string   `json:"verifier"` // PKCE's; of a device login the device code
	Interval    int64    `json:"interval"` // of a device login, in seconds
	Credential  string   `json:"credential"`
	Proven      bool     `json:"proven"` // of a login anew: whoever began it had just proven who they are
	New         Draft    `json:"new"`
	Scopes      []string `json:"scopes"`
	Resource    string   `json:"resource"`
	Next        string   `json:"next"`
}

// ownerOf names who began a login: a session, or a token. Nobody else can end it.
func ownerOf(c identity.Caller) string {
	if c.SessionID != "" {
		return c.SessionID
	}
	return string(c.Kind) + ":" + c.ID
}

// Begin begins a login by authorization code with PKCE. Its faults are the refusals of the vault, "not_found", "validation_failed", "provider_off",
// "provider_tampered", "client_missing" for a provider without a client id, and "rate_limited".
func (l *Logins) Begin(ctx context.Context, caller identity.Caller, s Start) (Begun, error) {
	var out Begun
	err := l.begin(ctx, caller, s, func(tx *store.Tx, k Known, f flow) error {
		if k.AuthorizeURL == "" {
			return fault.New(fault.Unprocessable, "validation_failed", "This provider has no page at which people consent. Log in by device code or with client credentials, or upload tokens.").
				With("/provider", "has no authorize_url")
		}
		var err error
		if f.RedirectURL, err = s.redirect(k.Provider); err != nil {
			return err
		}
		if s.Way == ByBrowser && caller.SessionID == "" {
			return fault.New(fault.Conflict, "state_conflict", "A login in the browser belongs to a session, and a token has none. Sign in to the dashboard, or log in with the command line (redirect_uri of your machine).")
		}
		state, verifier := provider.NewVerifier(), provider.NewVerifier()
		address, err := provider.AuthorizeURL(k.Provider, provider.AuthorizeRequest{
			ClientID: f.ClientID, RedirectURL: f.RedirectURL, State: state, Verifier: verifier, Scopes: f.Scopes, Resource: f.Resource,
		})
		if err != nil {
			return clientMissing(k.Name)
		}
		f.Way, f.Next, f.Verifier = s.Way, s.Next, verifier.Reveal()
		out = Begun{Way: s.Way, Provider: k.Name, Title: k.Title, Address: secret.FromString(address), RedirectURL: f.RedirectURL}
		out.ID, out.ExpiresAt, err = l.remember(tx, caller, f, digest(state), FlowLife)
		return err
	})
	if err != nil {
		return Begun{}, err
	}
	return out, nil
}

func clientMissing(name string) error {
	return fault.New(fault.Conflict, "client_missing", "Signalbox is not registered at "+name+" yet. An administrator registers it there and sets the client id: signalbox oauth provider edit "+name+" --client-id ID")
}

// begin finds out whether the login may be begun, and at which provider, and runs fn in the transaction that records it.
func (l *Logins) begin(ctx context.Context, caller identity.Caller, s Start, fn func(*store.Tx, Known, flow) error) error {
	return l.beginAs(ctx, caller, s, "", fn)
}

// beginAs is begin for another client than the provider's, unless that is empty.
func (l *Logins) beginAs(ctx context.Context, caller identity.Caller, s Start, client string, fn func(*store.Tx, Known, flow) error) error {
	if err := s.valid(); err != nil {
		return err
	}
	within := func(tx *store.Tx, c vault.Credential, may func(vault.Patch) error) error {
		k, f, err := l.prepare(tx, s, client, c)
		if err != nil {
			return err
		}
		if may != nil {
			// Asked now, since a refusal at the end would lose the tokens.
			if err := may(vault.Patch{OAuth: vault.OAuthPatch{ClientID: vault.To(f.ClientID)}}); err != nil {
				return err
			}
			f.Proven = identity.RequireFresh(caller, l.now()) == nil
		}
		if err := fn(tx, k, f); err != nil {
			return err
		}
		target := k.target()
		if c.ID != "" {
			target = store.Target{Kind: "credential", ID: c.ID, Name: c.Name}
		}
		ev := caller.Event(store.OAuthBegin, target)
		if s.Way == ByDevice || s.Way == ByClient { // the provider is asked first
			ev.Outcome = store.OutcomePending
		}
		ev.Details = store.Details{store.Str("provider", k.Name), store.Str("way", string(s.Way))}
		return tx.Record(ev)
	}
	if s.CredentialID != "" {
		return l.vault.Managed(ctx, caller, s.CredentialID, "login", within)
	}
	if err := l.vault.MayCreate(ctx, caller); err != nil {
		return err
	}
	return l.db.Write(ctx, func(tx *store.Tx) error { return within(tx, vault.Credential{}, nil) })
}

// prepare returns the provider of a login and what is known of the login before it has a way.
func (l *Logins) prepare(tx *store.Tx, s Start, client string, c vault.Credential) (Known, flow, error) {
	name := s.Provider
	if c.ID != "" {
		switch {
		case c.Type != vault.OAuth:
			return Known{}, flow{}, fault.New(fault.Conflict, "state_conflict", "Only a credential of type oauth is logged in. Rotate this one instead.")
		case name != "" && name != c.Provider:
			return Known{}, flow{}, fault.New(fault.Conflict, "state_conflict", "The credential belongs to another provider. Leave the provider out, or store a new credential.")
		case c.OAuth.TokenEndpoint != "":
			return Known{}, flow{}, fault.New(fault.Conflict, "state_conflict", "The credential has a token endpoint of its own, so Signalbox does not know where its consent page is. Add its server as a provider, or upload new tokens (rotate).")
		}
		name = c.Provider
	}
	k, err := l.find(tx, name, "")
	if err != nil {
		return Known{}, flow{}, err
	}
	if err := k.usable(); err != nil {
		return Known{}, flow{}, err
	}
	f := flow{Provider: k.Name, State: k.ETag(), Issuer: k.Issuer, NamesItself: k.NamesItself, ClientID: k.ClientID, Credential: c.ID, New: s.New, Scopes: s.Scopes, Resource: s.Resource}
	if c.ID != "" {
		f.New = Draft{}
		if f.Scopes == nil && len(c.OAuth.Scopes) > 0 {
			f.Scopes = c.OAuth.Scopes
		}
		if f.Resource == "" {
			f.Resource = c.OAuth.Resource
		}
	}
	if f.Scopes == nil {
		f.Scopes = k.Scopes
	}
	if client != "" {
		f.ClientID = client
	}
	if f.ClientID == "" {
		return Known{}, flow{}, clientMissing(k.Name)
	}
	return k, f, nil
}

func (s Start) valid() error {
	f := fault.New(fault.Unprocessable, "validation_failed", "The login cannot be begun like this; see errors.")
	if s.CredentialID == "" && strings.TrimSpace(s.New.Name) == "" {
		_ = f.With("/name", "is needed for a new credential; or name a credential_id")
	}
	if s.CredentialID == "" && s.Provider == "" {
		_ = f.With("/provider", "is needed")
	}
	if len(s.Scopes) > scopesMax || slices.ContainsFunc(s.Scopes, func(x string) bool { return !validScope(x) }) {
		_ = f.With("/scopes", "must be at most 100 scope names of visible ASCII, one an item")
	}
	if !vault.ValidResource(s.Resource) || len(s.Resource) > urlMax {
		_ = f.With("/resource", "must be an absolute URL without a fragment, such as https://api.example.com/mcp")
	}
	if len(f.Fields) > 0 {
		return f
	}
	return nil
}

// redirect is where the consent comes back to.
func (s Start) redirect(p provider.Provider) (string, error) {
	refused := func(message string) (string, error) {
		return "", fault.New(fault.Unprocessable, "validation_failed", "The login cannot be begun like this; see errors.").With("/redirect_uri", message)
	}
	switch s.Way {
	case ByPaste:
		if !p.PasteBack {
			return refused("must be given: this provider shows no code that could be pasted")
		}
		return p.RedirectURL, nil
	case ByLoopback:
		if !Loopback(s.RedirectURL) {
			return refused("must be http://127.0.0.1:PORT/… of your own machine, where the command line listens; the browser's own way needs none")
		}
		return s.RedirectURL, nil
	case ByBrowser:
		if p.PasteBack {
			return refused("cannot be used: this provider shows a code to be pasted instead")
		}
		return s.RedirectURL, nil
	}
	return refused("is of no known kind")
}

// Loopback reports whether an address is on the machine of who opens it (RFC 8252, section 7.3).
func Loopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Port() == "" || len(address) > 255 {
		return false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && a.IsLoopback()
}

func digest(v secret.Value) []byte {
	sum := sha256.Sum256(append([]byte("signalbox oauth state\x00"), v.Bytes()...))
	return sum[:]
}

func flowAAD(id string) secret.AAD {
	return secret.AAD{Table: "oauth_flows", ID: id, Field: "flow", Version: 1}
}

// remember stores a login that has begun; there are only so many. The hash is nil for one that nothing is handed back of.
func (l *Logins) remember(tx *store.Tx, caller identity.Caller, f flow, hash []byte, life time.Duration) (id string, until time.Time, err error) {
	now := tx.Now()
	if _, err := tx.Exec(`DELETE FROM oauth_flows WHERE expires_at <= $1`, store.TimeOf(now.Add(-flowKept))); err != nil {
		return "", until, err
	}
	owner := ownerOf(caller)
	var n struct {
		All  int64 `db:"n"`
		Mine int64 `db:"mine"`
	}
	if err := tx.Get(&n, `SELECT COUNT(*) AS n, COALESCE(SUM(CASE WHEN owner = $1 THEN 1 ELSE 0 END), 0) AS mine FROM oauth_flows WHERE used_at IS NULL AND expires_at > $2`,
		owner, store.TimeOf(now)); err != nil {
		return "", until, err
	}
	if n.Mine >= flowsEach || n.All >= flowsAll {
		return "", until, fault.New(fault.TooMany, "rate_limited", "Too many logins were begun and not finished. Finish one of them, or try again in ten minutes.").After(60)
	}
	text, err := json.Marshal(f)
	if err != nil {
		return "", until, err
	}
	id, until = store.NewID(flowPrefix), now.Add(life)
	sealed, err := l.ring.Seal(flowPurpose, secret.New(text), flowAAD(id))
	if err != nil {
		return "", until, err
	}
	_, err = tx.Exec(`INSERT INTO oauth_flows (id, state, owner, sealed, next_at, created_at, expires_at) VALUES ($1,$2,$3,$4,$5,$6,$7)`,
		id, nullable(hash), owner, sealed, store.TimeOf(now.Add(time.Duration(f.Interval)*time.Second)), store.TimeOf(now), store.TimeOf(until))
	return id, until, err
}

// CallbackURL is where browsers come back to. Without a public URL the host of the request is believed only when it names this machine.
func (l *Logins) CallbackURL(host string) (string, error) {
	if l.public != nil {
		return strings.TrimRight(l.public.String(), "/") + CallbackPath, nil
	}
	u := url.URL{Scheme: "http", Host: host, Path: CallbackPath}
	a, err := netip.ParseAddr(u.Hostname())
	if u.Hostname() == "localhost" || err == nil && a.IsLoopback() {
		return u.String(), nil
	}
	return "", fault.New(fault.Unavailable, "public_url_missing", "A login in the browser needs to know where browsers reach this Signalbox. An administrator sets SIGNALBOX_PUBLIC_URL, such as https://signalbox.example.com.")
}

// CallbackPath is the page to which providers send browsers back. It is what is registered at a provider, behind the public URL.
const CallbackPath = "/api/auth/oauth/callback"
