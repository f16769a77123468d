package identity

import (
	"context"
	"errors"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/jwt"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// AccessLife is how long an access token of ours is valid.
const AccessLife = time.Hour

// accessClient names in a token which program it was issued to (RFC 9068). We know only one: whatever speaks our API.
const accessClient = "signalbox"

// Bearer returns the caller who presents this bearer secret at the API: a personal access token, an access token of ours or the token of an
// outside issuer. A refusal is a fault "unauthenticated" that says what to do and never repeats the secret.
func (r *Room) Bearer(ctx context.Context, bearer string) (Caller, error) {
	if jwt.Looks(bearer) {
		return r.webToken(ctx, bearer)
	}
	return r.Token(bearer)
}

// webToken verifies a JSON web token. Why one is refused is for the log; whoever sent it hears that it is not valid and no more.
func (r *Room) webToken(ctx context.Context, bearer string) (Caller, error) {
	if !r.loaded.Load() {
		return Caller{}, notLoaded()
	}
	u, err := jwt.Parse(bearer)
	if err != nil {
		return Caller{}, r.badWebToken(err, "")
	}
	if iss := r.Issuer(); iss != "" && u.Issuer() == iss {
		return r.accessToken(ctx, bearer)
	}
	return r.outsideToken(ctx, u, bearer)
}

// badWebToken logs why and returns what the caller may know.
func (r *Room) badWebToken(err error, issuer string) error {
	why := "it was refused"
	if bad := (*jwt.Invalid)(nil); errors.As(err, &bad) {
		why = bad.Error()
	}
	r.cfg.Log.Info("a JSON web token was refused", "why", why, "issuer", issuer)
	return notValid()
}

func notValid() error {
	return unauthenticated("This token is not valid here: it has expired, or this Signalbox does not trust who made it or what it is for. Get a fresh one and use that.")
}

// accessToken returns the person whose access token this is. The signature says which session it belongs to; whether that lives, and who its
// person is by now, memory says.
func (r *Room) accessToken(ctx context.Context, bearer string) (Caller, error) {
	_, iss, set := r.web.signing()
	claims, err := jwt.Rules{
		Algorithms: []string{jwt.SigningAlgorithm}, Issuer: iss, Audience: iss, Type: jwt.AccessType, MaxLife: AccessLife, Clock: r.cfg.Clock,
	}.Verify(bearer, set)
	if err != nil {
		return Caller{}, r.badWebToken(err, iss)
	}
	sid, hasSession := claims.Text("sid")
	sub, hasSubject := claims.Text("sub")
	h := r.sessions.get(sid)
	if !hasSession || !hasSubject || h == nil || h.owner != sub || h.session.kind != SessionAPI || len(h.session.demanded) > 0 {
		return Caller{}, sessionOver()
	}
	caller, err := r.sessionCaller(ctx, h)
	if err != nil {
		return Caller{}, err
	}
	r.touches.note(h, r.now())
	return caller, nil
}

// Tokens are what a program gets that signed in. They are never known again.
type Tokens struct {
	Access, Refresh secret.Value
	ExpiresIn       time.Duration // of the access token
	Session         Session
}

// newAccessToken signs an access token for a session.
func (r *Room) newAccessToken(ctx context.Context, person userRow, session string) (secret.Value, error) {
	signer, iss, set := r.web.signing()
	if set.Len() == 0 || iss == "" {
		if err := r.keepSigningKeys(ctx); err != nil {
			return secret.Value{}, err
		}
		if signer, iss, set = r.web.signing(); set.Len() == 0 || iss == "" {
			// Another instance has made the keys a moment ago, and the news are on their way.
			var err error
			if signer, iss, err = r.storedSigner(ctx); err != nil {
				return secret.Value{}, err
			}
		}
	}
	now := r.now()
	scopes := make([]string, 0, len(permissions))
	for _, p := range RoleScopes(person.Role) {
		scopes = append(scopes, string(p))
	}
	return signer.Sign(map[string]any{
		"iss": iss, "aud": iss, "sub": person.ID, "sid": session, "client_id": accessClient, "scope": strings.Join(scopes, " "),
		"jti": store.NewID("jti"), "iat": now.Unix(), "exp": now.Add(AccessLife).Unix(),
	})
}

// storedSigner returns what signs, and who we are, from the database. It leaves memory alone, where newer news may have arrived meanwhile.
func (r *Room) storedSigner(ctx context.Context) (jwt.Signer, string, error) {
	var rows webRows
	if err := r.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		rows, err = readWebTokens(tx)
		return err
	}); err != nil {
		return jwt.Signer{}, "", err
	}
	if iss := r.issuerOf(rows); iss != "" && r.cfg.Ring != nil {
		for _, row := range rows.keys {
			if row.State != keyActive {
				continue
			}
			if signer, err := r.openSigner(row); err == nil {
				return signer, iss, nil
			}
		}
	}
	return jwt.Signer{}, "", fault.New(fault.Unavailable, "encryption_key_missing", "There is no key to sign access tokens with. An operator must look into the server's log.")
}

// scoped reports whether the caller may do no more than its scopes say.
func (c Caller) scoped() bool {
	return c.Kind == KindToken || c.Kind == KindService || c.Kind == KindJWT
}
