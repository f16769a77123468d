package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/keeper"
)

// wrappingOut is a wrapping as commands tell of it; what is wrapped stays in the database.
type wrappingOut struct {
	RootKeyID  string    `json:"root_key_id"`
	Keeper     string    `json:"keeper"`
	KeyVersion string    `json:"key_version"`
	CreatedAt  time.Time `json:"created_at,omitzero"`
	WrappedAt  time.Time `json:"wrapped_at,omitzero"`
	InUse      bool      `json:"in_use"` // the configuration names this keeper
}

func wrappingOf(w keeper.Wrapping, cfg app.Config) wrappingOut {
	return wrappingOut{w.RootKeyID, w.Keeper, w.KeyVersion, w.CreatedAt, w.WrappedAt, w.Keeper == cfg.RootKeyKeeper.String()}
}

func (s *shell) rootKeyCommand() *cobra.Command {
	return parent("root-key", "Let a key management service keep the root key",
		s.rootKeyListCommand(), s.rootKeyWrapCommand(), s.rootKeyRewrapCommand(), s.rootKeyUnwrapCommand(), s.rootKeyForgetCommand())
}

// onRootKey makes a command that opens the database itself.
func (s *shell) onRootKey(use, short string, args cobra.PositionalArgs, run func(cmd *cobra.Command, cfg app.Config, args []string) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
		cfg, err := s.withQuietLog(cmd)
		if err != nil {
			return err
		}
		return run(cmd, cfg, args)
	}}
	settingFlags(c, app.UseData, app.UseLog)
	return c
}

func (s *shell) rootKeyListCommand() *cobra.Command {
	return s.onRootKey("list", "List who has wrapped the root key", words(), func(cmd *cobra.Command, cfg app.Config, _ []string) error {
		all, err := app.Wrappings(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		out := struct {
			Wrappings []wrappingOut `json:"wrappings"`
		}{[]wrappingOut{}}
		t := table{head: []string{"ROOT KEY", "KEEPER", "VERSION", "WRAPPED", "IN USE"}}
		for _, w := range all {
			o := wrappingOf(w, cfg)
			out.Wrappings = append(out.Wrappings, o)
			t.add(o.RootKeyID, o.Keeper, o.KeyVersion, moment(o.WrappedAt), orDash(yes(o.InUse)))
		}
		return s.show(out, func() {
			s.print(t, "No keeper has wrapped the root key of this database.")
		})
	})
}

func (s *shell) rootKeyWrapCommand() *cobra.Command {
	return s.onRootKey("wrap KEEPER", "Have a key management service wrap the root key", words("KEEPER"), func(cmd *cobra.Command, cfg app.Config, args []string) error {
		to, err := keeperAddress(args[0])
		if err != nil {
			return err
		}
		w, err := app.WrapRootKey(cmd.Context(), cfg, to)
		if err != nil {
			return err
		}
		return s.show(wrappingOf(w, cfg), func() {
			s.say("Wrapped root key %s with %s (%s), and unwrapped it again to be sure.", w.RootKeyID, w.Keeper, w.KeyVersion)
			s.note("Next: set SIGNALBOX_ROOT_KEY_KEEPER to that address for every instance, in place of how the root key is given now, and start them one after the other. Then remove the file or the older wrapping (signalbox root-key forget).")
		})
	})
}

func (s *shell) rootKeyRewrapCommand() *cobra.Command {
	return s.onRootKey("rewrap [KEEPER]", "Have the root key wrapped anew under the newest version of the key", words("[KEEPER]"), func(cmd *cobra.Command, cfg app.Config, args []string) error {
		at, err := chosenKeeper(cfg, args)
		if err != nil {
			return err
		}
		was, now, err := app.RewrapRootKey(cmd.Context(), cfg, at)
		if err != nil {
			return err
		}
		out := struct {
			wrappingOut
			Was string `json:"previous_key_version"`
		}{wrappingOf(now, cfg), was.KeyVersion}
		return s.show(out, func() {
			if was.KeyVersion == now.KeyVersion {
				s.say("Wrapped root key %s anew with %s; the version of its key is %s as before.", now.RootKeyID, now.Keeper, now.KeyVersion)
				return
			}
			s.say("Wrapped root key %s anew with %s, under %s in place of %s.", now.RootKeyID, now.Keeper, now.KeyVersion, was.KeyVersion)
		})
	})
}

func (s *shell) rootKeyUnwrapCommand() *cobra.Command {
	var output string
	c := s.onRootKey("unwrap [KEEPER]", "Take the root key back from a key management service into a file", words("[KEEPER]"), func(cmd *cobra.Command, cfg app.Config, args []string) error {
		if output == "" {
			return usage("--output is missing; name a new file, which only its owner will be able to read")
		}
		at, err := chosenKeeper(cfg, args)
		if err != nil {
			return err
		}
		id, err := app.UnwrapRootKey(cmd.Context(), cfg, at, output)
		switch {
		case errors.Is(err, os.ErrExist):
			return fmt.Errorf("%s exists, and a key is never written over; choose another file", output)
		case err != nil:
			return err
		}
		return s.show(map[string]string{"root_key_id": id, "file": output}, func() {
			s.say("Wrote root key %s to %s.", id, output)
			s.note("Whoever reads that file and the database reads everything. Give it to a server as SIGNALBOX_ROOT_KEY_FILE, or keep it where nothing else is kept.")
		})
	})
	c.Flags().StringVar(&output, "output", "", "new file to write the key to, for its owner only")
	return c
}

func (s *shell) rootKeyForgetCommand() *cobra.Command {
	return s.onRootKey("forget KEEPER", "Remove what a key management service has wrapped", words("KEEPER"), func(cmd *cobra.Command, cfg app.Config, args []string) error {
		at, err := keeperAddress(args[0])
		if err != nil {
			return err
		}
		gone, err := app.ForgetWrapping(cmd.Context(), cfg, at)
		if err != nil {
			return err
		}
		out := struct {
			Removed []wrappingOut `json:"removed"`
		}{}
		for _, w := range gone {
			out.Removed = append(out.Removed, wrappingOf(w, cfg))
		}
		return s.show(out, func() {
			for _, w := range gone {
				s.say("Removed what %s had wrapped of root key %s.", w.Keeper, w.RootKeyID)
			}
		})
	})
}

func keeperAddress(text string) (keeper.Address, error) {
	at, err := keeper.Parse(text)
	if err != nil {
		return at, usage("KEEPER %s", err)
	}
	return at, nil
}

// chosenKeeper is the one that was named, or the one of the configuration.
func chosenKeeper(cfg app.Config, args []string) (keeper.Address, error) {
	if len(args) > 0 {
		return keeperAddress(args[0])
	}
	if cfg.RootKeyKeeper.IsZero() {
		return keeper.Address{}, usage("KEEPER is missing, and no SIGNALBOX_ROOT_KEY_KEEPER is set; signalbox root-key list shows which there are")
	}
	return cfg.RootKeyKeeper, nil
}
