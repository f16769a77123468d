package web

import (
	"bytes"
	"context"
	"encoding/csv"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
)

const (
	// sheetRows is how many rows of a file are in memory at a time.
	sheetRows = 1000
	// sheetTaken is how long a browser may take to receive one page of them.
	sheetTaken = 30 * time.Second
	// sheetsMost bounds the files that are sent at once, and sheetsEach those to one person.
	sheetsMost, sheetsEach = 16, 4
)

// sheet is a list as a file for a spreadsheet, of any length: it is sent a page of rows at a time.
type sheet struct {
	name string
	head []string
	// page returns the rows that the cursor leads to, "" to the first, and the cursor of those that follow, "" at the end.
	page func(ctx context.Context, v visitor, cursor string) (rows [][]string, next string, err error)
}

// sheets counts the files that are being sent.
type sheets struct {
	// again says who a session's person is now.
	again func(ctx context.Context, session string) (identity.Caller, error)
	// most bounds those at once, and mostEach those of one person.
	most, mostEach int

	mu   sync.Mutex
	all  int
	each map[string]int // by person
}

// begin counts one more of a person; false when there are too many.
func (c *sheets) begin(person string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.most || c.each[person] >= c.mostEach {
		return false
	}
	c.all++
	c.each[person]++
	return true
}

func (c *sheets) end(person string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.each[person]--; c.each[person] == 0 {
		delete(c.each, person)
	}
}

// sendSheet answers with a file. What fails before its first row is a page that says so; what fails later breaks the answer off, so that nobody takes a
// part of the list for all of it.
func (s *site) sendSheet(w http.ResponseWriter, r *http.Request, v visitor, f sheet) {
	if !r.ProtoAtLeast(1, 1) { // there the end of the connection is the end of the answer, so nobody could tell that it broke off
		s.refused(w, r, v, fault.New(fault.Invalid, "malformed_request", "A file needs HTTP/1.1 or later, also from a proxy in between (nginx: proxy_http_version 1.1)."))
		return
	}
	if !s.sheets.begin(v.UserID) {
		s.refused(w, r, v, fault.New(fault.TooMany, "rate_limited", "Other files are being sent. Ask again in a moment.").After(5))
		return
	}
	defer s.sheets.end(v.UserID)
	rows, next, err := f.page(r.Context(), v, "")
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+f.name+`.csv"`)
	if r.Method == http.MethodHead {
		return
	}
	if err := s.sendRows(w, r, v, f, rows, next); err != nil {
		s.Log.LogAttrs(r.Context(), slog.LevelWarn, "a file broke off", slog.String("request_id", requestIDOf(r)), slog.String("code", fault.Of(err).Code), slog.Bool("client_gone", r.Context().Err() != nil))
		panic(http.ErrAbortHandler) // net/http's documented way to break an answer off
	}
}

// sendRows sends one page after the other. No transaction is open while the browser receives, and each page is read with the rights that the visitor has then.
func (s *site) sendRows(w http.ResponseWriter, r *http.Request, v visitor, f sheet, rows [][]string, next string) error {
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Time{}) // that of a short request would cancel this one
	var b bytes.Buffer
	out := csv.NewWriter(&b)
	_ = out.Write(f.head) // a Buffer never fails
	for {
		for _, row := range rows {
			_ = out.Write(inert(row))
		}
		out.Flush()
		_ = conn.SetWriteDeadline(time.Now().Add(sheetTaken)) // best effort: not every connection has one
		if _, err := w.Write(b.Bytes()); err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		if err := conn.Flush(); err != nil {
			return err
		}
		b.Reset()
		caller, err := s.sheets.again(r.Context(), v.cookie)
		if err != nil {
			return err
		}
		caller.RequestID, caller.IP, caller.UserAgent = v.RequestID, v.IP, v.UserAgent
		v.Caller = caller
		if rows, next, err = f.page(r.Context(), v, next); err != nil {
			return err
		}
	}
}

// inert gives what a spreadsheet would take for a formula an apostrophe.
func inert(cells []string) []string {
	for i, cell := range cells {
		if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r") {
			cells[i] = "'" + cell
		}
	}
	return cells
}

func fileTimeOr(t *time.Time) string {
	if t == nil {
		return ""
	}
	return fileTime(*t)
}
