package train_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// TestTheDefaultAccountIsTriedFirst: whatever the strategy, as long as it can be used; it goes with its link, and only a linked account can be it.
func TestTheDefaultAccountIsTriedFirst(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		alpha, beta, gamma := y.account("alpha"), y.account("beta"), y.account("gamma")
		for _, strategy := range []train.Strategy{train.Hash, train.Priority} {
			slug := string(strategy)
			y.train(slug, strategy)
			y.linkAt(slug, alpha, 1)
			y.linkAt(slug, beta, 2)
			caller, _ := y.key(slug)
			next := func() string {
				t.Helper()
				l := y.lend(caller, want())
				defer l.Done(train.Outcome{Result: train.OK})
				return sent(t, l)
			}
			usual := next()
			other := map[string]string{"alpha": "beta", "beta": "alpha"}[usual]
			set := func(ref string) (train.Train, error) {
				return y.UpdateTrain(t.Context(), y.admin, slug, train.Patch{DefaultAccount: &ref}, "")
			}
			for _, wrong := range []string{"gamma", gamma, "nobody", store.NewID("cred"), y.password("plain-" + slug)} {
				_, err := set(wrong)
				require.Equal(t, "/default_account", requireFault(t, "validation_failed", err).Fields[0].Pointer)
			}
			for _, ref := range []string{other, "acc_" + other, y.named(other)} {
				was, err := set("")
				require.NoError(t, err)
				require.Equal(t, usual, next())
				now, err := set(ref)
				require.NoError(t, err)
				require.Equal(t, y.named(other), now.DefaultAccount)
				require.NotEqual(t, was.ETag(), now.ETag())
				require.Equal(t, other, next())
			}
			e, err := y.Explain(t.Context(), y.admin, slug)
			require.NoError(t, err)
			require.Contains(t, e.Accounts[0].Order, "the train's default account")
			require.True(t, e.Accounts[0].Chosen)
			w := want()
			w.Account = usual
			l := y.lend(caller, w)
			require.Equal(t, usual, sent(t, l), "who names an account gets that one")
			l.Done(train.Outcome{Result: train.OK})

			// Paused or cooling, it is passed over; it stays the default.
			_, err = y.vault.SetLending(t.Context(), y.admin, y.named(other), vault.Paused, "")
			require.NoError(t, err)
			require.Equal(t, usual, next())
			_, err = y.vault.SetLending(t.Context(), y.admin, y.named(other), vault.Lent, "")
			require.NoError(t, err)
			require.Equal(t, other, next())

			before, err := y.GetTrain(t.Context(), y.admin, slug)
			require.NoError(t, err)
			_, _, err = y.Link(t.Context(), y.admin, slug, train.LinkDraft{Credential: gamma})
			require.NoError(t, err)
			require.NoError(t, y.Unlink(t.Context(), y.admin, slug, other, ""))
			after, err := y.GetTrain(t.Context(), y.admin, slug)
			require.NoError(t, err)
			require.Empty(t, after.DefaultAccount)
			require.Equal(t, before.Links, after.Links)
			require.NotEqual(t, before.ETag(), after.ETag(), "a train without its default is another")
			y.linkAt(slug, y.named(other), 2)
			again, err := y.GetTrain(t.Context(), y.admin, slug)
			require.NoError(t, err)
			require.Empty(t, again.DefaultAccount, "linked anew it is an account like the others")
		}
		var fields [][]string
		for _, ev := range y.events(store.TrainUpdate) {
			fields = append(fields, ev.Fields)
		}
		require.Contains(t, fields, []string{"default_account"})

		_, err := y.UpdateTrain(t.Context(), y.admin, "hash", train.Patch{DefaultAccount: ptr("gamma")}, "")
		require.NoError(t, err)
		require.NoError(t, y.vault.Delete(t.Context(), y.admin, gamma, ""))
		now, err := y.GetTrain(t.Context(), y.admin, "hash")
		require.NoError(t, err)
		require.Empty(t, now.DefaultAccount, "it goes with the credential, too")
	})
}
