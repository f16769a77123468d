package vault

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// Get returns a credential's metadata with its notes, and records that it was read. It says when the credential was changed outside
// Signalbox, and so does the record.
func (r *Room) Get(ctx context.Context, caller identity.Caller, id string) (Credential, error) {
	var s stored
	var notes struct {
		Sealed  []byte `db:"notes"`
		Version int64  `db:"notes_version"`
	}
	err := r.act(ctx, caller, identity.CredentialRead, toSee, "view", id, func(tx *store.Tx, _ verbs) error {
		var err error
		if s, err = load(tx, id, false); err != nil {
			return err
		}
		// The notes are read with their version, in one statement: they may be changed at this moment.
		if err := tx.Get(&notes, `SELECT notes, notes_version FROM credentials WHERE id = $1`, id); errors.Is(err, store.ErrNotFound) {
			return notFound()
		} else if err != nil {
			return err
		}
		ok, err := r.intact(s)
		if err != nil {
			return err
		}
		ev := caller.Event(store.CredentialView, s.target())
		if s.Tampered = !ok; s.Tampered {
			ev.Details = store.Details{store.Bool("tampered", true)}
		}
		return tx.Record(ev)
	})
	if err != nil {
		return Credential{}, err
	}
	r.uses.overlay(&s.Credential)
	if s.Tampered {
		r.log.Error("a credential was changed outside Signalbox and is not lent; set its destinations anew", "credential", s.ID, "revision", s.Revision)
	}
	if s.HasNotes = notes.Sealed != nil; s.HasNotes {
		v, err := r.ring.Open(sealPurpose, notes.Sealed, notesAAD(s.ID, notes.Version))
		if err != nil {
			return Credential{}, r.settle(ctx, caller, store.CredentialView, &damage{target: s.target(), field: "notes", version: notes.Version, cause: err})
		}
		s.Notes = v
	}
	return s.Credential, nil
}

// List returns the credentials that match, oldest first, and the cursor of the next page, empty at the end. A page is stable: what is
// stored meanwhile comes at the end, and what is deleted moves nothing. One event tells of the list.
func (r *Room) List(ctx context.Context, caller identity.Caller, f Filter) (items []Credential, next string, err error) {
	reach, err := r.reach(ctx, caller, identity.CredentialRead, "list", "")
	if err != nil {
		return nil, "", err
	}
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	after, err := f.check()
	if err != nil {
		return nil, "", err
	}
	// Reading is kept out of the writing transaction: on SQLite there is one writer, and leases wait for it.
	shown := f
	if reach != identity.Everything {
		if shown.IDs, err = r.visible(ctx, caller, f.IDs); err != nil {
			return nil, "", err
		}
	}
	if items, next, err = r.page(ctx, shown, after); err != nil {
		return nil, "", err
	}
	ev := caller.Event(store.CredentialList, store.Target{Kind: targetKind})
	ev.Details = store.Details{store.Int("count", int64(len(items)))}
	if used := f.used(); len(used) > 0 {
		ev.Details = append(ev.Details, store.Strs("filters", used))
	}
	if err := r.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) }); err != nil {
		return nil, "", err
	}
	return items, next, nil
}

// page reads one page. One that nothing narrows is a piece of the table; for any other the catalog names the ids.
func (r *Room) page(ctx context.Context, f Filter, after string) (items []Credential, next string, err error) {
	if f.IDs != nil && len(f.IDs) == 0 {
		return nil, "", nil
	}
	plain := len(f.used()) == 0 && f.Skip == 0
	var blocks []*block
	if !plain {
		if blocks, err = r.catalog.current(ctx); err != nil {
			return nil, "", err
		}
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		items, next = nil, ""
		var rows []row
		if plain {
			where := f.where(tx, after)
			if err := tx.Select(&rows, selectPage(where, f.Limit+1), where.Args()...); err != nil {
				return err
			}
		} else if err := f.collect(tx, f.walk(blocks, after, tx.Now()), &rows); err != nil {
			return err
		}
		if len(rows) > f.Limit {
			rows = rows[:f.Limit]
			next = encodeCursor(rows[len(rows)-1].ID)
		}
		for _, w := range rows {
			s, err := w.decode(tx.Now())
			if err != nil { // one damaged row must not hide all others
				r.log.Error("a credential is left out of a list, because its row cannot be read", "credential", w.ID, "cause", err)
				continue
			}
			items = append(items, s.Credential)
		}
		return nil
	})
	for i := range items {
		r.uses.overlay(&items[i])
	}
	return items, next, err
}

// collect reads what the walk proposes, one more than a page holds. A proposal that does not match any more is passed over.
func (f Filter) collect(tx *store.Tx, w *walk, rows *[]row) error {
	for len(*rows) <= f.Limit {
		ids := w.next(f.Limit + 1 - len(*rows))
		if len(ids) == 0 {
			return nil
		}
		query, args := f.among(tx, ids)
		var more []row
		if err := tx.Select(&more, query, args...); err != nil {
			return err
		}
		*rows = append(*rows, more...)
	}
	return nil
}

// among is the statement for those of the ids that match.
func (f Filter) among(tx *store.Tx, ids []string) (query string, args []any) {
	n := 1
	for n < len(ids) {
		n *= 2
	}
	// Powers of two, because the driver keeps a prepared statement of each text; the last id stands for those that are missing.
	f.IDs = append(slices.Clone(ids), slices.Repeat(ids[len(ids)-1:], n-len(ids))...)
	where := f.where(tx, "")
	return selectPage(where, n), where.Args()
}

// selectPage is the statement for the first n that match. The ids are taken before anything is joined, and n stands in the text: where
// PostgreSQL does not know that few rows are meant, it merges whole tables.
func selectPage(where *store.Where, n int) string {
	return `SELECT ` + rowColumns + ` FROM (SELECT c.id AS page_id FROM credentials c` + where.SQL() + ` ORDER BY c.id LIMIT ` + number(n) + `) p
		JOIN credentials c ON c.id = p.page_id` + rowJoins + ` ORDER BY c.id`
}

// Versions returns the versions of a credential's secret fields, newest first, and records that they were read.
func (r *Room) Versions(ctx context.Context, caller identity.Caller, id string) ([]Version, error) {
	var out []Version
	err := r.act(ctx, caller, identity.CredentialRead, toSee, "versions", id, func(tx *store.Tx, _ verbs) error {
		s, err := load(tx, id, false)
		if err != nil {
			return err
		}
		if out, err = versions(tx, s); err != nil {
			return err
		}
		ev := caller.Event(store.CredentialView, s.target())
		ev.Details = store.Details{store.Str("part", "versions")}
		return tx.Record(ev)
	})
	return out, err
}

type versionRow struct {
	Number       int64       `db:"version"`
	Fields       string      `db:"fields"`
	Suffix       string      `db:"suffix"`
	TokenExpires *store.Time `db:"token_expires_at"`
	Reason       string      `db:"reason"`
	RestoredFrom int64       `db:"restored_from"`
	By           string      `db:"created_by"`
	ByName       string      `db:"created_by_name"`
	CreatedAt    store.Time  `db:"created_at"`
	Current      int64       `db:"current"`
}

func versions(tx *store.Tx, s stored) ([]Version, error) {
	var rows []versionRow
	if err := tx.Select(&rows, `SELECT v.version, v.fields, v.suffix, v.token_expires_at, v.reason, v.restored_from, v.created_by, v.created_by_name,
		v.created_at, c.version AS current FROM credential_versions v JOIN credentials c ON c.id = v.credential_id WHERE c.id = $1 ORDER BY v.version DESC`, s.ID); err != nil {
		return nil, err
	}
	out := make([]Version, len(rows))
	for i, w := range rows {
		out[i] = Version{Number: w.Number, Current: w.Number == w.Current, Suffix: w.Suffix, TokenExpires: w.TokenExpires.Ptr(), Reason: w.Reason,
			RestoredFrom: w.RestoredFrom, CreatedBy: w.By, CreatedByName: w.ByName, CreatedAt: w.CreatedAt.Time()}
		if err := decodeList(w.Fields, &out[i].SecretFields); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// exact are the filters that compare one column.
func (f Filter) exact() [exactFilters]struct{ name, column, value string } {
	return [exactFilters]struct{ name, column, value string }{
		{"type", "c.type", string(f.Type)}, {"provider", "c.provider", f.Provider}, {"client_id", "c.client_id", f.ClientID},
		{"service_id", "c.service_id", f.ServiceID}, {"infrastructure_id", "c.infrastructure_id", f.InfrastructureID},
		{"owner", "c.owner", f.Owner}, {"plugin_name", "c.plugin_name", f.PluginName},
	}
}

// check returns the id after which the page begins.
func (f Filter) check() (after string, err error) {
	var p problems
	if _, ok := Lookup(f.Type); f.Type != "" && !ok {
		p.add("/type", "is not a credential type; the types are "+typeNames())
	}
	if f.Status != "" && !slices.Contains(Statuses(), f.Status) {
		p.add("/status", "must be active, expiring, expired, disabled or compromised")
	}
	if f.Health != "" && !slices.Contains(Healths(), f.Health) {
		p.add("/health", "must be healthy, refresh_failing, refresh_uncertain or needs_login")
	}
	if f.Limit < 1 || f.Limit > maxPage {
		p.add("/limit", "must be from 1 to "+number(maxPage))
	}
	if f.Skip < 0 {
		p.add("/skip", "must not be negative")
	}
	p.add("/q", textProblem(strings.TrimSpace(f.Q), 200, false))
	p.add("/tag", textProblem(f.Tag, maxTag, true))
	for _, e := range f.exact() {
		if !utf8.ValidString(e.value) || strings.ContainsRune(e.value, 0) {
			p.add("/"+e.name, "must be UTF-8 text")
		}
	}
	p.add("/expires_before", timeProblem(f.ExpiresBefore))
	p.add("/rotation_due_before", timeProblem(f.RotationDueBefore))
	if f.Cursor != "" {
		if after, err = decodeCursor(f.Cursor); err != nil {
			p.add("/cursor", "is not a cursor of this list")
		}
	}
	return after, p.filterErr()
}

func (f Filter) where(tx *store.Tx, after string) *store.Where {
	var w store.Where
	for _, e := range f.exact() {
		if e.value != "" {
			w.Add(e.column+" = ?", e.value)
		}
	}
	if f.Accounts {
		types, providers := accountColumns()
		w.Add(`c.type IN (`+marks(len(types))+`) AND c.provider IN (`+marks(len(providers))+`)`, append(anys(types), anys(providers)...)...)
	}
	if f.Tag != "" {
		// Not EXISTS, of which PostgreSQL makes a join that reads every tag; this it looks up for each row.
		w.Add(`(SELECT count(*) FROM credential_tags t WHERE t.credential_id = c.id AND t.tag = ?) > 0`, f.Tag)
	}
	if f.ExpiresBefore != nil {
		w.Add(`c.expires_at < ?`, store.TimeOf(*f.ExpiresBefore))
	}
	if f.RotationDueBefore != nil {
		w.Add(toRotate+` AND `+rotationAt+` < ?`, store.TimeOf(*f.RotationDueBefore))
	}
	now, soon := store.TimeOf(tx.Now()), store.TimeOf(tx.Now().Add(ExpiringWithin))
	switch f.Status { // the conditions are those of statusAt
	case Active:
		w.Add(`c.state = 'active' AND (c.expires_at IS NULL OR c.expires_at > ?)`, soon)
	case Expiring:
		w.Add(`c.state = 'active' AND c.expires_at > ? AND c.expires_at <= ?`, now, soon)
	case Expired:
		w.Add(`c.state = 'active' AND c.expires_at <= ?`, now)
	case Disabled, Compromised:
		w.Add(`c.state = ?`, string(f.Status))
	}
	if f.Health != "" {
		w.Add(`c.type = 'oauth'`)
		if f.Health == NeedsLogin {
			w.Add(`(`+deadAt+` <= ? OR `+lastHealth+` = ?)`, now, string(f.Health))
		} else {
			w.Add(`(`+deadAt+` IS NULL OR `+deadAt+` > ?)`, now)
			w.Add(lastHealth+` = ?`, string(f.Health))
		}
	}
	for _, word := range strings.Fields(strings.ToLower(f.Q)) {
		w.Add(`c.search LIKE ? ESCAPE '\'`, store.Like(word))
	}
	if f.IDs != nil {
		w.Add(inIDs(len(f.IDs)), idArgs(f.IDs)...)
	}
	if after != "" {
		w.Add(`c.id > ?`, after)
	}
	return &w
}

// rotationAt is [Credential.RotationDue] of a credential c that has one, which is what toRotate says. The index credentials_rotation is of these two, word by word.
const (
	plannedAt  = `(COALESCE(c.last_rotated_at, c.created_at) + c.rotate_every_days * 86400000000)`
	rotationAt = `(CASE WHEN c.rotate_at IS NULL OR (c.rotate_every_days > 0 AND ` + plannedAt + ` < c.rotate_at) THEN ` + plannedAt + ` ELSE c.rotate_at END)`
	toRotate   = `(c.rotate_every_days > 0 OR c.rotate_at IS NOT NULL)`
)

// lastHealth is what the last refresh of a credential c has left behind, and deadAt when the access token ends of one that nothing refreshes: the
// conditions of [stored.healthAt].
const (
	lastHealth = `COALESCE((SELECT o.health FROM oauth_connections o WHERE o.credential_id = c.id AND o.generation = c.version), 'healthy')`
	deadAt     = `(SELECT v.token_expires_at FROM credential_versions v WHERE v.credential_id = c.id AND v.version = c.version
		AND NOT (v.fields LIKE '%"refresh_token"%' AND (c.oauth_token_endpoint <> '' OR c.provider <> '')))`
)

// used returns the names of the filters in use, for the record. What they were compared with may be anything, so it is not recorded.
func (f Filter) used() []string {
	var out []string
	for _, e := range f.exact() {
		if e.value != "" {
			out = append(out, e.name)
		}
	}
	for _, o := range []struct {
		name string
		in   bool
	}{{"accounts", f.Accounts}, {"tag", f.Tag != ""}, {"status", f.Status != ""}, {"health", f.Health != ""}, {"expires_before", f.ExpiresBefore != nil}, {"rotation_due_before", f.RotationDueBefore != nil}, {"ids", f.IDs != nil}, {"q", f.Q != ""}} {
		if o.in {
			out = append(out, o.name)
		}
	}
	return out
}

func encodeCursor(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

func decodeCursor(s string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	id := string(b)
	if err != nil || !store.ValidID(credentialPrefix, id) || encodeCursor(id) != s { // the decoder passes over line ends
		return "", errors.New("not a cursor")
	}
	return id, nil
}
