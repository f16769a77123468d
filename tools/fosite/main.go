// Command fosite is a small OAuth server on the library ory/fosite, for the tests of Signalbox. It is a module of its own, so that what fosite
// needs is nothing that Signalbox needs.
//
// Promise: what it says about codes, PKCE, clients, refresh tokens and their reuse is fosite's word. Calls of the token endpoint are served one
// after the other, as by a store with transactions, so that of two refreshes with one token the second is always a reuse.
//
// Limits: one person, who agrees to everything; a grace for refresh tokens is the store's affair with fosite, and is this program's own; fosite's store in memory; no device codes and no resource indicators, which fosite 0.49 lacks.
//
// Invariants: it listens on loopback, and ends with its standard input.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/storage"
	"golang.org/x/crypto/bcrypt"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// settings is what the test says.
type settings struct {
	Issuer    string   `json:"issuer"`
	Lifetime  int      `json:"lifetime"` // of access tokens, in seconds
	Grace     int      `json:"grace"`    // for how long a refresh token still works after its use, in seconds
	Secret    string   `json:"secret"`
	Redirects []string `json:"redirects"`
}

func run() error {
	var s settings
	if err := json.Unmarshal([]byte(os.Getenv("OAUTH_SERVER")), &s); err != nil {
		return fmt.Errorf("OAUTH_SERVER: %w", err)
	}
	o, err := newServer(s)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("READY http://%s\n", l.Addr())
	failed := make(chan error, 1)
	go func() { failed <- http.Serve(l, o.routes()) }()
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	select {
	case err := <-failed:
		return err
	case <-ended:
		return nil
	}
}

// server is fosite with a person and a count.
type server struct {
	settings
	provider fosite.OAuth2Provider
	store    *countingStore
	turn     sync.Mutex
}

func newServer(s settings) (*server, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(s.Secret), bcrypt.MinCost)
	if err != nil {
		return nil, err
	}
	store := &countingStore{MemoryStore: storage.NewMemoryStore(), grace: time.Duration(s.Grace) * time.Second, rotated: map[string]time.Time{}, grants: map[string]*tally{}}
	scopes := []string{"openid", "offline_access", "files:read", "files:write"}
	for _, id := range []string{"confidential", "posting", "public"} {
		store.Clients[id] = &fosite.DefaultClient{
			ID: id, Secret: hash, Public: id == "public", RedirectURIs: s.Redirects, ResponseTypes: []string{"code"}, GrantTypes: []string{"authorization_code", "refresh_token"}, Scopes: scopes,
		}
	}
	store.Clients["machine"] = &fosite.DefaultClient{ID: "machine", Secret: hash, GrantTypes: []string{"client_credentials"}, Scopes: scopes}
	config := &fosite.Config{
		AccessTokenLifespan: time.Duration(s.Lifetime) * time.Second, RefreshTokenLifespan: 24 * time.Hour, RefreshTokenScopes: []string{}, EnforcePKCE: true,
		GlobalSecret: []byte("thirty-two bytes of nobody's own"), TokenURL: s.Issuer + "/token",
	}
	provider := compose.Compose(config, store, &compose.CommonStrategy{CoreStrategy: compose.NewOAuth2HMACStrategy(config)},
		compose.OAuth2AuthorizeExplicitFactory, compose.OAuth2PKCEFactory, compose.OAuth2ClientCredentialsGrantFactory, compose.OAuth2RefreshTokenGrantFactory,
		compose.OAuth2TokenRevocationFactory, compose.OAuth2TokenIntrospectionFactory)
	return &server{settings: s, provider: provider, store: store}, nil
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/authorize", s.authorize)
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("POST /revoke", func(w http.ResponseWriter, r *http.Request) {
		s.turn.Lock()
		defer s.turn.Unlock()
		s.provider.WriteRevocationResponse(r.Context(), w, s.provider.NewRevocationRequest(r.Context(), r))
	})
	mux.HandleFunc("POST /introspect", s.introspect)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", s.metadata)
	mux.HandleFunc("GET /.well-known/openid-configuration", s.metadata)
	mux.HandleFunc("GET /.counts", func(w http.ResponseWriter, _ *http.Request) { write(w, s.store.counts()) })
	return mux
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (s *server) metadata(w http.ResponseWriter, _ *http.Request) {
	write(w, map[string]any{
		"issuer": s.Issuer, "authorization_endpoint": s.Issuer + "/authorize", "token_endpoint": s.Issuer + "/token",
		"revocation_endpoint": s.Issuer + "/revoke", "introspection_endpoint": s.Issuer + "/introspect",
		"response_types_supported": []string{"code"}, "grant_types_supported": []string{"authorization_code", "refresh_token", "client_credentials"},
		"code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post", "none"},
		"scopes_supported": []string{"files:read", "files:write"},
	})
}

var page = template.Must(template.New("login").Parse(`<!doctype html><title>Log in</title><p>{{.Client}} asks for {{range .Scopes}}{{.}} {{end}}</p>
<form method="post" action="{{.Action}}"><input type="text" name="login" value=""><button>Log in and agree</button></form>`))

// authorize asks for the login once, and agrees to what was asked for.
func (s *server) authorize(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	ar, err := s.provider.NewAuthorizeRequest(ctx, r)
	if err != nil {
		s.provider.WriteAuthorizeError(ctx, w, ar, err)
		return
	}
	login := r.PostForm.Get("login")
	if r.Method != http.MethodPost || login == "" {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, map[string]any{"Client": ar.GetClient().GetID(), "Scopes": ar.GetRequestedScopes(), "Action": r.URL.RequestURI()})
		return
	}
	for _, scope := range ar.GetRequestedScopes() {
		ar.GrantScope(scope)
	}
	resp, err := s.provider.NewAuthorizeResponse(ctx, ar, &fosite.DefaultSession{Subject: login})
	if err != nil {
		s.provider.WriteAuthorizeError(ctx, w, ar, err)
		return
	}
	resp.AddParameter("iss", s.Issuer)
	s.provider.WriteAuthorizeResponse(ctx, w, ar, resp)
}

func (s *server) token(w http.ResponseWriter, r *http.Request) {
	s.turn.Lock()
	defer s.turn.Unlock()
	ctx := context.WithoutCancel(r.Context())
	s.store.begin()
	req, err := s.provider.NewAccessRequest(ctx, r, &fosite.DefaultSession{})
	if err == nil && req.GetGrantTypes().ExactOne("client_credentials") {
		for _, scope := range req.GetRequestedScopes() {
			req.GrantScope(scope)
		}
	}
	var resp fosite.AccessResponder
	if err == nil {
		resp, err = s.provider.NewAccessResponse(ctx, req)
	}
	s.store.end(err == nil && req.GetGrantTypes().ExactOne("refresh_token"), err != nil)
	if err != nil {
		s.provider.WriteAccessError(ctx, w, req, err)
		return
	}
	s.provider.WriteAccessResponse(ctx, w, req, resp)
}

func (s *server) introspect(w http.ResponseWriter, r *http.Request) {
	s.turn.Lock()
	defer s.turn.Unlock()
	resp, err := s.provider.NewIntrospectionRequest(r.Context(), r, &fosite.DefaultSession{})
	if err != nil {
		s.provider.WriteIntrospectionError(r.Context(), w, err)
		return
	}
	s.provider.WriteIntrospectionResponse(r.Context(), w, resp)
}

// tally is what happened to one grant.
type tally struct {
	Calls     int  `json:"calls"`
	Refreshes int  `json:"refreshes"`
	Reuses    int  `json:"reuses"`
	Refused   int  `json:"refused"`
	Revoked   bool `json:"revoked"`
}

// countingStore is fosite's own store in memory, and listens to what fosite asks of it. The calls between begin and end belong to one request of
// the token endpoint, since requests take turns.
type countingStore struct {
	*storage.MemoryStore
	grace time.Duration

	mu               sync.Mutex
	rotated          map[string]time.Time // refresh tokens by signature, with a grace: when each was first used
	calls, refreshes int
	grants           map[string]*tally
	current          string // the grant that the present request of the token endpoint is about
}

func (c *countingStore) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	c.current = ""
}

func (c *countingStore) end(refreshed, refused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if refreshed {
		c.refreshes++
	}
	if c.current == "" {
		return
	}
	t := c.of(c.current)
	t.Calls++
	if refreshed {
		t.Refreshes++
	}
	if refused {
		t.Refused++
	}
}

func (c *countingStore) of(id string) *tally {
	if c.grants[id] == nil {
		c.grants[id] = &tally{}
	}
	return c.grants[id]
}

func (c *countingStore) counts() map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	grants := map[string]tally{}
	for id, t := range c.grants {
		grants[id] = *t
	}
	return map[string]any{"calls": c.calls, "refreshes": c.refreshes, "grants": grants}
}

// GetAuthorizeCodeSession hears which grant a code is of.
func (c *countingStore) GetAuthorizeCodeSession(ctx context.Context, code string, session fosite.Session) (fosite.Requester, error) {
	r, err := c.MemoryStore.GetAuthorizeCodeSession(ctx, code, session)
	if r != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.current = r.GetID()
	}
	return r, err
}

// GetRefreshTokenSession hears which grant a refresh token is of, and whether it was used before.
func (c *countingStore) GetRefreshTokenSession(ctx context.Context, signature string, session fosite.Session) (fosite.Requester, error) {
	r, err := c.MemoryStore.GetRefreshTokenSession(ctx, signature, session)
	if r != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if at, used := c.rotated[signature]; used && err == nil && time.Since(at) > c.grace {
			err = fosite.ErrInactiveToken
		}
		c.current = r.GetID()
		if errors.Is(err, fosite.ErrInactiveToken) {
			c.of(c.current).Reuses++
		}
	}
	return r, err
}

// RotateRefreshToken ends the token that was used; with a grace, later.
func (c *countingStore) RotateRefreshToken(ctx context.Context, requestID, signature string) error {
	if c.grace == 0 {
		return c.MemoryStore.RotateRefreshToken(ctx, requestID, signature)
	}
	c.mu.Lock()
	if _, again := c.rotated[signature]; !again {
		c.rotated[signature] = time.Now()
	}
	c.mu.Unlock()
	return c.MemoryStore.RevokeAccessToken(ctx, requestID)
}

// RevokeRefreshToken hears of the end of a grant: of a reuse, or of a revocation. Rotation goes by the store's own.
func (c *countingStore) RevokeRefreshToken(ctx context.Context, requestID string) error {
	c.mu.Lock()
	c.of(requestID).Revoked = true
	c.mu.Unlock()
	return c.MemoryStore.RevokeRefreshToken(ctx, requestID)
}
