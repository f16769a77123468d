package api_test

import (
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
