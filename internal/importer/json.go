package importer

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

// notJSON is what is said of JSON that is none, or not of its format. The decoder's own text quotes.
func notJSON(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return bad("is not JSON; reading stopped at byte " + strconv.FormatInt(syntax.Offset, 10))
	case errors.As(err, &kind):
		return bad("is not JSON of this format; a value before byte " + strconv.FormatInt(kind.Offset, 10) + " is of another type")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return bad("is JSON that breaks off")
	}
	return bad("is not JSON of this format")
}

// decodeJSON reads the whole file as one JSON text.
func (f *file) decodeJSON(into any) error {
	text, err := f.text()
	if err != nil {
		return err
	}
	dec := json.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(into); err != nil {
		return notJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return bad("goes on after its JSON text")
	}
	return nil
}

// is tells whether a key is there, and keeps nothing of its value.
type is bool

// UnmarshalJSON notes that there is a value.
func (p *is) UnmarshalJSON(b []byte) error {
	*p = is(!bytes.Equal(b, []byte("null")))
	return nil
}

// marks are the keys by which JSON formats are told apart.
type marks struct {
	Claude    is `json:"claudeAiOauth"`
	Type      is `json:"type"`
	OAuth     is `json:"oauth"`
	APIKey    is `json:"api_key"`
	Keys      is `json:"keys"`
	Clients   is `json:"client_api_keys"`
	Items     is `json:"items"`
	Encrypted is `json:"encrypted"`
	EncKey    is `json:"encKeyValidation_DO_NOT_EDIT"`
}

// peek returns the marks of a file that looks like a JSON object.
func (f *file) peek() (m marks, object bool) {
	text, err := f.text()
	if err != nil || !strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") {
		return m, false
	}
	return m, json.NewDecoder(strings.NewReader(text)).Decode(&m) == nil
}

// texts is a list of texts, or one text with spaces between them.
type texts []string

// UnmarshalJSON takes either.
func (t *texts) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = strings.Fields(one)
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// instant is a time: milliseconds since 1970, as programs in JavaScript write it, or RFC 3339.
type instant struct{ at *time.Time }

// UnmarshalJSON takes either, and null.
func (i *instant) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) || bytes.Equal(b, []byte("0")) || bytes.Equal(b, []byte(`""`)) {
		return nil
	}
	var text string
	if json.Unmarshal(b, &text) == nil {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return errors.New("no time")
		}
		i.at = &at
		return nil
	}
	var ms float64
	if err := json.Unmarshal(b, &ms); err != nil {
		return err
	}
	if ms < 0 || ms > 253402300799999 { // the year 9999
		return errors.New("no time")
	}
	at := time.UnixMilli(int64(ms)).UTC()
	i.at = &at
	return nil
}
