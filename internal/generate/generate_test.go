package generate

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"signalbox.dev/signalbox/internal/secret"
)

// source is a stream of random bytes whose seed is printed.
func source(t *testing.T) io.Reader {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

// even fails when the counts differ more than chance explains: chi-square beyond eight standard deviations, which is one run in over 10¹².
func even(t *testing.T, counts []int) {
	t.Helper()
	total := 0
	for _, n := range counts {
		total += n
	}
	want := float64(total) / float64(len(counts))
	require.Greater(t, want, 20.0, "too few draws to tell")
	chi := 0.0
	for _, n := range counts {
		chi += (float64(n) - want) * (float64(n) - want) / want
	}
	free := float64(len(counts) - 1)
	require.InDelta(t, free, chi, 8*math.Sqrt(2*free), "chi-square of %d counts", len(counts))
}

// TestBelowIsEven: no number is preferred, also where a remainder would prefer many.
func TestBelowIsEven(t *testing.T) {
	random := source(t)
	for _, n := range []int{2, 10, 26, 89, 7776, 40000} {
		counts := make([]int, n)
		for range 50 * max(n, 200) {
			v, err := below(random, n)
			if err != nil {
				t.Fatal(err)
			}
			counts[v]++
		}
		even(t, counts)
	}
}

// TestPasswordsAreEven: each character of each place is as likely as any other of its class, though whole passwords are drawn again.
func TestPasswordsAreEven(t *testing.T) {
	random := source(t)
	s := Spec{Kind: Password, Length: 12, Classes: []string{"digits", "lower"}}.filled()
	first, last := map[byte]int{}, map[byte]int{}
	for range 30_000 {
		v, err := makeFrom(random, s, secret.Value{})
		require.NoError(t, err)
		p := v.Reveal()
		require.Len(t, p, 12)
		require.True(t, strings.ContainsAny(p, "0123456789") && strings.ContainsAny(p, Classes()[0].Characters), "a class is missing")
		first[p[0]]++
		last[p[11]]++
	}
	for _, seen := range []map[byte]int{first, last} {
		for _, class := range []string{"0123456789", Classes()[0].Characters} {
			var counts []int
			for _, c := range []byte(class) {
				counts = append(counts, seen[c])
			}
			even(t, counts)
		}
	}
}

// TestWordsAreEven: the list is the EFF's, whole, and each word as likely as any other.
func TestWordsAreEven(t *testing.T) {
	list := strings.Fields(words)
	require.Len(t, list, wordCount)
	place := map[string]int{}
	var dice strings.Builder
	for i, w := range list {
		place[w] = i
		fmt.Fprintf(&dice, "%d%d%d%d%d\t%s\n", i/1296+1, i/216%6+1, i/36%6+1, i/6%6+1, i%6+1, w)
	}
	require.Len(t, place, wordCount, "a word stands twice")
	sum := sha256.Sum256([]byte(dice.String()))
	require.Equal(t, "addd35536511597a02fa0a9ff1e5284677b8883b83e986e43f15a3db996b903e", hex.EncodeToString(sum[:]), "this is not https://www.eff.org/files/2016/07/18/eff_large_wordlist.txt")

	random := source(t)
	space := " "
	s := Spec{Kind: Passphrase, Words: 4000, Separator: &space}.filled()
	counts := make([]int, wordCount)
	for range 60 {
		v, err := makeFrom(random, s, secret.Value{})
		require.NoError(t, err)
		all := strings.Split(v.Reveal(), " ")
		require.Len(t, all, 4000)
		for _, w := range all {
			counts[place[w]]++
		}
	}
	even(t, counts)
}

func TestRandomBytes(t *testing.T) {
	for kind, decode := range map[Kind]func(string) ([]byte, error){Hex: hex.DecodeString, Base64: base64.StdEncoding.DecodeString, Base64URL: base64.RawURLEncoding.DecodeString} {
		seen := map[string]bool{}
		for range 50 {
			v, err := Make(Spec{Kind: kind, Bytes: 20}, secret.Value{})
			require.NoError(t, err)
			b, err := decode(v.Reveal())
			require.NoError(t, err)
			require.Len(t, b, 20)
			require.False(t, seen[string(b)])
			seen[string(b)] = true
		}
	}
}

// TestKeyPairs: what is made is what ssh-keygen takes for such a key, with its comment, and with the passphrase when there is one.
func TestKeyPairs(t *testing.T) {
	_, err := exec.LookPath("ssh-keygen")
	require.NoError(t, err, "install openssh-client")
	for _, s := range []Spec{{Kind: Ed25519, Comment: "deploy@build"}, {Kind: RSA, Bits: 2048}} {
		for _, passphrase := range []string{"", "correct horse"} {
			if s.Kind == RSA && passphrase != "" {
				continue // encrypted alike
			}
			v, err := Make(s, secret.FromString(passphrase))
			require.NoError(t, err)
			var parsed any
			if passphrase == "" {
				parsed, err = ssh.ParseRawPrivateKey(v.Bytes())
			} else {
				_, none := ssh.ParseRawPrivateKey(v.Bytes())
				require.Error(t, none)
				parsed, err = ssh.ParseRawPrivateKeyWithPassphrase(v.Bytes(), []byte(passphrase))
			}
			require.NoError(t, err)
			signer, err := ssh.NewSignerFromKey(parsed)
			require.NoError(t, err)
			path := t.TempDir() + "/key"
			require.NoError(t, secret.WriteFile(path, v))
			out, err := exec.Command("ssh-keygen", "-y", "-P", passphrase, "-f", path).Output()
			require.NoError(t, err)
			require.Equal(t, strings.Fields(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), strings.Fields(string(out))[:2])
			require.Equal(t, s.Comment != "", strings.Contains(string(out), "deploy@build"))
		}
	}
}

func TestRefusals(t *testing.T) {
	none, long, letter := "", "----", "a"
	for _, row := range []struct {
		s  Spec
		at string
	}{
		{Spec{}, "kind"}, {Spec{Kind: "dice"}, "kind"}, {Spec{Kind: Password, Length: 11}, "length"}, {Spec{Kind: Password, Length: 129}, "length"}, {Spec{Kind: Password, Length: -1}, "length"},
		{Spec{Kind: Password, Length: 12, Classes: []string{"digits"}}, "length"}, {Spec{Kind: Password, Classes: []string{"runes"}}, "classes"}, {Spec{Kind: Password, Classes: []string{}}, "classes"},
		{Spec{Kind: Password, Classes: []string{"lower", "lower"}}, "classes"}, {Spec{Kind: Password, Words: 6}, "words"}, {Spec{Kind: Passphrase, Words: 4}, "words"}, {Spec{Kind: Passphrase, Words: 21}, "words"},
		{Spec{Kind: Passphrase, Separator: &none}, "separator"}, {Spec{Kind: Passphrase, Separator: &long}, "separator"}, {Spec{Kind: Passphrase, Separator: &letter}, "separator"}, {Spec{Kind: Hex, Bytes: 15}, "bytes"},
		{Spec{Kind: Base64, Bytes: 1025}, "bytes"}, {Spec{Kind: RSA, Bits: 1024}, "bits"}, {Spec{Kind: RSA, Bits: 2047}, "bits"}, {Spec{Kind: Ed25519, Bits: 256}, "bits"}, {Spec{Kind: Ed25519, Comment: "a\nb"}, "comment"},
		{Spec{Kind: Hex, Comment: "x"}, "comment"}, {Spec{Kind: Password, Classes: []string{"lower"}, Bits: 7, Bytes: 3}, "bytes"},
	} {
		problems := row.s.Check()
		require.NotEmpty(t, problems, "%+v", row.s)
		require.Equal(t, row.at, problems[0].Parameter, "%+v", row.s)
		_, err := Make(row.s, secret.Value{})
		require.Error(t, err)
	}
	for _, row := range Kinds() {
		s := Spec{Kind: row.Kind}
		require.Empty(t, s.Check())
		require.GreaterOrEqual(t, s.Entropy(), 77.0, row.Kind)
	}
}

// TestEntropy: the figures of the guide, and the count of passwords with each class by trying them all.
func TestEntropy(t *testing.T) {
	for _, row := range []struct {
		s    Spec
		want float64
	}{
		{Spec{Kind: Password}, 155}, {Spec{Kind: Password, Length: 12}, 77}, {Spec{Kind: Passphrase}, 77}, {Spec{Kind: Passphrase, Words: 5}, 64}, {Spec{Kind: Hex}, 256}, {Spec{Kind: Base64, Bytes: 16}, 128},
		{Spec{Kind: Ed25519}, 128}, {Spec{Kind: RSA}, 128},
	} {
		require.Equal(t, row.want, math.Floor(row.s.Entropy()), "%+v", row.s)
	}
	sets := []string{"ab", "cde", "f"}
	complete := 0
	for n := range 6 * 6 * 6 * 6 * 6 {
		p := ""
		for range 5 {
			p, n = p+string("abcdef"[n%6]), n/6
		}
		if strings.ContainsAny(p, "ab") && strings.ContainsAny(p, "cde") && strings.ContainsAny(p, "f") {
			complete++
		}
	}
	require.InDelta(t, math.Log2(float64(complete)), passwordEntropy(sets, 5), 1e-9)
}
