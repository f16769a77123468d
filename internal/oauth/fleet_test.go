package oauth_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// effort is a way to bring a newer generation than the one that a caller has.
type effort func(id string, generation int64) (int64, error)

// report is what a fleet of processes did to one connection.
type report struct {
	expiries, calls, revoked, failed int
	// lost says that the stored refresh token is no token that the provider would take.
	lost bool
}

// fine is the promise: one call per expiry, nothing lost, nobody failed.
func (r report) fine() bool {
	return r.calls == r.expiries && r.revoked == 0 && r.failed == 0 && !r.lost
}

// fleet has callers in each process ask for a fresh token at the same moment, again and again.
func (s *site) fleet(t *testing.T, id string, view *process, processes []effort, callers, expiries int) report {
	t.Helper()
	out := report{expiries: expiries}
	for range expiries {
		s.clock.Add(s.server.lifetime)
		_, _, generation := view.pair(t, id)
		start := make(chan struct{})
		var failed atomic.Int64
		var wg sync.WaitGroup
		for _, bring := range processes {
			for range callers {
				wg.Go(func() {
					<-start
					if v, err := bring(id, generation); err != nil || v <= generation {
						failed.Add(1)
					}
				})
			}
		}
		close(start)
		wg.Wait()
		out.failed += int(failed.Load())
	}
	out.calls, out.revoked = s.server.count(), s.server.revoked()
	_, refresh, _ := view.pair(t, id)
	s.server.mu.Lock()
	token := s.server.tokens[refresh]
	out.lost = token == nil || s.server.dead[token.grant] || !token.spent.IsZero()
	s.server.mu.Unlock()
	return out
}

// TestInvariant2OneCallPerGeneration: three processes, many callers each, one expiry after the other, against a provider that revokes the grant of
// a token that comes twice.
func TestInvariant2OneCallPerGeneration(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		callers, expiries := 50, 5
		if testing.Short() {
			callers = 15
		}
		var all []*process
		var efforts []effort
		for range 3 {
			p := s.open()
			all = append(all, p)
			efforts = append(efforts, func(id string, generation int64) (int64, error) {
				return p.Fresh(context.Background(), id, generation, oauth.Needed)
			})
		}
		id := s.connect(all[0])
		r := s.fleet(t, id, all[0], efforts, callers, expiries)
		require.True(t, r.fine(), "%+v", r)
		require.Len(t, all[0].events(t, store.OAuthRefresh), 2*expiries, "each call has one intent and one outcome")
		crossed := int64(0)
		for _, p := range all {
			_, w := p.Counts()
			crossed += w.Crossed
		}
		require.NotZero(t, crossed, "processes did wait for one another")
	})
}

// naive are ways to refresh that look right. They are here to see that the check above finds each of them out.
func naive(s *site, p *process, global *sync.Mutex) map[string]effort {
	type seen struct {
		version int64
		refresh string
	}
	read := func(id string) (out seen, err error) {
		err = p.db.Write(context.Background(), func(tx *store.Tx) error {
			g, err := p.vault.OpenGrant(tx, id)
			if err != nil {
				return err
			}
			out = seen{g.Version, g.RefreshToken.Reveal()}
			return errRollback
		})
		if errors.Is(err, errRollback) {
			err = nil
		}
		return out, err
	}
	call := func(id string, have seen) (int64, error) {
		a := s.server.Refresh(context.Background(), provider.Provider{}, provider.Grant{RefreshToken: secret.FromString(have.refresh)})
		if a.Verdict != provider.Issued {
			return 0, errKilled
		}
		var version int64
		err := p.db.Write(context.Background(), func(tx *store.Tx) error {
			g, err := p.vault.OpenGrant(tx, id)
			if err != nil {
				return err
			}
			version, err = p.vault.Renew(tx, admin(), g, vault.Renewal{Access: a.Tokens.Access, Refresh: a.Tokens.Refresh, Action: store.OAuthRefresh})
			return err
		})
		return version, err
	}
	var mine sync.Mutex
	return map[string]effort{
		"no lock": func(id string, generation int64) (int64, error) {
			have, err := read(id)
			if err != nil || have.version > generation {
				return have.version, err
			}
			return call(id, have)
		},
		"a lock of the process": func(id string, generation int64) (int64, error) {
			mine.Lock()
			defer mine.Unlock()
			have, err := read(id)
			if err != nil || have.version > generation {
				return have.version, err
			}
			return call(id, have)
		},
		"a lock for all without reading again": func(id string, generation int64) (int64, error) {
			have, err := read(id)
			if err != nil || have.version > generation {
				return have.version, err
			}
			global.Lock()
			defer global.Unlock()
			return call(id, have)
		},
		"deletion on invalid_grant": func(id string, generation int64) (int64, error) {
			have, err := read(id)
			if err != nil || have.version > generation {
				return have.version, err
			}
			v, err := call(id, have)
			if errors.Is(err, errKilled) {
				_, err = p.vault.Rotate(context.Background(), admin(), id, map[string]secret.Value{"refresh_token": secret.FromString("gone")}, "invalid_grant")
			}
			return v, err
		},
	}
}

// TestNaiveRefreshesAreFoundOut: each naive way loses the grant or calls too often, and the check says so.
func TestNaiveRefreshesAreFoundOut(t *testing.T) {
	for _, name := range []string{"no lock", "a lock of the process", "a lock for all without reading again", "deletion on invalid_grant"} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *site) {
				var global sync.Mutex
				var efforts []effort
				var first *process
				// The provider takes its time, so that those who come at the same moment meet.
				var under atomic.Int64
				for range 3 {
					p := s.open()
					if first == nil {
						first = p
					}
					efforts = append(efforts, naive(s, p, &global)[name])
				}
				s.server.hold(func() {
					under.Add(1)
					for limit := time.Now().Add(50 * time.Millisecond); under.Load() < 3 && time.Now().Before(limit); {
						time.Sleep(time.Millisecond)
					}
				})
				id := s.connect(first)
				r := s.fleet(t, id, first, efforts, 10, 2)
				require.False(t, r.fine(), "%+v", r)
				require.True(t, r.lost || r.revoked > 0, "%+v: reuse costs the grant", r)
			})
		})
	}
}

// TestInvariant3PairsAreWhole: while refreshes go on, whoever reads sees an access token and the refresh token that came with it, and a
// generation that never decreases.
func TestInvariant3PairsAreWhole(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p, q := s.open(), s.open()
		id := s.connect(p)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var reads atomic.Int64
		for _, reader := range []*process{p, q} {
			wg.Go(func() {
				last := int64(0)
				for {
					select {
					case <-stop:
						return
					default:
					}
					access, refresh, version := reader.pair(t, id)
					if access[len("at-"):] != refresh[len("rt-"):] || version < last {
						t.Errorf("version %d after %d: torn", version, last)
						return
					}
					last = version
					reads.Add(1)
				}
			})
		}
		for i := range 10 {
			one := []*process{p, q}[i%2]
			one.mustRefresh(t, id)
		}
		close(stop)
		wg.Wait()
		require.NotZero(t, reads.Load())
		_, _, version := p.pair(t, id)
		require.EqualValues(t, 11, version)
	})
}

// TestAStoppedDatabaseLosesNothing: the line to PostgreSQL is cut between the answer and the commit.
func TestAStoppedDatabaseLosesNothing(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		if s.cfg.PostgresURL.IsZero() {
			return // TestTheDatabaseIsAwayWhenTheAnswerComes has it
		}
		s.stoppedDatabase(t)
	})
}

func (s *site) stoppedDatabase(t *testing.T) {
	t.Helper()
	line := storetestLine(t, s)
	p := s.open()
	id := s.connect(p)
	p.meets(oauth.AtSpilled, line.Cut)
	_, err := p.Fresh(t.Context(), id, 1, oauth.Needed)
	require.Error(t, err)
	require.Equal(t, 1, p.Owed())
	line.Mend()
	require.Eventually(t, func() bool { return p.Owed() == 0 }, 30*time.Second, 10*time.Millisecond)
	_, _, version := p.pair(t, id)
	require.EqualValues(t, 2, version)
	require.Equal(t, 1, s.server.count())
	s.cleared()
}
