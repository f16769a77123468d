package contents

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/stray"
)

// An answer's stream tells each text in pieces, an event for each: a block's text, what the model thought, the JSON of a tool's input. What looks like a secret is looked for in the text that
// the pieces make, and taken out of each piece that holds a part of it: the first has what stands for it, the others lose their part.

const (
	// lost stands for what was dropped where a stream was cut: half a secret is not recognised.
	lost = "[cut off]"
	// jsonField is the field whose pieces make a JSON text.
	jsonField = "partial_json"
)

// harmless is what stands between events: thousands of times, and looking through it costs by the call.
var harmless = regexp.MustCompile(`^(?:event: ?[a-z_]{1,24}\r?\n|\r?\n)*$`)

// gap is the line that stands for what was not kept (see [Tap]).
var gap = regexp.MustCompile(`^\[\d+ bytes are not kept\]\n?$`)

// streamLine is a line of a stream.
type streamLine struct {
	raw    string
	tokens []token // of an event
	lost   bool
}

// piece is a string of an event: a token of a line, and where it lies in its text.
type piece struct{ line, token, from, to int }

// told is a text that is told in pieces.
type told struct {
	field  string
	text   strings.Builder
	pieces []piece
	// begun says that its beginning is here, lacksBegin and lacksEnd that the stream was cut inside of it.
	begun, lacksBegin, lacksEnd bool
}

// streamShown is an event stream for a person to read.
func streamShown(text string) string {
	lines, texts := readStream(text)
	hideIn(lines, texts)
	var all []token
	for _, l := range lines {
		all = append(all, l.tokens...)
	}
	redactAll(all)
	var b strings.Builder
	var plain []string
	flush := func() {
		if rest := strings.Join(plain, ""); harmless.MatchString(rest) {
			b.WriteString(rest)
		} else {
			b.WriteString(stray.Redact(unescaped(rest)))
		}
		plain = plain[:0]
	}
	for _, l := range lines {
		n := len(l.tokens)
		switch {
		case l.lost:
			flush()
			b.WriteString(lost + "\n")
		case n == 0:
			plain = append(plain, l.raw)
		default:
			flush()
			laid, ok := lay(all[:n], false)
			if !ok {
				laid = lost
			}
			b.WriteString("data: " + laid + "\n")
			all = all[n:]
		}
	}
	flush()
	return b.String()
}

// isStream reports whether a text begins as an event stream does.
func isStream(text string) bool {
	return slices.ContainsFunc([]string{"event:", "data:", "id:", "retry:", ":"}, func(s string) bool { return strings.HasPrefix(text, s) })
}

// texts are those that a stream tells, by block and field while they are open: an event of one block goes through no other's.
type texts struct {
	all   []*told
	open  map[string]map[string]*told
	begun map[string]bool // the blocks whose beginning is on this side of the cut
	after bool            // a cut
}

// end ends the texts of a block.
func (x *texts) end(index string) { delete(x.open, index) }

// endAll ends the texts of all blocks: with cut, where they went on and it is not here.
func (x *texts) endAll(cut bool) {
	for _, fields := range x.open {
		for _, t := range fields {
			t.lacksEnd = cut
		}
	}
	x.open, x.begun, x.after = map[string]map[string]*told{}, map[string]bool{}, x.after || cut
}

// at is the text that a field of a block goes on with.
func (x *texts) at(index, field string) *told {
	fields := x.open[index]
	if fields == nil {
		fields = map[string]*told{}
		x.open[index] = fields
	}
	t := fields[field]
	if t == nil {
		t = &told{field: field, begun: x.begun[index], lacksBegin: x.after && !x.begun[index]}
		fields[field] = t
		x.all = append(x.all, t)
	}
	return t
}

// readStream reads the lines of a stream, and which texts their events tell. What is left of an event at a cut, or cannot be read, is lost, and a text that nothing ended was cut where the stream ends.
func readStream(text string) ([]streamLine, []*told) {
	var lines []streamLine
	for raw := range strings.Lines(text) {
		lines = append(lines, streamLine{raw: raw})
	}
	stream := isStream(text)
	var x texts
	x.endAll(false)
	gapBefore := false
	for i := range lines {
		l := &lines[i]
		rest := gapBefore // of an event
		gapBefore = stream && gap.MatchString(l.raw)
		switch {
		case gapBefore:
			x.endAll(true)
			if i > 0 && lines[i-1].tokens == nil && strings.HasPrefix(lines[i-1].raw, "da") {
				lines[i-1].lost = true
			}
			continue
		case rest:
			l.lost = strings.TrimSpace(l.raw) != ""
			continue
		}
		data, is := strings.CutPrefix(l.raw, "data:")
		if !is {
			continue
		}
		var ok bool
		if l.tokens, ok = tokensOf(data); !ok {
			l.tokens = nil
			if stream && strings.HasPrefix(strings.TrimSpace(data), "{") {
				l.lost = true
				x.endAll(true)
			}
			continue
		}
		e := eventOf(l.tokens)
		switch e.kind {
		case "content_block_start":
			x.end(e.index)
			x.begun[e.index] = true
		case "content_block_stop":
			x.end(e.index)
		case "message_stop":
			x.endAll(false)
		}
		for _, p := range e.strings {
			t := x.at(e.index, p.field)
			from := t.text.Len()
			t.text.WriteString(l.tokens[p.token].text)
			t.pieces = append(t.pieces, piece{i, p.token, from, t.text.Len()})
		}
	}
	x.endAll(stream)
	return lines, x.all
}

// streamEvent is what an event says of its place, and the strings of it that tell a part of a text.
type streamEvent struct {
	kind, index string
	strings     []struct {
		token int
		field string
	}
}

// wholeFields are those that no event goes on with.
var wholeFields = []string{"", "type", "id", "name", "tool_use_id", "stop_reason", "stop_sequence"}

func eventOf(tokens []token) (e streamEvent) {
	depth := 0
	var names [3]string
	for i, t := range tokens {
		switch {
		case t.delim == '{' || t.delim == '[':
			if depth++; depth < len(names) {
				names[depth] = ""
			}
		case t.delim != 0:
			depth--
		case t.name && depth < len(names):
			names[depth] = t.text
		case t.name:
		case depth == 1 && names[1] == "type":
			e.kind = t.text
		case depth == 1 && names[1] == "index":
			e.index = strconv.Quote(t.text)
		case depth == 2 && t.string && (names[1] == "delta" || names[1] == "content_block") && !slices.Contains(wholeFields, names[2]):
			e.strings = append(e.strings, struct {
				token int
				field string
			}{i, names[2]})
		}
	}
	return e
}

// view is what a text, or a string in it, means, and where each byte of that comes from; without at it is the text itself.
type view struct {
	of   *told
	text string
	at   []int32 // one more than text has bytes
	// first and last say that the text begins, or ends, with it.
	first, last bool
}

// hideIn takes what looks like a secret out of the texts that are told in pieces.
func hideIn(lines []streamLine, texts []*told) {
	var views []view
	cuts := map[*told][]stray.Cut{}
	for _, t := range texts {
		text := t.text.String()
		switch {
		case t.field != jsonField:
			views = append(views, view{of: t, text: text, first: true, last: true})
		case t.begun:
			found, whole := stringsIn(t, text)
			views, cuts[t] = append(views, found...), whole
		default: // where a string begins is not known
			v, _ := meant(text, 0, 0)
			v.of, v.first, v.last = t, true, true
			views = append(views, v)
		}
	}
	each := make([]string, len(views))
	for i, v := range views {
		each[i] = v.text
	}
	for i, found := range cutsOf(each) {
		v := views[i]
		if v.first && v.of.lacksBegin {
			if n := len(v.text) - len(wholeBegin(v.text)); n > 0 {
				found = append(found, stray.Cut{From: 0, To: n, By: lost})
			}
		}
		if v.last && v.of.lacksEnd {
			if n := len(wholeEnd(v.text)); n < len(v.text) {
				found = append(found, stray.Cut{From: n, To: len(v.text), By: lost})
			}
		}
		for _, c := range found {
			if v.at != nil {
				c.From, c.To = int(v.at[c.From]), int(v.at[c.To])
			}
			cuts[v.of] = append(cuts[v.of], c)
		}
	}
	for t, found := range cuts {
		t.hide(lines, found)
	}
}

// cutsOf looks through texts together, because looking costs by the call.
func cutsOf(texts []string) [][]stray.Cut {
	out := make([][]stray.Cut, len(texts))
	begin, i := 0, 0
	for _, c := range stray.Cuts(strings.Join(texts, between)) {
		for i < len(texts) && c.From >= begin+len(texts[i]) {
			begin += len(texts[i]) + len(between)
			i++
		}
		if i == len(texts) || c.From < begin || c.To > begin+len(texts[i]) { // a private key without an end
			for i, text := range texts {
				out[i] = stray.Cuts(text)
			}
			return out
		}
		out[i] = append(out[i], stray.Cut{From: c.From - begin, To: c.To - begin, By: c.By})
	}
	return out
}

// stringsIn returns the strings of a JSON text that may be incomplete, and as cuts those whose names tell what they are.
func stringsIn(t *told, text string) (views []view, whole []stray.Cut) {
	name, value := "", false
	for i := 0; i < len(text); {
		switch text[i] {
		case '"':
			v, next := meant(text, i+1, '"')
			v.of, v.last = t, next > len(text)
			rest := strings.TrimLeft(text[min(next, len(text)):], " \t\r\n")
			switch {
			case strings.HasPrefix(rest, ":"):
				name, value = v.text, false
				views = append(views, v)
			case value && v.text != "" && telling.MatchString(name):
				whole = append(whole, stray.Cut{From: i + 1, To: int(v.at[len(v.text)]), By: "[redacted]"})
			default:
				views = append(views, v)
			}
			i = next
			continue
		case ':':
			value = true
		case ',', '{', '}', '[', ']':
			value = false
		}
		i++
	}
	return views, whole
}

// meant takes the escapes out of a text from a byte on, up to the byte that ends it; 0 is the end of the text. It returns the byte behind that, which is beyond the text where there is none.
func meant(text string, from int, until byte) (v view, next int) {
	var b []byte
	put := func(at int, s ...byte) {
		for range s {
			v.at = append(v.at, int32(at))
		}
		b = append(b, s...)
	}
	i := from
	for ; i < len(text); i++ {
		c := text[i]
		if until != 0 && c == until {
			break
		}
		if c != '\\' || i+1 == len(text) {
			put(i, c)
			continue
		}
		at := i
		i++
		switch text[i] {
		case 'n', 'r':
			put(at, '\n')
		case 't':
			put(at, '\t')
		case 'b', 'f':
			put(at, ' ')
		case 'u':
			r, n := hexRune(text[i+1:])
			if n == 0 {
				put(at, '\\', 'u')
				continue
			}
			i += n
			if utf16.IsSurrogate(r) && strings.HasPrefix(text[i+1:], `\u`) {
				if low, n := hexRune(text[i+3:]); n > 0 {
					if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
						r, i = pair, i+2+n
					}
				}
			}
			put(at, utf8.AppendRune(nil, r)...)
		default: // a quote, a backslash, a slash
			put(at, text[i])
		}
	}
	v.text, v.at = string(b), append(v.at, int32(min(i, len(text))))
	return v, i + 1
}

// hexRune reads the four digits of an escape, and returns how many bytes those are: 0 where there are none.
func hexRune(s string) (rune, int) {
	if len(s) < 4 {
		return 0, 0
	}
	n, err := strconv.ParseUint(s[:4], 16, 16)
	if err != nil {
		return 0, 0
	}
	return rune(n), 4
}

// hide takes the cuts out of the pieces.
func (t *told) hide(lines []streamLine, cuts []stray.Cut) {
	if len(cuts) == 0 {
		return
	}
	slices.SortStableFunc(cuts, func(a, b stray.Cut) int { return a.From - b.From })
	merged := cuts[:1]
	for _, c := range cuts[1:] {
		if last := &merged[len(merged)-1]; c.From < last.To {
			last.To = max(last.To, c.To)
		} else {
			merged = append(merged, c)
		}
	}
	text := t.text.String()
	for _, p := range t.pieces {
		var b strings.Builder
		at := p.from
		for _, c := range merged {
			if c.To <= p.from {
				continue
			}
			if c.From >= p.to {
				break
			}
			if c.From >= at {
				b.WriteString(text[at:c.From] + c.By)
			}
			at = min(c.To, p.to)
		}
		b.WriteString(text[at:p.to])
		lines[p.line].tokens[p.token].text = b.String()
		for len(merged) > 0 && merged[0].To <= p.to {
			merged = merged[1:]
		}
	}
}
