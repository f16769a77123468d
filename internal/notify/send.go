package notify

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
)

// parcel is a message on its way to one channel.
type parcel struct {
	id      string // the same at each attempt, so that a receiver can tell what it has had
	kind    Kind
	content content
	at      time.Time // when the message was stored
	channel Channel
	secrets map[string]secret.Value
}

// verdict is how an attempt ended.
type verdict struct {
	delivered bool
	// final says that the receiver refused for good, so that another attempt would end alike.
	final bool
	// after is how long the receiver wants to be left alone.
	after time.Duration
	// detail says in our own words why it was not delivered.
	detail string
}

const (
	// afterMost bounds what a receiver may ask for: a message waits for a day at most.
	afterMost = 6 * time.Hour
	// answerMax is what is read of an answer, where one is read at all.
	answerMax = 1 << 10
)

// send makes one attempt. It never returns text of the receiver.
func (r *Room) send(ctx context.Context, p parcel) verdict {
	switch p.channel.Kind {
	case Slack:
		return r.sendSlack(ctx, p)
	case Webhook:
		return r.sendWebhook(ctx, p)
	case Mail:
		return r.sendMail(ctx, p)
	}
	return verdict{detail: "This version of Signalbox does not know this kind of channel."}
}

// post sends a JSON body and hands the answer to judge, which may read of its body what it needs.
func (r *Room) post(ctx context.Context, p parcel, body []byte, header http.Header, judge func(*http.Response) verdict) verdict {
	u, err := url.Parse(p.secrets[secretURL].Reveal())
	if err != nil {
		return verdict{detail: "The channel's address is no URL. Give it anew."}
	}
	if err := r.policy.CheckURL(u); err != nil {
		return verdict{detail: fault.Of(err).Detail}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return verdict{detail: "The channel's address is no URL. Give it anew."}
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/json")
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
	case code == http.StatusGone:
		v.final, v.detail = true, "The receiver answered 410: the address is gone for good."
	case code >= 300 && code < 400:
		v.detail = "The receiver answered " + strconv.Itoa(code) + ", a redirect, which is not followed. Give the address that it leads to."
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		v.after = retryAfter(resp.Header, resp.Header.Get("Date"))
	}
	return v
}

// retryAfter reads Retry-After (RFC 9110, section 10.2.3): seconds, or a time, which is held against the receiver's own clock.
func retryAfter(h http.Header, date string) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(n)*time.Second, afterMost)
	}
	until, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(date)
	if err != nil {
		return 0
	}
	return min(max(0, until.Sub(now)), afterMost)
}

// beginning reads the first bytes of an answer.
func beginning(resp *http.Response) string {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, answerMax)) // what cannot be read is not there
	return string(b)
}
