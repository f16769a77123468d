package web

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/web/ui"
)

func keyTable(reader ui.Reader, p *trainPage, keys []identity.Key) ui.Table {
	t := ui.Table{
		ID: "key-list", Caption: "Client keys: what agents of this train sign in with", Live: "key",
		Columns: []ui.Column{{Label: "Name"}, {Label: "Key"}, {Label: "State"}, {Label: "Last used"}, {Label: "Made"}, {Label: "Ends"}, {Label: "Limits"}},
		Empty:   ui.Empty{Text: "There is no client key yet, so no agent can use this train.", Command: "signalbox key issue " + p.Train.Slug + " --name laptop"},
	}
	if p.Issue {
		t.Empty.Label, t.Empty.Href, t.Empty.Dialog = "Issue a client key", trainPath(p.Train.Slug, "keys", "new"), true
		t.Columns = append(t.Columns, ui.Column{Label: "Revoke", Unseen: true})
	}
	if p.Radius {
		t.Columns = append(t.Columns, ui.Column{Label: "Blast radius", Unseen: true})
	}
	for _, k := range keys {
		row := ui.Row{ID: k.ID, Name: k.Name, Cells: []templ.Component{
			ui.Text(k.Name), ui.Code(k.Preview), keyBadge(k.Status), ui.WhenOr(reader, k.LastUsedAt, "never"), ui.When(reader, k.CreatedAt), keyEnds(reader, k), keyLimits(p, k),
		}}
		if p.Issue {
			revoke := ui.Text("")
			if k.Status != identity.StatusRevoked {
				revoke = ui.DialogLink("Revoke", trainPath(p.Train.Slug, "keys", k.ID, "revoke"), "Revoke "+k.Name)
			}
			row.Cells = append(row.Cells, revoke)
		}
		if p.Radius {
			row.Cells = append(row.Cells, smallLink("Who used what", radiusPath(k.ID), "Who used what: blast radius of "+k.Name))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func keyBadge(s identity.Status) templ.Component {
	switch s {
	case identity.StatusActive:
		return ui.Badge(ui.Good, "active")
	case identity.StatusExpired:
		return ui.Badge(ui.Warn, "expired")
	}
	return ui.Badge(ui.Idle, "revoked")
}

func (s *site) keyPage(r *http.Request, v visitor, name, days string) (*askedPage, error) {
	t, err := s.trainOf(r, v, identity.KeyWrite)
	if err != nil {
		return nil, err
	}
	return &askedPage{Frame: s.frame(r, v, "Issue a client key"), Back: trainPath(t.Slug), BackLabel: t.Name, Action: trainPath(t.Slug, "keys"), Submit: "Issue the key", Hidden: v.hidden(),
		Lead: "An agent that has the key may be lent what the train " + t.Slug + " has.",
		Inputs: []ui.Field{
			{Name: "name", Label: "Name", Value: name, MaxLength: 100, Autocomplete: "off", Focus: true, Hint: "Who or what will use it, such as a machine."},
			{Name: "days", Label: "Ends after days", Type: "number", Value: days, Min: "1", Max: "3650", Optional: true, Hint: "Never when it is left out."},
		}}, nil
}

func (s *site) keyForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.keyPage(r, v, "", "")
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

// keyIssue issues a key and shows it, this once.
func (s *site) keyIssue(w http.ResponseWriter, r *http.Request, v visitor) {
	slug := r.PathValue("train")
	draft := identity.KeyDraft{Name: r.PostForm.Get("name")}
	var err error
	if days := r.PostForm.Get("days"); days != "" {
		n, bad := strconv.Atoi(days)
		if bad != nil || n < 1 || n > 3650 {
			err = fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With("/days", "must be 1 to 3650")
		}
		ends := time.Now().Add(time.Duration(n) * 24 * time.Hour)
		draft.ExpiresAt = &ends
	}
	if err == nil {
		key, value, issued := s.Trains.IssueKey(r.Context(), v.Caller, slug, draft)
		if err = issued; err == nil {
			text := value.Reveal()
			s.show(w, r, http.StatusOK, keyOnceView(keyOnce{Frame: s.frame(r, v, "A client key of "+slug), Connect: s.connectOf(r, cmp.Or(key.TrainSlug, slug), text), Once: ui.Once{
				ID: "client-key", Label: key.Name, Secret: text, Lead: "Programs send this key in place of a provider's.", Done: trainPath(slug),
			}}))
			return
		}
	}
	s.settled(w, r, v, err, "", trainPath(slug, "keys", "new"), func(f *fault.Error) {
		p, err := s.keyPage(r, v, r.PostForm.Get("name"), r.PostForm.Get("days"))
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		s.again(w, r, f, p)
	})
}

func (s *site) keyRevokeForm(w http.ResponseWriter, r *http.Request, v visitor) {
	t, err := s.trainOf(r, v, identity.KeyWrite)
	var k identity.Key
	if err == nil {
		k, err = s.Trains.GetKey(r.Context(), v.Caller, t.ID, r.PathValue("key"))
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	used := "It was never used."
	if k.LastUsedAt != nil {
		used = "It was last used " + s.reader(r).Ago(*k.LastUsedAt) + "."
	}
	s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Revoke "+k.Name), t.Name, ui.Confirm{
		Lead:    "The client key " + k.Name + " stops working at once and for good.",
		Touches: []string{"Every agent that has it is refused, and its open uses are cut.", used},
		Action:  trainPath(t.Slug, "keys", k.ID, "revoke"), Submit: "Revoke the key", Back: trainPath(t.Slug), Hidden: v.hidden(),
	}))
}

func (s *site) keyRevoke(w http.ResponseWriter, r *http.Request, v visitor) {
	here := trainPath(r.PathValue("train"))
	_, err := s.Trains.RevokeKey(r.Context(), v.Caller, r.PathValue("train"), r.PathValue("key"), "")
	s.settled(w, r, v, err, here+"?done=revoked", here, nil)
}
