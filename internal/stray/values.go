package stray

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// value is one piece of text in a file, with its name and line.
type value struct {
	name, text string
	line       int
}

// values takes a text apart: as JSON when it is that, and otherwise by lines.
func values(text string) []value {
	if t := strings.TrimSpace(text); strings.HasPrefix(t, "{") || strings.HasPrefix(t, "[") {
		if out, ok := jsonValues(text); ok {
			return out
		}
	}
	return lineValues(text)
}

const (
	// maxDepth bounds how deep JSON may nest, maxName how long the path to a value may be, maxLines the lines
	// of a private key, and maxValue how much of a value or line is looked at.
	maxDepth = 64
	maxName  = 200
	maxLines = 200
	maxValue = 64 << 10
)

// jsonValues returns the strings of a JSON text; their names are the paths of keys, joined by dots.
func jsonValues(text string) ([]value, bool) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	type level struct {
		object bool
		key    string
		expect bool // a key comes next
	}
	var out []value
	var at []level
	line, counted := 1, 0
	for {
		token, err := dec.Token()
		if err != nil {
			return out, len(at) == 0 && len(out) > 0
		}
		if end := int(dec.InputOffset()); end > counted {
			line += strings.Count(text[counted:end], "\n")
			counted = end
		}
		top := len(at) - 1
		if d, ok := token.(json.Delim); ok {
			switch d {
			case '{', '[':
				if len(at) == maxDepth {
					return nil, false
				}
				at = append(at, level{object: d == '{', expect: d == '{'})
			default:
				at = at[:top]
				if top > 0 && at[top-1].object {
					at[top-1].expect = true
				}
			}
			continue
		}
		if top >= 0 && at[top].object && at[top].expect {
			at[top].key, _ = token.(string)
			at[top].expect = false
			continue
		}
		if top >= 0 && at[top].object {
			at[top].expect = true
		}
		if s, ok := token.(string); ok {
			var keys []string
			long := 0
			for _, l := range at {
				if l.object {
					keys = append(keys, l.key)
					long += len(l.key)
				}
			}
			if long > maxName { // the last key tells what it is; joining long ones for every value would take for ever
				keys = keys[len(keys)-1:]
				if len(keys[0]) > maxName {
					keys[0] = ""
				}
			}
			out = append(out, value{name: strings.Join(keys, "."), text: head(s), line: line})
		}
	}
}

var assignment = regexp.MustCompile(`^\s*(?:export\s+|set\s+)?["']?([A-Za-z_/][A-Za-z0-9_./:@-]*?)["']?\s*(?:=|:\s)\s*(.*?)\s*$`)

// lineValues returns what lines assign, and whole lines that assign nothing. A private key of several lines is one value, at its first.
func lineValues(text string) []value {
	var out []value
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		l := strings.TrimRight(head(lines[i]), "\r")
		v := value{text: strings.TrimSpace(l), line: i + 1}
		if m := assignment.FindStringSubmatch(l); m != nil {
			v.name, v.text = m[1], unquote(m[2])
		}
		if strings.Contains(v.text, "-----BEGIN ") && !strings.Contains(v.text, "-----END ") {
			rest := lines[i+1 : min(i+1+maxLines, len(lines))]
			if end := slices.IndexFunc(rest, func(l string) bool { return strings.Contains(l, "-----END ") }); end >= 0 {
				v.text += "\n" + strings.ReplaceAll(strings.Join(rest[:end+1], "\n"), "\r", "")
				i += end + 1
			}
			v.text = strings.Trim(v.text, "\"'\n") + "\n"
		}
		if v.text != "" {
			out = append(out, v)
		}
	}
	return out
}

func head(s string) string { return s[:min(len(s), maxValue)] }

// unquote takes the quotes off, or the comment behind a value without quotes.
func unquote(s string) string {
	if len(s) > 1 && (s[0] == '"' || s[0] == '\'') {
		if end := strings.IndexByte(s[1:], s[0]); end >= 0 {
			return s[1 : 1+end]
		}
		return s[1:]
	}
	if at := strings.Index(s, " #"); at >= 0 {
		s = strings.TrimRight(s[:at], " \t")
	}
	return s
}
