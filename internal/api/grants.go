package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
)

// granteeKind is a kind of those to whom something can be granted.
type granteeKind string

// Schema lists the kinds.
func (granteeKind) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{string(identity.PartyPerson), string(identity.PartyGroup), string(vault.PartyTrain), string(identity.PartyService)}}
}

type granteeRef struct {
	Kind granteeKind `json:"kind"`
	ID   string      `json:"id" minLength:"1" maxLength:"254" doc:"The id; or a person's e-mail address, a group's or service account's name, a train's slug."`
}

type grantDraft struct {
	Grantee granteeRef `json:"grantee"`
	Use     bool       `json:"use,omitempty" doc:"Be lent the credential."`
	Reveal  bool       `json:"reveal,omitempty" doc:"See its secret fields."`
	Manage  bool       `json:"manage,omitempty" doc:"Change, rotate and delete it, and say who else may what."`
	Owner   bool       `json:"owner,omitempty" doc:"Whose it is: all three verbs. Only for a person or a service account, on a credential."`
}

type grantsDraft struct {
	Grants []grantDraft `json:"grants" nullable:"false" maxItems:"500" doc:"All that shall stand; what is left out is taken back."`
}

type grantsAnswer struct {
	ETag string `header:"ETag" doc:"Names this state, for If-Match."`
	Body client.Grants
}

func (s *service) addGrants() {
	const tag = "grants"
	for _, on := range []struct{ path, of, whose string }{
		{"/api/credentials/{id}/grants", "credential", "a credential"},
		{"/api/clients/{client_id}/grants", "client", "the credentials of a client"},
		{"/api/services/{service_id}/grants", "service", "the credentials of a service"},
	} {
		get := route{method: http.MethodGet, path: on.path, id: "get-" + on.of + "-grants", summary: "Say who may use, reveal and manage " + on.whose, tag: tag,
			description: "Those whose role reaches every credential are not listed. The read is itself recorded.", access: string(identity.CredentialRead)}
		put := route{method: http.MethodPut, path: on.path, id: "put-" + on.of + "-grants", summary: "Set who may use, reveal and manage " + on.whose, tag: tag,
			description: "The list replaces the one that stands. A train that may not use a credential any more is unlinked from it.", access: string(identity.CredentialGrant)}
		switch on.of {
		case "credential":
			add(s, get, s.getCredentialGrants)
			add(s, put, s.putCredentialGrants)
		case "client":
			add(s, get, s.getClientGrants)
			add(s, put, s.putClientGrants)
		default:
			add(s, get, s.getServiceGrants)
			add(s, put, s.putServiceGrants)
		}
	}
}

// OfClient is the path of what belongs to a client.
type OfClient struct {
	Client string `path:"client_id" doc:"The client's id."`
}

// OfService is the path of what belongs to a service.
type OfService struct {
	Service string `path:"service_id" doc:"The service's id."`
}

func shownGrants(g vault.Grants) client.Grants {
	out := client.Grants{Grants: make([]client.Grant, len(g.Grants))}
	for i, x := range g.Grants {
		out.Grants[i] = client.Grant{Grantee: client.Grantee{Kind: string(x.Party.Kind), ID: x.Party.ID, Name: x.Party.Name}, Use: x.Use, Reveal: x.Reveal,
			Manage: x.Manage, Owner: x.Owner, GrantedBy: x.By, GrantedAt: x.At}
	}
	for _, from := range g.Inherited {
		out.Inherited = append(out.Inherited, client.InheritedGrants{Scope: string(from.Scope.Kind), ID: from.Scope.ID, Grants: shownGrants(from).Grants})
	}
	return out
}

func (s *service) grants(ctx context.Context, caller identity.Caller, scope vault.Scope) (*grantsAnswer, error) {
	g, err := s.Vault.Grants(ctx, caller, scope)
	if err != nil {
		return nil, err
	}
	return &grantsAnswer{ETag: g.ETag(), Body: shownGrants(g)}, nil
}

func (s *service) setGrants(ctx context.Context, caller identity.Caller, scope vault.Scope, in grantsDraft, ifMatch string) (*grantsAnswer, error) {
	list := make([]vault.Grant, len(in.Grants))
	for i, g := range in.Grants {
		list[i] = vault.Grant{Party: identity.Party{Kind: identity.PartyKind(g.Grantee.Kind), ID: g.Grantee.ID}, Use: g.Use, Reveal: g.Reveal, Manage: g.Manage, Owner: g.Owner}
	}
	out, err := s.Vault.SetGrants(ctx, caller, scope, list, ifMatch)
	if err != nil {
		return nil, err
	}
	return &grantsAnswer{ETag: out.ETag(), Body: shownGrants(out)}, nil
}

func (s *service) getCredentialGrants(ctx context.Context, caller identity.Caller, in *ByID) (*grantsAnswer, error) {
	return s.grants(ctx, caller, vault.Scope{Kind: vault.OnCredential, ID: in.ID})
}

func (s *service) putCredentialGrants(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
	Body grantsDraft
}) (*grantsAnswer, error) {
	return s.setGrants(ctx, caller, vault.Scope{Kind: vault.OnCredential, ID: in.ID}, in.Body, in.IfMatch.IfMatch)
}

func (s *service) getClientGrants(ctx context.Context, caller identity.Caller, in *OfClient) (*grantsAnswer, error) {
	return s.grants(ctx, caller, vault.Scope{Kind: vault.OnClient, ID: in.Client})
}

func (s *service) putClientGrants(ctx context.Context, caller identity.Caller, in *struct {
	OfClient
	IfMatch
	Body grantsDraft
}) (*grantsAnswer, error) {
	return s.setGrants(ctx, caller, vault.Scope{Kind: vault.OnClient, ID: in.Client}, in.Body, in.IfMatch.IfMatch)
}

func (s *service) getServiceGrants(ctx context.Context, caller identity.Caller, in *OfService) (*grantsAnswer, error) {
	return s.grants(ctx, caller, vault.Scope{Kind: vault.OnService, ID: in.Service})
}

func (s *service) putServiceGrants(ctx context.Context, caller identity.Caller, in *struct {
	OfService
	IfMatch
	Body grantsDraft
}) (*grantsAnswer, error) {
	return s.setGrants(ctx, caller, vault.Scope{Kind: vault.OnService, ID: in.Service}, in.Body, in.IfMatch.IfMatch)
}
