package oidc

import (
	"context"
	"crypto/subtle"
	"errors"
	"slices"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
)

// skew is how far the clocks of a provider and of this machine may be apart.
const skew = time.Minute

// Ask is one sign-in as it is begun.
type Ask struct {
	State, Nonce, Verifier secret.Value
	// Anew has the provider ask for the login again whoever is signed in there.
	Anew bool
	// Hint is the login that the provider may fill in.
	Hint string
}

// Address returns where the browser goes to sign in. It holds the state and the nonce.
func (c *Client) Address(ctx context.Context, reg Registration, a Ask) (secret.Value, error) {
	e, err := c.find(ctx, reg.Issuer, false)
	if err != nil {
		return secret.Value{}, err
	}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(a.Verifier.Reveal()), goidc.Nonce(a.Nonce.Reveal())}
	if a.Anew {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	if a.Hint != "" {
		options = append(options, oauth2.SetAuthURLParam("login_hint", a.Hint))
	}
	return secret.FromString(reg.config(e.meta).AuthCodeURL(a.State.Reveal(), options...)), nil
}

func (r Registration) config(m Metadata) *oauth2.Config {
	scopes := []string{goidc.ScopeOpenID}
	for _, s := range r.Scopes {
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return &oauth2.Config{ClientID: r.ClientID, ClientSecret: r.Secret.Reveal(), Endpoint: m.endpoint(!r.Secret.IsZero()), RedirectURL: r.RedirectURI, Scopes: scopes}
}

// Answer is what the browser came back with, and what it is held to.
type Answer struct {
	Code, Verifier, Nonce secret.Value
	// Issuer is the parameter iss, "" when there was none.
	Issuer string
	// After, unless it is zero, is when the login at the provider may have been at the earliest.
	After time.Time
	// Want are claims to ask the provider for when the ID token lacks them.
	Want []string
}

// CheckIssuer compares the parameter iss of an answer (RFC 9207), which a provider that says it sends it must send. It comes before the code is
// sent anywhere, since a code of another provider must not be.
func (c *Client) CheckIssuer(ctx context.Context, reg Registration, iss string) error {
	e, err := c.find(ctx, reg.Issuer, false)
	if err != nil {
		return err
	}
	if iss != reg.Issuer && (iss != "" || e.meta.NamesItself) {
		return failed("iss_mismatch", "The answer is from another provider than the one that was asked.")
	}
	return nil
}

// Exchange turns a code into claims. Its errors are of type [Failure].
func (c *Client) Exchange(ctx context.Context, reg Registration, a Answer) (Claims, error) {
	if err := c.CheckIssuer(ctx, reg, a.Issuer); err != nil {
		return Claims{}, err
	}
	e, err := c.find(ctx, reg.Issuer, false)
	if err != nil {
		return Claims{}, err
	}
	token, err := reg.config(e.meta).Exchange(c.context(ctx), a.Code.Reveal(), oauth2.VerifierOption(a.Verifier.Reveal()))
	if err != nil {
		return Claims{}, exchangeFailure(err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok || raw == "" {
		return Claims{}, failed("no_id_token", "The provider gave no ID token.")
	}
	claims, err := c.verify(ctx, e, reg, a, raw, token.AccessToken)
	if err != nil {
		return Claims{}, err
	}
	return c.complete(ctx, e, claims, token, a.Want)
}

func exchangeFailure(err error) error {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		if errors.Is(err, outbound.ErrRefused) {
			return failed("address_refused", "The provider's token endpoint may not be called.")
		}
		return away("The provider's token endpoint", err)
	}
	switch refused.ErrorCode { // what else stands there is the provider's own text
	case "invalid_grant":
		return failed("invalid_grant", "The provider no longer takes this sign-in: it took too long or was used already. Try again.")
	case "invalid_client", "unauthorized_client":
		return failed("invalid_client", "The provider does not know this Signalbox: the client id or the client secret is wrong.")
	}
	return failed("exchange_refused", "The provider refused to tell who signed in.")
}

// verify checks the ID token as OpenID Connect Core 3.1.3.7 asks.
func (c *Client) verify(ctx context.Context, e *entry, reg Registration, a Answer, raw, access string) (Claims, error) {
	now := c.cfg.Clock()
	verifier := goidc.NewVerifier(reg.Issuer, e.keys, &goidc.Config{ClientID: reg.ClientID, SupportedSigningAlgs: Algorithms(), Now: c.cfg.Clock})
	token, err := verifier.Verify(c.context(ctx), raw)
	if err != nil {
		return Claims{}, failed("token_invalid", "The provider's ID token is not valid: its signature, issuer, audience or time is wrong.")
	}
	var all map[string]any
	if err := token.Claims(&all); err != nil {
		return Claims{}, failed("token_invalid", "The provider's ID token is not readable.")
	}
	claims := Claims{all}
	azp, named := all["azp"]
	switch {
	case token.Issuer != reg.Issuer: // go-oidc forgives Google a missing scheme
		return Claims{}, failed("token_invalid", "The provider's ID token is from another issuer.")
	case named && azp != any(reg.ClientID), !named && len(token.Audience) > 1:
		return Claims{}, failed("audience", "The provider's ID token was made for another client.")
	case token.IssuedAt.After(now.Add(skew)):
		return Claims{}, failed("token_invalid", "The provider's ID token is from the future. Compare the clocks of both machines.")
	case len(token.Nonce) == 0 || subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(a.Nonce.Reveal())) != 1:
		return Claims{}, failed("nonce_mismatch", "The provider's ID token is of another sign-in.")
	case token.AccessTokenHash != "" && token.VerifyAccessToken(access) != nil:
		return Claims{}, failed("token_invalid", "The provider's access token does not belong to its ID token.")
	case !plain(token.Subject, 255):
		return Claims{}, failed("subject", "The provider does not say who signed in.")
	}
	if !a.After.IsZero() {
		at, ok := claims.time("auth_time")
		if !ok {
			return Claims{}, failed("not_fresh", "The provider does not say when the login was, so it proves nothing new.")
		}
		if at.Before(a.After.Add(-skew)) {
			return Claims{}, failed("not_fresh", "The provider did not ask for the login again, so it proves nothing new.")
		}
	}
	return claims, nil
}

// complete asks for wanted claims that the ID token lacks. What it brings never replaces what the token says.
func (c *Client) complete(ctx context.Context, e *entry, claims Claims, token *oauth2.Token, want []string) (Claims, error) {
	missing := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return name == "" || claims.find(name) != nil })
	if len(missing) == 0 || e.meta.UserInfo == "" || token.AccessToken == "" {
		return claims, nil
	}
	provider := (&goidc.ProviderConfig{IssuerURL: e.meta.Issuer, UserInfoURL: e.meta.UserInfo, JWKSURL: e.meta.Keys, Algorithms: Algorithms()}).NewProvider(c.context(ctx))
	info, err := provider.UserInfo(c.context(ctx), oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token.AccessToken, TokenType: "Bearer"}))
	if err != nil {
		return Claims{}, &Failure{Code: "userinfo", Away: true, text: "The provider did not say more of who signed in."}
	}
	var more map[string]any
	if err := info.Claims(&more); err != nil {
		return Claims{}, failed("userinfo", "What the provider says of who signed in is not readable.")
	}
	if sub, _ := more["sub"].(string); sub != claims.Subject() {
		return Claims{}, failed("userinfo", "What the provider says is of somebody else than who signed in.")
	}
	for _, name := range missing {
		if v := (Claims{more}).find(name); v != nil {
			claims.all[name] = v
		}
	}
	return claims, nil
}
