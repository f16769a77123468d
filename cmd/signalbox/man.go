package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"signalbox.dev/signalbox/internal/app"
)

func (s *shell) manCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{Use: "man [COMMAND…]", Short: "Print manual pages", Args: cobra.ArbitraryArgs, RunE: func(cmd *cobra.Command, args []string) error {
		root := cmd.Root()
		if !cmd.Flags().Changed("output") {
			of, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usage("there is no command %q to print the page of; signalbox --help lists them", "signalbox "+strings.Join(args, " "))
			}
			page := manPage(of)
			return s.show(map[string]string{"command": of.CommandPath(), "page": page}, func() { fmt.Fprint(s.out, page) })
		}
		if output == "" || len(args) > 0 {
			return usage("--output wants a directory, and writes the pages of all commands")
		}
		if err := os.MkdirAll(output, 0o755); err != nil {
			return err
		}
		files := []string{}
		for _, of := range tree(root) {
			file := filepath.Join(output, strings.ReplaceAll(of.CommandPath(), " ", "-")+".1")
			if err := os.WriteFile(file, []byte(manPage(of)), 0o644); err != nil {
				return err
			}
			files = append(files, file)
		}
		return s.show(map[string]any{"files": files}, func() { s.say("Wrote %d pages to %s.", len(files), output) })
	}}
	cmd.Flags().StringVar(&output, "output", "", "directory to write the pages of all commands to")
	return cmd
}

// tree lists a command and all below it that a user may see, parents first.
func tree(c *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{c}
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() || below.Name() == "completion" {
			out = append(out, tree(below)...)
		}
	}
	return out
}

// manPage writes a page with the macros of man(7). Escaped are backslashes, hyphens of flags, and dots and quotes that begin a line.
func manPage(c *cobra.Command) string {
	c.InitDefaultHelpFlag()
	var b strings.Builder
	title := strings.ReplaceAll(c.CommandPath(), " ", "-")
	// Ragged right: the names of settings are too long to spread the rest of a line.
	fmt.Fprintf(&b, ".TH \"%s\" \"1\" \"\" \"signalbox %s\" \"Signalbox\"\n.ad l\n", roff(strings.ToUpper(title)), roff(app.Version()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(title), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(c.UseLine()))
	long := c.Long
	if long == "" {
		long = c.Short
	}
	b.WriteString(".SH DESCRIPTION\n" + paragraphs(long))
	flags := func(head string, set *pflag.FlagSet) {
		if !set.HasAvailableFlags() {
			return
		}
		b.WriteString(".SH " + head + "\n")
		set.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			name := "\\fB" + roff("--"+f.Name) + "\\fR"
			if f.Shorthand != "" {
				name = "\\fB" + roff("-"+f.Shorthand) + "\\fR, " + name
			}
			if kind := f.Value.Type(); kind != "bool" {
				name += " \\fI" + roff(kind) + "\\fR"
			}
			fmt.Fprintf(&b, ".TP\n%s\n%s\n", name, roff(f.Usage))
		})
	}
	flags("OPTIONS", c.NonInheritedFlags())
	flags("OPTIONS OF ALL COMMANDS", c.InheritedFlags())
	if c.Example != "" {
		b.WriteString(".SH EXAMPLES\n.nf\n" + roff(c.Example) + "\n.fi\n")
	}
	if !c.HasParent() {
		b.WriteString(".SH ENVIRONMENT\n")
		for _, set := range app.Settings() {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(strings.Join(set.Env, ", ")), roff(set.Doc))
		}
		b.WriteString(".TP\n.B NO_COLOR\nno colours, also on a terminal\n")
		b.WriteString(".SH EXIT STATUS\n0 done, 1 failed, 2 a wrong command line or input, 3 not found, 4 refused, 5 unavailable.\n")
	}
	var also []string
	if c.HasParent() {
		also = append(also, strings.ReplaceAll(c.Parent().CommandPath(), " ", "-"))
	}
	for _, below := range tree(c)[1:] {
		if below.Parent() == c {
			also = append(also, strings.ReplaceAll(below.CommandPath(), " ", "-"))
		}
	}
	slices.Sort(also)
	for i, name := range also {
		also[i] = "\\fB" + roff(name) + "\\fR(1)"
	}
	if len(also) > 0 {
		b.WriteString(".SH SEE ALSO\n" + strings.Join(also, ", ") + "\n")
	}
	return b.String()
}

// paragraphs sets the blank lines of a text as paragraphs, and its indented lines as they are.
func paragraphs(text string) string {
	var b strings.Builder
	fixed := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch indented := strings.HasPrefix(line, "  "); {
		case indented && !fixed:
			b.WriteString(".nf\n")
			fixed = true
		case !indented && fixed:
			b.WriteString(".fi\n")
			fixed = false
		}
		if line == "" {
			b.WriteString(".PP\n")
			continue
		}
		b.WriteString(roff(line) + "\n")
	}
	if fixed {
		b.WriteString(".fi\n")
	}
	return b.String()
}

// roff escapes text. Characters beyond ASCII become the names that every roff knows.
func roff(text string) string {
	var b strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			b.WriteString(`\&`)
		}
		for _, r := range line {
			switch {
			case r == '\t':
				b.WriteString("    ")
			case r == '\\':
				b.WriteString(`\e`)
			case r == '-':
				b.WriteString(`\-`)
			case r == '\'':
				b.WriteString(`\(aq`)
			case r == '"':
				b.WriteString(`\(dq`)
			case r > 0x7e:
				fmt.Fprintf(&b, `\[u%04X]`, r)
			default:
				b.WriteRune(r)
			}
		}
	}
	return b.String()
}
