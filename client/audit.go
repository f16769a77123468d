package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Actor is who did something.
type Actor struct {
	Kind string `json:"kind"`
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

// Target is what something was done to.
type Target struct {
	Kind string `json:"kind"`
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

// Event is one audit record.
type Event struct {
	ID         string         `json:"id"`
	At         time.Time      `json:"at"`
	Actor      Actor          `json:"actor"`
	OnBehalfOf string         `json:"on_behalf_of,omitempty" doc:"The id of the train or person that the actor acts for."`
	Action     string         `json:"action"`
	Target     Target         `json:"target"`
	Outcome    string         `json:"outcome" doc:"ok, refused, failed, pending or unknown, or what became of a lease."`
	Reason     string         `json:"reason,omitempty"`
	RequestID  string         `json:"request_id,omitempty"`
	IP         string         `json:"ip,omitempty"`
	UserAgent  string         `json:"user_agent,omitempty"`
	Fields     []string       `json:"fields,omitempty" nullable:"false" doc:"The names of the changed fields, never their values."`
	Details    map[string]any `json:"details,omitempty" doc:"Facts of the action: texts, integers, booleans and lists of texts."`
	Leaf       *int64         `json:"leaf,omitempty" doc:"Its place in the log, in the answer to a read of one record; absent until it is sequenced."`
}

// AuditFilter selects audit records, the newest first. Zero fields do not select.
type AuditFilter struct {
	From, To                                  *time.Time
	Actor, Target, Action, Outcome, RequestID string
	Limit                                     int // 0 means 100; at most 1000
	Cursor                                    string
}

func (f AuditFilter) query() url.Values {
	q := url.Values{}
	setTime(q, "from", f.From)
	setTime(q, "to", f.To)
	for name, v := range map[string]string{
		"actor": f.Actor, "target": f.Target, "action": f.Action, "outcome": f.Outcome, "request_id": f.RequestID, "cursor": f.Cursor,
	} {
		setText(q, name, v)
	}
	setInt(q, "limit", f.Limit)
	return q
}

// EventPage is one page of audit records. NextCursor is "" on the last.
type EventPage struct {
	Events     []Event `json:"audit_logs" nullable:"false"`
	NextCursor string  `json:"next_cursor,omitempty"`
}

// Facet is one value with the number of records that have it.
type Facet struct {
	Value string `json:"value" doc:"An act, an outcome, or the id of who acted or of what was acted on: what the parameter of a search would be."`
	Kind  string `json:"kind,omitempty" doc:"Of an actor or a target: what it is."`
	Name  string `json:"name,omitempty" doc:"Of an actor or a target: its name in one of the records."`
	Count int64  `json:"count"`
}

// Facets count the records that a filter selects. A record counts for who acted and for whom it was done.
type Facets struct {
	Counted      int64      `json:"counted" doc:"How many records were counted."`
	Complete     bool       `json:"complete" doc:"Whether these are all that match. Otherwise they are the newest, and every count is a least one."`
	Since        *time.Time `json:"since,omitempty" doc:"Where the counting ended, when it is not complete: everything newer was counted."`
	Actions      []Facet    `json:"actions" nullable:"false" doc:"All that occur, the most frequent first."`
	Outcomes     []Facet    `json:"outcomes" nullable:"false" doc:"All that occur, the most frequent first."`
	Actors       []Facet    `json:"actors" nullable:"false" doc:"The most frequent of who acted, or for whom."`
	Targets      []Facet    `json:"targets" nullable:"false" doc:"The most frequent of what was acted on."`
	OtherActors  int        `json:"other_actors" doc:"How many more actors there are."`
	OtherTargets int        `json:"other_targets" doc:"How many more targets there are."`
}

// Checkpoint is a signed statement of what the log holds (golang.org/x/mod/sumdb/note).
type Checkpoint struct {
	Origin   string    `json:"origin" doc:"The name of the log."`
	Size     int64     `json:"size" doc:"How many records it covers."`
	Root     string    `json:"root" doc:"The root hash of the Merkle tree, base64."`
	At       time.Time `json:"at"`
	After    int64     `json:"after" doc:"The size of the checkpoint before this one; 0 for the first."`
	Note     string    `json:"note" doc:"The signed note; keep it elsewhere."`
	Verifier string    `json:"verifier" doc:"The public key that checks the note."`
}

// Proof shows that a record is in the log that a checkpoint covers. It can be checked without the server.
type Proof struct {
	Record   string   `json:"record" doc:"The record as it is hashed, byte for byte."`
	Leaf     int64    `json:"leaf" doc:"Its place in the log, from 0."`
	Size     int64    `json:"size" doc:"The size of the log that the checkpoint covers."`
	Hashes   []string `json:"hashes" nullable:"false" doc:"The Merkle audit path (RFC 6962), base64."`
	Note     string   `json:"checkpoint" doc:"The signed checkpoint."`
	Verifier string   `json:"verifier" doc:"The public key that it is signed with. Compare it with one that you have from elsewhere."`
}

// Leaf is a record at its place in the log.
type Leaf struct {
	Leaf  int64 `json:"leaf"`
	Event Event `json:"event"`
}

// Tail is a piece of the log in its order. Pass Next to the next call to go on.
type Tail struct {
	Leaves []Leaf `json:"leaves" nullable:"false"`
	Next   int64  `json:"next" doc:"What to give as after in the next call."`
}

func (c *Client) events(ctx context.Context, f AuditFilter, segments ...string) (EventPage, error) {
	var out EventPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path(segments...), query: f.query()}, &out)
	return out, err
}

// AuditLogs returns one page of the records that f selects.
func (c *Client) AuditLogs(ctx context.Context, f AuditFilter) (EventPage, error) {
	return c.events(ctx, f, "credential-audit-logs")
}

// AuditByCredential returns the records about one credential; f.Target is not used.
func (c *Client) AuditByCredential(ctx context.Context, credential string, f AuditFilter) (EventPage, error) {
	f.Target = ""
	return c.events(ctx, f, "credential-audit-logs", "by-credential", credential)
}

// AuditByUser returns the records of one person's acts; f.Actor is not used.
func (c *Client) AuditByUser(ctx context.Context, user string, f AuditFilter) (EventPage, error) {
	f.Actor = ""
	return c.events(ctx, f, "credential-audit-logs", "by-user", user)
}

// AuditFacets counts the records that f selects; its Limit and Cursor are not used. top is how many actors and targets are named: 0 means 10, at most 50.
func (c *Client) AuditFacets(ctx context.Context, f AuditFilter, top int) (Facets, error) {
	f.Limit, f.Cursor = 0, ""
	q := f.query()
	setInt(q, "top", top)
	var out struct {
		Facets Facets `json:"facets"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("credential-audit-logs", "facets"), query: q}, &out)
	return out.Facets, err
}

// AuditLog returns one record.
func (c *Client) AuditLog(ctx context.Context, id string) (Event, error) {
	var out struct {
		Event Event `json:"audit_log"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("credential-audit-logs", id)}, &out)
	return out.Event, err
}

// AuditCheckpoint returns the newest signed checkpoint.
func (c *Client) AuditCheckpoint(ctx context.Context) (Checkpoint, error) {
	var out struct {
		Checkpoint Checkpoint `json:"checkpoint"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("audit", "checkpoint")}, &out)
	return out.Checkpoint, err
}

// AuditProof returns the proof that a record is in the log.
func (c *Client) AuditProof(ctx context.Context, id string) (Proof, error) {
	var out struct {
		Proof Proof `json:"proof"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("audit", id, "proof")}, &out)
	return out.Proof, err
}

// AuditTail returns up to limit records that follow the leaf after, in the order of the log. Start with -1; 0 as limit means 100.
func (c *Client) AuditTail(ctx context.Context, after int64, limit int) (Tail, error) {
	q := url.Values{}
	q.Set("after", strconv.FormatInt(after, 10))
	setInt(q, "limit", limit)
	var out Tail
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("audit", "tail"), query: q}, &out)
	return out, err
}
