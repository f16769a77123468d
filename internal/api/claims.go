package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// The states of a claim.
const (
	stateActed  = "acted"  // carried out; the answer is not there (yet)
	stateKept   = "kept"   // carried out; the answer is there
	stateIssued = "issued" // carried out; the answer showed a secret and is never kept
)

// ringPurpose separates these keyed hashes and sealed answers from all others.
const ringPurpose = "idempotency"

// claim is a request that wants its key.
type claim struct {
	id                  string
	route               route
	train               string // that the path names, "" for none
	body, request, mac  []byte
	instance, requestID string
}

// claimID names a key of a caller, without either. The key of one caller is nothing to another.
func claimID(caller, key string) string {
	sum := sha256.Sum256([]byte(caller + "\x00" + key))
	return hex.EncodeToString(sum[:])
}

func answerAAD(id string) secret.AAD {
	return secret.AAD{Table: "idempotency_keys", ID: id, Field: "answer"}
}

// insert claims the key in the transaction of the act. A claim that is there already rolls the act back: on PostgreSQL it waits for the
// other's transaction first.
func (c claim) insert(tx *store.Tx) error {
	act, _ := tx.Act()
	made := act.Target.ID
	if successor, ok := act.Details.Get("successor"); ok {
		made = successor.Text()
	}
	state := stateActed
	if c.route.showsSecret {
		state = stateIssued
	}
	if _, err := tx.Exec(`DELETE FROM idempotency_keys WHERE id = $1 AND created_at < $2`, c.id, store.TimeOf(tx.Now().Add(-keptFor))); err != nil {
		return err
	}
	n, err := tx.Exec(`INSERT INTO idempotency_keys (id, route, request, state, action, target_id, instance, request_id, created_at)
		VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9) ON CONFLICT DO NOTHING`,
		c.id, c.route.id, c.mac, state, string(act.Action), made, c.instance, c.requestID, store.TimeOf(tx.Now()))
	if err == nil && n == 0 {
		err = inProgress()
	}
	return err
}

// claimRow is the row of a claim.
type claimRow struct {
	ID        string     `db:"id"`
	Route     string     `db:"route"`
	Request   []byte     `db:"request"`
	State     string     `db:"state"`
	Action    string     `db:"action"`
	TargetID  string     `db:"target_id"`
	Instance  string     `db:"instance"`
	RequestID string     `db:"request_id"`
	Answer    []byte     `db:"answer"`
	CreatedAt store.Time `db:"created_at"`
	age       time.Duration
}

// claimed returns the row of a key, or [store.ErrNotFound].
func (s *service) claimed(ctx context.Context, id string) (claimRow, error) {
	var row claimRow
	err := s.DB.Read(ctx, func(tx *store.Tx) error {
		row = claimRow{}
		err := tx.Get(&row, `SELECT id, route, request, state, action, target_id, instance, request_id, answer, created_at FROM idempotency_keys
			WHERE id = $1 AND created_at >= $2`, id, store.TimeOf(tx.Now().Add(-keptFor)))
		row.age = tx.Now().Sub(row.CreatedAt.Time())
		return err
	})
	return row, err
}

// keepAnswer stores the sealed answer beside its claim. It is done even if the client has gone: it will ask again.
func (s *service) keepAnswer(ctx context.Context, c claim, answer secret.Value) error {
	box, err := s.Ring.Seal(ringPurpose, answer, answerAAD(c.id))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
	defer cancel()
	return s.DB.Bookkeep(ctx, store.Replay, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE idempotency_keys SET state = $1, answer = $2 WHERE id = $3 AND request_id = $4`, stateKept, box, c.id, c.requestID)
		return err
	})
}

// release gives the key back after a request that made nothing and failed.
func (s *service) release(ctx context.Context, c claim) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
	defer cancel()
	err := s.DB.Bookkeep(ctx, store.Replay, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM idempotency_keys WHERE id = $1 AND request_id = $2`, c.id, c.requestID)
		return err
	})
	if err != nil {
		s.Log.WarnContext(ctx, "an Idempotency-Key was not given back", "request_id", c.requestID, "route", c.route.id, "cause", err)
	}
}

// trimBatch bounds one transaction of the trimming.
const trimBatch = 500

// trim removes the claims that are past their time.
func (s *service) trim(ctx context.Context) error {
	for {
		var n int64
		err := s.DB.Bookkeep(ctx, store.Replay, func(tx *store.Tx) (err error) {
			n, err = tx.Exec(`DELETE FROM idempotency_keys WHERE id IN (SELECT id FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2)`,
				store.TimeOf(tx.Now().Add(-keptFor)), trimBatch)
			return err
		})
		if err != nil || n < trimBatch {
			return err
		}
	}
}

// lost says what was done when its answer is not known.
func (r claimRow) lost() *fault.Error {
	return fault.New(fault.Conflict, "idempotency_answer_lost", "The first request with this Idempotency-Key was carried out ("+r.Action+" of "+r.TargetID+
		"), but its answer was not kept. Do not repeat it with a new key; read "+r.TargetID+" to see what it is now.")
}

// issued says what was shown once.
func (r claimRow) issued(of route) *fault.Error {
	if of.makesNothing {
		return fault.New(fault.Conflict, "already_issued", "The first request with this Idempotency-Key has shown a secret of "+r.TargetID+
			" already, and the answer is not kept. To see it again, ask with a new Idempotency-Key.")
	}
	return fault.New(fault.Conflict, "already_issued", "The first request with this Idempotency-Key has issued "+r.TargetID+
		" already. Its secret was shown once and is not kept. If that answer was lost, revoke "+r.TargetID+" and issue another with a new Idempotency-Key.")
}
