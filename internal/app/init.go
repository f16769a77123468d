package app

import (
	"context"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
)

// Admin is the first administrator to be made.
type Admin struct {
	Email, Name string
	Password    secret.Value
	// TokenLife is how long the administrator's first token is valid.
	TokenLife time.Duration
}

// Initialised is what [Init] has made.
type Initialised struct {
	User        identity.User
	AccessToken secret.Value
	ExpiresAt   time.Time
	First       First
	// Again says that the administrator was made by an earlier init, whose token may never have reached anybody.
	Again bool
}

// Init makes the first administrator with a personal access token of all scopes, and before that, on an empty data directory, what is
// needed to serve. It opens the data directory itself, so no server may run on it. Called again with the e-mail address and password of an
// administrator it issues another token: an init that was cut off after its commit must not lock everybody out. Otherwise, where there is an
// administrator, the fault is already_set_up, and nothing is changed.
func Init(ctx context.Context, cfg Config, admin Admin) (_ Initialised, err error) {
	a, err := open(ctx, cfg, false)
	if err != nil {
		return Initialised{}, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	expires := time.Now().UTC().Add(admin.TokenLife).Truncate(time.Second)
	caller := identity.System("init")
	user, token, err := a.identity.InitAdministrator(ctx, caller, admin.Email, admin.Name, admin.Password, expires)
	again := false
	if f, ok := fault.As(err); ok && f.Code == "already_set_up" {
		var lerr error
		if user, lerr = a.identity.CheckPassword(ctx, caller, admin.Email, admin.Password); lerr == nil && user.Role == identity.Administrator {
			again = true
			_, token, err = a.identity.IssueToken(ctx, caller, identity.TokenDraft{UserID: user.ID, Name: "init", ExpiresAt: &expires})
		}
	}
	if err != nil {
		return Initialised{}, err
	}
	if err := a.endFirstStart(); err != nil {
		return Initialised{}, err
	}
	return Initialised{User: user, AccessToken: token, ExpiresAt: expires, First: a.first, Again: again}, nil
}
