package keeper

import (
	"context"
	"fmt"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// Wrapping is a wrapped root key as the database holds it.
type Wrapping struct {
	RootKeyID string
	// Keeper is the address of the keeper, as text.
	Keeper string
	Wrapped
	// CreatedAt is when this keeper first wrapped this root key, WrappedAt when it last did.
	CreatedAt, WrappedAt time.Time
}

type row struct {
	RootKeyID  string     `db:"root_key_id"`
	Keeper     string     `db:"keeper"`
	KeyVersion string     `db:"key_version"`
	Wrapped    []byte     `db:"wrapped"`
	CreatedAt  store.Time `db:"created_at"`
	WrappedAt  store.Time `db:"wrapped_at"`
}

// List returns all wrappings, the newest root key's first.
func List(ctx context.Context, db *store.DB) ([]Wrapping, error) {
	var out []Wrapping
	err := db.Read(ctx, func(tx *store.Tx) (err error) {
		out, err = list(tx)
		return err
	})
	return out, err
}

func list(tx *store.Tx) ([]Wrapping, error) {
	var rows []row
	if err := tx.Select(&rows, `SELECT root_key_id, keeper, key_version, wrapped, created_at, wrapped_at FROM keyring_wrappings ORDER BY created_at DESC, root_key_id, keeper`); err != nil {
		return nil, err
	}
	out := make([]Wrapping, 0, len(rows))
	for _, r := range rows {
		out = append(out, Wrapping{RootKeyID: r.RootKeyID, Keeper: r.Keeper, Wrapped: Wrapped{r.Wrapped, r.KeyVersion}, CreatedAt: r.CreatedAt.Time(), WrappedAt: r.WrappedAt.Time()})
	}
	return out, nil
}

// lockName orders the writers of the table.
const lockName = "keyring_wrappings"

// First stores the wrapping of a root key that was made for a database without a keyring, and returns the one that counts: where another
// instance was first, with the same keeper, that is its own.
func First(ctx context.Context, db *store.DB, w Wrapping) (Wrapping, error) {
	var lost *Wrapping
	err := db.Write(ctx, func(tx *store.Tx) error {
		lost = nil
		if err := tx.Lock(lockName); err != nil {
			return err
		}
		all, err := list(tx)
		if err != nil {
			return err
		}
		for i := range all {
			if all[i].Keeper == w.Keeper {
				lost = &all[i]
				return errLost
			}
		}
		return put(tx, w)
	})
	if lost != nil {
		return *lost, nil
	}
	return w, err
}

var errLost = fault.New(fault.Conflict, "state_conflict", "Another instance made the root key first.")

// Keep stores a wrapping, or puts it in the place of the one that this keeper made of this root key before. With was, it does so only if that
// is still what stands there: whoever came between has wrapped it as well, and later.
func Keep(ctx context.Context, db *store.DB, w Wrapping, was *Wrapping) error {
	return db.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(lockName); err != nil {
			return err
		}
		if was == nil {
			return put(tx, w)
		}
		n, err := tx.Exec(`UPDATE keyring_wrappings SET wrapped = $1, key_version = $2, wrapped_at = $3 WHERE root_key_id = $4 AND keeper = $5 AND wrapped = $6`,
			w.Blob, w.KeyVersion, store.TimeOf(tx.Now()), w.RootKeyID, w.Keeper, was.Blob)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.Conflict, "state_conflict", "The root key was wrapped anew, or its wrapping removed, by somebody else meanwhile. Look with: signalbox root-key list")
		}
		return tx.Record(w.event(store.AdminRootKeyWrap, store.Bool("rewrapped", true)))
	})
}

func put(tx *store.Tx, w Wrapping) error {
	now := store.TimeOf(tx.Now())
	n, err := tx.Exec(`INSERT INTO keyring_wrappings (root_key_id, keeper, key_version, wrapped, created_at, wrapped_at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (root_key_id, keeper) DO NOTHING`, w.RootKeyID, w.Keeper, w.KeyVersion, w.Blob, now, now)
	if err != nil {
		return err
	}
	if n == 0 {
		return fault.New(fault.Conflict, "already_exists", fmt.Sprintf("Root key %s is wrapped by %s already. To wrap it under a newer version of the key: signalbox root-key rewrap", w.RootKeyID, w.Keeper))
	}
	return tx.Record(w.event(store.AdminRootKeyWrap, store.Bool("rewrapped", false)))
}

// Forget removes wrappings.
func Forget(ctx context.Context, db *store.DB, gone []Wrapping) error {
	return db.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(lockName); err != nil {
			return err
		}
		for _, w := range gone {
			n, err := tx.Exec(`DELETE FROM keyring_wrappings WHERE root_key_id = $1 AND keeper = $2`, w.RootKeyID, w.Keeper)
			if err != nil {
				return err
			}
			if n == 0 {
				return fault.New(fault.NotFound, "not_found", "There is no such wrapping any more.")
			}
			if err := tx.Record(w.event(store.AdminRootKeyForget)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Taken records that the root key leaves its keeper for a file; it is called before it does.
func Taken(ctx context.Context, db *store.DB, w Wrapping) error {
	return db.Write(ctx, func(tx *store.Tx) error { return tx.Record(w.event(store.AdminRootKeyUnwrap)) })
}

func (w Wrapping) event(action store.Action, more ...store.Detail) store.Event {
	return store.Event{
		Actor: store.Actor{Kind: "system", Name: "root key"}, Action: action, Target: store.Target{Kind: "root_key", ID: w.RootKeyID},
		Details: append(store.Details{store.Str("keeper", w.Keeper), store.Str("key_version", w.KeyVersion)}, more...),
	}
}
