package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/fault"
)

func (s *shell) ssoCommand() *cobra.Command {
	return parent("sso", "Single sign-on: the providers at which people sign in", s.ssoAdd(), s.ssoList(), s.ssoEdit(), s.ssoRemove(), s.ssoTest())
}

// ssoFlags are what is set of a provider on the command line.
type ssoFlags struct {
	label, issuer, clientID, email, verified, name, groups, role, factor string
	scopes, allowed, link, roles, mapped, acr                            []string
	create, enabled, secretStdin, noSecret                               bool
}

func (f *ssoFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.label, "label", "", "what stands on the button of the sign-in page (default the name)")
	flags.StringVar(&f.issuer, "issuer", "", "the provider's issuer, such as https://id.example.com/realms/main")
	flags.StringVar(&f.clientID, "client-id", "", "the id that the provider gave this Signalbox")
	flags.BoolVar(&f.secretStdin, "client-secret-stdin", false, "read the client secret from standard input")
	flags.StringSliceVar(&f.scopes, "scope", nil, "scope to ask for besides openid, repeatable (default profile and email)")
	flags.StringVar(&f.email, "email-claim", "", "claim with the e-mail address (default email)")
	flags.StringVar(&f.verified, "verified-claim", "", "claim that is true when the provider vouches for the address (default email_verified)")
	flags.StringVar(&f.name, "name-claim", "", "claim with the name (default name)")
	flags.StringVar(&f.groups, "groups-claim", "", "claim with the list of groups, also a path such as realm_access.roles")
	flags.StringSliceVar(&f.allowed, "domain", nil, "e-mail domain that may sign in, repeatable (default everybody whom the provider knows)")
	flags.StringSliceVar(&f.link, "link-domain", nil, "e-mail domain of yours for which the provider may say who of the people here somebody is, repeatable")
	flags.BoolVar(&f.create, "create-people", false, "add who is not here yet")
	flags.StringArrayVar(&f.roles, "role", nil, "GROUP=ROLE: role of the members of a group, repeatable; of several the highest counts, at each sign-in")
	flags.StringArrayVar(&f.mapped, "group", nil, "GROUP=NAME: put the members of a group at the provider into the group of that name or id here, repeatable; at each sign-in")
	flags.StringVar(&f.role, "default-role", "", "role of who is in none of the groups, or of somebody new: "+roleUsage+" (default none: they are refused)")
	flags.StringVar(&f.factor, "second-factor", "", "whether a sign-in there counts for a second factor: never, claims or always (default never)")
	flags.StringSliceVar(&f.acr, "acr", nil, "acr that means a second factor was asked for, with --second-factor claims; repeatable")
	flags.BoolVar(&f.enabled, "enabled", true, "whether people can sign in with it")
}

// edit returns what the flags say, leaving out those that were not given.
func (f *ssoFlags) edit(flags *pflag.FlagSet) (client.SSOEdit, error) {
	var e client.SSOEdit
	for flag, to := range map[string]struct {
		from *string
		to   **string
	}{
		"label": {&f.label, &e.Label}, "issuer": {&f.issuer, &e.Issuer}, "client-id": {&f.clientID, &e.ClientID}, "email-claim": {&f.email, &e.EmailClaim},
		"verified-claim": {&f.verified, &e.VerifiedClaim}, "name-claim": {&f.name, &e.NameClaim}, "groups-claim": {&f.groups, &e.GroupsClaim},
		"default-role": {&f.role, &e.DefaultRole}, "second-factor": {&f.factor, &e.SecondFactor},
	} {
		if flags.Changed(flag) {
			*to.to = to.from
		}
	}
	for flag, to := range map[string]struct {
		from *[]string
		to   **[]string
	}{"scope": {&f.scopes, &e.Scopes}, "domain": {&f.allowed, &e.AllowedDomains}, "link-domain": {&f.link, &e.LinkDomains}, "acr": {&f.acr, &e.ACRValues}} {
		if flags.Changed(flag) {
			*to.to = given(*to.from)
		}
	}
	if flags.Changed("create-people") {
		e.CreatePeople = &f.create
	}
	if flags.Changed("enabled") {
		e.Enabled = &f.enabled
	}
	if flags.Changed("role") {
		rows := []client.SSORole{}
		for _, text := range *given(f.roles) {
			cut := strings.LastIndexByte(text, '=') // a group's name may hold the sign, a role does not
			if cut < 1 {
				return e, usage("--role is GROUP=ROLE, such as --role signalbox-admins=administrator")
			}
			rows = append(rows, client.SSORole{Group: text[:cut], Role: text[cut+1:]})
		}
		e.Roles = &rows
	}
	if flags.Changed("group") {
		rows := []client.SSOGroup{}
		for _, text := range *given(f.mapped) {
			cut := strings.LastIndexByte(text, '=') // a group here whose name has the sign is named by its id
			if cut < 1 || cut == len(text)-1 {
				return e, usage("--group is GROUP=NAME, such as --group platform-team=platform")
			}
			rows = append(rows, client.SSOGroup{Group: text[:cut], GroupID: text[cut+1:]})
		}
		e.Groups = &rows
	}
	return e, nil
}

// given is the list without empty entries, so that an empty flag empties it.
func given(list []string) *[]string {
	out := []string{}
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return &out
}

func (s *shell) ssoSecret(f *ssoFlags, e *client.SSOEdit) error {
	if !f.secretStdin {
		return nil
	}
	v, err := s.readStdin("--client-secret-stdin")
	if err != nil {
		return err
	}
	text := v.Reveal()
	e.ClientSecret = &text
	return nil
}

func (s *shell) ssoAdd() *cobra.Command {
	var f ssoFlags
	cmd := s.remote("add NAME", "Add a provider", words("NAME"), func(cmd *cobra.Command, args []string) error {
		c, cfg, err := s.client(cmd)
		if err != nil {
			return err
		}
		e, err := f.edit(cmd.Flags())
		if err != nil {
			return err
		}
		if e.Issuer == nil || e.ClientID == nil {
			return usage("a provider needs --issuer and --client-id")
		}
		e.Name = args[0]
		if err := s.ssoSecret(&f, &e); err != nil {
			return err
		}
		p, err := c.CreateSSOProvider(cmd.Context(), e)
		if err != nil {
			return err
		}
		return s.show(map[string]any{"provider": p}, func() {
			s.say("Added %s (%s).", p.Name, p.ID)
			s.note("Register this address with the provider (with your public address in front, if that is another): %s%s", cfg.URL, p.CallbackPath)
			s.note("See whether it answers with: signalbox sso test %s", p.Name)
		})
	})
	f.add(cmd.Flags())
	return cmd
}

func (s *shell) ssoList() *cobra.Command {
	return s.remote("list", "List the providers", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		list, err := c.ListSSOProviders(cmd.Context())
		if err != nil {
			return err
		}
		return s.show(map[string]any{"providers": list}, func() {
			t := table{head: []string{"NAME", "LABEL", "STATE", "ISSUER", "CLIENT ID", "SECOND FACTOR"}}
			for _, p := range list {
				state := "enabled"
				if !p.Enabled {
					state = "off"
				}
				t.add(p.Name, p.Label, state, p.Issuer, p.ClientID, p.SecondFactor)
			}
			s.print(t, "None. Add one with: signalbox sso add NAME --issuer URL --client-id ID")
		})
	})
}

func (s *shell) ssoEdit() *cobra.Command {
	var f ssoFlags
	cmd := s.remote("edit NAME", "Change a provider; an empty list flag empties the list", words("NAME"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		e, err := f.edit(cmd.Flags())
		if err != nil {
			return err
		}
		if err := s.ssoSecret(&f, &e); err != nil {
			return err
		}
		if f.noSecret {
			none := ""
			e.ClientSecret = &none
		}
		if e == (client.SSOEdit{}) {
			return usage("say what to change; see signalbox sso edit --help")
		}
		p, err := c.UpdateSSOProvider(cmd.Context(), args[0], e)
		if err != nil {
			return err
		}
		return s.show(map[string]any{"provider": p}, func() { s.say("Changed %s (%s).", p.Name, p.ID) })
	})
	f.add(cmd.Flags())
	cmd.Flags().BoolVar(&f.noSecret, "no-client-secret", false, "forget the client secret: the provider knows this Signalbox as a public client")
	return cmd
}

func (s *shell) ssoRemove() *cobra.Command {
	var yes bool
	cmd := s.remote("rm NAME", "Delete a provider", words("NAME"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), yes, "Delete "+args[0]+"? Nobody can sign in with it any more."); err != nil {
			return err
		}
		if err := c.DeleteSSOProvider(cmd.Context(), args[0]); err != nil {
			return err
		}
		return s.show(map[string]any{"deleted": args[0]}, func() { s.say("Deleted %s.", args[0]) })
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (s *shell) ssoTest() *cobra.Command {
	return s.remote("test NAME", "Ask a provider what it is, and show what was found", words("NAME"), func(cmd *cobra.Command, args []string) error {
		c, cfg, err := s.client(cmd)
		if err != nil {
			return err
		}
		r, err := c.TestSSOProvider(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if err := s.show(map[string]any{"report": r}, func() {
			t := table{head: []string{"WHAT", "FOUND"}}
			t.add("issuer", r.Issuer)
			t.add("callback", cfg.URL+r.CallbackPath)
			t.add("sign-in page", orDash(r.AuthorizationEndpoint))
			t.add("token endpoint", orDash(r.TokenEndpoint))
			t.add("userinfo", orDash(r.UserInfoEndpoint))
			t.add("keys", orDash(r.JWKSURI))
			t.add("signs with", orDash(strings.Join(r.Algorithms, " ")))
			t.add("scopes", orDash(strings.Join(r.Scopes, " ")))
			t.add("claims", orDash(strings.Join(r.Claims, " ")))
			s.print(t, "")
		}); err != nil {
			return err
		}
		if !r.OK {
			return fault.New(fault.Unavailable, "sso_unreachable", r.Problem)
		}
		return nil
	})
}
