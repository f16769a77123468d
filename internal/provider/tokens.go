package provider

import (
	"encoding/json"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/secret"
)

const (
	// maxToken bounds one token; the whole answer has 64 KiB.
	maxToken   = 32 << 10
	maxScopes  = 100 // as many as a credential keeps
	maxScope   = 255
	maxSubject = 255
	// oddLifetime is for an access token whose expires_in makes no sense (zero, negative, no number): short enough to be refreshed soon, long
	// enough not to be refreshed all the time.
	oddLifetime = time.Hour
)

// holder is the object of an answer that holds the tokens; nil when there is none.
func (p Provider) holder(body map[string]any) map[string]any {
	if _, has := body["access_token"]; has {
		return body
	}
	if p.Shape.Under == "" {
		return nil
	}
	inner, ok := body[p.Shape.Under].(map[string]any)
	if _, has := inner["access_token"]; !ok || !has {
		return nil
	}
	return inner
}

// readTokens reads the answer of a token endpoint. code says why it is none, "" when it is. What is not needed to use the tokens is read
// leniently: to lose a pair that was just issued because of an odd expires_in would cost the grant.
func (c *Client) readTokens(p Provider, body map[string]any) (t Tokens, code string) {
	from := p.holder(body)
	if from == nil {
		return Tokens{}, CodeUnreadable
	}
	access, ok := from["access_token"].(string)
	if !ok || !visible(access, maxToken) {
		return Tokens{}, CodeUnreadable
	}
	// A server that issues anything but bearer tokens must say so (RFC 6749, section 5.1), and those that leave it out issue bearer tokens.
	if kind, has := from["token_type"]; has && kind != nil {
		word, ok := kind.(string)
		if !ok || !strings.EqualFold(word, "bearer") && !slices.Contains(p.Shape.TokenTypes, word) {
			return Tokens{}, CodeTokenType
		}
	}
	t.Access = secret.FromString(access)
	switch refresh := from["refresh_token"].(type) {
	case nil:
	case string:
		if refresh != "" && !visible(refresh, maxToken) {
			return Tokens{}, CodeUnreadable
		}
		t.Refresh = secret.FromString(refresh)
	default:
		return Tokens{}, CodeUnreadable
	}
	t.Lifetime = c.lifetime(p, from)
	t.Scopes = p.scopes(from["scope"])
	t.Subject = p.subject(body)
	return t, ""
}

// visible reports whether s is 1 to most visible ASCII characters, as a header takes them.
func visible(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// lifetime reads expires_in: a number, or a text with one. Missing is the provider's usual; what makes no sense is that too, else an hour.
func (c *Client) lifetime(p Provider, from map[string]any) time.Duration {
	v, has := from["expires_in"]
	if !has || v == nil {
		return p.Lifetime
	}
	seconds, ok := number(v)
	if !ok || seconds <= 0 {
		if p.Lifetime > 0 {
			return p.Lifetime
		}
		return oddLifetime
	}
	if seconds >= c.cfg.Longest.Seconds() {
		return c.cfg.Longest
	}
	return max(time.Duration(seconds*float64(time.Second)), c.cfg.Shortest)
}

func number(v any) (float64, bool) {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = strings.TrimSpace(v)
	default:
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	if math.IsInf(n, 0) { // more than a float holds: the cap
		err = nil
	}
	return n, err == nil && !math.IsNaN(n)
}

// scopes reads a text or a list. What cannot be read is as if it were not there.
func (p Provider) scopes(v any) []string {
	var list []string
	switch v := v.(type) {
	case string:
		list = strings.FieldsFunc(v, func(r rune) bool { return r == ' ' || p.ScopeSeparator != "" && r == rune(p.ScopeSeparator[0]) })
	case []any:
		for _, one := range v {
			s, ok := one.(string)
			if !ok {
				return nil
			}
			list = append(list, s)
		}
	}
	if len(list) == 0 || len(list) > maxScopes || slices.ContainsFunc(list, func(s string) bool { return !visible(s, maxScope) }) {
		return nil
	}
	return list
}

func (p Provider) subject(body map[string]any) string {
	for _, path := range p.Shape.Subject {
		if s, ok := at(body, path).(string); ok && line(s, maxSubject) {
			return s
		}
	}
	return ""
}

// line reports whether s is 1 to most bytes of one printable line.
func line(s string, most int) bool {
	return s != "" && len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// formObject reads a form, each of whose fields must stand once.
func formObject(text string) (map[string]any, bool) {
	values, err := url.ParseQuery(text)
	if err != nil || !utf8.ValidString(text) {
		return nil, false
	}
	out := make(map[string]any, len(values))
	for name, list := range values {
		if len(list) != 1 || !utf8.ValidString(list[0]) {
			return nil, false
		}
		out[name] = list[0]
	}
	return out, true
}

// readDevice reads the answer of a device authorization endpoint (RFC 8628, section 3.2).
func readDevice(body map[string]any) (DeviceGrant, bool) {
	code, _ := body["device_code"].(string)
	user, _ := body["user_code"].(string)
	where, _ := body["verification_uri"].(string)
	if where == "" { // the name before the RFC, which Google kept
		where, _ = body["verification_url"].(string)
	}
	filled, _ := body["verification_uri_complete"].(string)
	if !visible(code, maxToken) || !line(user, 64) || !browsable(where) {
		return DeviceGrant{}, false
	}
	if !browsable(filled) {
		filled = ""
	}
	g := DeviceGrant{DeviceCode: secret.FromString(code), UserCode: user, VerifyURL: where, VerifyURLFilled: filled}
	g.Lifetime = seconds(body["expires_in"], 10*time.Minute, time.Minute, time.Hour)
	g.Interval = seconds(body["interval"], 5*time.Second, time.Second, time.Minute)
	return g, true
}

func seconds(v any, usual, least, most time.Duration) time.Duration {
	n, ok := number(v)
	if !ok || n <= 0 {
		return usual
	}
	return time.Duration(min(max(n, least.Seconds()), most.Seconds()) * float64(time.Second))
}

// browsable reports whether a person may be sent to an address: https, or http as test servers on this machine have it.
func browsable(address string) bool {
	u, err := url.Parse(address)
	return err == nil && len(address) <= 2048 && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && visible(address, 2048)
}
