package backup

import (
	"context"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

// keepTaken is how many backups are remembered.
const keepTaken = 1000

// Taken is what the database remembers of a backup.
type Taken struct {
	ID     string       `db:"id"`
	At     store.Time   `db:"at"`
	Bytes  int64        `db:"bytes"`
	Rows   int64        `db:"rows"`
	Engine store.Engine `db:"engine"`
}

func actor(name string) store.Actor { return store.Actor{Kind: "system", ID: name, Name: name} }

// Begin records that a backup is about to be taken, before any of it leaves the database.
func Begin(ctx context.Context, db *store.DB, id string) error {
	return db.Write(ctx, func(tx *store.Tx) error {
		return tx.Record(store.Event{Actor: actor("backup"), Action: store.AdminBackup, Target: store.Target{Kind: "backup", ID: id}, Outcome: store.OutcomePending})
	})
}

// Run is a backup that is being taken.
type Run struct {
	ID string     `db:"id"`
	At store.Time `db:"at"` // when its first rows were written
	// Done of Total rows were written.
	Done  int64      `db:"done"`
	Total int64      `db:"total"`
	Seen  store.Time `db:"seen_at"` // when it last said so
}

// runSilent is how long a backup that is being taken may say nothing; then it counts as cut off.
const runSilent = 30 * time.Second

// Note writes down how far a backup is.
func Note(ctx context.Context, db *store.DB, id string, done, total int64) error {
	return db.Bookkeep(ctx, store.Counter, func(tx *store.Tx) error {
		now := store.TimeOf(tx.Now())
		n, err := tx.Exec(`UPDATE backup_runs SET done = $1, total = $2, seen_at = $3 WHERE id = $4`, done, total, now, id)
		if err != nil || n > 0 {
			return err
		}
		_, err = tx.Exec(`INSERT INTO backup_runs (id, at, done, total, seen_at) VALUES ($1, $2, $3, $4, $2)`, id, now, done, total)
		return err
	})
}

// Running returns the backups that are being taken, the oldest first, at most a few.
func Running(tx *store.Tx) ([]Run, error) {
	var out []Run
	err := tx.Select(&out, `SELECT id, at, done, total, seen_at FROM backup_runs WHERE seen_at >= $1 ORDER BY at, id LIMIT 3`, store.TimeOf(tx.Now().Add(-runSilent)))
	return out, err
}

// ended forgets how far a backup was, and those that were cut off.
func ended(tx *store.Tx, id string) error {
	_, err := tx.Exec(`DELETE FROM backup_runs WHERE id = $1 OR seen_at < $2`, id, store.TimeOf(tx.Now().Add(-runSilent)))
	return err
}

// Done remembers a backup that is on the disk, and records it.
func Done(ctx context.Context, db *store.DB, h Head, size int64) error {
	return db.Write(ctx, func(tx *store.Tx) error {
		if err := ended(tx, h.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO backups (id, at, bytes, rows, engine) VALUES ($1, $2, $3, $4, $5)`, h.ID, store.TimeOf(h.At), size, h.Rows, string(h.Engine)); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM backups WHERE id NOT IN (SELECT id FROM backups ORDER BY at DESC, id DESC LIMIT $1)`, keepTaken); err != nil {
			return err
		}
		return tx.Record(store.Event{Actor: actor("backup"), Action: store.AdminBackup, Target: store.Target{Kind: "backup", ID: h.ID},
			Details: store.Details{store.Str("backup_time", h.At.Format(store.TimeFormat)), store.Int("bytes", size), store.Int("rows", h.Rows), store.Int("schema", h.Schema)}})
	})
}

// Failed records that a backup came to nothing.
func Failed(ctx context.Context, db *store.DB, id string) error {
	return db.Write(ctx, func(tx *store.Tx) error {
		if err := ended(tx, id); err != nil {
			return err
		}
		return tx.Record(store.Event{Actor: actor("backup"), Action: store.AdminBackup, Target: store.Target{Kind: "backup", ID: id}, Outcome: store.OutcomeFailed})
	})
}

// Last returns the newest backup that the database knows of; nil when there is none.
func Last(tx *store.Tx) (*Taken, error) {
	var t Taken
	err := tx.Get(&t, `SELECT id, at, bytes, rows, engine FROM backups ORDER BY at DESC, id DESC LIMIT 1`)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &t, nil
}

// Recent returns the newest backups that the database knows of, at most so many.
func Recent(tx *store.Tx, most int) ([]Taken, error) {
	var out []Taken
	err := tx.Select(&out, `SELECT id, at, bytes, rows, engine FROM backups ORDER BY at DESC, id DESC LIMIT $1`, most)
	return out, err
}

// Restores returns the newest restores of this database, at most so many. One that no server has started on since is not among them.
func Restores(tx *store.Tx, most int) ([]Restore, error) {
	var out []Restore
	err := tx.Select(&out, `SELECT id, backup_id, backup_at, engine, schema, moved, at FROM restores WHERE recorded_at IS NOT NULL ORDER BY at DESC, id DESC LIMIT $1`, most)
	return out, err
}

// Passing names the tables whose rows a restore leaves behind, and why. What was spent or ended since the backup would else be as good as new. A
// move takes them along.
func Passing() map[string]string {
	return map[string]string{
		"sessions":           "a session that was ended since must not live again; people sign in anew",
		"refresh_tokens":     "they belong to sessions",
		"login_codes":        "they belong to sessions",
		"setup_links":        "a link that was used since must not work again",
		"user_links":         "a link that was used since must not work again",
		"passkey_challenges": "each is answered once",
		"sso_states":         "each is answered once",
		"oauth_flows":        "each is answered once",
		"rate_counters":      "they count one minute",
		"notify_contents":    "what agents were asked is told within the hour or not at all",
		"request_contents":   "what was deleted since must not come back",
		"backup_runs":        "a backup that is being taken is not taken there",
	}
}

// epochLeap lifts the epochs of elections over every one that an instance of the database before the restore can have had, so that one which wakes
// up later leads nothing.
const epochLeap = 1 << 32

// Mark notes in the transaction of a restore that there was one. The first start records it.
func Mark(tx *store.Tx, h Head, moved bool) error {
	if _, err := tx.Exec(`UPDATE elections SET holder = '', until = 0, epoch = epoch + $1`, int64(epochLeap)); err != nil {
		return err
	}
	moves := 0
	if moved {
		moves = 1
	}
	_, err := tx.Exec(`INSERT INTO restores (id, backup_id, backup_at, engine, schema, moved, at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		store.NewID("rst"), h.ID, store.TimeOf(h.At), string(h.Engine), h.Schema, moves, store.TimeOf(tx.Now()))
	return err
}

// Restore is one that the first start has not recorded yet.
type Restore struct {
	ID       string       `db:"id"`
	BackupID string       `db:"backup_id"`
	BackupAt store.Time   `db:"backup_at"`
	Engine   store.Engine `db:"engine"`
	Schema   int64        `db:"schema"`
	Moved    int64        `db:"moved"`
	At       store.Time   `db:"at"`
}

var errRecorded = errors.New("backup: another instance was quicker")

// Record records a restore that was not recorded yet, in one transaction with what the rooms do about it, and returns it; nil when there is none. Of
// several instances one does it. told is for restores after which the database shows the past, and not for moves.
func Record(ctx context.Context, db *store.DB, told func(tx *store.Tx, backupAt time.Time) error) (*Restore, error) {
	var waiting []Restore
	err := db.Read(ctx, func(tx *store.Tx) error { return unrecorded(tx, &waiting) })
	if err != nil || len(waiting) == 0 {
		return nil, err
	}
	err = db.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock("restore"); err != nil {
			return err
		}
		if err := unrecorded(tx, &waiting); err != nil {
			return err
		}
		if len(waiting) == 0 {
			return errRecorded
		}
		past := false
		for _, r := range waiting {
			past = past || r.Moved == 0
			if _, err := tx.Exec(`UPDATE restores SET recorded_at = $1 WHERE id = $2`, store.TimeOf(tx.Now()), r.ID); err != nil {
				return err
			}
			if err := tx.Record(store.Event{Actor: actor("restore"), Action: store.AdminRestore, Target: store.Target{Kind: "backup", ID: r.BackupID},
				Details: store.Details{store.Str("backup_time", r.BackupAt.Time().Format(store.TimeFormat)), store.Str("restored_at", r.At.Time().Format(store.TimeFormat)),
					store.Str("engine", string(r.Engine)), store.Int("schema", r.Schema), store.Bool("moved", r.Moved != 0)}}); err != nil {
				return err
			}
		}
		if !past {
			return nil
		}
		return told(tx, waiting[len(waiting)-1].BackupAt.Time())
	})
	if errors.Is(err, errRecorded) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &waiting[len(waiting)-1], nil
}

func unrecorded(tx *store.Tx, into *[]Restore) error {
	*into = nil
	return tx.Select(into, `SELECT id, backup_id, backup_at, engine, schema, moved, at FROM restores WHERE recorded_at IS NULL ORDER BY at, id`)
}
