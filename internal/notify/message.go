package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/store"
)

// Message is something that people should hear of. It holds no secret: it leaves the house.
type Message struct {
	Kind Kind
	// Severity is the kind's own when it is left out.
	Severity Severity
	// Title is one line; it is the subject of a mail.
	Title string
	// Text says what happened and what to do. It may have several lines.
	Text string
	// Link leads to more; an http(s) URL or "".
	Link string
	// Subject is what the message is about, for programs. The channels of a train take what is about the train, and about a credential that it links.
	Subject store.Target
	// About is what else it is about, of which trains and credentials count as the subject does.
	About []store.Target
	// Facts are shown below the text, in their order.
	Facts []Fact
	// DedupKey makes messages of one kind alike: within the kind's window one is sent and the others are counted. "" is never alike.
	DedupKey string
	// Keys are client keys that the message names: it is hidden with their trains, whose own channels do not take it for them.
	Keys []string
	// TrainID is the train that the message is about, if it is about one: the train's own channels take it too.
	TrainID string
}

// Fact is a name and a value.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

const (
	titleMax = 200
	textMax  = 4000
	factMax  = 500
	factsMax = 20
	linkMax  = 2000
	keyMax   = 200
)

// content is a message as it is stored and sent.
type content struct {
	Severity Severity     `json:"severity"`
	Title    string       `json:"title"`
	Text     string       `json:"text"`
	Link     string       `json:"link,omitempty"`
	Subject  store.Target `json:"subject,omitzero"`
	Facts    []Fact       `json:"facts,omitempty"`
	TrainID  string       `json:"train_id,omitempty"`
	// Talk is stored apart, and sealed.
	Talk *Talk `json:"conversation,omitempty"`
}

// content checks a message, which comes from a room and not from outside: what is too long or not printable is cut, what has no sense is an
// error.
func (m Message) content() (content, KindRow, error) {
	row, ok := kindRow(m.Kind)
	if !ok {
		return content{}, row, fmt.Errorf("notify: %q is no kind of message", string(m.Kind))
	}
	if m.Severity == "" {
		m.Severity = row.Severity
	}
	if !m.Severity.known() || len(m.DedupKey) > keyMax || len(m.Facts) > factsMax {
		return content{}, row, fmt.Errorf("notify: a message of kind %s has an unknown severity, too long a key or too many facts", m.Kind)
	}
	if u, err := url.Parse(m.Link); m.Link != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || len(m.Link) > linkMax) {
		return content{}, row, fmt.Errorf("notify: the link of a message of kind %s is no web address", m.Kind)
	}
	c := content{Severity: m.Severity, Title: oneLine(m.Title, titleMax), Text: printable(m.Text, textMax), Link: m.Link, Subject: m.Subject, TrainID: m.TrainID}
	for _, f := range m.Facts {
		c.Facts = append(c.Facts, Fact{oneLine(f.Name, factMax), oneLine(f.Value, factMax)})
	}
	if c.Title == "" {
		return content{}, row, fmt.Errorf("notify: a message of kind %s has no title", m.Kind)
	}
	return c, row, nil
}

// oneLine makes a text safe in a header and a table: names that people chose may hold anything.
func oneLine(s string, limit int) string {
	return strings.Join(strings.Fields(printable(s, limit)), " ")
}

// printable drops what is not UTF-8, control characters other than line ends, and marks that turn the order of the text around.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == utf8.RuneError, r == '\u2028', r == '\u2029', unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return ' '
		}
		return r
	}, s)
	if len(s) <= limit {
		return s
	}
	const more = "…"
	cut := limit - len(more)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

// Enqueue stores a message for every channel that wants it, in the transaction of the act that it tells of: if that is rolled back, so is
// the message. Nothing is sent here. Without a channel that wants it nothing is stored.
func Enqueue(tx *store.Tx, m Message) error {
	c, row, err := m.content()
	if err != nil {
		return err
	}
	channels, err := wanted(tx, m, c)
	if err != nil || len(channels) == 0 {
		return err
	}
	id, now := store.NewID("msg"), store.TimeOf(tx.Now())
	if m.DedupKey != "" && row.Window > 0 {
		first, err := mark(tx, m, id, row.Window)
		if err != nil {
			return err
		}
		if first != id {
			_, err := tx.Exec(`UPDATE notify_messages SET repeats = repeats + 1, last_at = $1 WHERE id = $2`, now, first)
			return err
		}
	}
	about, err := m.train(tx)
	if err != nil {
		return err
	}
	return insertMessage(tx, id, m.Kind, c, about, channels)
}

// train returns the train that a message tells of, itself or by a client key, a private one before others; "" for none.
func (m Message) train(tx *store.Tx) (id string, err error) {
	args, _ := m.about()
	var which []string
	if len(args) > 0 {
		which = append(which, `id IN (?`+strings.Repeat(`, ?`, len(args)-1)+`)`)
	}
	if len(m.Keys) > 0 {
		which = append(which, `id IN (SELECT train_id FROM client_keys WHERE id IN (?`+strings.Repeat(`, ?`, len(m.Keys)-1)+`))`)
	}
	if len(which) == 0 {
		return "", nil
	}
	for _, id := range m.Keys {
		args = append(args, id)
	}
	var w store.Where
	w.Add(`(`+strings.Join(which, ` OR `)+`)`, args...)
	err = tx.Get(&id, `SELECT id FROM trains`+w.SQL()+` ORDER BY CASE WHEN visibility = 'organisation' THEN 1 ELSE 0 END, id LIMIT 1`, w.Args()...)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return id, err
}

// insertMessage stores a message, and a delivery for each channel.
func insertMessage(tx *store.Tx, id string, kind Kind, c content, train string, channels []string) error {
	now := store.TimeOf(tx.Now())
	body, err := json.Marshal(c)
	if err != nil {
		return errors.New("notify: a message cannot be encoded")
	}
	if _, err := tx.Exec(`INSERT INTO notify_messages (id, kind, severity, title, body, repeats, last_at, created_at, train_id) VALUES ($1,$2,$3,$4,$5,0,$6,$6,$7)`,
		id, string(kind), string(c.Severity), c.Title, string(body), now, train); err != nil {
		return err
	}
	for _, channel := range channels {
		if _, err := tx.Exec(`INSERT INTO notify_deliveries (id, message_id, channel_id, state, attempts, next_at, holder, epoch, claim_until, detail, created_at)
			VALUES ($1,$2,$3,$4,0,$5,'',0,0,'',$5)`, store.NewID(deliveryPrefix), id, channel, stateWaiting, now); err != nil {
			return err
		}
	}
	tx.Change(store.TopicNotify, id)
	return nil
}

// mark returns the id of the message that stands for the key within its window: this one, if there is no other. On PostgreSQL a transaction
// that is about to do the same is waited for, so that of two alike one is stored, also when the first of them rolls back.
func mark(tx *store.Tx, m Message, id string, window time.Duration) (string, error) {
	now := tx.Now()
	var first string
	err := tx.Get(&first, `INSERT INTO notify_marks (kind, dedup_key, message_id, until) VALUES ($1,$2,$3,$4)
		ON CONFLICT (kind, dedup_key) DO UPDATE SET
			message_id = CASE WHEN notify_marks.until > $5 THEN notify_marks.message_id ELSE excluded.message_id END,
			until = CASE WHEN notify_marks.until > $5 THEN notify_marks.until ELSE excluded.until END
		RETURNING message_id`, string(m.Kind), m.DedupKey, id, store.TimeOf(now.Add(window)), store.TimeOf(now))
	return first, err
}
