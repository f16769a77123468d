package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

func (s *shell) credCommand() *cobra.Command {
	return parent("cred", "Store, read, change, rotate, reveal, test and share credentials",
		s.credAdd(), s.credGet(), s.credList(), s.credSearch(), s.credEdit(), s.credRotate(), s.credRm(), s.credHistory(), s.credReveal(), s.credTest(), s.credGrant())
}

func (s *shell) credAdd() *cobra.Command {
	var secrets secretFlags
	var made generateFlags
	var meta metaFlags
	var kind string
	cmd := s.remote("add NAME", "Store a credential", words("NAME"), func(cmd *cobra.Command, args []string) error {
		row, ok := vault.Lookup(vault.Type(kind))
		if !ok {
			return usage("--type must be one of: %s", strings.Join(typeNames(), ", "))
		}
		draft := client.CredentialDraft{Type: kind, Name: args[0]}
		if err := meta.draft(cmd, &draft); err != nil {
			return err
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if err := homeIDs(cmd.Context(), c, &draft.ClientID, &draft.ServiceID, &draft.InfrastructureID); err != nil {
			return err
		}
		if draft.Generate, err = made.specs(row); err != nil {
			return err
		}
		ask := fields(row)
		if len(draft.Generate) > 0 {
			ask = nil // what else there is, is given by flags
		}
		given, err := secrets.read(cmd.Context(), s, ask)
		if err == nil && len(given)+len(draft.Generate) == 0 && row.AnyNames && term.IsTerminal(int(s.in.Fd())) {
			given, err = s.askNamed(cmd.Context())
		}
		if err != nil {
			return err
		}
		if len(given)+len(draft.Generate) == 0 {
			return usage("a credential of type %s needs at least one secret field; give one with --secret-stdin FIELD or --secret-file FIELD=PATH", kind)
		}
		draft.Secrets = revealed(given)
		cred, err := c.CreateCredential(cmd.Context(), draft)
		if err != nil {
			return err
		}
		return s.show(cred, func() {
			s.say("Stored %s %s as %s.", cred.Type, cred.Name, cred.ID)
			s.warnInject(cred)
			s.sayPublic(cred, draft.Generate)
		})
	})
	cmd.Flags().StringVar(&kind, "type", string(vault.Password), "type of the credential: "+strings.Join(typeNames(), ", "))
	meta.register(cmd, false)
	secrets.register(cmd)
	made.register(cmd)
	return cmd
}

func typeNames() []string {
	var out []string
	for _, row := range vault.Types() {
		out = append(out, string(row.Type))
	}
	return out
}

func healthNames() []string {
	var out []string
	for _, h := range vault.Healths() {
		out = append(out, string(h))
	}
	return out
}

// fields are the secret fields that a person is asked for.
func fields(row vault.TypeRow) []field {
	var out []field
	for _, f := range row.Secrets {
		if !f.Aside {
			out = append(out, field{f.Name, !f.Required})
		}
	}
	return out
}

func (s *shell) credGet() *cobra.Command {
	return s.remote("get CREDENTIAL", "Show a credential's metadata, never its secrets", words("CREDENTIAL"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		cred, err := getCredential(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		return s.show(cred, func() { s.describe(cred) })
	})
}

func (s *shell) describe(c client.Credential) {
	port, every := "", ""
	if c.Port > 0 {
		port = strconv.Itoa(c.Port)
	}
	if c.RotateEveryDays > 0 {
		every = fmt.Sprintf("every %d days", c.RotateEveryDays)
	}
	tampered := ""
	if c.Tampered {
		tampered = "yes: changed outside Signalbox, neither lent nor revealed; set its destinations anew"
	}
	pairs := []string{
		"id", c.ID, "name", c.Name, "type", c.Type, "account", c.AccountID, "provider", c.Provider, "description", c.Description, "status", c.Status,
		"tampered", tampered, "health", c.Health, "username", c.Username, "base URL", c.BaseURL, "may be sent to", strings.Join(c.Hosts, ", "), "external URL", c.ExternalURL,
		"internal URL", c.InternalURL, "port", port, "needs VPN", yes(c.RequiresVPN), "needs 2FA", yes(c.Requires2FA), "tags", strings.Join(c.Tags, ", "),
		"owner", c.Owner, "client", c.ClientID, "service", c.ServiceID, "infrastructure", c.InfrastructureID, "plugin", c.PluginName, "notes", c.Notes,
		"secret fields", strings.Join(c.SecretFields, ", "), "ends in", c.Suffix, "version", strconv.FormatInt(c.Version, 10),
		"expires", momentOf(c.ExpiresAt), "to be rotated", every, "rotated", momentOf(c.LastRotatedAt), "to be rotated by", momentOf(c.RotationDueAt), "last used", momentOf(c.LastUsedAt),
		"stored", moment(c.CreatedAt), "changed", moment(c.UpdatedAt),
	}
	if o := c.OAuth; o != nil {
		pairs = append(pairs, "token expires", momentOf(o.ExpiresAt), "scopes", strings.Join(o.Scopes, " "), "token endpoint", o.TokenEndpoint, "OAuth client", o.ClientID)
	}
	pairs = append(pairs, injectFacts(c)...)
	pairs = append(pairs, upstreamFacts(c.Upstream)...)
	if l := c.Lending; l != nil {
		pairs = append(pairs, "lending", l.State, l.State+" by", l.By, l.State+" because", l.Reason, l.State+" since", momentOf(l.Since))
	}
	s.facts(append(pairs, factsOf(c.Facts)...)...)
}

// sayPublic prints the public half of a key pair that was made: what has to be put where the key is to open something.
func (s *shell) sayPublic(c client.Credential, made map[string]client.Generate) {
	if len(made) > 0 && c.Facts != nil && c.Facts.SSHKey != nil {
		s.say("%s", strings.TrimSpace(c.Facts.SSHKey.PublicKey+" "+c.Facts.SSHKey.Comment))
	}
}

func (s *shell) credList() *cobra.Command {
	return s.credentialList("list", "List credentials", words())
}

// credSearch is credList with the words first, because that is what people look for.
func (s *shell) credSearch() *cobra.Command {
	return s.credentialList("search TEXT", "List the credentials whose metadata hold a text", words("TEXT"))
}

func (s *shell) credentialList(use, short string, args cobra.PositionalArgs) *cobra.Command {
	var f client.CredentialFilter
	var all bool
	var before, rotateBefore string
	cmd := s.remote(use, short, args, func(cmd *cobra.Command, args []string) (err error) {
		if len(args) == 1 {
			f.Q = args[0]
		}
		if f.ExpiresBefore, err = parseExpiry(before); err != nil {
			return err
		}
		if f.RotationDueBefore, err = parseExpiry(rotateBefore); err != nil {
			return err
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if err := homeIDs(cmd.Context(), c, &f.ClientID, &f.ServiceID, &f.InfrastructureID); err != nil {
			return err
		}
		var page client.CredentialPage
		if all {
			page.Credentials, err = allCredentials(cmd.Context(), c, f)
		} else {
			page, err = c.ListCredentials(cmd.Context(), f)
		}
		if err != nil {
			return err
		}
		return s.show(page, func() {
			t := table{head: []string{"NAME", "TYPE", "PROVIDER", "STATUS", "VERSION", "EXPIRES", "LAST USED", "ID"}}
			if f.RotationDueBefore != nil {
				t.head[5] = "ROTATE BY"
			}
			for _, cred := range page.Credentials {
				ends := cred.ExpiresAt
				if f.RotationDueBefore != nil {
					ends = cred.RotationDueAt
				}
				t.add(cred.Name, cred.Type, orDash(cred.Provider), cred.Status, strconv.FormatInt(cred.Version, 10), orDash(momentOf(ends)), orDash(momentOf(cred.LastUsedAt)), cred.ID)
			}
			if len(page.Credentials) == 0 && f != (client.CredentialFilter{Limit: f.Limit}) {
				s.note("No credentials match.")
				return
			}
			s.print(t, "No credentials. Store one with: signalbox cred add NAME --type TYPE")
			s.more(page.NextCursor)
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&f.Type, "type", "", "only this type: "+strings.Join(typeNames(), ", "))
	flags.StringVar(&f.Provider, "provider", "", "only this provider")
	flags.StringVar(&f.Status, "status", "", "only this status: active, expiring, expired, disabled or compromised")
	flags.StringVar(&f.Health, "health", "", "only OAuth credentials of this health: "+strings.Join(healthNames(), ", "))
	flags.StringVar(&f.Tag, "tag", "", "only with this tag")
	flags.StringVar(&f.Owner, "owner", "", "only of this owner")
	flags.StringVar(&f.TrainID, "train", "", "only linked to this train")
	flags.StringVar(&f.ClientID, "client", "", "only of this client, by name or id")
	flags.StringVar(&f.ServiceID, "service", "", "only of this service, by name or id")
	flags.StringVar(&f.InfrastructureID, "infrastructure", "", "only of this infrastructure, by name or id")
	flags.StringVar(&f.PluginName, "plugin", "", "only of this plugin")
	flags.StringVar(&before, "expires-before", "", "only what expires before: a span such as 30d, or a time such as 2027-01-31T12:00:00Z")
	flags.StringVar(&rotateBefore, "rotation-due-before", "", "only what is to be rotated before, overdue or not: a span such as 30d, or a time such as 2027-01-31T12:00:00Z")
	if !strings.HasPrefix(use, "search") {
		flags.StringVar(&f.Q, "search", "", "only where the metadata hold this text")
	}
	pageFlags(cmd, &f.Limit, &f.Cursor, &all)
	flags.IntVar(&f.Skip, "skip", 0, "how many to leave out at the beginning")
	return cmd
}

func pageFlags(cmd *cobra.Command, limit *int, cursor *string, all *bool) {
	cmd.Flags().IntVar(limit, "limit", 100, "how many to list at most, up to 1000")
	cmd.Flags().StringVar(cursor, "cursor", "", "go on after an earlier list")
	cmd.Flags().BoolVar(all, "all", false, "list everything")
}

func (s *shell) more(cursor string) {
	if cursor != "" {
		s.note("There are more: add --cursor %s, or --all.", cursor)
	}
}

func allCredentials(ctx context.Context, c *client.Client, f client.CredentialFilter) ([]client.Credential, error) {
	return everything(func(cursor string) ([]client.Credential, string, error) {
		f.Limit, f.Cursor = 1000, cursor
		page, err := c.ListCredentials(ctx, f)
		return page.Credentials, page.NextCursor, err
	})
}

// credentialID finds the credential that a person means: by id, by account id or by its name if no other has the same.
func credentialID(ctx context.Context, c *client.Client, ref string) (string, error) {
	if store.ValidID("cred", ref) {
		return ref, nil
	}
	like, err := allCredentials(ctx, c, client.CredentialFilter{Q: ref})
	if err != nil {
		return "", err
	}
	found := slices.DeleteFunc(like, func(cred client.Credential) bool { return cred.Name != ref && cred.AccountID != ref })
	switch len(found) {
	case 0:
		return "", notFound("There is no credential %q. List them with: signalbox cred list", ref)
	case 1:
		return found[0].ID, nil
	}
	text := fmt.Sprintf("%d credentials are named %q; say which by its id:", len(found), ref)
	for _, cred := range found {
		text += fmt.Sprintf("\n  %s  %s, stored %s", cred.ID, cred.Type, moment(cred.CreatedAt))
	}
	return "", usage("%s", text)
}

func getCredential(ctx context.Context, c *client.Client, ref string) (client.Credential, error) {
	id, err := credentialID(ctx, c, ref)
	if err != nil {
		return client.Credential{}, err
	}
	return c.GetCredential(ctx, id)
}

func (s *shell) credEdit() *cobra.Command {
	var meta metaFlags
	cmd := s.remote("edit CREDENTIAL", "Change a credential's metadata", words("CREDENTIAL"), func(cmd *cobra.Command, args []string) error {
		var patch client.CredentialPatch
		changed, err := meta.patch(cmd, &patch)
		if err != nil {
			return err
		}
		if !changed {
			return usage("nothing to change; say what with flags, for example --description")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if err := homeIDs(cmd.Context(), c, patch.ClientID, patch.ServiceID, patch.InfrastructureID); err != nil {
			return err
		}
		id, err := credentialID(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		if patch.Status != nil { // a person names it, so they mean it: the state that it is in is taken as seen
			now, err := c.GetCredential(cmd.Context(), id)
			if err != nil {
				return err
			}
			patch.IfMatch = now.ETag
		}
		cred, err := c.UpdateCredential(cmd.Context(), id, patch)
		if err != nil {
			return err
		}
		return s.show(cred, func() {
			s.say("Changed %s %s.", cred.Type, cred.Name)
			s.warnInject(cred)
		})
	})
	meta.register(cmd, true)
	return cmd
}

func (s *shell) credRotate() *cobra.Command {
	var secrets secretFlags
	var made generateFlags
	var reason string
	cmd := s.remote("rotate CREDENTIAL", "Give a credential a new version of its secret", words("CREDENTIAL"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		cred, err := getCredential(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		// Those that it has; what it has beside the required ones may stay as it is.
		row, _ := vault.Lookup(vault.Type(cred.Type))
		var ask []field
		for _, name := range cred.SecretFields {
			f, known := row.Field(name)
			ask = append(ask, field{name, known && !f.Required && !row.AnyNames})
		}
		specs, err := made.specs(row)
		if err != nil {
			return err
		}
		if len(specs) > 0 {
			ask = nil
		}
		given, err := secrets.read(cmd.Context(), s, ask)
		if err != nil {
			return err
		}
		cred, err = c.Rotate(cmd.Context(), cred.ID, client.RotateRequest{Secrets: revealed(given), Generate: specs, Reason: reason})
		if err != nil {
			return err
		}
		return s.show(cred, func() {
			s.say("Rotated %s %s: version %d is in use now.", cred.Type, cred.Name, cred.Version)
			s.sayPublic(cred, specs)
		})
	})
	made.register(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	secrets.register(cmd)
	return cmd
}

func (s *shell) credRm() *cobra.Command {
	var sure bool
	cmd := s.remote("rm CREDENTIAL", "Delete a credential and destroy all its sealed versions", words("CREDENTIAL"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		cred, err := getCredential(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), sure, fmt.Sprintf("Delete %s %s with all its versions, for good?", cred.Type, cred.Name)); err != nil {
			return err
		}
		if err := c.DeleteCredential(cmd.Context(), cred.ID); err != nil {
			return err
		}
		return s.show(map[string]string{"deleted": cred.ID}, func() { s.say("Deleted %s %s.", cred.Type, cred.Name) })
	})
	yesFlag(cmd, &sure)
	return cmd
}

func yesFlag(cmd *cobra.Command, sure *bool) {
	cmd.Flags().BoolVarP(sure, "yes", "y", false, "do it without being asked")
}

func (s *shell) credHistory() *cobra.Command {
	var restore int64
	cmd := s.remote("history CREDENTIAL", "List the versions of a credential's secret, or go back to one", words("CREDENTIAL"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		id, err := credentialID(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("restore") {
			cred, err := c.RestoreCredential(cmd.Context(), id, restore)
			if err != nil {
				return err
			}
			return s.show(cred, func() {
				s.say("Version %d of %s %s has the secret of version %d again.", cred.Version, cred.Type, cred.Name, restore)
			})
		}
		versions, err := c.CredentialVersions(cmd.Context(), id)
		if err != nil {
			return err
		}
		return s.show(map[string]any{"versions": versions}, func() {
			t := table{head: []string{"VERSION", "IN USE", "MADE", "BY", "SECRET FIELDS", "REASON"}}
			for _, v := range versions {
				t.add(strconv.FormatInt(v.Version, 10), orDash(yes(v.Current)), moment(v.CreatedAt), orDash(v.CreatedBy), strings.Join(v.SecretFields, ", "), orDash(v.Reason))
			}
			s.print(t, "No versions.")
		})
	})
	cmd.Flags().Int64Var(&restore, "restore", 0, "make a new version with the secret of this one")
	return cmd
}

func (s *shell) credReveal() *cobra.Command {
	var reason string
	cmd := s.remote("reveal CREDENTIAL [FIELD]", "Print one secret field; who, which and why are recorded first", words("CREDENTIAL", "[FIELD]"), func(cmd *cobra.Command, args []string) error {
		if strings.TrimSpace(reason) == "" {
			return usage("a reveal is recorded with its reason; say it with --reason")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		cred, err := getCredential(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		field := ""
		switch {
		case len(args) == 2:
			field = args[1]
		case len(cred.SecretFields) == 1:
			field = cred.SecretFields[0]
		default:
			return usage("say which field: %s", strings.Join(cred.SecretFields, ", "))
		}
		value, err := c.RevealCredential(cmd.Context(), cred.ID, field, reason)
		if err != nil {
			return err
		}
		if s.json {
			return s.writeJSON(s.out, client.Revealed{Field: field, Value: value})
		}
		// Exactly as it is stored, and one line break: text of several lines brings its own.
		if !strings.HasSuffix(value, "\n") {
			value += "\n"
		}
		_, err = s.out.WriteString(value)
		return err
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why it is needed; recorded")
	return cmd
}
