package audit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// thief changes an audit log in the database. He knows all of it, remembers how it was, and puts it back after each round.
type thief struct {
	t       *testing.T
	b       *box
	x       *sqlx.DB
	r       *rand.Rand
	rows    []leafRow
	bodies  map[string][]byte
	batches map[string]bool
	points  []checkpointRow
	notes   []string
	waiting []string
	size    int64
	touched map[string]bool
	rearm   func()
}

func newThief(t *testing.T, b *box, r *rand.Rand) *thief {
	th := &thief{t: t, b: b, x: b.attack(t), r: r, bodies: map[string][]byte{}, batches: map[string]bool{}, notes: b.notes(t), touched: map[string]bool{}}
	th.rearm = b.unguard(t, th.x)
	require.NoError(t, th.x.Select(&th.rows, `SELECT first_leaf, count, source_id, hashes FROM audit_leaves ORDER BY first_leaf`))
	require.NoError(t, th.x.Select(&th.points, `SELECT size, at, note FROM audit_checkpoints ORDER BY size`))
	require.NoError(t, th.x.Select(&th.waiting, `SELECT source_id FROM audit_pending ORDER BY source_id`))
	for _, table := range []string{"audit_events", "audit_batches"} {
		var found []recordRow
		require.NoError(t, th.x.Select(&found, `SELECT id, body FROM `+table))
		for _, row := range found {
			th.bodies[row.ID] = row.Body
			th.batches[row.ID] = table == "audit_batches"
		}
	}
	last := th.rows[len(th.rows)-1]
	th.size = last.First + last.Count
	for _, table := range auditTables {
		th.exec(`CREATE TABLE orig_` + table + ` AS SELECT * FROM ` + table)
	}
	return th
}

func (th *thief) exec(query string, args ...any) {
	th.t.Helper()
	_, err := th.x.Exec(query, args...)
	require.NoError(th.t, err, query)
	for _, table := range auditTables {
		if strings.Contains(query, table) {
			th.touched[table] = true
		}
	}
}

func (th *thief) restore() {
	for table := range th.touched {
		_, err := th.x.Exec(`DELETE FROM ` + table)
		require.NoError(th.t, err)
		_, err = th.x.Exec(`INSERT INTO ` + table + ` SELECT * FROM orig_` + table)
		require.NoError(th.t, err)
	}
	clear(th.touched)
}

// row picks a row of the log; with want, a batch or an event.
func (th *thief) row(want ...bool) (int, leafRow) {
	for {
		i := th.r.IntN(len(th.rows))
		if len(want) == 0 || th.batches[th.rows[i].Source] == want[0] {
			return i, th.rows[i]
		}
	}
}

func (th *thief) table(row leafRow) string {
	if th.batches[row.Source] {
		return "audit_batches"
	}
	return "audit_events"
}

// flip changes one byte.
func (th *thief) flip(b []byte) ([]byte, int) {
	out := slices.Clone(b)
	i := th.r.IntN(len(out))
	out[i] ^= 1 << th.r.IntN(5)
	return out, i
}

// caught is what the report must say first.
type caught struct {
	kinds []Kind
	leaf  int64 // the first leaf that was changed; -1 when the change is not in the records
	exact bool  // the report names that leaf and no range
	id    string
}

func at(leaf int64, kinds ...Kind) caught    { return caught{kinds: kinds, leaf: leaf} }
func exact(leaf int64, kinds ...Kind) caught { return caught{kinds: kinds, leaf: leaf, exact: true} }

type mutation struct {
	name string
	do   func(th *thief) caught
}

var mutations = []mutation{
	{"edit an event", func(th *thief) caught {
		_, row := th.row(false)
		body, _ := th.flip(th.bodies[row.Source])
		th.exec(`UPDATE audit_events SET body = $1 WHERE id = $2`, body, row.Source)
		c := exact(row.First, Edited)
		c.id = row.Source
		return c
	}},
	{"edit a column of an event", func(th *thief) caught {
		_, row := th.row(false)
		if th.r.IntN(4) == 0 {
			th.exec(`UPDATE audit_events SET at = at + $1 WHERE id = $2`, 1+th.r.IntN(5000), row.Source)
		} else {
			column := []string{"action", "actor_id", "target_id", "on_behalf_of", "request_id"}[th.r.IntN(5)]
			th.exec(`UPDATE audit_events SET `+column+` = `+column+` || 'x' WHERE id = $1`, row.Source)
		}
		c := exact(row.First, Edited)
		c.id = row.Source
		return c
	}},
	{"move a value to the next column", func(th *thief) caught {
		_, row := th.row(false)
		th.exec("UPDATE audit_events SET actor_id = actor_id || '\n' || target_id, target_id = on_behalf_of, on_behalf_of = request_id, request_id = '' WHERE id = $1", row.Source)
		return exact(row.First, Edited)
	}},
	{"edit a batch", func(th *thief) caught {
		_, row := th.row(true)
		body, i := th.flip(th.bodies[row.Source])
		th.exec(`UPDATE audit_batches SET body = $1 WHERE id = $2`, body, row.Source)
		n := strings.Count(string(th.bodies[row.Source][:i]), "\n")
		c := at(row.First+int64(n), Edited)
		if th.bodies[row.Source][i] != '\n' && body[i] != '\n' {
			c.exact, c.id = true, place{row.Source, n}.id()
		}
		return c
	}},
	{"edit a column of a batch", func(th *thief) caught {
		_, row := th.row(true)
		column := []string{"at", "count"}[th.r.IntN(2)]
		th.exec(`UPDATE audit_batches SET `+column+` = `+column+` + $1 WHERE id = $2`, 2+th.r.IntN(100), row.Source)
		return at(row.First, Edited)
	}},
	{"delete a record of a batch", func(th *thief) caught {
		var row leafRow
		for row.Count < 2 {
			_, row = th.row(true)
		}
		lines := strings.Split(string(th.bodies[row.Source]), "\n")
		n := th.r.IntN(len(lines))
		lines = slices.Delete(lines, n, n+1)
		th.exec(`UPDATE audit_batches SET body = $1, count = count - 1 WHERE id = $2`, []byte(strings.Join(lines, "\n")), row.Source)
		return at(row.First+int64(n), Edited, Deleted, Reordered)
	}},
	{"delete an event", func(th *thief) caught {
		_, row := th.row(false)
		th.exec(`DELETE FROM audit_events WHERE id = $1`, row.Source)
		c := exact(row.First, Deleted)
		c.id = row.Source
		return c
	}},
	{"delete a batch", func(th *thief) caught {
		_, row := th.row(true)
		th.exec(`DELETE FROM audit_batches WHERE id = $1`, row.Source)
		return at(row.First, Deleted)
	}},
	{"delete a leaf row", func(th *thief) caught {
		i, row := th.row()
		th.exec(`DELETE FROM audit_leaves WHERE source_id = $1`, row.Source)
		if i == len(th.rows)-1 {
			return at(row.First, Cut)
		}
		return at(row.First, Deleted)
	}},
	{"delete a leaf row and its record", func(th *thief) caught {
		i, row := th.row()
		th.exec(`DELETE FROM audit_leaves WHERE source_id = $1`, row.Source)
		th.exec(`DELETE FROM `+th.table(row)+` WHERE id = $1`, row.Source)
		if i == len(th.rows)-1 {
			return at(row.First, Cut)
		}
		return at(row.First, Deleted)
	}},
	{"delete a node", func(th *thief) caught {
		n := th.r.Int64N(th.size / blockSize)
		th.exec(`DELETE FROM audit_nodes WHERE level = $1 AND idx = $2`, nodeStep, n)
		return at(n*blockSize, Deleted)
	}},
	{"edit a node", func(th *thief) caught {
		n := th.r.Int64N(th.size / blockSize)
		th.exec(`UPDATE audit_nodes SET hash = $1 WHERE level = $2 AND idx = $3`, make([]byte, 32), nodeStep, n)
		return at(n*blockSize, Edited)
	}},
	{"add a node", func(th *thief) caught {
		th.exec(`INSERT INTO audit_nodes (level, idx, hash) VALUES ($1, $2, $3)`, nodeStep*(1+th.r.IntN(2)), th.size, make([]byte, 32))
		return at(-1, Cut)
	}},
	{"swap two rows", func(th *thief) caught {
		i, a := th.row()
		j, b := th.row()
		for i == j || a.Count != b.Count {
			i, a = th.row()
			j, b = th.row()
		}
		th.exec(`DELETE FROM audit_leaves WHERE first_leaf = $1 OR first_leaf = $2`, a.First, b.First)
		th.exec(`INSERT INTO audit_leaves (first_leaf, count, source_id, hashes) VALUES ($1,$2,$3,$4), ($5,$6,$7,$8)`,
			a.First, b.Count, b.Source, b.Hashes, b.First, a.Count, a.Source, a.Hashes)
		return at(min(a.First, b.First), Reordered, Rechained)
	}},
	{"swap the sources of two rows", func(th *thief) caught {
		i, a := th.row(false)
		j, b := th.row(false)
		for i == j {
			j, b = th.row(false)
		}
		th.exec(`DELETE FROM audit_leaves WHERE first_leaf = $1 OR first_leaf = $2`, a.First, b.First)
		th.exec(`INSERT INTO audit_leaves (first_leaf, count, source_id, hashes) VALUES ($1,$2,$3,$4), ($5,$6,$7,$8)`,
			a.First, a.Count, b.Source, a.Hashes, b.First, b.Count, a.Source, b.Hashes)
		return exact(min(a.First, b.First), Reordered)
	}},
	{"swap the bodies of two events", func(th *thief) caught {
		i, a := th.row(false)
		j, b := th.row(false)
		for i == j {
			j, b = th.row(false)
		}
		th.exec(`UPDATE audit_events SET body = $1 WHERE id = $2`, th.bodies[b.Source], a.Source)
		th.exec(`UPDATE audit_events SET body = $1 WHERE id = $2`, th.bodies[a.Source], b.Source)
		return exact(min(a.First, b.First), Reordered)
	}},
	{"edit a hash", func(th *thief) caught {
		_, row := th.row()
		hashes, i := th.flip(row.Hashes)
		th.exec(`UPDATE audit_leaves SET hashes = $1 WHERE source_id = $2`, hashes, row.Source)
		return exact(row.First+int64(i/tlog.HashSize), Edited)
	}},
	{"edit the count of a row", func(th *thief) caught {
		_, row := th.row()
		th.exec(`UPDATE audit_leaves SET count = count + 1 WHERE source_id = $1`, row.Source)
		return at(row.First, Edited)
	}},
	{"move a row to the end", func(th *thief) caught {
		i, row := th.row()
		for i == len(th.rows)-1 {
			i, row = th.row()
		}
		th.exec(`UPDATE audit_leaves SET first_leaf = $1 WHERE source_id = $2`, th.size+th.r.Int64N(10), row.Source)
		return at(row.First, Deleted)
	}},
	{"rewrite a record and its leaf", func(th *thief) caught {
		return th.rewrite(false, nil)
	}},
	{"rewrite a record, its leaf and the nodes", func(th *thief) caught {
		return th.rewrite(true, nil)
	}},
	{"re-chain with a new key", func(th *thief) caught {
		signer, public := th.newKey()
		th.exec(`UPDATE audit_signers SET verifier = $1`, public)
		c := th.rewrite(true, signer)
		c.kinds = []Kind{Rechained}
		return c
	}},
	{"re-chain with a new key beside the old one", func(th *thief) caught {
		signer, public := th.newKey()
		th.exec(`INSERT INTO audit_signers (id, verifier, sealed, created_at) VALUES ($1,$2,$3,$4)`, store.NewID("sig"), public, []byte{1}, 1)
		return th.rewrite(true, signer)
	}},
	{"re-chain and sign with a key that is nowhere", func(th *thief) caught {
		signer, _ := th.newKey()
		return th.rewrite(true, signer)
	}},
	{"re-chain with the log's own key", func(th *thief) caught {
		c := th.rewrite(true, th.b.log.signer)
		c.kinds = []Kind{Forked}
		return c
	}},
	{"replace the signing key", func(th *thief) caught {
		_, public := th.newKey()
		th.exec(`UPDATE audit_signers SET verifier = $1`, public)
		return at(-1, Forged)
	}},
	{"cut the tail", func(th *thief) caught {
		i, _ := th.row()
		th.cut(i)
		return exactCut(th.rows[i].First)
	}},
	{"cut leaf rows alone", func(th *thief) caught {
		i, row := th.row()
		th.exec(`DELETE FROM audit_leaves WHERE first_leaf >= $1`, row.First)
		return exactCut(th.rows[i].First)
	}},
	{"roll everything back", func(th *thief) caught {
		p := th.points[th.r.IntN(len(th.points)-1)]
		i := slices.IndexFunc(th.rows, func(row leafRow) bool { return row.First >= p.Size })
		th.cut(i)
		th.exec(`DELETE FROM audit_pending`)
		for _, id := range th.waiting {
			th.exec(`DELETE FROM audit_events WHERE id = $1`, id)
			th.exec(`DELETE FROM audit_batches WHERE id = $1`, id)
		}
		return exactCut(p.Size)
	}},
	{"empty everything", func(th *thief) caught {
		for _, table := range auditTables {
			if table != "audit_signers" {
				th.exec(`DELETE FROM ` + table)
			}
		}
		return exactCut(0)
	}},
	{"remove a checkpoint", func(th *thief) caught {
		th.exec(`DELETE FROM audit_checkpoints WHERE size = $1`, th.points[th.r.IntN(len(th.points))].Size)
		return at(-1, Deleted)
	}},
	{"edit a checkpoint", func(th *thief) caught {
		p := th.points[th.r.IntN(len(th.points))]
		b, _ := th.flip([]byte(p.Note))
		for !validText(b) {
			b, _ = th.flip([]byte(p.Note))
		}
		th.exec(`UPDATE audit_checkpoints SET note = $1 WHERE size = $2`, string(b), p.Size)
		return at(-1, Forged)
	}},
	{"edit a column of a checkpoint", func(th *thief) caught {
		p := th.points[th.r.IntN(len(th.points))]
		if th.r.IntN(2) == 0 {
			th.exec(`UPDATE audit_checkpoints SET at = at + 1 WHERE size = $1`, p.Size)
		} else {
			th.exec(`UPDATE audit_checkpoints SET size = size - 1 WHERE size = $1`, p.Size)
		}
		return at(-1, Forged)
	}},
	{"forge a checkpoint", func(th *thief) caught {
		signer, _ := th.newKey()
		p := th.points[th.r.IntN(len(th.points)-1)]
		c, err := ParseCheckpoint(p.Note)
		require.NoError(th.t, err)
		c.Size, c.After = c.Size+1, c.Size
		th.exec(`INSERT INTO audit_checkpoints (size, at, note) VALUES ($1,$2,$3)`, c.Size, store.TimeOf(c.At), sign(th.t, c, signer))
		return at(-1, Forged)
	}},
	{"add a record past the log", func(th *thief) caught {
		id := store.NewID(sourcePrefix)
		_, row := th.row(false)
		th.exec(`INSERT INTO audit_events (id, at, action, actor_id, target_id, on_behalf_of, request_id, body)
			SELECT $1, at, action, actor_id, target_id, on_behalf_of, request_id, body FROM audit_events WHERE id = $2`, id, row.Source)
		c := at(-1, Unreferenced)
		c.id = id
		return c
	}},
	{"hide a waiting record", func(th *thief) caught {
		id := th.waiting[th.r.IntN(len(th.waiting))]
		th.exec(`DELETE FROM audit_pending WHERE source_id = $1`, id)
		c := at(-1, Unreferenced)
		c.id = id
		return c
	}},
	{"delete a waiting record", func(th *thief) caught {
		id := th.waiting[th.r.IntN(len(th.waiting))]
		th.exec(`DELETE FROM audit_events WHERE id = $1`, id)
		th.exec(`DELETE FROM audit_batches WHERE id = $1`, id)
		c := at(-1, Deleted)
		c.id = id
		return c
	}},
	{"swap a deleted record for another", func(th *thief) caught {
		_, row := th.row(false)
		th.exec(`UPDATE audit_events SET id = $1 WHERE id = $2`, store.NewID(sourcePrefix), row.Source)
		return exact(row.First, Deleted)
	}},
	{"hide records from searches", func(th *thief) caught {
		hash := subjectHash(fmt.Sprintf("key_%d", th.r.IntN(5)))
		th.exec(`DELETE FROM audit_postings WHERE segment = 0 AND shard = $1`, hash>>shardShift)
		return caught{kinds: []Kind{Deleted}, leaf: -2}
	}},
	{"hide one record from searches", func(th *thief) caught {
		return th.repost(func(entries []byte) []byte {
			i := th.r.IntN(len(entries)/postingSize) * postingSize
			return slices.Delete(entries, i, i+postingSize)
		})
	}},
	{"put search references out of order", func(th *thief) caught {
		return th.repost(func(entries []byte) []byte { return slices.Concat([]byte("\xff\xff\xff\xff\xff\xff"), entries) })
	}},
	{"hide a time from searches", func(th *thief) caught {
		th.exec(`UPDATE audit_segments SET highest = lowest`)
		return at(-1, Deleted)
	}},
	{"lead searches astray", func(th *thief) caught {
		th.exec(`INSERT INTO audit_postings (shard, segment, entries) SELECT $1, 0, entries FROM audit_postings LIMIT 1`, shards)
		th.repost(func(entries []byte) []byte { return entries })
		th.exec(`UPDATE audit_segments SET lowest = 'evt_0'`)
		return at(-1, Edited)
	}},
	{"unlist a segment of the index", func(th *thief) caught {
		th.exec(`DELETE FROM audit_segments WHERE segment = 0`)
		th.exec(`INSERT INTO audit_segments (segment, lowest, highest) VALUES (1, '', '')`)
		return caught{kinds: []Kind{Deleted}, leaf: -2}
	}},
}

// repost changes the postings of one shard of the first segment.
func (th *thief) repost(change func([]byte) []byte) caught {
	var rows []struct {
		Shard   int64  `db:"shard"`
		Entries []byte `db:"entries"`
	}
	require.NoError(th.t, th.x.Select(&rows, `SELECT shard, entries FROM audit_postings WHERE segment = 0`))
	row := rows[th.r.IntN(len(rows))]
	th.exec(`UPDATE audit_postings SET entries = $1 WHERE segment = 0 AND shard = $2`, change(row.Entries), row.Shard)
	return caught{kinds: []Kind{Deleted}, leaf: -2}
}

func exactCut(leaf int64) caught { return caught{kinds: []Kind{Cut}, leaf: leaf} }

// validText keeps to what PostgreSQL takes as text.
func validText(b []byte) bool {
	return strings.ToValidUTF8(string(b), "") == string(b) && !slices.Contains(b, 0)
}

func (th *thief) newKey() (note.Signer, string) {
	private, public, err := note.GenerateKey(nil, th.b.log.signer.Name())
	require.NoError(th.t, err)
	signer, err := note.NewSigner(private)
	require.NoError(th.t, err)
	return signer, public
}

func sign(t testing.TB, c Checkpoint, s note.Signer) string {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: c.text()}, s)
	require.NoError(t, err)
	return string(signed)
}

// rewrite changes one record so that everything agrees with it that the thief recomputes: its leaf, with nodes those too, and with a
// signer every checkpoint.
func (th *thief) rewrite(nodes bool, signer note.Signer) caught {
	i, row := th.row()
	lines := strings.Split(string(th.bodies[row.Source]), "\n")
	n := th.r.IntN(len(lines))
	lines[n] = strings.Replace(lines[n], `"target":{"kind":"credential"`, `"target":{"kind":"crédential"`, 1)
	if !strings.Contains(lines[n], "crédential") {
		lines[n] = strings.Replace(lines[n], `"outcome":"ok"`, `"outcome":"failed"`, 1)
	}
	body := []byte(strings.Join(lines, "\n"))
	hashes := new(leafHasher).body(body)
	require.NotEqual(th.t, row.Hashes, hashes)
	th.exec(`UPDATE `+th.table(row)+` SET body = $1 WHERE id = $2`, body, row.Source)
	th.exec(`UPDATE audit_leaves SET hashes = $1 WHERE source_id = $2`, hashes, row.Source)
	e, points := &edge{}, th.points
	for k, r := range th.rows {
		if k == i {
			r.Hashes = hashes
		}
		for h := range bytesOf(r.Hashes) {
			e.add(h, func(level int, idx int64, h tlog.Hash) {
				if nodes {
					th.exec(`UPDATE audit_nodes SET hash = $1 WHERE level = $2 AND idx = $3`, h[:], level, idx)
				}
			})
			if len(points) > 0 && points[0].Size == e.size {
				if signer != nil {
					c, err := ParseCheckpoint(points[0].Note)
					require.NoError(th.t, err)
					c.Root = e.root()
					th.exec(`UPDATE audit_checkpoints SET note = $1 WHERE size = $2`, sign(th.t, c, signer), c.Size)
				}
				points = points[1:]
			}
		}
	}
	return at(row.First+int64(n), Rechained)
}

// cut removes all rows from the i-th on, with everything that belongs to them.
func (th *thief) cut(i int) {
	first := th.rows[i].First
	th.exec(`DELETE FROM audit_leaves WHERE first_leaf >= $1`, first)
	th.exec(`DELETE FROM audit_checkpoints WHERE size > $1`, first)
	th.exec(`DELETE FROM audit_nodes WHERE (idx + 1) * 256 > $1 AND level = 8`, first)
	for _, row := range th.rows[i:] {
		th.exec(`DELETE FROM `+th.table(row)+` WHERE id = $1`, row.Source)
	}
}

func TestInvariant11MutationsAreFound(t *testing.T) {
	rounds := 250
	switch {
	case soak():
		rounds = 5000
	case testing.Short() && raced: // some kinds, other ones each time: verification runs the same goroutines whatever it finds
		rounds = len(mutations) / 5
	case testing.Short(): // each kind once
		rounds = len(mutations)
	}
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			s := seed(t)
			b := newBox(t, engine)
			for i := range 8 {
				b.fill(t, 6)
				b.lend(t, 1000*i, 520) // so that a segment of the index is full
				b.flush(t)
			}
			b.fill(t, 1) // waits
			r := rand.New(rand.NewPCG(s, 11))
			th := newThief(t, b, r)
			require.Greater(t, th.size, int64(segmentLeaves))
			clean := b.verify(t, th.notes...)
			requireClean(t, clean)
			require.Equal(t, th.size, clean.Anchored)
			require.EqualValues(t, 5, clean.Pending)
			began := time.Now()
			order := r.Perm(len(mutations))
			for i := range rounds {
				m := mutations[order[i%len(mutations)]]
				if i >= 2*len(mutations) {
					m = mutations[r.IntN(len(mutations))]
				}
				want := m.do(th)
				anchors := th.notes
				if r.IntN(4) == 0 {
					anchors = anchors[len(anchors)-1:]
				}
				want.check(t, m.name, b.verify(t, anchors...))
				th.restore()
				if t.Failed() {
					return
				}
			}
			t.Logf("%d mutations in %v", rounds, time.Since(began).Round(time.Millisecond))
			requireClean(t, b.verify(t, th.notes...))
		})
	}
}

func (c caught) check(t *testing.T, name string, r Report) {
	t.Helper()
	f, ok := r.First()
	if !ok {
		t.Errorf("%s: not found", name)
		return
	}
	fits := slices.Contains(c.kinds, f.Kind)
	switch {
	case c.leaf == -2: // any leaf
		fits = fits && f.Leaf >= 0
	case c.leaf < 0:
		fits = fits && f.Leaf < 0
	case c.exact:
		fits = fits && f.Leaf == c.leaf && f.To == c.leaf+1
	case c.kinds[0] == Cut:
		fits = fits && f.Leaf == c.leaf
	default:
		fits = fits && f.Leaf <= c.leaf && c.leaf < f.To
	}
	if !fits || c.id != "" && f.ID != c.id {
		t.Errorf("%s: wanted %v at leaf %d %s; the report says:", name, c.kinds, c.leaf, c.id)
		for _, f := range r.Findings[:min(len(r.Findings), 8)] {
			t.Error(f)
		}
	}
}
