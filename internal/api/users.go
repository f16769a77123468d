package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
)

// role is one of identity's table.
type role string

// Schema lists the roles of the table.
func (role) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, r := range identity.Roles() {
		s.Enum = append(s.Enum, string(r))
	}
	return s
}

// truth is a parameter that is true or false; huma's own cannot be left out.
type truth string

// Schema lists the two.
func (truth) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{"true", "false"}}
}

func (t truth) pointer() *bool {
	if t == "" {
		return nil
	}
	v := t == "true"
	return &v
}

type userDraft struct {
	Email    string `json:"email" minLength:"1" maxLength:"254"`
	Name     string `json:"name" minLength:"1" maxLength:"100"`
	Role     role   `json:"role"`
	Password hidden `json:"password,omitempty" maxLength:"1024" doc:"12 to 1024 bytes. Without it the person is invited: the answer has a link that works once, for seven days."`
}

type userPatch struct {
	Email  *string           `json:"email,omitempty" minLength:"1" maxLength:"254" doc:"Needs users:write."`
	Name   *string           `json:"name,omitempty" minLength:"1" maxLength:"100" doc:"One's own, or with users:write anybody's."`
	Role   *role             `json:"role,omitempty" doc:"Needs users:write. Nobody changes their own. The person's sessions end."`
	Active *bool             `json:"active,omitempty" doc:"Needs users:write. False ends the person's sessions and tokens."`
	Limits edit[limitsPatch] `json:"limits,omitempty" doc:"Needs users:write. What all client keys that the person made may use together; null removes a limit, or all of them."`
}

type userBody struct {
	User client.User `json:"user"`
}

type userAnswer struct {
	ETag string `header:"ETag" doc:"Names this state of the person, for If-Match."`
	Body userBody
}

type userLinkAnswer struct {
	ETag string `header:"ETag" doc:"Names this state of the person, for If-Match."`
	Body client.UserResult
}

func shownUser(u identity.User) client.User {
	return client.User{
		ID: u.ID, Email: u.Email, Name: u.Name, Role: string(u.Role), Active: u.Active, Invited: u.Invited, CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt,
		LastLoginAt: u.LastLoginAt, Limits: shownLimits(u.Limits),
	}
}

func userOut(u identity.User, err error) (*userAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &userAnswer{ETag: u.ETag(), Body: userBody{shownUser(u)}}, nil
}

func userWithLink(u identity.User, link *identity.Link, err error) (*userLinkAnswer, error) {
	if err != nil {
		return nil, err
	}
	out := &userLinkAnswer{ETag: u.ETag(), Body: client.UserResult{User: shownUser(u)}}
	if link != nil {
		text := link.Secret.Reveal()
		out.Body.Link = &client.PasswordLink{Token: text, Path: "/invite?token=" + text, ExpiresAt: link.ExpiresAt}
	}
	return out, nil
}

func (s *service) addUsers() {
	const tag, all, one = "people", "/api/users", "/api/users/{id}"
	add(s, route{method: http.MethodGet, path: all, id: "list-users", summary: "List people, the newest first", tag: tag, access: string(identity.UserRead)}, s.listUsers)
	add(s, route{method: http.MethodPost, path: all, id: "create-user", summary: "Add or invite a person", tag: tag,
		description: "Without a password the answer has the one-time link of an invitation, which is never shown again.",
		access:      string(identity.UserWrite), status: http.StatusCreated, showsSecret: true}, s.createUser)
	add(s, route{method: http.MethodGet, path: one, id: "get-user", summary: "Read a person", tag: tag, description: "Others than oneself need users:read.",
		access: string(identity.ProfileRead)}, s.getUser)
	for _, r := range []route{
		{method: http.MethodPatch, id: "patch-user", summary: "Change a person"},
		{method: http.MethodPut, id: "put-user", summary: "Change a person, as PATCH does"},
	} {
		r.path, r.tag, r.access = one, tag, string(identity.ProfileWrite)
		r.description = "Everything but one's own name needs users:write. The last administrator who can sign in is neither deactivated nor demoted. A deactivation revokes the person's tokens and the client keys that they made on private trains and, with the role member, on trains that they are a member of; they stay so."
		add(s, r, s.updateUser)
	}
	add(s, route{method: http.MethodPost, path: one + "/reset-password", id: "reset-password", summary: "Void a person's password", tag: tag,
		description: "Ends the person's sessions. The answer has the one-time link by which they set a new password; it is never shown again.",
		access:      string(identity.UserWrite), showsSecret: true}, s.resetPassword)
	add(s, route{method: http.MethodGet, path: "/api/roles", id: "list-roles", summary: "Say which role may do what", tag: tag, access: signedIn}, s.roles)
}

func (s *service) listUsers(ctx context.Context, caller identity.Caller, in *struct {
	Page
	Role   role  `query:"role" doc:"Only those of this role."`
	Active truth `query:"active" doc:"Only those who are active, or only those who are not."`
}) (*struct{ Body client.UserPage }, error) {
	users, next, err := s.Identity.Users(ctx, caller, identity.UserFilter{
		Role: identity.Role(in.Role), Active: in.Active.pointer(), Limit: in.Limit, Cursor: in.Cursor, Skip: in.Skip,
	})
	if err != nil {
		return nil, err
	}
	out := client.UserPage{Users: make([]client.User, len(users)), NextCursor: next}
	for i, u := range users {
		out.Users[i] = shownUser(u)
	}
	return &struct{ Body client.UserPage }{out}, nil
}

func (s *service) createUser(ctx context.Context, caller identity.Caller, in *struct{ Body userDraft }) (*userLinkAnswer, error) {
	return userWithLink(s.Identity.CreateUser(ctx, caller, identity.UserDraft{
		Email: in.Body.Email, Name: in.Body.Name, Role: identity.Role(in.Body.Role), Password: in.Body.Password.Value,
	}))
}

func (s *service) getUser(ctx context.Context, caller identity.Caller, in *ByID) (*userAnswer, error) {
	return userOut(s.Identity.User(ctx, caller, in.ID))
}

func (s *service) updateUser(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
	Body userPatch
}) (*userAnswer, error) {
	p := identity.UserPatch{Email: in.Body.Email, Name: in.Body.Name, Active: in.Body.Active, Limits: limitsEdit(in.Body.Limits), IfMatch: in.IfMatch.IfMatch}
	if in.Body.Role != nil {
		r := identity.Role(*in.Body.Role)
		p.Role = &r
	}
	return userOut(s.Identity.UpdateUser(ctx, caller, in.ID, p))
}

func (s *service) resetPassword(ctx context.Context, caller identity.Caller, in *ByID) (*userLinkAnswer, error) {
	u, link, err := s.Identity.ResetPassword(ctx, caller, in.ID)
	return userWithLink(u, &link, err)
}

func (s *service) roles(context.Context, identity.Caller, *struct{}) (*struct{ Body client.RoleTable }, error) {
	var out client.RoleTable
	for _, r := range identity.Roles() {
		out.Roles = append(out.Roles, client.RoleRow{Role: string(r), Permissions: shownScopes(identity.RoleScopes(r))})
	}
	for _, p := range identity.Permissions() {
		row := client.PermissionRow{Permission: string(p.Permission), Meaning: p.Meaning, Roles: []string{}, Granted: []string{}}
		for _, r := range p.Roles {
			row.Roles = append(row.Roles, string(r))
		}
		for _, r := range p.Granted {
			row.Granted = append(row.Granted, string(r))
		}
		out.Permissions = append(out.Permissions, row)
	}
	return &struct{ Body client.RoleTable }{out}, nil
}
