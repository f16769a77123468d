package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/app"
)

// leaves are the commands that do something, by their path without the program's name.
func leaves(t *testing.T) map[string]*cobra.Command {
	t.Helper()
	s := &shell{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: app.Environ{}}
	out := map[string]*cobra.Command{}
	for _, c := range tree(s.root()) {
		if _, path, _ := strings.Cut(c.CommandPath(), " "); path != "" && (!c.HasSubCommands() || c.Annotations[alsoAlone] != "") && !isCompletion(c) && !isCompletion(c.Parent()) {
			out[path] = c
		}
	}
	require.Greater(t, len(out), 40)
	return out
}

// TestTree holds every command to what the design promises of all: help, an example, --json, a script, a terminal, and a wrong command line
// that is answered with what to do.
func TestTree(t *testing.T) {
	var scripts strings.Builder
	files, err := filepath.Glob("testdata/script/*.txtar")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		scripts.Write(text)
	}
	terminal, err := os.ReadFile("commands_linux_test.go")
	require.NoError(t, err)
	all := leaves(t)
	for path, c := range all {
		t.Run(path, func(t *testing.T) {
			require.Greater(t, len(c.Long), len(c.Short), "a chapter is missing in manual.go")
			require.NotEmpty(t, c.Example)
			require.NotNil(t, c.InheritedFlags().Lookup("json"))
			require.Regexp(t, `(?m)^(exec|exits \d|until \S+) (sh -c .*)?signalbox `+path+`( |$)`, scripts.String(), "no testscript runs it")
			require.Contains(t, string(terminal), "\n\t\t{\""+path+"\"", "the table of TestEveryCommandOnATerminal lacks it")
		})
	}
	for _, c := range manual() {
		if c.path != "openapi" { // hidden
			require.Contains(t, all, c.path, "manual.go has a chapter of no command")
		}
	}
}

// TestExamples parses what the help tells people to type.
func TestExamples(t *testing.T) {
	word := regexp.MustCompile(`'[^']*'|\S+`)
	for path := range leaves(t) {
		fresh := leaves(t) // flags keep what was parsed
		for line := range strings.Lines(fresh[path].Example) {
			line = strings.TrimSpace(line)
			if !strings.HasPrefix(line, "signalbox ") {
				_, after, found := strings.Cut(line, " signalbox ") // variables before it
				require.True(t, found, line)
				line = "signalbox " + after
			}
			line, _, _ = strings.Cut(line, " <")
			var args []string
			for _, w := range word.FindAllString(line, -1)[1:] {
				args = append(args, strings.Trim(w, "'"))
			}
			c := leaves(t)[path]
			cmd, rest, err := c.Root().Find(args)
			require.NoError(t, err, line)
			require.Same(t, c, cmd, line)
			require.NoError(t, cmd.ParseFlags(rest), line)
			require.NoError(t, cmd.ValidateArgs(cmd.Flags().Args()), line)
		}
	}
}

// TestWrongUsage: a flag that does not exist, and a word too many.
func TestWrongUsage(t *testing.T) {
	for path := range leaves(t) {
		for _, wrong := range []string{"--no-such-flag", "one two three four"} {
			if path == "import" && wrong[0] != '-' {
				continue // takes any number of paths
			}
			args := append(strings.Fields(path), strings.Fields(wrong)...)
			cmd := exec.Command("signalbox", args...)
			cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "SIGNALBOX_URL=http://127.0.0.1:1"}
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			_ = cmd.Run()
			require.Equal(t, 2, cmd.ProcessState.ExitCode(), args)
			require.Empty(t, out.String(), args)
			lines := strings.Split(strings.TrimSuffix(errs.String(), "\n"), "\n")
			require.Len(t, lines, 2, errs.String())
			require.Regexp(t, `^signalbox: .{10,}`, lines[0])
			require.Equal(t, "Run 'signalbox "+path+" --help' for how to use it.", lines[1])
		}
	}
}

// TestManualPages sets every page with groff, when it is there, and looks at their structure.
func TestManualPages(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Log("groff is not installed, so only the structure is looked at")
	}
	s := &shell{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: app.Environ{}}
	for _, c := range tree(s.root()) {
		page := manPage(c)
		require.True(t, strings.HasPrefix(page, ".TH \""), c.CommandPath())
		for _, head := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"} {
			require.Equal(t, 1, strings.Count(page, "\n.SH "+head+"\n"), c.CommandPath()+" "+head)
		}
		for line := range strings.Lines(page) {
			require.Regexp(t, `^(\.(TH|SH|B|TP|PP|nf|fi|ad)( .*)?|[^.'].*)?\n$`, line, c.CommandPath())
			require.Regexp(t, `^[\x20-\x7e]*\n$`, line)
		}
		if groff != "" {
			cmd := exec.Command(groff, "-man", "-Tutf8", "-ww", "-z")
			cmd.Stdin = strings.NewReader(page)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err)
			require.Empty(t, string(out), c.CommandPath())
		}
	}
	require.Equal(t, ".nf\n  a\n.fi\n\\&.b \\e \\(aq\\(dq \\-\\[u2026]\n", paragraphs("  a\n.b \\ '\" -…\n"))
}
