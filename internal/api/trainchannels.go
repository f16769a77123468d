package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/secret"
)

// trainChannelKind is one of those that a train can have.
type trainChannelKind string

// Schema lists the kinds of channels of a train.
func (trainChannelKind) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, kind := range notify.TrainChannelKinds() {
		s.Enum = append(s.Enum, string(kind))
	}
	return s
}

// OfTrainChannel is the path of a train's channel.
type OfTrainChannel struct {
	OfTrain
	Kind trainChannelKind `path:"kind" doc:"slack or webhook; a train has at most one of each."`
}

type trainChannelPatch struct {
	Enabled       *bool          `json:"enabled,omitempty" doc:"True when it is left out of a new channel."`
	WebhookURL    edit[hidden]   `json:"webhook_url,omitempty" doc:"Needed for a new channel: the address of Slack's incoming webhook, or where to POST. No answer has it."`
	SigningSecret edit[hidden]   `json:"signing_secret,omitempty" doc:"Needed for a new channel of kind webhook: whsec_ and 24 to 64 random bytes in base64."`
	Channel       edit[string]   `json:"channel,omitempty" maxLength:"81" doc:"Of kind slack: where to post, such as #agents, if the webhook lets that be said."`
	Username      edit[string]   `json:"username,omitempty" maxLength:"80" doc:"Of kind slack: as whom to post, if the webhook lets that be said; Signalbox when it is left out."`
	IconEmoji     edit[string]   `json:"icon_emoji,omitempty" maxLength:"120" doc:"Of kind slack: with which picture, such as :robot_face:, if the webhook lets that be said."`
	Content       *bool          `json:"content,omitempty" doc:"Whether it is told what the train's agents are asked and what they answer. Switching it on, and leading a channel elsewhere where it is on, needs notifications:write and a fresh proof besides."`
	Severity      *severity      `json:"severity,omitempty" doc:"The least urgent that it takes; info when it is left out of a new channel."`
	Kinds         *[]messageKind `json:"kinds,omitempty" nullable:"false" maxItems:"50" doc:"The kinds of messages that it takes; all when it is left out of a new channel, or empty."`
}

func (p trainChannelPatch) patch() notify.TrainPatch {
	out := notify.TrainPatch{Enabled: p.Enabled, Content: p.Content, Channel: p.Channel.pointer(), Username: p.Username.pointer(), Icon: p.IconEmoji.pointer(), Secrets: map[string]*secret.Value{}}
	if p.Severity != nil {
		least := notify.Severity(*p.Severity)
		out.Severity = &least
	}
	if p.Kinds != nil {
		kinds := messageKinds(*p.Kinds)
		out.Kinds = &kinds
	}
	for name, given := range map[string]edit[hidden]{"url": p.WebhookURL, "signing_secret": p.SigningSecret} {
		if given.set && given.null {
			out.Secrets[name] = nil
		} else if given.set {
			v := given.value.Value
			out.Secrets[name] = &v
		}
	}
	return out
}

type trainChannelBody struct {
	Channel client.TrainChannel `json:"channel"`
}

type trainChannelAnswer struct {
	Status int
	ETag   string `header:"ETag" doc:"Names this state, for If-Match."`
	Body   trainChannelBody
}

type oneTrainChannelAnswer struct {
	ETag string `header:"ETag" doc:"Names this state, for If-Match."`
	Body trainChannelBody
}

type trainChannelList struct {
	Channels []client.TrainChannel `json:"channels" nullable:"false"`
}

func shownTrainChannel(c notify.Channel) client.TrainChannel {
	out := client.TrainChannel{
		ID: c.ID, Kind: string(c.Kind), Enabled: c.Enabled, Destination: c.Destination, Suffix: c.Suffix, Channel: c.Look.Channel, Username: c.Look.Username, IconEmoji: c.Look.Icon,
		Content: c.Content, Severity: string(c.Severity), Kinds: []string{}, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt,
	}
	for _, k := range c.Kinds {
		out.Kinds = append(out.Kinds, string(k))
	}
	return out
}

func (s *service) addTrainChannels() {
	const tag, all = "trains", "/api/trains/{train_id}/channels"
	const one = all + "/{kind}"
	add(s, route{method: http.MethodGet, path: all, id: "list-train-channels", summary: "List where a train's people are told", tag: tag, access: string(identity.TrainRead),
		description: "What the channels keep secret is not in it."}, s.listTrainChannels)
	add(s, route{method: http.MethodGet, path: one, id: "get-train-channel", summary: "Read a train's Slack settings, or its webhook", tag: tag, access: string(identity.TrainRead),
		description: "The address is not in it, but its host and, of a long one, its last four characters."}, s.getTrainChannel)
	add(s, route{method: http.MethodPut, path: one, id: "put-train-channel", summary: "Make or change a train's Slack settings, or its webhook", tag: tag, access: string(identity.TrainWrite),
		description: "A merge patch (RFC 7396): what is left out stays as it is, or is as by default in a new one. 201 for a new one.", maxBody: secretBody, status: http.StatusOK, also: http.StatusCreated}, s.putTrainChannel)
	add(s, route{method: http.MethodDelete, path: one, id: "delete-train-channel", summary: "Delete a train's Slack settings, or its webhook", tag: tag, access: string(identity.TrainWrite),
		description: "With its secrets and what waits for it."}, s.deleteTrainChannel)
	add(s, route{method: http.MethodPost, path: one + "/test", id: "test-train-channel", summary: "Send a test message to a train's Slack channel, or its webhook, now", tag: tag, access: string(identity.TrainWrite),
		description: "Waits for the receiver, for up to 20 seconds, and says what became of it. A message that was refused is a success of this operation."}, s.testTrainChannel)
}

func (s *service) listTrainChannels(ctx context.Context, caller identity.Caller, in *OfTrain) (*struct{ Body trainChannelList }, error) {
	list, err := s.Trains.Channels(ctx, caller, in.Train)
	if err != nil {
		return nil, err
	}
	out := trainChannelList{Channels: make([]client.TrainChannel, len(list))}
	for i, c := range list {
		out.Channels[i] = shownTrainChannel(c)
	}
	return &struct{ Body trainChannelList }{out}, nil
}

func (s *service) getTrainChannel(ctx context.Context, caller identity.Caller, in *OfTrainChannel) (*oneTrainChannelAnswer, error) {
	c, err := s.Trains.Channel(ctx, caller, in.Train, notify.ChannelKind(in.Kind))
	if err != nil {
		return nil, err
	}
	return &oneTrainChannelAnswer{ETag: c.ETag(), Body: trainChannelBody{shownTrainChannel(c)}}, nil
}

func (s *service) putTrainChannel(ctx context.Context, caller identity.Caller, in *struct {
	OfTrainChannel
	IfMatch
	Body trainChannelPatch
}) (*trainChannelAnswer, error) {
	c, made, err := s.Trains.PutChannel(ctx, caller, in.Train, notify.ChannelKind(in.Kind), in.Body.patch(), in.IfMatch.IfMatch)
	if err != nil {
		return nil, err
	}
	out := &trainChannelAnswer{Status: http.StatusOK, ETag: c.ETag(), Body: trainChannelBody{shownTrainChannel(c)}}
	if made {
		out.Status = http.StatusCreated
	}
	return out, nil
}

func (s *service) deleteTrainChannel(ctx context.Context, caller identity.Caller, in *struct {
	OfTrainChannel
	IfMatch
}) (*struct{}, error) {
	return nil, s.Trains.DropChannel(ctx, caller, in.Train, notify.ChannelKind(in.Kind), in.IfMatch.IfMatch)
}

func (s *service) testTrainChannel(ctx context.Context, caller identity.Caller, in *OfTrainChannel) (*struct{ Body testBody }, error) {
	tried, err := s.Trains.TryChannel(ctx, caller, in.Train, notify.ChannelKind(in.Kind))
	if err != nil {
		return nil, err
	}
	return &struct{ Body testBody }{testBody{shownTest(tried)}}, nil
}
