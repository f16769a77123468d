package train

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// shareEvery is how often an instance writes down what it heard of accounts' limits, and sharePatience how long a writing may take.
	shareEvery    = 2 * time.Second
	sharePatience = 5 * time.Second
	// shareMost bounds the accounts of one writing; the others wait for the next.
	shareMost = 500
)

// heardOf are the accounts of which something is known here that the database does not have.
type heardOf struct {
	mu       sync.Mutex
	accounts map[string]bool
}

func (h *heardOf) add(ids ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.accounts == nil {
		h.accounts = map[string]bool{}
	}
	for _, id := range ids {
		h.accounts[id] = true
	}
}

// take returns some of them, in order, and forgets these.
func (h *heardOf) take(most int) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]string, 0, min(most, len(h.accounts)))
	for id := range h.accounts {
		if len(out) == most {
			break
		}
		out = append(out, id)
		delete(h.accounts, id)
	}
	slices.Sort(out) // instances that write the same accounts do so in the same order, so that none waits for another in a ring
	return out
}

// shareWindows writes down what was heard of accounts' limits until the room is closed, and once more then.
func (r *Room) shareWindows() {
	tick := time.NewTicker(shareEvery)
	defer tick.Stop()
	failing := false
	for last := false; !last; {
		select {
		case <-r.quit:
			last = true
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), sharePatience)
		err := r.writeWindows(ctx)
		cancel()
		if err != nil && !failing { // not the error itself: it may be the database's own words, and the store has logged its cause
			r.log.Warn("how far accounts are used could not be written; this instance goes by it alone", "code", fault.Of(err).Code)
		}
		failing = err != nil
	}
}

// share is what one writing says of an account.
type share struct {
	account *account
	levels  *levels
	text    string
}

// writeWindows writes down what changed since the last time. What fails is tried again.
func (r *Room) writeWindows(ctx context.Context) error {
	ids := r.heardOf.take(shareMost)
	b := r.lines.Load()
	shares := make([]share, 0, len(ids))
	for _, id := range ids {
		a := b.accounts.get(id)
		if a == nil {
			continue
		}
		a.gauge.changed.Store(false) // what is heard from here on is for the next writing
		l := a.gauge.known.Load()
		if l == nil || l.version != a.Version {
			continue
		}
		text, err := json.Marshal(pages(l.windows))
		if err != nil {
			return err
		}
		shares = append(shares, share{a, l, string(text)})
	}
	if len(shares) == 0 {
		return nil
	}
	err := r.db.Bookkeep(ctx, store.Counter, func(tx *store.Tx) error {
		for _, s := range shares {
			// Only of what there is still, and never of an older secret.
			n, err := tx.Exec(`INSERT INTO account_windows (credential_id, version, windows, at) SELECT id, $2, $3, $4 FROM credentials WHERE id = $1
				ON CONFLICT (credential_id) DO UPDATE SET version = excluded.version, windows = excluded.windows, at = excluded.at WHERE account_windows.version <= excluded.version`,
				s.account.id, s.levels.version, s.text, store.TimeOf(tx.Now()))
			if err != nil {
				return err
			}
			if n > 0 {
				tx.Change(store.TopicWindows, s.account.id)
			}
		}
		return nil
	})
	if err != nil {
		for _, s := range shares {
			s.account.gauge.changed.Store(true)
		}
		r.heardOf.add(ids...)
		return err
	}
	for _, s := range shares {
		s.account.gauge.wasTold(s.levels)
	}
	return nil
}

// wasTold remembers what the database has.
func (g *gauge) wasTold(told *levels) {
	for {
		have := g.known.Load()
		if have == nil || have.version != told.version {
			return
		}
		next := *have
		next.told = told.windows
		if g.known.CompareAndSwap(have, &next) {
			return
		}
	}
}

// adopt takes in what the database has of the account, which another instance may have heard. What was heard here later stays. It reports whether something is
// known here that the database does not have at all, so that it is written again: two instances that write at the same time must not lose what only one of
// them heard.
func (g *gauge) adopt(version int64, stored []Window, now time.Time) (missing bool) {
	for {
		have := g.known.Load()
		if have != nil && have.version > version {
			return false
		}
		if have == nil || have.version < version {
			if g.known.CompareAndSwap(have, hold(version, merge(nil, stored, now), stored)) {
				return false
			}
			continue
		}
		var later []Window // what others said and we did not hear after that
		for _, s := range stored {
			if i := slices.IndexFunc(have.windows, func(w Window) bool { return w.Name == s.Name }); i < 0 || have.windows[i].Heard.Before(s.Heard) {
				later = append(later, s)
			}
		}
		next := hold(version, merge(have.windows, later, now), stored)
		if g.known.CompareAndSwap(have, next) {
			return slices.ContainsFunc(next.windows, func(w Window) bool {
				return !slices.ContainsFunc(stored, func(s Window) bool { return s.Name == w.Name })
			})
		}
	}
}

// page is a window as the database has it.
type page struct {
	Name    string     `json:"n"`
	Used    int        `json:"u"`
	Status  string     `json:"s,omitempty"`
	Reset   store.Time `json:"r,omitempty"`
	Heard   store.Time `json:"h"`
	Refused bool       `json:"x,omitempty"`
	Model   string     `json:"m,omitempty"`
}

func pages(windows []Window) []page {
	out := make([]page, len(windows))
	for i, w := range windows {
		out[i] = page{Name: w.Name, Used: w.Used, Status: w.Status, Heard: store.TimeOf(w.Heard), Refused: w.Refused, Model: w.Model}
		if !w.Reset.IsZero() {
			out[i].Reset = store.TimeOf(w.Reset)
		}
	}
	return out
}

// readPages reads what the database has. What no instance would have written is left out.
func readPages(text string, now time.Time) (out []Window) {
	var list []page
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil
	}
	for _, p := range list {
		w := Window{Name: p.Name, Used: p.Used, Status: statusWord(p.Status), Heard: p.Heard.Time(), Refused: p.Refused, Model: clip(p.Model, modelMost)}
		if p.Reset != 0 {
			w.Reset = p.Reset.Time()
		}
		long, _, ok := span(w.Name)
		if !ok || w.Used < 0 || w.Used > mostUsed || w.Heard.After(now.Add(time.Hour)) || w.Reset.After(now.Add(furthest(long))) || len(out) == maxWindows {
			continue
		}
		if !slices.ContainsFunc(out, func(have Window) bool { return have.Name == w.Name }) {
			out = append(out, w)
		}
	}
	return out
}

// windowNews is what the database has of an account.
type windowNews struct {
	CredentialID string `db:"credential_id"`
	Version      int64  `db:"version"`
	Windows      string `db:"windows"`
}

func loadWindows(tx *store.Tx, ids []string) (out []windowNews, err error) {
	for chunk := range slices.Chunk(ids, coolChunk) {
		args := make([]any, len(chunk))
		for i, id := range chunk {
			args[i] = id
		}
		var w store.Where
		w.Add(`credential_id IN (?`+strings.Repeat(",?", len(args)-1)+`)`, args...)
		var rows []windowNews
		if err := tx.Select(&rows, `SELECT credential_id, version, windows FROM account_windows`+w.SQL(), w.Args()...); err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	slices.SortFunc(out, func(a, b windowNews) int { return cmp.Compare(a.CredentialID, b.CredentialID) })
	return out, nil
}

// hearWindows takes in what other instances heard. It only changes which account is tried first, so a failure is no reason to serve nothing.
func (r *Room) hearWindows(ctx context.Context, ids map[string]bool) {
	if len(ids) == 0 {
		return
	}
	list := make([]string, 0, len(ids))
	for id := range ids {
		list = append(list, id)
	}
	var rows []windowNews
	if err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		rows, err = loadWindows(tx, list)
		return err
	}); err != nil {
		return // the store has logged its cause; the next news bring it
	}
	r.adoptWindows(r.lines.Load(), rows)
}

func (r *Room) adoptWindows(b *board, rows []windowNews) {
	now := r.now()
	for _, row := range rows {
		a := b.accounts.get(row.CredentialID)
		if a != nil && row.Version == a.Version && a.gauge.adopt(row.Version, readPages(row.Windows, now), now) {
			a.gauge.changed.Store(true)
			r.heardOf.add(a.id)
		}
	}
}
