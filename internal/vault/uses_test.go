package vault_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// used returns when a vault says that a credential was last used, in its list and alone, which must agree.
func used(t *testing.T, room *vault.Room, id string) *time.Time {
	t.Helper()
	one, err := room.Get(t.Context(), admin, id)
	require.NoError(t, err)
	for _, f := range []vault.Filter{{}, {Q: one.Name}} {
		list, _, err := room.List(t.Context(), admin, f)
		require.NoError(t, err)
		for _, c := range list {
			if c.ID == id {
				require.Equal(t, one.LastUsedAt, c.LastUsedAt)
			}
		}
	}
	return one.LastUsedAt
}

// TestLastUseOverInstances: the instance that lent knows at once, the others when it has written; the later use stands whoever writes last.
func TestLastUseOverInstances(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		here, there := f.Room, f.room(t, f.ring)
		a, b := f.create(t, apiKey("a")), f.create(t, apiKey("b"))
		at := func(n int) time.Time { return today.Add(time.Duration(n) * time.Minute) }
		require.Nil(t, used(t, here, a.ID))
		tag, err := here.Get(t.Context(), admin, a.ID)
		require.NoError(t, err)

		ours, theirs := vault.NewUse(a.ID), vault.NewUse(a.ID)
		here.Used(ours, at(1))
		here.Used(ours, at(5))
		there.Used(theirs, at(3))
		require.Equal(t, at(5), *used(t, here, a.ID))
		require.Equal(t, at(3), *used(t, there, a.ID))
		require.Zero(t, f.count(t, `SELECT count(*) FROM credential_uses`), "a use writes nothing")

		gone, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, here.WriteUses(gone))
		require.NoError(t, here.WriteUses(t.Context()), "what could not be written waits")
		require.Equal(t, at(5), *used(t, there, a.ID), "the database knows of a later one")
		require.NoError(t, there.WriteUses(t.Context()))
		require.Equal(t, at(5), *used(t, there, a.ID))
		require.Equal(t, at(5), *used(t, f.room(t, f.ring), a.ID), "as after a restart")
		require.Nil(t, used(t, here, b.ID))
		now, err := here.Get(t.Context(), admin, a.ID)
		require.NoError(t, err)
		require.Equal(t, tag.ETag(), now.ETag(), "a use is no change")

		// It was unlinked and linked again, which makes another Use of it while the first one waits.
		here.Used(ours, at(6))
		here.Used(vault.NewUse(a.ID), at(7))
		require.Equal(t, at(7), *used(t, here, a.ID))
		require.NoError(t, here.WriteUses(t.Context()))
		here.Used(ours, at(8))
		require.NoError(t, here.WriteUses(t.Context()))
		require.Equal(t, at(8), *used(t, there, a.ID))
	})
}

// TestLastUseOfWhatIsGone: uses of many credentials, of which most were deleted, are written without those.
func TestLastUseOfWhatIsGone(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		a, b := f.create(t, apiKey("a")), f.create(t, apiKey("b"))
		for range 200 {
			f.Used(vault.NewUse(store.NewID("cred")), today)
		}
		f.Used(vault.NewUse(a.ID), today)
		f.Used(vault.NewUse(b.ID), today)
		require.NoError(t, f.Delete(t.Context(), admin, b.ID, ""))
		require.NoError(t, f.WriteUses(t.Context()))
		require.Equal(t, 1, f.count(t, `SELECT count(*) FROM credential_uses`))
		require.NoError(t, f.Delete(t.Context(), admin, a.ID, ""))
		require.Zero(t, f.count(t, `SELECT count(*) FROM credential_uses`))
	})
}

// TestRevealIsAUse: what a person was shown was used then, also as others see it.
func TestRevealIsAUse(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, password("Gitea"))
		f.now.Set(today.Add(time.Hour))
		_, err := f.Reveal(t.Context(), admin, c.ID, "nothing", "curious")
		requireCode(t, err, "not_revealable")
		require.Nil(t, used(t, f.Room, c.ID))
		f.reveal(t, c.ID, "password")
		require.WithinRange(t, *used(t, f.room(t, f.ring), c.ID), today.Add(time.Hour), today.Add(time.Hour+time.Second))
	})
}
