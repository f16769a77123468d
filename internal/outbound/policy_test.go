package outbound

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
)

func mustPolicy(t testing.TB, allow ...string) Policy {
	t.Helper()
	p, err := ParsePolicy(allow)
	require.NoError(t, err)
	return p
}

func TestClassifyKnowsEveryKindOfAddressThatIsNotPublic(t *testing.T) {
	public := []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "168.63.129.15",
		"169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255",
		"198.20.0.0", "223.255.255.255", "::ffff:8.8.8.8",
		"2606:4700::1111", "2001:4860:4860::8888", "2a00:1450::1", "64:ff9b::8.8.8.8", "2606:4700::5efe:808:808",
	}
	for _, s := range public {
		require.Empty(t, classify(netip.MustParseAddr(s)), s)
	}
	refused := map[string]string{
		"0.0.0.0": "unspecified", "0.1.2.3": "unspecified", "0.255.255.255": "unspecified",
		"10.0.0.0": "private", "10.255.255.255": "private", "172.16.0.0": "private", "172.31.255.255": "private",
		"192.168.0.0": "private", "192.168.255.255": "private",
		"100.64.0.0": "shared carrier space", "100.127.255.255": "shared carrier space", "100.100.100.200": "shared carrier space",
		"127.0.0.1": "loopback", "127.255.255.255": "loopback",
		"169.254.0.0": "link-local", "169.254.169.254": "cloud metadata", "168.63.129.16": "cloud metadata", "169.254.170.2": "link-local",
		"192.0.0.0": "protocol assignments", "192.0.0.192": "protocol assignments", "192.0.2.1": "documentation", "198.51.100.9": "documentation",
		"203.0.113.255": "documentation", "192.88.99.1": "tunnel relay", "198.18.0.0": "benchmarking", "198.19.255.255": "benchmarking",
		"224.0.0.1": "multicast", "239.255.255.255": "multicast", "240.0.0.0": "reserved", "255.255.255.255": "reserved",
		"::": "unspecified", "::1": "loopback", "::127.0.0.1": "reserved", "::8.8.8.8": "reserved",
		"::ffff:127.0.0.1": "loopback", "::ffff:10.0.0.1": "private", "::ffff:169.254.169.254": "cloud metadata", "::ffff:0:127.0.0.1": "reserved",
		"64:ff9b::127.0.0.1": "loopback", "64:ff9b::10.1.2.3": "private", "64:ff9b::169.254.169.254": "cloud metadata", "64:ff9b::": "unspecified",
		"64:ff9b:1::8.8.8.8": "reserved", "64:ff9b:0:1::1": "reserved",
		"2002:7f00:1::": "tunnelled IPv4", "2002:a9fe:a9fe::1": "tunnelled IPv4", "2002:808:808::1": "tunnelled IPv4",
		"2001::1": "tunnelled IPv4", "2001:0:4136:e378:8000:63bf:3fff:fdd2": "tunnelled IPv4", "2001:2::1": "protocol assignments",
		"2001:10::1": "protocol assignments", "2001:20::1": "protocol assignments", "2001:db8::1": "documentation", "3fff::1": "documentation",
		"fc00::1": "private", "fd12:3456::1": "private", "fd00:ec2::254": "cloud metadata", "fe80::1": "link-local", "fe80::1%eth0": "link-local",
		"febf::1": "link-local", "fec0::1": "site-local", "ff02::1": "multicast", "100::1": "reserved", "5f00::1": "reserved", "4000::1": "reserved",
		"2606:4700::5efe:127.0.0.1": "loopback", "2606:4700::200:5efe:10.0.0.1": "private",
	}
	for s, class := range refused {
		require.Equal(t, class, classify(netip.MustParseAddr(s)), s)
	}
	require.Equal(t, "invalid", classify(netip.Addr{}))
}

func TestCheckURL(t *testing.T) {
	allow := []string{"127.0.0.1", " build.lan:9999 ", "", "10.1.0.0/16", "Intern.Example.", "[::1]:8080", "fd00:1::5", "192.168.7.7:81", "fe80::/10", "::ffff:172.16.0.0/112"}
	for _, tc := range []struct {
		url    string
		none   bool // accepted by the zero policy
		listed bool // accepted by the list above
	}{
		{"https://api.anthropic.com", true, true},
		{"https://api.anthropic.com:8443/v1?beta=true", true, true},
		{"HTTPS://API.Anthropic.com./", true, true},
		{"https://xn--bcher-kva.example/", true, true},
		{"https://under_score.example/", true, true},
		{"https://8.8.8.8/", true, true},
		{"https://[2606:4700::1111]/", true, true},
		{"https://127.com/", true, true},
		{"https://0x7f.com/", true, true},
		// plain http
		{"http://api.anthropic.com/", false, false},
		{"http://8.8.8.8/", false, false},
		{"http://127.0.0.1:8420/", false, true},
		{"http://127.0.0.1./", false, true},
		{"http://[::ffff:127.0.0.1]/", false, true},
		{"http://build.lan:9999/", false, true},
		{"http://build.lan/", false, false},
		{"http://BUILD.LAN.:9999/", false, true},
		{"http://intern.example:1/", false, true},
		{"http://sub.intern.example/", false, false},
		{"http://10.1.255.1/", false, true},
		{"http://10.2.0.1/", false, false},
		{"http://[::1]:8080/", false, true},
		{"http://[::1]/", false, false},
		{"http://[0:0:0:0:0:0:0:1]:8080/", false, true},
		{"http://[fd00:1::5]/", false, true},
		{"http://[fe80::1%25eth0]/", false, true},
		{"http://172.16.0.9/", false, true},
		{"http://172.16.1.9/", false, true},
		{"http://172.17.0.9/", false, false},
		{"http://192.168.7.7:81/", false, true},
		{"http://192.168.7.7/", false, false},
		// literal addresses that are not public
		{"https://127.0.0.1/", false, true},
		{"https://127.0.0.2/", false, false},
		{"https://0.0.0.0/", false, false},
		{"https://169.254.169.254/latest/meta-data", false, false},
		{"https://[::]/", false, false},
		{"https://[::1]:8080/", false, true},
		{"https://[::1]/", false, false},
		{"https://[::ffff:7f00:2]/", false, false},
		{"https://[64:ff9b::7f00:1]/", false, false},
		{"https://[2002:7f00:1::]/", false, false},
		{"https://[fd00:ec2::254]/", false, false},
		{"https://[2606:4700::1111%25eth0]/", false, false},
		{"https://localhost/", false, false},
		{"https://LocalHost./", false, false},
		{"https://a.localhost/", false, false},
		// forms that two readers understand differently
		{"https://2130706433/", false, false},
		{"https://0x7f000001/", false, false},
		{"https://0x7f.0.0.1/", false, false},
		{"https://0177.0.0.1/", false, false},
		{"https://127.1/", false, false},
		{"https://127.0.0.0x1/", false, false},
		{"https://127.0.0.1.0x/", false, false},
		{"https://256.1.1.1/", false, false},
		{"https://1.2.3.4.5/", false, false},
		{"https://017700000001/", false, false},
		{"https://１２７.0.0.1/", false, false},
		{"https://①②⑦.⓪.⓪.①/", false, false},
		{"https://bücher.example/", false, false},
		{"https://a..example/", false, false},
		{"https://.example/", false, false},
		{"https://./", false, false},
		{"https:///path", false, false},
		{"https://:443/", false, false},
		{"https://" + strings.Repeat("a", 64) + ".example/", false, false},
		{"https://" + strings.Repeat("a.", 127) + "example/", false, false},
		// the rest of the URL
		{"https://user@api.anthropic.com/", false, false},
		{"https://user:pw@127.0.0.1/", false, false},
		{"https://api.anthropic.com:0/", false, false},
		{"https://api.anthropic.com:65536/", false, false},
		{"https:api.anthropic.com", false, false},
		{"ftp://api.anthropic.com/", false, false},
		{"file:///etc/passwd", false, false},
		{"//api.anthropic.com/", false, false},
		{"api.anthropic.com", false, false},
		{"", false, false},
	} {
		u, err := url.Parse(tc.url)
		require.NoError(t, err, tc.url)
		for _, p := range []struct {
			policy Policy
			want   bool
		}{{Policy{}, tc.none}, {mustPolicy(t, allow...), tc.listed}} {
			err := p.policy.CheckURL(u)
			if p.want {
				require.NoError(t, err, tc.url)
				continue
			}
			require.ErrorIs(t, err, ErrRefused, tc.url)
			f, ok := fault.As(err)
			require.True(t, ok)
			require.Equal(t, fault.Unprocessable, f.Kind)
			require.Equal(t, "upstream_refused", f.Code)
		}
	}
	require.ErrorIs(t, Policy{}.CheckURL(nil), ErrRefused)
}

func TestRefusalsDoNotEchoTheURL(t *testing.T) {
	for _, s := range []string{
		"http://planted-host.example/planted-path?planted-query", "https://planted-user:planted-pass@a.example/", "planted://planted",
		"https://planted\u00e9.example/", "https://planted..example", "https://planted.localhost/", "https://a.example:99999/?planted",
	} {
		u, err := url.Parse(s)
		require.NoError(t, err)
		err = Policy{}.CheckURL(u)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "planted")
	}
}

func TestCheckURLRefusesHostsThatParsersCannotProduce(t *testing.T) {
	for _, h := range []string{"127.0.0.1\x00.example", "a b", "a/b", "a@b", "a%2eb", "a\r\nb", "[127.0.0.1", "::1", "fe80::1%", "1::2::3"} {
		require.ErrorIs(t, Policy{}.CheckURL(&url.URL{Scheme: "https", Host: h}), ErrRefused, "%q", h)
	}
}

func TestParsePolicyRefusesWhatItCannotRead(t *testing.T) {
	for _, s := range []string{
		"http://build.lan", "planted@build.lan", "build.lan/path", "build.lan:", "build.lan:0", "build.lan:65536", "build.lan:http", "*.lan", "*",
		"10.0.0.0/33", "10.0.0.0/8:80", "2130706433", "0177.0.0.1", "a b", "[::1", "::1]:80", "1.2.3", "planté.lan", ":80", "2606::1%eth0",
	} {
		_, err := ParsePolicy([]string{"127.0.0.1", s})
		require.ErrorIs(t, err, errEntry, s)
		require.Contains(t, err.Error(), "entry 2")
		require.NotContains(t, err.Error(), "plant")
	}
	p, err := ParsePolicy(nil)
	require.NoError(t, err)
	require.Error(t, p.CheckURL(&url.URL{Scheme: "http", Host: "a.example"}))
}

func TestAllowedNetworksHoldEveryFormOfAnAddress(t *testing.T) {
	p := mustPolicy(t, "fe80::/10", "127.0.0.0/8")
	for _, s := range []string{"fe80::1", "fe80::1%eth0", "127.9.9.9", "::ffff:127.9.9.9"} {
		require.NoError(t, p.checkAddr(netip.MustParseAddr(s)), s)
	}
	for _, s := range []string{"fec0::1", "10.0.0.1", "64:ff9b::127.0.0.1", "::127.0.0.1"} {
		require.ErrorIs(t, p.checkAddr(netip.MustParseAddr(s)), ErrRefused, s)
	}
}
