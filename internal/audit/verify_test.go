package audit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// readOnly opens the database a second time, as `audit verify` does beside a running server.
func (b *box) readOnly(t testing.TB) *store.DB {
	t.Helper()
	cfg := b.cfg
	cfg.ReadOnly = true
	return storetest.OpenConfig(t, cfg)
}

func TestVerifyBesideARunningServer(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		b.fill(t, 20)
		b.flush(t)
		b.log.every, b.log.signEvery = 2*time.Millisecond, 10*time.Millisecond
		b.log.Start(t.Context())
		stop := make(chan struct{})
		var work sync.WaitGroup
		for w := range 2 {
			work.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					time.Sleep(time.Millisecond)
					_, _ = b.db.Append(context.Background(), granted(w*10_000+i))
					_ = b.db.Write(context.Background(), func(tx *store.Tx) error { return tx.Record(act(i)) })
				}
			})
		}
		ro := b.readOnly(t)
		for range 8 {
			r, err := Verify(t.Context(), ro, VerifyOptions{Anchors: b.notes(t)})
			require.NoError(t, err)
			requireClean(t, r)
			require.Positive(t, r.Anchored)
			require.Equal(t, r.Size, r.Anchored+r.SignedOnly+r.Unsigned)
		}
		close(stop)
		work.Wait()
		// What was running is not ended in order here: a killed server leaves just this.
		r, err := Verify(t.Context(), b.readOnly(t), VerifyOptions{Anchors: b.notes(t)})
		require.NoError(t, err)
		requireClean(t, r)
		b.log.Close()
		b.requireWhole(t)
	})
}

func TestVerifyTellsWhatIsCovered(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		ctx := t.Context()
		r := b.verify(t)
		require.True(t, r.OK())
		require.EqualValues(t, 2, r.Pending, "the keyring and the signer")
		b.fill(t, 2)
		b.flush(t)
		anchored := b.notes(t)
		b.fill(t, 2)
		b.flush(t)
		b.fill(t, 2)
		require.NoError(t, b.log.stand(ctx, standNow))
		require.NoError(t, b.log.drain(ctx, recent))
		b.fill(t, 2)
		var seen []int64
		r, err := Verify(ctx, b.db, VerifyOptions{Anchors: anchored, Progress: func(done, total int64) { seen = append(seen, done, total) }})
		require.NoError(t, err)
		requireClean(t, r)
		require.Equal(t, Report{Size: 32, Anchored: 12, SignedOnly: 10, Unsigned: 10, Pending: 10, Checkpoints: 2, Anchors: 1, Findings: r.Findings}, r)
		require.Equal(t, []int64{32, 32}, seen)
		_, ok := r.First()
		require.False(t, ok)

		_, err = Verify(ctx, b.db, VerifyOptions{Anchors: []string{"rubbish"}})
		require.Equal(t, fault.Unprocessable, fault.KindOf(err))
	})
}

// The database is put back to an older state, goes on from there with the real key, and is found against what was anchored before.
func TestRolledBackLogThatGoesOnIsAFork(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		for range 4 {
			b.fill(t, 3)
			b.flush(t)
		}
		anchors := b.notes(t)
		th := newThief(t, b, nil)
		back := th.points[1].Size
		for i, row := range th.rows {
			if row.First >= back {
				th.cut(i)
				break
			}
		}
		f, _ := b.verify(t, anchors...).First()
		require.Equal(t, Cut, f.Kind)
		require.Equal(t, back, f.Leaf)

		th.rearm()
		b.log = b.another(t, b.db, "after the restore")
		for range 5 {
			b.fill(t, 2)
			b.flush(t)
		}
		require.True(t, b.verify(t).OK(), "without an anchor it cannot be seen")
		for _, given := range [][]string{anchors, anchors[2:3], anchors[3:]} {
			f, ok := b.verify(t, given...).First()
			require.True(t, ok)
			require.Equal(t, Forked, f.Kind, f.String())
			require.LessOrEqual(t, f.Leaf, back)
			require.Greater(t, f.To, back)
		}
		f, _ = b.verify(t, anchors...).First()
		require.Equal(t, back, f.Leaf, "with all anchors the first differing record is named exactly")
		require.Contains(t, b.said.String(), "rolled back")
	})
}

func TestAnchorsOfAnotherDatabase(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		b.fill(t, 2)
		b.flush(t)
		s, _ := testSigner(t)
		c := testCheckpoint(t, s)
		c.Size, c.After = 3, 0
		r := b.verify(t, sign(t, c, s))
		f, ok := r.First()
		require.True(t, ok)
		require.Equal(t, Rechained, f.Kind)
		require.True(t, hasFinding(r, Forged, "another database"), "%v", r.Findings)
		require.Zero(t, r.Anchored)
	})
}

func hasFinding(r Report, kind Kind, text string) bool {
	for _, f := range r.Findings {
		if f.Kind == kind && strings.Contains(f.Detail, text) {
			return true
		}
	}
	return false
}

// Without its unique index the log can hold a record twice; the sums alone would not show it.
func TestRecordTwiceInTheLogIsFound(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		b.fill(t, 3)
		b.flush(t)
		th := newThief(t, b, nil)
		for _, q := range []string{`CREATE TABLE copy AS SELECT * FROM audit_leaves`, `DROP TABLE audit_leaves`, `ALTER TABLE copy RENAME TO audit_leaves`} {
			_, err := th.x.Exec(q)
			require.NoError(t, err)
		}
		row := th.rows[2]
		th.exec(`INSERT INTO audit_leaves (first_leaf, count, source_id, hashes) VALUES ($1,$2,$3,$4)`, th.size, row.Count, row.Source, row.Hashes)
		id := store.NewID(sourcePrefix)
		th.exec(`INSERT INTO audit_events (id, at, action, actor_id, target_id, on_behalf_of, request_id, body)
			SELECT $1, at, action, actor_id, target_id, on_behalf_of, request_id, body FROM audit_events WHERE id = (SELECT MIN(id) FROM audit_events)`, id)
		r := b.verify(t, th.notes...)
		require.True(t, hasFinding(r, Reordered, "twice"), "%v", r.Findings)
		require.True(t, hasFinding(r, Unreferenced, "neither"), "%v", r.Findings)
	})
}

// A log of many chunks and three stored levels, with batches that reach over every boundary.
func TestVerifyLargeLog(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		x := b.attack(t)
		sources, least := 60, int64(1<<16) // few sources with many records each, to come to a node of level 16 quickly
		if testing.Short() {
			sources, least = 13, 3*chunkLeaves
		}
		for range 5 {
			b.stuff(t, x, sources, 223)
			b.stuff(t, x, 100, 0)
			b.flush(t)
		}
		th := newThief(t, b, nil)
		require.Greater(t, th.size, least)
		r := b.verify(t, th.notes...)
		requireClean(t, r)
		require.Equal(t, th.size, r.Anchored)

		set := func(q string, args ...any) { th.exec(q, args...) }
		first := func(kind Kind, leaf int64) {
			t.Helper()
			f, ok := b.verify(t, th.notes...).First()
			require.True(t, ok)
			require.Equal(t, kind, f.Kind, f.String())
			require.LessOrEqual(t, f.Leaf, leaf, f.String())
			require.Greater(t, f.To, leaf, f.String())
			th.restore()
		}
		if !testing.Short() {
			set(`UPDATE audit_nodes SET hash = $1 WHERE level = 16`, make([]byte, 32))
			first(Edited, 0)
			set(`DELETE FROM audit_nodes WHERE level = 16`)
			first(Deleted, 0)
		}
		row := th.rows[len(th.rows)*2/3]
		set(`UPDATE audit_leaves SET hashes = $1 WHERE source_id = $2`, append(make([]byte, 32), row.Hashes[32:]...), row.Source)
		first(Edited, row.First)
		set(`DELETE FROM audit_leaves WHERE source_id = $1`, row.Source)
		first(Deleted, row.First)
		set(`DELETE FROM audit_leaves WHERE first_leaf > $1 AND first_leaf < $2`, chunkLeaves, 3*chunkLeaves)
		first(Deleted, 2*chunkLeaves)
		set(`DELETE FROM audit_batches`)
		first(Deleted, 2)
		set(`UPDATE audit_leaves SET first_leaf = first_leaf + 1000000000000 WHERE source_id = $1`, row.Source)
		first(Deleted, row.First)
		set(`UPDATE audit_leaves SET first_leaf = -7 WHERE source_id = $1`, row.Source)
		f, ok := b.verify(t, th.notes...).First()
		require.True(t, ok)
		th.restore()

		// Every record at once: the report is bounded and starts at the start.
		set(`UPDATE audit_events SET actor_id = actor_id || 'x'`)
		r = b.verify(t, th.notes...)
		f, ok = r.First()
		require.True(t, ok)
		require.Zero(t, f.Leaf)
		require.Len(t, r.Findings, maxFindings)
		require.EqualValues(t, 502, r.Found)
		th.restore()
		requireClean(t, b.verify(t, th.notes...))
	})
}

func TestFindingReadsLikeASentence(t *testing.T) {
	f := Finding{Edited, 7, 8, "evt_x", "the record does not hash to its leaf"}
	require.Equal(t, "edited leaf 7 (evt_x): the record does not hash to its leaf", f.String())
	f = Finding{Cut, 7, 12, "", "gone"}
	require.Equal(t, "cut leaves 7 to 11: gone", f.String())
	f = Finding{Forged, -1, -1, "", "no"}
	require.Equal(t, "forged: no", fmt.Sprint(f))
}
