package signalboxtest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// acked is what the server has acknowledged, over all its lives.
type acked struct {
	mu      sync.Mutex
	secrets map[string]string // credential id → its secret's last acknowledged value
	unsure  map[string]bool   // credentials whose last write got no answer
	deleted []string
	revoked []string // client keys that must stay dead
	lent    []string // request ids of answered uses
}

// TestInvariant08AcknowledgedWritesSurviveKill kills the real binary with SIGKILL at random moments under load, and starts it again.
func TestInvariant08AcknowledgedWritesSurviveKill(t *testing.T) {
	rounds := 10
	switch {
	case os.Getenv("SIGNALBOX_SOAK") != "":
		rounds = 100
	case testing.Short():
		rounds = 2
	}
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			upKey := secret.FromString("sk-upstream-kill-test-key")
			_, upURL := signalboxtest.ServeUpstream(t, demo.Options{Keys: []secret.Value{upKey}})
			p := signalboxtest.NewProcess(t, engine)
			admin := p.Admin()
			ctx := t.Context()
			p.Start(t)
			p.Signal(t, syscall.SIGTERM)
			require.NoError(t, p.Wait())
			clean := p.Start(t) // on a machine that is busy with other things, a start takes its time also after an orderly end
			account, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: "api_key", Name: "acc", Provider: "anthropic", BaseURL: upURL, Secrets: map[string]string{"api_key": upKey.Reveal()}})
			require.NoError(t, err)
			_, err = admin.CreateTrain(ctx, client.TrainDraft{TrainID: "kill", Name: "Kill"})
			require.NoError(t, err)
			_, _, err = admin.Link(ctx, "kill", client.LinkDraft{CredentialID: account.ID})
			require.NoError(t, err)
			key, err := admin.IssueKey(ctx, "kill", client.KeyDraft{Name: "agent"})
			require.NoError(t, err)
			have := &acked{secrets: map[string]string{}, unsure: map[string]bool{}}
			var slowest time.Duration
			for round := range rounds {
				load(t, p, admin, key.APIKey, have, seed+uint64(round), func() {
					time.Sleep(time.Duration(50+rng.IntN(700)) * time.Millisecond)
					p.Kill(t)
				})
				slowest = max(slowest, p.Start(t))
				have.check(t, p, admin, round, round == rounds-1, time.Time{})
			}
			require.Less(t, slowest, max(2*time.Second, 10*clean), "ready within two seconds after a kill; after an orderly end it was within %v", clean)
			require.NotEmpty(t, have.lent)
			t.Logf("%d kills; %d answered uses, %d credentials, %d deleted, %d keys revoked; slowest start %v", rounds, len(have.lent), len(have.secrets), len(have.deleted), len(have.revoked), slowest)
			db := p.OpenReadOnly(t)
			require.Eventually(t, func() bool { // the claim of one that was killed has to lapse, and only who sequences signs at its end
				report, err := audit.Verify(ctx, db, audit.VerifyOptions{})
				return err == nil && report.Pending == 0
			}, 30*time.Second, 100*time.Millisecond)
			require.NoError(t, db.Close())
			p.Signal(t, syscall.SIGTERM) // an orderly end signs what was sequenced
			require.NoError(t, p.Wait())
			report, err := audit.Verify(ctx, p.OpenReadOnly(t), audit.VerifyOptions{Anchors: anchors(t, p.CheckpointFile())})
			require.NoError(t, err)
			require.True(t, report.OK(), "%+v", report.Findings)
			require.Positive(t, report.Anchored)
			p.Planted().Absent(t, "the server's log", p.Log())
		})
	}
}

// load writes and lends until the server is gone.
func load(t *testing.T, p *signalboxtest.Process, admin *client.Client, key string, have *acked, seed uint64, kill func()) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() { write(ctx, t, admin, have, rand.New(rand.NewPCG(seed, uint64(w)))) })
	}
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL+"/v1/messages", bytes.NewReader([]byte(`{"model":"claude-x","max_tokens":20,"messages":[{"role":"user","content":"kill me"}]}`)))
				if err != nil {
					return
				}
				req.Header.Set("X-Api-Key", key)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					time.Sleep(time.Millisecond)
					continue
				}
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if err == nil && resp.StatusCode == 200 {
					have.mu.Lock()
					have.lent = append(have.lent, resp.Header.Get("X-Request-Id"))
					have.mu.Unlock()
				}
			}
		})
	}
	kill()
	stop()
	wg.Wait()
}

func write(ctx context.Context, t *testing.T, admin *client.Client, have *acked, rng *rand.Rand) {
	var mine []string
	for n := 0; ctx.Err() == nil; n++ {
		value := fmt.Sprintf("%x-%x-%d", rng.Uint64(), rng.Uint64(), n)
		switch op := rng.IntN(5); {
		case op <= 1 || len(mine) == 0:
			c, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: "password", Name: "n", Secrets: map[string]string{"password": value}})
			if err != nil {
				break
			}
			mine = append(mine, c.ID)
			have.mu.Lock()
			have.secrets[c.ID] = value
			have.mu.Unlock()
		case op == 2:
			id := mine[rng.IntN(len(mine))]
			_, err := admin.RotateCredential(ctx, id, map[string]string{"password": value}, "test")
			have.mu.Lock()
			if err != nil {
				have.unsure[id] = true
			} else {
				have.secrets[id] = value
				delete(have.unsure, id)
			}
			have.mu.Unlock()
		case op == 3 && len(mine) > 3:
			id := mine[len(mine)-1]
			mine = mine[:len(mine)-1]
			err := admin.DeleteCredential(ctx, id)
			have.mu.Lock()
			delete(have.secrets, id)
			if err == nil {
				have.deleted = append(have.deleted, id)
			}
			have.mu.Unlock()
		default:
			k, err := admin.IssueKey(ctx, "kill", client.KeyDraft{Name: "short-lived"})
			if err != nil {
				break
			}
			if admin.RevokeKey(ctx, "kill", k.ID) == nil {
				have.mu.Lock()
				have.revoked = append(have.revoked, k.APIKey)
				have.mu.Unlock()
			}
		}
	}
}

// check holds what a server knows against what was acknowledged. Revocations must hold for whoever asks after by: one instance of a fleet
// hears of another's within the second.
func (a *acked) check(t *testing.T, p *signalboxtest.Process, admin *client.Client, round int, last bool, by time.Time) {
	t.Helper()
	ctx := context.Background()
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for id, want := range a.secrets {
		if a.unsure[id] {
			continue
		}
		if n++; n > 60 && !last { // some of each round's, as the map's order has it
			break
		}
		got, err := admin.RevealCredential(ctx, id, "password", "after a kill")
		require.NoError(t, err, "round %d: %s was acknowledged and is lost", round, id)
		require.Equal(t, want, got, "round %d: an acknowledged rotation of %s is lost", round, id)
	}
	for _, id := range a.deleted[max(0, len(a.deleted)-10):] {
		_, err := admin.GetCredential(ctx, id)
		var e *client.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, 404, e.Status, "an acknowledged deletion is undone")
	}
	for _, key := range a.revoked[max(0, len(a.revoked)-5):] {
		status := 0
		for asked := (time.Time{}); status != 401 && !asked.After(by); asked = time.Now() {
			req, err := http.NewRequest(http.MethodPost, p.URL+"/v1/messages", bytes.NewReader([]byte(`{}`)))
			require.NoError(t, err)
			req.Header.Set("X-Api-Key", key)
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			_ = resp.Body.Close()
			status = resp.StatusCode
		}
		require.Equal(t, 401, status, "an acknowledged revocation is undone")
	}
	db := p.OpenReadOnly(t)
	defer db.Close() // not at the end of the test: hundreds of rounds would use up PostgreSQL's connections
	report, err := audit.Verify(ctx, db, audit.VerifyOptions{})
	require.NoError(t, err)
	require.True(t, report.OK(), "round %d: %+v", round, report.Findings)
	intents := map[string]bool{}
	for _, e := range signalboxtest.Leases(t, db) {
		if e.Action == store.LeaseGranted {
			intents[e.RequestID] = true
		}
	}
	for _, rid := range a.lent {
		require.True(t, intents[rid], "round %d: the use %s was answered and has no durable intent", round, rid)
	}
}
