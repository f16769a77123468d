package signalboxtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// slack is a fake of ours. It answers as Slack documents of incoming webhooks (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks): 200 and "ok", 400 and
// "invalid_payload" for what is no JSON object with a text, and 429 with Retry-After when it is asked too often (https://docs.slack.dev/apis/web-api/rate-limits).
type slack struct {
	*httptest.Server
	mu       sync.Mutex
	texts    []string
	at       []time.Time
	trouble  func(http.ResponseWriter) bool // answers in its place
	received int
}

func newSlack(t testing.TB) *slack {
	s := &slack{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.received++
		if s.trouble != nil && s.trouble(w) {
			return
		}
		var in struct {
			Text *string `json:"text"`
		}
		if json.Unmarshal(b, &in) != nil || in.Text == nil {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "invalid_payload")
			return
		}
		s.texts, s.at = append(s.texts, *in.Text), append(s.at, time.Now())
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *slack) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.texts)
}

func (s *slack) troubles(with func(http.ResponseWriter) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = with
}

// until waits for n messages, and that no more come.
func (s *slack) until(t testing.TB, n int) []string {
	t.Helper()
	require.Eventually(t, func() bool { return len(s.all()) >= n }, 30*time.Second, 10*time.Millisecond, "%d messages came, not %d", len(s.all()), n)
	require.Len(t, s.all(), n)
	return s.all()
}

// talker is an upstream of ours that answers what a test says.
type talker struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request, body []byte)
}

func newTalker(t testing.TB) *talker {
	u := &talker{}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		u.mu.Lock()
		answer := u.answer
		u.mu.Unlock()
		answer(w, r, b)
	}))
	t.Cleanup(u.Close)
	return u
}

func (u *talker) says(answer func(w http.ResponseWriter, r *http.Request, body []byte)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

// text has it answer with a text and calls of tools, as one value or as a stream.
func (u *talker) text(text string, tools ...string) {
	u.says(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		stop := "end_turn"
		content := []map[string]any{{"type": "thinking", "thinking": "planted-thought"}, {"type": "text", "text": text}}
		for _, name := range tools {
			content, stop = append(content, map[string]any{"type": "tool_use", "id": "toolu_1", "name": name, "input": map[string]any{"command": "planted-input"}}), "tool_use"
		}
		usage := map[string]any{"input_tokens": 1200, "cache_read_input_tokens": 1000, "output_tokens": 34}
		if !bytes.Contains(body, []byte(`"stream":true`)) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "message", "role": "assistant", "model": "claude-answers", "content": content, "stop_reason": stop, "usage": usage})
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		event(w, map[string]any{"type": "message_start", "message": map[string]any{"model": "claude-answers", "content": []any{}, "usage": usage}})
		for i, block := range content {
			kind, field := block["type"].(string), block["type"].(string)
			start := map[string]any{"type": kind, "name": block["name"]}
			event(w, map[string]any{"type": "content_block_start", "index": i, "content_block": start})
			if said, ok := block[field].(string); ok {
				for piece := range slices.Chunk([]rune(said), 7) {
					event(w, map[string]any{"type": "content_block_delta", "index": i, "delta": map[string]any{"type": kind + "_delta", field: string(piece)}})
				}
			}
			event(w, map[string]any{"type": "content_block_stop", "index": i})
		}
		event(w, map[string]any{"type": "message_delta", "delta": map[string]any{"stop_reason": stop}, "usage": map[string]any{"output_tokens": 34}})
		event(w, map[string]any{"type": "message_stop"})
	})
}

func event(w http.ResponseWriter, data map[string]any) {
	b, _ := json.Marshal(data)
	_, _ = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", data["type"], b)
	_ = http.NewResponseController(w).Flush()
}

// listened is a box with a train whose people are told prompts and replies.
type listened struct {
	*signalboxtest.Lane
	box   *signalboxtest.Box
	slack *slack
	up    *talker
}

func listen(t testing.TB, box *signalboxtest.Box) *listened {
	t.Helper()
	l := &listened{box: box, slack: newSlack(t), up: newTalker(t)}
	l.Lane = box.Lane(t, l.up.URL)
	address, on := l.slack.URL+"/services/T0/B0/"+box.Planted.Secret(t, "webhook"), true
	_, err := box.Admin().PutTrainChannel(t.Context(), l.Train, "slack", client.TrainChannelPatch{WebhookURL: &address, Content: &on})
	require.NoError(t, err)
	l.up.text("Hello.")
	return l
}

// ask sends messages, the last of them the user's, and returns the status and the answer.
func (l *listened) ask(t testing.TB, stream bool, header http.Header, messages ...any) (int, string) {
	t.Helper()
	body := map[string]any{"model": "claude-x", "max_tokens": 1000, "messages": messages}
	if stream {
		body["stream"] = true
	}
	for name, value := range map[string]string{"Test-Max-Tokens": "max_tokens"} {
		if header.Get(name) != "" {
			body[value] = 1
		}
	}
	if header.Get("Test-Tools") != "" {
		body["tools"] = []any{map[string]any{"name": "Bash", "input_schema": map[string]any{"type": "object"}}}
	}
	b, err := json.Marshal(body)
	require.NoError(t, err)
	return l.send(t, b, header)
}

func (l *listened) send(t testing.TB, body []byte, header http.Header) (int, string) {
	t.Helper()
	r := l.Request(t.Context(), body)
	for name, values := range header {
		r.Header[name] = values
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	got, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(got)
}

func user(content any) map[string]any { return map[string]any{"role": "user", "content": content} }

func assistant(content any) map[string]any {
	return map[string]any{"role": "assistant", "content": content}
}

// turn is what an agent sends after a tool: its call and its result, with the reminder that Claude Code puts there.
func turn(name string) []any {
	return []any{assistant([]any{map[string]any{"type": "tool_use", "id": "t", "name": name, "input": map[string]any{}}}),
		user([]any{map[string]any{"type": "tool_result", "tool_use_id": "t", "content": "planted-result"}, map[string]any{"type": "text", "text": "<system-reminder>planted-reminder</system-reminder>"}})}
}

// TestAConversationIsTold: the people of a train are told each prompt once with its answer, and the last answer of an agent that calls tools; not what a program asks for
// itself; in streams as in plain answers.
func TestAConversationIsTold(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		l := listen(t, box)
		name := l.Accounts[0].Name
		l.up.text("I look.\nThen I mend it.", "Read", "Bash")
		first := user("Mend <the> *door* & window")
		l.ask(t, true, nil, first)
		require.Equal(t, []string{"*Train " + l.Train + ": an agent was asked*\n*Prompt*\n>Mend &lt;the&gt; *door* &amp; window\n*Reply*\n>I look.\n>Then I mend it.\n• Tool: Read\n• Tool: Bash\n" +
			"• Account: " + name + "\n• Client key: agent\n• Model: claude-answers\n• Tokens: 2200 in, 34 out (1000 read from the cache)"}, []string{before(l.slack.until(t, 1)[0], "\n• Request: req_")})

		// The same again, as a program that tries again sends it; a step with a tool; and what Claude Code asks for itself.
		l.ask(t, true, nil, first)
		l.ask(t, false, nil, first)
		l.ask(t, true, nil, append([]any{first}, turn("Read")...)...)
		claude := http.Header{"User-Agent": {"claude-cli/2.1.69 (external, cli)"}}
		l.up.text("A title")
		l.ask(t, true, claude, user("write a title for this conversation"))
		l.ask(t, false, http.Header{"Test-Max-Tokens": {"1"}}, user("quota"))
		l.ask(t, true, http.Header{"User-Agent": claude["User-Agent"], "Test-Tools": {"1"}}, user("[SUGGESTION MODE: what might be typed next?]"))

		// The end of the turn, then another prompt.
		l.up.text("It is mended.")
		all := append(append([]any{first}, turn("Read")...), turn("Bash")...)
		l.ask(t, false, nil, all...)
		got := l.slack.until(t, 2)[1]
		require.Contains(t, got, "*Train "+l.Train+": an agent is through*\n*Reply*\n>It is mended.\n• Tool: Read\n• Tool: Bash\n• Account: ")
		require.NotContains(t, got, "window")
		l.ask(t, true, http.Header{"User-Agent": claude["User-Agent"], "Test-Tools": {"1"}}, append(all, assistant("It is mended."), user("Thanks"))...)
		require.Contains(t, l.slack.until(t, 3)[2], "*Prompt*\n>Thanks\n*Reply*\n>It is mended.")
		for _, text := range l.slack.all() {
			for _, never := range []string{"planted-thought", "planted-input", "planted-result", "planted-reminder"} {
				require.NotContains(t, text, never)
			}
		}
		l.nothingKept(t)
		// One second apart at least, as Slack wants it.
		for i := 1; i < len(l.slack.at); i++ {
			require.Greater(t, l.slack.at[i].Sub(l.slack.at[i-1]), 900*time.Millisecond)
		}
	})
}

func before(text, mark string) string {
	text, _, _ = strings.Cut(text, mark)
	return text
}

// nothingKept looks for what was said: once it is delivered, no row has it.
func (l *listened) nothingKept(t testing.TB) {
	t.Helper()
	db := l.box.OpenReadOnly(t)
	require.Eventually(t, func() bool {
		var left int
		require.NoError(t, db.Read(context.Background(), func(tx *store.Tx) error {
			return tx.Get(&left, `SELECT (SELECT COUNT(*) FROM notify_contents) + (SELECT COUNT(*) FROM notify_deliveries WHERE state = 'waiting')`)
		}))
		return left == 0
	}, 20*time.Second, 20*time.Millisecond)
}

// TestNoSecretIsTold: neither the credential that was lent nor the client key, nor what looks like a secret, in the prompt, the answer or the name of a tool; and nothing of
// the prompt in the log, the audit or the database but sealed.
func TestNoSecretIsTold(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		l := listen(t, box)
		l.slack.troubles(func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusServiceUnavailable); return true })
		const github, prompt = "ghp_plantedplantedplantedplanted12", "planted-prompt-words"
		lent := l.Accounts[0].Secret.Reveal()
		l.up.text("planted-reply-words "+lent+" and "+l.Key, "Read-"+github)
		l.ask(t, true, nil, user(prompt+" sk-ant-api03-plantedplantedplantedplanted "+github+" password = planted-hunter2 Authorization: Bearer planted.token.value "+lent+"\nDB_KEY=qJ8vT3xZ9wLmN4pR\n-----BEGIN RSA PRIVATE KEY-----\nplantedkey\n-----END RSA PRIVATE KEY-----\nafter"))
		require.Eventually(t, func() bool { l.slack.mu.Lock(); defer l.slack.mu.Unlock(); return l.slack.received > 0 }, 20*time.Second, 10*time.Millisecond)
		// While it waits it lies sealed.
		db := box.OpenReadOnly(t)
		var texts []string
		var sealed [][]byte
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
			if err := tx.Select(&sealed, `SELECT sealed FROM notify_contents`); err != nil {
				return err
			}
			return tx.Select(&texts, `SELECT body || title || kind FROM notify_messages UNION ALL SELECT dedup_key FROM notify_marks UNION ALL SELECT detail FROM notify_deliveries`)
		}))
		require.Len(t, sealed, 1)
		for _, words := range []string{prompt, "planted-reply-words"} {
			require.NotContains(t, strings.Join(texts, "\n"), words)
			require.NotContains(t, string(sealed[0]), words)
			require.NotContains(t, string(box.Log.Bytes()), words)
			box.Planted.Add("what was said", words)
		}
		l.slack.troubles(nil)
		off := false
		_, err := box.Admin().PutTrainChannel(t.Context(), l.Train, "slack", client.TrainChannelPatch{Enabled: &off})
		require.NoError(t, err)
		on := true
		_, err = box.Admin().PutTrainChannel(t.Context(), l.Train, "slack", client.TrainChannelPatch{Enabled: &on}) // whoever changes it wants to see it work
		require.NoError(t, err)
		told := l.slack.until(t, 1)[0]
		require.Contains(t, told, prompt)
		require.Contains(t, told, ">after")
		require.Contains(t, told, "planted-reply-words [redacted: the credential that was lent] and [redacted: the client key]")
		for _, never := range []string{lent, l.Key, github, "api03", "hunter2", "planted.token", "qJ8vT3xZ9wLmN4pR", "plantedkey"} {
			require.NotContains(t, told, never)
		}
		l.nothingKept(t)
	})
}

// TestAHostilePromptIsHarmless: it mentions nobody, forges no link and none of our lines, and forty megabytes of it are refused as always.
func TestAHostilePromptIsHarmless(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		l := listen(t, box)
		hostile := "<!channel> <@U123> <https://evil.example|harmless> @channel @here @everyone\n*Reply*\n• Account: forged\n```\nfence\n<\u200b!here> \u202eevil\x00\x1b[31m\r\n>quote &lt;!channel&gt;"
		l.up.text(hostile)
		status, _ := l.ask(t, false, nil, user(hostile))
		require.Equal(t, 200, status)
		told := l.slack.until(t, 1)[0]
		head, foot, _ := strings.Cut(told, "\n• Account: lane")
		require.NotEmpty(t, foot)
		for line := range strings.Lines(head) {
			line = strings.TrimSuffix(line, "\n")
			require.True(t, strings.HasPrefix(line, ">") || line == "*Prompt*" || line == "*Reply*" || strings.HasPrefix(line, "*Train "), "%q passes for ours", line)
		}
		for _, never := range []string{"<!", "<@", "<http", "@channel", "@here", "@everyone", "```", "\x00", "\x1b", "\u202e", "\r"} {
			require.NotContains(t, told, never)
		}
		require.Equal(t, 1, strings.Count(told, "\n*Reply*"))

		// Bytes that are no UTF-8, and a prompt of megabytes.
		body := append([]byte(`{"model":"claude-x","max_tokens":9,"messages":[{"role":"user","content":"bad `), 0xff, 0xfe, 0xc3)
		l.up.text("fine")
		l.send(t, append(body, `"}]}`...), nil)
		require.Contains(t, l.slack.until(t, 2)[1], ">bad    \n")
		l.ask(t, true, nil, user(strings.Repeat("é long ", 3<<20)))
		told = l.slack.until(t, 3)[2]
		require.Less(t, len(told), 10_000)
		require.Contains(t, told, "\n_(cut; 25165824 bytes in all)_")
		require.Contains(t, told, ">fine")
		status, _ = l.send(t, bytes.Repeat([]byte("x"), 40<<20), nil)
		require.Equal(t, 413, status)
		l.nothingKept(t)
		require.Len(t, l.slack.all(), 3)
	})
}

// TestWhatBreaksOffIsToldAsSuch: an error on the way, an upstream that breaks off, a client that goes away; and failures are told, counted.
func TestWhatBreaksOffIsToldAsSuch(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		l := listen(t, box)
		begin := func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream")
			event(w, map[string]any{"type": "message_start", "message": map[string]any{"usage": map[string]any{"input_tokens": 5, "output_tokens": 1}}})
			event(w, map[string]any{"type": "content_block_start", "content_block": map[string]any{"type": "text", "text": ""}})
			event(w, map[string]any{"type": "content_block_delta", "delta": map[string]any{"type": "text_delta", "text": "so far"}})
		}
		l.up.says(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			begin(w)
			event(w, map[string]any{"type": "error", "error": map[string]any{"type": "overloaded_error", "message": "planted-upstream-text"}})
		})
		l.ask(t, true, nil, user("one"))
		require.Contains(t, l.slack.until(t, 1)[0], ">so [cut off]\n_The upstream reported an error on the way; what came so far is incomplete._\n", "the last word may be half a secret")
		l.up.says(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			begin(w)
			panic(http.ErrAbortHandler)
		})
		l.ask(t, true, nil, user("two"))
		l.slack.until2(t, "The upstream broke off its answer.", "the upstream broke off its answer: 1")
		gone := make(chan struct{})
		l.up.says(func(w http.ResponseWriter, r *http.Request, _ []byte) {
			begin(w)
			<-gone
		})
		ctx, cancel := context.WithCancel(t.Context())
		b, err := json.Marshal(map[string]any{"model": "m", "max_tokens": 9, "stream": true, "messages": []any{user("three")}})
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(l.Request(ctx, b))
		require.NoError(t, err)
		_, _ = io.ReadFull(resp.Body, make([]byte, 100))
		cancel()
		_ = resp.Body.Close()
		l.slack.until2(t, ">three\n*Reply*\n>so [cut off]\n_The client went away before the answer was through._")
		close(gone)
		for _, text := range l.slack.all() {
			require.NotContains(t, text, "planted-upstream-text")
		}
	})
}

// until2 waits until all of the words were told.
func (s *slack) until2(t testing.TB, words ...string) {
	t.Helper()
	for _, w := range words {
		require.Eventually(t, func() bool { return strings.Contains(strings.Join(s.all(), "\n"), w) }, 30*time.Second, 10*time.Millisecond, "%s is not in %v", w, s.all())
	}
}

// TestASlackThatHangsHoldsUpNobody: requests are as quick as without it, what is too much is dropped and counted, and a rate limit is heeded.
func TestASlackThatHangsHoldsUpNobody(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		l := listen(t, box)
		quiet := box.Lane(t, l.up.URL)
		hang := make(chan struct{})
		defer close(hang)
		l.slack.troubles(func(http.ResponseWriter) bool { <-hang; return true })
		took := func(lane *signalboxtest.Lane, n int) (worst, sum time.Duration) {
			for i := range n {
				body := fmt.Sprintf(`{"model":"claude-x","max_tokens":9,"messages":[{"role":"user","content":"prompt %d of many"}]}`, i)
				began := time.Now()
				resp, err := http.DefaultClient.Do(lane.Request(t.Context(), []byte(body)))
				require.NoError(t, err)
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				worst, sum = max(worst, time.Since(began)), sum+time.Since(began)
			}
			return worst, sum
		}
		_, _ = took(quiet, 20)
		_, without := took(quiet, 200)
		worst, with := took(l.Lane, 200)
		t.Logf("200 requests took %v without and %v with a Slack that hangs; the slowest %v", without, with, worst)
		require.Less(t, with, 3*without+2*time.Second)
		require.Less(t, worst, 2*time.Second)
		var waiting, dropped int
		db := box.OpenReadOnly(t)
		require.Eventually(t, func() bool {
			require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
				if err := tx.Get(&dropped, `SELECT (SELECT COALESCE(SUM(dropped), 0) FROM notify_channels) + (SELECT COALESCE(SUM(more), 0) FROM notify_deliveries)`); err != nil {
					return err
				}
				return tx.Get(&waiting, `SELECT COUNT(*) FROM notify_deliveries WHERE state <> 'failed'`)
			}))
			return waiting+dropped >= 199
		}, 20*time.Second, 20*time.Millisecond, "%d and %d", &waiting, &dropped)
		require.Positive(t, dropped)
		t.Logf("%d wait or are tried, %d were dropped and counted", waiting, dropped)
	})
}

// TestTwoInstancesTellOnce: a prompt that is sent to one instance and again to another is told once.
func TestTwoInstancesTellOnce(t *testing.T) {
	for _, e := range storetest.Engines() {
		if e != store.Postgres {
			continue
		}
		t.Run(string(e), func(t *testing.T) {
			box := signalboxtest.Start(t, e)
			l := listen(t, box)
			other := box.Second(t)
			b := []byte(`{"model":"claude-x","max_tokens":9,"messages":[{"role":"user","content":"once"}]}`)
			for range 3 {
				for _, url := range []string{box.URL, other.URL} {
					r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/messages", bytes.NewReader(b))
					require.NoError(t, err)
					r.Header.Set("X-Api-Key", l.Key)
					resp, err := http.DefaultClient.Do(r)
					require.NoError(t, err)
					require.Equal(t, 200, resp.StatusCode)
					_ = resp.Body.Close()
				}
			}
			l.slack.until(t, 1)
			time.Sleep(3 * time.Second)
			l.slack.until(t, 1)
			l.nothingKept(t)
		})
	}
}

// TestContentThatIsSwitchedOff: nothing more is told, what waits is taken back, and a train that is deleted leaves nothing.
func TestContentThatIsSwitchedOff(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		l := listen(t, box)
		l.slack.troubles(func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusServiceUnavailable); return true })
		l.ask(t, false, nil, user("waits"))
		require.Eventually(t, func() bool { l.slack.mu.Lock(); defer l.slack.mu.Unlock(); return l.slack.received > 0 }, 20*time.Second, 10*time.Millisecond)
		off := false
		_, err := box.Admin().PutTrainChannel(t.Context(), l.Train, "slack", client.TrainChannelPatch{Content: &off})
		require.NoError(t, err)
		l.slack.troubles(nil)
		l.nothingKept(t)
		require.Eventually(t, func() bool {
			l.ask(t, false, nil, user("after "+time.Now().String()))
			return true
		}, time.Second, time.Millisecond)
		time.Sleep(3 * time.Second)
		require.Empty(t, l.slack.all())
		on := true
		_, err = box.Admin().PutTrainChannel(t.Context(), l.Train, "slack", client.TrainChannelPatch{Content: &on})
		require.NoError(t, err)
		l.slack.troubles(func(w http.ResponseWriter) bool {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		})
		l.ask(t, false, nil, user("is never told"))
		require.Eventually(t, func() bool { l.slack.mu.Lock(); defer l.slack.mu.Unlock(); return l.slack.received > 1 }, 20*time.Second, 10*time.Millisecond)
		require.NoError(t, box.Admin().DeleteTrain(t.Context(), l.Train, true))
		l.slack.troubles(nil)
		l.nothingKept(t)
		require.Empty(t, l.slack.all())
	})
}
