package oidc

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxGroups = 2000
	maxGroup  = 256 // bytes
)

// Claims are what a provider says of somebody.
type Claims struct{ all map[string]any }

// find returns the claim of that name: first as it is written, since names may be addresses with dots in them, then as a path.
func (c Claims) find(name string) any {
	if v, ok := c.all[name]; ok {
		return v
	}
	at, rest, more := strings.Cut(name, ".")
	if !more {
		return nil
	}
	inner, ok := c.all[at].(map[string]any)
	if !ok {
		return nil
	}
	return Claims{inner}.find(rest)
}

// Subject is who it is at that provider.
func (c Claims) Subject() string { return c.Text("sub") }

// Text returns a claim that is a plain text, else "".
func (c Claims) Text(name string) string {
	s, _ := c.find(name).(string)
	return s
}

// True reports whether a claim is true. Some providers write it as a text or a number.
func (c Claims) True(name string) bool {
	switch v := c.find(name).(type) {
	case bool:
		return v
	case string:
		return v == "true" || v == "1"
	case float64:
		return v == 1
	}
	return false
}

// Texts returns a claim that is a list of texts, or one text. One that is not there is an empty list; ok is false when it cannot be read whole.
func (c Claims) Texts(name string) (list []string, ok bool) {
	switch v := c.find(name).(type) {
	case nil:
		return nil, true
	case string:
		return []string{v}, len(v) <= maxGroup
	case []any:
		if len(v) > maxGroups {
			return nil, false
		}
		for _, one := range v {
			s, isText := one.(string)
			if !isText || len(s) > maxGroup {
				return nil, false
			}
			list = append(list, s)
		}
		return list, true
	}
	return nil, false
}

// Elsewhere reports whether the provider keeps a claim somewhere else, as Entra ID does with the groups of who is in many of them.
func (c Claims) Elsewhere(name string) bool {
	names, _ := c.all["_claim_names"].(map[string]any)
	_, ok := names[name]
	return ok
}

func (c Claims) time(name string) (time.Time, bool) {
	v, ok := c.all[name].(float64)
	if !ok || v <= 0 || v > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(v), 0), true
}

// plain reports whether s is a text of 1 to most bytes that is one printable line.
func plain(s string, most int) bool {
	return s != "" && len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
