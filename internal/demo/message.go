package demo

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// bytesPerToken is the fake's tokeniser.
const bytesPerToken = 4

// echoLimit bounds how much of a prompt an answer repeats, in bytes.
const echoLimit = 400

// prompt is what the fake reads of a request; everything else is accepted unseen, as fields come and go.
type prompt struct {
	Model     *string         `json:"model"`
	MaxTokens *int            `json:"max_tokens"`
	Stream    bool            `json:"stream"`
	System    json.RawMessage `json:"system"`
	Tools     json.RawMessage `json:"tools"`
	Messages  []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
}

// parse reads and checks the body. A problem comes back as the message of a 400.
func (c *call) parse(needsMax bool) (p prompt, problem string) {
	if err := json.Unmarshal(c.body, &p); err != nil {
		return p, "The request body is not valid JSON."
	}
	switch {
	case p.Model == nil:
		return p, "model: Field required"
	case needsMax && p.MaxTokens == nil:
		return p, "max_tokens: Field required"
	case p.MaxTokens != nil && *p.MaxTokens < 1:
		return p, "max_tokens: Input should be greater than or equal to 1"
	case p.Messages == nil:
		return p, "messages: Field required"
	case len(p.Messages) == 0:
		return p, "messages: at least one message is required"
	}
	for i, m := range p.Messages {
		if m.Role != "user" && m.Role != "assistant" && m.Role != "system" {
			return p, "messages." + strconv.Itoa(i) + ".role: Input should be 'user', 'assistant' or 'system'"
		}
		if len(m.Content) == 0 {
			return p, "messages." + strconv.Itoa(i) + ".content: Field required"
		}
	}
	return p, ""
}

// tokens estimates the input.
func (p prompt) tokens() int {
	n := len(p.System) + len(p.Tools)
	for _, m := range p.Messages {
		n += len(m.Content)
	}
	return max(1, (n+bytesPerToken-1)/bytesPerToken)
}

// last returns the text that the user wrote last, shortened.
func (p prompt) last() string {
	for i := len(p.Messages) - 1; i >= 0; i-- {
		if p.Messages[i].Role != "user" {
			continue
		}
		var text string
		if json.Unmarshal(p.Messages[i].Content, &text) == nil {
			return shorten(text)
		}
		var blocks []struct {
			Type string `json:"type"`
			Text string `json:"text"`
		}
		_ = json.Unmarshal(p.Messages[i].Content, &blocks)
		for j := len(blocks) - 1; j >= 0; j-- {
			if blocks[j].Type == "text" {
				return shorten(blocks[j].Text)
			}
		}
		return ""
	}
	return ""
}

func shorten(s string) string {
	s = strings.TrimSpace(s)
	if len(s) <= echoLimit {
		return s
	}
	n := echoLimit
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// reply is an answer before it takes the form of JSON or of a stream.
type reply struct {
	id, model string
	words     []string // of an echo; nil when count made-up deltas are asked for
	count     int
	input     int
	stop      string
}

func (c *call) reply(p prompt) reply {
	r := reply{
		// The id follows from the body, so that equal requests get equal answers.
		id:    "msg_" + hex.EncodeToString(c.sum[:12]),
		model: *p.Model,
		count: c.how.Deltas,
		input: p.tokens(),
		stop:  "end_turn",
	}
	if r.count > 0 {
		return r
	}
	r.words = strings.SplitAfter("Hello from Signalbox's built-in fake model. No real model is behind it. Your last message was: "+p.last(), " ")
	if limit := *p.MaxTokens; limit < len(r.words) {
		r.words, r.stop = r.words[:limit], "max_tokens"
	}
	r.count = len(r.words)
	return r
}

// delta appends the i-th piece of text as a JSON string without its quotes.
func (r reply) delta(b []byte, i int) []byte {
	if r.words == nil {
		b = append(b, "token "...)
		b = strconv.AppendInt(b, int64(i), 10)
		return append(b, ' ')
	}
	quoted, err := json.Marshal(r.words[i])
	if err != nil {
		return b
	}
	return append(b, quoted[1:len(quoted)-1]...)
}

func appendQuoted(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...)
	}
	return append(b, quoted...)
}

// head appends a message up to its content; usage appends the counts.
func (r reply) head(b []byte) []byte {
	b = append(b, `{"model":`...)
	b = appendQuoted(b, r.model)
	b = append(b, `,"id":"`...)
	b = append(b, r.id...)
	return append(b, `","type":"message","role":"assistant","content":[`...)
}

func (r reply) usage(b []byte, output int) []byte {
	b = append(b, `"usage":{"input_tokens":`...)
	b = strconv.AppendInt(b, int64(r.input), 10)
	b = append(b, `,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,`+
		`"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":`...)
	b = strconv.AppendInt(b, int64(output), 10)
	return append(b, `,"service_tier":"standard"}`...)
}

// json is the whole answer as one document.
func (r reply) json() []byte {
	b := r.head(make([]byte, 0, 512+16*r.count))
	b = append(b, `{"type":"text","text":"`...)
	for i := range r.count {
		b = r.delta(b, i)
	}
	b = append(b, `"}],"stop_reason":"`...)
	b = append(b, r.stop...)
	b = append(b, `","stop_sequence":null,`...)
	return append(r.usage(b, r.count), '}')
}

func (c *call) messages() (cancelled bool) {
	p, problem := c.parse(true)
	if problem != "" {
		return c.fail(http.StatusBadRequest, problem)
	}
	if done, cancelled := c.settle(*p.Model); done {
		return cancelled
	}
	r := c.reply(p)
	if p.Stream {
		return c.stream(r)
	}
	if c.how.Break == Overloaded {
		return c.fail(529, "")
	}
	if c.wait(time.Duration(r.count) * c.how.Every) {
		return true
	}
	cancelled = c.send(r.json())
	if !cancelled && c.how.Break == Whole {
		c.u.answered(c.id, r)
	}
	return cancelled
}

func (c *call) countTokens() (cancelled bool) {
	p, problem := c.parse(false)
	if problem != "" {
		return c.fail(http.StatusBadRequest, problem)
	}
	if done, cancelled := c.settle(*p.Model); done {
		return cancelled
	}
	return c.send(append(strconv.AppendInt([]byte(`{"input_tokens":`), int64(p.tokens()), 10), '}'))
}
