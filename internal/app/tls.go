package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateEvery is how often a handshake looks whether the files have changed.
const certificateEvery = 5 * time.Second

// certificate is the TLS certificate of the listener. It is read again when its files change, so that whoever renews it need not restart the
// server; files that cannot be used leave the one in force as it is. There is no background work: a handshake looks.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	mu     sync.Mutex
	looked time.Time
	state  [2]fileState // of the files when they were last read, whatever came of it
	inUse  *tls.Certificate
}

// fileState tells one content of a file from another. Renewals replace the file or rewrite it; either changes one of these.
type fileState struct {
	size     int64
	modified time.Time
	info     os.FileInfo
}

func (s fileState) same(t fileState) bool {
	return s.size == t.size && s.modified.Equal(t.modified) && (s.info == nil) == (t.info == nil) && (s.info == nil || os.SameFile(s.info, t.info))
}

// openCertificate reads the certificate, and refuses one that no client could accept.
func openCertificate(certFile, keyFile string, log *slog.Logger, now func() time.Time) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log, now: now}
	c.state = c.states()
	made, err := readCertificate(certFile, keyFile, now())
	if err != nil {
		return nil, err
	}
	c.inUse, c.looked = made, now()
	return c, nil
}

func readCertificate(certFile, keyFile string, now time.Time) (*tls.Certificate, error) {
	for _, f := range []struct{ path, setting string }{{certFile, "tls-cert-file"}, {keyFile, "tls-key-file"}} {
		file, err := os.Open(f.path)
		if err != nil {
			return nil, fmt.Errorf("the file of --%s cannot be read: %w", f.setting, err)
		}
		_ = file.Close() // opened to learn whether it can be; nothing was written
	}
	made, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		// Not the library's words: they may quote what stands in the files.
		return nil, fmt.Errorf("%s and %s are no certificate with its key; both must be PEM, the certificate first in its chain, and the key the certificate's own", certFile, keyFile)
	}
	if made.Leaf == nil {
		if made.Leaf, err = x509.ParseCertificate(made.Certificate[0]); err != nil {
			return nil, fmt.Errorf("the certificate in %s cannot be read; make it again", certFile)
		}
	}
	if now.After(made.Leaf.NotAfter) {
		return nil, fmt.Errorf("the certificate in %s expired on %s; renew it", certFile, made.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if len(made.Leaf.DNSNames)+len(made.Leaf.IPAddresses) == 0 {
		return nil, fmt.Errorf("the certificate in %s names no host (no subject alternative name), so no client accepts it; make one that does", certFile)
	}
	return &made, nil
}

func (c *certificate) states() (out [2]fileState) {
	for i, path := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(path); err == nil {
			out[i] = fileState{size: info.Size(), modified: info.ModTime(), info: info}
		}
	}
	return out
}

// current returns the certificate to show, having looked at the files if that was long ago.
func (c *certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if now.Sub(c.looked) < certificateEvery && !now.Before(c.looked) {
		return c.inUse
	}
	c.looked = now
	state := c.states()
	if state[0].same(c.state[0]) && state[1].same(c.state[1]) {
		return c.inUse
	}
	c.state = state
	made, err := readCertificate(c.certFile, c.keyFile, now)
	if err != nil {
		// A renewal may be half-way: when its second file is written, the state changes once more.
		c.log.Error("the TLS files have changed and cannot be used; the certificate from before stays", "cause", err)
		return c.inUse
	}
	c.inUse = made
	c.log.Info("the TLS certificate was read again", "not_after", made.Leaf.NotAfter.UTC().Format(time.RFC3339))
	return c.inUse
}

// NotAfter returns when the certificate in use expires.
func (c *certificate) NotAfter() time.Time { return c.current().Leaf.NotAfter }

// config is what the listener needs: TLS 1.2 or newer with the library's choice of suites (Go's follows RFC 9325 and is kept current).
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current(), nil
		},
	}
}

// servesTLS reports whether the listener speaks TLS by itself.
func (c Config) servesTLS() bool { return c.TLSCertFile != "" || c.TLSKeyFile != "" }

// checkTLS refuses settings that contradict each other.
func (c Config) checkTLS() error {
	switch {
	case !c.servesTLS():
		return nil
	case c.TLSCertFile == "":
		return fmt.Errorf("%s is set and --tls-cert-file is not; a certificate needs both", c.Origin("tls-key-file"))
	case c.TLSKeyFile == "":
		return fmt.Errorf("%s is set and --tls-key-file is not; a certificate needs both", c.Origin("tls-cert-file"))
	case c.BehindTLSProxy:
		return fmt.Errorf("%s says that a proxy ends TLS, and %s that Signalbox does; keep one of them", c.Origin("behind-tls-proxy"), c.Origin("tls-cert-file"))
	}
	return nil
}
