package notify_test

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// pair is a certificate for 127.0.0.1 that only these tests trust.
type pair struct {
	key, cert string
	roots     *x509.CertPool
}

func newPair(t *testing.T) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	p := pair{
		key:  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		cert: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), roots: x509.NewCertPool(),
	}
	require.True(t, p.roots.AppendCertsFromPEM([]byte(p.cert)))
	return p
}

// taken is a mail that the server took.
type taken struct {
	Mail, From string
	To         []string
	Secure     bool
	User       string
	Method     string
	Hello      string
}

// mailServer is npm's smtp-server, as the lock of tools/npm pins it.
type mailServer struct {
	port  int
	mails *bufio.Scanner
}

func startMailServer(t *testing.T, options map[string]any) *mailServer {
	t.Helper()
	install := exec.Command("../../scripts/npm.sh")
	var complaint bytes.Buffer
	install.Stderr = &complaint
	home, err := install.Output()
	require.NoError(t, err, "npm's smtp-server is not there: %s", complaint.String())
	options["home"] = strings.TrimSpace(string(home))
	text, err := json.Marshal(options)
	require.NoError(t, err)
	cmd := exec.Command("node", "testdata/smtp.mjs", string(text))
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	s := &mailServer{mails: bufio.NewScanner(out)}
	require.True(t, s.mails.Scan())
	var told struct{ Port int }
	require.NoError(t, json.Unmarshal(s.mails.Bytes(), &told))
	s.port = told.Port
	return s
}

func (s *mailServer) next(t *testing.T) taken {
	t.Helper()
	require.True(t, s.mails.Scan())
	var m taken
	require.NoError(t, json.Unmarshal(s.mails.Bytes(), &m))
	return m
}

func (o *office) mailChannel(name string, e notify.Email) notify.Channel {
	o.t.Helper()
	if e.Host == "" {
		e.Host = "127.0.0.1"
	}
	e.From, e.To = "signalbox@example.com", []string{"ada@example.com", "bob@example.com"}
	d := notify.Draft{Kind: notify.Mail, Name: name, Email: &e}
	if e.Username != "" {
		d.Secrets = values("password", planted)
	}
	c, err := o.CreateChannel(o.t.Context(), person{}, d)
	require.NoError(o.t, err)
	return c
}

// TestMail goes to a server that we did not write: STARTTLS and TLS from the first byte, both ways of logging in, and without any of it
// where the operator allows the host. A password leaves only encrypted, or to such a host.
func TestMail(t *testing.T) {
	p := newPair(t)
	with := func(more map[string]any) map[string]any {
		out := map[string]any{"key": p.key, "cert": p.cert, "starttls": true, "user": "signalbox", "password": planted}
		for k, v := range more {
			out[k] = v
		}
		return out
	}
	for name, c := range map[string]struct {
		server map[string]any
		email  notify.Email
		trusts bool
		says   string // why not; "" when it is taken
		final  bool   // and never will be
	}{
		"starttls":               {with(nil), notify.Email{TLS: notify.StartTLS, Username: "signalbox"}, true, "", false},
		"starttls, LOGIN":        {with(map[string]any{"auth": []string{"LOGIN"}}), notify.Email{TLS: notify.StartTLS, Username: "signalbox"}, true, "", false},
		"implicit":               {with(map[string]any{"secure": true}), notify.Email{TLS: notify.Implicit, Username: "signalbox"}, true, "", false},
		"no login":               {with(map[string]any{"user": ""}), notify.Email{TLS: notify.StartTLS}, true, "", false},
		"nothing, allowed":       {with(map[string]any{"starttls": false, "insecure": true}), notify.Email{TLS: notify.Plain, Username: "signalbox"}, true, "", false},
		"nobody vouches for it":  {with(nil), notify.Email{TLS: notify.StartTLS, Username: "signalbox"}, false, "No trusted TLS connection", false},
		"nor for this":           {with(map[string]any{"secure": true}), notify.Email{TLS: notify.Implicit, Username: "signalbox"}, false, "No trusted TLS connection", false},
		"no starttls":            {with(map[string]any{"starttls": false, "insecure": true}), notify.Email{TLS: notify.StartTLS, Username: "signalbox"}, true, "does not offer STARTTLS", false},
		"wrong password":         {with(map[string]any{"password": "another"}), notify.Email{TLS: notify.StartTLS, Username: "signalbox"}, true, "refused the login for good (535)", true},
		"only what we cannot do": {with(map[string]any{"auth": []string{"XOAUTH2"}}), notify.Email{TLS: notify.StartTLS, Username: "signalbox"}, true, "neither AUTH PLAIN nor AUTH LOGIN", false},
		"recipient refused":      {with(map[string]any{"refuse": true}), notify.Email{TLS: notify.StartTLS, Username: "signalbox"}, true, "The mail server refused the message for good (550).", true},
	} {
		t.Run(name, func(t *testing.T) {
			server := startMailServer(t, c.server)
			for _, e := range storetest.Engines() {
				s := newSite(t, e)
				if c.trusts {
					s.roots = p.roots
				}
				o := s.open(t)
				c.email.Port = server.port
				o.mailChannel("mail", c.email)
				m := message()
				m.Title, m.Text = "Müller\r\nBcc: eve@example.com", "one\n.\ntwo ä"
				o.say(m)
				o.Pass(t.Context())
				d := o.only()
				if c.says != "" {
					state := "waiting"
					if c.final {
						state = "failed"
					}
					require.Equal(t, state, d.State)
					require.Contains(t, d.Detail, c.says)
					require.NotContains(t, d.Detail, "own text")
					continue
				}
				require.Equal(t, "delivered", d.State, d.Detail)
				got := server.next(t)
				require.Equal(t, c.email.TLS != notify.Plain, got.Secure)
				require.Equal(t, c.email.Username, got.User)
				require.Equal(t, "signalbox@example.com", got.From)
				require.Equal(t, []string{"ada@example.com", "bob@example.com"}, got.To)
				parsed, err := mail.ReadMessage(strings.NewReader(got.Mail))
				require.NoError(t, err)
				subject, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
				require.NoError(t, err)
				require.Equal(t, "Signalbox: [warning] Müller Bcc: eve@example.com", subject)
				require.Empty(t, parsed.Header.Get("Bcc"))
				require.Equal(t, d.ID, parsed.Header.Get("Signalbox-Delivery"))
				require.Equal(t, "<"+d.ID+"@example.com>", parsed.Header.Get("Message-Id"))
				body, err := io.ReadAll(quotedprintable.NewReader(parsed.Body))
				require.NoError(t, err)
				require.Contains(t, strings.ReplaceAll(string(body), "\r\n", "\n"), "one\n.\ntwo ä")
				require.NotContains(t, got.Mail, planted)
			}
		})
	}
}

// TestHostileMailServers: one that never speaks up, and one whose line never ends.
func TestHostileMailServers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				block := bytes.Repeat([]byte("2"), 1<<16)
				for { // until nobody reads any more
					if _, err := c.Write(block); err != nil {
						_ = c.Close()
						return
					}
				}
			}()
		}
	}()
	each(t, func(t *testing.T, o *office) {
		o.mailChannel("flood", notify.Email{TLS: notify.StartTLS, Port: l.Addr().(*net.TCPAddr).Port})
		o.say(message())
		o.Pass(t.Context())
		require.Equal(t, "waiting", o.only().State)
		require.Contains(t, o.only().Detail, "over the size limit")
	})
}

// TestAPasswordStaysWithItsServer: who may change a channel cannot have its password sent to a server of their own.
func TestAPasswordStaysWithItsServer(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		c := o.mailChannel("mail", notify.Email{Host: "smtp.example.com", Port: 587, TLS: notify.StartTLS, Username: "u"})
		host, port, how, user := "evil.example.com", 588, notify.Implicit, "v"
		for name, p := range map[string]notify.EmailPatch{"host": {Host: &host}, "port": {Port: &port}, "tls": {TLS: &how}, "username": {Username: &user}} {
			_, err := o.UpdateChannel(t.Context(), person{}, c.ID, notify.Patch{Email: p}, "")
			f := requireFault(t, err, "secret_missing")
			require.Equal(t, "/secrets/password", f.Fields[0].Pointer, name)
		}
		to := []string{"x@example.com"}
		_, err := o.UpdateChannel(t.Context(), person{}, c.ID, notify.Patch{Email: notify.EmailPatch{To: &to}}, "")
		require.NoError(t, err)
		for _, bad := range []string{"a@example.com\r\nBcc: eve@example.com", "Eve <eve@example.com>", "a", "a@example.com, b@example.com", `"a b"@example.com`, "ä@example.com", ""} {
			_, err := o.UpdateChannel(t.Context(), person{}, c.ID, notify.Patch{Email: notify.EmailPatch{From: &bad}}, "")
			requireFault(t, err, "validation_failed")
			list := []string{bad}
			_, err = o.UpdateChannel(t.Context(), person{}, c.ID, notify.Patch{Email: notify.EmailPatch{To: &list}}, "")
			requireFault(t, err, "validation_failed")
		}
	})
}

// curt is a mail server of ours that answers each command with a number, 250 where nothing else is said. It never lets one in who has not
// heard its greeting.
func curt(t *testing.T, says map[string]int) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var talks sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		talks.Wait()
	})
	talks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			talks.Go(func() {
				defer func() { _ = c.Close() }()
				say := func(at string, otherwise int) int {
					code := cmp.Or(says[at], otherwise)
					_, _ = fmt.Fprintf(c, "%d own text, %s\r\n", code, planted)
					return code
				}
				if say("greeting", 220) >= 400 {
					return
				}
				for in := bufio.NewScanner(c); in.Scan(); {
					command, _, _ := strings.Cut(strings.ToUpper(in.Text()), " ")
					switch command {
					case "DATA":
						if say("DATA", 354) != 354 {
							continue
						}
						for in.Scan() && in.Text() != "." {
						}
						say("message", 250)
					case "QUIT":
						say("QUIT", 221)
						return
					default:
						say(command, 250)
					}
				}
			})
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}

// TestMailIsRefusedForGoodOrForNow: at whatever point of the conversation, an answer of 5yz ends the delivery, on record and in the log, and after
// one of 4yz it is tried again.
func TestMailIsRefusedForGoodOrForNow(t *testing.T) {
	for at, code := range map[string]int{"greeting": 554, "MAIL": 553, "RCPT": 550, "DATA": 554, "message": 552} {
		t.Run(at, func(t *testing.T) {
			says := map[string]int{at: code}
			now := map[string]int{at: code - 100}
			each(t, func(t *testing.T, o *office) {
				c := o.mailChannel("mail", notify.Email{TLS: notify.Plain, Port: curt(t, says)})
				o.say(message())
				o.Pass(t.Context())
				d := o.only()
				require.Equal(t, "failed", d.State, d.Detail)
				require.Nil(t, d.NextAt)
				require.NotNil(t, d.SettledAt)
				require.Equal(t, int64(1), d.Attempts)
				require.Equal(t, "The mail server refused the message for good ("+strconv.Itoa(code)+").", d.Detail)
				ev := o.events(store.NotifyFailed)
				require.Len(t, ev, 1)
				require.Equal(t, c.ID, ev[0].Target.ID)
				require.Equal(t, d.Detail, ev[0].Reason)
				require.Contains(t, o.log.String(), "a notification was given up")
				require.Contains(t, o.log.String(), d.ID)
				o.clock.Add(time.Hour)
				o.Pass(t.Context())
				require.Equal(t, int64(1), o.only().Attempts)
			})
			each(t, func(t *testing.T, o *office) {
				o.mailChannel("mail", notify.Email{TLS: notify.Plain, Port: curt(t, now)})
				o.say(message())
				o.Pass(t.Context())
				d := o.only()
				require.Equal(t, "waiting", d.State)
				require.Equal(t, "The mail server answered "+strconv.Itoa(code-100)+", for the time being.", d.Detail)
				require.Empty(t, o.events(store.NotifyFailed))
				o.clock.Add(d.NextAt.Sub(o.clock.Now()))
				o.Pass(t.Context())
				require.Equal(t, int64(2), o.only().Attempts)
			})
		})
	}
}
