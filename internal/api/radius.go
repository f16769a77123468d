package api

import (
	"context"
	"net/http"
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
)

func (s *service) addRadius() {
	const what = "Who used what: for each other that the subject had to do with, how often it was used, revealed, read, changed or refused, when first and last, and the outcomes. " +
		"One answer does a bounded amount of work, the newest records first: complete says whether all were counted, and next_cursor goes on. The read is itself recorded."
	add(s, route{method: http.MethodGet, path: "/api/audit/blast-radius/{id}", id: "get-blast-radius", summary: "Tell what a subject did, and what was done to it, since a time", tag: "audit", access: string(identity.AuditRead),
		description: what + " The id is that of a person, service account, credential, train, client key or token; a train may be named by its slug. What is gone by now is told all the same.", ownRefusal: s.refuseAudit}, s.getRadius)
	add(s, route{method: http.MethodGet, path: "/api/security-incidents/{id}/blast-radius", id: "get-incident-blast-radius", summary: "Tell the blast radius of what an incident touches", tag: "incidents",
		access: string(identity.IncidentRead) + " " + string(identity.AuditRead), description: what + " Links to clients, services and infrastructure are left out: they neither act nor are used."}, s.getIncidentRadius)
}

// RadiusTime is of what time a blast radius is told.
type RadiusTime struct {
	To     time.Time `query:"to" doc:"The time before which; now when it is left out."`
	Cursor string    `query:"cursor" maxLength:"1000" doc:"next_cursor of the part before."`
}

type radiusBody struct {
	Radius client.BlastRadius `json:"blast_radius"`
}

func (s *service) getRadius(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	RadiusTime
	From time.Time `query:"from" doc:"The earliest time; seven days ago when it is left out."`
}) (*struct{ Body radiusBody }, error) {
	got, err := s.Incidents.Radius(ctx, caller, in.ID, incident.RadiusAsk{From: in.From, To: in.To, Cursor: in.Cursor})
	if err != nil {
		return nil, err
	}
	return &struct{ Body radiusBody }{radiusBody{shownRadius(got)}}, nil
}

func (s *service) getIncidentRadius(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	RadiusTime
	From time.Time `query:"from" doc:"The earliest time; that of the incident when it is left out."`
}) (*struct{ Body client.IncidentRadius }, error) {
	list, next, err := s.Incidents.BlastRadius(ctx, caller, in.ID, incident.RadiusAsk{From: in.From, To: in.To, Cursor: in.Cursor})
	if err != nil {
		return nil, err
	}
	out := client.IncidentRadius{Radii: make([]client.BlastRadius, len(list)), NextCursor: next}
	for n, one := range list {
		out.Radii[n] = shownRadius(one)
	}
	return &struct{ Body client.IncidentRadius }{out}, nil
}

func shownRadius(r incident.Radius) client.BlastRadius {
	out := client.BlastRadius{Subject: client.IncidentLink{Kind: string(r.Subject.Kind), ID: r.Subject.ID, Name: r.Subject.Name}, From: r.From, To: r.To, Counted: r.Counted, Complete: r.Complete,
		NextCursor: r.Next, Contacts: make([]client.RadiusContact, len(r.Contacts))}
	if !r.Since.IsZero() {
		out.Since = &r.Since
	}
	for n, c := range r.Contacts {
		acts := make([]client.RadiusAct, len(c.Acts))
		for i, act := range c.Acts {
			acts[i] = client.RadiusAct(act)
		}
		out.Contacts[n] = client.RadiusContact{Relation: string(c.Relation), Kind: c.Kind, ID: c.ID, Name: c.Name, Count: c.Count, Used: c.Used, Revealed: c.Revealed, Read: c.Read, Changed: c.Changed,
			Refused: c.Refused, Other: c.Other, First: c.First, Last: c.Last, Acts: acts}
	}
	return out
}
