package web

import (
	"context"
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web/ui"
)

// recorded searches the audit log for what was done to a credential, and records that it was read, as the API does.
func (s *site) recorded(ctx context.Context, v visitor, id string, q audit.Query) (audit.Page, error) {
	target := store.Target{Kind: "credential", ID: id}
	if err := s.readsLog(ctx, v, target); err != nil {
		return audit.Page{}, err
	}
	q.Target = id
	page, err := s.Audit.Search(ctx, q)
	if err != nil {
		return page, err
	}
	return page, s.Audit.RecordRead(ctx, v.Event(store.AuditRead, target), "search", len(page.Events))
}

// credentialRecord lists what was done to a credential.
func (s *site) credentialRecord(w http.ResponseWriter, r *http.Request, v visitor) {
	var page audit.Page
	p, err := s.credentialFrame(r, v, "record")
	if err == nil {
		page, err = s.recorded(r.Context(), v, p.One.ID, audit.Query{Limit: pageSize, Cursor: r.URL.Query().Get("cursor")})
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	t := ui.Table{ID: "record", Caption: "What was done to this credential, the newest first", Columns: []ui.Column{{Label: "When"}, {Label: "Who"}, {Label: "What"}, {Label: "Outcome"}, {Label: "Reason"}, {Label: "Details"}},
		Empty: ui.Empty{Text: "Nothing was found on this page of the record.", Command: "signalbox audit search --target " + p.One.ID}}
	for _, e := range page.Events {
		t.Rows = append(t.Rows, ui.Row{ID: e.ID, Name: string(e.Action), Cells: []templ.Component{
			ui.When(p.Reader, e.At), ui.Text(actorText(e)), ui.Code(string(e.Action)), outcomeBadge(e.Outcome), ui.Text(e.Reason), ui.Faint(detailText(e)),
		}})
	}
	here := credentialPath(p.One.ID, "record")
	if r.URL.Query().Get("cursor") != "" {
		t.First = here
	}
	if page.Next != "" {
		t.Next = here + "?cursor=" + page.Next
	}
	p.Lists = []ui.Table{t}
	s.show(w, r, http.StatusOK, credentialListView(p))
}

func actorText(e store.Event) string {
	if e.Actor.Name != "" {
		return e.Actor.Name
	}
	if e.Actor.ID != "" {
		return e.Actor.ID
	}
	return e.Actor.Kind
}

func detailText(e store.Event) string {
	var parts []string
	if len(e.Fields) > 0 {
		parts = append(parts, strings.Join(e.Fields, ", "))
	}
	for _, d := range e.Details {
		parts = append(parts, strings.ReplaceAll(d.Key, "_", " ")+" "+d.Text())
	}
	return strings.Join(parts, "; ")
}

// refreshFacts says how the refreshing of an OAuth credential stands and, to whoever may read the record, draws what became of the last calls.
func (s *site) refreshFacts(r *http.Request, v visitor, p *credentialPage) error {
	p.Again = p.One.Provider != "" && p.One.OAuth.TokenEndpoint == "" && p.One.OAuth.GrantType == ""
	p.Refresh = []ui.Fact{{Term: "Health", Value: healthBadge(p.One.Health)}, {Term: "Access token ends", Value: ui.WhenOr(p.Reader, p.One.OAuth.ExpiresAt, "not told")}}
	if s.OAuth != nil {
		c, err := s.OAuth.Connection(r.Context(), v.Caller, p.One.ID)
		if err != nil {
			return err
		}
		p.Refreshes = c.Refreshes
		p.Refresh = append(p.Refresh, ui.Fact{Term: "Last refreshed", Value: ui.WhenOr(p.Reader, c.RefreshedAt, "never")}, ui.Fact{Term: "Last call", Value: ui.WhenOr(p.Reader, c.AttemptedAt, "none yet")})
		if c.Failures > 0 {
			p.Refresh = append(p.Refresh, ui.Fact{Term: "Failures in a row", Value: ui.Text(p.Reader.Number(int64(c.Failures)))}, ui.Fact{Term: "What came back", Value: ui.Code(c.Code)})
		}
		if c.RetryAt != nil {
			p.Refresh = append(p.Refresh, ui.Fact{Term: "Next call", Value: ui.When(p.Reader, *c.RetryAt)})
		}
		if !c.Refreshes {
			p.Refresh = append(p.Refresh, ui.Fact{Term: "Refreshing", Value: ui.Text("nothing can refresh it: it has no refresh token, or no provider")})
		}
	}
	if !v.may(identity.AuditRead) {
		return nil
	}
	page, err := s.recorded(r.Context(), v, p.One.ID, audit.Query{Action: store.OAuthRefresh, From: refreshBegin(p.Reader), Limit: 1000})
	if err != nil {
		return err
	}
	p.Chart = refreshChartOf(p.Reader, refreshCalls(page.Events))
	return nil
}

func (p *credentialPage) refreshActs() (acts []templ.Component) {
	if p.May.Manage && p.Refreshes {
		acts = append(acts, ui.OneButton(credentialPath(p.One.ID, "refresh"), ui.Button{Label: "Refresh now", Kind: ui.Plain}, p.Hidden...))
	}
	return acts
}

// refreshNow has the tokens refreshed because a person wants it, which also ends a cool-down.
func (s *site) refreshNow(w http.ResponseWriter, r *http.Request, v visitor) {
	id := r.PathValue("id")
	err := error(fault.New(fault.NotFound, "not_found", "This instance refreshes nothing."))
	if s.OAuth != nil {
		_, err = s.OAuth.Refresh(r.Context(), v.Caller, id)
	}
	s.settled(w, r, v, err, credentialPath(id)+"?done=refreshed", credentialPath(id), nil)
}
