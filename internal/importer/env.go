package importer

import (
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/stray"
	"signalbox.dev/signalbox/internal/vault"
)

// The form of .env files is that of https://github.com/motdotla/dotenv#what-rules-does-the-parsing-engine-follow: NAME=value, also with export
// before it; values bare, in double quotes (with escapes, over several lines), in single quotes or backticks (as they are, over several
// lines); # begins a comment. Variables in values ($NAME) are not expanded: that is another tool's, and the value of a reference is elsewhere.

func looksEnv(f *file) bool {
	name := strings.ToLower(f.name)
	if name == ".env" || strings.HasPrefix(name, ".env.") || strings.HasSuffix(name, ".env") || name == ".envrc" {
		return true
	}
	text, err := f.text()
	if err != nil {
		return false
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		_, _, ok := assignment(line)
		return ok
	}
	return false
}

// assignment takes a line apart; false when it assigns nothing.
func assignment(line string) (name, rest string, ok bool) {
	line = strings.TrimLeft(line, " \t")
	if after, is := strings.CutPrefix(line, "export "); is {
		line = strings.TrimLeft(after, " \t")
	}
	name, rest, ok = strings.Cut(line, "=")
	name = strings.TrimRight(name, " \t")
	if !ok || name == "" {
		return "", "", false
	}
	for i, c := range []byte(name) {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c != '.' && c != '-' && (c < '0' || c > '9')) {
			return "", "", false
		}
	}
	return name, strings.TrimLeft(rest, " \t"), true
}

func parseEnv(f *file, out *items) error {
	text, err := f.text()
	if err != nil {
		return err
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	for n := 1; text != ""; {
		line, rest, _ := strings.Cut(text, "\n")
		trimmed := strings.TrimSpace(line)
		at, used := n, 1
		switch name, value, ok := assignment(line); {
		case trimmed == "" || trimmed[0] == '#':
		case !ok:
			if err := out.add(item{place: "line " + strconv.Itoa(at), skip: "the line assigns nothing to a name"}); err != nil {
				return err
			}
		default:
			if value != "" && strings.IndexByte("\"'`", value[0]) >= 0 {
				// A quoted value may go on over several lines.
				whole := value
				if rest != "" {
					whole += "\n" + rest
				}
				if inner, tail, closed := quoted(whole); closed {
					used += strings.Count(whole[:len(whole)-len(tail)], "\n")
					_, rest, _ = strings.Cut(tail, "\n")
					if err := out.add(variable(at, name, inner)); err != nil {
						return err
					}
					break
				}
			}
			if err := out.add(variable(at, name, bare(value))); err != nil {
				return err
			}
		}
		n += used
		text = rest
	}
	return nil
}

// quoted returns what stands between the quotes with which s begins, and what is behind them; false when nothing closes them.
func quoted(s string) (inner, tail string, closed bool) {
	quote := s[0]
	if quote != '"' {
		end := strings.IndexByte(s[1:], quote)
		if end < 0 {
			return "", "", false
		}
		return s[1 : 1+end], s[2+end:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\\' && i+1 < len(s):
			i++
			switch s[i] {
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			case '"', '\\', '$':
				b.WriteByte(s[i])
			default:
				b.WriteByte('\\')
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

// bare returns a value without quotes, up to a comment.
func bare(s string) string {
	if i := strings.IndexByte(s, '#'); i == 0 || i > 0 && (s[i-1] == ' ' || s[i-1] == '\t') {
		s = s[:i]
	} else if i = strings.Index(s, " #"); i >= 0 {
		s = s[:i]
	}
	return strings.TrimSpace(s)
}

// variable is one variable: a credential if its value looks like one.
func variable(line int, name, value string) item {
	i := item{place: "line " + strconv.Itoa(line)}
	found, secretValue, ok := stray.Judge(name, secret.FromString(value))
	shown := found.Name
	if shown == "" {
		shown = "variable of line " + strconv.Itoa(line)
	} else {
		i.place += " (" + shown + ")"
	}
	switch {
	case value == "":
		i.skip = "the value is empty"
	case !ok:
		i.skip = "the value does not look like a credential; store it with signalbox cred add if it is one"
	case found.Type == "":
		i.skip = "the value is " + found.Kind + ", which is nothing to keep here"
	case found.Field == "refresh_token":
		i.skip = "a refresh token by itself cannot be used; import the file that holds the access token too"
	default:
		i.credential = &vault.Draft{
			Type: vault.Type(found.Type), Meta: vault.Meta{Name: shown, Provider: found.Provider, Description: "imported from a .env file"},
			Secrets: map[string]secret.Value{found.Field: secretValue},
		}
	}
	return i
}
