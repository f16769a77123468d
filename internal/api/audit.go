package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// auditAction is one of the closed list.
type auditAction string

// Schema lists the actions.
func (auditAction) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, row := range store.Actions() {
		s.Enum = append(s.Enum, string(row.Action))
	}
	return s
}

// AuditFilter is the part of a query that selects records.
type AuditFilter struct {
	From    time.Time   `query:"from" doc:"The earliest time."`
	To      time.Time   `query:"to" doc:"The time before which."`
	Action  auditAction `query:"action" doc:"Only this act."`
	Outcome string      `query:"outcome" maxLength:"64" doc:"Only acts that ended so, such as ok or refused."`
	Request string      `query:"request_id" maxLength:"64" doc:"Only what one request did: the X-Request-ID of its answer."`
}

// AuditQuery is the part of a query that every list of records has.
type AuditQuery struct {
	AuditFilter
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" doc:"How many at most; 100 when it is left out."`
	Cursor string `query:"cursor" maxLength:"1000" doc:"next_cursor of the page before."`
}

func (q AuditQuery) query() audit.Query {
	return audit.Query{
		From: q.From, To: q.To, Action: store.Action(q.Action), Outcome: q.Outcome, RequestID: q.Request, Limit: q.Limit, Cursor: q.Cursor,
	}
}

type eventPage struct {
	Body client.EventPage
}

func shownEvent(e store.Event) client.Event {
	out := client.Event{
		ID: e.ID, At: e.At, Actor: client.Actor(e.Actor), OnBehalfOf: e.OnBehalf, Action: string(e.Action), Target: client.Target(e.Target),
		Outcome: e.Outcome, Reason: e.Reason, RequestID: e.RequestID, IP: e.IP, UserAgent: e.UserAgent, Fields: e.Fields,
	}
	out.Details = shownDetails(e.Details)
	return out
}

func (s *service) addAudit() {
	const tag, logs = "audit", "/api/credential-audit-logs"
	get := func(path, id, summary, description string) route {
		return route{method: http.MethodGet, path: path, id: id, summary: summary, description: description, tag: tag, access: string(identity.AuditRead),
			ownRefusal: s.refuseAudit}
	}
	add(s, get(logs, "list-audit-logs", "Search the audit records, the newest first", "The read is itself recorded."), s.listEvents)
	add(s, get(logs+"/facets", "list-audit-logs-facets", "Count audit records by act, outcome, actor and target",
		"Counts what the filter selects, the newest first and within bounded work: complete says whether all of it was counted. The read is itself recorded."), s.countEvents)
	add(s, get(logs+"/{id}", "get-audit-log", "Read one audit record", "The read is itself recorded."), s.getEvent)
	add(s, get(logs+"/by-credential/{id}", "list-audit-logs-by-credential", "List the records about a credential", "The read is itself recorded."), s.listEventsByCredential)
	add(s, get(logs+"/by-user/{id}", "list-audit-logs-by-user", "List the records of a person's acts, those of their tokens among them", "The read is itself recorded."), s.listEventsByUser)
	add(s, get("/api/audit/checkpoint", "get-checkpoint", "Read the newest signed checkpoint of the log", ""), s.checkpoint)
	add(s, get("/api/audit/{id}/proof", "prove-event", "Prove that a record is in the log", "Can be checked without the server. The read is itself recorded."), s.prove)
	add(s, get("/api/audit/tail", "tail-audit-log", "Read the log in its order",
		"Call again with next to go on. The read is itself recorded, unless it found nothing but the caller's own reads."), s.tail)
}

// addAuditExport registers the one operation whose answer is not held in memory.
func (s *service) addAuditExport() {
	add(s, route{method: http.MethodGet, path: "/api/audit/export", id: "export-audit", summary: "Export audit records, the newest first", tag: "audit",
		description: "Streamed, in one line a record (NDJSON) or as CSV. An export that breaks off ends with an aborted connection, never with a clean end. It is itself recorded.",
		access:      string(identity.AuditRead), ownRefusal: s.refuseAudit, streams: []string{typeNDJSON, typeCSV}}, s.exportAudit)
}

// refuseAudit records that somebody tried to read the log.
func (s *service) refuseAudit(ctx context.Context, caller identity.Caller, verdict error) error {
	return s.Audit.RefuseRead(ctx, caller.Event(store.AuditRead, store.Target{Kind: "audit"}), verdict)
}

// readAudit records a read that succeeded, before its answer goes out.
func (s *service) readAudit(ctx context.Context, caller identity.Caller, act string, target store.Target, count int) error {
	return s.Audit.RecordRead(ctx, caller.Event(store.AuditRead, target), act, count)
}

func (s *service) search(ctx context.Context, caller identity.Caller, target store.Target, q audit.Query) (*eventPage, error) {
	p, err := s.Audit.Search(ctx, q)
	if err != nil {
		return nil, err
	}
	if err := s.readAudit(ctx, caller, "search", target, len(p.Events)); err != nil {
		return nil, err
	}
	out := client.EventPage{Events: make([]client.Event, len(p.Events)), NextCursor: p.Next}
	for i, e := range p.Events {
		out.Events[i] = shownEvent(e)
	}
	return &eventPage{out}, nil
}

func (s *service) listEvents(ctx context.Context, caller identity.Caller, in *struct {
	AuditQuery
	Actor  string `query:"actor" maxLength:"100" doc:"The id of who acted."`
	Target string `query:"target" maxLength:"100" doc:"The id of what was acted on."`
}) (*eventPage, error) {
	q := in.query()
	q.Actor, q.Target = in.Actor, in.Target
	return s.search(ctx, caller, store.Target{Kind: "audit"}, q)
}

func (s *service) listEventsByCredential(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	AuditQuery
	Actor string `query:"actor" maxLength:"100" doc:"The id of who acted."`
}) (*eventPage, error) {
	if !store.ValidID("cred", in.ID) {
		return nil, noRecords()
	}
	q := in.query()
	q.Actor, q.Target = in.Actor, in.ID
	return s.search(ctx, caller, store.Target{Kind: "credential", ID: in.ID}, q)
}

func (s *service) listEventsByUser(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	AuditQuery
	Target string `query:"target" maxLength:"100" doc:"The id of what was acted on."`
}) (*eventPage, error) {
	if !store.ValidID("user", in.ID) {
		return nil, noRecords()
	}
	q := in.query()
	q.Actor, q.Target = in.ID, in.Target
	return s.search(ctx, caller, store.Target{Kind: "user", ID: in.ID}, q)
}

type facetsBody struct {
	Facets client.Facets `json:"facets"`
}

func (s *service) countEvents(ctx context.Context, caller identity.Caller, in *struct {
	AuditFilter
	Actor  string `query:"actor" maxLength:"100" doc:"The id of who acted."`
	Target string `query:"target" maxLength:"100" doc:"The id of what was acted on."`
	Top    int    `query:"top" minimum:"1" maximum:"50" doc:"How many actors and targets to name; 10 when it is left out."`
}) (*struct{ Body facetsBody }, error) {
	q := AuditQuery{AuditFilter: in.AuditFilter}.query()
	q.Actor, q.Target = in.Actor, in.Target
	f, err := s.Audit.Facets(ctx, q, in.Top)
	if err != nil {
		return nil, err
	}
	if err := s.readAudit(ctx, caller, "count", store.Target{Kind: "audit"}, int(f.Counted)); err != nil {
		return nil, err
	}
	out := client.Facets{
		Counted: f.Counted, Complete: f.Complete, Actions: shownFacets(f.Actions), Outcomes: shownFacets(f.Outcomes), Actors: shownFacets(f.Actors), Targets: shownFacets(f.Targets),
		OtherActors: f.OtherActors, OtherTargets: f.OtherTargets,
	}
	if !f.Since.IsZero() {
		out.Since = &f.Since
	}
	return &struct{ Body facetsBody }{facetsBody{out}}, nil
}

func shownFacets(list []audit.Facet) []client.Facet {
	out := make([]client.Facet, len(list))
	for i, f := range list {
		out[i] = client.Facet(f)
	}
	return out
}

func noRecords() error {
	return fault.New(fault.NotFound, "not_found", "There are no audit records of this. Search without it to see what there is.")
}

type eventBody struct {
	Event client.Event `json:"audit_log"`
}

func (s *service) getEvent(ctx context.Context, caller identity.Caller, in *ByID) (*struct{ Body eventBody }, error) {
	e, err := s.Audit.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.readAudit(ctx, caller, "get", store.Target{Kind: "event", ID: e.Event.ID}, 1); err != nil {
		return nil, err
	}
	out := eventBody{shownEvent(e.Event)}
	if e.Leaf >= 0 {
		out.Event.Leaf = &e.Leaf
	}
	return &struct{ Body eventBody }{out}, nil
}

type checkpointBody struct {
	Checkpoint client.Checkpoint `json:"checkpoint"`
}

func (s *service) checkpoint(ctx context.Context, _ identity.Caller, _ *struct{}) (*struct{ Body checkpointBody }, error) {
	c, err := s.Audit.Latest(ctx)
	if err != nil {
		return nil, err
	}
	return &struct{ Body checkpointBody }{checkpointBody{client.Checkpoint{
		Origin: c.Origin, Size: c.Size, Root: c.Root.String(), At: c.At, After: c.After, Note: c.Note, Verifier: s.Audit.Verifier(),
	}}}, nil
}

type proofBody struct {
	Proof client.Proof `json:"proof"`
}

func (s *service) prove(ctx context.Context, caller identity.Caller, in *ByID) (*struct{ Body proofBody }, error) {
	p, err := s.Audit.Prove(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.readAudit(ctx, caller, "prove", store.Target{Kind: "event", ID: in.ID}, 1); err != nil {
		return nil, err
	}
	out := client.Proof{Record: p.Record, Leaf: p.Leaf, Size: p.Size, Hashes: make([]string, len(p.Hashes)), Note: p.Note, Verifier: p.Verifier}
	for i, h := range p.Hashes {
		out.Hashes[i] = h.String()
	}
	return &struct{ Body proofBody }{proofBody{out}}, nil
}

func (s *service) tail(ctx context.Context, caller identity.Caller, in *struct {
	After int64 `query:"after" default:"-1" minimum:"-1" doc:"The leaf after which to read; -1 is the beginning."`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" doc:"How many at most; 100 when it is left out."`
}) (*struct{ Body client.Tail }, error) {
	leaves, err := s.Audit.Tail(ctx, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	out := client.Tail{Leaves: make([]client.Leaf, len(leaves)), Next: in.After}
	for i, l := range leaves {
		out.Leaves[i] = client.Leaf{Leaf: l.Leaf, Event: shownEvent(l.Event)}
		out.Next = l.Leaf
	}
	// Who follows the log would otherwise find a record of each of their own calls at the next one, for ever.
	if slices.ContainsFunc(leaves, func(l audit.Entry) bool { return l.Event.Action != store.AuditRead || l.Event.Actor.ID != caller.ID }) {
		if err := s.readAudit(ctx, caller, "tail", store.Target{Kind: "audit"}, len(leaves)); err != nil {
			return nil, err
		}
	}
	return &struct{ Body client.Tail }{out}, nil
}
