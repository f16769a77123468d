package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/jwt"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// signIn signs ada in as a program.
func (h *house) signIn() identity.Tokens {
	h.t.Helper()
	in, err := h.Login(h.t.Context(), door(), email, secret.FromString(password), identity.SessionAPI)
	require.NoError(h.t, err)
	tokens, err := h.IssueTokens(h.t.Context(), door(), in.Session.ID)
	require.NoError(h.t, err)
	return tokens
}

func (h *house) bearer(token string) (identity.Caller, error) {
	return h.Bearer(h.t.Context(), token)
}

func (h *house) requireAlive(token string) identity.Caller {
	h.t.Helper()
	c, err := h.bearer(token)
	require.NoError(h.t, err)
	return c
}

func (h *house) requireDead(token string) {
	h.t.Helper()
	_, err := h.bearer(token)
	requireFault(h.t, "unauthenticated", err)
}

// kid returns the key that a token names.
func kid(t testing.TB, token string) string {
	t.Helper()
	u, err := jwt.Parse(token)
	require.NoError(t, err)
	return u.KeyID
}

// TestAccessTokens: a program that signs in gets a token that is its person, while its session lives and its person is active.
func TestAccessTokens(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		u, admin := h.admin()
		tokens := h.signIn()
		access := tokens.Access.Reveal()
		require.Equal(t, time.Hour, tokens.ExpiresIn)
		c := h.requireAlive(access)
		require.Equal(t, identity.KindPerson, c.Kind)
		require.Equal(t, u.ID, c.UserID)
		require.Equal(t, tokens.Session.ID, c.SessionID)
		require.Equal(t, identity.Administrator, c.Role)

		_, err := h.IssueTokens(t.Context(), door(), tokens.Session.ID)
		requireFault(t, "state_conflict", err)
		browser, err := h.Login(t.Context(), door(), email, secret.FromString(password), identity.SessionBrowser)
		require.NoError(t, err)
		_, err = h.IssueTokens(t.Context(), door(), browser.Session.ID)
		requireFault(t, "unauthenticated", err)

		// It is not the secret of its session, and that is not it.
		_, err = h.Session(t.Context(), access)
		requireFault(t, "unauthenticated", err)
		_, err = h.Token(access)
		requireFault(t, "unauthenticated", err)
		_, err = h.Client(access)
		requireFault(t, "unauthenticated", err)
		h.requireDead(tokens.Refresh.Reveal())

		h.clock.Add(time.Hour - time.Second)
		h.requireAlive(access)
		h.clock.Add(time.Second)
		h.requireDead(access)

		next, err := h.Refresh(t.Context(), door(), tokens.Refresh)
		require.NoError(t, err)
		h.requireAlive(next.Access.Reveal())
		require.NoError(t, h.EndSession(t.Context(), admin, tokens.Session.ID))
		h.requireDead(next.Access.Reveal())
		_, err = h.Refresh(t.Context(), door(), next.Refresh)
		requireFault(t, "unauthenticated", err)

		again := h.signIn()
		h.requireAlive(again.Access.Reveal())
		require.NoError(t, h.write(func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE users SET active = 0 WHERE id = $1`, u.ID)
			tx.Change(store.TopicUser, u.ID)
			return errorsJoin(err, tx.Record(identity.System("test").Event(store.UserUpdate, u.Target())))
		}))
		h.requireDead(again.Access.Reveal())
		_, err = h.Refresh(t.Context(), door(), again.Refresh)
		requireFault(t, "unauthenticated", err)
	})
}

func errorsJoin(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// TestRefreshRotates: each refresh token works once, the session lives on for thirty days from then, and for a hundred and eighty at most.
func TestRefreshRotates(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		h.admin()
		tokens := h.signIn()
		began := h.clock.Now()
		for h.clock.Now().Sub(began) < identity.APISessionLife-21*24*time.Hour {
			h.clock.Add(20 * 24 * time.Hour)
			next, err := h.Refresh(t.Context(), door(), tokens.Refresh)
			require.NoError(t, err)
			require.NotEqual(t, tokens.Refresh.Reveal(), next.Refresh.Reveal())
			h.requireAlive(next.Access.Reveal())
			tokens = next
		}
		h.clock.Add(began.Add(identity.APISessionLife).Sub(h.clock.Now()))
		_, err := h.Refresh(t.Context(), door(), tokens.Refresh)
		requireFault(t, "unauthenticated", err)

		idle := h.signIn()
		h.clock.Add(identity.RefreshLife)
		_, err = h.Refresh(t.Context(), door(), idle.Refresh)
		requireFault(t, "unauthenticated", err)
		for _, bad := range []string{"", "sbr_", idle.Refresh.Reveal()[:40], "sbp_" + idle.Refresh.Reveal()[4:], idle.Access.Reveal()} {
			_, err = h.Refresh(t.Context(), door(), secret.FromString(bad))
			requireFault(t, "unauthenticated", err)
		}
	})
}

// TestRefreshReuseKillsTheFamily: a refresh token that comes a second time ends its session, on both of two instances.
func TestRefreshReuseKillsTheFamily(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			cfg, c := storetest.Config(t, e), newClock()
			h := newHouse(t, cfg, c, nil)
			other := h
			if e == store.Postgres {
				other = newHouse(t, cfg, c, nil)
			}
			u, _ := h.admin()
			first := h.signIn()
			bystander := h.signIn()
			second, err := other.Refresh(t.Context(), door(), first.Refresh)
			require.NoError(t, err)
			require.Equal(t, first.Session.ID, second.Session.ID)
			h.requireAlive(first.Access.Reveal())

			_, err = h.Refresh(t.Context(), door(), first.Refresh)
			requireFault(t, "unauthenticated", err)
			for _, room := range []*house{h, other} {
				require.Eventually(t, func() bool {
					_, err1 := room.Bearer(context.Background(), first.Access.Reveal())
					_, err2 := room.Bearer(context.Background(), second.Access.Reveal())
					return err1 != nil && err2 != nil
				}, 10*time.Second, 5*time.Millisecond, "the family ends everywhere")
			}
			_, err = other.Refresh(t.Context(), door(), second.Refresh)
			requireFault(t, "unauthenticated", err)
			_, err = h.Refresh(t.Context(), door(), bystander.Refresh)
			require.NoError(t, err, "another session of the same person goes on")

			var refused store.Event
			for _, ev := range h.eventsOf(store.IdentityTokens) {
				if ev.Outcome == store.OutcomeRefused {
					refused = ev
				}
			}
			require.Equal(t, "reused", refused.Reason)
			require.Equal(t, first.Session.ID, refused.Target.ID)
			require.Equal(t, u.ID, refused.OnBehalf)
			require.Equal(t, "192.0.2.7", refused.IP)
			ends := h.eventsOf(store.IdentitySessionEnd)
			require.Len(t, ends, 1)
			require.Equal(t, "refresh_reused", ends[0].Reason)
		})
	}
}

// TestRefreshOnceUnderConcurrency: of many that bring the same token at the same moment to two instances one at most succeeds, and then its
// session is over as well, because a second one came.
func TestRefreshOnceUnderConcurrency(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			cfg, c := storetest.Config(t, e), newClock()
			rooms := []*house{newHouse(t, cfg, c, nil)}
			if e == store.Postgres {
				rooms = append(rooms, newHouse(t, cfg, c, nil))
			}
			rooms[0].admin()
			for range 5 {
				tokens := rooms[0].signIn()
				var won atomic.Int64
				var last atomic.Pointer[identity.Tokens]
				var wg sync.WaitGroup
				for i := range 8 {
					wg.Go(func() {
						got, err := rooms[i%len(rooms)].Refresh(context.Background(), door(), tokens.Refresh)
						if err == nil {
							won.Add(1)
							last.Store(&got)
						} else if fault.KindOf(err) != fault.Unauthenticated {
							t.Errorf("refused as %v", err)
						}
					})
				}
				wg.Wait()
				require.EqualValues(t, 1, won.Load())
				_, err := rooms[0].Refresh(t.Context(), door(), last.Load().Refresh)
				requireFault(t, "unauthenticated", err)
			}
		})
	}
}

// TestSigningKeysRotate: keys are published before they sign, tokens live over a rotation, and a compromised key ends them at once.
func TestSigningKeysRotate(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		_, admin := h.admin()
		require.NoError(t, h.Start(t.Context()))
		doc := h.published()
		require.Len(t, doc, 2, "an active one and the next")
		tokens := h.signIn()
		first := kid(t, tokens.Access.Reveal())
		require.Contains(t, doc, first)

		requireFault(t, "state_conflict", h.RotateSigningKeys(t.Context(), admin, false))
		h.clock.Add(59 * time.Minute)
		tokens, err := h.Refresh(t.Context(), door(), tokens.Refresh)
		require.NoError(t, err)
		old := tokens.Access.Reveal()
		h.clock.Add(time.Minute)
		before := h.published()
		require.NoError(t, h.RotateSigningKeys(t.Context(), admin, false))
		require.Len(t, h.published(), 3)
		h.requireAlive(old)
		tokens, err = h.Refresh(t.Context(), door(), tokens.Refresh)
		require.NoError(t, err)
		second := kid(t, tokens.Access.Reveal())
		require.NotEqual(t, first, second)
		require.Contains(t, before, second, "it was published before")
		h.clock.Add(58 * time.Minute)
		h.requireAlive(old)
		h.clock.Add(10 * time.Minute)
		h.requireDead(old)
		require.NoError(t, h.KeepSigningKeys(t.Context()))
		require.NotContains(t, h.published(), first)
		require.NoError(t, h.KeepSigningKeys(t.Context()), "nothing to do")
		require.Len(t, h.eventsOf(store.SigningKey), 2+3+1)

		h.clock.Add(identity.SigningKeyLife)
		require.NoError(t, h.KeepSigningKeys(t.Context()))
		again := h.signIn()
		require.NotEqual(t, second, kid(t, again.Access.Reveal()), "after thirty days by itself")

		require.NoError(t, h.RotateSigningKeys(t.Context(), admin, true))
		h.requireDead(again.Access.Reveal())
		require.Len(t, h.published(), 2)
		fresh, err := h.Refresh(t.Context(), door(), again.Refresh)
		require.NoError(t, err, "refresh tokens live on")
		h.requireAlive(fresh.Access.Reveal())

		member := h.addUser(identity.Operator, true)
		requireFault(t, "forbidden", h.RotateSigningKeys(t.Context(), identity.Caller{Kind: identity.KindPerson, ID: member.ID, UserID: member.ID, Role: identity.Operator}, true))
	})
}

// published returns the ids of the published keys.
func (h *house) published() (ids []string) {
	h.t.Helper()
	doc, err := h.PublishedKeys()
	require.NoError(h.t, err)
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	require.NoError(h.t, json.Unmarshal(doc, &set))
	for _, k := range set.Keys {
		require.NotContains(h.t, k, "d")
		require.Equal(h.t, "ES256", k["alg"])
		ids = append(ids, k["kid"])
	}
	return ids
}

// TestAKeyPutIntoTheDatabaseSignsNothing: who can write to the database but lacks the data key can forge no token.
func TestAKeyPutIntoTheDatabaseSignsNothing(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		h.admin()
		token := h.signIn().Access.Reveal()
		h.requireAlive(token)
		require.NoError(t, h.write(func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE jwt_keys SET sealed = (SELECT sealed FROM jwt_keys WHERE state = 'next')`)
			tx.Change(store.TopicWebToken, "")
			return errorsJoin(err, tx.Record(identity.System("test").Event(store.SigningKey, store.Target{Kind: "signing_key"})))
		}))
		h.requireDead(token)
		require.Contains(t, h.log.String(), "does not open")
	})
}

// outsideIssuer plays another company's identity provider.
type outsideIssuer struct {
	*httptest.Server
	mu     sync.Mutex
	keys   map[string]*ecdsa.PrivateKey
	status int
	body   string
	asked  atomic.Int64
}

func newOutsideIssuer(t *testing.T) *outsideIssuer {
	o := &outsideIssuer{keys: map[string]*ecdsa.PrivateKey{}}
	o.add(t, "k1")
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		o.asked.Add(1)
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.status != 0 {
			w.WriteHeader(o.status)
			_, _ = w.Write([]byte(o.body))
			return
		}
		list := []map[string]string{}
		for id, k := range o.keys {
			p, _ := k.PublicKey.Bytes()
			enc := base64.RawURLEncoding.EncodeToString
			list = append(list, map[string]string{"kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "x": enc(p[1:33]), "y": enc(p[33:])})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": list})
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *outsideIssuer) add(t *testing.T, id string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keys[id] = k
}

func (o *outsideIssuer) token(t *testing.T, id string, claims gojwt.MapClaims) string {
	tok := gojwt.NewWithClaims(gojwt.SigningMethodES256, claims)
	tok.Header["kid"] = id
	s, err := tok.SignedString(o.keys[id])
	require.NoError(t, err)
	return s
}

func (h *house) outsideClaims(change gojwt.MapClaims) gojwt.MapClaims {
	out := gojwt.MapClaims{"iss": "https://id.example.com", "aud": "signalbox", "sub": "ada", "iat": h.clock.Now().Unix(), "exp": h.clock.Now().Add(time.Hour).Unix()}
	for k, v := range change {
		if out[k] = v; v == nil {
			delete(out, k)
		}
	}
	return out
}

func localPolicy(t *testing.T) func(*identity.Config) {
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(t, err)
	return func(c *identity.Config) { c.Outgoing = policy }
}

func draft(o *outsideIssuer) identity.IssuerEdit {
	return identity.IssuerEdit{
		Name: ptr("Example"), Issuer: ptr("https://id.example.com"), Audience: ptr("signalbox"), JWKSURL: ptr(o.URL), Algorithms: ptr([]string{"ES256"}),
		Scopes: ptr(identity.Scopes{identity.CredentialRead, identity.TrainRead}),
	}
}

// TestOutsideIssuers: tokens of an issuer that an administrator has named are taken for the persons that it may name, with no more scopes than
// it was given.
func TestOutsideIssuers(t *testing.T) {
	each(t, localPolicy(t), func(t *testing.T, h *house) {
		ada, admin := h.admin()
		bob := h.addUser(identity.Operator, true)
		o := newOutsideIssuer(t)
		token := func(change gojwt.MapClaims) string { return o.token(t, "k1", h.outsideClaims(change)) }
		h.requireDead(token(nil))
		require.Zero(t, o.asked.Load(), "nobody is asked for an issuer that nobody named")

		d := draft(o)
		d.Subjects = &[]identity.ListedSubject{{Subject: "ada", UserID: ada.ID}, {Subject: "7", UserID: bob.ID}}
		i, err := h.CreateIssuer(t.Context(), admin, d)
		require.NoError(t, err)
		c := h.requireAlive(token(nil))
		require.Equal(t, identity.KindJWT, c.Kind)
		require.Equal(t, ada.ID, c.UserID)
		require.Equal(t, ada.ID, c.OnBehalf)
		require.Equal(t, i.ID+"/ada", c.ID)
		require.NoError(t, identity.Allow(c, identity.TrainRead))
		requireFault(t, "scope_missing", identity.Allow(c, identity.TrainWrite))
		require.NoError(t, identity.RequireFresh(c, h.clock.Now()))

		for name, change := range map[string]gojwt.MapClaims{
			"another issuer": {"iss": "https://evil.example"}, "no issuer": {"iss": nil}, "another audience": {"aud": "other"}, "unlisted": {"sub": "eve"},
			"no subject": {"sub": nil}, "subject is a number": {"sub": 7}, "expired": {"exp": h.clock.Now().Unix()}, "no exp": {"exp": nil}, "too far": {"exp": h.clock.Now().Add(48 * time.Hour).Unix()},
		} {
			t.Run(name, func(t *testing.T) { h.requireDead(token(change)) })
		}
		requests := o.asked.Load()
		require.EqualValues(t, 1, requests)

		_, err = h.UpdateIssuer(t.Context(), admin, i.ID, identity.IssuerEdit{SubjectClaim: ptr("id"), SubjectForm: ptr(identity.SubjectNumber)})
		require.NoError(t, err)
		for _, id := range []any{7, "7"} {
			require.Equal(t, bob.ID, h.requireAlive(token(gojwt.MapClaims{"id": id})).UserID)
		}
		for _, id := range []any{0, -7, "07", "7 ", 7.5, "seven", true, nil, []int{7}, "ada"} {
			h.requireDead(token(gojwt.MapClaims{"id": id}))
		}
		require.EqualValues(t, requests, o.asked.Load(), "the keys are kept when the issuer's address stays")

		_, err = h.UpdateIssuer(t.Context(), admin, i.ID, identity.IssuerEdit{SubjectClaim: ptr("email"), SubjectForm: ptr(identity.SubjectText), SubjectIs: ptr(identity.SubjectEmail), Subjects: ptr([]identity.ListedSubject(nil))})
		require.NoError(t, err)
		require.Equal(t, ada.ID, h.requireAlive(token(gojwt.MapClaims{"email": strings.ToUpper(email), "email_verified": true})).UserID)
		for _, verified := range []any{nil, false, "true", 1} {
			h.requireDead(token(gojwt.MapClaims{"email": email, "email_verified": verified}))
		}
		h.requireDead(token(gojwt.MapClaims{"email": identity.LocalOperator, "email_verified": true}))

		_, err = h.UpdateIssuer(t.Context(), admin, i.ID, identity.IssuerEdit{SubjectClaim: ptr("sub"), SubjectIs: ptr(identity.SubjectUserID)})
		require.NoError(t, err)
		c = h.requireAlive(token(gojwt.MapClaims{"sub": bob.ID}))
		require.Equal(t, identity.Operator, c.Role)

		again, err := h.Again(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, c, again)
		_, err = h.UpdateIssuer(t.Context(), admin, i.ID, identity.IssuerEdit{SubjectIs: ptr(identity.SubjectOutsider)})
		require.NoError(t, err)
		nobody := h.requireAlive(token(gojwt.MapClaims{"sub": "42"}))
		require.Empty(t, nobody.UserID)
		require.Equal(t, "42", nobody.Subject)
		for _, row := range identity.Permissions() {
			requireFault(t, "forbidden", identity.Allow(nobody, row.Permission))
		}

		_, err = h.UpdateIssuer(t.Context(), admin, i.ID, identity.IssuerEdit{Active: ptr(false)})
		require.NoError(t, err)
		h.requireDead(token(gojwt.MapClaims{"sub": "42"}))
		_, err = h.Again(t.Context(), nobody)
		requireFault(t, "unauthenticated", err)
		require.NoError(t, h.DeleteIssuer(t.Context(), admin, i.ID, ""))
		requireFault(t, "not_found", h.DeleteIssuer(t.Context(), admin, i.ID, ""))
	})
}

// TestSharedSecretIssuer: an issuer with a shared secret is sealed, and rotates without a trace of the old one.
func TestSharedSecretIssuer(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		_, admin := h.admin()
		planted := "planted-shared-secret-0123456789-abcdefgh"
		sign := func(key string) string {
			s, err := gojwt.NewWithClaims(gojwt.SigningMethodHS256, h.outsideClaims(nil)).SignedString([]byte(key))
			require.NoError(t, err)
			return s
		}
		e := identity.IssuerEdit{
			Name: ptr("Legacy"), AnyIssuer: ptr(true), AnyAudience: ptr(true), Secret: ptr(secret.FromString(planted)), Algorithms: ptr([]string{"HS256"}),
			Scopes: ptr(identity.Scopes{identity.TrainRead}), SubjectIs: ptr(identity.SubjectOutsider),
		}
		short := e
		short.Secret = ptr(secret.FromString(planted[:31]))
		_, err := h.CreateIssuer(t.Context(), admin, short)
		requireFault(t, "validation_failed", err)
		i, err := h.CreateIssuer(t.Context(), admin, e)
		require.NoError(t, err)
		h.requireAlive(sign(planted))
		h.requireDead(sign(planted + "x"))
		_, err = h.UpdateIssuer(t.Context(), admin, i.ID, identity.IssuerEdit{Name: ptr("Legacy system")})
		require.NoError(t, err)
		h.requireAlive(sign(planted))
		_, err = h.UpdateIssuer(t.Context(), admin, i.ID, identity.IssuerEdit{Secret: ptr(secret.FromString("another-" + planted))})
		require.NoError(t, err)
		h.requireDead(sign(planted))
		h.requireAlive(sign("another-" + planted))
		for _, ev := range h.events() {
			b, err := json.Marshal(ev)
			require.NoError(t, err)
			require.NotContains(t, string(b), planted)
		}
		require.NotContains(t, h.log.String(), planted)
	})
}

// TestIssuersAreHeldTo: what is not said clearly is not accepted, and nobody gives away what they have not.
func TestIssuersAreHeldTo(t *testing.T) {
	each(t, localPolicy(t), func(t *testing.T, h *house) {
		_, admin := h.admin()
		o := newOutsideIssuer(t)
		for name, change := range map[string]func(*identity.IssuerEdit){
			"no name":             func(e *identity.IssuerEdit) { e.Name = nil },
			"no issuer":           func(e *identity.IssuerEdit) { e.Issuer = nil },
			"issuer and waiver":   func(e *identity.IssuerEdit) { e.AnyIssuer = ptr(true) },
			"no audience":         func(e *identity.IssuerEdit) { e.Audience = nil },
			"no keys":             func(e *identity.IssuerEdit) { e.JWKSURL = nil },
			"two sources of keys": func(e *identity.IssuerEdit) { e.Secret = ptr(secret.FromString(strings.Repeat("s", 32))) },
			"http":                func(e *identity.IssuerEdit) { e.JWKSURL = ptr("http://keys.example.com") },
			"metadata address":    func(e *identity.IssuerEdit) { e.JWKSURL = ptr("https://169.254.169.254/keys") },
			"file":                func(e *identity.IssuerEdit) { e.JWKSURL = ptr("file:///etc/passwd") },
			"no algorithm":        func(e *identity.IssuerEdit) { e.Algorithms = nil },
			"none":                func(e *identity.IssuerEdit) { e.Algorithms = ptr([]string{"none"}) },
			"HMAC with a JWKS":    func(e *identity.IssuerEdit) { e.Algorithms = ptr([]string{"ES256", "HS256"}) },
			"unknown scope":       func(e *identity.IssuerEdit) { e.Scopes = ptr(identity.Scopes{"world:rule"}) },
			"unknown subject":     func(e *identity.IssuerEdit) { e.SubjectIs = ptr(identity.SubjectIs("god")) },
			"number as e-mail": func(e *identity.IssuerEdit) {
				e.SubjectForm, e.SubjectIs = ptr(identity.SubjectNumber), ptr(identity.SubjectEmail)
			},
			"a stranger in the list": func(e *identity.IssuerEdit) {
				e.Subjects = ptr([]identity.ListedSubject{{Subject: "a", UserID: "user_none"}})
			},
			"lives for ever": func(e *identity.IssuerEdit) { e.MaxLife = ptr(400 * 24 * time.Hour) },
		} {
			t.Run(name, func(t *testing.T) {
				e := draft(o)
				change(&e)
				_, err := h.CreateIssuer(t.Context(), admin, e)
				requireFault(t, "validation_failed", err)
			})
		}
		narrow := admin
		narrow.Kind, narrow.Scopes = identity.KindToken, identity.Scopes{identity.IssuerWrite, identity.TrainRead}
		_, err := h.CreateIssuer(t.Context(), narrow, draft(o))
		requireFault(t, "scope_missing", err)
		_, err = h.CreateIssuer(t.Context(), admin, draft(o))
		require.NoError(t, err)
		_, err = h.CreateIssuer(t.Context(), admin, draft(o))
		requireFault(t, "already_exists", err)
		list, err := h.ListIssuers(t.Context(), admin)
		require.NoError(t, err)
		require.Len(t, list, 1)
		_, err = h.UpdateIssuer(t.Context(), narrow, list[0].ID, identity.IssuerEdit{JWKSURL: ptr(o.URL + "/mine")})
		requireFault(t, "scope_missing", err)
		for _, role := range []identity.Role{identity.Operator, identity.Member, identity.Auditor} {
			c := identity.Caller{Kind: identity.KindPerson, ID: "x", UserID: "x", Role: role}
			_, err = h.CreateIssuer(t.Context(), c, draft(o))
			requireFault(t, "forbidden", err)
		}
		require.Zero(t, o.asked.Load())
	})
}

// TestIssuersServer: what an issuer's server does to us is bounded: its outage is told as such, garbage is refused, new keys are found.
func TestIssuersServer(t *testing.T) {
	each(t, localPolicy(t), func(t *testing.T, h *house) {
		_, admin := h.admin()
		o := newOutsideIssuer(t)
		e := draft(o)
		e.SubjectIs = ptr(identity.SubjectOutsider)
		_, err := h.CreateIssuer(t.Context(), admin, e)
		require.NoError(t, err)
		token := func(id string) string { return o.token(t, id, h.outsideClaims(nil)) }
		answer := func(status int, body string) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.status, o.body = status, body
		}
		for _, bad := range []struct {
			status int
			body   string
		}{{500, "planted-upstream-text"}, {302, ""}, {200, "<html>planted-upstream-text"}, {200, `{"keys":[]}`}, {200, strings.Repeat("x", jwt.MaxSet+10)}} {
			answer(bad.status, bad.body)
			h.clock.Add(time.Minute)
			_, err = h.bearer(token("k1"))
			requireFault(t, "issuer_unreachable", err)
		}
		require.NotContains(t, h.log.String(), "planted-upstream-text")
		asked := o.asked.Load()
		_, err = h.bearer(token("k1"))
		requireFault(t, "issuer_unreachable", err)
		require.Equal(t, asked, o.asked.Load(), "once a minute")
		answer(0, "")
		h.clock.Add(time.Minute)
		h.requireAlive(token("k1"))
		o.add(t, "k2")
		h.requireDead(token("k2"))
		h.clock.Add(time.Minute)
		h.requireAlive(token("k2"))
		answer(503, "")
		h.clock.Add(2 * time.Hour)
		h.requireAlive(token("k2"))
	})
}
