package audit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// past puts records of the last hours into a database, as package store would have, and remembers them.
type past struct {
	t      testing.TB
	x      *sqlx.DB
	r      *rand.Rand
	now    time.Time
	used   map[string]bool
	events []store.Event
	ids    []string               // of batches
	done   map[string]store.Event // outcomes by lease
}

func (p *past) id(at time.Time) string {
	for {
		id := []byte(store.IDFloor(sourcePrefix, at))
		for i := len(id) - 10; i < len(id); i++ {
			id[i] = "0123456789abcdefghjkmnpqrstvwxyz"[p.r.IntN(32)]
		}
		if !p.used[string(id)] {
			p.used[string(id)] = true
			return string(id)
		}
	}
}

func (p *past) exec(q string, args ...any) {
	p.t.Helper()
	_, err := p.x.Exec(q, args...)
	require.NoError(p.t, err)
}

// leaf is the record as package store writes it, by way of its own reading of what encoding/json makes of it.
func leaf(e store.Event) string {
	return fmt.Sprintf(`{"id":"%s","at":"%s","actor":{"kind":"%s","id":"%s"},"on_behalf_of":"%s","action":"%s","target":{"kind":"%s","id":"%s"},"outcome":"%s","request_id":"%s","details":{"lease":"%s"}}`,
		e.ID, e.At.UTC().Format(store.TimeFormat), e.Actor.Kind, e.Actor.ID, e.OnBehalf, e.Action, e.Target.Kind, e.Target.ID, e.Outcome, e.RequestID, detail(e, "lease"))
}

func detail(e store.Event, key string) string {
	d, _ := e.Details.Get(key)
	return d.Text()
}

func (p *past) act(at time.Time) {
	e := act(p.r.IntN(100))
	e.ID, e.At, e.Outcome = p.id(at), at.UTC().Truncate(time.Microsecond), []string{"ok", "refused"}[p.r.IntN(2)]
	e.OnBehalf = fmt.Sprintf("user_%d", p.r.IntN(3))
	e.Actor.Name, e.Target.Name, e.Reason, e.Fields, e.Details = "", "", "", nil, store.Details{store.Str("lease", "")}
	p.exec(`INSERT INTO audit_events (id, at, action, actor_id, target_id, on_behalf_of, request_id, body) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)`,
		e.ID, store.TimeOf(e.At), string(e.Action), e.Actor.ID, e.Target.ID, e.OnBehalf, e.RequestID, []byte(leaf(e)))
	p.events = append(p.events, e)
}

func (p *past) batch(at time.Time, events ...store.Event) {
	id := p.id(at)
	var lines []string
	for i, e := range events {
		e.ID, e.At = place{id, i}.id(), at.UTC().Truncate(time.Microsecond)
		e.Actor.Name = ""
		e.Details = store.Details{store.Str("lease", detail(e, "lease"))}
		if e.Outcome == "" {
			e.Outcome = "ok"
		}
		lines = append(lines, leaf(e))
		if e.Action == store.LeaseOutcome {
			p.done[detail(e, "lease")] = e
		}
		p.events = append(p.events, e)
	}
	p.ids = append(p.ids, id)
	p.exec(`INSERT INTO audit_batches (id, at, count, body) VALUES ($1,$2,$3,$4)`, id, at.UnixMicro(), len(lines), []byte(strings.Join(lines, "\n")))
}

// shown is what a search must show of an event, by brute force.
func (p *past) shown(e store.Event) store.Event {
	if e.Action != store.LeaseGranted {
		return e
	}
	if o, ok := p.done[detail(e, "lease")]; ok && o.At.Sub(e.At) < OutcomeWithin {
		e.Outcome = o.Outcome
		return e
	}
	if p.now.Sub(e.At) > pendingFor {
		e.Outcome = OutcomeUnknown
	}
	return e
}

func (p *past) find(q Query) []store.Event {
	var out []store.Event
	for _, e := range p.events {
		e = p.shown(e)
		if (q.Actor == "" || e.Actor.ID == q.Actor || e.OnBehalf == q.Actor) && (q.Target == "" || e.Target.ID == q.Target) && (q.Subject == "" || e.Actor.ID == q.Subject || e.OnBehalf == q.Subject || e.Target.ID == q.Subject) && (q.Action == "" || e.Action == q.Action) &&
			(q.RequestID == "" || e.RequestID == q.RequestID) && (q.Outcome == "" || e.Outcome == q.Outcome) &&
			(q.From.IsZero() || !e.At.Before(q.From)) && (q.To.IsZero() || e.At.Before(q.To)) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b store.Event) int {
		pa, _ := parseID(a.ID)
		pb, _ := parseID(b.ID)
		if pa.older(pb) {
			return 1
		}
		return -1
	})
	return out
}

func newPast(t testing.TB, b *box, r *rand.Rand) *past {
	p := &past{t: t, x: b.attack(t), r: r, now: time.Now(), used: map[string]bool{}, done: map[string]store.Event{}}
	b.unguard(t, p.x)
	p.exec(`DELETE FROM audit_events`)
	p.exec(`DELETE FROM audit_pending`)
	ago := func(d time.Duration) time.Time { return p.now.Add(-d).Truncate(time.Millisecond) }
	lease := 0
	for range 150 {
		age := time.Minute + time.Duration(r.Int64N(int64(4*time.Hour)))
		if age > pendingFor-5*time.Minute && age < pendingFor+time.Minute {
			age += 10 * time.Minute // or an intent would become unknown while the test runs
		}
		at := ago(age)
		if r.IntN(3) == 0 {
			p.act(at)
			continue
		}
		var events []store.Event
		for range 1 + r.IntN(4) {
			lease++
			events = append(events, granted(lease))
			after := []time.Duration{time.Second, time.Minute, 20 * time.Minute, 40 * time.Minute}[r.IntN(4)]
			after += time.Duration(r.Int64N(int64(time.Minute)))
			if then := at.Add(after); r.IntN(4) > 0 && then.Before(p.now) {
				p.batch(then.Truncate(time.Millisecond), outcome(lease, []string{"ok", "failed"}[r.IntN(2)]))
			}
		}
		p.batch(at, events...)
	}
	p.sequence(b)
	return p
}

// sequence gives the batches places in the log: mostly in the order of their ids, some by far too late, spread over as many segments as
// thousands of records would fill. The newest stay without an index or without a place.
func (p *past) sequence(b *box) {
	slices.Sort(p.ids)
	for range len(p.ids) / 8 {
		i := p.r.IntN(len(p.ids))
		k := min(len(p.ids)-1, i+p.r.IntN(1+p.r.IntN(len(p.ids)-i)))
		p.ids[i], p.ids[k] = p.ids[k], p.ids[i]
	}
	waiting, full, leaf := p.r.IntN(10), int64(2+p.r.IntN(12)), int64(0)
	for _, id := range p.ids[:len(p.ids)-waiting] {
		p.exec(`INSERT INTO audit_leaves (first_leaf, count, source_id, hashes) VALUES ($1,$2,$3,$4)`, leaf, 1, id, make([]byte, 32))
		leaf += 1 + p.r.Int64N(full*segmentLeaves*3/2/int64(len(p.ids)))
	}
	for _, id := range p.ids[len(p.ids)-waiting:] {
		p.exec(`INSERT INTO audit_pending (source_id) VALUES ($1)`, id)
	}
	for n := range min(full, leaf/segmentLeaves) {
		p.index(b, n)
	}
}

// index writes the index of one segment as the sequencer does.
func (p *past) index(b *box, number int64) {
	s, err := readSegment(p.t.Context(), b.db, number)
	require.NoError(p.t, err)
	s.sort()
	p.exec(`INSERT INTO audit_segments (segment, lowest, highest) VALUES ($1,$2,$3)`, s.number, s.lowest, s.highest)
	for rows := s.rows(); len(rows) > 0; rows = rows[3:] {
		p.exec(`INSERT INTO audit_postings (shard, segment, entries) VALUES ($1,$2,$3)`, rows[:3]...)
	}
}

func (p *past) query() Query {
	pick := func(values ...string) string {
		if p.r.IntN(3) > 0 {
			return ""
		}
		return values[p.r.IntN(len(values))]
	}
	one := func() store.Event { return p.events[p.r.IntN(len(p.events))] }
	q := Query{
		Actor: pick(one().Actor.ID, one().OnBehalf, "nobody", `a"quote`), Target: pick(one().Target.ID, "nothing"),
		Action: store.Action(pick(string(one().Action))), Outcome: pick("ok", "failed", "pending", OutcomeUnknown, "refused"),
	}
	if p.r.IntN(8) == 0 {
		q.RequestID = one().RequestID
	}
	if p.r.IntN(3) == 0 {
		q.Subject = pick(one().Actor.ID, one().OnBehalf, one().Target.ID, `a"quote`)
	}
	if p.r.IntN(3) == 0 {
		q.From = one().At
	}
	if p.r.IntN(3) == 0 {
		q.To = one().At
		if !q.From.Before(q.To) {
			q.From = time.Time{}
		}
	}
	return q
}

func TestSearchFindsWhatBruteForceFinds(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		r := rand.New(rand.NewPCG(seed(t), 1))
		p := newPast(t, b, r)
		found, queries := 0, 60
		if testing.Short() {
			queries = 15
		}
		for range queries {
			q := p.query()
			q.Limit = []int{0, 1, 2, 7, 1000}[r.IntN(5)]
			want := p.find(q)
			small := r.IntN(3) == 0 // searches that stop early must go on where they stopped
			var got []store.Event
			for pages := 0; ; pages++ {
				require.Less(t, pages, 2000)
				f, err := newFilter(q)
				require.NoError(t, err)
				if small {
					f.budget, f.outcomeBudget = 1+r.IntN(20), 1+r.IntN(20)
				}
				var page Page
				require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) error { return f.fill(tx, &page) }))
				require.LessOrEqual(t, len(page.Events), f.Limit)
				got = append(got, page.Events...)
				if page.Next == "" {
					break
				}
				if !small {
					require.Len(t, page.Events, f.Limit, "a short page")
				}
				q.Cursor = page.Next
			}
			require.Equal(t, ids(want), ids(got), "%+v", q)
			require.Equal(t, want, got, "%+v", q)
			found += len(got)
		}
		t.Logf("%d found", found)
		require.Positive(t, found)
	})
}

// TestSearchAmongActsIsBounded: acts have a row each and no column says how they ended, so a search for an outcome that none has would read them all.
func TestSearchAmongActsIsBounded(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		const acts = 600
		require.NoError(t, b.db.Write(t.Context(), func(tx *store.Tx) error {
			for range acts {
				e := store.Event{Actor: store.Actor{Kind: "person", ID: "user_1", Name: "Ann"}, Action: store.CredentialView, Target: store.Target{Kind: "credential", ID: "cred_1"}, Outcome: store.OutcomeOK}
				if err := tx.Record(e); err != nil {
					return err
				}
			}
			return nil
		}))
		pages := 0
		for q := (Query{Outcome: store.OutcomeRefused}); ; pages++ {
			f, err := newFilter(q)
			require.NoError(t, err)
			f.budget = 50 * eventCost
			var page Page
			require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) error { return f.fill(tx, &page) }))
			require.Empty(t, page.Events)
			if q.Cursor = page.Next; q.Cursor == "" {
				break
			}
		}
		require.Greater(t, pages, 2)
		require.LessOrEqual(t, pages, acts/50)
	})
}

func ids(events []store.Event) []string {
	out := make([]string, len(events))
	for i, e := range events {
		out[i] = e.ID
	}
	return out
}

func TestOutcomesOfLeases(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		b.lend(t, 0, 3)
		b.db.AppendLater(outcome(1, store.OutcomeOK))
		b.db.AppendLater(outcome(2, store.OutcomeFailed))
		var page Page
		require.Eventually(t, func() bool {
			var err error
			page, err = b.log.Search(t.Context(), Query{Action: store.LeaseOutcome})
			require.NoError(t, err)
			return len(page.Events) == 2
		}, 5*time.Second, 5*time.Millisecond)
		page, err := b.log.Search(t.Context(), Query{Action: store.LeaseGranted})
		require.NoError(t, err)
		got := map[string]string{}
		for _, e := range page.Events {
			got[detail(e, "lease")] = e.Outcome
			one, err := b.log.Get(t.Context(), e.ID)
			require.NoError(t, err)
			require.Equal(t, e, one.Event)
		}
		require.Equal(t, map[string]string{"lease_0": "pending", "lease_1": "ok", "lease_2": "failed"}, got)
		page, err = b.log.Search(t.Context(), Query{Outcome: "failed"})
		require.NoError(t, err)
		require.Len(t, page.Events, 2, "the intent and the outcome itself")

		// The log itself keeps what was recorded.
		b.flush(t)
		all, err := b.log.Tail(t.Context(), -1, 0)
		require.NoError(t, err)
		for _, e := range all {
			if e.Event.Action == store.LeaseGranted {
				require.Equal(t, store.OutcomePending, e.Event.Outcome)
			}
		}
	})
}

func TestSearchRefusesBadQueries(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		now := time.Now()
		for pointer, q := range map[string]Query{
			"/limit":  {Limit: 1001},
			"/from":   {From: now, To: now},
			"/action": {Action: "credential.borrow"},
			"/cursor": {Cursor: "x' OR 1=1"},
		} {
			_, err := b.log.Search(t.Context(), q)
			f, ok := fault.As(err)
			require.True(t, ok, pointer)
			require.Equal(t, "validation_failed", f.Code)
			require.Len(t, f.Fields, 1)
			require.Equal(t, pointer, f.Fields[0].Pointer)
			require.NotContains(t, f.Fields[0].Message, "OR 1=1")
		}
		_, err := b.log.Search(t.Context(), Query{Limit: -1})
		require.Equal(t, fault.Unprocessable, fault.KindOf(err))
		page, err := b.log.Search(t.Context(), Query{Actor: "'; DROP TABLE audit_events; --", To: now.Add(-time.Hour)})
		require.NoError(t, err)
		require.Equal(t, Page{}, page)
	})
}

func TestLookAgreesWithDecoding(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		b.fill(t, 3)
		strange := act(1)
		strange.Actor.ID, strange.RequestID = "a\"b\\c\nd", "r\té"
		b.record(t, strange)
		for id, record := range records(t, b.db) {
			g, ok := look([]byte(record))
			require.True(t, ok)
			e, err := store.DecodeEvent([]byte(record))
			require.NoError(t, err)
			require.Equal(t, id, string(g.id))
			require.Equal(t, []string{e.ID, e.At.Format(store.TimeFormat), string(e.Action), e.Actor.ID, e.Target.ID, e.OnBehalf, e.RequestID},
				[]string{string(g.id), string(g.at), string(g.action), string(g.actor), string(g.target), string(g.behalf), string(g.request)})
		}
		b.flush(t)
		requireClean(t, b.verify(t, b.notes(t)...))
	})
	_, ok := look([]byte(`{"id":"evt_`))
	require.False(t, ok)
}

func FuzzCursor(f *testing.F) {
	id := store.NewID(sourcePrefix)
	f.Add(id)
	f.Add(id + "_12")
	f.Add(id + "_")
	f.Fuzz(func(t *testing.T, text string) {
		if at, ok := parseID(text); ok && at.id() != text {
			t.Fatalf("%q was read as %q", text, at.id())
		}
		if g, ok := look([]byte(text)); ok {
			if _, err := store.DecodeEvent([]byte(text)); err != nil && len(g.id) == 0 {
				t.Fatalf("%q was taken for a record", text)
			}
		}
	})
}
