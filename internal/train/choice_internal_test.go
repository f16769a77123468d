package train

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
)

const (
	sonnet = "claude-sonnet-5-5"
	opus   = "claude-opus-5"
)

// lane makes a line of n accounts that can be used.
func lane(slug string, n int) *line {
	l := &line{Train: Train{ID: "train_" + slug, Slug: slug, Strategy: LeastLoaded}}
	for i := range n {
		name := "account-" + strconv.Itoa(i)
		a := newAccount(vault.Material{ID: "cred_" + slug + strconv.Itoa(i), Name: name, AccountID: name, Version: 1, State: vault.Active}, nil, nil)
		a.obstacle = ""
		l.rungs = append(l.rungs, rung{account: a, score: score(slug, name)})
	}
	rank(LeastLoaded, l.rungs)
	return l
}

// filled says of an account how far its windows are used, in percent.
func (a *account) filled(now time.Time, windows map[string]int) {
	var fresh []Window
	for name, used := range windows {
		fresh = append(fresh, Window{Name: name, Used: used * 100, Heard: now, Reset: now.Add(time.Hour)})
	}
	a.gauge.hear(a.Version, fresh, now)
}

func ask(session, model string) *trip {
	return &trip{caller: identity.Caller{ID: "key_1", TrainID: "train_web"}, want: Want{Model: model, Session: session}}
}

// TestChoiceHolds: whatever is known of the accounts, the one that is chosen can be used, is on the line, is below its limits where one is, and is the least
// used; and a conversation stays where it is while that is so.
func TestChoiceHolds(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 8))
	for range 3000 {
		now := noon
		l, r := lane("web", 1+rnd.IntN(6)), new(Room)
		for i := range l.rungs {
			a := l.rungs[i].account
			for _, w := range []string{"5h", "7d", "7d_sonnet", "tokens"} {
				if rnd.IntN(2) == 0 {
					a.filled(now, map[string]int{w: rnd.IntN(110)})
				}
			}
			a.gauge.flying.Store(int64(rnd.IntN(30)))
			switch rnd.IntN(8) {
			case 0:
				a.obstacle = "broken"
			case 1:
				a.cooling.Store(&coolDown{version: 1, at: now, until: now.Add(time.Duration(1+rnd.IntN(90)) * time.Minute)})
			case 2:
				a.gauge.hear(1, []Window{{Name: "7d_sonnet", Used: whole, Refused: true, Status: rejected, Heard: now, Reset: now.Add(time.Duration(1+rnd.IntN(20)) * time.Hour)}}, now)
			}
		}
		model := []string{sonnet, opus, ""}[rnd.IntN(3)]
		session := []string{"", "s" + strconv.Itoa(rnd.IntN(5))}[rnd.IntN(2)]
		last := ""
		for range 12 {
			tr := ask(session, model)
			if len(l.rungs) > 1 && rnd.IntN(4) == 0 {
				tr.tried = []string{l.rungs[rnd.IntN(len(l.rungs))].account.id}
			}
			g, err := r.pick(l, tr, now)
			can := func(a *account) bool {
				f := a.fill(model, now)
				return a.barred(now) == "" && a.coolsUntil(now) == nil && f.refused.IsZero() && !slices.Contains(tr.tried, a.id)
			}
			var offers []offer
			for i := range l.rungs {
				if can(l.rungs[i].account) {
					offers = append(offers, l.rungs[i].offer(l.rungs[i].account.fill(model, now)))
				}
			}
			level(offers, mean(offers))
			if err != nil {
				require.Empty(t, offers, "one could be used")
				break
			}
			require.True(t, can(g.account), "it cannot be used")
			at := slices.IndexFunc(offers, func(o offer) bool { return o.rung == g })
			require.GreaterOrEqual(t, at, 0)
			below := slices.ContainsFunc(offers, func(o offer) bool { return o.fill.over == nil })
			if below {
				require.Nil(t, offers[at].fill.over, "one below its limits goes before")
			}
			stays := last != "" && slices.ContainsFunc(offers, func(o offer) bool { return o.rung.account.id == last && (o.fill.over == nil || !below) })
			switch {
			case session == "":
				for _, o := range offers {
					require.False(t, o.better(&offers[at]), "another is used less")
				}
			case stays:
				require.Equal(t, last, g.account.id, "the conversation was moved")
			default:
				for _, o := range offers {
					if (o.fill.over == nil) == (offers[at].fill.over == nil) {
						require.LessOrEqual(t, offers[at].used, o.used+band)
					}
				}
			}
			if session != "" {
				last = g.account.id
			}
			now = now.Add(time.Duration(rnd.IntN(20)) * time.Minute)
			l.rungs[rnd.IntN(len(l.rungs))].account.filled(now, map[string]int{"5h": rnd.IntN(100)})
		}
	}
}

// TestSpread: conversations that begin on accounts that are used alike are spread evenly, the same way on each instance, and requests without one by what is
// under way.
func TestSpread(t *testing.T) {
	l := lane("web", 4)
	one, two := new(Room), new(Room)
	for i, used := range []int{31, 35, 40, 38} {
		l.rungs[i].account.filled(noon, map[string]int{"5h": used})
	}
	const n = 8000
	got := map[string]int{}
	for i := range n {
		session := fmt.Sprintf("conversation %d", i)
		g, err := one.pick(l, ask(session, ""), noon)
		require.NoError(t, err)
		got[g.account.name]++
		again, err := two.pick(l, ask(session, ""), noon)
		require.NoError(t, err)
		require.Same(t, g, again)
	}
	require.Len(t, got, 4)
	for name, times := range got {
		require.InDelta(t, n/4, times, n/4*0.1, name)
	}
	// One that is much less used gets all that are new; those that are under way stay.
	where := func(r *Room, session string) string {
		g, err := r.pick(l, ask(session, ""), noon)
		require.NoError(t, err)
		return g.account.name
	}
	was := where(one, "conversation 1")
	for i := range l.rungs {
		if a := l.rungs[i].account; a.name != was {
			a.filled(noon, map[string]int{"5h": 5})
			for j := range 50 {
				require.Equal(t, a.name, where(one, fmt.Sprintf("new %d", j)))
			}
			require.Equal(t, was, where(one, "conversation 1"))
			break
		}
	}

	l = lane("web", 4)
	for range 1000 {
		g, err := one.pick(l, ask("", ""), noon)
		require.NoError(t, err)
		g.account.gauge.flying.Add(1)
	}
	for i := range l.rungs {
		require.Equal(t, int64(250), l.rungs[i].account.gauge.flying.Load())
	}
}

// TestConversationsAreTheKeys: a client names its own conversations and no others, and a train's none of another's.
func TestConversationsAreTheKeys(t *testing.T) {
	keys := map[sessionKey]bool{}
	for _, caller := range []identity.Caller{{ID: "key_1", TrainID: "train_1"}, {ID: "key_2", TrainID: "train_1"}, {ID: "key_1", TrainID: "train_2"}, {ID: "", TrainID: "train_1key_1"}} {
		for _, s := range []string{"a", "b", "key_1"} {
			k, ok := keyOf(&trip{caller: caller, want: Want{Session: s}})
			require.True(t, ok)
			keys[k] = true
		}
	}
	require.Len(t, keys, 12)
	for _, s := range []string{"", string(make([]byte, sessionMost+1))} {
		_, ok := keyOf(&trip{want: Want{Session: s}})
		require.False(t, ok)
	}

	// A conversation that was on another train's account is not known on this one.
	r, web, other := new(Room), lane("web", 2), lane("other", 2)
	key, _ := keyOf(ask("a", ""))
	r.sessions.put(key, home{other.ID, other.rungs[0].account.id}, noon)
	g, err := r.pick(web, ask("a", ""), noon)
	require.NoError(t, err)
	require.Contains(t, []string{web.rungs[0].account.id, web.rungs[1].account.id}, g.account.id)
}

// TestConversationsAreForgotten: after an hour or two of silence, and those silent longest when there are very many.
func TestConversationsAreForgotten(t *testing.T) {
	var s sessions
	key := func(i int) (k sessionKey) {
		k, _ = keyOf(ask(strconv.Itoa(i), ""))
		return k
	}
	s.put(key(1), home{"t", "c"}, noon)
	require.Equal(t, "c", s.get(key(1), noon.Add(sessionFor)))
	s.put(key(1), home{"t", "d"}, noon.Add(sessionFor))
	require.Equal(t, map[string]int{"d": 1}, s.on("t", noon.Add(sessionFor)))
	require.Empty(t, s.on("u", noon.Add(sessionFor)))
	require.Equal(t, "d", s.get(key(1), noon.Add(2*sessionFor)))
	require.Empty(t, s.get(key(1), noon.Add(4*sessionFor)))

	for i := range 200_000 {
		s.put(key(i), home{"t", "c"}, noon)
		s.put(key(7), home{"t", "mine"}, noon)
	}
	// Requests that run at the same time do not have the same time.
	s.turnAll(noon.Add(sessionFor))
	require.Equal(t, "mine", s.get(key(7), noon.Add(sessionFor-time.Millisecond)))
	held := 0
	for i := range s.parts {
		held += len(s.parts[i].young) + len(s.parts[i].old)
	}
	require.LessOrEqual(t, held, 2*sessionRoom*len(s.parts))
	require.Equal(t, "mine", s.get(key(7), noon), "one that goes on is not forgotten for others")
}

// TestExhaustedTellsTheEarliestReset: what a client is told to wait is when the first account serves again.
func TestExhaustedTellsTheEarliestReset(t *testing.T) {
	l, r := lane("web", 3), new(Room)
	rest := func(i int, cool, reset time.Duration, window string) {
		a := l.rungs[i].account
		if cool > 0 {
			a.cooling.Store(&coolDown{version: 1, at: noon, until: noon.Add(cool)})
		}
		if reset > 0 {
			a.gauge.hear(1, []Window{{Name: window, Used: whole, Refused: true, Status: rejected, Heard: noon, Reset: noon.Add(reset), Model: sonnet}}, noon)
		}
	}
	rest(0, 6*time.Hour, 50*time.Hour, "7d")
	rest(1, 2*time.Hour, 2*time.Hour, "5h")
	rest(2, 0, 30*time.Hour, "7d_sonnet")
	for model, want := range map[string]time.Duration{sonnet: 2 * time.Hour} {
		_, err := r.pick(l, ask("", model), noon)
		require.Equal(t, int(want/time.Second), faultAfter(t, err))
	}
	// One that is tried again after six hours serves a request only when its week begins anew, as far as anybody knows.
	named := ask("", sonnet)
	named.want.Account = l.rungs[0].account.name
	_, err := r.pick(l, named, noon)
	require.Equal(t, int(50*time.Hour/time.Second), faultAfter(t, err))
	g, err := r.pick(l, ask("", opus), noon)
	require.NoError(t, err)
	require.Same(t, &l.rungs[2], g)
	// After six hours it is tried whether the upstream has begun the week anew before its time.
	g, err = r.pick(l, ask("", ""), noon.Add(probeEvery))
	require.NoError(t, err)
	require.NotNil(t, g)
}

// turnAll has every part look at the time.
func (s *sessions) turnAll(now time.Time) {
	for i := range s.parts {
		s.parts[i].mu.Lock()
		s.parts[i].turn(now)
		s.parts[i].mu.Unlock()
	}
}

func faultAfter(t *testing.T, err error) int {
	t.Helper()
	f, ok := fault.As(err)
	require.True(t, ok, err)
	require.Equal(t, "accounts_cooling", f.Code)
	return f.RetryAfter
}

// BenchmarkPick is the choice alone, of seven accounts of which three windows each are known.
func BenchmarkPick(b *testing.B) {
	for _, c := range []struct {
		name     string
		strategy Strategy
		session  string
	}{{"hash", Hash, ""}, {"least-loaded", LeastLoaded, ""}, {"conversation", LeastLoaded, "a conversation"}} {
		b.Run(c.name, func(b *testing.B) {
			l, r := lane("web", 7), new(Room)
			l.Strategy = c.strategy
			for i := range l.rungs {
				l.rungs[i].account.filled(noon, map[string]int{"5h": 10 + i, "7d": 20 + i, "7d_sonnet": 30})
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				t := ask(c.session, sonnet)
				for pb.Next() {
					if _, err := r.pick(l, t, noon); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkHear is what an answer's headers cost.
func BenchmarkHear(b *testing.B) {
	h := headers("unified-status: allowed", "unified-5h-status: allowed", "unified-5h-reset: "+unix(time.Hour), "unified-5h-utilization: 0.11", "unified-7d-status: allowed", "unified-7d-reset: "+unix(time.Hour),
		"unified-7d-utilization: 0.02", "unified-representative-claim: five_hour", "unified-reset: "+unix(time.Hour))
	for i := range 20 {
		h.Set("X-Other-"+strconv.Itoa(i), "value")
	}
	g := new(gauge)
	b.ReportAllocs()
	for b.Loop() {
		g.hear(1, readWindows(h, 200, sonnet, noon), noon)
	}
}
