// Package generate makes secrets, so that nobody has to invent one.
//
// Promise: [Make] draws from the operating system's random numbers alone, every choice equally likely; what it made is a secret.Value and leaves by
// no other way. [Spec.Entropy] says how hard a secret is to guess for somebody who knows how it was made.
//
// Limits: passwords of 12 to 128 characters, passphrases of 5 to 20 words of the EFF's long list, Ed25519 and RSA keys in OpenSSH's format, 16 to 1024
// random bytes. A password has a character of each class that was asked for, which costs less than a bit (two at the shortest).
//
// Invariants: what is weaker than 60 bits is refused; a parameter that means nothing to the kind is refused, so that nobody believes it did.
package generate

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind is what is made.
type Kind string

// The kinds.
const (
	Password   Kind = "password"
	Passphrase Kind = "passphrase"
	Hex        Kind = "hex"
	Base64     Kind = "base64"
	Base64URL  Kind = "base64url"
	Ed25519    Kind = "ed25519"
	RSA        Kind = "rsa"
)

// KindRow explains a kind for the reference.
type KindRow struct {
	Kind    Kind
	Meaning string
	// Parameters are those that mean something to it.
	Parameters []string
	// Pair says that it is a key pair, whose public half is shown.
	Pair bool
}

// Kinds returns every kind.
func Kinds() []KindRow {
	return []KindRow{
		{Password, "characters of the classes lower, upper, digits and symbols; 24 of all four unless told", []string{"length", "classes"}, false},
		{Passphrase, "words of the EFF's long list of 7776, 6 with - between them unless told", []string{"words", "separator"}, false},
		{Hex, "random bytes as hexadecimal digits, 32 unless told", []string{"bytes"}, false},
		{Base64, "random bytes in base64 with padding, 32 unless told", []string{"bytes"}, false},
		{Base64URL, "random bytes in base64url without padding, 32 unless told", []string{"bytes"}, false},
		{Ed25519, "an Ed25519 private key in OpenSSH's format, encrypted when the credential has a passphrase", []string{"comment"}, true},
		{RSA, "an RSA private key in OpenSSH's format, of 3072 bits unless told, encrypted when the credential has a passphrase", []string{"bits", "comment"}, true},
	}
}

// Lookup returns the row of a kind; false for an unknown one.
func Lookup(k Kind) (KindRow, bool) {
	i := slices.IndexFunc(Kinds(), func(r KindRow) bool { return r.Kind == k })
	if i < 0 {
		return KindRow{}, false
	}
	return Kinds()[i], true
}

// Spec says what is made. Zero parameters are the kind's own.
type Spec struct {
	Kind      Kind
	Length    int      // of a password, in characters
	Classes   []string // of a password
	Words     int      // of a passphrase
	Separator *string  // of a passphrase
	Bytes     int      // of random bytes
	Bits      int      // of an RSA key
	Comment   string   // of a key pair; it is shown with the public half
}

// Problem is what is wrong with a parameter.
type Problem struct{ Parameter, Message string }

// The bounds. The least is never under 60 bits.
const (
	minLength, maxLength = 12, 128
	minWords, maxWords   = 5, 20
	minBytes, maxBytes   = 16, 1024
	maxSeparator         = 3
	maxComment           = 255
	leastEntropy         = 60
)

// Class is a set of characters for passwords.
type Class struct{ Name, Characters string }

// Classes returns the classes of characters. Quotes, spaces and backslashes are in none: they break more places than they make safe.
func Classes() []Class {
	return []Class{
		{"lower", "abcdefghijklmnopqrstuvwxyz"}, {"upper", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}, {"digits", "0123456789"}, {"symbols", "!#$%&()*+,-./:;<=>?@[]^_{|}~"},
	}
}

// ClassNames returns their names.
func ClassNames() []string {
	var out []string
	for _, c := range Classes() {
		out = append(out, c.Name)
	}
	return out
}

// Check returns everything that is wrong with a specification.
func (s Spec) Check() []Problem {
	row, ok := Lookup(s.Kind)
	if !ok {
		var names []string
		for _, r := range Kinds() {
			names = append(names, string(r.Kind))
		}
		return []Problem{{"kind", "must be one of " + strings.Join(names, ", ")}}
	}
	var out []Problem
	bad := func(parameter, message string) { out = append(out, Problem{parameter, message}) }
	for _, p := range []struct {
		name  string
		given bool
	}{
		{"length", s.Length != 0}, {"classes", s.Classes != nil}, {"words", s.Words != 0}, {"separator", s.Separator != nil}, {"bytes", s.Bytes != 0},
		{"bits", s.Bits != 0}, {"comment", s.Comment != ""},
	} {
		if p.given && !slices.Contains(row.Parameters, p.name) {
			bad(p.name, "means nothing to the kind "+string(s.Kind)+"; leave it out")
		}
	}
	if len(out) > 0 {
		return out
	}
	s = s.filled()
	between := func(name string, n, least, most int) {
		if n < least || n > most {
			bad(name, "must be from "+strconv.Itoa(least)+" to "+strconv.Itoa(most))
		}
	}
	switch s.Kind {
	case Password:
		between("length", s.Length, minLength, maxLength)
		if names := s.classNames(); len(names) != len(s.Classes) || len(names) == 0 {
			bad("classes", "must be some of "+strings.Join(ClassNames(), ", ")+", each once")
		} else if len(out) == 0 && s.Entropy() < leastEntropy {
			bad("length", "is too short for these classes: fewer than 60 bits; make it longer or add a class")
		}
	case Passphrase:
		between("words", s.Words, minWords, maxWords)
		if sep := *s.Separator; utf8.RuneCountInString(sep) > maxSeparator || strings.ContainsFunc(sep, func(c rune) bool { return c < ' ' || c > '~' || unicode.IsLetter(c) }) {
			bad("separator", "must be at most 3 visible ASCII characters or spaces that are no letters")
		} else if sep == "" {
			bad("separator", "must not be empty: words that run together can be read in several ways")
		}
	case Hex, Base64, Base64URL:
		between("bytes", s.Bytes, minBytes, maxBytes)
	case RSA:
		if !slices.Contains([]int{2048, 3072, 4096}, s.Bits) {
			bad("bits", "must be 2048, 3072 or 4096")
		}
	}
	if !utf8.ValidString(s.Comment) || utf8.RuneCountInString(s.Comment) > maxComment || strings.ContainsFunc(s.Comment, func(c rune) bool { return !unicode.IsPrint(c) }) {
		bad("comment", "must be one line of at most 255 characters")
	}
	return out
}

// filled puts the kind's own values in the place of what was not given.
func (s Spec) filled() Spec {
	set := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	switch s.Kind {
	case Password:
		set(&s.Length, 24)
		if s.Classes == nil {
			s.Classes = ClassNames()
		}
	case Passphrase:
		set(&s.Words, 6)
		if s.Separator == nil {
			dash := "-"
			s.Separator = &dash
		}
	case Hex, Base64, Base64URL:
		set(&s.Bytes, 32)
	case RSA:
		set(&s.Bits, 3072)
	}
	return s
}

// classNames are the known classes that were asked for, each once.
func (s Spec) classNames() []string {
	var out []string
	for _, name := range ClassNames() {
		if slices.Contains(s.Classes, name) {
			out = append(out, name)
		}
	}
	return out
}

// sets are the characters of the classes that were asked for.
func (s Spec) sets() []string {
	var out []string
	for _, c := range Classes() {
		if slices.Contains(s.Classes, c.Name) {
			out = append(out, c.Characters)
		}
	}
	return out
}

// Entropy is how many bits somebody has to guess who knows the specification. For key pairs it is the strength of the key by NIST SP 800-57.
func (s Spec) Entropy() float64 {
	s = s.filled()
	switch s.Kind {
	case Password:
		return passwordEntropy(s.sets(), s.Length)
	case Passphrase:
		return float64(s.Words) * math.Log2(wordCount)
	case Hex, Base64, Base64URL:
		return 8 * float64(s.Bytes)
	case Ed25519:
		return 128
	case RSA:
		return map[int]float64{2048: 112, 3072: 128, 4096: 140}[s.Bits]
	}
	return 0
}

// passwordEntropy counts the passwords that have a character of each set, by inclusion and exclusion.
func passwordEntropy(sets []string, length int) float64 {
	all := 0
	for _, set := range sets {
		all += len(set)
	}
	share := 0.0 // of all passwords, those that have each
	for subset := range 1 << len(sets) {
		rest, sign := all, 1.0
		for i, set := range sets {
			if subset>>i&1 == 1 {
				rest, sign = rest-len(set), -sign
			}
		}
		share += sign * math.Pow(float64(rest)/float64(all), float64(length))
	}
	return float64(length)*math.Log2(float64(all)) + math.Log2(share)
}
