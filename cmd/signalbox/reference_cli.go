package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/fault"
)

// exitMeanings explains the exit codes, each at its place.
func exitMeanings() []string {
	return []string{
		"done",
		"failed; `audit verify` also ends with it when the log does not hold",
		"the command line or the input is wrong; nothing was done",
		"there is no such thing",
		"refused: no token, or one that may not do this",
		"unavailable: no server answers, or it cannot serve now; try again later",
	}
}

// visit calls f for every command that help shows, parents first, in the order of their names.
func visit(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	if isCompletion(cmd) {
		return // its shells are one line
	}
	for _, below := range cmd.Commands() {
		if below.IsAvailableCommand() && below.Name() != "help" {
			visit(below, f)
		}
	}
}

// works reports whether a command does something itself, rather than hold others.
func works(cmd *cobra.Command) bool {
	return isCompletion(cmd) || cmd.HasParent() && cmd.Runnable() && (!cmd.HasAvailableSubCommands() || cmd.Annotations[alsoAlone] != "")
}

// alsoAlone is the annotation of a command that does something itself and holds others.
const alsoAlone = "signalbox:also-alone"

// isCompletion reports whether cmd is cobra's own command, which has one below it for each shell.
func isCompletion(cmd *cobra.Command) bool { return cmd.CommandPath() == "signalbox completion" }

func anchor(path string) string { return strings.ReplaceAll(path, " ", "-") }

func cliPage(root *cobra.Command, b *bytes.Buffer) error {
	about, _, _ := strings.Cut(root.Long, "\n\n")
	b.WriteString("# Command line\n\n" + about + "\n\n")
	b.WriteString("Every command takes `--json`, which writes the answer, or the error, as JSON, and `--help`. Secrets never stand on the command line: they come from a prompt that does not show them, " +
		"from standard input, or from a file. Where a command needs a running server, [`SIGNALBOX_URL`](configuration.md#url) names it and [`SIGNALBOX_TOKEN`](configuration.md#token) opens it; " +
		"after [`signalbox login`](#signalbox-login), and on the server's own machine, neither is needed.\n\n")
	head(b, "Command", "What it does")
	visit(root, func(cmd *cobra.Command) {
		if works(cmd) {
			row(b, fmt.Sprintf("[`%s`](#%s)", strings.TrimPrefix(cmd.CommandPath(), "signalbox "), anchor(cmd.CommandPath())), sentence(cmd.Short))
		}
	})
	b.WriteString("\n## Exit codes\n\n")
	head(b, "Code", "Meaning", "HTTP statuses behind it")
	for exit, meaning := range exitMeanings() {
		var statuses []string
		for k := fault.Internal; k <= fault.Unavailable; k++ {
			if k.Exit() == exit {
				statuses = append(statuses, fmt.Sprint(k.Status()))
			}
		}
		slices.Sort(statuses)
		row(b, fmt.Sprint(exit), sentence(meaning), strings.Join(statuses, ", "))
	}
	visit(root, func(cmd *cobra.Command) {
		if works(cmd) {
			cliCommand(b, cmd)
		}
	})
	return nil
}

func cliCommand(b *bytes.Buffer, cmd *cobra.Command) {
	text := sentence(cmd.Short)
	if cmd.Long != "" {
		text = strings.TrimSpace(cmd.Long)
	}
	use := cmd.UseLine()
	if isCompletion(cmd) {
		use = "signalbox completion bash|fish|powershell|zsh"
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n```text\n%s\n```\n", cmd.CommandPath(), text, use)
	if cmd.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimSpace(cmd.Example), "\n  ", "\n"))
	}
	var own []*pflag.Flag
	var settings []string
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Hidden || f.Name == "help":
		case settingOf(f) != nil:
			settings = append(settings, fmt.Sprintf("[`--%s`](configuration.md#%s)", f.Name, settingOf(f).Name))
		default:
			own = append(own, f)
		}
	})
	if len(own) > 0 {
		b.WriteString("\n")
		head(b, "Flag", "Meaning", "Default")
		for _, f := range own {
			kind, doc := pflag.UnquoteUsage(f)
			name := "--" + f.Name
			if f.Shorthand != "" {
				name = "-" + f.Shorthand + ", " + name
			}
			if kind != "" {
				name += " " + kind
			}
			fallback := ""
			if f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
				fallback = code(f.DefValue)
			}
			row(b, code(name), doc, fallback)
		}
	}
	if len(settings) > 0 {
		b.WriteString("\nSettings: " + strings.Join(settings, ", ") + "\n")
	}
}

func settingOf(f *pflag.Flag) *app.Setting {
	s, ok := f.Value.(*settingFlag)
	if !ok {
		return nil
	}
	return &s.setting
}

func configurationPage(root *cobra.Command, b *bytes.Buffer) error {
	b.WriteString(`# Configuration

A flag wins over a variable, and a variable over the default. Each variable has a twin with ` + "`_FILE`" + ` at the end of its name, which names a file to read the value from; to set both is an error.
An empty variable counts as not set. Where several variables are listed the first one that is set wins. A variable that begins with ` + "`SIGNALBOX_`" + ` and is not in this list is warned about.
Secret settings have no flag, because every process of the machine can read command lines, and are never printed.

`)
	head(b, "Setting", "Variables", "Default")
	for _, s := range app.Settings() {
		row(b, fmt.Sprintf("[%s](#%s)", s.Name, s.Name), variables(s), code(s.Default))
	}
	for _, s := range app.Settings() {
		fmt.Fprintf(b, "\n## %s\n\n%s\n\n", s.Name, sentence(s.Doc))
		if flag := s.Flag(); flag != "" {
			value := " " + s.Kind
			if s.Switch {
				value = ""
			}
			fmt.Fprintf(b, "- Flag: `--%s%s`\n", flag, value)
		} else {
			fmt.Fprintf(b, "- No flag: it is secret. Form: %s\n", s.Kind)
		}
		fmt.Fprintf(b, "- Variables: %s\n", variables(s))
		if s.Default != "" {
			fmt.Fprintf(b, "- Default: `%s`\n", s.Default)
		}
		fmt.Fprintf(b, "- Read by: %s\n", strings.Join(readers(root, s), ", "))
	}
	b.WriteString("\n## Other variables\n\n")
	head(b, "Variable", "What it does")
	row(b, "`XDG_DATA_HOME`", "Where the data directory lies unless it is set: `$XDG_DATA_HOME/signalbox`.")
	row(b, "`NO_COLOR`", "Set to anything, it switches colours off.")
	row(b, "`GOGC`", "Go's setting for its memory collector. Unset, Signalbox chooses by what is alive and by how much memory there is (at most an eighth of it lies between two collections); set, it is obeyed.")
	return nil
}

func variables(s app.Setting) string {
	var out []string
	for _, name := range s.Env {
		out = append(out, code(name))
	}
	return strings.Join(out, ", ")
}

// readers lists the commands that read a setting: those with its flag, or, for a secret one, those with the flags of all others of its use.
func readers(root *cobra.Command, s app.Setting) []string {
	var out []string
	client := 0
	visit(root, func(cmd *cobra.Command) {
		if !works(cmd) || !reads(cmd, s) {
			return
		}
		if cmd.Flags().Lookup("url") != nil {
			client++
			return
		}
		out = append(out, fmt.Sprintf("[`%s`](cli.md#%s)", cmd.CommandPath(), anchor(cmd.CommandPath())))
	})
	if client > 0 {
		out = append(out, "every command that speaks to a running server")
	}
	return out
}

func reads(cmd *cobra.Command, s app.Setting) bool {
	has := func(name string) bool {
		f := cmd.Flags().Lookup(name)
		return f != nil && settingOf(f) != nil
	}
	if flag := s.Flag(); flag != "" {
		return has(flag)
	}
	for _, other := range app.Settings() {
		if flag := other.Flag(); other.Use == s.Use && flag != "" && !has(flag) {
			return false
		}
	}
	return true
}
