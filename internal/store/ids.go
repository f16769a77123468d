package store

import (
	"crypto/rand"
	"encoding/binary"
	"strings"
	"time"
)

const crockford = "0123456789abcdefghjkmnpqrstvwxyz"

// NewID returns prefix, an underscore and 26 characters: a UUIDv7 (RFC 9562) in lower-case Crockford base 32, which sorts by time.
func NewID(prefix string) string { return newIDAt(prefix, time.Now()) }

func newIDAt(prefix string, at time.Time) string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // crypto/rand.Read never fails since Go 1.24
	ns := at.UnixNano()
	ms := ns / 1e6
	// Method 3 of RFC 9562, section 6.2: 12 bits of sub-millisecond time, so that ids of one process sort within the millisecond too.
	sub := uint16((ns % 1e6) * 4096 / 1e6)
	binary.BigEndian.PutUint64(u[:8], uint64(ms)<<16|0x7000|uint64(sub))
	u[8] = u[8]&0x3f | 0x80
	return prefix + "_" + encode26(u)
}

func encode26(u [16]byte) string {
	var out [26]byte
	hi, lo := binary.BigEndian.Uint64(u[:8]), binary.BigEndian.Uint64(u[8:])
	for i := 25; i >= 0; i-- {
		out[i] = crockford[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(out[:])
}

// IDFloor returns the smallest id with that prefix that can have been made at or after at.
func IDFloor(prefix string, at time.Time) string {
	var u [16]byte
	ms := at.UnixMilli()
	if ms < 0 {
		ms = 0
	}
	binary.BigEndian.PutUint64(u[:8], uint64(ms)<<16)
	return prefix + "_" + encode26(u)
}

// ValidID reports whether s has the form that [NewID] gives with that prefix.
func ValidID(prefix, s string) bool {
	rest, ok := strings.CutPrefix(s, prefix+"_")
	if !ok || len(rest) != 26 || rest[0] > '7' {
		return false
	}
	for i := range len(rest) {
		if strings.IndexByte(crockford, rest[i]) < 0 {
			return false
		}
	}
	return true
}

// IDTime returns when an id of [NewID] was made, exact to a microsecond, and whether it has the form of one.
func IDTime(prefix, id string) (time.Time, bool) {
	if !ValidID(prefix, id) {
		return time.Time{}, false
	}
	var hi, lo uint64
	for i := len(prefix) + 1; i < len(id); i++ {
		hi = hi<<5 | lo>>59
		lo = lo<<5 | uint64(strings.IndexByte(crockford, id[i]))
	}
	return time.UnixMilli(int64(hi >> 16)).Add(time.Duration(hi & 0xfff * 1e6 / 4096)).UTC(), true
}
