package audit

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"signalbox.dev/signalbox/internal/store"
)

// checkLoose looks for records outside the log: each must be a leaf or wait to become one, once.
func (v *verification) checkLoose(ctx context.Context) error {
	if err := v.checkWaiting(ctx); err != nil {
		return err
	}
	if err := v.checkTwice(ctx); err != nil {
		return err
	}
	var c struct{ Records, Later, Waiting, Pending int64 }
	if err := v.db.Read(ctx, func(tx *store.Tx) error {
		// A record and its place come and go in one transaction, so in one snapshot the sums agree.
		return tx.Get(&c, `SELECT (SELECT COUNT(*) FROM audit_events) + (SELECT COUNT(*) FROM audit_batches) AS records,
			(SELECT COUNT(*) FROM audit_leaves WHERE first_leaf >= $1) AS later, COUNT(*) AS waiting,
			COALESCE(CAST(SUM(COALESCE((SELECT b.count FROM audit_batches b WHERE b.id = p.source_id LIMIT 1), 1)) AS BIGINT), 0) AS pending
			FROM audit_pending p WHERE (SELECT 1 FROM audit_leaves l WHERE l.source_id = p.source_id LIMIT 1) IS NULL`, v.census.size)
	}); err != nil {
		return err
	}
	v.report.Pending = c.Pending
	places := v.rows + c.Later + c.Waiting
	if c.Records == places && v.findings.total == 0 {
		return nil
	}
	// The sums differ, or a record that is gone may hide one too many: look for it one by one.
	listed := 0
	for _, table := range []string{"audit_events", "audit_batches"} {
		var ids []string
		if err := v.db.Read(ctx, func(tx *store.Tx) error {
			ids = nil
			return tx.Select(&ids, `SELECT r.id FROM `+table+` r WHERE NOT EXISTS (SELECT 1 FROM audit_leaves l WHERE l.source_id = r.id)
				AND NOT EXISTS (SELECT 1 FROM audit_pending p WHERE p.source_id = r.id) ORDER BY r.id LIMIT $1`, maxFindings)
		}); err != nil {
			return err
		}
		for _, id := range ids {
			v.findings.add(Unreferenced, -1, -1, id, "the record is neither in the log nor waits to be sequenced")
		}
		listed += len(ids)
	}
	if listed == 0 && v.findings.total == 0 {
		v.findings.aside(Unreferenced, "there are %d records for %d places in the log and in the queue", c.Records, places)
	}
	return nil
}

// checkWaiting looks for references whose record is gone.
func (v *verification) checkWaiting(ctx context.Context) error {
	var gone []string
	err := v.db.Read(ctx, func(tx *store.Tx) error {
		gone = nil
		return tx.Select(&gone, `SELECT p.source_id FROM audit_pending p WHERE (SELECT 1 FROM audit_events e WHERE e.id = p.source_id LIMIT 1) IS NULL
			AND (SELECT 1 FROM audit_batches b WHERE b.id = p.source_id LIMIT 1) IS NULL ORDER BY p.source_id LIMIT $1`, maxFindings)
	})
	for _, id := range gone {
		v.findings.add(Deleted, -1, -1, id, "the record waited to be sequenced and is gone")
	}
	return err
}

// checkTwice looks for records that are in the log more than once. A source that is greater than all before it cannot be.
func (v *verification) checkTwice(ctx context.Context) error {
	for late := range slices.Chunk(v.weave.late, maxSources) {
		var w store.Where
		marks := make([]string, len(late))
		for i, id := range late {
			marks[i] = w.Arg(id)
		}
		var twice []string
		if err := v.db.Read(ctx, func(tx *store.Tx) error {
			twice = nil
			return tx.Select(&twice, `SELECT source_id FROM audit_leaves WHERE source_id IN (`+strings.Join(marks, ",")+`) GROUP BY source_id HAVING COUNT(*) > 1`, w.Args()...)
		}); err != nil {
			return err
		}
		for _, id := range twice {
			v.findings.add(Reordered, -1, -1, id, "the record is in the log twice")
		}
	}
	return nil
}

// nameRecords fills in which event a finding's first leaf is.
func (v *verification) nameRecords(ctx context.Context) error {
	return v.db.Read(ctx, func(tx *store.Tx) error {
		for i := range v.findings.list {
			f := &v.findings.list[i]
			if f.Leaf < 0 || f.ID != "" {
				continue
			}
			id, err := recordAt(tx, f.Leaf)
			if err != nil {
				return err
			}
			f.ID = id
		}
		return nil
	})
}

// recordAt returns the id of the event at a leaf, or nothing when there is no such row.
func recordAt(tx *store.Tx, leaf int64) (string, error) {
	var row leafRow
	err := tx.Get(&row, `SELECT first_leaf, count, source_id, hashes FROM audit_leaves WHERE first_leaf <= $1 ORDER BY first_leaf DESC LIMIT 1`, leaf)
	if err == nil && leaf-row.First < int64(len(row.Hashes)/tlog.HashSize) {
		var batches int64
		if err := tx.Get(&batches, `SELECT COUNT(*) FROM audit_batches WHERE id = $1`, row.Source); err != nil {
			return "", err
		}
		if batches > 0 || leaf > row.First {
			return place{row.Source, int(leaf - row.First)}.id(), nil
		}
		return row.Source, nil
	}
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return "", err
}

// explainLeaves bounds the leaves of a range that is tried in another order.
const explainLeaves = 4096

// explainOrder tells a changed order from changed records: the sequencer takes what waits in the order of ids, so rows that were moved
// stand out, and when the order of ids gives the stored nodes, only the order was changed.
func (v *verification) explainOrder(ctx context.Context) error {
	for i := range v.findings.list {
		f := &v.findings.list[i]
		if f.Kind != Rechained || f.To-f.Leaf > explainLeaves || v.weave.broken {
			continue
		}
		err := v.db.Read(ctx, func(tx *store.Tx) error {
			leaf, moved, err := tryOrder(tx, f.Leaf, f.To)
			if err == nil && moved {
				f.Kind, f.Leaf, f.To, f.Detail = Reordered, leaf, leaf+1, "in the order of their ids these records are as signed; here they are in another"
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tryOrder sorts the rows over [lo, hi) by id and returns the first leaf that moves when the result has the stored nodes or root.
func tryOrder(tx *store.Tx, lo, hi int64) (leaf int64, moved bool, err error) {
	lo, hi = lo/blockSize*blockSize, (hi+blockSize-1)/blockSize*blockSize
	var rows []leafRow
	if err := tx.Select(&rows, `SELECT first_leaf, count, source_id, hashes FROM audit_leaves WHERE `+covering+` ORDER BY first_leaf`, lo, hi); err != nil || len(rows) == 0 {
		return 0, false, err
	}
	sorted := slices.Clone(rows)
	slices.SortStableFunc(sorted, func(a, b leafRow) int { return strings.Compare(a.Source, b.Source) })
	leaf = -1
	next := rows[0].First
	var hashes []tlog.Hash // of the sorted rows, from the first leaf of rows[0]
	for i, row := range sorted {
		if leaf < 0 && row.Source != rows[i].Source {
			leaf = next
		}
		for h := range bytesOf(row.Hashes) {
			hashes = append(hashes, h)
			next++
		}
	}
	if leaf < 0 {
		return 0, false, nil
	}
	same, err := agrees(tx, rows[0].First, hashes)
	return leaf, same, err
}

// agrees compares the hashes of the leaves from first on with every stored node and checkpoint over them alone.
func agrees(tx *store.Tx, first int64, hashes []tlog.Hash) (bool, error) {
	end := first + int64(len(hashes))
	tests := 0
	for idx := (first + blockSize - 1) / blockSize; (idx+1)*blockSize <= end; idx++ {
		var want []byte
		err := tx.Get(&want, `SELECT hash FROM audit_nodes WHERE level = $1 AND idx = $2`, nodeStep, idx)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
		got := subtree(hashes[idx*blockSize-first : (idx+1)*blockSize-first])
		if err != nil || string(want) != string(got[:]) {
			return false, nil
		}
		tests++
	}
	var signed string
	err := tx.Get(&signed, `SELECT note FROM audit_checkpoints WHERE size > $1 AND size <= $2 ORDER BY size DESC LIMIT 1`, first, end)
	if errors.Is(err, store.ErrNotFound) {
		return tests > 0, nil
	}
	if err != nil {
		return false, err
	}
	c, err := ParseCheckpoint(signed)
	if err != nil || c.Size <= first || c.Size > end {
		return false, nil // it is reported elsewhere
	}
	e, err := readEdge(tx, first)
	if err != nil {
		return false, err
	}
	for _, h := range hashes[:c.Size-first] {
		e.add(h, func(int, int64, tlog.Hash) {})
	}
	return e.root() == c.Root, nil
}
