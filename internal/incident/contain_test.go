package incident_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

const password = "correct horse battery staple"

// scene is a house with somebody to contain and everything that they have in hand.
type scene struct {
	*house
	t       *testing.T
	admin   identity.Caller
	bob     identity.User
	service identity.ServiceAccount
	train   train.Train
	keys    []identity.Key
	plain   vault.Credential
	granted vault.Credential
	other   identity.Key // of another train, which stays
	// revocations are the tokens that the provider was asked to revoke; refuse makes it answer 503.
	mu          sync.Mutex
	revocations []string
	refuse      atomic.Bool
	// refreshes are the refresh tokens that the provider was sent; spent makes it refuse them, keeps makes it go on with them.
	refreshes    []string
	spent, keeps atomic.Bool
	// hangs, when it is set, is what the token endpoint waits for.
	hangs atomic.Pointer[chan struct{}]
}

func newScene(t *testing.T, db *store.DB) *scene {
	t.Helper()
	s := &scene{house: newHouse(t, db), t: t}
	ctx := t.Context()
	require.NoError(t, db.Start(ctx))
	require.NoError(t, s.identity.Start(ctx))
	require.NoError(t, s.tokens.Start())
	t.Cleanup(func() { _ = s.identity.Close(); s.trains.Close() })
	system := identity.System("test")
	ada, _, err := s.identity.CreateUser(ctx, system, identity.UserDraft{Email: "ada@example.com", Name: "Ada", Role: identity.Administrator, Password: secret.FromString(password)})
	require.NoError(t, err)
	s.admin = identity.Caller{Kind: identity.KindToken, ID: "tok_x", Name: "Ada", UserID: ada.ID, Role: identity.Administrator, Scopes: identity.RoleScopes(identity.Administrator)}
	s.bob, _, err = s.identity.CreateUser(ctx, system, identity.UserDraft{Email: "bob@example.com", Name: "Bob", Role: identity.Operator, Password: secret.FromString(password)})
	require.NoError(t, err)
	s.signIn()
	s.signIn()
	_, _, err = s.identity.IssueToken(ctx, s.admin, identity.TokenDraft{UserID: s.bob.ID, Name: "laptop"})
	require.NoError(t, err)
	s.service, err = s.identity.CreateServiceAccount(ctx, s.admin, identity.ServiceAccountDraft{Name: "ci"})
	require.NoError(t, err)
	_, _, err = s.identity.IssueToken(ctx, s.admin, identity.TokenDraft{ServiceID: s.service.ID, Name: "ci"})
	require.NoError(t, err)
	s.train, err = s.trains.CreateTrain(ctx, s.admin, train.Draft{Slug: "web"})
	require.NoError(t, err)
	for n := range 3 {
		k, _, err := s.trains.IssueKey(ctx, s.admin, "web", identity.KeyDraft{Name: fmt.Sprint("k", n)})
		require.NoError(t, err)
		s.keys = append(s.keys, k)
	}
	_, err = s.trains.CreateTrain(ctx, s.admin, train.Draft{Slug: "other"})
	require.NoError(t, err)
	s.other, _, err = s.trains.IssueKey(ctx, s.admin, "other", identity.KeyDraft{Name: "stays"})
	require.NoError(t, err)
	s.plain, err = s.vault.Create(ctx, s.admin, vault.Draft{Type: vault.Password, Meta: vault.Meta{Name: "forge"}, Secrets: map[string]secret.Value{"password": secret.FromString("planted")}})
	require.NoError(t, err)
	s.connect()
	return s
}

func (s *scene) signIn() {
	s.t.Helper()
	_, err := s.identity.Login(s.t.Context(), identity.Caller{Kind: identity.KindAnonymous, IP: "192.0.2.1"}, "bob@example.com", secret.FromString(password), identity.SessionAPI)
	require.NoError(s.t, err)
}

// connect stores an OAuth credential of a provider that takes revocations.
func (s *scene) connect() {
	s.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			s.refresh(w, r)
			return
		}
		b, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.revocations = append(s.revocations, string(b))
		s.mu.Unlock()
		if s.refuse.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	s.t.Cleanup(server.Close)
	name, client := "work", "client-1"
	_, err := s.logins.AddProvider(s.t.Context(), s.admin, oauth.ProviderEdit{Name: &name, TokenURLs: &[]string{server.URL + "/token"}, RevokeURL: to(server.URL + "/revoke"), ClientID: &client, Auth: to(provider.AuthNone)})
	require.NoError(s.t, err)
	s.granted, err = s.vault.Create(s.t.Context(), s.admin, vault.Draft{Type: vault.OAuth, Meta: vault.Meta{Name: "mail", Provider: "work"},
		Secrets: map[string]secret.Value{"access_token": secret.FromString("planted-access"), "refresh_token": secret.FromString("planted-refresh")}})
	require.NoError(s.t, err)
}

// refresh is what the provider says to a refresh token.
func (s *scene) refresh(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.refreshes = append(s.refreshes, r.PostFormValue("refresh_token"))
	n := len(s.refreshes)
	s.mu.Unlock()
	if until := s.hangs.Load(); until != nil {
		select {
		case <-*until:
		case <-r.Context().Done():
		}
	}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case s.refuse.Load():
		w.WriteHeader(http.StatusTooManyRequests)
	case s.spent.Load():
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
	case s.keeps.Load():
		_, _ = fmt.Fprintf(w, `{"access_token":"planted-access-%d","token_type":"bearer","expires_in":3600}`, n)
	default:
		_, _ = fmt.Fprintf(w, `{"access_token":"planted-access-%d","refresh_token":"planted-refresh-%d","token_type":"bearer","expires_in":3600}`, n, n)
	}
}

func (s *scene) refreshed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refreshes)
}

func (s *scene) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.revocations)
}

// everything is a scope of all that there is to contain.
func (s *scene) everything() incident.Scope {
	return incident.Scope{Credentials: []string{s.granted.ID, s.plain.ID}, Trains: []string{"web"}, People: []string{s.bob.ID}, ServiceAccounts: []string{s.service.ID}, ClientKeys: []string{s.keys[1].ID}, Deactivate: true}
}

func (s *scene) open() incident.Incident {
	s.t.Helper()
	i, err := s.Open(s.t.Context(), s.admin, incident.Draft{Meta: incident.Meta{Title: "Stolen laptop"}})
	require.NoError(s.t, err)
	return i
}

// acts are what is on record, as "action target-id".
func acts(t *testing.T, db *store.DB, from int) (out []string) {
	t.Helper()
	for _, b := range records(t, db)[from:] {
		ev, err := store.DecodeEvent([]byte(b))
		require.NoError(t, err)
		out = append(out, string(ev.Action)+" "+ev.Outcome+" "+ev.Target.ID)
	}
	return out
}

// TestDryRunEqualsTheAct: what the plan says is what the act does and records, no more and no less, and a second plan finds nothing left.
func TestDryRunEqualsTheAct(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx, i := t.Context(), s.open()
		before := len(records(t, db))
		plan, err := s.Plan(ctx, s.admin, i.ID, s.everything())
		require.NoError(t, err)
		require.Len(t, records(t, db), before, "a plan does nothing")
		kinds := map[incident.StepAct]int{}
		for _, step := range plan.Steps {
			kinds[step.Act]++
		}
		require.Equal(t, map[incident.StepAct]int{incident.EndSession: 2, incident.RevokeToken: 2, incident.Deactivate: 1, incident.MarkCompromise: 2, incident.RevokeUpstream: 1, incident.RevokeKey: 3, incident.Advance: 1}, kinds)
		again, err := s.Plan(ctx, s.admin, i.ID, s.everything())
		require.NoError(t, err)
		require.Equal(t, plan, again)

		// Something changes after the plan was seen.
		s.signIn()
		_, _, err = s.Contain(ctx, s.admin, i.ID, s.everything(), plan.Tag, "")
		refused(t, err, "etag_mismatch")
		plan, err = s.Plan(ctx, s.admin, i.ID, s.everything())
		require.NoError(t, err)
		before = len(records(t, db))
		after, done, err := s.Contain(ctx, s.admin, i.ID, s.everything(), plan.Tag, planted)
		require.NoError(t, err)
		require.Equal(t, plan.Steps, done.Steps)
		require.Equal(t, incident.Contained, after.Status)
		require.Equal(t, []string{s.service.ID}, after.Linked(incident.OfServiceAccount))

		// Each step has its own record, in its order, and there is no other act.
		want := []string{}
		for _, step := range plan.Steps {
			action := map[incident.StepAct]string{incident.EndSession: "identity.session_end ok ", incident.RevokeToken: "identity.token_revoke ok ", incident.Deactivate: "identity.user_deactivate ok ",
				incident.MarkCompromise: "credential.update ok ", incident.RevokeUpstream: "oauth.revoke pending ", incident.RevokeKey: "key.revoke ok "}[step.Act]
			if action != "" {
				want = append(want, action+step.ID)
			}
		}
		want = append(want, "incident.contain ok "+i.ID, "incident.advance ok "+i.ID)
		require.Equal(t, want, acts(t, db, before))
		for _, body := range records(t, db) {
			require.NotContains(t, body, planted)
		}

		left, err := s.Plan(ctx, s.admin, i.ID, s.everything())
		require.NoError(t, err)
		require.Empty(t, left.Steps)
		require.Equal(t, incident.WarnNothing, left.Warnings[0].Code)
		c, _, err := survey(t, s, s.plain.ID)
		require.NoError(t, err)
		require.Equal(t, vault.Compromised, c.Status)
		keys, _, err := s.trains.ListKeys(ctx, s.admin, "other", identity.KeyFilter{Status: identity.StatusActive})
		require.NoError(t, err)
		require.Len(t, keys, 1, "what is not in the scope stays")
		_, err = s.identity.Login(ctx, identity.Caller{Kind: identity.KindAnonymous, IP: "192.0.2.1"}, "bob@example.com", secret.FromString(password), identity.SessionAPI)
		refused(t, err, "login_failed")
		entries, _, err := s.Timeline(ctx, s.admin, i.ID, 0, "")
		require.NoError(t, err)
		require.Equal(t, []incident.EntryKind{incident.Opened, incident.Act, incident.Moved}, []incident.EntryKind{entries[0].Kind, entries[1].Kind, entries[2].Kind})
		require.Equal(t, planted, entries[1].Text)
	})
}

func survey(t *testing.T, s *scene, id string) (c vault.Credential, known bool, err error) {
	t.Helper()
	err = s.db.Read(t.Context(), func(tx *store.Tx) error {
		c, known, err = s.vault.Survey(tx, id, false)
		return err
	})
	return c, known, err
}

// TestWhoMayContain: each part of a scope needs what it needs by itself, a session needs a fresh proof, and nobody locks themselves or the last administrator out unseen.
func TestWhoMayContain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx, i := t.Context(), s.open()
		scopes := map[string]incident.Scope{
			"credentials": {Credentials: []string{s.plain.ID}}, "trains": {Trains: []string{"web"}}, "keys": {ClientKeys: []string{s.keys[0].ID}},
			"people": {People: []string{s.bob.ID}}, "service accounts": {ServiceAccounts: []string{s.service.ID}},
		}
		may := map[identity.Role][]string{identity.Administrator: {"credentials", "trains", "keys", "people", "service accounts"}, identity.Operator: {"credentials", "trains", "keys", "service accounts"}, identity.Auditor: nil, identity.Member: nil, "wizard": nil}
		for role, allowed := range may {
			for name, scope := range scopes {
				_, err := s.Plan(ctx, somebody(role), i.ID, scope)
				_, _, err2 := s.Contain(ctx, somebody(role), i.ID, scope, "*", "") // a session whose proof is old
				if slices.Contains(allowed, name) {
					require.NoError(t, err, "%s %s", role, name)
					refused(t, err2, "step_up_required")
					continue
				}
				refused(t, err, "forbidden")
				refused(t, err2, "forbidden")
			}
		}
		for p, name := range map[identity.Permission]string{identity.CredentialWrite: "credentials", identity.KeyWrite: "trains", identity.UserWrite: "people", identity.ServiceWrite: "service accounts", identity.IncidentWrite: "keys"} {
			narrow := s.admin
			narrow.Scopes = slices.DeleteFunc(slices.Clone(narrow.Scopes), func(q identity.Permission) bool { return p == q })
			_, err := s.Plan(ctx, narrow, i.ID, scopes[name])
			refused(t, err, "scope_missing")
		}
		self := incident.Scope{People: []string{s.admin.UserID}}
		plan, err := s.Plan(ctx, s.admin, i.ID, self)
		require.NoError(t, err)
		require.Equal(t, incident.WarnYourself, plan.Warnings[0].Code)
		_, _, err = s.Contain(ctx, s.admin, i.ID, self, "", "")
		refused(t, err, "state_conflict")
		self.Deactivate = true
		_, err = s.Plan(ctx, s.admin, i.ID, self)
		refused(t, err, "last_administrator")
		_, _, err = s.Contain(ctx, s.admin, i.ID, self, "*", "")
		refused(t, err, "last_administrator")
		_, err = s.identity.UpdateUser(ctx, s.admin, s.bob.ID, identity.UserPatch{Role: to(identity.Administrator)})
		require.NoError(t, err)
		self.People = append(self.People, s.bob.ID)
		_, err = s.Plan(ctx, s.admin, i.ID, self)
		refused(t, err, "last_administrator")
		for pointer, scope := range map[string]incident.Scope{
			"/scope": {}, "/scope/credential_ids/0": {Credentials: []string{"cred_x"}}, "/scope/key_ids/1": {ClientKeys: []string{s.keys[0].ID, "key_x"}}, "/scope/train_ids": {Trains: slices.Repeat([]string{"web"}, 101)},
			"/scope/deactivate": {Trains: []string{"web"}, Deactivate: true},
		} {
			_, err := s.Plan(ctx, s.admin, i.ID, scope)
			f := refused(t, err, "validation_failed")
			require.True(t, slices.ContainsFunc(f.Fields, func(x fault.Field) bool { return x.Pointer == pointer }), "%s: %v", pointer, f.Fields)
		}
		for _, status := range []incident.Status{incident.Monitoring, incident.Resolved} {
			_, err = s.Update(ctx, s.admin, i.ID, incident.Patch{Status: &status}, "")
			require.NoError(t, err)
		}
		_, _, err = s.Contain(ctx, s.admin, i.ID, scopes["keys"], "", "")
		refused(t, err, "state_conflict")
		_, err = s.Plan(ctx, s.admin, "inc_x", scopes["keys"])
		refused(t, err, "not_found")
	})
}

// TestGrantsAreEndedUpstream: the provider is asked after the act, again while it fails, by one of several instances, also when the process dies in between; what
// came of it is in the timeline and on record.
func TestGrantsAreEndedUpstream(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx, i := t.Context(), s.open()
		s.refuse.Store(true)
		_, _, err := s.Contain(ctx, s.admin, i.ID, incident.Scope{Credentials: []string{s.granted.ID}}, "", "")
		require.NoError(t, err)
		require.Empty(t, s.asked(), "nothing is asked before somebody claims it: here the process died")
		_, _, err = s.Contain(ctx, s.admin, i.ID, incident.Scope{Credentials: []string{s.granted.ID}}, "", "")
		require.NoError(t, err, "and a second act owes nothing more")

		var rooms []*incident.Room
		for range 4 {
			r, err := incident.New(s.config)
			require.NoError(t, err)
			rooms = append(rooms, r)
		}
		pass := func() {
			var wg sync.WaitGroup
			for _, r := range rooms {
				wg.Go(func() { _ = r.EndGrants(ctx) })
			}
			wg.Wait()
		}
		pass()
		first := s.asked()
		require.NotEmpty(t, first)
		require.LessOrEqual(t, len(first), 2, "one of the four asks, for each of the two tokens at most")
		pass()
		require.Equal(t, first, s.asked(), "it waits before it asks again")
		entries, _, err := s.Timeline(ctx, s.admin, i.ID, 0, "")
		require.NoError(t, err)
		require.NotContains(t, kindsOf(entries), incident.Revoked)
		s.refuse.Store(false)
		s.hurry(0)
		pass()
		require.Greater(t, len(s.asked()), len(first))
		entries, _, err = s.Timeline(ctx, s.admin, i.ID, 0, "")
		require.NoError(t, err)
		last := entries[len(entries)-1]
		require.Equal(t, incident.Revoked, last.Kind)
		outcome, _ := last.Details.Get("outcome")
		require.Equal(t, "revoked", outcome.Text())
		all := records(t, db)
		require.Contains(t, all[len(all)-1], `"action":"oauth.revoke"`)
		require.Contains(t, all[len(all)-1], `"outcome":"ok"`)
		joined := strings.Join(s.asked(), " ")
		require.Contains(t, joined, "planted-refresh")
		asked := len(s.asked())
		s.hurry(0)
		pass()
		require.Len(t, s.asked(), asked, "what is settled is not asked again")

		// A process that died while it asked: its claim lapses, and another asks.
		_, err = s.vault.Update(ctx, s.admin, s.granted.ID, vault.Patch{State: vault.To(vault.Active)}, "\""+"x"+"\"")
		require.Error(t, err)
		c, _, err := survey(t, s, s.granted.ID)
		require.NoError(t, err)
		_, err = s.vault.Update(ctx, s.admin, s.granted.ID, vault.Patch{State: vault.To(vault.Active)}, c.ETag())
		require.NoError(t, err)
		_, _, err = s.Contain(ctx, s.admin, i.ID, incident.Scope{Credentials: []string{s.granted.ID}}, "", "")
		require.NoError(t, err)
		s.hurry(time.Hour) // somebody holds a claim
		pass()
		require.Len(t, s.asked(), asked, "a claim is respected")
		s.hurry(-time.Second)
		pass()
		require.Greater(t, len(s.asked()), asked)
	})
}

// hurry makes what is owed due now, with a claim that lasts for so long.
func (s *scene) hurry(claimed time.Duration) {
	s.t.Helper()
	require.NoError(s.t, s.db.Bookkeep(s.t.Context(), store.Outbox, func(tx *store.Tx) error {
		for _, table := range []string{"incident_revocations", "incident_refreshes"} {
			if _, err := tx.Exec(`UPDATE `+table+` SET next_at = 0, claim_until = $1`, store.TimeOf(tx.Now().Add(claimed))); err != nil {
				return err
			}
		}
		return nil
	}))
}

func kindsOf(entries []incident.Entry) (out []incident.EntryKind) {
	for _, e := range entries {
		out = append(out, e.Kind)
	}
	return out
}

// TestContainWithoutAnIncident: one act opens the incident, contained, and does exactly the dry run; what is not said of it follows from what was contained.
func TestContainWithoutAnIncident(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx, draft := t.Context(), incident.Draft{Meta: incident.Meta{Description: planted}}
		before := len(records(t, db))
		plan, err := s.PlanNew(ctx, s.admin, draft, s.everything())
		require.NoError(t, err)
		require.Len(t, records(t, db), before, "a plan does nothing")
		list, _, err := s.List(ctx, s.admin, incident.Filter{})
		require.NoError(t, err)
		require.Empty(t, list)
		require.Equal(t, incident.Step{Act: incident.OpenNew, Kind: "incident", Name: "Contained credential forge, credential mail, person bob@example.com, service account ci, train web, key k1", Of: "contained"}, sorted(plan.Steps[0]))
		again, err := s.PlanNew(ctx, s.admin, draft, s.everything())
		require.NoError(t, err)
		require.Equal(t, plan, again, "neither the time nor an id is part of it")

		// Another incident, and something that changed since, are another plan.
		worse := draft
		worse.Severity = incident.Critical
		_, _, err = s.ContainNew(ctx, s.admin, worse, s.everything(), plan.Tag, "")
		refused(t, err, "etag_mismatch")
		s.signIn()
		_, _, err = s.ContainNew(ctx, s.admin, draft, s.everything(), plan.Tag, "")
		refused(t, err, "etag_mismatch")
		list, _, err = s.List(ctx, s.admin, incident.Filter{})
		require.NoError(t, err)
		require.Empty(t, list, "what is refused opens nothing")
		plan, err = s.PlanNew(ctx, s.admin, draft, s.everything())
		require.NoError(t, err)

		before = len(records(t, db))
		i, done, err := s.ContainNew(ctx, s.admin, draft, s.everything(), plan.Tag, planted)
		require.NoError(t, err)
		require.Equal(t, plan.Steps, done.Steps)
		require.Equal(t, incident.Contained, i.Status)
		require.Equal(t, incident.CredentialLeak, i.Type)
		require.Equal(t, incident.High, i.Severity)
		require.Equal(t, plan.Steps[0].Name, i.Title)
		got, err := s.Get(ctx, s.admin, i.ID)
		require.NoError(t, err)
		require.Equal(t, i.Links, got.Links)
		require.Equal(t, i.ETag(), got.ETag())
		require.ElementsMatch(t, []string{s.granted.ID, s.plain.ID}, got.Linked(incident.OfCredential))
		require.Equal(t, []string{s.bob.ID}, got.Linked(incident.OfPerson))
		require.Equal(t, []string{s.train.ID}, got.Linked(incident.OfTrain))
		want := []string{"incident.open ok " + i.ID}
		for _, step := range plan.Steps {
			if action := map[incident.StepAct]string{incident.EndSession: "identity.session_end ok ", incident.RevokeToken: "identity.token_revoke ok ", incident.Deactivate: "identity.user_deactivate ok ",
				incident.MarkCompromise: "credential.update ok ", incident.RevokeUpstream: "oauth.revoke pending ", incident.RevokeKey: "key.revoke ok "}[step.Act]; action != "" {
				want = append(want, action+step.ID)
			}
		}
		require.Equal(t, append(want, "incident.contain ok "+i.ID), acts(t, db, before))
		for _, body := range records(t, db) {
			require.NotContains(t, body, planted)
		}
		entries, _, err := s.Timeline(ctx, s.admin, i.ID, 0, "")
		require.NoError(t, err)
		require.Equal(t, []incident.EntryKind{incident.Opened, incident.Act}, kindsOf(entries))
		require.Equal(t, planted, entries[1].Text)
		require.NoError(t, s.EndGrants(ctx))
		require.NotEmpty(t, s.asked(), "its grants are ended like those of any other")

		// What a draft says is kept, with what it names besides, and what is wrong with it is said of it.
		said := incident.Draft{Meta: incident.Meta{Title: "Stolen laptop", Type: incident.UnauthorizedAccess, Severity: incident.Low, IncidentDate: time.Now().Add(-time.Hour)}, Touch: incident.Touch{Trains: []string{"other"}}}
		i, done, err = s.ContainNew(ctx, s.admin, said, incident.Scope{ClientKeys: []string{s.other.ID}}, "", "")
		require.NoError(t, err)
		require.Len(t, done.Steps, 2)
		require.Equal(t, "Stolen laptop", i.Title)
		require.Equal(t, incident.Low, i.Severity)
		require.WithinDuration(t, said.IncidentDate, i.IncidentDate, time.Second)
		require.Len(t, i.Links, 2)
		said.Title, said.Type = " x", "wizardry"
		_, err = s.PlanNew(ctx, s.admin, said, incident.Scope{ClientKeys: []string{s.other.ID}})
		f := refused(t, err, "validation_failed")
		require.Equal(t, []string{"/incident/title", "/incident/incident_type"}, []string{f.Fields[0].Pointer, f.Fields[1].Pointer})
		_, err = s.PlanNew(ctx, s.admin, draft, incident.Scope{})
		refused(t, err, "validation_failed")
		for _, role := range []identity.Role{identity.Auditor, identity.Member, "wizard"} {
			_, _, err = s.ContainNew(ctx, somebody(role), draft, incident.Scope{ClientKeys: []string{s.other.ID}}, "*", "")
			refused(t, err, "forbidden")
		}
		_, _, err = s.ContainNew(ctx, somebody(identity.Operator), draft, incident.Scope{ClientKeys: []string{s.other.ID}}, "*", "")
		refused(t, err, "step_up_required")
		self := incident.Scope{People: []string{s.admin.UserID}}
		_, _, err = s.ContainNew(ctx, s.admin, draft, self, "", "")
		refused(t, err, "state_conflict")
		plan, err = s.PlanNew(ctx, s.admin, draft, incident.Scope{ClientKeys: []string{s.other.ID}})
		require.NoError(t, err)
		require.Equal(t, incident.WarnNothing, plan.Warnings[0].Code)
	})
}

// sorted puts the two credentials of a title in the order of their names: that of their ids is any.
func sorted(step incident.Step) incident.Step {
	step.Name = strings.Replace(step.Name, "credential mail, credential forge", "credential forge, credential mail", 1)
	return step
}

// TestContainRotates: where the provider gives new tokens they are replaced after the act, once, and the credential goes on being lent; everything else is marked and due to be
// rotated at once; and what could not be replaced is treated like that in the end. The dry run says which of them happens to which.
func TestContainRotates(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx, scope := t.Context(), incident.Scope{Credentials: []string{s.granted.ID, s.plain.ID}, Treat: incident.Rotate}
		last := func(id string) incident.Entry {
			t.Helper()
			entries, _, err := s.Timeline(ctx, s.admin, id, 0, "")
			require.NoError(t, err)
			return entries[len(entries)-1]
		}
		detail := func(e incident.Entry, key string) string {
			d, _ := e.Details.Get(key)
			return d.Text()
		}
		plan, err := s.PlanNew(ctx, s.admin, incident.Draft{}, scope)
		require.NoError(t, err)
		steps := map[string][]incident.StepAct{}
		for _, step := range plan.Steps[1:] {
			steps[step.ID] = append(steps[step.ID], step.Act)
		}
		require.Equal(t, map[string][]incident.StepAct{s.granted.ID: {incident.RefreshTokens}, s.plain.ID: {incident.MarkCompromise, incident.RotateDue}}, steps)
		require.Equal(t, []string{incident.WarnLeaked, incident.WarnKept}, []string{plan.Warnings[0].Code, plan.Warnings[1].Code})
		before := len(records(t, db))
		i, done, err := s.ContainNew(ctx, s.admin, incident.Draft{}, scope, plan.Tag, "")
		require.NoError(t, err)
		require.Equal(t, plan.Steps, done.Steps)
		want := []string{"incident.open ok " + i.ID}
		for _, step := range plan.Steps[1:] {
			want = append(want, map[incident.StepAct]string{incident.RefreshTokens: "oauth.force pending ", incident.MarkCompromise: "credential.update ok ", incident.RotateDue: "credential.update ok "}[step.Act]+step.ID)
		}
		require.Equal(t, append(want, "incident.contain ok "+i.ID), acts(t, db, before))
		require.Empty(t, s.refreshed(), "nothing is asked within the act")
		pending, err := s.Plan(ctx, s.admin, i.ID, scope)
		require.NoError(t, err)
		require.Equal(t, []incident.StepAct{incident.Leave}, []incident.StepAct{pending.Steps[0].Act}, "what is owed is not owed twice")

		// The plain one: lent to nobody, first among what is due, told of, until it has a new secret.
		c, _, err := survey(t, s, s.plain.ID)
		require.NoError(t, err)
		require.Equal(t, vault.Compromised, c.Status)
		due, err := s.vault.Due(ctx, s.admin, vault.DueFilter{About: vault.AboutRotation, Before: time.Now().Add(time.Minute)})
		require.NoError(t, err)
		require.Len(t, due.Items, 1)
		require.Equal(t, s.plain.ID, due.Items[0].ID)
		require.Equal(t, 1, due.Overdue)
		listed, _, err := s.vault.List(ctx, s.admin, vault.Filter{RotationDueBefore: to(time.Now().Add(time.Minute))})
		require.NoError(t, err)
		require.Len(t, listed, 1)
		c, err = s.vault.Rotate(ctx, s.admin, s.plain.ID, map[string]secret.Value{"password": secret.FromString("planted-new")}, "contained")
		require.NoError(t, err)
		require.Nil(t, c.RotationDue())
		require.Equal(t, vault.Compromised, c.Status, "the mark is a person's to take back")
		due, err = s.vault.Due(ctx, s.admin, vault.DueFilter{About: vault.AboutRotation})
		require.NoError(t, err)
		require.Empty(t, due.Items)

		// The other: the provider is not ready, then gives new tokens; of several instances one asks, and it is lent all the while.
		s.refuse.Store(true)
		require.NoError(t, s.EndGrants(ctx))
		require.Equal(t, []string{"planted-refresh"}, s.refreshed())
		require.Equal(t, incident.Act, last(i.ID).Kind, "it is tried again")
		s.refuse.Store(false)
		s.rest()
		s.hurry(0)
		var rooms sync.WaitGroup
		for range 4 {
			r, err := incident.New(s.config)
			require.NoError(t, err)
			rooms.Go(func() { _ = r.EndGrants(ctx) })
		}
		rooms.Wait()
		require.Equal(t, []string{"planted-refresh", "planted-refresh"}, s.refreshed())
		require.Equal(t, incident.Renewed, last(i.ID).Kind)
		require.Equal(t, "refreshed", detail(last(i.ID), "outcome"))
		c, _, err = survey(t, s, s.granted.ID)
		require.NoError(t, err)
		require.Equal(t, vault.Active, c.Status)
		require.Equal(t, s.granted.Version+1, c.Version)
		require.Nil(t, c.RotationDue())
		s.hurry(0)
		require.NoError(t, s.EndGrants(ctx))
		require.Len(t, s.refreshed(), 2, "what is settled is not asked again")
		require.Empty(t, s.asked(), "a grant that goes on is not ended")

		// Whoever refreshed it meanwhile has done what was owed.
		_, _, err = s.Contain(ctx, s.admin, i.ID, incident.Scope{Credentials: []string{s.granted.ID}, Treat: incident.Rotate}, "", "")
		require.NoError(t, err)
		_, err = s.tokens.Refresh(ctx, s.admin, s.granted.ID)
		require.NoError(t, err)
		require.Len(t, s.refreshed(), 3)
		require.NoError(t, s.EndGrants(ctx))
		require.Len(t, s.refreshed(), 3, "the token that leaked is spent, and is not sent again")
		require.Equal(t, "refreshed", detail(last(i.ID), "outcome"))

		// The provider refuses: somebody else has spent it. It is lent to nobody from then on, and due.
		s.spent.Store(true)
		_, _, err = s.Contain(ctx, s.admin, i.ID, incident.Scope{Credentials: []string{s.granted.ID}, Treat: incident.Rotate}, "", "")
		require.NoError(t, err)
		require.NoError(t, s.EndGrants(ctx))
		failed := s.latest(i.ID, incident.Renewed)
		require.Equal(t, []string{"failed", "login_required", "true"}, []string{detail(failed, "outcome"), detail(failed, "code"), detail(failed, "marked_compromised")})
		require.NotEmpty(t, s.asked(), "and its grant is ended")
		require.Equal(t, incident.Revoked, last(i.ID).Kind)
		c, _, err = survey(t, s, s.granted.ID)
		require.NoError(t, err)
		require.Equal(t, vault.Compromised, c.Status)
		require.NotNil(t, c.RotationDue())
		plan, err = s.Plan(ctx, s.admin, i.ID, incident.Scope{Credentials: []string{s.granted.ID}, Treat: incident.Rotate})
		require.NoError(t, err)
		require.Empty(t, plan.Steps, "what is marked and due already stays so, and what was ended is not owed again")
		require.Equal(t, incident.WarnNothing, plan.Warnings[0].Code)

		for pointer, scope := range map[string]incident.Scope{"needs credential_ids to rotate": {Trains: []string{"web"}, Treat: incident.Rotate}, "must be one of disable, rotate": {Credentials: []string{s.plain.ID}, Treat: "burn"}} {
			_, err := s.Plan(ctx, s.admin, i.ID, scope)
			f := refused(t, err, "validation_failed")
			require.Equal(t, fault.Field{Pointer: "/scope/credentials", Message: pointer}, f.Fields[0])
		}
		for _, body := range records(t, db) {
			require.NotContains(t, body, "planted-")
		}
	})
}

// rest ends the cool-downs of connections.
func (s *scene) rest() {
	s.t.Helper()
	require.NoError(s.t, s.db.Bookkeep(s.t.Context(), store.Cursor, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE oauth_connections SET cool_until = 0`)
		tx.Change(store.TopicCredential, s.granted.ID) // the room repeats an answer for a while, unless something changes
		return err
	}))
	require.NoError(s.t, s.db.CatchUp(s.t.Context()))
}

// TestADeactivationTellsTheKeysThatEnd: the plan of a deactivation has the client keys that the person made on private trains, as far as the caller may be told of those; the act ends them all, and once.
func TestADeactivationTellsTheKeysThatEnd(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx, i := t.Context(), s.open()
		yard, err := s.trains.CreateTrain(ctx, s.admin, train.Draft{Slug: "yard", Visibility: identity.PrivateTrain})
		require.NoError(t, err)
		_, _, err = s.trains.PutMember(ctx, s.admin, "yard", identity.PartyPerson, s.bob.ID, train.Member, "")
		require.NoError(t, err)
		bob := identity.Caller{Kind: identity.KindToken, ID: "tok_b", Name: "Bob", UserID: s.bob.ID, Role: identity.Operator, Scopes: identity.RoleScopes(identity.Operator)}
		key, _, err := s.trains.IssueKey(ctx, bob, "yard", identity.KeyDraft{Name: "his"})
		require.NoError(t, err)
		_, _, err = s.trains.IssueKey(ctx, bob, "web", identity.KeyDraft{Name: "of all"})
		require.NoError(t, err)
		step := incident.Step{Act: incident.RevokeKey, Kind: "key", ID: key.ID, Name: "his", Of: yard.ID}
		scope := incident.Scope{People: []string{s.bob.ID}, Deactivate: true, ClientKeys: []string{key.ID}}
		plan, err := s.Plan(ctx, s.admin, i.ID, scope)
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(fmt.Sprint(plan.Steps), key.ID))
		scope.ClientKeys = nil
		blind := s.admin
		blind.Scopes = slices.DeleteFunc(slices.Clone(blind.Scopes), func(p identity.Permission) bool { return p == identity.TrainPrivate })
		blind.UserID = s.bob.ID + "x"
		plan, err = s.Plan(ctx, blind, i.ID, scope)
		require.NoError(t, err)
		require.NotContains(t, plan.Steps, step)
		plan, err = s.Plan(ctx, s.admin, i.ID, scope)
		require.NoError(t, err)
		require.Contains(t, plan.Steps, step)
		scope.Deactivate = false
		plan, err = s.Plan(ctx, s.admin, i.ID, scope)
		require.NoError(t, err)
		require.NotContains(t, plan.Steps, step)

		scope.Deactivate = true
		before := len(records(t, db))
		_, _, err = s.Contain(ctx, s.admin, i.ID, scope, "", "")
		require.NoError(t, err)
		ended := 0
		for _, act := range acts(t, db, before) {
			if strings.HasPrefix(act, "key.revoke ") {
				require.Equal(t, "key.revoke ok "+key.ID, act)
				ended++
			}
		}
		require.Equal(t, 1, ended)
	})
}
