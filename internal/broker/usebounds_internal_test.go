package broker

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/scrub"
	"signalbox.dev/signalbox/internal/secret"
)

// TestAnAnswerHasBounds: of size, of silence, and of time altogether.
func TestAnAnswerHasBounds(t *testing.T) {
	l := newLimitedTo(io.NopCloser(strings.NewReader("12345678")), 5, time.Hour, time.Hour)
	_, err := io.ReadAll(l)
	require.ErrorIs(t, err, errTooMuch)
	require.ErrorIs(t, l.err(), errTooMuch)
	l.stop()
	l = newLimitedTo(io.NopCloser(strings.NewReader("12345")), 5, time.Hour, time.Hour)
	all, err := io.ReadAll(l)
	require.NoError(t, err)
	require.Equal(t, "12345", string(all))
	l.stop()
	for _, each := range []time.Duration{10 * time.Second, 2 * time.Second} { // silence, and slowly for long
		synctest.Test(t, func(t *testing.T) {
			from, to := io.Pipe()
			l := newLimitedTo(from, 1000, 5*time.Second, time.Minute)
			defer l.stop()
			gone := make(chan struct{})
			defer func() { <-gone }()
			go func() {
				defer close(gone)
				for {
					time.Sleep(each)
					if _, err := to.Write([]byte("x")); err != nil {
						return
					}
				}
			}()
			began := time.Now()
			n, err := io.Copy(io.Discard, l)
			require.ErrorIs(t, err, errTooLong)
			if each > 5*time.Second {
				require.Zero(t, n)
				require.Equal(t, 5*time.Second, time.Since(began))
				return
			}
			require.Equal(t, time.Minute, time.Since(began))
		})
	}
}

// frame writes a frame of a server.
func frame(op byte, final bool, p string) string {
	var b bytes.Buffer
	f := &frames{out: &b}
	_ = f.write(op, final, []byte(p))
	return b.String()
}

// heard reads frames as a caller would, and returns the messages with their opcodes.
func heard(t require.TestingT, raw []byte) (out []string) {
	in := &frames{in: bufio.NewReader(bytes.NewReader(raw))}
	begun := ""
	for in.in.Buffered() > 0 || len(raw) > 0 {
		head := make([]byte, 2)
		if _, err := io.ReadFull(in.in, head); err != nil {
			break
		}
		size, err := in.length(uint64(head[1]))
		require.NoError(t, err)
		p := make([]byte, size)
		_, err = io.ReadFull(in.in, p)
		require.NoError(t, err)
		op, final := head[0]&0x0f, head[0]&finBit != 0
		switch {
		case op >= opClose:
			out = append(out, string(rune('A'+op))+string(p))
			continue
		case op == opContinuation:
			require.NotEmpty(t, begun)
			begun += string(p)
		default:
			require.Empty(t, begun)
			begun = string(rune('A'+op)) + string(p)
		}
		if final {
			out, begun = append(out, begun), ""
		}
	}
	return out
}

func looker(t testing.TB) *scrub.Scrubber {
	look, err := scrub.New(secret.FromString("plain-secret-1"))
	require.NoError(t, err)
	return look
}

// TestFramesAreMasked: a secret over any number of fragments, with control frames between, in messages of every length.
func TestFramesAreMasked(t *testing.T) {
	masked := strings.Repeat("*", 14)
	text := "<plain-secret-1>"
	for cut := range len(text) + 1 {
		raw := frame(opText, false, text[:cut]) + frame(opPing, true, "p plain-secret-1") + frame(opContinuation, false, "") + frame(opContinuation, true, text[cut:]) + frame(opClose, true, "\x03\xe8plain-secret-1")
		var got bytes.Buffer
		f := &frames{in: bufio.NewReader(strings.NewReader(raw)), out: &got, look: looker(t), alive: func() {}}
		var err error
		for err == nil && !f.closed {
			err = f.message()
		}
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"B<" + masked + ">", "Jp " + masked, "I\x03\xe8" + masked}, heard(t, got.Bytes()))
	}
	for _, size := range []int{0, 1, 125, 126, 127, 8191, 8192, 8193, 65535, 65536, 200_000} {
		body := strings.Repeat("x", size)
		var got bytes.Buffer
		f := &frames{in: bufio.NewReader(strings.NewReader(frame(opBinary, true, body))), out: &got, look: looker(t), alive: func() {}}
		require.NoError(t, f.message())
		require.Equal(t, []string{"C" + body}, heard(t, got.Bytes()))
		require.ErrorIs(t, f.message(), io.EOF)
	}
	for name, raw := range map[string]string{
		"masked": "\x81\x81abcdx", "an extension's bit": "\xc1\x01x", "a long control frame": "\x89\x7e\x00\x80", "a fragmented control frame": "\x09\x01x", "an unknown opcode": "\x83\x01x", "an unknown control": "\x8b\x01x",
		"a continuation of nothing": "\x80\x01x", "a message within a message": "\x01\x01x\x81\x01y", "a length beyond": "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		f := &frames{in: bufio.NewReader(strings.NewReader(raw)), out: io.Discard, look: looker(t), alive: func() {}}
		require.ErrorIs(t, f.message(), errFrame, name)
	}
	for _, raw := range []string{"\x81", "\x81\x05hel", "\x01\x01x", "\x81\x7e\x01", "\x89\x05x"} {
		f := &frames{in: bufio.NewReader(strings.NewReader(raw)), out: io.Discard, look: looker(t), alive: func() {}}
		require.ErrorIs(t, f.message(), io.ErrUnexpectedEOF, "%q", raw)
	}
}

// FuzzFrames: whatever an upstream sends, what goes on is well formed and holds no secret.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(frame(opText, false, "plain-") + frame(opContinuation, true, "secret-1")))
	f.Add([]byte("\x81\x85abcdx\x01\x7e\x00\x05"))
	look := looker(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var got bytes.Buffer
		in := &frames{in: bufio.NewReader(bytes.NewReader(raw)), out: &got, look: look, alive: func() {}}
		var err error
		for err == nil && !in.closed {
			err = in.message()
		}
		for _, message := range heard(t, got.Bytes()) {
			require.NotContains(t, message, "plain-secret-1")
		}
	})
}
