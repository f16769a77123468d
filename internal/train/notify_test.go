package train_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

// TestPeopleHearOfRefusedAccounts: a credential that the upstream refuses needs somebody, once an hour and version; a rate limit or an outage
// mends itself.
func TestPeopleHearOfRefusedAccounts(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, id := y.line()
		told := func() (titles []string) {
			require.NoError(t, y.db.Read(context.Background(), func(tx *store.Tx) error {
				return tx.Select(&titles, `SELECT m.body FROM notify_messages m JOIN notify_deliveries d ON d.message_id = m.id ORDER BY m.id`)
			}))
			return titles
		}
		fail := func(f train.Failure) {
			_, err := y.lend(caller, want()).Next(t.Context(), f)
			require.ErrorIs(t, err, train.ErrNoOther)
			y.clock.Add(coolestMinute * 16)
		}
		fail(train.Failure{Status: 403})
		require.Empty(t, told(), "there is no channel")
		require.NoError(t, y.db.Bookkeep(context.Background(), store.Outbox, func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO notify_channels (id, kind, name, enabled, severity, kinds, settings, secret_fields, secret_version, sealed, hold_until, created_at, updated_at, revision)
				VALUES ('ntc_1','slack','ops',1,'info','[]','{}','[]',1,$1,0,1,1,1)`, []byte{})
			return err
		}))
		fail(train.Failure{Status: 429})
		fail(train.Failure{Status: 500})
		fail(train.Failure{Dial: true})
		require.Empty(t, told())
		fail(train.Failure{Status: 401})
		require.Len(t, told(), 1)
		require.Contains(t, told()[0], `"title":"Account alpha is refused by its upstream"`)
		require.Contains(t, told()[0], id)
		require.NotContains(t, told()[0], planted)
		fail(train.Failure{Status: 401})
		require.Len(t, told(), 1, "one an hour")
		y.rotate("alpha")
		fail(train.Failure{Status: 401})
		require.Len(t, told(), 2, "another version of the secret is another matter")

		// The people of a train hear of rate limits and outages too, of each answer once a quarter of an hour.
		require.NoError(t, y.db.Bookkeep(context.Background(), store.Outbox, func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO notify_channels (id, train_id, kind, name, enabled, severity, kinds, settings, secret_fields, secret_version, sealed, hold_until, created_at, updated_at, revision)
				VALUES ('ntc_2',$2,'slack','web slack',1,'info','[]','{}','[]',1,$1,0,1,1,1)`, []byte{}, caller.TrainID)
			return err
		}))
		for range 2 {
			fail(train.Failure{Status: 429})
			y.clock.Add(-coolestMinute * 15)
		}
		fail(train.Failure{Dial: true})
		require.Len(t, told(), 4)
		require.Contains(t, told()[2], "It rests because the upstream limits its rate (429)")
		require.Contains(t, told()[3], "could not be reached")
	})
}
