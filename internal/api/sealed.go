package api

import (
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
)

// Sealed lists what the API keeps under data keys. Not in it is the keyed hash of a request with an Idempotency-Key, since the request is not
// kept: where its data key is gone, the same request sent again is told that it was carried out, and not the answer.
func Sealed() []keyring.Place {
	return []keyring.Place{keyring.Sealed("idempotency_keys", "answer", ringPurpose, "id", "", "", func(row keyring.Row) (secret.AAD, error) {
		return answerAAD(row.ID), nil
	})}
}
