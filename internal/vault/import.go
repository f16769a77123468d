package vault

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Many credentials that come at once are stored in one transaction, which the room above frames: it knows where they came from, and what else
// is there exactly if they are.

// manyChanges is how many changes are announced one by one; beyond, everything is read anew once.
const manyChanges = 200

// MayImport returns how far the caller may store credentials, or the refusal, which is recorded. Whoever finds a browser signed in must not
// bring in what agents are lent then, nor compare guesses with what is stored.
func (r *Room) MayImport(ctx context.Context, caller identity.Caller) (identity.Reach, error) {
	reach, err := r.reach(ctx, caller, identity.CredentialWrite, "import", "")
	if err != nil {
		return reach, err
	}
	if refusal := identity.RequireFresh(caller, r.now()); refusal != nil {
		return r.refuse(ctx, caller, "import", "", refusal)
	}
	return reach, nil
}

// Ready is a draft that was looked at and brought into form.
type Ready struct {
	row   TypeRow
	draft Draft
	meta  Meta
}

// Meta returns the metadata as they would be stored.
func (d Ready) Meta() Meta { return cloneMeta(d.meta) }

// Prepare looks at a draft as [Room.Create] does. Its faults are the same.
func (r *Room) Prepare(d Draft) (Ready, error) {
	row, ok := Lookup(d.Type)
	if !ok {
		return Ready{}, invalid("/type", "is not a credential type; the types are "+typeNames())
	}
	var p problems
	meta := cloneMeta(d.Meta)
	r.normalise(row, &meta, &p)
	checkSecrets(row, d.Secrets, &p)
	checkNotes(d.Notes, &p)
	if !slices.Contains([]Status{"", Active, Disabled, Compromised}, d.State) {
		p.add("/status", "must be active, disabled or compromised")
	}
	return Ready{row: row, draft: d, meta: meta}, p.err()
}

// Intake stores credentials within [Room.Import].
type Intake struct {
	room   *Room
	tx     *store.Tx
	caller identity.Caller
	may    verbs
	added  int
}

// Import runs fn in one transaction in which it may store credentials; nothing of it is there before all of it is. fn may run again. many says
// that it is going to be more than a few. A refusal that an act in fn meets is recorded.
func (r *Room) Import(ctx context.Context, caller identity.Caller, many int, fn func(*store.Tx, *Intake) error) error {
	reach, err := r.MayImport(ctx, caller)
	if err != nil {
		return err
	}
	err = r.narrowed(ctx, caller, reach, "import", func(tx *store.Tx, may verbs) error {
		if err := tx.Lock("import"); err != nil {
			return err
		}
		if many > manyChanges { // first, because what comes first decides how long taking it in may last
			tx.Change(store.TopicReset, "")
		}
		return fn(tx, &Intake{room: r, tx: tx, caller: caller, may: may, added: many})
	}, func(*store.Tx, []string) (verbs, error) {
		return verbs{use: true, reveal: true, manage: true, owner: true}, nil // what one stores is one's own
	})
	if err != nil {
		return r.settle(ctx, caller, store.CredentialCreate, err)
	}
	return nil
}

// Add stores one credential, as [Room.Create] does.
func (in *Intake) Add(d Ready) (Credential, error) {
	s, err := in.room.add(in.tx, in.caller, in.may, d.row, d.meta, d.draft)
	if err != nil {
		return Credential{}, err
	}
	if in.added <= manyChanges {
		in.tx.Change(store.TopicCredential, s.ID)
	}
	return s.computed(in.tx.Now()), nil
}

// Try returns the error with which [Intake.Add] would refuse the credential to this caller, and stores nothing.
func (in *Intake) Try(d Ready) error {
	return mayAdd(in.tx, in.caller, in.may, d.meta, slices.Sorted(maps.Keys(d.draft.Secrets)))
}

// Known is a stored credential that an import may meet again.
type Known struct {
	ID, Name, Username, AccountID string
	Type                          Type
	// Visible says that the caller may know of it. Of others only accounts are told, whose names and ids are unique.
	Visible bool
}

// Known calls fn with every stored credential that the caller may see, and with every account.
func (in *Intake) Known(fn func(Known)) error {
	visible := map[string]bool{}
	if !in.may.all {
		parties, err := identity.Principals(in.tx, in.caller)
		if err != nil {
			return err
		}
		if len(parties) > 0 {
			var ids []string
			query, args := visibleIDs(parties)
			if err := in.tx.Select(&ids, query, args...); err != nil {
				return err
			}
			for _, id := range ids {
				visible[id] = true
			}
		}
	}
	rows, err := in.tx.Query(`SELECT id, type, name, username, COALESCE(account_id, '') FROM credentials ORDER BY id`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var k Known
		if err := rows.Scan(&k.ID, &k.Type, &k.Name, &k.Username, &k.AccountID); err != nil {
			return err
		}
		if k.Visible = in.may.all || visible[k.ID]; k.Visible || k.AccountID != "" {
			fn(k)
		}
	}
	return rows.Err()
}

// likeness is what two credentials have in common that have the same secret: what tells one key or one refresh lineage from another. For a
// password it is also whose and for what it is, since people use one for many things.
func likeness(row TypeRow, m Meta, secrets map[string]secret.Value) []string {
	out := []string{string(row.Type)}
	switch {
	case row.OAuth:
		if v := secrets["refresh_token"]; !v.IsZero() {
			return append(out, "refresh_token", v.Reveal())
		}
		return append(out, "access_token", secrets["access_token"].Reveal())
	case row.AnyNames:
		for _, name := range slices.Sorted(maps.Keys(secrets)) {
			out = append(out, name, secrets[name].Reveal())
		}
		return append(out, m.Username, m.ExternalURL)
	}
	for _, f := range row.Secrets {
		if f.Required {
			out = append(out, f.Name, secrets[f.Name].Reveal())
		}
	}
	if row.Type == Password {
		out = append(out, m.Username, m.ExternalURL)
	}
	return out
}

// marker makes comparable marks of secrets, which mean nothing to anybody else: its key is random and lives no longer than the comparison.
type marker [32]byte

func newMarker() marker {
	var m marker
	_, _ = rand.Read(m[:]) // crypto/rand.Read never fails since Go 1.24
	return m
}

type mark [sha256.Size]byte

func (k marker) mark(parts []string) (out mark) {
	h := hmac.New(sha256.New, k[:])
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		_, _ = h.Write(n[:])
		_, _ = h.Write([]byte(p))
	}
	h.Sum(out[:0])
	return out
}

// Likeness is which of some credentials have a secret that is known already.
type Likeness struct {
	// Stored is the id of the stored credential with the same secret, by the place in the list; Earlier the place of an earlier one.
	Stored  map[int]string
	Earlier map[int]int
	// Compared is how many stored credentials were compared; Blind says that the caller may reveal none, so that none was.
	Compared int
	Blind    bool
}

// comparePage is how many stored credentials are compared in one transaction.
const comparePage = 500

// Compare opens what the caller may reveal and says which of the drafts have the same secret. Nothing of it leaves, and no trace of a secret is
// stored. Whoever calls it records what it told.
func (r *Room) Compare(ctx context.Context, caller identity.Caller, drafts []Ready) (Likeness, error) {
	out := Likeness{Stored: map[int]string{}, Earlier: map[int]int{}}
	k, first, types := newMarker(), map[mark]int{}, map[string]bool{}
	for i, d := range drafts {
		m := k.mark(likeness(d.row, d.meta, d.draft.Secrets))
		if j, twice := first[m]; twice {
			out.Earlier[i] = j
			continue
		}
		first[m] = i
		types[string(d.row.Type)] = true
	}
	reach, err := identity.Within(caller, identity.CredentialReveal)
	if err != nil || identity.RequireFresh(caller, r.now()) != nil {
		out.Blind = true
		return out, nil
	}
	if len(types) == 0 {
		return out, nil
	}
	for after := ""; ; {
		page, err := r.marksAfter(ctx, caller, reach, k, slices.Sorted(maps.Keys(types)), after)
		if err != nil {
			return Likeness{}, err
		}
		for _, m := range page.marks {
			out.Compared++
			if i, same := first[m.mark]; same && out.Stored[i] == "" {
				out.Stored[i] = m.id
			}
		}
		if page.next == "" {
			break
		}
		after = page.next
	}
	for i, j := range out.Earlier { // what is like an earlier one, is like what that is like
		if id, ok := out.Stored[j]; ok {
			out.Stored[i] = id
		}
	}
	return out, nil
}

// markPage is the marks of some stored credentials, and after which the next page goes on.
type markPage struct {
	marks []storedMark
	next  string
}

type storedMark struct {
	id   string
	mark mark
}

// marksAfter makes the marks of one page of what the caller may reveal.
func (r *Room) marksAfter(ctx context.Context, caller identity.Caller, reach identity.Reach, k marker, types []string, after string) (out markPage, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		out = markPage{}
		var w store.Where
		w.Add(`c.id > ?`, after)
		w.Add(`c.type IN (`+marks(len(types))+`)`, anys(types)...)
		if reach != identity.Everything {
			parties, err := identity.Principals(tx, caller)
			if err != nil || len(parties) == 0 {
				return err
			}
			w.Add(`EXISTS (SELECT 1 FROM grants g WHERE g.may_reveal = 1 AND g.grantee_id IN (`+marks(len(parties))+`) AND `+onCredential+`)`, anys(parties)...)
		}
		var rows []materialRow
		if err := tx.Select(&rows, `SELECT `+rowColumns+`, s.field, s.sealed FROM (SELECT * FROM credentials c`+w.SQL()+` ORDER BY c.id LIMIT `+w.Arg(comparePage)+`) c`+rowJoins+
			` LEFT JOIN credential_secrets s ON s.credential_id = c.id AND s.version = c.version ORDER BY c.id`, w.Args()...); err != nil {
			return err
		}
		n := 0
		for ; len(rows) > 0; n++ {
			end := slices.IndexFunc(rows, func(w materialRow) bool { return w.ID != rows[0].ID })
			if end < 0 {
				end = len(rows)
			}
			if m, ok := r.markOf(tx, k, rows[:end]); ok {
				out.marks = append(out.marks, storedMark{rows[0].ID, m})
			}
			out.next, rows = rows[0].ID, rows[end:]
		}
		if n < comparePage {
			out.next = ""
		}
		return nil
	})
	return out, err
}

// markOf returns the mark of a stored credential; false for one that cannot be compared.
func (r *Room) markOf(tx *store.Tx, k marker, rows []materialRow) (mark, bool) {
	s, err := rows[0].decode(tx.Now())
	if err != nil || s.foreign {
		return mark{}, false
	}
	secrets := map[string]secret.Value{}
	for _, w := range rows {
		if w.Field == nil {
			continue
		}
		v, err := r.openSecret(s, secretRow{Field: *w.Field, Version: s.Version, Sealed: w.Sealed})
		if err != nil {
			return mark{}, false // what does not open is told by whoever reveals it
		}
		secrets[*w.Field] = v
	}
	return k.mark(likeness(s.row, s.Meta, secrets)), true
}

// Type returns the credential's type.
func (d Ready) Type() Type { return d.row.Type }

// Renamed returns the draft under another name, with the account id that follows from it where none was chosen.
func (in *Intake) Renamed(d Ready, name string) (Ready, error) {
	draft := d.draft
	draft.Name = name
	return in.room.Prepare(draft)
}
