package facts

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/secret"
)

// Certificate is what a certificate says. All of it is public by nature.
type Certificate struct {
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Serial      string    `json:"serial"` // hexadecimal, as openssl shows it
	Names       []string  `json:"names,omitempty"`
	MoreNames   int       `json:"more_names,omitempty"` // how many are not listed
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the certificate, hexadecimal
	KeyType     string    `json:"key_type"`
	Bits        int       `json:"bits,omitempty"`
	Chain       int       `json:"chain"`    // how many certificates there are
	InOrder     bool      `json:"in_order"` // its own comes first, and each is signed by the next
	// KeyMatches says that the private key is that of the certificate; false when there is none, or it could not be opened.
	KeyMatches bool `json:"key_matches"`
}

const (
	maxChain = 16
	maxNames = 100
	// maxNamesText bounds the names together, in bytes.
	maxNamesText = 8 << 10
	// maxVerified is the longest RSA key that is asked whether it signed something.
	maxVerified = 8192
)

func certificateFacts(text, key, passphrase secret.Value) (Facts, []Problem) {
	chain := readChain(text)
	k, err := privateKey{}, error(nil)
	if !key.IsZero() {
		k, err = readKey(key, passphrase)
	}
	if errors.Is(err, errPassphrase) {
		return Facts{}, []Problem{{"passphrase", "does not open private_key; leave it out if it is not known, or correct it"}}
	}
	if len(chain) == 0 {
		return Facts{}, nil
	}
	own := ownOf(chain, k)
	if own < 0 {
		return Facts{}, []Problem{{"private_key", "belongs to none of the certificates; give the key that the certificate was made with, or leave it out"}}
	}
	c := chain[own]
	out := &Certificate{
		Subject: shown(c.Subject.String(), maxName), Issuer: shown(c.Issuer.String(), maxName), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
		KeyType: c.PublicKeyAlgorithm.String(), Bits: bitsOf(c.PublicKey), Chain: len(chain), InOrder: own == 0 && signedInOrder(chain), KeyMatches: k.public != nil,
	}
	if serial := c.SerialNumber; serial != nil && serial.BitLen() <= 8*64 {
		out.Serial = strings.ToUpper(serial.Text(16))
	}
	sum := sha256.Sum256(c.Raw)
	out.Fingerprint = hex.EncodeToString(sum[:])
	size := 0
	for _, name := range names(c) {
		if size += len(name); len(out.Names) == maxNames || size > maxNamesText {
			out.MoreNames++
			continue
		}
		out.Names = append(out.Names, shown(name, maxText))
	}
	return Facts{Certificate: out}, nil
}

// Chain returns the certificates of a text in PEM, at most 16; none when one of them cannot be read.
func Chain(text secret.Value) []*x509.Certificate { return readChain(text) }

func readChain(text secret.Value) []*x509.Certificate {
	var out []*x509.Certificate
	rest := text.Bytes()
	for range 2 * maxChain { // a key may stand among them
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		if block.Type != "CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil || len(out) == maxChain {
			return nil
		}
		out = append(out, c)
	}
	return nil
}

// ownOf returns the place of the certificate that the others vouch for: the one of the private key or, without a key, the first that is of no
// authority. It is -1 when the key belongs to none.
func ownOf(chain []*x509.Certificate, k privateKey) int {
	for i, c := range chain {
		if k.public != nil && sameKey(k.public, c.PublicKey) || k.public == nil && !c.IsCA {
			return i
		}
	}
	if k.public != nil {
		return -1
	}
	return 0
}

// signedInOrder reports whether each certificate is signed by the next, as servers send them.
func signedInOrder(chain []*x509.Certificate) bool {
	for i := range len(chain) - 1 {
		c, by := chain[i], chain[i+1]
		if !bytes.Equal(c.RawIssuer, by.RawSubject) {
			return false
		}
		if key, ok := by.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxVerified {
			return false
		}
		// What is signed by an algorithm of the past is judged by its names alone.
		var past x509.InsecureAlgorithmError
		if err := by.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil && !errors.Is(err, x509.ErrUnsupportedAlgorithm) && !errors.As(err, &past) {
			return false
		}
	}
	return true
}

func names(c *x509.Certificate) []string {
	var out []string
	for _, n := range c.DNSNames {
		out = append(out, "DNS:"+n)
	}
	for _, ip := range c.IPAddresses {
		out = append(out, "IP:"+ip.String())
	}
	for _, e := range c.EmailAddresses {
		out = append(out, "email:"+e)
	}
	for _, u := range c.URIs {
		if u.User == nil { // a name is public, but nobody means to show a password in one
			out = append(out, "URI:"+u.String())
		}
	}
	return out
}
