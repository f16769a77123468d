package transcript

import (
	"bytes"
	"strconv"
)

// Asked is what a request asks.
type Asked struct {
	// Prompt is the beginning of the last message of the user that is a prompt, and Long how many bytes all of it has.
	Prompt string
	Long   int64
	// Others is how many pictures and documents came with it.
	Others int
	// Place is which of the messages it is, from 1; 0 when there is none. Messages is how many there are.
	Place, Messages int
	// New says that the prompt is what the request is about; otherwise it goes on with what the prompt began.
	New bool
	// Tools are the first tools that were called since the prompt, and Calls how many were.
	Tools []string
	Calls int
	// MaxTokens is how long the answer may be; 0 when that is not told. Equipped says that the request offers tools.
	MaxTokens int64
	Equipped  bool
}

// asking reads a request.
type asking struct {
	w   walker
	out Asked

	role, kind, name, max capture
	block                 capture // the text of a block, or of a message without blocks
	message               message
	prompt                message
	since                 tools
	last                  last
}

// last says what the last message that matters was.
type last byte

const (
	lastNone   last = iota
	lastPrompt      // a prompt of the user
	lastResult      // the result of a tool, or a reminder
	lastCall        // the model's, with a call of a tool
)

type message struct {
	text   []byte
	long   int64
	others int
	result bool
	plain  bool // its content is one text
	calls  tools
}

// Read reads a request's body.
func Read(body []byte) Asked {
	a := &asking{}
	a.w.to = a
	a.w.add(body)
	out := a.out
	out.Prompt, out.Long, out.Others = string(a.prompt.text), a.prompt.long, a.prompt.others
	out.New = a.last == lastPrompt
	out.Tools, out.Calls = a.since.names, a.since.calls
	out.MaxTokens, _ = strconv.ParseInt(string(a.max.b), 10, 64) // what is no number is not told
	return out
}

func (a *asking) inMessages() bool { return a.w.key[1] == nameMessages && a.w.list[2] }

// begin implements visitor.
func (a *asking) begin() *capture {
	w := &a.w
	switch {
	case w.at(1) && w.key[1] == nameMaxTokens:
		a.max.reset(20)
		return &a.max
	case !a.inMessages():
	case w.at(3) && w.key[3] == nameRole:
		a.role.reset(wordMax)
		return &a.role
	case w.at(3) && w.key[3] == nameContent:
		a.message.plain = true
		a.block.reset(Kept)
		return &a.block
	case w.at(5) && w.key[3] == nameContent && w.list[4] && !w.list[5]:
		switch w.key[5] {
		case nameType:
			a.kind.reset(wordMax)
			return &a.kind
		case nameText:
			a.block.reset(Kept)
			return &a.block
		case nameName:
			a.name.reset(wordMax)
			return &a.name
		}
	}
	return nil
}

// open implements visitor.
func (a *asking) open() {
	w := &a.w
	switch {
	case w.at(3) && w.key[1] == nameTools && w.list[2]:
		a.out.Equipped = true
	case !a.inMessages() || w.depth <= levels && w.list[w.depth]:
	case w.at(3):
		a.role.reset(wordMax)
		a.message = message{text: a.message.text[:0], calls: tools{names: a.message.calls.names[:0]}}
	case w.at(5):
		a.kind.reset(wordMax)
		a.name.reset(wordMax)
		a.block.reset(Kept)
	}
}

// shut implements visitor.
func (a *asking) shut() {
	w := &a.w
	switch {
	case !a.inMessages() || w.depth > levels || w.list[w.depth]:
	case w.at(5) && w.key[3] == nameContent && w.list[4]:
		a.blockEnded()
	case w.at(3):
		a.messageEnded()
	}
}

func (a *asking) blockEnded() {
	m := &a.message
	switch {
	case a.kind.is("text"):
		m.say(&a.block)
	case a.kind.is("tool_result"):
		m.result = true
	case isTool(&a.kind):
		m.calls.add(&a.name)
	case a.kind.is("image"), a.kind.is("document"):
		m.others++
	}
}

const (
	reminder    = "<system-reminder>"
	reminderEnd = "</system-reminder>"
)

// say adds a text to a message, without the reminders before it that Claude Code puts there for the model.
func (m *message) say(c *capture) {
	text, long := bytes.TrimSpace(c.words()), c.n
	if !c.cut() {
		long = int64(len(text))
	}
	for bytes.HasPrefix(text, []byte(reminder)) {
		end := bytes.Index(text, []byte(reminderEnd))
		if end < 0 {
			return
		}
		rest := bytes.TrimSpace(text[end+len(reminderEnd):])
		long -= int64(len(text) - len(rest))
		text = rest
	}
	if len(text) == 0 && !c.cut() {
		return
	}
	if len(m.text) > 0 {
		m.text = append(m.text, "\n\n"[:max(0, min(2, Kept-len(m.text)))]...)
		m.long += 2
	}
	m.text = append(m.text, text[:min(len(text), max(0, Kept-len(m.text)))]...)
	m.long += long
}

func (a *asking) messageEnded() {
	m := &a.message
	a.out.Messages++
	if m.plain {
		m.say(&a.block)
	}
	switch {
	case a.role.is("assistant"):
		room := ToolsKept - len(a.since.names)
		a.since.names = append(a.since.names, m.calls.names[:min(room, len(m.calls.names))]...)
		a.since.calls += m.calls.calls
		if m.calls.calls > 0 {
			a.last = lastCall
		}
	case !a.role.is("user"):
	case !m.result && (m.long > 0 || m.others > 0):
		a.prompt, a.message = *m, message{text: a.prompt.text[:0]}
		a.out.Place, a.last, a.since = a.out.Messages, lastPrompt, tools{}
	default:
		a.last = lastResult
	}
}
