package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

func (s *shell) incidentRadius() *cobra.Command {
	var credential, person, serviceAccount, train, key, token, since, until, cursor string
	var all bool
	cmd := s.remote("blast-radius [INCIDENT]", "Who used what since a time: of what an incident touches, or of one thing", words("[INCIDENT]"), func(cmd *cobra.Command, args []string) error {
		subject := ""
		for _, one := range []string{credential, person, serviceAccount, train, key, token} {
			if one != "" && subject != "" {
				return usage("name one thing at a time")
			}
			subject += one
		}
		if (subject == "") == (len(args) == 0) {
			return usage("name an incident, or one thing: --credential, --train, --user, --service-account, --key or --token")
		}
		if key != "" && !strings.HasPrefix(key, "key_") || token != "" && !strings.HasPrefix(token, "tok_") {
			// The key or token itself would stand in the address of the request.
			return usage("--key takes the id of a client key (key_…) and --token that of a token (tok_…), never the secret itself; signalbox key list and signalbox token list show the ids")
		}
		from, err := parsePast(since)
		if err != nil {
			return err
		}
		to, err := parsePast(until)
		if err != nil {
			return err
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		q := client.RadiusQuery{From: from, To: to, Cursor: cursor}
		if len(args) > 0 {
			return s.radiusOfIncident(cmd, c, args[0], q, all)
		}
		scope := map[string][]string{"credential": {credential}, "user": {person}, "sa": {serviceAccount}}
		for kind, refs := range scope {
			if refs[0] == "" {
				scope[kind] = nil
			}
		}
		if err := scopeIDs(cmd, c, scope["credential"], scope["user"], scope["sa"]); err != nil {
			return err
		}
		for _, refs := range scope {
			if len(refs) > 0 {
				subject = refs[0]
			}
		}
		one, err := wholeRadius(cmd, c, subject, q, all)
		if err != nil {
			return err
		}
		return s.show(one, func() { s.radius(one) })
	})
	flags := cmd.Flags()
	flags.StringVar(&credential, "credential", "", "of this credential, by name or id")
	flags.StringVar(&train, "train", "", "of this train, by slug or id")
	flags.StringVar(&person, "user", "", "of this person, by e-mail address or id")
	flags.StringVar(&serviceAccount, "service-account", "", "of this service account, by name or id")
	flags.StringVar(&key, "key", "", "of this client key, by its id")
	flags.StringVar(&token, "token", "", "of this API token, by its id")
	flags.StringVar(&since, "since", "", "since when: a span back such as 2d or 3h, or a time; seven days, and of an incident since it happened")
	flags.StringVar(&until, "until", "", "until when: a span back, or a time; now")
	flags.StringVar(&cursor, "cursor", "", "go on after an earlier answer")
	flags.BoolVar(&all, "all", false, "go on until everything is counted")
	return cmd
}

// wholeRadius asks for a radius, with all for its further parts as well, and adds them up.
func wholeRadius(cmd *cobra.Command, c *client.Client, subject string, q client.RadiusQuery, all bool) (client.BlastRadius, error) {
	out, err := c.BlastRadius(cmd.Context(), subject, q)
	for err == nil && all && !out.Complete {
		// What was recorded meanwhile is in no further part: a part begins where the one before ended.
		var next client.BlastRadius
		q.Cursor = out.NextCursor
		if next, err = c.BlastRadius(cmd.Context(), subject, q); err == nil {
			out = out.Add(next)
		}
	}
	return out, err
}

// radiusOfIncident shows the radius of what an incident touches.
func (s *shell) radiusOfIncident(cmd *cobra.Command, c *client.Client, id string, q client.RadiusQuery, all bool) error {
	var page client.IncidentRadius
	for {
		next, err := c.IncidentBlastRadius(cmd.Context(), id, q)
		if err != nil {
			return err
		}
		page.Radii, page.NextCursor = append(page.Radii, next.Radii...), next.NextCursor
		if !all || next.NextCursor == "" {
			break
		}
		q.Cursor = next.NextCursor
	}
	if page.Radii == nil {
		page.Radii = []client.BlastRadius{}
	}
	for n, one := range page.Radii {
		if !all || one.Complete {
			continue
		}
		rest, err := wholeRadius(cmd, c, one.Subject.ID, client.RadiusQuery{From: &one.From, To: q.To, Cursor: one.NextCursor}, true)
		if err != nil {
			return err
		}
		page.Radii[n] = one.Add(rest)
	}
	return s.show(page, func() {
		for n, one := range page.Radii {
			if n > 0 {
				s.say("")
			}
			s.radius(one)
		}
		if len(page.Radii) == 0 {
			s.note("The incident touches nothing that acts or is used. Link what it touches (incident edit), or name one thing by a flag.")
		}
		if page.NextCursor != "" {
			s.note("It touches more: add --cursor %s, or --all.", page.NextCursor)
		}
	})
}

// radius shows one radius.
func (s *shell) radius(r client.BlastRadius) {
	s.say("%s %s (%s): %s from %s to %s", strings.ReplaceAll(r.Subject.Kind, "_", " "), orDash(r.Subject.Name), r.Subject.ID, count(r.Counted, "record", "records"), moment(r.From), moment(r.To))
	t := table{head: []string{"RELATION", "WHAT", "NAME", "USED", "REVEALED", "READ", "CHANGED", "REFUSED", "OTHER", "FIRST", "LAST", "OUTCOMES", "ID"}}
	for _, c := range r.Contacts {
		row := []string{c.Relation, orDash(c.Kind), orDash(c.Name)}
		for _, n := range []int64{c.Used, c.Revealed, c.Read, c.Changed, c.Refused, c.Other} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		t.add(append(row, moment(c.First), moment(c.Last), outcomesOf(c), orDash(c.ID))...)
	}
	s.print(t, "Nothing was done with it, and it did nothing.")
	if !r.Complete {
		s.note("Counted are the newest %s, down to %s. There are more: add --all, or ask for this alone with --cursor %s.", count(r.Counted, "record", "records"), momentOf(r.Since), r.NextCursor)
	}
}

// outcomesOf tells how often acts ended how, in the order of how often.
func outcomesOf(c client.RadiusContact) string {
	var order []string
	sums := map[string]int64{}
	for _, act := range c.Acts {
		if sums[act.Outcome] == 0 {
			order = append(order, act.Outcome)
		}
		sums[act.Outcome] += act.Count
	}
	parts := make([]string, len(order))
	for n, outcome := range order {
		parts[n] = fmt.Sprint(outcome, " ", sums[outcome])
	}
	return strings.Join(parts, ", ")
}
