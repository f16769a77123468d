package vault

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"
)

// block is a run of credentials in the order of the list, and the words of their search texts. Words that many of them have are kept once, with the
// set of who has them; what is left is each one's own text. No word of a search holds white space, so none is found across two words of a
// text, and what looks through the words finds exactly what looking through the texts would.
//
// A search is so decided for all of a block at once, most of it unread, and most searches that find much read next to nothing of it. A block
// that was stored never changes.
type block struct {
	entries []entry // by id, in one piece: a walk is then as fast as memory is read
	own     string  // the words that few have, entry by entry, each ended by a line break
	ends    []uint32
	common  string // the words that many have, each ended by a line break
	holders []holders
	pairs   pairs // of own
}

// holders are the entries that have one word of common.
type holders struct {
	end uint32 // of the word in common
	set set
}

const (
	// blockEntries is how many entries a block has at most.
	blockEntries = 256
	// holderBytes is what a common word takes besides its text; one that would take no more as the own text of all its holders stays there.
	holderBytes = 40
)

// set is a set of a block's entries, by their places.
type set [blockEntries / 64]uint64

// first returns the set of the first n.
func first(n int) (s set) {
	for i := range s {
		s[i] = ^uint64(0) >> (64 - min(max(n-64*i, 0), 64))
	}
	return s
}

func (s *set) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *set) drop(i int)     { s[i/64] &^= 1 << (i % 64) }
func (s *set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s *set) len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

func (s *set) join(other *set) {
	for i := range s {
		s[i] |= other[i]
	}
}

func (s *set) meet(other *set) {
	for i := range s {
		s[i] &= other[i]
	}
}

func (s set) without(other *set) set {
	for i := range s {
		s[i] &^= other[i]
	}
	return s
}

// all goes through the places, in order.
func (s set) all(yield func(i int) bool) {
	for w, word := range s {
		for ; word != 0; word &= word - 1 {
			if !yield(64*w + bits.TrailingZeros64(word)) {
				return
			}
		}
	}
}

// pairs has, for each of 512 bits, the entries whose own text has a pair of neighbouring bytes that falls on the bit. An entry that lacks one
// of a word's does not hold the word, and most are ruled out so, unread.
type pairs [512]set

// pairBit is the bit that a pair of bytes falls on.
func pairBit(a, b byte) uint32 {
	return (uint32(a)<<8 | uint32(b)) * 0x9E3779B1 >> 23 // Fibonacci hashing, to 9 bits
}

func (p *pairs) add(i int, text string) {
	for at := 1; at < len(text); at++ {
		p[pairBit(text[at-1], text[at])].add(i)
	}
}

// within leaves of the set those that have every pair of the word.
func (p *pairs) within(s *set, word string) {
	for at := 1; at < len(word); at++ {
		s.meet(&p[pairBit(word[at-1], word[at])])
	}
}

// ownText returns the words of an entry that few others have.
func (b *block) ownText(i int) string {
	from := uint32(0)
	if i > 0 {
		from = b.ends[i-1]
	}
	return b.own[from:b.ends[i]]
}

// sharing returns the entries that hold the word within one of the common words.
func (b *block) sharing(word string) (s set) {
	for from, k := 0, 0; ; {
		found := strings.Index(b.common[from:], word)
		if found < 0 {
			return s
		}
		for int(b.holders[k].end) <= from+found {
			k++
		}
		s.join(&b.holders[k].set)
		from = int(b.holders[k].end)
	}
}

// record is an entry with the words of its search text, on its way into a block.
type record struct {
	entry
	words []string
}

// pack makes blocks of records, which are in the order of the list.
func pack(records []record) (out []*block) {
	for chunk := range slices.Chunk(records, blockEntries) {
		out = append(out, packOne(chunk))
	}
	return out
}

func packOne(records []record) *block {
	holding := make(map[string]*set, 8*len(records))
	for i, r := range records {
		for _, word := range r.words {
			s := holding[word]
			if s == nil {
				s = &set{}
				holding[word] = s
			}
			s.add(i)
		}
	}
	b := &block{entries: make([]entry, len(records)), ends: make([]uint32, len(records))}
	var common, own, ids strings.Builder
	for i, r := range records {
		for _, word := range r.words {
			s := holding[word]
			switch {
			case s == nil: // it was told at the first that has it, or twice in this text
			case (s.len()-1)*(len(word)+1) > holderBytes:
				common.WriteString(word + "\n")
				b.holders = append(b.holders, holders{uint32(common.Len()), *s})
				holding[word] = nil
			case s.has(i):
				own.WriteString(word + "\n")
				s.drop(i)
			}
		}
		b.ends[i] = uint32(own.Len())
		ids.WriteString(r.id)
	}
	b.own, b.common, b.holders = strings.Clone(own.String()), strings.Clone(common.String()), slices.Clip(b.holders)
	text, at := strings.Clone(ids.String()), 0
	for i, r := range records {
		b.entries[i] = r.entry
		b.entries[i].id = text[at : at+len(r.id)]
		at += len(r.id)
		b.pairs.add(i, b.ownText(i))
	}
	return b
}

// records returns what the block was packed of. The words share its memory.
func (b *block) records() []record {
	out := make([]record, len(b.entries))
	for i, e := range b.entries {
		out[i] = record{e, strings.Fields(b.ownText(i))}
	}
	from := uint32(0)
	for _, h := range b.holders {
		word := b.common[from : h.end-1]
		for i := range h.set.all {
			out[i].words = append(out[i].words, word)
		}
		from = h.end
	}
	return out
}

// merge returns old with the credentials of ids as they are in fresh, or without them. All three are in order. Blocks in which nothing
// changed stay as they are.
func merge(old []*block, ids []string, fresh []record) []*block {
	if len(old) == 0 {
		return pack(fresh)
	}
	out, count := make([]*block, 0, len(old)+1), 0
	for i, b := range old {
		mine := ids
		if i+1 < len(old) {
			n, _ := slices.BinarySearch(ids, old[i+1].entries[0].id)
			mine = ids[:n]
		}
		ids = ids[len(mine):]
		if len(mine) == 0 {
			out = append(out, b)
			count += len(b.entries)
			continue
		}
		n, _ := slices.BinarySearchFunc(fresh, mine[len(mine)-1], func(r record, id string) int { return cmp.Or(strings.Compare(r.id, id), -1) })
		records := slices.DeleteFunc(b.records(), func(r record) bool { _, found := slices.BinarySearch(mine, r.id); return found })
		records = append(records, fresh[:n]...)
		fresh = fresh[n:]
		slices.SortFunc(records, func(a, b record) int { return strings.Compare(a.id, b.id) })
		out = append(out, pack(records)...)
		count += len(records)
	}
	if len(out) > 1 && count < len(out)*blockEntries/4 { // what was deleted left many that are nearly empty
		var records []record
		for _, b := range out {
			records = append(records, b.records()...)
		}
		return pack(records)
	}
	return out
}

// at returns the block and the place in it where id is, or would be: behind the last entry of a block when it lies between two.
func at(blocks []*block, id string) (b, place int, found bool) {
	b, found = slices.BinarySearchFunc(blocks, id, func(b *block, id string) int { return strings.Compare(b.entries[0].id, id) })
	if found || b == 0 {
		return b, 0, found
	}
	b--
	place, found = slices.BinarySearchFunc(blocks[b].entries, id, func(e entry, id string) int { return strings.Compare(e.id, id) })
	return b, place, found
}
