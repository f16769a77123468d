package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
)

// TestAPrivateTrainIsOnNoPage: no page, file or search that an operator finds names a private train that is not theirs, and its own pages are to them as those of one that there is not.
func TestAPrivateTrainIsOnNoPage(t *testing.T) {
	on(t, storetest.Engines()[0], func(s *site) {
		const slug, name, keyName = "planted-yard", "Planted Yard", "plantedlaptop"
		ctx := s.Context()
		w := &sown{site: s, cookie: s.administrator(), from: map[string]string{}}
		s.prove(time.Hour)
		s.seeded(w)
		ada := boss
		ada.ID, ada.UserID = s.me(w.cookie), s.me(w.cookie)
		made, err := s.trains.CreateTrain(ctx, ada, train.Draft{Slug: slug, Name: name, Visibility: identity.PrivateTrain})
		require.NoError(s, err)
		for _, on := range []struct{ train, account string }{{slug, s.account("team-hidden").ID}, {slug, s.account("team-shared").ID}, {"web", "team-shared"}} {
			_, _, err = s.trains.Link(ctx, ada, on.train, train.LinkDraft{Credential: on.account})
			require.NoError(s, err)
		}
		key, _, err := s.trains.IssueKey(ctx, ada, slug, identity.KeyDraft{Name: keyName})
		require.NoError(s, err)
		_, err = s.incidents.Open(ctx, ada, incident.Draft{Meta: incident.Meta{Title: "About " + slug, Description: keyName + " of " + slug}, Touch: incident.Touch{Trains: []string{slug}, ClientKeys: []string{key.ID}}})
		require.NoError(s, err)
		require.NoError(s, s.audit.Flush(ctx))

		var own []string
		found := 0
		s.walk(w.cookie, func(path string, a answer) {
			if strings.Contains(a.text, slug) {
				found++
			}
			if strings.HasPrefix(path, "/trains/"+slug) {
				own = append(own, path)
			}
		})
		require.Greater(s, found, 8, "the administrator finds it")
		require.Greater(s, len(own), 6)

		outside := s.person(identity.Operator)
		extra := []string{"/trains.csv", "/accounts.csv", "/credentials.csv", "/search?q=planted", "/trains?q=planted", "/incidents?q=planted", "/search?q=" + keyName, "/credentials?train_id=" + slug, "/credentials?train_id=" + made.ID}
		tell := func(path string, a answer) {
			for _, word := range []string{slug, name, keyName, made.ID} {
				if a.StatusCode == http.StatusNotFound || strings.Contains(path, word) && strings.Contains(path, "?") {
					continue // what one asks for is in the form of the page that answers
				}
				require.NotContains(s, a.text, word, "%s names a private train", path)
			}
		}
		pages := 0
		s.walk(outside, func(path string, a answer) { pages++; tell(path, a) })
		require.Greater(s, pages, 60)
		for _, path := range extra {
			tell(path, s.do("GET", path, nil, "Cookie", outside))
		}
		page := s.do("GET", "/accounts", nil, "Cookie", outside)
		require.Contains(s, page.text, "1 private train", "that there is one is said")

		plain := func(a answer, ref string) string { // but for what names the request
			return anyID.ReplaceAllString(liveMark.ReplaceAllString(formMark.ReplaceAllString(strings.ReplaceAll(a.text, ref, "TRAIN"), `$1"`), "$1>"), "{id}")
		}
		for _, path := range own {
			for _, ref := range []string{slug, made.ID} {
				there, none := strings.Replace(path, slug, ref, 1), strings.Replace(path, slug, "nowhere", 1)
				got, want := s.do("GET", there, nil, "Cookie", outside), s.do("GET", none, nil, "Cookie", outside)
				require.Equal(s, http.StatusNotFound, got.StatusCode, there)
				require.Equal(s, want.StatusCode, got.StatusCode, there)
				require.Equal(s, plain(want, "nowhere"), plain(got, ref), there)
			}
		}
		// A form that is sent to it as well.
		form := url.Values{"form": {s.form(outside, "/trains/~new").Get("form")}, "name": {"taken over"}}
		for _, act := range []string{"/edit", "/delete", "/link", "/keys", "/limits"} {
			got := s.do("POST", "/trains/"+slug+act, form, "Cookie", outside, "Origin", s.url, "Sec-Fetch-Site", "same-origin")
			want := s.do("POST", "/trains/nowhere"+act, form, "Cookie", outside, "Origin", s.url, "Sec-Fetch-Site", "same-origin")
			require.Equal(s, want.StatusCode, got.StatusCode, act)
		}
		require.NoError(s, s.db.Read(ctx, func(tx *store.Tx) error {
			var stays string
			err := tx.Get(&stays, `SELECT name FROM trains WHERE id = $1`, made.ID)
			require.Equal(s, name, stays)
			return err
		}))
	})
}

// TestATrainIsMadePrivate: the form of a new train asks who is to reach it; whoever makes a private one owns it, and to another operator there is none. The list as a file says which are.
func TestATrainIsMadePrivate(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		cookie, other := s.administrator(), s.person(identity.Operator)
		b := s.window(scripts)
		b.signInHere("/trains/~new")
		b.inspect("train-new")
		b.submitIn(`form[method="post"][action="/trains"]`, "train_id", "hush", "visibility", "private")
		b.until(`location.pathname === "/trains/hush"`)
		require.Contains(s, b.text(), "its members alone")
		got, err := s.trains.GetTrain(s.Context(), boss, "hush")
		require.NoError(s, err)
		require.Equal(s, identity.PrivateTrain, got.Visibility)

		form := s.do("GET", "/trains/~new", nil, "Cookie", cookie)
		require.Regexp(s, `<option value="organisation" selected`, form.text)
		made := s.do("POST", "/trains", s.form(cookie, "/trains/~new", "train_id", "wide", "visibility", "organisation"), "Cookie", cookie)
		require.Equal(s, http.StatusSeeOther, made.StatusCode, made.text)
		odd := s.do("POST", "/trains", s.form(cookie, "/trains/~new", "train_id", "odd", "visibility", "planted"), "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, odd.StatusCode)
		again := s.do("POST", "/trains", s.form(cookie, "/trains/~new", "train_id", "a b", "visibility", "private"), "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, again.StatusCode)
		require.Regexp(s, `<option value="private" selected`, again.text, "what was chosen stays")

		file := s.do("GET", "/trains.csv", nil, "Cookie", cookie).text
		require.Regexp(s, `(?m)^train_id,name,.*,updated_at,visibility\r?$`, file)
		require.Regexp(s, `(?m)^hush,hush,.*,private\r?$`, file)
		require.Regexp(s, `(?m)^wide,wide,.*,organisation\r?$`, file)
		require.NotContains(s, s.do("GET", "/trains.csv", nil, "Cookie", other).text, "hush")
		require.Equal(s, http.StatusNotFound, s.do("GET", "/trains/hush", nil, "Cookie", other).StatusCode)
	})
}
