package audit

import (
	"context"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// RecordRead records that somebody read the log: ev is an event audit.read of theirs, act what they did, and records how many they were shown. It is
// called before the answer goes out.
func (l *Log) RecordRead(ctx context.Context, ev store.Event, act string, records int) error {
	ev.Details = store.Details{store.Str("act", act), store.Int("records", int64(records))}
	return l.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) })
}

// RefuseRead records that somebody tried to read the log who may not. This room takes no caller, so the doors ask the permission and tell the verdict.
func (l *Log) RefuseRead(ctx context.Context, ev store.Event, verdict error) error {
	ev.Outcome, ev.Reason = store.OutcomeRefused, fault.Of(verdict).Code
	return l.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) })
}
