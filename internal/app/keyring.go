package app

import (
	"slices"

	"signalbox.dev/signalbox/internal/api"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
)

// sealed is the table of everything that lies under data keys.
func (a *App) sealed() []keyring.Place {
	return slices.Concat(identity.Sealed(), audit.Sealed(), a.sinks.Sealed(), a.notify.Sealed(), a.vault.Sealed(), a.oauth.Sealed(), a.logins.Sealed(), api.Sealed())
}
