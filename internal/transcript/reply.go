package transcript

import "signalbox.dev/signalbox/internal/usage"

// Answer is what was answered.
type Answer struct {
	// Text is the beginning of it, without what the model thought, and Long how many bytes all of it has.
	Text string
	Long int64
	// Tools are the first tools that it calls, and Calls how many it calls.
	Tools []string
	Calls int
	// Stop is why it ended, and Trouble the kind of error that the upstream told on the way; both in the upstream's words, and at most 128 bytes.
	Stop, Trouble string
	// Whole says that it came to its end.
	Whole bool
}

// CutShort reports whether the text may end inside of a word: the answer broke off, or the model was made to stop before it was through, by a
// sequence to stop at for instance.
func (a Answer) CutShort() bool {
	switch a.Stop {
	case "", "end_turn", "tool_use", "pause_turn":
		return !a.Whole || a.Trouble != ""
	}
	return true
}

// Reply reads one answer. Its methods must not be called at once.
type Reply struct {
	events bool
	frames usage.Frames
	w      walker

	kind, inner, name, stop, trouble capture
	block                            capture // the text of a block, or a piece of one
	text                             []byte
	long                             int64
	broke                            bool // what comes next is another block
	calls                            tools
	whole                            bool
}

// NewReply returns what reads an answer: a stream of server-sent events, or one JSON value.
func NewReply(events bool) *Reply {
	r := &Reply{events: events}
	r.w.to = r
	return r
}

// Add takes the next bytes of the answer. It does not keep p.
func (r *Reply) Add(p []byte) {
	if r.events {
		r.frames.Add(p, (*pieces)(r))
		return
	}
	r.w.add(p)
}

// Answer returns what was answered, after its last byte.
func (r *Reply) Answer() Answer {
	out := Answer{Text: string(r.text), Long: r.long, Tools: r.calls.names, Calls: r.calls.calls, Stop: string(r.stop.b), Trouble: string(r.trouble.b), Whole: r.whole}
	if out.Stop == "null" { // until it is told
		out.Stop = ""
	}
	return out
}

// pieces is a reply as the sink of its own events.
type pieces Reply

// Data implements [usage.Sink].
func (p *pieces) Data(b []byte) { p.w.add(b) }

// Full implements [usage.Sink].
func (p *pieces) Full() bool { return p.whole }

// Event implements [usage.Sink].
func (p *pieces) Event() {
	r := (*Reply)(p)
	switch {
	case r.kind.is("content_block_start"):
		r.broke = true
		r.blockEnded()
	case r.kind.is("content_block_delta") && r.inner.is("text_delta"):
		r.say()
	case r.kind.is("message_stop"):
		r.whole = true
	}
	r.w.reset()
	for _, c := range []*capture{&r.kind, &r.inner, &r.name} {
		c.reset(wordMax)
	}
	r.block.reset(Kept)
}

// blockEnded takes a block of the content, or the beginning of one.
func (r *Reply) blockEnded() {
	switch {
	case r.inner.is("text"):
		r.say()
	case isTool(&r.inner):
		r.calls.add(&r.name)
	}
}

func (r *Reply) say() {
	if r.block.n == 0 {
		return
	}
	if r.broke && r.long > 0 {
		r.long += 2
		r.text = append(r.text, "\n\n"[:max(0, min(2, Kept-len(r.text)))]...)
	}
	r.broke = false
	r.long += r.block.n
	r.text = append(r.text, r.block.b[:max(0, min(len(r.block.b), Kept-len(r.text)))]...)
}

// within is the depth at which a block's or a delta's own values stand: in an event it lies in the event, in an answer in the list of its content.
func (r *Reply) within() bool {
	w := &r.w
	if r.events {
		return w.at(2) && (w.key[1] == nameBlock || w.key[1] == nameDelta) && !w.list[2]
	}
	return w.at(3) && w.key[1] == nameContent && w.list[2] && !w.list[3]
}

// begin implements visitor.
func (r *Reply) begin() *capture {
	w := &r.w
	switch {
	case w.at(1) && w.key[1] == nameType:
		r.kind.reset(wordMax)
		return &r.kind
	case w.at(1) && !r.events && w.key[1] == nameStop, w.at(2) && r.events && w.key[1] == nameDelta && w.key[2] == nameStop:
		r.stop.reset(wordMax)
		return &r.stop
	case w.at(2) && w.key[1] == nameError && w.key[2] == nameType:
		r.trouble.reset(wordMax)
		return &r.trouble
	case r.within():
		switch w.key[w.depth] {
		case nameType:
			r.inner.reset(wordMax)
			return &r.inner
		case nameText:
			r.block.reset(Kept)
			return &r.block
		case nameName:
			r.name.reset(wordMax)
			return &r.name
		}
	}
	return nil
}

// open implements visitor.
func (r *Reply) open() {
	if !r.events && r.within() {
		r.inner.reset(wordMax)
		r.name.reset(wordMax)
		r.block.reset(Kept)
	}
}

// shut implements visitor.
func (r *Reply) shut() {
	switch {
	case r.events:
	case r.within():
		r.broke = true
		r.blockEnded()
	case r.w.at(1):
		r.whole = true
	}
}
