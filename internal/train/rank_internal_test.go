package train

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/vault"
)

// TestTiesGoByName: two accounts with the same hash cannot be made on purpose, so the numbers are set.
func TestTiesGoByName(t *testing.T) {
	at := func(name, id string, score uint64, priority int) rung {
		return rung{account: newAccount(vault.Material{ID: id, Name: name}, nil, nil), score: score, priority: priority}
	}
	names := func(rungs []rung) (out string) {
		for _, g := range rungs {
			out += g.account.name + g.account.id + " "
		}
		return out
	}
	rungs := []rung{at("b", "2", 7, 1), at("b", "1", 7, 1), at("a", "3", 7, 2), at("c", "4", 1<<63, 2)}
	rank(Hash, rungs)
	require.Equal(t, "c4 a3 b1 b2 ", names(rungs))
	rank(Priority, rungs)
	require.Equal(t, "b1 b2 c4 a3 ", names(rungs))
	require.Equal(t, uint64(0xa5472df05242ea82), score("Ü", "alpha"))
}

func TestBetas(t *testing.T) {
	for _, c := range []struct {
		sent []string
		want string
	}{
		{nil, "oauth-2025-04-20"},
		{[]string{""}, "oauth-2025-04-20"},
		{[]string{"a-1"}, "oauth-2025-04-20,a-1"},
		{[]string{"a-1, b-2,a-1", " b-2 ,c-3", ","}, "oauth-2025-04-20,a-1,b-2,c-3"},
		{[]string{"b-2,oauth-2025-04-20", "a-1"}, "oauth-2025-04-20,b-2,a-1"},
	} {
		require.Equal(t, []string{c.want}, betas(c.sent))
	}
}

// TestTheLastCheckStandsAlone: the vault stores no base URL beside hosts without it; the last check must not rely on that.
func TestTheLastCheckStandsAlone(t *testing.T) {
	base := &url.URL{Scheme: "https", Host: "api.anthropic.com"}
	astray := newAccount(vault.Material{ID: "1", Name: "astray", BaseURL: base, Hosts: []string{"relay.example.com"}}, nil, nil)
	require.False(t, astray.boundTo(&http.Request{URL: base}))
	require.True(t, astray.boundTo(&http.Request{URL: &url.URL{Scheme: "https", Host: "relay.example.com"}}))
}
