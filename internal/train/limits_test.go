package train_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/usage"
)

type limits = map[quota.Kind]int64

// limit sets limits of the train web.
func (y *yard) limit(set limits) {
	y.t.Helper()
	_, err := y.UpdateTrain(context.Background(), y.admin, "web", train.Patch{Limits: &quota.Patch{Set: set}}, "")
	require.NoError(y.t, err)
}

// limitKey sets limits of a key, and returns the caller that a door makes of it then.
func (y *yard) limitKey(id string, set limits) {
	y.t.Helper()
	_, err := y.UpdateKey(context.Background(), y.admin, "web", id, identity.KeyPatch{Limits: &quota.Patch{Set: set}})
	require.NoError(y.t, err)
}

// keyed issues a key and returns how a door gets its caller at that moment.
func (y *yard) keyed(by identity.Caller) (func() identity.Caller, identity.Key) {
	y.t.Helper()
	k, v, err := y.IssueKey(context.Background(), by, "web", identity.KeyDraft{Name: "laptop"})
	require.NoError(y.t, err)
	return func() identity.Caller {
		caller, err := y.ids.Client(v.Reveal())
		require.NoError(y.t, err)
		caller.RequestID = "req_1"
		return caller
	}, k
}

func (y *yard) webLine() (func() identity.Caller, identity.Key) {
	y.t.Helper()
	y.train("web", train.Hash)
	y.link("web", y.account("alpha"))
	return y.keyed(y.admin)
}

// count is how often requests in a row are let through before one is refused, and that refusal.
func (y *yard) count(caller identity.Caller, w train.Want, o train.Outcome) (n int, refused *fault.Error) {
	y.t.Helper()
	for ; n < 10_000; n++ {
		l, err := y.Lend(context.Background(), caller, w)
		if err != nil {
			f, ok := fault.As(err)
			require.True(y.t, ok, "%v", err)
			return n, f
		}
		l.Done(o)
	}
	y.t.Fatal("nothing refuses")
	return
}

func done(input, output int64) train.Outcome {
	return train.Outcome{Result: train.OK, Status: 200, Usage: usage.Count{State: usage.Complete, Input: input, Output: output}}
}

// settled waits until what requests used is in the counts.
func (y *yard) settled(subject string, l *quota.Limits, k quota.Kind, want int64) {
	y.t.Helper()
	var got int64
	require.Eventually(y.t, func() bool {
		used, err := y.Used(context.Background(), subject, l)
		require.NoError(y.t, err)
		for _, u := range used {
			if u.Kind == k {
				got = u.Used
			}
		}
		return got == want
	}, 5*time.Second, 5*time.Millisecond, "%s", k)
}

func TestLimitOfRequests(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, key := y.webLine()
		y.limit(limits{quota.RequestsPerMinute: 5})
		n, f := y.count(caller(), want(), done(1, 1))
		require.Equal(t, 5, n)
		require.Equal(t, "limit_reached", f.Code)
		require.Equal(t, 61, f.RetryAfter)
		require.Equal(t, "The train of this client key is at its limit: 5 requests a minute. Try again in 61 s, or have an operator raise it: signalbox limits set --train web requests_per_minute=…", f.Detail)
		var over *quota.Refusal
		require.ErrorAs(t, error(f), &over)

		// Who is over the limit costs nothing.
		require.Len(t, y.events(store.LeaseGranted), 5)
		reads := y.db.Statements()
		for range 50 {
			require.Equal(t, "limit_reached", y.refused("limit_reached", caller(), want()).Code)
		}
		require.Less(t, y.db.Statements()-reads, int64(25), "fifty refusals ask the database nothing; what writes and hears beside them may")
		require.Len(t, y.events(store.TrainRefused), 1, "one record a key, reason and minute")

		y.clock.Add(30 * time.Second)
		require.Equal(t, 31, y.refused("limit_reached", caller(), want()).RetryAfter)
		y.clock.Add(31 * time.Second)
		n, _ = y.count(caller(), want(), done(1, 1))
		require.Equal(t, 5, n, "the window slides")

		// Another key of the train shares its limit, and has its own.
		other, _ := y.keyed(y.admin)
		y.refused("limit_reached", other(), want())
		y.limit(limits{quota.RequestsPerMinute: 100})
		y.limitKey(key.ID, limits{quota.RequestsPerMinute: 3})
		n, f = y.count(caller(), want(), done(1, 1))
		require.Equal(t, 3, n, "a limit that is raised counts at once, and the key has its own")
		require.Contains(t, f.Detail, "This client key is at its limit: 3 requests a minute. ")
		require.Contains(t, f.Detail, "signalbox limits set --train web --key "+key.ID+" requests_per_minute=…")
		y.lend(other(), want()).Done(done(1, 1))

		// Requests that cost no tokens count as requests.
		y.clock.Add(2 * time.Minute)
		models := train.Want{Method: "GET", Path: "/v1/models"}
		n, _ = y.count(caller(), models, train.Outcome{Result: train.OK, Status: 200})
		require.Equal(t, 3, n)

		_, err := y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Limits: &quota.Patch{Clear: true}}, "")
		require.NoError(t, err)
		_, err = y.UpdateKey(t.Context(), y.admin, "web", key.ID, identity.KeyPatch{Limits: &quota.Patch{Clear: true}})
		require.NoError(t, err)
		for range 20 {
			y.lend(caller(), want()).Done(done(1, 1))
		}
		updates := y.events(store.TrainUpdate)
		require.Equal(t, []string{"limits.requests_per_minute"}, updates[len(updates)-1].Fields)
	})
}

// TestFailOverIsChargedOnce: a request is one, however many accounts it is tried at; and what it used is told once.
func TestFailOverIsChargedOnce(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Priority)
		for i, name := range []string{"alpha", "beta", "gamma"} {
			y.linkAt("web", y.account(name), i+1)
		}
		caller, _ := y.keyed(y.admin)
		y.limit(limits{quota.RequestsPerMinute: 10, quota.TokensPerMinute: 100_000, quota.ConcurrentStreams: 5})
		tr, err := y.GetTrain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		l := y.lend(caller(), want())
		for range 2 {
			l, err = l.Next(t.Context(), train.Failure{Status: 503})
			require.NoError(t, err)
		}
		require.Equal(t, "gamma", sent(t, l))
		require.Equal(t, quota.Left{Most: 10, Left: 9, Frees: 61}, *l.Quota().Requests)
		y.settled(tr.ID, tr.Limits, quota.ConcurrentStreams, 1)
		l.Done(done(30, 12))
		y.settled(tr.ID, tr.Limits, quota.TokensPerMinute, 42)
		y.settled(tr.ID, tr.Limits, quota.RequestsPerMinute, 1)
		y.settled(tr.ID, tr.Limits, quota.ConcurrentStreams, 0)
		require.Len(t, y.events(store.LeaseGranted), 3)
		require.Len(t, y.outcomes(3), 3)

		// Nothing is left to try: the request is over, and holds nothing.
		y.clock.Add(time.Minute)
		l = y.lend(caller(), want())
		for {
			next, err := l.Next(t.Context(), train.Failure{Status: 503})
			if err != nil {
				require.ErrorIs(t, err, train.ErrNoOther)
				break
			}
			l = next
		}
		y.settled(tr.ID, tr.Limits, quota.ConcurrentStreams, 0)
		y.outcomes(6)
		require.Equal(t, "accounts_cooling", y.refused("accounts_cooling", caller(), want()).Code)
		y.settled(tr.ID, tr.Limits, quota.RequestsPerMinute, 2)
	})
}

func TestTokensAndBudgets(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			y := s.open(t)
			caller, key := y.webLine()
			y.limit(limits{quota.TokensPerMinute: 100})
			tr, err := y.GetTrain(t.Context(), y.admin, "web")
			require.NoError(t, err)
			w := want()
			w.MaxTokens = 500
			l := y.lend(caller(), w)
			require.Equal(t, quota.Left{Most: 100, Left: 0, Frees: 2}, *l.Quota().Tokens)
			f := y.refused("limit_reached", caller(), w)
			require.Contains(t, f.Detail, "100 tokens a minute")
			require.Equal(t, quota.UnderWay, f.RetryAfter)
			l.Done(done(50, 10))
			y.settled(tr.ID, tr.Limits, quota.TokensPerMinute, 60)
			y.lend(caller(), w).Done(train.Outcome{Result: train.OK, Status: 200, Usage: usage.Count{State: usage.Unknown}})
			y.settled(tr.ID, tr.Limits, quota.TokensPerMinute, 570) // with the size of its body
			y.refused("limit_reached", caller(), w)
			y.clock.Add(62 * time.Second)
			y.lend(caller(), w).Done(train.Outcome{Result: train.UpstreamError, Status: 400})
			y.settled(tr.ID, tr.Limits, quota.TokensPerMinute, 0)

			// Budgets of tokens and money survive a restart.
			y.limit(limits{quota.TokensPerMinute: 0})
			y.limitKey(key.ID, limits{quota.MonthlyTokens: 3_000_000, quota.MonthlyCost: 10_000_000})
			w.Model, w.MaxTokens = "claude-sonnet-4-5", 100
			k, err := y.GetKey(t.Context(), y.admin, "web", key.ID)
			require.NoError(t, err)
			y.lend(caller(), w).Done(done(1_000_000, 1000)) // 3 dollars and 1.5 cents
			y.settled(key.ID, k.Limits, quota.MonthlyCost, 3_015_000)
			y.settled(key.ID, k.Limits, quota.MonthlyTokens, 1_001_000)
			y.Close()
			require.NoError(t, y.db.Close())

			y = s.open(t)
			fresh := caller()
			fresh.Limits = k.Limits
			y.settled(key.ID, k.Limits, quota.MonthlyCost, 3_015_000)
			y.lend(fresh, w).Done(done(1_500_000, 200_000)) // 4.5 + 3
			y.settled(key.ID, k.Limits, quota.MonthlyCost, 10_515_000)
			f = y.refused("budget_spent", fresh, w)
			require.Contains(t, f.Detail, "This client key has spent its budget: 10.000000 US dollars a month. ")
			require.Equal(t, int(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC).Sub(s.clock.Now())/time.Second), f.RetryAfter)
			counting := w
			counting.Path = "/v1/messages/count_tokens"
			y.lend(fresh, counting).Done(train.Outcome{Result: train.OK, Status: 200}) // costs nothing
			s.clock.Add(9 * 24 * time.Hour)
			y.lend(fresh, w).Done(done(1, 1))
		})
	}
}

// TestABudgetBeginsWithItsMonth: a budget that is set in the middle of a month counts what was used in it before, for each of the three that can have one.
func TestABudgetBeginsWithItsMonth(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			asked := map[string]int{}
			s.spent = func(_ *store.Tx, subject string) (int64, int64, error) {
				asked[subject]++
				return 900, 5_000_000, nil
			}
			y := s.open(t)
			caller, key := y.webLine()
			w := want()
			w.Model = "claude-sonnet-4-5"
			y.limit(limits{quota.RequestsPerDay: 50})
			require.Empty(t, asked, "it is no budget of a month")
			y.limit(limits{quota.MonthlyTokens: 1000})
			y.lend(caller(), w).Done(done(50, 49))
			y.lend(caller(), w).Done(done(1, 0))
			y.refused("budget_spent", caller(), w)
			y.limit(limits{quota.MonthlyTokens: 2000})
			y.lend(caller(), w).Done(done(1, 1))
			y.limitKey(key.ID, limits{quota.MonthlyCost: 4_999_999})
			y.refused("budget_spent", caller(), w)
			tr, err := y.GetTrain(t.Context(), y.admin, "web")
			require.NoError(t, err)
			require.Equal(t, map[string]int{tr.ID: 1, key.ID: 1}, asked, "once, with the first budget")
		})
	}
}

func TestWhatMayBeAskedFor(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, key := y.webLine()
		_, err := y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Limits: &quota.Patch{Set: limits{quota.MaxTokens: 1000}, Models: &[]string{"claude-sonnet-*", "unpriced-1"}}}, "")
		require.NoError(t, err)
		w := want()
		w.Model, w.MaxTokens = "claude-sonnet-4-5", 1000
		y.lend(caller(), w).Done(done(1, 1))
		for _, c := range []struct {
			code   string
			change func(w *train.Want)
		}{
			{"model_denied", func(w *train.Want) { w.Model = "claude-opus-4-1" }},
			{"model_denied", func(w *train.Want) { w.Model = "" }},
			{"model_denied", func(w *train.Want) { w.Path, w.Model = "/v1/messages/count_tokens", "claude-opus-4-1" }},
			{"model_denied", func(w *train.Want) { w.Method, w.Path, w.Model = "POST", "/v1/messages/batches", "" }},
			{"max_tokens_denied", func(w *train.Want) { w.MaxTokens = 1001 }},
			{"max_tokens_denied", func(w *train.Want) { w.MaxTokens = 0 }},
			{"max_tokens_denied", func(w *train.Want) { w.MaxTokens = -1 }},
		} {
			bad := w
			c.change(&bad)
			f := y.refused(c.code, caller(), bad)
			require.Equal(t, fault.Invalid, f.Kind)
			require.NotContains(t, f.Detail, "opus")
		}
		y.lend(caller(), train.Want{Method: "GET", Path: "/v1/messages/batches/msgbatch_1"}).Done(train.Outcome{Result: train.OK, Status: 200})
		y.lend(caller(), train.Want{Method: "GET", Path: "/v1/models"}).Done(train.Outcome{Result: train.OK, Status: 200})
		y.limitKey(key.ID, limits{quota.MonthlyCost: 1})
		unpriced := w
		unpriced.Model = "unpriced-1"
		y.refused("model_unpriced", caller(), unpriced)
		require.Len(t, y.events(store.TrainRefused), 3, "one a code and minute")

		// A limit that this version does not know denies everything.
		y.sql(`UPDATE client_keys SET limits = '{"requests_per_week":5}'`, store.TopicKey, key.ID)
		f := y.refused("limits_unknown", caller(), w)
		require.Equal(t, fault.Forbidden, f.Kind)
		y.limitKey(key.ID, limits{quota.MaxTokens: 5000})
		y.refused("limits_unknown", caller(), w)
		_, err = y.UpdateKey(t.Context(), y.admin, "web", key.ID, identity.KeyPatch{Limits: &quota.Patch{Clear: true}})
		require.NoError(t, err)
		y.lend(caller(), w).Done(done(1, 1))

		// So do counts that it cannot read.
		y.limitKey(key.ID, limits{quota.RequestsPerDay: 10})
		y.lend(caller(), w).Done(done(1, 1))
		require.NoError(t, y.db.Bookkeep(t.Context(), store.Counter, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE quota_counts SET state = $1 WHERE subject = $2`, []byte{9, 9}, key.ID)
			return err
		}))
		y.refused("limits_unknown", caller(), w)
	})
}

// TestLimitOfAPerson: all keys that a person made share the person's limits, whatever train they are of; those of others do not.
func TestLimitOfAPerson(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		_, _ = y.webLine()
		bo, _, err := y.ids.CreateUser(t.Context(), y.admin, identity.UserDraft{Email: "bo@example.com", Name: "Bo", Role: identity.Operator, Password: secret.FromString("a long enough word")})
		require.NoError(t, err)
		by := identity.Caller{Kind: identity.KindPerson, ID: bo.ID, Name: "Bo", UserID: bo.ID, Role: identity.Operator, SteppedUpAt: y.clock.Now().Add(time.Hour)}
		first, _ := y.keyed(by)
		second, k := y.keyed(by)
		others, _ := y.keyed(y.admin)
		_, err = y.ids.UpdateUser(t.Context(), y.admin, bo.ID, identity.UserPatch{Limits: &quota.Patch{Set: limits{quota.RequestsPerHour: 4}}})
		require.NoError(t, err)
		n, f := y.count(first(), want(), done(1, 1))
		require.Equal(t, 4, n)
		require.Contains(t, f.Detail, "The person who made this client key is at their limit: 4 requests an hour. ")
		for _, who := range []identity.Caller{y.admin, by} { // who may see the person
			used, err := y.PersonLimitsUsed(t.Context(), who, bo.ID)
			require.NoError(t, err)
			require.Len(t, used, 1)
			require.Equal(t, quota.Used{Kind: quota.RequestsPerHour, Most: 4, Used: 4, Frees: used[0].Frees}, used[0])
		}
		_, err = y.PersonLimitsUsed(t.Context(), by, y.admin.UserID)
		requireFault(t, "not_found", err)
		y.refused("limit_reached", second(), want())
		y.lend(others(), want()).Done(done(1, 1))

		// A successor is the same person's, and goes on with the key's own limits and counts.
		_, err = y.ids.UpdateUser(t.Context(), y.admin, bo.ID, identity.UserPatch{Limits: &quota.Patch{Clear: true}})
		require.NoError(t, err)
		y.limitKey(k.ID, limits{quota.RequestsPerHour: 2})
		n, _ = y.count(second(), want(), done(1, 1))
		require.Equal(t, 2, n)
		next, value, err := y.ReplaceKey(t.Context(), by, "web", k.ID, identity.KeyReplacement{})
		require.NoError(t, err)
		require.Equal(t, `{"requests_per_hour":2}`, next.Limits.Text())
		heir, err := y.ids.Client(value.Reveal())
		require.NoError(t, err)
		y.refused("limit_reached", heir, want())

		// Nobody sets their own limits but who may set everybody's.
		_, err = y.ids.UpdateUser(t.Context(), by, bo.ID, identity.UserPatch{Limits: &quota.Patch{Clear: true}})
		requireFault(t, "forbidden", err)
	})
}

// TestRequestsAtOnce: so many are under way over all instances, and those of an instance that was killed count no more after 15 seconds.
func TestRequestsAtOnce(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			y := s.open(t)
			caller, _ := y.webLine()
			y.limit(limits{quota.ConcurrentStreams: 2})
			a, b := y.lend(caller(), want()), y.lend(caller(), want())
			f := y.refused("limit_reached", caller(), want())
			require.Contains(t, f.Detail, "2 requests at once")
			y.lend(caller(), train.Want{Method: "GET", Path: "/v1/models"}).Done(train.Outcome{Result: train.OK, Status: 200})
			a.Done(done(1, 1))
			var c *train.Lease
			require.Eventually(t, func() bool {
				var err error
				c, err = y.Lend(t.Context(), caller(), want())
				s.clock.Add(50 * time.Millisecond) // by which the room knows when to ask again
				return err == nil
			}, 5*time.Second, 10*time.Millisecond)
			y.refused("limit_reached", caller(), want())
			_, _ = b, c // never settled: their process dies

			again := caller()
			if e == store.SQLite {
				y.Close()
				require.NoError(t, y.db.Close())
				y = s.open(t)
				y.lend(again, want())
				return
			}
			other := s.open(t)
			other.refused("limit_reached", again, want())
			s.clock.Add(14 * time.Second)
			require.NoError(t, other.Show(t.Context()))
			other.refused("limit_reached", again, want())
			s.clock.Add(2 * time.Second)
			require.NoError(t, other.Show(t.Context()))
			other.lend(again, want())
			s.clock.Add(time.Second)
			other.lend(again, want())
			other.refused("limit_reached", again, want())
		})
	}
}

// TestThreeInstancesShareALimit: three rooms on one PostgreSQL let through what one limit allows, no more and hardly less, whoever asks how often.
func TestThreeInstancesShareALimit(t *testing.T) {
	for _, e := range storetest.Engines() {
		if e == store.SQLite {
			continue // one process alone
		}
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			const most = 600
			first := s.open(t)
			caller, _ := first.webLine()
			first.limit(limits{quota.RequestsPerMinute: most, quota.TokensPerMinute: 1_000_000_000})
			tr, err := first.GetTrain(t.Context(), first.admin, "web")
			require.NoError(t, err)
			yards := []*yard{first, s.open(t), s.open(t)}
			for range 3 { // three minutes
				var let, refused atomic.Int64
				var wg sync.WaitGroup
				for _, y := range yards {
					for range 8 {
						wg.Go(func() {
							for range 80 {
								l, err := y.Lend(context.Background(), caller(), want())
								if err == nil {
									let.Add(1)
									l.Done(done(1, 1))
									continue
								}
								var f *fault.Error
								if !errors.As(err, &f) || f.Code != "limit_reached" {
									t.Errorf("%v", err)
									return
								}
								refused.Add(1)
							}
						})
					}
				}
				wg.Wait()
				require.EqualValues(t, most, let.Load())
				require.EqualValues(t, 3*8*80-most, refused.Load())
				first.settled(tr.ID, tr.Limits, quota.TokensPerMinute, 2*most) // what ends later counts in the next minute
				s.clock.Add(61 * time.Second)
			}
			require.Len(t, first.events(store.LeaseGranted), 3*most)
		})
	}
}

// TestPeopleAreTold: of 80 and of 100 percent, once, beside the requests.
func TestPeopleAreTold(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, key := y.webLine()
		y.limit(limits{quota.RequestsPerMinute: 10})
		y.limitKey(key.ID, limits{quota.MonthlyTokens: 100})
		for range 9 {
			y.lend(caller(), want()).Done(done(5, 5))
		}
		require.Eventually(t, func() bool {
			return len(y.events(store.LimitNear)) == 2 && len(y.events(store.LimitReached)) == 0
		}, 5*time.Second, 10*time.Millisecond)
		y.clock.Add(61 * time.Second)
		y.lend(caller(), want()).Done(done(5, 5))
		require.Eventually(t, func() bool { return len(y.events(store.LimitReached)) == 1 }, 5*time.Second, 10*time.Millisecond)
		ev := y.events(store.LimitReached)[0]
		require.Equal(t, store.Target{Kind: "client_key", ID: key.ID, Name: "laptop"}, ev.Target)
		require.Equal(t, "monthly_tokens", detail(t, ev, "limit"))
		require.Equal(t, "100", detail(t, ev, "most"))
		y.refused("budget_spent", caller(), want())
		time.Sleep(50 * time.Millisecond)
		require.Len(t, y.events(store.LimitNear), 2)
		require.Len(t, y.events(store.LimitReached), 1)
	})
}

// BenchmarkLimits compares a request without limits with one that is held against three.
func BenchmarkLimits(b *testing.B) {
	for _, e := range storetest.Engines() {
		for _, limited := range []bool{false, true} {
			name := string(e) + "/unlimited"
			if limited {
				name = string(e) + "/limited"
			}
			b.Run(name, func(b *testing.B) {
				y := newSite(b, e).open(b)
				caller, key := y.webLine()
				if limited {
					y.limit(limits{quota.RequestsPerMinute: 1e12, quota.TokensPerDay: 1e14})
					y.limitKey(key.ID, limits{quota.MonthlyTokens: 1e14})
				}
				b.ReportAllocs()
				b.SetParallelism(16)
				b.RunParallel(func(pb *testing.PB) {
					c := caller()
					for pb.Next() {
						l, err := y.Lend(context.Background(), c, want())
						if err != nil {
							b.Error(err)
							return
						}
						l.Done(done(10, 10))
					}
				})
			})
		}
	}
}
