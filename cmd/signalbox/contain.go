package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/incident"
)

func (s *shell) incidentContain() *cobra.Command {
	var credentials, people, serviceAccounts, trains, keys []string
	var deactivate, rotate, dry, sure bool
	var tag, note, at string
	var opening client.ContainOpening
	cmd := s.remote("contain [INCIDENT]", "Revoke, end and mark what leaked, in one act; without INCIDENT the act opens one", words("[INCIDENT]"), func(cmd *cobra.Command, args []string) error {
		if len(credentials)+len(people)+len(serviceAccounts)+len(trains)+len(keys) == 0 {
			return usage("say what to contain: --credential, --train, --user, --service-account or --key")
		}
		if len(args) > 0 {
			for _, name := range []string{"title", "type", "severity", "description", "at"} {
				if cmd.Flags().Changed(name) {
					return usage("--%s is of an incident that is opened; leave out INCIDENT, or change that one with signalbox incident edit", name)
				}
			}
		}
		if err := among("type", opening.IncidentType, incidentTypeNames()); err != nil {
			return err
		}
		if err := among("severity", opening.Severity, incidentSeverityNames()); err != nil {
			return err
		}
		var err error
		if opening.IncidentDate, err = ago(at); err != nil {
			return err
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if err := scopeIDs(cmd, c, credentials, people, serviceAccounts); err != nil {
			return err
		}
		treat := ""
		if rotate {
			treat = string(incident.Rotate)
		}
		contain := func(ctx context.Context, d client.ContainDraft) (client.Containment, error) {
			if len(args) > 0 {
				return c.ContainIncident(ctx, args[0], d)
			}
			return c.ContainNow(ctx, opening, d)
		}
		d := client.ContainDraft{Note: note, Plan: tag, DryRun: true,
			Scope: client.IncidentScope{CredentialIDs: credentials, TrainIDs: trains, UserIDs: people, ServiceAccountIDs: serviceAccounts, KeyIDs: keys, Deactivate: deactivate, Credentials: treat}}
		plan, err := contain(cmd.Context(), d)
		if err != nil {
			return err
		}
		if dry {
			return s.show(plan, func() { s.containment(plan) })
		}
		if !s.json {
			s.containment(plan)
		}
		if err := s.confirm(cmd.Context(), sure, "Do this? What is revoked and ended does not come back."); err != nil {
			return err
		}
		d.DryRun = false
		if d.Plan == "" {
			d.Plan = plan.PlanTag
		}
		done, err := contain(cmd.Context(), d)
		if err != nil {
			return err
		}
		return s.show(done, func() { s.say("Contained incident %s in %d steps.", done.Incident.ID, len(done.Plan)) })
	})
	flags := cmd.Flags()
	flags.StringSliceVar(&credentials, "credential", nil, "a credential to mark as compromised, by name or id (may be given several times)")
	flags.StringSliceVar(&trains, "train", nil, "a train whose client keys are revoked, by slug or id (may be given several times)")
	flags.StringSliceVar(&people, "user", nil, "a person whose sessions end and whose tokens are revoked, by e-mail address or id (may be given several times)")
	flags.StringSliceVar(&serviceAccounts, "service-account", nil, "a service account whose tokens are revoked, by name or id (may be given several times)")
	flags.StringSliceVar(&keys, "key", nil, "a client key to revoke, by its id (may be given several times)")
	flags.BoolVar(&rotate, "rotate", false, "replace the tokens of OAuth credentials at their providers instead of disabling them; what cannot be renewed from here is disabled, and due to be rotated at once")
	flags.BoolVar(&deactivate, "deactivate", false, "also deactivate the people, so that they cannot sign in anew")
	flags.StringVar(&opening.Title, "title", "", "title of the incident that is opened; it names what is contained when left out")
	flags.StringVar(&opening.IncidentType, "type", "", "what kind of thing happened (credential_leak if left out): "+strings.Join(incidentTypeNames(), ", "))
	flags.StringVar(&opening.Severity, "severity", "", "how bad it is (high if left out): "+strings.Join(incidentSeverityNames(), ", "))
	flags.StringVar(&opening.Description, "description", "", "what happened")
	flags.StringVar(&at, "at", "", "when it happened: a time such as 2027-01-31T12:00:00Z, or a span ago such as 2d or 3h")
	flags.BoolVar(&dry, "dry-run", false, "only say what would be done")
	flags.StringVar(&tag, "plan", "", "the tag of a plan that was seen before: refused when the plan is another by now")
	flags.StringVar(&note, "note", "", "why; it stands in the timeline")
	yesFlag(cmd, &sure)
	return cmd
}

// containment shows a plan.
func (s *shell) containment(p client.Containment) {
	t := table{head: []string{"ACT", "WHAT", "NAME", "OF", "ID"}}
	for _, step := range p.Plan {
		t.add(step.Act, step.Kind, orDash(step.Name), orDash(step.Of), orDash(step.ID))
	}
	s.print(t, "There is nothing to do.")
	for _, w := range p.Warnings {
		s.note("Beware: %s", w.Detail)
	}
	s.note("The plan's tag is %s", p.PlanTag)
}
