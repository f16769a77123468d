package main

import (
	"errors"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/app"
)

// errUnwell ends doctor with exit code 1; the answer says why already.
var errUnwell = errors.New("something is broken")

func (s *shell) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "doctor", Short: "Check the set-up, and look for secrets that lie about", Args: words(), RunE: func(cmd *cobra.Command, _ []string) error {
		if s.interactive() {
			s.note("Looking at the set-up…")
		}
		d, err := app.Diagnose(cmd.Context(), s.env, givenSettings(cmd))
		if err != nil {
			return err
		}
		if err := s.show(d, func() { s.tellDiagnosis(d) }); err != nil {
			return err
		}
		if !d.OK {
			return errUnwell
		}
		return nil
	}}
	settingFlags(cmd, app.UseData, app.UseLog, app.UseServe, app.UseClient)
	return cmd
}

func (s *shell) tellDiagnosis(d app.Diagnosis) {
	settings := table{head: []string{"SETTING", "VALUE", "FROM"}}
	for _, v := range d.Settings {
		settings.add(v.Name, orDash(v.Value), v.From)
	}
	if len(d.Settings) > 0 {
		s.print(settings, "")
		s.say("")
	}
	checks := table{head: []string{"CHECK", "STATE", "FOUND"}}
	for _, c := range d.Checks {
		checks.add(c.Name, string(c.State), c.Found)
	}
	s.print(checks, "")
	if len(d.Strays) > 0 {
		s.say("")
		strays := table{head: []string{"WHERE", "NAME", "LOOKS LIKE", "READABLE BY OTHERS"}}
		for _, f := range d.Strays {
			strays.add(place(f), orDash(f.Name), f.Kind, orDash(yes(f.Open)))
		}
		s.print(strays, "")
	}
	s.say("")
	todo := false
	for _, c := range d.Checks {
		if c.Do != "" && c.State != app.Fine {
			if !todo {
				s.say("What to do:")
			}
			todo = true
			s.say("  %s: %s", c.Name, c.Do)
		}
	}
	for _, f := range d.Strays {
		s.say("    %s", f.Do)
	}
	switch {
	case !d.OK:
		s.say("Something is broken.")
	case todo:
		s.say("Nothing is broken.")
	default:
		s.say("All is well.")
	}
}
