package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// signerPurpose is the keyring's purpose for the key that signs checkpoints.
const signerPurpose = "audit-signer"

type signerRow struct {
	ID       string `db:"id"`
	Verifier string `db:"verifier"`
	Sealed   []byte `db:"sealed"`
}

func (r signerRow) aad() secret.AAD {
	return secret.AAD{Table: "audit_signers", ID: r.ID, Field: "sealed", Version: 1}
}

const newestSigner = `SELECT id, verifier, sealed FROM audit_signers ORDER BY id DESC LIMIT 1`

// openSigner returns the key that signs checkpoints and its public half. It makes the key when the database has none.
func openSigner(ctx context.Context, db *store.DB, ring *keyring.Ring) (note.Signer, string, error) {
	var row signerRow
	err := db.Read(ctx, func(tx *store.Tx) error { return tx.Get(&row, newestSigner) })
	if errors.Is(err, store.ErrNotFound) {
		row, err = makeSigner(ctx, db, ring)
	}
	if err != nil {
		return nil, "", err
	}
	key, err := ring.Open(signerPurpose, row.Sealed, row.aad())
	if err != nil {
		return nil, "", fmt.Errorf("the key that signs audit checkpoints (%s) does not open: %w", row.ID, err)
	}
	signer, err := note.NewSigner(key.Reveal())
	if err != nil {
		return nil, "", fmt.Errorf("the key that signs audit checkpoints (%s) is damaged", row.ID)
	}
	public, err := note.NewVerifier(row.Verifier)
	if err != nil || public.Name() != signer.Name() || public.KeyHash() != signer.KeyHash() {
		return nil, "", fmt.Errorf("the public key of %s does not belong to its private key: the database was changed", row.ID)
	}
	return signer, row.Verifier, nil
}

func makeSigner(ctx context.Context, db *store.DB, ring *keyring.Ring) (row signerRow, err error) {
	fresh := signerRow{ID: store.NewID("sig")}
	private, public, err := note.GenerateKey(rand.Reader, originPrefix+store.NewID("log"))
	if err != nil {
		return row, fmt.Errorf("make the key that signs audit checkpoints: %w", err)
	}
	fresh.Verifier = public
	if fresh.Sealed, err = ring.Seal(signerPurpose, secret.FromString(private), fresh.aad()); err != nil {
		return row, err
	}
	exists := errors.New("another instance was first")
	err = db.Write(ctx, func(tx *store.Tx) error {
		// Instances that start together take turns here, so that one key comes of it.
		var epoch int64
		if err := tx.Get(&epoch, `SELECT epoch FROM elections WHERE name = $1`+tx.ForUpdate(), electionName); err != nil {
			return err
		}
		err := tx.Get(&row, newestSigner)
		if err == nil {
			return exists
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		row = fresh
		if _, err := tx.Exec(`INSERT INTO audit_signers (id, verifier, sealed, created_at) VALUES ($1,$2,$3,$4)`,
			fresh.ID, fresh.Verifier, fresh.Sealed, store.TimeOf(tx.Now())); err != nil {
			return err
		}
		return tx.Record(store.Event{
			Actor: store.Actor{Kind: "system", Name: "audit"}, Action: store.AuditSigner,
			Target:  store.Target{Kind: "signer", ID: fresh.ID, Name: strings.TrimPrefix(public, originPrefix)},
			Details: store.Details{store.Str(verifierDetail, public)},
		})
	})
	if errors.Is(err, exists) {
		err = nil
	}
	return row, err
}

// verifierDetail is the detail of an audit.signer event that holds the public key, so that the key is part of the log that it signs.
const verifierDetail = "verifier"
