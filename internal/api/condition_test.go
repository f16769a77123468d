package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
)

// TestIfNoneMatchOnEveryGet derives from the document what answers conditions: a read names its state, and is empty for who has it.
func TestIfNoneMatchOnEveryGet(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		w, tried := h.world(), 0
		h.told(&w)
		for _, o := range d.operations(t) {
			if o.Responses["304"].Content == nil && o.method != "GET" {
				continue
			}
			asks := false
			for _, p := range o.Parameters {
				asks = asks || p.In == "header" && p.Name == "If-None-Match"
			}
			get := func(method string, condition ...string) answered {
				return h.do(request{method: method, target: w.target(o), token: h.token, header: http.Header{"If-None-Match": condition}})
			}
			first := get("GET")
			tag := first.header.Get("ETag")
			if !asks {
				require.Contains(t, []string{"get-key", "get-credential", "export-audit"}, o.ID)
				require.Equal(t, 200, get("GET", tag, "*").status)
				continue
			}
			tried++
			require.Equal(t, 200, first.status, "%s: %s", o, first.body)
			require.Regexp(t, `^"[^"]+"$`, tag, "%s", o)
			require.Equal(t, 200, get("GET", `"planted"`).status, "%s", o)
			require.Equal(t, 200, get("GET", "planted").status, "%s", o)
			if o.ID == "tail-audit-log" || strings.HasPrefix(o.ID, "list-audit-logs") || o.ID == "list-tokens" || o.ID == "list-sessions" || strings.HasSuffix(o.ID, "-blast-radius") {
				continue // reading changes what they tell: a record, a last use, the time until which
			}
			for _, condition := range [][]string{{tag}, {"W/" + tag}, {`"planted", ` + tag}, {`"planted"`, tag}, {"*"}} {
				for _, method := range []string{"GET", "HEAD"} {
					a := get(method, condition...)
					require.Equal(t, 304, a.status, "%s %q: %.300s", o, condition, a.body)
					require.Empty(t, a.body)
					require.Equal(t, tag, a.header.Get("ETag"))
					require.Empty(t, a.header.Get("Content-Type"))
					if o.ID != "get-docs" { // it keeps the page's own policy
						h.headers(a)
					}
				}
			}
		}
		require.Greater(t, tried, 15)
		// A refusal is none of these.
		a := h.do(request{method: "GET", target: "/api/trains/nowhere", token: h.token, header: http.Header{"If-None-Match": {"*"}}})
		require.Equal(t, 404, a.status)
		require.Empty(t, a.header.Get("ETag"))
	})
}

// TestETagFollowsTheAnswer: whatever changes in an answer changes its tag, so that nobody keeps an old one.
func TestETagFollowsTheAnswer(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		soon := time.Now().Add(2 * time.Second)
		cred, err := h.client.CreateCredential(ctx, client.CredentialDraft{Type: "oauth", Name: "x", ExpiresAt: &soon, Secrets: map[string]string{"access_token": "planted"},
			OAuth: &client.OAuth{ExpiresAt: &soon}})
		require.NoError(t, err)
		require.Equal(t, "expiring", cred.Status)
		require.Eventually(t, func() bool {
			got, err := h.client.GetCredential(ctx, cred.ID)
			return err == nil && got.Status == "expired" && got.Health == "needs_login" && got.ETag != cred.ETag
		}, 10*time.Second, 50*time.Millisecond)

		_, err = h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web"})
		require.NoError(t, err)
		before, err := h.client.GetTrain(ctx, "web")
		require.NoError(t, err)
		_, _, err = h.client.Link(ctx, "web", client.LinkDraft{CredentialID: cred.ID})
		require.NoError(t, err)
		after, err := h.client.GetTrain(ctx, "web")
		require.NoError(t, err)
		require.Equal(t, 1, after.Links)
		require.NotEqual(t, before.ETag, after.ETag)

		link, err := h.client.GetLink(ctx, "web", cred.ID)
		require.NoError(t, err)
		_, err = h.client.UpdateCredential(ctx, cred.ID, client.CredentialPatch{Name: ptr("renamed")})
		require.NoError(t, err)
		renamed, err := h.client.GetLink(ctx, "web", cred.ID)
		require.NoError(t, err)
		require.Equal(t, "renamed", renamed.Name)
		require.NotEqual(t, link.ETag, renamed.ETag)
	})
}

// TestIfMatchOnEveryChange: what was changed since it was read is neither changed nor deleted by who has not seen that.
func TestIfMatchOnEveryChange(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		tried := 0
		for _, o := range d.operations(t) {
			asks := false
			for _, p := range o.Parameters {
				asks = asks || p.In == "header" && p.Name == "If-Match"
			}
			change := o.method == "PATCH" || o.method == "PUT" || o.method == "DELETE"
			require.Equal(t, change && o.ID != "revoke-token" && o.ID != "end-session" && o.ID != "end-other-sessions" && o.ID != "purge-contents" && o.ID != "delete-mcp-connection" && !strings.HasPrefix(o.path, "/api/factors"), asks, "%s", o)
			if !asks {
				continue
			}
			tried++
			t.Run(o.ID, func(t *testing.T) {
				h := h.in(t)
				w := h.world()
				h.prepare(o, &w, h.token)
				send := func(target string, lines ...string) answered {
					return h.do(request{method: o.method, target: target, token: h.token, body: h.body(d, o, w), header: http.Header{"If-Match": lines}})
				}
				tag := func() string {
					return h.do(request{method: "GET", target: w.target(o), token: h.token}).header.Get("ETag")
				}
				current := tag()
				require.Regexp(t, `^"[^"]+"$`, current)
				before := h.countsBesideRecords()
				for _, lines := range [][]string{
					{`"0"`}, {"W/" + current}, {`"0", W/` + current}, {current[1 : len(current)-1]}, {""}, {","}, {`"0"`, `"1"`}, {current + " x"}, {`*, ` + current}, {`"`}, {`"\"`},
				} {
					a := send(w.target(o), lines...)
					require.Equal(t, 412, a.status, "%q: %s", lines, a.body)
					require.Equal(t, "etag_mismatch", h.problem(a).Code)
				}
				require.Equal(t, before, h.countsBesideRecords())
				require.Equal(t, current, tag(), "a refused change changed something")

				// What is not there is not found, whatever the condition says.
				for _, name := range []string{"key_id", "credential_id", "id"} {
					if target, ok := w.targetWith(o, name, "cred_00000000000000000000000000"); ok {
						require.Equal(t, 404, send(target, "*").status)
						require.Equal(t, 404, send(target, `"0"`).status)
					}
				}
				for i, lines := range [][]string{{current}, {`"0"`, "current"}, {"*"}} {
					if i > 0 && o.method == "DELETE" {
						break
					}
					if lines[len(lines)-1] == "current" {
						lines[1] = tag()
					}
					a := send(w.target(o), lines...)
					require.Contains(t, []int{200, 204}, a.status, "%q: %s", lines, a.body)
					if a.status == 200 {
						require.Equal(t, tag(), a.header.Get("ETag"), "the answer names the new state")
					}
				}
				if o.method == "DELETE" && o.ID != "revoke-key" {
					require.Equal(t, 404, send(w.target(o), "*").status)
				}
			})
		}
		require.Equal(t, 52, tried)
	})
}

// TestClientSendsConditions: the client's copies carry the tag to deletions, and a patch's own goes first.
func TestClientSendsConditions(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		w := h.world()
		key, err := h.client.GetKey(ctx, w.trainSlug, w.key)
		require.NoError(t, err)
		renamed, err := h.client.UpdateKey(ctx, w.trainSlug, w.key, client.KeyPatch{Name: ptr("renamed"), IfMatch: key.ETag})
		require.NoError(t, err)
		require.NotEqual(t, key.ETag, renamed.ETag)
		_, err = h.client.UpdateKey(ctx, w.trainSlug, w.key, client.KeyPatch{Name: ptr("late"), IfMatch: key.ETag})
		refused(t, err, 412, "etag_mismatch")
		refused(t, h.client.IfMatch(key.ETag).RevokeKey(ctx, w.trainSlug, w.key), 412, "etag_mismatch")
		require.NoError(t, h.client.IfMatch(renamed.ETag).RevokeKey(ctx, w.trainSlug, w.key))
		refused(t, h.client.IfMatch(renamed.ETag).PurgeKey(ctx, w.trainSlug, w.key), 412, "etag_mismatch")
		require.NoError(t, h.client.PurgeKey(ctx, w.trainSlug, w.key))

		link, err := h.client.GetLink(ctx, w.trainSlug, w.credential)
		require.NoError(t, err)
		moved, err := h.client.Relink(ctx, w.trainSlug, w.credential, client.LinkPatch{Priority: ptr(7), IfMatch: link.ETag})
		require.NoError(t, err)
		_, err = h.client.IfMatch(moved.ETag).Relink(ctx, w.trainSlug, w.credential, client.LinkPatch{Priority: ptr(8), IfMatch: link.ETag})
		refused(t, err, 412, "etag_mismatch")
		refused(t, h.client.IfMatch(link.ETag).Unlink(ctx, w.trainSlug, w.credential), 412, "etag_mismatch")
		require.NoError(t, h.client.IfMatch(moved.ETag).Unlink(ctx, w.trainSlug, w.credential))
		refused(t, h.client.IfMatch(`"0-0"`).DeleteTrain(ctx, w.trainSlug, true), 412, "etag_mismatch")
		refused(t, h.client.IfMatch(`"0-0"`).DeleteCredential(ctx, w.credential), 412, "etag_mismatch")
		require.NoError(t, h.client.DeleteCredential(ctx, w.credential))
	})
}
