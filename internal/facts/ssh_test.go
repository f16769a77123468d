package facts

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

// privateBytes is what must never be seen of a key.
func privateBytes(t *testing.T, k privateKey) []byte {
	t.Helper()
	switch p := k.private.(type) {
	case ed25519.PrivateKey:
		return p.Seed()
	case *rsa.PrivateKey:
		return p.D.Bytes()
	case *ecdsa.PrivateKey:
		b, err := p.Bytes()
		require.NoError(t, err)
		return b
	}
	require.Fail(t, "the key was not opened")
	return nil
}

// TestSSHKeys reads what ssh-keygen makes, of each type and in each form, as ssh-keygen itself reads it.
func TestSSHKeys(t *testing.T) {
	for _, kind := range []struct {
		flags, sshType string
		bits           int
	}{
		{"-t ed25519", "ssh-ed25519", 256}, {"-t rsa -b 2048", "ssh-rsa", 2048}, {"-t ecdsa -b 256", "ecdsa-sha2-nistp256", 256},
		{"-t ecdsa -b 384", "ecdsa-sha2-nistp384", 384}, {"-t ecdsa -b 521", "ecdsa-sha2-nistp521", 521},
	} {
		for _, form := range []string{"openssh", "PEM", "PKCS8"} {
			if kind.sshType == "ssh-ed25519" && form != "openssh" {
				continue // ssh-keygen has one form for it
			}
			for _, passphrase := range []string{"", "pl4nted-passphrase-0815"} {
				t.Run(fmt.Sprintf("%s %s %t", kind.flags, form, passphrase != ""), func(t *testing.T) {
					w := newWorkshop(t)
					format := ""
					if form != "openssh" {
						format = " -m " + form
					}
					w.run("ssh-keygen -q "+kind.flags+format+" -f key -C deploy@build.example", "-N", passphrase)
					fingerprint := strings.Fields(w.run("ssh-keygen -l -E sha256 -f key.pub"))[1]
					public := strings.Join(strings.Fields(w.run("cat key.pub"))[:2], " ")

					f, problems := Derive(TypeSSHKey, values("private_key", w.file("key"), "passphrase", passphrase))
					require.Empty(t, problems)
					want := SSHKey{Type: kind.sshType, Bits: kind.bits, Fingerprint: fingerprint, PublicKey: public, Encrypted: passphrase != ""}
					if form == "openssh" && passphrase == "" {
						want.Comment = "deploy@build.example"
					}
					require.Equal(t, want, *f.SSHKey)
					require.Nil(t, f.Ends())
					k, err := readKey(w.file("key"), secret.FromString(passphrase))
					require.NoError(t, err)
					requireNothingOf(t, privateBytes(t, k), f, problems)
					if passphrase == "" {
						return
					}
					requireNothingOf(t, []byte(passphrase), f, problems)

					// A wrong passphrase is a mistake, none is not; OpenSSH's own form shows the public half all the same.
					f, problems = Derive(TypeSSHKey, values("private_key", w.file("key"), "passphrase", "pl4nted-wrong-passphrase"))
					require.Len(t, problems, 1)
					require.Equal(t, "passphrase", problems[0].Field)
					require.True(t, f.IsZero())
					requireNothingOf(t, []byte("pl4nted-wrong-passphrase"), f, problems)
					f, problems = Derive(TypeSSHKey, values("private_key", w.file("key")))
					require.Empty(t, problems)
					require.True(t, f.SSHKey.Encrypted)
					if form == "openssh" {
						require.Equal(t, fingerprint, f.SSHKey.Fingerprint)
					} else {
						require.Equal(t, SSHKey{Encrypted: true}, *f.SSHKey)
					}
				})
			}
		}
	}
}

// TestKeysOfOpenSSL reads the forms that openssl writes, with every cipher and hash that is tried.
func TestKeysOfOpenSSL(t *testing.T) {
	w := newWorkshop(t)
	w.run("openssl genpkey -algorithm ed25519 -out ed.pem")
	w.run("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem")
	w.run("openssl ecparam -name prime256v1 -genkey -out params.pem") // the parameters stand before the key
	w.run("openssl genrsa -out rsa.pem 2048")
	w.run("openssl rsa -in rsa.pem -traditional -out rsa1.pem")
	for name, kind := range map[string]string{"ed.pem": "ssh-ed25519", "ec.pem": "ecdsa-sha2-nistp256", "params.pem": "ecdsa-sha2-nistp256", "rsa.pem": "ssh-rsa", "rsa1.pem": "ssh-rsa"} {
		f, problems := Derive(TypeSSHKey, values("private_key", w.file(name)))
		require.Empty(t, problems)
		require.NotNil(t, f.SSHKey, name)
		require.Equal(t, kind, f.SSHKey.Type, name)
	}
	plain, _ := Derive(TypeSSHKey, values("private_key", w.file("ec.pem")))
	for i, how := range []string{"-v2 aes-256-cbc", "-v2 aes-128-cbc", "-v2 aes-192-cbc", "-v2 des3", "-v2prf hmacWithSHA1", "-v2prf hmacWithSHA384", "-v2prf hmacWithSHA512", "-iter 10000"} {
		name := fmt.Sprintf("enc%d.pem", i)
		w.run("openssl pkcs8 -topk8 " + how + " -in ec.pem -out " + name + " -passout pass:correct-horse")
		f, problems := Derive(TypeSSHKey, values("private_key", w.file(name), "passphrase", "correct-horse"))
		require.Empty(t, problems, how)
		require.Equal(t, plain.SSHKey.Fingerprint, f.SSHKey.Fingerprint, how)
		require.True(t, f.SSHKey.Encrypted)
		_, problems = Derive(TypeSSHKey, values("private_key", w.file(name), "passphrase", "wrong-horse"))
		require.Len(t, problems, 1, how)
	}
	for i, cipher := range []string{"-aes256", "-des3", "-aes128"} {
		name := fmt.Sprintf("old%d.pem", i)
		w.run("openssl rsa -traditional " + cipher + " -in rsa.pem -out " + name + " -passout pass:correct-horse")
		_, problems := Derive(TypeSSHKey, values("private_key", w.file(name), "passphrase", "wrong-horse"))
		require.Len(t, problems, 1, cipher)
		f, problems := Derive(TypeSSHKey, values("private_key", w.file(name), "passphrase", "correct-horse"))
		require.Empty(t, problems)
		require.Equal(t, 2048, f.SSHKey.Bits)
	}
	// What cannot be tried is stored untried, whatever the passphrase.
	w.run("openssl pkcs8 -topk8 -scrypt -in ec.pem -out scrypt.pem -passout pass:correct-horse")
	w.run("openssl pkcs8 -topk8 -iter 2000000 -in ec.pem -out slow.pem -passout pass:correct-horse")
	for _, name := range []string{"scrypt.pem", "slow.pem"} {
		f, problems := Derive(TypeSSHKey, values("private_key", w.file(name), "passphrase", "anything"))
		require.Empty(t, problems, name)
		require.Equal(t, SSHKey{Encrypted: true}, *f.SSHKey, name)
	}
}

// TestUnknownKeys: what is no key that we know is no mistake, and tells nothing.
func TestUnknownKeys(t *testing.T) {
	for _, text := range []string{"", "planted-not-a-key", "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
		"-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", strings.Repeat("-----BEGIN PRIVATE KEY-----\n", 3000)} {
		f, problems := Derive(TypeSSHKey, values("private_key", text, "passphrase", "x"))
		require.True(t, f.IsZero())
		require.Empty(t, problems)
	}
}

// TestHalvesOfTwoKeys: an OpenSSH file whose public half is another key's would show a fingerprint that is not that of the key.
func TestHalvesOfTwoKeys(t *testing.T) {
	w := newWorkshop(t)
	w.run("ssh-keygen -q -t ed25519 -f a -C x", "-N", "")
	w.run("ssh-keygen -q -t ed25519 -f b -C x", "-N", "")
	a, _ := pem.Decode(w.file("a").Bytes())
	b, _ := pem.Decode(w.file("b").Bytes())
	at := bytes.Index(a.Bytes, []byte("ssh-ed25519")) + 15
	copy(a.Bytes[at:at+32], b.Bytes[at:at+32])
	f, problems := Derive(TypeSSHKey, values("private_key", secret.New(pem.EncodeToMemory(a))))
	require.True(t, f.IsZero())
	require.Empty(t, problems)
}

// TestHostileKeys: nothing that fits into a field takes long to read. The bound is generous; without the limits these take hours or for ever.
func TestHostileKeys(t *testing.T) {
	w := newWorkshop(t)
	w.run("ssh-keygen -q -t ed25519 -a 16 -f key -C x", "-N", "correct-horse")
	block, _ := pem.Decode(w.file("key").Bytes())
	at := bytes.Index(block.Bytes, []byte{0, 0, 0, 16}) // the length of the salt; the rounds stand behind it
	require.Equal(t, uint32(16), binary.BigEndian.Uint32(block.Bytes[at+20:]))
	binary.BigEndian.PutUint32(block.Bytes[at+20:], 1<<31)

	der := func(size int) []byte { // SEQUENCE { 0, n, 65537, d, p, q, … } of huge odd numbers
		one := append([]byte{0x02, 0x82, byte(size >> 8), byte(size), 0x7f}, bytes.Repeat([]byte{0xff}, size-1)...)
		body := append([]byte{2, 1, 0}, one...)
		body = append(body, 2, 3, 1, 0, 1)
		for range 6 {
			body = append(body, one...)
		}
		return append([]byte{0x30, 0x83, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	}
	deep := bytes.Repeat([]byte{0x30, 0x80}, 5000)
	for name, p := range map[string]*pem.Block{
		"rounds": block, "rsa": {Type: "RSA PRIVATE KEY", Bytes: der(1600)}, "a megabit": {Type: "RSA PRIVATE KEY", Bytes: der(60000)}, "deep": {Type: "PRIVATE KEY", Bytes: deep},
		"deep and encrypted": {Type: "ENCRYPTED PRIVATE KEY", Bytes: deep},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, problems := Derive(TypeSSHKey, values("private_key", secret.New(pem.EncodeToMemory(p)), "passphrase", "correct-horse"))
			require.Empty(t, problems)
			require.Less(t, time.Since(start), 30*time.Second)
		})
	}
}
