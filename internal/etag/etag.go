// Package etag makes and compares entity tags (RFC 9110, sections 8.8.3 and 13.1).
//
// Promise: If-Match holds only for a strong tag that is letter for letter the current one, or for "*"; If-None-Match compares weakly. A
// header that is not well formed holds for nothing.
//
// Limits: it does not know what a tag stands for; the rooms do.
//
// Invariants: a condition that cannot be read is never taken for one that holds.
package etag

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// Of returns a strong tag of a state that consists of these parts.
func Of(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p)))) // a hash never fails
		_, _ = h.Write([]byte(p))
	}
	return `"` + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:15]) + `"`
}

// Match evaluates If-Match for the current tag of a thing that exists: no header, "*", or a list with that very tag, none of them weak.
func Match(header, current string) bool {
	return header == "" || holds(header, current, func(tag string) bool { return tag == current && !strings.HasPrefix(tag, "W/") })
}

// NoneMatch evaluates If-None-Match: it is false when the thing is one that the client has. Tags are compared weakly.
func NoneMatch(header, current string) bool {
	strong := strings.TrimPrefix(current, "W/")
	return header == "" || !holds(header, current, func(tag string) bool { return strings.TrimPrefix(tag, "W/") == strong })
}

func holds(header, current string, same func(string) bool) bool {
	if current == "" {
		return false
	}
	if strings.Trim(header, " \t") == "*" {
		return true
	}
	tags, ok := list(header)
	if !ok {
		return false
	}
	for _, tag := range tags {
		if same(tag) {
			return true
		}
	}
	return false
}

// list reads a list of entity tags. A comma may stand inside the quotes of one.
func list(s string) (tags []string, ok bool) {
	for {
		if s = strings.TrimLeft(s, " \t,"); s == "" {
			return tags, true
		}
		start := 0
		if strings.HasPrefix(s, "W/") {
			start = 2
		}
		if start >= len(s) || s[start] != '"' {
			return nil, false
		}
		end := strings.IndexByte(s[start+1:], '"')
		if end < 0 {
			return nil, false
		}
		end += start + 2
		for _, c := range []byte(s[start+1 : end-1]) {
			if c <= ' ' || c == 0x7f {
				return nil, false
			}
		}
		tags = append(tags, s[:end])
		if s = strings.TrimLeft(s[end:], " \t"); s != "" && s[0] != ',' {
			return nil, false
		}
	}
}
