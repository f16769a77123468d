package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
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
	// read returns a variable as the file has it, or "".
	read func(old []byte, name string) string
	// start says how the program is started afterwards.
	start string
}

func targets() []target {
	return []target{
		{
			use: "claude-code", short: "Connect Claude Code: a client key, and what to paste", keyVariable: "ANTHROPIC_AUTH_TOKEN", unset: []string{"ANTHROPIC_API_KEY"},
			file: ".claude/settings.json", write: mergeClaudeSettings, read: claudeSetting, start: "Then start it in the same shell: claude",
		},
		{
			use: "sdk", short: "Connect a program that uses an official SDK (Python, TypeScript, Go)", keyVariable: "ANTHROPIC_API_KEY", unset: []string{"ANTHROPIC_AUTH_TOKEN"},
			file: ".env", write: mergeDotenv, read: dotenvSetting, start: "Then start the program in the same shell; Anthropic() in Python, new Anthropic() in TypeScript and anthropic.NewClient() in Go read them.",
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
	// Revoked are the older keys that this one replaces.
	Revoked []string `json:"revoked,omitempty"`
}

func (s *shell) connectTo(t target) *cobra.Command {
	var train, expires, name, file string
	var write, replace bool
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
			if file, err = resolve(file, cmd.Flags().Changed("file")); err != nil {
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
		ctx := cmd.Context()
		keys, err := allKeys(ctx, c, train)
		if err != nil && (replace || problem(err).exit != 4) { // a token that may issue keys need not be one that may list them
			return trainError(err, train)
		}
		if write && !replace && name == "" && expires == "" {
			if held, ok := heldKey(t.read(old, t.keyVariable), keys); ok {
				return s.keepKey(ctx, c, t, connection{BaseURL: cfg.URL, KeyID: held.ID, Train: train, File: file, Kept: true}, old)
			}
		}
		key, err := c.IssueKey(ctx, train, draft)
		succeeds := ""
		if err != nil && replace && problem(err).Code == "key_limit_reached" {
			key, succeeds, err = succeed(ctx, c, train, draft, keys, err)
		}
		if err != nil {
			return trainError(err, train)
		}
		out := connection{BaseURL: cfg.URL, APIKey: key.APIKey, KeyID: key.ID, Train: train}
		vars := [][2]string{{"ANTHROPIC_BASE_URL", cfg.URL}, {t.keyVariable, key.APIKey}}
		if write {
			if err := rewrite(file, old, vars, t); err != nil {
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
		if err := s.replaced(ctx, c, replace, &out, draft.Name, keys); err != nil {
			return err
		}
		s.warnOfEmptyTrain(ctx, c, train)
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
	flags.BoolVar(&write, "write", false, "write it to "+t.file+" in this directory instead of printing it; what else is there stays, a key that works too")
	flags.StringVar(&file, "file", t.file, "file for --write")
	flags.BoolVar(&replace, "replace", false, "issue a new key in any case, and revoke the older ones of the same name")
	return cmd
}

// heldKey finds the active key of the train that a file holds, by what may be shown of it.
func heldKey(text string, keys []client.Key) (client.Key, bool) {
	prefix, _, _ := strings.Cut(text, "live_")
	if prefix != "sbx_" || len(text) < 20 {
		return client.Key{}, false
	}
	for _, k := range keys {
		if k.Status == "active" && k.KeyPreview == "sbx_live_…"+text[len(text)-4:] {
			return k, true
		}
	}
	return client.Key{}, false
}

// keepKey leaves the key in the file and sees to the address beside it.
func (s *shell) keepKey(ctx context.Context, c *client.Client, t target, out connection, old []byte) error {
	if t.read(old, "ANTHROPIC_BASE_URL") != out.BaseURL {
		if err := rewrite(out.File, old, [][2]string{{"ANTHROPIC_BASE_URL", out.BaseURL}}, t); err != nil {
			return err
		}
	}
	s.warnOfEmptyTrain(ctx, c, out.Train)
	return s.show(out, func() {
		s.say("Kept the client key of train %s (%s) that %s holds already; it points to %s.", out.Train, out.KeyID, out.File, out.BaseURL)
	})
}

// replaced revokes the older active keys of the same name, or says that there are some: each run without --write issues another.
func (s *shell) replaced(ctx context.Context, c *client.Client, revoke bool, out *connection, name string, keys []client.Key) error {
	older := slices.DeleteFunc(slices.Clone(keys), func(k client.Key) bool { return k.Name != name || k.Status != "active" })
	if !revoke {
		if len(older) > 1 {
			s.note("Train %s has %d older keys named %q. Revoke them when they are not used any more: add --replace next time, or see signalbox key list %s.", out.Train, len(older), name, out.Train)
		}
		return nil
	}
	for _, k := range older {
		if err := c.RevokeKey(ctx, out.Train, k.ID); err != nil && !isNotFound(err) {
			return fmt.Errorf("the new key %s works, but the older one %s is not revoked: %w", out.KeyID, k.ID, err)
		}
		out.Revoked = append(out.Revoked, k.ID)
	}
	if len(out.Revoked) > 0 {
		s.note("Revoked what it replaces: %s.", strings.Join(out.Revoked, ", "))
	}
	return nil
}

// succeed issues the new key as the successor of an older one of its name, where the train has as many keys as it may have: a successor takes
// the place of what it replaces, which works on until the new key is where it belongs. Without one that can be replaced, full stands.
func succeed(ctx context.Context, c *client.Client, train string, draft client.KeyDraft, keys []client.Key, full error) (client.IssuedKey, string, error) {
	for _, k := range keys {
		if k.Name != draft.Name || k.Status != "active" || k.ReplacedBy != "" {
			continue
		}
		key, err := c.ReplaceKey(ctx, train, k.ID, client.KeyReplacement{Name: draft.Name, ExpiresAt: draft.ExpiresAt, OverlapSeconds: int(identity.MaxOverlap / time.Second)})
		return key, k.ID, err
	}
	return client.IssuedKey{}, "", full
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

// resolve follows a symbolic link, so that the file behind it is written and the link stays. A file that was not named is not followed out
// of this directory: whoever made the project would choose which file of this user is rewritten.
func resolve(file string, named bool) (string, error) {
	real, err := filepath.EvalSymlinks(file)
	if os.IsNotExist(err) {
		return file, nil
	}
	if err != nil || named {
		return real, err
	}
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if here, err = filepath.EvalSymlinks(here); err != nil {
		return "", err
	}
	if !filepath.IsAbs(real) {
		real = filepath.Join(here, real)
	}
	if inside, err := filepath.Rel(here, real); err != nil || !filepath.IsLocal(inside) {
		return "", fmt.Errorf("%s is a link to %s, outside this directory; nothing was done. If that file is meant, name it: --file %s", file, real, quote(real))
	}
	return file, nil
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
