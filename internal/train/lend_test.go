package train_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// TestInvariant01IntentBeforeBytes: when Lend returns, another connection reads the intent; there is one an attempt, and one outcome.
func TestInvariant01IntentBeforeBytes(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, key, id := y.line()
		l := y.lend(caller, want())
		intents := y.events(store.LeaseGranted)
		require.Len(t, intents, 1)
		ev := intents[0]
		require.Equal(t, store.Actor{Kind: "client_key", ID: key.ID, Name: "laptop"}, ev.Actor)
		require.Equal(t, store.Target{Kind: "credential", ID: id, Name: "alpha"}, ev.Target)
		require.Equal(t, caller.TrainID, ev.OnBehalf)
		require.Equal(t, store.OutcomePending, ev.Outcome)
		require.Equal(t, "req_1", ev.RequestID)
		require.Equal(t, "198.51.100.7", ev.IP)
		for k, v := range map[string]string{"lease": l.ID(), "train": "web", "version": "1", "attempt": "1", "method": "POST", "path": "/v1/messages",
			"model": "claude-sonnet", "host": "api.anthropic.com", "body_bytes": "42"} {
			require.Equal(t, v, detail(t, ev, k), k)
		}
		require.Equal(t, "alpha", sent(t, l))
		require.Equal(t, id, l.CredentialID())
		require.Equal(t, 1, l.Attempt())
		require.Equal(t, "https://api.anthropic.com", l.BaseURL().String())
		require.Equal(t, 1, y.OpenLeases())

		l.Done(train.Outcome{Result: train.OK, Status: 200, Bytes: 123, FirstByte: 40 * time.Millisecond, Duration: 900 * time.Millisecond})
		out := y.outcomes(1)[0]
		require.Equal(t, ev.Target, out.Target)
		require.Equal(t, ev.Actor, out.Actor)
		require.Equal(t, store.OutcomeOK, out.Outcome)
		for k, v := range map[string]string{"lease": l.ID(), "attempt": "1", "result": "ok", "status": "200", "bytes": "123", "first_byte_ms": "40", "duration_ms": "900"} {
			require.Equal(t, v, detail(t, out, k), k)
		}
		require.Zero(t, y.OpenLeases())
		require.Error(t, l.Context().Err())
		require.Error(t, l.Apply(request(t, "https://api.anthropic.com/")), "a settled lease applies nothing")
		require.Len(t, y.events(store.LeaseGranted), 1)
	})
}

// TestAQuickAnswerHadItsFirstByte: a record tells 0 for a time that there was not, so the shortest time that there was is 1.
func TestAQuickAnswerHadItsFirstByte(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, _ := y.line()
		y.lend(caller, want()).Done(train.Outcome{Result: train.OK, Status: 200, FirstByte: 300 * time.Microsecond, Duration: 1100 * time.Microsecond})
		out := y.outcomes(1)[0]
		require.Equal(t, "1", detail(t, out, "first_byte_ms"))
		require.Equal(t, "2", detail(t, out, "duration_ms"))
		y.lend(caller, want()).Done(train.Outcome{Result: train.UpstreamUnreachable, Duration: time.Millisecond})
		out = y.outcomes(2)[1]
		require.Equal(t, "0", detail(t, out, "first_byte_ms"))
		require.Equal(t, "1", detail(t, out, "duration_ms"))
	})
}

// TestOneOutcomeALease: whoever settles first, and however many try, there is one outcome.
func TestOneOutcomeALease(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, _ := y.line()
		y.link("web", y.account("beta"))
		const rounds = 20
		granted := 0
		for range rounds {
			l := y.lend(caller, want())
			granted++
			var mu sync.Mutex
			var wg sync.WaitGroup
			for i := range 6 {
				wg.Go(func() {
					if i%2 == 0 {
						l.Done(train.Outcome{Result: train.OK, Status: 200})
						return
					}
					next, err := l.Next(context.Background(), train.Failure{Status: 500})
					if err != nil {
						return
					}
					next.Done(train.Outcome{Result: train.OK})
					next.Done(train.Outcome{Result: train.UpstreamError})
					mu.Lock()
					granted++
					mu.Unlock()
				})
			}
			wg.Wait()
			y.clock.Add(time.Minute) // no account cools into the next round
			_, err := l.Next(context.Background(), train.Failure{Status: 500})
			require.ErrorIs(t, err, train.ErrSettled)
		}
		outcomes := y.outcomes(granted)
		intents := y.events(store.LeaseGranted)
		require.Len(t, intents, granted)
		seen := map[string]int{}
		for _, ev := range intents {
			seen[detail(t, ev, "lease")]++
		}
		for _, ev := range outcomes {
			seen[detail(t, ev, "lease")] += 10
		}
		for id, n := range seen {
			require.Equal(t, 11, n, id)
		}
		require.Zero(t, y.OpenLeases())
	})
}

func TestOnlyClientKeysBorrow(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, key, _ := y.line()
		y.refused("unauthenticated", y.admin, want())
		y.refused("unauthenticated", identity.Caller{}, want())
		y.refused("unauthenticated", identity.Caller{Kind: identity.KindAnonymous, TrainID: caller.TrainID}, want())
		y.refused("unauthenticated", identity.Caller{Kind: "robot", ID: key.ID, TrainID: caller.TrainID}, want())
		stranger := caller
		stranger.TrainID = store.NewID("train")
		y.refused("unauthenticated", stranger, want())
		stranger = caller
		stranger.ID = store.NewID("key")
		y.refused("unauthenticated", stranger, want())
		_, err := y.RevokeKey(t.Context(), y.admin, "web", key.ID, "")
		require.NoError(t, err)
		y.refused("unauthenticated", caller, want())
		require.Empty(t, y.events(store.LeaseGranted))
		require.Zero(t, y.OpenLeases())
	})
}

func TestTrainHeader(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, _ := y.line()
		other := y.train("payments", train.Hash)
		for _, name := range []string{"web", caller.TrainID} {
			w := want()
			w.Train = name
			y.lend(caller, w).Done(train.Outcome{Result: train.OK})
		}
		for _, name := range []string{"payments", other.ID, "WEB", "nowhere", "web "} {
			w := want()
			w.Train = name
			f := y.refused("train_mismatch", caller, w)
			require.NotContains(t, f.Detail, "payments")
		}
		// However often it is tried, one record a key and minute tells of it.
		refused := y.events(store.TrainRefused)
		require.Len(t, refused, 1)
		require.Equal(t, "train_mismatch", refused[0].Reason)
		require.Equal(t, store.OutcomeRefused, refused[0].Outcome)
		require.Equal(t, caller.ID, refused[0].Actor.ID)
		y.clock.Add(time.Minute)
		w := want()
		w.Train = "payments"
		y.refused("train_mismatch", caller, w)
		require.Len(t, y.events(store.TrainRefused), 2)
	})
}

// TestAccountHeaderNeedsALink: the header chooses among the train's own links, whatever else there is.
func TestAccountHeaderNeedsALink(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, alpha := y.line()
		beta := y.account("beta")
		y.link("web", beta)
		for name, who := range map[string]string{alpha: "alpha", "acc_alpha": "alpha", "alpha": "alpha", beta: "beta", "acc_beta": "beta", "beta": "beta"} {
			w := want()
			w.Account = name
			l := y.lend(caller, w)
			require.Equal(t, who, sent(t, l), name)
			// The client asked for this one, so no other takes its place.
			_, err := l.Next(context.Background(), train.Failure{Status: 500})
			require.ErrorIs(t, err, train.ErrNoOther)
			f := y.refused("accounts_cooling", caller, w)
			require.Equal(t, 20, f.RetryAfter)
			y.clock.Add(21 * time.Second)
		}
		y.train("other", train.Hash)
		foreign := y.account("foreign")
		y.link("other", foreign)
		password, err := y.vault.Create(t.Context(), y.admin, vault.Draft{Type: vault.Password, Meta: vault.Meta{Name: "gitea"}, Secrets: secrets("password", "x-"+planted)})
		require.NoError(t, err)
		y.link("web", password.ID)
		granted := len(y.events(store.LeaseGranted))
		for _, name := range []string{foreign, "acc_foreign", "foreign", "nobody", "ALPHA", password.ID, "gitea", " alpha", "%"} {
			w := want()
			w.Account = name
			f := y.refused("account_not_linked", caller, w)
			require.NotContains(t, f.Detail, "foreign", "the answer must not tell whether there is such an account")
		}
		require.Len(t, y.events(store.LeaseGranted), granted)
	})
}

func TestDisabledTrainLendsNothing(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, _ := y.line()
		_, err := y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Disabled: ptr(true)}, "")
		require.NoError(t, err)
		y.refused("train_disabled", caller, want())
		require.Empty(t, y.events(store.LeaseGranted))
		_, err = y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Disabled: ptr(false)}, "")
		require.NoError(t, err)
		y.lend(caller, want()).Done(train.Outcome{Result: train.OK})

		// A strategy that a newer version wrote is not guessed at.
		y.sql(`UPDATE trains SET strategy = 'lunar' WHERE slug = 'web'`, store.TopicTrain, caller.TrainID)
		y.refused("train_disabled", caller, want())
	})
}

func TestUnusableAccountsAreSkipped(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Priority)
		caller, _ := y.key("web")
		y.refused("no_account", caller, want())
		now := y.clock.Now()
		ids := map[string]string{"disabled": y.account("disabled"), "compromised": y.account("compromised"), "expired": y.account("expired"),
			"stale": y.oauth("stale", now.Add(time.Minute)), "unsealed": y.account("unsealed"), "moved": y.account("moved")}
		for i, name := range []string{"disabled", "compromised", "expired", "stale", "unsealed", "moved"} {
			y.linkAt("web", ids[name], i+1)
		}
		edit := func(name string, p vault.Patch) {
			_, err := y.vault.Update(t.Context(), y.admin, ids[name], p, "")
			require.NoError(t, err)
		}
		edit("disabled", vault.Patch{State: vault.To(vault.Disabled)})
		edit("compromised", vault.Patch{State: vault.To(vault.Compromised)})
		edit("expired", vault.Patch{ExpiresAt: vault.To(ptr(now.Add(time.Second)))})
		y.clock.Add(2 * time.Minute)
		y.sql(`UPDATE credential_secrets SET sealed = (SELECT sealed FROM credential_secrets WHERE credential_id = '`+ids["disabled"]+`') WHERE credential_id = '`+ids["unsealed"]+`'`,
			store.TopicCredential, ids["unsealed"])
		y.sql(`UPDATE credentials SET base_url = 'https://evil.example' WHERE id = '`+ids["moved"]+`'`, store.TopicCredential, ids["moved"])
		y.refused("no_account", caller, want())
		w := want()
		w.Account = "expired"
		y.refused("no_account", caller, w)

		e, err := y.Explain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		require.Len(t, e.Accounts, 6)
		for i, why := range []string{"disabled", "compromised", "has expired", "access token has expired", "does not open", "credential_tampered"} {
			require.Equal(t, train.Unusable, e.Accounts[i].State)
			require.Contains(t, e.Accounts[i].Why, why)
			require.False(t, e.Accounts[i].Chosen)
		}
		good := y.account("good")
		y.linkAt("web", good, 99)
		l := y.lend(caller, want())
		require.Equal(t, "good", sent(t, l))
		l.Done(train.Outcome{Result: train.OK})
	})
}

// TestFailOverGoesThroughTheListOnce on failures that are not a burst, each attempt with an intent of its own.
func TestFailOverGoesThroughTheListOnce(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Priority)
		caller, _ := y.key("web")
		var ids []string
		for i, name := range []string{"a", "b", "c", "d"} {
			ids = append(ids, y.account(name))
			y.linkAt("web", ids[i], i)
		}
		failures := []train.Failure{{Status: 500}, {Dial: true}, {Status: 401}, {Status: 529}}
		l := y.lend(caller, want())
		for i, f := range failures {
			require.Equal(t, ids[i], l.CredentialID())
			require.Equal(t, i+1, l.Attempt())
			next, err := l.Next(t.Context(), f)
			if i == len(failures)-1 {
				require.ErrorIs(t, err, train.ErrNoOther)
				break
			}
			require.NoError(t, err)
			require.Error(t, l.Context().Err(), "the failed attempt's context ends")
			l = next
		}
		intents, outcomes := y.events(store.LeaseGranted), y.outcomes(4)
		require.Len(t, intents, 4)
		for i, result := range []string{"upstream_error", "upstream_unreachable", "upstream_error", "upstream_error"} {
			require.Equal(t, ids[i], intents[i].Target.ID)
			require.Equal(t, detail(t, intents[i], "lease"), detail(t, outcomes[i], "lease"))
			require.Equal(t, result, detail(t, outcomes[i], "result"))
			require.Equal(t, store.OutcomeFailed, outcomes[i].Outcome)
		}
		// 20 s for b, c (15 min), 20 s for the others: the earliest counts.
		require.Equal(t, 20, y.refused("accounts_cooling", caller, want()).RetryAfter)
		require.Len(t, y.events(store.CredentialCooling), 4)
	})
}

// TestBurstHopsOnce: a rate limit may lead to one other account; a second one is the client's to wait for.
func TestBurstHopsOnce(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Priority)
		caller, _ := y.key("web")
		for i, name := range []string{"a", "b", "c"} {
			y.linkAt("web", y.account(name), i)
		}
		l := y.lend(caller, want())
		require.Equal(t, "a", sent(t, l))
		l, err := l.Next(t.Context(), train.Failure{Status: 429, RetryAfter: 7 * time.Second})
		require.NoError(t, err)
		require.Equal(t, "b", sent(t, l))
		_, err = l.Next(t.Context(), train.Failure{Status: 429, RetryAfter: 9 * time.Second})
		require.ErrorIs(t, err, train.ErrNoOther)
		l = y.lend(caller, want())
		require.Equal(t, "c", sent(t, l), "a and b cool")
		l.Done(train.Outcome{Result: train.OK})

		// After one hop for a burst, other failures still go on.
		y.clock.Add(time.Minute)
		l = y.lend(caller, want())
		l, err = l.Next(t.Context(), train.Failure{Status: 429})
		require.NoError(t, err)
		l, err = l.Next(t.Context(), train.Failure{Status: 503})
		require.NoError(t, err)
		require.Equal(t, "c", sent(t, l))
		l.Done(train.Outcome{Result: train.OK})
	})
}

// TestWhatIsNotTheAccountsFault leads nowhere and cools nothing.
func TestWhatIsNotTheAccountsFault(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, _ := y.line()
		y.link("web", y.account("beta"))
		for _, status := range []int{200, 400, 404, 413, 422, 499, 600} {
			_, err := y.lend(caller, want()).Next(t.Context(), train.Failure{Status: status})
			require.ErrorIs(t, err, train.ErrNoOther, status)
		}
		// A client that hangs up makes the connection fail; that is not the upstream's fault.
		for range 3 {
			ctx, cancel := context.WithCancel(context.Background())
			l, err := y.Lend(ctx, caller, want())
			require.NoError(t, err)
			cancel()
			require.ErrorIs(t, context.Cause(l.Context()), context.Canceled)
			_, err = l.Next(ctx, train.Failure{Dial: true})
			require.ErrorIs(t, err, context.Canceled)
			l = y.lend(caller, want())
			l.Done(train.Outcome{Result: train.ClientCancelled, Status: 200, Bytes: 5})
		}
		require.Empty(t, y.events(store.CredentialCooling))
		outcomes := y.outcomes(13)
		for _, ev := range outcomes[7:] {
			require.Equal(t, "client_cancelled", detail(t, ev, "result"))
			require.Equal(t, store.OutcomeOK, ev.Outcome)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := y.Lend(ctx, caller, want())
		require.True(t, errors.Is(err, context.Canceled))
		require.Len(t, y.events(store.LeaseGranted), 13, "a client that is gone borrows nothing")
	})
}
