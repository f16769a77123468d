package jwt

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// Claims are what a verified token says.
type Claims struct{ m map[string]any }

// Text returns a claim that is a text of 1 to 255 characters without control characters.
func (c Claims) Text(name string) (string, bool) {
	s, ok := c.m[name].(string)
	return s, ok && plain(s)
}

func plain(s string) bool {
	if s == "" || utf8.RuneCountInString(s) > 255 {
		return false
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7f {
			return false
		}
	}
	return true
}

// Number returns a claim that is a positive whole number, written as a number or as a text of digits, in its one canonical form.
func (c Claims) Number(name string) (string, bool) {
	var s string
	switch v := c.m[name].(type) {
	case json.Number:
		s = v.String()
	case string:
		s = v
	default:
		return "", false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != s {
		return "", false
	}
	return s, true
}

// Is reports whether a claim is the JSON true.
func (c Claims) Is(name string) bool { return c.m[name] == true }

// Expires returns when the token expires.
func (c Claims) Expires() time.Time {
	at, _ := c.time("exp")
	return at
}

// lastSecond is the end of the year 9999.
const lastSecond = 253402300799

// time returns a claim that is a number of seconds since 1970; fractions are dropped.
func (c Claims) time(name string) (time.Time, bool) {
	n, ok := c.m[name].(json.Number)
	if !ok {
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || math.IsNaN(f) || f < 0 || f > lastSecond {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}
