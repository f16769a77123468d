package api

import (
	"context"
	"net/http"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
)

type stepUpBody struct {
	Password     hidden `json:"password,omitempty" maxLength:"1024" doc:"The caller's own; of somebody who has no second factor."`
	TOTP         hidden `json:"totp,omitempty" maxLength:"20" doc:"A code of the caller's authenticator app."`
	RecoveryCode hidden `json:"recovery_code,omitempty" maxLength:"64" doc:"One of the caller's recovery codes, which is used up."`
}

type passwordChange struct {
	CurrentPassword hidden `json:"current_password" maxLength:"1024"`
	NewPassword     hidden `json:"new_password" maxLength:"1024" doc:"12 to 1024 bytes."`
}

type invitationBody struct {
	Token    hidden `json:"token" maxLength:"255" doc:"Of the one-time link."`
	Password hidden `json:"password" maxLength:"1024" doc:"12 to 1024 bytes."`
}

// cookieAnswer has no body, and may give the browser another cookie.
type cookieAnswer struct {
	SetCookie string `header:"Set-Cookie" doc:"The session's cookie, when the caller has one and it changed."`
}

func (s *service) addSessions() {
	const tag, all, auth = "sessions", "/api/sessions", "/api/auth/"
	add(s, route{method: http.MethodGet, path: all, id: "list-sessions", summary: "List a person's sessions, the newest first", tag: tag,
		access: string(identity.ProfileRead)}, s.listSessions)
	add(s, route{method: http.MethodDelete, path: all, id: "end-other-sessions", changesNothing: true, summary: "End all own sessions but the one that asks", tag: tag,
		access: string(identity.ProfileWrite)}, s.endOtherSessions)
	add(s, route{method: http.MethodDelete, path: all + "/{id}", id: "end-session", changesNothing: true, summary: "End a session", tag: tag,
		description: "Those of others need users:write.", access: string(identity.ProfileWrite)}, s.endSession)
	add(s, route{method: http.MethodPost, path: auth + "logout", id: "log-out", summary: "End the session that asks", tag: tag, access: signedIn,
		description: "A personal access token is not a session, and is revoked instead.", status: http.StatusNoContent, changesNothing: true}, s.logout)
	add(s, route{method: http.MethodPost, path: auth + "step-up", id: "step-up", summary: "Prove again who one is, in the session that asks", tag: tag, access: signedIn,
		description: "For five minutes it may do what answers 403 step_up_required. The session gets another cookie.", status: http.StatusNoContent, throttled: true, changesNothing: true}, s.stepUp)
	add(s, route{method: http.MethodPost, path: auth + "password", id: "change-password", summary: "Change the own password", tag: tag, access: string(identity.ProfileWrite),
		description: "All other sessions end. The one that asks, if it is a session, gets another cookie.", status: http.StatusNoContent, throttled: true}, s.changePassword)
	add(s, route{method: http.MethodPost, path: auth + "invitation", id: "use-invitation", summary: "Set a password with a one-time link", tag: tag, access: public,
		description: "Takes the token of the link and no other."}, s.useInvitation)
}

func (s *service) listSessions(ctx context.Context, caller identity.Caller, in *struct {
	UserID string `query:"user_id" maxLength:"64" doc:"Whose; the caller's when it is left out. Those of others need users:read."`
}) (*struct {
	Body struct {
		Sessions []client.Session `json:"sessions" nullable:"false"`
	}
}, error) {
	sessions, err := s.Identity.ListSessions(ctx, caller, in.UserID)
	if err != nil {
		return nil, err
	}
	out := &struct {
		Body struct {
			Sessions []client.Session `json:"sessions" nullable:"false"`
		}
	}{}
	out.Body.Sessions = make([]client.Session, len(sessions))
	for i, v := range sessions {
		proofs := make([]string, len(v.Proofs))
		for j, p := range v.Proofs {
			proofs[j] = string(p)
		}
		out.Body.Sessions[i] = client.Session{
			ID: v.ID, UserID: v.UserID, Kind: string(v.Kind), Current: v.ID == caller.SessionID, Proofs: proofs, IP: v.IP, UserAgent: v.UserAgent, CreatedAt: v.CreatedAt,
			AuthenticatedAt: v.AuthenticatedAt, SteppedUpAt: v.SteppedUpAt, LastUsedAt: v.LastUsedAt, ExpiresAt: v.ExpiresAt,
		}
	}
	return out, nil
}

func (s *service) endSession(ctx context.Context, caller identity.Caller, in *ByID) (*struct{}, error) {
	return nil, s.Identity.EndSession(ctx, caller, in.ID)
}

func (s *service) endOtherSessions(ctx context.Context, caller identity.Caller, _ *struct{}) (*struct{}, error) {
	_, err := s.Identity.EndOtherSessions(ctx, caller)
	return nil, err
}

func (s *service) logout(ctx context.Context, caller identity.Caller, _ *struct{}) (*cookieAnswer, error) {
	if err := s.Identity.Logout(ctx, caller); err != nil {
		return nil, err
	}
	return &cookieAnswer{SetCookie: identity.EndCookie().String()}, nil
}

func (s *service) stepUp(ctx context.Context, caller identity.Caller, in *struct{ Body stepUpBody }) (*cookieAnswer, error) {
	if code := (identity.Code{TOTP: in.Body.TOTP.Value, Recovery: in.Body.RecoveryCode.Value}); !code.IsZero() {
		return cookieOut(s.Identity.Prove(ctx, caller, code))
	}
	return cookieOut(s.Identity.StepUp(ctx, caller, in.Body.Password.Value))
}

func (s *service) changePassword(ctx context.Context, caller identity.Caller, in *struct{ Body passwordChange }) (*cookieAnswer, error) {
	return cookieOut(s.Identity.ChangePassword(ctx, caller, in.Body.CurrentPassword.Value, in.Body.NewPassword.Value))
}

func (s *service) useInvitation(ctx context.Context, caller identity.Caller, in *struct{ Body invitationBody }) (*userAnswer, error) {
	return userOut(s.Identity.SetPassword(ctx, caller, in.Body.Token.Value, in.Body.Password.Value))
}

func cookieOut(in identity.Admission, err error) (*cookieAnswer, error) {
	return &cookieAnswer{SetCookie: newCookie(in)}, err
}

// newCookie is that of a session with another secret, or nothing. A program has no cookie: it goes on with its tokens.
func newCookie(in identity.Admission) string {
	if in.Secret.IsZero() || in.Session.Kind != identity.SessionBrowser {
		return ""
	}
	return in.Cookie().String()
}
