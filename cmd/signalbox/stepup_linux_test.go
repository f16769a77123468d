package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

// stale is a server at which somebody signed in long ago: it deletes nothing before they have proved anew who they are.
type stale struct {
	*httptest.Server
	mu      sync.Mutex
	factors string
	right   map[string]string // the proof that it takes
	proofs  []map[string]string
	deleted int
	tries   int
}

func newStale(t *testing.T, factors string, right map[string]string) *stale {
	t.Helper()
	s := &stale{factors: factors, right: right}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, body string) {
		w.Header().Set("Content-Type", "application/json")
		if status >= 400 {
			w.Header().Set("Content-Type", "application/problem+json")
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
	mux.HandleFunc("GET /api/factors", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, `{"factors":`+s.factors+`}`) })
	mux.HandleFunc("POST /api/auth/step-up", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		got := map[string]string{}
		_ = json.NewDecoder(r.Body).Decode(&got)
		s.proofs = append(s.proofs, got)
		if len(got) != 1 || !sameProof(got, s.right) {
			answer(w, 403, `{"code":"second_factor_wrong","detail":"That code is not right."}`)
			return
		}
		w.WriteHeader(204)
	})
	mux.HandleFunc("DELETE /api/auth/sso/work", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tries++
		if n := len(s.proofs); n == 0 || !sameProof(s.proofs[n-1], s.right) {
			answer(w, 403, `{"code":"step_up_required","detail":"This needs a proof."}`)
			return
		}
		s.deleted++
		w.WriteHeader(204)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func sameProof(a, b map[string]string) bool {
	for k, v := range b {
		if a[k] != v {
			return false
		}
	}
	return len(a) == len(b)
}

func (s *stale) env(t *testing.T) []string {
	t.Helper()
	config := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(config, "signalbox"), 0o700))
	require.NoError(t, loginFile{filepath.Join(config, "signalbox")}.write(savedLogin{
		server: s.URL, access: secret.FromString("planted-access"), refresh: secret.FromString("planted-refresh"), expires: time.Now().Add(time.Hour),
	}))
	return []string{"XDG_CONFIG_HOME=" + config, "SIGNALBOX_DATA_DIR=" + t.TempDir(), "NO_COLOR=1"}
}

// TestACommandAsksForTheProof: in a session that signalbox login made, a command on a terminal asks for the proof that the server wants, without
// echo, and then does what it was asked for, once. Without a terminal it says what to do and asks for nothing.
func TestACommandAsksForTheProof(t *testing.T) {
	for name, c := range map[string]struct {
		factors, prompt, typed string
		right                  map[string]string
	}{
		"password": {`{"passkeys":[],"recovery_codes":0,"demanded":false}`, "Your password (not shown): ", "planted password", map[string]string{"password": "planted password"}},
		"app":      {`{"totp_since":"2026-01-01T00:00:00Z","passkeys":[],"recovery_codes":9,"demanded":false}`, "recovery code (not shown): ", "123 456", map[string]string{"totp": "123456"}},
		"recovery code": {`{"totp_since":"2026-01-01T00:00:00Z","passkeys":[],"recovery_codes":9,"demanded":false}`, "recovery code (not shown): ", "abcd-efgh-2345-6789",
			map[string]string{"recovery_code": "abcd-efgh-2345-6789"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStale(t, c.factors, c.right)
			env := s.env(t)
			x := onTerminal(t, env, "sso", "rm", "work", "--yes")
			x.sees(c.prompt)
			x.types(c.typed + "\n")
			require.Zero(t, x.wait(time.Minute), x.screen.String())
			x.sees("Deleted work")
			require.NotContains(t, x.screen.String(), c.typed)
			require.Equal(t, 1, s.deleted)

			s.mu.Lock()
			s.proofs = nil
			s.mu.Unlock()
			x = onTerminal(t, env, "sso", "rm", "work", "--yes")
			x.sees(c.prompt)
			x.types("wrong\n")
			require.Equal(t, 4, x.wait(time.Minute), x.screen.String())
			require.Equal(t, 1, s.deleted)
			require.Len(t, s.proofs, 1, "it asks once")
		})
	}
	t.Run("a passkey alone", func(t *testing.T) {
		s := newStale(t, `{"passkeys":[{"id":"psk_1","name":"key","created_at":"2026-01-01T00:00:00Z"}],"recovery_codes":0,"demanded":false}`, map[string]string{"password": "x"})
		x := onTerminal(t, s.env(t), "sso", "rm", "work", "--yes")
		require.Equal(t, 4, x.wait(time.Minute), x.screen.String())
		x.sees("signalbox login, and repeat it within five minutes")
		require.Empty(t, s.proofs)
	})
	t.Run("no terminal", func(t *testing.T) {
		s := newStale(t, `{"passkeys":[],"recovery_codes":0,"demanded":false}`, map[string]string{"password": "x"})
		d := &desk{T: t}
		_, errs, code := d.run(s.env(t), "x\n", "sso", "rm", "work", "--yes")
		require.Equal(t, 4, code, errs)
		require.Contains(t, errs, "signalbox login, and repeat it within five minutes")
		require.Empty(t, s.proofs)
		require.Equal(t, 1, s.tries)
	})
}
