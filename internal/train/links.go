package train

import (
	"context"
	"errors"
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Link says that a train may be lent a credential.
type Link struct {
	TrainID      string
	CredentialID string
	Name         string // of the credential
	AccountID    string // "" when the credential cannot serve an LLM provider
	Type         vault.Type
	Provider     string
	Alias        string // "" for none; unique within the train
	Priority     int    // 1 is tried before 2
	CreatedAt    time.Time
}

// ETag is the validator of this state of the link (RFC 9110, section 8.8.3), what it shows of the credential included.
func (l Link) ETag() string {
	return etag.Of(l.TrainID, l.CredentialID, l.Name, l.AccountID, string(l.Type), l.Provider, l.Alias, strconv.Itoa(l.Priority), l.CreatedAt.Format(store.TimeFormat))
}

// unless returns the fault etag_mismatch when the caller has seen another state of the link.
func (l Link) unless(ifMatch string) error {
	if etag.Match(ifMatch, l.ETag()) {
		return nil
	}
	return fault.New(fault.Precondition, "etag_mismatch", "The link was changed since it was read. Read it again, then repeat the change.")
}

// LinkDraft is a link to be made.
type LinkDraft struct {
	Credential string  // id, account id or account name
	Alias      *string // nil leaves it as it is, or empty when the link is new
	Priority   *int    // nil leaves it as it is, or [DefaultPriority] when the link is new
}

// LinkPatch changes a link; nil leaves a setting as it is, an empty alias removes it.
type LinkPatch struct {
	Alias    *string
	Priority *int
	// IfMatch, when it is not empty, is the If-Match header that the link's ETag must satisfy.
	IfMatch string
}

// DefaultPriority is the priority of a link that was given none.
const DefaultPriority = 100

const (
	priorityMax = 1_000_000
	aliasMax    = 64
)

type linkRow struct {
	TrainID      string     `db:"train_id"`
	CredentialID string     `db:"credential_id"`
	Alias        *string    `db:"alias"`
	Priority     int        `db:"priority"`
	CreatedAt    store.Time `db:"created_at"`
	Default      int64      `db:"is_default"`
}

const linkColumns = `train_id, credential_id, alias, priority, created_at, is_default`

func (l linkRow) link() Link {
	t := l.tie()
	return Link{TrainID: l.TrainID, CredentialID: t.credentialID, Alias: t.alias, Priority: t.priority, CreatedAt: t.linked.Time()}
}

func (l linkRow) tie() tie {
	t := tie{credentialID: l.CredentialID, priority: l.Priority, linked: l.CreatedAt, first: l.Default == 1}
	if l.Alias != nil {
		t.alias = *l.Alias
	}
	return t
}

func (l *Link) of(c vault.Credential) {
	l.Name, l.AccountID, l.Type, l.Provider = c.Name, c.AccountID, c.Type, c.Provider
}

// Link links a credential to a train. It needs trains:write and, because linking lends the credential, credentials:read for every
// credential, or a grant that lets the train or the caller use this one. A link that is there already is changed to the draft; created says
// whether it is new.
func (r *Room) Link(ctx context.Context, caller identity.Caller, ref string, d LinkDraft) (link Link, created bool, err error) {
	refusal, err := r.mayLink(ctx, caller, ref)
	if err != nil {
		return Link{}, false, err
	}
	refused := false
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		refused = false
		t, err := reach(tx, caller, identity.TrainWrite, ref, tx.ForUpdate())
		if err != nil {
			return err
		}
		cred, err := r.linkable(tx, caller, t.ID, d.Credential, refusal)
		if err != nil {
			refused = err == refusal
			return err
		}
		patch := LinkPatch{Alias: d.Alias, Priority: d.Priority}
		link, err = getLink(tx, t.ID, cred.ID)
		if err == nil {
			created = false
			link, err = r.changeLink(tx, caller, t, link, cred, patch)
			return err
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		created = true
		link = Link{TrainID: t.ID, CredentialID: cred.ID, Priority: DefaultPriority, CreatedAt: tx.Now()}
		link.of(cred)
		patch.apply(&link)
		if err := link.check(); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO train_links (train_id, credential_id, alias, priority, created_at) VALUES ($1,$2,$3,$4,$5)`,
			t.ID, cred.ID, nullable(link.Alias), link.Priority, store.TimeOf(link.CreatedAt)); err != nil {
			return err
		}
		return recordLink(tx, caller, store.TrainLink, t, link, nil)
	})
	if err != nil && refused {
		if err := r.recordRefusal(ctx, caller, named(ref), refusal, store.Str("act", string(store.TrainLink))); err != nil {
			return Link{}, false, err
		}
		return Link{}, false, refusal
	}
	if err != nil {
		return Link{}, false, linkFault(err)
	}
	return link, created, nil
}

// Relink changes the alias or the priority of a link. It needs trains:write.
func (r *Room) Relink(ctx context.Context, caller identity.Caller, ref, credential string, p LinkPatch) (Link, error) {
	if err := r.allow(ctx, caller, store.TrainRelink, named(ref), identity.TrainWrite); err != nil {
		return Link{}, err
	}
	var link Link
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		t, cred, have, err := r.findLink(tx, caller, identity.TrainWrite, ref, credential, tx.ForUpdate())
		if err != nil {
			return err
		}
		if err := have.unless(p.IfMatch); err != nil {
			return err
		}
		link, err = r.changeLink(tx, caller, t, have, cred, p)
		return err
	})
	if err != nil {
		return Link{}, linkFault(err)
	}
	return link, nil
}

func (r *Room) changeLink(tx *store.Tx, caller identity.Caller, t Train, link Link, cred vault.Credential, p LinkPatch) (Link, error) {
	link.of(cred)
	changed := p.apply(&link)
	if err := link.check(); err != nil {
		return Link{}, err
	}
	if _, err := tx.Exec(`UPDATE train_links SET alias = $1, priority = $2 WHERE train_id = $3 AND credential_id = $4`,
		nullable(link.Alias), link.Priority, t.ID, cred.ID); err != nil {
		return Link{}, err
	}
	return link, recordLink(tx, caller, store.TrainRelink, t, link, changed)
}

// Unlink takes a credential from a train and cuts the leases that hang on the link. It needs trains:write. With ifMatch, the
// link must still have that ETag.
func (r *Room) Unlink(ctx context.Context, caller identity.Caller, ref, credential, ifMatch string) error {
	if err := r.allow(ctx, caller, store.TrainUnlink, named(ref), identity.TrainWrite); err != nil {
		return err
	}
	return r.db.Write(ctx, func(tx *store.Tx) error {
		t, cred, link, err := r.findLink(tx, caller, identity.TrainWrite, ref, credential, tx.ForUpdate())
		if err != nil {
			return err
		}
		if err := link.unless(ifMatch); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM train_links WHERE train_id = $1 AND credential_id = $2`, t.ID, cred.ID); err != nil {
			return err
		}
		return recordLink(tx, caller, store.TrainUnlink, t, link, nil)
	})
}

// Links returns a train's links by priority and name of the credential. It needs trains:read.
func (r *Room) Links(ctx context.Context, caller identity.Caller, ref string) ([]Link, error) {
	var out []Link
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.TrainRead, ref, "")
		if err != nil {
			return err
		}
		var rows []linkRow
		if err := tx.Select(&rows, `SELECT `+linkColumns+` FROM train_links WHERE train_id = $1`, t.ID); err != nil {
			return err
		}
		out = make([]Link, len(rows))
		for i, row := range rows {
			cred, err := r.vault.Resolve(tx, row.CredentialID)
			if err != nil {
				return err
			}
			out[i] = row.link()
			out[i].of(cred)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	sortLinks(out)
	return out, nil
}

// GetLink returns one link of a train. It needs trains:read.
func (r *Room) GetLink(ctx context.Context, caller identity.Caller, ref, credential string) (Link, error) {
	var link Link
	err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		_, _, link, err = r.findLink(tx, caller, identity.TrainRead, ref, credential, "")
		return err
	})
	return link, err
}

// findLink returns a train with a credential and the link between them; lock is the clause that locks the train's row, or "".
func (r *Room) findLink(tx *store.Tx, caller identity.Caller, p identity.Permission, ref, credential, lock string) (Train, vault.Credential, Link, error) {
	t, err := reach(tx, caller, p, ref, lock)
	if err != nil {
		return Train{}, vault.Credential{}, Link{}, err
	}
	cred, err := r.vault.Resolve(tx, credential)
	if fault.KindOf(err) == fault.NotFound {
		err = store.ErrNotFound // whether there is such a credential elsewhere is nobody's business here
	}
	var link Link
	if err == nil {
		link, err = getLink(tx, t.ID, cred.ID)
	}
	if errors.Is(err, store.ErrNotFound) {
		err = fault.New(fault.NotFound, "not_found", "No such credential is linked to this train. `signalbox train show` lists the links.")
	}
	link.of(cred)
	return t, cred, link, err
}

func getLink(tx *store.Tx, trainID, credentialID string) (Link, error) {
	var row linkRow
	err := tx.Get(&row, `SELECT `+linkColumns+` FROM train_links WHERE train_id = $1 AND credential_id = $2`, trainID, credentialID)
	return row.link(), err
}

func recordLink(tx *store.Tx, caller identity.Caller, action store.Action, t Train, l Link, fields []string) error {
	tx.Change(store.TopicTrain, t.ID)
	ev := caller.Event(action, t.target())
	ev.Fields = fields
	ev.Details = store.Details{store.Str("credential", l.CredentialID), store.Str("name", l.Name), store.Str("alias", l.Alias), store.Int("priority", int64(l.Priority))}
	return tx.Record(ev)
}

func (p LinkPatch) apply(l *Link) (changed []string) {
	if p.Alias != nil && *p.Alias != l.Alias {
		l.Alias, changed = *p.Alias, append(changed, "alias")
	}
	if p.Priority != nil && *p.Priority != l.Priority {
		l.Priority, changed = *p.Priority, append(changed, "priority")
	}
	return changed
}

func (l Link) check() error {
	f := fault.New(fault.Unprocessable, "validation_failed", "The link is not valid; see the errors.")
	if l.Alias != "" && (len(l.Alias) > aliasMax || !validSlug(l.Alias)) {
		_ = f.With("/alias", "must be at most 64 letters, digits, dots, dashes or underscores, and begin with a letter or digit")
	}
	if l.Priority < 0 || l.Priority > priorityMax {
		_ = f.With("/priority", "must be 0 to "+strconv.Itoa(priorityMax))
	}
	if len(f.Fields) > 0 {
		return f
	}
	return nil
}

// linkFault says what the violation of a unique key means here: the link itself is looked up first, so it is the alias.
func linkFault(err error) error {
	if store.IsConflict(err) {
		return fault.New(fault.Conflict, "already_exists", "Another link of this train has this alias. Choose another alias.").With("/alias", "is taken")
	}
	if store.IsForeignKey(err) {
		return fault.New(fault.NotFound, "not_found", "The credential was deleted meanwhile. `signalbox cred list` shows those that there are.")
	}
	return err
}

func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
