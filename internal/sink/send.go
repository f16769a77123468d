package sink

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// parcel is what is sent to a sink at once: leaves, a checkpoint, or neither for a test.
type parcel struct {
	sink    Sink
	secrets map[string]secret.Value
	leaves  []audit.Leaf
	point   *audit.Checkpoint
	at      time.Time // of a test
}

// id names what a parcel holds, so that a receiver can tell whether it has had it: the same content has the same id at each try, and no other content has it.
func (p parcel) id() string {
	switch {
	case p.point != nil:
		return p.sink.ID + "-checkpoint-" + strconv.FormatInt(p.point.Size, 10)
	case len(p.leaves) > 0:
		return p.sink.ID + "-" + strconv.FormatInt(p.leaves[0].Index, 10) + "-" + strconv.FormatInt(p.leaves[len(p.leaves)-1].Index, 10)
	}
	return p.sink.ID + "-test-" + strconv.FormatInt(p.at.UnixMilli(), 10)
}

// verdict is how an attempt ended.
type verdict struct {
	delivered bool
	after     time.Duration // how long the receiver wants to be left alone
	detail    string        // says in our own words why it was not delivered
}

const (
	// afterMost bounds what a receiver may ask for.
	afterMost = time.Hour
	// answerMax is what is read of an answer, where one is read at all.
	answerMax = 1 << 10
)

// send makes one attempt. It never returns text of the receiver.
func (r *Room) send(ctx context.Context, p parcel) verdict {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	switch p.sink.Kind {
	case Slack:
		return r.sendSlack(ctx, p)
	case Webhook:
		return r.sendWebhook(ctx, p)
	case Syslog:
		return r.sendSyslog(ctx, p)
	}
	return verdict{detail: "This version of Signalbox does not know this kind of sink."}
}

// line is a record as receivers get it: what stands after "record": is the record byte for byte, whose hash is the leaf's.
func line(b []byte, leaf audit.Leaf) []byte {
	b = append(b, `{"leaf":`...)
	b = strconv.AppendInt(b, leaf.Index, 10)
	b = append(b, `,"hash":"`...)
	b = append(b, leaf.Hash.String()...)
	b = append(b, `","record":`...)
	if leaf.Record == nil {
		b = append(b, "null"...) // it was taken from the database
	} else {
		b = append(b, leaf.Record...)
	}
	return append(b, '}')
}

// checkpointBody is a checkpoint as webhooks and syslog servers get it; type, timestamp and data are those of the Standard Webhooks. `signalbox audit verify
// --checkpoint` reads it.
type checkpointBody struct {
	Type      string         `json:"type"`
	Timestamp string         `json:"timestamp"`
	Data      checkpointData `json:"data"`
}

type checkpointData struct {
	Origin   string `json:"origin"`
	Size     int64  `json:"size"`
	Root     string `json:"root"`
	After    int64  `json:"after"`
	Note     string `json:"note"`
	Verifier string `json:"verifier"`
}

// types of messages that are no records.
const (
	typeCheckpoint = "audit.checkpoint"
	typeTest       = "audit.test"
)

func (r *Room) message(p parcel) ([]byte, error) {
	if p.point == nil {
		return json.Marshal(struct {
			Type      string            `json:"type"`
			Timestamp string            `json:"timestamp"`
			Data      map[string]string `json:"data"`
		}{typeTest, p.at.UTC().Format(store.TimeFormat), map[string]string{"origin": r.audit.Origin(), "sink": p.sink.ID}})
	}
	c := p.point
	return json.Marshal(checkpointBody{typeCheckpoint, c.At.UTC().Format(store.TimeFormat), checkpointData{c.Origin, c.Size, c.Root.String(), c.After, c.Note, r.audit.Verifier()}})
}

func (r *Room) sendWebhook(ctx context.Context, p parcel) verdict {
	var body []byte
	kind := "application/json"
	if len(p.leaves) > 0 {
		kind = "application/x-ndjson"
		for _, leaf := range p.leaves {
			body = append(line(body, leaf), '\n')
		}
	} else {
		var err error
		if body, err = r.message(p); err != nil {
			return verdict{detail: "The message cannot be encoded."}
		}
	}
	now := r.now()
	signature, ok := notify.Signature(p.secrets[secretSigning], p.id(), now, body)
	if !ok {
		return verdict{detail: "The sink's signing secret is damaged. Give it anew."}
	}
	header := http.Header{}
	header.Set("Content-Type", kind)
	header.Set("Signalbox-Log", r.audit.Origin())
	header.Set("Webhook-Id", p.id())
	header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	header.Set("Webhook-Signature", signature)
	if v, given := p.secrets[secretHeader]; given {
		header.Set("Authorization", v.Reveal())
	}
	return r.post(ctx, p, body, header, func(resp *http.Response) verdict {
		if resp.StatusCode < 200 || resp.StatusCode > 299 {
			return refusal(resp)
		}
		return verdict{delivered: true}
	})
}

// slackText has the note in a block that Slack shows as it is, for people to copy.
func slackText(p parcel) string {
	if p.point == nil {
		return "This is a test of an audit sink of Signalbox. Signed checkpoints of the audit log will come here."
	}
	return "Checkpoint of the audit log at " + strconv.FormatInt(p.point.Size, 10) + " records. Keep it: `signalbox audit verify --checkpoint FILE` compares the log with a file that this message was pasted into.\n```\n" +
		p.point.Note + "```"
}

func (r *Room) sendSlack(ctx context.Context, p parcel) verdict {
	body, err := json.Marshal(struct {
		Text        string `json:"text"`
		UnfurlLinks bool   `json:"unfurl_links"`
		UnfurlMedia bool   `json:"unfurl_media"`
	}{Text: slackText(p)})
	if err != nil {
		return verdict{detail: "The message cannot be encoded."}
	}
	return r.post(ctx, p, body, http.Header{"Content-Type": {"application/json"}}, func(resp *http.Response) verdict {
		if resp.StatusCode != http.StatusOK {
			return refusal(resp)
		}
		// Slack says ok; what says something else with a 200 is not Slack, and has perhaps not taken the message.
		b, _ := io.ReadAll(io.LimitReader(resp.Body, answerMax)) // what cannot be read is not there
		if strings.TrimSpace(string(b)) != "ok" {
			return verdict{detail: "The receiver answered 200, but not with Slack's ok. Is the address that of an incoming webhook?"}
		}
		return verdict{delivered: true}
	})
}

// post sends a body and hands the answer to judge, which may read of its body what it needs.
func (r *Room) post(ctx context.Context, p parcel, body []byte, header http.Header, judge func(*http.Response) verdict) verdict {
	u, err := url.Parse(p.secrets[secretURL].Reveal())
	if err != nil {
		return verdict{detail: "The sink's address is no URL. Give it anew."}
	}
	if err := r.policy.CheckURL(u); err != nil {
		return verdict{detail: fault.Of(err).Detail}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return verdict{detail: "The sink's address is no URL. Give it anew."}
	}
	req.Header = header
	req.Header.Set("User-Agent", "Signalbox")
	resp, err := r.http.Do(req)
	if err != nil {
		return unreached(err)
	}
	defer func() { _ = resp.Body.Close() }() // what is left of it is not read
	return judge(resp)
}

// unreached says why there was no answer.
func unreached(err error) verdict {
	err = outbound.Clean(err)
	if f, ok := fault.As(err); ok {
		return verdict{detail: f.Detail}
	}
	text := err.Error()
	return verdict{detail: strings.ToUpper(text[:1]) + text[1:] + "."}
}

// refusal judges an answer that is no success.
func refusal(resp *http.Response) verdict {
	v := verdict{detail: "The receiver answered " + strconv.Itoa(resp.StatusCode) + "."}
	switch code := resp.StatusCode; {
	case code >= 300 && code < 400:
		v.detail = "The receiver answered " + strconv.Itoa(code) + ", a redirect, which is not followed. Give the address that it leads to."
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		if n, err := strconv.ParseUint(strings.TrimSpace(resp.Header.Get("Retry-After")), 10, 32); err == nil {
			v.after = min(time.Duration(n)*time.Second, afterMost)
		}
	}
	return v
}
