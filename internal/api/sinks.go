package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/sink"
)

// sinkKind is one of sink's table.
type sinkKind string

// Schema lists the kinds of sinks.
func (sinkKind) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, row := range sink.Kinds() {
		s.Enum = append(s.Enum, string(row.Kind))
	}
	return s
}

// sinkCarries says what a sink gets.
type sinkCarries string

// Schema lists what there is.
func (sinkCarries) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{string(sink.Records), string(sink.Checkpoints)}}
}

// sinkFrom says where a sink of records begins.
type sinkFrom string

const fromBeginning = "beginning"

// Schema lists the beginnings.
func (sinkFrom) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{"now", fromBeginning}}
}

// sinkTransport says how a syslog server is spoken to.
type sinkTransport string

// Schema lists the ways.
func (sinkTransport) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{string(sink.TLS), string(sink.TCP), string(sink.UDP)}}
}

type syslogDraft struct {
	Transport   sinkTransport `json:"transport,omitempty" doc:"tls when it is left out (RFC 5425); tcp and udp only with a host that is allowed by name."`
	Host        string        `json:"host" minLength:"1" maxLength:"253"`
	Port        int           `json:"port,omitempty" minimum:"1" maximum:"65535" doc:"6514 for tls, 601 for tcp and 514 for udp when it is left out."`
	CA          string        `json:"ca,omitempty" maxLength:"65536" doc:"PEM certificates that the server's certificate must lead to; the system's when it is left out."`
	Certificate string        `json:"certificate,omitempty" maxLength:"65536" doc:"A PEM client certificate; needs the secret field client_key."`
	Unconfirmed bool          `json:"unconfirmed,omitempty" doc:"Count records as delivered once they were written: for a server that keeps a connection open whose other side was closed."`
}

func (d *syslogDraft) server() *sink.SyslogServer {
	if d == nil {
		return nil
	}
	y := &sink.SyslogServer{Transport: sink.Transport(d.Transport), Host: d.Host, Port: d.Port, CA: d.CA, Certificate: d.Certificate, Unconfirmed: d.Unconfirmed}
	if y.Transport == "" {
		y.Transport = sink.TLS
	}
	if y.Port == 0 {
		y.Port = map[sink.Transport]int{sink.TLS: 6514, sink.TCP: 601, sink.UDP: 514}[y.Transport]
	}
	return y
}

// sinkBodyMax has room for certificates.
const sinkBodyMax = 256 << 10

type sinkDraft struct {
	Kind     sinkKind     `json:"kind"`
	Name     string       `json:"name" minLength:"1" maxLength:"100"`
	Carries  sinkCarries  `json:"carries,omitempty" doc:"records when it is left out, for Slack checkpoints."`
	Disabled bool         `json:"disabled,omitempty"`
	From     sinkFrom     `json:"from,omitempty" doc:"Where records begin: now (what comes next), which it is when it is left out, or the beginning of the log."`
	Every    int          `json:"every_seconds,omitempty" minimum:"60" maximum:"604800" doc:"The least time between two checkpoints; an hour when it is left out."`
	Syslog   *syslogDraft `json:"syslog,omitempty" doc:"Of a sink of kind syslog."`
	Secrets  secretFields `json:"secrets,omitempty" doc:"webhook: url, signing_secret (whsec_…) and authorization, if there is one. slack: url. syslog: client_key, with a certificate."`
}

type sinkPatch struct {
	Name    *string      `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Enabled *bool        `json:"enabled,omitempty" doc:"False pauses: what comes waits in the log and is sent later."`
	Every   *int         `json:"every_seconds,omitempty" minimum:"60" maximum:"604800"`
	Secrets secretFields `json:"secrets,omitempty" doc:"Those that are given anew; an address must lead to the same host."`
}

type sinkBody struct {
	Sink client.Sink `json:"sink"`
}

type sinkAnswer struct {
	ETag     string `header:"ETag" doc:"Names this state, for If-Match."`
	Location string `header:"Location" hidden:"true"`
	Body     sinkBody
}

type sinkTestBody struct {
	Test client.SinkTest `json:"test"`
}

func (s *service) shownSink(at sink.State, k sink.Sink) client.Sink {
	out := client.Sink{
		ID: k.ID, Kind: string(k.Kind), Carries: string(k.Carries), Name: k.Name, Enabled: k.Enabled, Destination: k.Destination, Every: k.Every,
		SecretFields: append([]string{}, k.SecretFields...), CreatedAt: k.CreatedAt, UpdatedAt: k.UpdatedAt,
		State: at.Word(s.Clock()), Position: at.Position, Behind: at.Behind, BehindSince: unlessZero(at.Since), Failures: at.Failures, Detail: at.Detail, SentAt: unlessZero(at.SentAt),
	}
	if at.Behind > 0 {
		out.NextAt = unlessZero(at.NextAt)
	}
	if y := k.Syslog; y != nil {
		out.Syslog = &client.SyslogServer{Transport: string(y.Transport), Host: y.Host, Port: y.Port, CA: y.CA, Certificate: y.Certificate, Unconfirmed: y.Unconfirmed}
	}
	return out
}

func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// sinkOut leaves the cursor out of the ETag: it moves by itself.
func (s *service) sinkOut(at sink.State, k sink.Sink, err error) (*sinkAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &sinkAnswer{ETag: k.ETag(), Body: sinkBody{s.shownSink(at, k)}}, nil
}

func (s *service) addSinks() {
	const tag, all = "audit", "/api/audit/sinks"
	const one = all + "/{id}"
	reads := func(path, id, summary, description string) route {
		return route{method: http.MethodGet, path: path, id: id, summary: summary, description: description, tag: tag, access: string(identity.AuditRead), ownRefusal: s.refuseAudit}
	}
	writes := func(method, path, id, summary, description string) route {
		return route{method: method, path: path, id: id, summary: summary, description: description, tag: tag, access: string(identity.AuditSinks), ownRefusal: s.refuseAudit, maxBody: sinkBodyMax}
	}
	add(s, reads(all, "list-sinks", "List where the audit log is sent, and how far each sink is", "What they keep secret is not in it."), s.listSinks)
	create := writes(http.MethodPost, all, "create-sink", "Send the audit log to a webhook, Slack or a syslog server", "Records in the order of the log, at least once, or signed checkpoints. In a session it wants a fresh proof of who asks.")
	create.status = http.StatusCreated
	add(s, create, s.createSink)
	add(s, reads(one, "get-sink", "Read where a sink leads and how far it is", "What it keeps secret is not in it."), s.getSink)
	for _, method := range []string{http.MethodPatch, http.MethodPut} {
		add(s, writes(method, one, strings.ToLower(method)+"-sink", "Change, pause or resume a sink", "A merge patch (RFC 7396). PUT and PATCH do the same. In a session it wants a fresh proof of who asks."), s.updateSink)
	}
	add(s, writes(http.MethodDelete, one, "delete-sink", "Delete a sink", "With its secrets and its cursor. In a session it wants a fresh proof of who asks."), s.deleteSink)
	add(s, writes(http.MethodPost, one+"/test", "test-sink", "Send a test message to a sink now",
		"Waits for the receiver, for up to 20 seconds, and says what became of it. A message that was refused is a success of this operation. No record is sent, and no cursor moves."), s.testSink)
}

// freshSink asks for a fresh proof: who adds a sink has all that is recorded from then on.
func (s *service) freshSink(ctx context.Context, caller identity.Caller) error {
	if err := identity.RequireFresh(caller, s.Clock()); err != nil {
		return errors.Join(s.refuseAudit(ctx, caller, err), err)
	}
	return nil
}

func (s *service) listSinks(ctx context.Context, _ identity.Caller, _ *struct{}) (*struct{ Body client.SinkList }, error) {
	states, list, err := s.Sinks.List(ctx)
	if err != nil {
		return nil, err
	}
	out := client.SinkList{Sinks: make([]client.Sink, len(list))}
	for i, k := range list {
		out.Sinks[i] = s.shownSink(states[i], k)
	}
	return &struct{ Body client.SinkList }{out}, nil
}

func (s *service) createSink(ctx context.Context, caller identity.Caller, in *struct{ Body sinkDraft }) (*sinkAnswer, error) {
	if err := s.freshSink(ctx, caller); err != nil {
		return nil, err
	}
	b := in.Body
	at, k, err := s.Sinks.Create(ctx, caller, sink.Draft{
		Kind: sink.Kind(b.Kind), Carries: sink.Carries(b.Carries), Name: b.Name, Disabled: b.Disabled, Beginning: b.From == fromBeginning, Every: b.Every, Syslog: b.Syslog.server(), Secrets: b.Secrets.values(),
	})
	out, err := s.sinkOut(at, k, err)
	if err == nil {
		out.Location = "/api/audit/sinks/" + k.ID
	}
	return out, err
}

func (s *service) getSink(ctx context.Context, _ identity.Caller, in *ByID) (*sinkAnswer, error) {
	return s.sinkOut(s.Sinks.Get(ctx, in.ID))
}

func (s *service) updateSink(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
	Body sinkPatch
}) (*sinkAnswer, error) {
	if err := s.freshSink(ctx, caller); err != nil {
		return nil, err
	}
	b := in.Body
	return s.sinkOut(s.Sinks.Update(ctx, caller, in.ID, sink.Patch{Name: b.Name, Enabled: b.Enabled, Every: b.Every, Secrets: b.Secrets.values()}, in.IfMatch.IfMatch))
}

func (s *service) deleteSink(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
}) (*struct{}, error) {
	if err := s.freshSink(ctx, caller); err != nil {
		return nil, err
	}
	return nil, s.Sinks.Delete(ctx, caller, in.ID, in.IfMatch.IfMatch)
}

func (s *service) testSink(ctx context.Context, caller identity.Caller, in *ByID) (*struct{ Body sinkTestBody }, error) {
	tried, err := s.Sinks.Try(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	out := client.SinkTest{Outcome: "delivered", Detail: tried.Detail}
	if !tried.Delivered {
		out.Outcome = "refused"
	}
	return &struct{ Body sinkTestBody }{sinkTestBody{out}}, nil
}
