package api_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/api"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// TestWhoLostItHearsNothingAgain: the answer to the first request is given again only to whoever may still do what it did. To anybody else the
// credential is as absent, or as much out of reach, as on any other request, and that they asked is on record.
func TestWhoLostItHearsNothingAgain(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		l := h.limited()[0]
		grant := func(id string, verbs ...string) {
			h.grant(id, client.GrantDraft{Grantee: client.GranteeRef{Kind: l.kind, ID: l.id}, Use: slices.Contains(verbs, "use"),
				Reveal: slices.Contains(verbs, "reveal"), Manage: slices.Contains(verbs, "manage")})
		}
		take := func(id string) {
			g, err := h.client.CredentialGrants(t.Context(), id)
			require.NoError(t, err)
			list := slices.DeleteFunc(drafts(g), func(d client.GrantDraft) bool { return d.Grantee.ID == l.id })
			_, err = h.client.SetCredentialGrants(t.Context(), id, client.GrantsDraft{Grants: list})
			require.NoError(t, err)
		}
		shared := h.account("shared")
		grant(shared, "use", "reveal", "manage")
		_, err := h.client.RotateCredential(t.Context(), shared, map[string]string{"api_key": "sk-ant-planted-second"}, "")
		require.NoError(t, err)
		post := func(path, body string) request {
			r := request{method: http.MethodPost, target: "/api/credentials" + path, token: l.token}
			if body != "" {
				r.body = []byte(body)
			}
			return r.keyed(store.NewID("try"))
		}
		created := post("", `{"type":"password","name":"planted-own","secrets":{"password":"planted-own-secret"}}`)
		a := h.do(created)
		require.Equal(t, 201, a.status, "%s", a.body)
		var made struct {
			Credential client.Credential `json:"credential"`
		}
		require.NoError(t, json.Unmarshal(a.body, &made))
		own := made.Credential.ID

		for name, c := range map[string]struct {
			r      request
			id     string
			status int    // of a replay while the right stands
			left   string // a verb that does not do
		}{
			"create":  {created, own, 201, "use"},
			"rotate":  {post("/"+shared+"/rotate", `{"secrets":{"api_key":"sk-ant-planted-third"}}`), shared, 200, "reveal"},
			"restore": {post("/"+shared+"/versions/1/restore", ""), shared, 200, "use"},
			"reveal":  {post("/"+shared+"/reveal", `{"field":"api_key","reason":"look"}`), shared, 409, "manage"},
		} {
			if name != "create" {
				a := h.do(c.r)
				require.Equal(t, 200, a.status, "%s: %s", name, a.body)
			}
			again := h.do(c.r)
			require.Equal(t, c.status, again.status, "%s: %s", name, again.body)
			require.Contains(t, string(again.body), c.id)

			grant(c.id, c.left)
			less := h.do(c.r)
			require.Equal(t, 403, less.status, "%s: %s", name, less.body)
			require.Equal(t, "forbidden", h.problem(less).Code)

			take(c.id)
			out := h.do(c.r)
			require.Equal(t, 404, out.status, "%s: %s", name, out.body)
			require.Empty(t, out.header.Get("Idempotency-Replayed"))
			require.NotContains(t, string(out.body), c.id)
			require.NotContains(t, string(out.body), "planted")
			ev := h.events()[0]
			require.Equal(t, store.CredentialRefused, ev.Action, name)
			require.Equal(t, c.id, ev.Target.ID)
			act, _ := ev.Details.Get("act")
			require.Equal(t, name, act.Text())
			absent := h.problem(h.do(request{method: http.MethodGet, target: "/api/credentials/" + store.NewID("cred"), token: l.token}))
			require.Equal(t, absent.Detail, h.problem(out).Detail, name)

			grant(c.id, "use", "reveal", "manage")
			require.Equal(t, c.status, h.do(c.r).status, "%s: the key is not spent by the refusal", name)
		}
	})
}

// TestWhoMayLinkNoMoreHearsNothingAgain: a link that was made by a train's grant is not told again when the grant is gone.
func TestWhoMayLinkNoMoreHearsNothingAgain(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		cred := h.account("planted-granted")
		_, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web"})
		require.NoError(t, err)
		r := request{method: http.MethodPost, target: "/api/trains/web/accounts", token: h.with(identity.TrainWrite, identity.TrainRead), body: []byte(`{"credential_id":"` + cred + `"}`)}.keyed("link")
		h.grant(cred, client.GrantDraft{Grantee: client.GranteeRef{Kind: "train", ID: "web"}, Use: true})
		require.Equal(t, 201, h.do(r).status)
		require.Equal(t, "true", h.do(r).header.Get("Idempotency-Replayed"))
		g, err := h.client.CredentialGrants(ctx, cred)
		require.NoError(t, err)
		_, err = h.client.SetCredentialGrants(ctx, cred, client.GrantsDraft{Grants: drafts(g)[:1]})
		require.NoError(t, err)
		out := h.do(r)
		require.Equal(t, 403, out.status, "%s", out.body)
		require.Equal(t, "scope_missing", h.problem(out).Code)
		require.NotContains(t, string(out.body), "planted")
		require.Equal(t, store.TrainRefused, h.events()[0].Action)
	})
}

// TestNoKeyForWhoAsks: what gives the caller another cookie, or says who they are, is done each time: an answer that was kept could neither
// hold the cookie nor make anybody's proof fresh.
func TestNoKeyForWhoAsks(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		cookie := func(a answered) string {
			text, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Set-Cookie"), identity.SessionCookie+"="), ";")
			require.True(t, strings.HasPrefix(text, sessionPrefix), "%d: %s", a.status, a.body)
			return text
		}
		session := h.session(h.user.ID)
		up := func() answered {
			return h.do(request{method: http.MethodPost, target: "/api/auth/step-up", token: session, body: []byte(`{"password":"` + adminPassword + `"}`)}.keyed("planted-one-key"))
		}
		session = cookie(up())
		h.stale()
		reveal := func() answered {
			return h.do(request{method: http.MethodPost, target: "/api/credentials/" + store.NewID("cred") + "/reveal", token: session, body: []byte(`{"field":"x","reason":"r"}`)})
		}
		require.Equal(t, "step_up_required", h.problem(reveal()).Code)
		again := up()
		require.Empty(t, again.header.Get("Idempotency-Replayed"), "an old answer proves nothing")
		session = cookie(again)
		require.Equal(t, "not_found", h.problem(reveal()).Code, "the proof is fresh")

		change := request{method: http.MethodPost, target: "/api/auth/password", token: h.token,
			body: []byte(`{"current_password":"` + adminPassword + `","new_password":"` + adminPassword + `"}`)}.keyed("planted-one-key")
		for range 2 {
			a := h.do(change)
			require.Equal(t, 204, a.status, "%s", a.body)
			require.Empty(t, a.header.Get("Idempotency-Replayed"))
		}
		require.Zero(t, h.count("idempotency_keys"))
	})
}

// bearer is what anything that opens a door looks like.
var bearer = regexp.MustCompile(`sbx_live_|sb[a-z]_[0-9A-Za-z]{10}|eyJ[0-9A-Za-z_-]{10}|` + identity.SessionCookie + `|token=`)

// keptAnswers opens every answer that is kept for a replay.
func (h *house) keptAnswers() (out []string) {
	h.t.Helper()
	var rows []struct {
		ID     string `db:"id"`
		Route  string `db:"route"`
		Answer []byte `db:"answer"`
	}
	require.NoError(h.t, h.db.Read(h.t.Context(), func(tx *store.Tx) error {
		return tx.Select(&rows, `SELECT id, route, answer FROM idempotency_keys WHERE answer IS NOT NULL`)
	}))
	for _, row := range rows {
		v, err := h.config.Ring.Open("idempotency", row.Answer, secret.AAD{Table: "idempotency_keys", ID: row.ID, Field: "answer"})
		require.NoError(h.t, err)
		out = append(out, row.Route+" "+v.Reveal())
	}
	return out
}

// TestExportAsksTheClock how old the proof is.
func TestExportAsksTheClock(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		session := h.session(h.user.ID)
		ask := func() answered {
			return h.do(request{method: http.MethodGet, target: "/api/audit/export", token: session})
		}
		require.Equal(t, 200, ask().status)
		h.reopen(func(c *api.Config) {
			c.Clock = func() time.Time { return time.Now().Add(identity.FreshFor + time.Minute) }
		})
		require.Equal(t, "step_up_required", h.problem(ask()).Code)
	})
}
