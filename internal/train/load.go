package train

import (
	"context"
	"errors"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// news is what was read of the trains and credentials that changed. Everything is read before the board is touched, so that a read that
// fails changes nothing.
type news struct {
	trains   []trainNews
	gone     []string // trains that are no more
	accounts []accountNews
	windows  []windowNews
}

type trainNews struct {
	train Train
	ties  []tie
}

// accountNews is one credential; its material is nil when it is no more.
type accountNews struct {
	id       string
	material *vault.Material
	cool     *coolDown
}

// follow takes changes from the feed, reads what they touch and then cuts the leases that may not go on.
func (r *Room) follow(ctx context.Context, changes []store.Change) error {
	r.following.Lock()
	defer r.following.Unlock()
	reset, key := false, false
	trains, creds, windows := map[string]bool{}, map[string]bool{}, map[string]bool{}
	b := r.lines.Load()
	for _, c := range changes {
		switch c.Topic {
		case store.TopicReset:
			reset = true
		case store.TopicTrain:
			trains[c.Subject] = true
		case store.TopicCredential:
			if b.accounts.get(c.Subject) != nil { // most credentials are no accounts; a link tells of itself as a change of its train
				creds[c.Subject] = true
			}
		case store.TopicWindows:
			if b.accounts.get(c.Subject) != nil {
				windows[c.Subject] = true
			}
		case store.TopicKey:
			key = true
		}
	}
	if !reset { // which reads them anyway
		defer r.hearWindows(ctx, windows)
	}
	switch {
	case reset:
		n, err := r.readAll(ctx)
		if err != nil {
			return err
		}
		next := r.emptyBoard()
		r.hang(next, b, n)
		r.lines.Store(next)
		b.close()
	case len(trains) > 0 || len(creds) > 0:
		n, err := r.readSome(ctx, b, trains, creds)
		if err != nil {
			return err
		}
		r.hang(b, b, n)
	case !key:
		return nil
	}
	r.cutDead()
	return nil
}

// hang changes a board to what was read; from is the board that has what was known before: the same one, or after a reset the last.
func (r *Room) hang(b, from *board, n news) {
	var changed []string
	for _, a := range n.accounts {
		if a.material != nil && a.material.Damaged {
			r.log.Error("a linked credential does not open and is not lent", "credential", a.id)
		}
		if b.seat(from, a.id, a.material, a.cool) {
			changed = append(changed, a.id)
		}
	}
	for _, id := range n.gone {
		b.lift(id)
	}
	fresh := make(map[string]bool, len(n.trains))
	for _, t := range n.trains {
		pack(&t.train.ID, &t.train.Slug, &t.train.Name, &t.train.Description)
		b.lay(t.train, t.ties)
		b.name(t.train)
		fresh[t.train.ID] = true
	}
	for _, id := range changed {
		b.relay(id, fresh)
	}
	b.sweep()
	r.adoptWindows(b, n.windows)
}

// readAll reads every train and every credential that is linked.
func (r *Room) readAll(ctx context.Context) (n news, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		n = news{} // PostgreSQL may run this again
		var rows []trainRow
		if err := tx.Select(&rows, `SELECT `+trainColumn+`, 0 AS links FROM trains t`); err != nil {
			return err
		}
		var links []linkRow
		if err := tx.Select(&links, `SELECT `+linkColumns+` FROM train_links`); err != nil {
			return err
		}
		linked, ties := map[string]bool{}, make(map[string][]tie, len(rows))
		for _, l := range links {
			linked[l.CredentialID] = true
			ties[l.TrainID] = append(ties[l.TrainID], l.tie())
		}
		n.trains = make([]trainNews, len(rows))
		for i, row := range rows {
			n.trains[i] = trainNews{train: row.train(), ties: ties[row.ID]}
		}
		n.accounts, n.windows, err = r.readAccounts(tx, linked)
		return err
	})
	return n, err
}

// readSome reads the trains and credentials that changed, and the credentials of those trains that the board does not have.
func (r *Room) readSome(ctx context.Context, b *board, trains, creds map[string]bool) (n news, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		n = news{}
		wanted := make(map[string]bool, len(creds))
		for id := range creds {
			wanted[id] = true
		}
		for id := range trains {
			var row trainRow
			err := tx.Get(&row, `SELECT `+trainColumn+`, 0 AS links FROM trains t WHERE t.id = $1`, id)
			if errors.Is(err, store.ErrNotFound) {
				n.gone = append(n.gone, id)
				continue
			}
			if err != nil {
				return err
			}
			var links []linkRow
			if err := tx.Select(&links, `SELECT `+linkColumns+` FROM train_links WHERE train_id = $1`, id); err != nil {
				return err
			}
			t := trainNews{train: row.train(), ties: make([]tie, len(links))}
			for i, l := range links {
				t.ties[i] = l.tie()
				if b.accounts.get(l.CredentialID) == nil {
					wanted[l.CredentialID] = true
				}
			}
			n.trains = append(n.trains, t)
		}
		n.accounts, n.windows, err = r.readAccounts(tx, wanted)
		return err
	})
	return n, err
}

// readAccounts opens credentials and reads their cool-downs and windows.
func (r *Room) readAccounts(tx *store.Tx, ids map[string]bool) ([]accountNews, []windowNews, error) {
	if len(ids) == 0 {
		return nil, nil, nil
	}
	list := make([]string, 0, len(ids))
	for id := range ids {
		list = append(list, id)
	}
	materials, err := r.vault.Materials(tx, list)
	if err != nil {
		return nil, nil, err
	}
	cool, err := loadCoolDowns(tx, list)
	if err != nil {
		return nil, nil, err
	}
	windows, err := loadWindows(tx, list)
	if err != nil {
		return nil, nil, err
	}
	found := make(map[string]*vault.Material, len(materials))
	for i := range materials {
		materials[i].Refreshes = materials[i].Refreshes && r.refresher != nil
		found[materials[i].ID] = &materials[i]
	}
	out := make([]accountNews, len(list))
	for i, id := range list {
		out[i] = accountNews{id: id, material: found[id], cool: cool[id]}
	}
	return out, windows, nil
}
