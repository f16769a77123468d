package train_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// tool stores a credential that is no account, at tool.example, and links it under an alias.
func (y *yard) tool(alias string, d vault.Draft) string {
	y.t.Helper()
	if d.Type == "" {
		d.Type, d.Secrets = vault.JWT, secrets("token", planted)
	}
	if d.Name == "" {
		d.Name = "tool"
	}
	d.BaseURL = "https://tool.example/api"
	c, err := y.vault.Create(context.Background(), y.admin, d)
	require.NoError(y.t, err)
	_, _, err = y.Link(context.Background(), y.admin, "web", train.LinkDraft{Credential: c.ID, Alias: &alias})
	require.NoError(y.t, err)
	return c.ID
}

func use(alias, below string) train.Want {
	return train.Want{Method: http.MethodGet, Path: "/use", Use: alias, Below: below}
}

// TestUseIsBoundToItsBase: what is lent goes below the base URL and nowhere else, not even on its host.
func TestUseIsBoundToItsBase(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Priority)
		y.tool("tool", vault.Draft{})
		caller, _ := y.key("web")
		l := y.lend(caller, use("tool", "/x"))
		defer l.Done(train.Outcome{Result: train.OK})
		for _, target := range []string{"https://tool.example/", "https://tool.example/apix", "https://tool.example/other", "http://tool.example/api/x", "https://tool.example:444/api/x", "https://evil.example/api/x", "https://u@tool.example/api/x"} {
			req := request(t, target)
			requireFault(t, "host_not_bound", l.Apply(req))
			require.NotContains(t, req.Header.Get("Authorization"), planted)
		}
		req := request(t, "https://tool.example/api/x?y=1")
		req.Header.Set("X-Api-Key", "the caller's")
		require.NoError(t, l.Apply(req))
		require.Equal(t, "Bearer "+planted, req.Header.Get("Authorization"))
		require.Empty(t, req.Header.Get("X-Api-Key"))
		look, err := l.Scrubber()
		require.NoError(t, err)
		require.NotContains(t, look.String("x"+planted), planted)
		again, err := l.Scrubber()
		require.NoError(t, err)
		require.Same(t, look, again, "one for a version of a credential")
	})
}

// TestUseFindsWhatItNames: an alias before an id before a name, and never one of two.
func TestUseFindsWhatItNames(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Priority)
		first := y.tool("one", vault.Draft{Meta: vault.Meta{Name: "same"}})
		second := y.tool("two", vault.Draft{Meta: vault.Meta{Name: "same"}})
		third := y.tool("three", vault.Draft{Meta: vault.Meta{Name: "one"}})
		caller, _ := y.key("web")
		for name, want := range map[string]string{"one": first, "two": second, first: first, "three": third, third: third} {
			l := y.lend(caller, use(name, "/x"))
			require.Equal(t, want, l.CredentialID(), name)
			l.Done(train.Outcome{Result: train.OK})
		}
		for _, name := range []string{"same", "nothing", "", "ONE"} {
			_, err := y.Lend(t.Context(), caller, use(name, "/x"))
			require.Error(t, err, name)
		}
	})
}

// TestUseIsHeldAndLimited: what is paused is not lent, an LLM account only where somebody said which paths, and not past limits on tokens.
func TestUseIsHeldAndLimited(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Priority)
		id := y.tool("tool", vault.Draft{})
		account := y.account("alpha")
		y.linkAt("web", account, 1)
		caller, _ := y.key("web")
		_, err := y.Lend(t.Context(), caller, use(account, "/v1/organizations"))
		requireFault(t, "not_lendable", err)
		_, err = y.vault.Update(t.Context(), y.admin, account, vault.Patch{Paths: vault.To([]string{"/v1/**"})}, "")
		require.NoError(t, err)
		require.NoError(t, y.db.CatchUp(t.Context()))
		y.lend(caller, use(account, "/v1/organizations")).Done(train.Outcome{Result: train.OK})
		_, err = y.Lend(t.Context(), caller, use(account, "/v1/messages"))
		requireFault(t, "path_denied", err)
		_, err = y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Limits: &quota.Patch{Set: map[quota.Kind]int64{quota.TokensPerDay: 5}}}, "")
		require.NoError(t, err)
		require.NoError(t, y.db.CatchUp(t.Context()))
		_, err = y.Lend(t.Context(), caller, use(account, "/v1/organizations"))
		requireFault(t, "model_denied", err)
		running := y.lend(caller, use("tool", "/x"))
		_, err = y.vault.Update(t.Context(), y.admin, id, vault.Patch{State: vault.To(vault.Disabled)}, "")
		require.NoError(t, err)
		require.NoError(t, y.db.CatchUp(t.Context()))
		<-running.Context().Done()
		running.Done(train.Outcome{Result: train.OK})
		_, err = y.Lend(t.Context(), caller, use("tool", "/x"))
		requireFault(t, "not_lendable", err)
	})
}

// TestARefusedTokenIsRenewedOnce: a 401 under /use brings one refresh and one more lease; no account rests, and where there is no fresh token the lease stays as it is.
func TestARefusedTokenIsRenewedOnce(t *testing.T) {
	refreshing(t, func(t *testing.T, y *yard, f *refresher, id string) {
		_, err := y.vault.Update(t.Context(), y.admin, id, vault.Patch{Paths: vault.To([]string{"/api/**"})}, "")
		require.NoError(t, err)
		require.NoError(t, y.db.CatchUp(t.Context()))
		caller, _ := y.key("web")
		l := y.lend(caller, use("alpha", "/api/x"))
		f.fails(fault.New(fault.Unavailable, "refresh_failed", "not now"))
		next, err := l.Renew(t.Context())
		require.NoError(t, err)
		require.Nil(t, next)
		require.NoError(t, l.Context().Err(), "its answer can be passed on")
		require.Equal(t, []oauth.Why{oauth.Denied}, f.asked())
		f.fails(nil)
		next, err = l.Renew(t.Context())
		require.NoError(t, err)
		require.NotNil(t, next)
		require.Equal(t, 2, next.Attempt())
		require.Error(t, l.Context().Err())
		req := request(t, "https://api.anthropic.com/api/x")
		require.NoError(t, next.Apply(req))
		require.Equal(t, "Bearer at-fresh-"+planted, req.Header.Get("Authorization"))
		again, err := next.Renew(t.Context())
		require.NoError(t, err)
		require.Nil(t, again, "once a request")
		next.Done(train.Outcome{Result: train.UpstreamError, Status: 401})
		e, err := y.Explain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		require.Equal(t, train.Usable, e.Accounts[0].State)
		require.Eventually(t, func() bool {
			var n int
			require.NoError(t, y.db.Read(context.Background(), func(tx *store.Tx) error {
				return tx.Get(&n, `SELECT COUNT(*) FROM cool_downs`)
			}))
			return n == 0
		}, time.Second, 10*time.Millisecond)
	})
}
