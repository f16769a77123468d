package jwt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"

	"github.com/golang-jwt/jwt/v5"

	"signalbox.dev/signalbox/internal/secret"
)

// SigningAlgorithm is what our own tokens are signed with. ES256 is what most verifiers out there know; Ed25519 is not in many yet.
const SigningAlgorithm = "ES256"

// AccessType is the type of our own tokens (RFC 9068).
const AccessType = "at+jwt"

// Signer signs tokens of our own. Its private key cannot be printed.
type Signer struct {
	id   string
	sign func(claims map[string]any) (string, error)
	key  Key
}

// NewPrivateKey makes a key for a [Signer], in the form in which it is to be sealed (PKCS #8).
func NewPrivateKey() (secret.Value, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return secret.Value{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return secret.Value{}, err
	}
	return secret.New(der), nil
}

// OpenSigner returns a signer whose tokens name the key by this id.
func OpenSigner(id string, private secret.Value) (Signer, error) {
	parsed, err := x509.ParsePKCS8PrivateKey([]byte(private.Reveal()))
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || !keyID(id) {
		return Signer{}, errors.New("jwt: a signing key is damaged")
	}
	public, err := PublicKey(id, &key.PublicKey, SigningAlgorithm)
	if err != nil {
		return Signer{}, err
	}
	return Signer{id: id, key: public, sign: func(claims map[string]any) (string, error) {
		t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims(claims))
		t.Header["typ"], t.Header["kid"] = AccessType, id
		return t.SignedString(key)
	}}, nil
}

// Key verifies what the signer signs.
func (s Signer) Key() Key { return s.key }

// Sign returns the token that says this.
func (s Signer) Sign(claims map[string]any) (secret.Value, error) {
	if s.sign == nil {
		return secret.Value{}, errors.New("jwt: there is no signing key")
	}
	token, err := s.sign(claims)
	if err != nil {
		return secret.Value{}, errors.New("jwt: the token could not be signed")
	}
	return secret.FromString(token), nil
}

// Public returns the key's public half in the form in which it is kept when the private one is destroyed (PKIX).
func (s Signer) Public() (secret.Value, error) {
	if s.sign == nil {
		return secret.Value{}, errors.New("jwt: there is no signing key")
	}
	der, err := x509.MarshalPKIXPublicKey(s.key.open())
	if err != nil {
		return secret.Value{}, errors.New("jwt: a signing key is damaged")
	}
	return secret.New(der), nil
}

// OpenPublic returns the key that was kept of [Signer.Public].
func OpenPublic(id string, public secret.Value) (Key, error) {
	parsed, err := x509.ParsePKIXPublicKey([]byte(public.Reveal()))
	if err != nil {
		return Key{}, errors.New("jwt: a retired signing key is damaged")
	}
	return PublicKey(id, parsed, SigningAlgorithm)
}
