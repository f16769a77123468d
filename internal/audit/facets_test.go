package audit

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// counts is what facets must tell, by brute force.
func (p *past) counts(q Query) (actions, outcomes, actors, targets map[string]int64, n int64) {
	actions, outcomes, actors, targets = map[string]int64{}, map[string]int64{}, map[string]int64{}, map[string]int64{}
	for _, e := range p.find(q) {
		n++
		actions[string(e.Action)]++
		outcomes[e.Outcome]++
		actors[e.Actor.ID]++
		if e.OnBehalf != "" && e.OnBehalf != e.Actor.ID {
			actors[e.OnBehalf]++
		}
		targets[e.Target.ID]++
	}
	return actions, outcomes, actors, targets, n
}

// list holds the answer's form against the counts: all of them, or the top.
func requireRanked(t *testing.T, want map[string]int64, got []Facet, others int) {
	t.Helper()
	require.Equal(t, len(want), len(got)+others)
	least := int64(0)
	for i, f := range got {
		require.Equal(t, want[f.Value], f.Count, f.Value)
		if i > 0 {
			require.LessOrEqual(t, f.Count, got[i-1].Count)
		}
		least = f.Count
	}
	for value, n := range want {
		if !slices.ContainsFunc(got, func(f Facet) bool { return f.Value == value }) {
			require.LessOrEqual(t, n, least, "%s is missing", value)
		}
	}
}

// TestFacetsAreWhatBruteForceCounts: whatever is asked, on random logs; and a value's count is what a search for it finds.
func TestFacetsAreWhatBruteForceCounts(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		r := rand.New(rand.NewPCG(seed(t), 2))
		p := newPast(t, b, r)
		counted, queries := int64(0), 60
		if testing.Short() {
			queries = 20
		}
		for range queries {
			q := p.query()
			top := 1 + r.IntN(facetMost)
			got, err := b.log.Facets(t.Context(), q, top)
			require.NoError(t, err)
			require.True(t, got.Complete, "%+v", q)
			actions, outcomes, actors, targets, n := p.counts(q)
			require.Equal(t, n, got.Counted, "%+v", q)
			requireRanked(t, actions, got.Actions, 0)
			requireRanked(t, outcomes, got.Outcomes, 0)
			requireRanked(t, actors, got.Actors, got.OtherActors)
			requireRanked(t, targets, got.Targets, got.OtherTargets)
			require.LessOrEqual(t, len(got.Actors), top)
			if len(got.Actors) > 0 && q.Actor == "" {
				one := got.Actors[0]
				q.Actor = one.Value
				require.Len(t, p.find(q), int(one.Count))
			}
			counted += n
		}
		require.Positive(t, counted)
	})
}

// TestFacetsSayWhenTheyArePartial: a count that stops early has counted exactly what is newer than where it stopped.
func TestFacetsSayWhenTheyArePartial(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		r := rand.New(rand.NewPCG(seed(t), 3))
		p := newPast(t, b, r)
		partial := 0
		for range 40 {
			q := p.query()
			f, err := newFilter(q)
			require.NoError(t, err)
			var got Facets
			require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) error {
				c := newCounter(tx, f, 1+r.IntN(60))
				c.results.budget = 1 + r.IntN(60)
				if err := c.run(); err != nil {
					return err
				}
				got, err = c.told(5)
				if err != nil || got.Complete {
					return err
				}
				partial++
				newer := int64(0)
				for _, e := range p.find(q) {
					at, _ := parseID(e.ID)
					if at.source >= c.last && c.last != "" {
						newer++
					}
				}
				require.GreaterOrEqual(t, got.Counted, newer, "%+v", q)
				return nil
			}))
			all := int64(len(p.find(q)))
			require.LessOrEqual(t, got.Counted, all)
			if got.Complete {
				require.Equal(t, all, got.Counted)
			}
		}
		require.Positive(t, partial)
	})
}

// TestFacetsKnowNames: an id alone tells a reader nothing.
func TestFacetsKnowNames(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		require.NoError(t, b.db.Write(t.Context(), func(tx *store.Tx) error {
			e := act(1)
			e.Actor = store.Actor{Kind: "user", ID: "user_1", Name: "Ada"}
			e.Target = store.Target{Kind: "credential", ID: "cred_1", Name: "gitea"}
			e.OnBehalf = "train_1"
			return tx.Record(e)
		}))
		got, err := b.log.Facets(t.Context(), Query{Target: "cred_1"}, 0)
		require.NoError(t, err)
		require.Equal(t, int64(1), got.Counted)
		require.Equal(t, []Facet{{"train_1", "", "", 1}, {"user_1", "user", "Ada", 1}}, got.Actors)
		require.Equal(t, []Facet{{"cred_1", "credential", "gitea", 1}}, got.Targets)
		_, err = b.log.Facets(t.Context(), Query{Action: "planted"}, 0)
		require.Equal(t, fault.Unprocessable, fault.KindOf(err))
	})
}

// TestFacetsOfManyRecordsAreBounded: with a hundred thousand records the count ends early, quickly, and says so.
func TestFacetsOfManyRecordsAreBounded(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		x := b.attack(t)
		b.stuff(t, x, 1600, 64)
		begun := time.Now()
		got, err := b.log.Facets(t.Context(), Query{}, 0)
		require.NoError(t, err)
		t.Logf("%d records in %s", got.Counted, time.Since(begun))
		require.False(t, got.Complete)
		require.Less(t, got.Counted, int64(102_400))
		require.Greater(t, got.Counted, int64(5_000))
		require.False(t, got.Since.IsZero())
		require.True(t, strings.HasPrefix(got.Actors[0].Value, "key_") || strings.HasPrefix(got.Actors[0].Value, "train_"))
	})
}
