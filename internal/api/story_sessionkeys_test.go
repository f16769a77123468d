package api_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// commandLine signs a command line in as a person, with a proof that is not fresh any more.
func (h *house) commandLine(user string) client.Login {
	h.t.Helper()
	in, err := h.as("").ExchangeLoginCode(h.t.Context(), h.agreed(user), loginVerifier)
	require.NoError(h.t, err)
	h.stale()
	return in
}

// TestKeysThatEndWithASignIn: a command line issues client keys of some hours without a fresh proof. They end with its sign-in, whoever ends that, and
// nothing makes them live longer. A browser's session, a token and a long life are refused.
func TestKeysThatEndWithASignIn(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx, w := t.Context(), h.world()
		in := h.commandLine(h.user.ID)
		cli := h.as(in.AccessToken)
		at := func(d time.Duration) *time.Time { return ptr(time.Now().Add(d).UTC().Truncate(time.Second)) }

		_, err := cli.IssueKey(ctx, w.trainSlug, client.KeyDraft{Name: "k", ExpiresAt: at(time.Hour)})
		refused(t, err, 403, "step_up_required")
		browser, token := h.as(h.session(h.user.ID)), h.client
		for name, d := range map[string]client.KeyDraft{
			"no end": {Name: "k", WithSession: true},
			"past":   {Name: "k", WithSession: true, ExpiresAt: at(-time.Minute)},
		} {
			_, err := cli.IssueKey(ctx, w.trainSlug, d)
			e := refused(t, err, 422, "validation_failed")
			require.Equal(t, "/expires_at", e.Errors[0].Pointer, name)
		}
		good := client.KeyDraft{Name: "k", WithSession: true, ExpiresAt: at(8 * time.Hour)}
		for _, c := range []*client.Client{browser, token} {
			_, err := c.IssueKey(ctx, w.trainSlug, good)
			e := refused(t, err, 422, "validation_failed")
			require.Equal(t, "/with_session", e.Errors[0].Pointer)
		}
		_, err = h.as(h.commandLine(h.person(identity.Auditor)).AccessToken).IssueKey(ctx, w.trainSlug, good)
		refused(t, err, 403, "forbidden")
		_, err = h.as(h.commandLine(h.person(identity.Member)).AccessToken).IssueKey(ctx, w.trainSlug, good)
		refused(t, err, 404, "not_found") // to who is not on it there is no such train
		mine := h.commandLine(w.user)
		own, err := h.as(mine.AccessToken).IssueKey(ctx, w.trainSlug, good)
		require.NoError(t, err)
		require.Equal(t, w.user, own.CreatedBy)
		_, err = cli.IssueKey(ctx, "nowhere", good)
		refused(t, err, 404, "not_found")

		key, err := cli.IssueKey(ctx, w.trainSlug, good)
		require.NoError(t, err)
		require.True(t, key.WithSession)
		require.Equal(t, *good.ExpiresAt, *key.ExpiresAt)
		_, err = h.identity.Client(key.APIKey)
		require.NoError(t, err)

		late, err := h.as(h.commandLine(h.user.ID).AccessToken).IssueKey(ctx, w.trainSlug, client.KeyDraft{Name: "late", WithSession: true, ExpiresAt: at(identity.BriefLife + time.Hour)})
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(identity.BriefLife), *late.ExpiresAt, time.Minute)

		// A sign-in that runs out takes it along.
		short := h.commandLine(h.user.ID)
		end := time.Now().Add(20 * time.Minute).UTC().Truncate(time.Microsecond)
		h.write(func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE sessions SET expires_at = $1 WHERE id = $2`, store.TimeOf(end), short.SessionID)
			tx.Change(store.TopicSession, short.SessionID)
			return err
		})
		brief, err := h.as(short.AccessToken).IssueKey(ctx, w.trainSlug, good)
		require.NoError(t, err)
		require.Equal(t, end, *brief.ExpiresAt)

		// It does not come to live longer, and may live shorter.
		for _, p := range []client.KeyPatch{{ExpiresAt: at(9 * time.Hour)}, {Clear: []string{"expires_at"}}} {
			for _, c := range []*client.Client{cli, token} {
				_, err := c.UpdateKey(ctx, w.trainSlug, key.ID, p)
				refused(t, err, 409, "state_conflict")
			}
		}
		_, err = cli.UpdateKey(ctx, w.trainSlug, key.ID, client.KeyPatch{ExpiresAt: at(7 * time.Hour)})
		require.NoError(t, err)
		_, err = cli.ReplaceKey(ctx, w.trainSlug, key.ID, client.KeyReplacement{})
		refused(t, err, 403, "step_up_required")

		// Another key of the person stays when the sign-in ends, and one of another sign-in too.
		other := h.commandLine(h.user.ID)
		second, err := h.as(other.AccessToken).IssueKey(ctx, w.trainSlug, client.KeyDraft{Name: "other", WithSession: true, ExpiresAt: at(time.Hour)})
		require.NoError(t, err)
		before := len(h.events())
		require.NoError(t, h.as("").RevokeLogin(ctx, in.RefreshToken))
		_, err = h.identity.Client(key.APIKey)
		require.Error(t, err)
		got, err := token.GetKey(ctx, w.trainSlug, key.ID)
		require.NoError(t, err)
		require.Equal(t, "revoked", got.Status)
		events := h.events()
		require.Len(t, events, before+2)
		require.Equal(t, store.KeyRevoke, events[0].Action)
		require.Equal(t, key.ID, events[0].Target.ID)
		require.Equal(t, "session_ended", events[0].Reason)
		require.Equal(t, h.user.ID, events[0].Actor.ID)
		for _, alive := range []string{second.APIKey} {
			_, err = h.identity.Client(alive)
			require.NoError(t, err)
		}
		// Somebody else ends the sign-in.
		require.NoError(t, token.EndSession(ctx, other.SessionID))
		_, err = h.identity.Client(second.APIKey)
		require.Error(t, err)
		_, err = h.as(other.AccessToken).IssueKey(ctx, w.trainSlug, good)
		refused(t, err, 401, "unauthenticated")
	})
}

// TestNoKeyOutlivesItsSignIn: keys are issued while the sign-in ends, and none is left.
func TestNoKeyOutlivesItsSignIn(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx, w := t.Context(), h.world()
		_, err := h.client.UpdateTrain(ctx, w.trainSlug, client.TrainPatch{KeyLimit: ptr(100)})
		require.NoError(t, err)
		ends := time.Now().Add(time.Hour)
		for range 5 {
			in := h.commandLine(h.user.ID)
			issued := make(chan string, 40)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range 10 {
						key, err := h.as(in.AccessToken).IssueKey(ctx, w.trainSlug, client.KeyDraft{Name: "k", WithSession: true, ExpiresAt: &ends})
						if err != nil {
							return
						}
						issued <- key.APIKey
					}
				})
			}
			first := <-issued
			require.NoError(t, h.as("").RevokeLogin(ctx, in.RefreshToken))
			wg.Wait()
			close(issued)
			for key := range issued {
				_, err := h.identity.Client(key)
				require.Error(t, err)
			}
			_, err := h.identity.Client(first)
			require.Error(t, err)
		}
	})
}
