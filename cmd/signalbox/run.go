package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/connect"
)

const (
	// usualRun is how long the key of a run lives unless it is told otherwise: the longest for which one that ends with a sign-in can.
	usualRun = "12h"
	// longestRun bounds the life of a key that may be left behind.
	longestRun = 30 * 24 * time.Hour
	// Exit codes of a shell for a command that it does not find, that it cannot start, and what it adds to the number of a signal.
	noCommand, noStart, bySignal = 127, 126, 128
	// retryRevoke is how long to wait before a server that does not answer is asked again to revoke a key, and triesToRevoke how often it is asked.
	retryRevoke, triesToRevoke = 500 * time.Millisecond, 3
)

// ended is how a command ended that ours has run: its exit code is ours. Without a text there is nothing to say.
type ended struct {
	exit       int
	code, text string
}

// Error says what went wrong.
func (e *ended) Error() string { return e.text }

// running is one run of a command.
type running struct {
	*shell
	train, form                string
	life                       time.Duration
	withSession, keep, quietly bool
	program, name              string // the file that is run, and what people call it
	args                       []string
}

func (s *shell) runCommand() *cobra.Command {
	r := &running{shell: s}
	var expires string
	cmd := s.remote("run [flags] -- COMMAND [ARGUMENT]...", "Run a command with a client key of its own, revoked when it ends", afterDash, func(cmd *cobra.Command, args []string) (err error) {
		if r.life, err = parseSpan(expires); err != nil {
			return err
		}
		if r.life < shortestKey || r.life > longestRun {
			return usage("--expires must be 15m to 30d, not %s", expires)
		}
		r.args = args
		if r.program, err = look(args[0]); err != nil {
			return err
		}
		r.name = filepath.Base(args[0])
		if r.form == "" {
			r.form = formOf(r.name)
		}
		if _, ok := forms()[r.form]; !ok {
			return usage("--as is claude-code or sdk, not %q", r.form)
		}
		return r.do(cmd)
	})
	flags := cmd.Flags()
	flags.StringVar(&r.train, "train", defaultTrain, "train whose accounts it may use")
	flags.StringVar(&expires, "expires", usualRun, "when the key ends in any case, 15m to 30d")
	flags.StringVar(&r.form, "as", "", "which variables to set: claude-code or sdk (default by the command's name)")
	flags.BoolVar(&r.keep, "keep-token", false, "leave SIGNALBOX_TOKEN in the command's environment")
	flags.BoolVar(&r.quietly, "quiet", false, "say only what went wrong")
	return cmd
}

// afterDash wants a command after --, so that no flag of it is taken for one of ours.
func afterDash(cmd *cobra.Command, args []string) error {
	switch at := cmd.ArgsLenAtDash(); {
	case at > 0 || at < 0 && len(args) > 0:
		return usage("put -- before the command: signalbox run -- %s", printable(args[0]))
	case len(args) == 0:
		return usage("COMMAND is missing; it stands after --, as in: signalbox run -- claude")
	case args[0] == "":
		return usage("COMMAND is empty")
	}
	return nil
}

// look finds the file of a command as a shell does. It is looked for before a key is issued, so that none is issued for what cannot be run.
func look(command string) (string, error) {
	path, err := exec.LookPath(command)
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, exec.ErrDot):
		return "", &ended{noCommand, "command_not_found", fmt.Sprintf("%s is found only in this directory, by a PATH that names it; if you mean that one: signalbox run -- ./%s", command, command)}
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		return "", &ended{noCommand, "command_not_found", fmt.Sprintf("There is no command %s. No key was issued.", quote(command))}
	default:
		return "", &ended{noStart, "command_not_started", fmt.Sprintf("%s cannot be run: it is a directory, or you may not execute it. No key was issued.", quote(command))}
	}
}

// forms are the ways in which programs are told of a server and a key.
func forms() map[string]func(connect.Setup) ([]connect.Variable, []string) {
	return map[string]func(connect.Setup) ([]connect.Variable, []string){"claude-code": connect.ClaudeCode, "sdk": connect.SDK}
}

// formOf is the way of a command that nobody has said.
func formOf(name string) string {
	if name == "claude" {
		return "claude-code"
	}
	return "sdk"
}

// do issues the key, runs the command, and revokes the key.
func (r *running) do(cmd *cobra.Command) error {
	c, cfg, err := r.client(cmd)
	if err != nil {
		return err
	}
	r.withSession = r.by == byLogin && r.life <= longestKey
	// From here to the end nothing but the command's end ends this one: whoever goes before leaves a key behind.
	signals := listen()
	defer signals.stop()
	key, err := r.issue(cmd.Context(), c)
	if err != nil {
		return err
	}
	env, told := r.environment(connect.Setup{URL: cfg.URL, Train: r.train, Key: key.APIKey})
	if !r.quietly {
		if told != "" {
			r.note("%s", told)
		}
		r.sayOtherSettings(cfg.URL)
		limited, cancel := context.WithTimeout(cmd.Context(), checkTime)
		r.warnOfEmptyTrain(limited, c, r.train)
		cancel()
	}
	if number, came := signals.before(); came || cmd.Context().Err() != nil {
		r.revoke(cmd.Context(), c, key)
		if !came { // what ends a command's context is one of them
			number = int(syscall.SIGINT)
		}
		return &ended{exit: bySignal + number}
	}
	exit, err := r.start(env, signals)
	r.revoke(cmd.Context(), c, key)
	if err != nil {
		return &ended{noStart, "command_not_started", fmt.Sprintf("%s could not be started: %v", quote(r.args[0]), err)}
	}
	if exit == 0 {
		return nil
	}
	return &ended{exit: exit}
}

// issue has the key issued. A signal does not break that off, unless somebody may be asked to prove who they are: a request that is cut off may leave a key.
func (r *running) issue(ctx context.Context, c *client.Client) (client.IssuedKey, error) {
	if r.by != byLogin || r.withSession {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), issueTime)
		defer cancel()
		ctx = limited
	}
	ends := time.Now().UTC().Add(r.life).Truncate(time.Second)
	name := []rune(strings.ToValidUTF8(r.name, "?"))
	draft := client.KeyDraft{Name: keyName("run: " + printable(string(name[:min(len(name), 32)]))), ExpiresAt: &ends, WithSession: r.withSession}
	if long := []rune(draft.Name); len(long) > 100 {
		draft.Name = string(long[:100])
	}
	key, err := r.issueOnce(ctx, c, r.train, func(c *client.Client) (client.IssuedKey, error) { return c.IssueKey(ctx, r.train, draft) })
	if err != nil {
		return client.IssuedKey{}, trainError(err, r.train)
	}
	return key, nil
}

// revoke ends the key. Where that cannot be done it says until when the key lives; it never changes how the command ended.
func (r *running) revoke(ctx context.Context, c *client.Client, key client.IssuedKey) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCalls)
	defer cancel()
	var err error
	for try := range triesToRevoke {
		if try > 0 {
			time.Sleep(retryRevoke)
		}
		if err = c.RevokeKey(ctx, r.train, key.ID); err == nil {
			return
		}
		if !away(ctx, err) {
			break
		}
	}
	p := problem(err)
	if key.WithSession && p.Code == "unauthenticated" {
		r.note("The sign-in has ended, and the client key of this run (%s) with it.", key.ID)
		return
	}
	if isNotFound(err) { // somebody has deleted it or its train; or the answer is of something that stands between
		r.note("The client key of this run (%s) was not found, so this command has not revoked it. If it is still there, it lives%s.", key.ID, until(key.ExpiresAt))
		return
	}
	r.note("The client key of this run is NOT revoked (%s): it lives%s. Revoke it with: signalbox key revoke %s %s", p.Code, until(key.ExpiresAt), r.train, key.ID)
}

// environment is what the command gets: ours, without what would go before the key or beside it and without the user's own sign-in; and what to tell of that.
// Names are told, never values.
func (r *running) environment(setup connect.Setup) (env []string, told string) {
	vars := maps.Clone(map[string]string(r.env))
	var out, changed []string
	set, unset := forms()[r.form](setup)
	for _, name := range slices.Concat(unset, connect.Rivals(), r.ownSecrets()) {
		if vars[name] != "" {
			out = append(out, name)
		}
		delete(vars, name)
	}
	if kept := connect.WithoutCredentials(vars[connect.CustomHeaders]); kept != vars[connect.CustomHeaders] {
		changed = append(changed, connect.CustomHeaders)
		if vars[connect.CustomHeaders] = kept; kept == "" {
			delete(vars, connect.CustomHeaders)
		}
	}
	for _, v := range set {
		if was := vars[v.Name]; was != "" && was != v.Value {
			changed = append(changed, v.Name)
		}
		vars[v.Name] = v.Value
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		env = append(env, name+"="+vars[name])
	}
	var parts []string
	if len(out) > 0 {
		parts = append(parts, "without "+strings.Join(out, ", "))
	}
	if len(changed) > 0 {
		parts = append(parts, "with another "+strings.Join(changed, ", "))
	}
	if len(parts) > 0 {
		told = r.name + " runs " + strings.Join(parts, ", and ") + "."
	}
	return env, told
}

// sayOtherSettings names settings files of Claude Code with variables that it takes in place of those that it is given here. They are the user's.
func (r *running) sayOtherSettings(server string) {
	if r.form != "claude-code" {
		return
	}
	dir := r.env["CLAUDE_CONFIG_DIR"]
	if dir == "" {
		dir = filepath.Join(r.env["HOME"], ".claude")
	}
	for _, file := range []string{filepath.Join(dir, "settings.json"), ".claude/settings.json", ".claude/settings.local.json"} {
		text, err := readOld(file)
		if err != nil {
			continue // Claude Code says what it cannot read
		}
		var names []string
		for _, name := range append([]string{connect.BaseURL, connect.AuthToken, connect.APIKey}, connect.Rivals()...) {
			for _, is := range claudeSettings(text, name) {
				if is.value != "" && !(name == connect.BaseURL && is.value == server) && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
		if len(names) > 0 {
			r.note("%s sets %s, which Claude Code takes in place of what it gets here; take that out if this run's key is to be used.", file, strings.Join(names, ", "))
		}
	}
}

// ownSecrets are the variables with which a user signs in here or opens a server's data. A name that is not ours alone (DATABASE_URL) is the command's as well.
func (r *running) ownSecrets() (names []string) {
	for _, setting := range app.Settings() {
		for _, name := range setting.Env {
			if setting.Secret && strings.HasPrefix(name, "SIGNALBOX_") && !(r.keep && setting.Name == "token") {
				names = append(names, name, name+"_FILE")
			}
		}
	}
	return names
}

// start runs the command on our own streams and returns its exit code, as a shell would; an error is that it did not start.
func (r *running) start(env []string, signals *signals) (int, error) {
	child := exec.Command(r.program)
	child.Args, child.Env = r.args, env
	child.Stdin, child.Stdout, child.Stderr = r.in, r.out, r.err // files of this process, so that the command has the very same
	if err := child.Start(); err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return 0, err
	}
	defer func() { _ = child.Process.Release() }()
	return signals.attend(child.Process), nil
}
