package audit

import (
	"context"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// Status is how far the log is, by the database alone.
type Status struct {
	// Size counts the leaves; Signed are those under the newest checkpoint, which is of the time SignedAt (zero while there is none).
	Size, Signed int64
	SignedAt     time.Time
	// Waiting says that events wait for a place in the log, the oldest since WaitingSince.
	Waiting      bool
	WaitingSince time.Time
}

// Inspect tells how far the log in the database is. It checks nothing; that is [Verify].
func Inspect(ctx context.Context, db *store.DB) (Status, error) {
	var s Status
	err := db.Read(ctx, func(tx *store.Tx) error {
		s = Status{}
		var err error
		if s.Size, _, err = readSize(tx); err != nil {
			return err
		}
		switch c, err := latest(tx); {
		case err == nil:
			s.Signed, s.SignedAt = c.Size, c.At
		case fault.KindOf(err) != fault.NotFound:
			return err
		}
		var first []string
		if err := tx.Select(&first, `SELECT source_id FROM audit_pending ORDER BY source_id LIMIT 1`); err != nil {
			return err
		}
		if len(first) == 1 {
			s.Waiting = true
			s.WaitingSince, _ = store.IDTime(sourcePrefix, first[0])
		}
		return nil
	})
	return s, err
}
