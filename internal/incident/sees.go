package incident

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// sees is what a caller may be told of the trains that incidents touch. Of a private train that they do not reach, and of its client keys, they see no link, and where its name stands in
// the words of an incident that links it, a word for it. The zero sees is everything.
type sees struct {
	train func(id string) bool // nil for all
}

// sightOf reads what the caller may be told of.
func sightOf(tx *store.Tx, caller identity.Caller) (sees, error) {
	reach, err := identity.TrainsKnown(tx, caller)
	if err != nil {
		return sees{}, err
	}
	if hides, err := reach.Hides(tx); err != nil || !hides {
		return sees{}, err
	}
	train, err := reach.Known(tx)
	return sees{train}, err
}

// hidden returns which of the links the caller may not be told of, by the id. A key that is gone may have been of a private train.
func (s sees) hidden(tx *store.Tx, links []Link) (map[string]bool, error) {
	if s.train == nil {
		return nil, nil
	}
	out := map[string]bool{}
	var keys []string
	for _, l := range links {
		switch l.Kind {
		case OfTrain:
			out[l.ID] = !s.train(l.ID)
		case OfKey:
			out[l.ID] = true
			keys = append(keys, l.ID)
		}
	}
	for part := range slices.Chunk(unique(keys), 500) {
		args := make([]any, len(part))
		for n, id := range part {
			args[n] = id
		}
		var w store.Where
		w.Add(`id IN (?`+strings.Repeat(`,?`, len(args)-1)+`)`, args...)
		var rows []struct {
			ID    string `db:"id"`
			Train string `db:"train_id"`
		}
		if err := tx.Select(&rows, `SELECT id, train_id FROM client_keys`+w.SQL(), w.Args()...); err != nil {
			return nil, err
		}
		for _, row := range rows {
			out[row.ID] = !s.train(row.Train)
		}
	}
	return out, nil
}

// may reports whether the caller may be told of one link.
func (s sees) may(tx *store.Tx, l Link) (bool, error) {
	hidden, err := s.hidden(tx, []Link{l})
	return !hidden[l.ID], err
}

// narrow takes from incidents what the caller may not be told, and returns for each what stands in the place of which names; nil where nothing was taken.
func (s sees) narrow(tx *store.Tx, list []Incident) ([]map[string]string, error) {
	out := make([]map[string]string, len(list))
	if s.train == nil {
		return out, nil
	}
	var all []Link
	for _, i := range list {
		all = append(all, i.Links...)
	}
	hidden, err := s.hidden(tx, all)
	if err != nil {
		return nil, err
	}
	for n := range list {
		i := &list[n]
		for _, l := range i.Links {
			if !hidden[l.ID] {
				continue
			}
			if out[n] == nil {
				out[n] = map[string]string{}
			}
			word := "a private train"
			if l.Kind == OfKey {
				word = "a key of a private train"
			}
			out[n][l.Name], out[n][clean(l.Name)], out[n][l.ID] = word, word, word
		}
		if out[n] == nil {
			continue
		}
		i.Links = slices.DeleteFunc(slices.Clone(i.Links), func(l Link) bool { return hidden[l.ID] })
		i.Meta = i.without(out[n])
		i.Subject = without(i.Subject, out[n])
	}
	return out, nil
}

// timeline narrows the details of entries: names stand in no text, and there is no step at what the caller may not be told of, whether the incident links it
// or not.
func (s sees) timeline(tx *store.Tx, entries []Entry, names map[string]string) error {
	if s.train == nil {
		return nil
	}
	each := func(fn func(key, text string) (string, bool)) {
		for n := range entries {
			details := make(store.Details, len(entries[n].Details))
			for m, d := range entries[n].Details {
				details[m] = d.Each(func(text string) (string, bool) { return fn(d.Key, text) })
			}
			entries[n].Details = details
		}
	}
	var links []Link
	each(func(key, text string) (string, bool) {
		if kind, id := stepAt(text); key == stepsDetail && (kind == OfTrain || kind == OfKey) {
			links = append(links, Link{Kind: kind, ID: id})
		}
		return text, true
	})
	hidden, err := s.hidden(tx, links)
	if err != nil {
		return err
	}
	each(func(key, text string) (string, bool) {
		_, id := stepAt(text)
		return without(text, names), key != stepsDetail || !hidden[id]
	})
	return nil
}

// stepAt returns at what a step was, of how [Plan.counts] tells it.
func stepAt(text string) (kind LinkKind, id string) {
	if words := strings.Fields(text); len(words) == 3 {
		return LinkKind(words[1]), words[2]
	}
	return "", ""
}

// one is narrow for one incident.
func (s sees) one(tx *store.Tx, i Incident) (Incident, map[string]string, error) {
	list := []Incident{i}
	words, err := s.narrow(tx, list)
	if err != nil {
		return Incident{}, nil, err
	}
	return list[0], words[0], nil
}

// without returns what is written of an incident with words in the place of names.
func (m Meta) without(names map[string]string) Meta {
	m.Title, m.Description, m.Findings, m.Remediation = without(m.Title, names), without(m.Description, names), without(m.Findings, names), without(m.Remediation, names)
	return m
}

// keep takes from a patch what is said as it was read: it may have been read with words in the place of names, which must not take their place for good.
func (p Patch) keep(read Meta) Patch {
	for _, f := range []struct {
		to  **string
		was string
	}{{&p.Title, read.Title}, {&p.Description, read.Description}, {&p.Findings, read.Findings}, {&p.Remediation, read.Remediation}} {
		if *f.to != nil && **f.to == f.was {
			*f.to = nil
		}
	}
	return p
}

// without puts words in the place of names where they stand by themselves, the longest first, so that no part of one is left.
func without(text string, names map[string]string) string {
	var order []string
	for name := range names {
		if name != "" {
			order = append(order, name)
		}
	}
	slices.SortFunc(order, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	for _, name := range order {
		var b strings.Builder
		rest, before := text, ' '
		for {
			at := strings.Index(rest, name)
			if at < 0 {
				break
			}
			if at > 0 {
				before, _ = utf8.DecodeLastRuneInString(rest[:at])
			}
			after, _ := utf8.DecodeRuneInString(rest[at+len(name):])
			b.WriteString(rest[:at])
			if joins(before) || joins(after) && at+len(name) < len(rest) {
				b.WriteString(name)
			} else {
				b.WriteString(names[name])
			}
			before, _ = utf8.DecodeLastRuneInString(name)
			rest = rest[at+len(name):]
		}
		b.WriteString(rest)
		text = b.String()
	}
	return text
}

func joins(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' || r == '-' }

// finds reports whether a search still leads to the incident by what the caller reads of it.
func (f Filter) finds(i Incident) bool {
	title := strings.ToLower(i.Title)
	for _, word := range strings.Fields(f.Q) {
		if !strings.Contains(title, strings.ToLower(word)) {
			return false
		}
	}
	return true
}
