package provider

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/secret"
)

const (
	maxQuery = 16 << 10
	maxCode  = 8 << 10
	maxState = 512
)

// Callback is what a person comes back with from a consent page: a code, or the error of a refusal.
type Callback struct {
	Code, State secret.Value
	// Issuer is iss (RFC 9207); "" when it is not there.
	Issuer string
	// Error is of [Codes], "" when there is a code.
	Error string
}

// CallbackError is why what came back is none. It quotes nothing.
type CallbackError struct{ text string }

// Error is a sentence that may be shown.
func (e *CallbackError) Error() string { return e.text }

// ParseCallback reads the query of a redirect (RFC 6749, section 4.1.2). Each parameter that counts must stand once; others are passed over,
// as the RFC asks.
func ParseCallback(query string) (Callback, error) {
	if len(query) > maxQuery {
		return Callback{}, &CallbackError{"The answer of the provider is too long. Start the login again."}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return Callback{}, &CallbackError{"The answer of the provider cannot be read. Start the login again."}
	}
	found := map[string]string{}
	for _, name := range []string{"code", "state", "iss", "error"} {
		list := values[name]
		if len(list) > 1 {
			return Callback{}, &CallbackError{"The answer of the provider says something twice. Start the login again."}
		}
		if len(list) == 1 {
			found[name] = list[0]
		}
	}
	return callback(found["code"], found["state"], found["iss"], found["error"])
}

func callback(code, state, iss, failure string) (Callback, error) {
	if !visible(state, maxState) || iss != "" && !visible(iss, maxIssuer) {
		return Callback{}, &CallbackError{"The answer of the provider does not belong to a login that was started here. Start the login again."}
	}
	out := Callback{State: secret.FromString(state), Issuer: iss}
	switch {
	case failure != "" && code != "":
		return Callback{}, &CallbackError{"The answer of the provider says both yes and no. Start the login again."}
	case failure != "":
		out.Error = CodeOther
		if slices.Contains(errorCodes(), failure) {
			out.Error = failure
		}
	case !visible(code, maxCode):
		return Callback{}, &CallbackError{"The answer of the provider holds no code. Start the login again."}
	default:
		out.Code = secret.FromString(code)
	}
	return out, nil
}

// ParsePaste reads what a person copied from a consent page: code#state as Anthropic shows it, or the whole address of the redirect.
func ParsePaste(pasted secret.Value) (Callback, error) {
	text := strings.TrimSpace(pasted.Reveal())
	if len(text) > maxQuery || !utf8.ValidString(text) {
		return Callback{}, &CallbackError{"What was pasted is not what the provider's page shows. Copy it again, whole."}
	}
	if strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://") {
		_, query, _ := strings.Cut(text, "?")
		query, _, _ = strings.Cut(query, "#")
		return ParseCallback(query)
	}
	code, state, ok := strings.Cut(text, "#")
	if !ok || strings.Contains(state, "#") {
		return Callback{}, &CallbackError{"What was pasted lacks the part after the #. Copy the whole text that the provider's page shows."}
	}
	return callback(code, state, "", "")
}

// CheckIssuer holds the issuer of a callback to that of the provider (RFC 9207): a code of another server must not be sent to this one.
func (p Provider) CheckIssuer(c Callback) error {
	if p.Issuer == "" || c.Issuer == p.Issuer || c.Issuer == "" && !p.NamesItself {
		return nil
	}
	return &CallbackError{"The answer is from another provider than the one that was asked. Start the login again."}
}
