package signalboxtest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// TokenCall is a refresh on its way to an OAuth server.
type TokenCall struct {
	// RefreshToken is what was presented, for the Nth time.
	RefreshToken string
	N            int
}

// TokenFault is what befalls one refresh. The zero value lets it pass.
type TokenFault struct {
	// Before is called when the request has come and the server has not heard of it; After when the server has answered and the client has
	// not. Both may block.
	Before, After func()
	// Status is answered instead of by the server, which hears nothing.
	Status int
	// Lose cuts the connection instead of handing the answer on.
	Lose bool
}

// Gate stands before an OAuth server. It counts what clients send to the token endpoint, and does to refreshes what a test says. What a client
// has sent reaches the server even when the client has gone away since, as on a real line.
type Gate struct {
	proxy httputil.ReverseProxy

	mu        sync.Mutex
	tokenPath string
	sent      int
	presented map[string]int
	script    func(TokenCall) TokenFault
	issued    func(access string, expires time.Time)
}

func newGate(backend *url.URL) *Gate {
	g := &Gate{presented: map[string]int{}}
	g.proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	// The server hears the address that its client used.
	g.proxy.Rewrite = func(r *httputil.ProxyRequest) { r.SetURL(backend); r.Out.Host = r.In.Host }
	return g
}

// Script says what befalls the refreshes that come from now on.
func (g *Gate) Script(script func(TokenCall) TokenFault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.script = script
}

// OnIssue is called with each access token, before the client has it.
func (g *Gate) OnIssue(issued func(access string, expires time.Time)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.issued = issued
}

// Sent returns how many refreshes clients have sent, and how often the one token that was presented most was.
func (g *Gate) Sent() (calls, most int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range g.presented {
		most = max(most, n)
	}
	return g.sent, most
}

// ServeHTTP implements http.Handler.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	token := g.tokenPath
	g.mu.Unlock()
	if r.Method != http.MethodPost || r.URL.Path != token {
		g.proxy.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	fault := g.arrive(body)
	if fault.Before != nil {
		fault.Before()
	}
	if fault.Status != 0 {
		http.Error(w, "{}", fault.Status)
		return
	}
	on := r.WithContext(context.WithoutCancel(r.Context()))
	on.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	g.proxy.ServeHTTP(answer, on)
	g.note(answer)
	if fault.After != nil {
		fault.After()
	}
	if fault.Lose {
		panic(http.ErrAbortHandler)
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// arrive counts a refresh and asks the script about it.
func (g *Gate) arrive(body []byte) TokenFault {
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("grant_type") != "refresh_token" {
		return TokenFault{}
	}
	call := TokenCall{RefreshToken: form.Get("refresh_token")}
	g.mu.Lock()
	g.sent++
	g.presented[call.RefreshToken]++
	call.N = g.presented[call.RefreshToken]
	script := g.script
	g.mu.Unlock()
	if script == nil {
		return TokenFault{}
	}
	return script(call)
}

// note tells of an access token that the server has issued.
func (g *Gate) note(answer *httptest.ResponseRecorder) {
	var issued struct {
		Access string `json:"access_token"`
		Life   int    `json:"expires_in"`
	}
	if answer.Code != http.StatusOK || json.Unmarshal(answer.Body.Bytes(), &issued) != nil || issued.Access == "" {
		return
	}
	g.mu.Lock()
	tell := g.issued
	g.mu.Unlock()
	if tell != nil {
		tell(issued.Access, time.Now().Add(time.Duration(issued.Life)*time.Second))
	}
}
