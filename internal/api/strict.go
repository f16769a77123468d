package api

import (
	"errors"
	"strings"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/strict"
)

// errMalformed says why a body is no JSON that two readers would read alike: its text is for the client and quotes nothing.
type errMalformed string

func (e errMalformed) Error() string { return string(e) }

// parse reads one JSON text strictly. It returns objects as map[string]any, lists as []any, numbers as json.Number.
func parse(body []byte) (any, error) {
	v, err := strict.Parse(body)
	var why *strict.Error
	if errors.As(err, &why) {
		return nil, errMalformed("The body " + why.Error() + ".")
	}
	return v, err
}

// plainText reports whether s can be stored as text by both databases: UTF-8 without NUL.
func plainText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }
