package stray

import (
	"regexp"
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
	for _, v := range lineValues(text) {
		if k, ok := classify(v.name, v.text); ok && k.find == nil {
			text = strings.ReplaceAll(text, v.text, "[redacted: "+k.name+"]")
		}
	}
	return text
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
