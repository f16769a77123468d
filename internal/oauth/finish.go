package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Finished is what a login led to.
type Finished struct {
	Credential vault.Credential
	// Relogin says that the credential was there before.
	Relogin bool
	Next    string
}

// finishTime bounds what follows once a code was taken from its browser. The browser may go; the tokens must not be lost by that.
const finishTime = 60 * time.Second

// Finish ends a login that [Logins.Begin] began, by what its person came back with. The state is spent first, on record, whatever it leads to; then
// the code is exchanged, with no transaction open; then the tokens are stored. Its faults are "login_state_refused", "oauth_refused",
// "oauth_unreachable", and those of storing a credential.
func (l *Logins) Finish(ctx context.Context, caller identity.Caller, back provider.Callback) (Finished, error) {
	if err := l.vault.MayCreate(ctx, caller); err != nil {
		return Finished{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	f, k, err := l.take(ctx, caller, back)
	if err != nil {
		return Finished{}, err
	}
	answer := l.wire.Exchange(ctx, k.Provider, provider.Code{
		ClientID: f.ClientID, ClientSecret: k.secret, Code: back.Code, Verifier: secret.FromString(f.Verifier), State: back.State, RedirectURL: f.RedirectURL, Resource: f.Resource,
	})
	return l.conclude(ctx, caller, f, k, answer)
}

// conclude stores the tokens of an answer, or records that there are none.
func (l *Logins) conclude(ctx context.Context, caller identity.Caller, f flow, k Known, answer provider.Answer) (Finished, error) {
	if answer.Verdict != provider.Issued {
		return Finished{}, l.failed(ctx, caller, f, k, answer)
	}
	c, err := l.keep(ctx, caller, f, k, answer.Tokens, keeping{})
	if err != nil {
		l.giveBack(ctx, caller, f, k, answer.Tokens, err)
		return Finished{}, err
	}
	return Finished{Credential: c, Relogin: f.Credential != "", Next: f.Next}, nil
}

type flowRow struct {
	ID        string      `db:"id"`
	Owner     string      `db:"owner"`
	Sealed    []byte      `db:"sealed"`
	UsedAt    *store.Time `db:"used_at"`
	NextAt    store.Time  `db:"next_at"`
	ExpiresAt store.Time  `db:"expires_at"`
}

const flowColumns = `id, owner, sealed, used_at, next_at, expires_at`

// Why an answer is not that of a login which waits. The first word is for the record.
const (
	stateUnknown = "unknown"
	stateUsed    = "used"
	stateExpired = "expired"
	stateOther   = "other_session"
	stateChanged = "provider_changed"
	stateIssuer  = "issuer"
	stateDenied  = "denied"
	stateMoved   = "credential_changed"
)

func stateRefused(why string) error {
	text := map[string]string{
		stateUnknown: "This answer belongs to no login that was begun here.",
		stateUsed:    "This login was finished already: its answer came a second time, and nothing was done with it.",
		stateExpired: "This login took longer than ten minutes.",
		stateOther:   "This login was begun by another session or token.",
		stateChanged: "The provider's settings were changed since this login began.",
		stateIssuer:  "The answer is from another provider than the one that was asked.",
	}[why]
	return fault.New(fault.Conflict, "login_state_refused", text+" Nothing was stored; begin the login again.")
}

// take spends the state of an answer and makes sure that the answer is what was waited for: of this session, in time, for the first time, from
// the provider that was asked (RFC 9207), which is what it was.
func (l *Logins) take(ctx context.Context, caller identity.Caller, back provider.Callback) (flow, Known, error) {
	var f flow
	var k Known
	var verdict error
	err := l.db.Write(ctx, func(tx *store.Tx) error {
		f, k, verdict = flow{}, Known{}, nil
		refuse := func(why string, target store.Target) error {
			if verdict == nil {
				verdict = stateRefused(why)
			}
			ev := caller.Event(store.OAuthLogin, target)
			ev.Outcome, ev.Reason = store.OutcomeRefused, why
			return tx.Record(ev)
		}
		none := store.Target{Kind: "oauth_login"}
		var row flowRow
		err := tx.Get(&row, `SELECT `+flowColumns+` FROM oauth_flows WHERE state = $1`+tx.ForUpdate(), digest(back.State))
		if errors.Is(err, store.ErrNotFound) {
			return refuse(stateUnknown, none)
		} else if err != nil {
			return err
		}
		none.ID = row.ID
		if row.UsedAt != nil {
			return refuse(stateUsed, none)
		}
		// Whatever follows, it is used: a state that was seen elsewhere is worth nothing any more.
		if f, err = l.spend(tx, row); err != nil {
			return err
		}
		switch {
		case row.Owner != ownerOf(caller):
			return refuse(stateOther, none)
		case !tx.Now().Before(row.ExpiresAt.Time()):
			return refuse(stateExpired, none)
		}
		if k, err = l.find(tx, f.Provider, ""); err != nil && fault.KindOf(err) != fault.NotFound {
			return err
		}
		switch {
		case err != nil || k.ETag() != f.State || k.usable() != nil:
			return refuse(stateChanged, none)
		case l.foreign(tx, f, back.Issuer):
			return refuse(stateIssuer, k.target())
		}
		if verdict, err = l.moved(tx, f, k); err != nil {
			return err
		} else if verdict != nil {
			return refuse(stateMoved, l.targetOf(f, k))
		}
		if back.Error != "" {
			verdict = fault.New(fault.Unprocessable, "oauth_refused", deniedText(k, back.Error))
			ev := caller.Event(store.OAuthLogin, l.targetOf(f, k))
			ev.Outcome, ev.Reason = store.OutcomeFailed, stateDenied
			ev.Details = store.Details{store.Str("provider", k.Name), store.Str("code", back.Error)}
			return tx.Record(ev)
		}
		ev := caller.Event(store.OAuthLogin, l.targetOf(f, k))
		ev.Outcome = store.OutcomePending
		ev.Details = store.Details{store.Str("provider", k.Name), store.Str("way", string(f.Way))}
		return tx.Record(ev)
	})
	if err == nil {
		err = verdict
	}
	return f, k, err
}

// moved says what is in the way of a login anew that was not when it began: the credential is gone, is another provider's by now, or has a token
// endpoint of its own. What the provider gave must not be stored there, since the next refresh would send it elsewhere.
func (l *Logins) moved(tx *store.Tx, f flow, k Known) (verdict, err error) {
	if f.Credential == "" {
		return nil, nil
	}
	c, err := l.vault.Resolve(tx, f.Credential)
	switch {
	case fault.KindOf(err) == fault.NotFound:
		return err, nil
	case err != nil:
		return nil, err
	}
	return movedFrom(c, k), nil
}

// movedFrom returns why tokens of a provider cannot be stored in a credential, or nil.
func movedFrom(c vault.Credential, k Known) error {
	if c.Provider == k.Name && c.OAuth.TokenEndpoint == "" {
		return nil
	}
	return fault.New(fault.Conflict, "state_conflict", "The credential was given another provider or a token endpoint of its own since this login began. Nothing was stored; begin the login again.")
}

// spend marks a login as used and destroys what was remembered of it.
func (l *Logins) spend(tx *store.Tx, row flowRow) (f flow, err error) {
	text, err := l.ring.Open(flowPurpose, row.Sealed, flowAAD(row.ID))
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(text.Bytes(), &f); err != nil {
		return f, errors.New("a login that was begun cannot be read")
	}
	_, err = tx.Exec(`UPDATE oauth_flows SET used_at = $1, sealed = $2 WHERE id = $3`, store.TimeOf(tx.Now()), []byte{}, row.ID)
	return f, err
}

// foreign reports whether an answer names another issuer than the one that was asked. Where none is known, it must not be that of another server
// that we know: a server that leads its people on to another one could have that one's code sent to itself.
func (l *Logins) foreign(tx *store.Tx, f flow, issuer string) bool {
	switch {
	case f.Issuer != "" || f.NamesItself:
		return issuer != f.Issuer && (issuer != "" || f.NamesItself)
	case issuer == "":
		return false
	}
	for _, p := range l.catalogue {
		if p.Issuer == issuer {
			return true
		}
	}
	var rows []providerRow
	if err := tx.Select(&rows, `SELECT `+providerColumns+` FROM oauth_providers`); err != nil {
		return true
	}
	for _, row := range rows {
		if k, err := l.known(row); err != nil || k.Issuer == issuer {
			return true
		}
	}
	return false
}

func deniedText(k Known, code string) string {
	if code == "access_denied" {
		return "At " + k.Title + " you, or a rule there, said no. Nothing was stored; begin the login again if that was a mistake."
	}
	return k.Title + " refused the login (" + code + "). Nothing was stored. The provider's client and scopes may be wrong: signalbox oauth provider show " + k.Name
}

func (l *Logins) targetOf(f flow, k Known) store.Target {
	if f.Credential != "" {
		return store.Target{Kind: "credential", ID: f.Credential}
	}
	return k.target()
}

// failed records that a provider gave no tokens, and says so in words of ours.
func (l *Logins) failed(ctx context.Context, caller identity.Caller, f flow, k Known, answer provider.Answer) error {
	ev := caller.Event(store.OAuthLogin, l.targetOf(f, k))
	ev.Outcome, ev.Reason = store.OutcomeFailed, answer.Code
	ev.Details = store.Details{store.Str("provider", k.Name), store.Int("status", int64(answer.Status)), store.Bool("sent", answer.Sent)}
	if err := l.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) }); err != nil {
		return err
	}
	switch answer.Verdict {
	case provider.Refused:
		return fault.New(fault.Unprocessable, "oauth_refused", k.Title+" did not take the login ("+answer.Code+"). Nothing was stored. Begin again; if it stays so, the client id, the client secret or the redirect address that are registered there differ from: signalbox oauth provider show "+k.Name)
	case provider.NotProcessed:
		if answer.Status >= 400 && answer.Code != provider.CodeRateLimited {
			return fault.New(fault.Unprocessable, "oauth_refused", k.Title+" refused the request ("+answer.Code+"). Nothing was stored; see signalbox oauth provider show "+k.Name)
		}
	}
	return fault.New(fault.Unavailable, "oauth_unreachable", k.Title+" could not be asked, or its answer was not usable ("+answer.Code+"). Nothing was stored; begin the login again.")
}

// keeping is what a login stores besides the tokens.
type keeping struct {
	grant  string       // vault.GrantClientCredentials, or ""
	secret secret.Value // the client's, when the credential brings its own
}

// keep stores tokens: in a new credential, or as a new version of the one that was logged in again. Both are acts of the caller, in the vault, who
// may have lost the right to it since the login began.
func (l *Logins) keep(ctx context.Context, caller identity.Caller, f flow, k Known, t provider.Tokens, with keeping) (vault.Credential, error) {
	var expires *time.Time
	if t.Lifetime > 0 {
		at := l.now().Add(t.Lifetime)
		expires = &at
	}
	scopes := t.Scopes
	if scopes == nil {
		scopes = f.Scopes
	}
	var late error
	record := func(tx *store.Tx, c vault.Credential) error {
		if late = nil; f.Credential != "" {
			if late = movedFrom(c, k); late != nil {
				return late
			}
		}
		ev := caller.Event(store.OAuthLogin, store.Target{Kind: "credential", ID: c.ID, Name: c.Name})
		ev.Details = store.Details{store.Str("provider", k.Name), store.Str("way", string(f.Way)), store.Int("version", c.Version), store.Strs("scopes", scopes), store.Bool("refreshable", !t.Refresh.IsZero())}
		return tx.Record(ev)
	}
	secrets := map[string]secret.Value{"access_token": t.Access}
	if !t.Refresh.IsZero() {
		secrets["refresh_token"] = t.Refresh
	}
	if !with.secret.IsZero() {
		secrets["client_secret"] = with.secret
	}
	if f.Credential == "" {
		d := vault.Draft{Type: vault.OAuth, Secrets: secrets, Meta: vault.Meta{
			Name: f.New.Name, Provider: k.Name, Description: f.New.Description, BaseURL: f.New.BaseURL, Hosts: f.New.Hosts, PluginName: f.New.PluginName, Tags: f.New.Tags,
			OAuth: vault.OAuthMeta{ExpiresAt: expires, Scopes: scopes, ClientID: f.ClientID, Resource: f.Resource, GrantType: with.grant},
		}}
		if d.BaseURL == "" && len(d.Hosts) == 0 {
			d.BaseURL, d.Hosts = k.BaseURL, k.Hosts
		}
		return l.vault.CreateWith(ctx, caller, d, record)
	}
	// A refresh token and a client secret of the login before are of another grant, perhaps of another client.
	p := vault.Patch{Secrets: map[string]*secret.Value{"refresh_token": nil, "client_secret": nil}, Reason: "login"}
	for name, v := range secrets {
		p.Secrets[name] = &v
	}
	p.OAuth = vault.OAuthPatch{ExpiresAt: vault.To(expires), Scopes: vault.To(scopes), ClientID: vault.To(f.ClientID), Resource: vault.To(f.Resource), GrantType: vault.To(with.grant)}
	by := caller
	if f.Proven {
		// The proof was asked for when the login began, which the same session ends, and which client it is of was fixed then. At the provider it grew old.
		by.SteppedUpAt = l.now()
	}
	c, err := l.vault.UpdateWith(ctx, by, f.Credential, p, "", record)
	if late != nil {
		ev := caller.Event(store.OAuthLogin, l.targetOf(f, k))
		ev.Outcome, ev.Reason = store.OutcomeRefused, stateMoved
		if rerr := l.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) }); rerr != nil {
			return vault.Credential{}, rerr
		}
	}
	return c, err
}
