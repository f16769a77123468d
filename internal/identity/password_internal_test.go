package identity

import (
	"context"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

// TestHashingIsBounded fills every slot: the next one waits its turn instead of taking 19 MiB more.
func TestHashingIsBounded(t *testing.T) {
	h := newHasher()
	require.LessOrEqual(t, cap(h.slots), 4)
	for range cap(h.slots) {
		require.NoError(t, h.acquire(t.Context()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := h.verify(ctx, secret.FromString("x"), "")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = h.hash(ctx, secret.FromString("x"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	h.release()
	ok, err := h.verify(t.Context(), secret.FromString("x"), "")
	require.NoError(t, err)
	require.False(t, ok)
	require.Len(t, h.slots, cap(h.slots)-1, "a slot is given back")
}

// TestNobodyCostsAsMuchAsSomebody: the work is decided by the parameters in the hash.
func TestNobodyCostsAsMuchAsSomebody(t *testing.T) {
	params, salt, key, err := argon2id.DecodeHash(nobody)
	require.NoError(t, err)
	require.Equal(t, argon(), params)
	require.Len(t, salt, 16)
	require.Len(t, key, 32)
}
