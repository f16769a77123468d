package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/audit"
)

// verdict is the answer of audit verify.
type verdict struct {
	OK          bool      `json:"ok"`
	Records     int64     `json:"records"`
	Anchored    int64     `json:"anchored"`
	SignedOnly  int64     `json:"signed_only"`
	Unsigned    int64     `json:"unsigned"`
	Pending     int64     `json:"pending"`
	Checkpoints int64     `json:"checkpoints"`
	Anchors     int64     `json:"anchors"`
	Found       int64     `json:"found"`
	Findings    []finding `json:"findings"`
}

type finding struct {
	Kind   string `json:"kind"`
	Leaf   int64  `json:"leaf"`
	To     int64  `json:"to"`
	ID     string `json:"id,omitempty"`
	Detail string `json:"detail"`
}

// errVerdict ends audit verify with exit code 1; the answer says why already.
var errVerdict = errors.New("the audit log does not hold")

func (s *shell) auditVerify() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use: "verify", Short: "Recompute the whole log from the database and find any change to it", Args: words(),
		Long: "Recomputes the audit log from the records and compares it with the hashes and signatures in the database and with checkpoints that were kept elsewhere. " +
			"It reads the database itself, also beside a running server. The exit code is 1 when anything was edited, deleted, reordered, cut or re-chained.\n\n" +
			"Only what a checkpoint outside the database covers is proof against somebody who holds the database and the root key; give copies of the checkpoint " +
			"file from another machine with --checkpoint.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := s.withQuietLog(cmd)
			if err != nil {
				return err
			}
			report, err := app.VerifyAudit(cmd.Context(), cfg, files, s.progress("records checked"))
			if err != nil {
				return err
			}
			if err := s.show(verdictOf(report), func() { s.tell(report); s.tellAnchors(report) }); err != nil {
				return err
			}
			if !report.OK() {
				return errVerdict
			}
			return nil
		},
	}
	settingFlags(cmd, app.UseData, app.UseLog)
	cmd.Flags().StringArrayVar(&files, "checkpoint", nil, "a file of checkpoints that was kept elsewhere (may be given several times)")
	return cmd
}

func verdictOf(r audit.Report) verdict {
	v := verdict{OK: r.OK(), Records: r.Size, Anchored: r.Anchored, SignedOnly: r.SignedOnly, Unsigned: r.Unsigned, Pending: r.Pending,
		Checkpoints: r.Checkpoints, Anchors: r.Anchors, Found: r.Found, Findings: []finding{}}
	for _, f := range r.Findings {
		v.Findings = append(v.Findings, finding{Kind: string(f.Kind), Leaf: f.Leaf, To: f.To, ID: f.ID, Detail: f.Detail})
	}
	return v
}

func (s *shell) tell(r audit.Report) {
	if r.OK() {
		s.say("The audit log holds: %s, none changed, missing or moved.", count(r.Size, "record", "records"))
	} else {
		s.say("The audit log does NOT hold: %s, the first of them:", count(r.Found, "finding", "findings"))
		for i, f := range r.Findings {
			if i == 10 {
				break
			}
			s.say("  %s", f)
		}
	}
	s.facts(
		"anchored", fmt.Sprintf("%s under %s outside the database", count(r.Anchored, "record", "records"), count(r.Anchors, "checkpoint", "checkpoints")),
		"signed only", fmt.Sprintf("%s under a checkpoint in the database alone", count(r.SignedOnly, "record", "records")),
		"not signed yet", fmt.Sprintf("%s, and %s waiting for a place in the log", count(r.Unsigned, "record", "records"), count(r.Pending, "event", "events")),
	)
}

func (s *shell) tellAnchors(r audit.Report) {
	if r.Anchors == 0 {
		s.note("There was no checkpoint outside the database to compare with. Give one with --checkpoint: without it a log that was rewritten whole looks like a true one.")
	}
}

// progress shows how far long work is, on a terminal only.
func (s *shell) progress(what string) func(done, total int64) {
	if !s.interactive() {
		return nil
	}
	return func(done, total int64) {
		fmt.Fprintf(s.err, "\r%d of %d %s", done, total, what)
		if done >= total {
			fmt.Fprint(s.err, "\r\x1b[K")
		}
	}
}
