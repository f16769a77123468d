package signalboxtest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestContainOutlivesItsProcess: a real process is killed at each step between the commit of a containment and what its OAuth provider is asked for: to end the grant, or
// to replace its tokens. On PostgreSQL another instance goes on, on SQLite it is started again. The act stands, the provider is asked, for new tokens once at most, and what
// came of it is on record once and in the timeline.
func TestContainOutlivesItsProcess(t *testing.T) {
	for _, e := range storetest.Engines() {
		for _, at := range incident.Points() {
			for _, treat := range incident.Treatments() {
				t.Run(fmt.Sprintf("%s/%s/%s", e, treat, at), func(t *testing.T) { containKilled(t, e, at, treat) })
			}
		}
	}
}

// revoker is an OAuth provider of which the test knows what was revoked, and by which token others were asked for.
type revoker struct {
	*httptest.Server
	mu   sync.Mutex
	sent []string // "path token"
}

func newRevoker(t *testing.T) *revoker {
	t.Helper()
	r := &revoker{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if req.URL.Path == "/revoke" {
			r.sent = append(r.sent, "/revoke "+req.PostFormValue("token"))
			return
		}
		r.sent = append(r.sent, req.URL.Path+" "+req.PostFormValue("refresh_token"))
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token":"planted-next-access","refresh_token":"planted-next-refresh","token_type":"bearer","expires_in":3600}`)
	}))
	t.Cleanup(r.Close)
	return r
}

// asked counts how often a token was sent to a place.
func (r *revoker) asked(path, token string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.sent {
		if one == path+" "+token {
			n++
		}
	}
	return n
}

func containKilled(t *testing.T, e store.Engine, at incident.Point, treat incident.Treatment) {
	ctx, provider := t.Context(), newRevoker(t)
	p := signalboxtest.NewProcess(t, e)
	failpoints := p.Failpoints(t)
	p.Start(t)
	admin, access, refresh := p.Admin(), p.Planted().Secret(t, "access token"), p.Planted().Secret(t, "refresh token")
	name, clientID, method := "work", "client-1", "none"
	tokens, revoke := []string{provider.URL + "/token"}, provider.URL+"/revoke"
	_, err := admin.AddOAuthProvider(ctx, client.OAuthProviderEdit{Name: &name, TokenURLs: &tokens, RevokeURL: &revoke, ClientID: &clientID, Auth: &method})
	require.NoError(t, err)
	ends := time.Now().Add(time.Hour)
	made, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: "oauth", Name: "mail", Provider: name, OAuth: &client.OAuth{ExpiresAt: &ends},
		Secrets: map[string]string{"access_token": access, "refresh_token": refresh}})
	require.NoError(t, err)

	place, status, version, entry, outcome, action := "/revoke", "compromised", made.Version, "revoked_upstream", "revoked", store.OAuthRevoke
	if treat == incident.Rotate {
		place, status, version, entry, outcome, action = "/token", "active", made.Version+1, "refreshed", "refreshed", store.OAuthForce
	}
	scope := client.IncidentScope{CredentialIDs: []string{made.ID}, Credentials: string(treat)}
	dry, err := admin.ContainNow(ctx, client.ContainOpening{}, client.ContainDraft{Scope: scope, DryRun: true})
	require.NoError(t, err)
	point := failpoints.Arm(t, string(at))
	done, err := admin.ContainNow(ctx, client.ContainOpening{}, client.ContainDraft{Scope: scope, Plan: dry.PlanTag})
	require.NoError(t, err, "the act is acknowledged")
	require.Equal(t, dry.Plan, done.Plan)
	point.Reached(t)
	before := 0
	if at == incident.AtAsked {
		before = 1
	}
	require.Equal(t, before, provider.asked(place, refresh))
	p.Kill(t)
	point.Release()
	if at != incident.AtOwed { // the claim of the dead holds for most of a minute and a half
		db := p.OpenBeside(t)
		require.NoError(t, db.Bookkeep(ctx, store.Outbox, func(tx *store.Tx) error {
			table := map[incident.Treatment]string{incident.Disable: "incident_revocations", incident.Rotate: "incident_refreshes"}[treat]
			n, err := tx.Exec(`UPDATE `+table+` SET claim_until = $1`, store.TimeOf(tx.Now()))
			require.Equal(t, int64(1), n)
			return err
		}))
		require.NoError(t, db.Close())
	}
	next := p
	if e == store.Postgres {
		next = p.Peer(t, p.DatabaseURL())
	}
	next.Start(t)
	admin = next.Admin()

	got, err := admin.GetIncident(ctx, done.Incident.ID)
	require.NoError(t, err)
	require.Equal(t, "contained", got.Status)
	cred, err := admin.GetCredential(ctx, made.ID)
	require.NoError(t, err)
	require.Equal(t, status, cred.Status)
	var last client.IncidentEntry
	require.Eventually(t, func() bool {
		line, err := admin.IncidentTimeline(ctx, done.Incident.ID, 0, "")
		require.NoError(t, err)
		last = line.Timeline[len(line.Timeline)-1]
		return last.Kind == entry
	}, 20*time.Second, 50*time.Millisecond, "the provider is asked by whoever comes next")
	require.Equal(t, outcome, last.Details["outcome"])
	if treat == incident.Rotate {
		before = 0 // who comes after finds the newer version
	}
	require.Equal(t, before+1, provider.asked(place, refresh), "once by each who came so far; a refresh token once by all of them")
	cred, err = admin.GetCredential(ctx, made.ID)
	require.NoError(t, err)
	require.Equal(t, version, cred.Version)
	outcomes := map[string]int{}
	for _, one := range []string{"pending", "ok", "failed"} {
		page, err := admin.AuditLogs(ctx, client.AuditFilter{Target: made.ID, Action: string(action), Outcome: one})
		require.NoError(t, err)
		outcomes[one] = len(page.Events)
	}
	require.Equal(t, map[string]int{"pending": 1, "ok": 1, "failed": 0}, outcomes, "what was owed, and what came of it")
	for _, log := range [][]byte{p.Log(), next.Log()} {
		require.NotContains(t, string(log), access)
		require.NotContains(t, string(log), refresh)
	}
}
