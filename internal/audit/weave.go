package audit

import (
	"context"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// weave puts the chunks together in leaf order: it rebuilds the tree from the stored leaf hashes (which the chunks held against the
// records) and compares it with the stored nodes, the checkpoints in the database and the anchors.
type weave struct {
	v      *verification
	edge   *edge
	broken bool // leaves are missing: no root can be computed any more
	levels []*nodeCursor

	stored  proofCursor
	anchors []proof
	next    int64 // the size at which the next proof is due

	goodStored, goodAnchor int64   // the largest sizes whose proof agreed
	checkpoints            int64   // stored ones that were checked
	lastStored, prevStored int64   // the sizes of the newest two stored checkpoints that were judged
	off                    bool    // a stored checkpoint differed: from here on all do
	doubts                 []span  // stored nodes that differ, until a checkpoint decides who is right
	edited                 []int64 // leaves whose records are known to hash to something else
	fork                   *forkMark

	newest string   // the greatest source so far
	late   []string // sources that are not greater than all before: only they can be in the log twice
}

// span is a range of leaves [lo, hi) with the level of the node over it.
type span struct {
	lo, hi int64
	level  int
}

// forkMark is the first anchor with another root, and the leaves in which the difference begins.
type forkMark struct {
	size, lo, hi int64
	good         int64 // the size of the stored checkpoint before that agreed
	signed       bool  // the anchor is signed by a key that the database still has
	stranger     bool  // the database has a checkpoint that the anchored history has not
}

func newWeave(v *verification) *weave {
	w := &weave{v: v, edge: &edge{}, anchors: v.anchors, next: -1, stored: proofCursor{v: v}}
	return w
}

func (w *weave) chunk(ctx context.Context, c *chunk) error {
	if w.next < 0 {
		if err := w.due(ctx); err != nil {
			return err
		}
	}
	for _, x := range c.swaps {
		w.edited = append(w.edited, x.leaf)
	}
	at := 0
	for _, row := range c.rows {
		hashes := c.hashes[at : at+row.count]
		at += row.count
		if row.source > w.newest {
			w.newest = row.source
		} else {
			w.late = append(w.late, row.source)
		}
		if row.first != w.edge.size && !w.broken {
			w.breakAt(row)
		}
		if w.broken {
			w.edge.size = max(w.edge.size, row.first+int64(row.count))
			continue
		}
		for _, h := range hashes {
			if err := w.leaf(ctx, h); err != nil {
				return err
			}
		}
	}
	return nil
}

// breakAt reports leaves that are missing or there twice.
func (w *weave) breakAt(row rowMark) {
	w.broken = true
	if row.first > w.edge.size {
		w.v.findings.add(Deleted, w.edge.size, row.first, "", "the log has no such leaves; the next row begins at %d", row.first)
		return
	}
	w.v.findings.add(Reordered, row.first, w.edge.size, row.source, "two rows of the log claim the same leaves")
}

func (w *weave) leaf(ctx context.Context, h tlog.Hash) error {
	var failed error
	w.edge.add(h, func(level int, idx int64, h tlog.Hash) {
		if err := w.node(ctx, level, idx, h); err != nil {
			failed = err
		}
	})
	if failed != nil || w.edge.size < w.next || w.next == 0 {
		return failed
	}
	return w.due(ctx)
}

// node compares a computed node with the stored one.
func (w *weave) node(ctx context.Context, level int, idx int64, h tlog.Hash) error {
	i := level/nodeStep - 1
	for len(w.levels) <= i {
		w.levels = append(w.levels, &nodeCursor{v: w.v, level: (len(w.levels) + 1) * nodeStep})
	}
	stored, ok, err := w.levels[i].at(ctx, idx)
	if err != nil {
		return err
	}
	lo, hi := idx<<level, (idx+1)<<level
	switch {
	case !ok:
		w.v.findings.add(Deleted, lo, hi, "", "the stored node over these leaves (level %d, number %d) is gone", level, idx)
	case stored != h:
		w.doubts = append(w.doubts, span{lo, hi, level})
	}
	return nil
}

// due holds the tree against every proof of its present size and finds out when the next is due; 0 means never.
func (w *weave) due(ctx context.Context) error {
	for {
		if err := w.stored.fill(ctx); err != nil {
			return err
		}
		p, ok := w.upcoming()
		if !ok {
			w.next = 0
			return nil
		}
		if p.Size > w.edge.size {
			w.next = p.Size
			return nil
		}
		w.drop(p)
		w.judge(p)
	}
}

// upcoming returns the proof with the least size, stored ones first.
func (w *weave) upcoming() (proof, bool) {
	switch {
	case len(w.stored.ready) > 0 && (len(w.anchors) == 0 || w.stored.ready[0].Size <= w.anchors[0].Size):
		return w.stored.ready[0], true
	case len(w.anchors) > 0:
		return w.anchors[0], true
	}
	return proof{}, false
}

func (w *weave) drop(p proof) {
	if p.anchor {
		w.anchors = w.anchors[1:]
		return
	}
	w.stored.ready = w.stored.ready[1:]
	w.checkpoints++
}

// judge holds one proof against the tree of the same size.
func (w *weave) judge(p proof) {
	if !p.anchor {
		if p.signed && p.After > w.lastStored {
			w.v.findings.aside(Deleted, "the checkpoint of size %d is gone from the database; the one of size %d names it", p.After, p.Size)
		}
		w.prevStored, w.lastStored = w.lastStored, p.Size
		if !p.signed {
			return
		}
	} else if w.lastStored != p.Size {
		w.v.findings.aside(Deleted, "the anchored checkpoint of size %d is gone from the database", p.Size)
	}
	if w.broken {
		return
	}
	if w.edge.root() == p.Root {
		w.agree(p)
		return
	}
	if p.anchor {
		w.differ(p)
		return
	}
	lo, hi := w.narrow(max(w.goodAnchor, w.goodStored), p.Size)
	if !w.off && !w.explained(lo, hi) {
		w.v.findings.add(Rechained, lo, hi, "", "the records agree with their hashes, but not with the checkpoint of size %d in the database", p.Size)
	}
	w.off = true
}

// differ notes the first anchor with another root.
func (w *weave) differ(p proof) {
	if w.fork != nil {
		return
	}
	lo, hi := w.narrow(w.goodAnchor, p.Size)
	before := w.lastStored
	if before == p.Size {
		before = w.prevStored
	}
	w.fork = &forkMark{size: p.Size, lo: lo, hi: hi, good: w.goodStored, signed: p.signed, stranger: before > p.After}
}

// agree notes what a proof vouches for. A stored node that differs from leaves that are vouched for is itself what was changed.
func (w *weave) agree(p proof) {
	if p.anchor {
		w.goodAnchor = p.Size
	} else {
		w.goodStored = p.Size
	}
	left := w.doubts[:0]
	for _, d := range w.doubts {
		if d.hi > p.Size {
			left = append(left, d)
			continue
		}
		w.v.findings.add(Edited, d.lo, d.hi, "", "the stored node over these leaves (level %d) was changed; the leaves are as signed", d.level)
	}
	w.doubts = left
}

// narrow makes the range in which leaves differ smaller by means of the stored nodes.
func (w *weave) narrow(lo, hi int64) (int64, int64) {
	for _, d := range w.doubts {
		if d.level == nodeStep && d.hi > lo && d.lo < hi {
			return max(lo, d.lo), min(hi, d.hi)
		}
	}
	return lo, hi
}

// explained reports whether records that are known to be changed account for a different root.
func (w *weave) explained(lo, hi int64) bool {
	return slices.ContainsFunc(w.edited, func(leaf int64) bool { return leaf >= lo && leaf < hi })
}

// finish deals with the proofs beyond the end of the log and with the doubts that no proof decided.
func (w *weave) finish(ctx context.Context) error {
	if err := w.due(ctx); err != nil {
		return err
	}
	if err := w.beyond(ctx); err != nil {
		return err
	}
	if w.fork != nil {
		w.judgeFork()
	}
	for _, d := range w.doubts {
		if d.level == nodeStep && !w.explained(d.lo, d.hi) && !w.off && w.fork == nil {
			w.v.findings.add(Edited, max(d.lo, w.goodStored, w.goodAnchor), d.hi, "", "the leaves do not agree with the stored node over them, and no checkpoint covers them yet")
		}
	}
	for _, cursor := range w.levels {
		extra, err := cursor.rest(ctx)
		if err != nil {
			return err
		}
		if extra {
			w.v.findings.aside(Edited, "the tree has stored nodes at level %d that belong to no leaves", cursor.level)
		}
	}
	return nil
}

// beyond deals with the proofs of sizes that the log has not.
func (w *weave) beyond(ctx context.Context) error {
	var stored, anchored int64
	for {
		p, ok := w.upcoming()
		if !ok {
			break
		}
		if p.anchor {
			anchored = max(anchored, p.Size)
		} else if p.signed {
			stored = max(stored, p.Size)
		}
		w.drop(p)
		if err := w.stored.fill(ctx); err != nil {
			return err
		}
	}
	switch {
	case w.broken:
	case anchored > 0:
		w.v.findings.add(Cut, w.edge.size, anchored, "", "the log ends before these leaves, which an anchored checkpoint covers")
	case stored > 0:
		w.v.findings.add(Cut, w.edge.size, stored, "", "the log ends before these leaves, which a checkpoint in the database covers")
	}
	return nil
}

// judgeFork says what an anchor with another root means. When the log's own key has also signed what is here, it signed two histories,
// and then nothing after the last anchor that agrees can be believed.
func (w *weave) judgeFork() {
	f := w.fork
	switch {
	case f.signed && (f.stranger || w.goodStored >= f.size):
		w.v.findings.add(Forked, f.lo, f.hi, "", "the log's own key signed this history and, in the anchored checkpoint of size %d, another: the database was rolled back and went on, or was forged with its key", f.size)
	case w.goodStored >= f.size:
		w.v.findings.add(Rechained, f.lo, f.hi, "", "the records agree with the checkpoints in the database, but not with the anchored checkpoint of size %d", f.size)
	case !w.off && !w.explained(f.lo, f.hi):
		w.v.findings.add(Rechained, max(f.lo, min(f.good, f.hi-1)), f.hi, "", "the records agree with their hashes, but not with the anchored checkpoint of size %d", f.size)
	}
}
