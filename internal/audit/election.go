package audit

import (
	"context"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

// electionName is the row of the table elections that sequencers compete for.
const electionName = "audit"

// errFenced says that another instance has the election, or that somebody other than this instance changed the size of the log.
var errFenced = errors.New("audit: this instance does not sequence the log at the moment")

// standFor says what makes an instance stand for election.
type standFor int

const (
	// standForRecords: when records wait and the leader has done nothing about them.
	standForRecords standFor = iota
	// standForSigning: likewise, however old the records are, or when leaves have stayed unsigned for too long.
	standForSigning
	// standNow: at once. It is safe at any time, because whoever loses the election cannot write.
	standNow
)

// enrol makes the row that is competed for.
func (l *Log) enrol(ctx context.Context) error {
	return l.db.Bookkeep(ctx, store.Election, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO elections (name, holder, epoch, until) VALUES ($1,$2,$3,$4) ON CONFLICT DO NOTHING`, electionName, "", 0, 0)
		return err
	})
}

// term is how long a leader that does nothing keeps the election. Each transaction of the sequencer prolongs it. A leader that has
// nothing to do lets it lapse and writes nothing: what keeps others from writing in its name is the epoch, not the time.
func (l *Log) term() time.Duration { return max(5*l.every, time.Second) }

type electionRow struct {
	Holder   string     `db:"holder"`
	Epoch    int64      `db:"epoch"`
	Until    store.Time `db:"until"`
	Pending  int64      `db:"pending"`
	Size     int64      `db:"size"`
	Unsigned int64      `db:"unsigned"`
	SignedAt store.Time `db:"signed_at"`
}

// stand takes the election when there is reason to, and returns without one when there is not.
func (l *Log) stand(ctx context.Context, why standFor) error {
	if l.epoch != 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stepDeadline)
	defer cancel()
	far := recent
	if why == standForSigning {
		far = thorough
	}
	var row electionRow
	var now time.Time
	err := l.db.Read(ctx, func(tx *store.Tx) error {
		now = tx.Now()
		return tx.Get(&row, `SELECT holder, epoch, until, size, (SELECT COUNT(*) FROM (SELECT 1 FROM audit_pending WHERE source_id >= $2 LIMIT 1) AS p) AS pending,
			size - COALESCE((SELECT MAX(size) FROM audit_checkpoints), 0) AS unsigned,
			COALESCE((SELECT at FROM audit_checkpoints ORDER BY size DESC LIMIT 1), 0) AS signed_at
			FROM elections, (SELECT COALESCE((SELECT first_leaf + count FROM audit_leaves ORDER BY first_leaf DESC LIMIT 1), 0) AS size) AS s
			WHERE name = $1`, electionName, far.floor())
	})
	if err != nil {
		return err
	}
	l.saw(row.Size, row.Size-row.Unsigned, signedAt(row.SignedAt))
	if !l.electable(row, now, why) {
		return nil
	}
	var won int64
	err = l.db.Bookkeep(ctx, store.Election, func(tx *store.Tx) error {
		var err error
		won, err = tx.Exec(`UPDATE elections SET holder = $1, epoch = epoch + 1, until = $2 WHERE name = $3 AND epoch = $4`,
			l.holder, store.TimeOf(tx.Now().Add(l.term())), electionName, row.Epoch)
		return err
	})
	if err != nil || won == 0 {
		return err
	}
	l.epoch, l.lapsed, l.right = row.Epoch+1, 0, nil
	return nil
}

// signedAt is the zero time for the zero that stands for no checkpoint.
func signedAt(t store.Time) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return t.Time()
}

// electable decides whether to take the election from its holder. A holder that is alive prolongs a lapsed term with its next pass, so
// others wait for two of their own.
func (l *Log) electable(row electionRow, now time.Time, why standFor) bool {
	if why == standNow {
		return true
	}
	patience := time.Duration(0)
	if row.Pending == 0 {
		if why != standForSigning || row.Unsigned <= 0 {
			l.lapsed = 0
			return false
		}
		patience = 2 * l.signEvery // the holder signs at its own time
	}
	if row.Holder == "" {
		return true
	}
	if now.Before(row.Until.Time().Add(patience)) {
		l.lapsed = 0
		return false
	}
	l.lapsed++
	return l.lapsed >= 2 || patience > 0
}

// fence begins each transaction of the sequencer: it proves that this instance still leads and that the log in the database ends where
// this instance believes, prolongs the term, and holds off every other candidate until the transaction ends.
func (l *Log) fence(tx *store.Tx) error {
	n, err := tx.Exec(`UPDATE elections SET until = $1 WHERE name = $2 AND holder = $3 AND epoch = $4
		AND (SELECT COALESCE(MAX(first_leaf), -1) FROM audit_leaves) = $5`,
		store.TimeOf(tx.Now().Add(l.term())), electionName, l.holder, l.epoch, l.last)
	if err == nil && n != 1 {
		err = errFenced
	}
	return err
}

// stepDown forgets what is only true while this instance leads.
func (l *Log) stepDown() { l.epoch, l.lapsed, l.right, l.index = 0, 0, nil, nil }

// resign gives the election back.
func (l *Log) resign(ctx context.Context) error {
	epoch := l.epoch
	l.stepDown()
	return l.db.Bookkeep(ctx, store.Election, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE elections SET holder = $1, until = $2 WHERE name = $3 AND holder = $4 AND epoch = $5`, "", 0, electionName, l.holder, epoch)
		return err
	})
}
