package vault_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

// listens makes a channel that takes every message, so that messages are stored. Nothing delivers them.
func (f *fixture) listens(t *testing.T) {
	t.Helper()
	room, err := notify.New(notify.Config{DB: f.db, Ring: f.ring})
	require.NoError(t, err)
	_, err = room.CreateChannel(t.Context(), admin, notify.Draft{Kind: notify.Slack, Name: "ops", Severity: notify.Info, Secrets: secrets("url", "https://hooks.example.com/services/x")})
	require.NoError(t, err)
}

// told are the reminders on record, in order: name, about, date, step.
func (f *fixture) told(t *testing.T) (out []string) {
	t.Helper()
	for _, ev := range f.events(t) {
		if ev.Action != store.CredentialReminder {
			continue
		}
		part := func(name string) string { d, _ := ev.Details.Get(name); return d.Text() }
		require.Equal(t, "system", ev.Actor.Kind)
		out = append(out, ev.Target.Name+" "+part("about")+" "+part("due_at")[:10]+" "+part("step"))
	}
	return out
}

func (f *fixture) remind(t *testing.T) int {
	t.Helper()
	n, err := f.Remind(t.Context())
	require.NoError(t, err)
	return n
}

// titles are the messages that were stored, in order.
func (f *fixture) titles(t *testing.T) (out []string) {
	t.Helper()
	require.NoError(t, f.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Select(&out, `SELECT title FROM notify_messages ORDER BY id`) }))
	for _, s := range out {
		noSecret(t, s)
	}
	return out
}

func plain(name string) vault.Draft {
	d := password(name)
	d.ClientID = ""
	return d
}

// TestEachStepIsToldOnce: day by day, with more passes than days, each step of a date is told once, on its day.
func TestEachStepIsToldOnce(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.listens(t)
		d := plain("ends")
		d.ExpiresAt = ptr(today.AddDate(0, 0, 40).Add(-5 * time.Hour))
		d.ClientID = "acme"
		f.create(t, d)
		d = plain("plan")
		d.RotateEvery = 45
		f.create(t, d)
		d = plain("week")
		d.RotateEvery = 7
		f.create(t, d)
		d = plain("daily")
		d.RotateEvery = 1
		f.create(t, d)
		f.create(t, plain("neither"))
		on := map[string][]string{}
		for n := range 60 {
			at := today.AddDate(0, 0, n)
			f.now.Set(at)
			before := len(f.told(t))
			require.Equal(t, len(f.told(t))-before, 0)
			sent := f.remind(t)
			f.now.Set(at.Add(9 * time.Hour))
			require.Zero(t, f.remind(t), "day %d", n)
			now := f.told(t)
			require.Len(t, now, before+sent)
			for _, line := range now[before:] {
				on[line] = append(on[line], at.Format("01-02"))
			}
		}
		require.Equal(t, map[string][]string{
			"ends expiry 2026-06-13 30": {"05-14"}, "ends expiry 2026-06-13 14": {"05-30"}, "ends expiry 2026-06-13 7": {"06-06"},
			"ends expiry 2026-06-13 1": {"06-12"}, "ends expiry 2026-06-13 0": {"06-13"}, "ends expiry 2026-06-13 -1": {"06-14"},
			"plan rotation 2026-06-18 30": {"05-19"}, "plan rotation 2026-06-18 14": {"06-04"}, "plan rotation 2026-06-18 7": {"06-11"},
			"plan rotation 2026-06-18 1": {"06-17"}, "plan rotation 2026-06-18 0": {"06-18"}, "plan rotation 2026-06-18 -1": {"06-19"},
			"week rotation 2026-05-11 1": {"05-10"}, "week rotation 2026-05-11 0": {"05-11"}, "week rotation 2026-05-11 -1": {"05-12"},
			"daily rotation 2026-05-05 0": {"05-05"}, "daily rotation 2026-05-05 -1": {"05-06"},
		}, on)
		titles := f.titles(t)
		require.Len(t, titles, len(on))
		for _, want := range []string{"Credential ends expires in 30 days, on 2026-06-13", "Credential ends expires tomorrow, 2026-06-13", "Credential ends expires today, 2026-06-13",
			"Credential ends expired on 2026-06-13", "Credential plan is to be rotated in 14 days, on 2026-06-18", "Credential plan was to be rotated by 2026-06-18"} {
			require.Contains(t, titles, want)
		}
		require.Equal(t, 1, f.count(t, `SELECT COUNT(*) FROM notify_messages WHERE severity = 'critical'`))
		require.Equal(t, 6, f.count(t, `SELECT COUNT(*) FROM notify_messages WHERE body LIKE '%"client"%' AND body LIKE '%acme%'`))
		counts, last := f.Reminders()
		require.Equal(t, int64(1), counts[vault.Reminded{About: vault.AboutExpiry, Step: -1}])
		require.Equal(t, int64(3), counts[vault.Reminded{About: vault.AboutRotation, Step: -1}])
		require.False(t, last.IsZero())
	})
}

// TestMissedStepsAndNewDates: after a pause only the latest step is told; another date begins anew, and a date that comes back does not; what is put
// aside is not told of.
func TestMissedStepsAndNewDates(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.listens(t)
		d := plain("one")
		first := today.AddDate(0, 0, 100)
		d.ExpiresAt = &first
		c := f.create(t, d)
		require.Zero(t, f.remind(t))
		f.now.Set(first.AddDate(0, 0, -3)) // nobody was there for a long time
		require.Equal(t, 1, f.remind(t))
		require.Equal(t, []string{"one expiry 2026-08-12 7"}, f.told(t))
		require.Equal(t, []string{"Credential one expires in 3 days, on 2026-08-12"}, f.titles(t), "the days that are left are told, not the step")

		second := first.AddDate(0, 0, 10)
		edit := func(p vault.Patch) {
			t.Helper()
			now, err := f.Get(t.Context(), admin, c.ID)
			require.NoError(t, err)
			_, err = f.Update(t.Context(), admin, c.ID, p, now.ETag())
			require.NoError(t, err)
		}
		edit(vault.Patch{ExpiresAt: vault.To(&second)})
		require.Equal(t, 1, f.remind(t), "a new date begins anew")
		edit(vault.Patch{ExpiresAt: vault.To(&first)})
		require.Zero(t, f.remind(t), "of this date the step was told")
		edit(vault.Patch{ExpiresAt: vault.Clear[*time.Time]()})
		require.Zero(t, f.remind(t))
		edit(vault.Patch{ExpiresAt: vault.To(&second), State: vault.To(vault.Disabled)})
		f.now.Set(second.AddDate(0, 0, 1))
		require.Zero(t, f.remind(t), "what is disabled is not told of")
		edit(vault.Patch{State: vault.To(vault.Compromised)})
		require.Zero(t, f.remind(t))
		edit(vault.Patch{State: vault.To(vault.Active)})
		require.Equal(t, 1, f.remind(t))
		require.Equal(t, []string{"one expiry 2026-08-12 7", "one expiry 2026-08-22 14", "one expiry 2026-08-22 -1"}, f.told(t))

		// A rotation is a new date; the plan is counted from it.
		edit(vault.Patch{ExpiresAt: vault.Clear[*time.Time](), RotateEvery: vault.To(20)})
		require.Equal(t, 1, f.remind(t), "overdue since it was stored")
		_, err := f.Rotate(t.Context(), admin, c.ID, map[string]secret.Value{"password": secret.FromString("rotated-Planted-4711-value")}, "")
		require.NoError(t, err)
		require.Zero(t, f.remind(t))
		f.now.Set(second.AddDate(0, 0, 1+20-14))
		require.Equal(t, 1, f.remind(t))
		told := f.told(t)
		require.Equal(t, "one rotation 2026-09-12 14", told[len(told)-1])

		// A restart knows what was told.
		require.NoError(t, f.db.Close())
		f.db = storetest.OpenConfig(t, f.cfg)
		f.Room = f.room(t, f.ring)
		require.Zero(t, f.remind(t))
		require.Equal(t, told, f.told(t))
		require.NotZero(t, f.count(t, `SELECT COUNT(*) FROM credential_reminders`))
		require.NoError(t, f.Delete(t.Context(), admin, c.ID, ""))
		require.Zero(t, f.count(t, `SELECT COUNT(*) FROM credential_reminders`))
	})
}

// TestInstancesRemindOnce: of several instances that look at the same time, one tells. On SQLite, where one process writes, they are rooms of it.
func TestInstancesRemindOnce(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.listens(t)
		const n = 40
		for i := range n {
			d := plain(fmt.Sprintf("c%02d", i))
			d.ExpiresAt = ptr(today.AddDate(0, 0, 20))
			f.create(t, d)
		}
		rooms := []*vault.Room{f.Room}
		for range 2 {
			other := *f
			if f.db.Engine() == store.Postgres {
				other.db = storetest.OpenConfig(t, f.cfg)
			}
			rooms = append(rooms, other.room(t, f.ring))
		}
		for _, step := range []int{14, 7} {
			f.now.Set(today.AddDate(0, 0, 20-step))
			var all sync.WaitGroup
			told, errs := make([]int, len(rooms)), make([]error, len(rooms))
			begin := make(chan struct{})
			for i, room := range rooms {
				all.Go(func() {
					<-begin
					told[i], errs[i] = room.Remind(t.Context())
				})
			}
			close(begin)
			all.Wait()
			sum := 0
			for i := range rooms {
				require.NoError(t, errs[i])
				sum += told[i]
			}
			require.Equal(t, n, sum, "%v", told)
		}
		lines := f.told(t)
		require.Len(t, lines, 2*n)
		slices.Sort(lines)
		require.Len(t, slices.Compact(lines), 2*n, "something was told twice")
		require.Len(t, f.titles(t), 2*n)
	})
}

// TestRotationDue: what is to be rotated is listed by when, and what has no plan is not.
func TestRotationDue(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		for name, every := range map[string]int{"week": 7, "month": 30, "never": 0} {
			d := plain(name)
			d.RotateEvery = every
			f.create(t, d)
		}
		list := func(days int) string {
			items, _, err := f.List(t.Context(), auditor, vault.Filter{RotationDueBefore: ptr(today.AddDate(0, 0, days))})
			require.NoError(t, err)
			var names []string
			for _, c := range items {
				require.NotNil(t, c.RotationDue())
				require.WithinDuration(t, c.CreatedAt.AddDate(0, 0, c.RotateEvery), *c.RotationDue(), 0)
				names = append(names, c.Name)
			}
			slices.Sort(names)
			return strings.Join(names, " ")
		}
		require.Empty(t, list(6))
		require.Equal(t, "week", list(8))
		require.Equal(t, "month week", list(31))
		_, _, err := f.List(t.Context(), auditor, vault.Filter{RotationDueBefore: ptr(time.Unix(0, 0))})
		require.Equal(t, []string{"/rotation_due_before"}, pointers(requireCode(t, err, "validation_failed")))
	})
}
