package signalboxtest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	_ "embed" // the script
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The clients that every [OAuthServer] knows.
const (
	// ClientConfidential authenticates with client_secret_basic.
	ClientConfidential = "confidential"
	// ClientPosting authenticates with client_secret_post.
	ClientPosting = "posting"
	// ClientPublic has no secret, and may return to any port of 127.0.0.1.
	ClientPublic = "public"
	// ClientMachine has a secret and nothing but client credentials.
	ClientMachine = "machine"
)

// OAuthRedirect is where logins of [OAuthServer.Grant] return to. Nobody listens there.
const OAuthRedirect = "http://127.0.0.1:9/callback"

// OAuthOptions shape an [OAuthServer].
type OAuthOptions struct {
	// Lifetime of access tokens, in whole seconds; an hour when it is 0.
	Lifetime time.Duration
	// Grace is for how long a refresh token still works after its use, in whole seconds; fosite alone knows it.
	Grace time.Duration
	// Redirects are where its clients may return to, beside [OAuthRedirect].
	Redirects []string
}

// OAuthServer is an OAuth server that we did not write, in a process of its own until the test ends. It rotates refresh tokens and revokes the
// whole grant when one is used twice. Clients reach it through the Gate.
type OAuthServer struct {
	Issuer, AuthorizeURL, TokenURL, DeviceURL, RevokeURL, IntrospectURL string

	// Secret is the secret of the clients that have one.
	Secret string
	Gate   *Gate

	backend string
}

// OAuthGrant is what a login gave.
type OAuthGrant struct {
	ClientID, Access, Refresh string
	Expires                   time.Time
}

// OAuthCounts is what a server says of itself.
type OAuthCounts struct {
	// Calls of the token endpoint, and the refreshes among them that gave tokens.
	Calls, Refreshes int
	Grants           map[string]OAuthGrantCounts
}

// OAuthGrantCounts is what a server says of one grant.
type OAuthGrantCounts struct {
	Calls, Refreshes int
	// Reuses are refreshes with a token that had been used, and Refused all that gave nothing.
	Reuses, Refused int
	Revoked         bool
}

// Lost counts the revoked grants, and the reuses of all.
func (c OAuthCounts) Lost() (revoked, reuses int) {
	for _, g := range c.Grants {
		reuses += g.Reuses
		if g.Revoked {
			revoked++
		}
	}
	return revoked, reuses
}

//go:embed testdata/oauth-server.mjs
var oidcProvider []byte

// StartOIDCProvider runs the npm package oidc-provider.
func StartOIDCProvider(t testing.TB, o OAuthOptions) *OAuthServer {
	t.Helper()
	install := exec.Command("../../scripts/npm.sh")
	var complaint bytes.Buffer
	install.Stderr = &complaint
	home, err := install.Output()
	require.NoError(t, err, "oidc-provider is not there: %s", complaint.String())
	work := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(strings.TrimSpace(string(home)), "node_modules"), filepath.Join(work, "node_modules")))
	require.NoError(t, os.WriteFile(filepath.Join(work, "oauth-server.mjs"), oidcProvider, 0o600))
	cmd := exec.Command("node", "oauth-server.mjs")
	cmd.Dir = work
	return startOAuth(t, cmd, o)
}

// StartFosite runs a small server on the library ory/fosite. It has neither device codes nor resource indicators.
func StartFosite(t testing.TB, o OAuthOptions) *OAuthServer {
	t.Helper()
	return startOAuth(t, exec.Command(fositeBinary(t)), o)
}

// fositeBinary builds tools/fosite, once a test binary. It is a module of its own, so that what it needs is nothing that Signalbox needs.
func fositeBinary(t testing.TB) string {
	t.Helper()
	return fosite.program(t, "../../tools/fosite", ".")
}

func startOAuth(t testing.TB, cmd *exec.Cmd, o OAuthOptions) *OAuthServer {
	t.Helper()
	if o.Lifetime == 0 {
		o.Lifetime = time.Hour
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &OAuthServer{Issuer: "http://" + l.Addr().String(), Secret: "planted-oauth-client-secret-" + rand.Text()}
	settings, err := json.Marshal(map[string]any{
		"issuer": s.Issuer, "lifetime": int(o.Lifetime / time.Second), "grace": int(o.Grace / time.Second), "secret": s.Secret, "redirects": append([]string{OAuthRedirect}, o.Redirects...),
	})
	require.NoError(t, err)
	cmd.Env = append(os.Environ(), "OAUTH_SERVER="+string(settings))
	var said Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close() // at which it ends
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the OAuth server said: %s", said.Bytes())
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() && s.backend == "" {
		if address, ok := strings.CutPrefix(lines.Text(), "READY "); ok {
			s.backend = address
			break
		}
	}
	require.NotEmpty(t, s.backend, "the OAuth server did not start: %s", said.Bytes())
	go func() { _, _ = io.Copy(io.Discard, out) }() // or it would wait for a reader
	backend, err := url.Parse(s.backend)
	require.NoError(t, err)
	s.Gate = newGate(backend)
	server := &http.Server{Handler: s.Gate}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	s.discover(t)
	return s
}

// discover asks the server where its endpoints are.
func (s *OAuthServer) discover(t testing.TB) {
	t.Helper()
	var told struct {
		Issuer     string `json:"issuer"`
		Authorize  string `json:"authorization_endpoint"`
		Token      string `json:"token_endpoint"`
		Device     string `json:"device_authorization_endpoint"`
		Revoke     string `json:"revocation_endpoint"`
		Introspect string `json:"introspection_endpoint"`
	}
	resp, err := http.Get(s.Issuer + "/.well-known/openid-configuration")
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&told))
	require.Equal(t, s.Issuer, told.Issuer)
	s.AuthorizeURL, s.TokenURL, s.DeviceURL, s.RevokeURL, s.IntrospectURL = told.Authorize, told.Token, told.Device, told.Revoke, told.Introspect
	token, err := url.Parse(s.TokenURL)
	require.NoError(t, err)
	s.Gate.mu.Lock()
	defer s.Gate.mu.Unlock()
	s.Gate.tokenPath = token.Path
}

// Counts asks the server, past the gate, what it did.
func (s *OAuthServer) Counts(t testing.TB) (c OAuthCounts) {
	t.Helper()
	resp, err := http.Get(s.backend + "/.counts")
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&c))
	return c
}

// Grant logs in with a code and PKCE, as a client that is neither Signalbox nor ours would.
func (s *OAuthServer) Grant(t testing.TB, clientID string) OAuthGrant {
	t.Helper()
	verifier, state := rand.Text()+rand.Text(), rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	back, err := url.Parse(s.Authorize(t, s.AuthorizeURL+"?"+url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {OAuthRedirect}, "state": {state}, "scope": {"openid files:read"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode(), OAuthRedirect))
	require.NoError(t, err)
	require.Equal(t, state, back.Query().Get("state"), "%s", back)
	status, answer := s.Token(t, clientID, url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {OAuthRedirect}, "code_verifier": {verifier},
	})
	require.Equal(t, http.StatusOK, status, "%v", answer)
	g := OAuthGrant{ClientID: clientID}
	g.Access, _ = answer["access_token"].(string)
	g.Refresh, _ = answer["refresh_token"].(string)
	life, _ := answer["expires_in"].(float64)
	g.Expires = time.Now().Add(time.Duration(life) * time.Second)
	require.NotEmpty(t, g.Access)
	require.NotEmpty(t, g.Refresh, "%v", answer)
	return g
}

// Token posts to the token endpoint as a naive client would.
func (s *OAuthServer) Token(t testing.TB, clientID string, form url.Values) (status int, answer map[string]any) {
	t.Helper()
	if clientID != ClientConfidential && clientID != ClientMachine {
		form.Set("client_id", clientID)
	}
	if clientID == ClientPosting {
		form.Set("client_secret", s.Secret)
	}
	req, err := http.NewRequest(http.MethodPost, s.TokenURL, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if clientID == ClientConfidential || clientID == ClientMachine {
		req.SetBasicAuth(clientID, s.Secret)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	return resp.StatusCode, answer
}

// Refresh presents a refresh token as a naive client would.
func (s *OAuthServer) Refresh(t testing.TB, clientID, token string) (status int, answer map[string]any) {
	t.Helper()
	return s.Token(t, clientID, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}
