package identity

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

// touches are the last uses that wait to be written. A use costs two atomic stores, and a lock only at the first use since the last writing.
// Each waits for touchTurns rounds of the worker, so that a holder that is used all the time is written once a minute and not in each round.
type touches struct {
	mu    sync.Mutex
	lists [touchTurns][]*holder // by the round in which they came
	turn  int
}

const touchTurns = 6

func (t *touches) note(h *holder, at time.Time) {
	h.used.Store(at.UnixMicro())
	if h.waiting.Load() || !h.waiting.CompareAndSwap(false, true) {
		return
	}
	t.add(h)
}

func (t *touches) add(h *holder) {
	t.mu.Lock()
	t.lists[t.turn] = append(t.lists[t.turn], h)
	t.mu.Unlock()
}

// take ends a round and returns the holders that have waited for long enough, or all.
func (t *touches) take(all bool) []*holder {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn = (t.turn + 1) % touchTurns
	list := t.lists[t.turn]
	t.lists[t.turn] = nil
	if all {
		for i := range t.lists {
			list = append(list, t.lists[i]...)
			t.lists[i] = nil
		}
	}
	for _, h := range list {
		h.waiting.Store(false) // before its use is read: a later use puts it on the list again
	}
	return list
}

// back puts holders that were not written on the list again.
func (t *touches) back(list []*holder) {
	for _, h := range list {
		if h.waiting.CompareAndSwap(false, true) {
			t.add(h)
		}
	}
}

// Touch notes in memory that the client key was used now. It is written within a minute. An unknown id is ignored.
func (r *Room) Touch(id string) {
	if h := r.keys.get(id); h != nil {
		r.touches.note(h, r.now())
	}
}

// touchBatch bounds the rows of one transaction, so that writing last uses holds up no commit for long.
const touchBatch = 64

func (r *Room) flushTouches(ctx context.Context, all bool) error {
	keys, tokens, sessions := []*holder{}, []*holder{}, []*holder{}
	for _, h := range r.touches.take(all) {
		switch {
		case h.session != nil:
			sessions = append(sessions, h)
		case strings.HasPrefix(h.id, "tok_"):
			tokens = append(tokens, h)
		default:
			keys = append(keys, h)
		}
	}
	return errors.Join(r.writeTouches(ctx, "client_keys", keys), r.writeTouches(ctx, "tokens", tokens), r.writeTouches(ctx, "sessions", sessions))
}

func (r *Room) writeTouches(ctx context.Context, table string, list []*holder) error {
	// In the order of the ids, so that two instances that write at once lock rows in the same order.
	slices.SortFunc(list, func(a, b *holder) int { return strings.Compare(a.id, b.id) })
	for batch := range slices.Chunk(list, touchBatch) {
		var values strings.Builder
		args := make([]any, 0, 2*len(batch))
		for i, h := range batch {
			if i > 0 {
				values.WriteByte(',')
			}
			values.WriteString("(CAST($" + strconv.Itoa(len(args)+1) + " AS TEXT), CAST($" + strconv.Itoa(len(args)+2) + " AS BIGINT))")
			args = append(args, h.id, h.used.Load())
		}
		err := r.cfg.DB.Bookkeep(ctx, store.Touch, func(tx *store.Tx) error {
			// A holder that was reloaded meanwhile may be in the list twice, and another instance may know a later use.
			_, err := tx.Exec(`UPDATE `+table+` SET last_used_at = u.at FROM (SELECT column1 AS id, MAX(column2) AS at FROM (VALUES `+values.String()+
				`) AS v GROUP BY column1) AS u WHERE `+table+`.id = u.id AND (last_used_at IS NULL OR last_used_at < u.at)`, args...)
			return err
		})
		if err != nil {
			r.touches.back(list)
			return err
		}
		list = list[len(batch):]
	}
	return nil
}

// lastUse is the later of what the database and the memory know.
func lastUse(stored *store.Time, h *holder) *time.Time {
	if h != nil {
		if used := store.Time(h.used.Load()); used > 0 && (stored == nil || used > *stored) {
			return used.Ptr()
		}
	}
	return stored.Ptr()
}
