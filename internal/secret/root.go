package secret

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// RootKey opens the keyring. It lives outside the database.
type RootKey struct {
	key Key
	id  string
}

// ErrNoRootKey is returned when no source names a root key.
var ErrNoRootKey = errors.New("no root key is configured")

// ParseRootKey reads a root key as it stands in a file or in the environment: 32 bytes in standard or URL-safe base64, padded or not.
// The error never quotes the input.
func ParseRootKey(text Value) (RootKey, error) {
	s := strings.TrimSpace(text.Reveal())
	if s == "" {
		return RootKey{}, ErrNoRootKey
	}
	s = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(s), "=")
	raw, err := base64.RawStdEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != KeySize {
		return RootKey{}, fmt.Errorf("the root key is not %d bytes in base64; make one with: signalbox keygen", KeySize)
	}
	key, err := KeyFrom(New(raw))
	if err != nil {
		return RootKey{}, err
	}
	return newRootKey(key)
}

func newRootKey(key Key) (RootKey, error) {
	sum, err := key.Subkey("root-key-id", 4)
	if err != nil {
		return RootKey{}, err
	}
	return RootKey{key: key, id: "rk_" + hex.EncodeToString(sum)}, nil
}

// NewRootKey returns a fresh random root key.
func NewRootKey() (RootKey, error) {
	key, err := NewKey()
	if err != nil {
		return RootKey{}, err
	}
	return newRootKey(key)
}

// RootKeyFrom takes a root key of exactly [KeySize] bytes, as a keeper unwraps it.
func RootKeyFrom(v Value) (RootKey, error) {
	key, err := KeyFrom(v)
	if err != nil {
		return RootKey{}, err
	}
	return newRootKey(key)
}

// Value returns the key's bytes as a secret, for wrapping.
func (r RootKey) Value() Value { return r.key.v }

// ID names the key without telling anything about it: "rk_" and 8 hexadecimal digits derived one-way from it.
func (r RootKey) ID() string { return r.id }

// IsZero reports whether there is no key.
func (r RootKey) IsZero() bool { return r.id == "" }

// Derive returns the sealer of one purpose under the root key; the keyring wraps data keys with it.
func (r RootKey) Derive(purpose string) (Sealer, error) { return r.key.Derive(purpose) }

// ReadRootKeyFile reads a root key file. A file that others than its owner may read is refused, with the command that mends it.
func ReadRootKeyFile(path string) (RootKey, error) {
	v, err := ReadFile(path)
	if err != nil {
		return RootKey{}, err
	}
	key, err := ParseRootKey(v)
	if err != nil {
		return RootKey{}, fmt.Errorf("root key file %s: %w", path, err)
	}
	return key, nil
}

// WriteRootKeyFile writes the key to a new file with mode 0600, synced to disk. An existing file is never replaced.
func WriteRootKeyFile(path string, r RootKey) error {
	return WriteFile(path, FromString(r.Text().Reveal()+"\n"))
}

// Text returns the key as [ParseRootKey] reads it.
func (r RootKey) Text() Value { return FromString(base64.StdEncoding.EncodeToString(r.key.v.bytes())) }

// ReadFile reads a file that holds a secret, at most 64 KiB. It must be a regular file (or a pipe) that neither its group nor others
// may write; a private file of ours must not be readable by them either.
func ReadFile(path string) (Value, error) {
	f, err := os.Open(path)
	if err != nil {
		return Value{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Value{}, err
	}
	// Orchestrators mount secrets as files readable by a group (0440 and the like), so only "others" and writers are refused.
	if info.Mode().IsRegular() && info.Mode().Perm()&0o027 != 0 {
		return Value{}, fmt.Errorf("%s holds a secret, but others may read it or change it (mode %04o); run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10+1))
	if err != nil {
		return Value{}, err
	}
	if len(b) > 64<<10 {
		return Value{}, fmt.Errorf("%s is over 64 KiB: not a secret file", path)
	}
	return New(b), nil
}

// WriteFile writes a secret to a new file with mode 0600, synced to disk. An existing file is never replaced ([os.ErrExist]).
func WriteFile(path string, v Value) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if _, err := f.Write(v.bytes()); err != nil {
		return err
	}
	return f.Sync()
}
