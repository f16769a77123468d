package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/store"
)

// incidentType is one of the table of incidents.
type incidentType string

// Schema lists the types.
func (incidentType) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, row := range incident.Types() {
		s.Enum = append(s.Enum, string(row.Type))
	}
	return s
}

// incidentSeverity is one of the table of incidents.
type incidentSeverity string

// Schema lists the severities.
func (incidentSeverity) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, one := range incident.Severities() {
		s.Enum = append(s.Enum, string(one))
	}
	return s
}

// incidentStatus is one of the table of incidents.
type incidentStatus string

// Schema lists the statuses.
func (incidentStatus) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, one := range incident.Statuses() {
		s.Enum = append(s.Enum, string(one))
	}
	return s
}

type incidentDraft struct {
	Title             string           `json:"title" minLength:"1" maxLength:"200" doc:"Stands in the audit and in notifications."`
	IncidentType      incidentType     `json:"incident_type,omitempty" doc:"Other when it is left out."`
	Severity          incidentSeverity `json:"severity,omitempty" doc:"Medium when it is left out."`
	Description       string           `json:"description,omitempty" maxLength:"20000" doc:"What happened. In no audit record and no notification."`
	Findings          string           `json:"findings,omitempty" maxLength:"20000" doc:"What was found out."`
	RemediationSteps  string           `json:"remediation_steps,omitempty" maxLength:"20000" doc:"What is to be done, or was."`
	IncidentDate      *time.Time       `json:"incident_date,omitempty" doc:"When it happened; now when it is left out."`
	ClientID          string           `json:"client_id,omitempty" maxLength:"100" doc:"The client that it touches."`
	ServiceID         string           `json:"service_id,omitempty" maxLength:"100" doc:"The service that it touches."`
	InfrastructureID  string           `json:"infrastructure_id,omitempty" maxLength:"100" doc:"The infrastructure that it touches."`
	CredentialIDs     texts            `json:"credential_ids,omitempty" nullable:"false" maxItems:"100" doc:"The credentials that it touches."`
	UserIDs           texts            `json:"user_ids,omitempty" nullable:"false" maxItems:"100" doc:"The people that it touches."`
	ServiceAccountIDs texts            `json:"service_account_ids,omitempty" nullable:"false" maxItems:"100" doc:"The service accounts that it touches."`
	TrainIDs          texts            `json:"train_ids,omitempty" nullable:"false" maxItems:"100" doc:"The trains that it touches, by slug or id."`
	KeyIDs            texts            `json:"key_ids,omitempty" nullable:"false" maxItems:"100" doc:"The client keys that it touches."`
}

type incidentPatch struct {
	Title             *string           `json:"title,omitempty" minLength:"1" maxLength:"200"`
	IncidentType      *incidentType     `json:"incident_type,omitempty"`
	Severity          *incidentSeverity `json:"severity,omitempty"`
	Status            *incidentStatus   `json:"status,omitempty" doc:"A move that the workflow does not have is a 409."`
	Note              string            `json:"note,omitempty" maxLength:"4000" doc:"The reason; it stands in the timeline."`
	Description       edit[string]      `json:"description,omitempty" maxLength:"20000"`
	Findings          edit[string]      `json:"findings,omitempty" maxLength:"20000"`
	RemediationSteps  edit[string]      `json:"remediation_steps,omitempty" maxLength:"20000"`
	IncidentDate      *time.Time        `json:"incident_date,omitempty"`
	ResolvedAt        *time.Time        `json:"resolved_at,omitempty" doc:"Only of an incident that is, or becomes, resolved; now when it is left out."`
	ClientID          edit[string]      `json:"client_id,omitempty" maxLength:"100"`
	ServiceID         edit[string]      `json:"service_id,omitempty" maxLength:"100"`
	InfrastructureID  edit[string]      `json:"infrastructure_id,omitempty" maxLength:"100"`
	CredentialIDs     edit[texts]       `json:"credential_ids,omitempty"`
	UserIDs           edit[texts]       `json:"user_ids,omitempty"`
	ServiceAccountIDs edit[texts]       `json:"service_account_ids,omitempty"`
	TrainIDs          edit[texts]       `json:"train_ids,omitempty"`
	KeyIDs            edit[texts]       `json:"key_ids,omitempty"`
}

type entryDraft struct {
	Text string `json:"text" minLength:"1" maxLength:"4000"`
}

type incidentBody struct {
	Incident client.Incident `json:"incident"`
}

type entryBody struct {
	Entry client.IncidentEntry `json:"entry"`
}

type incidentAnswer struct {
	ETag     string `header:"ETag" doc:"Names this state, for If-Match."`
	Location string `header:"Location" hidden:"true"`
	Body     incidentBody
}

func shownIncident(i incident.Incident) client.Incident {
	first := func(kind incident.LinkKind) string {
		if ids := i.Linked(kind); len(ids) > 0 {
			return ids[0]
		}
		return ""
	}
	all := func(kind incident.LinkKind) []string { return append([]string{}, i.Linked(kind)...) }
	out := client.Incident{
		ID: i.ID, Title: i.Title, IncidentType: string(i.Type), Severity: string(i.Severity), Status: string(i.Status), Description: i.Description, Findings: i.Findings,
		RemediationSteps: i.Remediation, IncidentDate: i.IncidentDate, ResolvedAt: i.ResolvedAt, Detector: i.Detector, Subject: i.Subject, Repeats: i.Repeats, LastSeenAt: i.LastSeenAt,
		CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt, Touches: []client.IncidentLink{},
		ClientID: first(incident.OfClient), ServiceID: first(incident.OfService), InfrastructureID: first(incident.OfInfrastructure), CredentialIDs: all(incident.OfCredential),
		UserIDs: all(incident.OfPerson), ServiceAccountIDs: all(incident.OfServiceAccount), TrainIDs: all(incident.OfTrain), KeyIDs: all(incident.OfKey),
	}
	for _, l := range i.Links {
		out.Touches = append(out.Touches, client.IncidentLink{Kind: string(l.Kind), ID: l.ID, Name: l.Name})
	}
	return out
}

func shownEntry(e incident.Entry) client.IncidentEntry {
	out := client.IncidentEntry{ID: e.ID, At: e.At, Kind: string(e.Kind), Actor: client.Actor(e.Actor), Text: e.Text}
	out.Details = shownDetails(e.Details)
	return out
}

// shownDetails are the details of a record as they go out.
func shownDetails(ds store.Details) map[string]any {
	if len(ds) == 0 {
		return nil
	}
	var out map[string]any
	if b, err := ds.MarshalJSON(); err == nil { // it never fails
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber()
		_ = dec.Decode(&out)
	}
	return out
}

func incidentOut(i incident.Incident, err error) (*incidentAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &incidentAnswer{ETag: i.ETag(), Body: incidentBody{shownIncident(i)}}, nil
}

func (s *service) addIncidents() {
	const tag, all = "incidents", "/api/security-incidents"
	const one = all + "/{id}"
	reads := func(path, id, summary, description string) route {
		return route{method: http.MethodGet, path: path, id: id, summary: summary, description: description, tag: tag, access: string(identity.IncidentRead)}
	}
	const newest = "The newest first."
	add(s, reads(all, "list-incidents", "List incidents", newest), s.listIncidents)
	add(s, reads(all+"/by-client/{client_id}", "list-incidents-by-client", "List the incidents that touch a client", newest), s.listIncidentsByClient)
	add(s, reads(all+"/by-status/{status}", "list-incidents-by-status", "List the incidents in a status", newest), s.listIncidentsByStatus)
	add(s, route{method: http.MethodPost, path: all, id: "open-incident", summary: "Open an incident", tag: tag, access: string(identity.IncidentWrite), status: http.StatusCreated, maxBody: secretBody,
		description: "It is investigating at first. Only the title is required. People hear of it by the notification incident.opened."}, s.openIncident)
	add(s, reads(one, "get-incident", "Read an incident", ""), s.getIncident)
	for _, method := range []string{http.MethodPatch, http.MethodPut} {
		add(s, route{method: method, path: one, id: strings.ToLower(method) + "-incident", summary: "Change an incident, or move it to another status", tag: tag, access: string(identity.IncidentWrite), maxBody: secretBody,
			description: "A merge patch (RFC 7396). PUT and PATCH do the same. From investigating an incident becomes contained or monitoring; from either of these the other, resolved, or investigating again; what is resolved stays so."}, s.updateIncident)
	}
	add(s, route{method: http.MethodDelete, path: one, id: "delete-incident", summary: "Delete an incident with its timeline", tag: tag, access: string(identity.IncidentDelete),
		description: "What the audit says of it stays. Administrators alone; an incident that is over is better resolved than deleted."}, s.deleteIncident)
	add(s, reads(one+"/timeline", "list-incident-timeline", "Read the timeline of an incident", "The oldest entry first."), s.listIncidentTimeline)
	add(s, route{method: http.MethodPost, path: one + "/timeline", id: "add-incident-note", summary: "Write into the timeline of an incident", tag: tag, access: string(identity.IncidentWrite), status: http.StatusCreated}, s.addIncidentNote)
	const contains = "In one transaction: revokes the client keys of trains and those that are named, ends the sessions and revokes the tokens of people and service accounts, marks credentials as compromised, cuts what is open, "
	const limits = "Grants of OAuth credentials are ended at their providers afterwards, where these offer it, or with credentials=rotate their tokens are replaced there; the timeline tells what came of it. With dry_run it answers the plan and does nothing; with the plan_tag of that plan the act does exactly that, or answers 412. " +
		"Other parts of the scope than trains and keys also need what they need by themselves: credentials:write, users:write, service_accounts:write. The act needs a fresh proof in a session."
	add(s, route{method: http.MethodPost, path: one + "/contain", id: "contain-incident", summary: "Contain an incident", tag: tag, access: string(identity.IncidentWrite) + " " + string(identity.KeyWrite), again: containedAgain,
		description: contains + "and moves the incident to contained. " + limits}, s.containIncident)
	add(s, route{method: http.MethodPost, path: all + "/contain", id: "contain-now", summary: "Contain something, and open an incident for it", tag: tag, access: string(identity.IncidentWrite) + " " + string(identity.KeyWrite), maxBody: secretBody, again: containedAgain,
		description: contains + "and opens an incident that is contained and touches what was. " + limits}, s.containNow)
}

// containedAgain asks whether the caller may still contain: to revoke what is not theirs takes keys:write of every train.
func containedAgain(_ context.Context, caller identity.Caller, _ string, _ []byte) error {
	return identity.Allow(caller, identity.KeyWrite)
}

type containScope struct {
	CredentialIDs     texts  `json:"credential_ids,omitempty" nullable:"false" maxItems:"100"`
	TrainIDs          texts  `json:"train_ids,omitempty" nullable:"false" maxItems:"100" doc:"By slug or id: all of their client keys are revoked."`
	UserIDs           texts  `json:"user_ids,omitempty" nullable:"false" maxItems:"100" doc:"Their sessions end and their tokens are revoked."`
	ServiceAccountIDs texts  `json:"service_account_ids,omitempty" nullable:"false" maxItems:"100" doc:"Their tokens are revoked."`
	KeyIDs            texts  `json:"key_ids,omitempty" nullable:"false" maxItems:"100"`
	Credentials       string `json:"credentials,omitempty" enum:"disable,rotate" doc:"What becomes of the credentials; disable when it is left out. Disable marks them as compromised, so that they are lent to nobody, and ends their grants. Rotate has the tokens of OAuth credentials replaced at their providers after the act, while they go on being lent; what Signalbox cannot renew by itself is marked as compromised as well, and is due to be rotated at once."`
	Deactivate        bool   `json:"deactivate,omitempty" doc:"Also deactivates the people, so that they cannot sign in anew."`
}

type containDraft struct {
	Scope  containScope `json:"scope"`
	DryRun bool         `json:"dry_run,omitempty" doc:"Answers what would be done, and does nothing."`
	Plan   string       `json:"plan_tag,omitempty" maxLength:"100" doc:"The tag of the plan that was seen. Needed where the caller's own session or token ends."`
	Note   string       `json:"note,omitempty" maxLength:"4000" doc:"Stands in the timeline."`
}

func (c containScope) scope() incident.Scope {
	return incident.Scope{Credentials: c.CredentialIDs, Trains: c.TrainIDs, People: c.UserIDs, ServiceAccounts: c.ServiceAccountIDs, ClientKeys: c.KeyIDs, Deactivate: c.Deactivate, Treat: incident.Treatment(c.Credentials)}
}

func (s *service) containIncident(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	Body containDraft
}) (*containAnswer, error) {
	b := in.Body
	if b.DryRun {
		plan, err := s.Incidents.Plan(ctx, caller, in.ID, b.Scope.scope())
		return shownContainment(nil, plan, err)
	}
	i, plan, err := s.Incidents.Contain(ctx, caller, in.ID, b.Scope.scope(), b.Plan, b.Note)
	return shownContainment(&i, plan, err)
}

// openedDraft is what may be said of an incident that a containment opens.
type openedDraft struct {
	Title        string           `json:"title,omitempty" minLength:"1" maxLength:"200" doc:"Stands in the audit and in notifications. It names what is contained when it is left out."`
	IncidentType incidentType     `json:"incident_type,omitempty" doc:"Credential_leak when it is left out."`
	Severity     incidentSeverity `json:"severity,omitempty" doc:"High when it is left out."`
	Description  string           `json:"description,omitempty" maxLength:"20000" doc:"What happened. In no audit record and no notification."`
	IncidentDate *time.Time       `json:"incident_date,omitempty" doc:"When it happened; now when it is left out."`
}

type containNowDraft struct {
	Incident openedDraft  `json:"incident,omitempty" doc:"What is said of the incident; nothing of it is required."`
	Scope    containScope `json:"scope"`
	DryRun   bool         `json:"dry_run,omitempty" doc:"Answers what would be done, and does nothing."`
	Plan     string       `json:"plan_tag,omitempty" maxLength:"100" doc:"The tag of the plan that was seen. Needed where the caller's own session or token ends."`
	Note     string       `json:"note,omitempty" maxLength:"4000" doc:"Stands in the timeline."`
}

func (s *service) containNow(ctx context.Context, caller identity.Caller, in *struct{ Body containNowDraft }) (*containAnswer, error) {
	b, said := in.Body, in.Body.Incident
	d := incident.Draft{Meta: incident.Meta{Title: said.Title, Type: incident.Type(said.IncidentType), Severity: incident.Severity(said.Severity), Description: said.Description}}
	if said.IncidentDate != nil {
		d.IncidentDate = *said.IncidentDate
	}
	if b.DryRun {
		plan, err := s.Incidents.PlanNew(ctx, caller, d, b.Scope.scope())
		return shownContainment(nil, plan, err)
	}
	i, plan, err := s.Incidents.ContainNew(ctx, caller, d, b.Scope.scope(), b.Plan, b.Note)
	return shownContainment(&i, plan, err)
}

type containAnswer struct{ Body client.Containment }

// shownContainment is a plan, or with the incident what was done.
func shownContainment(i *incident.Incident, plan incident.Plan, err error) (*containAnswer, error) {
	if err != nil {
		return nil, err
	}
	out := client.Containment{DryRun: i == nil, Plan: []client.ContainStep{}, Warnings: []client.ContainWarning{}, PlanTag: plan.Tag}
	if i != nil {
		shown := shownIncident(*i)
		out.Incident = &shown
	}
	for _, step := range plan.Steps {
		out.Plan = append(out.Plan, client.ContainStep{Act: string(step.Act), Kind: step.Kind, ID: step.ID, Name: step.Name, Of: step.Of})
	}
	for _, w := range plan.Warnings {
		out.Warnings = append(out.Warnings, client.ContainWarning(w))
	}
	return &containAnswer{out}, nil
}

// IncidentQuery is what every list of incidents can be narrowed by.
type IncidentQuery struct {
	Page
	Type     incidentType     `query:"incident_type" doc:"Only of this type."`
	Severity incidentSeverity `query:"severity" doc:"Only of this severity."`
	Open     bool             `query:"open" doc:"Only those that are not resolved."`
	Q        string           `query:"q" maxLength:"200" doc:"Words that must occur in the title."`
}

func (p IncidentQuery) filter() incident.Filter {
	return incident.Filter{Type: incident.Type(p.Type), Severity: incident.Severity(p.Severity), Open: p.Open, Q: p.Q, Limit: p.Limit, Cursor: p.Cursor, Skip: p.Skip}
}

// IncidentTouches narrows a list by what an incident touches.
type IncidentTouches struct {
	Touches string `query:"touches" maxLength:"255" doc:"Only what touches this: a kind (client, service, infrastructure, credential, user, service_account, train, key), a colon and an id."`
}

func (p IncidentTouches) narrow(f incident.Filter) incident.Filter {
	if p.Touches != "" {
		kind, id, cut := strings.Cut(p.Touches, ":")
		f.Touches, f.TouchesID = incident.LinkKind(kind), id
		if !cut || id == "" { // refused as nothing that can be touched
			f.Touches, f.TouchesID = "", p.Touches
		}
	}
	return f
}

type incidentPage struct {
	Body client.IncidentPage
}

func (s *service) incidentPage(ctx context.Context, caller identity.Caller, f incident.Filter) (*incidentPage, error) {
	list, next, err := s.Incidents.List(ctx, caller, f)
	if err != nil {
		return nil, err
	}
	out := client.IncidentPage{Incidents: make([]client.Incident, len(list)), NextCursor: next}
	for n, i := range list {
		out.Incidents[n] = shownIncident(i)
	}
	return &incidentPage{out}, nil
}

func (s *service) listIncidents(ctx context.Context, caller identity.Caller, in *struct {
	IncidentQuery
	IncidentTouches
	Status incidentStatus `query:"status" doc:"Only in this status."`
}) (*incidentPage, error) {
	f := in.narrow(in.filter())
	f.Status = incident.Status(in.Status)
	return s.incidentPage(ctx, caller, f)
}

func (s *service) listIncidentsByClient(ctx context.Context, caller identity.Caller, in *struct {
	OfClient
	IncidentQuery
	Status incidentStatus `query:"status" doc:"Only in this status."`
}) (*incidentPage, error) {
	f := in.filter()
	f.Touches, f.TouchesID, f.Status = incident.OfClient, in.Client, incident.Status(in.Status)
	return s.incidentPage(ctx, caller, f)
}

func (s *service) listIncidentsByStatus(ctx context.Context, caller identity.Caller, in *struct {
	IncidentQuery
	IncidentTouches
	Status string `path:"status" doc:"investigating, contained, monitoring or resolved."`
}) (*incidentPage, error) {
	f := in.narrow(in.filter())
	f.Status = incident.Status(in.Status)
	return s.incidentPage(ctx, caller, f)
}

func (s *service) openIncident(ctx context.Context, caller identity.Caller, in *struct{ Body incidentDraft }) (*incidentAnswer, error) {
	b := in.Body
	d := incident.Draft{
		Meta: incident.Meta{Title: b.Title, Type: incident.Type(b.IncidentType), Severity: incident.Severity(b.Severity), Description: b.Description, Findings: b.Findings, Remediation: b.RemediationSteps},
		Touch: incident.Touch{ClientID: b.ClientID, ServiceID: b.ServiceID, InfrastructureID: b.InfrastructureID, Credentials: b.CredentialIDs, People: b.UserIDs,
			ServiceAccounts: b.ServiceAccountIDs, Trains: b.TrainIDs, ClientKeys: b.KeyIDs},
	}
	if b.IncidentDate != nil {
		d.IncidentDate = *b.IncidentDate
	}
	i, err := s.Incidents.Open(ctx, caller, d)
	out, err := incidentOut(i, err)
	if out != nil {
		out.Location = "/api/security-incidents/" + i.ID
	}
	return out, err
}

func (s *service) getIncident(ctx context.Context, caller identity.Caller, in *ByID) (*incidentAnswer, error) {
	return incidentOut(s.Incidents.Get(ctx, caller, in.ID))
}

func (s *service) updateIncident(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
	Body incidentPatch
}) (*incidentAnswer, error) {
	b := in.Body
	p := incident.Patch{
		Title: b.Title, Type: as[incident.Type](b.IncidentType), Severity: as[incident.Severity](b.Severity), Status: as[incident.Status](b.Status), Note: b.Note,
		Description: b.Description.pointer(), Findings: b.Findings.pointer(), Remediation: b.RemediationSteps.pointer(), IncidentDate: b.IncidentDate, ResolvedAt: b.ResolvedAt,
		ClientID: b.ClientID.pointer(), ServiceID: b.ServiceID.pointer(), InfrastructureID: b.InfrastructureID.pointer(), Credentials: list(b.CredentialIDs), People: list(b.UserIDs),
		ServiceAccounts: list(b.ServiceAccountIDs), Trains: list(b.TrainIDs), ClientKeys: list(b.KeyIDs),
	}
	return incidentOut(s.Incidents.Update(ctx, caller, in.ID, p, in.IfMatch.IfMatch))
}

// as returns a text that another package knows under a type of its own.
func as[U, T ~string](v *T) *U {
	if v == nil {
		return nil
	}
	out := U(*v)
	return &out
}

// list returns the list that a patch sets, nil when it sets none; null is the empty list.
func list(e edit[texts]) *[]string {
	if !e.set {
		return nil
	}
	out := []string(e.value)
	return &out
}

func (s *service) deleteIncident(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
}) (*struct{}, error) {
	return nil, s.Incidents.Delete(ctx, caller, in.ID, in.IfMatch.IfMatch)
}

func (s *service) listIncidentTimeline(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" doc:"How many at most; 100 when it is left out."`
	Cursor string `query:"cursor" maxLength:"1000" doc:"next_cursor of the page before."`
}) (*struct{ Body client.IncidentTimeline }, error) {
	entries, next, err := s.Incidents.Timeline(ctx, caller, in.ID, in.Limit, in.Cursor)
	if err != nil {
		return nil, err
	}
	out := client.IncidentTimeline{Timeline: make([]client.IncidentEntry, len(entries)), NextCursor: next}
	for n, e := range entries {
		out.Timeline[n] = shownEntry(e)
	}
	return &struct{ Body client.IncidentTimeline }{out}, nil
}

func (s *service) addIncidentNote(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	Body entryDraft
}) (*struct{ Body entryBody }, error) {
	e, err := s.Incidents.AddNote(ctx, caller, in.ID, in.Body.Text)
	if err != nil {
		return nil, err
	}
	return &struct{ Body entryBody }{entryBody{shownEntry(e)}}, nil
}
