package client

import (
	"context"
	"net/http"
	"time"
)

// Sink is a place where the audit log is sent. What it keeps secret is in no answer.
type Sink struct {
	ID           string        `json:"id"`
	Kind         string        `json:"kind" doc:"webhook, slack or syslog."`
	Carries      string        `json:"carries" doc:"records or checkpoints."`
	Name         string        `json:"name"`
	Enabled      bool          `json:"enabled"`
	Destination  string        `json:"destination" doc:"Where it leads, without what is secret in that: scheme and host, or transport, host and port."`
	Syslog       *SyslogServer `json:"syslog,omitempty" doc:"Of a sink of kind syslog."`
	Every        int           `json:"every_seconds,omitempty" doc:"The least time between two checkpoints."`
	SecretFields []string      `json:"secret_fields" nullable:"false" doc:"The names of what is sealed."`
	State        string        `json:"state" doc:"current, catching_up, late, failing or paused."`
	Position     int64         `json:"position" doc:"How many leaves of the log the receiver has; of a sink of checkpoints, how many the newest that it has covers."`
	Behind       int64         `json:"behind" doc:"How many leaves it lacks, or how many a newer checkpoint covers."`
	BehindSince  *time.Time    `json:"behind_since,omitempty" doc:"When the first of what it lacks was recorded or signed."`
	Failures     int64         `json:"failures" doc:"How many tries have failed since one that did not."`
	Detail       string        `json:"detail,omitempty" doc:"Why the last try failed."`
	NextAt       *time.Time    `json:"next_at,omitempty" doc:"When it is tried again, or the next checkpoint is due."`
	SentAt       *time.Time    `json:"sent_at,omitempty" doc:"When the receiver last took something."`
	CreatedAt    time.Time     `json:"created_at"`
	UpdatedAt    time.Time     `json:"updated_at"`
	// ETag names this state. It travels as a header.
	ETag string `json:"-"`
}

// SyslogServer are the settings of a sink of kind syslog.
type SyslogServer struct {
	Transport   string `json:"transport" doc:"tls, tcp or udp."`
	Host        string `json:"host"`
	Port        int    `json:"port,omitempty"`
	CA          string `json:"ca,omitempty" doc:"PEM certificates that the server's certificate must lead to."`
	Certificate string `json:"certificate,omitempty" doc:"The PEM client certificate."`
	Unconfirmed bool   `json:"unconfirmed,omitempty" doc:"Whether records count as delivered once they were written."`
}

// SinkDraft is a sink to be made.
type SinkDraft struct {
	Kind     string            `json:"kind"`
	Name     string            `json:"name"`
	Carries  string            `json:"carries,omitempty"`
	Disabled bool              `json:"disabled,omitempty"`
	From     string            `json:"from,omitempty"`
	Every    int               `json:"every_seconds,omitempty"`
	Syslog   *SyslogServer     `json:"syslog,omitempty"`
	Secrets  map[string]string `json:"secrets,omitempty"`
}

// SinkPatch changes a sink: nil leaves a field as it is.
type SinkPatch struct {
	Name    *string           `json:"name,omitempty"`
	Enabled *bool             `json:"enabled,omitempty"`
	Every   *int              `json:"every_seconds,omitempty"`
	Secrets map[string]string `json:"secrets,omitempty"` // given anew
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// SinkList are all sinks.
type SinkList struct {
	Sinks []Sink `json:"sinks" nullable:"false"`
}

// SinkTest is what became of a test message.
type SinkTest struct {
	Outcome string `json:"outcome" doc:"delivered or refused."`
	Detail  string `json:"detail,omitempty" doc:"Why it was not delivered, and what to do."`
}

func (c *Client) sink(ctx context.Context, k call) (Sink, error) {
	var out struct {
		Sink Sink `json:"sink"`
	}
	a, err := c.do(ctx, k, &out)
	out.Sink.ETag = a.etag
	return out.Sink, err
}

// CreateSink has the audit log sent somewhere.
func (c *Client) CreateSink(ctx context.Context, d SinkDraft) (Sink, error) {
	return c.sink(ctx, call{method: http.MethodPost, path: path("audit", "sinks"), body: d})
}

// ListSinks returns all sinks, the oldest first; there are 20 at most.
func (c *Client) ListSinks(ctx context.Context) ([]Sink, error) {
	var out SinkList
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("audit", "sinks")}, &out)
	return out.Sinks, err
}

// GetSink returns a sink by its id.
func (c *Client) GetSink(ctx context.Context, id string) (Sink, error) {
	return c.sink(ctx, call{method: http.MethodGet, path: path("audit", "sinks", id)})
}

// UpdateSink changes, pauses or resumes a sink.
func (c *Client) UpdateSink(ctx context.Context, id string, p SinkPatch) (Sink, error) {
	return c.sink(ctx, call{method: http.MethodPatch, path: path("audit", "sinks", id), body: p, ifMatch: p.IfMatch})
}

// DeleteSink deletes a sink with its secrets and its cursor.
func (c *Client) DeleteSink(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("audit", "sinks", id)}, nil)
	return err
}

// TestSink sends one test message now and says what became of it.
func (c *Client) TestSink(ctx context.Context, id string) (SinkTest, error) {
	var out struct {
		Test SinkTest `json:"test"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("audit", "sinks", id, "test")}, &out)
	return out.Test, err
}
