package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

// defaultTrain is the train that the first start makes.
const defaultTrain = "default"

func notFound(format string, args ...any) error {
	return fault.New(fault.NotFound, "not_found", fmt.Sprintf(format, args...))
}

func (s *shell) accountCommand() *cobra.Command {
	return parent("account", "Accounts of LLM providers that agents use", s.accountAdd(), s.accountList(), s.accountStatus(), s.accountRefresh(), s.accountPause(), s.accountDrain(), s.accountResume())
}

func (s *shell) accountAdd() *cobra.Command {
	var draft client.CredentialDraft
	var link client.LinkDraft
	var train, alias string
	var priority int
	var stdin, noLink, oauth bool
	var kind string
	var upload tokenFlags
	var login loginFlags
	var upstream upstreamFlags
	cmd := s.remote("add [NAME]", "Store an account (NAME is default if left out) and link it to a train", words("[NAME]"), func(cmd *cobra.Command, args []string) error {
		switch {
		case kind != string(vault.APIKey) && kind != string(vault.OAuth):
			return usage("--type must be api_key or oauth")
		case oauth && stdin, kind == string(vault.OAuth) && stdin:
			return usage("--api-key-stdin is for API keys; tokens come with --tokens-file, or by a login with --oauth")
		case oauth && upload.file != "":
			return usage("--oauth logs in, --tokens-file stores tokens that are there already; give one of them")
		case (upload.file != "" || upload.expires != "") && kind != string(vault.OAuth):
			return usage("--tokens-file and --token-expires go with --type oauth")
		}
		var err error
		if draft.Upstream, err = upstream.draft(); err != nil {
			return err
		}
		if draft.Upstream != nil && oauth {
			return usage("with --oauth the account comes of a login; say how its requests go out afterwards: signalbox cred edit NAME --proxy-url …")
		}
		draft.Type, draft.Name = kind, "default"
		if len(args) == 1 {
			draft.Name = args[0]
		}
		if !slices.ContainsFunc(vault.Providers(), func(p vault.Provider) bool { return p.Name == draft.Provider }) {
			return usage("--provider must be one of: %s", providerNames())
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if !noLink { // known before the key is asked for, so that no account is stored for a train with a typing error
			if _, err := c.GetTrain(ctx, train); isNotFound(err) {
				return notFound("There is no train %q. Make it with: signalbox train create %s (or store the account alone with --no-link)", train, train)
			} else if err != nil {
				return err
			}
		}
		account, err := s.newAccount(ctx, c, draft, oauth, stdin, upload, login)
		if err != nil {
			return err
		}
		if noLink {
			return s.show(map[string]any{"credential": account}, func() { s.say("Stored account %s (%s).", account.Name, account.AccountID) })
		}
		link.CredentialID = account.ID
		if cmd.Flags().Changed("alias") {
			link.Alias = &alias
		}
		if cmd.Flags().Changed("priority") {
			link.Priority = &priority
		}
		if _, _, err := c.Link(ctx, train, link); err != nil {
			return fmt.Errorf("the account %s is stored, but not linked to train %s: %w", account.Name, train, err)
		}
		return s.show(map[string]any{"credential": account, "train": train}, func() {
			s.say("Stored account %s (%s) and linked it to train %s.", account.Name, account.AccountID, train)
			s.note("Next: signalbox connect claude-code%s", trainFlag(train))
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&draft.Provider, "provider", "anthropic", "whose account it is: "+providerNames())
	flags.StringVar(&draft.BaseURL, "base-url", "", "where requests go (default the provider's address)")
	flags.StringVar(&draft.Description, "description", "", "what it is for")
	flags.StringVar(&draft.Owner, "owner", "", "who answers for it")
	flags.BoolVar(&stdin, "api-key-stdin", false, "read the API key from standard input instead of asking")
	flags.StringVar(&kind, "type", string(vault.APIKey), "what is stored: api_key, or oauth for tokens that you have already")
	flags.BoolVar(&oauth, "oauth", false, "log in at the provider's OAuth server instead")
	upload.register(cmd)
	upstream.register(cmd)
	flags.StringVar(&train, "train", defaultTrain, "train to link it to")
	flags.StringVar(&alias, "alias", "", "name of the link within the train")
	flags.IntVar(&priority, "priority", 100, "place in the train, for the strategy priority: 1 comes before 2")
	flags.BoolVar(&noLink, "no-link", false, "link it to no train")
	return cmd
}

// newAccount stores the account with what is asked for: an API key, tokens that are there already, or those of a login.
func (s *shell) newAccount(ctx context.Context, c *client.Client, draft client.CredentialDraft, oauth, stdin bool, upload tokenFlags, login loginFlags) (client.Credential, error) {
	switch {
	case oauth:
		login.draft = client.LoginDraft{Provider: draft.Provider, Name: draft.Name, Description: draft.Description, BaseURL: draft.BaseURL}
		return s.login(ctx, c, login)
	case draft.Type == string(vault.OAuth):
		if err := upload.into(ctx, s, &draft); err != nil {
			return client.Credential{}, err
		}
	default:
		key, err := s.apiKey(ctx, draft.Provider, stdin)
		if err != nil {
			return client.Credential{}, err
		}
		draft.Secrets = map[string]string{"api_key": key.Reveal()}
	}
	return c.CreateCredential(ctx, draft)
}

func providerNames() string {
	var out []string
	for _, p := range vault.Providers() {
		out = append(out, p.Name)
	}
	return strings.Join(out, ", ")
}

// apiKey reads the key. Space around it cannot belong to it and comes from copying.
func (s *shell) apiKey(ctx context.Context, provider string, stdin bool) (secret.Value, error) {
	var v secret.Value
	var err error
	if stdin {
		v, err = s.readStdin("--api-key-stdin")
	} else {
		v, err = s.ask(ctx, "API key of the "+provider+" account", "--api-key-stdin")
	}
	if err != nil {
		return v, err
	}
	if v = secret.FromString(strings.TrimSpace(v.Reveal())); v.IsZero() {
		return v, usage("the API key is empty")
	}
	return v, nil
}

func trainFlag(train string) string {
	if train == defaultTrain {
		return ""
	}
	return " --train " + train
}

func isNotFound(err error) bool { return err != nil && problem(err).exit == 3 }

// accounts lists the credentials that can serve an LLM provider.
func accounts(ctx context.Context, c *client.Client) ([]client.Credential, error) {
	out := []client.Credential{}
	for _, p := range vault.Providers() {
		list, err := allCredentials(ctx, c, client.CredentialFilter{Provider: p.Name})
		if err != nil {
			return nil, err
		}
		for _, cred := range list {
			if cred.AccountID != "" {
				out = append(out, cred)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b client.Credential) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

const noAccounts = "No accounts. Store one with: signalbox account add"

func (s *shell) accountList() *cobra.Command {
	return s.remote("list", "List the accounts", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		list, err := accounts(cmd.Context(), c)
		if err != nil {
			return err
		}
		return s.show(map[string]any{"accounts": list}, func() {
			t := table{head: []string{"NAME", "ACCOUNT", "PROVIDER", "TYPE", "KEY", "STATUS", "VERSION", "ID"}}
			for _, a := range list {
				key := "-"
				if a.Suffix != "" {
					key = "…" + a.Suffix
				}
				t.add(a.Name, a.AccountID, a.Provider, a.Type, key, lendingText(a), strconv.FormatInt(a.Version, 10), a.ID)
			}
			s.print(t, noAccounts)
		})
	})
}

// accountState is an account with its place in each train.
type accountState struct {
	client.Credential
	Trains []accountPlace `json:"trains"`
}

type accountPlace struct {
	Train string `json:"train_id"`
	client.RankedAccount
}

func (s *shell) accountStatus() *cobra.Command {
	return s.remote("status [ACCOUNT]", "Show whether accounts can be used now, and in which trains", words("[ACCOUNT]"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		states, err := accountStates(cmd.Context(), c)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			states = slices.DeleteFunc(states, func(a accountState) bool { return a.Name != args[0] && a.AccountID != args[0] && a.ID != args[0] })
			if len(states) == 0 {
				return notFound("There is no account %q. List them with: signalbox account list", args[0])
			}
		}
		return s.show(map[string]any{"accounts": states}, func() {
			t := table{head: []string{"ACCOUNT", "STATUS", "TRAIN", "RANK", "STATE", "WHY"}}
			for _, a := range states {
				if len(a.Trains) == 0 {
					t.add(a.Name, lendingText(a.Credential), "-", "-", "-", "linked to no train; link it with: signalbox train link TRAIN "+a.Name)
				}
				for _, p := range a.Trains {
					t.add(a.Name, lendingText(a.Credential), p.Train, strconv.Itoa(p.Rank), p.State, p.Why)
				}
			}
			s.print(t, noAccounts)
		})
	})
}

func accountStates(ctx context.Context, c *client.Client) ([]accountState, error) {
	list, err := accounts(ctx, c)
	if err != nil {
		return nil, err
	}
	places := map[string][]accountPlace{}
	trains, err := allTrains(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, t := range trains {
		explained, err := c.Explain(ctx, t.TrainID)
		if isNotFound(err) { // it was deleted meanwhile
			continue
		} else if err != nil {
			return nil, err
		}
		for _, e := range explained.Accounts {
			places[e.CredentialID] = append(places[e.CredentialID], accountPlace{Train: t.TrainID, RankedAccount: e})
		}
	}
	out := make([]accountState, 0, len(list))
	for _, a := range list {
		out = append(out, accountState{Credential: a, Trains: append([]accountPlace{}, places[a.ID]...)})
	}
	return out, nil
}
