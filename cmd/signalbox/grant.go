package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

// credGrant shows and changes who may use, reveal and manage a credential, or what a client or a service has.
func (s *shell) credGrant() *cobra.Command {
	var ofClient, ofService string
	var allow []string
	var to, revoke grantees
	cmd := s.remote("grant [CREDENTIAL]", "Show or change who may use, reveal and manage a credential", words("[CREDENTIAL]"), func(cmd *cobra.Command, args []string) error {
		if given := len(args) + len(strings.Fields(boolText(ofClient)+boolText(ofService))); given != 1 {
			return usage("say which: a CREDENTIAL, or --client or --service for all that a client or a service has")
		}
		add, err := to.parse()
		if err != nil {
			return err
		}
		drop, err := revoke.parse()
		if err != nil {
			return err
		}
		if len(add) > 0 && len(allow) == 0 || len(add) == 0 && len(allow) > 0 {
			return usage("say to whom with --to, and what with --allow use, reveal, manage or owner")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		on, err := grantScope(cmd.Context(), c, args, ofClient, ofService)
		if err != nil {
			return err
		}
		now, err := on.get(cmd.Context())
		if err != nil {
			return err
		}
		if len(add)+len(drop) > 0 {
			list, err := changedGrants(now, add, drop, allow)
			if err != nil {
				return err
			}
			// With the ETag: a change by somebody else in between is not overwritten.
			if now, err = on.set(cmd.Context(), client.GrantsDraft{Grants: list, IfMatch: now.ETag}); err != nil {
				return err
			}
		}
		return s.show(now, func() { s.showGrants(now) })
	})
	cmd.Flags().StringVar(&ofClient, "client", "", "in place of a credential: all that this client has, by name or id")
	cmd.Flags().StringVar(&ofService, "service", "", "in place of a credential: all that this service has, by name or id")
	cmd.Flags().StringSliceVar(&allow, "allow", nil, "what they may from now on: use, reveal, manage, or owner for all three (may be given several times)")
	cmd.Flags().StringSliceVar((*[]string)(&to), "to", nil, "to whom, as person:ada@example.com, group:ops, train:web or service-account:ci")
	cmd.Flags().StringSliceVar((*[]string)(&revoke), "revoke", nil, "from whom everything is taken back, written as in --to")
	return cmd
}

func boolText(s string) string {
	if s == "" {
		return ""
	}
	return "given "
}

// grantees are texts such as person:ada@example.com.
type grantees []string

func (g grantees) parse() ([]client.GranteeRef, error) {
	var out []client.GranteeRef
	for _, text := range g {
		kind, id, found := strings.Cut(text, ":")
		kind = strings.ReplaceAll(kind, "-", "_")
		if !found || id == "" || !slices.Contains([]string{"person", "group", "train", "service_account"}, kind) {
			return nil, usage("name a grantee as person:ada@example.com, group:ops, train:web or service-account:ci")
		}
		out = append(out, client.GranteeRef{Kind: kind, ID: id})
	}
	return out, nil
}

// grantedOn is what grants stand on.
type grantedOn struct {
	get func(context.Context) (client.Grants, error)
	set func(context.Context, client.GrantsDraft) (client.Grants, error)
}

func grantScope(ctx context.Context, c *client.Client, args []string, ofClient, ofService string) (grantedOn, error) {
	scope := func(get func(context.Context, string) (client.Grants, error), set func(context.Context, string, client.GrantsDraft) (client.Grants, error), id string) grantedOn {
		return grantedOn{
			func(ctx context.Context) (client.Grants, error) { return get(ctx, id) },
			func(ctx context.Context, d client.GrantsDraft) (client.Grants, error) { return set(ctx, id, d) },
		}
	}
	if err := homeIDs(ctx, c, &ofClient, &ofService, nil); err != nil {
		return grantedOn{}, err
	}
	switch {
	case ofClient != "":
		return scope(c.ClientGrants, c.SetClientGrants, ofClient), nil
	case ofService != "":
		return scope(c.ServiceGrants, c.SetServiceGrants, ofService), nil
	}
	id, err := credentialID(ctx, c, args[0])
	return scope(c.CredentialGrants, c.SetCredentialGrants, id), err
}

// changedGrants applies the flags to the grants that stand.
func changedGrants(now client.Grants, add, drop []client.GranteeRef, allow []string) ([]client.GrantDraft, error) {
	is := func(ref client.GranteeRef, g client.Grantee) bool {
		return ref.Kind == g.Kind && (ref.ID == g.ID || strings.EqualFold(ref.ID, g.Name))
	}
	list := []client.GrantDraft{}
	dropped := map[client.GranteeRef]bool{}
	for _, g := range now.Grants {
		keep := true
		for _, ref := range drop {
			if is(ref, g.Grantee) {
				keep, dropped[ref] = false, true
			}
		}
		for _, ref := range add {
			keep = keep && !is(ref, g.Grantee) // made anew below
		}
		if keep {
			list = append(list, client.GrantDraft{Grantee: client.GranteeRef{Kind: g.Grantee.Kind, ID: g.Grantee.ID}, Use: g.Use, Reveal: g.Reveal, Manage: g.Manage, Owner: g.Owner})
		}
	}
	for _, ref := range drop {
		if !dropped[ref] {
			return nil, notFound("Nothing is granted here to %s %q. Name the grantee by name or id as the list of grants shows it.", strings.ReplaceAll(ref.Kind, "_", " "), ref.ID)
		}
	}
	draft := client.GrantDraft{}
	for _, verb := range allow {
		switch verb {
		case "use":
			draft.Use = true
		case "reveal":
			draft.Reveal = true
		case "manage":
			draft.Manage = true
		case "owner":
			draft.Owner = true
		default:
			return nil, usage("--allow takes use, reveal, manage and owner")
		}
	}
	for _, ref := range add {
		draft.Grantee = ref
		list = append(list, draft)
	}
	return list, nil
}

func (s *shell) showGrants(g client.Grants) {
	t := table{head: []string{"WHO", "NAME", "MAY", "SINCE", "FROM", "ID"}}
	rows := func(list []client.Grant, from string) {
		for _, x := range list {
			var verbs []string
			for _, v := range []struct {
				has  bool
				name string
			}{{x.Owner, "owner"}, {x.Use, "use"}, {x.Reveal, "reveal"}, {x.Manage, "manage"}} {
				if v.has {
					verbs = append(verbs, v.name)
				}
			}
			t.add(strings.ReplaceAll(x.Grantee.Kind, "_", " "), orDash(x.Grantee.Name), strings.Join(verbs, ", "), moment(x.GrantedAt), orDash(from), x.Grantee.ID)
		}
	}
	rows(g.Grants, "")
	for _, i := range g.Inherited {
		rows(i.Grants, fmt.Sprintf("%s %s", i.Scope, i.ID))
	}
	s.print(t, "Nothing is granted here. Those whose role reaches every credential need no grant.")
}
