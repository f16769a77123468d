package probe

import (
	"crypto/sha1" //nolint:gosec // as mysql_native_password has it
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"

	"filippo.io/edwards25519"
)

// The ways of signing in that keep the password from the server: each proves that it is known, for this one connection.
const (
	nativePlugin  = "mysql_native_password"
	sha2Plugin    = "caching_sha2_password"
	ed25519Plugin = "client_ed25519"
)

// What caching_sha2_password says of a first answer: that it was right, or that the server has to be told the password.
const (
	sha2Known = 3
	sha2Full  = 4
)

// mysqlAnswer answers a server's nonce. A plugin that is not among those above is not answered: among them are mysql_clear_password, dialog and
// sha256_password, which send the password, and mysql_old_password, which may as well.
func mysqlAnswer(plugin, password string, nonce []byte) ([]byte, error) {
	switch plugin {
	case ed25519Plugin:
		if len(nonce) != 32 { // that of a greeting is shorter, so the server has to ask
			return nil, errMySQLPlugin
		}
		return mariadbSignature(password, nonce)
	case nativePlugin, sha2Plugin:
		if len(nonce) != 21 || nonce[20] != 0 {
			return nil, errMySQLNonsense
		}
		nonce = nonce[:20:20]
	default:
		return nil, errMySQLPlugin
	}
	if password == "" {
		return nil, nil
	}
	if plugin == sha2Plugin {
		once := sha256.Sum256([]byte(password))
		twice := sha256.Sum256(once[:])
		mask := sha256.Sum256(append(twice[:], nonce...))
		subtle.XORBytes(once[:], once[:], mask[:])
		return once[:], nil
	}
	once := sha1.Sum([]byte(password))           //nolint:gosec // as mysql_native_password has it
	twice := sha1.Sum(once[:])                   //nolint:gosec // likewise
	mask := sha1.Sum(append(nonce, twice[:]...)) //nolint:gosec // likewise
	subtle.XORBytes(once[:], once[:], mask[:])
	return once[:], nil
}

// mariadbSignature signs a nonce as MariaDB's ed25519 has it: Ed25519 of RFC 8032, but with the hash of the password, of any length, where that of
// a seed of 32 bytes stands; so that crypto/ed25519, which wants the seed, cannot be used.
func mariadbSignature(password string, nonce []byte) ([]byte, error) {
	key := sha512.Sum512([]byte(password))
	private, err := edwards25519.NewScalar().SetBytesWithClamping(key[:32])
	if err != nil {
		return nil, err
	}
	public := new(edwards25519.Point).ScalarBaseMult(private).Bytes()
	once, err := scalarOf(key[32:], nonce)
	if err != nil {
		return nil, err
	}
	point := new(edwards25519.Point).ScalarBaseMult(once).Bytes()
	challenge, err := scalarOf(point, public, nonce)
	if err != nil {
		return nil, err
	}
	return append(point, edwards25519.NewScalar().MultiplyAdd(challenge, private, once).Bytes()...), nil
}

func scalarOf(parts ...[]byte) (*edwards25519.Scalar, error) {
	h := sha512.New()
	for _, p := range parts {
		h.Write(p)
	}
	return edwards25519.NewScalar().SetUniformBytes(h.Sum(nil))
}
