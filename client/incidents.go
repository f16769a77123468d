package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Incident is a security incident.
type Incident struct {
	ID               string     `json:"id"`
	Title            string     `json:"title"`
	IncidentType     string     `json:"incident_type" doc:"bec, backdoor, malware, unauthorized_access, data_breach, phishing, ransomware, brute_force, credential_leak or other."`
	Severity         string     `json:"severity" doc:"low, medium, high or critical."`
	Status           string     `json:"status" doc:"investigating, contained, monitoring or resolved."`
	Description      string     `json:"description,omitempty"`
	Findings         string     `json:"findings,omitempty"`
	RemediationSteps string     `json:"remediation_steps,omitempty"`
	IncidentDate     time.Time  `json:"incident_date" doc:"When it happened."`
	ResolvedAt       *time.Time `json:"resolved_at,omitempty"`
	// What it touches.
	ClientID          string   `json:"client_id,omitempty"`
	ServiceID         string   `json:"service_id,omitempty"`
	InfrastructureID  string   `json:"infrastructure_id,omitempty"`
	CredentialIDs     []string `json:"credential_ids" nullable:"false"`
	UserIDs           []string `json:"user_ids" nullable:"false"`
	ServiceAccountIDs []string `json:"service_account_ids" nullable:"false"`
	TrainIDs          []string `json:"train_ids" nullable:"false"`
	KeyIDs            []string `json:"key_ids" nullable:"false"`
	// Touches are the same things with the names that they had when they were linked.
	Touches    []IncidentLink `json:"touches" nullable:"false" doc:"The same things, with the names that they had when they were linked."`
	Detector   string         `json:"detector,omitempty" doc:"Which detector opened it; left out of what people opened."`
	Subject    string         `json:"subject,omitempty" doc:"What the detector opened it about."`
	Repeats    int64          `json:"repeats,omitempty" doc:"How often the detector reported it again while it was open."`
	LastSeenAt *time.Time     `json:"last_seen_at,omitempty" doc:"When the detector last reported it again."`
	CreatedAt  time.Time      `json:"created_at"`
	UpdatedAt  time.Time      `json:"updated_at"`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// IncidentLink is one thing that an incident touches.
type IncidentLink struct {
	Kind string `json:"kind" doc:"client, service, infrastructure, credential, user, service_account, train or key."`
	ID   string `json:"id"`
	Name string `json:"name"`
}

// IncidentDraft is an incident to be opened. Only the title is required.
type IncidentDraft struct {
	Title             string     `json:"title"`
	IncidentType      string     `json:"incident_type,omitempty"`
	Severity          string     `json:"severity,omitempty"`
	Description       string     `json:"description,omitempty"`
	Findings          string     `json:"findings,omitempty"`
	RemediationSteps  string     `json:"remediation_steps,omitempty"`
	IncidentDate      *time.Time `json:"incident_date,omitempty"`
	ClientID          string     `json:"client_id,omitempty"`
	ServiceID         string     `json:"service_id,omitempty"`
	InfrastructureID  string     `json:"infrastructure_id,omitempty"`
	CredentialIDs     []string   `json:"credential_ids,omitempty"`
	UserIDs           []string   `json:"user_ids,omitempty"`
	ServiceAccountIDs []string   `json:"service_account_ids,omitempty"`
	TrainIDs          []string   `json:"train_ids,omitempty"`
	KeyIDs            []string   `json:"key_ids,omitempty"`
}

// IncidentPatch changes an incident: nil leaves a field as it is, "" and an empty list empty it.
type IncidentPatch struct {
	Title             *string    `json:"title,omitempty"`
	IncidentType      *string    `json:"incident_type,omitempty"`
	Severity          *string    `json:"severity,omitempty"`
	Status            *string    `json:"status,omitempty"`
	Note              string     `json:"note,omitempty"`
	Description       *string    `json:"description,omitempty"`
	Findings          *string    `json:"findings,omitempty"`
	RemediationSteps  *string    `json:"remediation_steps,omitempty"`
	IncidentDate      *time.Time `json:"incident_date,omitempty"`
	ResolvedAt        *time.Time `json:"resolved_at,omitempty"`
	ClientID          *string    `json:"client_id,omitempty"`
	ServiceID         *string    `json:"service_id,omitempty"`
	InfrastructureID  *string    `json:"infrastructure_id,omitempty"`
	CredentialIDs     *[]string  `json:"credential_ids,omitempty"`
	UserIDs           *[]string  `json:"user_ids,omitempty"`
	ServiceAccountIDs *[]string  `json:"service_account_ids,omitempty"`
	TrainIDs          *[]string  `json:"train_ids,omitempty"`
	KeyIDs            *[]string  `json:"key_ids,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// IncidentPage is one page of a list. NextCursor is "" on the last.
type IncidentPage struct {
	Incidents  []Incident `json:"incidents" nullable:"false"`
	NextCursor string     `json:"next_cursor,omitempty"`
}

// IncidentEntry is one entry of the timeline of an incident.
type IncidentEntry struct {
	ID      string         `json:"id"`
	At      time.Time      `json:"at"`
	Kind    string         `json:"kind" doc:"opened, moved, changed, note, contained, revoked_upstream or refreshed."`
	Actor   Actor          `json:"actor"`
	Text    string         `json:"text,omitempty" doc:"What somebody wrote."`
	Details map[string]any `json:"details,omitempty" doc:"What an automatic entry tells: texts, numbers, yes or no, and lists of texts."`
}

// IncidentTimeline is one page of a timeline. NextCursor is "" on the last.
type IncidentTimeline struct {
	Timeline   []IncidentEntry `json:"timeline" nullable:"false"`
	NextCursor string          `json:"next_cursor,omitempty"`
}

// IncidentFilter selects incidents. Zero fields do not select.
type IncidentFilter struct {
	Status, IncidentType, Severity string
	Open                           bool   // not resolved
	Touches                        string // the kind of a thing and its id, such as "credential:cred_…"
	Q                              string // words that must occur in the title
	Limit                          int    // 0 means 100; at most 1000
	Cursor                         string
	Skip                           int
}

func (f IncidentFilter) query() url.Values {
	q := ListFilter{Q: f.Q, Limit: f.Limit, Cursor: f.Cursor, Skip: f.Skip}.query()
	setText(q, "status", f.Status)
	setText(q, "incident_type", f.IncidentType)
	setText(q, "severity", f.Severity)
	setText(q, "touches", f.Touches)
	if f.Open {
		q.Set("open", "true")
	}
	return q
}

// IncidentScope is what is to be contained.
type IncidentScope struct {
	CredentialIDs     []string `json:"credential_ids,omitempty"`
	TrainIDs          []string `json:"train_ids,omitempty"`
	UserIDs           []string `json:"user_ids,omitempty"`
	ServiceAccountIDs []string `json:"service_account_ids,omitempty"`
	KeyIDs            []string `json:"key_ids,omitempty"`
	Deactivate        bool     `json:"deactivate,omitempty"`
	// Credentials is disable, which "" means, or rotate.
	Credentials string `json:"credentials,omitempty"`
}

// ContainDraft says what to contain. With DryRun nothing is done. Plan is the tag of the plan that was seen: another one is then refused.
type ContainDraft struct {
	Scope  IncidentScope `json:"scope"`
	DryRun bool          `json:"dry_run,omitempty"`
	Plan   string        `json:"plan_tag,omitempty"`
	Note   string        `json:"note,omitempty"`
}

// ContainStep is one step of a plan.
type ContainStep struct {
	Act  string `json:"act" doc:"open, end_session, revoke_token, deactivate, mark_compromised, rotate_due, revoke_upstream, refresh, revoke_key, leave or advance."`
	Kind string `json:"kind" doc:"Of what it is done to."`
	ID   string `json:"id" doc:"Empty of an incident that the act opens: it has none before."`
	Name string `json:"name,omitempty"`
	Of   string `json:"of,omitempty" doc:"Whose it is: the person of a session, the train of a key, the provider of a grant. Of open and advance the new status, of leave the reason."`
}

// ContainWarning is something to know before.
type ContainWarning struct {
	Code   string `json:"code" doc:"yourself, wide_grant, old_token, may_be_kept or nothing_new."`
	Detail string `json:"detail"`
}

// Containment is what was done, or with a dry run would be.
type Containment struct {
	Plan     []ContainStep    `json:"plan" nullable:"false"`
	Warnings []ContainWarning `json:"warnings" nullable:"false"`
	PlanTag  string           `json:"plan_tag" doc:"Names this plan, for the act that insists on it."`
	DryRun   bool             `json:"dry_run"`
	Incident *Incident        `json:"incident,omitempty" doc:"As it is after the act; left out of a dry run."`
}

// ContainIncident contains what the scope names, in one act, or says what that would do.
func (c *Client) ContainIncident(ctx context.Context, id string, d ContainDraft) (Containment, error) {
	var out Containment
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("security-incidents", id, "contain"), body: d}, &out)
	return out, err
}

// ContainOpening is what may be said of an incident that a containment opens. Nothing of it is required.
type ContainOpening struct {
	Title        string     `json:"title,omitempty"`
	IncidentType string     `json:"incident_type,omitempty"`
	Severity     string     `json:"severity,omitempty"`
	Description  string     `json:"description,omitempty"`
	IncidentDate *time.Time `json:"incident_date,omitempty"`
}

// ContainNow contains what the scope names and opens an incident for it, in one act, or says what that would do.
func (c *Client) ContainNow(ctx context.Context, opening ContainOpening, d ContainDraft) (Containment, error) {
	var out Containment
	body := struct {
		ContainDraft
		Incident ContainOpening `json:"incident"`
	}{d, opening}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("security-incidents", "contain"), body: body}, &out)
	return out, err
}

func (c *Client) incident(ctx context.Context, k call) (Incident, error) {
	var out struct {
		Incident Incident `json:"incident"`
	}
	a, err := c.do(ctx, k, &out)
	out.Incident.ETag = a.etag
	return out.Incident, err
}

// OpenIncident opens an incident.
func (c *Client) OpenIncident(ctx context.Context, d IncidentDraft) (Incident, error) {
	return c.incident(ctx, call{method: http.MethodPost, path: path("security-incidents"), body: d})
}

// GetIncident returns one incident.
func (c *Client) GetIncident(ctx context.Context, id string) (Incident, error) {
	return c.incident(ctx, call{method: http.MethodGet, path: path("security-incidents", id)})
}

// UpdateIncident changes an incident, and moves it to another status.
func (c *Client) UpdateIncident(ctx context.Context, id string, p IncidentPatch) (Incident, error) {
	return c.incident(ctx, call{method: http.MethodPatch, path: path("security-incidents", id), body: p, ifMatch: p.IfMatch})
}

// DeleteIncident deletes an incident with its timeline.
func (c *Client) DeleteIncident(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("security-incidents", id)}, nil)
	return err
}

// ListIncidents returns one page of incidents, the newest first.
func (c *Client) ListIncidents(ctx context.Context, f IncidentFilter) (IncidentPage, error) {
	var out IncidentPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("security-incidents"), query: f.query()}, &out)
	return out, err
}

// IncidentsByClient returns one page of the incidents that touch a client, the newest first.
func (c *Client) IncidentsByClient(ctx context.Context, clientID string, f IncidentFilter) (IncidentPage, error) {
	var out IncidentPage
	f.Touches = "" // which the client is
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("security-incidents", "by-client", clientID), query: f.query()}, &out)
	return out, err
}

// IncidentsByStatus returns one page of the incidents in a status, the newest first.
func (c *Client) IncidentsByStatus(ctx context.Context, status string, f IncidentFilter) (IncidentPage, error) {
	var out IncidentPage
	f.Status = "" // it is in the path
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("security-incidents", "by-status", status), query: f.query()}, &out)
	return out, err
}

// IncidentTimeline returns one page of the timeline of an incident, the oldest entry first: at most limit entries (0 means 100), after the cursor.
func (c *Client) IncidentTimeline(ctx context.Context, id string, limit int, cursor string) (IncidentTimeline, error) {
	var out IncidentTimeline
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("security-incidents", id, "timeline"), query: ListFilter{Limit: limit, Cursor: cursor}.query()}, &out)
	return out, err
}

// AddIncidentNote writes into the timeline of an incident.
func (c *Client) AddIncidentNote(ctx context.Context, id, text string) (IncidentEntry, error) {
	var out struct {
		Entry IncidentEntry `json:"entry"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("security-incidents", id, "timeline"), body: map[string]string{"text": text}}, &out)
	return out.Entry, err
}
