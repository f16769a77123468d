// Package usage reads from the answers of an LLM upstream how many tokens they cost, while they pass.
//
// Promise: nothing is held back, copied whole or changed; what an answer costs in memory does not grow with it. A stream counts the same
// however it was cut into reads, and the same as the plain answer to that request. What cannot be told for certain is [Unknown], never a guess.
//
// Limits: Anthropic's Messages API (https://docs.anthropic.com/en/api/messages and …/messages-streaming) and what speaks like it. An answer with a
// content coding counts as unknown; Signalbox asks upstreams for none. A "usage" object of more than 64 KiB counts as unknown, and so
// does one that tells more than [Most] tokens.
//
// Invariants: no input makes it fail or grow beyond its bounds; it knows no request, no account and no database.
package usage

import (
	"encoding/json"
	"strings"
)

// State says how far a count can be trusted.
type State string

const (
	// Complete: the upstream ended its answer and told its counts.
	Complete State = "complete"
	// Partial: the answer broke off, and these are the last counts that the upstream told; what it charges is at least that.
	Partial State = "partial"
	// Unknown: the answer told no counts that can be read. Every number is 0.
	Unknown State = "unknown"
)

// Count is what an answer cost. The kinds of input do not overlap: all that was read is their sum.
type Count struct {
	State State
	// Model is the one that answered, by its own word; at most 128 bytes.
	Model string
	// Input is what was neither read from the cache nor written to it.
	Input, Output int64
	// CacheWrite5m and CacheWrite1h were written to the cache for five minutes and for an hour; what the answer does not tell apart counts for
	// five minutes, the default.
	CacheWrite5m, CacheWrite1h, CacheRead int64
	// ToolCalls is how many tools were called: the client's, the upstream's own and those of MCP servers.
	ToolCalls int64
}

// Counter counts one answer, in less than a kilobyte beside a "usage" object. Its methods must not be called at once.
type Counter struct {
	events bool // server-sent events, not one JSON value
	frame  framer
	json   scanner

	told             told
	model            string
	tools            int64
	started, stopped bool
	bad              bool
}

// New returns a counter for an answer: a stream of server-sent events, or one JSON value.
func New(events bool) *Counter { return &Counter{events: events} }

// Add takes the next bytes of the answer. It does not keep p.
func (c *Counter) Add(p []byte) {
	if c.bad {
		return
	}
	if c.events {
		c.frame.add(p, (*counting)(c))
		return
	}
	c.json.add(p)
}

// Count returns what the answer cost, after its last byte.
func (c *Counter) Count() Count {
	if !c.events && !c.started {
		s := &c.json
		c.started, c.stopped = true, s.ended()
		c.take(s)
		c.tools += s.tools
	}
	out := Count{State: Unknown}
	in, ok := c.told.count()
	if c.bad || !c.started || !ok || c.tools > Most {
		return out
	}
	out = in
	out.State, out.Model, out.ToolCalls = Partial, c.model, c.tools
	if c.stopped {
		out.State = Complete
	}
	return out
}

// event takes the data of one server-sent event, of which the scanner has seen all.
func (c *Counter) event() {
	s := &c.json
	if !s.inOrder() && !c.stopped { // it may have been one that counts
		c.bad = true
		return
	}
	switch string(s.typ.word()) {
	case "message_start":
		c.bad = c.bad || c.started // two answers in one
		c.started = true
		c.take(s)
	case "message_delta":
		c.take(s)
	case "content_block_start":
		if isTool(s.blockType.word()) {
			c.tools++
		}
	case "message_stop":
		c.stopped = c.started
	}
	s.reset()
}

// take adds what an event, or the answer, tells of its cost.
func (c *Counter) take(s *scanner) {
	if s.failed {
		c.bad = true
		return
	}
	if m := s.model.text(); m != "" {
		c.model = m
	}
	if len(s.usage.b) == 0 {
		return
	}
	var t told
	if s.usage.over || json.Unmarshal(s.usage.b, &t) != nil {
		c.bad = true
		return
	}
	c.told.merge(t)
}

// IsModel reports whether a word can be the name of a model: nothing else that an upstream or a client says is taken for one.
func IsModel(word string) bool {
	for _, c := range []byte(word) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("-_.:@/", c) < 0 {
			return false
		}
	}
	return word != "" && len(word) <= wordMax
}

func isTool(kind []byte) bool {
	return string(kind) == "tool_use" || string(kind) == "server_tool_use" || string(kind) == "mcp_tool_use"
}

// told is a "usage" object. What is absent or null was not told.
type told struct {
	Input         *int64     `json:"input_tokens"`
	Output        *int64     `json:"output_tokens"`
	CacheRead     *int64     `json:"cache_read_input_tokens"`
	CacheCreation *int64     `json:"cache_creation_input_tokens"`
	Kinds         *cacheLife `json:"cache_creation"`
	// Iterations are the turns that the upstream itself took. All but those of type compaction are in the sums above.
	Iterations []iteration `json:"iterations"`
}

type cacheLife struct {
	FiveMinutes *int64 `json:"ephemeral_5m_input_tokens"`
	OneHour     *int64 `json:"ephemeral_1h_input_tokens"`
}

type iteration struct {
	Type          string     `json:"type"`
	Input         *int64     `json:"input_tokens"`
	Output        *int64     `json:"output_tokens"`
	CacheRead     *int64     `json:"cache_read_input_tokens"`
	CacheCreation *int64     `json:"cache_creation_input_tokens"`
	Kinds         *cacheLife `json:"cache_creation"`
}

// merge takes a later object, whose counts are cumulative.
func (t *told) merge(later told) {
	set(&t.Input, later.Input)
	set(&t.Output, later.Output)
	set(&t.CacheRead, later.CacheRead)
	set(&t.CacheCreation, later.CacheCreation)
	set(&t.Kinds, later.Kinds)
	if later.Iterations != nil {
		t.Iterations = later.Iterations
	}
}

func set[T any](to **T, later *T) {
	if later != nil {
		*to = later
	}
}

// Most is more tokens than any answer costs, and more tools than any answer calls; what is beyond it, or below nothing, is no count.
const Most = 1_000_000_000

// count returns the sums, and false where there are none that can be believed.
func (t *told) count() (Count, bool) {
	if t.Input == nil || t.Output == nil {
		return Count{}, false
	}
	all := []iteration{{Input: t.Input, Output: t.Output, CacheRead: t.CacheRead, CacheCreation: t.CacheCreation, Kinds: t.Kinds}}
	for _, it := range t.Iterations {
		if it.Type == "compaction" {
			all = append(all, it)
		}
	}
	var out Count
	var sum int64 // of at most twice Most, whatever was told
	for _, it := range all {
		five, hour := it.written()
		for _, n := range [...]struct {
			to *int64
			by int64
		}{{&out.Input, number(it.Input)}, {&out.Output, number(it.Output)}, {&out.CacheRead, number(it.CacheRead)}, {&out.CacheWrite5m, five}, {&out.CacheWrite1h, hour}} {
			if n.by < 0 || n.by > Most {
				return Count{}, false
			}
			if sum += n.by; sum > Most {
				return Count{}, false
			}
			*n.to += n.by
		}
	}
	return out, true
}

// written tells the tokens written to the cache apart. The sum counts where there is one: a later event tells it without its parts.
func (it *iteration) written() (fiveMinutes, oneHour int64) {
	if it.Kinds != nil {
		fiveMinutes, oneHour = number(it.Kinds.FiveMinutes), number(it.Kinds.OneHour)
	}
	if it.CacheCreation != nil {
		oneHour = min(oneHour, number(it.CacheCreation))
		fiveMinutes = number(it.CacheCreation) - oneHour
	}
	return fiveMinutes, oneHour
}

func number(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
