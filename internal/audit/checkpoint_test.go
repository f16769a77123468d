package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// testSigner is a key for tests that need no database.
func testSigner(t testing.TB) (note.Signer, string) {
	t.Helper()
	private, public, err := note.GenerateKey(nil, originPrefix+store.NewID("log"))
	require.NoError(t, err)
	s, err := note.NewSigner(private)
	require.NoError(t, err)
	return s, public
}

// fixedSigner is the same key in every process: fuzzing compares what its workers do.
func fixedSigner(t testing.TB) (note.Signer, string) {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	public, err := note.NewEd25519VerifierKey(originPrefix+store.IDFloor("log", time.UnixMilli(1)), ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	require.NoError(t, err)
	parts := strings.Split(public, "+")
	s, err := note.NewSigner("PRIVATE+KEY+" + parts[0] + "+" + parts[1] + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, seed...)))
	require.NoError(t, err)
	return s, public
}

func testCheckpoint(t testing.TB, s note.Signer) Checkpoint {
	t.Helper()
	c := Checkpoint{Origin: s.Name(), Size: 4711, Root: (&edge{}).root(), At: time.UnixMicro(1795312823123456), After: 4700}
	c, err := ParseCheckpoint(sign(t, c, s))
	require.NoError(t, err)
	return c
}

func TestCheckpointFormat(t *testing.T) {
	s, public := testSigner(t)
	c := testCheckpoint(t, s)
	require.Equal(t, s.Name()+"\n4711\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nat 2026-11-22T02:00:23.123456Z\nafter 4700\n", c.text())
	require.NoError(t, c.Check(public))
	_, other := testSigner(t)
	require.Error(t, c.Check(other))
	require.Error(t, c.Check())
	require.NoError(t, c.Check(other, public))
	require.ErrorContains(t, c.Check("rubbish"), "malformed")

	for name, change := range map[string]func(string) string{
		"no signature":     func(s string) string { return s[:strings.Index(s, "\n\n")+1] },
		"leading zero":     func(s string) string { return strings.Replace(s, "4711", "04711", 1) },
		"negative":         func(s string) string { return strings.Replace(s, "4711", "-4711", 1) },
		"huge":             func(s string) string { return strings.Replace(s, "4711", "9223372036854775807", 1) },
		"after itself":     func(s string) string { return strings.Replace(s, "after 4700", "after 4711", 1) },
		"another origin":   func(s string) string { return strings.Replace(s, "signalbox.dev/audit/", "example.com/audit/", 1) },
		"bad time":         func(s string) string { return strings.Replace(s, "2026-11", "2026-13", 1) },
		"short time":       func(s string) string { return strings.Replace(s, ".123456Z", "Z", 1) },
		"one line more":    func(s string) string { return strings.Replace(s, "after 4700\n", "after 4700\nmore\n", 1) },
		"one line less":    func(s string) string { return strings.Replace(s, "after 4700\n", "", 1) },
		"short hash":       func(s string) string { return strings.Replace(s, "47DEQpj8", "", 1) },
		"loose base64":     func(s string) string { return strings.Replace(s, "uFU=", "uFV=", 1) },
		"windows line end": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"nothing":          func(string) string { return "" },
	} {
		_, err := ParseCheckpoint(change(c.Note))
		require.Error(t, err, name)
	}
}

func TestSignerIsMadeOnceAndSealed(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		again := b.another(t, b.db, "two")
		require.Equal(t, b.log.Verifier(), again.Verifier())
		x := b.attack(t)
		var sealed []byte
		require.NoError(t, x.Get(&sealed, `SELECT sealed FROM audit_signers`))
		require.NotContains(t, string(sealed), "PRIVATE")
		var n int
		require.NoError(t, x.Get(&n, `SELECT COUNT(*) FROM audit_events WHERE action = 'audit.signer'`))
		require.Equal(t, 1, n)

		// Another key's public half, or another place of the private one, is refused at the start.
		b.unguard(t, x)
		_, public := testSigner(t)
		_, err := x.Exec(`UPDATE audit_signers SET verifier = $1`, public)
		require.NoError(t, err)
		_, err = New(t.Context(), Config{DB: b.db, Ring: b.ring})
		require.ErrorContains(t, err, "the database was changed")
		_, err = x.Exec(`UPDATE audit_signers SET verifier = $1, id = $2`, b.log.Verifier(), store.NewID("sig"))
		require.NoError(t, err)
		_, err = New(t.Context(), Config{DB: b.db, Ring: b.ring})
		require.ErrorIs(t, err, secret.ErrOpen)
	})
}

func TestInstancesAgreeOnOneSigner(t *testing.T) {
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			cfg := storetest.Config(t, engine)
			root, err := secret.NewRootKey()
			require.NoError(t, err)
			first := storetest.OpenConfig(t, cfg)
			ring, err := keyring.Open(t.Context(), keyring.Config{DB: first, Root: root})
			require.NoError(t, err)
			keys := make(chan string, 6)
			for range cap(keys) {
				db := first // SQLite has one process only
				if engine == store.Postgres {
					db = storetest.OpenConfig(t, cfg)
				}
				go func() {
					l, err := New(t.Context(), Config{DB: db, Ring: ring})
					if err != nil {
						keys <- err.Error()
						return
					}
					keys <- l.Verifier()
				}()
			}
			want := <-keys
			require.Contains(t, want, originPrefix)
			for range cap(keys) - 1 {
				require.Equal(t, want, <-keys)
			}
			_, err = New(t.Context(), Config{DB: first})
			require.ErrorContains(t, err, "keyring")
		})
	}
}

func TestAnchorFile(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		var want []string
		step := func() {
			b.fill(t, 1)
			b.flush(t)
			c, err := b.log.Latest(t.Context())
			require.NoError(t, err)
			want = append(want, c.Note)
			require.Equal(t, c.At, b.log.Health().SignedAt)
			again := b.another(t, b.db, "beside")
			require.NoError(t, again.stand(t.Context(), standForRecords))
			require.Equal(t, c.At, again.Health().SignedAt, "another instance sees it too")
		}
		step()
		step()
		info, err := os.Stat(b.file)
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077)

		// A crash tears the last note at any byte; the next start goes on behind it, without loss.
		whole, err := os.ReadFile(b.file)
		require.NoError(t, err)
		for cut := strings.Index(string(whole), "\n\n") + 3; cut < len(whole); cut += 7 {
			require.NoError(t, os.WriteFile(b.file, whole[:cut], 0o600))
			l := b.another(t, b.db, "again")
			require.NoError(t, l.anchors.extend(t.Context(), b.db, l.log))
			notes := b.notes(t)
			require.Equal(t, want, compact(notes), "torn at %d", cut)
		}
		b.log = b.another(t, b.db, "again")
		step()
		require.Equal(t, want, compact(b.notes(t)))

		// A file that was lost is written anew.
		require.NoError(t, os.Remove(b.file))
		b.log = b.another(t, b.db, "again")
		step()
		require.Equal(t, want, b.notes(t))
		require.NotContains(t, b.said.String(), "rolled back")

		// A file that cannot be written stops nothing and is caught up with.
		good := b.log.anchors.path
		b.log.anchors.path = filepath.Join(t.TempDir(), "missing", "file")
		b.fill(t, 1)
		require.Error(t, b.log.Flush(t.Context()))
		b.fill(t, 1)
		b.log.signedAt = time.Time{}
		b.log.pass(t.Context())
		h := b.log.Health()
		require.NoError(t, h.Err)
		require.Error(t, h.AnchorErr)
		b.log.anchors.path = good
		b.flush(t)
		b.requireWhole(t)
	})
}

// compact drops what a writer that could not know better wrote twice.
func compact(notes []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, n := range notes {
		if !seen[n] {
			out = append(out, n)
		}
		seen[n] = true
	}
	return out
}

func TestAnchorFileOfAnotherHistoryIsNoticed(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		s, _ := testSigner(t)
		require.NoError(t, os.WriteFile(b.file, []byte(testCheckpoint(t, s).Note+"\n"), 0o600))
		b.fill(t, 1)
		b.flush(t)
		require.Contains(t, b.said.String(), "rolled back or replaced")
		require.Len(t, b.notes(t), 2)
	})
}

func TestParseAnchors(t *testing.T) {
	s, _ := testSigner(t)
	n := testCheckpoint(t, s).Note
	for name, c := range map[string]struct {
		text string
		want int
	}{
		"one, as the server answers it": {n, 1},
		"two":                           {n + "\n" + n + "\n", 2},
		"comment before":                {"kept by Ada\n" + n, 1},
		"more empty lines":              {"\n\n" + n + "\n\n\n" + n, 2},
		"two signatures":                {n + n[strings.LastIndex(n, sigMark):], 1},
		"torn text, then a whole one":   {n[:30] + "\n(torn)\n\n" + n, 1},
		"torn signature, then whole":    {n[:len(n)-9] + "\n(torn)\n\n" + n, 1},
		"torn at the end":               {n + "\n" + n[:len(n)-2], 1},
		"without its last line end":     {n + "\n" + n[:len(n)-1], 2},
		"pasted from a window":          {"ada 10:15\nChanged.\n" + strings.ReplaceAll(n[:len(n)-1], "\n", "\r\n"), 1},
		"in a fence":                    {"Checkpoint:\n```\n" + n + "```\nthanks", 1},
		"in JSON":                       {`<110>1 - - [x] {"type":"audit.checkpoint","data":{"note":` + strconv.Quote(n) + `}}` + "\nmore", 1},
		"torn before the signature":     {n + "\n" + n[:strings.LastIndex(n, sigMark)], 1},
		"nothing":                       {"", 0},
		"something else":                {"{}\n", 0},
		"a signature alone":             {n[strings.LastIndex(n, sigMark):], 0},
	} {
		got, err := ParseAnchors(c.text)
		if c.want == 0 {
			require.Error(t, err, name)
			continue
		}
		require.NoError(t, err, name)
		require.Len(t, got, c.want, name)
		for _, g := range got {
			require.True(t, strings.HasPrefix(g, n), name)
		}
	}
}

func FuzzCheckpoint(f *testing.F) {
	s, public := fixedSigner(f)
	good := testCheckpoint(f, s)
	f.Add(good.Note)
	f.Add(good.Note + "\n" + good.Note)
	f.Add(good.Note[:len(good.Note)-5])
	f.Add("\n\n" + sigMark + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		notes, err := ParseAnchors(text)
		if err == nil && len(notes) == 0 {
			t.Fatal("no notes and no error")
		}
		for _, n := range append(notes, text) {
			c, err := ParseCheckpoint(n)
			if err != nil {
				continue
			}
			if !strings.HasPrefix(n, c.text()+"\n") {
				t.Fatalf("%q was read as %q", n, c.text())
			}
			if c.Check(public) == nil && c.text() != good.text() {
				t.Fatalf("a signature holds for another text: %q", n)
			}
		}
	})
}
