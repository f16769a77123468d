package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/fault"
)

// Actor is who did something, as plain strings: a record must not depend on rows that may go.
type Actor struct {
	Kind string `json:"kind"` // person, token, client_key, service, system, anonymous
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

// Target is what something was done to.
type Target struct {
	Kind string `json:"kind"`
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

// Outcomes of an event.
const (
	OutcomeOK      = "ok"
	OutcomeRefused = "refused"
	OutcomeFailed  = "failed"
	OutcomePending = "pending" // an intent: its outcome is another event, and unknown until that comes
)

// Event is one audit record. Its JSON encoding, byte for byte, is a leaf of the log.
type Event struct {
	ID        string    `json:"id"`
	At        time.Time `json:"at"`
	Actor     Actor     `json:"actor"`
	OnBehalf  string    `json:"on_behalf_of,omitempty"` // id of the train or person that the actor acts for
	Action    Action    `json:"action"`
	Target    Target    `json:"target"`
	Outcome   string    `json:"outcome"`
	Reason    string    `json:"reason,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	IP        string    `json:"ip,omitempty"`
	UserAgent string    `json:"user_agent,omitempty"`
	Fields    []string  `json:"fields,omitempty"` // names of changed fields, never their values
	Details   Details   `json:"details,omitempty"`
}

// Detail is one typed fact of an event. Only strings, integers, booleans and lists of strings exist, so no object (and no secret.Value)
// can slip in. Make it with [Str], [Int], [Bool] or [Strs].
type Detail struct {
	Key  string
	kind byte
	str  string
	num  int64
	list []string
}

// Str is a text detail.
func Str(key, value string) Detail { return Detail{Key: key, kind: 's', str: value} }

// Int is an integer detail; the key should name the unit.
func Int(key string, value int64) Detail { return Detail{Key: key, kind: 'i', num: value} }

// Bool is a boolean detail.
func Bool(key string, value bool) Detail {
	d := Detail{Key: key, kind: 'b'}
	if value {
		d.num = 1
	}
	return d
}

// Strs is a list detail.
func Strs(key string, values []string) Detail { return Detail{Key: key, kind: 'l', list: values} }

// Each returns the detail with its text, or every text of its list, as fn returns it; a list is without those for which fn returns false.
func (d Detail) Each(fn func(text string) (string, bool)) Detail {
	switch d.kind {
	case 's':
		d.str, _ = fn(d.str)
	case 'l':
		list := make([]string, 0, len(d.list))
		for _, text := range d.list {
			if text, ok := fn(text); ok {
				list = append(list, text)
			}
		}
		d.list = list
	}
	return d
}

// Text returns the detail's value as text.
func (d Detail) Text() string {
	switch d.kind {
	case 's':
		return d.str
	case 'i':
		return strconv.FormatInt(d.num, 10)
	case 'b':
		return strconv.FormatBool(d.num == 1)
	}
	return fmt.Sprint(d.list)
}

// Details are facts in the order in which they were given.
type Details []Detail

// Get returns the detail with that key.
func (ds Details) Get(key string) (Detail, bool) {
	for _, d := range ds {
		if d.Key == key {
			return d, true
		}
	}
	return Detail{}, false
}

// MarshalJSON writes an object in the given order.
func (ds Details) MarshalJSON() ([]byte, error) { return ds.appendJSON(nil), nil }

// UnmarshalJSON reads what MarshalJSON wrote, keeping the order.
func (ds *Details) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("store: details are no object")
	}
	*ds = nil
	for dec.More() {
		k, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := k.(string)
		var v any
		if err := dec.Decode(&v); err != nil {
			return err
		}
		switch v := v.(type) {
		case string:
			*ds = append(*ds, Str(key, v))
		case bool:
			*ds = append(*ds, Bool(key, v))
		case json.Number:
			n, err := v.Int64()
			if err != nil {
				return errors.New("store: a detail is no integer")
			}
			*ds = append(*ds, Int(key, n))
		case []any:
			list := make([]string, len(v))
			for i, e := range v {
				list[i], _ = e.(string)
			}
			*ds = append(*ds, Strs(key, list))
		default:
			return errors.New("store: a detail of an unknown kind")
		}
	}
	return nil
}

func (ds Details) appendJSON(b []byte) []byte {
	b = append(b, '{')
	for i, d := range ds {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, d.Key)
		b = append(b, ':')
		switch d.kind {
		case 's':
			b = appendString(b, d.str)
		case 'i':
			b = strconv.AppendInt(b, d.num, 10)
		case 'b':
			b = strconv.AppendBool(b, d.num == 1)
		default:
			b = appendStrings(b, d.list)
		}
	}
	return append(b, '}')
}

// TimeFormat is RFC 3339 in UTC with exactly six digits: the form of every time in a record and on the wire.
const TimeFormat = "2006-01-02T15:04:05.000000Z"

// appendTail appends the event's JSON without the opening brace and the id, which the group commit knows only when the batch is formed.
// The order of the keys is part of the format: leaves are compared as bytes. It is written by hand because one is made for each request.
func (e *Event) appendTail(b []byte) []byte {
	b = append(b, `"at":"`...)
	b = e.At.UTC().AppendFormat(b, TimeFormat)
	b = append(b, `","actor":`...)
	b = appendRef(b, e.Actor.Kind, e.Actor.ID, e.Actor.Name)
	b = appendField(b, "on_behalf_of", e.OnBehalf)
	b = append(b, `,"action":`...)
	b = appendString(b, string(e.Action))
	b = append(b, `,"target":`...)
	b = appendRef(b, e.Target.Kind, e.Target.ID, e.Target.Name)
	b = append(b, `,"outcome":`...)
	b = appendString(b, e.Outcome)
	b = appendField(b, "reason", e.Reason)
	b = appendField(b, "request_id", e.RequestID)
	b = appendField(b, "ip", e.IP)
	b = appendField(b, "user_agent", e.UserAgent)
	if len(e.Fields) > 0 {
		b = append(b, `,"fields":`...)
		b = appendStrings(b, e.Fields)
	}
	if len(e.Details) > 0 {
		b = append(b, `,"details":`...)
		b = e.Details.appendJSON(b)
	}
	return append(b, '}')
}

// leaf returns the record as it is stored and hashed.
func (e *Event) leaf() []byte {
	b := make([]byte, 0, 512)
	b = append(b, `{"id":`...)
	b = appendString(b, e.ID)
	b = append(b, ',')
	return e.appendTail(b)
}

// DecodeEvent reads a leaf.
func DecodeEvent(leaf []byte) (Event, error) {
	var e Event
	dec := json.NewDecoder(bytes.NewReader(leaf))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return Event{}, fmt.Errorf("decode an audit record: %w", err)
	}
	return e, nil
}

// check refuses what must not enter the log, and fills the defaults.
func (e *Event) check() error {
	if !e.Action.known() {
		return fmt.Errorf("store: %q is no known audit action", string(e.Action))
	}
	if e.Actor.Kind == "" || e.Target.Kind == "" {
		return fmt.Errorf("store: the event %s lacks an actor or a target", e.Action)
	}
	if e.Outcome == "" {
		e.Outcome = OutcomeOK
	}
	e.UserAgent = clip(e.UserAgent, 256)
	e.Reason = clip(e.Reason, 1000)
	return nil
}

// Record adds the event to the log as part of this transaction, and fills its id, time and outcome. Without it a Write does not commit.
func (tx *Tx) Record(e Event) error {
	if !tx.writable {
		return errors.New("store: an event cannot be recorded in a read transaction")
	}
	if err := e.check(); err != nil {
		return err
	}
	e.At = tx.Now()
	e.ID = NewID("evt")
	if _, err := tx.Exec(`INSERT INTO audit_events (id, at, action, actor_id, target_id, on_behalf_of, request_id, body) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)`,
		e.ID, TimeOf(e.At), string(e.Action), e.Actor.ID, e.Target.ID, e.OnBehalf, e.RequestID, e.leaf()); err != nil {
		return auditUnavailable(err)
	}
	if _, err := tx.Exec(`INSERT INTO audit_pending (source_id) VALUES ($1)`, e.ID); err != nil {
		return auditUnavailable(err)
	}
	tx.recorded++
	if e.Outcome == OutcomeOK {
		tx.act = &e
	}
	return nil
}

func auditUnavailable(err error) error {
	if isRetry(err) {
		return err // the transaction is run again
	}
	return auditFault(err)
}

func auditFault(err error) error {
	f := fault.New(fault.Unavailable, "audit_unavailable",
		"Signalbox lends and changes nothing that it cannot record, and the audit log cannot be written: the database "+reason(err)+
			". Nothing was done; an operator must see to the database, then try again.").Because(redactCause(err))
	if isUnavailable(err) && !isFull(err) {
		return f.After(1) // a restart or a lost connection mends itself
	}
	return f
}

func appendRef(b []byte, kind, id, name string) []byte {
	b = append(b, `{"kind":`...)
	b = appendString(b, kind)
	b = appendField(b, "id", id)
	b = appendField(b, "name", name)
	return append(b, '}')
}

func appendField(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, key...)
	b = append(b, '"', ':')
	return appendString(b, value)
}

func appendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string (RFC 8259, section 7). Control characters, newlines among them, are escaped, so a leaf is always
// one line; what is not UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\t':
				b = append(b, '\\', 't')
			case '\r':
				b = append(b, '\\', 'r')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(b, s[start:i]...)
			b = append(b, "\ufffd"...)
			i++
			start = i
			continue
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

func clip(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}
