package audit

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

// TestOneRequestIsFoundAtABoundedPrice: whoever asks for one request keeps nothing of others in memory, and of one whose outcome never came reads no more of a busy log than was set.
func TestOneRequestIsFoundAtABoundedPrice(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		p := &past{t: t, x: b.attack(t), r: rand.New(rand.NewPCG(seed(t), 0)), now: time.Now().Add(-20 * time.Minute), used: map[string]bool{}, done: map[string]store.Event{}}
		b.unguard(t, p.x)
		wanted := func(n int, at time.Time) string {
			e := granted(n)
			e.RequestID = store.IDFloor(requestPrefix, at)
			p.batch(at, e)
			return e.RequestID
		}
		open, answered := wanted(-1, p.now), wanted(-2, p.now.Add(time.Second))
		const others = 400
		for n := range others {
			at := p.now.Add(time.Duration(n+2) * time.Second)
			p.batch(at, granted(n), outcome(n, "ok"))
		}
		end := outcome(-2, "ok")
		end.RequestID = answered
		p.batch(p.now.Add(3500*time.Millisecond), end)

		look := func(id string, budget int) (hops []Attempt, of *trips) {
			require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) error {
				of = newTrips(tx, budget)
				of.wants(id)
				begun, _ := store.IDTime(requestPrefix, id)
				if _, err := of.results.read(store.IDFloor(sourcePrefix, begun.Add(-time.Second)), highest, func() bool { return len(of.firsts) > 0 }, false); err != nil {
					return err
				}
				require.Len(t, of.firsts, 1)
				var err error
				hops, _, err = of.onward(of.firsts[0], true)
				return err
			}))
			require.Len(t, hops, 1)
			return hops, of
		}
		hops, of := look(open, oneBudget)
		require.Nil(t, hops[0].Outcome)
		require.Empty(t, of.ends, "what became of other requests is kept")
		require.Less(t, of.results.budget, oneBudget-others, "it was not looked for")
		_, of = look(open, 20)
		require.Greater(t, of.results.budget, -20-3*outcomePage, "the log was read to its end")
		require.LessOrEqual(t, of.results.budget, -20, "at any price it goes on beyond the budget")

		hops, of = look(answered, oneBudget)
		require.NotNil(t, hops[0].Outcome)
		require.Len(t, of.ends, 1)
		one, err := b.log.Request(t.Context(), answered)
		require.NoError(t, err)
		require.NotNil(t, one.Attempts[0].Outcome)
		one, err = b.log.Request(t.Context(), open)
		require.NoError(t, err)
		require.Nil(t, one.Attempts[0].Outcome)
	})
}
