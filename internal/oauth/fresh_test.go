package oauth_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

var refreshes = []store.Action{store.OAuthRefresh, store.OAuthRecovery, store.OAuthNeedsLogin}

// TestFreshBringsTheNextGeneration: the intent, one call, the pair, its record, and nothing left on disk.
func TestFreshBringsTheNextGeneration(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		oldAccess, oldRefresh, _ := p.pair(t, id)
		require.EqualValues(t, 2, p.mustRefresh(t, id))
		access, refresh, version := p.pair(t, id)
		require.EqualValues(t, 2, version)
		require.NotEqual(t, oldAccess, access)
		require.NotEqual(t, oldRefresh, refresh)
		require.Equal(t, 1, s.server.count())
		evs := p.events(t, refreshes...)
		require.Equal(t, []string{"oauth.refresh pending", "oauth.refresh ok"}, words(evs))
		require.Equal(t, detail(t, evs[0], "claim"), detail(t, evs[1], "claim"))
		require.Equal(t, "1", detail(t, evs[0], "generation"))
		require.Equal(t, "2", detail(t, evs[1], "version"))
		require.Equal(t, "false", detail(t, evs[1], "recovery"))
		s.cleared()
		require.Equal(t, vault.Healthy, p.health(t, id))
		require.Equal(t, oauth.Ready, p.state(t, id))
		v, err := p.Fresh(t.Context(), id, 1, oauth.Denied)
		require.NoError(t, err)
		require.EqualValues(t, 2, v, "an older generation is answered without a call")
		require.Equal(t, 1, s.server.count())
		counts, _ := p.Counts()
		require.EqualValues(t, 1, counts["acme"].Attempts[provider.Issued])
		require.EqualValues(t, 1, counts["acme"].Stored)
	})
}

// TestAProviderThatDoesNotRotate: the old refresh token goes on, and so do the generations.
func TestAProviderThatDoesNotRotate(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		s.server.keeps = true
		id := s.connect(p)
		_, before, _ := p.pair(t, id)
		for want := int64(2); want < 5; want++ {
			require.Equal(t, want, p.mustRefresh(t, id))
			_, refresh, _ := p.pair(t, id)
			require.Equal(t, before, refresh)
		}
		require.Equal(t, 3, s.server.count())
	})
}

// TestVersionsOfRefreshesAreDropped: the last few stay, and those that people made; the record says how many went.
func TestVersionsOfRefreshesAreDropped(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		for range 9 {
			p.mustRefresh(t, id)
		}
		list, err := p.vault.Versions(t.Context(), admin(), id)
		require.NoError(t, err)
		var numbers []int64
		for _, v := range list {
			numbers = append(numbers, v.Number)
		}
		require.Equal(t, []int64{10, 9, 8, 7, 6, 1}, numbers)
		evs := p.events(t, store.OAuthRefresh)
		require.Equal(t, "1", detail(t, evs[len(evs)-1], "versions_dropped"))
	})
}

// TestInvariant5NoConnectionDuringCall: while calls hang, and many wait for them, no transaction is open.
func TestInvariant5NoConnectionDuringCall(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		ids := []string{s.connect(p), s.connect(p), s.connect(p)}
		hang, calling := make(chan struct{}), make(chan struct{}, len(ids))
		s.server.hold(func() { calling <- struct{}{}; <-hang })
		var wg sync.WaitGroup
		for _, id := range ids {
			for range 10 {
				wg.Go(func() {
					_, err := p.Fresh(context.Background(), id, 1, oauth.Needed)
					require.NoError(t, err)
				})
			}
		}
		for range ids {
			<-calling
		}
		require.Eventually(t, func() bool {
			return p.Joined() == int64(len(ids)*9) && p.db.OpenTransactions() == 0
		}, 5*time.Second, time.Millisecond)
		for range 50 {
			require.Zero(t, p.db.OpenTransactions())
			time.Sleep(time.Millisecond)
		}
		s.server.hold(nil)
		close(hang)
		wg.Wait()
		require.Equal(t, len(ids), s.server.count())
		counts, all := p.Counts()
		require.EqualValues(t, len(ids)*9, all.Coalesced)
		require.EqualValues(t, len(ids)*9, counts["acme"].Coalesced)
	})
}

// TestACallerThatGoesAwayFailsNobody: the call belongs to none of those who wait for it.
func TestACallerThatGoesAwayFailsNobody(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		hang, calling := make(chan struct{}), make(chan struct{})
		s.server.hold(func() { close(calling); <-hang })
		ctx, leave := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			_, err := p.Fresh(ctx, id, 1, oauth.Needed)
			first <- err
		}()
		<-calling
		second := make(chan error, 1)
		go func() {
			_, err := p.Fresh(context.Background(), id, 1, oauth.Needed)
			second <- err
		}()
		leave()
		require.ErrorIs(t, <-first, context.Canceled)
		close(hang)
		require.NoError(t, <-second)
		require.Equal(t, 1, s.server.count())
	})
}

// TestWaitersGiveUp: with a clear fault, while the call goes on.
func TestWaitersGiveUp(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p, q := s.open(), s.open()
		id := s.connect(p)
		hang, calling := make(chan struct{}), make(chan struct{})
		s.server.hold(func() { close(calling); <-hang })
		began := make(chan error, 1)
		go func() {
			_, err := p.Fresh(context.Background(), id, 1, oauth.Needed)
			began <- err
		}()
		<-calling
		q.SetPatience(300 * time.Millisecond)
		_, err := q.Fresh(t.Context(), id, 1, oauth.Needed)
		require.NotZero(t, requireFault(t, "refresh_pending", err).RetryAfter)
		_, w := q.Counts()
		require.EqualValues(t, 1, w.Crossed)
		close(hang)
		require.NoError(t, <-began)
		require.Equal(t, 1, s.server.count())
	})
}

// TestCoolDown: after an answer that changed nothing there is one attempt per cool-down; a person ends it.
func TestCoolDown(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		access, refresh, _ := p.pair(t, id)
		s.server.next(answers(provider.NotProcessed, provider.CodeRateLimited, 429, 90*time.Second), answers(provider.ServerError, provider.CodeHTTPError, 503, 0),
			answers(provider.NotProcessed, provider.CodeDial, 0, 0))
		_, err := p.needs(t, id)
		require.GreaterOrEqual(t, requireFault(t, "refresh_failed", err).RetryAfter, 90)
		require.Equal(t, vault.RefreshFailing, p.health(t, id))
		for range 5 {
			_, err = p.needs(t, id)
			requireFault(t, "refresh_failed", err)
		}
		q := s.open() // an instance that remembers nothing
		_, err = q.needs(t, id)
		requireFault(t, "refresh_failed", err)
		require.Equal(t, 1, s.server.count())
		_, err = q.Refresh(t.Context(), admin(), id)
		requireFault(t, "refresh_failed", err)
		require.Equal(t, 2, s.server.count(), "a person ends the cool-down")
		s.clock.Add(oauth.CoolMost * 2)
		third := s.open()
		_, err = third.needs(t, id)
		requireFault(t, "refresh_failed", err)
		require.Equal(t, 3, s.server.count())
		require.Equal(t, []string{"oauth.refresh pending", "oauth.refresh failed rate_limited", "oauth.refresh pending", "oauth.refresh failed http_error",
			"oauth.refresh pending", "oauth.refresh failed dial"}, words(p.events(t, refreshes...)))
		require.Equal(t, []string{"oauth.force ok"}, words(p.events(t, store.OAuthForce)))
		a, r, v := p.pair(t, id)
		require.Equal(t, []any{access, refresh, int64(1)}, []any{a, r, v}, "invariant 4")
		c, err := third.Connection(t.Context(), admin(), id)
		require.NoError(t, err)
		require.Equal(t, 3, c.Failures)
		require.NotNil(t, c.RetryAt)
		c, err = third.Refresh(t.Context(), admin(), id)
		require.NoError(t, err)
		require.Equal(t, vault.Healthy, c.Health)
		require.EqualValues(t, 2, c.Generation)
		require.Zero(t, c.Failures)
	})
}

// TestInvariant4FailedRefreshWeakensNothing: whatever comes back, the stored pair and its versions stay as they are.
func TestInvariant4FailedRefreshWeakensNothing(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		for _, end := range []func(func() provider.Answer) provider.Answer{
			answers(provider.NotProcessed, provider.CodeDial, 0, 0), answers(provider.ServerError, provider.CodeHTTPError, 500, 0),
			answers(provider.Ambiguous, provider.CodeUnreadable, 200, 0), answers(provider.Refused, "invalid_grant", 400, 0),
			answers(provider.Refused, "invalid_client", 401, 0), answers(provider.Refused, "unauthorized_client", 400, 0), lostAnswer, lostRequest,
			answers("something new", "", 200, 0), answers(provider.Pending, "authorization_pending", 400, 0),
		} {
			id := s.connect(p)
			access, refresh, version := p.pair(t, id)
			s.server.next(end)
			_, err := p.needs(t, id)
			require.Error(t, err)
			require.NotContains(t, err.Error(), planted)
			a, r, v := p.pair(t, id)
			require.Equal(t, []any{access, refresh, version}, []any{a, r, v})
			list, err := p.vault.Versions(t.Context(), admin(), id)
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.NotEqual(t, vault.Healthy, p.health(t, id))
			require.NoError(t, p.db.Read(t.Context(), func(tx *store.Tx) error {
				m, err := p.vault.Material(tx, id)
				require.Empty(t, m.Usable(s.clock.Now()), "the access token is lent until it ends")
				return err
			}))
		}
	})
}

// TestNeedsLogin: the provider's own refusal, one message, no more calls until a person does something; a new login heals.
func TestNeedsLogin(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		p.channel(t)
		id := s.connect(p)
		s.server.next(answers(provider.Refused, "invalid_grant", 400, 0))
		_, err := p.needs(t, id)
		require.Contains(t, requireFault(t, "login_required", err).Detail, "invalid_grant")
		for range 3 {
			s.clock.Add(24 * time.Hour)
			_, err := s.open().needs(t, id)
			requireFault(t, "login_required", err)
			_, err = s.open().Fresh(t.Context(), id, 1, oauth.Denied)
			requireFault(t, "login_required", err)
		}
		require.Equal(t, 1, s.server.count())
		require.Equal(t, vault.NeedsLogin, p.health(t, id))
		require.Len(t, p.told(t), 1)
		require.Contains(t, p.told(t)[0], "needs a new login")
		require.Equal(t, []string{"oauth.refresh pending", "oauth.refresh failed invalid_grant", "oauth.needs_login failed invalid_grant"}, words(p.events(t, refreshes...)))

		s.server.next(answers(provider.Refused, "invalid_grant", 400, 0))
		_, err = p.Refresh(t.Context(), admin(), id)
		requireFault(t, "login_required", err)
		require.Equal(t, 2, s.server.count(), "a person may have mended it at the provider")

		access, refresh := s.server.login()
		_, err = p.vault.Rotate(t.Context(), admin(), id, map[string]secret.Value{"access_token": secret.FromString(access), "refresh_token": secret.FromString(refresh)}, "login")
		require.NoError(t, err)
		require.Equal(t, vault.Healthy, p.health(t, id))
		require.EqualValues(t, 3, p.mustRefresh(t, id))
		require.Len(t, p.told(t), 1)
	})
}

// TestUncertainWithoutGrace: a token that may be spent is not sent again while the access token works; afterwards once, on record.
func TestUncertainWithoutGrace(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		p.channel(t)
		id := s.connect(p)
		s.server.next(lostRequest)
		_, err := p.needs(t, id)
		requireFault(t, "refresh_failed", err)
		require.Equal(t, vault.RefreshUncertain, p.health(t, id))
		s.clock.Add(5 * time.Minute)
		_, err = s.open().needs(t, id)
		requireFault(t, "refresh_failed", err)
		_, err = s.open().Refresh(t.Context(), admin(), id)
		requireFault(t, "refresh_failed", err)
		require.Equal(t, 1, s.server.count(), "not even for a person")
		s.clock.Add(5 * time.Minute)
		require.EqualValues(t, 2, s.open().mustRefresh(t, id))
		evs := p.events(t, refreshes...)
		require.Equal(t, []string{"oauth.refresh pending", "oauth.refresh failed broken", "oauth.refresh pending", "oauth.refresh ok"}, words(evs))
		require.Equal(t, "true", detail(t, evs[2], "recovery"))
		require.Equal(t, "true", detail(t, evs[3], "recovery"))
		require.Empty(t, p.told(t))
	})
}

// TestUncertainAndRejected: when the access token is refused, nothing is left to be careful about.
func TestUncertainAndRejected(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		s.server.next(lostRequest)
		_, err := p.needs(t, id)
		requireFault(t, "refresh_failed", err)
		s.clock.Add(time.Minute) // past the cool-down, far from the end of the access token
		v, err := s.open().Fresh(t.Context(), id, 1, oauth.Denied)
		require.NoError(t, err)
		require.EqualValues(t, 2, v)
	})
}

// TestUncertainWithGrace: within the provider's grace the old token is sent again at once.
func TestUncertainWithGrace(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		s.lenient()
		p := s.open()
		id := s.connect(p)
		s.server.next(lostAnswer)
		_, err := p.needs(t, id)
		requireFault(t, "refresh_failed", err)
		require.EqualValues(t, 2, s.open().mustRefresh(t, id))
		require.Equal(t, 2, s.server.count())
		require.Zero(t, s.server.revoked())
		require.Equal(t, "true", detail(t, p.events(t, store.OAuthRefresh)[2], "recovery"))
	})
}

// TestRejectedTokensCauseFewCalls: a resource server that refuses every token does not make a call a request.
func TestRejectedTokensCauseFewCalls(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		v, err := p.Fresh(t.Context(), id, 1, oauth.Denied)
		require.NoError(t, err)
		for range 3 {
			_, err = p.Fresh(t.Context(), id, v, oauth.Denied)
			requireFault(t, "refresh_failed", err)
		}
		require.Equal(t, 1, s.server.count())
		s.clock.Add(5 * time.Minute)
		_, err = p.Fresh(t.Context(), id, v, oauth.Denied)
		require.NoError(t, err)
		require.Equal(t, 2, s.server.count())
	})
}

// TestWhatIsNotRefreshed: nothing without a refresh token, nothing that is disabled, nothing that was changed outside Signalbox, and not at the
// wish of whoever may not.
func TestWhatIsNotRefreshed(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		auditor := admin()
		auditor.Role = identity.Auditor
		_, err := p.Refresh(t.Context(), auditor, id)
		requireFault(t, "forbidden", err)
		_, err = p.Connection(t.Context(), identity.Caller{}, id)
		requireFault(t, "unauthenticated", err)
		_, err = p.Refresh(t.Context(), admin(), "cred_nonsense")
		require.Equal(t, fault.NotFound, fault.KindOf(err))

		_, err = p.vault.Update(t.Context(), admin(), id, vault.Patch{State: vault.To(vault.Disabled)}, "")
		require.NoError(t, err)
		_, err = p.needs(t, id)
		requireFault(t, "state_conflict", err)

		bare, err := p.vault.Create(t.Context(), admin(), vault.Draft{Type: vault.OAuth, Meta: vault.Meta{Name: "bare", Provider: "acme"},
			Secrets: map[string]secret.Value{"access_token": secret.FromString("at-" + planted)}})
		require.NoError(t, err)
		_, err = p.Fresh(t.Context(), bare.ID, 1, oauth.Needed)
		requireFault(t, "login_required", err)

		moved := s.connect(p)
		require.NoError(t, p.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE credentials SET oauth_token_endpoint = 'https://thief.example/token' WHERE id = $1`, moved)
			return err
		}))
		_, err = p.Fresh(t.Context(), moved, 1, oauth.Needed)
		requireFault(t, "credential_tampered", err)
		require.Zero(t, s.server.count())
	})
}

// TestAPersonRotatesDuringACall: a new login wins; the pair that comes late is not stored over it.
func TestAPersonRotatesDuringACall(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		access, refresh := s.server.login()
		p.meets(oauth.AtAnswered, func() {
			_, err := p.vault.Rotate(context.Background(), admin(), id, map[string]secret.Value{"access_token": secret.FromString(access), "refresh_token": secret.FromString(refresh)}, "login")
			require.NoError(t, err)
		})
		v, err := p.needs(t, id)
		require.NoError(t, err)
		require.EqualValues(t, 2, v)
		a, r, _ := p.pair(t, id)
		require.Equal(t, []string{access, refresh}, []string{a, r})
		require.Equal(t, 1, s.server.count())
		require.Eventually(t, func() bool { return len(s.spilled()) == 0 }, 5*time.Second, 5*time.Millisecond, "of no use any more")
	})
}

// TestAnotherSecretChangesDuringACall: a version with the same refresh token does not make the pair worthless.
func TestAnotherSecretChangesDuringACall(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		p.meets(oauth.AtAnswered, func() {
			_, err := p.vault.Rotate(context.Background(), admin(), id, map[string]secret.Value{"client_secret": secret.FromString("cs-" + planted)}, "new client secret")
			require.NoError(t, err)
		})
		v, err := p.needs(t, id)
		require.NoError(t, err)
		require.EqualValues(t, 3, v)
		require.EqualValues(t, 4, p.mustRefresh(t, id))
		require.Zero(t, s.server.revoked())
	})
}

// TestAClientThatWasMendedIsTriedAgain: after a refusal of the client, once somebody has set anything of it; after one of the token never.
func TestAClientThatWasMendedIsTriedAgain(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		p.channel(t)
		id := s.connect(p)
		lost := func(code string) {
			t.Helper()
			calls := s.server.count()
			for range 2 {
				_, err := s.open().needs(t, id) // a process that was told nothing yet
				requireFault(t, "login_required", err)
			}
			require.Equal(t, calls+1, s.server.count(), "once")
			require.Len(t, p.told(t), 1, "people know already")
		}
		s.server.next(answers(provider.Refused, "invalid_client", 401, 0))
		lost("invalid_client")
		s.clock.Add(time.Minute)
		s.mended = s.clock.Now()
		s.server.next(answers(provider.Refused, "invalid_client", 401, 0))
		lost("invalid_client")
		s.clock.Add(time.Minute)
		_, err := p.vault.Update(t.Context(), admin(), id, vault.Patch{OAuth: vault.OAuthPatch{ClientID: vault.To("the-right-one")}}, "")
		require.NoError(t, err)
		require.EqualValues(t, 2, s.open().mustRefresh(t, id))
		require.Equal(t, vault.Healthy, p.health(t, id))

		s.server.next(answers(provider.Refused, "invalid_grant", 400, 0))
		_, err = s.open().needs(t, id)
		requireFault(t, "login_required", err)
		calls := s.server.count()
		s.clock.Add(time.Minute)
		s.mended = s.clock.Now()
		_, err = s.open().needs(t, id)
		requireFault(t, "login_required", err)
		require.Equal(t, calls, s.server.count())
	})
}

// TestRestoredVersionsSendNoSpentToken: a version that is restored brings its login back, not a token that its refreshes have used up.
func TestRestoredVersionsSendNoSpentToken(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		restore := func(version int64) error {
			_, err := p.vault.Restore(t.Context(), admin(), id, version)
			return err
		}
		refresh := func(want int64) {
			t.Helper()
			require.Equal(t, want, p.mustRefresh(t, id))
			require.Zero(t, s.server.revoked())
		}
		refresh(2)
		refresh(3)
		_, newest, _ := p.pair(t, id)
		require.NoError(t, restore(1)) // version 4
		access, token, _ := p.pair(t, id)
		require.Equal(t, newest, token)
		require.NotEmpty(t, access)
		refresh(5)

		login := func() {
			access, token := s.server.login()
			_, err := p.vault.Rotate(t.Context(), admin(), id, map[string]secret.Value{"access_token": secret.FromString(access), "refresh_token": secret.FromString(token)}, "login")
			require.NoError(t, err)
		}
		_, newest, _ = p.pair(t, id)
		login()                        // version 6, of another grant
		require.NoError(t, restore(2)) // version 7
		_, token, _ = p.pair(t, id)
		require.Equal(t, newest, token, "the newest of the first grant")
		refresh(8)

		login() // version 9
		for v := range int64(6) {
			refresh(10 + v)
		}
		require.ErrorContains(t, restore(7), "Log in again", "what its refresh made was dropped")
		require.NoError(t, restore(6), "it was never used")
		refresh(17)
	})
}

// TestConnectionsAreReadAtOnce: however many they are.
func TestConnectionsAreReadAtOnce(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		first, second, third := s.connect(p), s.connect(p), s.connect(p)
		p.mustRefresh(t, second)
		list, _, err := p.vault.List(t.Context(), admin(), vault.Filter{Type: vault.OAuth, Limit: 10})
		require.NoError(t, err)
		var got []oauth.Connection
		require.Eventually(t, func() bool { // the background work asks now and then, too
			before := p.db.Statements()
			got, err = p.Connections(t.Context(), list)
			return err == nil && p.db.Statements()-before == 1
		}, 10*time.Second, time.Millisecond, "one statement")
		by := map[string]oauth.Connection{}
		for _, c := range got {
			by[c.CredentialID] = c
		}
		require.Len(t, by, 3)
		require.EqualValues(t, 1, by[first].Generation)
		require.EqualValues(t, 2, by[second].Generation)
		require.NotNil(t, by[second].RefreshedAt)
		require.Nil(t, by[third].RefreshedAt)
	})
}

// TestDueGoesByTheLifetime: whoever has what is due refreshed calls for a token that lives a minute as little as requests do.
func TestDueGoesByTheLifetime(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		s.server.lifetime = time.Minute
		p := s.open()
		id := s.connect(p)
		c, err := p.RefreshDue(t.Context(), admin(), id)
		require.NoError(t, err)
		require.EqualValues(t, 1, c.Generation)
		require.Zero(t, s.server.count(), "it lives another minute")
		s.clock.Add(49 * time.Second) // a fifth of its life is left
		c, err = p.RefreshDue(t.Context(), admin(), id)
		require.NoError(t, err)
		require.EqualValues(t, 2, c.Generation)
	})
}

// TestAnEndpointOfItsOwnHasNoGrace: what is known of a provider's grace says nothing of another server that a credential names.
func TestAnEndpointOfItsOwnHasNoGrace(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		s.lenient()
		p := s.open()
		id := s.connect(p)
		_, err := p.vault.Update(t.Context(), admin(), id, vault.Patch{OAuth: vault.OAuthPatch{TokenEndpoint: vault.To("https://elsewhere.example/token")}}, "")
		require.NoError(t, err)
		s.server.next(lostAnswer)
		for range 2 {
			_, err = s.open().needs(t, id)
			requireFault(t, "refresh_failed", err)
			require.Equal(t, 1, s.server.count(), "not at once again")
		}
	})
}
