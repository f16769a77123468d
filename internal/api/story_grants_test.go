package api_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestStoryTrainGrants: who writes trains but reads no credential may link what was granted to the train, learns nothing of the rest, and
// the link ends with the grant.
func TestStoryTrainGrants(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		cred, hidden := h.account("granted"), h.account("hidden")
		_, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web"})
		require.NoError(t, err)
		linker := h.as(h.with(identity.TrainWrite, identity.TrainRead))
		link := func(id string) error {
			_, _, err := linker.Link(ctx, "web", client.LinkDraft{CredentialID: id})
			return err
		}
		e := refused(t, link(cred), 403, "scope_missing")
		require.Equal(t, e.Detail, refused(t, link(store.NewID("cred")), 403, "scope_missing").Detail, "one that does not exist is refused alike")

		train := client.GrantDraft{Grantee: client.GranteeRef{Kind: "train", ID: "web"}, Use: true}
		g, err := h.client.CredentialGrants(ctx, cred)
		require.NoError(t, err)
		require.True(t, g.Grants[0].Owner, "who stored it owns it")
		require.Equal(t, adminEmail, g.Grants[0].Grantee.Name)
		wrong := train
		wrong.Reveal = true
		_, err = h.client.SetCredentialGrants(ctx, cred, client.GrantsDraft{Grants: append(drafts(g), wrong)})
		refused(t, err, 422, "validation_failed")
		h.grant(cred, train)
		require.NoError(t, link(cred))
		refused(t, link(hidden), 403, "scope_missing")

		_, err = h.client.SetCredentialGrants(ctx, cred, client.GrantsDraft{Grants: drafts(g), IfMatch: g.ETag})
		refused(t, err, 412, "etag_mismatch")
		_, err = h.client.SetCredentialGrants(ctx, cred, client.GrantsDraft{Grants: drafts(g)})
		require.NoError(t, err)
		links, err := h.client.Links(ctx, "web")
		require.NoError(t, err)
		require.Empty(t, links, "the link went with the grant")
		actions := []store.Action{}
		for _, ev := range h.events()[:8] {
			actions = append(actions, ev.Action)
		}
		require.Contains(t, actions, store.CredentialGrant)
		require.Contains(t, actions, store.TrainUnlink)

		// A grant on the client does as well, for as long as one of the two stands.
		storetest.Homes(t, h.db, "acme", "", "")
		_, err = h.client.UpdateCredential(ctx, cred, client.CredentialPatch{ClientID: ptr("acme")})
		require.NoError(t, err)
		_, err = h.client.SetClientGrants(ctx, "acme", client.GrantsDraft{Grants: []client.GrantDraft{train}})
		require.NoError(t, err)
		h.grant(cred, train)
		require.NoError(t, link(cred))
		_, err = h.client.SetClientGrants(ctx, "acme", client.GrantsDraft{})
		require.NoError(t, err)
		links, err = h.client.Links(ctx, "web")
		require.NoError(t, err)
		require.Len(t, links, 1)
		require.NoError(t, h.client.DeleteTrain(ctx, "web", true))
		g, err = h.client.CredentialGrants(ctx, cred)
		require.NoError(t, err)
		require.False(t, slices.ContainsFunc(g.Grants, func(x client.Grant) bool { return x.Grantee.Kind == "train" }), "what was granted to a train goes with it")
	})
}

// TestStoryServiceAccounts: a service account has a role of no more than its maker's, works by its own tokens, and ends at once when it is
// deactivated.
func TestStoryServiceAccounts(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		operator := h.as(h.withRole(identity.Operator))
		_, err := operator.CreateServiceAccount(ctx, client.ServiceAccountDraft{Name: "too much", Role: "administrator"})
		refused(t, err, 403, "forbidden")
		_, err = operator.CreateServiceAccount(ctx, client.ServiceAccountDraft{Name: "too much", Role: "auditor"})
		refused(t, err, 403, "forbidden") // an auditor reads what an operator may not
		boss, err := h.client.CreateServiceAccount(ctx, client.ServiceAccountDraft{Name: "boss", Role: "administrator"})
		require.NoError(t, err)
		_, err = operator.IssueToken(ctx, client.TokenDraft{ServiceAccountID: boss.ID, Name: "mine"})
		refused(t, err, 403, "forbidden")
		_, err = operator.UpdateServiceAccount(ctx, boss.ID, client.ServiceAccountPatch{Role: ptr("member")})
		refused(t, err, 403, "forbidden")

		a, err := operator.CreateServiceAccount(ctx, client.ServiceAccountDraft{Name: "ci"})
		require.NoError(t, err)
		require.Equal(t, "member", a.Role)
		_, err = h.client.CreateServiceAccount(ctx, client.ServiceAccountDraft{Name: "CI"})
		refused(t, err, 409, "already_exists")
		_, err = operator.IssueToken(ctx, client.TokenDraft{ServiceAccountID: a.ID, Name: "x", Scopes: []string{"audit:read"}})
		refused(t, err, 422, "validation_failed") // beyond its role
		_, err = operator.IssueToken(ctx, client.TokenDraft{ServiceAccountID: a.ID, UserID: h.user.ID, Name: "x"})
		refused(t, err, 422, "validation_failed")
		later := time.Now().Add(time.Hour)
		tok, err := operator.IssueToken(ctx, client.TokenDraft{ServiceAccountID: a.ID, Name: "build", Scopes: []string{"credentials:read", "credentials:write", "tokens:read", "tokens:write"}, ExpiresAt: &later})
		require.NoError(t, err)
		require.Equal(t, a.ID, tok.ServiceAccountID)
		require.Empty(t, tok.UserID)
		ci := h.as(tok.Secret)
		who, err := ci.WhoAmI(ctx)
		require.NoError(t, err)
		require.Equal(t, "service", who.Kind)
		require.Equal(t, a.ID, who.ServiceAccountID)

		// What it stores is its own; scopes narrow what it may do with it.
		made, err := ci.CreateCredential(ctx, client.CredentialDraft{Type: "password", Name: "own", Secrets: map[string]string{"password": "planted-of-the-pipeline"}})
		require.NoError(t, err)
		_, err = ci.RevealCredential(ctx, made.ID, "password", "look")
		refused(t, err, 403, "scope_missing")
		_, err = ci.GetCredential(ctx, h.account("other"))
		refused(t, err, 404, "not_found")
		ev := h.events()
		i := slices.IndexFunc(ev, func(e store.Event) bool { return e.Action == store.CredentialCreate && e.Target.ID == made.ID })
		require.Equal(t, "service", ev[i].Actor.Kind)
		require.Equal(t, a.ID, ev[i].OnBehalf)
		own, err := ci.ListTokens(ctx, client.TokenFilter{})
		require.NoError(t, err)
		require.Len(t, own.Tokens, 1)
		_, err = ci.IssueToken(ctx, client.TokenDraft{Name: "wider", Scopes: []string{"credentials:reveal"}})
		refused(t, err, 403, "scope_missing")

		_, err = operator.UpdateServiceAccount(ctx, a.ID, client.ServiceAccountPatch{Active: ptr(false)})
		require.NoError(t, err)
		_, err = ci.WhoAmI(ctx)
		refused(t, err, 401, "unauthenticated")
		_, err = operator.IssueToken(ctx, client.TokenDraft{ServiceAccountID: a.ID, Name: "y"})
		refused(t, err, 409, "state_conflict")
		_, err = operator.UpdateServiceAccount(ctx, a.ID, client.ServiceAccountPatch{Active: ptr(true)})
		require.NoError(t, err)
		_, err = ci.WhoAmI(ctx)
		require.NoError(t, err)
		require.NoError(t, operator.RevokeToken(ctx, tok.ID))
		_, err = ci.WhoAmI(ctx)
		refused(t, err, 401, "unauthenticated")
	})
}

// TestTakenRightsReachOtherInstances: on another instance, too, a grant and a membership are gone with the acknowledgement, and a service
// account ends within a second.
func TestTakenRightsReachOtherInstances(t *testing.T) {
	if !slices.Contains(storetest.Engines(), store.Postgres) {
		t.Log("only PostgreSQL has a second instance")
		return
	}
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	cfg := storetest.Config(t, store.Postgres)
	h := newInstance(t, store.Postgres, cfg, root)
	h.setUp()
	other := newInstance(t, store.Postgres, cfg, root)
	ctx := t.Context()
	l := h.limited()
	cred := h.account("shared")
	require.Eventually(t, func() bool {
		_, err := other.as(l[0].token).WhoAmI(ctx)
		_, err2 := other.as(l[1].token).WhoAmI(ctx)
		return err == nil && err2 == nil
	}, 10*time.Second, 20*time.Millisecond)
	reads := func(l limited) error {
		_, err := other.as(l.token).GetCredential(ctx, cred)
		return err
	}
	refused(t, reads(l[0]), 404, "not_found")
	h.grant(cred, client.GrantDraft{Grantee: client.GranteeRef{Kind: "group", ID: l[0].group}, Use: true})
	require.NoError(t, reads(l[0]))
	require.NoError(t, h.client.RemoveGroupMember(ctx, l[0].group, l[0].id))
	refused(t, reads(l[0]), 404, "not_found")
	h.grant(cred, client.GrantDraft{Grantee: client.GranteeRef{Kind: "service_account", ID: l[1].id}, Use: true})
	require.NoError(t, reads(l[1]))
	_, err = h.client.UpdateServiceAccount(ctx, l[1].id, client.ServiceAccountPatch{Active: ptr(false)})
	require.NoError(t, err)
	begun := time.Now()
	require.Eventually(t, func() bool { return reads(l[1]) != nil }, 10*time.Second, 20*time.Millisecond)
	t.Logf("the other instance refused the deactivated service account after %s", time.Since(begun))
	refused(t, reads(l[1]), 401, "unauthenticated")
}
