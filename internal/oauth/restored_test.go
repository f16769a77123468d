package oauth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

func (p *process) restored(t *testing.T) (doubtful int) {
	t.Helper()
	require.NoError(t, p.db.Write(t.Context(), func(tx *store.Tx) (err error) {
		if doubtful, err = p.Restored(tx); err != nil {
			return err
		}
		return tx.Record(store.Event{Actor: store.Actor{Kind: "system"}, Action: store.AdminRestore, Target: store.Target{Kind: "backup"}})
	}))
	return doubtful
}

// TestARestoredTokenCountsAsSpent: after a restore nobody sends the stored refresh token before its access token has ended, and then once, on record as
// a recovery. One that is good makes the connection healthy; one that was rotated since brings people to log in, and costs nothing else.
func TestARestoredTokenCountsAsSpent(t *testing.T) {
	for _, rotated := range []bool{false, true} {
		each(t, func(t *testing.T, s *site) {
			p := s.open()
			p.channel(t)
			id := s.connect(p)
			access, _, version := p.pair(t, id)
			require.Equal(t, 1, p.restored(t))
			require.Equal(t, oauth.Uncertain, p.state(t, id))
			require.Equal(t, vault.RefreshUncertain, p.health(t, id))
			require.Zero(t, p.restored(t), "what is in doubt stays as it is")

			_, err := p.Refresh(t.Context(), admin(), id)
			requireFault(t, "refresh_failed", err)
			require.Zero(t, s.server.count(), "nobody makes a token safe that may be spent")
			kept, _, _ := p.pair(t, id)
			require.Equal(t, access, kept, "what works is lent on")

			s.clock.Add(time.Hour)
			if rotated {
				s.server.next(answers(provider.Refused, "invalid_grant", 400, 0))
			}
			_, err = p.Refresh(t.Context(), admin(), id)
			require.Equal(t, 1, s.server.count())
			if rotated {
				requireFault(t, "login_required", err)
				require.Equal(t, vault.NeedsLogin, p.health(t, id))
				require.Len(t, p.told(t), 1)
				require.Zero(t, p.restored(t), "it needs a login as before")
				return
			}
			require.NoError(t, err)
			_, _, next := p.pair(t, id)
			require.Equal(t, version+1, next)
			require.Equal(t, vault.Healthy, p.health(t, id))
			require.Contains(t, words(p.events(t, refreshes...)), "oauth.recovery ok restored")
			require.Zero(t, s.server.revoked())
		})
	}
}
