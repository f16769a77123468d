package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
)

// statuses are the states of the keys of the train web that have a name.
func (d *desk) statuses(name string) []string {
	d.Helper()
	out, errs, code := d.run(d.admin, "", "key", "list", "web", "--json")
	require.Zero(d, code, errs)
	var list struct {
		Keys []client.Key `json:"api_keys"`
	}
	require.NoError(d, json.Unmarshal([]byte(out), &list))
	var states []string
	for _, k := range list.Keys {
		if k.Name == name {
			states = append(states, k.Status)
		}
	}
	return states
}

// TestConnectOnABadLine: a key whose answer is lost is revoked and another issued, what is replaced is revoked when the new key is out, and keys that others
// made under the same name stay.
func TestConnectOnABadLine(t *testing.T) {
	d := newDesk(t)
	l := d.line()
	token, err := os.ReadFile(filepath.Join(strings.TrimPrefix(d.admin[1], "SIGNALBOX_DATA_DIR="), "operator.token"))
	require.NoError(t, err)
	admin := []string{"SIGNALBOX_DATA_DIR=" + t.TempDir(), "SIGNALBOX_URL=" + l.URL, "SIGNALBOX_TOKEN=" + strings.TrimSpace(string(token))}
	through := l.Config.Handler
	posts := 0
	lose := func(after bool) {
		posts = 0
		l.Config.Handler = first(through, func(r *http.Request) {
			if r.Method == http.MethodPost {
				posts++
				l.after.Store(after && posts == 1)
				l.before.Store(!after && posts == 1)
			}
		})
	}

	lose(true)
	out, errs, code := d.run(admin, "", "connect", "sdk", "--train", "web", "--name", "lost")
	require.Zero(t, code, errs)
	require.Contains(t, out, "export ANTHROPIC_API_KEY=sbx_live_")
	require.Regexp(t, `The key key_[0-9a-z]+ was issued, but its answer was lost; it is revoked`, errs)
	require.ElementsMatch(t, []string{"active", "revoked"}, d.statuses("lost"))
	require.Len(t, l.once, 3)
	require.NotEmpty(t, l.once[0])
	require.Equal(t, l.once[0], l.once[1])
	require.NotEqual(t, l.once[0], l.once[2])

	lose(false)
	_, errs, code = d.run(admin, "", "connect", "sdk", "--train", "web", "--name", "unheard")
	require.Zero(t, code, errs)
	require.NotContains(t, errs, "answer was lost")
	require.Equal(t, []string{"active"}, d.statuses("unheard"))

	// What it replaces cannot be revoked: the new key is told all the same.
	l.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		through.ServeHTTP(w, r)
	})
	out, errs, code = d.run(admin, "", "connect", "sdk", "--train", "web", "--name", "unheard", "--replace")
	require.Equal(t, 1, code)
	require.Contains(t, out, "export ANTHROPIC_API_KEY=sbx_live_")
	require.Regexp(t, `the new key key_[0-9a-z]+ works, but what it replaces is not revoked: key_`, errs)
	require.Equal(t, []string{"active", "active"}, d.statuses("unheard"))

	// Nothing is revoked when nobody can have seen the new key.
	l.Config.Handler = through
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	require.Equal(t, 1, d.into(full, admin, "connect", "sdk", "--train", "web", "--name", "unheard", "--replace"))
	require.Equal(t, []string{"active", "active", "active"}, d.statuses("unheard"))

	// Somebody else with the same program on the same machine.
	d.login()
	_, errs, code = d.run(d.env, "", "connect", "sdk", "--train", "web", "--name", "unheard", "--replace")
	require.Zero(t, code, errs)
	require.Regexp(t, `also has keys named "unheard" that somebody else made, or another token\. They stay: key_[0-9a-z]+, key_[0-9a-z]+, key_`, errs)
	require.Equal(t, []string{"active", "active", "active", "active"}, d.statuses("unheard"))
	_, errs, code = d.run(d.env, "", "connect", "sdk", "--train", "web", "--name", "unheard", "--replace")
	require.Zero(t, code, errs)
	require.Contains(t, errs, "Revoked what it replaces: key_")
	require.ElementsMatch(t, []string{"active", "active", "active", "active", "revoked"}, d.statuses("unheard"))
}

// TestHeldKey: a key in a file is kept where it is the caller's own and good for a while.
func TestHeldKey(t *testing.T) {
	soon, late := time.Now().Add(leastHeld-time.Minute), time.Now().Add(leastHeld+time.Minute)
	text := "sbx_live_" + strings.Repeat("a", 34) + "wxyz"
	for name, c := range map[string]struct {
		key  client.Key
		want bool
	}{
		"good":         {client.Key{Status: "active", KeyPreview: "sbx_live_…wxyz"}, true},
		"for a while":  {client.Key{Status: "active", KeyPreview: "sbx_live_…wxyz", ExpiresAt: &late}, true},
		"ends soon":    {client.Key{Status: "active", KeyPreview: "sbx_live_…wxyz", ExpiresAt: &soon}, false},
		"was replaced": {client.Key{Status: "active", KeyPreview: "sbx_live_…wxyz", ReplacedBy: "key_2"}, false},
		"revoked":      {client.Key{Status: "revoked", KeyPreview: "sbx_live_…wxyz"}, false},
		"another":      {client.Key{Status: "active", KeyPreview: "sbx_live_…abcd"}, false},
	} {
		_, held := heldKey(text, []client.Key{c.key})
		require.Equal(t, c.want, held, name)
	}
}

// TestOwn: keys are told apart by who made them; of a token that is nobody's, by the token.
func TestOwn(t *testing.T) {
	who := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"caller":`+who+`}`)
	}))
	defer server.Close()
	keys := []client.Key{{ID: "key_1", CreatedBy: "usr_1"}, {ID: "key_2", CreatedBy: "tok_1"}, {ID: "key_3"}}
	for said, want := range map[string]string{`{"id":"tok_1","user_id":"usr_1"}`: "key_1", `{"id":"tok_1"}`: "key_2", `{}`: ""} {
		who = said
		mine, others, err := own(t.Context(), client.New(server.URL, "sbp_planted"), keys)
		require.NoError(t, err)
		require.Len(t, others, 3-len(mine))
		ids := ""
		for _, k := range mine {
			ids += k.ID
		}
		require.Equal(t, want, ids, said)
	}
}
