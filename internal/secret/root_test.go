package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

func parse(s string) (secret.RootKey, error) { return secret.ParseRootKey(secret.FromString(s)) }

func TestParseRootKey(t *testing.T) {
	// The bytes give both characters in which the two alphabets differ, and padding.
	raw := append(bytes.Repeat([]byte{0xfb, 0xff}, 15), 1, 2)
	std := base64.StdEncoding.EncodeToString(raw)
	require.Contains(t, std, "+")
	require.Contains(t, std, "/")
	want, err := parse(std)
	require.NoError(t, err)
	for name, text := range map[string]string{
		"unpadded": base64.RawStdEncoding.EncodeToString(raw), "URL-safe": base64.URLEncoding.EncodeToString(raw),
		"URL-safe unpadded": base64.RawURLEncoding.EncodeToString(raw), "with a line end": std + "\n", "with CRLF": std + "\r\n", "with spaces": "  " + std + " ",
	} {
		got, err := parse(text)
		require.NoError(t, err, name)
		require.Equal(t, want.ID(), got.ID(), name)
	}
	for name, text := range map[string]string{
		"31 bytes": base64.StdEncoding.EncodeToString(raw[:31]), "33 bytes": base64.StdEncoding.EncodeToString(append(raw, 3)), "hex": hex.EncodeToString(raw),
		"plain text": "correct horse battery staple!!!!", "two keys": std + std, "a space inside": std[:10] + " " + std[10:], "loose bits": strings.TrimRight(std, "=")[:42] + "R",
	} {
		_, err := parse(text)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), text[:8], "the input is never quoted: %s", name)
		require.Contains(t, err.Error(), "signalbox keygen", "it says what to do")
	}
	for _, none := range []string{"", " ", "\n"} {
		_, err := parse(none)
		require.ErrorIs(t, err, secret.ErrNoRootKey)
	}
}

func TestRootKeyID(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	a, err := parse(key)
	require.NoError(t, err)
	// Computed by other means (RFC 5869). Fixed for ever: the id stands in every keyring that was made with the key.
	require.Equal(t, "rk_0c1ca053", a.ID())
	require.Regexp(t, `^rk_[0-9a-f]{8}$`, a.ID())
	require.False(t, a.IsZero())
	require.True(t, secret.RootKey{}.IsZero())
	require.Empty(t, secret.RootKey{}.ID())
	_, err = secret.RootKey{}.Derive("x")
	require.Error(t, err)

	b, err := secret.NewRootKey()
	require.NoError(t, err)
	c, err := secret.NewRootKey()
	require.NoError(t, err)
	require.NotEqual(t, b.ID(), c.ID())

	s, err := a.Derive("keyring-wrap")
	require.NoError(t, err)
	box, err := s.Seal(secret.FromString(planted), here)
	require.NoError(t, err)
	other, err := b.Derive("keyring-wrap")
	require.NoError(t, err)
	_, err = other.Open(box, here)
	require.ErrorIs(t, err, secret.ErrOpen)
}

func TestRootKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.key")
	made, err := secret.NewRootKey()
	require.NoError(t, err)
	require.NoError(t, secret.WriteRootKeyFile(path, made))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	read, err := secret.ReadRootKeyFile(path)
	require.NoError(t, err)
	require.Equal(t, made.ID(), read.ID())

	other, err := secret.NewRootKey()
	require.NoError(t, err)
	require.ErrorIs(t, secret.WriteRootKeyFile(path, other), os.ErrExist, "a root key is never replaced")
	read, err = secret.ReadRootKeyFile(path)
	require.NoError(t, err)
	require.Equal(t, made.ID(), read.ID())

	_, err = secret.ReadRootKeyFile(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)

	bad := filepath.Join(t.TempDir(), "bad")
	require.NoError(t, os.WriteFile(bad, []byte(planted), 0o600))
	_, err = secret.ReadRootKeyFile(bad)
	require.ErrorContains(t, err, bad)
	require.Empty(t, leaks(err.Error()))
}

func TestSecretFileModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, secret.WriteFile(path, secret.FromString(planted)))
	for mode, fine := range map[os.FileMode]bool{
		0o600: true, 0o400: true, 0o440: true, 0o640: true, 0o644: false, 0o604: false, 0o620: false, 0o660: false, 0o602: false, 0o666: false, 0o777: false, 0o601: false,
	} {
		require.NoError(t, os.Chmod(path, mode))
		v, err := secret.ReadFile(path)
		if fine {
			require.NoError(t, err, "%o", mode)
			require.Equal(t, planted, v.Reveal())
			continue
		}
		require.ErrorContains(t, err, "chmod 600", "%o", mode)
		require.True(t, v.IsZero())
	}
	big := filepath.Join(t.TempDir(), "big")
	require.NoError(t, os.WriteFile(big, bytes.Repeat([]byte("x"), 64<<10), 0o600))
	v, err := secret.ReadFile(big)
	require.NoError(t, err)
	require.Equal(t, 64<<10, v.Len())
	require.NoError(t, os.WriteFile(big, bytes.Repeat([]byte("x"), 64<<10+1), 0o600))
	_, err = secret.ReadFile(big)
	require.ErrorContains(t, err, "64 KiB")
	require.ErrorIs(t, secret.WriteFile(big, v), os.ErrExist)
}
