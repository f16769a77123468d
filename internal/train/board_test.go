package train_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// follower is a room that hears of changes when the test wants it to, in batches of the test's making.
type follower struct {
	*train.Room
	t     *testing.T
	tape  *tape
	mu    sync.Mutex
	heard []store.Change
	rng   *rand.Rand
}

// openFollowed opens an instance with a follower beside.
func openFollowed(t *testing.T, s site) (*yard, *follower) {
	t.Helper()
	f := &follower{t: t, tape: newTape(), rng: rand.New(rand.NewPCG(1, 2))}
	s.before = func(y *yard) {
		room, err := train.NewDeaf(train.Config{DB: y.db, Vault: y.vault, Identity: y.ids, Keyless: s.keyless, Meters: f.tape, Clock: s.clock.Now})
		require.NoError(t, err)
		f.Room = room
		y.db.Subscribe(func(_ context.Context, changes []store.Change) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.heard = append(f.heard, changes...)
			return nil
		})
	}
	return s.open(t), f
}

// hear returns what was heard since the last call, in any order, with more changes among it.
func (f *follower) hear(more ...store.Change) []store.Change {
	f.mu.Lock()
	batch := append(f.heard, more...)
	f.heard = nil
	f.mu.Unlock()
	f.rng.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
	return batch
}

// takeIn hands everything that was heard to the follower, at once.
func (f *follower) takeIn() {
	f.t.Helper()
	require.NoError(f.t, f.Follow(f.t.Context(), f.hear()))
}

// takeInParts does so in several batches, of which the later may tell of what was before.
func (f *follower) takeInParts(all []store.Change) {
	f.t.Helper()
	for part := range slices.Chunk(all, 1+f.rng.IntN(len(all)+1)) {
		require.NoError(f.t, f.Follow(f.t.Context(), part))
	}
}

// requireTrue compares what a room made of the changes with what it would have read.
func requireTrue(t *testing.T, r *train.Room) train.Picture {
	t.Helper()
	want, err := r.Loaded(t.Context())
	require.NoError(t, err)
	got := r.Picture()
	require.Equal(t, want, got)
	return got
}

func (f *follower) requireTrue() train.Picture {
	f.t.Helper()
	p := requireTrue(f.t, f.Room)
	require.Equal(f.t, p.Meters, f.tape.uses)
	require.NotContains(f.t, f.tape.said, "dropped once too often")
	return p
}

// TestBoardEqualsAReload: whatever is changed in whatever order, what a room makes of the changes is what it would read anew: after each
// change alone, and after batches of many.
func TestBoardEqualsAReload(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			s := newSite(t, e)
			s.keyless = true
			y, f := openFollowed(t, s)
			f.takeIn() // the reset of the start
			m := &model{yard: y, rng: rand.New(rand.NewPCG(seed, 1)), ctx: t.Context()}
			f.rng = m.rng
			steps := 400
			if testing.Short() {
				steps = 100
			}
			for step := range steps {
				m.step()
				requireTrue(t, y.Room)
				if m.rng.IntN(6) == 0 || step == steps-1 {
					var reset []store.Change
					if m.rng.IntN(8) == 0 {
						reset = []store.Change{{Topic: store.TopicReset}}
					}
					if all := f.hear(reset...); m.rng.IntN(2) == 0 {
						require.NoError(t, f.Follow(t.Context(), all))
					} else {
						f.takeInParts(all)
					}
					f.requireTrue()
				}
			}
			require.NotZero(t, len(m.trains)+len(m.creds))
		})
	}
}

// model makes random changes. What is refused is no change.
type model struct {
	*yard
	ctx    context.Context
	rng    *rand.Rand
	made   int
	trains []string
	creds  []string
}

func (m *model) step() {
	pick := func(from []string) string {
		if len(from) == 0 {
			return "none"
		}
		return from[m.rng.IntN(len(from))]
	}
	t, c := pick(m.trains), pick(m.creds)
	flip := m.rng.IntN(2) == 0
	m.made++
	switch n := m.rng.IntN(30); {
	case n < 3 || len(m.trains) == 0:
		slug := fmt.Sprintf("train-%d", m.rng.IntN(40)) // a slug may come back
		if _, err := m.CreateTrain(m.ctx, m.admin, train.Draft{Slug: slug, Strategy: []train.Strategy{train.Hash, train.Priority}[m.rng.IntN(2)]}); err == nil {
			m.trains = append(m.trains, slug)
		}
	case n < 6 || len(m.creds) == 0:
		if m.rng.IntN(6) == 0 {
			m.creds = append(m.creds, m.password(fmt.Sprintf("plain-%d", m.made)))
		} else {
			m.creds = append(m.creds, m.account(fmt.Sprintf("account-%d", m.made)))
		}
	case n < 14:
		priority, alias := m.rng.IntN(3), fmt.Sprintf("alias-%d", m.rng.IntN(20))
		_, _, _ = m.Link(m.ctx, m.admin, t, train.LinkDraft{Credential: c, Priority: &priority, Alias: &alias})
	case n < 17:
		_ = m.Unlink(m.ctx, m.admin, t, c, "")
	case n < 18: // away and back, which a batch shows as one change
		_ = m.Unlink(m.ctx, m.admin, t, c, "")
		_, _, _ = m.Link(m.ctx, m.admin, t, train.LinkDraft{Credential: c})
	case n < 19:
		m.drop(&m.trains, t, m.DeleteTrain(m.ctx, m.admin, t, true, ""))
	case n < 20: // another one of that name takes its place
		if m.DeleteTrain(m.ctx, m.admin, t, true, "") == nil {
			m.train(t, train.Hash)
			_, _, _ = m.Link(m.ctx, m.admin, t, train.LinkDraft{Credential: c})
		}
	case n < 21:
		m.drop(&m.creds, c, m.vault.Delete(m.ctx, m.admin, c, ""))
	case n < 23:
		_, _ = m.UpdateTrain(m.ctx, m.admin, t, train.Patch{Disabled: &flip, Strategy: ptr([]train.Strategy{train.Hash, train.Priority}[m.rng.IntN(2)])}, "")
	case n < 25:
		_, _ = m.vault.Rotate(m.ctx, m.admin, c, secrets("api_key", fmt.Sprintf("sk-%d-%s", m.made, planted)), "test")
	case n < 26:
		_, _ = m.vault.Update(m.ctx, m.admin, c, vault.Patch{Name: vault.To(fmt.Sprintf("renamed-%d", m.made))}, "")
	case n < 28:
		state := vault.Active
		if flip {
			state = vault.Disabled
		}
		_, _ = m.vault.Update(m.ctx, m.admin, c, vault.Patch{State: vault.To(state)}, "")
	default:
		caller, err := m.Keyless(t)
		if err != nil {
			return
		}
		caller.RequestID, caller.IP = "req_1", "198.51.100.7"
		if l, err := m.Lend(m.ctx, caller, want()); err == nil {
			if next, err := l.Next(m.ctx, train.Failure{Status: 500}); err == nil {
				next.Done(train.Outcome{Result: train.OK})
			}
		}
		m.clock.Add(time.Second)
	}
}

func (m *model) drop(from *[]string, what string, err error) {
	if err == nil {
		*from = slices.DeleteFunc(*from, func(s string) bool { return s == what })
	}
}

// TestSlugOfTheNextTrain: a train that took the slug of one that is gone keeps it, whichever is heard of first and whatever is heard of
// an account of the last one in between.
func TestSlugOfTheNextTrain(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			s.keyless = true
			y, f := openFollowed(t, s)
			alpha := y.account("alpha")
			old := y.train("web", train.Hash)
			y.link("web", alpha)
			f.takeIn()
			f.requireTrue()

			require.NoError(t, y.DeleteTrain(t.Context(), y.admin, "web", true, ""))
			next := y.train("web", train.Hash)
			y.rotate("alpha")
			f.hear()
			for _, c := range []store.Change{{Topic: store.TopicTrain, Subject: next.ID}, {Topic: store.TopicCredential, Subject: alpha}, {Topic: store.TopicTrain, Subject: old.ID}} {
				require.NoError(t, f.Follow(t.Context(), []store.Change{c}))
				caller, err := f.Keyless("web")
				require.NoError(t, err)
				require.Equal(t, next.ID, caller.TrainID)
			}
			f.requireTrue()
		})
	}
}

// TestFailedReadChangesNothing: what cannot be read whole is not taken over in part, and is not lost either.
func TestFailedReadChangesNothing(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			y, f := openFollowed(t, newSite(t, e))
			y.train("web", train.Hash)
			y.train("old", train.Hash)
			alpha := y.account("alpha")
			y.link("web", alpha)
			y.link("old", alpha)
			f.takeIn()
			before, laid := f.requireTrue(), f.Laid()

			y.link("web", y.account("beta"))
			y.rotate("alpha")
			require.NoError(t, y.DeleteTrain(t.Context(), y.admin, "old", true, ""))
			batch := f.hear()
			y.rename("cool_downs", "cool_downs_away") // the last that is read
			for range 2 {
				require.Error(t, f.Follow(t.Context(), batch))
				require.Error(t, f.Follow(t.Context(), []store.Change{{Topic: store.TopicReset}}))
			}
			require.Equal(t, before, f.Picture())
			require.Equal(t, laid, f.Laid())
			require.Equal(t, before.Meters, f.tape.uses)
			y.rename("cool_downs_away", "cool_downs")
			require.Equal(t, before, f.Picture())
			require.NoError(t, f.Follow(t.Context(), batch))
			require.NotEqual(t, before, f.requireTrue())
		})
	}
}

// TestSecretsLeaveWithTheirLastLink: an account is held while any line links it, over whatever detours within a batch, and no longer.
func TestSecretsLeaveWithTheirLastLink(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			y, f := openFollowed(t, newSite(t, e))
			held := func() int { f.takeIn(); return len(f.requireTrue().Accounts) }
			alpha := y.account("alpha")
			for i := range 40 { // more than a short list holds
				y.train(fmt.Sprintf("train-%d", i), train.Hash)
				y.link(fmt.Sprintf("train-%d", i), alpha)
			}
			require.Equal(t, 1, held())
			for i := range 39 {
				require.NoError(t, y.Unlink(t.Context(), y.admin, fmt.Sprintf("train-%d", i), alpha, ""))
				if i%7 == 0 {
					require.Equal(t, 1, held())
				}
			}
			// From the last line to another in one batch, with a new secret.
			require.NoError(t, y.Unlink(t.Context(), y.admin, "train-39", alpha, ""))
			y.rotate("alpha")
			y.link("train-3", alpha)
			f.tape.said = nil
			require.Equal(t, 1, held())
			require.Contains(t, f.tape.said, "train-39/alpha forgotten")
			// Away and back in one batch: its counts stay.
			f.tape.said = nil
			require.NoError(t, y.Unlink(t.Context(), y.admin, "train-3", alpha, ""))
			y.link("train-3", alpha)
			require.Equal(t, 1, held())
			require.Empty(t, f.tape.said)
			// A reset keeps them too.
			require.NoError(t, f.Follow(t.Context(), []store.Change{{Topic: store.TopicReset}}))
			require.Equal(t, 1, held())
			require.Empty(t, f.tape.said)
			require.NoError(t, y.DeleteTrain(t.Context(), y.admin, "train-3", true, ""))
			require.Zero(t, held())
			require.Empty(t, f.tape.uses)
		})
	}
}

// crowd makes n trains that link a credential, behind the room's back.
func (y *yard) crowd(from, to int, credential string) {
	y.t.Helper()
	const made = `WITH RECURSIVE n(i) AS (SELECT %d UNION ALL SELECT i + 1 FROM n WHERE i < %d) `
	require.NoError(y.t, y.db.Bookkeep(context.Background(), store.Cursor, func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO trains (id, slug, name, description, strategy, disabled, key_limit, created_at, updated_at, revision) ` + fmt.Sprintf(made, from, to-1) +
			`SELECT 'train_crowd' || i, 'crowd-' || i, 'crowd', '', 'hash', 0, 0, 1, 1, 1 FROM n`); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO train_links (train_id, credential_id, alias, priority, created_at) `+fmt.Sprintf(made, from, to-1)+
			`SELECT 'train_crowd' || i, CAST($1 AS TEXT), NULL, 100, 1 FROM n`, credential)
		return err
	}))
}

// TestChangeCostsWhatItTouches: neither lines that are made nor bytes that are allocated grow with the number of trains, though all link
// one account.
func TestChangeCostsWhatItTouches(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			y, f := openFollowed(t, newSite(t, e))
			shared, own, spare := y.account("shared"), y.account("own"), y.account("spare")
			web := y.train("web", train.Hash)
			y.link("web", shared)
			y.link("web", own)
			follow := func(batch ...store.Change) {
				require.NoError(t, f.Follow(t.Context(), batch))
			}
			cost := func(act func() store.Change) (lines int, bytes uint64) {
				bytes = 1 << 62
				for range 5 { // the least: something else of this process may allocate beside
					change := act()
					before := f.Laid()
					var a, b runtime.MemStats
					runtime.ReadMemStats(&a)
					follow(change)
					runtime.ReadMemStats(&b)
					lines, bytes = f.Laid()-before, min(bytes, b.TotalAlloc-a.TotalAlloc)
				}
				return lines, bytes
			}
			i := 0
			ofWeb := store.Change{Topic: store.TopicTrain, Subject: web.ID}
			acts := map[string]struct {
				lines int
				act   func() store.Change
			}{
				"a train": {1, func() store.Change {
					i++
					_, err := y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Name: ptr(fmt.Sprint("web ", i))}, "")
					require.NoError(t, err)
					return ofWeb
				}},
				"a link": {1, func() store.Change {
					y.link("web", spare)
					follow(ofWeb)
					require.NoError(t, y.Unlink(t.Context(), y.admin, "web", spare, ""))
					return ofWeb
				}},
				"a train's end": {0, func() store.Change {
					brief := store.Change{Topic: store.TopicTrain, Subject: y.train("brief", train.Hash).ID}
					y.link("brief", shared)
					follow(brief)
					require.NoError(t, y.DeleteTrain(t.Context(), y.admin, "brief", true, ""))
					return brief
				}},
				"an account": {1, func() store.Change {
					y.rotate("own")
					return store.Change{Topic: store.TopicCredential, Subject: own}
				}},
				"a cool-down": {0, func() store.Change {
					i++
					y.sql(fmt.Sprintf(`INSERT INTO cool_downs (credential_id, version, until, status, reason, at) VALUES ('%s', 1, %d, 500, 'test', 1)
						ON CONFLICT (credential_id) DO UPDATE SET until = excluded.until`, shared, i), store.TopicUser, "nobody")
					return store.Change{Topic: store.TopicCredential, Subject: shared}
				}},
			}
			few := map[string]uint64{}
			for _, n := range []int{100, 10_000} {
				y.crowd(map[int]int{100: 1, 10_000: 100}[n], n, shared)
				follow(store.Change{Topic: store.TopicReset})
				require.Len(t, f.Picture().Lines, n)
				for name, a := range acts {
					lines, bytes := cost(a.act)
					require.Equal(t, a.lines, lines, name)
					if n == 100 {
						few[name] = bytes
						continue
					}
					t.Logf("%s: %d bytes among 100 trains, %d among %d", name, few[name], bytes, n)
					require.Less(t, bytes, 2*few[name]+64<<10, name)
				}
			}
		})
	}
}

// TestReadersMeetChanges: while everything else changes, and is loaded anew, what stays is there for every reader at every moment.
func TestReadersMeetChanges(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			s.keyless = true
			y := s.open(t)
			y.train("web", train.Hash)
			alpha, beta := y.account("alpha"), y.account("beta")
			y.link("web", alpha)
			y.train("other", train.Hash)
			stop, done := make(chan struct{}), sync.WaitGroup{}
			reader := func(fn func() error) {
				done.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						if err := fn(); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			for range 2 {
				reader(func() error {
					caller, err := y.Keyless("web")
					if err != nil {
						return err
					}
					l, err := y.Lend(t.Context(), caller, want())
					if err != nil {
						return err
					}
					defer l.Done(train.Outcome{Result: train.OK})
					if err := l.Apply(request(t, "https://api.anthropic.com/")); err != nil {
						return err
					}
					return l.Context().Err()
				})
			}
			reader(func() error {
				trains, all := y.Tallies()
				if len(trains) < 2 || trains[0].Train != "web" || trains[0].Usable != 1 || all.Usable < 1 {
					return fmt.Errorf("tallies %v %v", trains, all)
				}
				return nil
			})
			reader(func() error {
				got, err := y.Explain(t.Context(), y.admin, "web")
				if err == nil && (len(got.Accounts) != 1 || !got.Accounts[0].Chosen) {
					err = fmt.Errorf("explained %+v", got)
				}
				return err
			})
			for i := range 12 {
				y.rotate("alpha")
				y.link("other", beta)
				slug := fmt.Sprintf("more-%d", i)
				y.train(slug, train.Hash)
				y.link(slug, beta)
				y.sql(`SELECT 1`, store.TopicReset, "")
				require.NoError(t, y.Unlink(t.Context(), y.admin, "other", beta, ""))
				if i%2 == 0 {
					require.NoError(t, y.DeleteTrain(t.Context(), y.admin, slug, true, ""))
				}
			}
			close(stop)
			done.Wait()
			requireTrue(t, y.Room)
		})
	}
}
