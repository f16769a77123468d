package train_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// linker writes trains and reads no credential: what they link is what was granted to the train.
func (y *yard) linker() identity.Caller {
	return identity.Caller{Kind: identity.KindToken, ID: "tok_1", Name: "deploy", UserID: "user_b", Role: identity.Operator, Scopes: identity.Scopes{identity.TrainRead, identity.TrainWrite}, RequestID: "req_2"}
}

// lets makes the trains named all that stands on a scope.
func (y *yard) lets(scope vault.Scope, slugs ...string) {
	y.t.Helper()
	list := make([]vault.Grant, len(slugs))
	for i, slug := range slugs {
		list[i] = vault.Grant{Party: identity.Party{Kind: vault.PartyTrain, ID: slug}, Use: true}
	}
	_, err := y.vault.SetGrants(context.Background(), y.admin, scope, list, "")
	require.NoError(y.t, err)
}

// TestALinkEndsWithTheRight: in whichever way the last grant ends by which a train may use a credential, the link ends in the same act, on
// record, and what was lent on it is cut. As long as another grant stands, it goes on; so does a train that an operator linked without one.
func TestALinkEndsWithTheRight(t *testing.T) {
	client, service := vault.Scope{Kind: vault.OnClient, ID: "acme"}, vault.Scope{Kind: vault.OnService, ID: "billing"}
	direct := func(id string) vault.Scope { return vault.Scope{Kind: vault.OnCredential, ID: id} }
	move := func(p vault.Patch) func(*yard, string) error {
		return func(y *yard, id string) error {
			_, err := y.vault.Update(context.Background(), y.admin, id, p, "")
			return err
		}
	}
	take := func(scope func(id string) vault.Scope) func(*yard, string) error {
		return func(y *yard, id string) error {
			_, err := y.vault.SetGrants(context.Background(), y.admin, scope(id), nil, "")
			return err
		}
	}
	for name, c := range map[string]struct {
		grants []vault.Scope // what lets the train; without an id, the credential itself
		do     func(*yard, string) error
		stays  bool
	}{
		"the grant on the credential is taken": {grants: []vault.Scope{{}}, do: take(direct)},
		"the grant on the client is taken":     {grants: []vault.Scope{client}, do: take(func(string) vault.Scope { return client })},
		"the grant on the service is taken":    {grants: []vault.Scope{service}, do: take(func(string) vault.Scope { return service })},
		"moved to another client":              {grants: []vault.Scope{client}, do: move(vault.Patch{ClientID: vault.To("other")})},
		"moved from its client":                {grants: []vault.Scope{client}, do: move(vault.Patch{ClientID: vault.Clear[string]()})},
		"moved to another service":             {grants: []vault.Scope{service}, do: move(vault.Patch{ServiceID: vault.To("other")})},
		"moved from both":                      {grants: []vault.Scope{client, service}, do: move(vault.Patch{ClientID: vault.To(""), ServiceID: vault.To("")})},
		"moved with a new secret": {grants: []vault.Scope{client}, do: func(y *yard, id string) error {
			fresh := secrets("api_key", "sk-rotated-"+planted)["api_key"]
			p := vault.Patch{ClientID: vault.To("other")}
			p.Secrets = map[string]*secret.Value{"api_key": &fresh}
			return move(p)(y, id)
		}},
		"moved, and granted itself":       {grants: []vault.Scope{client, {}}, do: move(vault.Patch{ClientID: vault.To("other")}), stays: true},
		"moved, and still of the service": {grants: []vault.Scope{client, service}, do: move(vault.Patch{ClientID: vault.To("other")}), stays: true},
		"moved to where it may as well":   {grants: []vault.Scope{client, {Kind: vault.OnClient, ID: "second"}}, do: move(vault.Patch{ClientID: vault.To("second")}), stays: true},
		"changed otherwise":               {grants: []vault.Scope{client}, do: move(vault.Patch{Description: vault.To("x")}), stays: true},
		"another grant stands":            {grants: []vault.Scope{client, {}}, do: take(func(string) vault.Scope { return client }), stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, y *yard) {
				ctx := t.Context()
				for _, id := range []string{"acme", "billing", "other", "second"} {
					storetest.Homes(t, y.db, id, id, "")
				}
				y.train("web", train.Hash)
				y.train("ops", train.Hash)
				id := y.account("alpha")
				_, err := y.vault.Update(ctx, y.admin, id, vault.Patch{ClientID: vault.To("acme"), ServiceID: vault.To("billing")}, "")
				require.NoError(t, err)
				for _, scope := range c.grants {
					if scope.ID == "" {
						scope = direct(id)
					}
					y.lets(scope, "web")
				}
				_, _, err = y.Link(ctx, y.linker(), "web", train.LinkDraft{Credential: id})
				require.NoError(t, err)
				y.link("ops", id) // an operator's, without a grant
				caller, _ := y.key("web")
				bystander, _ := y.key("ops")
				l, other := y.lend(caller, want()), y.lend(bystander, want())

				require.NoError(t, c.do(y, id))
				links, err := y.Links(ctx, y.admin, "web")
				require.NoError(t, err)
				if c.stays {
					require.Len(t, links, 1)
					require.NoError(t, l.Context().Err())
					l.Done(train.Outcome{Result: train.OK})
				} else {
					require.Empty(t, links)
					requireCut(t, l, time.Now(), onceASecond, "no_account")
					y.refused("no_account", caller, want())
					gone := y.events(store.TrainUnlink)
					require.Len(t, gone, 1)
					require.Equal(t, "web", gone[0].Target.Name)
					require.Equal(t, y.admin.UserID, gone[0].Actor.ID)
					require.Equal(t, id, detail(t, gone[0], "credential"))
					_, _, err = y.Link(ctx, y.linker(), "web", train.LinkDraft{Credential: id})
					requireFault(t, "scope_missing", err)
				}
				require.NoError(t, other.Context().Err())
				other.Done(train.Outcome{Result: train.OK})
				links, err = y.Links(ctx, y.admin, "ops")
				require.NoError(t, err)
				require.Len(t, links, 1)
			})
		})
	}
}

// TestATrainIsGrantedUseAlone: there is no lower right of a train that its use could be replaced by.
func TestATrainIsGrantedUseAlone(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Hash)
		id := y.account("alpha")
		scope := vault.Scope{Kind: vault.OnCredential, ID: id}
		y.lets(scope, "web")
		_, _, err := y.Link(t.Context(), y.linker(), "web", train.LinkDraft{Credential: id})
		require.NoError(t, err)
		web := identity.Party{Kind: vault.PartyTrain, ID: "web"}
		for _, g := range []vault.Grant{{Party: web}, {Party: web, Reveal: true}, {Party: web, Manage: true}, {Party: web, Owner: true}} {
			_, err := y.vault.SetGrants(t.Context(), y.admin, scope, []vault.Grant{g}, "")
			requireFault(t, "validation_failed", err)
		}
		links, err := y.Links(t.Context(), y.admin, "web")
		require.NoError(t, err)
		require.Len(t, links, 1)
	})
}
