// Package ui is what the pages of the dashboard are made of: the shell, forms, tables, dialogs, states and small charts, as templ components.
//
// Promise: what a component shows is escaped; none has an inline script, style or event handler; each works without JavaScript, which only makes it
// quicker (a link that opens a dialog is the link to the same page, a filter is a form); status is told by words and a shape, never by colour alone.
//
// Limits: components know no room, no caller and no rule: a page asks the rooms what may be done and hands over what is to be shown.
//
// Invariants: every field has a label, every table a caption; a message about a field is tied to it (aria-describedby).
package ui

import (
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Reader is whom a page is for: what they read numbers and dates like, and when they look.
type Reader struct {
	Now     time.Time
	tags    string // the language they like best, in lower case: "de", "en-us"
	printer *message.Printer
}

// longestTag bounds what is read of an Accept-Language header; RFC 5646 wants room for 35 characters.
const longestTag = 35

// NewReader reads an Accept-Language header. Only its first language counts: the pages are in English, and this is for grouping and order. Digits stay
// those of the text around them, whatever the language has.
func NewReader(acceptLanguage string, now time.Time) Reader {
	first, _, _ := strings.Cut(acceptLanguage, ",")
	first, _, _ = strings.Cut(first, ";")
	r := Reader{Now: now, tags: strings.ToLower(strings.TrimSpace(first))}
	if len(r.tags) > longestTag {
		r.tags = ""
	}
	asked := r.tags
	if r.language() == "no" { // browsers say so in Norway, where nearly all write nb
		asked = "nb"
	}
	tag, err := language.Parse(asked) // its zero value, of what is no language, is nobody's in particular
	if err == nil {
		tag, err = tag.SetTypeForKey("nu", "latn")
	}
	if err != nil {
		tag = language.English
	}
	r.printer = message.NewPrinter(tag)
	return r
}

func (r Reader) language() string {
	base, _, _ := strings.Cut(r.tags, "-")
	return base
}

// Number is n with its digits in groups, as the reader's language has them.
func (r Reader) Number(n int64) string {
	if r.printer == nil {
		return strconv.FormatInt(n, 10)
	}
	return r.printer.Sprintf("%d", n)
}

// Clock is a time as a whole, in UTC, with the parts of the date in the reader's order. The months are English words, as everything else is, so that no
// order can be misread; golang.org/x/text knows none for dates.
func (r Reader) Clock(t time.Time) string {
	layout := "2 Jan 2006, 15:04 UTC"
	switch {
	case r.tags == "en-us":
		layout = "Jan 2, 2006, 3:04 PM UTC"
	case r.tags == "" || r.tags == "en-ca":
		layout = "2006-01-02 15:04 UTC"
	case strings.Contains(" sv lt hu zh ja ko ", " "+r.language()+" "):
		layout = "2006-01-02 15:04 UTC"
	}
	return t.UTC().Format(layout)
}

// Ago is how far a time is from now, in one unit: "3 hours ago", "in 2 days".
func (r Reader) Ago(t time.Time) string {
	d := r.Now.Sub(t)
	ahead := d < 0
	if ahead {
		d = -d
	}
	text := ""
	switch {
	case d < 45*time.Second && !ahead, d < 2*time.Second: // the database's clock may be a moment ahead
		return "just now"
	case d < time.Minute:
		text = "less than a minute"
	case d < time.Hour:
		text = plural(int(d.Minutes()), "minute")
	case d < 48*time.Hour:
		text = plural(int(d.Hours()), "hour")
	case d < 60*24*time.Hour:
		text = plural(int(d.Hours()/24), "day")
	case d < 2*365*24*time.Hour:
		text = plural(int(d.Hours()/24/30), "month")
	default:
		text = plural(int(d.Hours()/24/365), "year")
	}
	if ahead {
		return "in " + text
	}
	return text + " ago"
}

func plural(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return strconv.Itoa(n) + " " + unit + "s"
}

// Count is a number with its noun: "1 key", "12 keys".
func (r Reader) Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return r.Number(int64(n)) + " " + noun + "s"
}

// Text is a cell or another place that holds only a text.
func Text(s string) templ.Component { return text(s) }
