package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/store"
)

func (s *shell) groupCommand() *cobra.Command {
	return parent("group", "Groups of people, to whom something can be granted together",
		s.groupCreate(), s.groupList(), s.groupShow(), s.groupEdit(), s.groupAdd(), s.groupRemove(), s.groupRm())
}

// groupNamed finds a group by its id or its name, in upper or lower case.
func groupNamed(ctx context.Context, c *client.Client, ref string) (client.Group, error) {
	if store.ValidID("grp", ref) {
		return c.GetGroup(ctx, ref)
	}
	like, err := everything(func(cursor string) ([]client.Group, string, error) {
		page, err := c.ListGroups(ctx, client.ListFilter{Q: ref, Limit: 1000, Cursor: cursor})
		return page.Groups, page.NextCursor, err
	})
	if err != nil {
		return client.Group{}, err
	}
	for _, g := range like {
		if strings.EqualFold(g.Name, ref) {
			return g, nil
		}
	}
	return client.Group{}, notFound("There is no group %q. List them with: signalbox group list", ref)
}

func (s *shell) groupCreate() *cobra.Command {
	var draft client.GroupDraft
	cmd := s.remote("create NAME", "Make a group of people", words("NAME"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		draft.Name = args[0]
		g, err := c.CreateGroup(cmd.Context(), draft)
		if err != nil {
			return err
		}
		return s.show(g, func() { s.say("Made group %s (%s).", g.Name, g.ID) })
	})
	cmd.Flags().StringVar(&draft.Description, "description", "", "what it is for")
	return cmd
}

func (s *shell) groupList() *cobra.Command {
	return s.remote("list", "List groups", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		groups, err := everything(func(cursor string) ([]client.Group, string, error) {
			page, err := c.ListGroups(cmd.Context(), client.ListFilter{Limit: 1000, Cursor: cursor})
			return page.Groups, page.NextCursor, err
		})
		if err != nil {
			return err
		}
		return s.show(map[string]any{"groups": groups}, func() {
			t := table{head: []string{"NAME", "MEMBERS", "DESCRIPTION", "ID"}}
			for _, g := range groups {
				t.add(g.Name, strconv.Itoa(g.Members), orDash(g.Description), g.ID)
			}
			s.print(t, "No groups. Make one with: signalbox group create NAME")
		})
	})
}

func (s *shell) groupShow() *cobra.Command {
	return s.remote("show GROUP", "Show a group and who is in it", words("GROUP"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		g, err := groupNamed(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		members, err := everything(func(cursor string) ([]client.GroupMember, string, error) {
			page, err := c.GroupMembers(cmd.Context(), g.ID, client.PageFilter{Limit: 1000, Cursor: cursor})
			return page.Members, page.NextCursor, err
		})
		if err != nil {
			return err
		}
		return s.show(map[string]any{"group": g, "members": members}, func() {
			s.facts("name", g.Name, "id", g.ID, "description", g.Description, "made", moment(g.CreatedAt))
			t := table{head: []string{"E-MAIL", "NAME", "ACTIVE", "SINCE", "BY", "ID"}}
			for _, m := range members {
				t.add(m.Email, m.Name, orDash(yes(m.Active)), moment(m.AddedAt), givenBy(m), m.UserID)
			}
			s.print(t, "Nobody is in it. Add somebody with: signalbox group add GROUP PERSON")
		})
	})
}

// givenBy says who put somebody into a group.
func givenBy(m client.GroupMember) string {
	by := m.Providers
	if m.ByHand {
		by = append([]string{"hand"}, by...)
	}
	return strings.Join(by, ", ")
}

func (s *shell) groupEdit() *cobra.Command {
	var name, description string
	cmd := s.remote("edit GROUP", "Change a group's name or description", words("GROUP"), func(cmd *cobra.Command, args []string) error {
		var patch client.GroupPatch
		if cmd.Flags().Changed("name") {
			patch.Name = &name
		}
		if cmd.Flags().Changed("description") {
			patch.Description = &description
		}
		if patch == (client.GroupPatch{}) {
			return usage("nothing to change; say what with --name or --description")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		g, err := groupNamed(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		if g, err = c.UpdateGroup(cmd.Context(), g.ID, patch); err != nil {
			return err
		}
		return s.show(g, func() { s.say("Changed group %s.", g.Name) })
	})
	cmd.Flags().StringVar(&name, "name", "", "its new name")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	return cmd
}

func (s *shell) groupAdd() *cobra.Command {
	return s.remote("add GROUP PERSON", "Put a person into a group", words("GROUP", "PERSON"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		g, err := groupNamed(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		m, added, err := c.AddGroupMember(cmd.Context(), g.ID, args[1])
		if err != nil {
			return err
		}
		return s.show(map[string]any{"member": m, "added": added}, func() {
			if added {
				s.say("Put %s into group %s.", m.Email, g.Name)
			} else {
				s.say("%s is in group %s already.", m.Email, g.Name)
			}
		})
	})
}

func (s *shell) groupRemove() *cobra.Command {
	return s.remote("remove GROUP PERSON", "Take a person from a group", words("GROUP", "PERSON"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		g, err := groupNamed(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		id := args[1]
		if !store.ValidID("user", id) {
			members, err := everything(func(cursor string) ([]client.GroupMember, string, error) {
				page, err := c.GroupMembers(cmd.Context(), g.ID, client.PageFilter{Limit: 1000, Cursor: cursor})
				return page.Members, page.NextCursor, err
			})
			if err != nil {
				return err
			}
			id = ""
			for _, m := range members {
				if strings.EqualFold(m.Email, args[1]) {
					id = m.UserID
				}
			}
			if id == "" {
				return notFound("%s is not in group %s. See who is: signalbox group show %s", args[1], g.Name, g.ID)
			}
		}
		if err := c.RemoveGroupMember(cmd.Context(), g.ID, id); err != nil {
			return err
		}
		return s.show(map[string]string{"removed": id}, func() { s.say("Took %s from group %s.", args[1], g.Name) })
	})
}

func (s *shell) groupRm() *cobra.Command {
	var sure bool
	cmd := s.remote("rm GROUP", "Delete a group, and with it what was granted to it", words("GROUP"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		g, err := groupNamed(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), sure, fmt.Sprintf("Delete group %s, and take from its %d members what was granted to it?", g.Name, g.Members)); err != nil {
			return err
		}
		if err := c.DeleteGroup(cmd.Context(), g.ID); err != nil {
			return err
		}
		return s.show(map[string]string{"deleted": g.ID}, func() { s.say("Deleted group %s.", g.Name) })
	})
	yesFlag(cmd, &sure)
	return cmd
}
