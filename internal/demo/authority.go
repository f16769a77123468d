package demo

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"log"
	seeded "math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/secret"
)

// Mischief is what an [Authority] does to one refresh instead of answering it.
type Mischief string

// The mischiefs. Those that end in -after strike when the token has been rotated already, so that only a grace, or asking nobody else for a
// second pair, keeps the grant alive.
const (
	// Busy answers 503 and has not looked at the token.
	Busy Mischief = "busy"
	// Limited answers 429 with a retry-after of a second, and has not looked at the token.
	Limited Mischief = "limited"
	// CutBefore cuts the connection before the token is looked at.
	CutBefore Mischief = "cut-before"
	// CutAfter rotates the token and cuts the connection in the middle of the answer.
	CutAfter Mischief = "cut-after"
	// HangBefore neither looks at the token nor ever answers.
	HangBefore Mischief = "hang-before"
	// HangAfter rotates the token and never answers.
	HangAfter Mischief = "hang-after"
	// GarbageAfter rotates the token and answers 200 with a page of HTML.
	GarbageAfter Mischief = "garbage-after"
)

// Mischiefs lists them all.
func Mischiefs() []Mischief {
	return []Mischief{Busy, Limited, CutBefore, CutAfter, HangBefore, HangAfter, GarbageAfter}
}

// AuthorityOptions configures an [Authority].
type AuthorityOptions struct {
	// Seed decides which refreshes are struck. The same seed strikes the same generations of the same grants.
	Seed uint64
	// Lifetime of the access tokens; an hour when it is 0.
	Lifetime time.Duration
	// Issued is told of each access token before its client has it, and Withdrawn of each that ends before its time. Either may be nil.
	Issued    func(access secret.Value, until time.Time)
	Withdrawn func(access secret.Value)
	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
}

// Treatment is how an [Authority] treats one grant.
type Treatment struct {
	// Name says which of several grants it is.
	Name string
	// Grace is for how long a refresh token goes on after its first use. Its successor of that first use ends when another is given.
	Grace time.Duration
	// Mischief strikes the first call for a generation, and lets the next one pass: one generation in every Every, at random, at least one of
	// the first Every. Every 0 strikes none.
	Mischief Mischief
	Every    int
}

// Authority is a hostile OAuth server: it rotates refresh tokens, takes the whole grant away when one is used twice, and makes mischief of
// refreshes. Make it with [NewAuthority]; it is an [http.Handler] whose one door is POST /token with a form and grant_type=refresh_token.
type Authority struct {
	options AuthorityOptions
	server  *http.Server

	mu     sync.Mutex
	grants []*grant
	tokens map[[sha256.Size]byte]*refreshToken
}

// grant is what one login gave.
type grant struct {
	Treatment
	number  uint64
	record  GrantRecord
	current *refreshToken
	access  []secret.Value // alive
}

// refreshToken is one refresh token of a grant.
type refreshToken struct {
	grant      *grant
	generation int
	calls      int
	usedAt     time.Time // of the first use that gave something; zero before
	successor  *refreshToken
	retired    bool
}

// GrantRecord is what an [Authority] tells of a grant.
type GrantRecord struct {
	Name string `json:"name"`
	// Calls of the token endpoint with a token of this grant, Refreshes that rotated it, Delivered those of them whose answer was sent, and
	// Struck the calls that met mischief.
	Calls     int `json:"calls"`
	Refreshes int `json:"refreshes"`
	Delivered int `json:"delivered"`
	Struck    int `json:"struck"`
	// Retries are calls for a token that had been presented before, which only a recovery may make; Graced those that a grace forgave; Reuses
	// those that took the grant away, or found it gone.
	Retries int `json:"retries"`
	Graced  int `json:"graced"`
	Reuses  int `json:"reuses"`
	// Lost says that the grant was taken away.
	Lost bool `json:"lost"`
	// Generation counts the rotations, and Until is when the newest access token ends.
	Generation int       `json:"generation"`
	Until      time.Time `json:"-"`
}

// Tokens is what an [Authority] gives, until when the access token is good.
type Tokens struct {
	Access, Refresh secret.Value
	Until           time.Time
}

// NewAuthority returns a server without grants.
func NewAuthority(o AuthorityOptions) *Authority {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Lifetime == 0 {
		o.Lifetime = time.Hour
	}
	a := &Authority{options: o, tokens: map[[sha256.Size]byte]*refreshToken{}}
	a.server = &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	return a
}

// Serve answers connections of l until [Authority.Close] and returns nil then; any other end is an error.
func (a *Authority) Serve(l net.Listener) error {
	err := a.server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close ends the server and cuts what is open, what hangs among it.
func (a *Authority) Close(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := a.server.Shutdown(soon); err == nil {
		return nil
	}
	return a.server.Close()
}

// Login makes a grant without asking anybody, and returns its number, which counts from 0.
func (a *Authority) Login(t Treatment) (int, Tokens) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.grants)
	g := &grant{Treatment: t, number: uint64(n), record: GrantRecord{Name: t.Name}}
	a.grants = append(a.grants, g)
	return n, a.issue(g)
}

// Record tells of one grant, by its number.
func (a *Authority) Record(n int) GrantRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.grants[n].record
}

// Records tells of each grant, in the order of the logins.
func (a *Authority) Records() []GrantRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]GrantRecord, len(a.grants))
	for i, g := range a.grants {
		out[i] = g.record
	}
	return out
}

// issue gives a grant its next pair; a.mu is held.
func (a *Authority) issue(g *grant) Tokens {
	t := Tokens{Access: secret.FromString("drill-access-" + rand.Text()), Refresh: secret.FromString("drill-refresh-" + rand.Text()), Until: a.options.Clock().Add(a.options.Lifetime)}
	next := &refreshToken{grant: g, generation: g.record.Generation}
	if g.current != nil {
		g.record.Generation++
		next.generation = g.record.Generation
	}
	a.tokens[sha256.Sum256([]byte(t.Refresh.Reveal()))] = next
	g.current, g.record.Until = next, t.Until
	g.access = append(g.access, t.Access)
	if a.options.Issued != nil {
		a.options.Issued(t.Access, t.Until)
	}
	return t
}

// strikes says whether the refresh that leads on from a generation is struck. It depends on the seed, the grant's number and the generation
// alone, so that the order in which callers come changes nothing.
func (a *Authority) strikes(g *grant, generation int) bool {
	if g.Every == 0 {
		return false
	}
	block := generation / g.Every
	rng := seeded.New(seeded.NewPCG(a.options.Seed, g.number<<32|uint64(block)))
	return generation%g.Every == rng.IntN(g.Every)
}

// take ends a grant; a.mu is held.
func (a *Authority) take(g *grant) {
	if g.record.Lost {
		return
	}
	g.record.Lost = true
	for _, access := range g.access {
		if a.options.Withdrawn != nil {
			a.options.Withdrawn(access)
		}
	}
	g.access = nil
}

// isAfter says that the token has been rotated when the mischief strikes.
func (m Mischief) isAfter() bool {
	return slices.Contains([]Mischief{CutAfter, HangAfter, GarbageAfter}, m)
}
