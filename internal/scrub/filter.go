package scrub

import "math/bits"

const (
	widest   = 32      // of the filter's window
	pairs    = 1 << 14 // entries of the table
	shiftOf  = 0x7f    // of an entry: how far the window may move
	beginsOf = 0x80    // of an entry: an occurrence may begin with this pair
)

// filter finds the places where an occurrence may begin, without looking at most bytes (as Wu and Manber do it, with pairs of bytes): when
// the pair at the end of a window cannot stand there in an occurrence that begins with the window, nor closer to its begin, the window moves
// by all that is certain. Pairs share entries, which makes it stop more often and the table small enough for the nearest cache.
type filter struct {
	width int // of the window; no occurrence is shorter
	table [pairs]uint8
}

func pair(a, b byte) int { return (int(a)<<7 ^ int(b)) & (pairs - 1) }

func (f *filter) fill(needles []needle) {
	f.width = widest
	for _, n := range needles {
		f.width = min(f.width, len(n)) // an escape is never shorter than what it stands for
	}
	for i := range f.table {
		f.table[i] = uint8(f.width - 1)
	}
	for _, n := range needles {
		f.learn(n)
	}
}

// learn enters every pair that an occurrence of n may have in its first bytes.
func (f *filter) learn(n needle) {
	var reach [widest]uint32 // for each symbol, the offsets at which it may begin to be written
	reach[0] = 1
	for k := range f.width {
		if reach[k] == 0 {
			continue
		}
		n.forms(k, func(way form) {
			for i, c := range way.text {
				if i == len(way.text)-1 {
					if k+way.size < len(n) {
						for _, next := range n[k+way.size].firsts() {
							f.enter(c, symbol{next, next}, reach[k], i)
						}
					}
					break
				}
				f.enter(c, way.text[i+1], reach[k], i)
			}
			if next := k + way.size; next < f.width {
				reach[next] |= reach[k] << len(way.text) & (1<<(f.width-1) - 1)
			}
		})
	}
}

// enter notes that a and b may stand i bytes after any of the offsets.
func (f *filter) enter(a, b symbol, offsets uint32, i int) {
	last := f.width - 2 - i // the last offset at which the pair is still in the window
	if last < 0 {
		return
	}
	offsets &= 1<<(last+1) - 1
	if offsets == 0 {
		return
	}
	shift := uint8(last - (bits.Len32(offsets) - 1))
	begins := uint8(0)
	if i == 0 && offsets&1 != 0 {
		begins = beginsOf
	}
	for _, first := range [2]byte{a.a, a.b} {
		for _, second := range [2]byte{b.a, b.b} {
			entry := &f.table[pair(first, second)]
			*entry = min(*entry&shiftOf, shift) | *entry&beginsOf | begins
		}
	}
}

// next returns the first place from p on where an occurrence may begin; where less than a window is left, by its first byte alone.
func (s *Scrubber) next(buf []byte, p int) int {
	width, table := s.skip.width, &s.skip.table
	for p+width <= len(buf) {
		if shift := table[pair(buf[p+width-2], buf[p+width-1])] & shiftOf; shift != 0 {
			p += int(shift)
			continue
		}
		if table[pair(buf[p], buf[p+1])]&beginsOf != 0 && s.begins[buf[p]] {
			return p
		}
		p++
	}
	for p < len(buf) && !s.begins[buf[p]] {
		p++
	}
	return p
}
