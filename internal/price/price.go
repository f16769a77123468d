// Package price tells what tokens cost, by a table of prices a million tokens.
//
// Promise: a cost is exact to the millionth of a micro-dollar and never a float; a model that the table does not name has no cost, which is not a cost of 0. A
// file of an operator's prices goes before the built-in table, model by model. What is more than a number holds stays at the largest, and is no known cost.
//
// Limits: list prices of the API, in US dollars. What depends on a single request is in no sum of tokens, so discounts (batches), surcharges (regions, fast modes, the length of a
// prompt) and what is paid by the call (web searches) are not in it; a model whose price depends on the length of each prompt is left out of the built-in table. Prices have no
// history: what was used before a price changed is told at the one in the table.
//
// Invariants: it knows no request, no account and no database.
package price

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"regexp"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/strict"
)

//go:embed prices.json
var builtIn []byte

const (
	// million is how many tokens a price is for, and how many micro-dollars a dollar has.
	million = 1_000_000
	// maxPrice bounds a price, in micro-dollars: 100,000 dollars.
	maxPrice = 100_000 * million
	// maxModels and MaxFile bound a table.
	maxModels = 10_000
	MaxFile   = 4 << 20
)

// Price is what a million tokens of each kind cost, in micro-dollars.
type Price struct {
	Input, Output, CacheRead, CacheWrite5m, CacheWrite1h int64
}

// Tokens are how many tokens of each kind there were.
type Tokens struct {
	Input, Output, CacheRead, CacheWrite5m, CacheWrite1h int64
}

// Sum is how many tokens there were at all.
func (t Tokens) Sum() int64 {
	return Sum(t.Input, t.Output, t.CacheRead, t.CacheWrite5m, t.CacheWrite1h)
}

// Sum adds numbers that are not below nothing, and stays at the largest that there is.
func Sum(all ...int64) (sum int64) {
	for _, n := range all {
		if n > math.MaxInt64-sum {
			return math.MaxInt64
		}
		sum += max(0, n)
	}
	return sum
}

// times multiplies two numbers that are not below nothing, and stays at the largest that there is.
func times(a, b int64) int64 {
	high, low := bits.Mul64(uint64(max(0, a)), uint64(max(0, b)))
	if high > 0 || low > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(low)
}

// Table has prices by model.
type Table struct {
	prices map[string]Price
	// AsOf is the day on which the built-in prices were read at Source.
	AsOf, Source string
	own          int
}

// BuiltIn returns the table that comes with the program.
func BuiltIn() (*Table, error) {
	t, err := parse(builtIn)
	if err != nil {
		return nil, fmt.Errorf("price: the built-in table %w", err)
	}
	return t, nil
}

// With returns the table with an operator's file before it. The error says what is wrong with the file, after its name.
func (t *Table) With(file []byte) (*Table, error) {
	own, err := parse(file)
	if err != nil {
		return nil, err
	}
	own.own = len(own.prices)
	for model, p := range t.prices {
		if _, have := own.prices[model]; !have {
			own.prices[model] = p
		}
	}
	own.AsOf, own.Source = t.AsOf, t.Source
	return own, nil
}

// Models is how many models have a price, and how many of these an operator's file gave.
func (t *Table) Models() (all, own int) { return len(t.prices), t.own }

var suffix = regexp.MustCompile(`(\[1m\])?([-@]\d{8}|-latest)?(\[1m\])?$`)

// Of returns the price of a model by its name, or by its name without its date (-20250929), "-latest" or "[1m]". Nothing else is guessed.
func (t *Table) Of(model string) (Price, bool) {
	name, ok := t.Name(model)
	return t.prices[name], ok
}

// Name returns the name in the table that has the price of a model. There are no more of these than rows, whatever is asked.
func (t *Table) Name(model string) (string, bool) {
	if _, ok := t.prices[model]; !ok {
		model = suffix.ReplaceAllString(model, "")
	}
	_, ok := t.prices[model]
	return model, ok
}

// parse reads a table strictly.
func parse(text []byte) (*Table, error) {
	if len(text) > MaxFile {
		return nil, errors.New("is larger than 4 MiB")
	}
	value, err := strict.Parse(text)
	if err != nil {
		return nil, err
	}
	top, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New(`must be a JSON object with "models"`)
	}
	t := &Table{prices: map[string]Price{}}
	for name, v := range top {
		switch name {
		case "as_of":
			if t.AsOf, ok = v.(string); !ok || !isDay(t.AsOf) {
				return nil, errors.New(`must have a day such as 2026-11-23 as "as_of"`)
			}
		case "source":
			if t.Source, ok = v.(string); !ok {
				return nil, errors.New(`must have a text as "source"`)
			}
		case "models":
		default:
			return nil, errors.New(`may have "models", "as_of" and "source", and nothing else`)
		}
	}
	list, ok := top["models"].([]any)
	if !ok || len(list) == 0 || len(list) > maxModels {
		return nil, errors.New(`must have a list of one to 10,000 prices as "models"`)
	}
	for i, one := range list {
		if err := t.add(one); err != nil {
			return nil, fmt.Errorf(`is wrong in entry %d of "models": %w`, i+1, err)
		}
	}
	return t, nil
}

func isDay(s string) bool {
	_, err := time.Parse(time.DateOnly, s)
	return err == nil
}

// add reads one row.
func (t *Table) add(one any) error {
	row, ok := one.(map[string]any)
	if !ok {
		return errors.New("it is no object")
	}
	var p Price
	kinds := map[string]*int64{"input": &p.Input, "output": &p.Output, "cache_read": &p.CacheRead, "cache_creation_5m": &p.CacheWrite5m, "cache_creation_1h": &p.CacheWrite1h}
	if len(row) != len(kinds)+1 {
		return errors.New("it must have model, input, output, cache_read, cache_creation_5m and cache_creation_1h, and nothing else")
	}
	model, ok := row["model"].(string)
	if !ok || model == "" || len(model) > 128 || strings.TrimSpace(model) != model {
		return errors.New("model must be a name of 1 to 128 bytes")
	}
	if _, twice := t.prices[model]; twice {
		return errors.New("its model has a price above")
	}
	for _, name := range [...]string{"input", "output", "cache_read", "cache_creation_5m", "cache_creation_1h"} {
		n, ok := row[name].(json.Number)
		if !ok {
			return errors.New(name + " must be a number: dollars a million tokens")
		}
		var err error
		if *kinds[name], err = micro(n.String()); err != nil {
			return errors.New(name + " " + err.Error())
		}
	}
	t.prices[model] = p
	return nil
}

// micro reads dollars as micro-dollars, without a float in between.
func micro(dollars string) (int64, error) {
	whole, part, _ := strings.Cut(dollars, ".")
	n, err := strconv.ParseInt(whole+(part + "000000")[:6], 10, 64)
	if err != nil || len(part) > 6 || n < 0 || n > maxPrice || strings.HasPrefix(whole, "-") || strings.ContainsAny(dollars, "eE+") {
		return 0, errors.New("must be from 0 to 100000 with at most six digits after the point")
	}
	return n, nil
}

// Cost is what tokens cost, as far as they have a price.
type Cost struct {
	micro, rest int64 // rest in millionths of a micro-dollar
	// Unpriced is how many tokens are of models without a price.
	Unpriced int64
}

// Add adds what tokens of a model cost.
func (c *Cost) Add(t *Table, model string, of Tokens) {
	p, ok := t.Of(model)
	if !ok {
		c.Unpriced = Sum(c.Unpriced, of.Sum())
		return
	}
	for _, kind := range [...]struct{ tokens, price int64 }{{of.Input, p.Input}, {of.Output, p.Output}, {of.CacheRead, p.CacheRead}, {of.CacheWrite5m, p.CacheWrite5m}, {of.CacheWrite1h, p.CacheWrite1h}} {
		part := max(0, kind.tokens) % million * kind.price // at most a million times maxPrice
		c.micro = Sum(c.micro, times(kind.tokens/million, kind.price), part/million)
		c.rest += part % million
	}
	c.carry()
}

// Plus adds another cost.
func (c *Cost) Plus(o Cost) {
	c.micro = Sum(c.micro, o.micro)
	c.rest += o.rest
	c.Unpriced = Sum(c.Unpriced, o.Unpriced)
	c.carry()
}

func (c *Cost) carry() {
	c.micro = Sum(c.micro, c.rest/million)
	c.rest %= million
}

// Micro is the cost in micro-dollars, rounded half up, of the tokens that have a price.
func (c Cost) Micro() int64 {
	if c.rest >= million/2 {
		return Sum(c.micro, 1)
	}
	return c.micro
}

// Known reports whether all tokens have a price, and whether it is their whole cost.
func (c Cost) Known() bool { return c.Unpriced == 0 && c.micro < math.MaxInt64 }

// Micro reads dollars, with at most six digits after the point, as micro-dollars.
func Micro(dollars string) (int64, error) {
	whole, part, _ := strings.Cut(dollars, ".")
	n, err := strconv.ParseInt(whole+(part + "000000")[:6], 10, 64)
	if err != nil || len(part) > 6 || n < 0 || strings.ContainsAny(dollars, "+-") || whole == "" {
		return 0, errors.New("price: no amount of dollars")
	}
	return n, nil
}

// Dollars writes micro-dollars as dollars with six digits.
func Dollars(micro int64) string {
	sign, n := "", uint64(micro)
	if micro < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%06d", sign, n/million, n%million)
}
