package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/store"
)

func (s *shell) incidentCommand() *cobra.Command {
	return parent("incident", "Security incidents: what happened, what it touches, and what was done",
		s.incidentOpen(), s.incidentList(), s.incidentShow(), s.incidentEdit(), s.incidentAdvance(), s.incidentNote(), s.incidentContain(), s.incidentRadius(), s.incidentRm())
}

func incidentTypeNames() []string {
	var out []string
	for _, row := range incident.Types() {
		out = append(out, string(row.Type))
	}
	return out
}

func incidentSeverityNames() []string {
	var out []string
	for _, one := range incident.Severities() {
		out = append(out, string(one))
	}
	return out
}

func incidentStatusNames() []string {
	var out []string
	for _, one := range incident.Statuses() {
		out = append(out, string(one))
	}
	return out
}

// among refuses a word that a closed list does not have; "" is none.
func among(flag, word string, all []string) error {
	if word == "" || slices.Contains(all, word) {
		return nil
	}
	return usage("--%s must be one of: %s", flag, strings.Join(all, ", "))
}

// incidentFlags are what may be said of an incident.
type incidentFlags struct {
	kind, severity, description, findings, remediation, at   string
	client, service, infrastructure                          string
	credentials, people, serviceAccounts, trains, clientKeys []string
}

func (f *incidentFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.kind, "type", "", "what kind of thing happened: "+strings.Join(incidentTypeNames(), ", "))
	flags.StringVar(&f.severity, "severity", "", "how bad it is: "+strings.Join(incidentSeverityNames(), ", "))
	flags.StringVar(&f.description, "description", "", "what happened")
	flags.StringVar(&f.findings, "findings", "", "what was found out")
	flags.StringVar(&f.remediation, "remediation", "", "what is to be done, or was")
	flags.StringVar(&f.at, "at", "", "when it happened: a time such as 2027-01-31T12:00:00Z, or a span ago such as 2d or 3h")
	flags.StringVar(&f.client, "client", "", "the client that it touches, by name or id")
	flags.StringVar(&f.service, "service", "", "the service that it touches, by name or id")
	flags.StringVar(&f.infrastructure, "infrastructure", "", "the infrastructure that it touches, by name or id")
	flags.StringSliceVar(&f.credentials, "credential", nil, "a credential that it touches, by name or id (may be given several times)")
	flags.StringSliceVar(&f.people, "user", nil, "a person whom it touches, by e-mail address or id (may be given several times)")
	flags.StringSliceVar(&f.serviceAccounts, "service-account", nil, "a service account that it touches, by name or id (may be given several times)")
	flags.StringSliceVar(&f.trains, "train", nil, "a train that it touches, by slug or id (may be given several times)")
	flags.StringSliceVar(&f.clientKeys, "key", nil, "a client key that it touches, by its id (may be given several times)")
}

// ago reads when something was: a moment in RFC 3339, or how long ago.
func ago(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		at = at.UTC()
		return &at, nil
	}
	span, err := parseSpan(text)
	if err != nil {
		return nil, err
	}
	at := time.Now().UTC().Add(-span).Truncate(time.Second)
	return &at, nil
}

// ids puts ids in the place of the names that a person gave.
func (f *incidentFlags) ids(cmd *cobra.Command, c *client.Client) error {
	if err := homeIDs(cmd.Context(), c, &f.client, &f.service, &f.infrastructure); err != nil {
		return err
	}
	return scopeIDs(cmd, c, f.credentials, f.people, f.serviceAccounts)
}

// scopeIDs puts ids in the place of the names of credentials, people and service accounts. What is an id already is not looked up: not everybody may list people.
func scopeIDs(cmd *cobra.Command, c *client.Client, credentials, people, serviceAccounts []string) (err error) {
	for i, ref := range credentials {
		if credentials[i], err = credentialID(cmd.Context(), c, ref); err != nil {
			return err
		}
	}
	for i, ref := range people {
		if store.ValidID("user", ref) {
			continue
		}
		u, err := findUser(cmd, c, ref)
		if err != nil {
			return err
		}
		people[i] = u.ID
	}
	for i, ref := range serviceAccounts {
		if store.ValidID("sa", ref) {
			continue
		}
		a, err := serviceAccountNamed(cmd.Context(), c, ref)
		if err != nil {
			return err
		}
		serviceAccounts[i] = a.ID
	}
	return nil
}

func (f *incidentFlags) check() (*time.Time, error) {
	if err := among("type", f.kind, incidentTypeNames()); err != nil {
		return nil, err
	}
	if err := among("severity", f.severity, incidentSeverityNames()); err != nil {
		return nil, err
	}
	return ago(f.at)
}

func (s *shell) incidentOpen() *cobra.Command {
	var f incidentFlags
	cmd := s.remote("open TITLE", "Open an incident", words("TITLE"), func(cmd *cobra.Command, args []string) error {
		at, err := f.check()
		if err != nil {
			return err
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if err := f.ids(cmd, c); err != nil {
			return err
		}
		i, err := c.OpenIncident(cmd.Context(), client.IncidentDraft{
			Title: args[0], IncidentType: f.kind, Severity: f.severity, Description: f.description, Findings: f.findings, RemediationSteps: f.remediation, IncidentDate: at,
			ClientID: f.client, ServiceID: f.service, InfrastructureID: f.infrastructure, CredentialIDs: f.credentials, UserIDs: f.people, ServiceAccountIDs: f.serviceAccounts,
			TrainIDs: f.trains, KeyIDs: f.clientKeys,
		})
		if err != nil {
			return err
		}
		return s.show(i, func() { s.say("Opened incident %s (%s, %s).", i.ID, i.IncidentType, i.Severity) })
	})
	f.register(cmd)
	return cmd
}

func (s *shell) incidentList() *cobra.Command {
	var f client.IncidentFilter
	var all bool
	cmd := s.remote("list", "List incidents, the newest first", words(), func(cmd *cobra.Command, _ []string) error {
		if err := among("status", f.Status, incidentStatusNames()); err != nil {
			return err
		}
		if err := among("type", f.IncidentType, incidentTypeNames()); err != nil {
			return err
		}
		if err := among("severity", f.Severity, incidentSeverityNames()); err != nil {
			return err
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		page := client.IncidentPage{}
		if all {
			f.Limit = 1000
			page.Incidents, err = everything(func(cursor string) ([]client.Incident, string, error) {
				f.Cursor = cursor
				p, err := c.ListIncidents(cmd.Context(), f)
				return p.Incidents, p.NextCursor, err
			})
		} else {
			page, err = c.ListIncidents(cmd.Context(), f)
		}
		if err != nil {
			return err
		}
		return s.show(page, func() {
			t := table{head: []string{"ID", "STATUS", "SEVERITY", "TYPE", "DATE", "TITLE"}}
			for _, i := range page.Incidents {
				t.add(i.ID, i.Status, i.Severity, i.IncidentType, moment(i.IncidentDate), i.Title)
			}
			s.print(t, "There is no incident, or none that matches.")
			s.more(page.NextCursor)
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&f.Status, "status", "", "only in this status: "+strings.Join(incidentStatusNames(), ", "))
	flags.BoolVar(&f.Open, "open", false, "only those that are not resolved")
	flags.StringVar(&f.IncidentType, "type", "", "only of this type: "+strings.Join(incidentTypeNames(), ", "))
	flags.StringVar(&f.Severity, "severity", "", "only of this severity: "+strings.Join(incidentSeverityNames(), ", "))
	flags.StringVar(&f.Touches, "touches", "", "only what touches this: a kind, a colon and an id, such as credential:cred_…")
	flags.StringVar(&f.Q, "search", "", "only where the title holds these words")
	pageFlags(cmd, &f.Limit, &f.Cursor, &all)
	return cmd
}

func (s *shell) incidentShow() *cobra.Command {
	return s.remote("show INCIDENT", "Show an incident and its timeline", words("INCIDENT"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		i, err := c.GetIncident(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		entries, err := everything(func(cursor string) ([]client.IncidentEntry, string, error) {
			p, err := c.IncidentTimeline(cmd.Context(), args[0], 1000, cursor)
			return p.Timeline, p.NextCursor, err
		})
		if err != nil {
			return err
		}
		return s.show(map[string]any{"incident": i, "timeline": entries}, func() { s.incidentFacts(i, entries) })
	})
}

func (s *shell) incidentFacts(i client.Incident, entries []client.IncidentEntry) {
	repeats := ""
	if i.Repeats > 0 {
		repeats = fmt.Sprintf("reported again %d times, last at %s", i.Repeats, momentOf(i.LastSeenAt))
	}
	s.facts("title", i.Title, "id", i.ID, "status", i.Status, "type", i.IncidentType, "severity", i.Severity, "date", moment(i.IncidentDate), "resolved", momentOf(i.ResolvedAt),
		"detector", i.Detector, "repeats", repeats, "description", i.Description, "findings", i.Findings, "remediation", i.RemediationSteps)
	if len(i.Touches) > 0 {
		s.say("")
		t := table{head: []string{"TOUCHES", "NAME", "ID"}}
		for _, l := range i.Touches {
			t.add(l.Kind, l.Name, l.ID)
		}
		s.print(t, "")
	}
	s.say("")
	t := table{head: []string{"TIME", "WHAT", "WHO", "MORE"}}
	for _, e := range entries {
		t.add(moment(e.At), e.Kind, orDash(e.Actor.Name), entryText(e))
	}
	s.print(t, "The timeline is empty.")
}

// entryText is one line of what an entry tells.
func entryText(e client.IncidentEntry) string {
	var parts []string
	if from, to := e.Details["from"], e.Details["to"]; from != nil && to != nil {
		parts = append(parts, fmt.Sprint(from, " → ", to))
	}
	for _, key := range []string{"severity", "incident_type", "detector", "fields", "acts", "outcome"} {
		switch v := e.Details[key].(type) {
		case nil:
		case []any:
			words := make([]string, len(v))
			for i, w := range v {
				words[i] = fmt.Sprint(w)
			}
			parts = append(parts, strings.Join(words, ", "))
		default:
			parts = append(parts, fmt.Sprint(v))
		}
	}
	if e.Text != "" {
		parts = append(parts, e.Text)
	}
	return strings.Join(parts, " · ")
}

func (s *shell) incidentEdit() *cobra.Command {
	var f incidentFlags
	var title, note string
	cmd := s.remote("edit INCIDENT", "Change what is said of an incident", words("INCIDENT"), func(cmd *cobra.Command, args []string) error {
		at, err := f.check()
		if err != nil {
			return err
		}
		p := client.IncidentPatch{Note: note, IncidentDate: at}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if err := f.ids(cmd, c); err != nil {
			return err
		}
		some := at != nil
		for flag, set := range map[string]func(){
			"title": func() { p.Title = &title }, "type": func() { p.IncidentType = &f.kind }, "severity": func() { p.Severity = &f.severity },
			"description": func() { p.Description = &f.description }, "findings": func() { p.Findings = &f.findings }, "remediation": func() { p.RemediationSteps = &f.remediation },
			"client": func() { p.ClientID = &f.client }, "service": func() { p.ServiceID = &f.service }, "infrastructure": func() { p.InfrastructureID = &f.infrastructure },
			"credential": func() { p.CredentialIDs = &f.credentials }, "user": func() { p.UserIDs = &f.people }, "service-account": func() { p.ServiceAccountIDs = &f.serviceAccounts },
			"train": func() { p.TrainIDs = &f.trains }, "key": func() { p.KeyIDs = &f.clientKeys },
		} {
			if cmd.Flags().Changed(flag) {
				set()
				some = true
			}
		}
		if !some {
			return usage("nothing to change; say what with flags, for example --findings")
		}
		i, err := c.UpdateIncident(cmd.Context(), args[0], p)
		if err != nil {
			return err
		}
		return s.show(i, func() { s.say("Changed incident %s.", i.ID) })
	})
	f.register(cmd)
	cmd.Flags().StringVar(&title, "title", "", "new title")
	cmd.Flags().StringVar(&note, "note", "", "why; it stands in the timeline")
	return cmd
}

func (s *shell) incidentAdvance() *cobra.Command {
	var note string
	cmd := s.remote("advance INCIDENT STATUS", "Move an incident to another status", words("INCIDENT", "STATUS"), func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(incidentStatusNames(), args[1]) {
			return usage("STATUS must be one of: %s", strings.Join(incidentStatusNames(), ", "))
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		i, err := c.UpdateIncident(cmd.Context(), args[0], client.IncidentPatch{Status: &args[1], Note: note})
		if err != nil {
			return err
		}
		return s.show(i, func() { s.say("Incident %s is %s.", i.ID, i.Status) })
	})
	cmd.Flags().StringVar(&note, "note", "", "why; it stands in the timeline")
	return cmd
}

func (s *shell) incidentNote() *cobra.Command {
	return s.remote("note INCIDENT TEXT", "Write into the timeline of an incident", words("INCIDENT", "TEXT"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		e, err := c.AddIncidentNote(cmd.Context(), args[0], args[1])
		if err != nil {
			return err
		}
		return s.show(e, func() { s.say("Noted at %s.", moment(e.At)) })
	})
}

func (s *shell) incidentRm() *cobra.Command {
	var sure bool
	cmd := s.remote("rm INCIDENT", "Delete an incident with its timeline", words("INCIDENT"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		i, err := c.GetIncident(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), sure, fmt.Sprintf("Delete incident %s (%s) with its timeline?", i.ID, i.Title)); err != nil {
			return err
		}
		if err := c.DeleteIncident(cmd.Context(), i.ID); err != nil {
			return err
		}
		return s.show(map[string]string{"deleted": i.ID}, func() { s.say("Deleted incident %s.", i.ID) })
	})
	yesFlag(cmd, &sure)
	return cmd
}
