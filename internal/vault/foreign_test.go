package vault_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// TestUnknownTypesBreakNoList: a credential of a type that only a newer version knows is listed, read, granted and deleted like any other. It
// is not lent, revealed or changed.
func TestUnknownTypesBreakNoList(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		plain := f.create(t, apiKey("team"))
		odd := f.create(t, oauthDraft("of-tomorrow", nil))
		last := f.create(t, password("last"))
		require.NoError(t, f.MakeForeign(t.Context(), odd.ID, "passkey"))
		want := []string{plain.ID, odd.ID, last.ID}
		list := func(filter vault.Filter) (ids []string) {
			items, _, err := f.List(t.Context(), admin, filter)
			require.NoError(t, err)
			for _, c := range items {
				ids = append(ids, c.ID)
				if c.ID == odd.ID {
					require.Equal(t, vault.Type("passkey"), c.Type)
					require.Equal(t, "of-tomorrow", c.Name)
					require.Empty(t, c.Health, "nothing is guessed")
				}
			}
			return ids
		}
		require.Equal(t, want, list(vault.Filter{}))
		require.Equal(t, []string{odd.ID}, list(vault.Filter{Q: "tomorrow"}))
		require.Equal(t, want, list(vault.Filter{Status: vault.Active}))

		got, err := f.Get(t.Context(), admin, odd.ID)
		require.NoError(t, err)
		require.False(t, got.Tampered)
		require.Equal(t, []string{"access_token", "refresh_token"}, got.SecretFields)
		versions, err := f.Versions(t.Context(), admin, odd.ID)
		require.NoError(t, err)
		require.Len(t, versions, 1)
		all, tampered, err := f.CheckAll(t.Context())
		require.NoError(t, err)
		require.Equal(t, 3, all)
		require.Empty(t, tampered, "nobody has changed it")

		m := f.materials(t, odd.ID)[odd.ID]
		require.NotEmpty(t, m.Usable(today))
		require.Empty(t, m.Secrets)
		require.Contains(t, f.log.String(), "is not lent")
		for name, do := range map[string]func() error{
			"reveal": func() error { _, err := f.Reveal(t.Context(), admin, odd.ID, "access_token", "look"); return err },
			"rotate": func() error {
				_, err := f.Rotate(t.Context(), admin, odd.ID, secrets("access_token", "x"), "")
				return err
			},
			"restore": func() error { _, err := f.Restore(t.Context(), admin, odd.ID, 1); return err },
			"update": func() error {
				_, err := f.Update(t.Context(), admin, odd.ID, vault.Patch{Description: vault.To("x")}, "")
				return err
			},
		} {
			e := requireCode(t, do(), "state_conflict")
			require.Contains(t, e.Detail, "does not know the credential's type", name)
			ev := f.lastEvent(t)
			require.Equal(t, store.CredentialRefused, ev.Action, name)
			require.Equal(t, odd.ID, ev.Target.ID)
		}
		who := f.somebody(t)
		require.NoError(t, f.set(t, admin, on(odd.ID), to(who, "use")))
		require.NoError(t, f.Delete(t.Context(), admin, odd.ID, ""))
		require.Equal(t, []string{plain.ID, last.ID}, list(vault.Filter{}))
	})
}

// TestADamagedRowBreaksNoList: a row that cannot be read at all is left out, and the log says which.
func TestADamagedRowBreaksNoList(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		plain, odd, last := f.create(t, apiKey("team")), f.create(t, apiKey("odd")), f.create(t, apiKey("last"))
		f.exec(t, `UPDATE credentials SET tags = 'no list' WHERE id = $1`, odd.ID)
		for _, filter := range []vault.Filter{{}, {Provider: "anthropic"}, {Limit: 2}} {
			items, next, err := f.List(t.Context(), admin, filter)
			require.NoError(t, err)
			require.Equal(t, plain.ID, items[0].ID)
			if filter.Limit == 0 {
				require.Len(t, items, 2)
				continue
			}
			require.Len(t, items, 1, "the page is short, and goes on")
			items, _, err = f.List(t.Context(), admin, vault.Filter{Limit: 2, Cursor: next})
			require.NoError(t, err)
			require.Equal(t, last.ID, items[0].ID)
		}
		require.Contains(t, f.log.String(), odd.ID)
	})
}
