package web

import (
	"net/http"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// refused answers a visitor for whom something did not work and no form can be shown again: they may not, it is not there, or it failed.
func (s *site) refused(w http.ResponseWriter, r *http.Request, v visitor, err error) {
	f := fault.Of(err)
	switch f.Kind {
	case fault.Forbidden:
		s.refuse(w, r, f, forbiddenView(s.frame(r, v, "No permission"), f.Detail))
	case fault.NotFound:
		s.refuse(w, r, f, troubleView(s.frame(r, v, "Not found"), f.Detail, ""))
	case fault.Internal, fault.Unavailable:
		s.Log.Error("a page failed", "request_id", requestIDOf(r), "code", f.Code, "cause", f.Unwrap())
		fallthrough
	default:
		s.refuse(w, r, f, troubleView(s.frame(r, v, "That did not work"), f.Detail, requestIDOf(r)))
	}
}

// settled ends a form. When it was done it leads to done. When a proof is wanted first it leads to the step-up and from there to form, the page
// with the form, where it is asked again: what was typed is kept in no address. What can be mended in the form is handed to again, which shows it.
func (s *site) settled(w http.ResponseWriter, r *http.Request, v visitor, err error, done, form string, again func(*fault.Error)) {
	f := fault.Of(err)
	switch {
	case err == nil:
		http.Redirect(w, r, localPath(done), http.StatusSeeOther)
	case f.Code == "step_up_required":
		http.Redirect(w, r, withNext("/step-up", form), http.StatusSeeOther)
	case again != nil && (f.Kind == fault.Unprocessable || f.Kind == fault.Conflict || f.Kind == fault.Precondition):
		again(f)
	default:
		s.refused(w, r, v, err)
	}
}

// announce puts the sentence that an address asks for, one of said, above the page.
func announce(f *ui.Frame, r *http.Request, said map[string]string) {
	if text := said[r.URL.Query().Get("done")]; text != "" {
		f.Flash = append(f.Flash, ui.Flash{Text: text})
	}
}

// unplaced puts what a fault says beside the fields of a form, and returns what it says of others, so that nothing is lost.
func unplaced(f *fault.Error, fields []ui.Field) string { return mark(f, fields) }
