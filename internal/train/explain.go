package train

import (
	"cmp"
	"context"
	"fmt"
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
}

// Explanation is what a train would do with a request that arrived now.
type Explanation struct {
	Train    Train
	Accounts []Ranked
	// Summary is one sentence for people.
	Summary string
}

// Explain returns a train's accounts in rank order and says of each whether it would be lent, by what this instance goes by. It needs
// trains:read.
func (r *Room) Explain(ctx context.Context, caller identity.Caller, ref string) (Explanation, error) {
	if err := identity.Allow(caller, identity.TrainRead); err != nil {
		return Explanation{}, err
	}
	if err := r.db.Fresh(ctx); err != nil {
		return Explanation{}, err
	}
	// The feed may be a moment behind the database; the train itself is read, so that one just made is not denied.
	var t Train
	if err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		t, err = find(tx, ref, "")
		return err
	}); err != nil {
		return Explanation{}, err
	}
	l := r.lines.Load().lines.get(t.ID)
	if l == nil {
		l = &line{Train: t}
	}
	e := l.explain(r.now())
	r.tellFinishing(l, e.Accounts)
	return e, nil
}

func (l *line) explain(now time.Time) Explanation {
	e := Explanation{Train: l.Train, Accounts: make([]Ranked, 0, len(l.rungs))}
	chosen := ""
	for _, g := range l.rungs {
		a := g.account
		x := Ranked{Link: l.link(g), Version: a.Version}
		if a.isAccount() {
			x.Rank = 1
			for _, before := range e.Accounts {
				if before.Rank > 0 {
					x.Rank++
				}
			}
			x.Order = l.order(g)
		}
		stands := a.standing(now)
		x.State, x.Why, x.CoolingUntil = stands.State, stands.Why, stands.CoolingUntil
		if stands.State == Cooling {
			x.CoolingStatus = stands.status
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
func (l *line) order(g rung) string {
	order := fmt.Sprintf("hash %016x of %q", g.score, l.Slug+"::"+g.account.name)
	if l.Strategy == Priority {
		order = fmt.Sprintf("priority %d, then %s", g.priority, order)
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
