package signalboxtest_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

// mcpServer is an MCP server of the official Go SDK that takes access tokens of an OAuth server which we did not write either.
type mcpServer struct {
	*httptest.Server
	t      *testing.T
	oauth  *signalboxtest.OAuthServer
	server *mcp.Server

	mu      sync.Mutex
	seen    []http.Header
	refuse  map[string]bool // access tokens that it takes no more
	instead http.Handler    // answers in its place, once it has let somebody in
}

func startMCP(t *testing.T) *mcpServer {
	t.Helper()
	s := &mcpServer{t: t, oauth: signalboxtest.StartFosite(t, signalboxtest.OAuthOptions{}), refuse: map[string]bool{}}
	s.server = mcp.NewServer(&mcp.Implementation{Name: "files", Version: "1"}, nil)
	type said struct {
		Text string `json:"text"`
	}
	mcp.AddTool(s.server, &mcp.Tool{Name: "echo", Description: "says what it was told, and by whom"}, func(_ context.Context, r *mcp.CallToolRequest, in said) (*mcp.CallToolResult, any, error) {
		token := strings.TrimPrefix(r.Extra.Header.Get("Authorization"), "Bearer ")
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text + " " + token + " " + base64.StdEncoding.EncodeToString([]byte(token))}}}, nil, nil
	})
	inner := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.server }, nil)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		s.mu.Lock()
		s.seen = append(s.seen, r.Header.Clone())
		refused, instead := s.refuse[token], s.instead
		s.mu.Unlock()
		if refused || !s.active(token) {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			http.Error(w, "planted-refusal", http.StatusUnauthorized)
			return
		}
		if instead != nil {
			instead.ServeHTTP(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

// active asks the OAuth server about a token (RFC 7662).
func (s *mcpServer) active(token string) bool {
	req, err := http.NewRequest(http.MethodPost, s.oauth.IntrospectURL, strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(signalboxtest.ClientConfidential, s.oauth.Secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	var told struct{ Active bool }
	return json.NewDecoder(resp.Body).Decode(&told) == nil && told.Active
}

func (s *mcpServer) answer(h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instead = h
}

// lent are the access tokens that came, each once, in their order.
func (s *mcpServer) lent() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.seen {
		token := strings.TrimPrefix(h.Get("Authorization"), "Bearer ")
		if len(out) == 0 || out[len(out)-1] != token {
			out = append(out, token)
		}
	}
	return out
}

// gateway is a box with the server registered, and a person who is connected to it.
type gateway struct {
	*mcpServer
	box   *signalboxtest.Box
	id    string
	token string // of the person, for connections alone
	named string // the id of that token
}

func newGateway(t *testing.T, box *signalboxtest.Box) *gateway {
	t.Helper()
	g := &gateway{mcpServer: startMCP(t), box: box}
	made, err := box.Admin().CreateMCPServer(t.Context(), client.MCPServerDraft{Slug: "files", URL: g.URL + "/mcp"})
	require.NoError(t, err)
	g.id = made.ID
	g.token, g.named = g.person()
	g.deposit(g.token)
	return g
}

func (g *gateway) person() (token, id string) {
	g.t.Helper()
	issued, err := g.box.Admin().IssueToken(g.t.Context(), client.TokenDraft{Name: "agent", Scopes: []string{"mcp_connections:write"}})
	require.NoError(g.t, err)
	g.box.Planted.Add("token", issued.Secret)
	return issued.Secret, issued.ID
}

func (g *gateway) deposit(token string) {
	g.t.Helper()
	grant := g.oauth.Grant(g.t, signalboxtest.ClientConfidential)
	g.box.Planted.Add("refresh token", grant.Refresh)
	text, err := json.Marshal(map[string]string{"mcpServerId": "files", "refreshToken": grant.Refresh, "tokenEndpoint": g.oauth.TokenURL, "clientId": signalboxtest.ClientConfidential, "clientSecret": g.oauth.Secret})
	require.NoError(g.t, err)
	req, err := http.NewRequest(http.MethodPost, g.box.URL+"/mcp-oauth-credentials", strings.NewReader(string(text)))
	require.NoError(g.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(g.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(g.t, err)
	require.Equal(g.t, http.StatusOK, resp.StatusCode, "%s", body)
}

// withToken sends a bearer token with each request, as a client's settings do.
type withToken string

// RoundTrip implements http.RoundTripper.
func (token withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(token))
	return http.DefaultTransport.RoundTrip(r)
}

// ask sends one message as it stands. The id of a session may be "".
func (g *gateway) ask(method, path, token, session, body string, headers ...string) (int, string, http.Header) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.box.URL+path, strings.NewReader(body))
	require.NoError(g.t, err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1])
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(g.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(g.t, err)
	for _, token := range g.lent() {
		if token != "" {
			require.NotContains(g.t, string(text), token)
		}
	}
	return resp.StatusCode, string(text), resp.Header
}

// refusal is the code of an error of ours.
func refusal(t *testing.T, text string) string {
	t.Helper()
	var e struct {
		JSONRPC string `json:"jsonrpc"`
		Error   struct {
			Code    int
			Message string
			Data    struct {
				Code      string
				RequestID string `json:"request_id"`
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(text), &e), text)
	require.Equal(t, "2.0", e.JSONRPC)
	require.NotZero(t, e.Error.Code)
	require.NotEmpty(t, e.Error.Message)
	require.NotEmpty(t, e.Error.Data.RequestID)
	return e.Error.Data.Code
}

const begin = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`

// TestTheOfficialClientThroughTheGateway: the Go SDK's client, unmodified, speaks to the Go SDK's server with nothing but a token of Signalbox. What the server
// is told and what it says of it stays between it and Signalbox, and each call is on record.
func TestTheOfficialClientThroughTheGateway(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		g := newGateway(t, box)
		changed := make(chan struct{}, 10)
		c := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, &mcp.ClientOptions{ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} }})
		session, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: box.URL + "/mcp/files", HTTPClient: &http.Client{Transport: withToken(g.token)}}, nil)
		require.NoError(t, err)
		tools, err := session.ListTools(t.Context(), nil)
		require.NoError(t, err)
		require.Len(t, tools.Tools, 1)
		require.Equal(t, "echo", tools.Tools[0].Name)
		said, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "planted-argument"}})
		require.NoError(t, err)
		text := said.Content[0].(*mcp.TextContent).Text
		require.Contains(t, text, "planted-argument ")
		tokens := g.lent()
		require.Len(t, tokens, 1)
		require.NotContains(t, text, tokens[0])
		require.NotContains(t, text, base64.StdEncoding.EncodeToString([]byte(tokens[0])))

		// The server's own stream: what it tells comes at once.
		mcp.AddTool(g.server, &mcp.Tool{Name: "later"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{}, nil, nil
		})
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatal("nothing came on the server's stream")
		}

		// A token that the server takes no more is refreshed once, by force, and nobody notices.
		before := g.oauth.Counts(t).Refreshes
		g.mu.Lock()
		g.refuse[tokens[0]] = true
		g.mu.Unlock()
		_, err = session.CallTool(t.Context(), &mcp.CallToolParams{Name: "later"})
		require.NoError(t, err)
		require.Equal(t, before+1, g.oauth.Counts(t).Refreshes)
		require.NoError(t, session.Close())

		g.mu.Lock()
		for _, h := range g.seen {
			require.NotContains(t, h.Get("Authorization"), g.token, "the caller's token stays here")
			require.Equal(t, "signalbox", h.Get("User-Agent"))
		}
		g.mu.Unlock()
		intents, outcomes, renewed := map[string]store.Event{}, map[string]string{}, 0
		require.Eventually(t, func() bool {
			clear(outcomes)
			for _, e := range box.Leases(t) {
				lease, _ := e.Details.Get("lease")
				if e.Action == store.LeaseGranted {
					intents[lease.Text()] = e
					continue
				}
				result, _ := e.Details.Get("result")
				outcomes[lease.Text()] = result.Text()
			}
			return len(outcomes) == len(intents)
		}, 10*time.Second, 20*time.Millisecond)
		calls := map[string]int{}
		for id, e := range intents {
			require.Equal(t, store.OutcomePending, e.Outcome)
			require.Equal(t, "credential", e.Target.Kind)
			said := []string{}
			for _, name := range []string{"call", "tool"} {
				if d, ok := e.Details.Get(name); ok {
					said = append(said, d.Text())
				}
			}
			digest, sent := e.Details.Get("arguments_sha256_128")
			calls[strings.Join(said, " ")]++
			if strings.Join(said, " ") == "tools/call echo" {
				require.True(t, sent)
				require.Len(t, digest.Text(), 32)
			}
			if attempt, _ := e.Details.Get("attempt"); attempt.Text() == "2" {
				renewed++
			}
			require.NotEmpty(t, outcomes[id])
		}
		require.Equal(t, 1, renewed)
		require.Equal(t, 2, calls["tools/call later"], "with the token that was refused, and with the fresh one")
		require.Equal(t, 1, calls["tools/call echo"])
		require.Equal(t, 1, calls["server/discover"], "of the revision of 2026")
		require.Equal(t, 1, calls["initialize"])
		require.Equal(t, 1, calls["tools/list"])
	})
}

// TestTheTypeScriptClientThroughTheGateway: so does the official TypeScript SDK's client, with a session.
func TestTheTypeScriptClientThroughTheGateway(t *testing.T) {
	home, node := node22(t)
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		g := newGateway(t, box)
		cue := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			mcp.AddTool(g.server, &mcp.Tool{Name: "later"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
				return &mcp.CallToolResult{}, nil, nil
			})
		}))
		t.Cleanup(cue.Close)
		work := t.TempDir()
		require.NoError(t, os.Symlink(filepath.Join(home, "node_modules"), filepath.Join(work, "node_modules")))
		script, err := os.ReadFile("testdata/mcp.mjs")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(work, "mcp.mjs"), script, 0o600))
		settings, err := json.Marshal(map[string]string{"url": box.URL + "/mcp/files", "token": g.token, "cue": cue.URL})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(work, "settings.json"), settings, 0o600))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		run := exec.CommandContext(ctx, node, "mcp.mjs", "settings.json")
		run.Dir = work
		var complaint bytes.Buffer
		run.Stderr = &complaint
		out, err := run.Output()
		require.NoError(t, err, "%s", complaint.String())
		var told struct {
			Session, Said, After string
			Tools, Later         []string
		}
		require.NoError(t, json.Unmarshal(out, &told), "%s", out)
		require.NotEmpty(t, told.Session)
		require.Equal(t, []string{"echo"}, told.Tools)
		require.Equal(t, []string{"echo", "later"}, told.Later)
		require.Contains(t, told.Said, "planted-argument ")
		require.NotEqual(t, "went on", told.After, "the session has ended")
		for _, token := range g.lent() {
			require.NotContains(t, string(out), token)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, h := range g.seen {
			require.NotEqual(t, told.Session, h.Get("Mcp-Session-Id"))
			require.NotContains(t, h.Get("Authorization"), g.token)
		}
	})
}

// TestTheGatewayRefuses: who is nobody, may not, is not connected or speaks in two ways at once is told so before anything is lent.
func TestTheGatewayRefuses(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		g := newGateway(t, box)
		lists := `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`
		for _, token := range []string{"", "planted-nobody", box.Token + "x"} {
			status, text, h := g.ask("POST", "/mcp/files", token, "", lists)
			require.Equal(t, 401, status, text)
			require.Equal(t, "unauthenticated", refusal(t, text))
			challenge := h.Get("Www-Authenticate")
			require.True(t, strings.HasPrefix(challenge, `Bearer realm="Signalbox", resource_metadata="`), challenge)
			_, rest, _ := strings.Cut(challenge, `resource_metadata="`)
			where, _, _ := strings.Cut(rest, `"`)
			require.Equal(t, box.URL+"/.well-known/oauth-protected-resource/mcp/files", where)
			resp, err := http.Get(where)
			require.NoError(t, err)
			var told map[string]any
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&told))
			require.NoError(t, resp.Body.Close())
			require.Equal(t, box.URL+"/mcp/files", told["resource"])
			require.Equal(t, []any{"header"}, told["bearer_methods_supported"])
		}
		other, err := box.Admin().IssueToken(t.Context(), client.TokenDraft{Name: "other", Scopes: []string{"trains:read"}})
		require.NoError(t, err)
		lane := box.Lane(t, g.URL)
		for token, want := range map[string]int{other.Secret: 403, lane.Key: 401} {
			status, text, _ := g.ask("POST", "/mcp/files", token, "", lists)
			require.Equal(t, want, status, text)
		}
		for path, want := range map[string]int{"/mcp/nothing": 404, "/mcp/": 400, "/mcp": 400, "/mcp/files/": 400, "/mcp/files/x": 400, "/mcp/files?x=1": 400, "/mcp/%00": 400, "/mcp//files": 400, "/mcp/./files": 400} {
			status, text, _ := g.ask("POST", path, g.token, "", lists)
			require.Equal(t, want, status, "%s: %s", path, text)
		}
		for _, method := range []string{"PUT", "PATCH", "OPTIONS", "TRACE"} {
			status, _, h := g.ask(method, "/mcp/files", g.token, "", "")
			require.Equal(t, 405, status, method)
			require.Equal(t, "GET, POST, DELETE", h.Get("Allow"))
		}
		for name, headers := range map[string][]string{
			"another origin": {"Origin", "https://evil.example"}, "two origins": {"Origin", box.URL, "Origin", box.URL}, "no origin": {"Origin", "null"}, "a name that leads here": {"Origin", "http://rebound.example", "Host", "rebound.example"}, "a page": {"Sec-Fetch-Dest", "document"},
		} {
			status, text, _ := g.ask("POST", "/mcp/files", g.token, "", lists, headers...)
			require.Equal(t, 403, status, name)
			require.Equal(t, "cross_origin", refusal(t, text), name)
		}
		for name, headers := range map[string][]string{"two bearers": {"Authorization", "Bearer " + g.token, "Authorization", "Bearer " + g.token}, "basic": {"Authorization", "Basic eDp5"}, "no value": {"Authorization", "Bearer "}} {
			status, _, _ := g.ask("POST", "/mcp/files", "", "", lists, headers...)
			require.Equal(t, 401, status, name)
		}
		for name, headers := range map[string][]string{"another method": {"Mcp-Method", "tools/call"}, "a name of nothing": {"Mcp-Name", "echo"}, "no revision": {"Mcp-Protocol-Version", "a;b"}} {
			status, _, _ := g.ask("POST", "/mcp/files", g.token, "", lists, headers...)
			require.Equal(t, 400, status, name)
		}
		for body, want := range map[string]int{"": 400, "[" + lists + "]": 400, `{"jsonrpc":"2.0","id":2,"method":"tools/list","Method":"tools/call"}`: 400, strings.Repeat(" ", 9<<20) + lists: 413} {
			status, _, _ := g.ask("POST", "/mcp/files", g.token, "", body)
			require.Equal(t, want, status)
		}
		status, _, _ := g.ask("POST", "/mcp/files", g.token, "", lists, "Content-Encoding", "gzip")
		require.Equal(t, 415, status)
		status, text, _ := g.ask("GET", "/mcp/files", g.token, "planted-no-session", "")
		require.Equal(t, 404, status, text)

		require.NoError(t, box.Admin().DeleteMCPServer(t.Context(), g.id))
		status, _, _ = g.ask("POST", "/mcp/files", g.token, "", lists)
		require.Equal(t, 404, status)
		require.Empty(t, g.seen, "nothing reached the server")
		for _, e := range box.Leases(t) {
			if e.Action == store.LeaseOutcome {
				unsent, _ := e.Details.Get("unsent")
				require.Equal(t, "true", unsent.Text())
			}
		}
	})
}

// TestSessionsArePinned: what a server calls a session is not shown, and is worth something to nobody else.
func TestSessionsArePinned(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		g := newGateway(t, box)
		status, text, h := g.ask("POST", "/mcp/files", g.token, "", begin)
		require.Equal(t, 200, status, text)
		session := h.Get("Mcp-Session-Id")
		require.NotEmpty(t, session)
		lists := `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`
		status, text, h = g.ask("POST", "/mcp/files", g.token, session, lists)
		require.Equal(t, 200, status, text)
		if again := h.Get("Mcp-Session-Id"); again != "" {
			require.Equal(t, session, again, "a session keeps its name")
		}
		g.mu.Lock()
		theirs := g.seen[len(g.seen)-1].Get("Mcp-Session-Id")
		g.mu.Unlock()
		require.NotEmpty(t, theirs)
		require.NotEqual(t, session, theirs)

		// Another person, connected to the same server.
		made, err := box.Admin().CreateUser(t.Context(), client.UserDraft{Email: "bea@example.com", Name: "Bea", Role: "member"})
		require.NoError(t, err)
		bea, err := box.Admin().IssueToken(t.Context(), client.TokenDraft{UserID: made.User.ID, Name: "bea", Scopes: []string{"mcp_connections:write"}})
		require.NoError(t, err)
		status, text, _ = g.ask("POST", "/mcp/files", bea.Secret, session, lists)
		require.Equal(t, 409, status, text)
		require.Equal(t, "mcp_login_required", refusal(t, text))
		g.deposit(bea.Secret)
		for _, stolen := range []string{session, theirs, session[:len(session)-2], strings.ToUpper(session)} {
			status, text, _ = g.ask("POST", "/mcp/files", bea.Secret, stolen, lists)
			require.Equal(t, 404, status, text)
			require.Equal(t, "not_found", refusal(t, text))
		}
		// The same person for another server.
		_, err = box.Admin().CreateMCPServer(t.Context(), client.MCPServerDraft{Slug: "open", URL: g.URL + "/mcp", Auth: "none"})
		require.NoError(t, err)
		status, text, _ = g.ask("POST", "/mcp/open", g.token, session, lists)
		require.Equal(t, 404, status, text)
		// The end of it.
		status, text, _ = g.ask("DELETE", "/mcp/files", g.token, session, "")
		require.Contains(t, []int{200, 204}, status, text)
		status, _, _ = g.ask("POST", "/mcp/files", g.token, session, lists)
		require.Equal(t, 404, status)
	})
}

// TestAStreamEndsWithTheRight: a stream that is open ends when the token, the connection or the server is taken away.
func TestAStreamEndsWithTheRight(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		g := newGateway(t, box)
		g.answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			for _, part := range []string{"data: begun " + token[:7], token[7:] + "\n\n"} { // in two pieces
				_, _ = io.WriteString(w, part)
				_ = http.NewResponseController(w).Flush()
				time.Sleep(30 * time.Millisecond)
			}
			<-r.Context().Done()
		}))
		open := func(token string) (io.ReadCloser, *http.Response) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, box.URL+"/mcp/files", nil)
			require.NoError(t, err)
			req.Header.Set("Accept", "text/event-stream")
			req.Header.Set("Authorization", "Bearer "+token)
			resp, err := http.DefaultTransport.RoundTrip(req)
			require.NoError(t, err)
			require.Equal(t, 200, resp.StatusCode)
			first := make([]byte, 12)
			_, err = io.ReadFull(resp.Body, first)
			require.NoError(t, err)
			require.Equal(t, "data: begun ", string(first), "what the server says comes while it is open")
			return resp.Body, resp
		}
		for name, take := range map[string]func(token, id string){
			"the token is revoked":    func(_, id string) { require.NoError(t, box.Admin().RevokeToken(t.Context(), id)) },
			"the connection is ended": func(string, string) { g.end() },
			"the server is switched off": func(string, string) {
				off := false
				_, err := box.Admin().UpdateMCPServer(t.Context(), g.id, client.MCPServerPatch{Active: &off})
				require.NoError(t, err)
			},
		} {
			token, id := g.person()
			on := true
			_, err := box.Admin().UpdateMCPServer(t.Context(), g.id, client.MCPServerPatch{Active: &on})
			require.NoError(t, err)
			g.deposit(token)
			body, _ := open(token)
			started := time.Now()
			take(token, id)
			rest, err := io.ReadAll(body)
			require.Error(t, err, "%s: a stream that is cut must not look whole", name)
			require.Less(t, time.Since(started), 8*time.Second, name)
			for _, lent := range g.lent() {
				require.NotContains(t, string(rest), lent, name)
			}
			_ = body.Close()
		}
		require.Eventually(t, func() bool {
			n := 0
			for _, e := range box.Leases(t) {
				if e.Action == store.LeaseOutcome && e.Reason == "revoked" {
					n++
				}
			}
			return n == 3
		}, 10*time.Second, 20*time.Millisecond)
	})
}

// end ends the administrator's connection.
func (g *gateway) end() {
	g.t.Helper()
	page, err := g.box.Admin().ListMCPConnections(g.t.Context(), client.PageFilter{})
	require.NoError(g.t, err)
	for _, c := range page.Connections {
		require.NoError(g.t, g.box.Admin().DeleteMCPConnection(g.t.Context(), c.ID))
	}
}

// TestWhatAServerAnswersInItsPlace: redirects, challenges, pages and oddities of a server do not reach a client as such.
func TestWhatAServerAnswersInItsPlace(t *testing.T) {
	box := signalboxtest.Start(t, store.SQLite)
	g := newGateway(t, box)
	lists := `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`
	for name, c := range map[string]struct {
		h      http.HandlerFunc
		status int
		code   string
	}{
		"redirect": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://evil.example/")
			w.WriteHeader(307)
		}, 502, "upstream_answer"},
		"scopes": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="files:write", resource_metadata="https://evil.example/"`)
			w.WriteHeader(403)
		}, 403, "mcp_scope_missing"},
		"a page": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<h1>planted-page</h1>")
		}, 502, "upstream_answer"},
		"a page of error": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(503)
			_, _ = io.WriteString(w, "planted-page")
		}, 503, ""},
		"accepted": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) }, 202, ""},
		"an error of JSON": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"no"}}`)
		}, 400, ""},
		"odd coding": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, "x")
		}, 502, "upstream_answer"},
		"two sessions": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Mcp-Session-Id"] = []string{"a", "b"}
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{}")
		}, 502, "upstream_answer"},
	} {
		g.answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, h := range []string{"Set-Cookie", "Access-Control-Allow-Origin", "Clear-Site-Data", "X-Planted"} {
				w.Header().Set(h, "planted-header")
			}
			c.h(w, r)
		}))
		status, text, h := g.ask("POST", "/mcp/files", g.token, "", lists)
		require.Equal(t, c.status, status, "%s: %s", name, text)
		require.NotContains(t, text, "planted", name)
		for header, values := range h {
			require.NotContains(t, strings.Join(values, " "), "planted", header)
			require.NotContains(t, strings.Join(values, " "), "evil", header)
		}
		require.Empty(t, h.Get("Www-Authenticate"), name)
		if c.code != "" {
			require.Equal(t, c.code, refusal(t, text), name)
			require.NotContains(t, text, "evil")
		}
		if c.code == "mcp_scope_missing" {
			require.Contains(t, text, "files:write")
		}
	}
	// Of the request's headers those of the transport go on, and no others.
	g.answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) }))
	_, _, _ = g.ask("POST", "/mcp/files", g.token, "", lists, "Mcp-Param-Region", "eu", "Cookie", "a=planted", "X-Forwarded-For", "10.0.0.1", "X-Api-Key", "planted", "Mcp_Method", "tools/call", "Connection", "Mcp-Method", "Mcp-Method", "tools/list")
	g.mu.Lock()
	last := g.seen[len(g.seen)-1]
	g.mu.Unlock()
	require.Equal(t, "eu", last.Get("Mcp-Param-Region"))
	require.Equal(t, "tools/list", last.Get("Mcp-Method"))
	for _, name := range []string{"Cookie", "X-Forwarded-For", "X-Api-Key", "Mcp_Method", "Origin", "Referer"} {
		require.Empty(t, last[name], name)
	}
	// A server that takes no token of this person at all: one fresh one is tried, and no more.
	before := g.oauth.Counts(t).Refreshes
	g.answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }))
	status, text, h := g.ask("POST", "/mcp/files", g.token, "", lists)
	require.Equal(t, 409, status, text)
	require.Equal(t, "mcp_login_required", refusal(t, text))
	require.Empty(t, h.Get("Www-Authenticate"))
	require.Equal(t, before+1, g.oauth.Counts(t).Refreshes)
}

// TestListMCPTools goes through the contract of the list, and holds it to what a client sees through the gateway.
func TestListMCPTools(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		g := newGateway(t, box)
		list := func(token, server string) (int, string) {
			t.Helper()
			status, text, h := g.ask("GET", "/list-mcp-tools?mcpServerId="+url.QueryEscape(server), token, "", "")
			require.Equal(t, "application/json", h.Get("Content-Type"))
			require.NotEmpty(t, h.Get("X-Request-Id"))
			return status, text
		}
		status, text := list(g.token, "files")
		require.Equal(t, 200, status, text)
		var told struct {
			Tools []struct {
				Name        string
				InputSchema map[string]any `json:"inputSchema"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(text), &told))
		require.Len(t, told.Tools, 1)
		require.Equal(t, "echo", told.Tools[0].Name)
		require.Equal(t, "object", told.Tools[0].InputSchema["type"])
		require.Eventually(t, func() bool {
			open, calls := map[string]bool{}, 0
			for _, e := range box.Leases(t) {
				lease, _ := e.Details.Get("lease")
				open[lease.Text()] = e.Action == store.LeaseGranted
				if call, ok := e.Details.Get("call"); ok && call.Text() == "tools/list" {
					calls++
				}
			}
			for _, o := range open {
				if o {
					return false
				}
			}
			return calls == 1
		}, 10*time.Second, 20*time.Millisecond, "each request has its outcome")

		unauthorized := `{"error":"Unauthorized"}`
		other, err := box.Admin().IssueToken(t.Context(), client.TokenDraft{Name: "other", Scopes: []string{"trains:read"}})
		require.NoError(t, err)
		for _, token := range []string{"", "planted-nobody", other.Secret} {
			status, text = list(token, "files")
			require.Equal(t, 401, status)
			require.Equal(t, unauthorized, text)
		}
		for _, server := range []string{"nothing", "FILES"} {
			status, text = list(g.token, server)
			require.Equal(t, 404, status, text)
		}
		for _, target := range []string{"/list-mcp-tools", "/list-mcp-tools?mcpServerId=", "/list-mcp-tools?mcpServerId=files&mcpServerId=files", "/list-mcp-tools?mcpServerId=files&x=1"} {
			status, text, _ = g.ask("GET", target, g.token, "", "")
			require.Equal(t, 400, status, "%s: %s", target, text)
		}
		status, _, h := g.ask("POST", "/list-mcp-tools?mcpServerId=files", g.token, "", "{}")
		require.Equal(t, 405, status)
		require.Equal(t, "GET", h.Get("Allow"))

		// A person has to connect: never was, or the server takes nothing any more.
		reauth := `{"awaitingInputReason":"needs-oauth-reauth","mcpServerId":"files"}`
		g.answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }))
		status, text = list(g.token, "files")
		require.Equal(t, 409, status)
		require.Equal(t, reauth, text)
		g.end()
		status, text = list(g.token, "files")
		require.Equal(t, 409, status)
		require.Equal(t, reauth, text)

		// A server that does not answer, or not as one.
		g.deposit(g.token)
		for name, answer := range map[string]http.HandlerFunc{
			"an error": func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(500)
				_, _ = io.WriteString(w, "planted-text")
			},
			"a page": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<p>planted-text</p>") },
			"a redirect": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://127.0.0.1:1/planted-text")
				w.WriteHeader(302)
			},
			"too much": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"x":"`+strings.Repeat("planted-text", 1<<20)+`"}}`)
			},
		} {
			g.answer(answer)
			status, text = list(g.token, "files")
			require.Equal(t, 503, status, "%s: %s", name, text)
			require.NotContains(t, text, "planted", name)
		}
		g.Close()
		status, text = list(g.token, "files")
		require.Equal(t, 503, status, text)
	})
}

// TestImportedConnectionsAreUsable: a person of an outside issuer, whose connection an older keeper had, asks an MCP server through the gateway without having done anything.
func TestImportedConnectionsAreUsable(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		g := newGateway(t, box)
		const shared, key = "planted-portal-secret-of-more-than-32-bytes", "planted-executor-key"
		box.Planted.Add("shared secret", shared)
		box.Planted.Add("executor key", key)
		yes, secretText, claim, form, is, name := true, shared, "id", "number", "outsider", "Portal"
		_, err := box.Admin().CreateJWTIssuer(t.Context(), client.JWTIssuerPatch{Name: &name, AnyIssuer: &yes, AnyAudience: &yes, SharedSecret: &secretText, Algorithms: []string{"HS256"},
			SubjectClaim: &claim, SubjectForm: &form, SubjectIs: &is, Scopes: &[]string{"mcp_connections:write"}})
		require.NoError(t, err)
		token, err := gojwt.NewWithClaims(gojwt.SigningMethodHS256, gojwt.MapClaims{"id": 7, "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(shared))
		require.NoError(t, err)
		lists := `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`
		status, text, _ := g.ask("POST", "/mcp/files", token, "", lists)
		require.Equal(t, 409, status, text)

		grant := g.oauth.Grant(t, signalboxtest.ClientConfidential)
		box.Planted.Add("imported refresh token", grant.Refresh)
		plain, err := json.Marshal(map[string]string{"refreshToken": grant.Refresh, "tokenEndpoint": g.oauth.TokenURL, "clientId": signalboxtest.ClientConfidential, "clientSecret": g.oauth.Secret})
		require.NoError(t, err)
		derived, err := hkdf.Key(sha256.New, []byte(key), nil, "forest-executor:mcp-oauth-credentials", 32)
		require.NoError(t, err)
		block, err := aes.NewCipher(derived)
		require.NoError(t, err)
		gcm, err := cipher.NewGCM(block)
		require.NoError(t, err)
		iv := []byte("twelve bytes")
		sealed := gcm.Seal(nil, iv, plain, nil)
		blob := append(append(iv, sealed[len(sealed)-16:]...), sealed[:len(sealed)-16]...)
		report, err := box.Admin().Import(t.Context(), client.ImportDraft{Passphrase: key, Files: []client.ImportFile{{Name: "rows.json", Content: []byte(`[{"user_id":7,"mcp_server_id":"files","encrypted_credentials":"` + base64.StdEncoding.EncodeToString(blob) + `"}]`)}}})
		require.NoError(t, err)
		require.True(t, report.Applied)
		require.Equal(t, 1, report.Created)

		status, text, h := g.ask("POST", "/mcp/files", token, "", begin)
		require.Equal(t, 200, status, text)
		status, text, _ = g.ask("POST", "/mcp/files", token, h.Get("Mcp-Session-Id"), lists)
		require.Equal(t, 200, status, text)
		require.Contains(t, text, `"echo"`)
		// The administrator who imported it has no part in it: theirs is another one, and stays so.
		page, err := box.Admin().ListMCPConnections(t.Context(), client.PageFilter{})
		require.NoError(t, err)
		require.Len(t, page.Connections, 2)
	})
}
