package secret_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

var here = secret.AAD{Table: "credential_secrets", ID: "cred_1", Field: "password", Version: 3}

func sealer(t testing.TB, purpose string) (secret.Key, secret.Sealer) {
	t.Helper()
	key, err := secret.NewKey()
	require.NoError(t, err)
	s, err := key.Derive(purpose)
	require.NoError(t, err)
	return key, s
}

func TestSealAndOpen(t *testing.T) {
	key, s := sealer(t, "credential")
	for _, text := range []string{"", "x", planted, strings.Repeat("long ", 20_000), "\x00\xff binary"} {
		v := secret.FromString(text)
		box, err := s.Seal(v, here)
		require.NoError(t, err)
		require.Len(t, box, len(text)+28)
		if len(text) > 8 {
			require.False(t, bytes.Contains(box, []byte(text)[:8]))
		}
		got, err := s.Open(box, here)
		require.NoError(t, err)
		require.Equal(t, text, got.Reveal())
	}
	// The same key derives the same sealer again.
	box, err := s.Seal(secret.FromString(planted), here)
	require.NoError(t, err)
	again, err := key.Derive("credential")
	require.NoError(t, err)
	got, err := again.Open(box, here)
	require.NoError(t, err)
	require.Equal(t, planted, got.Reveal())
}

func TestEverySealHasItsOwnNonce(t *testing.T) {
	_, s := sealer(t, "credential")
	nonces, boxes := map[string]bool{}, map[string]bool{}
	for range 2000 {
		box, err := s.Seal(secret.FromString(planted), here)
		require.NoError(t, err)
		nonces[string(box[:12])], boxes[string(box[12:])] = true, true
	}
	require.Len(t, nonces, 2000)
	require.Len(t, boxes, 2000)
}

func TestInvariant07OpenWithAnotherRowFieldOrVersionFails(t *testing.T) {
	key, s := sealer(t, "credential")
	box, err := s.Seal(secret.FromString(planted), here)
	require.NoError(t, err)
	for name, aad := range map[string]secret.AAD{
		"table": {Table: "credentials", ID: here.ID, Field: here.Field, Version: here.Version}, "row": {Table: here.Table, ID: "cred_2", Field: here.Field, Version: here.Version},
		"field": {Table: here.Table, ID: here.ID, Field: "passphrase", Version: here.Version}, "version before": {Table: here.Table, ID: here.ID, Field: here.Field, Version: 2},
		"version after": {Table: here.Table, ID: here.ID, Field: here.Field, Version: 4}, "negative version": {Table: here.Table, ID: here.ID, Field: here.Field, Version: -3},
		"nothing": {}, "id's end in field": {Table: here.Table, ID: "cred_", Field: "1password", Version: here.Version},
		"table's end in id": {Table: "credential_secret", ID: "scred_1", Field: here.Field, Version: here.Version},
	} {
		_, err := s.Open(box, aad)
		require.ErrorIs(t, err, secret.ErrOpen, name)
		require.Empty(t, leaks(err.Error()))
	}
	other, err := key.Derive("audit-signer")
	require.NoError(t, err)
	_, err = other.Open(box, here)
	require.ErrorIs(t, err, secret.ErrOpen, "another purpose of the same key")
	_, stranger := sealer(t, "credential")
	_, err = stranger.Open(box, here)
	require.ErrorIs(t, err, secret.ErrOpen, "another key")
}

func TestEveryFlippedByteFails(t *testing.T) {
	_, s := sealer(t, "credential")
	box, err := s.Seal(secret.FromString(planted), here)
	require.NoError(t, err)
	for i := range box {
		for bit := range 8 {
			bad := bytes.Clone(box)
			bad[i] ^= 1 << bit
			_, err := s.Open(bad, here)
			require.ErrorIs(t, err, secret.ErrOpen, "byte %d bit %d", i, bit)
		}
	}
	for n := range box {
		_, err := s.Open(box[:n], here)
		require.ErrorIs(t, err, secret.ErrOpen, "cut to %d", n)
	}
	_, err = s.Open(append(bytes.Clone(box), 0), here)
	require.ErrorIs(t, err, secret.ErrOpen)
	_, err = s.Open(nil, here)
	require.ErrorIs(t, err, secret.ErrOpen)
	got, err := s.Open(box, here)
	require.NoError(t, err)
	require.Equal(t, planted, got.Reveal(), "the original still opens: Open does not write into what it was given")
}

func TestKeys(t *testing.T) {
	_, err := secret.KeyFrom(secret.New(make([]byte, 31)))
	require.Error(t, err)
	_, err = secret.KeyFrom(secret.New(make([]byte, 33)))
	require.Error(t, err)
	_, err = secret.Key{}.Derive("x")
	require.Error(t, err, "no key")
	_, err = secret.Key{}.Subkey("x", 4)
	require.Error(t, err)
	_, err = secret.Sealer{}.Seal(secret.FromString("x"), here)
	require.Error(t, err, "no sealer")
	_, err = secret.Sealer{}.Open([]byte("x"), here)
	require.Error(t, err)

	a, err := secret.NewKey()
	require.NoError(t, err)
	b, err := secret.NewKey()
	require.NoError(t, err)
	require.Equal(t, secret.KeySize, a.Value().Len())
	require.False(t, a.Value().Equal(b.Value()))
	one, err := a.Subkey("one", 32)
	require.NoError(t, err)
	two, err := a.Subkey("two", 32)
	require.NoError(t, err)
	require.NotEqual(t, one, two)
	require.NotEqual(t, a.Value().Bytes(), one)
	same, err := secret.KeyFrom(a.Value())
	require.NoError(t, err)
	again, err := same.Subkey("one", 32)
	require.NoError(t, err)
	require.Equal(t, one, again)
}

// FuzzOpen feeds the opener what an attacker with the database may write. Nothing but the one true box may open.
func FuzzOpen(f *testing.F) {
	key, err := secret.KeyFrom(secret.New(bytes.Repeat([]byte{7}, secret.KeySize)))
	require.NoError(f, err)
	s, err := key.Derive("credential")
	require.NoError(f, err)
	// A fixed box: fuzzing runs in several processes, which must agree on it. It also holds the format still for stored records.
	box, err := hex.DecodeString("533a50b27fe1b530111d8a33d645f1533b8f4a8a113829d8be45ad1ab9a8d9f52f5bc1745f61accd" +
		"94faef3da9b543bc3d56a45e8f3c4d3f4e511f478251cd860e")
	require.NoError(f, err)
	f.Add(box, here.Table, here.ID, here.Field, here.Version)
	f.Add(box[:27], here.Table, here.ID, here.Field, here.Version)
	f.Add([]byte{}, "", "", "", int64(0))
	f.Add(box, "credential_secret", "scred_1", here.Field, int64(-1))
	f.Fuzz(func(t *testing.T, sealed []byte, table, id, field string, version int64) {
		aad := secret.AAD{Table: table, ID: id, Field: field, Version: version}
		got, err := s.Open(sealed, aad)
		if bytes.Equal(sealed, box) && aad == here {
			require.NoError(t, err)
			require.Equal(t, planted, got.Reveal())
			return
		}
		require.ErrorIs(t, err, secret.ErrOpen)
		require.True(t, got.IsZero())
	})
}
