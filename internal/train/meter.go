package train

import (
	"cmp"
	"slices"

	"signalbox.dev/signalbox/internal/identity"
)

// Meter counts what becomes of the attempts of one train at one account. Its methods are on the way of requests and must not wait.
type Meter interface {
	// Settled is called once an attempt, with what became of it.
	Settled(o Outcome)
	// FailedOver is called when a request that failed here was lent another account.
	FailedOver()
	// Cooled is called when the failure has made the account rest.
	Cooled(f Failure)
}

// Meters hands out meters. The room calls it from one goroutine at a time, when it learns of trains, links and credentials, so that the way
// of a request looks nothing up.
type Meters interface {
	// Meter returns the meter of a train (by slug, a private one by its id) and an account (by name); the same one for the same pair while anybody uses it. Each call
	// is a use.
	Meter(train, account string) Meter
	// Drop ends one use. What was counted by a meter that nobody uses any more may be forgotten.
	Drop(m Meter)
}

// noMeters counts nothing.
type noMeters struct{}

func (noMeters) Meter(string, string) Meter { return noMeter{} }
func (noMeters) Drop(Meter)                 {}

type noMeter struct{}

func (noMeter) Settled(Outcome) {}
func (noMeter) FailedOver()     {}
func (noMeter) Cooled(Failure)  {}

// meter returns the meter of an account on a line. What is linked and can never be lent to an LLM has none.
func (b *board) meter(t Train, a *account) Meter {
	if !a.isAccount() {
		return noMeter{}
	}
	return b.meters.Meter(t.label(), a.name)
}

// unmeter ends the use that [board.meter] began.
func (g *rung) unmeter(meters Meters) {
	if g.account.isAccount() {
		meters.Drop(g.meter)
	}
}

// label is what the train is called in metrics, which whoever watches over Signalbox reads: a private one by its id.
func (t Train) label() string {
	if t.Visibility != identity.OfOrganisation {
		return t.ID
	}
	return t.Slug
}

// Tally counts accounts by what can be done with them at a moment.
type Tally struct{ Usable, Cooling, Unusable int }

// TrainTally is the tally of one train, by its slug, or its id if it is private.
type TrainTally struct {
	Train string
	Tally
}

// Tallies counts the accounts of each train, the oldest train first, and all linked accounts once, from memory. The accounts of a disabled
// train are unusable to it.
func (r *Room) Tallies() (trains []TrainTally, all Tally) {
	now := r.now()
	b := r.lines.Load()
	count := func(t *Tally, a *account, closed bool) {
		switch {
		case !a.isAccount():
		case closed || a.barred(now) != "" || a.held() != "":
			t.Unusable++
		case a.coolsUntil(now) != nil:
			t.Cooling++
		default:
			t.Usable++
		}
	}
	for a := range b.accounts.all() {
		count(&all, a, false)
	}
	lines := slices.SortedFunc(b.lines.all(), func(a, b *line) int { return cmp.Compare(a.ID, b.ID) }) // ids begin with the time
	trains = make([]TrainTally, len(lines))
	for i, l := range lines {
		trains[i].Train = l.label()
		for _, g := range l.rungs {
			count(&trains[i].Tally, g.account, l.closed())
		}
	}
	return trains, all
}
