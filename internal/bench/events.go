package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// eventActs is one in how many events is an act of a person, in a row of its own; the others are uses, an intent and an outcome each.
	eventActs = 10
	// actsTogether is how many acts share a transaction, and actWriters how many transactions there are at once.
	actsTogether, actWriters = 1000, 4
	// eventCallers is how many uses there are at once; with so many, as on a busy server, a batch has some 60 records.
	eventCallers = 32
)

// subjects are whom and what the events of a log are about.
type subjects struct {
	credentials, keys, trains, people, tokens []string
}

// fill makes a log of n events in the database of an instance that is not running: uses through the group commit, as requests make them, and acts of
// people.
func fill(dir, url string, n int, of subjects) error {
	ctx := context.Background()
	cfg := store.Config{DataDir: dir}
	if url != "" {
		cfg.PostgresURL = secret.FromString(url)
	}
	db, err := store.Open(ctx, cfg)
	if err != nil {
		return err
	}
	if err := db.Start(ctx); err != nil {
		return errors.Join(err, db.Close())
	}
	var failed atomic.Pointer[error]
	var acts, uses atomic.Int64
	acts.Store(int64(n / eventActs / actsTogether))
	uses.Store(int64((n - n/eventActs) / 2))
	crowd(actWriters, func(int) {
		for acts.Add(-1) >= 0 && failed.Load() == nil {
			err := db.Write(ctx, func(tx *store.Tx) error {
				for range actsTogether {
					if err := tx.Record(act(of)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				failed.Store(&err)
			}
		}
	})
	crowd(eventCallers, func(int) {
		for uses.Add(-1) >= 0 && failed.Load() == nil {
			if err := use(ctx, db, of); err != nil {
				failed.Store(&err)
			}
		}
	})
	err = db.Close() // it stores the last outcomes
	if lost := db.LostOutcomes(); lost > 0 {
		err = errors.Join(err, fmt.Errorf("%d outcomes are lost", lost))
	}
	if first := failed.Load(); first != nil {
		err = errors.Join(*first, err)
	}
	return err
}

func pick(list []string) string { return list[rand.IntN(len(list))] }

// act is something that a person did, in half the cases by a token of theirs.
func act(of subjects) store.Event {
	e := store.Event{Actor: store.Actor{Kind: "person", ID: pick(of.people), Name: "Somebody of the team"}, RequestID: store.NewID("req"), IP: "192.0.2.1", UserAgent: "bench/1", Outcome: store.OutcomeOK}
	e.Target = store.Target{Kind: "credential", ID: pick(of.credentials), Name: "grown"}
	if rand.IntN(2) == 0 {
		e.OnBehalf = e.Actor.ID
		e.Actor = store.Actor{Kind: "token", ID: pick(of.tokens), Name: "bench"}
	}
	switch rand.IntN(20) {
	case 0:
		e.Action, e.Reason = store.CredentialReveal, "hand-over"
	case 1:
		e.Action, e.Outcome, e.Reason = store.CredentialRefused, store.OutcomeRefused, "forbidden"
	case 2, 3:
		e.Action, e.Fields = store.CredentialUpdate, []string{"description", "tags"}
	default:
		e.Action = store.CredentialView
	}
	return e
}

// use is a credential that was lent for a request, and what became of that; one in fifty fails.
func use(ctx context.Context, db *store.DB, of subjects) error {
	i := rand.IntN(len(of.keys))
	lease := store.NewID("lease")
	e := store.Event{Actor: store.Actor{Kind: "client_key", ID: of.keys[i], Name: "bench"}, OnBehalf: of.trains[i], Action: store.LeaseGranted, Outcome: store.OutcomePending,
		Target: store.Target{Kind: "credential", ID: of.credentials[i], Name: fmt.Sprintf("grown-%06d", i)}, RequestID: store.NewID("req"), IP: "192.0.2.1", UserAgent: "bench/1"}
	e.Details = store.Details{store.Str("lease", lease), store.Str("train", fmt.Sprintf("grown-%06d", i)), store.Int("version", 1), store.Int("attempt", 1), store.Str("method", http.MethodPost),
		store.Str("path", "/v1/messages"), store.Str("model", "claude"), store.Str("host", "127.0.0.1"), store.Int("body_bytes", 200)}
	if _, err := db.Append(ctx, e); err != nil {
		return err
	}
	e.Action, e.Outcome, e.IP, e.UserAgent = store.LeaseOutcome, store.OutcomeOK, "", ""
	result := "ok"
	if rand.IntN(50) == 0 {
		result, e.Outcome, e.Reason = "upstream_error", store.OutcomeFailed, "upstream_error"
	}
	e.Details = store.Details{store.Str("lease", lease), store.Int("attempt", 1), store.Str("result", result), store.Int("status", 200), store.Int("bytes", 1000), store.Int("first_byte_ms", 3),
		store.Int("duration_ms", 9)}
	db.AppendLater(e)
	return nil
}

// about makes so many people, and some tokens, and returns whom and what there is.
func (p *proxy) about(trains, people int) (of subjects, err error) {
	of.credentials = p.ids
	for i := range trains {
		var t struct {
			Train struct{ ID string } `json:"train"`
		}
		var keys struct {
			Keys []struct{ ID string } `json:"api_keys"`
		}
		slug := fmt.Sprintf("grown-%06d", i)
		if err := errors.Join(p.get("/api/trains/"+slug, &t), p.get("/api/trains/"+slug+"/api-keys", &keys)); err != nil {
			return of, err
		}
		of.trains, of.keys = append(of.trains, t.Train.ID), append(of.keys, keys.Keys[0].ID)
	}
	for i := range people {
		var u struct {
			User struct{ ID string } `json:"user"`
		}
		if err := p.call(p.token, "/api/users", map[string]string{"email": fmt.Sprintf("person-%04d@example.com", i), "name": fmt.Sprintf("Person %04d", i), "role": "member"}, &u); err != nil {
			return of, err
		}
		of.people = append(of.people, u.User.ID)
	}
	for i := range people / 20 { // one person may have so many
		var t struct {
			Token struct{ ID string } `json:"token"`
		}
		if err := p.call(p.token, "/api/tokens", map[string]string{"name": fmt.Sprintf("bench %04d", i)}, &t); err != nil {
			return of, err
		}
		of.tokens = append(of.tokens, t.Token.ID)
	}
	return of, nil
}

// settled waits until all of the log is sequenced and searchable.
func (p *proxy) settled(n int) error {
	for until := time.Now().Add(5 * time.Minute); time.Now().Before(until); time.Sleep(time.Second) {
		var got struct {
			Checkpoint struct {
				Size int `json:"size"`
			} `json:"checkpoint"`
		}
		if err := p.get("/api/audit/checkpoint", &got); err == nil && got.Checkpoint.Size >= n {
			return p.rested(until)
		}
	}
	return errors.New("the log was not sequenced in five minutes")
}

// rested waits until the instance has nothing left to do of its own: the detectors judge each record of a log that was filled while nobody served.
func (p *proxy) rested(until time.Time) error {
	for time.Now().Before(until) {
		before := p.busy()
		time.Sleep(2 * time.Second)
		if p.busy()-before < 100*time.Millisecond {
			return nil
		}
	}
	return errors.New("the instance did not come to rest in five minutes")
}
