package main

import (
	"slices"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

// refreshed is what became of one account.
type refreshed struct {
	client.Connection
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`
}

func (s *shell) accountRefresh() *cobra.Command {
	var all, dry, force bool
	cmd := s.remote("refresh [ACCOUNT]", "Refresh the tokens of OAuth accounts", words("[ACCOUNT]"), func(cmd *cobra.Command, args []string) error {
		if all == (len(args) == 1) {
			return usage("name one account, or say --all")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		var list []client.Connection
		if all {
			if list, err = connections(ctx, c, ""); err != nil {
				return err
			}
		} else {
			id, err := credentialID(ctx, c, args[0])
			if err != nil {
				return err
			}
			one, err := c.GetConnection(ctx, id)
			if err != nil {
				return err
			}
			list = []client.Connection{one}
		}
		out, failed := []refreshed{}, error(nil)
		for _, x := range list {
			r := refreshed{Connection: x, Outcome: "would be refreshed"}
			switch {
			case !x.Refreshes:
				r.Outcome = "cannot be refreshed"
			case !dry:
				before := x.Generation
				now, err := c.RefreshCredential(ctx, x.CredentialID, force || !all)
				switch {
				case err != nil:
					r.Outcome, r.Error = "failed", problem(err).Detail
					failed = err
				case now.Generation == before:
					r.Connection, r.Outcome = now, "was not due"
				default:
					r.Connection, r.Outcome = now, "refreshed"
				}
			}
			out = append(out, r)
		}
		if len(out) == 1 && failed != nil {
			return failed
		}
		if err := s.show(map[string]any{"accounts": out}, func() {
			t := table{head: []string{"ACCOUNT", "OUTCOME", "HEALTH", "TOKEN ENDS", "WHY"}}
			for _, r := range out {
				t.add(r.Name, r.Outcome, r.Health, orDash(momentOf(r.TokenExpiresAt)), orDash(r.Error))
			}
			s.print(t, "No OAuth accounts. Log in with: signalbox oauth login NAME --provider PROVIDER")
		}); err != nil {
			return err
		}
		if slices.ContainsFunc(out, func(r refreshed) bool { return r.Outcome == "failed" }) {
			return failed
		}
		return nil
	})
	flags := cmd.Flags()
	flags.BoolVar(&all, "all", false, "every OAuth credential whose token is near its end (with --force every one)")
	flags.BoolVar(&dry, "dry-run", false, "say what would be refreshed, and refresh nothing")
	flags.BoolVar(&force, "force", false, "also what is not due, and without waiting for a cool-down; a single account always is")
	return cmd
}
