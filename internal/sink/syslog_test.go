package sink_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/sink"
)

// rsyslog is a real syslog server that writes what it gets to a file.
type rsyslog struct {
	t    *testing.T
	dir  string
	port int
	cmd  *exec.Cmd
}

func newRsyslog(t *testing.T, secure bool) *rsyslog {
	t.Helper()
	if _, err := exec.LookPath("rsyslogd"); err != nil {
		t.Fatal("rsyslogd is missing: apt-get install rsyslog rsyslog-gnutls")
	}
	y := &rsyslog{t: t, dir: t.TempDir(), port: freePort(t)}
	driver := ""
	if secure {
		y.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "2")
		for _, name := range []string{"server", "client"} {
			y.openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", name+".key", "-out", name+".csr", "-subj", "/CN="+name+".test")
			require.NoError(t, os.WriteFile(filepath.Join(y.dir, name+".ext"), []byte("subjectAltName=DNS:localhost,DNS:"+name+".test,IP:127.0.0.1\n"), 0o600))
			y.openssl("x509", "-req", "-in", name+".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", name+".pem", "-days", "2", "-extfile", name+".ext")
		}
		driver = fmt.Sprintf(`global(defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="%[1]s/ca.pem" defaultNetstreamDriverCertFile="%[1]s/server.pem" defaultNetstreamDriverKeyFile="%[1]s/server.key")
`, y.dir)
	}
	module := `module(load="imtcp")`
	if secure {
		module = `module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/name" permittedPeer="client.test")`
	}
	conf := fmt.Sprintf(`global(workDirectory="%[1]s" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")
%[2]s%[3]s
template(name="raw" type="string" string="%%rawmsg%%\n")
input(type="imtcp" port="%[4]d" address="127.0.0.1")
action(type="omfile" file="%[1]s/out" template="raw" asyncWriting="off" flushOnTXEnd="on")
`, y.dir, driver, module, y.port)
	require.NoError(t, os.WriteFile(filepath.Join(y.dir, "conf"), []byte(conf), 0o600))
	t.Cleanup(y.stop)
	return y
}

func (y *rsyslog) openssl(args ...string) {
	y.t.Helper()
	c := exec.Command("openssl", args...)
	c.Dir = y.dir
	out, err := c.CombinedOutput()
	require.NoError(y.t, err, "%s", out)
}

func (y *rsyslog) start() {
	y.t.Helper()
	y.cmd = exec.Command("rsyslogd", "-n", "-f", filepath.Join(y.dir, "conf"), "-i", filepath.Join(y.dir, "pid"))
	out, err := os.Create(filepath.Join(y.dir, "said"))
	require.NoError(y.t, err)
	y.cmd.Stdout, y.cmd.Stderr = out, out
	require.NoError(y.t, y.cmd.Start())
	require.NoError(y.t, out.Close())
	require.Eventually(y.t, func() bool {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(y.port)))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, 20*time.Second, 20*time.Millisecond, "%s", y.said())
}

func (y *rsyslog) said() string {
	b, _ := os.ReadFile(filepath.Join(y.dir, "said"))
	return string(b)
}

func (y *rsyslog) stop() {
	if y.cmd == nil {
		return
	}
	_ = y.cmd.Process.Signal(syscall.SIGTERM)
	_ = y.cmd.Wait()
	y.cmd = nil
}

var syslogLine = regexp.MustCompile(`^<(\d+)>1 (\S+) (\S+) signalbox - (\S+) \[signalbox@32473 log="(\S+)" leaf="(\d+)" hash="(\S+)"\] (\{.*\})$`)

// shelf reads what the server has written.
func (y *rsyslog) shelf() *shelf {
	y.t.Helper()
	s := &shelf{}
	f, err := os.Open(filepath.Join(y.dir, "out"))
	if os.IsNotExist(err) {
		return s
	}
	require.NoError(y.t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m := syslogLine.FindStringSubmatch(lines.Text())
		if m == nil {
			if strings.HasPrefix(lines.Text(), "<") {
				require.Contains(y.t, lines.Text(), "rsyslogd", "a message is not of RFC 5424")
			}
			continue
		}
		pri, _ := strconv.Atoi(m[1])
		require.Equal(y.t, 13, pri/8)
		require.Contains(y.t, m[8], `{"leaf":`+m[6]+`,"hash":"`+m[7]+`","record":{`)
		require.Contains(y.t, m[8], `"at":"`+m[2]+`"`)
		require.Contains(y.t, m[8], `"action":"`+m[4]+`"`)
		require.NoError(y.t, s.take([]byte(m[8]+"\n")))
	}
	require.NoError(y.t, lines.Err())
	return s
}

// everything waits until the server has all that is recorded.
func (o *office) everything(y *rsyslog) int64 {
	o.t.Helper()
	require.NoError(o.t, o.book.Flush(context.Background()))
	size, err := o.book.Size(context.Background())
	require.NoError(o.t, err)
	require.Eventually(o.t, func() bool {
		missing, _, _ := y.shelf().gaps(size)
		return len(missing) == 0
	}, 60*time.Second, 200*time.Millisecond, "of %d records %d came; %s\n%s", size, y.shelf().len(), y.said(), o.log.String()[max(0, len(o.log.String())-2000):])
	return size
}

// TestRsyslogGetsEverything: a real server has every record in order, through restarts of it in the middle, over TCP and over TLS with certificates on both sides.
func TestRsyslogGetsEverything(t *testing.T) {
	for _, transport := range []sink.Transport{sink.TCP, sink.TLS} {
		t.Run(string(transport), func(t *testing.T) {
			each(t, func(t *testing.T, o *office) {
				y := newRsyslog(t, transport == sink.TLS)
				server := &sink.SyslogServer{Transport: transport, Host: "localhost", Port: y.port}
				d := sink.Draft{Kind: sink.Syslog, Name: "logs", Beginning: true, Syslog: server}
				if transport == sink.TLS {
					read := func(name string) string {
						b, err := os.ReadFile(filepath.Join(y.dir, name))
						require.NoError(t, err)
						return string(b)
					}
					server.CA, server.Certificate = read("ca.pem"), read("client.pem")
					d.Secrets = values("client_key", read("client.key"))
				}
				for n := range 300 {
					o.act(n)
				}
				_, s, err := o.Create(t.Context(), person{}, d) // nobody listens yet
				require.NoError(t, err)
				require.Eventually(t, func() bool { at, _, err := o.Get(t.Context(), s.ID); return err == nil && at.Failures > 0 }, 20*time.Second, 20*time.Millisecond)
				y.start()
				o.everything(y)
				for range 2 {
					stop := make(chan struct{})
					done := make(chan struct{})
					go func() {
						defer close(done)
						for n := 0; ; n++ {
							select {
							case <-stop:
								return
							default:
								o.act(n)
							}
						}
					}()
					time.Sleep(300 * time.Millisecond)
					y.stop()
					time.Sleep(300 * time.Millisecond)
					y.start()
					time.Sleep(200 * time.Millisecond)
					close(stop)
					<-done
				}
				size := o.everything(y)
				_, ordered, again := y.shelf().gaps(size)
				require.True(t, ordered)
				t.Logf("%d records in order, %d of them twice", size, again)
				tried, err := o.Try(t.Context(), person{}, s.ID)
				require.NoError(t, err)
				require.True(t, tried.Delivered, tried.Detail)
			})
		})
	}
}

// TestSyslogCountsWhatWasRead: a server that goes away with bytes unread has not had them, and one that never closes is told apart.
func TestSyslogCountsWhatWasRead(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		resets := make(chan struct{}, 1)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 10))
				_ = c.Close() // with bytes unread: a reset
				select {
				case resets <- struct{}{}:
				default:
				}
			}
		}()
		for n := range 20 {
			o.act(n)
		}
		_, s, err := o.Create(t.Context(), person{}, sink.Draft{Kind: sink.Syslog, Name: "logs", Beginning: true,
			Syslog: &sink.SyslogServer{Transport: sink.TCP, Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}})
		require.NoError(t, err)
		<-resets
		require.Eventually(t, func() bool {
			at, _, err := o.Get(t.Context(), s.ID)
			return err == nil && at.Failures > 1 && at.Position == 0
		}, 20*time.Second, 20*time.Millisecond)
	})
}

// TestSyslogOverUDP: each record is a datagram.
func TestSyslogOverUDP(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		p, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		defer p.Close()
		_, s, err := o.Create(t.Context(), person{}, sink.Draft{Kind: sink.Syslog, Name: "logs", Syslog: &sink.SyslogServer{Transport: sink.UDP, Host: "127.0.0.1", Port: p.LocalAddr().(*net.UDPAddr).Port}})
		require.NoError(t, err)
		require.Equal(t, "udp://"+p.LocalAddr().String(), s.Destination)
		o.act(1)
		require.NoError(t, p.SetReadDeadline(time.Now().Add(20*time.Second)))
		b := make([]byte, 1<<16)
		n, _, err := p.ReadFrom(b)
		require.NoError(t, err)
		require.Regexp(t, syslogLine, string(b[:n]))
	})
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
