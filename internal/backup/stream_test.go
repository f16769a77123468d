package backup

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

// streamOf seals a text for a head.
func streamOf(t *testing.T, key secret.Key, head string, plain []byte) []byte {
	t.Helper()
	aead, err := pieces(key, []byte(head))
	require.NoError(t, err)
	var b bytes.Buffer
	s := newSealing(&b, aead)
	for part := range slices.Chunk(plain, 1000) {
		_, err = s.Write(part)
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	return b.Bytes()
}

func opened(t *testing.T, key secret.Key, head string, box []byte) ([]byte, error) {
	t.Helper()
	aead, err := pieces(key, []byte(head))
	require.NoError(t, err)
	return io.ReadAll(newOpening(bytes.NewReader(box), aead))
}

// TestPieces: what was sealed comes back, whatever its length; pieces that were dropped, swapped, repeated, cut, or put behind the end do not open, nor
// under another head or key.
func TestPieces(t *testing.T) {
	key, err := secret.NewKey()
	require.NoError(t, err)
	for _, length := range []int{0, 1, pieceSize - 1, pieceSize, pieceSize + 1, 3 * pieceSize, 3*pieceSize + 17} {
		plain := bytes.Repeat([]byte{7}, length)
		box := streamOf(t, key, "head", plain)
		got, err := opened(t, key, "head", box)
		require.NoError(t, err, length)
		require.Equal(t, plain, append([]byte{}, got...), length)
		_, err = opened(t, key, "other", box)
		require.ErrorIs(t, err, ErrDamaged)
		other, err := secret.NewKey()
		require.NoError(t, err)
		_, err = opened(t, other, "head", box)
		require.ErrorIs(t, err, ErrDamaged)
	}
	plain := make([]byte, 3*pieceSize+17)
	for i := range plain {
		plain[i] = byte(i >> 8)
	}
	box := streamOf(t, key, "head", plain)
	const full = pieceSize + tagSize
	a, b, c, d := box[:full], box[full:2*full], box[2*full:3*full], box[3*full:]
	for name, parts := range map[string][][]byte{
		"dropped at the start": {b, c, d}, "dropped inside": {a, c, d}, "dropped at the end": {a, b, c}, "swapped": {a, c, b, d}, "repeated": {a, a, b, c, d},
		"twice": {box, box}, "one byte more": {box, {0}}, "one byte less": {box[:len(box)-1]}, "cut in a piece": {box[:full+5]}, "nothing": {}, "of another file": {a, b, streamOf(t, key, "other", plain)[2*full:]},
	} {
		_, err := opened(t, key, "head", bytes.Join(parts, nil))
		require.ErrorIs(t, err, ErrDamaged, name)
	}
	// An empty last piece behind a full one is what no writer makes.
	aead, err := pieces(key, []byte("head"))
	require.NoError(t, err)
	odd := aead.Seal(nil, nonce(0, false), plain[:pieceSize], nil)
	odd = aead.Seal(odd, nonce(1, true), nil, nil)
	_, err = opened(t, key, "head", odd)
	require.ErrorIs(t, err, ErrDamaged)
	// Nothing of a piece is handed out before it opened.
	box[2*full+9] ^= 1
	got, err := opened(t, key, "head", box)
	require.ErrorIs(t, err, ErrDamaged)
	require.Len(t, got, 2*pieceSize)
}

// TestNoncesNeverRepeat: number and end are both in the nonce.
func TestNoncesNeverRepeat(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range []uint64{0, 1, 255, 256, 1 << 32, 1<<64 - 1} {
		for _, last := range []bool{false, true} {
			seen[string(nonce(n, last))] = true
		}
	}
	require.Len(t, seen, 12)
}

// failing breaks off with an error of its own.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error)    { return 0, f.err }
func (f failing) Write(p []byte) (int, error) { return 0, f.err }

// TestADiskIsNoDamage: an error of the disk is told as what it is.
func TestADiskIsNoDamage(t *testing.T) {
	key, err := secret.NewKey()
	require.NoError(t, err)
	aead, err := pieces(key, nil)
	require.NoError(t, err)
	bad := errors.New("the disk reports an error")
	_, err = io.ReadAll(newOpening(failing{bad}, aead))
	require.ErrorIs(t, err, bad)
	require.ErrorIs(t, newSealing(failing{bad}, aead).Close(), bad)
}
