package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// User is a person.
type User struct {
	ID          string     `json:"id"`
	Email       string     `json:"email"`
	Name        string     `json:"name"`
	Role        string     `json:"role" doc:"administrator, operator, auditor or member."`
	Active      bool       `json:"active"`
	Invited     bool       `json:"invited" doc:"Whether the person has no password yet."`
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	LastLoginAt *time.Time `json:"last_login_at,omitempty"`
	Limits      *Limits    `json:"limits,omitempty" doc:"What all client keys that the person made may use together."`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// UserDraft is a person to be added. Without a password they are invited.
type UserDraft struct {
	Email    string `json:"email"`
	Name     string `json:"name"`
	Role     string `json:"role"`
	Password string `json:"password,omitempty"`
}

// UserPatch changes a person: nil leaves a field as it is.
type UserPatch struct {
	Email  *string      `json:"email,omitempty"`
	Name   *string      `json:"name,omitempty"`
	Role   *string      `json:"role,omitempty"`
	Active *bool        `json:"active,omitempty"`
	Limits *LimitsPatch `json:"limits,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// PasswordLink is a one-time link by which a person sets their password, at the one moment at which it is shown.
type PasswordLink struct {
	// Token is the secret of the link.
	Token     string    `json:"token"`
	Path      string    `json:"path" doc:"The page that takes it, on the address of this server."`
	ExpiresAt time.Time `json:"expires_at"`
}

// UserResult is a person, with a link when one was made.
type UserResult struct {
	User User          `json:"user"`
	Link *PasswordLink `json:"link,omitempty"`
}

// CreateUser adds a person. Without a password the answer has the link of an invitation.
func (c *Client) CreateUser(ctx context.Context, d UserDraft) (UserResult, error) {
	return c.userResult(ctx, call{method: http.MethodPost, path: path("users"), body: d})
}

// ResetPassword voids a person's password and ends their sessions. The answer has the link by which they set a new one.
func (c *Client) ResetPassword(ctx context.Context, id string) (UserResult, error) {
	return c.userResult(ctx, call{method: http.MethodPost, path: path("users", id, "reset-password")})
}

func (c *Client) userResult(ctx context.Context, k call) (UserResult, error) {
	var out UserResult
	a, err := c.do(ctx, k, &out)
	out.User.ETag = a.etag
	return out, err
}

// GetUser reads a person.
func (c *Client) GetUser(ctx context.Context, id string) (User, error) {
	out, err := c.userResult(ctx, call{method: http.MethodGet, path: path("users", id)})
	return out.User, err
}

// UpdateUser changes a person.
func (c *Client) UpdateUser(ctx context.Context, id string, p UserPatch) (User, error) {
	out, err := c.userResult(ctx, call{method: http.MethodPatch, path: path("users", id), body: p, ifMatch: p.IfMatch})
	return out.User, err
}

// UserFilter selects people. Zero fields do not select.
type UserFilter struct {
	Role   string
	Active *bool
	Limit  int // 0 means 100; at most 1000
	Cursor string
	Skip   int
}

// UserPage is one page of a list. NextCursor is "" on the last.
type UserPage struct {
	Users      []User `json:"users" nullable:"false"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// ListUsers returns one page of people, the newest first.
func (c *Client) ListUsers(ctx context.Context, f UserFilter) (UserPage, error) {
	q := url.Values{}
	setText(q, "role", f.Role)
	if f.Active != nil {
		q.Set("active", strconv.FormatBool(*f.Active))
	}
	setText(q, "cursor", f.Cursor)
	setInt(q, "limit", f.Limit)
	setInt(q, "skip", f.Skip)
	var out UserPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("users"), query: q}, &out)
	return out, err
}

// RoleRow is a role with its permissions.
type RoleRow struct {
	Role        string   `json:"role"`
	Permissions []string `json:"permissions" nullable:"false"`
}

// PermissionRow is a permission, which is also a scope of tokens, with who has it.
type PermissionRow struct {
	Permission string   `json:"permission"`
	Meaning    string   `json:"meaning"`
	Roles      []string `json:"roles" nullable:"false"`
	// Granted are the roles that have it for what they own and were granted.
	Granted []string `json:"granted" nullable:"false" doc:"The roles that have it for what they own and were granted."`
}

// RoleTable says who may do what.
type RoleTable struct {
	Roles       []RoleRow       `json:"roles" nullable:"false"`
	Permissions []PermissionRow `json:"permissions" nullable:"false"`
}

// Roles returns the table of who may do what.
func (c *Client) Roles(ctx context.Context) (RoleTable, error) {
	var out RoleTable
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("roles")}, &out)
	return out, err
}

// Session is a signed-in person.
type Session struct {
	ID              string    `json:"id"`
	UserID          string    `json:"user_id"`
	Kind            string    `json:"kind" doc:"browser or api."`
	Current         bool      `json:"current" doc:"Whether it is the one that asks."`
	Proofs          []string  `json:"proofs" nullable:"false" doc:"What the person proved themselves with."`
	IP              string    `json:"ip"`
	UserAgent       string    `json:"user_agent"`
	CreatedAt       time.Time `json:"created_at"`
	AuthenticatedAt time.Time `json:"authenticated_at"`
	SteppedUpAt     time.Time `json:"stepped_up_at" doc:"When the person last proved who they are."`
	LastUsedAt      time.Time `json:"last_used_at"`
	ExpiresAt       time.Time `json:"expires_at" doc:"At the latest; a session that lies unused ends earlier."`
}

// ListSessions returns the sessions of a person, the newest first; "" are the caller's own.
func (c *Client) ListSessions(ctx context.Context, userID string) ([]Session, error) {
	q := url.Values{}
	setText(q, "user_id", userID)
	var out struct {
		Sessions []Session `json:"sessions"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("sessions"), query: q}, &out)
	return out.Sessions, err
}

// EndSession ends a session.
func (c *Client) EndSession(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("sessions", id)}, nil)
	return err
}

// EndOtherSessions ends all sessions of the caller's person but the one that asks.
func (c *Client) EndOtherSessions(ctx context.Context) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("sessions")}, nil)
	return err
}

// Logout ends the session that asks.
func (c *Client) Logout(ctx context.Context) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("auth", "logout")}, nil)
	return err
}

// StepUp confirms the password in the session that asks. The session's cookie changes.
func (c *Client) StepUp(ctx context.Context, password string) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("auth", "step-up"), body: map[string]string{"password": password}}, nil)
	return err
}

// StepUpWith confirms a code of an authenticator app, or a recovery code when totp is empty, in the session that asks. The session's cookie changes.
func (c *Client) StepUpWith(ctx context.Context, totp, recoveryCode string) error {
	body := map[string]string{"totp": totp}
	if totp == "" {
		body = map[string]string{"recovery_code": recoveryCode}
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("auth", "step-up"), body: body}, nil)
	return err
}

// ChangePassword changes the caller's own password. All their other sessions end.
func (c *Client) ChangePassword(ctx context.Context, current, next string) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("auth", "password"), body: map[string]string{"current_password": current, "new_password": next}}, nil)
	return err
}

// SetPassword sets a password with the token of a one-time link. It needs no other token.
func (c *Client) SetPassword(ctx context.Context, token, password string) (User, error) {
	out, err := c.userResult(ctx, call{method: http.MethodPost, path: path("auth", "invitation"), body: map[string]string{"token": token, "password": password}})
	return out.User, err
}
