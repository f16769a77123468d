package audit

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

func TestEveryRecordCanBeProved(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		for i := range 4 {
			b.fill(t, 12)
			b.lend(t, i*100, 70)
			b.flush(t)
		}
		all := records(t, b.db)
		require.Greater(t, len(all), 2*blockSize)
		for id, record := range all {
			p, err := b.log.Prove(t.Context(), id)
			require.NoError(t, err, id)
			require.Equal(t, record, p.Record)
			wire, err := json.Marshal(p)
			require.NoError(t, err)
			var back Proof
			require.NoError(t, json.Unmarshal(wire, &back))
			c, err := CheckProof(back)
			require.NoError(t, err)
			require.Equal(t, p.Size, c.Size)
		}
		_, err := b.log.Prove(t.Context(), store.NewID(sourcePrefix))
		require.Equal(t, fault.NotFound, fault.KindOf(err))
		b.record(t, act(1))
		for id := range records(t, b.db) {
			if all[id] != "" {
				continue
			}
			_, err := b.log.Prove(t.Context(), id)
			require.Equal(t, fault.Conflict, fault.KindOf(err), "not sequenced yet")
			require.NoError(t, b.log.drain(t.Context(), recent))
			_, err = b.log.Prove(t.Context(), id)
			require.Equal(t, fault.Conflict, fault.KindOf(err), "not signed yet")
		}
	})
}

// proofFixture is a proof over a small log that needs no database.
func proofFixture(t testing.TB, n, leaf int) (Proof, []string) {
	t.Helper()
	s, public := fixedSigner(t)
	var leaves []string
	for i := range n {
		leaves = append(leaves, fmt.Sprintf(`{"id":"evt_%026d"}`, i))
	}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	for i, l := range leaves {
		h, err := tlog.StoredHashes(int64(i), []byte(l), reader)
		require.NoError(t, err)
		stored = append(stored, h...)
	}
	c := testCheckpoint(t, s)
	c.Size, c.After, c.Root = int64(n), 0, rootOf(t, leaves)
	hashes, err := tlog.ProveRecord(int64(n), int64(leaf), reader)
	require.NoError(t, err)
	return Proof{Record: leaves[leaf], Leaf: int64(leaf), Size: int64(n), Hashes: hashes, Note: sign(t, c, s), Verifier: public}, leaves
}

func TestProofFailsOnAnyChange(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 8, 100} {
		p, _ := proofFixture(t, n, n/2)
		_, err := CheckProof(p)
		require.NoError(t, err)
		for i := range p.Record {
			q := p
			q.Record = p.Record[:i] + string(p.Record[i]^1) + p.Record[i+1:]
			_, err := CheckProof(q)
			require.Error(t, err, "record byte %d", i)
		}
		text := strings.Index(p.Note, sigMark)
		for i := range text {
			q := p
			q.Note = p.Note[:i] + string(p.Note[i]^1) + p.Note[i+1:]
			_, err := CheckProof(q)
			require.Error(t, err, "note byte %d", i)
		}
		for i := range p.Hashes {
			q := p
			q.Hashes = append([]tlog.Hash(nil), p.Hashes...)
			q.Hashes[i][n%32] ^= 1
			_, err := CheckProof(q)
			require.Error(t, err, "hash %d", i)
			q.Hashes = p.Hashes[:i]
			_, err = CheckProof(q)
			require.Error(t, err, "hashes %d", i)
		}
		for _, change := range []func(*Proof){
			func(q *Proof) { q.Leaf++ }, func(q *Proof) { q.Leaf-- }, func(q *Proof) { q.Leaf = -1 }, func(q *Proof) { q.Leaf = 1 << 62 },
			func(q *Proof) { q.Size++ }, func(q *Proof) { q.Size = 1 << 62 },
			func(q *Proof) { q.Hashes = append([]tlog.Hash{{}}, q.Hashes...) },
			func(q *Proof) { _, q.Verifier = testSigner(t) }, func(q *Proof) { q.Verifier = "" },
		} {
			q := p
			change(&q)
			_, err := CheckProof(q)
			require.Error(t, err, "%+v", q)
		}
	}
}

func FuzzProof(f *testing.F) {
	p, leaves := proofFixture(f, 13, 5)
	wire, err := json.Marshal(p)
	require.NoError(f, err)
	f.Add(wire)
	f.Add([]byte(`{"leaf":4611686018427387904,"size":9223372036854775807}`))
	f.Fuzz(func(t *testing.T, wire []byte) {
		var q Proof
		if json.Unmarshal(wire, &q) != nil {
			return
		}
		_, _ = CheckProof(q)
		q.Verifier = p.Verifier // whoever has the right key believes only what was signed
		if _, err := CheckProof(q); err == nil {
			if q.Leaf < 0 || q.Leaf >= int64(len(leaves)) || q.Record != leaves[q.Leaf] {
				t.Fatalf("a proof of something that is not in the log: %+v", q)
			}
		}
	})
}

func TestCheckpointsContinueEachOther(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		var points []Checkpoint
		for i := range 6 {
			b.lend(t, i*1000, 40+i*37)
			b.flush(t)
			c, err := b.log.Latest(t.Context())
			require.NoError(t, err)
			points = append(points, c)
		}
		for i, older := range points {
			for _, newer := range points[i:] {
				hashes, err := b.log.ProveGrowth(t.Context(), older.Size, newer.Size)
				require.NoError(t, err)
				require.NoError(t, CheckGrowth(older, newer, hashes))
				other := older
				other.Root[3] ^= 1
				require.Error(t, CheckGrowth(other, newer, hashes))
				other = older
				other.Origin += "x"
				require.Error(t, CheckGrowth(other, newer, hashes))
			}
		}
		last := points[len(points)-1].Size
		for _, bad := range [][2]int64{{0, 1}, {2, 1}, {1, last + 1}, {-1, 5}} {
			_, err := b.log.ProveGrowth(t.Context(), bad[0], bad[1])
			require.Equal(t, fault.Unprocessable, fault.KindOf(err), "%v", bad)
		}
	})
}

// The tree's own arithmetic against tlog's, at every size around the steps of the stored levels.
func TestEdgeAndNodesAgreeWithTlog(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		x := b.attack(t)
		r := rand.New(rand.NewPCG(seed(t), 3))
		e := &edge{}
		var leaves []string
		put := func(q string, args ...any) {
			_, err := x.Exec(q, args...)
			require.NoError(t, err)
		}
		for e.size < 1100 {
			n := min(1+r.Int64N(20), 1100-e.size)
			var hashes []byte
			first := e.size
			for range n {
				leaf := fmt.Sprint(len(leaves))
				leaves = append(leaves, leaf)
				h := tlog.RecordHash([]byte(leaf))
				hashes = append(hashes, h[:]...)
				e.add(h, func(level int, idx int64, h tlog.Hash) {
					put(`INSERT INTO audit_nodes (level, idx, hash) VALUES ($1,$2,$3)`, level, idx, h[:])
				})
			}
			put(`INSERT INTO audit_leaves (first_leaf, count, source_id, hashes) VALUES ($1,$2,$3,$4)`, first, n, fmt.Sprint("s", first), hashes)
		}
		require.Equal(t, rootOf(t, leaves), e.root())
		for _, size := range []int64{0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 700, 1023, 1024, 1100} {
			require.NoError(t, b.db.Read(t.Context(), func(tx *store.Tx) error {
				got, err := readEdge(tx, size)
				require.NoError(t, err)
				want := rootOf(t, leaves[:size])
				require.Equal(t, want, got.root(), "size %d", size)
				root, err := tlog.TreeHash(size, newNodeReader(tx, size))
				require.NoError(t, err)
				require.Equal(t, want, root)
				return nil
			}))
		}
		b.unguard(t, x)
		put(`DELETE FROM audit_leaves WHERE first_leaf > 1030 AND first_leaf < 1080`)
		err := b.db.Read(t.Context(), func(tx *store.Tx) error {
			_, err := readEdge(tx, 1100)
			return err
		})
		require.ErrorContains(t, err, "audit verify")
	})
}

func TestGetAndTail(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		ctx := t.Context()
		b.record(t, act(3))
		ids := b.lend(t, 0, 6)
		e, err := b.log.Get(ctx, ids[4])
		require.NoError(t, err)
		require.EqualValues(t, -1, e.Leaf)
		require.Equal(t, "req_4", e.Event.RequestID)
		empty, err := b.log.Tail(ctx, -1, 10)
		require.NoError(t, err)
		require.Empty(t, empty)
		b.flush(t)

		var walked []Entry
		for after := int64(-1); ; {
			page, err := b.log.Tail(ctx, after, 2)
			require.NoError(t, err)
			if len(page) == 0 {
				break
			}
			require.LessOrEqual(t, len(page), 2)
			walked = append(walked, page...)
			after = page[len(page)-1].Leaf
		}
		require.Len(t, walked, len(records(t, b.db)))
		for i, w := range walked {
			require.EqualValues(t, i, w.Leaf)
			got, err := b.log.Get(ctx, w.Event.ID)
			require.NoError(t, err)
			require.Equal(t, w, got)
		}
		all, err := b.log.Tail(ctx, -1, 0)
		require.NoError(t, err)
		require.Equal(t, walked, all)
		size, err := b.log.Size(ctx)
		require.NoError(t, err)
		require.EqualValues(t, len(walked), size)
		told := 0
		for after := int64(-1); ; {
			page, last, err := b.log.Follow(ctx, after, 2, store.LeaseGranted, store.LeaseOutcome)
			require.NoError(t, err)
			if last == after {
				require.Empty(t, page)
				break
			}
			require.EqualValues(t, min(after+2, size-1), last, "what is left out counts for the limit")
			for _, e := range page {
				require.Greater(t, e.Leaf, after)
				require.Equal(t, walked[e.Leaf], e)
				require.NotEqual(t, store.LeaseGranted, e.Event.Action)
				told++
			}
			after = last
		}
		kept := slices.DeleteFunc(slices.Clone(walked), func(e Entry) bool {
			return e.Event.Action == store.LeaseGranted || e.Event.Action == store.LeaseOutcome
		})
		require.NotEmpty(t, kept)
		require.Len(t, kept, told, "none of the others is")

		batch, _, _ := strings.Cut(ids[0], "_0")
		for _, bad := range []string{"", "x", "evt_", batch, batch + "_", batch + "_00", batch + "_-1", batch + "_999", batch + "_99999999999999999999",
			walked[0].Event.ID + "_0", strings.ToUpper(ids[0]), ids[0] + "_0", "req_" + strings.TrimPrefix(batch, "evt_")} {
			_, err := b.log.Get(ctx, bad)
			require.Equal(t, fault.NotFound, fault.KindOf(err), "%q", bad)
		}
	})
}

func TestLatestBeforeTheFirst(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		_, err := b.log.Latest(t.Context())
		require.Equal(t, fault.NotFound, fault.KindOf(err))
	})
}
