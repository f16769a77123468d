package keyring

import (
	"context"
	"errors"
	"math"
	"strings"

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

const (
	stateActive  = "active"
	stateRetired = "retired"
)

type keyRow struct {
	Version   int64
	RootKeyID string
	Wrapped   []byte
	State     string
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
	err := db.Read(ctx, func(tx *store.Tx) error {
		k = kept{}
		var rows []struct {
			Check     int64  `db:"is_check"`
			Version   int64  `db:"version"`
			RootKeyID string `db:"root_key_id"`
			Box       []byte `db:"box"`
			State     string `db:"state"`
		}
		if err := tx.Select(&rows, `SELECT 0 AS is_check, version, root_key_id, wrapped AS box, state FROM keyring_keys
			UNION ALL SELECT 1, 0, root_key_id, sealed, '' FROM keyring_checks ORDER BY 1, 2, 3`); err != nil {
			return err
		}
		for _, w := range rows {
			if w.Check == 1 {
				k.checks = append(k.checks, checkRow{w.RootKeyID, w.Box})
			} else {
				k.keys = append(k.keys, keyRow{w.Version, w.RootKeyID, w.Box, w.State})
			}
		}
		return nil
	})
	return k, err
}

func (k kept) empty() bool { return len(k.keys) == 0 && len(k.checks) == 0 }

// unwrap opens every data key. A keyring that is only partly readable is refused whole: serving without some of the records would look
// like losing them.
func (k kept) unwrap(root secret.RootKey) (*Ring, error) {
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
		return nil, fault.New(fault.Unavailable, "encryption_key_missing",
			"No root key is given, and the keyring of this database was made with root key "+made+". Give that key in SIGNALBOX_ROOT_KEY or SIGNALBOX_ROOT_KEY_FILE and start again; without it the sealed credentials cannot be opened by anyone.")
	}
	if check == nil {
		if made == "" {
			return nil, damaged("it has data keys but no key-check value", nil)
		}
		return nil, fault.New(fault.Unavailable, "encryption_key_missing",
			"The keyring of this database was made with root key "+made+", but this server was given root key "+root.ID()+". Give it the key "+made+" and start again, or point it at the database that belongs to "+root.ID()+".")
	}
	proof, err := root.Derive(checking)
	if err != nil {
		return nil, err
	}
	if got, err := proof.Open(check, checkAAD(root.ID())); err != nil || !got.Equal(secret.FromString(checkText)) {
		return nil, damaged("its key-check value does not open with root key "+root.ID(), err)
	}
	wrap, err := root.Derive(wrapping)
	if err != nil {
		return nil, err
	}
	r := &Ring{keys: make(map[uint32]secret.Key, len(k.keys))}
	for _, row := range k.keys {
		if row.Version < 1 || row.Version > math.MaxUint32 || row.RootKeyID != root.ID() {
			return nil, damaged("a data key does not belong to root key "+root.ID(), nil)
		}
		raw, err := wrap.Open(row.Wrapped, wrapAAD(row.RootKeyID, row.Version))
		if err != nil {
			return nil, damaged("a data key does not open with root key "+root.ID(), err)
		}
		key, err := secret.KeyFrom(raw)
		if err != nil {
			return nil, damaged("a data key has the wrong length", err)
		}
		version := uint32(row.Version)
		r.keys[version] = key
		switch row.State {
		case stateActive:
			r.active = version
		case stateRetired:
		default:
			return nil, damaged("a data key is in an unknown state", nil)
		}
	}
	if r.active == 0 {
		return nil, damaged("no data key is active", nil)
	}
	return r, nil
}

func damaged(what string, cause error) error {
	return fault.New(fault.Unavailable, "encryption_key_missing",
		"The keyring of this database is damaged: "+what+". Restore the tables keyring_keys and keyring_checks from a backup of this database.").Because(cause)
}

// first makes data key 1 and the key-check value.
func first(tx *store.Tx, root secret.RootKey) error {
	proof, err := root.Derive(checking)
	if err != nil {
		return err
	}
	check, err := proof.Seal(secret.FromString(checkText), checkAAD(root.ID()))
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`INSERT INTO keyring_checks (root_key_id, sealed) VALUES ($1, $2)`, root.ID(), check); err != nil {
		return err
	}
	if err := add(tx, root, 1); err != nil {
		return err
	}
	return tx.Record(store.Event{
		Actor: store.Actor{Kind: "system", Name: "keyring"}, Action: store.AdminKeyring, Target: store.Target{Kind: "keyring", ID: root.ID()},
		Details: store.Details{store.Int("data_key", 1)},
	})
}

// add makes a data key with that version and stores it, wrapped, as the active one.
func add(tx *store.Tx, root secret.RootKey, version int64) error {
	if version < 1 || version > math.MaxUint32 {
		return errors.New("keyring: a data key's version must fit the envelope")
	}
	key, err := secret.NewKey()
	if err != nil {
		return err
	}
	wrap, err := root.Derive(wrapping)
	if err != nil {
		return err
	}
	wrapped, err := wrap.Seal(key.Value(), wrapAAD(root.ID(), version))
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO keyring_keys (version, root_key_id, wrapped, created_at, state) VALUES ($1, $2, $3, $4, $5)`,
		version, root.ID(), wrapped, store.TimeOf(tx.Now()), stateActive)
	return err
}

func wrapAAD(rootID string, version int64) secret.AAD {
	return secret.AAD{Table: "keyring_keys", ID: rootID, Field: "wrapped", Version: version}
}

func checkAAD(rootID string) secret.AAD {
	return secret.AAD{Table: "keyring_checks", ID: rootID, Field: "sealed"}
}
