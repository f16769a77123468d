package vault

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

// Use is when this instance last lent a credential. Make it with [NewUse].
type Use struct {
	id      string
	at      atomic.Int64 // microseconds since 1970; 0: not yet
	waiting atomic.Bool  // to be written
}

// NewUse returns the use of a credential that was not used yet.
func NewUse(id string) *Use { return &Use{id: id} }

// At is the last use that was noted; the zero time is none.
func (u *Use) At() time.Time {
	if at := u.at.Load(); at > 0 {
		return store.Time(at).Time()
	}
	return time.Time{}
}

// uses are the last uses that wait to be written. A use costs two atomic stores, and a lock only at the first one since the last writing.
type uses struct {
	mu      sync.Mutex
	waiting map[string]*Use // by credential, until the database has them
}

// Used notes in memory that a credential was lent. [Room.WriteUses] writes it; what this instance shows knows it at once. It never waits for the
// database.
func (r *Room) Used(u *Use, at time.Time) {
	u.at.Store(at.UnixMicro())
	if !u.waiting.Load() && u.waiting.CompareAndSwap(false, true) {
		r.uses.add(u)
	}
}

func (c *uses) add(u *Use) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = map[string]*Use{}
	}
	// There are two of one credential when it was unlinked and linked again in between; the one that comes later was used later.
	if last := c.waiting[u.id]; last != nil && last != u {
		last.waiting.Store(false)
	}
	c.waiting[u.id] = u
}

// usesBatch bounds the rows of one transaction, so that writing last uses holds up no commit for long.
const usesBatch = 64

// WriteUses writes the uses that were noted since it was last called. What cannot be written waits for the next time.
func (r *Room) WriteUses(ctx context.Context) error {
	r.uses.mu.Lock()
	list := slices.Collect(maps.Values(r.uses.waiting))
	r.uses.mu.Unlock()
	// In the order of the ids, so that two instances that write at once lock rows in the same order.
	slices.SortFunc(list, func(a, b *Use) int { return strings.Compare(a.id, b.id) })
	for batch := range slices.Chunk(list, usesBatch) {
		for _, u := range batch {
			u.waiting.Store(false) // before its time is read: a later use waits anew
		}
		if err := r.writeUses(ctx, batch); err != nil {
			for _, u := range batch {
				u.waiting.Store(true)
			}
			return err
		}
		r.uses.written(batch)
	}
	return nil
}

// written forgets those that were not used again meanwhile.
func (c *uses) written(batch []*Use) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range batch {
		if !u.waiting.Load() && c.waiting[u.id] == u {
			delete(c.waiting, u.id)
		}
	}
}

// laterUse keeps the later of what is stored and what is to be: another instance may know a later use. A credential that is gone has none.
const laterUse = ` ON CONFLICT (credential_id) DO UPDATE SET last_used_at = excluded.last_used_at WHERE credential_uses.last_used_at < excluded.last_used_at`

func (r *Room) writeUses(ctx context.Context, batch []*Use) error {
	var values strings.Builder
	args := make([]any, 0, 2*len(batch))
	for i, u := range batch {
		if i > 0 {
			values.WriteByte(',')
		}
		values.WriteString("(CAST($" + strconv.Itoa(len(args)+1) + " AS TEXT), CAST($" + strconv.Itoa(len(args)+2) + " AS BIGINT))")
		args = append(args, u.id, u.at.Load())
	}
	return r.db.Bookkeep(ctx, store.Touch, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO credential_uses (credential_id, last_used_at) SELECT c.id, v.column2 FROM (VALUES `+values.String()+
			`) AS v JOIN credentials c ON c.id = v.column1 WHERE v.column2 > 0 ORDER BY c.id`+laterUse, args...)
		return err
	})
}

// revealed notes in the transaction of a reveal that the credential was used by it.
func revealed(tx *store.Tx, id string) error {
	_, err := tx.Exec(`INSERT INTO credential_uses (credential_id, last_used_at) VALUES ($1, $2)`+laterUse, id, store.TimeOf(tx.Now()))
	return err
}

// overlay tells of uses that are not written yet.
func (c *uses) overlay(one *Credential) {
	c.mu.Lock()
	u := c.waiting[one.ID]
	c.mu.Unlock()
	if u == nil {
		return
	}
	if at := u.At(); one.LastUsedAt == nil || at.After(*one.LastUsedAt) {
		one.LastUsedAt = &at
	}
}
