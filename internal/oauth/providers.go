package oauth

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

const (
	providerPrefix  = "oap"
	providerPurpose = "oauth provider"
	bindingPurpose  = "oauth-provider-binding"
	// MaxProviders bounds what an administrator can add.
	MaxProviders = 200
)

// Known is an OAuth server that credentials can come from: a row of the catalogue, with what an administrator set on it, or one that an
// administrator added.
type Known struct {
	provider.Provider
	// ID of what is stored; "" for a row of the catalogue on which nothing was set.
	ID string
	// Catalogue says that the addresses are those of the catalogue and cannot be changed.
	Catalogue bool
	// Enabled is false for a server that is switched off, and for one of consumer subscriptions until somebody has switched it on.
	Enabled   bool
	HasSecret bool
	// Tampered says that the stored row was changed outside Signalbox: nobody logs in there, and nothing is refreshed, until it is set anew.
	Tampered             bool
	CreatedAt, UpdatedAt time.Time
	Revision             int64

	secret secret.Value // opened only inside a transaction of this room
}

// ETag is the validator of this state (RFC 9110, section 8.8.3).
func (k Known) ETag() string {
	text, _ := json.Marshal(k.Provider) // plain data
	return etag.Of(k.ID, string(text), number(k.Revision), flag(k.Enabled), flag(k.Tampered))
}

func flag(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (k Known) target() store.Target {
	id := k.ID
	if id == "" {
		id = k.Name
	}
	return store.Target{Kind: "oauth_provider", ID: id, Name: k.Name}
}

// usable returns why nobody can log in there, or nil.
func (k Known) usable() error {
	switch {
	case k.Tampered:
		return providerTampered(k.Name)
	case k.Enabled:
		return nil
	case k.Consumer != "":
		return fault.New(fault.Forbidden, "provider_off", "Logging in at "+k.Name+" is off until an administrator switches it on, after having read this: "+k.Consumer)
	}
	return fault.New(fault.Forbidden, "provider_off", "Logging in at "+k.Name+" is switched off. An administrator switches it on with: signalbox oauth provider edit "+k.Name+" --enable")
}

func providerTampered(name string) error {
	return fault.New(fault.Conflict, "provider_tampered", "The OAuth provider "+name+" was changed outside Signalbox, so no token is sent there. An administrator deletes it and adds it again.")
}

type providerRow struct {
	ID        string     `db:"id"`
	Name      string     `db:"name"`
	Settings  string     `db:"settings"`
	Secret    []byte     `db:"secret"`
	Revision  int64      `db:"revision"`
	Binding   []byte     `db:"binding"`
	CreatedAt store.Time `db:"created_at"`
	UpdatedAt store.Time `db:"updated_at"`
}

const providerColumns = `id, name, settings, secret, revision, binding, created_at, updated_at`

// bindingText is what the MAC of a row is made over. Every part stands behind its length, so that no two rows have one text. What remains
// possible to somebody who writes the database is to put back, whole, a state that this row once had.
func (w providerRow) bindingText() []byte {
	out := []byte{1}
	for _, part := range [][]byte{[]byte(w.ID), []byte(w.Name), []byte(w.Settings), w.Secret} {
		out = append(binary.AppendUvarint(out, uint64(len(part))), part...)
	}
	return binary.AppendVarint(out, w.Revision)
}

func (w providerRow) aad() secret.AAD {
	return secret.AAD{Table: "oauth_providers", ID: w.ID, Field: "client_secret", Version: w.Revision}
}

// known reads a row. A row that does not fit its MAC is returned as tampered, with nothing of what it says but its name.
func (l *Logins) known(w providerRow) (Known, error) {
	same, err := l.binder.SameMAC(bindingPurpose, w.Binding, w.bindingText())
	if _, closed := fault.As(err); closed {
		return Known{}, err
	}
	var s settings
	if err != nil || !same || json.Unmarshal([]byte(w.Settings), &s) != nil {
		return Known{Provider: provider.Provider{Name: w.Name}, ID: w.ID, Tampered: true, Revision: w.Revision, CreatedAt: w.CreatedAt.Time(), UpdatedAt: w.UpdatedAt.Time()}, nil
	}
	k := Known{ID: w.ID, Enabled: s.Enabled, HasSecret: w.Secret != nil, Revision: w.Revision, CreatedAt: w.CreatedAt.Time(), UpdatedAt: w.UpdatedAt.Time()}
	base, listed := provider.Find(l.catalogue, w.Name)
	k.Catalogue = s.Catalogue && listed
	switch {
	case k.Catalogue:
		k.Provider = s.over(base)
	case s.Catalogue:
		// A version that no longer knows the row: without its addresses there is nothing to call.
		k.Provider, k.Enabled = provider.Provider{Name: w.Name}, false
	default:
		k.Provider = s.provider(w.Name)
	}
	if w.Secret != nil {
		if k.secret, err = l.ring.Open(providerPurpose, w.Secret, w.aad()); err != nil {
			return Known{}, err
		}
	}
	return k, nil
}

// bare is a row of the catalogue on which nothing was set.
func bare(p provider.Provider) Known {
	return Known{Provider: p, Catalogue: true, Enabled: p.Consumer == ""}
}

// find returns a provider in a transaction.
func (l *Logins) find(tx *store.Tx, name, lock string) (Known, error) {
	if !providerName.MatchString(name) {
		return Known{}, noProvider()
	}
	var row providerRow
	err := tx.Get(&row, `SELECT `+providerColumns+` FROM oauth_providers WHERE name = $1`+lock, name)
	switch {
	case err == nil:
		return l.known(row)
	case !errors.Is(err, store.ErrNotFound):
		return Known{}, err
	}
	if p, ok := provider.Find(l.catalogue, name); ok {
		return bare(p), nil
	}
	return Known{}, noProvider()
}

func noProvider() error {
	return fault.New(fault.NotFound, "not_found", "There is no such OAuth provider. List them with: signalbox oauth provider list")
}

// Providers returns every provider, by name. It needs [identity.ProviderRead].
func (l *Logins) Providers(ctx context.Context, caller identity.Caller) ([]Known, error) {
	if err := l.allow(ctx, caller, identity.ProviderRead, store.Target{Kind: "oauth_provider"}); err != nil {
		return nil, err
	}
	var out []Known
	err := l.db.Read(ctx, func(tx *store.Tx) error {
		out = nil
		var rows []providerRow
		if err := tx.Select(&rows, `SELECT `+providerColumns+` FROM oauth_providers`); err != nil {
			return err
		}
		for _, row := range rows {
			k, err := l.known(row)
			if err != nil {
				return err
			}
			out = append(out, k)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, p := range l.catalogue {
		if !slices.ContainsFunc(out, func(k Known) bool { return k.Name == p.Name }) {
			out = append(out, bare(p))
		}
	}
	slices.SortFunc(out, func(a, b Known) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Provider returns one provider by its name. It needs [identity.ProviderRead].
func (l *Logins) Provider(ctx context.Context, caller identity.Caller, name string) (k Known, err error) {
	if err := l.allow(ctx, caller, identity.ProviderRead, store.Target{Kind: "oauth_provider"}); err != nil {
		return Known{}, err
	}
	err = l.db.Read(ctx, func(tx *store.Tx) error {
		k, err = l.find(tx, name, "")
		return err
	})
	return k, err
}

// AddProvider stores a provider: by its endpoints, or by its issuer, which is asked for them. It needs [identity.ProviderWrite] and, in a
// session, a fresh proof. Its faults are those, "validation_failed", "upstream_refused", "already_exists", "state_conflict", and
// "oauth_unreachable" for an issuer that does not say what it is.
func (l *Logins) AddProvider(ctx context.Context, caller identity.Caller, e ProviderEdit) (Known, error) {
	if err := l.mayChangeProviders(ctx, caller, store.Target{Kind: "oauth_provider"}); err != nil {
		return Known{}, err
	}
	name := ""
	if e.Name != nil {
		name = *e.Name
	}
	if _, listed := provider.Find(l.catalogue, name); listed {
		return Known{}, fault.New(fault.Conflict, "already_exists", "The catalogue has a provider of this name, with its addresses. Set your client id on that one, or choose another name.").With("/name", "is taken")
	}
	s := settings{Enabled: true}
	if err := l.discover(ctx, &e, &s); err != nil {
		return Known{}, err
	}
	return l.writeProvider(ctx, caller, store.OAuthProviderAdd, func(tx *store.Tx) (providerRow, settings, error) {
		var have int
		if err := tx.Get(&have, `SELECT COUNT(*) FROM oauth_providers`); err != nil {
			return providerRow{}, s, err
		}
		if have >= MaxProviders {
			return providerRow{}, s, fault.New(fault.Conflict, "state_conflict", "There are "+number(MaxProviders)+" OAuth providers already, and no more can be added. Delete one that is not used.")
		}
		return providerRow{ID: store.NewID(providerPrefix), Name: name, CreatedAt: store.TimeOf(tx.Now())}, s, nil
	}, e)
}

// ChangeProvider changes a provider; of one of the catalogue the client, the scopes and whether it is on. With IfMatch it must still have that
// ETag. A client secret is given anew when the addresses change: it is not sent to another server because somebody says so. Its faults are
// those of [Logins.AddProvider], "not_found", "etag_mismatch", "provider_tampered", and "terms_unread" for one of consumer subscriptions that is to
// be switched on by somebody who does not say that they read why it is off.
func (l *Logins) ChangeProvider(ctx context.Context, caller identity.Caller, name string, e ProviderEdit) (Known, error) {
	if err := l.mayChangeProviders(ctx, caller, store.Target{Kind: "oauth_provider"}); err != nil {
		return Known{}, err
	}
	var seen Known
	if err := l.db.Read(ctx, func(tx *store.Tx) (err error) {
		seen, err = l.find(tx, name, "")
		return err
	}); err != nil {
		return Known{}, err
	}
	found := settings{}
	if !seen.Catalogue {
		if err := l.discover(ctx, &e, &found); err != nil {
			return Known{}, err
		}
	}
	return l.writeProvider(ctx, caller, store.OAuthProviderChange, func(tx *store.Tx) (providerRow, settings, error) {
		k, err := l.find(tx, name, tx.ForUpdate())
		switch {
		case err != nil:
			return providerRow{}, settings{}, err
		case !etag.Match(e.IfMatch, k.ETag()):
			return providerRow{}, settings{}, fault.New(fault.Precondition, "etag_mismatch", "The provider was changed since it was read. Read it again, then repeat the change.")
		case k.Tampered:
			return providerRow{}, settings{}, providerTampered(k.Name)
		case k.ID == "":
			return providerRow{ID: store.NewID(providerPrefix), Name: name, CreatedAt: store.TimeOf(tx.Now())}, settings{Catalogue: true, Enabled: k.Enabled}, nil
		}
		var row providerRow
		var s settings
		if err := tx.Get(&row, `SELECT `+providerColumns+` FROM oauth_providers WHERE id = $1`, k.ID); err != nil {
			return row, s, err
		}
		err = json.Unmarshal([]byte(row.Settings), &s)
		s.found = found.found
		return row, s, err
	}, e)
}

// writeProvider stores what load returns with the edit applied, and its client secret with it.
func (l *Logins) writeProvider(ctx context.Context, caller identity.Caller, act store.Action, load func(*store.Tx) (providerRow, settings, error), e ProviderEdit) (Known, error) {
	var out Known
	err := l.db.Write(ctx, func(tx *store.Tx) error {
		row, s, err := load(tx)
		if err != nil {
			return err
		}
		before := s.destinations()
		was := secret.Value{}
		if row.Secret != nil {
			if was, err = l.ring.Open(providerPurpose, row.Secret, row.aad()); err != nil {
				return err
			}
		}
		fields, err := e.apply(&s)
		if err != nil {
			return err
		}
		base, _ := provider.Find(l.catalogue, row.Name)
		if err := l.validate(row.Name, &s, base, e); err != nil {
			return err
		}
		if e.ClientSecret != nil {
			was = *e.ClientSecret
		} else if !was.IsZero() && before != s.destinations() {
			return fault.New(fault.Unprocessable, "secret_missing", "The client secret was given for other addresses. Give it again together with the change, or remove it (null).").
				With("/client_secret", "must be given again")
		}
		row.Revision++
		row.UpdatedAt = store.TimeOf(tx.Now())
		if row.Secret = nil; !was.IsZero() {
			if row.Secret, err = l.ring.Seal(providerPurpose, was, row.aad()); err != nil {
				return err
			}
		}
		text, err := json.Marshal(s)
		if err != nil {
			return err
		}
		row.Settings = string(text)
		if row.Binding, err = l.binder.MAC(bindingPurpose, row.bindingText()); err != nil {
			return err
		}
		if err := row.store(tx); err != nil {
			return err
		}
		if out, err = l.known(row); err != nil {
			return err
		}
		ev := caller.Event(act, out.target())
		ev.Fields = fields
		ev.Details = store.Details{store.Str("issuer", out.Issuer), store.Strs("token_urls", out.TokenURLs), store.Str("client_id", out.ClientID), store.Bool("enabled", out.Enabled)}
		if out.Consumer != "" && e.Enabled != nil {
			ev.Details = append(ev.Details, store.Bool("consumer_subscription", true), store.Bool("terms_read", e.TermsRead))
		}
		return tx.Record(ev)
	})
	if store.IsConflict(err) {
		err = fault.New(fault.Conflict, "already_exists", "There is an OAuth provider of this name already. Choose another, or change that one.").With("/name", "is taken")
	}
	if err != nil {
		return Known{}, err
	}
	return out, nil
}

func (w providerRow) store(tx *store.Tx) error {
	_, err := tx.Exec(`INSERT INTO oauth_providers (`+providerColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)
		ON CONFLICT (id) DO UPDATE SET settings = $3, secret = $4, revision = $5, binding = $6, updated_at = $8`,
		w.ID, w.Name, w.Settings, nullable(w.Secret), w.Revision, w.Binding, w.CreatedAt, w.UpdatedAt)
	return err
}

func nullable(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

// DeleteProvider removes what is stored of a provider: one of the catalogue is as it was delivered again. One that credentials belong to stays,
// since they could not be refreshed any more.
func (l *Logins) DeleteProvider(ctx context.Context, caller identity.Caller, name, ifMatch string) error {
	if err := l.mayChangeProviders(ctx, caller, store.Target{Kind: "oauth_provider"}); err != nil {
		return err
	}
	return l.db.Write(ctx, func(tx *store.Tx) error {
		k, err := l.find(tx, name, tx.ForUpdate())
		switch {
		case err != nil:
			return err
		case !etag.Match(ifMatch, k.ETag()):
			return fault.New(fault.Precondition, "etag_mismatch", "The provider was changed since it was read. Read it again, then repeat the deletion.")
		case k.ID == "":
			return fault.New(fault.Conflict, "state_conflict", "This provider is of the catalogue and nothing was set on it, so there is nothing to delete.")
		}
		n, err := vault.Serving(tx, name)
		if err != nil {
			return err
		}
		if n > 0 && !k.Catalogue && !k.Tampered {
			return fault.New(fault.Conflict, "state_conflict", "Credentials still belong to this provider and could not be refreshed without it. Delete them first, or switch the provider off.")
		}
		if _, err := tx.Exec(`DELETE FROM oauth_providers WHERE id = $1`, k.ID); err != nil {
			return err
		}
		ev := caller.Event(store.OAuthProviderDelete, k.target())
		ev.Details = store.Details{store.Int("credentials", n)}
		return tx.Record(ev)
	})
}

// mayChangeProviders asks for more than the permission: who names the address that client secrets and refresh tokens are sent to, could read them.
func (l *Logins) mayChangeProviders(ctx context.Context, caller identity.Caller, target store.Target) error {
	err := l.allow(ctx, caller, identity.ProviderWrite, target)
	if err != nil {
		return err
	}
	if err = identity.RequireFresh(caller, l.now()); err == nil {
		return nil
	}
	return l.refuse(ctx, caller, target, err)
}

// allow returns nil when the caller may do p; a refusal is recorded, that of nobody at all excepted.
func (l *Logins) allow(ctx context.Context, caller identity.Caller, p identity.Permission, target store.Target) error {
	refusal := identity.Allow(caller, p)
	if refusal == nil || fault.KindOf(refusal) == fault.Unauthenticated {
		return refusal
	}
	return l.refuse(ctx, caller, target, refusal)
}

func (l *Logins) refuse(ctx context.Context, caller identity.Caller, target store.Target, refusal error) error {
	ev := caller.Event(store.OAuthRefused, target)
	ev.Outcome, ev.Reason = store.OutcomeRefused, fault.Of(refusal).Code
	if err := l.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) }); err != nil {
		return err
	}
	return refusal
}
