package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// UsageQuery says of what usage is to be told. Without From it is 24 hours before To, without To it is now; both are taken to the whole hours around them.
type UsageQuery struct {
	From, To *time.Time
	// GroupBy is what the sums are told apart by: one of hour, day and month, and any of train, credential, client_key, user and model. Without it there is one sum.
	GroupBy []string
	// Only what these used is counted, where they are not empty.
	TrainID, CredentialID, ClientKeyID, UserID, Model string
	Limit                                             int
	Cursor                                            string
}

func (q UsageQuery) query() url.Values {
	v := AuditFilter{From: q.From, To: q.To, Limit: q.Limit, Cursor: q.Cursor}.query()
	setText(v, "group_by", strings.Join(q.GroupBy, ","))
	setText(v, "train_id", q.TrainID)
	setText(v, "credential_id", q.CredentialID)
	setText(v, "client_key_id", q.ClientKeyID)
	setText(v, "user_id", q.UserID)
	setText(v, "model", q.Model)
	return v
}

// USD is an amount in micro-dollars. On the wire it is a number of dollars with six digits, which is exact.
type USD int64

const microUSD = 1_000_000

// String writes the dollars with six digits.
func (u USD) String() string {
	sign, n := "", uint64(u)
	if u < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%06d", sign, n/microUSD, n%microUSD)
}

// MarshalJSON writes a number.
func (u USD) MarshalJSON() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalJSON reads what MarshalJSON wrote, without a float in between.
func (u *USD) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	whole, part, _ := strings.Cut(string(b), ".")
	n, err := strconv.ParseInt(whole+(part + "000000")[:6], 10, 64)
	if err != nil || len(part) > 6 {
		return errors.New("client: an amount is no number of dollars with six digits at most")
	}
	*u = USD(n)
	return nil
}

// Used is a sum of what was used. Requests is the sum of the five that follow it.
type Used struct {
	Requests              int64 `json:"requests" doc:"Requests that were lent for and sent, one for each account that was tried. The sum of complete, partial, unknown, failed and pending."`
	Complete              int64 `json:"complete" doc:"Those whose answer told all that it cost."`
	Partial               int64 `json:"partial" doc:"Those whose answer broke off: their tokens are the last that were told, and may be less than what is charged."`
	Unknown               int64 `json:"unknown" doc:"Those of which nobody knows what they cost, such as those whose answer did not come in time. None of their tokens is counted."`
	Failed                int64 `json:"failed" doc:"Those that an account or its upstream refused, or that did not reach it; they cost nothing. They count under no model."`
	Pending               int64 `json:"pending" doc:"Those under way; what is so for 15 minutes is unknown."`
	InputTokens           int64 `json:"input_tokens" doc:"Read, and neither read from the cache nor written to it."`
	OutputTokens          int64 `json:"output_tokens"`
	CacheReadTokens       int64 `json:"cache_read_tokens"`
	CacheCreationTokens   int64 `json:"cache_creation_tokens" doc:"The sum of the two that follow."`
	CacheCreation5mTokens int64 `json:"cache_creation_5m_tokens"`
	CacheCreation1hTokens int64 `json:"cache_creation_1h_tokens"`
	ToolCalls             int64 `json:"tool_calls" doc:"Tools that were called: the client's, the upstream's own and those of MCP servers."`
	CostUSD               *USD  `json:"cost_usd" nullable:"true" doc:"What the tokens cost in US dollars at the prices of today; null when some are of a model without a price, so that nobody takes a part for the whole."`
	PricedUSD             USD   `json:"priced_usd" doc:"What those tokens cost that have a price."`
	UnpricedTokens        int64 `json:"unpriced_tokens" doc:"How many tokens are of models without a price."`
}

// UsageRow is the sum of one group. What it is not told apart by is left out.
type UsageRow struct {
	BeginsAt        *time.Time `json:"begins_at,omitempty" doc:"When the hour, day or month begins, in UTC."`
	TrainID         *string    `json:"train_id,omitempty" doc:"The train's slug, what it was last called in the log."`
	TrainInternalID string     `json:"train_internal_id,omitempty" doc:"The id of the train itself (train_…), by which the audit log names it: a train that was deleted may have had the slug of another one."`
	CredentialID    *string    `json:"credential_id,omitempty"`
	CredentialName  string     `json:"credential_name,omitempty" doc:"What it was last called in the log, also when it is gone."`
	ClientKeyID     *string    `json:"client_key_id,omitempty" doc:"keyless where client keys are switched off."`
	ClientKeyName   string     `json:"client_key_name,omitempty"`
	UserID          *string    `json:"user_id,omitempty" doc:"Who made the client key: a person or a service account; empty where nobody knows."`
	UserName        string     `json:"user_name,omitempty"`
	Model           *string    `json:"model,omitempty" doc:"The model that answered; without an answer the one that was asked for, where it has a price or an answer has named it before. Else empty, as for requests that failed."`
	Used
}

// UsageReport is a page of sums.
type UsageReport struct {
	Usage      []UsageRow `json:"usage" nullable:"false" doc:"In the order of time, then of ids, then of models."`
	Total      Used       `json:"total" doc:"The sum over all pages."`
	From       time.Time  `json:"from" doc:"What was asked for, taken to whole hours."`
	To         time.Time  `json:"to" doc:"The time before which."`
	Behind     int64      `json:"behind" doc:"How many records of the audit log are not added up yet."`
	Anew       *UsageAnew `json:"being_made_anew,omitempty" doc:"There while all sums are being made anew: they are less than what was used."`
	PricesOf   string     `json:"prices_of,omitempty" doc:"The day on which the prices that come with the program were read."`
	NextCursor string     `json:"next_cursor,omitempty"`
}

// UsageAnew tells how far sums are that are being made anew.
type UsageAnew struct {
	Added   int64 `json:"added" doc:"How many records of the audit log are added up."`
	Records int64 `json:"records" doc:"How many records the log has."`
}

// RebuildUsage has all sums of usage made anew from the audit log, beside the server's work, and returns how far they are. Sums that are being made anew are not begun once more.
func (c *Client) RebuildUsage(ctx context.Context) (UsageAnew, error) {
	var out struct {
		Anew UsageAnew `json:"being_made_anew"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("usage", "rebuild")}, &out)
	return out.Anew, err
}

// Usage returns a page of what was used.
func (c *Client) Usage(ctx context.Context, q UsageQuery) (UsageReport, error) {
	var out UsageReport
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("usage"), query: q.query()}, &out)
	return out, err
}

// UsageCSV copies a page of what was used to w as CSV, and returns the cursor of the next.
func (c *Client) UsageCSV(ctx context.Context, q UsageQuery, w io.Writer) (next string, err error) {
	return c.pageCSV(ctx, q.query(), w, "usage.csv")
}

// pageCSV copies a page that is a table to w, and returns the cursor of the next.
func (c *Client) pageCSV(ctx context.Context, query url.Values, w io.Writer, segments ...string) (next string, err error) {
	body, header, err := c.openWith(ctx, call{method: http.MethodGet, path: path(segments...), query: query}, "text/csv")
	if err != nil {
		return "", err
	}
	defer func() { _ = body.Close() }()
	if _, err := io.Copy(w, body); err != nil {
		return "", errIncomplete(err)
	}
	return header.Get("X-Next-Cursor"), nil
}
