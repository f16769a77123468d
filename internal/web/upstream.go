package web

import (
	"net/url"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// upstreamInputs are the fields that say how an account's requests go out.
func upstreamInputs(u vault.Upstream) []ui.Field {
	seconds := func(name, label string, value int, most, hint string) ui.Field {
		return ui.Field{Name: name, Label: label, Type: "number", Min: "0", Max: most, Value: numberOr(value), Optional: true, Hint: hint}
	}
	text := func(name, label, value string, most int, hint string) ui.Field {
		return ui.Field{Name: name, Label: label, Value: value, MaxLength: most, Hint: hint, Autocomplete: "off", Optional: true}
	}
	bundle := text("upstream/ca_bundle", "Certificates that are trusted", u.CABundle, 32768, "Of accounts only. In PEM; the system's own authorities are then not trusted for the upstream.")
	bundle.Rows = 4
	return []ui.Field{
		seconds("upstream/connect_timeout_seconds", "Seconds to connect", u.ConnectTimeout, "60", "Of accounts only; the server's own time when it is left out."),
		seconds("upstream/response_timeout_seconds", "Seconds until an answer begins", u.ResponseTimeout, "3600", ""), bundle,
		text("upstream/proxy_url", "Outbound proxy", u.ProxyURL, 2048, "Such as https://proxy.example.com:3128. Only an https upstream is reached through it. Its password is the secret field proxy_password: rotate the credential to set it."),
		text("upstream/proxy_username", "User name at the proxy", u.ProxyUsername, 255, ""),
	}
}

// upstreamPosted reads the fields that [upstreamInputs] has.
func upstreamPosted(form url.Values) vault.Upstream {
	whole := func(name string) int {
		text := form.Get("upstream/" + name)
		if text == "" {
			return 0
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return -1 // the vault says what it must be
		}
		return n
	}
	return vault.Upstream{ConnectTimeout: whole("connect_timeout_seconds"), ResponseTimeout: whole("response_timeout_seconds"), CABundle: strings.ReplaceAll(form.Get("upstream/ca_bundle"), "\r\n", "\n"),
		ProxyURL: form.Get("upstream/proxy_url"), ProxyUsername: form.Get("upstream/proxy_username")}
}

// upstreamEdit is a patch that says all of it.
func upstreamEdit(u vault.Upstream) vault.UpstreamPatch {
	return vault.UpstreamPatch{ConnectTimeout: vault.To(u.ConnectTimeout), ResponseTimeout: vault.To(u.ResponseTimeout), CABundle: vault.To(u.CABundle), ProxyURL: vault.To(u.ProxyURL), ProxyUsername: vault.To(u.ProxyUsername)}
}

// upstreamFacts say what of it is not the server's own.
func upstreamFacts(u vault.Upstream) (out []ui.Fact) {
	fact := func(term, value string) {
		if value != "" {
			out = append(out, ui.Fact{Term: term, Value: ui.Text(value)})
		}
	}
	span := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n) + " s"
	}
	fact("Time to connect", span(u.ConnectTimeout))
	fact("Time until an answer", span(u.ResponseTimeout))
	if n := strings.Count(u.CABundle, "-----BEGIN"); n > 0 {
		fact("Trusts", strconv.Itoa(n)+" certificate(s) of its own, and no other authority")
	}
	fact("Outbound proxy", u.ProxyURL)
	fact("User name at the proxy", u.ProxyUsername)
	return out
}
