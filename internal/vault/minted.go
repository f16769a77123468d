package vault

import (
	"slices"

	"signalbox.dev/signalbox/internal/fault"
)

// borrows reports whether tokens of a credential with these secret fields come by client credentials with the secret of its provider's client: that
// of the whole installation, and not of one person.
func (m Meta) borrows(fields []string) bool {
	return m.OAuth.GrantType == GrantClientCredentials && m.Provider != "" && m.OAuth.TokenEndpoint == "" && !slices.Contains(fields, "client_secret")
}

// mayBorrow refuses to have tokens minted as the installation's own client to a caller who reaches only what they own and were granted: no person
// consents to such a token, so whoever may store a credential could have one. What was minted so already stays, as long as it is for the same.
func (v verbs) mayBorrow(before Meta, borrowed bool, after Meta, fields []string) error {
	if v.all || !after.borrows(fields) {
		return nil
	}
	if borrowed && before.Provider == after.Provider && before.OAuth.ClientID == after.OAuth.ClientID && before.OAuth.Resource == after.OAuth.Resource &&
		slices.Equal(before.OAuth.Scopes, after.OAuth.Scopes) {
		return nil
	}
	return fault.New(fault.Forbidden, "forbidden", "By client credentials without a client_secret of its own this credential would get the tokens of the provider's client, which is the whole installation's. "+
		"Give it a client_id and a client_secret, or ask an operator or administrator of this Signalbox.").With("/oauth/grant_type", "needs a client_secret")
}
