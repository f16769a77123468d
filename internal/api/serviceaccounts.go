package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
)

// roleName is one of identity's table.
type roleName string

// Schema lists the roles of the table.
func (roleName) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, r := range identity.Roles() {
		s.Enum = append(s.Enum, string(r))
	}
	return s
}

type serviceDraft struct {
	Name        string   `json:"name" minLength:"1" maxLength:"100" doc:"Unique, in upper or lower case."`
	Description string   `json:"description,omitempty" maxLength:"2000"`
	Role        roleName `json:"role,omitempty" doc:"Never more than the caller's own; member when it is left out."`
}

type servicePatch struct {
	Name        *string      `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Description edit[string] `json:"description,omitempty" maxLength:"2000"`
	Role        *roleName    `json:"role,omitempty" doc:"Never more than the caller's own."`
	Active      *bool        `json:"active,omitempty" doc:"The tokens of a service account that is not active work nowhere, within a second."`
}

type serviceBody struct {
	ServiceAccount client.ServiceAccount `json:"service_account"`
}

type serviceAnswer struct {
	ETag     string `header:"ETag" doc:"Names this state, for If-Match."`
	Location string `header:"Location" hidden:"true"`
	Body     serviceBody
}

func shownService(a identity.ServiceAccount) client.ServiceAccount {
	return client.ServiceAccount{ID: a.ID, Name: a.Name, Description: a.Description, Role: string(a.Role), Active: a.Active, CreatedBy: a.CreatedBy,
		CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt}
}

func serviceOut(a identity.ServiceAccount, err error) (*serviceAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &serviceAnswer{ETag: a.ETag(), Body: serviceBody{shownService(a)}}, nil
}

func (s *service) addServiceAccounts() {
	const tag, all, one = "service accounts", "/api/service-accounts", "/api/service-accounts/{id}"
	read, write := string(identity.ServiceRead), string(identity.ServiceWrite)
	add(s, route{method: http.MethodGet, path: all, id: "list-service-accounts", summary: "List service accounts", tag: tag, access: read}, s.listServices)
	add(s, route{method: http.MethodPost, path: all, id: "create-service-account", summary: "Make a service account", tag: tag,
		description: "Its tokens are issued with POST /api/tokens.", access: write, status: http.StatusCreated}, s.createService)
	add(s, route{method: http.MethodGet, path: one, id: "get-service-account", summary: "Read a service account", tag: tag, access: read}, s.getService)
	add(s, route{method: http.MethodPatch, path: one, id: "patch-service-account", summary: "Change, deactivate or reactivate a service account", tag: tag,
		description: "A merge patch (RFC 7396).", access: write}, s.updateService)
}

func (s *service) listServices(ctx context.Context, caller identity.Caller, in *NamePage) (*struct{ Body client.ServiceAccountPage }, error) {
	accounts, next, err := s.Identity.ListServiceAccounts(ctx, caller, in.filter())
	if err != nil {
		return nil, err
	}
	out := client.ServiceAccountPage{ServiceAccounts: make([]client.ServiceAccount, len(accounts)), NextCursor: next}
	for i, a := range accounts {
		out.ServiceAccounts[i] = shownService(a)
	}
	return &struct{ Body client.ServiceAccountPage }{out}, nil
}

func (s *service) createService(ctx context.Context, caller identity.Caller, in *struct{ Body serviceDraft }) (*serviceAnswer, error) {
	out, err := serviceOut(s.Identity.CreateServiceAccount(ctx, caller, identity.ServiceAccountDraft{
		Name: in.Body.Name, Description: in.Body.Description, Role: identity.Role(in.Body.Role),
	}))
	if err == nil {
		out.Location = "/api/service-accounts/" + out.Body.ServiceAccount.ID
	}
	return out, err
}

func (s *service) getService(ctx context.Context, caller identity.Caller, in *ByID) (*serviceAnswer, error) {
	return serviceOut(s.Identity.ServiceAccount(ctx, caller, in.ID))
}

func (s *service) updateService(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
	Body servicePatch
}) (*serviceAnswer, error) {
	p := identity.ServiceAccountPatch{Name: in.Body.Name, Description: in.Body.Description.pointer(), Active: in.Body.Active, IfMatch: in.IfMatch.IfMatch}
	if in.Body.Role != nil {
		role := identity.Role(*in.Body.Role)
		p.Role = &role
	}
	return serviceOut(s.Identity.UpdateServiceAccount(ctx, caller, in.ID, p))
}
