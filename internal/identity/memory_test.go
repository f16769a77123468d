package identity_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}

// TestRevocationIsSeenAtOnce revokes under load and asks right after the call returned.
func TestRevocationIsSeenAtOnce(t *testing.T) {
	each(t, func(c *identity.Config) { c.MaxKeysPerTrain = 100 }, func(t *testing.T, h *house) {
		_, admin := h.admin()
		_, steady := h.mustIssue("train_a", "steady")
		var stop atomic.Bool
		var served atomic.Int64
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for !stop.Load() {
					if _, err := h.Client(steady); err != nil {
						t.Error(err)
						return
					}
					served.Add(1)
					runtime.Gosched()
				}
			})
		}
		for i := range 30 {
			k, bearer := h.mustIssue("train_a", "x")
			_, err := h.Client(bearer)
			require.NoError(t, err, "a key must work as soon as it is issued")
			tok, v, err := h.IssueToken(t.Context(), admin, identity.TokenDraft{Name: "x"})
			require.NoError(t, err)
			_, err = h.Token(v.Reveal())
			require.NoError(t, err)

			require.NoError(t, h.revoke("train_a", k.ID))
			_, err = h.Client(bearer)
			requireFault(t, "unauthenticated", err)
			require.False(t, h.KeyAlive(k.ID), i)
			require.NoError(t, h.RevokeToken(t.Context(), admin, tok.ID))
			_, err = h.Token(v.Reveal())
			requireFault(t, "unauthenticated", err)
		}
		stop.Store(true)
		wg.Wait()
		require.Positive(t, served.Load())
	})
}

// TestRevocationReachesOtherInstances revokes on one instance and watches another of the same database.
func TestRevocationReachesOtherInstances(t *testing.T) {
	for _, e := range storetest.Engines() {
		if e == store.SQLite { // serves one process by design
			continue
		}
		t.Run(string(e), func(t *testing.T) { revokeOnAnother(t, storetest.Config(t, e)) })
	}
}

func revokeOnAnother(t *testing.T, cfg store.Config) {
	t.Helper()
	a, b := newHouse(t, cfg, newClock(), nil), newHouse(t, cfg, newClock(), nil)
	_, admin := a.admin()
	var slowest time.Duration
	for range 5 {
		k, bearer := a.mustIssue("train_a", "x")
		tok, v, err := a.IssueToken(t.Context(), admin, identity.TokenDraft{Name: "x"})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			_, err1 := b.Client(bearer)
			_, err2 := b.Token(v.Reveal())
			return err1 == nil && err2 == nil && b.KeyAlive(k.ID)
		}, time.Second, 5*time.Millisecond)

		require.NoError(t, a.revoke("train_a", k.ID))
		require.NoError(t, a.RevokeToken(t.Context(), admin, tok.ID))
		acknowledged := time.Now()
		for {
			_, err1 := b.Client(bearer)
			_, err2 := b.Token(v.Reveal())
			if err1 != nil && err2 != nil && !b.KeyAlive(k.ID) {
				break
			}
			require.Less(t, time.Since(acknowledged), time.Second, "a revocation must be obeyed within a second")
			time.Sleep(time.Millisecond)
		}
		slowest = max(slowest, time.Since(acknowledged))
	}
	t.Logf("slowest of 5: %v", slowest.Round(time.Millisecond))
}

// TestMemoryIsLoadedAtStart opens a database again that has people, keys and tokens.
func TestMemoryIsLoadedAtStart(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			cfg := storetest.Config(t, e)
			h := newHouse(t, cfg, newClock(), nil)
			_, admin := h.admin()
			_, bearer := h.mustIssue("train_a", "x")
			gone, goneBearer := h.mustIssue("train_a", "gone")
			require.NoError(t, h.revoke("train_a", gone.ID))
			_, v, err := h.IssueToken(t.Context(), admin, identity.TokenDraft{Name: "x", Scopes: identity.Scopes{identity.AuditRead}})
			require.NoError(t, err)
			require.NoError(t, h.Close())
			require.NoError(t, h.db.Close())

			h = coldHouse(t, cfg, newClock(), nil)
			_, err = h.Client(bearer)
			requireFault(t, "database_unavailable", err) // an empty memory must not call a good key unknown
			_, err = h.Token(v.Reveal())
			requireFault(t, "database_unavailable", err)
			require.NoError(t, h.db.Start(t.Context()))
			_, err = h.Client(bearer)
			require.NoError(t, err)
			_, err = h.Client(goneBearer)
			requireFault(t, "unauthenticated", err)
			caller, err := h.Token(v.Reveal())
			require.NoError(t, err)
			require.NoError(t, identity.Allow(caller, identity.AuditRead))
			requireFault(t, "scope_missing", identity.Allow(caller, identity.TrainRead))
		})
	}
}

func TestGarbageIsRefused(t *testing.T) {
	h := newHouse(t, storetest.Config(t, store.SQLite), newClock(), nil)
	_, admin := h.admin()
	_, key := h.mustIssue("train_a", "x")
	_, v, err := h.IssueToken(t.Context(), admin, identity.TokenDraft{Name: "x"})
	require.NoError(t, err)
	token := v.Reveal()

	for name, c := range map[string]struct{ bearer, says string }{
		"missing":       {"", "x-api-key"},
		"a token":       {token, "no client key"},
		"cut":           {key[:len(key)-1], "not copied whole"},
		"grown":         {key + "0", "not copied whole"},
		"prefix only":   {"sbx_live_", "not copied whole"},
		"other charset": {key[:12] + "é" + key[14:], "not copied whole"},
		"short":         {"hunter2", "unknown"},
		"huge":          {strings.Repeat("x", 1<<20), "unknown"},
		"foreign":       {"sk-ant-api03-0123456789abcdef0123456789", "unknown"},
		"with space":    {" " + key, "unknown"},
		"upper case":    {strings.ToUpper(key), "unknown"},
	} {
		_, err := h.Client(c.bearer)
		f := requireFault(t, "unauthenticated", err)
		require.Contains(t, f.Detail, c.says, name)
	}
	for i := range key { // no single character can be changed
		changed := []byte(key)
		changed[i] ^= 1
		_, err := h.Client(string(changed))
		require.Error(t, err)
		changed = []byte(token)
		changed[i%len(token)] ^= 1
		_, err = h.Token(string(changed))
		require.Error(t, err)
	}
	for name, c := range map[string]struct{ bearer, says string }{
		"missing":      {"", "Authorization"},
		"a client key": {key, "client key"},
		"a JWT":        {"eyJhbGciOiJIUzI1NiJ9.e30.x", "sbp_"},
		"cut":          {token[:20], "not copied whole"},
		"another's":    {strangersToken(t), "unknown"},
	} {
		_, err := h.Token(c.bearer)
		f := requireFault(t, "unauthenticated", err)
		require.Contains(t, f.Detail, c.says, name)
	}
	require.False(t, h.KeyAlive(""))
	require.False(t, h.KeyAlive("key_none"))
	h.Touch("key_none")
	require.NoError(t, h.Flush(t.Context()))
}

// strangersToken is a token of another Signalbox.
func strangersToken(t *testing.T) string {
	t.Helper()
	h := newHouse(t, storetest.Config(t, store.SQLite), newClock(), nil)
	_, admin := h.admin()
	_, v, err := h.IssueToken(t.Context(), admin, identity.TokenDraft{Name: "x"})
	require.NoError(t, err)
	return v.Reveal()
}

// TestBearersAreRandom looks at many: none twice, every character in every place, checksums that a stranger can recompute.
func TestBearersAreRandom(t *testing.T) {
	h := newHouse(t, storetest.Config(t, store.SQLite), newClock(), func(c *identity.Config) { c.MaxKeysPerTrain = 1000 })
	seen := map[string]bool{}
	chars := map[rune]int{}
	for range 300 {
		_, b := h.mustIssue("train_a", "x")
		require.False(t, seen[b])
		seen[b] = true
		random := strings.TrimPrefix(b, "sbx_live_")
		require.Len(t, random, 32+6, "190 random bits and a checksum")
		for _, c := range random[:32] {
			chars[c]++
		}
	}
	require.Len(t, chars, 62)
	for c, n := range chars { // 155 expected; six standard deviations are 74
		require.InDelta(t, 300*32/62, n, 75, string(c))
	}
}

func TestLastUseIsWrittenInBatches(t *testing.T) {
	each(t, func(c *identity.Config) { c.MaxKeysPerTrain = 500 }, func(t *testing.T, h *house) {
		_, admin := h.admin()
		tok, v, err := h.IssueToken(t.Context(), admin, identity.TokenDraft{Name: "x"})
		require.NoError(t, err)
		var ids []string
		for range 150 { // more than two batches
			k, _ := h.mustIssue("train_a", "x")
			ids = append(ids, k.ID)
		}
		events := len(h.events())
		at := h.clock.Now()
		for _, id := range ids {
			h.Touch(id)
		}
		_, err = h.Token(v.Reveal())
		require.NoError(t, err)
		require.Nil(t, storedUse(h, ids[0]), "nothing is written on the way of a request")
		k, err := h.get("train_a", ids[0])
		require.NoError(t, err)
		require.Equal(t, at, *k.LastUsedAt, "but it is seen at once")

		h.clock.Add(time.Second)
		h.Touch(ids[0])
		require.NoError(t, h.Flush(t.Context()))
		require.Equal(t, store.TimeOf(at.Add(time.Second)), *storedUse(h, ids[0]))
		require.Equal(t, store.TimeOf(at), *storedUse(h, ids[149]))
		tokens, _, err := h.ListTokens(t.Context(), admin, identity.TokenFilter{})
		require.NoError(t, err)
		require.Equal(t, at, *tokens[0].LastUsedAt)
		require.Equal(t, tok.ID, tokens[0].ID)

		// A change of the key between two uses loses neither; a later use that another instance wrote is not overwritten.
		h.clock.Add(time.Second)
		h.Touch(ids[1])
		require.NoError(t, h.write(func(tx *store.Tx) error {
			_, err := h.UpdateKey(tx, admin, "train_a", ids[1], identity.KeyPatch{Name: ptr("renamed")})
			return err
		}))
		k, err = h.get("train_a", ids[1])
		require.NoError(t, err)
		require.Equal(t, h.clock.Now(), *k.LastUsedAt)
		h.Touch(ids[1])
		h.Touch(ids[2])
		future := store.TimeOf(h.clock.Now().Add(time.Hour))
		require.NoError(t, h.write(func(tx *store.Tx) error {
			if _, err := tx.Exec(`UPDATE client_keys SET last_used_at = $1 WHERE id = $2`, future, ids[2]); err != nil {
				return err
			}
			return tx.Record(admin.Event(store.KeyUpdate, store.Target{Kind: "client_key"}))
		}))
		require.NoError(t, h.Close())
		require.Equal(t, store.TimeOf(h.clock.Now()), *storedUse(h, ids[1]))
		require.Equal(t, future, *storedUse(h, ids[2]))
		require.Len(t, h.events(), events+2, "a use of a key is no event of its own here")
	})
}

// TestTouchesWaitForTheDatabase loses no last use while the database is away.
func TestTouchesWaitForTheDatabase(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		k, _ := h.mustIssue("train_a", "x")
		h.Touch(k.ID)
		dead, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, h.Flush(dead))
		require.Nil(t, storedUse(h, k.ID))
		require.NoError(t, h.Flush(t.Context()))
		require.NotNil(t, storedUse(h, k.ID))
	})
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			cfg := storetest.Config(t, e)
			before := goleak.IgnoreCurrent()
			db, err := store.Open(t.Context(), cfg)
			require.NoError(t, err)
			room, err := identity.New(identity.Config{DB: db, Every: time.Millisecond})
			require.NoError(t, err)
			require.NoError(t, db.Start(t.Context()))
			require.NoError(t, room.Start(t.Context()))
			room.Failed("192.0.2.1", identity.FailedLogin)
			require.NoError(t, room.Close())
			require.NoError(t, room.Close())
			var n int
			require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
				return tx.Get(&n, `SELECT COUNT(*) FROM audit_events WHERE action = $1`, string(store.IdentityFailed))
			}))
			require.Equal(t, 1, n, "Close writes what waits")
			require.NoError(t, db.Close())
			goleak.VerifyNone(t, before)
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, err := identity.New(identity.Config{})
	require.Error(t, err)
	db := storetest.Open(t, store.SQLite)
	for _, c := range []identity.Config{{DB: db, MaxKeys: -1}, {DB: db, MaxKeysPerTrain: -1}, {DB: db, Every: -1}} {
		_, err := identity.New(c)
		require.Error(t, err)
	}
}

// TestManyKeysLoadFast bounds the start with 20,000 keys, loosely, and the memory of each; the log has what was measured. Issuing one more must not
// load everything again.
func TestManyKeysLoadFast(t *testing.T) {
	const n = 20_000
	h := coldHouse(t, storetest.Config(t, store.SQLite), newClock(), nil)
	plant(t, h, n)
	before := heap()
	started := time.Now()
	require.NoError(t, h.db.Start(t.Context()))
	load := time.Since(started)
	require.Less(t, load, 5*time.Second)
	perKey := (heap() - before) / n
	require.Less(t, perKey, int64(512))
	for _, i := range []int{1, 777, n} {
		require.True(t, h.KeyAlive(fmt.Sprintf("key_%d", i)))
	}
	require.False(t, h.KeyAlive(fmt.Sprintf("key_%d", n+1)))
	var took []time.Duration
	for range 9 {
		started = time.Now()
		_, bearer := h.mustIssue("train_new", "x")
		took = append(took, time.Since(started))
		_, err := h.Client(bearer)
		require.NoError(t, err)
	}
	require.Less(t, median(took), load, "issuing must not reload everything")
	t.Logf("%d keys: loaded in %v, %d bytes each; issued and reloaded one in %v", n, load.Round(time.Millisecond), perKey, median(took))
}

// plant stores n keys that nobody holds. It speaks SQLite's dialect, since the text of a test need not run on both engines.
func plant(t testing.TB, h *house, n int) {
	t.Helper()
	require.NoError(t, h.write(func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO client_keys (id, train_id, name, preview, hash, created_by, created_at)
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
			SELECT 'key_' || i, 'train_' || (i / 10), 'key', '…', CAST(printf('%032d', i) AS BLOB), 'x', 1 FROM n`, n); err != nil {
			return err
		}
		return tx.Record(identity.System("test").Event(store.KeyIssue, store.Target{Kind: "client_key"}))
	}))
}

func TestClientAllocatesNothing(t *testing.T) {
	h := newHouse(t, storetest.Config(t, store.SQLite), newClock(), nil)
	k, bearer := h.mustIssue("train_a", "x")
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		c, err := h.Client(bearer)
		if err != nil || c.ID != k.ID || !h.KeyAlive(k.ID) {
			t.Error("refused")
		}
		h.Touch(k.ID)
	}))
}

func BenchmarkClient(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		db := storetest.OpenConfig(b, storetest.Config(b, store.SQLite))
		room, err := identity.New(identity.Config{DB: db, Log: slog.New(slog.DiscardHandler)})
		require.NoError(b, err)
		h := &house{Room: room, t: b, db: db}
		plant(b, h, n-1)
		started := time.Now()
		require.NoError(b, db.Start(b.Context()))
		load := time.Since(started)
		_, bearer := h.mustIssue("train_x", "x")
		b.Run(fmt.Sprintf("%d keys", n), func(b *testing.B) {
			b.ReportAllocs()
			b.ReportMetric(float64(load.Milliseconds()), "ms/load")
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := room.Client(bearer); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
	b.Run("garbage", func(b *testing.B) {
		room, err := identity.New(identity.Config{DB: storetest.Open(b, store.SQLite)})
		require.NoError(b, err)
		bad := "sbx_live_" + strings.Repeat("0", 38)
		for b.Loop() {
			if _, err := room.Client(bad); err == nil {
				b.Fatal("accepted")
			}
		}
	})
}
