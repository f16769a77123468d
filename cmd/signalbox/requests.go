package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/store"
)

func (s *shell) requestsCommand() *cobra.Command {
	return parent("requests", "Requests for which accounts were lent, one by one", s.requestsList(), s.requestsShow())
}

// requestOutcomes are the words of --outcome.
func requestOutcomes() []string {
	return []string{"complete", "partial", "unknown", "failed", "pending", "unsent"}
}

func (s *shell) requestsList() *cobra.Command {
	var from, to string
	var last int
	var asCSV bool
	var q client.RequestQuery
	cmd := s.remote("list", "List requests with every account that was tried, the newest first", words(), func(cmd *cobra.Command, _ []string) (err error) {
		if err := among("outcome", q.Outcome, requestOutcomes()); err != nil {
			return err
		}
		if last < 1 {
			return usage("--last must be at least 1")
		}
		if asCSV && s.json {
			return usage("--csv and --json exclude each other")
		}
		if q.ClientKeyID != "" && !store.ValidID("key", q.ClientKeyID) && q.ClientKeyID != "keyless" {
			// The key itself would stand in the address of the request.
			return usage("--key takes the id of a client key (key_…), never the key itself; signalbox key list shows the ids")
		}
		if q.From, err = parsePast(from); err != nil {
			return err
		}
		if q.To, err = parsePast(to); err != nil {
			return err
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		var credentials, people []string
		if q.CredentialID != "" && !store.ValidID("cred", q.CredentialID) {
			credentials = []string{q.CredentialID}
		}
		if q.UserID != "" && !store.ValidID("sa", q.UserID) {
			people = []string{q.UserID}
		}
		if err := scopeIDs(cmd, c, credentials, people, nil); err != nil {
			return err
		}
		for _, id := range credentials {
			q.CredentialID = id
		}
		for _, id := range people {
			q.UserID = id
		}
		if asCSV {
			return s.requestsCSV(cmd, c, q, last)
		}
		out := client.LentRequestPage{Requests: []client.LentRequest{}}
		for { // one page looks at a bounded part of the log
			q.Limit = min(last-len(out.Requests), 500)
			page, err := c.Requests(cmd.Context(), q)
			if err != nil {
				return err
			}
			out.Requests = append(out.Requests, page.Requests...)
			out.NextCursor, out.SeenTo, q.Cursor = page.NextCursor, page.SeenTo, page.NextCursor
			if q.Cursor == "" || len(out.Requests) >= last {
				break
			}
		}
		return s.show(out, func() {
			t := table{head: []string{"AT", "TRAIN", "KEY", "MODEL", "ACCOUNTS", "TOOK", "INPUT", "OUTPUT", "OUTCOME", "REQUEST"}}
			for i := range out.Requests {
				r := &out.Requests[i]
				t.add(moment(r.At), orDash(r.TrainID), orDash(r.ClientKeyName), orDash(r.Model), triedText(r), tookText(r), strconv.FormatInt(inputOf(r.LentTokens), 10), strconv.FormatInt(r.OutputTokens, 10), r.Outcome, r.RequestID)
			}
			s.print(t, "No account was lent for such a request.")
			if out.NextCursor != "" {
				s.sayMore()
			}
		})
	})
	flags := cmd.Flags()
	flags.IntVarP(&last, "last", "n", 50, "how many at most")
	flags.StringVar(&from, "from", "", "since when: a span back such as 30d or 12h, or a time")
	flags.StringVar(&to, "to", "", "until when, likewise; now")
	flags.StringVar(&q.TrainID, "train", "", "only those of this train, by slug or id")
	flags.StringVar(&q.CredentialID, "credential", "", "only those for which this account was lent, by name or id")
	flags.StringVar(&q.ClientKeyID, "key", "", "only those of this client key, by its id")
	flags.StringVar(&q.UserID, "user", "", "only those of the keys that this person made, by e-mail address or id; or the id of a service account")
	flags.StringVar(&q.Model, "model", "", "only those that this model answered or, without an answer, that asked for it")
	flags.BoolVar(&asCSV, "csv", false, "write a table for a spreadsheet")
	flags.StringVar(&q.Outcome, "outcome", "", "only those that ended so: complete, partial, unknown, failed, pending or unsent")
	return cmd
}

func (s *shell) sayMore() {
	s.note("There may be more: raise --last, or narrow it with --from and --to.")
}

// requestsCSV writes as many requests as one table.
func (s *shell) requestsCSV(cmd *cobra.Command, c *client.Client, q client.RequestQuery, last int) error {
	for have := 0; ; {
		q.Limit = min(last-have, 500)
		var page bytes.Buffer
		next, err := c.RequestsCSV(cmd.Context(), q, &page)
		if err != nil {
			return err
		}
		text := page.Bytes()
		lines, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
		if err != nil {
			return errors.New("the answer is no table; is it the server of another version?")
		}
		have += max(0, len(lines)-1)
		if q.Cursor != "" { // the heads are there already
			_, text, _ = bytes.Cut(text, []byte("\n"))
		}
		if _, err := s.out.Write(s.shownTable(text)); err != nil {
			return err
		}
		switch {
		case next == "":
			return nil
		case have >= last:
			s.sayMore()
			return nil
		}
		q.Cursor = next
	}
}

func inputOf(t client.LentTokens) int64 {
	return t.InputTokens + t.CacheReadTokens + t.CacheCreation5mTokens + t.CacheCreation1hTokens
}

// triedText are the accounts in their order, with why each was left.
func triedText(r *client.LentRequest) string {
	var out []string
	for i := range r.Attempts {
		a := &r.Attempts[i]
		text := a.CredentialName
		if why := whyText(a); why != "" {
			text += " (" + why + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// whyText says what an attempt failed of; "" where it did not.
func whyText(a *client.LentAttempt) string {
	switch {
	case a.Status >= 400:
		return strconv.Itoa(a.Status)
	case a.Result == "ok":
		return ""
	}
	return strings.ReplaceAll(a.Result, "_", " ")
}

func tookText(r *client.LentRequest) string {
	if len(r.Attempts) == 0 || r.Attempts[len(r.Attempts)-1].OutcomeID == "" {
		return "-"
	}
	return (time.Duration(r.DurationMS) * time.Millisecond).String()
}

func (s *shell) requestsShow() *cobra.Command {
	return s.remote("show REQUEST", "Show one request with its attempts", words("REQUEST"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		r, err := c.Request(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return s.show(r, func() {
			cost := ""
			if r.CostUSD != nil {
				cost = "$" + r.CostUSD.String()
			}
			s.facts("request", r.RequestID, "at", moment(r.At), "train", r.TrainID, "key", r.ClientKeyName, "made by", r.UserName, "path", r.Method+" "+r.Path, "asked for", r.ModelAsked, "model", r.Model,
				"outcome", r.Outcome, "took", tookText(&r), "input", strconv.FormatInt(inputOf(r.LentTokens), 10), "output", strconv.FormatInt(r.OutputTokens, 10), "tools", strconv.FormatInt(r.ToolCalls, 10), "cost", cost)
			t := table{head: []string{"ATTEMPT", "ACCOUNT", "HOST", "OUTCOME", "WHY", "STATUS", "TOOK", "BYTES", "RECORDS"}}
			for i := range r.Attempts {
				a := &r.Attempts[i]
				records := a.IntentID
				if a.OutcomeID != "" {
					records += ", " + a.OutcomeID
				}
				status := "-"
				if a.Status > 0 {
					status = strconv.Itoa(a.Status)
				}
				t.add(strconv.Itoa(a.Attempt), orDash(a.CredentialName), orDash(a.Host), a.Outcome, orDash(strings.ReplaceAll(a.Result, "_", " ")), status, (time.Duration(a.DurationMS) * time.Millisecond).String(), strconv.FormatInt(a.ResponseBytes, 10), records)
			}
			s.print(t, "")
		})
	})
}
