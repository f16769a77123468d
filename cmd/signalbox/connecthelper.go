package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/connect"
)

// helped is what a program needs that asks a helper for its keys.
type helped struct {
	BaseURL string `json:"base_url"`
	Helper  string `json:"api_key_helper"`
	KeyID   string `json:"key_id"`
	Train   string `json:"train_id"`
	File    string `json:"file,omitempty"`
	// Removed are the variables of the file that would go before the helper.
	Removed []string `json:"removed,omitempty"`
}

// connectHelper has a program ask a command of ours for its keys. That is tried first, so that what is missing is said here and not in the program.
func (s *shell) connectHelper(cmd *cobra.Command, t target, setup connect.Setup, expires string, write bool, file string) error {
	var more []string
	if expires != "" {
		more = []string{"--expires", expires}
	} else {
		expires = usualKeyLife
	}
	life, err := keyLife(expires)
	if err != nil {
		return err
	}
	_, unset := connect.Helper(setup)
	if write {
		if file, err = resolve(file, cmd.Flags().Changed("file")); err != nil {
			return err
		}
		old, err := readOld(file)
		if err != nil {
			return err
		}
		if _, err := t.write(old, nil); err != nil {
			return fmt.Errorf("%s: %w; nothing was done", file, err)
		}
		if err := t.lasting(old, unset); err != nil {
			return fmt.Errorf("%s: %w; nothing was done", file, err)
		}
	}
	c, cfg, err := s.client(cmd)
	if err != nil {
		return err
	}
	key, err := s.handOut(cmd, setup.Train, life)
	if err != nil {
		return err
	}
	s.warnOfEmptyTrain(cmd.Context(), c, setup.Train)
	setup.URL = cfg.URL
	out := helped{BaseURL: cfg.URL, Helper: connect.HelperCommand(ownName(), setup, more...), KeyID: key.id, Train: setup.Train}
	vars, _ := connect.Helper(setup)
	for _, name := range unset {
		if s.env[name] != "" {
			s.note("%s is set in this shell and goes before the helper: unset it, also where your shell sets it at its start.", name)
		}
	}
	if !write {
		return s.show(out, func() {
			s.note("For ~/.claude/settings.json (on Windows in WSL), or .claude/settings.json of a project. It holds no key. With --write it is merged into what is there.")
			s.say("%s", connect.HelperSettings(setup, out.Helper))
		})
	}
	out.File = file
	merge := func(old []byte) ([]byte, error) {
		if err := t.lasting(old, unset); err != nil {
			return nil, err
		}
		out.Removed = slices.DeleteFunc(slices.Clone(unset), func(name string) bool { return t.read(old, name).value == "" })
		return mergeClaude(old, vars, unset, out.Helper)
	}
	if err := rewrite(file, false, merge); err != nil {
		return err
	}
	return s.show(out, func() {
		s.say("Wrote the address and a helper for the keys of train %s to %s. It holds no key.", setup.Train, file)
		if len(out.Removed) > 0 {
			s.note("Removed from it what goes before the helper: %s. If nothing else uses that key, revoke it: signalbox key list %s", strings.Join(out.Removed, ", "), setup.Train)
		}
		s.note("Claude Code asks whether the directory is trusted before it runs a helper of a project.")
	})
}

// lasting refuses a file with a helper or with keys that are not ours, since they would be overwritten or taken out.
func (t target) lasting(old []byte, unset []string) error {
	if other := claudeHelper(old); other != "" && !isOurHelper(other) {
		return errors.New("its member apiKeyHelper names a helper that is none of Signalbox, so that it is not overwritten; take it out if nothing needs it any more, and run this again")
	}
	return t.foreign(old, unset...)
}

// isOurHelper reports whether a command of the settings is one that this program wrote, by whatever path it was called.
func isOurHelper(command string) bool {
	found := ourHelper.FindStringSubmatch(command)
	if found == nil {
		return false
	}
	return found[1] == quote(ownName()) || path.Base(strings.Trim(found[1], "'")) == "signalbox"
}

var ourHelper = regexp.MustCompile(`^('(?:[^']|'\\'')+'|[^\s'"]+) helper anthropic(?:\s|$)`)

// ownName is how another program starts this one: by its name where that is what the shell would find, otherwise by its path.
func ownName() string {
	self, err := os.Executable()
	if err != nil {
		return "signalbox"
	}
	if found, err := exec.LookPath("signalbox"); err == nil {
		a, aerr := os.Stat(found)
		b, berr := os.Stat(self)
		if aerr == nil && berr == nil && os.SameFile(a, b) {
			return "signalbox"
		}
	}
	return self
}
