package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// writeJSON writes v, indented, for people and programs alike.
func (s *shell) writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// show writes v as JSON when that is asked for, and otherwise calls text.
func (s *shell) show(v any, text func()) error {
	if s.json {
		return s.writeJSON(s.out, v)
	}
	text()
	return nil
}

// table writes rows under a head, in columns. Colours go to a terminal only; the words are the same everywhere.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

const (
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	plain  = "\x1b[0m"
)

// print writes the table, or the sentence when it has no rows.
func (s *shell) print(t table, empty string) {
	if len(t.rows) == 0 {
		s.note("%s", empty)
		return
	}
	lines := append([][]string{t.head}, t.rows...)
	width := make([]int, len(t.head))
	for _, line := range lines {
		for i := range line {
			line[i] = strings.ReplaceAll(strings.ReplaceAll(printable(line[i]), "\n", " "), "\t", " ")
			width[i] = max(width[i], utf8.RuneCountInString(line[i]))
		}
	}
	colours := s.colour(s.out)
	var b strings.Builder
	for n, line := range lines {
		for i, cell := range line {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i == len(line)-1 {
				pad = ""
			} else {
				pad += "  "
			}
			style := cellColour(cell)
			if n == 0 {
				style = bold
			}
			if colours && style != "" {
				cell = style + cell + plain
			}
			b.WriteString(cell + pad)
		}
		b.WriteByte('\n')
	}
	fmt.Fprint(s.out, b.String())
}

// cellColour picks a colour for the words of statuses; the word itself says the same.
func cellColour(cell string) string {
	switch cell {
	case "active", "healthy", "ok", "usable":
		return green
	case "expiring", "cooling", "pending", "unknown", "disabled", "warning", "advice":
		return yellow
	case "expired", "revoked", "compromised", "needs_login", "refused", "failed", "broken":
		return red
	}
	return ""
}

// facts writes one thing as aligned lines; facts without a value are left out.
func (s *shell) facts(pairs ...string) {
	width := 0
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			width = max(width, utf8.RuneCountInString(pairs[i]))
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			continue
		}
		pad := strings.Repeat(" ", width-utf8.RuneCountInString(pairs[i]))
		s.say("%s%s  %s", pairs[i], pad, strings.ReplaceAll(pairs[i+1], "\n", "\n"+strings.Repeat(" ", width+2)))
	}
}

// moment writes a time for people, in UTC as everywhere in Signalbox.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func momentOf(t *time.Time) string {
	if t == nil {
		return ""
	}
	return moment(*t)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}
