package usage_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/packages/ssestream"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/usage"
)

// answer is one answer in both forms. The streams are written after the public documentation of each event type
// (https://docs.anthropic.com/en/docs/build-with-claude/streaming, …/extended-thinking, …/tool-use, …/web-search-tool, …/citations, …/mcp-connector,
// …/prompt-caching, …/compaction); they are no recordings of the real API.
type answer struct {
	events []string // name, a space, data
	plain  string   // the same answer, not streamed; empty where there can be none
	want   usage.Count
}

const head = `{"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[],"stop_reason":null,"stop_sequence":null,"usage":`

func start(counts string) string { return "message_start " + head + counts + "}}" }

func plain(content, counts string) string {
	return `{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[` + content + `],"stop_reason":"end_turn","stop_sequence":null,"usage":` + counts + `}`
}

const stop = `message_stop {"type":"message_stop"}`

func answers() map[string]answer {
	const model = "claude-sonnet-4-5-20250929"
	long := strings.Repeat("Zm9v", 20_000)
	return map[string]answer{
		"text": {
			events: []string{
				start(`{"input_tokens":25,"output_tokens":1}`), `content_block_start {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`, `ping {"type": "ping"}`,
				`content_block_delta {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello \"usage\":{\"output_tokens\":999} \\ \u00e9"}}`,
				`content_block_delta {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"!"}             }`,
				`content_block_stop {"type":"content_block_stop","index":0}`, `message_delta {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}`, stop,
			},
			plain: plain(`{"type":"text","text":"Hello \"usage\":{\"output_tokens\":999} \\ \u00e9!"}`, `{"input_tokens":25,"output_tokens":15}`),
			want:  usage.Count{State: usage.Complete, Model: model, Input: 25, Output: 15},
		},
		"thinking": {
			events: []string{
				start(`{"input_tokens":7,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":3,"service_tier":"standard"}`),
				`content_block_start {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
				`content_block_delta {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"step 1"}}`,
				`content_block_delta {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM"}}`,
				`content_block_stop {"type":"content_block_stop","index":0}`,
				`content_block_start {"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"EmwKAhgB"}}`, `content_block_stop {"type":"content_block_stop","index":1}`,
				`message_delta {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1234}}`, stop,
			},
			plain: plain(`{"type":"thinking","thinking":"step 1","signature":"EqQBCgIYAhIM"},{"type":"redacted_thinking","data":"EmwKAhgB"}`, `{"input_tokens":7,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1234,"service_tier":"standard"}`),
			want:  usage.Count{State: usage.Complete, Model: model, Input: 7, Output: 1234},
		},
		"tools and the cache": {
			events: []string{
				start(`{"input_tokens":472,"cache_creation_input_tokens":300,"cache_read_input_tokens":9000,"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200},"output_tokens":2}`),
				`content_block_start {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_01","name":"get_weather","input":{}}}`,
				`content_block_delta {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"type\":\"tool_use\",\"location\": \"San"}}`,
				`content_block_delta {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":" Francisco\"}"}}`,
				`content_block_stop {"type":"content_block_stop","index":0}`,
				`content_block_start {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_02","name":"get_time","input":{}}}`, `content_block_stop {"type":"content_block_stop","index":1}`,
				`message_delta {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"input_tokens":472,"cache_creation_input_tokens":300,"cache_read_input_tokens":9000,"output_tokens":89}}`, stop,
			},
			plain: plain(`{"type":"tool_use","id":"toolu_01","name":"get_weather","input":{"type":"tool_use","location":"San Francisco","content":[{"type":"tool_use"}]}},{"id":"toolu_02","name":"get_time","input":{},"type":"tool_use"}`,
				`{"input_tokens":472,"cache_creation_input_tokens":300,"cache_read_input_tokens":9000,"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200},"output_tokens":89}`),
			want: usage.Count{State: usage.Complete, Model: model, Input: 472, Output: 89, CacheRead: 9000, CacheWrite5m: 100, CacheWrite1h: 200, ToolCalls: 2},
		},
		"server tools, whose input grows, with a result of 80 kB in one event": {
			events: []string{
				start(`{"input_tokens":2679,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":3}`),
				`content_block_start {"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"srvtoolu_01","name":"web_search","input":{}}}`,
				`content_block_delta {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"query\":\"weather\"}"}}`, `content_block_stop {"type":"content_block_stop","index":0}`,
				`content_block_start {"type":"content_block_start","index":1,"content_block":{"type":"web_search_tool_result","tool_use_id":"srvtoolu_01","content":[{"type":"web_search_result","title":"tool_use","encrypted_content":"` + long + `"}]}}`,
				`content_block_stop {"type":"content_block_stop","index":1}`,
				`content_block_start {"type":"content_block_start","index":2,"content_block":{"type":"mcp_tool_use","id":"mcptoolu_01","name":"echo","server_name":"x","input":{}}}`, `content_block_stop {"type":"content_block_stop","index":2}`,
				`content_block_start {"type":"content_block_start","index":3,"content_block":{"type":"mcp_tool_result","tool_use_id":"mcptoolu_01","is_error":false,"content":[{"type":"text","text":"hi"}]}}`, `content_block_stop {"type":"content_block_stop","index":3}`,
				`content_block_start {"type":"content_block_start","index":4,"content_block":{"type":"text","text":""}}`,
				`content_block_delta {"type":"content_block_delta","index":4,"delta":{"type":"citations_delta","citation":{"type":"web_search_result_location","cited_text":"usage","url":"https://example.com","title":null,"encrypted_index":"E"}}}`,
				`content_block_stop {"type":"content_block_stop","index":4}`,
				`message_delta {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":10682,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":510,"server_tool_use":{"web_search_requests":1}}}`, stop,
			},
			plain: plain(`{"type":"server_tool_use","id":"srvtoolu_01","name":"web_search","input":{"query":"weather"}},{"type":"web_search_tool_result","tool_use_id":"srvtoolu_01","content":[{"type":"web_search_result","title":"tool_use","encrypted_content":"`+long+`"}]},{"type":"mcp_tool_use","id":"mcptoolu_01","name":"echo","server_name":"x","input":{}},{"type":"mcp_tool_result","tool_use_id":"mcptoolu_01","is_error":false,"content":[{"type":"text","text":"hi"}]},{"type":"text","text":"","citations":[{"type":"web_search_result_location","cited_text":"usage"}]}`,
				`{"input_tokens":10682,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":510,"server_tool_use":{"web_search_requests":1}}`),
			want: usage.Count{State: usage.Complete, Model: model, Input: 10682, Output: 510, ToolCalls: 2},
		},
		"compaction, whose tokens are in no sum": {
			events: []string{
				start(`{"input_tokens":100,"output_tokens":1}`),
				`message_delta {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":100,"output_tokens":20,"iterations":[{"type":"compaction","input_tokens":5000,"output_tokens":700,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":9,"ephemeral_1h_input_tokens":0}},{"type":"message","input_tokens":100,"output_tokens":20}]}}`, stop,
			},
			plain: plain(``, `{"input_tokens":100,"output_tokens":20,"iterations":[{"type":"compaction","input_tokens":5000,"output_tokens":700,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":9,"ephemeral_1h_input_tokens":0}},{"type":"message","input_tokens":100,"output_tokens":20}]}`),
			want:  usage.Count{State: usage.Complete, Model: model, Input: 5100, Output: 720, CacheWrite5m: 9},
		},
		"an error on the way": {
			events: []string{
				start(`{"input_tokens":25,"output_tokens":1}`), `content_block_start {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
				`error {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}`,
			},
			want: usage.Count{State: usage.Partial, Model: model, Input: 25, Output: 1},
		},
		"an event of a kind to come": {
			events: []string{start(`{"input_tokens":1,"output_tokens":1}`), `something_new {"type":"something_new","usage":{"output_tokens":77},"content_block":{"type":"tool_use"}}`, `message_delta {"type":"message_delta","delta":{},"usage":{"output_tokens":2}}`, stop},
			want:   usage.Count{State: usage.Complete, Model: model, Input: 1, Output: 2},
		},
	}
}

// wire writes events with a way of ending lines.
func wire(events []string, newline string) string {
	var b strings.Builder
	for _, e := range events {
		name, data, _ := strings.Cut(e, " ")
		b.WriteString("event: " + name + newline + "data: " + data + newline + newline)
	}
	return b.String()
}

func count(events bool, parts ...string) usage.Count {
	c := usage.New(events)
	for _, p := range parts {
		b := []byte(p)
		c.Add(b)
		clear(b) // nothing of it may be kept
	}
	return c.Count()
}

// TestAStreamCountsAsThePlainAnswer, cut at every byte.
func TestAStreamCountsAsThePlainAnswer(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for name, a := range answers() {
		t.Run(name, func(t *testing.T) {
			forms := map[string]string{"lf": wire(a.events, "\n"), "crlf": wire(a.events, "\r\n"), "cr": wire(a.events, "\r"), "bom": "\xef\xbb\xbf" + wire(a.events, "\n")}
			forms["terse"] = strings.ReplaceAll(forms["lf"], "data: ", ": a comment\nid: 7\nretry\ndata:")
			for form, text := range forms {
				require.Equal(t, a.want, count(true, text), form)
				cutEverywhere(t, r, true, text, a.want)
			}
			if a.plain != "" {
				require.True(t, json.Valid([]byte(a.plain)))
				require.Equal(t, a.want, count(false, a.plain))
				cutEverywhere(t, r, false, a.plain, a.want)
				var spaced bytes.Buffer
				require.NoError(t, json.Indent(&spaced, []byte(a.plain), " ", "\t"))
				require.Equal(t, a.want, count(false, spaced.String()+"\r\n"))
			}
		})
	}
}

// cutEverywhere counts the text cut in two at every byte (of a long one, at a sixtieth of them), byte by byte, and in pieces at random.
func cutEverywhere(t *testing.T, r *rand.Rand, events bool, text string, want usage.Count) {
	t.Helper()
	for i := range len(text) {
		if len(text) > 20_000 && r.IntN(60) > 0 {
			continue
		}
		if got := count(events, text[:i], text[i:]); got != want {
			require.Equal(t, want, got, "cut at %d, between %q and %q", i, text[max(0, i-20):i], text[i:min(len(text), i+20)])
		}
	}
	require.Equal(t, want, count(events, strings.Split(text, "")...), "byte by byte")
	for range 50 {
		var parts []string
		for rest := text; rest != ""; {
			n := 1 + r.IntN(min(len(rest), 1+r.IntN(5000)))
			parts, rest = append(parts, rest[:n]), rest[n:]
		}
		require.Equal(t, want, count(events, parts...))
	}
}

// TestTheOfficialClientCountsTheSame: the SDK's own reading of each stream has the numbers that are counted here.
func TestTheOfficialClientCountsTheSame(t *testing.T) {
	for name, a := range answers() {
		if a.want.State != usage.Complete || strings.Contains(name, "to come") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			resp := &http.Response{Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(strings.NewReader(wire(a.events, "\n")))}
			stream := ssestream.NewStream[anthropic.BetaRawMessageStreamEventUnion](ssestream.NewDecoder(resp), nil)
			var m anthropic.BetaMessage
			for stream.Next() {
				require.NoError(t, m.Accumulate(stream.Current()))
			}
			require.NoError(t, stream.Err())
			got := usage.Count{State: usage.Complete, Model: string(m.Model), Input: m.Usage.InputTokens, Output: m.Usage.OutputTokens, CacheRead: m.Usage.CacheReadInputTokens, CacheWrite5m: m.Usage.CacheCreationInputTokens}
			for _, it := range m.Usage.Iterations {
				if it.Type == "compaction" {
					got.Input, got.Output, got.CacheWrite5m = got.Input+it.InputTokens, got.Output+it.OutputTokens, got.CacheWrite5m+it.CacheCreationInputTokens
				}
			}
			for _, b := range m.Content {
				if strings.HasSuffix(b.Type, "tool_use") {
					got.ToolCalls++
				}
			}
			want := a.want
			want.CacheWrite5m, want.CacheWrite1h = want.CacheWrite5m+want.CacheWrite1h, 0 // the SDK keeps only the sum up to date
			require.Equal(t, want, got)
		})
	}
}

// TestWhatCannotBeToldIsUnknown: never a guess, and never an error.
func TestWhatCannotBeToldIsUnknown(t *testing.T) {
	unknown := usage.Count{State: usage.Unknown}
	deep := strings.Repeat("[", 100_000)
	for _, text := range []string{
		``, ` `, `null`, `"x"`, `[]`, `[{"usage":{"input_tokens":1,"output_tokens":1}}]`, `{}`, `{"usage":null}`, `{"usage":7}`, `{"usage":{"input_tokens":1}}`, `{"usage":{"input_tokens":-1,"output_tokens":1}}`,
		`{"usage":{"input_tokens":1.5,"output_tokens":1}}`, `{"usage":{"input_tokens":99999999999999999999,"output_tokens":1}}`, `{"usage":{"input_tokens":1,"output_tokens":2000000000000}}`,
		`{"usage":{"input_tokens":1,"output_tokens":1},"usage":{"input_tokens":2,"output_tokens":1}}`, `{"usage":{"input_tokens":1,"output_tokens":1}}{}`, `{"usage":{"input_tokens":1,"output_tokens":1}]`,
		`{"a":` + deep + `}`, `{"usage":{"x":"` + strings.Repeat("x", 70_000) + `","input_tokens":1,"output_tokens":1}}`, "\x1f\x8b\x08\x00", `{"message":{"usage":{"input_tokens":"1","output_tokens":1}}}`,
	} {
		require.Equal(t, unknown, count(false, text), "%.200s", text)
	}
	first := "data: " + head + `{"input_tokens":25,"output_tokens":1}}}` + "\n\n"
	known := usage.Count{State: usage.Partial, Model: "claude-sonnet-4-5-20250929", Input: 25, Output: 1}
	require.Equal(t, known, count(true, first))
	for rest, want := range map[string]usage.Count{
		first:                              unknown, // two answers in one
		"data: {\"type\":\"message_stop\"": known,   // an event without its end is none
		"data: {\"type\":\"message_stop\"}\n\n" + "data: [DONE]\n\n":                                                                                       {State: usage.Complete, Model: known.Model, Input: 25, Output: 1},
		"data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":\n\n":                                                                              unknown,
		"data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":-4}}\n\n":                                                                          unknown,
		"data: {\"type\":\"message_delta\",\ndata: \"usage\":{\ndata: \"output_tokens\":9}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n": {State: usage.Complete, Model: known.Model, Input: 25, Output: 9},
		"data\n\nfata: {}\n\n:data: x\n\ndatax: {}\n\n\n\n":                                                                                                known,
		"data: nonsense\n\n": unknown,
	} {
		require.Equal(t, want, count(true, first, rest), rest)
	}
	require.Equal(t, unknown, count(true, "data: {\"type\":\"message_stop\"}\n\n"))
	// What no answer can cost is no count, neither in one number nor in the sum of many.
	most := fmt.Sprint(usage.Most)
	turn := `{"type":"compaction","input_tokens":` + most + `,"output_tokens":0},`
	for _, counts := range []string{
		`{"input_tokens":1000000001,"output_tokens":0}`, `{"input_tokens":` + most + `,"output_tokens":1}`, `{"input_tokens":1,"output_tokens":0,"cache_read_input_tokens":` + most + `}`,
		`{"input_tokens":0,"output_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":` + most + `,"ephemeral_1h_input_tokens":1}}`,
		`{"input_tokens":9223372036854775807,"output_tokens":9223372036854775807}`,
		`{"input_tokens":0,"output_tokens":0,"cache_creation_input_tokens":9223372036854775807,"cache_creation":{"ephemeral_1h_input_tokens":-9223372036854775808}}`,
		`{"input_tokens":0,"output_tokens":0,"iterations":[` + strings.TrimSuffix(strings.Repeat(turn, 2), ",") + `]}`,
		`{"input_tokens":0,"output_tokens":0,"iterations":[` + strings.TrimSuffix(strings.Repeat(turn, 900), ",") + `]}`,
	} {
		require.Equal(t, unknown, count(false, plain(``, counts)), "%.200s", counts)
	}
	require.EqualValues(t, usage.Most, count(false, plain(``, `{"input_tokens":`+most+`,"output_tokens":0}`)).Input)
	require.Equal(t, unknown, count(true, "\xef\xbbdata: "+head+"{\"input_tokens\":1,\"output_tokens\":1}}}\n\n"), "half a byte order mark is none")
	named := strings.Replace(first, "claude-sonnet-4-5-20250929", strings.Repeat("m", 500), 1)
	require.Equal(t, usage.Count{State: usage.Partial, Input: 25, Output: 1}, count(true, named), "a name of no such length is not repeated")
}

func FuzzCounter(f *testing.F) {
	for _, a := range answers() {
		if text := wire(a.events, "\n"); len(text) < 10_000 {
			f.Add(true, []byte(text), 100)
			f.Add(false, []byte(a.plain), 100)
		}
	}
	f.Fuzz(func(t *testing.T, events bool, text []byte, at int) {
		whole := usage.New(events)
		whole.Add(text)
		if len(text) == 0 {
			return
		}
		at = (at%len(text) + len(text)) % len(text)
		cut := usage.New(events)
		cut.Add(text[:at])
		cut.Add(text[at:])
		a, b := whole.Count(), cut.Count()
		if a != b {
			t.Fatalf("whole %+v, cut at %d %+v", a, at, b)
		}
		if a.Input < 0 || a.Output < 0 || a.Input+a.Output+a.CacheRead+a.CacheWrite5m+a.CacheWrite1h > usage.Most || len(a.Model) > 128 || a.State == usage.Unknown && a != (usage.Count{State: usage.Unknown}) {
			t.Fatalf("%+v", a)
		}
		var whatever struct {
			Usage struct {
				Input  *int64 `json:"input_tokens"`
				Output *int64 `json:"output_tokens"`
			}
			Message struct{ Usage json.RawMessage }
		}
		if !events && a.State == usage.Complete && json.Valid(text) && json.Unmarshal(text, &whatever) == nil && whatever.Usage.Input != nil && len(whatever.Message.Usage) == 0 && !bytes.Contains(text, []byte("iterations")) &&
			*whatever.Usage.Input != a.Input && bytes.Count(text, []byte("nput_tokens")) == 1 {
			t.Fatalf("%+v, and encoding/json reads %d", a, *whatever.Usage.Input)
		}
	})
}

// BenchmarkStream counts a stream of 1,000 deltas as they come; the floor only copies it.
func BenchmarkStream(b *testing.B) {
	a := answers()["text"]
	var text bytes.Buffer
	text.WriteString(wire(a.events[:3], "\n"))
	for i := range 1000 {
		fmt.Fprintf(&text, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"word %d of it\"}}\n\n", i)
	}
	text.WriteString(wire(a.events[5:], "\n"))
	var parts [][]byte
	for rest := text.Bytes(); len(rest) > 0; {
		n := min(len(rest), 130)
		parts, rest = append(parts, rest[:n]), rest[n:]
	}
	b.Run("count", func(b *testing.B) {
		b.SetBytes(int64(text.Len()))
		b.ReportAllocs()
		for b.Loop() {
			c := usage.New(true)
			for _, p := range parts {
				c.Add(p)
			}
			if c.Count().Output != 15 {
				b.Fatal(c.Count())
			}
		}
	})
	b.Run("floor", func(b *testing.B) {
		b.SetBytes(int64(text.Len()))
		to := make([]byte, 8192)
		for b.Loop() {
			for _, p := range parts {
				copy(to, p)
			}
		}
	})
}
