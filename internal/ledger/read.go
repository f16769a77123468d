package ledger

import (
	"context"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/store"
)

// Group is what sums are told apart by.
type Group string

// The groups.
const (
	ByHour       Group = "hour"
	ByDay        Group = "day"
	ByMonth      Group = "month"
	ByTrain      Group = "train"
	ByCredential Group = "credential"
	ByKey        Group = "client_key"
	ByUser       Group = "user"
	ByModel      Group = "model"
)

// Groups returns every group.
func Groups() []Group {
	return []Group{ByHour, ByDay, ByMonth, ByTrain, ByCredential, ByKey, ByUser, ByModel}
}

const (
	// pendingFor is how long an intent without an outcome counts as under way, as in the audit log.
	pendingFor = 15 * time.Minute
	// defaultRange is what is told of when nobody says of when.
	defaultRange = 24 * time.Hour
	// hoursMost, daysMost and monthsMost bound how far hours, days and everything else can be told of at once.
	hoursMost, daysMost, monthsMost = 93 * 24 * time.Hour, 1100 * 24 * time.Hour, 200 * 366 * 24 * time.Hour
	// firstYear and lastYear bound what can be asked for: what is told as well has a year of four digits, in any zone.
	firstYear, lastYear = 1970, 9998
	// groupsMost bounds the rows that are held in memory.
	groupsMost = 100_000
	// DefaultLimit and MaxLimit are how many rows a page has.
	DefaultLimit, MaxLimit = 1000, 10_000
)

// Query says of what usage is to be told.
type Query struct {
	// From is the earliest time and To the time before which; both are taken to the hour that holds them. Without From it is 24 hours before To, without To it is now.
	From, To time.Time
	// By is what the sums are told apart by, at most one of hours, days and months among it; nothing means one sum of all.
	By []Group
	// Train (by slug or id), Credential, Key, User (by their ids) and Model, where they are not empty, narrow what is counted.
	Train, Credential, Key, User, Model string
	Limit                               int
	Cursor                              string
}

// Used is a sum. Requests are those that were lent for and may have been sent, one for each account that was tried; the five below add up to them.
type Used struct {
	Requests, Complete, Partial, Unknown, Failed, Pending           int64
	Input, Output, CacheRead, CacheWrite5m, CacheWrite1h, ToolCalls int64
	// Cost is what the tokens cost; that of requests whose cost is unknown is not in it, and of partial ones only what was told.
	Cost price.Cost
}

// Named is something with what it is or was last called.
type Named struct{ ID, Name string }

// Row is a sum of one group. Of what is not told apart by, the fields are empty.
type Row struct {
	Begins                       time.Time
	Train, Credential, Key, User Named
	Model                        string
	Used
}

// Report is the answer to a query.
type Report struct {
	From, To time.Time
	// Rows are in the order of time, then of ids, then of the model.
	Rows []Row
	// Total is the sum of all rows, those of other pages too.
	Total Used
	// Next leads to the page after this one; "" is the last.
	Next string
	// Progress is how far the sums are with the log.
	Progress
	// OwnKeys says that client keys which the caller did not make, of trains that they do not own, are told as one, without id and name.
	OwnKeys bool
	// PricesOf is the day on which the built-in prices were read.
	PricesOf string
}

// lineRow is a row of usage_lines.
type lineRow struct {
	ID         int64  `db:"id"`
	Train      string `db:"train_id"`
	Credential string `db:"credential_id"`
	Key        string `db:"key_id"`
	User       string `db:"user_id"`
	Model      string `db:"model"`
}

// Read tells what was used by the trains that the caller reaches, and sums of no others; whoever has that only for what is theirs is told of client keys one by one as far as they made them, or own the train. It needs usage:read, and users:read where it tells people apart or asks for one.
func (r *Room) Read(ctx context.Context, caller identity.Caller, q Query) (Report, error) {
	if err := r.allow(ctx, caller, q); err != nil {
		return Report{}, err
	}
	if err := q.check(); err != nil {
		return Report{}, err
	}
	var out Report
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		s, err := newSummary(tx, caller, q, r.prices)
		if err != nil {
			return err
		}
		if err := s.read(); err != nil {
			return err
		}
		out, err = s.report()
		return err
	})
	return out, err
}

func (r *Room) allow(ctx context.Context, caller identity.Caller, q Query) error {
	target := store.Target{Kind: "usage"}
	if err := r.identity.PermitWithin(ctx, caller, identity.UsageRead, target); err != nil { // newSummary narrows
		return err
	}
	if q.User == "" && !slices.Contains(q.By, ByUser) {
		return nil
	}
	return r.identity.Permit(ctx, caller, identity.UserRead, target)
}

// check refuses what cannot be asked, and fills what was left out but for times.
func (q *Query) check() error {
	seen := map[Group]bool{}
	times := 0
	for _, g := range q.By {
		if !slices.Contains(Groups(), g) || seen[g] {
			return invalid("query.group_by", "must name each of hour, day, month, train, credential, client_key, user and model once at most, separated by commas")
		}
		seen[g] = true
		if g.isTime() {
			times++
		}
	}
	if times > 1 {
		return invalid("query.group_by", "can name one of hour, day and month")
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	if q.Limit < 0 || q.Limit > MaxLimit {
		return invalid("query.limit", "must be from 1 to 10000")
	}
	return nil
}

func (g Group) isTime() bool { return g == ByHour || g == ByDay || g == ByMonth }

func invalid(where, what string) error {
	detail := "The question about usage cannot be answered as it is."
	if where == "query.cursor" { // as every list has it
		detail = "The cursor is not one that this list returned. Begin the list again without a cursor."
	}
	return fault.New(fault.Unprocessable, "validation_failed", detail).With(where, what)
}

// bounds fills the times that were left out and takes them to whole hours.
func (q *Query) bounds(now time.Time) error {
	for _, t := range [...]struct {
		where string
		at    time.Time
	}{{"query.from", q.From}, {"query.to", q.To}} {
		if year := t.at.UTC().Year(); !t.at.IsZero() && (year < firstYear || year > lastYear) {
			return invalid(t.where, "must be of a year from 1970 to 9998")
		}
	}
	if q.To.IsZero() {
		q.To = now
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-defaultRange)
	}
	if whole := q.To.UTC().Truncate(time.Hour); whole.Before(q.To) {
		q.To = whole.Add(time.Hour)
	} else {
		q.To = whole
	}
	q.From = q.From.UTC().Truncate(time.Hour)
	if !q.From.Before(q.To) {
		return invalid("query.from", "must be before to")
	}
	span, word := monthsMost, "200 years"
	switch {
	case slices.Contains(q.By, ByHour):
		span, word = hoursMost, "93 days when it is told by the hour"
	case slices.Contains(q.By, ByDay):
		span, word = daysMost, "1100 days when it is told by the day"
	}
	if q.To.Sub(q.From) > span {
		return invalid("query.from", "must be no further from to than "+word)
	}
	return nil
}
