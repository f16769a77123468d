package provider

import (
	"net/url"
	"slices"
	"strings"
)

// Authenticate is what a resource says when it refuses a request for want of a token (RFC 6750, section 3, and RFC 9728, section 5.1).
type Authenticate struct {
	// ResourceMetadata is where the resource describes itself; "" when it does not say. It is an absolute https or http address, and not yet
	// checked against the guard.
	ResourceMetadata string
	// Scopes that the request would need; nil when it does not say.
	Scopes []string
	// Error is of [Codes]; "" when the request held no token.
	Error string
}

// ParseAuthenticate reads the lines of WWW-Authenticate and returns their Bearer challenge. It is false when there is none, when a line is not of
// the grammar of RFC 9110, section 11.6.1, or when two Bearer challenges name two descriptions: whose would it be?
func ParseAuthenticate(lines []string) (Authenticate, bool) {
	var out Authenticate
	found := false
	for _, text := range lines {
		if len(text) > maxQuery {
			return Authenticate{}, false
		}
		list, ok := challenges(text)
		if !ok {
			return Authenticate{}, false
		}
		for _, one := range list {
			if !strings.EqualFold(one.scheme, "bearer") {
				continue
			}
			c, ok := one.bearer()
			if !ok || found && c.ResourceMetadata != "" && out.ResourceMetadata != "" && c.ResourceMetadata != out.ResourceMetadata {
				return Authenticate{}, false
			}
			if !found || out.ResourceMetadata == "" && c.ResourceMetadata != "" {
				out = c
			}
			found = true
		}
	}
	return out, found
}

// challenge is one of a line.
type challenge struct {
	scheme string
	params map[string]string // names in lower case
}

func (c challenge) bearer() (Authenticate, bool) {
	var out Authenticate
	if where, has := c.params["resource_metadata"]; has {
		u, err := url.Parse(where)
		if err != nil || u.Fragment != "" || !browsable(where) {
			return Authenticate{}, false
		}
		out.ResourceMetadata = where
	}
	if scope, has := c.params["scope"]; has {
		out.Scopes = Provider{}.scopes(scope)
	}
	if word, has := c.params["error"]; has {
		out.Error = CodeOther
		if slices.Contains(errorCodes(), word) {
			out.Error = word
		}
	}
	return out, true
}

// challenges reads one line. Where a comma separates two challenges and where two parameters of one shows only by what follows it: a name and an
// equals sign are a parameter, a name and a space or an end are a scheme.
func challenges(text string) ([]challenge, bool) {
	s := scanner{rest: text}
	var list []challenge
	for {
		for s.skip(' ', '\t', ',') {
		}
		if s.rest == "" {
			return list, true
		}
		name := s.token()
		if name == "" {
			return nil, false
		}
		before := s.rest
		for s.skip(' ', '\t') {
		}
		if len(list) > 0 && strings.HasPrefix(s.rest, "=") {
			if !s.param(list[len(list)-1].params, name) {
				return nil, false
			}
			continue
		}
		c := challenge{scheme: name, params: map[string]string{}}
		list = append(list, c)
		if s.rest == "" || s.rest[0] == ',' {
			continue
		}
		if len(s.rest) == len(before) { // a scheme ends with a space
			return nil, false
		}
		if s.token68() {
			continue
		}
		name = s.token()
		for s.skip(' ', '\t') {
		}
		if name == "" || !s.param(c.params, name) {
			return nil, false
		}
	}
}

// scanner takes a header apart from its front.
type scanner struct{ rest string }

func (s *scanner) skip(set ...byte) bool {
	if s.rest == "" || !slices.Contains(set, s.rest[0]) {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) token() string {
	n := 0
	for n < len(s.rest) && tokenByte(s.rest[n]) {
		n++
	}
	out := s.rest[:n]
	s.rest = s.rest[n:]
	return out
}

func tokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// token68 takes the single value that some schemes have instead of parameters.
func (s *scanner) token68() bool {
	n := 0
	for n < len(s.rest) && (tokenByte(s.rest[n]) && strings.IndexByte("!#$%&'*^`|", s.rest[n]) < 0 || s.rest[n] == '/') {
		n++
	}
	// What looks like a parameter is one: "a=b" goes on after the equals sign, "a=" and "a==" do not.
	after := strings.TrimLeft(strings.TrimLeft(s.rest[n:], "="), " \t")
	if n == 0 || after != "" && after[0] != ',' {
		return false
	}
	s.rest = after
	return true
}

// param takes = and a value, which may be quoted. A parameter stands once.
func (s *scanner) param(into map[string]string, name string) bool {
	name = strings.ToLower(name)
	if _, twice := into[name]; twice || !s.skip('=') {
		return false
	}
	for s.skip(' ', '\t') {
	}
	value, ok := "", true
	if s.skip('"') {
		value, ok = s.quoted()
	} else {
		value = s.token()
		ok = value != ""
	}
	into[name] = value
	for s.skip(' ', '\t') {
	}
	return ok && (s.rest == "" || s.rest[0] == ',')
}

func (s *scanner) quoted() (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			s.rest = s.rest[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(s.rest):
			i++
			b.WriteByte(s.rest[i])
		case c < ' ' && c != '\t' || c == 0x7f:
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
