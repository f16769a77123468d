package store_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// requireRefusal appends an intent and expects a legible refusal, soon.
func requireRefusal(t *testing.T, db *store.DB) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		e := lease("k", "c")
		e.Details = append(e.Details, store.Str("fill", strings.Repeat("x", 20_000))) // no gap in a full database takes it
		_, err := db.Append(context.Background(), e)
		done <- err
	}()
	select {
	case err := <-done:
		f, ok := fault.As(err)
		require.True(t, ok, "%v", err)
		require.Equal(t, "audit_unavailable", f.Code)
	case <-time.After(12 * time.Second):
		t.Fatal("an intent waits behind outcomes that the database does not take")
	}
}

// TestIntentsDoNotWaitBehindOutcomes has more outcomes waiting than one commit takes, on a database that is full, or away.
func TestIntentsDoNotWaitBehindOutcomes(t *testing.T) {
	t.Run("full", func(t *testing.T) {
		var log strings.Builder
		var mu sync.Mutex
		cfg := storetest.Config(t, store.SQLite)
		cfg.Log = textLog(lockedWriter{&mu, &log})
		db := storetest.OpenConfig(t, cfg)
		require.NoError(t, limitPages(db, 1))
		for range 400 {
			e := lease("k", "c")
			e.Details = append(e.Details, store.Str("fill", strings.Repeat("x", 2000)))
			db.AppendLater(e)
		}
		for range 3 {
			requireRefusal(t, db)
		}
		time.Sleep(time.Second)
		mu.Lock()
		lines := strings.Count(log.String(), "\n")
		mu.Unlock()
		require.Less(t, lines, 50, "it must not spin")
		require.NoError(t, limitPages(db, 1_000_000))
		require.Eventually(t, func() bool { return len(stored(t, db)) >= 400 }, 10*time.Second, 50*time.Millisecond, "the outcomes are made up for")
		require.Zero(t, db.LostOutcomes())
	})
	t.Run("away", func(t *testing.T) {
		cfg := storetest.Config(t, store.Postgres)
		cut := newCutter(t, cfg.PostgresURL)
		cfg.PostgresURL = cut.url
		db := storetest.OpenConfig(t, cfg)
		cut.set(true)
		for range 400 {
			db.AppendLater(lease("k", "c"))
		}
		requireRefusal(t, db)
		cut.set(false)
		require.Eventually(t, func() bool { return db.Ping(context.Background()) == nil }, 5*time.Second, 50*time.Millisecond)
		require.Eventually(t, func() bool { return len(stored(t, db)) >= 400 }, 10*time.Second, 50*time.Millisecond)
		require.Zero(t, db.LostOutcomes())
	})
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *strings.Builder
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// TestLostAnswerDoesNotDouble swallows the database's answers, so that commits stand which look lost, and then stays away for longer than
// a commit is tried. Each outcome may be stored once.
func TestLostAnswerDoesNotDouble(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	u, err := url.Parse(cfg.PostgresURL.Reveal())
	require.NoError(t, err)
	target := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	u.Host = l.Addr().String()
	var swallow, away atomic.Bool
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil || away.Load() {
				_ = in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() {
				buf := make([]byte, 4096)
				for {
					n, err := out.Read(buf)
					if swallow.Load() && n > 0 {
						away.Store(true) // the answer to a commit that stands
						err = io.EOF
					} else if n > 0 {
						_, _ = in.Write(buf[:n])
					}
					if err != nil {
						_, _ = in.Close(), out.Close()
						return
					}
				}
			}()
		}
	}()
	direct := storetest.OpenConfig(t, cfg)
	cfg.PostgresURL = secret.FromString(u.String())
	cfg.MaxConns = 1
	db := storetest.OpenConfig(t, cfg)
	_, err = db.Append(t.Context(), lease("warm", "c"))
	require.NoError(t, err)
	swallow.Store(true)
	for i := range 5 {
		db.AppendLater(lease(fmt.Sprintf("key-%d", i), "c"))
	}
	require.Eventually(t, away.Load, 5*time.Second, 5*time.Millisecond)
	time.Sleep(4500 * time.Millisecond)
	swallow.Store(false)
	away.Store(false)
	require.Eventually(t, func() bool { return db.Ping(context.Background()) == nil }, 5*time.Second, 20*time.Millisecond)
	db.AppendLater(lease("last", "c"))
	require.Eventually(t, func() bool {
		for _, e := range stored(t, direct) {
			if e.Actor.ID == "last" {
				return true
			}
		}
		return false
	}, 10*time.Second, 50*time.Millisecond)
	var got []string
	for _, e := range stored(t, direct) {
		got = append(got, e.Actor.ID)
	}
	slices.Sort(got)
	require.Equal(t, []string{"key-0", "key-1", "key-2", "key-3", "key-4", "last", "warm"}, got)
}

// TestInstancesDoNotLockEachOtherOut writes the same subjects in opposite orders at the same moment.
func TestInstancesDoNotLockEachOtherOut(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	a, b := storetest.OpenConfig(t, cfg), storetest.OpenConfig(t, cfg)
	for round := range 10 {
		var wg sync.WaitGroup
		for i := range 200 {
			for j, db := range []*store.DB{a, b} {
				n := i
				if j == 1 {
					n = 199 - i
				}
				wg.Go(func() {
					if _, err := db.Append(context.Background(), lease(fmt.Sprintf("key-%d-%d", round, n), "c")); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
	}
}
