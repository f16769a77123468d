package oauth

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"signalbox.dev/signalbox/internal/vault"
)

// TestTheTableIsWhole: every state has a row for every happening that can meet it, no two rows contradict one another, and every state has a health.
func TestTheTableIsWhole(t *testing.T) {
	seen := map[[2]string]bool{}
	for _, r := range Rules() {
		at := [2]string{string(r.From), string(r.On)}
		require.False(t, seen[at], at)
		seen[at] = true
		require.Contains(t, States(), r.From)
		require.Contains(t, States(), r.To)
		require.Contains(t, Happenings(), r.On)
		require.NotEmpty(t, r.Why)
		require.Equal(t, r.Post, r.To.held() && !(r.From.held() && r.To == r.From && r.On != Spared), "a call needs a claim, and a claim a call: %v", at)
		require.True(t, !r.Notify || r.To == Lost, at)
		require.True(t, len(r.After) == 0 || r.Post, at)
	}
	for _, s := range States() {
		asks := []Happening{Due, Rejected, Forced, Found}
		if s.held() {
			asks = append(asks, Issued, NotProcessed, ServerError, Ambiguous, Refused, Spared, Lapsed)
		}
		for _, on := range asks {
			require.True(t, seen[[2]string{string(s), string(on)}], "%s × %s", s, on)
		}
		require.True(t, s.health() != "" || s == Claimed, s)
		if s.health() != "" {
			require.Contains(t, vault.Healths(), s.health())
		}
	}
	_, known := judge(standing{State: "dreaming"}, Due, facts{})
	require.False(t, known, "invariant 13: an unknown state denies")
	require.True(t, standing{}.waits("another").After(time.Now()))
}

func TestMargins(t *testing.T) {
	for _, c := range []struct{ lifetime, advisory, mandatory time.Duration }{
		{time.Hour, 2 * time.Minute, 30 * time.Second}, {time.Minute, 12 * time.Second, 6 * time.Second}, {10 * time.Second, 2 * time.Second, time.Second},
		{0, 0, 0}, {-time.Hour, 0, 0},
	} {
		a, m := Margins(c.lifetime)
		require.Equal(t, []time.Duration{c.advisory, c.mandatory}, []time.Duration{a, m}, c.lifetime)
	}
}

func TestCoolDownGrowsAndIsBounded(t *testing.T) {
	last := time.Duration(0)
	for n := 1; n < 100; n++ {
		d := coolDown(n, 0, 0)
		require.GreaterOrEqual(t, d, last)
		require.LessOrEqual(t, d, coolMost)
		last = d
	}
	require.Equal(t, coolFirst, coolDown(1, 0, 0))
	require.Equal(t, coolMost, last)
	require.Equal(t, 90*time.Second, coolDown(1, 90*time.Second, 0))
	require.Equal(t, time.Hour, coolDown(1, 90*time.Hour, 0))
	require.Greater(t, coolDown(3, 0, 0.9), coolDown(3, 0, 0.1))
}

// The model: processes that share a row, a provider that rotates and revokes on reuse, people and time, all in the order that draw says.

type modelToken struct {
	family int
	spent  bool
	at     time.Time
}

type modelPair struct{ claim, generation, refresh int }

type modelProcess struct {
	phase   string // "", claimed, checked, answered, holding
	claim   int
	token   int
	gen     int
	recov   bool
	risk    bool // the post sends a token that may be spent
	began   time.Time
	checked time.Time
	answer  Happening
	got     int
	disk    []modelPair // survives
}

type model struct {
	draw  func(n int) int
	rules table
	grace time.Duration

	now        time.Time
	row        standing
	rowClaim   int
	claimUntil time.Time
	rowToken   int
	version    int
	token      int // the stored refresh token
	ends       time.Time
	byPerson   map[int]bool // tokens

	tokens   []modelToken
	revoked  map[int]bool // by family
	families int
	claims   int
	procs    []*modelProcess

	posts     map[int]int       // by claim
	lastPost  map[int]Happening // by token: what is known of the last call with it
	lastBy    map[int]int       // by token: the claim of that call
	notified  map[int]int
	recovered int
	rejected  bool // the resource server refuses the current access token
	trace     []string
}

const modelLifetime = 10 * time.Minute

func newModel(draw func(int) int, rules table, grace time.Duration) *model {
	m := &model{draw: draw, rules: rules, grace: grace, now: time.Unix(1_800_000_000, 0), row: standing{State: Ready}, version: 1, byPerson: map[int]bool{},
		revoked: map[int]bool{}, posts: map[int]int{}, lastPost: map[int]Happening{}, lastBy: map[int]int{}, notified: map[int]int{}}
	for range 3 {
		m.procs = append(m.procs, &modelProcess{})
	}
	m.token = m.login()
	m.rowToken = m.token
	return m
}

func (m *model) login() int {
	m.families++
	m.tokens = append(m.tokens, modelToken{family: m.families})
	m.ends = m.now.Add(modelLifetime)
	m.rejected = false
	id := len(m.tokens) - 1
	m.byPerson[id] = true
	return id
}

// errBroken is a property that does not hold.
var errBroken = errors.New("broken")

func (m *model) broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s; %v", errBroken, fmt.Sprintf(format, args...), m.trace)
}

func (m *model) facts() facts { return facts{now: m.now, ends: m.ends, grace: m.grace} }

func (m *model) align() {
	if m.rowToken != m.token {
		m.row, m.rowClaim, m.rowToken = standing{State: Ready}, 0, m.token
	}
}

// ask is [Room.ask].
func (m *model) ask(p *modelProcess, on Happening) error {
	m.align()
	if m.row.State.held() && !m.now.Before(m.claimUntil.Add(takeoverAfter)) {
		v, ok := m.rules.judge(m.row, Lapsed, m.facts())
		if !ok {
			return m.broken("no rule for a lapse in %s", m.row.State)
		}
		m.row = v.next
		m.recovered++
	}
	v, ok := m.rules.judge(m.row, on, m.facts())
	if !ok {
		return m.broken("no rule for %s in %s", on, m.row.State)
	}
	if !v.post {
		return nil
	}
	if m.row.State.held() {
		return m.broken("a claim beside another")
	}
	risk := m.row.State == Uncertain
	if risk && !v.Recovery {
		return m.broken("a token that may be spent is sent off the record")
	}
	if risk && m.grace == 0 && m.now.Before(m.ends) && !(on == Rejected && m.rejected) {
		return m.broken("a token that may be spent is risked while the access token works")
	}
	m.row = v.next
	m.take(p, v.Recovery, risk)
	return nil
}

func (m *model) take(p *modelProcess, recovery, risk bool) {
	m.claims++
	m.rowClaim, m.claimUntil = m.claims, m.now.Add(claimFor)
	disk := p.disk
	*p = modelProcess{phase: "claimed", claim: m.claims, token: m.token, gen: m.version, recov: recovery, risk: risk, began: m.now, disk: disk}
}

// post is the provider: what it does with a token, and what the process hears of it.
func (m *model) post(p *modelProcess) error {
	if m.posts[p.claim]++; m.posts[p.claim] > 1 {
		return m.broken("two calls by one claim")
	}
	for _, q := range m.procs {
		if q != p && q.phase == "checked" && q.token == p.token && m.now.Sub(q.checked) <= callLimit && !p.recov {
			return m.broken("two calls with one token at a time")
		}
	}
	if last, posted := m.lastPost[p.token]; posted && !p.recov && last != NotProcessed && last != ServerError && last != Refused {
		return m.broken("a second call with one token, off the record, after %s", last)
	}
	m.lastPost[p.token], m.lastBy[p.token] = Ambiguous, p.claim // until the answer is heard
	p.phase = "answered"
	tok := &m.tokens[p.token]
	process := func() (Happening, int) {
		if m.revoked[tok.family] {
			return Refused, 0
		}
		if tok.spent && (m.grace == 0 || m.now.After(tok.at.Add(m.grace))) {
			m.revoked[tok.family] = true
			if !p.recov {
				return Refused, -1
			}
			return Refused, 0
		}
		if !tok.spent {
			tok.spent, tok.at = true, m.now
		}
		m.tokens = append(m.tokens, modelToken{family: tok.family})
		return Issued, len(m.tokens) - 1
	}
	switch m.draw(8) {
	case 0:
		p.answer = NotProcessed
	case 1:
		p.answer = ServerError
	case 2: // the request is lost
		p.answer = Ambiguous
	case 3: // the answer is lost
		if _, got := process(); got < 0 {
			return m.broken("a grant was revoked off the record")
		}
		p.answer = Ambiguous
	default:
		var got int
		if p.answer, got = process(); got < 0 {
			return m.broken("a grant was revoked off the record")
		}
		p.got = got
	}
	return nil
}

// settle is [Room.outcome] and [Room.commit].
func (m *model) settle(p *modelProcess) error {
	on := p.answer
	if m.lastBy[p.token] == p.claim {
		m.lastPost[p.token] = on
	}
	if on == Issued {
		p.disk = append(p.disk, modelPair{claim: p.claim, generation: p.gen, refresh: p.got})
		p.phase = ""
		return nil
	}
	p.phase = ""
	m.align()
	if m.rowClaim != p.claim || !m.row.State.held() {
		return nil
	}
	v, ok := m.rules.judge(m.row, on, m.facts())
	if !ok {
		return m.broken("no rule for %s in %s", on, m.row.State)
	}
	m.row = v.next
	if m.row.State == Lost && on != Refused {
		return m.broken("a login is demanded after %s", on)
	}
	if v.Notify {
		if m.notified[p.token]++; m.row.State != Lost {
			return m.broken("people were told of nothing")
		}
	}
	return nil
}

func (m *model) commit(p *modelProcess) error {
	if len(p.disk) == 0 {
		return nil
	}
	pair := p.disk[0]
	m.align()
	v, ok := m.rules.judge(m.row, Issued, m.facts())
	p.disk = p.disk[1:]
	if m.rowClaim != pair.claim || !ok {
		return nil // overtaken
	}
	before := m.version
	m.row, m.version, m.token = v.next, m.version+1, pair.refresh
	m.rowToken, m.ends, m.rejected = m.token, m.now.Add(modelLifetime), false
	if m.version <= before || m.row.State != Ready {
		return m.broken("a commit that is no next generation")
	}
	return nil
}

// step does one thing that draw chooses.
func (m *model) step() error {
	p := m.procs[m.draw(len(m.procs))]
	act := m.draw(12)
	m.trace = append(m.trace, fmt.Sprintf("%d:%s:%s", act, p.phase, m.row.State))
	switch {
	case act == 0:
		m.now = m.now.Add(time.Duration(1+m.draw(8)) * time.Second)
	case act == 1:
		m.now = m.now.Add(time.Duration(1+m.draw(6)) * time.Minute)
	case act == 2 && m.draw(6) == 0: // death: what is in memory is gone, what is on disk is not
		*p = modelProcess{disk: p.disk}
	case act == 3 && m.draw(8) == 0:
		m.version++
		m.token = m.login()
	case act == 4 && m.draw(4) == 0:
		m.rejected = true
	case act == 5:
		return m.commit(p)
	default:
		switch p.phase {
		case "":
			on := []Happening{Due, Due, Rejected, Forced}[m.draw(4)]
			if on == Rejected && !m.rejected {
				on = Due
			}
			return m.ask(p, on)
		case "claimed":
			if m.now.Sub(p.began) > claimFor-callLimit {
				return m.settleUnsent(p)
			}
			p.phase, p.checked = "checked", m.now
		case "checked":
			if m.now.Sub(p.checked) > callLimit { // its deadline passed before the first byte
				return m.settleUnsent(p)
			}
			return m.post(p)
		case "answered":
			return m.settle(p)
		}
	}
	return nil
}

// settleUnsent settles a claim that was given up before its call.
func (m *model) settleUnsent(p *modelProcess) error {
	p.answer = NotProcessed
	return m.settle(p)
}

// end checks what must hold when everything has come to rest: each process is alive and the database is there.
func (m *model) end() error {
	for _, p := range m.procs {
		for len(p.disk) > 0 {
			if err := m.commit(p); err != nil {
				return err
			}
		}
	}
	// Messages of one token are one message: the outbox knows them by their key.
	if m.row.State == Lost && m.rowToken == m.token && m.notified[m.token] == 0 {
		return m.broken("a login is needed and nobody was told")
	}
	return nil
}

func runModel(draw func(int) int, rules table, grace time.Duration, steps int) error {
	m := newModel(draw, rules, grace)
	for range steps {
		version := m.version
		if err := m.step(); err != nil {
			return err
		}
		if m.version < version {
			return m.broken("invariant 3: a generation decreased")
		}
		if m.token >= len(m.tokens) || m.token < 0 {
			return m.broken("invariant 4: the stored token is gone")
		}
	}
	return m.end()
}

// TestModel drives the table through random interleavings of processes, crashes, answers, people and time.
func TestModel(t *testing.T) {
	for _, grace := range []time.Duration{0, 2 * time.Minute} {
		t.Run(grace.String(), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				draw := func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") }
				if err := runModel(draw, table(rules[:]), grace, 120); err != nil {
					rt.Fatal(err)
				}
			})
		})
	}
}

// TestModelFindsWrongTables: each careless row is found out.
func TestModelFindsWrongTables(t *testing.T) {
	change := func(from State, on Happening, f func(*Rule)) table {
		out := table(Rules())
		i := slices.IndexFunc(out, func(r Rule) bool { return r.From == from && r.On == on })
		f(&out[i])
		return out
	}
	for name, wrong := range map[string]table{
		"two claims at a time":                      change(Claimed, Due, func(r *Rule) { r.Post = true }),
		"a lapsed claim is forgotten":               change(Claimed, Lapsed, func(r *Rule) { r.To, r.Risk = Ready, false }),
		"an ambiguous answer is a failure":          change(Claimed, Ambiguous, func(r *Rule) { r.To, r.Risk = Failing, false }),
		"an ambiguous answer needs a login":         change(Claimed, Ambiguous, func(r *Rule) { r.To, r.Risk = Lost, false }),
		"a failed recovery is a plain failure":      change(Recovering, NotProcessed, func(r *Rule) { r.To, r.Risk = Failing, false }),
		"a recovery off the record":                 change(Uncertain, Due, func(r *Rule) { r.Recovery = false }),
		"a spent token is sent before its time":     change(Uncertain, Due, func(r *Rule) { r.After = nil }),
		"a person makes a spent token safe":         change(Uncertain, Forced, func(r *Rule) { r.After = nil }),
		"a server error needs a login":              change(Claimed, ServerError, func(r *Rule) { r.To = Lost }),
		"nobody is told":                            change(Recovering, Refused, func(r *Rule) { r.Notify = false }),
		"an issued pair leaves the claim as it was": change(Claimed, Issued, func(r *Rule) { r.To = Uncertain }),
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(3000) {
				rng := rand.New(rand.NewPCG(seed, 7))
				if err := runModel(rng.IntN, wrong, 0, 200); err != nil {
					require.ErrorIs(t, err, errBroken)
					return
				}
			}
			t.Fatal("the model took it for right")
		})
	}
}
