package main

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

// auditFilter are the flags that select records.
type auditFilter struct {
	client.AuditFilter
	since, until string
}

func (f *auditFilter) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.since, "since", "", "from when: a span back such as 2h or 7d, or a time such as 2027-01-31T12:00:00Z")
	flags.StringVar(&f.until, "until", "", "until when, likewise")
	flags.StringVar(&f.Actor, "actor", "", "id of the person, token or key that did it, or of whom it was done for")
	flags.StringVar(&f.Target, "target", "", "id of what it was done to")
	flags.StringVar(&f.Action, "action", "", "such as credential.reveal or lease.granted")
	flags.StringVar(&f.Outcome, "outcome", "", "ok, refused, failed, pending or unknown")
	flags.StringVar(&f.RequestID, "request", "", "id of the request")
}

// read reads the times.
func (f *auditFilter) read() (err error) {
	if f.From, err = parsePast(f.since); err == nil {
		f.To, err = parsePast(f.until)
	}
	return err
}

func (s *shell) auditSearch() *cobra.Command {
	var f auditFilter
	cmd := s.remote("search", "Search the audit log, the newest records first", words(), func(cmd *cobra.Command, _ []string) error {
		if err := f.read(); err != nil {
			return err
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		page, err := c.AuditLogs(cmd.Context(), f.AuditFilter)
		if err != nil {
			return err
		}
		return s.show(page, func() {
			t := table{head: []string{"AT", "ACTION", "OUTCOME", "WHO", "WHAT", "REASON", "ID"}}
			for _, e := range page.Events {
				t.add(moment(e.At), e.Action, e.Outcome, who(e), orDash(what(e)), orDash(e.Reason), e.ID)
			}
			s.print(t, "No audit records match.")
			if page.NextCursor != "" {
				s.note("There are more: add --cursor %s", page.NextCursor)
			}
		})
	})
	f.register(cmd)
	cmd.Flags().IntVar(&f.Limit, "limit", 50, "how many at most, up to 1000")
	cmd.Flags().StringVar(&f.Cursor, "cursor", "", "go on after an earlier search")
	return cmd
}

// parsePast reads a moment in the past: a span back from now, or a time in RFC 3339.
func parsePast(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return &at, nil
	}
	span, err := parseSpan(text)
	if err != nil {
		return nil, err
	}
	at := time.Now().UTC().Add(-span)
	return &at, nil
}

func (s *shell) auditFacets() *cobra.Command {
	var f auditFilter
	var top int
	cmd := s.remote("facets", "Count audit records by act, outcome, who and what", words(), func(cmd *cobra.Command, _ []string) error {
		if err := f.read(); err != nil {
			return err
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		got, err := c.AuditFacets(cmd.Context(), f.AuditFilter, top)
		if err != nil {
			return err
		}
		return s.show(got, func() {
			t := table{head: []string{"BY", "VALUE", "NAME", "RECORDS"}}
			rows := func(by string, list []client.Facet, others int) {
				for _, one := range list {
					t.add(by, one.Value, orDash(strings.TrimSpace(one.Kind+" "+one.Name)), strconv.FormatInt(one.Count, 10))
				}
				if others > 0 {
					t.add(by, count(int64(others), "other", "others"), "-", "-")
				}
			}
			rows("action", got.Actions, 0)
			rows("outcome", got.Outcomes, 0)
			rows("actor", got.Actors, got.OtherActors)
			rows("target", got.Targets, got.OtherTargets)
			s.print(t, "No audit records match.")
			if !got.Complete {
				s.note("Counted are the newest %s, down to %s. There are more: narrow the search with --since, or export it.", count(got.Counted, "record", "records"), momentOf(got.Since))
			}
		})
	})
	f.register(cmd)
	cmd.Flags().IntVar(&top, "top", 10, "how many actors and targets to name, up to 50")
	return cmd
}

func (s *shell) auditShow() *cobra.Command {
	return s.remote("show EVENT", "Show one audit record whole", words("EVENT"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		e, err := c.AuditLog(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return s.show(e, func() {
			leaf, details := "not in the log yet", ""
			if e.Leaf != nil {
				leaf = strconv.FormatInt(*e.Leaf, 10)
			}
			if len(e.Details) > 0 {
				if b, err := json.Marshal(e.Details); err == nil {
					details = string(b)
				}
			}
			s.facts("id", e.ID, "at", moment(e.At), "action", e.Action, "outcome", e.Outcome, "reason", e.Reason, "who", named(e.Actor.Kind, e.Actor.Name, e.Actor.ID), "on behalf of", e.OnBehalfOf,
				"what", named(e.Target.Kind, e.Target.Name, e.Target.ID), "request", e.RequestID, "from", e.IP, "with", e.UserAgent, "changed fields", strings.Join(e.Fields, ", "), "details", details, "leaf", leaf)
		})
	})
}

// named tells all that is known of somebody or something.
func named(kind, name, id string) string {
	out := label(kind, name, id)
	if name != "" && id != "" {
		out += " (" + id + ")"
	}
	return out
}

func (s *shell) auditExport() *cobra.Command {
	var f auditFilter
	var format, to string
	cmd := s.remote("export", "Export audit records as NDJSON or CSV, the newest first", words(), func(cmd *cobra.Command, _ []string) (err error) {
		if err := f.read(); err != nil {
			return err
		}
		if format != "ndjson" && format != "csv" {
			return usage("--format must be ndjson or csv")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		filter := client.AuditExportFilter{From: f.From, To: f.To, Actor: f.Actor, Target: f.Target, Action: f.Action, Outcome: f.Outcome, RequestID: f.RequestID, Format: format}
		if to == "" {
			return c.ExportAudit(cmd.Context(), filter, s.out)
		}
		file, err := newFile(to)
		if err != nil {
			return err
		}
		defer func() {
			if cerr := file.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				_ = os.Remove(to) // half an export looks like a whole one
			}
		}()
		if err := c.ExportAudit(cmd.Context(), filter, file); err != nil {
			return err
		}
		return file.Sync()
	})
	f.register(cmd)
	cmd.Flags().StringVar(&format, "format", "ndjson", "ndjson, one record a line, or csv")
	cmd.Flags().StringVar(&to, "to", "", "file to be written in place of standard output; it must not exist yet")
	return cmd
}
