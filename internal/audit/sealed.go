package audit

import (
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
)

// Sealed lists what the log keeps under data keys.
func Sealed() []keyring.Place {
	return []keyring.Place{keyring.Sealed("audit_signers", "sealed", signerPurpose, "id", "", "", func(row keyring.Row) (secret.AAD, error) {
		return signerRow{ID: row.ID}.aad(), nil
	})}
}
