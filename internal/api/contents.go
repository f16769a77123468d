package api

import (
	"context"
	"net/http"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/contents"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
)

type loggingPatch struct {
	Enabled       *bool  `json:"enabled,omitempty" doc:"Switching it off needs trains:write alone; any other change needs contents:read and a fresh proof besides."`
	MaxBytes      *int64 `json:"max_bytes,omitempty" minimum:"1024" maximum:"1048576" doc:"How much is kept of a request and, apart, of its answer; 262144 unless it is set."`
	RetentionDays *int64 `json:"retention_days,omitempty" minimum:"1" maximum:"90" doc:"After how many days it is deleted; 7 unless it is set."`
	TotalBytes    *int64 `json:"total_bytes,omitempty" minimum:"1048576" maximum:"1099511627776" doc:"How much room all that is kept of the train may take; 1073741824 unless it is set."`
}

type loggingAnswer struct {
	ETag string `header:"ETag" doc:"Names this state, for If-Match."`
	Body struct {
		RequestLogging client.RequestLogging `json:"request_logging"`
	}
}

type stockAnswer struct {
	Body struct {
		Contents client.KeptContents `json:"contents"`
	}
}

type contentAnswer struct {
	Body struct {
		Content client.RequestContent `json:"content"`
	}
}

// OfRequest is the path of a request.
type OfRequest struct {
	Request string `path:"id" doc:"The X-Request-Id of the answer."`
}

func shownLogging(l train.Logging) *loggingAnswer {
	out := &loggingAnswer{ETag: l.ETag()}
	out.Body.RequestLogging = client.RequestLogging{Enabled: l.Enabled, MaxBytes: l.MaxBytes, RetentionDays: l.RetentionDays, TotalBytes: l.TotalBytes}
	if !l.UpdatedAt.IsZero() {
		out.Body.RequestLogging.UpdatedAt = &l.UpdatedAt
	}
	return out
}

func (s *service) addContents() {
	const tag, all = "trains", "/api/trains/{train_id}/request-logging"
	add(s, route{method: http.MethodGet, path: all, id: "get-request-logging", summary: "Read whether a train keeps what its agents are asked and answer", tag: tag, access: string(identity.TrainRead),
		description: "Nothing is kept unless somebody has switched it on."}, s.getLogging)
	add(s, route{method: http.MethodPatch, path: all, id: "set-request-logging", summary: "Say whether a train keeps what its agents are asked and answer, how much and for how long", tag: tag, access: string(identity.TrainWrite),
		description: "A merge patch (RFC 7396). Unless it does no more than to switch it off, it needs contents:read and a fresh proof besides. What is kept is sealed."}, s.setLogging)
	add(s, route{method: http.MethodGet, path: all + "/contents", id: "get-kept-contents", summary: "See how much a train has kept of its requests", tag: tag, access: string(identity.TrainRead),
		description: "Numbers alone; what is kept is read request by request."}, s.getKept)
	add(s, route{method: http.MethodDelete, path: all + "/contents", id: "purge-contents", summary: "Delete all that a train has kept of its requests", tag: tag, access: string(identity.TrainWrite) + " " + string(identity.ContentRead),
		description: "Needs a fresh proof besides."}, s.purgeContents)
	add(s, route{method: http.MethodGet, path: "/api/requests/{id}/content", id: "get-request-content", summary: "Read what an agent was asked and answered", tag: tag, access: string(identity.TrainRead) + " " + string(identity.ContentRead),
		description: "Where the train of the request keeps it. Needs a fresh proof besides, and goes on record."}, s.getContent)
}

func (s *service) getLogging(ctx context.Context, caller identity.Caller, in *OfTrain) (*loggingAnswer, error) {
	l, err := s.Trains.Logging(ctx, caller, in.Train)
	if err != nil {
		return nil, err
	}
	return shownLogging(l), nil
}

func (s *service) setLogging(ctx context.Context, caller identity.Caller, in *struct {
	OfTrain
	IfMatch
	Body loggingPatch
}) (*loggingAnswer, error) {
	l, err := s.Trains.PutLogging(ctx, caller, in.Train, contents.Patch(in.Body), in.IfMatch.IfMatch)
	if err != nil {
		return nil, err
	}
	return shownLogging(l), nil
}

func (s *service) getKept(ctx context.Context, caller identity.Caller, in *OfTrain) (*stockAnswer, error) {
	l, err := s.Trains.Logging(ctx, caller, in.Train)
	if err != nil {
		return nil, err
	}
	out := &stockAnswer{}
	out.Body.Contents = client.KeptContents{Requests: l.Requests, Bytes: l.Bytes}
	if l.Requests > 0 {
		at := l.Oldest.Time()
		out.Body.Contents.OldestAt = &at
	}
	return out, nil
}

func (s *service) purgeContents(ctx context.Context, caller identity.Caller, in *OfTrain) (*struct{}, error) {
	_, err := s.Trains.PurgeContents(ctx, caller, in.Train)
	return nil, err
}

func (s *service) getContent(ctx context.Context, caller identity.Caller, in *OfRequest) (*contentAnswer, error) {
	c, err := s.Trains.Content(ctx, caller, in.Request)
	if err != nil {
		return nil, err
	}
	out := &contentAnswer{}
	out.Body.Content = client.RequestContent(c)
	return out, nil
}
