package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/demo"
)

// errLost ends the drill with exit code 1; the answer says why already.
var errLost = errors.New("the drill has lost something")

// drillFlags are what is asked of a drill.
type drillFlags struct {
	processes, callers, expiries int
	seed                         uint64
	lifetime, timeout            time.Duration
	postgres, naive              bool
	instance                     bool // this process is one of the drill's fleet
}

func (s *shell) refreshDrill() *cobra.Command {
	var f drillFlags
	cmd := &cobra.Command{
		Use: "refresh-drill", Short: "Refresh OAuth tokens under a hostile provider, and count what is lost", Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.instance {
				cfg, err := s.withLog(cmd)
				if err != nil {
					return err
				}
				return app.ServeInstance(cmd.Context(), cfg, s.in, s.out)
			}
			return s.drill(cmd, f)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&f.processes, "processes", 0, "servers on one database; more than one needs --postgres (default 1, with --postgres 3)")
	flags.IntVar(&f.callers, "callers", 50, "callers of each process, spread over the connections")
	flags.IntVar(&f.expiries, "expiries", 3, "how often the access token of each connection ends")
	flags.DurationVar(&f.lifetime, "lifetime", 10*time.Second, "how long an access token is good; at least 10s")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Minute, "when to give up")
	flags.Uint64Var(&f.seed, "seed", 0, "decides which refreshes meet mischief (default a random one, which is printed)")
	flags.BoolVar(&f.postgres, "postgres", false, "use a database of its own on the server of DATABASE_URL, instead of SQLite; it is removed again")
	flags.BoolVar(&f.naive, "naive", false, "the control: callers that refresh by themselves, without Signalbox")
	flags.BoolVar(&f.instance, "instance", false, "be one of its processes")
	_ = flags.MarkHidden("instance")
	return cmd
}

// check refuses what makes no drill, and fills in what follows from the rest.
func (f *drillFlags) check(cfg app.Config) error {
	if f.processes == 0 {
		f.processes = 1
		if f.postgres {
			f.processes = 3
		}
	}
	for _, n := range []struct {
		name        string
		value, most int
	}{{"processes", f.processes, 16}, {"callers", f.callers, 1000}, {"expiries", f.expiries, 1000}} {
		if n.value < 1 || n.value > n.most {
			return usage("--%s must be from 1 to %d", n.name, n.most)
		}
	}
	switch {
	case f.processes > 1 && !f.postgres:
		return usage("several processes cannot share one SQLite database; add --postgres, with DATABASE_URL naming the server")
	case f.postgres && cfg.DatabaseURL.IsZero():
		return usage("--postgres needs DATABASE_URL, which names the server on which a database of the drill's own is made")
	case f.lifetime < 10*time.Second || f.lifetime > time.Hour:
		return usage("--lifetime must be from 10s to 1h")
	case f.timeout <= 0:
		return usage("--timeout must be positive")
	case f.naive && (f.postgres || f.processes > 1):
		return usage("--naive runs without Signalbox, so without its processes and databases")
	}
	if f.seed == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:])
		f.seed = binary.BigEndian.Uint64(b[:]) >> 1 // a number that every reader of JSON can hold
	}
	return nil
}

func (s *shell) drill(cmd *cobra.Command, f drillFlags) (err error) {
	cfg, err := s.withQuietLog(cmd)
	if err != nil {
		return err
	}
	if err := f.check(cfg); err != nil {
		return err
	}
	o := demo.DrillOptions{Seed: f.seed, Callers: f.callers, Expiries: f.expiries, Lifetime: f.lifetime}
	var r demo.DrillReport
	if f.naive {
		r, err = demo.NaiveDrill(cmd.Context(), o)
	} else {
		r, err = s.drillFleet(cmd, cfg, f, o)
	}
	if err != nil {
		return err
	}
	if err := s.show(r, func() { s.tellDrill(r) }); err != nil {
		return err
	}
	if r.Lost() {
		return errLost
	}
	return nil
}

// drillFleet runs a drill on processes of its own.
func (s *shell) drillFleet(cmd *cobra.Command, cfg app.Config, f drillFlags, o demo.DrillOptions) (_ demo.DrillReport, err error) {
	engine := "SQLite"
	if f.postgres {
		engine = "PostgreSQL"
	}
	s.note("%s on %s, %s each, %s of each connection, a token every %s; seed %d", count(int64(f.processes), "process", "processes"), engine, count(int64(f.callers), "caller", "callers"),
		count(int64(f.expiries), "expiry", "expiries"), f.lifetime, f.seed)
	ctx := cmd.Context()
	fleet, err := app.StartFleet(ctx, cfg, app.FleetPlan{Processes: f.processes, Postgres: f.postgres, Environ: s.env, Command: []string{"signalbox", "oauth", "refresh-drill", "--instance"}})
	if err != nil {
		return demo.DrillReport{}, err
	}
	defer func() { err = errors.Join(err, fleet.Close(ctx)) }()
	limited, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	progress := s.progress("expiries over")
	if progress != nil {
		o.Progress = func(over, all int) { progress(int64(over), int64(all)) }
	}
	return fleet.Drill(limited, o)
}

// tellDrill tells people what came of a drill.
func (s *shell) tellDrill(r demo.DrillReport) {
	t := table{head: []string{"CONNECTION", "GRACE", "EXPIRIES", "CALLS", "STRUCK", "RECOVERIES", "REUSES", "GRANT", "HEALTH"}}
	for _, c := range r.Connections {
		grant, grace := "kept", "no"
		if c.Lost {
			grant = "lost"
		}
		if c.Grace {
			grace = "yes"
		}
		t.add(c.Name, grace, fmt.Sprint(c.Survived), fmt.Sprint(c.Calls), fmt.Sprint(c.Struck), fmt.Sprint(c.Recoveries), fmt.Sprint(c.Reuses), grant, c.Health)
	}
	s.print(t, "No connections.")
	s.say("")
	s.say("%d calls, %d refreshes, %d recoveries; the audit log lacks %d of the calls.", r.Calls, r.Refreshes, r.Recoveries, r.Unrecorded)
	s.say("%d requests were answered, %d told to come back, %d refused, in %.0f s.", r.Answered, r.ToldToWait, r.Refused, r.Seconds)
	s.say("Reuses: %d. Called twice: %d. Grants lost: %d. Callers failed: %d.", r.Reuses, r.Doubled, r.GrantsLost, r.CallersFailed)
	switch {
	case r.Naive:
		s.say("That is what happens without Signalbox. Run it again without --naive.")
	case r.Lost():
		s.say("Something was lost. Run it again with --seed %d.", r.Seed)
	default:
		s.say("Nothing was lost.")
	}
}
