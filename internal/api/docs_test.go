package api_test

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// docsPage reads the page as anybody may.
func docsPage(t *testing.T, h *house) string {
	t.Helper()
	a := h.do(request{method: "GET", target: "/api/docs"})
	require.Equal(t, 200, a.status)
	require.Equal(t, "text/html; charset=utf-8", a.header.Get("Content-Type"))
	h.headers(a)
	with := h.do(request{method: "GET", target: "/api/docs", token: h.token, header: map[string][]string{"Accept": {"application/json"}}})
	require.Equal(t, string(a.body), string(with.body), "the page is the same for everybody")
	sum := sha256.Sum256([]byte(cutOut(t, string(a.body), "<style>", "</style>")))
	require.Contains(t, a.header.Get("Content-Security-Policy"), "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'", "a browser would drop the style")
	return string(a.body)
}

func cutOut(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, from)
	require.True(t, ok, "no %s", from)
	out, _, ok := strings.Cut(rest, to)
	require.True(t, ok, "no %s after %s", to, from)
	return out
}

// article returns the part of the page that is about an operation.
func article(t *testing.T, page string, o operation) string {
	t.Helper()
	return cutOut(t, page, `<article id="op-`+o.ID+`"`, "</article>")
}

// TestDocsTellTheDocument: every operation is on the page with all that the document says of it, and everything that is linked is there.
func TestDocsTellTheDocument(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		page := docsPage(t, h)
		for _, o := range d.operations(t) {
			text := article(t, page, o)
			require.Contains(t, text, html.EscapeString(o.Summary), o)
			require.Contains(t, text, ">"+o.method+"</span> <code>"+o.path+"</code>", o)
			switch o.Permission {
			case "none":
				require.Contains(t, text, "Public", o)
			case "authenticated":
				require.Contains(t, text, "any token", o)
			default:
				for p := range strings.FieldsSeq(o.Permission) {
					require.Contains(t, text, "<code>"+p+"</code>", o)
				}
			}
			for _, p := range o.Parameters {
				require.Contains(t, text, "<dt><code>"+p.Name+"</code>", o)
			}
			if s := d.body(o); s != nil {
				for name := range s.Properties {
					require.Contains(t, text, "<dt><code>"+name+"</code>", o)
				}
			}
			for status := range o.Responses {
				if status != "default" {
					require.Contains(t, text, ">"+status+"</", o)
				}
			}
			require.Contains(t, text, `class="curl"`, o)
		}
		for name := range d.Components.Schemas {
			require.Contains(t, page, `<article id="schema-`+name+`"`)
		}
		ids := map[string]bool{}
		for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
			require.False(t, ids[m[1]], "the id %s is there twice", m[1])
			ids[m[1]] = true
		}
		links := regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(page, -1)
		require.Greater(t, len(links), 200)
		for _, m := range links {
			if m[1] != "/api/openapi.json" {
				require.True(t, strings.HasPrefix(m[1], "#") && ids[m[1][1:]], "the link %s leads nowhere", m[1])
			}
		}
		// Nothing to run, nothing to load, nothing of this instance.
		require.NotRegexp(t, `(?i)<script|<img|<link|<iframe|<object|<form|\son\w+=|\sstyle=|\ssrc=|javascript:|url\(|@import`, page)
		require.NotContains(t, page, "https://")
		require.NotContains(t, page, h.server.URL)
		require.NotContains(t, page, buildVersion)
	})
}

// TestDocsExamplesRun runs the curl line of every GET as it stands on the page.
func TestDocsExamplesRun(t *testing.T) {
	_, err := exec.LookPath("curl")
	require.NoError(t, err, "curl is missing; install it with: apt-get install curl")
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		page := docsPage(t, h)
		home := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(home, ".curlrc"), []byte("silent\nshow-error\nfail\nnoproxy=*\n"), 0o600))
		ran, all := 0, h.world() // which no GET changes
		for _, o := range d.operations(t) {
			line := html.UnescapeString(cutOut(t, article(t, page, o), `<code class="curl">`, "</code>"))
			require.NotContains(t, line, "{id}", o)
			if o.method != "GET" {
				require.Contains(t, line, "curl -X "+o.method, o)
				continue
			}
			ran++
			w := all
			h.prepare(o, &w, h.token)
			cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "CURL_HOME=" + home, "SIGNALBOX_URL=" + h.server.URL, "SIGNALBOX_TOKEN=" + h.token}
			want, have := strings.Split(o.path, "/"), strings.Split(w.target(o), "/")
			for i, s := range want {
				if strings.HasPrefix(s, "{") {
					cmd.Env = append(cmd.Env, strings.ToUpper(strings.Trim(s, "{}"))+"="+have[i])
				}
			}
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s\n%s\n%s", o, line, out)
			require.NotEmpty(t, out, o)
		}
		require.Greater(t, ran, 15)
	})
}
