package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// completing bounds how long the Tab key may take. Without an answer there are no suggestions, and no word about it: an error in the middle
// of a command line helps nobody.
const completing = time.Second

// suggest asks a server for names. args are the arguments before the one to be completed.
type suggest func(ctx context.Context, c *client.Client, args []string) []cobra.Completion

// completions gives every command of the tree suggestions for its arguments, by the words of its usage line, and for its flags.
func (s *shell) completions(root *cobra.Command) {
	live := map[string]suggest{"TRAIN": trainSlugs, "CREDENTIAL": credentialNames, "ACCOUNT": accountNames, "KEY": keyNames, "ID": tokenIDs, "CHANNEL": channelNames, "SINK": sinkNames, "GROUP": groupNames,
		"SERVICE-ACCOUNT": serviceAccountNames, "CLIENT": homeNames(clientHomes()), "SERVICE": homeNames(serviceHomes()), "INFRASTRUCTURE": homeNames(infrastructureHomes()), "INCIDENT": incidentIDs}
	fixed := map[string][]cobra.Completion{
		"type": typeNames(), "provider": strings.Split(providerNames(), ", "), "health": healthNames(), "status": {"active", "expiring", "expired", "disabled", "compromised"},
		"strategy": {"hash", "priority", "least-loaded"}, "outcome": {"ok", "refused", "failed", "pending", "unknown"}, "action": actionNames(), "scope": scopeNames(),
		"kind": channelKindNames(), "severity": severityNames(), "message": messageKindNames(), "state": notify.States(), "tls": {"starttls", "implicit", "none"},
		"role": roleNames(), "allow": {"use", "reveal", "manage", "owner"},
		"engine": {string(store.SQLite), string(store.Postgres)}, "log-level": {"debug", "info", "warn", "error"}, "log-format": {"auto", "text", "json"},
		"token-auth-method": {"client_secret_basic", "client_secret_post", "none"}, "token-request-format": {"form", "json"},
	}
	for _, c := range tree(root) {
		if c.HasSubCommands() && c.Annotations[alsoAlone] == "" || c.Parent() == nil || c.Parent().Name() == "completion" {
			continue
		}
		wants := strings.Fields(c.Use)[1:]
		if c.Name() != "man" && c.Name() != "run" {
			c.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
				if len(args) >= len(wants) {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
				return s.complete(cmd, live[strings.Trim(wants[len(args)], "[]")], args)
			}
		}
		if c.Flags().Lookup("kind") != nil && c.Parent().Name() == "infra" {
			_ = c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(vault.InfrastructureKinds(), cobra.ShellCompDirectiveNoFileComp))
		}
		if c.Parent().Name() == "incident" {
			for name, words := range map[string][]cobra.Completion{"type": incidentTypeNames(), "severity": incidentSeverityNames(), "status": incidentStatusNames()} {
				if c.Flags().Lookup(name) != nil {
					_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
				}
			}
		}
		for name, words := range fixed {
			if c.Flags().Lookup(name) != nil {
				_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // fails when there is one
			}
		}
		for flag, kind := range map[string]homes{"client": clientHomes(), "service": serviceHomes(), "infrastructure": infrastructureHomes()} {
			if c.Flags().Lookup(flag) != nil {
				_ = c.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
					return s.complete(cmd, homeNames(kind), nil)
				})
			}
		}
		if c.Flags().Lookup("credential") != nil {
			_ = c.RegisterFlagCompletionFunc("credential", func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
				return s.complete(cmd, credentialNames, nil)
			})
		}
		if c.Flags().Lookup("train") != nil {
			_ = c.RegisterFlagCompletionFunc("train", func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
				return s.complete(cmd, trainSlugs, nil)
			})
		}
	}
}

func (s *shell) complete(cmd *cobra.Command, ask suggest, args []string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const nothing = cobra.ShellCompDirectiveNoFileComp
	if ask == nil {
		return nil, nothing
	}
	silent, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, nothing
	}
	defer func() { _ = silent.Close() }()
	quiet := *s
	quiet.err = silent
	c, _, err := quiet.client(cmd)
	if err != nil {
		return nil, nothing
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completing)
	defer cancel()
	out := ask(ctx, c, args)
	for i := range out {
		out[i] = printable(strings.ReplaceAll(out[i], "\n", " "))
	}
	return out, nothing
}

func trainSlugs(ctx context.Context, c *client.Client, _ []string) (out []cobra.Completion) {
	page, err := c.ListTrains(ctx, client.ListFilter{Limit: 1000})
	if err != nil {
		return nil
	}
	for _, t := range page.Trains {
		out = append(out, cobra.CompletionWithDesc(t.TrainID, t.Name))
	}
	return out
}

func credentialNames(ctx context.Context, c *client.Client, _ []string) (out []cobra.Completion) {
	page, err := c.ListCredentials(ctx, client.CredentialFilter{Limit: 1000})
	if err != nil {
		return nil
	}
	for _, cred := range page.Credentials {
		out = append(out, cobra.CompletionWithDesc(cred.Name, cred.Type))
	}
	return out
}

func accountNames(ctx context.Context, c *client.Client, _ []string) (out []cobra.Completion) {
	list, err := accounts(ctx, c)
	if err != nil {
		return nil
	}
	for _, a := range list {
		out = append(out, cobra.CompletionWithDesc(a.Name, a.Provider))
	}
	return out
}

func keyNames(ctx context.Context, c *client.Client, args []string) (out []cobra.Completion) {
	if len(args) == 0 {
		return nil
	}
	page, err := c.ListKeys(ctx, args[0], client.KeyFilter{Limit: 1000})
	if err != nil {
		return nil
	}
	for _, k := range page.APIKeys {
		out = append(out, cobra.CompletionWithDesc(k.ID, k.Name+", "+k.Status))
	}
	return out
}

func tokenIDs(ctx context.Context, c *client.Client, _ []string) (out []cobra.Completion) {
	page, err := c.ListTokens(ctx, client.TokenFilter{Limit: 1000})
	if err != nil {
		return nil
	}
	for _, t := range page.Tokens {
		out = append(out, cobra.CompletionWithDesc(t.ID, t.Name+", "+t.Status))
	}
	return out
}

func sinkNames(ctx context.Context, c *client.Client, _ []string) (out []cobra.Completion) {
	all, err := c.ListSinks(ctx)
	if err != nil {
		return nil
	}
	for _, one := range all {
		out = append(out, cobra.CompletionWithDesc(one.Name, one.Kind+" to "+one.Destination))
	}
	return out
}

func channelNames(ctx context.Context, c *client.Client, _ []string) (out []cobra.Completion) {
	all, err := allChannels(ctx, c)
	if err != nil {
		return nil
	}
	for _, one := range all {
		out = append(out, cobra.CompletionWithDesc(one.Name, one.Kind+" to "+one.Destination))
	}
	return out
}

func groupNames(ctx context.Context, c *client.Client, _ []string) (out []cobra.Completion) {
	page, err := c.ListGroups(ctx, client.ListFilter{Limit: 1000})
	if err != nil {
		return nil
	}
	for _, g := range page.Groups {
		out = append(out, cobra.CompletionWithDesc(g.Name, g.Description))
	}
	return out
}

func serviceAccountNames(ctx context.Context, c *client.Client, _ []string) (out []cobra.Completion) {
	list, err := allServiceAccounts(ctx, c, "")
	if err != nil {
		return nil
	}
	for _, a := range list {
		out = append(out, cobra.CompletionWithDesc(a.Name, a.Role))
	}
	return out
}

func actionNames() (out []cobra.Completion) {
	for _, a := range store.Actions() {
		out = append(out, cobra.CompletionWithDesc(string(a.Action), a.Meaning))
	}
	return out
}

func scopeNames() (out []cobra.Completion) {
	for _, p := range identity.Permissions() {
		out = append(out, cobra.CompletionWithDesc(string(p.Permission), p.Meaning))
	}
	return out
}

// homeNames suggests the clients, services or infrastructure there are.
func homeNames(k homes) suggest {
	return func(ctx context.Context, c *client.Client, _ []string) (out []cobra.Completion) {
		items, _, err := k.list(ctx, c, client.InfrastructureFilter{Limit: 1000})
		if err != nil {
			return nil
		}
		for _, h := range items {
			out = append(out, h.name)
		}
		return out
	}
}

func incidentIDs(ctx context.Context, c *client.Client, _ []string) (out []cobra.Completion) {
	page, err := c.ListIncidents(ctx, client.IncidentFilter{Open: true, Limit: 1000})
	if err != nil {
		return nil
	}
	for _, i := range page.Incidents {
		out = append(out, cobra.CompletionWithDesc(i.ID, i.Status+", "+i.Title))
	}
	return out
}
