package vault

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
)

// People are reminded of what ends and of what is to be rotated, in steps: 30, 14, 7 and 1 days before, on the day, and once when the day is over.
// Days are those of UTC. A step is told once for a credential and a date, whatever instances there are and however often they start: the row that
// says so is written in the transaction that stores the message and its record. A step that nobody was there to tell is passed over for the latest;
// another date begins anew.

// About says what a reminder is about.
type About string

// What there is to be reminded of.
const (
	AboutExpiry   About = "expiry"
	AboutRotation About = "rotation"
)

// Steps returns the steps in the order in which they come: days before the date, 0 on the day, -1 when it is over.
func Steps() []int { return []int{30, 14, 7, 1, 0, -1} }

const (
	day = 24 * time.Hour
	// remindBatch is how many candidates are read at a time.
	remindBatch = 500
)

// stepAt returns the latest step that has come at that moment; false before the first. With a plan of every so many days, a step that the plan itself is
// no longer than does not come: it would be told at each rotation.
func stepAt(due, now time.Time, every int) (step int, come bool) {
	left := daysLeft(due, now)
	for _, s := range Steps() {
		if left <= s && (every == 0 || s < every) {
			step, come = s, true
		}
	}
	return step, come
}

// daysLeft counts the days of UTC from now until the date.
func daysLeft(due, now time.Time) int {
	return int(due.UTC().Truncate(day).Sub(now.UTC().Truncate(day)) / day)
}

// NextReminder is when people are reminded next of the end or the rotation of a credential, at the beginning of that day of UTC; nil when nothing is to be
// told any more.
func (c Credential) NextReminder(now time.Time) (next *time.Time) {
	for _, about := range []About{AboutExpiry, AboutRotation} {
		due, every := about.of(c)
		if due == nil || c.Status == Disabled || c.Status == Compromised {
			continue
		}
		for _, step := range Steps() {
			at := due.UTC().Truncate(day).Add(-time.Duration(step) * day)
			if (every == 0 || step < every) && at.After(now) && (next == nil || at.Before(*next)) {
				next = &at
			}
		}
	}
	return next
}

// Reminded names a count of reminders.
type Reminded struct {
	About About
	Step  int
}

// reminders counts what this instance has told.
type reminders struct {
	mu     sync.Mutex
	counts map[Reminded]int64
	last   time.Time
}

// Reminders returns how many reminders this instance has stored, for each step, and when it last went through all credentials; zero before that.
func (r *Room) Reminders() (counts map[Reminded]int64, last time.Time) {
	r.reminders.mu.Lock()
	defer r.reminders.mu.Unlock()
	counts = map[Reminded]int64{}
	for _, about := range []About{AboutExpiry, AboutRotation} {
		for _, step := range Steps() {
			at := Reminded{about, step}
			counts[at] = r.reminders.counts[at]
		}
	}
	return counts, r.reminders.last
}

// candidate is a credential that may have to be told of.
type candidate struct {
	ID    string     `db:"id"`
	Due   store.Time `db:"due"`
	Every int        `db:"every"`
	Told  *int       `db:"told"` // the step; nil: none
}

// columns are the date that a reminder is about, the days of the plan, and the condition that there is a date.
func (a About) columns() (due, every, has string) {
	if a == AboutExpiry {
		return `c.expires_at`, `0`, `c.expires_at IS NOT NULL`
	}
	return rotationAt, `c.rotate_every_days`, toRotate
}

// of returns the date of a credential, nil without one, and the days of its plan.
func (a About) of(c Credential) (due *time.Time, every int) {
	if a == AboutExpiry {
		return c.ExpiresAt, 0
	}
	return c.RotationDue(), c.RotateEvery
}

// Remind stores the reminders that have come for all credentials, and returns how many. Any instance may do it, also several at once: each reminder
// is stored by one of them. One credential that fails does not hold up the others.
func (r *Room) Remind(ctx context.Context) (told int, err error) {
	var failures []error
	for _, about := range []About{AboutExpiry, AboutRotation} {
		n, err := r.remindOf(ctx, about)
		told += n
		failures = append(failures, err)
	}
	if err := errors.Join(failures...); err != nil {
		return told, err
	}
	r.reminders.mu.Lock()
	r.reminders.last = r.now()
	r.reminders.mu.Unlock()
	return told, nil
}

func (r *Room) remindOf(ctx context.Context, about About) (told int, err error) {
	var failures []error
	for after := ""; ; {
		var found []candidate
		var now time.Time
		if err := r.db.Read(ctx, func(tx *store.Tx) error {
			found, now = nil, tx.Now()
			query, args := candidates(about, after, now)
			return tx.Select(&found, query, args...)
		}); err != nil {
			return told, errors.Join(append(failures, fmt.Errorf("look for what is due: %w", err))...)
		}
		for _, c := range found {
			after = c.ID
			step, come := stepAt(c.Due.Time(), now, c.Every)
			if !come || c.Told != nil && *c.Told <= step {
				continue
			}
			did, err := r.remind(ctx, about, c.ID)
			if ctx.Err() != nil {
				return told, ctx.Err()
			}
			if err != nil {
				failures = append(failures, fmt.Errorf("remind of %s: %w", c.ID, err))
			}
			if did {
				told++
			}
		}
		if len(found) < remindBatch {
			return told, errors.Join(failures...)
		}
	}
}

// candidates is the statement for the active credentials whose date is at most 30 days away and whose last step has not been told. It is in the order of the ids by an
// expression, because for the order of the key a planner would rather go through every credential than through those with a date.
func candidates(about About, after string, now time.Time) (query string, args []any) {
	due, every, has := about.columns()
	horizon := now.UTC().Truncate(day).Add(time.Duration(Steps()[0]+1) * day)
	return `SELECT c.id, ` + due + ` AS due, ` + every + ` AS every, t.step AS told FROM credentials c
		LEFT JOIN credential_reminders t ON t.credential_id = c.id AND t.about = $1 AND t.due_at = ` + due + `
		WHERE ` + has + ` AND ` + due + ` < $2 AND c.state = 'active' AND c.id > $3 AND (t.step IS NULL OR t.step > -1) ORDER BY c.id || '' LIMIT ` + number(remindBatch),
		[]any{string(about), store.TimeOf(horizon), after}
}

// errTold rolls back: there is nothing to tell any more.
var errTold = errors.New("vault: nothing is to be told")

// remind stores the reminder of one credential, if it is still to be told: with the credential locked, so that of two instances one finds it told.
func (r *Room) remind(ctx context.Context, about About, id string) (did bool, err error) {
	var step int
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		s, err := load(tx, id, true)
		if err != nil {
			return err
		}
		due, every := about.of(s.Credential)
		if due == nil || s.state != Active {
			return errTold
		}
		var come bool
		if step, come = stepAt(*due, tx.Now(), every); !come {
			return errTold
		}
		n, err := tx.Exec(`INSERT INTO credential_reminders (credential_id, about, due_at, step, told_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (credential_id, about, due_at) DO UPDATE SET step = excluded.step, told_at = excluded.told_at WHERE credential_reminders.step > excluded.step`,
			id, string(about), store.TimeOf(*due), step, store.TimeOf(tx.Now()))
		if err != nil {
			return err
		}
		if n == 0 {
			return errTold
		}
		message, err := reminder(tx, about, s.Credential, *due, step)
		if err != nil {
			return err
		}
		if err := notify.Enqueue(tx, message); err != nil {
			return err
		}
		ev := identity.System("reminders").Event(store.CredentialReminder, s.target())
		ev.Details = store.Details{store.Str("about", string(about)), store.Str("due_at", due.UTC().Format(store.TimeFormat)), store.Int("step", int64(step))}
		return tx.Record(ev)
	})
	if errors.Is(err, errTold) || fault.KindOf(err) == fault.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r.reminders.mu.Lock()
	defer r.reminders.mu.Unlock()
	if r.reminders.counts == nil {
		r.reminders.counts = map[Reminded]int64{}
	}
	r.reminders.counts[Reminded{about, step}]++
	return true, nil
}

// reminder is what people read.
func reminder(tx *store.Tx, about About, c Credential, due time.Time, step int) (notify.Message, error) {
	date := due.UTC().Format("2006-01-02")
	m := notify.Message{Kind: notify.CredentialExpiry, Severity: notify.Info, Subject: store.Target{Kind: targetKind, ID: c.ID, Name: c.Name}}
	when := "in " + strconv.Itoa(daysLeft(due, tx.Now())) + " days, on " + date
	switch left := daysLeft(due, tx.Now()); {
	case left == 1:
		when = "tomorrow, " + date
	case left == 0:
		when = "today, " + date
	}
	if step <= 7 {
		m.Severity = notify.Warning
	}
	if about == AboutExpiry {
		m.Title = "Credential " + c.Name + " expires " + when
		m.Text = "It is not lent any more once it has expired. Get a new one where it comes from and rotate it here (cred rotate), then set its new expiry (cred edit --expires)."
		if step < 0 {
			m.Title, m.Severity = "Credential "+c.Name+" expired on "+date, notify.Critical
			m.Text = "It is not lent any more. Get a new one where it comes from and rotate it here (cred rotate), then set its new expiry (cred edit --expires); or delete it."
		}
	} else {
		m.Kind = notify.CredentialRotation
		m.Title = "Credential " + c.Name + " is to be rotated " + when
		why := "Its plan is every " + strconv.Itoa(c.RotateEvery) + " days."
		if c.RotateAt != nil && due.Equal(*c.RotateAt) {
			why = "It was contained in an incident: somebody else may know its secret."
		}
		m.Text = why + " Change the secret where it is used and rotate it here (cred rotate). Until then it goes on being lent."
		if step < 0 {
			m.Title = "Credential " + c.Name + " was to be rotated by " + date
		}
	}
	m.Facts = []notify.Fact{{Name: "Credential", Value: c.Name}, {Name: "Type", Value: string(c.Type)}, {Name: "Date", Value: due.UTC().Format(time.RFC3339)}}
	if c.Owner != "" {
		m.Facts = append(m.Facts, notify.Fact{Name: "Owner", Value: c.Owner})
	}
	for _, h := range c.homes() {
		if h.id == "" {
			continue
		}
		row, err := lookupHome(h.kind)
		if err != nil {
			return m, err
		}
		switch home, err := loadHome(tx, row, h.id, true, nil); {
		case err == nil:
			m.Facts = append(m.Facts, notify.Fact{Name: string(h.kind), Value: home.Name})
		case fault.KindOf(err) != fault.NotFound:
			return m, err
		}
	}
	return m, nil
}
