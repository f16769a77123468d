package oauth_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// pending counts the intents on record: there is one for each call.
func (p *process) pending(t testing.TB) (n int) {
	t.Helper()
	for _, w := range words(p.events(t, refreshes...)) {
		if w == "oauth.refresh pending" {
			n++
		}
	}
	return n
}

// sent returns the tokens that were sent since the first n calls.
func (s *server) sent(n int) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.posts[n:] {
		out = append(out, p.token)
	}
	return out
}

// TestAnOvertakenPairOutlivesAnOpenAnswer: an answer that is no refusal of the pair leaves it where it is, also over a restart. It is sent again
// on record, and only after the waits of a token of unknown fate.
func TestAnOvertakenPairOutlivesAnOpenAnswer(t *testing.T) {
	refused := answers(provider.Refused, "invalid_grant", 400, 0)
	for name, open := range map[string]func(func() provider.Answer) provider.Answer{
		"not processed": answers(provider.NotProcessed, "rate_limited", 429, 0),
		"server error":  answers(provider.ServerError, "server_error", 503, 0),
		"ambiguous":     lostRequest,
	} {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				each(t, func(t *testing.T, s *site) {
					s.lenient()
					p := s.open()
					p.channel(t)
					id := s.connect(p)
					heir, _ := s.overtaken(t, id, p)
					before := s.server.count()
					recorded := heir.pending(t)
					s.server.next(refused, func(normal func() provider.Answer) provider.Answer {
						s.clock.Add(lenience) // so that the provider's grace, which allows another call at once, is over
						return open(normal)
					})
					_, err := heir.needs(t, id)
					requireFault(t, "refresh_failed", err)
					require.Equal(t, before+2, s.server.count())
					require.Equal(t, oauth.Uncertain, heir.state(t, id))
					require.Equal(t, 1, heir.Spare())
					require.Len(t, s.spilled(), 1)

					heir.Sweep()
					_, err = heir.Refresh(t.Context(), admin(), id)
					requireFault(t, "refresh_failed", err)
					require.Equal(t, before+2, s.server.count(), "nobody makes a token safe that may be spent")

					if restart {
						heir.Close()
						heir = s.open()
					}
					s.clock.Add(time.Hour) // the access token has ended
					s.server.next(refused)
					_, err = heir.Refresh(t.Context(), admin(), id) // Fresh repeats its answer for a while
					require.NoError(t, err)
					_, _, version := heir.pair(t, id)
					require.EqualValues(t, 3, version)
					sent := s.server.sent(before)
					require.Len(t, sent, 4)
					require.Equal(t, sent[:2], sent[2:], "the stored token, then the pair")
					require.NotEqual(t, sent[0], sent[1])
					require.Equal(t, recorded+4, heir.pending(t), "each call on record")
					require.Empty(t, heir.told(t))
					heir.spent(t)
					s.cleared()
					require.Equal(t, vault.Healthy, heir.health(t, id))
				})
			})
		}
	}
}

// TestARefusedClientLeavesAnOvertakenPair: it says nothing of the token. The pair is not sent again before the provider refuses the token once more.
func TestARefusedClientLeavesAnOvertakenPair(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		s.lenient()
		p := s.open()
		p.channel(t)
		id := s.connect(p)
		heir, _ := s.overtaken(t, id, p)
		before := s.server.count()
		token, client := answers(provider.Refused, "invalid_grant", 400, 0), answers(provider.Refused, "invalid_client", 401, 0)
		s.server.next(token, client)
		_, err := heir.needs(t, id)
		requireFault(t, "login_required", err)
		require.Equal(t, 1, heir.Spare())
		require.Len(t, s.spilled(), 1)
		for range 3 {
			heir.Sweep()
		}
		heir.Close() // what was begun has ended
		require.Equal(t, before+2, s.server.count(), "the same client is not asked about again")

		heir = s.open()
		s.server.next(client) // of the stored token: the pair would meet the same
		_, err = heir.Refresh(t.Context(), admin(), id)
		requireFault(t, "login_required", err)
		require.Equal(t, before+3, s.server.count())
		require.Equal(t, 1, heir.Spare())

		s.server.next(token) // the client was mended at the provider
		_, err = heir.Refresh(t.Context(), admin(), id)
		require.NoError(t, err)
		_, _, version := heir.pair(t, id)
		require.EqualValues(t, 3, version)
		s.cleared()
		sent := s.server.sent(before)
		require.Len(t, slices.Compact(slices.Sorted(slices.Values(sent))), 2)
	})
}

// locked keeps the credential's lock until release is called.
func (p *process) locked(t testing.TB, id string) (release func()) {
	t.Helper()
	held, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- p.db.Write(context.Background(), func(tx *store.Tx) error {
			if _, err := p.vault.OpenGrant(tx, id); err != nil {
				return err
			}
			close(held)
			<-free
			return errRollback
		})
	}()
	<-held
	return func() {
		close(free)
		require.ErrorIs(t, <-done, errRollback)
	}
}

// TestAClaimIsOneCall: the background work and the flight both settle one refusal, and the overtaken pair is sent by one of them.
func TestAClaimIsOneCall(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		s.lenient()
		p := s.open()
		id := s.connect(p)
		heir, _ := s.overtaken(t, id, p)
		before, recorded := s.server.count(), heir.pending(t)
		s.server.next(answers(provider.Refused, "invalid_grant", 400, 0))
		var release func()
		heir.meets(oauth.AtAnswered, func() { release = heir.locked(t, id) })
		_, _, version := heir.pair(t, id)
		came := make(chan error, 1)
		go func() {
			_, err := heir.Fresh(context.Background(), id, version, oauth.Needed)
			came <- err
		}()
		require.Eventually(t, func() bool { return heir.Owed() == 1 }, 10*time.Second, time.Millisecond)
		pay := heir.DueNow()
		release()
		require.NoError(t, <-came)
		pay()
		heir.Close()
		require.Equal(t, before+2, s.server.count(), "the stored token and the pair, each once")
		require.Equal(t, recorded+2, heir.pending(t))
		require.Zero(t, s.server.revoked())
		_, _, version = heir.pair(t, id)
		require.EqualValues(t, 3, version)
	})
}

// TestAnOvertakenPairOutlivesOtherChanges: a person's version that brings no new refresh token is no new login. The pair is kept, and saves the
// connection when the provider refuses the token.
func TestAnOvertakenPairOutlivesOtherChanges(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, p *process, id string){
		"another secret": func(t *testing.T, p *process, id string) {
			access := secret.FromString("at-by-hand-" + planted)
			_, err := p.vault.Update(t.Context(), admin(), id, vault.Patch{Secrets: map[string]*secret.Value{"access_token": &access}}, "")
			require.NoError(t, err)
		},
		"an earlier version": func(t *testing.T, p *process, id string) {
			_, err := p.vault.Restore(t.Context(), admin(), id, 1)
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *site) {
				s.lenient()
				p := s.open()
				id := s.connect(p)
				heir, _ := s.overtaken(t, id, p)
				change(t, heir, id)
				heir.Sweep()
				require.Equal(t, 1, heir.Spare())
				require.Len(t, s.spilled(), 1)
				s.server.next(answers(provider.Refused, "invalid_grant", 400, 0))
				require.EqualValues(t, 4, heir.mustRefresh(t, id))
				heir.spent(t)
				s.cleared()
			})
		})
	}
}

// TestAnOutcomeIsStoredOnce: when the answer to a commit is lost, the outcome is tried again, recorded once, and the claim that it took is used.
func TestAnOutcomeIsStoredOnce(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		s.lenient()
		p := s.open()
		id := s.connect(p)
		heir, _ := s.overtaken(t, id, p)
		before := len(heir.events(t, refreshes...))
		answer := provider.Answer{Verdict: provider.Refused, Code: "invalid_grant", Status: 400, Sent: true}
		version, err := heir.OutcomeTwice(t.Context(), id, 2, answer)
		require.NoError(t, err)
		require.EqualValues(t, 3, version, "the overtaken pair was sent")
		require.Equal(t, []string{"oauth.refresh pending", "oauth.refresh failed invalid_grant", "oauth.refresh pending", "oauth.refresh ok"},
			words(heir.events(t, refreshes...)[before:]))

		version, err = heir.OutcomeTwice(t.Context(), id, 3, provider.Answer{Verdict: provider.NotProcessed, Code: "rate_limited", Status: 429, Sent: true})
		require.NoError(t, err)
		require.Zero(t, version)
		require.Equal(t, []string{"oauth.refresh pending", "oauth.refresh failed rate_limited"}, words(heir.events(t, refreshes...)[before+4:]))
		require.Equal(t, oauth.Failing, heir.state(t, id))
	})
}
