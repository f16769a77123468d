// Package probe tries whether a stored credential works where it is used.
//
// Promise: a probe sends a secret nowhere but to the hosts that the credential is bound to, over connections that the address guard has judged, and ends
// within ten seconds. Before anything leaves, the try is on record; what became of it is recorded after. The answer is an outcome from a closed list with
// a sentence of ours that says what to do next.
//
// Limits: HTTP (bearer, basic, a header), TLS certificates, SSH keys, PostgreSQL, MySQL and MariaDB; of the last two no more than the login, in those
// ways that prove a password without telling it (and caching_sha2_password in full to a server whose certificate has proved it). One probe says what
// was true at one moment, from this machine. An answer of 2xx says that the request was taken, not that the path asked for the credential; a database
// that nobody has proved can say that it lets in whom it does not know.
//
// Invariants: no redirect is followed; no byte of what a server says reaches the caller, the log or the record; no connection of the database is held
// while a server is asked; nothing is read without a bound.
package probe

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/vault"
)

// Outcome is what became of a probe.
type Outcome string

// The outcomes.
const (
	OK           Outcome = "ok"
	Refused      Outcome = "refused"      // there was an answer, and it is no success; or what is stored is of no use
	Unauthorized Outcome = "unauthorized" // the server does not take the credential
	Unreachable  Outcome = "unreachable"
	TLSFailed    Outcome = "tls_failed" // the server could not prove who it is, an SSH server among them
	Unsupported  Outcome = "unsupported"
	Forbidden    Outcome = "forbidden_address"
)

// Outcomes returns every outcome.
func Outcomes() []Outcome {
	return []Outcome{OK, Refused, Unauthorized, Unreachable, TLSFailed, Unsupported, Forbidden}
}

// Ask says how to try. Everything may be left out.
type Ask struct {
	Path    string // HTTP: below base_url
	Auth    string // HTTP: bearer, basic or header; empty: as the type and the provider have it
	Header  string // HTTP: which header
	HostKey string // SSH: the SHA256: fingerprint that the server must show
	Offline bool   // look at what is stored and connect to nobody
}

// Result is what a probe found.
type Result struct {
	Outcome Outcome
	Detail  string
	Target  string        // whom it asked, without path or query; empty when nobody was asked
	Status  int           // HTTP's
	HostKey string        // SSH: the fingerprint that the server showed
	Took    time.Duration // of the network alone
}

// Vault is the part of the vault that probes need.
type Vault interface {
	// Try opens a credential to be tried and records that.
	Try(ctx context.Context, caller identity.Caller, id string) (vault.Trial, error)
	// Tried records what became of it.
	Tried(ctx context.Context, caller identity.Caller, t vault.Trial, outcome, target string) error
}

// Config is what a [Room] needs. Vault is required.
type Config struct {
	Vault  Vault
	Policy outbound.Policy
	// RootCAs replaces the system's certificate authorities; nil keeps them.
	RootCAs *x509.CertPool
	Log     *slog.Logger
	// Patience is how long a probe may take; 0 means ten seconds.
	Patience time.Duration
}

const (
	patience = 10 * time.Second
	// atOnce is how many probes an instance runs together, and each of how many of them one caller may have: nobody's slow servers hold up everybody.
	atOnce, each = 16, 4
	// maxAnswer is how much is read of a conversation that is no HTTP.
	maxAnswer = 256 << 10
)

// Room tries credentials. Make it with [New]. It is safe for concurrent use and holds nothing between two probes.
type Room struct {
	vault    Vault
	policy   outbound.Policy
	http     *http.Client
	options  outbound.Options
	dialer   *outbound.Dialer
	roots    *x509.CertPool
	log      *slog.Logger
	patience time.Duration

	mu      sync.Mutex
	running map[string]int // by caller
	all     int
}

// New returns a room.
func New(cfg Config) (*Room, error) {
	if cfg.Vault == nil {
		return nil, errors.New("probe: a vault is needed")
	}
	if cfg.Patience <= 0 {
		cfg.Patience = patience
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	o := outbound.Options{ConnectTimeout: cfg.Patience, HeaderTimeout: cfg.Patience, Timeout: cfg.Patience, RootCAs: cfg.RootCAs, OneShot: true}
	return &Room{vault: cfg.Vault, policy: cfg.Policy, http: outbound.NewClient(cfg.Policy, o), options: o, dialer: outbound.NewDialer(cfg.Policy, o), roots: cfg.RootCAs, log: cfg.Log,
		patience: cfg.Patience, running: map[string]int{}}, nil
}

// Test tries a credential. The faults are those of opening it, rate_limited when too many probes run, and validation_failed for an ask that cannot be.
func (r *Room) Test(ctx context.Context, caller identity.Caller, id string, ask Ask) (Result, error) {
	if err := ask.check(); err != nil {
		return Result{}, err
	}
	who := caller.CountedAs()
	if !r.begin(who) {
		return Result{}, fault.New(fault.TooMany, "rate_limited", "Too many credentials are being tested at this moment. Try again in a few seconds.").After(5)
	}
	defer r.end(who)
	trial, err := r.vault.Try(ctx, caller, id)
	if err != nil {
		return Result{}, err
	}
	out := r.try(ctx, trial, ask)
	// It was tried, also when nobody waits for the answer any more.
	if err := r.vault.Tried(context.WithoutCancel(ctx), caller, trial, string(out.Outcome), out.Target); err != nil {
		return Result{}, err
	}
	return out, nil
}

func (r *Room) try(ctx context.Context, t vault.Trial, ask Ask) (out Result) {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	start := time.Now()
	switch t.Type {
	case vault.Password, vault.APIKey, vault.OAuth, vault.JWT:
		out = r.tryHTTP(ctx, t, ask)
	case vault.Certificate:
		out = r.tryCertificate(ctx, t, ask)
	case vault.SSHKey:
		out = r.trySSH(ctx, t, ask)
	case vault.ConnectionString:
		out = r.tryConnection(ctx, t, ask)
	default:
		out = Result{Outcome: Unsupported, Detail: "Credentials of this type are used in ways that Signalbox does not know, so there is nothing to try."}
	}
	if out.Target != "" {
		out.Took = time.Since(start)
	}
	return out
}

// begin takes a place, which end gives back.
func (r *Room) begin(who string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all >= atOnce || r.running[who] >= each {
		return false
	}
	r.all++
	r.running[who]++
	return true
}

func (r *Room) end(who string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all--
	if r.running[who]--; r.running[who] == 0 {
		delete(r.running, who)
	}
}

// failed turns the failure of a call into an outcome. Nothing of the error's text is used.
func failed(err error, target string) Result {
	out := Result{Target: target, Outcome: Unreachable}
	if f, ok := fault.As(err); ok && errors.Is(err, outbound.ErrRefused) {
		out.Outcome, out.Detail = Forbidden, f.Detail
		return out
	}
	switch outbound.ReasonOf(err) {
	case outbound.ProxyRefused:
		out.Outcome, out.Detail = Forbidden, "The outbound proxy is at a private or reserved address, or spoken to in plain http. If Signalbox may call it, allow its host, host:port or network in SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS."
	case outbound.ProxyLogin:
		out.Detail = "The outbound proxy wants another user name or password. Correct upstream.proxy_username, or rotate proxy_password."
	case outbound.ProxyFailed:
		out.Detail = "The outbound proxy could not be reached, or opened no connection to the server. Check the proxy, and that it lets this server through."
	case outbound.NoSuchName:
		out.Detail = "The server's name does not exist. Correct the address."
	case outbound.Unresolved:
		out.Detail = "The server's name could not be resolved. Check the name server of the machine that Signalbox runs on."
	case outbound.NotListening:
		out.Detail = "The server refused the connection. Check that the service runs there, and the port."
	case outbound.Untrusted:
		out.Outcome, out.Detail = TLSFailed, "No trusted TLS connection could be made: the certificate is not valid for this name, has expired or is of an unknown authority, or the server speaks no TLS. Check the server's certificate."
	case outbound.TimedOut, outbound.Cancelled:
		out.Detail = "The server did not answer in time. Check that it can be reached from the machine that Signalbox runs on."
	case outbound.CutOff:
		out.Outcome, out.Detail = Refused, "The server closed the connection before its answer was complete. Check the port and the server's own log."
	case outbound.Failed, outbound.Oversized:
		out.Outcome, out.Detail = Refused, "The server's answer makes no sense for this kind of service. Check the address and the port."
	default:
		out.Detail = "The server could not be reached. Check the address, and that it can be reached from the machine that Signalbox runs on."
	}
	return out
}

// dial opens a guarded connection that ends with ctx and is read up to a bound.
func (r *Room) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := r.dialer.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	return &capped{Conn: conn, left: maxAnswer}, nil
}

// capped is a connection of which only so much is read, and whose deadline nobody moves beyond the probe's.
type capped struct {
	net.Conn
	left int
}

// Read fails when the other side has said more than it may.
func (c *capped) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, outbound.ErrTooLarge
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// SetDeadline does nothing: the probe's own stays.
func (c *capped) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing: the probe's own stays.
func (c *capped) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing: the probe's own stays.
func (c *capped) SetWriteDeadline(time.Time) error { return nil }
