package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/secret"
)

const (
	// attemptsLast is for how long the server knows an Idempotency-Key.
	attemptsLast = 24 * time.Hour
	// mostAttempts bounds how many requests whose answers were lost are remembered.
	mostAttempts = 50
)

// attempt is a request for a key, written down before it is sent: who is cut off before the answer leaves a key that nobody has, and that counts among those
// that a train may have until it ends. The next command sends the same request again, and hears what became of it.
type attempt struct {
	keyFor
	Once        string    `json:"idempotency_key"`
	Name        string    `json:"name"`
	ExpiresAt   time.Time `json:"expires_at"`
	WithSession bool      `json:"with_session,omitempty"`
	BegunAt     time.Time `json:"begun_at"`
}

// pending returns the request of this holder that has no answer yet.
func (k *keptKeys) pending(who keyFor) (attempt, bool) {
	i := slices.IndexFunc(k.attempts, func(a attempt) bool { return a.keyFor == who })
	if i < 0 {
		return attempt{}, false
	}
	return k.attempts[i], true
}

// begin remembers a request, and forgets those of which the server knows nothing any more.
func (k *keptKeys) begin(a attempt) {
	k.answered(a.keyFor)
	k.attempts = slices.DeleteFunc(k.attempts, func(o attempt) bool { return a.BegunAt.Sub(o.BegunAt) > attemptsLast })
	k.attempts = append(k.attempts, a)
	k.attempts = k.attempts[max(0, len(k.attempts)-mostAttempts):]
}

// answered forgets the request of this holder.
func (k *keptKeys) answered(who keyFor) {
	k.attempts = slices.DeleteFunc(k.attempts, func(a attempt) bool { return a.keyFor == who })
}

// issue has the server issue a key, and keeps it. What an earlier request has issued whose answer was lost is revoked first.
func (h *helping) issue(ctx context.Context) (keptKey, error) {
	if before, ok := h.kept.pending(h.who); ok && h.now.Sub(before.BegunAt) < attemptsLast {
		made, err := h.ask(ctx, before)
		switch {
		case err == nil && made.ExpiresAt != nil && made.ExpiresAt.Sub(h.now) > margin(h.life): // the server had not heard it
			return h.keep(ctx, before, made)
		case err == nil: // issued only now, for a time that is nearly over
			err = h.discard(ctx, made.ID, "was asked for by an earlier call and issued only now, when its time is nearly over")
		case lostAnswer(err) != "":
			err = h.discard(ctx, lostAnswer(err), "was issued, but its answer was lost")
		case refusal(err): // it made nothing
			err = nil
		}
		if err != nil {
			return keptKey{}, trainError(err, h.who.Train)
		}
	}
	for last := false; ; last = true {
		key, lost, err := h.begin(ctx)
		if lost == "" || last {
			return key, err
		}
		if err := h.discard(ctx, lost, "was issued, but its answer was lost"); err != nil {
			return keptKey{}, trainError(err, h.who.Train)
		}
	}
}

// begin sends a new request. Of one that the HTTP client had to send again by itself it may return the key that was issued and is lost.
func (h *helping) begin(ctx context.Context) (key keptKey, lost string, err error) {
	try := attempt{h.who, "helper-" + rand.Text(), keyName("helper anthropic"), h.now.Add(h.life).Truncate(time.Second), h.by == byLogin, h.now}
	h.kept.begin(try)
	if err := h.kept.write(h.dir); err != nil {
		return keptKey{}, "", err
	}
	made, err := h.ask(ctx, try)
	if err != nil {
		lost := lostAnswer(err)
		if refusal(err) && lost == "" {
			h.kept.answered(h.who)
			_ = h.kept.write(h.dir) // at worst it is refused again
		}
		return keptKey{}, lost, trainError(err, h.who.Train)
	}
	key, err = h.keep(ctx, try, made)
	return key, "", err
}

// ask sends the request, always the same one under one Idempotency-Key.
func (h *helping) ask(ctx context.Context, a attempt) (client.IssuedKey, error) {
	limited, cancel := context.WithTimeout(ctx, issueTime)
	defer cancel()
	return settled(limited, func() (client.IssuedKey, error) {
		return h.client.Idempotent(a.Once).IssueKey(limited, h.who.Train, client.KeyDraft{Name: a.Name, ExpiresAt: &a.ExpiresAt, WithSession: a.WithSession})
	})
}

// keep keeps what was issued for the next to ask.
func (h *helping) keep(ctx context.Context, a attempt, made client.IssuedKey) (keptKey, error) {
	ends := a.ExpiresAt
	if made.ExpiresAt != nil { // the sign-in may end before
		ends = made.ExpiresAt.UTC()
	}
	now := time.Now().UTC()
	key := keptKey{h.who, made.ID, secret.FromString(made.APIKey), ends, now, false, ends.Sub(now) <= margin(h.life)}
	h.kept.answered(h.who)
	h.kept.put(key)
	if err := h.kept.write(h.dir); err != nil {
		// Nobody has the key, so nobody shall be able to use it.
		if rerr := h.client.RevokeKey(context.WithoutCancel(ctx), h.who.Train, made.ID); rerr != nil {
			return keptKey{}, fmt.Errorf("%w; the new key %s is of no use to anybody, revoke it with: signalbox key revoke %s %s", err, made.ID, h.who.Train, made.ID)
		}
		return keptKey{}, err
	}
	if key.brief {
		h.sayBrief(key)
	}
	h.tidy(ctx)
	return key, nil
}

// sayBrief says why a key is not replaced before its end.
func (h *helping) sayBrief(key keptKey) {
	if h.by == byLogin {
		h.note("The sign-in at %s ends at %s, and the key with it; sign in again before: signalbox login --server %s", h.who.Server, moment(key.expires), quote(h.who.Server))
	}
}

// discard revokes a key that nobody has; how says how it came to be.
func (h *helping) discard(ctx context.Context, id, how string) error {
	if err := h.client.RevokeKey(ctx, h.who.Train, id); err != nil && !isNotFound(err) {
		if !refusal(err) {
			return err
		}
		h.note("The key %s %s. It cannot be revoked from here (%s), and ends by itself, at the latest %d hours after it was issued.", id, how, problem(err).Code, longestKey/time.Hour)
		return nil
	}
	h.note("The key %s %s; it is revoked, and replaced.", id, how)
	if err := h.client.PurgeKey(ctx, h.who.Train, id); err != nil && !isNotFound(err) {
		h.kept.ended = append(h.kept.ended, endedKey{h.who, id, h.now}) // the next one takes it from the list
	}
	return nil
}

// lostAnswer returns the key that a request has issued whose answer was lost, from what the server says to its repetition; "" for any other error and for none.
func lostAnswer(err error) string {
	if err == nil {
		return ""
	}
	if code := problem(err).Code; code != "already_issued" && code != "idempotency_answer_lost" {
		return ""
	}
	return keyNamed.FindString(problem(err).Detail)
}

var keyNamed = regexp.MustCompile(`\bkey_[0-9a-z]{8,}\b`)

// refusal reports whether the server has answered that it made nothing, as opposed to having failed on the way, or being at it still.
func refusal(err error) bool {
	var refused *client.Error
	return errors.As(err, &refused) && refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests && refused.Code != "idempotency_in_progress"
}
