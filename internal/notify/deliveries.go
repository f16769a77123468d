package notify

import (
	"context"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

// Delivery is what became of a message at one channel.
type Delivery struct {
	ID          string
	ChannelID   string
	ChannelName string
	Kind        Kind
	Severity    Severity
	Title       string
	State       string // waiting, delivered or failed
	Attempts    int64
	// Repeats is how many messages like it were not sent because of it, the last at LastAt.
	Repeats   int64
	LastAt    time.Time
	CreatedAt time.Time
	NextAt    *time.Time // of one that waits
	SettledAt *time.Time
	Detail    string // why the last attempt failed, in our words
}

// States returns the states of a delivery.
func States() []string { return []string{stateWaiting, stateDelivered, stateFailed} }

// Filter narrows a list of deliveries.
type Filter struct {
	Page
	State     string
	ChannelID string
	// Sees adds the condition that whoever asks reaches the train whose id the column gives, '' for none; nil is for who reaches every one.
	Sees func(tx *store.Tx, w *store.Where, column string) error
}

type deliveryRow struct {
	ID          string      `db:"id"`
	ChannelID   string      `db:"channel_id"`
	ChannelName string      `db:"name"`
	Kind        string      `db:"kind"`
	Severity    string      `db:"severity"`
	Title       string      `db:"title"`
	State       string      `db:"state"`
	Attempts    int64       `db:"attempts"`
	Repeats     int64       `db:"repeats"`
	LastAt      store.Time  `db:"last_at"`
	CreatedAt   store.Time  `db:"created_at"`
	NextAt      store.Time  `db:"next_at"`
	SettledAt   *store.Time `db:"settled_at"`
	Detail      string      `db:"detail"`
}

// ListDeliveries returns deliveries, the newest first, and the cursor of the next page, "" at the end.
func (r *Room) ListDeliveries(ctx context.Context, f Filter) ([]Delivery, string, error) {
	var w store.Where
	if f.State != "" {
		w.Add(`d.state = ?`, f.State)
	}
	if f.ChannelID != "" {
		w.Add(`d.channel_id = ?`, f.ChannelID)
	}
	if err := f.after(&w, deliveryPrefix, `d.id < ?`); err != nil {
		return nil, "", err
	}
	var rows []deliveryRow
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		rows = rows[:0]
		w := w.Clone() // PostgreSQL may run this again
		if f.Sees != nil {
			for _, column := range []string{`COALESCE(c.train_id, '')`, `m.train_id`} {
				if err := f.Sees(tx, w, column); err != nil {
					return err
				}
			}
		}
		return tx.Select(&rows, `SELECT d.id, d.channel_id, c.name, m.kind, m.severity, m.title, d.state, d.attempts, m.repeats, m.last_at, d.created_at,
				CASE WHEN c.hold_until > d.next_at THEN c.hold_until ELSE d.next_at END AS next_at, d.settled_at, d.detail
			FROM notify_deliveries d JOIN notify_messages m ON m.id = d.message_id JOIN notify_channels c ON c.id = d.channel_id`+
			w.SQL()+` ORDER BY d.id DESC LIMIT `+w.Arg(f.limit()+1)+` OFFSET `+w.Arg(max(f.Skip, 0)), w.Args()...)
	})
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > f.limit() {
		rows = rows[:f.limit()]
		next = nextCursor(rows[len(rows)-1].ID)
	}
	out := make([]Delivery, len(rows))
	for i, row := range rows {
		out[i] = Delivery{
			ID: row.ID, ChannelID: row.ChannelID, ChannelName: row.ChannelName, Kind: Kind(row.Kind), Severity: Severity(row.Severity), Title: row.Title,
			State: row.State, Attempts: row.Attempts, Repeats: row.Repeats, LastAt: row.LastAt.Time(), CreatedAt: row.CreatedAt.Time(), SettledAt: row.SettledAt.Ptr(), Detail: row.Detail,
		}
		if row.State == stateWaiting {
			at := row.NextAt.Time()
			out[i].NextAt = &at
		}
	}
	return out, next, nil
}
