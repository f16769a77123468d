package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"signalbox.dev/signalbox/internal/secret"
)

// Scratch makes an empty database with a name of its own on the PostgreSQL server that cfg names, for a trial that must not touch anything else
// there, and returns its URL. drop removes it with everybody who is connected to it.
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
	name := strings.ToLower(NewID("signalbox_scratch"))
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
