package client_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Example_webhook is a receiver of Signalbox's notifications. It takes what is signed, and each message once.
func Example_webhook() {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // as `signalbox notify channel add` printed it
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		fmt.Println(err)
		return
	}
	seen := map[string]bool{} // a real receiver keeps this for a day
	receiver := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		if err != nil || verifier.Verify(body, r.Header) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var message struct {
			Type string
			Data struct{ Title string }
		}
		if err := json.Unmarshal(body, &message); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if id := r.Header.Get("webhook-id"); !seen[id] {
			seen[id] = true
			fmt.Println(message.Type, message.Data.Title)
		}
		w.WriteHeader(http.StatusNoContent)
	})

	// What Signalbox sends, twice, and somebody else's attempt.
	body := `{"type":"account.refused","data":{"title":"Account team-alpha is refused by its upstream"}}`
	now := time.Now()
	signature, _ := verifier.Sign("ntf_1", now, []byte(body))
	for _, sent := range []string{signature, signature, "v1,bm90IHNpZ25lZA=="} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("webhook-id", "ntf_1")
		r.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
		r.Header.Set("webhook-signature", sent)
		w := httptest.NewRecorder()
		receiver.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// account.refused Account team-alpha is refused by its upstream
	// 204
	// 204
	// 401
}
