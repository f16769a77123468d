package ledger

import (
	"context"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// form is the number of the way in which sums are made. Another one in the database has them made anew from the log.
	form = 2
	// chunkLeaves and chunkBytes bound what one transaction adds, and so how long it holds up others on SQLite.
	chunkLeaves, chunkBytes = 1000, 1 << 20
	// sweepEvery is how often the holder looks for intents that will have no outcome any more.
	sweepEvery = time.Hour
	// pause is how long it waits after a failure.
	pause     = 5 * time.Second
	moanEvery = time.Minute
	// releaseTime bounds the write that gives the claim back.
	releaseTime = 2 * time.Second
)

// place is the row of usage_follower.
type place struct {
	Form     int64      `db:"form"`
	Position int64      `db:"position"`
	Holder   string     `db:"holder"`
	Epoch    int64      `db:"epoch"`
	Until    store.Time `db:"until"`
}

const readPlace = `SELECT form, position, holder, epoch, until FROM usage_follower WHERE id = 1`

// errTaken says that another instance follows the log.
var errTaken = errors.New("ledger: another instance follows the log")

// Start begins to follow the log in the background. End it with [Room.Close].
func (r *Room) Start(ctx context.Context) {
	r.begin.Do(func() {
		run, cut := context.WithCancel(context.WithoutCancel(ctx))
		r.cut = cut
		r.loops.Go(func() { r.loop(run) })
	})
}

// Close cuts the pass under way, which is stored wholly or not at all, and gives the claim back.
func (r *Room) Close() {
	r.end.Do(func() {
		if r.cut == nil {
			return
		}
		r.cut()
		r.loops.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
		defer cancel()
		if err := r.release(ctx); err != nil {
			r.log.Warn("the claim on the sums of usage was not given back; another instance takes it over in seconds", "cause", err)
		}
	})
}

func (r *Room) loop(ctx context.Context) {
	var moaned time.Time
	for {
		begun := time.Now()
		more, err := r.Pass(ctx)
		wait := r.every
		switch {
		case err != nil && ctx.Err() == nil:
			wait = max(wait, pause)
			if time.Since(moaned) > moanEvery {
				moaned = time.Now()
				r.log.Error("usage could not be added up; it goes on where it was", "cause", err)
			}
		case more: // an old log is added up beside the work of the day
			wait = min(wait, time.Since(begun))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Pass adds up the next records of the log, unless another instance does. more says that there may be others.
func (r *Room) Pass(ctx context.Context) (more bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	more, err = r.pass(ctx)
	if err != nil {
		r.mustLook = true // a commit of unknown fate may stand
		if errors.Is(err, errTaken) {
			return false, nil
		}
	}
	return more, err
}

func (r *Room) pass(ctx context.Context) (bool, error) {
	mine, err := r.look(ctx)
	if err != nil || !mine {
		return false, err
	}
	leaves, err := r.audit.Leaves(ctx, r.place.Position, r.chunk, chunkBytes)
	if err != nil {
		return false, err
	}
	if len(leaves) == 0 {
		return false, nil
	}
	if r.place.Holder != r.holder {
		if err := r.take(ctx); err != nil {
			return false, err
		}
	}
	swept, err := r.add(ctx, leaves, time.Since(r.swept) >= sweepEvery)
	if err != nil {
		return false, err
	}
	if swept {
		r.swept = time.Now()
	}
	return len(leaves) == r.chunk || r.place.Position < r.audit.Health().Size, nil
}

// look reads where the sums stand, and tells whether this instance may go on with them.
func (r *Room) look(ctx context.Context) (mine bool, err error) {
	var now, size = time.Time{}, int64(0)
	var at place
	err = r.db.Read(ctx, func(tx *store.Tx) (err error) {
		now = tx.Now()
		at = place{}
		if err = tx.Get(&at, readPlace); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		size, _, err = audit.Extent(tx)
		return err
	})
	if err != nil {
		return false, err
	}
	switch {
	case at.Holder != "" && at.Holder != r.holder && now.Before(at.Until.Time()):
		return false, nil
	case at.Form > form: // a newer version makes them in another way
		return false, nil
	}
	if at.Form != form || at.Position > size { // never made, made in another way, or of a log that was longer
		r.place, r.mustLook = at, true
		return true, r.renew(ctx)
	}
	if r.mustLook || at != r.place {
		r.memory = memory{}
	}
	r.place, r.mustLook = at, false
	return true, nil
}

// take claims the log. Every chunk that is added prolongs the claim.
func (r *Room) take(ctx context.Context) error {
	next := r.place
	next.Holder = r.holder
	next.Epoch++
	err := r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		now := tx.Now()
		next.Until = store.TimeOf(now.Add(r.claim))
		return one(tx.Exec(`UPDATE usage_follower SET holder = $1, epoch = $2, until = $3 WHERE id = 1 AND form = $4 AND position = $5 AND epoch = $6 AND (holder = '' OR until <= $7)`,
			next.Holder, next.Epoch, next.Until, form, r.place.Position, r.place.Epoch, store.TimeOf(now)))
	})
	if err == nil {
		r.place = next
	}
	return err
}

// one is errTaken when a statement that moves the row of usage_follower did not find it as it was.
func one(n int64, err error) error {
	if err == nil && n != 1 {
		return errTaken
	}
	return err
}

// Rebuild has all sums made anew from the log, by whichever instance follows it.
func (r *Room) Rebuild(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		r.place = place{}
		if err := tx.Get(&r.place, readPlace); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.renew(ctx)
}

// renew drops all sums and begins at the start of the log.
func (r *Room) renew(ctx context.Context) error {
	next := place{Form: form, Epoch: r.place.Epoch + 1}
	err := r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		if r.place.Form == 0 {
			if _, err := tx.Exec(`INSERT INTO usage_follower (id, form, position, holder, epoch, until) VALUES (1, 0, 0, '', 0, 0) ON CONFLICT DO NOTHING`); err != nil {
				return err
			}
		}
		if err := one(tx.Exec(`UPDATE usage_follower SET form = $1, position = 0, holder = '', epoch = $2, until = 0 WHERE id = 1 AND epoch = $3`, form, next.Epoch, r.place.Epoch)); err != nil {
			return err
		}
		for _, drop := range [...]string{`DELETE FROM usage_sums`, `DELETE FROM usage_open`, `DELETE FROM usage_lines`, `DELETE FROM usage_subjects`} {
			if _, err := tx.Exec(drop); err != nil {
				return err
			}
		}
		return nil
	})
	r.memory, r.mustLook = memory{}, true
	if err == nil {
		r.place, r.mustLook = next, false
	}
	return err
}

// release gives the claim back, if this instance has it.
func (r *Room) release(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.place.Holder != r.holder {
		return nil
	}
	return r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE usage_follower SET holder = '', until = 0 WHERE id = 1 AND holder = $1 AND epoch = $2`, r.holder, r.place.Epoch)
		return err
	})
}
