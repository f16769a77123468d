package sink

import (
	"fmt"

	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/store"
)

// Sealed lists what this room keeps under data keys.
func Sealed(ring *keyring.Ring) []keyring.Place {
	return []keyring.Place{{Table: "audit_sinks", ID: "id", N: "secret_version", Columns: []keyring.Column{{Name: "sealed", At: keyring.InEnvelope}},
		Renew: func(tx *store.Tx, row keyring.Row) ([][]byte, error) {
			s, _, err := loadSink(tx, row.ID, "")
			if err != nil {
				return nil, err
			}
			v, err := ring.Open(ringPurpose, row.A, s.aad())
			if err != nil {
				return nil, fmt.Errorf("the secrets of %s: %w", row.ID, err)
			}
			box, err := ring.Seal(ringPurpose, v, s.aad())
			return [][]byte{box}, err
		}}}
}
