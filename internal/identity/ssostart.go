package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/oidc"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// SSOCookie binds a sign-in to the browser that began it. See [SessionCookie] for its name.
	SSOCookie = "__Host-signalbox-sso"
	// SSOLife is how long somebody may take at the provider.
	SSOLife = 10 * time.Minute

	// Sign-ins that have begun: of one address, and of all.
	ssoBegunEach = 100
	ssoBegunAll  = 20_000

	ssoBytes = 32
)

// SSOStart says what is begun.
type SSOStart struct {
	Provider string // its name
	// RedirectURI is where the provider sends the browser back to.
	RedirectURI string
	// Next is where the browser goes afterwards; who calls has made sure that it is a page of ours.
	Next string
	// Cookie is what the browser has for [SSOCookie], or "".
	Cookie string
	// StepUp has the caller's person prove anew who they are, in place of signing in.
	StepUp bool
}

// SSOBegun is where the browser goes, and the cookie that it must come back with.
type SSOBegun struct {
	Address secret.Value // with the state in it
	Label   string
	Cookie  *http.Cookie
}

// BeginSSO begins a sign-in at a provider. Its faults are "not_found" for one that there is not or that is switched off, "sso_unreachable",
// and "rate_limited".
func (r *Room) BeginSSO(ctx context.Context, caller Caller, s SSOStart) (SSOBegun, error) {
	if s.StepUp && (caller.Kind != KindPerson || caller.SessionID == "") {
		return SSOBegun{}, noSession()
	}
	_, p, err := r.enabledSSO(ctx, s.Provider)
	if err != nil {
		return SSOBegun{}, err
	}
	browser := s.Cookie
	if len(browser) != base64.RawURLEncoding.EncodedLen(ssoBytes) {
		browser = randomText() // another sign-in of the same browser goes on with the same cookie
	}
	state := randomText()
	ask := oidc.Ask{State: secret.FromString(state), Nonce: ssoDerive(browser, state, "nonce"), Verifier: ssoDerive(browser, state, "verifier"), Anew: s.StepUp}
	// No secret is opened for this: only the exchange needs it.
	address, err := r.oidc.Address(ctx, oidc.Registration{Issuer: p.Issuer, ClientID: p.ClientID, Scopes: p.Scopes, RedirectURI: s.RedirectURI}, ask)
	if err != nil {
		return SSOBegun{}, r.ssoFailure(ctx, caller, p, err)
	}
	session := ""
	if s.StepUp {
		session = caller.SessionID
	}
	if err := r.keepState(ctx, caller, p, s, session, browser, state); err != nil {
		return SSOBegun{}, err
	}
	return SSOBegun{Address: address, Label: p.Label, Cookie: ssoCookie(browser, int(SSOLife/time.Second))}, nil
}

func ssoCookie(value string, age int) *http.Cookie {
	// Lax, since the way back from the provider comes from another site.
	return &http.Cookie{Name: SSOCookie, Value: value, Path: "/", MaxAge: age, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// EndSSOCookie returns the cookie that makes a browser forget a sign-in.
func EndSSOCookie() *http.Cookie { return ssoCookie("", -1) }

func randomText() string {
	b := make([]byte, ssoBytes)
	_, _ = rand.Read(b) // it never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// ssoDerive makes what the provider must hand back, or is shown the hash of, from what only the browser has. Nothing of it lies in the database.
func ssoDerive(browser, state, purpose string) secret.Value {
	h := hmac.New(sha256.New, []byte(browser))
	_, _ = h.Write([]byte("signalbox sso " + purpose + "\x00" + state)) // a hash never fails
	return secret.FromString(base64.RawURLEncoding.EncodeToString(h.Sum(nil)))
}

func (r *Room) enabledSSO(ctx context.Context, name string) (row ssoRow, p SSOProvider, err error) {
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		row, p, err = findSSO(tx, name, "")
		return err
	})
	if err == nil && (!p.Enabled || p.Name != name) {
		err = noSSO()
	}
	return row, p, err
}

// keepState remembers a sign-in that has begun. Anybody can begin one, so there are only so many.
func (r *Room) keepState(ctx context.Context, caller Caller, p SSOProvider, s SSOStart, session, browser, state string) error {
	place, err := r.attemptOf("", canonicalSource(caller.IP), "")
	if err != nil {
		return err
	}
	sum, bound := digest(state), digest(browser)
	full := false
	err = r.cfg.DB.Bookkeep(ctx, store.Ceremony, func(tx *store.Tx) error {
		full = false
		now := store.TimeOf(tx.Now())
		if _, err := tx.Exec(`DELETE FROM sso_states WHERE expires_at <= $1`, now); err != nil {
			return err
		}
		var n struct {
			All  int64 `db:"n"`
			Mine int64 `db:"mine"`
		}
		if err := tx.Get(&n, `SELECT COUNT(*) AS n, COALESCE(SUM(CASE WHEN source = $1 THEN 1 ELSE 0 END), 0) AS mine FROM sso_states`, place.address); err != nil {
			return err
		}
		if full = n.All >= ssoBegunAll || n.Mine >= ssoBegunEach; full {
			return nil
		}
		_, err := tx.Exec(`INSERT INTO sso_states (hash, browser, provider_id, session_id, redirect_uri, next, source, created_at, expires_at) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9)`,
			sum[:], bound[:], p.ID, session, s.RedirectURI, s.Next, place.address, now, store.TimeOf(tx.Now().Add(SSOLife)))
		return err
	})
	if err == nil && full {
		err = fault.New(fault.TooMany, "rate_limited", "Too many sign-ins were begun from this address and not finished. Try again in some minutes.").After(60)
	}
	return err
}

type ssoState struct {
	Browser     []byte     `db:"browser"`
	ProviderID  string     `db:"provider_id"`
	SessionID   string     `db:"session_id"`
	RedirectURI string     `db:"redirect_uri"`
	Next        string     `db:"next"`
	CreatedAt   store.Time `db:"created_at"`
	ExpiresAt   store.Time `db:"expires_at"`
}

// takeState returns the sign-in that a state belongs to, once.
func (r *Room) takeState(ctx context.Context, state string) (row ssoState, found bool, err error) {
	sum := digest(state)
	err = r.cfg.DB.Bookkeep(ctx, store.Ceremony, func(tx *store.Tx) error {
		var rows []ssoState
		if err := tx.Select(&rows, `SELECT browser, provider_id, session_id, redirect_uri, next, created_at, expires_at FROM sso_states WHERE hash = $1`+tx.ForUpdate(), sum[:]); err != nil {
			return err
		}
		if found = len(rows) == 1; !found {
			return nil
		}
		row = rows[0]
		n, err := tx.Exec(`DELETE FROM sso_states WHERE hash = $1`, sum[:])
		found = n == 1 && tx.Now().Before(row.ExpiresAt.Time())
		return err
	})
	return row, found, err
}

// ssoFailure notes a failure at or of a provider and returns what its browser is told. The log gets a code of ours and never what came.
func (r *Room) ssoFailure(ctx context.Context, caller Caller, p SSOProvider, err error) error {
	var why *oidc.Failure
	if !errors.As(err, &why) {
		return err
	}
	r.cfg.Log.WarnContext(ctx, "a single sign-on did not work", "request_id", caller.RequestID, "provider", p.Name, "code", why.Code)
	if why.Away {
		return fault.New(fault.Unavailable, "sso_unreachable", why.Error()+" Try again; an administrator can look with signalbox sso test.")
	}
	return r.Refuse(ctx, caller.IP, FailedSSO, ssoFailed(why.Error()))
}

func ssoFailed(text string) error {
	return fault.New(fault.Unauthenticated, "sso_failed", text+" Nobody was signed in; begin again at the sign-in page.")
}

// ssoReadOnly is for somebody whose sign-in would change who there is, or what they may.
func ssoReadOnly() error {
	return ssoRefused("read_only", "This Signalbox is read-only, and your sign-in would change who you are here or what you may do. Sign in at one that takes changes first, or ask an administrator.")
}

// ssoRefused is for somebody whom the provider knows and whom we do not let in. The reason is for the record.
func ssoRefused(reason, text string) error {
	return &ssoVerdict{reason: reason, fault: fault.New(fault.Forbidden, "sso_refused", text)}
}
