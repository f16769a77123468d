package facts

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

// authority makes a certificate authority, an intermediate one and a server's certificate, as people do with openssl.
func (w workshop) authority() {
	w.t.Helper()
	w.write("ca.cnf", "[v3_ca]\nbasicConstraints=critical,CA:TRUE\n[leaf]\nsubjectAltName=DNS:shop.example.com,DNS:*.shop.example.com,IP:192.0.2.7,email:ops@example.com\n")
	w.run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3650 -keyout root.key -out root.crt", "-subj", "/CN=Root")
	w.run("openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout mid.key -out mid.csr", "-subj", "/CN=Intermediate")
	w.run("openssl x509 -req -in mid.csr -CA root.crt -CAkey root.key -CAcreateserial -days 365 -extfile ca.cnf -extensions v3_ca -out mid.crt")
	w.run("openssl req -new -newkey rsa:2048 -noenc -keyout leaf.key -out leaf.csr", "-subj", "/C=DE/O=Shop/CN=shop.example.com")
	w.run("openssl x509 -req -in leaf.csr -CA mid.crt -CAkey mid.key -set_serial 0xABCDEF12345 -days 90 -extfile ca.cnf -extensions leaf -out leaf.crt")
}

func joined(parts ...secret.Value) secret.Value {
	var all []byte
	for _, p := range parts {
		all = append(all, p.Bytes()...)
	}
	return secret.New(all)
}

// TestCertificate reads a chain as openssl reads it.
func TestCertificate(t *testing.T) {
	w := newWorkshop(t)
	w.authority()
	leaf, mid, root, key := w.file("leaf.crt"), w.file("mid.crt"), w.file("root.crt"), w.file("leaf.key")
	f, problems := Derive(TypeCertificate, values("certificate", joined(leaf, mid, root), "private_key", key))
	require.Empty(t, problems)
	c := *f.Certificate
	require.Equal(t, "CN=shop.example.com,O=Shop,C=DE", c.Subject)
	require.Equal(t, "CN=Intermediate", c.Issuer)
	require.Equal(t, strings.TrimSpace(w.run("openssl x509 -in leaf.crt -noout -serial")), "serial=0"+c.Serial)
	require.Equal(t, []string{"DNS:shop.example.com", "DNS:*.shop.example.com", "IP:192.0.2.7", "email:ops@example.com"}, c.Names)
	require.Equal(t, [2]any{"RSA", 2048}, [2]any{c.KeyType, c.Bits})
	require.Equal(t, 3, c.Chain)
	require.True(t, c.InOrder)
	require.True(t, c.KeyMatches)
	end, err := time.Parse("notAfter=Jan _2 15:04:05 2006 MST", strings.TrimSpace(w.run("openssl x509 -in leaf.crt -noout -enddate")))
	require.NoError(t, err)
	require.True(t, end.Equal(*f.Ends()))
	print := strings.NewReplacer(":", "", "sha256 Fingerprint=", "", "\n", "").Replace(w.run("openssl x509 -in leaf.crt -noout -fingerprint -sha256"))
	require.Equal(t, strings.ToLower(print), c.Fingerprint)
	k, err := readKey(key, secret.Value{})
	require.NoError(t, err)
	requireNothingOf(t, privateBytes(t, k), f, problems)

	for name, one := range map[string]struct {
		text    secret.Value
		key     secret.Value
		subject string
		ordered bool
	}{
		"alone":             {leaf, key, "CN=shop.example.com,O=Shop,C=DE", true},
		"a gap":             {joined(leaf, root), key, "CN=shop.example.com,O=Shop,C=DE", false},
		"upside down":       {joined(root, mid, leaf), key, "CN=shop.example.com,O=Shop,C=DE", false},
		"no key":            {joined(mid, leaf), secret.Value{}, "CN=shop.example.com,O=Shop,C=DE", false},
		"an authority":      {joined(mid, root), w.file("mid.key"), "CN=Intermediate", true},
		"with its key":      {joined(key, leaf, mid), key, "CN=shop.example.com,O=Shop,C=DE", true},
		"a key of no sense": {leaf, secret.FromString("planted-no-key"), "CN=shop.example.com,O=Shop,C=DE", true},
	} {
		f, problems := Derive(TypeCertificate, values("certificate", one.text, "private_key", one.key))
		require.Empty(t, problems, name)
		require.Equal(t, one.subject, f.Certificate.Subject, name)
		require.Equal(t, one.ordered, f.Certificate.InOrder, name)
	}

	// A key of another certificate, and a passphrase that does not fit, are mistakes.
	f, problems = Derive(TypeCertificate, values("certificate", joined(leaf, mid), "private_key", w.file("root.key")))
	require.True(t, f.IsZero())
	require.Equal(t, "private_key", problems[0].Field)
	w.run("openssl rsa -in leaf.key -aes256 -out locked.key -passout pass:correct-horse")
	f, problems = Derive(TypeCertificate, values("certificate", leaf, "private_key", w.file("locked.key"), "passphrase", "correct-horse"))
	require.Empty(t, problems)
	require.True(t, f.Certificate.KeyMatches)
	f, problems = Derive(TypeCertificate, values("certificate", leaf, "private_key", w.file("locked.key")))
	require.Empty(t, problems)
	require.False(t, f.Certificate.KeyMatches)
	_, problems = Derive(TypeCertificate, values("certificate", leaf, "private_key", w.file("locked.key"), "passphrase", "wrong-horse"))
	require.Equal(t, "passphrase", problems[0].Field)
}

// TestForgedOrder: names that fit do not make a chain; the signature must.
func TestForgedOrder(t *testing.T) {
	w := newWorkshop(t)
	w.authority()
	w.run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 -keyout other.key -out other.crt", "-subj", "/CN=Intermediate")
	f, _ := Derive(TypeCertificate, values("certificate", joined(w.file("leaf.crt"), w.file("other.crt")), "private_key", w.file("leaf.key")))
	require.Equal(t, 2, f.Certificate.Chain)
	require.False(t, f.Certificate.InOrder)
}

// TestHugeCertificates: what does not fit into an answer is counted or left out, and unknown formats are no mistake.
func TestHugeCertificates(t *testing.T) {
	w := newWorkshop(t)
	var names []string
	for i := range 800 {
		names = append(names, fmt.Sprintf("DNS:host-%04d.example.com", i))
	}
	w.write("c.cnf", "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN=many\n[ext]\nsubjectAltName="+strings.Join(names, ",")+"\n")
	w.run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3 -keyout k.pem -out c.pem -config c.cnf")
	f, problems := Derive(TypeCertificate, values("certificate", w.file("c.pem")))
	require.Empty(t, problems)
	require.Len(t, f.Certificate.Names, 100)
	require.Equal(t, 700, f.Certificate.MoreNames)

	one, _ := pem.Decode(w.file("c.pem").Bytes())
	damaged := bytes.Clone(one.Bytes)
	damaged[40] ^= 0xff
	for name, text := range map[string][]byte{
		"no text":   []byte("planted"),
		"cut":       w.file("c.pem").Bytes()[:400],
		"deep":      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: bytes.Repeat([]byte{0x30, 0x80}, 20000)}),
		"too many":  bytes.Repeat(w.file("c.pem").Bytes(), 40),
		"not a der": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("planted")}),
	} {
		f, problems := Derive(TypeCertificate, values("certificate", secret.New(text)))
		require.Empty(t, problems, name)
		require.True(t, f.IsZero(), name)
	}
	_, problems = Derive(TypeCertificate, values("certificate", secret.New(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: damaged}))))
	require.Empty(t, problems)
}
