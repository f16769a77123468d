package broker

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/quota"
)

// quotaHeaders tells what is left of our own limits beside an upstream's answer. Where ours leave less than the upstream's, its own numbers would mislead: they are
// taken out. Where the upstream itself has refused, its own limit is the one that binds, and its headers pass alone.
func quotaHeaders(h http.Header, status int, left quota.Standing) {
	if left.Requests == nil && left.Tokens == nil || status == http.StatusTooManyRequests {
		return
	}
	drop(h, "X-Ratelimit-")
	if binds(h, left) {
		drop(h, "Anthropic-Ratelimit-")
	}
	limitHeaders(h, "Requests", left.Requests)
	limitHeaders(h, "Tokens", left.Tokens)
}

func limitHeaders(h http.Header, what string, l *quota.Left) {
	if l == nil {
		return
	}
	for _, suffix := range [...]string{"-" + what, ""} {
		if suffix == "" && len(h["X-Ratelimit-Limit"]) > 0 { // the limit of requests has the short names where there is one
			continue
		}
		h["X-Ratelimit-Limit"+suffix] = []string{strconv.FormatInt(l.Most, 10)}
		h["X-Ratelimit-Remaining"+suffix] = []string{strconv.FormatInt(l.Left, 10)}
		h["X-Ratelimit-Reset"+suffix] = []string{strconv.FormatInt(l.Frees, 10)}
	}
}

// binds reports whether our own limits leave less than those of the upstream that can be compared with them; what it does not tell leaves more.
func binds(h http.Header, left quota.Standing) bool {
	if strings.EqualFold(h.Get("Anthropic-Ratelimit-Unified-Status"), "rejected") { // an account may go on beyond it, at a price
		return false
	}
	tighter := func(l *quota.Left, names ...string) bool {
		if l == nil {
			return false
		}
		for _, name := range names {
			if n, err := strconv.ParseInt(h.Get(name), 10, 64); err == nil && n <= l.Left {
				return false
			}
		}
		return true
	}
	return tighter(left.Requests, "Anthropic-Ratelimit-Requests-Remaining") ||
		tighter(left.Tokens, "Anthropic-Ratelimit-Tokens-Remaining", "Anthropic-Ratelimit-Input-Tokens-Remaining", "Anthropic-Ratelimit-Output-Tokens-Remaining")
}

func drop(h http.Header, prefix string) {
	for name := range h {
		if strings.HasPrefix(name, prefix) {
			delete(h, name)
		}
	}
}

// refusedHeaders tells of the limit that refused a request.
func refusedHeaders(h http.Header, f *fault.Error, now time.Time) {
	var over *quota.Refusal
	if !errors.As(error(f), &over) {
		return
	}
	l := &quota.Left{Most: over.Most, Frees: over.After}
	switch k := over.Kind; {
	case k <= quota.RequestsPerDay:
		limitHeaders(h, "Requests", l)
	case k <= quota.MonthlyTokens:
		limitHeaders(h, "Tokens", l)
	}
	if f.Code != "budget_spent" {
		return
	}
	// As the API itself tells of a spent budget; agents show our text then, and do not try again.
	reset := strconv.FormatInt(now.Unix()+over.After, 10)
	h.Set("Anthropic-Ratelimit-Unified-Status", "rejected")
	h.Set("Anthropic-Ratelimit-Unified-Reset", reset)
	h.Set("Anthropic-Ratelimit-Unified-Overage-Reset", reset)
	h.Set("Anthropic-Ratelimit-Unified-Overage-Utilization", "1")
}
