package api

import (
	"context"
	"net/http"
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
)

type setupDraft struct {
	Token    hidden `json:"token" maxLength:"255" doc:"Of the set-up link."`
	Email    string `json:"email" minLength:"1" maxLength:"254"`
	Name     string `json:"name" minLength:"1" maxLength:"100"`
	Password hidden `json:"password" maxLength:"1024" doc:"12 to 1024 bytes."`
}

type callerBody struct {
	Caller client.Identity `json:"caller"`
}

type versionBody struct {
	Version  string `json:"version"`
	ReadOnly bool   `json:"read_only" doc:"Whether this instance refuses every change."`
}

// addService registers what is about the service itself: the first administrator, who asks, which version answers, what the API is.
func (s *service) addService() {
	const tag = "service"
	add(s, route{method: http.MethodPost, path: "/api/setup", id: "set-up", summary: "Make the first administrator", tag: tag,
		description: "Takes the token of the one-time set-up link and no other. The answer holds a personal access token that is never shown again.",
		access:      public, status: http.StatusCreated, showsSecret: true}, s.setup)
	add(s, route{method: http.MethodGet, path: "/api/whoami", id: "who-am-i", summary: "Say who the caller is", tag: tag, access: signedIn}, s.whoAmI)
	add(s, route{method: http.MethodGet, path: "/api/version", id: "get-version", summary: "Say which version answers", tag: tag, access: public}, s.version)
	add(s, route{method: http.MethodGet, path: "/api/openapi.json", id: "get-openapi", summary: "This document", tag: tag, access: public}, s.openAPI)
	add(s, route{method: http.MethodGet, path: "/api/docs", id: "get-docs", summary: "This document as a page for people", tag: tag, access: public}, s.docs)
}

func (s *service) setup(ctx context.Context, caller identity.Caller, in *struct{ Body setupDraft }) (*struct{ Body client.SetupResult }, error) {
	u, token, err := s.Identity.Setup(ctx, caller, in.Body.Token.Value, in.Body.Email, in.Body.Name, in.Body.Password.Value)
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.SetupResult }{client.SetupResult{
		User:        shownUser(u),
		AccessToken: token.Reveal(),
	}}, nil
}

func (s *service) whoAmI(_ context.Context, caller identity.Caller, _ *struct{}) (*struct{ Body callerBody }, error) {
	scopes := caller.Scopes
	if caller.Kind == identity.KindPerson {
		scopes = identity.RoleScopes(caller.Role)
	}
	var expires *time.Time
	if !caller.Until.IsZero() {
		expires = &caller.Until
	}
	return &struct{ Body callerBody }{callerBody{client.Identity{
		Kind: string(caller.Kind), ID: caller.ID, Name: caller.Name, UserID: caller.UserID, ServiceAccountID: caller.ServiceID, Role: string(caller.Role), Scopes: shownScopes(scopes), SessionID: caller.SessionID, ExpiresAt: expires,
	}}}, nil
}

func (s *service) version(context.Context, identity.Caller, *struct{}) (*struct{ Body versionBody }, error) {
	return &struct{ Body versionBody }{versionBody{s.Version, s.ReadOnly}}, nil
}

type document struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	Body        []byte `contentType:"application/json"`
}

func (s *service) openAPI(context.Context, identity.Caller, *struct{}) (*document, error) {
	return &document{ContentType: "application/json", Body: s.document}, nil
}
