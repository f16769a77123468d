package vault_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// TestATakenNameTellsNoMore: whoever stores an account under a name or an id that is taken hears so of what they have sent, and nothing of the
// other account; who has tried is on record, with what they met.
func TestATakenNameTellsNoMore(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		who := f.somebody(t)
		d := apiKey("hidden-of-finance")
		d.AccountID = "acc_ledger"
		hidden := f.create(t, d)
		draft := func(name, account string) vault.Draft {
			d := apiKey(name)
			d.AccountID = account
			return d
		}
		mine, err := f.Create(t.Context(), who, draft("mine", ""))
		require.NoError(t, err)
		const said = "There is an account with this name or account id already. Choose another; nothing was changed."
		for name, c := range map[string]struct {
			do       func() error
			pointers []string
		}{
			"the name":                      {func() error { _, err := f.Create(t.Context(), who, draft("hidden-of-finance", "")); return err }, []string{"/name"}},
			"the id":                        {func() error { _, err := f.Create(t.Context(), who, draft("x", "acc_ledger")); return err }, []string{"/account_id"}},
			"the id that comes of the name": {func() error { _, err := f.Create(t.Context(), who, draft("ledger", "")); return err }, []string{"/name"}},
			"both": {func() error {
				_, err := f.Create(t.Context(), who, draft("hidden-of-finance", "acc_ledger"))
				return err
			}, []string{"/name", "/account_id"}},
			"a new name": {func() error {
				_, err := f.Update(t.Context(), who, mine.ID, vault.Patch{Name: vault.To("hidden-of-finance")}, "")
				return err
			}, []string{"/name"}},
			"a new id": {func() error {
				_, err := f.Update(t.Context(), who, mine.ID, vault.Patch{AccountID: vault.To("acc_ledger")}, "")
				return err
			}, []string{"/account_id"}},
		} {
			got := requireCode(t, c.do(), "already_exists")
			require.Equal(t, said, got.Detail, name)
			require.Equal(t, c.pointers, pointers(got), name)
			for _, field := range got.Fields {
				require.Equal(t, "is taken", field.Message)
			}
			ev := f.lastEvent(t)
			require.Equal(t, store.CredentialRefused, ev.Action, name)
			require.Equal(t, store.OutcomeRefused, ev.Outcome)
			require.Equal(t, "already_exists", ev.Reason)
			require.Equal(t, who.UserID, ev.Actor.ID)
			by, _ := ev.Details.Get("taken_by")
			require.Equal(t, "["+hidden.ID+"]", by.Text(), name)
		}
		require.Equal(t, 2, f.count(t, `SELECT COUNT(*) FROM credentials`))
		// Who reaches every credential hears the same, and it is no act against anybody.
		before := len(f.events(t))
		_, err = f.Create(t.Context(), admin, draft("hidden-of-finance", ""))
		require.Equal(t, said, requireCode(t, err, "already_exists").Detail)
		require.Len(t, f.events(t), before)
	})
}
