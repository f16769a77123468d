package store_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func TestInspect(t *testing.T) {
	latest, err := store.Latest()
	require.NoError(t, err)
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			cfg := storetest.Config(t, engine)
			if engine == store.SQLite {
				got, err := store.Inspect(t.Context(), cfg)
				require.NoError(t, err)
				require.Equal(t, store.Inspection{Engine: store.SQLite, Latest: latest}, got, "nothing is there yet, and nothing was made")
				require.NoFileExists(t, filepath.Join(cfg.DataDir, store.FileName))
				require.Zero(t, store.Holder(cfg.DataDir))
			}
			storetest.OpenConfig(t, cfg)
			got, err := store.Inspect(t.Context(), cfg) // beside the one that has it open
			require.NoError(t, err)
			require.True(t, got.Exists)
			require.Equal(t, latest, got.Schema)
			require.NotEmpty(t, got.Version)
			require.False(t, got.Damaged || got.Forgetful || got.ReadOnly || got.Old || got.Remote || got.Pooler, "%+v", got)
			require.Less(t, got.Ahead.Abs(), 10*time.Second)
			if engine == store.SQLite {
				require.Equal(t, "wal", got.JournalMode)
			}
		})
	}
}

func TestInspectFindsDamage(t *testing.T) {
	cfg := storetest.Config(t, store.SQLite)
	require.NoError(t, storetest.OpenConfig(t, cfg).Close())
	path := filepath.Join(cfg.DataDir, store.FileName)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	broken := append([]byte{}, whole...)
	for i := 4096; i < len(broken); i += 4096 { // the header of each page but the first
		copy(broken[i:], "\xff\xff\xff\xff\xff\xff\xff\xff")
	}
	require.NoError(t, os.WriteFile(path, broken, 0o600))
	got, err := store.Inspect(t.Context(), cfg)
	require.True(t, err != nil || got.Damaged)
	require.NoError(t, os.WriteFile(path, []byte("this is no database, planted-8f3k2, and long enough to be read as one: "+string(make([]byte, 200))), 0o600))
	_, err = store.Inspect(t.Context(), cfg)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.NotContains(t, err.Error(), "planted")
}

func TestInspectSeesAPooler(t *testing.T) {
	if len(storetest.Engines()) == 1 && storetest.Engines()[0] == store.SQLite {
		t.Log("a pooler stands before PostgreSQL, which this run leaves out")
		return
	}
	address := storetest.PostgresURL(t)
	u, err := url.Parse(address)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server, ended := u.Host, make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			pool(c, server)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	u.Host = l.Addr().String()
	u.RawQuery = "sslmode=disable" // the answer to an SSL request is no message that pool could read
	got, err := store.Inspect(t.Context(), store.Config{PostgresURL: secret.FromString(u.String())})
	require.NoError(t, err)
	require.True(t, got.Pooler)

	require.NoError(t, l.Close())
	_, err = store.Open(context.Background(), store.Config{PostgresURL: secret.FromString(u.String())})
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "a command line that starts on it ends with exit code 5")
}

// pool passes one connection on as PgBouncer does: BackendKeyData (PostgreSQL 15, section 55.7, message K) names no real process.
func pool(c net.Conn, server string) {
	s, err := net.Dial("tcp", server)
	if err != nil {
		_ = c.Close()
		return
	}
	up := make(chan struct{})
	go func() { defer close(up); _, _ = io.Copy(s, c); _ = s.Close() }()
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(s, head); err != nil {
			break
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(s, body); err != nil {
			break
		}
		if head[0] == 'K' {
			binary.BigEndian.PutUint32(body, binary.BigEndian.Uint32(body)+1)
		}
		if _, err := c.Write(append(head, body...)); err != nil {
			break
		}
		head = make([]byte, 5)
	}
	_ = c.Close()
	<-up
}

func TestMigrate(t *testing.T) {
	cfg := storetest.Config(t, store.SQLite)
	latest, err := store.Latest()
	require.NoError(t, err)
	did, err := store.Migrate(t.Context(), cfg)
	require.NoError(t, err)
	require.Zero(t, did.From)
	require.Equal(t, latest, did.To)
	texts, err := store.Schema(store.SQLite)
	require.NoError(t, err)
	require.Len(t, did.Ran, len(texts))
	require.Equal(t, latest, did.Ran[len(texts)-1].Number)
	require.Equal(t, store.Migration{Number: 1, Name: "00001_store"}, did.Ran[0])
	did, err = store.Migrate(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, store.Migrated{From: latest, To: latest}, did)
	db := storetest.OpenConfig(t, cfg)
	_, err = store.Migrate(t.Context(), cfg)
	require.ErrorIs(t, err, store.ErrLocked)
	require.NoError(t, db.Close())
}
