package identity

import (
	"context"
	"encoding/json"
	"errors"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/oidc"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// MaxSSOProviders bounds the providers of single sign-on.
const MaxSSOProviders = 20

// SSOProviders returns every provider by name. It needs [SSOWrite], as what is set of them says how to get in.
func (r *Room) SSOProviders(ctx context.Context, caller Caller) ([]SSOProvider, error) {
	if err := r.allow(ctx, caller, SSOWrite, store.Target{Kind: "sso_provider"}); err != nil {
		return nil, err
	}
	return r.ssoProviders(ctx)
}

func (r *Room) ssoProviders(ctx context.Context) (out []SSOProvider, err error) {
	var rows []ssoRow
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		rows, out = nil, nil
		if err := tx.Select(&rows, `SELECT `+ssoColumns+` FROM sso_providers ORDER BY name`); err != nil {
			return err
		}
		for _, row := range rows {
			p, err := row.provider(tx)
			if err != nil {
				return err
			}
			out = append(out, p)
		}
		return nil
	})
	return out, err
}

// SignInWay is a provider as the sign-in page shows it to everybody.
type SignInWay struct{ Name, Label string }

// SignInWays returns the providers that people can sign in with.
func (r *Room) SignInWays(ctx context.Context) ([]SignInWay, error) {
	list, err := r.ssoProviders(ctx)
	if err != nil {
		return nil, err
	}
	var out []SignInWay
	for _, p := range list {
		if p.Enabled {
			out = append(out, SignInWay{p.Name, p.Label})
		}
	}
	return out, nil
}

// StepUpWays returns the providers at which the caller's person can prove anew who they are: those that they are linked to and, for somebody who
// has a second factor here, that vouch for one.
func (r *Room) StepUpWays(ctx context.Context, caller Caller) ([]SignInWay, error) {
	list, err := r.ssoProviders(ctx)
	if err != nil {
		return nil, err
	}
	var issuers []string
	var have []Proof
	if err := r.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		issuers = nil
		if have, err = enrolled(tx, caller.UserID); err != nil {
			return err
		}
		return tx.Select(&issuers, `SELECT issuer FROM sso_links WHERE user_id = $1`, caller.UserID)
	}); err != nil {
		return nil, err
	}
	var out []SignInWay
	for _, p := range list {
		for _, iss := range issuers {
			if p.Enabled && p.Issuer == iss && (len(have) == 0 || p.SecondFactor != TrustNever) {
				out = append(out, SignInWay{p.Name, p.Label})
			}
		}
	}
	return out, nil
}

// SSOProvider returns a provider, by its id or its name. It needs [SSOWrite].
func (r *Room) SSOProvider(ctx context.Context, caller Caller, id string) (SSOProvider, error) {
	if err := r.allow(ctx, caller, SSOWrite, store.Target{Kind: "sso_provider", ID: id}); err != nil {
		return SSOProvider{}, err
	}
	var p SSOProvider
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		_, p, err = findSSO(tx, id, "")
		return err
	})
	return p, err
}

func findSSO(tx *store.Tx, id, lock string) (ssoRow, SSOProvider, error) {
	var row ssoRow
	err := tx.Get(&row, `SELECT `+ssoColumns+` FROM sso_providers WHERE id = $1 OR name = $1`+lock, clip(id, 64))
	if errors.Is(err, store.ErrNotFound) {
		return row, SSOProvider{}, noSSO()
	} else if err != nil {
		return row, SSOProvider{}, err
	}
	p, err := row.provider(tx)
	return row, p, err
}

// CreateSSOProvider adds a provider. It needs [SSOWrite], and in a session a fresh proof. Its faults are "forbidden", "step_up_required",
// "validation_failed", "already_exists" and "state_conflict".
func (r *Room) CreateSSOProvider(ctx context.Context, caller Caller, e SSOEdit) (SSOProvider, error) {
	p := SSOProvider{ID: store.NewID("sso"), Enabled: true, SSOSettings: SSOSettings{
		Scopes: []string{"profile", "email"}, EmailClaim: "email", VerifiedClaim: "email_verified", NameClaim: "name", SecondFactor: TrustNever,
	}}
	if e.Name != nil {
		p.Name, p.Label = *e.Name, *e.Name
	}
	return r.writeSSO(ctx, caller, store.SSOCreate, p.ID, e, func(tx *store.Tx) (ssoRow, SSOProvider, error) {
		var n int
		if err := tx.Get(&n, `SELECT COUNT(*) FROM sso_providers`); err != nil {
			return ssoRow{}, p, err
		}
		if n >= MaxSSOProviders {
			return ssoRow{}, p, fault.New(fault.Conflict, "state_conflict", "There are as many single sign-on providers as there may be. Delete one that is not used.")
		}
		return ssoRow{ID: p.ID, Name: p.Name, CreatedAt: store.TimeOf(tx.Now())}, p, nil
	})
}

// UpdateSSOProvider changes a provider. Sign-ins that have begun there are void. Its faults are those of [Room.CreateSSOProvider], "not_found"
// and "etag_mismatch".
func (r *Room) UpdateSSOProvider(ctx context.Context, caller Caller, id string, e SSOEdit) (SSOProvider, error) {
	return r.writeSSO(ctx, caller, store.SSOUpdate, id, e, func(tx *store.Tx) (ssoRow, SSOProvider, error) {
		row, p, err := findSSO(tx, id, tx.ForUpdate())
		if err == nil && !etag.Match(e.IfMatch, p.ETag()) {
			err = ssoChanged()
		}
		return row, p, err
	})
}

func (r *Room) writeSSO(ctx context.Context, caller Caller, act store.Action, id string, e SSOEdit, begin func(*store.Tx) (ssoRow, SSOProvider, error)) (SSOProvider, error) {
	if err := r.allowFresh(ctx, caller, SSOWrite, store.Target{Kind: "sso_provider", ID: id}); err != nil {
		return SSOProvider{}, err
	}
	var p SSOProvider
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if err := lock(tx, "sso"); err != nil {
			return err
		}
		row, found, err := begin(tx)
		if err != nil {
			return err
		}
		p = found
		was := p.Issuer
		fields := e.apply(&p)
		if e.Groups != nil {
			if err := p.findGroups(tx); err != nil {
				return err
			}
		}
		if err := p.valid(r.cfg.Outgoing.CheckURL); err != nil {
			return err
		}
		if act == store.SSOUpdate && p.Issuer != was && p.HasSecret && e.Secret == nil {
			// The secret would go to whoever the new address is.
			return fault.New(fault.Unprocessable, "validation_failed", "A provider at another address needs its client secret anew.").With("/client_secret", "must be given anew with another issuer")
		}
		p.UpdatedAt = store.TimeOf(tx.Now()).Time()
		p.CreatedAt = row.CreatedAt.Time()
		if err := r.sealSSO(&row, &p, e.Secret); err != nil {
			return err
		}
		if err := storeSSO(tx, row, p); err != nil {
			return err
		}
		keep := p.groupIDs()
		if p.Issuer != was { // nobody of the old one signs in with it any more
			keep = nil
		}
		ended, keys, err := r.endGiven(tx, caller, p.ID, keep)
		if err != nil {
			return err
		}
		ev := caller.Event(act, p.Target())
		ev.Fields = fields
		ev.Details = store.Details{
			store.Str("issuer", p.Issuer), store.Str("client_id", p.ClientID), store.Bool("enabled", p.Enabled), store.Bool("create_people", p.CreatePeople),
			store.Strs("allowed_domains", p.AllowedDomains), store.Strs("link_domains", p.LinkDomains), store.Strs("roles", p.roleTexts()),
			store.Str("default_role", string(p.DefaultRole)), store.Strs("groups", p.groupIDs()), store.Str("second_factor", string(p.SecondFactor)),
			store.Int("memberships_ended", ended),
		}
		ev.Details = append(ev.Details, keysEnded(keys)...)
		return tx.Record(ev)
	})
	if err != nil {
		return SSOProvider{}, err
	}
	return p, nil
}

// roleTexts are the roles that groups give, without the groups' names.
func (p SSOProvider) roleTexts() []string {
	out := make([]string, len(p.Roles))
	for i, row := range p.Roles {
		out[i] = string(row.Role)
	}
	return out
}

func (r *Room) sealSSO(row *ssoRow, p *SSOProvider, v *secret.Value) error {
	switch {
	case v == nil:
		return nil
	case v.IsZero():
		row.Sealed, p.HasSecret = nil, false
		return nil
	case v.Len() > 2048:
		return fault.New(fault.Unprocessable, "validation_failed", "The client secret is too long.").With("/client_secret", "must have at most 2048 bytes")
	case r.cfg.Ring == nil:
		return fault.New(fault.Unavailable, "encryption_key_missing", "Signalbox has no keyring open, so it can keep no secret.")
	}
	row.Version++
	p.version = row.Version
	sealed, err := r.cfg.Ring.Seal(ssoPurpose, *v, p.aad())
	row.Sealed, p.HasSecret = sealed, true
	return err
}

func storeSSO(tx *store.Tx, row ssoRow, p SSOProvider) error {
	settings, err := json.Marshal(p.SSOSettings)
	if err != nil {
		return err
	}
	enabled := 0
	if p.Enabled {
		enabled = 1
	}
	if _, err := tx.Exec(`INSERT INTO sso_providers (`+ssoColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)
		ON CONFLICT (id) DO UPDATE SET enabled = $3, settings = $4, sealed = $5, version = $6, updated_at = $8`,
		p.ID, p.Name, enabled, string(settings), row.Sealed, row.Version, store.TimeOf(p.CreatedAt), store.TimeOf(p.UpdatedAt)); store.IsConflict(err) {
		return fault.New(fault.Conflict, "already_exists", "There is a single sign-on provider of this name already. Use another one.")
	} else if err != nil {
		return err
	}
	_, err = tx.Exec(`DELETE FROM sso_states WHERE provider_id = $1`, p.ID)
	return err
}

// DeleteSSOProvider removes a provider, and the memberships that it alone gave. Who is linked to its issuer stays so, and their sessions go on until they end. Its faults are
// "forbidden", "step_up_required", "not_found" and "etag_mismatch".
func (r *Room) DeleteSSOProvider(ctx context.Context, caller Caller, id, ifMatch string) error {
	if err := r.allowFresh(ctx, caller, SSOWrite, store.Target{Kind: "sso_provider", ID: id}); err != nil {
		return err
	}
	return r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if err := lock(tx, "sso"); err != nil {
			return err
		}
		_, p, err := findSSO(tx, id, tx.ForUpdate())
		if err != nil {
			return err
		}
		if !etag.Match(ifMatch, p.ETag()) {
			return ssoChanged()
		}
		ended, keys, err := r.endGiven(tx, caller, p.ID, nil)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM sso_providers WHERE id = $1`, p.ID); err != nil {
			return err
		}
		ev := caller.Event(store.SSODelete, p.Target())
		ev.Details = append(store.Details{store.Int("memberships_ended", ended)}, keysEnded(keys)...)
		return tx.Record(ev)
	})
}

// SSOReport is what a look at a provider found.
type SSOReport struct {
	Provider SSOProvider
	Found    oidc.Metadata
	// Problem says what is wrong, "" for nothing.
	Problem string
}

// TestSSOProvider asks a provider what it is. It needs [SSOWrite]. That it found something wrong is part of the report and no error.
func (r *Room) TestSSOProvider(ctx context.Context, caller Caller, id string) (SSOReport, error) {
	p, err := r.SSOProvider(ctx, caller, id)
	if err != nil {
		return SSOReport{}, err
	}
	found, err := r.oidc.Discover(ctx, p.Issuer, true)
	out := SSOReport{Provider: p, Found: found}
	var why *oidc.Failure
	if errors.As(err, &why) {
		out.Problem = why.Error()
	} else if err != nil {
		return SSOReport{}, err
	}
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		ev := caller.Event(store.SSOTest, p.Target())
		if why != nil {
			ev.Details = store.Details{store.Str("problem", why.Code)}
		}
		return tx.Record(ev)
	})
	return out, err
}

func ssoChanged() error {
	return fault.New(fault.Precondition, "etag_mismatch", "The provider was changed since it was read. Read it again, then repeat the change.")
}

func noSSO() error {
	return fault.New(fault.NotFound, "not_found", "There is no such single sign-on provider. List them to see their names.")
}
