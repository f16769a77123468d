package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

func (s *shell) accountPause() *cobra.Command {
	return s.lending("pause ACCOUNT", "Lend an account to nobody for now", "Paused account %s: it is lent to nobody until signalbox account resume. What ran on it was cut.", (*client.Client).PauseAccount)
}

func (s *shell) accountDrain() *cobra.Command {
	return s.lending("drain ACCOUNT", "Lend an account to no new request", "Drained account %s: it is lent to no new request until signalbox account resume. What runs on it finishes.", (*client.Client).DrainAccount)
}

func (s *shell) accountResume() *cobra.Command {
	return s.lending("resume ACCOUNT", "Lend a paused or drained account again", "Resumed account %s.", (*client.Client).ResumeAccount)
}

// lending is a command that pauses, drains or resumes one account.
func (s *shell) lending(use, short, said string, act func(*client.Client, context.Context, string, string) (client.Credential, error)) *cobra.Command {
	var reason string
	cmd := s.remote(use, short, words("ACCOUNT"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		list, err := accounts(cmd.Context(), c) // a name is unique among accounts; another credential may have the same
		if err != nil {
			return err
		}
		at := slices.IndexFunc(list, func(a client.Credential) bool { return a.Name == args[0] || a.AccountID == args[0] || a.ID == args[0] })
		if at < 0 {
			return notFound("There is no account %q. List them with: signalbox account list", args[0])
		}
		account, err := act(c, cmd.Context(), list[at].ID, reason)
		if err != nil {
			return err
		}
		return s.show(account, func() { s.say(said, account.Name) })
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log and for whoever sees the account")
	return cmd
}

// lendingText is the status of an account as lists of accounts show it.
func lendingText(c client.Credential) string {
	if c.Lending != nil {
		return c.Status + ", " + c.Lending.State
	}
	return c.Status
}
