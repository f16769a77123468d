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
	parts []part // what it has not come to yet
	block *block // where it is, and what matches of it that was not proposed yet
	open  set
	skip  int

	all       bool // no filter but words
	exact     []wanted
	accounts  []wanted // any of the types with any of the providers; none: whatever it is
	tag       *unique.Handle[string]
	before    store.Time // never: whatever its expiry
	rotate    store.Time // never: whatever its plan
	status    Status
	health    *unique.Handle[string]
	oauth     unique.Handle[string]
	lost      unique.Handle[string]
	active    unique.Handle[string]
	state     unique.Handle[string]
	now, soon store.Time
	words     []string
	shared    []set // of the block, who holds each word in a common word
}

// part is a block and those of its entries that may be proposed.
type part struct {
	block *block
	in    set
}

// wanted is one exact filter: which of the columns, and its value.
type wanted struct {
	column int
	value  unique.Handle[string]
}

func (f Filter) walk(blocks []*block, after string, now time.Time) *walk {
	w := &walk{skip: f.Skip, before: never, rotate: never, status: f.Status, active: unique.Make(string(Active)), state: unique.Make(string(f.Status)),
		now: store.TimeOf(now), soon: store.TimeOf(now.Add(ExpiringWithin))}
	if f.IDs != nil {
		w.parts = only(blocks, f.IDs)
	} else {
		w.parts = whole(blocks)
	}
	w.begin(after)
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
	if f.RotationDueBefore != nil {
		w.rotate = store.TimeOf(*f.RotationDueBefore)
	}
	w.all = len(w.exact) == 0 && len(w.accounts) == 0 && w.health == nil && w.tag == nil && w.before == never && w.rotate == never && w.status == ""
	w.words = words(f.Q)
	w.shared = make([]set, len(w.words))
	return w
}

// begin leaves out everything up to and with the id after.
func (w *walk) begin(after string) {
	if after == "" {
		return
	}
	w.parts = slices.DeleteFunc(w.parts, func(p part) bool { return p.block.entries[len(p.block.entries)-1].id <= after })
	if len(w.parts) > 0 {
		_, place, found := at([]*block{w.parts[0].block}, after)
		if found {
			place++
		}
		gone := first(place)
		w.parts[0].in = w.parts[0].in.without(&gone)
	}
}

// next returns the ids of the next n that match, fewer only at the end.
func (w *walk) next(n int) (ids []string) {
	for {
		for i := range w.open.all {
			if len(ids) == n {
				return ids
			}
			w.open.drop(i)
			if w.skip > 0 {
				w.skip--
				continue
			}
			ids = append(ids, w.block.entries[i].id)
		}
		if len(ids) == n || len(w.parts) == 0 {
			return ids
		}
		w.block, w.open = w.parts[0].block, w.matching(w.parts[0])
		w.parts = w.parts[1:]
		if found := w.open.len(); found <= w.skip {
			w.skip -= found
			w.open = set{}
		}
	}
}

// matching returns those of a part that match. Of the texts it reads only what nothing else decides.
func (w *walk) matching(p part) set {
	in := p.in
	for k, word := range w.words {
		w.shared[k] = p.block.sharing(word)
		own := in.without(&w.shared[k])
		p.block.pairs.within(&own, word)
		own.join(&w.shared[k])
		in.meet(&own)
	}
	if !w.all {
		for i := range in.all {
			if !w.matches(&p.block.entries[i]) {
				in.drop(i)
			}
		}
	}
	for k, word := range w.words {
		for i := range in.without(&w.shared[k]).all {
			if !strings.Contains(p.block.ownText(i), word) {
				in.drop(i)
			}
		}
	}
	return in
}

// matches reports whether an entry passes every filter but the words.
func (w *walk) matches(e *entry) bool {
	for _, x := range w.exact {
		if e.exact[x.column] != x.value {
			return false
		}
	}
	return (w.before == never || e.expires < w.before) && (w.rotate == never || e.rotate < w.rotate) && (w.tag == nil || slices.Contains(e.tags, *w.tag)) && w.inAccounts(e) && w.inStatus(e) && w.inHealth(e)
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

// whole is all of the catalog.
func whole(blocks []*block) []part {
	parts := make([]part, len(blocks))
	for i, b := range blocks {
		parts[i] = part{b, first(len(b.entries))}
	}
	return parts
}

// only returns the parts with those ids, in order.
func only(blocks []*block, ids []string) (out []part) {
	ids = slices.Sorted(slices.Values(ids))
	for _, id := range ids {
		i, place, found := at(blocks, id)
		if !found {
			continue
		}
		if len(out) == 0 || out[len(out)-1].block != blocks[i] {
			out = append(out, part{block: blocks[i]})
		}
		out[len(out)-1].in.add(place)
	}
	return out
}
