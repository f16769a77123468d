package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/errgroup"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// VerifyOptions says what to verify against.
type VerifyOptions struct {
	// Anchors are signed checkpoints that were kept off the database; see [ParseAnchors]. They are believed, and the database is not.
	Anchors []string
	// Progress is called now and then with the number of leaves that were checked and that there are. Nil means nobody asks.
	Progress func(done, total int64)
}

// maxWorkers bounds the connections that a verification uses for records.
const maxWorkers = 4

// Verify recomputes the log from the records in the database and compares it with the hashes, nodes, checkpoints and index columns there,
// and with the anchors. It needs no key and writes nothing, reads in short transactions and works beside a running server. An error means
// that the log could not be checked; what is wrong with the log is in the report.
func Verify(ctx context.Context, db *store.DB, opts VerifyOptions) (Report, error) {
	v := &verification{db: db, progress: opts.Progress}
	if err := v.readAnchors(opts.Anchors); err != nil {
		return Report{}, err
	}
	for _, step := range []func(context.Context) error{v.survey, v.checkSigners, v.readLog, v.conclude, v.checkLoose, v.nameRecords} {
		if err := step(ctx); err != nil {
			return Report{}, fmt.Errorf("verify the audit log: %w", err)
		}
	}
	v.findings.sort()
	v.report.Found = v.findings.total
	v.report.Findings = v.findings.list[:min(len(v.findings.list), maxFindings)]
	return v.report, nil
}

// verification is the work of one Verify.
type verification struct {
	db       *store.DB
	progress func(done, total int64)
	report   Report
	findings findings
	known    note.Verifiers

	anchors []proof
	census  census
	rows    int64 // of audit_leaves, as read
	swaps   []swap
	weave   *weave
}

// proof is a signed checkpoint that the log is held against.
type proof struct {
	Checkpoint
	anchor bool
	signed bool // by a key that the database has
}

func (v *verification) readAnchors(signed []string) error {
	for i, s := range signed {
		c, err := ParseCheckpoint(s)
		if err != nil {
			return fault.New(fault.Unprocessable, "validation_failed", fmt.Sprintf("Anchor %d is not a signed checkpoint of a signalbox audit log; give the notes as they were written.", i+1))
		}
		v.anchors = append(v.anchors, proof{Checkpoint: c, anchor: true})
	}
	slices.SortStableFunc(v.anchors, func(a, b proof) int { return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.Note, b.Note)) })
	v.anchors = slices.CompactFunc(v.anchors, func(a, b proof) bool { return a.Note == b.Note })
	return nil
}

// census is what there was at the start. What the log is compared with was counted before the log was measured, so that a healthy log
// that grows meanwhile is never behind it.
type census struct {
	size     int64 // of the log, in leaves
	signedTo int64
	indexed  int64 // segments of the index
}

type nodeTop struct {
	Level int   `db:"level"`
	Top   int64 `db:"top"`
}

func (v *verification) survey(ctx context.Context) error {
	var nodes []nodeTop
	if err := v.db.Read(ctx, func(tx *store.Tx) error {
		nodes = nil
		if err := tx.Get(&v.census.signedTo, `SELECT COALESCE(MAX(size), 0) FROM audit_checkpoints`); err != nil {
			return err
		}
		var err error
		if v.census.indexed, err = readIndexed(tx); err != nil {
			return err
		}
		return tx.Select(&nodes, `SELECT level, MAX(idx) AS top FROM audit_nodes GROUP BY level ORDER BY level`)
	}); err != nil {
		return err
	}
	err := v.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		v.census.size, _, err = readSize(tx)
		return err
	})
	v.report.Size = v.census.size
	if v.census.indexed*segmentLeaves > v.census.size {
		v.findings.aside(Cut, "the search index has %d segments, beyond the %d leaves of the log", v.census.indexed, v.census.size)
		v.census.indexed = v.census.size / segmentLeaves
	}
	for _, n := range nodes {
		if n.Level%nodeStep != 0 || n.Level <= 0 || n.Level > 62 || (n.Top+1)<<n.Level > v.census.size {
			v.findings.aside(Cut, "the tree has a stored node (level %d, number %d) beyond the %d leaves of the log", n.Level, n.Top, v.census.size)
		}
	}
	return err
}

// checkSigners reads the public keys, and holds them against the events that tell of their making.
func (v *verification) checkSigners(ctx context.Context) error {
	var rows []signerRow
	var records []recordRow
	if err := v.db.Read(ctx, func(tx *store.Tx) error {
		rows, records = nil, nil
		if err := tx.Select(&rows, `SELECT id, verifier, sealed FROM audit_signers`); err != nil {
			return err
		}
		return tx.Select(&records, `SELECT id, body FROM audit_events WHERE action = $1`, string(store.AuditSigner))
	}); err != nil {
		return err
	}
	recorded := map[string]bool{}
	for _, r := range records {
		if e, err := store.DecodeEvent(r.Body); err == nil {
			d, _ := e.Details.Get(verifierDetail)
			recorded[d.Text()] = true
		}
	}
	var verifiers []note.Verifier
	for _, r := range rows {
		pub, err := note.NewVerifier(r.Verifier)
		switch {
		case err != nil:
			v.findings.aside(Forged, "the public key of signer %s is malformed", r.ID)
			continue
		case !recorded[r.Verifier]:
			v.findings.aside(Forged, "the public key of signer %s is not one that the log recorded", r.ID)
			continue
		}
		delete(recorded, r.Verifier)
		verifiers = append(verifiers, pub)
	}
	if len(recorded) > 0 {
		v.findings.aside(Deleted, "the log recorded %d signing keys that the database does not have any more", len(recorded))
	}
	v.known = note.VerifierList(verifiers...)
	strangers := 0
	for i := range v.anchors {
		a := &v.anchors[i]
		if a.signed = a.check(v.known) == nil; !a.signed {
			strangers++
		}
	}
	if strangers > 0 {
		v.findings.aside(Forged, "%d of %d anchored checkpoints are signed by a key that the database does not have: its key was replaced, or they are of another database", strangers, len(v.anchors))
	}
	return nil
}

// readLog checks the rows of the log chunk by chunk in parallel and weaves the chunks together in order.
func (v *verification) readLog(ctx context.Context) error {
	v.weave = newWeave(v)
	type job struct {
		lo, hi int64
		out    chan *chunk
	}
	workers := min(runtime.GOMAXPROCS(0), maxWorkers)
	g, ctx := errgroup.WithContext(ctx)
	order, todo := make(chan job, 2*workers), make(chan job)
	g.Go(func() error { // the planner; it steps over ranges that hold no rows
		defer close(order)
		defer close(todo)
		for lo := int64(-1 << 62); ; {
			first, err := nextRow(ctx, v.db, lo, v.census.size)
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			j := job{first, min((segmentOf(first)+1)*segmentLeaves, v.census.size), make(chan *chunk, 1)}
			for _, to := range []chan job{order, todo} {
				select {
				case to <- j:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			lo = j.hi
		}
	})
	for range workers {
		g.Go(func() error {
			for j := range todo {
				c, err := checkChunk(ctx, v.db, j.lo, j.hi, v.census.indexed)
				if err != nil {
					return err
				}
				j.out <- c
			}
			return nil
		})
	}
	g.Go(func() error {
		for j := range order {
			select {
			case c := <-j.out:
				if err := v.take(ctx, c); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return g.Wait()
}

// nextRow returns the first leaf of the first row at or after lo, below size.
func nextRow(ctx context.Context, db *store.DB, lo, size int64) (first int64, err error) {
	err = db.Read(ctx, func(tx *store.Tx) error {
		return tx.Get(&first, `SELECT first_leaf FROM audit_leaves WHERE first_leaf >= $1 AND first_leaf < $2 ORDER BY first_leaf LIMIT 1`, lo, size)
	})
	return first, err
}

func (v *verification) take(ctx context.Context, c *chunk) error {
	v.rows += int64(len(c.rows))
	v.findings.merge(&c.findings)
	if len(v.swaps) < maxFindings {
		v.swaps = append(v.swaps, c.swaps...)
	}
	if err := v.weave.chunk(ctx, c); err != nil {
		return err
	}
	if v.progress != nil {
		v.progress(v.weave.edge.size, v.census.size)
	}
	return nil
}

// conclude ends the comparison with the checkpoints and says what could only be known at the end.
func (v *verification) conclude(ctx context.Context) error {
	if err := v.weave.finish(ctx); err != nil {
		return err
	}
	v.reordered()
	if err := v.explainOrder(ctx); err != nil {
		return err
	}
	r, w := &v.report, v.weave
	r.Anchored, r.Checkpoints, r.Anchors = w.goodAnchor, w.checkpoints, int64(len(v.anchors))
	r.SignedOnly = max(w.goodStored-w.goodAnchor, 0)
	r.Unsigned = max(r.Size-max(w.goodStored, w.goodAnchor), 0)
	return nil
}

// reordered renames findings of edited records whose content belongs to other leaves.
func (v *verification) reordered() {
	stored, moved := map[string]bool{}, map[int64]bool{}
	for _, s := range v.swaps {
		stored[string(s.stored[:])] = true
	}
	for _, s := range v.swaps {
		if stored[string(s.body[:])] {
			moved[s.leaf] = true
		}
	}
	for i := range v.findings.list {
		f := &v.findings.list[i]
		if f.Kind == Edited && moved[f.Leaf] && f.To == f.Leaf+1 {
			f.Kind, f.Detail = Reordered, "the record at this place belongs to another leaf"
		}
	}
}
