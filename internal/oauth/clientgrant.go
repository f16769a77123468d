package oauth

import (
	"context"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// LoginClient gets tokens with a program's own secret (RFC 6749, section 4.4): that of clientID, or the provider's when it is empty. A client of
// its own is kept with the credential, since each new token needs it. The provider's is the whole installation's and no person consents to such a
// token, so it is only for whoever reaches every credential.
func (l *Logins) LoginClient(ctx context.Context, caller identity.Caller, s Start, clientID string, clientSecret secret.Value) (Finished, error) {
	s.Way = ByClient
	if (clientID == "") != clientSecret.IsZero() {
		return Finished{}, fault.New(fault.Unprocessable, "validation_failed", "The login cannot be begun like this; see errors.").With("/client_id", "and client_secret are given together, or neither")
	}
	if len(clientID) > textMax || clientSecret.Len() > urlMax {
		return Finished{}, fault.New(fault.Unprocessable, "validation_failed", "The login cannot be begun like this; see errors.").With("/client_id", "or client_secret is too long")
	}
	var f flow
	var k Known
	own := clientSecret
	var refusal error
	if err := l.beginAs(ctx, caller, s, clientID, func(tx *store.Tx, known Known, begun flow) error {
		f, k, refusal = begun, known, nil
		if own.IsZero() && identity.Allow(caller, identity.CredentialWrite) != nil {
			refusal = fault.New(fault.Forbidden, "forbidden", "The provider's client is the whole installation's, so only an operator or administrator of this Signalbox gets tokens as that client. "+
				"Give client_id and client_secret of a client of your own, or ask one of them.")
			return refusal
		}
		if !k.ClientCredentials {
			return fault.New(fault.Unprocessable, "validation_failed", "This provider gives programs no tokens of their own. Log in with a browser instead.").With("/provider", "has no client credentials grant")
		}
		return nil
	}); refusal != nil {
		return Finished{}, l.refuse(ctx, caller, k.target(), refusal)
	} else if err != nil {
		return Finished{}, err
	}
	key := own
	if own.IsZero() {
		key = k.secret
	}
	if key.IsZero() {
		return Finished{}, fault.New(fault.Unprocessable, "secret_missing", "A login with client credentials needs a client secret: the provider's, or give client_id and client_secret.").With("/client_secret", "is needed")
	}
	answer := l.wire.ClientCredentials(ctx, k.Provider, provider.Ask{ClientID: f.ClientID, ClientSecret: key, Scopes: f.Scopes, Resource: f.Resource})
	if answer.Verdict != provider.Issued {
		return Finished{}, l.failed(ctx, caller, f, k, answer)
	}
	answer.Tokens.Refresh = secret.Value{} // RFC 6749, section 4.4.3: there should be none, and none is needed
	c, err := l.keep(context.WithoutCancel(ctx), caller, f, k, answer.Tokens, keeping{grant: vault.GrantClientCredentials, secret: own})
	if err != nil {
		return Finished{}, err
	}
	return Finished{Credential: c, Relogin: f.Credential != ""}, nil
}
