package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// office is a log whose clock the test sets, and what follows it.
type office struct {
	t      testing.TB
	cfg    store.Config
	db     *store.DB
	book   *audit.Log
	people *identity.Room
	prices *price.Table
	clock  atomic.Pointer[time.Time]
	random *rand.Rand
	open   []store.Event // intents that have no outcome yet
	n      int
}

func newOffice(t testing.TB, e store.Engine) *office {
	t.Helper()
	o := &office{t: t}
	o.set(time.Date(2026, 1, 30, 21, 40, 0, 0, time.UTC))
	o.cfg = storetest.Config(t, e)
	o.cfg.Clock = func() time.Time { return *o.clock.Load() }
	o.db = storetest.OpenConfig(t, o.cfg)
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	ring, err := keyring.Open(t.Context(), keyring.Config{DB: o.db, Root: root})
	require.NoError(t, err)
	o.people, err = identity.New(identity.Config{DB: o.db, Ring: ring, FailureLimit: 1_000_000})
	require.NoError(t, err)
	o.book, err = audit.New(t.Context(), audit.Config{DB: o.db, Ring: ring})
	require.NoError(t, err)
	o.prices, err = price.BuiltIn()
	require.NoError(t, err)
	o.prices, err = o.prices.With([]byte(`{"models": [{"model": "claude-a", "input": 3, "output": 15.5, "cache_read": 0.3, "cache_creation_5m": 3.75, "cache_creation_1h": 6.000001}]}`))
	require.NoError(t, err)
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SIGNALBOX_SEED"); text != "" {
		_, err := fmt.Sscan(text, &seed)
		require.NoError(t, err)
	}
	t.Logf("SIGNALBOX_SEED=%d", seed)
	o.random = rand.New(rand.NewPCG(seed, 1))
	return o
}

func each(t *testing.T, fn func(t *testing.T, o *office)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) { fn(t, newOffice(t, e)) })
	}
}

func (o *office) set(at time.Time)     { o.clock.Store(&at) }
func (o *office) now() time.Time       { return *o.clock.Load() }
func (o *office) wait(d time.Duration) { o.set(o.now().Add(d)) }

// room is an instance; with another database handle, one of another process.
func (o *office) room(db *store.DB) *ledger.Room {
	o.t.Helper()
	return o.another(db, 1+o.random.IntN(60))
}

func (o *office) another(db *store.DB, chunk int) *ledger.Room {
	o.t.Helper()
	r, err := ledger.New(ledger.Config{DB: db, Audit: o.book, Identity: o.people, Prices: o.prices, Instance: "test", Claim: time.Second, Chunk: chunk})
	require.NoError(o.t, err)
	return r
}

// commit waits until what was recorded for later is stored: it goes with the next commit.
func (o *office) commit() { o.lend(o.intent("train_1", "key_1", "cred_1", "/v1/messages", "claude-a")) }

// follow has an instance add up all that is there.
func (o *office) follow(r *ledger.Room) {
	o.t.Helper()
	require.NoError(o.t, o.book.Flush(o.t.Context()))
	for {
		more, err := r.Pass(o.t.Context())
		require.NoError(o.t, err)
		if !more {
			return
		}
	}
}

func (o *office) act(e store.Event) {
	o.t.Helper()
	require.NoError(o.t, o.db.Write(o.t.Context(), func(tx *store.Tx) error { return tx.Record(e) }))
}

func person(id, name string) store.Actor { return store.Actor{Kind: "person", ID: id, Name: name} }

// issue records that somebody made a client key.
func (o *office) issue(key, name, user string) {
	o.act(store.Event{Actor: person(user, "Ada"), Action: store.KeyIssue, Target: store.Target{Kind: "client_key", ID: key, Name: name}})
}

// intent is that of a lease.
func (o *office) intent(train, key, credential, path, model string) store.Event {
	o.n++
	return store.Event{
		Actor: store.Actor{Kind: "client_key", ID: key, Name: "name of " + key}, OnBehalf: train, Action: store.LeaseGranted, Outcome: store.OutcomePending,
		Target:  store.Target{Kind: "credential", ID: credential, Name: "name of " + credential},
		Details: store.Details{store.Str("lease", store.NewID("lease")), store.Str("train", "slug-of-"+train), store.Int("attempt", 1), store.Str("path", path), store.Str("model", model)},
	}
}

// outcome is what became of an intent.
func outcome(of store.Event, result string, cost ...store.Detail) store.Event {
	lease, _ := of.Details.Get("lease")
	e := of
	e.Action, e.Outcome = store.LeaseOutcome, store.OutcomeOK
	if result != "ok" && result != "client_cancelled" {
		e.Outcome = store.OutcomeFailed
	}
	e.Details = append(store.Details{lease, store.Str("result", result)}, cost...)
	return e
}

func (o *office) lend(e store.Event) {
	o.t.Helper()
	_, err := o.db.Append(o.t.Context(), e)
	require.NoError(o.t, err)
}

func cost(state, model string, in, out, read, five, hour, tools int64) []store.Detail {
	if state == "" {
		return nil
	}
	d := []store.Detail{store.Str("usage", state)}
	if state == "unknown" {
		return d
	}
	if model != "" {
		d = append(d, store.Str("model", model))
	}
	d = append(d, store.Int("input_tokens", in), store.Int("output_tokens", out))
	for _, one := range []struct {
		name string
		n    int64
	}{{"cache_read_tokens", read}, {"cache_creation_5m_tokens", five}, {"cache_creation_1h_tokens", hour}, {"tool_calls", tools}} {
		if one.n > 0 {
			d = append(d, store.Int(one.name, one.n))
		}
	}
	return d
}

// ending is how an attempt ends that tells no cost, and how it counts by the guide: where answers cost tokens, and where they do not.
type ending struct {
	result       string
	status       int64
	unsent       bool
	costly, free string
}

func endings() []ending {
	return []ending{
		{"ok", 200, false, "unknown", "complete"},
		{"client_cancelled", 0, false, "unknown", "complete"},
		{"client_cancelled", 0, true, "none", "none"},
		{"client_cancelled", 400, false, "failed", "failed"},
		{"upstream_error", 500, false, "failed", "failed"},
		{"upstream_unreachable", 0, false, "unknown", "failed"}, // it took the request, and did not answer in time
		{"upstream_unreachable", 0, true, "failed", "failed"},
		{"upstream_broke", 200, false, "unknown", "failed"},
		{"upstream_broke", 503, false, "failed", "failed"},
		{"refused", 0, false, "none", "none"},
		{"refused", 0, true, "none", "none"},
		{"revoked", 0, false, "unknown", "failed"},
		{"revoked", 200, false, "unknown", "failed"},
		{"revoked", 0, true, "none", "none"},
		{"of another version", 0, false, "unknown", "failed"},
	}
}

func (by ending) of(intent store.Event) store.Event {
	e := outcome(intent, by.result, store.Int("status", by.status))
	if by.unsent {
		e.Details = append(e.Details, store.Bool("unsent", true))
	}
	return e
}

// live records what a busy server would: intents, outcomes of these and of earlier ones, and acts in between.
func (o *office) live(steps int) {
	o.t.Helper()
	pick := func(words ...string) string { return words[o.random.IntN(len(words))] }
	for range steps {
		switch o.random.IntN(12) {
		case 0:
			o.commit() // an outcome comes within seconds of its time, whatever this clock says
			o.wait(time.Duration(o.random.Int64N(int64(9 * time.Hour))))
		case 1:
			o.act(store.Event{Actor: person("user_1", "Ada"), Action: store.CredentialUpdate, Target: store.Target{Kind: "credential", ID: pick("cred_1", "cred_9"), Name: pick("new", "newer")}})
		case 2, 3, 4, 5, 6:
			e := o.intent(pick("train_1", "train_2"), pick("key_1", "key_2", "key_3", "key_4"), pick("cred_1", "cred_2"), pick("/v1/messages", "/v1/messages", "/v1/messages/count_tokens"), pick("claude-a", "claude-b", ""))
			o.lend(e)
			o.open = append(o.open, e)
		default:
			if len(o.open) == 0 {
				continue
			}
			i := o.random.IntN(len(o.open))
			e := o.open[i]
			if o.random.IntN(10) > 0 { // else it is told twice
				o.open = append(o.open[:i], o.open[i+1:]...)
			}
			n := func() int64 { return o.random.Int64N(5000) }
			if o.random.IntN(2) == 0 {
				o.db.AppendLater(endings()[o.random.IntN(len(endings()))].of(e))
				continue
			}
			o.db.AppendLater(outcome(e, pick("ok", "ok", "ok", "client_cancelled", "upstream_error", "upstream_unreachable", "upstream_broke", "refused", "revoked"),
				cost(pick("complete", "complete", "partial", "unknown"), pick("", "claude-a-20250101"), n(), n(), n(), n(), n()%100, n()%3)...))
			if o.random.IntN(4) == 0 {
				time.Sleep(20 * time.Millisecond) // its commit
			}
		}
	}
}

// brute counts the log by the plain reading of it, by group.
func (o *office) brute(q ledger.Query) map[string]ledger.Used {
	o.t.Helper()
	require.NoError(o.t, o.book.Flush(o.t.Context()))
	intents, outcomes := map[string]store.Event{}, map[string]store.Event{}
	owners := map[string]string{}
	detail := func(e store.Event, name string) string {
		if d, ok := e.Details.Get(name); ok {
			return d.Text()
		}
		return ""
	}
	number := func(e store.Event, name string) int64 {
		var n int64
		if d, ok := e.Details.Get(name); ok {
			_, err := fmt.Sscan(d.Text(), &n)
			require.NoError(o.t, err)
		}
		return n
	}
	for after := int64(-1); ; {
		page, err := o.book.Tail(o.t.Context(), after, 1000)
		require.NoError(o.t, err)
		if len(page) == 0 {
			break
		}
		for _, entry := range page {
			after = entry.Leaf
			switch e := entry.Event; e.Action {
			case store.KeyIssue:
				owners[e.Target.ID] = e.Actor.ID
			case store.LeaseGranted:
				intents[detail(e, "lease")] = e
			case store.LeaseOutcome:
				lease := detail(e, "lease")
				if _, twice := outcomes[lease]; !twice && e.At.Sub(intents[lease].At) <= 24*time.Hour {
					outcomes[lease] = e
				}
			}
		}
	}
	out := map[string]ledger.Used{}
	for lease, e := range intents {
		if e.At.Before(q.From) || !e.At.Before(q.To) {
			continue
		}
		end, ended := outcomes[lease]
		u := ledger.Used{Requests: 1, Input: number(end, "input_tokens"), Output: number(end, "output_tokens"), CacheRead: number(end, "cache_read_tokens"),
			CacheWrite5m: number(end, "cache_creation_5m_tokens"), CacheWrite1h: number(end, "cache_creation_1h_tokens"), ToolCalls: number(end, "tool_calls")}
		model := detail(e, "model")
		if model == "claude-b" {
			model = "" // it has no price, and no answer names it
		}
		result, state := detail(end, "result"), detail(end, "usage")
		if !ended {
			result, state = "", ""
		}
		switch {
		case !ended && o.now().Sub(e.At) < 15*time.Minute:
			state = "pending"
		case !ended:
			state = "unknown"
		case state == "":
			for _, by := range endings() {
				if by.result == result && by.status == number(end, "status") && by.unsent == (detail(end, "unsent") == "true") {
					state = by.free
					if detail(e, "path") == "/v1/messages" {
						state = by.costly
					}
				}
			}
		}
		to := map[string]*int64{"pending": &u.Pending, "unknown": &u.Unknown, "complete": &u.Complete, "partial": &u.Partial, "failed": &u.Failed}[state]
		if state == "none" {
			continue
		}
		require.NotNil(o.t, to, "%+v", end)
		*to = 1
		if state == "failed" {
			model = ""
		}
		if m := detail(end, "model"); ended && m != "" {
			model = m
		}
		if q.Model != "" && q.Model != model || q.Key != "" && q.Key != e.Actor.ID || q.User != "" && q.User != owners[e.Actor.ID] || q.Train != "" && q.Train != e.OnBehalf && q.Train != "slug-of-"+e.OnBehalf ||
			q.Credential != "" && q.Credential != e.Target.ID {
			continue
		}
		u.Cost.Add(o.prices, model, price.Tokens{Input: u.Input, Output: u.Output, CacheRead: u.CacheRead, CacheWrite5m: u.CacheWrite5m, CacheWrite1h: u.CacheWrite1h})
		name := ""
		for _, g := range q.By {
			at := e.At.UTC()
			name += "|" + map[ledger.Group]string{
				ledger.ByHour: at.Format("2006-01-02T15"), ledger.ByDay: at.Format("2006-01-02"), ledger.ByMonth: at.Format("2006-01"), ledger.ByTrain: e.OnBehalf,
				ledger.ByCredential: e.Target.ID, ledger.ByKey: e.Actor.ID, ledger.ByUser: owners[e.Actor.ID], ledger.ByModel: model,
			}[g]
		}
		out[name] = plus(out[name], u)
	}
	return out
}

func plus(a, b ledger.Used) ledger.Used {
	return ledger.Used{
		Requests: a.Requests + b.Requests, Complete: a.Complete + b.Complete, Partial: a.Partial + b.Partial, Unknown: a.Unknown + b.Unknown, Failed: a.Failed + b.Failed, Pending: a.Pending + b.Pending,
		Input: a.Input + b.Input, Output: a.Output + b.Output, CacheRead: a.CacheRead + b.CacheRead, CacheWrite5m: a.CacheWrite5m + b.CacheWrite5m, CacheWrite1h: a.CacheWrite1h + b.CacheWrite1h,
		ToolCalls: a.ToolCalls + b.ToolCalls, Cost: plusCost(a.Cost, b.Cost),
	}
}

func plusCost(a, b price.Cost) price.Cost {
	a.Plus(b)
	return a
}

func auditor() identity.Caller {
	return identity.Caller{Kind: identity.KindPerson, ID: "user_a", UserID: "user_a", Role: identity.Auditor}
}

// told asks a room, a page of three rows at a time, and names the groups as brute does.
func (o *office) told(r *ledger.Room, q ledger.Query) map[string]ledger.Used {
	o.t.Helper()
	out := map[string]ledger.Used{}
	var total ledger.Used
	q.Limit = 3
	for {
		report, err := r.Read(o.t.Context(), auditor(), q)
		require.NoError(o.t, err)
		require.Zero(o.t, report.Behind())
		for _, row := range report.Rows {
			name := ""
			for _, g := range q.By {
				name += "|" + map[ledger.Group]string{
					ledger.ByHour: row.Begins.Format("2006-01-02T15"), ledger.ByDay: row.Begins.Format("2006-01-02"), ledger.ByMonth: row.Begins.Format("2006-01"), ledger.ByTrain: row.Train.ID,
					ledger.ByCredential: row.Credential.ID, ledger.ByKey: row.Key.ID, ledger.ByUser: row.User.ID, ledger.ByModel: row.Model,
				}[g]
			}
			require.NotContains(o.t, out, name)
			out[name] = row.Used
			total = plus(total, row.Used)
		}
		if q.Cursor = report.Next; q.Cursor == "" {
			require.Equal(o.t, report.Total, total)
			return out
		}
	}
}

// agree compares the sums with the log.
func (o *office) agree(r *ledger.Room) {
	o.t.Helper()
	end := o.now().Add(time.Hour).Truncate(time.Hour)
	begin := time.Date(2026, 1, 30, 0, 0, 0, 0, time.UTC)
	middle := begin.Add(end.Sub(begin) / 3).Truncate(time.Hour)
	for _, q := range []ledger.Query{
		{},
		{By: []ledger.Group{ledger.ByHour}},
		{By: []ledger.Group{ledger.ByDay}},
		{By: []ledger.Group{ledger.ByMonth, ledger.ByModel}},
		{By: []ledger.Group{ledger.ByTrain, ledger.ByCredential}},
		{By: []ledger.Group{ledger.ByDay, ledger.ByKey, ledger.ByModel}},
		{By: []ledger.Group{ledger.ByUser}},
		{By: []ledger.Group{ledger.ByModel}, Train: "slug-of-train_1"},
		{By: []ledger.Group{ledger.ByKey}, Train: "train_2", Credential: "cred_1", Model: "claude-a"},
		{By: []ledger.Group{ledger.ByMonth}, User: "user_2", Key: "key_3"},
	} {
		for _, span := range [][2]time.Time{{begin, end}, {middle, end}, {begin.Add(22 * time.Hour), middle}} {
			if !span[0].Before(span[1]) || containsHour(q.By) && span[1].Sub(span[0]) > 90*24*time.Hour {
				continue
			}
			q.From, q.To = span[0], span[1]
			require.Equal(o.t, o.brute(q), o.told(r, q), "%+v", q)
		}
	}
}

func containsHour(by []ledger.Group) bool { return len(by) > 0 && by[0] == ledger.ByHour }

func (o *office) keys() {
	o.issue("key_1", "laptop", "user_1")
	o.issue("key_2", "ci", "user_1")
	o.issue("key_3", "desk", "user_2") // that of key_4 is not known
}

// TestSumsAgreeWithTheLog: whatever was lent, the sums are what one counts in the log, also when they are made anew.
func TestSumsAgreeWithTheLog(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.keys()
		r := o.room(o.db)
		for range 6 {
			o.live(150)
			o.commit()
			o.follow(r)
			o.agree(r)
		}
		o.wait(30 * time.Hour) // what has no outcome has none for good
		again := o.room(o.db)
		o.follow(again)
		o.agree(again)
		o.rebuild(r)
		o.follow(o.room(o.db))
		o.agree(r)
	})
}

// TestNothingIsLostOrCountedTwice: instances compete, are cut off in the middle and begin anew, while the log grows.
func TestNothingIsLostOrCountedTwice(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.keys()
		other := o.db
		if !o.cfg.PostgresURL.IsZero() {
			other = storetest.OpenConfig(t, o.cfg) // another process
		}
		var stop atomic.Bool
		var added, cut atomic.Int64
		var wg sync.WaitGroup
		rooms := []*ledger.Room{o.room(o.db), o.room(other), o.room(o.db)}
		for i, db := range []*store.DB{o.db, other, o.db} {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(i), 2))
				r := rooms[i]
				for !stop.Load() {
					ctx, cancel := context.WithCancel(context.Background())
					if random.IntN(2) == 0 {
						time.AfterFunc(time.Duration(random.IntN(4000))*time.Microsecond, cancel)
					}
					_, err := r.Pass(ctx)
					switch {
					case err == nil:
						added.Add(1)
					case errors.Is(err, context.Canceled) || ctx.Err() != nil:
						cut.Add(1)
					default:
						t.Error(err)
					}
					cancel()
					if random.IntN(5) == 0 {
						r = o.another(db, 1+random.IntN(60)) // it died, and its claim is left to end
					}
					time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
				}
			})
		}
		for range 30 {
			o.live(30)
			require.NoError(t, o.book.Flush(t.Context()))
			o.wait(2 * time.Second) // claims of the dead end
		}
		stop.Store(true)
		wg.Wait()
		require.Positive(t, added.Load())
		require.Positive(t, cut.Load())
		o.commit()
		o.wait(time.Minute)
		r := o.room(o.db)
		o.follow(r)
		o.agree(r)
	})
}

// TestUsageByRole: members read the usage of no train but their own, and nobody's requests one by one, and people are told apart only to those who may see people.
func TestUsageByRole(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.keys()
		o.lend(o.intent("train_1", "key_1", "cred_1", "/v1/messages", "claude-a"))
		r := o.room(o.db)
		o.follow(r)
		for _, role := range identity.Roles() {
			c := identity.Caller{Kind: identity.KindPerson, ID: "user_x", UserID: "user_x", Role: role}
			report, err := r.Read(t.Context(), c, ledger.Query{By: []ledger.Group{ledger.ByTrain}})
			if role == identity.Member {
				require.NoError(t, err)
				require.Empty(t, report.Rows)
				require.Zero(t, report.Total)
				_, err = r.Requests(t.Context(), c, ledger.RequestQuery{})
				require.Equal(t, "forbidden", fault.Of(err).Code)
				_, err = r.Request(t.Context(), c, store.NewID("req"))
				require.Equal(t, "forbidden", fault.Of(err).Code)
				_, err = r.Read(t.Context(), c, ledger.Query{User: "user_x"})
				require.Equal(t, "forbidden", fault.Of(err).Code)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, []ledger.Row{{Train: ledger.Named{ID: "train_1", Name: "slug-of-train_1"}, Used: ledger.Used{Requests: 1, Pending: 1}}}, report.Rows)
			for _, q := range []ledger.Query{{By: []ledger.Group{ledger.ByUser}}, {User: "user_1"}} {
				_, err = r.Read(t.Context(), c, q)
				if role == identity.Operator {
					require.Equal(t, "forbidden", fault.Of(err).Code)
				} else {
					require.NoError(t, err)
				}
			}
		}
		for _, c := range []identity.Caller{{}, {Kind: identity.KindClientKey, ID: "key_1", TrainID: "train_1"}, {Kind: identity.KindToken, ID: "tok_1", UserID: "user_1", Role: identity.Administrator}} {
			_, err := r.Read(t.Context(), c, ledger.Query{})
			require.Error(t, err, c.Kind)
		}
	})
}

// TestNamesOutliveThings: what was used is named by what it was last called.
func TestNamesOutliveThings(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.keys()
		o.lend(o.intent("train_1", "key_1", "cred_1", "/v1/messages", "claude-a"))
		o.follow(o.room(o.db))
		o.wait(time.Minute)
		o.act(store.Event{Actor: person("user_2", "Bea"), Action: store.KeyUpdate, Target: store.Target{Kind: "client_key", ID: "key_1", Name: "laptop"}})
		o.act(store.Event{Actor: person("user_2", "Bea"), Action: store.CredentialUpdate, Target: store.Target{Kind: "credential", ID: "cred_1", Name: "renamed"}})
		o.act(store.Event{Actor: person("user_2", "Bea"), Action: store.CredentialDelete, Target: store.Target{Kind: "credential", ID: "cred_1", Name: "renamed"}})
		r := o.room(o.db)
		o.follow(r)
		report, err := r.Read(t.Context(), auditor(), ledger.Query{By: []ledger.Group{ledger.ByCredential, ledger.ByKey, ledger.ByUser}})
		require.NoError(t, err)
		require.Len(t, report.Rows, 1)
		require.Equal(t, ledger.Named{ID: "cred_1", Name: "renamed"}, report.Rows[0].Credential)
		require.Equal(t, ledger.Named{ID: "key_1", Name: "laptop"}, report.Rows[0].Key)
		require.Equal(t, ledger.Named{ID: "user_1", Name: "Ada"}, report.Rows[0].User)
	})
}

// TestAnOtherFormIsMadeAnew: sums that an older version made in another way, or of another log, are made anew; those of a newer one are left alone.
func TestAnOtherFormIsMadeAnew(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.keys()
		o.lend(o.intent("train_1", "key_1", "cred_1", "/v1/messages", "claude-a"))
		o.follow(o.room(o.db))
		spoil := func(set string) {
			o.wait(time.Minute) // the claim of who is gone ends
			require.NoError(t, o.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
				if _, err := tx.Exec(`DELETE FROM usage_open`); err != nil {
					return err
				}
				_, err := tx.Exec(`UPDATE usage_follower SET ` + set)
				return err
			}))
		}
		requests := func(r *ledger.Room) int64 {
			report, err := r.Read(t.Context(), auditor(), ledger.Query{})
			require.NoError(t, err)
			return report.Total.Requests
		}
		for _, set := range []string{`form = 0`, `position = 100000`, `leaf = 'of another log'`} {
			spoil(set)
			r := o.room(o.db)
			o.follow(r)
			require.EqualValues(t, 1, requests(r), set)
		}
		spoil(`form = 1000`)
		r := o.room(o.db)
		o.follow(r)
		require.Zero(t, requests(r))
	})
}

// TestWrongQuestions: what cannot be asked is refused with the place of what is wrong.
func TestWrongQuestions(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := o.room(o.db)
		for where, q := range map[string]ledger.Query{
			"query.group_by": {By: []ledger.Group{"week"}}, "query.limit": {Limit: -1}, "query.cursor": {Cursor: "e30"}, "query.from": {From: o.now().Add(time.Hour)},
		} {
			_, err := r.Read(t.Context(), auditor(), q)
			require.Equal(t, fault.Unprocessable, fault.KindOf(err), where)
			require.Contains(t, fmt.Sprint(fault.Of(err).Fields), where)
		}
		for _, q := range []ledger.Query{
			{By: []ledger.Group{ledger.ByDay, ledger.ByHour}}, {By: []ledger.Group{ledger.ByDay, ledger.ByDay}}, {By: []ledger.Group{ledger.ByHour}, From: o.now().AddDate(-1, 0, 0)},
			{By: []ledger.Group{ledger.ByDay}, From: o.now().AddDate(-9, 0, 0)}, {Cursor: "!"},
			{To: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, {To: time.Date(1969, 12, 31, 23, 0, 0, 0, time.UTC)}, {From: time.Date(1969, 12, 31, 23, 0, 0, 0, time.UTC), To: time.Date(1970, 1, 1, 1, 0, 0, 0, time.UTC)},
			{From: time.Date(9998, 12, 31, 23, 0, 0, 0, time.FixedZone("west", -3600)), To: time.Date(292277026596, 1, 1, 0, 0, 0, 0, time.UTC)},
		} {
			_, err := r.Read(t.Context(), auditor(), q)
			require.Equal(t, fault.Unprocessable, fault.KindOf(err), "%+v", q)
		}
		for _, at := range []time.Time{time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9998, 12, 31, 23, 59, 59, 0, time.UTC)} {
			report, err := r.Read(t.Context(), auditor(), ledger.Query{To: at})
			require.NoError(t, err)
			_, err = report.To.MarshalJSON()
			require.NoError(t, err)
		}
	})
}

// TestFollowsInTheBackground: a started room follows by itself, and gives its claim back at its end.
func TestFollowsInTheBackground(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.keys()
		r, err := ledger.New(ledger.Config{DB: o.db, Audit: o.book, Identity: o.people, Prices: o.prices, Every: 5 * time.Millisecond})
		require.NoError(t, err)
		r.Start(t.Context())
		o.lend(o.intent("train_1", "key_1", "cred_1", "/v1/messages", "claude-a"))
		require.NoError(t, o.book.Flush(t.Context()))
		require.Eventually(t, func() bool {
			report, err := r.Read(t.Context(), auditor(), ledger.Query{})
			return err == nil && report.Total.Requests == 1
		}, 10*time.Second, 10*time.Millisecond)
		r.Close()
		r.Close()
		second := o.room(o.db) // at once: the claim was given back
		o.lend(o.intent("train_1", "key_1", "cred_1", "/v1/messages", "claude-a"))
		o.follow(second)
		report, err := second.Read(t.Context(), auditor(), ledger.Query{})
		require.NoError(t, err)
		require.EqualValues(t, 2, report.Total.Requests)
	})
}
