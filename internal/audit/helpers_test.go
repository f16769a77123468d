package audit

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// box is a database with a log, and what an attacker needs to get at it.
type box struct {
	cfg  store.Config
	db   *store.DB
	root secret.RootKey
	ring *keyring.Ring
	log  *Log
	file string
	said *said
}

// said collects what was logged.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func newBox(t testing.TB, engine store.Engine) *box {
	t.Helper()
	b := &box{cfg: storetest.Config(t, engine), said: &said{}}
	b.cfg.Log = slog.New(slog.NewTextHandler(b.said, nil))
	b.db = storetest.OpenConfig(t, b.cfg)
	var err error
	b.root, err = secret.NewRootKey()
	require.NoError(t, err)
	b.file = filepath.Join(t.TempDir(), "checkpoints")
	b.open(t)
	return b
}

func (b *box) open(t testing.TB) {
	t.Helper()
	var err error
	b.ring, err = keyring.Open(t.Context(), keyring.Config{DB: b.db, Root: b.root})
	require.NoError(t, err)
	b.log = b.another(t, b.db, "one")
}

func (b *box) another(t testing.TB, db *store.DB, name string) *Log {
	t.Helper()
	l, err := New(t.Context(), Config{DB: db, Ring: b.ring, Log: slog.New(slog.NewTextHandler(b.said, nil)), Instance: name, CheckpointFile: b.file})
	require.NoError(t, err)
	return l
}

// each runs a test on both engines.
func each(t *testing.T, fn func(t *testing.T, b *box)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) { fn(t, newBox(t, e)) })
	}
}

// attack opens the database past package store, as somebody with its password or its file does.
func (b *box) attack(t testing.TB) *sqlx.DB {
	t.Helper()
	if b.db.Engine() == store.Postgres {
		x, err := sqlx.Open("pgx", b.cfg.PostgresURL.Reveal())
		require.NoError(t, err)
		t.Cleanup(func() { _ = x.Close() })
		return x
	}
	x, err := sqlx.Open("sqlite", "file:"+filepath.Join(b.cfg.DataDir, store.FileName)+"?_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	x.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = x.Close() })
	return x
}

// unguard removes the triggers of the audit's tables. The function it returns puts those back that do not guard.
func (b *box) unguard(t testing.TB, x *sqlx.DB) (rearm func()) {
	t.Helper()
	if b.db.Engine() == store.Postgres {
		for _, table := range auditTables {
			_, err := x.Exec(`ALTER TABLE ` + table + ` DISABLE TRIGGER ALL`)
			require.NoError(t, err)
		}
		return func() {}
	}
	var names []string
	require.NoError(t, x.Select(&names, `SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE 'audit_%'`))
	var ddl string
	require.NoError(t, x.Get(&ddl, `SELECT sql FROM sqlite_master WHERE name = 'audit_batches_wait'`))
	require.NotEmpty(t, names)
	for _, name := range names {
		_, err := x.Exec(`DROP TRIGGER ` + name)
		require.NoError(t, err)
	}
	return func() {
		_, err := x.Exec(ddl)
		require.NoError(t, err)
	}
}

var auditTables = []string{"audit_events", "audit_batches", "audit_pending", "audit_segments", "audit_postings", "audit_leaves", "audit_nodes", "audit_checkpoints", "audit_signers"}

// act is an event of an act of its own.
func act(n int) store.Event {
	return store.Event{
		Actor: store.Actor{Kind: "person", ID: fmt.Sprintf("user_%d", n%5), Name: `Ada "the" Byron`}, Action: store.CredentialUpdate,
		Target: store.Target{Kind: "credential", ID: fmt.Sprintf("cred_%d", n%7), Name: "prod"}, RequestID: fmt.Sprintf("req_%d", n),
		Reason: "rotation\nas agreed", Fields: []string{"name"}, Details: store.Details{store.Int("n", int64(n))},
	}
}

func (b *box) record(t testing.TB, e store.Event) {
	t.Helper()
	require.NoError(t, b.db.Write(t.Context(), func(tx *store.Tx) error { return tx.Record(e) }))
}

// granted is the intent of a lease.
func granted(n int) store.Event {
	return store.Event{
		Actor: store.Actor{Kind: "client_key", ID: fmt.Sprintf("key_%d", n%5), Name: "laptop"}, OnBehalf: "train_1", Action: store.LeaseGranted,
		Target: store.Target{Kind: "credential", ID: fmt.Sprintf("cred_%d", n%7)}, Outcome: store.OutcomePending, RequestID: fmt.Sprintf("req_%d", n),
		Details: store.Details{store.Str("lease", fmt.Sprintf("lease_%d", n)), store.Str("model", "claude")},
	}
}

func outcome(n int, result string) store.Event {
	e := granted(n)
	e.Action, e.Outcome = store.LeaseOutcome, result
	return e
}

// lend makes n intents durable, as concurrent requests do, so that batches of more than one form.
func (b *box) lend(t testing.TB, from, n int) []string {
	t.Helper()
	ids := make([]string, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { ids[i], errs[i] = b.db.Append(context.Background(), granted(from+i)) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	return ids
}

// fill records a mix of acts and leases.
func (b *box) fill(t testing.TB, rounds int) {
	t.Helper()
	for i := range rounds {
		b.record(t, act(i))
		b.lend(t, i*4, 4)
	}
}

func (b *box) flush(t testing.TB) {
	t.Helper()
	require.NoError(t, b.log.Flush(t.Context()))
}

// notes are the checkpoints in the file.
func (b *box) notes(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile(b.file)
	require.NoError(t, err)
	notes, err := ParseAnchors(string(text))
	require.NoError(t, err)
	return notes
}

func (b *box) verify(t testing.TB, anchors ...string) Report {
	t.Helper()
	r, err := Verify(t.Context(), b.db, VerifyOptions{Anchors: anchors})
	require.NoError(t, err)
	return r
}

func requireClean(t testing.TB, r Report) {
	t.Helper()
	for _, f := range r.Findings {
		t.Error(f)
	}
	require.True(t, r.OK(), "%d findings", r.Found)
}

// records returns every record in the database by its id, past the log.
func records(t testing.TB, db *store.DB) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
		var rows []recordRow
		if err := tx.Select(&rows, `SELECT id, body FROM audit_events UNION ALL SELECT id, body FROM audit_batches`); err != nil {
			return err
		}
		for _, r := range rows {
			for _, line := range strings.Split(string(r.Body), "\n") {
				e, err := store.DecodeEvent([]byte(line))
				if err != nil {
					return err
				}
				out[e.ID] = line
			}
		}
		return nil
	}))
	return out
}

// leaves returns the records in leaf order and checks that the order has no gap.
func (b *box) leaves(t testing.TB) []string {
	t.Helper()
	var out []string
	all := records(t, b.db)
	for after := int64(-1); ; {
		page, err := b.log.Tail(t.Context(), after, 0)
		require.NoError(t, err)
		if len(page) == 0 {
			return out
		}
		for _, e := range page {
			require.Equal(t, after+1, e.Leaf)
			after = e.Leaf
			require.Contains(t, all, e.Event.ID)
			out = append(out, all[e.Event.ID])
		}
	}
}

// rootOf is the root by tlog's own book, for comparison.
func rootOf(t testing.TB, leaves []string) tlog.Hash {
	t.Helper()
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	for i, leaf := range leaves {
		h, err := tlog.StoredHashes(int64(i), []byte(leaf), reader)
		require.NoError(t, err)
		stored = append(stored, h...)
	}
	root, err := tlog.TreeHash(int64(len(leaves)), reader)
	require.NoError(t, err)
	return root
}

func soak() bool { return os.Getenv("SIGNALBOX_SOAK") == "1" }

// seed returns a random seed and prints it.
func seed(t testing.TB) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("SIGNALBOX_SEED"); text != "" {
		_, err := fmt.Sscan(text, &s)
		require.NoError(t, err)
	}
	t.Logf("SIGNALBOX_SEED=%d", s)
	return s
}
