package train

import (
	"reflect"
	"sync/atomic"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// board is everything that a lend must know. Its lines and accounts are immutable; the change feed, the only writer, replaces those that a
// change touches and looks at no others. Whoever reads several of them may see one change half done, but never half a line: a lease is
// looked at again when it is registered, and by the feed after each batch. A reset makes another board.
type board struct {
	meters   Meters
	lines    *shelf[*line] // by the train's id
	accounts *shelf[*account]
	// slugs leads from a train's slug to its id, for requests that name a train instead of sending a key; nil where there are none.
	slugs *shelf[string]

	// What follows is the feed's own.

	// users is the way back from an account to the lines that hold it. Every account on the board is in it.
	users map[string]users
	// loose are accounts that a line let go since the last sweep.
	loose map[string]struct{}
	// places are shared by the accounts.
	places upstreams
	// laid counts the lines that were made.
	laid int
}

// line is one train with its accounts in the order in which they are tried.
type line struct {
	Train
	rungs []rung
}

// rung is one link with its account. What [Link] says of the train and the credential is not held twice.
type rung struct {
	account  *account
	meter    Meter
	alias    string
	linked   store.Time
	priority int
	score    uint64
	first    bool // the train's default account
}

func (r *Room) emptyBoard() *board {
	b := &board{meters: r.meters, lines: newShelf[*line](), accounts: newShelf[*account](), users: map[string]users{}, loose: map[string]struct{}{}, places: upstreams{}}
	if r.keyless {
		b.slugs = newShelf[string]()
	}
	return b
}

// closed reports whether nothing may be lent on this line. A strategy that this version does not know denies.
func (l *line) closed() bool { return l.Disabled || !l.Strategy.known() }

// rung returns the link to a credential.
func (l *line) rung(credentialID string) (rung, bool) {
	for _, g := range l.rungs {
		if g.account.id == credentialID {
			return g, true
		}
	}
	return rung{}, false
}

// link returns a rung as the API shows it.
func (l *line) link(g rung) Link {
	a := g.account
	return Link{TrainID: l.ID, CredentialID: a.id, Name: a.name, AccountID: a.AccountID, Type: a.Type, Provider: a.Provider,
		Alias: g.alias, Priority: g.priority, CreatedAt: g.linked.Time()}
}

// tie is what a rung is made of.
type tie struct {
	credentialID, alias string
	linked              store.Time
	priority            int
	first               bool
}

func (g rung) tie() tie {
	return tie{credentialID: g.account.id, alias: g.alias, linked: g.linked, priority: g.priority, first: g.first}
}

// name makes a train's slug lead to it. Only what was read of the train itself may: a line that is laid anew because of an account may be
// that of a train which is gone and whose slug another train has.
func (b *board) name(t Train) {
	if b.slugs != nil {
		b.slugs.set(t.Slug, t.ID)
	}
}

// lay sets the line of a train. Ties to credentials that are gone are left out.
func (b *board) lay(t Train, ties []tie) {
	l := &line{Train: t, rungs: make([]rung, 0, len(ties))}
	for _, tie := range ties {
		a := b.accounts.get(tie.credentialID)
		if a == nil {
			continue
		}
		l.rungs = append(l.rungs, rung{account: a, meter: b.meter(t, a), alias: tie.alias, linked: tie.linked, priority: tie.priority, first: tie.first, score: score(t.Slug, a.name)})
		b.users[a.id] = b.users[a.id].with(t.ID)
	}
	l.Links = len(l.rungs)
	rank(t.Strategy, l.rungs)
	last := b.lines.get(t.ID)
	b.lines.set(t.ID, l)
	b.laid++
	b.letGo(last, l)
}

// lift takes away the line of a train.
func (b *board) lift(id string) {
	last := b.lines.get(id)
	if last == nil {
		return
	}
	b.lines.drop(id)
	if b.slugs != nil && b.slugs.get(last.Slug) == id { // another train may have taken the slug
		b.slugs.drop(last.Slug)
	}
	b.letGo(last, nil)
}

// relay lays the lines anew that hold an account, but for those that skip names.
func (b *board) relay(credentialID string, skip map[string]bool) {
	for _, id := range b.users[credentialID].list() {
		if skip[id] {
			continue
		}
		l := b.lines.get(id)
		ties := make([]tie, len(l.rungs))
		for i, g := range l.rungs {
			ties[i] = g.tie()
		}
		b.lay(l.Train, ties)
		skip[id] = true // what else changed is on it now, too
	}
}

// letGo gives back what a line held that is replaced by the next one, or by none. Its meters go after the next line has its own, so that a
// pair that stays is never without a user and keeps its counts.
func (b *board) letGo(last, next *line) {
	if last == nil {
		return
	}
	stay := map[string]bool{}
	if next != nil {
		for i := range next.rungs {
			stay[next.rungs[i].account.id] = true
		}
	}
	for i := range last.rungs {
		g := &last.rungs[i]
		if !stay[g.account.id] {
			u := b.users[g.account.id].without(last.ID)
			b.users[g.account.id] = u
			if u.empty() {
				b.loose[g.account.id] = struct{}{}
			}
		}
		g.unmeter(b.meters)
	}
}

// seat puts an account on the board, or takes it away when there is no material, and reports whether lines that hold it must be laid anew.
// from is the board that has what was known of it before.
func (b *board) seat(from *board, id string, m *vault.Material, cool *coolDown) bool {
	have := b.accounts.get(id)
	if m == nil {
		b.accounts.drop(id)
		return have != nil
	}
	last := from.accounts.get(id)
	var shared *atomic.Pointer[coolDown]
	var used *vault.Use
	if last != nil {
		shared, used = last.cooling, last.used
	}
	a := newAccount(*m, shared, used)
	if last != nil {
		a.gauge = last.gauge
	}
	b.places.share(a)
	a.adopt(cool)
	if last != nil && last.same(a) { // no more than a cool-down changed: an account may be on very many lines
		a = last
	}
	if a == have {
		return false
	}
	b.accounts.set(id, a)
	if have == nil {
		b.loose[id] = struct{}{} // until a line takes it
	}
	return have != nil
}

// same reports whether nothing but the cool-down may differ.
func (a *account) same(b *account) bool {
	return reflect.DeepEqual(a.Material, b.Material) && a.header.Equal(b.header) && a.route.Same(b.route)
}

// sweep drops accounts that no line links any more, so that their secrets leave the memory.
func (b *board) sweep() {
	for id := range b.loose {
		if b.users[id].empty() {
			delete(b.users, id)
			b.accounts.drop(id)
		}
	}
	clear(b.loose)
}

// close gives back the meters of a board that was replaced.
func (b *board) close() {
	for l := range b.lines.all() {
		for i := range l.rungs {
			l.rungs[i].unmeter(b.meters)
		}
	}
}
