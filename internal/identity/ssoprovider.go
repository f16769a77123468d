package identity

import (
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// SecondFactorTrust says when a sign-in at a provider counts for a second factor as well.
type SecondFactorTrust string

// The grades of trust. Whom none is given for is asked for the second factor that they have here.
const (
	TrustNever  SecondFactorTrust = "never"
	TrustClaims SecondFactorTrust = "claims" // when the provider says so in amr ("mfa") or with a listed acr
	TrustAlways SecondFactorTrust = "always" // the provider lets nobody in without
)

// SecondFactorTrusts returns the grades.
func SecondFactorTrusts() []SecondFactorTrust {
	return []SecondFactorTrust{TrustNever, TrustClaims, TrustAlways}
}

// RoleMapping gives a role to the members of a group at the provider.
type RoleMapping struct {
	Group string `json:"group"`
	Role  Role   `json:"role"`
}

// SSOSettings are what an administrator says of a provider, the client secret excepted.
type SSOSettings struct {
	Label    string   `json:"label"`
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"client_id"`
	Scopes   []string `json:"scopes"`

	EmailClaim    string `json:"email_claim"`
	VerifiedClaim string `json:"verified_claim"`
	NameClaim     string `json:"name_claim"`
	GroupsClaim   string `json:"groups_claim"`

	// AllowedDomains are those of the addresses that may sign in; empty: every address that the provider has.
	AllowedDomains []string `json:"allowed_domains"`
	// LinkDomains are those for which the provider may say that somebody is a person who is here already.
	LinkDomains []string `json:"link_domains"`
	// CreatePeople adds who is not here yet.
	CreatePeople bool `json:"create_people"`
	// Roles make the provider decide on roles, at every sign-in. DefaultRole is that of somebody in none of the groups, or of somebody new; empty:
	// such a one is refused.
	Roles       []RoleMapping `json:"roles"`
	DefaultRole Role          `json:"default_role"`
	// Groups make the provider give membership in groups here, at every sign-in. What was given by hand is not its affair.
	Groups []GroupMapping `json:"groups,omitempty"`

	SecondFactor SecondFactorTrust `json:"second_factor"`
	ACRValues    []string          `json:"acr_values"`
}

// SSOProvider is where people can sign in elsewhere.
type SSOProvider struct {
	ID      string
	Name    string // in addresses; never changes
	Enabled bool
	SSOSettings
	HasSecret            bool
	CreatedAt, UpdatedAt time.Time

	version int64
}

// Target returns the provider as audit records name it.
func (p SSOProvider) Target() store.Target {
	return store.Target{Kind: "sso_provider", ID: p.ID, Name: p.Name}
}

// ETag is the validator of this state of the provider.
func (p SSOProvider) ETag() string {
	b, _ := json.Marshal(p.SSOSettings) // texts
	enabled := "off"
	if p.Enabled {
		enabled = "on"
	}
	parts := []string{p.ID, enabled, string(b), p.UpdatedAt.Format(store.TimeFormat)}
	for _, row := range p.Groups {
		parts = append(parts, row.Name)
	}
	return etag.Of(parts...)
}

// CallbackPath is where the provider sends people back to.
func (p SSOProvider) CallbackPath() string { return "/sso/" + p.Name + "/callback" }

// SSOEdit says what to set of a provider; what is nil stays as it is.
type SSOEdit struct {
	Name                                              *string // of a new one only
	Enabled, CreatePeople                             *bool
	Label, Issuer, ClientID                           *string
	Secret                                            *secret.Value // zero: none
	Scopes, AllowedDomains, LinkDomains, ACRValues    *[]string
	EmailClaim, VerifiedClaim, NameClaim, GroupsClaim *string
	Roles                                             *[]RoleMapping
	Groups                                            *[]GroupMapping
	DefaultRole                                       *Role
	SecondFactor                                      *SecondFactorTrust
	IfMatch                                           string
}

func assign[T any](field string, fields *[]string, to *T, from *T) {
	if from != nil {
		*to = *from
		*fields = append(*fields, field)
	}
}

// apply sets what the edit names, and returns the names.
func (e SSOEdit) apply(p *SSOProvider) (fields []string) {
	assign("enabled", &fields, &p.Enabled, e.Enabled)
	assign("label", &fields, &p.Label, e.Label)
	assign("issuer", &fields, &p.Issuer, e.Issuer)
	assign("client_id", &fields, &p.ClientID, e.ClientID)
	assign("scopes", &fields, &p.Scopes, e.Scopes)
	assign("email_claim", &fields, &p.EmailClaim, e.EmailClaim)
	assign("verified_claim", &fields, &p.VerifiedClaim, e.VerifiedClaim)
	assign("name_claim", &fields, &p.NameClaim, e.NameClaim)
	assign("groups_claim", &fields, &p.GroupsClaim, e.GroupsClaim)
	assign("allowed_domains", &fields, &p.AllowedDomains, e.AllowedDomains)
	assign("link_domains", &fields, &p.LinkDomains, e.LinkDomains)
	assign("create_people", &fields, &p.CreatePeople, e.CreatePeople)
	assign("roles", &fields, &p.Roles, e.Roles)
	assign("default_role", &fields, &p.DefaultRole, e.DefaultRole)
	assign("groups", &fields, &p.Groups, e.Groups)
	assign("second_factor", &fields, &p.SecondFactor, e.SecondFactor)
	assign("acr_values", &fields, &p.ACRValues, e.ACRValues)
	if e.Secret != nil {
		fields = append(fields, "client_secret")
	}
	return fields
}

var ssoName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// valid puts the provider in its canonical form, or says what is wrong with it.
func (p *SSOProvider) valid(check func(*url.URL) error) error {
	var bad problems
	if !ssoName.MatchString(p.Name) {
		bad.add("/name", "must be 1 to 32 lower-case letters, digits and dashes")
	}
	p.Label = bad.name("/label", p.Label)
	bad.issuer(p.Issuer, check)
	bad.line("/client_id", p.ClientID, 255, true)
	for pointer, claim := range map[string]string{"/email_claim": p.EmailClaim, "/verified_claim": p.VerifiedClaim, "/name_claim": p.NameClaim} {
		bad.line(pointer, claim, 100, true)
	}
	bad.line("/groups_claim", p.GroupsClaim, 100, false)
	bad.list("/scopes", p.Scopes, 20, 100)
	for _, s := range p.Scopes {
		if strings.ContainsAny(s, " \"\\") {
			bad.add("/scopes", "must hold scopes without spaces and quotes")
			break
		}
	}
	bad.list("/acr_values", p.ACRValues, 20, 255)
	p.AllowedDomains = bad.domains("/allowed_domains", p.AllowedDomains)
	p.LinkDomains = bad.domains("/link_domains", p.LinkDomains)
	if len(p.Roles) > maxMappings {
		bad.add("/roles", "must have at most 100 rows")
	}
	for _, row := range p.Roles {
		if !row.Role.Known() || row.Group == "" || len(row.Group) > 256 {
			bad.add("/roles", "must pair a group of 1 to 256 bytes with administrator, operator, auditor or member")
			break
		}
	}
	if len(p.Groups) > maxMappings {
		bad.add("/groups", "must have at most 100 rows")
	}
	for _, row := range p.Groups {
		if row.Group == "" || len(row.Group) > 256 {
			bad.add("/groups", "must pair a group at the provider of 1 to 256 bytes with a group here")
			break
		}
	}
	if len(p.Roles)+len(p.Groups) > 0 && p.GroupsClaim == "" {
		bad.add("/groups_claim", "must be set when the provider's groups decide on roles or on groups here")
	}
	if p.DefaultRole != "" {
		bad.role("/default_role", p.DefaultRole)
	}
	if p.CreatePeople && p.DefaultRole == "" && len(p.Roles) == 0 {
		bad.add("/default_role", "must be set, or roles, when people are created")
	}
	if !slices.Contains(SecondFactorTrusts(), p.SecondFactor) {
		bad.add("/second_factor", "must be never, claims or always")
	}
	return bad.result()
}

func (p *problems) issuer(text string, check func(*url.URL) error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery || len(text) > 500:
		p.add("/issuer", "must be the issuer's https address without a query, such as https://id.example.com/realms/main")
	default:
		if err := check(u); err != nil {
			p.add("/issuer", "may not be called: "+strings.TrimSuffix(fault.Of(err).Detail, "."))
		}
	}
}

func (p *problems) line(pointer, s string, most int, needed bool) {
	if s == "" && !needed {
		return
	}
	if s == "" || len(s) > most || strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		p.add(pointer, "must be one line of text without space around it")
	}
}

func (p *problems) list(pointer string, list []string, most, each int) {
	if len(list) > most {
		p.add(pointer, "has too many entries")
		return
	}
	for _, s := range list {
		if s == "" || len(s) > each || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			p.add(pointer, "must hold single lines of text")
			return
		}
	}
}

func (p *problems) domains(pointer string, list []string) []string {
	if len(list) > 100 {
		p.add(pointer, "has too many entries")
		return list
	}
	out := make([]string, 0, len(list))
	for _, s := range list {
		d, ok := plainDomain(s)
		if !ok {
			p.add(pointer, "must hold domains such as example.com, in ASCII and without a dot at either end; sub-domains are not included")
			return list
		}
		if !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

const ssoColumns = `id, name, enabled, settings, sealed, version, created_at, updated_at`

type ssoRow struct {
	ID        string     `db:"id"`
	Name      string     `db:"name"`
	Enabled   int64      `db:"enabled"`
	Settings  string     `db:"settings"`
	Sealed    []byte     `db:"sealed"`
	Version   int64      `db:"version"`
	CreatedAt store.Time `db:"created_at"`
	UpdatedAt store.Time `db:"updated_at"`
}

func (row ssoRow) provider(tx *store.Tx) (SSOProvider, error) {
	p := SSOProvider{ID: row.ID, Name: row.Name, Enabled: row.Enabled == 1, HasSecret: row.Sealed != nil, CreatedAt: row.CreatedAt.Time(), UpdatedAt: row.UpdatedAt.Time(), version: row.Version}
	if err := json.Unmarshal([]byte(row.Settings), &p.SSOSettings); err != nil {
		return SSOProvider{}, errors.New("the settings of a single sign-on provider are not readable")
	}
	return p, p.nameGroups(tx)
}

const ssoPurpose = "sso client secret"

func (p SSOProvider) aad() secret.AAD {
	// It opens for this issuer alone: who changes it in the database does not get it sent elsewhere.
	return secret.AAD{Table: "sso_providers", ID: p.ID + " " + p.Issuer, Field: "client_secret", Version: p.version}
}
