package keyring

import (
	"context"
	"errors"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Rekey tells how a change of the data key goes, or how the last one went. Without any its ID is empty.
type Rekey struct {
	ID    string
	State string
	// To is the new data key.
	To int64
	// Total is how many places of records were under the old key when the new one began to seal, Moved how many were sealed anew, Remaining how many
	// are left, as of the last pass or less, and Unreadable how many of those do not open, so that the old key cannot go.
	Total, Moved, Remaining, Unreadable int64
	StartedAt, FinishedAt               time.Time
}

type rekeyRow struct {
	ID         string     `db:"id"`
	To         int64      `db:"to_version"`
	State      string     `db:"state"`
	Total      int64      `db:"total"`
	Moved      int64      `db:"moved"`
	Remaining  int64      `db:"remaining"`
	Unreadable int64      `db:"unreadable"`
	GiveUp     int64      `db:"give_up"`
	Holder     string     `db:"holder"`
	Epoch      int64      `db:"epoch"`
	Until      store.Time `db:"until"`
	StartedAt  store.Time `db:"started_at"`
	Since      store.Time `db:"since"`
	FinishedAt store.Time `db:"finished_at"`
}

const selectRekey = `SELECT id, to_version, state, total, moved, remaining, unreadable, give_up, holder, epoch, until, started_at, since, finished_at FROM rekeys`

func (w rekeyRow) rekey() Rekey {
	out := Rekey{ID: w.ID, State: w.State, To: w.To, Total: w.Total, Moved: w.Moved, Remaining: w.Remaining, Unreadable: w.Unreadable, StartedAt: w.StartedAt.Time()}
	if w.FinishedAt != 0 {
		out.FinishedAt = w.FinishedAt.Time()
	}
	return out
}

// Status returns the change of the data key that is under way, or the last one.
func (r *Rekeyer) Status(ctx context.Context) (Rekey, error) {
	var rows []rekeyRow
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		rows = nil
		return tx.Select(&rows, selectRekey+` ORDER BY started_at DESC, id DESC LIMIT 1`)
	})
	if err != nil || len(rows) == 0 {
		return Rekey{}, err
	}
	return rows[0].rekey(), nil
}

// Left returns how many places of records this instance last knew to be under the old data key: 0 when no change is under way.
func (r *Rekeyer) Left() int64 {
	if seen := r.seen.Load(); seen != nil {
		return seen.Remaining
	}
	return 0
}

// current returns the unfinished change, or [store.ErrNotFound].
func (r *Rekeyer) current(ctx context.Context) (work rekeyRow, now time.Time, err error) {
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		now = tx.Now()
		return tx.Get(&work, selectRekey+` WHERE finished_at = 0`)
	})
	if err == nil {
		seen := work.rekey()
		r.seen.Store(&seen)
	} else if errors.Is(err, store.ErrNotFound) {
		r.seen.Store(nil)
	}
	return work, now, err
}

// claim takes the lease, or prolongs it.
func (r *Rekeyer) claim(ctx context.Context, work rekeyRow) (rekeyRow, error) {
	err := r.cfg.DB.Bookkeep(ctx, store.Rekey, func(tx *store.Tx) error {
		n, err := tx.Exec(`UPDATE rekeys SET holder = $1, epoch = epoch + 1, until = $2 WHERE id = $3 AND epoch = $4 AND finished_at = 0`,
			r.cfg.Instance, store.TimeOf(tx.Now().Add(r.pace.Term)), work.ID, work.Epoch)
		if err == nil && n != 1 {
			err = errNotHolder
		}
		return err
	})
	work.Holder, work.Epoch = r.cfg.Instance, work.Epoch+1
	return work, err
}

// hold begins each transaction of the holder: it proves that this instance still has the lease, prolongs it, and counts what the transaction moves.
func (r *Rekeyer) hold(tx *store.Tx, work rekeyRow, moved int64) error {
	n, err := tx.Exec(`UPDATE rekeys SET until = $1, moved = moved + $2, remaining = CASE WHEN remaining > $2 THEN remaining - $2 ELSE 0 END
		WHERE id = $3 AND holder = $4 AND epoch = $5 AND finished_at = 0`, store.TimeOf(tx.Now().Add(r.pace.Term)), moved, work.ID, r.cfg.Instance, work.Epoch)
	if err == nil && n != 1 {
		err = errNotHolder
	}
	return err
}

// pass is one way through all places.
type pass struct {
	*Rekeyer
	work rekeyRow
	old  []uint32
	// missed rows changed while they were moved, or were there to be moved though the pass before left none; unreadable ones do not open.
	missed, unreadable int64
	where              []string
}

// through moves one place.
func (p *pass) through(ctx context.Context, place Place) error {
	var after *Row
	for {
		began := time.Now()
		var rows []Row
		var fresh [][][]byte
		broken := int64(0)
		err := p.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
			if rows, err = place.batch(tx, p.old, after, p.pace.Batch); err != nil {
				return err
			}
			fresh, broken = make([][][]byte, len(rows)), 0
			for i, row := range rows {
				fresh[i], err = place.renew(tx, p.cfg.Ring, row)
				switch {
				case err == nil:
				case errors.Is(err, ErrMoot):
					fresh[i] = nil
				case errors.Is(err, ErrUnknownKey), errors.Is(err, secret.ErrOpen):
					fresh[i] = nil
					broken++
				default: // it says nothing of the record, which must not lose its key for that
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		if broken > 0 {
			p.unreadable += broken
			if name := place.Name(); !slices.Contains(p.where, name) {
				p.where = append(p.where, name)
			}
		}
		if err := p.store(ctx, place, rows, fresh); err != nil {
			return err
		}
		after = &rows[len(rows)-1]
		// As long a pause as the work took: requests come first.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Since(began)):
		}
	}
}

// store writes a batch. What changed since it was read is missed, and stays for the next pass.
func (p *pass) store(ctx context.Context, place Place, rows []Row, fresh [][][]byte) error {
	var moved, missed int64
	err := p.cfg.DB.Bookkeep(ctx, store.Rekey, func(tx *store.Tx) error {
		moved, missed = 0, 0
		for i, row := range rows {
			if fresh[i] == nil {
				continue
			}
			ok, err := place.store(tx, row, fresh[i])
			switch {
			case err != nil:
				return err
			case ok:
				moved++
			default:
				missed++
			}
		}
		return p.hold(tx, p.work, moved)
	})
	if err != nil {
		return err
	}
	p.missed += missed
	if seen := p.seen.Load(); seen != nil && moved > 0 {
		next := *seen
		next.Moved, next.Remaining = next.Moved+moved, max(next.Remaining-moved, 0)
		p.seen.Store(&next)
	}
	return nil
}
