package train

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"

	"signalbox.dev/signalbox/internal/store"
)

// board is everything that a lend must know: an immutable picture that the change feed replaces. One writer at a time (the feed) makes a
// new board from the last; readers take no lock.
type board struct {
	lines    map[string]*line // by the train's id
	accounts map[string]*account
	meters   Meters
}

// line is one train with its accounts in the order in which they are tried.
type line struct {
	Train
	rungs []rung
}

// rung is one link with its account.
type rung struct {
	account  *account
	meter    Meter
	link     Link
	priority int
	score    uint64
}

func (r *Room) emptyBoard() *board {
	return &board{lines: map[string]*line{}, accounts: map[string]*account{}, meters: r.meters}
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

// follow takes changes from the feed, reloads what they touch and then cuts the leases that may not go on.
func (r *Room) follow(ctx context.Context, changes []store.Change) error {
	reset, key := false, false
	trains, creds := map[string]bool{}, map[string]bool{}
	last := r.lines.Load()
	for _, c := range changes {
		switch c.Topic {
		case store.TopicReset:
			reset = true
		case store.TopicTrain:
			trains[c.Subject] = true
		case store.TopicCredential:
			if last.accounts[c.Subject] != nil { // most credentials are no accounts; a link tells of itself as a change of its train
				creds[c.Subject] = true
			}
		case store.TopicKey:
			key = true
		}
	}
	var next *board
	var err error
	switch {
	case reset:
		next, err = r.loadAll(ctx)
	case len(trains) > 0 || len(creds) > 0:
		next, err = r.loadSome(ctx, last, trains, creds)
	case !key:
		return nil
	}
	if err != nil {
		return err
	}
	if next != nil {
		r.lines.Store(next)
		r.meters.Keep(next.metered())
	}
	r.cutDead()
	return nil
}

func (r *Room) loadAll(ctx context.Context) (*board, error) {
	next := r.emptyBoard()
	last := r.lines.Load()
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		clear(next.lines)
		clear(next.accounts)
		var rows []trainRow
		if err := tx.Select(&rows, `SELECT `+trainColumn+`, 0 AS links FROM trains t`); err != nil {
			return err
		}
		var links []linkRow
		if err := tx.Select(&links, `SELECT `+linkColumns+` FROM train_links`); err != nil {
			return err
		}
		ids := map[string]bool{}
		for _, l := range links {
			ids[l.CredentialID] = true
		}
		if err := r.loadAccounts(tx, next, last, ids); err != nil {
			return err
		}
		byTrain := map[string][]Link{}
		for _, l := range links {
			byTrain[l.TrainID] = append(byTrain[l.TrainID], l.link())
		}
		for _, row := range rows {
			next.put(row.train(), byTrain[row.ID])
		}
		return nil
	})
	return next, err
}

// loadSome makes the next board from the last: the trains and credentials that changed are read, everything else is kept.
func (r *Room) loadSome(ctx context.Context, last *board, trains, creds map[string]bool) (*board, error) {
	next := &board{meters: r.meters}
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		next.lines, next.accounts = maps.Clone(last.lines), maps.Clone(last.accounts)
		wanted := map[string]bool{}
		type fresh struct {
			train Train
			links []Link
		}
		var lines []fresh
		for id := range trains {
			var row trainRow
			err := tx.Get(&row, `SELECT `+trainColumn+`, 0 AS links FROM trains t WHERE t.id = $1`, id)
			if errors.Is(err, store.ErrNotFound) {
				delete(next.lines, id)
				continue
			}
			if err != nil {
				return err
			}
			var links []linkRow
			if err := tx.Select(&links, `SELECT `+linkColumns+` FROM train_links WHERE train_id = $1`, id); err != nil {
				return err
			}
			f := fresh{train: row.train()}
			for _, l := range links {
				f.links = append(f.links, l.link())
				if last.accounts[l.CredentialID] == nil {
					wanted[l.CredentialID] = true
				}
			}
			lines = append(lines, f)
		}
		for id := range creds {
			if last.accounts[id] != nil {
				wanted[id] = true
			}
		}
		if err := r.loadAccounts(tx, next, last, wanted); err != nil {
			return err
		}
		for _, f := range lines {
			next.put(f.train, f.links)
		}
		next.relay(creds, trains)
		next.forget()
		return nil
	})
	return next, err
}

// loadAccounts opens credentials and reads their cool-downs. A credential that is gone is taken from the board.
func (r *Room) loadAccounts(tx *store.Tx, next, last *board, ids map[string]bool) error {
	if len(ids) == 0 {
		return nil
	}
	list := make([]string, 0, len(ids))
	for id := range ids {
		list = append(list, id)
		delete(next.accounts, id)
	}
	materials, err := r.vault.Materials(tx, list)
	if err != nil {
		return err
	}
	cool, err := loadCoolDowns(tx, list)
	if err != nil {
		return err
	}
	for _, m := range materials {
		var shared *atomic.Pointer[coolDown]
		if old := last.accounts[m.ID]; old != nil {
			shared = old.cooling
		}
		a := newAccount(m, shared)
		a.adopt(cool[m.ID])
		next.accounts[m.ID] = a
		if m.Damaged {
			r.log.Error("a linked credential does not open and is not lent", "credential", m.ID)
		}
	}
	return nil
}

// put sets a line from a train and its links; links whose credential is gone are left out.
func (b *board) put(t Train, links []Link) {
	l := &line{Train: t, rungs: make([]rung, 0, len(links))}
	for _, link := range links {
		a := b.accounts[link.CredentialID]
		if a == nil {
			continue
		}
		link.Name, link.AccountID, link.Type, link.Provider = a.name, a.AccountID, a.Type, a.Provider
		l.rungs = append(l.rungs, rung{account: a, meter: b.meter(t, a), link: link, priority: link.Priority, score: score(t.Slug, a.name)})
	}
	l.Links = len(l.rungs)
	rank(t.Strategy, l.rungs)
	b.lines[t.ID] = l
}

// relay rebuilds the lines that hold one of the changed credentials and were not read anew.
func (b *board) relay(creds, fresh map[string]bool) {
	for id, l := range b.lines {
		if fresh[id] {
			continue
		}
		for _, g := range l.rungs {
			if !creds[g.account.id] {
				continue
			}
			links := make([]Link, len(l.rungs))
			for i, g := range l.rungs {
				links[i] = g.link
			}
			b.put(l.Train, links)
			break
		}
	}
}

// forget drops accounts that no line links any more, so that their secrets leave the memory.
func (b *board) forget() {
	linked := make(map[string]bool, len(b.accounts))
	for _, l := range b.lines {
		for _, g := range l.rungs {
			linked[g.account.id] = true
		}
	}
	maps.DeleteFunc(b.accounts, func(id string, _ *account) bool { return !linked[id] })
}
