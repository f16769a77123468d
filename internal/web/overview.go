package web

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// attentionRows is how many things that want somebody are shown.
const attentionRows = 12

// overviewPage is the front page: what wants somebody first, then what happens. Each part stands only before whoever may see it.
type overviewPage struct {
	ui.Frame
	Reader ui.Reader
	Steps  []step
	// Wants is what wants somebody, nil for who sees neither credentials nor trains.
	Wants *ui.Table
	More  string
	// Calm says that nothing does.
	Calm bool
	// Due is what ends in the next 90 days, by the days.
	Due  []ui.Point
	Ends string
	// Requests is whether the visitor sees numbers, Feed whether they see what happened.
	Requests *requestsPart
	Feed     *feedPart
}

// overview is the front page of whoever is signed in.
func (s *site) overview(w http.ResponseWriter, r *http.Request, v visitor) {
	p := &overviewPage{Frame: s.frame(r, v, "Overview"), Reader: s.reader(r)}
	err := s.overviewParts(r, v, p)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, overviewView(p))
}

func (s *site) overviewParts(r *http.Request, v visitor, p *overviewPage) (err error) {
	var a vault.Attention
	if v.may(identity.CredentialRead) {
		if a, err = s.Vault.Attention(r.Context(), v.Caller, attentionRows); err != nil {
			return err
		}
	}
	var cooled []train.Cooled
	if v.mayAll(identity.TrainRead) {
		if cooled, err = s.Trains.Cooled(v.Caller); err != nil {
			return err
		}
		if p.Steps, err = s.steps(r, v, a.All > 0); err != nil {
			return err
		}
	}
	if v.may(identity.CredentialRead) {
		p.Wants = wantTable(p.Reader, a, cooled)
		if n := a.Count() - len(a.Urgent) + max(0, len(cooled)-attentionRows); n > 0 {
			p.More = "and " + p.Reader.Number(int64(n)) + " more that want something."
		}
		p.Calm = len(p.Wants.Rows) == 0
		p.Due, p.Ends = duePoints(p.Reader, a)
	}
	if v.may(identity.MetricsRead) {
		if p.Requests, err = s.requestsPart(r); err != nil {
			return err
		}
	}
	if identity.Allow(v.Caller, identity.AuditRead) == nil {
		if p.Feed, err = s.feedPart(r, v); err != nil {
			return err
		}
	}
	return nil
}

// wantTable lists what wants somebody, each with the one thing to do next.
func wantTable(reader ui.Reader, a vault.Attention, cooled []train.Cooled) *ui.Table {
	t := &ui.Table{ID: "wants", Caption: "What wants somebody, the most pressing first", Columns: []ui.Column{{Label: "What"}, {Label: "State"}, {Label: "Next step"}}}
	for _, c := range a.Urgent {
		state, next := credentialWant(reader, c)
		t.Rows = append(t.Rows, ui.Row{ID: c.ID, Name: c.Name, Cells: []templ.Component{ui.Link(c.Name, credentialPath(c.ID)), state, next}})
	}
	for _, c := range cooled[:min(len(cooled), attentionRows)] {
		t.Rows = append(t.Rows, ui.Row{ID: c.CredentialID, Name: c.Name, Cells: []templ.Component{ui.Link(c.Name, credentialPath(c.CredentialID)),
			ui.Badge(ui.Warn, "cooling, free "+reader.Ago(c.Until)), ui.Text("Wait, or link another account: " + c.Why + ".")}})
	}
	return t
}

// credentialWant is what is the matter with a credential and the one thing to do about it. A refresh fails and mends itself; a login does not.
func credentialWant(reader ui.Reader, c vault.Credential) (state, next templ.Component) {
	login := ui.Link("Log in again", connectAgain(c.ID, "/"))
	renew := ui.Link("Store a new secret", credentialPath(c.ID))
	ends := func(word string) string {
		if c.ExpiresAt == nil {
			return word
		}
		return word + " " + reader.Ago(*c.ExpiresAt)
	}
	if c.Type == vault.OAuth {
		renew = login
	}
	switch {
	case c.Status == vault.Compromised:
		return ui.Badge(ui.Bad, "compromised"), renew
	case c.Status == vault.Expired:
		return ui.Badge(ui.Bad, ends("expired")), renew
	case c.Health == vault.NeedsLogin:
		return ui.Badge(ui.Bad, "needs login"), login
	case c.Health == vault.RefreshUncertain:
		return ui.Badge(ui.Warn, "refresh uncertain"), ui.Link("See what its last refresh came to", credentialPath(c.ID))
	case c.Health == vault.RefreshFailing:
		return ui.Badge(ui.Warn, "refresh failing"), ui.Link("See what its last refresh came to", credentialPath(c.ID))
	}
	return ui.Badge(ui.Warn, ends("expires")), renew
}

// duePoints are the days of the next quarter with what ends on each.
func duePoints(reader ui.Reader, a vault.Attention) (points []ui.Point, summary string) {
	all := 0
	for n, count := range a.Due {
		tone := ui.Good
		switch {
		case n < 7:
			tone = ui.Bad
		case n < 30:
			tone = ui.Warn
		}
		points = append(points, ui.Point{Label: a.From.AddDate(0, 0, n).Format(time.DateOnly), Value: int64(count), Tone: tone})
		all += count
	}
	if all == 0 {
		return points, "No credential ends in the next " + strconv.Itoa(len(a.Due)) + " days."
	}
	return points, reader.Count(all, "credential") + " will have ended in " + strconv.Itoa(len(a.Due)) + " days. The red days are the next seven, the amber ones this month."
}

// step is one of those from an empty vault to an agent that works.
type step struct {
	Title, Text, Label, Href string
	Done, Dialog             bool
}

// steps returns what is left to do until an agent can work, nil when all of it was done or the visitor may not do it. Whoever cannot may not be told to.
func (s *site) steps(r *http.Request, v visitor, stored bool) ([]step, error) {
	if !s.changes(v, identity.CredentialWrite) || !s.changes(v, identity.TrainWrite) || !s.changes(v, identity.KeyWrite) || !v.may(identity.CredentialRead) {
		return nil, nil
	}
	list, _, err := s.Trains.ListTrains(r.Context(), v.Caller, train.Filter{Limit: pageSize})
	if err != nil {
		return nil, err
	}
	linked := slices.IndexFunc(list, func(t train.Train) bool { return t.Links > 0 })
	out := []step{
		{Title: "Store an account", Text: "What agents will be lent, such as an API key of a provider. It is sealed at once.", Label: "Store an account", Href: newAccount, Done: stored, Dialog: true},
		{Title: "Link it to a train", Text: "A train is a project or a workload. Its agents share the accounts that it has.", Label: "Link it", Done: linked >= 0, Dialog: true},
		{Title: "Issue a client key", Text: "What an agent sends in place of the provider's key.", Label: "Issue a client key", Dialog: true},
	}
	switch {
	case linked >= 0:
		keys, _, err := s.Trains.ListKeys(r.Context(), v.Caller, list[linked].ID, identity.KeyFilter{Limit: 1, Status: identity.StatusActive})
		if err != nil {
			return nil, err
		}
		out[1].Href = trainPath(list[linked].Slug)
		out[2].Href, out[2].Done = trainPath(list[linked].Slug, "keys", "new"), len(keys) > 0
	case len(list) > 0:
		out[1].Href = trainPath(list[0].Slug, "link")
	default:
		out[1].Href, out[1].Label = newTrain, "Make a train"
	}
	if stored && out[1].Done && out[2].Done {
		return nil, nil
	}
	return out, nil
}

// next is the first step that is not done.
func next(steps []step) int { return slices.IndexFunc(steps, func(s step) bool { return !s.Done }) }
