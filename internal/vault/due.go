package vault

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// DueFilter narrows what is due.
type DueFilter struct {
	About About
	// From and Before bound the date; the zero From takes what is overdue as well.
	From, Before time.Time
	ClientID     string
	Limit        int    // 0: 100; at most 1000
	Cursor       string // the next of the page before
}

// Due is what has a date, in its order.
type Due struct {
	Items []Credential
	Next  string // the cursor of the next page, empty at the end
	// Overdue counts what the date of has passed, Soon what it comes of within [ExpiringWithin], and Days what it comes of on each day from Begin on, which is
	// today (UTC). They count whatever the caller sees of the client that is asked for, not of the page alone.
	Overdue, Soon int
	Days          [DueDays]int
	Begin         time.Time
}

// dated is one credential with its date.
type dated struct {
	id string
	at store.Time
}

// Due lists active credentials by when they end, or by when they are to be rotated, the earliest first; among the latter also those that are marked as compromised
// and were contained to be rotated at once, which are lent to nobody before that. It goes through the catalog, so that it costs the
// same whatever is due; what it shows of a credential is read from the database. One event tells of it, as of a list. It needs credentials:read.
func (r *Room) Due(ctx context.Context, caller identity.Caller, f DueFilter) (Due, error) {
	reach, err := r.reach(ctx, caller, identity.CredentialRead, "list", "")
	if err != nil {
		return Due{}, err
	}
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	after, err := f.check()
	if err != nil {
		return Due{}, err
	}
	var ids []string
	if reach != identity.Everything {
		if ids, err = r.visible(ctx, caller, nil); err != nil {
			return Due{}, err
		}
	}
	blocks, err := r.catalog.current(ctx)
	if err != nil {
		return Due{}, err
	}
	parts := whole(blocks)
	if reach != identity.Everything {
		parts = only(blocks, ids)
	}
	var now time.Time
	if err := r.db.Read(ctx, func(tx *store.Tx) error { now = tx.Now(); return nil }); err != nil {
		return Due{}, err
	}
	out, list := f.due(parts, now)
	slices.SortFunc(list, dated.compare)
	start, found := slices.BinarySearchFunc(list, after, dated.compare)
	if found {
		start++
	}
	list = list[start:]
	if len(list) > f.Limit {
		list = list[:f.Limit]
		out.Next = list[len(list)-1].cursor()
	}
	if len(list) > 0 {
		page, rank := Filter{Limit: len(list)}, map[string]int{}
		for i, d := range list {
			page.IDs, rank[d.id] = append(page.IDs, d.id), i
		}
		if out.Items, _, err = r.page(ctx, page, ""); err != nil {
			return Due{}, err
		}
		slices.SortFunc(out.Items, func(a, b Credential) int { return cmp.Compare(rank[a.ID], rank[b.ID]) })
	}
	ev := caller.Event(store.CredentialList, store.Target{Kind: targetKind})
	ev.Details = store.Details{store.Int("count", int64(len(out.Items))), store.Strs("filters", []string{"due_" + string(f.About)})}
	if err := r.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) }); err != nil {
		return Due{}, err
	}
	return out, nil
}

// check returns after which date and id the page begins.
func (f DueFilter) check() (after dated, err error) {
	var p problems
	if f.About != AboutExpiry && f.About != AboutRotation {
		p.add("/about", "must be expiry or rotation")
	}
	if f.Limit < 1 || f.Limit > maxPage {
		p.add("/limit", "must be from 1 to "+number(maxPage))
	}
	p.add("/client_id", textProblem(f.ClientID, 100, false))
	if f.Cursor != "" {
		b, bad := base64.RawURLEncoding.DecodeString(f.Cursor)
		at, id, whole := strings.Cut(string(b), " ")
		n, wrong := strconv.ParseInt(at, 10, 64)
		after = dated{id, store.Time(n)}
		if bad != nil || wrong != nil || !whole || !store.ValidID(credentialPrefix, id) || after.cursor() != f.Cursor {
			return after, fault.New(fault.Unprocessable, "validation_failed", "The cursor is not one that this list returned. Begin the list again without a cursor.").With("/cursor", "is not a cursor of this list")
		}
	}
	return after, p.filterErr()
}

func (d dated) compare(o dated) int {
	return cmp.Or(cmp.Compare(d.at, o.at), cmp.Compare(d.id, o.id))
}

func (d dated) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(int64(d.at), 10) + " " + d.id))
}

// due goes through parts of the catalog once. It counts everything that has a date, and lists what the filter asks for.
func (f DueFilter) due(parts []part, at time.Time) (out Due, list []dated) {
	// The conditions of what is active and of the client are those of a walk.
	w := Filter{ClientID: f.ClientID}.walk(nil, "", at)
	out.Begin = at.UTC().Truncate(24 * time.Hour)
	first, day := store.TimeOf(out.Begin), int64(24*time.Hour/time.Microsecond)
	from, before := store.Time(-1<<63), never
	if !f.From.IsZero() {
		from = store.TimeOf(f.From)
	}
	if !f.Before.IsZero() {
		before = store.TimeOf(f.Before)
	}
	active, compromised := unique.Make(string(Active)), unique.Make(string(Compromised))
	for _, p := range parts {
		for i := range p.in.all {
			e := &p.block.entries[i]
			on := e.expires
			if f.About == AboutRotation {
				if on = e.rotate; e.state == compromised {
					on = e.leaked
				}
			}
			if on == never || e.state != active && (e.state != compromised || f.About != AboutRotation) || !w.matches(e) {
				continue
			}
			switch {
			case on <= w.now:
				out.Overdue++
			case on <= w.soon:
				out.Soon++
			}
			if n := (int64(on) - int64(first)) / day; on >= first && n < DueDays {
				out.Days[n]++
			}
			if on >= from && on < before {
				list = append(list, dated{e.id, on})
			}
		}
	}
	return out, list
}
