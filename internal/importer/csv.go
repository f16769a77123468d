package importer

import (
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
)

// The CSV export of 1Password 8 has a line of names and the columns Title, Url, Username, Password, OTPAuth, Favorite, Archived, Tags and Notes
// (https://support.1password.com/export/); earlier ones call the address Website.

// csvColumns are what a column may be called, in lower case.
func csvColumns() map[string]string {
	return map[string]string{
		"title": "title", "name": "title", "url": "url", "urls": "url", "website": "url", "login uri": "url", "username": "username", "password": "password",
		"otpauth": "otpauth", "one-time password": "otpauth", "favorite": "favorite", "favorite status": "favorite", "archived": "archived", "archived status": "archived",
		"tags": "tags", "notes": "notes", "notesplain": "notes",
	}
}

func looks1PasswordCSV(f *file) bool {
	text, err := f.text()
	if err != nil {
		return false
	}
	line, _, _ := strings.Cut(text, "\n")
	record, err := csv.NewReader(strings.NewReader(line + "\n")).Read()
	if err != nil {
		return false
	}
	columns, err := columnsOf(record)
	return err == nil && slices.Contains(columns, "title")
}

// columnsOf returns what each column is, "" for one that is not known.
func columnsOf(record []string) ([]string, error) {
	known, out := csvColumns(), make([]string, len(record))
	for i, name := range record {
		what := known[strings.ToLower(strings.TrimSpace(name))]
		if what != "" && slices.Contains(out, what) {
			return nil, bad("has a column twice")
		}
		out[i] = what
	}
	if !slices.Contains(out, "title") || !slices.Contains(out, "password") {
		return nil, bad("has no line of names with Title and Password at its beginning")
	}
	return out, nil
}

func parse1PasswordCSV(f *file, out *items) error {
	text, err := f.text()
	if err != nil {
		return err
	}
	r := csv.NewReader(strings.NewReader(text))
	record, err := r.Read()
	if err != nil {
		return notCSV(err)
	}
	columns, err := columnsOf(record)
	if err != nil {
		return err
	}
	r.ReuseRecord = true
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return notCSV(err)
		}
		line, _ := r.FieldPos(0)
		b := builder{place: "line " + strconv.Itoa(line)}
		for i, value := range record {
			value = strings.Clone(value) // or it would keep the whole line
			switch columns[i] {
			case "title":
				b.name = value
			case "url":
				for _, u := range strings.FieldsFunc(value, func(c rune) bool { return c == '\n' || c == '\r' }) {
					b.address(u)
				}
			case "username":
				b.username = value
			case "password":
				b.password = value
			case "otpauth":
				b.totp = value
			case "archived":
				if strings.EqualFold(value, "true") || value == "1" {
					b.tags = appendTag(b.tags, "archived")
				}
			case "tags":
				for t := range strings.FieldsFuncSeq(value, func(c rune) bool { return c == ';' || c == ',' }) {
					b.tags = appendTag(b.tags, t)
				}
			case "notes":
				b.notes = value
			case "":
				b.field("column "+strconv.Itoa(i+1), value)
			}
		}
		if b.password == "" && b.totp == "" && b.notes != "" {
			b.note()
		}
		if err := b.build(out); err != nil {
			return err
		}
	}
}

// notCSV says where a file stops being CSV. The reader's own text quotes nothing, but it is not ours.
func notCSV(err error) error {
	var p *csv.ParseError
	if errors.As(err, &p) {
		return bad("is not CSV that can be read: line " + strconv.Itoa(p.Line) + " has quotes in a wrong place, or another number of columns than the first")
	}
	return bad("is empty")
}
