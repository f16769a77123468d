package keeper

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/keeper/keepertest"
)

const (
	gcpKey = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k"
	gcpAt  = "gcp-kms://" + gcpKey
)

// gcpEnvironment gives the process a service account whose tokens the fake issues.
func gcpEnvironment(t *testing.T, g *keepertest.GCP) {
	t.Helper()
	pair, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(pair)
	require.NoError(t, err)
	file, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "p", "client_email": "signalbox@p.iam.gserviceaccount.com", "token_uri": g.URL + "/token",
		"private_key_id": "1", "private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "account.json")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
}

func gcpKeeper(t *testing.T, g *keepertest.GCP, at string) Keeper {
	t.Helper()
	k, err := Open(Config{Address: parsed(t, at), Getenv: os.Getenv, quick: true, base: g.URL})
	require.NoError(t, err)
	return k
}

func TestGCP(t *testing.T) {
	g := keepertest.StartGCP(t, plantedToken)
	g.MakeKey(gcpKey)
	gcpEnvironment(t, g)
	k := gcpKeeper(t, g, gcpAt)
	root := newRoot(t)
	w, err := Make(t.Context(), k, root)
	require.NoError(t, err)
	require.Equal(t, "1", w.KeyVersion)
	require.Equal(t, []string{"POST /token", "POST /v1/" + gcpKey + ":encrypt", "POST /v1/" + gcpKey + ":decrypt"}, g.Calls(), "one token serves both")
	got, err := k.Unwrap(t.Context(), root.ID(), w)
	require.NoError(t, err)
	require.True(t, got.Value().Equal(root.Value()))

	_, err = k.Unwrap(t.Context(), newRoot(t).ID(), w)
	requireTrouble(t, err, gcpAt, foreign)
	g.MakeKey(gcpKey + "2")
	_, err = gcpKeeper(t, g, gcpAt+"2").Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, gcpAt+"2", foreign)

	g.Rotate(gcpKey)
	key, err := k.Look(t.Context())
	require.NoError(t, err)
	require.Equal(t, Key{Version: "2", State: Enabled}, key)
	again, err := Make(t.Context(), k, root)
	require.NoError(t, err)
	require.Equal(t, "2", again.KeyVersion)
	g.Retire(gcpKey, 2) // version 1 is disabled
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, gcpAt, keyUnusable)
	g.Disable(gcpKey, true)
	_, err = k.Wrap(t.Context(), root)
	requireTrouble(t, err, gcpAt, keyUnusable)
	key, err = k.Look(t.Context())
	require.NoError(t, err)
	require.Equal(t, Disabled, key.State)
	g.Delete(gcpKey)
	_, err = k.Wrap(t.Context(), root)
	requireTrouble(t, err, gcpAt, keyMissing)
}

// TestGCPChecksums: what is changed on the way is asked for again, and never used.
func TestGCPChecksums(t *testing.T) {
	g := keepertest.StartGCP(t, plantedToken)
	g.MakeKey(gcpKey)
	gcpEnvironment(t, g)
	k := gcpKeeper(t, g, gcpAt)
	root := newRoot(t)
	g.Flip = 2
	w, err := k.Wrap(t.Context(), root)
	require.NoError(t, err)
	g.Flip = 2
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	require.NoError(t, err)
	g.Flip = tries
	_, err = k.Wrap(t.Context(), root)
	requireTrouble(t, err, gcpAt, corrupted)
	g.Flip = tries
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, gcpAt, corrupted)
	g.Flip = 0
	for _, body := range []string{ // sums that are missing, or not vouched for
		`{"name":"` + gcpKey + `/cryptoKeyVersions/1","ciphertext":"AAAA","ciphertextCrc32c":"0","verifiedPlaintextCrc32c":true,"verifiedAdditionalAuthenticatedDataCrc32c":true}`,
		`{"name":"` + gcpKey + `/cryptoKeyVersions/1","ciphertext":"AAAA","verifiedPlaintextCrc32c":true,"verifiedAdditionalAuthenticatedDataCrc32c":true}`,
		`{"name":"` + gcpKey + `/cryptoKeyVersions/1","ciphertext":"AAAA","ciphertextCrc32c":"` + sumOfZeros + `","verifiedPlaintextCrc32c":false,"verifiedAdditionalAuthenticatedDataCrc32c":true}`,
		`{"name":"` + gcpKey + `/cryptoKeyVersions/1","ciphertext":"AAAA","ciphertextCrc32c":"` + sumOfZeros + `","verifiedPlaintextCrc32c":true}`,
	} {
		for range tries {
			g.Answer(200, body)
		}
		_, err = k.Wrap(t.Context(), root)
		requireTrouble(t, err, gcpAt, corrupted)
	}
	g.Answer(200, `{"name":"`+gcpKey+`/cryptoKeyVersions/1","ciphertext":"AAAA","ciphertextCrc32c":"`+sumOfZeros+`","verifiedPlaintextCrc32c":true,"verifiedAdditionalAuthenticatedDataCrc32c":true}`)
	_, err = k.Wrap(t.Context(), root)
	require.NoError(t, err)
	g.Answer(200, `{"name":"projects/evil/cryptoKeyVersions/1","ciphertext":"AAAA","ciphertextCrc32c":"`+sumOfZeros+`","verifiedPlaintextCrc32c":true,"verifiedAdditionalAuthenticatedDataCrc32c":true}`)
	_, err = k.Wrap(t.Context(), root)
	requireTrouble(t, err, gcpAt, failed)
}

// sumOfZeros is the CRC-32C of three zero bytes, by the table of RFC 3720's polynomial.
const sumOfZeros = "1614341137"

func TestGCPAnswers(t *testing.T) {
	g := keepertest.StartGCP(t, plantedToken)
	g.MakeKey(gcpKey)
	gcpEnvironment(t, g)
	k := gcpKeeper(t, g, gcpAt)
	root := newRoot(t)
	w, err := Make(t.Context(), k, root)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		status, times int
		word          string
		want          trouble
	}{
		"no permission":  {403, 1, "PERMISSION_DENIED", denied},
		"bad token":      {401, 1, "UNAUTHENTICATED", unknownCaller},
		"no such key":    {404, 1, "NOT_FOUND", keyMissing},
		"disabled":       {400, 1, "FAILED_PRECONDITION", keyUnusable},
		"does not open":  {400, 1, "INVALID_ARGUMENT", foreign},
		"quota":          {429, tries, "RESOURCE_EXHAUSTED", throttled},
		"broken":         {500, tries, "INTERNAL", failed},
		"not just now":   {503, tries, "UNAVAILABLE", failed},
		"something else": {418, 1, "EVIL", failed},
		"redirect":       {302, 1, "", elsewhere},
	} {
		t.Run(name, func(t *testing.T) {
			for range c.times {
				g.Answer(c.status, `{"error":{"code":1,"message":"`+providerText+" "+plantedToken+`","status":"`+c.word+`"}}`)
			}
			g.Calls()
			_, err := k.Unwrap(t.Context(), root.ID(), w)
			requireTrouble(t, err, gcpAt, c.want)
			require.Len(t, g.Calls(), c.times)
		})
	}
	g.Close()
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, gcpAt, unreachable)
}

func TestGCPCredentials(t *testing.T) {
	g := keepertest.StartGCP(t, plantedToken)
	g.MakeKey(gcpKey)
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere")
	_, err := gcpKeeper(t, g, gcpAt).Look(t.Context())
	requireTrouble(t, err, gcpAt, noCredentials)
	gcpEnvironment(t, g)
	g.Answer(400, `{"error":"invalid_grant","error_description":"`+providerText+`"}`)
	_, err = gcpKeeper(t, g, gcpAt).Look(t.Context())
	requireTrouble(t, err, gcpAt, unknownCaller)
	_, err = gcpKeeper(t, g, gcpAt).Look(t.Context())
	require.NoError(t, err)
	for _, body := range []string{`{"purpose":"ASYMMETRIC_SIGN"}`, `{"purpose":"ENCRYPT_DECRYPT"}`} {
		k := gcpKeeper(t, g, gcpAt)
		_, err = k.Look(t.Context())
		require.NoError(t, err)
		g.Answer(200, body)
		_, err = k.Look(t.Context())
		requireTrouble(t, err, gcpAt, keyUnusable)
	}
}
