package contents

import (
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"unicode"

	"signalbox.dev/signalbox/internal/stray"
)

const (
	// indentMost is how deep a value is laid out: a body of a thousand brackets would else become gigabytes of blanks. What lies deeper stands on one line.
	indentMost = 24
	// between stands between the texts that are looked through together. No pattern goes over an end of line but that of private keys, which then swallows it.
	between = "\n\x1f\n"
	// shownMost bounds what a text becomes, against what was kept of it.
	shownMost = 8*MostBytes + 64<<10
)

// telling are names of fields whose value is a secret, whatever it looks like.
var telling = regexp.MustCompile(`(?i)(?:^|[_-])(?:authorization|api[_-]?key|access[_-]?key|secret|passw(?:or)?d|passphrase|private[_-]?key|(?:access|refresh|id|auth|bearer)[_-]?token)$`)

// shown is a kept text for a person to read: JSON laid out over lines, with what looks like a secret taken out of each of its strings as they mean it, so that no escape hides one, and out
// of each text that an event stream tells in pieces.
func shown(text string) string {
	if laid, ok := layOut(text, true); ok {
		return laid
	}
	if !strings.Contains(text, "data:") {
		text = unescaped(text)
		if whole := wholeEnd(text); breaksOff(text) && strings.ContainsFunc(text[len(whole):], func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
			return stray.Redact(whole) + lost
		}
		return stray.Redact(text)
	}
	return streamShown(text)
}

// breaksOff reports whether a text begins as JSON does and does not end so.
func breaksOff(text string) bool {
	text = strings.TrimSpace(text)
	return text != "" && strings.ContainsRune("{[", rune(text[0])) && !strings.ContainsRune("}]", rune(text[len(text)-1]))
}

// unescaped takes the escapes out that hide where a word begins and ends, of a text that is no whole JSON.
func unescaped(text string) string {
	return strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\n", `\t`, "\t", `\"`, `"`, `\/`, "/").Replace(text)
}

// token is a part of a JSON text.
type token struct {
	delim  json.Delim
	text   string // of a string, as it means; of anything else as it is written
	string bool
	name   bool // of a field
}

// layOut writes one JSON value over lines, or on one, without what looks like a secret.
func layOut(text string, lines bool) (string, bool) {
	tokens, ok := tokensOf(text)
	if !ok {
		return "", false
	}
	redactAll(tokens)
	return lay(tokens, lines)
}

// lay writes a value whose tokens those are; false is what would be too long.
func lay(tokens []token, lines bool) (string, bool) {
	var b strings.Builder
	depth, fresh, after := 0, true, false // fresh: nothing stands in this object or array yet; after: a name came before
	newline := func() {
		if lines && depth <= indentMost {
			b.WriteString("\n" + strings.Repeat("  ", depth))
		}
	}
	for _, t := range tokens {
		closes := t.delim == '}' || t.delim == ']'
		if closes {
			depth--
			if !fresh {
				newline()
			}
			b.WriteRune(rune(t.delim))
			fresh, after = false, false
			continue
		}
		if !after && depth > 0 {
			if !fresh {
				b.WriteByte(',')
			}
			newline()
		}
		fresh, after = false, t.name
		switch {
		case t.delim != 0:
			b.WriteRune(rune(t.delim))
			depth++
			fresh = true
		case t.string:
			b.WriteString(quoted(t.text))
		default:
			b.WriteString(t.text)
		}
		if t.name {
			b.WriteString(": ")
		}
		if b.Len() > shownMost {
			return "", false
		}
	}
	return b.String(), true
}

// tokensOf reads one JSON value; false is what is none, or more.
func tokensOf(text string) (out []token, ok bool) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var objects []bool // whether each open one is an object
	name := false
	for {
		t, err := d.Token()
		if err == io.EOF {
			return out, len(out) > 0 && len(objects) == 0
		}
		if err != nil || len(out) > 0 && len(objects) == 0 {
			return nil, false
		}
		in := len(objects) > 0 && objects[len(objects)-1]
		switch v := t.(type) {
		case json.Delim:
			out = append(out, token{delim: v})
			switch v {
			case '{', '[':
				objects = append(objects, v == '{')
			default:
				objects = objects[:len(objects)-1]
			}
			name = len(objects) > 0 && objects[len(objects)-1]
			continue
		case string:
			out = append(out, token{text: v, string: true, name: in && name})
		case json.Number:
			out = append(out, token{text: v.String()})
		case bool:
			out = append(out, token{text: map[bool]string{true: "true", false: "false"}[v]})
		default:
			out = append(out, token{text: "null"})
		}
		name = in && !name
	}
}

// redactAll takes what looks like a secret out of the strings: together, because looking for it costs by the call.
func redactAll(tokens []token) {
	var at []int
	var texts []string
	for i := range tokens {
		t := &tokens[i]
		if !t.string {
			continue
		}
		if !t.name && i > 0 && tokens[i-1].name && t.text != "" && telling.MatchString(tokens[i-1].text) {
			t.text = "[redacted]"
			continue
		}
		t.text = strings.ReplaceAll(t.text, "\x1f", "\ufffd")
		at, texts = append(at, i), append(texts, t.text)
	}
	together := strings.Split(stray.Redact(strings.Join(texts, between)), between)
	for n, i := range at {
		if len(together) == len(texts) {
			tokens[i].text = together[n]
		} else { // a private key without an end
			tokens[i].text = stray.Redact(texts[n])
		}
	}
}

// quoted is a JSON string, with what HTML would escape as it is.
func quoted(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil {
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}
