package vault

import (
	"cmp"
	"context"
	"slices"
	"time"
	"unique"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// DueDays is how many days ahead [Attention] looks.
const DueDays = 90

// Attention is what, of the credentials that a caller sees, wants somebody to do something. A credential counts under the most pressing heading
// alone: one that needs a login and has expired has expired.
type Attention struct {
	// All counts the credentials that the caller sees.
	All int
	// Compromised, Expired, NeedsLogin, Uncertain, Failing and Expiring count those that want something; the first is the most pressing.
	Compromised, Expired, NeedsLogin, Uncertain, Failing, Expiring int
	// Urgent are the most pressing of them, those that end first before the others of the same heading.
	Urgent []Credential
	// Due counts the active credentials that end on each day from From on, the first of which is today (UTC).
	Due  [DueDays]int
	From time.Time
}

// Count is how many want something.
func (a Attention) Count() int {
	return a.Compromised + a.Expired + a.NeedsLogin + a.Uncertain + a.Failing + a.Expiring
}

// wanting is one credential that wants something, and how much.
type wanting struct {
	id       string
	pressing int // 0 is the most
	ends     store.Time
}

// Attention tells what wants somebody, with at most so many of the most pressing credentials. It goes through the catalog, so that it costs the same
// whatever there is; what it shows of a credential is read from the database. One event tells of it, as of a list. It needs credentials:read.
func (r *Room) Attention(ctx context.Context, caller identity.Caller, most int) (Attention, error) {
	reach, err := r.reach(ctx, caller, identity.CredentialRead, "list", "")
	if err != nil {
		return Attention{}, err
	}
	var ids []string
	if reach != identity.Everything {
		if ids, err = r.visible(ctx, caller, nil); err != nil {
			return Attention{}, err
		}
	}
	blocks, err := r.catalog.current(ctx)
	if err != nil {
		return Attention{}, err
	}
	parts := whole(blocks)
	if reach != identity.Everything {
		parts = only(blocks, ids)
	}
	var now time.Time
	if err := r.db.Read(ctx, func(tx *store.Tx) error { now = tx.Now(); return nil }); err != nil {
		return Attention{}, err
	}
	out, list := attention(parts, now)
	slices.SortFunc(list, func(a, b wanting) int {
		return cmp.Or(cmp.Compare(a.pressing, b.pressing), cmp.Compare(a.ends, b.ends), cmp.Compare(a.id, b.id))
	})
	list = list[:min(most, len(list))]
	if len(list) > 0 {
		f := Filter{Limit: len(list)}
		rank := map[string]int{}
		for i, w := range list {
			f.IDs, rank[w.id] = append(f.IDs, w.id), i
		}
		if out.Urgent, _, err = r.page(ctx, f, ""); err != nil {
			return Attention{}, err
		}
		slices.SortFunc(out.Urgent, func(a, b Credential) int { return cmp.Compare(rank[a.ID], rank[b.ID]) })
	}
	ev := caller.Event(store.CredentialList, store.Target{Kind: targetKind})
	ev.Details = store.Details{store.Int("count", int64(len(out.Urgent))), store.Strs("filters", []string{"attention"})}
	if err := r.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) }); err != nil {
		return Attention{}, err
	}
	return out, nil
}

// attention goes through parts of the catalog once.
func attention(parts []part, at time.Time) (out Attention, list []wanting) {
	// The conditions of a status and of a health are those of a walk, so that a heading counts what its list shows.
	w := Filter{}.walk(nil, "", at)
	compromised, oauth := unique.Make(string(Compromised)), unique.Make(string(OAuth))
	lost, uncertain, failing := unique.Make(string(NeedsLogin)), unique.Make(string(RefreshUncertain)), unique.Make(string(RefreshFailing))
	out.From = at.UTC().Truncate(24 * time.Hour)
	first := store.TimeOf(out.From)
	day := int64(24 * time.Hour / time.Microsecond)
	counts := []*int{&out.Compromised, &out.Expired, &out.NeedsLogin, &out.Uncertain, &out.Failing, &out.Expiring}
	for _, p := range parts {
		for i := range p.in.all {
			e := p.block.entries[i]
			out.All++
			connected := e.exact[typeColumn] == oauth
			pressing := -1
			switch {
			case e.state == compromised:
				pressing = 0
			case e.state != w.active:
				continue // somebody put it aside
			case e.expires <= w.now:
				pressing = 1
			case connected && (e.dead <= w.now || e.health == lost):
				pressing = 2
			case connected && e.health == uncertain:
				pressing = 3
			case connected && e.health == failing:
				pressing = 4
			case e.expires <= w.soon:
				pressing = 5
			}
			if n := (int64(e.expires) - int64(first)) / day; e.state == w.active && e.expires != never && e.expires >= first && n < DueDays {
				out.Due[n]++
			}
			if pressing >= 0 {
				*counts[pressing]++
				list = append(list, wanting{e.id, pressing, e.expires})
			}
		}
	}
	return out, list
}
