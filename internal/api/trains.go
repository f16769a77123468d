package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
)

// strategy is one of the train room's.
type strategy string

// Schema lists the strategies.
func (strategy) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{string(train.Hash), string(train.Priority), string(train.LeastLoaded)}}
}

type trainDraft struct {
	TrainID     string            `json:"train_id" minLength:"1" maxLength:"64" doc:"The slug: letters, digits, dots, dashes and underscores. It never changes."`
	Name        string            `json:"name,omitempty" maxLength:"200" doc:"The slug when it is left out."`
	Description string            `json:"description,omitempty" maxLength:"2000"`
	Strategy    strategy          `json:"strategy,omitempty" doc:"How an account is chosen; hash when it is left out."`
	Disabled    bool              `json:"disabled,omitempty"`
	KeyLimit    int               `json:"key_limit,omitempty" minimum:"0" maximum:"10000" doc:"How many active client keys it may have; 0 is the server's default."`
	Limits      edit[limitsPatch] `json:"limits,omitempty" doc:"What all its client keys may use together."`
	Visibility  visibility        `json:"visibility,omitempty" doc:"Who reaches it; the organisation when it is left out. Whoever makes a private train owns it."`
}

type trainPatch struct {
	Name        *string           `json:"name,omitempty" minLength:"1" maxLength:"200"`
	Description edit[string]      `json:"description,omitempty" maxLength:"2000"`
	Strategy    *strategy         `json:"strategy,omitempty"`
	Disabled    *bool             `json:"disabled,omitempty"`
	KeyLimit    edit[int]         `json:"key_limit,omitempty" minimum:"0" maximum:"10000"`
	Limits      edit[limitsPatch] `json:"limits,omitempty" doc:"What all its client keys may use together; null removes a limit, or all of them."`
	Default     edit[string]      `json:"default_account,omitempty" maxLength:"204" doc:"A linked account, by id, account id or name, that is tried before all others whatever the strategy; null for none. It goes with its link."`
	Visibility  *visibility       `json:"visibility,omitempty" doc:"Who reaches it. Its owners change it, and administrators; where nobody owns the train, whoever makes it private owns it then."`
}

type trainBody struct {
	Train client.Train `json:"train"`
}

type trainAnswer struct {
	ETag     string `header:"ETag" doc:"Names this state, for If-Match."`
	Location string `header:"Location" hidden:"true"`
	Body     trainBody
}

func shownTrain(t train.Train) client.Train {
	return client.Train{
		ID: t.ID, TrainID: t.Slug, Name: t.Name, Description: t.Description, Strategy: string(t.Strategy), Disabled: t.Disabled, KeyLimit: t.KeyLimit,
		DefaultAccount: t.DefaultAccount, Links: t.Links, CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt, Limits: shownLimits(t.Limits),
		Visibility: string(t.Visibility),
	}
}

func trainOut(t train.Train, err error) (*trainAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &trainAnswer{ETag: t.ETag(), Body: trainBody{shownTrain(t)}}, nil
}

func (s *service) addTrains() {
	const tag = "trains"
	add(s, route{method: http.MethodGet, path: "/api/trains", id: "list-trains", summary: "List trains", tag: tag, access: string(identity.TrainRead)}, s.listTrains)
	add(s, route{method: http.MethodPost, path: "/api/trains", id: "create-train", summary: "Make a train", tag: tag, access: string(identity.TrainWrite),
		status: http.StatusCreated, again: s.createdTrain}, s.createTrain)
	add(s, route{method: http.MethodGet, path: "/api/trains/{train_id}", id: "get-train", summary: "Read a train", tag: tag, access: string(identity.TrainRead)}, s.getTrain)
	for _, method := range []string{http.MethodPatch, http.MethodPut} {
		add(s, route{method: method, path: "/api/trains/{train_id}", id: strings.ToLower(method) + "-train", summary: "Change a train", tag: tag,
			description: "A merge patch (RFC 7396). PUT and PATCH do the same.", access: string(identity.TrainWrite)}, s.updateTrain)
	}
	add(s, route{method: http.MethodDelete, path: "/api/trains/{train_id}", id: "delete-train", summary: "Delete a train", tag: tag,
		description: "One that still has links or active keys is deleted only with force=true.", access: string(identity.TrainWrite)}, s.deleteTrain)
	add(s, route{method: http.MethodGet, path: "/api/trains/{train_id}/explain", id: "explain-train", summary: "Say which account the train would use, and why", tag: tag,
		access: string(identity.TrainRead)}, s.explainTrain)
}

func (s *service) listTrains(ctx context.Context, caller identity.Caller, in *struct {
	Page
	Q string `query:"q" maxLength:"200" doc:"A part of the slug or the name."`
}) (*struct{ Body client.TrainPage }, error) {
	items, next, err := s.Trains.ListTrains(ctx, caller, train.Filter{Q: in.Q, Limit: in.Limit, Cursor: in.Cursor, Skip: in.Skip})
	if err != nil {
		return nil, err
	}
	out := client.TrainPage{Trains: make([]client.Train, len(items)), NextCursor: next}
	for i, t := range items {
		out.Trains[i] = shownTrain(t)
	}
	return &struct{ Body client.TrainPage }{out}, nil
}

func (s *service) createTrain(ctx context.Context, caller identity.Caller, in *struct{ Body trainDraft }) (*trainAnswer, error) {
	b := in.Body
	out, err := trainOut(s.Trains.CreateTrain(ctx, caller, train.Draft{
		Slug: b.TrainID, Name: b.Name, Description: b.Description, Strategy: train.Strategy(b.Strategy), Disabled: b.Disabled, KeyLimit: b.KeyLimit, Limits: limitsEdit(b.Limits),
		Visibility: identity.Visibility(b.Visibility),
	}))
	if err == nil {
		out.Location = "/api/trains/" + out.Body.Train.TrainID
	}
	return out, err
}

// createdTrain says whether the caller may still be told of the train that they made.
func (s *service) createdTrain(ctx context.Context, caller identity.Caller, target string, _ []byte) error {
	return s.Trains.MayName(ctx, caller, target)
}

func (s *service) getTrain(ctx context.Context, caller identity.Caller, in *OfTrain) (*trainAnswer, error) {
	return trainOut(s.Trains.GetTrain(ctx, caller, in.Train))
}

func (s *service) updateTrain(ctx context.Context, caller identity.Caller, in *struct {
	OfTrain
	IfMatch
	Body trainPatch
}) (*trainAnswer, error) {
	b := in.Body
	p := train.Patch{Name: b.Name, Description: b.Description.pointer(), Disabled: b.Disabled, KeyLimit: b.KeyLimit.pointer(), DefaultAccount: b.Default.pointer(), Limits: limitsEdit(b.Limits)}
	if b.Strategy != nil {
		chosen := train.Strategy(*b.Strategy)
		p.Strategy = &chosen
	}
	if b.Visibility != nil {
		chosen := identity.Visibility(*b.Visibility)
		p.Visibility = &chosen
	}
	return trainOut(s.Trains.UpdateTrain(ctx, caller, in.Train, p, in.IfMatch.IfMatch))
}

func (s *service) deleteTrain(ctx context.Context, caller identity.Caller, in *struct {
	OfTrain
	IfMatch
	Force bool `query:"force" doc:"Delete it with its links and keys."`
}) (*struct{}, error) {
	return nil, s.Trains.DeleteTrain(ctx, caller, in.Train, in.Force, in.IfMatch.IfMatch)
}

func (s *service) explainTrain(ctx context.Context, caller identity.Caller, in *struct {
	OfTrain
	Model string `query:"model" maxLength:"200" doc:"Explain a request for this model; some windows count for single models."`
}) (*struct{ Body client.Explanation }, error) {
	e, err := s.Trains.ExplainFor(ctx, caller, in.Train, in.Model)
	if err != nil {
		return nil, err
	}
	out := client.Explanation{
		TrainID: e.Train.Slug, Strategy: string(e.Train.Strategy), Summary: e.Summary, Accounts: make([]client.RankedAccount, len(e.Accounts)),
	}
	for i, a := range e.Accounts {
		out.Accounts[i] = client.RankedAccount{
			Rank: a.Rank, Chosen: a.Chosen, State: string(a.State), CredentialID: a.CredentialID, AccountID: a.AccountID, Name: a.Name, Type: string(a.Type),
			Provider: a.Provider, Alias: a.Alias, Priority: a.Priority, Version: a.Version, Order: a.Order, Why: a.Why, CoolingUntil: a.CoolingUntil,
			CoolingStatus: a.CoolingStatus, Windows: windowsOut(a.Windows), InFlight: a.InFlight, Load: part(a.Load), Over: a.Over, Conversations: a.Conversations,
		}
	}
	return &struct{ Body client.Explanation }{out}, nil
}

func windowsOut(list []train.Window) []client.Window {
	out := make([]client.Window, len(list))
	for i, w := range list {
		out[i] = client.Window{Name: w.Name, Models: w.Models(), Utilization: part(w.Used), Threshold: part(w.Limit()), Above: w.Over(), Status: w.Status, Refused: w.Refused, HeardAt: w.Heard}
		if !w.Reset.IsZero() {
			out[i].ResetsAt = &w.Reset
		}
	}
	return out
}

// part tells ten-thousandths as a part of one.
func part(n int) float64 { return float64(n) / 10_000 }
