package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

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

// TestLimitsOfAPersonInABrowser: they are set on the person's page, with the proof that every change of a person needs; with scripts one that became too
// old while one typed is asked for over the form. What is wrong is said beside its field, and who changes nothing else changes nothing else.
func TestLimitsOfAPersonInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		u, _, err := s.rooms.CreateUser(s.Context(), boss, identity.UserDraft{Email: "mia@example.com", Name: "Mia", Role: identity.Operator})
		require.NoError(s, err)
		here := "/people/" + u.ID
		b := s.window(scripts)
		b.signInHere(here)
		require.Contains(b, b.js(`document.querySelector("#limit-list").textContent`), "Nothing is limited.")
		b.click(`#limit-list .empty a`)
		b.until(`document.querySelector('form[action="` + here + `/limits"]')`)
		b.inspect("person-limits-form")
		b.submit(here+"/limits", "monthly_tokens", "5000000", "monthly_cost_usd", "free")
		b.until(`document.querySelector("#monthly_cost_usd-error")`)
		require.Equal(b, "5000000", b.js(`document.querySelector("#monthly_tokens").value`), "what was typed stays")
		if scripts {
			s.age()
			b.submit(here+"/limits", "monthly_cost_usd", "12.5", "models", "claude-*", "max_tokens", "8192")
			b.until(`document.querySelector("#proof[open] #proof-password")`)
			b.submitIn(`#proof form[action="/step-up"]`, "password", planted)
		} else {
			b.submit(here+"/limits", "monthly_cost_usd", "12.5", "models", "claude-*", "max_tokens", "8192")
		}
		b.until(`location.search === "?done=limited"`)
		for _, want := range []string{"5,000,000 tokens a month", "12.500000 US dollars a month", "max_tokens of at most 8,192", "models: claude-*"} {
			require.Contains(b, b.js(`document.querySelector("#limit-list").textContent`), want)
		}
		cells := func(row string) string {
			return b.js(`[...document.querySelector("#limit-list tbody tr:nth-child(` + row + `)").cells].slice(1).map((c) => c.textContent.trim()).join("|")`)
		}
		require.Equal(b, "0|—", cells("1"))
		require.Equal(b, "—|—", cells("3"))
		state, err := quota.Decode(nil)
		require.NoError(s, err)
		state.Begin(time.Now(), 4_500_000, 12_500_000)
		require.NoError(s, s.db.Bookkeep(s.Context(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO quota_counts (subject, state, at) VALUES ($1, $2, $3)`, u.ID, state.Encode(), store.TimeOf(time.Now()))
			return err
		}))
		b.open(here)
		require.Regexp(b, `^4,500,000\|in .+`, cells("1"), "nine tenths")
		require.Regexp(b, `^12.500000, all of it\|in .+`, cells("2"))
		b.inspect("person-limits")
		got, err := s.rooms.User(s.Context(), boss, u.ID)
		require.NoError(s, err)
		require.JSONEq(s, `{"monthly_tokens":5000000,"monthly_cost_usd":12500000,"max_tokens":8192,"models":["claude-*"]}`, got.Limits.Text())
		require.Equal(s, []any{u.Email, u.Name, u.Role, u.Active}, []any{got.Email, got.Name, got.Role, got.Active})
		b.click(`#limits .acts a`)
		b.until(`document.querySelector('form[action="` + here + `/limits"]')`)
		b.submit(here+"/limits", "monthly_tokens", "", "monthly_cost_usd", "", "models", "", "max_tokens", "")
		b.until(`location.search === "?done=limited" && document.querySelector("#limit-list .empty")`)
	})
}

// TestLimitsOfAPersonNeedAProof: an old proof sets no limits, a form that somebody else has gone before is shown again, and people see their own limits.
func TestLimitsOfAPersonNeedAProof(t *testing.T) {
	each(t, func(s *site) {
		boss1 := s.administrator()
		member := s.person(identity.Member)
		here := "/people/" + s.me(member)
		form := s.form(boss1, here+"/limits", "requests_per_day", "77", "if_match", fields(s.do("GET", here+"/limits", nil, "Cookie", boss1).text)["if_match"])
		require.NotEmpty(s, form.Get("if_match"))
		s.age()
		a := s.do("POST", here+"/limits", form, "Cookie", boss1)
		require.Equal(s, http.StatusSeeOther, a.StatusCode, a.text)
		require.Equal(s, "/step-up?next="+url.QueryEscape(here+"/limits"), a.Header.Get("Location"))
		a = s.do("GET", here+"/limits", nil, "Cookie", boss1)
		require.Equal(s, http.StatusSeeOther, a.StatusCode, "the form is not served without a fresh proof")
		s.prove(10 * time.Minute)
		got, err := s.rooms.User(s.Context(), boss, s.me(member))
		require.NoError(s, err)
		require.Nil(s, got.Limits)
		require.Equal(s, here+"?done=limited", s.do("POST", here+"/limits", form, "Cookie", boss1).Header.Get("Location"))
		form.Set("requests_per_day", "78")
		form.Set("requests_per_hour", "5")
		stale := s.do("POST", here+"/limits", form, "Cookie", boss1)
		require.Equal(s, http.StatusPreconditionFailed, stale.StatusCode, stale.text)
		s.showsWhatIs(stale.text, map[string]string{"requests_per_day": "77", "requests_per_hour": ""})
		mine := s.do("GET", here, nil, "Cookie", member)
		require.Contains(s, mine.text, "77 requests a day")
		require.NotContains(s, mine.text, here+"/limits")
		require.Equal(s, http.StatusForbidden, s.do("POST", here+"/limits", url.Values{"form": s.form(member, "/account")["form"], "requests_per_day": {""}}, "Cookie", member).StatusCode)
	})
}

// showsWhatIs: a form that somebody else has gone before has what is in force, and not what was typed, which with the new condition would undo that at a second click.
func (s *site) showsWhatIs(page string, want map[string]string) {
	s.Helper()
	for name, value := range want {
		require.Equal(s, value, fields(page)[name], name)
	}
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
				} else if role == identity.Member && path == of { // which train
					want = http.StatusNotFound
				}
				require.Equal(s, want, s.do("GET", path, nil, "Cookie", cookie).StatusCode, "%s %s", role, path)
				a := s.do("POST", path, url.Values{"form": form["form"], "requests_per_day": {"77"}}, "Cookie", cookie)
				if may.write {
					require.NotEqual(s, http.StatusForbidden, a.StatusCode, "%s %s", role, path)
				} else {
					require.Equal(s, want, a.StatusCode, "%s %s", role, path)
				}
				require.Equal(s, http.StatusForbidden, s.do("POST", path, url.Values{}, "Cookie", cookie).StatusCode, "without the form's token")
			}
			stale := s.do("POST", "/trains/web/limits", url.Values{"form": form["form"], "if_match": {`"0-0"`}, "requests_per_day": {"1"}}, "Cookie", cookie)
			require.GreaterOrEqual(s, stale.StatusCode, 400, role)
			if may.write {
				require.Equal(s, http.StatusPreconditionFailed, stale.StatusCode, stale.text)
				s.showsWhatIs(stale.text, map[string]string{"requests_per_day": "77"})
				stale = s.do("POST", of, url.Values{"form": form["form"], "if_match": {`"0-0"`}, "requests_per_day": {"1"}}, "Cookie", cookie)
				require.Equal(s, http.StatusPreconditionFailed, stale.StatusCode, stale.text)
				s.showsWhatIs(stale.text, map[string]string{"requests_per_day": "77"})
			}
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
