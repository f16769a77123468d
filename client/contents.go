package client

import (
	"context"
	"net/http"
	"time"
)

// RequestLogging says whether a train keeps what its agents are asked and what they answer.
type RequestLogging struct {
	Enabled       bool       `json:"enabled"`
	MaxBytes      int64      `json:"max_bytes" doc:"How much is kept of a request and, apart, of its answer; of what is longer the beginning and the end."`
	RetentionDays int64      `json:"retention_days" doc:"After how many days it is deleted."`
	TotalBytes    int64      `json:"total_bytes" doc:"How much room all that is kept of the train may take; the oldest goes first."`
	UpdatedAt     *time.Time `json:"updated_at,omitempty" doc:"Missing as long as nobody has set it."`
	// ETag names this state. It travels as a header.
	ETag string `json:"-"`
}

// RequestLoggingPatch changes that: nil leaves a field as it is.
type RequestLoggingPatch struct {
	Enabled       *bool  `json:"enabled,omitempty"`
	MaxBytes      *int64 `json:"max_bytes,omitempty"`
	RetentionDays *int64 `json:"retention_days,omitempty"`
	TotalBytes    *int64 `json:"total_bytes,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// KeptContents is how much a train has kept of its requests.
type KeptContents struct {
	Requests int64      `json:"requests"`
	Bytes    int64      `json:"bytes" doc:"The room that it takes, compressed and sealed."`
	OldestAt *time.Time `json:"oldest_at,omitempty"`
}

// RequestContent is what was kept of a request.
type RequestContent struct {
	Request       string `json:"request" doc:"What was asked, laid out where it is JSON, without what looks like a secret."`
	Response      string `json:"response" doc:"What was answered: JSON, or a stream of server-sent events."`
	RequestBytes  int64  `json:"request_bytes" doc:"How many bytes came; where fewer are kept, a line says so in their place."`
	ResponseBytes int64  `json:"response_bytes" doc:"How many bytes were answered; where fewer are kept, a line says so in their place."`
	Note          string `json:"note,omitempty" doc:"What is wrong with it, such as that the client went away."`
}

func (c *Client) requestLogging(ctx context.Context, k call) (RequestLogging, error) {
	var out struct {
		RequestLogging RequestLogging `json:"request_logging"`
	}
	a, err := c.do(ctx, k, &out)
	out.RequestLogging.ETag = a.etag
	return out.RequestLogging, err
}

// RequestLogging returns whether a train keeps what its agents are asked and what they answer.
func (c *Client) RequestLogging(ctx context.Context, train string) (RequestLogging, error) {
	return c.requestLogging(ctx, call{method: http.MethodGet, path: path("trains", train, "request-logging")})
}

// SetRequestLogging changes that.
func (c *Client) SetRequestLogging(ctx context.Context, train string, p RequestLoggingPatch) (RequestLogging, error) {
	return c.requestLogging(ctx, call{method: http.MethodPatch, path: path("trains", train, "request-logging"), body: p, ifMatch: p.IfMatch})
}

// KeptContents returns how much a train has kept of its requests.
func (c *Client) KeptContents(ctx context.Context, train string) (KeptContents, error) {
	var out struct {
		Contents KeptContents `json:"contents"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("trains", train, "request-logging", "contents")}, &out)
	return out.Contents, err
}

// PurgeContents deletes all that a train has kept of its requests.
func (c *Client) PurgeContents(ctx context.Context, train string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("trains", train, "request-logging", "contents")}, nil)
	return err
}

// RequestContent returns what was kept of a request, which goes on record.
func (c *Client) RequestContent(ctx context.Context, request string) (RequestContent, error) {
	var out struct {
		Content RequestContent `json:"content"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("requests", request, "content")}, &out)
	return out.Content, err
}
