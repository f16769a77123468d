package demo

import (
	"net/http"
	"strconv"
	"time"
)

// padding stands before the closing brace of each delta, in varying length, as the real API pads its events; a proxy that reads and
// writes events anew loses it.
const padding = "             "

// events writes server-sent events, each flushed by itself.
type events struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	buf []byte
	err error
}

// open starts an event; the caller appends its JSON to e.buf.
func (e *events) open(name string) {
	e.buf = append(e.buf[:0], "event: "...)
	e.buf = append(e.buf, name...)
	e.buf = append(e.buf, "\ndata: "...)
}

// flush ends the event and sends it.
func (e *events) flush() {
	e.buf = append(e.buf, "\n\n"...)
	e.write(e.buf)
}

func (e *events) write(b []byte) {
	if e.err != nil {
		return
	}
	if _, e.err = e.w.Write(b); e.err == nil {
		e.err = e.rc.Flush()
	}
}

func (e *events) send(name, data string) {
	e.open(name)
	e.buf = append(e.buf, data...)
	e.flush()
}

// stream answers with server-sent events and reports whether the client went away.
func (c *call) stream(r reply) (cancelled bool) {
	c.begin("text/event-stream; charset=utf-8")
	c.w.Header().Set("Cache-Control", "no-cache")
	e := &events{w: c.w, rc: http.NewResponseController(c.w), buf: make([]byte, 0, 512)}

	e.open("message_start")
	e.buf = append(e.buf, `{"type":"message_start","message":`...)
	e.buf = r.head(e.buf)
	e.buf = append(e.buf, `],"stop_reason":null,"stop_sequence":null,`...)
	e.buf = append(r.usage(e.buf, 1), "}}"...)
	e.flush()
	e.send("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)
	e.send("ping", `{"type": "ping"}`)

	stopAt := r.count
	if c.how.Break != Whole {
		stopAt = r.count / 2
	}
	if c.deltas(e, r, stopAt) {
		return true
	}
	switch c.how.Break {
	case Overloaded:
		e.send("error", `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"`+c.id+`"}`)
		return e.err != nil
	case CutInEvent:
		c.delta(e, r, stopAt)
		e.write(e.buf[:len(e.buf)/2])
		abort(c.w)
		return false
	case CutBetweenEvents:
		abort(c.w)
		return false
	}
	e.send("content_block_stop", `{"type":"content_block_stop","index":0}`)
	e.open("message_delta")
	e.buf = append(e.buf, `{"type":"message_delta","delta":{"stop_reason":"`...)
	e.buf = append(e.buf, r.stop...)
	e.buf = append(e.buf, `","stop_sequence":null},"usage":{"input_tokens":`...)
	e.buf = strconv.AppendInt(e.buf, int64(r.input), 10)
	e.buf = append(e.buf, `,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":`...)
	e.buf = strconv.AppendInt(e.buf, int64(r.count), 10)
	e.buf = append(e.buf, "}}"...)
	e.flush()
	e.send("message_stop", `{"type":"message_stop"}`)
	if e.err == nil {
		c.u.answered(c.id, r)
	}
	return e.err != nil
}

// deltas sends the first n pieces of text at the asked pace.
func (c *call) deltas(e *events, r reply, n int) (cancelled bool) {
	var pace <-chan time.Time
	if c.how.Every > 0 {
		t := time.NewTicker(c.how.Every)
		defer t.Stop()
		pace = t.C
	}
	for i := range n {
		if pace != nil {
			select {
			case <-pace:
			case <-c.r.Context().Done():
				return true
			}
		}
		c.delta(e, r, i)
		e.flush()
		if e.err != nil {
			return true
		}
	}
	return false
}

func (c *call) delta(e *events, r reply, i int) {
	e.open("content_block_delta")
	e.buf = append(e.buf, `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"`...)
	e.buf = r.delta(e.buf, i)
	e.buf = append(e.buf, `"}`...)
	e.buf = append(e.buf, padding[:i%len(padding)]...)
	e.buf = append(e.buf, '}')
}
