package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"signalbox.dev/signalbox/client"
)

func Example() {
	// A stand-in for http://127.0.0.1:8420 that knows one train.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/trains/web" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"train":{"id":"train_1","train_id":"web","name":"Web","strategy":"hash"}}`)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"title":"Not Found","status":404,"code":"not_found","detail":"There is no such train."}`)
	}))
	defer server.Close()

	ctx := context.Background()
	c := client.New(server.URL, "sbp_…")
	train, err := c.GetTrain(ctx, "web")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(train.Name, train.Strategy)

	_, err = c.GetTrain(ctx, "nowhere")
	var refusal *client.Error
	if errors.As(err, &refusal) {
		fmt.Println(refusal.Code, refusal)
	}
	// Output:
	// Web hash
	// not_found There is no such train.
}
