package facts

import (
	"encoding/pem"
	"errors"

	"golang.org/x/crypto/ssh"

	"signalbox.dev/signalbox/internal/secret"
)

// SSHKey is what may be known of an SSH private key.
type SSHKey struct {
	Type        string `json:"type"` // as ssh writes it, such as ssh-ed25519; empty when the key is encrypted whole
	Bits        int    `json:"bits,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"` // SHA256:…, as ssh-keygen -l shows it
	PublicKey   string `json:"public_key,omitempty"`  // a line for authorized_keys, without the comment
	Comment     string `json:"comment,omitempty"`     // unless it is encrypted with the key
	Encrypted   bool   `json:"encrypted"`             // by a passphrase
}

func sshFacts(text, passphrase secret.Value) (Facts, []Problem) {
	k, err := readKey(text, passphrase)
	switch {
	case errors.Is(err, errPassphrase):
		return Facts{}, []Problem{{"passphrase", "does not open private_key; leave it out if it is not known, or correct it"}}
	case err != nil:
		return Facts{}, nil
	}
	out := &SSHKey{Comment: shown(k.comment, maxText), Encrypted: k.encrypted}
	if k.line != nil {
		out.Type, out.Fingerprint = k.line.Type(), ssh.FingerprintSHA256(k.line)
		out.PublicKey = string(trimLine(ssh.MarshalAuthorizedKey(k.line)))
		if crypto, ok := k.line.(ssh.CryptoPublicKey); ok {
			out.Bits = bitsOf(crypto.CryptoPublicKey())
		}
	}
	return Facts{SSHKey: out}, nil
}

func trimLine(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		return b[:n-1]
	}
	return b
}

const (
	openSSHMagic = "openssh-key-v1\x00"
	// maxRounds of bcrypt are tried, some two seconds of one core; ssh-keygen's own are 16 or 24, and 100 are often advised.
	maxRounds = 256
)

// readOpenSSH reads OpenSSH's own format, which has the public half in clear beside the private one.
func readOpenSSH(block *pem.Block, passphrase secret.Value) (privateKey, error) {
	if len(block.Bytes) < len(openSSHMagic) || string(block.Bytes[:len(openSSHMagic)]) != openSSHMagic {
		return privateKey{}, errUnknown
	}
	var outer struct {
		Cipher, KDF, Options string
		Keys                 uint32
		Public, Private      []byte
		Rest                 []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(block.Bytes[len(openSSHMagic):], &outer) != nil || outer.Keys != 1 {
		return privateKey{}, errUnknown
	}
	line, err := ssh.ParsePublicKey(outer.Public)
	if err != nil {
		return privateKey{}, errUnknown
	}
	k := privateKey{line: line, encrypted: outer.Cipher != "none"}
	if c, ok := line.(ssh.CryptoPublicKey); ok {
		k.public = c.CryptoPublicKey()
	}
	var parsed any
	switch {
	case !k.encrypted:
		k.comment = openSSHComment(outer.Private)
		parsed, err = ssh.ParseRawPrivateKey(pem.EncodeToMemory(block))
	case passphrase.IsZero() || !triable(outer.Cipher, outer.KDF, outer.Options, len(outer.Private)):
		return k, nil
	default:
		parsed, err = ssh.ParseRawPrivateKeyWithPassphrase(pem.EncodeToMemory(block), passphrase.Bytes())
		if err != nil && wrongPassphrase(err) {
			return privateKey{}, errPassphrase
		}
	}
	if err != nil { // a key that lives in a security token, for example: its public half is known all the same
		return k, nil
	}
	inner, err := opened(parsed, nil, k.encrypted)
	if err != nil || k.public == nil || !sameKey(inner.public, k.public) {
		return privateKey{}, errUnknown // the two halves are of two keys
	}
	k.private = inner.private
	return k, nil
}

// triable reports whether a passphrase can be tried, and in a bounded time.
func triable(cipher, kdf, options string, length int) bool {
	var opts struct {
		Salt   string
		Rounds uint32
	}
	return (cipher == "aes256-ctr" || cipher == "aes256-cbc" && length%16 == 0) && kdf == "bcrypt" &&
		ssh.Unmarshal([]byte(options), &opts) == nil && opts.Salt != "" && opts.Rounds >= 1 && opts.Rounds <= maxRounds
}

// openSSHComment returns what stands behind the key in a private half that is not encrypted.
func openSSHComment(private []byte) string {
	var head struct {
		Check1, Check2 uint32
		Type           string
		Rest           []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(private, &head) != nil || head.Check1 != head.Check2 {
		return ""
	}
	parts := map[string]int{ssh.KeyAlgoED25519: 2, ssh.KeyAlgoRSA: 6, ssh.KeyAlgoECDSA256: 3, ssh.KeyAlgoECDSA384: 3, ssh.KeyAlgoECDSA521: 3}
	n, ok := parts[head.Type]
	if !ok {
		return ""
	}
	var next struct {
		Part []byte
		Rest []byte `ssh:"rest"`
	}
	rest := head.Rest
	for range n + 1 {
		if ssh.Unmarshal(rest, &next) != nil {
			return ""
		}
		rest = next.Rest
	}
	// What is no printable text was not written as a comment, and may be anything.
	if s := string(next.Part); plain(s, maxText) {
		return s
	}
	return ""
}
