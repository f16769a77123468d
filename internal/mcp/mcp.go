// Package mcp knows MCP servers, and who is connected to which: it takes deposits of what refreshes somebody's tokens, and hands out the
// fresh access token of a caller for a server.
//
// Promise: a token is handed out for the one subject whose connection it is and for the host of the one server that it is for. A subject and a
// server have one connection. A deposit or a deletion is obeyed by this instance at once, and by every other as soon as it hears of it. What
// refreshes tokens lies sealed in the vault, and package oauth alone refreshes it.
//
// What is lent is on record before it leaves, with what became of it after.
//
// Limits: a deposit is not tried before it is used. A server that nobody has registered takes deposits, and hands out nothing before somebody
// has set its address. Tokens that are good lie in memory until they end, something of them changes, or there are too many.
//
// Invariants: who the subject is comes from the caller alone. A connection that somebody has disabled or contained stays so whatever is
// deposited, also after its deletion. A credential that was not made for that subject and server is not handed out.
package mcp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Refresher brings fresh access tokens. [oauth.Room] does.
type Refresher interface {
	// Fresh returns the number of a version that is newer than the one given; with [oauth.Ahead] it returns at once.
	Fresh(ctx context.Context, credentialID string, generation int64, why oauth.Why) (int64, error)
}

// Sealer seals the ids of sessions. A [keyring.Ring] does.
type Sealer interface {
	Seal(purpose string, v secret.Value, aad secret.AAD) ([]byte, error)
	Open(purpose string, box []byte, aad secret.AAD) (secret.Value, error)
}

// Config is what a [Room] is made of. All but Log and Clock is required.
type Config struct {
	DB        *store.DB
	Ring      Sealer
	Vault     *vault.Room
	Refresher Refresher
	// CheckURL refuses the address of a server that Signalbox would not call. Its error must be a fault that does not quote the URL.
	CheckURL URLCheck
	Log      *slog.Logger
	// Clock is the time by which access tokens end; nil means the wall clock.
	Clock func() time.Time
}

// Room is the room of MCP servers. Make it with [New] before the database is started.
type Room struct {
	db        *store.DB
	ring      Sealer
	vault     *vault.Room
	refresher Refresher
	check     URLCheck
	log       *slog.Logger
	now       func() time.Time

	mu      sync.RWMutex
	servers map[string]Server // by slug
	held    *held
}

// New returns a room that follows the change feed of the database.
func New(cfg Config) (*Room, error) {
	if cfg.DB == nil || cfg.Ring == nil || cfg.Vault == nil || cfg.Refresher == nil || cfg.CheckURL == nil {
		return nil, errors.New("mcp: a database, a keyring, a vault, a refresher and a check of addresses are required")
	}
	r := &Room{db: cfg.DB, ring: cfg.Ring, vault: cfg.Vault, refresher: cfg.Refresher, check: cfg.CheckURL, log: cfg.Log, now: cfg.Clock, servers: map[string]Server{}, held: newHeld()}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.db.Subscribe(r.follow)
	return r, nil
}

// follow takes changes from the feed: servers are read anew, and tokens of what changed are forgotten.
func (r *Room) follow(ctx context.Context, changes []store.Change) error {
	servers := false
	for _, c := range changes {
		switch c.Topic {
		case store.TopicReset:
			r.held.clear()
			servers = true
		case store.TopicCredential:
			r.held.dropCredential(c.Subject)
		case store.TopicMCP:
			if store.ValidID(serverPrefix, c.Subject) {
				servers = true
			} else {
				r.held.dropConnection(c.Subject)
			}
		}
	}
	if !servers {
		return nil
	}
	list, err := r.readServers(ctx)
	if err != nil {
		return err
	}
	next := make(map[string]Server, len(list))
	for _, s := range list {
		next[s.Slug] = s
	}
	r.mu.Lock()
	r.servers = next
	r.mu.Unlock()
	return nil
}

// maxSlug is how long the name of a server may be, in characters.
const maxSlug = 255

// ValidSlug reports whether a server can be named so: 1 to 255 characters, none of them a control character.
func ValidSlug(s string) bool {
	return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= maxSlug && !strings.ContainsFunc(s, unicode.IsControl)
}

// Subject says whose connections a caller uses and makes: a person's or service account's of ours by their id, and for the token of an outside
// issuer that is about nobody of ours, the issuer with the subject. Only such a caller needs no role, but the scope mcp_connections:write all the
// same. The faults are those of [identity.Within]; nobody else has connections.
func Subject(caller identity.Caller) (string, error) {
	if caller.Kind == identity.KindJWT && caller.UserID == "" && caller.ServiceID == "" {
		switch {
		case caller.IssuerID == "" || caller.Subject == "":
			return "", fault.New(fault.Unauthenticated, "unauthenticated", "This token does not say whom it is about.")
		case !caller.Scopes.Has(identity.MCPConnect):
			return "", fault.New(fault.Forbidden, "scope_missing", "The issuer of this token may not have people connect to MCP servers: it lacks the scope "+string(identity.MCPConnect)+".")
		}
		s := caller.IssuerID + "#" + caller.Subject
		if len(s) > maxSubject || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) || strings.TrimSpace(s) != s {
			return "", fault.New(fault.Unauthenticated, "unauthenticated", "This token names its subject in a form that is not taken here.")
		}
		return s, nil
	}
	if _, err := identity.Within(caller, identity.MCPConnect); err != nil {
		return "", err
	}
	switch {
	case caller.UserID != "":
		return caller.UserID, nil
	case caller.ServiceID != "":
		return caller.ServiceID, nil
	}
	return "", fault.New(fault.Forbidden, "forbidden", "Only people, service accounts and callers of an outside issuer are connected to MCP servers.")
}

// maxSubject is how long a subject may be, in bytes.
const maxSubject = 320

// madeFor is what stands in a credential, under its MAC, that was made for connections to a server.
func madeFor(slug string) string {
	sum := sha256.Sum256([]byte(slug))
	return "mcp:" + hex.EncodeToString(sum[:16])
}
