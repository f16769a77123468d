package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// home is a client, a service or infrastructure as commands show it.
type home struct {
	id, name, client, detail string
	whole                    any      // as the API tells it
	facts                    []string // name and value, in turn
}

// homeField is one field that a flag sets.
type homeField struct{ flag, doc string }

// homes are the commands of one kind of what credentials belong to: its words, its fields and what the API does. Texts that are not given are nil.
type homes struct {
	word, thing, prefix, arg string // the command's, the sentence's, the id's, and in usage lines
	detail                   string // the head of the column that is its own
	fields                   []homeField
	owned                    bool // it may belong to a client
	create                   func(context.Context, *client.Client, string, map[string]*string) (home, error)
	get                      func(context.Context, *client.Client, string) (home, error)
	list                     func(context.Context, *client.Client, client.InfrastructureFilter) ([]home, string, error)
	edit                     func(context.Context, *client.Client, string, map[string]*string) (home, error)
	remove                   func(context.Context, *client.Client, string) error
	key                      string // of the list in --json
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func mapped[T any](items []T, one func(T) home) []home {
	out := make([]home, len(items))
	for i, item := range items {
		out[i] = one(item)
	}
	return out
}

func clientHomes() homes {
	one := func(x client.Customer) home {
		return home{id: x.ID, name: x.Name, detail: x.Contact, whole: x,
			facts: []string{"name", x.Name, "id", x.ID, "description", x.Description, "contact", x.Contact, "stored", moment(x.CreatedAt), "changed", moment(x.UpdatedAt)}}
	}
	result := func(x client.Customer, err error) (home, error) { return one(x), err }
	return homes{word: "client", thing: "client", prefix: "client", arg: "CLIENT", detail: "CONTACT", key: "clients",
		fields: []homeField{{"description", "what there is to know of it"}, {"contact", "whom to ask there"}},
		create: func(ctx context.Context, c *client.Client, name string, v map[string]*string) (home, error) {
			return result(c.CreateCustomer(ctx, client.CustomerDraft{Name: name, Description: text(v["description"]), Contact: text(v["contact"])}))
		},
		get: func(ctx context.Context, c *client.Client, id string) (home, error) {
			return result(c.GetCustomer(ctx, id))
		},
		list: func(ctx context.Context, c *client.Client, f client.InfrastructureFilter) ([]home, string, error) {
			page, err := c.ListCustomers(ctx, client.ListFilter{Q: f.Q, Limit: f.Limit, Cursor: f.Cursor})
			return mapped(page.Clients, one), page.NextCursor, err
		},
		edit: func(ctx context.Context, c *client.Client, id string, v map[string]*string) (home, error) {
			return result(c.UpdateCustomer(ctx, id, client.CustomerPatch{Name: v["name"], Description: v["description"], Contact: v["contact"]}))
		},
		remove: func(ctx context.Context, c *client.Client, id string) error { return c.DeleteCustomer(ctx, id) },
	}
}

func serviceHomes() homes {
	one := func(x client.Service) home {
		return home{id: x.ID, name: x.Name, client: x.ClientID, detail: x.URL, whole: x,
			facts: []string{"name", x.Name, "id", x.ID, "description", x.Description, "client", x.ClientID, "URL", x.URL, "stored", moment(x.CreatedAt), "changed", moment(x.UpdatedAt)}}
	}
	result := func(x client.Service, err error) (home, error) { return one(x), err }
	return homes{word: "service", thing: "service", prefix: "service", arg: "SERVICE", detail: "URL", owned: true, key: "services",
		fields: []homeField{{"description", "what there is to know of it"}, {"address", "its URL"}},
		create: func(ctx context.Context, c *client.Client, name string, v map[string]*string) (home, error) {
			return result(c.CreateService(ctx, client.ServiceDraft{Name: name, Description: text(v["description"]), ClientID: text(v["client"]), URL: text(v["address"])}))
		},
		get: func(ctx context.Context, c *client.Client, id string) (home, error) {
			return result(c.GetService(ctx, id))
		},
		list: func(ctx context.Context, c *client.Client, f client.InfrastructureFilter) ([]home, string, error) {
			page, err := c.ListServices(ctx, client.ServiceFilter{ClientID: f.ClientID, Q: f.Q, Limit: f.Limit, Cursor: f.Cursor, Skip: f.Skip})
			return mapped(page.Services, one), page.NextCursor, err
		},
		edit: func(ctx context.Context, c *client.Client, id string, v map[string]*string) (home, error) {
			return result(c.UpdateService(ctx, id, client.ServicePatch{Name: v["name"], Description: v["description"], ClientID: v["client"], URL: v["address"]}))
		},
		remove: func(ctx context.Context, c *client.Client, id string) error { return c.DeleteService(ctx, id) },
	}
}

func infrastructureHomes() homes {
	one := func(x client.Infrastructure) home {
		return home{id: x.ID, name: x.Name, client: x.ClientID, detail: strings.TrimSpace(x.Kind + " " + x.Address), whole: x,
			facts: []string{"name", x.Name, "id", x.ID, "kind", x.Kind, "address", x.Address, "description", x.Description, "client", x.ClientID, "stored", moment(x.CreatedAt), "changed", moment(x.UpdatedAt)}}
	}
	result := func(x client.Infrastructure, err error) (home, error) { return one(x), err }
	return homes{word: "infra", thing: "infrastructure", prefix: "infra", arg: "INFRASTRUCTURE", detail: "WHAT", owned: true, key: "infrastructure",
		fields: []homeField{{"description", "what there is to know of it"}, {"kind", strings.Join(vault.InfrastructureKinds(), ", ")}, {"address", "its name in the network, its address or its range"}},
		create: func(ctx context.Context, c *client.Client, name string, v map[string]*string) (home, error) {
			return result(c.CreateInfrastructure(ctx, client.InfrastructureDraft{Name: name, Kind: text(v["kind"]), Description: text(v["description"]), ClientID: text(v["client"]), Address: text(v["address"])}))
		},
		get: func(ctx context.Context, c *client.Client, id string) (home, error) {
			return result(c.GetInfrastructure(ctx, id))
		},
		list: func(ctx context.Context, c *client.Client, f client.InfrastructureFilter) ([]home, string, error) {
			page, err := c.ListInfrastructure(ctx, f)
			return mapped(page.Infrastructure, one), page.NextCursor, err
		},
		edit: func(ctx context.Context, c *client.Client, id string, v map[string]*string) (home, error) {
			return result(c.UpdateInfrastructure(ctx, id, client.InfrastructurePatch{Name: v["name"], Kind: v["kind"], Description: v["description"], ClientID: v["client"], Address: v["address"]}))
		},
		remove: func(ctx context.Context, c *client.Client, id string) error {
			return c.DeleteInfrastructure(ctx, id)
		},
	}
}

// find returns the one that a person means: by its id, or by its name if no other has the same.
func (k homes) find(ctx context.Context, c *client.Client, ref string) (home, error) {
	found, err := k.get(ctx, c, ref) // an id may be any text that a credential named before there was a list
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Status != http.StatusNotFound || store.ValidID(k.prefix, ref) {
		return found, err
	}
	like, err := everything(func(cursor string) ([]home, string, error) {
		return k.list(ctx, c, client.InfrastructureFilter{Q: ref, Limit: 1000, Cursor: cursor})
	})
	if err != nil {
		return home{}, err
	}
	var named []home
	for _, h := range like {
		if h.name == ref {
			named = append(named, h)
		}
	}
	switch len(named) {
	case 0:
		return home{}, notFound("There is no %s %q. See what there is: signalbox %s list", k.thing, ref, k.word)
	case 1:
		return named[0], nil
	}
	said := fmt.Sprintf("%d are named %q; say which by its id:", len(named), ref)
	for _, h := range named {
		said += fmt.Sprintf("\n  %s  of client %s", h.id, orDash(h.client))
	}
	return home{}, usage("%s", said)
}

// homeIDs puts ids in place of the names of clients, services and infrastructure that a person gave.
func homeIDs(ctx context.Context, c *client.Client, clientRef, serviceRef, infrastructureRef *string) error {
	for _, r := range []struct {
		kind homes
		ref  *string
	}{{clientHomes(), clientRef}, {serviceHomes(), serviceRef}, {infrastructureHomes(), infrastructureRef}} {
		if r.ref == nil || *r.ref == "" {
			continue
		}
		h, err := r.kind.find(ctx, c, *r.ref)
		if err != nil {
			return err
		}
		*r.ref = h.id
	}
	return nil
}

func (s *shell) homeCommands() []*cobra.Command {
	var out []*cobra.Command
	for _, k := range []struct {
		homes
		short string
	}{
		{clientHomes(), "Clients: the customers whose credentials are kept"},
		{serviceHomes(), "Services: applications of clients, and of the house"},
		{infrastructureHomes(), "Infrastructure: hosts, networks and devices of clients, and of the house"},
	} {
		out = append(out, parent(k.word, k.short, s.homeList(k.homes), s.homeCreate(k.homes), s.homeShow(k.homes), s.homeEdit(k.homes), s.homeDelete(k.homes)))
	}
	return out
}

// flags adds the flags of the fields. What they return is nil where a flag was not given.
func (k homes) flags(cmd *cobra.Command) func(ctx context.Context, c *client.Client) (map[string]*string, error) {
	fields := k.fields
	if k.owned {
		fields = append(fields, homeField{"client", "name or id of the client whose it is"})
	}
	values := make([]string, len(fields))
	for i, f := range fields {
		cmd.Flags().StringVar(&values[i], f.flag, "", f.doc)
	}
	return func(ctx context.Context, c *client.Client) (map[string]*string, error) {
		out := map[string]*string{}
		for i, f := range fields {
			if !cmd.Flags().Changed(f.flag) {
				continue
			}
			if f.flag == "client" {
				if err := homeIDs(ctx, c, &values[i], nil, nil); err != nil {
					return nil, err
				}
			}
			out[f.flag] = &values[i]
		}
		return out, nil
	}
}

func (s *shell) homeCreate(k homes) *cobra.Command {
	var read func(context.Context, *client.Client) (map[string]*string, error)
	cmd := s.remote("create NAME", "Store "+article(k.thing), words("NAME"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		values, err := read(cmd.Context(), c)
		if err != nil {
			return err
		}
		h, err := k.create(cmd.Context(), c, args[0], values)
		if err != nil {
			return err
		}
		return s.show(h.whole, func() { s.say("Stored %s %s as %s.", k.thing, h.name, h.id) })
	})
	read = k.flags(cmd)
	return cmd
}

// article puts one before what can be counted.
func article(thing string) string {
	if thing == "infrastructure" {
		return thing
	}
	return "a " + thing
}

func (s *shell) homeList(k homes) *cobra.Command {
	var f client.InfrastructureFilter
	var all bool
	cmd := s.remote("list", "List "+k.key, words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if err := homeIDs(cmd.Context(), c, &f.ClientID, nil, nil); err != nil {
			return err
		}
		var items []home
		next := ""
		if all {
			items, err = everything(func(cursor string) ([]home, string, error) {
				f.Limit, f.Cursor = 1000, cursor
				return k.list(cmd.Context(), c, f)
			})
		} else {
			items, next, err = k.list(cmd.Context(), c, f)
		}
		if err != nil {
			return err
		}
		whole := make([]any, len(items))
		for i, h := range items {
			whole[i] = h.whole
		}
		out := map[string]any{k.key: whole}
		if next != "" {
			out["next_cursor"] = next
		}
		return s.show(out, func() {
			t := table{head: []string{"NAME", k.detail, "ID"}}
			if k.owned {
				t.head = []string{"NAME", k.detail, "CLIENT", "ID"}
			}
			for _, h := range items {
				row := []string{h.name, orDash(h.detail)}
				if k.owned {
					row = append(row, orDash(h.client))
				}
				t.add(append(row, h.id)...)
			}
			s.print(t, "There is no "+k.thing+" here, or none that matches. Store one with: signalbox "+k.word+" create NAME")
			s.more(next)
		})
	})
	cmd.Flags().StringVar(&f.Q, "search", "", "only where the text holds these words")
	if k.owned {
		cmd.Flags().StringVar(&f.ClientID, "client", "", "only of this client, by name or id")
	}
	if k.word == "infra" {
		cmd.Flags().StringVar(&f.Kind, "kind", "", "only this kind: "+strings.Join(vault.InfrastructureKinds(), ", "))
	}
	pageFlags(cmd, &f.Limit, &f.Cursor, &all)
	return cmd
}

func (s *shell) homeShow(k homes) *cobra.Command {
	return s.remote("show "+k.arg, "Show "+article(k.thing), words(k.arg), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		h, err := k.find(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		return s.show(h.whole, func() { s.facts(h.facts...) })
	})
}

func (s *shell) homeEdit(k homes) *cobra.Command {
	var name string
	var read func(context.Context, *client.Client) (map[string]*string, error)
	cmd := s.remote("edit "+k.arg, "Change "+article(k.thing), words(k.arg), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		values, err := read(cmd.Context(), c)
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("name") {
			values["name"] = &name
		}
		if len(values) == 0 {
			return usage("nothing to change; say what with flags, for example --description")
		}
		h, err := k.find(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		if h, err = k.edit(cmd.Context(), c, h.id, values); err != nil {
			return err
		}
		return s.show(h.whole, func() { s.say("Changed %s %s.", k.thing, h.name) })
	})
	cmd.Flags().StringVar(&name, "name", "", "new name")
	read = k.flags(cmd)
	return cmd
}

func (s *shell) homeDelete(k homes) *cobra.Command {
	var sure bool
	cmd := s.remote("delete "+k.arg, "Delete "+article(k.thing)+" that nothing belongs to", words(k.arg), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		h, err := k.find(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		with := " with what was granted on it"
		if k.word == "infra" { // on which nothing is granted
			with = ""
		}
		if err := s.confirm(cmd.Context(), sure, fmt.Sprintf("Delete %s %s%s?", k.thing, h.name, with)); err != nil {
			return err
		}
		if err := k.remove(cmd.Context(), c, h.id); err != nil {
			return err
		}
		return s.show(map[string]string{"deleted": h.id}, func() { s.say("Deleted %s %s.", k.thing, h.name) })
	})
	yesFlag(cmd, &sure)
	return cmd
}
