package identity_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// pinned is who may do what, for people to read. A change of the table must be a change of this one too.
const pinned = `
permission          administrator  operator       auditor        member         system
credentials:read    yes            yes            yes            -              yes
credentials:write   yes            yes            -              -              yes
credentials:reveal  yes            yes            -              -              -
trains:read         yes            yes            yes            -              yes
trains:write        yes            yes            -              -              yes
keys:read           yes            yes            yes            -              yes
keys:write          yes            yes            -              -              yes
audit:read          yes            -              yes            -              yes
tokens:read         yes            yes            yes            yes            yes
tokens:write        yes            yes            yes            yes            yes
profile:read        yes            yes            yes            yes            yes
profile:write       yes            yes            yes            yes            yes
users:read          yes            -              yes            -              yes
users:write         yes            -              -              -              yes
issuers:read        yes            -              yes            -              yes
issuers:write       yes            -              -              -              yes
metrics:read        yes            yes            yes            -              yes
`

func TestAllowTable(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-20s", "permission")
	for _, role := range identity.Roles() {
		fmt.Fprintf(&b, "%-15s", role)
	}
	b.WriteString("system\n")
	for _, row := range identity.Permissions() {
		fmt.Fprintf(&b, "%-20s", row.Permission)
		for _, role := range identity.Roles() {
			session := identity.Caller{Kind: identity.KindPerson, Role: role}
			full := identity.Caller{Kind: identity.KindToken, Role: role, Scopes: identity.Scopes{row.Permission}}
			bare := identity.Caller{Kind: identity.KindToken, Role: role, Scopes: others(row.Permission)}
			outside := identity.Caller{Kind: identity.KindJWT, Role: role, Scopes: full.Scopes}
			narrow := identity.Caller{Kind: identity.KindJWT, Role: role, Scopes: bare.Scopes}
			answer := "-"
			if identity.Allow(session, row.Permission) == nil {
				answer = "yes"
				require.NoError(t, identity.Allow(full, row.Permission))
				require.NoError(t, identity.Allow(outside, row.Permission))
				requireFault(t, "scope_missing", identity.Allow(bare, row.Permission))
				requireFault(t, "scope_missing", identity.Allow(narrow, row.Permission))
			} else {
				for _, c := range []identity.Caller{session, full, bare, outside, narrow} {
					requireFault(t, "forbidden", identity.Allow(c, row.Permission))
				}
			}
			fmt.Fprintf(&b, "%-15s", answer)
		}
		answer := "-"
		if identity.Allow(identity.System("test"), row.Permission) == nil {
			answer = "yes"
		}
		b.WriteString(answer + "\n")
		require.NotEmpty(t, row.Meaning)
	}
	t.Log(b.String())
	require.Equal(t, pinned, b.String())
}

func others(p identity.Permission) (s identity.Scopes) {
	for _, row := range identity.Permissions() {
		if row.Permission != p {
			s = append(s, row.Permission)
		}
	}
	return s
}

func TestUnknownIsRefused(t *testing.T) {
	all := others("")
	for _, p := range append(all, "", "everything", "*", "credentials:*", "Credentials:Read", "credentials:read ") {
		for _, c := range []identity.Caller{
			{}, {Kind: identity.KindAnonymous}, {Kind: identity.KindAnonymous, Role: identity.Administrator, Scopes: all},
			{Role: identity.Administrator, Scopes: all},
		} {
			requireFault(t, "unauthenticated", identity.Allow(c, p))
		}
		for _, c := range []identity.Caller{
			{Kind: identity.KindPerson}, {Kind: identity.KindPerson, Role: "owner"}, {Kind: identity.KindPerson, Role: "Administrator"},
			{Kind: identity.KindToken, Role: "root", Scopes: append(all, p)},
			{Kind: identity.KindClientKey, TrainID: "train_a"}, {Kind: identity.KindClientKey, Role: identity.Administrator, Scopes: all},
			{Kind: "service", Role: identity.Administrator, Scopes: all}, {Kind: "root"},
		} {
			requireFault(t, "forbidden", identity.Allow(c, p))
		}
		if p.Known() {
			continue
		}
		for _, c := range []identity.Caller{
			{Kind: identity.KindPerson, Role: identity.Administrator}, {Kind: identity.KindToken, Role: identity.Administrator, Scopes: identity.Scopes{p}}, identity.System("x"),
		} {
			err := identity.Allow(c, p)
			requireFault(t, "forbidden", err)
			require.NotContains(t, err.Error(), "everything")
		}
	}
	require.Empty(t, identity.RoleScopes("owner"))
	require.Equal(t, all, identity.RoleScopes(identity.Administrator))
}

func TestTheTableCannotBeChanged(t *testing.T) {
	identity.Permissions()[0].Permission = "x"
	identity.Roles()[0] = "x"
	require.NoError(t, identity.Allow(identity.Caller{Kind: identity.KindPerson, Role: identity.Administrator}, identity.CredentialRead))
	require.True(t, identity.Administrator.Known())
}

func TestEventsNameTheCaller(t *testing.T) {
	target := store.Target{Kind: "credential", ID: "cred_1"}
	for _, c := range []struct {
		caller identity.Caller
		actor  store.Actor
		behalf string
	}{
		{identity.Caller{}, store.Actor{Kind: "anonymous"}, ""},
		{identity.System("cooling"), store.Actor{Kind: "system", ID: "cooling", Name: "cooling"}, ""},
		{identity.Caller{Kind: identity.KindPerson, ID: "user_1", Name: "Ada", UserID: "user_1"}, store.Actor{Kind: "person", ID: "user_1", Name: "Ada"}, ""},
		{identity.Caller{Kind: identity.KindToken, ID: "tok_1", UserID: "user_1"}, store.Actor{Kind: "token", ID: "tok_1"}, "user_1"},
		{identity.Caller{Kind: identity.KindClientKey, ID: "key_1", TrainID: "train_1"}, store.Actor{Kind: "client_key", ID: "key_1"}, "train_1"},
		{identity.Caller{Kind: identity.KindClientKey, ID: "key_1", TrainID: "train_1", OnBehalf: "user_9"}, store.Actor{Kind: "client_key", ID: "key_1"}, "user_9"},
	} {
		c.caller.RequestID, c.caller.IP, c.caller.UserAgent = "req_1", "192.0.2.1", "agent"
		require.Equal(t, store.Event{
			Actor: c.actor, OnBehalf: c.behalf, Action: store.CredentialView, Target: target, RequestID: "req_1", IP: "192.0.2.1", UserAgent: "agent",
		}, c.caller.Event(store.CredentialView, target))
	}
}
