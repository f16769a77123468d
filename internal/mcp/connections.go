package mcp

import (
	"context"
	"errors"
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Connection is what people may know of somebody's connection to a server.
type Connection struct {
	ID string
	// Subject is whose it is: the id of a person or service account, or an issuer's with the subject behind a #.
	Subject string
	Server  string // the slug
	// CredentialID is "" when the connection only bars.
	CredentialID         string
	Status               vault.Status // disabled or compromised also without a credential
	Health               vault.Health
	CreatedAt, UpdatedAt time.Time
}

const connectionsPage = 100

// GetServer returns a server by its id. It needs [identity.MCPRead].
func (r *Room) GetServer(ctx context.Context, caller identity.Caller, id string) (Server, error) {
	if err := r.allow(ctx, caller, identity.MCPRead, store.Target{Kind: "mcp_server", ID: id}); err != nil {
		return Server{}, err
	}
	list, err := r.readServers(ctx)
	if err != nil {
		return Server{}, err
	}
	for _, s := range list {
		if s.ID == id {
			return s, nil
		}
	}
	return Server{}, noServer()
}

// within says whose connections a caller may see and end: everybody's for "", otherwise those of the subject.
func (r *Room) within(ctx context.Context, caller identity.Caller, target store.Target) (subject string, err error) {
	reach, err := identity.Within(caller, identity.MCPConnect)
	if err == nil && reach != identity.Everything {
		subject, err = Subject(caller)
	}
	if err != nil {
		return "", r.refused(ctx, caller, target, err)
	}
	return subject, nil
}

// Connections lists the caller's own connections, or everybody's for a role that has the permission for everything, the oldest first. next is
// where the following page begins, "" on the last. It needs [identity.MCPConnect].
func (r *Room) Connections(ctx context.Context, caller identity.Caller, limit int, cursor string) (out []Connection, next string, err error) {
	if limit <= 0 {
		limit = connectionsPage
	}
	if cursor != "" && !store.ValidID(connectionPrefix, cursor) {
		return nil, "", fault.New(fault.Unprocessable, "validation_failed", "The cursor is not one that this list returned. Begin the list again without a cursor.").With("query.cursor", "is not a cursor of this list")
	}
	subject, err := r.within(ctx, caller, store.Target{Kind: "mcp_connection"})
	if err != nil {
		return nil, "", err
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		out, next = nil, ""
		query, args := `SELECT `+connectionColumns+` FROM mcp_connections WHERE id > $1`, []any{cursor}
		if subject != "" {
			query, args = query+` AND subject = $2`, append(args, subject)
		}
		var rows []connectionRow
		if err := tx.Select(&rows, query+` ORDER BY id LIMIT `+strconv.Itoa(limit+1), args...); err != nil {
			return err
		}
		for _, w := range rows {
			if len(out) == limit {
				next = out[limit-1].ID
				break
			}
			c, err := r.shown(tx, w)
			if err != nil {
				return err
			}
			out = append(out, c)
		}
		return nil
	})
	return out, next, err
}

// shown is a connection with what its credential says.
func (r *Room) shown(tx *store.Tx, w connectionRow) (Connection, error) {
	c := Connection{ID: w.ID, Subject: w.Subject, Server: w.Server, Status: w.Barred, Health: vault.NeedsLogin, CreatedAt: w.CreatedAt.Time(), UpdatedAt: w.UpdatedAt.Time()}
	if w.Credential == nil {
		return c, nil
	}
	cred, _, err := r.vault.Survey(tx, *w.Credential, false)
	if err != nil {
		return c, err
	}
	c.CredentialID, c.Status, c.Health = cred.ID, cred.Status, cred.Health
	if cred.Tampered || cred.Username != w.Subject || cred.PluginName != madeFor(w.Server) {
		c.Status = vault.Disabled // it is not lent
	}
	return c, nil
}

// EndConnection deletes a connection with its tokens. It needs [identity.MCPConnect]: who has it only for themselves finds their own.
func (r *Room) EndConnection(ctx context.Context, caller identity.Caller, id string) error {
	subject, err := r.within(ctx, caller, store.Target{Kind: "mcp_connection", ID: id})
	if err != nil {
		return err
	}
	var w connectionRow
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		w = connectionRow{}
		err := tx.Get(&w, `SELECT `+connectionColumns+` FROM mcp_connections WHERE id = $1`, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && subject != "" && w.Subject != subject {
			return fault.New(fault.NotFound, "not_found", "There is no such connection, or it is not yours. List the connections to find its id; ids begin with mcn_.")
		} else if err != nil {
			return err
		}
		w, there, err := lockConnection(tx, w.Subject, w.Server)
		if err != nil {
			return err
		}
		if there { // it may have gone before the lock was had
			if err := r.end(tx, caller, w); err != nil {
				return err
			}
		}
		return tx.Record(caller.Event(store.MCPDisconnect, store.Target{Kind: "mcp_connection", ID: id, Name: w.Server}))
	})
	if err != nil {
		return err
	}
	r.held.dropConnection(id)
	r.db.Scrub(context.WithoutCancel(ctx))
	return nil
}
