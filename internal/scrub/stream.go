package scrub

import "io"

// ring is more than the longest escape: so far ahead can something go on that was begun.
const ring = 16

// begun is an occurrence of which the first done symbols were read.
type begun struct {
	needle int
	done   int
	start  int // where, counted from the begin of the stream
}

// stream is what must be remembered between two pieces of one answer. It is an automaton that reads literal bytes and escapes alike: each
// place of the text has the occurrences that may go on there.
type stream struct {
	of   *Scrubber
	base int // of the first byte that was not given out, from the begin of the stream
	at   int // the next byte to look at, from base on
	live int // how many are begun, at all places
	open [ring][]begun
}

// scan goes on with buf, whose begin is what was not given out before, masks every occurrence that ends there, and returns how many bytes are
// beyond doubt; final says that nothing comes after buf.
func (s *stream) scan(buf []byte, final bool) (ready int) {
	p := s.at
	for {
		s.mask(buf, p)
		if p < len(buf) && s.live == 0 {
			p = s.of.next(buf, p)
		}
		if p == len(buf) || !s.step(buf, p, final) {
			break
		}
		p++
	}
	if final {
		return len(buf)
	}
	ready = p
	for _, places := range s.open {
		for _, b := range places {
			ready = min(ready, b.start-s.base)
		}
	}
	s.base += ready
	s.at = p - ready
	return ready
}

// mask writes over the occurrences that end before p. It waits until p is there: others may still read these bytes.
func (s *stream) mask(buf []byte, p int) {
	places := &s.open[(s.base+p)%ring]
	kept := (*places)[:0]
	for _, b := range *places {
		if b.done < len(s.of.needles[b.needle]) {
			kept = append(kept, b)
			continue
		}
		s.live--
		for i := b.start - s.base; i < p; i++ {
			buf[i] = s.of.mask
		}
	}
	*places = kept
}

// step goes on with what may go on or begin at p. It does nothing and returns false when the escape that stands there is not all there.
func (s *stream) step(buf []byte, p int, final bool) bool {
	c := buf[p]
	u, more := readUnit(buf[p:])
	if more && !final {
		return false
	}
	here := &s.open[(s.base+p)%ring]
	for _, b := range *here {
		s.advance(b, c, &u, p)
	}
	s.live -= len(*here)
	*here = (*here)[:0]
	if s.of.begins[c] {
		for i := range s.of.needles {
			s.advance(begun{needle: i, start: s.base + p}, c, &u, p)
		}
	}
	return true
}

func (s *stream) advance(b begun, c byte, u *unit, p int) {
	n := s.of.needles[b.needle]
	if n[b.done].literal(c) {
		s.push(begun{b.needle, b.done + 1, b.start}, p+1)
	}
	if u.length > 0 && n.has(b.done, u.bytes()) {
		s.push(begun{b.needle, b.done + u.size, b.start}, p+u.length)
	}
}

// push enters b at p. Of two that have read the same, the one that began before the other stands for both.
func (s *stream) push(b begun, p int) {
	places := &s.open[(s.base+p)%ring]
	for i, other := range *places {
		if other.needle == b.needle && other.done == b.done {
			(*places)[i].start = min(other.start, b.start)
			return
		}
	}
	*places = append(*places, b)
	s.live++
}

const (
	room  = 512 // what a reader wants to have free before it reads into the caller's own buffer
	piece = 4096
	empty = 100 // reads of nothing after which a source is given up
)

type reader struct {
	stream stream
	from   io.Reader
	held   []byte // not beyond doubt
	out    []byte // beyond doubt, for a caller whose buffer was too small
	buf    []byte
	err    error
}

// Reader returns what r has, with what is found masked. Each Read gives out all that is beyond doubt. At the end of r it gives out what was
// held back; when r breaks off with an error it does not, since that may be most of a secret.
func (s *Scrubber) Reader(r io.Reader) io.Reader { return &reader{stream: stream{of: s}, from: r} }

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for nothing := 0; nothing < empty; {
		if len(r.out) > 0 {
			n := copy(p, r.out)
			r.out = r.out[n:]
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		into, direct := p, len(p) >= len(r.held)+room
		if !direct {
			if need := len(r.held) + piece; len(r.buf) < need {
				r.buf = make([]byte, 2*need)
			}
			into = r.buf
		}
		ready, came := r.fill(into)
		switch {
		case ready > 0 && direct:
			return ready, nil
		case ready > 0:
			r.out = into[:ready]
		case came:
			nothing = 0
		default:
			nothing++
		}
	}
	return 0, io.ErrNoProgress
}

// fill reads once into buf, after what was held back, and returns how much is beyond doubt, and whether anything came.
func (r *reader) fill(buf []byte) (ready int, came bool) {
	held := copy(buf, r.held)
	n, err := r.from.Read(buf[held:])
	all := buf[:held+n]
	ready = r.stream.scan(all, err == io.EOF)
	r.held = append(r.held[:0], all[ready:]...)
	clear(all[ready:]) // a caller may keep its buffer
	if err != nil {
		r.err = err
		r.held = nil
	}
	return ready, n > 0
}
