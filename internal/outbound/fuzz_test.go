package outbound

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// FuzzGuard looks for URLs and addresses that the guard lets through although they are not public https.
func FuzzGuard(f *testing.F) {
	for _, s := range []string{
		"https://api.anthropic.com/v1", "http://127.0.0.1/", "https://[::ffff:7f00:1]/", "https://0x7f.1/", "https://2130706433/", "https://[fe80::1%25lo]/",
		"https://１２７.0.0.1/", "https://127.0.0.1./", "https://a@b/", "https://localhost.", "https://[64:ff9b::a00:1]:443", "//x",
	} {
		f.Add(s, []byte{127, 0, 0, 1})
	}
	f.Add("https://a/", netip.MustParseAddr("2002:7f00:1::").AsSlice())
	f.Add("https://a/", netip.MustParseAddr("fd00:ec2::254").AsSlice())
	f.Fuzz(func(t *testing.T, raw string, ip []byte) {
		fuzzURL(t, raw)
		if a, ok := netip.AddrFromSlice(ip); ok {
			fuzzAddr(t, a)
		}
		if _, err := ParsePolicy([]string{raw}); err != nil && !errors.Is(err, errEntry) {
			t.Fatalf("ParsePolicy(%q): %v", raw, err)
		}
	})
}

func fuzzURL(t *testing.T, raw string) {
	u, err := url.Parse(raw)
	if err != nil || (Policy{}).CheckURL(u) != nil {
		return
	}
	if !strings.EqualFold(u.Scheme, "https") || u.User != nil || u.Hostname() == "" {
		t.Fatalf("%q was let through", raw)
	}
	name := strings.TrimSuffix(u.Hostname(), ".")
	if a, err := netip.ParseAddr(name); err == nil && !plainlyPublic(a) {
		t.Fatalf("%q names %s and was let through", raw, a)
	}
	lower := strings.ToLower(name)
	if lower == "localhost" || strings.HasSuffix(lower, ".localhost") || strings.ContainsFunc(name, func(r rune) bool { return r > 127 }) {
		t.Fatalf("%q was let through", raw)
	}
	// What is accepted is accepted in every spelling of its letters.
	u.Host = strings.ToUpper(u.Host)
	if err := (Policy{}).CheckURL(u); err != nil {
		t.Fatalf("%q: upper case is refused: %v", raw, err)
	}
}

func fuzzAddr(t *testing.T, a netip.Addr) {
	class := classify(a)
	if class == "" && !plainlyPublic(a) {
		t.Fatalf("%s is taken for public", a)
	}
	// Each way to write the same IPv4 address gets the same verdict, or a refusal.
	if v4 := a.Unmap(); v4.Is4() {
		b := v4.As4()
		for _, wrapped := range []netip.Addr{
			netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}),
			netip.AddrFrom16([16]byte{0x00, 0x64, 0xff, 0x9b, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}),
		} {
			if got := classify(wrapped); got != class {
				t.Fatalf("%s is %q, but %s is %q", v4, class, wrapped, got)
			}
		}
		if classify(netip.AddrFrom16([16]byte{0x20, 0x02, b[0], b[1], b[2], b[3]})) == "" {
			t.Fatalf("6to4 of %s is taken for public", v4)
		}
	}
	if err := (Policy{}).checkAddr(a); (err == nil) != (class == "") {
		t.Fatalf("%s is %q, but the verdict is %v", a, class, err)
	}
}

// plainlyPublic is the standard library's opinion; the guard may be stricter, never laxer.
func plainlyPublic(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}
