package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestSwallowedPacketsHangNobody puts a network between the store and PostgreSQL that swallows everything and never lets an old connection
// live again, as one whose state was lost does. Whoever waits must be told, and the store must work as soon as new connections do.
func TestSwallowedPacketsHangNobody(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	direct := storetest.OpenConfig(t, cfg)
	line := storetest.NewLine(t, cfg.PostgresURL.Reveal())
	cfg.PostgresURL = secretOf(line.URL)
	db := storetest.OpenConfig(t, cfg)
	h := listen(db)
	require.NoError(t, db.Start(t.Context()))
	require.NoError(t, direct.Start(t.Context()))
	var wg sync.WaitGroup
	for range 20 { // so that the pool holds all the connections that it may
		wg.Go(func() { _ = db.Read(context.Background(), func(tx *store.Tx) error { return sleep(tx, 0.05) }) })
	}
	wg.Wait()

	line.Swallow()
	cut := time.Now()
	waiting := make(chan error, 3)
	go func() { waiting <- change(context.Background(), db, "key_lost", 0) }()
	go func() {
		waiting <- db.Read(context.Background(), func(tx *store.Tx) error { return sleep(tx, 0) })
	}()
	go func() {
		_, err := db.Append(context.Background(), lease("k", "c"))
		waiting <- err
	}()
	for range 3 {
		select {
		case err := <-waiting:
			require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
		case <-time.After(10 * time.Second):
			t.Fatal("somebody still waits")
		}
	}
	require.Less(t, time.Since(cut), 8*time.Second)
	require.Error(t, db.Fresh(t.Context()))
	require.NoError(t, change(t.Context(), direct, "key_meanwhile", 0))

	line.Mend()
	mended := time.Now()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		return db.Fresh(ctx) == nil && change(ctx, db, "key_after", 0) == nil
	}, 10*time.Second, 10*time.Millisecond)
	require.Less(t, time.Since(mended), 5*time.Second)
	require.Eventually(t, func() bool { return h.has("key_meanwhile") || h.resets() > 1 }, time.Second, 5*time.Millisecond)
}

// TestLostAnswerToACommitIsToldAsSuch swallows the answer to a COMMIT that stands.
func TestLostAnswerToACommitIsToldAsSuch(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	direct := storetest.OpenConfig(t, cfg)
	line := storetest.NewLine(t, cfg.PostgresURL.Reveal())
	cfg.PostgresURL = secretOf(line.URL)
	db := storetest.OpenConfig(t, cfg)
	require.NoError(t, db.Start(t.Context()))
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		if err := tx.Record(act("lost")); err != nil {
			return err
		}
		line.SwallowAnswers() // what is sent from here on is the COMMIT
		return nil
	})
	f, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "database_unavailable", f.Code)
	require.Contains(t, f.Detail, "it is not known whether it stands")
	require.NotContains(t, f.Detail, "Nothing was changed")
	line.Mend()
	require.Eventually(t, func() bool {
		n := 0
		require.NoError(t, direct.Read(context.Background(), func(tx *store.Tx) error {
			return tx.Get(&n, `SELECT count(*) FROM audit_events WHERE target_id = 'lost'`)
		}))
		return n == 1
	}, 5*time.Second, 10*time.Millisecond, "the change does stand")
}

// TestEndedIdleConnectionsAreNotNoticed terminates every idle connection, as a restart of PostgreSQL or of a pooler does.
func TestEndedIdleConnectionsAreNotNoticed(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	killer, err := pgx.Connect(t.Context(), cfg.PostgresURL.Reveal())
	require.NoError(t, err)
	defer func() { _ = killer.Close(context.Background()) }()
	db := storetest.OpenConfig(t, cfg)
	for range 5 {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { _ = db.Read(context.Background(), func(tx *store.Tx) error { return sleep(tx, 0.02) }) })
		}
		wg.Wait()
		for n := -1; n != 0; { // fast, because pgx itself looks after connections that lay idle for a second
			require.NoError(t, killer.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&n))
		}
		require.NoError(t, change(t.Context(), db, "key_x", 0))
	}
}

func sleep(tx *store.Tx, seconds float64) error {
	var out string
	return tx.Get(&out, `SELECT pg_sleep($1)::text`, seconds)
}

// TestACacheThatCannotFollowEndsNoStatement: the news are stale then, but the database answers, and what asks it goes on.
func TestACacheThatCannotFollowEndsNoStatement(t *testing.T) {
	db := storetest.OpenConfig(t, storetest.Config(t, store.Postgres))
	h := listen(db)
	require.NoError(t, db.Start(t.Context()))
	h.mu.Lock()
	h.fail = errors.New("planted: this cache cannot follow")
	h.mu.Unlock()
	require.NoError(t, change(t.Context(), db, "key_x", 0))
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return sleep(tx, 3.5) }))
	require.Error(t, db.Fresh(t.Context()), "the control: the cache has not followed meanwhile")
}

// TestARefusedFeedEndsNoStatement: a server that lets nobody new in, while it serves those who are there, is not silent.
func TestARefusedFeedEndsNoStatement(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	conf, err := pgx.ParseConfig(cfg.PostgresURL.Reveal())
	require.NoError(t, err)
	name := conf.Database
	conf.Database = "postgres" // nobody may shut the door of the room that he is in
	killer, err := pgx.ConnectConfig(t.Context(), conf)
	require.NoError(t, err)
	defer func() { _ = killer.Close(context.Background()) }()
	db := storetest.OpenConfig(t, cfg)
	require.NoError(t, db.Start(t.Context()))
	ours := func() (pid int) {
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&pid, `SELECT pg_backend_pid()`) }))
		return pid
	}
	done, started := make(chan error, 1), make(chan int, 1)
	go func() {
		done <- db.Read(context.Background(), func(tx *store.Tx) error {
			var pid int
			if err := tx.Get(&pid, `SELECT pg_backend_pid()`); err != nil {
				return err
			}
			started <- pid
			return sleep(tx, 4.5)
		})
	}()
	busy := <-started
	require.NotEqual(t, busy, ours())
	door := func(open string) {
		_, err := killer.Exec(context.Background(), `ALTER DATABASE `+pgx.Identifier{name}.Sanitize()+` ALLOW_CONNECTIONS `+open)
		require.NoError(t, err)
	}
	door("false")
	defer door("true")
	_, err = killer.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> $2`, name, busy)
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.Greater(t, db.Age(), 2*time.Second, "the control: the feed has heard nothing meanwhile")
}

// TestACacheThatReloadsDuringSilenceIsBackInTime: a cache that could not follow a change is loaded again and again. One such load that the
// silence swallows must not keep the instance from service long after the line is back.
func TestACacheThatReloadsDuringSilenceIsBackInTime(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	line := storetest.NewLine(t, cfg.PostgresURL.Reveal())
	cfg.PostgresURL = secretOf(line.URL)
	db := storetest.OpenConfig(t, cfg)
	var once sync.Once
	db.Subscribe(func(ctx context.Context, changes []store.Change) (err error) {
		if changes[0].Topic != store.TopicReset {
			once.Do(func() {
				line.Swallow()
				err = errors.New("planted: this cache could not follow")
			})
			return err
		}
		return db.Read(ctx, func(tx *store.Tx) error { return sleep(tx, 0) })
	})
	require.NoError(t, db.Start(t.Context()))
	require.NoError(t, change(t.Context(), db, "key_x", 0))
	require.Error(t, db.Fresh(t.Context()))
	require.Eventually(t, func() bool { return db.Age() > 4*time.Second }, 10*time.Second, 10*time.Millisecond)
	line.Mend()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		return db.Fresh(ctx) == nil
	}, 5*time.Second, 10*time.Millisecond)
}

// TestSilenceWhileACacheLoadsIsNoticed: who ends the waits must not wait itself, for a cache that is being loaded.
func TestSilenceWhileACacheLoadsIsNoticed(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	direct := storetest.OpenConfig(t, cfg)
	line := storetest.NewLine(t, cfg.PostgresURL.Reveal())
	cfg.PostgresURL = secretOf(line.URL)
	db := storetest.OpenConfig(t, cfg)
	loading := make(chan struct{})
	var once sync.Once
	db.Subscribe(func(ctx context.Context, changes []store.Change) error {
		if changes[0].Topic != store.TopicReset {
			once.Do(func() {
				line.Swallow()
				close(loading)
			})
		}
		return db.Read(ctx, func(tx *store.Tx) error { return sleep(tx, 0) })
	})
	require.NoError(t, db.Start(t.Context()))
	require.NoError(t, change(t.Context(), direct, "key_x", 0))
	<-loading
	waiting := make(chan error, 1)
	go func() {
		waiting <- db.Read(context.Background(), func(tx *store.Tx) error { return sleep(tx, 0) })
	}()
	select {
	case err := <-waiting:
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("somebody still waits")
	}
	line.Mend()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		return db.Fresh(ctx) == nil
	}, 5*time.Second, 10*time.Millisecond)
}
