package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
)

// The shapes of our bearer secrets: a prefix that says what it is, random characters, and a checksum over both. With 32 characters of
// base 62 (190 bits), 160 bits stay unknown even to somebody who reads the four last characters in a preview.
const (
	tokenPrefix = "sbp_"
	// ClientKeyPrefix begins every client key that Signalbox makes; an imported one may look otherwise.
	ClientKeyPrefix = "sbx_live_"
	setupPrefix     = "sbs_"

	randomLen   = 32
	checksumLen = 6 // 62⁶ > 2³²

	// bearerMax bounds what is hashed for a key of a foreign shape.
	bearerMax = 512
	// foreignMin is the least length of an imported key: shorter ones can be guessed.
	foreignMin = 16
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// newBearer makes a bearer secret.
func newBearer(prefix string) secret.Value {
	b := make([]byte, 0, len(prefix)+randomLen+checksumLen)
	b = append(b, prefix...)
	var pool [2 * randomLen]byte
	for len(b) < len(prefix)+randomLen {
		_, _ = rand.Read(pool[:]) // crypto/rand.Read never fails since Go 1.24
		for _, r := range pool {
			// Six bits of which two values are thrown away: every character is equally likely.
			if r &= 63; r < 62 && len(b) < len(prefix)+randomLen {
				b = append(b, base62[r])
			}
		}
	}
	sum := checksum(string(b))
	return secret.New(append(b, sum[:]...))
}

// checksum is the CRC-32 (IEEE) of s in base 62. The loop is written out because the library's takes a byte slice that escapes to the heap,
// and this runs on every request.
func checksum(s string) [checksumLen]byte {
	c := ^uint32(0)
	for i := range len(s) {
		c = crc32.IEEETable[byte(c)^s[i]] ^ c>>8
	}
	c = ^c
	var out [checksumLen]byte
	for i := checksumLen - 1; i >= 0; i-- {
		out[i] = base62[c%62]
		c /= 62
	}
	return out
}

// wellFormed reports whether s has the shape that [newBearer] gives with that prefix, its checksum included. It tells a damaged or invented
// secret from a real one without any look-up; it is no proof of anything.
func wellFormed(prefix, s string) bool {
	if len(s) != len(prefix)+randomLen+checksumLen || !strings.HasPrefix(s, prefix) {
		return false
	}
	body := len(s) - checksumLen
	if sum := checksum(s[:body]); s[body:] != string(sum[:]) {
		return false
	}
	for i := len(prefix); i < body; i++ {
		if !alphanumeric(s[i]) {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// digest is the only form in which a bearer secret is kept. A plain hash is enough: there is nothing to guess in 190 random bits.
func digest(s string) [sha256.Size]byte {
	if len(s) <= 64 { // our own shapes: no copy on the heap
		var b [64]byte
		return sha256.Sum256(b[:copy(b[:], s)])
	}
	return sha256.Sum256([]byte(s))
}

// preview is what may be shown of a bearer secret for good.
func preview(prefix, s string) string { return prefix + "…" + s[len(s)-4:] }
