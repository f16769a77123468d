package main

import (
	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/app"
)

// rootChange is what the flags of rekey say of the root key.
type rootChange struct {
	root, finish, abandon bool
	newKey                string
}

func (r *rootChange) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&r.root, "root", false, "change the root key, not the data key; opens the database itself")
	cmd.Flags().StringVar(&r.newKey, "new-key", "", "with --root: file of the new root key, where it is given from outside (signalbox keygen --output FILE)")
	cmd.Flags().BoolVar(&r.finish, "finish", false, "with --root: shut the old root key out, once every instance was started with the new one")
	cmd.Flags().BoolVar(&r.abandon, "abandon", false, "with --root: take a change back that is not finished; the new root key opens nothing")
	for _, setting := range app.Settings() { // as the other commands that open the database have them
		if (setting.Use == app.UseData || setting.Use == app.UseLog) && cmd.Flags().Lookup(setting.Flag()) == nil {
			addSetting(cmd, setting)
		}
	}
}

// asked reports whether the root key is meant.
func (r *rootChange) asked() bool {
	return r.root || r.finish || r.abandon || r.newKey != ""
}

// rootChangeOut is a change of the root key as the command tells of it.
type rootChangeOut struct {
	State    string   `json:"state"` // done, begun or abandoned
	Old      string   `json:"old_root_key_id,omitempty"`
	New      string   `json:"new_root_key_id,omitempty"`
	File     string   `json:"file,omitempty"`
	KeptFile string   `json:"old_key_file,omitempty"`
	Keepers  []string `json:"keepers,omitempty"`
}

func (r *rootChange) run(s *shell, cmd *cobra.Command) error {
	switch {
	case !r.root:
		return usage("--new-key, --finish and --abandon go with --root")
	case r.finish && r.abandon, r.newKey != "" && (r.finish || r.abandon):
		return usage("give one of --new-key, --finish and --abandon")
	case cmd.Flags().Changed("url"):
		return usage("--root opens the database of this machine (--data-dir, --database-url) and asks no server; leave --url out")
	}
	cfg, err := s.withQuietLog(cmd)
	if err != nil {
		return err
	}
	var did app.RootKeyChange
	switch {
	case r.finish:
		did, err = app.FinishRootKey(cmd.Context(), cfg)
	case r.abandon:
		did, err = app.AbandonRootKey(cmd.Context(), cfg)
	default:
		did, err = app.ChangeRootKey(cmd.Context(), cfg, r.newKey)
	}
	if err != nil {
		return err
	}
	out := rootChangeOut{State: "begun", Old: did.Old, New: did.New, File: did.File, KeptFile: did.KeptFile, Keepers: did.Keepers}
	switch {
	case r.abandon:
		out.State = "abandoned"
	case did.Done:
		out.State = "done"
	}
	return s.show(out, func() { s.tellRootChange(out) })
}

func (s *shell) tellRootChange(out rootChangeOut) {
	switch {
	case out.State == "abandoned":
		s.say("Root key %s alone opens the database.", out.Old)
	case out.State == "done" && out.Old == "":
		s.say("Root key %s alone opens the database; no change was under way.", out.New)
	case out.State == "done":
		s.say("Root key %s opens the database; root key %s opens nothing in it any more.", out.New, out.Old)
		if out.KeptFile != "" {
			s.note("The old root key lies in %s. Backups from before open with it alone: move it to where those are opened from, or remove it together with them.", out.KeptFile)
		}
		s.note("Keep a copy of the new root key apart from copies of the database. Who had the old root key and the database may have the data key as well: once the server serves again, run signalbox rekey.")
	default:
		s.say("Root keys %s and %s both open the database now.", out.Old, out.New)
		s.note("Next: start every instance anew with root key %s, one after the other; then run signalbox rekey --root --finish with it. To take the change back: signalbox rekey --root --abandon", out.New)
	}
}
