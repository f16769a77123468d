package quota_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/quota"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// book is the counts of some subjects, written and read at each step as the database does.
type book struct {
	t      testing.TB
	states map[string][]byte
	now    time.Time
}

func newBook(t testing.TB) *book { return &book{t: t, states: map[string][]byte{}, now: noon} }

func (b *book) with(do func(of func(string) *quota.State)) {
	b.t.Helper()
	open := map[string]*quota.State{}
	do(func(subject string) *quota.State {
		if open[subject] == nil {
			s, err := quota.Decode(b.states[subject])
			require.NoError(b.t, err)
			open[subject] = s
		}
		return open[subject]
	})
	for subject, s := range open {
		b.states[subject] = s.Encode()
	}
}

func (b *book) take(c *quota.Charge) (r *quota.Refusal) {
	b.t.Helper()
	b.with(func(of func(string) *quota.State) { r = c.Take(b.now, of) })
	return r
}

func (b *book) settle(c *quota.Charge, tokens, cost int64, known bool) {
	b.t.Helper()
	c.Close(tokens, cost, known)
	b.with(func(of func(string) *quota.State) { c.Settle(b.now, of) })
}

func (b *book) used(subject string, l *quota.Limits, k quota.Kind) int64 {
	b.t.Helper()
	s, err := quota.Decode(b.states[subject])
	require.NoError(b.t, err)
	for _, u := range s.Look(b.now, l, nil) {
		if u.Kind == k {
			return u.Used
		}
	}
	return -1
}

func of(set map[quota.Kind]int64) *quota.Limits {
	l, _ := quota.Patch{Set: set}.Apply(nil)
	return l
}

func one(l *quota.Limits) *quota.Charge {
	return &quota.Charge{Dues: []quota.Due{{Subject: "train_1", Limits: l}}, Costs: true, Tokens: 100, Cost: 7, Instance: "ins_1"}
}

// TestSlidingWindow: in no window of a minute, an hour or a day more is let through than the limit; and what a window and one part of it more leave free is let through.
// The order of requests is random, by a seed that a failure shows.
func TestSlidingWindow(t *testing.T) {
	for _, w := range []struct {
		kind        quota.Kind
		long, width time.Duration
		step        int64 // of the time between requests, in milliseconds at most
	}{
		{quota.RequestsPerMinute, time.Minute, time.Second, 4000},
		{quota.RequestsPerHour, time.Hour, time.Minute, 240_000},
		{quota.RequestsPerDay, 24 * time.Hour, 15 * time.Minute, 3_600_000},
	} {
		for seed := range uint64(30) {
			random := rand.New(rand.NewPCG(seed, uint64(w.kind)))
			most := 1 + random.Int64N(40)
			l, b := of(map[quota.Kind]int64{w.kind: most}), newBook(t)
			var let []time.Time
			within := func(from time.Time) (n int64) { // after from
				for _, at := range let {
					if at.After(from) {
						n++
					}
				}
				return n
			}
			for range 400 {
				if random.IntN(3) > 0 {
					b.now = b.now.Add(time.Duration(random.Int64N(w.step)) * time.Millisecond)
				}
				refused := b.take(one(l))
				if refused == nil {
					let = append(let, b.now)
					require.LessOrEqual(t, within(b.now.Add(-w.long)), most, "seed %d: %s let too many through", seed, w.kind)
					continue
				}
				require.GreaterOrEqual(t, within(b.now.Add(-w.long-w.width)), most, "seed %d: %s refused what was free", seed, w.kind)
				require.Equal(t, w.kind, refused.Kind)
				b.now = b.now.Add(time.Duration(refused.After) * time.Second)
				require.Nil(t, b.take(one(l)), "seed %d: %s was not free when it had said so", seed, w.kind)
				let = append(let, b.now)
				require.LessOrEqual(t, within(b.now.Add(-w.long)), most, "seed %d", seed)
			}
		}
	}
}

func TestAllOrNothing(t *testing.T) {
	b := newBook(t)
	train, key := of(map[quota.Kind]int64{quota.RequestsPerMinute: 5}), of(map[quota.Kind]int64{quota.RequestsPerMinute: 2})
	both := func() *quota.Charge {
		return &quota.Charge{Dues: quota.Sort([]quota.Due{{Subject: "train_1", Limits: train}, {Subject: "key_1", Limits: key}, {Subject: "user_1"}})}
	}
	require.Len(t, both().Dues, 2)
	require.Nil(t, b.take(both()))
	c := both()
	require.Nil(t, b.take(c))
	require.Equal(t, quota.Left{Most: 2, Left: 0, Frees: 61}, *c.Left().Requests, "the one that leaves the least")
	refused := b.take(both())
	require.Equal(t, "key_1", refused.Subject)
	require.Equal(t, int64(61), refused.After)
	require.Equal(t, int64(2), b.used("train_1", train, quota.RequestsPerMinute), "a refused request takes from nobody")
}

// TestTokens: a request stands for what it may use until it is over, then for what it used; one is let through while anything is left.
func TestTokens(t *testing.T) {
	b := newBook(t)
	l := of(map[quota.Kind]int64{quota.TokensPerMinute: 150, quota.MonthlyTokens: 1000, quota.MonthlyCost: 50})
	first, second := one(l), one(l)
	require.Nil(t, b.take(first))
	require.Nil(t, b.take(second))
	refused := b.take(one(l))
	require.Equal(t, quota.TokensPerMinute, refused.Kind)
	require.Equal(t, int64(200), refused.Used)
	require.Equal(t, int64(quota.UnderWay), refused.After, "a request under way may use less")
	b.settle(first, 10, 3, true)
	b.settle(second, 0, 0, false)
	require.Equal(t, int64(110), b.used("train_1", l, quota.TokensPerMinute), "what is not known counts as what it may have been")
	require.Equal(t, int64(110), b.used("train_1", l, quota.MonthlyTokens))
	require.Equal(t, int64(10), b.used("train_1", l, quota.MonthlyCost))

	long := one(l)
	require.Nil(t, b.take(long))
	b.now = b.now.Add(5 * time.Minute)
	b.settle(long, 900, 1, true)
	require.Equal(t, int64(900), b.used("train_1", l, quota.TokensPerMinute), "a long answer counts when it ends")
	require.Equal(t, int64(1010), b.used("train_1", l, quota.MonthlyTokens))
	b.now = b.now.Add(2 * time.Minute)
	refused = b.take(one(l))
	require.Equal(t, quota.MonthlyTokens, refused.Kind)
	require.Equal(t, int64(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC).Sub(b.now)/time.Second), refused.After, "until the month ends")

	b.now = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	across := one(l)
	require.Nil(t, b.take(across))
	b.now = time.Date(2027, 1, 1, 0, 0, 5, 0, time.UTC)
	b.settle(across, 500, 9, true)
	require.Zero(t, b.used("train_1", l, quota.MonthlyTokens), "what began in the last month belongs there")
	b.now = time.Date(2026, 12, 31, 23, 59, 0, 0, time.UTC)
	require.Equal(t, quota.TokensPerMinute, b.take(one(l)).Kind, "a clock that is set back gives nothing back")
}

// TestWhatIsNeverSettled: what a killed instance had under way falls out by itself: of the windows with them, of the month after two hours, at once with its instance.
func TestWhatIsNeverSettled(t *testing.T) {
	b := newBook(t)
	l := of(map[quota.Kind]int64{quota.TokensPerMinute: 1000, quota.MonthlyTokens: 200, quota.ConcurrentStreams: 2})
	require.Nil(t, b.take(one(l)))
	require.Nil(t, b.take(one(l)))
	require.Equal(t, quota.MonthlyTokens, b.take(one(of(map[quota.Kind]int64{quota.MonthlyTokens: 200}))).Kind)
	require.Equal(t, quota.ConcurrentStreams, b.take(one(of(map[quota.Kind]int64{quota.ConcurrentStreams: 2}))).Kind)
	gone := one(of(map[quota.Kind]int64{quota.ConcurrentStreams: 2}))
	gone.Alive = func(instance string, ago int64) bool { return instance != "ins_1" }
	gone.Instance = "ins_2"
	require.Nil(t, b.take(gone))
	b.now = b.now.Add(62 * time.Second)
	require.Zero(t, b.used("train_1", l, quota.TokensPerMinute))
	require.Equal(t, int64(200), b.used("train_1", l, quota.MonthlyTokens)-100)
	b.now = b.now.Add(2*time.Hour + 10*time.Minute)
	require.Zero(t, b.used("train_1", l, quota.MonthlyTokens))
}

func TestClockSetBack(t *testing.T) {
	b := newBook(t)
	l := of(map[quota.Kind]int64{quota.RequestsPerMinute: 3, quota.RequestsPerHour: 100, quota.RequestsPerDay: 100})
	for range 3 {
		require.Nil(t, b.take(one(l)))
	}
	b.now = b.now.Add(-3 * time.Hour)
	require.NotNil(t, b.take(one(l)), "nothing is given back")
	b.now = b.now.Add(30 * time.Second)
	require.NotNil(t, b.take(one(l)))
	b.now = b.now.Add(32 * time.Second)
	require.Nil(t, b.take(one(l)), "and nothing is held for longer than the window")
	require.Equal(t, int64(4), b.used("train_1", l, quota.RequestsPerHour))
}

func TestNearAndReached(t *testing.T) {
	b := newBook(t)
	l := of(map[quota.Kind]int64{quota.RequestsPerMinute: 10, quota.MonthlyTokens: 1000})
	var heard []quota.Crossing
	for range 11 {
		c := one(l)
		c.Tokens = 1
		c.Near = func(x quota.Crossing) { heard = append(heard, x) }
		refused := b.take(c)
		c.Tell()
		if refused == nil {
			b.settle(c, 90, 0, true)
			c.Tell()
		}
	}
	levels := map[quota.Kind][]int{}
	for _, x := range heard {
		require.Equal(t, "train_1", x.Subject)
		levels[x.Kind] = append(levels[x.Kind], x.Level)
	}
	require.Equal(t, map[quota.Kind][]int{quota.RequestsPerMinute: {80, 100, 100}, quota.MonthlyTokens: {80}}, levels)
}

func TestStatesAreReadAsTheyWereWritten(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	l := of(map[quota.Kind]int64{0: 1e9, 1: 1e9, 2: 1e9, 3: 1e14, 4: 1e14, 5: 1e14, 6: 1e14, 7: 1e14, 8: 1e6})
	b := newBook(t)
	var open []*quota.Charge
	for range 3000 {
		b.now = b.now.Add(time.Duration(random.Int64N(60_000)) * time.Millisecond)
		c := one(l)
		c.Tokens, c.Instance = random.Int64N(1e6), []string{"ins_1", "ins_2", "ins_3"}[random.IntN(3)]
		require.Nil(t, b.take(c))
		open = append(open, c)
		if len(open) > 5 {
			b.settle(open[0], random.Int64N(1e6), 1, true)
			open = open[1:]
		}
		s, err := quota.Decode(b.states["train_1"])
		require.NoError(t, err)
		require.Equal(t, b.states["train_1"], s.Encode())
	}
	require.Less(t, len(b.states["train_1"]), 3000, "a row stays small")
	whole := b.states["train_1"]
	for i := range whole {
		if s, err := quota.Decode(whole[:i]); i > 0 {
			require.Error(t, err, "cut at %d", i)
			require.Nil(t, s)
		}
	}
	newer := append([]byte{2}, whole[1:]...)
	_, err := quota.Decode(newer)
	require.Error(t, err, "another form is not guessed at")
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add((&quota.State{}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := quota.Decode(b)
		if err != nil {
			return
		}
		again, err := quota.Decode(s.Encode())
		require.NoError(t, err)
		require.Equal(t, s.Encode(), again.Encode())
		_ = s.Look(noon, of(map[quota.Kind]int64{0: 1, 3: 1, 6: 1, 8: 1}), nil)
	})
}

func TestLimits(t *testing.T) {
	require.Nil(t, quota.Parse(""))
	var none *quota.Limits
	require.True(t, none.Empty())
	require.True(t, none.Allows("anything"))
	l, changed := quota.Patch{Set: map[quota.Kind]int64{quota.RequestsPerMinute: 60, quota.MonthlyCost: 12_500_000}, Models: &[]string{"claude-sonnet-*", "claude-haiku-4-5"}}.Apply(nil)
	require.Equal(t, []string{"limits.requests_per_minute", "limits.monthly_cost_usd", "limits.models"}, changed)
	require.JSONEq(t, `{"requests_per_minute":60,"monthly_cost_usd":12500000,"models":["claude-haiku-4-5","claude-sonnet-*"]}`, l.Text())
	require.Equal(t, l.Text(), quota.Parse(l.Text()).Text())
	for model, want := range map[string]bool{"claude-sonnet-4-5": true, "claude-sonnet-": true, "claude-sonnet": false, "claude-haiku-4-5": true, "claude-haiku-4-5-20251001": false, "": false, "CLAUDE-HAIKU-4-5": false} {
		require.Equal(t, want, l.Allows(model), model)
	}
	next, changed := quota.Patch{Set: map[quota.Kind]int64{quota.RequestsPerMinute: 0}}.Apply(l)
	require.Equal(t, []string{"limits.requests_per_minute"}, changed)
	_, ok := next.Of(quota.RequestsPerMinute)
	require.False(t, ok)
	_, unchanged := quota.Patch{Set: map[quota.Kind]int64{quota.MonthlyCost: 12_500_000}}.Apply(next)
	require.Empty(t, unchanged)
	cleared, changed := quota.Patch{Clear: true, Set: map[quota.Kind]int64{quota.MaxTokens: 9}}.Apply(l)
	require.JSONEq(t, `{"max_tokens":9}`, cleared.Text())
	require.Len(t, changed, 4)
	empty, _ := quota.Patch{Clear: true}.Apply(l)
	require.True(t, empty.Empty())
	require.Empty(t, empty.Text())

	for _, text := range []string{`{"requests_per_week":5}`, `{"requests_per_minute":"60"}`, `{"requests_per_minute":0}`, `{"requests_per_minute":1.5}`, `{"models":[]}`, `{"models":"x"}`, `[]`, `{}`, `null`, `nonsense`} {
		u := quota.Parse(text)
		require.True(t, u.Unknown(), text)
		require.False(t, u.Empty(), text)
	}
	newer := quota.Parse(`{"requests_per_week":5,"max_tokens":9}`)
	kept, _ := quota.Patch{Set: map[quota.Kind]int64{quota.MaxTokens: 10}}.Apply(newer)
	require.True(t, kept.Unknown(), "an older version does not take away what it cannot read")
	require.JSONEq(t, `{"requests_per_week":5,"max_tokens":10}`, kept.Text())
	known, _ := quota.Patch{Clear: true, Set: map[quota.Kind]int64{quota.MaxTokens: 10}}.Apply(newer)
	require.False(t, known.Unknown())

	require.Empty(t, quota.Patch{Set: map[quota.Kind]int64{quota.MaxTokens: 1}, Models: &[]string{"*"}}.Fields())
	for _, models := range [][]string{{""}, {"a*b"}, {"a b"}, {"a,b"}, {"ä"}, make([]string, 101)} {
		require.Contains(t, quota.Patch{Models: &models}.Fields(), "models")
	}
	require.Contains(t, quota.Patch{Set: map[quota.Kind]int64{quota.MonthlyCost: -1}}.Fields(), "monthly_cost_usd")
	for i, r := range quota.Rows() {
		require.Equal(t, quota.Kind(i), r.Kind)
		k, ok := quota.KindOf(r.Name)
		require.True(t, ok)
		require.Equal(t, r.Kind, k)
		require.NotEmpty(t, r.Noun)
		require.NotEmpty(t, r.Meaning)
	}
}
