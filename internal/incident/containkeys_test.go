package incident_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
)

// TestATimelineIsSilentOfAPrivateTrain: in the details of its entries stand neither the train nor its keys for who does not reach it, and the rest does.
func TestATimelineIsSilentOfAPrivateTrain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx := t.Context()
		_, err := s.trains.UpdateTrain(ctx, s.admin, "web", train.Patch{Visibility: to(identity.PrivateTrain)}, "")
		require.NoError(t, err)
		i, opened, err := s.Report(ctx, s.admin, "planted", s.train.ID, incident.Draft{Meta: incident.Meta{Title: "x"}, Touch: incident.Touch{Trains: []string{"web"}}})
		require.NoError(t, err)
		require.True(t, opened)
		_, _, err = s.Contain(ctx, s.admin, i.ID, incident.Scope{Trains: []string{"other", "web"}, ClientKeys: []string{s.keys[1].ID}}, "*", "")
		require.NoError(t, err)
		told := func(who identity.Caller) string {
			entries, _, err := s.Timeline(ctx, who, i.ID, 0, "")
			require.NoError(t, err)
			var out []string
			for _, e := range entries {
				b, err := e.Details.MarshalJSON()
				require.NoError(t, err)
				out = append(out, string(b))
			}
			return strings.Join(out, "\n")
		}
		all, some := told(s.admin), told(somebody(identity.Operator))
		for _, id := range []string{s.train.ID, s.keys[0].ID, s.keys[1].ID, s.keys[2].ID} {
			require.Contains(t, all, id)
			require.NotContains(t, some, id)
		}
		require.Contains(t, some, "revoke_key key "+s.other.ID)
		require.Contains(t, some, `"subject":"a private train"`)
	})
}

// TestContainASignInAndItsKeys: a key that ends with a session which is contained, and one of a train that is contained too, end once each; the plan that
// names a key twice, by its train and by its session, is carried out.
func TestContainASignInAndItsKeys(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newScene(t, db)
		ctx, i := t.Context(), s.open()
		held, err := s.identity.ListSessions(ctx, s.admin, s.bob.ID)
		require.NoError(t, err)
		bob := identity.Caller{Kind: identity.KindPerson, ID: s.bob.ID, Name: s.bob.Name, UserID: s.bob.ID, Role: identity.Operator, SessionID: held[0].ID, SessionKind: identity.SessionAPI}
		ends := time.Now().Add(time.Hour)
		var bearers []string
		for _, train := range []string{"web", "other"} {
			_, value, err := s.trains.IssueKey(ctx, bob, train, identity.KeyDraft{Name: "brief", ExpiresAt: &ends, WithSession: true})
			require.NoError(t, err)
			bearers = append(bearers, value.Reveal())
		}
		_, _, err = s.Contain(ctx, s.admin, i.ID, incident.Scope{Trains: []string{"web"}, People: []string{s.bob.ID}}, "*", "")
		require.NoError(t, err)
		for _, b := range bearers {
			_, err := s.identity.Client(b)
			require.Error(t, err)
		}
		revoked := map[string]int{}
		for _, b := range records(t, db) {
			ev, err := store.DecodeEvent([]byte(b))
			require.NoError(t, err)
			if ev.Action == store.KeyRevoke {
				revoked[ev.Target.Name]++
			}
		}
		require.Equal(t, map[string]int{"k0": 1, "k1": 1, "k2": 1, "brief": 2}, revoked)
	})
}

// TestContainmentTakesTrainsBeforePeople: as whoever issues a key holds the train and then themselves, so a containment that waits for a train holds nobody yet.
func TestContainmentTakesTrainsBeforePeople(t *testing.T) {
	for _, e := range storetest.Engines() {
		if e != store.Postgres { // SQLite writes one after the other
			continue
		}
		db := storetest.Open(t, e)
		s := newScene(t, db)
		ctx, i := t.Context(), s.open()
		for name, scope := range map[string]incident.Scope{
			"a train":      {Trains: []string{"web"}, People: []string{s.bob.ID}, Deactivate: true},
			"a client key": {ClientKeys: []string{s.keys[0].ID}, People: []string{s.bob.ID}},
		} {
			contained := make(chan error, 1)
			var once sync.Once
			require.NoError(t, db.Write(ctx, func(tx *store.Tx) error {
				if err := tx.Get(new(string), `SELECT id FROM trains WHERE id = $1`+tx.ForUpdate(), s.train.ID); err != nil {
					return err
				}
				once.Do(func() {
					go func() {
						_, _, err := s.Contain(ctx, s.admin, i.ID, scope, "*", "")
						contained <- err
					}()
				})
				for waiting, tries := 0, 0; waiting == 0; tries++ {
					if err := tx.Get(&waiting, `SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))`); err != nil {
						return err
					}
					if tries == 500 {
						return fmt.Errorf("the containment does not wait for the train")
					}
					time.Sleep(10 * time.Millisecond)
				}
				if err := tx.Get(new(string), `SELECT id FROM users WHERE id = $1 FOR UPDATE NOWAIT`, s.bob.ID); err != nil {
					return fmt.Errorf("the containment holds the person: %w", err)
				}
				return tx.Record(identity.System("test").Event(store.KeyIssue, store.Target{Kind: "test"}))
			}), name)
			require.NoError(t, <-contained, name)
		}
	}
}
