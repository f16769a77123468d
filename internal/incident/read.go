package incident

import (
	"context"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// Get returns one incident. It needs incidents:read.
func (r *Room) Get(ctx context.Context, caller identity.Caller, id string) (Incident, error) {
	if err := r.allow(ctx, caller, identity.IncidentRead, "view", id); err != nil {
		return Incident{}, err
	}
	var out Incident
	err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		if out, err = load(tx, id, ""); err != nil {
			return err
		}
		s, err := sightOf(tx, caller)
		if err == nil {
			out, _, err = s.one(tx, out)
		}
		return err
	})
	return out, err
}

// List returns the incidents that match, the newest first, and the cursor of the next page, empty at the end. It needs incidents:read.
func (r *Room) List(ctx context.Context, caller identity.Caller, f Filter) (list []Incident, next string, err error) {
	if err := r.allow(ctx, caller, identity.IncidentRead, "list", ""); err != nil {
		return nil, "", err
	}
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	if err := f.check(); err != nil {
		return nil, "", err
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		list, next = nil, ""
		s, err := sightOf(tx, caller)
		if err != nil {
			return err
		}
		if may, err := s.may(tx, Link{Kind: f.Touches, ID: f.TouchesID}); err != nil {
			return err
		} else if f.TouchesID != "" && !may {
			return nil
		}
		list, next, err = f.page(tx, s)
		return err
	})
	return list, next, err
}

// page reads the incidents of a page as the caller sees them. One that is found by a name that is not told was not found: it takes no place in a page, is not skipped, and no cursor tells
// of it, unless there are very many of them.
func (f Filter) page(tx *store.Tx, s sees) (list []Incident, next string, err error) {
	size, skip, offset := f.Limit+1, 0, f.Skip
	if s.train != nil && f.Q != "" {
		size, skip, offset = max(size, defaultPage), f.Skip, 0
	}
	for looked := 0; ; {
		w := f.where()
		var rows []record
		if err := tx.Select(&rows, `SELECT `+columns+` FROM incidents i`+w.SQL()+` ORDER BY i.id DESC LIMIT `+w.Arg(size)+` OFFSET `+w.Arg(offset), w.Args()...); err != nil {
			return nil, "", err
		}
		part := make([]Incident, len(rows))
		for n, row := range rows {
			part[n] = row.incident()
		}
		if err := fillLinks(tx, part); err != nil {
			return nil, "", err
		}
		names, err := s.narrow(tx, part)
		if err != nil {
			return nil, "", err
		}
		for n, i := range part {
			switch {
			case names[n] != nil && !f.finds(i):
			case skip > 0:
				skip--
			case len(list) == f.Limit:
				return list, list[f.Limit-1].ID, nil
			default:
				list = append(list, i)
			}
		}
		if len(rows) < size {
			return list, "", nil
		}
		f.Cursor = rows[len(rows)-1].ID
		if looked += len(rows); looked >= looksAt {
			return list, f.Cursor, nil
		}
	}
}

// looksAt bounds how many incidents a page of a search looks at, where some of them may not be told.
const looksAt = 20 * maxPage

func (f Filter) where() *store.Where {
	w := &store.Where{}
	if f.Status != "" {
		w.Add(`i.status = ?`, string(f.Status))
	}
	if f.Open {
		w.Add(`i.status <> ?`, string(Resolved))
	}
	if f.Type != "" {
		w.Add(`i.incident_type = ?`, string(f.Type))
	}
	if f.Severity != "" {
		w.Add(`i.severity = ?`, string(f.Severity))
	}
	if f.TouchesID != "" {
		w.Add(`i.id IN (SELECT l.incident_id FROM incident_links l WHERE l.target_id = ? AND l.kind = ?)`, f.TouchesID, string(f.Touches))
	}
	for _, word := range strings.Fields(f.Q) {
		w.Add(`i.search LIKE ? ESCAPE '\'`, store.Like(strings.ToLower(word)))
	}
	if f.Cursor != "" {
		w.Add(`i.id < ?`, f.Cursor)
	}
	return w
}

func (f Filter) check() error {
	var p problems
	if f.Limit < 1 || f.Limit > maxPage {
		p.add("/limit", "must be from 1 to 1000")
	}
	if f.Skip < 0 {
		p.add("/skip", "must not be negative")
	}
	if f.Status != "" && !slices.Contains(Statuses(), f.Status) {
		p.add("/status", "is no status of an incident")
	}
	if f.Type != "" && !f.Type.known() {
		p.add("/incident_type", "is no type of incident")
	}
	if f.Severity != "" && !slices.Contains(Severities(), f.Severity) {
		p.add("/severity", "is no severity")
	}
	if f.TouchesID != "" && (!slices.Contains(LinkKinds(), f.Touches) || text(f.TouchesID, maxTitle, false) != "") {
		p.add("/touches", "is nothing that an incident can touch")
	}
	p.add("/q", text(strings.TrimSpace(f.Q), maxTitle, false))
	if f.Cursor != "" && !store.ValidID(idPrefix, f.Cursor) {
		p.add("/cursor", "is not a cursor of this list")
	}
	return p.listErr("The incidents cannot be listed like this. Correct the filters that are named and try again.")
}

// Timeline returns the entries of an incident, the oldest first, and the cursor of the next page, empty at the end. It needs incidents:read.
func (r *Room) Timeline(ctx context.Context, caller identity.Caller, id string, limit int, cursor string) (entries []Entry, next string, err error) {
	if err := r.allow(ctx, caller, identity.IncidentRead, "timeline", id); err != nil {
		return nil, "", err
	}
	if limit == 0 {
		limit = defaultPage
	}
	var p problems
	if limit < 1 || limit > maxPage {
		p.add("/limit", "must be from 1 to 1000")
	}
	if cursor != "" && !store.ValidID("tle", cursor) {
		p.add("/cursor", "is not a cursor of this list")
	}
	if err := p.listErr("The timeline cannot be listed like this. Correct what is named and try again."); err != nil {
		return nil, "", err
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		entries, next = nil, ""
		i, err := load(tx, id, "")
		if err != nil {
			return err
		}
		s, err := sightOf(tx, caller)
		if err != nil {
			return err
		}
		_, names, err := s.one(tx, i)
		if err != nil {
			return err
		}
		var rows []entryRecord
		if err := tx.Select(&rows, `SELECT id, at, kind, actor_kind, actor_id, actor_name, text, details FROM incident_timeline WHERE incident_id = $1 AND id > $2 ORDER BY id LIMIT $3`, id, cursor, limit+1); err != nil {
			return err
		}
		if len(rows) > limit {
			rows = rows[:limit]
			next = rows[limit-1].ID
		}
		for _, row := range rows {
			e, err := row.entry()
			if err != nil {
				return err
			}
			e.Text, e.Actor.Name = without(e.Text, names), without(e.Actor.Name, names)
			entries = append(entries, e)
		}
		return s.timeline(tx, entries, names)
	})
	return entries, next, err
}

// Counts returns how many incidents are in each status. It needs incidents:read.
func (r *Room) Counts(ctx context.Context, caller identity.Caller) (map[Status]int, error) {
	if err := r.allow(ctx, caller, identity.IncidentRead, "list", ""); err != nil {
		return nil, err
	}
	out := map[Status]int{}
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		clear(out)
		var rows []struct {
			Status string `db:"status"`
			N      int    `db:"n"`
		}
		if err := tx.Select(&rows, `SELECT status, COUNT(*) AS n FROM incidents GROUP BY status`); err != nil {
			return err
		}
		for _, row := range rows {
			out[Status(row.Status)] = row.N
		}
		return nil
	})
	return out, err
}
