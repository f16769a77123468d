package transcript_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/transcript"
)

// TestAsked reads what real clients send: Claude Code (captures of its traffic, such as https://qntx.sbvh.nl/research/claude-api-wire-format.html)
// puts reminders beside the prompt and beside the results of tools; the SDKs send texts and blocks.
func TestAsked(t *testing.T) {
	const remind = `{"type":"text","text":"<system-reminder>\nCLAUDE.md says x\n</system-reminder>\n"}`
	for name, c := range map[string]struct {
		body string
		want transcript.Asked
	}{
		"a text":                  {`{"model":"m","max_tokens":1024,"messages":[{"role":"user","content":"hi \u00e9\ud83d\ude00\n\"x\""}]}`, transcript.Asked{Prompt: "hi é😀\n\"x\"", Long: 13, Place: 1, Messages: 1, New: true, MaxTokens: 1024}},
		"content before the role": {`{"messages":[{"content":"hi","role":"user"}]}`, transcript.Asked{Prompt: "hi", Long: 2, Place: 1, Messages: 1, New: true}},
		"blocks and a picture": {`{"messages":[{"role":"user","content":[{"text":"one","type":"text"},{"type":"image","source":{"type":"base64","data":"AAAA","text":"no"}},{"type":"text","text":"two","cache_control":{"type":"ephemeral"}}]}]}`,
			transcript.Asked{Prompt: "one\n\ntwo", Long: 8, Others: 1, Place: 1, Messages: 1, New: true}},
		"reminders are no prompt": {`{"tools":[{"name":"Read","input_schema":{"type":"object"}}],"messages":[{"role":"user","content":[` + remind + `,{"type":"text","text":"fix it"}]}]}`,
			transcript.Asked{Prompt: "fix it", Long: 6, Place: 1, Messages: 1, New: true, Equipped: true}},
		"reminder and prompt in one text": {`{"messages":[{"role":"user","content":"<system-reminder>a</system-reminder><system-reminder>b</system-reminder> do it"}]}`,
			transcript.Asked{Prompt: "do it", Long: 5, Place: 1, Messages: 1, New: true}},
		"the result of a tool goes on": {`{"messages":[{"role":"user","content":"fix it"},{"role":"assistant","content":[{"type":"text","text":"I look"},{"type":"tool_use","id":"t1","name":"Read","input":{"name":"no","type":"text","text":"no"}},
			{"type":"tool_use","id":"t2","name":"Bash","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"secret file"}]},` + remind + `]}]}`,
			transcript.Asked{Prompt: "fix it", Long: 6, Place: 1, Messages: 3, Tools: []string{"Read", "Bash"}, Calls: 2}},
		"reminders alone go on": {`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":[` + remind + `]}]}`, transcript.Asked{Prompt: "a", Long: 1, Place: 1, Messages: 3}},
		"a second prompt":       {`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","name":"X"}]},{"role":"user","content":"b"}]}`, transcript.Asked{Prompt: "b", Long: 1, Place: 3, Messages: 3, New: true}},
		"a prefilled answer":    {`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"{"}]}`, transcript.Asked{Prompt: "a", Long: 1, Place: 1, Messages: 2, New: true}},
		"a paused turn":         {`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"server_tool_use","name":"web_search"}]}]}`, transcript.Asked{Prompt: "a", Long: 1, Place: 1, Messages: 2, Tools: []string{"web_search"}, Calls: 1}},
		"the question of quota": {`{"max_tokens":1,"messages":[{"role":"user","content":"quota"}]}`, transcript.Asked{Prompt: "quota", Long: 5, Place: 1, Messages: 1, New: true, MaxTokens: 1}},
		"elsewhere":             {`{"system":[{"type":"text","text":"no"}],"metadata":{"messages":[{"role":"user","content":"no"}]}}`, transcript.Asked{}},
		"no JSON":               {`hello`, transcript.Asked{}},
		"nothing":               {``, transcript.Asked{}},
		"cut":                   {`{"messages":[{"role":"user","content":"hi`, transcript.Asked{}},
		"ends of lines around":  {`{"messages":[{"role":"user","content":"\n two words \r\n"}]}`, transcript.Asked{Prompt: "two words", Long: 9, Place: 1, Messages: 1, New: true}},
		"half a pair":           {`{"messages":[{"role":"user","content":"\ud83dx\ude00\ud83d\u0041"}]}`, transcript.Asked{Prompt: "\uFFFDx\uFFFD\uFFFDA", Long: 11, Place: 1, Messages: 1, New: true}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, transcript.Read([]byte(c.body))) })
	}
}

// TestAskedIsBounded: forty megabytes of prompt, ten thousand messages and a very deep body cost what little is kept.
func TestAskedIsBounded(t *testing.T) {
	long := strings.Repeat("x", 40<<20)
	for name, body := range map[string]string{
		"one text":   `{"messages":[{"role":"user","content":"` + long + `"}]}`,
		"one block":  `{"messages":[{"role":"user","content":[{"type":"text","text":"` + long + `"}]}]}`,
		"a key":      `{"` + long + `":1,"messages":[{"role":"user","content":"hi"}]}`,
		"deep":       `{"messages":[{"role":"user","content":` + strings.Repeat("[", 20<<20),
		"backslashs": `{"messages":[{"role":"user","content":"` + strings.Repeat(`\\`, 20<<20) + `"}]}`,
		"tools":      `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[` + strings.Repeat(`{"type":"tool_use","name":"`+strings.Repeat("n", 500)+`"},`, 40_000) + `{}]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			text := []byte(body)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			got := transcript.Read(text)
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(512<<10))
			require.LessOrEqual(t, len(got.Prompt), transcript.Kept)
			require.LessOrEqual(t, len(got.Tools), transcript.ToolsKept)
			if name == "one text" || name == "one block" {
				require.Equal(t, int64(len(long)), got.Long)
			}
			if name == "tools" {
				require.Equal(t, 40_000, got.Calls)
			}
		})
	}
}

const stream = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"role\":\"assistant\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n" +
	"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\n" +
	"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"never told\"}}\n\n" +
	"event: ping\ndata: {\"type\":\"ping\"}\n\n" +
	"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n" +
	"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"I l\\u00f6\"}}\n\n" +
	"event: content_block_delta\r\ndata: {\"index\":1,\"delta\":{\"text\":\"ok \\ud83d\\ude00\",\"type\":\"text_delta\"},\"type\":\"content_block_delta\"}\r\n\r\n" +
	"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"Read\",\"input\":{}}}\n\n" +
	"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"text\\\":\\\"no\\\"}\"}}\n\n" +
	"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":3,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n" +
	"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":3,\"delta\":{\"type\":\"text_delta\",\"text\":\"Done.\"}}\n\n" +
	"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":9}}\n\n" +
	"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"

const plain = `{"type":"message","role":"assistant","content":[{"type":"thinking","thinking":"never told","signature":"x"},{"type":"text","text":"I l\u00f6ok \ud83d\ude00","citations":[{"type":"char_location","text":"no"}]},
	{"type":"tool_use","id":"toolu_1","name":"Read","input":{"type":"text","text":"no"}},{"type":"text","text":"Done."}],"stop_reason":"tool_use","usage":{"input_tokens":3,"output_tokens":9}}`

var answered = transcript.Answer{Text: "I löok 😀\n\nDone.", Long: 19, Tools: []string{"Read"}, Calls: 1, Stop: "tool_use", Whole: true}

// TestReplyCutAnywhere: a stream and a plain answer read the same, at whatever byte they are cut into two pieces, and byte by byte.
func TestReplyCutAnywhere(t *testing.T) {
	for _, c := range []struct {
		text   string
		events bool
	}{{stream, true}, {plain, false}} {
		for cut := range len(c.text) {
			r := transcript.NewReply(c.events)
			r.Add([]byte(c.text[:cut]))
			r.Add([]byte(c.text[cut:]))
			require.Equal(t, answered, r.Answer(), cut)
		}
		r := transcript.NewReply(c.events)
		for i := range len(c.text) {
			r.Add([]byte{c.text[i]})
		}
		require.Equal(t, answered, r.Answer())
	}
}

func TestReplyThatBreaksOff(t *testing.T) {
	r := transcript.NewReply(true)
	r.Add([]byte(stream[:strings.Index(stream, "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2")]))
	r.Add([]byte("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n"))
	require.Equal(t, transcript.Answer{Text: "I löok 😀", Long: 12, Trouble: "overloaded_error"}, r.Answer())
	half := transcript.NewReply(false)
	half.Add([]byte(plain[:len(plain)/2]))
	require.False(t, half.Answer().Whole)
	require.Empty(t, transcript.NewReply(true).Answer())
}

// TestACutIsKnown: who reads a prompt can tell that it is not all, in however many texts it came, and of one that was cut no word is told in half, however long.
func TestACutIsKnown(t *testing.T) {
	for _, texts := range []int{1, 2, 100, 8000} {
		block := `{"type":"text","text":"` + strings.Repeat("x", transcript.Kept/texts) + `"}` // with what stands between them, more than is kept
		got := transcript.Read([]byte(`{"messages":[{"role":"user","content":[` + block + strings.Repeat(","+block, texts-1) + `,{"type":"text","text":"end"}]}]}`))
		require.Greater(t, got.Long, int64(len(got.Prompt)), texts)
		require.LessOrEqual(t, len(got.Prompt), transcript.Kept)
	}
	word := strings.Repeat("s", 4000)
	got := transcript.Read([]byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("y", 13000) + ` ` + word + `"}]}`))
	require.Equal(t, strings.Repeat("y", 13000), got.Prompt)
	require.EqualValues(t, 17001, got.Long)

	r := transcript.NewReply(true)
	for _, n := range []int{128, 129} {
		r.Add([]byte("data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\",\"name\":\"" + strings.Repeat("N", n) + "\"}}\n\n"))
	}
	require.Equal(t, []string{strings.Repeat("N", 128), "(a very long name)"}, r.Answer().Tools)

	for stop, short := range map[string]bool{"": false, "end_turn": false, "tool_use": false, "stop_sequence": true, "max_tokens": true, "refusal": true, "model_context_window_exceeded": true, "news": true} {
		require.Equal(t, short, transcript.Answer{Stop: stop, Whole: true}.CutShort(), stop)
		require.True(t, transcript.Answer{Stop: stop}.CutShort(), stop)
		require.True(t, transcript.Answer{Stop: stop, Whole: true, Trouble: "overloaded_error"}.CutShort(), stop)
	}
	for text, want := range map[string]string{
		"": "", "word": "", "a word": "a", "a\tword": "a", "a\nword": "a", "a\rword": "", "a " + strings.Repeat("s", 12_000): "a", strings.Repeat("s", transcript.Kept): "",
		"鍵は秘密です。": "鍵は秘密です。", "鍵はsk-ant-1": "鍵は", "鍵は秘\xe5\xaf": "鍵は秘", "a sk\u200b-ant": "a", "a naïve": "a", "\u3164": "",
	} {
		require.Equal(t, want, text[:transcript.WholeWords([]byte(text))], text)
	}
}

func TestReplyIsBounded(t *testing.T) {
	r := transcript.NewReply(true)
	piece := []byte("data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"" + strings.Repeat("y", 1000) + "\"}}\n\n")
	call := []byte("data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\",\"name\":\"N\"}}\n\n")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20_000 {
		r.Add(piece)
		r.Add(call)
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(512<<10))
	a := r.Answer()
	require.Len(t, a.Text, transcript.Kept)
	require.Len(t, a.Tools, transcript.ToolsKept)
	require.Equal(t, 20_000, a.Calls)
}

// FuzzRead: any body is read within the bounds, and the prompt of one that is well-formed is what the standard library reads.
func FuzzRead(f *testing.F) {
	f.Add(`{"messages":[{"role":"user","content":"hi"}]}`, "p\u00e9\"\\\n\x00")
	f.Add(plain, strings.Repeat("\\", 9))
	f.Fuzz(func(t *testing.T, body, prompt string) {
		got := transcript.Read([]byte(body))
		if len(got.Prompt) > transcript.Kept || len(got.Tools) > transcript.ToolsKept {
			t.Fatal("beyond the bounds")
		}
		for _, events := range []bool{false, true} {
			r, s := transcript.NewReply(events), transcript.NewReply(events)
			r.Add([]byte(body))
			for i := range len(body) {
				s.Add([]byte(body[i : i+1]))
			}
			if a, b := fmt.Sprint(r.Answer()), fmt.Sprint(s.Answer()); a != b {
				t.Fatalf("cut into bytes it reads otherwise: %s and %s", a, b)
			}
		}
		prompt = strings.TrimSpace(prompt)
		if !utf8.ValidString(prompt) || prompt == "" || strings.HasPrefix(prompt, "<system-reminder>") || len(prompt) > transcript.Kept {
			return
		}
		made, err := json.Marshal(map[string]any{"messages": []any{map[string]any{"role": "user", "content": []any{map[string]any{"type": "text", "text": prompt}}}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := transcript.Read(made); got.Prompt != prompt || !got.New || got.Long != int64(len(prompt)) {
			t.Fatalf("%q was read as %q", prompt, got.Prompt)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	turn := `{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"` + strings.Repeat(`line of a file\n`, 100) + `"}]},{"role":"assistant","content":[{"type":"text","text":"ok"},{"type":"tool_use","name":"Read","input":{"file":"x"}}]},`
	body := []byte(`{"messages":[` + strings.Repeat(turn, 200) + `{"role":"user","content":"do it"}]}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if transcript.Read(body).Prompt != "do it" {
			b.Fatal("not read")
		}
	}
}

func BenchmarkReply(b *testing.B) {
	piece := []byte("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"some words of an answer\"}}\n\n")
	r := transcript.NewReply(true)
	b.SetBytes(int64(len(piece)))
	b.ReportAllocs()
	for b.Loop() {
		r.Add(piece)
	}
}
