package train

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// ObjectKind is a kind of thing that lies at an upstream and outlives the request that made it.
type ObjectKind string

// The kinds.
const (
	Batch ObjectKind = "batch" // docs.anthropic.com/en/api/creating-message-batches
	File  ObjectKind = "file"  // docs.anthropic.com/en/api/files-create
)

// Object is a batch or a file that a train made. It belongs to that train alone, although the account may be linked to others.
type Object struct {
	ID           string     `db:"id"`
	CredentialID string     `db:"credential_id"`
	CreatedAt    store.Time `db:"created_at"`
}

// ownPatience bounds the wait for the database when an object is recorded or looked up.
const ownPatience = 5 * time.Second

// Own records that what the attempt made belongs to the train of its key and lies on its account. Nobody may be told of the object before. Its
// faults are database_unavailable, audit_unavailable and state_conflict: there is one of that id on the account already, whosever it is, or on
// another account of the train.
func (l *Lease) Own(ctx context.Context, kind ObjectKind, id string) error {
	// What lies at the upstream lies there, whether the client still waits or not.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownPatience)
	defer cancel()
	c := l.trip.caller
	return l.room.db.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(`INSERT INTO upstream_objects (train_id, kind, id, credential_id, key_id, created_at) VALUES ($1,$2,$3,$4,$5,$6) ON CONFLICT DO NOTHING`,
			c.TrainID, string(kind), id, l.account.id, c.ID, store.TimeOf(tx.Now()))
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.Conflict, "state_conflict", "The upstream gave the new "+string(kind)+" an id that it, or another account of this train, has given already, so it cannot be told whose it is. Try again, or ask an operator whether the upstream of this account is right.")
		}
		return tx.Record(l.objectEvent(kind, id, true))
	})
}

// Disown forgets an object that the upstream has deleted.
func (l *Lease) Disown(ctx context.Context, kind ObjectKind, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownPatience)
	defer cancel()
	err := l.room.db.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(`DELETE FROM upstream_objects WHERE train_id = $1 AND kind = $2 AND id = $3 AND credential_id = $4`, l.trip.caller.TrainID, string(kind), id, l.account.id)
		if err != nil {
			return err
		}
		if n == 0 {
			return errGoneAlready
		}
		return tx.Record(l.objectEvent(kind, id, false))
	})
	if errors.Is(err, errGoneAlready) {
		err = nil
	}
	l.room.owners.drop(objectKey{l.trip.caller.TrainID, kind, id})
	return err
}

var errGoneAlready = errors.New("train: somebody else has forgotten it")

func (l *Lease) objectEvent(kind ObjectKind, id string, made bool) store.Event {
	act := store.FileDelete
	switch {
	case kind == Batch && made:
		act = store.BatchCreate
	case kind == Batch:
		act = store.BatchDelete
	case made:
		act = store.FileCreate
	}
	ev := l.trip.caller.Event(act, l.account.target())
	ev.Details = store.Details{store.Str("by_lease", l.id), store.Str("id", id)}
	return ev
}

// Owner returns the credential on whose account an object of the caller's train lies. An object of another train is not_found, exactly as one that
// does not exist.
func (r *Room) Owner(ctx context.Context, caller identity.Caller, kind ObjectKind, id string) (string, error) {
	if !r.mayAsk(caller) {
		return "", errNoKey()
	}
	key := objectKey{caller.TrainID, kind, id}
	if owner := r.owners.get(key); owner != "" {
		return owner, nil
	}
	var owner string
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		return tx.Get(&owner, `SELECT credential_id FROM upstream_objects WHERE train_id = $1 AND kind = $2 AND id = $3`, caller.TrainID, string(kind), id)
	})
	if errors.Is(err, store.ErrNotFound) {
		return "", errNoObject(kind)
	}
	if err != nil {
		return "", err
	}
	r.owners.set(key, owner)
	return owner, nil
}

func errNoObject(kind ObjectKind) error {
	return fault.New(fault.NotFound, "not_found", "This train has no such "+string(kind)+". It may use what it made through Signalbox itself, and nothing of other trains; the list of its "+plural(kind)+" shows what there is.")
}

func plural(kind ObjectKind) string {
	if kind == Batch {
		return "batches"
	}
	return "files"
}

// ObjectPage selects objects, the newest first.
type ObjectPage struct {
	After, Before string // an object's id: those that are older, or newer, than it; at most one of them
	// From is an object, which may be gone, in place of After, or with Newer in place of Before.
	From  Object
	Newer bool
	Limit int
	// IDs are those that are asked for; none asks for all.
	IDs []string
}

// Objects returns the objects of the caller's train that lie on linked accounts, the newest first, and whether there are more in the direction of the
// page. A page that begins at an object which the train does not have is not_found.
func (r *Room) Objects(ctx context.Context, caller identity.Caller, kind ObjectKind, p ObjectPage) (list []Object, more bool, err error) {
	if !r.mayAsk(caller) {
		return nil, false, errNoKey()
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		list = nil
		var w store.Where
		w.Add(`o.train_id = ?`, caller.TrainID)
		w.Add(`o.kind = ?`, string(kind))
		from, newer := p.From, p.Newer || p.Before != ""
		if at := p.After + p.Before; at != "" {
			err := tx.Get(&from, `SELECT id, credential_id, created_at FROM upstream_objects WHERE train_id = $1 AND kind = $2 AND id = $3`, caller.TrainID, string(kind), at)
			if errors.Is(err, store.ErrNotFound) {
				return errNoObject(kind)
			}
			if err != nil {
				return err
			}
		}
		order := ` ORDER BY o.created_at DESC, o.id DESC`
		if newer {
			order = ` ORDER BY o.created_at, o.id`
		}
		switch {
		case from.ID == "":
		case newer:
			w.Add(`(o.created_at > ? OR (o.created_at = ? AND o.id > ?))`, from.CreatedAt, from.CreatedAt, from.ID)
		default:
			w.Add(`(o.created_at < ? OR (o.created_at = ? AND o.id < ?))`, from.CreatedAt, from.CreatedAt, from.ID)
		}
		if n := len(p.IDs); n > 0 {
			args := make([]any, n)
			for i, id := range p.IDs {
				args[i] = id
			}
			w.Add(`o.id IN (?`+strings.Repeat(",?", n-1)+`)`, args...)
		}
		w.Add(`(EXISTS (SELECT 1 FROM train_links l WHERE l.train_id = o.train_id AND l.credential_id = o.credential_id))`)
		args := append(w.Args(), p.Limit+1)
		return tx.Select(&list, `SELECT o.id, o.credential_id, o.created_at FROM upstream_objects o`+w.SQL()+order+` LIMIT $`+strconv.Itoa(len(args)), args...)
	})
	if err != nil {
		return nil, false, err
	}
	if more = len(list) > p.Limit; more {
		list = list[:p.Limit]
	}
	if p.Newer || p.Before != "" {
		slices.Reverse(list)
	}
	return list, more, nil
}

func errNoKey() error {
	return fault.New(fault.Unauthenticated, "unauthenticated",
		"Credentials are lent to client keys only. Send the train's key (sbx_live_…); `signalbox key issue` makes one.")
}

type objectKey struct {
	train string
	kind  ObjectKind
	id    string
}

// ownersMost bounds what is remembered of who owns what.
const ownersMost = 10_000

// owners remembers on which account an object lies. That never changes while the object is there; whether the account may still be used is asked
// each time.
type owners struct {
	mu sync.Mutex
	m  map[objectKey]string
}

func (o *owners) get(k objectKey) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.m[k]
}

func (o *owners) set(k objectKey, credential string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.m == nil || len(o.m) >= ownersMost {
		o.m = map[objectKey]string{}
	}
	o.m[k] = credential
}

func (o *owners) drop(k objectKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.m, k)
}
