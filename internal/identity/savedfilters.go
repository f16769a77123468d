package identity

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/stray"
)

// SavedFilter is the filter of a list that a person keeps under a name. It is theirs alone: nobody else lists, changes or deletes it.
type SavedFilter struct {
	ID string
	// List says of which list it is, by the word that its address begins with: "credentials".
	List string
	Name string // unique among the person's filters of that list, in upper or lower case
	// Query is the filter, as the list's address has it after the question mark, in the order of its names.
	Query     string
	CreatedAt time.Time
	UpdatedAt time.Time // of the name
}

// Target returns the filter as audit records name it. What it looks for is not on record.
func (f SavedFilter) Target() store.Target {
	return store.Target{Kind: "saved_filter", ID: f.ID, Name: f.Name}
}

const (
	// MaxSavedFilters is how many filters a person may keep, of all lists together.
	MaxSavedFilters = 50
	maxFilterQuery  = 2000 // bytes
	maxFilterList   = 40   // bytes
	filterPrefix    = "flt"
)

const filterColumns = `id, list, name, query, created_at, updated_at`

type filterRow struct {
	ID        string     `db:"id"`
	List      string     `db:"list"`
	Name      string     `db:"name"`
	Query     string     `db:"query"`
	CreatedAt store.Time `db:"created_at"`
	UpdatedAt store.Time `db:"updated_at"`
}

func (f filterRow) filter() SavedFilter {
	return SavedFilter{ID: f.ID, List: f.List, Name: f.Name, Query: f.Query, CreatedAt: f.CreatedAt.Time(), UpdatedAt: f.UpdatedAt.Time()}
}

// SaveFilter keeps a filter of a list under a name. It needs [ProfileWrite] and a person. A name that the person has for that list already is
// "already_exists"; more than [MaxSavedFilters] are a conflict; what looks like a
// secret is refused, because filters are kept as they are.
func (r *Room) SaveFilter(ctx context.Context, caller Caller, list, name string, query url.Values) (SavedFilter, error) {
	if err := r.allowOwnFilter(ctx, caller, ""); err != nil {
		return SavedFilter{}, err
	}
	var p problems
	f := SavedFilter{List: list, Name: p.name("/name", name), Query: query.Encode()}
	if list == "" || len(list) > maxFilterList || strings.ContainsFunc(list, func(c rune) bool { return (c < 'a' || c > 'z') && c != '-' }) {
		p.add("/list", "must be the name of a list")
	}
	switch {
	case f.Query == "":
		p.add("/query", "must narrow the list")
	case len(f.Query) > maxFilterQuery:
		p.add("/query", "must have at most "+strconv.Itoa(maxFilterQuery)+" bytes")
	}
	for _, texts := range query {
		for _, text := range texts {
			switch {
			case !plain(text):
				p.add("/query", "must be text")
			case holdsSecret(text):
				p.add("/query", "must hold no token and no key: what is saved is readable in the database")
			}
		}
	}
	if holdsSecret(f.Name) {
		p.add("/name", "must hold no token and no key")
	}
	if err := p.result(); err != nil {
		return SavedFilter{}, err
	}
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if _, err := lockUser(tx, caller.UserID); err != nil { // two at once are counted one after the other
			return err
		}
		var have int
		if err := tx.Get(&have, `SELECT COUNT(*) FROM saved_filters WHERE user_id = $1`, caller.UserID); err != nil {
			return err
		}
		if have >= MaxSavedFilters {
			return fault.New(fault.Conflict, "state_conflict", "You keep "+strconv.Itoa(MaxSavedFilters)+" filters already, which is all there is room for. Delete one that you do not need any more.")
		}
		f.ID, f.CreatedAt, f.UpdatedAt = store.NewID(filterPrefix), tx.Now(), tx.Now()
		now := store.TimeOf(tx.Now())
		if _, err := tx.Exec(`INSERT INTO saved_filters (id, user_id, list, name, folded, query, created_at, updated_at) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)`,
			f.ID, caller.UserID, f.List, f.Name, strings.ToLower(f.Name), f.Query, now, now); err != nil {
			return err
		}
		ev := caller.Event(store.FilterSave, f.Target())
		ev.Details = store.Details{store.Str("list", f.List)}
		return tx.Record(ev)
	})
	return f, filterFault(err)
}

// SavedFilters returns the caller's own filters, in the order of their lists and names; list, when it is not empty, narrows them to one list. A caller
// that is no person has none.
func (r *Room) SavedFilters(ctx context.Context, caller Caller, list string) ([]SavedFilter, error) {
	if err := Allow(caller, ProfileRead); err != nil || caller.UserID == "" {
		return nil, err
	}
	var out []SavedFilter
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		var w store.Where
		w.Add("user_id = ?", caller.UserID)
		if list != "" {
			w.Add("list = ?", list)
		}
		var rows []filterRow
		if err := tx.Select(&rows, `SELECT `+filterColumns+` FROM saved_filters`+w.SQL()+` ORDER BY list, folded`, w.Args()...); err != nil {
			return err
		}
		out = make([]SavedFilter, len(rows))
		for i, row := range rows {
			out[i] = row.filter()
		}
		return nil
	})
	return out, err
}

// SavedFilter returns one of the caller's own filters.
func (r *Room) SavedFilter(ctx context.Context, caller Caller, id string) (SavedFilter, error) {
	if err := Allow(caller, ProfileRead); err != nil {
		return SavedFilter{}, err
	}
	var f SavedFilter
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		f, err = findFilter(tx, caller, id, "")
		return err
	})
	return f, err
}

// RenameFilter gives one of the caller's own filters another name. It needs [ProfileWrite].
func (r *Room) RenameFilter(ctx context.Context, caller Caller, id, name string) (SavedFilter, error) {
	if err := r.allowOwnFilter(ctx, caller, id); err != nil {
		return SavedFilter{}, err
	}
	var p problems
	name = p.name("/name", name)
	if holdsSecret(name) {
		p.add("/name", "must hold no token and no key")
	}
	if err := p.result(); err != nil {
		return SavedFilter{}, err
	}
	var f SavedFilter
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) (err error) {
		if f, err = findFilter(tx, caller, id, tx.ForUpdate()); err != nil {
			return err
		}
		f.Name, f.UpdatedAt = name, tx.Now()
		if _, err := tx.Exec(`UPDATE saved_filters SET name = $1, folded = $2, updated_at = $3 WHERE id = $4`, f.Name, strings.ToLower(f.Name), store.TimeOf(f.UpdatedAt), f.ID); err != nil {
			return err
		}
		return tx.Record(caller.Event(store.FilterRename, f.Target()))
	})
	return f, filterFault(err)
}

// DeleteFilter deletes one of the caller's own filters. It needs [ProfileWrite].
func (r *Room) DeleteFilter(ctx context.Context, caller Caller, id string) error {
	if err := r.allowOwnFilter(ctx, caller, id); err != nil {
		return err
	}
	return r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		f, err := findFilter(tx, caller, id, tx.ForUpdate())
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM saved_filters WHERE id = $1`, f.ID); err != nil {
			return err
		}
		return tx.Record(caller.Event(store.FilterDelete, f.Target()))
	})
}

// allowOwnFilter refuses whoever is no person, and whoever may not change what is theirs.
func (r *Room) allowOwnFilter(ctx context.Context, caller Caller, id string) error {
	if err := r.allow(ctx, caller, ProfileWrite, knownTarget("saved_filter", filterPrefix, id)); err != nil {
		return err
	}
	if caller.UserID == "" {
		return noPerson()
	}
	return nil
}

// findFilter returns a filter of the caller's; another person's is not there.
func findFilter(tx *store.Tx, caller Caller, id, lock string) (SavedFilter, error) {
	missing := fault.New(fault.NotFound, "not_found", "You keep no such filter.")
	if !store.ValidID(filterPrefix, id) || caller.UserID == "" {
		return SavedFilter{}, missing
	}
	var row filterRow
	err := tx.Get(&row, `SELECT `+filterColumns+` FROM saved_filters WHERE id = $1 AND user_id = $2`+lock, id, caller.UserID)
	if errors.Is(err, store.ErrNotFound) {
		return SavedFilter{}, missing
	}
	return row.filter(), err
}

// holdsSecret reports whether a text holds a bearer secret of ours, or another's of a known form: somebody may have pasted one into a search.
func holdsSecret(text string) bool {
	for _, prefix := range []string{tokenPrefix, ClientKeyPrefix, setupPrefix} {
		if at := strings.Index(text, prefix); at >= 0 && len(text)-at > len(prefix)+randomLen/2 {
			return true
		}
	}
	return len(stray.Find("q="+text)) > 0
}

func filterFault(err error) error {
	if store.IsConflict(err) {
		return fault.New(fault.Conflict, "already_exists", "You keep a filter of this list under this name already. Choose another name, or delete that one.").With("/name", "is taken")
	}
	return err
}
