package audit

import (
	"context"
	"errors"
	"runtime"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"signalbox.dev/signalbox/internal/store"
)

// proofCursor reads the checkpoints of the database in order and checks their signatures.
type proofCursor struct {
	v     *verification
	ready []proof
	last  int64
	ended bool
}

const proofPage = 512

type checkpointRow struct {
	Size int64      `db:"size"`
	At   store.Time `db:"at"`
	Note string     `db:"note"`
}

func (c *proofCursor) fill(ctx context.Context) error {
	for len(c.ready) == 0 && !c.ended {
		var rows []checkpointRow
		if err := c.v.db.Read(ctx, func(tx *store.Tx) error {
			rows = nil
			return tx.Select(&rows, `SELECT size, at, note FROM audit_checkpoints WHERE size > $1 AND size <= $2 ORDER BY size LIMIT $3`, c.last, c.v.census.signedTo, proofPage)
		}); err != nil {
			return err
		}
		c.ended = len(rows) < proofPage
		if len(rows) == 0 {
			return nil
		}
		c.last = rows[len(rows)-1].Size
		proofs, problems := make([]proof, len(rows)), make([]error, len(rows))
		var g errgroup.Group
		g.SetLimit(runtime.GOMAXPROCS(0))
		const share = 16
		for lo := 0; lo < len(rows); lo += share {
			g.Go(func() error {
				for i := lo; i < min(lo+share, len(rows)); i++ {
					proofs[i], problems[i] = c.v.readProof(rows[i])
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for i, p := range proofs {
			if problems[i] != nil {
				c.v.findings.aside(Forged, "the checkpoint of size %d in the database %s", rows[i].Size, problems[i])
			}
			c.ready = append(c.ready, p)
		}
	}
	return nil
}

func (v *verification) readProof(row checkpointRow) (proof, error) {
	p := proof{Checkpoint: Checkpoint{Size: row.Size}}
	c, err := ParseCheckpoint(row.Note)
	if err != nil {
		return p, errors.New("is not one")
	}
	if c.Size != row.Size || store.TimeOf(c.At) != row.At {
		return p, errors.New("does not agree with the columns of its row")
	}
	if c.check(v.known) != nil {
		return p, errors.New("is not signed by a key of this log")
	}
	return proof{Checkpoint: c, signed: true}, nil
}

// nodeCursor reads the stored nodes of one level in order.
type nodeCursor struct {
	v     *verification
	level int
	ready []nodeRow
	last  int64 // the greatest index read
	begun bool
	ended bool
	extra bool
}

type nodeRow struct {
	Idx  int64  `db:"idx"`
	Hash []byte `db:"hash"`
}

const nodePage = 1024

// at returns the stored node with that index; it must be called in order.
func (c *nodeCursor) at(ctx context.Context, idx int64) (tlog.Hash, bool, error) {
	for {
		if err := c.fill(ctx); err != nil {
			return tlog.Hash{}, false, err
		}
		if len(c.ready) == 0 || c.ready[0].Idx > idx {
			return tlog.Hash{}, false, nil
		}
		row := c.ready[0]
		c.ready = c.ready[1:]
		if row.Idx == idx {
			var h tlog.Hash // what is no hash differs from every hash
			if len(row.Hash) == tlog.HashSize {
				h = tlog.Hash(row.Hash)
			}
			return h, true, nil
		}
		c.extra = true
	}
}

func (c *nodeCursor) fill(ctx context.Context) error {
	if len(c.ready) > 0 || c.ended {
		return nil
	}
	after := int64(-1 << 62)
	if c.begun {
		after = c.last
	}
	c.begun = true
	err := c.v.db.Read(ctx, func(tx *store.Tx) error {
		c.ready = nil
		return tx.Select(&c.ready, `SELECT idx, hash FROM audit_nodes WHERE level = $1 AND idx > $2 AND idx < $3 ORDER BY idx LIMIT $4`,
			c.level, after, c.v.census.size>>c.level, nodePage)
	})
	c.ended = len(c.ready) < nodePage
	if len(c.ready) > 0 {
		c.last = c.ready[len(c.ready)-1].Idx
	}
	return err
}

// rest reports whether there were nodes that no leaves account for. Missing ones were reported when their leaves were complete.
func (c *nodeCursor) rest(ctx context.Context) (bool, error) {
	if c.v.weave.broken {
		return false, nil
	}
	err := c.fill(ctx)
	return c.extra || len(c.ready) > 0, err
}
