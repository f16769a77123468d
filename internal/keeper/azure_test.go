package keeper

import (
	"crypto/x509"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/keeper/keepertest"
)

const (
	azureHost = "example.vault.azure.net"
	azureAt   = "azure-keyvault://" + azureHost + "/keys/k"
)

// azureEnvironment leaves the test with the managed identity of an App Service, which the fake plays.
func azureEnvironment(t *testing.T, a *keepertest.Azure, header string) {
	t.Helper()
	for _, name := range []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "MSI_ENDPOINT", "IMDS_ENDPOINT"} {
		t.Setenv(name, "") // which brings it back at the end
		require.NoError(t, os.Unsetenv(name))
	}
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
	t.Setenv("IDENTITY_ENDPOINT", a.Identity.URL)
	t.Setenv("IDENTITY_HEADER", header)
}

func azureKeeper(t *testing.T, a *keepertest.Azure, at string) Keeper {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	k, err := Open(Config{Address: parsed(t, at), Getenv: os.Getenv, quick: true, base: a.URL, roots: roots})
	require.NoError(t, err)
	return k
}

func TestAzure(t *testing.T) {
	a := keepertest.StartAzure(t, azureHost, plantedToken, "header")
	require.NoError(t, a.RotateKey("k"))
	azureEnvironment(t, a, "header")
	k := azureKeeper(t, a, azureAt)
	root := newRoot(t)
	w, err := Make(t.Context(), k, root)
	require.NoError(t, err)
	one, two := "00000000000000000000000000000001", "00000000000000000000000000000002"
	require.Equal(t, one, w.KeyVersion)
	require.Equal(t, []string{"GET /keys/k", "POST /keys/k/" + one + "/wrapkey", "POST /keys/k/" + one + "/unwrapkey"}, a.Calls())
	got, err := k.Unwrap(t.Context(), root.ID(), w)
	require.NoError(t, err)
	require.True(t, got.Value().Equal(root.Value()))

	// Azure binds a wrapping to nothing; what it unwraps to is another root key than the one beside it, and not used.
	_, err = k.Unwrap(t.Context(), newRoot(t).ID(), w)
	requireTrouble(t, err, azureAt, otherKey)

	require.NoError(t, a.RotateKey("k"))
	key, err := k.Look(t.Context())
	require.NoError(t, err)
	require.Equal(t, Key{Version: two, State: Enabled}, key)
	again, err := Make(t.Context(), k, root)
	require.NoError(t, err)
	require.Equal(t, two, again.KeyVersion)
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	require.NoError(t, err, "the version that wrapped is asked")
	_, err = k.Unwrap(t.Context(), root.ID(), Wrapped{Blob: w.Blob, KeyVersion: two})
	requireTrouble(t, err, azureAt, foreign)
	for _, version := range []string{"", "..", "1/../2", "1?x"} {
		a.Calls()
		_, err = k.Unwrap(t.Context(), root.ID(), Wrapped{Blob: w.Blob, KeyVersion: version})
		requireTrouble(t, err, azureAt, foreign)
		require.Empty(t, a.Calls())
	}

	// An address that names a version keeps to it.
	pinned := azureKeeper(t, a, azureAt+"/"+one)
	old, err := Make(t.Context(), pinned, root)
	require.NoError(t, err)
	require.Equal(t, one, old.KeyVersion)
	_, err = pinned.Unwrap(t.Context(), root.ID(), again)
	requireTrouble(t, err, azureAt+"/"+one, foreign)

	a.Disable("k", true)
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, azureAt, keyUnusable)
	key, err = k.Look(t.Context())
	require.NoError(t, err)
	require.Equal(t, Disabled, key.State)
	a.Disable("k", false)
	a.Type = "EC"
	_, err = k.Wrap(t.Context(), root)
	requireTrouble(t, err, azureAt, keyUnusable)
	a.Delete("k")
	_, err = k.Wrap(t.Context(), root)
	requireTrouble(t, err, azureAt, keyMissing)
}

func TestAzureAnswers(t *testing.T) {
	a := keepertest.StartAzure(t, azureHost, plantedToken, "header")
	require.NoError(t, a.RotateKey("k"))
	azureEnvironment(t, a, "header")
	k := azureKeeper(t, a, azureAt)
	root := newRoot(t)
	w, err := Make(t.Context(), k, root)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		status, times int
		inner         string
		want          trouble
	}{
		"no permission": {403, 1, "ForbiddenByRbac", denied},
		"firewall":      {403, 1, "ForbiddenByFirewall", denied},
		"disabled":      {403, 1, "KeyDisabled", keyUnusable},
		"expired":       {403, 1, "KeyExpired", keyUnusable},
		"bad token":     {401, 1, "", unknownCaller},
		"no such key":   {404, 1, "KeyNotFound", keyMissing},
		"being deleted": {409, 1, "ObjectIsBeingDeleted", keyUnusable},
		"does not open": {400, 1, "BadParameter", foreign},
		"quota":         {429, tries, "", throttled},
		"broken":        {500, tries, "", failed},
		"redirect":      {307, 1, "", elsewhere},
	} {
		t.Run(name, func(t *testing.T) {
			for range c.times {
				a.Answer(c.status, `{"error":{"code":"Forbidden","message":"`+providerText+" "+plantedToken+`","innererror":{"code":"`+c.inner+`"}}}`)
			}
			a.Calls()
			_, err := k.Unwrap(t.Context(), root.ID(), w)
			requireTrouble(t, err, azureAt, c.want)
			require.Len(t, a.Calls(), c.times)
		})
	}
	for body, want := range map[string]trouble{
		`{"kid":"https://evil.vault.azure.net/keys/k/` + w.KeyVersion + `","value":"AAAA"}`:  failed,
		`{"kid":"https://` + azureHost + `/keys/k/` + w.KeyVersion + `","value":""}`:         failed,
		`{"kid":"https://` + azureHost + `/keys/k/` + w.KeyVersion + `","value":"AAAA"}`:     otherKey,
		`{"kid":"https://` + azureHost + `/keys/other/` + w.KeyVersion + `","value":"AAAA"}`: failed,
	} {
		a.Answer(200, body)
		_, err := k.Unwrap(t.Context(), root.ID(), w)
		requireTrouble(t, err, azureAt, want)
	}
	a.Close()
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, azureAt, unreachable)

	// No token: the library keeps those that it has for the whole process, so this one is for the other service.
	hsm := "azure-keyvault://example.managedhsm.azure.net/keys/k"
	_, err = azureKeeper(t, a, hsm).Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, hsm, unknownCaller)
}
