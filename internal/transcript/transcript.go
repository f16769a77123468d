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

import "bytes"

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

// wordMost is how long the last word may be that is dropped where a text was cut: half a secret is not recognised.
const wordMost = 512

// words is what was kept, without the word in which it was cut.
func (c *capture) words() []byte {
	if c.n <= int64(len(c.b)) {
		return c.b
	}
	tail := max(0, len(c.b)-wordMost)
	return c.b[:tail+max(0, bytes.LastIndexAny(c.b[tail:], " \t\r\n"))]
}

func (c *capture) is(word string) bool { return string(c.b) == word && c.n == int64(len(word)) }

// tools are the tools that were called.
type tools struct {
	names []string
	calls int
}

func (t *tools) add(name []byte) {
	t.calls++
	if len(t.names) < ToolsKept {
		t.names = append(t.names, string(name))
	}
}

func isTool(kind *capture) bool {
	return kind.is("tool_use") || kind.is("server_tool_use") || kind.is("mcp_tool_use")
}
