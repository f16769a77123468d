package client

import (
	"context"
	"net/http"
	"time"
)

// Lending says that an account is lent to no new request, and why. It is apart from the status: a paused account's tokens are kept fresh.
type Lending struct {
	State  string     `json:"state" enum:"paused,drained" doc:"paused: running requests were cut as well; drained: they finish."`
	Reason string     `json:"reason,omitempty" doc:"Why, in the words of who did it."`
	By     string     `json:"by,omitempty" doc:"The name of who did it."`
	Since  *time.Time `json:"since,omitempty" doc:"Since when."`
}

// PauseAccount has an account lent to nobody, and cuts what runs on it, on every instance within a second. The reason may be empty.
func (c *Client) PauseAccount(ctx context.Context, id, reason string) (Credential, error) {
	return c.setLending(ctx, id, "pause", reason)
}

// DrainAccount has an account lent to no new request; what runs on it finishes.
func (c *Client) DrainAccount(ctx context.Context, id, reason string) (Credential, error) {
	return c.setLending(ctx, id, "drain", reason)
}

// ResumeAccount has an account lent again that was paused or drained.
func (c *Client) ResumeAccount(ctx context.Context, id, reason string) (Credential, error) {
	return c.setLending(ctx, id, "resume", reason)
}

func (c *Client) setLending(ctx context.Context, id, act, reason string) (Credential, error) {
	body := struct {
		Reason string `json:"reason,omitempty"`
	}{reason}
	return c.credential(ctx, call{method: http.MethodPost, path: path("credentials", id, act), body: body})
}
