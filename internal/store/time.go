package store

import "time"

// Time is an instant as both engines store it: microseconds since the Unix epoch in a BIGINT. One integer form needs no parsing, compares
// in SQL alike on both engines and scans through aggregates, which SQLite's text times do not.
type Time int64

// TimeOf converts; the fraction under a microsecond is cut.
func TimeOf(t time.Time) Time { return Time(t.UnixMicro()) }

// TimePtr converts an optional instant.
func TimePtr(t *time.Time) *Time {
	if t == nil {
		return nil
	}
	v := TimeOf(*t)
	return &v
}

// Time returns the instant in UTC.
func (t Time) Time() time.Time { return time.UnixMicro(int64(t)).UTC() }

// Ptr returns the instant of an optional column.
func (t *Time) Ptr() *time.Time {
	if t == nil {
		return nil
	}
	v := t.Time()
	return &v
}
