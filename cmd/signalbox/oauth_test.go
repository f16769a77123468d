package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// consentServer is an OAuth server whose people say yes: at the consent page it sends the browser on with a code, and a device login is agreed to at
// its second question.
func consentServer(t *testing.T) *httptest.Server {
	t.Helper()
	var mu sync.Mutex
	polls := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		say := func(status int, v any) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(v)
		}
		_ = r.ParseForm()
		switch {
		case r.URL.Path == "/authorize":
			q := url.Values{"code": {"planted-code"}, "state": {r.Form.Get("state")}}
			if r.Form.Get("scope") == "no" {
				q = url.Values{"error": {"access_denied"}, "state": {r.Form.Get("state")}}
			}
			http.Redirect(w, r, r.Form.Get("redirect_uri")+"?"+q.Encode(), http.StatusFound)
		case r.URL.Path == "/device":
			say(200, map[string]any{"device_code": "planted-device-" + r.Form.Get("scope"), "user_code": "WDJB-MJHT", "verification_uri": "https://id.example.com/go", "expires_in": 60, "interval": 1})
		case r.Form.Get("client_secret") == "planted-wrong":
			say(401, map[string]any{"error": "invalid_client"})
		case r.Form.Get("grant_type") == "urn:ietf:params:oauth:grant-type:device_code" && polls[r.Form.Get("device_code")] == 0:
			polls[r.Form.Get("device_code")]++
			say(400, map[string]any{"error": "authorization_pending"})
		default:
			say(200, map[string]any{"access_token": "planted-access-0123456789", "refresh_token": "planted-refresh-0123456789", "token_type": "Bearer", "expires_in": 3600})
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// TestLoginByLoopback: the command line waits on a port of this machine, takes the answer of its own login alone, and stores what it led to.
func TestLoginByLoopback(t *testing.T) {
	server := consentServer(t)
	_, told := dev(t, "--allow-private-upstreams", strings.TrimPrefix(server.URL, "http://"))
	env := []string{"SIGNALBOX_URL=" + told.BaseURL, "SIGNALBOX_DATA_DIR=" + told.DataDir}
	run := func(args ...string) *process {
		p := start(t, env, args...)
		require.Zero(t, p.wait(20*time.Second), p.err.String())
		return p
	}
	run("oauth", "provider", "add", "work", "--authorize-url", server.URL+"/authorize", "--token-url", server.URL+"/token", "--client-id", "c")
	get := func(address string) (int, string) {
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(address)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(b)
	}
	login := func(args ...string) (*process, string) {
		p := start(t, env, append([]string{"oauth", "login"}, args...)...)
		var address string
		require.Eventually(t, func() bool {
			address = regexp.MustCompile(`http://\S+/authorize\?\S+`).FindString(p.err.String())
			return address != "" && strings.Contains(p.err.String(), "Waiting for the browser")
		}, 20*time.Second, 20*time.Millisecond, p.err.String())
		return p, address
	}

	p, address := login("mine", "--provider", "work")
	back, err := url.Parse(address)
	require.NoError(t, err)
	there := back.Query().Get("redirect_uri")
	require.Regexp(t, `^http://127\.0\.0\.1:\d+/callback$`, there)
	for _, foreign := range []string{"?code=x&state=another", "", "?state=" + back.Query().Get("state") + "&state=x&code=y"} {
		status, _ := get(there + foreign)
		require.Equal(t, 400, status, foreign)
	}
	status, text := get(address)
	require.Equal(t, 200, status, text)
	require.Contains(t, text, "Logged in")
	require.Zero(t, p.wait(20*time.Second), p.err.String())
	require.Contains(t, p.out.String(), "Stored mine (cred_")
	require.NotContains(t, p.out.String()+p.err.String(), "planted")

	p, address = login("mine")
	_, _ = get(address)
	require.Zero(t, p.wait(20*time.Second), p.err.String())
	require.Regexp(t, `Logged in again: mine \(cred_[0-9a-z]+\), version 2`, p.out.String())

	p, address = login("other", "--provider", "work", "--oauth-scope", "no")
	status, text = get(address)
	require.Equal(t, 400, status)
	require.Contains(t, text, "the terminal says why")
	require.Equal(t, 2, p.wait(20*time.Second), p.err.String())
	require.Contains(t, p.err.String(), "said no")
	require.Contains(t, run("oauth", "status").out.String(), "healthy")
}
