package stray

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// oneByOne redacts by replacing one form after the other in the text itself, which is what the cuts must lead to.
func oneByOne(text string) string {
	text = privateKey.ReplaceAllString(text, "[redacted: a private key]")
	text = anyClientKey.ReplaceAllString(text, "[redacted: a client key]")
	for _, k := range kinds[1:] {
		text = k.find.ReplaceAllString(text, "[redacted: "+k.name+"]")
	}
	for _, find := range []*regexp.Regexp{inText, aBearer} {
		var b strings.Builder
		last := 0
		for _, at := range find.FindAllStringSubmatchIndex(text, -1) {
			if strings.HasPrefix(text[at[2]:], "[redacted") {
				continue
			}
			b.WriteString(text[last:at[2]] + "[redacted]")
			last = at[3]
		}
		text = b.String() + text[last:]
	}
	by := map[string]string{}
	for _, v := range lineValues(text) {
		if k, ok := classify(v.name, v.text); ok && k.find == nil {
			by[v.text] = "[redacted: " + k.name + "]"
		}
	}
	var pairs []string
	for _, value := range slices.SortedFunc(maps.Keys(by), func(a, b string) int { return len(b) - len(a) }) {
		pairs = append(pairs, value, by[value])
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// TestCutsAreWhatRedactTakesOut: of any text made of what the forms know, the cuts are in order and apart, and lead to what replacing form after form leads to.
func TestCutsAreWhatRedactTakesOut(t *testing.T) {
	words := []string{
		"sk-ant-api03-abcdefghijklmnop", "sk-ant-", "password", "token", "API_KEY", "=", ":", " ", "\n", "\"", "'", "bearer ", "Basic ", "hunter22hunter22", "qJ8vT3xZ9wLmN4pR", "redacted", "[redacted: a client key]",
		"a token in a header", "x_pass=", "x_pass=redacted", "export DEPLOY_KEY=", "postgres://me:", "hunter22@db/x", "-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----", "sbx_live_abc", "é", "ghp_abcdefghijklmnopqrstu", ";",
		"eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "private key]", "\r\n", "a password",
	}
	dice := rand.New(rand.NewPCG(1, 2))
	for range 5_000 {
		var b strings.Builder
		for range 1 + dice.IntN(14) {
			b.WriteString(words[dice.IntN(len(words))])
		}
		text := b.String()
		last := -1
		for _, c := range Cuts(text) {
			require.Greater(t, c.From, last, "%q", text)
			require.Greater(t, c.To, c.From, "%q", text)
			last = c.To
		}
		require.LessOrEqual(t, last, len(text))
		require.Equal(t, oneByOne(text), Redact(text), "%q", text)
	}
}

// requireLinear requires that four times as much does not take much more than four times as long: each is done a few times, and the best counts, since others work on the machine too.
func requireLinear(t *testing.T, size int, do func(size int)) {
	t.Helper()
	ratio := 0.0
	for range 4 {
		took := [2]time.Duration{time.Hour, time.Hour}
		for range 2 {
			for i, n := range []int{size / 4, size} {
				began := time.Now()
				do(n)
				took[i] = min(took[i], time.Since(began))
			}
		}
		if ratio = float64(took[1]) / float64(took[0]); ratio < 8 {
			return
		}
	}
	require.Less(t, ratio, 8.0)
}

// upTo is a text of lines or words, up to a size.
func upTo(size int, begin string, word func(i int) string) string {
	var b strings.Builder
	b.WriteString(begin)
	for i := 0; b.Len() < size; i++ {
		b.WriteString(word(i))
	}
	return b.String()
}

// TestCutsTakeNoLongerThanTheirText: nobody can write a text whose size is allowed, and that takes a minute or all memory to look through.
func TestCutsTakeNoLongerThanTheirText(t *testing.T) {
	for name, text := range map[string]func(size int) string{
		"values that touch": func(size int) string { return upTo(size, "x_pass=hunter22\n", func(int) string { return "hunter22" }) },
		"values that begin alike": func(size int) string {
			return upTo(size, "", func(i int) string { return fmt.Sprintf("x_pass=aaaaaaaa%06d\n", i) })
		},
		"values that end alike": func(size int) string {
			return upTo(size, "", func(i int) string { return fmt.Sprintf("x_pass=%06daaaaaaaa\n", i) })
		},
		"values that begin each other": func(size int) string {
			return upTo(size/2, "", func(i int) string { return "x_pass=" + strings.Repeat("a", 8+i) + "b\n" }) + strings.Repeat("a", size/2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			requireLinear(t, 1<<20, func(size int) {
				text := text(size)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				require.NotEmpty(t, Cuts(text))
				runtime.ReadMemStats(&after)
				require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1000*len(text)))
			})
		})
	}
}

// TestTheLongestValueIsFound: at each place, of values that are alike in every way.
func TestTheLongestValueIsFound(t *testing.T) {
	dice := rand.New(rand.NewPCG(5, 6))
	word := func(most int) string {
		b := make([]byte, 1+dice.IntN(most))
		for i := range b {
			b[i] = "abc"[dice.IntN(3)]
		}
		return string(b)
	}
	for range 2_000 {
		values := map[string]string{}
		for range dice.IntN(12) {
			values[word(7)] = ""
		}
		text := word(60)
		for i, got := range longestOf(values).at(text) {
			want := 0
			for value := range values {
				if strings.HasPrefix(text[i:], value) {
					want = max(want, len(value))
				}
			}
			require.EqualValues(t, want, got, "%q in %q at %d", values, text, i)
		}
	}
}
