package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
)

// TestTrainOfAMember: somebody with the role of a member finds the train that they are on, with what they may do there, and no other; an owner with that role says who its members are.
func TestTrainOfAMember(t *testing.T) {
	each(t, func(s *site) {
		admin := s.administrator()
		mia, owner := s.somebody("mia", identity.Member)
		max, member := s.somebody("max", identity.Member)
		otto, _ := s.somebody("otto", identity.Operator)
		for _, slug := range []string{"yard", "web"} {
			_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: slug})
			require.NoError(s, err)
		}
		_, _, err := s.trains.Link(s.Context(), boss, "yard", train.LinkDraft{Credential: s.account("team-alpha").ID})
		require.NoError(s, err)
		bosses, _, err := s.trains.IssueKey(s.Context(), boss, "yard", identity.KeyDraft{Name: "bosslaptop"})
		require.NoError(s, err)
		_, _, err = s.trains.PutMember(s.Context(), boss, "yard", identity.PartyPerson, mia.UserID, train.Owner, "")
		require.NoError(s, err)
		s.prove(time.Hour)
		require.NotContains(s, s.do("GET", "/", nil, "Cookie", member).text, `href="/trains"`)

		added := s.do("POST", "/trains/yard/members", s.form(owner, "/trains/yard/members/add", "who", "max@example.com", "kind", "person", "role", "member"), "Cookie", owner)
		require.Equal(s, "/trains/yard?done=joined", added.Header.Get("Location"), added.text)
		require.NotContains(s, s.do("GET", "/trains/yard/members/add", nil, "Cookie", owner).text, "otto@example.com", "whom one may not see is no suggestion")

		for _, cookie := range []string{owner, member} {
			home, list := s.do("GET", "/", nil, "Cookie", cookie), s.do("GET", "/trains", nil, "Cookie", cookie)
			for path, seen := range map[string]bool{"/trains": true, "/usage": s.ledger != nil, "/requests": false, "/people": false} {
				require.Equal(s, seen, strings.Contains(home.text, `href="`+path+`"`), path)
			}
			for _, a := range []answer{list, s.do("GET", "/trains.csv", nil, "Cookie", cookie), s.do("GET", "/search?q=e", nil, "Cookie", cookie)} {
				require.Equal(s, http.StatusOK, a.StatusCode)
				require.NotContains(s, a.text, `/trains/web"`)
				require.NotContains(s, a.text, "web,")
			}
			require.Contains(s, list.text, `href="/trains/yard"`)
			require.Equal(s, http.StatusNotFound, s.do("GET", "/trains/web", nil, "Cookie", cookie).StatusCode)
			require.Equal(s, http.StatusBadRequest, s.do("GET", "/live?topics=train,key,windows", nil, "Cookie", cookie).StatusCode)
			page := s.do("GET", "/trains/yard", nil, "Cookie", cookie)
			require.Equal(s, http.StatusOK, page.StatusCode, page.text)
			for _, word := range []string{"team-alpha", "max@example.com", "/trains/yard/keys/new"} {
				require.Contains(s, page.text, word)
			}
			for _, word := range []string{"/trains/yard/settings", "/trains/yard/link", "/trains/yard/delete", "/trains/yard/limits", "/trains/yard/visibility", "/requests?", `data-live`} {
				require.NotContains(s, page.text, word)
			}
			require.Equal(s, cookie == owner, strings.Contains(page.text, "/trains/yard/members/add"))
			require.Equal(s, cookie == owner, strings.Contains(page.text, "bosslaptop"))
		}

		issued := s.do("POST", "/trains/yard/keys", s.form(member, "/trains/yard/keys/new", "name", "maxlaptop"), "Cookie", member)
		require.Equal(s, http.StatusOK, issued.StatusCode, issued.text)
		page := s.do("GET", "/trains/yard", nil, "Cookie", member)
		require.Contains(s, page.text, "maxlaptop")
		keys, _, err := s.trains.ListKeys(s.Context(), max, "yard", identity.KeyFilter{})
		require.NoError(s, err)
		require.Len(s, keys, 1)
		token := s.form(member, "/account").Get("form")
		for _, act := range []string{"/revoke", "/limits"} {
			require.Contains(s, page.text, "/trains/yard/keys/"+keys[0].ID+act)
			forced := "/trains/yard/keys/" + bosses.ID + act
			require.Equal(s, http.StatusNotFound, s.do("GET", forced, nil, "Cookie", member).StatusCode)
			require.Equal(s, http.StatusNotFound, s.do("POST", forced, url.Values{"form": {token}}, "Cookie", member).StatusCode)
		}
		ask := s.do("GET", "/trains/yard/members/person/"+max.UserID+"/remove", nil, "Cookie", owner)
		require.Contains(s, ask.text, "maxlaptop", "also of a train of the organisation")
		require.Contains(s, ask.text, "They do not reach the train any more")
		require.Contains(s, s.do("GET", "/trains/yard/members/person/"+mia.UserID+"/remove", nil, "Cookie", owner).text, "You do not reach the train any more")
		_, _, err = s.trains.PutMember(s.Context(), boss, "yard", identity.PartyPerson, "otto@example.com", train.Member, "")
		require.NoError(s, err)
		ask = s.do("GET", "/trains/yard/members/person/"+otto.UserID+"/remove", nil, "Cookie", owner)
		require.Contains(s, ask.text, "They still reach the train")
		require.Contains(s, ask.text, "No client key is revoked.")

		// Before a deactivation the page says which keys end with it.
		ask = s.do("GET", "/people/"+max.UserID+"/deactivate", nil, "Cookie", admin)
		require.Contains(s, ask.text, "1 client key that they made on private trains and on trains that they are a member of: revoked for good")
		require.Contains(s, ask.text, "Client key maxlaptop ("+keys[0].ID+") of train yard")
		ask = s.do("GET", "/people/"+otto.UserID+"/deactivate", nil, "Cookie", admin)
		require.Contains(s, ask.text, "Client keys that they made stay, but for any that they made on private trains.")
		gone := s.do("POST", "/trains/yard/members/person/"+max.UserID+"/remove", s.form(owner, "/trains/yard/members/person/"+max.UserID+"/remove"), "Cookie", owner)
		require.Equal(s, "/trains/yard?done=lost", gone.Header.Get("Location"), gone.text)
		require.Equal(s, http.StatusNotFound, s.do("GET", "/trains/yard", nil, "Cookie", member).StatusCode)
		require.NotContains(s, s.do("GET", "/", nil, "Cookie", member).text, `href="/trains"`)
	})
}
