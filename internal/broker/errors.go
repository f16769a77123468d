package broker

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
)

// errorType returns the type that Anthropic's API gives an error of that kind (docs.anthropic.com/en/api/errors); agents and SDKs choose
// their class and their wording by it.
func errorType(f *fault.Error) string {
	switch f.Kind {
	case fault.Unauthenticated:
		return "authentication_error"
	case fault.Forbidden:
		return "permission_error"
	case fault.NotFound:
		return "not_found_error"
	case fault.TooLarge:
		return "request_too_large"
	case fault.TooMany:
		if f.Code == "budget_spent" {
			return "billing_error"
		}
		return "rate_limit_error"
	case fault.Invalid, fault.Unprocessable, fault.MethodNotAllowed, fault.Conflict, fault.UnsupportedMedia, fault.Precondition:
		return "invalid_request_error"
	default:
		return "api_error"
	}
}

// retryable reports whether an official SDK should try again by itself. Mostly it should not: at the first try the agent's user reads our
// text, while a retried error reads as "overloaded". While an instance drains or the database is away, a retry is the cure.
func retryable(f *fault.Error) bool {
	return f.Kind == fault.Unavailable && f.RetryAfter > 0 && f.Code != "upstream_unreachable"
}

// statusOf differs from the fault's own status in one thing: to Anthropic's clients every malformed request is a 400.
func statusOf(f *fault.Error) int {
	if f.Kind == fault.Unprocessable {
		return http.StatusBadRequest
	}
	return f.Kind.Status()
}

// leftover is how long the rest of a refused request's body may take.
const leftover = 3 * time.Second

// fail answers with err in Anthropic's shape. Nothing of another answer may have been sent.
func (b *Broker) fail(w http.ResponseWriter, r *http.Request, rid string, err error) {
	if r.Context().Err() != nil {
		abort(w) // the client is gone, or has closed its half: an empty 200 would be a lie
		return
	}
	// net/http reads what is left of the body before it answers, and a client may announce a body and never send it.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(leftover))
	f := fault.Of(err)
	b.countRefusal(f.Code)
	h := w.Header()
	if f.Kind == fault.Unauthenticated {
		h.Set("WWW-Authenticate", `Bearer realm="Signalbox"`)
	}
	if f.Kind == fault.MethodNotAllowed {
		on, _ := routeOf(r.URL.EscapedPath())
		h.Set("Allow", strings.Join(on.methods, ", "))
	}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	refusedHeaders(h, f, time.Now())
	h.Set("Request-Id", rid) // where the official SDKs look for error.requestID; an upstream's own answer brings its own
	h.Set("X-Should-Retry", strconv.FormatBool(retryable(f)))
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	body := errorBody(f, rid)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(statusOf(f))
	_, _ = w.Write(body) // a client that is gone needs no answer
	b.logFailure(r.Context(), r, rid, f)
}

type wireError struct {
	Type  string    `json:"type"`
	Error wireCause `json:"error"`
	// RequestID is ours: it leads to the audit record and to the log.
	RequestID string `json:"request_id"`
}

type wireCause struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

func errorBody(f *fault.Error, rid string) []byte {
	b, err := json.Marshal(wireError{Type: "error", Error: wireCause{Type: errorType(f), Message: f.Detail}, RequestID: rid})
	if err != nil { // strings always marshal
		return []byte(`{"type":"error","error":{"type":"api_error","message":"internal error"}}`)
	}
	return b
}
