package main

import (
	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

func (s *shell) trainEdit() *cobra.Command {
	var name, description, strategy, first, visibility string
	var disable, enable bool
	var limit int
	cmd := s.remote("edit TRAIN", "Change a train's settings", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		if disable && enable {
			return usage("give one of --disable and --enable")
		}
		var p client.TrainPatch
		given := disable || enable
		text := func(flag string, value *string) *string {
			if !cmd.Flags().Changed(flag) {
				return nil
			}
			given = true
			return value
		}
		p.Name, p.Description, p.Strategy, p.DefaultAccount = text("name", &name), text("description", &description), text("strategy", &strategy), text("default-account", &first)
		p.Visibility = text("visibility", &visibility)
		if cmd.Flags().Changed("key-limit") {
			p.KeyLimit, given = &limit, true
		}
		if disable || enable {
			p.Disabled = &disable
		}
		if !given {
			return usage("nothing to change; give a flag such as --name or --default-account")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		train, err := c.UpdateTrain(cmd.Context(), args[0], p)
		if err != nil {
			return trainError(err, args[0])
		}
		return s.show(train, func() { s.say("Changed train %s.", train.TrainID) })
	})
	flags := cmd.Flags()
	flags.StringVar(&name, "name", "", "name for people")
	flags.StringVar(&description, "description", "", "what it is for")
	flags.StringVar(&strategy, "strategy", "", "how an account is chosen: hash, priority or least-loaded")
	flags.IntVar(&limit, "key-limit", 0, "how many active client keys it may have (0: the server's)")
	flags.StringVar(&first, "default-account", "", "linked account that is tried before all others, by name or id (empty for none)")
	flags.StringVar(&visibility, "visibility", "", "who reaches it: organisation, or private for its members alone")
	flags.BoolVar(&disable, "disable", false, "lend it nothing, and cut what runs")
	flags.BoolVar(&enable, "enable", false, "lend to it again")
	return cmd
}
