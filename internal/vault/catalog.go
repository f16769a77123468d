package vault

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"signalbox.dev/signalbox/internal/store"
)

// catalog holds in memory what lists are filtered by, of every credential, so that no filter and no combination of filters reads more of
// the database than the page that it shows. It is read at the first list that needs it and follows the change feed from then on.
//
// It only proposes: a page is read from the database with the filter's conditions, so what the catalog holds too long is never shown. What
// it must not do is lack something, hence the order in [catalog.current]: first the news, then the rows.
type catalog struct {
	db   *store.DB
	turn chan struct{} // holds one token: who has it reads for all that wait

	mu    sync.Mutex
	all   bool // everything must be read; true until somebody wants a list
	stale map[string]struct{}

	blocks atomic.Pointer[[]*block] // by id, none empty; a slice that was stored never changes
	reads  atomic.Int64             // rows read from the database, for the tests
}

// entry is what one credential can be filtered by.
type entry struct {
	id      string
	exact   [exactFilters]unique.Handle[string] // in the order of Filter.exact
	tags    []unique.Handle[string]
	state   unique.Handle[string]
	health  unique.Handle[string] // what the last refresh left behind
	expires store.Time            // never: it does not expire
	dead    store.Time            // when the access token ends that nothing refreshes, or never
	rotate  store.Time            // when it is to be rotated, or never
	leaked  store.Time            // since when it is to be rotated at once, or never
}

const (
	exactFilters = 7
	// typeColumn and providerColumn are the places of the type and the provider among them.
	typeColumn     = 0
	providerColumn = 1
	// never is after every time that a credential may expire at.
	never = store.Time(1<<63 - 1)
	// staleLimit is how many credentials are read one by one; beyond it reading everything is the quicker way.
	staleLimit = 4096
	// catalogRows is how many are asked for in one statement.
	catalogRows = 256
	// catalogPatience bounds reading everything; it goes on when the caller who began it has gone away.
	catalogPatience = 30 * time.Second
)

func newCatalog(db *store.DB) *catalog {
	c := &catalog{db: db, turn: make(chan struct{}, 1), all: true, stale: map[string]struct{}{}}
	c.blocks.Store(&[]*block{})
	db.Subscribe(c.follow)
	return c
}

// follow marks what changed. It reads nothing, so it cannot fail: until the next list nobody needs to know.
func (c *catalog) follow(_ context.Context, changes []store.Change) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range changes {
		switch {
		case c.all:
		case ch.Topic == store.TopicReset, len(c.stale) >= staleLimit:
			c.all = true
			clear(c.stale)
		case ch.Topic == store.TopicCredential:
			c.stale[ch.Subject] = struct{}{}
		}
	}
	return nil
}

// current returns every credential as of now or later: what was acknowledged before the call is in it, on whichever instance.
func (c *catalog) current(ctx context.Context) ([]*block, error) {
	if err := c.db.CatchUp(ctx); err != nil {
		return nil, err
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	all, ids := c.all, slices.Sorted(maps.Keys(c.stale))
	c.all = false
	clear(c.stale)
	c.mu.Unlock()
	if !all && len(ids) == 0 {
		return *c.blocks.Load(), nil
	}
	// From here on the marks are gone, so that a change during the reading marks anew.
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), catalogPatience)
	defer cancel()
	fresh, err := c.read(limited, all, ids)
	if err != nil {
		c.mu.Lock()
		c.all = true
		c.mu.Unlock()
		return nil, err
	}
	var blocks []*block
	if all {
		blocks = pack(fresh)
	} else {
		blocks = merge(*c.blocks.Load(), ids, fresh)
	}
	c.blocks.Store(&blocks)
	return blocks, nil
}

// read returns the records of those ids, or of all, by id.
func (c *catalog) read(ctx context.Context, all bool, ids []string) (out []record, err error) {
	columns := make([]string, 0, exactFilters)
	for _, e := range (Filter{}).exact() {
		columns = append(columns, e.column)
	}
	query := `SELECT c.id, ` + strings.Join(columns, ", ") + `, c.tags, c.state, c.expires_at, c.search, ` + lastHealth + ` AS health, ` + deadAt + ` AS dead, CASE WHEN ` + toRotate + ` THEN ` + rotationAt + ` END AS rotate_by, c.rotate_at FROM credentials c`
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		out = nil
		if all {
			return scanRecords(tx, &out, query)
		}
		for chunk := range slices.Chunk(ids, catalogRows) {
			var w store.Where
			w.Add(inIDs(len(chunk)), idArgs(chunk)...)
			if err := scanRecords(tx, &out, query+w.SQL(), w.Args()...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.reads.Add(int64(len(out)))
	slices.SortFunc(out, func(a, b record) int { return strings.Compare(a.id, b.id) })
	return out, nil
}

func scanRecords(tx *store.Tx, out *[]record, query string, args ...any) error {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, tags, state, search, health string
		var exact [exactFilters]string
		var expires, dead, rotate, leaked *store.Time
		dest := []any{&id}
		for i := range exact {
			dest = append(dest, &exact[i])
		}
		if err := rows.Scan(append(dest, &tags, &state, &expires, &search, &health, &dead, &rotate, &leaked)...); err != nil {
			return err
		}
		r := record{entry{id: id, state: unique.Make(state), health: unique.Make(health), expires: never, dead: never, rotate: never, leaked: never}, strings.Fields(search)}
		for i, v := range exact {
			r.exact[i] = unique.Make(v)
		}
		var list []string
		_ = decodeList(tags, &list) // who reads the page says that the row is damaged
		for _, tag := range list {
			r.tags = append(r.tags, unique.Make(tag))
		}
		if expires != nil {
			r.expires = *expires
		}
		if dead != nil {
			r.dead = *dead
		}
		if rotate != nil {
			r.rotate = *rotate
		}
		if leaked != nil {
			r.leaked = *leaked
		}
		*out = append(*out, r)
	}
	return rows.Err()
}

// inIDs is a condition on n ids.
func inIDs(n int) string { return `c.id IN (?` + strings.Repeat(", ?", n-1) + `)` }

func idArgs(ids []string) []any {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	return args
}
