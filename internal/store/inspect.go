package store

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// Inspection is what a database tells of itself. Fields that the engine does not have are zero.
type Inspection struct {
	Engine Engine
	// Exists is false when there is no SQLite file yet, or no schema in PostgreSQL.
	Exists bool
	// Version is the engine's.
	Version string
	// Schema is the version of the schema in the database, Latest that of this binary.
	Schema, Latest int64

	// JournalMode and Damaged are SQLite's; Damaged is the verdict of quick_check, whose text may name tables only.
	JournalMode string
	Damaged     bool

	// Host is where PostgreSQL is; Remote says that it is another machine; TLS that the connection to it is encrypted.
	Host        string
	Remote, TLS bool
	// Old says that PostgreSQL is older than this binary works with.
	Old bool
	// Forgetful says that PostgreSQL acknowledges writes that a crash can lose.
	Forgetful bool
	// ReadOnly says that PostgreSQL takes no writes: a standby, or a role that is set so.
	ReadOnly bool
	// Pooler says that something between us and PostgreSQL shares its connections.
	Pooler bool
	// Ahead is how far the database's clock is ahead of ours.
	Ahead time.Duration
}

// Inspect looks at the database of cfg without changing it, beside whoever uses it. A database that is not there yet is no error; one
// that does not answer is the fault database_unavailable.
func Inspect(ctx context.Context, cfg Config) (Inspection, error) {
	latest, err := Latest()
	if err != nil {
		return Inspection{}, err
	}
	out := Inspection{Engine: SQLite, Latest: latest}
	if cfg.PostgresURL.IsZero() {
		err = out.sqlite(ctx, filepath.Join(cfg.DataDir, FileName))
	} else {
		out.Engine = Postgres
		err = out.postgres(ctx, cfg)
	}
	return out, err
}

func (i *Inspection) sqlite(ctx context.Context, path string) (err error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("look at the database: %w", err)
	}
	i.Exists = true
	// Not the usual pragmas: they would set what is to be looked at.
	pool, err := sql.Open("sqlite", "file:"+uriPath(path)+"?mode=rw&_pragma=busy_timeout(5000)&_pragma=query_only(1)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	pool.SetMaxOpenConns(1)
	var tables int
	var verdict string
	for _, q := range []struct {
		text string
		into any
	}{
		{`SELECT sqlite_version()`, &i.Version},
		{`PRAGMA journal_mode`, &i.JournalMode},
		{`SELECT COUNT(*) FROM sqlite_master WHERE name = 'goose_db_version'`, &tables},
		{`PRAGMA quick_check(1)`, &verdict},
	} {
		if err := pool.QueryRowContext(ctx, q.text).Scan(q.into); err != nil {
			return unavailable(err)
		}
	}
	i.Damaged = verdict != "ok"
	if tables == 0 {
		return nil
	}
	if err := pool.QueryRowContext(ctx, schemaVersion).Scan(&i.Schema); err != nil {
		return unavailable(err)
	}
	return nil
}

const schemaVersion = `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version`

func (i *Inspection) postgres(ctx context.Context, cfg Config) error {
	conf, err := pgx.ParseConfig(cfg.PostgresURL.Reveal())
	if err != nil {
		return malformedURL(err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := (&DB{cfg: cfg}).checkLine(conf); err != nil {
		return err
	}
	conf.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // a pooler may know no prepared statements
	if conf.ConnectTimeout == 0 {
		conf.ConnectTimeout = 10 * time.Second
	}
	i.Host, i.Remote = conf.Host, !isThisMachine(conf.Host)
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return refusedConnection(conf, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, i.TLS = conn.PgConn().Conn().(*tls.Conn)
	var number, backend int
	var durable string
	var now time.Time
	before := time.Now()
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::int, current_setting('synchronous_commit'),
		pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on', to_regclass('goose_db_version') IS NOT NULL, pg_backend_pid(), clock_timestamp()`).
		Scan(&i.Version, &number, &durable, &i.ReadOnly, &i.Exists, &backend, &now)
	if err != nil {
		return unavailable(err)
	}
	after := time.Now()
	i.Ahead = now.Sub(before.Add(after.Sub(before) / 2))
	i.Version, _, _ = strings.Cut(i.Version, " ")
	i.Old, i.Forgetful = number < 150000, durable == "off"
	// A pooler tells a process number of its own at the login, since the real one changes.
	i.Pooler = uint32(backend) != conn.PgConn().PID()
	if !i.Exists {
		return nil
	}
	if err := conn.QueryRow(ctx, schemaVersion).Scan(&i.Schema); err != nil {
		return unavailable(err)
	}
	return nil
}

// Holder returns the process that has a data directory open, or 0. It goes by the number in the lock file and does not touch the lock, which
// a server may be about to take.
func Holder(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, LockName))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 1 || pid == os.Getpid() {
		return 0
	}
	if err := unix.Kill(pid, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return 0
	}
	return pid
}
