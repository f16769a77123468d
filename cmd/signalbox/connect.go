package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/connect"
	"signalbox.dev/signalbox/internal/identity"
)

// target is a kind of program that can be connected.
type target struct {
	use, short string
	// keyVariable is the variable from which the program takes its key.
	keyVariable string
	// vars are the variables that it reads, and those that would send another key beside ours.
	vars func(connect.Setup) (set []connect.Variable, unset []string)
	// file is where --write writes, "" for nowhere, and write how the variables are put into the file's old content.
	file  string
	write func(old []byte, vars []connect.Variable) ([]byte, error)
	// settings are what the file sets a variable to, at each place that does.
	settings func(old []byte, name string) []setting
	// start says how the program is started afterwards.
	start string
	// helper says that it can ask a command of ours for its key, lang that it is written in a language of which there is an example, and account that it can
	// be told which account to use.
	helper, lang, account bool
	// after is what to paste after the variables.
	after func(connect.Setup) string
}

func targets() []target {
	return []target{
		{
			use: "claude-code", short: "Connect Claude Code: a client key, and what to paste", keyVariable: connect.AuthToken, vars: connect.ClaudeCode,
			file: ".claude/settings.json", write: mergeClaudeSettings, settings: claudeSettings, start: "Then start it in the same shell: claude", helper: true, account: true,
		},
		{
			use: "sdk", short: "Connect a program that uses an official SDK (Python, TypeScript, Go)", keyVariable: connect.APIKey, vars: connect.SDK, lang: true,
			file: ".env", write: mergeDotenv, settings: dotenvSettings, start: "Then start the program in the same shell; Anthropic() in Python, new Anthropic() in TypeScript and anthropic.NewClient() in Go read them.",
		},
		{
			use: "curl", short: "Connect curl: a client key, and a request to paste", keyVariable: connect.APIKey, vars: connect.SDK, account: true, after: connect.Curl,
			start: "The key goes to curl's standard input: everybody on this machine can read the arguments of a process.",
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
	// Kept says that the file held a working key of the train already.
	Kept bool `json:"kept,omitempty"`
	// Revoked are the older keys that this one replaced, where it is written to a file. Where it is shown here, they are revoked only afterwards.
	Revoked []string `json:"revoked,omitempty"`
}

func (s *shell) connectTo(t target) *cobra.Command {
	var train, expires, name, file, lang, account string
	var write, replace, helper bool
	cmd := s.remote(t.use, t.short, words(), func(cmd *cobra.Command, _ []string) error {
		write = write || cmd.Flags().Changed("file")
		if strings.ContainsAny(account, "\r\n") {
			return usage("--account is no name of an account")
		}
		if helper {
			if name != "" || replace {
				return usage("with --helper keys are issued as they are needed: leave --name and --replace out")
			}
			return s.connectHelper(cmd, t, connect.Setup{Train: train, Account: account}, expires, write, file)
		}
		program, known := connect.ProgramIn(lang)
		if lang != "" && !known {
			return usage("there is no program in %q; there are: %s", lang, connect.Languages())
		}
		draft := client.KeyDraft{Name: name}
		if name == "" {
			draft.Name = keyName(t.use)
		}
		var err error
		if draft.ExpiresAt, err = parseExpiry(expires); err != nil {
			return err
		}
		var old []byte
		if write { // looked at before a key is issued, so that none is issued for a file that cannot be written
			if file, err = resolve(file, cmd.Flags().Changed("file")); err != nil {
				return err
			}
			if old, err = readOld(file); err != nil {
				return err
			}
			if _, err := t.write(old, nil); err != nil {
				return fmt.Errorf("%s: %w; nothing was done", file, err)
			}
			if err := t.rivals(old); err != nil {
				return fmt.Errorf("%s: %w; nothing was done", file, err)
			}
		}
		c, cfg, err := s.client(cmd)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		keys, err := allKeys(ctx, c, train)
		if err != nil && (replace || problem(err).exit != 4) { // a token that may issue keys need not be one that may list them
			return trainError(err, train)
		}
		mine, others, err := own(ctx, c, keys)
		if err != nil {
			return err
		}
		if write && !replace && name == "" && expires == "" {
			if held, ok := heldKey(t.read(old, t.keyVariable).value, mine); ok {
				if err := s.keepKey(ctx, c, t, connection{BaseURL: cfg.URL, KeyID: held.ID, Train: train, File: file, Kept: true}, old, account); err != nil {
					return err
				}
				if !s.json {
					s.sayProgram(program, load(file))
				}
				return nil
			}
		}
		key, err := s.issueOnce(ctx, c, train, func(c *client.Client) (client.IssuedKey, error) { return c.IssueKey(ctx, train, draft) })
		succeeds := ""
		if err != nil && replace && problem(err).Code == "key_limit_reached" {
			key, succeeds, err = s.succeed(ctx, c, train, draft, mine, err)
		}
		if err != nil {
			return trainError(err, train)
		}
		out := connection{BaseURL: cfg.URL, APIKey: key.APIKey, KeyID: key.ID, Train: train}
		setup := connect.Setup{URL: cfg.URL, Train: train, Key: key.APIKey, Account: account}
		vars, unset := t.vars(setup)
		if write {
			merge := func(old []byte) ([]byte, error) {
				if err := t.rivals(old); err != nil {
					return nil, err
				}
				return t.write(old, vars)
			}
			if err := rewrite(file, true, merge); err != nil {
				// Nobody has the key, so nobody shall be able to use it.
				if rerr := c.RevokeKey(context.WithoutCancel(ctx), train, key.ID); rerr != nil {
					return fmt.Errorf("%w; the new key %s is of no use to anybody, revoke it with: signalbox key revoke %s %s", err, key.ID, train, key.ID)
				}
				if succeeds != "" {
					return fmt.Errorf("%w; the older key %s works for 30 more days at most, so issue another in time", err, succeeds)
				}
				return err
			}
			out.APIKey, out.File = "", file
		}
		older := olderKeys{ofName(draft.Name, mine), ofName(draft.Name, others)}
		var left error
		if write { // otherwise nobody has the new key yet
			left = s.replaced(ctx, c, replace, &out, draft.Name, older)
		}
		var shown error
		err = s.show(out, func() {
			if write {
				s.say("Wrote the address and a client key of train %s (%s) to %s.", train, key.ID, file)
				s.note("The file holds a key: keep it out of version control.")
				s.sayProgram(program, load(file))
				return
			}
			text := fmt.Sprintf("# Paste this into a shell. The client key %q of train %s%s is shown only now.\n%s\n", key.Name, train, until(key.ExpiresAt), connect.Exports(vars, unset))
			if t.after != nil {
				text += t.after(setup) + "\n"
			}
			_, shown = io.WriteString(s.out, printable(text+"# "+t.start+"\n"))
			s.sayProgram(program, "")
		})
		if err = errors.Join(err, shown); err != nil {
			return err // and the older keys stay
		}
		if !write {
			left = s.replaced(ctx, c, replace, &out, draft.Name, older)
		}
		s.warnOfEmptyTrain(ctx, c, train)
		return left
	})
	flags := cmd.Flags()
	flags.StringVar(&train, "train", defaultTrain, "train whose accounts it may use")
	flags.StringVar(&name, "name", "", "name of the client key (default "+t.use+" on this machine)")
	flags.StringVar(&expires, "expires", "", "when the key expires: a span such as 90d, or a time (default never)")
	if t.lang {
		flags.StringVar(&lang, "lang", "", "add a short program to try it with: "+connect.Languages())
	}
	if t.account {
		flags.StringVar(&account, "account", "", "the one account to use, by its name or id (default as the train chooses)")
	}
	flags.BoolVar(&replace, "replace", false, "issue a new key in any case, and then revoke your older ones of the same name")
	if t.helper {
		flags.BoolVar(&helper, "helper", false, "have it ask signalbox helper for its keys, so that none lies in a file; prints the settings, or with --write adds them")
	}
	if t.file == "" {
		return cmd
	}
	flags.BoolVar(&write, "write", false, "write it to "+t.file+" in this directory instead of printing it; what else is there stays, a key that works too")
	flags.StringVar(&file, "file", t.file, "file for --write")
	return cmd
}

// leastHeld is for how long a key in a file must be good to be kept there.
const leastHeld = time.Hour

// heldKey finds the active key of the train that a file holds, by what may be shown of it, among those of the caller. One that ends soon, by itself or because
// it was replaced, does not count.
func heldKey(text string, mine []client.Key) (client.Key, bool) {
	if !strings.HasPrefix(text, identity.ClientKeyPrefix) || len(text) < 20 {
		return client.Key{}, false
	}
	for _, k := range mine {
		if k.Status != "active" || k.ReplacedBy != "" || k.ExpiresAt != nil && time.Until(*k.ExpiresAt) < leastHeld {
			continue
		}
		if k.KeyPreview == identity.ClientKeyPrefix+"…"+text[len(text)-4:] {
			return k, true
		}
	}
	return client.Key{}, false
}

// keepKey leaves the key in the file and sees to what stands beside it.
func (s *shell) keepKey(ctx context.Context, c *client.Client, t target, out connection, old []byte, account string) error {
	vars, _ := t.vars(connect.Setup{URL: out.BaseURL, Account: account})
	vars = slices.DeleteFunc(vars, func(v connect.Variable) bool { return v.Name == t.keyVariable })
	open, err := narrow(out.File)
	if err != nil {
		return err
	}
	if open {
		s.note("Others on this machine could read the key in %s; now only you can. If somebody may have, issue another: --replace", out.File)
	}
	if t.read(old, connect.BaseURL).value != out.BaseURL || len(vars) > 1 {
		if err := rewrite(out.File, true, func(old []byte) ([]byte, error) { return t.write(old, vars) }); err != nil {
			return err
		}
	}
	s.warnOfEmptyTrain(ctx, c, out.Train)
	return s.show(out, func() {
		s.say("Kept the client key of train %s (%s) that %s holds already; it points to %s.", out.Train, out.KeyID, out.File, out.BaseURL)
	})
}

// quote makes text one word of a POSIX shell.
func quote(text string) string { return connect.Quote(text) }

// sayProgram prints a program to try it with; load takes the variables from a file.
func (s *shell) sayProgram(p connect.Program, load string) {
	if p.Lang == "" {
		return
	}
	s.say("# A program in %s, in a directory of its own:", p.Name)
	s.say("%s", p.Paste())
	if load != "" {
		load += " && "
	}
	s.say("# To run it: %s%s", load, p.Commands())
}

// load has a shell take the variables of a file. A bare name it would look for elsewhere.
func load(file string) string {
	if !strings.Contains(file, "/") {
		file = "./" + file
	}
	return "set -a; . " + quote(file) + "; set +a"
}

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
