// Package quota knows what somebody may use and how much of it they have used: limits, and the counts that they are held against.
//
// Promise: within any minute, hour or day no more is let through than the limit says, and up to the whole limit at once. What is used falls out of the count
// when its part of the window is over: of a minute a second, of an hour a minute, of a day a quarter of an hour; so what is free again is so at most one such
// part late, never early. Budgets count from the first of the month, in UTC.
//
// Limits: tokens are known when an answer ends. Until then a request stands in the count with what it may use at most (max_tokens, and its prompt by its size), and another
// one is let through while anything is left; so the last one may go over a limit of tokens by its own size.
//
// Invariants: it knows no database, no clock and no request; a limit that this version does not know denies; counts never fall below nothing; a clock that is set back
// frees nothing that it had not freed before.
package quota

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Kind is one of the limits that are numbers.
type Kind int

// The kinds.
const (
	RequestsPerMinute Kind = iota
	RequestsPerHour
	RequestsPerDay
	TokensPerMinute
	TokensPerHour
	TokensPerDay
	MonthlyTokens
	MonthlyCost // in micro-dollars
	ConcurrentStreams
	MaxTokens
	kinds
)

// Row explains a kind.
type Row struct {
	Kind Kind
	// Name is the field of the API.
	Name string
	// Noun is what it is said to count, after the number.
	Noun string
	// Meaning is for people who choose limits.
	Meaning string
}

// ModelsName is the field of the API that lists the models; it is no number.
const ModelsName = "models"

var rows = [...]Row{
	{RequestsPerMinute, "requests_per_minute", "requests a minute", "requests in any 60 seconds; the whole number may come at once"},
	{RequestsPerHour, "requests_per_hour", "requests an hour", "requests in any 60 minutes"},
	{RequestsPerDay, "requests_per_day", "requests a day", "requests in any 24 hours"},
	{TokensPerMinute, "tokens_per_minute", "tokens a minute", "tokens of all kinds in any 60 seconds"},
	{TokensPerHour, "tokens_per_hour", "tokens an hour", "tokens of all kinds in any 60 minutes"},
	{TokensPerDay, "tokens_per_day", "tokens a day", "tokens of all kinds in any 24 hours"},
	{MonthlyTokens, "monthly_tokens", "tokens a month", "tokens of all kinds in a calendar month of UTC"},
	{MonthlyCost, "monthly_cost_usd", "US dollars a month", "what the tokens of a calendar month of UTC cost, in US dollars"},
	{ConcurrentStreams, "concurrent_streams", "requests at once", "requests for messages under way at once, streamed or not"},
	{MaxTokens, "max_tokens", "tokens an answer", "the largest max_tokens that a request may ask for"},
}

// Rows returns the table of kinds.
func Rows() []Row { return slices.Clone(rows[:]) }

// Row returns the row of a kind.
func (k Kind) Row() Row { return rows[k] }

// String returns the name of the kind.
func (k Kind) String() string { return rows[k].Name }

// KindOf returns the kind with a name.
func KindOf(name string) (Kind, bool) {
	for _, r := range rows {
		if r.Name == name {
			return r.Kind, true
		}
	}
	return 0, false
}

const (
	// Most bounds every limit; of money it is in micro-dollars.
	Most = 1_000_000_000_000_000
	// MaxModels and MaxModel bound the list of models and each of its entries.
	MaxModels, MaxModel = 100, 128
)

// Limits are what somebody may use. They are not changed once they are in use; the zero value limits nothing.
type Limits struct {
	most [kinds]int64
	// Models are the names of those that may be asked for; one that ends with * stands for all that begin so. An empty list allows all.
	models  []string
	unknown bool
	text    string
}

// Of returns a limit; ok is false where there is none. It may be asked of nil.
func (l *Limits) Of(k Kind) (most int64, ok bool) {
	if l == nil || l.most[k] == 0 {
		return 0, false
	}
	return l.most[k], true
}

// Models returns the models that may be asked for; nil allows all.
func (l *Limits) Models() []string {
	if l == nil {
		return nil
	}
	return slices.Clone(l.models)
}

// Unknown reports whether there is a limit that this version does not know, so that everything must be refused.
func (l *Limits) Unknown() bool { return l != nil && l.unknown }

// Empty reports whether nothing is limited.
func (l *Limits) Empty() bool {
	return l == nil || !l.unknown && len(l.models) == 0 && l.most == [kinds]int64{}
}

// Counts reports whether anything of it has to be counted: all but the models and the size of one answer.
func (l *Limits) Counts() bool {
	if l == nil {
		return false
	}
	for k := range MaxTokens {
		if l.most[k] != 0 {
			return true
		}
	}
	return false
}

// Text returns the limits as they are stored, "" for none. Two that limit the same have the same text.
func (l *Limits) Text() string {
	if l == nil {
		return ""
	}
	return l.text
}

// String returns the same.
func (l *Limits) String() string { return l.Text() }

// Allows reports whether a model may be asked for.
func (l *Limits) Allows(model string) bool {
	if l == nil || len(l.models) == 0 {
		return true
	}
	for _, m := range l.models {
		if begin, open := strings.CutSuffix(m, "*"); m == model || open && strings.HasPrefix(model, begin) {
			return model != ""
		}
	}
	return false
}

// WeighsTokens reports whether a request must say which model it asks for, or how many tokens, to be held against the limits.
func (l *Limits) WeighsTokens() bool {
	if l == nil {
		return false
	}
	for k := TokensPerMinute; k <= MonthlyCost; k++ {
		if _, set := l.Of(k); set {
			return true
		}
	}
	_, capped := l.Of(MaxTokens)
	return capped || len(l.models) > 0
}

// Parse reads limits as they are stored. What this version cannot read makes them unknown, and that denies everything; nil limits nothing.
func Parse(text string) *Limits {
	if text == "" {
		return nil
	}
	l := &Limits{text: text}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &fields) != nil || len(fields) == 0 {
		l.unknown = true
		return l
	}
	for name, value := range fields {
		if name == ModelsName {
			if json.Unmarshal(value, &l.models) != nil || len(l.models) == 0 {
				l.unknown = true
			}
			continue
		}
		k, ok := KindOf(name)
		n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
		if !ok || err != nil || n <= 0 {
			l.unknown = true
			continue
		}
		l.most[k] = n
	}
	return l
}

// Patch changes limits: a number sets a limit, 0 removes it. What it does not name stays.
type Patch struct {
	// Clear removes every limit before the rest is done.
	Clear bool
	Set   map[Kind]int64
	// Models replaces the list; an empty one removes it, nil leaves it.
	Models *[]string
}

// Fields says what is wrong with a patch, by the name of the field; nothing when all is well.
func (p Patch) Fields() map[string]string {
	bad := map[string]string{}
	for k, n := range p.Set {
		if n < 0 || n > Most {
			bad[k.String()] = "must be from 1 to 1000000000000000, or null for no limit"
			if k == MonthlyCost {
				bad[k.String()] = "must be from 0.000001 to 1000000000 US dollars with at most six digits after the point, or null for no limit"
			}
		}
	}
	if p.Models == nil {
		return bad
	}
	if len(*p.Models) > MaxModels {
		bad[ModelsName] = "must have at most 100 entries"
	}
	for _, m := range *p.Models {
		body := strings.TrimSuffix(m, "*")
		if m == "" || len(m) > MaxModel || strings.ContainsFunc(body, func(c rune) bool { return c <= ' ' || c > '~' || c == '*' || c == '"' || c == ',' }) {
			bad[ModelsName] = "must have names of models, each of 1 to 128 characters, with a * at the end for all that begin so"
		}
	}
	return bad
}

// Apply returns the limits after a patch that is well, and the names of what it changed. Unknown limits stay, unless all are cleared: an older version must not
// remove what it cannot read.
func (p Patch) Apply(l *Limits) (next *Limits, changed []string) {
	var to Limits
	var kept map[string]json.RawMessage
	if l != nil && !p.Clear {
		to.most, to.models = l.most, l.models
		if l.unknown {
			_ = json.Unmarshal([]byte(l.text), &kept) // what is no object cannot be kept
		}
	}
	for k, n := range p.Set {
		to.most[k] = n
		delete(kept, k.String())
	}
	if p.Models != nil {
		to.models = slices.Compact(slices.Sorted(slices.Values(*p.Models)))
		delete(kept, ModelsName)
	}
	next = Parse(to.write(kept))
	for _, r := range rows {
		was, _ := l.Of(r.Kind)
		is, _ := next.Of(r.Kind)
		if was != is {
			changed = append(changed, "limits."+r.Name)
		}
	}
	if !slices.Equal(l.Models(), next.Models()) {
		changed = append(changed, "limits."+ModelsName)
	}
	if len(changed) == 0 && l.Text() != next.Text() {
		changed = append(changed, "limits")
	}
	return next, changed
}

func (l *Limits) write(kept map[string]json.RawMessage) string {
	fields := map[string]any{}
	for name, value := range kept {
		fields[name] = value
	}
	for _, r := range rows {
		if n := l.most[r.Kind]; n > 0 {
			fields[r.Name] = n
		}
	}
	if len(l.models) > 0 {
		fields[ModelsName] = l.models
	}
	if len(fields) == 0 {
		return ""
	}
	b, err := json.Marshal(fields) // the names in order
	if err != nil {
		return `{"unreadable":1}` // denies
	}
	return string(b)
}
