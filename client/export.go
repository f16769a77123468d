package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"time"
)

// AuditExportFilter selects the records of an export. Zero fields do not select.
type AuditExportFilter struct {
	From, To                                  *time.Time
	Actor, Target, Action, Outcome, RequestID string
	Format                                    string // ndjson, which "" means too, or csv
}

func (f AuditExportFilter) query() url.Values {
	q := AuditFilter{
		From: f.From, To: f.To, Actor: f.Actor, Target: f.Target, Action: f.Action, Outcome: f.Outcome, RequestID: f.RequestID,
	}.query()
	setText(q, "format", f.Format)
	return q
}

// open sends the call and returns a body of any length, which the caller closes. Only ctx bounds how long that may take.
func (c *Client) open(ctx context.Context, k call, kind string) (io.ReadCloser, error) {
	body, _, err := c.openWith(ctx, k, kind)
	return body, err
}

// openWith is open, and returns the header of the answer too.
func (c *Client) openWith(ctx context.Context, k call, kind string) (io.ReadCloser, http.Header, error) {
	req, err := c.request(ctx, k)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", kind+", application/problem+json")
	patient := *c.http
	patient.Timeout = 0
	resp, err := patient.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("reach Signalbox: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(io.LimitReader(resp.Body, MaxReply))
		if err != nil {
			return nil, nil, fmt.Errorf("read Signalbox's answer: %w", err)
		}
		return nil, nil, readError(resp, body)
	}
	if got, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); got != kind {
		_ = resp.Body.Close()
		return nil, nil, fmt.Errorf("read Signalbox's answer: its type is %q, not %s; is %s a Signalbox server?", got, kind, c.base)
	}
	return resp.Body, resp.Header, nil
}

// errIncomplete is what an export that broke off ends with.
func errIncomplete(err error) error {
	return fmt.Errorf("the export broke off, so what was received is not all of it; export again: %w", err)
}

// ExportAudit copies the audit records that f selects to w as the server sends them, the newest first: one JSON object a line, or CSV. When
// it returns an error, what w got is not complete.
func (c *Client) ExportAudit(ctx context.Context, f AuditExportFilter, w io.Writer) error {
	kind := "application/x-ndjson"
	if f.Format == "csv" {
		kind = "text/csv"
	}
	body, err := c.open(ctx, call{method: http.MethodGet, path: path("audit", "export"), query: f.query()}, kind)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if _, err := io.Copy(w, body); err != nil {
		return errIncomplete(err)
	}
	return nil
}

// EventStream is an export under way. Read it with [EventStream.All], or close it.
type EventStream struct{ body io.ReadCloser }

// AuditEvents begins an export of the audit records that f selects, the newest first; f.Format is not used.
func (c *Client) AuditEvents(ctx context.Context, f AuditExportFilter) (*EventStream, error) {
	f.Format = "ndjson"
	body, err := c.open(ctx, call{method: http.MethodGet, path: path("audit", "export"), query: f.query()}, "application/x-ndjson")
	if err != nil {
		return nil, err
	}
	return &EventStream{body}, nil
}

// All yields one record after the other. An error is the last that it yields, and says that the export is not complete. It closes the stream
// and can be ranged over once.
func (s *EventStream) All() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		defer func() { _ = s.Close() }()
		lines := bufio.NewReader(s.body)
		for {
			line, err := lines.ReadBytes('\n')
			switch {
			case errors.Is(err, io.EOF) && len(line) == 0:
				return
			case err != nil: // a last line without its end among them
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				yield(Event{}, errIncomplete(err))
				return
			}
			var e Event
			if err := json.Unmarshal(line, &e); err != nil {
				yield(Event{}, errIncomplete(errors.New("a line is not a record that this client knows")))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Close ends the export.
func (s *EventStream) Close() error { return s.body.Close() }
