package price

import (
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func builtInTable(t *testing.T) *Table {
	t.Helper()
	table, err := BuiltIn()
	require.NoError(t, err)
	return table
}

// TestBuiltIn: the table that comes with the program can be read, says of when and from where it is, and has the ratios that its publisher tells.
func TestBuiltIn(t *testing.T) {
	table := builtInTable(t)
	require.Equal(t, "2026-10-24", table.AsOf)
	require.True(t, strings.HasPrefix(table.Source, "https://"))
	all, own := table.Models()
	require.Positive(t, all)
	require.Zero(t, own)
	for model, p := range table.prices {
		require.Equal(t, 5*p.Input, p.Output, model)
		require.Equal(t, 2*p.Input, p.CacheWrite1h, model)
		require.Less(t, p.CacheRead, p.Input, model)
		require.Greater(t, p.CacheWrite5m, p.Input, model)
	}
}

// TestNames: a model is known by its name with and without a date, and nothing else is guessed.
func TestNames(t *testing.T) {
	table := builtInTable(t)
	want := table.prices["claude-sonnet-4-5"]
	for _, name := range []string{"claude-sonnet-4-5", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5@20250929", "claude-sonnet-4-5-latest", "claude-sonnet-4-5[1m]", "claude-sonnet-4-5-20250929[1m]"} {
		got, ok := table.Of(name)
		require.True(t, ok, name)
		require.Equal(t, want, got, name)
	}
	name, ok := table.Name("claude-sonnet-4-5-20250929[1m]")
	require.True(t, ok)
	require.Equal(t, "claude-sonnet-4-5", name)
	for _, name := range []string{"", "claude", "claude-sonnet-4-5-fast", "claude-sonnet-4-55", "Claude-sonnet-4-5", "claude-sonnet-4-5-2025092", "claude-haiku-5-5", "gpt-6", "[1m]", "-20250929"} {
		_, ok := table.Of(name)
		require.False(t, ok, name)
	}
}

// TestCostIsExact: the sum of many small costs is what rational numbers say, to the rounding at the end.
func TestCostIsExact(t *testing.T) {
	table, err := builtInTable(t).With([]byte(`{"models": [{"model": "odd", "input": 0.000001, "output": 0.333333, "cache_read": 7.654321, "cache_creation_5m": 99999.999999, "cache_creation_1h": 0}]}`))
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(4, 2))
	var cost, sum Cost
	exact := new(big.Int) // in millionths of a micro-dollar
	for range 5000 {
		model := []string{"odd", "claude-opus-5", "claude-haiku-4-5-20251001"}[random.IntN(3)]
		of := Tokens{random.Int64N(9), random.Int64N(5000), random.Int64N(1 << 30), random.Int64N(100), random.Int64N(1 << 20)}
		p, ok := table.Of(model)
		require.True(t, ok)
		for _, one := range [][2]int64{{of.Input, p.Input}, {of.Output, p.Output}, {of.CacheRead, p.CacheRead}, {of.CacheWrite5m, p.CacheWrite5m}, {of.CacheWrite1h, p.CacheWrite1h}} {
			exact.Add(exact, new(big.Int).Mul(big.NewInt(one[0]), big.NewInt(one[1])))
		}
		cost.Add(table, model, of)
		var part Cost
		part.Add(table, model, of)
		sum.Plus(part)
	}
	rounded := new(big.Int).Div(exact.Add(exact, big.NewInt(million/2)), big.NewInt(million))
	require.Equal(t, rounded.Int64(), cost.Micro())
	require.Equal(t, cost, sum)
	require.True(t, cost.Known())
}

// TestAnUnknownModelHasNoCost: not even one of 0.
func TestAnUnknownModelHasNoCost(t *testing.T) {
	var cost Cost
	cost.Add(builtInTable(t), "nobody-knows", Tokens{Input: 3, Output: 4, CacheRead: 5, CacheWrite5m: 6, CacheWrite1h: 7})
	require.False(t, cost.Known())
	require.EqualValues(t, 25, cost.Unpriced)
	require.Zero(t, cost.Micro())
}

// TestAnOperatorsFile goes before the built-in table, model by model.
func TestAnOperatorsFile(t *testing.T) {
	before := builtInTable(t)
	table, err := before.With([]byte(`{"as_of": "2026-11-01", "source": "our contract", "models": [
		{"model": "claude-opus-5", "input": 4.5, "output": 22.5, "cache_read": 0.45, "cache_creation_5m": 5.625, "cache_creation_1h": 9},
		{"model": "ours", "input": 0, "output": 0, "cache_read": 0, "cache_creation_5m": 0, "cache_creation_1h": 0}]}`))
	require.NoError(t, err)
	p, _ := table.Of("claude-opus-5")
	require.Equal(t, Price{4_500_000, 22_500_000, 450_000, 5_625_000, 9_000_000}, p)
	p, ok := table.Of("ours")
	require.True(t, ok)
	require.Zero(t, p)
	p, _ = table.Of("claude-sonnet-5")
	require.Equal(t, before.prices["claude-sonnet-5"], p)
	all, own := table.Models()
	had, _ := before.Models()
	require.Equal(t, had+1, all)
	require.Equal(t, 2, own)
}

// TestFilesThatAreRefused: what is not understood is refused, with the place and without the text.
func TestFilesThatAreRefused(t *testing.T) {
	row := func(set string) string {
		return `{"models": [{"model": "planted", "input": 1, "output": 1, "cache_read": 1, "cache_creation_5m": 1, ` + set + `}]}`
	}
	for text, want := range map[string]string{
		``:                                        "is not JSON",
		`[]`:                                      "must be a JSON object",
		`{}`:                                      `as "models"`,
		`{"models": []}`:                          `as "models"`,
		`{"models": {}}`:                          `as "models"`,
		`{"models": [1]}`:                         "entry 1",
		`{"models": [], "planted": 1}`:            "nothing else",
		`{"models": [], "models": []}`:            "twice",
		`{"as_of": "today"}`:                      "as_of",
		`{"source": 1}`:                           "source",
		row(`"cache_creation": 1`):                "cache_creation_1h must be a number",
		row(`"cache_creation_1h": "1"`):           "cache_creation_1h must be a number",
		row(`"cache_creation_1h": -1`):            "cache_creation_1h must be from 0",
		row(`"cache_creation_1h": -0`):            "cache_creation_1h must be from 0",
		row(`"cache_creation_1h": 1e3`):           "cache_creation_1h must be from 0",
		row(`"cache_creation_1h": 0.0000001`):     "at most six digits",
		row(`"cache_creation_1h": 100000.000001`): "must be from 0 to 100000",
		row(`"cache_creation_1h": 99999999999999999999`):                     "must be from 0 to 100000",
		row(`"cache_creation_1h": 1, "batch": 1`):                            "nothing else",
		strings.Replace(row(`"cache_creation_1h": 1`), `"planted"`, `""`, 1): "model must be",
		`{"models": [` + strings.TrimSuffix(strings.TrimPrefix(row(`"cache_creation_1h": 1`), `{"models": [`), `]}`) + `, ` + strings.TrimPrefix(row(`"cache_creation_1h": 1`), `{"models": [`): "has a price above",
		`{"models": "` + strings.Repeat("x", MaxFile) + `"}`: "larger",
	} {
		_, err := builtInTable(t).With([]byte(text))
		require.ErrorContains(t, err, want, "%.200s", text)
		require.NotContains(t, err.Error(), "planted")
	}
}

func TestDollars(t *testing.T) {
	require.Equal(t, "0.000000", Dollars(0))
	require.Equal(t, "12.000345", Dollars(12_000_345))
	require.Equal(t, "-0.000001", Dollars(-1))
	require.Equal(t, "9223372036854.775807", Dollars(math.MaxInt64))
	require.Equal(t, "-9223372036854.775808", Dollars(math.MinInt64))
}

// TestCostDoesNotWrap: what is more than a number holds stays at the largest, and nobody is told that it is the cost.
func TestCostDoesNotWrap(t *testing.T) {
	table := builtInTable(t)
	for _, n := range []int64{math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64 / 5} {
		of := Tokens{n, n, n, n, n}
		var cost, twice Cost
		cost.Add(table, "claude-opus-5", of)
		twice.Plus(cost)
		twice.Plus(cost)
		for _, c := range []Cost{cost, twice} {
			require.EqualValues(t, math.MaxInt64, c.Micro())
			require.False(t, c.Known())
			require.Zero(t, c.Unpriced)
		}
		var nobodys Cost
		for range 7 {
			nobodys.Add(table, "nobody-knows", of)
		}
		require.EqualValues(t, math.MaxInt64, nobodys.Unpriced)
		require.Zero(t, nobodys.Micro())
	}
	var least Cost
	least.Add(table, "claude-opus-5", Tokens{-1, -1, -1, -1, -1})
	require.Zero(t, least.Micro())
}

// FuzzWith: no file makes it fail otherwise than by an error.
func FuzzWith(f *testing.F) {
	f.Add([]byte(`{"models": [{"model": "m", "input": 1.5, "output": 1, "cache_read": 1, "cache_creation_5m": 1, "cache_creation_1h": 1}]}`))
	f.Add([]byte(`{"models": [{"model": "m", "input": .5}]}`))
	table, err := BuiltIn()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := table.With(file)
		if err != nil {
			return
		}
		for model, p := range got.prices {
			if p.Input < 0 || p.Input > maxPrice || p.CacheWrite1h < 0 || model == "" {
				t.Fatalf("%q has %v", model, p)
			}
		}
	})
}
