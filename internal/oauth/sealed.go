package oauth

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Sealed lists what the connections keep under data keys in the database; [Room.SealFiles] is for the rest.
func Sealed(vault *vault.Room) []keyring.Place {
	return []keyring.Place{{Table: "oauth_connections", ID: "credential_id", N: "generation", Columns: []keyring.Column{{Name: "mark", At: keyring.InMAC}},
		Renew: func(tx *store.Tx, row keyring.Row) ([][]byte, error) {
			mark, err := vault.Remark(tx, row.ID, row.A)
			return [][]byte{mark}, err
		}, Stale: true}} // the mark of a token that another has followed
}

// Sealed lists what logins and stored providers keep under data keys.
func (l *Logins) Sealed() []keyring.Place {
	return []keyring.Place{
		// The binding vouches for the sealed secret as well, so they move together.
		{Table: "oauth_providers", ID: "id", N: "revision", Columns: []keyring.Column{{Name: "binding", At: keyring.InMAC}, {Name: "secret", At: keyring.InEnvelope}},
			Renew: l.rebind},
		keyring.Sealed("oauth_flows", "sealed", flowPurpose, "id", "", "", func(row keyring.Row) (secret.AAD, error) { return flowAAD(row.ID), nil }),
	}
}

// rebind seals the client secret of a provider anew and makes its MAC anew. A row that does not fit its MAC is used for nothing, and stays so.
func (l *Logins) rebind(tx *store.Tx, row keyring.Row) ([][]byte, error) {
	var w providerRow
	if err := tx.Get(&w, `SELECT `+providerColumns+` FROM oauth_providers WHERE id = $1`, row.ID); err != nil {
		return nil, err
	}
	same, err := l.binder.SameMAC(bindingPurpose, w.Binding, w.bindingText())
	if _, closed := fault.As(err); closed {
		return nil, err
	}
	if err != nil || !same {
		return nil, keyring.ErrMoot
	}
	if w.Secret != nil {
		v, err := l.ring.Open(providerPurpose, w.Secret, w.aad())
		if err != nil {
			return nil, err
		}
		if w.Secret, err = l.ring.Seal(providerPurpose, v, w.aad()); err != nil {
			return nil, err
		}
	}
	if w.Binding, err = l.binder.MAC(bindingPurpose, w.bindingText()); err != nil {
		return nil, err
	}
	return [][]byte{w.Binding, w.Secret}, nil
}

// SealFiles seals the refreshed tokens anew that wait on this instance's disk, under the active data key: they must open after the old one is gone.
// What does not open is left alone.
func (r *Room) SealFiles(ctx context.Context) error { return r.spills.sealAnew(ctx) }

func (d spillDir) sealAnew(ctx context.Context) error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	var out error
	for _, e := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		base, _ := strings.CutSuffix(e.Name(), overtakenMark)
		if strings.HasSuffix(base, spillEnding) {
			out = errors.Join(out, d.sealOne(e.Name(), base))
		}
	}
	return out
}

// sealOne replaces a file by the same pair, sealed anew. Nobody moves or removes it meanwhile: a pair that has gone must not come back.
func (d spillDir) sealOne(name, base string) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	s, err := d.place(name, base)
	if err != nil {
		return nil // not ours; [spillDir.list] tells of it
	}
	path := filepath.Join(d.path, name)
	box, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	v, err := d.ring.Open(spillPurpose, box, s.aad())
	if _, closed := fault.As(err); closed {
		return err
	}
	if err != nil {
		return nil
	}
	if box, err = d.ring.Seal(spillPurpose, v, s.aad()); err != nil {
		return err
	}
	return d.put(path, box)
}
