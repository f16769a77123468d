package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
)

const token = "sbp_planted0123456789"

// answering returns a client of a server that answers with that.
func answering(t *testing.T, h http.HandlerFunc, opts ...client.Option) *client.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return client.New(server.URL+"/", token, opts...)
}

func TestRequest(t *testing.T) {
	var got *http.Request
	var body []byte
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("ETag", `"1-2"`)
		_, _ = io.WriteString(w, `{"credential":{"id":"cred_1","created_at":"2030-01-02T03:04:05.000006Z"}}`)
	}, client.WithUserAgent("story"))
	name := "x"
	cred, err := c.UpdateCredential(t.Context(), "a/b?c", client.CredentialPatch{Name: &name, Clear: []string{"notes", "tags"}, IfMatch: `"1-1"`})
	require.NoError(t, err)
	require.Equal(t, "cred_1", cred.ID)
	require.Equal(t, `"1-2"`, cred.ETag)
	require.Equal(t, 6*time.Microsecond, time.Duration(cred.CreatedAt.Nanosecond()))
	require.Equal(t, "PATCH", got.Method)
	require.Equal(t, "/api/credentials/a%2Fb%3Fc", got.URL.EscapedPath(), "an id never changes the route")
	require.Equal(t, "Bearer "+token, got.Header.Get("Authorization"))
	require.Equal(t, `"1-1"`, got.Header.Get("If-Match"))
	require.Equal(t, "story", got.UserAgent())
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	require.JSONEq(t, `{"name":"x","notes":null,"tags":null}`, string(body), "what is not set is not sent; what is cleared is null")

	before := time.Date(2030, 1, 1, 1, 0, 0, 7000, time.FixedZone("", 3600))
	_, err = c.ListCredentials(t.Context(), client.CredentialFilter{Type: "oauth", ExpiresBefore: &before, Limit: 5})
	require.NoError(t, err)
	require.Equal(t, "expires_before=2030-01-01T00%3A00%3A00.000007Z&limit=5&type=oauth", got.URL.RawQuery)
	require.Empty(t, body)
}

func TestProblemBecomesAnError(t *testing.T) {
	c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(503)
		_, _ = io.WriteString(w, `{"title":"Service Unavailable","status":503,"code":"audit_unavailable","detail":"Wait.","errors":[{"pointer":"/a","message":"is bad"}],"request_id":"req_1"}`)
	})
	_, err := c.WhoAmI(t.Context())
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, 503, e.Status)
	require.Equal(t, "audit_unavailable", e.Code)
	require.Equal(t, 3*time.Second, e.RetryAfter)
	require.Equal(t, []client.FieldError{{Pointer: "/a", Message: "is bad"}}, e.Errors)
	require.Equal(t, "Wait.\n  /a: is bad (request req_1)", e.Error())
}

// TestForeignAnswers: what did not come from Signalbox's API is neither believed nor quoted.
func TestForeignAnswers(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"HTML error": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(502)
			_, _ = io.WriteString(w, "<html>planted")
		},
		"JSON error": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"code":"planted","detail":"planted"}`)
		},
		"HTML": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>planted")
		},
		"other JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"caller":"planted"}`)
		},
		"over the cap": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"caller":{"id":"planted"}}`)
			_, _ = io.WriteString(w, strings.Repeat(" ", client.MaxReply))
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := answering(t, h).WhoAmI(t.Context())
			require.Error(t, err)
			require.NotContains(t, err.Error(), "planted")
		})
	}
}

// TestNoRedirect: a redirect could carry the token to another place, so it is an error, whatever client the caller passes.
func TestNoRedirect(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Error("followed a redirect, with the token " + r.Header.Get("Authorization"))
	}))
	defer other.Close()
	own := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
	for _, opts := range [][]client.Option{nil, {client.WithHTTPClient(own)}} {
		c := answering(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/planted", http.StatusTemporaryRedirect)
		}, opts...)
		_, err := c.CreateTrain(t.Context(), client.TrainDraft{TrainID: "web"})
		var e *client.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, 307, e.Status)
		require.NotContains(t, err.Error(), "planted")
	}
	require.NoError(t, own.CheckRedirect(nil, nil), "the caller's client was changed")
}

// TestTokenIsNotPrinted: no printer finds the token in a client, and no error holds it.
func TestTokenIsNotPrinted(t *testing.T) {
	c := client.New("http://127.0.0.1:1", token)
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "client", c, "value", *c)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "client", c, "value", *c)
	encoded, _ := json.Marshal([]any{c})
	_, err := c.WhoAmI(t.Context())
	require.Error(t, err)
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%+v", *c), fmt.Sprintf("%#v", *c), log.String(), string(encoded), err.Error()} {
		require.NotContains(t, s, "planted")
	}
}

func TestBadAddress(t *testing.T) {
	for _, base := range []string{"", "127.0.0.1:8420", "ftp://x", "http://", "http://%zz", "://", "http://u:planted@%zz"} {
		_, err := client.New(base, token).WhoAmI(t.Context())
		require.ErrorContains(t, err, "http://127.0.0.1:8420", base)
		require.NotContains(t, err.Error(), "planted")
	}
}

func TestLinkTellsNewFromExisting(t *testing.T) {
	status := 201
	c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"account":{"credential_id":"cred_1"}}`)
	})
	for _, status = range []int{201, 200} {
		link, created, err := c.Link(t.Context(), "web", client.LinkDraft{CredentialID: "cred_1"})
		require.NoError(t, err)
		require.Equal(t, "cred_1", link.CredentialID)
		require.Equal(t, status == 201, created)
	}
}

// TestWithTokens: each request asks for its token, and when there is none nothing is sent.
func TestWithTokens(t *testing.T) {
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"version":"1"}`))
	}))
	defer server.Close()
	tokens, none := []string{"planted-1", "planted-2"}, errors.New("there is no token")
	c := client.New(server.URL, "unused", client.WithTokens(func(context.Context) (string, error) {
		if len(tokens) == 0 {
			return "", none
		}
		next := tokens[0]
		tokens = tokens[1:]
		return next, nil
	}))
	for range 2 {
		_, err := c.Version(t.Context())
		require.NoError(t, err)
	}
	_, err := c.Version(t.Context())
	require.ErrorIs(t, err, none)
	require.Equal(t, []string{"Bearer planted-1", "Bearer planted-2"}, seen)
}
