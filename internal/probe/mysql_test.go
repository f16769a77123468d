package probe_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/probe"
	"signalbox.dev/signalbox/internal/vault"
)

// TestMySQL signs in at a real MariaDB, with TLS and without, in each way that it has here.
func TestMySQL(t *testing.T) {
	cert, key := selfSigned(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	const password = planted + `/p@ss:w?rd#%'`
	by := " IDENTIFIED BY '" + strings.ReplaceAll(password, "'", "''") + "'"
	address := startMariaDB(t, cert, key,
		"CREATE DATABASE shop;", "CREATE DATABASE vault;",
		"CREATE USER plain@'%'"+by+";", "GRANT ALL ON shop.* TO plain@'%';",
		"CREATE USER secured@'%'"+by+" REQUIRE SSL;", "GRANT ALL ON shop.* TO secured@'%';",
		"CREATE USER everything@'%'"+by+";", "GRANT ALL ON *.* TO everything@'%';",
		"CREATE USER locked@'%'"+by+" ACCOUNT LOCK;",
		"CREATE USER expired@'%'"+by+" PASSWORD EXPIRE;",
		"CREATE USER nopassword@'%';",
		"CREATE USER either@'%' IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('"+strings.ReplaceAll(password, "'", "''")+"');",
		"CREATE USER elsewhere@'192.0.2.1'"+by+";",
		"SET old_passwords=1;", "CREATE USER ancient@'%' IDENTIFIED VIA mysql_old_password USING PASSWORD('x');")
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert))
	b := newBench(t, 0, roots, "127.0.0.1", "localhost")
	ask := func(b *bench, user, pass, host, database, mode string) probe.Outcome {
		u := url.URL{Scheme: "mysql", User: url.UserPassword(user, pass), Host: host + ":" + port, Path: "/" + database}
		if mode != "" {
			u.RawQuery = "ssl-mode=" + mode
		}
		return b.outcome(trial(vault.ConnectionString, vault.Meta{}, nil, "connection_string", u.String()), probe.Ask{})
	}
	for _, row := range []struct {
		user, pass, host, database, mode string
		want                             probe.Outcome
	}{
		{"secured", password, "127.0.0.1", "shop", "VERIFY_IDENTITY", probe.OK}, {"secured", password, "127.0.0.1", "shop", "REQUIRED", probe.OK}, {"secured", password, "127.0.0.1", "", "", probe.OK},
		{"secured", password, "localhost", "shop", "VERIFY_CA", probe.OK}, {"secured", password, "localhost", "shop", "VERIFY_IDENTITY", probe.TLSFailed}, {"secured", password, "localhost", "shop", "true", probe.TLSFailed}, {"secured", password, "localhost", "shop", "surely", probe.TLSFailed},
		{"secured", password, "127.0.0.1", "shop", "DISABLED", probe.Unauthorized}, {"plain", password, "127.0.0.1", "shop", "DISABLED", probe.OK}, {"plain", password, "127.0.0.1", "shop", "PREFERRED", probe.OK},
		{"plain", planted, "127.0.0.1", "shop", "VERIFY_IDENTITY", probe.Unauthorized}, {"plain", "", "127.0.0.1", "shop", "REQUIRED", probe.Unauthorized}, {"nobody", password, "127.0.0.1", "shop", "REQUIRED", probe.Unauthorized},
		{"plain", password, "127.0.0.1", "vault", "REQUIRED", probe.Refused}, {"everything", password, "127.0.0.1", "nothing", "REQUIRED", probe.Refused}, {"everything", password, "127.0.0.1", "vault", "", probe.OK},
		{"locked", password, "127.0.0.1", "", "REQUIRED", probe.Unauthorized}, {"expired", password, "127.0.0.1", "", "REQUIRED", probe.Unauthorized}, {"elsewhere", password, "127.0.0.1", "", "REQUIRED", probe.Unauthorized},
		{"nopassword", "", "127.0.0.1", "", "REQUIRED", probe.OK}, {"nopassword", planted, "127.0.0.1", "", "REQUIRED", probe.Unauthorized},
		{"either", password, "127.0.0.1", "", "REQUIRED", probe.OK}, {"either", planted, "127.0.0.1", "", "REQUIRED", probe.Unauthorized},
		{"ancient", planted, "127.0.0.1", "", "VERIFY_IDENTITY", probe.Unsupported},
	} {
		require.Equal(t, row.want, ask(b, row.user, row.pass, row.host, row.database, row.mode), "%+v", row)
	}
	require.Equal(t, probe.TLSFailed, ask(newBench(t, 0, nil, "127.0.0.1"), "plain", password, "127.0.0.1", "shop", "VERIFY_IDENTITY"), "an authority that nobody knows")
	escaped := url.QueryEscape(password)
	for _, text := range []string{
		"plain:" + password + "@tcp(127.0.0.1:" + port + ")/shop?tls=true", "plain:" + password + "@tcp(" + address + ")/shop", "mariadb://plain:" + url.PathEscape(password) + "@" + address + "/shop",
		"jdbc:mariadb://" + address + "/shop?user=plain&password=" + escaped + "&sslMode=trust", "jdbc:mysql://" + address + "/shop?user=plain&password=" + escaped + "&sslMode=VERIFY_IDENTITY",
		"Driver={MariaDB ODBC 3.1 Driver};Server=127.0.0.1;Port=" + port + ";Database=shop;Uid=plain;Pwd={" + password + "}", "mysql+pymysql://plain:" + url.PathEscape(password) + "@" + address + "/shop?ssl=true",
	} {
		got := b.test(trial(vault.ConnectionString, vault.Meta{}, nil, "connection_string", text), probe.Ask{})
		require.Equal(t, probe.OK, got.Outcome, "%s %+v", text, got)
		require.Equal(t, "mysql://"+address, got.Target)
	}

	// Only the hosts that it is bound to, and only addresses that are allowed; without TLS only where that is allowed by name.
	bound := func(hosts ...string) vault.Trial {
		return trial(vault.ConnectionString, vault.Meta{}, hosts, "connection_string", "plain:"+password+"@tcp("+address+")/shop")
	}
	require.Equal(t, probe.OK, b.outcome(bound(address), probe.Ask{}))
	require.Equal(t, probe.OK, b.outcome(bound("127.0.0.1"), probe.Ask{}))
	require.Equal(t, probe.Forbidden, b.outcome(bound("db.example.com"), probe.Ask{}))
	require.Equal(t, probe.Forbidden, newBench(t, 0, roots).outcome(bound(), probe.Ask{}))
	require.Equal(t, probe.OK, newBench(t, 0, roots).outcome(bound(), probe.Ask{Offline: true}))
	require.Equal(t, probe.Forbidden, newBench(t, 0, roots).outcome(trial(vault.ConnectionString, vault.Meta{}, nil, "connection_string", "plain:x@tcp(db.example.com)/shop?tls=false"), probe.Ask{}))
	require.Equal(t, probe.Unsupported, b.outcome(trial(vault.ConnectionString, vault.Meta{}, nil, "connection_string", "mysql://plain:a%00"+planted+"@"+address+"/shop"), probe.Ask{}))
}

// fakeMySQL is a server of ours, for what no honest one does and for MySQL's own way of signing in, which Debian's MariaDB does not have.
type fakeMySQL struct {
	net.Conn
	next  byte
	heard *record
}

// record is what a fake was told, decrypted.
type record struct {
	mu   sync.Mutex
	text []byte
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, b...)
	return len(b), nil
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.text)
}

func (f *fakeMySQL) say(parts ...string) {
	body := strings.Join(parts, "")
	n := len(body)
	_, _ = f.Write(append([]byte{byte(n), byte(n >> 8), byte(n >> 16), f.next}, body...))
	f.next++
}

// hear returns the next packet, and nothing when there is none.
func (f *fakeMySQL) hear() []byte {
	head := make([]byte, 4)
	if _, err := io.ReadFull(f, head); err != nil {
		return nil
	}
	f.next = head[3] + 1
	body := make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16)
	if _, err := io.ReadFull(f, body); err != nil {
		return nil
	}
	_, _ = f.heard.Write(body)
	return body
}

const (
	fakeNonce = "0123456789abcdefghij"
	fakeFlags = 1 | 2 | 4 | 8 | 0x20 | 0x80 | 0x200 | 0x2000 | 0x8000 | 1<<16 | 1<<17 | 1<<19 // LOCAL INFILE, compression and many statements among them
	fakeTLS   = 0x800
)

func fakeGreeting(flags uint32, plugin string) string {
	b := append([]byte("\x0a8.4.0-upstream-text\x00\x01\x00\x00\x00"), fakeNonce[:8]...)
	b = binary.LittleEndian.AppendUint16(append(b, 0), uint16(flags))
	b = binary.LittleEndian.AppendUint16(append(b, 45, 2, 0), uint16(flags>>16))
	b = append(append(b, 21), make([]byte, 10)...)
	return string(append(b, fakeNonce[8:]+"\x00"+plugin+"\x00"...))
}

// login is what a client answered to a greeting.
type login struct {
	flags        uint32
	user, plugin string
	answer       []byte
}

// greet greets, speaks TLS when it is given some and asked to, and returns what the client said of itself.
func (f *fakeMySQL) greet(line *tls.Config, plugin string) (out login) {
	flags := uint32(fakeFlags)
	if line != nil {
		flags |= fakeTLS
	}
	f.say(fakeGreeting(flags, plugin))
	b := f.hear()
	if len(b) == 32 && line != nil {
		f.Conn = tls.Server(f.Conn, line)
		b = f.hear()
	}
	if len(b) < 34 {
		return login{}
	}
	out.flags = binary.LittleEndian.Uint32(b)
	user, rest, _ := bytes.Cut(b[32:], []byte{0})
	out.user = string(user)
	if len(rest) == 0 || len(rest) <= int(rest[0]) {
		return login{}
	}
	out.answer, rest = rest[1:1+int(rest[0])], rest[1+int(rest[0]):]
	if out.flags&8 != 0 {
		_, rest, _ = bytes.Cut(rest, []byte{0})
	}
	name, _, _ := bytes.Cut(rest, []byte{0})
	out.plugin = string(name)
	return out
}

const (
	fakeOK     = "\x00\x00\x00\x02\x00\x00\x00"
	fakeDenied = "\xff\x15\x04#28000upstream-text"
)

// sha2 plays caching_sha2_password as MySQL's manual has it: what is kept is the hash of the hash of the password, and where it is not cached the
// password itself is asked for.
func (f *fakeMySQL) sha2(line *tls.Config, password string, cached, ask bool) bool {
	first := "caching_sha2_password"
	if ask {
		first = "mysql_native_password"
	}
	in := f.greet(line, first)
	if in.user != "ada" || in.plugin != first {
		return false
	}
	answer := in.answer
	if ask { // the account has another way than the greeting said
		f.say("\xfe", "caching_sha2_password\x00", fakeNonce, "\x00")
		answer = f.hear()
	}
	once := sha256.Sum256([]byte(password))
	kept := sha256.Sum256(once[:])
	mask := sha256.Sum256(append(kept[:], fakeNonce...))
	if cached {
		got := make([]byte, 32)
		if len(answer) == 32 {
			subtle.XORBytes(got, answer, mask[:])
		}
		if sha256.Sum256(got) != kept {
			f.say(fakeDenied)
			return false
		}
		f.say("\x01\x03")
		f.say(fakeOK)
		return true
	}
	f.say("\x01\x04")
	if string(f.hear()) != password+"\x00" {
		f.say(fakeDenied)
		return false
	}
	f.say(fakeOK)
	return true
}

// fakes runs a fake until the test ends, and returns its address and what it is told.
func fakes(t *testing.T, serve func(*fakeMySQL)) (string, *record) {
	t.Helper()
	heard := &record{}
	return listen(t, func(c net.Conn) { serve(&fakeMySQL{Conn: c, heard: heard}) }), heard
}

func mysqlTrial(address, password, mode string) vault.Trial {
	return trial(vault.ConnectionString, vault.Meta{}, nil, "connection_string", "mysql://ada:"+url.PathEscape(password)+"@"+address+"/shop?ssl-mode="+mode)
}

// TestMySQLWays: caching_sha2_password and ed25519 against a server of ours that MariaDB's client finds in order as well, and that knows only what such
// a server keeps. The password itself goes to whom a certificate has proved, and to nobody else.
func TestMySQLWays(t *testing.T) {
	cert, key := selfSigned(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	require.NoError(t, err)
	line := &tls.Config{Certificates: []tls.Certificate{pair}}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert))
	authority := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(authority, []byte(cert), 0o600))
	let := make(chan bool, 1)
	// each lets the probe in once, and MariaDB's client as well.
	each := func(name, password string, modes []string, serve func(*fakeMySQL) bool) {
		t.Run(name, func(t *testing.T) {
			address, heard := fakes(t, func(f *fakeMySQL) { let <- serve(f) })
			b := newBench(t, 0, roots, address)
			for _, mode := range modes {
				got := b.test(mysqlTrial(address, password, mode), probe.Ask{})
				require.Equal(t, probe.OK, got.Outcome, "%s %+v", mode, got)
				require.True(t, <-let)
				require.Equal(t, probe.Unauthorized, b.outcome(mysqlTrial(address, password+"x", mode), probe.Ask{}), mode)
				require.False(t, <-let)
			}
			said := heard.String()
			mariadbClient(t, address, "ada", password, "--ssl-ca="+authority, "--ssl-verify-server-cert")
			require.True(t, <-let, "MariaDB's own client is not let in: the fake is wrong")
			if name != "sha2 in full" {
				require.NotContains(t, said, password)
			}
		})
	}
	all := []string{"VERIFY_IDENTITY", "VERIFY_CA", "REQUIRED", "PREFERRED", "DISABLED"}
	each("sha2", planted, all, func(f *fakeMySQL) bool { return f.sha2(line, planted, true, false) })
	each("sha2 asked for", planted, all, func(f *fakeMySQL) bool { return f.sha2(line, planted, true, true) })
	each("sha2 in full", planted, all[:2], func(f *fakeMySQL) bool { return f.sha2(line, planted, false, false) })
	// The password "secret" and what MariaDB keeps of it are the example in its manual (Authentication Plugin - ed25519).
	public, err := base64.RawStdEncoding.DecodeString("ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY")
	require.NoError(t, err)
	each("ed25519", "secret", all, func(f *fakeMySQL) bool {
		in := f.greet(line, "mysql_native_password")
		nonce := make([]byte, 32)
		_, _ = rand.Read(nonce)
		f.say("\xfe", "client_ed25519\x00", string(nonce))
		signature := f.hear()
		if in.user != "ada" || len(signature) != ed25519.SignatureSize || !ed25519.Verify(public, nonce, signature) {
			f.say(fakeDenied)
			return false
		}
		f.say(fakeOK)
		return true
	})

	// A server that asks for the password is not told it before it has proved who it is, and is asked for no key to encrypt it with.
	address, heard := fakes(t, func(f *fakeMySQL) { f.sha2(line, planted, false, true) })
	b := newBench(t, 0, roots, address)
	for _, mode := range []string{"REQUIRED", "PREFERRED", "DISABLED"} {
		require.Equal(t, probe.TLSFailed, b.outcome(mysqlTrial(address, planted, mode), probe.Ask{}), mode)
	}
	for _, mode := range []string{"VERIFY_IDENTITY", "VERIFY_CA"} {
		require.Equal(t, probe.TLSFailed, newBench(t, 0, nil, address).outcome(mysqlTrial(address, planted, mode), probe.Ask{}), "an authority that nobody knows")
	}
	require.NotContains(t, heard.String(), planted)
}

// TestHostileMySQL: whatever a server says, it learns no password, gets no file, holds nobody up, and none of its words are repeated.
func TestHostileMySQL(t *testing.T) {
	cert, key := selfSigned(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	require.NoError(t, err)
	line := &tls.Config{Certificates: []tls.Certificate{pair}}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert))
	const native = "mysql_native_password"
	switches := func(plugin string) func(*fakeMySQL) {
		return func(f *fakeMySQL) {
			f.greet(line, native)
			f.say("\xfe", plugin, "\x00", fakeNonce, "\x00")
			f.hear()
			f.say(fakeOK)
		}
	}
	for _, row := range []struct {
		name  string
		serve func(*fakeMySQL)
		want  probe.Outcome
	}{
		{"asks for the password", switches("mysql_clear_password"), probe.Unsupported},
		{"asks by a dialog", switches("dialog"), probe.Unsupported},
		{"asks in sha256's way", switches("sha256_password"), probe.Unsupported},
		{"asks in the way of old", switches("mysql_old_password"), probe.Unsupported},
		{"asks in the way of old, unnamed", func(f *fakeMySQL) { f.greet(line, native); f.say("\xfe"); f.hear() }, probe.Unsupported},
		{"greets with a clear password", func(f *fakeMySQL) { f.greet(line, "mysql_clear_password"); f.say(fakeDenied) }, probe.Unauthorized},
		{"asks for a file", func(f *fakeMySQL) {
			if in := f.greet(line, native); in.flags&(0x80|0x20|1<<16|1<<17) != 0 {
				_, _ = f.heard.Write([]byte(planted)) // it offered files, compression or statements
			}
			f.say("\xfb/etc/passwd")
			f.hear()
		}, probe.Refused},
		{"asks for a file in place of a greeting", func(f *fakeMySQL) { f.say("\xfb/etc/passwd"); f.hear() }, probe.Refused},
		{"switches for ever", func(f *fakeMySQL) {
			f.greet(line, native)
			for f.say("\xfe", native, "\x00", fakeNonce, "\x00"); f.hear() != nil; {
				f.say("\xfe", native, "\x00", fakeNonce, "\x00")
			}
		}, probe.Refused},
		{"asks for ever", func(f *fakeMySQL) {
			f.greet(line, "caching_sha2_password")
			for range 1000 {
				f.say("\x01\x03")
			}
		}, probe.Refused},
		{"hands out a key that nobody asked for", func(f *fakeMySQL) {
			f.greet(line, "caching_sha2_password")
			f.say("\x01-----BEGIN PUBLIC KEY-----\n")
			f.hear()
		}, probe.Refused},
		{"asks in full of another way", func(f *fakeMySQL) { f.greet(line, native); f.say("\x01\x04"); f.hear() }, probe.Refused},
		{"a packet of 16 MB", func(f *fakeMySQL) {
			f.greet(line, native)
			_, _ = f.Write([]byte{0xff, 0xff, 0xff, f.next})
			_, _ = io.Copy(f, io.LimitReader(rand.Reader, 16<<20))
		}, probe.Refused},
		{"an empty packet", func(f *fakeMySQL) { f.greet(line, native); f.say(""); f.hear() }, probe.Refused},
		{"a wrong number", func(f *fakeMySQL) { f.greet(line, native); f.next += 7; f.say(fakeOK) }, probe.Refused},
		{"a short nonce", func(f *fakeMySQL) { f.greet(line, native); f.say("\xfe", native, "\x00", "abc"); f.hear() }, probe.Refused},
		{"an error without a number", func(f *fakeMySQL) { f.greet(line, native); f.say("\xff\x15") }, probe.Refused},
		{"a greeting that breaks off", func(f *fakeMySQL) { f.say(fakeGreeting(fakeFlags|fakeTLS, native)[:30]); f.hear() }, probe.Refused},
		{"a greeting without an end", func(f *fakeMySQL) { f.say("\x0a" + strings.Repeat("x", 4000)) }, probe.Refused},
		{"another protocol", func(f *fakeMySQL) { f.say("\x09" + fakeGreeting(fakeFlags, native)[1:]) }, probe.Refused},
		{"knows no plugins", func(f *fakeMySQL) { f.say(fakeGreeting(fakeTLS|1<<9, native)) }, probe.Unsupported},
		{"sends elsewhere", func(f *fakeMySQL) { // MariaDB's redirection, in the text of an OK; nobody reads that
			f.greet(line, native)
			f.say("\x00\x00\x00\x02\x40\x00\x00\x00\x18\x01\x16\x0credirect_url\x0bupstream-text")
		}, probe.OK},
		{"an answer before TLS", func(f *fakeMySQL) {
			f.say(fakeGreeting(fakeFlags|fakeTLS, native))
			f.next = 2
			f.say(fakeOK) // slipped in by somebody on the way
			f.hear()
		}, probe.TLSFailed},
		{"hangs up", func(f *fakeMySQL) { f.greet(line, native) }, probe.Refused},
	} {
		t.Run(row.name, func(t *testing.T) {
			address, heard := fakes(t, row.serve)
			b := newBench(t, 20*time.Second, roots, address)
			for _, mode := range []string{"VERIFY_IDENTITY", "REQUIRED"} {
				start := time.Now()
				got := b.test(mysqlTrial(address, planted, mode), probe.Ask{})
				require.Equal(t, row.want, got.Outcome, "%s %+v", mode, got)
				require.Less(t, time.Since(start), 10*time.Second)
			}
			require.NotContains(t, heard.String(), planted)
		})
	}

	// Without TLS as well: whoever takes it out of the greeting gets nothing from a string that insists, and from another no more than a proof.
	address, heard := fakes(t, func(f *fakeMySQL) { f.greet(nil, native); f.say(fakeDenied) })
	b := newBench(t, 0, roots, address)
	for _, mode := range []string{"VERIFY_IDENTITY", "VERIFY_CA", "REQUIRED", "true", "skip-verify"} {
		require.Equal(t, probe.TLSFailed, b.outcome(mysqlTrial(address, planted, mode), probe.Ask{}), mode)
	}
	require.Empty(t, heard.String())
	for _, mode := range []string{"PREFERRED", "DISABLED", ""} {
		require.Equal(t, probe.Unauthorized, b.outcome(mysqlTrial(address, planted, mode), probe.Ask{}), mode)
	}
	require.NotContains(t, heard.String(), planted)
	wide := strings.Replace(address, "127.0.0.1", "localhost", 1)
	require.Equal(t, probe.Forbidden, b.outcome(mysqlTrial(wide, planted, "PREFERRED"), probe.Ask{}), "only the name that is allowed")

	// Slow ones end with the time that a probe has.
	for name, serve := range map[string]func(*fakeMySQL){
		"says nothing": func(f *fakeMySQL) { f.hear() },
		"trickles": func(f *fakeMySQL) {
			text := "\x50\x00\x00\x00" + fakeGreeting(fakeFlags, native)
			for i := range len(text) {
				if _, err := f.Write([]byte(text[i : i+1])); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		},
	} {
		address, heard := fakes(t, serve)
		start := time.Now()
		require.Equal(t, probe.Unreachable, newBench(t, 400*time.Millisecond, nil, address).outcome(mysqlTrial(address, planted, "DISABLED"), probe.Ask{}), name)
		require.Less(t, time.Since(start), 30*time.Second) // generous: the machine may be busy
		require.Empty(t, heard.String())
	}
}

// TestMySQLRefusals: each number that is known has its own advice.
func TestMySQLRefusals(t *testing.T) {
	var number uint16
	var early bool
	address, _ := fakes(t, func(f *fakeMySQL) {
		if !early {
			f.greet(nil, "caching_sha2_password")
		}
		f.say("\xff", string(binary.LittleEndian.AppendUint16(nil, number)), "#08004upstream-text")
		f.hear()
	})
	b := newBench(t, 0, nil, address)
	seen := map[string]bool{}
	for _, row := range []struct {
		number uint16
		early  bool
		want   probe.Outcome
	}{
		{1045, false, probe.Unauthorized}, {1698, false, probe.Unauthorized}, {1130, true, probe.Unauthorized}, {1862, false, probe.Unauthorized}, {1820, false, probe.Unauthorized}, {3118, false, probe.Unauthorized},
		{4151, false, probe.Unauthorized}, {1044, false, probe.Refused}, {1049, false, probe.Refused}, {1129, true, probe.Refused}, {1040, true, probe.Refused}, {3159, false, probe.TLSFailed},
		{1251, false, probe.Unsupported}, {65535, false, probe.Refused},
	} {
		number, early = row.number, row.early
		got := b.test(mysqlTrial(address, planted, "DISABLED"), probe.Ask{})
		require.Equal(t, row.want, got.Outcome, "%+v %+v", row, got)
		seen[got.Detail] = true
	}
	require.Len(t, seen, 9, fmt.Sprint(seen))
}
