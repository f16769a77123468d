package oauth

import (
	"math"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/vault"
)

// State is where the refreshing of one generation of a connection stands. The database holds it.
type State string

// The states.
const (
	// Ready: nothing is under way and nothing is wrong.
	Ready State = "ready"
	// Claimed: somebody may be calling the token endpoint.
	Claimed State = "claimed"
	// Recovering: as Claimed, and an earlier call may have spent the token.
	Recovering State = "recovering"
	// Failing: the last call changed nothing at the provider, or so it said.
	Failing State = "failing"
	// Uncertain: nobody knows whether the provider took the last call.
	Uncertain State = "uncertain"
	// Lost: the provider refuses the token. Only a person mends that.
	Lost State = "needs_login"
)

// States returns every state.
func States() []State { return []State{Ready, Claimed, Recovering, Failing, Uncertain, Lost} }

// Happening is what moves a connection from one state to another.
type Happening string

// The happenings. The first four ask for a call, the others tell.
const (
	// Due: the access token is near its end, or past it.
	Due Happening = "due"
	// Rejected: a resource server refuses the access token although its time is not over.
	Rejected Happening = "rejected"
	// Forced: a person wants it now.
	Forced Happening = "forced"
	// Found: whoever asks holds a pair that an earlier call got and that was overtaken.
	Found Happening = "found"

	// Issued: a complete answer with tokens.
	Issued Happening = "issued"
	// NotProcessed: the provider has certainly not taken the call.
	NotProcessed Happening = "not_processed"
	// ServerError: the provider failed (5xx).
	ServerError Happening = "server_error"
	// Ambiguous: there was no complete answer that says what happened.
	Ambiguous Happening = "ambiguous"
	// Refused: invalid_grant, invalid_client or unauthorized_client.
	Refused Happening = "refused"
	// Spared: Refused, and whoever called holds an overtaken pair that was not tried yet.
	Spared Happening = "spared"
	// Lapsed: the claim's time and what is granted on top have passed without a word of its holder.
	Lapsed Happening = "lapsed"
)

// Happenings returns every happening.
func Happenings() []Happening {
	return []Happening{Due, Rejected, Forced, Found, Issued, NotProcessed, ServerError, Ambiguous, Refused, Spared, Lapsed}
}

// Wait is something that a call must wait for.
type Wait string

// The waits.
const (
	// CoolDown: after failures, growing; a provider's Retry-After is part of it.
	CoolDown Wait = "cool-down"
	// SafeAgain: after a call of unknown fate, until the old token may be sent once more: at once within the provider's grace, else when the
	// old access token has ended, so that what works is not risked.
	SafeAgain Wait = "safe again"
	// Settling: after a call that a rejected access token had caused. A resource server that rejects everything must not make one call a
	// request.
	Settling Wait = "settling"
)

// Rule is one row of the table: what a happening does in a state.
type Rule struct {
	From State
	On   Happening
	To   State
	// Post says that whoever brought the happening may call the token endpoint, once, when none of After is in force.
	Post  bool
	After []Wait
	// Cool says that a cool-down begins.
	Cool bool
	// Risk says that the old token may have been spent, so that SafeAgain begins.
	Risk bool
	// Recovery says that the audit log tells of a recovery.
	Recovery bool
	// Notify says that people hear of it.
	Notify bool
	// Why is for readers.
	Why string
}

// Rules returns the table. What is not in it is impossible, and is refused. Four things are no rows, because they are the same everywhere: a
// person's new token makes the state Ready, whatever it was; so does a change of a client that the provider had refused; a happening of a claim that is not the stored one changes nothing; and no
// happening removes or replaces stored material, except that Issued adds a version.
func Rules() []Rule { return slices.Clone(rules[:]) }

var rules = [...]Rule{
	{From: Ready, On: Due, To: Claimed, Post: true, Why: "the ordinary way"},
	{From: Ready, On: Rejected, To: Claimed, Post: true, After: []Wait{Settling}, Why: "the access token ended early"},
	{From: Ready, On: Forced, To: Claimed, Post: true, Why: "a person wants it"},
	{From: Ready, On: Found, To: Ready, Why: "the connection works; the overtaken pair stays where it is"},

	{From: Failing, On: Due, To: Claimed, Post: true, After: []Wait{CoolDown}, Why: "the call before was not processed"},
	{From: Failing, On: Rejected, To: Claimed, Post: true, After: []Wait{CoolDown, Settling}, Why: "the call before was not processed"},
	{From: Failing, On: Forced, To: Claimed, Post: true, Why: "a person ends the cool-down"},
	{From: Failing, On: Found, To: Failing, Why: "the stored token was not refused"},

	{From: Uncertain, On: Due, To: Recovering, Post: true, After: []Wait{CoolDown, SafeAgain}, Recovery: true, Why: "the old token is sent once more, on record"},
	{From: Uncertain, On: Rejected, To: Recovering, Post: true, After: []Wait{CoolDown, Settling}, Recovery: true, Why: "the old access token works no more, so nothing is at risk"},
	{From: Uncertain, On: Forced, To: Recovering, Post: true, After: []Wait{SafeAgain}, Recovery: true, Why: "a person ends the cool-down, but cannot make a spent token safe"},
	{From: Uncertain, On: Found, To: Uncertain, Why: "the stored token was not refused"},
	{From: Uncertain, On: Issued, To: Ready, Why: "the answer of the claim that had lapsed came after all"},

	{From: Lost, On: Due, To: Lost, Why: "the provider has said no for good"},
	{From: Lost, On: Rejected, To: Lost, Why: "the provider has said no for good"},
	{From: Lost, On: Forced, To: Claimed, Post: true, Why: "a person may have mended it at the provider"},
	{From: Lost, On: Found, To: Recovering, Post: true, After: []Wait{CoolDown}, Recovery: true, Why: "the overtaken pair is tried"},

	{From: Claimed, On: Due, To: Claimed, Why: "one call at a time"},
	{From: Claimed, On: Rejected, To: Claimed, Why: "one call at a time"},
	{From: Claimed, On: Forced, To: Claimed, Why: "one call at a time"},
	{From: Claimed, On: Found, To: Claimed, Why: "one call at a time"},
	{From: Claimed, On: Issued, To: Ready, Why: "the next generation"},
	{From: Claimed, On: NotProcessed, To: Failing, Cool: true, Why: "the token is as good as before"},
	{From: Claimed, On: ServerError, To: Failing, Cool: true, Why: "each try is on record"},
	{From: Claimed, On: Ambiguous, To: Uncertain, Cool: true, Risk: true, Why: "the token may be spent"},
	{From: Claimed, On: Refused, To: Lost, Notify: true, Why: "the provider has said no for good"},
	{From: Claimed, On: Spared, To: Recovering, Post: true, Recovery: true, Why: "the overtaken pair is tried once"},
	{From: Claimed, On: Lapsed, To: Uncertain, Risk: true, Recovery: true, Why: "its holder may have spent the token"},

	{From: Recovering, On: Due, To: Recovering, Why: "one call at a time"},
	{From: Recovering, On: Rejected, To: Recovering, Why: "one call at a time"},
	{From: Recovering, On: Forced, To: Recovering, Why: "one call at a time"},
	{From: Recovering, On: Found, To: Recovering, Why: "one call at a time"},
	{From: Recovering, On: Issued, To: Ready, Why: "recovered"},
	{From: Recovering, On: NotProcessed, To: Uncertain, Cool: true, Risk: true, Why: "this call changed nothing, but the one before may have"},
	{From: Recovering, On: ServerError, To: Uncertain, Cool: true, Risk: true, Why: "this call changed nothing, but the one before may have"},
	{From: Recovering, On: Ambiguous, To: Uncertain, Cool: true, Risk: true, Why: "the token may be spent"},
	{From: Recovering, On: Refused, To: Lost, Notify: true, Why: "the provider has said no for good"},
	{From: Recovering, On: Spared, To: Recovering, Post: true, Recovery: true, Why: "the overtaken pair is tried once"},
	{From: Recovering, On: Lapsed, To: Uncertain, Risk: true, Recovery: true, Why: "its holder may have spent the token"},
}

// table is a set of rules. The tests have others, to see that they are found out.
type table []Rule

// rule returns the row of a state and a happening; false for what cannot be.
func (t table) rule(from State, on Happening) (Rule, bool) {
	for i := range t {
		if t[i].From == from && t[i].On == on {
			return t[i], true
		}
	}
	return Rule{}, false
}

// health is what people see of a state. While a call is under way it is what it was before; "" says so.
func (s State) health() vault.Health {
	switch s {
	case Ready:
		return vault.Healthy
	case Failing:
		return vault.RefreshFailing
	case Uncertain, Recovering:
		return vault.RefreshUncertain
	case Lost:
		return vault.NeedsLogin
	}
	return ""
}

// held reports whether a claim is stored that somebody may be using.
func (s State) held() bool { return s == Claimed || s == Recovering }

// Times of the protocol.
const (
	// claimFor is how long a claim holds. A call ends before: it begins while more than callLimit is left.
	claimFor = 30 * time.Second
	// callLimit is the deadline of one call.
	callLimit = 20 * time.Second
	// takeoverAfter is what passes after a claim has ended before somebody else judges what became of it.
	takeoverAfter = 20 * time.Second
	// settlingFor is how long after a call that a rejected token had caused no other one may be caused so.
	settlingFor = 5 * time.Minute
	// coolFirst and coolMost bound the cool-down after failures; retryAfterMost what a provider may ask for.
	coolFirst      = 5 * time.Second
	coolMost       = 15 * time.Minute
	retryAfterMost = time.Hour
	// lifetimeUnknown is how long an access token is taken to last whose provider does not say.
	lifetimeUnknown = time.Hour
)

// standing is what the database remembers beside the state, and what the rules look at.
type standing struct {
	State State
	// Failures in a row, of this generation.
	Failures int
	// CoolUntil and SafeAt end the waits of these names; the zero time is over.
	CoolUntil, SafeAt time.Time
	// RejectedAt is when a rejected access token last caused a call.
	RejectedAt time.Time
	// FirstAt is when this generation was first sent to the provider; zero for never.
	FirstAt time.Time
}

// facts are what the rules ask of the world.
type facts struct {
	now time.Time
	// ends is when the access token of this generation ends, as far as known; a zero time is not known.
	ends time.Time
	// grace is for how long the provider takes a token that was spent.
	grace      time.Duration
	retryAfter time.Duration
	// jitter is a random number from 0 to 1.
	jitter float64
}

// verdict is what the table says of one happening.
type verdict struct {
	Rule
	// next is the standing afterwards; the same one when nothing changes.
	next standing
	// post says that the call may be made now.
	post bool
	// until is when to come back when it may not; zero when waiting does not help, or when somebody else's call is what to wait for.
	until time.Time
}

// judge applies the table.
func judge(s standing, on Happening, f facts) (verdict, bool) { return table(rules[:]).judge(s, on, f) }

// judge is the one place where a state changes, for the room and for the model that checks it.
func (t table) judge(s standing, on Happening, f facts) (verdict, bool) {
	row, known := t.rule(s.State, on)
	if !known {
		return verdict{}, false
	}
	v := verdict{Rule: row, next: s}
	if row.Post {
		for _, w := range row.After {
			if until := s.waits(w); until.After(f.now) && until.After(v.until) {
				v.until = until
			}
		}
		if !v.until.IsZero() {
			return v, true // nothing changes
		}
		v.post, v.next.State = true, row.To
		if s.FirstAt.IsZero() {
			v.next.FirstAt = f.now
		}
		if on == Rejected {
			v.next.RejectedAt = f.now
		}
		return v, true
	}
	v.next.State = row.To
	switch {
	case on == Issued:
		v.next = standing{State: row.To, RejectedAt: s.RejectedAt}
	case row.Cool || row.Risk || row.To == Lost && on == Refused:
		v.next.Failures++
		v.next.CoolUntil = time.Time{}
		if row.Cool {
			v.next.CoolUntil = f.now.Add(coolDown(v.next.Failures, f.retryAfter, f.jitter))
		}
		if row.Risk {
			v.next.SafeAt = safeAt(s.FirstAt, f)
			if v.next.SafeAt.IsZero() && v.next.Failures == 1 && f.retryAfter == 0 {
				v.next.CoolUntil = time.Time{} // within its grace the old token is sent again at once; from then on the cool-down grows
			}
		}
	}
	return v, true
}

// waits says until when a wait lasts.
func (s standing) waits(w Wait) time.Time {
	switch w {
	case CoolDown:
		return s.CoolUntil
	case SafeAgain:
		return s.SafeAt
	case Settling:
		if s.RejectedAt.IsZero() {
			return time.Time{}
		}
		return s.RejectedAt.Add(settlingFor)
	}
	return time.Unix(math.MaxInt32, 0) // a wait that nobody knows is not over
}

// safeAt says when a token that may have been spent can be sent again.
func safeAt(first time.Time, f facts) time.Time {
	if f.grace > 0 && !first.IsZero() && f.now.Before(first.Add(f.grace)) {
		return time.Time{}
	}
	if f.ends.IsZero() {
		return first.Add(lifetimeUnknown)
	}
	return f.ends
}

// coolDown is the time to leave a provider alone after that many failures in a row: it doubles, up to a quarter of an hour, a fifth of it at
// random, so that instances do not come together. What the provider asks for counts when it is longer, up to an hour.
func coolDown(failures int, retryAfter time.Duration, jitter float64) time.Duration {
	d := coolMost
	if n := failures - 1; n < 16 {
		d = min(coolFirst<<max(n, 0), coolMost)
	}
	d = max(d, min(retryAfter, retryAfterMost))
	return d + time.Duration(float64(d)*0.2*jitter)
}

// Margins say how long before the end of an access token of that lifetime a refresh is begun in the background (advisory), and how long
// before it a request waits for it (mandatory). Tokens that live a minute work too.
func Margins(lifetime time.Duration) (advisory, mandatory time.Duration) {
	lifetime = max(lifetime, 0)
	return min(2*time.Minute, lifetime/5), min(30*time.Second, lifetime/10)
}
