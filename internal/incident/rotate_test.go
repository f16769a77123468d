package incident_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

// latest is the last entry of a kind in a timeline.
func (s *scene) latest(id string, kind incident.EntryKind) (last incident.Entry) {
	s.t.Helper()
	entries, _, err := s.Timeline(s.t.Context(), s.admin, id, 0, "")
	require.NoError(s.t, err)
	for _, e := range entries {
		if e.Kind == kind {
			last = e
		}
	}
	require.NotEmpty(s.t, last.ID, "there is no entry %s", kind)
	return last
}

// cameTo is the outcome and the code of the last entry of a kind.
func (s *scene) cameTo(id string, kind incident.EntryKind) []string {
	s.t.Helper()
	e := s.latest(id, kind)
	said, _ := e.Details.Get("outcome")
	why, _ := e.Details.Get("code")
	return []string{said.Text(), why.Text()}
}

func (s *scene) status() vault.Status {
	s.t.Helper()
	c, _, err := survey(s.t, s, s.granted.ID)
	require.NoError(s.t, err)
	return c.Status
}

func (s *scene) set(p vault.Patch) {
	s.t.Helper()
	c, _, err := survey(s.t, s, s.granted.ID)
	require.NoError(s.t, err)
	_, err = s.vault.Update(s.t.Context(), s.admin, s.granted.ID, p, c.ETag())
	require.NoError(s.t, err)
}

// rotating contains the granted credential by rotation.
func (s *scene) rotating(id string) incident.Plan {
	s.t.Helper()
	_, done, err := s.Contain(s.t.Context(), s.admin, id, incident.Scope{Credentials: []string{s.granted.ID}, Treat: incident.Rotate}, "", "")
	require.NoError(s.t, err)
	return done
}

// acted are what steps do.
func acted(steps []incident.Step) (out []incident.StepAct) {
	for _, step := range steps {
		out = append(out, step.Act)
	}
	return out
}

// owing counts what is owed, and how often it was tried.
func (s *scene) owing(table string) (n, attempts int) {
	s.t.Helper()
	require.NoError(s.t, s.db.Read(s.t.Context(), func(tx *store.Tx) error {
		if err := tx.Get(&n, `SELECT COUNT(*) FROM `+table); err != nil {
			return err
		}
		return tx.Get(&attempts, `SELECT COALESCE(MAX(attempts), 0) FROM `+table)
	}))
	return n, attempts
}

// TestRotateTakesAnotherRefreshToken: a provider that gives no other refresh token has replaced nothing that leaked: the credential is disabled after all and its grant ended.
// One of which that is known beforehand is not asked.
func TestRotateTakesAnotherRefreshToken(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx, i := t.Context(), s.open()
		s.keeps.Store(true)
		done := s.rotating(i.ID)
		require.Equal(t, []incident.StepAct{incident.RefreshTokens, incident.Advance}, acted(done.Steps))
		n, _ := s.owing("incident_revocations")
		require.Zero(t, n, "an instance from before there were refreshes takes every row of that table for an end")
		before := len(records(t, db))
		require.NoError(t, s.EndGrants(ctx))
		require.Len(t, s.refreshed(), 1)
		require.Equal(t, []string{"failed", "refresh_token_kept"}, s.cameTo(i.ID, incident.Renewed))
		require.Equal(t, vault.Compromised, s.status())
		c, _, err := survey(t, s, s.granted.ID)
		require.NoError(t, err)
		require.NotNil(t, c.RotationDue())
		require.Contains(t, acts(t, db, before), "oauth.revoke pending "+s.granted.ID)
		require.Contains(t, strings.Join(s.asked(), " "), "planted-refresh", "the grant that leaked is ended")
		require.Equal(t, "revoked", s.cameTo(i.ID, incident.Revoked)[0])
		plan, err := s.Plan(ctx, s.admin, i.ID, incident.Scope{Credentials: []string{s.granted.ID}, Treat: incident.Rotate})
		require.NoError(t, err)
		require.Empty(t, plan.Steps)
		require.Len(t, s.refreshed(), 1)
		for _, body := range records(t, db) {
			require.NotContains(t, body, "planted-")
		}

		// Google goes on with its refresh tokens, so that rotating there would keep what leaked.
		google, err := s.vault.Create(ctx, s.admin, vault.Draft{Type: vault.OAuth, Meta: vault.Meta{Name: "calendar", Provider: "google"},
			Secrets: map[string]secret.Value{"access_token": secret.FromString("planted-access"), "refresh_token": secret.FromString("planted-refresh")}})
		require.NoError(t, err)
		plan, err = s.Plan(ctx, s.admin, i.ID, incident.Scope{Credentials: []string{google.ID}, Treat: incident.Rotate})
		require.NoError(t, err)
		require.Equal(t, []incident.StepAct{incident.MarkCompromise, incident.RotateDue, incident.RevokeUpstream}, acted(plan.Steps))
		// Microsoft gives others, but goes on with the old ones for a day.
		teams, err := s.vault.Create(ctx, s.admin, vault.Draft{Type: vault.OAuth, Meta: vault.Meta{Name: "teams", Provider: "microsoft"},
			Secrets: map[string]secret.Value{"access_token": secret.FromString("planted-access"), "refresh_token": secret.FromString("planted-refresh")}})
		require.NoError(t, err)
		plan, err = s.Plan(ctx, s.admin, i.ID, incident.Scope{Credentials: []string{teams.ID}, Treat: incident.Rotate})
		require.NoError(t, err)
		require.Equal(t, []incident.StepAct{incident.RefreshTokens}, acted(plan.Steps))
		require.Len(t, plan.Warnings, 2)
		require.Contains(t, plan.Warnings[1].Detail, "24 hours")
	})
}

// TestAVersionIsNoOtherToken: a newer version with the same refresh token settles nothing: the provider is asked. One that a person has put another token into does.
func TestAVersionIsNoOtherToken(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx, i := t.Context(), s.open()
		key := secret.FromString("planted-client-secret")
		s.rotating(i.ID)
		s.set(vault.Patch{Secrets: map[string]*secret.Value{"client_secret": &key}})
		require.NoError(t, s.EndGrants(ctx))
		require.Equal(t, []string{"planted-refresh"}, s.refreshed(), "another client secret leaves the token as it was")
		require.Equal(t, "refreshed", s.cameTo(i.ID, incident.Renewed)[0])
		require.Equal(t, vault.Active, s.status())

		// Back to an earlier version, which has what the refreshes have made of its token.
		s.rotating(i.ID)
		_, err := s.vault.Restore(ctx, s.admin, s.granted.ID, s.granted.Version)
		require.NoError(t, err)
		require.NoError(t, s.EndGrants(ctx))
		require.Equal(t, []string{"planted-refresh", "planted-refresh-1"}, s.refreshed())
		require.Equal(t, "refreshed", s.cameTo(i.ID, incident.Renewed)[0])

		// Many refreshes later the version that leaked is not there any more; what they made of it is asked for once more at most.
		s.rotating(i.ID)
		for range 7 {
			_, err := s.tokens.Refresh(ctx, s.admin, s.granted.ID)
			require.NoError(t, err)
		}
		asked := len(s.refreshed())
		require.NoError(t, s.EndGrants(ctx))
		require.LessOrEqual(t, len(s.refreshed()), asked+1)
		require.Equal(t, "refreshed", s.cameTo(i.ID, incident.Renewed)[0])
		require.Equal(t, vault.Active, s.status())

		// Somebody logs in anew: what leaked was not replaced by us, and is not what is lent.
		s.rotating(i.ID)
		asked = len(s.refreshed())
		anew := secret.FromString("planted-anew")
		s.set(vault.Patch{Secrets: map[string]*secret.Value{"refresh_token": &anew}})
		require.NoError(t, s.EndGrants(ctx))
		require.Len(t, s.refreshed(), asked)
		require.Equal(t, "superseded", s.cameTo(i.ID, incident.Renewed)[0])
		n, _ := s.owing("incident_refreshes")
		require.Zero(t, n)
	})
}

// TestMarkedByHandStillHasAGrant: the mark alone ends nothing at the provider, so containing what somebody has marked owes that, once.
func TestMarkedByHandStillHasAGrant(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx, i := t.Context(), s.open()
		s.set(vault.Patch{State: vault.To(vault.Compromised)})
		scope := incident.Scope{Credentials: []string{s.granted.ID}}
		_, done, err := s.Contain(ctx, s.admin, i.ID, scope, "", "")
		require.NoError(t, err)
		require.Equal(t, []incident.StepAct{incident.RevokeUpstream, incident.Advance}, acted(done.Steps))
		plan, err := s.Plan(ctx, s.admin, i.ID, scope)
		require.NoError(t, err)
		require.Empty(t, plan.Steps, "it is owed")
		require.NoError(t, s.EndGrants(ctx))
		require.NotEmpty(t, s.asked())
		plan, err = s.Plan(ctx, s.admin, i.ID, scope)
		require.NoError(t, err)
		require.Empty(t, plan.Steps, "it is done")

		// Another login under the mark has another grant.
		anew := secret.FromString("planted-anew")
		s.set(vault.Patch{Secrets: map[string]*secret.Value{"refresh_token": &anew}})
		plan, err = s.Plan(ctx, s.admin, i.ID, scope)
		require.NoError(t, err)
		require.Equal(t, []incident.StepAct{incident.RevokeUpstream}, acted(plan.Steps))
	})
}

// TestRotateOutlivesAPause: tokens of a credential that is disabled for a while are replaced once it is lent again; those of one that was marked meanwhile are not.
func TestRotateOutlivesAPause(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx, i := t.Context(), s.open()
		// It is disabled after the row was claimed, so that the refresh itself is refused.
		cfg := s.config
		var once atomic.Bool
		cfg.At = func(p incident.Point) error {
			if p == incident.AtAsk && !once.Swap(true) {
				s.set(vault.Patch{State: vault.To(vault.Disabled)})
			}
			return nil
		}
		r, err := incident.New(cfg)
		require.NoError(t, err)
		s.rotating(i.ID)
		require.NoError(t, r.EndGrants(ctx))
		require.True(t, once.Load())
		for range 15 { // more than is ever tried
			s.hurry(0)
			require.NoError(t, s.EndGrants(ctx))
		}
		n, attempts := s.owing("incident_refreshes")
		require.Equal(t, []int{1, 0}, []int{n, attempts})
		require.Empty(t, s.refreshed())
		s.set(vault.Patch{State: vault.To(vault.Active)})
		s.hurry(0)
		require.NoError(t, s.EndGrants(ctx))
		require.Equal(t, []string{"planted-refresh"}, s.refreshed())
		require.Equal(t, "refreshed", s.cameTo(i.ID, incident.Renewed)[0])

		s.rotating(i.ID)
		s.set(vault.Patch{State: vault.To(vault.Compromised)})
		require.NoError(t, s.EndGrants(ctx))
		require.Len(t, s.refreshed(), 1)
		require.Equal(t, "superseded", s.cameTo(i.ID, incident.Renewed)[0])
	})
}

// TestRotateIsGivenUp: after twelve attempts that the provider has failed the credential is disabled and its grant ended. Attempts that failed for a reason of our own do not count.
func TestRotateIsGivenUp(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx, i := t.Context(), s.open()
		s.rotating(i.ID)

		// An instance that ends: what refreshes is closed, or the attempt is cut off.
		closed, err := oauth.New(oauth.Config{DB: db, Vault: s.vault, Ring: s.ring, Endpoint: provider.New(provider.Config{}), Servers: s.logins, SpillDir: t.TempDir()})
		require.NoError(t, err)
		closed.Close()
		draining := s.config
		draining.Tokens = closed
		cut := s.config
		var cancel context.CancelFunc
		cut.At = func(p incident.Point) error {
			if p == incident.AtAsk {
				cancel()
			}
			return nil
		}
		for _, cfg := range []incident.Config{draining, cut} {
			r, err := incident.New(cfg)
			require.NoError(t, err)
			for range 15 {
				var run context.Context
				run, cancel = context.WithCancel(ctx)
				s.hurry(0)
				_ = r.EndGrants(run)
				cancel()
			}
			n, attempts := s.owing("incident_refreshes")
			require.Equal(t, []int{1, 0}, []int{n, attempts})
		}
		require.Empty(t, s.refreshed())
		require.Equal(t, vault.Active, s.status())

		s.refuse.Store(true)
		for n := range 12 {
			require.Equal(t, vault.Active, s.status(), "after %d attempts", n)
			s.rest()
			s.hurry(0)
			require.NoError(t, s.EndGrants(ctx))
		}
		require.Len(t, s.refreshed(), 12)
		require.Equal(t, vault.Compromised, s.status())
		require.Equal(t, "failed", s.cameTo(i.ID, incident.Renewed)[0])
		tries, _ := s.latest(i.ID, incident.Renewed).Details.Get("attempts")
		require.Equal(t, "12", tries.Text())
		s.refuse.Store(false)
		s.hurry(0)
		require.NoError(t, s.EndGrants(ctx))
		require.NotEmpty(t, s.asked())
	})
}

// TestAHungProviderHoldsUpNobody: while one provider does not answer, the grants of another are ended.
func TestAHungProviderHoldsUpNobody(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx, i := t.Context(), s.open()
		until := make(chan struct{})
		s.hangs.Store(&until)
		other := make(chan string, 10)
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { other <- r.URL.Path }))
		t.Cleanup(server.Close)
		name, client := "second", "client-2"
		_, err := s.logins.AddProvider(ctx, s.admin, oauth.ProviderEdit{Name: &name, TokenURLs: &[]string{server.URL + "/token"}, RevokeURL: to(server.URL + "/revoke"), ClientID: &client, Auth: to(provider.AuthNone)})
		require.NoError(t, err)
		second, err := s.vault.Create(ctx, s.admin, vault.Draft{Type: vault.OAuth, Meta: vault.Meta{Name: "second", Provider: "second"},
			Secrets: map[string]secret.Value{"access_token": secret.FromString("planted-access"), "refresh_token": secret.FromString("planted-refresh")}})
		require.NoError(t, err)
		s.rotating(i.ID)
		ended := make(chan error, 1)
		cfg := s.config
		cfg.Every = 20 * time.Millisecond
		r, err := incident.New(cfg)
		require.NoError(t, err)
		go func() { ended <- r.EndGrants(ctx) }()
		require.Eventually(t, func() bool { return len(s.refreshed()) == 1 }, 10*time.Second, 5*time.Millisecond)
		_, _, err = s.Contain(ctx, s.admin, i.ID, incident.Scope{Credentials: []string{second.ID}}, "", "")
		require.NoError(t, err)
		select {
		case path := <-other:
			require.Equal(t, "/revoke", path)
		case err := <-ended:
			require.Fail(t, "the pass ended before the provider that hangs", fmt.Sprint(err))
		case <-time.After(15 * time.Second):
			require.Fail(t, "the other provider was not asked")
		}
		close(until)
		require.NoError(t, <-ended)
		_, attempts := s.owing("incident_refreshes")
		require.Zero(t, attempts)
	})
}
