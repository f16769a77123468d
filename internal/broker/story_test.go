package broker_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// errorOf reads an error in Anthropic's shape.
func errorOf(t *testing.T, body string) (kind, message string) {
	t.Helper()
	var e struct {
		Type      string `json:"type"`
		RequestID string `json:"request_id"`
		Error     struct{ Type, Message string }
	}
	require.NoError(t, json.Unmarshal([]byte(body), &e), body)
	require.Equal(t, "error", e.Type)
	require.True(t, store.ValidID("req", e.RequestID), body)
	return e.Error.Type, e.Error.Message
}

// TestWhatGoesUpstream looks at the very request that the upstream gets: bytes, headers, query, and whose credential.
func TestWhatGoesUpstream(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		body := "{ \"model\" : \"claude-x\",\n\t\"max_tokens\":50, \"unknown_field\": [1e999, {\"deep\":null}], \"messages\":[{\"role\":\"user\",\"content\":\"na\\u00efve ✓\"}]}  \n"
		r := d.request(body)
		r.URL.RawQuery = "beta=true&x=%2F"
		for name, value := range map[string]string{
			"Authorization": "Bearer " + d.key, "Anthropic-Beta": "tools-x", "Anthropic-Version": "2024-02-02", "X-Stainless-Lang": "js", "User-Agent": "claude-cli/9", "Content-Type": "application/json; charset=utf-8",
			"Msl-Train-Id": "web", "Msl-Project-Id": "web", "Msl-Account": d.accounts[0].Name, "Cookie": "session=1", "X-Forwarded-For": "10.1.2.3", "Forwarded": "for=10.1.2.3",
			"Accept-Encoding": "gzip, br", "Connection": "keep-alive, X-Hop", "X-Hop": "1", "Te": "trailers", "Proxy-Authorization": "Basic eA==", "Upgrade": "h2c",
		} {
			r.Header.Set(name, value)
		}
		if d.client != http.DefaultClient { // HTTP/2 knows no headers of the connection (RFC 9113, section 8.2.2)
			for _, name := range []string{"Connection", "Upgrade", "X-Hop"} {
				r.Header.Del(name)
			}
		}
		status, answer, header := d.do(r)
		require.Equal(t, 200, status, answer)
		require.True(t, store.ValidID("req", header.Get("X-Request-Id")))
		got := d.up.Requests()[0]
		require.Equal(t, body, string(got.Body), "the body must pass byte for byte")
		require.Equal(t, "/v1/messages", got.Path)
		require.Equal(t, "beta=true&x=%2F", got.Query)
		require.Equal(t, strings.TrimPrefix(d.upURL, "http://"), got.Host)
		require.True(t, got.Credential().Equal(d.secrets[0]))
		require.Len(t, got.Credentials, 1, "nothing of the caller's credentials goes upstream")
		for name, want := range map[string]string{
			"Anthropic-Beta": "tools-x", "Anthropic-Version": "2024-02-02", "X-Stainless-Lang": "js", "User-Agent": "claude-cli/9", "Content-Type": "application/json; charset=utf-8", "Accept-Encoding": "identity",
		} {
			require.Equal(t, []string{want}, got.Header[name], name)
		}
		for _, gone := range []string{"Msl-Train-Id", "Msl-Project-Id", "Msl-Account", "X-Forwarded-For", "Forwarded", "X-Hop", "Te", "Upgrade"} {
			require.NotContains(t, got.Header, gone)
		}

		bare, err := http.NewRequest(http.MethodGet, d.url+"/v1/models", nil)
		require.NoError(t, err)
		bare.Header["User-Agent"] = nil
		bare.Header.Set("X-Api-Key", d.key)
		status, _, _ = d.do(bare)
		require.Equal(t, 200, status)
		got = d.up.Requests()[1]
		require.Equal(t, []string{"2023-06-01"}, got.Header["Anthropic-Version"])
		require.NotContains(t, got.Header, "User-Agent")
		require.Equal(t, []string{"ok 200", "ok 200"}, d.results(2))
	})
}

// TestInvariant01IntentBeforeBytes reads the database from inside the transport: at the moment at which the request goes out, its intent
// lies there, exactly once.
func TestInvariant01IntentBeforeBytes(t *testing.T) {
	each(t, doorOptions{accounts: 2}, func(t *testing.T, d *door) {
		d.up.SetKeyBehaviour(d.secrets[0], demo.Status(500))
		var counts []int
		d.line.look = func(*http.Request) {
			n := 0
			for _, e := range d.events() {
				if e.Action == store.LeaseGranted {
					n++
				}
			}
			counts = append(counts, n)
		}
		status, _, header := d.do(d.request(hello))
		require.Equal(t, 200, status)
		require.Equal(t, []int{1, 2}, counts, "each attempt has its own intent before it goes out")
		require.Equal(t, []string{"upstream_error 500", "ok 200"}, d.results(2))
		leases := map[string]int{}
		for _, e := range d.events() {
			require.Equal(t, header.Get("X-Request-Id"), e.RequestID)
			l, ok := e.Details.Get("lease")
			require.True(t, ok)
			leases[l.Text()]++
			if e.Action == store.LeaseGranted {
				require.Equal(t, store.OutcomePending, e.Outcome)
				m, _ := e.Details.Get("model")
				require.Equal(t, "claude-x", m.Text())
			}
		}
		require.Len(t, leases, 2)
		for _, n := range leases {
			require.Equal(t, 2, n, "one intent and one outcome each")
		}
	})
}

// TestAuditFailingServesNothing takes the audit log away: nothing may reach the upstream, and the refusal is legible.
func TestAuditFailingServesNothing(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		ctx := context.Background()
		swap := func(from, to string) {
			require.NoError(t, d.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
				_, err := tx.Exec(`ALTER TABLE ` + from + ` RENAME TO ` + to)
				return err
			}))
		}
		swap("audit_batches", "gone")
		for range 5 {
			status, body, header := d.do(d.request(hello))
			require.Equal(t, 503, status)
			kind, message := errorOf(t, body)
			require.Equal(t, "api_error", kind)
			require.Contains(t, message, "cannot record")
			require.NotContains(t, message, "audit_batches")
			require.Equal(t, "false", header.Get("X-Should-Retry"))
		}
		require.Zero(t, d.line.seen, "0 uses served")
		require.Empty(t, d.up.Requests())
		swap("gone", "audit_batches")
		status, _, _ := d.do(d.request(hello))
		require.Equal(t, 200, status)
	})
}

// TestWarmRequestsReadNothing counts read transactions over many requests.
func TestWarmRequestsReadNothing(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		status, _, _ := d.do(d.request(hello))
		require.Equal(t, 200, status)
		time.Sleep(600 * time.Millisecond) // the feed tells an instance its own changes once more
		before := d.db.Reads()
		for range 200 {
			status, _, _ := d.do(d.request(hello))
			require.Equal(t, 200, status)
		}
		// What answers say of an account's limits is read back every two seconds at most, however many they are.
		require.Less(t, d.db.Reads()-before, int64(20), "two hundred warm requests read no row")
	})
}

func TestFailover(t *testing.T) {
	each(t, doorOptions{accounts: 3}, func(t *testing.T, d *door) {
		status, _, _ := d.do(d.request(hello))
		require.Equal(t, 200, status)
		require.True(t, d.up.Requests()[0].Credential().Equal(d.secrets[0]), "priority 1 first")

		// A rate limit goes to one other account, not to all.
		d.up.Forget()
		for _, s := range d.secrets {
			d.up.SetKeyBehaviour(s, demo.Always(demo.Behaviour{Status: 429, RetryAfter: 2 * time.Second}))
		}
		status, body, header := d.do(d.request(hello))
		require.Equal(t, 429, status)
		require.Len(t, d.up.Requests(), 2, "at most one hop on a burst")
		require.Contains(t, body, "rate_limit_error")
		require.Equal(t, "2", header.Get("Retry-After"))
		require.NotEmpty(t, header.Get("Request-Id"))
		require.NotEqual(t, header.Get("X-Request-Id"), header.Get("Request-Id"), "the upstream's own answer is passed on")
		for _, s := range d.secrets {
			d.up.SetKeyBehaviour(s, demo.Always(demo.Behaviour{}))
		}
		status, _, _ = d.do(d.request(hello))
		require.Equal(t, 200, status)
		require.True(t, d.up.Requests()[2].Credential().Equal(d.secrets[2]), "the two that were limited rest")
	})
}

func TestEveryAccountIsTriedOnServerErrors(t *testing.T) {
	each(t, doorOptions{accounts: 3}, func(t *testing.T, d *door) {
		d.up.SetKeyBehaviour(d.secrets[0], demo.Status(500))
		d.up.SetKeyBehaviour(d.secrets[1], demo.Status(401))
		status, _, _ := d.do(d.request(hello))
		require.Equal(t, 200, status)
		require.Equal(t, []string{"upstream_error 500", "upstream_error 401", "ok 200"}, d.results(3))
		// Then one account is left, and its failure is passed on as it is.
		d.up.SetKeyBehaviour(d.secrets[2], demo.Status(529))
		status, body, _ := d.do(d.request(hello))
		require.Equal(t, 529, status)
		require.Contains(t, body, "overloaded_error")
		status, body, header := d.do(d.request(hello))
		require.Equal(t, 429, status)
		kind, message := errorOf(t, body)
		require.Equal(t, "rate_limit_error", kind)
		require.Contains(t, message, "cooling")
		require.Equal(t, "false", header.Get("X-Should-Retry"))
		require.NotEmpty(t, header.Get("Retry-After"))
	})
}

func TestClientErrorsAreNotTriedElsewhere(t *testing.T) {
	each(t, doorOptions{accounts: 2}, func(t *testing.T, d *door) {
		for _, code := range []int{400, 404, 413, 422} {
			d.up.SetKeyBehaviour(d.secrets[0], demo.Status(code))
			status, _, _ := d.do(d.request(hello))
			require.Equal(t, code, status)
		}
		for _, r := range d.up.Requests() {
			require.True(t, r.Credential().Equal(d.secrets[0]))
		}
		ex, err := d.trains.Explain(context.Background(), d.admin, "web")
		require.NoError(t, err)
		require.Equal(t, train.Usable, ex.Accounts[0].State)
	})
}

// TestUnreachableUpstreamFailsOver points the first account at a port that nobody listens on.
func TestUnreachableUpstreamFailsOver(t *testing.T) {
	each(t, doorOptions{accounts: 1}, func(t *testing.T, d *door) {
		d.account("web", "dead", "http://127.0.0.1:1", 0)
		status, _, _ := d.do(d.request(hello))
		require.Equal(t, 200, status)
		require.Equal(t, []string{"upstream_unreachable 0", "ok 200"}, d.results(2))
		require.Equal(t, []bool{true, false}, d.unsent())
	})
}

// TestAProxyThatIsNotAllowed: an account whose proxy the guard refuses rests, and the next one answers; with nobody left the answer says nothing of the
// upstream's address. A refused upstream stays final, also through a proxy that is allowed.
func TestAProxyThatIsNotAllowed(t *testing.T) {
	each(t, doorOptions{accounts: 1}, func(t *testing.T, d *door) {
		d.accountVia("web", "inside", "https://llm.example.com", 0, vault.Upstream{ProxyURL: "https://10.0.0.1:3128"})
		status, _, _ := d.do(d.request(hello))
		require.Equal(t, 200, status)
		require.Equal(t, []string{"upstream_unreachable 0", "ok 200"}, d.results(2))
		require.Equal(t, []bool{true, false}, d.unsent())
		ex, err := d.trains.Explain(context.Background(), d.admin, "web")
		require.NoError(t, err)
		resting := 0
		for _, a := range ex.Accounts {
			if a.CoolingUntil != nil {
				resting++
			}
		}
		require.Equal(t, 1, resting)

		_, err = d.vault.Update(context.Background(), d.admin, d.accounts[0].ID, vault.Patch{State: vault.To(vault.Disabled)}, "")
		require.NoError(t, err)
		d.accountVia("web", "inside-too", "https://llm.example.com", 0, vault.Upstream{ProxyURL: "https://10.0.0.2:3128"})
		status, body, _ := d.do(d.request(hello))
		require.Equal(t, 503, status)
		_, message := errorOf(t, body)
		require.Contains(t, message, "No account of this train reached its upstream")
		require.Contains(t, d.log.String(), "the outbound proxy is at a private")

		d.accountVia("web", "refused", "https://10.0.0.1", 0, vault.Upstream{ProxyURL: "http://127.0.0.1:1"})
		status, body, _ = d.do(d.request(hello))
		require.Equal(t, 503, status)
		_, message = errorOf(t, body)
		require.Contains(t, message, "The address of this account's upstream is private")
	})
}

// TestInvariant06SecretsStayWhereTheyAreBound: the guard refuses private addresses that are not named, a redirect is passed on and not
// followed, and an account of another train cannot be had.
func TestInvariant06SecretsStayWhereTheyAreBound(t *testing.T) {
	each(t, doorOptions{allow: []string{"localhost"}}, func(t *testing.T, d *door) {
		status, body, _ := d.do(d.request(hello))
		require.Equal(t, 503, status, "127.0.0.1 is not named, so nothing may be dialled")
		_, message := errorOf(t, body)
		require.Contains(t, message, "SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS")
		require.Empty(t, d.up.Requests())
	})
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		thief := d.upURL + "/thief"
		d.up.SetKeyBehaviour(d.secrets[0], demo.Always(demo.Behaviour{Status: 418, Header: http.Header{"Location": {thief}}}))
		status, _, _ := d.do(d.request(hello))
		require.Equal(t, 418, status)
		require.Len(t, d.up.Requests(), 1)

		_, err := d.trains.CreateTrain(context.Background(), d.admin, train.Draft{Slug: "other", Name: "Other"})
		require.NoError(t, err)
		theirs := d.account("other", "theirs", d.upURL, 1)
		for _, name := range []string{theirs.ID, theirs.AccountID, theirs.Name} {
			r := d.request(hello)
			r.Header.Set("MSL-Account", name)
			status, body, _ := d.do(r)
			require.Equal(t, 403, status)
			kind, _ := errorOf(t, body)
			require.Equal(t, "permission_error", kind)
		}
		for _, e := range d.events() {
			require.NotEqual(t, theirs.ID, e.Target.ID)
		}
	})
}

func TestOAuthAccount(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		ctx := context.Background()
		token := secret.FromString("oat-" + store.NewID("s"))
		d.secrets = append(d.secrets, token)
		d.up.AddToken(token)
		expires := time.Now().Add(time.Hour)
		c, err := d.vault.Create(ctx, d.admin, vault.Draft{
			Type: vault.OAuth, Meta: vault.Meta{Name: "oauth", Provider: "anthropic", BaseURL: d.upURL, OAuth: vault.OAuthMeta{ExpiresAt: &expires}}, Secrets: map[string]secret.Value{"access_token": token},
		})
		require.NoError(t, err)
		first := 0
		_, _, err = d.trains.Link(ctx, d.admin, "web", train.LinkDraft{Credential: c.ID, Priority: &first})
		require.NoError(t, err)
		r := d.request(hello)
		r.Header.Set("Anthropic-Beta", "a, oauth-2025-04-20")
		r.Header.Add("Anthropic-Beta", "b,a")
		status, body, _ := d.do(r)
		require.Equal(t, 200, status, body)
		got := d.up.Requests()[0]
		require.Equal(t, []string{"oauth-2025-04-20,a,b"}, got.Header["Anthropic-Beta"])
		require.Equal(t, "Bearer "+token.Reveal(), got.Credentials["Authorization"][0].Reveal())
		require.NotContains(t, got.Credentials, "X-Api-Key")
	})
}

// TestRevocationCutsTheStream revokes the key under a stream that would go on for a minute.
func TestRevocationCutsTheStream(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		resp, err := d.client.Do(d.request(`{"model":"fake-stream-1000-slow-50","stream":true,"max_tokens":50,"messages":[{"role":"user","content":"hello"}]}`))
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		in := bufio.NewReader(resp.Body)
		for range 10 {
			_, err := in.ReadString('\n')
			require.NoError(t, err)
		}
		_, err = d.trains.RevokeKey(context.Background(), d.admin, "web", d.keyID, "")
		require.NoError(t, err)
		revoked := time.Now()
		rest, err := io.ReadAll(in)
		require.Less(t, time.Since(revoked), time.Second)
		if err == nil { // the cut fell between two events
			require.Contains(t, string(rest), "event: error")
			require.Contains(t, string(rest), "authentication_error")
		}
		status, _, _ := d.do(d.request(hello))
		require.Equal(t, 401, status)
		require.Equal(t, "revoked 200", d.results(1)[0])
	})
}

func TestDraining(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		resp, err := d.client.Do(d.request(`{"model":"fake-stream-20-slow-20","stream":true,"max_tokens":50,"messages":[{"role":"user","content":"hello"}]}`))
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		d.broker.Drain()
		status, body, header := d.do(d.request(hello))
		require.Equal(t, 503, status)
		kind, _ := errorOf(t, body)
		require.Equal(t, "api_error", kind)
		require.Equal(t, "true", header.Get("X-Should-Retry"))
		require.Equal(t, "1", header.Get("Retry-After"))
		require.EqualValues(t, 1, d.broker.InFlight())
		require.EqualValues(t, 1, d.broker.Refusals()["draining"])
		whole, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Contains(t, string(whole), "event: message_stop", "an open stream goes on")
	})
}

func TestKeylessNeedsItsSwitch(t *testing.T) {
	anonymous := func(d *door) *http.Request {
		r := d.request(hello)
		r.Header.Del("X-Api-Key")
		return r
	}
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		status, body, header := d.do(anonymous(d))
		require.Equal(t, 401, status)
		kind, message := errorOf(t, body)
		require.Equal(t, "authentication_error", kind)
		require.Contains(t, message, "signalbox connect")
		require.Equal(t, `Bearer realm="Signalbox"`, header.Get("WWW-Authenticate"))
	})
	each(t, doorOptions{keyless: true}, func(t *testing.T, d *door) {
		status, body, _ := d.do(anonymous(d))
		require.Equal(t, 200, status, body)
		r := anonymous(d)
		r.Header.Set("MSL-Train-Id", "nowhere")
		status, _, _ = d.do(r)
		require.Equal(t, 401, status)
		bad := anonymous(d)
		bad.Header.Set("X-Api-Key", "sbx_live_wrong")
		status, _, _ = d.do(bad)
		require.Equal(t, 401, status, "a wrong key is not the same as none")
		e := d.events()[0]
		require.Equal(t, "anonymous", e.Actor.Kind)
	})
}

func TestBadRequests(t *testing.T) {
	each(t, doorOptions{bodyLimit: 4096}, func(t *testing.T, d *door) {
		marker := "marker-7f3c"
		for _, c := range []struct {
			name   string
			change func(r *http.Request)
			body   string
			status int
			kind   string
		}{
			{"unknown path", func(r *http.Request) { r.URL.Path = "/v1/" + marker }, hello, 404, "not_found_error"},
			{"dots", func(r *http.Request) { r.URL.Opaque = "/v1/models/../messages" }, hello, 404, "not_found_error"},
			{"encoded slash", func(r *http.Request) { r.URL.Opaque = "/v1%2fmessages" }, hello, 404, "not_found_error"},
			{"double slash", func(r *http.Request) { r.URL.Opaque = "/v1//messages" }, hello, 404, "not_found_error"},
			{"wrong method", func(r *http.Request) { r.Method = http.MethodPut }, hello, 405, "invalid_request_error"},
			{"too large", nil, `{"x":"` + strings.Repeat(marker, 1000) + `"}`, 413, "request_too_large"},
			{"model twice", nil, `{"model":"` + marker + `","model":"x"}`, 400, "invalid_request_error"},
			{"garbage key", func(r *http.Request) { r.Header.Set("X-Api-Key", "sbx_live_"+marker) }, hello, 401, "authentication_error"},
			{"other train", func(r *http.Request) { r.Header.Set("MSL-Train-Id", marker) }, hello, 403, "permission_error"},
			{"other account", func(r *http.Request) { r.Header.Set("MSL-Account", marker) }, hello, 403, "permission_error"},
		} {
			r := d.request(c.body)
			if c.change != nil {
				c.change(r)
			}
			status, body, _ := d.do(r)
			require.Equal(t, c.status, status, c.name)
			kind, message := errorOf(t, body)
			require.Equal(t, c.kind, kind, c.name)
			require.NotContains(t, message, marker, c.name)
		}
		require.Zero(t, d.line.seen)
		require.NotContains(t, d.log.String(), marker, "nothing that a client sent stands in the log")
		// What is no JSON at all is the upstream's to judge.
		status, _, _ := d.do(d.request("not json"))
		require.Equal(t, 400, status)
		require.Equal(t, 1, d.line.seen)
	})
}

// TestSlowBodyIsGivenUp is a client that announces a body and sends nothing; the deadline is shortened by closing the line instead.
func TestBodyThatEndsEarly(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		pr, pw := io.Pipe()
		r, err := http.NewRequest(http.MethodPost, d.url+"/v1/messages", pr)
		require.NoError(t, err)
		r.Header.Set("X-Api-Key", d.key)
		go func() {
			_, _ = pw.Write([]byte(`{"model":`))
			_ = pw.CloseWithError(io.ErrClosedPipe)
		}()
		_, err = d.client.Do(r)
		require.Error(t, err)
		require.Eventually(t, func() bool { return d.broker.InFlight() == 0 }, 5*time.Second, 10*time.Millisecond)
		require.Zero(t, d.line.seen)
	})
}

func TestKeyOfAnotherShapeIsAcceptedByHash(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		old := secret.FromString("cnp_live_" + strings.Repeat("a1B2", 8))
		_, err := d.trains.ImportKey(context.Background(), d.admin, "web", identity.KeyDraft{Name: "imported"}, old)
		require.NoError(t, err)
		r := d.request(hello)
		r.Header.Set("X-Api-Key", old.Reveal())
		status, body, _ := d.do(r)
		require.Equal(t, 200, status, body)
	})
}

// TestTricklingRefusalDoesNotHoldUpTheNextAccount has an upstream that begins a 500 and never ends it.
func TestTricklingRefusalDoesNotHoldUpTheNextAccount(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		release := make(chan struct{})
		trickle := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(500)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}))
		defer trickle.Close()
		defer close(release)
		d.account("web", "trickle", trickle.URL, 0)
		start := time.Now()
		status, _, _ := d.do(d.request(hello))
		require.Equal(t, 200, status)
		require.Less(t, time.Since(start), 10*time.Second)
	})
}

// TestInvariant05NoTransactionAcrossOutboundIO makes requests of every kind through a transport that looks at its own call stack, and then
// one from inside a transaction, which it must notice.
func TestInvariant05NoTransactionAcrossOutboundIO(t *testing.T) {
	each(t, doorOptions{accounts: 3}, func(t *testing.T, d *door) {
		d.up.SetKeyBehaviour(d.secrets[0], demo.Status(500))
		d.up.SetKeyBehaviour(d.secrets[1], demo.Status(429))
		d.account("web", "dead", "http://127.0.0.1:1", 0)
		for range 5 {
			status, _, _ := d.do(d.request(hello))
			require.Equal(t, 200, status)
		}
		require.GreaterOrEqual(t, d.line.seen, 8)
		require.Empty(t, d.line.held)

		require.NoError(t, d.db.Read(context.Background(), func(tx *store.Tx) error {
			r, err := http.NewRequest(http.MethodGet, d.upURL+"/v1/models", nil)
			require.NoError(t, err)
			resp, err := d.line.RoundTrip(r)
			require.NoError(t, err)
			return resp.Body.Close()
		}))
		require.Len(t, d.line.held, 1, "the control: the check must be able to fail")
		d.line.held = nil
	})
}
