package keyring

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

// FuzzEnvelope feeds the ring envelopes that an attacker with the database may write: none of them opens, and none breaks it.
func FuzzEnvelope(f *testing.F) {
	key, err := secret.NewKey()
	require.NoError(f, err)
	ring := &Ring{}
	ring.at.Store(&held{active: 1, newest: 1, keys: map[uint32]secret.Key{1: key}})
	aad := secret.AAD{Table: "t", ID: "1", Field: "f", Version: 1}
	f.Add([]byte{})
	f.Add([]byte{format, 0, 0, 0, 1})
	f.Add([]byte{format, 0, 0, 0, 2, 1, 2, 3})
	f.Add(append([]byte{format, 0, 0, 0, 1}, bytes.Repeat([]byte{7}, 28)...))
	f.Add(append([]byte{2, 0, 0, 0, 1}, bytes.Repeat([]byte{7}, 40)...))
	f.Fuzz(func(t *testing.T, box []byte) {
		v, err := ring.Open("credential", box, aad)
		require.Error(t, err)
		require.True(t, v.IsZero())
		require.True(t, err == secret.ErrOpen || err == ErrUnknownKey)
	})
}
