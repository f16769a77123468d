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
	cuts := Cuts(text)
	if len(cuts) == 0 {
		return text
	}
	var b strings.Builder
	last := 0
	for _, c := range cuts {
		b.WriteString(text[last:c.From] + c.By)
		last = c.To
	}
	b.WriteString(text[last:])
	return b.String()
}
