package signalboxtest_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestKeyedRequestsSurviveKill kills the real binary while many store credentials with Idempotency-Keys, starts it again, and has everybody
// repeat what they do not know the answer of: each ends up with exactly one credential, and hears which.
func TestKeyedRequestsSurviveKill(t *testing.T) {
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			p := signalboxtest.NewProcess(t, engine)
			p.Start(t)
			want, lost := 0, 0
			for range rounds {
				var mu sync.Mutex
				open := map[string]bool{} // keys whose request got no answer
				var wg sync.WaitGroup
				ctx, stop := context.WithCancel(t.Context())
				for range 8 {
					wg.Go(func() {
						for ctx.Err() == nil {
							key := store.NewID("try")
							_, err := p.Admin().Idempotent(key).CreateCredential(ctx, client.CredentialDraft{Type: "custom", Name: key, Secrets: map[string]string{"x": "y"}})
							mu.Lock()
							want++
							if err != nil {
								open[key] = true
							}
							mu.Unlock()
							if err != nil {
								return
							}
						}
					})
				}
				time.Sleep(time.Duration(50+rng.IntN(300)) * time.Millisecond) // the moment of the crash, not a synchronisation
				p.Kill(t)
				wg.Wait()
				stop()
				p.Start(t)
				require.NotEmpty(t, open)
				require.Eventually(t, func() bool {
					for key := range open {
						got, err := p.Admin().Idempotent(key).CreateCredential(t.Context(), client.CredentialDraft{Type: "custom", Name: key, Secrets: map[string]string{"x": "y"}})
						var refusal *client.Error
						switch {
						case err == nil && got.Name == key:
							delete(open, key)
						case errors.As(err, &refusal) && refusal.Code == "idempotency_answer_lost":
							lost++
							delete(open, key)
						case !errors.As(err, &refusal) || refusal.Code != "idempotency_in_progress":
							t.Errorf("%s: %+v, %v", key, got, err)
							return true
						}
					}
					return len(open) == 0
				}, 30*time.Second, 100*time.Millisecond)
			}
			var rows, names int
			require.NoError(t, p.OpenReadOnly(t).Read(t.Context(), func(tx *store.Tx) error {
				if err := tx.Get(&rows, `SELECT COUNT(*) FROM credentials`); err != nil {
					return err
				}
				return tx.Get(&names, `SELECT COUNT(DISTINCT name) FROM credentials`)
			}))
			require.Equal(t, want, rows)
			require.Equal(t, want, names)
			t.Logf("%d credentials, %d kills, %d answers were lost between act and keeping", want, rounds, lost)
		})
	}
}
