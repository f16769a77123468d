package identity

import (
	"net/mail"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
)

const (
	maxName  = 100 // characters
	maxEmail = 254 // bytes; RFC 5321 allows no more in a path

	// MinPassword and MaxPassword bound a password, in bytes. Length is what makes a password strong, so there are no other rules.
	MinPassword = 12
	MaxPassword = 1024
)

// problems collects what is wrong with an input, so that its sender can mend all of it at once.
type problems struct{ err *fault.Error }

func (p *problems) add(pointer, message string) {
	if p.err == nil {
		p.err = fault.New(fault.Unprocessable, "validation_failed", "")
	}
	p.err = p.err.With(pointer, message)
	sentences := make([]string, 0, len(p.err.Fields))
	for _, f := range p.err.Fields {
		sentences = append(sentences, strings.TrimPrefix(f.Pointer, "/")+" "+f.Message)
	}
	p.err.Detail = "The input is not valid: " + strings.Join(sentences, "; ") + "."
}

// result is nil when nothing was wrong; a nil *fault.Error in an error would not be.
func (p *problems) result() error {
	if p.err == nil {
		return nil
	}
	return p.err
}

func (p *problems) name(pointer, s string) string {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		p.add(pointer, "must not be empty")
	case utf8.RuneCountInString(s) > maxName:
		p.add(pointer, "must have at most "+strconv.Itoa(maxName)+" characters")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }):
		p.add(pointer, "must be one line of printable text")
	}
	return s
}

func (p *problems) expiry(pointer string, at *time.Time, now time.Time) {
	if at == nil {
		return
	}
	if !at.After(now) {
		p.add(pointer, "must be in the future; revoke what shall end now")
	} else if at.Year() > 9999 {
		p.add(pointer, "must be before the year 10000")
	}
}

// email returns the address in the form in which it is kept and compared.
func (p *problems) email(pointer, s string) string {
	s = strings.TrimSpace(s)
	addr, err := mail.ParseAddress(s)
	if err != nil || addr.Address != s || len(s) > maxEmail || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		p.add(pointer, "must be an e-mail address such as ada@example.com")
	}
	return canonicalEmail(s)
}

// canonicalEmail lets an address be found however its letters are written.
func canonicalEmail(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

func (p *problems) password(pointer string, v secret.Value) {
	if n := v.Len(); n < MinPassword || n > MaxPassword {
		p.add(pointer, "must have "+strconv.Itoa(MinPassword)+" to "+strconv.Itoa(MaxPassword)+" bytes; a sentence of several words is a good one")
	}
}

func (p *problems) role(pointer string, role Role) {
	if !role.Known() {
		p.add(pointer, "must be administrator, operator, auditor or member")
	}
}

// validKey checks what a person says of a key and returns its name without surrounding space.
func validKey(now time.Time, name string, expires *time.Time) (string, error) {
	var p problems
	name = p.name("/name", name)
	p.expiry("/expires_at", expires, now)
	return name, p.result()
}
