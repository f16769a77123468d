package main

import (
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

func (s *shell) trainMember() *cobra.Command {
	return parent("member", "Who the owners and members of a train are", s.memberList(), s.memberAdd(), s.memberRm())
}

// memberNamed reads who is meant: a person by e-mail address or id, or group:NAME.
func memberNamed(arg string) (kind, who string) {
	if name, group := strings.CutPrefix(arg, "group:"); group {
		return "group", name
	}
	if strings.HasPrefix(arg, "grp_") {
		return "group", arg
	}
	return "person", strings.TrimPrefix(arg, "person:")
}

func (s *shell) memberList() *cobra.Command {
	return s.remote("list TRAIN", "List the owners and members of a train", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		train, err := c.GetTrain(cmd.Context(), args[0])
		if err != nil {
			return trainError(err, args[0])
		}
		members, err := c.TrainMembers(cmd.Context(), train.ID)
		if err != nil {
			return err
		}
		return s.show(map[string]any{"visibility": train.Visibility, "members": members}, func() {
			owned := false
			t := table{head: []string{"ROLE", "KIND", "WHO", "ACTIVE", "SINCE", "ID"}}
			for _, m := range members {
				t.add(m.Role, m.Kind, m.Name, orDash(yes(m.Active)), moment(m.AddedAt), m.ID)
				owned = owned || m.Role == "owner" && m.Active
			}
			s.print(t, "Nobody is a member. Add somebody with: signalbox train member add "+shellWord(train.TrainID)+" PERSON")
			if train.Visibility == "private" && !owned {
				s.note("Nobody who can sign in owns this private train. An administrator can make somebody an owner: signalbox train member add %s PERSON --role owner", shellWord(train.TrainID))
			}
		})
	})
}

func (s *shell) memberAdd() *cobra.Command {
	var role string
	cmd := s.remote("add TRAIN WHO", "Make a person, or group:NAME, a member of a train, or change their role", words("TRAIN", "WHO"), func(cmd *cobra.Command, args []string) error {
		if role != "owner" && role != "member" {
			return usage("--role must be owner or member")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		train, err := c.GetTrain(cmd.Context(), args[0])
		if err != nil {
			return trainError(err, args[0])
		}
		kind, who := memberNamed(args[1])
		m, added, err := c.PutTrainMember(cmd.Context(), train.ID, kind, who, role, "")
		if err != nil {
			return err
		}
		return s.show(map[string]any{"member": m, "added": added}, func() { s.say("%s is %s of train %s now.", m.Name, roleWord(m.Role), train.TrainID) })
	})
	cmd.Flags().StringVar(&role, "role", "member", "owner, who also says who the members are, or member")
	return cmd
}

func roleWord(role string) string {
	if role == "owner" {
		return "an owner"
	}
	return "a member"
}

func (s *shell) memberRm() *cobra.Command {
	var sure bool
	cmd := s.remote("rm TRAIN WHO", "Take a person, or group:NAME, from the members of a train", words("TRAIN", "WHO"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		train, err := c.GetTrain(cmd.Context(), args[0])
		if err != nil {
			return trainError(err, args[0])
		}
		kind, who := memberNamed(args[1])
		m, err := c.GetTrainMember(cmd.Context(), train.ID, kind, who)
		if err != nil {
			return err
		}
		question := "Take " + m.Name + " from the members of train " + train.TrainID + ", and revoke the client keys, if any, that were made there by whoever has no other way to it?"
		if err := s.confirm(cmd.Context(), sure, question); err != nil {
			return err
		}
		gone, err := c.RemoveTrainMember(cmd.Context(), train.ID, kind, m.ID, m.ETag)
		if err != nil {
			return err
		}
		return s.show(map[string]any{"removed": m, "keys_revoked": gone.KeysRevoked}, func() {
			s.say("Took %s from the members of train %s.", m.Name, train.TrainID)
			for _, k := range gone.KeysRevoked {
				s.say("Revoked client key %s (%s).", k.ID, k.Name)
			}
		})
	})
	yesFlag(cmd, &sure)
	return cmd
}

// reached says who reaches a train.
func reached(t client.Train) string {
	if t.Visibility == "private" {
		return "its members alone (private)"
	}
	return "the organisation"
}
