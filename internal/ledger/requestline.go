package ledger

import (
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/store"
)

// RequestColumns names the columns of [Request.Line], in the words of the API. They are always all of them, so that a program finds each in its place.
func RequestColumns() []string {
	return []string{
		"at", "request_id", "train_id", "client_key_id", "client_key_name", "user_id", "user_name", "method", "path", "model_asked", "model", "credential_id", "credential_name", "attempts", "accounts_tried",
		"outcome", "status", "first_byte_ms", "duration_ms", "request_bytes", "response_bytes", "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_5m_tokens", "cache_creation_1h_tokens",
		"tool_calls", "cost_usd", "train_internal_id",
	}
}

// Line is the request as a line of a table. What nobody knows is empty.
func (r *Request) Line() []string {
	known := func(n int64, is bool) string {
		if !is {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	ended := len(r.Attempts) > 0 && r.Attempts[len(r.Attempts)-1].Outcome != ""
	told := r.State != Pending && r.State != Unknown
	cost := ""
	if told && r.Cost.Known() {
		cost = price.Dollars(r.Cost.Micro())
	}
	line := []string{r.At.UTC().Format(store.TimeFormat), r.ID, r.Train.Name, r.Key.ID, r.Key.Name, r.User.ID, r.User.Name, r.Method, r.Path, r.Asked, r.Model, r.Credential.ID, r.Credential.Name,
		strconv.Itoa(len(r.Attempts)), r.tried(), string(r.State), known(int64(r.Status), r.Status > 0), known(r.FirstByte.Milliseconds(), r.FirstByte > 0), known(r.Duration.Milliseconds(), ended)}
	line = append(line, strconv.FormatInt(r.Sent, 10), known(r.Received, told || r.Received > 0))
	for _, n := range [...]int64{r.Tokens.Input, r.Tokens.Output, r.Tokens.CacheRead, r.Tokens.CacheWrite5m, r.Tokens.CacheWrite1h, r.Tools} {
		line = append(line, known(n, told))
	}
	return append(line, cost, r.Train.ID)
}

// tried names the accounts in the order in which they were tried, each with why it was left.
func (r *Request) tried() string {
	var out []string
	for i := range r.Attempts {
		a := &r.Attempts[i]
		text := a.Credential.Name
		if text == "" {
			text = a.Credential.ID
		}
		if why := a.Why(); why != "" {
			text += " (" + why + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// Why is what an attempt failed of, in a word or two; "" where it did not, or is under way.
func (a *Attempt) Why() string {
	switch {
	case a.Status >= 400:
		return strconv.Itoa(a.Status)
	case a.Result == "" || a.Result == "ok":
		return ""
	}
	return strings.ReplaceAll(a.Result, "_", " ")
}
