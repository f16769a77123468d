package vault_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

// crossing is a room of trains that stops each transaction that reads grants, once, in the middle: what it goes by is read, nothing is
// written yet. With last, it stops the one that takes something from that train instead.
type crossing struct {
	train    string
	last     string
	stopping bool
	arrived  chan struct{}
	release  chan struct{}

	mu        sync.Mutex
	seen      map[*store.Tx]bool
	withdrawn []string
}

func newCrossing(train string) *crossing {
	return &crossing{train: train, arrived: make(chan struct{}, 100), release: make(chan struct{}), seen: map[*store.Tx]bool{}}
}

func (c *crossing) TrainRef(_ *store.Tx, _ identity.Caller, ref string) (string, string, error) {
	if ref == "web" {
		return c.train, "web", nil
	}
	return "", "", fault.New(fault.NotFound, "not_found", "no such train")
}

func (c *crossing) Slugs(tx *store.Tx, _ identity.Caller, _ []string) (map[string]string, error) {
	c.mu.Lock()
	first := c.stopping && !c.seen[tx] && c.last == ""
	c.seen[tx] = true
	c.mu.Unlock()
	if first {
		c.arrived <- struct{}{}
		<-c.release
	}
	return map[string]string{c.train: "web"}, nil
}

func (c *crossing) Withdraw(_ *store.Tx, _ identity.Caller, train string, credentials []string) error {
	if train == c.last {
		c.arrived <- struct{}{}
		<-c.release
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if train == c.train {
		c.withdrawn = append(c.withdrawn, credentials...)
	}
	return nil
}

// cross runs two acts so that the second begins while the first is in the middle. It goes on when the second has come as far, or waits for
// the first.
func (c *crossing) cross(t *testing.T, f *fixture, acts [2]func() error) (errs [2]error) {
	t.Helper()
	c.mu.Lock()
	c.stopping = true
	c.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { errs[0] = acts[0]() })
	<-c.arrived
	both.Go(func() { errs[1] = acts[1]() })
	if f.db.Engine() == store.Postgres { // SQLite has one writer: there is nothing to see of the second
		require.Eventually(t, func() bool {
			select {
			case <-c.arrived:
				return true
			default:
				return f.count(t, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
			}
		}, 20*time.Second, 5*time.Millisecond)
	}
	close(c.release)
	both.Wait()
	return errs
}

// TestOneOfTwoGrantersWins: of two who set the grants of one scope, having seen the same ones, exactly one does.
func TestOneOfTwoGrantersWins(t *testing.T) {
	for _, kind := range []vault.ScopeKind{vault.OnCredential, vault.OnClient, vault.OnService} {
		t.Run(string(kind), func(t *testing.T) {
			each(t, func(t *testing.T, f *fixture) {
				first, second, before := f.somebody(t), f.somebody(t), f.somebody(t)
				scope := vault.Scope{Kind: kind, ID: "acme"}
				storetest.Homes(t, f.db, "", "acme", "")
				if kind == vault.OnCredential {
					scope.ID = f.create(t, apiKey("team")).ID
				}
				require.NoError(t, f.set(t, admin, scope, to(before, "use")))
				seen, err := f.Grants(t.Context(), admin, scope)
				require.NoError(t, err)
				c := newCrossing("train_web")
				f.LendTo(c)
				var acts [2]func() error
				for i, who := range []identity.Caller{first, second} {
					acts[i] = func() error {
						_, err := f.SetGrants(t.Context(), admin, scope, []vault.Grant{to(who, "use")}, seen.ETag())
						return err
					}
				}
				errs := c.cross(t, f, acts)
				lost := slices.IndexFunc(errs[:], func(err error) bool { return err != nil })
				require.GreaterOrEqual(t, lost, 0, "both have won")
				requireCode(t, errs[lost], "etag_mismatch")
				require.NoError(t, errs[1-lost])
				now, err := f.Grants(t.Context(), admin, scope)
				require.NoError(t, err)
				require.Len(t, now.Grants, 1)
				require.Equal(t, []identity.Caller{first, second}[1-lost].UserID, now.Grants[0].Party.ID)
			})
		})
	}
}

// TestTwoGrantsOfATrainEndTogether: a train that may use a credential by two grants loses both at the same moment, each time to somebody who
// still sees the other. It is unlinked all the same.
func TestTwoGrantsOfATrainEndTogether(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		train := f.train(t, "web")
		c := newCrossing(train)
		f.LendTo(c)
		cred := f.create(t, password("shared")) // of client_7
		scopes := []vault.Scope{on(cred.ID), {Kind: vault.OnClient, ID: "client_7"}}
		for _, scope := range scopes {
			require.NoError(t, f.set(t, admin, scope, toTrain("web")))
		}
		errs := c.cross(t, f, [2]func() error{
			func() error { return f.set(t, admin, scopes[0]) },
			func() error { return f.set(t, admin, scopes[1]) },
		})
		require.NoError(t, errs[0])
		require.NoError(t, errs[1])
		require.Equal(t, []string{cred.ID}, c.withdrawn)
	})
}

// TestAMoveMeetsATakenGrant: while a credential is moved from a client that lets a train use it to another that does so too, that other grant
// is taken. Neither act sees the other; the train is unlinked all the same.
func TestAMoveMeetsATakenGrant(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		train, last := f.train(t, "web"), f.train(t, "web-2")
		c := newCrossing(train)
		f.LendTo(c)
		cred := f.create(t, password("shared")) // of client_7
		acme := vault.Scope{Kind: vault.OnClient, ID: "acme"}
		require.NoError(t, f.set(t, admin, acme, toTrain("web")))
		f.exec(t, `INSERT INTO grants (scope, scope_id, grantee_id, train_id, may_use, may_reveal, may_manage, owner, granted_by, granted_at)
			SELECT 'client', 'client_7', id, id, 1, 0, 0, 0, '', 1 FROM trains`)
		c.last = last
		errs := c.cross(t, f, [2]func() error{
			func() error {
				_, err := f.Update(t.Context(), admin, cred.ID, vault.Patch{ClientID: vault.To("acme")}, "")
				return err
			},
			func() error {
				err := f.set(t, admin, acme)
				c.arrived <- struct{}{} // it has come past the other
				return err
			},
		})
		require.NoError(t, errs[0])
		require.NoError(t, errs[1])
		require.Equal(t, []string{cred.ID}, c.withdrawn)
	})
}

func toTrain(slug string) vault.Grant {
	return vault.Grant{Party: identity.Party{Kind: vault.PartyTrain, ID: slug}, Use: true}
}

// train makes a row of a train, for what points to it.
func (f *fixture) train(t *testing.T, slug string) string {
	t.Helper()
	id := store.NewID("train")
	f.exec(t, `INSERT INTO trains (id, slug, name, description, strategy, disabled, key_limit, created_at, updated_at, revision) VALUES ($1, $2, $2, '', 'hash', 0, 0, 1, 1, 1)`, id, slug)
	return id
}

// TestARevokedManagerGrantsNothing: who waits for the one that takes their right away, has lost it when their turn comes.
func TestARevokedManagerGrantsNothing(t *testing.T) {
	for _, kind := range []vault.ScopeKind{vault.OnCredential, vault.OnClient} {
		t.Run(string(kind), func(t *testing.T) {
			each(t, func(t *testing.T, f *fixture) {
				manager, friend := f.somebody(t), f.somebody(t)
				scope := vault.Scope{Kind: kind, ID: "acme"}
				if kind == vault.OnCredential {
					scope.ID = f.create(t, apiKey("team")).ID
				}
				c := newCrossing("train_web")
				f.LendTo(c)
				require.NoError(t, f.set(t, admin, scope, to(manager, "use manage")))
				errs := c.cross(t, f, [2]func() error{
					func() error { return f.set(t, admin, scope) },
					func() error { return f.set(t, manager, scope, to(manager, "use manage"), to(friend, "use")) },
				})
				require.NoError(t, errs[0])
				requireCode(t, errs[1], "not_found")
				require.Zero(t, f.count(t, `SELECT COUNT(*) FROM grants`))
			})
		})
	}
}
