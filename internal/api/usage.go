package api

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/store"
)

func (s *service) addUsage() {
	const what = "Sums of requests and tokens, added up from the audit log within a second or two, with what the tokens cost at the prices of today. The day begins at midnight UTC. " +
		"By the hour at most 93 days can be asked for at once, by the day 1100; an answer of more than 100,000 sums is refused. To tell people apart, or to ask for one, takes users:read as well. To whoever has usage:read only for the trains that they are on, and does not own the train, client keys that others made are one sum without client_key_id."
	add(s, route{method: http.MethodGet, path: "/api/usage", id: "get-usage", summary: "Tell what was used: requests, tokens and cost", description: what, tag: "usage", access: string(identity.UsageRead)}, s.getUsage)
	add(s, route{method: http.MethodGet, path: "/api/usage.csv", id: "get-usage-csv", summary: "Tell what was used, as a table for a spreadsheet", tag: "usage", access: string(identity.UsageRead),
		description: what + " The header X-Next-Cursor leads to what follows. A cell that begins like a formula gets an apostrophe before it."}, s.getUsageCSV)
	add(s, route{method: http.MethodPost, path: "/api/usage/rebuild", id: "rebuild-usage", summary: "Have the sums of usage made anew from the audit log", tag: "usage", access: string(identity.UsageWrite), status: http.StatusAccepted,
		description: "Drops all sums and adds the log up from its beginning, beside the server's work and also after a restart. Until that is done usage tells less than what was used, and says so in being_made_anew. " +
			"Sums that are being made anew are not begun once more. A person needs a fresh proof."}, s.rebuildUsage)
}

type usageAnewAnswer struct {
	Body struct {
		Anew client.UsageAnew `json:"being_made_anew"`
	}
}

func (s *service) rebuildUsage(ctx context.Context, caller identity.Caller, _ *struct{}) (*usageAnewAnswer, error) {
	at, err := s.Ledger.Rebuild(ctx, caller)
	if err != nil {
		return nil, err
	}
	out := &usageAnewAnswer{}
	out.Body.Anew = client.UsageAnew{Added: at.Added, Records: at.Records}
	return out, nil
}

// UsageQuestion is the query of both.
type UsageQuestion struct {
	From       time.Time `query:"from" doc:"The earliest time; 24 hours before to when it is left out. Taken to the whole hour."`
	To         time.Time `query:"to" doc:"The time before which; now when it is left out. Taken to the whole hour."`
	GroupBy    string    `query:"group_by" maxLength:"100" doc:"What the sums are told apart by, separated by commas: one of hour, day and month, and any of train, credential, client_key, user and model. One sum of all when it is left out."`
	Train      string    `query:"train_id" maxLength:"100" doc:"Only what this train used, by slug or id."`
	Credential string    `query:"credential_id" maxLength:"100" doc:"Only what was used with this account."`
	Key        string    `query:"client_key_id" maxLength:"100" doc:"Only what this client key used, by its id."`
	User       string    `query:"user_id" maxLength:"100" doc:"Only what the keys used that this person or service account made."`
	Model      string    `query:"model" maxLength:"128" doc:"Only what was used of this model."`
	Limit      int       `query:"limit" minimum:"1" maximum:"10000" doc:"How many sums at most; 1000 when it is left out."`
	Cursor     string    `query:"cursor" maxLength:"2000" doc:"next_cursor of the page before, with the same question and with from and to as that page told them."`
}

func (q UsageQuestion) query() ledger.Query {
	out := ledger.Query{From: q.From, To: q.To, Train: q.Train, Credential: q.Credential, Key: q.Key, User: q.User, Model: q.Model, Limit: q.Limit, Cursor: q.Cursor}
	if q.GroupBy != "" {
		for word := range strings.SplitSeq(q.GroupBy, ",") {
			out.By = append(out.By, ledger.Group(strings.TrimSpace(word)))
		}
	}
	return out
}

func (s *service) getUsage(ctx context.Context, caller identity.Caller, in *UsageQuestion) (*struct{ Body client.UsageReport }, error) {
	out, err := s.usage(ctx, caller, in)
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.UsageReport }{out}, nil
}

func (s *service) usage(ctx context.Context, caller identity.Caller, in *UsageQuestion) (client.UsageReport, error) {
	q := in.query()
	got, err := s.Ledger.Read(ctx, caller, q)
	if err != nil {
		return client.UsageReport{}, err
	}
	out := client.UsageReport{Usage: make([]client.UsageRow, len(got.Rows)), Total: shownUsed(got.Total), From: got.From, To: got.To, Behind: got.Behind(), PricesOf: got.PricesOf, NextCursor: got.Next}
	if got.Anew {
		out.Anew = &client.UsageAnew{Added: got.Added, Records: got.Records}
	}
	for i, row := range got.Rows {
		out.Usage[i] = shownUsage(row, q.By)
	}
	return out, nil
}

func shownUsage(r ledger.Row, by []ledger.Group) client.UsageRow {
	out := client.UsageRow{Used: shownUsed(r.Used)}
	for _, g := range by {
		switch g {
		case ledger.ByTrain:
			slug := r.Train.Name
			if slug == "" {
				slug = r.Train.ID
			}
			out.TrainID, out.TrainInternalID = &slug, r.Train.ID
		case ledger.ByCredential:
			out.CredentialID, out.CredentialName = &r.Credential.ID, r.Credential.Name
		case ledger.ByKey:
			out.ClientKeyID, out.ClientKeyName = &r.Key.ID, r.Key.Name
		case ledger.ByUser:
			out.UserID, out.UserName = &r.User.ID, r.User.Name
		case ledger.ByModel:
			out.Model = &r.Model
		default:
			out.BeginsAt = &r.Begins
		}
	}
	return out
}

func shownUsed(u ledger.Used) client.Used {
	out := client.Used{
		Requests: u.Requests, Complete: u.Complete, Partial: u.Partial, Unknown: u.Unknown, Failed: u.Failed, Pending: u.Pending, InputTokens: u.Input, OutputTokens: u.Output,
		CacheReadTokens: u.CacheRead, CacheCreationTokens: price.Sum(u.CacheWrite5m, u.CacheWrite1h), CacheCreation5mTokens: u.CacheWrite5m, CacheCreation1hTokens: u.CacheWrite1h, ToolCalls: u.ToolCalls,
		PricedUSD: client.USD(u.Cost.Micro()), UnpricedTokens: u.Cost.Unpriced,
	}
	if u.Cost.Known() {
		all := out.PricedUSD
		out.CostUSD = &all
	}
	return out
}

// csvAnswer is a table that is made in memory: it has at most 10,000 lines.
type csvAnswer struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	Disposition string `header:"Content-Disposition" hidden:"true"`
	Next        string `header:"X-Next-Cursor" hidden:"true"`
	Body        []byte `contentType:"text/csv"`
}

func (s *service) getUsageCSV(ctx context.Context, caller identity.Caller, in *UsageQuestion) (*csvAnswer, error) {
	report, err := s.usage(ctx, caller, in)
	if err != nil {
		return nil, err
	}
	lines := [][]string{usageHeader()}
	for i := range report.Usage {
		lines = append(lines, usageCells(&report.Usage[i]))
	}
	return tableOf("usage", lines, report.NextCursor)
}

// tableOf is a page as a file.
func tableOf(name string, lines [][]string, next string) (*csvAnswer, error) {
	var b bytes.Buffer
	for _, line := range lines {
		if err := writeRow(&b, line); err != nil {
			return nil, err
		}
	}
	return &csvAnswer{ContentType: typeCSV + "; charset=utf-8; header=present", Disposition: `attachment; filename="signalbox-` + name + `.csv"`, Next: next, Body: b.Bytes()}, nil
}

// usageHeader names the columns. They are always all of them, so that a program finds each in its place.
func usageHeader() []string {
	return []string{
		"begins_at", "train_id", "credential_id", "credential_name", "client_key_id", "client_key_name", "user_id", "user_name", "model",
		"requests", "complete", "partial", "unknown", "failed", "pending", "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_5m_tokens", "cache_creation_1h_tokens", "tool_calls",
		"cost_usd", "priced_usd", "unpriced_tokens", "train_internal_id",
	}
}

func usageCells(r *client.UsageRow) []string {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	begins, cost := "", ""
	if r.BeginsAt != nil {
		begins = r.BeginsAt.UTC().Format(store.TimeFormat)
	}
	if r.CostUSD != nil {
		cost = r.CostUSD.String()
	}
	cells := []string{begins, text(r.TrainID), text(r.CredentialID), r.CredentialName, text(r.ClientKeyID), r.ClientKeyName, text(r.UserID), r.UserName, text(r.Model)}
	for _, n := range [...]int64{r.Requests, r.Complete, r.Partial, r.Unknown, r.Failed, r.Pending, r.InputTokens, r.OutputTokens, r.CacheReadTokens, r.CacheCreation5mTokens, r.CacheCreation1hTokens, r.ToolCalls} {
		cells = append(cells, strconv.FormatInt(n, 10))
	}
	return append(cells, cost, price.Dollars(int64(r.PricedUSD)), strconv.FormatInt(r.UnpricedTokens, 10), r.TrainInternalID)
}
