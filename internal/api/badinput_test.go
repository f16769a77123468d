package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
)

// planted stands in every bad input, as a value, as a name, in the path and in the query. It is of the form that free names have, so that
// it gets as far as it can.
const planted = "planted7q2x"

// bad is one input that must be refused.
type bad struct {
	name   string
	target string // appended to the operation's path
	header http.Header
	body   []byte
	want   int
	code   string
}

// TestBadInputOnEveryRoute derives bad inputs for every operation from the OpenAPI document. Each must be refused with a clear problem
// document; the planted value must come back nowhere; nothing may change.
func TestBadInputOnEveryRoute(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		w, total := h.world(), 0
		for _, o := range d.operations(t) {
			t.Run(o.String(), func(t *testing.T) {
				h := h.in(t)
				before, logged := h.counts(), len(h.log.String())
				state := h.state(w)
				cases := badQueries(t, o)
				if d.body(o) == nil {
					cases = append(cases, bad{name: "a body", body: []byte(`{"a":"` + planted + `"}`), want: 400, code: "malformed_request"})
				} else {
					cases = append(cases, d.badBodies(t, o, w)...)
				}
				for _, c := range cases {
					h.refuses(o, w, c)
				}
				total += len(cases)
				require.Equal(t, before, h.counts(), "a refused input changed something")
				require.Equal(t, state, h.state(w), "a refused input changed something")
				require.NotContains(t, strings.ToLower(h.log.String()[logged:]), planted, "the log repeats the input")
			})
		}
		require.Greater(t, total, 1500, "the document no longer yields the cases")
	})
}

// state is what the world's things look like.
func (h *house) state(w world) string {
	h.t.Helper()
	c, err := h.vaultState(w.credential)
	require.NoError(h.t, err)
	return c
}

func (h *house) refuses(o operation, w world, c bad) {
	h.t.Helper()
	target := w.target(o) + c.target
	body := c.body
	if body == nil && o.RequestBody != nil {
		b, err := json.Marshal(w.sample(h.t, o))
		require.NoError(h.t, err)
		body = b
	}
	a := h.do(request{method: o.method, target: target, token: h.token, header: c.header, body: body})
	require.Equal(h.t, c.want, a.status, "%s: %s", c.name, a.body)
	p := h.problem(a)
	require.Equal(h.t, c.code, p.Code, c.name)
	row, known := fault.Lookup(p.Code)
	require.True(h.t, known, p.Code)
	require.Equal(h.t, c.want, row.Kind.Status())
	require.NotContains(h.t, strings.ToLower(string(a.body)), planted, "%s: the answer repeats the input", c.name)
	for name, values := range a.header {
		require.NotContains(h.t, strings.ToLower(strings.Join(values, " ")), planted, "%s: the header %s repeats the input", c.name, name)
	}
	for _, e := range p.Errors {
		require.NotEmpty(h.t, e.Message)
	}
	if c.code == "validation_failed" {
		require.NotEmpty(h.t, p.Errors, "%s: it does not say which field", c.name)
	}
}

func badQueries(t *testing.T, o operation) []bad {
	t.Helper()
	unprocessable := func(name, query string) bad {
		return bad{name: name, target: "?" + query, want: 422, code: "validation_failed"}
	}
	out := []bad{
		unprocessable("an unknown parameter", planted+"="+planted),
		unprocessable("an unknown parameter without a value", planted),
		{name: "a bad escape", target: "?a=%zz" + planted, want: 400, code: "malformed_request"},
		{name: "a semicolon", target: "?a=1;" + planted + "=2", want: 400, code: "malformed_request"},
	}
	for _, p := range o.Parameters {
		long := func(max int) string { return strings.Repeat(planted, max/len(planted)+1) }
		if p.In == "header" && p.Name == "Idempotency-Key" {
			out = append(out, bad{name: "a long key", header: http.Header{p.Name: {long(*p.Schema.MaxLength)}}, want: 400, code: "malformed_request"},
				bad{name: "a key with a space", header: http.Header{p.Name: {planted + " " + planted}}, want: 400, code: "malformed_request"})
		} else if p.In == "header" {
			out = append(out, bad{name: "a long header", header: http.Header{p.Name: {long(*p.Schema.MaxLength)}}, want: 422, code: "validation_failed"})
		}
		if p.In != "query" {
			continue
		}
		add := func(what, value string) {
			out = append(out, unprocessable(p.Name+": "+what, p.Name+"="+value))
		}
		add("twice", "1&"+p.Name+"=1")
		add("empty", "")
		add("without =", "&"+p.Name)
		add("NUL", planted+"%00")
		add("bad UTF-8", planted+"%ff")
		kind, _ := p.Schema.kind()
		switch {
		case kind == "integer":
			for _, v := range []string{planted, "1.5", "1e3", "99999999999999999999", "0x10", "true"} {
				add(v, v)
			}
			require.NotNil(t, p.Schema.Minimum, p.Name)
			add("too small", strconv.FormatFloat(*p.Schema.Minimum-1, 'f', -1, 64))
			if p.Schema.Maximum != nil {
				add("too large", strconv.FormatFloat(*p.Schema.Maximum+1, 'f', -1, 64))
			}
		case kind == "boolean", p.Schema.Format == "date-time", len(p.Schema.Enum) > 0:
			add("not of the type", planted)
		case p.Schema.MaxLength != nil:
			add("too long", long(*p.Schema.MaxLength))
		}
	}
	return out
}

func (d *document) badBodies(t *testing.T, o operation, w world) []bad {
	t.Helper()
	sample := w.sample(t, o)
	require.NotNil(t, sample, "%s takes a body, and world.sample has none for it", o.ID)
	valid, err := json.Marshal(sample)
	require.NoError(t, err)
	var out []bad
	malformed := func(name string, body []byte) {
		out = append(out, bad{name: name, body: body, want: 400, code: "malformed_json"})
	}
	malformed("empty", []byte{})
	malformed("a space", []byte(" "))
	for _, text := range []string{
		planted, `{`, `{"` + planted, `{"a":"` + planted, `{'` + planted + `':1}`, `{"` + planted + `":1,}`, `{"a":1 "` + planted + `":2}`, `{"a":01}`, `{"a":NaN}`, `{a:1}`, `[1,]`, `"` + planted,
		"{\"a\":\"\x01" + planted + "\"}", `{"a":"\x` + planted + `"}`, `/* ` + planted + ` */ {}`,
	} {
		malformed(text, []byte(text))
	}
	malformed("more behind it", append(slices.Clone(valid), planted...))
	malformed("two texts", append(slices.Clone(valid), valid...))
	malformed("a byte order mark", append([]byte("\xef\xbb\xbf"), valid...))
	malformed("UTF-16", []byte("\xff\xfe{\x00}\x00"))
	malformed("deep lists", []byte(`{"`+planted+`":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+`}`))
	malformed("deep objects", []byte(strings.Repeat(`{"a":`, 5000)+"1"+strings.Repeat("}", 5000)))
	malformed("deep and open", []byte(strings.Repeat(`[`, 60000)))
	for name := range sample {
		again := fmt.Appendf(nil, `{%q:%q,%s`, name, planted, valid[1:])
		malformed("twice: "+name, again)
		escaped := fmt.Sprintf(`\u%04x`, name[0]) + name[1:]
		malformed("twice, once escaped: "+name, fmt.Appendf(nil, `{"%s":%q,%s`, escaped, planted, valid[1:]))
		malformed("bad UTF-8: "+name, fmt.Appendf(nil, "{%q:\"%s\xff\"}", name, planted))
		malformed("half a character: "+name, fmt.Appendf(nil, `{%q:"%s\ud83d"}`, name, planted))
		malformed("half a character: "+name, fmt.Appendf(nil, `{%q:"\udd11%s"}`, name, planted))
	}
	malformed("twice inside", fmt.Appendf(nil, `{"secrets":{"a":%q,"a":%q}}`, planted, planted))
	malformed("bad UTF-8 in a name", []byte("{\""+planted+"\xc3\":1}"))

	sizes := []int{2 << 20, 9 << 20}
	if o.ID == "import-credentials" { // files are large
		sizes = []int{65 << 20}
	}
	for _, size := range sizes {
		huge := fmt.Appendf(nil, `{%q:"`, planted)
		huge = append(huge, bytes.Repeat([]byte("a"), size)...)
		out = append(out, bad{name: fmt.Sprint("huge ", size), body: append(huge, `"}`...), want: 413, code: "body_too_large"})
	}
	for _, kind := range []string{
		"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", "application/json; charset=utf-16", "application/problem+json",
		"application/merge-patch+json", "application/cbor", "json", "application/json, text/plain", "text/" + planted, "application/json; " + planted, "*/*",
	} {
		out = append(out, bad{name: "type " + kind, header: http.Header{"Content-Type": {kind}}, body: valid, want: 415, code: "unsupported_media"})
	}
	out = append(out,
		bad{name: "no type", header: http.Header{"Content-Type": nil}, body: valid, want: 415, code: "unsupported_media"},
		bad{name: "two types", header: http.Header{"Content-Type": {"application/json", "application/json"}}, body: valid, want: 415, code: "unsupported_media"},
	)
	unprocessable := func(name string, v any) {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		out = append(out, bad{name: name, body: b, want: 422, code: "validation_failed"})
	}
	for _, v := range []any{planted, 7, true, nil, []any{planted}, []any{sample}} {
		unprocessable(fmt.Sprintf("not an object: %T", v), v)
	}
	d.badFields(d.body(o), nil, sample, unprocessable)
	return out
}

// badFields yields, for each field at any depth, the sample with that field wrong.
func (d *document) badFields(s *schema, at []string, sample map[string]any, yield func(string, any)) {
	wrong := func(what string, path []string, v any) {
		yield(strings.Join(path, "/")+": "+what, changed(sample, path, v, false))
	}
	wrong("an unknown field", append(at, planted), planted)
	for name, p := range s.Properties {
		path := append(slices.Clone(at), name)
		p = d.resolve(p)
		if slices.Contains(s.Required, name) {
			yield(name+": missing", changed(sample, path, nil, true))
		}
		wrong("in capitals", append(slices.Clone(at), strings.ToUpper(name)), planted)
		for what, v := range wrongValues(d, p) {
			wrong(what, path, v)
		}
		if kind, _ := p.kind(); kind == "object" && len(p.Properties) > 0 {
			d.badFields(p, path, sample, yield)
		}
	}
}

func wrongValues(d *document, s *schema) map[string]any {
	kind, nullable := s.kind()
	out := map[string]any{}
	for name, v := range map[string]any{
		"string": planted, "integer": 7, "number": 1.5, "boolean": true, "array": []any{planted}, "object": map[string]any{planted: planted},
	} {
		if name != kind && !(name == "object" && len(s.Additional) > 5) {
			out["a "+name] = v
		}
	}
	if !nullable {
		out["null"] = nil
	}
	long := func(n int) string { return strings.Repeat(planted, n/len(planted)+1) }
	switch kind {
	case "string":
		if s.MaxLength != nil {
			out["too long"] = long(*s.MaxLength)
		}
		if s.MinLength != nil && *s.MinLength > 0 {
			out["too short"] = ""
		}
		if len(s.Enum) > 0 || s.Format == "date-time" {
			delete(out, "a string")
			out["none of the values"] = planted
		}
		if s.Format == "date-time" {
			out["no time zone"] = "2030-01-01T00:00:00"
			out["no such day"] = "2030-02-30T00:00:00Z"
		}
		if s.Format != "password" {
			out["NUL"] = "a\x00" + planted
		}
	case "integer":
		out["too small"] = *s.Minimum - 1
		out["too large"] = *s.Maximum + 1
		out["beyond 64 bits"] = json.Number("99999999999999999999")
		out["beyond floats"] = json.Number("1e999")
		out["an exponent"] = json.Number("1e0")
		out["a number as text"] = "7"
		delete(out, "a integer")
	case "number": // an amount of dollars
		delete(out, "a integer")
		out["below nothing"] = -1
		out["more digits than it has"] = json.Number("1.0000001")
		out["beyond floats"] = json.Number("1e999")
		out["a number as text"] = "7"
	case "array":
		items := d.resolve(s.Items)
		out["an item of a wrong type"] = []any{7}
		out["a null item"] = []any{nil}
		out["too many"] = slices.Repeat([]any{"a"}, *s.MaxItems+1)
		if items.MaxLength != nil {
			out["a long item"] = []any{long(*items.MaxLength)}
			out["an empty item"] = []any{""}
		} else {
			out["an unknown item"] = []any{planted}
		}
	case "object":
		if len(s.Properties) > 0 {
			break
		}
		many := map[string]any{}
		for i := range *s.MaxProperties + 1 {
			many["f"+strconv.Itoa(i)] = planted
		}
		out["none"], out["too many"] = map[string]any{}, many
		out["a value of a wrong type"] = map[string]any{planted: 7}
		out["an empty value"] = map[string]any{planted: ""}
		out["a long value"] = map[string]any{planted: long(64 << 10)}
		out["a bad name"] = map[string]any{strings.ToUpper(planted): "x"}
		out["a long name"] = map[string]any{long(64): "x"}
		out["no name"] = map[string]any{"": planted}
	}
	return out
}

// changed returns a deep copy of the sample with one field set or removed.
func changed(sample map[string]any, path []string, v any, remove bool) map[string]any {
	out := make(map[string]any, len(sample))
	for k, e := range sample {
		out[k] = e
	}
	if len(path) > 1 {
		inner, _ := sample[path[0]].(map[string]any)
		out[path[0]] = changed(inner, path[1:], v, remove)
		return out
	}
	if remove {
		delete(out, path[0])
	} else {
		out[path[0]] = v
	}
	return out
}

// TestBadPathOnEveryRoute: what stands in the path is not repeated either.
func TestBadPathOnEveryRoute(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		w := h.world()
		own := h.session(h.user.ID)
		before := h.countsBesideRecords()
		for _, o := range d.operations(t) {
			for _, name := range []string{"id", "train_id", "credential_id", "key_id", "n"} {
				for _, value := range []string{planted, planted + "/..", "-1", "0", "9999999999999999999999", planted + "\x00", planted + "\xff", url.PathEscape(planted), strings.Repeat(planted, 300)} {
					target, ok := w.targetWith(o, name, value)
					if !ok {
						continue
					}
					asker := h.token
					if o.sessionOnly() {
						asker = own
					}
					a := h.do(request{method: o.method, target: target, token: asker, body: h.body(d, o, w)})
					require.Equal(t, 404, a.status, "%s %q: %s", o, value, a.body)
					h.problem(a)
					require.NotContains(t, string(a.body), planted)
				}
			}
		}
		require.Equal(t, before, h.countsBesideRecords())
		require.NotContains(t, h.log.String(), planted)
	})
}

// TestBadInputOfNobody: without a token nothing of a body is read.
func TestBadInputOfNobody(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		before := h.counts()
		a := h.do(request{method: "POST", target: "/api/credentials?x=%zz", body: bytes.Repeat([]byte("{"), 3<<20)})
		require.Equal(t, 401, a.status)
		h.problem(a)
		require.Equal(t, before, h.counts())
	})
}
