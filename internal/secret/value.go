// Package secret holds the one shape in which Signalbox keeps a secret in memory, and the primitive that seals it.
//
// Promise: a [Value] cannot be printed, logged, compared in variable time or marshalled by accident; its bytes come out through
// [Value.Reveal] and [Value.Bytes] alone, whose callers are listed in the house test. A sealed value opens only with the same key, the
// same purpose and the same [AAD] (table, row, field, version).
//
// Limits: Go may copy memory (garbage collection, stack growth), so a Value is not wiped; whoever can read the process memory reads the
// secrets that it is lending.
//
// Invariants: the zero Value is the empty secret; a Value never changes after it is made.
package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// redacted is what every printer gets instead of the bytes.
const redacted = "[secret]"

// ErrMarshal is returned by every marshaller of a [Value]: a secret that reaches an encoder is a bug, and a placeholder in a stored
// document would destroy the secret silently.
var ErrMarshal = errors.New("secret: a secret value cannot be marshalled; reveal it explicitly where that is meant")

// Value is an unprintable secret. The bytes lie behind a closure because reflection-based printers (fmt, slog, spew, encoders) print
// a function as an address, while a named byte slice leaks through many of their shapes.
type Value struct {
	open func() []byte
}

// New returns a Value holding a copy of b.
func New(b []byte) Value {
	return FromString(string(b))
}

// FromString returns a Value holding s.
func FromString(s string) Value {
	if s == "" {
		return Value{}
	}
	b := []byte(s)
	return Value{open: func() []byte { return b }}
}

func (v Value) bytes() []byte {
	if v.open == nil {
		return nil
	}
	return v.open()
}

// Reveal returns the secret as text. It is the only way out besides [Value.Bytes]; do not keep or log the result.
func (v Value) Reveal() string { return string(v.bytes()) }

// Bytes returns a fresh copy of the secret.
func (v Value) Bytes() []byte { return append([]byte(nil), v.bytes()...) }

// IsZero reports whether the secret is empty.
func (v Value) IsZero() bool { return len(v.bytes()) == 0 }

// Len returns the length of the secret in bytes.
func (v Value) Len() int { return len(v.bytes()) }

// Equal compares two secrets in time that depends on neither their content nor where they differ.
func (v Value) Equal(w Value) bool {
	a, b := sha256.Sum256(v.bytes()), sha256.Sum256(w.bytes())
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// String returns a placeholder.
func (Value) String() string { return redacted }

// GoString returns a placeholder.
func (Value) GoString() string { return redacted }

// Format writes a placeholder for every verb and flag.
func (Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns a placeholder.
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON always fails with [ErrMarshal].
func (Value) MarshalJSON() ([]byte, error) { return nil, ErrMarshal }

// MarshalText always fails with [ErrMarshal].
func (Value) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary always fails with [ErrMarshal]; gob uses it.
func (Value) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }

// MarshalYAML always fails with [ErrMarshal].
func (Value) MarshalYAML() (any, error) { return nil, ErrMarshal }
