package web

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/contents"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/web/ui"
)

// routeKept names the pages of what is kept of requests. Whoever may read that is asked for a fresh proof before the forms, since they can do so.
func (s *site) routeKept(mux *http.ServeMux) {
	const all = " /trains/{train}/request-logging"
	mux.HandleFunc("GET"+all, s.signedIn(func(w http.ResponseWriter, r *http.Request, v visitor) {
		if v.may(identity.ContentRead) {
			s.fresh(s.loggingForm)(w, r, v)
			return
		}
		s.loggingForm(w, r, v)
	}))
	mux.HandleFunc("POST"+all, s.submitted(s.loggingChange))
	mux.HandleFunc("GET"+all+"/purge", s.signedIn(s.needing(identity.ContentRead, s.fresh(s.purgeForm))))
	mux.HandleFunc("POST"+all+"/purge", s.submitted(s.purge))
	mux.HandleFunc("GET /requests/{id}/content", s.signedIn(s.needing(identity.ContentRead, s.fresh(s.contentPage))))
}

func loggingPath(slug string, more ...string) string {
	return trainPath(slug, append([]string{"request-logging"}, more...)...)
}

// keptTable says in one row whether a train keeps what its agents are asked and answer.
func keptTable(reader ui.Reader, v visitor, p *trainPage, l train.Logging) ui.Table {
	t := ui.Table{ID: "kept-list", Caption: "Whether prompts and answers are kept", Live: "train",
		Columns: []ui.Column{{Label: "State"}, {Label: "Of each request and answer"}, {Label: "Deleted after"}, {Label: "Kept now"}}}
	state := ui.Badge(ui.Idle, "nothing is kept")
	if l.Enabled {
		state = ui.Badge(ui.Warn, "kept")
	}
	counted := func(n int64, one string) string {
		if n == 1 {
			return "1 " + one
		}
		return reader.Number(n) + " " + one + "s"
	}
	days := counted(l.RetentionDays, "day")
	kept := counted(l.Requests, "request") + ", " + sizeText(l.Bytes) + " of " + sizeText(l.TotalBytes)
	row := ui.Row{ID: "kept", Name: "Request logging", Cells: []templ.Component{state, ui.Text(sizeText(l.MaxBytes)), ui.Text(days), ui.Text(kept)}}
	if p.Write && (l.Enabled || v.may(identity.ContentRead)) {
		t.Columns = append(t.Columns, ui.Column{Label: "Acts", Unseen: true})
		acts := []templ.Component{ui.DialogLink("Change", loggingPath(p.Train.Slug), "Change what is kept")}
		if l.Requests > 0 && v.may(identity.ContentRead) {
			acts = append(acts, ui.DialogLink("Delete", loggingPath(p.Train.Slug, "purge"), "Delete what is kept"))
		}
		row.Cells = append(row.Cells, severalActs(acts...))
	}
	t.Rows = []ui.Row{row}
	return t
}

// sizeText is a number of bytes in the unit in which it is short.
func sizeText(n int64) string {
	for _, unit := range []struct {
		of   int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.of {
			return strings.TrimSuffix(strconv.FormatFloat(float64(n)/float64(unit.of), 'f', 1, 64), ".0") + " " + unit.name
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

func (s *site) loggingPage(r *http.Request, v visitor) (*askedPage, error) {
	t, err := s.trainOf(r, v, identity.TrainWrite)
	if err != nil {
		return nil, err
	}
	l, err := s.Trains.Logging(r.Context(), v.Caller, t.ID)
	if err != nil {
		return nil, err
	}
	was := func(name, stored string) string {
		if r.Method == http.MethodPost && r.PostForm.Has(name) {
			return r.PostForm.Get(name)
		}
		return stored
	}
	state := was("enabled", map[bool]string{true: "on", false: "off"}[l.Enabled])
	p := &askedPage{Frame: s.frame(r, v, "Request logging of "+t.Name), Back: trainPath(t.Slug), BackLabel: t.Name, Action: loggingPath(t.Slug), Submit: "Save",
		Lead: "What the agents of this train are asked and what they answer is kept, sealed. Whoever may read it (contents:read) reads all of it but for what looks like a secret, and each reading goes on record.",
		Choices: []ui.Choice{{Name: "enabled", Label: "Prompts and answers", Options: []ui.Option{
			{Value: "off", Label: "are not kept", Chosen: state != "on"}, {Value: "on", Label: "are kept", Chosen: state == "on"}}}},
		Hidden: v.hidden(ui.Hidden{Name: "if_match", Value: l.ETag()})}
	if v.may(identity.ContentRead) {
		p.Hidden = v.proving(ui.Hidden{Name: "if_match", Value: l.ETag()})
		p.Inputs = []ui.Field{
			{Name: "max_bytes", Label: "Bytes of each request and answer", Type: "number", Min: "1024", Value: was("max_bytes", strconv.FormatInt(l.MaxBytes, 10)), Hint: "Of what is longer the beginning and the end are kept. At most 1048576."},
			{Name: "retention_days", Label: "Days until it is deleted", Type: "number", Min: "1", Value: was("retention_days", strconv.FormatInt(l.RetentionDays, 10)), Hint: "At most 90."},
			{Name: "total_bytes", Label: "Bytes that all of it may take up", Type: "number", Min: "1048576", Value: was("total_bytes", strconv.FormatInt(l.TotalBytes, 10)), Hint: "Beyond that the oldest is deleted first."}}
	} else {
		p.Choices[0].Hint = "You can switch it off; only administrators can switch it on."
	}
	return p, nil
}

func (s *site) loggingForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.loggingPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

func (s *site) loggingChange(w http.ResponseWriter, r *http.Request, v visitor) {
	slug, f := r.PathValue("train"), r.PostForm
	var patch contents.Patch
	var err error
	if f.Has("enabled") {
		on := f.Get("enabled") == "on"
		patch.Enabled = &on
	}
	wrong := fault.New(fault.Unprocessable, "validation_failed", "The settings of request logging are not usable as they are.")
	for name, to := range map[string]**int64{"max_bytes": &patch.MaxBytes, "retention_days": &patch.RetentionDays, "total_bytes": &patch.TotalBytes} {
		if !f.Has(name) {
			continue
		}
		n, nan := strconv.ParseInt(strings.TrimSpace(f.Get(name)), 10, 64)
		if nan != nil {
			err = wrong.With("/"+name, "must be a whole number")
		}
		*to = &n
	}
	if err == nil {
		_, err = s.Trains.PutLogging(r.Context(), v.Caller, slug, patch, f.Get("if_match"))
	}
	s.settled(w, r, v, err, trainPath(slug)+"?done=kept", loggingPath(slug), func(f *fault.Error) {
		p, err := s.loggingPage(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.again(w, r, f, p)
	})
}

func (s *site) purgeForm(w http.ResponseWriter, r *http.Request, v visitor) {
	t, err := s.trainOf(r, v, identity.TrainWrite)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Delete what is kept of "+t.Name), t.Name, ui.Confirm{
		Lead: "Prompts and answers that this train has kept are deleted at once.", Touches: []string{"Nobody can read them again.", "Usage and the audit log stay as they are."},
		Action: loggingPath(t.Slug, "purge"), Submit: "Delete them", Back: trainPath(t.Slug), Hidden: v.proving(),
	}))
}

func (s *site) purge(w http.ResponseWriter, r *http.Request, v visitor) {
	here := trainPath(r.PathValue("train"))
	_, err := s.Trains.PurgeContents(r.Context(), v.Caller, r.PathValue("train"))
	s.settled(w, r, v, err, here+"?done=purged", here, nil)
}

// contentPage shows what an agent was asked and answered in one request.
type contentPage struct {
	ui.Frame
	Request string
	Parts   []keptPart
	Note    string
}

// keptPart is a text that was kept.
type keptPart struct{ ID, Title, Text string }

func (s *site) contentPage(w http.ResponseWriter, r *http.Request, v visitor) {
	id := r.PathValue("id")
	c, err := s.Trains.Content(r.Context(), v.Caller, id)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	reader := s.reader(r)
	s.show(w, r, http.StatusOK, contentView(&contentPage{Frame: s.frame(r, v, "What was asked and answered"), Request: id, Note: c.Note, Parts: []keptPart{
		{"asked", "Asked, " + reader.Number(c.RequestBytes) + " bytes", c.Request}, {"answered", "Answered, " + reader.Number(c.ResponseBytes) + " bytes", c.Response}}}))
}
