package train_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// onceASecond is how late the end of a key by its expiry may be noticed, on a busy machine.
const onceASecond = 1300 * time.Millisecond

// revocation is one way to take a right away, and what the client is told mid-stream and at its next request.
type revocation struct {
	name         string
	do           func(t *testing.T, y *yard, key identity.Key, credential string) error
	cause, after string
	// timed ones are announced by no change: they come about by the clock.
	timed bool
}

func revocations() []revocation {
	return []revocation{
		{"revoke the key", func(t *testing.T, y *yard, k identity.Key, _ string) error {
			_, err := y.RevokeKey(t.Context(), y.admin, "web", k.ID, "")
			return err
		}, "unauthenticated", "unauthenticated", false},
		{"end the key by its expiry", func(t *testing.T, y *yard, k identity.Key, _ string) error {
			if _, err := y.UpdateKey(t.Context(), y.admin, "web", k.ID, identity.KeyPatch{SetExpiry: true, ExpiresAt: ptr(y.clock.Now().Add(time.Minute))}); err != nil {
				return err
			}
			y.clock.Add(time.Minute)
			return nil
		}, "unauthenticated", "unauthenticated", true},
		{"disable the train", func(t *testing.T, y *yard, _ identity.Key, _ string) error {
			_, err := y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Disabled: ptr(true)}, "")
			return err
		}, "train_disabled", "train_disabled", false},
		{"delete the train", func(t *testing.T, y *yard, _ identity.Key, _ string) error {
			return y.DeleteTrain(t.Context(), y.admin, "web", true, "")
		}, "unauthenticated", "unauthenticated", false},
		{"unlink the credential", func(t *testing.T, y *yard, _ identity.Key, id string) error {
			return y.Unlink(t.Context(), y.admin, "web", id, "")
		}, "no_account", "no_account", false},
		{"delete the credential", func(t *testing.T, y *yard, _ identity.Key, id string) error {
			return y.vault.Delete(t.Context(), y.admin, id, "")
		}, "no_account", "no_account", false},
		{"disable the credential", func(t *testing.T, y *yard, _ identity.Key, id string) error {
			_, err := y.vault.Update(t.Context(), y.admin, id, vault.Patch{State: vault.To(vault.Disabled)}, "")
			return err
		}, "no_account", "no_account", false},
		{"pause the account", func(t *testing.T, y *yard, _ identity.Key, id string) error {
			_, err := y.vault.SetLending(t.Context(), y.admin, id, vault.Paused, "for a test")
			return err
		}, "no_account", "no_account", false},
		{"mark the credential compromised", func(t *testing.T, y *yard, _ identity.Key, id string) error {
			_, err := y.vault.Update(t.Context(), y.admin, id, vault.Patch{State: vault.To(vault.Compromised)}, "")
			return err
		}, "no_account", "no_account", false},
	}
}

// requireCut waits for a lease to be cut, at most so long after the act was acknowledged.
func requireCut(t *testing.T, l *train.Lease, acknowledged time.Time, within time.Duration, code string) {
	t.Helper()
	select {
	case <-l.Context().Done():
	case <-time.After(3 * time.Second):
		t.Fatal("the lease was not cut")
	}
	require.LessOrEqual(t, time.Since(acknowledged), within)
	f, ok := fault.As(context.Cause(l.Context()))
	require.True(t, ok, "%v", context.Cause(l.Context()))
	require.Equal(t, code, f.Code)
	requireFault(t, code, l.Apply(request(t, "https://api.anthropic.com/")))
	l.Done(train.Outcome{Result: train.ClientCancelled})
}

// TestInvariant09RevocationCutsOpenLeases on the instance that took the order.
func TestInvariant09RevocationCutsOpenLeases(t *testing.T) {
	for _, c := range revocations() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, y *yard) {
				caller, key, id := y.line()
				// Somebody else's lease on the same account or by another key goes on, where it may.
				y.train("other", train.Hash)
				y.link("other", y.account("beta"))
				bystander, _ := y.key("other")
				other := y.lend(bystander, want())
				l, second := y.lend(caller, want()), y.lend(caller, want())
				require.NoError(t, c.do(t, y, key, id))
				acknowledged := time.Now()
				if !c.timed { // on the instance that takes the order, the order is carried out when it is acknowledged
					require.Error(t, l.Context().Err())
					require.Error(t, second.Context().Err())
				}
				requireCut(t, l, acknowledged, onceASecond, c.cause)
				requireCut(t, second, acknowledged, onceASecond, c.cause)
				y.refused(c.after, caller, want())
				require.NoError(t, other.Context().Err())
				require.Equal(t, "beta", sent(t, other))
				other.Done(train.Outcome{Result: train.OK})
				results := map[string]int{}
				for _, ev := range y.outcomes(3) {
					results[detail(t, ev, "result")]++
				}
				require.Equal(t, map[string]int{"ok": 1, "revoked": 2}, results)
			})
		})
	}
}

// TestInvariant09RevocationReachesOtherInstances of one PostgreSQL within a second.
func TestInvariant09RevocationReachesOtherInstances(t *testing.T) {
	for _, c := range revocations() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, store.Postgres)
			one, two := s.open(t), s.open(t)
			caller, key, id := one.line()
			two.eventuallyLends(caller)
			l := two.lend(caller, want())
			require.NoError(t, c.do(t, one, key, id))
			within := time.Second
			if c.timed {
				within = onceASecond
			}
			requireCut(t, l, time.Now(), within, c.cause)
			two.refused(c.after, caller, want())
		})
	}
}

// TestRotationCutsNothing: the running request keeps the secret that it was lent, the next one gets the new.
func TestRotationCutsNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, y *yard) {
		caller, _, id := y.line()
		l := y.lend(caller, want())
		y.rotate("alpha")
		_, err := y.vault.Update(t.Context(), y.admin, id, vault.Patch{Description: vault.To("new")}, "")
		require.NoError(t, err)
		_, err = y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Name: ptr("Web"), Strategy: ptr(train.Priority)}, "")
		require.NoError(t, err)
		_, _, err = y.ReplaceKey(t.Context(), y.admin, "web", caller.ID, identity.KeyReplacement{Overlap: time.Hour})
		require.NoError(t, err)
		time.Sleep(1200 * time.Millisecond) // a look for expired keys and several polls of the feed
		require.NoError(t, l.Context().Err())
		require.Equal(t, "alpha", sent(t, l))
		next := y.lend(caller, want())
		require.Equal(t, "alpha-rotated", sent(t, next))
		l.Done(train.Outcome{Result: train.OK})
		next.Done(train.Outcome{Result: train.OK})
	})
}

// TestRevocationRacesWithLending: a lease that is granted while its right is taken away is cut, however the two meet.
func TestRevocationRacesWithLending(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Hash)
		id := y.account("alpha")
		caller, _ := y.key("web")
		for range 15 {
			y.link("web", id)
			leases := make(chan *train.Lease, 64)
			stop := make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					select {
					case <-stop:
						return
					default:
					}
					if l, err := y.Lend(context.Background(), caller, want()); err == nil {
						select {
						case leases <- l:
						default:
							l.Done(train.Outcome{Result: train.OK})
						}
					}
				}
			}()
			time.Sleep(3 * time.Millisecond)
			require.NoError(t, y.Unlink(context.Background(), y.admin, "web", id, ""))
			acknowledged := time.Now()
			close(stop)
			<-done
			close(leases)
			for l := range leases {
				select {
				case <-l.Context().Done():
				case <-time.After(time.Until(acknowledged.Add(time.Second))):
					t.Fatal("a lease outlived its link")
				}
				l.Done(train.Outcome{Result: train.ClientCancelled})
			}
			require.Zero(t, y.OpenLeases())
		}
	})
}

// hold keeps every commit of the group waiting until the returned function is called.
func (s site) hold(t *testing.T) (release func()) {
	t.Helper()
	raw, err := sql.Open("pgx", s.cfg.PostgresURL.Reveal())
	require.NoError(t, err)
	tx, err := raw.Begin()
	require.NoError(t, err)
	_, err = tx.Exec(`LOCK TABLE audit_batches IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	return func() {
		require.NoError(t, tx.Rollback())
		require.NoError(t, raw.Close())
	}
}

// TestWhatHappensDuringTheCommit of an intent counts: a right that ended meanwhile is not used, and the record says so.
func TestWhatHappensDuringTheCommit(t *testing.T) {
	type granted struct {
		lease *train.Lease
		err   error
	}
	for _, c := range []struct {
		name    string
		during  func(t *testing.T, y *yard, key identity.Key, hangUp context.CancelFunc)
		check   func(t *testing.T, got granted)
		results []string
	}{
		{"key revoked", func(t *testing.T, y *yard, k identity.Key, _ context.CancelFunc) {
			_, err := y.RevokeKey(t.Context(), y.admin, "web", k.ID, "")
			require.NoError(t, err)
		}, func(t *testing.T, got granted) { requireFault(t, "unauthenticated", got.err) }, []string{"revoked"}},
		{"account unlinked", func(t *testing.T, y *yard, _ identity.Key, _ context.CancelFunc) {
			require.NoError(t, y.Unlink(t.Context(), y.admin, "web", "alpha", ""))
		}, func(t *testing.T, got granted) {
			require.NoError(t, got.err)
			require.Equal(t, "beta", sent(t, got.lease), "another account takes its place")
			require.Equal(t, 2, got.lease.Attempt())
			got.lease.Done(train.Outcome{Result: train.OK})
		}, []string{"revoked", "ok"}},
		{"account drained", func(t *testing.T, y *yard, _ identity.Key, _ context.CancelFunc) {
			_, err := y.vault.SetLending(t.Context(), y.admin, y.named("alpha"), vault.Drained, "")
			require.NoError(t, err)
		}, func(t *testing.T, got granted) {
			require.NoError(t, got.err)
			require.Equal(t, "beta", sent(t, got.lease), "another account takes its place")
			got.lease.Done(train.Outcome{Result: train.OK})
		}, []string{"revoked", "ok"}},
		{"client hung up", func(_ *testing.T, _ *yard, _ identity.Key, hangUp context.CancelFunc) { hangUp() },
			func(t *testing.T, got granted) { require.ErrorIs(t, got.err, context.Canceled) }, []string{"client_cancelled"}},
		{"instance closed", func(_ *testing.T, y *yard, _ identity.Key, _ context.CancelFunc) { y.Close() },
			func(t *testing.T, got granted) { requireFault(t, "draining", got.err) }, []string{"revoked"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, store.Postgres)
			y := s.open(t)
			y.train("web", train.Priority)
			y.linkAt("web", y.account("alpha"), 1)
			y.linkAt("web", y.account("beta"), 2)
			caller, key := y.key("web")
			release := s.hold(t)
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			done := make(chan granted, 1)
			go func() {
				l, err := y.Lend(ctx, caller, want())
				done <- granted{l, err}
			}()
			require.Eventually(t, func() bool { return y.OpenLeases() == 1 }, time.Second, time.Millisecond)
			c.during(t, y, key, hangUp)
			select {
			case <-done:
				t.Fatal("a lease came before its intent was durable")
			case <-time.After(50 * time.Millisecond):
			}
			release()
			got := <-done
			c.check(t, got)
			require.Zero(t, y.OpenLeases())
			for i, ev := range y.outcomes(len(c.results)) {
				require.Equal(t, c.results[i], detail(t, ev, "result"))
				_, unsent := ev.Details.Get("unsent")
				require.Equal(t, c.results[i] != "ok", unsent, "nothing left before the right had ended")
			}
			require.Len(t, y.events(store.LeaseGranted), len(c.results))
		})
	}
}

// TestInvariant09CutOffInstance: an instance that hears nothing from the database lends nothing after a second and cuts after ten.
func TestInvariant09CutOffInstance(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Postgres)
	y := s.open(t)
	caller, _, _ := y.line()
	raw, err := sql.Open("pgx", s.cfg.PostgresURL.Reveal())
	require.NoError(t, err)
	defer func() { _ = raw.Close() }()
	l := y.lend(caller, want())
	tx, err := raw.Begin()
	require.NoError(t, err)
	_, err = tx.Exec(`LOCK TABLE changes IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	start := time.Now()
	time.Sleep(1100 * time.Millisecond)
	y.refused("database_unavailable", caller, want())
	require.NoError(t, l.Context().Err())
	select {
	case <-l.Context().Done():
	case <-time.After(11 * time.Second):
		t.Fatal("the lease was not cut")
	}
	took := time.Since(start)
	require.Greater(t, took, 8*time.Second)
	require.Less(t, took, 10300*time.Millisecond)
	requireFault(t, "database_unavailable", context.Cause(l.Context()))
	l.Done(train.Outcome{Result: train.UpstreamBroke})
	require.NoError(t, tx.Rollback())
	y.eventuallyLends(caller)
	require.Equal(t, "revoked", detail(t, y.events(store.LeaseOutcome)[0], "result"))
}
