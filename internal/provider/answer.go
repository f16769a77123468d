package provider

import (
	"time"

	"signalbox.dev/signalbox/internal/secret"
)

// Verdict says what an exchange means for the token or the code that was sent. There are no others.
type Verdict string

// The verdicts.
const (
	// Issued: a complete and valid answer with tokens (or, for [Client.Device], with a device code).
	Issued Verdict = "issued"
	// Revoked: the server took a revocation.
	Revoked Verdict = "revoked"
	// NotProcessed: the server did not spend what was sent; it may be sent again later. No connection was made, or the answer was a 4xx other
	// than the terminal three.
	NotProcessed Verdict = "not_processed"
	// Pending: only from [Client.Poll]; the person has not decided yet.
	Pending Verdict = "pending"
	// ServerError: a 5xx, or server_error.
	ServerError Verdict = "server_error"
	// Ambiguous: what was sent may have been spent, and its answer is lost.
	Ambiguous Verdict = "ambiguous"
	// Refused: what was sent works no more, and neither will it later: invalid_grant, invalid_client, unauthorized_client; from [Client.Poll]
	// access_denied and expired_token too.
	Refused Verdict = "refused"
)

// Answer is what became of an exchange. It may be logged and recorded except for Tokens, which print as nothing but a placeholder.
type Answer struct {
	Verdict Verdict
	Tokens  Tokens
	// Code is of the closed list [Codes]: the error code of the server where it is one that the RFCs know, else a word of ours. "" when issued.
	Code   string
	Status int // of HTTP; 0 when there was no answer
	// RetryAfter is how long the server asks to be left alone; 0 when it does not. It is capped at an hour.
	RetryAfter time.Duration
	// Sent says that bytes of the request may have left for one of the addresses; it is false only when that is certain.
	Sent bool
}

// Tokens is what a server issued.
type Tokens struct {
	Access secret.Value
	// Refresh is zero when the answer holds none: the old one stays.
	Refresh secret.Value
	// Lifetime of the access token; 0: unknown. It has a floor and a cap, see [Config].
	Lifetime time.Duration
	// Scopes are those granted; nil when the answer does not say: those that were asked for.
	Scopes []string
	// Subject is who consented, as the provider's own id; "" when the answer does not say.
	Subject string
}

// DeviceGrant is the answer of a device authorization endpoint (RFC 8628). UserCode and the addresses are to be shown to the person.
type DeviceGrant struct {
	DeviceCode                 secret.Value
	UserCode                   string
	VerifyURL, VerifyURLFilled string // the latter holds the user code; "" when there is none
	Lifetime, Interval         time.Duration
}

// Codes of ours.
const (
	CodeDial        = "dial"       // no connection
	CodeGuard       = "guard"      // the address may not be called
	CodeTLS         = "tls"        // no trusted connection
	CodeTimeout     = "timeout"    // no complete answer in time
	CodeCancelled   = "cancelled"  // the caller gave up
	CodeBroken      = "broken"     // the connection ended before the answer was complete
	CodeUnreadable  = "unreadable" // an answer that is not what the RFCs ask for
	CodeTooLarge    = "too_large"  // an answer over 64 KiB
	CodeEncoded     = "encoded"    // a compressed answer, which was not asked for
	CodeRedirect    = "redirect"   // a 3xx, which is not followed
	CodeNotFound    = "not_found"  // a 404 from the last address
	CodeRateLimited = "rate_limited"
	CodeHTTPError   = "http_error"  // a 4xx or 5xx without an error code that is known
	CodeOther       = "other_error" // an error code that is not of the list
	CodeTokenType   = "token_type"  // a token that is no bearer token
	CodeUnusable    = "unusable"    // the provider has no such endpoint, or what was given cannot be sent
)
