package importer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
)

// sealedBitwarden is an export of Bitwarden that may be encrypted. One that is protected by a password is documented at
// https://bitwarden.com/help/encrypted-export/: the password is stretched with PBKDF2 and the salt of the file, expanded with HKDF to two keys,
// and the data are AES-256-CBC with an HMAC-SHA256. One that is restricted to its account can be opened by that account alone.
type sealedBitwarden struct {
	Encrypted  bool   `json:"encrypted"`
	Protected  bool   `json:"passwordProtected"`
	Salt       string `json:"salt"`
	KDF        int    `json:"kdfType"`
	Iterations int    `json:"kdfIterations"`
	Check      string `json:"encKeyValidation_DO_NOT_EDIT"`
	Data       string `json:"data"`
}

// What the stretching may cost.
const (
	leastIterations = 5_000
	mostIterations  = 2_000_000
)

func (s sealedBitwarden) open(passphrase secret.Value) ([]byte, error) {
	switch {
	case !s.Protected:
		return nil, bad("is encrypted for the account that made it and opens nowhere else; export it again as JSON, or as encrypted JSON with a password of its own")
	case s.KDF != 0:
		return nil, bad("is encrypted with Argon2id, which is not read here; set the key derivation of the account to PBKDF2 for the export, or export it as plain JSON")
	case s.Iterations < leastIterations || s.Iterations > mostIterations:
		return nil, bad("asks for a number of iterations that is out of bounds")
	case passphrase.IsZero():
		return nil, bad("is protected by a password; give it as the passphrase")
	}
	master, err := pbkdf2.Key(sha256.New, passphrase.Reveal(), []byte(s.Salt), s.Iterations, 32)
	if err != nil {
		return nil, bad("cannot be decrypted")
	}
	enc, err1 := hkdf.Expand(sha256.New, master, "enc", 32)
	mac, err2 := hkdf.Expand(sha256.New, master, "mac", 32)
	if err1 != nil || err2 != nil {
		return nil, bad("cannot be decrypted")
	}
	if _, err := openBitwarden(s.Check, enc, mac); err != nil {
		return nil, err
	}
	return openBitwarden(s.Data, enc, mac)
}

// openBitwarden opens "2.iv|ciphertext|mac", each in base64.
func openBitwarden(text string, enc, mac []byte) ([]byte, error) {
	rest, ok := strings.CutPrefix(text, "2.")
	parts := strings.Split(rest, "|")
	if !ok || len(parts) != 3 {
		return nil, bad("is encrypted in a way that is not known here")
	}
	var raw [3][]byte
	for i, p := range parts {
		b, err := base64.StdEncoding.DecodeString(p)
		if err != nil {
			return nil, bad("is damaged: its encrypted part is not base64")
		}
		raw[i] = b
	}
	iv, data := raw[0], raw[1]
	h := hmac.New(sha256.New, mac)
	_, _ = h.Write(iv)
	_, _ = h.Write(data)
	if subtle.ConstantTimeCompare(h.Sum(nil), raw[2]) != 1 {
		return nil, wrongPassphrase()
	}
	block, err := aes.NewCipher(enc)
	if err != nil || len(iv) != aes.BlockSize || len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return nil, bad("is damaged: its encrypted part has a wrong length")
	}
	out := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, data)
	pad := int(out[len(out)-1]) // the MAC has vouched for it
	if pad < 1 || pad > aes.BlockSize || pad > len(out) {
		return nil, bad("is damaged: its encrypted part ends wrongly")
	}
	return out[:len(out)-pad], nil
}
