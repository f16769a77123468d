package api

import (
	"context"
	"net/http"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
)

type totpBody struct {
	Code hidden `json:"code" maxLength:"20" doc:"Six digits that the app shows."`
}

type passkeyPatch struct {
	Name string `json:"name" minLength:"1" maxLength:"100"`
}

type rolesBody struct {
	Roles []role `json:"roles" nullable:"false" maxItems:"10" doc:"The roles whose people must have a second factor. An empty list demands it of nobody."`
}

type factorsAnswer struct {
	Body struct {
		Factors client.Factors `json:"factors"`
	}
}

type offerAnswer struct {
	Body struct {
		TOTP client.TOTPOffer `json:"totp"`
	}
}

type codesAnswer struct {
	SetCookie string `header:"Set-Cookie" doc:"The session's cookie, when the caller has one and it changed."`
	Body      struct {
		RecoveryCodes []string `json:"recovery_codes" nullable:"false" doc:"Each works once. They are never shown again. Empty when there was another factor before."`
	}
}

type policyAnswer struct {
	Body struct {
		Roles []string `json:"roles" nullable:"false"`
	}
}

func (s *service) addFactors() {
	const tag, all = "second factors", "/api/factors"
	const session = "Takes the session of a person, fresh by a step-up; a token changes nobody's factors."
	add(s, route{method: http.MethodGet, path: all, id: "list-factors", summary: "List a person's second factors", tag: tag,
		access: string(identity.ProfileRead)}, s.listFactors)
	add(s, route{method: http.MethodPost, path: all + "/totp", id: "offer-totp", summary: "Show the secret of an authenticator app", tag: tag, description: session + " It counts once a code confirms it, within ten minutes.",
		access: string(identity.ProfileWrite), showsSecret: true}, s.offerTOTP)
	add(s, route{method: http.MethodPost, path: all + "/totp/confirm", id: "confirm-totp", summary: "Confirm an authenticator app with its code", tag: tag,
		description: session + " With a first factor come recovery codes, and other sessions end.", access: string(identity.ProfileWrite), showsSecret: true, throttled: true}, s.confirmTOTP)
	add(s, route{method: http.MethodDelete, path: all + "/totp", id: "remove-totp", summary: "Remove the authenticator app", tag: tag, description: session, access: string(identity.ProfileWrite)}, s.removeTOTP)
	add(s, route{method: http.MethodPost, path: all + "/recovery-codes", id: "renew-recovery-codes", summary: "Make new recovery codes", tag: tag, description: session + " The old ones are void.",
		access: string(identity.ProfileWrite), showsSecret: true}, s.renewRecoveryCodes)
	add(s, route{method: http.MethodPatch, path: all + "/passkeys/{id}", id: "rename-passkey", summary: "Give a passkey another name", tag: tag,
		description: "Passkeys are added in a browser, on the page /account/factors.", access: string(identity.ProfileWrite)}, s.renamePasskey)
	add(s, route{method: http.MethodDelete, path: all + "/passkeys/{id}", id: "remove-passkey", summary: "Remove a passkey", tag: tag, description: session, access: string(identity.ProfileWrite)}, s.removePasskey)
	add(s, route{method: http.MethodGet, path: all + "/policy", id: "get-factor-policy", summary: "Say whose people must have a second factor", tag: tag, access: string(identity.UserRead)}, s.factorPolicy)
	add(s, route{method: http.MethodPut, path: all + "/policy", id: "put-factor-policy", summary: "Set whose people must have a second factor", tag: tag,
		description: "Who has none enrols one at the next sign-in before anything else. Sessions that a password alone opened end.", access: string(identity.UserWrite)}, s.setFactorPolicy)
	add(s, route{method: http.MethodPost, path: "/api/users/{id}/reset-factors", id: "reset-factors", summary: "Remove all second factors of a person", tag: "people",
		description: "For somebody who has lost theirs. Their sessions end. Nobody resets their own.", access: string(identity.UserWrite), status: http.StatusNoContent}, s.resetFactors)
}

func (s *service) listFactors(ctx context.Context, caller identity.Caller, in *struct {
	UserID string `query:"user_id" maxLength:"64" doc:"Whose; the caller's when it is left out. Those of others need users:read."`
}) (*factorsAnswer, error) {
	have, err := s.Identity.Factors(ctx, caller, in.UserID)
	if err != nil {
		return nil, err
	}
	out := &factorsAnswer{}
	out.Body.Factors = client.Factors{TOTPSince: have.TOTPSince, RecoveryCodes: have.RecoveryCodes, Demanded: have.Demanded, Passkeys: make([]client.Passkey, len(have.Passkeys))}
	for i, p := range have.Passkeys {
		out.Body.Factors.Passkeys[i] = shownPasskey(p)
	}
	return out, nil
}

func shownPasskey(p identity.Passkey) client.Passkey {
	return client.Passkey{ID: p.ID, Name: p.Name, CreatedAt: p.CreatedAt, LastUsedAt: p.LastUsedAt, SuspectAt: p.SuspectAt}
}

func (s *service) offerTOTP(ctx context.Context, caller identity.Caller, _ *struct{}) (*offerAnswer, error) {
	offer, err := s.Identity.OfferTOTP(ctx, caller)
	if err != nil {
		return nil, err
	}
	out := &offerAnswer{}
	out.Body.TOTP = client.TOTPOffer{Secret: offer.Secret.Reveal(), URI: offer.URI.Reveal(), ExpiresAt: offer.ExpiresAt}
	return out, nil
}

func (s *service) confirmTOTP(ctx context.Context, caller identity.Caller, in *struct{ Body totpBody }) (*codesAnswer, error) {
	done, err := s.Identity.ConfirmTOTP(ctx, caller, in.Body.Code.Value)
	if err != nil {
		return nil, err
	}
	out := codesOut(done.Codes)
	out.SetCookie = newCookie(done.Admission)
	return out, nil
}

func codesOut(codes []secret.Value) *codesAnswer {
	out := &codesAnswer{}
	out.Body.RecoveryCodes = make([]string, len(codes))
	for i, c := range codes {
		out.Body.RecoveryCodes[i] = c.Reveal()
	}
	return out
}

func (s *service) removeTOTP(ctx context.Context, caller identity.Caller, _ *struct{}) (*struct{}, error) {
	return nil, s.Identity.RemoveTOTP(ctx, caller)
}

func (s *service) renewRecoveryCodes(ctx context.Context, caller identity.Caller, _ *struct{}) (*codesAnswer, error) {
	codes, err := s.Identity.RegenerateRecoveryCodes(ctx, caller)
	if err != nil {
		return nil, err
	}
	return codesOut(codes), nil
}

func (s *service) renamePasskey(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	Body passkeyPatch
}) (*struct {
	Body struct {
		Passkey client.Passkey `json:"passkey"`
	}
}, error) {
	p, err := s.Identity.RenamePasskey(ctx, caller, in.ID, in.Body.Name)
	if err != nil {
		return nil, err
	}
	out := &struct {
		Body struct {
			Passkey client.Passkey `json:"passkey"`
		}
	}{}
	out.Body.Passkey = shownPasskey(p)
	return out, nil
}

func (s *service) removePasskey(ctx context.Context, caller identity.Caller, in *ByID) (*struct{}, error) {
	return nil, s.Identity.RemovePasskey(ctx, caller, in.ID)
}

func (s *service) factorPolicy(ctx context.Context, caller identity.Caller, _ *struct{}) (*policyAnswer, error) {
	return policyOut(s.Identity.FactorPolicy(ctx, caller))
}

func (s *service) setFactorPolicy(ctx context.Context, caller identity.Caller, in *struct{ Body rolesBody }) (*policyAnswer, error) {
	roles := make([]identity.Role, len(in.Body.Roles))
	for i, r := range in.Body.Roles {
		roles[i] = identity.Role(r)
	}
	return policyOut(s.Identity.SetFactorPolicy(ctx, caller, roles))
}

func policyOut(roles []identity.Role, err error) (*policyAnswer, error) {
	if err != nil {
		return nil, err
	}
	out := &policyAnswer{}
	out.Body.Roles = make([]string, len(roles))
	for i, r := range roles {
		out.Body.Roles[i] = string(r)
	}
	return out, nil
}

func (s *service) resetFactors(ctx context.Context, caller identity.Caller, in *ByID) (*struct{}, error) {
	return nil, s.Identity.ResetFactors(ctx, caller, in.ID)
}
