package broker

import (
	"bufio"
	"context"
	"crypto/sha1" // RFC 6455 wants it; nothing is protected by it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/scrub"
	"signalbox.dev/signalbox/internal/train"
)

// upgrades reports whether a request wants to become a WebSocket (RFC 6455, section 4.1). Any other upgrade is dropped, as a hop's affair.
func upgrades(r *http.Request) bool {
	return r.ProtoMajor == 1 && tokenIn(r.Header["Connection"], "upgrade") && len(r.Header["Upgrade"]) == 1 && strings.EqualFold(strings.TrimSpace(r.Header["Upgrade"][0]), "websocket")
}

func tokenIn(lines []string, token string) bool {
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// checkUpgrade refuses a handshake that is not one: what follows it is no HTTP any more, so it must be beyond doubt for everybody on the way.
func checkUpgrade(r *http.Request) error {
	keys := r.Header["Sec-Websocket-Key"]
	switch {
	case r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1):
		return badPath("A WebSocket is asked for with GET and HTTP/1.1.")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return badPath("A request for a WebSocket must have no body.")
	case !slices.Equal(r.Header["Sec-Websocket-Version"], []string{"13"}):
		return badPath("A request for a WebSocket needs Sec-WebSocket-Version: 13, the only version that Signalbox passes on.")
	case len(keys) != 1:
		return badPath("A request for a WebSocket needs one Sec-WebSocket-Key.")
	}
	if nonce, err := base64.StdEncoding.DecodeString(keys[0]); err != nil || len(nonce) != 16 {
		return badPath("The Sec-WebSocket-Key of a request for a WebSocket is 16 bytes in base64.")
	}
	return nil
}

// accepts is what a server answers to a key.
func accepts(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// checkSwitch says why an answer of 101 does not begin the WebSocket that was asked for.
func (a *useAnswer) checkSwitch() error {
	h := a.resp.Header
	offered := a.r.Header["Sec-Websocket-Protocol"]
	switch chosen := h["Sec-Websocket-Protocol"]; {
	case !tokenIn(h["Connection"], "upgrade") || !tokenIn(h["Upgrade"], "websocket"):
		return errors.New("it switches to something other than a WebSocket")
	case !slices.Equal(h["Sec-Websocket-Accept"], []string{accepts(a.r.Header.Get("Sec-Websocket-Key"))}):
		return errors.New("its Sec-WebSocket-Accept is not that of the request")
	case len(h["Sec-Websocket-Extensions"]) > 0:
		return errors.New("it chose an extension that was not offered")
	case len(chosen) > 1 || len(chosen) == 1 && !tokenIn(offered, chosen[0]):
		return errors.New("it chose a protocol that was not offered")
	}
	return nil
}

// talk passes a WebSocket on until one side ends it or the right to lend ends.
func (a *useAnswer) talk() error {
	outcome := train.Outcome{Result: train.OK, Status: a.resp.StatusCode, FirstByte: time.Since(a.started)}
	defer func() {
		_ = a.resp.Body.Close()
		outcome.Duration = time.Since(a.started)
		a.lease.Done(outcome)
	}()
	up, ok := a.resp.Body.(io.ReadWriteCloser)
	if err := a.checkSwitch(); err != nil || !ok {
		outcome.Result = train.Refused
		return errAnswer(err)
	}
	a.copyHeaders()
	conn, buffered, err := http.NewResponseController(a.w).Hijack()
	if err != nil {
		outcome.Result = train.Refused
		return errAnswer(errors.New("the caller's connection cannot become a WebSocket"))
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Time{})
	socket := &socket{conn: conn, up: up}
	end := context.AfterFunc(a.lease.Context(), socket.close)
	defer end()
	socket.quiet = time.AfterFunc(useQuiet, socket.close)
	defer socket.quiet.Stop()
	whole := time.AfterFunc(useWhole, socket.close)
	defer whole.Stop()

	asked := make(chan struct{})
	go func() { // ends when either connection is closed
		defer close(asked)
		socket.upward(buffered.Reader)
	}()
	err = a.greet(conn)
	if err == nil {
		outcome.Bytes, err = socket.downward(a.look)
	}
	if err == nil {
		socket.finish()
	} else {
		socket.close()
	}
	<-asked
	switch cause := context.Cause(a.lease.Context()); {
	case err == nil:
	case cause != nil && a.r.Context().Err() == nil:
		outcome.Result = train.Revoked
	case errors.Is(err, errFrame), errors.Is(err, errTooMuch):
		outcome.Result = train.Refused
		a.broker.log.Warn("a WebSocket under /use was broken off", "request_id", a.w.Header().Get("X-Request-Id"), "cause", err.Error())
	case socket.gone.Load(), a.r.Context().Err() != nil:
		outcome.Result = train.ClientCancelled
	default:
		outcome.Result = train.UpstreamBroke
		a.broker.log.Info("an upstream broke off its WebSocket", "request_id", a.w.Header().Get("X-Request-Id"), "cause", outbound.Clean(err).Error())
	}
	return nil
}

// greet answers the caller's handshake. Each header was looked at.
func (a *useAnswer) greet(conn net.Conn) error {
	h := a.w.Header()
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	delete(h, "Content-Length")
	out := bufio.NewWriter(conn)
	_, _ = fmt.Fprintf(out, "HTTP/1.1 %d %s\r\n", http.StatusSwitchingProtocols, http.StatusText(http.StatusSwitchingProtocols)) // Flush tells
	_ = h.Write(out)
	_, _ = out.WriteString("\r\n")
	return out.Flush()
}

// socket is the two connections of a WebSocket.
type socket struct {
	conn  net.Conn
	up    io.ReadWriteCloser
	quiet *time.Timer
	// gone says that the caller's side ended first, and ending that ours was closed.
	gone, ending atomic.Bool
}

// close breaks both connections off.
func (s *socket) close() {
	s.ending.Store(true)
	_ = s.up.Close()
	_ = s.conn.Close()
}

// finish ends both after the upstream's last frame: the caller may still have a moment to take it in.
func (s *socket) finish() {
	_ = s.conn.SetDeadline(time.Now().Add(cutPatience))
}

// upward passes on what the caller sends. It is theirs, and nothing in it needs to be understood.
func (s *socket) upward(from io.Reader) {
	buf := make([]byte, streamBuffer)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			s.quiet.Reset(useQuiet)
			if _, werr := s.up.Write(buf[:n]); werr != nil {
				return // the reading side learns of it, too
			}
		}
		if err != nil {
			if !s.ending.Load() {
				s.gone.Store(true)
			}
			_ = s.up.Close()
			return
		}
	}
}

// downward passes on what the upstream sends, frame by frame, with the secret taken out of each message and each control frame. It ends without an error after a close frame, and
// with io.EOF where the upstream ended without one.
func (s *socket) downward(look *scrub.Scrubber) (sent int64, err error) {
	f := &frames{in: bufio.NewReaderSize(s.up, streamBuffer), out: s.conn, look: look, alive: func() { s.quiet.Reset(useQuiet) }}
	for err == nil && !f.closed {
		err = f.message()
	}
	if f.closed { // also within a message, of which nothing more comes
		err = nil
	}
	return f.sent, err
}

var errFrame = errors.New("the upstream sent what is no frame of a WebSocket without extensions")

// The opcodes (RFC 6455, section 5.2).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA

	finBit    = 0x80
	maskBit   = 0x80
	mostShort = 125 // bytes of a control frame
)

// frames reads the frames of an upstream and writes those for the caller. A message keeps its bytes and its length; how it is cut into frames may change, as far as
// its end is not known yet (section 5.4).
type frames struct {
	in    *bufio.Reader
	out   io.Writer
	look  *scrub.Scrubber
	alive func()
	sent  int64
	came  int64

	left   uint64 // of the payload of the data frame under way
	final  bool   // it is the last of its message
	closed bool   // a close frame went through
}

// message passes on one data message with the control frames in it, or one control frame between messages.
func (f *frames) message() error {
	op, err := f.next(false)
	if err != nil || f.closed || op >= opClose {
		return err
	}
	from := &payload{of: f}
	text := f.look.Reader(from)
	buf := make([]byte, streamBuffer)
	for {
		n, err := text.Read(buf)
		// Behind the last byte of a message nothing has to be waited for: what there is of it goes out as its last frame.
		for err == nil && from.ended && n < len(buf) {
			var more int
			more, err = text.Read(buf[n:])
			n += more
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		last := errors.Is(err, io.EOF)
		if n > 0 || last {
			if werr := f.write(op, last, buf[:n]); werr != nil {
				return werr
			}
			op = opContinuation
		}
		if last {
			return nil
		}
	}
}

// payload reads the payload of one message.
type payload struct {
	of    *frames
	ended bool
}

// Read implements io.Reader. It tells the end together with the last byte.
func (p *payload) Read(b []byte) (int, error) {
	f := p.of
	for f.left == 0 && !f.final {
		if _, err := f.next(true); err != nil {
			return 0, noEnd(err) // what was begun is no message yet
		}
		if f.closed {
			return 0, io.ErrUnexpectedEOF
		}
	}
	n := 0
	if f.left > 0 {
		var err error
		if n, err = f.in.Read(b[:min(uint64(len(b)), f.left)]); n == 0 && err != nil {
			return 0, noEnd(err)
		}
		f.left -= uint64(n)
		if f.came += int64(n); f.came > useMost {
			return 0, errTooMuch
		}
		f.alive()
	}
	if f.left == 0 && f.final {
		p.ended = true
		return n, io.EOF
	}
	return n, nil
}

// next reads the head of the next frame; control frames are passed on whole. Within a message it goes on to that message's next data frame.
func (f *frames) next(within bool) (op byte, err error) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(f.in, head[:]); err != nil {
			return 0, err
		}
		op, size := head[0]&0x0f, uint64(head[1]&^maskBit)
		final := head[0]&finBit != 0
		if head[0]&0x70 != 0 || head[1]&maskBit != 0 { // an extension's bits; a server masks nothing
			return 0, errFrame
		}
		if op >= opClose {
			if op > opPong || !final || size > mostShort {
				return 0, errFrame
			}
			if err := f.control(op, int(size)); err != nil {
				return 0, err
			}
			if !within || f.closed {
				return op, nil
			}
			continue
		}
		if within != (op == opContinuation) || op > opBinary {
			return 0, errFrame
		}
		if f.left, err = f.length(size); err != nil {
			return 0, err
		}
		f.final = final
		return op, nil
	}
}

// length reads a longer length.
func (f *frames) length(size uint64) (uint64, error) {
	var b [8]byte
	switch size {
	case 126:
		if _, err := io.ReadFull(f.in, b[6:]); err != nil {
			return 0, noEnd(err)
		}
	case 127:
		if _, err := io.ReadFull(f.in, b[:]); err != nil {
			return 0, noEnd(err)
		}
	default:
		return size, nil
	}
	size = binary.BigEndian.Uint64(b[:])
	if size>>63 != 0 {
		return 0, errFrame
	}
	return size, nil
}

func (f *frames) control(op byte, size int) error {
	b := make([]byte, size)
	if _, err := io.ReadFull(f.in, b); err != nil {
		return noEnd(err)
	}
	f.came += int64(size)
	f.alive()
	f.closed = op == opClose
	return f.write(op, true, f.look.Bytes(b))
}

// write writes one frame.
func (f *frames) write(op byte, final bool, p []byte) error {
	head := make([]byte, 2, 10+len(p))
	head[0] = op
	if final {
		head[0] |= finBit
	}
	switch n := len(p); {
	case n <= mostShort:
		head[1] = byte(n)
	case n <= 0xffff:
		head[1] = 126
		head = binary.BigEndian.AppendUint16(head, uint16(n))
	default:
		head[1] = 127
		head = binary.BigEndian.AppendUint64(head, uint64(n))
	}
	n, err := f.out.Write(append(head, p...))
	f.sent += int64(n)
	return err
}

func noEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
