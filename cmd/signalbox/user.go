package main

import (
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
)

func (s *shell) userCommand() *cobra.Command {
	return parent("user", "People: who may sign in, and with which role", s.userAdd(), s.userList(), s.userEdit(), s.userReset(), s.userResetFactors(), s.userDeactivate())
}

const roleUsage = "administrator, operator, auditor or member"

// everybody reads all people.
func everybody(cmd *cobra.Command, c *client.Client) ([]client.User, error) {
	return everything(func(cursor string) ([]client.User, string, error) {
		page, err := c.ListUsers(cmd.Context(), client.UserFilter{Limit: 1000, Cursor: cursor})
		return page.Users, page.NextCursor, err
	})
}

// findUser returns the person with that e-mail address or id.
func findUser(cmd *cobra.Command, c *client.Client, name string) (client.User, error) {
	users, err := everybody(cmd, c)
	if err != nil {
		return client.User{}, err
	}
	for _, u := range users {
		if u.ID == name || u.Email == strings.ToLower(name) {
			return u, nil
		}
	}
	return client.User{}, fault.New(fault.NotFound, "not_found", "There is no person with that e-mail address or id. See: signalbox user list")
}

// showLink prints a one-time link; it alone goes to standard output.
func (s *shell) showLink(base string, out client.UserResult, did string) error {
	return s.show(out, func() {
		if out.Link == nil {
			s.say("%s %s (%s).", did, out.User.Email, out.User.ID)
			return
		}
		s.note("%s %s (%s). Give them this link, which works once and until %s. It is shown only now:", did, out.User.Email, out.User.ID, moment(out.Link.ExpiresAt))
		s.say("%s%s", base, out.Link.Path)
	})
}

func (s *shell) userAdd() *cobra.Command {
	var draft client.UserDraft
	var stdin, ask bool
	cmd := s.remote("add EMAIL", "Add or invite a person", words("EMAIL"), func(cmd *cobra.Command, args []string) error {
		c, cfg, err := s.client(cmd)
		if err != nil {
			return err
		}
		draft.Email = args[0]
		if draft.Name == "" {
			draft.Name = args[0]
		}
		var password secret.Value
		switch {
		case stdin:
			password, err = s.readStdin("--password-stdin")
		case ask:
			password, err = s.askTwice(cmd.Context(), "Password of "+draft.Email, "--password-stdin")
		}
		if err != nil {
			return err
		}
		if !password.IsZero() {
			draft.Password = password.Reveal()
		}
		out, err := c.CreateUser(cmd.Context(), draft)
		if err != nil {
			return err
		}
		return s.showLink(cfg.URL, out, "Added")
	})
	flags := cmd.Flags()
	flags.StringVar(&draft.Name, "name", "", "name, as the audit log shows it (default the e-mail address)")
	flags.StringVar(&draft.Role, "role", "member", roleUsage)
	flags.BoolVar(&ask, "no-invite", false, "ask for a password instead of inviting the person with a one-time link")
	flags.BoolVar(&stdin, "password-stdin", false, "read the password from standard input instead of inviting the person")
	return cmd
}

func (s *shell) userList() *cobra.Command {
	return s.remote("list", "List people", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		users, err := everybody(cmd, c)
		if err != nil {
			return err
		}
		return s.show(map[string]any{"users": users}, func() {
			t := table{head: []string{"EMAIL", "NAME", "ROLE", "STATE", "LAST LOGIN", "ID"}}
			for _, u := range users {
				state := "active"
				switch {
				case !u.Active:
					state = "deactivated"
				case u.Invited:
					state = "no password"
				}
				t.add(u.Email, u.Name, u.Role, state, orDash(momentOf(u.LastLoginAt)), u.ID)
			}
			s.print(t, "Nobody. Add somebody with: signalbox user add EMAIL")
		})
	})
}

func (s *shell) userEdit() *cobra.Command {
	var name, email, role string
	var activate bool
	cmd := s.remote("edit PERSON", "Change a person's name, e-mail address or role, or activate them again", words("PERSON"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		var patch client.UserPatch
		flags := cmd.Flags()
		for flag, to := range map[string]struct {
			from *string
			to   **string
		}{"name": {&name, &patch.Name}, "email": {&email, &patch.Email}, "role": {&role, &patch.Role}} {
			if flags.Changed(flag) {
				*to.to = to.from
			}
		}
		if activate {
			patch.Active = &activate
		}
		if patch == (client.UserPatch{}) {
			return usage("say what to change: --name, --email, --role or --activate")
		}
		u, err := findUser(cmd, c, args[0])
		if err != nil {
			return err
		}
		if u, err = c.UpdateUser(cmd.Context(), u.ID, patch); err != nil {
			return err
		}
		return s.show(map[string]any{"user": u}, func() { s.say("Changed %s (%s): %s, %s.", u.Email, u.ID, u.Name, u.Role) })
	})
	cmd.Flags().StringVar(&name, "name", "", "another name")
	cmd.Flags().StringVar(&email, "email", "", "another e-mail address, with which they sign in from now on")
	cmd.Flags().StringVar(&role, "role", "", "another role: "+roleUsage+"; their sessions end")
	cmd.Flags().BoolVar(&activate, "activate", false, "let a deactivated person sign in again")
	return cmd
}

func (s *shell) userReset() *cobra.Command {
	var yes bool
	cmd := s.remote("reset PERSON", "Void a person's password and get a link by which they set a new one", words("PERSON"), func(cmd *cobra.Command, args []string) error {
		c, cfg, err := s.client(cmd)
		if err != nil {
			return err
		}
		u, err := findUser(cmd, c, args[0])
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), yes, "Void the password of "+u.Email+" and end their sessions?"); err != nil {
			return err
		}
		out, err := c.ResetPassword(cmd.Context(), u.ID)
		if err != nil {
			return err
		}
		return s.showLink(cfg.URL, out, "Reset the password of")
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (s *shell) userResetFactors() *cobra.Command {
	var yes bool
	cmd := s.remote("reset-factors PERSON", "Remove all second factors of a person who has lost theirs", words("PERSON"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		u, err := findUser(cmd, c, args[0])
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), yes, "Remove every second factor of "+u.Email+" and end their sessions?"); err != nil {
			return err
		}
		if err := c.ResetFactors(cmd.Context(), u.ID); err != nil {
			return err
		}
		return s.show(map[string]any{"user": u}, func() { s.say("Removed the second factors of %s (%s). Their sessions ended.", u.Email, u.ID) })
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (s *shell) userDeactivate() *cobra.Command {
	var yes bool
	cmd := s.remote("deactivate PERSON", "Deactivate a person: their sessions and tokens end at once", words("PERSON"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		u, err := findUser(cmd, c, args[0])
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), yes, "Deactivate "+u.Email+", and end their sessions and tokens for good?"); err != nil {
			return err
		}
		no := false
		if u, err = c.UpdateUser(cmd.Context(), u.ID, client.UserPatch{Active: &no}); err != nil {
			return err
		}
		return s.show(map[string]any{"user": u}, func() { s.say("Deactivated %s (%s).", u.Email, u.ID) })
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
