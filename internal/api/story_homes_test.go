package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// TestStoryHomes: a client with a service and a host, a credential that belongs to all three, whoever may see them, and their end.
func TestStoryHomes(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		acme, err := h.client.CreateCustomer(ctx, client.CustomerDraft{Name: "Acme", Contact: "it@acme.example"})
		require.NoError(t, err)
		require.Regexp(t, `^client_[0-9a-z]{26}$`, acme.ID)
		require.NotEmpty(t, acme.ETag)
		_, err = h.client.CreateCustomer(ctx, client.CustomerDraft{Name: "Acme"})
		refused(t, err, 409, "already_exists")
		billing, err := h.client.CreateService(ctx, client.ServiceDraft{Name: "Billing", ClientID: acme.ID, URL: "https://billing.acme.example"})
		require.NoError(t, err)
		db, err := h.client.CreateInfrastructure(ctx, client.InfrastructureDraft{Name: "db-1", ClientID: acme.ID, Address: "10.4.0.7"})
		require.NoError(t, err)
		require.Equal(t, "host", db.Kind)
		_, err = h.client.CreateService(ctx, client.ServiceDraft{Name: "x", ClientID: "nobody"})
		e := refused(t, err, 422, "validation_failed")
		require.Equal(t, "/client_id", e.Errors[0].Pointer)

		draft := client.CredentialDraft{Type: "password", Name: "root", Secrets: map[string]string{"password": "planted-root-0815"}, ClientID: "nobody", ServiceID: billing.ID, InfrastructureID: "planted"}
		_, err = h.client.CreateCredential(ctx, draft)
		e = refused(t, err, 422, "validation_failed")
		require.Equal(t, []string{"/client_id", "/infrastructure_id"}, []string{e.Errors[0].Pointer, e.Errors[1].Pointer})
		draft.ClientID, draft.InfrastructureID = acme.ID, db.ID
		cred, err := h.client.CreateCredential(ctx, draft)
		require.NoError(t, err)
		page, err := h.client.CredentialsByClient(ctx, acme.ID, client.CredentialFilter{})
		require.NoError(t, err)
		require.Len(t, page.Credentials, 1)

		// A member sees what their credential names, and nothing of the rest.
		hidden, err := h.client.CreateCustomer(ctx, client.CustomerDraft{Name: "Hidden"})
		require.NoError(t, err)
		token := h.withRole(identity.Member)
		member := h.as(token)
		who, err := member.WhoAmI(ctx)
		require.NoError(t, err)
		list, err := member.ListCustomers(ctx, client.ListFilter{})
		require.NoError(t, err)
		require.Empty(t, list.Clients)
		_, err = member.GetService(ctx, billing.ID)
		refused(t, err, 404, "not_found")
		h.grant(cred.ID, client.GrantDraft{Grantee: client.GranteeRef{Kind: "person", ID: who.UserID}, Use: true})
		list, err = member.ListCustomers(ctx, client.ListFilter{Q: "a"})
		require.NoError(t, err)
		require.Len(t, list.Clients, 1)
		require.Equal(t, "Acme", list.Clients[0].Name)
		machines, err := member.ListInfrastructure(ctx, client.InfrastructureFilter{ClientID: acme.ID, Kind: "host"})
		require.NoError(t, err)
		require.Len(t, machines.Infrastructure, 1)
		machines, err = member.ListInfrastructure(ctx, client.InfrastructureFilter{Kind: "network"})
		require.NoError(t, err)
		require.Empty(t, machines.Infrastructure)
		_, err = member.GetCustomer(ctx, hidden.ID)
		refused(t, err, 404, "not_found")
		_, err = member.UpdateService(ctx, billing.ID, client.ServicePatch{Name: ptr("mine")})
		refused(t, err, 403, "forbidden")

		changed, err := h.client.UpdateService(ctx, billing.ID, client.ServicePatch{Description: ptr("pays"), IfMatch: billing.ETag})
		require.NoError(t, err)
		require.Equal(t, "https://billing.acme.example", changed.URL, "what the patch does not name stays")
		_, err = h.client.UpdateService(ctx, billing.ID, client.ServicePatch{Description: ptr("late"), IfMatch: billing.ETag})
		refused(t, err, 412, "etag_mismatch")
		cleared, err := h.client.UpdateInfrastructure(ctx, db.ID, client.InfrastructurePatch{ClientID: ptr(""), Kind: ptr("device")})
		require.NoError(t, err)
		require.Empty(t, cleared.ClientID)
		require.Equal(t, "device", cleared.Kind)

		e = refused(t, h.client.DeleteCustomer(ctx, acme.ID), 409, "in_use")
		require.Contains(t, e.Detail, "1 credential and 1 service")
		require.Equal(t, []client.FieldError{{Pointer: "credentials", Message: "belong to it: root"}, {Pointer: "services", Message: "belong to it: Billing"}}, e.Errors)
		refused(t, h.client.DeleteService(ctx, billing.ID), 409, "in_use")
		refused(t, h.client.DeleteInfrastructure(ctx, db.ID), 409, "in_use")
		require.NoError(t, h.client.DeleteCredential(ctx, cred.ID))
		require.NoError(t, h.client.DeleteInfrastructure(ctx, db.ID))
		refused(t, h.client.IfMatch(billing.ETag).DeleteService(ctx, billing.ID), 412, "etag_mismatch")
		require.NoError(t, h.client.IfMatch(changed.ETag).DeleteService(ctx, billing.ID))
		require.NoError(t, h.client.DeleteCustomer(ctx, acme.ID))
		refused(t, h.client.DeleteCustomer(ctx, acme.ID), 404, "not_found")
		actions := []store.Action{}
		for _, ev := range h.events()[:6] {
			actions = append(actions, ev.Action)
		}
		require.Subset(t, actions, []store.Action{store.ClientDelete, store.ClientServiceDelete, store.InfrastructureDelete})
	})
}
