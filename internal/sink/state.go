package sink

import (
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/store"
)

// State is where a sink stands.
type State struct {
	ID      string
	Name    string
	Kind    Kind
	Carries Carries
	Enabled bool
	// Position is how many leaves the receiver has, or how many the newest checkpoint covers that it has.
	Position int64
	// Behind is how many leaves it lacks, or how many are under a newer checkpoint than it has; Since when the first of that came, zero when it has all.
	Behind int64
	Since  time.Time
	// Failures counts the tries that failed since the last one that did not; Detail says why the last failed, and NextAt is the next try.
	Failures int64
	Detail   string
	NextAt   time.Time
	SentAt   time.Time // zero before the first delivery

	every  time.Duration
	holder string
	epoch  int64
	until  time.Time
}

// lateRecords and lateBeyond say from when on a sink is late: records wait for so long, or a checkpoint for so much longer than the interval.
const (
	lateRecords = 5 * time.Minute
	lateBeyond  = 15 * time.Minute
)

// Late reports whether a sink that is to send lacks something for longer than it should.
func (s State) Late(now time.Time) bool {
	if !s.Enabled || s.Behind <= 0 || s.Since.IsZero() {
		return false
	}
	patience := lateRecords
	if s.Carries == Checkpoints {
		patience = s.every + lateBeyond
	}
	return now.Sub(s.Since) > patience
}

// Word is the state in one word: paused, failing, late, catching_up or current.
func (s State) Word(now time.Time) string {
	switch {
	case !s.Enabled:
		return "paused"
	case s.Failures > 0:
		return "failing"
	case s.Late(now):
		return "late"
	case s.Behind > 0 && s.Carries == Records:
		return "catching_up"
	}
	return "current"
}

// Words returns all that [State.Word] can say.
func Words() []string { return []string{"current", "catching_up", "late", "failing", "paused"} }

type cursorRow struct {
	ID       string     `db:"id"`
	Name     string     `db:"name"`
	Kind     string     `db:"kind"`
	Carries  string     `db:"carries"`
	Enabled  bool       `db:"enabled"`
	Settings string     `db:"settings"`
	Position int64      `db:"position"`
	Holder   string     `db:"holder"`
	Epoch    int64      `db:"epoch"`
	Until    store.Time `db:"until"`
	Failures int64      `db:"failures"`
	NextAt   store.Time `db:"next_at"`
	Detail   string     `db:"detail"`
	SentAt   store.Time `db:"sent_at"`
}

func timeOrZero(t store.Time) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return t.Time()
}

// states reads where all sinks stand.
func states(tx *store.Tx) ([]State, error) {
	var rows []cursorRow
	if err := tx.Select(&rows, `SELECT s.id, s.name, s.kind, s.carries, s.enabled, s.settings, c.position, c.holder, c.epoch, c.until, c.failures, c.next_at, c.detail, c.sent_at
		FROM audit_sinks s JOIN audit_sink_cursors c ON c.sink_id = s.id ORDER BY s.id LIMIT $1`, sinksMax); err != nil || len(rows) == 0 {
		return nil, err
	}
	size, signed, err := audit.Extent(tx)
	if err != nil {
		return nil, err
	}
	out := make([]State, len(rows))
	for i, row := range rows {
		if out[i], err = row.state(tx, size, signed); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (row cursorRow) state(tx *store.Tx, size, signed int64) (State, error) {
	s := State{
		ID: row.ID, Name: row.Name, Kind: Kind(row.Kind), Carries: Carries(row.Carries), Enabled: row.Enabled, Position: row.Position, Failures: row.Failures, Detail: row.Detail,
		NextAt: timeOrZero(row.NextAt), SentAt: timeOrZero(row.SentAt), holder: row.Holder, epoch: row.Epoch, until: row.Until.Time(),
	}
	set, err := readSettings(row.ID, row.Settings)
	if err != nil {
		return State{}, err
	}
	s.every = time.Duration(set.Every) * time.Second
	if s.Carries == Checkpoints {
		if s.Behind = max(0, signed-s.Position); s.Behind > 0 {
			s.Since, err = audit.SignedAfter(tx, s.Position)
		}
		return s, err
	}
	if s.Behind = max(0, size-s.Position); s.Behind > 0 {
		s.Since, err = audit.RecordedAt(tx, s.Position)
	}
	return s, err
}
