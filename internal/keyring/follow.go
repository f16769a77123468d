package keyring

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// follow reads the keyring anew when it changed. It is the first subscriber of an instance: the rooms open records when they follow.
func (r *Ring) follow(ctx context.Context, changes []store.Change) error {
	for _, c := range changes {
		if c.Topic == store.TopicKeyring || c.Topic == store.TopicReset {
			return r.reload(ctx)
		}
	}
	return nil
}

// reload reads the keyring anew.
func (r *Ring) reload(ctx context.Context) error {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	kept, err := load(ctx, r.db)
	if err != nil {
		return err
	}
	return r.take(kept)
}

// take makes the kept keyring the held one. Keys that were destroyed meanwhile linger, since somebody may just have read a record.
func (r *Ring) take(k kept) error {
	before := r.at.Load()
	var next *held
	var err error
	if before == nil || k.hasRoot(r.rootID) {
		next, err = k.unwrap(r.wrap, r.rootID)
		r.outlived.Store(false)
	} else {
		if r.outlived.CompareAndSwap(false, true) {
			r.log.Error("the root key was changed, and this instance was started with the one before; it goes on with the data keys that it holds; start it anew with the new root key", "root_key", r.rootID)
		}
		next, err = k.outlive(before, r.rootID)
	}
	if err != nil {
		return err
	}
	now := time.Now()
	if before == nil {
		before = &held{}
	}
	for version, key := range before.keys {
		if _, stays := next.keys[version]; stays {
			continue
		}
		until, late := before.late[version]
		if !late {
			until = now.Add(r.linger)
			time.AfterFunc(r.linger+time.Millisecond, r.drop)
		}
		if now.Before(until) {
			next.keys[version], next.late[version] = key, until
		}
	}
	for _, row := range k.keys {
		if !row.Further && row.State != stateGone {
			r.usage(uint32(row.Version)).saw(row.Seals)
		}
	}
	r.at.Store(next)
	r.forget(next)
	return nil
}

// drop takes what has lingered long enough out of memory.
func (r *Ring) drop() {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	before := r.at.Load()
	next := &held{active: before.active, newest: before.newest, keys: map[uint32]secret.Key{}, late: map[uint32]time.Time{}}
	now := time.Now()
	for version, key := range before.keys {
		until, late := before.late[version]
		if late && !now.Before(until) {
			continue
		}
		next.keys[version] = key
		if late {
			next.late[version] = until
		}
	}
	r.at.Store(next)
	r.forget(next)
}

// forget drops the subkeys of keys that are no longer held.
func (r *Ring) forget(h *held) {
	gone := func(at any) bool { _, held := h.keys[at.(subkey).version]; return !held }
	for at := range r.sealers.Range {
		if gone(at) {
			r.sealers.Delete(at)
		}
	}
	for at := range r.macs.Range {
		if gone(at) {
			r.macs.Delete(at)
		}
	}
}

// lookPatience is how long the look into the database may take that [Ring.key] makes.
const lookPatience = 2 * time.Second

// key returns a data key. For the one after the newest that is known it looks into the database: another instance may have sealed with it before
// the news came here, although it waits for them.
func (r *Ring) key(version uint32) (secret.Key, error) {
	h := r.at.Load()
	if key, ok := h.keys[version]; ok {
		return key, nil
	}
	if version != h.newest+1 || r.db == nil {
		return secret.Key{}, ErrUnknownKey
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookPatience)
	defer cancel()
	if err := r.reload(ctx); err != nil {
		r.log.Warn("the keyring could not be read anew", "cause", err)
		return secret.Key{}, errors.Join(ErrUnknownKey, err)
	}
	if key, ok := r.at.Load().keys[version]; ok {
		return key, nil
	}
	return secret.Key{}, ErrUnknownKey
}

const (
	// sealsMost is how often one data key seals: 2^32, less what instances may do before they have told one another.
	sealsMost = 1<<32 - 1<<24
	// sealsMany is where the warnings begin.
	sealsMany = 1 << 31
)

// usage counts the seals of one data key.
type usage struct {
	stored atomic.Int64 // by every instance, as the database had it
	own    atomic.Int64 // by this one since
	warned atomic.Bool
}

func (r *Ring) usage(version uint32) *usage {
	if u, ok := r.used.Load(version); ok {
		return u.(*usage)
	}
	u, _ := r.used.LoadOrStore(version, &usage{})
	return u.(*usage)
}

// saw takes the count of the database, which never falls.
func (u *usage) saw(n int64) {
	for {
		have := u.stored.Load()
		if n <= have || u.stored.CompareAndSwap(have, n) {
			return
		}
	}
}

// spend counts one seal, or refuses it.
func (r *Ring) spend(version uint32) error {
	u := r.usage(version)
	n := u.stored.Load() + u.own.Add(1)
	if n < sealsMany {
		return nil
	}
	if n > sealsMost {
		return fault.New(fault.Unavailable, "data_key_exhausted",
			"The active data key has sealed as much as one key may (2^32 times), so nothing new can be stored. What is stored can be read. An administrator changes the data key with: signalbox rekey")
	}
	if u.warned.CompareAndSwap(false, true) {
		r.log.Warn("the active data key has sealed half of what one key may; change it soon with: signalbox rekey", "data_key", version, "seals", n, "most", int64(sealsMost))
	}
	return nil
}

// Seals returns how often the active data key has sealed, as far as this instance knows.
func (r *Ring) Seals() int64 {
	if r.closed() {
		return 0
	}
	u := r.usage(r.at.Load().active)
	return u.stored.Load() + u.own.Load()
}

// Active returns the version of the data key that seals.
func (r *Ring) Active() uint32 {
	if r.closed() {
		return 0
	}
	return r.at.Load().active
}

// writeSeals writes down what this instance has counted since.
func (r *Ring) writeSeals(ctx context.Context) error {
	var out error
	for version, value := range r.used.Range {
		u := value.(*usage)
		own := u.own.Load()
		if own == 0 {
			continue
		}
		var total int64
		err := r.db.Bookkeep(ctx, store.Counter, func(tx *store.Tx) error {
			return tx.Get(&total, `UPDATE keyring_keys SET seals = seals + $1 WHERE version = $2 RETURNING seals`, own, int64(version.(uint32)))
		})
		if err != nil {
			out = errors.Join(out, err)
			continue
		}
		u.saw(total)
		u.own.Add(-own)
	}
	return out
}
