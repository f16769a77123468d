package client

import "encoding/json"

// Limits are what a train, a client key or a person may use. A field that is nil limits nothing. In any minute, hour and day means at any moment, looked at back from
// then; a month is one of the calendar, in UTC.
type Limits struct {
	RequestsPerMinute *int64   `json:"requests_per_minute,omitempty" doc:"Requests in any 60 seconds; the whole number may come at once."`
	RequestsPerHour   *int64   `json:"requests_per_hour,omitempty" doc:"Requests in any 60 minutes."`
	RequestsPerDay    *int64   `json:"requests_per_day,omitempty" doc:"Requests in any 24 hours."`
	TokensPerMinute   *int64   `json:"tokens_per_minute,omitempty" doc:"Tokens of all kinds in any 60 seconds."`
	TokensPerHour     *int64   `json:"tokens_per_hour,omitempty" doc:"Tokens of all kinds in any 60 minutes."`
	TokensPerDay      *int64   `json:"tokens_per_day,omitempty" doc:"Tokens of all kinds in any 24 hours."`
	MonthlyTokens     *int64   `json:"monthly_tokens,omitempty" doc:"Tokens of all kinds in a calendar month of UTC."`
	MonthlyCostUSD    *USD     `json:"monthly_cost_usd,omitempty" doc:"What the tokens of a calendar month of UTC may cost, in US dollars."`
	ConcurrentStreams *int64   `json:"concurrent_streams,omitempty" doc:"Requests for messages under way at once, streamed or not."`
	Models            []string `json:"models,omitempty" nullable:"false" doc:"The models that may be asked for; one with * at its end stands for all that begin so. All when it is left out."`
	MaxTokens         *int64   `json:"max_tokens,omitempty" doc:"The largest max_tokens that a request may ask for."`
}

// LimitsPatch changes limits: nil leaves a field as it is, a name in Clear removes that limit.
type LimitsPatch struct {
	Limits
	// Clear names limits that are removed, by their names in the API.
	Clear []string
	// ClearAll removes all limits, before the others are set.
	ClearAll bool
}

// MarshalJSON writes the set fields, null for each name in Clear, and null alone when everything is removed and nothing set.
func (p LimitsPatch) MarshalJSON() ([]byte, error) {
	clear := p.Clear
	if p.ClearAll {
		if b, err := json.Marshal(p.Limits); err != nil || string(b) == "{}" {
			return []byte("null"), err
		}
		for _, name := range LimitNames() {
			if !p.has(name) {
				clear = append(clear, name)
			}
		}
	}
	return merge(p.Limits, clear)
}

func (p LimitsPatch) has(name string) bool {
	b, err := json.Marshal(p.Limits)
	var set map[string]json.RawMessage
	if err != nil || json.Unmarshal(b, &set) != nil {
		return false
	}
	_, ok := set[name]
	return ok
}

// LimitNames returns the names of the limits, as the API has them.
func LimitNames() []string {
	return []string{
		"requests_per_minute", "requests_per_hour", "requests_per_day", "tokens_per_minute", "tokens_per_hour", "tokens_per_day", "monthly_tokens", "monthly_cost_usd",
		"concurrent_streams", "models", "max_tokens",
	}
}
