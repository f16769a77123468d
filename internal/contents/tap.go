package contents

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// About says whose request it is.
type About struct {
	TrainID, Request string
	// Keys are the client keys that came with the request, and Hide takes the credential that was lent out of a text; neither is ever kept.
	Keys []string
	Hide func(string) string
}

// Tap hears one request and its answer. A nil Tap hears nothing. Its methods are called by the request's goroutine, one after the other.
type Tap struct {
	room  *Room
	about About
	want  int   // the bytes that are kept of either
	held  int64 // what it counts for
	deaf  bool  // nothing is kept
	mute  bool  // the answer is not

	asked, answered text
	note            string
}

// text is the beginning and the end of what passes.
type text struct {
	head, tail []byte
	size       int64
}

// add takes the next bytes: the first half of what is kept is the beginning, the second half the end.
func (t *text) add(p []byte, most int) {
	t.size += int64(len(p))
	if n := min(len(p), most/2-len(t.head)); n > 0 {
		t.head = append(t.head, p[:n]...)
		p = p[n:]
	}
	half := most - most/2
	if len(p) >= half {
		t.tail = append(t.tail[:0], p[len(p)-half:]...)
		return
	}
	if t.tail = append(t.tail, p...); len(t.tail) > 2*half {
		t.tail = append(t.tail[:0], t.tail[len(t.tail)-half:]...)
	}
}

// held is the room that a text of that size may take, with what [text.add] keeps for a while.
func held(size int64, most int) int64 { return min(size, int64(most)+int64(most)/2+1) }

// Wants says whether the train keeps contents, from memory.
func (r *Room) Wants(train string) bool {
	if r == nil || train == "" {
		return false
	}
	_, ok := (*r.wants.Load())[train]
	return ok
}

// Listen returns a tap where the train keeps contents, else nil. asked is the whole body, nil where it cannot be read; it is not kept beyond the call.
func (r *Room) Listen(train string, asked []byte, about func() About) *Tap {
	if r == nil || train == "" {
		return nil
	}
	s, ok := (*r.wants.Load())[train]
	if !ok {
		return nil
	}
	t := &Tap{room: r, about: about(), want: int(s.MaxBytes)}
	t.about.TrainID = train
	if t.take(held(int64(len(asked)), t.want)) {
		t.asked.add(asked, t.want)
	}
	return t
}

// take counts room, and gives up where there is none.
func (t *Tap) take(n int64) bool {
	if t.deaf {
		return false
	}
	if t.room.held.Add(n) > heldMost {
		t.room.held.Add(-n)
		t.drop()
		return false
	}
	t.held += n
	return true
}

// drop forgets what was heard.
func (t *Tap) drop() {
	t.room.held.Add(-t.held)
	t.held, t.asked, t.answered = 0, text{}, text{}
	if !t.deaf {
		t.deaf = true
		t.room.lost.Add(1)
	}
}

// Mute keeps nothing of an answer that cannot be read.
func (t *Tap) Mute() {
	if t != nil {
		t.mute = true
		t.Note("The answer was compressed, and is not kept.")
	}
}

// Add hears the next bytes of the answer. It does not keep p.
func (t *Tap) Add(p []byte) {
	if t == nil || t.deaf || t.mute {
		return
	}
	if more := held(t.answered.size+int64(len(p)), t.want) - held(t.answered.size, t.want); more > 0 && !t.take(more) {
		return
	}
	t.answered.add(p, t.want)
}

// Note says in our own words what is wrong with what is kept.
func (t *Tap) Note(text string) {
	if t != nil {
		t.note = strings.TrimSpace(t.note + " " + text)
	}
}

// Done ends the hearing, and has it kept.
func (t *Tap) Done() {
	if t == nil || t.deaf {
		return
	}
	select {
	case t.room.queue <- t:
	default:
		t.drop()
	}
}

// Content is what was kept of a request.
type Content struct {
	// Request is what was asked and Response what was answered, as text, laid out where it is JSON, without what looks like a secret; RequestBytes and ResponseBytes are how many passed. Where less was
	// kept, a line says in its place how much is missing.
	Request       string `json:"request"`
	Response      string `json:"response"`
	RequestBytes  int64  `json:"request_bytes"`
	ResponseBytes int64  `json:"response_bytes"`
	// Note says in our own words what is wrong with it.
	Note string `json:"note,omitempty"`
}

// content is what may be kept of what was heard.
func (t *Tap) content() Content {
	return Content{Request: t.plain(&t.asked), Response: t.plain(&t.answered), RequestBytes: t.asked.size, ResponseBytes: t.answered.size, Note: t.note}
}

// wordMost is how much is dropped where a text was cut: half a secret is not recognised. Access tokens may have some thousand characters.
const wordMost = 8 << 10

func (t *Tap) plain(x *text) string {
	half := t.want - t.want/2
	missing := x.size - int64(len(x.head)) - int64(len(x.tail))
	if len(x.tail) > half {
		missing += int64(len(x.tail) - half)
		x.tail = x.tail[len(x.tail)-half:]
	}
	if missing == 0 {
		return t.hide(string(append(x.head, x.tail...)))
	}
	head, tail := wholeEnd(string(x.head)), wholeBegin(string(x.tail))
	missing = x.size - int64(len(head)) - int64(len(tail))
	return t.hide(head) + "\n[" + strconv.FormatInt(missing, 10) + " bytes are not kept]\n" + t.hide(tail)
}

// separators end what can be a secret in JSON, in an event stream and in prose.
const separators = " \t\r\n\"'`,;\\"

// blanks are those of the separators that no connection string has.
const blanks = " \t\r\n\"'"

func wholeEnd(s string) string {
	from := max(0, len(s)-wordMost)
	end := from
	if at := strings.LastIndexAny(s[from:], separators); at >= 0 {
		end = from + at + 1
	}
	// The password of a connection string may have separators in it: of an address nothing stays.
	address := s[from+strings.LastIndexAny(s[from:], blanks)+1:]
	if at := strings.Index(address, "://"); at >= 0 {
		end = min(end, len(s)-len(address)+len(strings.TrimRight(address[:at], "abcdefghijklmnopqrstuvwxyz0123456789+.-")))
	}
	return s[:end]
}

func wholeBegin(s string) string {
	const ends = "-----END " // of a private key whose begin is missing
	if at := strings.Index(s, ends); at >= 0 {
		if begins := strings.Index(s, "-----BEGIN "); begins < 0 || begins > at {
			s = s[at+len(ends):]
		}
	}
	if at := strings.IndexAny(s[:min(len(s), wordMost)], blanks+"@"); at >= 0 && s[at] == '@' { // see wholeEnd
		s = s[at:]
	}
	to := min(len(s), wordMost)
	if at := strings.IndexAny(s[:to], separators); at >= 0 {
		return s[at:]
	}
	return s[to:]
}

// hide takes out of a text what must not be kept. What looks like a secret is taken out when it is read, which is seldom: to look for it costs more than all else.
func (t *Tap) hide(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	for _, key := range t.about.Keys {
		if len(key) >= 8 {
			s = strings.ReplaceAll(s, key, "[redacted: the client key]")
		}
	}
	if t.about.Hide != nil {
		s = t.about.Hide(s)
	}
	return s
}

// pack is the content as it is sealed: JSON, compressed.
func (c Content) pack() ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(z).Encode(c); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
