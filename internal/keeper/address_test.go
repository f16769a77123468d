package keeper

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddresses(t *testing.T) {
	for _, text := range []string{
		"aws-kms://eu-central-1/1234abcd-12ab-34cd-56ef-1234567890ab",
		"aws-kms://eu-central-1/mrk-1234abcd12ab34cd56ef1234567890ab",
		"aws-kms://us-gov-west-1/alias/signalbox/root",
		"aws-kms://eu-central-1/arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"aws-kms://cn-north-1/arn:aws-cn:kms:cn-north-1:111122223333:alias/signalbox",
		"gcp-kms://projects/p-1/locations/europe-west3/keyRings/r/cryptoKeys/k",
		"gcp-kms://projects/example.com:p/locations/global/keyRings/r/cryptoKeys/k",
		"azure-keyvault://example.vault.azure.net/keys/signalbox",
		"azure-keyvault://example.managedhsm.azure.net/keys/signalbox/0123456789abcdef0123456789abcdef",
		"vault-transit://vault.example.com:8200/transit/signalbox",
		"vault-transit://vault.example.com/team/a/transit/signalbox",
		"vault-transit://[2001:db8::1]:8200/transit/signalbox",
		"vault-transit+http://127.0.0.1:8200/transit/signalbox",
		"vault-transit+http://localhost/transit/signalbox",
	} {
		a, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, text, a.String())
		require.False(t, a.IsZero())
	}
	require.True(t, Address{}.IsZero())
	for _, text := range []string{
		"", "x", "aws-kms://", "file:///root.key", "s3://eu-central-1/x", "aws-kms:eu-central-1/x",
		"aws-kms://eu-central-1", "aws-kms://eu/x", "aws-kms://eu-central-1/a/b", "aws-kms://eu-central-1/alias/../x", "aws-kms://eu-central-1/alias/",
		"aws-kms://EU-central-1/x", "aws-kms://eu-central-1.evil.example/x", "aws-kms://eu-central-1/x?y",
		"aws-kms://eu-central-1/arn:aws:kms:us-east-1:111122223333:key/1", "aws-kms://eu-central-1/arn:aws:s3:eu-central-1:111122223333:key/1",
		"aws-kms://eu-central-1/arn:aws:kms:eu-central-1:111122223333:secret/1",
		"gcp-kms://projects/p/locations/l/keyRings/r", "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
		"gcp-kms://projects/p/locations/../keyRings/r/cryptoKeys/k", "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k:decrypt?",
		"azure-keyvault://example.vault.azure.net/secrets/x", "azure-keyvault://example.vault.azure.net/keys/x/1/2", "azure-keyvault:///keys/x", "azure-keyvault://a@b/keys/x",
		"vault-transit://vault.example.com/signalbox", "vault-transit:///transit/k", "vault-transit://u:planted@vault/transit/k", "vault-transit://vault/transit/../sys",
		"vault-transit+http://vault.example.com:8200/transit/k", "vault-transit+http://10.0.0.1:8200/transit/k", "vault-transit://vault:x/transit/%2e",
	} {
		_, err := Parse(text)
		require.Error(t, err, text)
		require.NotContains(t, err.Error(), "planted")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("vault-transit://vault.example.com:8200/transit/signalbox")
	f.Add("aws-kms://eu-central-1/arn:aws:kms:eu-central-1:111122223333:key/1234abcd")
	f.Add("gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k")
	f.Add("azure-keyvault://example.vault.azure.net/keys/a/b")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := Parse(text)
		if err != nil {
			return
		}
		require.Equal(t, text, a.String())
		for _, r := range text {
			require.True(t, r > ' ' && r < 0x7f && r != '?' && r != '#' && r != '@' && r != '%' && r != '\\', "%q", text)
		}
	})
}
