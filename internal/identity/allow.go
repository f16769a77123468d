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
	TrainRead        Permission = "trains:read"
	TrainWrite       Permission = "trains:write"
	KeyRead          Permission = "keys:read"
	KeyWrite         Permission = "keys:write"
	AuditRead        Permission = "audit:read"
	TokenRead        Permission = "tokens:read"   // one's own tokens; with users:read also those of others
	TokenWrite       Permission = "tokens:write"  // one's own tokens; with users:write also those of others
	ProfileRead      Permission = "profile:read"  // oneself and one's own sessions; with users:read also others
	ProfileWrite     Permission = "profile:write" // one's own name, password and sessions; with users:write also those of others
	UserRead         Permission = "users:read"
	UserWrite        Permission = "users:write"
	SSOWrite         Permission = "sso:write"
	MetricsRead      Permission = "metrics:read"
)

// PermissionRow explains one permission and says which roles have it.
type PermissionRow struct {
	Permission Permission
	Meaning    string
	Roles      []Role
	// System says whether Signalbox's own chores may do it.
	System bool
}

// Permissions returns the one table of who may do what.
func Permissions() []PermissionRow { return slices.Clone(permissions[:]) }

var (
	everyone = []Role{Administrator, Operator, Auditor, Member}
	readers  = []Role{Administrator, Operator, Auditor}
	keepers  = []Role{Administrator, Operator}

	permissions = [...]PermissionRow{
		{CredentialRead, "list credentials and read their metadata", readers, true},
		{CredentialWrite, "store, change, rotate and delete credentials", keepers, true},
		{CredentialReveal, "see a secret field in plain text", keepers, false},
		{TrainRead, "read trains, their links and why an account is chosen", readers, true},
		{TrainWrite, "make, change and delete trains and their links", keepers, true},
		{KeyRead, "list client keys", readers, true},
		{KeyWrite, "issue, change, replace and revoke client keys", keepers, true},
		{AuditRead, "search, verify and export the audit log", []Role{Administrator, Auditor}, true},
		{TokenRead, "list one's own personal access tokens", everyone, true},
		{TokenWrite, "issue and revoke one's own personal access tokens", everyone, true},
		{ProfileRead, "read one's own profile and list one's own sessions", everyone, true},
		{ProfileWrite, "change one's own name and password, and end one's own sessions", everyone, true},
		{UserRead, "list people, their tokens and their sessions", []Role{Administrator, Auditor}, true},
		{UserWrite, "add and change people, issue and revoke their tokens, and end their sessions", []Role{Administrator}, true},
		{SSOWrite, "see, add, change, test and delete the providers of single sign-on", []Role{Administrator}, true},
		{MetricsRead, "read the metrics", readers, true},
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

// RoleScopes returns every permission of a role, in the order of the table; none for an unknown role.
func RoleScopes(r Role) Scopes {
	var out Scopes
	for _, row := range permissions {
		if slices.Contains(row.Roles, r) {
			out = append(out, row.Permission)
		}
	}
	return out
}

// Allow returns nil when the caller may do p. Otherwise it returns a fault: "unauthenticated" for nobody, "scope_missing" when only the
// token's scopes stand in the way, "forbidden" for everything else, unknown kinds, roles and permissions among it.
func Allow(c Caller, p Permission) error {
	row, known := permission(p)
	switch c.Kind {
	case KindPerson, KindToken:
		if !known || !slices.Contains(row.Roles, c.Role) {
			return fault.New(fault.Forbidden, "forbidden", "Your role does not include "+quotePermission(p)+". Ask an administrator of this Signalbox to do it or to change your role.")
		}
		if c.Kind == KindToken && !c.Scopes.Has(p) {
			return fault.New(fault.Forbidden, "scope_missing", "This token lacks the scope "+quotePermission(p)+". Issue a token that has it, and use that one.")
		}
		return nil
	case KindSystem:
		if known && row.System {
			return nil
		}
		return fault.New(fault.Forbidden, "forbidden", "Signalbox's own chores may not do this; a person must.")
	case KindClientKey:
		return fault.New(fault.Forbidden, "forbidden", "A client key only borrows credentials for its train. Use a personal access token (sbp_…) for this.")
	case KindAnonymous, "":
		return fault.New(fault.Unauthenticated, "unauthenticated", "This needs a personal access token. Send it as Authorization: Bearer sbp_….")
	default:
		return fault.New(fault.Forbidden, "forbidden", "This kind of caller may not do this.")
	}
}

// quotePermission names a permission in a sentence. Unknown ones are not echoed: they come from outside.
func quotePermission(p Permission) string {
	if !p.Known() {
		return "this permission, which Signalbox does not know"
	}
	return string(p)
}
