package sink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

const (
	// facility is that of log audits (RFC 5424, section 6.2.1).
	facility = 13
	// The severities that are used.
	severityWarning, severityNotice, severityInfo = 4, 5, 6
	// sdID names our structured data. Signalbox has no number of its own for enterprises, so it uses the one for examples (RFC 5612).
	sdID = "signalbox@32473"
	// confirmTime is how long a server may take to close a connection after it has all.
	confirmTime = 10 * time.Second
	// datagramMax is what fits into a UDP datagram.
	datagramMax = 65_507
)

// headerName makes a field of a syslog header of a text: printable ASCII of at most so many bytes, - for none.
func headerName(s string, most int) string {
	s = strings.Map(func(c rune) rune {
		if c <= ' ' || c > '~' {
			return -1
		}
		return c
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), most)]
}

// head begins a message of RFC 5424, up to the message's own text.
func (r *Room) head(b []byte, severity int, at time.Time, msgID, data string) []byte {
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(facility*8+severity), 10)
	b = append(b, ">1 "...)
	if at.IsZero() {
		b = append(b, '-')
	} else {
		b = at.UTC().AppendFormat(b, store.TimeFormat)
	}
	b = append(b, ' ')
	b = append(b, r.host...)
	b = append(b, " signalbox - "...)
	b = append(b, headerName(msgID, 32)...)
	return append(b, " ["+sdID+` log="`+r.audit.Origin()+`"`+data+"] "...)
}

// messages returns the syslog messages of a parcel, the oldest first.
func (r *Room) messages(p parcel) ([][]byte, error) {
	if len(p.leaves) == 0 {
		text, err := r.message(p)
		if err != nil {
			return nil, err
		}
		at, msgID := p.at, typeTest
		if p.point != nil {
			at, msgID = p.point.At, typeCheckpoint
		}
		return [][]byte{append(r.head(nil, severityInfo, at, msgID, ""), text...)}, nil
	}
	out := make([][]byte, 0, len(p.leaves))
	for _, leaf := range p.leaves {
		severity, msgID := severityWarning, ""
		var at time.Time
		if e, err := store.DecodeEvent(leaf.Record); err == nil {
			at, msgID = e.At, string(e.Action)
			switch e.Outcome {
			case store.OutcomeOK, store.OutcomePending:
				severity = severityInfo
			case store.OutcomeRefused, store.OutcomeFailed:
			default:
				severity = severityNotice
			}
		}
		data := ` leaf="` + strconv.FormatInt(leaf.Index, 10) + `" hash="` + leaf.Hash.String() + `"`
		out = append(out, line(r.head(make([]byte, 0, 512+len(leaf.Record)), severity, at, msgID, data), leaf))
	}
	return out, nil
}

// sendSyslog opens a connection, writes a batch to it, closes its own side, and waits until the server has closed the other. A server closes it when it has
// read everything: one that is stopped before, or dies, leaves bytes unread, and its system then resets the connection. So the end of the stream says what no
// message of the protocol does.
func (r *Room) sendSyslog(ctx context.Context, p parcel) verdict {
	y := p.sink.Syslog
	if y == nil {
		return verdict{detail: "The sink has lost its settings. Delete it, and make it anew."}
	}
	texts, err := r.messages(p)
	if err != nil {
		return verdict{detail: "The message cannot be encoded."}
	}
	if y.Transport == UDP {
		return r.sendUDP(ctx, y, texts)
	}
	conn, err := r.dialer.Dial(ctx, "tcp", y.address())
	if err != nil {
		return unreached(err)
	}
	defer func() { _ = conn.Close() }()
	if until, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(until)
	}
	if y.Transport == TLS {
		secured, v := r.secure(ctx, conn, p)
		if secured == nil {
			return v
		}
		conn = secured
	}
	var frames []byte
	for _, text := range texts {
		frames = strconv.AppendInt(frames, int64(len(text)), 10) // RFC 5425, section 4.3, and RFC 6587, section 3.4.1
		frames = append(frames, ' ')
		frames = append(frames, text...)
	}
	if _, err := conn.Write(frames); err != nil {
		return unreached(err)
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || y.Unconfirmed {
		return verdict{delivered: true}
	}
	if err := half.CloseWrite(); err != nil {
		return unreached(err)
	}
	_ = conn.SetReadDeadline(r.deadline(ctx, confirmTime))
	_, err = io.Copy(io.Discard, io.LimitReader(conn, answerMax))
	var wait net.Error
	switch {
	case err == nil, errors.Is(err, io.ErrUnexpectedEOF): // many servers end TLS without saying so
		return verdict{delivered: true}
	case errors.As(err, &wait) && wait.Timeout():
		return verdict{detail: "The server did not close the connection after everything was sent, so it is not known whether it has read it. If that is its way, set unconfirmed."}
	}
	return unreached(err)
}

// deadline is so much from now, but not later than the context's. It is the wall clock's, as connections want it.
func (r *Room) deadline(ctx context.Context, d time.Duration) time.Time {
	at := time.Now().Add(d)
	if until, ok := ctx.Deadline(); ok && until.Before(at) {
		return until
	}
	return at
}

// secure begins TLS on a connection; it returns nil and why when that fails.
func (r *Room) secure(ctx context.Context, conn net.Conn, p parcel) (net.Conn, verdict) {
	y := p.sink.Syslog
	cfg := &tls.Config{ServerName: y.Host, RootCAs: r.roots, MinVersion: tls.VersionTLS12}
	if y.CA != "" {
		cfg.RootCAs = x509.NewCertPool()
		cfg.RootCAs.AppendCertsFromPEM([]byte(y.CA))
	}
	if y.Certificate != "" {
		pair, err := tls.X509KeyPair([]byte(y.Certificate), p.secrets[secretKey].Bytes())
		if err != nil {
			return nil, verdict{detail: "The sink's client certificate and key do not fit. Delete it, and make it anew."}
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, unreached(err)
	}
	return secured, verdict{}
}

// sendUDP sends each message as a datagram. Nobody knows what arrives.
func (r *Room) sendUDP(ctx context.Context, y *SyslogServer, texts [][]byte) verdict {
	conn, err := r.dialer.Dial(ctx, "udp", y.address())
	if err != nil {
		return unreached(err)
	}
	defer func() { _ = conn.Close() }()
	for _, text := range texts {
		if _, err := conn.Write(text[:min(len(text), datagramMax)]); err != nil {
			return unreached(err)
		}
	}
	return verdict{delivered: true}
}
