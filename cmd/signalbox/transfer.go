package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/importer"
	"signalbox.dev/signalbox/internal/secret"
)

// executorKey is the variable in which the program whose records are imported kept its key.
const executorKey = "FOREST_EXECUTOR_ENCRYPTION_KEY"

// maxImport bounds what is read of all files together; the server bounds it too.
const maxImport = 192 << 20

func (s *shell) importCommand() *cobra.Command {
	var d client.ImportDraft
	var stdin bool
	cmd := s.remote("import PATH…", "Import files of other programs, or an archive of signalbox export", paths, func(cmd *cobra.Command, args []string) error {
		if d.Format != "" && !slices.Contains(importer.Names(), d.Format) {
			return usage("--format must be one of: %s", strings.Join(importer.Names(), ", "))
		}
		files, err := gather(args)
		if err != nil {
			return err
		}
		d.Files = files
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		pass, err := s.opens(cmd.Context(), d.Format, files, stdin)
		if err != nil {
			return err
		}
		d.Passphrase = pass.Reveal()
		report, err := c.Import(cmd.Context(), d)
		if err != nil {
			return err
		}
		return s.show(report, func() { s.showImport(report) })
	})
	flags := cmd.Flags()
	flags.StringVar(&d.Format, "format", "", "format of all files, if it is not to be found out: "+strings.Join(importer.Names(), ", "))
	flags.StringVar(&d.Name, "name", "", "what an account is called whose file has no name for it, such as a login of Claude Code")
	flags.BoolVar(&d.DryRun, "dry-run", false, "say what would become of each entry, and store nothing")
	flags.BoolVar(&stdin, "passphrase-stdin", false, "read the passphrase, or the age identity, of an encrypted file from standard input instead of asking")
	return cmd
}

// paths checks that there is one path at least.
func paths(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("PATH is missing: a file, or a directory with files to import")
	}
	if slices.Contains(args, "") {
		return usage("PATH is empty")
	}
	return nil
}

// opens returns what opens the files, if one of them is encrypted.
func (s *shell) opens(ctx context.Context, format string, files []client.ImportFile, stdin bool) (secret.Value, error) {
	if stdin {
		return s.readStdin("--passphrase-stdin")
	}
	for _, f := range files {
		if format == "mcp-executor" || format == "" && importer.LooksExecutor(f.Content) {
			if key := s.env[executorKey]; key != "" {
				return secret.FromString(key), nil
			}
			return s.ask(ctx, "Key of "+filepath.Base(f.Name)+" ("+executorKey+")", "--passphrase-stdin")
		}
		if bytes.HasPrefix(f.Content, []byte("age-encryption.org/")) || bytes.HasPrefix(f.Content, []byte("-----BEGIN AGE ")) ||
			bytes.Contains(f.Content[:min(len(f.Content), 4096)], []byte(`"passwordProtected": true`)) || bytes.Contains(f.Content[:min(len(f.Content), 4096)], []byte(`"passwordProtected":true`)) {
			return s.ask(ctx, "Passphrase of "+filepath.Base(f.Name), "--passphrase-stdin")
		}
	}
	return secret.Value{}, nil
}

// gather reads the files, and of directories those that are made for import by their name: of Claude Code, of the older proxy, and .env files.
func gather(args []string) (out []client.ImportFile, err error) {
	left := int64(maxImport)
	take := func(path string) error {
		if len(out) == importer.MaxFiles {
			return usage("there are more than %d files; import them in parts", importer.MaxFiles)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		b, err := io.ReadAll(io.LimitReader(f, left+1))
		if err != nil {
			return err
		}
		if left -= int64(len(b)); left < 0 {
			return usage("the files are over %d MiB together; import them in parts", maxImport>>20)
		}
		if len(b) == 0 {
			return usage("%s is empty", path)
		}
		out = append(out, client.ImportFile{Name: filepath.Base(path), Content: b})
		return nil
	}
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			if err := take(arg); err != nil {
				return nil, err
			}
			continue
		}
		before := len(out)
		// Links are not followed: they may lead anywhere.
		err = filepath.WalkDir(arg, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case e.IsDir() && path != arg && strings.Count(strings.TrimPrefix(path, arg), string(filepath.Separator)) > 2:
				return fs.SkipDir
			case e.Type().IsRegular() && importable(e.Name()):
				return take(path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(out) == before {
			return nil, usage("%s holds no file that is taken for one to import (.env, .credentials.json, NAME.credentials.json, TRAIN.client-keys.json); name the file itself", arg)
		}
	}
	return out, nil
}

func importable(name string) bool {
	return name == ".env" || strings.HasSuffix(name, ".credentials.json") || strings.HasSuffix(name, ".client-keys.json")
}

func (s *shell) showImport(r client.ImportReport) {
	t := table{head: []string{"ENTRY", "FILE", "WHERE", "WHAT", "NAME", "BECOMES", "WHY"}}
	for _, w := range r.Rows {
		what := orDash(w.Type)
		if w.Kind == "client_key" {
			what = "client key"
		} else if w.Kind == "mcp_connection" {
			what = "MCP connection"
		}
		why := w.Reason
		if w.DuplicateOf != "" {
			why += " (" + w.DuplicateOf + ")"
		}
		if w.SameAs > 0 {
			why += " (entry " + strconv.Itoa(w.SameAs) + ")"
		}
		t.add(strconv.Itoa(w.Number), w.File, w.Place, what, orDash(w.Name), becomes(w.Action, r.Applied), orDash(why))
	}
	s.print(t, "The files hold nothing that could be imported.")
	if r.LeftOut > 0 {
		s.note("%d more entries are not listed.", r.LeftOut)
	}
	said := map[string]bool{}
	for _, w := range r.Rows {
		for _, note := range w.Notes {
			if key := w.Name + note; !said[key] {
				said[key] = true
				s.note("Note on %s: %s.", orDash(w.Name), note)
			}
		}
	}
	switch numbers := fmt.Sprintf("%d of %d entries", r.Created, r.Entries); {
	case r.Applied:
		s.say("Imported %s; %d are here already, %d were skipped (%s).", numbers, r.Duplicates, r.Skipped, r.ID)
	case r.Invalid > 0:
		s.say("A dry run: nothing was stored, and nothing could be: %d of %d entries cannot be stored as they are.", r.Invalid, r.Entries)
	default:
		s.say("A dry run: nothing was stored. It would import %s; %d are here already, %d would be skipped.", numbers, r.Duplicates, r.Skipped)
	}
	if !r.SecretsCompared {
		s.note("Secrets were not compared with those that are stored, since that takes the right to reveal them.")
	}
}

// becomes says what became, or would become, of an entry.
func becomes(action string, applied bool) string {
	if action == "create" && applied {
		return "stored"
	}
	return map[string]string{"create": "would be stored", "duplicate": "is here already", "skip": "skipped", "invalid": "cannot be stored"}[action]
}

func (s *shell) exportCommand() *cobra.Command {
	var d client.ExportDraft
	var to string
	var stdin bool
	cmd := s.remote("export", "Export every credential that you may reveal, into an encrypted archive", words(), func(cmd *cobra.Command, _ []string) error {
		switch {
		case to == "":
			return usage("--to FILE is missing: where the archive is written")
		case stdin && len(d.Recipients) > 0:
			return usage("an archive is for recipients or has a passphrase; give one of the two")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if len(d.Recipients) == 0 {
			var v secret.Value
			if stdin {
				v, err = s.readStdin("--passphrase-stdin")
			} else {
				v, err = s.askTwice(cmd.Context(), "Passphrase of the archive, 16 characters or more", "--passphrase-stdin")
			}
			if err != nil {
				return err
			}
			d.Passphrase = v.Reveal()
		}
		size, err := writeArchive(cmd.Context(), c, d, to)
		if err != nil {
			return err
		}
		return s.show(map[string]any{"file": to, "bytes": size}, func() {
			s.say("Wrote %s (%d bytes). Each credential in it is on record as revealed.", to, size)
			s.note("Keep what opens it apart from it. Read it back with: signalbox import %s --dry-run", to)
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&to, "to", "", "file to be written; it must not exist yet")
	flags.StringArrayVar(&d.Recipients, "recipient", nil, "encrypt for this recipient of age (age1…) in place of a passphrase (may be given several times)")
	flags.BoolVar(&stdin, "passphrase-stdin", false, "read the passphrase from standard input instead of asking")
	flags.StringVar(&d.Reason, "reason", "export on the command line", "why; it is kept in the audit log with each credential")
	return cmd
}

// newFile makes a file for its owner only.
func newFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, usage("%s is there already; choose another file", path)
	}
	return f, err
}

// writeArchive writes the archive to a new file, which is gone again when it is not whole. What reaches the disk is encrypted.
func writeArchive(ctx context.Context, c *client.Client, d client.ExportDraft, to string) (size int64, err error) {
	f, err := newFile(to)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			_ = os.Remove(to)
		}
	}()
	if err := c.ExportCredentials(ctx, d, f); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return f.Seek(0, io.SeekCurrent)
}
