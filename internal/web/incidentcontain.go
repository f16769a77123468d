package web

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/web/ui"
)

// containNew is the page that contains something for which there is no incident yet.
const containNew = "/incidents/~contain"

// routeContain names the pages that contain an incident, or something for which the act opens one. A dry run can stand in an address; the pages ask for it by a form, since
// a scope may be longer than an address can be. The act is a form.
func (s *site) routeContain(mux *http.ServeMux) {
	for _, path := range []string{containNew, "/incidents/{id}/contain"} {
		mux.HandleFunc("GET "+path, s.signedIn(s.needing(identity.IncidentWrite, s.needing(identity.KeyWrite, s.fresh(s.containForm)))))
		mux.HandleFunc("POST "+path, s.submittedUpTo(maxSecretForm, s.contain))
		mux.HandleFunc("POST "+path+"/prove", s.submittedUpTo(maxSecretForm, s.containProve))
	}
}

// containPage chooses a scope, and shows what containing it would do.
type containPage struct {
	ui.Frame
	Here, Back, BackLabel, Alert string
	Asking                       []ui.Hidden
	// Said and Kinds are what is said of an incident that the act opens; of one that there is there is nothing to say.
	Said            []ui.Field
	Kinds           []ui.Choice
	Linked, Options []ui.Choice
	Inputs          []ui.Field
	// Looked says that a scope was chosen: Sum says in one line what would be done, Table what exactly, and Offer is the label of the button that does it; ""
	// when something stands in the way.
	Looked     bool
	Sum, Offer string
	Warnings   []string
	Table      ui.Table
	Note       ui.Field
	Hidden     []ui.Hidden
}

// containPart is one kind of thing that can be contained, with what a visitor needs for it beside incidents:write and keys:write.
type containPart struct {
	kind              incident.LinkKind
	name, label, hint string
	needs             identity.Permission
}

func containParts() []containPart {
	return []containPart{
		{incident.OfTrain, "train_ids", "Trains", "All of their client keys are revoked.", identity.KeyWrite},
		{incident.OfKey, "key_ids", "Client keys", "They are revoked.", identity.KeyWrite},
		{incident.OfCredential, "credential_ids", "Credentials", "They are marked as compromised and lent to nobody, and an OAuth grant is ended at its provider, or they are rotated: see below.", identity.CredentialWrite},
		{incident.OfPerson, "user_ids", "People", "Their sessions end and their tokens are revoked.", identity.UserWrite},
		{incident.OfServiceAccount, "service_account_ids", "Service accounts", "Their tokens are revoked.", identity.ServiceWrite},
	}
}

// chosen are the ids of a part: those that were ticked, and those that were typed.
func (c containPart) chosen(form url.Values) []string {
	var out []string
	for _, text := range slices.Concat(form[c.name], split(form.Get("more_"+c.name))) {
		if id := strings.TrimSpace(text); id != "" && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

func containScope(form url.Values) incident.Scope {
	ids := map[incident.LinkKind][]string{}
	for _, part := range containParts() {
		ids[part.kind] = part.chosen(form)
	}
	return incident.Scope{Trains: ids[incident.OfTrain], ClientKeys: ids[incident.OfKey], Credentials: ids[incident.OfCredential], People: ids[incident.OfPerson], ServiceAccounts: ids[incident.OfServiceAccount],
		Deactivate: form.Get("deactivate") != "", Treat: incident.Treatment(form.Get("credentials"))}
}

// containDraft is what a form says of an incident that the act opens.
func containDraft(form url.Values) incident.Draft {
	return incident.Draft{Meta: incident.Meta{Title: strings.TrimSpace(form.Get("title")), Type: incident.Type(form.Get("incident_type")), Severity: incident.Severity(form.Get("severity"))}}
}

// containChosen is what a form has chosen, and nothing else of it.
func containChosen(form url.Values) url.Values {
	out := url.Values{}
	for _, part := range containParts() {
		if ids := part.chosen(form); len(ids) > 0 {
			out[part.name] = ids
		}
	}
	for _, name := range []string{"deactivate", "credentials", "title", "incident_type", "severity"} {
		if value := form.Get(name); value != "" {
			out.Set(name, value)
		}
	}
	return out
}

// scopeQuery is the address of what was chosen; of what is too long for an address to come back to, that of the page.
func scopeQuery(here string, form url.Values) string {
	q := containChosen(form)
	q.Set("look", "yes")
	if to := here + "?" + q.Encode(); localPath(to) == to {
		return to
	}
	return here
}

// containPage is the page of a scope; without one everything that is linked is ticked that the visitor may contain. Without an incident the act opens one.
func (s *site) containPage(r *http.Request, v visitor, i *incident.Incident, form url.Values) *containPage {
	p := &containPage{Here: containNew, Back: "/incidents", BackLabel: "Incidents", Asking: v.proving(), Looked: form.Get("look") != ""}
	title, links := "Contain now", []incident.Link(nil)
	if i != nil {
		p.Back, p.BackLabel = under("/incidents", i.ID), i.Title
		p.Here, title, links = p.Back+"/contain", "Contain "+i.Title, i.Links
	} else {
		p.Said = []ui.Field{{Name: "title", Label: "Title", Value: form.Get("title"), MaxLength: 200, Autocomplete: "off", Optional: true, Hint: "Of the incident that is opened. It names what is contained where it is left out, and stands in notifications and in the audit log: no secret belongs into it."}}
		d := containDraft(form)
		p.Kinds = incidentChoices(cmp.Or(d.Severity, incident.High), cmp.Or(d.Type, incident.CredentialLeak))
	}
	p.Frame = s.frame(r, v, title)
	for _, part := range containParts() {
		if !v.may(part.needs) {
			continue
		}
		chosen, linked := part.chosen(form), ui.Choice{Name: part.name, Label: part.label + " that are linked", Hint: part.hint, Multiple: true}
		for _, l := range links {
			if l.Kind != part.kind {
				continue
			}
			linked.Options = append(linked.Options, ui.Option{Value: l.ID, Label: cmp.Or(l.Name, l.ID), Chosen: !p.Looked || slices.Contains(chosen, l.ID)})
			chosen = slices.DeleteFunc(chosen, func(id string) bool { return id == l.ID })
		}
		more := ui.Field{Name: "more_" + part.name, Label: "Other " + strings.ToLower(part.label), Value: strings.Join(chosen, ", "), MaxLength: 4000, Autocomplete: "off", Optional: true, Hint: "Their ids, separated by commas. " + part.hint}
		if len(linked.Options) > 0 {
			p.Linked = append(p.Linked, linked)
			more.Hint = "Their ids, separated by commas."
		} else if i == nil {
			more.Label = part.label
		}
		p.Inputs = append(p.Inputs, more)
		if part.kind == incident.OfCredential {
			p.Options = append(p.Options, ui.Choice{Name: "credentials", Label: "What becomes of the credentials", Options: []ui.Option{{Label: "disable them: they are lent to nobody"},
				{Value: string(incident.Rotate), Label: "rotate them: where their provider gives new tokens they go on being lent", Chosen: form.Get("credentials") == string(incident.Rotate)}},
				Hint: "What Signalbox cannot renew by itself is disabled either way; rotating makes it due to be rotated at once as well."})
		}
		if part.kind == incident.OfPerson {
			p.Options = append(p.Options, ui.Choice{Name: "deactivate", Label: "And the people", Multiple: true, Options: []ui.Option{{Value: "yes", Label: "deactivate them, so that they cannot sign in anew", Chosen: form.Get("deactivate") != ""}}})
		}
	}
	return p
}

func containWord(act incident.StepAct) string {
	return map[incident.StepAct]string{
		incident.EndSession: "end the session", incident.RevokeToken: "revoke the token", incident.Deactivate: "deactivate the person", incident.MarkCompromise: "mark as compromised",
		incident.RevokeUpstream: "end the grant at its provider", incident.RevokeKey: "revoke the client key", incident.Leave: "leave as it is", incident.Advance: "move the incident",
		incident.OpenNew: "open an incident", incident.RefreshTokens: "replace the tokens at their provider", incident.RotateDue: "make it due to be rotated at once",
	}[act]
}

// planned puts a plan on the page.
func (p *containPage) planned(reader ui.Reader, v visitor, form url.Values, plan incident.Plan) {
	counts := map[incident.StepAct]int{}
	var order []incident.StepAct
	p.Table = ui.Table{ID: "steps", Caption: "Every step, in order", Columns: []ui.Column{{Label: "Act"}, {Label: "Name"}, {Label: "What"}, {Label: "Of, or to"}, {Label: "Id"}}, Empty: ui.Empty{Text: "There is nothing to do."}}
	for n, step := range plan.Steps {
		if counts[step.Act] == 0 {
			order = append(order, step.Act)
		}
		counts[step.Act]++
		p.Table.Rows = append(p.Table.Rows, ui.Row{ID: "step-" + strconv.Itoa(n), Cells: []templ.Component{ui.Text(cmp.Or(containWord(step.Act), string(step.Act))), ui.Text(cmp.Or(step.Name, step.ID)),
			ui.Text(incidentWord(step.Kind)), ui.Text(step.Of), ui.Code(step.ID)}})
	}
	var sums []string
	for _, act := range order {
		sums = append(sums, cmp.Or(containWord(act), string(act))+": "+reader.Number(int64(counts[act])))
	}
	p.Sum = "Nothing."
	if len(sums) > 0 {
		p.Sum = reader.Count(len(plan.Steps), "step") + ". " + strings.Join(sums, "; ") + "."
		p.Offer = "Do exactly this"
	}
	for _, warning := range plan.Warnings {
		p.Warnings = append(p.Warnings, warning.Detail)
	}
	p.Note = ui.Field{Name: "note", Label: "Why", Value: form.Get("note"), Rows: 2, MaxLength: 4000, Autocomplete: "off", Optional: true, Hint: "It stands in the timeline, for everybody who may read incidents: no secret belongs into it."}
	p.Hidden = v.proving(append(hiddenOf(containChosen(form)), ui.Hidden{Name: "plan", Value: plan.Tag})...)
}

func hiddenOf(form url.Values) (out []ui.Hidden) {
	for _, name := range slices.Sorted(maps.Keys(form)) {
		for _, value := range form[name] {
			out = append(out, ui.Hidden{Name: name, Value: value})
		}
	}
	return out
}

// containShow shows the page of a scope, with its dry run as it is now, and what was wrong before.
func (s *site) containShow(w http.ResponseWriter, r *http.Request, v visitor, form url.Values, wrong *fault.Error) {
	var i *incident.Incident
	id := r.PathValue("id")
	if id != "" {
		one, err := s.Incidents.Get(r.Context(), v.Caller, id)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		i = &one
	}
	p := s.containPage(r, v, i, form)
	if wrong != nil {
		p.Alert = wrong.Detail + problemsOf(wrong)
	}
	if p.Looked {
		var plan incident.Plan
		var err error
		if i != nil {
			plan, err = s.Incidents.Plan(r.Context(), v.Caller, id, containScope(form))
		} else {
			plan, err = s.Incidents.PlanNew(r.Context(), v.Caller, containDraft(form), containScope(form))
		}
		f := fault.Of(err)
		switch {
		case err == nil:
			p.planned(s.reader(r), v, form, plan)
		case f.Kind == fault.Unprocessable || f.Kind == fault.Conflict:
			p.Looked, p.Alert, wrong = false, f.Detail+problemsOf(f), f
		default:
			s.refused(w, r, v, err)
			return
		}
	}
	if wrong != nil {
		s.refuse(w, r, wrong, containView(p))
		return
	}
	s.show(w, r, http.StatusOK, containView(p))
}

// problemsOf says what is wrong with which part of a scope, or of the incident that is opened.
func problemsOf(f *fault.Error) string {
	var out strings.Builder
	for _, field := range f.Fields {
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(field.Pointer, "/scope/"), "/incident/"), "/")
		for _, part := range containParts() {
			if part.name == name {
				name = part.label
			}
		}
		out.WriteString(" " + incidentWord(strings.TrimPrefix(name, "/")) + ": " + field.Message + ".")
	}
	return out.String()
}

func (s *site) containForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.containShow(w, r, v, r.URL.Query(), nil)
}

// contain shows the dry run of what was chosen, or does exactly what the page has shown, or nothing: where things changed since, the page shows what they are now.
func (s *site) contain(w http.ResponseWriter, r *http.Request, v visitor) {
	form, id, here := r.PostForm, r.PathValue("id"), containNew
	if id != "" {
		here = under("/incidents", id) + "/contain"
	}
	if form.Get("look") != "" {
		if err := identity.RequireFresh(v.Caller, time.Now()); err != nil {
			s.containUnproven(w, r, v, here, err)
			return
		}
		s.containShow(w, r, v, form, nil)
		return
	}
	tag := form.Get("plan")
	if tag == "" || strings.ContainsAny(tag, "*,") { // no plan, or any: nothing was seen
		tag = `"none"`
	}
	note := strings.ReplaceAll(form.Get("note"), "\r\n", "\n")
	var i incident.Incident
	var err error
	if id != "" {
		i, _, err = s.Incidents.Contain(r.Context(), v.Caller, id, containScope(form), tag, note)
	} else {
		i, _, err = s.Incidents.ContainNew(r.Context(), v.Caller, containDraft(form), containScope(form), tag, note)
	}
	if err != nil && fault.Of(err).Code == "step_up_required" {
		s.containUnproven(w, r, v, here, err)
		return
	}
	s.settled(w, r, v, err, under("/incidents", i.ID)+"?done=contained", here, func(f *fault.Error) {
		form.Set("look", "yes")
		s.containShow(w, r, v, form, f)
	})
}

// containUnproven leads to the step-up and back to what was chosen. What is too long for the address to come back to, and a note, which belongs into none, goes through a page
// of its own, as a form: that is of browsers without JavaScript alone, since a script asks for the proof before the form is sent.
func (s *site) containUnproven(w http.ResponseWriter, r *http.Request, v visitor, here string, err error) {
	if to := scopeQuery(here, r.PostForm); to != here && r.PostForm.Get("note") == "" {
		s.settled(w, r, v, err, "", to, nil)
		return
	}
	p, err := s.containProof(r, v, here)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, proveView(p))
}

// containProof is the step-up of a form that carries what was chosen.
func (s *site) containProof(r *http.Request, v visitor, here string) (*provePage, error) {
	kept := containChosen(r.PostForm)
	if note := r.PostForm.Get("note"); note != "" {
		kept.Set("note", note)
	}
	r.PostForm.Set("next", here)
	p, err := s.stepUpPage(r, v)
	if err != nil {
		return nil, err
	}
	p.Lead = "What you are about to do needs a proof that it is still you. What you chose is kept meanwhile, and its dry run shown again."
	if p.Passkey != nil || len(p.Ways) > 0 {
		p.Lead += " After a passkey or another provider's sign-in it is to be chosen anew."
	}
	p.Action, p.Hidden = here+"/prove", v.hidden(hiddenOf(kept)...)
	return p, nil
}

// containProve takes the proof, and shows the dry run of what was chosen.
func (s *site) containProve(w http.ResponseWriter, r *http.Request, v visitor) {
	here := strings.TrimSuffix(r.URL.EscapedPath(), "/prove")
	in, err := s.provenBy(r, v)
	p, wrong := s.containProof(r, v, here)
	if wrong != nil {
		s.fail(w, r, wrong)
		return
	}
	s.provedTo(w, r, in, err, func() *provePage { return p }, func() {
		v.cookie = in.Cookie().Value // the forms of the page that follows are of the session as it is now
		r.PostForm.Set("look", "yes")
		s.containShow(w, r, v, r.PostForm, nil)
	})
}
