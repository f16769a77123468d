package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

func (s *shell) serviceAccountCommand() *cobra.Command {
	return parent("service-account", "Callers that are no person, with a role and tokens of their own",
		s.serviceAccountCreate(), s.serviceAccountList(), s.serviceAccountEdit(), s.serviceAccountSwitch("deactivate", "End a service account: its tokens work nowhere", "Deactivated", false),
		s.serviceAccountSwitch("activate", "Let a deactivated service account's tokens work again", "Activated", true))
}

func roleNames() []string {
	var out []string
	for _, r := range identity.Roles() {
		out = append(out, string(r))
	}
	return out
}

func allServiceAccounts(ctx context.Context, c *client.Client, q string) ([]client.ServiceAccount, error) {
	return everything(func(cursor string) ([]client.ServiceAccount, string, error) {
		page, err := c.ListServiceAccounts(ctx, client.ListFilter{Q: q, Limit: 1000, Cursor: cursor})
		return page.ServiceAccounts, page.NextCursor, err
	})
}

// serviceAccountNamed finds a service account by its id or its name, in upper or lower case.
func serviceAccountNamed(ctx context.Context, c *client.Client, ref string) (client.ServiceAccount, error) {
	if store.ValidID("sa", ref) {
		return c.GetServiceAccount(ctx, ref)
	}
	like, err := allServiceAccounts(ctx, c, ref)
	if err != nil {
		return client.ServiceAccount{}, err
	}
	for _, a := range like {
		if strings.EqualFold(a.Name, ref) {
			return a, nil
		}
	}
	return client.ServiceAccount{}, notFound("There is no service account %q. List them with: signalbox service-account list", ref)
}

func (s *shell) serviceAccountCreate() *cobra.Command {
	var draft client.ServiceAccountDraft
	cmd := s.remote("create NAME", "Make a service account", words("NAME"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		draft.Name = args[0]
		a, err := c.CreateServiceAccount(cmd.Context(), draft)
		if err != nil {
			return err
		}
		return s.show(a, func() {
			s.say("Made service account %s (%s) with the role %s.", a.Name, a.ID, a.Role)
			s.note("Give it a token: signalbox token issue NAME --service-account %s", a.Name)
		})
	})
	cmd.Flags().StringVar(&draft.Role, "role", string(identity.Member), "what it may do: "+strings.Join(roleNames(), ", ")+"; never more than you may")
	cmd.Flags().StringVar(&draft.Description, "description", "", "what it is for")
	return cmd
}

func (s *shell) serviceAccountList() *cobra.Command {
	return s.remote("list", "List service accounts", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		accounts, err := allServiceAccounts(cmd.Context(), c, "")
		if err != nil {
			return err
		}
		return s.show(map[string]any{"service_accounts": accounts}, func() {
			t := table{head: []string{"NAME", "ROLE", "ACTIVE", "MADE", "DESCRIPTION", "ID"}}
			for _, a := range accounts {
				t.add(a.Name, a.Role, orDash(yes(a.Active)), moment(a.CreatedAt), orDash(a.Description), a.ID)
			}
			s.print(t, "No service accounts. Make one with: signalbox service-account create NAME")
		})
	})
}

func (s *shell) serviceAccountEdit() *cobra.Command {
	var name, description, role string
	cmd := s.remote("edit SERVICE-ACCOUNT", "Change a service account's name, description or role", words("SERVICE-ACCOUNT"), func(cmd *cobra.Command, args []string) error {
		var patch client.ServiceAccountPatch
		for flag, to := range map[string]struct {
			value *string
			field **string
		}{"name": {&name, &patch.Name}, "description": {&description, &patch.Description}, "role": {&role, &patch.Role}} {
			if cmd.Flags().Changed(flag) {
				*to.field = to.value
			}
		}
		if patch == (client.ServiceAccountPatch{}) {
			return usage("nothing to change; say what with --name, --description or --role")
		}
		return s.changeServiceAccount(cmd, args[0], patch, "Changed")
	})
	cmd.Flags().StringVar(&name, "name", "", "its new name")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.Flags().StringVar(&role, "role", "", "what it may do: "+strings.Join(roleNames(), ", ")+"; never more than you may")
	return cmd
}

func (s *shell) serviceAccountSwitch(use, short, done string, active bool) *cobra.Command {
	return s.remote(use+" SERVICE-ACCOUNT", short, words("SERVICE-ACCOUNT"), func(cmd *cobra.Command, args []string) error {
		return s.changeServiceAccount(cmd, args[0], client.ServiceAccountPatch{Active: &active}, done)
	})
}

func (s *shell) changeServiceAccount(cmd *cobra.Command, ref string, patch client.ServiceAccountPatch, done string) error {
	c, _, err := s.client(cmd)
	if err != nil {
		return err
	}
	a, err := serviceAccountNamed(cmd.Context(), c, ref)
	if err != nil {
		return err
	}
	if a, err = c.UpdateServiceAccount(cmd.Context(), a.ID, patch); err != nil {
		return err
	}
	return s.show(a, func() { s.say("%s service account %s.", done, a.Name) })
}
