package outbound

import "net/netip"

// reserved is a network that no public service lives in, with the word that a refusal uses for it.
type reserved struct {
	prefix netip.Prefix
	class  string
}

// The IPv4 rows follow IANA's special-purpose registry (RFC 6890 and its updates) plus the platform address of one cloud that lies in
// public space. More specific rows come first, because the first match names the class.
var reserved4 = [...]reserved{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared carrier space"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("168.63.129.16/32"), "cloud metadata"},
	{netip.MustParsePrefix("169.254.169.254/32"), "cloud metadata"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "tunnel relay"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
}

// In IPv6 only 2000::/3 is global unicast, so everything else is refused without a list; these rows name the common cases and cut the
// special blocks out of 2000::/3. Teredo (2001::/32) and 6to4 (2002::/16) are refused whole: they embed IPv4 addresses, are long
// deprecated, and no service is published there.
var reserved6 = [...]reserved{
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "cloud metadata"},
	{netip.MustParsePrefix("fc00::/7"), "private"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fec0::/10"), "site-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("2001::/32"), "tunnelled IPv4"},
	{netip.MustParsePrefix("2001::/23"), "protocol assignments"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
	{netip.MustParsePrefix("2002::/16"), "tunnelled IPv4"},
	{netip.MustParsePrefix("3fff::/20"), "documentation"},
}

var (
	global6 = netip.MustParsePrefix("2000::/3")
	// nat64 is the well-known translation prefix (RFC 6052). A host on an IPv6-only network reaches every IPv4 service through it, so
	// the embedded address decides.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

// classify returns "" for a public unicast address and the word for its kind otherwise. What it does not know is not public.
func classify(a netip.Addr) string {
	a = a.WithZone("").Unmap()
	switch {
	case !a.IsValid():
		return "invalid"
	case a.Is4():
		return find(reserved4[:], a)
	case nat64.Contains(a):
		return classify(tail4(a))
	}
	if class := find(reserved6[:], a); class != "" {
		return class
	}
	if !global6.Contains(a) {
		return "reserved"
	}
	if isatap(a) {
		return classify(tail4(a))
	}
	return ""
}

func find(table []reserved, a netip.Addr) string {
	for i := range table {
		if table[i].prefix.Contains(a) {
			return table[i].class
		}
	}
	return ""
}

// tail4 returns the IPv4 address in the last 32 bits.
func tail4(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

// isatap recognises the interface identifier 0000:5efe or 0200:5efe of RFC 5214, which carries an IPv4 address behind any prefix.
func isatap(a netip.Addr) bool {
	b := a.As16()
	return b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}
