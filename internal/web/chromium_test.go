package web_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

// chromium is the one browser of this package's tests; each test has its own windows, cookies and storage in it.
var chromium struct {
	once sync.Once
	ctx  context.Context
	stop []func()
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	for i := len(chromium.stop) - 1; i >= 0; i-- {
		chromium.stop[i]()
	}
	os.Exit(code)
}

func startChromium() {
	path, err := exec.LookPath("chromium")
	if err != nil {
		chromium.err = errors.New("this test needs Chromium: apt-get install chromium")
		return
	}
	dir, err := os.MkdirTemp("", "signalbox-chromium-")
	if err != nil {
		chromium.err = err
		return
	}
	chromium.stop = append(chromium.stop, func() { _ = os.RemoveAll(dir) })
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(dir), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("force-color-profile", "srgb"), chromedp.WindowSize(900, 1100))...)
	ctx, stop := chromedp.NewContext(alloc)
	chromium.stop = append(chromium.stop, cancel, stop)
	chromium.ctx, chromium.err = ctx, chromedp.Do(ctx)
}

// breaches are the violations of the Content-Security-Policy that a window met.
type breaches struct {
	mu   sync.Mutex
	list []string
}

func (b *breaches) add(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, text)
}

func (b *breaches) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.list...)
}

// window opens a window of the browser with cookies of its own. The test fails when a page in it breaks the policy of its own server. Where scripts
// are off, the page runs none; the test itself still asks it things.
func (s *site) window(scripts bool) *browser {
	s.Helper()
	chromium.once.Do(startChromium)
	require.NoError(s, chromium.err)
	met := &breaches{}
	ctx, stop := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(func(event any) {
		if e, ok := event.(*cdplog.EventEntryAdded); ok && (e.Entry.Source == "security" || strings.Contains(e.Entry.Text, "Content Security Policy")) {
			met.add(e.Entry.Text + " " + e.Entry.URL)
		}
	}))
	s.Cleanup(stop)
	s.Cleanup(func() { require.Empty(s, met.all(), "violations of the Content-Security-Policy") })
	require.NoError(s, chromedp.Do(ctx)) // opens it; a limit here would be one of the window's life
	b := &browser{site: s, ctx: ctx, base: strings.Replace(s.url, "127.0.0.1", "localhost", 1), limit: stepLimit, scripts: scripts, met: met}
	if !scripts {
		b.runsScripts(false)
	}
	return b
}

// runsScripts lets pages run scripts, or not. What a page has loaded while they were off does not run when they are on again.
func (b *browser) runsScripts(on bool) {
	b.Helper()
	b.call(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		return err
	})
}

// signInHere signs the administrator in, as a person does.
func (b *browser) signInHere(next string) {
	b.Helper()
	b.open("/sign-in?next=" + strings.ReplaceAll(next, "/", "%2F"))
	b.submit("/sign-in", "email", "ada@example.com", "password", planted)
	b.until(`location.pathname === "` + next + `"`)
}

// view is how a person looks at a page: the theme that their system asks for, how wide the window is in its pixels, and how much they enlarge.
type view struct {
	theme string
	width int64
	zoom  int64
}

func (v view) String() string { return fmt.Sprintf("%s, %d wide at %d00 %%", v.theme, v.width, v.zoom) }

// see sets how the page is looked at. A browser that enlarges has fewer, larger pixels to lay the page out in.
func (b *browser) see(v view) {
	b.Helper()
	zoom := max(v.zoom, 1)
	must(b, "look at it: "+v.String(), chromedp.EmulateViewport(v.width/zoom, 900/zoom, chromedp.EmulateScale(float64(zoom))))
	b.call(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: v.theme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		return err
	})
}

// inspect looks at the page as it stands, or at the dialog over it: with axe-core in both themes, as wide as a desktop, as narrow as a telephone and
// enlarged to 200 %; for what runs out of the window, down to 320 pixels (WCAG 1.4.10, which is 400 % of a desktop); and with a picture when
// SIGNALBOX_TEST_SCREENSHOTS names a directory for them. Where a story runs on both engines it looks on SQLite alone: the pages of the other are the
// same. Both themes have one layout, so what is no matter of colour is asked in one of them, and a page is laid out without scripts as with them. Colours
// do not depend on the enlargement either, so they are asked once for each theme of a wide and of a narrow window.
func (b *browser) inspect(name string) {
	b.Helper()
	if !b.alone && b.db.Engine() != store.SQLite {
		return
	}
	if os.Getenv("SIGNALBOX_TEST_SCREENSHOTS") != "" {
		for _, width := range []int64{1280, 390} {
			for _, theme := range []string{"light", "dark"} {
				b.see(view{theme, width, 1})
				b.picture(name, theme, width)
			}
		}
	}
	if b.scripts {
		b.accessible(name, view{"light", 1280, 1}, view{"dark", 1280, 1}, view{"dark", 390, 1}, view{"light", 1280, 2}, view{"light", 1280, 4})
	} else {
		b.accessible(name, view{"light", 1280, 1}, view{"dark", 1280, 2})
	}
}

// accessible asks axe-core about the page in each of these views, by every rule where it is light or a telephone and by those of colours where it is dark,
// and whether it fits. Beyond 200 % it need only fit.
func (b *browser) accessible(name string, views ...view) {
	b.Helper()
	if !b.scripts { // the page has loaded without, and stays so: only the test's own axe-core runs
		b.runsScripts(true)
		defer b.runsScripts(false)
	}
	for _, v := range views {
		b.see(v)
		if v.zoom <= 2 {
			assert.Empty(b, b.axe(v.theme == "light" || v.width < 600), "%s, %s", name, v)
		}
		b.fits(fmt.Sprintf("%s, %s", name, v))
	}
	b.see(view{"light", 1280, 1})
}

// fits tells whether the page, and a dialog over it, need no scrolling to the side.
func (b *browser) fits(what string) {
	b.Helper()
	assert.Equal(b, "fits", b.js(`(() => {
		const wide = [document.documentElement, ...document.querySelectorAll("dialog[open]")].find((one) => one.scrollWidth > one.clientWidth);
		if (!wide) return "fits";
		const out = [...wide.querySelectorAll("*")].find((one) => one.getBoundingClientRect().right > wide.getBoundingClientRect().left + wide.clientWidth + 1 && !one.closest(".scroll, .tabs ul, .sr"));
		return wide.tagName + " is " + wide.scrollWidth + " wide in " + wide.clientWidth + ": " + (out ? out.outerHTML.slice(0, 300) : "");
	})()`), what)
}

// axe runs axe-core in the page and returns what it finds, in words: by every rule, or by those of colours.
func (b *browser) axe(every bool) (out []string) {
	b.Helper()
	if b.js(`typeof axe`) == "undefined" {
		b.js(axeSource(b.T) + `; ""`)
	}
	only := `["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]`
	if !every {
		only = `{type: "rule", values: ["color-contrast", "link-in-text-block"]}`
	}
	var found []struct {
		ID, Help string
		Nodes    []struct{ HTML, FailureSummary string }
	}
	text := b.js(`axe.run(document, {runOnly: ` + only + `, resultTypes: ["violations"]}).then((r) => JSON.stringify(r.violations.map((v) => ({ID: v.id, Help: v.help, Nodes: v.nodes.map((n) => ({HTML: n.html, FailureSummary: n.failureSummary}))}))))`)
	require.NoError(b, json.Unmarshal([]byte(text), &found))
	for _, v := range found {
		for _, n := range v.Nodes {
			out = append(out, v.ID+": "+v.Help+": "+n.HTML+": "+n.FailureSummary)
		}
	}
	return out
}

// axeText is axe-core as npm serves it, read once.
var axeText = sync.OnceValues(func() (string, error) {
	home, err := exec.Command("../../scripts/npm.sh").Output()
	if err != nil {
		return "", fmt.Errorf("scripts/npm.sh: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(home)), "node_modules/axe-core/axe.min.js"))
	return string(b), err
})

func axeSource(t *testing.T) string {
	t.Helper()
	text, err := axeText()
	require.NoError(t, err)
	return "(() => {" + text + "})()"
}

// picture keeps how the whole page looks.
func (b *browser) picture(name, theme string, width int64) {
	b.Helper()
	if dir := os.Getenv("SIGNALBOX_TEST_SCREENSHOTS"); dir != "" {
		b.keep(filepath.Join(dir, name+"-"+strconv.FormatInt(width, 10)+"-"+theme+".webp"), true)
	}
}

// keep writes a picture of the page, or of what the window shows of it.
func (b *browser) keep(path string, beyond bool) {
	b.Helper()
	var image []byte
	b.call(func(ctx context.Context, t *chromedp.Target) error {
		quality := int64(80)
		got, err := cdp.Call(ctx, t, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatWebp, Quality: &quality, CaptureBeyondViewport: &beyond})
		if err == nil {
			image = got.Data
		}
		return err
	})
	require.NoError(b, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(b, os.WriteFile(path, image, 0o644))
}

// maxWeight is how much a page may weigh with all that it loads, compressed.
const maxWeight = 60 << 10

// weigh holds a page to its budget.
func (s *site) weigh(cookie, path string) {
	s.Helper()
	a := s.do("GET", path, nil, "Cookie", cookie)
	require.Equal(s, 200, a.StatusCode, a.text)
	require.Equal(s, "no-store", a.Header.Get("Cache-Control"), path)
	total := packed(a.text)
	for _, m := range regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(a.text, -1) {
		file := s.do("GET", m[1], nil)
		require.Equal(s, 200, file.StatusCode, m[1])
		if strings.Contains(m[1], "?") {
			require.Contains(s, file.Header.Get("Cache-Control"), "immutable", m[1])
		}
		total += packed(file.text)
	}
	require.Less(s, total, maxWeight, "%s weighs %d bytes with its assets", path, total)
}

func packed(text string) int {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.Len()
}
