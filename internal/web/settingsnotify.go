package web

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/web/ui"
)

const channels = "/settings/channels"

// routeChannels names the pages of notifications. The room asks for no permission, so each page does, as the API's routes do.
func (s *site) routeChannels(mux *http.ServeMux) {
	read := func(serve func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
		return s.signedIn(s.notifying(identity.NotifyRead, serve))
	}
	write := func(serve func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
		return s.submitted(s.notifying(identity.NotifyWrite, serve))
	}
	mux.HandleFunc("GET /settings/notifications", read(s.notifications))
	mux.HandleFunc("GET /settings/channels/~new", s.signedIn(s.notifying(identity.NotifyWrite, s.channelForm)))
	mux.HandleFunc("POST /settings/channels", write(s.channelMake))
	mux.HandleFunc("POST /settings/channels/{id}/test", write(s.channelTest))
	mux.HandleFunc("POST /settings/channels/{id}/switch", write(s.channelSwitch))
	mux.HandleFunc("GET /settings/channels/{id}/delete", s.signedIn(s.notifying(identity.NotifyWrite, s.channelDeleteForm)))
	mux.HandleFunc("POST /settings/channels/{id}/delete", write(s.channelDelete))
}

// notifying asks for a permission on notifications, and puts a refusal on record.
func (s *site) notifying(p identity.Permission, serve func(http.ResponseWriter, *http.Request, visitor)) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		if verdict := identity.Allow(v.Caller, p); verdict != nil {
			if err := s.Notify.Refused(r.Context(), v.Caller, fault.Of(verdict).Code); err != nil {
				verdict = err
			}
			s.refused(w, r, v, verdict)
			return
		}
		serve(w, r, v)
	}
}

func (s *site) notifications(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.notificationsPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	announce(&p.Frame, r, map[string]string{"made": "The channel was made. Test it.", "deleted": "The channel was deleted.", "switched": "The channel was switched.", "delivered": "The test message was delivered."})
	s.show(w, r, http.StatusOK, settingsView(p))
}

func (s *site) notificationsPage(r *http.Request, v visitor) (*settingsPage, error) {
	p := s.settingsOf(r, v, "Notifications", "Who is told when something needs somebody.", settingsNotify)
	list, _, err := s.Notify.ListChannels(r.Context(), notify.Page{Limit: 1000})
	if err != nil {
		return nil, err
	}
	query := r.URL.Query()
	sent, next, err := s.Notify.ListDeliveries(r.Context(), notify.Filter{Page: notify.Page{Limit: pageSize, Cursor: query.Get("deliveries")}, State: query.Get("state"), Sees: identity.NarrowTrains(v.Caller)})
	if err != nil {
		return nil, err
	}
	reader, write := s.reader(r), s.changes(v, identity.NotifyWrite)
	t := ui.Table{ID: "channels", Caption: "Where messages go", Live: "notify", Columns: []ui.Column{{Label: "Channel"}, {Label: "Kind"}, {Label: "State"}, {Label: "Leads to"}, {Label: "Takes"}},
		Empty: ui.Empty{Text: "Nobody is told of anything yet.", Command: "signalbox notify channel add ops --kind slack"}}
	one := part{ID: "channels-part", Title: "Channels"}
	if write {
		t.Columns = append(t.Columns, ui.Column{Label: "Acts", Unseen: true})
		t.Empty.Label, t.Empty.Href = "Add a channel", channels+"/~new"
		if len(list) > 0 {
			one.Acts = []templ.Component{ui.LinkButton("Add a channel", channels+"/~new", ui.Plain, false)}
		}
	}
	for _, c := range list {
		state, turn := ui.Badge(ui.Good, "on"), "Switch off"
		if !c.Enabled {
			state, turn = ui.Badge(ui.Idle, "off"), "Switch on"
		}
		row := ui.Row{ID: c.ID, Name: c.Name, Cells: []templ.Component{ui.Text(c.Name), ui.Text(string(c.Kind)), state, ui.Code(c.Destination), ui.Text(takesText(c))}}
		if write {
			here := under(channels, c.ID)
			row.Cells = append(row.Cells, severalActs(ui.OneButton(here+"/test", ui.Button{Label: "Test", Kind: ui.Plain, Small: true, Says: "Send a test message to " + c.Name}, v.hidden()...),
				ui.OneButton(here+"/switch", ui.Button{Label: turn, Kind: ui.Plain, Small: true, Says: turn + " " + c.Name}, v.hidden(ui.Hidden{Name: "enabled", Value: strconv.FormatBool(!c.Enabled)}, ui.Hidden{Name: "if_match", Value: c.ETag()})...),
				ui.DialogLink("Delete", here+"/delete", "Delete "+c.Name)))
		}
		t.Rows = append(t.Rows, row)
	}
	one.Table = t
	d := ui.Table{ID: "deliveries", Caption: "What became of messages, the newest first; kept for 30 days", Live: "notify",
		Columns: []ui.Column{{Label: "Message"}, {Label: "Channel"}, {Label: "State"}, {Label: "Severity"}, {Label: "Attempts", Number: true}, {Label: "Made"}, {Label: "Why not"}}, Empty: ui.Empty{Text: "No message was sent yet."}}
	for _, x := range sent {
		d.Rows = append(d.Rows, ui.Row{ID: x.ID, Cells: []templ.Component{ui.Text(x.Title), ui.Text(x.ChannelName), deliveryBadge(x.State), ui.Text(string(x.Severity)), ui.Text(reader.Number(x.Attempts)), ui.When(reader, x.CreatedAt), ui.Text(x.Detail)}})
	}
	if next != "" {
		d.Next = withQuery(settingsNotify, "deliveries", next) + "#sent"
	}
	p.Parts = []part{one, {ID: "sent", Title: "Deliveries", Table: d}}
	return p, nil
}

func takesText(c notify.Channel) string {
	if len(c.Kinds) == 0 {
		return string(c.Severity) + " and worse"
	}
	names := make([]string, len(c.Kinds))
	for i, k := range c.Kinds {
		names[i] = string(k)
	}
	return string(c.Severity) + " and worse of " + strings.Join(names, ", ")
}

func deliveryBadge(state string) templ.Component {
	switch state {
	case "delivered":
		return ui.Badge(ui.Good, state)
	case "failed":
		return ui.Badge(ui.Bad, state)
	}
	return ui.Badge(ui.Warn, state)
}

// channelFields are the form of a new channel of one kind; the kinds are links to their forms.
func (s *site) channelFields(r *http.Request, v visitor, kind notify.ChannelKind) *longForm {
	f := r.PostForm
	out := &longForm{Frame: s.frame(r, v, "Add a channel"), Back: settingsNotify, BackLabel: "Notifications", Action: channels, Submit: "Add the channel"}
	which := fieldGroup{Title: "Channel", Inputs: []ui.Field{{Name: "name", Label: "Name", Value: f.Get("name"), MaxLength: 100, Autocomplete: "off", Focus: true}}}
	kinds := ui.Choice{Name: "kind", Label: "Kind"}
	where := fieldGroup{Title: "Where it leads"}
	for _, row := range notify.ChannelKinds() {
		kinds.Options = append(kinds.Options, ui.Option{Value: string(row.Kind), Label: string(row.Kind) + ": " + row.Meaning, Chosen: row.Kind == kind})
	}
	// A page without scripts cannot hide what another kind has, so that all fields stand there, and say whose they are.
	where.Inputs = []ui.Field{
		{Name: "url", Label: "Address", Type: "password", MaxLength: 2048, Autocomplete: "off", Optional: true, Hint: "Of Slack's incoming webhook, or where to POST. Kept secret: whoever has it can post."},
		{Name: "signing_secret", Label: "Signing secret", Type: "password", MaxLength: 2048, Autocomplete: "off", Optional: true, Hint: "Of a webhook: whsec_ and 24 to 64 random bytes in base64."},
	}
	mail := fieldGroup{Title: "E-mail only", Inputs: []ui.Field{
		{Name: "host", Label: "Mail server", Value: f.Get("host"), MaxLength: 253, Autocomplete: "off", Optional: true},
		{Name: "port", Label: "Port", Type: "number", Value: f.Get("port"), Min: "1", Max: "65535", Optional: true, Hint: "587 for starttls, 465 for implicit when it is left out."},
		{Name: "username", Label: "User name", Value: f.Get("username"), MaxLength: 254, Autocomplete: "off", Optional: true},
		{Name: "password", Label: "Password", Type: "password", MaxLength: 1024, Autocomplete: "off", Optional: true},
		{Name: "from", Label: "From", Type: "email", Value: f.Get("from"), MaxLength: 254, Autocomplete: "off", Optional: true},
		{Name: "to", Label: "To", Value: f.Get("to"), MaxLength: 5000, Autocomplete: "off", Optional: true, Hint: "Up to 20 addresses, with spaces between them."},
	}, Choices: []ui.Choice{{Name: "tls", Label: "Encryption", Options: []ui.Option{{Value: string(notify.StartTLS), Label: "starttls"},
		{Value: string(notify.Implicit), Label: "implicit", Chosen: f.Get("tls") == string(notify.Implicit)}, {Value: string(notify.Plain), Label: "none, for a host that is allowed by name", Chosen: f.Get("tls") == string(notify.Plain)}}}}}
	least := ui.Choice{Name: "severity", Label: "The least urgent that it takes"}
	for _, one := range notify.Severities() {
		least.Options = append(least.Options, ui.Option{Value: string(one), Label: string(one), Chosen: string(one) == f.Get("severity")})
	}
	takes := ui.Choice{Name: "kinds", Label: "What it takes", Multiple: true, Hint: "None ticked is everything."}
	for _, row := range notify.Kinds() {
		if row.Kind == notify.Test {
			continue
		}
		on := false
		for _, one := range f["kinds"] {
			on = on || one == string(row.Kind)
		}
		takes.Options = append(takes.Options, ui.Option{Value: string(row.Kind), Label: string(row.Kind) + ": " + row.Meaning, Chosen: on})
	}
	which.Choices = []ui.Choice{kinds}
	out.Hidden = v.hidden()
	out.Groups = []fieldGroup{which, where, mail, {Title: "What it takes", Choices: []ui.Choice{least, takes}}}
	return out
}

func (s *site) channelForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.show(w, r, http.StatusOK, longFormView(s.channelFields(r, v, notify.Slack)))
}

func (s *site) channelMake(w http.ResponseWriter, r *http.Request, v visitor) {
	f := r.PostForm
	d := notify.Draft{Kind: notify.ChannelKind(f.Get("kind")), Name: f.Get("name"), Severity: notify.Severity(f.Get("severity")), Secrets: map[string]secret.Value{}}
	for _, one := range f["kinds"] {
		d.Kinds = append(d.Kinds, notify.Kind(one))
	}
	for _, row := range notify.ChannelKinds() {
		if row.Kind != d.Kind {
			continue
		}
		for _, field := range row.Secrets {
			if value := secretOf(r, field.Name); value != nil {
				d.Secrets[field.Name] = *value
			}
		}
	}
	var err error
	if d.Kind == notify.Mail {
		host, user, from, to, how := f.Get("host"), f.Get("username"), f.Get("from"), words(f.Get("to")), notify.TLS(f.Get("tls"))
		patch := notify.EmailPatch{Host: &host, Username: &user, From: &from, To: &to, TLS: &how}
		if text := f.Get("port"); text != "" {
			n, bad := strconv.Atoi(text)
			if bad != nil {
				err = fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With("/port", "must be a whole number")
			}
			patch.Port = &n
		}
		d.Email = notify.NewEmail(patch)
	}
	if err == nil {
		_, err = s.Notify.CreateChannel(r.Context(), v.Caller, d)
	}
	s.settled(w, r, v, err, settingsNotify+"?done=made", channels+"/~new", func(f *fault.Error) { s.againLong(w, r, flat(f), s.channelFields(r, v, d.Kind)) })
}

// flat is a fault whose pointers name the fields of a form: what is below /email or /secrets stands beside the rest there.
func flat(f *fault.Error) *fault.Error {
	out := *f
	out.Fields = append(out.Fields[:0:0], f.Fields...)
	for i := range out.Fields {
		for _, prefix := range []string{"/email/", "/secrets/"} {
			if rest, ok := strings.CutPrefix(out.Fields[i].Pointer, prefix); ok {
				name, _, _ := strings.Cut(rest, "/")
				out.Fields[i].Pointer = "/" + name
			}
		}
	}
	return &out
}

// channelTest sends a message and says what became of it.
func (s *site) channelTest(w http.ResponseWriter, r *http.Request, v visitor) {
	tried, err := s.Notify.TryChannel(r.Context(), v.Caller, r.PathValue("id"))
	if err == nil && !tried.Delivered {
		var p *settingsPage
		if p, err = s.notificationsPage(r, v); err == nil {
			p.Alert = "The test message was not delivered: " + sentence(tried.Detail)
			s.show(w, r, http.StatusOK, settingsView(p))
			return
		}
	}
	s.settled(w, r, v, err, settingsNotify+"?done=delivered", settingsNotify, nil)
}

func (s *site) channelSwitch(w http.ResponseWriter, r *http.Request, v visitor) {
	on := r.PostForm.Get("enabled") == "true"
	_, err := s.Notify.UpdateChannel(r.Context(), v.Caller, r.PathValue("id"), notify.Patch{Enabled: &on}, r.PostForm.Get("if_match"))
	s.settled(w, r, v, err, settingsNotify+"?done=switched", settingsNotify, nil)
}

func (s *site) channelDeleteForm(w http.ResponseWriter, r *http.Request, v visitor) {
	c, err := s.Notify.GetChannel(r.Context(), r.PathValue("id"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Delete "+c.Name), "Notifications", ui.Confirm{
		Lead: "Nobody is told anything over " + c.Name + " any more.", Touches: []string{"Its secrets are destroyed.", "What waits for it is not sent."},
		Action: under(channels, c.ID, "delete"), Submit: "Delete the channel", Back: settingsNotify, Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: c.ETag()}),
	}))
}

func (s *site) channelDelete(w http.ResponseWriter, r *http.Request, v visitor) {
	s.settled(w, r, v, s.Notify.DeleteChannel(r.Context(), v.Caller, r.PathValue("id"), r.PostForm.Get("if_match")), settingsNotify+"?done=deleted", settingsNotify, nil)
}
