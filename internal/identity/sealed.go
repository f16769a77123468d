package identity

import (
	"encoding/json"
	"errors"

	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
)

// Sealed lists what this room keeps under data keys. Not in it are the keyed hashes by which guesses are counted and familiar addresses known:
// what was hashed is not kept, so they end with their data key, and counting begins anew under the next.
func Sealed() []keyring.Place {
	return []keyring.Place{
		keyring.Sealed("totp_secrets", "sealed", totpPurpose, "user_id", "", "", func(row keyring.Row) (secret.AAD, error) {
			return totpPlace(row.ID), nil
		}),
		keyring.Sealed("passkeys", "sealed", passkeyPurpose, "id", "", "user_id", func(row keyring.Row) (secret.AAD, error) {
			return passkeyPlace(passkeyRow{ID: row.ID, UserID: row.Text}), nil
		}),
		keyring.Sealed("jwt_keys", "sealed", signingPurpose, "id", "", "state", func(row keyring.Row) (secret.AAD, error) {
			return signingKeyRow{ID: row.ID, State: row.Text}.aad(), nil
		}),
		keyring.Sealed("jwt_issuers", "sealed", issuerPurpose, "id", "version", "", func(row keyring.Row) (secret.AAD, error) {
			return issuerRow{ID: row.ID, Version: row.N}.aad(), nil
		}),
		keyring.Sealed("sso_providers", "sealed", ssoPurpose, "id", "version", "settings", func(row keyring.Row) (secret.AAD, error) {
			p := SSOProvider{ID: row.ID, version: row.N}
			if err := json.Unmarshal([]byte(row.Text), &p.SSOSettings); err != nil {
				return secret.AAD{}, errors.New("the settings of a single sign-on provider are not readable")
			}
			return p.aad(), nil
		}),
	}
}
