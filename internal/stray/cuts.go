package stray

import (
	"regexp"
	"slices"
	"strings"
)

// Cut is a part of a text that looks like a credential, from one byte up to another, and what stands for it.
type Cut struct {
	From, To int
	By       string
}

// Cuts returns what [Redact] takes out of a text, in its order; no two of them meet.
func Cuts(text string) []Cut {
	if text == "" {
		return nil
	}
	e := edited{text: text, runs: []run{{0, len(text), text, false}}}
	e.replaceAll(privateKey, 0, "[redacted: a private key]")
	e.replaceAll(anyClientKey, 0, "[redacted: a client key]")
	for _, k := range kinds[1:] {
		e.replaceAll(k.find, 0, "[redacted: "+k.name+"]")
	}
	for _, find := range []*regexp.Regexp{inText, aBearer} {
		e.replaceAll(find, 1, "[redacted]")
	}
	// All at once: a value may be a word of what stands for another, and one after the other the text would grow without bound.
	by := map[string]string{}
	for _, v := range lineValues(e.text) {
		if k, ok := classify(v.name, v.text); ok && k.find == nil {
			by[v.text] = "[redacted: " + k.name + "]"
		}
	}
	e.replaceValues(by)
	var out []Cut
	for _, r := range e.runs {
		if r.cut {
			out = append(out, Cut{r.from, r.to, r.text})
		}
	}
	return out
}

// edited is a text some of which was replaced, as runs of what it was.
type edited struct {
	text string
	runs []run
}

// run is a part of the text that it was, from one byte up to another, and what stands there now: the same, or what was put in its place.
type run struct {
	from, to int
	text     string
	cut      bool
}

type change struct {
	from, to int // in the text as it is now
	by       string
}

// replaceAll replaces a group of each match; what begins with a mark that was put there before stays.
func (e *edited) replaceAll(find *regexp.Regexp, group int, by string) {
	var changes []change
	for _, at := range find.FindAllStringSubmatchIndex(e.text, -1) {
		c := change{at[2*group], at[2*group+1], by}
		if group == 0 || !strings.HasPrefix(e.text[c.from:], "[redacted") {
			changes = append(changes, c)
		}
	}
	e.replace(changes)
}

// replaceValues replaces values wherever they stand, the longest first.
func (e *edited) replaceValues(by map[string]string) {
	if len(by) == 0 {
		return
	}
	var changes []change
	at := longestOf(by).at(e.text)
	for i := 0; i < len(at); i++ {
		if n := int(at[i]); n > 0 {
			changes = append(changes, change{i, i + n, by[e.text[i:i+n]]})
			i += n - 1
		}
	}
	e.replace(changes)
}

// replace makes the changes, which are in order and do not meet.
func (e *edited) replace(changes []change) {
	if len(changes) == 0 {
		return
	}
	old := slices.Clone(e.runs)
	var next []run
	at := 0 // where the run old[0] begins
	// take moves what stands before end; with drop it only says what of the first text that was.
	take := func(end int, drop bool) (from, to int) {
		from = -1
		for len(old) > 0 && at < end {
			r := old[0]
			n := min(len(r.text), end-at)
			part := run{r.from, r.to, r.text[:n], r.cut}
			if !r.cut {
				part.to = r.from + n
			}
			if from < 0 {
				from = part.from
			}
			to = part.to
			if !drop {
				next = append(next, part)
			}
			if at += n; n == len(r.text) {
				old = old[1:]
				continue
			}
			if rest := &old[0]; !r.cut {
				*rest = run{r.from + n, r.to, r.text[n:], false}
			} else {
				rest.text = r.text[n:]
			}
		}
		return from, to
	}
	for _, c := range changes {
		take(c.from, false)
		from, to := take(c.to, true)
		next = append(next, run{from, to, c.by, true})
	}
	take(len(e.text), false)
	e.runs = joined(next)
	var b strings.Builder
	for _, r := range e.runs {
		b.WriteString(r.text)
	}
	e.text = b.String()
}

// joined makes one run of those that replaced the same part, or parts that meet. Thousands may: the text of each is written once.
func joined(runs []run) []run {
	out := runs[:0]
	for i := 0; i < len(runs); {
		r, end := runs[i], i+1
		for r.cut && end < len(runs) && runs[end].cut {
			r.to = max(r.to, runs[end].to)
			end++
		}
		if end > i+1 {
			var b strings.Builder
			for _, one := range runs[i:end] {
				b.WriteString(one.text)
			}
			r.text = b.String()
		}
		out = append(out, r)
		i = end
	}
	return out
}
