package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// KeySize is the length of every symmetric key in bytes: AES-256.
const KeySize = 32

// ErrOpen is returned when a sealed value does not open: another key, another row, field or version, or changed bytes. AES-GCM cannot
// tell these apart, and neither should a message.
var ErrOpen = errors.New("secret: the sealed value does not open with this key in this place")

// AAD says where a sealed value lies. It is authenticated with the ciphertext, so that a ciphertext moved to another row, field or
// version does not open.
type AAD struct {
	Table   string
	ID      string
	Field   string
	Version int64
}

// encode is injective: each part is preceded by its length.
func (a AAD) encode() []byte {
	b := make([]byte, 0, len(a.Table)+len(a.ID)+len(a.Field)+24)
	for _, s := range [...]string{a.Table, a.ID, a.Field} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(a.Version))
}

// Key is a 256-bit key that subkeys are derived from; it never encrypts anything itself.
type Key struct{ v Value }

// NewKey returns a fresh random key.
func NewKey() (Key, error) {
	b := make([]byte, KeySize)
	if _, err := rand.Read(b); err != nil {
		return Key{}, fmt.Errorf("make a key: %w", err)
	}
	return Key{v: New(b)}, nil
}

// KeyFrom takes a key of exactly [KeySize] bytes.
func KeyFrom(v Value) (Key, error) {
	if v.Len() != KeySize {
		return Key{}, fmt.Errorf("a key has %d bytes, this has %d", KeySize, v.Len())
	}
	return Key{v: v}, nil
}

// Value returns the key's bytes as a secret, for wrapping.
func (k Key) Value() Value { return k.v }

// Subkey derives length bytes for one purpose by HKDF-SHA256 (RFC 5869), with the purpose as info.
func (k Key) Subkey(purpose string, length int) ([]byte, error) {
	if k.v.Len() != KeySize {
		return nil, errors.New("secret: no key")
	}
	return hkdf.Key(sha256.New, k.v.bytes(), nil, "signalbox/v1/"+purpose, length)
}

// Derive returns the sealer of one purpose: AES-256-GCM under a subkey that no other purpose shares. Deriving costs; keep the result.
func (k Key) Derive(purpose string) (Sealer, error) {
	sub, err := k.Subkey(purpose, KeySize)
	if err != nil {
		return Sealer{}, err
	}
	block, err := aes.NewCipher(sub)
	if err != nil {
		return Sealer{}, err
	}
	// The random-nonce mode is the one that FIPS 140 accepts; 2^32 operations per subkey keep nonce collisions below 2^-32
	// (NIST SP 800-38D, section 8.3).
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return Sealer{}, err
	}
	return Sealer{aead: aead}, nil
}

// Sealer seals and opens values for one key and one purpose. It is safe for concurrent use.
type Sealer struct{ aead cipher.AEAD }

// Seal returns nonce, ciphertext and tag: 28 bytes more than the secret.
func (s Sealer) Seal(v Value, aad AAD) ([]byte, error) {
	if s.aead == nil {
		return nil, errors.New("secret: no sealing key")
	}
	return s.aead.Seal(nil, nil, v.bytes(), aad.encode()), nil
}

// Open returns what Seal sealed under the same AAD, or [ErrOpen].
func (s Sealer) Open(sealed []byte, aad AAD) (Value, error) {
	if s.aead == nil {
		return Value{}, errors.New("secret: no sealing key")
	}
	plain, err := s.aead.Open(nil, nil, sealed, aad.encode())
	if err != nil {
		return Value{}, ErrOpen
	}
	if len(plain) == 0 {
		return Value{}, nil
	}
	return Value{open: func() []byte { return plain }}, nil
}
