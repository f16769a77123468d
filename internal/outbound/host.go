package outbound

import (
	"net/netip"
	"strings"
)

// host is the canonical form of what a URL, a dial or an allow list names: a lower-case DNS name without a trailing dot, or an address
// with IPv4-mapped IPv6 unmapped. It is comparable, so that "LOCALHOST." and "localhost", or "::ffff:127.0.0.1" and "127.0.0.1", are
// one host.
type host struct {
	name    string
	literal netip.Addr
}

func (h host) isLiteral() bool  { return h.literal.IsValid() }
func (h host) addr() netip.Addr { return h.literal }

func (h host) isLocalhost() bool {
	return h.name == "localhost" || strings.HasSuffix(h.name, ".localhost")
}

// parseHost reads a host without brackets and port. It refuses whatever two readers could understand differently: numbers that
// inet_aton(3) takes for an IPv4 address ("2130706433", "0x7f.1", "0177.0.0.1"), names outside ASCII (they are mapped before they are
// resolved, and full-width digits then become an address), and characters that no DNS name has.
func parseHost(s string) (host, bool) {
	if strings.IndexByte(s, ':') >= 0 {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return host{}, false
		}
		// A zone picks an interface of this machine, which means something for link-local addresses alone.
		if a.Zone() != "" && !a.IsLinkLocalUnicast() {
			return host{}, false
		}
		return host{literal: a.WithZone("").Unmap()}, true
	}
	s = strings.TrimSuffix(s, ".")
	if a, err := netip.ParseAddr(s); err == nil {
		return host{literal: a}, true
	}
	if s == "" || len(s) > 253 {
		return host{}, false
	}
	last := s
	for rest := s; ; {
		label, tail, more := strings.Cut(rest, ".")
		if !validLabel(label) {
			return host{}, false
		}
		if !more {
			last = label
			break
		}
		rest = tail
	}
	if numeric(last) {
		return host{}, false
	}
	return host{name: strings.ToLower(s)}, true
}

func validLabel(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// numeric reports whether a last label makes readers take the whole host for an IPv4 address (the URL standard's "ends in a number").
func numeric(label string) bool {
	if len(label) >= 2 && label[0] == '0' && label[1]|0x20 == 'x' {
		return strings.Trim(label[2:], "0123456789abcdefABCDEF") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

func unbracket(s string) string {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		return s[1 : len(s)-1]
	}
	return s
}
