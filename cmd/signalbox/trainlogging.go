package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

func (s *shell) trainLogging() *cobra.Command {
	return parent("logging", "Keep what a train's agents are asked and answer, sealed, and read it", s.loggingShow(), s.loggingSet(), s.loggingRead(), s.loggingPurge())
}

func (s *shell) loggingFacts(l client.RequestLogging) []string {
	state := "off: nothing is kept"
	if l.Enabled {
		state = "on"
	}
	return []string{"request logging", state, "of each request and answer", fmt.Sprintf("%d bytes", l.MaxBytes), "deleted after", count(l.RetentionDays, "day", "days"), "room for all", fmt.Sprintf("%d bytes", l.TotalBytes)}
}

func (s *shell) loggingShow() *cobra.Command {
	return s.remote("show TRAIN", "Show whether a train keeps what its agents are asked and answer", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		l, err := c.RequestLogging(cmd.Context(), args[0])
		if err != nil {
			return trainError(err, args[0])
		}
		kept, err := c.KeptContents(cmd.Context(), args[0])
		if err != nil {
			return trainError(err, args[0])
		}
		return s.show(map[string]any{"request_logging": l, "contents": kept}, func() {
			pairs := append(s.loggingFacts(l), "kept now", fmt.Sprintf("%s, %d bytes", count(kept.Requests, "request", "requests"), kept.Bytes))
			if kept.OldestAt != nil {
				pairs = append(pairs, "the oldest from", moment(*kept.OldestAt))
			}
			s.facts(pairs...)
		})
	})
}

func (s *shell) loggingSet() *cobra.Command {
	var on, off bool
	var most, days, total int64
	cmd := s.remote("set TRAIN", "Say whether a train keeps what its agents are asked and answer, how much and for how long", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		given := cmd.Flags().Changed
		var p client.RequestLoggingPatch
		if on && off {
			return usage("--on and --off exclude each other")
		}
		if on || off {
			p.Enabled = &on
		}
		for flag, to := range map[string]struct {
			field **int64
			value *int64
		}{"max-bytes": {&p.MaxBytes, &most}, "days": {&p.RetentionDays, &days}, "total-bytes": {&p.TotalBytes, &total}} {
			if given(flag) {
				*to.field = to.value
			}
		}
		if p == (client.RequestLoggingPatch{}) {
			return usage("nothing to change; say what with flags, for example --on --days 3")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		l, err := c.SetRequestLogging(cmd.Context(), args[0], p)
		if err != nil {
			return trainError(err, args[0])
		}
		return s.show(map[string]any{"request_logging": l}, func() {
			if !l.Enabled {
				s.note("Train %s keeps nothing of what its agents are asked and answer. What was kept is deleted after %s, or now with: signalbox train logging purge %s", args[0], count(l.RetentionDays, "day", "days"), shellWord(args[0]))
				return
			}
			s.note("Train %s keeps what its agents are asked and answer, for %s. Read it by a request's id: signalbox train logging read REQUEST", args[0], count(l.RetentionDays, "day", "days"))
		})
	})
	flags := cmd.Flags()
	flags.BoolVar(&on, "on", false, "keep it; an administrator is needed (contents:read)")
	flags.BoolVar(&off, "off", false, "keep nothing more")
	flags.Int64Var(&most, "max-bytes", 256<<10, "how much is kept of a request and, apart, of its answer: 1024 to 1048576; of what is longer the beginning and the end")
	flags.Int64Var(&days, "days", 7, "after how many days it is deleted: 1 to 90")
	flags.Int64Var(&total, "total-bytes", 1<<30, "how much room all that is kept of the train may take; the oldest goes first")
	return cmd
}

func (s *shell) loggingRead() *cobra.Command {
	return s.remote("read REQUEST", "Read what an agent was asked and answered in a request, which goes on record", words("REQUEST"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		got, err := c.RequestContent(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return s.show(map[string]any{"content": got}, func() {
			for _, part := range []struct {
				name, text string
				size       int64
			}{{"asked", got.Request, got.RequestBytes}, {"answered", got.Response, got.ResponseBytes}} {
				s.note("%s, %d bytes:", part.name, part.size)
				s.say("%s", strings.TrimRight(part.text, "\n"))
			}
			if got.Note != "" {
				s.note("%s", got.Note)
			}
		})
	})
}

func (s *shell) loggingPurge() *cobra.Command {
	var sure bool
	cmd := s.remote("purge TRAIN", "Delete all that a train has kept of its requests", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), sure, fmt.Sprintf("Delete all that train %s has kept of what its agents were asked and answered?", args[0])); err != nil {
			return err
		}
		if err := c.PurgeContents(cmd.Context(), args[0]); err != nil {
			return trainError(err, args[0])
		}
		return s.show(map[string]string{"purged": args[0]}, func() { s.say("Deleted what train %s had kept of its requests.", args[0]) })
	})
	yesFlag(cmd, &sure)
	return cmd
}
