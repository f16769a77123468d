package oauth

import "signalbox.dev/signalbox/internal/secret"

// Sealer is the part of the keyring that is needed.
type Sealer interface {
	Seal(purpose string, v secret.Value, aad secret.AAD) ([]byte, error)
	Open(purpose string, sealed []byte, aad secret.AAD) (secret.Value, error)
}
