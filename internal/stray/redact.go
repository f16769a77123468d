package stray

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// The forms that [Redact] takes out besides the kinds.
var (
	anyClientKey = regexp.MustCompile(`\bsbx_live_\w+`)
	privateKey   = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)`)
	// inText are values of telling names wherever they stand: password=…, "token": "…", Authorization: Bearer ….
	inText  = regexp.MustCompile(`(?i)\b(?:[a-z0-9]+[_-])*(?:authorization|api[_-]?key|access[_-]?key|token|secret|passw(?:or)?d|passphrase|credentials?)["'` + "`" + `]?\s*[:=]\s*["'` + "`" + `]?(?:(?:bearer|basic|token)\s+)?([^\s"'` + "`" + `,;]{6,})`)
	aBearer = regexp.MustCompile(`(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/=-]{16,})`)
)

// Redact returns a text with what looks like a credential replaced by what it looks like. It takes out rather too much than too little, and is a guess all the same.
func Redact(text string) string {
	text = privateKey.ReplaceAllString(text, "[redacted: a private key]")
	text = anyClientKey.ReplaceAllString(text, "[redacted: a client key]")
	for _, k := range kinds[1:] {
		text = k.find.ReplaceAllString(text, "[redacted: "+k.name+"]")
	}
	for _, find := range []*regexp.Regexp{inText, aBearer} {
		text = group(find, text, "[redacted]")
	}
	// All at once: a value may be a word of what stands for another, and one after the other the text would grow without bound.
	by := map[string]string{}
	for _, v := range lineValues(text) {
		if k, ok := classify(v.name, v.text); ok && k.find == nil && v.text != "" {
			by[v.text] = "[redacted: " + k.name + "]"
		}
	}
	if len(by) == 0 {
		return text
	}
	pairs := make([]string, 0, 2*len(by))
	for _, value := range slices.SortedFunc(maps.Keys(by), func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) }) {
		pairs = append(pairs, value, by[value])
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// group replaces the first group of each match that is not replaced already.
func group(find *regexp.Regexp, text, by string) string {
	var b strings.Builder
	last := 0
	for _, at := range find.FindAllStringSubmatchIndex(text, -1) {
		if strings.HasPrefix(text[at[2]:], "[redacted") {
			continue
		}
		b.WriteString(text[last:at[2]] + by)
		last = at[3]
	}
	b.WriteString(text[last:])
	return b.String()
}
