package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/fault"
)

const (
	problemType   = "application/problem+json"
	authRealm     = `Bearer realm="Signalbox"`
	authBadBearer = authRealm + `, error="invalid_token"`
)

// problem is a refusal on its way out. It is an error so that huma can be handed one.
type problem struct {
	client.Problem
	header http.Header
}

// Error returns the sentence for the user.
func (p *problem) Error() string { return p.Detail }

// GetStatus tells huma the HTTP status.
func (p *problem) GetStatus() int { return p.Status }

// GetHeaders tells huma the headers.
func (p *problem) GetHeaders() http.Header { return p.header }

// ContentType tells huma the type of the body.
func (p *problem) ContentType(string) string { return problemType }

// problem makes the answer to err and logs what only an operator may know. It is called once a request.
func (s *service) problem(ctx context.Context, ex *exchange, err error) *problem {
	f := fault.Of(err)
	attrs := []slog.Attr{
		slog.String("request_id", ex.id), slog.String("route", ex.route), slog.String("code", f.Code), slog.String("caller", ex.caller.ID),
	}
	level := slog.LevelDebug
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		// The client has gone; nobody failed.
	case f.Kind == fault.Internal:
		level = slog.LevelError
	case f.Kind == fault.Unavailable:
		level = slog.LevelWarn
	}
	if cause := f.Unwrap(); cause != nil && level > slog.LevelDebug {
		attrs = append(attrs, slog.String("cause", cause.Error()))
	}
	s.Log.LogAttrs(ctx, level, "an API request was refused", attrs...)
	return newProblem(ex, f)
}

func newProblem(ex *exchange, f *fault.Error) *problem {
	status := f.Kind.Status()
	p := &problem{header: http.Header{}, Problem: client.Problem{
		Title: http.StatusText(status), Status: status, Code: f.Code, Detail: f.Detail, RequestID: ex.id,
	}}
	for _, field := range f.Fields {
		pointer := field.Pointer
		if name, ok := strings.CutPrefix(pointer, "/"); ok && !ex.hasBody {
			pointer = "query." + name // a room does not know how its arguments came
		}
		p.Errors = append(p.Errors, client.FieldError{Pointer: pointer, Message: field.Message})
	}
	if f.RetryAfter > 0 {
		p.header.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	if f.Kind == fault.Unauthenticated {
		p.header.Set("WWW-Authenticate", authRealm)
		if ex.bearer {
			p.header.Set("WWW-Authenticate", authBadBearer)
		}
	}
	return p
}

// refuse answers a request that does not reach its operation.
func (s *service) refuse(w http.ResponseWriter, r *http.Request, err error, headers ...string) {
	ex := exchangeOf(r.Context())
	p := s.problem(r.Context(), ex, err)
	for i := 0; i+1 < len(headers); i += 2 {
		p.header.Set(headers[i], headers[i+1])
	}
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_ = marshal(w, p) // into memory
}

// lost answers a path that does not exist. It does not say the path.
func (s *service) lost(w http.ResponseWriter, r *http.Request) {
	s.refuse(w, r, fault.New(fault.NotFound, "not_found", "There is no such route. GET /api/openapi.json lists all."))
}

// wrong answers a path that exists with other methods.
func (s *service) wrong(w http.ResponseWriter, r *http.Request, methods []string) {
	allow := strings.Join(methods, ", ")
	s.refuse(w, r, fault.New(fault.MethodNotAllowed, "method_not_allowed", "This route does not have that method; it has "+allow+"."), "Allow", allow)
}

// transform turns the one error that huma still makes by itself, a bad path or query parameter or header, into a problem. huma's text is a
// constant or speaks of the schema; its value is dropped.
func transform(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	f := fault.New(fault.Unprocessable, "validation_failed", "A parameter is not valid; see errors.")
	for _, e := range m.Errors {
		if e != nil {
			_ = f.With(strings.TrimPrefix(e.Location, "body"), e.Message)
		}
	}
	p := newProblem(exchangeOf(ctx.Context()), f)
	p.Status, p.Title = m.Status, http.StatusText(m.Status)
	return p, nil
}

// marshal writes v as JSON without escaping <, > and &: nothing here is read as HTML.
func marshal(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// unmarshal decodes a body that was checked against its schema. Its error hides encoding/json's text, which quotes the input.
func unmarshal(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return errors.New("does not fit this route")
	}
	return nil
}
