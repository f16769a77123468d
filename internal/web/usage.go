package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web/ui"
)

// usagePage is what was used in some time: the sum, how it went, and the sums by what they are told apart.
type usagePage struct {
	ui.Frame
	Alert           string
	Choices         []ui.Choice
	Inputs          []ui.Field
	Kept            ui.Saved
	Of, Behind      string
	Facts           []ui.Fact
	Notes           []string
	Chart           ui.Stack
	Table           ui.Table
	Requests        string
	Shown, Narrowed bool
}

const (
	// fieldTime is a time as the fields of a form have it, in UTC.
	fieldTime = "2006-01-02T15:04"
	// hoursDrawn and daysDrawn are the longest times whose hours, and whose days, are drawn; of longer ones months are.
	hoursDrawn, daysDrawn = 49 * time.Hour, 100 * 24 * time.Hour
)

// usageFilter are the parameters of the page; those that narrow have the API's names.
func usageFilter() []string {
	return append(usageOf(), "range", "from", "to", "step", "by", "chart")
}

func usageOf() []string {
	return []string{"train_id", "credential_id", "client_key_id", "user_id", "model"}
}

// usageRanges are the times to choose from.
func usageRanges() []ui.Option {
	return []ui.Option{{Value: "day", Label: "the last day"}, {Value: "7d", Label: "the last 7 days"}, {Value: "30d", Label: "the last 30 days"}, {Value: "month", Label: "this month (UTC)"}, {Value: "own", Label: "from … until …"}}
}

// usageBy are what sums can be told apart by, besides the time.
func usageBy(people bool) []ui.Option {
	out := []ui.Option{{Value: string(ledger.ByTrain), Label: "train"}, {Value: string(ledger.ByCredential), Label: "account"}, {Value: string(ledger.ByKey), Label: "client key"}}
	if people {
		out = append(out, ui.Option{Value: string(ledger.ByUser), Label: "person"})
	}
	return append(out, ui.Option{Value: string(ledger.ByModel), Label: "model"})
}

// usageAsked reads what is asked. Boxes that are ticked come one by one, and are put together.
func usageAsked(r *http.Request) url.Values {
	asked := askedOf(r, usageFilter())
	if all := r.URL.Query()["by"]; len(all) > 0 {
		asked.Del("by")
		if text := strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), ","); text != "" {
			asked.Set("by", text)
		}
	}
	if asked.Get("range") == "" {
		switch {
		case asked.Has("from") || asked.Has("to"):
			asked.Set("range", "own")
		default:
			asked.Set("range", "day")
		}
		if !asked.Has("by") && !asked.Has("step") { // nobody has chosen yet
			asked.Set("by", string(ledger.ByTrain))
		}
	}
	if asked.Get("range") != "own" {
		asked.Del("from")
		asked.Del("to")
	}
	return asked
}

// usageQuery is the question that is asked.
func usageQuery(asked url.Values, now time.Time) (ledger.Query, error) {
	q := ledger.Query{Train: asked.Get("train_id"), Credential: asked.Get("credential_id"), Key: asked.Get("client_key_id"), User: asked.Get("user_id"), Model: asked.Get("model"), To: now}
	now = now.UTC()
	switch asked.Get("range") {
	case "day":
		q.From = now.Add(-24 * time.Hour)
	case "7d":
		q.From = now.AddDate(0, 0, -7)
	case "30d":
		q.From = now.AddDate(0, 0, -30)
	case "month":
		q.From = time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	case "own":
		from, to, err := askedTimes(asked)
		if err != nil {
			return q, err
		}
		if q.From = from; !to.IsZero() {
			q.To = to
		}
	default:
		return q, fault.New(fault.Unprocessable, "validation_failed", "The question cannot be answered as it is.").With("/range", "must be one of day, 7d, 30d, month and own")
	}
	if step := asked.Get("step"); step != "" {
		q.By = append(q.By, ledger.Group(step))
	}
	if by := asked.Get("by"); by != "" {
		for word := range strings.SplitSeq(by, ",") {
			q.By = append(q.By, ledger.Group(strings.TrimSpace(word)))
		}
	}
	return q, nil
}

func usageFields(asked url.Values, people bool) ([]ui.Choice, []ui.Field) {
	choose := func(name, label string, options []ui.Option) ui.Choice {
		chosen := strings.Split(asked.Get(name), ",")
		for i := range options {
			options[i].Chosen = slices.Contains(chosen, options[i].Value)
		}
		return ui.Choice{Name: name, Label: label, Options: options}
	}
	by := choose("by", "Told apart by", usageBy(people))
	by.Multiple = true
	return []ui.Choice{
			choose("range", "When", usageRanges()),
			choose("chart", "Drawn", []ui.Option{{Value: "tokens", Label: "tokens by kind"}, {Value: "requests", Label: "requests by outcome"}, {Value: "cost", Label: "cost"}}),
			choose("step", "Told by", []ui.Option{{Label: "the whole time"}, {Value: "hour", Label: "hour"}, {Value: "day", Label: "day"}, {Value: "month", Label: "month"}}), by,
		}, append(usedFields(asked, people),
			ui.Field{Name: "from", Label: "From (UTC)", Type: "datetime-local", Value: asked.Get("from"), Autocomplete: "off", Optional: true},
			ui.Field{Name: "to", Label: "Until (UTC)", Type: "datetime-local", Value: asked.Get("to"), Autocomplete: "off", Optional: true})
}

func (s *site) usage(w http.ResponseWriter, r *http.Request, v visitor) {
	asked := usageAsked(r)
	if len(r.URL.Query()["by"]) > 1 { // what is kept and linked has one parameter of a name
		http.Redirect(w, r, asking("/usage", asked, "", ""), http.StatusSeeOther)
		return
	}
	p := &usagePage{Frame: s.frame(r, v, "Usage"), Narrowed: len(askedOf(r, usageOf())) > 0}
	p.Choices, p.Inputs = usageFields(asked, v.may(identity.UserRead))
	reader := s.reader(r)
	q, err := usageQuery(asked, reader.Now)
	var sums, drawn ledger.Report
	if err == nil {
		q.Limit, q.Cursor = pageSize, r.URL.Query().Get("cursor")
		sums, err = s.Ledger.Read(r.Context(), v.Caller, q)
	}
	step := stepOf(sums.To.Sub(sums.From))
	if err == nil {
		over := q
		over.From, over.To, over.By, over.Limit, over.Cursor = sums.From, sums.To, []ledger.Group{step}, ledger.MaxLimit, ""
		drawn, err = s.Ledger.Read(r.Context(), v.Caller, over)
	}
	if f := fault.Of(err); err != nil && f.Kind == fault.Unprocessable {
		p.Alert = unplaced(inForm(f), p.Inputs)
		s.refuse(w, r, f, usageView(p))
		return
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	p.Shown = true
	p.tell(reader, sums)
	p.Chart = usageChart(reader, asked.Get("chart"), step, drawn)
	if v.mayAll(identity.UsageRead) { // the requests one by one are told to no others
		p.Requests = asking("/requests", usageSpan(askedOf(r, usageOf()), sums.From, sums.To), "", "")
	}
	if len(q.By) > 0 {
		p.Table = usageTable(reader, q.By, sums, asked, q.Cursor, p.Requests != "")
	}
	s.keeps(r, v, "usage", &p.Table)
	if p.Kept, err = s.kept(r, v, &p.Frame, "usage"); err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, usageView(p))
}

// stepOf is what is drawn of a time: its hours, its days or its months.
func stepOf(span time.Duration) ledger.Group {
	switch {
	case span <= hoursDrawn:
		return ledger.ByHour
	case span <= daysDrawn:
		return ledger.ByDay
	}
	return ledger.ByMonth
}

// usageSpan adds two times to a question.
func usageSpan(asked url.Values, from, to time.Time) url.Values {
	out := url.Values{"from": {from.UTC().Format(fieldTime)}, "to": {to.UTC().Format(fieldTime)}}
	for name, list := range asked {
		out[name] = list
	}
	return out
}

// tell fills in what was used in all.
func (p *usagePage) tell(reader ui.Reader, sums ledger.Report) {
	u := &sums.Total
	p.Of = "From " + reader.Clock(sums.From) + " until " + reader.Clock(sums.To) + ", taken to whole hours."
	number := func(term string, n int64) {
		p.Facts = append(p.Facts, ui.Fact{Term: term, Value: ui.Text(reader.Number(n))})
	}
	number("Requests", u.Requests)
	number("complete", u.Complete)
	number("partial", u.Partial)
	number("unknown", u.Unknown)
	number("failed", u.Failed)
	number("under way", u.Pending)
	number("Input tokens", u.Input)
	number("Output tokens", u.Output)
	number("Read from the cache", u.CacheRead)
	number("Written to the cache, 5 minutes", u.CacheWrite5m)
	number("Written to the cache, 1 hour", u.CacheWrite1h)
	number("Tool calls", u.ToolCalls)
	p.Facts = append(p.Facts, ui.Fact{Term: "Cost", Value: ui.Text(costText(u.Cost))})
	if sums.PricesOf != "" {
		p.Notes = append(p.Notes, "Costs are at the prices of today: the list prices as they were on "+sums.PricesOf+", or those of this server's own file.")
	}
	if u.Unknown > 0 {
		p.Notes = append(p.Notes, "Of "+reader.Count(int(u.Unknown), "request")+" nobody knows what was used: none of it is counted.")
	}
	if u.Cost.Unpriced > 0 {
		p.Notes = append(p.Notes, reader.Count(int(u.Cost.Unpriced), "token")+" are of models without a price, so the cost is not all of it. A file of prices (SIGNALBOX_PRICES) can name them.")
	}
	switch behind := sums.Behind(); {
	case sums.Anew:
		p.Behind = "All sums are being made anew from the audit log: " + reader.Number(sums.Added) + " of " + reader.Count(int(sums.Records), "record") + " are added up, the oldest first. Until that is done these are less than what was used."
	case behind > 0:
		p.Behind = reader.Count(int(behind), "record") + " of the audit log are not added up yet, so that the newest requests may be missing here. Within seconds they are, unless the server is busy."
	}
}

// dollars is an amount as people say it.
func dollars(micro int64) string {
	digits := 2
	if micro > 0 && micro < 1_000_000 {
		digits = 4
	}
	return "$" + strconv.FormatFloat(float64(micro)/1e6, 'f', digits, 64)
}

func costText(c price.Cost) string {
	switch {
	case c.Known():
		return dollars(c.Micro())
	case c.Micro() > 0:
		return "more than " + dollars(c.Micro())
	}
	return "unknown"
}

// usageChart draws how it went. Times in which nothing was used are drawn as well, but for those before the first.
func usageChart(reader ui.Reader, kind string, step ledger.Group, drawn ledger.Report) ui.Stack {
	c := ui.Stack{Reader: reader, Title: "Tokens by kind", Unit: "tokens", Layers: []string{"input", "output", "read from the cache", "written to the cache, 5 minutes", "written to the cache, 1 hour"}}
	values := func(u *ledger.Used) []int64 {
		return []int64{u.Input, u.Output, u.CacheRead, u.CacheWrite5m, u.CacheWrite1h}
	}
	switch kind {
	case "requests":
		c.Title, c.Unit, c.Layers = "Requests by outcome", "requests", []string{"complete", "partial", "unknown", "failed", "under way"}
		values = func(u *ledger.Used) []int64 { return []int64{u.Complete, u.Partial, u.Unknown, u.Failed, u.Pending} }
	case "cost":
		c.Title, c.Unit, c.Layers, c.Text = "Cost of what has a price", "", []string{"cost"}, dollars
		values = func(u *ledger.Used) []int64 { return []int64{u.Cost.Micro()} }
	}
	layout := map[ledger.Group]string{ledger.ByHour: "02 Jan, 15:04 UTC", ledger.ByDay: "02 Jan 2006", ledger.ByMonth: "Jan 2006"}[step]
	c.Title += map[ledger.Group]string{ledger.ByHour: ", by the hour", ledger.ByDay: ", by the day", ledger.ByMonth: ", by the month"}[step]
	used := map[int64]*ledger.Used{}
	for i := range drawn.Rows {
		used[drawn.Rows[i].Begins.Unix()] = &drawn.Rows[i].Used
	}
	at := drawn.From.UTC()
	switch step {
	case ledger.ByDay:
		at = time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
	case ledger.ByMonth:
		at = time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
		if len(drawn.Rows) > 0 { // years of nothing before
			at = drawn.Rows[0].Begins.UTC()
		}
	}
	for len(drawn.Rows) > 0 && at.Before(drawn.To) {
		u := used[at.Unix()]
		if u == nil {
			u = &ledger.Used{}
		}
		c.Piles = append(c.Piles, ui.Pile{Label: at.Format(layout), Values: values(u)})
		switch step {
		case ledger.ByHour:
			at = at.Add(time.Hour)
		case ledger.ByDay:
			at = at.AddDate(0, 0, 1)
		default:
			at = at.AddDate(0, 1, 0)
		}
	}
	return c
}

// usageTable lists the sums, which lead to the requests one by one where the visitor may read these.
func usageTable(reader ui.Reader, by []ledger.Group, sums ledger.Report, asked url.Values, cursor string, requests bool) ui.Table {
	own := usageSpan(asked, sums.From, sums.To)
	own.Set("range", "own")
	own.Set("from", sums.From.UTC().Format(fieldTime)) // what follows is of the same time
	own.Set("to", sums.To.UTC().Format(fieldTime))
	t := ui.Table{ID: "sums", Caption: "Sums in the order of time and of ids", Empty: ui.Empty{Text: "Nothing like it was used in this time.", Command: "signalbox usage"}}
	if len(sums.Rows) > 0 {
		t.CSV = asking("/usage.csv", own, "", "")
	}
	if sums.Next != "" {
		t.Next = asking("/usage", own, "cursor", sums.Next)
	}
	if cursor != "" {
		t.First = asking("/usage", own, "", "")
	}
	heads := map[ledger.Group]string{ledger.ByHour: "Hour (UTC)", ledger.ByDay: "Day", ledger.ByMonth: "Month", ledger.ByTrain: "Train", ledger.ByCredential: "Account", ledger.ByKey: "Client key", ledger.ByUser: "Person", ledger.ByModel: "Model"}
	for _, g := range by {
		t.Columns = append(t.Columns, ui.Column{Label: heads[g]})
	}
	for _, label := range []string{"Requests", "Failed", "Input", "Output", "Cache, read and written", "Cost"} {
		t.Columns = append(t.Columns, ui.Column{Label: label, Number: true})
	}
	for i := range sums.Rows {
		row := &sums.Rows[i]
		cells, leads := usageCells(by, row, asked, sums)
		u := &row.Used
		if requests {
			cells = append(cells, ui.Link(reader.Number(u.Requests), asking("/requests", leads, "", "")))
		} else {
			cells = append(cells, ui.Text(reader.Number(u.Requests)))
		}
		for _, n := range []int64{u.Failed, u.Input, u.Output} {
			cells = append(cells, ui.Text(reader.Number(n)))
		}
		cells = append(cells, ui.Text(reader.Number(u.CacheRead)+" / "+reader.Number(price.Sum(u.CacheWrite5m, u.CacheWrite1h))))
		t.Rows = append(t.Rows, ui.Row{ID: strconv.Itoa(i), Cells: append(cells, ui.Text(costText(u.Cost)))})
	}
	return t
}

// usageCells are what a sum is of, each leading to the page narrowed by it, and the question for its requests one by one.
func usageCells(by []ledger.Group, row *ledger.Row, asked url.Values, sums ledger.Report) (cells []templ.Component, leads url.Values) {
	leads = url.Values{}
	for _, name := range usageOf() {
		if asked.Has(name) {
			leads.Set(name, asked.Get(name))
		}
	}
	from, to := sums.From, sums.To
	of := func(name string, what ledger.Named, none string) {
		label := what.Name
		if label == "" {
			label = what.ID
		}
		if what.ID == "" {
			cells = append(cells, ui.Faint(none))
			return
		}
		leads.Set(name, what.ID)
		if asked.Get(name) == what.ID {
			cells = append(cells, ui.Text(short(label)))
			return
		}
		cells = append(cells, ui.Link(short(label), asking("/usage", asked, name, what.ID)))
	}
	span := func(layout string, end time.Time) {
		cells = append(cells, ui.Text(row.Begins.UTC().Format(layout)))
		if row.Begins.After(from) {
			from = row.Begins
		}
		if end.Before(to) {
			to = end
		}
	}
	for _, g := range by {
		switch g {
		case ledger.ByHour:
			span("2006-01-02 15:04", row.Begins.Add(time.Hour))
		case ledger.ByDay:
			span(time.DateOnly, row.Begins.AddDate(0, 0, 1))
		case ledger.ByMonth:
			span("2006-01", row.Begins.AddDate(0, 1, 0))
		case ledger.ByTrain:
			of("train_id", row.Train, "none")
		case ledger.ByCredential:
			of("credential_id", row.Credential, "none")
		case ledger.ByKey:
			none := "none"
			if sums.OwnKeys {
				none = "keys of others"
			}
			of("client_key_id", row.Key, none)
		case ledger.ByUser:
			of("user_id", row.User, "nobody knows")
		case ledger.ByModel:
			of("model", ledger.Named{ID: row.Model}, "none")
		}
	}
	return cells, usageSpan(leads, from, to)
}

// usageFile is the list as a file, all of it.
func (s *site) usageFile(w http.ResponseWriter, r *http.Request, v visitor) {
	q, err := usageQuery(usageAsked(r), time.Now())
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	q.Limit = ledger.MaxLimit
	s.sendSheet(w, r, v, sheet{
		name: "usage",
		head: []string{"begins_at", "train", "train_id", "credential", "credential_id", "client_key", "client_key_id", "user", "user_id", "model", "requests", "complete", "partial", "unknown", "failed", "pending",
			"input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_5m_tokens", "cache_creation_1h_tokens", "tool_calls", "priced_usd", "unpriced_tokens"},
		page: func(ctx context.Context, v visitor, cursor string) (rows [][]string, next string, err error) {
			q.Cursor = cursor
			sums, err := s.Ledger.Read(ctx, v.Caller, q)
			for i := range sums.Rows {
				rows = append(rows, usageLine(&sums.Rows[i]))
			}
			return rows, sums.Next, err
		},
	})
}

func usageLine(r *ledger.Row) []string {
	begins := ""
	if !r.Begins.IsZero() {
		begins = r.Begins.UTC().Format(store.TimeFormat)
	}
	line := []string{begins, r.Train.Name, r.Train.ID, r.Credential.Name, r.Credential.ID, r.Key.Name, r.Key.ID, r.User.Name, r.User.ID, r.Model}
	for _, n := range []int64{r.Requests, r.Complete, r.Partial, r.Unknown, r.Failed, r.Pending, r.Input, r.Output, r.CacheRead, r.CacheWrite5m, r.CacheWrite1h, r.ToolCalls} {
		line = append(line, strconv.FormatInt(n, 10))
	}
	return append(line, price.Dollars(r.Cost.Micro()), strconv.FormatInt(r.Cost.Unpriced, 10))
}

// usedFact leads to what something used and, for who may read these, to its requests one by one: name is the parameter that names it.
func (s *site) usedFact(v visitor, name, id string) []ui.Fact {
	if s.Ledger == nil || !v.may(identity.UsageRead) || name != "train_id" && !v.mayAll(identity.UsageRead) || name == "user_id" && !v.may(identity.UserRead) {
		return nil
	}
	of := url.Values{name: {id}}
	leads := []narrowing{{"Usage of 30 days", "/usage?" + url.Values{name: {id}, "range": {"30d"}, "step": {"day"}}.Encode()}}
	if v.mayAll(identity.UsageRead) {
		leads = append(leads, narrowing{"Latest requests", "/requests?" + of.Encode()})
	}
	return []ui.Fact{{Term: "Used", Value: lentWho(leads)}}
}
