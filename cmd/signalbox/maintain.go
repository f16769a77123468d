package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/store"
)

// place is file and line, as compilers write them.
func place(f app.Stray) string { return f.File + ":" + strconv.Itoa(f.Line) }

func (s *shell) keygenCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{Use: "keygen", Short: "Make a root key", Args: words(), RunE: func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("output") && output == "" {
			return usage("--output is empty; name a file, or leave it out to print the key")
		}
		text, id, err := app.MakeRootKey(output)
		switch {
		case errors.Is(err, os.ErrExist):
			return fmt.Errorf("%s exists, and a key is never written over; choose another file", output)
		case err != nil:
			return fmt.Errorf("write the root key: %w", err)
		case output != "":
			return s.show(map[string]string{"root_key_id": id, "file": output}, func() {
				s.say("Made root key %s in %s.", id, output)
				s.note("Keep a copy elsewhere: without it nobody can open what is sealed with it. Give it to a server as SIGNALBOX_ROOT_KEY_FILE.")
			})
		}
		return s.show(map[string]string{"root_key_id": id, "root_key": text.Reveal()}, func() {
			s.note("Root key %s. It is shown only now; give it to a server as SIGNALBOX_ROOT_KEY:", id)
			s.say("%s", text.Reveal())
		})
	}}
	cmd.Flags().StringVar(&output, "output", "", "new file to write the key to, for its owner only, instead of printing it")
	return cmd
}

// migration is the answer of migrate.
type migration struct {
	Engine  string   `json:"engine"`
	From    int64    `json:"from"`
	To      int64    `json:"to"`
	Ran     []string `json:"ran"`
	Pending bool     `json:"pending"`
}

func (s *shell) migrateCommand() *cobra.Command {
	var print, status bool
	var engine string
	cmd := &cobra.Command{Use: "migrate", Short: "Bring the database to the schema of this version", Args: words(), RunE: func(cmd *cobra.Command, _ []string) error {
		if print && status {
			return usage("either --print or --status, not both")
		}
		if cmd.Flags().Changed("engine") && !print {
			return usage("--engine belongs to --print")
		}
		cfg, err := s.withQuietLog(cmd)
		if err != nil {
			return err
		}
		if engine == "" {
			engine = string(store.SQLite)
			if !cfg.DatabaseURL.IsZero() {
				engine = string(store.Postgres)
			}
		}
		switch {
		case print:
			return s.printSchema(store.Engine(engine))
		case status:
			return s.schemaStatus(cmd, cfg)
		}
		did, err := app.Migrate(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		out := migration{Engine: engine, From: did.From, To: did.To, Ran: []string{}}
		for _, m := range did.Ran {
			out.Ran = append(out.Ran, m.Name)
		}
		return s.show(out, func() {
			if len(out.Ran) == 0 {
				s.say("The database has schema %d, that of this version; nothing was to be done.", out.To)
				return
			}
			s.say("Brought the database from schema %d to %d: %s.", out.From, out.To, strings.Join(out.Ran, ", "))
		})
	}}
	settingFlags(cmd, app.UseData, app.UseLog)
	cmd.Flags().BoolVar(&print, "print", false, "print the SQL of all migrations and change nothing")
	cmd.Flags().BoolVar(&status, "status", false, "say which schema the database has and change nothing")
	cmd.Flags().StringVar(&engine, "engine", "", "with --print, for which engine: sqlite or postgres (default the configured one)")
	return cmd
}

func (s *shell) printSchema(engine store.Engine) error {
	if engine != store.SQLite && engine != store.Postgres {
		return usage("--engine must be sqlite or postgres")
	}
	texts, err := store.Schema(engine)
	if err != nil {
		return err
	}
	return s.show(map[string]any{"engine": engine, "migrations": texts}, func() { fmt.Fprint(s.out, strings.Join(texts, "\n")) })
}

func (s *shell) schemaStatus(cmd *cobra.Command, cfg app.Config) error {
	i, err := app.InspectDatabase(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	out := migration{Engine: string(i.Engine), From: i.Schema, To: i.Latest, Ran: []string{}, Pending: i.Schema < i.Latest}
	return s.show(out, func() {
		switch {
		case i.Schema == 0:
			s.say("There is no schema yet; this version makes schema %d.", i.Latest)
		case i.Schema > i.Latest:
			s.say("The database has schema %d, from a newer version; this one knows %d.", i.Schema, i.Latest)
		case out.Pending:
			s.say("The database has schema %d; this version brings it to %d.", i.Schema, i.Latest)
		default:
			s.say("The database has schema %d, that of this version.", i.Schema)
		}
	})
}
