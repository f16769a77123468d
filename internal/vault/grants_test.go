package vault_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// somebody is a member with a row in the database.
func (f *fixture) somebody(t *testing.T) identity.Caller {
	t.Helper()
	id := store.NewID("user")
	f.exec(t, `INSERT INTO users (id, email, name, role, password_hash, active, created_at, updated_at) VALUES ($1, $2, $1, 'member', '', 1, 1, 1)`, id, id+"@example.com")
	return identity.Caller{Kind: identity.KindPerson, ID: id, Name: id, UserID: id, Role: identity.Member, SteppedUpAt: justNow}
}

func to(c identity.Caller, verbs string) vault.Grant {
	return vault.Grant{Party: identity.Party{Kind: identity.PartyPerson, ID: c.UserID}, Use: strings.Contains(verbs, "use"), Reveal: strings.Contains(verbs, "reveal"),
		Manage: strings.Contains(verbs, "manage"), Owner: strings.Contains(verbs, "owner")}
}

func on(id string) vault.Scope { return vault.Scope{Kind: vault.OnCredential, ID: id} }

func (f *fixture) set(t *testing.T, by identity.Caller, scope vault.Scope, grants ...vault.Grant) error {
	t.Helper()
	_, err := f.SetGrants(t.Context(), by, scope, grants, "")
	return err
}

// TestNobodyGrantsWhatTheyLack: a manager gives only what they have and leaves the owners alone.
func TestNobodyGrantsWhatTheyLack(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		owner, manager, other := f.somebody(t), f.somebody(t), f.somebody(t)
		c, err := f.Create(t.Context(), owner, password("mine"))
		requireCode(t, err, "forbidden") // the draft puts it under a client that the member does not manage
		require.Zero(t, f.count(t, `SELECT COUNT(*) FROM credentials`))
		draft := password("mine")
		draft.ClientID = ""
		c, err = f.Create(t.Context(), owner, draft)
		require.NoError(t, err)
		mine := to(owner, "owner")

		require.NoError(t, f.set(t, owner, on(c.ID), mine, to(manager, "manage")))
		for name, list := range map[string][]vault.Grant{
			"use for another":      {mine, to(manager, "manage"), to(other, "use")},
			"reveal for oneself":   {mine, to(manager, "manage reveal")},
			"an owner":             {mine, to(manager, "owner")},
			"away with the owner":  {to(manager, "manage")},
			"the owner made lower": {to(owner, "use reveal manage"), to(manager, "manage")},
		} {
			requireCode(t, f.set(t, manager, on(c.ID), list...), "forbidden")
			ev := f.lastEvent(t)
			require.Equal(t, store.CredentialRefused, ev.Action, name)
			require.Equal(t, c.ID, ev.Target.ID)
		}
		require.NoError(t, f.set(t, manager, on(c.ID), mine, to(manager, "manage"), to(other, "manage")))
		ev := f.lastEvent(t)
		require.Equal(t, store.CredentialGrant, ev.Action)
		given, _ := ev.Details.Get("given")
		require.Equal(t, "[person:"+other.UserID+":manage]", given.Text())

		// Moving a credential would give it to whoever has a grant there, the mover among them.
		require.NoError(t, f.set(t, admin, vault.Scope{Kind: vault.OnClient, ID: "acme"}, to(manager, "reveal manage")))
		_, err = f.Update(t.Context(), manager, c.ID, vault.Patch{ClientID: vault.To("acme")}, "")
		requireCode(t, err, "forbidden")
		_, err = f.Update(t.Context(), owner, c.ID, vault.Patch{ClientID: vault.To("acme")}, "")
		requireCode(t, err, "forbidden") // all rights on the credential, none on the client
		got, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Empty(t, got.ClientID)
		require.NoError(t, f.set(t, admin, vault.Scope{Kind: vault.OnClient, ID: "acme"}, to(manager, "reveal manage"), to(owner, "manage")))
		_, err = f.Update(t.Context(), owner, c.ID, vault.Patch{ClientID: vault.To("acme")}, "")
		require.NoError(t, err)
		v, err := f.Reveal(t.Context(), manager, c.ID, "password", "now it is the client's")
		require.NoError(t, err)
		require.Equal(t, gitPassword, v.Reveal())

		// A revocation is obeyed by the next act.
		require.NoError(t, f.set(t, admin, vault.Scope{Kind: vault.OnClient, ID: "acme"}))
		_, err = f.Reveal(t.Context(), manager, c.ID, "password", "again")
		requireCode(t, err, "forbidden")
		require.NoError(t, f.Delete(t.Context(), owner, c.ID, ""))
		require.Zero(t, f.count(t, `SELECT COUNT(*) FROM grants`), "the grants went with the credential")
	})
}

// TestBadGrants: what is wrong is said, and nothing is changed.
func TestBadGrants(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c, who := f.create(t, apiKey("team")), f.somebody(t)
		person := func(id string) vault.Grant {
			return vault.Grant{Party: identity.Party{Kind: identity.PartyPerson, ID: id}, Use: true}
		}
		for pointer, list := range map[string][]vault.Grant{
			"/grants/1/grantee/id": {person(who.UserID), person(strings.ToUpper(who.UserID) + "@EXAMPLE.com")}, // the same person
			"/grants/0/grantee/id": {{Party: identity.Party{Kind: vault.PartyTrain, ID: "web"}, Use: true}},
			"/grants/0":            {to(who, "nothing")},
			"/grants":              make([]vault.Grant, vault.MaxGrants+1),
		} {
			require.Equal(t, []string{pointer}, pointers(requireCode(t, f.set(t, admin, on(c.ID), list...), "validation_failed")))
		}
		f2 := requireCode(t, f.set(t, admin, vault.Scope{Kind: vault.OnService, ID: "billing"}, to(who, "owner")), "validation_failed")
		require.Equal(t, []string{"/grants/0/owner"}, pointers(f2))
		g, err := f.Grants(t.Context(), admin, on(c.ID))
		require.NoError(t, err)
		require.Len(t, g.Grants, 1, "its maker owns it")
		_, err = f.SetGrants(t.Context(), admin, on(c.ID), nil, `"stale"`)
		requireCode(t, err, "etag_mismatch")
		requireCode(t, f.set(t, auditor, on(c.ID)), "forbidden")
		requireCode(t, f.set(t, reader, on(c.ID)), "scope_missing")
		requireCode(t, f.set(t, admin, vault.Scope{Kind: vault.OnClient, ID: strings.Repeat("x", 101)}), "not_found")
	})
}

// TestListsReachWhatIsGranted: a member's list is what they own and what was granted to them in any way, page by page, and never more.
func TestListsReachWhatIsGranted(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		who := f.somebody(t)
		var want []string
		for i := range 30 {
			d := password(fmt.Sprintf("c%02d", i))
			d.ClientID, d.ServiceID = "", ""
			switch i % 5 {
			case 1:
				d.ClientID = "acme"
			case 2:
				d.ServiceID = "billing"
			}
			if i%5 == 3 {
				c, err := f.Create(t.Context(), who, d)
				require.NoError(t, err)
				want = append(want, c.ID)
				continue
			}
			c := f.create(t, d)
			if i%5 == 4 {
				require.NoError(t, f.set(t, admin, on(c.ID), to(who, "use")))
			}
			if i%5 > 0 {
				want = append(want, c.ID)
			}
		}
		require.NoError(t, f.set(t, admin, vault.Scope{Kind: vault.OnClient, ID: "acme"}, to(who, "reveal")))
		require.NoError(t, f.set(t, admin, vault.Scope{Kind: vault.OnService, ID: "billing"}, to(who, "manage")))
		var got []string
		for cursor := ""; ; {
			items, next, err := f.List(t.Context(), who, vault.Filter{Limit: 7, Cursor: cursor})
			require.NoError(t, err)
			for _, c := range items {
				got = append(got, c.ID)
			}
			if cursor = next; next == "" {
				break
			}
		}
		require.Equal(t, want, got)
		items, _, err := f.List(t.Context(), who, vault.Filter{Q: "c0"})
		require.NoError(t, err)
		require.Len(t, items, 8)
		items, _, err = f.List(t.Context(), f.somebody(t), vault.Filter{})
		require.NoError(t, err)
		require.Empty(t, items)
		items, _, err = f.List(t.Context(), auditor, vault.Filter{})
		require.NoError(t, err)
		require.Len(t, items, 30)
	})
}

// TestWhoManagesCannotRedirect: whoever may manage a credential but not reveal it cannot have its secret sent to a host of theirs.
func TestWhoManagesCannotRedirect(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		owner, manager := f.somebody(t), f.somebody(t)
		draft := apiKey("mine")
		draft.ClientID, draft.ServiceID = "", ""
		c, err := f.Create(t.Context(), owner, draft)
		require.NoError(t, err)
		require.NoError(t, f.set(t, owner, on(c.ID), to(owner, "owner"), to(manager, "manage")))
		elsewhere := vault.Patch{BaseURL: vault.To("https://collector.example.net"), Hosts: vault.Clear[[]string]()}
		for name, p := range map[string]vault.Patch{
			"base_url": elsewhere, "hosts": {Hosts: vault.To([]string{"api.anthropic.com", "collector.example.net"})}, "with a secret": {BaseURL: elsewhere.BaseURL, Secrets: map[string]*secret.Value{"api_key": new(secret.Value)}},
		} {
			if p.Secrets != nil {
				*p.Secrets["api_key"] = secret.FromString("another-Planted-4711-value")
			}
			_, err = f.Update(t.Context(), manager, c.ID, p, "")
			t.Log(name)
			requireCode(t, err, "forbidden")
		}
		_, err = f.Update(t.Context(), manager, c.ID, vault.Patch{Description: vault.To("managed")}, "")
		require.NoError(t, err, "whatever does not say where it goes may be managed")
		bare := admin
		bare.Kind, bare.Scopes = identity.KindToken, identity.Scopes{identity.CredentialWrite}
		_, err = f.Update(t.Context(), bare, c.ID, elsewhere, "")
		requireCode(t, err, "scope_missing")
		stale := admin
		stale.SteppedUpAt = today.Add(-time.Hour)
		_, err = f.Update(t.Context(), stale, c.ID, elsewhere, "")
		requireCode(t, err, "step_up_required")
		now, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, c.BaseURL, now.BaseURL)
		require.Equal(t, c.Hosts, now.Hosts)
		require.EqualValues(t, 1, now.Version)

		require.NoError(t, f.set(t, owner, on(c.ID), to(owner, "owner"), to(manager, "manage reveal")))
		_, err = f.Update(t.Context(), manager, c.ID, elsewhere, "")
		require.NoError(t, err)
	})
}
