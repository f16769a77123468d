package oauth

import (
	"context"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
)

// Credential returns a credential's metadata, as [vault.Room.Get] does.
func (l *Logins) Credential(ctx context.Context, caller identity.Caller, id string) (vault.Credential, error) {
	return l.vault.Get(ctx, caller, id)
}

// Credentials returns the credentials of type oauth that the caller may see; the first thousand.
func (l *Logins) Credentials(ctx context.Context, caller identity.Caller) ([]vault.Credential, error) {
	list, _, err := l.vault.List(ctx, caller, vault.Filter{Type: vault.OAuth, Limit: 1000})
	return list, err
}
