package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

// target is a kind of program that can be connected.
type target struct {
	use, short string
	// keyVariable is the variable from which the program takes its key.
	keyVariable string
	// unset are variables that would send another key beside ours.
	unset []string
	// file is where --write writes, and write how the variables are put into the file's old content.
	file  string
	write func(old []byte, vars [][2]string) ([]byte, error)
	// start says how the program is started afterwards.
	start string
}

func targets() []target {
	return []target{
		{
			use: "claude-code", short: "Connect Claude Code: a client key, and what to paste", keyVariable: "ANTHROPIC_AUTH_TOKEN", unset: []string{"ANTHROPIC_API_KEY"},
			file: ".claude/settings.json", write: mergeClaudeSettings, start: "Then start it in the same shell: claude",
		},
		{
			use: "sdk", short: "Connect a program that uses an official SDK (Python, TypeScript, Go)", keyVariable: "ANTHROPIC_API_KEY", unset: []string{"ANTHROPIC_AUTH_TOKEN"},
			file: ".env", write: mergeDotenv, start: "Then start the program in the same shell; Anthropic() in Python, new Anthropic() in TypeScript and anthropic.NewClient() in Go read them.",
		},
	}
}

func (s *shell) connectCommand() *cobra.Command {
	c := parent("connect", "Issue a client key for a program and print its configuration")
	for _, t := range targets() {
		c.AddCommand(s.connectTo(t))
	}
	return c
}

// connection is what a connected program needs.
type connection struct {
	BaseURL string `json:"base_url"`
	APIKey  string `json:"api_key,omitempty"`
	KeyID   string `json:"key_id"`
	Train   string `json:"train_id"`
	File    string `json:"file,omitempty"`
}

func (s *shell) connectTo(t target) *cobra.Command {
	var train, expires, name, file string
	var write bool
	cmd := s.remote(t.use, t.short, words(), func(cmd *cobra.Command, _ []string) error {
		draft := client.KeyDraft{Name: name}
		if name == "" {
			draft.Name = keyName(t.use)
		}
		var err error
		if draft.ExpiresAt, err = parseExpiry(expires); err != nil {
			return err
		}
		write = write || cmd.Flags().Changed("file")
		var old []byte
		if write { // looked at before a key is issued, so that none is issued for a file that cannot be written
			if file, err = resolve(file); err != nil {
				return err
			}
			if old, err = readOld(file); err != nil {
				return err
			}
			if _, err := t.write(old, nil); err != nil {
				return fmt.Errorf("%s: %w; nothing was done", file, err)
			}
		}
		c, cfg, err := s.client(cmd)
		if err != nil {
			return err
		}
		key, err := c.IssueKey(cmd.Context(), train, draft)
		if err != nil {
			return trainError(err, train)
		}
		out := connection{BaseURL: cfg.URL, APIKey: key.APIKey, KeyID: key.ID, Train: train}
		vars := [][2]string{{"ANTHROPIC_BASE_URL", cfg.URL}, {t.keyVariable, key.APIKey}}
		if write {
			if err := rewrite(file, old, vars, t); err != nil {
				// Nobody has the key, so nobody shall be able to use it.
				if rerr := c.RevokeKey(context.WithoutCancel(cmd.Context()), train, key.ID); rerr != nil {
					return fmt.Errorf("%w; the new key %s is of no use to anybody, revoke it with: signalbox key revoke %s %s", err, key.ID, train, key.ID)
				}
				return err
			}
			out.APIKey, out.File = "", file
		}
		s.warnOfEmptyTrain(cmd.Context(), c, train)
		return s.show(out, func() {
			if write {
				s.say("Wrote the address and a client key of train %s (%s) to %s.", train, key.ID, file)
				s.note("The file holds a key: keep it out of version control.")
				return
			}
			s.say("# Paste this into a shell. The client key %q of train %s%s is shown only now.", key.Name, train, until(key.ExpiresAt))
			for _, v := range vars {
				s.say("export %s=%s", v[0], quote(v[1]))
			}
			s.say("unset %s", strings.Join(t.unset, " "))
			s.say("# %s", t.start)
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&train, "train", defaultTrain, "train whose accounts it may use")
	flags.StringVar(&name, "name", "", "name of the client key (default "+t.use+" on this machine)")
	flags.StringVar(&expires, "expires", "", "when the key expires: a span such as 90d, or a time (default never)")
	flags.BoolVar(&write, "write", false, "write it to "+t.file+" in this directory instead of printing it; what else is there stays")
	flags.StringVar(&file, "file", t.file, "file for --write")
	return cmd
}

// quote makes text one word of a POSIX shell.
func quote(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// keyName says which program on which machine a key is for, so that it can be found again to be revoked.
func keyName(program string) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return program
	}
	host, _, _ = strings.Cut(host, ".")
	return program + " on " + printable(host)
}

// warnOfEmptyTrain says what is missing before the first request fails. It does not fail the command: the key is issued.
func (s *shell) warnOfEmptyTrain(ctx context.Context, c *client.Client, train string) {
	explained, err := c.Explain(ctx, train)
	if err != nil {
		return
	}
	for _, e := range explained.Accounts {
		if e.Chosen || e.State == "usable" {
			return
		}
	}
	s.note("Train %s has no usable account yet; store one with: signalbox account add%s", train, trainFlag(train))
}

// resolve follows a symbolic link, so that the file behind it is written and the link stays.
func resolve(file string) (string, error) {
	real, err := filepath.EvalSymlinks(file)
	if os.IsNotExist(err) {
		return file, nil
	}
	return real, err
}

// maxSettings bounds the file that is read to be merged.
const maxSettings = 1 << 20

func readOld(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSettings {
		return nil, fmt.Errorf("%s is no settings file", file)
	}
	return os.ReadFile(file)
}

// rewrite replaces the file in one step, readable by its owner only.
func rewrite(file string, old []byte, vars [][2]string, t target) (err error) {
	text, err := t.write(old, vars)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	work, err := os.CreateTemp(dir, filepath.Base(file)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(work.Name())
		}
	}()
	if _, err := work.Write(text); err != nil {
		_ = work.Close()
		return err
	}
	if err := work.Close(); err != nil {
		return err
	}
	return os.Rename(work.Name(), file)
}
