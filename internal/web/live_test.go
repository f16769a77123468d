package web_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
)

// listen opens the connection on which a page is told of changes, and returns what it says and the way to leave.
func (s *site) listen(cookie string) (int, *bufio.Reader, func()) {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.url+"/live?topics=credential", nil)
	require.NoError(s, err)
	req.Header.Set("Cookie", cookie)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	require.NoError(s, err)
	leave := func() { _ = resp.Body.Close() }
	s.Cleanup(leave)
	return resp.StatusCode, bufio.NewReader(resp.Body), leave
}

// TestLiveEndsWithItsSession: whoever was signed out elsewhere is told nothing more, at once and not when the browser asks again.
func TestLiveEndsWithItsSession(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		status, told, _ := s.listen(cookie)
		require.Equal(s, http.StatusOK, status)
		line, err := told.ReadString('\n')
		require.NoError(s, err)
		require.Equal(s, ": listening\n", line)
		ended := make(chan error, 1)
		go func() { _, err := io.Copy(io.Discard, told); ended <- err }()
		other := s.signIn("")
		a := s.do("POST", "/account/sessions/end-others", s.form(other, "/account"), "Cookie", other, "Origin", s.url)
		require.Equal(s, http.StatusSeeOther, a.StatusCode, a.text)
		select {
		case err := <-ended:
			require.NoError(s, err)
		case <-time.After(10 * time.Second): // a quiet connection lasts five minutes
			s.Fatal("the page is still told of changes")
		}
	})
}

// TestLivePagesOfOnePerson: nobody takes up all the places.
func TestLivePagesOfOnePerson(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		member := s.person(identity.Member)
		var leave func()
		for range 20 {
			status, told, go_ := s.listen(member)
			require.Equal(s, http.StatusOK, status)
			_, err := told.ReadString('\n')
			require.NoError(s, err)
			leave = go_
		}
		status, _, _ := s.listen(member)
		require.Equal(s, http.StatusTooManyRequests, status)
		status, _, _ = s.listen(cookie)
		require.Equal(s, http.StatusOK, status, "others have places of their own")
		leave()
		require.Eventually(s, func() bool {
			status, _, _ := s.listen(member)
			return status == http.StatusOK
		}, 10*time.Second, 50*time.Millisecond)
	})
}

// TestAPageLeftOpenIsNoUse: what a page asks by itself does not keep a session from lying idle.
func TestAPageLeftOpenIsNoUse(t *testing.T) {
	var passed atomic.Int64
	cfg := identity.Config{SessionIdle: time.Hour, Clock: func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }}
	eachWith(t, cfg, func(s *site) {
		passed.Store(0)
		open, used := s.administrator(), s.signIn("")
		asks := func(cookie string, header ...string) int {
			return s.do("GET", "/trains", nil, append(header, "Cookie", cookie)...).StatusCode
		}
		for range 3 {
			passed.Add(int64(25 * time.Minute))
			require.Equal(s, http.StatusOK, asks(used))
			if passed.Load() < int64(time.Hour) {
				require.Equal(s, http.StatusOK, asks(open, "X-Signalbox-Unattended", "1"))
				status, _, leave := s.listen(open)
				require.Equal(s, http.StatusOK, status)
				leave()
			}
		}
		require.Equal(s, http.StatusSeeOther, asks(open, "X-Signalbox-Unattended", "1"))
		require.Equal(s, http.StatusSeeOther, asks(open))
		require.Equal(s, http.StatusOK, asks(used))
	})
}

// TestLiveTellsOfWhatOneMayRead: that others sign in or change is not for everybody; a list without end is cut.
func TestLiveTellsOfWhatOneMayRead(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		member := s.person(identity.Member)
		for _, topics := range []string{"user", "session", "token", "notify", "service_account", "audit", "passwords", "user,session", ""} {
			require.Equal(s, http.StatusBadRequest, s.do("GET", "/live?topics="+topics, nil, "Cookie", member).StatusCode, topics)
		}
		for cookie, topics := range map[string]string{member: "credential,user", cookie: strings.Repeat("key,", 5000) + "user"} {
			req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.url+"/live?topics="+topics, nil)
			require.NoError(s, err)
			req.Header.Set("Cookie", cookie)
			resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
			require.NoError(s, err)
			require.Equal(s, http.StatusOK, resp.StatusCode)
			_ = resp.Body.Close()
		}
	})
}

// TestRevealsInTheBrowserAreCounted: the pages have no other limit of reveals than the API.
func TestRevealsInTheBrowserAreCounted(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		c := s.account("team-alpha")
		s.reveals.Store(2)
		ask := func() answer {
			form := s.form(cookie, "/credentials/"+c.ID+"/reveal?field=api_key", "field", "api_key", "reason", "a look", "as", "text")
			return s.do("POST", "/credentials/"+c.ID+"/reveal", form, "Cookie", cookie, "Origin", s.url)
		}
		for range 2 {
			require.Equal(s, http.StatusOK, ask().StatusCode)
		}
		a := ask()
		require.Equal(s, http.StatusTooManyRequests, a.StatusCode)
		require.NotContains(s, a.text, "planted-key")
	})
}
