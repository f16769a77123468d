package contents

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// packed is what is to be stored of a request.
type packed struct {
	request, train string
	held           int64
	plain          secret.Value
}

// work takes what ended, and stores it.
func (r *Room) work(ctx context.Context) {
	var batch []packed
	var size int
	full := time.NewTimer(time.Hour)
	full.Stop()
	store := func() {
		full.Stop()
		if len(batch) > 0 {
			r.store(ctx, batch)
			batch, size = nil, 0
		}
	}
	take := func(t *Tap) {
		plain, err := t.content().pack()
		if err != nil {
			t.drop()
			return
		}
		if len(batch) == 0 {
			full.Reset(gather)
		}
		batch = append(batch, packed{t.about.Request, t.about.TrainID, t.held, secret.New(plain)})
		if size += len(plain); size >= batchBytes || len(batch) >= batchMost {
			store()
		}
	}
	for {
		select {
		case t := <-r.queue:
			take(t)
		case <-full.C:
			store()
		case <-r.quit:
			for len(r.queue) > 0 {
				take(<-r.queue)
			}
			store()
			return
		}
	}
}

// store stores a batch, and tries again while the database is away for a little.
func (r *Room) store(ctx context.Context, batch []packed) {
	defer func() {
		for _, p := range batch {
			r.held.Add(-p.held)
		}
	}()
	var err error
	for n := range tries {
		if err = r.keep(ctx, batch); err == nil {
			r.grown(ctx, batch)
			return
		}
		if n == tries-1 || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-r.quit:
		case <-time.After(patience):
		}
	}
	r.lost.Add(int64(len(batch)))
	if time.Since(r.moaned) >= time.Minute {
		r.moaned = time.Now()
		r.log.Error("what agents were asked and answered could not be kept for trains that want it", "requests", len(batch), "cause", err)
	}
}

// grown sweeps the trains that grow quickly without waiting for the next sweep of all: what comes meanwhile waits in the queue, or is dropped.
func (r *Room) grown(ctx context.Context, batch []packed) {
	for _, p := range batch {
		r.since[p.train] += int64(len(p.plain.Bytes()))
	}
	for train, n := range r.since {
		s, ok := (*r.wants.Load())[train]
		if ok && n < min(s.TotalBytes/8, growMost) {
			continue
		}
		delete(r.since, train)
		if !ok {
			continue
		}
		if err := r.sweepTrain(ctx, train); err != nil && ctx.Err() == nil {
			r.log.Error("contents of requests that are too many could not be deleted; it is tried again", "cause", err)
		}
	}
}

// keep stores those of the batch whose trains still want it.
func (r *Room) keep(ctx context.Context, batch []packed) error {
	return r.db.Bookkeep(ctx, store.Content, func(tx *store.Tx) error {
		seen := map[string]bool{}
		var ids []string
		for _, p := range batch {
			if !seen[p.train] {
				seen[p.train] = true
				ids = append(ids, p.train)
			}
		}
		want, err := wanting(tx, ids)
		if err != nil {
			return err
		}
		now := store.TimeOf(tx.Now())
		for _, p := range batch {
			settings, ok := want[p.train]
			if asked, is := store.IDTime("req", p.request); !ok || settings.purged > 0 && (!is || store.TimeOf(asked) <= settings.purged) {
				continue
			}
			sealed, err := r.ring.Seal(ringPurpose, p.plain, aad(p.request, p.train))
			if err != nil {
				return err
			}
			if _, err := tx.Exec(`INSERT INTO request_contents (id, train_id, sealed, size, created_at) VALUES ($1,$2,$3,$4,$5) ON CONFLICT (id) DO NOTHING`,
				p.request, p.train, sealed, int64(len(sealed)), now); err != nil {
				return err
			}
		}
		return nil
	})
}

// ErrNotKept is the fault of what is not kept.
func ErrNotKept() error {
	return fault.New(fault.NotFound, "not_found", "What this request said is not kept: its train keeps no contents, or did not when it was made, or it was deleted since.")
}

// TrainOf returns the train of which the content of a request is kept.
func TrainOf(tx *store.Tx, request string) (train string, err error) {
	if !store.ValidID("req", request) { // PostgreSQL takes no NUL and no broken UTF-8
		return "", ErrNotKept()
	}
	err = tx.Get(&train, `SELECT c.train_id FROM request_contents c JOIN request_logging l ON l.train_id = c.train_id WHERE c.id = $1 AND c.created_at > l.purged_at`, request)
	if errors.Is(err, store.ErrNotFound) {
		return "", ErrNotKept()
	}
	return train, err
}

// Opened is what was kept of a request. Its content is read from it outside of any transaction, because that takes its time.
type Opened struct{ plain secret.Value }

// Open opens what is kept of a request of the train, in the transaction in which a caller who may has it recorded.
func (r *Room) Open(tx *store.Tx, caller Caller, train Owner, request string) (Opened, error) {
	var sealed []byte
	err := tx.Get(&sealed, `SELECT sealed FROM request_contents WHERE id = $1 AND train_id = $2`, request, train.ID)
	if errors.Is(err, store.ErrNotFound) {
		return Opened{}, ErrNotKept()
	}
	if err != nil {
		return Opened{}, err
	}
	plain, err := r.ring.Open(ringPurpose, sealed, aad(request, train.ID))
	if err != nil {
		return Opened{}, err
	}
	ev := caller.Event(store.ContentRead, store.Target{Kind: "train", ID: train.ID, Name: train.Slug})
	ev.Details = store.Details{store.Str("request", request)}
	return Opened{plain}, tx.Record(ev)
}

// Content reads it, without what looks like a secret.
func (o Opened) Content() (c Content, err error) {
	z, err := gzip.NewReader(bytes.NewReader(o.plain.Bytes()))
	if err != nil {
		return Content{}, errors.New("contents: what is kept cannot be read")
	}
	// Twice both texts, each of whose bytes may be written as six in JSON.
	if err := json.NewDecoder(io.LimitReader(z, 16*MostBytes)).Decode(&c); err != nil {
		return Content{}, errors.New("contents: what is kept cannot be read")
	}
	c.Request, c.Response = shown(c.Request), shown(c.Response)
	return c, nil
}

// Purge deletes all that is kept of a train, in the transaction of a caller who may and who holds the train's row: nobody can read it any more, nor is what was asked before kept, and
// [Room.Sweep] takes it away, soon after [Room.Wake].
func Purge(tx *store.Tx, caller Caller, train Owner) (n int64, err error) {
	stock, err := StockOf(tx, train.ID)
	if err != nil {
		return 0, err
	}
	if _, err := tx.Exec(`UPDATE request_logging SET purged_at = $1 WHERE train_id = $2`, store.TimeOf(tx.Now()), train.ID); err != nil {
		return 0, err
	}
	ev := caller.Event(store.ContentPurge, store.Target{Kind: "train", ID: train.ID, Name: train.Slug})
	ev.Details = store.Details{store.Int("requests", stock.Requests)}
	if err := tx.Record(ev); err != nil {
		return 0, err
	}
	tx.Change(store.TopicTrain, train.ID)
	return stock.Requests, nil
}

// Wake has what was purged taken away soon. It is for after the transaction.
func (r *Room) Wake() {
	select {
	case r.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Stock is how much is kept of a train.
type Stock struct {
	Requests int64      `db:"requests"`
	Bytes    int64      `db:"bytes"`
	Oldest   store.Time `db:"oldest"`
}

// StockOf returns how much is kept of a train.
func StockOf(tx *store.Tx, train string) (s Stock, err error) {
	err = tx.Get(&s, `SELECT COUNT(*) AS requests, COALESCE(SUM(size), 0) AS bytes, COALESCE(MIN(created_at), 0) AS oldest FROM request_contents
		WHERE train_id = $1 AND created_at > COALESCE((SELECT purged_at FROM request_logging WHERE train_id = $1), 0)`, train)
	return s, err
}

// sweeps deletes now and then what is past its time or too much.
func (r *Room) sweeps(ctx context.Context) {
	wait := time.Duration(rand.Int64N(int64(sweepEvery)))
	for {
		select {
		case <-r.quit:
			return
		case <-r.wake:
		case <-time.After(wait):
		}
		wait = sweepEvery
		if err := r.Sweep(ctx); err != nil && ctx.Err() == nil {
			r.log.Error("contents of requests that are past their time could not be deleted; it is tried again", "cause", err)
		}
	}
}

// Sweep deletes what is past the time of its train's settings, what was purged or whose train is gone, and of each train the oldest beyond what its settings allow.
func (r *Room) Sweep(ctx context.Context) error {
	var trains []string
	if err := r.db.Read(ctx, func(tx *store.Tx) error {
		return tx.Select(&trains, `SELECT DISTINCT train_id FROM request_contents ORDER BY train_id`)
	}); err != nil {
		return err
	}
	for _, train := range trains {
		if err := r.sweepTrain(ctx, train); err != nil {
			return err
		}
	}
	return nil
}

// sweepTrain deletes what a train may not keep any more, slice by slice.
func (r *Room) sweepTrain(ctx context.Context, train string) error {
	stock := int64(-1)
	for {
		more, err := r.sweep(ctx, train, &stock)
		if err != nil || !more {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.quit:
			return nil
		case <-time.After(sweepPause): // for those who wait to write
		}
	}
}

// sweep deletes a slice of what a train may not keep any more, and says whether there may be more of it. Stock is how much the train keeps, -1 before it was added up.
func (r *Room) sweep(ctx context.Context, train string, stock *int64) (more bool, err error) {
	type row struct {
		ID   string     `db:"id"`
		Size int64      `db:"size"`
		At   store.Time `db:"created_at"`
	}
	var drop []string
	var rest int64
	if err := r.db.Read(ctx, func(tx *store.Tx) error {
		drop, more = nil, false
		settings, err := SettingsOf(tx, train)
		if err != nil {
			return err
		}
		gone := settings.UpdatedAt.IsZero() // with its train
		if rest = *stock; rest < 0 {
			s, err := StockOf(tx, train)
			if err != nil {
				return err
			}
			rest = s.Bytes
		}
		var oldest []row
		if err := tx.Select(&oldest, `SELECT id, size, created_at FROM request_contents WHERE train_id = $1 ORDER BY created_at, id LIMIT $2`, train, sweepMost); err != nil {
			return err
		}
		end, slice := tx.Now().AddDate(0, 0, -int(settings.RetentionDays)), int64(0)
		for _, o := range oldest {
			purged := o.At <= settings.purged
			if !gone && !purged && o.At.Time().After(end) && rest <= settings.TotalBytes {
				return nil
			}
			if slice += o.Size; slice > sweepBytes && len(drop) > 0 {
				break
			}
			if drop = append(drop, o.ID); !purged {
				rest -= o.Size
			}
		}
		more = len(drop) > 0
		return nil
	}); err != nil || len(drop) == 0 {
		return false, err
	}
	if err := r.db.Bookkeep(ctx, store.Content, func(tx *store.Tx) error {
		for _, id := range drop {
			if _, err := tx.Exec(`DELETE FROM request_contents WHERE id = $1`, id); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return false, err
	}
	*stock = rest
	return more, nil
}
