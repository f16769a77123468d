package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// The signature is that of the Standard Webhooks (standardwebhooks.com, version 1): HMAC-SHA256 over id, time and body, joined by dots,
// under the bytes that the secret stands for.
const (
	signingPrefix = "whsec_"
	signingLeast  = 24
	signingMost   = 64
)

// webhookBody is what a webhook gets; type, timestamp and data are those of the Standard Webhooks.
type webhookBody struct {
	Type      Kind   `json:"type"`
	Timestamp string `json:"timestamp"`
	Data      struct {
		Delivery string `json:"delivery"`
		content
	} `json:"data"`
}

// signingKey returns the bytes that a signing secret stands for.
func signingKey(v secret.Value) ([]byte, bool) {
	text, ok := strings.CutPrefix(v.Reveal(), signingPrefix)
	if !ok {
		return nil, false
	}
	key, err := base64.StdEncoding.DecodeString(text)
	return key, err == nil && len(key) >= signingLeast && len(key) <= signingMost && base64.StdEncoding.EncodeToString(key) == text
}

func validSigning(v secret.Value) bool { _, ok := signingKey(v); return ok }

// sign returns the header webhook-signature.
func sign(key []byte, id string, at time.Time, body []byte) string {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + ".")) // a hash never fails
	_, _ = h.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func (r *Room) sendWebhook(ctx context.Context, p parcel) verdict {
	key, ok := signingKey(p.secrets[secretSigning])
	if !ok {
		return verdict{detail: "The channel's signing secret is damaged. Give it anew."}
	}
	b := webhookBody{Type: p.kind, Timestamp: p.at.Format(store.TimeFormat)}
	b.Data.Delivery, b.Data.content = p.id, p.content
	body, err := json.Marshal(b)
	if err != nil {
		return verdict{detail: "The message cannot be encoded."}
	}
	now := r.now()
	header := http.Header{}
	header.Set("Signalbox-Delivery", p.id)
	header.Set("Webhook-Id", p.id)
	header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	header.Set("Webhook-Signature", sign(key, p.id, now, body))
	return r.post(ctx, p, body, header, func(resp *http.Response) verdict {
		if resp.StatusCode < 200 || resp.StatusCode > 299 {
			return refusal(resp)
		}
		return verdict{delivered: true}
	})
}

// Signature returns what the header webhook-signature says of a body that was sent at a time with an id, and false when the signing secret is none. It is for
// whoever signs as the channels do.
func Signature(signing secret.Value, id string, at time.Time, body []byte) (string, bool) {
	key, ok := signingKey(signing)
	if !ok {
		return "", false
	}
	return sign(key, id, at, body), true
}
