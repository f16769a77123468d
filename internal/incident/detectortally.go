package incident

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// tally is what is remembered of one subject.
type tally struct {
	seen             map[string]int64 // Unix minutes, by key
	hour, peak       int64
	mean, hours      int64 // mean in thousandths
	quietUntil, last time.Time
}

type tallyRow struct {
	Subject string     `db:"subject"`
	Seen    string     `db:"seen"`
	Hour    int64      `db:"hour"`
	Peak    int64      `db:"peak"`
	Mean    int64      `db:"mean_milli"`
	Hours   int64      `db:"hours"`
	Quiet   store.Time `db:"quiet_until"`
	Last    store.Time `db:"touched_at"`
}

func (row *tallyRow) tally() *tally {
	t := &tally{hour: row.Hour, peak: row.Peak, mean: row.Mean, hours: row.Hours, quietUntil: row.Quiet.Time(), last: row.Last.Time()}
	if err := json.Unmarshal([]byte(row.Seen), &t.seen); err != nil || t.seen == nil {
		t.seen = map[string]int64{} // what somebody else wrote there is worth no standstill
	}
	return t
}

// counted is a subject of a detector.
type counted struct{ detector, subject string }

// talliesMost bounds the subjects of one statement, and those that are in memory at a time: one may hold some hundred kilobytes.
const talliesMost = 64

// loadTallies reads what is remembered of subjects, that of those of which nothing is as well.
func loadTallies(tx *store.Tx, of []counted) (map[counted]*tally, error) {
	if len(of) == 0 {
		return nil, nil
	}
	out := make(map[counted]*tally, len(of))
	by := map[string][]string{}
	for _, c := range of {
		by[c.detector] = append(by[c.detector], c.subject)
		out[c] = &tally{seen: map[string]int64{}}
	}
	if err := tx.Growing(); err != nil {
		return nil, err
	}
	for detector, subjects := range by {
		for part := range slices.Chunk(subjects, talliesMost) {
			args := make([]any, 0, 1+len(part))
			args = append(args, detector)
			var places strings.Builder
			for i, subject := range part {
				args = append(args, subject)
				places.WriteString(", $" + strconv.Itoa(i+2))
			}
			var rows []tallyRow
			if err := tx.Select(&rows, `SELECT subject, seen, hour, peak, mean_milli, hours, quiet_until, touched_at FROM detector_tallies WHERE detector = $1 AND subject IN (`+places.String()[2:]+`)`, args...); err != nil {
				return nil, err
			}
			for i := range rows {
				out[counted{detector, rows[i].Subject}] = rows[i].tally()
			}
		}
	}
	return out, nil
}

// storeTallies stores what is remembered of some subjects, each of which is there once.
func storeTallies(tx *store.Tx, of []counted, tallies map[counted]*tally) error {
	rows := make([]any, 0, 9*len(of))
	for _, c := range of {
		t := tallies[c]
		seen, err := json.Marshal(t.seen)
		if err != nil {
			return err
		}
		rows = append(rows, c.detector, c.subject, string(seen), t.hour, t.peak, t.mean, t.hours, store.TimeOf(t.quietUntil), store.TimeOf(t.last))
	}
	return tx.UpsertMany(`detector_tallies (detector, subject, seen, hour, peak, mean_milli, hours, quiet_until, touched_at)`, 9, rows,
		`ON CONFLICT (detector, subject) DO UPDATE SET seen = excluded.seen, hour = excluded.hour, peak = excluded.peak, mean_milli = excluded.mean_milli, hours = excluded.hours,
		quiet_until = excluded.quiet_until, touched_at = excluded.touched_at`)
}

// limit is what a rule asks for of the subject at the moment.
func (t *tally) limit(r Rule) int {
	if !r.usual {
		return r.Threshold
	}
	return int(min(max(int64(r.Threshold), usualTimes*t.mean/1000), maxSeen))
}

// add counts one thing, and tells whether that is worth a report. Of an hour in which the limit was passed no more than the limit enters into what is usual, so
// that one raid does not make the next one usual.
func (t *tally) add(r Rule, key string, at time.Time) (report bool) {
	at = at.UTC()
	if hour := at.Unix() / 3600; hour > t.hour {
		if t.hour > 0 {
			n := min(t.hours, usualHours-1)
			t.mean = (t.mean*n + 1000*min(t.peak, int64(t.limit(r)))) / (n + 1)
			t.hours++
		}
		t.hour, t.peak = hour, 0
	}
	if at.After(t.last) {
		t.last = at
	}
	minute, oldest := at.Unix()/60, t.last.Add(-window).Unix()/60
	maps.DeleteFunc(t.seen, func(_ string, m int64) bool { return m < oldest })
	if _, have := t.seen[key]; minute >= oldest && (have || len(t.seen) < maxSeen) {
		t.seen[key] = max(t.seen[key], minute)
	}
	t.peak = max(t.peak, int64(len(t.seen)))
	if len(t.seen) < t.limit(r) || at.Before(t.quietUntil) {
		return false
	}
	t.quietUntil = at.Add(r.Quiet)
	return true
}

// keys are what was counted, the newest first, as many as an incident can link.
func (t *tally) keys() []string {
	all := slices.SortedFunc(maps.Keys(t.seen), func(a, b string) int {
		if t.seen[a] != t.seen[b] {
			return int(t.seen[b] - t.seen[a])
		}
		return strings.Compare(a, b)
	})
	return all[:min(len(all), maxLinks)]
}

// watcher is who opens incidents.
func watcher() identity.Caller { return identity.System("detectors") }

// report opens an incident, or counts one up that is open. Of what it touches, what is gone by now is left out.
func report(tx *store.Tx, detector, subject string, d Draft) (Incident, bool, error) {
	for _, row := range linkRows() {
		ids := row.list(&d.Touch)
		if ids == nil {
			continue
		}
		var left []string
		for _, id := range *ids {
			found, err := row.find(tx, sees{}, id)
			if err != nil {
				return Incident{}, false, err
			}
			if found.ID != "" {
				left = append(left, id)
			}
		}
		*ids = left
	}
	d.Title = strings.TrimSpace(d.Title)
	i, opened, err := Report(tx, watcher(), detector, subject, d)
	if fault.KindOf(err) == fault.Unprocessable { // what somebody is called must not keep a detector silent
		return Report(tx, watcher(), detector, subject, Draft{Meta: Meta{Title: "Found by " + detector, Severity: d.Severity, Description: d.Description}})
	}
	return i, opened, err
}

// list is where a draft names several things of a kind, nil for a kind of which it names one.
func (r linkRow) list(t *Touch) *[]string {
	switch r.kind {
	case OfCredential:
		return &t.Credentials
	case OfPerson:
		return &t.People
	case OfServiceAccount:
		return &t.ServiceAccounts
	case OfTrain:
		return &t.Trains
	case OfKey:
		return &t.ClientKeys
	}
	return nil
}
