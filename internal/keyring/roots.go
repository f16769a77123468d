package keyring

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Roots are the root keys that open a keyring.
type Roots struct {
	// Present names the root key that wraps the data keys; "" where there is no keyring yet.
	Present string
	// Next names the root key that wraps them as well while the root key is being changed; "" otherwise.
	Next string
}

// RootsOf returns the root keys of the keyring of the database.
func RootsOf(ctx context.Context, db *store.DB) (Roots, error) {
	k, err := load(ctx, db)
	if err != nil {
		return Roots{}, err
	}
	return k.roots(), nil
}

func (k kept) roots() (out Roots) {
	for _, row := range k.keys {
		if !row.Further && row.State != stateGone {
			out.Present = row.RootKeyID
		}
	}
	for _, c := range k.checks {
		if c.RootKeyID != out.Present {
			out.Next = c.RootKeyID
		}
	}
	return out
}

// opened proves a root key and returns the data keys that it opens.
func (k kept) opened(root secret.RootKey) (*held, error) {
	if err := k.proves(root); err != nil {
		return nil, err
	}
	wrap, err := root.Derive(wrapping)
	if err != nil {
		return nil, err
	}
	return k.unwrap(wrap, root.ID())
}

// errAsItWas ends a transaction that finds its work done.
var errAsItWas = errors.New("keyring: there is nothing to change")

// AddRoot has a further root key wrap every data key: from then on the present one and the next one open the keyring, until [KeepRoot] drops one
// of them. It does nothing when it was done before with the same keys. The faults are rekey_running while the data key is being changed, and
// root_key_changing while another root key was added.
func AddRoot(ctx context.Context, db *store.DB, present, next secret.RootKey) error {
	if present.ID() == next.ID() {
		return fault.New(fault.Invalid, "malformed_request", "The new root key is the present one. Make another with: signalbox keygen --output FILE")
	}
	err := db.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock("keyring"); err != nil {
			return err
		}
		k, err := read(tx)
		if err != nil {
			return err
		}
		keys, err := k.opened(present)
		if err != nil {
			return err
		}
		if at := k.roots(); at.Next != "" {
			if _, err := k.opened(next); err == nil && at == (Roots{present.ID(), next.ID()}) {
				return errAsItWas
			}
			return fault.New(fault.Conflict, "root_key_changing", fmt.Sprintf("The root key is being changed from %s to %s already. End that first with: signalbox rekey --root --finish, or take it back with: signalbox rekey --root --abandon", at.Present, at.Next))
		}
		var running int64
		if err := tx.Get(&running, `SELECT COUNT(*) FROM rekeys WHERE finished_at = 0`); err != nil {
			return err
		}
		if running > 0 { // its end destroys a data key, which must then lie in no further wrapping
			return fault.New(fault.Conflict, "rekey_running", "The data key is being changed. Wait until that is done (signalbox rekey --status), then change the root key.")
		}
		if err := wrapUnder(tx, next, keys); err != nil {
			return err
		}
		tx.Change(store.TopicKeyring, next.ID())
		return tx.Record(rootEvent(store.AdminRootKeyAdd, next.ID(), store.Str("root_key", present.ID()), store.Int("data_keys", int64(len(keys.keys)))))
	})
	if errors.Is(err, errAsItWas) {
		return nil
	}
	return err
}

// wrapUnder stores the data keys wrapped by a further root key, and its check.
func wrapUnder(tx *store.Tx, root secret.RootKey, keys *held) error {
	check, err := checkOf(root)
	if err != nil {
		return err
	}
	wrap, err := root.Derive(wrapping)
	if err != nil {
		return err
	}
	for _, version := range slices.Sorted(maps.Keys(keys.keys)) {
		key := keys.keys[version]
		wrapped, err := wrap.Seal(key.Value(), wrapAAD(root.ID(), int64(version)))
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO keyring_wraps (version, root_key_id, wrapped) VALUES ($1, $2, $3)`, int64(version), root.ID(), wrapped); err != nil {
			return err
		}
	}
	_, err = tx.Exec(`INSERT INTO keyring_checks (root_key_id, sealed) VALUES ($1, $2)`, root.ID(), check)
	return err
}

// KeepRoot ends a change of the root key: the given one alone opens the keyring from then on, and the id of the other is returned. It returns ""
// when the given one was alone already.
func KeepRoot(ctx context.Context, db *store.DB, keep secret.RootKey) (dropped string, err error) {
	err = db.Write(ctx, func(tx *store.Tx) error {
		dropped = ""
		if err := tx.Lock("keyring"); err != nil {
			return err
		}
		k, err := read(tx)
		if err != nil {
			return err
		}
		if _, err := k.opened(keep); err != nil {
			return err
		}
		at := k.roots()
		action := store.AdminRootKeyChange
		switch {
		case at.Next == "":
			return errAsItWas
		case at.Next == keep.ID():
			dropped = at.Present
			for _, row := range k.keys {
				if !row.Further || row.RootKeyID != keep.ID() {
					continue
				}
				if n, err := tx.Exec(`UPDATE keyring_keys SET wrapped = $1 WHERE version = $2 AND state <> $3`, row.Wrapped, row.Version, stateGone); err != nil || n != 1 {
					return errors.Join(err, notOne(n, "a data key is gone that is wrapped"))
				}
			}
			if _, err := tx.Exec(`UPDATE keyring_keys SET root_key_id = $1`, keep.ID()); err != nil {
				return err
			}
		default:
			dropped, action = at.Next, store.AdminRootKeyAbandon
		}
		if _, err := tx.Exec(`DELETE FROM keyring_wraps`); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM keyring_checks WHERE root_key_id <> $1`, keep.ID()); err != nil {
			return err
		}
		tx.Change(store.TopicKeyring, keep.ID())
		return tx.Record(rootEvent(action, keep.ID(), store.Str("dropped", dropped)))
	})
	if errors.Is(err, errAsItWas) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	db.Scrub(ctx) // what the other root key had wrapped is not to lie on in the log of SQLite
	return dropped, nil
}

func rootEvent(action store.Action, id string, more ...store.Detail) store.Event {
	return store.Event{Actor: store.Actor{Kind: "system", Name: "root key"}, Action: action, Target: store.Target{Kind: "root_key", ID: id}, Details: more}
}

// outlive returns the keyring for an instance whose root key was dropped while it served: with the data keys that it holds, as long as these are
// all. It cannot open another, so that after the next change of the data key it serves nothing until it is started with the new root key.
func (k kept) outlive(before *held, rootID string) (*held, error) {
	h := &held{keys: map[uint32]secret.Key{}, late: map[uint32]time.Time{}}
	for _, row := range k.keys {
		if row.Further {
			continue
		}
		version := uint32(row.Version)
		h.newest = max(h.newest, version)
		if row.State == stateGone {
			continue
		}
		key, ok := before.keys[version]
		if !ok {
			return nil, fault.New(fault.Unavailable, "encryption_key_missing",
				"The root key of this database was changed, and this server was started with the one before ("+rootID+"), which does not open the new data key. Start it anew with root key "+k.roots().Present+".")
		}
		h.keys[version] = key
		if row.State == stateActive {
			h.active = version
		}
	}
	if h.active == 0 {
		return nil, damaged("no data key is active", nil)
	}
	return h, nil
}

// Outlived reports whether the root key that this instance was started with opens the keyring no more.
func (r *Ring) Outlived() bool { return r != nil && r.outlived.Load() }

// hasRoot reports whether the keyring knows the root key.
func (k kept) hasRoot(id string) bool {
	return slices.ContainsFunc(k.checks, func(c checkRow) bool { return c.RootKeyID == id })
}
