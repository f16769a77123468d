package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Key is a client key of a train, without the key itself.
type Key struct {
	ID         string     `json:"id"`
	TrainID    string     `json:"train_id" doc:"The slug of the train."`
	Name       string     `json:"name"`
	KeyPreview string     `json:"key_preview"`
	Status     string     `json:"status" doc:"active, expired or revoked."`
	CreatedBy  string     `json:"created_by,omitempty"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	ExpiresAt  *time.Time `json:"expires_at"`
	RevokedAt  *time.Time `json:"revoked_at"`
	ReplacedBy string     `json:"replaced_by,omitempty"`
	Limits     *Limits    `json:"limits,omitempty" doc:"What it may use, beside what its train and the person who made it may."`
	// WithSession says that it ends with the sign-in that issued it.
	WithSession bool `json:"with_session,omitempty" doc:"Whether it ends with the sign-in that issued it."`
	// ETag names this state of the settings. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// IssuedKey is a client key at the one moment at which it is shown.
type IssuedKey struct {
	Key
	// APIKey is the client key. It is never shown again.
	APIKey string `json:"api_key"`
}

// KeyDraft is a client key to be issued.
type KeyDraft struct {
	Name      string       `json:"name"`
	ExpiresAt *time.Time   `json:"expires_at,omitempty"`
	Limits    *LimitsPatch `json:"limits,omitempty"`
	// WithSession has the key end with the sign-in that issues it, in 12 hours at most. It then needs no fresh proof.
	WithSession bool `json:"with_session,omitempty"`
}

// KeyPatch changes a client key: nil leaves a field as it is, a name in Clear empties it.
type KeyPatch struct {
	Name      *string      `json:"name,omitempty"`
	ExpiresAt *time.Time   `json:"expires_at,omitempty"`
	Limits    *LimitsPatch `json:"limits,omitempty"`
	// Clear may name "expires_at": the key then does not expire.
	Clear []string `json:"-"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// MarshalJSON writes the set fields, and null for each name in Clear.
func (p KeyPatch) MarshalJSON() ([]byte, error) {
	type plain KeyPatch
	return merge(plain(p), p.Clear)
}

// KeyReplacement asks for a successor of a client key.
type KeyReplacement struct {
	Name      string     `json:"name,omitempty"`       // "": the old key's name
	ExpiresAt *time.Time `json:"expires_at,omitempty"` // of the successor; nil: never
	// OverlapSeconds is how long the old key stays valid beside the new one, at most 30 days; 0 ends it at once.
	OverlapSeconds int `json:"overlap_seconds"`
}

// KeyFilter selects client keys. Zero fields do not select.
type KeyFilter struct {
	Status string // active, expired or revoked
	Limit  int    // 0 means 100; at most 1000
	Cursor string
	Skip   int
}

// KeyPage is one page of a list. NextCursor is "" on the last.
type KeyPage struct {
	APIKeys    []Key  `json:"api_keys" nullable:"false"`
	NextCursor string `json:"next_cursor,omitempty"`
}

func (c *Client) issued(ctx context.Context, k call) (IssuedKey, error) {
	var out struct {
		APIKey IssuedKey `json:"api_key"`
	}
	a, err := c.do(ctx, k, &out)
	out.APIKey.ETag = a.etag
	return out.APIKey, err
}

func (c *Client) key(ctx context.Context, k call) (Key, error) {
	var out struct {
		APIKey Key `json:"api_key"`
	}
	a, err := c.do(ctx, k, &out)
	out.APIKey.ETag = a.etag
	return out.APIKey, err
}

// IssueKey issues a client key of a train. The key is in the answer and nowhere else.
func (c *Client) IssueKey(ctx context.Context, train string, d KeyDraft) (IssuedKey, error) {
	return c.issued(ctx, call{method: http.MethodPost, path: path("trains", train, "api-keys"), body: d})
}

// ListKeys returns one page of a train's client keys, revoked and expired ones included.
func (c *Client) ListKeys(ctx context.Context, train string, f KeyFilter) (KeyPage, error) {
	q := url.Values{}
	setText(q, "status", f.Status)
	setText(q, "cursor", f.Cursor)
	setInt(q, "limit", f.Limit)
	setInt(q, "skip", f.Skip)
	var out KeyPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("trains", train, "api-keys"), query: q}, &out)
	return out, err
}

// GetKey returns one client key, without the key itself.
func (c *Client) GetKey(ctx context.Context, train, key string) (Key, error) {
	return c.key(ctx, call{method: http.MethodGet, path: path("trains", train, "api-keys", key)})
}

// UpdateKey changes a client key's name, expiry or limits.
func (c *Client) UpdateKey(ctx context.Context, train, key string, p KeyPatch) (Key, error) {
	return c.key(ctx, call{method: http.MethodPatch, path: path("trains", train, "api-keys", key), body: p, ifMatch: p.IfMatch})
}

// RevokeKey revokes a client key; open uses are cut.
func (c *Client) RevokeKey(ctx context.Context, train, key string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("trains", train, "api-keys", key)}, nil)
	return err
}

// PurgeKey removes a revoked client key from the list.
func (c *Client) PurgeKey(ctx context.Context, train, key string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("trains", train, "api-keys", key), query: url.Values{"purge": {"true"}}}, nil)
	return err
}

// ReplaceKey issues a successor and lets the old key expire after the overlap.
func (c *Client) ReplaceKey(ctx context.Context, train, key string, r KeyReplacement) (IssuedKey, error) {
	return c.issued(ctx, call{method: http.MethodPost, path: path("trains", train, "api-keys", key, "replace"), body: r})
}
