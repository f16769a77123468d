package oauth

import (
	"time"

	"signalbox.dev/signalbox/internal/fault"
)

// wait is when a connection may be asked again.
func wait(s standing, now time.Time) time.Duration {
	until := s.CoolUntil
	if s.State == Uncertain && s.SafeAt.After(until) {
		until = s.SafeAt
	}
	return max(until.Sub(now), 0)
}

// errNotRefreshed is what those are told who wait for a token that does not come.
func errNotRefreshed(s State, code string, wait time.Duration) error {
	after := max(int((wait+time.Second-1)/time.Second), 1)
	because := ""
	if code != "" {
		because = " (" + code + ")"
	}
	switch s {
	case Lost:
		return fault.New(fault.Conflict, "login_required", "The provider refuses to refresh this account"+because+". A person must log in again; nothing was deleted.")
	case Uncertain:
		return fault.New(fault.Unavailable, "refresh_failed", "It is not known whether the provider took the last refresh of this account"+because+
			". It is tried again as soon as that cannot do harm; logging in again mends it at once.").After(after)
	}
	return fault.New(fault.Unavailable, "refresh_failed", "The access token of this account could not be refreshed"+because+
		". It is tried again after a pause; `signalbox account refresh` tries at once.").After(after)
}

// errPending is what those are told whose patience ends.
func errPending() error {
	return fault.New(fault.Unavailable, "refresh_pending",
		"The access token of this account is being refreshed, and its provider has not answered for 25 seconds. Send the request again shortly.").After(2)
}
