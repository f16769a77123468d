package signalboxtest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/signalboxtest"
)

// oauthServers are the OAuth servers that we did not write.
func oauthServers() map[string]func(testing.TB, signalboxtest.OAuthOptions) *signalboxtest.OAuthServer {
	return map[string]func(testing.TB, signalboxtest.OAuthOptions) *signalboxtest.OAuthServer{
		"oidc-provider": signalboxtest.StartOIDCProvider, "fosite": signalboxtest.StartFosite,
	}
}

// TestNaiveCallersLoseTheirGrant is the control of every test that says "refreshed exactly once": without coordination, eight callers that
// refresh one token lose the whole grant at each server, every time.
func TestNaiveCallersLoseTheirGrant(t *testing.T) {
	for name, start := range oauthServers() {
		t.Run(name, func(t *testing.T) {
			s := start(t, signalboxtest.OAuthOptions{Lifetime: 5 * time.Second})
			for i, id := range []string{signalboxtest.ClientConfidential, signalboxtest.ClientPosting, signalboxtest.ClientPublic} {
				g := s.Grant(t, id)
				require.WithinDuration(t, time.Now().Add(5*time.Second), g.Expires, 2*time.Second)

				// One after the other is what they are made for.
				status, answer := s.Refresh(t, id, g.Refresh)
				require.Equal(t, http.StatusOK, status, "%v", answer)
				next, _ := answer["refresh_token"].(string)
				require.NotEmpty(t, next)
				require.NotEqual(t, g.Refresh, next)
				revoked, reuses := s.Counts(t).Lost()
				require.Equal(t, i, revoked)

				var wg sync.WaitGroup
				var mu sync.Mutex
				last := ""
				for range 8 {
					wg.Go(func() {
						if status, answer := s.Refresh(t, id, next); status == http.StatusOK {
							mu.Lock()
							defer mu.Unlock()
							last, _ = answer["refresh_token"].(string)
						}
					})
				}
				wg.Wait()
				now, again := s.Counts(t).Lost()
				require.Equal(t, i+1, now, "%+v", s.Counts(t))
				require.Greater(t, again, reuses)
				if last != "" {
					status, answer = s.Refresh(t, id, last)
					require.Equal(t, http.StatusBadRequest, status, "what the first of them got is gone as well")
					require.Equal(t, "invalid_grant", answer["error"])
				}
			}
			calls, most := s.Gate.Sent()
			require.GreaterOrEqual(t, calls, 3*9)
			require.Equal(t, 8, most)
		})
	}
}

// TestOAuthServersOfferTheirFlows: what the tests of logins rely on.
func TestOAuthServersOfferTheirFlows(t *testing.T) {
	for name, start := range oauthServers() {
		t.Run(name, func(t *testing.T) {
			s := start(t, signalboxtest.OAuthOptions{})
			status, answer := s.Token(t, signalboxtest.ClientMachine, url.Values{"grant_type": {"client_credentials"}, "scope": {"files:read"}})
			require.Equal(t, http.StatusOK, status, "%v", answer)
			require.NotEmpty(t, answer["access_token"])
			require.Empty(t, answer["refresh_token"])

			g := s.Grant(t, signalboxtest.ClientPosting)
			resp, err := http.PostForm(s.RevokeURL, url.Values{"token": {g.Refresh}, "client_id": {signalboxtest.ClientPosting}, "client_secret": {s.Secret}})
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusOK, resp.StatusCode)
			status, answer = s.Refresh(t, signalboxtest.ClientPosting, g.Refresh)
			require.Equal(t, http.StatusBadRequest, status)
			require.Equal(t, "invalid_grant", answer["error"])

			if s.DeviceURL == "" {
				require.Equal(t, "fosite", name)
				return
			}
			resp, err = http.PostForm(s.DeviceURL, url.Values{"client_id": {signalboxtest.ClientPublic}, "scope": {"files:read"}, "resource": {"https://files.example.com/"}})
			require.NoError(t, err)
			var device struct {
				Code string `json:"device_code"`
				URL  string `json:"verification_uri_complete"`
			}
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&device))
			require.NoError(t, resp.Body.Close())
			poll := func() (int, map[string]any) {
				return s.Token(t, signalboxtest.ClientPublic, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {device.Code}})
			}
			_, answer = poll()
			require.Equal(t, "authorization_pending", answer["error"])
			require.Contains(t, s.ApproveDevice(t, device.URL), "Success")
			status, answer = poll()
			require.Equal(t, http.StatusOK, status, "%v", answer)
			require.NotEmpty(t, answer["refresh_token"])
			require.Equal(t, "files:read", answer["scope"])
		})
	}
}

// TestTheGateDoesWhatItIsTold: tests of lost answers believe it.
func TestTheGateDoesWhatItIsTold(t *testing.T) {
	s := signalboxtest.StartFosite(t, signalboxtest.OAuthOptions{})
	g := s.Grant(t, signalboxtest.ClientPosting)
	form := func(token string) url.Values {
		return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {g.ClientID}, "client_secret": {s.Secret}}
	}
	s.Gate.Script(func(c signalboxtest.TokenCall) signalboxtest.TokenFault {
		if c.N == 1 {
			return signalboxtest.TokenFault{Status: http.StatusServiceUnavailable}
		}
		return signalboxtest.TokenFault{Lose: true}
	})
	resp, err := http.PostForm(s.TokenURL, form(g.Refresh))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Zero(t, s.Counts(t).Refreshes, "the server has not heard of it")
	var told []string
	s.Gate.OnIssue(func(access string, expires time.Time) {
		require.WithinDuration(t, time.Now().Add(time.Hour), expires, time.Minute)
		told = append(told, access)
	})
	_, err = http.PostForm(s.TokenURL, form(g.Refresh))
	require.Error(t, err)
	require.Len(t, told, 1)
	require.Equal(t, 1, s.Counts(t).Refreshes, "the server has answered")
	s.Gate.Script(nil)
	status, _ := s.Refresh(t, g.ClientID, g.Refresh)
	require.Equal(t, http.StatusBadRequest, status, "so that the token is spent")
}
