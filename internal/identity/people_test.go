package identity_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func TestAdministratorIsMadeOnlyOnce(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			cfg := storetest.Config(t, e)
			houses := []*house{newHouse(t, cfg, newClock(), nil)}
			if e == store.Postgres {
				houses = append(houses, newHouse(t, cfg, newClock(), nil))
			}
			h := houses[0]
			has, err := h.HasAdministrator(t.Context())
			require.NoError(t, err)
			require.False(t, has)
			link, err := h.NewSetupLink(t.Context())
			require.NoError(t, err)

			const n = 8
			errs := make([]error, n)
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					who := string(rune('a'+i)) + "@example.com"
					if i%2 == 0 {
						_, errs[i] = houses[i%len(houses)].CreateAdministrator(t.Context(), identity.System("init"), who, "Ada", secret.FromString(password))
					} else {
						_, _, errs[i] = houses[i%len(houses)].Setup(t.Context(), door(), link, who, "Ada", secret.FromString(password))
					}
				})
			}
			wg.Wait()
			made := 0
			for _, err := range errs {
				if err == nil {
					made++
					continue
				}
				requireFault(t, "already_set_up", err)
			}
			require.Equal(t, 1, made)
			require.Len(t, h.eventsOf(store.UserCreate), 1)
			has, err = h.HasAdministrator(t.Context())
			require.NoError(t, err)
			require.True(t, has)
			_, err = h.NewSetupLink(t.Context())
			requireFault(t, "already_set_up", err)
		})
	}
}

func TestOnlyTheSystemMakesTheFirstAdministrator(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		make := func(c identity.Caller) error {
			_, err := h.CreateAdministrator(t.Context(), c, email, "Ada", secret.FromString(password))
			return err
		}
		requireFault(t, "unauthenticated", make(door()))
		require.Empty(t, h.events(), "what anybody can cause is not recorded one by one")
		requireFault(t, "forbidden", make(person(h.addUser(identity.Operator, true))))
		ev := h.eventsOf(store.IdentityRefused)
		require.Len(t, ev, 1)
		require.Equal(t, store.OutcomeRefused, ev[0].Outcome)
		require.Equal(t, "forbidden", ev[0].Reason)
	})
}

func TestPeopleInputIsChecked(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		good := secret.FromString(password)
		for _, c := range []struct {
			email, name string
			password    secret.Value
			pointers    []string
		}{
			{"", "Ada", good, []string{"/email"}},
			{"ada", "Ada", good, []string{"/email"}},
			{"Ada <ada@example.com>", "Ada", good, []string{"/email"}},
			{"ada@example.com\r\nX: y", "Ada", good, []string{"/email"}},
			{strings.Repeat("a", 250) + "@example.com", "Ada", good, []string{"/email"}},
			{email, "", good, []string{"/name"}},
			{email, "Ada", secret.FromString("11characters"[:11]), []string{"/password"}},
			{email, "Ada", secret.FromString(strings.Repeat("x", 1025)), []string{"/password"}},
			{"", "", secret.Value{}, []string{"/email", "/name", "/password"}},
		} {
			_, err := h.CreateAdministrator(t.Context(), identity.System("init"), c.email, c.name, c.password)
			f := requireFault(t, "validation_failed", err)
			var pointers []string
			for _, field := range f.Fields {
				pointers = append(pointers, field.Pointer)
			}
			require.Equal(t, c.pointers, pointers)
			require.NotContains(t, f.Detail, "X: y")
			require.NotContains(t, f.Detail, "aaa")
		}
		require.Empty(t, h.events())
		u, err := h.CreateAdministrator(t.Context(), identity.System("init"), " Ada@Example.com ", " Ada ", secret.FromString(strings.Repeat("x", 1024)))
		require.NoError(t, err)
		require.Equal(t, email, u.Email)
		require.Equal(t, "Ada", u.Name)
		require.Equal(t, identity.Administrator, u.Role)
		require.True(t, u.Active)
	})
}

func TestSetupLink(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		setup := func(link secret.Value, password string) (identity.User, secret.Value, error) {
			return h.Setup(t.Context(), door(), link, email, "Ada", secret.FromString(password))
		}
		first, err := h.NewSetupLink(t.Context())
		require.NoError(t, err)
		second, err := h.NewSetupLink(t.Context())
		require.NoError(t, err)
		_, _, err = setup(first, password)
		requireFault(t, "setup_refused", err) // replaced by the second
		for _, junk := range []string{"", "sbs_", "sbs_" + strings.Repeat("a", 38), second.Reveal() + "x"} {
			_, _, err = setup(secret.FromString(junk), password)
			requireFault(t, "setup_refused", err)
		}

		h.clock.Add(identity.SetupLife)
		_, _, err = setup(second, password)
		requireFault(t, "setup_refused", err) // expired
		third, err := h.NewSetupLink(t.Context())
		require.NoError(t, err)
		h.clock.Add(identity.SetupLife - time.Microsecond)
		_, _, err = setup(third, "too short")
		requireFault(t, "validation_failed", err) // and the link is not used up
		u, token, err := setup(third, password)
		require.NoError(t, err)
		require.Equal(t, email, u.Email)

		caller, err := h.Token(token.Reveal())
		require.NoError(t, err)
		require.Equal(t, u.ID, caller.UserID)
		for _, row := range identity.Permissions() {
			require.NoError(t, identity.Allow(caller, row.Permission))
		}
		_, _, err = setup(third, password)
		requireFault(t, "already_set_up", err) // single use
		var left int
		require.NoError(t, h.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&left, `SELECT COUNT(*) FROM setup_links`) }))
		require.Zero(t, left)

		events := h.events()
		require.Equal(t, []store.Action{
			store.IdentitySetup, store.IdentitySetup, store.IdentitySetup, store.IdentitySetup, store.UserCreate, store.TokenIssue,
		}, actions(events))
		require.Equal(t, "used", detail(t, events[3], "step"))
		require.Equal(t, "192.0.2.7", events[3].IP)
		require.Equal(t, store.Actor{Kind: "person", ID: u.ID, Name: "Ada"}, events[5].Actor)
		require.NoError(t, h.Flush(t.Context()))
		failed := h.eventsOf(store.IdentityFailed)
		require.Len(t, failed, 1)
		require.Equal(t, "6", detail(t, failed[0], "setup_link"))
	})
}

func TestPasswordsAreArgon2id(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		u, _ := h.admin()
		var hash string
		require.NoError(t, h.db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Get(&hash, `SELECT password_hash FROM users WHERE id = $1`, u.ID)
		}))
		parts := strings.Split(hash, "$")
		require.Len(t, parts, 6)
		require.Equal(t, []string{"argon2id", "v=19", "m=19456,t=2,p=1"}, parts[1:4])
		require.Len(t, parts[4], 22, "16 bytes of salt")
		require.Len(t, parts[5], 43, "32 bytes of key")
	})
}

func TestLogin(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		u, _ := h.admin()
		h.addUser(identity.Member, true)
		login := func(email, password string) (identity.User, error) {
			in, err := h.Login(t.Context(), door(), email, secret.FromString(password), identity.SessionBrowser)
			return in.User, err
		}
		got, err := login("ADA@example.com ", password)
		require.NoError(t, err)
		require.Equal(t, u, got)
		ev := h.eventsOf(store.IdentityLogin)
		require.Len(t, ev, 1)
		require.Equal(t, u.ID, ev[0].Actor.ID)
		require.Equal(t, "192.0.2.7", ev[0].IP)

		var texts []string
		for _, c := range [][2]string{{email, password + "x"}, {email, ""}, {"bob@example.com", password}, {"", password}, {email, strings.Repeat("x", 1<<20)}, {"' OR 1=1 --", password}} {
			_, err := login(c[0], c[1])
			texts = append(texts, requireFault(t, "login_failed", err).Detail)
		}
		for _, text := range texts {
			require.Equal(t, texts[0], text, "the answers must not tell who exists")
		}
		require.NoError(t, h.write(func(tx *store.Tx) error {
			if _, err := tx.Exec(`UPDATE users SET active = 0 WHERE id = $1`, u.ID); err != nil {
				return err
			}
			tx.Change(store.TopicUser, u.ID)
			return tx.Record(identity.System("test").Event(store.UserCreate, u.Target()))
		}))
		_, err = login(email, password)
		requireFault(t, "login_failed", err)
		has, err := h.HasAdministrator(t.Context())
		require.NoError(t, err)
		require.True(t, has, "a deactivated administrator must not open the set-up again")
	})
}

// computed is what this process has used of the processors: on a machine that does other things as well, the time of a clock tells of those.
func computed(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// TestLoginTakesTheSameWorkForUnknownPeople compares the fastest of interleaved rounds, which a busy machine disturbs least. The work is some
// 30 ms of Argon2id; without it the answer would come in a hundredth of that.
func TestLoginTakesTheSameWorkForUnknownPeople(t *testing.T) {
	h := newHouse(t, storetest.Config(t, store.SQLite), newClock(), nil)
	h.admin()
	unset := h.addUser(identity.Member, true) // has no password
	who := []string{email, "nobody@example.com", unset.Email}
	took := make([][]time.Duration, len(who))
	for range 9 {
		for i, w := range who {
			h.clock.Add(24 * time.Hour) // guesses that far apart do not wait
			before := computed(t)
			_, err := h.Login(context.Background(), door(), w, secret.FromString("not the password"), identity.SessionBrowser)
			took[i] = append(took[i], computed(t)-before)
			requireFault(t, "login_failed", err)
		}
	}
	known := slices.Min(took[0])
	for i := 1; i < len(who); i++ {
		ratio := float64(slices.Min(took[i])) / float64(known)
		require.Greater(t, ratio, 0.5, "known %v, %s %v", known, who[i], took[i])
		require.Less(t, ratio, 2.0, "known %v, %s %v", known, who[i], took[i])
	}
}

// TestTheLocalOperatorCannotBeTheAdministrator: it does not count as one, so the set-up would stay open for somebody else.
func TestTheLocalOperatorCannotBeTheAdministrator(t *testing.T) {
	h := newHouse(t, storetest.Config(t, store.SQLite), newClock(), nil)
	_, err := h.CreateAdministrator(t.Context(), identity.System("init"), strings.ToUpper(identity.LocalOperator), "Ada", secret.FromString(password))
	requireFault(t, "already_exists", err)
	require.Empty(t, h.events())
}
