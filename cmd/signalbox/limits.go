package main

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

func (s *shell) limitsCommand() *cobra.Command {
	return parent("limits", "Limits and budgets of trains, client keys and people", s.limitsShow(), s.limitsSet())
}

// limitsOf says whose limits are meant.
type limitsOf struct{ train, key, user string }

func (o *limitsOf) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.train, "train", "", "of this train: of all its client keys together")
	flags.StringVar(&o.key, "key", "", "of this client key of the train, by its name or id")
	flags.StringVar(&o.user, "user", "", "of this person, by their e-mail address or id: of all client keys that they made together")
}

func (o *limitsOf) check() error {
	switch {
	case o.train == "" && o.user == "":
		return usage("say whose limits: --train TRAIN, --train TRAIN --key KEY, or --user PERSON")
	case o.user != "" && (o.train != "" || o.key != ""):
		return usage("--user stands alone: the limits of a person hold for all their client keys")
	}
	return nil
}

// do changes the limits, or with nil reads them, and says whose they are.
func (o *limitsOf) do(cmd *cobra.Command, c *client.Client, patch *client.LimitsPatch) (whose string, limits *client.Limits, err error) {
	ctx := cmd.Context()
	switch {
	case o.user != "":
		u, err := findUser(cmd, c, o.user)
		if err == nil && patch != nil {
			u, err = c.UpdateUser(ctx, u.ID, client.UserPatch{Limits: patch})
		}
		return u.Email, u.Limits, err
	case o.key != "":
		id, err := keyID(ctx, c, o.train, o.key)
		if err != nil {
			return "", nil, err
		}
		k, err := c.GetKey(ctx, o.train, id)
		if err == nil && patch != nil {
			k, err = c.UpdateKey(ctx, o.train, id, client.KeyPatch{Limits: patch})
		}
		return "client key " + k.Name + " of train " + k.TrainID, k.Limits, err
	}
	t, err := c.GetTrain(ctx, o.train)
	if err == nil && patch != nil {
		t, err = c.UpdateTrain(ctx, o.train, client.TrainPatch{Limits: patch})
	}
	return "train " + t.TrainID, t.Limits, trainError(err, o.train)
}

func (s *shell) showLimits(whose string, limits *client.Limits) error {
	if limits == nil {
		limits = &client.Limits{}
	}
	return s.show(map[string]any{"limits": limits}, func() {
		pairs := shownLimits(limits)
		if len(pairs) == 0 {
			s.say("No limits of %s.", whose)
			return
		}
		s.say("Limits of %s:", whose)
		s.facts(pairs...)
	})
}

// shownLimits are names and values, as they are set.
func shownLimits(l *client.Limits) (pairs []string) {
	if l == nil {
		return nil
	}
	b, err := json.Marshal(l)
	var set map[string]json.RawMessage
	if err != nil || json.Unmarshal(b, &set) != nil {
		return nil
	}
	for _, name := range client.LimitNames() {
		value, ok := set[name]
		switch {
		case !ok:
		case name == "models":
			pairs = append(pairs, name, strings.Join(l.Models, ","))
		default:
			pairs = append(pairs, name, string(value))
		}
	}
	return pairs
}

func (s *shell) limitsShow() *cobra.Command {
	var of limitsOf
	cmd := s.remote("show", "Show the limits of a train, a client key or a person", words(), func(cmd *cobra.Command, _ []string) error {
		if err := of.check(); err != nil {
			return err
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		whose, limits, err := of.do(cmd, c, nil)
		if err != nil {
			return err
		}
		return s.showLimits(whose, limits)
	})
	of.flags(cmd)
	return cmd
}

func (s *shell) limitsSet() *cobra.Command {
	var of limitsOf
	var all bool
	cmd := s.remote("set NAME=VALUE…", "Set or remove limits of a train, a client key or a person", pairsOr("clear"), func(cmd *cobra.Command, args []string) error {
		if err := of.check(); err != nil {
			return err
		}
		patch, err := parseLimits(args)
		if err != nil {
			return err
		}
		patch.ClearAll = all
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		whose, limits, err := of.do(cmd, c, &patch)
		if err != nil {
			return err
		}
		return s.showLimits(whose, limits)
	})
	of.flags(cmd)
	cmd.Flags().BoolVar(&all, "clear", false, "remove all limits that are not set here")
	return cmd
}

// pairsOr wants at least one NAME=VALUE, or the flag.
func pairsOr(flag string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && !cmd.Flags().Changed(flag) {
			return usage("say which limits, such as requests_per_minute=60 or monthly_cost_usd=50; =none removes one. There are: %s", strings.Join(client.LimitNames(), ", "))
		}
		return nil
	}
}

// parseLimits reads NAME=VALUE; the value none removes a limit.
func parseLimits(args []string) (p client.LimitsPatch, err error) {
	set := map[string]json.RawMessage{}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || value == "" {
			return p, usage("%q is no limit; write NAME=VALUE, such as requests_per_minute=60, and NAME=none to remove one", arg)
		}
		if !slices.Contains(client.LimitNames(), name) {
			return p, usage("there is no limit %q; there are: %s", name, strings.Join(client.LimitNames(), ", "))
		}
		if _, twice := set[name]; twice || slices.Contains(p.Clear, name) {
			return p, usage("%s is there twice", name)
		}
		switch {
		case value == "none":
			p.Clear = append(p.Clear, name)
		case name == "models":
			list, err := json.Marshal(strings.Split(value, ","))
			if err != nil {
				return p, err
			}
			set[name] = list
		case name == "monthly_cost_usd":
			var usd client.USD
			if err := usd.UnmarshalJSON([]byte(value)); err != nil || usd <= 0 {
				return p, usage("monthly_cost_usd must be dollars above 0, with at most six digits after the point")
			}
			set[name] = json.RawMessage(usd.String())
		default:
			if n, err := strconv.ParseInt(value, 10, 64); err != nil || n <= 0 {
				return p, usage("%s must be a whole number above 0, or none", name)
			}
			set[name] = json.RawMessage(value)
		}
	}
	b, err := json.Marshal(set)
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(b, &p.Limits)
}
