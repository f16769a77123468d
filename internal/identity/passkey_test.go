package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// device is a passkey in software, which can lie as no browser would.
type device struct {
	t       testing.TB
	key     *ecdsa.PrivateKey
	id      []byte
	handle  []byte
	counter uint32
}

// lies are what a device says wrong. The zero value is the truth.
type lies struct {
	origin, party, kind string
	unverified, absent  bool
	challenge           string
	signature           bool
	handle              string
	counter             int
}

const here = "http://localhost:8420"

func newDevice(t testing.TB) *device {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	d := &device{t: t, key: key, id: make([]byte, 32), counter: 1}
	_, _ = rand.Read(d.id)
	return d
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// options reads what the page gives to the browser.
func (d *device) options(text []byte) (challenge string) {
	d.t.Helper()
	var o struct {
		PublicKey struct {
			Challenge string `json:"challenge"`
			RPID      string `json:"rpId"`
			RP        struct {
				ID string `json:"id"`
			} `json:"rp"`
			User struct {
				ID string `json:"id"`
			} `json:"user"`
			UserVerification       string `json:"userVerification"`
			AuthenticatorSelection struct {
				ResidentKey      string `json:"residentKey"`
				UserVerification string `json:"userVerification"`
			} `json:"authenticatorSelection"`
		} `json:"publicKey"`
	}
	require.NoError(d.t, json.Unmarshal(text, &o))
	require.Equal(d.t, "localhost", or(o.PublicKey.RPID, o.PublicKey.RP.ID))
	require.Equal(d.t, "required", or(o.PublicKey.UserVerification, o.PublicKey.AuthenticatorSelection.UserVerification))
	if o.PublicKey.User.ID != "" {
		require.Equal(d.t, "required", o.PublicKey.AuthenticatorSelection.ResidentKey)
		handle, err := base64.RawURLEncoding.DecodeString(o.PublicKey.User.ID)
		require.NoError(d.t, err)
		d.handle = handle
	}
	require.GreaterOrEqual(d.t, len(o.PublicKey.Challenge), 43)
	return o.PublicKey.Challenge
}

// said is the client data and the authenticator data with flags.
func (d *device) said(kind, challenge string, more byte, l lies) (client, authenticator []byte) {
	client, err := json.Marshal(map[string]any{"type": or(l.kind, kind), "challenge": or(l.challenge, challenge), "origin": or(l.origin, here), "crossOrigin": false})
	require.NoError(d.t, err)
	party := sha256.Sum256([]byte(or(l.party, "localhost")))
	flags := more
	if !l.absent {
		flags |= 1
	}
	if !l.unverified {
		flags |= 4
	}
	authenticator = append(party[:], flags)
	return client, binary.BigEndian.AppendUint32(authenticator, uint32(int(d.counter)+l.counter))
}

// create answers a registration.
func (d *device) create(options []byte, l lies) secret.Value {
	client, auth := d.said("webauthn.create", d.options(options), 0x40, l)
	auth = append(auth, make([]byte, 16)...) // AAGUID
	auth = binary.BigEndian.AppendUint16(auth, uint16(len(d.id)))
	auth = append(auth, d.id...)
	point, err := d.key.PublicKey.Bytes()
	require.NoError(d.t, err)
	auth = append(auth, 0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32) // COSE: EC2, ES256, P-256
	auth = append(append(auth, point[1:33]...), 0x22, 0x58, 32)
	auth = append(auth, point[33:]...)
	object := append([]byte{0xa3, 0x63}, "fmt"...)
	object = append(append(object, 0x64), "none"...)
	object = append(append(object, 0x67), "attStmt"...)
	object = append(append(object, 0xa0, 0x68), "authData"...)
	object = append(binary.BigEndian.AppendUint16(append(object, 0x59), uint16(len(auth))), auth...)
	return d.answer(map[string]any{"clientDataJSON": b64(client), "attestationObject": b64(object)})
}

// get answers a sign-in.
func (d *device) get(options []byte, l lies) secret.Value {
	d.counter++
	client, auth := d.said("webauthn.get", d.options(options), 0, l)
	hash := sha256.Sum256(client)
	sum := sha256.Sum256(append(append([]byte{}, auth...), hash[:]...))
	if l.signature {
		sum[0] ^= 1
	}
	sig, err := ecdsa.SignASN1(rand.Reader, d.key, sum[:])
	require.NoError(d.t, err)
	return d.answer(map[string]any{
		"clientDataJSON": b64(client), "authenticatorData": b64(auth), "signature": b64(sig), "userHandle": b64([]byte(or(l.handle, string(d.handle)))),
	})
}

func (d *device) answer(response map[string]any) secret.Value {
	text, err := json.Marshal(map[string]any{"id": b64(d.id), "rawId": b64(d.id), "type": "public-key", "response": response, "clientExtensionResults": map[string]any{}})
	require.NoError(d.t, err)
	return secret.New(text)
}

func (h *house) site() identity.Site {
	h.t.Helper()
	at, err := h.Site("localhost:8420")
	require.NoError(h.t, err)
	return at
}

func (h *house) ask(c identity.Caller, what identity.Ceremony) []byte {
	h.t.Helper()
	options, err := h.AskPasskey(h.t.Context(), c, h.site(), what)
	require.NoError(h.t, err)
	return options
}

// enrolPasskey registers a passkey in the session of c.
func (h *house) enrolPasskey(c identity.Caller) (*device, identity.Enrolment) {
	h.t.Helper()
	d := newDevice(h.t)
	e, err := h.RegisterPasskey(h.t.Context(), c, h.site(), "Phone", d.create(h.ask(c, identity.PasskeyRegister), lies{}))
	require.NoError(h.t, err)
	return d, e
}

func TestPasskey(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		ctx := t.Context()
		u, _ := h.admin()
		c := h.caller(h.enter(email))
		_, err := h.AskPasskey(ctx, c, h.site(), identity.PasskeyProve)
		requireFault(t, "not_found", err)
		d, e := h.enrolPasskey(c)
		require.Len(t, e.Codes, 10)
		require.Equal(t, "Phone", e.Passkey.Name)
		c = h.caller(e.Admission)

		in, err := h.PasskeyLogin(ctx, door(), h.site(), d.get(h.ask(door(), identity.PasskeySignIn), lies{}), identity.SessionBrowser)
		require.NoError(t, err)
		require.False(t, in.Pending(), "a passkey is two factors by itself")
		require.Equal(t, u.ID, h.caller(in).UserID)
		require.Equal(t, []identity.Proof{identity.ProofPasskey}, in.Session.Proofs)

		half, demanded := h.half(h.enter(email))
		require.Equal(t, []identity.Proof{identity.ProofPasskey, identity.ProofRecovery}, demanded)
		_, err = h.AskPasskey(ctx, half, h.site(), identity.PasskeyRegister)
		requireFault(t, "second_factor_required", err)
		whole, err := h.ProvePasskey(ctx, half, h.site(), d.get(h.ask(half, identity.PasskeyProve), lies{}))
		require.NoError(t, err)
		require.False(t, whole.Pending())
		stepped, err := h.ProvePasskey(ctx, h.caller(whole), h.site(), d.get(h.ask(h.caller(whole), identity.PasskeyProve), lies{}))
		require.NoError(t, err)
		require.Equal(t, whole.Session.ID, stepped.Session.ID)

		again := d.create(h.ask(c, identity.PasskeyRegister), lies{})
		_, err = h.RegisterPasskey(ctx, c, h.site(), "Phone again", again)
		requireFault(t, "already_exists", err)
		_, e = h.enrolPasskey(c)
		require.Empty(t, e.Codes, "recovery codes come with the first factor")
		c = h.caller(e.Admission)
		renamed, err := h.RenamePasskey(ctx, c, e.Passkey.ID, " Key in the safe ")
		require.NoError(t, err)
		require.Equal(t, "Key in the safe", renamed.Name)
		f, err := h.Factors(ctx, c, "")
		require.NoError(t, err)
		require.Len(t, f.Passkeys, 2)
		require.NotNil(t, f.Passkeys[0].LastUsedAt)
		requireFault(t, "not_found", h.RemovePasskey(ctx, c, "psk_00000000000000000000000000"))
		require.NoError(t, h.RemovePasskey(ctx, c, f.Passkeys[0].ID))
		_, err = h.PasskeyLogin(ctx, door(), h.site(), d.get(h.ask(door(), identity.PasskeySignIn), lies{}), identity.SessionBrowser)
		requireFault(t, "passkey_refused", err)
		require.NoError(t, h.RemovePasskey(ctx, c, f.Passkeys[1].ID))
		require.False(t, h.enter(email).Pending())
	})
}

// TestPasskeyLies: whatever is not as it must be is refused, each by itself, and the same answer without the lie is taken.
func TestPasskeyLies(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.admin()
		c := h.caller(h.enter(email))
		for name, l := range map[string]lies{
			"wrong origin": {origin: "http://localhost:9999"}, "plain other site": {origin: "https://evil.example"}, "wrong RP ID": {party: "evil.example"},
			"no user verification": {unverified: true}, "no presence": {absent: true}, "assertion for registration": {kind: "webauthn.get"},
			"a challenge that nobody asked": {challenge: b64(make([]byte, 32))},
		} {
			_, err := h.RegisterPasskey(ctx, c, h.site(), "Phone", newDevice(t).create(h.ask(c, identity.PasskeyRegister), l))
			require.Error(t, err, name)
			requireFault(t, "passkey_refused", err)
		}
		d, e := h.enrolPasskey(c)
		c = h.caller(e.Admission)
		for name, l := range map[string]lies{
			"wrong origin": {origin: "http://localhost:9999"}, "https of the same": {origin: "https://localhost:8420"}, "wrong RP ID": {party: "evil.example"},
			"no user verification": {unverified: true}, "no presence": {absent: true}, "registration for assertion": {kind: "webauthn.create"},
			"a challenge that nobody asked": {challenge: b64(make([]byte, 32))}, "bogus signature": {signature: true}, "another person": {handle: "user_00000000000000000000000000"},
		} {
			for _, what := range []identity.Ceremony{identity.PasskeySignIn, identity.PasskeyProve} {
				var err error
				if what == identity.PasskeySignIn {
					_, err = h.PasskeyLogin(ctx, door(), h.site(), d.get(h.ask(door(), what), l), identity.SessionBrowser)
				} else {
					_, err = h.ProvePasskey(ctx, c, h.site(), d.get(h.ask(c, what), l))
				}
				require.Error(t, err, name)
				requireFault(t, "passkey_refused", err)
			}
		}
		login := func(answer secret.Value) error {
			_, err := h.PasskeyLogin(ctx, door(), h.site(), answer, identity.SessionBrowser)
			return err
		}
		for _, text := range []string{"", "{}", "null", `{"id":"x"}`, string(make([]byte, 1<<20))} {
			requireFault(t, "passkey_refused", login(secret.FromString(text)))
		}
		// A refused answer uses its challenge up as well.
		options := h.ask(door(), identity.PasskeySignIn)
		requireFault(t, "passkey_refused", login(d.get(options, lies{signature: true})))
		requireFault(t, "passkey_refused", login(d.get(options, lies{})))
		good := d.get(h.ask(door(), identity.PasskeySignIn), lies{})
		require.NoError(t, login(good))
		requireFault(t, "passkey_refused", login(good)) // replayed
		old := h.ask(door(), identity.PasskeySignIn)
		h.clock.Add(identity.FactorOfferLife)
		requireFault(t, "passkey_refused", login(d.get(old, lies{})))
		requireFault(t, "passkey_refused", login(d.get(h.ask(c, identity.PasskeyProve), lies{}))) // asked for something else

		half, _ := h.half(h.enter(email))
		other, _ := h.half(h.enter(email))
		_, err := h.ProvePasskey(ctx, other, h.site(), d.get(h.ask(half, identity.PasskeyProve), lies{}))
		requireFault(t, "passkey_refused", err) // asked in another session

		require.Empty(t, h.eventsOf(store.FactorSuspect))
		requireFault(t, "passkey_refused", login(d.get(h.ask(door(), identity.PasskeySignIn), lies{counter: -20}))) // a copy
		require.Len(t, h.eventsOf(store.FactorSuspect), 1)
		admin := person(e.User)
		admin.SteppedUpAt = h.clock.Now()
		f, err := h.Factors(ctx, admin, "")
		require.NoError(t, err)
		require.NotNil(t, f.Passkeys[0].SuspectAt)
		require.NoError(t, login(d.get(h.ask(door(), identity.PasskeySignIn), lies{})))

		var waiting int
		require.NoError(t, h.db.Read(ctx, func(tx *store.Tx) error {
			return tx.Get(&waiting, `SELECT COUNT(*) FROM passkey_challenges WHERE expires_at > $1`, store.TimeOf(h.clock.Now()))
		}))
		for range 100 - waiting {
			h.ask(door(), identity.PasskeySignIn)
		}
		_, err = h.AskPasskey(ctx, door(), h.site(), identity.PasskeySignIn)
		requireFault(t, "rate_limited", err)
		from := door()
		from.IP = "198.51.100.1"
		h.ask(from, identity.PasskeySignIn)
	})
}

func TestPasskeysOfADeactivatedPerson(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, admin := h.admin()
		bob, _, err := h.CreateUser(ctx, admin, identity.UserDraft{Email: "bob@example.com", Name: "Bob", Role: identity.Member, Password: secret.FromString(password)})
		require.NoError(t, err)
		d, _ := h.enrolPasskey(h.caller(h.enter(bob.Email)))
		_, err = h.UpdateUser(ctx, admin, bob.ID, identity.UserPatch{Active: ptr(false)})
		require.NoError(t, err)
		_, err = h.PasskeyLogin(ctx, door(), h.site(), d.get(h.ask(door(), identity.PasskeySignIn), lies{}), identity.SessionBrowser)
		requireFault(t, "passkey_refused", err)
	})
}

// TestPasskeysNeedAName: the site is the configured one, whatever a request says, and never an address without a name.
func TestPasskeysNeedAName(t *testing.T) {
	public := func(text string) func(*identity.Config) {
		return func(c *identity.Config) {
			u, err := identity.ParsePublicURL(text)
			require.NoError(t, err)
			c.PublicURL = u
		}
	}
	each(t, nil, func(t *testing.T, h *house) {
		for _, host := range []string{"127.0.0.1:8420", "[::1]:8420", "signalbox.example.com", "evil.localhost:1", ""} {
			_, err := h.Site(host)
			requireFault(t, "passkeys_unavailable", err)
		}
	})
	each(t, public("https://192.0.2.1"), func(t *testing.T, h *house) {
		_, err := h.Site("localhost:8420")
		requireFault(t, "passkeys_unavailable", err)
	})
	each(t, public("https://Signalbox.example.com:443/"), func(t *testing.T, h *house) {
		at, err := h.Site("localhost:8420")
		require.NoError(t, err)
		other, err := h.Site("evil.example")
		require.NoError(t, err)
		require.Equal(t, at, other)
		h.admin()
		c := h.caller(h.enter(email))
		options, err := h.AskPasskey(t.Context(), c, at, identity.PasskeyRegister)
		require.NoError(t, err)
		require.Contains(t, string(options), `"id":"signalbox.example.com"`)
	})
	for _, bad := range []string{"", "signalbox.example.com", "http://signalbox.example.com", "https://", "https://a.example/path", "https://u@a.example", "https://a.example?x", "ftp://a.example", "https://a.example#x"} {
		_, err := identity.ParsePublicURL(bad)
		require.Error(t, err, bad)
	}
	u, err := identity.ParsePublicURL("http://localhost:8420")
	require.NoError(t, err)
	require.Equal(t, url.URL{Scheme: "http", Host: "localhost:8420"}, *u)
}
