package contents

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/stray"
)

// hidden are secrets, each with what stands around it where it is found only so.
var hidden = []struct{ before, secret, after string }{
	{"the key ", "sk-ant-api03-Zq7Lw2Xc9Vb4Nm1Kj8Hg5Fd3Sa6Po0Iu", " works"},
	{"use ", "sbx_live_Zq7Lw2Xc9Vb4Nm1Kj8Hg5Fd3", ", please"},
	{"a ", "ghp_Zq7Lw2Xc9Vb4Nm1Kj8Hg5Fd3Sa6Po0Iu", "\n"},
	{"jwt ", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.SflKxwRJSMeKKF2QT4", " ok"},
	{"at ", "postgres://me:hunter22hunter22@db.internal/orders", " there"},
	{"at ", "mysql://me:hunter,22;hunter`22,hunter@db.internal/orders", " there"},
	{"login\npassword: ", "Zq7Lw2Xc9Vb4Nm1Kj8", "\nend"},
	{"x\n", "-----BEGIN RSA PRIVATE KEY-----\nMIIEZq7Lw2Xc9Vb4\nNm1Kj8Hg5Fd3Sa6Po\n-----END RSA PRIVATE KEY-----", "\ny"},
}

type fact struct{ kind, field, start string }

var facts = []fact{
	{"text_delta", "text", `{"type":"text","text":""}`}, {"thinking_delta", "thinking", `{"type":"thinking","thinking":""}`},
	{"input_json_delta", "partial_json", `{"type":"tool_use","id":"toolu_1","name":"Write","input":{}}`},
}

// written is a JSON string as an upstream may write it: every so many bytes by an escape that need not be.
func written(s string, every int) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '"', r == '\\':
			b.WriteString(`\` + string(r))
		case every > 0 && i%every == 0 && r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// streamOf is an answer that tells these pieces of one block, with another block's between them.
func streamOf(f fact, pieces []string, every int) string {
	var b strings.Builder
	event := func(kind, data string) { b.WriteString("event: " + kind + "\ndata: " + data + "\n\n") }
	event("message_start", `{"type":"message_start","message":{"id":"msg_1","content":[],"usage":{"input_tokens":3}}}`)
	event("content_block_start", `{"type":"content_block_start","index":0,"content_block":`+f.start+`}`)
	event("content_block_start", `{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`)
	for i, p := range pieces {
		event("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"`+f.kind+`","`+f.field+`":"`+written(p, every)+`"}}`)
		if i%3 == 1 {
			event("content_block_delta", `{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"beside "}}`)
			event("ping", `{"type": "ping"}`)
		}
	}
	event("content_block_stop", `{"type":"content_block_stop","index":0}`)
	event("content_block_stop", `{"type":"content_block_stop","index":1}`)
	event("message_stop", `{"type":"message_stop"}`)
	return b.String()
}

// textOf is what the events of a shown stream tell of the first block.
func textOf(t *testing.T, shown, field string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(shown) {
		data, is := strings.CutPrefix(line, "data: ")
		if !is || strings.TrimSpace(data) == "" {
			continue
		}
		var e struct {
			Index int
			Delta map[string]any
		}
		require.NoError(t, json.Unmarshal([]byte(data), &e), "%s", line)
		if s, is := e.Delta[field].(string); is && e.Index == 0 {
			b.WriteString(s)
		}
	}
	return b.String()
}

// requireNothingOf requires that no eight characters of a secret are shown one after the other, neither in the events nor in what they make.
func requireNothingOf(t *testing.T, secret string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		for i := 0; i+8 <= len(secret); i++ {
			if part := secret[i : i+8]; strings.Contains(text, part) {
				require.NotContains(t, text, part)
			}
		}
	}
}

// TestASecretInPiecesIsNotShown: a secret that a stream tells in pieces, cut at any place and escaped in any way, is not shown, neither in an event nor in what they make, and nothing else of the text is
// changed.
func TestASecretInPiecesIsNotShown(t *testing.T) {
	dice := rand.New(rand.NewPCG(3, 4))
	for _, f := range facts {
		for _, h := range hidden {
			for _, every := range []int{0, 5} {
				text := "Hello “wörld” \\ " + h.before + h.secret + h.after + " and \"so\" on"
				want := stray.Redact(text)
				requireNothingOf(t, h.secret, want)
				if f.field == jsonField {
					input, err := json.Marshal(map[string]string{"path": "a/b.txt", "content": text})
					require.NoError(t, err)
					if every > 0 { // inside of the input as well
						input = []byte(`{"content":"` + written(text, 3) + `","path":"a/b.txt"}`)
					}
					text = string(input)
				}
				check := func(pieces ...string) {
					t.Helper()
					got := shown(streamOf(f, pieces, every))
					whole := textOf(t, got, f.field)
					requireNothingOf(t, h.secret, got, whole)
					if f.field == jsonField {
						var in map[string]string
						require.NoError(t, json.Unmarshal([]byte(whole), &in), "%s", whole)
						require.Equal(t, "a/b.txt", in["path"])
						whole = in["content"]
					}
					if whole != want {
						require.Equal(t, want, whole, "%q", pieces)
					}
				}
				for cut := range len(text) + 1 {
					if text[:cut] == strings.ToValidUTF8(text[:cut], "") { // an event holds whole characters
						check(text[:cut], text[cut:])
					}
				}
				check(strings.Split(text, "")...)
				for range 8 {
					var pieces []string
					for rest := []rune(text); len(rest) > 0; {
						n := min(len(rest), dice.IntN(12))
						pieces, rest = append(pieces, string(rest[:n])), rest[n:]
					}
					check(pieces...)
				}
			}
		}
	}
}

// TestASecretAtACutIsNotShown: where a stream is too long, nothing is shown of a secret either that the cut goes through, in an event or between two.
func TestASecretAtACutIsNotShown(t *testing.T) {
	for _, f := range []fact{facts[0], facts[2]} {
		for _, h := range hidden {
			core := strings.TrimSuffix(strings.TrimPrefix(h.secret, "-----BEGIN RSA PRIVATE KEY-----"), "-----END RSA PRIVATE KEY-----")
			text := strings.Repeat("some words ", 6) + h.before + h.secret + h.after + strings.Repeat(" other words", 6)
			if f.field == jsonField {
				input, err := json.Marshal(map[string]string{"content": text})
				require.NoError(t, err)
				text = string(input)
			}
			for _, size := range []int{1, 7, 1000} {
				var pieces []string
				for rest := text; rest != ""; {
					n := min(len(rest), size)
					pieces, rest = append(pieces, rest[:n]), rest[n:]
				}
				stream := streamOf(f, pieces, 0)
				step := 1 + len(stream)/60
				for most := 64; most < len(stream)+step; most += step {
					tap := &Tap{want: most}
					tap.answered.add([]byte(stream), most)
					kept := tap.plain(&tap.answered)
					got := shown(kept)
					var made strings.Builder
					for line := range strings.Lines(got) {
						data, is := strings.CutPrefix(line, "data: ")
						var e struct {
							Index int
							Delta map[string]string
						}
						if is && json.Unmarshal([]byte(data), &e) == nil && e.Index == 0 {
							made.WriteString(e.Delta[f.field])
						}
					}
					requireNothingOf(t, core, got, made.String())
					if most > len(stream) {
						require.Contains(t, made.String(), "other words")
					}
				}
			}
		}
	}
}

// TestAStreamThatBreaksOff: wherever a stream ends, within an event or between two, nothing is shown of a secret that goes on behind that; what is whole before it is.
func TestAStreamThatBreaksOff(t *testing.T) {
	for _, f := range facts {
		for _, h := range hidden {
			core := strings.TrimSuffix(strings.TrimPrefix(h.secret, "-----BEGIN RSA PRIVATE KEY-----"), "-----END RSA PRIVATE KEY-----")
			for cut := range h.secret {
				first, second := "Hello there "+h.before+h.secret[:cut], h.secret[cut:]+h.after+" and so on"
				if f.field == jsonField {
					first, second = `{"path":"Hello there","content":"`+written(first[len("Hello there "):], 0), written(second, 0)+`"}`
				}
				stream := streamOf(f, []string{first, second}, 0)
				event := strings.LastIndex(stream[:strings.Index(stream, written(second, 0))], "event: ")
				data := event + strings.Index(stream[event:], "data: ")
				for _, end := range []int{event, event + 9, data, data + 6, data + 8, strings.Index(stream, written(second, 0)) + len(written(h.secret[cut:], 0))} {
					got := shown(stream[:end])
					whole := textOf(t, got, f.field)
					requireNothingOf(t, core, got, whole)
					require.Contains(t, whole, "Hello there")
					if cut > 0 && !strings.HasSuffix(h.secret[:cut], "\n") && whole != strings.TrimSuffix(first, "-----") {
						require.Regexp(t, `\[(cut off|redacted)`, whole)
					}
				}
			}
		}
	}
}

// TestWhatAStreamThatBreaksOffStillShows: what an event tells whole is no rest of a word, and a stream that ends has none.
func TestWhatAStreamThatBreaksOffStillShows(t *testing.T) {
	stream := streamOf(facts[2], []string{`{"path":"a.txt","content":"one `, `two"}`}, 0)
	ends := "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":5}}\n\n"
	at := strings.Index(stream, "event: message_stop")
	stream = stream[:at] + ends + stream[at:]
	got := shown(stream)
	require.NotContains(t, got, lost)
	require.Contains(t, got, `"tool_use"`)
	require.NotContains(t, shown(stream[:at+len(ends)]), lost)

	got = shown(stream[:strings.Index(stream, "event: content_block_stop")])
	for _, want := range []string{`"toolu_1"`, `"name": "Write"`, "one "} {
		require.Contains(t, got, want)
	}
	stream = streamOf(facts[0], []string{"one ", "two"}, 0)
	got = shown(stream[:strings.Index(stream, "event: content_block_stop")])
	require.Contains(t, got, "one ")
	require.NotContains(t, got, "two")
}

// TestABrokenEventIsLost: where a line of a stream cannot be read, nothing is shown of a secret that goes through it, and what comes after is shown.
func TestABrokenEventIsLost(t *testing.T) {
	for _, f := range facts[:2] {
		for _, h := range hidden {
			core := strings.TrimSuffix(strings.TrimPrefix(h.secret, "-----BEGIN RSA PRIVATE KEY-----"), "-----END RSA PRIVATE KEY-----")
			for cut := 1; cut+3 < len(h.secret); cut++ {
				middle := h.secret[cut : cut+2]
				stream := streamOf(f, []string{"Hello " + h.before + h.secret[:cut], "MIDDLE" + middle, h.secret[cut+2:] + h.after + " and so on", " to the end"}, 0)
				at := strings.Index(stream, "MIDDLE")
				end := at + strings.Index(stream[at:], "\n")
				got := shown(stream[:at] + stream[end:])
				requireNothingOf(t, core, got, textOf(t, got, f.field))
				require.Contains(t, got, "Hello ")
				require.Contains(t, got, "\n"+lost+"\n")
				require.Contains(t, got, "to the end")
			}
		}
	}
}

// requireLinear requires that four times as much does not take much more than four times as long: each is done a few times, and the best counts, since others work on the machine too.
func requireLinear(t *testing.T, size int, do func(size int)) {
	t.Helper()
	ratio := 0.0
	for range 4 {
		took := [2]time.Duration{time.Hour, time.Hour}
		for range 2 {
			for i, n := range []int{size / 4, size} {
				began := time.Now()
				do(n)
				took[i] = min(took[i], time.Since(began))
			}
		}
		if ratio = float64(took[1]) / float64(took[0]); ratio < 8 {
			return
		}
	}
	require.Less(t, ratio, 8.0)
}

// TestManyBlocksAreShownSoon: an event that begins a block goes through the texts of that block only.
func TestManyBlocksAreShownSoon(t *testing.T) {
	requireLinear(t, MostBytes/2, func(size int) {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, `data:{"type":"content_block_start","index":%d,"delta":{"a":"","b":"","c":"","d":"","e":"","f":"","g":""}}`+"\n", i)
		}
		readStream(b.String())
	})
}

// TestALongStreamIsShownSoon: a stream of a megabyte in the smallest pieces.
func TestALongStreamIsShownSoon(t *testing.T) {
	var pieces []string
	for len(pieces)*140 < MostBytes {
		pieces = append(pieces, "a ", "password", "=", "\n")
	}
	for _, f := range facts {
		stream := streamOf(f, pieces, 0)[:MostBytes]
		began := time.Now()
		got := shown(stream)
		t.Logf("%s: %v", f.field, time.Since(began))
		require.Less(t, time.Since(began), 30*time.Second)
		require.Less(t, len(got), shownMost)
	}
}

// FuzzShown: whatever was kept, it is shown within bounds, and a key between blanks never is.
func FuzzShown(f *testing.F) {
	f.Add(streamOf(facts[0], []string{"a", "b"}, 0), " ")
	f.Add(streamOf(facts[2], []string{`{"password":"`, `\u0073k-`, `x"}`}, 2)+"\n[17 bytes are not kept]\n\"}}\ndata: {", "\n")
	f.Add(`{"a":"data:"}`, "data: ")
	f.Fuzz(func(t *testing.T, before, after string) {
		const key = "sk-ant-api03-plantedplantedplanted"
		text := strings.ToValidUTF8(before+" "+key+" "+after, "\ufffd")
		got := shown(text)
		if strings.Contains(got, key) {
			t.Fatal("a key is shown")
		}
		if len(got) > shownMost+8*len(text) {
			t.Fatal("beyond the bounds")
		}
	})
}
