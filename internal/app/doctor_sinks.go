package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/sink"
)

// lookAtSinks tells how far the audit log is where it is sent. It applies to a database that has sinks.
func lookAtSinks(ctx context.Context, p *patient) []Check {
	if p.db == nil {
		return nil
	}
	states, err := sink.Inspect(ctx, p.db)
	if err != nil {
		return []Check{{State: Skipped, Found: "it cannot be seen where they stand: " + told(err)}}
	}
	var out []Check
	for _, s := range states {
		if !s.Enabled || s.Failures == 0 && !s.Late(time.Now()) {
			continue
		}
		found := fmt.Sprintf("%s (%s) lacks %s", s.Name, s.Kind, counted(int(s.Behind), "record", "records"))
		if !s.Since.IsZero() {
			found += ", the oldest for " + age(time.Since(s.Since))
		}
		do := "Start a server: what waits is sent then."
		if s.Failures > 0 {
			found += "; " + counted(int(s.Failures), "try has", "tries have") + " failed: " + strings.TrimSuffix(s.Detail, ".")
			do = "See to the receiver, and try it with: signalbox audit sink test " + word(s.Name) + ". Nothing is lost: it waits in the log."
		}
		out = append(out, Check{State: Warning, Found: found, Do: do})
	}
	if len(out) == 0 && len(states) > 0 {
		out = append(out, Check{State: Fine, Found: counted(len(states), "sink", "sinks") + " of the audit log, none late"})
	}
	return out
}
