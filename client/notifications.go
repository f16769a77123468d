package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Channel is a place where notifications go. What it keeps secret is in no answer.
type Channel struct {
	ID           string        `json:"id"`
	Kind         string        `json:"kind" doc:"slack, webhook or email."`
	Name         string        `json:"name"`
	Enabled      bool          `json:"enabled"`
	Severity     string        `json:"severity" doc:"The least urgent that it takes: info, warning or critical."`
	Kinds        []string      `json:"kinds" nullable:"false" doc:"The kinds of messages that it takes; none means all."`
	Destination  string        `json:"destination" doc:"Where it leads, without what is secret in that: scheme and host, or the mail server's host and port."`
	Email        *ChannelEmail `json:"email,omitempty" doc:"Of a channel of kind email."`
	SecretFields []string      `json:"secret_fields" nullable:"false" doc:"The names of what is sealed."`
	CreatedAt    time.Time     `json:"created_at"`
	UpdatedAt    time.Time     `json:"updated_at"`
	// ETag names this state. It travels as a header.
	ETag string `json:"-"`
}

// ChannelEmail are the settings of a channel of kind email.
type ChannelEmail struct {
	Host     string   `json:"host"`
	Port     int      `json:"port"`
	TLS      string   `json:"tls" doc:"starttls, implicit or none."`
	Username string   `json:"username,omitempty"`
	From     string   `json:"from"`
	To       []string `json:"to" nullable:"false"`
}

// ChannelDraft is a channel to be made.
type ChannelDraft struct {
	Kind     string             `json:"kind"`
	Name     string             `json:"name"`
	Disabled bool               `json:"disabled,omitempty"`
	Severity string             `json:"severity,omitempty"`
	Kinds    []string           `json:"kinds,omitempty"`
	Email    *ChannelEmailPatch `json:"email,omitempty"`
	Secrets  map[string]string  `json:"secrets,omitempty"`
}

// ChannelPatch changes a channel: nil leaves a field as it is.
type ChannelPatch struct {
	Name     *string            `json:"name,omitempty"`
	Enabled  *bool              `json:"enabled,omitempty"`
	Severity *string            `json:"severity,omitempty"`
	Kinds    *[]string          `json:"kinds,omitempty"`
	Email    *ChannelEmailPatch `json:"email,omitempty"`
	Secrets  map[string]*string `json:"secrets,omitempty"` // nil removes one
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// ChannelEmailPatch are settings of a channel of kind email: nil leaves one as it is, or as the server's default.
type ChannelEmailPatch struct {
	Host     *string   `json:"host,omitempty"`
	Port     *int      `json:"port,omitempty"`
	TLS      *string   `json:"tls,omitempty"`
	Username *string   `json:"username,omitempty"`
	From     *string   `json:"from,omitempty"`
	To       *[]string `json:"to,omitempty"`
}

// ChannelPage is one page of a list. NextCursor is "" on the last.
type ChannelPage struct {
	Channels   []Channel `json:"channels" nullable:"false"`
	NextCursor string    `json:"next_cursor,omitempty"`
}

// ChannelFilter selects a page of channels.
type ChannelFilter struct {
	Limit  int // 0 means 100; at most 1000
	Cursor string
	Skip   int
}

// ChannelTest is what became of a test message.
type ChannelTest struct {
	Delivery string `json:"delivery" doc:"The id that the receiver was told."`
	Outcome  string `json:"outcome" doc:"delivered or refused."`
	Detail   string `json:"detail,omitempty" doc:"Why it was not delivered, and what to do."`
}

// Delivery is what became of a notification at one channel.
type Delivery struct {
	ID          string     `json:"id" doc:"The same at each attempt; receivers are told it."`
	ChannelID   string     `json:"channel_id"`
	ChannelName string     `json:"channel_name"`
	Kind        string     `json:"kind"`
	Severity    string     `json:"severity"`
	Title       string     `json:"title"`
	State       string     `json:"state" doc:"waiting, delivered or failed."`
	Attempts    int64      `json:"attempts"`
	Repeats     int64      `json:"repeats" doc:"How many messages like it were not sent because of it."`
	LastAt      time.Time  `json:"last_at" doc:"When the last of those came, or this one."`
	Detail      string     `json:"detail,omitempty" doc:"Why the last attempt failed."`
	CreatedAt   time.Time  `json:"created_at"`
	NextAt      *time.Time `json:"next_at,omitempty" doc:"When one that waits is tried next."`
	SettledAt   *time.Time `json:"settled_at,omitempty"`
}

// DeliveryPage is one page of a list. NextCursor is "" on the last.
type DeliveryPage struct {
	Deliveries []Delivery `json:"deliveries" nullable:"false"`
	NextCursor string     `json:"next_cursor,omitempty"`
}

// DeliveryFilter selects deliveries.
type DeliveryFilter struct {
	State     string
	ChannelID string
	Limit     int // 0 means 100; at most 1000
	Cursor    string
	Skip      int
}

func (c *Client) channel(ctx context.Context, k call) (Channel, error) {
	var out struct {
		Channel Channel `json:"channel"`
	}
	a, err := c.do(ctx, k, &out)
	out.Channel.ETag = a.etag
	return out.Channel, err
}

// CreateChannel makes a notification channel.
func (c *Client) CreateChannel(ctx context.Context, d ChannelDraft) (Channel, error) {
	return c.channel(ctx, call{method: http.MethodPost, path: path("notifications", "channels"), body: d})
}

// ListChannels returns one page of the channels, the oldest first.
func (c *Client) ListChannels(ctx context.Context, f ChannelFilter) (ChannelPage, error) {
	q := url.Values{}
	setText(q, "cursor", f.Cursor)
	setInt(q, "limit", f.Limit)
	setInt(q, "skip", f.Skip)
	var out ChannelPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("notifications", "channels"), query: q}, &out)
	return out, err
}

// GetChannel returns a channel by its id.
func (c *Client) GetChannel(ctx context.Context, id string) (Channel, error) {
	return c.channel(ctx, call{method: http.MethodGet, path: path("notifications", "channels", id)})
}

// UpdateChannel changes a channel and returns its new state.
func (c *Client) UpdateChannel(ctx context.Context, id string, p ChannelPatch) (Channel, error) {
	return c.channel(ctx, call{method: http.MethodPatch, path: path("notifications", "channels", id), body: p, ifMatch: p.IfMatch})
}

// DeleteChannel deletes a channel with its secrets and what waits for it.
func (c *Client) DeleteChannel(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("notifications", "channels", id)}, nil)
	return err
}

// TestChannel sends one test message now and says what became of it.
func (c *Client) TestChannel(ctx context.Context, id string) (ChannelTest, error) {
	var out struct {
		Test ChannelTest `json:"test"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("notifications", "channels", id, "test")}, &out)
	return out.Test, err
}

// ListDeliveries returns one page of what became of notifications, the newest first.
func (c *Client) ListDeliveries(ctx context.Context, f DeliveryFilter) (DeliveryPage, error) {
	q := url.Values{}
	setText(q, "state", f.State)
	setText(q, "channel_id", f.ChannelID)
	setText(q, "cursor", f.Cursor)
	setInt(q, "limit", f.Limit)
	setInt(q, "skip", f.Skip)
	var out DeliveryPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("notifications", "deliveries"), query: q}, &out)
	return out, err
}
