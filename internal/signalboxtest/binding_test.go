package signalboxtest_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

// TestNoSecretGoesWhereTheDatabaseAlonePointsIt: somebody who can write the database, and lacks the root key, points an account at a listener of
// theirs. It hears nothing, before and after a restart; who may write credentials sets the destination anew, and the account is lent again.
func TestNoSecretGoesWhereTheDatabaseAlonePointsIt(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		var heard atomic.Int64
		evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { heard.Add(1) }))
		t.Cleanup(evil.Close)
		l := box.Lane(t, "")
		account := l.Accounts[0].ID
		lend := func() (int, string) {
			res, err := http.DefaultClient.Do(l.Request(t.Context(), []byte(`{"model":"claude-opus-4-5-20251101","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}`)))
			require.NoError(t, err)
			defer func() { require.NoError(t, res.Body.Close()) }()
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			return res.StatusCode, string(body)
		}
		status, body := lend()
		require.Equal(t, http.StatusOK, status, body)
		stored, err := box.Admin().GetCredential(t.Context(), account)
		require.NoError(t, err)
		require.False(t, stored.Tampered)

		box.Stop()
		cfg := box.Store
		db, err := store.Open(t.Context(), cfg)
		require.NoError(t, err)
		require.NoError(t, db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE credentials SET base_url = $1, hosts = $2 WHERE id = $3`, evil.URL, `["`+strings.TrimPrefix(evil.URL, "http://")+`"]`, account)
			return err
		}))
		require.NoError(t, db.Close())
		served := len(box.Upstream.Requests())
		again := box.Again(t)
		status, body = lend()
		require.Equal(t, http.StatusForbidden, status, body)
		require.Contains(t, body, "None of the accounts")
		why := l.Explain(t)
		require.Len(t, why, 1)
		require.Contains(t, why[0].Why, "credential_tampered")
		admin := again.Admin()
		_, err = admin.RevealCredential(t.Context(), account, "api_key", "curious")
		requireRefused(t, err, http.StatusConflict, "credential_tampered")
		got, err := admin.GetCredential(t.Context(), account)
		require.NoError(t, err)
		require.True(t, got.Tampered)
		require.Equal(t, evil.URL, got.BaseURL, "it shows what lies there")
		require.True(t, bytes.Contains(again.Log.Bytes(), []byte(account)))
		require.False(t, bytes.Contains(again.Log.Bytes(), []byte(strings.TrimPrefix(evil.URL, "http://"))))
		status, _ = lend()
		require.Equal(t, http.StatusForbidden, status)
		require.Zero(t, heard.Load(), "the listener heard nothing")
		require.Len(t, box.Upstream.Requests(), served)

		// A change of something else does not vouch for the address.
		_, err = admin.UpdateCredential(t.Context(), account, client.CredentialPatch{Owner: ptr("ops")})
		requireRefused(t, err, http.StatusConflict, "credential_tampered")
		_, err = admin.UpdateCredential(t.Context(), account, client.CredentialPatch{Status: ptr("active"), Provider: ptr("anthropic"), BaseURL: &stored.BaseURL, Clear: []string{"hosts", "inject", "methods", "paths"}})
		require.NoError(t, err)
		status, body = lend()
		require.Equal(t, http.StatusOK, status, body)
		require.Zero(t, heard.Load())
	})
}

func requireRefused(t *testing.T, err error, status int, code string) {
	t.Helper()
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, status, e.Status)
	require.Equal(t, code, e.Code)
}
