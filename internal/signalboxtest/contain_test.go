package signalboxtest_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

// TestContainUnderLoad contains one train, the account of another and a person while all instances (three on PostgreSQL) lend under load with streams open:
// within a second of the acknowledgement nothing of it is lent any more and its streams are cut, everywhere; what was not in the scope goes on; and each step
// is on record.
func TestContainUnderLoad(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		urls := []string{box.URL}
		if !box.Store.PostgresURL.IsZero() {
			urls = append(urls, box.Second(t).URL, box.Second(t).URL)
		}
		admin, ctx := box.Admin(), t.Context()
		byTrain, byAccount, byKey, stays := box.Lane(t, ""), box.Lane(t, ""), box.Lane(t, ""), box.Lane(t, "")
		out := []*signalboxtest.Lane{byTrain, byAccount, byKey}
		bob, err := admin.CreateUser(ctx, client.UserDraft{Email: "bob@example.com", Name: "Bob", Role: "operator", Password: "correct horse battery staple"})
		require.NoError(t, err)
		in, err := box.Anonymous().Login(ctx, "bob@example.com", "correct horse battery staple")
		require.NoError(t, err)

		var streams []func(time.Time) time.Duration
		for _, lane := range append(out, stays) {
			for _, u := range urls {
				require.Eventually(t, func() bool { return ask(t, u, lane.Key) == 200 }, 3*time.Second, 20*time.Millisecond)
				if lane != stays {
					streams = append(streams, stream(t, u, lane.Key))
				}
			}
		}
		for _, u := range urls {
			require.Eventually(t, func() bool { _, err := client.New(u, in.AccessToken).WhoAmI(ctx); return err == nil }, 3*time.Second, 50*time.Millisecond)
		}

		// Load: everybody asks all the time, and notes what began more than a second after the acknowledgement and was lent all the same.
		var acked atomic.Int64
		var late, lent, kept, refusals atomic.Int64
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for _, u := range urls {
			for _, lane := range append(out, stays) {
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						began := time.Now()
						status := ask(t, u, lane.Key)
						at := acked.Load()
						switch {
						case status == http.StatusOK && lane == stays:
							kept.Add(1)
						case status == http.StatusOK && at != 0 && began.After(time.Unix(0, at).Add(time.Second)):
							late.Add(1)
						case status == http.StatusOK:
							lent.Add(1)
						case lane == stays:
							refusals.Add(1)
						}
						time.Sleep(5 * time.Millisecond)
					}
				})
			}
		}
		time.Sleep(300 * time.Millisecond)

		i, err := admin.OpenIncident(ctx, client.IncidentDraft{Title: "Stolen laptop", IncidentType: "credential_leak", Severity: "critical"})
		require.NoError(t, err)
		scope := client.IncidentScope{TrainIDs: []string{byTrain.Train}, CredentialIDs: []string{byAccount.Accounts[0].ID}, KeyIDs: []string{byKey.KeyID}, UserIDs: []string{bob.User.ID}}
		dry, err := admin.ContainIncident(ctx, i.ID, client.ContainDraft{Scope: scope, DryRun: true})
		require.NoError(t, err)
		require.Len(t, dry.Plan, 5, "a session, an account, two keys, and the incident's move: %v", dry.Plan)
		since := time.Now()
		done, err := admin.ContainIncident(ctx, i.ID, client.ContainDraft{Scope: scope, Plan: dry.PlanTag})
		require.NoError(t, err)
		now := time.Now()
		acked.Store(now.UnixNano())
		require.Equal(t, dry.Plan, done.Plan)
		require.Equal(t, "contained", done.Incident.Status)
		for n, ended := range streams {
			require.Less(t, ended(now), time.Second, "stream %d", n)
		}
		time.Sleep(time.Until(now.Add(time.Second)))
		for _, u := range urls {
			_, err := client.New(u, in.AccessToken).WhoAmI(ctx)
			require.Error(t, err, "the session of the person is over")
		}
		time.Sleep(1500 * time.Millisecond)
		close(stop)
		wg.Wait()
		require.Zero(t, late.Load(), "uses that began more than a second after the acknowledgement")
		require.Positive(t, lent.Load())
		require.Greater(t, kept.Load(), int64(20))
		require.Zero(t, refusals.Load(), "what was not contained is lent as before")
		t.Logf("%d instances: %d uses before, none after; %d uses of what stayed", len(urls), lent.Load(), kept.Load())

		onRecord := func(id string, action store.Action) {
			t.Helper()
			page, err := admin.AuditLogs(ctx, client.AuditFilter{From: &since, Target: id, Action: string(action)})
			require.NoError(t, err)
			require.Len(t, page.Events, 1, "%s %s", action, id)
		}
		for _, step := range done.Plan {
			onRecord(step.ID, map[string]store.Action{"end_session": store.IdentitySessionEnd, "mark_compromised": store.CredentialUpdate, "revoke_key": store.KeyRevoke, "advance": store.IncidentAdvance}[step.Act])
		}
		onRecord(i.ID, store.IncidentContain)
		require.Eventually(t, func() bool {
			n := 0
			for _, e := range box.Leases(t) {
				if r, _ := e.Details.Get("result"); e.Action == store.LeaseOutcome && r.Text() == "revoked" {
					n++
				}
			}
			return n >= len(streams)
		}, 5*time.Second, 50*time.Millisecond, "each cut is recorded as such")
	})
}
