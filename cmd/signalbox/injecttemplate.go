package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// referenceScheme begins a reference: {{ signalbox://NAME/FIELD | FORM }}.
const referenceScheme = "signalbox://"

var referenceStart = regexp.MustCompile(`\{\{[ \t]*` + referenceScheme)

// part is a piece of a template: text, or a reference.
type part struct {
	text        string // as it is, where name is ""
	name, field string
	form        string
	line        int
	value       string // where open, what stands there
	open        bool   // it is no secret
}

func (p part) isReference() bool { return p.name != "" }

// errNUL tells nothing of the value.
var errNUL = errors.New("it has a NUL in it, which no word of a shell can have")

// quote writes a value in the form that the reference asks for: as it is, unless it says otherwise.
func (p part) quote(value string) (string, error) {
	switch p.form {
	case "json":
		text, err := jsonText(value)
		return string(text), err
	case "sh":
		if strings.ContainsRune(value, 0) {
			return "", errNUL
		}
		return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'", nil
	case "base64":
		return base64.StdEncoding.EncodeToString([]byte(value)), nil
	}
	return value, nil
}

// parseTemplate takes a template apart. What looks like a reference and is none is refused, all of it at once: it would stand in the file as it is, and whoever reads that
// would take it for the secret.
func parseTemplate(text string) ([]part, error) {
	var out []part
	var wrong []string
	line := 1
	refuse := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...))
	}
	plain := func(text string) {
		if text == "" {
			return
		}
		out = append(out, part{text: text})
		for range strings.Count(text, referenceScheme) {
			refuse("%s stands outside of a reference; write {{ %sNAME/FIELD }}", referenceScheme, referenceScheme)
		}
		line += strings.Count(text, "\n")
	}
	for {
		at := referenceStart.FindStringIndex(text)
		if at == nil {
			break
		}
		plain(text[:at[0]])
		text = text[at[1]:]
		end := strings.Index(text, "}}")
		if stop := strings.IndexByte(text, '\n'); end < 0 || stop >= 0 && stop < end {
			refuse("the reference does not end with }} in its line")
			continue
		}
		p, why := parseReference(text[:end])
		if why != "" {
			refuse("%s", why)
		}
		p.line = line
		out = append(out, p)
		text = text[end+len("}}"):]
	}
	plain(text)
	if len(wrong) > 0 {
		return nil, usage("the template cannot be filled in; nothing was revealed, and nothing written:\n  %s", strings.Join(wrong, "\n  "))
	}
	return out, nil
}

// parseReference reads what stands between signalbox:// and the braces.
func parseReference(text string) (p part, why string) {
	target, form, formed := strings.Cut(text, "|")
	name, field, _ := strings.Cut(strings.TrimSpace(target), "/")
	p.form = strings.TrimSpace(form)
	var err error
	if p.name, err = url.PathUnescape(name); err != nil || p.name == "" || strings.ContainsAny(p.name, "\n\r") {
		return p, "a reference names a credential after " + referenceScheme + "; of its name / | } and % are written as %2F, %7C, %7D and %25"
	}
	p.field = field
	switch {
	case strings.ContainsRune(field, '/'):
		return p, "a reference is " + referenceScheme + "NAME/FIELD; a / in the name is written as %2F"
	case formed && p.form != "json" && p.form != "sh" && p.form != "base64":
		return p, "what stands after | must be json, sh or base64"
	}
	return p, ""
}
