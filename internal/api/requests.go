package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/ledger"
)

// requestOutcome is what can become of a request.
type requestOutcome string

// Schema lists the words.
func (requestOutcome) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, one := range ledger.States() {
		s.Enum = append(s.Enum, string(one))
	}
	return s
}

func (s *service) addRequests() {
	add(s, route{method: http.MethodGet, path: "/api/requests", id: "list-requests", summary: "List the requests for which accounts were lent, the newest first", tag: "usage", access: string(identity.UsageRead),
		description: "One by one, with every account that was tried, from the audit log. One call looks at a bounded part of the log: a page may hold fewer requests than were asked for, even none, and have a next_cursor. " +
			"A request that was refused before an account was lent for it is not among them. To ask for those of one person takes users:read as well. The read is itself recorded."}, s.listRequests)
	add(s, route{method: http.MethodGet, path: "/api/requests.csv", id: "list-requests-csv", summary: "List the requests for which accounts were lent, as a table for a spreadsheet", tag: "usage", access: string(identity.UsageRead),
		description: "The same question and the same page as list-requests, one request a line with the accounts that were tried. The header X-Next-Cursor leads to what follows. A cell that begins like a formula gets an apostrophe before it. The read is itself recorded."}, s.listRequestsCSV)
	add(s, route{method: http.MethodGet, path: "/api/requests/{id}", id: "get-request", summary: "Read one request with its attempts", tag: "usage", access: string(identity.UsageRead),
		description: "By the X-Request-Id of its answer. The read is itself recorded."}, s.getRequest)
}

// RequestsQuestion is the query of the list.
type RequestsQuestion struct {
	From       time.Time      `query:"from" doc:"The earliest time."`
	To         time.Time      `query:"to" doc:"The time before which; now when it is left out."`
	Train      string         `query:"train_id" maxLength:"100" doc:"Only those of this train, by slug or id."`
	Key        string         `query:"client_key_id" maxLength:"100" doc:"Only those of this client key, by its id."`
	User       string         `query:"user_id" maxLength:"100" doc:"Only those of the keys that this person or service account made."`
	Credential string         `query:"credential_id" maxLength:"100" doc:"Only those for which this account was lent, at any attempt."`
	Model      string         `query:"model" maxLength:"128" doc:"Only those that this model answered or, without an answer, that asked for it. What was never sent is left out then, as it is with user_id, unless outcome asks for it."`
	Outcome    requestOutcome `query:"outcome" doc:"Only those that ended so."`
	Limit      int            `query:"limit" minimum:"1" maximum:"500" doc:"How many at most; 50 when it is left out."`
	Cursor     string         `query:"cursor" maxLength:"200" doc:"next_cursor of the page before, with the same question."`
}

func (q RequestsQuestion) query() ledger.RequestQuery {
	return ledger.RequestQuery{From: q.From, To: q.To, Train: q.Train, Key: q.Key, User: q.User, Credential: q.Credential, Model: q.Model, State: ledger.State(q.Outcome), Limit: q.Limit, Cursor: q.Cursor}
}

func (s *service) listRequestsCSV(ctx context.Context, caller identity.Caller, in *RequestsQuestion) (*csvAnswer, error) {
	got, err := s.Ledger.Requests(ctx, caller, in.query())
	if err != nil {
		return nil, err
	}
	lines := [][]string{ledger.RequestColumns()}
	for i := range got.Requests {
		lines = append(lines, got.Requests[i].Line())
	}
	return tableOf("requests", lines, got.Next)
}

func (s *service) listRequests(ctx context.Context, caller identity.Caller, in *RequestsQuestion) (*struct{ Body client.LentRequestPage }, error) {
	got, err := s.Ledger.Requests(ctx, caller, in.query())
	if err != nil {
		return nil, err
	}
	out := client.LentRequestPage{Requests: make([]client.LentRequest, len(got.Requests)), NextCursor: got.Next, SeenTo: instant(got.Seen)}
	for i := range got.Requests {
		out.Requests[i] = shownRequest(&got.Requests[i])
	}
	return &struct{ Body client.LentRequestPage }{out}, nil
}

func (s *service) getRequest(ctx context.Context, caller identity.Caller, in *ByID) (*struct{ Body client.LentRequest }, error) {
	got, err := s.Ledger.Request(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	return &struct{ Body client.LentRequest }{shownRequest(&got)}, nil
}

func shownRequest(r *ledger.Request) client.LentRequest {
	out := client.LentRequest{
		RequestID: r.ID, At: r.At, TrainID: r.Train.Name, TrainInternalID: r.Train.ID, ClientKeyID: r.Key.ID, ClientKeyName: r.Key.Name, UserID: r.User.ID, UserName: r.User.Name,
		Method: r.Method, Path: r.Path, Model: r.Model, ModelAsked: r.Asked, CredentialID: r.Credential.ID, CredentialName: r.Credential.Name, Outcome: string(r.State), Status: r.Status,
		FirstByteMS: r.FirstByte.Milliseconds(), DurationMS: r.Duration.Milliseconds(), RequestBytes: r.Sent, ResponseBytes: r.Received, Attempts: make([]client.LentAttempt, len(r.Attempts)),
		LentTokens: client.LentTokens{InputTokens: r.Tokens.Input, OutputTokens: r.Tokens.Output, CacheReadTokens: r.Tokens.CacheRead, CacheCreation5mTokens: r.Tokens.CacheWrite5m,
			CacheCreation1hTokens: r.Tokens.CacheWrite1h, ToolCalls: r.Tools},
	}
	if r.Cost.Known() {
		cost := client.USD(r.Cost.Micro())
		out.CostUSD = &cost
	}
	for i := range r.Attempts {
		a := &r.Attempts[i]
		out.Attempts[i] = client.LentAttempt{
			Attempt: a.Number, LeaseID: a.Lease, At: a.At, CredentialID: a.Credential.ID, CredentialName: a.Credential.Name, CredentialVersion: a.Version, Host: a.Host, Outcome: string(a.State),
			Result: a.Result, Status: a.Status, FirstByteMS: a.FirstByte.Milliseconds(), DurationMS: a.Duration.Milliseconds(), RequestBytes: a.Sent, ResponseBytes: a.Received, Model: a.Model,
			LentTokens: client.LentTokens{InputTokens: a.Tokens.Input, OutputTokens: a.Tokens.Output, CacheReadTokens: a.Tokens.CacheRead, CacheCreation5mTokens: a.Tokens.CacheWrite5m,
				CacheCreation1hTokens: a.Tokens.CacheWrite1h, ToolCalls: a.Tools},
			IntentID: a.Intent, OutcomeID: a.Outcome,
		}
	}
	return out
}
