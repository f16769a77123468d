package store

import (
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/quota"
)

// The counts that requests are held against (quota_counts) are charged in the commit of the intents ([DB.AppendCharged]), and no other package has their statements. A subject is the id of a train, a client
// key or a person. What another version counts in a form that is not known here refuses whoever is counted there; it is neither told, changed nor handed on.

// Counts returns what is counted of a subject, nothing where it was never counted. Not known is what cannot be read.
func (tx *Tx) Counts(subject string) (state *quota.State, known bool, err error) {
	state, _, err = tx.counts(subject, "")
	return state, state != nil, err
}

// counts is Counts with a lock; there says that there is a row.
func (tx *Tx) counts(subject, lock string) (state *quota.State, there bool, err error) {
	var row struct {
		State []byte `db:"state"`
	}
	err = tx.Get(&row, `SELECT state FROM quota_counts WHERE subject = $1`+lock, subject)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, false, err
	}
	there = err == nil
	if state, err = quota.Decode(row.State); err != nil {
		state = nil
	}
	return state, there, nil
}

// ChangeCounts changes what is counted of a subject, which is locked until the end of the transaction.
func (tx *Tx) ChangeCounts(subject string, change func(*quota.State)) error {
	if _, err := tx.Exec(`INSERT INTO quota_counts (subject, state, at) VALUES ($1,$2,0) ON CONFLICT DO NOTHING`, subject, []byte{}); err != nil {
		return err
	}
	state, _, err := tx.counts(subject, tx.ForUpdate())
	if err != nil || state == nil {
		return err
	}
	change(state)
	_, err = tx.Exec(`UPDATE quota_counts SET state = $1, at = $2 WHERE subject = $3`, state.Encode(), TimeOf(tx.Now()), subject)
	return err
}

// InheritCounts lets a new subject go on where another one stands, if that was ever counted.
func (tx *Tx) InheritCounts(from, to string) error {
	state, there, err := tx.counts(from, tx.ForUpdate())
	if err != nil || !there || state == nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO quota_counts (subject, state, at) VALUES ($1,$2,$3) ON CONFLICT DO NOTHING`, to, state.Heir().Encode(), TimeOf(tx.Now()))
	return err
}

// SweepCounts removes what was last counted before a time.
func (tx *Tx) SweepCounts(before time.Time) error {
	_, err := tx.Exec(`DELETE FROM quota_counts WHERE at < $1`, TimeOf(before))
	return err
}
