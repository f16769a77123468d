package facts

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"signalbox.dev/signalbox/internal/secret"
)

const (
	// maxKeyText and maxKeyBytes hold an RSA key of 16,384 bits, the longest that ssh-keygen makes.
	maxKeyText  = 20 << 10
	maxKeyBytes = 12 << 10
	maxBits     = 16384
)

// The outcomes of reading a key that are no key.
var (
	errUnknown    = errors.New("facts: not a key that is understood")
	errPassphrase = errors.New("facts: the passphrase does not open the key")
)

// privateKey is what a text in the place of a private key turned out to be.
type privateKey struct {
	// public is nil when the key is encrypted in a form that hides it, and no passphrase was given or the form cannot be tried.
	public crypto.PublicKey
	// private is nil when the key was not opened.
	private   crypto.Signer
	encrypted bool
	comment   string
	// line is the public half as SSH writes it, nil when SSH has no form for it.
	line ssh.PublicKey
}

// readKey reads the first private key of a text in PEM. A passphrase that is not needed is not looked at.
func readKey(text, passphrase secret.Value) (privateKey, error) {
	if text.Len() > maxKeyText {
		return privateKey{}, errUnknown
	}
	block := keyBlock(text.Bytes())
	if block == nil || len(block.Bytes) > maxKeyBytes {
		return privateKey{}, errUnknown
	}
	switch block.Type {
	case "OPENSSH PRIVATE KEY":
		return readOpenSSH(block, passphrase)
	case "ENCRYPTED PRIVATE KEY":
		if passphrase.IsZero() {
			return privateKey{encrypted: true}, nil
		}
		der, err := openPBES2(block.Bytes, passphrase.Bytes())
		if errors.Is(err, errUnknown) {
			return privateKey{encrypted: true}, nil // stored untried
		}
		if err != nil {
			return privateKey{}, errPassphrase
		}
		parsed, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil && !bytes.HasPrefix(der, []byte{0x30}) {
			return privateKey{}, errPassphrase
		}
		return opened(parsed, err, true)
	}
	if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return readLegacy(block, passphrase)
	}
	var parsed any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		err = errUnknown
	}
	return opened(parsed, err, false)
}

// keyBlock returns the first private key among the blocks of a text: openssl writes parameters of curves before it.
func keyBlock(rest []byte) *pem.Block {
	for range maxChain {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return block
		}
	}
	return nil
}

// readLegacy opens what openssl encrypted before there was PKCS#8.
func readLegacy(block *pem.Block, passphrase secret.Value) (privateKey, error) {
	cipher, iv, _ := strings.Cut(block.Headers["DEK-Info"], ",")
	_, err := hex.DecodeString(iv)
	known := slices.Contains([]string{"DES-CBC", "DES-EDE3-CBC", "AES-128-CBC", "AES-192-CBC", "AES-256-CBC"}, cipher)
	if passphrase.IsZero() || !known || err != nil {
		return privateKey{encrypted: true}, nil
	}
	parsed, err := ssh.ParseRawPrivateKeyWithPassphrase(pem.EncodeToMemory(block), passphrase.Bytes())
	if err != nil {
		// The format cannot always tell a wrong passphrase from noise, so that anything that does not open is one; DSA does open.
		if block.Type == "DSA PRIVATE KEY" {
			return privateKey{encrypted: true}, nil
		}
		return privateKey{}, errPassphrase
	}
	return opened(parsed, nil, true)
}

// opened is the end of every way by which a key is read.
func opened(parsed any, err error, encrypted bool) (privateKey, error) {
	if err != nil {
		return privateKey{}, errUnknown
	}
	if p, ok := parsed.(*ed25519.PrivateKey); ok {
		parsed = *p
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return privateKey{}, errUnknown
	}
	k := privateKey{public: signer.Public(), private: signer, encrypted: encrypted}
	if rsaKey, ok := k.public.(*rsa.PublicKey); ok && rsaKey.N.BitLen() > maxBits {
		return privateKey{}, errUnknown
	}
	if line, err := ssh.NewPublicKey(k.public); err == nil {
		k.line = line
	}
	return k, nil
}

// bitsOf is how long a public key is, 0 when that is not known.
func bitsOf(public crypto.PublicKey) int {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen()
	case *ecdsa.PublicKey:
		return k.Curve.Params().BitSize
	case ed25519.PublicKey:
		return 256
	}
	return 0
}

// sameKey reports whether two public keys are one.
func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// OpenKey opens a private key. When ok is false, encrypted says that a passphrase stands in the way.
func OpenKey(text, passphrase secret.Value) (key crypto.Signer, encrypted, ok bool) {
	k, err := readKey(text, passphrase)
	if err != nil {
		return nil, errors.Is(err, errPassphrase), false
	}
	return k.private, k.encrypted, k.private != nil
}
