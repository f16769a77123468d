package notify

import (
	"fmt"

	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Sealed lists what this room keeps under data keys.
func Sealed(ring *keyring.Ring) []keyring.Place {
	return []keyring.Place{{Table: "notify_channels", ID: "id", N: "secret_version", Columns: []keyring.Column{{Name: "sealed", At: keyring.InEnvelope}},
		Renew: func(tx *store.Tx, row keyring.Row) ([][]byte, error) {
			c, _, err := loadChannel(tx, row.ID, "")
			if err != nil {
				return nil, err
			}
			// Not by way of what is in it: what this version cannot read stays as it is.
			v, err := ring.Open(ringPurpose, row.A, c.aad())
			if err != nil {
				return nil, fmt.Errorf("the secrets of %s: %w", row.ID, err)
			}
			box, err := ring.Seal(ringPurpose, v, c.aad())
			return [][]byte{box}, err
		}}, keyring.Sealed("notify_contents", "sealed", ringPurpose, "message_id", "", "", func(row keyring.Row) (secret.AAD, error) { return talkAAD(row.ID), nil })}
}
