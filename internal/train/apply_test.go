package train_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// TestSecretsStayWithTheirHosts: whatever the request says, the secret goes to a bound host or nowhere.
func TestSecretsStayWithTheirHosts(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Priority)
		caller, _ := y.key("web")
		add := func(name, base string, hosts []string) string {
			c, err := y.vault.Create(t.Context(), y.admin, vault.Draft{Type: vault.APIKey, Meta: vault.Meta{Name: name, Provider: "anthropic", BaseURL: base, Hosts: hosts},
				Secrets: secrets("api_key", "sk-"+planted)})
			require.NoError(t, err)
			y.link("web", c.ID)
			return c.ID
		}
		add("public", "https://api.anthropic.com", []string{"api.anthropic.com", "relay.example.com:8443", "xn--bcher-kva.example"})
		add("local", "http://127.0.0.1:9999/base", nil)
		add("six", "https://[2001:db8::1]:8443", nil)
		for _, c := range []struct {
			account, url string
			bound        bool
		}{
			{"public", "https://api.anthropic.com/v1/messages?beta=true", true},
			{"public", "https://API.Anthropic.COM/v1", true},
			{"public", "https://api.anthropic.com:443/v1", true},
			{"public", "https://relay.example.com:8443/v1", true},
			{"public", "https://xn--bcher-kva.example/", true},
			{"public", "https://api.anthropic.com:8443/", false},
			{"public", "https://api.anthropic.com:80/", false},
			{"public", "https://relay.example.com/", false},
			{"public", "http://api.anthropic.com/", false},
			{"public", "http://api.anthropic.com:443/", false},
			{"public", "ftp://api.anthropic.com/", false},
			{"public", "HTTPS://api.anthropic.com/", true},
			{"public", "https://api.anthropic.com./", false},
			{"public", "https://api.anthropic.com.evil.example/", false},
			{"public", "https://evil.example/api.anthropic.com", false},
			{"public", "https://api.anthropic.com@evil.example/", false},
			{"public", "https://user@api.anthropic.com/", false},
			{"public", "https://user:pw@api.anthropic.com/", false},
			{"public", "https://sub.api.anthropic.com/", false},
			{"public", "https://anthropic.com/", false},
			{"public", "https://[::ffff:1.2.3.4]/", false},
			{"public", "//api.anthropic.com/", false},
			{"public", "/v1/messages", false},
			{"local", "http://127.0.0.1:9999/v1", true},
			{"local", "http://127.0.0.1:9998/v1", false},
			{"local", "http://127.0.0.1/v1", false},
			{"local", "http://localhost:9999/v1", false},
			{"local", "http://[::1]:9999/v1", false},
			{"six", "https://[2001:db8::1]:8443/", true},
			{"six", "https://[2001:db8::2]:8443/", false},
			{"six", "https://[2001:db8::1]/", false},
		} {
			w := want()
			w.Account = c.account
			l := y.lend(caller, w)
			req := request(t, c.url)
			err := l.Apply(req)
			if c.bound {
				require.NoError(t, err, c.url)
				require.Equal(t, "sk-"+planted, req.Header.Get("X-Api-Key"))
			} else {
				requireFault(t, "host_not_bound", err)
				require.Empty(t, req.Header, c.url)
			}
			l.Done(train.Outcome{Result: train.Refused})
		}
		w := want()
		w.Account = "public"
		l := y.lend(caller, w)
		// Another name in the Host header would let a shared front door hand the request to somebody else.
		req := request(t, "https://api.anthropic.com/")
		req.Host = "evil.example"
		requireFault(t, "host_not_bound", l.Apply(req))
		req.Host = "api.anthropic.com:8443"
		requireFault(t, "host_not_bound", l.Apply(req))
		req.Host = "API.anthropic.com"
		require.NoError(t, l.Apply(req))
		requireFault(t, "host_not_bound", l.Apply(&http.Request{URL: &url.URL{Scheme: "https", Host: "api.anthropic.com", Opaque: "//evil.example/x"}}))
		requireFault(t, "host_not_bound", l.Apply(&http.Request{}))
		// What is handed out is a copy.
		l.BaseURL().Host = "evil.example"
		require.Equal(t, "api.anthropic.com", l.BaseURL().Host)
		l.Done(train.Outcome{Result: train.OK})
	})
}

func TestApplyReplacesWhatTheClientSent(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, _ := y.line()
		y.link("web", y.oauth("oscar", y.clock.Now().Add(time.Hour)))
		inbound := func() *http.Request {
			req := request(t, "https://api.anthropic.com/v1/messages")
			req.Header["Authorization"] = []string{"Bearer client-1", "Bearer client-2"}
			req.Header["X-Api-Key"] = []string{"client-3", "client-4"}
			req.Header["Anthropic-Beta"] = []string{"tools-1, files-2", "tools-1,oauth-2025-04-20"}
			req.Header["X-Other"] = []string{"stays"}
			return req
		}
		w := want()
		w.Account = "alpha"
		l, req := y.lend(caller, w), inbound()
		require.NoError(t, l.Apply(req))
		require.Equal(t, http.Header{"X-Api-Key": {"sk-alpha-" + planted}, "Anthropic-Beta": {"tools-1, files-2", "tools-1,oauth-2025-04-20"}, "X-Other": {"stays"}}, req.Header)
		l.Done(train.Outcome{Result: train.OK})

		w.Account = "oscar"
		l, req = y.lend(caller, w), inbound()
		require.NoError(t, l.Apply(req))
		require.Equal(t, http.Header{"Authorization": {"Bearer at-oscar-" + planted}, "Anthropic-Beta": {"oauth-2025-04-20,tools-1,files-2"}, "X-Other": {"stays"}}, req.Header)
		l.Done(train.Outcome{Result: train.OK})
	})
}

// TestUnsendableSecretIsNotLent: net/http would refuse it only after the intent, for every request anew.
func TestUnsendableSecretIsNotLent(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, id := y.line()
		for _, bad := range []string{"sk-" + planted + "\nX-Evil: 1", " sk-" + planted, "sk-" + planted + "\x00"} {
			if _, err := y.vault.Rotate(t.Context(), y.admin, id, map[string]secret.Value{"api_key": secret.FromString(bad)}, "test"); err != nil {
				continue // the vault refused it already
			}
			y.refused("no_account", caller, want())
		}
	})
}
