package audit

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

// near is what the contacts of a subject must add up to, by brute force: how many records each has, by relation, other, act and outcome.
func (p *past) near(q RadiusQuery) (want map[string]int64, counted int64) {
	want = map[string]int64{}
	for _, e := range p.find(Query{Subject: q.Subject, From: q.From, To: q.To}) {
		if e.Action == store.LeaseOutcome {
			continue
		}
		counted++
		note := func(relation Relation, id string) { want[string(relation)+" "+id+" "+string(e.Action)+" "+e.Outcome]++ }
		s := q.Subject
		if e.Actor.ID == s || e.OnBehalf == s {
			note(Did, e.Target.ID)
		}
		if e.OnBehalf == s && e.Actor.ID != s {
			note(Through, e.Actor.ID)
		}
		if e.Actor.ID == s && e.OnBehalf != "" && e.OnBehalf != s {
			note(For, e.OnBehalf)
		}
		if e.Target.ID == s && e.Actor.ID != s {
			note(By, e.Actor.ID)
			if e.OnBehalf != "" && e.OnBehalf != s && e.OnBehalf != e.Actor.ID {
				note(Behind, e.OnBehalf)
			}
		}
	}
	return want, counted
}

// TestBlastRadiusIsWhatBruteForceCounts: of whatever subject and time, in one part or in many small ones, which add up to the same.
func TestBlastRadiusIsWhatBruteForceCounts(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		r := rand.New(rand.NewPCG(seed(t), 7))
		p := newPast(t, b, r)
		met, inParts, queries := int64(0), 0, 40
		if testing.Short() {
			queries = 15
		}
		for range queries {
			one := p.events[r.IntN(len(p.events))]
			q := RadiusQuery{Subject: []string{one.Actor.ID, one.OnBehalf, one.Target.ID, "nobody"}[r.IntN(4)], Share: []int{0, 1, 10_000}[r.IntN(3)]}
			if q.Subject == "" {
				continue
			}
			if r.IntN(2) == 0 {
				q.From = p.events[r.IntN(len(p.events))].At
			}
			want, all := p.near(q)
			got, counted := map[string]int64{}, int64(0)
			most := []int{1, 3, maxContacts}[r.IntN(3)]
			for parts := 0; ; parts++ {
				require.Less(t, parts, 2000)
				f, err := newFilter(Query{Subject: q.Subject, From: q.From, To: q.To, Cursor: q.Cursor, Limit: maxLimit})
				require.NoError(t, err)
				if q.Share > 1 {
					f.budget, f.outcomeBudget = 1+r.IntN(20), 1+r.IntN(20)
				}
				var part Radius
				require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) (err error) { part, err = f.radius(tx, most); return err }))
				counted += part.Counted
				for _, c := range part.Contacts {
					sum := int64(0)
					for _, act := range c.Acts {
						got[string(c.Relation)+" "+c.ID+" "+act.Action+" "+act.Outcome] += act.Count
						sum += act.Count
					}
					require.Equal(t, c.Count, sum)
					require.Equal(t, c.Count, c.Used+c.Revealed+c.Read+c.Changed+c.Refused+c.Other)
					require.False(t, c.Last.Before(c.First))
					require.True(t, q.From.IsZero() || !c.First.Before(q.From))
				}
				require.Equal(t, part.Complete, part.Next == "")
				if part.Complete {
					require.True(t, part.Since.IsZero())
					break
				}
				require.False(t, part.Since.IsZero())
				inParts++
				q.Cursor = part.Next
			}
			require.Equal(t, want, got, "%+v", q)
			require.Equal(t, all, counted)
			met += counted
		}
		require.Positive(t, met)
		require.Positive(t, inParts)
	})
}

// TestBlastRadiusOfManyRecordsIsBounded: one part of a hundred thousand records ends early and says where it goes on.
func TestBlastRadiusOfManyRecordsIsBounded(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		x := b.attack(t)
		b.stuff(t, x, 1600, 64)
		all, err := b.log.Facets(t.Context(), Query{}, 1)
		require.NoError(t, err)
		begun := time.Now()
		got, err := b.log.Radius(t.Context(), RadiusQuery{Subject: all.Targets[0].Value})
		require.NoError(t, err)
		t.Logf("%d records in %s", got.Counted, time.Since(begun))
		require.False(t, got.Complete)
		require.NotEmpty(t, got.Next)
		require.Positive(t, got.Counted)
		require.NotEmpty(t, got.Contacts)
		next, err := b.log.Radius(t.Context(), RadiusQuery{Subject: all.Targets[0].Value, Cursor: got.Next, Share: 10})
		require.NoError(t, err)
		require.Less(t, next.Counted, got.Counted)
		require.False(t, next.Contacts[0].Last.After(got.Since.Add(clockSlack)))
	})
}

// TestWhatARecordTells: an act that the table does not know is a change.
func TestWhatARecordTells(t *testing.T) {
	for action, want := range map[store.Action]string{
		store.LeaseGranted: "used", store.CredentialReveal: "revealed", store.CredentialView: "read", store.CredentialRotate: "changed", store.CredentialRefused: "refused", store.IdentityLogin: "other", "new.act": "changed",
	} {
		require.Equal(t, want, tells(string(action), store.OutcomeOK), action)
		require.Equal(t, "refused", tells(string(action), store.OutcomeRefused))
	}
}
