package web

import (
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// lendingWhy says of a paused or drained account who did it, when and why; of a drained one also what still runs on it.
func lendingWhy(reader ui.Reader, c vault.Credential, stand train.Standing, linked bool) string {
	why := ""
	if linked && stand.State == train.Drained {
		why = stand.Why
	} else if c.Lending.By != "" {
		why = "by " + c.Lending.By
		if c.Lending.Reason != "" {
			why += ": " + c.Lending.Reason
		}
	}
	if c.Lending.Since != nil {
		why += ", " + reader.Ago(*c.Lending.Since)
	}
	return why
}

// lendingText says in words whether an account is lent; where it is shown, the account's page is linked, which has the buttons.
func lendingText(reader ui.Reader, l vault.Lending) string {
	text := "paused"
	switch l.State {
	case vault.Lent:
		return "as usual"
	case vault.Drained:
		text = "drained"
	}
	if l.By != "" {
		text += " by " + l.By
	}
	if l.Since != nil {
		text += ", " + reader.Ago(*l.Since)
	}
	return text
}
