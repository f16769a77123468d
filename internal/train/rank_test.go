package train_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/train"
)

// order is the order in which a train really lends its accounts when one after the other fails.
func (y *yard) order(slug string) []string {
	y.t.Helper()
	caller, _ := y.key(slug)
	var out []string
	l := y.lend(caller, want())
	for {
		out = append(out, sent(y.t, l))
		next, err := l.Next(y.t.Context(), train.Failure{Dial: true})
		if err != nil {
			require.ErrorIs(y.t, err, train.ErrNoOther)
			break
		}
		l = next
	}
	y.clock.Add(coolestMinute)
	return out
}

// TestHashOrder compares with what `printf 'web::alpha' | sha256sum` prints. The first digits of some are above 7f, so a signed number
// would order them otherwise.
func TestHashOrder(t *testing.T) {
	vectors := map[string]map[string]string{
		"web": {"alpha": "24c4a4ef00b496e7", "beta": "741d22e5ca933a7d", "gamma": "4660d5c9ab83f636", "team alpha": "9328b9aee1195ae1", "Größe": "969d16bb98eda75f"},
		"data-science-2": {"alpha": "4b65d60d156abe75", "beta": "6d70579cd938decc", "gamma": "55429ceaf1c24057", "team alpha": "d73b87b2e85dec45",
			"Größe": "74fdbd042cbe3f96"},
	}
	orders := map[string][]string{
		"web":            {"Größe", "team alpha", "beta", "gamma", "alpha"},
		"data-science-2": {"team alpha", "Größe", "beta", "gamma", "alpha"},
	}
	each(t, func(t *testing.T, y *yard) {
		ids := []string{}
		for _, name := range []string{"alpha", "beta", "gamma", "team alpha", "Größe"} {
			ids = append(ids, y.account(name))
		}
		for slug, order := range orders {
			y.train(slug, train.Hash)
			for _, id := range ids {
				y.link(slug, id)
			}
			e, err := y.Explain(t.Context(), y.admin, slug)
			require.NoError(t, err)
			require.Len(t, e.Accounts, len(order))
			for i, a := range e.Accounts {
				require.Equal(t, order[i], a.Name, slug)
				require.Equal(t, i+1, a.Rank)
				require.Contains(t, a.Order, vectors[slug][a.Name])
				require.Equal(t, i == 0, a.Chosen)
			}
			require.Equal(t, order, y.order(slug))
		}
	})
}

func TestPriorityOrder(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Priority)
		alpha := y.account("alpha")
		y.linkAt("web", alpha, 20)
		y.linkAt("web", y.account("team alpha"), 20)
		y.linkAt("web", y.account("gamma"), 3)
		y.link("web", y.account("beta")) // 100
		// Equal priorities are in hash order: "team alpha" before "alpha", see the vectors above.
		require.Equal(t, []string{"gamma", "team alpha", "alpha", "beta"}, y.order("web"))
		_, err := y.Relink(t.Context(), y.admin, "web", "alpha", train.LinkPatch{Priority: ptr(1)})
		require.NoError(t, err)
		require.Equal(t, []string{"alpha", "gamma", "team alpha", "beta"}, y.order("web"))
		_, err = y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Strategy: ptr(train.Hash)}, "")
		require.NoError(t, err)
		require.Equal(t, []string{"team alpha", "beta", "gamma", "alpha"}, y.order("web"))
	})
}
