package main

import (
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/app"
)

// root builds the command tree.
func (s *shell) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "signalbox",
		Short: "Keeps the credentials of AI agents and their teams, and lends them out on record",
		Long: "Signalbox keeps every credential that AI agents and their teams use, lends them out without handing them over, and records every use.\n\n" +
			"Begin with:\n  signalbox serve                  # in one terminal\n  signalbox account add            # in another: store an account\n  signalbox connect claude-code    # a client key, and what to paste",
		Version:           app.Version(),
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.PersistentFlags().BoolVar(&s.json, "json", false, "write the answer, or the error, as JSON")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%s", err) })
	root.AddGroup(
		&cobra.Group{ID: "server", Title: "On the server's machine:"},
		&cobra.Group{ID: "work", Title: "With a running server:"},
	)
	grouped := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	grouped("server", s.serveCommand(), s.devCommand(), s.initCommand(), s.doctorCommand(), s.migrateCommand(), s.backupCommand(), s.restoreCommand(), s.unsealCommand(), s.keygenCommand(), s.rootKeyCommand())
	grouped("work", s.accountCommand(), s.connectCommand(), s.helperCommand(), s.runCommand(), s.injectCommand(), s.trainCommand(), s.keyCommand(), s.limitsCommand(), s.credCommand(), s.importCommand(), s.exportCommand(), s.oauthCommand(), s.mcpCommand(), s.usageCommand(), s.requestsCommand(), s.auditCommand(), s.incidentCommand(), s.rekeyCommand(), s.sealCommand(), s.notifyCommand(), s.userCommand(), s.ssoCommand(), s.groupCommand(), s.serviceAccountCommand(), s.tokenCommand(), s.loginCommand(), s.logoutCommand(), s.whoamiCommand())
	grouped("work", s.homeCommands()...)
	root.AddCommand(s.versionCommand(), s.openapiCommand(), s.manCommand(), s.referenceCommand())
	teach(root)
	s.completions(root)
	root.Args = cobra.ArbitraryArgs
	root.RunE = unknownCommand
	strictCompletion(root)
	return root
}

// strictCompletion makes the command that writes completions refuse what it does not know, as every other does: cobra would print its help
// and call it done, and a script would install that.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if !isCompletion(c) {
			continue
		}
		c.Args, c.RunE = cobra.ArbitraryArgs, unknownCommand
		for _, language := range c.Commands() {
			language.Args = words()
		}
	}
}

// parent makes a command that only has others below it.
func parent(use, short string, below ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: unknownCommand}
	c.AddCommand(below...)
	return c
}

// unknownCommand answers a command that lacks its second half or has a wrong one. Cobra itself would print the help and call it done.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 && !cmd.HasParent() {
		return cmd.Help()
	}
	var below []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			below = append(below, c.Name())
		}
	}
	if len(args) == 0 {
		return usage("%s needs one of: %s", cmd.CommandPath(), strings.Join(below, ", "))
	}
	cmd.SuggestionsMinimumDistance = 1 // letters that may differ
	if len(args[0]) > 5 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		return usage("there is no command %q; did you mean %s?", cmd.CommandPath()+" "+args[0], strings.Join(like, " or "))
	}
	return usage("there is no command %q; there are: %s", cmd.CommandPath()+" "+args[0], strings.Join(below, ", "))
}

// words checks the arguments against their names; a name in brackets may be missing.
func words(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		for i, name := range names {
			if i >= len(args) && !strings.HasPrefix(name, "[") {
				return usage("%s is missing", name)
			}
			if i < len(args) && args[i] == "" {
				return usage("%s is empty", strings.Trim(name, "[]"))
			}
		}
		if len(args) > len(names) {
			if len(names) == 0 {
				return usage("%s takes no arguments", cmd.CommandPath())
			}
			return usage("too many arguments; expected %s", strings.Join(names, " "))
		}
		return nil
	}
}

// remote makes a command that speaks to a running server.
func (s *shell) remote(use, short string, args cobra.PositionalArgs, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: args, RunE: run}
	settingFlags(c, app.UseClient)
	for _, setting := range app.Settings() { // where the operator token is, on the server's own machine
		if setting.Name == "data-dir" {
			addSetting(c, setting)
		}
	}
	return c
}
