package vault

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unique"

	"github.com/stretchr/testify/require"
)

// TestWalksAgreeWithTheTexts: over many blocks, made at once and by many small changes, a walk proposes what looking through every text finds.
func TestWalksAgreeWithTheTexts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 9))
	vocabulary := []string{"common", "commonplace", "password", "ß", "日本語", "b", "https://api.example.com/v1", "ab", "aab", "x\u00a0y", "e\u0301", "c\u0085d"}
	type plain struct{ id, owner, text string }
	drawn := func(id string) plain {
		p := plain{id: id, owner: "owner-" + strconv.Itoa(rng.IntN(3)), text: fmt.Sprintf("name-%04d", rng.IntN(10000))}
		for range rng.IntN(5) {
			p.text += []string{"\n", " ", "\t"}[rng.IntN(3)] + vocabulary[rng.IntN(len(vocabulary))]
		}
		return p
	}
	packed := func(p plain) record {
		r := record{entry{id: p.id, expires: never}, strings.Fields(p.text)}
		for i, e := range (Filter{Owner: p.owner}).exact() {
			r.exact[i] = unique.Make(e.value)
		}
		return r
	}
	all := map[string]plain{}
	now := func() []plain {
		return slices.SortedFunc(maps.Values(all), func(a, b plain) int { return cmp.Compare(a.id, b.id) })
	}
	change := func(blocks []*block, ids []string) []*block {
		ids = slices.Compact(slices.Sorted(slices.Values(ids)))
		var fresh []record
		for _, id := range ids {
			if p, there := all[id]; there {
				fresh = append(fresh, packed(p))
			}
		}
		return merge(blocks, ids, fresh)
	}
	id := func(n int) string { return fmt.Sprintf("cred_%06d", n) }
	query := func() string {
		var out []string
		for range rng.IntN(4) {
			word := vocabulary[rng.IntN(len(vocabulary))]
			if rng.IntN(2) == 0 {
				word = fmt.Sprintf("name-%04d", rng.IntN(10000))
			}
			runes := []rune(word)
			from := rng.IntN(len(runes))
			out = append(out, string(runes[from:from+1+rng.IntN(len(runes)-from)]))
		}
		return strings.Join(out, " ")
	}
	found, shared := 0, 0
	check := func(blocks []*block) {
		t.Helper()
		list := now()
		count := 0
		for _, b := range blocks {
			require.NotEmpty(t, b.entries)
			for _, e := range b.entries {
				require.Equal(t, list[count].id, e.id, "seed %d", seed)
				count++
			}
			shared += len(b.holders)
		}
		require.Len(t, list, count, "seed %d", seed)
		for range 15 {
			f := Filter{Q: query(), Skip: max(0, rng.IntN(len(list)+200)-len(list)/2)}
			if rng.IntN(3) == 0 {
				f.Owner = "owner-" + strconv.Itoa(rng.IntN(4))
			}
			if rng.IntN(4) == 0 {
				f.IDs = []string{"cred_none"}
				for range rng.IntN(400) {
					f.IDs = append(f.IDs, id(rng.IntN(3000)))
				}
			}
			after := ""
			if rng.IntN(3) == 0 {
				after = id(rng.IntN(3000))
			}
			var want []string
			for _, p := range list {
				matches := p.id > after && (f.Owner == "" || f.Owner == p.owner) && (f.IDs == nil || slices.Contains(f.IDs, p.id))
				for _, word := range strings.Fields(f.Q) {
					matches = matches && strings.Contains(p.text, word)
				}
				if matches {
					want = append(want, p.id)
				}
			}
			want = append([]string{}, want[min(f.Skip, len(want)):]...)
			w, got := f.walk(blocks, after, time.Now()), []string{}
			for {
				n := 1 + rng.IntN(300)
				some := w.next(n)
				require.LessOrEqual(t, len(some), n)
				if got = append(got, some...); len(some) < n {
					break
				}
			}
			require.Empty(t, w.next(1), "seed %d", seed)
			require.Equal(t, want, got, "seed %d, %+v after %q", seed, f, after)
			found += len(want)
		}
	}
	check(nil)
	var made []string
	for n := range 1500 {
		all[id(2*n)] = drawn(id(2 * n))
		made = append(made, id(2*n))
	}
	blocks := change(nil, made)
	require.Len(t, blocks, 6)
	check(blocks)
	rounds := 30
	if testing.Short() {
		rounds = 8
	}
	for range rounds {
		var ids []string
		for range 1 + rng.IntN(20) {
			one := id(rng.IntN(3000)) // there or not
			if ids = append(ids, one); rng.IntN(2) == 0 {
				delete(all, one)
			} else {
				all[one] = drawn(one)
			}
		}
		blocks = change(blocks, ids)
		check(blocks)
	}
	before := slices.Clone(blocks)
	last := id(5000)
	all[last] = drawn(last)
	blocks = change(blocks, []string{last})
	require.Equal(t, before[:len(before)-1], blocks[:len(before)-1], "a block in which nothing changed was made anew")
	check(blocks)
	for gone := range slices.Chunk(now()[30:], 7) { // nearly all go, few by few
		var ids []string
		for _, p := range gone {
			delete(all, p.id)
			ids = append(ids, p.id)
		}
		blocks = change(blocks, ids)
	}
	check(blocks)
	require.LessOrEqual(t, len(blocks), 2, "blocks that are nearly empty stay")
	for _, p := range now() {
		delete(all, p.id)
		blocks = change(blocks, []string{p.id})
	}
	require.Empty(t, blocks)
	require.Greater(t, found, 200, "the comparison compared next to nothing")
	require.Positive(t, shared, "no word was common")
}

// FuzzPairs: the pairs of a text rule out no word that is in it.
func FuzzPairs(f *testing.F) {
	f.Add("aab", "ab")
	f.Add("x", "x")
	f.Add("straße\nö", "ße\nö")
	f.Fuzz(func(t *testing.T, before, word string) {
		var of pairs
		of.add(200, before+word+before)
		s := first(blockEntries)
		of.within(&s, word)
		require.True(t, s.has(200), "%q in %q", word, before)
	})
}

// BenchmarkWalk measures what a list's walk through 100,000 credentials costs. The texts are those of internal/bench, and texts of which most words
// are in no other.
func BenchmarkWalk(b *testing.B) {
	const n = 100_000
	rng := rand.New(rand.NewPCG(1, 2))
	texts := map[string]func(i int) Meta{
		"alike": func(i int) Meta {
			return Meta{Name: fmt.Sprintf("grown-%06d", i), Provider: "anthropic", BaseURL: "https://127.0.0.1:43210", Tags: []string{"group-" + strconv.Itoa(i%100)},
				Owner: "owner-" + strconv.Itoa(i%2), ClientID: "client-" + strconv.Itoa(i%1000), ServiceID: "service-" + strconv.Itoa(2*i/n),
				PluginName: fmt.Sprintf("plugin-%06d", i), Description: "stored to measure with, used by nobody; half of them expire soon"}
		},
		"varied": func(i int) Meta {
			m := Meta{Name: fmt.Sprintf("grown-%06d", i), Owner: "owner-" + strconv.Itoa(i%2)}
			for range 12 {
				m.Description += " " + strconv.FormatUint(rng.Uint64N(1<<40), 36)
			}
			return m
		},
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		catalog := benchCatalog(n, texts[name])
		for _, kind := range []struct {
			name string
			Filter
		}{
			{"one", Filter{Q: "grown-099999"}}, {"all, last page", Filter{Q: "grown", Skip: n - 100}}, {"all by a common word, last page", Filter{Q: "nobody", Skip: n - 100}},
			{"half", Filter{Q: "service-1"}}, {"none", Filter{Q: "nothing"}}, {"two letters", Filter{Q: "zz"}}, {"three words", Filter{Q: "grown owner-1 777"}},
			{"last page", Filter{Skip: n - 100}}, {"owner, last page", Filter{Owner: "owner-1", Skip: n/2 - 100}},
		} {
			b.Run(name+"/"+kind.name, func(b *testing.B) {
				for b.Loop() {
					kind.walk(catalog, "", time.Now()).next(101)
				}
			})
		}
	}
}

func benchCatalog(n int, draw func(i int) Meta) []*block {
	var records []record
	for i := range n {
		m := draw(i)
		s := stored{Credential: Credential{Type: APIKey, Meta: m}}
		r := record{entry{id: fmt.Sprintf("cred_%026d", i), expires: never}, strings.Fields(s.searchText())}
		for i, x := range (Filter{Type: s.Type, Provider: m.Provider, ClientID: m.ClientID, ServiceID: m.ServiceID, Owner: m.Owner, PluginName: m.PluginName}).exact() {
			r.exact[i] = unique.Make(x.value)
		}
		records = append(records, r)
	}
	return pack(records)
}
