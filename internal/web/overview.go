package web

import "net/http"

// overview is the front page of whoever is signed in.
func (s *site) overview(w http.ResponseWriter, r *http.Request, v visitor) {
	s.show(w, r, http.StatusOK, overviewView(s.frame(r, v, "Overview")))
}
