package identity

import (
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/oidc"
)

// plainDomain returns a domain in lower case. It takes ASCII only and looks before it lowers: the Kelvin sign and others become ASCII letters
// when they are lowered, and other alphabets have letters that look like ours.
func plainDomain(s string) (string, bool) {
	if s == "" || len(s) > 253 {
		return "", false
	}
	dots := 0
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		for i := range len(label) {
			c := label[i]
			if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
				return "", false
			}
		}
		dots++
	}
	return strings.ToLower(s), dots > 1
}

// asciiEmail returns an address of the plainest form, in the form in which it is kept, and its domain. Quoted and commented forms, spaces and a
// second @ are refused: other programs read them otherwise.
func asciiEmail(s string) (email, domain string, ok bool) {
	local, domain, found := strings.Cut(s, "@")
	if !found || local == "" || len(s) > maxEmail {
		return "", "", false
	}
	for i := range len(local) {
		if c := local[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),:;<>@[\]`, c) >= 0 {
			return "", "", false
		}
	}
	if domain, ok = plainDomain(domain); !ok {
		return "", "", false
	}
	var p problems
	email = p.email("/email", s)
	return email, domain, p.result() == nil && email == strings.ToLower(local)+"@"+domain
}

// ssoPerson is somebody as a provider tells of them.
type ssoPerson struct {
	issuer, subject string
	email, domain   string // "" when there is none, or none that can be used
	verified        bool
	name            string
	groups          []string
	// groupsKnown is false when the provider does not tell the groups, or not all of them.
	groupsKnown bool
	proof       Proof
}

func (p SSOProvider) ssoPerson(c oidc.Claims) ssoPerson {
	o := ssoPerson{issuer: p.Issuer, subject: c.Subject(), verified: c.True(p.VerifiedClaim), proof: ProofSSO}
	o.email, o.domain, _ = asciiEmail(c.Text(p.EmailClaim))
	o.name = c.Text(p.NameClaim)
	if p.GroupsClaim != "" && !c.Elsewhere(p.GroupsClaim) {
		o.groups, o.groupsKnown = c.Texts(p.GroupsClaim)
	}
	if p.doesSecondFactor(c) {
		o.proof = ProofSSOStrong
	}
	return o
}

// doesSecondFactor reports whether this sign-in counts for a second factor too.
func (p SSOProvider) doesSecondFactor(c oidc.Claims) bool {
	switch p.SecondFactor {
	case TrustAlways:
		return true
	case TrustClaims:
		methods, _ := c.Texts("amr")
		acr := c.Text("acr")
		return slices.Contains(methods, "mfa") || acr != "" && slices.Contains(p.ACRValues, acr)
	}
	return false
}

// wants are the claims that the provider is asked for.
func (p SSOProvider) wants() []string {
	return []string{p.EmailClaim, p.VerifiedClaim, p.NameClaim, p.GroupsClaim}
}

// mayEnter refuses addresses of other domains, and those that nobody has verified, where only some domains may enter.
func (p SSOProvider) mayEnter(o ssoPerson) error {
	if len(p.AllowedDomains) == 0 {
		return nil
	}
	if !o.verified || o.email == "" {
		return ssoRefused("email_unverified", "The provider does not vouch for your e-mail address. Verify it there, or ask an administrator of this Signalbox.")
	}
	if !slices.Contains(p.AllowedDomains, o.domain) {
		return ssoRefused("domain_not_allowed", "Addresses of your e-mail domain may not sign in here. Ask an administrator of this Signalbox.")
	}
	return nil
}

// role returns the role that the provider gives, "" when it gives none and decides on none.
func (p SSOProvider) role(o ssoPerson) (Role, error) {
	if len(p.Roles) == 0 {
		return "", nil
	}
	best := -1
	for _, row := range p.Roles {
		rank := slices.Index(everyone, row.Role) // the roles stand in the order of what they may
		if slices.Contains(o.groups, row.Group) && (best < 0 || rank < best) {
			best = rank
		}
	}
	switch {
	case best >= 0:
		return everyone[best], nil
	case p.DefaultRole != "" && o.groupsKnown:
		return p.DefaultRole, nil
	case !o.groupsKnown:
		return "", groupsMissing()
	}
	return "", ssoRefused("no_role", "You are in none of the groups that may sign in here. Ask an administrator of this Signalbox.")
}

func groupsMissing() error {
	return ssoRefused("groups_missing", "The provider does not say which groups you are in, and they decide what you may do here. Ask an administrator of this Signalbox.")
}
