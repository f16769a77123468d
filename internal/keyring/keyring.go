// Package keyring holds the data keys that seal every record, and opens them with the root key. It also changes the data key while all goes on.
//
// Promise: a data key exists outside memory only wrapped by the root key; a record is sealed under a subkey of one data key and one
// purpose; a ring that was opened with another root key than it was made with does not open at all, and says so by key ids alone. A change of
// the data key ([Rekeyer]) loses no record, whatever is cut off in its midst, and ends with the old key destroyed. While the root key is changed ([AddRoot], [KeepRoot])
// the old and the new one both open the ring; afterwards the new one alone.
//
// Limits: random nonces allow 2^32 seals per data key and purpose. All purposes of a key are counted together, written down each ten seconds
// and at the end of a process, so that a crash may lose the count of the last seconds; a key is refused 2^24 seals before its end. Whoever holds
// the database and the root key reads everything.
//
// Invariants: one data key is active and seals; incoming, retired and leaving ones only open, and under one that is leaving or gone nothing can
// be stored; a wrapped key is bound to its version and root key, an envelope to its place ([secret.AAD]), its purpose and its data key.
package keyring

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Config says where the wrapped keys lie and what opens them.
type Config struct {
	DB   *store.DB
	Root secret.RootKey
	Log  *slog.Logger
	// Linger is how long a destroyed data key stays in memory, for who has read a record just before; [linger] when it is zero.
	Linger time.Duration
}

// linger outlasts whatever reads many records in one transaction.
const linger = time.Minute

// Ring seals and opens records, and follows the keyring of the database by the change feed. It is safe for concurrent use. Make it with [Open].
type Ring struct {
	db     *store.DB
	log    *slog.Logger
	linger time.Duration

	rootID    string
	wrap      secret.Sealer // the root key's subkey that opens data keys; the root key itself is not kept
	outlived  atomic.Bool   // the root key opens the keyring no more
	at        atomic.Pointer[held]
	reloading sync.Mutex
	sealers   sync.Map // subkey → secret.Sealer; deriving costs more than sealing
	macs      sync.Map // subkey → []byte, the keys of [Ring.MAC]
	used      sync.Map // version → *usage
}

// held is the keyring as this instance knows it. It is never changed, only replaced.
type held struct {
	active uint32
	newest uint32
	keys   map[uint32]secret.Key
	late   map[uint32]time.Time // until when keys stay that were destroyed
}

type subkey struct {
	version uint32
	purpose string
}

// The envelope of a sealed record: one byte of format, the data key's version (big-endian), then nonce, ciphertext and tag.
const (
	format     = 0x01
	headerSize = 5
)

// ErrUnknownKey is returned when a record names a data key that the ring does not hold: the record is damaged, or it comes from another
// database.
var ErrUnknownKey = errors.New("keyring: the record names a data key that is not in the keyring")

// Open reads the keyring of the database and unwraps it. On the first start of a database it makes the first data key and the key-check
// value. The fault encryption_key_missing says that the root key is missing or another one, naming key ids only.
func Open(ctx context.Context, cfg Config) (*Ring, error) {
	if cfg.DB == nil {
		return nil, errors.New("keyring: no database given")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	kept, err := load(ctx, cfg.DB)
	if err != nil {
		return nil, err
	}
	if kept.empty() {
		if cfg.Root.IsZero() {
			return nil, fault.New(fault.Unavailable, "encryption_key_missing",
				"No root key is given, so no keyring can be made. Set SIGNALBOX_ROOT_KEY or SIGNALBOX_ROOT_KEY_FILE to 32 random bytes in base64 (signalbox keygen prints some) and start again.")
		}
		// Two instances may start on an empty database at once; the loser of the race takes the winner's keys.
		err := cfg.DB.Write(ctx, func(tx *store.Tx) error { return first(tx, cfg.Root) })
		switch {
		case err == nil:
			cfg.Log.Info("the keyring was made", "root_key", cfg.Root.ID(), "data_key", 1)
		case !store.IsConflict(err):
			return nil, fmt.Errorf("make the keyring: %w", err)
		}
		if kept, err = load(ctx, cfg.DB); err != nil {
			return nil, err
		}
	}
	if err := kept.proves(cfg.Root); err != nil {
		return nil, err
	}
	wrap, err := cfg.Root.Derive(wrapping)
	if err != nil {
		return nil, err
	}
	if cfg.Linger == 0 {
		cfg.Linger = linger
	}
	r := &Ring{db: cfg.DB, log: cfg.Log, linger: cfg.Linger, rootID: cfg.Root.ID(), wrap: wrap}
	if err := r.take(kept); err != nil {
		return nil, err
	}
	if at := kept.roots(); at.Next != "" {
		cfg.Log.Warn("the root key is being changed; both keys open the keyring until that is ended with: signalbox rekey --root --finish", "root_key", r.rootID, "present", at.Present, "next", at.Next)
	}
	cfg.DB.Subscribe(r.follow)
	return r, nil
}

// Exists reports whether the database has a keyring already. Where there is one, a fresh root key would be of no use.
func Exists(ctx context.Context, db *store.DB) (bool, error) {
	kept, err := load(ctx, db)
	return err == nil && !kept.empty(), err
}

// Ready returns nil when the ring can seal and open, and the fault encryption_key_missing otherwise.
func (r *Ring) Ready() error {
	probe, aad := secret.FromString("ready"), secret.AAD{Table: "keyring_keys", ID: "probe", Field: "ready"}
	box, err := r.Seal("ready", probe, aad)
	if err != nil {
		return sealed().Because(err)
	}
	got, err := r.Open("ready", box, aad)
	if err != nil || !got.Equal(probe) {
		return sealed().Because(err)
	}
	return nil
}

// closed reports whether the ring was not made by [Open].
func (r *Ring) closed() bool { return r == nil || r.at.Load() == nil }

func sealed() *fault.Error {
	return fault.New(fault.Unavailable, "encryption_key_missing",
		"The keyring is not open, so nothing can be sealed or lent. An operator must start Signalbox with its root key.")
}

// Seal seals v for one purpose under the active data key. The purpose is a constant of the calling room, such as "credential".
func (r *Ring) Seal(purpose string, v secret.Value, aad secret.AAD) ([]byte, error) {
	if r.closed() {
		return nil, sealed()
	}
	active := r.at.Load().active
	s, err := r.sealer(active, purpose)
	if err != nil {
		return nil, err
	}
	if err := r.spend(active); err != nil {
		return nil, err
	}
	body, err := s.Seal(v, aad)
	if err != nil {
		return nil, err
	}
	box := make([]byte, headerSize, headerSize+len(body))
	box[0] = format
	binary.BigEndian.PutUint32(box[1:], active)
	return append(box, body...), nil
}

// Open opens what [Ring.Seal] sealed for the same purpose in the same place. The error is [ErrUnknownKey] or [secret.ErrOpen] (or the
// fault encryption_key_missing); it tells nothing of the content.
func (r *Ring) Open(purpose string, box []byte, aad secret.AAD) (secret.Value, error) {
	if r.closed() {
		return secret.Value{}, sealed()
	}
	if len(box) < headerSize || box[0] != format {
		return secret.Value{}, secret.ErrOpen
	}
	s, err := r.sealer(binary.BigEndian.Uint32(box[1:]), purpose)
	if err != nil {
		return secret.Value{}, err
	}
	return s.Open(box[headerSize:], aad)
}

func (r *Ring) sealer(version uint32, purpose string) (secret.Sealer, error) {
	if purpose == "" {
		return secret.Sealer{}, errors.New("keyring: a purpose is needed")
	}
	at := subkey{version, purpose}
	if s, ok := r.sealers.Load(at); ok {
		return s.(secret.Sealer), nil
	}
	key, err := r.key(version)
	if err != nil {
		return secret.Sealer{}, err
	}
	s, err := key.Derive(purpose)
	if err != nil {
		return secret.Sealer{}, err
	}
	r.sealers.Store(at, s)
	return s, nil
}
