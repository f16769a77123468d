package api_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// filterCase is one filter of the list with drafts that it includes and drafts that it leaves out.
type filterCase struct {
	filter   client.CredentialFilter
	in, out  func(*client.CredentialDraft)
	afterIn  func(*house, string) // what a draft cannot say
	byClient bool
}

func filterCases(t *testing.T, h *house) map[string]filterCase {
	t.Helper()
	for _, train := range []string{"filtered", "whole"} {
		_, err := h.client.CreateTrain(t.Context(), client.TrainDraft{TrainID: train})
		require.NoError(t, err)
	}
	at := func(year int) *time.Time { return ptr(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)) }
	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	nothing := func(*client.CredentialDraft) {}
	state := func(status string) func(*house, string) {
		return func(h *house, id string) {
			_, err := h.client.UpdateCredential(h.t.Context(), id, client.CredentialPatch{Status: &status})
			require.NoError(h.t, err)
		}
	}
	return map[string]filterCase{
		"type": {client.CredentialFilter{Type: "jwt"}, func(d *client.CredentialDraft) { d.Type, d.Secrets = "jwt", map[string]string{"token": "t"} }, nothing, nil, false},
		"provider": {client.CredentialFilter{Provider: "github"}, func(d *client.CredentialDraft) { d.Provider = "github" },
			func(d *client.CredentialDraft) { d.Provider = "GitHub" }, nil, false},
		"client_id": {client.CredentialFilter{ClientID: "acme"}, func(d *client.CredentialDraft) { d.ClientID = "acme" },
			func(d *client.CredentialDraft) { d.ClientID = "acme2" }, nil, false},
		"by-client": {client.CredentialFilter{ClientID: "other-client"}, func(d *client.CredentialDraft) { d.ClientID = "other-client" },
			func(d *client.CredentialDraft) { d.ClientID = "other" }, nil, true},
		"service_id": {client.CredentialFilter{ServiceID: "svc"}, func(d *client.CredentialDraft) { d.ServiceID = "svc" },
			func(d *client.CredentialDraft) { d.ClientID = "svc" }, nil, false},
		"infrastructure_id": {client.CredentialFilter{InfrastructureID: "infra"}, func(d *client.CredentialDraft) { d.InfrastructureID = "infra" },
			func(d *client.CredentialDraft) { d.ServiceID = "infra" }, nil, false},
		"owner": {client.CredentialFilter{Owner: "ada"}, func(d *client.CredentialDraft) { d.Owner = "ada" }, func(d *client.CredentialDraft) { d.Owner = "ada l" }, nil, false},
		"plugin_name": {client.CredentialFilter{PluginName: "git"}, func(d *client.CredentialDraft) { d.PluginName = "git" },
			func(d *client.CredentialDraft) { d.PluginName = "gitea" }, nil, false},
		"tag": {client.CredentialFilter{Tag: "prod"}, func(d *client.CredentialDraft) { d.Tags = []string{"a", "prod"} },
			func(d *client.CredentialDraft) { d.Tags = []string{"production", "PROD"} }, nil, false},
		"train_id": {client.CredentialFilter{TrainID: "filtered"}, nothing, nothing, func(h *house, id string) {
			_, _, err := h.client.Link(h.t.Context(), "filtered", client.LinkDraft{CredentialID: id})
			require.NoError(h.t, err)
		}, false},
		"expires_before": {client.CredentialFilter{ExpiresBefore: at(2060), Tag: "dated"}, func(d *client.CredentialDraft) { d.ExpiresAt, d.Tags = at(2059), []string{"dated"} },
			func(d *client.CredentialDraft) { d.ExpiresAt, d.Tags = at(2060), []string{"dated"} }, nil, false},
		"q": {client.CredentialFilter{Q: "needle HAY"}, func(d *client.CredentialDraft) { d.Description, d.Username = "a Needle", "haystack" },
			func(d *client.CredentialDraft) { d.Description = "a needle alone" }, nil, false},
		"status disabled":    {client.CredentialFilter{Status: "disabled"}, nothing, nothing, state("disabled"), false},
		"status compromised": {client.CredentialFilter{Status: "compromised"}, nothing, nothing, state("compromised"), false},
		"status expired": {client.CredentialFilter{Status: "expired", Tag: "old"}, func(d *client.CredentialDraft) { d.ExpiresAt, d.Tags = &past, []string{"old"} },
			func(d *client.CredentialDraft) { d.ExpiresAt, d.Tags = &soon, []string{"old"} }, nil, false},
		"status expiring": {client.CredentialFilter{Status: "expiring", Tag: "near"}, func(d *client.CredentialDraft) { d.ExpiresAt, d.Tags = &soon, []string{"near"} },
			func(d *client.CredentialDraft) { d.ExpiresAt, d.Tags = &past, []string{"near"} }, nil, false},
		"status active": {client.CredentialFilter{Status: "active", Tag: "well"}, func(d *client.CredentialDraft) { d.ExpiresAt, d.Tags = at(2060), []string{"well"} },
			func(d *client.CredentialDraft) { d.ExpiresAt, d.Tags = &soon, []string{"well"} }, nil, false},
		"rotation_due_before": {client.CredentialFilter{RotationDueBefore: ptr(time.Now().AddDate(0, 0, 30))}, func(d *client.CredentialDraft) { d.RotateEveryDays = 7 },
			func(d *client.CredentialDraft) { d.RotateEveryDays = 90 }, nil, false},
		"health": {client.CredentialFilter{Health: "needs_login", Tag: "connection"}, func(d *client.CredentialDraft) {
			d.Type, d.Secrets, d.Tags, d.OAuth = "oauth", map[string]string{"access_token": "t"}, []string{"connection"}, &client.OAuth{ExpiresAt: &past}
		}, func(d *client.CredentialDraft) {
			d.Type, d.Secrets, d.Tags, d.OAuth = "oauth", map[string]string{"access_token": "t"}, []string{"connection"}, &client.OAuth{ExpiresAt: &soon}
		}, nil, false},
		"everything": {client.CredentialFilter{Type: "password", Provider: "p", ClientID: "c", ServiceID: "s", InfrastructureID: "i", TrainID: "whole", Owner: "o", PluginName: "n", Tag: "t",
			Status: "active", ExpiresBefore: at(2071), Q: "whole"},
			func(d *client.CredentialDraft) {
				d.Type, d.Secrets = "password", map[string]string{"password": "x"}
				d.Provider, d.ClientID, d.ServiceID, d.InfrastructureID, d.Owner, d.PluginName, d.Tags, d.ExpiresAt, d.Description = "p", "c", "s", "i", "o", "n", []string{"t"}, at(2070), "the whole"
			},
			func(d *client.CredentialDraft) {
				d.Type, d.Secrets = "password", map[string]string{"password": "x"}
				d.Provider, d.ClientID, d.ServiceID, d.InfrastructureID, d.Owner, d.PluginName, d.Tags, d.ExpiresAt, d.Description = "p", "c", "s", "i", "o", "n", []string{"t"}, at(2070), "the whole, not linked"
			},
			func(h *house, id string) {
				_, _, err := h.client.Link(h.t.Context(), "whole", client.LinkDraft{CredentialID: id})
				require.NoError(h.t, err)
			}, false},
	}
}

// TestCredentialFilters: each filter includes what it names and leaves the rest out, and its pages stay whole while credentials are stored and
// deleted between them.
func TestCredentialFilters(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		cases := filterCases(t, h)
		for _, o := range d.operations(t) { // a filter that is new in the document needs a case here
			if o.ID != "list-credentials" {
				continue
			}
			for _, p := range o.Parameters {
				if name := p.Name; p.In == "query" && !slices.Contains([]string{"limit", "cursor", "skip", "status"}, name) {
					require.Contains(t, cases, name)
				}
			}
		}
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				h := h.in(t)
				n := 0
				store1 := func(change func(*client.CredentialDraft), after func(*house, string)) string {
					n++
					draft := client.CredentialDraft{Type: "custom", Name: fmt.Sprint(name, " ", n), Secrets: map[string]string{"x": "y"}}
					change(&draft)
					storetest.Homes(t, h.db, draft.ClientID, draft.ServiceID, draft.InfrastructureID)
					made, err := h.client.CreateCredential(ctx, draft)
					require.NoError(t, err)
					if after != nil {
						after(h, made.ID)
					}
					return made.ID
				}
				page := func(f client.CredentialFilter) client.CredentialPage {
					list := h.client.ListCredentials
					if c.byClient {
						list = func(ctx context.Context, f client.CredentialFilter) (client.CredentialPage, error) {
							return h.client.CredentialsByClient(ctx, c.filter.ClientID, f)
						}
					}
					p, err := list(ctx, f)
					require.NoError(t, err)
					return p
				}
				ids := func(p client.CredentialPage) []string {
					out := []string{}
					for _, c := range p.Credentials {
						out = append(out, c.ID)
					}
					return out
				}
				require.Empty(t, ids(page(c.filter)), "nothing matches yet")
				var want, others []string
				for range 6 {
					others = append(others, store1(c.out, nil))
					want = append(want, store1(c.in, c.afterIn))
				}
				require.Equal(t, want, ids(page(c.filter)))
				skipping := c.filter
				skipping.Skip, skipping.Limit = 2, 3
				require.Equal(t, want[2:5], ids(page(skipping)))
				skipping.Skip = 100
				require.Empty(t, ids(page(skipping)))

				// Page by page, while the list changes before, behind and at the place where we are.
				f := c.filter
				f.Limit = 2
				first := page(f)
				require.Equal(t, want[:2], ids(first))
				for _, id := range []string{want[0], want[1], want[3], others[0]} { // seen, the cursor's own, not yet seen, another
					require.NoError(t, h.client.DeleteCredential(ctx, id))
				}
				store1(c.out, nil)
				late := store1(c.in, c.afterIn)
				var rest []string
				for cursor, pages := first.NextCursor, 0; cursor != ""; pages++ {
					require.Less(t, pages, 10)
					f.Cursor = cursor
					p := page(f)
					rest = append(rest, ids(p)...)
					cursor = p.NextCursor
				}
				require.Equal(t, []string{want[2], want[4], want[5], late}, rest)
				require.Equal(t, []string{want[2], want[4], want[5], late}, ids(page(c.filter)))
			})
		}
		all, err := h.client.ListCredentials(ctx, client.CredentialFilter{Limit: 1000})
		require.NoError(t, err)
		require.Greater(t, len(all.Credentials), 8*len(cases)-1)
		require.True(t, slices.IsSortedFunc(all.Credentials, func(a, b client.Credential) int { return a.CreatedAt.Compare(b.CreatedAt) }))
		require.True(t, store.ValidID("cred", all.Credentials[0].ID))
	})
}
