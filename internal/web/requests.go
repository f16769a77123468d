package web

import (
	"net/http"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web/ui"
)

// requestsPart is what was lent in the last 24 hours, by the hours.
type requestsPart struct {
	Reader                     ui.Reader
	Requests, Attempts, Failed int64
	Points, Wrong              []ui.Point
	// Missing is how many of the hours are still being counted.
	Missing int
}

func (s *site) requestsPart(r *http.Request) (*requestsPart, error) {
	day, err := s.Audit.Lately(r.Context())
	if err != nil {
		return nil, err
	}
	p := &requestsPart{Reader: s.reader(r), Missing: len(day.Hours) - day.Counted}
	for _, h := range day.Hours[p.Missing:] {
		label := h.Begin.Format("02 Jan, 15:00") + "–" + h.Begin.Add(hourLong).Format("15:00 UTC")
		p.Points = append(p.Points, ui.Point{Label: label, Value: h.Requests})
		p.Wrong = append(p.Wrong, ui.Point{Label: label, Value: h.Failed, Tone: ui.Bad})
		p.Requests, p.Attempts, p.Failed = p.Requests+h.Requests, p.Attempts+h.Attempts, p.Failed+h.Failed
	}
	return p, nil
}

// requestsNow is the part alone, for a page that reads it again.
func (s *site) requestsNow(w http.ResponseWriter, r *http.Request, v visitor) {
	err := s.Identity.Permit(r.Context(), v.Caller, identity.MetricsRead, store.Target{Kind: "metrics"})
	var p *requestsPart
	if err == nil {
		p, err = s.requestsPart(r)
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, requestsView(p))
}
