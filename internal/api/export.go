package api

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

const (
	typeNDJSON = "application/x-ndjson"
	typeCSV    = "text/csv"

	// exportPage is how many records are in memory at a time.
	exportPage = 500
	// exportPatience is how long the client may take to receive one page.
	exportPatience = 30 * time.Second
	// exportEnd bounds the write that records the end.
	exportEnd = 5 * time.Second
)

// exportFormat is one of the formats.
type exportFormat string

// Schema lists the formats.
func (exportFormat) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{"ndjson", "csv"}}
}

// stream is an answer that is sent as it is made.
type stream struct {
	Body func(huma.Context)
}

// export is one export under way.
type export struct {
	*service
	caller  identity.Caller
	query   audit.Query
	csv     bool
	filters []string
	records int64
	ended   atomic.Pointer[error] // why the caller may have no more
}

func (s *service) exportAudit(ctx context.Context, caller identity.Caller, in *struct {
	AuditFilter
	Actor  string       `query:"actor" maxLength:"100" doc:"The id of who acted."`
	Target string       `query:"target" maxLength:"100" doc:"The id of what was acted on."`
	Format exportFormat `query:"format" doc:"ndjson when it is left out."`
}) (*stream, error) {
	if err := identity.RequireFresh(caller, s.Clock()); err != nil {
		return nil, errors.Join(s.refuseAudit(ctx, caller, err), err)
	}
	q := AuditQuery{AuditFilter: in.AuditFilter}.query()
	q.Actor, q.Target, q.Limit = in.Actor, in.Target, exportPage
	e := &export{service: s, caller: caller, query: q, csv: in.Format == "csv"}
	for _, f := range []struct {
		name string
		used bool
	}{
		{"from", !q.From.IsZero()}, {"to", !q.To.IsZero()}, {"actor", q.Actor != ""}, {"target", q.Target != ""}, {"action", q.Action != ""},
		{"outcome", q.Outcome != ""}, {"request_id", q.RequestID != ""},
	} {
		if f.used {
			e.filters = append(e.filters, f.name)
		}
	}
	first, err := s.Audit.Search(ctx, q)
	if err != nil {
		return nil, err
	}
	return &stream{func(c huma.Context) {
		own, ok := c.(*checked)
		if !ok {
			return
		}
		req, w := humago.Unwrap(own.asked)
		if out, ok := w.(*reply); ok {
			e.serve(out, req, first)
		}
	}}, nil
}

// serve answers with the first page and all that follow.
func (e *export) serve(w *reply, req *http.Request, first audit.Page) {
	kind, name := typeNDJSON, "signalbox-audit.ndjson"
	if e.csv {
		kind, name = typeCSV+"; charset=utf-8; header=present", "signalbox-audit.csv"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	if req.Method == http.MethodHead {
		return
	}
	if !req.ProtoAtLeast(1, 1) {
		// There the end of the connection is the end of the answer, so nobody could tell that it broke off.
		w.reset()
		e.refuse(w, req, fault.New(fault.Invalid, "malformed_request", "An export needs HTTP/1.1 or later, also from a proxy in between (nginx: proxy_http_version 1.1)."))
		return
	}
	if err := e.record(req.Context(), store.OutcomeOK, "", store.Str("act", "begin")); err != nil {
		w.reset()
		e.refuse(w, req, err)
		return
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Time{}) // that of a short request would cancel this one
	w.stream(http.StatusOK)
	watching, stop := context.WithCancel(req.Context())
	var watch sync.WaitGroup
	watch.Go(func() { e.watch(watching, conn) })
	err := e.pages(req.Context(), w, conn, first)
	stop()
	watch.Wait()
	if cause := e.ended.Load(); err != nil && cause != nil {
		err = *cause
	}
	outcome, reason := store.OutcomeOK, ""
	if err != nil {
		w.broken = true
		outcome, reason = store.OutcomeFailed, "broken_off"
		switch {
		case fault.KindOf(err) == fault.Unauthenticated, fault.KindOf(err) == fault.Forbidden:
			reason = "revoked" // first, because net/http ends the context of a request whose answer was broken off, too
		case req.Context().Err() != nil:
			reason = "client_gone"
		}
		e.Log.LogAttrs(req.Context(), slog.LevelWarn, "an export of the audit broke off", slog.String("request_id", e.caller.RequestID), slog.String("reason", reason),
			slog.String("code", fault.Of(err).Code))
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), exportEnd)
	defer cancel()
	if err := e.record(end, outcome, reason, store.Str("act", "end"), store.Int("records", e.records), store.Bool("complete", !w.broken)); err != nil {
		e.Log.LogAttrs(end, slog.LevelWarn, "the end of an export was not recorded", slog.String("request_id", e.caller.RequestID), slog.String("code", fault.Of(err).Code))
	}
}

func (e *export) record(ctx context.Context, outcome, reason string, details ...store.Detail) error {
	ev := e.caller.Event(store.AuditExport, store.Target{Kind: "audit"})
	ev.Outcome, ev.Reason = outcome, reason
	format := "ndjson"
	if e.csv {
		format = "csv"
	}
	ev.Details = append(store.Details(details), store.Str("format", format))
	if len(e.filters) > 0 {
		ev.Details = append(ev.Details, store.Strs("filters", e.filters))
	}
	return e.DB.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) })
}

// exportWatch is how often a caller is asked for again while their client receives.
const exportWatch = 200 * time.Millisecond

// watch breaks the export off when its caller may have no more, also while the client is slow to take a page.
func (e *export) watch(ctx context.Context, conn *http.ResponseController) {
	tick := time.NewTicker(exportWatch)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := e.stillAllowed(ctx); err != nil && ctx.Err() == nil && fault.KindOf(err) != fault.Unavailable {
			e.ended.Store(&err)
			_ = conn.SetWriteDeadline(time.Now())
			return
		}
	}
}

// stillAllowed refuses a caller whose token or session ended meanwhile, or whose role changed.
func (e *export) stillAllowed(ctx context.Context) error {
	caller, err := e.Identity.Again(ctx, e.caller)
	if err != nil {
		return err
	}
	return identity.Allow(caller, identity.AuditRead)
}

// pages sends one page after the other. No transaction is open while the client receives.
func (e *export) pages(ctx context.Context, w io.Writer, conn *http.ResponseController, page audit.Page) error {
	var b bytes.Buffer
	if e.csv {
		if err := writeRow(&b, csvHeader()); err != nil {
			return err
		}
	}
	for {
		for _, ev := range page.Events {
			if err := e.write(&b, shownEvent(ev)); err != nil {
				return err
			}
		}
		if err := conn.SetWriteDeadline(time.Now().Add(exportPatience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		if cause := e.ended.Load(); cause != nil { // asked after the deadline was moved, which the watch may have done before
			return *cause
		}
		e.records += int64(len(page.Events)) // a write that fails may have sent some
		if _, err := w.Write(b.Bytes()); err != nil {
			return err
		}
		if err := conn.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		b.Reset()
		if page.Next == "" {
			return ctx.Err()
		}
		if err := e.stillAllowed(ctx); err != nil {
			return err
		}
		e.query.Cursor = page.Next
		var err error
		if page, err = e.Audit.Search(ctx, e.query); err != nil {
			return err
		}
	}
}

func (e *export) write(b *bytes.Buffer, ev client.Event) error {
	if !e.csv {
		return marshal(b, ev)
	}
	details := ""
	if len(ev.Details) > 0 {
		text, err := json.Marshal(ev.Details)
		if err != nil {
			return err
		}
		details = string(text)
	}
	return writeRow(b, []string{
		ev.ID, ev.At.Format(store.TimeFormat), ev.Actor.Kind, ev.Actor.ID, ev.Actor.Name, ev.OnBehalfOf, ev.Action, ev.Target.Kind, ev.Target.ID, ev.Target.Name,
		ev.Outcome, ev.Reason, ev.RequestID, ev.IP, ev.UserAgent, strings.Join(ev.Fields, " "), details,
	})
}

func csvHeader() []string {
	return []string{
		"id", "at", "actor_kind", "actor_id", "actor_name", "on_behalf_of", "action", "target_kind", "target_id", "target_name",
		"outcome", "reason", "request_id", "ip", "user_agent", "fields", "details",
	}
}

// writeRow writes one line. A spreadsheet takes a cell that begins like a formula for one, and names and user agents are written by anybody;
// such a cell gets an apostrophe before it.
func writeRow(b *bytes.Buffer, cells []string) error {
	for i, c := range cells {
		if c != "" && strings.ContainsRune("=+-@\t\r", rune(c[0])) {
			cells[i] = "'" + c
		}
	}
	out := csv.NewWriter(b)
	if err := out.Write(cells); err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}
