package train

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
)

// NewDeaf returns a room that hears of nothing but what the test gives to [Room.Follow].
func NewDeaf(cfg Config) (*Room, error) {
	return newRoom(cfg)
}

// Follow hands changes to the room as the feed does.
func (r *Room) Follow(ctx context.Context, changes []store.Change) error {
	return r.follow(ctx, changes)
}

// Laid returns how many lines were made since the last reset.
func (r *Room) Laid() int { return r.lines.Load().laid }

// Picture is what the room knows, told in values that can be compared.
type Picture struct {
	Lines    map[string]string   // by the train's id
	Accounts map[string]string   // by the credential's id
	Users    map[string][]string // trains by credential
	Meters   map[string]int      // uses by "slug/account"
}

// Picture returns what the room goes by now.
func (r *Room) Picture() Picture {
	r.following.Lock() // on PostgreSQL the feed may tell a change twice, the second time later
	defer r.following.Unlock()
	return r.lines.Load().picture()
}

// Loaded returns what the room would go by if it read everything anew.
func (r *Room) Loaded(ctx context.Context) (Picture, error) {
	n, err := r.readAll(ctx)
	if err != nil {
		return Picture{}, err
	}
	b := (&Room{meters: noMeters{}, keyless: r.keyless}).emptyBoard()
	r.hang(b, (&Room{meters: noMeters{}}).emptyBoard(), n)
	return b.picture(), nil
}

func (b *board) picture() Picture {
	p := Picture{Lines: map[string]string{}, Accounts: map[string]string{}, Users: map[string][]string{}, Meters: map[string]int{}}
	for a := range b.accounts.all() {
		cool := a.cooling.Load()
		if cool != nil && cool.version != a.Version {
			cool = nil // of another secret: it means nothing
		}
		p.Accounts[a.id] = fmt.Sprintf("%+v bearer=%t header=%x obstacle=%q bound=%t cool=%+v", tell(a), a.bearer, a.header.Bytes(), a.obstacle, a.baseBound, cool)
	}
	slugs := 0
	for l := range b.lines.all() {
		text := fmt.Sprintf("%+v", l.Train)
		for _, g := range l.rungs {
			if b.accounts.get(g.account.id) != g.account {
				text += " STALE"
			}
			text += fmt.Sprintf("\n%+v score=%x", l.link(g), g.score)
			if g.account.isAccount() {
				p.Meters[l.Slug+"/"+g.account.name]++
			}
		}
		if b.slugs != nil && b.slugs.get(l.Slug) != l.ID {
			text += " UNNAMED"
		}
		slugs++
		p.Lines[l.ID] = text
	}
	if b.slugs != nil && len(slices.Collect(b.slugs.all())) != slugs {
		p.Lines["slugs"] = "there are slugs of trains that are gone"
	}
	for id, u := range b.users {
		p.Users[id] = slices.Sorted(slices.Values(u.list()))
	}
	if len(b.loose) > 0 {
		p.Users["loose"] = slices.Sorted(maps.Keys(b.loose))
	}
	return p
}

// tell returns every field of an account's material, pointers followed.
func tell(a *account) (out []string) {
	v := reflect.ValueOf(a.Material)
	for i := range v.NumField() {
		f := v.Field(i)
		for f.Kind() == reflect.Pointer && !f.IsNil() {
			f = f.Elem()
		}
		out = append(out, fmt.Sprintf("%s=%v", v.Type().Field(i).Name, f.Interface()))
	}
	return out
}

// WriteWindows is what the room does every two seconds.
func (r *Room) WriteWindows(ctx context.Context) error { return r.writeWindows(ctx) }

// Ahead is what the watchdog does now and then.
func (r *Room) Ahead() { r.ahead() }

// Used tells how far limits are used, of whomever.
func (r *Room) Used(ctx context.Context, subject string, l *quota.Limits) (used []quota.Used, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		used, err = r.used(tx, subject, l)
		return err
	})
	return used, err
}

// Keep is what the room does every three seconds.
func (r *Room) Keep(ctx context.Context) error { return r.presence.keep(ctx) }

// Past makes it as if requests at once had last been asked for, and the others last been told that this instance is there, so much earlier.
func (r *Room) Past(wanted, shown time.Duration) {
	p := r.presence
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted, p.shown = p.wanted.Add(-wanted), p.shown.Add(-shown)
}

// SweepSoon lets the next sweep of the counts begin now.
func (r *Room) SweepSoon() { r.nears.sweep.Reset(0) }

// Show says to the other instances that this one is there, and reads which they are.
func (r *Room) Show(ctx context.Context) error { return r.presence.write(ctx) }
