package ledger

import (
	"context"
	"errors"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// form is the number of the way in which sums are made. Another one in the database has them made anew from the log.
	form = 2
	// chunkLeaves and chunkBytes bound what one transaction adds, and so how long it holds up others on SQLite.
	chunkLeaves, chunkBytes = 1000, 1 << 20
	// beyond is how many times its length a claim can last at most. One that lasts longer was made before the clock was set back, and its holder may be gone: it has lapsed. A holder
	// that is not gone loses nothing but its turn, by the epoch.
	beyond = 2
	// dropSlice bounds the rows that one transaction drops.
	dropSlice = 5000
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
	// Leaf is the hash of the leaf before the position, by which another log is known; "" at the begin.
	Leaf string `db:"leaf"`
	// Goal is how long the log was when the sums were begun anew.
	Goal int64 `db:"goal"`
}

// dropping is the position of sums that are being dropped, slice by slice, before they are made anew.
const dropping = -1

const readPlace = `SELECT form, position, holder, epoch, until, leaf, goal FROM usage_follower WHERE id = 1`

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
	mine, size, err := r.look(ctx)
	if err != nil || !mine {
		return false, err
	}
	var leaves []audit.Leaf
	if r.place.Position != dropping {
		if leaves, err = r.next(ctx); err != nil {
			return false, err
		}
		if len(leaves) == 0 && r.place.Position != dropping {
			return false, nil
		}
	}
	if r.place.Holder != r.holder {
		if err := r.take(ctx); err != nil {
			return false, err
		}
	}
	if r.place.Position == dropping {
		return true, r.drop(ctx)
	}
	// What is still to be read may hold the outcomes of what seems to have none.
	caughtUp := leaves[len(leaves)-1].Index+1 >= size
	swept, err := r.add(ctx, leaves, caughtUp && time.Since(r.swept) >= sweepEvery)
	if err != nil {
		return false, err
	}
	if swept {
		r.swept = time.Now()
	}
	return len(leaves) == r.chunk || r.place.Position < r.audit.Health().Size, nil
}

// next reads the leaves that are to be added up. The last one that was is read again: where it is another one, so is the log, and all begins anew. One that is gone tells
// nothing; verification tells of it.
func (r *Room) next(ctx context.Context) ([]audit.Leaf, error) {
	if r.place.Position == 0 {
		return r.audit.Leaves(ctx, 0, r.chunk, chunkBytes)
	}
	last := r.place.Position - 1
	leaves, err := r.audit.Leaves(ctx, last, r.chunk+1, chunkBytes)
	if err != nil || len(leaves) == 0 || leaves[0].Index != last {
		return leaves, err
	}
	if leaves[0].Hash.String() != r.place.Leaf {
		return nil, r.renew(ctx)
	}
	if len(leaves) == 1 && len(leaves[0].Record) >= chunkBytes { // it was all that fits
		return r.audit.Leaves(ctx, r.place.Position, r.chunk, chunkBytes)
	}
	return leaves[1:], nil
}

// look reads where the sums stand and how long the log is, and tells whether this instance may go on with them.
func (r *Room) look(ctx context.Context) (mine bool, size int64, err error) {
	var now time.Time
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
		return false, 0, err
	}
	switch {
	case at.Holder != "" && at.Holder != r.holder && now.Before(at.Until.Time()) && !at.Until.Time().After(now.Add(beyond*r.claim)):
		return false, size, nil
	case at.Form > form: // a newer version makes them in another way
		return false, size, nil
	}
	if at.Form != form || at.Position > size { // never made, made in another way, or of a log that was longer
		r.place, r.mustLook = at, true
		return true, size, r.renew(ctx)
	}
	if r.mustLook || at != r.place {
		r.memory = memory{}
	}
	r.place, r.mustLook = at, false
	return true, size, nil
}

// take claims the log. Every chunk that is added prolongs the claim.
func (r *Room) take(ctx context.Context) error {
	next := r.place
	next.Holder = r.holder
	next.Epoch++
	err := r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		now := tx.Now()
		next.Until = store.TimeOf(now.Add(r.claim))
		return one(tx.Exec(`UPDATE usage_follower SET holder = $1, epoch = $2, until = $3 WHERE id = 1 AND form = $4 AND position = $5 AND epoch = $6 AND (holder = '' OR until <= $7 OR until > $8)`,
			next.Holder, next.Epoch, next.Until, form, r.place.Position, r.place.Epoch, store.TimeOf(now), store.TimeOf(now.Add(beyond*r.claim))))
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

// drop drops a slice of the sums, and begins at the start of the log where that was the last one.
func (r *Room) drop(ctx context.Context) error {
	next := r.place
	err := r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		next = r.place
		next.Until = store.TimeOf(tx.Now().Add(r.claim))
		left := int64(dropSlice)
		for _, table := range [...]struct{ name, key string }{{"usage_sums", "(span, begins, line)"}, {"usage_open", "lease"}, {"usage_lines", "id"}, {"usage_subjects", "id"}} {
			n, err := tx.Exec(`DELETE FROM `+table.name+` WHERE `+table.key+` IN (SELECT `+strings.Trim(table.key, "()")+` FROM `+table.name+` LIMIT $1)`, left)
			if err != nil {
				return err
			}
			if left -= n; left <= 0 {
				break
			}
		}
		if left > 0 {
			next.Position = 0
		}
		return one(tx.Exec(`UPDATE usage_follower SET position = $1, until = $2 WHERE id = 1 AND form = $3 AND position = $4 AND holder = $5 AND epoch = $6`,
			next.Position, next.Until, form, dropping, r.holder, r.place.Epoch))
	})
	if err == nil {
		r.place = next
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
