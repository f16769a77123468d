// Package facts tells what may be read of a secret without giving it away: whose a certificate is and when it ends, an SSH key's fingerprint,
// what a signed token says of itself, which server a connection string leads to.
//
// Promise: [Derive] looks at the secret fields of one version of a credential and returns only what is meant for everybody who may see the
// credential. A format that is not known gives no facts and is no mistake; what is told as a [Problem] is certain to be one: a private key that
// belongs to another certificate, a passphrase that does not open its key.
//
// Limits: of a certificate, a key or a connection string at most what the constants below allow is looked at, and of encrypted keys those
// whose passphrase can be tried in a bounded time. Keys encrypted with scrypt or by PKCS#12 are stored untried, and so is a DSA key. Nothing is verified: a
// token's signature is not looked at, and nobody is asked about a chain.
//
// Invariants: no byte of a private key, passphrase, password or signature is in a fact or in the text of a problem; a text that can be read in two
// ways gives no facts; every text is printable and bounded; nothing here takes time that grows faster than its bounded input.
package facts

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/secret"
)

// Facts are what was derived from one version. At most one part is set.
type Facts struct {
	Certificate *Certificate `json:"certificate,omitempty"`
	JWT         *JWT         `json:"jwt,omitempty"`
	SSHKey      *SSHKey      `json:"ssh_key,omitempty"`
	Connection  *Connection  `json:"connection_string,omitempty"`
}

// IsZero reports whether nothing is known.
func (f Facts) IsZero() bool { return f == Facts{} }

// Ends is when the secret stops being valid by what it says itself, or nil.
func (f Facts) Ends() *time.Time {
	switch {
	case f.Certificate != nil:
		return &f.Certificate.NotAfter
	case f.JWT != nil:
		return f.JWT.ExpiresAt
	}
	return nil
}

// Problem is what is wrong with a secret field, in words that quote nothing of it.
type Problem struct{ Field, Message string }

// The types of credentials that have facts, and their fields, as the vault names them.
const (
	TypeCertificate = "certificate"
	TypeJWT         = "jwt"
	TypeSSHKey      = "ssh_key"
	TypeConnection  = "connection_string"
)

// Has reports whether a credential of this type has facts at all.
func Has(kind string) bool {
	switch kind {
	case TypeCertificate, TypeJWT, TypeSSHKey, TypeConnection:
		return true
	}
	return false
}

// Derive returns what is known of a credential of that type with these secret fields.
func Derive(kind string, fields map[string]secret.Value) (Facts, []Problem) {
	switch kind {
	case TypeCertificate:
		return certificateFacts(fields["certificate"], fields["private_key"], fields["passphrase"])
	case TypeJWT:
		return Facts{JWT: readToken(fields["token"])}, nil
	case TypeSSHKey:
		return sshFacts(fields["private_key"], fields["passphrase"])
	case TypeConnection:
		target, ok := ParseConnection(fields["connection_string"])
		if !ok {
			return Facts{}, nil
		}
		shown := target.Connection // a copy, so that the password does not stay in memory with it
		return Facts{Connection: &shown}, nil
	}
	return Facts{}, nil
}

// Bounds of texts, in characters.
const (
	maxText = 255
	maxName = 500 // a distinguished name
)

// shown makes any text printable and short.
func shown(s string, most int) string {
	s = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '\uFFFD'
		}
		return c
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

// plain reports whether a text may be shown as it is: 1 to most printable characters.
func plain(s string, most int) bool {
	return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= most && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}
