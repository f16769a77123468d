package stray

import (
	"math"
	"regexp"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
)

// kind is one way in which a value shows that it is a credential.
type kind struct {
	name                 string
	find                 *regexp.Regexp // what of the value is the credential; nil for all of it
	typ, field, provider string
}

// kinds are the known forms, the telling ones first.
var kinds = [...]kind{
	{"a private key", regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*`), "ssh_key", "private_key", ""},
	{"an Anthropic access token", regexp.MustCompile(`\bsk-ant-oat\d\d-[\w-]{16,}`), "oauth", "access_token", "anthropic"},
	{"an Anthropic refresh token", regexp.MustCompile(`\bsk-ant-ort\d\d-[\w-]{16,}`), "oauth", "refresh_token", "anthropic"},
	{"an Anthropic API key", regexp.MustCompile(`\bsk-ant-[\w-]{16,}`), "api_key", "api_key", "anthropic"},
	{"an API key (sk-)", regexp.MustCompile(`\bsk-[A-Za-z0-9][\w-]{15,}`), "api_key", "api_key", ""},
	{"a GitHub token", regexp.MustCompile(`\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})`), "api_key", "api_key", "github"},
	{"a GitLab token", regexp.MustCompile(`\bglpat-[\w-]{16,}`), "api_key", "api_key", "gitlab"},
	{"a Slack token", regexp.MustCompile(`\bxox[abeoprs]-[A-Za-z0-9-]{10,}`), "api_key", "api_key", "slack"},
	{"an AWS access key id", regexp.MustCompile(`\b(AKIA|ASIA)[A-Z0-9]{16}\b`), "api_key", "api_key", "aws"},
	{"a Google API key", regexp.MustCompile(`\bAIza[\w-]{30,}`), "api_key", "api_key", "google"},
	{"a Stripe key", regexp.MustCompile(`\b[rs]k_live_[A-Za-z0-9]{16,}`), "api_key", "api_key", "stripe"},
	{"an npm token", regexp.MustCompile(`\bnpm_[A-Za-z0-9]{30,}`), "api_key", "api_key", "npm"},
	{"a Signalbox token", regexp.MustCompile(`\bsbp_[A-Za-z0-9]{20,}`), "", "", ""},
	{"a signed token (JWT)", regexp.MustCompile(`\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}`), "jwt", "token", ""},
	{"a connection string with its password", regexp.MustCompile(`\b[a-z][a-z0-9+.-]*://[^\s:@/'"]*:[^\s@/'"]{3,}@[^\s'"]+`), "connection_string", "connection_string", ""},
}

var (
	clientKey   = regexp.MustCompile(`\bsbx_live_`)
	tellingKey  = regexp.MustCompile(`(?i)(^|[_.\-]|[a-z])(api_?key|key|token|secret|credentials?)$`)
	tellingPass = regexp.MustCompile(`(?i)(passw(or)?d|passphrase|passwd|_pass)$`)
	placeholder = regexp.MustCompile(`(?i)^[$<{%]|\$\{|your|example|change.?me|placeholder|\bdummy\b|^(x+|\*+|\.+)$|\.\.\.`)
	urlPassword = regexp.MustCompile(`://[^\s:@/]*:([^\s@/]*)@`)
	tellingAuth = regexp.MustCompile(`(?i)authorization$`)
	bearer      = regexp.MustCompile(`(?i)^(?:bearer|token)\s+\S{16,}$`)
	lastWord    = regexp.MustCompile(`\S+$`)
	notRandom   = regexp.MustCompile(`^(~|/|\./|\.\./|[a-z]+://)|\s`)
)

// classify says what a value looks like. Signalbox's own client keys are meant to lie there.
func classify(name, text string) (kind, bool) {
	if len(text) < 8 || clientKey.MatchString(text) {
		return kind{}, false
	}
	for _, k := range kinds {
		got := k.find.FindString(text)
		if got == "" {
			continue
		}
		judged := got
		if m := urlPassword.FindStringSubmatch(got); m != nil {
			judged = m[1]
		}
		if placeholder.MatchString(judged) {
			return kind{}, false
		}
		return k, true
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	if placeholder.MatchString(text) {
		return kind{}, false
	}
	if tellingAuth.MatchString(last) && bearer.MatchString(text) && entropy(text) >= 3 {
		return kind{"a token in a header", lastWord, "api_key", "api_key", ""}, true
	}
	if notRandom.MatchString(text) {
		return kind{}, false
	}
	switch {
	case tellingPass.MatchString(last):
		return kind{name: "a password", typ: "password", field: "password"}, true
	case tellingKey.MatchString(last) && len(text) >= 16 && entropy(text) >= 3:
		return kind{name: "a random value with a telling name", typ: "api_key", field: "api_key"}, true
	}
	return kind{}, false
}

// Judge says what the value of a variable looks like, and takes out of it what is the credential. Line and File of the finding are empty, and so
// is its Name when it may not be shown. It returns false for what looks like no credential.
func Judge(name string, value secret.Value) (Finding, secret.Value, bool) {
	text := value.Reveal()
	k, ok := classify(name, text)
	if !ok {
		return Finding{Name: shown(name)}, secret.Value{}, false
	}
	if k.find != nil {
		text = k.find.FindString(text)
	}
	return Finding{Name: shown(name), Kind: k.name, Type: k.typ, Field: k.field, Provider: k.provider}, secret.FromString(text), true
}

// entropy is Shannon's, in bits a character: words of a language repeat letters, keys hardly.
func entropy(s string) float64 {
	seen := map[rune]float64{}
	n := 0.0
	for _, r := range s {
		seen[r]++
		n++
	}
	bits := 0.0
	for _, c := range seen {
		bits -= c / n * math.Log2(c/n)
	}
	return bits
}

var harmless = regexp.MustCompile(`^[A-Za-z0-9_./@-]{1,200}$`)

// shown is the name if it may be printed. Files of settings have keys that are credentials themselves.
func shown(name string) string {
	if !harmless.MatchString(name) || clientKey.MatchString(name) {
		return ""
	}
	for _, k := range kinds {
		if k.find.MatchString(name) {
			return ""
		}
	}
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return strings.ContainsRune("./@-", r) }) {
		if len(part) > 40 || len(part) >= 16 && entropy(part) >= 3.5 && strings.ContainsAny(part, "0123456789") {
			return "" // as random as a value
		}
	}
	return name
}
