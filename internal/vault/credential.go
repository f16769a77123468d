package vault

import (
	"net/url"
	"slices"
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/facts"
	"signalbox.dev/signalbox/internal/secret"
)

// Meta is what a person may set on a credential besides its secret fields. All of it is readable by who may read credentials; Notes are
// sealed at rest.
type Meta struct {
	Name        string // 1–200 characters; unique among accounts
	AccountID   string // accounts only: begins with acc_, unique; empty means acc_<name> when the account is stored
	Provider    string // where the credential belongs, such as anthropic
	Description string
	Username    string
	BaseURL     string // where it is used; empty means the provider's own, if the provider is known
	ExternalURL string
	InternalURL string
	Port        int // 0: none
	RequiresVPN bool
	Requires2FA bool
	Tags        []string
	Hosts       []string // hosts (host or host:port) that it may be sent to; empty means the host of BaseURL
	ExpiresAt   *time.Time
	RotateEvery int // days; 0: no rotation is planned
	Owner       string
	// ClientID, ServiceID and InfrastructureID say whose it is.
	ClientID, ServiceID, InfrastructureID string
	PluginName                            string
	OAuth                                 OAuthMeta // type oauth only
	Upstream                              Upstream  // accounts only
	Inject                                Inject    // how the secret goes into a request; the zero rule is the type's
	Methods                               []string  // that a request with it may have; empty means all
	Paths                                 []string  // patterns of paths below BaseURL that a request with it may have ([PathAllowed]); empty means all
}

// OAuthMeta is the oauth block: what is needed to refresh, and when the access token ends.
type OAuthMeta struct {
	ExpiresAt     *time.Time // of the access token; nil: unknown
	Scopes        []string
	ClientID      string
	TokenEndpoint string
	AuthMethod    string // client_secret_basic, client_secret_post, none, or empty for the provider's
	RequestFormat string // json, form, or empty for the provider's
	Resource      string // what the tokens are for (RFC 8707), sent with each refresh; empty: the provider decides
	GrantType     string // client_credentials when tokens come by that grant, otherwise empty
}

// Draft is a credential to be stored. Type, Name and Secrets are required.
type Draft struct {
	Type Type
	Meta
	Notes   secret.Value
	Secrets map[string]secret.Value
	// State is what an import brings along: disabled or compromised; empty means active.
	State Status
	// Generate are fields that are made here, in the place of Secrets.
	Generate Generates
}

// Credential is a stored credential without its secrets.
type Credential struct {
	ID   string
	Type Type
	Meta
	Status Status
	Health Health // empty for types without one
	// Lending says of an account whether somebody has paused or drained it.
	Lending Lending
	// Tampered says that the credential was changed outside Signalbox, so that it is neither lent nor revealed. Lists do not look.
	Tampered bool
	// Notes are filled by [Room.Get] alone; HasNotes tells everywhere whether there are any.
	Notes    secret.Value
	HasNotes bool
	Version  int64 // of the secret fields, from 1
	Revision int64 // of everything else, from 1
	// SecretFields are the names of the secret fields of this version.
	SecretFields []string
	// Suffix is the last four characters of a key or token of at least 16, or empty.
	Suffix string
	// Facts are what was derived from the secret fields of this version. Lists do not have them.
	Facts                facts.Facts
	CreatedAt, UpdatedAt time.Time
	LastRotatedAt        *time.Time
	// RotateAt is since when it is to be rotated at once, whatever its plan: it was contained in an incident. A new secret takes it back.
	RotateAt *time.Time
	// LastUsedAt is when it was last lent or revealed, half a minute late where another instance did it; nil: never.
	LastUsedAt *time.Time
	// Issued is when the secret fields of this version were stored.
	Issued    time.Time
	refreshes bool
}

// ETag returns the entity tag (RFC 9110, section 8.8.3): it changes with every change of the credential, and when time changes its status or
// health.
func (c Credential) ETag() string {
	tag := `"` + strconv.FormatInt(c.Version, 10) + "-" + strconv.FormatInt(c.Revision, 10)
	// What is set by people has its revision; what comes with time and with refreshes is a number of its own.
	n := 3 * max(slices.Index(Healths(), c.Health), 0)
	switch c.Status {
	case Expiring:
		n++
	case Expired:
		n += 2
	}
	if n > 0 {
		tag += "-" + strconv.Itoa(n)
	}
	return tag + `"`
}

// RotationDue is when the credential is to be rotated: by its plan and by when its secret was last given anew, or at once when it was contained; nil
// for neither.
func (c Credential) RotationDue() *time.Time {
	if c.RotateEvery <= 0 {
		return c.RotateAt
	}
	from := c.CreatedAt
	if c.LastRotatedAt != nil {
		from = *c.LastRotatedAt
	}
	due := from.Add(time.Duration(c.RotateEvery) * 24 * time.Hour)
	if c.RotateAt != nil && c.RotateAt.Before(due) {
		return c.RotateAt
	}
	return &due
}

// IsAccount reports whether the credential can serve an LLM provider.
func (c Credential) IsAccount() bool { return c.AccountID != "" }

// Edit is one field of a merge patch (RFC 7396). The zero Edit leaves the field alone, [To] sets it, [Clear] is null: it empties the
// field or brings its default back.
type Edit[T any] struct {
	set   bool
	value T
}

// To sets the field to v.
func To[T any](v T) Edit[T] { return Edit[T]{set: true, value: v} }

// Clear empties the field.
func Clear[T any]() Edit[T] { return Edit[T]{set: true} }

// IsSet reports whether the patch says anything about the field.
func (e Edit[T]) IsSet() bool { return e.set }

func (e Edit[T]) apply(dst *T) {
	if e.set {
		*dst = e.value
	}
}

// Patch is a merge patch of a credential. The type cannot be patched.
type Patch struct {
	Name, AccountID, Provider, Description, Username Edit[string]
	BaseURL, ExternalURL, InternalURL                Edit[string]
	Port, RotateEvery                                Edit[int]
	RequiresVPN, Requires2FA                         Edit[bool]
	Tags, Hosts, Methods, Paths                      Edit[[]string]
	Notes                                            Edit[secret.Value]
	ExpiresAt                                        Edit[*time.Time]
	Owner, ClientID, ServiceID, InfrastructureID     Edit[string]
	PluginName                                       Edit[string]
	OAuth                                            OAuthPatch
	Upstream                                         UpstreamPatch
	Inject                                           InjectPatch
	State                                            Edit[Status]             // active, disabled or compromised
	Secrets                                          map[string]*secret.Value // a new version: nil removes a field, fields that are not named stay
	Generate                                         Generates                // fields of a new version that are made here
	Reason                                           string                   // why the secrets change; kept with the version
}

// OAuthPatch is the merge patch of the oauth block.
type OAuthPatch struct {
	Clear                     bool // oauth: null
	ExpiresAt                 Edit[*time.Time]
	Scopes                    Edit[[]string]
	ClientID, TokenEndpoint   Edit[string]
	AuthMethod, RequestFormat Edit[string]
	Resource, GrantType       Edit[string]
}

// Filter narrows a list; empty fields do not. Text is compared exactly, except Q.
type Filter struct {
	Type                                            Type
	Provider, ClientID, ServiceID, InfrastructureID string
	Owner, PluginName, Tag                          string
	Status                                          Status
	Health                                          Health // of type oauth; the others have none
	ExpiresBefore                                   *time.Time
	RotationDueBefore                               *time.Time // what is to be rotated before, overdue or not
	// Accounts asks for what can serve an LLM provider, and nothing else.
	Accounts bool
	// IDs, when not nil, are the only credentials to list: those of a train, for example.
	IDs []string
	// Q are words; each must occur somewhere in the readable metadata, in upper or lower case.
	Q      string
	Limit  int    // 0: 100; at most 1000
	Cursor string // the next of the page before
	Skip   int
}

// Version is one version of a credential's secret fields.
type Version struct {
	Number        int64
	Current       bool
	SecretFields  []string
	Suffix        string
	TokenExpires  *time.Time // type oauth
	Reason        string
	RestoredFrom  int64 // 0: this version is no restoration
	CreatedBy     string
	CreatedByName string
	CreatedAt     time.Time
}

// Material is a credential opened for lending: its secrets are in memory. Ask [Material.Usable] before each use, since time passes.
type Material struct {
	ID, Name, AccountID string
	Type                Type
	Provider            string
	BaseURL             *url.URL // nil: none is known
	Hosts               []string // in the form that [Material.Bound] compares
	Upstream            Upstream
	Inject              Inject // the rule that is used: the credential's own, or its type's; see [Material.Injected]
	Username            string
	Methods, Paths      []string // what [MethodAllowed] and [PathAllowed] compare with
	Version             int64
	// Secrets are the fields of the type that are lent, and what the outbound proxy wants; not those that only refresh or sign.
	Secrets      map[string]secret.Value
	State        Status     // active, disabled or compromised
	Lending      Lending    // asked apart from [Material.Usable]: the tokens of what is paused are kept fresh
	ExpiresAt    *time.Time // of the credential
	TokenExpires *time.Time // of an OAuth access token, when known
	// Issued is when this version was stored. Refreshes says that a refresh may bring the next access token, Health what became of the last try.
	Issued    time.Time
	Refreshes bool
	Health    Health
	// Damaged says that the sealed secret did not open, or was not tried because of Tampered.
	Damaged bool
	// Tampered says that what decides where the secret goes was changed outside Signalbox.
	Tampered bool
}
