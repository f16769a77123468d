package identity_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/alexedwards/argon2id"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func (h *house) add(email string, role identity.Role) identity.User {
	h.t.Helper()
	u, _, err := h.CreateUser(h.t.Context(), identity.System("test"), identity.UserDraft{Email: email, Name: "Somebody", Role: role, Password: secret.FromString(password)})
	require.NoError(h.t, err)
	return u
}

// TestTheLastAdministratorStays: two administrators who demote and deactivate each other at once leave one.
func TestTheLastAdministratorStays(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		ada, admin := h.admin()
		for _, p := range []identity.UserPatch{{Active: ptr(false)}, {Role: ptr(identity.Member)}} {
			_, err := h.UpdateUser(t.Context(), identity.System("test"), ada.ID, p)
			requireFault(t, "last_administrator", err)
		}
		invited, _, err := h.CreateUser(t.Context(), admin, identity.UserDraft{Email: "eve@example.com", Name: "Eve", Role: identity.Administrator})
		require.NoError(t, err)
		require.True(t, invited.Invited)
		_, err = h.OperatorToken(t.Context(), identity.System("test"))
		require.NoError(t, err)
		_, err = h.UpdateUser(t.Context(), admin, ada.ID, identity.UserPatch{Active: ptr(false)})
		requireFault(t, "last_administrator", err) // neither who was only invited nor the local operator can sign in

		for range 5 {
			bob := h.add(store.NewID("b")+"@example.com", identity.Administrator)
			users := []identity.User{ada, bob}
			var wg sync.WaitGroup
			errs := make([]error, 2)
			for i := range users {
				wg.Go(func() {
					_, errs[i] = h.UpdateUser(t.Context(), person(users[i]), users[1-i].ID, identity.UserPatch{Role: ptr(identity.Member)})
				})
			}
			wg.Wait()
			failed := slices.IndexFunc(errs, func(err error) bool { return err != nil })
			require.NotEqual(t, -1, failed, "both were demoted")
			require.NoError(t, errs[1-failed])
			var left []string
			require.NoError(t, h.db.Read(t.Context(), func(tx *store.Tx) error {
				return tx.Select(&left, `SELECT id FROM users WHERE role = 'administrator' AND active = 1 AND password_hash <> ''`)
			}))
			require.Len(t, left, 1)
			ada = users[slices.IndexFunc(users, func(u identity.User) bool { return u.ID == left[0] })]
		}
	})
}

func TestNobodyChangesTheirOwnRole(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		ada, admin := h.admin()
		bob := h.add("bob@example.com", identity.Administrator)
		max := h.add("max@example.com", identity.Member)
		_, err := h.UpdateUser(t.Context(), admin, ada.ID, identity.UserPatch{Role: ptr(identity.Operator)})
		requireFault(t, "forbidden", err)
		_, err = h.UpdateUser(t.Context(), person(max), max.ID, identity.UserPatch{Role: ptr(identity.Administrator)})
		requireFault(t, "forbidden", err)
		_, err = h.UpdateUser(t.Context(), person(max), max.ID, identity.UserPatch{Email: ptr("eve@example.com")})
		requireFault(t, "forbidden", err)
		for _, id := range []string{bob.ID, "user_00000000000000000000000000", ""} {
			_, err = h.UpdateUser(t.Context(), person(max), id, identity.UserPatch{Name: ptr("Eve")})
			requireFault(t, "not_found", err) // alike whether there is one or not
			_, err = h.User(t.Context(), person(max), id)
			requireFault(t, "not_found", err)
		}
		own, err := h.UpdateUser(t.Context(), person(max), max.ID, identity.UserPatch{Name: ptr(" Maximilian ")})
		require.NoError(t, err)
		require.Equal(t, "Maximilian", own.Name)

		in, err := h.Login(t.Context(), at("192.0.2.1"), "max@example.com", secret.FromString(password), identity.SessionBrowser)
		require.NoError(t, err)
		_, err = h.UpdateUser(t.Context(), admin, max.ID, identity.UserPatch{Role: ptr(identity.Operator), IfMatch: `"0"`})
		requireFault(t, "etag_mismatch", err)
		_, err = h.who(in)
		require.NoError(t, err)
		_, err = h.UpdateUser(t.Context(), admin, max.ID, identity.UserPatch{Role: ptr(identity.Operator)})
		require.NoError(t, err)
		_, err = h.who(in)
		requireFault(t, "unauthenticated", err) // another role, another session
		_, err = h.UpdateUser(t.Context(), admin, max.ID, identity.UserPatch{Role: ptr(identity.Role("emperor"))})
		requireFault(t, "validation_failed", err)
		_, err = h.UpdateUser(t.Context(), admin, max.ID, identity.UserPatch{Email: ptr("BOB@example.com")})
		requireFault(t, "already_exists", err)
		role := h.eventsOf(store.UserRole)
		require.Len(t, role, 1)
		require.Equal(t, "member", detail(t, role[0], "from"))
		require.Equal(t, "operator", detail(t, role[0], "to"))
	})
}

func TestLinksWorkOnce(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		_, admin := h.admin()
		bob, link, err := h.CreateUser(t.Context(), admin, identity.UserDraft{Email: "bob@example.com", Name: "Bob", Role: identity.Member})
		require.NoError(t, err)
		require.Equal(t, identity.InviteLife, link.ExpiresAt.Sub(h.clock.Now()))
		use := func(link secret.Value, password string) error {
			_, err := h.SetPassword(t.Context(), door(), link, secret.FromString(password))
			return err
		}
		requireFault(t, "validation_failed", use(link.Secret, "short"))
		requireFault(t, "link_refused", use(secret.FromString("sbi_garbage"), password))
		_, again, err := h.ResetPassword(t.Context(), admin, bob.ID)
		require.NoError(t, err)
		require.Len(t, h.eventsOf(store.UserInvite), 2, "a reset of who has no password is another invitation")
		requireFault(t, "link_refused", use(link.Secret, password)) // the newer one counts
		h.clock.Add(identity.InviteLife)
		requireFault(t, "link_refused", use(again.Secret, password))
		_, again, err = h.ResetPassword(t.Context(), identity.System("test"), bob.ID)
		require.NoError(t, err)
		require.NoError(t, use(again.Secret, password))
		requireFault(t, "link_refused", use(again.Secret, password))

		in, err := h.Login(t.Context(), at("192.0.2.1"), "bob@example.com", secret.FromString(password), identity.SessionBrowser)
		require.NoError(t, err)
		_, reset, err := h.ResetPassword(t.Context(), identity.System("test"), bob.ID)
		require.NoError(t, err)
		_, err = h.who(in)
		requireFault(t, "unauthenticated", err)
		_, err = h.Login(t.Context(), at("192.0.2.1"), "bob@example.com", secret.FromString(password), identity.SessionBrowser)
		requireFault(t, "login_failed", err) // the password is void at once
		_, err = h.UpdateUser(t.Context(), identity.System("test"), bob.ID, identity.UserPatch{Active: ptr(false)})
		require.NoError(t, err)
		requireFault(t, "link_refused", use(reset.Secret, password))
		_, _, err = h.ResetPassword(t.Context(), identity.System("test"), bob.ID)
		requireFault(t, "state_conflict", err)
		require.EqualValues(t, 5, h.Failures()[identity.FailedLink])
		for _, text := range []string{link.Secret.Reveal(), again.Secret.Reveal(), reset.Secret.Reveal(), password} {
			require.NotContains(t, h.log.String(), text)
			for _, ev := range h.events() {
				require.NotContains(t, ev.Reason+ev.Target.Name+ev.Actor.Name, text)
			}
		}
	})
}

// TestAWeakerHashIsReplacedAtLogin: parameters that were fine once are not for ever.
func TestAWeakerHashIsReplacedAtLogin(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		u, _ := h.admin()
		weak, err := argon2id.CreateHash(password, &argon2id.Params{Memory: 8 * 1024, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32})
		require.NoError(t, err)
		require.NoError(t, h.write(func(tx *store.Tx) error {
			if _, err := tx.Exec(`UPDATE users SET password_hash = $1 WHERE id = $2`, weak, u.ID); err != nil {
				return err
			}
			return tx.Record(identity.System("test").Event(store.UserUpdate, u.Target()))
		}))
		hash := func() (text string) {
			require.NoError(t, h.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&text, `SELECT password_hash FROM users WHERE id = $1`, u.ID) }))
			return text
		}
		_, err = h.Login(t.Context(), at("192.0.2.1"), email, secret.FromString("wrong"), identity.SessionBrowser)
		requireFault(t, "login_failed", err)
		require.Equal(t, weak, hash())
		h.login("192.0.2.1")
		strong := hash()
		require.Contains(t, strong, "$m=19456,t=2,p=1$")
		h.login("192.0.2.1")
		require.Equal(t, strong, hash(), "what is strong enough stays")
	})
}

// TestBreachedPasswordsAreRefused looks passwords up in a list as it is published, at every place of it.
func TestBreachedPasswordsAreRefused(t *testing.T) {
	var lines, known []string
	for i := range 300 {
		p := "a long enough password " + itoa(i)
		sum := sha1.Sum([]byte(p))
		known = append(known, p)
		lines = append(lines, strings.ToUpper(hex.EncodeToString(sum[:]))+":"+itoa(i*i*i+1))
	}
	slices.Sort(lines)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"windows": strings.Join(lines, "\r\n") + "\r\n", "no last newline": strings.Join(lines, "\n"), "lower case": strings.ToLower(strings.Join(lines, "\n")) + "\n",
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		list, err := identity.OpenBreached(path)
		require.NoError(t, err, name)
		h := newHouse(t, storetest.Config(t, store.SQLite), newClock(), func(c *identity.Config) { c.Breached = list })
		create := func(p string) error {
			_, _, err := h.CreateUser(t.Context(), identity.System("test"), identity.UserDraft{Email: store.NewID("u") + "@example.com", Name: "x", Role: identity.Member, Password: secret.FromString(p)})
			return err
		}
		for _, p := range known {
			f := requireFault(t, "validation_failed", create(p))
			require.Contains(t, f.Detail, "breach")
			require.NotContains(t, f.Detail, p)
		}
		require.NoError(t, create("a password that nobody had"))
		require.NoError(t, list.Close())
	}
	for name, text := range map[string]string{"unsorted": lines[1] + "\n" + lines[0] + "\n", "other text": "password\n123456\n", "long lines": strings.Repeat("x", 1000)} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := identity.OpenBreached(path)
		require.Error(t, err, name)
	}
	_, err := identity.OpenBreached(filepath.Join(dir, "missing"))
	require.Error(t, err)
	require.False(t, bytes.Contains([]byte(err.Error()), []byte(dir)))
}

func TestListOfPeople(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		_, admin := h.admin()
		for i := range 4 {
			h.add("p"+itoa(i)+"@example.com", identity.Operator)
		}
		one, next, err := h.Users(t.Context(), admin, identity.UserFilter{Limit: 3})
		require.NoError(t, err)
		require.Len(t, one, 3)
		two, last, err := h.Users(t.Context(), admin, identity.UserFilter{Limit: 3, Cursor: next})
		require.NoError(t, err)
		require.Len(t, two, 2)
		require.Empty(t, last)
		require.Equal(t, email, two[1].Email)
		_, _, err = h.Users(t.Context(), admin, identity.UserFilter{Cursor: "planted"})
		requireFault(t, "validation_failed", err)
		some, _, err := h.Users(t.Context(), admin, identity.UserFilter{Role: identity.Administrator, Active: ptr(true)})
		require.NoError(t, err)
		require.Len(t, some, 1)
		_, _, err = h.Users(t.Context(), person(one[0]), identity.UserFilter{})
		requireFault(t, "forbidden", err)
	})
}
