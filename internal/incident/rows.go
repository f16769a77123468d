package incident

import (
	"encoding/json"
	"errors"
	"strings"

	"signalbox.dev/signalbox/internal/store"
)

const columns = `i.id, i.title, i.incident_type, i.severity, i.status, i.description, i.findings, i.remediation, COALESCE(i.dedup, '') AS dedup, i.repeats, i.last_seen_at, i.incident_at,
	i.resolved_at, i.revision, i.created_at, i.updated_at`

type record struct {
	ID          string      `db:"id"`
	Title       string      `db:"title"`
	Type        string      `db:"incident_type"`
	Severity    string      `db:"severity"`
	Status      string      `db:"status"`
	Description string      `db:"description"`
	Findings    string      `db:"findings"`
	Remediation string      `db:"remediation"`
	Dedup       string      `db:"dedup"`
	Repeats     int64       `db:"repeats"`
	LastSeenAt  *store.Time `db:"last_seen_at"`
	IncidentAt  store.Time  `db:"incident_at"`
	ResolvedAt  *store.Time `db:"resolved_at"`
	Revision    int64       `db:"revision"`
	CreatedAt   store.Time  `db:"created_at"`
	UpdatedAt   store.Time  `db:"updated_at"`
}

func (w record) incident() Incident {
	detector, subject, _ := strings.Cut(w.Dedup, " ")
	return Incident{
		ID: w.ID, Status: Status(w.Status), ResolvedAt: w.ResolvedAt.Ptr(), Detector: detector, Subject: subject, Repeats: w.Repeats, LastSeenAt: w.LastSeenAt.Ptr(),
		Revision: w.Revision, CreatedAt: w.CreatedAt.Time(), UpdatedAt: w.UpdatedAt.Time(),
		Meta: Meta{Title: w.Title, Type: Type(w.Type), Severity: Severity(w.Severity), Description: w.Description, Findings: w.Findings, Remediation: w.Remediation, IncidentDate: w.IncidentAt.Time()},
	}
}

// insert stores a new incident.
func (i Incident) insert(tx *store.Tx) error {
	var dedup *string
	if i.Detector != "" {
		key := i.Detector + " " + i.Subject
		dedup = &key
	}
	_, err := tx.Exec(`INSERT INTO incidents (id, title, incident_type, severity, status, description, findings, remediation, search, dedup, repeats, last_seen_at, incident_at, resolved_at, revision, created_at, updated_at)
		VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17)`,
		i.ID, i.Title, string(i.Type), string(i.Severity), string(i.Status), i.Description, i.Findings, i.Remediation, strings.ToLower(i.Title), dedup, i.Repeats, store.TimePtr(i.LastSeenAt),
		store.TimeOf(i.IncidentDate), store.TimePtr(i.ResolvedAt), i.Revision, store.TimeOf(i.CreatedAt), store.TimeOf(i.UpdatedAt))
	if err != nil {
		return err
	}
	return i.relink(tx)
}

// update stores what an act changed, but for the links.
func (i Incident) update(tx *store.Tx) error {
	_, err := tx.Exec(`UPDATE incidents SET title = $1, incident_type = $2, severity = $3, status = $4, description = $5, findings = $6, remediation = $7, search = $8, repeats = $9, last_seen_at = $10,
		incident_at = $11, resolved_at = $12, revision = $13, updated_at = $14 WHERE id = $15`,
		i.Title, string(i.Type), string(i.Severity), string(i.Status), i.Description, i.Findings, i.Remediation, strings.ToLower(i.Title), i.Repeats, store.TimePtr(i.LastSeenAt),
		store.TimeOf(i.IncidentDate), store.TimePtr(i.ResolvedAt), i.Revision, store.TimeOf(i.UpdatedAt), i.ID)
	return err
}

// relink stores the links in the place of those that were there.
func (i Incident) relink(tx *store.Tx) error {
	if _, err := tx.Exec(`DELETE FROM incident_links WHERE incident_id = $1`, i.ID); err != nil {
		return err
	}
	var args []any
	for _, l := range i.Links {
		args = append(args, i.ID, string(l.Kind), l.ID, l.Name)
	}
	return tx.InsertMany("incident_links (incident_id, kind, target_id, name)", 4, args)
}

// load reads one incident; clause may lock it.
func load(tx *store.Tx, id, clause string) (Incident, error) {
	if !store.ValidID(idPrefix, id) {
		return Incident{}, noIncident()
	}
	var row record
	err := tx.Get(&row, `SELECT `+columns+` FROM incidents i WHERE i.id = $1`+clause, id)
	if errors.Is(err, store.ErrNotFound) {
		return Incident{}, noIncident()
	}
	if err != nil {
		return Incident{}, err
	}
	list := []Incident{row.incident()}
	return list[0], fillLinks(tx, list)
}

// fillLinks reads the links of incidents.
func fillLinks(tx *store.Tx, list []Incident) error {
	if len(list) == 0 {
		return nil
	}
	at := make(map[string]int, len(list))
	var w store.Where
	marks := make([]string, len(list))
	ids := make([]any, len(list))
	for n, i := range list {
		at[i.ID], marks[n], ids[n] = n, "?", i.ID
	}
	w.Add(`incident_id IN (`+strings.Join(marks, ",")+`)`, ids...)
	var rows []struct {
		Incident string `db:"incident_id"`
		Kind     string `db:"kind"`
		ID       string `db:"target_id"`
		Name     string `db:"name"`
	}
	if err := tx.Select(&rows, `SELECT incident_id, kind, target_id, name FROM incident_links`+w.SQL()+` ORDER BY incident_id, kind, target_id`, w.Args()...); err != nil {
		return err
	}
	for _, row := range rows {
		i := &list[at[row.Incident]]
		i.Links = append(i.Links, Link{Kind: LinkKind(row.Kind), ID: row.ID, Name: row.Name})
	}
	return nil
}

// enter adds an entry to the timeline.
func enter(tx *store.Tx, id string, kind EntryKind, actor store.Actor, note string, details store.Details) (Entry, error) {
	e := Entry{ID: store.NewID("tle"), At: tx.Now(), Kind: kind, Actor: actor, Text: note, Details: details}
	body, err := details.MarshalJSON()
	if err != nil {
		return Entry{}, err
	}
	_, err = tx.Exec(`INSERT INTO incident_timeline (id, incident_id, at, kind, actor_kind, actor_id, actor_name, text, details) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9)`,
		e.ID, id, store.TimeOf(e.At), string(kind), actor.Kind, actor.ID, actor.Name, note, string(body))
	return e, err
}

type entryRecord struct {
	ID        string     `db:"id"`
	At        store.Time `db:"at"`
	Kind      string     `db:"kind"`
	ActorKind string     `db:"actor_kind"`
	ActorID   string     `db:"actor_id"`
	ActorName string     `db:"actor_name"`
	Text      string     `db:"text"`
	Details   string     `db:"details"`
}

func (w entryRecord) entry() (Entry, error) {
	e := Entry{ID: w.ID, At: w.At.Time(), Kind: EntryKind(w.Kind), Actor: store.Actor{Kind: w.ActorKind, ID: w.ActorID, Name: w.ActorName}, Text: w.Text}
	return e, json.Unmarshal([]byte(w.Details), &e.Details)
}
