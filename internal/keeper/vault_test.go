package keeper

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keeper/keepertest"
	"signalbox.dev/signalbox/internal/secret"
)

// plantedToken may appear in no message.
const plantedToken = "hvs.planted-8f3k2-token"

// providerText is what a service says in its errors; it may appear in no message either.
const providerText = "planted-provider-text"

func newRoot(t testing.TB) secret.RootKey {
	t.Helper()
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	return root
}

func parsed(t testing.TB, text string) Address {
	t.Helper()
	a, err := Parse(text)
	require.NoError(t, err)
	return a
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func vaultKeeper(t testing.TB, at string, getenv func(string) string) Keeper {
	t.Helper()
	k, err := Open(Config{Address: parsed(t, at), Getenv: getenv, quick: true})
	require.NoError(t, err)
	return k
}

// requireTrouble checks what a user reads of a failed act: which keeper it was and what to do, and nothing of the token or of the service.
func requireTrouble(t *testing.T, err error, at string, want trouble) {
	t.Helper()
	require.Error(t, err)
	f, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "root_key_keeper", f.Code)
	require.Equal(t, fault.Unavailable, f.Kind)
	require.True(t, isTrouble(err, want), "%v, because %v", err, f.Unwrap())
	require.Contains(t, f.Detail, at)
	require.Greater(t, strings.Count(f.Detail, ". "), 0, "it says what to do: %s", f.Detail)
	for _, text := range []string{f.Detail, f.Unwrap().Error()} {
		require.NotContains(t, text, "planted-")
		require.NotContains(t, text, "evil")
	}
}

func TestVault(t *testing.T) {
	v := keepertest.StartVault(t, plantedToken)
	v.MakeKey("k")
	k := vaultKeeper(t, v.Keeper("k"), env("VAULT_TOKEN", plantedToken))
	root := newRoot(t)
	w, err := Make(t.Context(), k, root)
	require.NoError(t, err)
	require.Equal(t, "v1", w.KeyVersion)
	require.NotContains(t, string(w.Blob), root.Text().Reveal())
	require.Equal(t, []string{"GET /v1/transit/keys/k", "POST /v1/transit/encrypt/k", "POST /v1/transit/decrypt/k"}, v.Calls())
	got, err := k.Unwrap(t.Context(), root.ID(), w)
	require.NoError(t, err)
	require.True(t, got.Value().Equal(root.Value()))

	// Bound to its root key: under another id it does not even open.
	_, err = k.Unwrap(t.Context(), newRoot(t).ID(), w)
	requireTrouble(t, err, v.Keeper("k"), foreign)

	// Another key, or changed bytes, or something that is no ciphertext of Vault's.
	v.MakeKey("other")
	_, err = vaultKeeper(t, v.Keeper("other"), env("VAULT_TOKEN", plantedToken)).Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, v.Keeper("other"), foreign)
	for _, blob := range []string{"", "vault:v1:AAAA", "vault:vx:AAAA", "AAAA", "vault:v99:" + string(w.Blob[9:])} {
		_, err = k.Unwrap(t.Context(), root.ID(), Wrapped{Blob: []byte(blob)})
		requireTrouble(t, err, v.Keeper("k"), foreign)
	}

	// Rotation there: what was wrapped before still opens, what is wrapped now names the new version; a version that was switched off opens nothing.
	v.Rotate("k")
	key, err := k.Look(t.Context())
	require.NoError(t, err)
	require.Equal(t, Key{Version: "v2", State: Enabled}, key)
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	require.NoError(t, err)
	again, err := Make(t.Context(), k, root)
	require.NoError(t, err)
	require.Equal(t, "v2", again.KeyVersion)
	v.Retire("k", 2)
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, v.Keeper("k"), foreign)
	_, err = k.Unwrap(t.Context(), root.ID(), again)
	require.NoError(t, err)

	// A name that is not there makes no key.
	missing := vaultKeeper(t, v.Keeper("misspelt"), env("VAULT_TOKEN", plantedToken))
	v.Calls()
	_, err = missing.Wrap(t.Context(), root)
	requireTrouble(t, err, v.Keeper("misspelt"), keyMissing)
	require.Equal(t, []string{"GET /v1/transit/keys/misspelt"}, v.Calls())
	_, err = missing.Unwrap(t.Context(), root.ID(), again)
	requireTrouble(t, err, v.Keeper("misspelt"), keyMissing)
}

// TestVaultAnswers plays every answer that Vault documents for what goes wrong.
func TestVaultAnswers(t *testing.T) {
	v := keepertest.StartVault(t, plantedToken)
	v.MakeKey("k")
	k := vaultKeeper(t, v.Keeper("k"), env("VAULT_TOKEN", plantedToken))
	root := newRoot(t)
	w, err := Make(t.Context(), k, root)
	require.NoError(t, err)
	text := func(s string) string { return `{"errors":["` + providerText + " " + plantedToken + " " + s + `"]}` }
	for name, c := range map[string]struct {
		status, times int
		body          string
		want          trouble
	}{
		"no permission":         {403, 1, text("permission denied"), denied},
		"token has expired":     {403, 1, text("permission denied, invalid token"), unknownCaller},
		"no token":              {400, 1, text("missing client token"), unknownCaller},
		"not an encryption key": {400, 1, text("key type ed25519 does not support decryption"), keyUnusable},
		"no such key":           {400, 1, text("encryption key not found"), keyMissing},
		"no such mount":         {404, 1, text("no handler for route"), keyMissing},
		"quota":                 {429, tries, text("request path quota exceeded"), throttled},
		"sealed":                {503, 1, text("Vault is sealed"), sealedVault},
		"standby":               {307, 1, "", elsewhere},
		"broken":                {500, tries, text("internal error"), failed},
		"a page":                {200, 1, "<html>" + providerText, failed},
		"empty":                 {200, 1, `{"data":{}}`, otherKey},
		"a short key":           {200, 1, `{"data":{"plaintext":"AAAA"}}`, otherKey},
		"another key":           {200, 1, `{"data":{"plaintext":"` + newRoot(t).Text().Reveal() + `"}}`, otherKey},
		"too long":              {200, tries, `"` + strings.Repeat("x", maxAnswer) + `"`, unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			for range c.times {
				v.Answer(c.status, c.body)
			}
			v.Calls()
			_, err := k.Unwrap(t.Context(), root.ID(), w)
			requireTrouble(t, err, v.Keeper("k"), c.want)
			require.Len(t, v.Calls(), c.times)
		})
	}
	// What passes is tried again and forgotten.
	v.Answer(500, text(""))
	v.Answer(412, text(""))
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = k.Unwrap(ctx, root.ID(), w)
	require.ErrorIs(t, err, context.Canceled)

	at := v.Keeper("k")
	v.Close()
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, at, unreachable)
}

func TestVaultTokens(t *testing.T) {
	v := keepertest.StartVault(t, plantedToken)
	v.MakeKey("k")
	at := v.Keeper("k")
	look := func(pairs ...string) error {
		_, err := vaultKeeper(t, at, env(pairs...)).Look(t.Context())
		return err
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(file, []byte(plantedToken+"\n"), 0o600))
	require.NoError(t, look("VAULT_TOKEN_FILE", file))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".vault-token"), []byte(plantedToken), 0o600))
	require.NoError(t, look("HOME", dir))
	require.NoError(t, look("VAULT_TOKEN", plantedToken, "VAULT_TOKEN_FILE", "/nowhere"), "the token itself wins, as for Vault's own tools")

	requireTrouble(t, look(), at, noCredentials)
	requireTrouble(t, look("HOME", t.TempDir()), at, noCredentials)
	requireTrouble(t, look("VAULT_TOKEN_FILE", "/nowhere"), at, noCredentials)
	requireTrouble(t, look("VAULT_TOKEN", "planted-two\nlines"), at, noCredentials)
	requireTrouble(t, look("VAULT_TOKEN", "another-token"), at, denied)
	require.NoError(t, os.Chmod(file, 0o644))
	requireTrouble(t, look("VAULT_TOKEN_FILE", file), at, noCredentials)

	// A Vault agent renews the file while the process runs.
	k := vaultKeeper(t, at, env("HOME", dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".vault-token"), []byte("old"), 0o600))
	_, err := k.Look(t.Context())
	requireTrouble(t, err, at, denied)
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".vault-token"), []byte(plantedToken), 0o600))
	_, err = k.Look(t.Context())
	require.NoError(t, err)

	_, err = Open(Config{Address: parsed(t, at), Getenv: env("VAULT_CACERT", "/nowhere")})
	require.ErrorContains(t, err, "VAULT_CACERT")
	_, err = Open(Config{})
	require.Error(t, err)
}

// TestVaultIsGuarded: the named host may be private; TLS is checked all the same.
func TestVaultIsGuarded(t *testing.T) {
	v := keepertest.StartVault(t, plantedToken)
	v.MakeKey("k")
	at := strings.Replace(v.Keeper("k"), "+http", "", 1)
	_, err := vaultKeeper(t, at, env("VAULT_TOKEN", plantedToken)).Look(t.Context())
	requireTrouble(t, err, at, unreachable)
	require.Empty(t, v.Calls(), "the token left for nobody who did not speak TLS")
	require.Equal(t, http.StatusServiceUnavailable, fault.Of(err).Kind.Status())
}
