package broker_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// planted is the secret that the tests lend. Its characters change under every escape.
const planted = `lent-7+f/Q"&<é-secret`

// lent is a credential at an upstream, linked to the door's train under an alias.
type lent struct {
	*door
	id, alias string
	seen      chan *http.Request
}

// lend stores a credential whose upstream is h, and links it.
func (d *door) lend(alias string, draft vault.Draft, h http.Handler) *lent {
	d.t.Helper()
	l := &lent{door: d, alias: alias, seen: make(chan *http.Request, 100)}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := r.Clone(context.Background())
		seen.RequestURI = r.RequestURI
		select {
		case l.seen <- seen:
		default:
		}
		h.ServeHTTP(w, r)
	}))
	d.t.Cleanup(func() { up.CloseClientConnections(); up.Close() })
	if draft.Name == "" {
		draft.Name = "credential " + alias
	}
	draft.BaseURL = strings.Replace(draft.BaseURL, "UP", up.URL, 1)
	if draft.BaseURL == "" {
		draft.BaseURL = up.URL
	}
	if draft.Type == "" {
		draft.Type = vault.SharedSecret
	}
	if draft.Secrets == nil {
		draft.Secrets = map[string]secret.Value{"secret": secret.FromString(planted)}
	}
	if draft.Inject.Kind == "" && draft.Type == vault.SharedSecret {
		draft.Inject = vault.Inject{Kind: vault.InjectQuery, Name: "key"}
	}
	c, err := d.vault.Create(context.Background(), d.admin, draft)
	require.NoError(d.t, err)
	_, _, err = d.trains.Link(context.Background(), d.admin, "web", train.LinkDraft{Credential: c.ID, Alias: &alias})
	require.NoError(d.t, err)
	l.id = c.ID
	return l
}

func (l *lent) request(method, target string, body io.Reader) *http.Request {
	l.t.Helper()
	r, err := http.NewRequest(method, l.url+target, body)
	require.NoError(l.t, err)
	r.Header.Set("Authorization", "Bearer "+l.key)
	return r
}

func (l *lent) get(target string) (int, string, http.Header) {
	l.t.Helper()
	return l.do(l.request(http.MethodGet, target, nil))
}

// code reads a refusal.
func code(t *testing.T, status int, body string, h http.Header) string {
	t.Helper()
	require.Equal(t, "application/problem+json", h.Get("Content-Type"), body)
	var p struct {
		Code, Detail string
		Status       int
		RequestID    string `json:"request_id"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &p), body)
	require.Equal(t, status, p.Status)
	require.NotEmpty(t, p.Detail)
	require.Equal(t, h.Get("X-Request-Id"), p.RequestID)
	require.True(t, store.ValidID("req", p.RequestID))
	return p.Code
}

func eachEngine(t *testing.T, fn func(t *testing.T, d *door)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, db *store.DB) { fn(t, newDoor(t, db, doorOptions{})) })
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") }

// TestUseWantsAClientKey: who is nobody gets nothing, and who may not learn what is there is told the same of everything.
func TestUseWantsAClientKey(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		l := d.lend("git", vault.Draft{}, http.HandlerFunc(ok))
		other := d.lend("elsewhere", vault.Draft{}, http.HandlerFunc(ok))
		require.NoError(t, d.trains.Unlink(t.Context(), d.admin, "web", other.id, ""))
		for _, auth := range []string{"", "Bearer ", "Bearer sbx_live_wrong", "Basic ", "Basic ####", "Basic " + base64.StdEncoding.EncodeToString([]byte("user:wrong-but-long-enough-to-be-one")), "Digest x"} {
			r := l.request(http.MethodGet, "/use/git/x", nil)
			r.Header.Set("Authorization", auth)
			status, body, h := l.do(r)
			require.Equal(t, 401, status)
			require.Equal(t, "unauthenticated", code(t, status, body, h))
			require.Equal(t, []string{`Bearer realm="Signalbox"`, `Basic realm="Signalbox"`}, h["Www-Authenticate"])
		}
		var first string
		for _, name := range []string{"nothing", "elsewhere", other.id, "GIT", url.PathEscape("credential elsewhere")} {
			status, body, h := l.get("/use/" + name + "/x")
			require.Equal(t, 404, status, body)
			require.Equal(t, "not_found", code(t, status, body, h))
			body = strings.ReplaceAll(body, h.Get("X-Request-Id"), "")
			if first == "" {
				first = body
			}
			require.Equal(t, first, body)
		}
		require.Empty(t, l.seen)
		for _, name := range []string{"git", l.id, url.PathEscape("credential git")} {
			for _, header := range [][2]string{{"X-Api-Key", d.key}, {"Authorization", "bearer " + d.key}, {"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("any:"+d.key))}, {"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(d.key+":"))}} {
				r := l.request(http.MethodGet, "/use/"+name+"/x", nil)
				r.Header.Del("Authorization")
				r.Header.Set(header[0], header[1])
				status, body, _ := l.do(r)
				require.Equal(t, 200, status, body)
				got := <-l.seen
				require.NotContains(t, fmt.Sprint(got.Header), d.key, "the caller's key stays here")
			}
		}
	})
}

// TestUseWithoutClientKeysIsServedToNobody: the switch of /v1 does not open this door.
func TestUseWithoutClientKeysIsServedToNobody(t *testing.T) {
	d := newDoor(t, storetest.Open(t, store.SQLite), doorOptions{keyless: true})
	l := d.lend("git", vault.Draft{}, http.HandlerFunc(ok))
	r := l.request(http.MethodGet, "/use/git/x", nil)
	r.Header.Del("Authorization")
	status, _, _ := l.do(r)
	require.Equal(t, 401, status)
	require.Empty(t, l.seen)
}

// TestUseInjects: each way in which a secret goes into a request, and what the caller put there gone.
func TestUseInjects(t *testing.T) {
	eachEngine(t, func(t *testing.T, d *door) {
		shared := func(in vault.Inject) vault.Draft {
			return vault.Draft{Meta: vault.Meta{Inject: in}, Secrets: map[string]secret.Value{"secret": secret.FromString("plain-secret-1")}}
		}
		d.lend("query", vault.Draft{Meta: vault.Meta{Inject: vault.Inject{Kind: vault.InjectQuery, Name: "key"}}}, http.HandlerFunc(ok))
		for alias, c := range map[string]struct {
			draft vault.Draft
			check func(r *http.Request)
		}{
			"bearer": {shared(vault.Inject{Kind: vault.InjectBearer}), func(r *http.Request) { require.Equal(t, []string{"Bearer plain-secret-1"}, r.Header["Authorization"]) }},
			"header": {shared(vault.Inject{Kind: vault.InjectHeader, Name: "private-token"}), func(r *http.Request) {
				require.Equal(t, []string{"plain-secret-1"}, r.Header["Private-Token"])
				require.NotContains(t, r.Header, "Authorization")
				require.NotContains(t, r.Header, "Private_token")
			}},
			"basic": {vault.Draft{Type: vault.Password, Meta: vault.Meta{Username: "bot"}, Secrets: map[string]secret.Value{"password": secret.FromString("plain-secret-1")}}, func(r *http.Request) {
				user, password, has := r.BasicAuth()
				require.True(t, has)
				require.Equal(t, "bot plain-secret-1", user+" "+password)
			}},
			"param": {shared(vault.Inject{Kind: vault.InjectQuery, Name: "key"}), func(r *http.Request) {
				require.Equal(t, "a=%2f&b&keys=1&key=plain-secret-1", r.URL.RawQuery)
				require.NotContains(t, r.Header, "Authorization")
			}},
		} {
			l := d.lend(alias, c.draft, http.HandlerFunc(ok))
			r := l.request(http.MethodGet, "/use/"+alias+"/deep/p%20ath?a=%2f&key=mine&b&%6bey=mine&KEY=mine&key[]=x&keys=1&x;key=mine", nil)
			r.Header["Private-Token"], r.Header["private_token"] = []string{"mine"}, []string{"mine"}
			status, body, _ := l.do(r)
			require.Equal(t, 200, status, body)
			got := <-l.seen
			require.Equal(t, "/deep/p%20ath", got.URL.EscapedPath())
			c.check(got)
		}
	})
}

// TestWhatGoesOnUnderUse: what stays behind, and what goes as it came.
func TestWhatGoesOnUnderUse(t *testing.T) {
	eachEngine(t, func(t *testing.T, d *door) {
		l := d.lend("git", vault.Draft{Meta: vault.Meta{BaseURL: "UP/base/v2"}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body)
		}))
		r := l.request("PROPFIND", "/use/git/x/?q=1", strings.NewReader("the body"))
		for name, value := range map[string]string{
			"Cookie": "session=1", "Proxy-Authorization": "Basic eA==", "Msl-Train-Id": "web", "Msl-Anything": "1", "X-Forwarded-For": "10.0.0.1", "X_forwarded_host": "evil", "Forwarded": "for=1", "Via": "1.1 x", "Range": "bytes=0-1", "If-Range": "x",
			"Accept-Encoding": "br", "Connection": "keep-alive, X-Hop, Content-Type", "X-Hop": "1", "Te": "trailers", "Upgrade": "h2c", "X-Api-Key": d.key, "X-Http-Method-Override": "DELETE", "X-Original-Url": "/admin", "Sec-Websocket-Extensions": "permessage-deflate",
			"Depth": "1", "Accept": "text/x", "User-Agent": "curl/8", "X-Custom": "stays", "Origin": "https://x.example",
		} {
			r.Header.Set(name, value)
		}
		status, body, h := l.do(r)
		require.Equal(t, 200, status, body)
		require.Equal(t, "the body", body)
		got := <-l.seen
		require.Equal(t, "PROPFIND", got.Method)
		require.Equal(t, "/base/v2/x/", got.URL.Path)
		require.Equal(t, int64(8), got.ContentLength)
		require.NotEqual(t, strings.TrimPrefix(d.url, "http://"), got.Host)
		for name, want := range map[string]string{"Depth": "1", "Accept": "text/x", "User-Agent": "curl/8", "X-Custom": "stays", "Origin": "https://x.example", "Accept-Encoding": "identity"} {
			require.Equal(t, []string{want}, got.Header[name], name)
			delete(got.Header, name)
		}
		delete(got.Header, "Content-Length")
		require.Empty(t, got.Header, "nothing else goes on")
		require.Equal(t, "sandbox; default-src 'none'", h.Get("Content-Security-Policy"))
		require.Equal(t, []string{"ok 200"}, d.results(1))
		granted := d.events()[0]
		fact := func(name string) string {
			d, _ := granted.Details.Get(name)
			return d.Text()
		}
		require.Equal(t, "/use/git/…", fact("path"))
		require.Equal(t, "git", fact("alias"))
		require.Equal(t, "PROPFIND", fact("method"))
		require.Len(t, fact("path_digest"), 32)
	})
}

// TestRulesOfUse: methods, paths, what cannot be lent at all.
func TestRulesOfUse(t *testing.T) {
	eachEngine(t, func(t *testing.T, d *door) {
		bound := d.lend("bound", vault.Draft{Meta: vault.Meta{Methods: []string{"GET"}, Paths: []string{"/repos/*/issues", "/open/**"}}}, http.HandlerFunc(ok))
		refused := func(l *lent, method, target string, status int, want string) {
			t.Helper()
			got, body, h := l.do(l.request(method, target, nil))
			require.Equal(t, status, got, body)
			require.Equal(t, want, code(t, status, body, h))
			require.Empty(t, l.seen)
		}
		refused(bound, "POST", "/use/bound/open/x", 403, "path_denied")
		refused(bound, "GET", "/use/bound/repos/x", 403, "path_denied")
		refused(bound, "GET", "/use/bound", 403, "path_denied")
		refused(bound, "TRACE", "/use/bound/open/x", 405, "method_not_allowed")
		status, _, _ := bound.get("/use/bound/repos/%78/issues")
		require.Equal(t, 200, status)
		require.Equal(t, "/repos/%78/issues", (<-bound.seen).URL.EscapedPath())
		granted := d.events()
		path, _ := granted[len(granted)-1].Details.Get("path")
		if granted[len(granted)-1].Action != store.LeaseGranted {
			path, _ = granted[len(granted)-2].Details.Get("path")
		}
		require.Equal(t, "/use/bound/repos/*/issues", path.Text())

		short := d.lend("short", vault.Draft{Secrets: map[string]secret.Value{"secret": secret.FromString("7 bytes")}}, http.HandlerFunc(ok))
		refused(short, "GET", "/use/short/x", 403, "not_lendable")
		account := d.accounts[0]
		refused(&lent{door: d, seen: make(chan *http.Request)}, "GET", "/use/"+account.ID+"/v1/organizations", 403, "not_lendable")
		_, err := d.vault.Update(t.Context(), d.admin, account.ID, vault.Patch{Paths: vault.To([]string{"/**"}), Inject: vault.InjectPatch{Kind: vault.To(vault.InjectHeader), Name: vault.To("x-api-key")}}, "")
		require.NoError(t, err)
		models := func() int {
			r := bound.request(http.MethodGet, "/use/"+account.ID+"/v1/models", nil)
			r.Header.Set("Anthropic-Version", "2023-06-01")
			status, _, _ := bound.do(r)
			return status
		}
		require.Eventually(t, func() bool { return models() == 200 }, 2*time.Second, 10*time.Millisecond)
		for _, path := range []string{"/v1/messages", "/V1/Messages", "/v1/files/file_1", "/v1/messages/batches", "/v1/%6dessages", "/x/v1/messages"} {
			refused(bound, "GET", "/use/"+account.ID+path, 403, "path_denied")
		}
		// What the upstream refuses there lets no account rest.
		d.up.RemoveKey(d.secrets[0])
		require.Equal(t, 401, models())
		e, err := d.trains.Explain(t.Context(), d.admin, "web")
		require.NoError(t, err)
		for _, a := range e.Accounts {
			require.NotEqual(t, train.Cooling, a.State)
		}
	})
}

// TestNoEchoComesBack: in a header, a body, a trailer, of every status, in every form, byte by byte or compressed.
func TestNoEchoComesBack(t *testing.T) {
	eachEngine(t, func(t *testing.T, d *door) {
		forms := []string{planted, url.QueryEscape(planted), base64.StdEncoding.EncodeToString([]byte("user:" + planted)), hex.EncodeToString([]byte(planted)), `caf\u00e9 ` + jsonText(planted), "lent-7&#43;f/Q&quot;&amp;&lt;&#xe9;-secret"}
		text := "before " + strings.Join(forms, " | ") + " after"
		l := d.lend("git", vault.Draft{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("X-Echo", url.QueryEscape(r.URL.Query().Get("key")))
			h.Set("Trailer", "X-Behind")
			h.Set("Set-Cookie", "a="+url.QueryEscape(planted))
			h.Set("Access-Control-Allow-Origin", "*")
			h.Set("X-"+hex.EncodeToString([]byte(planted)), "1")
			h.Set("Content-Type", "multipart/byteranges; boundary=x")
			out, done := io.Writer(w), func() {}
			switch r.URL.Path {
			case "/gzip":
				h.Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				out, done = z, func() { _ = z.Close() }
			case "/br":
				h.Set("Content-Encoding", "br")
			case "/fail":
				w.WriteHeader(500)
			}
			if r.URL.Path == "/bytes" {
				for i := range len(text) {
					_, _ = io.WriteString(w, text[i:i+1])
					_ = http.NewResponseController(w).Flush()
				}
			} else {
				_, _ = io.WriteString(out, text)
			}
			done()
			h.Set("X-Behind", hex.EncodeToString([]byte(planted)))
		}))
		for path, want := range map[string]int{"/plain": 200, "/bytes": 200, "/gzip": 200, "/fail": 500} {
			r := l.request(http.MethodGet, "/use/git"+path, nil)
			resp, err := l.client.Do(r)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, want, resp.StatusCode)
			require.Len(t, body, len(text), path)
			require.True(t, bytes.HasPrefix(body, []byte("before ***")), "%s: %s", path, body)
			require.True(t, bytes.HasSuffix(body, []byte("* after")), "%s", body)
			all := fmt.Sprint(resp.Header, resp.Trailer) + string(body)
			for _, form := range forms {
				require.NotContains(t, strings.ToLower(all), strings.ToLower(form), path)
			}
			require.NotContains(t, all, "lent-7", path)
			require.Contains(t, resp.Header.Get("X-Echo"), "***")
			require.Contains(t, resp.Trailer.Get("X-Behind"), "***")
			for _, gone := range []string{"Set-Cookie", "Access-Control-Allow-Origin", "Content-Encoding"} {
				require.NotContains(t, resp.Header, gone, path)
			}
			require.Equal(t, "multipart/byteranges; boundary=x", resp.Header.Get("Content-Type"))
		}
		status, body, h := l.get("/use/git/br")
		require.Equal(t, 502, status)
		require.Equal(t, "upstream_answer", code(t, status, body, h))
		require.NotContains(t, d.log.String(), "lent-7")
		require.Contains(t, d.results(5), "refused 200")
	})
}

func jsonText(s string) string {
	b, _ := json.Marshal(s)
	return string(b[1 : len(b)-1])
}

// TestRedirectsUnderUse: one below the base leads back to this door, one to elsewhere is passed on as it is, without what was lent.
func TestRedirectsUnderUse(t *testing.T) {
	eachEngine(t, func(t *testing.T, d *door) {
		var up string
		var mu sync.Mutex
		l := d.lend("git", vault.Draft{Meta: vault.Meta{BaseURL: "UP/base"}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			up = "http://" + r.Host
			mu.Unlock()
			w.Header().Set("Location", strings.ReplaceAll(r.Header.Get("X-To"), "UP", "http://"+r.Host))
			w.WriteHeader(302)
		}))
		one := *d.client
		one.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for to, want := range map[string]string{
			"UP/base/a/b?x=1#f": "/use/git/a/b?x=1#f", "/base/c%20d": "/use/git/c%20d", "e": "/use/git/dir/e", "../f/": "/use/git/f/", "?y=2": "/use/git/dir/page?y=2", "UP/base": "/use/git",
			"/elsewhere": "UP/elsewhere", "../../up": "UP/up", "UP/basement": "UP/basement", "https://other.example/x?a=1": "https://other.example/x?a=1", "//other.example/y": "http://other.example/y",
			"UP/base/a%2f..%2fb": "UP/base/a%2f..%2fb", "UP/base/?key=" + url.QueryEscape(planted): "/use/git/?key=" + strings.Repeat("*", len(url.QueryEscape(planted))),
		} {
			r := l.request(http.MethodGet, "/use/git/dir/page", nil)
			r.Header.Set("X-To", to)
			resp, err := one.Do(r)
			require.NoError(t, err)
			_ = resp.Body.Close()
			require.Equal(t, 302, resp.StatusCode)
			mu.Lock()
			require.Equal(t, strings.ReplaceAll(want, "UP", up), resp.Header.Get("Location"), to)
			mu.Unlock()
		}
	})
}

// TestOnlyProgramsUse: a browser shows nothing of an upstream as a page of the dashboard.
func TestOnlyProgramsUse(t *testing.T) {
	d := sqliteDoor(t)
	l := d.lend("git", vault.Draft{}, http.HandlerFunc(ok))
	for _, dest := range []string{"document", "iframe", "script", "worker", "serviceworker", "style", "unknown"} {
		r := l.request(http.MethodGet, "/use/git/x", nil)
		r.Header.Set("Sec-Fetch-Dest", dest)
		status, body, h := l.do(r)
		require.Equal(t, 403, status)
		require.Equal(t, "cross_origin", code(t, status, body, h))
	}
	require.Empty(t, l.seen)
	r := l.request(http.MethodGet, "/use/git/x", nil)
	r.Header.Set("Sec-Fetch-Mode", "cors") // as Node's fetch sends it
	status, _, _ := l.do(r)
	require.Equal(t, 200, status)
}

// TestUseCountsAsARequest: limits hold here as anywhere.
func TestUseCountsAsARequest(t *testing.T) {
	eachEngine(t, func(t *testing.T, d *door) {
		l := d.lend("git", vault.Draft{}, http.HandlerFunc(ok))
		d.limit(quota.Patch{Set: map[quota.Kind]int64{quota.RequestsPerDay: 2}})
		for range 2 {
			status, body, _ := l.get("/use/git/x")
			require.Equal(t, 200, status, body)
		}
		status, body, h := l.get("/use/git/x")
		require.Equal(t, 429, status)
		require.Equal(t, "limit_reached", code(t, status, body, h))
		require.NotEmpty(t, h.Get("Retry-After"))
	})
}

// TestARevocationEndsAUse: whatever ends the right ends the stream, within a second, and the record says so.
func TestARevocationEndsAUse(t *testing.T) {
	for name, act := range map[string]func(d *door, l *lent) error{
		"key": func(d *door, _ *lent) error {
			_, err := d.trains.RevokeKey(context.Background(), d.admin, "web", d.keyID, "")
			return err
		},
		"link": func(d *door, l *lent) error {
			return d.trains.Unlink(context.Background(), d.admin, "web", l.id, "")
		},
		"credential": func(d *door, l *lent) error {
			_, err := d.vault.Update(context.Background(), d.admin, l.id, vault.Patch{State: vault.To(vault.Disabled)}, "")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, d *door) {
				l := d.lend("git", vault.Draft{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.WriteString(w, "first\n")
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
				}))
				resp, err := l.client.Do(l.request(http.MethodGet, "/use/git/x", nil))
				require.NoError(t, err)
				defer resp.Body.Close()
				in := bufio.NewReader(resp.Body)
				line, err := in.ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, "first\n", line)
				require.NoError(t, act(d, l))
				began := time.Now()
				_, err = in.ReadString('\n')
				require.Error(t, err)
				require.NotErrorIs(t, err, io.EOF, "a cut answer is not a whole one")
				require.Less(t, time.Since(began), time.Second)
				require.Equal(t, []string{"revoked 200"}, d.results(1))
			})
		})
	}
}

// TestEndsOfAUse: a client that goes, an upstream that breaks off, an upstream that is not there.
func TestEndsOfAUse(t *testing.T) {
	eachEngine(t, func(t *testing.T, d *door) {
		gone := make(chan struct{})
		l := d.lend("git", vault.Draft{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "first\n")
			_ = http.NewResponseController(w).Flush()
			if r.URL.Path == "/cut" {
				panic(http.ErrAbortHandler)
			}
			<-r.Context().Done()
			close(gone)
		}))
		resp, err := l.client.Do(l.request(http.MethodGet, "/use/git/cut", nil))
		require.NoError(t, err)
		_, err = io.ReadAll(resp.Body)
		require.Error(t, err)
		_ = resp.Body.Close()
		require.Equal(t, []string{"upstream_broke 200"}, d.results(1))
		ctx, cancel := context.WithCancel(t.Context())
		resp, err = l.client.Do(l.request(http.MethodGet, "/use/git/wait", nil).WithContext(ctx))
		require.NoError(t, err)
		cancel()
		_ = resp.Body.Close()
		<-gone
		require.Equal(t, "client_cancelled 200", d.results(2)[1])
		dead := d.lend("dead", vault.Draft{Meta: vault.Meta{BaseURL: "http://127.0.0.1:1"}}, http.HandlerFunc(ok))
		status, body, h := dead.get("/use/dead/x")
		require.Equal(t, 503, status)
		require.Equal(t, "upstream_unreachable", code(t, status, body, h))
		require.Equal(t, "upstream_unreachable 0", d.results(3)[2])
	})
}

func lentSecret() map[string]secret.Value {
	return map[string]secret.Value{"secret": secret.FromString("plain-secret-1")}
}

func keyDraft() identity.KeyDraft { return identity.KeyDraft{Name: "another"} }
