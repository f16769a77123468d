package vault_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Somebody who can write the database moves sealed material about. Nothing opens, nothing leaks, and every attempt to use it is on record.
func TestInvariant07OpenWithAnotherRowFieldOrVersionFails(t *testing.T) {
	for name, moves := range map[string][]string{
		"row": {`UPDATE credential_secrets SET sealed = (SELECT s.sealed FROM credential_secrets s WHERE s.credential_id = $2 AND s.version = 2 AND s.field = 'access_token')
			WHERE credential_id = $1 AND version = 2 AND field = 'access_token'`},
		"field": {`UPDATE credential_secrets SET sealed = (SELECT s.sealed FROM credential_secrets s WHERE s.credential_id = $1 AND s.version = 2 AND s.field = 'refresh_token')
			WHERE credential_id = $1 AND version = 2 AND field = 'access_token' AND $2 <> ''`},
		"version rolled back": {`UPDATE credential_secrets SET sealed = (SELECT s.sealed FROM credential_secrets s WHERE s.credential_id = $1 AND s.version = 1 AND s.field = 'access_token')
			WHERE credential_id = $1 AND version = 2 AND field = 'access_token' AND $2 <> ''`},
		"fields renamed": {`UPDATE credential_secrets SET field = 'x' WHERE credential_id = $1 AND version = 2 AND field = 'access_token' AND $2 <> ''`,
			`UPDATE credential_secrets SET field = 'access_token' WHERE credential_id = $1 AND version = 2 AND field = 'refresh_token' AND $2 <> ''`},
		"row removed":        {`DELETE FROM credential_secrets WHERE credential_id = $1 AND version = 2 AND field = 'access_token' AND $2 <> ''`},
		"notes for a secret": {`UPDATE credential_secrets SET sealed = (SELECT notes FROM credentials WHERE id = $1) WHERE credential_id = $1 AND version = 2 AND field = 'access_token' AND $2 <> ''`},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, f *fixture) {
				ids := make([]string, 2)
				for i := range ids {
					d := oauthDraft(fmt.Sprintf("team-%d", i), nil)
					d.Notes = secret.FromString("planted notes 0815")
					ids[i] = f.create(t, d).ID
					_, err := f.Rotate(t.Context(), admin, ids[i], secrets("access_token", "rotated-Planted-4711-value"), "")
					require.NoError(t, err)
				}
				for _, q := range moves {
					f.exec(t, q, ids[0], ids[1])
				}
				v, err := f.Reveal(t.Context(), admin, ids[0], "access_token", "to test")
				require.Equal(t, fault.Internal, requireCode(t, err, "internal").Kind)
				require.Contains(t, err.Error(), "does not open", "the operator is told what happened")
				require.ErrorIs(t, err, secret.ErrOpen)
				require.True(t, v.IsZero())
				requireFailed(t, f, store.CredentialReveal, ids[0], "access_token")

				// What would carry the moved field over refuses as well, and changes nothing.
				_, err = f.Rotate(t.Context(), admin, ids[0], secrets("client_secret", "cs"), "")
				requireCode(t, err, "internal")
				requireFailed(t, f, store.CredentialRotate, ids[0], "access_token")

				// One damaged credential does not stop the others.
				materials := f.materials(t, ids...)
				require.Len(t, materials, 2)
				require.True(t, materials[ids[0]].Damaged)
				require.Nil(t, materials[ids[0]].Secrets)
				require.Contains(t, materials[ids[0]].Usable(today), "does not open")
				require.Equal(t, "rotated-Planted-4711-value", materials[ids[1]].Secrets["access_token"].Reveal())
				require.Empty(t, materials[ids[1]].Usable(today))
				require.Contains(t, f.log.String(), ids[0])
				noSecret(t, f.log.String())

				// A rotation that names every field mends it.
				_, err = f.Rotate(t.Context(), admin, ids[0], secrets("access_token", "fresh", "refresh_token", "fresh-too"), "mended")
				require.NoError(t, err)
				require.Equal(t, "fresh", f.reveal(t, ids[0], "access_token"))
			})
		})
	}
}

func requireFailed(t *testing.T, f *fixture, action store.Action, id, field string) {
	t.Helper()
	ev := f.lastEvent(t)
	require.Equal(t, action, ev.Action)
	require.Equal(t, store.OutcomeFailed, ev.Outcome)
	require.Equal(t, id, ev.Target.ID)
	got, _ := ev.Details.Get("field")
	require.Equal(t, field, got.Text())
}

func TestMovedNotesFailAndAreRecorded(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		d := password("one")
		d.Notes = secret.FromString("planted notes 0815")
		one := f.create(t, d)
		two := f.create(t, d)
		f.exec(t, `UPDATE credentials SET notes = (SELECT c.notes FROM credentials c WHERE c.id = $2) WHERE id = $1`, one.ID, two.ID)
		_, err := f.Get(t.Context(), admin, one.ID)
		requireCode(t, err, "internal")
		requireFailed(t, f, store.CredentialView, one.ID, "notes")
		// An older state of the notes, put back, does not open either.
		_, err = f.Update(t.Context(), admin, two.ID, vault.Patch{Notes: vault.To(secret.FromString("newer"))}, "")
		require.NoError(t, err)
		f.exec(t, `UPDATE credentials SET notes_version = 1 WHERE id = $1`, two.ID)
		_, err = f.Get(t.Context(), admin, two.ID)
		requireCode(t, err, "internal")
		// The rest can still be changed, and new notes mend it.
		_, err = f.Update(t.Context(), admin, one.ID, vault.Patch{Notes: vault.To(secret.FromString("mended"))}, "")
		require.NoError(t, err)
		got, err := f.Get(t.Context(), admin, one.ID)
		require.NoError(t, err)
		require.Equal(t, "mended", got.Notes.Reveal())
	})
}

func TestEveryFlippedByteOfASealedFieldFails(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		var box []byte
		require.NoError(t, f.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&box, `SELECT sealed FROM credential_secrets`) }))
		for i := 0; i < len(box); i += 3 {
			bad := bytes.Clone(box)
			bad[i] ^= 1
			f.exec(t, `UPDATE credential_secrets SET sealed = $1`, bad)
			_, err := f.Reveal(t.Context(), admin, c.ID, "api_key", "to test")
			requireCode(t, err, "internal")
		}
		f.exec(t, `UPDATE credential_secrets SET sealed = $1`, box)
		require.Equal(t, anthropicKey, f.reveal(t, c.ID, "api_key"))
	})
}

func TestRowsThatThisVersionCannotRead(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c, other := f.create(t, apiKey("team")), f.create(t, apiKey("other"))
		f.exec(t, `UPDATE credentials SET type = 'hologram' WHERE id = $1`, c.ID)
		got, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.True(t, got.Tampered, "somebody without the key has written it")
		_, err = f.Reveal(t.Context(), admin, c.ID, "api_key", "to test")
		requireCode(t, err, "state_conflict")
		_, tampered, err := f.CheckAll(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{c.ID}, tampered)
		m := f.materials(t, c.ID, other.ID)
		require.NotEmpty(t, m[c.ID].Usable(today))
		require.Empty(t, m[c.ID].Secrets)
		require.Empty(t, m[other.ID].Usable(today))
	})
}

// After Delete the sealed bytes are in no file: not in the database, where freed pages are overwritten, and not in the log.
func TestDeleteDestroysTheSealedMaterial(t *testing.T) {
	f := newFixture(t, store.SQLite)
	require.NoError(t, f.db.Start(t.Context()))
	var ids []string
	for i := range 40 {
		d := oauthDraft(fmt.Sprintf("team-%d", i), nil)
		d.Secrets["client_secret"] = secret.FromString(strings.Repeat("a long secret ", 30*i) + "x") // over several pages too
		d.Notes = secret.FromString("planted notes 0815 " + strings.Repeat("n", 100*i))
		ids = append(ids, f.create(t, d).ID)
	}
	for _, id := range ids[:20] {
		_, err := f.Rotate(t.Context(), admin, id, secrets("access_token", "rotated-Planted-4711-value"), "")
		require.NoError(t, err)
	}
	boxes := func(where string, args ...any) [][]byte {
		var out, notes [][]byte
		require.NoError(t, f.db.Read(t.Context(), func(tx *store.Tx) error {
			if err := tx.Select(&out, `SELECT sealed FROM credential_secrets WHERE credential_id `+where, args...); err != nil {
				return err
			}
			return tx.Select(&notes, `SELECT notes FROM credentials WHERE id `+where, args...)
		}))
		return append(out, notes...)
	}
	onDisk := func(box []byte) bool {
		piece := box[5 : 5+24] // nonce and the first bytes of the ciphertext: unique, and within one page even where the rest overflows
		files, err := filepath.Glob(filepath.Join(f.cfg.DataDir, "*"))
		require.NoError(t, err)
		for _, file := range files {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			if bytes.Contains(raw, piece) {
				return true
			}
		}
		return false
	}
	var gone, kept [][]byte
	for i, id := range ids {
		if i%2 == 0 {
			gone = append(gone, boxes(`= $1`, id)...)
		} else {
			kept = append(kept, boxes(`= $1`, id)...)
		}
	}
	require.Greater(t, len(gone), 100)
	for _, box := range append(gone, kept...) {
		require.True(t, onDisk(box), "the test finds what is there")
	}
	for i, id := range ids {
		if i%2 == 0 {
			require.NoError(t, f.Delete(t.Context(), admin, id, ""))
		}
	}
	for i, box := range gone {
		require.False(t, onDisk(box), "sealed field %d lies on", i)
	}
	for _, box := range kept {
		require.True(t, onDisk(box), "the others are untouched")
	}
}

func TestDeleteLeavesNoRow(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		d := oauthDraft("team", nil)
		d.Tags = []string{"x"}
		c, other := f.create(t, d), f.create(t, apiKey("other"))
		_, err := f.Rotate(t.Context(), admin, c.ID, secrets("access_token", "next"), "")
		require.NoError(t, err)
		require.NoError(t, f.Delete(t.Context(), admin, c.ID, ""))
		for _, q := range []string{`SELECT count(*) FROM credentials WHERE id = $1`, `SELECT count(*) FROM credential_versions WHERE credential_id = $1`,
			`SELECT count(*) FROM credential_secrets WHERE credential_id = $1`, `SELECT count(*) FROM credential_tags WHERE credential_id = $1`} {
			require.Zero(t, f.count(t, q, c.ID), q)
		}
		require.Equal(t, store.CredentialDelete, f.lastEvent(t).Action)
		require.Equal(t, c.ID, f.lastEvent(t).Target.ID, "the record outlives the credential")
		for name, act := range acts(f, c.ID) {
			if name != "create" && name != "list" {
				requireCode(t, act(admin), "not_found")
			}
		}
		require.Equal(t, anthropicKey, f.reveal(t, other.ID, "api_key"))
	})
}

// Nothing that is written in plain text holds a secret: no file of the data directory, no record, no log line.
func TestSecretsLieNowhereInPlainText(t *testing.T) {
	f := newFixture(t, store.SQLite)
	d := oauthDraft("team", nil)
	d.Notes = secret.FromString("planted notes 0815")
	c := f.create(t, d)
	f.create(t, apiKey("key"))
	p := f.create(t, password("git"))
	for name, act := range acts(f, c.ID) {
		if name != "delete" && name != "create" {
			_ = act(admin)
			_ = act(agent)
		}
	}
	_, err := f.Rotate(t.Context(), admin, c.ID, secrets("access_token", "rotated-Planted-4711-value"), "")
	require.NoError(t, err)
	f.reveal(t, p.ID, "password")
	f.events(t)
	noSecret(t, f.log.String())
	files, err := filepath.Glob(filepath.Join(f.cfg.DataDir, "*"))
	require.NoError(t, err)
	found := false
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		noSecret(t, string(raw))
		found = found || bytes.Contains(raw, []byte("console.example.com")) // metadata is there to be read
	}
	require.True(t, found)
}
