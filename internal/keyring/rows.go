package keyring

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Purposes under the root key. Data keys have purposes of their own, which these cannot meet: they are subkeys of another key.
const (
	wrapping = "keyring-wrap"
	checking = "keyring-check"
)

// checkText is what the key-check value holds. It is no secret; that it opens proves the root key.
const checkText = "signalbox keyring check"

// The states of a data key, in their order.
const (
	stateIncoming = "incoming" // opens, so that every instance knows it before one seals with it
	stateActive   = "active"
	stateRetired  = "retired" // opens
	stateLeaving  = "leaving" // opens, and nothing can be stored under it
	stateGone     = "gone"    // destroyed
)

type keyRow struct {
	Version   int64
	RootKeyID string
	Wrapped   []byte
	State     string
	Seals     int64
	Further   bool // wrapped by a second root key
}

type checkRow struct {
	RootKeyID string
	Sealed    []byte
}

// kept is the keyring as it lies in the database.
type kept struct {
	keys   []keyRow
	checks []checkRow
}

// load reads the whole keyring in one statement, hence as it was at one moment: another instance may be making it just now, and its keys
// without its check would look like damage.
func load(ctx context.Context, db *store.DB) (kept, error) {
	var k kept
	err := db.Read(ctx, func(tx *store.Tx) (err error) {
		k, err = read(tx)
		return err
	})
	return k, err
}

func read(tx *store.Tx) (k kept, err error) {
	var rows []struct {
		Check     int64  `db:"is_check"`
		Version   int64  `db:"version"`
		RootKeyID string `db:"root_key_id"`
		Box       []byte `db:"box"`
		State     string `db:"state"`
		Seals     int64  `db:"seals"`
	}
	if err := tx.Select(&rows, `SELECT 0 AS is_check, version, root_key_id, wrapped AS box, state, seals FROM keyring_keys
		UNION ALL SELECT 2, version, root_key_id, wrapped, '', 0 FROM keyring_wraps
		UNION ALL SELECT 1, 0, root_key_id, sealed, '', 0 FROM keyring_checks ORDER BY 1, 2, 3`); err != nil {
		return kept{}, err
	}
	for _, w := range rows {
		if w.Check == 1 {
			k.checks = append(k.checks, checkRow{w.RootKeyID, w.Box})
		} else {
			k.keys = append(k.keys, keyRow{w.Version, w.RootKeyID, w.Box, w.State, w.Seals, w.Check == 2})
		}
	}
	return k, nil
}

func (k kept) empty() bool { return len(k.keys) == 0 && len(k.checks) == 0 }

// proves returns nil when the keyring belongs to the root key.
func (k kept) proves(root secret.RootKey) error {
	var ids []string
	var check []byte
	for _, c := range k.checks {
		ids = append(ids, c.RootKeyID)
		if c.RootKeyID == root.ID() {
			check = c.Sealed
		}
	}
	made := strings.Join(ids, " and ")
	if root.IsZero() {
		return fault.New(fault.Unavailable, "encryption_key_missing",
			"No root key is given, and the keyring of this database was made with root key "+made+". Give that key in SIGNALBOX_ROOT_KEY or SIGNALBOX_ROOT_KEY_FILE and start again; without it the sealed credentials cannot be opened by anyone.")
	}
	if check == nil {
		if made == "" {
			return damaged("it has data keys but no key-check value", nil)
		}
		return fault.New(fault.Unavailable, "encryption_key_missing",
			"The keyring of this database was made with root key "+made+", but this server was given root key "+root.ID()+". Give it the key "+made+" and start again, or point it at the database that belongs to "+root.ID()+".")
	}
	proof, err := root.Derive(checking)
	if err != nil {
		return err
	}
	if got, err := proof.Open(check, checkAAD(root.ID())); err != nil || !got.Equal(secret.FromString(checkText)) {
		return damaged("its key-check value does not open with root key "+root.ID(), err)
	}
	return nil
}

// unwrap opens every data key. A keyring that is only partly readable is refused whole: serving without some of the records would look
// like losing them.
func (k kept) unwrap(wrap secret.Sealer, rootID string) (*held, error) {
	wrapped := map[int64][]byte{}
	for _, row := range k.keys {
		if row.RootKeyID == rootID {
			wrapped[row.Version] = row.Wrapped
		}
	}
	h := &held{keys: make(map[uint32]secret.Key, len(k.keys)), late: map[uint32]time.Time{}}
	for _, row := range k.keys {
		if row.Further {
			continue
		}
		if row.Version < 1 || row.Version > math.MaxUint32 {
			return nil, damaged("a data key does not belong to root key "+rootID, nil)
		}
		version := uint32(row.Version)
		h.newest = max(h.newest, version)
		switch row.State {
		case stateActive:
			h.active = version
		case stateIncoming, stateRetired, stateLeaving:
		case stateGone:
			continue
		default:
			return nil, damaged("a data key is in an unknown state", nil)
		}
		box, ours := wrapped[row.Version]
		if !ours {
			return nil, damaged("a data key does not belong to root key "+rootID, nil)
		}
		raw, err := wrap.Open(box, wrapAAD(rootID, row.Version))
		if err != nil {
			return nil, damaged("a data key does not open with root key "+rootID, err)
		}
		key, err := secret.KeyFrom(raw)
		if err != nil {
			return nil, damaged("a data key has the wrong length", err)
		}
		h.keys[version] = key
	}
	if h.active == 0 {
		return nil, damaged("no data key is active", nil)
	}
	return h, nil
}

func damaged(what string, cause error) error {
	return fault.New(fault.Unavailable, "encryption_key_missing",
		"The keyring of this database is damaged: "+what+". Restore the tables keyring_keys and keyring_checks from a backup of this database.").Because(cause)
}

// checkOf makes the key-check value of a root key.
func checkOf(root secret.RootKey) ([]byte, error) {
	proof, err := root.Derive(checking)
	if err != nil {
		return nil, err
	}
	return proof.Seal(secret.FromString(checkText), checkAAD(root.ID()))
}

// first makes data key 1 and the key-check value.
func first(tx *store.Tx, root secret.RootKey) error {
	check, err := checkOf(root)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`INSERT INTO keyring_checks (root_key_id, sealed) VALUES ($1, $2)`, root.ID(), check); err != nil {
		return err
	}
	wrap, err := root.Derive(wrapping)
	if err != nil {
		return err
	}
	if err := add(tx, wrap, root.ID(), 1, stateActive); err != nil {
		return err
	}
	return tx.Record(store.Event{
		Actor: store.Actor{Kind: "system", Name: "keyring"}, Action: store.AdminKeyring, Target: store.Target{Kind: "keyring", ID: root.ID()},
		Details: store.Details{store.Int("data_key", 1)},
	})
}

// add makes a data key with that version and stores it, wrapped, in that state.
func add(tx *store.Tx, wrap secret.Sealer, rootID string, version int64, state string) error {
	if version < 1 || version > math.MaxUint32 {
		return errors.New("keyring: a data key's version must fit the envelope")
	}
	key, err := secret.NewKey()
	if err != nil {
		return err
	}
	wrapped, err := wrap.Seal(key.Value(), wrapAAD(rootID, version))
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO keyring_keys (version, root_key_id, wrapped, created_at, state) VALUES ($1, $2, $3, $4, $5)`,
		version, rootID, wrapped, store.TimeOf(tx.Now()), state)
	return err
}

func wrapAAD(rootID string, version int64) secret.AAD {
	return secret.AAD{Table: "keyring_keys", ID: rootID, Field: "wrapped", Version: version}
}

func checkAAD(rootID string) secret.AAD {
	return secret.AAD{Table: "keyring_checks", ID: rootID, Field: "sealed"}
}
