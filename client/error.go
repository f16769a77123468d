package client

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// FieldError is one thing wrong with a request: where, and a sentence. It never holds the rejected value.
type FieldError struct {
	Pointer string `json:"pointer" doc:"A JSON pointer (RFC 6901) into the body, or query.NAME, path.NAME or header.NAME."`
	Message string `json:"message"`
}

// Problem is the body of every refusal (RFC 9457), of type application/problem+json.
type Problem struct {
	Title     string       `json:"title" doc:"The name of the status."`
	Status    int          `json:"status" doc:"The HTTP status."`
	Code      string       `json:"code" doc:"A stable code; the reference lists them all."`
	Detail    string       `json:"detail" doc:"What happened and what to do next."`
	Errors    []FieldError `json:"errors,omitempty" doc:"What is wrong with which field. Never the rejected value."`
	RequestID string       `json:"request_id,omitempty" doc:"The id under which the server's log tells of this request."`
}

// Error is a refusal by the server.
type Error struct {
	Status    int
	Code      string // stable; "" when something that is not Signalbox answered
	Title     string
	Detail    string
	Errors    []FieldError
	RequestID string
	// RetryAfter is how long to wait before another try makes sense; 0 when waiting does not help.
	RetryAfter time.Duration
}

// Error says what happened, what to do next, and which fields are wrong.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Detail)
	for _, f := range e.Errors {
		b.WriteString("\n  ")
		if f.Pointer != "" {
			b.WriteString(f.Pointer + ": ")
		}
		b.WriteString(f.Message)
	}
	if e.Status >= 500 && e.RequestID != "" {
		b.WriteString(" (request " + e.RequestID + ")")
	}
	return b.String()
}

// readError makes an [*Error] of an answer that is no success. A body that is no problem document is not quoted: it comes from something
// else in between.
func readError(resp *http.Response, body []byte) error {
	e := &Error{Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode), RequestID: resp.Header.Get("X-Request-ID")}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var p Problem
	if kind == "application/problem+json" && json.Unmarshal(body, &p) == nil && p.Code != "" {
		e.Code, e.Title, e.Detail, e.Errors = p.Code, p.Title, p.Detail, p.Errors
		if p.RequestID != "" {
			e.RequestID = p.RequestID
		}
		return e
	}
	e.Detail = fmt.Sprintf("The answer was %d %s and did not come from Signalbox's API; check the address and what stands between.", resp.StatusCode, e.Title)
	return e
}
