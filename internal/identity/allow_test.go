package identity_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// pinned is who may do what, for people to read. A change of the table must be a change of this one too.
const pinned = `
permission              administrator  operator       auditor        member         system
credentials:read        yes            yes            yes            granted        yes
credentials:write       yes            yes            -              granted        yes
credentials:reveal      yes            yes            -              granted        -
credentials:grant       yes            yes            -              granted        -
credentials:use         yes            yes            -              granted        -
trains:read             yes            yes            yes            granted        yes
trains:write            yes            yes            -              -              yes
trains:members          yes            yes            -              granted        yes
trains:private          yes            -              yes            -              yes
keys:read               yes            yes            yes            granted        yes
keys:write              yes            yes            -              granted        yes
audit:read              yes            -              yes            -              yes
audit:sinks             yes            -              -              -              -
tokens:read             yes            yes            yes            yes            yes
tokens:write            yes            yes            yes            yes            yes
profile:read            yes            yes            yes            yes            yes
profile:write           yes            yes            yes            yes            yes
users:read              yes            -              yes            -              yes
users:write             yes            -              -              -              yes
groups:read             yes            yes            yes            -              yes
groups:write            yes            yes            -              -              yes
service_accounts:read   yes            yes            yes            -              yes
service_accounts:write  yes            yes            -              -              yes
issuers:read            yes            -              yes            -              yes
issuers:write           yes            -              -              -              yes
sso:write               yes            -              -              -              yes
metrics:read            yes            yes            yes            -              yes
usage:read              yes            yes            yes            granted        yes
usage:write             yes            -              -              -              -
contents:read           yes            -              -              -              -
notifications:read      yes            yes            yes            -              yes
notifications:write     yes            -              -              -              -
incidents:read          yes            yes            yes            -              yes
incidents:write         yes            yes            -              -              yes
incidents:delete        yes            -              -              -              -
oauth_providers:read    yes            yes            yes            yes            yes
oauth_providers:write   yes            -              -              -              -
mcp_servers:read        yes            yes            yes            yes            yes
mcp_servers:write       yes            yes            -              -              -
mcp_connections:write   yes            yes            -              granted        -
keyring:read            yes            -              yes            -              -
keyring:write           yes            -              -              -              -
`

func TestAllowTable(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-24s", "permission")
	for _, role := range identity.Roles() {
		fmt.Fprintf(&b, "%-15s", role)
	}
	b.WriteString("system\n")
	for _, row := range identity.Permissions() {
		fmt.Fprintf(&b, "%-24s", row.Permission)
		for _, role := range identity.Roles() {
			session := identity.Caller{Kind: identity.KindPerson, Role: role}
			full := identity.Caller{Kind: identity.KindToken, Role: role, Scopes: identity.Scopes{row.Permission}}
			bare := identity.Caller{Kind: identity.KindToken, Role: role, Scopes: others(row.Permission)}
			service, idle := full, bare
			service.Kind, idle.Kind = identity.KindService, identity.KindService
			outside, narrow := full, bare
			outside.Kind, narrow.Kind = identity.KindJWT, identity.KindJWT
			answer := "-"
			reach, err := identity.Within(session, row.Permission)
			switch reach {
			case identity.Everything:
				answer = "yes"
				for _, c := range []identity.Caller{session, full, service, outside} {
					require.NoError(t, identity.Allow(c, row.Permission))
				}
			case identity.OwnAndGranted:
				answer = "granted"
				for _, c := range []identity.Caller{session, full, service, outside} {
					requireFault(t, "forbidden", identity.Allow(c, row.Permission)) // what does not ask how far it goes cannot keep that
					far, err := identity.Within(c, row.Permission)
					require.NoError(t, err)
					require.Equal(t, reach, far)
				}
			default:
				requireFault(t, "forbidden", err)
				for _, c := range []identity.Caller{session, full, bare, service, idle, outside, narrow} {
					requireFault(t, "forbidden", identity.Allow(c, row.Permission))
				}
			}
			if reach > identity.Nothing {
				require.NoError(t, err)
				for _, c := range []identity.Caller{bare, idle} {
					requireFault(t, "scope_missing", identity.Allow(c, row.Permission))
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
			{Kind: "robot", Role: identity.Administrator, Scopes: all}, {Kind: "root"}, {Kind: identity.KindService, Role: "root", Scopes: append(all, p)},
			{Kind: identity.KindService, Role: identity.Administrator}, {Kind: identity.KindService, Scopes: all},
		} {
			require.Equal(t, fault.Forbidden, fault.KindOf(identity.Allow(c, p)))
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
		{identity.Caller{Kind: identity.KindService, ID: "tok_1", ServiceID: "sa_1"}, store.Actor{Kind: "service", ID: "tok_1"}, "sa_1"},
		{identity.Caller{Kind: identity.KindClientKey, ID: "key_1", TrainID: "train_1"}, store.Actor{Kind: "client_key", ID: "key_1"}, "train_1"},
		{identity.Caller{Kind: identity.KindClientKey, ID: "key_1", TrainID: "train_1", OnBehalf: "user_9"}, store.Actor{Kind: "client_key", ID: "key_1"}, "user_9"},
	} {
		c.caller.RequestID, c.caller.IP, c.caller.UserAgent = "req_1", "192.0.2.1", "agent"
		require.Equal(t, store.Event{
			Actor: c.actor, OnBehalf: c.behalf, Action: store.CredentialView, Target: target, RequestID: "req_1", IP: "192.0.2.1", UserAgent: "agent",
		}, c.caller.Event(store.CredentialView, target))
	}
}

// TestHalfSignedInIsCountedApart: who has somebody's password alone uses up nothing of what that person may ask.
func TestHalfSignedInIsCountedApart(t *testing.T) {
	whole := identity.Caller{Kind: identity.KindPerson, UserID: "user_1", SessionID: "sess_1"}
	half := identity.Caller{Kind: identity.KindAnonymous, UserID: "user_1", SessionID: "sess_2"}
	require.Equal(t, "user_1", whole.CountedAs())
	require.NotEqual(t, whole.CountedAs(), half.CountedAs())
	require.NotEmpty(t, half.CountedAs())
	require.Equal(t, half.CountedAs(), identity.Caller{Kind: identity.KindAnonymous, UserID: "user_1", SessionID: "sess_3"}.CountedAs(), "however often they begin")
	require.Empty(t, identity.Caller{Kind: identity.KindAnonymous}.CountedAs())
}
