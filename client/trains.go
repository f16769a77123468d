package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Train is a project or workload whose agents use credentials. It is addressed by its slug or its id everywhere.
type Train struct {
	ID             string    `json:"id"`
	TrainID        string    `json:"train_id" doc:"The slug."`
	Name           string    `json:"name"`
	Description    string    `json:"description,omitempty"`
	Strategy       string    `json:"strategy" doc:"How an account is chosen: hash, priority or least-loaded."`
	Disabled       bool      `json:"disabled"`
	KeyLimit       int       `json:"key_limit" doc:"How many active client keys it may have; 0 is the server's default."`
	Limits         *Limits   `json:"limits,omitempty" doc:"What all its client keys may use together."`
	DefaultAccount string    `json:"default_account,omitempty" doc:"The id of the linked account that is tried before all others, as long as it can be used."`
	Visibility     string    `json:"visibility" doc:"Who reaches it: everybody of the organisation whose role reaches trains, or, private, its members alone."`
	Links          int       `json:"linked_accounts" doc:"How many credentials are linked."`
	CreatedAt      time.Time `json:"created_at"`
	UpdatedAt      time.Time `json:"updated_at"`
	// ETag names this state. It travels as a header.
	ETag string `json:"-"`
}

// TrainDraft is a train to be made.
type TrainDraft struct {
	TrainID     string       `json:"train_id"`
	Name        string       `json:"name,omitempty"`
	Description string       `json:"description,omitempty"`
	Strategy    string       `json:"strategy,omitempty"`
	Disabled    bool         `json:"disabled,omitempty"`
	KeyLimit    int          `json:"key_limit,omitempty"`
	Limits      *LimitsPatch `json:"limits,omitempty"`
	Visibility  string       `json:"visibility,omitempty"`
}

// TrainPatch changes a train: nil leaves a field as it is.
type TrainPatch struct {
	Name        *string      `json:"name,omitempty"`
	Description *string      `json:"description,omitempty"`
	Strategy    *string      `json:"strategy,omitempty"`
	Disabled    *bool        `json:"disabled,omitempty"`
	KeyLimit    *int         `json:"key_limit,omitempty"`
	Limits      *LimitsPatch `json:"limits,omitempty"`
	// DefaultAccount names a linked account by id, account id or name; "" for none.
	DefaultAccount *string `json:"default_account,omitempty"`
	Visibility     *string `json:"visibility,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// Link says that a train may be lent a credential.
type Link struct {
	CredentialID string    `json:"credential_id"`
	AccountID    string    `json:"account_id,omitempty"`
	Name         string    `json:"name"`
	Type         string    `json:"type"`
	Provider     string    `json:"provider,omitempty"`
	Alias        string    `json:"alias,omitempty"`
	Priority     int       `json:"priority"`
	CreatedAt    time.Time `json:"created_at"`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// LinkDraft links a credential, given by its id, account id or account name. Where the link is there already, nil leaves its alias or
// priority as it is.
type LinkDraft struct {
	CredentialID string  `json:"credential_id"`
	Alias        *string `json:"alias,omitempty"`
	Priority     *int    `json:"priority,omitempty"`
}

// LinkPatch changes a link: nil leaves a field as it is, an empty alias removes it.
type LinkPatch struct {
	Alias    *string `json:"alias,omitempty"`
	Priority *int    `json:"priority,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// Window is what an account's upstream said, beside its answers, of one of the account's limits.
type Window struct {
	Name        string     `json:"window" doc:"The upstream's name: 5h, 7d, 7d_sonnet and the like of a subscription; requests, tokens, input-tokens or output-tokens of an API key."`
	Models      string     `json:"models,omitempty" doc:"The word that the names of the models hold for which it counts; all when it is missing."`
	Utilization float64    `json:"utilization" doc:"The part that is used up: 0 to 1, a little over when the upstream serves beyond it."`
	Threshold   float64    `json:"threshold" doc:"From where on least-loaded tries accounts first that are below theirs."`
	Above       bool       `json:"above_threshold"`
	Status      string     `json:"status,omitempty" doc:"The upstream's word: allowed, allowed_warning or rejected."`
	Refused     bool       `json:"refused,omitempty" doc:"A request was refused for it."`
	ResetsAt    *time.Time `json:"resets_at,omitempty" doc:"When it begins anew and is unknown again."`
	HeardAt     time.Time  `json:"heard_at" doc:"When the upstream said so."`
}

// RankedAccount is one linked credential in the order in which its train tries them, with why.
type RankedAccount struct {
	Rank          int        `json:"rank" doc:"From 1; 0 for credentials that cannot serve an LLM provider."`
	Chosen        bool       `json:"chosen" doc:"It would serve the next request."`
	State         string     `json:"state" doc:"usable, cooling, paused, drained or unusable."`
	CredentialID  string     `json:"credential_id"`
	AccountID     string     `json:"account_id,omitempty"`
	Name          string     `json:"name"`
	Type          string     `json:"type"`
	Provider      string     `json:"provider,omitempty"`
	Alias         string     `json:"alias,omitempty"`
	Priority      int        `json:"priority"`
	Version       int64      `json:"version" doc:"Of the secret."`
	Order         string     `json:"order,omitempty" doc:"Why it stands where it stands."`
	Why           string     `json:"why" doc:"Why it would be lent or not."`
	CoolingUntil  *time.Time `json:"cooling_until,omitempty"`
	CoolingStatus int        `json:"cooling_status,omitempty" doc:"The upstream's status that began the cool-down; 0 when it was not reached."`
	Windows       []Window   `json:"windows" nullable:"false" doc:"What is known of how far its limits are used; none when its upstream has not said, or the windows have begun anew."`
	InFlight      int        `json:"in_flight" doc:"How many requests the instance that answers has under way with it."`
	Load          float64    `json:"load" doc:"What least-loaded compares: the fullest window, and 0.01 for each request in flight. Where nothing is known it is the mean of those below their thresholds, or 0.5."`
	Over          string     `json:"over,omitempty" doc:"The window for which it is tried after accounts that are below their thresholds."`
	Conversations int        `json:"conversations" doc:"How many conversations the instance that answers keeps on it for this train; only least-loaded keeps any."`
}

// Explanation is what a train would do with a request that arrived now.
type Explanation struct {
	TrainID  string          `json:"train_id" doc:"The slug."`
	Strategy string          `json:"strategy"`
	Summary  string          `json:"summary" doc:"One sentence for people."`
	Accounts []RankedAccount `json:"accounts" nullable:"false" doc:"In the order in which they are tried."`
}

// TrainPage is one page of a list. NextCursor is "" on the last.
type TrainPage struct {
	Trains     []Train `json:"trains" nullable:"false"`
	NextCursor string  `json:"next_cursor,omitempty"`
}

// ListFilter selects a page.
type ListFilter struct {
	Q      string
	Limit  int // 0 means 100; at most 1000
	Cursor string
	Skip   int
}

func (f ListFilter) query() url.Values {
	q := url.Values{}
	setText(q, "q", f.Q)
	setText(q, "cursor", f.Cursor)
	setInt(q, "limit", f.Limit)
	setInt(q, "skip", f.Skip)
	return q
}

func (c *Client) train(ctx context.Context, k call) (Train, error) {
	var out struct {
		Train Train `json:"train"`
	}
	a, err := c.do(ctx, k, &out)
	out.Train.ETag = a.etag
	return out.Train, err
}

// CreateTrain makes a train.
func (c *Client) CreateTrain(ctx context.Context, d TrainDraft) (Train, error) {
	return c.train(ctx, call{method: http.MethodPost, path: path("trains"), body: d})
}

// ListTrains returns one page of the trains.
func (c *Client) ListTrains(ctx context.Context, f ListFilter) (TrainPage, error) {
	var out TrainPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("trains"), query: f.query()}, &out)
	return out, err
}

// GetTrain returns a train by its slug or id.
func (c *Client) GetTrain(ctx context.Context, train string) (Train, error) {
	return c.train(ctx, call{method: http.MethodGet, path: path("trains", train)})
}

// UpdateTrain changes a train and returns its new state.
func (c *Client) UpdateTrain(ctx context.Context, train string, p TrainPatch) (Train, error) {
	return c.train(ctx, call{method: http.MethodPatch, path: path("trains", train), body: p, ifMatch: p.IfMatch})
}

// DeleteTrain deletes a train with its links and keys. One that still has links or active keys is deleted only with force.
func (c *Client) DeleteTrain(ctx context.Context, train string, force bool) error {
	q := url.Values{}
	if force {
		q.Set("force", "true")
	}
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("trains", train), query: q}, nil)
	return err
}

// Links lists the credentials that a train may be lent.
func (c *Client) Links(ctx context.Context, train string) ([]Link, error) {
	var out struct {
		Accounts []Link `json:"accounts"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("trains", train, "accounts")}, &out)
	return out.Accounts, err
}

func (c *Client) link(ctx context.Context, k call) (Link, answer, error) {
	var out struct {
		Account Link `json:"account"`
	}
	a, err := c.do(ctx, k, &out)
	out.Account.ETag = a.etag
	return out.Account, a, err
}

// Link links a credential to a train. created is false when it was linked already.
func (c *Client) Link(ctx context.Context, train string, d LinkDraft) (link Link, created bool, err error) {
	link, a, err := c.link(ctx, call{method: http.MethodPost, path: path("trains", train, "accounts"), body: d})
	return link, a.status == http.StatusCreated, err
}

// GetLink returns one link of a train.
func (c *Client) GetLink(ctx context.Context, train, credential string) (Link, error) {
	link, _, err := c.link(ctx, call{method: http.MethodGet, path: path("trains", train, "accounts", credential)})
	return link, err
}

// Relink changes a link's alias or priority.
func (c *Client) Relink(ctx context.Context, train, credential string, p LinkPatch) (Link, error) {
	link, _, err := c.link(ctx, call{method: http.MethodPatch, path: path("trains", train, "accounts", credential), body: p, ifMatch: p.IfMatch})
	return link, err
}

// Unlink takes a credential from a train; open uses are cut.
func (c *Client) Unlink(ctx context.Context, train, credential string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("trains", train, "accounts", credential)}, nil)
	return err
}

// Explain returns what a train would do with a request that arrived now and names neither a model nor a conversation.
func (c *Client) Explain(ctx context.Context, train string) (Explanation, error) {
	return c.ExplainFor(ctx, train, "")
}

// ExplainFor returns what a train would do with a request for a model.
func (c *Client) ExplainFor(ctx context.Context, train, model string) (Explanation, error) {
	var out Explanation
	q := url.Values{}
	setText(q, "model", model)
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("trains", train, "explain"), query: q}, &out)
	return out, err
}
