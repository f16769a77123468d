package demo_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
)

// authority serves one and returns it with the address of its token endpoint.
func authority(t *testing.T, o demo.AuthorityOptions) (*demo.Authority, string) {
	t.Helper()
	a := demo.NewAuthority(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- a.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, a.Close(context.Background()))
		require.NoError(t, <-served)
	})
	return a, "http://" + l.Addr().String() + "/token"
}

type pair struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Life    int    `json:"expires_in"`
	Error   string `json:"error"`
}

func refresh(ctx context.Context, address, token string) (status int, p pair, err error) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, p, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, p, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, p, err
	}
	return resp.StatusCode, p, json.Unmarshal(text, &p)
}

func TestAuthorityRotatesAndPunishes(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	alive := map[string]time.Time{}
	a, address := authority(t, demo.AuthorityOptions{
		Lifetime: time.Minute, Clock: func() time.Time { return now },
		Issued: func(access secret.Value, until time.Time) { alive[access.Reveal()] = until }, Withdrawn: func(access secret.Value) { delete(alive, access.Reveal()) },
	})
	n, first := a.Login(demo.Treatment{Name: "plain"})
	require.Equal(t, now.Add(time.Minute), first.Until)
	require.Len(t, alive, 1)
	status, second, err := refresh(t.Context(), address, first.Refresh.Reveal())
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Equal(t, 60, second.Life)
	require.NotEqual(t, first.Refresh.Reveal(), second.Refresh)
	require.Len(t, alive, 2)
	require.Equal(t, demo.GrantRecord{Name: "plain", Calls: 1, Refreshes: 1, Delivered: 1, Generation: 1, Until: now.Add(time.Minute)}, a.Record(n))

	status, refused, err := refresh(t.Context(), address, first.Refresh.Reveal())
	require.NoError(t, err)
	require.Equal(t, 400, status)
	require.Equal(t, "invalid_grant", refused.Error)
	require.True(t, a.Record(n).Lost)
	require.Equal(t, 1, a.Record(n).Reuses)
	require.Empty(t, alive, "the access tokens end as well")
	_, refused, err = refresh(t.Context(), address, second.Refresh)
	require.NoError(t, err)
	require.Equal(t, "invalid_grant", refused.Error, "and so does what was right")

	// A grace forgives a second use in time, but not one of a token whose successor was used, nor what the second use replaced.
	graced := func() (int, string, pair, pair) {
		n, first := a.Login(demo.Treatment{Name: "graced", Grace: 10 * time.Second})
		_, second, err := refresh(t.Context(), address, first.Refresh.Reveal())
		require.NoError(t, err)
		now = now.Add(9 * time.Second)
		status, third, err := refresh(t.Context(), address, first.Refresh.Reveal())
		require.NoError(t, err)
		require.Equal(t, 200, status)
		require.Equal(t, 1, a.Record(n).Graced)
		require.False(t, a.Record(n).Lost)
		return n, first.Refresh.Reveal(), second, third
	}
	for name, misuse := range map[string]func(first string, second, third pair) string{
		"late":     func(first string, _, _ pair) string { now = now.Add(2 * time.Second); return first },
		"replaced": func(_ string, second, _ pair) string { return second.Refresh },
		"gone over": func(first string, _, third pair) string {
			_, _, _ = refresh(t.Context(), address, third.Refresh)
			return first
		},
	} {
		n, first, second, third := graced()
		status, _, err := refresh(t.Context(), address, misuse(first, second, third))
		require.NoError(t, err, name)
		require.Equal(t, 400, status, name)
		require.True(t, a.Record(n).Lost, name)
	}
}

// TestAuthorityTakesTheGrantOfNaiveCallers: sixteen at once lose every one of fifty grants.
func TestAuthorityTakesTheGrantOfNaiveCallers(t *testing.T) {
	a, address := authority(t, demo.AuthorityOptions{})
	for range 50 {
		n, tokens := a.Login(demo.Treatment{})
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() { _, _, _ = refresh(t.Context(), address, tokens.Refresh.Reveal()) })
		}
		wg.Wait()
		require.Equal(t, demo.GrantRecord{Calls: 16, Refreshes: 1, Delivered: 1, Retries: 15, Reuses: 15, Lost: true, Generation: 1, Until: a.Record(n).Until}, a.Record(n))
	}
}

func TestAuthorityMakesMischief(t *testing.T) {
	a, address := authority(t, demo.AuthorityOptions{})
	for _, m := range demo.Mischiefs() {
		n, tokens := a.Login(demo.Treatment{Mischief: m, Every: 1, Grace: time.Minute})
		token := tokens.Refresh.Reveal()
		for range 3 {
			before := a.Record(n)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			status, got, err := refresh(ctx, address, token)
			cancel()
			after := strings.HasSuffix(string(m), "-after")
			what := fmt.Sprintf("%s: %d %v", m, status, err)
			require.Empty(t, got.Refresh, what)
			require.Equal(t, m == demo.Limited, err == nil, what)
			switch m {
			case demo.Busy:
				require.Equal(t, 503, status)
			case demo.Limited:
				require.Equal(t, 429, status)
			case demo.GarbageAfter, demo.CutAfter:
				require.Equal(t, 200, status)
			case demo.HangAfter, demo.HangBefore:
				require.ErrorIs(t, err, context.DeadlineExceeded, what)
			default:
				require.Zero(t, status)
			}
			require.Equal(t, after, a.Record(n).Refreshes > before.Refreshes, what)
			status, got, err = refresh(t.Context(), address, token)
			require.NoError(t, err, what)
			require.Equal(t, 200, status, what)
			require.Equal(t, before.Struck+1, a.Record(n).Struck)
			require.Equal(t, after, a.Record(n).Graced > before.Graced, what)
			token = got.Refresh
		}
		require.False(t, a.Record(n).Lost, m)
	}
}

// TestAuthorityIsDeterministic: the same seed strikes the same generations, one in every four; another seed others.
func TestAuthorityIsDeterministic(t *testing.T) {
	struck := func(seed uint64) (out string) {
		a, address := authority(t, demo.AuthorityOptions{Seed: seed})
		for range 3 {
			n, tokens := a.Login(demo.Treatment{Mischief: demo.Busy, Every: 4})
			token := tokens.Refresh.Reveal()
			for range 20 {
				before := a.Record(n).Struck
				_, got, err := refresh(t.Context(), address, token)
				if err != nil {
					_, got, err = refresh(t.Context(), address, token)
					require.NoError(t, err)
				}
				out += fmt.Sprint(a.Record(n).Struck - before)
				token = got.Refresh
			}
			require.Equal(t, 5, a.Record(n).Struck)
			out += " "
		}
		return out
	}
	require.Equal(t, struck(7), struck(7))
	require.NotEqual(t, struck(7), struck(8))
	require.NotEqual(t, strings.Fields(struck(7))[0], strings.Fields(struck(7))[1])
}

// TestAccessTokensEnd: the fake upstream takes a token of the authority until its end.
func TestAccessTokensEnd(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	u := demo.NewUpstream(demo.Options{Clock: func() time.Time { return now }})
	server := httptest.NewServer(u)
	defer server.Close()
	a := demo.NewAuthority(demo.AuthorityOptions{Lifetime: time.Minute, Clock: func() time.Time { return now }, Issued: u.AddTokenUntil, Withdrawn: u.RemoveKey})
	_, tokens := a.Login(demo.Treatment{})
	ask := func() int {
		req, err := http.NewRequest(http.MethodPost, server.URL+"/v1/messages", strings.NewReader(`{"model":"claude-x","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}`))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+tokens.Access.Reveal())
		req.Header.Set("Anthropic-Version", "2023-06-01")
		req.Header.Set("Anthropic-Beta", "oauth-2025-04-20")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, 200, ask())
	now = now.Add(59 * time.Second)
	require.Equal(t, 200, ask())
	now = now.Add(time.Second)
	require.Equal(t, 401, ask())
}
