package train_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
)

// TestLendersAreTheTrainsOfCredentials: which trains are lent what is asked about, by slug, and only to who may read trains.
func TestLendersAreTheTrainsOfCredentials(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ctx := t.Context()
		y.train("web", train.Hash)
		y.train("ops", train.Hash)
		alpha, beta, gamma := y.account("alpha"), y.account("beta"), y.account("gamma")
		for _, l := range []struct{ slug, id string }{{"web", alpha}, {"ops", alpha}, {"ops", beta}} {
			_, _, err := y.Link(ctx, y.admin, l.slug, train.LinkDraft{Credential: l.id})
			require.NoError(t, err)
		}
		of := func(ids ...string) (out []string) {
			t.Helper()
			list, err := y.Lenders(ctx, y.admin, ids)
			require.NoError(t, err)
			for _, l := range list {
				out = append(out, l.Train.Slug+" "+l.CredentialID)
			}
			return out
		}
		require.Equal(t, []string{"ops " + alpha, "web " + alpha}, of(alpha))
		require.ElementsMatch(t, []string{"ops " + alpha, "ops " + beta, "web " + alpha}, of(alpha, beta, gamma))
		require.Empty(t, of(gamma))
		require.Empty(t, of())
		list, err := y.Lenders(ctx, y.admin, []string{beta})
		require.NoError(t, err)
		require.Equal(t, 2, list[0].Train.Links)
		member := y.admin
		member.Role = identity.Member
		_, err = y.Lenders(ctx, member, []string{alpha})
		require.Error(t, err)
	})
}
