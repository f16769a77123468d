package web_test

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// keyboard is a person who has nothing else: every key goes through the browser's own input, and each step of Tab is held to what such a person needs.
// Scripts of the test only look.
type keyboard struct{ *browser }

// typist opens a window for a keyboard alone.
func (s *site) typist() keyboard {
	s.Helper()
	k := keyboard{s.browse()}
	k.call(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}) // other windows are open
		return err
	})
	return k
}

// press presses keys, one after the other. What a key types goes with its going down, so that a page which takes the key for itself keeps it from typing.
func (k keyboard) press(keys string) {
	k.Helper()
	must(k.browser, "press "+quoted(keys), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		for _, key := range keys {
			events := kb.Encode(key)
			for i, one := range events {
				switch {
				case one.Type == kb.KeyChar:
					continue
				case i+1 < len(events) && events[i+1].Type == kb.KeyChar:
					one.Type, one.Text, one.UnmodifiedText = kb.KeyDown, events[i+1].Text, events[i+1].UnmodifiedText
				}
				if _, err := cdp.Call(ctx, t, input.DispatchKeyEvent, *one); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// back is Shift and Tab.
func (k keyboard) back() {
	k.Helper()
	must(k.browser, "press Shift and Tab", chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(kb.ModifierShift)))
}

// clear empties the field that has the focus.
func (k keyboard) clear() {
	k.Helper()
	k.control("a", 65, "selectAll")
	k.press(kb.Delete)
}

// paste is Ctrl and V.
func (k keyboard) paste() { k.Helper(); k.control("v", 86, "paste") }

// control presses a letter with Ctrl, and names what the browser does then: on this level it has no shortcuts of its own.
func (k keyboard) control(letter string, code int64, command string) {
	k.Helper()
	k.call(func(ctx context.Context, t *chromedp.Target) error {
		p := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeRawKeyDown, Modifiers: int64(kb.ModifierCtrl), Key: letter, Code: "Key" + strings.ToUpper(letter), WindowsVirtualKeyCode: code, Commands: []string{command}}
		if _, err := cdp.Call(ctx, t, input.DispatchKeyEvent, p); err != nil {
			return err
		}
		p.Type, p.Commands = input.DispatchKeyEventTypeKeyUp, nil
		_, err := cdp.Call(ctx, t, input.DispatchKeyEvent, p)
		return err
	})
}

// lookAtFocus says what has the focus and what is wrong with that: it must be seen to have it (2.4.7), be in the window and not wholly below something else
// (2.4.11), lie in the dialog that is open, and come after the stop before it.
const lookAtFocus = `((wanted) => {
	const one = document.activeElement;
	if (!one || one === document.body || one === document.documentElement) return JSON.stringify({at: "", found: false, wrong: ""});
	const style = getComputedStyle(one), at = one.outerHTML.slice(0, 200), found = one.matches(wanted);
	const modal = [...document.querySelectorAll("dialog:modal")].pop();
	const boxes = [...one.getClientRects(), ...[...one.children].flatMap((child) => [...child.getClientRects()])].filter((box) => box.width > 0 && box.height > 0);
	const seen = boxes.some((box) => [[0.5, 0.5], [0.05, 0.3], [0.95, 0.3], [0.05, 0.7], [0.95, 0.7]].some(([x, y]) => {
		const top = document.elementFromPoint(box.left + box.width * x, box.top + box.height * y);
		return top && (one.contains(top) || top.contains(one) && top.closest("label"));
	}));
	let wrong = "";
	if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 1) wrong = "nobody sees that it has the focus";
	else if (!seen) wrong = "it has the focus and is not to be seen";
	else if (modal && !modal.contains(one)) wrong = "the focus has left the dialog";
	else if (one.tabIndex > 0) wrong = "it has a place of its own in the order";
	return JSON.stringify({at, found, wrong});
})`

// tab presses Tab until what a selector finds has the focus.
func (k keyboard) tab(selector string) {
	k.Helper()
	k.until(`document.querySelector(` + quoted(selector) + `)`)
	k.steps(selector, func() { k.press(kb.Tab) })
}

// tabBack is tab in the other direction.
func (k keyboard) tabBack(selector string) {
	k.Helper()
	k.steps(selector, k.back)
}

func (k keyboard) steps(selector string, step func()) {
	k.Helper()
	var way []string
	nowhere := 0
	for range 250 {
		step()
		at := k.stop(selector)
		if at.Wrong != "" {
			require.Fail(k, at.Wrong, "on the way to %s: %s", selector, at.At)
		}
		if at.Found {
			return
		}
		way = append(way, at.At)
		if at.At == "" { // beyond the last stop is the browser's own, and then the first
			if nowhere++; nowhere > 3 {
				break
			}
		}
	}
	require.Fail(k, "the keyboard does not reach it", "%s; the way was\n%s\nthe page: %s", selector, strings.Join(way, "\n"), k.text())
}

// stopped is where the focus is.
type stopped struct {
	At    string `json:"at"`
	Found bool   `json:"found"`
	Wrong string `json:"wrong"`
}

func (k keyboard) stop(selector string) (at stopped) {
	k.Helper()
	require.NoError(k, json.Unmarshal([]byte(k.js(lookAtFocus+`(`+quoted(selector)+`)`)), &at))
	return at
}

// has waits until what a selector finds has the focus, as it should without a further key.
func (k keyboard) has(selector string) {
	k.Helper()
	k.until(`document.activeElement && document.activeElement.matches(` + quoted(selector) + `)`)
	at := k.stop(selector)
	require.Empty(k, at.Wrong, at.At)
}

// fill goes to fields, by the names in a form, and types.
func (k keyboard) fill(form string, fill ...string) {
	k.Helper()
	for i := 0; i < len(fill); i += 2 {
		field := form + ` [name="` + fill[i] + `"]`
		k.until(`document.querySelector(` + quoted(field) + `)`)
		if !k.stop(field).Found {
			k.tab(field)
		}
		k.clear()
		k.press(fill[i+1])
	}
}

// enter goes to a link or a button and presses Enter.
func (k keyboard) enter(selector string) {
	k.Helper()
	k.tab(selector)
	k.press(kb.Enter)
}

// tick goes to a box and presses the space bar.
func (k keyboard) tick(selector string) {
	k.Helper()
	k.tab(selector)
	k.press(" ")
	k.until(`document.querySelector(` + quoted(selector) + `).checked`)
}

// content jumps over the navigation, as the first stop of each page offers.
func (k keyboard) content() {
	k.Helper()
	k.until(`document.querySelector("a.skip")`)
	k.press(kb.Tab)
	at := k.stop("a.skip")
	require.True(k, at.Found, "the first stop of a page leads over the navigation: %s", at.At)
	require.Empty(k, at.Wrong)
	k.press(kb.Enter)
	k.until(`location.hash === "#main"`)
}

// signIn signs somebody in at the page that asks for it.
func (k keyboard) signIn(email, password string) {
	k.Helper()
	k.fill(`form[action="/sign-in"]`, "email", email, "password", password)
	k.press(kb.Enter)
}

// goes presses g and a letter.
func (k keyboard) goes(letter, path string) {
	k.Helper()
	k.press("g" + letter)
	k.until(`location.pathname === ` + quoted(path))
}

// caught checks that Tab stays in the dialog that is open, all the way round and back.
func (k keyboard) caught() {
	k.Helper()
	k.until(`document.querySelector("dialog:modal")`)
	first := k.stop("dialog *")
	require.True(k, first.Found, "a dialog that opens takes the focus: %s", first.At)
	inside := 0
	for _, step := range []func(){func() { k.press(kb.Tab) }, k.back} {
		for range 15 {
			step()
			at := k.stop("dialog *")
			require.Empty(k, at.Wrong, at.At)
			if at.At != "" {
				require.True(k, at.Found, "the focus has left the dialog: %s", at.At)
				inside++
			}
		}
	}
	require.Greater(k, inside, 15)
}

// escapes closes the dialog, and the focus is where it was before.
func (k keyboard) escapes(opener string) {
	k.Helper()
	k.press(kb.Escape)
	k.until(`!document.querySelector("dialog[open]")`)
	k.has(opener)
}
