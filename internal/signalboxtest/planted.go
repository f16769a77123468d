package signalboxtest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// pieceLength is the length of the pieces of a planted secret that must not appear either.
const pieceLength = 12

// Planted is a set of secrets that a test gave to Signalbox, and that must appear in no sink.
type Planted struct {
	mu      sync.Mutex
	needles []needle
}

type needle struct {
	label string
	form  string
	text  []byte
}

// Secret returns a fresh random secret whose pieces are unmistakable, and remembers to look for it. It has characters that URL- and JSON-
// escaping change.
func (p *Planted) Secret(t testing.TB, label string) string {
	t.Helper()
	b := make([]byte, 24)
	_, err := rand.Read(b)
	require.NoError(t, err)
	text := base64.RawURLEncoding.EncodeToString(b)
	s := "plant-" + text[:16] + `+/"` + text[16:]
	p.Add(label, s)
	return s
}

// Add remembers a secret that was made elsewhere.
func (p *Planted) Add(label, s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	add := func(form string, text []byte) {
		if len(text) >= pieceLength {
			p.needles = append(p.needles, needle{label, form, bytes.Clone(text)})
		}
	}
	raw := []byte(s)
	add("raw", raw)
	add("hex", []byte(hex.EncodeToString(raw)))
	add("HEX", []byte(strings.ToUpper(hex.EncodeToString(raw))))
	add("query-escaped", []byte(url.QueryEscape(s)))
	add("path-escaped", []byte(url.PathEscape(s)))
	if j, err := json.Marshal(s); err == nil {
		add("JSON", j[1:len(j)-1])
	}
	for shift := range 3 { // base64 of a longer text that holds the secret at any alignment
		for name, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			text := enc.EncodeToString(append(make([]byte, shift), raw...))
			from := (shift*8 + 5) / 6 // the first digit that depends on the secret alone
			add(name, []byte(text[from:len(text)-2]))
		}
	}
	for i := 0; i+pieceLength <= len(raw); i++ {
		add("piece", raw[i:i+pieceLength])
	}
}

// Find returns where and in which form a planted secret stands in data; "" when none does.
func (p *Planted) Find(data []byte) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.needles {
		if i := bytes.Index(data, n.text); i >= 0 {
			return fmt.Sprintf("%s, %s, at byte %d", n.label, n.form, i)
		}
	}
	return ""
}

// Absent fails the test when a planted secret stands in data.
func (p *Planted) Absent(t testing.TB, sink string, data []byte) {
	t.Helper()
	if where := p.Find(data); where != "" {
		t.Errorf("a planted secret is in %s: %s", sink, where)
	}
}

// AbsentFromFiles looks through every file under dir whose name does not end in one of the exceptions.
func (p *Planted) AbsentFromFiles(t testing.TB, dir string, except ...string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		for _, e := range except {
			if strings.HasSuffix(path, e) {
				return nil
			}
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		p.Absent(t, path, b)
		return nil
	}))
}
