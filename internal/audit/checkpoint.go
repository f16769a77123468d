package audit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// maxSize bounds the size of a log that is believed. It is far above any real log and far below where tree arithmetic overflows.
const maxSize = 1 << 48

// originPrefix begins the origin of every log; the rest is random, so that the checkpoints of two logs are never mistaken.
const originPrefix = "signalbox.dev/audit/"

// Checkpoint is a signed statement that the log's first Size leaves have the Merkle root Root. Its signed form is a note
// (golang.org/x/mod/sumdb/note) whose text is a checkpoint of C2SP tlog-checkpoint with two extension lines, time and predecessor.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
	At     time.Time
	// After is the size of the checkpoint before this one, 0 for the first: a checkpoint that was removed leaves a gap.
	After int64
	// Note is the signed text that this checkpoint was read from.
	Note string
}

var errCheckpoint = errors.New("audit: this is no checkpoint of a signalbox audit log")

// text is what is signed.
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\nat %s\nafter %d\n", c.Origin, c.Size, c.Root, c.At.UTC().Format(store.TimeFormat), c.After)
}

// ParseCheckpoint reads the text of a signed note and does not check its signature; see [Checkpoint.Check].
func ParseCheckpoint(signed string) (Checkpoint, error) {
	text, _, ok := strings.Cut(signed, "\n\n")
	lines := strings.Split(text, "\n")
	if !ok || len(lines) != 5 || !validOrigin(lines[0]) {
		return Checkpoint{}, errCheckpoint
	}
	c := Checkpoint{Origin: lines[0], Note: signed}
	var err error
	var okAt, okAfter bool
	c.Size, err = parseSize(lines[1])
	if err != nil {
		return Checkpoint{}, err
	}
	// Base64 has more than one spelling of some hashes; only one is signed by us.
	raw, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(raw) != tlog.HashSize {
		return Checkpoint{}, errCheckpoint
	}
	c.Root = tlog.Hash(raw)
	at, okAt := strings.CutPrefix(lines[3], "at ")
	after, okAfter := strings.CutPrefix(lines[4], "after ")
	if !okAt || !okAfter {
		return Checkpoint{}, errCheckpoint
	}
	if c.At, err = time.Parse(store.TimeFormat, at); err != nil {
		return Checkpoint{}, errCheckpoint
	}
	if c.After, err = parseSize(after); err != nil {
		return Checkpoint{}, err
	}
	if c.text() != text+"\n" || c.After >= c.Size {
		return Checkpoint{}, errCheckpoint
	}
	return c, nil
}

func validOrigin(s string) bool {
	id, ok := strings.CutPrefix(s, originPrefix)
	return ok && store.ValidID("log", id)
}

func parseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > maxSize || strconv.FormatInt(n, 10) != s {
		return 0, errCheckpoint
	}
	return n, nil
}

// Check verifies the signature against one of the public keys in the form of golang.org/x/mod/sumdb/note.
func (c Checkpoint) Check(keys ...string) error {
	var known []note.Verifier
	for _, key := range keys {
		v, err := note.NewVerifier(key)
		if err != nil {
			return fmt.Errorf("audit: a public key is malformed: %w", err)
		}
		known = append(known, v)
	}
	return c.check(note.VerifierList(known...))
}

func (c Checkpoint) check(known note.Verifiers) error {
	n, err := note.Open([]byte(c.Note), known)
	if err != nil {
		return fmt.Errorf("audit: the checkpoint of size %d: %w", c.Size, err)
	}
	if n.Text != c.text() {
		return errCheckpoint
	}
	for _, sig := range n.Sigs {
		if sig.Name == c.Origin {
			return nil
		}
	}
	return fmt.Errorf("audit: the checkpoint of size %d is signed by another log", c.Size)
}

// sign adds a checkpoint when leaves came since the last one.
func (l *Log) sign(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepDeadline)
	defer cancel()
	if err := l.load(ctx); err != nil {
		return err
	}
	if l.right.size <= l.signed {
		return nil
	}
	var at time.Time
	err := l.db.Bookkeep(ctx, store.Sequence, func(tx *store.Tx) error {
		at = tx.Now()
		if err := l.fence(tx); err != nil {
			return err
		}
		c := Checkpoint{Origin: l.signer.Name(), Size: l.right.size, Root: l.right.root(), At: at, After: l.signed}
		signed, err := note.Sign(&note.Note{Text: c.text()}, l.signer)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO audit_checkpoints (size, at, note) VALUES ($1,$2,$3)`, c.Size, store.TimeOf(c.At), string(signed))
		return err
	})
	if err != nil {
		l.right = nil
		if errors.Is(err, errFenced) {
			l.stepDown()
		}
		return err
	}
	l.signed = l.right.size
	l.tell(func(h *Health) { h.Signed, h.SignedAt = l.signed, at })
	return nil
}

// Latest returns the newest checkpoint in the database, or the fault not_found while there is none.
func (l *Log) Latest(ctx context.Context) (Checkpoint, error) {
	var c Checkpoint
	err := l.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		c, err = latest(tx)
		return err
	})
	return c, err
}

func latest(tx *store.Tx) (Checkpoint, error) {
	var signed string
	err := tx.Get(&signed, `SELECT note FROM audit_checkpoints ORDER BY size DESC LIMIT 1`)
	if errors.Is(err, store.ErrNotFound) {
		return Checkpoint{}, fault.New(fault.NotFound, "not_found", "No checkpoint has been signed yet; the first follows within seconds of the first record.")
	}
	if err != nil {
		return Checkpoint{}, err
	}
	return ParseCheckpoint(signed)
}
