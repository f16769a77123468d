package identity

import (
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/jwt"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// SubjectForm says in what form a token names its subject.
type SubjectForm string

// The forms.
const (
	SubjectText   SubjectForm = "text"
	SubjectNumber SubjectForm = "number" // a positive whole number, as a number or as a text of digits
)

// SubjectIs says who the subject of a token is here.
type SubjectIs string

// What a subject may be.
const (
	SubjectUserID   SubjectIs = "user_id"  // the id of a person
	SubjectEmail    SubjectIs = "email"    // the e-mail address of a person, which the token must call verified
	SubjectListed   SubjectIs = "listed"   // a person by the issuer's own list
	SubjectOutsider SubjectIs = "outsider" // nobody of ours: such a caller may nothing that takes a role
)

// SubjectForms and SubjectKinds are the closed lists.
func SubjectForms() []SubjectForm { return []SubjectForm{SubjectText, SubjectNumber} }

// SubjectKinds returns what a subject may be.
func SubjectKinds() []SubjectIs {
	return []SubjectIs{SubjectUserID, SubjectEmail, SubjectListed, SubjectOutsider}
}

const (
	// MaxIssuers and MaxSubjects bound what is held in memory and tried for a token.
	MaxIssuers  = 32
	MaxSubjects = 1000

	defaultMaxLife = 24 * time.Hour
	maxMaxLife     = 30 * 24 * time.Hour
	maxIdentifier  = 2048
	maxShared      = 4096
)

// Issuer is an outside issuer whose tokens are accepted. Its shared secret is not part of it.
type Issuer struct {
	ID     string
	Name   string
	Active bool
	// Issuer and Audience are what a token's "iss" and "aud" must be; AnyIssuer and AnyAudience waive that.
	Issuer      string
	AnyIssuer   bool
	Audience    string
	AnyAudience bool
	// JWKSURL is where its keys are published; Shared says that it has a shared secret instead.
	JWKSURL    string
	Shared     bool
	Algorithms []string
	// SubjectClaim names the claim that says who the caller is, in what form, and who that is here.
	SubjectClaim string
	SubjectForm  SubjectForm
	SubjectIs    SubjectIs
	Subjects     []ListedSubject
	// Scopes are what its callers may do at most.
	Scopes  Scopes
	MaxLife time.Duration

	CreatedAt, UpdatedAt time.Time
	Version              int64
}

// ETag is the validator of this state of the issuer (RFC 9110, section 8.8.3). The version tells that its secret was replaced.
func (i Issuer) ETag() string {
	subjects := slices.Clone(i.Subjects)
	slices.SortFunc(subjects, func(a, b ListedSubject) int { return cmp.Compare(a.Subject, b.Subject) })
	parts := []string{
		i.ID, i.Name, strconv.FormatBool(i.Active), i.Issuer, strconv.FormatBool(i.AnyIssuer), i.Audience, strconv.FormatBool(i.AnyAudience), i.JWKSURL, strconv.FormatBool(i.Shared),
		i.SubjectClaim, string(i.SubjectForm), string(i.SubjectIs), i.MaxLife.String(), strconv.FormatInt(i.Version, 10), i.UpdatedAt.Format(store.TimeFormat), strconv.Itoa(len(i.Algorithms)),
	}
	parts = append(parts, i.Algorithms...)
	for _, s := range subjects {
		parts = append(parts, s.Subject, s.UserID)
	}
	for _, s := range i.Scopes {
		parts = append(parts, string(s))
	}
	return etag.Of(parts...)
}

// ListedSubject is one line of an issuer's list.
type ListedSubject struct{ Subject, UserID string }

// Target returns the issuer as audit records name it.
func (i Issuer) Target() store.Target {
	return store.Target{Kind: "jwt_issuer", ID: i.ID, Name: i.Name}
}

// IssuerEdit says what to make of an issuer; nil leaves a field as it is. A new issuer needs Name, Algorithms, Scopes, one of JWKSURL and
// Secret, and for "iss" and "aud" either a value or the waiver.
type IssuerEdit struct {
	Name         *string
	Active       *bool
	Issuer       *string
	AnyIssuer    *bool
	Audience     *string
	AnyAudience  *bool
	JWKSURL      *string
	Secret       *secret.Value
	Algorithms   *[]string
	SubjectClaim *string
	SubjectForm  *SubjectForm
	SubjectIs    *SubjectIs
	Subjects     *[]ListedSubject
	Scopes       *Scopes
	MaxLife      *time.Duration
	// IfMatch, when it is not empty, is the If-Match header that the issuer's ETag must satisfy.
	IfMatch string
}

// fields names what the edit touches, for the record.
func (e IssuerEdit) fields() (out []string) {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"name", e.Name != nil},
		{"active", e.Active != nil},
		{"issuer", e.Issuer != nil},
		{"any_issuer", e.AnyIssuer != nil},
		{"audience", e.Audience != nil},
		{"any_audience", e.AnyAudience != nil},
		{"jwks_url", e.JWKSURL != nil},
		{"shared_secret", e.Secret != nil},
		{"algorithms", e.Algorithms != nil},
		{"subject_claim", e.SubjectClaim != nil},
		{"subject_form", e.SubjectForm != nil},
		{"subject_is", e.SubjectIs != nil},
		{"subjects", e.Subjects != nil},
		{"scopes", e.Scopes != nil},
		{"max_life_seconds", e.MaxLife != nil},
	} {
		if f.set {
			out = append(out, f.name)
		}
	}
	return out
}

func put[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// apply returns the issuer as the edit makes it. Naming a value takes the waiver back and the other way round, and so with the two sources
// of keys.
func (e IssuerEdit) apply(i Issuer) Issuer {
	put(&i.Name, e.Name)
	put(&i.Active, e.Active)
	if e.Issuer != nil && e.AnyIssuer == nil {
		i.AnyIssuer = false
	}
	if e.AnyIssuer != nil && *e.AnyIssuer && e.Issuer == nil {
		i.Issuer = ""
	}
	put(&i.Issuer, e.Issuer)
	put(&i.AnyIssuer, e.AnyIssuer)
	if e.Audience != nil && e.AnyAudience == nil {
		i.AnyAudience = false
	}
	if e.AnyAudience != nil && *e.AnyAudience && e.Audience == nil {
		i.Audience = ""
	}
	put(&i.Audience, e.Audience)
	put(&i.AnyAudience, e.AnyAudience)
	if e.JWKSURL != nil && e.Secret == nil {
		i.Shared = false
	}
	if e.Secret != nil && e.JWKSURL == nil {
		i.JWKSURL, i.Shared = "", true
	}
	put(&i.JWKSURL, e.JWKSURL)
	if e.Secret != nil {
		i.Shared = true
	}
	put(&i.Algorithms, e.Algorithms)
	put(&i.SubjectClaim, e.SubjectClaim)
	put(&i.SubjectForm, e.SubjectForm)
	put(&i.SubjectIs, e.SubjectIs)
	put(&i.Subjects, e.Subjects)
	put(&i.Scopes, e.Scopes)
	put(&i.MaxLife, e.MaxLife)
	return i
}

// validIssuer checks the whole of what an issuer is going to be.
func (r *Room) validIssuer(i *Issuer, e IssuerEdit) error {
	var p problems
	i.Name = p.name("/name", i.Name)
	p.pinned("issuer", i.Issuer, i.AnyIssuer)
	p.pinned("audience", i.Audience, i.AnyAudience)
	switch {
	case i.Issuer != "" && i.Issuer == r.Issuer():
		p.add("/issuer", "is this Signalbox itself, whose tokens are accepted anyway")
	case i.JWKSURL != "" && i.Shared:
		p.add("/jwks_url", "and shared_secret cannot both be given")
	case i.JWKSURL == "" && !i.Shared:
		p.add("/jwks_url", "or shared_secret is required")
	case i.JWKSURL != "":
		p.address("/jwks_url", i.JWKSURL, r)
	case e.Secret != nil && (e.Secret.Len() < jwt.MinSecret || e.Secret.Len() > maxShared):
		p.add("/shared_secret", "must have "+strconv.Itoa(jwt.MinSecret)+" to "+strconv.Itoa(maxShared)+" bytes")
	}
	p.algorithms(i)
	p.subject(i)
	if i.MaxLife < time.Minute || i.MaxLife > maxMaxLife {
		p.add("/max_life_seconds", "must be from 60 to "+strconv.Itoa(int(maxMaxLife/time.Second)))
	}
	var scopes Scopes
	for n, s := range i.Scopes {
		if !s.Known() {
			p.add("/scopes/"+strconv.Itoa(n), "is no scope that Signalbox knows")
		} else if !scopes.Has(s) {
			scopes = append(scopes, s)
		}
	}
	i.Scopes = scopes
	return p.result()
}

func (p *problems) pinned(name, value string, waived bool) {
	switch {
	case value == "" && !waived:
		p.add("/"+name, "is required; to accept any, say so with any_"+name)
	case value != "" && waived:
		p.add("/"+name, "and any_"+name+" contradict each other")
	case len(value) > maxIdentifier || strings.ContainsFunc(value, func(c rune) bool { return c < 0x21 || c > 0x7e }):
		p.add("/"+name, "must be one word of at most "+strconv.Itoa(maxIdentifier)+" printable ASCII characters")
	}
}

func (p *problems) address(pointer, text string, r *Room) {
	u, err := url.Parse(text)
	if err != nil || len(text) > maxIdentifier || u.RawQuery != "" || u.Fragment != "" {
		p.add(pointer, "must be an https URL without a query")
		return
	}
	if err := r.cfg.Outgoing.CheckURL(u); err != nil {
		p.add(pointer, "cannot be called: "+strings.TrimSuffix(err.Error(), "."))
	}
}

func (p *problems) algorithms(i *Issuer) {
	if len(i.Algorithms) == 0 {
		p.add("/algorithms", "must name at least one")
	}
	for n, name := range i.Algorithms {
		a, known := jwt.Lookup(name)
		at := "/algorithms/" + strconv.Itoa(n)
		switch {
		case !known:
			p.add(at, "is none that is verified here")
		case a.Shared != i.Shared:
			p.add(at, "does not go with the kind of key: HS256, HS384 and HS512 take a shared secret, all others a public key")
		}
	}
	i.Algorithms = slices.Compact(slices.Sorted(slices.Values(i.Algorithms)))
}

func (p *problems) subject(i *Issuer) {
	if !slices.Contains(SubjectForms(), i.SubjectForm) {
		p.add("/subject_form", "is not known")
	}
	if !slices.Contains(SubjectKinds(), i.SubjectIs) {
		p.add("/subject_is", "is not known")
	}
	if i.SubjectClaim == "" || len(i.SubjectClaim) > 255 || strings.ContainsFunc(i.SubjectClaim, func(c rune) bool { return c < 0x21 || c > 0x7e }) {
		p.add("/subject_claim", "must be one word of at most 255 printable ASCII characters")
	}
	if i.SubjectForm == SubjectNumber && (i.SubjectIs == SubjectUserID || i.SubjectIs == SubjectEmail) {
		p.add("/subject_form", "cannot be a number when the subject is a person's id or e-mail address")
	}
	if i.SubjectIs != SubjectListed && len(i.Subjects) > 0 {
		p.add("/subjects", "are only for issuers whose subject_is is listed")
	}
	if len(i.Subjects) > MaxSubjects {
		p.add("/subjects", "has more than "+strconv.Itoa(MaxSubjects)+" lines")
		return
	}
	seen := map[string]bool{}
	for n, s := range i.Subjects {
		if s.Subject == "" || len(s.Subject) > 255 || seen[s.Subject] {
			p.add("/subjects/"+strconv.Itoa(n), "is empty, too long or there twice")
		}
		seen[s.Subject] = true
	}
}

const issuerColumns = `id, name, iss, aud, jwks_url, sealed, algorithms, subject_claim, subject_form, subject_is, scopes, max_life, active, version, created_at, updated_at`

type issuerRow struct {
	ID           string      `db:"id"`
	Name         string      `db:"name"`
	Iss          string      `db:"iss"`
	Aud          string      `db:"aud"`
	JWKSURL      string      `db:"jwks_url"`
	Sealed       []byte      `db:"sealed"`
	Algorithms   string      `db:"algorithms"`
	SubjectClaim string      `db:"subject_claim"`
	SubjectForm  SubjectForm `db:"subject_form"`
	SubjectIs    SubjectIs   `db:"subject_is"`
	Scopes       string      `db:"scopes"`
	MaxLife      int64       `db:"max_life"` // seconds
	Active       int64       `db:"active"`
	Version      int64       `db:"version"`
	CreatedAt    store.Time  `db:"created_at"`
	UpdatedAt    store.Time  `db:"updated_at"`
}

type subjectRow struct {
	IssuerID string `db:"issuer_id"`
	Subject  string `db:"subject"`
	UserID   string `db:"user_id"`
}

const issuerPurpose = "jwt-issuer"

func (w issuerRow) aad() secret.AAD {
	return secret.AAD{Table: "jwt_issuers", ID: w.ID, Field: "sealed", Version: w.Version}
}

func (w issuerRow) issuer(subjects []subjectRow) (Issuer, error) {
	i := Issuer{
		ID: w.ID, Name: w.Name, Active: w.Active == 1, Issuer: w.Iss, AnyIssuer: w.Iss == "", Audience: w.Aud, AnyAudience: w.Aud == "", JWKSURL: w.JWKSURL,
		Shared: w.JWKSURL == "", SubjectClaim: w.SubjectClaim, SubjectForm: w.SubjectForm, SubjectIs: w.SubjectIs, MaxLife: time.Duration(w.MaxLife) * time.Second,
		CreatedAt: w.CreatedAt.Time(), UpdatedAt: w.UpdatedAt.Time(), Version: w.Version,
	}
	for _, s := range subjects {
		if s.IssuerID == w.ID {
			i.Subjects = append(i.Subjects, ListedSubject{s.Subject, s.UserID})
		}
	}
	if err := json.Unmarshal([]byte(w.Algorithms), &i.Algorithms); err != nil {
		return i, err
	}
	var err error
	i.Scopes, err = decodeScopes(w.Scopes)
	return i, err
}
