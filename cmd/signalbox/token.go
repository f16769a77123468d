package main

import (
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/identity"
)

func (s *shell) tokenCommand() *cobra.Command {
	return parent("token", "Tokens of people, their scripts and service accounts", s.tokenIssue(), s.tokenList(), s.tokenRevoke())
}

func (s *shell) tokenIssue() *cobra.Command {
	var draft client.TokenDraft
	var expires, account string
	cmd := s.remote("issue NAME", "Issue a token; it is shown once", words("NAME"), func(cmd *cobra.Command, args []string) (err error) {
		if draft.ExpiresAt, err = parseExpiry(expires); err != nil {
			return err
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if account != "" {
			a, err := serviceAccountNamed(cmd.Context(), c, account)
			if err != nil {
				return err
			}
			draft.ServiceAccountID = a.ID
		}
		draft.Name = args[0]
		token, err := c.IssueToken(cmd.Context(), draft)
		if err != nil {
			return err
		}
		return s.show(token, func() {
			s.note("%s %s (%s)%s. It is shown only now:", tokenNoun(token.Token), token.Name, token.ID, until(token.ExpiresAt))
			s.say("%s", token.Secret)
		})
	})
	cmd.Flags().StringSliceVar(&draft.Scopes, "scope", nil, "what it may do, such as trains:read (may be given several times; default all that you may do)")
	cmd.Flags().StringVar(&account, "service-account", "", "issue it to this service account (name or id), not to yourself")
	cmd.Flags().StringVar(&expires, "expires", "90d", "when it expires: a span such as 90d, a time, or empty for never")
	return cmd
}

func tokenNoun(t client.Token) string {
	if t.ServiceAccountID != "" {
		return "Service account's token"
	}
	return "Personal access token"
}

func (s *shell) tokenList() *cobra.Command {
	var account string
	cmd := s.remote("list", "List your tokens, or those of a service account", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		var f client.TokenFilter
		if account != "" {
			a, err := serviceAccountNamed(cmd.Context(), c, account)
			if err != nil {
				return err
			}
			f.ServiceAccountID = a.ID
		}
		tokens, err := everything(func(cursor string) ([]client.Token, string, error) {
			page, err := c.ListTokens(cmd.Context(), client.TokenFilter{ServiceAccountID: f.ServiceAccountID, Limit: 1000, Cursor: cursor})
			return page.Tokens, page.NextCursor, err
		})
		if err != nil {
			return err
		}
		return s.show(map[string]any{"tokens": tokens}, func() {
			t := table{head: []string{"NAME", "TOKEN", "STATUS", "ISSUED", "LAST USED", "EXPIRES", "SCOPES", "ID"}}
			for _, k := range tokens {
				t.add(k.Name, k.Preview, k.Status, moment(k.CreatedAt), orDash(momentOf(k.LastUsedAt)), orDash(momentOf(k.ExpiresAt)), scopesText(k.Scopes), k.ID)
			}
			s.print(t, "No tokens. Issue one with: signalbox token issue NAME")
		})
	})
	cmd.Flags().StringVar(&account, "service-account", "", "those of this service account (name or id), not your own")
	return cmd
}

// scopesText lists the scopes, or says that they are all there are.
func scopesText(scopes []string) string {
	if len(scopes) == len(identity.Permissions()) {
		return "all"
	}
	return strings.Join(scopes, " ")
}

func (s *shell) tokenRevoke() *cobra.Command {
	return s.remote("revoke ID", "Revoke a token at once", words("ID"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if err := c.RevokeToken(cmd.Context(), args[0]); err != nil {
			return err
		}
		return s.show(map[string]string{"revoked": args[0]}, func() { s.say("Revoked %s.", args[0]) })
	})
}

func (s *shell) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version of this program", Args: words(), RunE: func(*cobra.Command, []string) error {
		return s.show(map[string]string{"version": app.Version()}, func() { s.say("signalbox %s", app.Version()) })
	}}
}
