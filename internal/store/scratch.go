package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"

	"signalbox.dev/signalbox/internal/secret"
)

// Scratch makes an empty database with a name of its own on the PostgreSQL server that cfg names, for a trial that must not touch anything else
// there, and returns its URL. drop removes it with everybody who is connected to it. One that an earlier trial has left behind, because it was killed, is
// removed now.
func Scratch(ctx context.Context, cfg Config) (scratch secret.Value, drop func(context.Context) error, err error) {
	conf, err := pgx.ParseConfig(cfg.PostgresURL.Reveal())
	if err != nil {
		return scratch, nil, malformedURL(err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := (&DB{cfg: cfg}).checkLine(conf); err != nil {
		return scratch, nil, err
	}
	left, err := abandoned(ctx, conf)
	if err != nil {
		return scratch, nil, err
	}
	for _, name := range left {
		// Without force: whoever has connected meanwhile keeps it.
		if err := alone(ctx, conf, `DROP DATABASE IF EXISTS `+name); err != nil {
			cfg.Log.Warn("a database that an earlier trial has left behind could not be removed", "database", name, "cause", err)
		}
	}
	name := NewID(scratchPrefix)
	if err := alone(ctx, conf, `CREATE DATABASE `+name+` TEMPLATE template0 ENCODING 'UTF8'`); err != nil {
		return scratch, nil, err
	}
	drop = func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		return alone(ctx, conf, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`)
	}
	return inDatabase(cfg.PostgresURL, name), drop, nil
}

const (
	scratchPrefix = "signalbox_scratch"
	// abandonedAfter is longer than a trial takes from making its database to connecting to it.
	abandonedAfter = 2 * time.Minute
)

// abandoned returns the databases of earlier trials to which nobody is connected any more.
func abandoned(ctx context.Context, conf *pgx.ConnConfig) (out []string, err error) {
	c, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return nil, refusedConnection(conf, err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	rows, err := c.Query(ctx, `SELECT d.datname FROM pg_database d WHERE d.datname LIKE 'signalbox\_scratch\_%'
		AND pg_has_role(d.datdba, 'USAGE') AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.datid = d.oid)`, pgx.QueryExecModeExec)
	if err != nil {
		return nil, fmt.Errorf("look for databases of earlier trials: %w", redactCause(err))
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for databases of earlier trials: %w", redactCause(err))
	}
	for _, name := range names {
		// The time of its making is in the name, and nothing but such a name becomes part of a statement.
		if made, ok := IDTime(scratchPrefix, name); ok && time.Since(made) > abandonedAfter {
			out = append(out, name)
		}
	}
	return out, nil
}

// alone runs a statement that stands outside transactions.
func alone(ctx context.Context, conf *pgx.ConnConfig, statement string) error {
	c, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return refusedConnection(conf, err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	_, err = c.Exec(ctx, statement, pgx.QueryExecModeExec)
	var told pgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &told) && told.SQLState() == "42501":
		return errors.New("the role in DATABASE_URL may not make databases; allow it with ALTER ROLE … CREATEDB, or name another server")
	}
	return fmt.Errorf("make or drop a database: %w", redactCause(err))
}

// inDatabase is a PostgreSQL URL, in either form, with another database.
func inDatabase(where secret.Value, name string) secret.Value {
	text := where.Reveal()
	if u, err := url.Parse(text); err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		u.Path, u.RawPath = "/"+name, ""
		if q := u.Query(); q.Has("dbname") {
			q.Set("dbname", name)
			u.RawQuery = q.Encode()
		}
		return secret.FromString(u.String())
	}
	return secret.FromString(text + " dbname=" + name) // of two the last one counts
}
