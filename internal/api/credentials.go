package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
)

type credentialBody struct {
	Credential client.Credential `json:"credential"`
}

type credentialAnswer struct {
	ETag     string `header:"ETag" doc:"Names this state, for If-Match."`
	Location string `header:"Location" hidden:"true"`
	Body     credentialBody
}

func credentialOut(c vault.Credential, err error) (*credentialAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &credentialAnswer{ETag: c.ETag(), Body: credentialBody{shownCredential(c)}}, nil
}

// CredentialQuery is the part of a query that every list of credentials has.
type CredentialQuery struct {
	Page
	Type             credentialType   `query:"type" doc:"Only this type."`
	Provider         string           `query:"provider" maxLength:"100" doc:"Only those of this provider."`
	ServiceID        string           `query:"service_id" maxLength:"100" doc:"Only those of this service."`
	InfrastructureID string           `query:"infrastructure_id" maxLength:"100" doc:"Only those of this machine."`
	TrainID          string           `query:"train_id" maxLength:"64" doc:"Only what is linked to this train (slug or id); this also needs trains:read."`
	Owner            string           `query:"owner" maxLength:"200" doc:"Only those of this owner."`
	PluginName       string           `query:"plugin_name" maxLength:"100" doc:"Only those of this plugin."`
	Tag              string           `query:"tag" maxLength:"100" doc:"Only those with this tag."`
	Status           credentialStatus `query:"status" doc:"Only those in this state."`
	Health           credentialHealth `query:"health" doc:"Only OAuth credentials of this health."`
	ExpiresBefore    time.Time        `query:"expires_before" doc:"Only those that expire before this time."`
	RotationBefore   time.Time        `query:"rotation_due_before" doc:"Only those that are to be rotated before this time, overdue or not."`
	Q                string           `query:"q" maxLength:"200" doc:"Words that must occur in the metadata."`
}

type credentialPage struct {
	Body client.CredentialPage
}

// again asks the vault whether the caller may still do p to a credential.
func (s *service) again(p identity.Permission, act string) func(context.Context, identity.Caller, string, []byte) error {
	return func(ctx context.Context, caller identity.Caller, id string, _ []byte) error {
		return s.Vault.MayStill(ctx, caller, p, act, id)
	}
}

func (s *service) addCredentials() {
	const tag = "credentials"
	add(s, route{method: http.MethodGet, path: "/api/credentials", id: "list-credentials", summary: "List credentials", tag: tag,
		access: string(identity.CredentialRead)}, s.listCredentials)
	add(s, route{method: http.MethodGet, path: "/api/credentials/by-client/{client_id}", id: "list-credentials-by-client", summary: "List the credentials of a client",
		tag: tag, access: string(identity.CredentialRead)}, s.listCredentialsByClient)
	add(s, route{method: http.MethodPost, path: "/api/credentials", id: "create-credential", summary: "Store a credential", tag: tag,
		description: "Only type, name, and secrets or generate are required.", access: string(identity.CredentialWrite), status: http.StatusCreated, maxBody: secretBody,
		again: s.again(identity.CredentialWrite, "create")}, s.createCredential)
	add(s, route{method: http.MethodGet, path: "/api/credentials/{id}", id: "get-credential", summary: "Read a credential's metadata", tag: tag,
		description: "Never the secret.", access: string(identity.CredentialRead), moving: true}, s.getCredential)
	for _, method := range []string{http.MethodPatch, http.MethodPut} {
		add(s, route{method: method, path: "/api/credentials/{id}", id: strings.ToLower(method) + "-credential", summary: "Change a credential", tag: tag,
			description: "A merge patch (RFC 7396). Secrets make a new version. Another provider, base_url, host, token endpoint, CA bundle or proxy needs the right to reveal the secret too, since it would go there; so does mending a credential that was changed outside Signalbox. Under another client or service, a train that could use it by what is granted on the one it leaves, and by nothing else, is unlinked. PUT and PATCH do the same.", access: string(identity.CredentialWrite), maxBody: secretBody},
			s.updateCredential)
	}
	add(s, route{method: http.MethodDelete, path: "/api/credentials/{id}", id: "delete-credential", summary: "Delete a credential", tag: tag,
		description: "Destroys the sealed material of all its versions. What an OAuth provider issued is revoked there afterwards, if the provider offers that.", access: string(identity.CredentialWrite)}, s.deleteCredential)
	add(s, route{method: http.MethodPost, path: "/api/credentials/{id}/reveal", id: "reveal-credential", summary: "Decrypt one secret field", tag: tag,
		description: "Who, which and why are recorded before the field is decrypted.", access: string(identity.CredentialReveal),
		showsSecret: true, makesNothing: true, reveals: true, changesNothing: true, again: s.again(identity.CredentialReveal, "reveal")}, s.revealCredential)
	add(s, route{method: http.MethodPost, path: "/api/credentials/{id}/rotate", id: "rotate-credential", summary: "Store a new version of the secret", tag: tag,
		access: string(identity.CredentialWrite), maxBody: secretBody, again: s.again(identity.CredentialWrite, "rotate")}, s.rotateCredential)
	add(s, route{method: http.MethodGet, path: "/api/credentials/{id}/versions", id: "list-credential-versions", summary: "List the versions of a credential's secret", tag: tag,
		access: string(identity.CredentialRead)}, s.listVersions)
	add(s, route{method: http.MethodPost, path: "/api/credentials/{id}/versions/{n}/restore", id: "restore-credential", summary: "Bring back an older version of the secret",
		description: "As a new version. The password of the outbound proxy stays as it is now.", tag: tag, access: string(identity.CredentialWrite), again: s.again(identity.CredentialWrite, "restore")}, s.restoreCredential)
}

func (s *service) listCredentials(ctx context.Context, caller identity.Caller, in *struct {
	CredentialQuery
	ClientID string `query:"client_id" maxLength:"100" doc:"Only those of this client."`
}) (*credentialPage, error) {
	return s.credentials(ctx, caller, in.ClientID, in.CredentialQuery)
}

func (s *service) listCredentialsByClient(ctx context.Context, caller identity.Caller, in *struct {
	Client string `path:"client_id" doc:"The client's id."`
	CredentialQuery
}) (*credentialPage, error) {
	return s.credentials(ctx, caller, in.Client, in.CredentialQuery)
}

func (s *service) credentials(ctx context.Context, caller identity.Caller, clientID string, in CredentialQuery) (*credentialPage, error) {
	f := vault.Filter{
		Type: vault.Type(in.Type), Provider: in.Provider, ClientID: clientID, ServiceID: in.ServiceID, InfrastructureID: in.InfrastructureID,
		Owner: in.Owner, PluginName: in.PluginName, Tag: in.Tag, Status: vault.Status(in.Status), Health: vault.Health(in.Health), ExpiresBefore: instant(in.ExpiresBefore), RotationDueBefore: instant(in.RotationBefore), Q: in.Q,
		Limit: in.Limit, Cursor: in.Cursor, Skip: in.Skip,
	}
	if in.TrainID != "" {
		links, err := s.Trains.Links(ctx, caller, in.TrainID)
		if err != nil {
			return nil, err
		}
		f.IDs = make([]string, len(links))
		for i, l := range links {
			f.IDs[i] = l.CredentialID
		}
	}
	items, next, err := s.Vault.List(ctx, caller, f)
	if err != nil {
		return nil, err
	}
	out := client.CredentialPage{Credentials: make([]client.Credential, len(items)), NextCursor: next}
	for i, c := range items {
		out.Credentials[i] = shownCredential(c)
	}
	return &credentialPage{out}, nil
}

func (s *service) createCredential(ctx context.Context, caller identity.Caller, in *struct{ Body credentialDraft }) (*credentialAnswer, error) {
	out, err := credentialOut(s.Vault.Create(ctx, caller, in.Body.vault()))
	if err == nil {
		out.Location = "/api/credentials/" + out.Body.Credential.ID
	}
	return out, err
}

func (s *service) getCredential(ctx context.Context, caller identity.Caller, in *ByID) (*credentialAnswer, error) {
	return credentialOut(s.Vault.Get(ctx, caller, in.ID))
}

func (s *service) updateCredential(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
	Body credentialPatch
}) (*credentialAnswer, error) {
	return credentialOut(s.Vault.Update(ctx, caller, in.ID, in.Body.vault(), in.IfMatch.IfMatch))
}

func (s *service) deleteCredential(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
}) (*struct{}, error) {
	return nil, s.Logins.Delete(ctx, caller, in.ID, in.IfMatch.IfMatch)
}

func (s *service) revealCredential(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	Body struct {
		Field  string `json:"field" minLength:"1" maxLength:"64"`
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Recorded in the audit log."`
	} `nameHint:"RevealRequest"`
}) (*struct{ Body client.Revealed }, error) {
	v, err := s.Vault.Reveal(ctx, caller, in.ID, in.Body.Field, in.Body.Reason)
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.Revealed }{client.Revealed{Field: in.Body.Field, Value: v.Reveal()}}, nil
}

func (s *service) rotateCredential(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	Body struct {
		Secrets  secretFields `json:"secrets,omitempty" doc:"The secret fields that change; the others stay."`
		Generate generates    `json:"generate,omitempty" doc:"Secret fields that Signalbox makes. The answer has the public key of a pair and never the secret."`
		Reason   string       `json:"reason,omitempty" maxLength:"500" doc:"Kept with the version."`
	} `nameHint:"RotateRequest"`
}) (*credentialAnswer, error) {
	return credentialOut(s.Vault.RotateMaking(ctx, caller, in.ID, in.Body.Secrets.values(), in.Body.Generate.vault(), in.Body.Reason))
}

func (s *service) listVersions(ctx context.Context, caller identity.Caller, in *ByID) (*struct {
	Body struct {
		Versions []client.CredentialVersion `json:"versions" nullable:"false"`
	} `nameHint:"CredentialVersionList"`
}, error) {
	versions, err := s.Vault.Versions(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	out := &struct {
		Body struct {
			Versions []client.CredentialVersion `json:"versions" nullable:"false"`
		} `nameHint:"CredentialVersionList"`
	}{}
	out.Body.Versions = make([]client.CredentialVersion, len(versions))
	for i, v := range versions {
		out.Body.Versions[i] = shownVersion(v)
	}
	return out, nil
}

func (s *service) restoreCredential(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	N string `path:"n" doc:"The number of the version."`
}) (*credentialAnswer, error) {
	n, err := strconv.ParseInt(in.N, 10, 64)
	if err != nil || n < 1 {
		n = 0 // no version has this number, so the vault says what it says of any that is not there, after asking who may
	}
	return credentialOut(s.Vault.Restore(ctx, caller, in.ID, n))
}
