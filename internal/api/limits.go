package api

import (
	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/quota"
)

// dollars is an amount of money in a change.
type dollars struct{ client.USD }

// Schema is that of a number.
func (dollars) Schema(huma.Registry) *huma.Schema {
	most := 1_000_000_000.0
	least := 0.000001
	return &huma.Schema{Type: huma.TypeNumber, Minimum: &least, Maximum: &most}
}

// models are names of models in a change.
type models []string

// Schema is that of a list of texts.
func (models) Schema(huma.Registry) *huma.Schema {
	least, most := 1, quota.MaxModels
	short, long := 1, quota.MaxModel
	return &huma.Schema{Type: huma.TypeArray, MinItems: &least, MaxItems: &most, Items: &huma.Schema{Type: huma.TypeString, MinLength: &short, MaxLength: &long}}
}

// limitsPatch is a merge patch of limits: null removes one.
type limitsPatch struct {
	RequestsPerMinute edit[int64]   `json:"requests_per_minute,omitempty" minimum:"1" maximum:"1000000000000000" doc:"Requests in any 60 seconds; the whole number may come at once. Null for no limit."`
	RequestsPerHour   edit[int64]   `json:"requests_per_hour,omitempty" minimum:"1" maximum:"1000000000000000" doc:"Requests in any 60 minutes."`
	RequestsPerDay    edit[int64]   `json:"requests_per_day,omitempty" minimum:"1" maximum:"1000000000000000" doc:"Requests in any 24 hours."`
	TokensPerMinute   edit[int64]   `json:"tokens_per_minute,omitempty" minimum:"1" maximum:"1000000000000000" doc:"Tokens of all kinds in any 60 seconds."`
	TokensPerHour     edit[int64]   `json:"tokens_per_hour,omitempty" minimum:"1" maximum:"1000000000000000" doc:"Tokens of all kinds in any 60 minutes."`
	TokensPerDay      edit[int64]   `json:"tokens_per_day,omitempty" minimum:"1" maximum:"1000000000000000" doc:"Tokens of all kinds in any 24 hours."`
	MonthlyTokens     edit[int64]   `json:"monthly_tokens,omitempty" minimum:"1" maximum:"1000000000000000" doc:"Tokens of all kinds in a calendar month of UTC."`
	MonthlyCostUSD    edit[dollars] `json:"monthly_cost_usd,omitempty" doc:"What the tokens of a calendar month of UTC may cost, in US dollars with at most six digits after the point."`
	ConcurrentStreams edit[int64]   `json:"concurrent_streams,omitempty" minimum:"1" maximum:"1000000000000000" doc:"Requests for messages under way at once, streamed or not."`
	Models            edit[models]  `json:"models,omitempty" doc:"The models that may be asked for; one with * at its end stands for all that begin so."`
	MaxTokens         edit[int64]   `json:"max_tokens,omitempty" minimum:"1" maximum:"1000000000000000" doc:"The largest max_tokens that a request may ask for."`
}

// limitsEdit returns the change as the rooms know it: nil when there is none.
func limitsEdit(e edit[limitsPatch]) *quota.Patch {
	if !e.set {
		return nil
	}
	out := &quota.Patch{Clear: e.null, Set: map[quota.Kind]int64{}}
	v := e.value
	for kind, field := range map[quota.Kind]edit[int64]{
		quota.RequestsPerMinute: v.RequestsPerMinute, quota.RequestsPerHour: v.RequestsPerHour, quota.RequestsPerDay: v.RequestsPerDay,
		quota.TokensPerMinute: v.TokensPerMinute, quota.TokensPerHour: v.TokensPerHour, quota.TokensPerDay: v.TokensPerDay,
		quota.MonthlyTokens: v.MonthlyTokens, quota.ConcurrentStreams: v.ConcurrentStreams, quota.MaxTokens: v.MaxTokens,
	} {
		if field.set {
			out.Set[kind] = field.value // null is 0, which removes it
		}
	}
	if v.MonthlyCostUSD.set {
		out.Set[quota.MonthlyCost] = int64(v.MonthlyCostUSD.value.USD)
	}
	if v.Models.set {
		list := []string(v.Models.value)
		out.Models = &list
	}
	return out
}

// shownLimits returns limits as the API shows them; nil when there are none.
func shownLimits(l *quota.Limits) *client.Limits {
	if l.Empty() {
		return nil
	}
	of := func(k quota.Kind) *int64 {
		if n, ok := l.Of(k); ok {
			return &n
		}
		return nil
	}
	out := &client.Limits{
		RequestsPerMinute: of(quota.RequestsPerMinute), RequestsPerHour: of(quota.RequestsPerHour), RequestsPerDay: of(quota.RequestsPerDay),
		TokensPerMinute: of(quota.TokensPerMinute), TokensPerHour: of(quota.TokensPerHour), TokensPerDay: of(quota.TokensPerDay),
		MonthlyTokens: of(quota.MonthlyTokens), ConcurrentStreams: of(quota.ConcurrentStreams), Models: l.Models(), MaxTokens: of(quota.MaxTokens),
	}
	if n, ok := l.Of(quota.MonthlyCost); ok {
		usd := client.USD(n)
		out.MonthlyCostUSD = &usd
	}
	return out
}
