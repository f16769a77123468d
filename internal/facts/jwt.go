package facts

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/strict"
)

// JWT is what a signed token says of itself: the names that RFC 7519 registers for who made it, for whom, and when. They say as much as the
// metadata of any other credential does. The signature is what makes a token work, so no byte of it is here; jti is left out because some
// services revoke or replay by it; and claims of other names are left out because nobody but who made them knows what they hold.
type JWT struct {
	Algorithm string     `json:"algorithm,omitempty"`
	KeyID     string     `json:"key_id,omitempty"`
	Issuer    string     `json:"issuer,omitempty"`
	Subject   string     `json:"subject,omitempty"`
	Audience  []string   `json:"audience,omitempty"`
	IssuedAt  *time.Time `json:"issued_at,omitempty"`
	NotBefore *time.Time `json:"not_before,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

const (
	maxToken    = 64 << 10
	maxAudience = 20
)

// readToken takes a token apart without judging it; [internal/jwt] is for tokens that are to be believed. nil for anything else, an encrypted
// token among it.
func readToken(v secret.Value) *JWT {
	if v.Len() > maxToken {
		return nil
	}
	parts := strings.Split(strings.TrimSpace(v.Reveal()), ".")
	if len(parts) != 3 {
		return nil
	}
	header, ok := tokenPart(parts[0])
	if !ok {
		return nil
	}
	claims, ok := tokenPart(parts[1])
	if !ok {
		return nil
	}
	text := func(m map[string]any, name string) string {
		if s, ok := m[name].(string); ok && plain(s, maxText) {
			return s
		}
		return ""
	}
	out := &JWT{Algorithm: text(header, "alg"), KeyID: text(header, "kid"), Issuer: text(claims, "iss"), Subject: text(claims, "sub"),
		IssuedAt: instant(claims["iat"]), NotBefore: instant(claims["nbf"]), ExpiresAt: instant(claims["exp"])}
	if out.Algorithm == "" {
		return nil // every JWS names one
	}
	audience, _ := claims["aud"].([]any)
	if s := text(claims, "aud"); s != "" {
		audience = []any{s}
	}
	for _, a := range audience {
		if s, ok := a.(string); ok && plain(s, maxText) && len(out.Audience) < maxAudience {
			out.Audience = append(out.Audience, s)
		}
	}
	return out
}

func tokenPart(part string) (map[string]any, bool) {
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return nil, false
	}
	m, err := strict.Object(b)
	return m, err == nil
}

// instant reads seconds since 1970 (RFC 7519, NumericDate) between the years 2000 and 9999; anything else is a mistake in the unit.
func instant(v any) *time.Time {
	n, ok := v.(json.Number)
	if !ok {
		return nil
	}
	f, err := n.Float64()
	if err != nil || math.IsNaN(f) || f < 946684800 || f > 253402300799 {
		return nil
	}
	t := time.Unix(int64(f), 0).UTC()
	return &t
}
