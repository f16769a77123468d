package keyring

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// unsealing is the purpose of the proof that somebody with the root key lifted a seal.
const unsealing = "mac/keyring-unseal"

// ServerSeal is the mark that the servers of a database are sealed: they lend nothing, open nothing and hold no data key until it is lifted. The zero
// value says that there never was one.
type ServerSeal struct {
	ID string
	// At is when it was set, By the name of who did it, Reason what they wrote.
	At         time.Time
	By, Reason string
	// Lifted is when it was lifted; zero while it is in force.
	Lifted time.Time
	proof  []byte
}

// InForce reports whether the servers must be sealed.
func (s ServerSeal) InForce() bool { return s.ID != "" && s.Lifted.IsZero() }

// Fault is the answer of a sealed server.
func (s ServerSeal) Fault() *fault.Error {
	return fault.New(fault.Unavailable, "encryption_key_missing",
		"Signalbox is sealed: nothing is lent, opened or changed. An operator unseals it, on a machine that has the root key, with: signalbox unseal")
}

type sealRow struct {
	ID     string     `db:"id"`
	At     store.Time `db:"sealed_at"`
	By     string     `db:"sealed_by"`
	Reason string     `db:"reason"`
	Lifted int64      `db:"unsealed_at"`
	Proof  []byte     `db:"proof"`
}

// SealOf returns the seal of the database that is in force, or else the newest.
func SealOf(ctx context.Context, db *store.DB) (ServerSeal, error) {
	var s ServerSeal
	err := db.Read(ctx, func(tx *store.Tx) (err error) {
		s, err = readSeal(tx)
		return err
	})
	return s, err
}

func readSeal(tx *store.Tx) (ServerSeal, error) {
	var row sealRow
	err := tx.Get(&row, `SELECT id, sealed_at, sealed_by, reason, unsealed_at, proof FROM keyring_seals ORDER BY CASE WHEN unsealed_at = 0 THEN 0 ELSE 1 END, sealed_at DESC LIMIT 1`)
	if errors.Is(err, store.ErrNotFound) {
		return ServerSeal{}, nil
	}
	if err != nil {
		return ServerSeal{}, err
	}
	s := ServerSeal{ID: row.ID, At: row.At.Time(), By: row.By, Reason: row.Reason, proof: row.Proof}
	if row.Lifted != 0 {
		s.Lifted = store.Time(row.Lifted).Time()
	}
	return s, nil
}

// SealServers sets the seal, and records ev with it. Every server of the database hears of it by the change feed. The fault state_conflict says that it
// is set already.
func SealServers(ctx context.Context, db *store.DB, ev store.Event, reason string) (ServerSeal, error) {
	var out ServerSeal
	err := db.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock("keyring"); err != nil {
			return err
		}
		before, err := readSeal(tx)
		if err != nil {
			return err
		}
		if before.InForce() {
			return fault.New(fault.Conflict, "state_conflict", "Signalbox is sealed already.")
		}
		// What was lifted before is in the audit log; the table holds what still matters.
		if _, err := tx.Exec(`DELETE FROM keyring_seals`); err != nil {
			return err
		}
		out = ServerSeal{ID: store.NewID("sea"), At: tx.Now(), By: ev.Actor.Name, Reason: reason}
		if _, err := tx.Exec(`INSERT INTO keyring_seals (id, sealed_at, sealed_by, reason) VALUES ($1, $2, $3, $4)`, out.ID, store.TimeOf(out.At), out.By, out.Reason); err != nil {
			return err
		}
		ev.Target.ID = out.ID
		ev.Details = append(ev.Details, store.Str("reason", reason))
		tx.Change(store.TopicKeyring, out.ID)
		return tx.Record(ev)
	})
	return out, err
}

// UnsealServers lifts the seal for somebody who has the root key, and leaves the proof of that for the servers. The second result is false when no seal
// was in force and the last one was lifted by its proof; with again a new proof is left then too, for servers that stand sealed although the database no
// longer says so. The fault encryption_key_missing says that the root key is not that of the keyring.
func UnsealServers(ctx context.Context, db *store.DB, root secret.RootKey, host string, again bool) (out ServerSeal, did bool, err error) {
	err = db.Write(ctx, func(tx *store.Tx) error {
		did = false
		if err := tx.Lock("keyring"); err != nil {
			return err
		}
		k, err := read(tx)
		if err != nil {
			return err
		}
		keys, err := k.opened(root)
		if err != nil {
			return err
		}
		if out, err = readSeal(tx); err != nil {
			return err
		}
		if out.ID == "" && !again || out.ID != "" && !out.InForce() && out.provenBy(keys) && !again {
			return errAsItWas
		}
		if out.ID == "" || !out.InForce() && again {
			out = ServerSeal{ID: store.NewID("sea"), At: tx.Now(), By: "unseal --again"} // newer than any that a server stands sealed by
		}
		if out.proof, err = unsealProof(keys, keys.active, out.ID); err != nil {
			return err
		}
		out.Lifted, did = tx.Now(), true
		if _, err := tx.Exec(`DELETE FROM keyring_seals`); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO keyring_seals (id, sealed_at, sealed_by, reason, unsealed_at, proof) VALUES ($1, $2, $3, $4, $5, $6)`,
			out.ID, store.TimeOf(out.At), out.By, out.Reason, store.TimeOf(out.Lifted), out.proof); err != nil {
			return err
		}
		tx.Change(store.TopicKeyring, out.ID)
		return tx.Record(store.Event{Actor: store.Actor{Kind: "system", Name: "unseal"}, Action: store.AdminUnseal, Target: store.Target{Kind: "keyring", ID: out.ID},
			Details: store.Details{store.Str("root_key", root.ID()), store.Str("host", host), store.Str("sealed_at", out.At.UTC().Format(time.RFC3339))}})
	})
	if errors.Is(err, errAsItWas) {
		err = nil
	}
	return out, did, err
}

// errUnproven is the answer to a seal that was lifted by somebody who only writes to the database.
var errUnproven = errors.New("keyring: the seal was lifted without the root key, or its data key is gone; if that is right, run signalbox unseal again")

// Proven returns nil when the seal was lifted by somebody who had the root key of the keyring. It needs the root key itself.
func (s ServerSeal) Proven(ctx context.Context, db *store.DB, root secret.RootKey) error {
	if s.ID == "" || s.InForce() {
		return errUnproven
	}
	k, err := load(ctx, db)
	if err != nil {
		return err
	}
	keys, err := k.opened(root)
	if err != nil {
		return err
	}
	if !s.provenBy(keys) {
		return errUnproven
	}
	return nil
}

// provenBy reports whether the proof was made with one of the data keys.
func (s ServerSeal) provenBy(keys *held) bool {
	if len(s.proof) != macVersion+sha256.Size {
		return false
	}
	want, err := unsealProof(keys, binary.BigEndian.Uint32(s.proof), s.ID)
	return err == nil && hmac.Equal(want, s.proof)
}

// unsealProof is the MAC over a seal that was lifted, under a data key: both root keys open those while the root key is being changed.
func unsealProof(keys *held, version uint32, id string) ([]byte, error) {
	key, ok := keys.keys[version]
	if !ok {
		return nil, errUnproven
	}
	sub, err := key.Subkey(unsealing, secret.KeySize)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, sub)
	_, _ = h.Write([]byte(id)) // a hash never fails
	return h.Sum(binary.BigEndian.AppendUint32(nil, version)), nil
}
