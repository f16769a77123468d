package train

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/usage"
)

const (
	// messages is the one path whose answers cost tokens.
	messages = "/v1/messages"
	// batches is where messages are sent many at once, whose answers come later and elsewhere.
	batches = "/v1/messages/batches"
	// reserveUnnamed are the tokens that a request without max_tokens stands for until it is over, and reserveMost those of one with more: agents ask for far more than
	// they use, and what stands in the counts keeps others out.
	reserveUnnamed, reserveMost = 4096, 65_536
	// bytesAToken is how many bytes of a body are taken for a token until its answer tells, and reserveInput the most that is taken for read: a body with pictures is far
	// larger than what is read of it, and no model reads more.
	bytesAToken, reserveInput = 4, 1_000_000
	// askAgain bounds for how long a limit that requests under way may free is taken for used up without asking, askAgainOpen so for requests at once, and askSeldom any other.
	askAgain, askAgainOpen, askSeldom = time.Second, 200 * time.Millisecond, time.Minute
)

// taken is what one request, however many accounts it is tried at, has taken of the limits that it is held against. It goes from lease to lease; whoever ends the request,
// or fails to go on with it, finishes it.
type taken struct {
	room   *Room
	charge *quota.Charge
	model  string
	// output is how many of the reserved tokens are for the answer, and streams says that the request counts as one under way.
	output           int64
	streams, charged bool
	// pending is the outcome of the last attempt. It is recorded when it is known whether it was the last: then what the request used is settled with it.
	pending *store.Event
	tokens  int64
	cost    int64
}

// weigh holds a request against the limits of its train, its client key and the person who made that, as far as no count is needed, and says what it is to be charged.
// It does nothing where nobody is limited.
func (r *Room) weigh(ctx context.Context, t *trip, l *line) error {
	if t.weighed {
		return nil
	}
	t.weighed = true
	person := r.keys.PersonLimits(t.caller.MadeBy)
	if l.Limits == nil && t.caller.Limits == nil && person == nil {
		return nil
	}
	dues := []quota.Due{{Subject: l.ID, Limits: l.Limits}, {Subject: t.caller.ID, Limits: t.caller.Limits}, {Subject: t.caller.MadeBy, Limits: person}}
	for _, d := range dues {
		if err := r.permits(t, l, d.Limits); err != nil {
			return err
		}
	}
	if dues = quota.Sort(dues); len(dues) == 0 || t.want.Counted {
		return nil
	}
	c := &quota.Charge{Dues: dues, Costs: t.want.Path == messages, Instance: r.presence.id(), Alive: r.presence.alive, Near: r.nears.note}
	h := &taken{room: r, charge: c, model: t.want.Model}
	if c.Costs {
		h.output = t.want.MaxTokens
		if h.output <= 0 {
			h.output = reserveUnnamed
		}
		h.output = min(h.output, reserveMost)
		reserved := price.Tokens{Input: min(t.want.BodyBytes/bytesAToken, reserveInput), Output: h.output}
		c.Tokens, c.Cost = reserved.Sum(), r.costs(t.want.Model, reserved)
	}
	if f := r.full.refuse(c, r.now()); f != nil {
		return overLimit(t, l, f)
	}
	for _, d := range dues {
		if _, streams := d.Limits.Of(quota.ConcurrentStreams); streams && c.Costs {
			if err := r.presence.show(ctx); err != nil {
				return err
			}
			c.Instance, h.streams = r.presence.id(), true
			break
		}
	}
	t.hold = h
	return nil
}

// took notes that the charge is taken: with a request under way, this instance says that it is there until the end of it.
func (h *taken) took() {
	h.charged = true
	if h.streams {
		h.room.presence.open.Add(1)
	}
}

// permits holds a request against what needs no count.
func (r *Room) permits(t *trip, l *line, limits *quota.Limits) error {
	if limits == nil {
		return nil
	}
	w := &t.want
	_, money := limits.Of(quota.MonthlyCost)
	most, capped := limits.Of(quota.MaxTokens)
	asks := w.Path == messages || w.Path == messages+"/count_tokens"
	switch {
	case limits.Unknown():
		return fault.New(fault.Forbidden, "limits_unknown",
			"The limits of this request were set by a newer version of Signalbox, and this one cannot hold it against them. An operator can upgrade this instance, or clear the limits: signalbox limits set --clear")
	case t.llm && limits.WeighsTokens():
		return fault.New(fault.Invalid, "model_denied",
			"A request through /use to an LLM account cannot be held against the limits on models and tokens of this train, client key or person, so none is let through. Send requests for models to /v1.")
	case w.Path == batches && w.Method == http.MethodPost && limits.WeighsTokens():
		return fault.New(fault.Invalid, "model_denied",
			"A batch cannot be held against the limits on models and tokens of this train, client key or person, so none is let through. Send the messages one by one, or ask an operator for a client key whose train has no such limits.")
	case asks && !limits.Allows(w.Model):
		return fault.New(fault.Invalid, "model_denied",
			"The limits of this train, client key or person do not allow the model that the request names. They allow: "+listed(limits.Models())+". Ask for one of these; an operator can change that: signalbox limits set --train "+l.Slug+" models=…")
	case w.Path == messages && capped && (w.MaxTokens <= 0 || w.MaxTokens > most):
		return fault.New(fault.Invalid, "max_tokens_denied",
			"The limits of this train, client key or person want a max_tokens of at most "+strconv.FormatInt(most, 10)+", and the request asks for more or does not say. Set max_tokens to that or less.")
	case w.Path == messages && money && !r.priced(w.Model):
		return fault.New(fault.Invalid, "model_unpriced",
			"The model that the request names has no price here, so that it cannot be held against a budget in US dollars. Ask for a model with a price; an operator can give it one (SIGNALBOX_PRICES).")
	}
	return nil
}

// listed names the first of the models.
func listed(models []string) string {
	const most = 8
	if len(models) > most {
		return strings.Join(models[:most], ", ") + " and others"
	}
	return strings.Join(models, ", ")
}

func (r *Room) priced(model string) bool {
	_, ok := r.prices.Of(model)
	return ok
}

// costs returns what tokens of a model cost in micro-dollars; what has no price costs nothing, and is not let through where money is counted.
func (r *Room) costs(model string, t price.Tokens) int64 {
	var c price.Cost
	c.Add(r.prices, model, t)
	return min(c.Micro(), quota.Most)
}

// orphaned settles a request that was refused because nobody knew whether its intent was stored, and it was: nothing was used.
func (h *taken) orphaned(l *Lease) {
	ev := l.trip.caller.Event(store.LeaseOutcome, l.account.target())
	ev.Outcome, ev.Reason = Refused.outcome(), string(Refused)
	ev.Details = store.Details{store.Str("lease", l.id), store.Int("attempt", int64(l.trip.attempt)), store.Str("result", string(Refused)), store.Bool("unsent", true)}
	if !h.charge.Late() {
		h.room.db.AppendLater(ev)
		return
	}
	h.charge.Close(0, 0, true)
	h.room.db.AppendSettled(ev, h.charge)
}

// refused says what a charge that was not taken means to the client.
func (h *taken) refused(t *trip, on *line, err error) error {
	var over *quota.Refusal
	switch {
	case errors.As(err, &over):
		h.room.full.note(h.charge, over, h.room.now())
		return overLimit(t, on, over)
	case store.IsUncounted(err):
		return fault.New(fault.Forbidden, "limits_unknown",
			"What was used of the limits of this request was counted by another version of Signalbox, and this one cannot go on with it. An operator can upgrade this instance.")
	}
	return err
}

// note takes the outcome of an attempt, and what it used.
func (h *taken) note(ev store.Event, o Outcome) {
	h.carry()
	h.pending = &ev
	tokens, cost := h.charge.Tokens, h.charge.Cost // where nobody knows, what was reserved: also when a later attempt is known
	if spent, known := h.spentBy(o); known {
		model := h.model
		if usage.IsModel(o.Usage.Model) && h.room.priced(o.Usage.Model) {
			model = o.Usage.Model
		}
		tokens, cost = spent.Sum(), h.room.costs(model, spent)
	}
	h.tokens, h.cost = min(price.Sum(h.tokens, tokens), quota.Most), min(price.Sum(h.cost, cost), quota.Most)
}

// spentBy says how many tokens an attempt cost, as far as that is known; the ledger decides alike, but for an answer that broke off: what it cost is told at its end alone,
// so that whoever hangs up before would pay for the input only. What came of it is taken for output then, up to what was reserved.
func (h *taken) spentBy(o Outcome) (t price.Tokens, known bool) {
	u := o.Usage
	switch {
	case u.State == usage.Complete, u.State == usage.Partial:
		t = price.Tokens{Input: u.Input, Output: u.Output, CacheRead: u.CacheRead, CacheWrite5m: u.CacheWrite5m, CacheWrite1h: u.CacheWrite1h}
		if u.State == usage.Partial {
			t.Output = max(t.Output, min(h.output, o.Bytes/bytesAToken))
		}
		return t, true
	case u.State == usage.Unknown:
		return t, false
	case !h.charge.Costs, o.Unsent, o.Result == Refused, o.Result == UpstreamError, o.Status >= 400:
		return t, true
	}
	return t, false
}

// carry records the outcome of an attempt after which the request goes on.
func (h *taken) carry() {
	if h == nil || h.pending == nil {
		return
	}
	h.room.db.AppendLater(*h.pending)
	h.pending = nil
}

// finish records the last outcome, and settles what the request used.
func (h *taken) finish() {
	if h == nil || h.pending == nil {
		return
	}
	ev := *h.pending
	h.pending = nil
	if !h.charged || !h.charge.Late() {
		h.room.db.AppendLater(ev)
		return
	}
	h.charge.Close(h.tokens, h.cost, true)
	h.room.full.freed(h.charge)
	h.room.db.AppendSettled(ev, h.charge)
	if h.streams {
		h.room.presence.open.Add(-1)
	}
}

// full remembers which limits are used up and until when, so that who is over a limit costs no question to the database.
type full struct {
	mu   sync.Mutex
	seen map[fullKey]fullMark
}

type fullKey struct {
	subject string
	kind    quota.Kind
}

type fullMark struct {
	limits string // under which it was refused: others may let it through
	until  time.Time
	frees  time.Time
	over   quota.Refusal
}

// fullMost bounds the memory. Beyond it the database is asked.
const fullMost = 100_000

// refuse returns the refusal that lasts longest of those that are remembered for a charge.
func (f *full) refuse(c *quota.Charge, now time.Time) (over *quota.Refusal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.seen) == 0 {
		return nil
	}
	for _, d := range c.Dues {
		for k := range quota.MaxTokens {
			key := fullKey{d.Subject, k}
			m, ok := f.seen[key]
			switch {
			case !ok:
				continue
			case !now.Before(m.until) || m.limits != d.Limits.Text() || m.until.After(now.Add(2*askSeldom)): // over, of other limits, or the clock was set back
				delete(f.seen, key)
				continue
			case !c.Costs && k > quota.RequestsPerDay:
				continue
			}
			again := m.over
			again.After = max(1, int64((m.frees.Sub(now)+time.Second-1)/time.Second))
			if over == nil || again.After > over.After {
				over = &again
			}
		}
	}
	return over
}

// note remembers a refusal until something may be free again.
func (f *full) note(c *quota.Charge, over *quota.Refusal, now time.Time) {
	until := time.Duration(over.After) * time.Second
	switch {
	case over.Kind == quota.ConcurrentStreams:
		until = askAgainOpen
	case over.Kind >= quota.TokensPerMinute && over.After <= quota.UnderWay:
		until = askAgain
	}
	for _, d := range c.Dues {
		if d.Subject != over.Subject {
			continue
		}
		f.mu.Lock()
		if f.seen == nil || len(f.seen) >= fullMost {
			f.seen = map[fullKey]fullMark{}
		}
		f.seen[fullKey{over.Subject, over.Kind}] = fullMark{d.Limits.Text(), now.Add(min(until, askSeldom)), now.Add(time.Duration(over.After) * time.Second), *over}
		f.mu.Unlock()
	}
}

// freed forgets what a request that is over may have freed.
func (f *full) freed(c *quota.Charge) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.seen) == 0 {
		return
	}
	for _, d := range c.Dues {
		for k := quota.TokensPerMinute; k <= quota.ConcurrentStreams; k++ {
			if m, ok := f.seen[fullKey{d.Subject, k}]; ok && m.over.After <= quota.UnderWay {
				delete(f.seen, fullKey{d.Subject, k})
			}
		}
	}
}

// overLimit is the answer to a request over a limit.
func overLimit(t *trip, l *line, over *quota.Refusal) error {
	limit := number(over.Most) + " " + over.Kind.Row().Noun
	if over.Kind == quota.MonthlyCost {
		limit = price.Dollars(over.Most) + " " + over.Kind.Row().Noun
	}
	set := "signalbox limits set --train " + l.Slug
	var text string
	code := "limit_reached"
	budget := over.Kind == quota.MonthlyTokens || over.Kind == quota.MonthlyCost
	if budget {
		code = "budget_spent"
	}
	switch {
	case over.Subject == l.ID && budget:
		text = "The train of this client key has spent its budget: "
	case over.Subject == l.ID:
		text = "The train of this client key is at its limit: "
	case over.Subject == t.caller.MadeBy && budget:
		text, set = "The person who made this client key has spent their budget: ", "signalbox limits set --user PERSON"
	case over.Subject == t.caller.MadeBy:
		text, set = "The person who made this client key is at their limit: ", "signalbox limits set --user PERSON"
	case budget:
		text, set = "This client key has spent its budget: ", set+" --key "+over.Subject
	default:
		text, set = "This client key is at its limit: ", set+" --key "+over.Subject
	}
	return fault.New(fault.TooMany, code, text+limit+". Try again in "+inWords(over.After)+", or have an operator raise it: "+set+" "+over.Kind.String()+"=…").
		After(int(min(over.After, 1<<31))).Because(over)
}

// number writes a number with commas.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// inWords writes seconds as people say them.
func inWords(seconds int64) string {
	switch {
	case seconds < 120:
		return strconv.FormatInt(seconds, 10) + " s"
	case seconds < 2*3600:
		return strconv.FormatInt((seconds+59)/60, 10) + " minutes"
	case seconds < 2*86400:
		return strconv.FormatInt((seconds+3599)/3600, 10) + " hours"
	}
	return strconv.FormatInt((seconds+86399)/86400, 10) + " days"
}

// Quota returns what was left of the limits of requests and of tokens that leave the least, after this request; nil where nothing is limited.
func (l *Lease) Quota() quota.Standing {
	if l.trip.hold == nil {
		return quota.Standing{}
	}
	return l.trip.hold.charge.Left()
}
