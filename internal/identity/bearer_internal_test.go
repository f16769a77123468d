package identity

import (
	"hash/crc32"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChecksumIsCRC32 recomputes it with the library, so that secret scanners of others can check our shapes.
func TestChecksumIsCRC32(t *testing.T) {
	for _, s := range []string{"", "a", "sbp_", strings.Repeat("z", 41), newBearer(ClientKeyPrefix).Reveal()} {
		c := crc32.ChecksumIEEE([]byte(s))
		var want [checksumLen]byte
		for i := checksumLen - 1; i >= 0; i, c = i-1, c/62 {
			want[i] = base62[c%62]
		}
		require.Equal(t, want, checksum(s))
	}
}

// TestHashesThatBeginAlike puts holders into one bucket, which chance never will.
func TestHashesThatBeginAlike(t *testing.T) {
	var g register
	g.replace(nil)
	var hs []*holder
	for i := range 4 {
		h := &holder{id: string(rune('a' + i))}
		h.sum[31] = byte(i)
		hs = append(hs, h)
		g.put(h)
	}
	for _, h := range hs {
		require.Same(t, h, g.find(&h.sum))
	}
	again := &holder{id: "b", sum: hs[1].sum, name: "changed"}
	hs[1].used.Store(7)
	g.put(again)
	require.Same(t, again, g.find(&again.sum))
	require.Equal(t, int64(7), again.used.Load(), "a reload keeps the last use")
	g.remove("c")
	g.remove("c")
	require.Nil(t, g.find(&hs[2].sum))
	require.Nil(t, g.get("c"))
	for _, h := range []*holder{hs[0], again, hs[3]} {
		require.Same(t, h, g.find(&h.sum))
		g.remove(h.id)
		require.Nil(t, g.find(&h.sum))
	}
	require.Empty(t, g.sums)
	require.Zero(t, g.size())
}

// FuzzBearer feeds anything to the recogniser: only what newBearer makes passes, and nothing makes it fail.
func FuzzBearer(f *testing.F) {
	real := newBearer(ClientKeyPrefix).Reveal()
	for _, s := range []string{"", ClientKeyPrefix, real, real[1:], real + "0", tokenPrefix + strings.Repeat("0", 38)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, prefix := range []string{ClientKeyPrefix, tokenPrefix, setupPrefix} {
			if !wellFormed(prefix, s) {
				continue
			}
			sum := checksum(s[:len(s)-checksumLen])
			if !strings.HasPrefix(s, prefix) || !strings.HasSuffix(s, string(sum[:])) || strings.ContainsFunc(s[len(prefix):], func(c rune) bool { return c > 'z' || !alphanumeric(byte(c)) }) {
				t.Fatalf("%q passed", s)
			}
		}
		if a, b := digest(s), digest(s); a != b {
			t.Fatal("the hash depends on more than the text")
		}
	})
}

func FuzzSource(f *testing.F) {
	for _, s := range []string{"", "192.0.2.1:80", "[::1]:80", "fe80::1%eth0", "::ffff:1.2.3.4", "localhost"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := canonicalSource(s)
		if len(out) > 48 {
			t.Fatalf("%q became %q", s, out)
		}
		if again := canonicalSource(out); !strings.Contains(out, "/") && out != elsewhere && out != nowhere && again != out {
			t.Fatalf("%q became %q and then %q", s, out, again)
		}
	})
}
