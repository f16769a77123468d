package main

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/store"
)

// usageBy are the words of --by, in the order of their columns.
func usageBy() []string {
	return []string{"hour", "day", "month", "train", "credential", "client_key", "user", "model"}
}

// usagePage is how many sums are asked for at a time.
const usagePage = 10_000

func (s *shell) usageCommand() *cobra.Command {
	var from, to, by string
	var asCSV bool
	var q client.UsageQuery
	cmd := s.remote("usage", "What was used: requests, tokens and what they cost", words(), func(cmd *cobra.Command, _ []string) (err error) {
		for word := range strings.SplitSeq(by, ",") {
			if word = strings.TrimSpace(word); word == "" {
				continue
			}
			if err := among("by", word, usageBy()); err != nil {
				return err
			}
			q.GroupBy = append(q.GroupBy, word)
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
		if q.To == nil { // the same for all pages
			now := time.Now().UTC()
			q.To = &now
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		var credentials, people []string
		if q.CredentialID != "" && !store.ValidID("cred", q.CredentialID) { // one that is gone is named by its id
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
		q.Limit = usagePage
		if asCSV {
			return s.usageCSV(cmd, c, q)
		}
		report, err := wholeUsage(cmd, c, q)
		if err != nil {
			return err
		}
		return s.show(report, func() { s.printUsage(report, q.GroupBy) })
	})
	cmd.Annotations = map[string]string{alsoAlone: "yes"}
	cmd.AddCommand(s.usageRebuild())
	flags := cmd.Flags()
	flags.StringVar(&from, "from", "", "since when: a span back such as 30d or 12h, or a time; 24 hours before --to")
	flags.StringVar(&to, "to", "", "until when: a span back, or a time; now")
	flags.StringVar(&by, "by", "train", "what the sums are told apart by, separated by commas: one of hour, day and month, and any of train, credential, client_key, user and model; empty for one sum")
	flags.StringVar(&q.TrainID, "train", "", "only what this train used, by slug or id")
	flags.StringVar(&q.CredentialID, "credential", "", "only what was used with this account, by name or id")
	flags.StringVar(&q.ClientKeyID, "key", "", "only what this client key used, by its id")
	flags.StringVar(&q.UserID, "user", "", "only what the keys used that this person made, by e-mail address or id; or the id of a service account")
	flags.StringVar(&q.Model, "model", "", "only what was used of this model")
	flags.BoolVar(&asCSV, "csv", false, "write a table for a spreadsheet")
	return cmd
}

// wholeUsage collects all pages.
func wholeUsage(cmd *cobra.Command, c *client.Client, q client.UsageQuery) (client.UsageReport, error) {
	var out client.UsageReport
	rows, err := everything(func(cursor string) ([]client.UsageRow, string, error) {
		q.Cursor = cursor
		page, err := c.Usage(cmd.Context(), q)
		if cursor == "" {
			out = page
			q.From, q.To = &page.From, &page.To
		}
		return page.Usage, page.NextCursor, err
	})
	out.Usage, out.NextCursor = rows, ""
	return out, err
}

// usageCSV writes all pages as one table.
func (s *shell) usageCSV(cmd *cobra.Command, c *client.Client, q client.UsageQuery) error {
	if q.From == nil {
		from := q.To.Add(-24 * time.Hour)
		q.From = &from
	}
	for first := true; ; first = false {
		var page bytes.Buffer
		next, err := c.UsageCSV(cmd.Context(), q, &page)
		if err != nil {
			return err
		}
		text := page.Bytes()
		if !first {
			_, text, _ = bytes.Cut(text, []byte("\n"))
		}
		if _, err := s.out.Write(s.shownTable(text)); err != nil {
			return err
		}
		if next == "" {
			break
		}
		q.Cursor = next
	}
	q.GroupBy, q.Cursor, q.Limit = nil, "", 1
	if all, err := c.Usage(cmd.Context(), q); err == nil { // the table itself has no room for it
		s.sayBehind(all)
	}
	return nil
}

// shownTable is a table as it may be written to where the answer goes: a terminal gets no control characters, a file every byte.
func (s *shell) shownTable(text []byte) []byte {
	if !term.IsTerminal(int(s.out.Fd())) {
		return text
	}
	return []byte(printable(string(text)))
}

// printUsage shows sums, and says what they leave out.
func (s *shell) printUsage(r client.UsageReport, by []string) {
	heads := map[string]string{"hour": "HOUR", "day": "DAY", "month": "MONTH", "train": "TRAIN", "credential": "ACCOUNT", "client_key": "KEY", "user": "PERSON", "model": "MODEL"}
	var t table
	for _, word := range usageBy() {
		if slices.Contains(by, word) {
			t.head = append(t.head, heads[word])
		}
	}
	words := len(t.head)
	twins := trainTwins(r.Usage)
	t.head = append(t.head, "REQUESTS", "FAILED", "UNKNOWN", "INPUT", "CACHE READ", "CACHE WRITTEN", "OUTPUT", "TOOLS", "COST")
	for i := range r.Usage {
		row := &r.Usage[i]
		var cells []string
		for _, word := range usageBy() {
			if slices.Contains(by, word) {
				cell := usageWord(row, word)
				if word == "train" && twins[cell] {
					cell += " (" + row.TrainInternalID + ")"
				}
				cells = append(cells, cell)
			}
		}
		t.add(append(cells, usageNumbers(&row.Used)...)...)
	}
	if len(r.Usage) > 1 && words > 0 {
		t.add(append(append([]string{"TOTAL"}, make([]string, words-1)...), usageNumbers(&r.Total)...)...)
	}
	s.print(t, "Nothing was used from "+moment(r.From)+" to "+moment(r.To)+".")
	if r.Total.Unknown > 0 {
		s.note("Of %s nobody knows what was used: none of it is counted.", count(r.Total.Unknown, "request", "requests"))
	}
	if r.Total.UnpricedTokens > 0 {
		s.note("%s are of models without a price: their cost is unknown. A file of prices (SIGNALBOX_PRICES) can name it.", count(r.Total.UnpricedTokens, "token", "tokens"))
	}
	s.sayBehind(r)
}

// sayBehind says what sums leave out that are not made yet.
func (s *shell) sayBehind(r client.UsageReport) {
	switch {
	case r.Anew != nil:
		s.note("The sums are being made anew: %d of %s added up, the oldest first. Until that is done they are less than what was used.", r.Anew.Added, count(r.Anew.Records, "record of the audit log is", "records of the audit log are"))
	case r.Behind > 0:
		s.note("%s of the audit log are not added up yet.", count(r.Behind, "record", "records"))
	}
}

// usageRebuild has the sums made anew.
func (s *shell) usageRebuild() *cobra.Command {
	return s.remote("rebuild", "Have the sums of usage made anew from the audit log", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		at, err := c.RebuildUsage(cmd.Context())
		if err != nil {
			return err
		}
		return s.show(at, func() {
			s.say("The sums of usage are being made anew from the %s of the audit log; %d are added up. signalbox usage says when that is not done yet.", count(at.Records, "record", "records"), at.Added)
		})
	})
}

// trainTwins are the slugs that more than one train had.
func trainTwins(rows []client.UsageRow) map[string]bool {
	first, twins := map[string]string{}, map[string]bool{}
	for i := range rows {
		row := &rows[i]
		if row.TrainID == nil {
			continue
		}
		id, had := first[*row.TrainID]
		if !had {
			first[*row.TrainID] = row.TrainInternalID
		} else if id != row.TrainInternalID {
			twins[*row.TrainID] = true
		}
	}
	return twins
}

// usageWord is what a sum is of.
func usageWord(r *client.UsageRow, word string) string {
	name := func(id *string, name string) string {
		switch {
		case name != "":
			return name
		case id == nil:
			return "-"
		}
		return orDash(*id)
	}
	begins := func(form string) string {
		if r.BeginsAt == nil {
			return "-"
		}
		return r.BeginsAt.UTC().Format(form)
	}
	switch word {
	case "hour":
		return begins("2006-01-02 15:04Z")
	case "day":
		return begins(time.DateOnly)
	case "month":
		return begins("2006-01")
	case "train":
		return name(r.TrainID, "")
	case "credential":
		return name(r.CredentialID, r.CredentialName)
	case "client_key":
		return name(r.ClientKeyID, r.ClientKeyName)
	case "user":
		return name(r.UserID, r.UserName)
	}
	return name(r.Model, "")
}

func usageNumbers(u *client.Used) []string {
	var out []string
	for _, n := range [...]int64{u.Requests, u.Failed, u.Unknown, u.InputTokens, u.CacheReadTokens, u.CacheCreationTokens, u.OutputTokens, u.ToolCalls} {
		out = append(out, strconv.FormatInt(n, 10))
	}
	switch {
	case u.CostUSD != nil:
		return append(out, "$"+u.CostUSD.String())
	case u.PricedUSD > 0:
		return append(out, "more than $"+u.PricedUSD.String())
	}
	return append(out, "unknown")
}
