package provider

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/strict"
)

// maxRetryAfter bounds how long a server may have us wait.
const maxRetryAfter = time.Hour

// terminal are the errors after which what was sent works no more (docs/design/refresh.md, "What came back").
func terminal(code string) bool {
	return code == "invalid_grant" || code == "invalid_client" || code == "unauthorized_client"
}

// errorCodes are the codes of errors of RFC 6749, 6750, 7009, 8628, 8707 and OpenID Connect Core, 3.1.2.6.
func errorCodes() []string {
	return []string{
		"access_denied", "account_selection_required", "authorization_pending", "consent_required", "expired_token", "insufficient_scope",
		"interaction_required", "invalid_client", "invalid_grant", "invalid_request", "invalid_scope", "invalid_target", "invalid_token",
		"login_required", "server_error", "slow_down", "temporarily_unavailable", "unauthorized_client", "unsupported_grant_type",
		"unsupported_response_type", "unsupported_token_type",
	}
}

// Codes returns the closed list of what [Answer.Code] may be, besides nothing.
func Codes() []string {
	return append(errorCodes(), CodeDial, CodeGuard, CodeTLS, CodeTimeout, CodeCancelled, CodeBroken, CodeUnreadable, CodeTooLarge, CodeEncoded,
		CodeRedirect, CodeNotFound, CodeRateLimited, CodeHTTPError, CodeOther, CodeTokenType, CodeUnusable)
}

// judge says what a reply means. It is the table "What came back" of docs/design/refresh.md.
func (c *Client) judge(p Provider, r reply) (Answer, map[string]any) {
	a := Answer{Status: r.status, Sent: r.sent}
	body, readable := r.object()
	switch {
	case r.status == 0: // no answer
		a.Verdict, a.Code = Ambiguous, r.code
		if !r.sent {
			a.Verdict = NotProcessed
		}
	case r.status >= 500:
		a.Verdict, a.Code = ServerError, p.errorCode(body, CodeHTTPError)
		a.RetryAfter = c.retryAfter(r.header)
	case r.status == http.StatusTooManyRequests:
		a.Verdict, a.Code, a.RetryAfter = NotProcessed, CodeRateLimited, c.retryAfter(r.header)
	case r.status == http.StatusNotFound:
		a.Verdict, a.Code = NotProcessed, CodeNotFound
	case r.status >= 400:
		// A status of this class says that the request was not granted, in whatever shape the rest is: a gateway's page, or nothing.
		a.Verdict, a.Code, a.RetryAfter = NotProcessed, p.errorCode(body, CodeHTTPError), c.retryAfter(r.header)
		a.decide()
	case r.status >= 300:
		a.Verdict, a.Code = Ambiguous, CodeRedirect
		if slices.Contains([]int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect}, r.status) {
			a.Verdict = NotProcessed // it is to be sent elsewhere; 303 alone may follow a request that was carried out
		}
	case r.status >= 200 && r.code != "":
		a.Verdict, a.Code = Ambiguous, r.code
	case r.status >= 200 && readable:
		if code := p.errorCode(body, ""); code != "" { // GitHub and Slack answer errors with 200
			if p.holder(body) != nil {
				a.Verdict, a.Code = Ambiguous, CodeUnreadable
				break
			}
			a.Verdict, a.Code = NotProcessed, code
			a.decide()
			break
		}
		a.Verdict = Issued
		return a, body
	default:
		a.Verdict, a.Code = Ambiguous, CodeUnreadable
	}
	return a, nil
}

// decide turns a refusal into the verdict of its code.
func (a *Answer) decide() {
	switch {
	case terminal(a.Code):
		a.Verdict = Refused
	case a.Code == "server_error":
		a.Verdict = ServerError
	}
}

// object reads the body. A body of a form is read as one, as some servers answer forms.
func (r reply) object() (map[string]any, bool) {
	if r.code != "" {
		return nil, false
	}
	if len(r.body) == 0 {
		return nil, false
	}
	kind, _, _ := strings.Cut(r.header.Get("Content-Type"), ";")
	if strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
		return formObject(string(r.body))
	}
	m, err := strict.Object(r.body)
	return m, err == nil
}

// errorCode is the code of the error that a body states, "" when it states none; instead is for a body that should state one.
func (p Provider) errorCode(body map[string]any, instead string) string {
	found := false
	for _, path := range append([]string{"error"}, p.Shape.Errors...) {
		v := at(body, path)
		if v == nil || v == "" {
			continue
		}
		found = true
		word, ok := v.(string)
		if !ok {
			continue
		}
		if code, ok := p.Shape.Codes[word]; ok {
			return code
		}
		if slices.Contains(errorCodes(), word) {
			return word
		}
	}
	if found {
		return CodeOther
	}
	return instead
}

// at follows a path of names.
func at(body map[string]any, path string) any {
	for {
		name, rest, more := strings.Cut(path, ".")
		v := body[name]
		if !more {
			return v
		}
		next, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		body, path = next, rest
	}
}

// retryAfter reads that header in both of its forms (RFC 9110, section 10.2.3).
func (c *Client) retryAfter(h http.Header) time.Duration {
	s := strings.TrimSpace(h.Get("Retry-After"))
	var wait time.Duration
	if n, err := strconv.ParseUint(s, 10, 63); err == nil {
		wait = maxRetryAfter
		if n < uint64(maxRetryAfter/time.Second) {
			wait = time.Duration(n) * time.Second
		}
	} else if t, err := http.ParseTime(s); err == nil {
		wait = t.Sub(c.cfg.Clock())
	}
	return min(max(wait, 0), maxRetryAfter)
}
