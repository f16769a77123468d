package web

import (
	"strconv"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/web/ui"
)

// windowTable lists how far limits are used. Its rows are headed by what the page calls them.
func windowTable(first, caption string) ui.Table {
	return ui.Table{
		ID: "windows", Caption: caption, Live: "windows train",
		Columns: []ui.Column{{Label: first}, {Label: "Used"}, {Label: "Others first from"}, {Label: "Begins anew"}, {Label: "Said"}},
		Empty:   ui.Empty{Text: "No upstream has said yet how far a limit is used, or all have begun anew. It is read from answers, never asked for."},
	}
}

// windowRows adds the windows of one account.
func windowRows(reader ui.Reader, t *ui.Table, id, prefix string, windows []train.Window) {
	for _, w := range windows {
		name := prefix + windowText(w)
		var reset templ.Component = ui.Faint("not said")
		if !w.Reset.IsZero() {
			reset = ui.When(reader, w.Reset)
		}
		t.Rows = append(t.Rows, ui.Row{ID: id + "-" + w.Name, Name: name, Cells: []templ.Component{
			ui.Text(name), usedView(name, w), ui.Text(percentText(w.Limit())), reset, ui.When(reader, w.Heard),
		}})
	}
}

// windowText calls a window by a name for people.
func windowText(w train.Window) string {
	switch w.Name {
	case "5h":
		return "five hours"
	case "7d":
		return "week"
	case "requests":
		return "requests of a minute"
	case "tokens":
		return "tokens of a minute"
	case "input-tokens":
		return "input tokens of a minute"
	case "output-tokens":
		return "output tokens of a minute"
	}
	return "window " + w.Name
}

// fullest returns the window that is used furthest; false when none is known.
func fullest(windows []train.Window) (most train.Window, known bool) {
	for _, w := range windows {
		if !known || w.Used > most.Used {
			most, known = w, true
		}
	}
	return most, known
}

func percentText(n int) string { return strconv.Itoa((n+50)/100) + " %" }

// usedTone says how a window stands.
func usedTone(w train.Window) ui.Tone {
	switch {
	case w.Status == "rejected":
		return ui.Bad
	case w.Over():
		return ui.Warn
	}
	return ui.Good
}

// windowWord is what the upstream says beside the figure.
func windowWord(w train.Window) string {
	switch {
	case w.Refused:
		return "requests are refused"
	case w.Status == "rejected":
		return "beyond the plan"
	case w.Over():
		return "other accounts go first"
	}
	return ""
}

// fullestCell is how far an account is used, in one cell.
func fullestCell(reader ui.Reader, windows []train.Window) templ.Component {
	w, known := fullest(windows)
	if !known {
		return ui.Faint("not known")
	}
	text := windowText(w)
	if !w.Reset.IsZero() {
		text += ", anew " + reader.Ago(w.Reset)
	}
	return stateView(usedTone(w), percentText(w.Used), text)
}
