package mcp

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/scrub"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Token is what goes to a server for a caller.
type Token struct {
	// Value is the access token; empty for a server that wants none.
	Value secret.Value
	// Host is the host, with its port where the address names one, that it may be sent to: the server's.
	Host string
	// CredentialID and Version say for the record what was lent.
	CredentialID string
	Version      int64

	scrubber func() (*scrub.Scrubber, error)
}

// Token returns the caller's fresh access token for a server, from memory while it is good. Faults: not_found for an unknown server, those of
// [Subject], mcp_login_required when the caller has no connection or its grant has ended, mcp_connection_barred when somebody has stopped it, and
// refresh_failed, refresh_pending and those of the database when trying again may help. It records nothing: whoever lends records each use.
func (r *Room) Token(ctx context.Context, caller identity.Caller, server string) (Token, error) {
	return r.token(ctx, caller, server, "", 0)
}

// Again is [Token] after the server has answered 401 to the token: it is refreshed by force, once for all who were refused the same one.
func (r *Room) Again(ctx context.Context, caller identity.Caller, server string, refused Token) (Token, error) {
	if refused.CredentialID == "" {
		return Token{}, errLogin()
	}
	return r.token(ctx, caller, server, refused.CredentialID, refused.Version)
}

func (r *Room) token(ctx context.Context, caller identity.Caller, slug, credential string, denied int64) (Token, error) {
	s, err := r.Server(slug)
	if err != nil {
		return Token{}, err
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" {
		return Token{}, fault.New(fault.NotFound, "not_found", "Nobody has set the address of this MCP server yet. An operator of this Signalbox sets it.")
	}
	subject, err := r.subject(ctx, caller)
	if err != nil {
		return Token{}, err
	}
	switch s.Auth {
	case AuthNone:
		return Token{Host: u.Host}, nil
	case AuthOAuth:
	default:
		return Token{}, noServer()
	}
	l, err := r.lending(ctx, key{subject, slug})
	if err != nil {
		return Token{}, err
	}
	if denied > 0 && l.material.ID == credential && l.material.Version <= denied {
		if l, err = r.renewed(ctx, key{subject, slug}, l, oauth.Denied); err != nil {
			return Token{}, err
		}
	}
	// What was good when it was read may have ended, and a fresh one may be as short-lived: two tries, and no loop.
	for tries := 0; ; tries++ {
		now := r.now()
		if err := l.usable(now); err != nil {
			return Token{}, err
		}
		if !l.wants(now) {
			break
		}
		if !l.lacks(now) && !l.urgent(now) {
			_, _ = r.refresher.Fresh(ctx, l.material.ID, l.material.Version, oauth.Ahead) // nobody waits for it
			break
		}
		fresh, err := r.renewed(ctx, key{subject, slug}, l, oauth.Needed)
		if err != nil {
			if !l.lacks(now) && ctx.Err() == nil {
				break // while the token works, that no fresh one can be had is no reason to refuse
			}
			return Token{}, err
		}
		if l = fresh; tries > 0 {
			break
		}
	}
	value, ok := l.material.Secrets["access_token"]
	if !ok || value.IsZero() {
		return Token{}, errLogin()
	}
	return Token{Value: value, Host: u.Host, CredentialID: l.material.ID, Version: l.material.Version, scrubber: l.scrubber}, nil
}

// renewed has a connection refreshed and reads what came of it.
func (r *Room) renewed(ctx context.Context, k key, l lending, why oauth.Why) (lending, error) {
	if err := l.usable(r.now()); err != nil {
		return lending{}, err
	}
	_, err := r.refresher.Fresh(ctx, l.material.ID, l.material.Version, why)
	if err != nil {
		if f, ok := fault.As(err); ok && (f.Code == "login_required" || f.Code == "not_found") {
			return lending{}, errLogin()
		}
		return lending{}, err
	}
	r.held.drop(k)
	return r.lending(ctx, k)
}

func errLogin() error {
	return fault.New(fault.Conflict, "mcp_login_required", "You are not connected to this MCP server, or what you had granted has ended. Connect it again, then repeat the request.")
}

func errBarred() error {
	return fault.New(fault.Forbidden, "mcp_connection_barred", "Your connection to this MCP server was disabled or contained. Ask an operator of this Signalbox; connecting again does not change that.")
}

// lending is a connection opened for lending.
type lending struct {
	connection string
	barred     bool
	material   vault.Material
	// refreshAt and waitAt are when a fresh token is wanted and needed; zero for a token without an end.
	refreshAt, waitAt time.Time
	// scrubber looks for the access token in what comes back. Making one costs more than a request, so it is made with the first and kept for this version.
	scrubber func() (*scrub.Scrubber, error)
}

// usable returns why nothing of it may be lent at all.
func (l lending) usable(now time.Time) error {
	m := l.material
	switch {
	case l.barred || m.Tampered || m.Damaged || m.State != vault.Active:
		return errBarred()
	case m.Usable(now) != "":
		return errLogin()
	}
	return nil
}

// lacks reports whether there is no access token that works, urgent whether it is about to end, and wants whether a fresh one is due.
func (l lending) lacks(now time.Time) bool {
	_, there := l.material.Secrets["access_token"]
	return !there || l.material.TokenExpires != nil && !l.material.TokenExpires.After(now)
}

func (l lending) urgent(now time.Time) bool { return !l.waitAt.IsZero() && !now.Before(l.waitAt) }

func (l lending) wants(now time.Time) bool {
	return l.lacks(now) || !l.refreshAt.IsZero() && !now.Before(l.refreshAt)
}

// lending returns what a subject may be lent for a server, from memory or from the database.
func (r *Room) lending(ctx context.Context, k key) (lending, error) {
	if l, ok := r.held.get(k); ok {
		return l, nil
	}
	at := r.held.epoch()
	var l lending
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		l = lending{}
		var w connectionRow
		err := tx.Get(&w, `SELECT `+connectionColumns+` FROM mcp_connections WHERE subject = $1 AND server = $2`, k.subject, k.server)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return errLogin()
		case err != nil:
			return err
		case w.Credential == nil && w.Barred != "":
			return errBarred()
		case w.Credential == nil:
			return errLogin()
		}
		c, _, err := r.vault.Survey(tx, *w.Credential, false)
		if err != nil {
			return err
		}
		if l.material, err = r.vault.Material(tx, *w.Credential); err != nil {
			return err
		}
		l.connection = w.ID
		// Who can write into this table must not hand one person's token to another.
		l.barred = c.Tampered || c.Username != k.subject || c.PluginName != madeFor(k.server)
		return nil
	})
	if err != nil {
		return lending{}, err
	}
	if m := l.material; m.Refreshes && m.TokenExpires != nil {
		advisory, mandatory := oauth.Margins(m.TokenExpires.Sub(m.Issued))
		l.refreshAt, l.waitAt = m.TokenExpires.Add(-advisory), m.TokenExpires.Add(-mandatory)
	}
	value := l.material.Secrets["access_token"]
	l.scrubber = sync.OnceValues(func() (*scrub.Scrubber, error) { return scrub.New(value) })
	r.held.put(k, l, at)
	return l, nil
}

// key names a connection.
type key struct{ subject, server string }

// maxHeld bounds the connections in memory.
const maxHeld = 10_000

// held are opened connections. What was read before something was dropped is not put in: it may be what was dropped.
type held struct {
	mu           sync.RWMutex
	n            uint64
	byKey        map[key]lending
	byCredential map[string]key
	byConnection map[string]key
}

func newHeld() *held {
	h := &held{}
	h.empty()
	return h
}

func (h *held) epoch() uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.n
}

func (h *held) get(k key) (lending, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	l, ok := h.byKey[k]
	return l, ok
}

func (h *held) put(k key, l lending, at uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n != at {
		return
	}
	if len(h.byKey) >= maxHeld {
		h.empty()
	}
	h.byKey[k], h.byCredential[l.material.ID], h.byConnection[l.connection] = l, k, k
}

func (h *held) drop(k key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	h.remove(k)
}

// dropCredential and dropConnection count also what is not there: it may be read at this moment.
func (h *held) dropCredential(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	if k, ok := h.byCredential[id]; ok {
		h.remove(k)
	}
}

func (h *held) dropConnection(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	if k, ok := h.byConnection[id]; ok {
		h.remove(k)
	}
}

func (h *held) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	h.empty()
}

func (h *held) remove(k key) {
	l := h.byKey[k]
	delete(h.byKey, k)
	delete(h.byCredential, l.material.ID)
	delete(h.byConnection, l.connection)
}

func (h *held) empty() {
	h.byKey, h.byCredential, h.byConnection = map[key]lending{}, map[string]key{}, map[string]key{}
}
