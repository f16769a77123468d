package scrub_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/scrub"
)

func packed(t testing.TB, how string, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch how {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zlib":
		w = zlib.NewWriter(&out)
	default:
		var err error
		w, err = flate.NewWriter(&out, flate.BestSpeed)
		require.NoError(t, err)
	}
	_, err := w.Write(text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// TestCodings: what can be looked into is decoded and scrubbed; what cannot is said to be so.
func TestCodings(t *testing.T) {
	const planted = "sk-live-7fQz9x"
	for _, c := range []struct {
		how     string
		values  []string
		changed bool
	}{
		{"gzip", []string{"gzip"}, true}, {"gzip", []string{"X-GZIP, identity"}, true}, {"zlib", []string{"identity", " Deflate "}, true},
		{"flate", []string{"deflate"}, true}, {"", []string{"identity"}, false}, {"", nil, false}, {"", []string{""}, false},
	} {
		require.True(t, scrub.CanDecode(c.values))
		body := []byte("so: " + planted + ".")
		if c.how != "" {
			body = packed(t, c.how, body)
		}
		text, changed, err := scrub.Decode(iotest.OneByteReader(bytes.NewReader(body)), c.values)
		require.NoError(t, err)
		require.Equal(t, c.changed, changed)
		got, err := io.ReadAll(made(t, planted).Reader(text))
		require.NoError(t, err)
		require.Equal(t, "so: **************.", string(got), c.how)
	}
	for _, values := range [][]string{{"br"}, {"zstd"}, {"gzip, gzip"}, {"gzip", "deflate"}, {"compress"}, {"gzip;q=1"}} {
		require.False(t, scrub.CanDecode(values), values)
		_, _, err := scrub.Decode(strings.NewReader(""), values)
		require.ErrorIs(t, err, scrub.ErrCoding)
	}
}

// TestDecodingIsBounded: a bomb is refused soon, damage and a break are errors that quote nothing, and no body is no error.
func TestDecodingIsBounded(t *testing.T) {
	bomb := packed(t, "gzip", make([]byte, 64<<20))
	text, _, err := scrub.Decode(bytes.NewReader(bomb), []string{"gzip"})
	require.NoError(t, err)
	n, err := io.Copy(io.Discard, text)
	require.ErrorIs(t, err, scrub.ErrExpands)
	require.Less(t, n, int64(16<<20))

	whole := packed(t, "gzip", []byte(strings.Repeat("words of an answer ", 20)))
	for _, body := range []string{"no gzip at all", string(whole[:len(whole)/2]), string(whole) + "more"} {
		text, _, err = scrub.Decode(strings.NewReader(body), []string{"gzip"})
		require.NoError(t, err)
		_, err = io.ReadAll(text)
		require.ErrorIs(t, err, scrub.ErrDamaged)
	}
	text, _, err = scrub.Decode(io.MultiReader(bytes.NewReader(whole[:12]), iotest.ErrReader(errBroken)), []string{"gzip"})
	require.NoError(t, err)
	_, err = io.ReadAll(text)
	require.ErrorIs(t, err, errBroken)
	text, _, err = scrub.Decode(strings.NewReader(""), []string{"gzip"})
	require.NoError(t, err)
	got, err := io.ReadAll(text)
	require.NoError(t, err)
	require.Empty(t, got)
}

// TestDecodingStreams: what an upstream has flushed is there to read before it sends more.
func TestDecodingStreams(t *testing.T) {
	r, w := io.Pipe()
	sent := gzip.NewWriter(w)
	done := make(chan error, 1)
	go func() {
		_, err := sent.Write([]byte("data: one\n\n"))
		if err == nil {
			err = sent.Flush()
		}
		done <- err
	}()
	text, _, err := scrub.Decode(r, []string{"gzip"})
	require.NoError(t, err)
	buf := make([]byte, 4096)
	n, err := made(t, "sk-live-7fQz9x").Reader(text).Read(buf)
	require.NoError(t, err)
	require.Equal(t, "data: one\n\n", string(buf[:n]))
	require.NoError(t, <-done)
	require.NoError(t, r.Close())
}
