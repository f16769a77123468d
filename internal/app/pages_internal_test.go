package app

import (
	"bytes"
	"encoding/base64"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/backup"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

// TestWhatPagesAreTold: what is stored is counted among what a change of the data key touches, and backups are told, late when the last is long ago.
func TestWhatPagesAreTold(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			env := Environ{}
			if e == store.Postgres {
				env["SIGNALBOX_ROOT_KEY"] = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
				env["SIGNALBOX_DATABASE_URL"] = storetest.Config(t, e).PostgresURL.Reveal()
			}
			cfg, err := Load(env, map[string]string{"data-dir": filepath.Join(t.TempDir(), "data"), "listen": "127.0.0.1:0"})
			require.NoError(t, err)
			a, err := Open(t.Context(), cfg)
			require.NoError(t, err)
			defer a.Close()
			before, err := a.rekeyer.Sealed(t.Context())
			require.NoError(t, err)
			for range 3 {
				_, err = a.vault.Create(t.Context(), identity.System("test"), vault.Draft{Type: vault.Password, Meta: vault.Meta{Name: "Door"}, Secrets: map[string]secret.Value{"password": secret.FromString("planted-0123456789")}})
				require.NoError(t, err)
			}
			after, err := a.rekeyer.Sealed(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 6, after-before, "each with its first version")

			known, err := a.pageBackups(t.Context())
			require.NoError(t, err)
			require.Empty(t, known.Taken)
			require.False(t, known.Late)
			for _, days := range []time.Duration{9, 8} {
				require.NoError(t, backup.Done(t.Context(), a.db, backup.Head{ID: store.NewID("bak"), At: time.Now().Add(-days * 24 * time.Hour), Engine: e, Rows: 5}, 42))
			}
			known, err = a.pageBackups(t.Context())
			require.NoError(t, err)
			require.Len(t, known.Taken, 2)
			require.True(t, known.Taken[0].At.After(known.Taken[1].At))
			require.True(t, known.Late)
			require.NoError(t, backup.Done(t.Context(), a.db, backup.Head{ID: store.NewID("bak"), At: time.Now(), Engine: e, Rows: 5}, 42))
			known, err = a.pageBackups(t.Context())
			require.NoError(t, err)
			require.False(t, known.Late)
			require.EqualValues(t, 42, known.Taken[0].Bytes)
		})
	}
}
