package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"sync"
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
)

const (
	// nearEnd is how long before its end an access token is replaced.
	nearEnd = 2 * time.Minute
	// refreshTime bounds that. It is not cut short by Ctrl-C: an answer that is lost is a sign-in that is lost.
	refreshTime = 30 * time.Second
)

// loginKeeper hands out the access token of a sign-in, and replaces it when it is near its end, once for all commands that run at the time.
type loginKeeper struct {
	file   loginFile
	server string

	mu   sync.Mutex
	last savedLogin
}

func (k *loginKeeper) token(ctx context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Until(k.last.expires) < nearEnd {
		if err := k.renew(ctx); err != nil {
			return "", err
		}
	}
	return k.last.access.Reveal(), nil
}

func (k *loginKeeper) renew(ctx context.Context) error {
	unlock, err := k.file.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	have, err := k.file.read() // another command may have been first
	if err != nil {
		return err
	}
	if have == nil || have.server != k.server {
		return loginOver(k.server)
	}
	if time.Until(have.expires) >= nearEnd {
		k.last = *have
		return nil
	}
	if have.attempt == "" {
		have.attempt = "login-" + rand.Text()
		if err := k.file.write(*have); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTime)
	defer cancel()
	got, err := client.New(have.server, "", client.WithUserAgent(agent())).Idempotent(have.attempt).Refresh(ctx, have.refresh.Reveal())
	var refused *client.Error
	switch {
	case err == nil:
	case errors.As(err, &refused) && (refused.Status == http.StatusUnauthorized || refused.Code == "already_issued"):
		return loginOver(k.server)
	case time.Until(have.expires) > 0: // the server is away for a moment; the token is still good
		k.last = *have
		return nil
	default:
		return err
	}
	next := loginOf(k.server, got)
	k.last = next
	return k.file.write(next)
}

func loginOf(server string, got client.Login) savedLogin {
	return savedLogin{
		server: server, session: got.SessionID, access: secret.FromString(got.AccessToken), refresh: secret.FromString(got.RefreshToken), expires: time.Now().Add(time.Duration(got.ExpiresIn) * time.Second),
	}
}

func loginOver(server string) error {
	return fault.New(fault.Unauthenticated, "unauthenticated", "The sign-in at "+server+" has ended: somebody ended it, it was not used for 30 days, or the answer to its last refresh was lost.")
}
