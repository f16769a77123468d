package ledger

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/store"
)

// told is a request as its records tell it.
func (r *Room) told(found *audit.Request, now time.Time) Request {
	out := Request{ID: found.ID, Attempts: make([]Attempt, len(found.Attempts))}
	for i := range found.Attempts {
		a, u := attemptOf(&found.Attempts[i], now)
		out.Attempts[i] = a
		if i == 0 {
			e := &found.Attempts[i].Intent
			out.At, out.Train, out.Key = e.At, Named{e.OnBehalf, u.Train}, Named{e.Actor.ID, e.Actor.Name}
			out.Method, out.Path, out.Asked, out.Sent = textOf(e, "method"), u.Path, u.Model, a.Sent
		}
		model := a.Model
		if model == "" {
			model = out.Asked
		}
		since := a.At.Sub(out.At)
		out.Credential, out.State, out.Status, out.Received, out.Model = a.Credential, a.State, a.Status, a.Received, model
		out.FirstByte, out.Duration = 0, 0
		if a.FirstByte > 0 {
			out.FirstByte = max(0, since) + a.FirstByte
		}
		if a.Outcome != "" {
			out.Duration = max(0, since) + a.Duration
		}
		out.Tools = price.Sum(out.Tools, a.Tools)
		for _, n := range [...]struct{ to, by *int64 }{{&out.Tokens.Input, &a.Tokens.Input}, {&out.Tokens.Output, &a.Tokens.Output}, {&out.Tokens.CacheRead, &a.Tokens.CacheRead},
			{&out.Tokens.CacheWrite5m, &a.Tokens.CacheWrite5m}, {&out.Tokens.CacheWrite1h, &a.Tokens.CacheWrite1h}} {
			*n.to = price.Sum(*n.to, *n.by)
		}
		out.Cost.Add(r.prices, model, a.Tokens)
	}
	return out
}

// attemptOf is one attempt, with the details of its intent.
func attemptOf(of *audit.Attempt, now time.Time) (Attempt, *lent) {
	asked := lentOf(&of.Intent)
	e := &of.Intent
	a := Attempt{
		Number: int(numberOf(e, "attempt")), Lease: asked.Lease, At: e.At, Credential: Named{e.Target.ID, e.Target.Name}, Version: numberOf(e, "version"), Host: textOf(e, "host"),
		Sent: numberOf(e, "body_bytes"), Intent: e.ID, State: Pending,
	}
	if of.Outcome == nil {
		if now.Sub(e.At) >= pendingFor {
			a.State = Unknown
		}
		return a, asked
	}
	e = of.Outcome
	l := lentOf(e)
	l.bound()
	a.Outcome, a.Result, a.Status = e.ID, l.Result, int(l.Status)
	a.FirstByte, a.Duration, a.Received = millis(e, "first_byte_ms"), millis(e, "duration_ms"), numberOf(e, "bytes")
	a.Model, a.Tools = l.Model, l.ToolCalls
	a.Tokens = price.Tokens{Input: l.Input, Output: l.Output, CacheRead: l.CacheRead, CacheWrite5m: l.CacheWrite5m, CacheWrite1h: l.CacheWrite1h}
	a.State = map[class]State{none: Unsent, complete: Complete, partial: Partial, unknown: Unknown, failed: Failed}[l.class(asked.Path == costly)]
	return a, asked
}

// lentOf reads the details of a record of a lease; what is none of ours tells nothing.
func lentOf(e *store.Event) *lent {
	var l lent
	text, err := json.Marshal(e.Details)
	if err == nil {
		err = json.Unmarshal(text, &l)
	}
	if err != nil {
		return &lent{}
	}
	return &l
}

func textOf(e *store.Event, key string) string {
	d, ok := e.Details.Get(key)
	if !ok {
		return ""
	}
	return d.Text()
}

// numberOf reads a number that is not below nothing.
func numberOf(e *store.Event, key string) int64 {
	n, err := strconv.ParseInt(textOf(e, key), 10, 64)
	if err != nil {
		return 0
	}
	return max(0, n)
}

// longest bounds a time that a record tells.
const longest = int64(100 * 24 * time.Hour / time.Millisecond)

func millis(e *store.Event, key string) time.Duration {
	return time.Duration(min(numberOf(e, key), longest)) * time.Millisecond
}

// name adds who made the keys, for those who may tell people apart.
func (r *Room) name(ctx context.Context, caller identity.Caller, list []Request) error {
	if len(list) == 0 || identity.Allow(caller, identity.UserRead) != nil {
		return nil
	}
	keys := map[string]bool{}
	for i := range list {
		keys[list[i].Key.ID] = true
	}
	return r.db.Read(ctx, func(tx *store.Tx) error {
		owners, people := map[string]string{}, map[string]bool{}
		for part := range slices.Chunk(slices.Sorted(maps.Keys(keys)), 500) {
			args := make([]any, len(part))
			for i, id := range part {
				args[i] = id
			}
			var rows []struct {
				ID    string `db:"id"`
				Owner string `db:"owner"`
			}
			if err := tx.Select(&rows, `SELECT id, owner FROM usage_subjects WHERE owner <> '' AND id IN (`+places(len(part))+`)`, args...); err != nil {
				return err
			}
			for _, row := range rows {
				owners[row.ID], people[row.Owner] = row.Owner, true
			}
		}
		names, err := peopleNames(tx, slices.Sorted(maps.Keys(people)))
		if err != nil {
			return err
		}
		for i := range list {
			id := owners[list[i].Key.ID]
			list[i].User = Named{id, names[id]}
		}
		return nil
	})
}

// peopleNames is what people are called now or, where they are gone, what the log last called them.
func peopleNames(tx *store.Tx, ids []string) (map[string]string, error) {
	out := map[string]string{}
	for part := range slices.Chunk(ids, 500) {
		args := make([]any, len(part))
		for i, id := range part {
			args[i] = id
		}
		var rows []struct {
			ID   string `db:"id"`
			Name string `db:"name"`
		}
		if err := tx.Select(&rows, `SELECT id, name FROM usage_subjects WHERE id IN (`+places(len(part))+`)`, args...); err != nil {
			return nil, err
		}
		for _, row := range rows {
			out[row.ID] = row.Name
		}
		now, err := identity.PartyNames(tx, part)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, now)
	}
	return out, nil
}
