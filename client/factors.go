package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Factors are the second factors of a person.
type Factors struct {
	TOTPSince     *time.Time `json:"totp_since,omitempty" doc:"When an authenticator app was confirmed; left out without one."`
	Passkeys      []Passkey  `json:"passkeys" nullable:"false"`
	RecoveryCodes int        `json:"recovery_codes" doc:"How many are left."`
	Demanded      bool       `json:"demanded" doc:"Whether the person's role must have a second factor."`
}

// Passkey is a passkey of a person.
type Passkey struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty"`
	SuspectAt  *time.Time `json:"suspect_at,omitempty" doc:"When its signature counter went backwards, as that of a copy does."`
}

// TOTPOffer is the secret of an authenticator app, at the one moment at which it is shown.
type TOTPOffer struct {
	Secret    string    `json:"secret" doc:"In base32, for typing."`
	URI       string    `json:"uri" doc:"otpauth://…, for a QR code."`
	ExpiresAt time.Time `json:"expires_at" doc:"Until when a code must have confirmed it."`
}

// Factors returns the second factors of a person; "" is the caller.
func (c *Client) Factors(ctx context.Context, userID string) (Factors, error) {
	q := url.Values{}
	setText(q, "user_id", userID)
	var out struct {
		Factors Factors `json:"factors"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("factors"), query: q}, &out)
	return out.Factors, err
}

// OfferTOTP makes the secret of an authenticator app for the person whose session this is.
func (c *Client) OfferTOTP(ctx context.Context) (TOTPOffer, error) {
	var out struct {
		TOTP TOTPOffer `json:"totp"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("factors", "totp")}, &out)
	return out.TOTP, err
}

// ConfirmTOTP confirms an authenticator app with the code that it shows, and returns the recovery codes that come with a first factor. The
// session's cookie changes.
func (c *Client) ConfirmTOTP(ctx context.Context, code string) ([]string, error) {
	return c.recoveryCodes(ctx, call{method: http.MethodPost, path: path("factors", "totp", "confirm"), body: map[string]string{"code": code}})
}

// RenewRecoveryCodes makes new recovery codes; the old ones are void.
func (c *Client) RenewRecoveryCodes(ctx context.Context) ([]string, error) {
	return c.recoveryCodes(ctx, call{method: http.MethodPost, path: path("factors", "recovery-codes")})
}

func (c *Client) recoveryCodes(ctx context.Context, k call) ([]string, error) {
	var out struct {
		RecoveryCodes []string `json:"recovery_codes"`
	}
	_, err := c.do(ctx, k, &out)
	return out.RecoveryCodes, err
}

// RemoveTOTP removes the authenticator app.
func (c *Client) RemoveTOTP(ctx context.Context) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("factors", "totp")}, nil)
	return err
}

// RenamePasskey gives a passkey another name.
func (c *Client) RenamePasskey(ctx context.Context, id, name string) (Passkey, error) {
	var out struct {
		Passkey Passkey `json:"passkey"`
	}
	_, err := c.do(ctx, call{method: http.MethodPatch, path: path("factors", "passkeys", id), body: map[string]string{"name": name}}, &out)
	return out.Passkey, err
}

// RemovePasskey removes a passkey.
func (c *Client) RemovePasskey(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("factors", "passkeys", id)}, nil)
	return err
}

// FactorPolicy returns the roles whose people must have a second factor.
func (c *Client) FactorPolicy(ctx context.Context) ([]string, error) {
	return c.factorPolicy(ctx, call{method: http.MethodGet, path: path("factors", "policy")})
}

// SetFactorPolicy sets the roles whose people must have a second factor.
func (c *Client) SetFactorPolicy(ctx context.Context, roles []string) ([]string, error) {
	if roles == nil {
		roles = []string{}
	}
	return c.factorPolicy(ctx, call{method: http.MethodPut, path: path("factors", "policy"), body: map[string][]string{"roles": roles}})
}

func (c *Client) factorPolicy(ctx context.Context, k call) ([]string, error) {
	var out struct {
		Roles []string `json:"roles"`
	}
	_, err := c.do(ctx, k, &out)
	return out.Roles, err
}

// ResetFactors removes all second factors of a person. Their sessions end.
func (c *Client) ResetFactors(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("users", id, "reset-factors")}, nil)
	return err
}
