package audit

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// Entry is an event with its place in the log.
type Entry struct {
	// Leaf is the index of the record in the tree, or -1 while it is not sequenced.
	Leaf  int64
	Event store.Event
}

// Get returns one event. A lease.granted shows the outcome that is known of it; see [Log.Search]. The fault is not_found when there is no
// such event.
func (l *Log) Get(ctx context.Context, id string) (Entry, error) {
	var entry Entry
	err := l.db.Read(ctx, func(tx *store.Tx) error {
		record, at, err := readRecord(tx, id)
		if err != nil {
			return err
		}
		if entry.Event, err = store.DecodeEvent(record); err != nil {
			return err
		}
		if entry.Leaf, err = leafOf(tx, at); err != nil {
			return err
		}
		_, err = newOutcomes(tx, outcomeBudget).settle(&entry.Event, true)
		return err
	})
	return entry, err
}

// readRecord returns the bytes of one event.
func readRecord(tx *store.Tx, id string) ([]byte, place, error) {
	at, ok := parseID(id)
	if !ok {
		return nil, at, noSuchEvent()
	}
	query := `SELECT body FROM audit_events WHERE id = $1`
	if at.ordinal >= 0 {
		query = `SELECT body FROM audit_batches WHERE id = $1`
	}
	var body []byte
	if err := tx.Get(&body, query, at.source); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			err = noSuchEvent()
		}
		return nil, at, err
	}
	if at.ordinal < 0 {
		return body, at, nil
	}
	lines := bytes.Split(body, newline)
	if at.ordinal >= len(lines) {
		return nil, at, noSuchEvent()
	}
	return lines[at.ordinal], at, nil
}

// leafOf returns the leaf index of an event, -1 while it is not sequenced.
func leafOf(tx *store.Tx, at place) (int64, error) {
	var first int64
	err := tx.Get(&first, `SELECT first_leaf FROM audit_leaves WHERE source_id = $1`, at.source)
	if errors.Is(err, store.ErrNotFound) {
		return -1, nil
	}
	return first + int64(max(at.ordinal, 0)), err
}

func noSuchEvent() error {
	return fault.New(fault.NotFound, "not_found", "There is no audit event with this id.")
}

const (
	// maxTail bounds the events of one call of Tail.
	maxTail = 1000
	// defaultLimit is the number of events in a page when none is asked for.
	defaultLimit = 100
)

// Tail returns up to limit events (0: 100, at most 1000) in leaf order, those after the leaf with index after; -1 starts at the beginning.
// Events are as they were recorded: an intent stays pending here, its outcome is an event of its own.
func (l *Log) Tail(ctx context.Context, after int64, limit int) ([]Entry, error) {
	entries, _, err := l.Follow(ctx, after, limit)
	return entries, err
}

// Follow is [Log.Tail] for whoever has no use for the records of some actions: they count for the limit, and are not read. last is the leaf up to which it looked, after if there was none.
func (l *Log) Follow(ctx context.Context, after int64, limit int, without ...store.Action) (entries []Entry, last int64, err error) {
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = min(limit, maxTail)
	skip := make([][]byte, len(without))
	for i, act := range without {
		skip[i] = []byte(`"action":"` + string(act) + `"`) // in a text its quotes would be escaped
	}
	err = l.db.Read(ctx, func(tx *store.Tx) error {
		entries, last = entries[:0], after
		met := 0
		rows, err := tx.Query(`SELECT x.first_leaf, `+recordBody+` FROM audit_leaves x
			WHERE x.first_leaf >= (SELECT COALESCE(MAX(first_leaf), 0) FROM audit_leaves WHERE first_leaf <= $1) ORDER BY x.first_leaf LIMIT $2`, after+1, limit+1)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var first int64
			var body blob
			if err := rows.Scan(&first, &body); err != nil {
				return err
			}
			if body == nil {
				return damaged(first)
			}
			leaf := first - 1
			for line := range bytes.SplitSeq(body, newline) {
				if leaf++; leaf <= after {
					continue
				}
				if met == limit {
					return nil
				}
				met, last = met+1, leaf
				if slices.ContainsFunc(skip, func(mark []byte) bool { return bytes.Contains(line, mark) }) {
					if g, ok := look(line); ok && slices.Contains(without, store.Action(g.action)) { // and not of a detail alone
						continue
					}
				}
				e, err := store.DecodeEvent(line)
				if err != nil {
					return damaged(leaf)
				}
				entries = append(entries, Entry{Leaf: leaf, Event: e})
			}
		}
		return rows.Err()
	})
	return entries, last, err
}

// Size returns the number of leaves in the database.
func (l *Log) Size(ctx context.Context) (int64, error) {
	var size int64
	err := l.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		size, _, err = readSize(tx)
		return err
	})
	return size, err
}

// Proof shows without the database that a record is in the log that a checkpoint was signed for. Its JSON form is stable.
type Proof struct {
	// Record is the event, byte for byte as it was hashed.
	Record string `json:"record"`
	// Leaf is its index in the tree.
	Leaf int64 `json:"leaf"`
	// Size is the size of the tree in the checkpoint.
	Size int64 `json:"size"`
	// Hashes are the Merkle audit path of RFC 6962, section 2.1.1.
	Hashes []tlog.Hash `json:"hashes"`
	// Note is the signed checkpoint.
	Note string `json:"checkpoint"`
	// Verifier is the public key that it is signed with. Compare it with one that you have from elsewhere.
	Verifier string `json:"verifier"`
}

// Prove returns the proof of one event against the newest checkpoint. The fault is state_conflict while no checkpoint covers the event.
func (l *Log) Prove(ctx context.Context, id string) (Proof, error) {
	p := Proof{Verifier: l.verifier}
	err := l.db.Read(ctx, func(tx *store.Tx) error {
		record, at, err := readRecord(tx, id)
		if err != nil {
			return err
		}
		p.Record = string(record)
		if p.Leaf, err = leafOf(tx, at); err != nil {
			return err
		}
		c, err := latest(tx)
		if err != nil && (p.Leaf >= 0 || !isNotFound(err)) {
			return err
		}
		if p.Leaf < 0 || p.Leaf >= c.Size {
			return fault.New(fault.Conflict, "state_conflict", "No signed checkpoint covers this event yet. The next one is signed within seconds; ask again then.").After(int(l.signEvery.Seconds()) + 1)
		}
		p.Size, p.Note = c.Size, c.Note
		p.Hashes, err = tlog.ProveRecord(c.Size, p.Leaf, newNodeReader(tx, c.Size))
		return err
	})
	if err != nil {
		return Proof{}, err
	}
	return p, nil
}

func isNotFound(err error) bool { return fault.KindOf(err) == fault.NotFound }

// CheckProof verifies a proof without any database and returns the checkpoint that it leads to. That p.Verifier is the right key, and
// the checkpoint one that was anchored, is for the caller to know.
func CheckProof(p Proof) (Checkpoint, error) {
	c, err := ParseCheckpoint(p.Note)
	if err != nil {
		return Checkpoint{}, err
	}
	if err := c.Check(p.Verifier); err != nil {
		return Checkpoint{}, err
	}
	if p.Size != c.Size {
		return Checkpoint{}, errors.New("audit: the proof is for another size than its checkpoint")
	}
	if err := tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Leaf, tlog.RecordHash([]byte(p.Record))); err != nil {
		return Checkpoint{}, errors.New("audit: the record is not the one that the checkpoint was signed for")
	}
	return c, nil
}

// ProveGrowth returns the proof that the log's first newer leaves begin with its first older leaves (RFC 6962, section 2.1.2).
func (l *Log) ProveGrowth(ctx context.Context, older, newer int64) ([]tlog.Hash, error) {
	var hashes tlog.TreeProof
	err := l.db.Read(ctx, func(tx *store.Tx) error {
		size, _, err := readSize(tx)
		if err != nil {
			return err
		}
		if older < 1 || newer < older || newer > size {
			return fault.New(fault.Unprocessable, "validation_failed", "The two sizes must be at least 1, in order, and at most the size of the log.")
		}
		hashes, err = tlog.ProveTree(newer, older, newNodeReader(tx, newer))
		return err
	})
	return hashes, err
}

// CheckGrowth verifies, without a database, that the log of the newer checkpoint begins with all of the older one.
func CheckGrowth(older, newer Checkpoint, hashes []tlog.Hash) error {
	if older.Origin != newer.Origin {
		return errors.New("audit: the checkpoints are of different logs")
	}
	if err := tlog.CheckTree(hashes, newer.Size, newer.Root, older.Size, older.Root); err != nil {
		return errors.New("audit: the newer checkpoint does not continue the older one")
	}
	return nil
}
