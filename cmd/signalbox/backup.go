package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/backup"
	"signalbox.dev/signalbox/internal/store"
)

// backupAnswer is the answer of backup, restore and restore --check.
type backupAnswer struct {
	ID        string    `json:"id"`
	At        time.Time `json:"at"`
	File      string    `json:"file"`
	Bytes     int64     `json:"bytes"`
	Schema    int64     `json:"schema"`
	Engine    string    `json:"engine"`
	RootKeyID string    `json:"root_key_id"`
	Rows      int64     `json:"rows"`

	Check    *checkAnswer   `json:"check,omitempty"`
	Restored *restoreAnswer `json:"restored,omitempty"`
}

type checkAnswer struct {
	OK          bool  `json:"ok"`
	Credentials int64 `json:"credentials"`
	People      int64 `json:"people"`
	Opened      int64 `json:"secrets_opened"`
	Damaged     int64 `json:"secrets_damaged"`
	// DamagedIn names the tables and columns of what did not open.
	DamagedIn []string `json:"damaged_in"`
	Audit     verdict  `json:"audit"`
}

type restoreAnswer struct {
	Rows  int64  `json:"rows"`
	Kept  string `json:"kept,omitempty"`
	Moved bool   `json:"moved"`
}

func answerOf(h backup.Head, file string, size int64) backupAnswer {
	return backupAnswer{ID: h.ID, At: h.At, File: file, Bytes: size, Schema: h.Schema, Engine: string(h.Engine), RootKeyID: h.RootKey, Rows: h.Rows}
}

func (s *shell) backupCommand() *cobra.Command {
	var output string
	var force bool
	cmd := &cobra.Command{
		Use: "backup", Short: "Write the whole database into a sealed file", Args: words(),
		Long: "Writes the whole database, as it is at one moment, into one file that opens only with the root key and is the same for SQLite and PostgreSQL. " +
			"Servers may run meanwhile. The root key is not in it: keep a copy of that elsewhere.",
		Example: "  signalbox backup --output signalbox.backup",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output == "" {
				return usage("--output is missing: the file to write")
			}
			cfg, err := s.withQuietLog(cmd)
			if err != nil {
				return err
			}
			did, err := app.Backup(cmd.Context(), cfg, output, force, s.progress("rows written"))
			if err != nil {
				return err
			}
			return s.show(answerOf(did.Head, did.File, did.Bytes), func() {
				s.say("Wrote backup %s to %s: %s in %d bytes, schema %d.", did.Head.ID, did.File, count(did.Head.Rows, "row", "rows"), did.Bytes, did.Head.Schema)
				s.note("It opens with root key %s alone, which is not in it. Try it: signalbox restore --check --input %s", did.Head.RootKey, did.File)
			})
		},
	}
	settingFlags(cmd, app.UseData, app.UseLog)
	cmd.Flags().StringVar(&output, "output", "", "file to write, for its owner only")
	cmd.Flags().BoolVar(&force, "force", false, "replace the file if it exists")
	return cmd
}

func (s *shell) restoreCommand() *cobra.Command {
	var input, scratch string
	var check, force, moved bool
	cmd := &cobra.Command{
		Use: "restore", Short: "Make the database what a backup holds, or check a backup", Args: words(),
		Long: "Restores a backup into an empty database, of either engine, wholly or not at all. No server may run on it meanwhile. With --check nothing is changed: the backup is read " +
			"to its end, restored into a database of its own that is removed again, everything that is sealed in it is opened, and its audit log is verified.\n\n" +
			"The next start records the restore. People sign in anew then, and OAuth refresh tokens count as spent until they have been tried. --moved says that no server has run since the " +
			"backup was taken, so that it is the present: nothing is in doubt, and sessions go on.",
		Example: "  signalbox restore --check --input signalbox.backup\n  signalbox restore --input signalbox.backup --data-dir fresh",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case input == "":
				return usage("--input is missing: the backup to read")
			case check && (force || moved):
				return usage("--check changes nothing, so --force and --moved do not belong to it")
			case scratch != "" && !check:
				return usage("--scratch belongs to --check")
			}
			cfg, err := s.withQuietLog(cmd)
			if err != nil {
				return err
			}
			if check {
				return s.checkBackup(cmd, cfg, input, scratch)
			}
			did, err := app.Restore(cmd.Context(), cfg, input, app.RestoreOptions{Replace: force, Moved: moved, Progress: s.progress("rows restored")})
			var full *store.ErrOccupied
			if errors.As(err, &full) {
				return fmt.Errorf("%w, all of which would be gone; restore into an empty one, or give them up with --force", err)
			}
			if err != nil {
				return err
			}
			out := answerOf(did.Head, input, did.Bytes)
			out.Restored = &restoreAnswer{Rows: did.Loaded.Rows, Kept: did.Loaded.Kept, Moved: moved}
			return s.show(out, func() {
				s.say("Restored backup %s of %s: %s.", did.Head.ID, did.Head.At.Local().Format(time.RFC1123), count(did.Loaded.Rows, "row", "rows"))
				if did.Loaded.Kept != "" {
					s.say("The database that was there is now %s.", did.Loaded.Kept)
				}
				s.note("Start the server, then run: signalbox audit verify")
			})
		},
	}
	settingFlags(cmd, app.UseData, app.UseLog)
	flags := cmd.Flags()
	flags.StringVar(&input, "input", "", "the backup to read")
	flags.BoolVar(&check, "check", false, "check the backup and change nothing")
	flags.StringVar(&scratch, "scratch", "", "with --check, a directory with room for the database (default the one for temporary files)")
	flags.BoolVar(&force, "force", false, "replace what the database holds; a SQLite file stays under another name, PostgreSQL's tables are gone")
	flags.BoolVar(&moved, "moved", false, "no server has run since the backup was taken: a move to another database or machine")
	return cmd
}

func (s *shell) checkBackup(cmd *cobra.Command, cfg app.Config, input, scratch string) error {
	got, err := app.CheckBackup(cmd.Context(), cfg, input, scratch, s.progress("rows checked"))
	if err != nil {
		return err
	}
	out := answerOf(got.Head, input, got.Bytes)
	damaged, where := got.Damaged()
	out.Check = &checkAnswer{
		OK: got.OK(), Credentials: got.Contents.Credentials, People: got.Contents.People, Opened: got.Opened(), Damaged: damaged, DamagedIn: append([]string{}, where...), Audit: verdictOf(got.Audit),
	}
	if err := s.show(out, func() {
		if got.OK() {
			s.say("The backup is whole and opens with root key %s.", got.Head.RootKey)
		} else {
			s.say("The backup is whole, but what it holds is NOT sound.")
		}
		s.facts(
			"backup", fmt.Sprintf("%s of %s, from %s with schema %d", got.Head.ID, got.Head.At.Local().Format(time.RFC1123), got.Head.Engine, got.Head.Schema),
			"holds", fmt.Sprintf("%s, %s, %s", count(got.Contents.Credentials, "credential", "credentials"), count(got.Contents.People, "person", "people"), count(got.Head.Rows, "row", "rows")),
			"secrets", fmt.Sprintf("%d opened, %d did not", got.Opened(), damaged),
		)
		if damaged > 0 {
			s.say("What did not open is in %s. Check an older backup; of what no backup opens the secrets have to be given anew.", strings.Join(where, ", "))
		}
		s.tell(got.Audit)
	}); err != nil {
		return err
	}
	if !got.OK() {
		return errVerdict
	}
	return nil
}
