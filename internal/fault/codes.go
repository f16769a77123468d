package fault

// Code is one row of the table of stable codes.
type Code struct {
	Name    string
	Kind    Kind
	Meaning string
}

// Lookup returns the row of a code.
func Lookup(name string) (Code, bool) {
	for _, c := range Codes() {
		if c.Name == name {
			return c, true
		}
	}
	return Code{}, false
}

// Codes returns every code that a door can answer with, in the order of the reference.
func Codes() []Code {
	return codes[:]
}

var codes = [...]Code{
	{"internal", Internal, "an unexpected failure; the cause is in the server's log under the request id"},
	{"malformed_json", Invalid, "the body is not JSON, has a key twice, or is not UTF-8"},
	{"malformed_request", Invalid, "the request line, a header or the query is not well formed"},
	{"model_duplicate", Invalid, "a proxied body names the model twice, so two readers could see two models"},
	{"model_denied", Invalid, "the limits of a train, a client key or a person do not allow the model, or the body cannot be held against them"},
	{"model_unpriced", Invalid, "the model has no price, so that it cannot be held against a budget in money"},
	{"max_tokens_denied", Invalid, "the request asks for more tokens than a limit allows one answer, or does not say"},
	{"validation_failed", Unprocessable, "a field is missing, unknown, of the wrong type or out of bounds"},
	{"upstream_refused", Unprocessable, "the address is private, reserved or not https, and not allowed by name"},
	{"oauth_refused", Unprocessable, "the OAuth provider, or the person at it, refused the login"},
	{"idempotency_mismatch", Unprocessable, "the Idempotency-Key was used for another request"},
	{"secret_missing", Unprocessable, "the credential type needs a secret field that was not given"},
	{"unauthenticated", Unauthenticated, "no token or key, or one that is unknown, expired or revoked"},
	{"login_failed", Unauthenticated, "the e-mail address and the password do not belong together"},
	{"sso_failed", Unauthenticated, "a single sign-on did not come to its end, or its answer is not to be trusted"},
	{"second_factor_required", Unauthenticated, "the password was right, and the sign-in still needs a second factor"},
	{"passkey_refused", Unauthenticated, "the passkey is not known, or its answer does not belong to the question"},
	{"link_refused", Unauthenticated, "the one-time link was used, has expired or was replaced by a newer one"},
	{"setup_refused", Unauthenticated, "the set-up link was used, has expired or is not the current one"},
	{"forbidden", Forbidden, "the caller is known but may not do this"},
	{"read_only", Forbidden, "this instance changes nothing"},
	{"sso_refused", Forbidden, "single sign-on says who it is, and they may not sign in here"},
	{"step_up_required", Forbidden, "this needs a proof of who you are that is not older than five minutes"},
	{"password_wrong", Forbidden, "the current password is not right"},
	{"second_factor_wrong", Forbidden, "the code of the second factor is not right, or was used before"},
	{"second_factor_missing", Forbidden, "the role must have a second factor, and the person has to enrol one in a browser first"},
	{"cross_origin", Forbidden, "a browser sent this from another site"},
	{"scope_missing", Forbidden, "the token lacks the scope that this act needs"},
	{"train_mismatch", Forbidden, "the request names another train than the client key belongs to"},
	{"account_not_linked", Forbidden, "the named account is not linked to the train"},
	{"no_account", Forbidden, "no usable account is linked to the train"},
	{"limits_unknown", Forbidden, "the limits, or the counts of them, were written by another version, so that nothing can be held against them"},
	{"train_disabled", Unauthenticated, "the train is disabled"},
	{"host_not_bound", Forbidden, "the credential may not be sent to that host"},
	{"not_lendable", Forbidden, "the linked credential cannot be lent under /use as it is stored"},
	{"path_denied", Forbidden, "the credential may not be used with that method or that path"},
	{"provider_off", Forbidden, "logging in at this OAuth provider is switched off"},
	{"not_found", NotFound, "there is no such thing, or the caller may not see it"},
	{"not_served_here", NotFound, "this instance runs in another mode; another instance serves this"},
	{"method_not_allowed", MethodNotAllowed, "the route exists, but not with this method"},
	{"already_exists", Conflict, "the name or address is taken"},
	{"already_issued", Conflict, "the secret was shown once and is not kept"},
	{"idempotency_in_progress", Conflict, "the first request with this Idempotency-Key is still being handled"},
	{"rekey_running", Conflict, "the data key is being changed already"},
	{"root_key_changing", Conflict, "the root key is being changed, so no data key is made now"},
	{"idempotency_answer_lost", Conflict, "the first request with this Idempotency-Key was carried out, but its answer was not kept"},
	{"last_administrator", Conflict, "this would leave nobody who can sign in and administer"},
	{"last_owner", Conflict, "this would leave a private train without an owner who can sign in"},
	{"already_set_up", Conflict, "there is an administrator already"},
	{"key_limit_reached", Conflict, "the train has as many active client keys as it may have"},
	{"passkeys_unavailable", Conflict, "passkeys need a host name, and this Signalbox was not told its own"},
	{"key_active", Conflict, "only a revoked key can be purged"},
	{"login_required", Conflict, "the account cannot be refreshed; a person must log in at its provider again"},
	{"mcp_login_required", Conflict, "the caller has no connection to the MCP server, or its grant has ended; they must connect it again"},
	{"mcp_connection_barred", Forbidden, "the connection to the MCP server was disabled or contained; an operator must look"},
	{"mcp_scope_missing", Forbidden, "the connection to the MCP server lacks scopes that the request needs; they must be granted there"},
	{"train_in_use", Conflict, "the train still has links or active keys"},
	{"in_use", Conflict, "credentials, services or infrastructure still belong to it; the errors count and name them"},
	{"not_revealable", Conflict, "the credential has no such secret field"},
	{"credential_tampered", Conflict, "the credential was changed outside Signalbox, so it is neither lent nor revealed until its destinations are set anew"},
	{"state_conflict", Conflict, "the thing changed meanwhile, or is in a state that forbids this"},
	{"etag_mismatch", Precondition, "the thing changed since it was read"},
	{"provider_tampered", Conflict, "the OAuth provider was changed outside Signalbox, so no token is sent there"},
	{"client_missing", Conflict, "Signalbox has no client id at the OAuth provider yet"},
	{"terms_unread", Conflict, "the OAuth provider is switched on only by somebody who says that they read why it is off"},
	{"login_state_refused", Conflict, "the answer of an OAuth login was used already, came too late, or belongs to no login of this session"},
	{"body_too_large", TooLarge, "the body is over the limit"},
	{"unsupported_media", UnsupportedMedia, "the body must be application/json, or is compressed where it may not be"},
	{"login_throttled", TooMany, "too many failed logins; wait as long as Retry-After says"},
	{"accounts_cooling", TooMany, "all linked accounts are cooling down"},
	{"limit_reached", TooMany, "a limit of a train, a client key or a person is used up for now"},
	{"budget_spent", TooMany, "the budget of a train, a client key or a person is spent until the month ends"},
	{"rate_limited", TooMany, "too many requests"},
	{"audit_unavailable", Unavailable, "the act could not be recorded, so it did not happen"},
	{"database_unavailable", Unavailable, "the database does not answer, or its news are too old to be trusted"},
	{"sso_unreachable", Unavailable, "the single sign-on provider does not answer as it should"},
	{"encryption_key_missing", Unavailable, "the keyring is sealed or its root key is missing"},
	{"data_key_exhausted", Unavailable, "the active data key has sealed as much as one key may; what is stored can be read"},
	{"root_key_keeper", Unavailable, "the key management service that keeps the root key cannot be reached, refuses, or cannot open it"},
	{"memory_budget", Unavailable, "too many large request bodies are held at this moment"},
	{"draining", Unavailable, "this instance is shutting down; another one will serve the retry"},
	{"oauth_unreachable", Unavailable, "the OAuth provider could not be asked, or its answer was not usable"},
	{"public_url_missing", Unavailable, "where browsers reach this Signalbox is not known"},
	{"issuer_unreachable", Unavailable, "the keys of the outside issuer of a token could not be fetched"},
	{"refresh_failed", Unavailable, "the access token of the account could not be refreshed; another try follows"},
	{"refresh_pending", Unavailable, "the access token of the account is being refreshed, and that takes long"},
	{"upstream_answer", Unavailable, "the upstream's answer cannot be looked into, or is none, so it is not passed on; under /use the status is 502"},
	{"upstream_unreachable", Unavailable, "no linked account's upstream could be reached"},
}
