package vault_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/vault"
)

func TestMethodAllowed(t *testing.T) {
	for _, c := range []struct {
		methods []string
		method  string
		want    bool
	}{
		{nil, "GET", true}, {nil, "PROPFIND", true}, {nil, "M-SEARCH", true}, {nil, "", false}, {nil, "GET /x", false}, {nil, "get", false}, {nil, "GET\r\n", false}, {nil, strings.Repeat("X", 33), false},
		{nil, http.MethodTrace, false}, {nil, http.MethodConnect, false}, {[]string{http.MethodTrace}, http.MethodTrace, false},
		{[]string{"GET", "POST"}, "POST", true}, {[]string{"GET"}, "HEAD", false}, {[]string{"GET"}, "GETX", false}, {[]string{"get"}, "get", false}, {[]string{""}, "", false},
	} {
		require.Equal(t, c.want, vault.MethodAllowed(c.methods, c.method), "%q in %q", c.method, c.methods)
	}
}

func TestPathAllowed(t *testing.T) {
	for _, c := range []struct {
		patterns string // separated by spaces
		path     string
		want     bool
	}{
		{"", "/", true}, {"", "/any/thing", true}, {"", "/a//b", true}, {"", "/100%", true}, {"", "/a b", true},
		{"", "", false}, {"", "x", false}, {"", "/..", false}, {"", "/a/../b", false}, {"", "/a/./b", false}, {"", "/a/..;x/b", false}, {"", `/a\..\b`, false}, {"", "/a\x00", false}, {"", "/%2e%2e/b", false}, {"", "/%252e", false}, {"", "/a%2Fb", false}, {"", "/\xff", false},
		{"/", "/", true}, {"/", "/a", false}, {"/a", "/a", true}, {"/a", "/a/", false}, {"/a", "/A", false}, {"/a", "/ab", false}, {"/a", "/a/b", false}, {"/a/", "/a/", true}, {"/a/", "/a", false}, {"/a/", "/a/b", false},
		{"/a/*", "/a/b", true}, {"/a/*", "/a/", false}, {"/a/*", "/a", false}, {"/a/*", "/a/b/c", false}, {"/a/*", "/a/b/", false}, {"/a/*/c", "/a/b/c", true}, {"/a/*/c", "/a//c", false}, {"/a/*/c", "/a/b/d", false}, {"/*", "/a", true}, {"/*", "/", false},
		{"/a/**", "/a/", true}, {"/a/**", "/a/b", true}, {"/a/**", "/a/b/c/", true}, {"/a/**", "/a", false}, {"/a/**", "/ab/c", false}, {"/a/**", "/b", false}, {"/**", "/", true}, {"/**", "/x/y", true}, {"/a/*/**", "/a/b", false}, {"/a/*/**", "/a/b/c", true},
		{"/a/**", "/a/../b", false}, {"/a/**", "/a/..;/b", false}, {"/a/**", "/a//b", false}, {"/a/**", "/a/;x/b", false}, {"/a/**", "/a/b;v=1/c", true}, {"/a/**", `/a/..\b`, false}, {"/**", "//evil.example", false},
		{"/a /b", "/b", true}, {"/a /b", "/c", false}, {"/a/?", "/a/?", false}, {"a/b", "/a/b", false}, {"/a*", "/a*", false}, {"/**/b", "/x/b", false}, {"/a%20b", "/a b", false}, {"/..", "/..", false},
	} {
		require.Equal(t, c.want, vault.PathAllowed(strings.Fields(c.patterns), c.path), "%q in %q", c.path, c.patterns)
	}
}

func TestRequestPath(t *testing.T) {
	for escaped, want := range map[string]string{"/": "/", "/a%20b": "/a b", "/a+b": "/a+b", "/%C3%BC": "/ü", "/100%25": "/100%", "/a;b": "/a;b", "/%61": "/a"} {
		got, ok := vault.RequestPath(escaped)
		require.True(t, ok, escaped)
		require.Equal(t, want, got)
	}
	for _, escaped := range []string{"", "a", "/..", "/%2e%2e/a", "/%2E./a", "/.%2e;x/a", "/a%2fb", "/a%5Cb", "/a%252fb", "/a%252e", "/a%2525", "/%00", "/%0a", "/%zz", "/%", "/%ff", "/%2500"} {
		got, ok := vault.RequestPath(escaped)
		require.False(t, ok, escaped)
		require.Empty(t, got)
	}
}

// TestBoundsAreRefused: patterns that nobody could be sure of, and methods that are none.
func TestBoundsAreRefused(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		many := make([]string, 65)
		for i := range many {
			many[i] = "/" + strings.Repeat("x", i)
		}
		for pointer, list := range map[string][][]string{
			"/methods":   {strings.Split(strings.Repeat("GET ", 33), " ")},
			"/methods/0": {{""}, {"GET POST"}, {"GET,POST"}, {"*"}, {"trace"}, {"CONNECT"}, {strings.Repeat("X", 33)}},
			"/paths":     {many},
			"/paths/0": {{""}, {"api"}, {"https://x.example/api"}, {"/a//b"}, {"//a"}, {"/a/../b"}, {"/.."}, {"/."}, {"/..;x"}, {"/a?x"}, {"/a#x"}, {"/a%20b"}, {"/a%2e"}, {`/a\b`}, {"/a\nb"}, {"/\xff"},
				{"/a*"}, {"/*a"}, {"/**/b"}, {"/a/***"}, {"/" + strings.Repeat("x", 512)}},
		} {
			for _, items := range list {
				d := apiKey("team")
				if strings.HasPrefix(pointer, "/methods") {
					d.Methods = items
				} else {
					d.Paths = items
				}
				_, err := f.Create(t.Context(), admin, d)
				require.Equal(t, []string{pointer}, pointers(requireAny(t, err)), "%q", items)
			}
		}
		require.Zero(t, f.count(t, `SELECT COUNT(*) FROM credentials`))
		d := apiKey("team")
		d.Paths = append(many[1:], "/a b/ü/*/**")
		d.Paths = d.Paths[1:]
		require.Len(t, f.create(t, d).Paths, 64)
	})
}

// FuzzPathAllowed: whatever is allowed has one reading, and lies below what the pattern says before its first star, for a server that decodes once
// more, merges slashes or cuts parameters as well.
func FuzzPathAllowed(f *testing.F) {
	for _, seed := range [][2]string{{"/a/*", "/a/b"}, {"/a/**", "/a/b/c"}, {"/a/**", "/a/%2e%2e/b"}, {"/a/**", "/a/..;/b"}, {"/a/b/**", "/a//b/c"}, {"/**", "/x"}, {"/a/*/c", "/a/%2f/c"}, {"/a", "/%61"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, escaped string) {
		path, ok := vault.RequestPath(escaped)
		if !ok || !vault.PathAllowed([]string{pattern}, path) {
			return
		}
		require.True(t, vault.PathAllowed(nil, path))
		fixed, _, starred := strings.Cut(pattern, "*")
		below := func(what string) {
			t.Helper()
			if starred {
				require.True(t, strings.HasPrefix(what, fixed), "%q by %q", what, pattern)
			} else {
				require.Equal(t, pattern, what)
			}
		}
		below(path)
		again, err := url.PathUnescape(path)
		if err == nil && !strings.Contains(fixed, ";") {
			u := (&url.URL{Path: again}).JoinPath() // resolves dot segments and merges slashes
			below(u.Path)
		}
		require.NotContains(t, strings.Split(path, "/"), "..")
	})
}
