package mcp

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/scrub"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Use says for the record what a request to a server is for.
type Use struct {
	Method string // of HTTP
	Call   string // the method of JSON-RPC; "" for a message that is an answer, and for no message
	Tool   string // the tool that is called; "" where none is
	// Arguments is the hexadecimal digest of the tool's arguments; "" where none came.
	Arguments string
	Bytes     int64 // of the request's body
}

// Outcome is what became of a request.
type Outcome struct {
	// Result is one of the words of lease outcomes: ok, upstream_error, upstream_broke, upstream_unreachable, client_cancelled, revoked, refused.
	Result    string
	Status    int   // the server's; 0 when there was none
	Bytes     int64 // of the answer's body, as sent to the client
	FirstByte time.Duration
	Unsent    bool // for certain, nothing of the request reached the server
}

// Loan is the right to send one request to a server.
type Loan struct {
	room    *Room
	caller  identity.Caller
	subject string
	server  Server
	url     *url.URL
	token   Token
	use     Use
	id      string
	attempt int64
	granted time.Time
	settled atomic.Bool
}

// Lend lends the caller's access token for one request to a server, and has that on record when it returns. Faults: those of [Room.Token], and
// audit_unavailable.
func (r *Room) Lend(ctx context.Context, caller identity.Caller, slug string, use Use) (*Loan, error) {
	subject, err := r.subject(ctx, caller) // before anything is told of servers
	if err != nil {
		return nil, err
	}
	if err := r.db.Fresh(ctx); err != nil {
		return nil, err
	}
	s, err := r.Server(slug)
	if err != nil {
		return nil, err
	}
	t, err := r.Token(ctx, caller, slug)
	if err != nil {
		return nil, err
	}
	return r.lend(&Loan{room: r, caller: caller, subject: subject, server: s, token: t, use: use, attempt: 1})
}

func (r *Room) lend(l *Loan) (*Loan, error) {
	u, err := url.Parse(l.server.URL)
	if err != nil || u.Host != l.token.Host {
		return nil, errMoved()
	}
	l.url, l.id, l.granted = u, store.NewID("lease"), time.Now()
	ev := l.caller.Event(store.LeaseGranted, l.target())
	ev.Outcome = store.OutcomePending
	ev.Details = append(l.facts(), store.Int("version", l.token.Version), store.Str("method", l.use.Method), store.Str("host", u.Host), store.Int("body_bytes", l.use.Bytes))
	for _, d := range [...][2]string{{"call", l.use.Call}, {"tool", l.use.Tool}, {"arguments_sha256_128", l.use.Arguments}} {
		if d[1] != "" {
			ev.Details = append(ev.Details, store.Str(d[0], d[1]))
		}
	}
	// Not the request's context: a client that hangs up during the commit would leave an intent of which nobody knows whether it was used.
	if _, err := r.db.Append(context.Background(), ev); err != nil {
		return nil, err
	}
	return l, nil
}

// facts are in both records.
func (l *Loan) facts() store.Details {
	return store.Details{store.Str("lease", l.id), store.Str("mcp_server", l.server.Slug), store.Int("attempt", l.attempt)}
}

// target is the credential that is lent, or the server that wants none.
func (l *Loan) target() store.Target {
	if l.token.CredentialID == "" {
		return l.server.Target()
	}
	return store.Target{Kind: "credential", ID: l.token.CredentialID, Name: "MCP " + l.server.Slug}
}

// URL returns a copy of the server's address.
func (l *Loan) URL() *url.URL {
	u := *l.url
	return &u
}

// Lends reports whether the server gets an access token.
func (l *Loan) Lends() bool { return l.token.CredentialID != "" }

// Scrubber returns what takes the access token out of an answer; nil where none is lent. The error is that of [scrub.New].
func (l *Loan) Scrubber() (*scrub.Scrubber, error) {
	if !l.Lends() {
		return nil, nil
	}
	return l.token.scrubber()
}

// Apply puts the access token into a request, which must go to the server's address.
func (l *Loan) Apply(req *http.Request) error {
	u := req.URL
	if l.settled.Load() || u == nil || u.Scheme != l.url.Scheme || u.Host != l.token.Host || u.User != nil || u.Opaque != "" || req.Host != "" && req.Host != u.Host {
		return fault.New(fault.Forbidden, "host_not_bound", "The token of this connection may not be sent to the host of this request.")
	}
	req.Header.Del("Authorization")
	if l.Lends() {
		req.Header["Authorization"] = []string{"Bearer " + l.token.Value.Reveal()}
	}
	return nil
}

// Renew settles the loan after the server has answered 401 to it, and returns one with a fresh token.
func (l *Loan) Renew(ctx context.Context, o Outcome) (*Loan, error) {
	l.Done(o)
	t, err := l.room.Again(ctx, l.caller, l.server.Slug, l.token)
	if err != nil {
		return nil, err
	}
	return l.room.lend(&Loan{room: l.room, caller: l.caller, subject: l.subject, server: l.server, token: t, use: l.use, attempt: l.attempt + 1})
}

// Stands returns why the caller may use the loan no longer; nil while they may. The caller is who they are by now.
func (l *Loan) Stands(ctx context.Context, caller identity.Caller) error {
	subject, err := Subject(caller)
	if err != nil {
		return err
	}
	if subject != l.subject {
		return errMoved()
	}
	s, err := l.room.Server(l.server.Slug)
	if err != nil {
		return err
	}
	if s.ID != l.server.ID || s.URL != l.server.URL || s.Auth != l.server.Auth {
		return errMoved()
	}
	if !l.Lends() {
		return nil
	}
	at, err := l.room.lending(ctx, key{subject, l.server.Slug})
	if err != nil {
		return err
	}
	if at.material.ID != l.token.CredentialID {
		return errMoved()
	}
	return at.usable(l.room.now())
}

// Done tells what became of the request and ends the loan. Only the first call counts.
func (l *Loan) Done(o Outcome) {
	if !l.settled.CompareAndSwap(false, true) {
		return
	}
	ev := l.caller.Event(store.LeaseOutcome, l.target())
	ev.IP, ev.UserAgent = "", "" // the intent has them
	switch o.Result {
	case "ok", "client_cancelled": // a client that cancels has used the token, and nothing failed
		ev.Outcome = store.OutcomeOK
	case "revoked", "refused":
		ev.Outcome = store.OutcomeRefused
	default:
		ev.Outcome = store.OutcomeFailed
	}
	if o.Result != "ok" {
		ev.Reason = o.Result
	}
	ev.Details = append(l.facts(), store.Str("result", o.Result), store.Int("status", int64(o.Status)), store.Int("bytes", o.Bytes),
		store.Int("first_byte_ms", millis(o.FirstByte)), store.Int("duration_ms", millis(time.Since(l.granted))))
	if o.Unsent {
		ev.Details = append(ev.Details, store.Bool("unsent", true))
	}
	l.room.db.AppendLater(ev)
}

// millis rounds up: 0 says that there was none.
func millis(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

func errMoved() error {
	return fault.New(fault.Conflict, "state_conflict", "This MCP server, or your connection to it, was changed a moment ago. Send the request again.")
}

// sessionPurpose derives the key of sessions' ids.
const sessionPurpose = "mcp-session"

// ErrSession says that the id of a session is none that was given to this caller for this server and connection.
var ErrSession = errors.New("mcp: no such session")

// SealSession returns what the caller is told instead of the id that a server gave a session: worth nothing to anybody else, for another server, or
// with another connection.
func (l *Loan) SealSession(id string) (string, error) {
	box, err := l.room.ring.Seal(sessionPurpose, secret.FromString(id), l.sessionAAD())
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(box), nil
}

// OpenSession returns the server's id of a session. The error is [ErrSession] for what [Loan.SealSession] did not return here.
func (l *Loan) OpenSession(sealed string) (string, error) {
	box, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return "", ErrSession
	}
	id, err := l.room.ring.Open(sessionPurpose, box, l.sessionAAD())
	if err != nil {
		if f, ok := fault.As(err); ok {
			return "", f
		}
		return "", ErrSession // also of a data key that is gone: the client begins a new session
	}
	return id.Reveal(), nil
}

func (l *Loan) sessionAAD() secret.AAD {
	return secret.AAD{Table: "mcp_sessions", ID: l.server.ID + "/" + l.token.CredentialID, Field: l.subject}
}
