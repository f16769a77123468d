package api_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/api"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/rate"
	"signalbox.dev/signalbox/internal/store"
)

// TestReadOnly: a read-only instance answers what changes nothing but who is signed in, and refuses every other operation of the document.
func TestReadOnly(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		w := h.world()
		h.told(&w)
		require.NoError(t, h.audit.Flush(t.Context())) // so that there is a checkpoint to read
		h.reopen(func(c *api.Config) { c.ReadOnly = true })
		refused := 0
		// These change only who is there. The token that asks is no session, so there is nothing to end or to confirm.
		coming := map[string]int{"log-in": http.StatusOK, "refresh-login": http.StatusOK, "exchange-login-code": http.StatusOK, "revoke-login": http.StatusNoContent, "log-out": http.StatusConflict, "step-up": http.StatusConflict}
		for _, o := range d.operations(t) {
			want, comes := coming[o.ID]
			if comes {
				h.prepare(o, &w, h.token)
			}
			before := h.countsBesideRecords()
			a := h.do(request{method: o.method, target: w.target(o), token: h.token, body: h.body(d, o, w)})
			switch o.ID {
			case "reveal-credential", "export-credentials", "end-session", "end-other-sessions": // who is signed in is no change of what is kept
				require.NotContains(t, string(a.body), "read_only", "%s", o)
				continue
			}
			if o.method == http.MethodGet {
				require.Less(t, a.status, 400, "%s: %s", o, a.body)
				continue
			}
			if comes {
				require.Equal(t, want, a.status, "%s: %s", o, a.body)
				delete(coming, o.ID)
				continue
			}
			refused++
			require.Equal(t, http.StatusForbidden, a.status, "%s: %s", o, a.body)
			require.Contains(t, o.Responses, "403", "the document does not tell of this refusal")
			require.Equal(t, "read_only", h.problem(a).Code)
			require.Equal(t, before, h.countsBesideRecords(), "%s changed something", o)
			if o.Permission != "none" { // nobody learns how the server is set up
				a = h.do(request{method: o.method, target: w.target(o), body: h.body(d, o, w)})
				require.Equal(t, http.StatusUnauthorized, a.status, "%s: %s", o, a.body)
			}
		}
		require.Greater(t, refused, 15)
		require.Empty(t, coming)
	})
}

// TestCallerLimit: a caller has a limit of requests and a lower one of reveals in each minute, over all instances; others are not held up.
func TestCallerLimit(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		w := h.world()
		op := map[string]operation{}
		for _, o := range d.operations(t) {
			op[o.ID] = o
		}
		ask := func(id, token string) answered {
			return h.do(request{method: op[id].method, target: w.target(op[id]), token: token, body: h.body(d, op[id], w)})
		}
		minute := func() (n int64) {
			require.NoError(t, h.db.Read(t.Context(), func(tx *store.Tx) error { n = tx.Now().Unix() / 60; return nil }))
			return n
		}
		// Neither has asked before: the world was made by the administrator, under another limit.
		busy, other := h.withRole(identity.Operator), h.withRole(identity.Auditor)
		for from := int64(0); from != minute(); { // when a minute ends meanwhile, the counts say nothing; then it is done again
			from = minute()
			limits, err := rate.New(rate.Config{DB: h.db})
			require.NoError(t, err)
			h.reopen(func(c *api.Config) { c.Limits, c.CallerLimit, c.RevealLimit = limits, 40, 5 })
			revealed, read := 0, 0
			var a answered
			for range 8 {
				if a = ask("reveal-credential", busy); a.status == http.StatusOK {
					revealed++
				}
			}
			if minute() != from {
				continue
			}
			require.Equal(t, 5, revealed)
			require.Equal(t, http.StatusTooManyRequests, a.status, "%s", a.body)
			require.Contains(t, op["reveal-credential"].Responses, "429", "the document does not tell of this refusal")
			require.Equal(t, "rate_limited", h.problem(a).Code)
			after, err := strconv.Atoi(a.header.Get("Retry-After"))
			require.NoError(t, err)
			require.True(t, after >= 1 && after <= 60, after)
			require.NotContains(t, string(a.body), w.credential)
			// Another instance counts on where this one is.
			limits, err = rate.New(rate.Config{DB: h.db, Clock: time.Now})
			require.NoError(t, err)
			h.reopen(func(c *api.Config) { c.Limits = limits })
			for range 60 {
				if ask("get-credential", busy).status == http.StatusOK {
					read++
				}
			}
			fine := ask("get-credential", other)
			if minute() != from {
				continue
			}
			require.Equal(t, 40-8, read)
			require.Equal(t, http.StatusOK, fine.status, "another person was held up: %s", fine.body)
		}
	})
}

// TestServiceAccountIsOneCaller: however many tokens it has.
func TestServiceAccountIsOneCaller(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		account, err := h.client.CreateServiceAccount(t.Context(), client.ServiceAccountDraft{Name: "ci", Role: "auditor"})
		require.NoError(t, err)
		var tokens []string
		for range 3 {
			tok, err := h.client.IssueToken(t.Context(), client.TokenDraft{Name: "one of many", ServiceAccountID: account.ID})
			require.NoError(t, err)
			tokens = append(tokens, tok.Secret)
		}
		minute := func() (n int64) {
			require.NoError(t, h.db.Read(t.Context(), func(tx *store.Tx) error { n = tx.Now().Unix() / 60; return nil }))
			return n
		}
		for from := int64(0); from != minute(); {
			from = minute()
			limits, err := rate.New(rate.Config{DB: h.db})
			require.NoError(t, err)
			h.reopen(func(c *api.Config) { c.Limits, c.CallerLimit = limits, 10 })
			passed := 0
			for i := range 30 {
				status := http.StatusServiceUnavailable
				for status == http.StatusServiceUnavailable { // on a busy machine the news from the database can be too old to be trusted
					status = h.do(request{method: http.MethodGet, target: "/api/whoami", token: tokens[i%3]}).status
				}
				if status == http.StatusOK {
					passed++
				}
			}
			if minute() == from {
				require.Equal(t, 10, passed)
			}
		}
	})
}
