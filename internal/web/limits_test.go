package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

// TestLimitsInABrowser: limits of a train and of a client key are set, mended and taken away, with scripts and without.
func TestLimitsInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web", Name: "Web"})
		require.NoError(s, err)
		key, _, err := s.trains.IssueKey(s.Context(), boss, "web", identity.KeyDraft{Name: "laptop"})
		require.NoError(s, err)
		b := s.window(scripts)
		b.signInHere("/trains/web")
		require.Contains(b, b.text(), "Nothing is limited.")
		b.click(`#limit-list .empty a`)
		b.until(`document.querySelector('form[action="/trains/web/limits"]')`)
		b.inspect("limits-form")
		b.submit("/trains/web/limits", "requests_per_minute", "60", "monthly_cost_usd", "12.5000001")
		b.until(`document.querySelector("#monthly_cost_usd-error")`)
		require.Equal(b, "60", b.js(`document.querySelector("#requests_per_minute").value`), "what was typed stays")
		b.js(`scrollTo(0, 0); ""`) // the field with the error was scrolled to
		b.inspect("limits-error")
		b.submit("/trains/web/limits", "monthly_cost_usd", "12.5", "models", "claude-*, other-1", "max_tokens", "8192")
		b.until(`location.search === "?done=limited"`)
		require.Equal(b, "4", b.js(`String(document.querySelectorAll("#limit-list tbody tr").length)`))
		for _, want := range []string{"60 requests a minute", "12.500000 US dollars a month", "max_tokens of at most 8,192", "models: claude-*, other-1"} {
			require.Contains(b, b.text(), want)
		}
		b.inspect("limits")
		got, err := s.trains.GetTrain(s.Context(), boss, "web")
		require.NoError(s, err)
		require.JSONEq(s, `{"requests_per_minute":60,"monthly_cost_usd":12500000,"max_tokens":8192,"models":["claude-*","other-1"]}`, got.Limits.Text())

		b.click(`#key-list a[href$="/limits"]`)
		path := "/trains/web/keys/" + key.ID + "/limits"
		b.until(`document.querySelector('form[action="` + path + `"]')`)
		b.submit(path, "models", "a*b")
		b.until(`document.querySelector("#models-error")`)
		b.submit(path, "models", "", "concurrent_streams", "3")
		b.until(`location.search === "?done=limited"`)
		k, err := s.trains.GetKey(s.Context(), boss, "web", key.ID)
		require.NoError(s, err)
		require.JSONEq(s, `{"concurrent_streams":3}`, k.Limits.Text())
		require.Contains(b, b.js(`document.querySelector("#key-list tbody").textContent`), "limited")
	})
}

// TestLimitPagesByRole: who may not change a train sees its limits and no form; and forced, the change is refused.
func TestLimitPagesByRole(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web", Limits: &quota.Patch{Set: map[quota.Kind]int64{quota.RequestsPerDay: 77}}})
		require.NoError(s, err)
		key, _, err := s.trains.IssueKey(s.Context(), boss, "web", identity.KeyDraft{Name: "laptop"})
		require.NoError(s, err)
		of := "/trains/web/keys/" + key.ID + "/limits"
		for role, may := range map[identity.Role]struct{ read, write bool }{
			identity.Administrator: {true, true}, identity.Operator: {true, true}, identity.Auditor: {true, false}, identity.Member: {false, false},
		} {
			cookie := s.person(role)
			page := s.do("GET", "/trains/web", nil, "Cookie", cookie)
			require.Equal(s, may.read, strings.Contains(page.text, "77 requests a day"), role)
			require.Equal(s, may.write, strings.Contains(page.text, `href="/trains/web/limits"`), role)
			require.Equal(s, may.write, strings.Contains(page.text, `href="`+of+`"`), role)
			form := s.form(cookie, "/account")
			for _, path := range []string{"/trains/web/limits", of} {
				want := http.StatusForbidden
				if may.write {
					want = http.StatusOK
				}
				require.Equal(s, want, s.do("GET", path, nil, "Cookie", cookie).StatusCode, "%s %s", role, path)
				a := s.do("POST", path, url.Values{"form": form["form"], "requests_per_day": {"77"}}, "Cookie", cookie)
				require.Equal(s, !may.write, a.StatusCode == http.StatusForbidden, "%s %s %d", role, path, a.StatusCode)
				require.Equal(s, http.StatusForbidden, s.do("POST", path, url.Values{}, "Cookie", cookie).StatusCode, "without the form's token")
			}
			stale := s.do("POST", "/trains/web/limits", url.Values{"form": form["form"], "if_match": {`"0-0"`}, "requests_per_day": {"1"}}, "Cookie", cookie)
			require.GreaterOrEqual(s, stale.StatusCode, 400, role)
			got, err := s.trains.GetTrain(s.Context(), boss, "web")
			require.NoError(s, err)
			require.JSONEq(s, `{"requests_per_day":77}`, got.Limits.Text(), role)
		}
	})
}

// TestTheFormKeepsWhatItDoesNotKnow: a limit of a newer version goes on to deny after somebody of this one has set others, and those that were left empty are gone.
func TestTheFormKeepsWhatItDoesNotKnow(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		made, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
		require.NoError(s, err)
		key, _, err := s.trains.IssueKey(s.Context(), boss, "web", identity.KeyDraft{Name: "laptop"})
		require.NoError(s, err)
		const newer = `{"models":["claude-*"],"requests_per_day":77,"requests_per_week":5}`
		require.NoError(s, s.db.Bookkeep(s.Context(), store.Cursor, func(tx *store.Tx) error {
			tx.Change(store.TopicTrain, made.ID)
			tx.Change(store.TopicKey, key.ID)
			_, err := tx.Exec(`UPDATE trains SET limits = $1`, newer)
			if err == nil {
				_, err = tx.Exec(`UPDATE client_keys SET limits = $1`, newer)
			}
			return err
		}))
		cookie := s.person(identity.Operator)
		form := s.form(cookie, "/account")
		for _, path := range []string{"/trains/web/limits", "/trains/web/keys/" + key.ID + "/limits"} {
			a := s.do("POST", path, url.Values{"form": form["form"], "requests_per_minute": {"9"}, "requests_per_day": {""}}, "Cookie", cookie)
			require.Equal(s, http.StatusSeeOther, a.StatusCode, a.text)
		}
		got, err := s.trains.GetTrain(s.Context(), boss, "web")
		require.NoError(s, err)
		require.JSONEq(s, `{"requests_per_minute":9,"requests_per_week":5}`, got.Limits.Text())
		k, err := s.trains.GetKey(s.Context(), boss, "web", key.ID)
		require.NoError(s, err)
		require.JSONEq(s, `{"requests_per_minute":9,"requests_per_week":5}`, k.Limits.Text())
	})
}
