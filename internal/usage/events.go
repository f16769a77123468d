package usage

import "bytes"

// Sink takes what a [Frames] cuts out of a stream.
type Sink interface {
	// Data takes the next bytes of an event's data, and Event ends the event.
	Data(p []byte)
	Event()
	// Full reports that the rest of the stream does not matter.
	Full() bool
}

// Frames cuts a stream of server-sent events for others than a [Counter], in a few bytes of memory.
type Frames struct{ f framer }

// Add takes the next bytes of the stream. It does not keep p.
func (f *Frames) Add(p []byte, to Sink) { f.f.add(p, to) }

// Data implements [Sink].
func (c *counting) Data(p []byte) { c.json.add(p) }

// Event implements [Sink].
func (c *counting) Event() { (*Counter)(c).event() }

// Full implements [Sink].
func (c *counting) Full() bool { return c.bad }

// counting is a Counter as the sink of its own events.
type counting Counter

// framer cuts a stream of server-sent events into the data of its events (WHATWG HTML, section 9.2.6).
type framer struct {
	field   [6]byte // the begin of the line's field name, as far as it matters
	fieldN  int     // how much of the line's name was seen; more than fits is no name that matters
	value   bool    // behind the colon
	isData  bool    // of a line with data
	space   bool    // the one space behind the colon may still come
	cr      bool    // the last byte was a carriage return: a line feed after it belongs to it
	any     bool    // the event has a line of data
	begun   bool    // the first bytes were looked at
	bomSeen int     // how much of a byte order mark came
}

const byteOrderMark = "\xef\xbb\xbf"

func (f *framer) add(p []byte, c Sink) {
	for !f.begun && len(p) > 0 {
		if p[0] != byteOrderMark[f.bomSeen] {
			f.begun = true
			for _, b := range []byte(byteOrderMark[:f.bomSeen]) { // it was none
				f.name(b)
			}
			break
		}
		p = p[1:]
		f.bomSeen++
		f.begun = f.bomSeen == len(byteOrderMark)
	}
	for len(p) > 0 && !c.Full() {
		if f.cr {
			f.cr = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		if !f.value {
			switch b := p[0]; b {
			case '\n', '\r':
				f.cr = b == '\r'
				f.line(c)
			case ':':
				f.colon(c)
			default:
				f.name(b)
			}
			p = p[1:]
			continue
		}
		if f.space {
			f.space = false
			if p[0] == ' ' {
				p = p[1:]
				continue
			}
		}
		n := bytes.IndexByte(p, '\n')
		if n < 0 {
			n = len(p)
		}
		if r := bytes.IndexByte(p[:n], '\r'); r >= 0 {
			n = r
		}
		if f.isData {
			c.Data(p[:n])
		}
		if n < len(p) {
			f.cr = p[n] == '\r'
			f.line(c)
			n++
		}
		p = p[n:]
	}
}

func (f *framer) name(b byte) {
	if f.fieldN < len(f.field) {
		f.field[f.fieldN] = b
	}
	f.fieldN++
}

// colon ends the name of a field.
func (f *framer) colon(c Sink) {
	f.value, f.space = true, true
	f.data(c)
}

// data begins a line of data, if it is one.
func (f *framer) data(c Sink) {
	f.isData = f.fieldN == 4 && string(f.field[:4]) == "data"
	if f.isData {
		if f.any {
			c.Data([]byte{'\n'})
		}
		f.any = true
	}
}

// line ends a line; an empty one ends the event.
func (f *framer) line(c Sink) {
	switch {
	case !f.value && f.fieldN == 0:
		if f.any {
			c.Event()
		}
		f.any = false
	case !f.value: // a name without a colon is a field without a value
		f.data(c)
	}
	f.fieldN, f.value, f.isData, f.space = 0, false, false, false
}
