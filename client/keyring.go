package client

import (
	"context"
	"net/http"
	"time"
)

// Rekey tells how a change of the data key goes, or how the last one went.
type Rekey struct {
	ID         string     `json:"id,omitempty"`
	State      string     `json:"state" enum:"none,announced,moving,leaving,done" doc:"announced: every instance gets to know the new key. moving: it seals, and what is under the old one is sealed anew. leaving: the old key is about to be destroyed. done: it was destroyed. none: there was no change yet."`
	DataKey    int64      `json:"data_key" doc:"The data key that seals now."`
	NewDataKey int64      `json:"new_data_key,omitempty" doc:"The one that this change is about."`
	Total      int64      `json:"total" doc:"How many sealed values were under the old key when the new one began to seal."`
	Moved      int64      `json:"moved" doc:"How many were sealed anew."`
	Remaining  int64      `json:"remaining" doc:"How many are left under the old key."`
	Unreadable int64      `json:"unreadable" doc:"How many of those do not open. The old key stays until they are mended or given up."`
	StartedAt  *time.Time `json:"started_at,omitempty"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
	Seals      int64      `json:"seals" doc:"How often the active data key has sealed. It refuses shortly before 4294967296."`
}

// BeginRekey begins a change of the data key, which goes on by itself. With giveUp the old key is destroyed even if records are left that do not
// open under it; a change that waits for that goes on.
func (c *Client) BeginRekey(ctx context.Context, giveUp bool) (Rekey, error) {
	return c.rekey(ctx, call{method: http.MethodPost, path: path("admin", "rekey"), body: map[string]bool{"give_up": giveUp}})
}

// Rekey returns how a change of the data key goes, or how the last one went.
func (c *Client) Rekey(ctx context.Context) (Rekey, error) {
	return c.rekey(ctx, call{method: http.MethodGet, path: path("admin", "rekey")})
}

func (c *Client) rekey(ctx context.Context, ask call) (Rekey, error) {
	var out struct {
		Rekey Rekey `json:"rekey"`
	}
	_, err := c.do(ctx, ask, &out)
	return out.Rekey, err
}

// Seal is the mark that all servers of a database are sealed.
type Seal struct {
	ID       string    `json:"id"`
	SealedAt time.Time `json:"sealed_at"`
}

// Seal seals all servers: within a second they lend and open nothing, also after a restart, until signalbox unseal is run on a machine that has the root
// key. The reason is recorded.
func (c *Client) Seal(ctx context.Context, reason string) (Seal, error) {
	var out struct {
		Seal Seal `json:"seal"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("admin", "seal"), body: map[string]string{"reason": reason}}, &out)
	return out.Seal, err
}
