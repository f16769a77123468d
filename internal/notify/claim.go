package notify

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// The states of a delivery.
const (
	stateWaiting   = "waiting"
	stateDelivered = "delivered"
	stateFailed    = "failed"
)

// How an attempt ended.
const (
	outcomeDelivered = "delivered"
	outcomeRetried   = "retried"
	outcomeFailed    = "failed"
)

// claim is a delivery that this instance may try.
type claim struct {
	dueRow
	begun    time.Time // before the claim was written, by the clock of this process
	attempts int64     // this one included
	parcel   parcel
	// broken says why it cannot be tried, and final that it never can.
	broken string
	final  bool
}

type dueRow struct {
	ID        string `db:"id"`
	ChannelID string `db:"channel_id"`
	Epoch     int64  `db:"epoch"`
}

// claim looks for what is due, a few of each channel so that none holds up the others, and claims it. Several instances may see the same;
// the epoch lets one of them have it.
func (r *Room) claim(ctx context.Context) ([]claim, error) {
	begun := time.Now()
	var due []dueRow
	var oldest store.Time
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		due = due[:0]
		now := store.TimeOf(tx.Now())
		if err := tx.Select(&due, `SELECT id, channel_id, epoch FROM (
				SELECT d.id, d.channel_id, d.epoch, ROW_NUMBER() OVER (PARTITION BY d.channel_id ORDER BY d.next_at, d.id) AS place
				FROM notify_deliveries d JOIN notify_channels c ON c.id = d.channel_id
				WHERE d.state = 'waiting' AND d.next_at <= $1 AND d.claim_until <= $1 AND c.enabled = 1 AND c.hold_until <= $1
			) AS due WHERE place <= $2 ORDER BY place, id LIMIT $3`, now, perChannel, claimBatch); err != nil {
			return err
		}
		return tx.Get(&oldest, `SELECT COALESCE(MIN(d.created_at), 0) FROM notify_deliveries d JOIN notify_channels c ON c.id = d.channel_id
			WHERE d.state = 'waiting' AND c.enabled = 1`)
	})
	if err != nil {
		return nil, err
	}
	r.tally.saw(timeOrZero(oldest))
	mine := due[:0]
	for _, d := range due {
		if r.worker.take(d.ChannelID) {
			mine = append(mine, d)
		}
	}
	if len(mine) == 0 {
		return nil, nil
	}
	// Claiming locks channels of trains; every instance does it in one order.
	slices.SortStableFunc(mine, func(a, b dueRow) int { return strings.Compare(a.ChannelID, b.ChannelID) })
	var out []claim
	err = r.db.Bookkeep(ctx, store.Outbox, func(tx *store.Tx) error {
		out = out[:0]
		for _, d := range mine {
			c, err := r.claimOne(tx, d)
			if errors.Is(err, store.ErrNotFound) {
				continue // another instance has it, or it is gone
			}
			if err != nil {
				return err
			}
			c.begun = begun
			out = append(out, c)
		}
		return nil
	})
	if err != nil {
		out = nil
	}
	held := map[string]bool{}
	for _, c := range out {
		held[c.ID] = true
	}
	for _, d := range mine {
		if !held[d.ID] {
			r.worker.give(d.ChannelID)
		}
	}
	return out, err
}

func timeOrZero(t store.Time) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return t.Time()
}

func (r *Room) claimOne(tx *store.Tx, d dueRow) (claim, error) {
	now := tx.Now()
	c := claim{dueRow: d}
	c.Epoch++
	if err := r.paced(tx, d.ChannelID); err != nil {
		return claim{}, err
	}
	err := tx.Get(&c.attempts, `UPDATE notify_deliveries SET holder = $1, epoch = $2, claim_until = $3, attempts = attempts + 1
		WHERE id = $4 AND epoch = $5 AND state = 'waiting' AND claim_until <= $6 RETURNING attempts`,
		r.holder, c.Epoch, store.TimeOf(now.Add(claimTime)), d.ID, d.Epoch, store.TimeOf(now))
	if err != nil {
		return claim{}, err
	}
	var m struct {
		ID        string     `db:"id"`
		Kind      string     `db:"kind"`
		Body      string     `db:"body"`
		CreatedAt store.Time `db:"created_at"`
	}
	if err := tx.Get(&m, `SELECT m.id, m.kind, m.body, m.created_at FROM notify_messages m JOIN notify_deliveries d ON d.message_id = m.id WHERE d.id = $1`, d.ID); err != nil {
		return claim{}, err
	}
	channel, row, err := loadChannel(tx, d.ChannelID, "")
	if err != nil {
		if fault.KindOf(err) == fault.NotFound {
			err = store.ErrNotFound
		}
		return claim{}, err
	}
	c.parcel = parcel{id: d.ID, kind: Kind(m.Kind), at: m.CreatedAt.Time(), channel: channel}
	if err := json.Unmarshal([]byte(m.Body), &c.parcel.content); err != nil {
		c.broken = "The stored message cannot be read."
	}
	if c.parcel.secrets, err = r.open(channel, row.Sealed); err != nil {
		r.log.Error("the secrets of a notification channel do not open; nothing is sent there", "channel", channel.ID, "cause", err)
		c.broken = fault.Of(err).Detail
	}
	if c.parcel.kind == Conversation && c.broken == "" {
		if c.broken, err = r.openTalk(tx, &c, m.ID); err != nil {
			return claim{}, err
		}
		c.final = c.broken != ""
	}
	return c, nil
}

// paced takes the channel's turn: the Slack channel of a train, which may be told much, is sent one message a second by all instances together. A turn that another instance has is
// like a delivery that it has.
func (r *Room) paced(tx *store.Tx, channel string) error {
	now := tx.Now()
	var ofTrain bool
	if err := tx.Get(&ofTrain, `SELECT COUNT(*) FROM notify_channels WHERE id = $1 AND train_id IS NOT NULL AND kind = 'slack'`, channel); err != nil || !ofTrain {
		return err
	}
	n, err := tx.Exec(`UPDATE notify_channels SET hold_until = $1 WHERE id = $2 AND hold_until <= $3`, store.TimeOf(now.Add(pace)), channel, store.TimeOf(now))
	if err == nil && n == 0 {
		err = store.ErrNotFound
	}
	r.worker.again(pace)
	return err
}

// settle writes down what became of a claimed delivery, if the claim still holds: whoever has taken it over decides.
func (r *Room) settle(ctx context.Context, c claim, v verdict) error {
	if v.delivered {
		return r.counted(c, outcomeDelivered, func() error {
			return r.db.Bookkeep(ctx, store.Outbox, func(tx *store.Tx) error {
				_, err := tx.Exec(`UPDATE notify_deliveries SET state = 'delivered', holder = '', claim_until = 0, detail = '', settled_at = $1
					WHERE id = $2 AND holder = $3 AND epoch = $4`, store.TimeOf(tx.Now()), c.ID, r.holder, c.Epoch)
				if err == nil && c.parcel.kind == Conversation {
					err = forget(tx, c.ID)
				}
				return err
			})
		})
	}
	wait := v.wait(c.attempts)
	if v.final || r.tooLate(ctx, c, wait) {
		return r.counted(c, outcomeFailed, func() error {
			return r.fail(ctx, []failing{{ID: c.ID, ChannelID: c.ChannelID, ChannelName: c.parcel.channel.Name, Kind: string(c.parcel.kind), Attempts: c.attempts, Detail: v.detail, Holder: r.holder, Epoch: c.Epoch}})
		})
	}
	return r.counted(c, outcomeRetried, func() error {
		return r.db.Bookkeep(ctx, store.Outbox, func(tx *store.Tx) error {
			next := store.TimeOf(tx.Now().Add(wait))
			n, err := tx.Exec(`UPDATE notify_deliveries SET holder = '', claim_until = 0, detail = $1, next_at = $2 WHERE id = $3 AND holder = $4 AND epoch = $5`,
				v.detail, next, c.ID, r.holder, c.Epoch)
			if err == nil && n == 1 && v.after > 0 {
				hold := store.TimeOf(tx.Now().Add(v.after))
				_, err = tx.Exec(`UPDATE notify_channels SET hold_until = $1 WHERE id = $2 AND hold_until < $1`, hold, c.ChannelID)
			}
			return err
		})
	})
}

func (r *Room) counted(c claim, outcome string, write func() error) error {
	err := write()
	if err == nil {
		r.tally.count(c.parcel.channel.Kind, outcome)
	}
	return err
}

// tooLate reports whether the next attempt would come after the end of the delivery's life. Without the database's time it is not known,
// and what is not known is settled later.
func (r *Room) tooLate(ctx context.Context, c claim, wait time.Duration) bool {
	late := false
	_ = r.db.Read(ctx, func(tx *store.Tx) error {
		late = tx.Now().Add(wait).Sub(c.parcel.at) >= life(c.parcel.kind)
		return nil
	})
	return late
}

// failing is a delivery that is not tried any more.
type failing struct {
	ID          string `db:"id"`
	ChannelID   string `db:"channel_id"`
	ChannelName string `db:"name"`
	ChannelKind string `db:"channel_kind"`
	Kind        string `db:"kind"`
	Attempts    int64  `db:"attempts"`
	Detail      string `db:"detail"`
	Holder      string `db:"holder"`
	Epoch       int64  `db:"epoch"`
}

var errNothingFailed = errors.New("notify: another instance has settled it")

// fail gives deliveries up, and records that: somebody was not told.
func (r *Room) fail(ctx context.Context, all []failing) error {
	var given []failing
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		given = given[:0]
		for _, f := range all {
			n, err := tx.Exec(`UPDATE notify_deliveries SET state = 'failed', holder = '', claim_until = 0, detail = $1, settled_at = $2
				WHERE id = $3 AND state = 'waiting' AND holder = $4 AND epoch = $5`, f.Detail, store.TimeOf(tx.Now()), f.ID, f.Holder, f.Epoch)
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			given = append(given, f)
			if Kind(f.Kind) == Conversation {
				if err := forget(tx, f.ID); err != nil {
					return err
				}
			}
			if err := tx.Record(store.Event{
				Actor: store.Actor{Kind: "system", ID: "notify", Name: "notify"}, Action: store.NotifyFailed, Outcome: store.OutcomeFailed, Reason: f.Detail,
				Target:  store.Target{Kind: "notification_channel", ID: f.ChannelID, Name: f.ChannelName},
				Details: store.Details{store.Str("delivery", f.ID), store.Str("kind", f.Kind), store.Int("attempts", f.Attempts)},
			}); err != nil {
				return err
			}
		}
		if len(given) == 0 {
			return errNothingFailed
		}
		return nil
	})
	if errors.Is(err, errNothingFailed) {
		return nil
	}
	if err == nil {
		for _, f := range given {
			r.log.Warn("a notification was given up; nobody was told by this channel", "delivery", f.ID, "channel", f.ChannelID, "kind", f.Kind, "attempts", f.Attempts, "detail", f.Detail)
		}
	}
	return err
}

// expire gives up what has waited for a day and is not being tried, that of disabled channels included.
func (r *Room) expire(ctx context.Context) error {
	var old []failing
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		old = old[:0]
		now := tx.Now()
		return tx.Select(&old, `SELECT d.id, d.channel_id, c.name, c.kind AS channel_kind, m.kind, d.attempts, d.detail, d.holder, d.epoch
			FROM notify_deliveries d JOIN notify_channels c ON c.id = d.channel_id JOIN notify_messages m ON m.id = d.message_id
			WHERE d.state = 'waiting' AND d.claim_until <= $1 AND (d.created_at <= $2 OR d.created_at <= $3 AND m.kind = $4) ORDER BY d.id LIMIT $5`,
			store.TimeOf(now), store.TimeOf(now.Add(-lifetime)), store.TimeOf(now.Add(-talkLife)), string(Conversation), claimBatch)
	})
	if err != nil || len(old) == 0 {
		return err
	}
	for i := range old {
		if old[i].Attempts == 0 {
			old[i].Detail = "It waited for " + strconv.Itoa(int(life(Kind(old[i].Kind)).Hours())) + " h and was never tried: the channel was disabled, or nobody delivered."
		}
	}
	if err := r.fail(ctx, old); err != nil {
		return err
	}
	for _, f := range old {
		r.tally.count(ChannelKind(f.ChannelKind), outcomeFailed)
	}
	return nil
}
