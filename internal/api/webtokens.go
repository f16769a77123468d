package api

import (
	"context"
	"net/http"
	"strconv"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
)

type loginBody struct {
	Email        string `json:"email" minLength:"1" maxLength:"254"`
	Password     hidden `json:"password" maxLength:"1024"`
	TOTP         hidden `json:"totp,omitempty" maxLength:"20" doc:"The code that the authenticator app shows, of whoever has one."`
	RecoveryCode hidden `json:"recovery_code,omitempty" maxLength:"40" doc:"In place of the app's code; it works once."`
}

type refreshBody struct {
	RefreshToken hidden `json:"refresh_token" maxLength:"255" doc:"The newest one (sbr_…). It works once."`
}

type exchangeBody struct {
	Code     hidden `json:"code" maxLength:"255" doc:"What the page /cli handed over (sbl_…). It works once, for a minute."`
	Verifier hidden `json:"verifier" maxLength:"128" doc:"43 to 128 characters, whose SHA-256 in base64url was the challenge of that page (RFC 7636)."`
}

type rotationBody struct {
	Compromised bool `json:"compromised,omitempty" doc:"Replace every key at once; all access tokens end."`
}

// keySet is the published keys. It is the one answer that may be kept by whoever reads it.
type keySet struct {
	ContentType  string `header:"Content-Type" hidden:"true"`
	CacheControl string `header:"Cache-Control" hidden:"true"`
	Body         []byte `contentType:"application/json"`
}

func (s *service) addWebTokens() {
	const tag, auth = "sign-in", "/api/auth/"
	add(s, route{method: http.MethodPost, path: auth + "login", id: "log-in", summary: "Sign in with a password, as a program", tag: tag, access: public,
		description: "The access token is a JSON web token for the header Authorization, good for expires_in seconds; the refresh token gets the next one. Who has a second factor gives a code of it in the same request; a passkey works in a browser alone.",
		showsSecret: true, throttled: true, changesNothing: true}, s.login)
	add(s, route{method: http.MethodPost, path: auth + "refresh", id: "refresh-login", summary: "Take the next access and refresh token", tag: tag, access: public,
		description: "A refresh token works once, for 30 days. One that comes a second time ends its session, since nobody can tell who has stolen it.",
		showsSecret: true, changesNothing: true}, s.refresh)
	add(s, route{method: http.MethodPost, path: auth + "exchange", id: "exchange-login-code", summary: "Take the tokens of a person who agreed in the browser", tag: tag, access: public,
		description: "A program opens the page /cli?challenge=…&port=…&state=… in the browser; its person signs in there and agrees, and the browser brings the code to /callback of that port of 127.0.0.1. Without port and state the page shows the code. The session is new, and as old in its proofs as the one in the browser. Any refusal spends the code.",
		showsSecret: true, changesNothing: true}, s.exchangeCode)
	add(s, route{method: http.MethodPost, path: auth + "revoke", id: "revoke-login", summary: "End the session of a refresh token", tag: tag, access: public,
		description: "For a program whose access token has expired; any other logs out.", status: http.StatusNoContent, changesNothing: true}, s.revokeLogin)
	add(s, route{method: http.MethodGet, path: auth + "jwks.json", id: "get-jwks", summary: "The keys that access tokens are signed with", tag: tag, access: public,
		description: "A JWK Set (RFC 7517). Keys are published an hour before they sign."}, s.jwks)
	add(s, route{method: http.MethodPost, path: auth + "keys/rotate", id: "rotate-signing-keys", summary: "Let the next key sign access tokens", tag: tag,
		access: string(identity.IssuerWrite), description: "It happens by itself every 30 days. Tokens that were signed before stay valid.", status: http.StatusNoContent}, s.rotateSigningKeys)
}

func (s *service) login(ctx context.Context, caller identity.Caller, in *struct{ Body loginBody }) (*struct{ Body client.Login }, error) {
	admitted, err := s.Identity.LoginWith(ctx, caller, in.Body.Email, in.Body.Password.Value, identity.Code{TOTP: in.Body.TOTP.Value, Recovery: in.Body.RecoveryCode.Value}, identity.SessionAPI)
	if err != nil {
		return nil, err
	}
	return loginOut(s.Identity.IssueTokens(ctx, caller, admitted.Session.ID))
}

func (s *service) refresh(ctx context.Context, caller identity.Caller, in *struct{ Body refreshBody }) (*struct{ Body client.Login }, error) {
	return loginOut(s.Identity.Refresh(ctx, caller, in.Body.RefreshToken.Value))
}

func (s *service) exchangeCode(ctx context.Context, caller identity.Caller, in *struct{ Body exchangeBody }) (*struct{ Body client.Login }, error) {
	return loginOut(s.Identity.ExchangeCode(ctx, caller, in.Body.Code.Value, in.Body.Verifier.Value))
}

func loginOut(t identity.Tokens, err error) (*struct{ Body client.Login }, error) {
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.Login }{client.Login{
		AccessToken: t.Access.Reveal(), RefreshToken: t.Refresh.Reveal(), TokenType: "Bearer", ExpiresIn: int(t.ExpiresIn.Seconds()), SessionID: t.Session.ID,
	}}, nil
}

func (s *service) revokeLogin(ctx context.Context, caller identity.Caller, in *struct{ Body refreshBody }) (*struct{}, error) {
	return nil, s.Identity.LogoutRefresh(ctx, caller, in.Body.RefreshToken.Value)
}

func (s *service) jwks(context.Context, identity.Caller, *struct{}) (*keySet, error) {
	doc, err := s.Identity.PublishedKeys()
	if err != nil {
		return nil, err
	}
	return &keySet{ContentType: "application/json", CacheControl: "public, max-age=" + strconv.Itoa(int(identity.KeysCachedFor.Seconds())), Body: doc}, nil
}

func (s *service) rotateSigningKeys(ctx context.Context, caller identity.Caller, in *struct{ Body rotationBody }) (*struct{}, error) {
	return nil, s.Identity.RotateSigningKeys(ctx, caller, in.Body.Compromised)
}
