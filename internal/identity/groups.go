package identity

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// Group is a group of people, to whom something can be granted together.
type Group struct {
	ID          string
	Name        string // unique, in upper or lower case
	Description string
	Members     int
	CreatedAt   time.Time
	UpdatedAt   time.Time // of the name or the description
}

// Target returns the group as audit records name it.
func (g Group) Target() store.Target { return store.Target{Kind: "group", ID: g.ID, Name: g.Name} }

// ETag is the validator of this state of the group (RFC 9110, section 8.8.3), the number of its members included.
func (g Group) ETag() string {
	return etag.Of(g.ID, g.Name, g.Description, strconv.Itoa(g.Members), g.UpdatedAt.Format(store.TimeFormat))
}

// GroupDraft is a group to be made.
type GroupDraft struct{ Name, Description string }

// GroupPatch changes a group; nil leaves a setting as it is.
type GroupPatch struct {
	Name, Description *string
	// IfMatch, when it is not empty, is the If-Match header that the group's ETag must satisfy.
	IfMatch string
}

// NameFilter narrows a list of things that have a name.
type NameFilter struct {
	Q      string // part of the name, in any case
	Limit  int    // 0: 100; at most 1000
	Cursor string // what the page before gave as next
	Skip   int
}

const groupColumns = `g.id, g.name, g.description, g.created_at, g.updated_at, (SELECT COUNT(*) FROM group_members m WHERE m.group_id = g.id) AS members`

type groupRow struct {
	ID          string     `db:"id"`
	Name        string     `db:"name"`
	Description string     `db:"description"`
	CreatedAt   store.Time `db:"created_at"`
	UpdatedAt   store.Time `db:"updated_at"`
	Members     int        `db:"members"`
}

func (g groupRow) group() Group {
	return Group{ID: g.ID, Name: g.Name, Description: g.Description, Members: g.Members, CreatedAt: g.CreatedAt.Time(), UpdatedAt: g.UpdatedAt.Time()}
}

// CreateGroup makes a group. It needs [GroupWrite]; a taken name is "already_exists".
func (r *Room) CreateGroup(ctx context.Context, caller Caller, d GroupDraft) (Group, error) {
	if err := r.allow(ctx, caller, GroupWrite, store.Target{Kind: "group"}); err != nil {
		return Group{}, err
	}
	var p problems
	g := Group{Name: p.name("/name", d.Name), Description: p.description("/description", d.Description)}
	if err := p.result(); err != nil {
		return Group{}, err
	}
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		g.ID, g.CreatedAt, g.UpdatedAt = store.NewID("grp"), tx.Now(), tx.Now()
		now := store.TimeOf(tx.Now())
		if _, err := tx.Exec(`INSERT INTO user_groups (id, name, folded, description, created_at, updated_at) VALUES ($1,$2,$3,$4,$5,$6)`,
			g.ID, g.Name, strings.ToLower(g.Name), g.Description, now, now); err != nil {
			return err
		}
		return tx.Record(caller.Event(store.GroupCreate, g.Target()))
	})
	if err != nil {
		return Group{}, groupFault(err)
	}
	return g, nil
}

// Group returns one group. It needs [GroupRead].
func (r *Room) Group(ctx context.Context, caller Caller, id string) (Group, error) {
	if err := Allow(caller, GroupRead); err != nil {
		return Group{}, err
	}
	var g Group
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		g, err = findGroup(tx, id, "")
		return err
	})
	return g, err
}

// ListGroups returns groups, the oldest first, and the cursor of the next page (empty at the end). It needs [GroupRead].
func (r *Room) ListGroups(ctx context.Context, caller Caller, f NameFilter) (groups []Group, next string, err error) {
	if err := Allow(caller, GroupRead); err != nil {
		return nil, "", err
	}
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		var rows []groupRow
		size, err := f.page(tx, &rows, `SELECT `+groupColumns+` FROM user_groups g`, "grp", "g.", nil)
		if err != nil {
			return err
		}
		groups, next = make([]Group, 0, len(rows)), ""
		if len(rows) > size {
			rows = rows[:size]
			next = rows[size-1].ID
		}
		for _, row := range rows {
			groups = append(groups, row.group())
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return groups, next, nil
}

// checkQ refuses a text that is longer than any that could be found: each row would be held against it.
func checkQ(q string) error {
	if utf8.RuneCountInString(q) > 200 {
		return fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With("/q", "must be at most 200 characters")
	}
	return nil
}

// page selects one row more than a page has, of a table with the columns id and folded, and returns the page's size.
func (f NameFilter) page(tx *store.Tx, rows any, query, prefix, alias string, narrow func(*store.Where)) (int, error) {
	if err := checkQ(f.Q); err != nil {
		return 0, err
	}
	var w store.Where
	if narrow != nil {
		narrow(&w)
	}
	if f.Q != "" {
		w.Add(alias+`folded LIKE ? ESCAPE '\'`, store.Like(strings.ToLower(f.Q)))
	}
	if f.Cursor != "" {
		if !store.ValidID(prefix, f.Cursor) {
			return 0, fault.New(fault.Unprocessable, "validation_failed", "The cursor is not one that this list returned. Begin the list again without a cursor.").
				With("/cursor", "is not a cursor of this list")
		}
		w.Add(alias+`id > ?`, f.Cursor)
	}
	size := pageSize(f.Limit)
	return size, tx.Select(rows, query+w.SQL()+` ORDER BY `+alias+`id LIMIT `+w.Arg(size+1)+` OFFSET `+w.Arg(max(f.Skip, 0)), w.Args()...)
}

// UpdateGroup changes a group's name or description. It needs [GroupWrite].
func (r *Room) UpdateGroup(ctx context.Context, caller Caller, id string, p GroupPatch) (Group, error) {
	if err := r.allow(ctx, caller, GroupWrite, knownTarget("group", "grp", id)); err != nil {
		return Group{}, err
	}
	var g Group
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) (err error) {
		if g, err = findGroup(tx, id, tx.ForUpdate()); err != nil {
			return err
		}
		if err := changedSince("group", p.IfMatch, g.ETag()); err != nil {
			return err
		}
		var bad problems
		var fields []string
		if p.Name != nil && *p.Name != g.Name {
			g.Name, fields = bad.name("/name", *p.Name), append(fields, "name")
		}
		if p.Description != nil && *p.Description != g.Description {
			g.Description, fields = bad.description("/description", *p.Description), append(fields, "description")
		}
		if err := bad.result(); err != nil {
			return err
		}
		if len(fields) > 0 {
			g.UpdatedAt = tx.Now()
		}
		if _, err := tx.Exec(`UPDATE user_groups SET name = $1, folded = $2, description = $3, updated_at = $4 WHERE id = $5`,
			g.Name, strings.ToLower(g.Name), g.Description, store.TimeOf(g.UpdatedAt), g.ID); err != nil {
			return err
		}
		ev := caller.Event(store.GroupUpdate, g.Target())
		ev.Fields = fields
		return tx.Record(ev)
	})
	if err != nil {
		return Group{}, groupFault(err)
	}
	return g, nil
}

// DeleteGroup deletes a group; what was granted to it goes with it, and so do the client keys that its people made on trains to which it was their only way (lostkeys.go). It needs [GroupWrite], and what [Room.onGroup] asks for besides.
func (r *Room) DeleteGroup(ctx context.Context, caller Caller, id, ifMatch string) error {
	if err := r.allow(ctx, caller, GroupWrite, knownTarget("group", "grp", id)); err != nil {
		return err
	}
	return r.onGroup(ctx, caller, id, func(tx *store.Tx, g Group) error {
		if err := changedSince("group", ifMatch, g.ETag()); err != nil {
			return err
		}
		endKeys, err := r.endKeysOfGroup(tx, caller, g.ID)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM user_groups WHERE id = $1`, g.ID); err != nil {
			return err
		}
		ended, err := endKeys()
		if err != nil {
			return err
		}
		ev := caller.Event(store.GroupDelete, g.Target())
		ev.Details = append(store.Details{store.Int("members", int64(g.Members))}, keysEnded(ended)...)
		return tx.Record(ev)
	})
}

// findGroup returns a group by id; lock is the clause of the transaction that locks its row, or "".
func findGroup(tx *store.Tx, id, lock string) (Group, error) {
	if !store.ValidID("grp", id) {
		return Group{}, noGroup()
	}
	if lock != "" { // the row itself: a lock beside a count is not possible
		var one string
		if err := tx.Get(&one, `SELECT id FROM user_groups WHERE id = $1`+lock, id); errors.Is(err, store.ErrNotFound) {
			return Group{}, noGroup()
		} else if err != nil {
			return Group{}, err
		}
	}
	var row groupRow
	err := tx.Get(&row, `SELECT `+groupColumns+` FROM user_groups g WHERE g.id = $1`, id)
	if errors.Is(err, store.ErrNotFound) {
		return Group{}, noGroup()
	}
	return row.group(), err
}

func noGroup() error {
	return fault.New(fault.NotFound, "not_found", "There is no such group. `signalbox group list` shows those that there are.")
}

func groupFault(err error) error {
	if store.IsConflict(err) {
		return fault.New(fault.Conflict, "already_exists", "There is a group with this name already. Choose another, or use the group that is there.").With("/name", "is taken")
	}
	return err
}

// changedSince returns the fault "etag_mismatch" when the caller has seen another state.
func changedSince(what, ifMatch, current string) error {
	if etag.Match(ifMatch, current) {
		return nil
	}
	return fault.New(fault.Precondition, "etag_mismatch", "The "+what+" was changed since it was read. Read it again, then repeat the change.")
}

// knownTarget is the target of a refused act; what is no id is not repeated.
func knownTarget(kind, prefix, id string) store.Target {
	if !store.ValidID(prefix, id) {
		id = ""
	}
	return store.Target{Kind: kind, ID: id}
}
