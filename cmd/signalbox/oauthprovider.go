package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"signalbox.dev/signalbox/client"
)

func (s *shell) providerList() *cobra.Command {
	return s.remote("list", "List the OAuth providers", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		list, err := c.ListOAuthProviders(cmd.Context())
		if err != nil {
			return err
		}
		return s.show(map[string]any{"providers": list}, func() {
			t := table{head: []string{"NAME", "TITLE", "STATE", "CLIENT ID", "WAYS"}}
			for _, p := range list {
				t.add(p.Name, p.Title, providerState(p), orDash(p.ClientID), strings.Join(ways(p), ", "))
			}
			s.print(t, "No OAuth providers.")
		})
	})
}

func providerState(p client.OAuthProvider) string {
	switch {
	case p.Tampered:
		return "tampered"
	case !p.Enabled:
		return "off"
	case p.ClientID == "":
		return "needs a client id"
	}
	return "ready"
}

func ways(p client.OAuthProvider) (out []string) {
	switch {
	case p.PasteBack:
		out = append(out, "paste")
	case p.AuthorizeURL != "":
		out = append(out, "browser")
	}
	if p.DeviceURL != "" {
		out = append(out, "device")
	}
	return out
}

func (s *shell) providerShow() *cobra.Command {
	return s.remote("show PROVIDER", "Show an OAuth provider and what to register there", words("PROVIDER"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		p, err := c.GetOAuthProvider(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return s.show(map[string]any{"provider": p}, func() { s.describeProvider(p) })
	})
}

func (s *shell) describeProvider(p client.OAuthProvider) {
	pairs := func(list []client.NamedText) string {
		var out []string
		for _, x := range list {
			out = append(out, x.Name+"="+x.Value)
		}
		return strings.Join(out, "\n")
	}
	s.facts("Name", p.Name, "Title", p.Title, "State", providerState(p), "Catalogue", yes(p.Catalogue), "Issuer", p.Issuer, "Consent page", p.AuthorizeURL,
		"Token endpoint", strings.Join(p.TokenURLs, "\n"), "Device endpoint", p.DeviceURL, "Revocation", p.RevokeURL, "Client id", p.ClientID, "Client secret", yes(p.HasClientSecret),
		"Authentication", p.Auth, "Request format", p.Format, "Scopes", strings.Join(p.Scopes, " "), "Asked besides", pairs(p.AuthorizeParams), "Sent besides", pairs(p.TokenHeaders),
		"Redirect to register", p.CallbackURL, "Pasted from", p.RedirectURL, "Used at", p.BaseURL, "Off because", offBecause(p), "Recipe", p.Recipe)
}

func offBecause(p client.OAuthProvider) string {
	if p.Enabled {
		return ""
	}
	return p.Consumer
}

// providerFlags are what is set of a provider on the command line.
type providerFlags struct {
	title, issuer, authorize, device, revoke, separator, clientID, auth, format, redirect, base string
	tokens, scopes, hosts, params, headers                                                      []string
	grace                                                                                       int64
	iss, state, paste, secretStdin                                                              bool
}

func (f *providerFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.title, "title", "", "what people are shown (default the name)")
	flags.StringVar(&f.issuer, "issuer", "", "its issuer, such as https://id.example.com; without the addresses it is asked for them")
	flags.BoolVar(&f.iss, "names-itself", false, "its answers carry iss, and one without it is refused")
	flags.StringVar(&f.authorize, "authorize-url", "", "its consent page")
	flags.StringSliceVar(&f.tokens, "token-url", nil, "its token endpoint (may be given several times; asked in order)")
	flags.StringVar(&f.device, "device-url", "", "its device authorization endpoint")
	flags.StringVar(&f.revoke, "revoke-url", "", "its revocation endpoint")
	flags.StringSliceVar(&f.scopes, "oauth-scope", nil, "scope to ask for (may be given several times)")
	flags.StringVar(&f.separator, "scope-separator", "", "what stands between scopes (default a space)")
	flags.StringVar(&f.clientID, "client-id", "", "the client id that it gave this Signalbox")
	flags.BoolVar(&f.secretStdin, "client-secret-stdin", false, "read the client secret from standard input")
	flags.StringVar(&f.auth, "token-auth-method", "", "client_secret_basic, client_secret_post or none")
	flags.StringVar(&f.format, "token-request-format", "", "form or json")
	flags.StringArrayVar(&f.params, "authorize-param", nil, "NAME=VALUE that its consent page is asked besides (may be given several times)")
	flags.StringArrayVar(&f.headers, "token-header", nil, "NAME=VALUE that its token endpoint is sent besides (may be given several times)")
	flags.BoolVar(&f.state, "state-in-exchange", false, "it wants the state with the code")
	flags.BoolVar(&f.paste, "paste-back", false, "its page at --redirect-url shows a code to be pasted")
	flags.StringVar(&f.redirect, "redirect-url", "", "that page")
	flags.Int64Var(&f.grace, "grace", 0, "seconds for which an old refresh token still works after its use")
	flags.StringVar(&f.base, "base-url", "", "where its access tokens are used")
	flags.StringSliceVar(&f.hosts, "host", nil, "host that its access tokens may be sent to (may be given several times)")
}

// edit returns what the flags say, leaving out those that were not given.
func (f *providerFlags) edit(ctx context.Context, s *shell, flags *pflag.FlagSet) (e client.OAuthProviderEdit, err error) {
	for flag, to := range map[string]struct {
		from *string
		to   **string
	}{
		"title": {&f.title, &e.Title}, "issuer": {&f.issuer, &e.Issuer}, "authorize-url": {&f.authorize, &e.AuthorizeURL}, "device-url": {&f.device, &e.DeviceURL},
		"revoke-url": {&f.revoke, &e.RevokeURL}, "scope-separator": {&f.separator, &e.ScopeSeparator}, "client-id": {&f.clientID, &e.ClientID},
		"token-auth-method": {&f.auth, &e.Auth}, "token-request-format": {&f.format, &e.Format}, "redirect-url": {&f.redirect, &e.RedirectURL}, "base-url": {&f.base, &e.BaseURL},
	} {
		if flags.Changed(flag) {
			*to.to = to.from
		}
	}
	for flag, to := range map[string]struct {
		from *[]string
		to   **[]string
	}{"token-url": {&f.tokens, &e.TokenURLs}, "oauth-scope": {&f.scopes, &e.Scopes}, "host": {&f.hosts, &e.Hosts}} {
		if flags.Changed(flag) {
			*to.to = to.from
		}
	}
	for flag, to := range map[string]struct {
		from *bool
		to   **bool
	}{"names-itself": {&f.iss, &e.NamesItself}, "state-in-exchange": {&f.state, &e.StateInExchange}, "paste-back": {&f.paste, &e.PasteBack}} {
		if flags.Changed(flag) {
			*to.to = to.from
		}
	}
	if flags.Changed("grace") {
		e.GraceSeconds = &f.grace
	}
	for flag, to := range map[string]struct {
		from []string
		to   **[]client.NamedText
	}{"authorize-param": {f.params, &e.AuthorizeParams}, "token-header": {f.headers, &e.TokenHeaders}} {
		if !flags.Changed(flag) {
			continue
		}
		list := []client.NamedText{}
		for _, text := range to.from {
			name, value, ok := strings.Cut(text, "=")
			if !ok {
				return e, usage("--%s is NAME=VALUE", flag)
			}
			list = append(list, client.NamedText{Name: name, Value: value})
		}
		*to.to = &list
	}
	if f.secretStdin {
		key, err := s.readStdin("--client-secret-stdin")
		if err != nil {
			return e, err
		}
		text := strings.TrimSpace(key.Reveal())
		e.ClientSecret = &text
	}
	return e, nil
}

func (s *shell) providerAdd() *cobra.Command {
	var f providerFlags
	cmd := s.remote("add PROVIDER", "Add an OAuth provider: by its issuer, or by its addresses", words("PROVIDER"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		e, err := f.edit(cmd.Context(), s, cmd.Flags())
		if err != nil {
			return err
		}
		e.Name = &args[0]
		p, err := c.AddOAuthProvider(cmd.Context(), e)
		if err != nil {
			return err
		}
		return s.show(map[string]any{"provider": p}, func() {
			s.say("Added %s.", p.Name)
			s.describeProvider(p)
		})
	})
	f.register(cmd.Flags())
	return cmd
}

func (s *shell) providerEdit() *cobra.Command {
	var f providerFlags
	var enable, disable, sure bool
	cmd := s.remote("edit PROVIDER", "Change an OAuth provider, or switch it on or off", words("PROVIDER"), func(cmd *cobra.Command, args []string) error {
		if enable && disable {
			return usage("--enable and --disable exclude one another")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		p, err := c.GetOAuthProvider(ctx, args[0])
		if err != nil {
			return err
		}
		e, err := f.edit(ctx, s, cmd.Flags())
		if err != nil {
			return err
		}
		if enable || disable {
			e.Enabled = &enable
		}
		if enable && p.Consumer != "" {
			s.urge("%s\n", p.Consumer)
			if err := s.confirm(ctx, sure, fmt.Sprintf("Have you read this, and switch logins at %s on?", p.Title)); err != nil {
				return err
			}
			e.TermsRead = true
		}
		e.IfMatch = p.ETag
		if p, err = c.ChangeOAuthProvider(ctx, args[0], e); err != nil {
			return err
		}
		return s.show(map[string]any{"provider": p}, func() { s.say("Changed %s: %s.", p.Name, providerState(p)) })
	})
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&enable, "enable", false, "switch logins there on")
	cmd.Flags().BoolVar(&disable, "disable", false, "switch logins there off")
	yesFlag(cmd, &sure)
	return cmd
}

func (s *shell) providerRm() *cobra.Command {
	var sure bool
	cmd := s.remote("rm PROVIDER", "Delete an OAuth provider, or what was set on one of the catalogue", words("PROVIDER"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		p, err := c.GetOAuthProvider(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), sure, fmt.Sprintf("Delete what is stored of the OAuth provider %s?", p.Name)); err != nil {
			return err
		}
		if err := c.DeleteOAuthProvider(cmd.Context(), p.Name); err != nil {
			return err
		}
		return s.show(map[string]string{"deleted": p.Name}, func() { s.say("Deleted %s.", p.Name) })
	})
	yesFlag(cmd, &sure)
	return cmd
}
