package scrub_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/scrub"
	"signalbox.dev/signalbox/internal/secret"
)

// secrets are such as repeat themselves, need escapes, are escapes, or are no text.
var secrets = []string{
	"sk-live_7f/Qz+9=x", "aaaaaaaab", "abababababab", `p"w\d/&<>' 1`, "grüße-ħ😀-naïve", "%41%42%43%44", `\u0041\u0042`, "&amp;&#65;&#x41;",
	"\x00\x01\xfe\xff\x80\x81raw\xc3", "00000000", "line one\nline two\r\nthree", "Ünï", strings.Repeat("long-", 60) + "end",
}

func made(t testing.TB, of ...string) *scrub.Scrubber {
	t.Helper()
	values := make([]secret.Value, len(of))
	for i, s := range of {
		values[i] = secret.FromString(s)
	}
	s, err := scrub.New(values...)
	require.NoError(t, err)
	return s
}

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// usable leaves out what New refuses.
func usable() (out []string) {
	for _, s := range secrets {
		if len(s) >= scrub.Shortest {
			out = append(out, s)
		}
	}
	return out
}

// reference finds by regular expressions over the whole text what the automaton finds piece by piece. Expressions and texts are in Latin-1, one
// character for each byte, since regexp reads UTF-8.
type reference struct{ any []*regexp.Regexp }

func latin1(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		out.WriteRune(rune(c))
	}
	return out.String()
}

func referenceOf(of ...string) *reference {
	r := &reference{}
	add := func(expression string) {
		e := regexp.MustCompile(`^(?:` + expression + `)`)
		e.Longest()
		r.any = append(r.any, e)
	}
	for _, s := range of {
		raw := []byte(s)
		add(written(raw, nil))
		add(written([]byte(hex.EncodeToString(raw)), func(c byte) string { return strings.ToUpper(string(rune(c))) }))
		for before := range 3 {
			// What two different neighbours leave alike depends on the secret alone.
			one := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x00", before) + s + "\x00\x00\x00"))
			two := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xff", before) + s + "\xff\xff\xff"))
			from, to := 0, 0
			for one[from] != two[from] {
				from++
			}
			to = from
			for to < len(one) && one[to] == two[to] {
				to++
			}
			add(written([]byte(one[from:to]), func(c byte) string {
				return map[byte]string{'+': "-", '/': "_"}[c]
			}))
		}
		if utf8.ValidString(s) {
			var little, big []byte
			for _, u := range utf16.Encode([]rune(s)) {
				little = append(little, byte(u), byte(u>>8))
				big = append(big, byte(u>>8), byte(u))
			}
			add(written(little, nil))
			add(written(big, nil))
		}
	}
	return r
}

// written is the expression for every way to write b.
func written(b []byte, other func(byte) string) string {
	var out strings.Builder
	for i := 0; i < len(b); {
		size := 1
		if b[i] >= utf8.RuneSelf {
			if r, n := utf8.DecodeRune(b[i:]); n > 1 {
				out.WriteString("(?:" + characters(b[i:i+n]) + "|" + escapes(r) + ")")
				i += n
				continue
			}
		}
		out.WriteString("(?:" + characters(b[i:i+size]))
		if b[i] < utf8.RuneSelf {
			out.WriteString("|" + escapes(rune(b[i])))
		}
		if other != nil {
			if c := other(b[i]); c != "" && c != string(rune(b[i])) {
				out.WriteString("|" + characters([]byte(c)) + "|" + escapes(rune(c[0])))
			}
		}
		out.WriteString(")")
		i += size
	}
	return out.String()
}

func characters(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		fmt.Fprintf(&out, `(?:\x{%x}|%%(?i:%02x)`, c, c)
		if c == ' ' {
			out.WriteString(`|\+`)
		}
		out.WriteString(")")
	}
	return out.String()
}

func escapes(r rune) string {
	out := ""
	for _, u := range utf16.Encode([]rune{r}) {
		out += fmt.Sprintf(`\\u(?i:%04x)`, u)
	}
	for prefix, number := range map[string]string{"&#": strconv.Itoa(int(r)), "&#[xX]": fmt.Sprintf("%x", r)} {
		out += fmt.Sprintf("|%s0{0,%d}(?i:%s);", prefix, 7-len(number), number)
	}
	for text, of := range map[string]rune{`\"`: '"', `\\`: '\\', `\/`: '/', `\b`: 8, `\f`: 12, `\n`: 10, `\r`: 13, `\t`: 9, "&amp;": '&', "&lt;": '<', "&gt;": '>', "&quot;": '"', "&apos;": '\''} {
		if of == r {
			out += "|" + regexp.QuoteMeta(text)
		}
	}
	return out
}

func (r *reference) scrub(text []byte, mask byte) []byte {
	out := bytes.Clone(text)
	chars := latin1(text)
	for i, at := 0, 0; i < len(text); i++ {
		for _, e := range r.any {
			if m := e.FindStringIndex(chars[at:]); m != nil {
				for j := range utf8.RuneCountInString(chars[at : at+m[1]]) {
					out[i+j] = mask
				}
			}
		}
		_, size := utf8.DecodeRuneInString(chars[at:])
		at += size
	}
	return out
}

// whole is every way to write all of s, by the encoders of the standard library, between what comes before and after.
func whole(s, before, after string) map[string]string {
	both := before + s + after
	out := map[string]string{
		"raw": both, "hex": hex.EncodeToString([]byte(both)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(both))),
		"base64": base64.StdEncoding.EncodeToString([]byte(both)), "base64 unpadded": base64.RawStdEncoding.EncodeToString([]byte(both)),
		"base64 of URLs": base64.URLEncoding.EncodeToString([]byte(both)), "base64 of URLs unpadded": base64.RawURLEncoding.EncodeToString([]byte(both)),
		"query": url.QueryEscape(both), "path": url.PathEscape(both),
	}
	if utf8.ValidString(s) {
		coded, _ := json.Marshal(both)
		out["json"] = string(coded)
		out["html"] = html.EscapeString(both)
		var ascii strings.Builder
		for _, u := range utf16.Encode([]rune(both)) {
			fmt.Fprintf(&ascii, `\u%04X`, u)
		}
		out[`\u`] = `"` + ascii.String() + `"`
		var little, big strings.Builder
		for _, u := range utf16.Encode([]rune(both)) {
			little.Write([]byte{byte(u), byte(u >> 8)})
			big.Write([]byte{byte(u >> 8), byte(u)})
		}
		out["UTF-16LE"], out["UTF-16BE"] = little.String(), big.String()
	}
	return out
}

// decoded is what the decoders of the standard library make of text, each that reads it.
func decoded(text string) (out []string) {
	out = append(out, text, html.UnescapeString(text))
	if b, err := hex.DecodeString(text); err == nil {
		out = append(out, string(b))
	}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if b, err := e.DecodeString(text); err == nil {
			out = append(out, string(b))
		}
	}
	for _, f := range []func(string) (string, error){url.QueryUnescape, url.PathUnescape} {
		if s, err := f(text); err == nil {
			out = append(out, s)
		}
	}
	var s string
	if json.Unmarshal([]byte(text), &s) == nil {
		out = append(out, s)
	}
	if len(text)%2 == 0 {
		var little, big []uint16
		for i := 0; i < len(text); i += 2 {
			little = append(little, uint16(text[i])|uint16(text[i+1])<<8)
			big = append(big, uint16(text[i])<<8|uint16(text[i+1]))
		}
		out = append(out, string(utf16.Decode(little)), string(utf16.Decode(big)))
	}
	return out
}

// TestEncodersAreFound: whatever a program writes a secret with, no decoder has it back, the length is kept, JSON is still JSON, and the
// text around it is there.
func TestEncodersAreFound(t *testing.T) {
	for _, s := range usable() {
		box := made(t, s)
		for _, before := range []string{"", "u", "me", "me:", "user:", "Bearer ", "ä"} {
			for _, after := range []string{"", "1", "12", "123", " end", "."} {
				for how, text := range whole(s, before, after) {
					found := false
					for _, d := range decoded(text) {
						found = found || strings.Contains(d, s)
					}
					require.True(t, found, "the test's own decoder does not read %s of %q", how, s)
					got := box.String(text)
					require.Len(t, got, len(text))
					for _, d := range decoded(got) {
						require.NotContains(t, d, s, "%s of %q between %q and %q: %q", how, s, before, after, got)
					}
					if how == "json" || how == `\u` && s != "00000000" { // which also begins in the middle of the escape before it
						var back string
						require.NoError(t, json.Unmarshal([]byte(got), &back), "%q", got)
						require.True(t, strings.HasPrefix(back, before) && strings.HasSuffix(back, after), "%q", back)
					}
				}
			}
		}
	}
}

// mixed writes s with each character in a form of its own.
func mixed(r *rand.Rand, s string) string {
	var out strings.Builder
	percent := func(text string) {
		for i := range len(text) {
			fmt.Fprintf(&out, []string{"%%%02x", "%%%02X"}[r.IntN(2)], text[i])
		}
	}
	for i, size := 0, 0; i < len(s); i += size {
		var c rune
		c, size = utf8.DecodeRuneInString(s[i:])
		valid := c != utf8.RuneError || size > 1
		switch n := r.IntN(6); {
		case n == 0 || n > 1 && !valid:
			percent(s[i : i+size])
		case n == 1:
			out.WriteString(s[i : i+size])
		case n == 2:
			for _, u := range utf16.Encode([]rune{c}) {
				fmt.Fprintf(&out, []string{`\u%04x`, `\u%04X`}[r.IntN(2)], u)
			}
		case n == 3:
			fmt.Fprintf(&out, "&#%0*d;", 1+r.IntN(7), c)
		case n == 4:
			fmt.Fprintf(&out, []string{"&#x%0*x;", "&#X%0*X;"}[r.IntN(2)], 1+r.IntN(7), c)
		case c == ' ':
			out.WriteByte('+')
		default:
			coded, _ := json.Marshal(string(c))
			out.Write(coded[1 : len(coded)-1])
		}
	}
	return out.String()
}

// inner picks what of s is written: itself or one of its plain encodings.
func inner(r *rand.Rand, s string) string {
	forms := []string{s, s, hex.EncodeToString([]byte(s)), base64.StdEncoding.EncodeToString([]byte("xy"[:r.IntN(3)] + s)), base64.RawURLEncoding.EncodeToString([]byte(s))}
	return forms[r.IntN(len(forms))]
}

// text is a mixture of what looks like the secrets and what does not.
func text(r *rand.Rand, of []string) []byte {
	var out bytes.Buffer
	for range r.IntN(8) {
		s := of[r.IntN(len(of))]
		switch r.IntN(8) {
		case 0, 1:
			out.WriteString(mixed(r, inner(r, s)))
		case 2:
			out.WriteString(inner(r, s))
		case 3: // a begin
			m := mixed(r, inner(r, s))
			out.WriteString(m[:r.IntN(len(m))])
		case 4: // an end
			m := mixed(r, inner(r, s))
			out.WriteString(m[r.IntN(len(m)):])
		case 5: // overlapping
			m := inner(r, s)
			out.WriteString(m[:r.IntN(len(m))] + m)
		case 6:
			out.WriteString([]string{`\`, "%", "&", "&#", `\u`, `\ud83d`, "&amp", "%4", "a", "+", "\x00", ";", "{\"k\": 1}\n", " plain words of some length "}[r.IntN(14)])
		default:
			for range r.IntN(40) {
				out.WriteByte(byte(r.IntN(256)))
			}
		}
	}
	return out.Bytes()
}

// pieces is a reader that gives out what it was cut into.
type pieces struct {
	left [][]byte
	fail error
}

func (p *pieces) Read(b []byte) (int, error) {
	for len(p.left) > 0 && len(p.left[0]) == 0 {
		p.left = p.left[1:]
	}
	if len(p.left) == 0 {
		return 0, p.fail
	}
	n := copy(b, p.left[0])
	p.left[0] = p.left[0][n:]
	return n, nil
}

func cut(r *rand.Rand, b []byte) *pieces {
	p := &pieces{fail: io.EOF}
	for len(b) > 0 {
		n := min(len(b), 1+r.IntN(1+r.IntN(40)))
		p.left = append(p.left, bytes.Clone(b[:n]))
		b = b[n:]
	}
	return p
}

// TestStreamsAreAsTheReference: any text, in any pieces, with one secret or several, becomes what the whole text becomes by other means.
func TestStreamsAreAsTheReference(t *testing.T) {
	r := seeded(t)
	all := usable()
	for round := range 3000 {
		if testing.Short() && round == 400 {
			break
		}
		of := []string{all[r.IntN(len(all)-1)]} // the long one is in TestCutEverywhere
		if r.IntN(3) == 0 {
			of = append(of, all[r.IntN(len(all)-1)])
		}
		box, body := made(t, of...), text(r, of)
		want := referenceOf(of...).scrub(body, '*')
		got, err := io.ReadAll(iotest.OneByteReader(box.Reader(cut(r, body))))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "secrets %q in %q", of, body)
		got, err = io.ReadAll(box.Reader(cut(r, body)))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "secrets %q in %q", of, body)
		require.Equal(t, string(want), box.String(string(body)), "secrets %q in %q", of, body)
	}
}

// TestCutEverywhere: each secret in each form, cut in two at every place, at the begin and at the end of a stream and within.
func TestCutEverywhere(t *testing.T) {
	r := seeded(t)
	for _, s := range usable() {
		box := made(t, s)
		forms := whole(s, "", "")
		forms["mixed"] = mixed(r, s)
		forms["mixed base64"] = mixed(r, base64.StdEncoding.EncodeToString([]byte(s)))
		forms["twice"] = s + s
		for how, form := range forms {
			for _, around := range [][2]string{{"", ""}, {"before \\", ""}, {"", "after"}, {"{\"a\":\"", "\"}"}} {
				body := around[0] + form + around[1]
				want := box.String(body)
				require.NotEqual(t, body, want, how)
				for i := range len(body) + 1 {
					got, err := io.ReadAll(box.Reader(&pieces{left: [][]byte{[]byte(body[:i]), []byte(body[i:])}, fail: io.EOF}))
					require.NoError(t, err)
					require.Equal(t, want, string(got), "%s of %q cut at %d", how, s, i)
				}
			}
		}
	}
}

// TestNothingIsHeldBackThatNeedNot: what cannot begin an occurrence comes out of the read that brought it, and so does the rest of what only
// began like one; a source that breaks off keeps what may be most of a secret.
func TestNothingIsHeldBackThatNeedNot(t *testing.T) {
	const planted = "sk-live_7f/Qz+9=x"
	box := made(t, planted)
	for _, size := range []int{8, 4096} {
		from := &pieces{left: [][]byte{[]byte("hello "), []byte("you sk-li"), []byte("on 5%"), []byte("!")}, fail: io.ErrUnexpectedEOF}
		r, buf := box.Reader(from), make([]byte, size)
		read := func() string {
			n, err := r.Read(buf)
			require.NoError(t, err)
			return string(buf[:n])
		}
		require.Equal(t, "hello ", read())
		require.Equal(t, "you ", read())
		require.Equal(t, "sk-lion 5"[:min(size, 9)], read())
	}
	got, err := io.ReadAll(box.Reader(&pieces{left: [][]byte{[]byte("so far " + planted[:len(planted)-1])}, fail: io.ErrUnexpectedEOF}))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, "so far ", string(got))
	got, err = io.ReadAll(box.Reader(strings.NewReader("so far " + planted[:len(planted)-1])))
	require.NoError(t, err)
	require.Equal(t, "so far "+planted[:len(planted)-1], string(got), "what is no occurrence is given out at the end")
}

// TestHeaders: values are masked, names that hold the secret go, in whatever case a library wrote them.
func TestHeaders(t *testing.T) {
	const planted = "sk-live-7fQz9x"
	h := http.Header{
		"Www-Authenticate": {`Bearer error="` + planted + ` is unknown"`, "Basic realm=x"},
		"X-Basic":          {base64.StdEncoding.EncodeToString([]byte("user:" + planted))},
		"Location":         {"https://example.com/?k=" + url.QueryEscape(planted)},
		"Content-Type":     {"text/plain"},
	}
	h.Set("X-"+planted, "1")
	h.Set(hex.EncodeToString([]byte(planted)), "2")
	made(t, planted).Header(h)
	require.Equal(t, []string{`Bearer error="************** is unknown"`, "Basic realm=x"}, h["Www-Authenticate"])
	require.Equal(t, []string{"https://example.com/?k=**************"}, h["Location"])
	require.Equal(t, []string{"text/plain"}, h["Content-Type"])
	require.Len(t, h, 4, "the two whose names hold the secret are gone: %v", h)
	require.Contains(t, h.Get("X-Basic"), "*****************")
}

// TestRefusals: what cannot be looked for is refused, in words without it.
func TestRefusals(t *testing.T) {
	_, err := scrub.New()
	require.ErrorIs(t, err, scrub.ErrNone)
	_, err = scrub.New(secret.FromString("long enough"), secret.FromString("  1234567\n"))
	require.ErrorIs(t, err, scrub.ErrShort)
	require.NotContains(t, err.Error(), "1234567")
	_, err = scrub.New(secret.FromString(strings.Repeat("x", scrub.Longest+1)))
	require.ErrorIs(t, err, scrub.ErrLong)
	_, err = scrub.New(secret.FromString("\n12345678\n"))
	require.NoError(t, err)
	require.Equal(t, "a ******** b", made(t, "12345678\n").String("a 12345678 b"), "a file's last newline is not looked for")
}

// TestMaskIsNoSecret: the mask is no part of a secret, or masking could make what it takes away.
func TestMaskIsNoSecret(t *testing.T) {
	require.Equal(t, "~~~~~~~~", made(t, "********").String("********"))
	require.NotContains(t, made(t, "a*******").String("aa********"), "a*******")
}

// TestSelfRepetitionIsAffordable: a secret that begins everywhere at once costs time in proportion to the text, not more.
func TestSelfRepetitionIsAffordable(t *testing.T) {
	box := made(t, strings.Repeat("a", 40)+"b")
	body := strings.Repeat("a", 100_000)
	require.Equal(t, body, box.String(body))
	require.Equal(t, strings.Repeat("a", 5)+strings.Repeat("*", 41), box.String(strings.Repeat("a", 45)+"b"))
}

var errBroken = errors.New("broken")

// TestNoProgress: a source that brings nothing for ever is given up, and its error is handed on.
func TestNoProgress(t *testing.T) {
	_, err := io.ReadAll(made(t, "12345678").Reader(&pieces{}))
	require.ErrorIs(t, err, io.ErrNoProgress)
	_, err = io.ReadAll(made(t, "12345678").Reader(iotest.ErrReader(errBroken)))
	require.ErrorIs(t, err, errBroken)
}

// FuzzStream: whatever the secret, the text and the pieces, the stream is as the whole, the reference agrees, and nothing panics.
func FuzzStream(f *testing.F) {
	for i, s := range usable() {
		f.Add([]byte(s), []byte("x"+s+s), uint64(i))
	}
	f.Fuzz(streamed)
}

// streamed is what FuzzStream asks of one input. The engine lends both slices and may keep them in the same memory, so that appending to one
// would write over the other: both are copied first.
func streamed(t *testing.T, planted, body []byte, seed uint64) {
	if len(planted) > 100 || len(body) > 1000 {
		return
	}
	planted, body = bytes.Clone(planted), bytes.Clone(body)
	box, err := scrub.New(secret.New(planted))
	if err != nil {
		return
	}
	r := rand.New(rand.NewPCG(seed, 1))
	if seed%2 == 0 {
		body = append(body, text(r, []string{string(planted)})...)
	}
	whole := box.String(string(body))
	got, err := io.ReadAll(box.Reader(cut(r, body)))
	require.NoError(t, err)
	require.Equal(t, whole, string(got))
	require.Equal(t, whole, box.String(whole), "what was masked once has nothing left to mask")
	if bytes.IndexByte(planted, '*') < 0 {
		require.Equal(t, string(referenceOf(string(bytes.TrimSpace(planted))).scrub(body, '*')), whole)
	}
}

// TestInputsOfTheEngineMayShareMemory: chained mutations of the fuzzing engine hand over two slices with one array behind them; the target
// once wrote its text over the secret so, and blamed the Scrubber for not finding another. The bytes are those of that finding.
func TestInputsOfTheEngineMayShareMemory(t *testing.T) {
	shared := append(make([]byte, 0, 4096), "0000000000001"...)
	streamed(t, shared, shared[:1], 4)
	require.Equal(t, "0000000000001", string(shared))
}
