package api

import (
	"context"
	"net/http"
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
)

type tokenDraft struct {
	UserID    string     `json:"user_id,omitempty" maxLength:"64" doc:"The person whose token it will be; the caller when it is left out. Others need users:write."`
	ServiceID string     `json:"service_account_id,omitempty" maxLength:"64" doc:"The service account whose token it will be, in place of user_id; this also needs service_accounts:write."`
	Name      string     `json:"name" minLength:"1" maxLength:"100"`
	Scopes    []scope    `json:"scopes,omitempty" nullable:"false" maxItems:"100" doc:"All that the owner's role and the caller's token have when they are left out."`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"Never when it is left out."`
}

type issuedTokenBody struct {
	Token client.IssuedToken `json:"token"`
}

func shownToken(t identity.Token) client.Token {
	return client.Token{
		ID: t.ID, UserID: t.UserID, ServiceAccountID: t.ServiceID, Name: t.Name, Preview: t.Preview, Scopes: shownScopes(t.Scopes), Status: string(t.Status), CreatedAt: t.CreatedAt,
		LastUsedAt: t.LastUsedAt, ExpiresAt: t.ExpiresAt, RevokedAt: t.RevokedAt,
	}
}

func shownScopes(scopes identity.Scopes) []string {
	out := make([]string, len(scopes))
	for i, s := range scopes {
		out[i] = string(s)
	}
	return out
}

func (s *service) addTokens() {
	const tag, all = "tokens", "/api/tokens"
	add(s, route{method: http.MethodGet, path: all, id: "list-tokens", summary: "List tokens of a person or a service account", tag: tag, access: string(identity.TokenRead)}, s.listTokens)
	add(s, route{method: http.MethodPost, path: all, id: "issue-token", summary: "Issue a token of a person or a service account", tag: tag,
		description: "The token is in the answer and never shown again. It cannot do more than the caller.", access: string(identity.TokenWrite),
		status: http.StatusCreated, showsSecret: true}, s.issueToken)
	add(s, route{method: http.MethodDelete, path: all + "/{id}", id: "revoke-token", summary: "Revoke a token", tag: tag,
		access: string(identity.TokenWrite)}, s.revokeToken)
}

func (s *service) listTokens(ctx context.Context, caller identity.Caller, in *struct {
	Page
	UserID    string       `query:"user_id" maxLength:"64" doc:"Whose; the caller's when it is left out. Those of others need users:read."`
	ServiceID string       `query:"service_account_id" maxLength:"64" doc:"Those of this service account; this also needs service_accounts:read."`
	Status    bearerStatus `query:"status" doc:"Only those in this state."`
}) (*struct{ Body client.TokenPage }, error) {
	tokens, next, err := s.Identity.ListTokens(ctx, caller, identity.TokenFilter{
		UserID: in.UserID, ServiceID: in.ServiceID, Status: identity.Status(in.Status), Limit: in.Limit, Cursor: in.Cursor, Skip: in.Skip,
	})
	if err != nil {
		return nil, err
	}
	out := client.TokenPage{Tokens: make([]client.Token, len(tokens)), NextCursor: next}
	for i, t := range tokens {
		out.Tokens[i] = shownToken(t)
	}
	return &struct{ Body client.TokenPage }{out}, nil
}

func (s *service) issueToken(ctx context.Context, caller identity.Caller, in *struct{ Body tokenDraft }) (*struct{ Body issuedTokenBody }, error) {
	d := identity.TokenDraft{UserID: in.Body.UserID, ServiceID: in.Body.ServiceID, Name: in.Body.Name, ExpiresAt: in.Body.ExpiresAt}
	for _, name := range in.Body.Scopes {
		d.Scopes = append(d.Scopes, identity.Permission(name))
	}
	t, value, err := s.Identity.IssueToken(ctx, caller, d)
	if err != nil {
		return nil, err
	}
	return &struct{ Body issuedTokenBody }{issuedTokenBody{client.IssuedToken{Token: shownToken(t), Secret: value.Reveal()}}}, nil
}

func (s *service) revokeToken(ctx context.Context, caller identity.Caller, in *ByID) (*struct{}, error) {
	return nil, s.Identity.RevokeToken(ctx, caller, in.ID)
}
