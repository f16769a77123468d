package web

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web/ui"
)

// routeLent names the pages of requests and of what they used.
func (s *site) routeLent(mux *http.ServeMux) {
	mux.HandleFunc("GET /requests", s.signedIn(s.lentList))
	mux.HandleFunc("GET /requests.csv", s.signedIn(s.lentFile))
	mux.HandleFunc("GET /requests/{request}", s.signedIn(s.lentOne))
	mux.HandleFunc("GET /usage", s.signedIn(s.usage))
	mux.HandleFunc("GET /usage.csv", s.signedIn(s.usageFile))
}

// lentPage is a list of requests for which accounts were lent.
type lentPage struct {
	ui.Frame
	Alert    string
	Choices  []ui.Choice
	Inputs   []ui.Field
	Table    ui.Table
	Kept     ui.Saved
	Usage    string
	Narrowed bool
}

// lentFilter are the parameters of the list, by the names that the API has for them.
func lentFilter() []string {
	return []string{"train_id", "client_key_id", "user_id", "credential_id", "model", "outcome", "from", "to"}
}

// askedOf reads some parameters of an address.
func askedOf(r *http.Request, names []string) url.Values {
	asked := url.Values{}
	for _, name := range names {
		if text := strings.TrimSpace(r.URL.Query().Get(name)); text != "" {
			asked.Set(name, text)
		}
	}
	return asked
}

// asking is an address with parameters, of which one is set anew; value "" takes it out.
func asking(path string, asked url.Values, name, value string) string {
	q := url.Values{}
	for key, list := range asked {
		q[key] = list
	}
	if name != "" {
		q.Del(name)
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// askedTimes reads the two times of a question. They may be as a form sends them, in UTC, or as the API takes them.
func askedTimes(asked url.Values) (from, to time.Time, err error) {
	bad := fault.New(fault.Unprocessable, "validation_failed", "The question cannot be answered as it is.")
	for name, at := range map[string]*time.Time{"from": &from, "to": &to} {
		text := asked.Get(name)
		if text == "" {
			continue
		}
		var wrong error
		for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02T15:04:05", time.DateOnly} {
			if *at, wrong = time.Parse(layout, text); wrong == nil {
				break
			}
		}
		if wrong != nil {
			bad = bad.With("/"+name, "must be a time, such as 2026-11-22T15:04")
		}
	}
	if len(bad.Fields) > 0 {
		return from, to, bad
	}
	return from, to, nil
}

// inForm names the fields of a fault as forms have them.
func inForm(f *fault.Error) *fault.Error {
	out := *f
	out.Fields = nil
	for _, one := range f.Fields {
		one.Pointer = "/" + strings.TrimPrefix(strings.TrimPrefix(one.Pointer, "query."), "/")
		out.Fields = append(out.Fields, one)
	}
	return &out
}

func (s *site) lentList(w http.ResponseWriter, r *http.Request, v visitor) {
	asked := askedOf(r, lentFilter())
	p := &lentPage{Frame: s.frame(r, v, "Requests"), Narrowed: len(asked) > 0}
	p.Choices, p.Inputs = lentFields(asked, v.may(identity.UserRead))
	from, to, err := askedTimes(asked)
	var found ledger.RequestPage
	cursor := r.URL.Query().Get("cursor")
	if err == nil {
		q := lentQuery(asked, from, to)
		q.Limit, q.Cursor = pageSize, cursor
		found, err = s.Ledger.Requests(r.Context(), v.Caller, q)
	}
	if f := fault.Of(err); err != nil && f.Kind == fault.Unprocessable {
		p.Alert = unplaced(inForm(f), p.Inputs)
		s.refuse(w, r, f, lentView(p))
		return
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p.Usage = asking("/usage", askedOf(r, []string{"train_id", "client_key_id", "user_id", "credential_id", "model"}), "", "")
	p.Table = lentTable(s.reader(r), v, found, asked, cursor)
	s.keeps(r, v, "requests", &p.Table)
	if p.Kept, err = s.kept(r, v, &p.Frame, "requests"); err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, lentView(p))
}

func lentQuery(asked url.Values, from, to time.Time) ledger.RequestQuery {
	return ledger.RequestQuery{From: from, To: to, Train: asked.Get("train_id"), Key: asked.Get("client_key_id"), User: asked.Get("user_id"), Credential: asked.Get("credential_id"), Model: asked.Get("model"),
		State: ledger.State(asked.Get("outcome"))}
}

// lentFileMost bounds the requests in a file, lentFileLooks how often the log is looked at for one, and lentFileFor the time after which it is looked at no more: of a log of years nobody wants all at once.
const lentFileMost, lentFileLooks, lentFileFor = 100_000, 500, 75 * time.Second

// lentFile is the list as a file, the newest first. One that ends before the list does says so in its last line.
func (s *site) lentFile(w http.ResponseWriter, r *http.Request, v visitor) {
	asked := askedOf(r, lentFilter())
	from, to, err := askedTimes(asked)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	q := lentQuery(asked, from, to)
	until := time.Now().Add(lentFileFor)
	s.sendSheet(w, r, v, sheet{name: "requests", head: ledger.RequestColumns(), page: lentPages(lentFileMost, lentFileLooks, until, func(ctx context.Context, v visitor, cursor string, limit int) (ledger.RequestPage, error) {
		q.Cursor, q.Limit = cursor, limit
		return s.Ledger.Requests(ctx, v.Caller, q)
	})})
}

// lentPages reads page after page of requests, up to so many of them, so many looks and some time.
func lentPages(most, looks int, until time.Time, read func(ctx context.Context, v visitor, cursor string, limit int) (ledger.RequestPage, error)) func(context.Context, visitor, string) ([][]string, string, error) {
	return func(ctx context.Context, v visitor, cursor string) (rows [][]string, next string, err error) {
		found, err := read(ctx, v, cursor, min(most, ledger.MaxRequests))
		for i := range found.Requests {
			rows = append(rows, found.Requests[i].Line())
		}
		most, looks = most-len(rows), looks-1
		if err != nil || found.Next == "" || most > 0 && looks > 0 && time.Now().Before(until) {
			return rows, found.Next, err
		}
		last := make([]string, len(ledger.RequestColumns()))
		last[0] = "There may be more, which is not in this file: ask for what is before " + found.Seen.UTC().Truncate(time.Second).Add(time.Second).Format(time.RFC3339) + "."
		return append(rows, last), "", nil
	}
}

func lentFields(asked url.Values, people bool) ([]ui.Choice, []ui.Field) {
	outcome := ui.Choice{Name: "outcome", Label: "Outcome", Options: []ui.Option{{Label: "Every outcome", Chosen: asked.Get("outcome") == ""}}}
	for _, one := range ledger.States() {
		outcome.Options = append(outcome.Options, ui.Option{Value: string(one), Label: string(one), Chosen: asked.Get("outcome") == string(one)})
	}
	return []ui.Choice{outcome}, append(usedFields(asked, people),
		ui.Field{Name: "from", Label: "From (UTC)", Type: "datetime-local", Value: asked.Get("from"), Autocomplete: "off", Optional: true},
		ui.Field{Name: "to", Label: "Until (UTC)", Type: "datetime-local", Value: asked.Get("to"), Autocomplete: "off", Optional: true})
}

// usedFields ask of what usage or requests are to be told.
func usedFields(asked url.Values, people bool) []ui.Field {
	field := func(name, label string, most int) ui.Field {
		return ui.Field{Name: name, Label: label, Type: "search", Value: asked.Get(name), MaxLength: most, Autocomplete: "off", Optional: true}
	}
	fields := []ui.Field{field("train_id", "Train", 100), field("credential_id", "Account, by id", 100), field("client_key_id", "Client key, by id", 100)}
	if people {
		fields = append(fields, field("user_id", "Person, by id", 100))
	}
	return append(fields, field("model", "Model", 128))
}

func lentTable(reader ui.Reader, v visitor, found ledger.RequestPage, asked url.Values, cursor string) ui.Table {
	t := ui.Table{ID: "requests", Caption: "Requests, the newest first", Empty: ui.Empty{Text: "No account was lent for such a request.", Command: "signalbox requests list"},
		Columns: []ui.Column{{Label: "When"}, {Label: "Train and client key"}, {Label: "Model"}, {Label: "Accounts, as they were tried"}, {Label: "Took", Number: true}, {Label: "Tokens in and out", Number: true}, {Label: "Outcome"}}}
	if len(found.Requests) > 0 || found.Next != "" {
		t.CSV = asking("/requests.csv", asked, "", "")
	}
	if found.Next != "" {
		t.Next = asking("/requests", asked, "cursor", found.Next)
		t.Empty = ui.Empty{Text: "There is no such request in the part of the log that was looked at" + downTo(reader, found.Seen) + ". There is more of it.", Label: "Look further back", Href: t.Next}
	} else if len(asked) > 0 {
		t.Empty.Label, t.Empty.Href = "Show all", "/requests"
	}
	if cursor != "" {
		t.First = asking("/requests", asked, "", "")
	}
	for i := range found.Requests {
		one := &found.Requests[i]
		t.Rows = append(t.Rows, ui.Row{ID: one.ID, Name: reader.Clock(one.At), Cells: []templ.Component{
			lentWhen(reader, one), lentWho(lentNames(one, asked)), lentModel(one), lentTried(one), ui.Text(tookText(one)), ui.Text(tokensText(reader, one)), lentBadge(one.State, one.Status),
		}})
	}
	return t
}

func downTo(reader ui.Reader, at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return ", down to " + reader.Clock(at)
}

// narrowing is a text that leads to the list narrowed by it; without an address it is a text.
type narrowing struct{ Label, Href string }

// lentNames are the train, the key and who made it.
func lentNames(r *ledger.Request, asked url.Values) []narrowing {
	list := []struct{ name, id, label string }{{"train_id", r.Train.ID, r.Train.Name}, {"client_key_id", r.Key.ID, r.Key.Name}, {"user_id", r.User.ID, r.User.Name}}
	var out []narrowing
	for _, one := range list {
		if one.id == "" {
			continue
		}
		label := one.label
		if label == "" {
			label = one.id
		}
		n := narrowing{Label: short(label)}
		if asked.Get(one.name) != one.id {
			n.Href = asking("/requests", asked, one.name, one.id)
		}
		out = append(out, n)
	}
	return out
}

func lentPath(id string) string { return "/requests/" + url.PathEscape(id) }

// took is a time as people say it.
func took(d time.Duration) string {
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + "\u00a0ms"
	case d < 100*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "\u00a0s"
	}
	return strconv.FormatInt(int64(d.Minutes()), 10) + "\u00a0min"
}

func tookText(r *ledger.Request) string {
	if r.Attempts[len(r.Attempts)-1].Outcome == "" {
		return "–"
	}
	return took(r.Duration)
}

// input is everything that was read.
func input(r *ledger.Request) int64 { t := r.Tokens; t.Output = 0; return t.Sum() }

func tokensText(reader ui.Reader, r *ledger.Request) string {
	if r.Tokens.Sum() == 0 {
		return "–"
	}
	return reader.Number(input(r)) + " / " + reader.Number(r.Tokens.Output)
}

// stateTone is how an outcome looks.
func stateTone(s ledger.State) ui.Tone {
	switch s {
	case ledger.Complete:
		return ui.Good
	case ledger.Partial, ledger.Unknown:
		return ui.Warn
	case ledger.Failed:
		return ui.Bad
	}
	return ui.Idle
}

func statusText(s ledger.State, status int) string {
	if s == ledger.Complete || status == 0 || status < 400 {
		return ""
	}
	return strconv.Itoa(status)
}

// lentOnePage is one request.
type lentOnePage struct {
	ui.Frame
	Lead        string
	Facts, Used []ui.Fact
	Attempts    ui.Table
	Records     string
	// Content leads to what was asked and answered, where that is kept and the reader may read it.
	Content string
	Reader  ui.Reader
}

func (s *site) lentOne(w http.ResponseWriter, r *http.Request, v visitor) {
	one, err := s.Ledger.Request(r.Context(), v.Caller, r.PathValue("request"))
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	reader := s.reader(r)
	p := &lentOnePage{Frame: s.frame(r, v, "Request of "+reader.Clock(one.At)), Reader: reader, Lead: one.Method + " " + one.Path + ", as the audit log tells it."}
	p.Facts = lentFacts(reader, v, &one)
	p.Used = lentUsed(reader, s, &one)
	log := v.may(identity.AuditRead)
	p.Attempts = attemptTable(reader, v, &one, log)
	if log {
		p.Records = "/audit?" + url.Values{"request_id": {one.ID}, "from": {one.At.Add(-time.Minute).UTC().Format(time.RFC3339)},
			"to": {one.At.Add(one.Duration + time.Hour).UTC().Format(time.RFC3339)}}.Encode()
	}
	has, err := s.Trains.HasContent(r.Context(), v.Caller, one.ID)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	if has {
		p.Content = lentPath(one.ID) + "/content"
	}
	s.show(w, r, http.StatusOK, lentOneView(p))
}

func lentFacts(reader ui.Reader, v visitor, one *ledger.Request) []ui.Fact {
	link := func(may bool, label, href string) templ.Component {
		if !may {
			return ui.Text(label)
		}
		return ui.Link(label, href)
	}
	name := func(n ledger.Named) string {
		if n.Name == "" {
			return n.ID
		}
		return n.Name
	}
	facts := []ui.Fact{
		{Term: "Outcome", Value: lentBadge(one.State, one.Status)}, {Term: "When", Value: ui.When(reader, one.At)}, {Term: "Time", Value: ui.Code(one.At.UTC().Format(store.TimeFormat)), Wide: true},
		{Term: "Train", Value: link(v.may(identity.TrainRead), name(one.Train), trainPath(one.Train.ID))},
		{Term: "Client key", Value: ui.Link(name(one.Key), asking("/requests", nil, "client_key_id", one.Key.ID))},
	}
	if one.User.ID != "" {
		facts = append(facts, ui.Fact{Term: "Who made the key", Value: ui.Link(name(one.User), asking("/requests", nil, "user_id", one.User.ID))})
	}
	if one.Asked != "" {
		facts = append(facts, ui.Fact{Term: "Model asked for", Value: ui.Text(one.Asked)})
	}
	if one.Model != one.Asked {
		facts = append(facts, ui.Fact{Term: "Model that answered", Value: ui.Text(one.Model)})
	}
	facts = append(facts, ui.Fact{Term: "Account", Value: link(v.may(identity.CredentialRead), name(one.Credential), accountPath(one.Credential.ID))})
	if one.FirstByte > 0 {
		facts = append(facts, ui.Fact{Term: "First byte after", Value: ui.Text(took(one.FirstByte))})
	}
	facts = append(facts, ui.Fact{Term: "Took", Value: ui.Text(tookText(one))}, ui.Fact{Term: "Request's body", Value: ui.Text(reader.Count(int(one.Sent), "byte"))},
		ui.Fact{Term: "Answer's body", Value: ui.Text(reader.Count(int(one.Received), "byte"))})
	if v.may(identity.TrainRead) {
		facts = append(facts, ui.Fact{Term: "Limits", Value: ui.Link("Those of the train and its keys", trainPath(one.Train.ID)+"#limits")})
	}
	return append(facts, ui.Fact{Term: "Request id", Value: ui.Code(one.ID), Wide: true})
}

// lentUsed are the tokens of a request; nil where its answer told none.
func lentUsed(reader ui.Reader, s *site, one *ledger.Request) []ui.Fact {
	if one.Tokens.Sum() == 0 && one.Tools == 0 {
		return nil
	}
	t := one.Tokens
	var facts []ui.Fact
	for _, f := range [...]struct {
		term string
		n    int64
	}{{"Input", t.Input}, {"Output", t.Output}, {"Read from the cache", t.CacheRead}, {"Written to the cache for 5 minutes", t.CacheWrite5m}, {"Written to the cache for an hour", t.CacheWrite1h}, {"Tool calls", one.Tools}} {
		facts = append(facts, ui.Fact{Term: f.term, Value: ui.Text(reader.Number(f.n))})
	}
	cost := "unknown: the model has no price"
	if one.Cost.Known() {
		cost = dollars(one.Cost.Micro())
	}
	return append(facts, ui.Fact{Term: "Cost", Value: ui.Text(cost)})
}

// attemptTable lists the accounts that were tried.
func attemptTable(reader ui.Reader, v visitor, one *ledger.Request, log bool) ui.Table {
	t := ui.Table{ID: "attempts", Caption: "Accounts in the order in which they were tried",
		Columns: []ui.Column{{Label: "Attempt"}, {Label: "Account"}, {Label: "Host"}, {Label: "Outcome"}, {Label: "First byte", Number: true}, {Label: "Took", Number: true}, {Label: "Bytes passed on", Number: true}}}
	if log {
		t.Columns = append(t.Columns, ui.Column{Label: "Audit records"})
	}
	for i := range one.Attempts {
		a := &one.Attempts[i]
		var account templ.Component = ui.Text(a.Credential.Name)
		if v.may(identity.CredentialRead) {
			account = ui.Link(a.Credential.Name, accountPath(a.Credential.ID))
		}
		first, all, bytes := "–", "–", "–"
		if a.FirstByte > 0 {
			first = took(a.FirstByte)
		}
		if a.Outcome != "" {
			all, bytes = took(a.Duration), reader.Number(a.Received)
		}
		row := ui.Row{ID: a.Lease, Name: strconv.Itoa(a.Number), Cells: []templ.Component{ui.Text(strconv.Itoa(a.Number)), account, ui.Text(a.Host), stateView(stateTone(a.State), string(a.State), a.Why()), ui.Text(first), ui.Text(all), ui.Text(bytes)}}
		if log {
			row.Cells = append(row.Cells, lentRecords(a.Intent, a.Outcome))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}
