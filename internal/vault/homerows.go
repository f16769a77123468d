package vault

import (
	"errors"
	"strings"

	"signalbox.dev/signalbox/internal/store"
)

// homeRecord is a home as it lies in the database.
type homeRecord struct {
	ID          string     `db:"id"`
	Name        string     `db:"name"`
	Description string     `db:"description"`
	Contact     string     `db:"contact"`
	ClientID    string     `db:"client_id"`
	URL         string     `db:"url"`
	Sort        string     `db:"kind"`
	Address     string     `db:"address"`
	Revision    int64      `db:"revision"`
	CreatedAt   store.Time `db:"created_at"`
	UpdatedAt   store.Time `db:"updated_at"`
}

func (w homeRecord) home(kind HomeKind) Home {
	return Home{Kind: kind, ID: w.ID, Revision: w.Revision, CreatedAt: w.CreatedAt.Time(), UpdatedAt: w.UpdatedAt.Time(),
		HomeMeta: HomeMeta{Name: w.Name, Description: w.Description, Contact: w.Contact, ClientID: w.ClientID, URL: w.URL, Sort: w.Sort, Address: w.Address}}
}

// selectHome is the beginning of the statement for homes h of a kind.
func (r homeRow) selectHome() string {
	columns := []string{"h.id", "h.revision", "h.created_at", "h.updated_at"}
	for _, t := range r.texts(&HomeMeta{}) {
		if t.column == "client_id" {
			columns = append(columns, `COALESCE(h.client_id, '') AS client_id`)
			continue
		}
		columns = append(columns, "h."+t.column)
	}
	return `SELECT ` + strings.Join(columns, ", ") + ` FROM ` + r.table + ` h`
}

// written are the columns that an act may change.
func (h Home) written(r homeRow) []column {
	out := []column{{"search", r.search(h.HomeMeta)}, {"revision", h.Revision}, {"updated_at", store.TimeOf(h.UpdatedAt)}}
	for _, t := range r.texts(&h.HomeMeta) {
		if t.column == "client_id" && *t.value == "" {
			out = append(out, column{t.column, nil})
			continue
		}
		out = append(out, column{t.column, *t.value})
	}
	return out
}

func (h Home) insert(tx *store.Tx, r homeRow) error {
	cols := append(h.written(r), column{"id", h.ID}, column{"created_at", store.TimeOf(h.CreatedAt)})
	var names, places []string
	var args []any
	for i, c := range cols {
		names, places, args = append(names, c.name), append(places, "$"+number(i+1)), append(args, c.value)
	}
	_, err := tx.Exec(`INSERT INTO `+r.table+` (`+strings.Join(names, ", ")+`) VALUES (`+strings.Join(places, ", ")+`)`, args...)
	return err
}

func (h Home) update(tx *store.Tx, r homeRow) error {
	var sets []string
	var args []any
	for i, c := range h.written(r) {
		sets, args = append(sets, c.name+" = $"+number(i+1)), append(args, c.value)
	}
	args = append(args, h.ID)
	_, err := tx.Exec(`UPDATE `+r.table+` SET `+strings.Join(sets, ", ")+` WHERE id = $`+number(len(args)), args...)
	return err
}

// loadHome reads one home that the parties see; nil parties see every one. Who may not see it is told what they are told of one that does not
// exist, after the same statement.
func loadHome(tx *store.Tx, r homeRow, id string, all bool, parties []string) (Home, error) {
	if id == "" || textProblem(id, 100, false) != "" {
		return Home{}, r.notFound()
	}
	var w store.Where
	w.Add(`h.id = ?`, id)
	if !all {
		r.seenBy(&w, parties)
	}
	var row homeRecord
	err := tx.Get(&row, r.selectHome()+w.SQL(), w.Args()...)
	if errors.Is(err, store.ErrNotFound) {
		return Home{}, r.notFound()
	}
	if err != nil {
		return Home{}, err
	}
	homes := []Home{row.home(r.kind)}
	if !all {
		err = veil(tx, homes, parties)
	}
	return homes[0], err
}

// seenBy adds the condition that a home h is one that the parties see: a credential that they see names it, or something was granted to them on it.
func (r homeRow) seenBy(w *store.Where, parties []string) {
	if len(parties) == 0 {
		w.Add(`1 = 0`)
		return
	}
	in, who := marks(len(parties)), anys(parties)
	args := append(append(append([]any{}, who...), who...), who...)
	cond := `h.id IN (SELECT k.` + r.column + ` FROM credentials k JOIN (SELECT g.scope_id AS id FROM grants g WHERE g.scope = 'credential' AND g.grantee_id IN (` + in + `)
		UNION SELECT k.id FROM grants g CROSS JOIN credentials k WHERE k.client_id = g.scope_id AND k.client_id <> '' AND g.scope = 'client' AND g.grantee_id IN (` + in + `)
		UNION SELECT k.id FROM grants g CROSS JOIN credentials k WHERE k.service_id = g.scope_id AND k.service_id <> '' AND g.scope = 'service' AND g.grantee_id IN (` + in + `)) seen ON seen.id = k.id`
	if r.kind != HomeInfrastructure { // on which nothing is granted
		cond += ` UNION SELECT g.scope_id FROM grants g WHERE g.scope = '` + string(r.kind) + `' AND g.grantee_id IN (` + in + `)`
		args = append(args, who...)
	}
	w.Add(cond+`)`, args...)
}

// veil leaves out the clients that the parties do not see: that a service which they see is somebody's would tell whose.
func veil(tx *store.Tx, homes []Home, parties []string) error {
	var ids []string
	for _, h := range homes {
		if h.ClientID != "" {
			ids = append(ids, h.ClientID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	seen, err := seenOf(tx, HomeClient, ids, parties)
	if err != nil {
		return err
	}
	for i := range homes {
		if id := homes[i].ClientID; id != "" && !seen[id] {
			homes[i].ClientID, homes[i].partial = "", true
		}
	}
	return nil
}

// seenOf returns which of the ids are homes of a kind that the parties see.
func seenOf(tx *store.Tx, kind HomeKind, ids, parties []string) (map[string]bool, error) {
	r, err := lookupHome(kind)
	if err != nil {
		return nil, err
	}
	var w store.Where
	w.Add(`h.id IN (`+marks(len(ids))+`)`, anys(ids)...)
	r.seenBy(&w, parties)
	var found []string
	if err := tx.Select(&found, `SELECT h.id FROM `+r.table+` h`+w.SQL(), w.Args()...); err != nil {
		return nil, err
	}
	out := make(map[string]bool, len(found))
	for _, id := range found {
		out[id] = true
	}
	return out, nil
}

// exists reports whether there is a home of that id.
func (r homeRow) exists(tx *store.Tx, id string) (bool, error) {
	var n int64
	err := tx.Get(&n, `SELECT COUNT(*) FROM `+r.table+` WHERE id = $1`, id)
	return n > 0, err
}
