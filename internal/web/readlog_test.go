package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// TestRefusedReadsAreOnRecord: whoever may not read the log, and asks for a page of it by its address, stands in it.
func TestRefusedReadsAreOnRecord(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		c := s.account("team-alpha")
		operator, member := s.person(identity.Operator), s.person(identity.Member)
		for path, cookie := range map[string]string{
			"/credentials/" + c.ID + "/record": operator, "/accounts/~requests": operator, "/audit": operator, "/overview/feed": operator,
			"/overview/requests": member,
		} {
			a := s.do("GET", path, nil, "Cookie", cookie)
			require.Equal(s, http.StatusForbidden, a.StatusCode, path)
		}
		refused := map[string]int{}
		page, err := s.audit.Search(s.Context(), audit.Query{Limit: 1000})
		require.NoError(s, err)
		for _, e := range page.Events {
			if e.Outcome == store.OutcomeRefused {
				refused[e.Target.Kind]++
			}
		}
		require.Equal(s, 3, refused["audit"], refused)
		require.Equal(s, 1, refused["credential"], refused)
		require.Equal(s, 1, refused["metrics"], refused)
	})
}

// TestSearchesAreBounded: a text longer than any that could be found is held against no row.
func TestSearchesAreBounded(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		for _, list := range []string{"/trains", "/people", "/groups", "/service-accounts", "/credentials", "/accounts"} {
			require.Equal(s, http.StatusUnprocessableEntity, s.do("GET", list+"?q="+strings.Repeat("x", 201), nil, "Cookie", cookie).StatusCode, list)
			require.Equal(s, http.StatusOK, s.do("GET", list+"?q="+strings.Repeat("x", 200), nil, "Cookie", cookie).StatusCode, list)
		}
	})
}
