package main

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/connect"
)

// byteOrderMark is what some editors put before the first line.
const byteOrderMark = "\ufeff"

// dotenvLine is a line that sets a variable, as shells and the libraries that load such files read it: perhaps exported, its name, what it is set to.
var dotenvLine = regexp.MustCompile(`^\s*(export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)(?:\s*=|:\s)(.*)$`)

// dotenvSet is a place in a .env file that sets a variable: the lines from first to last, more than one where a quoted value goes on.
type dotenvSet struct {
	name, value string
	export      bool
	first, last int
	// comment is what stands after the value, with the space before it.
	comment string
}

// dotenvSets finds what such a file sets. Lines within a quoted value set nothing.
func dotenvSets(lines []string) []dotenvSet {
	var out []dotenvSet
	for i := 0; i < len(lines); i++ {
		found := dotenvLine.FindStringSubmatch(dotenvBody(lines[i]))
		if found == nil {
			continue
		}
		set := dotenvSet{name: found[2], export: found[1] != "", first: i}
		set.value, set.comment, set.last = dotenvValue(lines, i, found[3])
		out = append(out, set)
		i = set.last
	}
	return out
}

// dotenvBody is a line without its ending.
func dotenvBody(line string) string { return strings.TrimRight(line, "\r\n") }

// dotenvValue reads a value that begins with rest in a line: what it is, the comment after it, and in which line it ends.
func dotenvValue(lines []string, at int, rest string) (value, comment string, last int) {
	text := strings.TrimLeft(rest, " \t")
	if text != "" && strings.ContainsRune("\"'`", rune(text[0])) {
		quote, text := text[0], text[1:]
		var before []string // what it has in the lines before this one
		for last := at; ; {
			if end := closing(text, quote); end >= 0 {
				if after := text[end+1:]; strings.TrimSpace(after) == "" || dotenvComment(after) == 0 {
					return strings.Join(append(before, text[:end]), "\n"), strings.TrimRight(after, " \t"), last
				}
				break // it goes on after its quotes
			}
			if last++; last == len(lines) {
				break // it never ends, so that it is what its line says
			}
			before, text = append(before, text), dotenvBody(lines[last])
		}
	}
	if i := dotenvComment(rest); i >= 0 {
		rest, comment = rest[:i], rest[i:]
	}
	return strings.Trim(strings.TrimSpace(rest), "\"'`"), comment, at
}

// closing finds the end of a quoted text, -1 for none. Only double quotes have escapes, as in a shell.
func closing(text string, quote byte) int {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote == '"':
			i++
		case text[i] == quote:
			return i
		}
	}
	return -1
}

// dotenvComment finds the space before a comment at the end of a line, -1 for none.
func dotenvComment(text string) int {
	found := trailingComment.FindStringIndex(text)
	if found == nil {
		return -1
	}
	return found[0]
}

var trailingComment = regexp.MustCompile(`[ \t]+#`)

// mergeDotenv sets variables in a .env file and leaves the other lines as they are, with their endings.
func mergeDotenv(old []byte, vars []connect.Variable) ([]byte, error) {
	text, marked := strings.CutPrefix(string(old), byteOrderMark)
	if strings.ContainsRune(text, 0) {
		return nil, errors.New("the file is no text")
	}
	lines, ending := slices.Collect(strings.Lines(text)), "\n"
	if len(lines) > 0 && strings.HasSuffix(lines[0], "\r\n") {
		ending = "\r\n"
	}
	if n := len(lines); n > 0 && !strings.HasSuffix(lines[n-1], "\n") {
		lines[n-1] += ending
	}
	sets := dotenvSets(lines)
	for _, v := range vars {
		placed := false
		for _, set := range sets {
			if set.name != v.Name {
				continue
			}
			placed = true
			line := v.Name + "=" + v.Value + set.comment + lines[set.last][len(dotenvBody(lines[set.last])):]
			if set.export {
				line = "export " + line
			}
			lines[set.first] = line
			for i := set.first + 1; i <= set.last; i++ {
				lines[i] = ""
			}
		}
		if !placed {
			lines = append(lines, v.Name+"="+v.Value+ending)
		}
	}
	out := strings.Join(lines, "")
	if marked {
		out = byteOrderMark + out
	}
	return []byte(out), nil
}

// dotenvSettings reads a variable from a .env file.
func dotenvSettings(old []byte, name string) []setting {
	var out []setting
	for _, set := range dotenvSets(slices.Collect(strings.Lines(strings.TrimPrefix(string(old), byteOrderMark)))) {
		if set.name == name {
			out = append(out, setting{set.value, "line " + strconv.Itoa(set.first+1)})
		}
	}
	return out
}
