package demo

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/secret"
)

// credentialHeaders never stay in [Request.Header].
var credentialHeaders = [...]string{"Authorization", "X-Api-Key", "Proxy-Authorization", "Cookie"}

// Request is what the fake received, as far as it was asked to keep it.
type Request struct {
	// ID is the request-id that the answer carries.
	ID string
	// At is when the request had been read.
	At time.Time
	// Method, Path (as escaped by the client), Query (raw), Host and Proto as received.
	Method, Path, Query, Host, Proto string
	// Header has everything but the credentials.
	Header http.Header
	// Credentials holds the values of Authorization, X-Api-Key, Proxy-Authorization and Cookie, whole, by canonical name.
	Credentials map[string][]secret.Value
	// Accepted says that the credential was one that the fake knows.
	Accepted bool
	// BodySize and BodySHA256 tell of the whole body; Body holds its first KeepBody bytes.
	BodySize   int
	BodySHA256 [sha256.Size]byte
	Body       []byte
	// Answered says that a message was answered to its end, so that Input and Output are what it cost in tokens, as the answer itself told.
	Answered      bool
	Input, Output int
}

// Credential returns what the request was authenticated with: the API key, or else the bearer token; the zero Value if neither.
func (r Request) Credential() secret.Value {
	if list := r.Credentials["X-Api-Key"]; len(list) > 0 {
		return list[0]
	}
	for _, v := range r.Credentials["Authorization"] {
		if token, ok := bearer(v.Reveal()); ok {
			return secret.FromString(token)
		}
	}
	return secret.Value{}
}

// Stats counts requests since the start.
type Stats struct {
	// Received requests, refused ones included.
	Received int
	// Open requests at this moment.
	Open int
	// Cancelled requests, whose client went away before the answer was complete.
	Cancelled int
}

// Requests returns the latest recorded requests, oldest first.
func (u *Upstream) Requests() []Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append(slices.Clone(u.latest[u.oldest:]), u.latest[:u.oldest]...)
}

// Forget empties the record; the counts of [Upstream.Stats] go on.
func (u *Upstream) Forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.latest, u.oldest = nil, 0
}

// Stats returns the counts.
func (u *Upstream) Stats() Stats {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stats
}

func (u *Upstream) begin() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stats.Received++
	u.stats.Open++
}

func (u *Upstream) end(cancelled bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stats.Open--
	if cancelled {
		u.stats.Cancelled++
	}
	if u.stats.Open == 0 {
		u.idle.Broadcast()
	}
}

// record keeps one request; sum is the body's hash, zero when the body was not read.
func (u *Upstream) record(r *http.Request, id string, accepted bool, body []byte, sum [sha256.Size]byte) {
	if u.options.Keep <= 0 {
		return
	}
	rec := Request{
		ID: id, At: u.options.Clock(), Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Host: r.Host, Proto: r.Proto,
		Header: r.Header.Clone(), Credentials: map[string][]secret.Value{}, Accepted: accepted, BodySize: len(body), BodySHA256: sum,
	}
	for _, name := range credentialHeaders {
		for _, v := range rec.Header[name] {
			rec.Credentials[name] = append(rec.Credentials[name], secret.FromString(v))
		}
		delete(rec.Header, name)
	}
	if n := min(len(body), u.options.KeepBody); n > 0 {
		rec.Body = slices.Clone(body[:n])
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.latest) < u.options.Keep {
		u.latest = append(u.latest, rec)
		return
	}
	u.latest[u.oldest] = rec
	u.oldest = (u.oldest + 1) % len(u.latest)
}

// answered notes what a message cost that was written to its end.
func (u *Upstream) answered(id string, r reply) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.latest {
		if u.latest[i].ID == id {
			u.latest[i].Answered, u.latest[i].Input, u.latest[i].Output = true, r.input, r.count
			return
		}
	}
}

// bearer returns the token of an Authorization header.
func bearer(header string) (string, bool) {
	scheme, token, ok := strings.Cut(header, " ")
	return token, ok && strings.EqualFold(scheme, "bearer") && token != ""
}
