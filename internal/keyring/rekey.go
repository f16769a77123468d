package keyring

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// The states of a change of the data key.
const (
	// RekeyAnnounced: the new key is there and opens; every instance gets to know it before one seals with it.
	RekeyAnnounced = "announced"
	// RekeyMoving: the new key seals, and what the old one has sealed is sealed anew.
	RekeyMoving = "moving"
	// RekeyLeaving: nothing can be stored under the old key any more; what was on its way is looked for once more.
	RekeyLeaving = "leaving"
	// RekeyDone: the old key was destroyed.
	RekeyDone = "done"
)

// RekeyerConfig is what a [Rekeyer] is made of. DB, Ring, Places and Instance are required.
type RekeyerConfig struct {
	DB       *store.DB
	Ring     *Ring
	Places   []Place
	Instance string
	Log      *slog.Logger
	// Files seals anew what this instance has sealed in files of its own, whenever another data key is active.
	Files func(ctx context.Context) error
	// Pace are the waits; the zero one is that of a server.
	Pace Pace
}

// Pace says how long a [Rekeyer] waits for what.
type Pace struct {
	// Tick is how often an instance looks whether there is something to do.
	Tick time.Duration
	// Known is how long a new key waits before it seals: several times as long as news take.
	Known time.Duration
	// Settle is how long the old key stays at least once the new one seals, so that every instance has sealed its files anew.
	Settle time.Duration
	// Term is how long a holder that died keeps other instances from going on; beside SQLite it keeps nobody.
	Term time.Duration
	// Batch is how many rows are moved in one transaction.
	Batch int
}

// orDefault is the pace of a server. Beside SQLite there is no other instance to wait for, but requests that had sealed something when the new key
// took over; later they would be refused.
func (p Pace) orDefault(e store.Engine) Pace {
	if p != (Pace{}) {
		return p
	}
	p = Pace{Tick: time.Second, Settle: 2 * time.Second, Term: 5 * time.Second, Batch: 64}
	if e == store.Postgres {
		p.Known, p.Settle = 3*time.Second, 10*time.Second
	}
	return p
}

// restFor is how long the places are let alone after a pass that found what does not open.
const restFor = time.Minute

// countEvery is how often the count of seals is written down.
const countEvery = 10 * time.Second

// Rekeyer changes the data key. Every instance has one; which of them works is decided by a lease in the database. Make it with [NewRekeyer].
type Rekeyer struct {
	cfg  RekeyerConfig
	pace Pace

	poked chan struct{}
	seen  atomic.Pointer[Rekey] // the last that was looked at
	// Only the loop touches these: the active key when the files were last sealed anew, and the first transaction that began after the keys had left.
	filesFor uint32
	rest     time.Time // until when it is of no use to look for what does not open
	horizon  struct {
		of   string
		next uint64
	}

	begin, end sync.Once
	cut        context.CancelFunc
	loop       sync.WaitGroup
}

// NewRekeyer returns a rekeyer. Begin with [Rekeyer.Start]. It subscribes to the change feed.
func NewRekeyer(cfg RekeyerConfig) (*Rekeyer, error) {
	if cfg.DB == nil || cfg.Ring == nil || len(cfg.Places) == 0 || cfg.Instance == "" {
		return nil, errors.New("keyring: a rekeyer needs a database, a ring, places and the name of its instance")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Rekeyer{cfg: cfg, pace: cfg.Pace.orDefault(cfg.DB.Engine()), poked: make(chan struct{}, 1)}
	cfg.DB.Subscribe(func(_ context.Context, changes []store.Change) error {
		if slices.ContainsFunc(changes, func(c store.Change) bool { return c.Topic == store.TopicKeyring || c.Topic == store.TopicReset }) {
			r.poke()
		}
		return nil
	})
	return r, nil
}

func (r *Rekeyer) poke() {
	select {
	case r.poked <- struct{}{}:
	default:
	}
}

// Start begins in the background. End it with Close.
func (r *Rekeyer) Start(ctx context.Context) {
	r.begin.Do(func() {
		run, cut := context.WithCancel(context.WithoutCancel(ctx))
		r.cut = cut
		r.loop.Go(func() { r.run(run) })
	})
}

// Close ends the step under way, of which each batch is stored wholly or not at all, and writes down how much was sealed. It may be called more
// than once, and without Start.
func (r *Rekeyer) Close() {
	r.end.Do(func() {
		if r.cut != nil {
			r.cut()
		}
		r.loop.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), lookPatience)
		defer cancel()
		if err := r.cfg.Ring.writeSeals(ctx); err != nil {
			r.cfg.Log.Warn("how often the data key has sealed was not written down", "cause", err)
		}
	})
}

func (r *Rekeyer) run(ctx context.Context) {
	tick := time.NewTicker(r.pace.Tick)
	defer tick.Stop()
	var counted time.Time
	failing := false
	for {
		r.followFiles(ctx)
		err := r.step(ctx)
		switch {
		case err == nil:
			failing = false
		case ctx.Err() != nil:
			return
		case !failing && !errors.Is(err, errNotHolder):
			failing = true
			r.cfg.Log.Error("the change of the data key does not go on; it is tried again", "cause", err)
		}
		if now := time.Now(); now.Sub(counted) >= countEvery {
			counted = now
			if err := r.cfg.Ring.writeSeals(ctx); err != nil && ctx.Err() == nil {
				r.cfg.Log.Warn("how often the data key has sealed was not written down", "cause", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.poked:
		}
	}
}

// followFiles has the files of this instance sealed anew when another key is active.
func (r *Rekeyer) followFiles(ctx context.Context) {
	active := r.cfg.Ring.Active()
	if r.cfg.Files == nil || active == r.filesFor {
		return
	}
	if err := r.cfg.Files(ctx); err != nil {
		if ctx.Err() == nil {
			r.cfg.Log.Error("refreshed tokens in files could not be sealed under the active data key; it is tried again", "cause", err)
		}
		return
	}
	r.filesFor = active
}

// errNotHolder ends a step whose lease another instance has taken.
var errNotHolder = errors.New("another instance changes the data key")

// step does what is to be done now, and returns nil when there is nothing.
func (r *Rekeyer) step(ctx context.Context) error {
	work, now, err := r.current(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if work.GiveUp == 0 && time.Now().Before(r.rest) {
		return nil
	}
	// Beside SQLite nobody else lives: the lock of its directory, which a process that was killed does not keep, is this one's. The lease is a dead one's.
	if work.Holder != r.cfg.Instance && now.Before(work.Until.Time()) && r.cfg.DB.Engine() != store.SQLite {
		return nil
	}
	if work, err = r.claim(ctx, work); err != nil {
		if errors.Is(err, errNotHolder) {
			return nil
		}
		return err
	}
	if work.State == RekeyAnnounced {
		return r.activate(ctx, work)
	}
	return r.move(ctx, work)
}

// activate lets the new key seal, when every instance has had the time to learn it.
func (r *Rekeyer) activate(ctx context.Context, work rekeyRow) error {
	total, err := r.Sealed(ctx)
	if err != nil {
		return err
	}
	return r.cfg.DB.Bookkeep(ctx, store.Rekey, func(tx *store.Tx) error {
		if err := r.hold(tx, work, 0); err != nil {
			return err
		}
		if tx.Now().Before(work.Since.Time().Add(r.pace.Known)) {
			return nil
		}
		if _, err := tx.Exec(`UPDATE keyring_keys SET state = $1 WHERE state = $2`, stateRetired, stateActive); err != nil {
			return err
		}
		if n, err := tx.Exec(`UPDATE keyring_keys SET state = $1 WHERE version = $2 AND state = $3`, stateActive, work.To, stateIncoming); err != nil || n != 1 {
			return errors.Join(err, notOne(n, "the new data key is not there"))
		}
		if _, err := tx.Exec(`UPDATE rekeys SET state = $1, since = $2, total = $3, remaining = $3 WHERE id = $4`, RekeyMoving, store.TimeOf(tx.Now()), total, work.ID); err != nil {
			return err
		}
		tx.Change(store.TopicKeyring, work.ID)
		return nil
	})
}

func notOne(n int64, what string) error {
	if n == 1 {
		return nil
	}
	return errors.New("keyring: " + what)
}

// move goes once through all places, and on to the next state when nothing is left.
func (r *Rekeyer) move(ctx context.Context, work rekeyRow) error {
	if work.State == RekeyLeaving {
		if settled, err := r.settled(ctx, work); err != nil || !settled {
			return err
		}
	}
	old, err := r.retired(ctx)
	if err != nil {
		return err
	}
	pass := pass{Rekeyer: r, work: work, old: old}
	for _, p := range r.cfg.Places {
		if err := pass.through(ctx, p); err != nil {
			return err
		}
	}
	if pass.unreadable > 0 && work.GiveUp == 0 {
		r.rest = time.Now().Add(restFor)
		r.tell(work, pass)
		return r.note(ctx, work, pass)
	}
	if pass.missed > 0 {
		r.poke()
		return r.note(ctx, work, pass)
	}
	if r.cfg.Files != nil && r.filesFor != r.cfg.Ring.Active() {
		return nil // this instance's own files first
	}
	if work.State == RekeyMoving {
		return r.leave(ctx, work, pass)
	}
	return r.finish(ctx, work, pass)
}

// tell says once for each change what stands in its way.
func (r *Rekeyer) tell(work rekeyRow, p pass) {
	if seen := r.seen.Load(); seen == nil || seen.ID != work.ID || seen.Unreadable != p.unreadable {
		r.cfg.Log.Error("records do not open, so the old data key is not destroyed; mend them from a backup, or give them up with: signalbox rekey --give-up", "records", p.unreadable, "places", p.where)
	}
}

// retired are the versions from which is moved.
func (r *Rekeyer) retired(ctx context.Context) (out []uint32, err error) {
	var versions []int64
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		versions = nil
		return tx.Select(&versions, `SELECT version FROM keyring_keys WHERE state IN ($1, $2) ORDER BY version`, stateRetired, stateLeaving)
	})
	for _, v := range versions {
		out = append(out, uint32(v))
	}
	if err == nil && len(out) == 0 {
		err = errors.New("keyring: no data key is retired while its records are moved")
	}
	return out, err
}

// note writes down how the pass ended that leads no further yet.
func (r *Rekeyer) note(ctx context.Context, work rekeyRow, p pass) error {
	if work.Remaining == p.unreadable+p.missed && work.Unreadable == p.unreadable {
		return nil
	}
	return r.cfg.DB.Bookkeep(ctx, store.Rekey, func(tx *store.Tx) error {
		if err := r.hold(tx, work, 0); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE rekeys SET remaining = $1, unreadable = $2 WHERE id = $3`, p.unreadable+p.missed, p.unreadable, work.ID)
		return err
	})
}

// leave makes it impossible to store anything under the old keys.
func (r *Rekeyer) leave(ctx context.Context, work rekeyRow, p pass) error {
	return r.cfg.DB.Bookkeep(ctx, store.Rekey, func(tx *store.Tx) error {
		if err := r.hold(tx, work, 0); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE rekeys SET remaining = $1, unreadable = $2 WHERE id = $3`, p.unreadable, p.unreadable, work.ID); err != nil {
			return err
		}
		if tx.Now().Before(work.Since.Time().Add(r.pace.Settle)) {
			return nil
		}
		for i, tag := range tags(p.old) {
			if _, err := tx.Exec(`INSERT INTO keyring_left (tag, version) VALUES ($1, $2) ON CONFLICT DO NOTHING`, tag, int64(p.old[i])); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`UPDATE keyring_keys SET state = $1 WHERE state = $2`, stateLeaving, stateRetired); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE rekeys SET state = $1, since = $2 WHERE id = $3`, RekeyLeaving, store.TimeOf(tx.Now()), work.ID); err != nil {
			return err
		}
		tx.Change(store.TopicKeyring, work.ID)
		return nil
	})
}

// finish destroys the old keys. The pass before it began when every transaction had ended that could have stored something before that became
// impossible.
func (r *Rekeyer) finish(ctx context.Context, work rekeyRow, p pass) error {
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if err := r.hold(tx, work, 0); err != nil {
			return err
		}
		if err := tx.Get(&work, selectRekey+` WHERE id = $1`, work.ID); err != nil {
			return err
		}
		for _, version := range p.old {
			if _, err := tx.Exec(`UPDATE keyring_keys SET state = $1, wrapped = $2 WHERE version = $3`, stateGone, []byte{}, int64(version)); err != nil {
				return err
			}
			if _, err := tx.Exec(`DELETE FROM keyring_wraps WHERE version = $1`, int64(version)); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`UPDATE rekeys SET state = $1, since = $2, finished_at = $2, remaining = 0 WHERE id = $3`, RekeyDone, store.TimeOf(tx.Now()), work.ID); err != nil {
			return err
		}
		tx.Change(store.TopicKeyring, work.ID)
		return tx.Record(store.Event{
			Actor: store.Actor{Kind: "system", Name: "keyring"}, Action: store.AdminRekeyed, Target: store.Target{Kind: "keyring", ID: work.ID},
			Details: store.Details{store.Int("data_key", work.To), store.Int("destroyed", int64(p.old[0])), store.Int("moved", work.Moved), store.Int("given_up", work.Unreadable)},
		})
	})
	if err != nil {
		return err
	}
	r.cfg.DB.Scrub(ctx) // the wrapped key is not to lie on in the log of SQLite
	r.cfg.Log.Info("the data key was changed, and the old one destroyed", "data_key", work.To, "moved", work.Moved, "given_up", work.Unreadable)
	return nil
}

// settled reports whether every transaction has ended that had begun to write when the triggers did not yet refuse the old keys.
func (r *Rekeyer) settled(ctx context.Context, work rekeyRow) (bool, error) {
	next, oldest, err := r.cfg.DB.Writers(ctx)
	if err != nil {
		return false, err
	}
	if r.horizon.of != work.ID {
		r.horizon.of, r.horizon.next = work.ID, next
	}
	return oldest >= r.horizon.next, nil
}

// Begin begins a change of the data key, which goes on by itself, also after a restart. The event says who begins it; it is recorded. The fault is
// rekey_running while one is under way. With giveUp, records that do not open under the old key are no reason to keep it; when a change waits for
// that, it goes on.
func (r *Rekeyer) Begin(ctx context.Context, ev store.Event, giveUp bool) (Rekey, error) {
	var id string
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock("keyring"); err != nil {
			return err
		}
		var running rekeyRow
		err := tx.Get(&running, selectRekey+` WHERE finished_at = 0`)
		switch {
		case err == nil && giveUp && running.Unreadable > 0 && running.GiveUp == 0:
			id = running.ID
			if _, err := tx.Exec(`UPDATE rekeys SET give_up = 1 WHERE id = $1`, id); err != nil {
				return err
			}
			ev.Details = append(ev.Details, store.Int("data_key", running.To), store.Int("given_up", running.Unreadable))
		case err == nil:
			return fault.New(fault.Conflict, "rekey_running", "The data key is being changed already. Wait until that is done: signalbox rekey --status tells how far it is.")
		case !errors.Is(err, store.ErrNotFound):
			return err
		default:
			if id, err = r.announce(tx, giveUp); err != nil {
				return err
			}
			var to int64
			if err := tx.Get(&to, `SELECT to_version FROM rekeys WHERE id = $1`, id); err != nil {
				return err
			}
			ev.Details = append(ev.Details, store.Int("data_key", to), store.Bool("give_up", giveUp))
		}
		ev.Target.ID = id
		tx.Change(store.TopicKeyring, id)
		return tx.Record(ev)
	})
	if err != nil {
		return Rekey{}, err
	}
	r.poke()
	return r.Status(ctx)
}

// announce makes the next data key, which opens and does not seal yet.
func (r *Rekeyer) announce(tx *store.Tx, giveUp bool) (string, error) {
	var state struct {
		Newest int64 `db:"newest"`
		Roots  int64 `db:"roots"`
		Own    int64 `db:"own"`
	}
	if r.cfg.Ring.closed() {
		return "", sealed()
	}
	if err := tx.Get(&state, `SELECT (SELECT MAX(version) FROM keyring_keys) AS newest, (SELECT COUNT(*) FROM keyring_checks) AS roots,
		(SELECT COUNT(*) FROM keyring_checks WHERE root_key_id = $1) AS own`, r.cfg.Ring.rootID); err != nil {
		return "", err
	}
	if state.Roots != 1 {
		return "", fault.New(fault.Conflict, "root_key_changing", "The keyring is wrapped by more than one root key, so no data key is made now. End the change of the root key first: signalbox rekey --root --finish, or take it back: signalbox rekey --root --abandon")
	}
	if state.Own != 1 { // a key wrapped by the root key before would open nowhere
		return "", fault.New(fault.Unavailable, "encryption_key_missing", "The root key was changed, and this server was started with the one before. Start it anew with the new root key, then begin again.")
	}
	next, give := state.Newest+1, 0
	if giveUp {
		give = 1
	}
	if err := add(tx, r.cfg.Ring.wrap, r.cfg.Ring.rootID, next, stateIncoming); err != nil {
		return "", err
	}
	id, now := store.NewID("rky"), store.TimeOf(tx.Now())
	_, err := tx.Exec(`INSERT INTO rekeys (id, to_version, state, total, moved, remaining, unreadable, give_up, holder, epoch, until, started_at, since, finished_at)
		VALUES ($1,$2,$3,0,0,0,0,$4,'',0,0,$5,$5,0)`, id, next, RekeyAnnounced, give, now)
	return id, err
}
