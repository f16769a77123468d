package facts

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"hash"
)

// maxIterations of PBKDF2 are tried, under a second of one core; openssl's own are 2048.
const maxIterations = 1_000_000

// wrongPassphrase reports package ssh says to a passphrase that does not fit.
func wrongPassphrase(err error) bool { return errors.Is(err, x509.IncorrectPasswordError) }

// pbkdf2Params are those of RFC 8018, appendix A.2.
type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

// openPBES2 decrypts an EncryptedPrivateKeyInfo (RFC 5958) that was encrypted by PBES2 with PBKDF2 (RFC 8018), as openssl and most others do.
// The standard library does not. The error is errUnknown for what cannot be tried.
func openPBES2(der, passphrase []byte) ([]byte, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	var params struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	var kdf pbkdf2Params
	if unmarshal(der, &info) != nil || info.Algorithm.Algorithm.String() != "1.2.840.113549.1.5.13" ||
		unmarshal(info.Algorithm.Parameters.FullBytes, &params) != nil || params.KDF.Algorithm.String() != "1.2.840.113549.1.5.12" ||
		unmarshal(params.KDF.Parameters.FullBytes, &kdf) != nil || kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, errUnknown
	}
	prf := prfOf(kdf.PRF.Algorithm)
	size, newCipher := cipherOf(params.Cipher.Algorithm)
	var iv []byte
	if prf == nil || newCipher == nil || unmarshal(params.Cipher.Parameters.FullBytes, &iv) != nil {
		return nil, errUnknown
	}
	key, err := pbkdf2.Key(prf, string(passphrase), kdf.Salt, kdf.Iterations, size)
	if err != nil {
		return nil, errUnknown
	}
	block, err := newCipher(key)
	if err != nil || len(iv) != block.BlockSize() || len(info.Data) == 0 || len(info.Data)%block.BlockSize() != 0 {
		return nil, errUnknown
	}
	out := bytes.Clone(info.Data)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, out)
	pad := int(out[len(out)-1])
	if pad < 1 || pad > block.BlockSize() || !bytes.Equal(out[len(out)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errPassphrase
	}
	out = out[:len(out)-pad]
	// One padding in 256 fits by accident; what was decrypted must be one ASN.1 sequence from end to end.
	var whole asn1.RawValue
	if unmarshal(out, &whole) != nil || whole.Tag != asn1.TagSequence {
		return nil, errPassphrase
	}
	return out, nil
}

// unmarshal reads one value that is the whole of b.
func unmarshal(b []byte, v any) error {
	rest, err := asn1.Unmarshal(b, v)
	if err == nil && len(rest) > 0 {
		return errUnknown
	}
	return err
}

func prfOf(id asn1.ObjectIdentifier) func() hash.Hash {
	switch id.String() {
	case "", "1.2.840.113549.2.7": // the default
		return sha1.New
	case "1.2.840.113549.2.9":
		return sha256.New
	case "1.2.840.113549.2.10":
		return sha512.New384
	case "1.2.840.113549.2.11":
		return sha512.New
	}
	return nil
}

func cipherOf(id asn1.ObjectIdentifier) (size int, newCipher func([]byte) (cipher.Block, error)) {
	switch id.String() {
	case "2.16.840.1.101.3.4.1.2":
		return 16, aes.NewCipher
	case "2.16.840.1.101.3.4.1.22":
		return 24, aes.NewCipher
	case "2.16.840.1.101.3.4.1.42":
		return 32, aes.NewCipher
	case "1.2.840.113549.3.7":
		return 24, des.NewTripleDESCipher
	}
	return 0, nil
}
