// Package outbound is the only way out: every connection that Signalbox opens to another host is dialled here.
//
// Promise: a connection is opened only to a public address, or to one that the operator allowed. The address that counts is the one
// really dialled, looked at after name resolution and just before connect(2), so a name that changes its answer between a check and the
// dial (DNS rebinding) gains nothing. Plain http is refused unless the host is allowed by name. No redirect is followed, no proxy is
// taken from the environment, every wait has a deadline, and [ReadCapped] bounds what is read.
//
// What an entry of the allow list admits:
//
//   - a host or an IP address admits URLs that name exactly that host, on every port; host:port on that port only. The host may then
//     resolve to any address and may be spoken to in plain http. Another name that resolves to the same address is not admitted.
//   - a network (CIDR) admits every dialled address in it, by whatever name it was reached, and plain http to literal addresses in it.
//     Plain http to a name needs that name in the list, because what the name resolves to is not known when the URL is accepted.
//
// Limits: the guard knows the well-known translation prefixes (IPv4-mapped, NAT64, 6to4, Teredo, ISATAP); a site's own NAT64 prefix in
// public address space looks public to it. It guards TCP connections made through its transports; a clone of such a transport keeps the
// address guard but loses the check of plain http, so transports are not cloned.
//
// Invariants: the zero [Policy] allows nothing that is not public and https; an address or a form of host that is not understood is
// refused; no error text holds the URL or the host, which may carry a secret.
//
// Through a forward proxy ([Route]) the address of the upstream is the proxy's affair: the proxy's own is guarded instead, and only https goes through.
package outbound

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
)

// ErrRefused is in the chain of every refusal of the guard, of a URL by [Policy.CheckURL] as well as of an address at dial time.
var ErrRefused = errors.New("outbound: refused by the address guard")

// Policy says which upstreams besides public https ones may be called. It is immutable and safe for concurrent use; the zero value
// allows no others. Make it with [ParsePolicy].
type Policy struct {
	hosts map[target]struct{}
	nets  []netip.Prefix
}

// target is one allowed host; port 0 stands for every port.
type target struct {
	host host
	port uint16
}

// ParsePolicy reads an allow list, as it stands in SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS: each entry is a host, an IP address, either with
// a port, or a CIDR network. Empty entries are skipped. The error names the entry by its place, never by its text.
func ParsePolicy(allow []string) (Policy, error) {
	p := Policy{hosts: map[target]struct{}{}}
	for i, entry := range allow {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		if err := p.add(entry); err != nil {
			return Policy{}, fmt.Errorf("entry %d of the allowed upstreams: %w", i+1, err)
		}
	}
	return p, nil
}

var errEntry = errors.New("not a host, host:port or network; write for example 127.0.0.1, build.lan:9999 or 10.1.0.0/16, without a scheme or path")

func (p *Policy) add(entry string) error {
	if prefix, err := netip.ParsePrefix(entry); err == nil {
		p.nets = append(p.nets, unmapPrefix(prefix))
		return nil
	}
	// A bare IPv6 address has colons of its own, so it is tried before the port is cut off.
	if h, ok := parseHost(unbracket(entry)); ok {
		p.hosts[target{host: h}] = struct{}{}
		return nil
	}
	colon := strings.LastIndexByte(entry, ':')
	if colon < 0 {
		return errEntry
	}
	h, ok := parseHost(unbracket(entry[:colon]))
	port, err := parsePort(entry[colon+1:])
	if !ok || err != nil {
		return errEntry
	}
	p.hosts[target{host: h, port: port}] = struct{}{}
	return nil
}

// unmapPrefix makes an IPv4-mapped network the IPv4 network that it stands for, as addresses are unmapped before they are compared.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

// named reports whether the list names this host (with this port or with none).
func (p Policy) named(h host, port uint16) bool {
	if len(p.hosts) == 0 {
		return false
	}
	if _, ok := p.hosts[target{host: h, port: port}]; ok {
		return true
	}
	_, ok := p.hosts[target{host: h}]
	return ok
}

// inNets reports whether an allowed network holds the address.
func (p Policy) inNets(a netip.Addr) bool {
	for _, n := range p.nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// CheckURL refuses at once what no dial would be allowed to do: a scheme other than https (and http where the host is allowed), a URL
// with a user name or password, without a host or with a host in an unusual form, and a literal address that is not public. Names are
// resolved and judged at dial time only. The error is a [fault.Unprocessable] with code upstream_refused and matches [ErrRefused].
func (p Policy) CheckURL(u *url.URL) error {
	if u == nil || u.Opaque != "" {
		return refuse(detailHost)
	}
	scheme := strings.ToLower(u.Scheme)
	var port uint16
	switch scheme {
	case "https":
		port = 443
	case "http":
		port = 80
	default:
		return refuse(detailScheme)
	}
	if u.User != nil {
		return refuse(detailUser)
	}
	h, ok := parseHost(u.Hostname())
	if !ok {
		return refuse(detailHost)
	}
	if s := u.Port(); s != "" {
		n, err := parsePort(s)
		if err != nil {
			return refuse(detailPort)
		}
		port = n
	}
	if p.named(h, port) {
		return nil
	}
	if scheme == "http" && !(h.isLiteral() && p.inNets(h.addr())) {
		return refuse(detailScheme)
	}
	return p.checkHost(h)
}

// checkHost judges a host that the list does not name, as far as that is possible without resolving it.
func (p Policy) checkHost(h host) error {
	switch {
	case h.isLiteral():
		return p.checkAddr(h.addr())
	case h.isLocalhost():
		// RFC 6761: these names are loopback, whatever a resolver says.
		return refuseAddr("loopback")
	default:
		return nil
	}
}

// checkAddr judges an address of a host that the list does not name.
func (p Policy) checkAddr(a netip.Addr) error {
	a = a.WithZone("").Unmap()
	if class := classify(a); class != "" && !p.inNets(a) {
		return refuseAddr(class)
	}
	return nil
}

const (
	detailScheme = "An upstream must be an https URL. For plain http, allow its host by name in SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS."
	detailUser   = "An upstream URL must not hold a user name or password. Store them as secret fields of the credential."
	detailHost   = "The upstream URL has no usable host. Write a DNS name (in ASCII) or an IP address in its usual form."
	detailPort   = "The upstream URL has no usable port. Write a number from 1 to 65535, or leave it out."
)

func refuse(detail string) error {
	return fault.New(fault.Unprocessable, "upstream_refused", detail).Because(ErrRefused)
}

func refuseAddr(class string) error {
	return refuse("The upstream's address is not public (" + class + "). If Signalbox may call it, allow its host, host:port or network in SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS.")
}
