package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"
)

// RequestQuery says which requests are to be told. What is empty does not restrict.
type RequestQuery struct {
	From, To *time.Time
	// TrainID is a slug or an id; the others are ids. Outcome is complete, partial, unknown, failed, pending or unsent.
	TrainID, ClientKeyID, UserID, CredentialID, Model, Outcome string
	Limit                                                      int
	Cursor                                                     string
}

func (q RequestQuery) query() url.Values {
	v := AuditFilter{From: q.From, To: q.To, Outcome: q.Outcome, Limit: q.Limit, Cursor: q.Cursor}.query()
	setText(v, "train_id", q.TrainID)
	setText(v, "client_key_id", q.ClientKeyID)
	setText(v, "user_id", q.UserID)
	setText(v, "credential_id", q.CredentialID)
	setText(v, "model", q.Model)
	return v
}

// LentTokens are what an answer cost.
type LentTokens struct {
	InputTokens           int64 `json:"input_tokens" doc:"Read, and neither read from the cache nor written to it."`
	OutputTokens          int64 `json:"output_tokens"`
	CacheReadTokens       int64 `json:"cache_read_tokens"`
	CacheCreation5mTokens int64 `json:"cache_creation_5m_tokens"`
	CacheCreation1hTokens int64 `json:"cache_creation_1h_tokens"`
	ToolCalls             int64 `json:"tool_calls" doc:"Tools that were called: the client's, the upstream's own and those of MCP servers."`
}

// LentAttempt is one account that was lent for a request, and what came of it.
type LentAttempt struct {
	Attempt           int       `json:"attempt" doc:"Its number, from 1."`
	LeaseID           string    `json:"lease_id"`
	At                time.Time `json:"at"`
	CredentialID      string    `json:"credential_id"`
	CredentialName    string    `json:"credential_name,omitempty" doc:"What it was called then."`
	CredentialVersion int64     `json:"credential_version,omitempty" doc:"The version of its secret."`
	Host              string    `json:"host,omitempty" doc:"Where it was sent."`
	Outcome           string    `json:"outcome" doc:"complete, partial, unknown, failed, pending or unsent."`
	Result            string    `json:"result,omitempty" doc:"How it ended: ok, client_cancelled, upstream_error, upstream_unreachable, upstream_broke, revoked or refused. Left out while it is under way."`
	Status            int       `json:"status,omitempty" doc:"The status that the upstream answered; left out where there was none."`
	FirstByteMS       int64     `json:"first_byte_ms,omitempty" doc:"From its begin to the first byte of the answer, in milliseconds; left out where there was none."`
	DurationMS        int64     `json:"duration_ms,omitempty" doc:"From its begin to its end."`
	RequestBytes      int64     `json:"request_bytes" doc:"Of the request's body."`
	ResponseBytes     int64     `json:"response_bytes" doc:"Of the answer's body, as it went to the client."`
	Model             string    `json:"model,omitempty" doc:"The model that answered, where it names another than was asked for."`
	LentTokens
	IntentID  string `json:"intent_id" doc:"The audit record of the intent."`
	OutcomeID string `json:"outcome_id,omitempty" doc:"The audit record of the outcome; left out while there is none."`
}

// LentRequest is one request of a client for which an account was lent. As a whole it ended as its last attempt did.
type LentRequest struct {
	RequestID       string    `json:"request_id" doc:"The X-Request-Id of its answer."`
	At              time.Time `json:"at" doc:"When an account was first lent for it."`
	TrainID         string    `json:"train_id" doc:"The train's slug at that time."`
	TrainInternalID string    `json:"train_internal_id"`
	ClientKeyID     string    `json:"client_key_id" doc:"keyless where client keys are switched off."`
	ClientKeyName   string    `json:"client_key_name,omitempty"`
	UserID          string    `json:"user_id,omitempty" doc:"Who made the client key; only for those who may read people."`
	UserName        string    `json:"user_name,omitempty"`
	Method          string    `json:"method"`
	Path            string    `json:"path"`
	Model           string    `json:"model,omitempty" doc:"The model that answered; without an answer the one that was asked for."`
	ModelAsked      string    `json:"model_asked,omitempty"`
	CredentialID    string    `json:"credential_id" doc:"The account of the last attempt."`
	CredentialName  string    `json:"credential_name,omitempty"`
	Outcome         string    `json:"outcome" doc:"complete: the answer told all that it cost. partial: it broke off. unknown: nobody knows what it cost. failed: refused or not reached. pending: under way. unsent: given up before anything was sent."`
	Status          int       `json:"status,omitempty"`
	FirstByteMS     int64     `json:"first_byte_ms,omitempty" doc:"From the begin of the first attempt to the first byte of the answer, in milliseconds."`
	DurationMS      int64     `json:"duration_ms,omitempty" doc:"From the begin of the first attempt to the end of the last."`
	RequestBytes    int64     `json:"request_bytes"`
	ResponseBytes   int64     `json:"response_bytes"`
	LentTokens
	CostUSD  *USD          `json:"cost_usd" nullable:"true" doc:"What the tokens cost at the prices of today; null where the model has no price."`
	Attempts []LentAttempt `json:"attempts" nullable:"false" doc:"In their order."`
}

// LentRequestPage is a part of the requests, the newest first.
type LentRequestPage struct {
	Requests   []LentRequest `json:"requests" nullable:"false"`
	NextCursor string        `json:"next_cursor,omitempty" doc:"Leads to what follows, also behind a page that holds little or nothing: one call looks at a bounded part of the log."`
	SeenTo     *time.Time    `json:"seen_to,omitempty" doc:"The time down to which was looked, where there is more."`
}

// Requests returns a page of the requests for which accounts were lent, the newest first.
func (c *Client) Requests(ctx context.Context, q RequestQuery) (LentRequestPage, error) {
	var out LentRequestPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("requests"), query: q.query()}, &out)
	return out, err
}

// RequestsCSV copies a page of them to w as CSV, and returns the cursor of the next.
func (c *Client) RequestsCSV(ctx context.Context, q RequestQuery, w io.Writer) (next string, err error) {
	return c.pageCSV(ctx, q.query(), w, "requests.csv")
}

// Request returns one of them by its id.
func (c *Client) Request(ctx context.Context, id string) (LentRequest, error) {
	var out LentRequest
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("requests", id)}, &out)
	return out, err
}
