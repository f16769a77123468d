package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

// origin is where another program wants to sign in, as it says itself.
type origin struct {
	scheme, host string // the host with its port, if that is not the scheme's usual one
	// path is nil where the program does not tell: git leaves it out unless credential.useHttpPath is set.
	path     *string
	username string // that it wants the password of, if it minds
}

// newOrigin reads a protocol and a host. Anything in the host but a name and a port is refused: it might be compared as one host and used as another.
func newOrigin(scheme, host string) (origin, error) {
	scheme = strings.ToLower(scheme)
	// Some letters beyond ASCII become ASCII in lower case; a name in another script has a form in ASCII (RFC 5891).
	if strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		return origin{}, usage("the host that was asked for is not in ASCII; name it in its xn-- form")
	}
	u, err := url.Parse(scheme + "://" + host)
	if err != nil || scheme == "" || u.Host != host || u.User != nil || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return origin{}, usage("what was asked for names no protocol and host; it needs both, the host with its port at most")
	}
	return origin{scheme: scheme, host: strings.ToLower(host)}, nil
}

// String is the place as a URL without a path.
func (p origin) String() string { return p.scheme + "://" + p.host }

// authority is a host in the form in which two are compared: with the port, whatever the scheme.
func authority(scheme, host string) string {
	u := url.URL{Host: strings.ToLower(host)}
	port := u.Port()
	switch {
	case port != "":
	case strings.EqualFold(scheme, "http"):
		port = "80"
	default:
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// unbound says why a credential may not go to a place, "" if it may. It is the vault's rule for what is lent (hosts, and without any that of base_url), and
// narrower: a base_url with a path binds to what is below it, and without encryption nothing leaves this machine.
func unbound(cred client.Credential, at origin) string {
	if at.scheme != "https" && (at.scheme != "http" || !app.IsLocal(at.String())) {
		return "it is not asked for over https, and only to this machine may a secret go without"
	}
	base, err := url.Parse(cred.BaseURL)
	if err != nil || base.Host == "" {
		base = nil
	}
	want := authority(at.scheme, at.host)
	atBase := base != nil && authority(base.Scheme, base.Host) == want
	listed := slices.ContainsFunc(cred.Hosts, func(host string) bool { return authority(at.scheme, host) == want })
	switch {
	case len(cred.Hosts) == 0 && base == nil:
		return fmt.Sprintf("the credential %q is bound to no host; if it belongs there: signalbox cred edit %s --host %s", cred.Name, cred.ID, at.host)
	case !listed && (len(cred.Hosts) > 0 || !atBase):
		return fmt.Sprintf("the credential %q is not bound to that host, but to %s", cred.Name, strings.Join(boundPlaces(cred), ", "))
	case !atBase || strings.Trim(base.Path, "/") == "":
		return ""
	case at.path == nil:
		return fmt.Sprintf("the credential %q is bound to %s, and the path is not told; for git: git config --global credential.%s.useHttpPath true", cred.Name, base, at)
	case !below(*at.path, base.Path):
		return fmt.Sprintf("the credential %q is bound to %s, and another path is asked for", cred.Name, base)
	}
	return ""
}

// below reports whether a path is the other one or under it.
func below(path, above string) bool {
	path, above = strings.Trim(path, "/"), strings.Trim(above, "/")
	for step := range strings.SplitSeq(path, "/") {
		if step == "." || step == ".." {
			return false
		}
	}
	return path == above || strings.HasPrefix(path, above+"/")
}

// boundPlaces are where a credential may go: its hosts, and its base URL where that is narrower or all there is.
func boundPlaces(cred client.Credential) []string {
	base, err := url.Parse(cred.BaseURL)
	if err != nil || base.Host == "" {
		return cred.Hosts
	}
	where := base.Host
	if path := strings.Trim(base.Path, "/"); path != "" {
		where = base.Scheme + "://" + base.Host + "/" + path + "/"
	}
	if len(cred.Hosts) == 0 {
		return []string{where}
	}
	out := slices.Clone(cred.Hosts)
	for i, host := range out {
		if authority(base.Scheme, host) == authority(base.Scheme, base.Host) {
			out[i] = where
		}
	}
	return out
}

// signInFlags say what of a credential another program signs in with.
type signInFlags struct{ username, field string }

func (f *signInFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.username, "username", "", "user name to hand over (default the credential's)")
	cmd.Flags().StringVar(&f.field, "field", "", "secret field that is the password, where a credential has several that may be sent")
}

// name is the user name to hand over, "" for none.
func (f *signInFlags) name(cred client.Credential) string {
	if f.username != "" {
		return f.username
	}
	return cred.Username
}

// secretField is the field that is handed over. What is not made to be sent to a host (a private key, what refreshes a token) never is.
func (f *signInFlags) secretField(cred client.Credential) (string, error) {
	row, _ := vault.Lookup(vault.Type(cred.Type))
	sent := slices.DeleteFunc(slices.Clone(cred.SecretFields), func(name string) bool {
		field, known := row.Field(name)
		return !known || !field.Lent
	})
	switch {
	case len(sent) == 0:
		return "", usage("the credential %q is of type %s, of which no field is sent to a host", cred.Name, cred.Type)
	case f.field == "" && len(sent) == 1:
		return sent[0], nil
	case f.field == "":
		return "", usage("say with --field which secret field of %q is the password: %s", cred.Name, strings.Join(sent, ", "))
	case !slices.Contains(sent, f.field):
		return "", usage("the credential %q has no secret field %q that is sent to a host; there are: %s", cred.Name, f.field, strings.Join(sent, ", "))
	}
	return f.field, nil
}

// unfit says why a credential is not handed over in the state that it is in, "" if it is.
func unfit(cred client.Credential, now time.Time) string {
	if cred.Status != "active" && cred.Status != "expiring" {
		return fmt.Sprintf("the credential %q is %s", cred.Name, cred.Status)
	}
	if end := endOf(cred); end != nil && !end.After(now) {
		return fmt.Sprintf("the credential %q, or its token, ended on %s", cred.Name, moment(*end))
	}
	return ""
}

// endOf is when the secret that is handed over ends, nil for never.
func endOf(cred client.Credential) *time.Time {
	end := cred.ExpiresAt
	if cred.OAuth != nil && cred.OAuth.ExpiresAt != nil && (end == nil || cred.OAuth.ExpiresAt.Before(*end)) {
		end = cred.OAuth.ExpiresAt
	}
	return end
}

// handOverTo reveals what a program signs in with at a place. The server records the reveal, with the program and the place as its reason, before it opens anything.
func (s *shell) handOverTo(ctx context.Context, c *client.Client, cred client.Credential, field, program string, at origin) (secret.Value, error) {
	value, err := c.RevealCredential(ctx, cred.ID, field, program+" credential helper for "+at.String())
	return secret.FromString(value), err
}
