package signalboxtest_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

// curl runs the real program, which knows nothing of Signalbox, and returns all that it prints.
func curl(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("curl")
	require.NoError(t, err, "install curl: apt-get install curl")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, append([]string{"-sS", "-i", "--max-time", "15"}, args...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// repeats answers with everything that it was sent, in the headers, the body and a redirect.
func repeats(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	all := fmt.Sprintf("%s %s %v %s", r.Method, r.RequestURI, r.Header, body)
	w.Header().Set("X-Echo", base64.StdEncoding.EncodeToString([]byte(all)))
	w.Header().Set("X-Target", r.RequestURI)
	if user, password, ok := r.BasicAuth(); ok {
		w.Header().Set("X-Login", user+":"+password)
	}
	if r.URL.Path == "/base/moved" {
		w.Header().Set("Location", "/base/here?"+r.URL.RawQuery)
		w.WriteHeader(http.StatusFound)
	}
	for i := range len(all) {
		_, _ = io.WriteString(w, all[i:i+1])
		if i%7 == 0 {
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// TestCurlUsesWithoutHaving: curl, with a client key alone, calls an upstream that echoes everything, as a bearer and as a password; the
// upstream gets the secret, and it stands in nothing that curl, the log or the database has.
func TestCurlUsesWithoutHaving(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		ctx := t.Context()
		admin := box.Admin()
		var got *http.Request
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r.Clone(context.Background())
			repeats(w, r)
		}))
		defer up.Close()
		_, err := admin.CreateTrain(ctx, client.TrainDraft{TrainID: "web"})
		require.NoError(t, err)
		key, err := admin.IssueKey(ctx, "web", client.KeyDraft{Name: "agent"})
		require.NoError(t, err)
		box.Planted.Add("client key", key.APIKey)
		ways := 0
		for alias, c := range map[string]struct {
			draft client.CredentialDraft
			field string
			has   func(secret string) bool
		}{
			"bearer": {client.CredentialDraft{Type: "api_key"}, "api_key", func(s string) bool { return got.Header.Get("Authorization") == "Bearer "+s }},
			"basic": {client.CredentialDraft{Type: "password", Username: "bot"}, "password", func(s string) bool {
				user, password, _ := got.BasicAuth()
				return user == "bot" && password == s
			}},
		} {
			ways++
			secret := box.Planted.Secret(t, alias)
			c.draft.Name, c.draft.BaseURL, c.draft.Secrets = "tool "+alias, up.URL+"/base", map[string]string{c.field: secret}
			cred, err := admin.CreateCredential(ctx, c.draft)
			require.NoError(t, err)
			name := alias
			_, _, err = admin.Link(ctx, "web", client.LinkDraft{CredentialID: cred.ID, Alias: &name})
			require.NoError(t, err)
			for _, args := range [][]string{
				{"-H", "Authorization: Bearer " + key.APIKey, box.URL + "/use/" + alias + "/a/b?x=1&key=mine"},
				{"-u", "agent:" + key.APIKey, "-X", "PUT", "-d", "some text", box.URL + "/use/" + alias + "/a/b?x=1"},
				{"-H", "x-api-key: " + key.APIKey, "-T", "-", box.URL + "/use/" + alias + "/a/b?x=1"},
				{"-L", "-H", "Authorization: Bearer " + key.APIKey, box.URL + "/use/" + alias + "/moved?x=1"},
				{"-I", "-H", "Authorization: Bearer " + key.APIKey, box.URL + "/use/" + alias + "/a/b?x=1"},
			} {
				out := curl(t, args...)
				require.Contains(t, out, " 200 OK", alias)
				require.True(t, c.has(secret), alias)
				require.NotContains(t, fmt.Sprint(got.Header, got.RequestURI), key.APIKey)
				require.Contains(t, out, "***", "what was echoed is masked")
				box.Planted.Absent(t, "what curl shows of "+alias, []byte(out))
			}
			require.Contains(t, []string{"/base/a/b", "/base/here"}, got.URL.Path)
		}
		refused := curl(t, "-u", "agent:wrong-and-long-enough-to-be-a-key", box.URL+"/use/bearer/x")
		require.Contains(t, refused, " 401 Unauthorized")
		require.Contains(t, refused, `"code":"unauthenticated"`)
		require.Contains(t, curl(t, "--path-as-is", "-u", "agent:"+key.APIKey, box.URL+"/use/bearer/../x"), " 400 Bad Request")

		intents, outcomes := map[string]int{}, map[string]int{}
		require.Eventually(t, func() bool {
			intents, outcomes = map[string]int{}, map[string]int{}
			for _, e := range box.Leases(t) {
				lease, _ := e.Details.Get("lease")
				switch e.Action {
				case store.LeaseGranted:
					intents[lease.Text()]++
				case store.LeaseOutcome:
					outcomes[lease.Text()]++
				}
			}
			return len(outcomes) >= 6*ways // one of the five follows a redirect
		}, 5*time.Second, 20*time.Millisecond)
		require.Len(t, intents, 6*ways)
		for lease, n := range intents {
			require.Equal(t, []int{1, 1}, []int{n, outcomes[lease]}, lease)
		}
	})
}

// TestATokenIsRefreshedUnderUse: an access token that its API refuses is refreshed once, by one call, and the request comes through.
func TestATokenIsRefreshedUnderUse(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		ctx := t.Context()
		p := &provider{box: box, t: t, life: 3600}
		p.rotate()
		server := httptest.NewServer(p)
		defer server.Close()
		admin := box.Admin()
		later := time.Now().Add(time.Hour)
		cred, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: "oauth", Name: "crm", Provider: "custom", BaseURL: server.URL,
			Secrets: map[string]string{"access_token": p.access, "refresh_token": p.refresh},
			OAuth:   &client.OAuth{ExpiresAt: &later, ClientID: "client", TokenEndpoint: server.URL + "/token", TokenEndpointAuthMethod: "none", TokenRequestFormat: "form"}})
		require.NoError(t, err)
		_, err = admin.CreateTrain(ctx, client.TrainDraft{TrainID: "web"})
		require.NoError(t, err)
		alias := "crm"
		_, _, err = admin.Link(ctx, "web", client.LinkDraft{CredentialID: cred.ID, Alias: &alias})
		require.NoError(t, err)
		key, err := admin.IssueKey(ctx, "web", client.KeyDraft{Name: "agent"})
		require.NoError(t, err)
		require.Contains(t, curl(t, "-u", "a:"+key.APIKey, box.URL+"/use/crm/x"), `{"id":"msg_1"}`)
		p.mu.Lock()
		p.access = "at-other-than-stored" // the provider has ended it early
		p.mu.Unlock()
		require.Contains(t, curl(t, "-u", "a:"+key.APIKey, "-d", "body", box.URL+"/use/crm/x"), `{"id":"msg_1"}`)
		calls, asked := p.seen()
		require.Equal(t, []int{1, 3}, []int{calls, asked})
		p.mu.Lock()
		p.access = "at-other-than-stored"
		p.mu.Unlock()
		// What streams is sent once: the upstream's answer stands.
		out := curl(t, "-u", "a:"+key.APIKey, "-H", "Transfer-Encoding: chunked", "-d", strings.Repeat("x", 100_000), box.URL+"/use/crm/x")
		require.Contains(t, out, " 401 Unauthorized")
		require.Contains(t, out, `{"type":"error"}`)
	})
}
