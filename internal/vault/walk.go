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
	accounts  []wanted // any of the types with any of the providers; none: whatever it is
	tag       *unique.Handle[string]
	before    store.Time // never: whatever its expiry
	status    Status
	health    *unique.Handle[string]
	oauth     unique.Handle[string]
	lost      unique.Handle[string]
	active    unique.Handle[string]
	state     unique.Handle[string]
	now, soon store.Time
	words     []string
	pairs     pairs // of all words
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
	if f.Accounts {
		types, providers := accountColumns()
		for _, t := range types {
			w.accounts = append(w.accounts, wanted{typeColumn, unique.Make(t)})
		}
		for _, p := range providers {
			w.accounts = append(w.accounts, wanted{providerColumn, unique.Make(p)})
		}
	}
	if f.Health != "" {
		health := unique.Make(string(f.Health))
		w.health, w.oauth, w.lost = &health, unique.Make(string(OAuth)), unique.Make(string(NeedsLogin))
	}
	if f.Tag != "" {
		tag := unique.Make(f.Tag)
		w.tag = &tag
	}
	if f.ExpiresBefore != nil {
		w.before = store.TimeOf(*f.ExpiresBefore)
	}
	w.words = words(f.Q)
	for _, word := range w.words {
		w.pairs.add(word)
	}
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
	if !w.inAccounts(e) {
		return false
	}
	if w.before != never && e.expires >= w.before || w.tag != nil && !slices.Contains(e.tags, *w.tag) || !w.inStatus(e) || !w.inHealth(e) ||
		!w.pairs.within(&e.pairs) {
		return false
	}
	for i, word := range w.words {
		if !strings.Contains(e.search, word) {
			// The word that rules one out will likely rule out the next.
			w.words[0], w.words[i] = w.words[i], w.words[0]
			return false
		}
	}
	return true
}

// inAccounts reports whether the entry is of a type and of a provider that accounts have, where only those are asked for.
func (w *walk) inAccounts(e *entry) bool {
	if len(w.accounts) == 0 {
		return true
	}
	var kind, of bool
	for _, x := range w.accounts {
		if e.exact[x.column] == x.value {
			kind, of = kind || x.column == typeColumn, of || x.column == providerColumn
		}
	}
	return kind && of
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

func (w *walk) inHealth(e *entry) bool {
	switch {
	case w.health == nil:
		return true
	case e.exact[typeColumn] != w.oauth:
		return false
	case e.dead <= w.now:
		return *w.health == w.lost
	}
	return e.health == *w.health
}

// words are those of a search, lowered as the searched text is, longest first. A word within another says nothing more and is left out.
func words(q string) (out []string) {
	all := strings.Fields(strings.ToLower(q))
	slices.SortStableFunc(all, func(a, b string) int { return len(b) - len(a) })
	for _, word := range all {
		if !slices.ContainsFunc(out, func(longer string) bool { return strings.Contains(longer, word) }) {
			out = append(out, word)
		}
	}
	return out
}

// pairs has a bit for each pair of bytes that stand together in a text; pairs share bits. A text whose pairs lack one of a word's does not
// hold the word, and most texts are ruled out so, unread.
type pairs [8]uint64

func (p *pairs) add(text string) {
	for i := 1; i < len(text); i++ {
		bit := (uint32(text[i-1])<<8 | uint32(text[i])) * 0x9E3779B1 >> 23 // Fibonacci hashing, to 9 bits
		p[bit/64] |= 1 << (bit % 64)
	}
}

func (p *pairs) within(of *pairs) bool {
	for i := range p {
		if p[i]&^of[i] != 0 {
			return false
		}
	}
	return true
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
