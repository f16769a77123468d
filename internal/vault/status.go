package vault

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// Status says whether a credential can be used.
type Status string

// The statuses. Active, disabled and compromised are set by people; expiring and expired come with time.
const (
	Active      Status = "active"
	Expiring    Status = "expiring"
	Expired     Status = "expired"
	Disabled    Status = "disabled"
	Compromised Status = "compromised"
)

// Statuses returns every status.
func Statuses() []Status { return []Status{Active, Expiring, Expired, Disabled, Compromised} }

// ExpiringWithin is how long before its expiry a credential is called expiring.
const ExpiringWithin = 30 * 24 * time.Hour

// Health says whether an OAuth connection works.
type Health string

// The healths.
const (
	Healthy          Health = "healthy"
	RefreshFailing   Health = "refresh_failing"   // the last refresh changed nothing at the provider; another follows
	RefreshUncertain Health = "refresh_uncertain" // nobody knows whether the provider took the last refresh
	NeedsLogin       Health = "needs_login"       // only a person can make it work again
)

// Healths returns every health, the best first.
func Healths() []Health { return []Health{Healthy, RefreshFailing, RefreshUncertain, NeedsLogin} }

// statusAt computes the status. What a person said weighs more than what time did; a state that is not known counts as disabled.
func statusAt(state Status, expires *time.Time, now time.Time) Status {
	switch {
	case state == Compromised:
		return Compromised
	case state != Active:
		return Disabled
	case expires == nil || expires.After(now.Add(ExpiringWithin)):
		return Active
	case expires.After(now):
		return Expiring
	default:
		return Expired
	}
}

// healthAt computes the health of an OAuth connection: what became of its last refresh, if this version had one. One that nothing can refresh
// ends with its access token.
func (s stored) healthAt(now time.Time) Health {
	switch {
	case !s.refreshes() && s.OAuth.ExpiresAt != nil && !s.OAuth.ExpiresAt.After(now):
		return NeedsLogin
	case s.connection == "" || s.connectionOf != s.Version:
		return Healthy
	case !slices.Contains(Healths(), s.connection):
		return NeedsLogin // what is not known denies
	}
	return s.connection
}

// refreshes reports whether there is something to refresh the credential with, and somewhere to do it.
func (s stored) refreshes() bool {
	means := slices.Contains(s.SecretFields, "refresh_token") || s.OAuth.GrantType == GrantClientCredentials
	return s.row.OAuth && means && (s.OAuth.TokenEndpoint != "" || s.Provider != "")
}

// Usable returns an empty string when the material may be lent at that moment, and otherwise why not, in words for a person.
func (m Material) Usable(now time.Time) string {
	if m.Tampered { // its status may be part of the lie
		return "it was changed outside Signalbox (credential_tampered); set its destinations anew"
	}
	switch statusAt(m.State, m.ExpiresAt, now) {
	case Active, Expiring:
	case Expired:
		return "it has expired"
	case Compromised:
		return "it is marked as compromised"
	default:
		return "it is disabled"
	}
	switch {
	case m.Damaged:
		return "its sealed secret does not open"
	case m.TokenExpires != nil && !m.TokenExpires.After(now) && (!m.Refreshes || m.Health == NeedsLogin):
		return "its access token has expired; it needs a new login"
	}
	return ""
}

// Bound reports whether the material may be sent to the host of u.
func (m Material) Bound(u *url.URL) bool { return bound(m.Hosts, u) }

// bound compares a URL with a list of hosts. An entry with a port admits that port alone, one without a port the scheme's usual one.
func bound(hosts []string, u *url.URL) bool {
	host := hostOf(u)
	if host == "" {
		return false
	}
	return slices.Contains(hosts, host) || slices.Contains(hosts, host+":"+usualPort(u.Scheme))
}

func usualPort(scheme string) string {
	switch strings.ToLower(scheme) {
	case "https":
		return "443"
	case "http":
		return "80"
	}
	return ""
}

// hostOf returns the host of a URL in the form in which hosts are compared: lower case, with the port unless it is the scheme's usual one.
func hostOf(u *url.URL) string {
	if u == nil || u.Hostname() == "" {
		return ""
	}
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port := u.Port(); port != "" && port != usualPort(u.Scheme) {
		return host + ":" + port
	}
	return host
}
