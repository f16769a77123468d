package ledger_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/store"
)

// hop is an attempt as a test makes it up.
type hop struct {
	credential, lease string
	at, end           time.Time
	result, cost      string // "" result: it has no outcome
	status            int
	place             string // of its intent
	state             ledger.State
}

// asked is a request as a test makes it up.
type asked struct {
	id, train, key, model string
	hops                  []hop
}

func (a *asked) state() ledger.State { return a.hops[len(a.hops)-1].state }

// past writes requests into the log as if they had come at their times.
type past struct {
	o       *office
	n       int
	records []pastRecord
}

type pastRecord struct {
	at    time.Time
	lease string
	line  func(id string) string
	place *string
}

// idAt is an id of a time.
func (p *past) idAt(prefix string, at time.Time) string {
	p.n++
	floor := store.IDFloor(prefix, at)
	return floor[:len(floor)-8] + fmt.Sprintf("%08d", p.n)
}

func (p *past) line(action, lease string, a *asked, h *hop, at time.Time, outcome, details string) func(string) string {
	slug := "slug-of-" + a.train
	return func(id string) string {
		return fmt.Sprintf(`{"id":"%s","at":"%s","actor":{"kind":"client_key","id":"%s","name":"name of it"},"on_behalf_of":"%s","action":"%s","target":{"kind":"credential","id":"%s","name":"account"},"outcome":"%s","request_id":"%s",`+
			`"details":{"lease":"%s",%s}}`, id, at.UTC().Format(store.TimeFormat), a.key, a.train, action, h.credential, outcome, a.id, lease, strings.ReplaceAll(details, "SLUG", slug))
	}
}

func (p *past) add(a *asked) {
	for i := range a.hops {
		h := &a.hops[i]
		h.lease = p.idAt("lease", h.at)
		p.records = append(p.records, pastRecord{h.at, h.lease, p.line("lease.granted", h.lease, a, h, h.at, "pending",
			fmt.Sprintf(`"train":"SLUG","version":1,"attempt":%d,"method":"POST","path":"/v1/messages","model":"%s","host":"api.example.com","body_bytes":120`, i+1, a.model)), &h.place})
		if h.result != "" {
			p.records = append(p.records, pastRecord{h.end, h.lease, p.line("lease.outcome", h.lease, a, h, h.end, "ok",
				fmt.Sprintf(`"attempt":%d,"result":"%s","status":%d,"bytes":7,"first_byte_ms":5,"duration_ms":%d%s`, i+1, h.result, h.status, h.end.Sub(h.at).Milliseconds(), h.cost)), nil})
		}
	}
}

// store writes the records in batches of a few, none with both an intent and its outcome.
func (p *past) store() {
	slices.SortStableFunc(p.records, func(a, b pastRecord) int { return a.at.Compare(b.at) })
	require.NoError(p.o.t, p.o.db.Bookkeep(p.o.t.Context(), store.Cursor, func(tx *store.Tx) error {
		for left := p.records; len(left) > 0; {
			n, most, leases := 0, 1+p.o.random.IntN(6), map[string]bool{}
			for n < len(left) && n < most && !leases[left[n].lease] && left[n].at.Sub(left[0].at) < 50*time.Millisecond {
				leases[left[n].lease] = true
				n++
			}
			id := p.idAt("evt", left[n-1].at)
			var lines []string
			for i, r := range left[:n] {
				at := fmt.Sprintf("%s_%d", id, i)
				lines = append(lines, r.line(at))
				if r.place != nil {
					*r.place = at
				}
			}
			if _, err := tx.Exec(`INSERT INTO audit_batches (id, at, count, body) VALUES ($1, $2, $3, $4)`, id, left[n-1].at.UnixMicro(), n, []byte(strings.Join(lines, "\n"))); err != nil {
				return err
			}
			if _, err := tx.Exec(`INSERT INTO audit_pending (source_id) VALUES ($1) ON CONFLICT DO NOTHING`, id); err != nil {
				return err
			}
			left = left[n:]
		}
		return nil
	}))
	p.records = nil
}

// madeUp makes up a request.
func (p *past) madeUp(at time.Time, trains, keys, credentials, models []string) *asked {
	r := p.o.random
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	a := &asked{id: p.idAt("req", at.Add(-time.Duration(r.IntN(900))*time.Millisecond)), train: pick(trains), key: pick(keys), model: pick(models)}
	for {
		h := hop{credential: pick(credentials), at: at, result: "ok", status: 200, state: ledger.Complete, cost: `,"usage":"complete","input_tokens":3,"output_tokens":4`}
		h.end = at.Add(time.Duration(1+r.IntN(3000)) * time.Millisecond)
		switch r.IntN(12) {
		case 0, 1, 2:
			h.result, h.status, h.cost, h.state = "upstream_error", []int{401, 403, 429, 529}[r.IntN(4)], "", ledger.Failed
		case 3:
			h.result, h.status, h.cost, h.state = "upstream_unreachable", 0, `,"unsent":true`, ledger.Failed
		case 4:
			h.result, h.status, h.cost, h.state = "upstream_error", 400, "", ledger.Failed
		case 5:
			h.result, h.cost, h.state = "upstream_broke", `,"usage":"partial","input_tokens":3,"output_tokens":1`, ledger.Partial
		case 6:
			h.result, h.status, h.cost, h.state = "client_cancelled", 0, "", ledger.Unknown
		case 7:
			h.result, h.status, h.cost, h.state = "refused", 0, "", ledger.Unsent
		case 8:
			h.result, h.status, h.cost, h.state = "", 0, "", ledger.Unknown
			if p.o.now().Sub(at) < 15*time.Minute {
				h.state = ledger.Pending
			}
		case 9:
			h.end = at.Add(time.Duration(r.IntN(25)) * time.Minute)
		}
		if h.result != "" && h.end.After(p.o.now()) {
			h.end = p.o.now()
		}
		a.hops = append(a.hops, h)
		goesOn := h.status == 401 || h.status == 403 || h.status >= 429 || h.result == "upstream_unreachable"
		next := h.end.Add(time.Duration(1+r.IntN(800)) * time.Millisecond)
		if !goesOn || len(a.hops) == 4 || r.IntN(3) == 0 || next.After(p.o.now()) {
			return a
		}
		at = next
	}
}

// found is what a question must find, the newest first.
func found(all []*asked, q ledger.RequestQuery, owner map[string]string) []string {
	type hit struct{ id, place string }
	var hits []hit
	for _, a := range all {
		i := 0
		if q.Credential != "" {
			i = slices.IndexFunc(a.hops, func(h hop) bool { return h.credential == q.Credential })
		}
		if i < 0 || q.Train != "" && q.Train != a.train && q.Train != "slug-of-"+a.train || q.Key != "" && q.Key != a.key || q.User != "" && owner[a.key] != q.User || q.Model != "" && a.model != q.Model ||
			q.State != "" && a.state() != q.State || q.State == "" && a.state() == ledger.Unsent && (q.Model != "" || q.User != "") || !q.From.IsZero() && a.hops[i].at.Truncate(time.Microsecond).Before(q.From) || !q.To.IsZero() && !a.hops[i].at.Truncate(time.Microsecond).Before(q.To) {
			continue
		}
		hits = append(hits, hit{a.id, a.hops[i].place})
	}
	slices.SortFunc(hits, func(a, b hit) int {
		batch, n, _ := strings.Cut(b.place[4:], "_")
		mine, m, _ := strings.Cut(a.place[4:], "_")
		return cmp.Or(strings.Compare(batch, mine), cmp.Compare(len(n), len(m)), strings.Compare(n, m))
	})
	out := []string{}
	for _, h := range hits {
		out = append(out, h.id)
	}
	return out
}

// pages asks until there is no more.
func (o *office) pages(r *ledger.Room, q ledger.RequestQuery) (out []ledger.Request) {
	o.t.Helper()
	for range 10_000 {
		page, err := r.Requests(o.t.Context(), auditor(), q)
		require.NoError(o.t, err)
		require.LessOrEqual(o.t, len(page.Requests), q.Limit)
		out = append(out, page.Requests...)
		if q.Cursor = page.Next; q.Cursor == "" {
			return out
		}
	}
	require.Fail(o.t, "it never ends")
	return nil
}

// TestRequestsAreToldAsTheyWere: whatever is asked, every request is told once, with each of its attempts, however much of the log was added up.
func TestRequestsAreToldAsTheyWere(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.set(time.Now().UTC().Truncate(time.Microsecond))
		p := &past{o: o}
		ids := func(prefix string, n int) (out []string) {
			for range n {
				out = append(out, store.NewID(prefix))
			}
			return out
		}
		trains, keys, credentials, people := ids("train", 3), ids("key", 5), ids("cred", 4), ids("user", 2)
		models := []string{"claude-a", "claude-b"}
		owner := map[string]string{}
		for i, key := range keys {
			owner[key] = people[i%2]
			o.issue(key, "name of it", owner[key])
		}
		require.NoError(t, o.book.Flush(t.Context())) // before all that they were used for
		var all []*asked
		for range 350 {
			at := o.now().Add(-time.Duration(o.random.Int64N(int64(40 * time.Hour)))).Truncate(time.Microsecond)
			if o.random.IntN(4) == 0 { // some lately, some beside others
				at = o.now().Add(-time.Duration(o.random.Int64N(int64(10 * time.Minute)))).Truncate(time.Microsecond)
			}
			all = append(all, p.madeUp(at, trains, keys, credentials, models))
			p.add(all[len(all)-1])
		}
		p.store()
		require.NoError(t, o.book.Flush(t.Context()))
		r := o.room(o.db)
		byID := map[string]*asked{}
		for _, a := range all {
			byID[a.id] = a
		}
		look := func(known bool) {
			for range 25 {
				q := ledger.RequestQuery{Limit: 1 + o.random.IntN(60)}
				pick := func(list []string) string {
					if o.random.IntN(3) > 0 {
						return ""
					}
					return list[o.random.IntN(len(list))]
				}
				q.Train, q.Key, q.User, q.Credential, q.Model = pick(trains), pick(keys), pick(people), pick(credentials), pick(models)
				if !known {
					q.User = ""
				}
				if known && q.Train != "" && o.random.IntN(2) == 0 {
					q.Train = "slug-of-" + q.Train
				}
				if o.random.IntN(2) == 0 {
					q.State = ledger.States()[o.random.IntN(6)]
				}
				if o.random.IntN(3) == 0 {
					q.From = o.now().Add(-time.Duration(o.random.Int64N(int64(45 * time.Hour))))
				}
				if o.random.IntN(3) == 0 {
					q.To = cmp.Or(q.From, o.now().Add(-45*time.Hour)).Add(time.Duration(1 + o.random.Int64N(int64(30*time.Hour))))
				}
				want := found(all, q, owner)
				got := []string{}
				for _, one := range o.pages(r, q) {
					got = append(got, one.ID)
					a := byID[one.ID]
					require.Len(t, one.Attempts, len(a.hops), "%s of %+v", one.ID, q)
					for i, h := range a.hops {
						require.Equal(t, h.lease, one.Attempts[i].Lease)
						require.Equal(t, h.credential, one.Attempts[i].Credential.ID)
						require.Equal(t, i+1, one.Attempts[i].Number)
						require.Equal(t, h.state, one.Attempts[i].State, "%+v", h)
						require.Equal(t, h.status, one.Attempts[i].Status)
						require.Equal(t, h.place, one.Attempts[i].Intent)
					}
					require.Equal(t, a.state(), one.State)
					if known {
						require.Equal(t, owner[a.key], one.User.ID)
					}
					require.Equal(t, a.hops[0].at, one.At)
				}
				require.Equal(t, want, got, "%+v", q)
			}
		}
		look(false) // a slug, and who made a key, are known once it was added up
		for range 1 + o.random.IntN(10) {
			_, err := r.Pass(t.Context())
			require.NoError(t, err)
		}
		look(false)
		o.follow(r)
		look(true)
		for range 20 {
			a := all[o.random.IntN(len(all))]
			one, err := r.Request(t.Context(), auditor(), a.id)
			require.NoError(t, err)
			require.Len(t, one.Attempts, len(a.hops))
			require.Equal(t, a.state(), one.State)
			require.EqualValues(t, 120, one.Sent)
		}
		_, err := r.Request(t.Context(), auditor(), store.NewID("req"))
		require.ErrorContains(t, err, "no request")
		_, err = r.Request(t.Context(), auditor(), "planted")
		require.ErrorContains(t, err, "no request")

		operator := auditor()
		operator.Role = identity.Operator
		page, err := r.Requests(t.Context(), operator, ledger.RequestQuery{})
		require.NoError(t, err)
		for _, one := range page.Requests {
			require.Empty(t, one.User.ID, "who may not tell people apart is not told")
		}
	})
}

// TestWhatHasJustEndedIsTold: an outcome that was not added up yet is told, whatever the outcome, also of a request of hours before in which there was no other.
func TestWhatHasJustEndedIsTold(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.set(time.Now().UTC().Truncate(time.Microsecond))
		p := &past{o: o}
		train, key, user := store.NewID("train"), store.NewID("key"), store.NewID("user")
		o.issue(key, "name of it", user)
		require.NoError(t, o.book.Flush(t.Context()))
		at := o.now().Add(-20 * time.Minute) // by the hour before, in most runs
		one := &asked{id: p.idAt("req", at), train: train, key: key, model: "claude-a", hops: []hop{{credential: "cred_1", at: at, end: o.now(), result: "ok", status: 200, cost: `,"usage":"complete","model":"claude-a-1","input_tokens":3,"output_tokens":4`}}}
		p.add(one)
		ended := p.records[1]
		p.records = p.records[:1]
		later := o.now().Add(-time.Second) // what of the log is added up reaches to here
		p.add(&asked{id: p.idAt("req", later), train: train, key: key, model: "claude-b", hops: []hop{{credential: "cred_1", at: later}}})
		p.store()
		require.NoError(t, o.book.Flush(t.Context()))
		r := o.room(o.db)
		o.follow(r)
		p.records = []pastRecord{ended}
		p.store()
		for _, q := range []ledger.RequestQuery{{}, {State: ledger.Complete}, {Model: "claude-a-1"}, {State: ledger.Complete, User: user}, {State: ledger.Complete, From: at.Add(-time.Hour)}} {
			page, err := r.Requests(t.Context(), auditor(), q)
			require.NoError(t, err)
			require.True(t, slices.ContainsFunc(page.Requests, func(r ledger.Request) bool { return r.ID == one.id && r.State == ledger.Complete }), "%+v", q)
		}
	})
}

// TestNoCursorTellsOfAHiddenTrain: what the caller is not told of a private train, no cursor and no time down to which was looked tells either.
func TestNoCursorTellsOfAHiddenTrain(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.set(time.Now().UTC().Truncate(time.Microsecond))
		p := &past{o: o}
		hidden, key, user := store.NewID("train"), store.NewID("key"), store.NewID("user")
		o.issue(key, "name of it", user)
		require.NoError(t, o.book.Flush(t.Context()))
		for i := range 20 { // more parts of the log than one page looks at
			at := o.now().Add(-time.Duration(1+4*i) * time.Hour)
			p.add(&asked{id: p.idAt("req", at), train: hidden, key: key, model: "claude-a", hops: []hop{{credential: "cred_1", at: at, end: at.Add(time.Second), result: "ok", status: 200, cost: `,"usage":"complete","input_tokens":3,"output_tokens":4`}}})
		}
		p.store()
		require.NoError(t, o.book.Flush(t.Context()))
		r := o.room(o.db)
		o.follow(r)
		operator := auditor() // whom no private train is hidden from
		operator.Role = identity.Operator
		questions := []ledger.RequestQuery{{State: ledger.Complete}, {Model: "claude-a"}, {Key: key, State: ledger.Complete}, {Train: hidden, State: ledger.Complete}, {Train: "slug-of-" + hidden, Model: "claude-a"}}
		for _, q := range questions {
			page, err := r.Requests(t.Context(), operator, q)
			require.NoError(t, err)
			require.NotEmpty(t, page.Requests, "%+v", q)
		}
		require.NoError(t, o.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO private_trains_gone (train_id, deleted_at) VALUES ($1, $2)`, hidden, store.TimeOf(tx.Now()))
			return err
		}))
		for _, q := range questions {
			page, err := r.Requests(t.Context(), operator, q)
			require.NoError(t, err)
			require.Equal(t, ledger.RequestPage{}, page, "%+v", q)
		}
	})
}
