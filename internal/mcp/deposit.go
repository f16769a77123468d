package mcp

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Deposit is what somebody hands over so that their tokens for a server are kept fresh here.
type Deposit struct {
	Server                  string // its slug
	Refresh                 secret.Value
	TokenEndpoint, ClientID string
	ClientSecret            secret.Value // empty for a client that has none
	SecretEnds              *time.Time   // when the client's secret ends, which is the end of the connection
	AuthMethod              string       // client_secret_basic, client_secret_post or none; empty: basic with a secret, none without
	Scopes                  string       // as the token endpoint gave them, with spaces between

	owner *identity.Caller // whose the credential is, where that is not who hands it over
}

const connectionPrefix = "mcn"

type connectionRow struct {
	ID         string       `db:"id"`
	Subject    string       `db:"subject"`
	Server     string       `db:"server"`
	Credential *string      `db:"credential_id"`
	Barred     vault.Status `db:"barred"`
	CreatedAt  store.Time   `db:"created_at"`
	UpdatedAt  store.Time   `db:"updated_at"`
}

const connectionColumns = `id, subject, server, credential_id, barred, created_at, updated_at`

func (w connectionRow) target() store.Target {
	return store.Target{Kind: "mcp_connection", ID: w.ID, Name: w.Server}
}

// Check says what is wrong with a deposit, with the names of [Deposit]'s fields as callers send them; nil when it can be stored.
func (r *Room) Check(d Deposit) (out []fault.Field) {
	if !ValidSlug(d.Server) {
		out = append(out, fault.Field{Pointer: "mcpServerId", Message: "must have 1 to 255 characters, none of them a control character"})
	}
	names := map[string]string{
		"/secrets/refresh_token": "refreshToken", "/secrets/client_secret": "clientSecret", "/oauth/token_endpoint": "tokenEndpoint", "/oauth/client_id": "clientId",
		"/oauth/token_endpoint_auth_method": "tokenEndpointAuthMethod", "/expires_at": "clientSecretExpiresAt",
	}
	for _, f := range r.vault.CheckDeposit(d.forVault("check")) {
		name, ok := names[f.Pointer]
		if !ok {
			name = "scopes"
		}
		out = append(out, fault.Field{Pointer: name, Message: f.Message})
	}
	return out
}

// forVault is the deposit as the vault keeps it: under its MAC stands for whom and for which server it is.
func (d Deposit) forVault(subject string) vault.Deposit {
	out := vault.Deposit{
		Name: credentialName(d.Server), Username: subject, PluginName: madeFor(d.Server), ExpiresAt: d.SecretEnds, Refresh: d.Refresh, ClientSecret: d.ClientSecret,
		OAuth: vault.OAuthMeta{ClientID: d.ClientID, TokenEndpoint: d.TokenEndpoint, AuthMethod: d.AuthMethod}, Owner: d.owner,
	}
	for _, scope := range strings.Fields(d.Scopes) {
		if len(out.OAuth.Scopes) < keptScopes && len(scope) <= 255 && plainScope(scope) {
			out.OAuth.Scopes = append(out.OAuth.Scopes, scope)
		}
	}
	return out
}

// keptScopes is how many scopes are kept. They are for people to read: a refresh asks for what was granted, and names none.
const keptScopes = 100

func plainScope(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' })
}

// credentialName is what people see in lists.
func credentialName(slug string) string {
	const most = 190
	if utf8.RuneCountInString(slug) > most {
		slug = string([]rune(slug)[:most])
	}
	return "MCP " + strings.TrimSpace(slug)
}

// TakeDeposit stores a deposit of the caller's, in the place of the one before. The faults are those of [Subject], validation_failed with what
// [Room.Check] says, and encryption_key_missing.
func (r *Room) TakeDeposit(ctx context.Context, caller identity.Caller, d Deposit) error {
	subject, err := r.subject(ctx, caller)
	if err != nil {
		return err
	}
	if bad := r.Check(d); len(bad) > 0 {
		f := fault.New(fault.Unprocessable, "validation_failed", "The deposit cannot be stored like this; see errors. Nothing was changed.")
		for _, field := range bad {
			_ = f.With(field.Pointer, field.Message)
		}
		return f
	}
	var gone connectionRow
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		gone, err = r.take(tx, caller, subject, d)
		return err
	})
	if err != nil {
		return err
	}
	r.held.dropConnection(gone.ID) // the feed tells the others, and this instance must not lend the old one until then
	return nil
}

// take stores a deposit for a subject in the caller's transaction.
func (r *Room) take(tx *store.Tx, caller identity.Caller, subject string, d Deposit) (connectionRow, error) {
	w, there, err := lockConnection(tx, subject, d.Server)
	if err != nil {
		return w, err
	}
	id, state := "", vault.Active
	if there {
		if w.Credential != nil {
			id = *w.Credential
		}
		if w.Barred != "" {
			state = w.Barred
		}
	} else {
		w = connectionRow{ID: store.NewID(connectionPrefix), Subject: subject, Server: d.Server, CreatedAt: store.TimeOf(tx.Now())}
	}
	c, err := r.vault.TakeDeposit(tx, caller, id, state, d.forVault(subject))
	if err != nil {
		return w, err
	}
	if _, err := tx.Exec(`INSERT INTO mcp_connections (`+connectionColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7)
		ON CONFLICT (subject, server) DO UPDATE SET credential_id = $4, updated_at = $7`,
		w.ID, subject, d.Server, c.ID, "", w.CreatedAt, store.TimeOf(tx.Now())); err != nil {
		return w, err
	}
	tx.Change(store.TopicMCP, w.ID)
	ev := caller.Event(store.MCPDeposit, w.target())
	ev.Details = store.Details{store.Str("credential", c.ID), store.Int("version", c.Version), store.Str("status", string(c.Status)), store.Bool("client_secret", !d.ClientSecret.IsZero())}
	return w, tx.Record(ev)
}

// lockConnection finds the connection of a subject and holds up whoever else changes it.
func lockConnection(tx *store.Tx, subject, server string) (w connectionRow, there bool, err error) {
	if err := tx.Lock("mcp connection " + subject + " " + madeFor(server)); err != nil {
		return w, false, err
	}
	err = tx.Get(&w, `SELECT `+connectionColumns+` FROM mcp_connections WHERE subject = $1 AND server = $2`+tx.ForUpdate(), subject, server)
	if errors.Is(err, store.ErrNotFound) {
		return connectionRow{}, false, nil
	}
	return w, err == nil, err
}

// Disconnect deletes the caller's connection to a server with its tokens. That there is none is no fault.
func (r *Room) Disconnect(ctx context.Context, caller identity.Caller, server string) error {
	subject, err := r.subject(ctx, caller)
	if err != nil {
		return err
	}
	var w connectionRow
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		w = connectionRow{}
		ev := caller.Event(store.MCPDisconnect, store.Target{Kind: "mcp_connection"})
		if ValidSlug(server) {
			ev.Target.Name = server
			var there bool
			if w, there, err = lockConnection(tx, subject, server); err != nil {
				return err
			}
			if there {
				ev.Target = w.target()
				if err := r.end(tx, caller, w); err != nil {
					return err
				}
			} else {
				ev.Reason = "there was none"
			}
		} else {
			ev.Reason = "no such server"
		}
		return tx.Record(ev)
	})
	if err != nil {
		return err
	}
	r.held.dropConnection(w.ID)
	r.db.Scrub(context.WithoutCancel(ctx))
	return nil
}

// end deletes a connection. What somebody has stopped leaves a row that says so.
func (r *Room) end(tx *store.Tx, caller identity.Caller, w connectionRow) error {
	barred := w.Barred
	if w.Credential != nil {
		state, err := r.vault.EndDeposit(tx, caller, *w.Credential)
		if err != nil {
			return err
		}
		if state != vault.Active {
			barred = state
		}
	}
	tx.Change(store.TopicMCP, w.ID)
	if barred != "" {
		_, err := tx.Exec(`UPDATE mcp_connections SET credential_id = NULL, barred = $1, updated_at = $2 WHERE id = $3`, string(barred), store.TimeOf(tx.Now()), w.ID)
		return err
	}
	_, err := tx.Exec(`DELETE FROM mcp_connections WHERE id = $1`, w.ID)
	return err
}

// subject is [Subject] with the refusal on record.
func (r *Room) subject(ctx context.Context, caller identity.Caller) (string, error) {
	s, err := Subject(caller)
	if err != nil {
		return "", r.refused(ctx, caller, store.Target{Kind: "mcp_connection"}, err)
	}
	return s, nil
}

// Refuse records that a caller who is known was refused at a door, and returns what to answer.
func (r *Room) Refuse(ctx context.Context, caller identity.Caller, verdict error) error {
	return r.refused(ctx, caller, store.Target{Kind: "mcp_connection"}, verdict)
}
