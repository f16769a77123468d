package vault_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

func names(items []vault.Credential) []string {
	var out []string
	for _, c := range items {
		out = append(out, c.Name)
	}
	slices.Sort(out)
	return out
}

func TestListFilters(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		a := apiKey("alpha")
		a.Owner, a.Tags, a.Description = "ops", []string{"prod", `we"ird\%_`}, "Zugang für Straße 100%"
		b := oauthDraft("beta", nil)
		b.ServiceID, b.PluginName, b.ExpiresAt = "svc_1", "slackbot", ptr(today.AddDate(0, 0, 10))
		c := password("gamma")
		c.InfrastructureID, c.Tags, c.Username = "inf_1", []string{"production"}, "root_1"
		ids := []string{f.create(t, a).ID, f.create(t, b).ID, f.create(t, c).ID}
		_, err := f.Update(t.Context(), admin, ids[2], vault.Patch{State: vault.To(vault.Compromised)}, "")
		require.NoError(t, err)

		for name, tc := range map[string]struct {
			filter vault.Filter
			want   []string
		}{
			"none":               {vault.Filter{}, []string{"alpha", "beta", "gamma"}},
			"type":               {vault.Filter{Type: vault.OAuth}, []string{"beta"}},
			"provider":           {vault.Filter{Provider: "anthropic"}, []string{"alpha", "beta"}},
			"provider's case":    {vault.Filter{Provider: "Anthropic"}, nil},
			"client":             {vault.Filter{ClientID: "client_7"}, []string{"gamma"}},
			"service":            {vault.Filter{ServiceID: "svc_1"}, []string{"beta"}},
			"infrastructure":     {vault.Filter{InfrastructureID: "inf_1"}, []string{"gamma"}},
			"owner":              {vault.Filter{Owner: "ops"}, []string{"alpha"}},
			"plugin":             {vault.Filter{PluginName: "slackbot"}, []string{"beta"}},
			"tag":                {vault.Filter{Tag: "prod"}, []string{"alpha"}},
			"odd tag":            {vault.Filter{Tag: `we"ird\%_`}, []string{"alpha"}},
			"tag's case":         {vault.Filter{Tag: "Prod"}, nil},
			"expiring":           {vault.Filter{Status: vault.Expiring}, []string{"beta"}},
			"active":             {vault.Filter{Status: vault.Active}, []string{"alpha"}},
			"compromised":        {vault.Filter{Status: vault.Compromised}, []string{"gamma"}},
			"expires before":     {vault.Filter{ExpiresBefore: ptr(today.AddDate(0, 0, 11))}, []string{"beta"}},
			"expires not before": {vault.Filter{ExpiresBefore: ptr(today.AddDate(0, 0, 10))}, nil},
			"ids":                {vault.Filter{IDs: ids[:2]}, []string{"alpha", "beta"}},
			"no ids":             {vault.Filter{IDs: []string{}}, nil},
			"search in capitals": {vault.Filter{Q: "ALPHA"}, []string{"alpha"}},
			"search of umlauts":  {vault.Filter{Q: "FÜR straße"}, []string{"alpha"}},
			"search words apart": {vault.Filter{Q: "zugang ops"}, []string{"alpha"}},
			"search no word":     {vault.Filter{Q: "zugang nothing"}, nil},
			"search percent":     {vault.Filter{Q: "100%"}, []string{"alpha"}},
			"search wildcard":    {vault.Filter{Q: "%"}, []string{"alpha"}},
			"search underscore":  {vault.Filter{Q: "root_"}, []string{"gamma"}},
			"search one letter":  {vault.Filter{Q: "a_p"}, nil},
			"search backslash":   {vault.Filter{Q: `ird\`}, []string{"alpha"}},
			"search endpoint":    {vault.Filter{Q: "console.example.com"}, []string{"beta"}},
			"search account id":  {vault.Filter{Q: "acc_beta"}, []string{"beta"}},
			"search type":        {vault.Filter{Q: "password"}, []string{"gamma"}},
			"search a secret":    {vault.Filter{Q: "planted"}, nil},
			"two filters":        {vault.Filter{Type: vault.APIKey, Tag: "prod"}, []string{"alpha"}},
			"two that exclude":   {vault.Filter{Type: vault.OAuth, Tag: "prod"}, nil},
		} {
			items, next, err := f.List(t.Context(), admin, tc.filter)
			require.NoError(t, err, name)
			require.Equal(t, tc.want, names(items), name)
			require.Empty(t, next, name)
		}
		ev := f.lastEvent(t)
		require.Equal(t, store.CredentialList, ev.Action)
		_, _, err = f.List(t.Context(), admin, vault.Filter{Q: "hunter2hunter2", Owner: "hunter2hunter2"})
		require.NoError(t, err)
		ev = f.lastEvent(t)
		used, _ := ev.Details.Get("filters")
		require.Equal(t, "[owner q]", used.Text(), "names of filters, not what was typed into them")
		count, _ := ev.Details.Get("count")
		require.Equal(t, "0", count.Text())
	})
}

func TestListPages(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		var want []string
		for i := range 23 {
			want = append(want, f.create(t, password(fmt.Sprintf("p%02d", i))).ID)
		}
		slices.Sort(want)
		page := func(filter vault.Filter) ([]string, string) {
			items, next, err := f.List(t.Context(), admin, filter)
			require.NoError(t, err)
			var out []string
			for _, c := range items {
				out = append(out, c.ID)
			}
			return out, next
		}
		var got []string
		cursor, pages := "", 0
		for {
			ids, next := page(vault.Filter{Limit: 5, Cursor: cursor})
			got = append(got, ids...)
			pages++
			if pages == 2 {
				// What changes meanwhile moves nothing: one that was seen goes, one comes at the end.
				require.NoError(t, f.Delete(t.Context(), admin, want[0], ""))
				want = append(want, f.create(t, password("late")).ID)
			}
			if cursor = next; next == "" {
				break
			}
		}
		require.Equal(t, want, got, "each once, in order")
		require.Equal(t, 5, pages)

		got, next := page(vault.Filter{Skip: 20, Limit: 10})
		require.Equal(t, want[21:], got)
		require.Empty(t, next)
		got, next = page(vault.Filter{Skip: 2, Limit: 3})
		require.Equal(t, want[3:6], got)
		got, _ = page(vault.Filter{Limit: 3, Cursor: next})
		require.Equal(t, want[6:9], got)
		got, next = page(vault.Filter{Limit: 23})
		require.Len(t, got, 23)
		require.Empty(t, next, "a full last page has no next")
		got, _ = page(vault.Filter{Skip: 1000})
		require.Empty(t, got)
	})
}

func TestBadLists(t *testing.T) {
	f := newFixture(t, store.SQLite)
	for name, tc := range map[string]struct {
		filter  vault.Filter
		pointer string
	}{
		"type":       {vault.Filter{Type: "echo-canary"}, "/type"},
		"status":     {vault.Filter{Status: "echo-canary"}, "/status"},
		"limit":      {vault.Filter{Limit: 1001}, "/limit"},
		"limit < 0":  {vault.Filter{Limit: -1}, "/limit"},
		"skip":       {vault.Filter{Skip: -1}, "/skip"},
		"cursor":     {vault.Filter{Cursor: "echo-canary"}, "/cursor"},
		"q":          {vault.Filter{Q: "echo-canary\xff"}, "/q"},
		"owner":      {vault.Filter{Owner: "echo-canary\x00"}, "/owner"},
		"tag":        {vault.Filter{Tag: "echo-canary\x00"}, "/tag"},
		"expiration": {vault.Filter{ExpiresBefore: ptr(time.Unix(1, 0))}, "/expires_before"},
	} {
		_, _, err := f.List(t.Context(), admin, tc.filter)
		fe := requireCode(t, err, "validation_failed")
		require.Equal(t, []string{tc.pointer}, pointers(fe), name)
		require.NotContains(t, fmt.Sprint(fe, fe.Fields), "echo-canary")
	}
	require.Empty(t, f.events(t))
}
