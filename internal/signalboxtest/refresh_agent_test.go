package signalboxtest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

// provider is an OAuth server that rotates refresh tokens, and the API that its access tokens are for.
type provider struct {
	mu      sync.Mutex
	box     *signalboxtest.Box
	t       *testing.T
	access  string
	refresh string
	calls   int
	asked   int
	life    int
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.URL.Path == "/token" {
		p.calls++
		if r.FormValue("refresh_token") != p.refresh {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"invalid_grant"}`)
			return
		}
		p.rotate()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": p.access, "refresh_token": p.refresh, "token_type": "Bearer", "expires_in": p.life})
		return
	}
	p.asked++
	if r.Header.Get("Authorization") != "Bearer "+p.access {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"type":"error"}`)
		return
	}
	_, _ = io.WriteString(w, `{"id":"msg_1"}`)
}

func (p *provider) rotate() {
	secret := func() string {
		return strings.NewReplacer(`"`, "", "+", "", "/", "").Replace(p.box.Planted.Secret(p.t, "token"))
	}
	p.access, p.refresh = "at-"+secret(), "rt-"+secret()
	p.box.Planted.Add("access token", p.access)
	p.box.Planted.Add("refresh token", p.refresh)
}

func (p *provider) seen() (calls, asked int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls, p.asked
}

// TestAnAgentNeverSeesAnOldToken: an access token that has ended is refreshed before the request is sent, once for all who come together; one
// that the upstream refuses is refreshed and the request sent again; and when the provider refuses for good, somebody is needed.
func TestAnAgentNeverSeesAnOldToken(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		ctx := t.Context()
		p := &provider{box: box, t: t, life: 3600}
		p.rotate()
		server := httptest.NewServer(p)
		defer server.Close()
		admin := box.Admin()
		ended := time.Now().Add(-time.Minute)
		cred, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: "oauth", Name: "team", Provider: "anthropic", BaseURL: server.URL,
			Secrets: map[string]string{"access_token": p.access, "refresh_token": p.refresh},
			OAuth:   &client.OAuth{ExpiresAt: &ended, ClientID: "client", TokenEndpoint: server.URL + "/token", TokenEndpointAuthMethod: "none", TokenRequestFormat: "form"}})
		require.NoError(t, err)
		require.Equal(t, "healthy", cred.Health)
		_, err = admin.CreateTrain(ctx, client.TrainDraft{TrainID: "web"})
		require.NoError(t, err)
		_, _, err = admin.Link(ctx, "web", client.LinkDraft{CredentialID: cred.ID})
		require.NoError(t, err)
		key, err := admin.IssueKey(ctx, "web", client.KeyDraft{Name: "agent"})
		require.NoError(t, err)
		box.Planted.Add("client key", key.APIKey)
		send := func() (int, string) {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, box.URL+"/v1/messages", strings.NewReader(`{"model":"m"}`))
			require.NoError(t, err)
			req.Header.Set("X-Api-Key", key.APIKey)
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			return resp.StatusCode, string(body)
		}
		since := time.Now()
		statuses := make(chan string, 20)
		var wg sync.WaitGroup
		for range cap(statuses) {
			wg.Go(func() {
				status, body := send()
				statuses <- fmt.Sprint(status, body)
			})
		}
		wg.Wait()
		close(statuses)
		for s := range statuses {
			require.Equal(t, `200{"id":"msg_1"}`, s)
		}
		calls, asked := p.seen()
		require.Equal(t, []int{1, 20}, []int{calls, asked}, "one refresh, and the old token was sent to nobody")
		box.RequireEvents(t, since, store.OAuthRefresh, store.OAuthRefresh)

		p.mu.Lock()
		p.access = "at-other" // the provider has ended it early
		p.mu.Unlock()
		status, _ := send()
		require.Equal(t, 200, status)
		calls, asked = p.seen()
		require.Equal(t, []int{2, 22}, []int{calls, asked})
		got, err := admin.GetCredential(ctx, cred.ID)
		require.NoError(t, err)
		require.Equal(t, "healthy", got.Health)
		require.EqualValues(t, 3, got.Version)
		require.NotEqual(t, cred.ETag, got.ETag)

		p.mu.Lock()
		p.refresh = "rt-other" // and now the whole grant
		p.mu.Unlock()
		_, err = admin.UpdateCredential(ctx, cred.ID, client.CredentialPatch{OAuth: &client.OAuth{ExpiresAt: &ended}})
		require.NoError(t, err)
		status, body := send()
		require.Equal(t, 403, status, body)
		require.Contains(t, body, "can be used")
		got, err = admin.GetCredential(ctx, cred.ID)
		require.NoError(t, err)
		require.Equal(t, "needs_login", got.Health)
		status, _ = send()
		require.Equal(t, 403, status)
		calls, _ = p.seen()
		require.Equal(t, 3, calls)
	})
}
