package web

import (
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/web/ui"
)

// defaultChoice offers the linked accounts as the one that is tried first.
func defaultChoice(links []train.Link, now string) ui.Choice {
	c := ui.Choice{Name: "default_account", Label: "Default account", Hint: "Tried before all others, as long as it can be used.", Options: []ui.Option{{Label: "None", Chosen: now == ""}}}
	for _, l := range links {
		if l.AccountID != "" {
			c.Options = append(c.Options, ui.Option{Value: l.CredentialID, Label: l.Name, Chosen: l.CredentialID == now})
		}
	}
	return c
}
