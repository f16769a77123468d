package app

import (
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/store"
)

// TestASealedServerTakesNoOlderSeal: a server that stands sealed opens for a proof of its own seal or of a newer one, and for no other way in which the mark
// goes: who writes to the database may know the proof of a seal that was lifted before.
func TestASealedServerTakesNoOlderSeal(t *testing.T) {
	cfg, err := Load(Environ{}, map[string]string{"data-dir": filepath.Join(t.TempDir(), "data"), "listen": "127.0.0.1:0"})
	require.NoError(t, err)
	a, err := Open(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, a.Close())
	ctx := t.Context()
	b := &sealedDoor{cfg: cfg, log: cfg.logger()}
	require.NoError(t, b.open(ctx))
	defer func() { require.NoError(t, b.close()) }()
	write := func(query string, args ...any) {
		t.Helper()
		require.NoError(t, b.db.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(query, args...)
			return errors.Join(err, tx.Record(store.Event{Actor: store.Actor{Kind: "system", Name: "test"}, Action: store.AdminStart, Target: store.Target{Kind: "test"}}))
		}))
	}
	set := func() keyring.ServerSeal {
		t.Helper()
		s, err := keyring.SealServers(ctx, b.db, store.Event{Actor: store.Actor{Kind: "user", ID: "usr_1", Name: "Ada"}, Action: store.AdminSeal, Target: store.Target{Kind: "keyring"}}, "x")
		require.NoError(t, err)
		return s
	}
	looks := func(want bool, failing bool) {
		t.Helper()
		lifted, err := b.look(ctx)
		require.Equal(t, failing, err != nil, "%v", err)
		require.Equal(t, want, lifted)
	}

	first := set()
	b.begin(first)
	looks(false, false)
	_, did, err := Unseal(ctx, cfg, false)
	require.NoError(t, err)
	require.True(t, did)
	var proof []byte
	require.NoError(t, b.db.Read(ctx, func(tx *store.Tx) error { return tx.Get(&proof, `SELECT proof FROM keyring_seals`) }))
	looks(true, false)

	second := set()
	b.begin(second)
	write(`UPDATE keyring_seals SET id = $1`, first.ID) // the older one, as if in force
	looks(false, true)
	require.Equal(t, second.ID, b.seal.ID, "it is not taken over")
	write(`UPDATE keyring_seals SET unsealed_at = 1, proof = $1`, proof)
	looks(false, true)
	write(`DELETE FROM keyring_seals`)
	looks(false, true)
	_, did, err = Unseal(ctx, cfg, false)
	require.NoError(t, err)
	require.False(t, did, "the database says that nothing is sealed")
	looks(false, true)
	_, did, err = Unseal(ctx, cfg, true)
	require.NoError(t, err)
	require.True(t, did)
	looks(true, false)

	third := set() // sealed anew before this server has seen that the last was lifted
	looks(false, false)
	require.Equal(t, third.ID, b.seal.ID)
	_, _, err = Unseal(ctx, cfg, false)
	require.NoError(t, err)
	looks(true, false)
}

// TestServersTakeTurnsAtADoor: between two servers the port stays open, and who comes then is answered by the next.
func TestServersTakeTurnsAtADoor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	d, err := newDoorway(l)
	require.NoError(t, err)
	url := "http://" + l.Addr().String()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func() string {
		resp, err := client.Get(url)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	for _, name := range []string{"first", "second", "third"} {
		waits := make(chan string, 1)
		go func() { waits <- ask() }() // nobody serves
		time.Sleep(20 * time.Millisecond)
		turn, err := d.turn()
		require.NoError(t, err)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })}
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(turn) }()
		require.Equal(t, name, <-waits)
		require.Equal(t, name, ask())
		require.NoError(t, server.Shutdown(t.Context()))
		require.ErrorIs(t, <-ended, http.ErrServerClosed)
		_, err = turn.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
	}
	require.NoError(t, d.Close())
	require.NotEqual(t, "third", ask())
}
