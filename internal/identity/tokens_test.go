package identity_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

func TestTokenLifeCycle(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		u, admin := h.admin()
		end := h.clock.Now().Add(time.Hour)
		tok, v, err := h.IssueToken(t.Context(), admin, identity.TokenDraft{
			Name: "laptop", Scopes: identity.Scopes{identity.CredentialRead, identity.TokenRead, identity.CredentialRead}, ExpiresAt: &end,
		})
		require.NoError(t, err)
		bearer := v.Reveal()
		require.True(t, strings.HasPrefix(bearer, "sbp_"))
		require.Equal(t, "sbp_…"+bearer[len(bearer)-4:], tok.Preview)
		require.Equal(t, identity.Scopes{identity.CredentialRead, identity.TokenRead}, tok.Scopes)
		require.Equal(t, identity.StatusActive, tok.Status)

		caller, err := h.Token(bearer)
		require.NoError(t, err)
		require.Equal(t, identity.Caller{
			Kind: identity.KindToken, ID: tok.ID, Name: "Ada / laptop", UserID: u.ID, Role: identity.Administrator, Scopes: tok.Scopes, OnBehalf: u.ID, Until: *tok.ExpiresAt,
		}, caller)
		require.Equal(t, u.ID, caller.Event(store.CredentialView, store.Target{}).OnBehalf)

		tokens, next, err := h.ListTokens(t.Context(), caller, identity.TokenFilter{})
		require.NoError(t, err)
		require.Empty(t, next)
		require.Len(t, tokens, 1)
		require.Equal(t, h.clock.Now(), *tokens[0].LastUsedAt, "its use is seen at once")
		tokens[0].LastUsedAt = nil
		require.Equal(t, tok, tokens[0])

		h.clock.Add(time.Hour)
		_, err = h.Token(bearer)
		require.ErrorContains(t, err, "expired")
		require.NoError(t, h.RevokeToken(t.Context(), admin, tok.ID))
		_, err = h.Token(bearer)
		require.ErrorContains(t, err, "revoked")
		requireFault(t, "not_found", h.RevokeToken(t.Context(), admin, tok.ID))
		requireFault(t, "not_found", h.RevokeToken(t.Context(), admin, "tok_nonsense"))
		tokens, _, err = h.ListTokens(t.Context(), admin, identity.TokenFilter{Status: identity.StatusRevoked})
		require.NoError(t, err)
		require.Len(t, tokens, 1)

		issued := h.eventsOf(store.TokenIssue)
		require.Len(t, issued, 1)
		require.Equal(t, "[credentials:read tokens:read]", detail(t, issued[0], "scopes"))
		require.Len(t, h.eventsOf(store.TokenRevoke), 1)
	})
}

func TestTokenCannotGrowItsRights(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		_, admin := h.admin()
		_, v, err := h.IssueToken(t.Context(), admin, identity.TokenDraft{Name: "narrow", Scopes: identity.Scopes{identity.TokenWrite, identity.TrainRead}})
		require.NoError(t, err)
		narrow, err := h.Token(v.Reveal())
		require.NoError(t, err)

		_, _, err = h.IssueToken(t.Context(), narrow, identity.TokenDraft{Name: "wide", Scopes: identity.Scopes{identity.CredentialReveal}})
		requireFault(t, "scope_missing", err)
		refused := h.eventsOf(store.IdentityRefused)
		require.Len(t, refused, 1)
		require.Equal(t, narrow.ID, refused[0].Actor.ID)

		child, _, err := h.IssueToken(t.Context(), narrow, identity.TokenDraft{Name: "same"})
		require.NoError(t, err)
		require.ElementsMatch(t, narrow.Scopes, child.Scopes)

		_, v, err = h.IssueToken(t.Context(), admin, identity.TokenDraft{Name: "reader", Scopes: identity.Scopes{identity.TrainRead}})
		require.NoError(t, err)
		reader, err := h.Token(v.Reveal())
		require.NoError(t, err)
		_, _, err = h.IssueToken(t.Context(), reader, identity.TokenDraft{Name: "x"})
		requireFault(t, "scope_missing", err)
		_, _, err = h.ListTokens(t.Context(), reader, identity.TokenFilter{})
		requireFault(t, "scope_missing", err)
	})
}

func TestTokensOfOthers(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		_, admin := h.admin()
		member, other := h.addUser(identity.Member, true), h.addUser(identity.Member, true)
		gone := h.addUser(identity.Member, false)
		own, v, err := h.IssueToken(t.Context(), person(member), identity.TokenDraft{Name: "mine"})
		require.NoError(t, err)
		require.Equal(t, identity.RoleScopes(identity.Member), own.Scopes)

		_, _, err = h.IssueToken(t.Context(), person(member), identity.TokenDraft{Name: "x", UserID: other.ID})
		requireFault(t, "forbidden", err)
		_, _, err = h.ListTokens(t.Context(), person(other), identity.TokenFilter{UserID: member.ID})
		requireFault(t, "forbidden", err)
		requireFault(t, "not_found", h.RevokeToken(t.Context(), person(other), own.ID))
		require.Len(t, h.eventsOf(store.IdentityRefused), 3)
		_, err = h.Token(v.Reveal())
		require.NoError(t, err)

		_, _, err = h.IssueToken(t.Context(), admin, identity.TokenDraft{Name: "x", UserID: other.ID})
		require.NoError(t, err)
		_, _, err = h.IssueToken(t.Context(), identity.System("init"), identity.TokenDraft{Name: "x", UserID: other.ID})
		require.NoError(t, err)
		_, _, err = h.IssueToken(t.Context(), admin, identity.TokenDraft{Name: "x", UserID: "user_none"})
		requireFault(t, "not_found", err)
		_, _, err = h.IssueToken(t.Context(), identity.System("init"), identity.TokenDraft{Name: "x"})
		requireFault(t, "not_found", err)
		_, _, err = h.IssueToken(t.Context(), admin, identity.TokenDraft{Name: "x", UserID: gone.ID})
		requireFault(t, "state_conflict", err)
		require.NoError(t, h.RevokeToken(t.Context(), admin, own.ID))
		_, err = h.Token(v.Reveal())
		requireFault(t, "unauthenticated", err)
	})
}

func TestTokenInputIsChecked(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		auditor := person(h.addUser(identity.Auditor, true))
		for _, c := range []struct {
			draft   identity.TokenDraft
			pointer string
		}{
			{identity.TokenDraft{}, "/name"},
			{identity.TokenDraft{Name: "x", Scopes: identity.Scopes{identity.AuditRead, "everything"}}, "/scopes/1"},
			{identity.TokenDraft{Name: "x", Scopes: identity.Scopes{identity.CredentialWrite}}, "/scopes/0"},
			{identity.TokenDraft{Name: "x", ExpiresAt: ptr(h.clock.Now())}, "/expires_at"},
		} {
			_, _, err := h.IssueToken(t.Context(), auditor, c.draft)
			f := requireFault(t, "validation_failed", err)
			require.Len(t, f.Fields, 1)
			require.Equal(t, c.pointer, f.Fields[0].Pointer)
			require.NotContains(t, f.Detail, "everything")
		}
		many := identity.Scopes(slices.Repeat([]identity.Permission{"x"}, 100_000))
		_, _, err := h.IssueToken(t.Context(), auditor, identity.TokenDraft{Name: "x", Scopes: many})
		require.Less(t, len(requireFault(t, "validation_failed", err).Fields), len(identity.Permissions())+3)

		for range identity.MaxTokens {
			_, _, err := h.IssueToken(t.Context(), auditor, identity.TokenDraft{Name: "x"})
			require.NoError(t, err)
		}
		_, _, err = h.IssueToken(t.Context(), auditor, identity.TokenDraft{Name: "x"})
		requireFault(t, "state_conflict", err)
		tokens, next, err := h.ListTokens(t.Context(), auditor, identity.TokenFilter{Limit: 60})
		require.NoError(t, err)
		require.Len(t, tokens, 60)
		tokens, next, err = h.ListTokens(t.Context(), auditor, identity.TokenFilter{Limit: 60, Cursor: next})
		require.NoError(t, err)
		require.Len(t, tokens, 40)
		require.Empty(t, next)
	})
}

// TestRoleAndDeactivationAreSeenAtOnce changes a person behind a token that is in use.
func TestRoleAndDeactivationAreSeenAtOnce(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		u, admin := h.admin()
		_, v, err := h.IssueToken(t.Context(), admin, identity.TokenDraft{Name: "x"})
		require.NoError(t, err)
		change := func(set string) {
			require.NoError(t, h.write(func(tx *store.Tx) error {
				if _, err := tx.Exec(`UPDATE users SET `+set+` WHERE id = $1`, u.ID); err != nil {
					return err
				}
				tx.Change(store.TopicUser, u.ID)
				return tx.Record(identity.System("test").Event(store.UserCreate, u.Target()))
			}))
		}
		change(`role = 'auditor'`)
		caller, err := h.Token(v.Reveal())
		require.NoError(t, err)
		requireFault(t, "forbidden", identity.Allow(caller, identity.CredentialWrite))
		require.NoError(t, identity.Allow(caller, identity.AuditRead))

		change(`role = 'owner'`) // a role that this version does not know
		caller, err = h.Token(v.Reveal())
		require.NoError(t, err)
		for _, row := range identity.Permissions() {
			requireFault(t, "forbidden", identity.Allow(caller, row.Permission))
		}
		change(`active = 0`)
		_, err = h.Token(v.Reveal())
		requireFault(t, "unauthenticated", err)
		change(`active = 1, role = 'administrator'`)
		_, err = h.Token(v.Reveal())
		require.NoError(t, err)
		require.NoError(t, h.write(func(tx *store.Tx) error {
			if _, err := tx.Exec(`DELETE FROM users WHERE id = $1`, u.ID); err != nil {
				return err
			}
			tx.Change(store.TopicUser, u.ID)
			return tx.Record(identity.System("test").Event(store.UserCreate, u.Target()))
		}))
		_, err = h.Token(v.Reveal())
		requireFault(t, "unauthenticated", err)
	})
}
