package audit

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// nodeStep is the number of tree levels between two that are stored in audit_nodes: with 8, a root or a proof over a million leaves
	// needs a handful of reads, and one node row is written for 256 leaves.
	nodeStep = 8
	// blockSize is the number of nodes of one stored level below one node of the next.
	blockSize = 1 << nodeStep
)

// edge is the right edge of the tree, all that is needed to add leaves and to compute the root.
type edge struct {
	size int64
	// nodes are the roots of the complete subtrees, the largest first: one for each bit that is set in size.
	nodes []tlog.Hash
}

func (e *edge) clone() *edge { return &edge{size: e.size, nodes: slices.Clone(e.nodes)} }

// add appends a leaf and hands out each completed node of a stored level.
func (e *edge) add(h tlog.Hash, completed func(level int, idx int64, h tlog.Hash)) {
	level := 0
	for n := e.size; n&1 == 1; n >>= 1 {
		last := len(e.nodes) - 1
		h = tlog.NodeHash(e.nodes[last], h)
		e.nodes = e.nodes[:last]
		level++
		if level%nodeStep == 0 {
			completed(level, e.size>>level, h)
		}
	}
	e.nodes = append(e.nodes, h)
	e.size++
}

// root returns the hash of the whole tree.
func (e *edge) root() tlog.Hash {
	if e.size == 0 {
		h, _ := tlog.TreeHash(0, nil) // the empty tree needs no reader
		return h
	}
	h := e.nodes[len(e.nodes)-1]
	for i := len(e.nodes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(e.nodes[i], h)
	}
	return h
}

// nodeReader reads hashes of the tree's first size leaves from the database. It implements [tlog.HashReader] and remembers what it read.
type nodeReader struct {
	tx     *store.Tx
	size   int64
	blocks map[blockKey][]tlog.Hash
}

type blockKey struct {
	level int
	n     int64
}

func newNodeReader(tx *store.Tx, size int64) *nodeReader {
	return &nodeReader{tx: tx, size: size, blocks: map[blockKey][]tlog.Hash{}}
}

// ReadHashes returns the hashes with these stored-hash indexes.
func (r *nodeReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		h, err := r.node(level, n)
		if err != nil {
			return nil, err
		}
		out[i] = h
	}
	return out, nil
}

// node computes a node from those of the nearest stored level below it.
func (r *nodeReader) node(level int, n int64) (tlog.Hash, error) {
	up := level % nodeStep
	base := level - up
	lo, hi := n<<up, (n+1)<<up
	block, err := r.block(base, lo/blockSize)
	if err != nil {
		return tlog.Hash{}, err
	}
	start := lo / blockSize * blockSize
	if hi-start > int64(len(block)) {
		return tlog.Hash{}, damaged(lo << base)
	}
	return subtree(block[lo-start : hi-start]), nil
}

// subtree returns the root over a power of two of hashes.
func subtree(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	work := make([]tlog.Hash, len(hashes)/2)
	for i := range work {
		work[i] = tlog.NodeHash(hashes[2*i], hashes[2*i+1])
	}
	for len(work) > 1 {
		for i := range len(work) / 2 {
			work[i] = tlog.NodeHash(work[2*i], work[2*i+1])
		}
		work = work[:len(work)/2]
	}
	return work[0]
}

// block returns up to 256 neighbouring hashes of a stored level, fewer at the right edge.
func (r *nodeReader) block(level int, n int64) ([]tlog.Hash, error) {
	key := blockKey{level, n}
	if b, ok := r.blocks[key]; ok {
		return b, nil
	}
	lo, hi := n*blockSize, min((n+1)*blockSize, r.size>>level)
	var b []tlog.Hash
	var err error
	if level == 0 {
		b, err = readLeaves(r.tx, lo, hi)
	} else {
		b, err = r.readNodes(level, lo, hi)
	}
	if err != nil {
		return nil, err
	}
	r.blocks[key] = b
	return b, nil
}

func (r *nodeReader) readNodes(level int, lo, hi int64) ([]tlog.Hash, error) {
	var rows []struct {
		Idx  int64  `db:"idx"`
		Hash []byte `db:"hash"`
	}
	if err := r.tx.Select(&rows, `SELECT idx, hash FROM audit_nodes WHERE level = $1 AND idx >= $2 AND idx < $3 ORDER BY idx`, level, lo, hi); err != nil {
		return nil, err
	}
	out := make([]tlog.Hash, 0, len(rows))
	for i, row := range rows {
		if row.Idx != lo+int64(i) || len(row.Hash) != tlog.HashSize {
			return nil, damaged((lo + int64(i)) << level)
		}
		out = append(out, tlog.Hash(row.Hash))
	}
	return out, nil
}

// leafRow is one row of audit_leaves: the leaves of one source, which is an event or a batch.
type leafRow struct {
	First  int64  `db:"first_leaf"`
	Count  int64  `db:"count"`
	Source string `db:"source_id"`
	Hashes []byte `db:"hashes"`

	subjects []uint32 // of a batch that is about to be sequenced
}

// covering is the condition of the rows whose leaves reach into [$1, $2).
const covering = `first_leaf >= (SELECT COALESCE(MAX(first_leaf), 0) FROM audit_leaves WHERE first_leaf <= $1) AND first_leaf < $2`

// readLeaves returns the hashes of the leaves in [lo, hi).
func readLeaves(tx *store.Tx, lo, hi int64) ([]tlog.Hash, error) {
	var rows []leafRow
	if err := tx.Select(&rows, `SELECT first_leaf, count, source_id, hashes FROM audit_leaves WHERE `+covering+` ORDER BY first_leaf`, lo, hi); err != nil {
		return nil, err
	}
	out := make([]tlog.Hash, 0, max(hi-lo, 0))
	next := lo
	for _, row := range rows {
		n := int64(len(row.Hashes) / tlog.HashSize)
		if n == 0 || row.First > next || len(row.Hashes)%tlog.HashSize != 0 {
			return nil, damaged(next)
		}
		for i := next - row.First; i < n && next < hi; i++ {
			out = append(out, tlog.Hash(row.Hashes[i*tlog.HashSize:(i+1)*tlog.HashSize]))
			next++
		}
	}
	if next < hi {
		return nil, damaged(next)
	}
	return out, nil
}

// readEdge returns the right edge of the tree of the first size leaves.
func readEdge(tx *store.Tx, size int64) (*edge, error) {
	e := &edge{size: size}
	r := newNodeReader(tx, size)
	at := int64(0)
	for level := 62; level >= 0; level-- {
		if size&(1<<level) == 0 {
			continue
		}
		h, err := r.node(level, at>>level)
		if err != nil {
			return nil, err
		}
		e.nodes = append(e.nodes, h)
		at += 1 << level
	}
	return e, nil
}

// readSize returns the number of leaves and the first leaf of the newest row, -1 in an empty log.
func readSize(tx *store.Tx) (size, last int64, err error) {
	var rows []leafRow
	if err := tx.Select(&rows, `SELECT first_leaf, count FROM audit_leaves ORDER BY first_leaf DESC LIMIT 1`); err != nil {
		return 0, 0, err
	}
	if len(rows) == 0 {
		return 0, -1, nil
	}
	return rows[0].First + rows[0].Count, rows[0].First, nil
}

func damaged(leaf int64) error {
	return fault.New(fault.Internal, "internal", fmt.Sprintf(
		"The audit log in the database is damaged at leaf %d. Run `signalbox audit verify` with an anchored checkpoint to see what was changed.", leaf)).Because(ErrDamaged)
}

// ErrDamaged is the cause of a fault that says that a record cannot be read.
var ErrDamaged = errors.New("audit: a record is damaged")
