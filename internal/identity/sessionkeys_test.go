package identity_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// brief issues a client key that ends with the caller's session.
func (h *house) brief(c identity.Caller, ends time.Time) (k identity.Key, bearer string, err error) {
	h.t.Helper()
	err = h.write(func(tx *store.Tx) error {
		key, value, err := h.IssueKey(tx, c, "train_a", identity.KeyDraft{Name: "brief", ExpiresAt: &ends, WithSession: true})
		k, bearer = key, value.Reveal()
		return err
	})
	return k, bearer, err
}

// TestARestoreEndsTheKeysOfSessions: the sessions are left behind, and so are the keys that end with them; others live on.
func TestARestoreEndsTheKeysOfSessions(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		h.admin()
		gone, stays := h.requireAlive(h.signIn().Access.Reveal()), h.requireAlive(h.signIn().Access.Reveal())
		k, bearer, err := h.brief(gone, h.clock.Now().Add(time.Hour))
		require.NoError(t, err)
		_, held, err := h.brief(stays, h.clock.Now().Add(time.Hour))
		require.NoError(t, err)
		_, alone := h.mustIssue("train_a", "alone")
		require.NoError(t, h.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM sessions WHERE id = $1`, gone.SessionID)
			return err
		}))
		_, err = h.Client(bearer)
		require.NoError(t, err)
		for range 2 {
			require.NoError(t, h.write(func(tx *store.Tx) error {
				if err := h.Restored(tx); err != nil {
					return err
				}
				return tx.Record(store.Event{Actor: store.Actor{Kind: "system", ID: "test"}, Action: store.AdminRestore, Target: store.Target{Kind: "test"}})
			}))
		}
		_, err = h.Client(bearer)
		requireFault(t, "unauthenticated", err)
		for _, still := range []string{held, alone} {
			_, err = h.Client(still)
			require.NoError(t, err)
		}
		events := h.eventsOf(store.KeyRevoke)
		require.Len(t, events, 1)
		require.Equal(t, k.ID, events[0].Target.ID)
		require.Equal(t, "session_ended", events[0].Reason)
	})
}

// TestABriefKeyIsNeverLonger: an end beyond twelve hours is brought forward, since the clock of whoever asks may be ahead; one in the past is refused.
func TestABriefKeyIsNeverLonger(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		h.admin()
		who := h.requireAlive(h.signIn().Access.Reveal())
		for beyond, want := range map[time.Duration]time.Duration{-time.Second: -time.Second, 0: 0, 2 * time.Second: 0, 1000 * time.Hour: 0} {
			k, _, err := h.brief(who, h.clock.Now().Add(identity.BriefLife+beyond))
			require.NoError(t, err)
			require.Equal(t, h.clock.Now().Add(identity.BriefLife+want), *k.ExpiresAt)
		}
		_, _, err := h.brief(who, h.clock.Now().Add(-time.Second))
		requireFault(t, "validation_failed", err)
	})
}
