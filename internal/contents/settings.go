package contents

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// Settings say whether a train keeps what its agents are asked and what they answer, how much of it and for how long.
type Settings struct {
	Enabled bool
	// MaxBytes bounds what is kept of a request and, apart, of its answer; TotalBytes what all that is kept takes up, sealed. Beyond that the oldest goes first.
	MaxBytes, TotalBytes int64
	// RetentionDays is after how many days it is deleted.
	RetentionDays int64
	// UpdatedAt is zero for a train that never had settings.
	UpdatedAt time.Time
	Revision  int64
	// purged is the time up to which everything was deleted.
	purged store.Time
}

// The bounds of settings.
const (
	MinBytes, MostBytes           = 1 << 10, 1 << 20
	MinTotalBytes, MostTotalBytes = 1 << 20, 1 << 40
	MostDays                      = 90
)

// Defaults are the settings of a train that nobody has set.
func Defaults() Settings {
	return Settings{MaxBytes: 256 << 10, TotalBytes: 1 << 30, RetentionDays: 7}
}

// ETag is the validator of these settings (RFC 9110, section 8.8.3).
func (s Settings) ETag() string { return `"r` + strconv.FormatInt(s.Revision, 10) + `"` }

// Patch changes settings; nil leaves one as it is.
type Patch struct {
	Enabled       *bool
	MaxBytes      *int64
	RetentionDays *int64
	TotalBytes    *int64
}

func (p Patch) check() error {
	f := fault.New(fault.Unprocessable, "validation_failed", "The settings of request logging are not usable as they are.")
	for _, one := range []struct {
		value       *int64
		least, most int64
		field       string
	}{{p.MaxBytes, MinBytes, MostBytes, "max_bytes"}, {p.TotalBytes, MinTotalBytes, MostTotalBytes, "total_bytes"}, {p.RetentionDays, 1, MostDays, "retention_days"}} {
		if one.value != nil && (*one.value < one.least || *one.value > one.most) {
			_ = f.With("/"+one.field, "must be between "+strconv.FormatInt(one.least, 10)+" and "+strconv.FormatInt(one.most, 10))
		}
	}
	if len(f.Fields) > 0 {
		return f
	}
	return nil
}

// apply changes the settings and returns the names of what changed.
func (p Patch) apply(s *Settings) (changed []string) {
	if p.Enabled != nil && *p.Enabled != s.Enabled {
		s.Enabled, changed = *p.Enabled, append(changed, "enabled")
	}
	for _, one := range []struct {
		field, to *int64
		name      string
	}{{&s.MaxBytes, p.MaxBytes, "max_bytes"}, {&s.TotalBytes, p.TotalBytes, "total_bytes"}, {&s.RetentionDays, p.RetentionDays, "retention_days"}} {
		if one.to != nil && *one.to != *one.field {
			*one.field, changed = *one.to, append(changed, one.name)
		}
	}
	return changed
}

// Owner is the train that settings are of.
type Owner struct{ ID, Slug string }

// Caller is whoever can name themselves in an event.
type Caller interface {
	Event(store.Action, store.Target) store.Event
}

type settingsRow struct {
	TrainID string     `db:"train_id"`
	Enabled int64      `db:"enabled"`
	Max     int64      `db:"max_bytes"`
	Days    int64      `db:"retention_days"`
	Total   int64      `db:"total_bytes"`
	Rev     int64      `db:"revision"`
	Updated store.Time `db:"updated_at"`
	Purged  store.Time `db:"purged_at"`
}

const settingsColumns = `train_id, enabled, max_bytes, retention_days, total_bytes, revision, updated_at, purged_at`

func (r settingsRow) settings() Settings {
	return Settings{Enabled: r.Enabled == 1, MaxBytes: r.Max, TotalBytes: r.Total, RetentionDays: r.Days, UpdatedAt: r.Updated.Time(), Revision: r.Rev, purged: r.Purged}
}

// SettingsOf returns the settings of a train.
func SettingsOf(tx *store.Tx, train string) (Settings, error) {
	var row settingsRow
	err := tx.Get(&row, `SELECT `+settingsColumns+` FROM request_logging WHERE train_id = $1`, train)
	if errors.Is(err, store.ErrNotFound) {
		return Defaults(), nil
	}
	return row.settings(), err
}

// Put changes the settings of a train, in the transaction of a caller who holds the train's row. With ifMatch they must have that ETag. expose is asked unless the change does no
// more than to switch it off: whoever keeps more can read more, and whoever keeps less can lose what somebody wanted kept.
func Put(tx *store.Tx, caller Caller, train Owner, p Patch, ifMatch string, expose func() error) (Settings, error) {
	if err := p.check(); err != nil {
		return Settings{}, err
	}
	s, err := SettingsOf(tx, train.ID)
	if err != nil {
		return Settings{}, err
	}
	if !etag.Match(ifMatch, s.ETag()) {
		return Settings{}, fault.New(fault.Precondition, "etag_mismatch", "The settings were changed since they were read. Read them again, then repeat the change.")
	}
	changed := p.apply(&s)
	if s.Enabled || slices.ContainsFunc(changed, func(field string) bool { return field != "enabled" }) {
		if err := expose(); err != nil {
			return Settings{}, err
		}
	}
	s.UpdatedAt = tx.Now()
	s.Revision++
	on := 0
	if s.Enabled {
		on = 1
	}
	now := store.TimeOf(tx.Now())
	if _, err := tx.Exec(`INSERT INTO request_logging (train_id, enabled, max_bytes, retention_days, total_bytes, revision, created_at, updated_at) VALUES ($1,$2,$3,$4,$5,$6,$7,$7)
		ON CONFLICT (train_id) DO UPDATE SET enabled = $2, max_bytes = $3, retention_days = $4, total_bytes = $5, revision = $6, updated_at = $7`,
		train.ID, on, s.MaxBytes, s.RetentionDays, s.TotalBytes, s.Revision, now); err != nil {
		return Settings{}, err
	}
	ev := caller.Event(store.TrainLogging, store.Target{Kind: "train", ID: train.ID, Name: train.Slug})
	ev.Fields = changed
	ev.Details = store.Details{store.Bool("enabled", s.Enabled), store.Int("max_bytes", s.MaxBytes), store.Int("retention_days", s.RetentionDays), store.Int("total_bytes", s.TotalBytes)}
	if err := tx.Record(ev); err != nil {
		return Settings{}, err
	}
	tx.Change(store.TopicTrain, train.ID)
	return s, nil
}

// wanting returns the settings of those of the trains that keep something; nil asks for all.
func wanting(tx *store.Tx, trains []string) (map[string]Settings, error) {
	var w store.Where
	w.Add(`enabled = 1`)
	if trains != nil {
		marks := make([]string, len(trains))
		for i, id := range trains {
			marks[i] = w.Arg(id)
		}
		w.Add(`train_id IN (` + strings.Join(marks, ",") + `)`)
	}
	var rows []settingsRow
	if err := tx.Select(&rows, `SELECT `+settingsColumns+` FROM request_logging`+w.SQL(), w.Args()...); err != nil {
		return nil, err
	}
	out := make(map[string]Settings, len(rows))
	for _, row := range rows {
		out[row.TrainID] = row.settings()
	}
	return out, nil
}
