package ui

import (
	"strconv"
	"strings"

	"github.com/a-h/templ"
)

func whole(n int) string { return strconv.Itoa(n) }

func identified(id string) templ.OrderedAttributes { return attribute("id", id) }

func sorted(c Column) templ.OrderedAttributes { return attribute("aria-sort", c.Sorted) }

// cell says what a cell belongs to: in a narrow window a row stands as a list of terms, and each cell shows its column's label itself. Roles are said
// outright, because a table that is laid out otherwise loses its own in some browsers.
func (t Table) cell(i int) (a templ.OrderedAttributes) {
	if i >= len(t.Columns) {
		return nil
	}
	c := t.Columns[i]
	switch {
	case c.Unseen:
		return attribute("class", "acts")
	case c.Number:
		a = attribute("class", "number")
	}
	return append(a, attribute("data-label", c.Label)...)
}

// live names what makes a part of a page stale. It is read again from the page's own address.
func live(topics, id string) templ.OrderedAttributes {
	if topics == "" || id == "" {
		return nil
	}
	return attribute("data-live", topics)
}

func attribute(name, value string) templ.OrderedAttributes {
	if value == "" {
		return nil
	}
	return templ.OrderedAttributes{{Key: name, Value: value}}
}

func most(points []Point) (m int64) {
	for _, p := range points {
		m = max(m, p.Value)
	}
	return m
}

// high is how high a bar is; what is not nothing is seen.
func high(p Point, points []Point, all int64) int {
	if p.Value <= 0 {
		return 0
	}
	return int(max(2, p.Value*all/most(points)))
}

func line(points []Point) string {
	var b strings.Builder
	for i, p := range points {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.Itoa(i*10) + "," + strconv.Itoa(29-high(p, points, 28)))
	}
	return b.String()
}

// summary is a chart in a sentence.
func summary(r Reader, title, unit string, points []Point) string {
	var all int64
	for _, p := range points {
		all += p.Value
	}
	if len(points) == 0 {
		return title + ": nothing"
	}
	return title + ": " + r.Number(all) + " " + unit + " in all, at most " + r.Number(most(points)) + " at once; the table below has each"
}

func share(used, limit int64) int64 {
	if limit <= 0 || used <= 0 {
		return 0
	}
	return min(100, max(1, used*100/limit))
}

func usageTone(used, limit int64) Tone {
	switch s := share(used, limit); {
	case s >= 100:
		return Bad
	case s >= 80:
		return Warn
	}
	return Good
}
