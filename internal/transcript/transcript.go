// Package transcript reads what an agent was asked out of a request to an LLM upstream, and what it was answered out of the answer while that passes.
//
// Promise: nothing is held back or changed. What a request or an answer costs in memory does not grow with it: of a text the first [Kept] bytes are kept, and its length. An
// answer reads the same however it was cut into pieces, and a stream the same as the plain answer to that request.
//
// Limits: Anthropic's Messages API (https://docs.anthropic.com/en/api/messages and …/messages-streaming) and what speaks like it. It tells a person's prompt from what an agent sends on its
// own by the shape alone: a message of the user with the result of a tool is none, nor is one that consists of reminders which Claude Code puts there. What an agent asks
// another agent looks like a prompt, and is taken for one.
//
// Invariants: no input makes it fail or grow beyond its bounds; it knows no request, no account and no database.
package transcript

import (
	"unicode"
	"unicode/utf8"
)

const (
	// Kept is how much of a text is kept, in bytes.
	Kept = 16 << 10
	// ToolsKept is of how many tools the names are kept.
	ToolsKept = 20

	wordMax = 128
)

// capture is the beginning of a text.
type capture struct {
	b   []byte
	max int
	n   int64 // of all of it
}

func (c *capture) reset(max int) { c.b, c.max, c.n = c.b[:0], max, 0 }

func (c *capture) add(p []byte) {
	c.n += int64(len(p))
	if room := c.max - len(c.b); room > 0 {
		c.b = append(c.b, p[:min(room, len(p))]...)
	}
}

// words is what was kept, without the word in which it was cut.
func (c *capture) words() []byte {
	if !c.cut() {
		return c.b
	}
	return c.b[:WholeWords(c.b)]
}

// cut reports whether less was kept than there was.
func (c *capture) cut() bool { return c.n > int64(len(c.b)) }

// WholeWords returns how much of a text that was cut is left without its last word, however long: half a secret is not recognised. A letter of a script that is written without blanks is a word by itself.
func WholeWords(text []byte) int {
	for end := len(text); end > 0; {
		r, size := utf8.DecodeLastRune(text[:end])
		switch {
		case r == ' ' || r == '\t' || r == '\n': // a carriage return ends no line by itself, and may be dropped later
			return end - size
		case r >= utf8.RuneSelf && unspaced(r):
			return end
		}
		end -= size
	}
	return 0
}

// unspaced reports whether a character is written without blanks around it, so that none is part of a secret: the scripts of China, Japan and South-East Asia with their punctuation. Other characters beyond
// ASCII end no word, since some are dropped later.
func unspaced(r rune) bool {
	return r >= 0x3001 && r <= 0x303f || r >= 0xff01 && r <= 0xff65 || unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

func (c *capture) is(word string) bool { return string(c.b) == word && c.n == int64(len(word)) }

// tools are the tools that were called.
type tools struct {
	names []string
	calls int
}

// longName stands for the name of a tool that has more than [wordMax] bytes: none does, and half of whatever it is is not recognised.
const longName = "(a very long name)"

func (t *tools) add(name *capture) {
	t.calls++
	switch {
	case len(t.names) >= ToolsKept:
	case name.cut():
		t.names = append(t.names, longName)
	default:
		t.names = append(t.names, string(name.b))
	}
}

func isTool(kind *capture) bool {
	return kind.is("tool_use") || kind.is("server_tool_use") || kind.is("mcp_tool_use")
}
