package train

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
)

// How long an account is left alone after a failure.
const (
	coolLimited     = 30 * time.Second // 429 without a retry-after
	coolLimitedMost = probeEvery       // 429 with one, whatever it says
	coolRefused     = 15 * time.Minute // 401, 403
	coolBroken      = 20 * time.Second // 5xx, and an upstream that cannot be reached
	// coolSlack is how much longer a cool-down must be than the one in force to be worth a write: requests that fail together ask for
	// nearly the same.
	coolSlack = time.Second
	// coolWrite bounds the wait for the database; the failing request waits for it.
	coolWrite = 3 * time.Second
)

// rest says how long an account rests after a failure, and why; 0 when the failure is not the account's.
func (f Failure) rest() (time.Duration, string) {
	switch {
	case f.Status == http.StatusTooManyRequests && f.spent.Model:
		return 0, "" // it serves other models
	case f.Status == http.StatusTooManyRequests:
		d, why := max(f.RetryAfter, f.spent.For), "the upstream limits its rate (429)"
		if f.spent.Window != "" {
			why = "the upstream says that its window " + f.spent.Window + " is used up (429)"
		}
		if d <= 0 {
			d = coolLimited
		}
		return min(d, coolLimitedMost), why
	case f.Status == http.StatusUnauthorized, f.Status == http.StatusForbidden:
		return coolRefused, "the upstream refuses its credential (" + strconv.Itoa(f.Status) + ")"
	case f.Status >= 500 && f.Status < 600:
		return coolBroken, "the upstream failed (" + strconv.Itoa(f.Status) + ")"
	case f.Status == 0 && f.Dial:
		return coolBroken, "the upstream could not be reached"
	}
	return 0, ""
}

// cool lets the account of an attempt rest: in this process at once, everywhere with the change feed. It reports whether this call set the
// cool-down that counts.
func (r *Room) cool(ctx context.Context, a *account, f Failure) bool {
	d, reason := f.rest()
	if d == 0 {
		return false
	}
	if now := r.lines.Load().accounts.get(a.id); now == nil || now.Version != a.Version {
		return false // deleted or rotated meanwhile: the failure was that of another secret
	}
	at := r.now()
	c := &coolDown{version: a.Version, at: at, until: at.Add(d), status: f.Status, reason: reason}
	if !a.chill(c) {
		return false
	}
	// A client that goes away does not make the account usable.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), coolWrite)
	defer cancel()
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		until := tx.Now().Add(d)
		n, err := tx.Exec(`INSERT INTO cool_downs (credential_id, version, until, status, reason, at) VALUES ($1,$2,$3,$4,$5,$6)
			ON CONFLICT (credential_id) DO UPDATE SET version = excluded.version, until = excluded.until, status = excluded.status, reason = excluded.reason, at = excluded.at
			WHERE cool_downs.version < excluded.version OR (cool_downs.version = excluded.version AND cool_downs.until < excluded.until)`,
			a.id, c.version, store.TimeOf(until), c.status, c.reason, store.TimeOf(tx.Now()))
		if err != nil {
			return err
		}
		if n == 0 {
			return errCoolingAlready
		}
		tx.Change(store.TopicCredential, a.id)
		if err := c.tell(tx, a, until); err != nil {
			return err
		}
		ev := identity.System("train").Event(store.CredentialCooling, a.target())
		ev.Reason = c.reason
		ev.Details = store.Details{store.Int("version", c.version), store.Int("status", int64(c.status)), store.Int("seconds", int64(d/time.Second)),
			store.Str("until", until.Format(store.TimeFormat))}
		return tx.Record(ev)
	})
	switch {
	case err == nil:
		kept := *c
		kept.stored = true
		a.cooling.CompareAndSwap(c, &kept) // the feed may have brought the stored one already
	case errors.Is(err, errCoolingAlready), store.IsForeignKey(err): // the feed brings the longer one, or the deletion
		return false
	default:
		r.log.Error("a cool-down is known to this instance alone", "credential", a.id, "cause", err)
	}
	return true
}

// tell has people hear of an account whose credential the upstream refuses: that does not mend itself, as a rate limit or an outage does. Those are told to the people of the trains that
// link the account.
func (c *coolDown) tell(tx *store.Tx, a *account, until time.Time) error {
	if c.status != http.StatusUnauthorized && c.status != http.StatusForbidden {
		return notify.Enqueue(tx, c.message(a, until))
	}
	return notify.Enqueue(tx, notify.Message{
		Kind: notify.AccountRefused, Subject: a.target(), DedupKey: a.id + "/" + strconv.FormatInt(c.version, 10),
		Title: "Account " + a.Name + " is refused by its upstream",
		Text: "The upstream answered " + strconv.Itoa(c.status) + ", so this account is not lent for a while; agents get another one that is linked to their train, or an error. " +
			"Check the key with its provider, then give a new one with: signalbox cred rotate",
		Facts: []notify.Fact{{Name: "Account", Value: a.Name}, {Name: "Answer", Value: strconv.Itoa(c.status)}, {Name: "Not lent until", Value: until.UTC().Format(time.RFC3339)}},
	})
}

var errCoolingAlready = errors.New("train: another instance lets the account rest for longer")

// chill sets a cool-down unless one that lasts about as long is in force. It reports whether it did.
func (a *account) chill(c *coolDown) bool {
	for {
		have := a.cooling.Load()
		if have != nil && have.version == c.version && !c.until.After(have.until.Add(coolSlack)) {
			return false
		}
		if have != nil && have.version > c.version {
			return false
		}
		if a.cooling.CompareAndSwap(have, c) {
			return true
		}
	}
}

// adopt takes over what the database says, nil for nothing. Only a cool-down that the database does not have yet may outlast that.
func (a *account) adopt(stored *coolDown) {
	for {
		have := a.cooling.Load()
		if have != nil && !have.stored && have.version == a.Version && (stored == nil || stored.version != a.Version || stored.until.Before(have.until)) {
			return
		}
		if a.cooling.CompareAndSwap(have, stored) {
			return
		}
	}
}

type coolRow struct {
	CredentialID string     `db:"credential_id"`
	Version      int64      `db:"version"`
	Until        store.Time `db:"until"`
	Status       int        `db:"status"`
	Reason       string     `db:"reason"`
	At           store.Time `db:"at"`
}

// coolChunk bounds the arguments of one query.
const coolChunk = 500

func loadCoolDowns(tx *store.Tx, ids []string) (map[string]*coolDown, error) {
	out := map[string]*coolDown{}
	for len(ids) > 0 {
		n := min(len(ids), coolChunk)
		args := make([]any, n)
		for i, id := range ids[:n] {
			args[i] = id
		}
		ids = ids[n:]
		var w store.Where
		w.Add(`credential_id IN (?`+strings.Repeat(",?", n-1)+`)`, args...)
		var rows []coolRow
		if err := tx.Select(&rows, `SELECT credential_id, version, until, status, reason, at FROM cool_downs`+w.SQL(), w.Args()...); err != nil {
			return nil, err
		}
		for _, c := range rows {
			out[c.CredentialID] = &coolDown{version: c.Version, until: c.Until.Time(), at: c.At.Time(), status: c.Status, reason: c.Reason, stored: true}
		}
	}
	return out, nil
}
