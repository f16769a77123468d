package web

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/web/ui"
)

// pageSize is how many rows a list shows at once.
const pageSize = 50

// newTrain is where a train is made. No slug begins with a tilde.
const newTrain = "/trains/~new"

// routeTrains names the pages of trains.
func (s *site) routeTrains(mux *http.ServeMux) {
	mux.HandleFunc("GET /trains", s.signedIn(s.trains))
	mux.HandleFunc("GET /trains.csv", s.signedIn(s.trainsFile))
	mux.HandleFunc("GET /trains/~new", s.signedIn(s.trainForm))
	mux.HandleFunc("POST /trains", s.submitted(s.trainMake))
	mux.HandleFunc("GET /trains/{train}", s.signedIn(s.train))
	mux.HandleFunc("GET /trains/{train}/settings", s.signedIn(s.trainSettingsForm))
	mux.HandleFunc("POST /trains/{train}/settings", s.submitted(s.trainSettings))
	mux.HandleFunc("GET /trains/{train}/delete", s.signedIn(s.trainDeleteForm))
	mux.HandleFunc("POST /trains/{train}/delete", s.submitted(s.trainDelete))
	mux.HandleFunc("GET /trains/{train}/limits", s.signedIn(s.trainLimitsForm))
	mux.HandleFunc("POST /trains/{train}/limits", s.submitted(s.trainLimits))
	mux.HandleFunc("GET /trains/{train}/keys/{key}/limits", s.signedIn(s.keyLimitsForm))
	mux.HandleFunc("POST /trains/{train}/keys/{key}/limits", s.submitted(s.keyLimitsSet))
	mux.HandleFunc("GET /trains/{train}/link", s.signedIn(s.linkForm))
	mux.HandleFunc("POST /trains/{train}/link", s.submitted(s.link))
	mux.HandleFunc("POST /trains/{train}/accounts/{credential}", s.submitted(s.relink))
	mux.HandleFunc("GET /trains/{train}/accounts/{credential}/unlink", s.signedIn(s.unlinkForm))
	mux.HandleFunc("POST /trains/{train}/accounts/{credential}/unlink", s.submitted(s.unlink))
	mux.HandleFunc("GET /trains/{train}/keys/new", s.signedIn(s.fresh(s.keyForm)))
	mux.HandleFunc("POST /trains/{train}/keys", s.submitted(s.keyIssue))
	mux.HandleFunc("GET /trains/{train}/keys/{key}/revoke", s.signedIn(s.keyRevokeForm))
	mux.HandleFunc("POST /trains/{train}/keys/{key}/revoke", s.submitted(s.keyRevoke))
	s.routeTrainTold(mux)
	s.routeKept(mux)
	s.routeMembers(mux)
}

// trainsPage is the list of trains.
type trainsPage struct {
	ui.Frame
	Q     string
	Table ui.Table
	Kept  ui.Saved
	// Make says whether the visitor may make one.
	Make bool
}

// trainPath is the address of a train's page.
func trainPath(ref string, more ...string) string {
	path := "/trains/" + url.PathEscape(ref)
	for _, part := range more {
		path += "/" + url.PathEscape(part)
	}
	return path
}

// trains lists trains, narrowed by ?q=. A script that asks for the list alone gets only that.
func (s *site) trains(w http.ResponseWriter, r *http.Request, v visitor) {
	q, cursor := r.URL.Query().Get("q"), r.URL.Query().Get("cursor")
	list, next, err := s.Trains.ListTrains(r.Context(), v.Caller, train.Filter{Q: q, Limit: pageSize, Cursor: cursor})
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p := &trainsPage{Frame: s.frame(r, v, "Trains"), Q: q, Make: s.changes(v, identity.TrainWrite)}
	announce(&p.Frame, r, map[string]string{"deleted": "The train was deleted, with its links and its client keys.", "left": "The member was removed, and you do not reach that train any more."})
	p.Table = s.trainTable(r, list, p.Make)
	if !v.hears(identity.TrainRead) {
		p.Table.Live, p.Table.Empty = "", ui.Empty{Text: "You are a member of no train. An owner of one can make you a member, or an administrator of this Signalbox."}
	}
	query := url.Values{"q": {q}}
	if cursor != "" {
		p.Table.First = "/trains?" + query.Encode()
	}
	if next != "" {
		query.Set("cursor", next)
		p.Table.Next = "/trains?" + query.Encode()
	}
	if len(list) > 0 {
		p.Table.CSV = "/trains.csv?" + url.Values{"q": {q}}.Encode()
	} else if q != "" {
		p.Table.Empty = ui.Empty{Text: "No train has “" + q + "” in its slug or its name.", Label: "Show all", Href: "/trains"}
	}
	s.keeps(r, v, "trains", &p.Table)
	if partial(r) {
		s.show(w, r, http.StatusOK, ui.List(p.Table))
		return
	}
	if p.Kept, err = s.kept(r, v, &p.Frame, "trains"); err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, trainsView(p))
}

func (s *site) trainTable(r *http.Request, list []train.Train, mayMake bool) ui.Table {
	reader := s.reader(r)
	t := ui.Table{
		ID: "trains", Caption: "Trains: projects or workloads whose agents use credentials", Live: "train",
		Columns: []ui.Column{{Label: "Train"}, {Label: "Name"}, {Label: "State"}, {Label: "Linked accounts", Number: true}, {Label: "Choice"}, {Label: "Changed"}},
		Empty:   ui.Empty{Text: "There is no train yet. A train is a project whose agents share accounts.", Command: "signalbox train create web"},
	}
	if mayMake {
		t.Empty.Label, t.Empty.Href, t.Empty.Dialog = "Make a train", newTrain, true
	}
	for _, one := range list {
		t.Rows = append(t.Rows, ui.Row{ID: one.ID, Name: one.Slug, Cells: []templ.Component{
			ui.Link(one.Slug, trainPath(one.Slug)), ui.Text(one.Name), trainState(one), ui.Text(reader.Number(int64(one.Links))), ui.Text(strategyText(one.Strategy)),
			ui.When(reader, one.UpdatedAt),
		}})
	}
	return t
}

func trainBadge(t train.Train) templ.Component {
	if t.Disabled {
		return ui.Badge(ui.Idle, "disabled")
	}
	if t.Links == 0 {
		return ui.Badge(ui.Warn, "no account")
	}
	return ui.Badge(ui.Good, "enabled")
}

func strategyText(s train.Strategy) string {
	switch s {
	case train.Priority:
		return "by priority"
	case train.LeastLoaded:
		return "the least used"
	}
	return "by a hash"
}

// trainsFile is the list as a file, all of it.
func (s *site) trainsFile(w http.ResponseWriter, r *http.Request, v visitor) {
	filter := train.Filter{Q: r.URL.Query().Get("q"), Limit: sheetRows}
	s.sendSheet(w, r, v, sheet{
		name: "trains", head: []string{"train_id", "name", "description", "disabled", "links", "strategy", "created_at", "updated_at", "visibility"},
		page: func(ctx context.Context, v visitor, cursor string) (rows [][]string, next string, err error) {
			filter.Cursor = cursor
			list, next, err := s.Trains.ListTrains(ctx, v.Caller, filter)
			for _, t := range list {
				rows = append(rows, []string{t.Slug, t.Name, t.Description, strconv.FormatBool(t.Disabled), strconv.Itoa(t.Links), string(t.Strategy), fileTime(t.CreatedAt), fileTime(t.UpdatedAt), string(t.Visibility)})
			}
			return rows, next, err
		},
	})
}

// trainFields are the fields of a train; the slug only when it is new.
func trainFields(t train.Train, fresh bool) []ui.Field {
	var fields []ui.Field
	if fresh {
		fields = append(fields, ui.Field{Name: "train_id", Label: "Slug", Value: t.Slug, MaxLength: 64, Autocomplete: "off", Focus: true, Hint: "Letters, digits, dots, dashes and underscores. It never changes."})
	}
	limit := ""
	if t.KeyLimit > 0 {
		limit = strconv.Itoa(t.KeyLimit)
	}
	return append(fields,
		ui.Field{Name: "name", Label: "Name", Value: t.Name, MaxLength: 200, Autocomplete: "off", Optional: fresh, Hint: "For people. The slug when it is left out."},
		ui.Field{Name: "description", Label: "Description", Value: t.Description, MaxLength: 2000, Rows: 2, Optional: true},
		ui.Field{Name: "key_limit", Label: "Client keys at most", Type: "number", Min: "0", Max: "10000", Value: limit, Optional: true, Hint: "How many may be active at once. The server's limit when it is left out."},
	)
}

func trainChoices(t train.Train) []ui.Choice {
	return []ui.Choice{{Name: "strategy", Label: "How an account is chosen", Options: []ui.Option{
		{Value: string(train.Hash), Label: "By a hash: always the same one, another for each train", Chosen: t.Strategy != train.Priority && t.Strategy != train.LeastLoaded},
		{Value: string(train.Priority), Label: "By priority: the first that can", Chosen: t.Strategy == train.Priority},
		{Value: string(train.LeastLoaded), Label: "The least used, a conversation always on the same one", Chosen: t.Strategy == train.LeastLoaded},
	}}}
}

// trainPosted reads the fields of a train from a form.
func trainPosted(r *http.Request) (train.Train, error) {
	t := train.Train{
		Slug: r.PostForm.Get("train_id"), Name: r.PostForm.Get("name"), Description: r.PostForm.Get("description"), Strategy: train.Strategy(r.PostForm.Get("strategy")),
		Disabled: r.PostForm.Get("state") == "disabled", DefaultAccount: r.PostForm.Get("default_account"),
		Visibility: identity.Visibility(r.PostForm.Get("visibility")),
	}
	if text := r.PostForm.Get("key_limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return t, fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With("/key_limit", "must be a whole number")
		}
		t.KeyLimit = n
	}
	return t, nil
}

func (s *site) newTrainPage(r *http.Request, v visitor, t train.Train) *askedPage {
	return &askedPage{Frame: s.frame(r, v, "Make a train"), Back: "/trains", BackLabel: "Trains", Action: "/trains", Submit: "Make the train", Hidden: v.hidden(),
		Inputs: trainFields(t, true), Choices: append(trainChoices(t), visibilityChoice(t))}
}

// visibilityChoice says who is to reach a new train. Of one that is there it is an act of its own.
func visibilityChoice(t train.Train) ui.Choice {
	return ui.Choice{Name: "visibility", Label: "Reached by", Options: []ui.Option{
		{Value: string(identity.OfOrganisation), Label: "The organisation: everybody whose role reaches trains", Chosen: t.Visibility != identity.PrivateTrain},
		{Value: string(identity.PrivateTrain), Label: "Its members alone (private); you own it, and say who they are", Chosen: t.Visibility == identity.PrivateTrain},
	}}
}

func (s *site) trainForm(w http.ResponseWriter, r *http.Request, v visitor) {
	if err := identity.Allow(v.Caller, identity.TrainWrite); err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.newTrainPage(r, v, train.Train{})))
}

func (s *site) trainMake(w http.ResponseWriter, r *http.Request, v visitor) {
	t, err := trainPosted(r)
	if err == nil {
		_, err = s.Trains.CreateTrain(r.Context(), v.Caller, train.Draft{Slug: t.Slug, Name: t.Name, Description: t.Description, Strategy: t.Strategy, KeyLimit: t.KeyLimit, Visibility: t.Visibility})
	}
	s.settled(w, r, v, err, trainPath(t.Slug)+"?done=made", newTrain, func(f *fault.Error) {
		p := s.newTrainPage(r, v, t)
		s.again(w, r, f, p)
	})
}

// again shows a page with one form again with what was wrong, beside the fields.
func (s *site) again(w http.ResponseWriter, r *http.Request, f *fault.Error, p *askedPage) {
	for i := range p.Inputs {
		p.Inputs[i].Focus = false
	}
	p.Alert = unplaced(f, p.Inputs)
	s.refuse(w, r, f, askedView(p))
}
