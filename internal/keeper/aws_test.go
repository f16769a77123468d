package keeper

import (
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/keeper/keepertest"
)

// awsEnvironment leaves the test with these variables of AWS's and no others.
func awsEnvironment(t *testing.T, pairs ...string) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(home, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(home, "credentials"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for i := 0; i+1 < len(pairs); i += 2 {
		t.Setenv(pairs[i], pairs[i+1])
	}
}

func awsKeeper(t *testing.T, at string) Keeper {
	t.Helper()
	k, err := Open(Config{Address: parsed(t, at), Getenv: os.Getenv, quick: true})
	require.NoError(t, err)
	return k
}

const (
	awsRegion = "eu-central-1"
	awsKeyID  = "1234abcd-12ab-34cd-56ef-1234567890ab"
	awsAt     = "aws-kms://" + awsRegion + "/" + awsKeyID
	awsAccess = "AKIAIOSFODNN7EXAMPLE"
)

func TestAWS(t *testing.T) {
	a := keepertest.StartAWS(t, awsRegion, awsAccess)
	a.MakeKey(awsKeyID)
	a.MakeKey("second")
	awsEnvironment(t, "AWS_ACCESS_KEY_ID", awsAccess, "AWS_SECRET_ACCESS_KEY", plantedToken, "AWS_ENDPOINT_URL_KMS", a.URL)
	k := awsKeeper(t, awsAt)
	root := newRoot(t)
	w, err := Make(t.Context(), k, root)
	require.NoError(t, err)
	require.Equal(t, a.ARN(awsKeyID), w.KeyVersion)
	require.Equal(t, []string{"POST /Encrypt", "POST /Decrypt"}, a.Calls())
	got, err := k.Unwrap(t.Context(), root.ID(), w)
	require.NoError(t, err)
	require.True(t, got.Value().Equal(root.Value()))
	key, err := k.Look(t.Context())
	require.NoError(t, err)
	require.Equal(t, Key{Version: a.ARN(awsKeyID), State: Enabled}, key)

	// By ARN it is the same key; under another root key's id, of another key, or from a row that names another, nothing opens.
	byARN := awsKeeper(t, "aws-kms://"+awsRegion+"/"+a.ARN(awsKeyID))
	_, err = byARN.Unwrap(t.Context(), root.ID(), w)
	require.NoError(t, err)
	_, err = k.Unwrap(t.Context(), newRoot(t).ID(), w)
	requireTrouble(t, err, awsAt, foreign)
	a.Calls()
	for _, arn := range []string{"", "x", a.ARN("second"), "arn:aws:kms:us-east-1:111122223333:key/" + awsKeyID} {
		_, err = k.Unwrap(t.Context(), root.ID(), Wrapped{Blob: w.Blob, KeyVersion: arn})
		requireTrouble(t, err, awsAt, foreign)
	}
	require.Empty(t, a.Calls(), "a row that names another key asks nobody")

	// An alias: what was wrapped opens by the key that wrapped, wherever the alias points now, and the newest key is told.
	a.Alias("signalbox", awsKeyID)
	alias := awsKeeper(t, "aws-kms://"+awsRegion+"/alias/signalbox")
	old, err := Make(t.Context(), alias, root)
	require.NoError(t, err)
	require.Equal(t, a.ARN(awsKeyID), old.KeyVersion)
	a.Alias("signalbox", "second")
	_, err = alias.Unwrap(t.Context(), root.ID(), old)
	require.NoError(t, err)
	key, err = alias.Look(t.Context())
	require.NoError(t, err)
	require.Equal(t, a.ARN("second"), key.Version)

	a.Disable(awsKeyID, true)
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, awsAt, keyUnusable)
	key, err = k.Look(t.Context())
	require.NoError(t, err)
	require.Equal(t, Disabled, key.State)
	a.Delete(awsKeyID)
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, awsAt, keyMissing)
}

// TestAWSAnswers plays every error that AWS documents for Encrypt, Decrypt and DescribeKey, and the common ones.
func TestAWSAnswers(t *testing.T) {
	a := keepertest.StartAWS(t, awsRegion, awsAccess)
	a.MakeKey(awsKeyID)
	awsEnvironment(t, "AWS_ACCESS_KEY_ID", awsAccess, "AWS_SECRET_ACCESS_KEY", plantedToken, "AWS_ENDPOINT_URL_KMS", a.URL)
	k := awsKeeper(t, awsAt)
	root := newRoot(t)
	w, err := Make(t.Context(), k, root)
	require.NoError(t, err)
	for code, c := range map[string]struct {
		status, times int
		want          trouble
	}{
		"AccessDeniedException":       {400, 1, denied},
		"NotFoundException":           {400, 1, keyMissing},
		"InvalidArnException":         {400, 1, keyMissing},
		"DisabledException":           {400, 1, keyUnusable},
		"KMSInvalidStateException":    {400, 1, keyUnusable},
		"InvalidKeyUsageException":    {400, 1, keyUnusable},
		"KeyUnavailableException":     {500, tries, keyUnusable},
		"InvalidCiphertextException":  {400, 1, foreign},
		"IncorrectKeyException":       {400, 1, foreign},
		"ThrottlingException":         {400, tries, throttled},
		"UnrecognizedClientException": {400, 1, unknownCaller},
		"InvalidSignatureException":   {400, 1, unknownCaller},
		"ExpiredTokenException":       {400, 1, unknownCaller},
		"DependencyTimeoutException":  {500, tries, failed},
		"KMSInternalException":        {500, tries, failed},
		"SomethingNewAndEvil":         {400, 1, failed},
	} {
		t.Run(code, func(t *testing.T) {
			for range c.times {
				a.Answer(c.status, `{"__type":"`+code+`","message":"`+providerText+" "+plantedToken+`"}`)
			}
			a.Calls()
			_, err := k.Unwrap(t.Context(), root.ID(), w)
			requireTrouble(t, err, awsAt, c.want)
			require.Len(t, a.Calls(), c.times)
		})
	}
	for range tries {
		a.Answer(307, "")
	}
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, awsAt, elsewhere)
	a.Answer(200, `{"KeyId":"`+a.ARN(awsKeyID)+`","Plaintext":"`+newRoot(t).Text().Reveal()+`"}`)
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, awsAt, otherKey)
	a.Answer(200, `{"KeyId":"`+a.ARN("another")+`","CiphertextBlob":"AAAA"}`)
	_, err = k.Wrap(t.Context(), root)
	requireTrouble(t, err, awsAt, failed)
	a.Answer(200, `{}`)
	_, err = k.Look(t.Context())
	requireTrouble(t, err, awsAt, failed)
	a.Close()
	_, err = k.Unwrap(t.Context(), root.ID(), w)
	requireTrouble(t, err, awsAt, unreachable)
}

// TestAWSCredentials: they come from where AWS's own tools find them; where there are none, the answer says where they are looked for.
func TestAWSCredentials(t *testing.T) {
	a := keepertest.StartAWS(t, awsRegion, awsAccess)
	a.MakeKey(awsKeyID)
	awsEnvironment(t, "AWS_ENDPOINT_URL_KMS", a.URL)
	_, err := awsKeeper(t, awsAt).Look(t.Context())
	requireTrouble(t, err, awsAt, noCredentials)
	require.Empty(t, a.Calls())

	require.NoError(t, os.WriteFile(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), []byte("[work]\naws_access_key_id = "+awsAccess+"\naws_secret_access_key = "+plantedToken+"\n"), 0o600))
	t.Setenv("AWS_PROFILE", "work")
	_, err = awsKeeper(t, awsAt).Look(t.Context())
	require.NoError(t, err)

	// Certificate authorities of one's own, with which the library wants a client of its own for the credentials.
	tls := httptest.NewTLSServer(a.Config.Handler)
	t.Cleanup(tls.Close)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}), 0o600))
	t.Setenv("AWS_ENDPOINT_URL_KMS", tls.URL)
	_, err = awsKeeper(t, awsAt).Look(t.Context())
	requireTrouble(t, err, awsAt, unreachable)
	t.Setenv("AWS_CA_BUNDLE", bundle)
	_, err = awsKeeper(t, awsAt).Look(t.Context())
	require.NoError(t, err)
	t.Setenv("AWS_CA_BUNDLE", "/nowhere")
	_, err = Open(Config{Address: parsed(t, awsAt), Getenv: os.Getenv})
	require.ErrorContains(t, err, "AWS_CA_BUNDLE")
	t.Setenv("AWS_CA_BUNDLE", "")
	t.Setenv("AWS_ENDPOINT_URL_KMS", a.URL)

	t.Setenv("AWS_PROFILE", "")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIASOMEBODYELSE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", plantedToken)
	_, err = awsKeeper(t, awsAt).Look(t.Context())
	requireTrouble(t, err, awsAt, unknownCaller)
}

// TestNothingLeavesInTheClear: an endpoint without TLS on another machine gets no byte.
func TestNothingLeavesInTheClear(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	awsEnvironment(t, "AWS_ACCESS_KEY_ID", awsAccess, "AWS_SECRET_ACCESS_KEY", plantedToken, "AWS_ENDPOINT_URL_KMS", "http://kms.eu-central-1.amazonaws.com")
	_, err = awsKeeper(t, awsAt).Wrap(t.Context(), newRoot(t))
	requireTrouble(t, err, awsAt, unreachable)
	t.Setenv("AWS_ENDPOINT_URL_KMS", "http://192.0.2.1:8000")
	_, err = awsKeeper(t, awsAt).Wrap(t.Context(), newRoot(t))
	requireTrouble(t, err, awsAt, unreachable)
}
