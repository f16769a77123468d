package api

import (
	"bytes"
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

	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/rate"
)

const planted = "planted-7q2x"

// stand is a door with operations of the test's own.
type stand struct {
	*service
	server *httptest.Server
	log    *bytes.Buffer
}

// unlimited lets everything through.
type unlimited struct{}

func (unlimited) Take(context.Context, rate.Rule, string) error { return nil }

func newStand(t *testing.T, register func(*service)) *stand {
	t.Helper()
	log := &bytes.Buffer{}
	s := &service{patience: 100 * time.Millisecond, Config: Config{Limits: unlimited{}, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}}
	s.router = &router{lost: s.lost, wrong: s.wrong}
	s.huma = humago.New(s.router, s.humaConfig())
	register(s)
	server := httptest.NewServer(&Door{service: s})
	t.Cleanup(server.Close)
	return &stand{service: s, server: server, log: log}
}

// handling is a stand with one public operation.
func handling(t *testing.T, handle func(context.Context) error) *stand {
	return newStand(t, func(s *service) {
		add(s, route{method: "GET", path: "/api/x", id: "x", summary: "x", access: public}, func(ctx context.Context, _ identity.Caller, _ *struct{}) (*struct {
			Body string
		}, error) {
			return &struct{ Body string }{planted}, handle(ctx)
		})
	})
}

func (s *stand) get(t *testing.T, target string) (*http.Response, string) {
	t.Helper()
	resp, err := http.Get(s.server.URL + target)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(b)
}

// TestPlainErrorIsHidden: huma would put a handler's error text into the body.
func TestPlainErrorIsHidden(t *testing.T) {
	s := handling(t, func(context.Context) error { return fmt.Errorf("query %s: %w", planted, errors.New(planted)) })
	resp, body := s.get(t, "/api/x")
	require.Equal(t, 500, resp.StatusCode)
	require.Equal(t, problemType, resp.Header.Get("Content-Type"))
	require.NotContains(t, body, planted)
	require.Contains(t, body, `"code":"internal"`)
	require.Contains(t, s.log.String(), planted, "the cause is for the log")
	require.Contains(t, s.log.String(), resp.Header.Get("X-Request-Id"))
}

func TestFaultIsAnswered(t *testing.T) {
	s := handling(t, func(context.Context) error {
		return fault.New(fault.Unavailable, "database_unavailable", "Wait.").After(7).Because(errors.New(planted)).With("/limit", "is bad")
	})
	resp, body := s.get(t, "/api/x")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, "7", resp.Header.Get("Retry-After"))
	require.Contains(t, body, `"pointer":"query.limit"`, "an operation without a body has no JSON pointers")
	require.NotContains(t, body, planted)
}

// TestPanicIsHidden: a panic is a clean refusal, without its text anywhere unless it is the runtime's own.
func TestPanicIsHidden(t *testing.T) {
	var none []string
	for name, c := range map[string]struct {
		panics func()
		logged string
	}{
		"text":    {func() { panic(planted) }, "string"},
		"error":   {func() { panic(errors.New(planted)) }, "*errors.errorString"},
		"runtime": {func() { _ = none[len(planted)] }, "index out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			s := handling(t, func(context.Context) error { c.panics(); return nil })
			resp, body := s.get(t, "/api/x")
			require.Equal(t, 500, resp.StatusCode)
			require.Equal(t, problemType, resp.Header.Get("Content-Type"))
			require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
			require.Contains(t, body, resp.Header.Get("X-Request-Id"))
			require.NotContains(t, body, planted)
			require.NotContains(t, s.log.String(), planted)
			require.Contains(t, s.log.String(), c.logged)
			require.Contains(t, s.log.String(), "GET /api/x")
		})
	}
}

// TestHalfAnAnswerIsNoAnswer: when encoding fails after the status was chosen, the client gets a refusal and not a truncated success.
func TestHalfAnAnswerIsNoAnswer(t *testing.T) {
	s := newStand(t, func(s *service) {
		add(s, route{method: "GET", path: "/api/x", id: "x", summary: "x", access: public}, func(context.Context, identity.Caller, *struct{}) (*struct {
			ETag string `header:"ETag"`
			Body map[string]any
		}, error) {
			return &struct {
				ETag string `header:"ETag"`
				Body map[string]any
			}{"tag", map[string]any{"a": planted, "z": func() {}}}, nil
		})
	})
	resp, body := s.get(t, "/api/x")
	require.Equal(t, 500, resp.StatusCode)
	require.Equal(t, problemType, resp.Header.Get("Content-Type"))
	require.Empty(t, resp.Header.Get("ETag"))
	require.NotContains(t, body, planted)
	require.NotContains(t, body, "marshaling")
}

// TestForgottenCheck: when a room lets through what the table refuses, nothing of it goes out.
func TestForgottenCheck(t *testing.T) {
	s := handling(t, func(ctx context.Context) error {
		exchangeOf(ctx).refusal = fault.New(fault.Forbidden, "forbidden", "no")
		return nil
	})
	resp, body := s.get(t, "/api/x")
	require.Equal(t, 500, resp.StatusCode)
	require.NotContains(t, body, planted)
	require.Contains(t, s.log.String(), "permission table refuses")
}

// TestRouteWithoutPermission: it cannot be registered.
func TestRouteWithoutPermission(t *testing.T) {
	for _, access := range []string{"", " ", "credentials:reed", "credentials:read unknown", "none credentials:read"} {
		s := newStand(t, func(s *service) {
			add(s, route{method: "GET", path: "/api/x", id: "x", summary: "x", access: access}, func(context.Context, identity.Caller, *struct{}) (*struct{}, error) {
				return nil, nil
			})
		})
		require.Len(t, s.broken, 1, access)
		require.Empty(t, s.router.entries, "it was registered all the same")
	}
}

// TestRouteThatAnswersWhoLostTheirRight: a POST whose permission goes no further than grants for some role must say who is answered again.
func TestRouteThatAnswersWhoLostTheirRight(t *testing.T) {
	nobody := func(context.Context, identity.Caller, string, []byte) error { return nil }
	for _, c := range []struct {
		r    route
		fine bool
	}{
		{route{method: "POST", access: "credentials:write"}, false},
		{route{method: "POST", access: "trains:write credentials:read", byGrant: identity.CredentialRead}, false},
		{route{method: "POST", access: "credentials:write", again: nobody}, true},
		{route{method: "POST", access: "credentials:write", keyless: true}, true},
		{route{method: "PATCH", access: "credentials:write"}, true},
		{route{method: "POST", access: "keys:write"}, false},
		{route{method: "POST", access: "incidents:write keys:write"}, false},
		{route{method: "POST", access: "trains:write"}, true},
	} {
		c.r.path, c.r.id, c.r.summary = "/api/x", "x", "x"
		s := newStand(t, func(s *service) {
			add(s, c.r, func(context.Context, identity.Caller, *struct{}) (*struct{}, error) { return nil, nil })
		})
		require.Equal(t, c.fine, len(s.broken) == 0, "%s %s", c.r.method, c.r.access)
	}
}

// TestUnsentBodyLength: a body whose length is not announced is capped all the same.
func TestUnsentBodyLength(t *testing.T) {
	s := newStand(t, func(s *service) {
		add(s, route{method: "POST", path: "/api/x", id: "x", summary: "x", access: public, maxBody: 1000}, func(_ context.Context, _ identity.Caller, in *struct {
			Body struct {
				Text string `json:"text" maxLength:"2000"`
			}
		}) (*struct{}, error) {
			return nil, nil
		})
		add(s, route{method: "DELETE", path: "/api/x", id: "y", summary: "y", access: public}, func(context.Context, identity.Caller, *struct{}) (*struct{}, error) { return nil, nil })
	})
	send := func(method string, n int) int {
		body := io.MultiReader(strings.NewReader(`{"text":"`), strings.NewReader(strings.Repeat("a", n)), strings.NewReader(`"}`))
		req, err := http.NewRequest(method, s.server.URL+"/api/x", body)
		require.NoError(t, err)
		require.EqualValues(t, 0, req.ContentLength)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	require.Equal(t, 204, send("POST", 1000-len(`{"text":""}`)), "exactly the limit")
	require.Equal(t, 413, send("POST", 1001-len(`{"text":""}`)))
	require.Equal(t, 413, send("POST", 100_000))
	require.Equal(t, 400, send("DELETE", 1))
}

// TestSlowBody: a body must arrive in time, and an operation that takes longer than that is not cut off.
func TestSlowBody(t *testing.T) {
	cut := make(chan error, 1)
	s := newStand(t, func(s *service) {
		add(s, route{method: "POST", path: "/api/x", id: "x", summary: "x", access: public}, func(ctx context.Context, _ identity.Caller, _ *struct{ Body struct{} }) (*struct{}, error) {
			time.Sleep(3 * s.patience)
			cut <- ctx.Err()
			return nil, nil
		})
	})
	send := func(body io.Reader) (int, string) {
		resp, err := http.Post(s.server.URL+"/api/x", "application/json", body)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(b)
	}
	status, _ := send(strings.NewReader(`{}`))
	require.Equal(t, 204, status)
	require.NoError(t, <-cut)

	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	go func() { _, _ = io.WriteString(w, `{"`) }()
	status, body := send(r)
	require.Equal(t, 400, status)
	require.Contains(t, body, "malformed_request")
}

// TestRequestID: ours always; an id that an outer handler of ours has set is kept, one that the client sent is not.
func TestRequestID(t *testing.T) {
	d := &Door{service: handling(t, func(context.Context) error { return nil }).service}
	for sent, keep := range map[string]bool{"req_01jd0000000000000000000000": true, "planted": false, "": false} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/api/x", nil)
		r.Header.Set("X-Request-ID", "req_01jd0000000000000000000001")
		w.Header().Set("X-Request-ID", sent)
		d.ServeHTTP(w, r)
		got := w.Header().Get("X-Request-ID")
		require.Equal(t, keep, got == sent, sent)
		require.NotEqual(t, "req_01jd0000000000000000000001", got)
	}
}

// TestParameterErrors: huma's own errors of parameters come out as ours, without the value.
func TestParameterErrors(t *testing.T) {
	s := newStand(t, func(s *service) {
		add(s, route{method: "GET", path: "/api/x", id: "x", summary: "x", access: public}, func(context.Context, identity.Caller, *struct {
			N int    `query:"n" minimum:"1"`
			S string `query:"s" enum:"a,b"`
		}) (*struct{}, error) {
			return nil, nil
		})
	})
	resp, body := s.get(t, "/api/x?n="+planted+"&s="+planted)
	require.Equal(t, 422, resp.StatusCode)
	require.NotContains(t, body, planted)
	var p struct {
		Code   string
		Errors []struct{ Pointer, Message string }
	}
	require.NoError(t, json.Unmarshal([]byte(body), &p))
	require.Equal(t, "validation_failed", p.Code)
	require.Len(t, p.Errors, 2)
	require.Equal(t, "query.n", p.Errors[0].Pointer)
	require.Equal(t, "query.s", p.Errors[1].Pointer)
}

// TestUnmarshalHidesInput: should a body pass the schema and not its type, encoding/json's text, which quotes it, stays inside.
func TestUnmarshalHidesInput(t *testing.T) {
	var v struct{ A int8 }
	err := unmarshal([]byte(`{"A":999}`), &v)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "999")
}
