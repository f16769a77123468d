package ledger

import (
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/store"
)

// Month tells what a train, a client key or a person has used in the calendar month of the transaction, as far as it is added up: tokens, and what they cost in micro-dollars. What
// has no price costs nothing here.
func (r *Room) Month(tx *store.Tx, subject string) (tokens, cost int64, err error) {
	column := "l.user_id"
	switch {
	case store.ValidID("train", subject):
		column = "l.train_id"
	case store.ValidID("key", subject):
		column = "l.key_id"
	}
	var w store.Where
	w.Add(`s.span = ?`, months)
	w.Add(`s.begins = ?`, store.TimeOf(begins(months, tx.Now())))
	w.Add(column+` = ?`, subject)
	var rows []row
	if err := tx.Select(&rows, `SELECT l.model, `+sumsOf+` FROM usage_sums s JOIN usage_lines l ON l.id = s.line`+w.SQL()+` GROUP BY l.model`, w.Args()...); err != nil {
		return 0, 0, err
	}
	var sum price.Cost
	for _, row := range rows {
		t := price.Tokens{Input: row.Input, Output: row.Output, CacheRead: row.CacheRead, CacheWrite5m: row.Cache5m, CacheWrite1h: row.Cache1h}
		tokens = price.Sum(tokens, t.Sum())
		sum.Add(r.prices, row.Model, t)
	}
	return tokens, sum.Micro(), nil
}
