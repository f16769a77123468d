package client

import (
	"context"
	"net/http"
	"time"
)

// TrainChannel is where the people of a train are told: what happens to it, and what its agents are asked and answer where Content says so.
type TrainChannel struct {
	ID          string    `json:"id"`
	Kind        string    `json:"kind" doc:"slack or webhook."`
	Enabled     bool      `json:"enabled"`
	Destination string    `json:"destination" doc:"Scheme and host of the address, which is secret."`
	Suffix      string    `json:"suffix,omitempty" doc:"The last four characters of a long address."`
	Channel     string    `json:"channel,omitempty" doc:"Of kind slack: where to post."`
	Username    string    `json:"username,omitempty" doc:"Of kind slack: as whom."`
	IconEmoji   string    `json:"icon_emoji,omitempty" doc:"Of kind slack: with which picture."`
	Content     bool      `json:"content" doc:"Whether it is told what the train's agents are asked and what they answer."`
	Severity    string    `json:"severity" doc:"The least urgent that it takes: info, warning or critical."`
	Kinds       []string  `json:"kinds" nullable:"false" doc:"The kinds of messages that it takes; none means all."`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// TrainChannelPatch makes or changes a channel of a train: nil leaves a field as it is, or as it is by default in a new one.
type TrainChannelPatch struct {
	Enabled       *bool     `json:"enabled,omitempty"`
	WebhookURL    *string   `json:"webhook_url,omitempty"`
	SigningSecret *string   `json:"signing_secret,omitempty"`
	Channel       *string   `json:"channel,omitempty"`
	Username      *string   `json:"username,omitempty"`
	IconEmoji     *string   `json:"icon_emoji,omitempty"`
	Content       *bool     `json:"content,omitempty"`
	Severity      *string   `json:"severity,omitempty"`
	Kinds         *[]string `json:"kinds,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there, or makes it.
	IfMatch string `json:"-"`
}

func (c *Client) trainChannel(ctx context.Context, k call) (TrainChannel, error) {
	var out struct {
		Channel TrainChannel `json:"channel"`
	}
	a, err := c.do(ctx, k, &out)
	out.Channel.ETag = a.etag
	return out.Channel, err
}

// TrainChannels lists where the people of a train are told.
func (c *Client) TrainChannels(ctx context.Context, train string) ([]TrainChannel, error) {
	var out struct {
		Channels []TrainChannel `json:"channels"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("trains", train, "channels")}, &out)
	return out.Channels, err
}

// TrainChannel returns the channel of a train of that kind: slack or webhook.
func (c *Client) TrainChannel(ctx context.Context, train, kind string) (TrainChannel, error) {
	return c.trainChannel(ctx, call{method: http.MethodGet, path: path("trains", train, "channels", kind)})
}

// PutTrainChannel makes or changes the channel of a train of that kind.
func (c *Client) PutTrainChannel(ctx context.Context, train, kind string, p TrainChannelPatch) (TrainChannel, error) {
	return c.trainChannel(ctx, call{method: http.MethodPut, path: path("trains", train, "channels", kind), body: p, ifMatch: p.IfMatch})
}

// DeleteTrainChannel deletes the channel of a train with its secrets and what waits for it.
func (c *Client) DeleteTrainChannel(ctx context.Context, train, kind string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("trains", train, "channels", kind)}, nil)
	return err
}

// TestTrainChannel sends one test message through the channel of a train now and says what became of it.
func (c *Client) TestTrainChannel(ctx context.Context, train, kind string) (ChannelTest, error) {
	var out struct {
		Test ChannelTest `json:"test"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("trains", train, "channels", kind, "test")}, &out)
	return out.Test, err
}
