package vault

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
)

// Upstream is how an account's requests go out; the zero value is the server's own way.
type Upstream struct {
	// ConnectTimeout and ResponseTimeout are in seconds: until a connection stands, and until the first byte of the answer.
	ConnectTimeout, ResponseTimeout int
	// CABundle are certificates in PEM, which alone are trusted for the upstream.
	CABundle string
	// ProxyURL is a forward proxy; its user name is here, its password is the secret field proxy_password.
	ProxyURL, ProxyUsername string
}

// UpstreamPatch is the merge patch of an [Upstream].
type UpstreamPatch struct {
	Clear                             bool // upstream: null
	ConnectTimeout, ResponseTimeout   Edit[int]
	CABundle, ProxyURL, ProxyUsername Edit[string]
}

// proxyPassword is the secret field that the proxy wants.
const proxyPassword = "proxy_password"

const (
	maxConnectTimeout  = 60
	maxResponseTimeout = 3600
	maxBundle          = 32 << 10
)

func (p UpstreamPatch) named() bool {
	return p.Clear || p.ConnectTimeout.IsSet() || p.ResponseTimeout.IsSet() || p.CABundle.IsSet() || p.ProxyURL.IsSet() || p.ProxyUsername.IsSet()
}

// wholly makes the patch say everything of where a secret goes: what it does not name is the server's own again, not what lies there.
func (p *UpstreamPatch) wholly() {
	for _, e := range []*Edit[string]{&p.CABundle, &p.ProxyURL, &p.ProxyUsername} {
		e.set = true
	}
}

func (p UpstreamPatch) merge(u Upstream) Upstream {
	if p.Clear {
		u = Upstream{}
	}
	p.ConnectTimeout.apply(&u.ConnectTimeout)
	p.ResponseTimeout.apply(&u.ResponseTimeout)
	p.CABundle.apply(&u.CABundle)
	p.ProxyURL.apply(&u.ProxyURL)
	p.ProxyUsername.apply(&u.ProxyUsername)
	return u
}

// leads reports whether anything of it decides where a secret goes.
func (u Upstream) leads() bool { return u.CABundle != "" || u.ProxyURL != "" || u.ProxyUsername != "" }

// sameWay reports whether a secret goes the same way by both.
func (u Upstream) sameWay(v Upstream) bool {
	return u.CABundle == v.CABundle && u.ProxyURL == v.ProxyURL && u.ProxyUsername == v.ProxyUsername
}

// Route is how requests of an account go out; nil is the server's own way.
func (u Upstream) Route(proxyPassword secret.Value) (*outbound.Route, error) {
	return outbound.NewRoute(outbound.RouteConfig{
		ConnectTimeout: time.Duration(u.ConnectTimeout) * time.Second, HeaderTimeout: time.Duration(u.ResponseTimeout) * time.Second, CABundle: u.CABundle,
		ProxyURL: u.ProxyURL, ProxyUser: u.ProxyUsername, ProxyPassword: proxyPassword,
	})
}

// Route is how requests with the material go out.
func (m Material) Route() (*outbound.Route, error) { return m.Upstream.Route(m.Secrets[proxyPassword]) }

// Route is how the try goes out.
func (t Trial) Route() (*outbound.Route, error) { return t.Upstream.Route(t.Secrets[proxyPassword]) }

func (r *Room) normaliseUpstream(row TypeRow, m *Meta, p *problems) {
	u := &m.Upstream
	if *u == (Upstream{}) {
		return
	}
	if !row.account(m.Provider) {
		for _, f := range []struct {
			name string
			set  bool
		}{{"connect_timeout_seconds", u.ConnectTimeout != 0}, {"response_timeout_seconds", u.ResponseTimeout != 0}, {"ca_bundle", u.CABundle != ""}, {"proxy_url", u.ProxyURL != ""}, {"proxy_username", u.ProxyUsername != ""}} {
			if f.set {
				p.add("/upstream/"+f.name, "is only for accounts: type api_key or oauth with an LLM provider such as anthropic")
			}
		}
		return
	}
	if u.ConnectTimeout < 0 || u.ConnectTimeout > maxConnectTimeout {
		p.add("/upstream/connect_timeout_seconds", "must be from 1 to "+number(maxConnectTimeout)+", or 0 for the server's own")
	}
	if u.ResponseTimeout < 0 || u.ResponseTimeout > maxResponseTimeout {
		p.add("/upstream/response_timeout_seconds", "must be from 1 to "+number(maxResponseTimeout)+", or 0 for the server's own")
	}
	base := baseURL(row, *m)
	plain := base != nil && base.Scheme != "https"
	if u.CABundle = strings.TrimSpace(u.CABundle); u.CABundle != "" {
		bundle, err := outbound.Certificates(u.CABundle)
		switch {
		case err != nil:
			p.add("/upstream/ca_bundle", err.Error())
		case len(bundle) > maxBundle: // longer in the form in which it is kept than as it came
			p.add("/upstream/ca_bundle", "is too long; at most "+number(maxBundle)+" characters with lines of 64")
		default:
			u.CABundle = bundle
		}
		if plain {
			p.add("/upstream/ca_bundle", "is only for an https base_url; nobody proves who answers at this one")
		}
	}
	if u.ProxyURL != "" {
		u.ProxyURL = r.proxy(u.ProxyURL, p)
		if plain {
			p.add("/upstream/proxy_url", "is only for an https base_url: the proxy connects in Signalbox's place, and nobody would prove who answers")
		}
	} else if u.ProxyUsername != "" {
		p.add("/upstream/proxy_username", "belongs to proxy_url, which is not set")
	}
	if strings.Contains(u.ProxyUsername, ":") {
		p.add("/upstream/proxy_username", "must not hold a colon")
	}
}

// followProxy settles what becomes of the stored password when the proxy changes: it was given for one, so that another gets it only where the patch says
// so, and it goes with the one that is taken away.
func (p Patch) followProxy(before, after Upstream, fields []string, bad *problems) Patch {
	_, named := p.Secrets[proxyPassword]
	if named || before.ProxyURL == after.ProxyURL || !slices.Contains(fields, proxyPassword) {
		return p
	}
	if after.ProxyURL != "" {
		bad.add("/secrets/"+proxyPassword, "was stored for another proxy: give it anew together with proxy_url, or null for none; taking the proxy away first clears it, too")
		return p
	}
	p.Secrets = maps.Clone(p.Secrets)
	if p.Secrets == nil {
		p.Secrets = map[string]*secret.Value{}
	}
	p.Secrets[proxyPassword] = nil
	if p.Reason == "" {
		p.Reason = "its outbound proxy was taken away"
	}
	return p
}

// proxy checks the URL of a forward proxy, which is called like any upstream.
func (r *Room) proxy(s string, p *problems) string {
	const pointer = "/upstream/proxy_url"
	s = r.upstream(pointer, s, p)
	if u, err := url.Parse(s); err == nil && u.Path != "" {
		p.add(pointer, "must have no path, such as https://proxy.example.com:3128")
	}
	return s
}
