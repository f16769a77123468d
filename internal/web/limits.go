package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/web/ui"
)

// limitActs is what can be done beside a list that is not empty.
func (p *trainPage) limitActs() []templ.Component {
	if !p.Write || len(p.Limits.Rows) == 0 {
		return nil
	}
	return []templ.Component{ui.LinkButton("Change the limits", trainPath(p.Train.Slug, "limits"), ui.Plain, true)}
}

func limitColumns() []ui.Column {
	return []ui.Column{{Label: "Limit"}, {Label: "Used"}, {Label: "Free again"}}
}

// limitTable lists what all client keys of a train may use together, and how far that is used.
func limitTable(reader ui.Reader, p *trainPage, used []quota.Used) ui.Table {
	t := ui.Table{
		ID: "limit-list", Caption: "What all client keys of the train may use together", Live: "train",
		Columns: limitColumns(),
		Empty:   ui.Empty{Text: "Nothing is limited.", Command: "signalbox limits set --train " + p.Train.Slug + " requests_per_minute=60"},
	}
	if p.Write {
		t.Empty.Label, t.Empty.Href, t.Empty.Dialog = "Set limits", trainPath(p.Train.Slug, "limits"), true
	}
	t.Rows = limitRows(reader, p.Train.Limits, used)
	return t
}

// limitRows are the limits of somebody, with how far each is used. Of one that another version counts in another way that is not known.
func limitRows(reader ui.Reader, l *quota.Limits, used []quota.Used) (rows []ui.Row) {
	row := func(id, name string, cells ...templ.Component) {
		rows = append(rows, ui.Row{ID: "limit-" + id, Name: name, Cells: cells})
	}
	none := ui.Faint("—")
	for _, r := range quota.Rows() {
		most, ok := l.Of(r.Kind)
		if !ok {
			continue
		}
		if r.Kind == quota.MaxTokens {
			row(r.Name, r.Name, ui.Text("max_tokens of at most "+reader.Number(most)), none, none)
			continue
		}
		show := reader.Number
		if r.Kind == quota.MonthlyCost {
			show = price.Dollars
		}
		is, free := ui.Faint("not known"), none
		if i := slices.IndexFunc(used, func(u quota.Used) bool { return u.Kind == r.Kind }); i >= 0 {
			is = usedBadge(used[i], show(used[i].Used))
			if used[i].Frees > 0 {
				free = ui.Text(reader.Ago(time.Now().Add(time.Duration(used[i].Frees) * time.Second)))
			}
		}
		row(r.Name, r.Noun, ui.Text(show(most)+" "+r.Noun), is, free)
	}
	if models := l.Models(); len(models) > 0 {
		row("models", "models", ui.Text("models: "+strings.Join(models, ", ")), none, none)
	}
	if l.Unknown() {
		row("unknown", "unknown", ui.Text("A limit that this version does not know: everything is refused."), ui.Badge(ui.Bad, "refuses"), none)
	}
	return rows
}

func usedBadge(u quota.Used, text string) templ.Component {
	switch {
	case u.Used >= u.Most:
		return ui.Badge(ui.Bad, text+", all of it")
	case u.Used*10 >= u.Most*8:
		return ui.Badge(ui.Warn, text)
	}
	return ui.Text(text)
}

// keyLimits says beside a key whether it has limits of its own, and leads to them.
func keyLimits(p *trainPage, k identity.Key) templ.Component {
	word := "none"
	if !k.Limits.Empty() {
		word = "limited"
	}
	if !p.Issue || k.Status == identity.StatusRevoked {
		return ui.Text(word)
	}
	return ui.DialogLink(word, trainPath(p.Train.Slug, "keys", k.ID, "limits"), "Limits of "+k.Name+": "+word)
}

// limitFields are the fields of limits, with what was typed, or with what is in force.
func limitFields(l *quota.Limits, typed func(name string) (string, bool)) (fields []ui.Field) {
	value := func(name, is string) string {
		if text, ok := typed(name); ok {
			return text
		}
		return is
	}
	for i, r := range quota.Rows() {
		is, field := "", ui.Field{Name: r.Name, Label: strings.ToUpper(r.Noun[:1]) + r.Noun[1:], Type: "number", Min: "1", Optional: true, Focus: i == 0, Hint: strings.ToUpper(r.Meaning[:1]) + r.Meaning[1:] + "."}
		n, ok := l.Of(r.Kind)
		switch {
		case ok && r.Kind == quota.MonthlyCost:
			is = price.Dollars(n)
		case ok:
			is = strconv.FormatInt(n, 10)
		}
		if r.Kind == quota.MonthlyCost {
			field.Type, field.Min, field.MaxLength = "", "", 20
		}
		field.Value = value(r.Name, is)
		fields = append(fields, field)
	}
	return append(fields, ui.Field{Name: quota.ModelsName, Label: "Models", Value: value(quota.ModelsName, strings.Join(l.Models(), ", ")), MaxLength: 4000, Optional: true, Autocomplete: "off",
		Hint: "Names with commas between them; * at the end stands for all that begin so. All models when it is left out."})
}

// limitsPosted reads the form of limits: what is left out is no limit. Limits that this version does not know are not in the form, and stay.
func limitsPosted(r *http.Request) (*quota.Patch, error) {
	p := &quota.Patch{Set: map[quota.Kind]int64{}}
	bad := fault.New(fault.Unprocessable, "validation_failed", "A limit is not as it must be.")
	for _, row := range quota.Rows() {
		text := strings.TrimSpace(r.PostForm.Get(row.Name))
		if text == "" {
			p.Set[row.Kind] = 0
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		message := "must be a whole number above 0"
		if row.Kind == quota.MonthlyCost {
			n, err = price.Micro(text)
			message = "must be US dollars above 0, with at most six digits after the point"
		}
		if err != nil || n <= 0 {
			bad = bad.With("/"+row.Name, message)
			continue
		}
		p.Set[row.Kind] = n
	}
	models := strings.FieldsFunc(r.PostForm.Get(quota.ModelsName), func(c rune) bool { return c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t' })
	p.Models = &models
	if len(bad.Fields) > 0 {
		return nil, bad
	}
	return p, nil
}

// typedIn tells what was posted. A form that is shown first has nothing; neither has one before which somebody else went (f, nil for none): to send it once
// more must not undo unseen what that one did.
func typedIn(r *http.Request, f *fault.Error) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if r.Method != http.MethodPost || f != nil && f.Kind == fault.Precondition || len(r.PostForm[name]) == 0 {
			return "", false
		}
		return r.PostForm.Get(name), true
	}
}

// limitsAgain shows the form once more, with what is wrong beside its field.
func (s *site) limitsAgain(w http.ResponseWriter, r *http.Request, f *fault.Error, p *askedPage) {
	for i := range f.Fields {
		f.Fields[i].Pointer = strings.TrimPrefix(f.Fields[i].Pointer, "/limits")
	}
	s.again(w, r, f, p)
}

func (s *site) trainLimitsPage(r *http.Request, v visitor, t train.Train, f *fault.Error) *askedPage {
	return &askedPage{Frame: s.frame(r, v, "Limits of "+t.Slug), Back: trainPath(t.Slug), BackLabel: t.Name, Action: trainPath(t.Slug, "limits"), Submit: "Set the limits",
		Lead:   "For all client keys of the train together, over all servers. They count at once, for requests that begin after the change.",
		Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: t.ETag()}), Inputs: limitFields(t.Limits, typedIn(r, f))}
}

func (s *site) trainLimitsForm(w http.ResponseWriter, r *http.Request, v visitor) {
	t, err := s.trainOf(r, v, identity.TrainWrite)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(s.trainLimitsPage(r, v, t, nil)))
}

// trainLimits sets the limits of a train, unless somebody else changed it since the form was made.
func (s *site) trainLimits(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := limitsPosted(r)
	if err == nil {
		_, err = s.Trains.UpdateTrain(r.Context(), v.Caller, r.PathValue("train"), train.Patch{Limits: p}, r.PostForm.Get("if_match"))
	}
	here := trainPath(r.PathValue("train"))
	s.settled(w, r, v, err, here+"?done=limited", here+"/limits", func(f *fault.Error) {
		now, err := s.trainOf(r, v, identity.TrainWrite)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.limitsAgain(w, r, f, s.trainLimitsPage(r, v, now, f))
	})
}

func (s *site) keyLimitsPage(r *http.Request, v visitor, f *fault.Error) (*askedPage, error) {
	t, err := s.trainOf(r, v, identity.KeyWrite)
	if err != nil {
		return nil, err
	}
	k, err := s.Trains.GetKey(r.Context(), v.Caller, t.ID, r.PathValue("key"))
	if err != nil {
		return nil, err
	}
	return &askedPage{Frame: s.frame(r, v, "Limits of "+k.Name), Back: trainPath(t.Slug), BackLabel: t.Name, Action: trainPath(t.Slug, "keys", k.ID, "limits"), Submit: "Set the limits",
		Lead: "For this client key, beside what its train and the person who made it may use.", Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: k.ETag()}), Inputs: limitFields(k.Limits, typedIn(r, f))}, nil
}

func (s *site) keyLimitsForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.keyLimitsPage(r, v, nil)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

func (s *site) keyLimitsSet(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := limitsPosted(r)
	if err == nil {
		_, err = s.Trains.UpdateKey(r.Context(), v.Caller, r.PathValue("train"), r.PathValue("key"), identity.KeyPatch{Limits: p, IfMatch: r.PostForm.Get("if_match")})
	}
	here := trainPath(r.PathValue("train"))
	s.settled(w, r, v, err, here+"?done=limited", here+"/keys/"+r.PathValue("key")+"/limits", func(f *fault.Error) {
		page, err := s.keyLimitsPage(r, v, f)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.limitsAgain(w, r, f, page)
	})
}
