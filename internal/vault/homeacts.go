package vault

import (
	"context"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// Homes are read with credentials:read and kept with credentials:write, by those whose role reaches every credential. Everybody else sees those
// that a credential which they see names, or on which something was granted to them, and changes none.

// CreateHome stores a client, a service or infrastructure. A name that is taken is already_exists; a client that does not exist is
// validation_failed at /client_id.
func (r *Room) CreateHome(ctx context.Context, caller identity.Caller, kind HomeKind, m HomeMeta) (Home, error) {
	row, err := lookupHome(kind)
	if err != nil {
		return Home{}, err
	}
	if err := r.keeps(ctx, caller, row, "create", ""); err != nil {
		return Home{}, err
	}
	var p problems
	row.normalise(&m, &p)
	if err := p.homeErr(row); err != nil {
		return Home{}, err
	}
	var out Home
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		h := Home{Kind: kind, ID: store.NewID(row.prefix), HomeMeta: m, Revision: 1, CreatedAt: tx.Now(), UpdatedAt: tx.Now()}
		if err := row.ofClient(tx, m.ClientID); err != nil {
			return err
		}
		if err := h.insert(tx, row); err != nil {
			return err
		}
		tx.Change(store.TopicHome, h.ID)
		out = h
		return tx.Record(caller.Event(row.create, h.target()))
	})
	if err != nil {
		return Home{}, row.settle(err)
	}
	return out, nil
}

// GetHome returns one home that the caller sees.
func (r *Room) GetHome(ctx context.Context, caller identity.Caller, kind HomeKind, id string) (Home, error) {
	row, reach, err := r.readsHomes(ctx, caller, kind, id)
	if err != nil {
		return Home{}, err
	}
	var out Home
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		parties, err := principals(tx, caller, reach)
		if err == nil {
			out, err = loadHome(tx, row, id, reach == identity.Everything, parties)
		}
		return err
	})
	return out, err
}

// ListHomes returns the homes of a kind that match and that the caller sees, oldest first, and the cursor of the next page, empty at the end.
func (r *Room) ListHomes(ctx context.Context, caller identity.Caller, kind HomeKind, f HomeFilter) (items []Home, next string, err error) {
	row, reach, err := r.readsHomes(ctx, caller, kind, "")
	if err != nil {
		return nil, "", err
	}
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	after, err := f.check(row)
	if err != nil {
		return nil, "", err
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		items, next = nil, ""
		parties, err := principals(tx, caller, reach)
		if err != nil {
			return err
		}
		var w store.Where
		if reach != identity.Everything {
			row.seenBy(&w, parties)
			if f.ClientID != "" { // whose a service is, tells only who sees that client
				seen, err := seenOf(tx, HomeClient, []string{f.ClientID}, parties)
				if err != nil || !seen[f.ClientID] {
					return err
				}
			}
		}
		if f.ClientID != "" {
			if !row.owned {
				return nil
			}
			w.Add(`h.client_id = ?`, f.ClientID)
		}
		if f.Sort != "" {
			w.Add(`h.kind = ?`, f.Sort)
		}
		for _, word := range strings.Fields(f.Q) {
			// The name as well: of what came with a migration, the database lowered the text, and not every database lowers every letter.
			w.Add(`(h.search LIKE ? ESCAPE '\' OR h.name LIKE ? ESCAPE '\')`, store.Like(strings.ToLower(word)), store.Like(word))
		}
		if after != "" {
			w.Add(`h.id > ?`, after)
		}
		var rows []homeRecord
		query := row.selectHome() + w.SQL() + ` ORDER BY h.id LIMIT ` + w.Arg(f.Limit+1) + ` OFFSET ` + w.Arg(f.Skip)
		if err := tx.Select(&rows, query, w.Args()...); err != nil {
			return err
		}
		if len(rows) > f.Limit {
			rows = rows[:f.Limit]
			next = encodeCursor(homeCursor + rows[len(rows)-1].ID)
		}
		for _, one := range rows {
			items = append(items, one.home(kind))
		}
		if reach == identity.Everything {
			return nil
		}
		return veil(tx, items, parties)
	})
	return items, next, err
}

// UpdateHome merges a patch into a home (RFC 7396). With ifMatch it changes only the state that the caller has seen.
func (r *Room) UpdateHome(ctx context.Context, caller identity.Caller, kind HomeKind, id string, p HomePatch, ifMatch string) (Home, error) {
	row, err := lookupHome(kind)
	if err != nil {
		return Home{}, err
	}
	if err := r.keeps(ctx, caller, row, "update", id); err != nil {
		return Home{}, err
	}
	var out Home
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		h, err := row.lock(tx, id, ifMatch, Scope{OnClient, p.ClientID.value})
		if err != nil {
			return err
		}
		before := h.HomeMeta
		h.HomeMeta = p.merge(before)
		var bad problems
		row.normalise(&h.HomeMeta, &bad)
		if err := bad.homeErr(row); err != nil {
			return err
		}
		if h.ClientID != before.ClientID {
			if err := row.ofClient(tx, h.ClientID); err != nil {
				return err
			}
		}
		ev := caller.Event(row.update, h.target())
		ev.Fields = row.changed(before, h.HomeMeta)
		h.Revision++
		h.UpdatedAt = tx.Now()
		if err := h.update(tx, row); err != nil {
			return err
		}
		tx.Change(store.TopicHome, h.ID)
		out = h
		return tx.Record(ev)
	})
	if err != nil {
		return Home{}, row.settle(err)
	}
	return out, nil
}

// DeleteHome removes a home that nothing belongs to, with what was granted on it. What still belongs to it is told in the fault in_use: how much
// there is, and the first names. With ifMatch it removes only the state that the caller has seen.
func (r *Room) DeleteHome(ctx context.Context, caller identity.Caller, kind HomeKind, id, ifMatch string) error {
	row, err := lookupHome(kind)
	if err != nil {
		return err
	}
	if err := r.keeps(ctx, caller, row, "delete", id); err != nil {
		return err
	}
	return r.db.Write(ctx, func(tx *store.Tx) error {
		h, err := row.lock(tx, id, ifMatch)
		if err != nil {
			return err
		}
		left, err := dependents(tx, row, id)
		if err != nil {
			return err
		}
		if err := inUse(row, left); err != nil {
			return err
		}
		grants := int64(0)
		if kind != HomeInfrastructure {
			if grants, err = tx.Exec(`DELETE FROM grants WHERE scope = $1 AND scope_id = $2`, string(kind), id); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`DELETE FROM `+row.table+` WHERE id = $1`, id); err != nil {
			return err
		}
		tx.Change(store.TopicHome, id)
		ev := caller.Event(row.delete, h.target())
		ev.Details = store.Details{store.Int("grants", grants)}
		return tx.Record(ev)
	})
}

// Dependents says what belongs to a home and would stand in the way of deleting it; nil when nothing does. It is for those who may delete it.
func (r *Room) Dependents(ctx context.Context, caller identity.Caller, kind HomeKind, id string) ([]Dependent, error) {
	row, err := lookupHome(kind)
	if err != nil {
		return nil, err
	}
	if err := identity.Allow(caller, identity.CredentialRead); err != nil {
		return nil, err
	}
	var out []Dependent
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		if _, err := loadHome(tx, row, id, true, nil); err != nil {
			return err
		}
		out, err = dependents(tx, row, id)
		return err
	})
	return out, err
}

// MayKeepHomes returns nil when the caller may store, change and delete homes; a refusal is recorded.
func (r *Room) MayKeepHomes(ctx context.Context, caller identity.Caller, kind HomeKind) error {
	row, err := lookupHome(kind)
	if err != nil {
		return err
	}
	return r.keeps(ctx, caller, row, "create", "")
}

// keeps asks whether the caller may change the homes of a kind, and records a refusal. Whose role does not reach everything learns of the home no
// more than that it is one which they see.
func (r *Room) keeps(ctx context.Context, caller identity.Caller, row homeRow, act, id string) error {
	reach, refusal := identity.Within(caller, identity.CredentialWrite)
	if refusal == nil && reach == identity.Everything || refusal != nil && fault.KindOf(refusal) == fault.Unauthenticated {
		return refusal
	}
	verdict := refusal
	if err := r.db.Write(ctx, func(tx *store.Tx) error {
		target := store.Target{Kind: string(row.kind)}
		if verdict = refusal; verdict == nil {
			verdict = row.forbidden()
		}
		if id != "" {
			parties, err := identity.Principals(tx, caller)
			if err != nil {
				return err
			}
			switch h, err := loadHome(tx, row, id, refusal != nil, parties); {
			case err == nil:
				target = h.target()
			case fault.KindOf(err) != fault.NotFound:
				return err
			case refusal == nil:
				verdict = err
			}
		}
		return tx.Record(refused(caller, target, act, verdict))
	}); err != nil {
		return err
	}
	return verdict
}

// readsHomes asks how far the caller may read homes; a refusal is recorded.
func (r *Room) readsHomes(ctx context.Context, caller identity.Caller, kind HomeKind, id string) (homeRow, identity.Reach, error) {
	row, err := lookupHome(kind)
	if err != nil {
		return row, identity.Nothing, err
	}
	reach, refusal := identity.Within(caller, identity.CredentialRead)
	if refusal == nil || fault.KindOf(refusal) == fault.Unauthenticated {
		return row, reach, refusal
	}
	act := "view"
	if id == "" {
		act = "list"
	}
	if err := r.db.Write(ctx, func(tx *store.Tx) error {
		return tx.Record(refused(caller, store.Target{Kind: string(kind)}, act, refusal))
	}); err != nil {
		return row, identity.Nothing, err
	}
	return row, identity.Nothing, refusal
}

// principals are to whom something must have been granted; nobody needs to be asked where everything is reached.
func principals(tx *store.Tx, caller identity.Caller, reach identity.Reach) ([]string, error) {
	if reach == identity.Everything {
		return nil, nil
	}
	return identity.Principals(tx, caller)
}
