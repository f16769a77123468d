package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/secret"
)

// channelKind is one of notify's table.
type channelKind string

// Schema lists the kinds of channels.
func (channelKind) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, row := range notify.ChannelKinds() {
		s.Enum = append(s.Enum, string(row.Kind))
	}
	return s
}

// messageKind is one of notify's table.
type messageKind string

// Schema lists the kinds of messages.
func (messageKind) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, row := range notify.Kinds() {
		s.Enum = append(s.Enum, string(row.Kind))
	}
	return s
}

// severity is one of notify's.
type severity string

// Schema lists the severities.
func (severity) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, one := range notify.Severities() {
		s.Enum = append(s.Enum, string(one))
	}
	return s
}

// deliveryState is one of notify's.
type deliveryState string

// Schema lists the states.
func (deliveryState) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, one := range notify.States() {
		s.Enum = append(s.Enum, one)
	}
	return s
}

// mailTLS says how a mail server is spoken to.
type mailTLS string

// Schema lists the ways.
func (mailTLS) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{string(notify.StartTLS), string(notify.Implicit), string(notify.Plain)}}
}

type channelEmailPatch struct {
	Host     *string  `json:"host,omitempty" minLength:"1" maxLength:"253" doc:"Needed for a new channel."`
	Port     *int     `json:"port,omitempty" minimum:"1" maximum:"65535" doc:"587 for starttls, 465 for implicit and 25 for none when it is left out of a new channel."`
	TLS      *mailTLS `json:"tls,omitempty" doc:"starttls when it is left out of a new channel; none only for a host that is allowed by name."`
	Username *string  `json:"username,omitempty" maxLength:"254" doc:"Needs the secret field password."`
	From     *string  `json:"from,omitempty" minLength:"3" maxLength:"254" doc:"Needed for a new channel."`
	To       *texts   `json:"to,omitempty" maxItems:"20" doc:"Needed for a new channel."`
}

func (e *channelEmailPatch) patch() notify.EmailPatch {
	if e == nil {
		return notify.EmailPatch{}
	}
	p := notify.EmailPatch{Host: e.Host, Port: e.Port, Username: e.Username, From: e.From}
	if e.TLS != nil {
		how := notify.TLS(*e.TLS)
		p.TLS = &how
	}
	if e.To != nil {
		to := []string(*e.To)
		p.To = &to
	}
	return p
}

type channelDraft struct {
	Kind     channelKind        `json:"kind"`
	Name     string             `json:"name" minLength:"1" maxLength:"100"`
	Disabled bool               `json:"disabled,omitempty"`
	Severity severity           `json:"severity,omitempty" doc:"The least urgent that it takes; info when it is left out."`
	Kinds    []messageKind      `json:"kinds,omitempty" nullable:"false" maxItems:"50" doc:"The kinds of messages that it takes; all when it is left out or empty."`
	Email    *channelEmailPatch `json:"email,omitempty" doc:"Of a channel of kind email."`
	Secrets  secretFields       `json:"secrets,omitempty" doc:"slack: url. webhook: url and signing_secret (whsec_…). email: password, with a user name."`
}

type channelPatch struct {
	Name     *string            `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Enabled  *bool              `json:"enabled,omitempty"`
	Severity *severity          `json:"severity,omitempty"`
	Kinds    *[]messageKind     `json:"kinds,omitempty" nullable:"false" maxItems:"50"`
	Email    *channelEmailPatch `json:"email,omitempty" doc:"With another server, port, encryption or user name the password must be given again."`
	Secrets  secretEdits        `json:"secrets,omitempty" doc:"Null removes a secret."`
}

type channelBody struct {
	Channel client.Channel `json:"channel"`
}

type channelAnswer struct {
	ETag     string `header:"ETag" doc:"Names this state, for If-Match."`
	Location string `header:"Location" hidden:"true"`
	Body     channelBody
}

type testBody struct {
	Test client.ChannelTest `json:"test"`
}

func shownChannel(c notify.Channel) client.Channel {
	out := client.Channel{
		ID: c.ID, Kind: string(c.Kind), Name: c.Name, Enabled: c.Enabled, Severity: string(c.Severity), Kinds: []string{}, Destination: c.Destination,
		SecretFields: append([]string{}, c.SecretFields...), CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt,
	}
	for _, k := range c.Kinds {
		out.Kinds = append(out.Kinds, string(k))
	}
	if e := c.Email; e != nil {
		out.Email = &client.ChannelEmail{Host: e.Host, Port: e.Port, TLS: string(e.TLS), Username: e.Username, From: e.From, To: append([]string{}, e.To...)}
	}
	return out
}

func channelOut(c notify.Channel, err error) (*channelAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &channelAnswer{ETag: c.ETag(), Body: channelBody{shownChannel(c)}}, nil
}

func (s *service) addNotifications() {
	const tag, all = "notifications", "/api/notifications/channels"
	const one = all + "/{id}"
	reads := func(path, id, summary, description string) route {
		return route{method: http.MethodGet, path: path, id: id, summary: summary, description: description, tag: tag, access: string(identity.NotifyRead), ownRefusal: s.refuseNotify}
	}
	writes := func(method, path, id, summary, description string) route {
		return route{method: method, path: path, id: id, summary: summary, description: description, tag: tag, access: string(identity.NotifyWrite),
			ownRefusal: s.refuseNotify, maxBody: secretBody}
	}
	add(s, reads(all, "list-channels", "List notification channels", "What they keep secret is not in it."), s.listChannels)
	create := writes(http.MethodPost, all, "create-channel", "Make a notification channel", "Slack, a signed webhook, or e-mail.")
	create.status = http.StatusCreated
	add(s, create, s.createChannel)
	add(s, reads(one, "get-channel", "Read a notification channel", "What it keeps secret is not in it."), s.getChannel)
	for _, method := range []string{http.MethodPatch, http.MethodPut} {
		add(s, writes(method, one, strings.ToLower(method)+"-channel", "Change a notification channel", "A merge patch (RFC 7396). PUT and PATCH do the same."), s.updateChannel)
	}
	add(s, writes(http.MethodDelete, one, "delete-channel", "Delete a notification channel", "With its secrets and what waits for it."), s.deleteChannel)
	add(s, writes(http.MethodPost, one+"/test", "test-channel", "Send a test message now",
		"Waits for the receiver, for up to 20 seconds, and says what became of it. A message that was refused is a success of this operation."), s.testChannel)
	add(s, reads("/api/notifications/deliveries", "list-deliveries", "List what became of notifications, the newest first", "Kept for 30 days."), s.listDeliveries)
}

// refuseNotify records that somebody tried. The room takes no caller that has permissions, so it cannot.
func (s *service) refuseNotify(ctx context.Context, caller identity.Caller, verdict error) error {
	return s.Notify.Refused(ctx, caller, fault.Of(verdict).Code)
}

func (s *service) listChannels(ctx context.Context, _ identity.Caller, in *struct{ Page }) (*struct{ Body client.ChannelPage }, error) {
	list, next, err := s.Notify.ListChannels(ctx, notify.Page{Limit: in.Limit, Cursor: in.Cursor, Skip: in.Skip})
	if err != nil {
		return nil, err
	}
	out := client.ChannelPage{Channels: make([]client.Channel, len(list)), NextCursor: next}
	for i, c := range list {
		out.Channels[i] = shownChannel(c)
	}
	return &struct{ Body client.ChannelPage }{out}, nil
}

func messageKinds(kinds []messageKind) []notify.Kind {
	out := make([]notify.Kind, len(kinds))
	for i, k := range kinds {
		out[i] = notify.Kind(k)
	}
	return out
}

func (s *service) createChannel(ctx context.Context, caller identity.Caller, in *struct{ Body channelDraft }) (*channelAnswer, error) {
	b := in.Body
	d := notify.Draft{Kind: notify.ChannelKind(b.Kind), Name: b.Name, Disabled: b.Disabled, Severity: notify.Severity(b.Severity), Kinds: messageKinds(b.Kinds),
		Secrets: map[string]secret.Value{}}
	if b.Secrets != nil {
		d.Secrets = b.Secrets.values()
	}
	if b.Email != nil {
		d.Email = notify.NewEmail(b.Email.patch())
	}
	out, err := channelOut(s.Notify.CreateChannel(ctx, caller, d))
	if err == nil {
		out.Location = "/api/notifications/channels/" + out.Body.Channel.ID
	}
	return out, err
}

func (s *service) getChannel(ctx context.Context, _ identity.Caller, in *ByID) (*channelAnswer, error) {
	return channelOut(s.Notify.GetChannel(ctx, in.ID))
}

func (s *service) updateChannel(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
	Body channelPatch
}) (*channelAnswer, error) {
	b := in.Body
	p := notify.Patch{Name: b.Name, Enabled: b.Enabled, Email: b.Email.patch(), Secrets: b.Secrets.values()}
	if b.Severity != nil {
		least := notify.Severity(*b.Severity)
		p.Severity = &least
	}
	if b.Kinds != nil {
		kinds := messageKinds(*b.Kinds)
		p.Kinds = &kinds
	}
	return channelOut(s.Notify.UpdateChannel(ctx, caller, in.ID, p, in.IfMatch.IfMatch))
}

func (s *service) deleteChannel(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
}) (*struct{}, error) {
	return nil, s.Notify.DeleteChannel(ctx, caller, in.ID, in.IfMatch.IfMatch)
}

func (s *service) testChannel(ctx context.Context, caller identity.Caller, in *ByID) (*struct{ Body testBody }, error) {
	tried, err := s.Notify.TryChannel(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	return &struct{ Body testBody }{testBody{shownTest(tried)}}, nil
}

func shownTest(tried notify.Tried) client.ChannelTest {
	out := client.ChannelTest{Delivery: tried.Delivery, Outcome: "delivered", Detail: tried.Detail}
	if !tried.Delivered {
		out.Outcome = "refused"
	}
	return out
}

func (s *service) listDeliveries(ctx context.Context, caller identity.Caller, in *struct {
	Page
	State   deliveryState `query:"state" doc:"Only those in this state."`
	Channel string        `query:"channel_id" maxLength:"64" doc:"Only those of this channel."`
}) (*struct{ Body client.DeliveryPage }, error) {
	list, next, err := s.Notify.ListDeliveries(ctx, notify.Filter{
		Page: notify.Page{Limit: in.Limit, Cursor: in.Cursor, Skip: in.Skip}, State: string(in.State), ChannelID: in.Channel,
		Sees: identity.NarrowTrains(caller),
	})
	if err != nil {
		return nil, err
	}
	out := client.DeliveryPage{Deliveries: make([]client.Delivery, len(list)), NextCursor: next}
	for i, d := range list {
		out.Deliveries[i] = client.Delivery{
			ID: d.ID, ChannelID: d.ChannelID, ChannelName: d.ChannelName, Kind: string(d.Kind), Severity: string(d.Severity), Title: d.Title, State: d.State,
			Attempts: d.Attempts, Repeats: d.Repeats, LastAt: d.LastAt, Detail: d.Detail, CreatedAt: d.CreatedAt, NextAt: d.NextAt, SettledAt: d.SettledAt,
		}
	}
	return &struct{ Body client.DeliveryPage }{out}, nil
}
