package web_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
)

// TestWindowsAppearByThemselves: what an upstream says of an account's limits is seen on open pages within seconds, with when it begins anew, and who may not
// read trains does not see it.
func TestWindowsAppearByThemselves(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web", Strategy: train.LeastLoaded})
		require.NoError(s, err)
		ids := map[string]string{}
		for _, name := range []string{"alpha", "beta"} {
			ids[name] = s.account(name).ID
			_, _, err = s.trains.Link(s.Context(), boss, "web", train.LinkDraft{Credential: ids[name]})
			require.NoError(s, err)
		}
		_, key, err := s.trains.IssueKey(s.Context(), boss, "web", identity.KeyDraft{Name: "laptop"})
		require.NoError(s, err)
		agent, err := s.rooms.Client(key.Reveal())
		require.NoError(s, err)
		b := s.window(true)
		b.signInHere("/trains/web")
		b.until(`document.querySelector("#windows")`)
		require.Contains(b, b.text(), "No upstream has said yet how far a limit is used")
		require.Contains(b, b.text(), "the least used")

		say := func(account string, used float64) {
			s.Helper()
			lease, err := s.trains.Lend(s.Context(), agent, train.Want{Method: http.MethodPost, Path: "/v1/messages", Model: "m", Account: account, Session: "talk"})
			require.NoError(s, err)
			h := http.Header{}
			h.Set("anthropic-ratelimit-unified-5h-utilization", fmt.Sprint(used))
			h.Set("anthropic-ratelimit-unified-5h-reset", fmt.Sprint(time.Now().Add(150*time.Minute).Unix()))
			h.Set("anthropic-ratelimit-unified-7d_sonnet-utilization", "0.3")
			lease.Heard(http.StatusOK, h)
			lease.Done(train.Outcome{Result: train.OK, Status: 200})
		}
		say("alpha", 0.42)
		b.until(`document.querySelectorAll("#windows tbody tr").length === 2`)
		require.Contains(b, b.text(), "alpha, five hours")
		require.Contains(b, b.text(), "42 %")
		require.Contains(b, b.text(), "in 2 hours")
		require.Equal(b, "Used of alpha, five hours", b.js(`document.querySelector("#windows meter").getAttribute("aria-label")`))
		say("alpha", 0.97)
		b.until(`document.querySelector("#windows .badge.warn")?.textContent.includes("97 %")`)
		b.until(`document.querySelector("#accounts tbody tr:last-child").textContent.includes("alpha")`)
		require.Contains(b, b.text(), "its window 5h is used to 97 %, and from 90 % on others go first")
		b.inspect("train-windows")

		b.open("/accounts")
		b.until(`document.querySelector("#llm-accounts .badge.warn")?.textContent.includes("97 %")`)
		require.Contains(b, b.text(), "five hours, anew in 2 hours")
		b.inspect("accounts-windows")
		b.open("/accounts/" + ids["alpha"])
		b.until(`document.querySelectorAll("#windows tbody tr").length === 2`)
		b.inspect("account-windows")

		member := s.person(identity.Member)
		require.NotContains(s, s.do("GET", "/accounts", nil, "Cookie", member).text, "97 %")
		require.Equal(s, http.StatusBadRequest, s.do("GET", "/live?topics=windows", nil, "Cookie", member).StatusCode)
	})
}
