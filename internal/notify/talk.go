package notify

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Talk is what an agent was asked and what it answered. Whoever makes it has taken out of it what looks like a secret.
type Talk struct {
	// Prompt is the beginning of what the agent was asked, "" when it goes on with what it was asked before, and PromptBytes how long all of it is; 0 when that is all.
	Prompt      string `json:"prompt,omitempty"`
	PromptBytes int64  `json:"prompt_bytes,omitempty"`
	// Reply is the beginning of what was answered, and ReplyBytes how long all of it is; 0 when that is all.
	Reply      string `json:"reply,omitempty"`
	ReplyBytes int64  `json:"reply_bytes,omitempty"`
	// Tools are the first tools that were called, and Calls how many were.
	Tools []string `json:"tools,omitempty"`
	Calls int      `json:"tool_calls,omitempty"`
	// Note says what is wrong with it, in our own words: that the answer broke off.
	Note string `json:"note,omitempty"`
	// More is how many others before it were not told, because there were too many at once.
	More int64 `json:"not_told,omitempty"`
}

// Telling is a message about a train that no act stands behind, so that it has no transaction to be stored in.
type Telling struct {
	// Message has a TrainID. Its Text and Facts say nothing of what Talk holds.
	Message
	// Talk goes to those channels of the train alone that have Content.
	Talk *Talk
	// Same is what makes a Talk the same as another that was told before; only a keyed hash of it is stored.
	Same []byte
	// Lost is how many of the train's were lost before this one.
	Lost int64
}

const (
	// talkChars bounds what is told of a prompt and of a reply, in characters.
	talkChars = 3000
	// talkLife is how long one is tried, and how long its content is kept at most.
	talkLife = time.Hour
	// talkWindow is how long a channel is not told the same again.
	talkWindow = 10 * time.Minute
	// talksWait is how many may wait for a channel; what comes then is dropped and counted. It is a minute of what Slack takes.
	talksWait = 60
	// pace is how often Slack takes a message of one webhook (https://docs.slack.dev/apis/web-api/rate-limits).
	pace = time.Second

	zeroSpace = "\u200b"
)

func talkAAD(message string) secret.AAD {
	return secret.AAD{Table: "notify_contents", ID: message, Field: "talk", Version: 1}
}

// Tell stores messages for the channels of their trains, in one transaction. It is for whoever is on the way of no request.
func (r *Room) Tell(ctx context.Context, all []Telling) error {
	return r.db.Bookkeep(ctx, store.Outbox, func(tx *store.Tx) error {
		for _, t := range all {
			if err := r.tell(tx, t); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *Room) tell(tx *store.Tx, t Telling) error {
	if t.TrainID == "" {
		return errors.New("notify: a telling has no train")
	}
	if t.Talk == nil {
		return Enqueue(tx, t.Message)
	}
	c, _, err := t.content()
	if err != nil {
		return err
	}
	channels, err := listeners(tx, t.TrainID, t.Kind, c.Severity)
	if err != nil || len(channels) == 0 {
		return err
	}
	mac, err := r.ring.MAC(ringPurpose, append([]byte("talk\x00"+t.TrainID+"\x00"), t.Same...))
	if err != nil {
		return err
	}
	id, now := store.NewID("msg"), store.TimeOf(tx.Now())
	t.DedupKey = hex.EncodeToString(mac)
	if first, err := mark(tx, t.Message, id, talkWindow); err != nil || first != id {
		if err != nil || t.Lost == 0 {
			return err
		}
		for _, channel := range channels { // what was lost before is told with the next one that is not told already
			if _, err := tx.Exec(`UPDATE notify_channels SET dropped = dropped + $1 WHERE id = $2`, t.Lost, channel); err != nil {
				return err
			}
		}
		return nil
	}
	var to []string
	for _, channel := range channels {
		var waiting int64
		if err := tx.Get(&waiting, `SELECT COUNT(*) FROM notify_deliveries WHERE channel_id = $1 AND state = 'waiting'`, channel); err != nil {
			return err
		}
		dropped := t.Lost
		if waiting >= talksWait {
			dropped++
		} else {
			to = append(to, channel)
		}
		if dropped == 0 {
			continue
		}
		if _, err := tx.Exec(`UPDATE notify_channels SET dropped = dropped + $1 WHERE id = $2`, dropped, channel); err != nil {
			return err
		}
	}
	if len(to) == 0 {
		return nil
	}
	plain, err := json.Marshal(t.Talk.tidy())
	if err != nil {
		return errors.New("notify: what was said cannot be encoded")
	}
	sealed, err := r.ring.Seal(ringPurpose, secret.New(plain), talkAAD(id))
	if err != nil {
		return err
	}
	if err := insertMessage(tx, id, t.Kind, c, t.TrainID, to); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO notify_contents (message_id, sealed, created_at) VALUES ($1,$2,$3)`, id, sealed, now)
	return err
}

// listeners returns the channels of a train that are told what its agents are asked.
func listeners(tx *store.Tx, train string, kind Kind, severity Severity) ([]string, error) {
	var rows []struct {
		taker
		Settings string `db:"settings"`
	}
	if err := tx.Select(&rows, `SELECT id, severity, kinds, settings FROM notify_channels WHERE enabled = 1 AND train_id = $1 ORDER BY id`, train); err != nil {
		return nil, err
	}
	var out []string
	for _, row := range rows {
		var s settings
		if err := json.Unmarshal([]byte(row.Settings), &s); err != nil {
			return nil, fmt.Errorf("read the settings of channel %s: %w", row.ID, err)
		}
		takes, err := row.takes(kind, severity, true)
		if err != nil {
			return nil, err
		}
		if s.Content && takes {
			out = append(out, row.ID)
		}
	}
	return out, nil
}

// Wants says what the channels of a train are told besides what acts tell of.
type Wants struct{ Errors, Content bool }

// Wanting returns what the channels of trains want, of those trains that have channels; nil asks for all.
func Wanting(tx *store.Tx, trains []string) (map[string]Wants, error) {
	var rows []struct {
		TrainID  string `db:"train_id"`
		Settings string `db:"settings"`
	}
	var w store.Where
	w.Add(`enabled = 1 AND train_id IS NOT NULL`)
	if trains != nil {
		marks := make([]string, len(trains))
		for i, id := range trains {
			marks[i] = w.Arg(id)
		}
		w.Add(`train_id IN (` + strings.Join(marks, ",") + `)`)
	}
	if err := tx.Select(&rows, `SELECT train_id, settings FROM notify_channels`+w.SQL(), w.Args()...); err != nil {
		return nil, err
	}
	out := map[string]Wants{}
	for _, row := range rows {
		var s settings
		if err := json.Unmarshal([]byte(row.Settings), &s); err != nil {
			return nil, fmt.Errorf("read the settings of a channel of train %s: %w", row.TrainID, err)
		}
		have := out[row.TrainID]
		out[row.TrainID] = Wants{Errors: true, Content: have.Content || s.Content}
	}
	return out, nil
}

// openTalk reads what a claimed message holds besides its body, and with how many others that were not told; broken says why it cannot be told.
func (r *Room) openTalk(tx *store.Tx, c *claim, message string) (broken string, err error) {
	if !c.parcel.channel.Content {
		return "The channel is not told prompts any more.", nil
	}
	var sealed []byte
	err = tx.Get(&sealed, `SELECT sealed FROM notify_contents WHERE message_id = $1`, message)
	if errors.Is(err, store.ErrNotFound) {
		return "What was said is not kept any more.", nil
	}
	if err != nil {
		return "", err
	}
	talk := &Talk{}
	v, err := r.ring.Open(ringPurpose, sealed, talkAAD(message))
	if f, ok := fault.As(err); ok {
		return f.Detail, nil
	}
	if err != nil || json.Unmarshal(v.Bytes(), talk) != nil {
		return "The stored message cannot be read.", nil
	}
	var dropped int64
	if err := tx.Get(&dropped, `SELECT dropped FROM notify_channels WHERE id = $1`, c.ChannelID); err != nil {
		return "", err
	}
	if dropped > 0 {
		n, err := tx.Exec(`UPDATE notify_channels SET dropped = dropped - $1 WHERE id = $2 AND dropped >= $1`, dropped, c.ChannelID)
		if err != nil {
			return "", err
		}
		if n == 1 {
			if _, err := tx.Exec(`UPDATE notify_deliveries SET more = more + $1 WHERE id = $2`, dropped, c.ID); err != nil {
				return "", err
			}
		}
	}
	if err := tx.Get(&talk.More, `SELECT more FROM notify_deliveries WHERE id = $1`, c.ID); err != nil {
		return "", err
	}
	c.parcel.content.Talk = talk
	return "", nil
}

// forget drops what was said once nobody waits for it.
func forget(tx *store.Tx, delivery string) error {
	_, err := tx.Exec(`DELETE FROM notify_contents WHERE message_id = (SELECT message_id FROM notify_deliveries WHERE id = $1)
		AND NOT EXISTS (SELECT 1 FROM notify_deliveries d WHERE d.message_id = notify_contents.message_id AND d.state = 'waiting')`, delivery)
	return err
}

// sweep drops what was said and is past its time, or for which nobody waits: a channel or a train is gone, or two instances settled at once.
func (r *Room) sweep(ctx context.Context) error {
	var ids []string
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		ids = ids[:0]
		return tx.Select(&ids, `SELECT message_id FROM notify_contents c WHERE created_at < $1
			OR NOT EXISTS (SELECT 1 FROM notify_deliveries d WHERE d.message_id = c.message_id AND d.state = 'waiting') ORDER BY message_id LIMIT $2`,
			store.TimeOf(tx.Now().Add(-talkLife)), trimBatch)
	})
	if err != nil || len(ids) == 0 {
		return err
	}
	return r.db.Bookkeep(ctx, store.Outbox, func(tx *store.Tx) error {
		for _, id := range ids {
			if _, err := tx.Exec(`DELETE FROM notify_contents WHERE message_id = $1`, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// hush takes back what waits for a channel that is not told prompts any more.
func (c Channel) hush(tx *store.Tx) error {
	_, err := tx.Exec(`DELETE FROM notify_deliveries WHERE channel_id = $1 AND state = 'waiting' AND message_id IN (SELECT id FROM notify_messages WHERE kind = $2)`, c.ID, string(Conversation))
	return err
}

// slackTalk is what was said in Slack's mark-up. Every line of it is quoted, so that nobody's words pass for ours.
func slackTalk(t *Talk) string {
	var b strings.Builder
	say := func(what, text string, bytes int64) {
		if text == "" {
			return
		}
		b.WriteString("\n*" + what + "*")
		for line := range strings.SplitSeq(calm(text), "\n") {
			b.WriteString("\n>" + line)
		}
		if bytes > 0 {
			b.WriteString("\n_(cut; " + strconv.FormatInt(bytes, 10) + " bytes in all)_")
		}
	}
	say("Prompt", t.Prompt, t.PromptBytes)
	say("Reply", t.Reply, t.ReplyBytes)
	for _, name := range t.Tools {
		b.WriteString("\n• Tool: " + calm(name))
	}
	if more := t.Calls - len(t.Tools); more > 0 {
		b.WriteString("\n• Tools: " + strconv.Itoa(more) + " more")
	}
	if t.Note != "" {
		b.WriteString("\n_" + escapeMrkdwn(t.Note) + "_")
	}
	if t.More > 0 {
		b.WriteString("\n_" + strconv.FormatInt(t.More, 10) + " more before this one are not told: there were too many at once._")
	}
	return b.String()
}

// calm makes a text harmless in Slack: nothing in it is a link, mentions anybody or ends a quotation.
func calm(text string) string {
	text = strings.ReplaceAll(escapeMrkdwn(text), "@", "@"+zeroSpace)
	return strings.ReplaceAll(text, "``", "`"+zeroSpace+"`")
}

// tidy brings what was said into the bounds.
func (t *Talk) tidy() *Talk {
	out := *t
	out.Prompt, out.Reply, out.Note = characters(printable(t.Prompt, len(t.Prompt)), talkChars), characters(printable(t.Reply, len(t.Reply)), talkChars), oneLine(t.Note, factMax)
	out.Tools = nil
	for _, name := range t.Tools {
		out.Tools = append(out.Tools, oneLine(name, nameMax))
	}
	return &out
}

// characters is the beginning of a text.
func characters(s string, most int) string {
	n := 0
	for i := range s {
		if n == most {
			return s[:i]
		}
		n++
	}
	return s
}
