package vault

import (
	"slices"
	"strings"
	"time"
	"unique"

	"signalbox.dev/signalbox/internal/store"
)

// walk goes through the catalog in the order of the list and proposes what matches a filter. Its conditions are those of [Filter.where].
type walk struct {
	entries []*entry
	skip    int

	exact     []wanted
	tag       *unique.Handle[string]
	before    store.Time // never: whatever its expiry
	status    Status
	active    unique.Handle[string]
	state     unique.Handle[string]
	now, soon store.Time
	words     []word
}

// word is one of the words of a search, with the place of that byte of it by which it is looked for.
type word struct {
	text string
	rare int
}

// wanted is one exact filter: which of the columns, and its value.
type wanted struct {
	column int
	value  unique.Handle[string]
}

func (f Filter) walk(entries []*entry, after string, now time.Time) *walk {
	w := &walk{entries: entries, skip: f.Skip, before: never, status: f.Status, active: unique.Make(string(Active)), state: unique.Make(string(f.Status)),
		now: store.TimeOf(now), soon: store.TimeOf(now.Add(ExpiringWithin))}
	if f.IDs != nil {
		w.entries = only(entries, f.IDs)
	}
	if after != "" {
		i, found := at(w.entries, after)
		if found {
			i++
		}
		w.entries = w.entries[i:]
	}
	for i, e := range f.exact() {
		if e.value != "" {
			w.exact = append(w.exact, wanted{i, unique.Make(e.value)})
		}
	}
	if f.Tag != "" {
		tag := unique.Make(f.Tag)
		w.tag = &tag
	}
	if f.ExpiresBefore != nil {
		w.before = store.TimeOf(*f.ExpiresBefore)
	}
	w.words = words(f.Q, w.entries)
	return w
}

// next returns the ids of the next n that match, fewer only at the end.
func (w *walk) next(n int) (ids []string) {
	for len(ids) < n && len(w.entries) > 0 {
		e := w.entries[0]
		w.entries = w.entries[1:]
		switch {
		case !w.matches(e):
		case w.skip > 0:
			w.skip--
		default:
			ids = append(ids, e.id)
		}
	}
	return ids
}

func (w *walk) matches(e *entry) bool {
	for _, x := range w.exact {
		if e.exact[x.column] != x.value {
			return false
		}
	}
	if w.before != never && e.expires >= w.before || w.tag != nil && !slices.Contains(e.tags, *w.tag) || !w.inStatus(e) {
		return false
	}
	for i, word := range w.words {
		if !word.in(e.search) {
			// The word that rules one out will likely rule out the next.
			w.words[0], w.words[i] = w.words[i], w.words[0]
			return false
		}
	}
	return true
}

func (w *walk) inStatus(e *entry) bool {
	switch w.status {
	case "":
		return true
	case Active:
		return e.state == w.active && e.expires > w.soon
	case Expiring:
		return e.state == w.active && e.expires > w.now && e.expires <= w.soon
	case Expired:
		return e.state == w.active && e.expires <= w.now
	default:
		return e.state == w.state
	}
}

// words are those of a search, lowered as the searched text is, longest first. A word within another says nothing more and is left out.
func words(q string, entries []*entry) (out []word) {
	all := strings.Fields(strings.ToLower(q))
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b string) int { return len(b) - len(a) })
	often := common(entries)
	for _, s := range all {
		if slices.ContainsFunc(out, func(longer word) bool { return strings.Contains(longer.text, s) }) {
			continue
		}
		w := word{text: s}
		for i := range len(s) {
			if often[s[i]] < often[s[w.rare]] {
				w.rare = i
			}
		}
		out = append(out, w)
	}
	return out
}

// common counts the bytes in some of the texts.
func common(entries []*entry) (often [256]int) {
	const samples = 64
	for i := 0; i < len(entries); i += 1 + len(entries)/samples {
		for _, b := range []byte(entries[i].search) {
			often[b]++
		}
	}
	return often
}

// in is strings.Contains, which looks for a word's first byte and loses time with texts that are full of it.
func (w word) in(text string) bool {
	end := len(text) - (len(w.text) - w.rare) + 1 // where the rare byte cannot be any more
	for at := w.rare; at < end; at++ {
		i := strings.IndexByte(text[at:end], w.text[w.rare])
		if i < 0 {
			return false
		}
		at += i
		if start := at - w.rare; text[start:start+len(w.text)] == w.text {
			return true
		}
	}
	return false
}

// only returns the entries with those ids, in order, each once.
func only(entries []*entry, ids []string) (out []*entry) {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if i, found := at(entries, id); found {
			out = append(out, entries[i])
		}
	}
	return out
}
