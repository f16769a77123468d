package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

func (s *shell) trainCommand() *cobra.Command {
	return parent("train", "Trains: projects whose agents use credentials",
		s.trainCreate(), s.trainEdit(), s.trainList(), s.trainShow(), s.trainLink(), s.trainUnlink(), s.trainExplain(), s.trainMember(), s.trainSlack(), s.trainLogging(), s.trainRm())
}

func (s *shell) trainCreate() *cobra.Command {
	var draft client.TrainDraft
	var private bool
	cmd := s.remote("create TRAIN", "Make a train; TRAIN is its slug, such as web", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if draft.TrainID = args[0]; draft.Name == "" {
			draft.Name = args[0]
		}
		if private {
			draft.Visibility = "private"
		}
		train, err := c.CreateTrain(cmd.Context(), draft)
		if err != nil {
			return err
		}
		return s.show(train, func() {
			s.say("Made train %s.", train.TrainID)
			s.note("Next: signalbox train link %s ACCOUNT, then signalbox key issue %s", train.TrainID, train.TrainID)
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&draft.Name, "name", "", "name for people (default the slug)")
	flags.StringVar(&draft.Description, "description", "", "what it is for")
	flags.StringVar(&draft.Strategy, "strategy", "", "how an account is chosen: hash, priority or least-loaded (default hash)")
	flags.BoolVar(&private, "private", false, "only its members reach it, of whom you are the first")
	flags.IntVar(&draft.KeyLimit, "key-limit", 0, "how many active client keys it may have (default the server's)")
	return cmd
}

func allTrains(ctx context.Context, c *client.Client) ([]client.Train, error) {
	return everything(func(cursor string) ([]client.Train, string, error) {
		page, err := c.ListTrains(ctx, client.ListFilter{Limit: 1000, Cursor: cursor})
		return page.Trains, page.NextCursor, err
	})
}

func (s *shell) trainList() *cobra.Command {
	return s.remote("list", "List the trains", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		trains, err := allTrains(cmd.Context(), c)
		if err != nil {
			return err
		}
		return s.show(map[string]any{"trains": trains}, func() {
			t := table{head: []string{"TRAIN", "NAME", "STATE", "STRATEGY", "LINKED", "ID"}}
			for _, train := range trains {
				t.add(train.TrainID, train.Name, listedState(train), train.Strategy, strconv.Itoa(train.Links), train.ID)
			}
			s.print(t, "No trains. Make one with: signalbox train create TRAIN")
		})
	})
}

func keyLimit(t client.Train) string {
	if t.KeyLimit == 0 {
		return "as many as the server allows"
	}
	return fmt.Sprintf("at most %d", t.KeyLimit)
}

func trainState(t client.Train) string {
	if t.Disabled {
		return "disabled"
	}
	return "active"
}

// listedState is the state with what else a list says of a train.
func listedState(t client.Train) string {
	if t.Visibility == "private" {
		return trainState(t) + ", private"
	}
	return trainState(t)
}

func (s *shell) trainShow() *cobra.Command {
	return s.remote("show TRAIN", "Show a train and what is linked to it", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		train, err := c.GetTrain(cmd.Context(), args[0])
		if err != nil {
			return trainError(err, args[0])
		}
		links, err := c.Links(cmd.Context(), train.ID)
		if err != nil {
			return err
		}
		return s.show(map[string]any{"train": train, "accounts": links}, func() {
			s.facts("train", train.TrainID, "name", train.Name, "description", train.Description, "state", trainState(train), "reached by", reached(train), "strategy", train.Strategy,
				"default account", train.DefaultAccount, "client keys", keyLimit(train), "id", train.ID, "made", moment(train.CreatedAt))
			fmt.Fprintln(s.out)
			t := table{head: []string{"LINKED", "TYPE", "ALIAS", "PRIORITY", "ID"}}
			for _, l := range links {
				t.add(l.Name, l.Type, orDash(l.Alias), strconv.Itoa(l.Priority), l.CredentialID)
			}
			s.print(t, "Nothing is linked. Link an account with: signalbox train link "+train.TrainID+" ACCOUNT")
		})
	})
}

// trainError adds what a person can do when the train does not exist.
func trainError(err error, train string) error {
	if isNotFound(err) {
		return notFound("There is no train %q. List them with: signalbox train list", train)
	}
	return err
}

func (s *shell) trainLink() *cobra.Command {
	var alias string
	var priority int
	cmd := s.remote("link TRAIN CREDENTIAL", "Let a train be lent a credential", words("TRAIN", "CREDENTIAL"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		id, err := credentialID(ctx, c, args[1])
		if err != nil {
			return err
		}
		draft := client.LinkDraft{CredentialID: id}
		if cmd.Flags().Changed("priority") {
			draft.Priority = &priority
		}
		if cmd.Flags().Changed("alias") {
			draft.Alias = &alias
		}
		link, created, err := c.Link(ctx, args[0], draft)
		if err != nil {
			return trainError(err, args[0])
		}
		said := "Linked %s to train %s."
		switch {
		case !created && (draft.Alias != nil || draft.Priority != nil):
			said = "%s was linked to train %s already; the link is as you said now."
		case !created:
			said = "%s is linked to train %s already; nothing was changed."
		}
		return s.show(link, func() { s.say(said, link.Name, args[0]) })
	})
	cmd.Flags().StringVar(&alias, "alias", "", "name of the link within the train")
	cmd.Flags().IntVar(&priority, "priority", 100, "place in the train, for the strategy priority: 1 comes before 2")
	return cmd
}

func (s *shell) trainUnlink() *cobra.Command {
	return s.remote("unlink TRAIN CREDENTIAL", "Take a credential from a train; open uses are cut", words("TRAIN", "CREDENTIAL"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		id, err := credentialID(cmd.Context(), c, args[1])
		if err != nil {
			return err
		}
		if err := c.Unlink(cmd.Context(), args[0], id); err != nil {
			return err
		}
		return s.show(map[string]string{"unlinked": id, "train": args[0]}, func() { s.say("Unlinked %s from train %s.", args[1], args[0]) })
	})
}

func (s *shell) trainExplain() *cobra.Command {
	var model string
	cmd := s.remote("explain TRAIN", "Show a train's accounts in the order in which they would be used, and why", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		explained, err := c.ExplainFor(cmd.Context(), args[0], model)
		if err != nil {
			return trainError(err, args[0])
		}
		return s.show(explained, func() {
			s.say("%s", explained.Summary)
			if len(explained.Accounts) == 0 {
				s.note("Link an account with: signalbox train link %s ACCOUNT", args[0])
				return
			}
			fmt.Fprintln(s.out)
			t := table{head: []string{"RANK", "ACCOUNT", "PRIORITY", "STATE", "WHY HERE", "WHY LENT OR NOT"}}
			for _, e := range explained.Accounts {
				rank := "-"
				if e.Rank > 0 {
					rank = strconv.Itoa(e.Rank)
				}
				t.add(rank, e.Name, strconv.Itoa(e.Priority), e.State, orDash(e.Order), e.Why)
			}
			s.print(t, "")
			s.printWindows(explained)
		})
	})
	cmd.Flags().StringVar(&model, "model", "", "explain a request for this model: some windows count for single models")
	return cmd
}

// printWindows shows how far the accounts' limits are used, where an upstream has said so.
func (s *shell) printWindows(e client.Explanation) {
	t := table{head: []string{"ACCOUNT", "WINDOW", "USED", "OTHERS FIRST FROM", "STATUS", "BEGINS ANEW", "HEARD"}}
	percent := func(part float64) string { return strconv.FormatFloat(part*100, 'f', -1, 64) + " %" }
	for _, a := range e.Accounts {
		for _, w := range a.Windows {
			used := percent(w.Utilization)
			if w.Above {
				used += " (above)"
			}
			t.add(a.Name, w.Name, used, percent(w.Threshold), orDash(w.Status), orDash(momentOf(w.ResetsAt)), moment(w.HeardAt))
		}
	}
	if len(t.rows) > 0 {
		fmt.Fprintln(s.out)
		s.print(t, "")
	}
}

func (s *shell) trainRm() *cobra.Command {
	var sure bool
	cmd := s.remote("rm TRAIN", "Delete a train", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		train, err := c.GetTrain(cmd.Context(), args[0])
		if err != nil {
			return trainError(err, args[0])
		}
		question := fmt.Sprintf("Delete train %s with its %d links, and revoke its client keys?", train.TrainID, train.Links)
		if err := s.confirm(cmd.Context(), sure, question); err != nil {
			return err
		}
		if err := c.DeleteTrain(cmd.Context(), train.ID, true); err != nil {
			return err
		}
		return s.show(map[string]string{"deleted": train.ID}, func() { s.say("Deleted train %s.", train.TrainID) })
	})
	yesFlag(cmd, &sure)
	return cmd
}
