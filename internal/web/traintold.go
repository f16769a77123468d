package web

import (
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/web/ui"
)

// routeTrainTold names the pages that say who is told of a train. Whoever may have prompts told is asked for a fresh proof before the form, since it can do that.
func (s *site) routeTrainTold(mux *http.ServeMux) {
	const one = " /trains/{train}/channels/{kind}"
	mux.HandleFunc("GET"+one, s.signedIn(func(w http.ResponseWriter, r *http.Request, v visitor) {
		if v.may(identity.NotifyWrite) {
			s.fresh(s.toldForm)(w, r, v)
			return
		}
		s.toldForm(w, r, v)
	}))
	mux.HandleFunc("POST"+one, s.submitted(s.toldChange))
	mux.HandleFunc("POST"+one+"/test", s.submitted(s.toldTest))
	mux.HandleFunc("GET"+one+"/delete", s.signedIn(s.toldDeleteForm))
	mux.HandleFunc("POST"+one+"/delete", s.submitted(s.toldDelete))
}

func toldPath(slug string, kind notify.ChannelKind, more ...string) string {
	return trainPath(slug, append([]string{"channels", string(kind)}, more...)...)
}

// toldName is what people call a train's channel of a kind.
func toldName(kind notify.ChannelKind) string {
	if kind == notify.Slack {
		return "Slack"
	}
	return "Webhook"
}

// toldTable lists a train's Slack channel and its webhook, those too that there are not.
func toldTable(v visitor, p *trainPage, list []notify.Channel) ui.Table {
	t := ui.Table{ID: "told-list", Caption: "Where the train's people are told", Live: "train",
		Columns: []ui.Column{{Label: "Kind"}, {Label: "State"}, {Label: "Leads to"}, {Label: "Prompts and replies"}, {Label: "Takes"}}}
	if p.Write {
		t.Columns = append(t.Columns, ui.Column{Label: "Acts", Unseen: true})
	}
	have := map[notify.ChannelKind]notify.Channel{}
	for _, c := range list {
		have[c.Kind] = c
	}
	for _, kind := range notify.TrainChannelKinds() {
		c, is := have[kind]
		name := toldName(kind)
		if !is {
			row := ui.Row{ID: string(kind), Name: name, Cells: []templ.Component{ui.Text(name), ui.Badge(ui.Idle, "none"), ui.Faint("Nobody is told."), ui.Text(""), ui.Text("")}}
			if p.Write {
				row.Cells = append(row.Cells, ui.DialogLink("Set up", toldPath(p.Train.Slug, kind), "Set up "+name))
			}
			t.Rows = append(t.Rows, row)
			continue
		}
		state := ui.Badge(ui.Good, "on")
		if !c.Enabled {
			state = ui.Badge(ui.Idle, "off")
		}
		said := ui.Badge(ui.Idle, "not told")
		if c.Content {
			said = ui.Badge(ui.Warn, "told")
		}
		row := ui.Row{ID: string(kind), Name: name, Cells: []templ.Component{ui.Text(strings.TrimSpace(name + " " + c.Look.Channel)), state, ui.Code(leadsTo(c)), said, ui.Text(takesText(c))}}
		if p.Write {
			row.Cells = append(row.Cells, severalActs(
				ui.OneButton(toldPath(p.Train.Slug, kind, "test"), ui.Button{Label: "Test", Kind: ui.Plain, Small: true, Says: "Send a test message to " + name}, v.hidden()...),
				ui.DialogLink("Change", toldPath(p.Train.Slug, kind), "Change "+name), ui.DialogLink("Delete", toldPath(p.Train.Slug, kind, "delete"), "Delete "+name)))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func leadsTo(c notify.Channel) string {
	if c.Suffix == "" {
		return c.Destination
	}
	return c.Destination + "/…" + c.Suffix
}

// toldPage is the form of one kind.
func (s *site) toldPage(r *http.Request, v visitor) (*askedPage, error) {
	t, err := s.trainOf(r, v, identity.TrainWrite)
	if err != nil {
		return nil, err
	}
	kind := notify.ChannelKind(r.PathValue("kind"))
	c, err := s.Trains.Channel(r.Context(), v.Caller, t.ID, kind)
	is := err == nil
	if f, ok := fault.As(err); err != nil && !(ok && f.Kind == fault.NotFound && (kind == notify.Slack || kind == notify.Webhook)) {
		return nil, err
	}
	if !is {
		c = notify.Channel{Kind: kind, Enabled: true, Look: notify.Look{}, Severity: notify.Info}
		if kind == notify.Slack {
			c.Look.Username = notify.DefaultUsername
		}
	}
	f := r.PostForm
	was := func(name, stored string) string {
		if r.Method == http.MethodPost {
			return f.Get(name)
		}
		return stored
	}
	switchOf := func(name, label, hint string, stored bool, off, on string) ui.Choice {
		at := was(name, map[bool]string{true: "on", false: "off"}[stored])
		return ui.Choice{Name: name, Label: label, Hint: hint, Options: []ui.Option{{Value: "off", Label: off, Chosen: at != "on"}, {Value: "on", Label: on, Chosen: at == "on"}}}
	}
	hint := "Kept secret: whoever has it can post."
	if is {
		hint = "It stays " + leadsTo(c) + " when this is left empty. " + hint
	}
	p := &askedPage{Frame: s.frame(r, v, toldName(kind)+" of "+t.Name), Back: trainPath(t.Slug), BackLabel: t.Name, Action: toldPath(t.Slug, kind), Submit: "Save",
		Lead: "What happens to the train and to the accounts that it links is told there."}
	p.Inputs = []ui.Field{{Name: "webhook_url", Label: "Address", Type: "password", MaxLength: 2048, Autocomplete: "off", Focus: true, Optional: is, Hint: hint}}
	if kind == notify.Slack {
		const passed = "Slack's newer webhooks pass over it."
		p.Inputs = append(p.Inputs, ui.Field{Name: "channel", Label: "Channel", Value: was("channel", c.Look.Channel), MaxLength: 81, Autocomplete: "off", Optional: true, Hint: "Such as #agents. " + passed},
			ui.Field{Name: "username", Label: "Posts as", Value: was("username", c.Look.Username), MaxLength: 80, Autocomplete: "off", Optional: true, Hint: passed},
			ui.Field{Name: "icon_emoji", Label: "Picture", Value: was("icon_emoji", c.Look.Icon), MaxLength: 120, Autocomplete: "off", Optional: true, Hint: "Such as :robot_face:. " + passed})
	} else {
		p.Inputs = append(p.Inputs, ui.Field{Name: "signing_secret", Label: "Signing secret", Type: "password", MaxLength: 2048, Autocomplete: "off", Optional: is, Hint: "whsec_ and 24 to 64 random bytes in base64."})
	}
	p.Choices = []ui.Choice{switchOf("enabled", "State", "", c.Enabled, "off", "on")}
	p.Hidden = v.hidden()
	if v.may(identity.NotifyWrite) {
		p.Hidden = v.proving()
		p.Choices = append(p.Choices, switchOf("content", "Prompts and replies", "Whoever reads there reads what the agents of this train are asked and what they answer. What looks like a secret is taken out.", c.Content, "not told", "told"))
	} else if c.Content {
		p.Choices = append(p.Choices, switchOf("content", "Prompts and replies", "They are told. You can switch that off; only administrators can switch it on.", c.Content, "not told", "told"))
	}
	if is {
		p.Hidden = append(p.Hidden, ui.Hidden{Name: "if_match", Value: c.ETag()})
	}
	return p, nil
}

func (s *site) toldForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.toldPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

func (s *site) toldChange(w http.ResponseWriter, r *http.Request, v visitor) {
	slug, kind, f := r.PathValue("train"), notify.ChannelKind(r.PathValue("kind")), r.PostForm
	patch := notify.TrainPatch{Secrets: map[string]*secret.Value{}}
	for name, to := range map[string]**bool{"enabled": &patch.Enabled, "content": &patch.Content} {
		if f.Has(name) {
			on := f.Get(name) == "on"
			*to = &on
		}
	}
	for name, to := range map[string]**string{"channel": &patch.Channel, "username": &patch.Username, "icon_emoji": &patch.Icon} {
		if f.Has(name) {
			text := f.Get(name)
			*to = &text
		}
	}
	for name, field := range map[string]string{"webhook_url": "url", "signing_secret": "signing_secret"} {
		if value := secretOf(r, name); value != nil {
			patch.Secrets[field] = value
		}
	}
	_, _, err := s.Trains.PutChannel(r.Context(), v.Caller, slug, kind, patch, f.Get("if_match"))
	s.settled(w, r, v, err, trainPath(slug)+"?done=told", toldPath(slug, kind), func(f *fault.Error) {
		p, err := s.toldPage(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.again(w, r, f, p)
	})
}

// toldTest sends a message and says what became of it.
func (s *site) toldTest(w http.ResponseWriter, r *http.Request, v visitor) {
	slug := r.PathValue("train")
	tried, err := s.Trains.TryChannel(r.Context(), v.Caller, slug, notify.ChannelKind(r.PathValue("kind")))
	if err == nil && !tried.Delivered {
		var p *trainPage
		if p, err = s.trainPage(r, v); err == nil {
			p.Alert = "The test message was not delivered: " + sentence(tried.Detail)
			s.show(w, r, http.StatusOK, trainView(p))
			return
		}
	}
	s.settled(w, r, v, err, trainPath(slug)+"?done=delivered", trainPath(slug), nil)
}

func (s *site) toldDeleteForm(w http.ResponseWriter, r *http.Request, v visitor) {
	t, err := s.trainOf(r, v, identity.TrainWrite)
	var c notify.Channel
	kind := notify.ChannelKind(r.PathValue("kind"))
	if err == nil {
		c, err = s.Trains.Channel(r.Context(), v.Caller, t.ID, kind)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Delete "+toldName(kind)+" of "+t.Name), t.Name, ui.Confirm{
		Lead: "The train's people are told nothing there any more.", Touches: []string{"Its address is destroyed.", "What waits for it is not sent."},
		Action: toldPath(t.Slug, kind, "delete"), Submit: "Delete it", Back: trainPath(t.Slug), Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: c.ETag()}),
	}))
}

func (s *site) toldDelete(w http.ResponseWriter, r *http.Request, v visitor) {
	here := trainPath(r.PathValue("train"))
	err := s.Trains.DropChannel(r.Context(), v.Caller, r.PathValue("train"), notify.ChannelKind(r.PathValue("kind")), r.PostForm.Get("if_match"))
	s.settled(w, r, v, err, here+"?done=untold", here, nil)
}
