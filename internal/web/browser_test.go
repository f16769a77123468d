package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// stepLimit is how long one step in a browser may take before the test says which one it was. A step takes milliseconds; a busy machine is slow.
const stepLimit = time.Minute

// browser is a window of Chromium.
type browser struct {
	*site
	ctx   context.Context
	base  string
	key   webauthn.AuthenticatorID
	limit time.Duration

	scripts bool
	met     *breaches
}

// browse opens a window with a virtual authenticator.
func (s *site) browse() *browser {
	s.Helper()
	b := s.window(true)
	b.call(func(ctx context.Context, t *chromedp.Target) error {
		if _, err := cdp.Call(ctx, t, webauthn.Enable, webauthn.EnableParams{}); err != nil {
			return err
		}
		got, err := cdp.Call(ctx, t, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: "ctap2", Transport: "internal", HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
			HasCmtgKey: true, // this library's credentials always speak of such a key, and Chromium takes none back without it
		}})
		b.key = got.AuthenticatorID
		return err
	})
	return b
}

// try takes one step within the limit. Its error says what was wanted, and how the page stood instead.
func try[T any](b *browser, what string, step chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, b.limit)
	defer cancel()
	v, err := chromedp.Run(ctx, step)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("not done within %s", b.limit)
		}
		err = fmt.Errorf("%s: %w; the page: %s", what, err, b.text())
	}
	return v, err
}

func must[T any](b *browser, what string, step chromedp.Action[T]) T {
	b.Helper()
	v, err := try(b, what, step)
	require.NoError(b, err)
	return v
}

func (b *browser) open(path string) {
	b.Helper()
	must(b, "open "+path, chromedp.Navigate(b.base+path))
}

// js evaluates an expression; one that gives a promise is waited for.
func (b *browser) js(expression string) string {
	b.Helper()
	what, _, cut := strings.Cut(expression, "\n")
	if len(what) > 300 || cut {
		what = what[:min(len(what), 300)] + "…"
	}
	return must(b, what, chromedp.Evaluate[string](expression, chromedp.EvalAwaitPromise))
}

// until waits for an expression to be true.
func (b *browser) until(expression string) {
	b.Helper()
	ended := time.Now().Add(b.limit)
	for {
		ctx, cancel := context.WithDeadline(b.ctx, ended)
		v, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("document.readyState === 'complete' && !!("+expression+")"))
		cancel()
		if err == nil && v {
			return
		}
		if time.Now().After(ended) { // an error is a page on its way to another
			require.Fail(b, "the page never came to it", "%s (%v); the page: %s", expression, err, b.text())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// text is what the page says, for a failure.
func (b *browser) text() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.pathname + location.search + ' ' + document.body.innerText"))
	if err != nil {
		return "it does not answer: " + err.Error()
	}
	return v
}

// submit fills the form with that action and sends it as a click does.
func (b *browser) submit(action string, fill ...string) {
	b.Helper()
	b.submitIn(`form[action="`+action+`"]`, fill...)
}

// submitIn is submit for the form that a selector finds.
func (b *browser) submitIn(selector string, fill ...string) {
	b.Helper()
	form := `document.querySelector(` + quoted(selector) + `)`
	b.until(form)
	for i := 0; i < len(fill); i += 2 {
		b.js(form + `.elements[` + quoted(fill[i]) + `].value = ` + quoted(fill[i+1]))
	}
	b.click(selector + " button")
}

// click clicks on what a selector finds.
func (b *browser) click(selector string) {
	b.Helper()
	must(b, "click on "+selector, chromedp.Click(chromedp.CSS(selector)))
}

// hold keeps the next form of the script from being sent, and take returns what it would have sent.
func (b *browser) hold() {
	b.Helper()
	b.js(`HTMLFormElement.prototype.requestSubmit = function() { window.held = new URLSearchParams(new FormData(this)).toString() }; ""`)
}

func (b *browser) take() url.Values {
	b.Helper()
	b.until("window.held")
	form, err := url.ParseQuery(b.js("window.held"))
	require.NoError(b, err)
	return form
}

// call speaks with Chromium itself.
func (b *browser) call(fn func(ctx context.Context, t *chromedp.Target) error) {
	b.Helper()
	must(b, "a call of the protocol", chromedp.Func(fn))
}

func quoted(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}

// TestAStepThatCannotBeDoneSaysSo: a click on what is not to be seen ends, and the failure names it and the page.
func TestAStepThatCannotBeDoneSaysSo(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		b := s.window(true)
		b.open("/sign-in")
		b.limit = 500 * time.Millisecond
		_, err := try(b, "click on #nowhere", chromedp.Click(chromedp.CSS("#nowhere")))
		require.ErrorContains(b, err, "click on #nowhere")
		require.ErrorContains(b, err, "not done within 500ms")
		require.ErrorContains(b, err, "/sign-in Signalbox")
	})
}
