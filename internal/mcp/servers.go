package mcp

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// URLCheck refuses a URL that Signalbox would not call.
type URLCheck func(*url.URL) error

// Auth says what a server wants to see.
type Auth string

// The ways. Whatever is none of them is refused.
const (
	AuthOAuth Auth = "oauth" // the access token of the caller's own connection
	AuthNone  Auth = "none"  // nothing
)

// Auths is the closed list.
func Auths() []Auth { return []Auth{AuthOAuth, AuthNone} }

// Server is an MCP server.
type Server struct {
	ID string
	// Slug is what callers name it by: mcpServerId.
	Slug, Name string
	// URL is its Streamable HTTP endpoint.
	URL                  string
	Auth                 Auth
	Active               bool
	Revision             int64
	CreatedAt, UpdatedAt time.Time
}

// ETag is the validator of this state of the server.
func (s Server) ETag() string { return etag.Of(s.ID, strconv.FormatInt(s.Revision, 10)) }

// Target names the server in records.
func (s Server) Target() store.Target {
	return store.Target{Kind: "mcp_server", ID: s.ID, Name: s.Slug}
}

const (
	serverPrefix = "mcs"
	maxServers   = 1000
	maxName      = 200
	maxURL       = 2048
)

// ServerEdit says what to make of a server; nil leaves a field as it is. A new one needs Slug and URL; its slug stays.
type ServerEdit struct {
	Slug, Name, URL *string
	Auth            *Auth
	Active          *bool
	// IfMatch, when it is not empty, is the If-Match header that the server's ETag must satisfy.
	IfMatch string
}

func (e ServerEdit) fields() (out []string) {
	for _, f := range []struct {
		name string
		set  bool
	}{{"slug", e.Slug != nil}, {"name", e.Name != nil}, {"url", e.URL != nil}, {"auth", e.Auth != nil}, {"active", e.Active != nil}} {
		if f.set {
			out = append(out, f.name)
		}
	}
	return out
}

type serverRow struct {
	ID        string     `db:"id"`
	Slug      string     `db:"slug"`
	Name      string     `db:"name"`
	URL       string     `db:"url"`
	Auth      Auth       `db:"auth"`
	Active    int64      `db:"active"`
	Revision  int64      `db:"revision"`
	CreatedAt store.Time `db:"created_at"`
	UpdatedAt store.Time `db:"updated_at"`
}

const serverColumns = `id, slug, name, url, auth, active, revision, created_at, updated_at`

func (w serverRow) server() Server {
	return Server{ID: w.ID, Slug: w.Slug, Name: w.Name, URL: w.URL, Auth: w.Auth, Active: w.Active == 1, Revision: w.Revision, CreatedAt: w.CreatedAt.Time(), UpdatedAt: w.UpdatedAt.Time()}
}

func (r *Room) readServers(ctx context.Context) (out []Server, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		var rows []serverRow
		if err := tx.Select(&rows, `SELECT `+serverColumns+` FROM mcp_servers ORDER BY id`); err != nil {
			return err
		}
		out = make([]Server, 0, len(rows))
		for _, w := range rows {
			out = append(out, w.server())
		}
		return nil
	})
	return out, err
}

// Server returns the server of that slug, from memory. It checks no permission: it is for doors that lend. The fault is not_found, also for one
// that is switched off.
func (r *Room) Server(slug string) (Server, error) {
	r.mu.RLock()
	s, ok := r.servers[slug]
	r.mu.RUnlock()
	if !ok || !s.Active {
		return Server{}, noServer()
	}
	return s, nil
}

func noServer() error {
	return fault.New(fault.NotFound, "not_found", "There is no such MCP server here, or it is switched off. An operator of this Signalbox registers it with its address.")
}

// Servers lists the servers, the oldest first. It needs [identity.MCPRead].
func (r *Room) Servers(ctx context.Context, caller identity.Caller) ([]Server, error) {
	if err := r.allow(ctx, caller, identity.MCPRead, store.Target{Kind: "mcp_server"}); err != nil {
		return nil, err
	}
	return r.readServers(ctx)
}

// CreateServer registers a server. It needs [identity.MCPWrite].
func (r *Room) CreateServer(ctx context.Context, caller identity.Caller, e ServerEdit) (Server, error) {
	fresh := Server{ID: store.NewID(serverPrefix), Auth: AuthOAuth, Active: true}
	return r.writeServer(ctx, caller, store.MCPServerCreate, fresh.ID, e, func(tx *store.Tx) (Server, error) {
		var n int
		if err := tx.Get(&n, `SELECT COUNT(*) FROM mcp_servers`); err != nil {
			return fresh, err
		}
		if n >= maxServers {
			return fresh, fault.New(fault.Conflict, "state_conflict", "There are as many MCP servers as there may be. Delete one that is not used.")
		}
		fresh.CreatedAt = tx.Now()
		return fresh, nil
	})
}

// UpdateServer changes a server. It needs [identity.MCPWrite].
func (r *Room) UpdateServer(ctx context.Context, caller identity.Caller, id string, e ServerEdit) (Server, error) {
	return r.writeServer(ctx, caller, store.MCPServerUpdate, id, e, func(tx *store.Tx) (Server, error) {
		s, err := lockServer(tx, id, e.IfMatch)
		if err == nil && e.Slug != nil && *e.Slug != s.Slug {
			err = invalid("/slug", "cannot be changed; callers and connections name the server by it")
		}
		return s, err
	})
}

func lockServer(tx *store.Tx, id, ifMatch string) (Server, error) {
	var w serverRow
	err := tx.Get(&w, `SELECT `+serverColumns+` FROM mcp_servers WHERE id = $1`+tx.ForUpdate(), id)
	if errors.Is(err, store.ErrNotFound) {
		return Server{}, noServer()
	} else if err != nil {
		return Server{}, err
	}
	if s := w.server(); !etag.Match(ifMatch, s.ETag()) {
		return Server{}, fault.New(fault.Precondition, "etag_mismatch", "The MCP server changed since it was read. Read it again, then repeat the change on what it is now.")
	}
	return w.server(), nil
}

func (r *Room) writeServer(ctx context.Context, caller identity.Caller, act store.Action, id string, e ServerEdit, begin func(*store.Tx) (Server, error)) (Server, error) {
	if err := r.allow(ctx, caller, identity.MCPWrite, store.Target{Kind: "mcp_server", ID: id}); err != nil {
		return Server{}, err
	}
	var out Server
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock("mcp servers"); err != nil {
			return err
		}
		s, err := begin(tx)
		if err != nil {
			return err
		}
		out = e.apply(s)
		if err := r.valid(out); err != nil {
			return err
		}
		out.Revision++
		out.UpdatedAt = tx.Now()
		active := 0
		if out.Active {
			active = 1
		}
		_, err = tx.Exec(`INSERT INTO mcp_servers (`+serverColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9)
			ON CONFLICT (id) DO UPDATE SET name = $3, url = $4, auth = $5, active = $6, revision = $7, updated_at = $9`,
			out.ID, out.Slug, out.Name, out.URL, string(out.Auth), active, out.Revision, store.TimeOf(out.CreatedAt), store.TimeOf(out.UpdatedAt))
		if store.IsConflict(err) {
			return fault.New(fault.Conflict, "already_exists", "There is an MCP server of this slug already. Use another one, or change that one.").With("/slug", "is taken")
		} else if err != nil {
			return err
		}
		tx.Change(store.TopicMCP, out.ID)
		ev := caller.Event(act, out.Target())
		ev.Fields = e.fields()
		ev.Details = store.Details{store.Str("url", out.URL), store.Str("auth", string(out.Auth)), store.Bool("active", out.Active)}
		return tx.Record(ev)
	})
	if err != nil {
		return Server{}, err
	}
	return out, nil
}

func (e ServerEdit) apply(s Server) Server {
	if e.Slug != nil {
		s.Slug = *e.Slug
	}
	if e.Name != nil {
		s.Name = *e.Name
	}
	if e.URL != nil {
		s.URL = *e.URL
	}
	if e.Auth != nil {
		s.Auth = *e.Auth
	}
	if e.Active != nil {
		s.Active = *e.Active
	}
	if s.Name == "" {
		s.Name = string([]rune(s.Slug)[:min(maxName, utf8.RuneCountInString(s.Slug))])
	}
	return s
}

func invalid(pointer, message string) error {
	return fault.New(fault.Unprocessable, "validation_failed", "The MCP server cannot be stored like this; see errors. Nothing was changed.").With(pointer, message)
}

func (r *Room) valid(s Server) error {
	if !ValidSlug(s.Slug) {
		return invalid("/slug", "must have 1 to 255 characters, none of them a control character")
	}
	if !utf8.ValidString(s.Name) || utf8.RuneCountInString(s.Name) > maxName || strings.ContainsFunc(s.Name, unicode.IsControl) {
		return invalid("/name", "must have at most 200 characters, none of them a control character")
	}
	if s.Auth != AuthOAuth && s.Auth != AuthNone {
		return invalid("/auth", "must be oauth or none")
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" || u.Opaque != "" || len(s.URL) > maxURL || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(s.URL, "#") {
		return invalid("/url", "must be an absolute URL of at most 2048 characters without user name, query and fragment, such as https://mcp.example.com/mcp")
	}
	if err := r.check(u); err != nil {
		f := fault.Of(err)
		return fault.New(fault.Unprocessable, f.Code, f.Detail).With("/url", f.Detail)
	}
	return nil
}

// DeleteServer removes a server. Connections to it stay, for when it is registered again, and lead nowhere. It needs [identity.MCPWrite].
func (r *Room) DeleteServer(ctx context.Context, caller identity.Caller, id, ifMatch string) error {
	if err := r.allow(ctx, caller, identity.MCPWrite, store.Target{Kind: "mcp_server", ID: id}); err != nil {
		return err
	}
	return r.db.Write(ctx, func(tx *store.Tx) error {
		s, err := lockServer(tx, id, ifMatch)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM mcp_servers WHERE id = $1`, id); err != nil {
			return err
		}
		tx.Change(store.TopicMCP, id)
		return tx.Record(caller.Event(store.MCPServerDelete, s.Target()))
	})
}

// allow records a refusal.
func (r *Room) allow(ctx context.Context, caller identity.Caller, p identity.Permission, target store.Target) error {
	err := identity.Allow(caller, p)
	if err == nil {
		return nil
	}
	return r.refused(ctx, caller, target, err)
}

// refused records that a caller who is known was refused, and returns why.
func (r *Room) refused(ctx context.Context, caller identity.Caller, target store.Target, verdict error) error {
	if caller.Kind == identity.KindAnonymous || caller.Kind == "" {
		return verdict // nobody: the door counts them
	}
	ev := caller.Event(store.MCPRefused, target)
	ev.Outcome, ev.Reason = store.OutcomeRefused, fault.Of(verdict).Code
	if err := r.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) }); err != nil {
		return err
	}
	return verdict
}
