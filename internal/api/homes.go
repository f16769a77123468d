package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
)

// infrastructureKind is one of the vault's.
type infrastructureKind string

// Schema lists the kinds.
func (infrastructureKind) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, k := range vault.InfrastructureKinds() {
		s.Enum = append(s.Enum, k)
	}
	return s
}

type clientDraft struct {
	Name        string `json:"name" minLength:"1" maxLength:"200" doc:"Unique among clients."`
	Description string `json:"description,omitempty" maxLength:"2000"`
	Contact     string `json:"contact,omitempty" maxLength:"500" doc:"Whom to ask there."`
}

type clientPatch struct {
	Name        *string      `json:"name,omitempty" minLength:"1" maxLength:"200"`
	Description edit[string] `json:"description,omitempty" maxLength:"2000"`
	Contact     edit[string] `json:"contact,omitempty" maxLength:"500"`
}

type clientServiceDraft struct {
	Name        string `json:"name" minLength:"1" maxLength:"200" doc:"Unique among the services of the client."`
	Description string `json:"description,omitempty" maxLength:"2000"`
	ClientID    string `json:"client_id,omitempty" maxLength:"100" doc:"Whose it is; nobody's in particular when it is left out."`
	URL         string `json:"url,omitempty" maxLength:"2048"`
}

type clientServicePatch struct {
	Name        *string      `json:"name,omitempty" minLength:"1" maxLength:"200"`
	Description edit[string] `json:"description,omitempty" maxLength:"2000"`
	ClientID    edit[string] `json:"client_id,omitempty" maxLength:"100"`
	URL         edit[string] `json:"url,omitempty" maxLength:"2048"`
}

type infrastructureDraft struct {
	Name        string             `json:"name" minLength:"1" maxLength:"200" doc:"Unique among the infrastructure of the client."`
	Kind        infrastructureKind `json:"kind,omitempty" doc:"A host when it is left out."`
	Description string             `json:"description,omitempty" maxLength:"2000"`
	ClientID    string             `json:"client_id,omitempty" maxLength:"100" doc:"Whose it is; nobody's in particular when it is left out."`
	Address     string             `json:"address,omitempty" maxLength:"255" doc:"Its name in the network, its address or its range."`
}

type infrastructurePatch struct {
	Name        *string             `json:"name,omitempty" minLength:"1" maxLength:"200"`
	Kind        *infrastructureKind `json:"kind,omitempty"`
	Description edit[string]        `json:"description,omitempty" maxLength:"2000"`
	ClientID    edit[string]        `json:"client_id,omitempty" maxLength:"100"`
	Address     edit[string]        `json:"address,omitempty" maxLength:"255"`
}

// OfInfrastructure is the path of infrastructure.
type OfInfrastructure struct {
	Infrastructure string `path:"infrastructure_id" doc:"Its id."`
}

// homeAnswer is the answer of an operation on one home, which is wrapped by its name.
type homeAnswer[B any] struct {
	ETag     string `header:"ETag" doc:"Names this state, for If-Match."`
	Location string `header:"Location" hidden:"true"`
	Body     B
}

type clientBody struct {
	Client client.Customer `json:"client"`
}

type clientServiceBody struct {
	Service client.Service `json:"service"`
}

type infrastructureBody struct {
	Infrastructure client.Infrastructure `json:"infrastructure"`
}

func shownCustomer(h vault.Home) client.Customer {
	return client.Customer{ID: h.ID, Name: h.Name, Description: h.Description, Contact: h.Contact, CreatedAt: h.CreatedAt, UpdatedAt: h.UpdatedAt}
}

func shownClientService(h vault.Home) client.Service {
	return client.Service{ID: h.ID, Name: h.Name, Description: h.Description, ClientID: h.ClientID, URL: h.URL, CreatedAt: h.CreatedAt, UpdatedAt: h.UpdatedAt}
}

func shownInfrastructure(h vault.Home) client.Infrastructure {
	return client.Infrastructure{ID: h.ID, Name: h.Name, Kind: h.Sort, Description: h.Description, ClientID: h.ClientID, Address: h.Address, CreatedAt: h.CreatedAt, UpdatedAt: h.UpdatedAt}
}

func clientOut(h vault.Home, err error) (*homeAnswer[clientBody], error) {
	if err != nil {
		return nil, err
	}
	return &homeAnswer[clientBody]{ETag: h.ETag(), Location: "/api/clients/" + h.ID, Body: clientBody{shownCustomer(h)}}, nil
}

func clientServiceOut(h vault.Home, err error) (*homeAnswer[clientServiceBody], error) {
	if err != nil {
		return nil, err
	}
	return &homeAnswer[clientServiceBody]{ETag: h.ETag(), Location: "/api/services/" + h.ID, Body: clientServiceBody{shownClientService(h)}}, nil
}

func infrastructureOut(h vault.Home, err error) (*homeAnswer[infrastructureBody], error) {
	if err != nil {
		return nil, err
	}
	return &homeAnswer[infrastructureBody]{ETag: h.ETag(), Location: "/api/infrastructure/" + h.ID, Body: infrastructureBody{shownInfrastructure(h)}}, nil
}

// moved leaves out the Location, which is for what was made now.
func moved[B any](a *homeAnswer[B], err error) (*homeAnswer[B], error) {
	if a != nil {
		a.Location = ""
	}
	return a, err
}

// homeAgain asks whether who makes a home may still keep homes of that kind.
func (s *service) homeAgain(kind vault.HomeKind) func(context.Context, identity.Caller, string, []byte) error {
	return func(ctx context.Context, caller identity.Caller, _ string, _ []byte) error {
		return s.Vault.MayKeepHomes(ctx, caller, kind)
	}
}

func (s *service) addHomes() {
	read, write := string(identity.CredentialRead), string(identity.CredentialWrite)
	const sees = "Whose role does not reach every credential sees those that a credential which they see names, or on which something was granted to them."
	const keeps = "Operators and administrators keep them."
	for _, k := range []struct {
		all, one, word, a, many string
		kind                    vault.HomeKind
	}{
		{"/api/clients", "/api/clients/{client_id}", "client", "a client", "clients", vault.HomeClient},
		{"/api/services", "/api/services/{service_id}", "service", "a service", "services", vault.HomeService},
		{"/api/infrastructure", "/api/infrastructure/{infrastructure_id}", "infrastructure", "infrastructure", "infrastructure", vault.HomeInfrastructure},
	} {
		many := k.word + "s"
		if k.kind == vault.HomeInfrastructure {
			many = k.word
		}
		list := route{method: http.MethodGet, path: k.all, id: "list-" + many, summary: "List " + k.many, description: sees, tag: k.many, access: read}
		create := route{method: http.MethodPost, path: k.all, id: "create-" + k.word, summary: "Store " + k.a, description: "Only the name is required. " + keeps, tag: k.many, access: write,
			status: http.StatusCreated, again: s.homeAgain(k.kind)}
		get := route{method: http.MethodGet, path: k.one, id: "get-" + k.word, summary: "Read " + k.a, description: sees, tag: k.many, access: read}
		change := func(method string) route {
			return route{method: method, path: k.one, id: strings.ToLower(method) + "-" + k.word, summary: "Change " + k.a,
				description: "A merge patch (RFC 7396). PUT and PATCH do the same. " + keeps, tag: k.many, access: write}
		}
		remove := route{method: http.MethodDelete, path: k.one, id: "delete-" + k.word, summary: "Delete " + k.a, tag: k.many, access: write,
			description: "What still belongs to it is told in the errors of a 409: how much there is, and the first names. What was granted on it goes with it. " + keeps}
		switch k.kind {
		case vault.HomeClient:
			add(s, list, s.listClients)
			add(s, create, s.createClient)
			add(s, get, s.getClient)
			add(s, change(http.MethodPatch), s.updateClient)
			add(s, change(http.MethodPut), s.updateClient)
			add(s, remove, s.deleteClient)
		case vault.HomeService:
			add(s, list, s.listClientServices)
			add(s, create, s.createClientService)
			add(s, get, s.getClientService)
			add(s, change(http.MethodPatch), s.updateClientService)
			add(s, change(http.MethodPut), s.updateClientService)
			add(s, remove, s.deleteClientService)
		default:
			add(s, list, s.listInfrastructure)
			add(s, create, s.createInfrastructure)
			add(s, get, s.getInfrastructure)
			add(s, change(http.MethodPatch), s.updateInfrastructure)
			add(s, change(http.MethodPut), s.updateInfrastructure)
			add(s, remove, s.deleteInfrastructure)
		}
	}
}

// HomePage is the query of a list of homes.
type HomePage struct {
	Page
	Q string `query:"q" maxLength:"200" doc:"Words that must occur in the text."`
}

func (p HomePage) filter() vault.HomeFilter {
	return vault.HomeFilter{Q: p.Q, Limit: p.Limit, Cursor: p.Cursor, Skip: p.Skip}
}

func (s *service) listClients(ctx context.Context, caller identity.Caller, in *HomePage) (*struct{ Body client.CustomerPage }, error) {
	homes, next, err := s.Vault.ListHomes(ctx, caller, vault.HomeClient, in.filter())
	if err != nil {
		return nil, err
	}
	out := client.CustomerPage{Clients: make([]client.Customer, len(homes)), NextCursor: next}
	for i, h := range homes {
		out.Clients[i] = shownCustomer(h)
	}
	return &struct{ Body client.CustomerPage }{out}, nil
}

func (s *service) createClient(ctx context.Context, caller identity.Caller, in *struct{ Body clientDraft }) (*homeAnswer[clientBody], error) {
	return clientOut(s.Vault.CreateHome(ctx, caller, vault.HomeClient, vault.HomeMeta{Name: in.Body.Name, Description: in.Body.Description, Contact: in.Body.Contact}))
}

func (s *service) getClient(ctx context.Context, caller identity.Caller, in *OfClient) (*homeAnswer[clientBody], error) {
	return moved(clientOut(s.Vault.GetHome(ctx, caller, vault.HomeClient, in.Client)))
}

func (s *service) updateClient(ctx context.Context, caller identity.Caller, in *struct {
	OfClient
	IfMatch
	Body clientPatch
}) (*homeAnswer[clientBody], error) {
	p := vault.HomePatch{Description: in.Body.Description.vault(), Contact: in.Body.Contact.vault()}
	if in.Body.Name != nil {
		p.Name = vault.To(*in.Body.Name)
	}
	return moved(clientOut(s.Vault.UpdateHome(ctx, caller, vault.HomeClient, in.Client, p, in.IfMatch.IfMatch)))
}

func (s *service) deleteClient(ctx context.Context, caller identity.Caller, in *struct {
	OfClient
	IfMatch
}) (*struct{}, error) {
	return nil, s.Vault.DeleteHome(ctx, caller, vault.HomeClient, in.Client, in.IfMatch.IfMatch)
}

func (s *service) listClientServices(ctx context.Context, caller identity.Caller, in *struct {
	HomePage
	ClientID string `query:"client_id" maxLength:"100" doc:"Only those of this client."`
}) (*struct{ Body client.ServicePage }, error) {
	f := in.filter()
	f.ClientID = in.ClientID
	homes, next, err := s.Vault.ListHomes(ctx, caller, vault.HomeService, f)
	if err != nil {
		return nil, err
	}
	out := client.ServicePage{Services: make([]client.Service, len(homes)), NextCursor: next}
	for i, h := range homes {
		out.Services[i] = shownClientService(h)
	}
	return &struct{ Body client.ServicePage }{out}, nil
}

func (s *service) createClientService(ctx context.Context, caller identity.Caller, in *struct{ Body clientServiceDraft }) (*homeAnswer[clientServiceBody], error) {
	b := in.Body
	return clientServiceOut(s.Vault.CreateHome(ctx, caller, vault.HomeService, vault.HomeMeta{Name: b.Name, Description: b.Description, ClientID: b.ClientID, URL: b.URL}))
}

func (s *service) getClientService(ctx context.Context, caller identity.Caller, in *OfService) (*homeAnswer[clientServiceBody], error) {
	return moved(clientServiceOut(s.Vault.GetHome(ctx, caller, vault.HomeService, in.Service)))
}

func (s *service) updateClientService(ctx context.Context, caller identity.Caller, in *struct {
	OfService
	IfMatch
	Body clientServicePatch
}) (*homeAnswer[clientServiceBody], error) {
	p := vault.HomePatch{Description: in.Body.Description.vault(), ClientID: in.Body.ClientID.vault(), URL: in.Body.URL.vault()}
	if in.Body.Name != nil {
		p.Name = vault.To(*in.Body.Name)
	}
	return moved(clientServiceOut(s.Vault.UpdateHome(ctx, caller, vault.HomeService, in.Service, p, in.IfMatch.IfMatch)))
}

func (s *service) deleteClientService(ctx context.Context, caller identity.Caller, in *struct {
	OfService
	IfMatch
}) (*struct{}, error) {
	return nil, s.Vault.DeleteHome(ctx, caller, vault.HomeService, in.Service, in.IfMatch.IfMatch)
}

func (s *service) listInfrastructure(ctx context.Context, caller identity.Caller, in *struct {
	HomePage
	ClientID string             `query:"client_id" maxLength:"100" doc:"Only that of this client."`
	Kind     infrastructureKind `query:"kind" doc:"Only this kind."`
}) (*struct{ Body client.InfrastructurePage }, error) {
	f := in.filter()
	f.ClientID, f.Sort = in.ClientID, string(in.Kind)
	homes, next, err := s.Vault.ListHomes(ctx, caller, vault.HomeInfrastructure, f)
	if err != nil {
		return nil, err
	}
	out := client.InfrastructurePage{Infrastructure: make([]client.Infrastructure, len(homes)), NextCursor: next}
	for i, h := range homes {
		out.Infrastructure[i] = shownInfrastructure(h)
	}
	return &struct{ Body client.InfrastructurePage }{out}, nil
}

func (s *service) createInfrastructure(ctx context.Context, caller identity.Caller, in *struct{ Body infrastructureDraft }) (*homeAnswer[infrastructureBody], error) {
	b := in.Body
	return infrastructureOut(s.Vault.CreateHome(ctx, caller, vault.HomeInfrastructure,
		vault.HomeMeta{Name: b.Name, Description: b.Description, ClientID: b.ClientID, Sort: string(b.Kind), Address: b.Address}))
}

func (s *service) getInfrastructure(ctx context.Context, caller identity.Caller, in *OfInfrastructure) (*homeAnswer[infrastructureBody], error) {
	return moved(infrastructureOut(s.Vault.GetHome(ctx, caller, vault.HomeInfrastructure, in.Infrastructure)))
}

func (s *service) updateInfrastructure(ctx context.Context, caller identity.Caller, in *struct {
	OfInfrastructure
	IfMatch
	Body infrastructurePatch
}) (*homeAnswer[infrastructureBody], error) {
	p := vault.HomePatch{Description: in.Body.Description.vault(), ClientID: in.Body.ClientID.vault(), Address: in.Body.Address.vault()}
	if in.Body.Name != nil {
		p.Name = vault.To(*in.Body.Name)
	}
	if in.Body.Kind != nil {
		p.Sort = vault.To(string(*in.Body.Kind))
	}
	return moved(infrastructureOut(s.Vault.UpdateHome(ctx, caller, vault.HomeInfrastructure, in.Infrastructure, p, in.IfMatch.IfMatch)))
}

func (s *service) deleteInfrastructure(ctx context.Context, caller identity.Caller, in *struct {
	OfInfrastructure
	IfMatch
}) (*struct{}, error) {
	return nil, s.Vault.DeleteHome(ctx, caller, vault.HomeInfrastructure, in.Infrastructure, in.IfMatch.IfMatch)
}
