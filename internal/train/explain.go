package train

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// State says whether an account would be lent now.
type State string

// The states.
const (
	Usable   State = "usable"
	Cooling  State = "cooling"
	Unusable State = "unusable"
	Paused   State = "paused"  // somebody has it lent to nobody
	Drained  State = "drained" // somebody has it lent to no new request; running ones finish
)

// Ranked is one linked credential in the order in which the train tries them, with why.
type Ranked struct {
	Link
	Rank    int // from 1; 0 for credentials that cannot serve an LLM provider
	Chosen  bool
	Version int64
	State   State
	// Order says why the account stands where it stands.
	Order string
	// Why says why it would be lent or not.
	Why string
	// CoolingUntil and CoolingStatus tell of the cool-down in force; the status is the upstream's, 0 when it was not reached.
	CoolingUntil  *time.Time
	CoolingStatus int
	// Windows is what is known of how far the account's limits are used, and InFlight how many requests this instance has under way with it.
	Windows  []Window
	InFlight int
	// Load is what [LeastLoaded] compares, in ten-thousandths, and Over the window that puts the account after those below their limits; "" for none.
	Load int
	Over string
	// Conversations counts those that this instance keeps on the account for the train; only [LeastLoaded] keeps any.
	Conversations int
}

// Explanation is what a train would do with a request that arrived now.
type Explanation struct {
	Train    Train
	Accounts []Ranked
	// Summary is one sentence for people.
	Summary string
}

// Explain returns a train's accounts in the order in which a request would try them and says of each whether it would be lent, by what this instance goes
// by; the request is one that names no model and no conversation. It needs trains:read.
func (r *Room) Explain(ctx context.Context, caller identity.Caller, ref string) (Explanation, error) {
	return r.ExplainFor(ctx, caller, ref, "")
}

// ExplainFor is [Room.Explain] for a request that names a model: some windows count for single models.
func (r *Room) ExplainFor(ctx context.Context, caller identity.Caller, ref, model string) (Explanation, error) {
	if _, err := identity.Within(caller, identity.TrainRead); err != nil {
		return Explanation{}, err
	}
	if err := r.db.Fresh(ctx); err != nil {
		return Explanation{}, err
	}
	// The feed may be a moment behind the database; the train itself is read, so that one just made is not denied.
	var t Train
	if err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		t, err = reach(tx, caller, identity.TrainRead, ref, "")
		return err
	}); err != nil {
		return Explanation{}, err
	}
	l := r.lines.Load().lines.get(t.ID)
	if l == nil {
		l = &line{Train: t}
	}
	now := r.now()
	e := l.explain(model, now)
	r.tellFinishing(l, e.Accounts)
	if l.Strategy == LeastLoaded {
		on := r.sessions.on(l.ID, now)
		for i := range e.Accounts {
			x := &e.Accounts[i]
			if x.Conversations = on[x.CredentialID]; x.Rank > 0 {
				x.Order += fmt.Sprintf("; %d conversations are kept on it", x.Conversations)
			}
		}
	}
	return e, nil
}

func (l *line) explain(model string, now time.Time) Explanation {
	e := Explanation{Train: l.Train, Accounts: make([]Ranked, 0, len(l.rungs))}
	chosen := ""
	offers := l.inOrder(model, now)
	for i := range offers {
		o := &offers[i]
		g, f := *o.rung, o.fill
		a := g.account
		x := Ranked{Link: l.link(g), Version: a.Version}
		if a.isAccount() {
			x.Rank = 1
			for _, before := range e.Accounts {
				if before.Rank > 0 {
					x.Rank++
				}
			}
			x.Order, x.Load = l.order(o), o.load()
			if f.over != nil {
				x.Over = f.over.Name
			}
		}
		stands := a.standing(now)
		x.State, x.Why, x.CoolingUntil, x.Windows, x.InFlight = stands.State, stands.Why, stands.CoolingUntil, stands.Windows, stands.InFlight
		switch {
		case stands.State == Cooling:
			x.CoolingStatus = stands.status
		case stands.State == Usable && !f.refused.IsZero():
			until := f.refused
			x.State, x.Why, x.CoolingUntil, x.CoolingStatus = Cooling, "the upstream says that its window for this model is used up (429); other models are served", &until, http.StatusTooManyRequests
		}
		if x.State == Usable && chosen == "" && !l.closed() {
			x.Chosen = true
			chosen = x.Name
		}
		e.Accounts = append(e.Accounts, x)
	}
	e.Summary = l.summary(e.Accounts, chosen, now)
	return e
}

// order says why an account stands where it stands.
func (l *line) order(o *offer) string {
	g := o.rung
	order := fmt.Sprintf("hash %016x of %q", g.score, l.Slug+"::"+g.account.name)
	switch l.Strategy {
	case Priority:
		order = fmt.Sprintf("priority %d, then %s", g.priority, order)
	case LeastLoaded:
		order = o.why() + "; then " + order
	}
	if g.first {
		return "the train's default account, before all others; " + order
	}
	return order
}

func (l *line) summary(accounts []Ranked, chosen string, now time.Time) string {
	isAccount := func(x Ranked) bool { return x.Rank > 0 }
	switch {
	case l.closed():
		return "The train is disabled, so nothing is lent to it."
	case chosen != "":
		if l.Strategy == LeastLoaded {
			return "The next request is served by " + chosen + ", or by the account that its conversation is on."
		}
		return "The next request is served by " + chosen + "."
	case !slices.ContainsFunc(accounts, isAccount):
		return "No account is linked, so requests are refused. Link one: signalbox train link " + l.Slug + " ACCOUNT."
	}
	var earliest time.Time
	for _, x := range accounts {
		if x.CoolingUntil != nil && (earliest.IsZero() || x.CoolingUntil.Before(earliest)) {
			earliest = *x.CoolingUntil
		}
	}
	if earliest.IsZero() {
		if slices.ContainsFunc(accounts, isHeld) {
			return "The accounts that could be used are paused or drained, so requests are refused. Lend one again: signalbox account resume ACCOUNT."
		}
		return "None of the linked accounts can be used, so requests are refused."
	}
	return "All usable accounts are cooling down; the first is free in " + earliest.Sub(now).Round(time.Second).String() + "."
}

// sortLinks puts links into the order of lists: priority, then name.
func sortLinks(links []Link) {
	slices.SortFunc(links, func(a, b Link) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Name, b.Name), cmp.Compare(a.CredentialID, b.CredentialID))
	})
}
