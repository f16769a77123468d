package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// exportRecords is more than two pages of an export.
const exportRecords = 1100

// fill records many events of an actor of their own and returns that actor's id.
func (h *house) fill(n int) string {
	h.t.Helper()
	actor := store.NewID("user")
	h.write(func(tx *store.Tx) error {
		for i := range n {
			ev := store.Event{Actor: store.Actor{Kind: "person", ID: actor, Name: "=cmd|' /C calc'!A0"}, Action: store.TrainUpdate, Target: store.Target{Kind: "train", ID: "train_x", Name: "web"},
				Reason: "number " + strconv.Itoa(i), UserAgent: "quote \" comma , line\nend", Fields: []string{"name", "strategy"}, Details: store.Details{store.Int("n", int64(i)), store.Str("text", "a,b\"c")}}
			if i%2 == 1 {
				ev.Outcome, ev.Action = store.OutcomeRefused, store.TrainRefused
			}
			if err := tx.Record(ev); err != nil {
				return err
			}
		}
		return nil
	})
	return actor
}

// listed returns all records that the list gives, page by page.
func (h *house) listed(f client.AuditFilter) []client.Event {
	h.t.Helper()
	var out []client.Event
	for {
		p, err := h.client.AuditLogs(h.t.Context(), f)
		require.NoError(h.t, err)
		out = append(out, p.Events...)
		if f.Cursor = p.NextCursor; f.Cursor == "" {
			return out
		}
	}
}

// exports returns the records about exports, the oldest first, as "outcome reason details".
func (h *house) exports() []string {
	h.t.Helper()
	var out []string
	for _, e := range h.events() {
		if e.Action == store.AuditExport {
			out = append([]string{strings.Join(strings.Fields(e.Outcome+" "+e.Reason+" "+string(must(e.Details.MarshalJSON()))), " ")}, out...)
		}
	}
	return out
}

func must(b []byte, err error) []byte {
	if err != nil {
		return []byte(err.Error())
	}
	return b
}

// TestExportIsTheList: an export holds what the list holds, in its order and its shape, whatever the number of pages; and is on record.
func TestExportIsTheList(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		actor := h.fill(exportRecords)
		want := h.listed(client.AuditFilter{Actor: actor, Limit: 1000})
		require.Len(t, want, exportRecords)

		var raw bytes.Buffer
		require.NoError(t, h.client.ExportAudit(ctx, client.AuditExportFilter{Actor: actor}, &raw))
		lines := bytes.SplitAfter(bytes.TrimSuffix(raw.Bytes(), []byte("\n")), []byte("\n"))
		require.Len(t, lines, exportRecords)
		for i, line := range lines {
			var got client.Event
			dec := json.NewDecoder(bytes.NewReader(line))
			dec.DisallowUnknownFields()
			require.NoError(t, dec.Decode(&got))
			require.Equal(t, want[i], got)
		}
		stream, err := h.client.AuditEvents(ctx, client.AuditExportFilter{Actor: actor})
		require.NoError(t, err)
		var streamed []client.Event
		for e, err := range stream.All() {
			require.NoError(t, err)
			streamed = append(streamed, e)
		}
		require.Equal(t, want, streamed)

		raw.Reset()
		require.NoError(t, h.client.ExportAudit(ctx, client.AuditExportFilter{Actor: actor, Format: "csv"}, &raw))
		rows, err := csv.NewReader(&raw).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, exportRecords+1)
		require.Equal(t, []string{"id", "at", "actor_kind", "actor_id", "actor_name"}, rows[0][:5])
		for i, row := range rows[1:] {
			e := want[i]
			require.Equal(t, []string{
				e.ID, e.At.Format(store.TimeFormat), "person", actor, "'=cmd|' /C calc'!A0", "", e.Action, "train", "train_x", "web", e.Outcome, e.Reason, "", "",
				e.UserAgent, "name strategy",
			}, row[:16], "a cell that looks like a formula is none")
			require.JSONEq(t, fmt.Sprintf(`{"n":%d,"text":"a,b\"c"}`, exportRecords-1-i), row[16])
		}
		begin, end := `ok {"act":"begin","format":"%s","filters":["actor"]}`, `ok {"act":"end","records":%d,"complete":true,"format":"%s","filters":["actor"]}`
		require.Equal(t, []string{
			fmt.Sprintf(begin, "ndjson"), fmt.Sprintf(end, exportRecords, "ndjson"), fmt.Sprintf(begin, "ndjson"), fmt.Sprintf(end, exportRecords, "ndjson"),
			fmt.Sprintf(begin, "csv"), fmt.Sprintf(end, exportRecords, "csv"),
		}, h.exports())

		a := h.do(request{method: "GET", target: "/api/audit/export?actor=" + actor, token: h.token})
		require.Equal(t, "application/x-ndjson", a.header.Get("Content-Type"))
		require.Equal(t, `attachment; filename="signalbox-audit.ndjson"`, a.header.Get("Content-Disposition"))
		h.headers(a)
		require.Len(t, h.exports(), 8)
		a = h.do(request{method: "HEAD", target: "/api/audit/export?format=csv", token: h.token})
		require.Equal(t, 200, a.status)
		require.Equal(t, "text/csv; charset=utf-8; header=present", a.header.Get("Content-Type"))
		require.Len(t, h.exports(), 8, "nothing left with this")
	})
}

// TestExportFilters: each filter of the list selects the same in an export, and leaves something out.
func TestExportFilters(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		before := time.Now()
		w := h.world()
		actor := h.fill(20)
		all := h.listed(client.AuditFilter{})
		middle := all[len(all)/2].At
		now := time.Now() // the search leaves records itself, which a filter may match, so both are asked for what was before
		request := all[len(all)-8].RequestID
		for name, f := range map[string]client.AuditFilter{
			"from": {From: &middle}, "to": {To: &middle}, "from and to": {From: &before, To: &middle}, "actor": {Actor: actor}, "target": {Target: w.credential},
			"action": {Action: "train.refused"}, "outcome": {Outcome: "refused"}, "request": {RequestID: request}, "two": {Actor: actor, Outcome: "ok"}, "none": {Actor: "nobody"},
		} {
			if f.To == nil {
				f.To = &now
			}
			want := h.listed(f)
			var got []client.Event
			stream, err := h.client.AuditEvents(ctx, client.AuditExportFilter{From: f.From, To: f.To, Actor: f.Actor, Target: f.Target, Action: f.Action, Outcome: f.Outcome, RequestID: f.RequestID})
			require.NoError(t, err)
			for e, err := range stream.All() {
				require.NoError(t, err)
				got = append(got, e)
			}
			require.Equal(t, want, got, name)
			require.Less(t, len(got), len(all), "%s leaves nothing out", name)
			require.Equal(t, name == "none", len(got) == 0, name)
		}
		_, err := h.client.AuditEvents(ctx, client.AuditExportFilter{Action: "planted"})
		refused(t, err, 422, "validation_failed")
		require.ErrorContains(t, h.as(h.with(identity.TokenRead)).ExportAudit(ctx, client.AuditExportFilter{}, io.Discard), "audit:read")
		require.Equal(t, "audit.read refused", h.acts(1)[0])
	})
}

// between calls its function after each write that reaches the connection.
type between struct {
	http.ResponseWriter
	wrote func(b []byte)
}

func (b *between) Write(p []byte) (int, error) {
	n, err := b.ResponseWriter.Write(p)
	b.wrote(p)
	return n, err
}

func (b *between) Unwrap() http.ResponseWriter { return b.ResponseWriter }

// TestBrokenExportIsNoExport: when the token is revoked or the client goes away in the middle, what was received is visibly not all, and the
// record says so.
func TestBrokenExportIsNoExport(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		actor := h.fill(exportRecords)
		for _, format := range []string{"ndjson", "csv"} {
			tok, err := h.client.IssueToken(t.Context(), client.TokenDraft{Name: "export", Scopes: []string{string(identity.AuditRead)}})
			require.NoError(t, err)
			most := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.door.ServeHTTP(&between{w, func(b []byte) {
					most = max(most, bytes.Count(b, []byte("number ")))
					if h.revoke(tok.ID) {
						require.NoError(t, h.client.RevokeToken(context.Background(), tok.ID))
					}
				}}, r)
			}))
			var got bytes.Buffer
			err = client.New(server.URL, tok.Secret).ExportAudit(t.Context(), client.AuditExportFilter{Actor: actor, Format: format}, &got)
			require.ErrorContains(t, err, "not all of it")
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			require.Equal(t, 500, bytes.Count(got.Bytes(), []byte("number ")), "what had left had left")
			require.Equal(t, 500, most, "no more than a page is in memory")
			require.Equal(t, `failed revoked {"act":"end","records":500,"complete":false,"format":"`+format+`","filters":["actor"]}`, h.exports()[len(h.exports())-1])
			server.Close()
		}

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(done)
			h.door.ServeHTTP(&between{w, func([]byte) {
				cancel()
				<-r.Context().Done()
			}}, r)
		}))
		defer server.Close()
		stream, err := client.New(server.URL, h.token).AuditEvents(ctx, client.AuditExportFilter{Actor: actor})
		if err == nil {
			var last error
			for _, err := range stream.All() {
				last = err
			}
			require.ErrorContains(t, last, "not all of it")
		}
		<-done
		require.Equal(t, `failed client_gone {"act":"end","records":500,"complete":false,"format":"ndjson","filters":["actor"]}`, h.exports()[len(h.exports())-1])
	})
}

// revoke says whether the token is there to be revoked.
func (h *house) revoke(id string) bool {
	var n int
	require.NoError(h.t, h.db.Read(context.Background(), func(tx *store.Tx) error {
		return tx.Get(&n, `SELECT COUNT(*) FROM tokens WHERE id = $1 AND revoked_at IS NULL`, id)
	}))
	return n == 1
}

// TestExportOverOldHTTP: where the end of the connection is the end of the answer nobody could see that it broke off.
func TestExportOverOldHTTP(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(h.server.URL, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		_, err = fmt.Fprintf(conn, "GET /api/audit/export HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n", h.token)
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, 400, resp.StatusCode)
		require.Empty(t, resp.Header.Get("Content-Disposition"))
		require.Empty(t, h.exports())
	})
}
