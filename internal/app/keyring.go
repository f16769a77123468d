package app

import (
	"slices"

	"signalbox.dev/signalbox/internal/api"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/contents"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/sink"
	"signalbox.dev/signalbox/internal/vault"
)

// sealed is the table of everything that lies under data keys: a change of the data key moves all of it, and a check of a backup opens all of it.
func sealed(ring *keyring.Ring, safe *vault.Room, logins *oauth.Logins) []keyring.Place {
	return slices.Concat(identity.Sealed(), audit.Sealed(), sink.Sealed(ring), notify.Sealed(ring), contents.Sealed(), safe.Sealed(), oauth.Sealed(safe), logins.Sealed(), api.Sealed())
}
