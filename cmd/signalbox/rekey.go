package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

// rekeyEvery is how often the command asks how far a change of the data key is.
const rekeyEvery = time.Second

// errUnreadable ends a wait that would not end by itself.
var errUnreadable = errors.New("records do not open under the old data key, so it is not destroyed. The server's log names the tables. Restore those records from a backup, or give them up with: signalbox rekey --give-up")

func (s *shell) rekeyCommand() *cobra.Command {
	var status, noWait, giveUp bool
	var root rootChange
	cmd := s.remote("rekey", "Change the data key: seal everything anew while all goes on, and destroy the old key", words(), func(cmd *cobra.Command, _ []string) error {
		if root.asked() {
			if status || noWait || giveUp {
				return usage("--status, --no-wait and --give-up are of the data key; they do not go with --root")
			}
			return root.run(s, cmd)
		}
		if status && (noWait || giveUp) {
			return usage("--status only looks; it goes with neither --no-wait nor --give-up")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if status {
			at, err := c.Rekey(ctx)
			if err != nil {
				return err
			}
			return s.show(at, func() { s.tellRekey(at) })
		}
		at, err := c.BeginRekey(ctx, giveUp)
		if err == nil && !noWait {
			at, err = s.awaitRekey(ctx, c, at)
		}
		if err != nil {
			return err
		}
		return s.show(at, func() { s.tellRekey(at) })
	})
	cmd.Long = "Makes a new data key, seals everything under it, and destroys the old key when nothing is left under that. The server does the work while it serves, and goes on by itself after a restart; " +
		"this command waits for it and may be interrupted. With several servers on one database one of them works. A backup that was made before holds the old key still, wrapped by the root key: delete such backups when the old key must not be used again.\n\n" +
		"--root changes the root key instead, which wraps the data keys; nothing is sealed anew. It opens the database itself: beside SQLite the server must stand still. A root key in the file of the data directory, or with a key management service, is made, exchanged and done with in one go, " +
		"and a run that was cut off is ended by the next. One that is given from outside is named with --new-key; then both keys open the database, until every instance has been started with the new one and --finish shuts the old one out. With a key management service on PostgreSQL it is the same without --new-key."
	cmd.Flags().BoolVar(&status, "status", false, "only tell how far a change is, or how the last one went")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "begin, and do not wait for the end")
	cmd.Flags().BoolVar(&giveUp, "give-up", false, "destroy the old key even if records are left that do not open under it")
	root.flags(cmd)
	return cmd
}

// awaitRekey asks until the change is done, or waits for somebody.
func (s *shell) awaitRekey(ctx context.Context, c *client.Client, at client.Rekey) (client.Rekey, error) {
	tell := s.progress("sealed anew")
	id, wait := at.ID, 100*time.Millisecond
	for at.State != "done" {
		if tell != nil && at.Moved < at.Total {
			tell(at.Moved, at.Total)
		}
		select {
		case <-ctx.Done():
			return at, ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, rekeyEvery)
		next, err := c.Rekey(ctx)
		if err != nil {
			return at, fmt.Errorf("the change goes on, but how far it is cannot be told: %w", err)
		}
		if next.ID != id {
			return next, nil // it has ended, and another was begun
		}
		if at = next; at.Unreadable > 0 && at.State == "moving" {
			return at, errUnreadable
		}
	}
	if tell != nil {
		tell(1, 1)
	}
	return at, nil
}

func (s *shell) tellRekey(at client.Rekey) {
	switch at.State {
	case "none":
		s.say("The data key was never changed. Data key %d seals.", at.DataKey)
	case "done":
		s.say("Everything is sealed under data key %d; the old key was destroyed. %s sealed anew.", at.NewDataKey, count(at.Moved, "value was", "values were"))
	default:
		s.say("Data key %d is being brought in (%s): %d of %s sealed anew, %d to go.", at.NewDataKey, at.State, at.Moved, count(at.Total, "value", "values"), at.Remaining)
		if at.Unreadable > 0 {
			s.say("%s.", errUnreadable)
		}
	}
}
