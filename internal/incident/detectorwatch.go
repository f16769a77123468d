package incident

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// Detectors read the audit log in the order of its leaves and open incidents. Every instance reads; the place up to which the log was judged is one row, and
// it moves in the transaction that stores what was counted and opens what is opened. So of several instances one judges a record, a crash in the middle
// leaves it to be judged again from nothing, and a start goes on where the last one was. What is remembered lies in the database, bounded for each subject.

// Records is the audit log as detectors read it.
type Records interface {
	// Follow returns records in the order of the leaves, after the given one, but for those of some actions, and the leaf up to which it looked.
	Follow(ctx context.Context, after int64, limit int, without ...store.Action) (entries []audit.Entry, last int64, err error)
	// Size returns the number of leaves.
	Size(ctx context.Context) (int64, error)
	// Health tells how far the log is, as this instance sees it.
	Health() audit.Health
}

// DetectorConfig is what [Detectors] are made of. DB and Log are required.
type DetectorConfig struct {
	DB    *store.DB
	Audit Records
	// Verify verifies the whole audit log and returns how much it found; nil means that it is not verified.
	Verify func(context.Context) (found int, err error)
	// Rules are those of [ParseRules].
	Rules []Rule
	// Canaries are the ids of the credentials that are canaries; Freeze takes from a caller what they acted with. Without Freeze nothing is taken.
	Canaries []string
	Freeze   func(tx *store.Tx, caller identity.Caller, by store.Actor) (took []store.Target, err error)
	Log      *slog.Logger
	// Every is the time between two looks at the log; 0 means 250 ms.
	Every time.Duration
}

const (
	watchEvery = 250 * time.Millisecond
	// watchChunk is how many records are judged at a time.
	watchChunk = 1000
	// moveEvery and moveAfter are how long, and for how many records, the place is kept in memory while there is nothing to count.
	moveEvery, moveAfter = 10 * time.Second, 5000
	// verifyEvery is how often the whole log is verified, by one instance.
	verifyEvery = 24 * time.Hour
	// maxKnown bounds what an instance remembers to have stored.
	maxKnown = 20_000
	// watchPause is how long it waits after a failure.
	watchPause = 5 * time.Second
)

// Detectors watch the audit log. Make them with [NewDetectors].
type Detectors struct {
	cfg DetectorConfig

	mu     sync.Mutex // held during a pass; guards what follows
	begun  bool
	saved  int64 // the leaf in the row, as this instance knows it
	read   int64 // the leaf up to which this instance has read; after saved there was nothing to count
	moved  time.Time
	hour   int64
	minute int64
	known  map[string]bool // what was stored in this minute already
	behind bool

	begin, end sync.Once
	cut        context.CancelFunc
	loops      sync.WaitGroup
}

// NewDetectors returns detectors that do nothing yet.
func NewDetectors(cfg DetectorConfig) (*Detectors, error) {
	if cfg.DB == nil || cfg.Audit == nil {
		return nil, errors.New("incident: detectors need a database and the audit log")
	}
	cfg.Rules = slices.Clone(cfg.Rules)
	for i := range cfg.Rules {
		if cfg.Rules[i].Detector == Canary && len(cfg.Canaries) > 0 {
			cfg.Rules[i].see = seeCanary(cfg.Canaries)
		}
	}
	cfg.Every = cmp.Or(cfg.Every, watchEvery)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Detectors{cfg: cfg, known: map[string]bool{}}, nil
}

// Start begins to watch in the background. End it with Close.
func (d *Detectors) Start(ctx context.Context) {
	d.begin.Do(func() {
		run, cut := context.WithCancel(context.WithoutCancel(ctx))
		d.cut = cut
		d.loops.Go(func() { d.loop(run, d.cfg.Every, d.Pass) })
		if d.cfg.Verify != nil && d.rule(AuditVerification).On {
			d.loops.Go(func() { d.loop(run, time.Hour, d.VerifyWhenDue) })
		}
	})
}

// Close cuts the pass under way, which is stored wholly or not at all, and waits for its end.
func (d *Detectors) Close() {
	d.end.Do(func() {
		if d.cut != nil {
			d.cut()
		}
	})
	d.loops.Wait()
}

func (d *Detectors) loop(ctx context.Context, every time.Duration, pass func(context.Context) error) {
	moaned := time.Time{}
	for {
		wait := every
		if err := pass(ctx); err != nil && ctx.Err() == nil {
			wait = max(every, watchPause)
			if time.Since(moaned) > time.Minute {
				moaned = time.Now()
				d.cfg.Log.Error("the detectors could not look at the audit log; they go on where they were", "cause", err)
			}
		}
		if d.hasMore() {
			wait = time.Millisecond
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (d *Detectors) hasMore() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.behind
}

func (d *Detectors) rule(name string) Rule {
	for _, r := range d.cfg.Rules {
		if r.Detector == name {
			return r
		}
	}
	return Rule{}
}

// sight is one thing that a detector counts.
type sight struct {
	rule         Rule
	subject, key string
	event        store.Event
}

func (s sight) of() counted { return counted{s.rule.Detector, s.subject} }

func (s sight) memo() string { return s.rule.Detector + " " + s.subject + " " + s.key }

// errOvertaken says that another instance has judged these records.
var errOvertaken = errors.New("incident: another instance was faster")

// Pass judges the records that are new, at most [watchChunk] of them.
func (d *Detectors) Pass(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.behind = false
	if !d.begun {
		if err := d.locate(ctx); err != nil {
			return err
		}
	}
	entries, last, err := d.cfg.Audit.Follow(ctx, d.read, watchChunk, store.LeaseOutcome) // half of all records, and no detector counts them
	if errors.Is(err, audit.ErrDamaged) {                                                 // it must blind nobody: it is told, and passed over
		return d.passOver(ctx)
	}
	if err != nil || last == d.read {
		return err
	}
	sights, more := d.sights(entries), last-d.read >= watchChunk
	if len(sights) == 0 && last-d.saved < moveAfter && time.Since(d.moved) < moveEvery {
		d.read, d.behind = last, more
		return nil
	}
	if err := d.judge(ctx, last, sights); err != nil {
		if errors.Is(err, errOvertaken) {
			d.begun, d.behind = false, true
			return nil
		}
		return err
	}
	d.saved, d.read, d.moved, d.behind = last, last, time.Now(), more
	for _, s := range sights {
		d.known[s.memo()] = true
	}
	return nil
}

// locate reads the place in the log; the first time ever it is the end.
func (d *Detectors) locate(ctx context.Context) error {
	size, err := d.cfg.Audit.Size(ctx)
	if err != nil {
		return err
	}
	leaf := int64(-1)
	query := func(tx *store.Tx) error { return tx.Get(&leaf, `SELECT leaf FROM detector_cursor WHERE id = 1`) }
	err = d.cfg.DB.Read(ctx, query)
	if errors.Is(err, store.ErrNotFound) {
		err = d.cfg.DB.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
			if _, err := tx.Exec(`INSERT INTO detector_cursor (id, leaf, verified_at) VALUES (1, $1, $2) ON CONFLICT DO NOTHING`, size-1, store.TimeOf(tx.Now())); err != nil {
				return err
			}
			return query(tx)
		})
	}
	if err != nil {
		return err
	}
	d.begun, d.saved, d.read, d.moved = true, leaf, min(leaf, size-1), time.Now() // a log that is shorter than the place was put back
	return nil
}

// sights finds what the rules count among records, without what this instance has stored within the minute.
func (d *Detectors) sights(entries []audit.Entry) (out []sight) {
	for _, e := range entries {
		at := e.Event.At.Unix() / 60
		if at > d.minute || len(d.known) > maxKnown {
			clear(d.known)
			d.minute = max(at, d.minute)
		}
		for _, r := range d.cfg.Rules {
			if !r.On || r.see == nil {
				continue
			}
			subject, key, ok := r.see(e.Event)
			if !ok {
				continue
			}
			if s := (sight{r, subject, key, e.Event}); at != d.minute || !d.known[s.memo()] {
				out = append(out, s)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b sight) int { // so that each tally is loaded once, and locks come in one order
		return cmp.Or(strings.Compare(a.rule.Detector, b.rule.Detector), strings.Compare(a.subject, b.subject))
	})
	return out
}

// judge moves the place in the log to the leaf, and stores and opens what the sights come to, in one transaction.
func (d *Detectors) judge(ctx context.Context, leaf int64, sights []sight) error {
	var opened []Incident
	hour := time.Now().Unix() / 3600
	err := d.cfg.DB.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		opened = nil
		left := sights
		if err := d.move(tx, leaf); err != nil {
			return err
		}
		if hour != d.hour {
			if _, err := tx.Exec(`DELETE FROM detector_tallies WHERE touched_at < $1`, store.TimeOf(tx.Now().Add(-keptTallies))); err != nil {
				return err
			}
		}
		var of []counted
		for i, s := range sights {
			if c := s.of(); i == 0 || c != sights[i-1].of() {
				of = append(of, c)
			}
		}
		for part := range slices.Chunk(of, talliesMost) {
			tallies, err := loadTallies(tx, part)
			if err != nil {
				return err
			}
			for _, c := range part {
				n := 1
				for n < len(left) && left[n].of() == c {
					n++
				}
				found, err := d.weigh(tx, tallies[c], left[:n])
				if err != nil {
					return err
				}
				opened, left = append(opened, found...), left[n:]
			}
			if err := storeTallies(tx, part, tallies); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.hour = hour
	d.say(opened)
	return nil
}

func (d *Detectors) say(opened []Incident) {
	for _, i := range opened {
		d.cfg.Log.Warn("a detector opened an incident", "detector", i.Detector, "incident", i.ID)
	}
}

// move takes the place in the log from where this instance knows it to be.
func (d *Detectors) move(tx *store.Tx, leaf int64) error {
	n, err := tx.Exec(`UPDATE detector_cursor SET leaf = $1 WHERE id = 1 AND leaf = $2`, leaf, d.saved)
	if err == nil && n != 1 {
		err = errOvertaken
	}
	return err
}

// weigh counts what was seen of one subject by one detector.
func (d *Detectors) weigh(tx *store.Tx, t *tally, sights []sight) (opened []Incident, err error) {
	rule, subject := sights[0].rule, sights[0].subject
	var took []store.Target
	for _, s := range sights {
		if rule.Detector == Canary && d.cfg.Freeze != nil {
			more, err := d.cfg.Freeze(tx, watcher(), s.event.Actor)
			if err != nil {
				return nil, err
			}
			took = append(took, more...)
		}
		if !t.add(rule, s.key, s.event.At) {
			continue
		}
		i, isNew, err := report(tx, rule.Detector, subject, rule.draft(s.event, finding{Rule: rule, count: len(t.seen), limit: t.limit(rule), usually: t.mean, keys: t.keys(), took: took}))
		if err != nil {
			return nil, err
		}
		if isNew {
			opened = append(opened, i)
		}
	}
	return opened, nil
}

// passOver reports a record that cannot be read and goes on behind it.
func (d *Detectors) passOver(ctx context.Context) error {
	next := d.read + 1
	// Up to there one record at a time, so that nothing before the damaged one is missed.
	switch entries, last, err := d.cfg.Audit.Follow(ctx, d.read, 1); {
	case err == nil && len(entries) == 1:
		if err := d.judge(ctx, last, d.sights(entries)); err != nil && !errors.Is(err, errOvertaken) {
			return err
		}
		d.begun, d.behind = false, true
		return nil
	case !errors.Is(err, audit.ErrDamaged):
		return err
	}
	if err := d.unverified(ctx, 1, "A record of the audit log cannot be read.", func(tx *store.Tx) error { return d.move(tx, next) }); err != nil && !errors.Is(err, errOvertaken) {
		return err
	}
	d.begun, d.behind = false, true
	return nil
}

// unverified reports that the log does not verify, after what else is to be done in the transaction.
func (d *Detectors) unverified(ctx context.Context, found int, why string, also func(*store.Tx) error) error {
	rule := d.rule(AuditVerification)
	var opened []Incident
	err := d.cfg.DB.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		opened = nil
		if err := also(tx); err != nil || !rule.On || found < rule.Threshold {
			return err
		}
		log := []counted{{rule.Detector, "log"}}
		tallies, err := loadTallies(tx, log)
		if err != nil {
			return err
		}
		t := tallies[log[0]]
		now := tx.Now()
		if now.Before(t.quietUntil) {
			return nil
		}
		t.last, t.quietUntil = now, now.Add(rule.Quiet)
		i, isNew, err := report(tx, rule.Detector, "log", Draft{Meta: Meta{
			Title: "The audit log does not verify", Type: UnauthorizedAccess, Severity: Critical,
			Description: why + " Somebody may have written into the database. Stop and look: signalbox audit verify, with checkpoints that were kept elsewhere.",
		}})
		if err != nil {
			return err
		}
		if isNew {
			opened = append(opened, i)
		}
		return storeTallies(tx, log, tallies)
	})
	if err == nil {
		d.say(opened)
	}
	return err
}

// VerifyWhenDue looks whether the database lacks what the checkpoint file has, and, once in [verifyEvery] over all instances, verifies the whole log.
func (d *Detectors) VerifyWhenDue(ctx context.Context) error {
	nothing := func(*store.Tx) error { return nil }
	if d.cfg.Audit.Health().RolledBack > 0 {
		if err := d.unverified(ctx, 1, "The checkpoint file has a signed checkpoint that the database lacks: the database was rolled back, or replaced.", nothing); err != nil {
			return err
		}
	}
	mine := false
	err := d.cfg.DB.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		n, err := tx.Exec(`UPDATE detector_cursor SET verified_at = $1 WHERE id = 1 AND verified_at <= $2`, store.TimeOf(tx.Now()), store.TimeOf(tx.Now().Add(-verifyEvery)))
		mine = n == 1
		return err
	})
	if err != nil || !mine || d.cfg.Verify == nil {
		return err
	}
	found, err := d.cfg.Verify(ctx)
	if err != nil {
		return err
	}
	if found > 0 {
		return d.unverified(ctx, found, "The daily verification found "+plural(found, "thing")+" wrong.", nothing)
	}
	return nil
}
