package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
)

// TestStoryIncident: from the report to the end, with what it touches; people hear of it, and nothing that somebody wrote but the title leaves it.
func TestStoryIncident(t *testing.T) {
	const sensitive = "planted-sensitive-text-0815"
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		w := h.world()
		i, err := h.client.OpenIncident(ctx, client.IncidentDraft{Title: "Key of web in a public log", IncidentType: "credential_leak", Severity: "high", Description: sensitive,
			ClientID: w.client, CredentialIDs: []string{w.credential}, TrainIDs: []string{w.trainSlug}, KeyIDs: []string{w.key}, UserIDs: []string{w.user}})
		require.NoError(t, err)
		require.Regexp(t, `^inc_[0-9a-z]{26}$`, i.ID)
		require.Equal(t, "investigating", i.Status)
		require.Equal(t, []string{w.credential}, i.CredentialIDs)
		require.True(t, strings.HasPrefix(i.TrainIDs[0], "train_"), "a slug becomes an id")
		require.Len(t, i.Touches, 5)
		_, err = h.client.OpenIncident(ctx, client.IncidentDraft{Title: "x", CredentialIDs: []string{w.credential, "cred_00000000000000000000000000"}})
		e := refused(t, err, 422, "validation_failed")
		require.Equal(t, "/credential_ids/1", e.Errors[0].Pointer)

		_, err = h.client.UpdateIncident(ctx, i.ID, client.IncidentPatch{Status: ptr("resolved")})
		e = refused(t, err, 409, "state_conflict")
		require.Contains(t, e.Detail, "contained, monitoring")
		a := h.do(request{method: "PUT", target: "/api/security-incidents/" + i.ID, token: h.token, body: []byte(`{"status":"contained"}`)})
		require.Equal(t, 200, a.status, "%s", a.body)
		require.Contains(t, string(a.body), `"status":"contained"`)
		_, err = h.client.UpdateIncident(ctx, i.ID, client.IncidentPatch{Severity: ptr("low"), IfMatch: i.ETag})
		refused(t, err, 412, "etag_mismatch")
		entry, err := h.client.AddIncidentNote(ctx, i.ID, sensitive)
		require.NoError(t, err)
		require.Equal(t, "note", entry.Kind)
		done, err := h.client.UpdateIncident(ctx, i.ID, client.IncidentPatch{Status: ptr("resolved"), Note: "rotated", RemediationSteps: ptr("logs are scrubbed now"), CredentialIDs: &[]string{}})
		require.NoError(t, err)
		require.NotNil(t, done.ResolvedAt)
		require.Empty(t, done.CredentialIDs)
		_, err = h.client.UpdateIncident(ctx, i.ID, client.IncidentPatch{Status: ptr("investigating")})
		refused(t, err, 409, "state_conflict")

		kinds := []string{}
		line, err := h.client.IncidentTimeline(ctx, i.ID, 0, "")
		require.NoError(t, err)
		for _, entry := range line.Timeline {
			kinds = append(kinds, entry.Kind)
		}
		require.Equal(t, []string{"opened", "moved", "note", "moved", "changed"}, kinds)
		require.Equal(t, "rotated", line.Timeline[3].Text)
		require.Equal(t, map[string]any{"from": "contained", "to": "resolved"}, line.Timeline[3].Details)

		auditor := h.as(h.withRole(identity.Auditor))
		for _, list := range []func() (client.IncidentPage, error){
			func() (client.IncidentPage, error) {
				return auditor.IncidentsByClient(ctx, w.client, client.IncidentFilter{})
			},
			func() (client.IncidentPage, error) {
				return auditor.IncidentsByStatus(ctx, "resolved", client.IncidentFilter{})
			},
			func() (client.IncidentPage, error) {
				return auditor.ListIncidents(ctx, client.IncidentFilter{Touches: "key:" + w.key, Q: "PUBLIC log"})
			},
		} {
			page, err := list()
			require.NoError(t, err)
			require.Len(t, page.Incidents, 1)
			require.Equal(t, i.ID, page.Incidents[0].ID)
		}
		_, err = auditor.IncidentsByStatus(ctx, "finished", client.IncidentFilter{})
		refused(t, err, 422, "validation_failed")
		_, err = auditor.ListIncidents(ctx, client.IncidentFilter{Touches: w.key})
		refused(t, err, 422, "validation_failed")
		_, err = auditor.AddIncidentNote(ctx, i.ID, "x")
		refused(t, err, 403, "forbidden")
		told, err := h.client.ListDeliveries(ctx, client.DeliveryFilter{Limit: 1000})
		require.NoError(t, err)
		heard := map[string]int{}
		for _, d := range told.Deliveries {
			heard[d.Kind]++
			require.NotContains(t, d.Title, sensitive)
		}
		require.Equal(t, 3, heard["incident.opened"], "with that of the world, and at the channel of its train")
		require.Equal(t, 4, heard["incident.moved"], "each also at the channel of the train")
		for _, ev := range h.events() {
			b, err := ev.Details.MarshalJSON()
			require.NoError(t, err)
			require.NotContains(t, string(b)+ev.Reason+ev.Target.Name, sensitive)
		}
		require.NotContains(t, h.log.String(), sensitive)
		refused(t, h.as(h.withRole(identity.Operator)).DeleteIncident(ctx, i.ID), 403, "forbidden")
		require.NoError(t, h.client.DeleteIncident(ctx, i.ID))
		_, err = h.client.GetIncident(ctx, i.ID)
		refused(t, err, 404, "not_found")
	})
}

// TestStoryContain: the plan, what changed since, the act with exactly that plan, and who may not.
func TestStoryContain(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		w := h.world()
		in := h.session(w.user)
		scope := client.IncidentScope{CredentialIDs: []string{w.credential}, TrainIDs: []string{w.trainSlug}, UserIDs: []string{w.user}}
		dry, err := h.client.ContainIncident(ctx, w.incident, client.ContainDraft{Scope: scope, DryRun: true})
		require.NoError(t, err)
		require.True(t, dry.DryRun)
		require.Nil(t, dry.Incident)
		require.Len(t, dry.Plan, 4)
		who, err := h.as(in).WhoAmI(ctx)
		require.NoError(t, err, "a dry run ends nothing")
		require.Equal(t, w.user, who.UserID)
		_, err = h.as(h.withRole(identity.Operator)).ContainIncident(ctx, w.incident, client.ContainDraft{Scope: scope, DryRun: true})
		refused(t, err, 403, "forbidden")
		_, err = h.client.ContainIncident(ctx, w.incident, client.ContainDraft{DryRun: true})
		e := refused(t, err, 422, "validation_failed")
		require.Equal(t, "/scope", e.Errors[0].Pointer)
		_, err = h.client.IssueKey(ctx, w.trainSlug, client.KeyDraft{Name: "meanwhile"})
		require.NoError(t, err)
		_, err = h.client.ContainIncident(ctx, w.incident, client.ContainDraft{Scope: scope, Plan: dry.PlanTag})
		refused(t, err, 412, "etag_mismatch")
		dry, err = h.client.ContainIncident(ctx, w.incident, client.ContainDraft{Scope: scope, DryRun: true})
		require.NoError(t, err)
		done, err := h.client.ContainIncident(ctx, w.incident, client.ContainDraft{Scope: scope, Plan: dry.PlanTag, Note: "stolen"})
		require.NoError(t, err)
		require.Equal(t, dry.Plan, done.Plan)
		require.Equal(t, "contained", done.Incident.Status)
		require.Equal(t, []string{w.user}, done.Incident.UserIDs)
		_, err = h.as(in).WhoAmI(ctx)
		refused(t, err, 401, "unauthenticated")
		cred, err := h.client.GetCredential(ctx, w.credential)
		require.NoError(t, err)
		require.Equal(t, "compromised", cred.Status)
	})
}

// TestStoryContainNow: without an incident the act opens one, contained, with what was contained in it; a dry run opens none, and another plan than the one seen is refused.
func TestStoryContainNow(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		w := h.world()
		before, err := h.client.ListIncidents(ctx, client.IncidentFilter{})
		require.NoError(t, err)
		scope := client.IncidentScope{CredentialIDs: []string{w.credential}, TrainIDs: []string{w.trainSlug}}
		dry, err := h.client.ContainNow(ctx, client.ContainOpening{}, client.ContainDraft{Scope: scope, DryRun: true})
		require.NoError(t, err)
		require.Nil(t, dry.Incident)
		require.Equal(t, "open", dry.Plan[0].Act)
		require.Empty(t, dry.Plan[0].ID)
		require.Equal(t, "contained", dry.Plan[0].Of)
		require.Len(t, dry.Plan, 3)
		_, err = h.client.ContainNow(ctx, client.ContainOpening{Title: "Another"}, client.ContainDraft{Scope: scope, Plan: dry.PlanTag})
		refused(t, err, 412, "etag_mismatch")
		_, err = h.client.IssueKey(ctx, w.trainSlug, client.KeyDraft{Name: "meanwhile"})
		require.NoError(t, err)
		_, err = h.client.ContainNow(ctx, client.ContainOpening{}, client.ContainDraft{Scope: scope, Plan: dry.PlanTag})
		refused(t, err, 412, "etag_mismatch")
		_, err = h.client.ContainNow(ctx, client.ContainOpening{}, client.ContainDraft{DryRun: true})
		e := refused(t, err, 422, "validation_failed")
		require.Equal(t, "/scope", e.Errors[0].Pointer)
		later := time.Now().Add(time.Hour)
		_, err = h.client.ContainNow(ctx, client.ContainOpening{IncidentDate: &later}, client.ContainDraft{Scope: scope, DryRun: true})
		e = refused(t, err, 422, "validation_failed")
		require.Equal(t, "/incident/incident_date", e.Errors[0].Pointer)
		now, err := h.client.ListIncidents(ctx, client.IncidentFilter{})
		require.NoError(t, err)
		require.Equal(t, before, now, "what is refused, and a dry run, open nothing")

		dry, err = h.client.ContainNow(ctx, client.ContainOpening{}, client.ContainDraft{Scope: scope, DryRun: true})
		require.NoError(t, err)
		done, err := h.client.ContainNow(ctx, client.ContainOpening{}, client.ContainDraft{Scope: scope, Plan: dry.PlanTag, Note: "stolen"})
		require.NoError(t, err)
		require.Equal(t, dry.Plan, done.Plan)
		require.False(t, done.DryRun)
		got, err := h.client.GetIncident(ctx, done.Incident.ID)
		require.NoError(t, err)
		require.Equal(t, []string{"contained", "credential_leak", "high", dry.Plan[0].Name}, []string{got.Status, got.IncidentType, got.Severity, got.Title})
		require.Equal(t, []string{w.credential}, got.CredentialIDs)
		require.Len(t, got.TrainIDs, 1)
		line, err := h.client.IncidentTimeline(ctx, got.ID, 0, "")
		require.NoError(t, err)
		require.Equal(t, []string{"opened", "contained"}, []string{line.Timeline[0].Kind, line.Timeline[1].Kind})
		require.Equal(t, "stolen", line.Timeline[1].Text)
		cred, err := h.client.GetCredential(ctx, w.credential)
		require.NoError(t, err)
		require.Equal(t, "compromised", cred.Status)
		told, err := h.client.ListDeliveries(ctx, client.DeliveryFilter{Limit: 1000})
		require.NoError(t, err)
		heard := map[string]int{}
		for _, d := range told.Deliveries {
			heard[d.Kind]++
		}
		require.Equal(t, 3, heard["incident.opened"], "with that of the world, and at the channel of its train")
		require.Zero(t, heard["incident.moved"], "people hear of it once")
		_, err = h.as(h.withRole(identity.Auditor)).ContainNow(ctx, client.ContainOpening{}, client.ContainDraft{Scope: scope})
		refused(t, err, 403, "forbidden")
	})
}

// TestStoryContainRotates: the plan says what becomes of each credential; what cannot be renewed from here is disabled, first among what is due, and told of.
func TestStoryContainRotates(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		w := h.world()
		mail, err := h.client.CreateCredential(ctx, oauthSample("mail", "linear"))
		require.NoError(t, err)
		kept, err := h.client.CreateCredential(ctx, oauthSample("calendar", "google"))
		require.NoError(t, err)
		dry, err := h.client.ContainIncident(ctx, w.incident, client.ContainDraft{Scope: client.IncidentScope{CredentialIDs: []string{kept.ID}, Credentials: "rotate"}, DryRun: true})
		require.NoError(t, err)
		var acts []string
		for _, step := range dry.Plan {
			acts = append(acts, step.Act)
		}
		require.Equal(t, []string{"mark_compromised", "rotate_due", "revoke_upstream", "advance"}, acts, "Google would go on with the refresh token that leaked")
		scope := client.IncidentScope{CredentialIDs: []string{w.credential, mail.ID}, Credentials: "rotate"}
		dry, err = h.client.ContainIncident(ctx, w.incident, client.ContainDraft{Scope: scope, DryRun: true})
		require.NoError(t, err)
		steps := map[string][]string{}
		for _, step := range dry.Plan {
			steps[step.ID] = append(steps[step.ID], step.Act)
		}
		require.Equal(t, map[string][]string{w.credential: {"mark_compromised", "rotate_due"}, mail.ID: {"refresh"}, w.incident: {"advance"}}, steps)
		require.Equal(t, "old_token", dry.Warnings[0].Code)
		disable := scope
		disable.Credentials = "disable"
		_, err = h.client.ContainIncident(ctx, w.incident, client.ContainDraft{Scope: disable, Plan: dry.PlanTag})
		refused(t, err, 412, "etag_mismatch")
		disable.Credentials = "burn"
		_, err = h.client.ContainIncident(ctx, w.incident, client.ContainDraft{Scope: disable, DryRun: true})
		refused(t, err, 422, "validation_failed")
		done, err := h.client.ContainIncident(ctx, w.incident, client.ContainDraft{Scope: scope, Plan: dry.PlanTag})
		require.NoError(t, err)
		require.Equal(t, dry.Plan, done.Plan)
		cred, err := h.client.GetCredential(ctx, w.credential)
		require.NoError(t, err)
		require.Equal(t, "compromised", cred.Status)
		require.WithinDuration(t, time.Now(), *cred.RotationDueAt, time.Minute)
		mail, err = h.client.GetCredential(ctx, mail.ID)
		require.NoError(t, err)
		require.Equal(t, "active", mail.Status)
		require.Nil(t, mail.RotationDueAt)
		soon := time.Now().Add(time.Minute)
		page, err := h.client.ListCredentials(ctx, client.CredentialFilter{RotationDueBefore: &soon})
		require.NoError(t, err)
		require.Len(t, page.Credentials, 1)
		require.Equal(t, w.credential, page.Credentials[0].ID)
		told, err := h.client.ListDeliveries(ctx, client.DeliveryFilter{Limit: 1000})
		require.NoError(t, err)
		heard := map[string]int{}
		for _, d := range told.Deliveries {
			heard[d.Kind]++
		}
		require.Equal(t, 2, heard["credential.rotation"], "also at the channel of the train that links it")
		rotated, err := h.client.RotateCredential(ctx, w.credential, map[string]string{"api_key": "planted-new-api-key-0123"}, "contained")
		require.NoError(t, err)
		require.Nil(t, rotated.RotationDueAt, "a new secret takes it back")
	})
}

// TestStoryBlastRadius: who used what since a time, of what an incident touches and of one thing; who may not read the log hears nothing, and every look is on record.
func TestStoryBlastRadius(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		w := h.world()
		bob := h.withRole(identity.Administrator)
		who, err := h.as(bob).WhoAmI(ctx)
		require.NoError(t, err)
		_, err = h.as(bob).RevealCredential(ctx, w.credential, "api_key", "hand-over")
		require.NoError(t, err)
		_, err = h.as(bob).RevealCredential(ctx, w.credential, "api_key", "again")
		require.NoError(t, err)
		_, err = h.as(h.withRole(identity.Auditor)).RevealCredential(ctx, w.credential, "api_key", "curious")
		refused(t, err, 403, "forbidden")

		got, err := h.client.BlastRadius(ctx, w.credential, client.RadiusQuery{})
		require.NoError(t, err)
		require.True(t, got.Complete)
		require.Empty(t, got.NextCursor)
		require.Equal(t, "credential", got.Subject.Kind)
		require.NotEmpty(t, got.Subject.Name)
		of := func(r client.BlastRadius, relation, id string) client.RadiusContact {
			for _, c := range r.Contacts {
				if c.Relation == relation && c.ID == id {
					return c
				}
			}
			return client.RadiusContact{}
		}
		person := of(got, "behind", who.UserID)
		require.Equal(t, int64(2), person.Revealed)
		require.Equal(t, "user", person.Kind)
		require.NotEmpty(t, person.Name, "records know the id alone")
		require.Equal(t, []client.RadiusAct{{Action: "credential.reveal", Outcome: "ok", Count: 2}}, person.Acts)
		refusals := int64(0)
		for _, c := range got.Contacts {
			if c.Relation == "by" {
				refusals += c.Refused
			}
		}
		require.Equal(t, int64(1), refusals)

		theirs, err := h.client.BlastRadius(ctx, who.UserID, client.RadiusQuery{})
		require.NoError(t, err)
		require.Equal(t, int64(2), of(theirs, "did", w.credential).Revealed)
		require.NotEmpty(t, of(theirs, "did", w.credential).Name)
		through := int64(0)
		for _, c := range theirs.Contacts {
			if c.Relation == "through" {
				require.Equal(t, "token", c.Kind)
				through += c.Revealed
			}
		}
		require.Equal(t, int64(2), through)
		later := person.Last.Add(time.Microsecond)
		since, err := h.client.BlastRadius(ctx, who.UserID, client.RadiusQuery{From: &later})
		require.NoError(t, err)
		require.Zero(t, of(since, "did", w.credential).Revealed)
		_, err = h.client.BlastRadius(ctx, who.UserID, client.RadiusQuery{From: &later, To: &person.First})
		refused(t, err, 422, "validation_failed")

		train, err := h.client.BlastRadius(ctx, w.trainSlug, client.RadiusQuery{})
		require.NoError(t, err)
		require.Equal(t, "train", train.Subject.Kind)
		require.NotEmpty(t, train.Contacts)
		_, err = h.client.BlastRadius(ctx, "planted", client.RadiusQuery{})
		refused(t, err, 404, "not_found")
		_, err = h.client.BlastRadius(ctx, w.credential, client.RadiusQuery{Cursor: "planted"})
		refused(t, err, 422, "validation_failed")

		i, err := h.client.OpenIncident(ctx, client.IncidentDraft{Title: "Leak", ClientID: w.client, CredentialIDs: []string{w.credential}, TrainIDs: []string{w.trainSlug}, UserIDs: []string{who.UserID}, IncidentDate: &person.First})
		require.NoError(t, err)
		all, err := h.client.IncidentBlastRadius(ctx, i.ID, client.RadiusQuery{})
		require.NoError(t, err)
		require.Len(t, all.Radii, 3, "a client neither acts nor is used")
		require.Empty(t, all.NextCursor)
		for _, r := range all.Radii {
			require.True(t, r.From.Equal(person.First))
			if r.Subject.ID == w.credential {
				require.Equal(t, int64(2), of(r, "behind", who.UserID).Revealed)
			}
		}
		rest, err := h.client.IncidentBlastRadius(ctx, i.ID, client.RadiusQuery{Cursor: all.Radii[0].Subject.ID})
		require.NoError(t, err)
		require.Len(t, rest.Radii, 2)
		_, err = h.client.IncidentBlastRadius(ctx, i.ID, client.RadiusQuery{Cursor: "planted"})
		refused(t, err, 422, "validation_failed")

		for _, role := range []identity.Role{identity.Operator, identity.Member} {
			_, err = h.as(h.withRole(role)).BlastRadius(ctx, w.credential, client.RadiusQuery{})
			refused(t, err, 403, "forbidden")
			_, err = h.as(h.withRole(role)).IncidentBlastRadius(ctx, i.ID, client.RadiusQuery{})
			refused(t, err, 403, "forbidden")
		}
		_, err = h.as(h.withRole(identity.Auditor)).IncidentBlastRadius(ctx, i.ID, client.RadiusQuery{})
		require.NoError(t, err)
		looks, refusedLooks := 0, 0
		for _, ev := range h.events() {
			if act, _ := ev.Details.Get("act"); ev.Action == "audit.read" && act.Text() == "blast_radius" {
				looks++
			}
			if ev.Action == "audit.read" && ev.Outcome == "refused" {
				refusedLooks++
			}
		}
		require.Equal(t, 7, looks)
		require.GreaterOrEqual(t, refusedLooks, 3)
	})
}
