package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/jwt"
)

// algorithm is one of those that can be verified.
type algorithm string

// Schema lists the algorithms of the table.
func (algorithm) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, a := range jwt.Algorithms() {
		s.Enum = append(s.Enum, a.Name)
	}
	return s
}

// subjectForm is the form of a subject.
type subjectForm string

// Schema lists the forms.
func (subjectForm) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, f := range identity.SubjectForms() {
		s.Enum = append(s.Enum, string(f))
	}
	return s
}

// subjectIs is what a subject is here.
type subjectIs string

// Schema lists what a subject may be.
func (subjectIs) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, k := range identity.SubjectKinds() {
		s.Enum = append(s.Enum, string(k))
	}
	return s
}

type listedSubject struct {
	Subject string `json:"subject" minLength:"1" maxLength:"255"`
	UserID  string `json:"user_id" minLength:"1" maxLength:"64"`
}

type algorithmList []algorithm

// Schema describes the list.
func (algorithmList) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Items: algorithm("").Schema(r), MinItems: size(1), MaxItems: size(20)}
}

type scopeList []scope

// Schema describes the list.
func (scopeList) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Items: scope("").Schema(r), MaxItems: size(100)}
}

type subjectList []listedSubject

// Schema describes the list.
func (subjectList) Schema(huma.Registry) *huma.Schema {
	text := func(most int) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, MinLength: size(1), MaxLength: size(most)}
	}
	return &huma.Schema{Type: huma.TypeArray, MaxItems: size(identity.MaxSubjects), Items: &huma.Schema{
		Type: huma.TypeObject, Properties: map[string]*huma.Schema{"subject": text(255), "user_id": text(64)}, Required: []string{"subject", "user_id"},
		AdditionalProperties: false,
	}}
}

// issuerFields are the fields of an issuer in a draft and in a patch.
type issuerFields struct {
	Name         edit[string]        `json:"name,omitempty" maxLength:"100"`
	Active       edit[bool]          `json:"active,omitempty" doc:"Tokens of an issuer that is not are refused."`
	Issuer       edit[string]        `json:"issuer,omitempty" maxLength:"2048" doc:"What iss must be."`
	AnyIssuer    edit[bool]          `json:"any_issuer,omitempty" doc:"Accept any iss, and none."`
	Audience     edit[string]        `json:"audience,omitempty" maxLength:"2048" doc:"What must be among aud."`
	AnyAudience  edit[bool]          `json:"any_audience,omitempty" doc:"Accept any aud, and none: also tokens that were made for somebody else."`
	JWKSURL      edit[string]        `json:"jwks_url,omitempty" maxLength:"2048" doc:"Where its public keys are."`
	SharedSecret edit[hidden]        `json:"shared_secret,omitempty" doc:"Instead of jwks_url, for HS256, HS384 and HS512: at least 32 bytes."`
	Algorithms   edit[algorithmList] `json:"algorithms,omitempty" doc:"Those that it may sign with."`
	SubjectClaim edit[string]        `json:"subject_claim,omitempty" maxLength:"255" doc:"The claim that says who the caller is; sub when it is left out."`
	SubjectForm  edit[subjectForm]   `json:"subject_form,omitempty" doc:"number: a positive whole number, as a number or as text. text when it is left out."`
	SubjectIs    edit[subjectIs]     `json:"subject_is,omitempty" doc:"user_id: the id of a person. email: their address, with email_verified. listed: by the list of subjects, the default. outsider: nobody of ours, who may nothing that takes a role."`
	Subjects     edit[subjectList]   `json:"subjects,omitempty" doc:"The list, whole."`
	Scopes       edit[scopeList]     `json:"scopes,omitempty" doc:"What its callers may do at most; their person's role bounds them too."`
	MaxLife      edit[int64]         `json:"max_life_seconds,omitempty" minimum:"60" maximum:"2592000" doc:"How far ahead exp may be; 86400 when it is left out."`
}

func (f issuerFields) edit() identity.IssuerEdit {
	e := identity.IssuerEdit{
		Name: f.Name.pointer(), Active: f.Active.pointer(), Issuer: f.Issuer.pointer(), AnyIssuer: f.AnyIssuer.pointer(), Audience: f.Audience.pointer(),
		AnyAudience: f.AnyAudience.pointer(), JWKSURL: f.JWKSURL.pointer(), SubjectClaim: f.SubjectClaim.pointer(),
	}
	if p := f.SharedSecret.pointer(); p != nil {
		e.Secret = &p.Value
	}
	if p := f.Algorithms.pointer(); p != nil {
		names := make([]string, 0, len(*p))
		for _, a := range *p {
			names = append(names, string(a))
		}
		e.Algorithms = &names
	}
	if p := f.SubjectForm.pointer(); p != nil {
		v := identity.SubjectForm(*p)
		e.SubjectForm = &v
	}
	if p := f.SubjectIs.pointer(); p != nil {
		v := identity.SubjectIs(*p)
		e.SubjectIs = &v
	}
	if p := f.Subjects.pointer(); p != nil {
		list := make([]identity.ListedSubject, 0, len(*p))
		for _, s := range *p {
			list = append(list, identity.ListedSubject(s))
		}
		e.Subjects = &list
	}
	if p := f.Scopes.pointer(); p != nil {
		var scopes identity.Scopes
		for _, s := range *p {
			scopes = append(scopes, identity.Permission(s))
		}
		e.Scopes = &scopes
	}
	if p := f.MaxLife.pointer(); p != nil {
		v := time.Duration(*p) * time.Second
		e.MaxLife = &v
	}
	return e
}

type issuerAnswer struct {
	ETag string `header:"ETag" doc:"Names this state, for If-Match."`
	Body struct {
		Issuer client.JWTIssuer `json:"issuer"`
	}
}

func issuerOut(i identity.Issuer, err error) (*issuerAnswer, error) {
	if err != nil {
		return nil, err
	}
	out := &issuerAnswer{ETag: i.ETag()}
	out.Body.Issuer = shownIssuer(i)
	return out, nil
}

func shownIssuer(i identity.Issuer) client.JWTIssuer {
	subjects := make([]client.JWTSubject, len(i.Subjects))
	for n, s := range i.Subjects {
		subjects[n] = client.JWTSubject(s)
	}
	return client.JWTIssuer{
		ID: i.ID, Name: i.Name, Active: i.Active, Issuer: i.Issuer, AnyIssuer: i.AnyIssuer, Audience: i.Audience, AnyAudience: i.AnyAudience, JWKSURL: i.JWKSURL,
		HasSharedSecret: i.Shared, Algorithms: i.Algorithms, SubjectClaim: i.SubjectClaim, SubjectForm: string(i.SubjectForm), SubjectIs: string(i.SubjectIs), Subjects: subjects,
		Scopes: shownScopes(i.Scopes), MaxLifeSeconds: int64(i.MaxLife / time.Second), CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt,
	}
}

func (s *service) addIssuers() {
	const tag, all = "outside issuers", "/api/auth/issuers"
	add(s, route{method: http.MethodGet, path: all, id: "list-issuers", summary: "List the outside issuers whose tokens are accepted", tag: tag,
		access: string(identity.IssuerRead)}, s.listIssuers)
	add(s, route{method: http.MethodPost, path: all, id: "create-issuer", summary: "Accept the tokens of an outside issuer", tag: tag, status: http.StatusCreated,
		description: "Needed are name, algorithms, jwks_url or shared_secret, issuer or any_issuer, audience or any_audience. Its callers get no scope that the caller has not.",
		access:      string(identity.IssuerWrite), maxBody: secretBody}, s.createIssuer)
	add(s, route{method: http.MethodGet, path: all + "/{id}", id: "get-issuer", summary: "Read an outside issuer", tag: tag, access: string(identity.IssuerRead)}, s.getIssuer)
	add(s, route{method: http.MethodPatch, path: all + "/{id}", id: "patch-issuer", summary: "Change an outside issuer", tag: tag,
		access: string(identity.IssuerWrite), maxBody: secretBody}, s.patchIssuer)
	add(s, route{method: http.MethodDelete, path: all + "/{id}", id: "delete-issuer", summary: "Accept an outside issuer's tokens no longer", tag: tag,
		access: string(identity.IssuerWrite)}, s.deleteIssuer)
}

func (s *service) listIssuers(ctx context.Context, caller identity.Caller, _ *struct{}) (*struct {
	Body struct {
		Issuers []client.JWTIssuer `json:"issuers" nullable:"false"`
	}
}, error) {
	list, err := s.Identity.ListIssuers(ctx, caller)
	if err != nil {
		return nil, err
	}
	out := &struct {
		Body struct {
			Issuers []client.JWTIssuer `json:"issuers" nullable:"false"`
		}
	}{}
	out.Body.Issuers = make([]client.JWTIssuer, len(list))
	for n, i := range list {
		out.Body.Issuers[n] = shownIssuer(i)
	}
	return out, nil
}

func (s *service) createIssuer(ctx context.Context, caller identity.Caller, in *struct{ Body issuerFields }) (*issuerAnswer, error) {
	return issuerOut(s.Identity.CreateIssuer(ctx, caller, in.Body.edit()))
}

func (s *service) getIssuer(ctx context.Context, caller identity.Caller, in *ByID) (*issuerAnswer, error) {
	return issuerOut(s.Identity.GetIssuer(ctx, caller, in.ID))
}

func (s *service) patchIssuer(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
	Body issuerFields
}) (*issuerAnswer, error) {
	e := in.Body.edit()
	e.IfMatch = in.IfMatch.IfMatch
	return issuerOut(s.Identity.UpdateIssuer(ctx, caller, in.ID, e))
}

func (s *service) deleteIssuer(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
}) (*struct{}, error) {
	return nil, s.Identity.DeleteIssuer(ctx, caller, in.ID, in.IfMatch.IfMatch)
}
