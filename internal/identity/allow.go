package identity

import (
	"slices"

	"signalbox.dev/signalbox/internal/fault"
)

// Role is what a person is in this installation.
type Role string

// The roles.
const (
	Administrator Role = "administrator"
	Operator      Role = "operator"
	Auditor       Role = "auditor"
	Member        Role = "member"
)

// Permission is one thing that may be done. A token's scopes have the same names.
type Permission string

// The permissions.
const (
	CredentialRead   Permission = "credentials:read"
	CredentialWrite  Permission = "credentials:write"
	CredentialReveal Permission = "credentials:reveal"
	CredentialGrant  Permission = "credentials:grant"
	CredentialUse    Permission = "credentials:use"
	TrainRead        Permission = "trains:read"
	TrainWrite       Permission = "trains:write"
	TrainMembers     Permission = "trains:members" // of a private train only for its owners, see [TrainPrivate]
	TrainPrivate     Permission = "trains:private"
	KeyRead          Permission = "keys:read"
	KeyWrite         Permission = "keys:write"
	AuditRead        Permission = "audit:read"
	AuditSinks       Permission = "audit:sinks"
	TokenRead        Permission = "tokens:read"   // one's own tokens; with users:read also those of others
	TokenWrite       Permission = "tokens:write"  // one's own tokens; with users:write also those of others
	ProfileRead      Permission = "profile:read"  // oneself and one's own sessions; with users:read also others
	ProfileWrite     Permission = "profile:write" // one's own name, password and sessions; with users:write also those of others
	UserRead         Permission = "users:read"
	UserWrite        Permission = "users:write"
	SSOWrite         Permission = "sso:write"
	GroupRead        Permission = "groups:read"
	GroupWrite       Permission = "groups:write"
	ServiceRead      Permission = "service_accounts:read"
	ServiceWrite     Permission = "service_accounts:write"
	IssuerRead       Permission = "issuers:read"
	IssuerWrite      Permission = "issuers:write"
	MetricsRead      Permission = "metrics:read"
	UsageRead        Permission = "usage:read"
	UsageWrite       Permission = "usage:write"
	ContentRead      Permission = "contents:read"
	NotifyRead       Permission = "notifications:read"
	NotifyWrite      Permission = "notifications:write"
	IncidentRead     Permission = "incidents:read"
	IncidentWrite    Permission = "incidents:write"
	IncidentDelete   Permission = "incidents:delete"
	ProviderRead     Permission = "oauth_providers:read"
	ProviderWrite    Permission = "oauth_providers:write"
	MCPRead          Permission = "mcp_servers:read"
	MCPWrite         Permission = "mcp_servers:write"
	MCPConnect       Permission = "mcp_connections:write" // one's own; an outside issuer's caller who is nobody of ours has it by scope alone
	KeyringRead      Permission = "keyring:read"
	KeyringWrite     Permission = "keyring:write"
)

// Reach says how far a permission goes.
type Reach int

// The reaches, each beyond the one before.
const (
	Nothing       Reach = iota
	OwnAndGranted       // what the caller owns and what was granted to them, directly or through a group; of trains those that they are a member of
	Everything
)

// PermissionRow explains one permission and says which roles have it.
type PermissionRow struct {
	Permission Permission
	Meaning    string
	// Roles have the permission for everything.
	Roles []Role
	// Granted have it for what they own and what was granted to them.
	Granted []Role
	// System says whether Signalbox's own chores may do it.
	System bool
}

// Reach says how far the permission goes for a role.
func (r PermissionRow) Reach(role Role) Reach {
	switch {
	case slices.Contains(r.Roles, role):
		return Everything
	case slices.Contains(r.Granted, role):
		return OwnAndGranted
	}
	return Nothing
}

// Permissions returns the one table of who may do what.
func Permissions() []PermissionRow { return slices.Clone(permissions[:]) }

var (
	everyone = []Role{Administrator, Operator, Auditor, Member}
	readers  = []Role{Administrator, Operator, Auditor}
	keepers  = []Role{Administrator, Operator}
	members  = []Role{Member}

	permissions = [...]PermissionRow{
		{CredentialRead, "list credentials and read their metadata", readers, members, true},
		{CredentialWrite, "store, change, rotate and delete credentials", keepers, members, true},
		{CredentialReveal, "see a secret field in plain text", keepers, members, false},
		{CredentialGrant, "say who may use, reveal and manage a credential", keepers, members, false},
		{CredentialUse, "have Signalbox use a credential where it is bound to, to test it", keepers, members, false},
		{TrainRead, "read trains, their links and why an account is chosen", readers, members, true},
		{TrainWrite, "make, change and delete trains and their links", keepers, nil, true},
		{TrainMembers, "say who the members of a train are; of a private train only as its owner", keepers, members, true},
		{TrainPrivate, "reach private trains without being a member of them", []Role{Administrator, Auditor}, nil, true},
		{KeyRead, "list client keys", readers, members, true},
		{KeyWrite, "issue, change, replace and revoke client keys", keepers, members, true},
		{AuditRead, "search, verify and export the audit log", []Role{Administrator, Auditor}, nil, true},
		{AuditSinks, "say where the audit log is sent", []Role{Administrator}, nil, false},
		{TokenRead, "list one's own tokens", everyone, nil, true},
		{TokenWrite, "issue and revoke one's own tokens", everyone, nil, true},
		{ProfileRead, "read one's own profile and list one's own sessions", everyone, nil, true},
		{ProfileWrite, "change one's own name and password, keep filters of lists, and end one's own sessions", everyone, nil, true},
		{UserRead, "list people, their tokens and their sessions", []Role{Administrator, Auditor}, nil, true},
		{UserWrite, "add and change people, issue and revoke their tokens, and end their sessions", []Role{Administrator}, nil, true},
		{GroupRead, "list groups and their members", readers, nil, true},
		{GroupWrite, "make, change and delete groups, and say who is in them", keepers, nil, true},
		{ServiceRead, "list service accounts and their tokens", readers, nil, true},
		{ServiceWrite, "make and change service accounts of no more than one's own rights, and issue and revoke their tokens", keepers, nil, true},
		{IssuerRead, "list the outside issuers whose tokens are accepted", []Role{Administrator, Auditor}, nil, true},
		{IssuerWrite, "add, change and delete outside issuers, and rotate the keys that sign access tokens", []Role{Administrator}, nil, true},
		{SSOWrite, "see, add, change, test and delete the providers of single sign-on", []Role{Administrator}, nil, true},
		{MetricsRead, "read the metrics", readers, nil, true},
		{UsageRead, "read how many requests and tokens were used, by what, and what they cost", readers, members, true},
		{UsageWrite, "have the sums of usage made anew from the audit log", []Role{Administrator}, nil, false},
		{ContentRead, "read what agents were asked and answered, where a train keeps it, and say whether and how long it does", []Role{Administrator}, nil, false},
		{NotifyRead, "list notification channels and what became of messages", readers, nil, true},
		{NotifyWrite, "make, change, test and delete notification channels", []Role{Administrator}, nil, false},
		{IncidentRead, "list incidents and read their timelines", readers, nil, true},
		{IncidentWrite, "open, change and move incidents, and write into their timelines", keepers, nil, true},
		{IncidentDelete, "delete incidents", []Role{Administrator}, nil, false},
		{ProviderRead, "list the OAuth providers at which one can log in", everyone, nil, true},
		{ProviderWrite, "add, change, switch on and delete OAuth providers", []Role{Administrator}, nil, false},
		{MCPRead, "list MCP servers", everyone, nil, true},
		{MCPWrite, "add, change and delete MCP servers", keepers, nil, false},
		{MCPConnect, "connect oneself to MCP servers: deposit what refreshes one's tokens, have it used for oneself, and end that", keepers, members, false},
		{KeyringRead, "see how a change of the data key goes", []Role{Administrator, Auditor}, nil, false},
		{KeyringWrite, "change the data key", []Role{Administrator}, nil, false},
	}
)

// Roles returns every role.
func Roles() []Role { return slices.Clone(everyone) }

// Scopes are the permissions that a token was issued with. No scopes are no permissions.
type Scopes []Permission

// Has reports whether p is among the scopes.
func (s Scopes) Has(p Permission) bool { return slices.Contains(s, p) }

// Known reports whether the permission is in the table.
func (p Permission) Known() bool { _, ok := permission(p); return ok }

// Narrow reports whether some role has the permission only for what it owns and what was granted to it.
func (p Permission) Narrow() bool {
	row, _ := permission(p)
	return len(row.Granted) > 0
}

// Of says how far the permission goes for a role; one that is unknown goes nowhere.
func (p Permission) Of(r Role) Reach {
	row, _ := permission(p)
	return row.Reach(r)
}

// Known reports whether the role is one of [Roles].
func (r Role) Known() bool { return slices.Contains(everyone, r) }

func permission(p Permission) (PermissionRow, bool) {
	for _, row := range permissions {
		if row.Permission == p {
			return row, true
		}
	}
	return PermissionRow{}, false
}

// RoleScopes returns every permission of a role, however far it goes, in the order of the table; none for an unknown role.
func RoleScopes(r Role) Scopes {
	var out Scopes
	for _, row := range permissions {
		if row.Reach(r) > Nothing {
			out = append(out, row.Permission)
		}
	}
	return out
}

// covers reports whether the role may do everything that the other may, as far as the other.
func (r Role) covers(other Role) bool {
	if !r.Known() || !other.Known() {
		return false
	}
	for _, row := range permissions {
		if row.Reach(r) < row.Reach(other) {
			return false
		}
	}
	return true
}

// Allow returns nil when the caller may do p to everything. Otherwise it returns the fault of [Within], and "forbidden" to a caller whose
// permission goes less far: what does not ask for the reach cannot keep it.
func Allow(c Caller, p Permission) error {
	reach, err := Within(c, p)
	if err == nil && reach != Everything {
		return fault.New(fault.Forbidden, "forbidden", "Your role includes "+quotePermission(p)+" only for what you own, what was granted to you and the trains that you are a member of. Ask an administrator of this Signalbox to do this.")
	}
	return err
}

// Within says how far p goes for the caller. A room that asks it narrows the act to what the caller owns or was granted when the answer is
// [OwnAndGranted]. When the caller may not do p at all it returns a fault: "unauthenticated" for nobody, "scope_missing" when only the
// token's scopes stand in the way, "forbidden" for everything else, unknown kinds, roles and permissions among it.
func Within(c Caller, p Permission) (Reach, error) {
	row, known := permission(p)
	switch c.Kind {
	case KindPerson, KindToken, KindService, KindJWT:
		reach := row.Reach(c.Role)
		if !known || reach == Nothing {
			return Nothing, fault.New(fault.Forbidden, "forbidden", "Your role does not include "+quotePermission(p)+". Ask an administrator of this Signalbox to do it or to change your role.")
		}
		if c.scoped() && !c.Scopes.Has(p) {
			return Nothing, fault.New(fault.Forbidden, "scope_missing", "This token lacks the scope "+quotePermission(p)+". Issue a token that has it, and use that one.")
		}
		return reach, nil
	case KindSystem:
		if known && row.System {
			return Everything, nil
		}
		return Nothing, fault.New(fault.Forbidden, "forbidden", "Signalbox's own chores may not do this; a person must.")
	case KindClientKey:
		return Nothing, fault.New(fault.Forbidden, "forbidden", "A client key only borrows credentials for its train. Use a personal access token (sbp_…) for this.")
	case KindAnonymous, "":
		return Nothing, fault.New(fault.Unauthenticated, "unauthenticated", "This needs a personal access token. Send it as Authorization: Bearer sbp_….")
	default:
		return Nothing, fault.New(fault.Forbidden, "forbidden", "This kind of caller may not do this.")
	}
}

// quotePermission names a permission in a sentence. Unknown ones are not echoed: they come from outside.
func quotePermission(p Permission) string {
	if !p.Known() {
		return "this permission, which Signalbox does not know"
	}
	return string(p)
}
