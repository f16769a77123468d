package jwt

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Rules say what a token must be. What is not to be compared must be waived by name: an empty text matches nothing.
type Rules struct {
	// Algorithms are those that are accepted.
	Algorithms []string
	// Issuer is what "iss" must be, unless AnyIssuer is set.
	Issuer    string
	AnyIssuer bool
	// Audience must be among "aud", unless AnyAudience is set.
	Audience    string
	AnyAudience bool
	// Type is what "typ" must be ("at+jwt"). When it is empty, "JWT", "at+jwt" or nothing at all will do.
	Type string
	// MaxLife is how far ahead "exp" may be.
	MaxLife time.Duration
	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
}

// Verify returns the claims of a token that a key of the set has signed and that keeps to the rules. Every failure is an [Invalid].
func (r Rules) Verify(token string, set Set) (Claims, error) {
	u, err := Parse(token)
	if err != nil {
		return Claims{}, err
	}
	if r.Issuer == "" && !r.AnyIssuer || r.Audience == "" && !r.AnyAudience || r.MaxLife <= 0 {
		return Claims{}, invalid("the rules for this token are incomplete")
	}
	if !slices.Contains(r.Algorithms, u.Algorithm) {
		return Claims{}, invalid("the algorithm of the token is not one of those that its issuer may use")
	}
	if err := r.typed(u); err != nil {
		return Claims{}, err
	}
	key, err := set.find(u.KeyID, u.Algorithm)
	if err != nil {
		return Claims{}, err
	}
	now := time.Now
	if r.Clock != nil {
		now = r.Clock
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{u.Algorithm}), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(Leeway), jwt.WithTimeFunc(now),
		jwt.WithStrictDecoding(), jwt.WithJSONNumber(),
	}
	if !r.AnyIssuer {
		options = append(options, jwt.WithIssuer(r.Issuer))
	}
	if !r.AnyAudience {
		options = append(options, jwt.WithAudience(r.Audience))
	}
	if _, err := jwt.NewParser(options...).Parse(token, func(*jwt.Token) (any, error) { return key.open(), nil }); err != nil {
		return Claims{}, invalid(reason(err))
	}
	c := Claims{u.claims}
	return c, r.timed(c, now())
}

// typed holds the type of the token, so that a token for another use (a logout token, a proof of possession) is none for this one.
func (r Rules) typed(u Unverified) error {
	v, has := u.header["typ"]
	s, ok := v.(string)
	if has && !ok {
		return invalid("the type of the token is no text")
	}
	s = strings.TrimPrefix(strings.ToLower(s), "application/")
	if r.Type != "" {
		if s != r.Type {
			return invalid("the token is of another type than it must be")
		}
		return nil
	}
	if has && s != "jwt" && s != "at+jwt" {
		return invalid("the token is of a type for another use")
	}
	return nil
}

// timed holds the times more strictly than the library does: it forgives a wrong type of "nbf" and "iat", and lets expired tokens live a
// little longer.
func (r Rules) timed(c Claims, now time.Time) error {
	exp, ok := c.time("exp")
	if !ok {
		return invalid("the token does not say when it expires")
	}
	if !now.Before(exp) {
		return invalid("the token has expired")
	}
	if exp.After(now.Add(r.MaxLife + Leeway)) {
		return invalid("the token is valid for longer than its issuer may make it")
	}
	for _, name := range []string{"nbf", "iat"} {
		if _, has := c.m[name]; !has {
			continue
		}
		at, ok := c.time(name)
		if !ok {
			return invalid("a time of the token is no number of seconds")
		}
		if at.After(now.Add(Leeway)) {
			return invalid("the token is from the future")
		}
	}
	if _, has := c.m["cnf"]; has {
		return invalid("the token is bound to a key of its holder, which nobody proves here")
	}
	return nil
}

// reason names a failure of the library in words of ours: its own texts quote the token.
func reason(err error) string {
	for _, row := range []struct {
		err error
		why string
	}{
		{jwt.ErrTokenSignatureInvalid, "the signature does not verify"},
		{jwt.ErrTokenExpired, "the token has expired"},
		{jwt.ErrTokenRequiredClaimMissing, "a claim that must be there is missing"},
		{jwt.ErrTokenInvalidAudience, "the token is for another audience"},
		{jwt.ErrTokenInvalidIssuer, "the token is from another issuer"},
		{jwt.ErrTokenNotValidYet, "the token is from the future"},
		{jwt.ErrTokenUsedBeforeIssued, "the token is from the future"},
		{jwt.ErrTokenInvalidClaims, "a claim is of the wrong type"},
	} {
		if errors.Is(err, row.err) {
			return row.why
		}
	}
	return "the token is malformed"
}
