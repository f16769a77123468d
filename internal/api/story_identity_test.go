package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// otherLast is the text with another last letter, whatever that was.
func otherLast(text string) string {
	last := "x"
	if strings.HasSuffix(text, last) {
		last = "y"
	}
	return text[:len(text)-1] + last
}

func TestStorySetup(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			h := newHouse(t, e)
			ctx := t.Context()
			link, err := h.identity.NewSetupLink(ctx)
			require.NoError(t, err)
			draft := client.SetupRequest{Token: link.Reveal(), Email: adminEmail, Name: "Ada", Password: adminPassword}

			wrong := draft
			wrong.Token = otherLast(link.Reveal())
			_, err = h.as("").Setup(ctx, wrong)
			e := refused(t, err, 401, "setup_refused")
			require.NotContains(t, e.Error(), wrong.Token)
			short := draft
			short.Password = "planted-pw"
			_, err = h.as("").Setup(ctx, short)
			e = refused(t, err, 422, "validation_failed")
			require.Equal(t, "/password", e.Errors[0].Pointer)
			require.NotContains(t, e.Error(), "planted")

			out, err := h.as("").Setup(ctx, draft)
			require.NoError(t, err)
			require.Equal(t, "administrator", out.User.Role)
			who, err := h.as(out.AccessToken).WhoAmI(ctx)
			require.NoError(t, err)
			require.Equal(t, "token", who.Kind)
			require.Equal(t, out.User.ID, who.UserID)
			require.Equal(t, "administrator", who.Role)
			require.Len(t, who.Scopes, len(identity.RoleScopes(identity.Administrator)))

			_, err = h.as("").Setup(ctx, draft)
			refused(t, err, 409, "already_set_up")
			version, err := h.as("").Version(ctx)
			require.NoError(t, err)
			require.Equal(t, buildVersion, version)
			for _, s := range []string{link.Reveal(), adminPassword, "planted-pw", out.AccessToken} {
				require.NotContains(t, h.log.String(), s)
			}
		})
	}
}

func TestStoryTokens(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		later := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		tok, err := h.client.IssueToken(ctx, client.TokenDraft{Name: "ci", Scopes: []string{"trains:read", "tokens:write"}, ExpiresAt: &later})
		require.NoError(t, err)
		require.Regexp(t, `^sbp_[0-9A-Za-z]+$`, tok.Secret)
		require.Equal(t, []string{"trains:read", "tokens:write"}, tok.Scopes)
		ci := h.as(tok.Secret)
		_, err = ci.ListTrains(ctx, client.ListFilter{})
		require.NoError(t, err)
		_, err = ci.ListCredentials(ctx, client.CredentialFilter{})
		refused(t, err, 403, "scope_missing")
		_, err = ci.IssueToken(ctx, client.TokenDraft{Name: "more", Scopes: []string{"credentials:reveal"}})
		refused(t, err, 403, "scope_missing")

		page, err := h.client.ListTokens(ctx, client.TokenFilter{})
		require.NoError(t, err)
		require.Len(t, page.Tokens, 2)
		require.Equal(t, "ci", page.Tokens[0].Name)
		raw := h.do(request{method: "GET", target: "/api/tokens", token: h.token})
		require.NotContains(t, string(raw.body), tok.Secret, "a token is shown once")

		require.NoError(t, h.client.RevokeToken(ctx, tok.ID))
		_, err = ci.WhoAmI(ctx)
		refused(t, err, 401, "unauthenticated")
		refused(t, h.client.RevokeToken(ctx, tok.ID), 404, "not_found")
		page, err = h.client.ListTokens(ctx, client.TokenFilter{Status: "revoked"})
		require.NoError(t, err)
		require.Len(t, page.Tokens, 1)
		require.NotContains(t, h.log.String(), tok.Secret)
	})
}

func TestStoryAudit(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		cred := h.account("audited")
		_, err := h.client.RevealCredential(ctx, cred, "api_key", "because")
		require.NoError(t, err)

		page, err := h.client.AuditByCredential(ctx, cred, client.AuditFilter{})
		require.NoError(t, err)
		require.Len(t, page.Events, 2)
		reveal := page.Events[0]
		require.Equal(t, "credential.reveal", reveal.Action)
		require.Equal(t, "because", reveal.Reason)
		require.Equal(t, h.user.ID, reveal.OnBehalfOf)
		require.Equal(t, "127.0.0.1", reveal.IP)
		require.Equal(t, "signalbox-go", reveal.UserAgent)
		require.Equal(t, "api_key", reveal.Details["field"])
		require.True(t, store.ValidID("req", reveal.RequestID))

		byRequest, err := h.client.AuditLogs(ctx, client.AuditFilter{RequestID: reveal.RequestID})
		require.NoError(t, err)
		require.Len(t, byRequest.Events, 1)
		byUser, err := h.client.AuditByUser(ctx, h.user.ID, client.AuditFilter{Action: "credential.reveal"})
		require.NoError(t, err)
		require.Len(t, byUser.Events, 1, "what a person's tokens did is the person's")
		facets, err := h.client.AuditFacets(ctx, client.AuditFilter{Actor: h.user.ID, Target: cred}, 0)
		require.NoError(t, err)
		require.True(t, facets.Complete)
		require.Nil(t, facets.Since)
		require.Equal(t, int64(3), facets.Counted)
		require.Equal(t, []client.Facet{{Value: "audit.read", Count: 1}, {Value: "credential.create", Count: 1}, {Value: "credential.reveal", Count: 1}}, facets.Actions)
		require.Equal(t, []client.Facet{{Value: "ok", Count: 3}}, facets.Outcomes)
		require.Len(t, facets.Targets, 1)
		require.Equal(t, cred, facets.Targets[0].Value)
		require.Len(t, facets.Actors, 2, "the token, and whose it is")
		counted, err := h.client.AuditLogs(ctx, client.AuditFilter{Action: "audit.read", Limit: 1})
		require.NoError(t, err)
		require.Equal(t, "count", counted.Events[0].Details["act"])
		from := time.Now().Add(time.Hour)
		none, err := h.client.AuditLogs(ctx, client.AuditFilter{From: &from})
		require.NoError(t, err)
		require.Empty(t, none.Events)
		first, err := h.client.AuditLogs(ctx, client.AuditFilter{Limit: 1})
		require.NoError(t, err)
		require.NotEmpty(t, first.NextCursor)
		second, err := h.client.AuditLogs(ctx, client.AuditFilter{Limit: 1, Cursor: first.NextCursor})
		require.NoError(t, err)
		require.NotEqual(t, first.Events[0].ID, second.Events[0].ID)

		one, err := h.client.AuditLog(ctx, reveal.ID)
		require.NoError(t, err)
		require.Nil(t, one.Leaf)
		require.Equal(t, reveal, one)
		_, err = h.client.AuditCheckpoint(ctx)
		refused(t, err, 404, "not_found")
		_, err = h.client.AuditProof(ctx, reveal.ID)
		e := refused(t, err, 409, "state_conflict")
		require.Positive(t, e.RetryAfter)

		require.NoError(t, h.audit.Flush(ctx))
		one, err = h.client.AuditLog(ctx, reveal.ID)
		require.NoError(t, err)
		require.NotNil(t, one.Leaf)
		point, err := h.client.AuditCheckpoint(ctx)
		require.NoError(t, err)
		require.Greater(t, point.Size, *one.Leaf)
		require.Contains(t, point.Note, point.Root)
		require.Equal(t, h.audit.Verifier(), point.Verifier)

		// The proof, as it came over the wire, holds without the server.
		proof, err := h.client.AuditProof(ctx, reveal.ID)
		require.NoError(t, err)
		text, err := json.Marshal(proof)
		require.NoError(t, err)
		var offline audit.Proof
		require.NoError(t, json.Unmarshal(text, &offline))
		_, err = audit.CheckProof(offline)
		require.NoError(t, err)
		require.Contains(t, proof.Record, reveal.ID)
		offline.Record = strings.Replace(offline.Record, "because", "becauze", 1)
		_, err = audit.CheckProof(offline)
		require.Error(t, err)
	})
}

// TestTailEnds: following the log must not feed it for ever.
func TestTailEnds(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		after, records := int64(-1), 0
		for range 10 {
			require.NoError(t, h.audit.Flush(ctx))
			tail, err := h.client.AuditTail(ctx, after, 3)
			require.NoError(t, err)
			for i, l := range tail.Leaves {
				require.Equal(t, after+1+int64(i), l.Leaf, "no leaf is left out")
			}
			records += len(tail.Leaves)
			require.Equal(t, after+int64(len(tail.Leaves)), tail.Next)
			after = tail.Next
		}
		require.NoError(t, h.audit.Flush(ctx))
		tail, err := h.client.AuditTail(ctx, after, 0)
		require.NoError(t, err)
		require.Empty(t, tail.Leaves, "after %d records the tail still grows by its own reads", records)
		require.Positive(t, records)

		// Another reader's reads are news.
		other := h.as(h.with(identity.AuditRead))
		_, err = other.AuditTail(ctx, -1, 1000)
		require.NoError(t, err)
		require.NoError(t, h.audit.Flush(ctx))
		tail, err = h.client.AuditTail(ctx, after, 0)
		require.NoError(t, err)
		require.Equal(t, "audit.read", tail.Leaves[len(tail.Leaves)-1].Event.Action)
	})
}

// TestAuditReadsAreRecorded: reading the log is an act, and so is trying to.
func TestAuditReadsAreRecorded(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.client.AuditLogs(ctx, client.AuditFilter{})
		require.NoError(t, err)
		require.Equal(t, []string{"audit.read ok"}, h.acts(1))
		_, err = h.as(h.with(identity.TrainRead)).AuditLogs(ctx, client.AuditFilter{})
		refused(t, err, 403, "scope_missing")
		require.Equal(t, []string{"audit.read refused"}, h.acts(1))
		require.Equal(t, "scope_missing", h.events()[0].Reason)
		before := len(h.events())
		_, err = h.as("").AuditLogs(ctx, client.AuditFilter{})
		refused(t, err, 401, "unauthenticated")
		require.Len(t, h.events(), before, "nobody fills the log")
	})
}

// TestFailedAuthentications: guesses are counted, a missing token is not a guess, and no guess reaches a log.
func TestFailedAuthentications(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		key := h.clientKey()
		for name, c := range map[string]struct {
			header []string
			bearer bool
		}{
			"none":             {nil, false},
			"basic":            {[]string{"Basic cGxhbnRlZDpwbGFudGVk"}, false},
			"two":              {[]string{"Bearer " + h.token, "Bearer " + h.token}, false},
			"without scheme":   {[]string{h.token}, false},
			"empty":            {[]string{"Bearer "}, true},
			"garbage":          {[]string{"Bearer planted-garbage"}, true},
			"damaged":          {[]string{"Bearer " + h.token[:len(h.token)-1] + "!"}, true},
			"client key":       {[]string{"Bearer " + key}, true},
			"client key twice": {[]string{"Bearer " + key + " " + key}, true},
		} {
			t.Run(name, func(t *testing.T) {
				a := h.do(request{method: "GET", target: "/api/whoami", header: http.Header{"Authorization": c.header}})
				require.Equal(t, 401, a.status)
				require.Equal(t, "unauthenticated", h.problem(a).Code)
				want := `Bearer realm="Signalbox"`
				if c.bearer {
					want += `, error="invalid_token"`
				}
				require.Equal(t, want, a.header.Get("WWW-Authenticate"))
				require.NotContains(t, string(a.body)+h.log.String(), "planted-garbage")
				require.NotContains(t, string(a.body)+h.log.String(), key)
			})
		}
		a := h.do(request{method: "GET", target: "/api/whoami", header: http.Header{"Authorization": {"bearer " + h.token}}})
		require.Equal(t, 200, a.status, "the scheme's case does not matter (RFC 9110, section 11.1)")

		require.NoError(t, h.identity.Flush(context.Background()))
		failed := h.events()[0]
		require.Equal(t, store.IdentityFailed, failed.Action)
		n, _ := failed.Details.Get("token")
		require.Equal(t, "5", n.Text())
	})
}

// TestClientKeyIsTurnedAway: the answer to a real client key and to one that never was is the same, and says what to use instead.
func TestClientKeyIsTurnedAway(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		key := h.clientKey()
		other := []byte(key)
		other[12] ^= 1
		real, made := h.do(request{method: "GET", target: "/api/trains", token: key}), h.do(request{method: "GET", target: "/api/trains", token: string(other)})
		a, b := h.problem(real), h.problem(made)
		a.RequestID, b.RequestID = "", ""
		require.Equal(t, a, b)
		require.Equal(t, 401, real.status)
		require.Contains(t, a.Detail, "client key")
	})
}

// clientKey issues a client key of a new train.
func (h *house) clientKey() string {
	h.t.Helper()
	slug := strings.ReplaceAll(store.NewID("t"), "_", "-")
	_, err := h.client.CreateTrain(h.t.Context(), client.TrainDraft{TrainID: slug})
	require.NoError(h.t, err)
	key, err := h.client.IssueKey(h.t.Context(), slug, client.KeyDraft{Name: "key"})
	require.NoError(h.t, err)
	return key.APIKey
}

// TestNoNewsNoService: an instance whose caches may be behind accepts no token, for it cannot know which are revoked.
func TestNoNewsNoService(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.deaf.Store(true)
		h.write(func(tx *store.Tx) error {
			tx.Change(store.TopicTrain, "any")
			return nil
		})
		_, err := h.client.WhoAmI(t.Context())
		e := refused(t, err, 503, "database_unavailable")
		require.Positive(t, e.RetryAfter)
	})
}

// TestRevocationReachesOtherInstances: a token that one instance revoked is refused by the next within a second.
func TestRevocationReachesOtherInstances(t *testing.T) {
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	cfg := storetest.Config(t, store.Postgres)
	h := newInstance(t, store.Postgres, cfg, root)
	h.setUp()
	other := newInstance(t, store.Postgres, cfg, root)
	for range 3 {
		tok, err := h.client.IssueToken(t.Context(), client.TokenDraft{Name: "short-lived"})
		require.NoError(t, err)
		there := other.as(tok.Secret)
		require.Eventually(t, func() bool { _, err := there.WhoAmI(t.Context()); return err == nil }, 2*time.Second, 10*time.Millisecond)
		require.NoError(t, h.client.RevokeToken(t.Context(), tok.ID))
		require.Eventually(t, func() bool { _, err := there.WhoAmI(t.Context()); return err != nil }, time.Second, 10*time.Millisecond)
		_, err = there.WhoAmI(t.Context())
		refused(t, err, 401, "unauthenticated")
	}
}
