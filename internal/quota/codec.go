package quota

import (
	"encoding/binary"
	"errors"
)

// form is the first byte of a state in bytes. Another one was written by a version that counts in another way.
const form = 1

var errForm = errors.New("quota: counts that this version cannot read")

// bounds of what is read, far above what is written.
const (
	mostBuckets   = 200
	mostStreams   = 10_000
	longestStream = 200
)

// Encode writes the state as bytes.
func (s *State) Encode() []byte {
	b := append(make([]byte, 0, 256), form)
	put := func(n int64) { b = binary.AppendVarint(b, n) }
	put(s.last)
	put(s.month)
	put(min(s.spent, together))
	put(min(s.cost, together))
	for i, sp := range spans {
		for _, w := range [...]window{s.requests[i], s.tokens[i]} {
			n := int64(0)
			for _, k := range w {
				if k.n > 0 {
					n++
				}
			}
			put(n)
			for _, k := range w {
				if k.n > 0 {
					put(s.last/sp.width - k.at) // small numbers are short
					put(min(k.n, plenty))
				}
			}
		}
	}
	put(int64(len(s.owed)))
	for _, o := range s.owed {
		put(o.at)
		put(min(o.tokens, plenty))
		put(min(o.cost, plenty))
	}
	put(int64(len(s.streams)))
	for _, o := range s.streams {
		put(int64(len(o.instance)))
		b = append(b, o.instance...)
		put(min(o.n, plenty))
		put(o.at)
	}
	return b
}

// reader reads numbers; after the first that is not there, or is out of bounds, all are 0.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) num(least, most int64) int64 {
	n, size := binary.Varint(r.b)
	if r.bad || size <= 0 || n < least || n > most {
		r.bad = true
		return 0
	}
	r.b = r.b[size:]
	return n
}

const (
	ever     = 1 << 40 // seconds and parts of time, before and after
	plenty   = 1 << 53 // of one count
	together = 1 << 60 // of sums
)

// Decode reads what [State.Encode] wrote; nothing gives the state of who has used nothing. What cannot be read is an error, since who cannot be counted is refused.
func Decode(b []byte) (*State, error) {
	s := &State{}
	if len(b) == 0 {
		return s, nil
	}
	if b[0] != form {
		return nil, errForm
	}
	r := &reader{b: b[1:]}
	s.last, s.month = r.num(0, ever), r.num(0, ever)
	s.spent, s.cost = r.num(0, together), r.num(0, together)
	for i, sp := range spans {
		for _, w := range [...]*window{&s.requests[i], &s.tokens[i]} {
			n := r.num(0, mostBuckets)
			for range n {
				k := bucket{at: s.last/sp.width - r.num(-ever, ever), n: r.num(0, plenty)}
				if len(*w) > 0 && k.at <= (*w)[len(*w)-1].at {
					r.bad = true
				}
				*w = append(*w, k)
			}
		}
	}
	for range r.num(0, mostBuckets) {
		s.owed = append(s.owed, owed{r.num(-ever, ever), r.num(0, plenty), r.num(0, plenty)})
	}
	for range r.num(0, mostStreams) {
		size := int(r.num(0, longestStream))
		if r.bad || size > len(r.b) {
			return nil, errForm
		}
		o := stream{instance: string(r.b[:size])}
		r.b = r.b[size:]
		o.n, o.at = r.num(0, plenty), r.num(-ever, ever)
		s.streams = append(s.streams, o)
	}
	if r.bad || len(r.b) > 0 {
		return nil, errForm
	}
	return s, nil
}
