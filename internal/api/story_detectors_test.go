package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestDetectorOpensAnIncident: in a whole server, reveals that are refused open an incident that its auditors find, with nothing done by anybody; another
// detector that is off stays silent.
func TestDetectorOpensAnIncident(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			box := signalboxtest.StartWith(t, e, map[string]string{"SIGNALBOX_DETECTORS": "denied_reveals=3/1h,mass_access=off"})
			admin := box.Admin()
			made, err := admin.CreateCredential(t.Context(), client.CredentialDraft{Type: "password", Name: "Gitea", Secrets: map[string]string{"password": box.Planted.Secret(t, "gitea")}})
			require.NoError(t, err)
			for n := range 4 {
				_, err := admin.RevealCredential(t.Context(), made.ID, "no_such_field", "curious")
				require.Error(t, err)
				list, err := admin.ListIncidents(t.Context(), client.IncidentFilter{})
				require.NoError(t, err)
				if n < 2 {
					require.Empty(t, list.Incidents)
				}
			}
			require.Eventually(t, func() bool {
				list, err := admin.ListIncidents(t.Context(), client.IncidentFilter{})
				return err == nil && len(list.Incidents) == 1 && list.Incidents[0].Detector == "denied_reveals"
			}, 20*time.Second, 50*time.Millisecond)
		})
	}
}

// TestCanaryFreezesItsUser: whoever reveals a canary, or is lent it, gets it as if it were any other credential, and within a second what they did it with works
// no more; an incident says so, and nobody else is touched.
func TestCanaryFreezesItsUser(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			env := map[string]string{"SIGNALBOX_DETECTORS": "mass_access=off"}
			box := signalboxtest.StartWith(t, e, env)
			lane, other := box.Lane(t, ""), box.Lane(t, "")
			planted := box.Planted.Secret(t, "canary")
			made, err := box.Admin().CreateCredential(t.Context(), client.CredentialDraft{Type: "password", Name: "Backup root", Secrets: map[string]string{"password": planted}})
			require.NoError(t, err)
			before, err := box.Admin().GetCredential(t.Context(), made.ID)
			require.NoError(t, err)
			thief, err := box.Admin().IssueToken(t.Context(), client.TokenDraft{Name: "thief", Scopes: []string{"credentials:read", "credentials:reveal"}})
			require.NoError(t, err)
			box.Stop()
			env["SIGNALBOX_CANARIES"] = made.ID + "," + lane.Accounts[0].ID
			box = box.Again(t)
			admin := box.Admin()
			after, err := admin.GetCredential(t.Context(), made.ID)
			require.NoError(t, err)
			require.Equal(t, before, after, "nothing tells that it is one")

			stolen := client.New(box.URL, thief.Secret)
			got, err := stolen.RevealCredential(t.Context(), made.ID, "password", "curious")
			require.NoError(t, err)
			require.Equal(t, planted, got)
			begun := time.Now()
			require.Eventually(t, func() bool {
				_, err := stolen.GetCredential(t.Context(), made.ID)
				return err != nil
			}, 20*time.Second, 10*time.Millisecond)
			t.Logf("the token was revoked after %v", time.Since(begun))

			ask := func(l *signalboxtest.Lane) int {
				answer, err := http.DefaultClient.Do(l.Request(t.Context(), []byte(`{"model":"claude-sonnet-4-5","max_tokens":16,"messages":[{"role":"user","content":"hello"}]}`)))
				require.NoError(t, err)
				require.NoError(t, answer.Body.Close())
				return answer.StatusCode
			}
			require.Equal(t, http.StatusOK, ask(lane))
			begun = time.Now()
			require.Eventually(t, func() bool { return ask(lane) == http.StatusUnauthorized }, 20*time.Second, 10*time.Millisecond)
			t.Logf("the key was revoked after %v", time.Since(begun))
			require.Equal(t, http.StatusOK, ask(other))

			list, err := admin.ListIncidents(t.Context(), client.IncidentFilter{})
			require.NoError(t, err)
			require.Len(t, list.Incidents, 2)
			for _, i := range list.Incidents {
				require.Equal(t, "canary", i.Detector)
				require.Equal(t, "critical", i.Severity)
			}
			require.Equal(t, []string{lane.KeyID}, list.Incidents[0].KeyIDs)
			require.Equal(t, []string{made.ID}, list.Incidents[1].CredentialIDs)
		})
	}
}
