package generate

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "embed" // the list of words
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/ssh"

	"signalbox.dev/signalbox/internal/secret"
)

// words is the EFF's long list for passphrases by Joseph Bonneau (https://www.eff.org/dice), under the Creative Commons Attribution licence; the numbers
// of the dice are left out. See NOTICE.
//
//go:embed eff_large_wordlist.txt
var words string

const wordCount = 7776 // 6⁵

// Make makes a secret. The specification has passed [Spec.Check]. A passphrase, which may be empty, encrypts the key of a pair and is nothing to the
// other kinds. An RSA key takes seconds.
func Make(s Spec, passphrase secret.Value) (secret.Value, error) {
	if p := s.Check(); len(p) > 0 {
		return secret.Value{}, errors.New("generate: the specification was not checked")
	}
	return makeFrom(rand.Reader, s.filled(), passphrase)
}

func makeFrom(random io.Reader, s Spec, passphrase secret.Value) (secret.Value, error) {
	switch s.Kind {
	case Password:
		return password(random, s)
	case Passphrase:
		return phrase(random, s)
	case Hex, Base64, Base64URL:
		b := make([]byte, s.Bytes)
		if _, err := io.ReadFull(random, b); err != nil {
			return secret.Value{}, err
		}
		return secret.FromString(encoder(s.Kind)(b)), nil
	}
	return pair(random, s, passphrase)
}

func encoder(k Kind) func([]byte) string {
	switch k {
	case Base64:
		return base64.StdEncoding.EncodeToString
	case Base64URL:
		return base64.RawURLEncoding.EncodeToString
	}
	return hex.EncodeToString
}

// password draws whole passwords until one has a character of each class: each of those is equally likely, which filling gaps would not give.
func password(random io.Reader, s Spec) (secret.Value, error) {
	sets := s.sets()
	all := strings.Join(sets, "")
	out := make([]byte, s.Length)
	for {
		for i := range out {
			n, err := below(random, len(all))
			if err != nil {
				return secret.Value{}, err
			}
			out[i] = all[n]
		}
		complete := true
		for _, set := range sets {
			complete = complete && strings.ContainsAny(string(out), set)
		}
		if complete {
			return secret.New(out), nil
		}
	}
}

func phrase(random io.Reader, s Spec) (secret.Value, error) {
	list := strings.Fields(words)
	if len(list) != wordCount {
		return secret.Value{}, errors.New("generate: the list of words is damaged")
	}
	out := make([]string, s.Words)
	for i := range out {
		n, err := below(random, len(list))
		if err != nil {
			return secret.Value{}, err
		}
		out[i] = list[n]
	}
	return secret.FromString(strings.Join(out, *s.Separator)), nil
}

// below draws a number from 0 up to n, which is at most 65,536. What lies over the last whole multiple of n is drawn again: a remainder alone would
// prefer small numbers.
func below(random io.Reader, n int) (int, error) {
	limit := 1 << 16 / n * n
	var b [2]byte
	for {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return 0, err
		}
		if v := int(b[0])<<8 | int(b[1]); v < limit {
			return v % n, nil
		}
	}
}

func pair(random io.Reader, s Spec, passphrase secret.Value) (secret.Value, error) {
	var key crypto.PrivateKey
	var err error
	if s.Kind == RSA {
		key, err = rsa.GenerateKey(random, s.Bits)
	} else {
		_, key, err = ed25519.GenerateKey(random)
	}
	if err != nil {
		return secret.Value{}, fmt.Errorf("generate a key pair: %w", err)
	}
	var block *pem.Block
	if passphrase.IsZero() {
		block, err = ssh.MarshalPrivateKey(key, s.Comment)
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, s.Comment, passphrase.Bytes())
	}
	if err != nil {
		return secret.Value{}, fmt.Errorf("encode a key pair: %w", err)
	}
	return secret.New(pem.EncodeToMemory(block)), nil
}
