package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"syscall"

	"signalbox.dev/signalbox/internal/fault"
)

// failure is a failed call as it may be wrapped and logged: a sentence of ours, with the original in the chain for errors.Is and As.
type failure struct {
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// Clean gives an error of a transport, a client or [ReadCapped] a text that is safe in messages and logs. The originals quote URLs,
// whose queries hold codes and tokens, and malformed answers, which may echo the credential that was sent. The original stays in the
// chain. A refusal of the guard keeps its own sentence; nil stays nil.
func Clean(err error) error {
	if err == nil {
		return nil
	}
	if f, ok := fault.As(err); ok {
		return f
	}
	return &failure{text: reason(err), cause: err}
}

// Reason is a class of failed calls.
type Reason int

// The reasons.
const (
	Failed Reason = iota
	Cancelled
	NoSuchName
	TimedOut
	Unresolved
	NotListening
	Untrusted
	Unreachable
	Oversized
	CutOff
	// ProxyLogin: the proxy wants other credentials. ProxyFailed: it opened no tunnel. ProxyRefused: the guard does not let it be called.
	ProxyLogin
	ProxyFailed
	ProxyRefused
)

// ReasonOf says why a call failed, for callers that have words of their own for it.
func ReasonOf(err error) Reason {
	var (
		dns     *net.DNSError
		timeout net.Error
	)
	switch {
	case errors.Is(err, context.Canceled):
		return Cancelled
	case errors.Is(err, ErrProxyLogin):
		return ProxyLogin
	case errors.Is(err, errProxyRefused):
		return ProxyRefused
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return TimedOut
	case errors.Is(err, errProxy) && !isTLS(err):
		return ProxyFailed
	case errors.As(err, &dns) && dns.IsNotFound:
		return NoSuchName
	case dns != nil:
		return Unresolved
	case errors.Is(err, syscall.ECONNREFUSED):
		return NotListening
	case isTLS(err):
		return Untrusted
	case isDial(err):
		return Unreachable
	case errors.Is(err, ErrTooLarge):
		return Oversized
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return CutOff
	}
	return Failed
}

func reason(err error) string {
	switch ReasonOf(err) {
	case Cancelled:
		return "the call was cancelled"
	case NoSuchName:
		return "the upstream's name does not exist"
	case TimedOut:
		return "the upstream did not answer in time"
	case Unresolved:
		return "the upstream's name could not be resolved"
	case NotListening:
		return "the upstream refused the connection"
	case Untrusted:
		return "no trusted TLS connection to the upstream could be made"
	case Unreachable:
		return "the upstream could not be reached"
	case Oversized:
		return ErrTooLarge.Error()
	case ProxyLogin:
		return "the outbound proxy wants another user name or password"
	case ProxyFailed:
		return "the outbound proxy could not be reached, or opened no connection to the upstream"
	case ProxyRefused:
		return "the outbound proxy is at a private or reserved address, or spoken to in plain http; if it may be called, allow it in SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS"
	case CutOff:
		return "the upstream closed the connection before its answer was complete"
	}
	return "the call to the upstream failed"
}

// NotSent reports that the call failed before any byte of the request can have reached the upstream: it was refused by the guard, or no
// connection was made, or the upstream's certificate was rejected. False means unknown: the upstream may have acted on the request.
func NotSent(err error) bool {
	var cert *tls.CertificateVerificationError
	return errors.Is(err, ErrRefused) || isDial(err) || errors.As(err, &cert)
}

func isDial(err error) bool { return isOp(err, "dial") }

func isOp(err error, names ...string) bool {
	var op *net.OpError
	return errors.As(err, &op) && slices.Contains(names, op.Op)
}

// isTLS knows rejected certificates, peers that do not speak TLS, and alerts; crypto/tls reports the last as a net.OpError.
func isTLS(err error) bool {
	var (
		cert   *tls.CertificateVerificationError
		header tls.RecordHeaderError
	)
	return errors.As(err, &cert) || errors.As(err, &header) || errors.Is(err, http.ErrSchemeMismatch) ||
		isOp(err, "remote error", "local error")
}
