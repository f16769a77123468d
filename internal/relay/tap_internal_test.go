package relay

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/transcript"
)

// letters are what only a secret has: no six of them in a row may be told.
const letters = "Q7w8E9r0T1y2U3i4O5p6A7s8D9f0G1h2J3k4L5z6X7c8V9b0N1m2"

// secrets are of each kind that is taken out in a way of its own.
func secrets() map[string]string {
	return map[string]string{
		"a provider's key":    "sk-ant-api03-" + letters,
		"the client key":      "sbx_live_" + letters,
		"what was lent":       "lent-" + letters,
		"a long access token": "eyJhbGciOiJSUzI1NiJ9.eyJ" + strings.Repeat(letters, 60) + "." + strings.Repeat(letters, 5),
		"a connection string": "postgres://app:" + letters + "@db.example.com/app",
		"a value":             "password=" + letters,
	}
}

// heard is a tap that was asked something.
func heard(prompt string, events bool) *Tap {
	tap := &Tap{reply: transcript.NewReply(events), about: About{TrainID: "train_1", Train: "web", Keys: []string{"sbx_live_" + letters}, Hide: func(s string) string { return strings.ReplaceAll(s, "lent-"+letters, "[x]") }}}
	asked, _ := json.Marshal(prompt)
	tap.read([]byte(`{"messages":[{"role":"user","content":` + string(asked) + `}]}`))
	return tap
}

func requireNoPart(t *testing.T, told string, about ...any) {
	t.Helper()
	for i := range len(letters) - 6 {
		require.NotContains(t, told, letters[i:i+6], fmt.Sprint(about...))
	}
}

// streamOf tells a text in pieces of some bytes, up to its end.
func streamOf(text string, size int, stop string) string {
	var b strings.Builder
	b.WriteString("data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n")
	for at := 0; at < len(text); at += size {
		piece, _ := json.Marshal(text[at:min(len(text), at+size)])
		fmt.Fprintf(&b, "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":%s}}\n\n", piece)
	}
	if stop != "" {
		fmt.Fprintf(&b, "data: {\"type\":\"content_block_stop\",\"index\":0}\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":%q}}\n\ndata: {\"type\":\"message_stop\"}\n\n", stop)
	}
	return b.String()
}

// TestHalfASecretIsNotTold: wherever an answer breaks off, or the model is made to stop, what is told of it holds no part of a secret that was being said.
func TestHalfASecretIsNotTold(t *testing.T) {
	for kind, planted := range secrets() {
		t.Run(kind, func(t *testing.T) {
			text := "The key is\n" + planted + " as you know."
			for n := range len(text) {
				if n > 400 && n < len(text)-40 && n%97 != 0 {
					continue
				}
				for stop, whole := range map[string]bool{"": false, "max_tokens": true, "stop_sequence": true} {
					tap := heard("what is it", true)
					tap.Add([]byte(streamOf(text[:n], 7, stop)))
					told, ok := tap.telling()
					require.True(t, ok)
					requireNoPart(t, told.Talk.Reply, n, stop, whole)
					if n > 12 && n < len(planted) {
						require.Equal(t, "The key is "+cutOff, told.Talk.Reply)
					}
				}
			}
			whole := heard("what is it", true)
			whole.Add([]byte(streamOf(text, 7, "end_turn")))
			told, _ := whole.telling()
			requireNoPart(t, told.Talk.Reply)
			require.True(t, strings.HasPrefix(told.Talk.Reply, "The key is\n"), told.Talk.Reply)
			require.True(t, strings.HasSuffix(told.Talk.Reply, " as you know."), told.Talk.Reply)
			require.NotContains(t, told.Talk.Reply, cutOff)
		})
	}
}

// TestHalfAPlainAnswerIsNotTold: of a plain answer that breaks off the blocks that were whole are told, and they end in no half word either.
func TestHalfAPlainAnswerIsNotTold(t *testing.T) {
	for kind, planted := range secrets() {
		body := `{"content":[{"type":"text","text":"First."},{"type":"text","text":"It is ` + planted + `"}],"stop_reason":"end_turn"}`
		for n := 0; n < len(body); n += 1 + n/300 {
			tap := heard("what is it", false)
			tap.Add([]byte(body[:n]))
			told, ok := tap.telling()
			require.True(t, ok)
			requireNoPart(t, told.Talk.Reply, kind, n)
		}
	}
}

// TestTheLengthOfWhatIsToldHidesNoSecret: what is told has at most 3,000 characters, and what was taken out of it was taken out before.
func TestTheLengthOfWhatIsToldHidesNoSecret(t *testing.T) {
	for kind, planted := range secrets() {
		for before := 2940; before <= 3000; before++ {
			text := strings.Repeat("é ", before/2) + strings.Repeat("x ", before%2) + planted + " end"
			tap := heard(text, true)
			tap.Add([]byte(streamOf(text, 1000, "end_turn")))
			told, ok := tap.telling()
			require.True(t, ok)
			for _, s := range []string{told.Talk.Prompt, told.Talk.Reply} {
				requireNoPart(t, s, kind, before)
				require.LessOrEqual(t, utf8.RuneCountInString(s), charsTold)
			}
		}
	}
}

// TestWhatWasCutAtItsMost: a text of which only the beginning is kept ends before the word that it was cut in, also where it came in many texts and that end is told, and no name of a tool is told in half.
func TestWhatWasCutAtItsMost(t *testing.T) {
	for kind, planted := range secrets() {
		for _, texts := range []int{1, 2, 100} {
			for _, over := range []int{1, 2, 30, len(planted) - 10, len(planted) - 1} {
				// The end of what is kept lies so many bytes before that of the secret.
				room := transcript.Kept + over - len(planted) - 2*texts
				var blocks []string
				for i := range texts {
					n := room / texts
					if i == 0 {
						n += room % texts
					}
					blank := strings.Repeat("\u200b", 4) + " " // 13 bytes, of which one is told, so that this end is
					blocks = append(blocks, "w "+strings.Repeat(blank, (n-3)/13)+strings.Repeat("w", n-2-(n-3)/13*13))
				}
				var body []string
				for _, text := range append(blocks, planted) {
					made, _ := json.Marshal(text)
					body = append(body, `{"type":"text","text":`+string(made)+`}`)
				}
				tap := heard("", true)
				tap.read([]byte(`{"messages":[{"role":"user","content":[` + strings.Join(body, ",") + `]}]}`))
				require.Len(t, tap.asked.Prompt, transcript.Kept)
				tap.Add([]byte(streamOf(strings.Join(blocks, "\n\n")+"\n\n"+planted, 1000, "end_turn")))
				told, ok := tap.telling()
				require.True(t, ok)
				for _, s := range []string{told.Talk.Prompt, told.Talk.Reply} {
					requireNoPart(t, s, kind, texts, over)
					require.Less(t, utf8.RuneCountInString(s), charsTold, "the end is told")
				}
			}
		}
		tap := heard("what", true)
		tap.Add([]byte("data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\",\"name\":\"" + strings.Repeat("n", 90) + " " + planted + "\"}}\n\n"))
		told, _ := tap.telling()
		requireNoPart(t, strings.Join(told.Talk.Tools, " "), kind)
	}
}

// TestATroubledEndIsNone: an answer whose stream tells an error and then that it is through may have ended in a word.
func TestATroubledEndIsNone(t *testing.T) {
	for _, planted := range secrets() {
		tap := heard("what is it", true)
		tap.Add([]byte(streamOf("The key is "+planted[:20], 7, "") + "data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n"))
		told, ok := tap.telling()
		require.True(t, ok)
		require.Equal(t, "The key is "+cutOff, told.Talk.Reply)
	}
}
