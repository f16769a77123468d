package web_test

import (
	"encoding/csv"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// tries is a request of a client key, with an attempt at each account: what is told of it, nothing for one that is under way.
type tries struct {
	train, key, name, model string
	accounts                []vault.Credential
	told                    []store.Details
}

// lent records that accounts were lent for a request, and returns its id.
func (s *site) lent(l tries) string {
	s.Helper()
	of, err := s.trains.GetTrain(s.Context(), boss, l.train)
	require.NoError(s, err)
	id := store.NewID("req")
	for i, account := range l.accounts {
		lease := store.Str("lease", store.NewID("lease"))
		e := store.Event{
			Actor: store.Actor{Kind: "client_key", ID: l.key, Name: l.name}, OnBehalf: of.ID, Action: store.LeaseGranted, Outcome: store.OutcomePending, RequestID: id,
			Target: store.Target{Kind: "credential", ID: account.ID, Name: account.Name}, IP: "192.0.2.77", UserAgent: "agent/1",
			Details: store.Details{lease, store.Str("train", l.train), store.Int("version", 1), store.Int("attempt", int64(i+1)), store.Str("method", "POST"), store.Str("path", "/v1/messages"),
				store.Str("model", l.model), store.Str("host", "api.example.com"), store.Int("body_bytes", 1234)},
		}
		_, err := s.db.Append(s.Context(), e)
		require.NoError(s, err)
		if l.told[i] == nil {
			continue
		}
		e.Action, e.Outcome, e.IP, e.UserAgent = store.LeaseOutcome, store.OutcomeOK, "", ""
		e.Details = append(store.Details{lease, store.Int("attempt", int64(i+1))}, l.told[i]...)
		_, err = s.db.Append(s.Context(), e)
		require.NoError(s, err)
	}
	return id
}

// overloaded and answered are what is told of an attempt.
func overloaded() store.Details {
	return store.Details{store.Str("result", "upstream_error"), store.Int("status", 529), store.Int("bytes", 0), store.Int("first_byte_ms", 0), store.Int("duration_ms", 40)}
}

func answered() store.Details {
	return store.Details{store.Str("result", "ok"), store.Int("status", 200), store.Int("bytes", 4321), store.Int("first_byte_ms", 210), store.Int("duration_ms", 2100), store.Str("usage", "complete"),
		store.Str("model", "claude-sonnet-4-5-20250929"), store.Int("input_tokens", 1000), store.Int("output_tokens", 2000), store.Int("cache_read_tokens", 30), store.Int("cache_creation_5m_tokens", 4), store.Int("tool_calls", 3)}
}

// lentSome makes a train with two accounts and a key, and requests of it: one that went on to the second account, one under way, one that failed.
func (s *site) lentSome() (alpha, beta vault.Credential, key identity.Key, ids []string) {
	s.Helper()
	_, err := s.trains.CreateTrain(s.Context(), boss, train.Draft{Slug: "web"})
	require.NoError(s, err)
	alpha, beta = s.account("team-alpha"), s.account("team-beta")
	key, _, err = s.trains.IssueKey(s.Context(), boss, "web", identity.KeyDraft{Name: "laptop"})
	require.NoError(s, err)
	of := func(model string, accounts []vault.Credential, told ...store.Details) {
		ids = append(ids, s.lent(tries{"web", key.ID, "laptop", model, accounts, told}))
	}
	of("claude-sonnet-4-5", []vault.Credential{alpha, beta}, overloaded(), answered())
	of("claude-sonnet-4-5", []vault.Credential{beta}, nil)
	of("claude-odd", []vault.Credential{alpha}, store.Details{store.Str("result", "upstream_error"), store.Int("status", 400), store.Int("duration_ms", 12)})
	return alpha, beta, key, ids
}

// addUp has what is recorded added up.
func (s *site) addUp() {
	s.Helper()
	require.NoError(s, s.audit.Flush(s.Context()))
	for more := true; more; {
		var err error
		more, err = s.ledger.Pass(s.Context())
		require.NoError(s, err)
	}
}

// TestRequestsPages: each request stands in the list with every account that was tried; what a cell shows narrows the list; a request has a page of its own;
// who may not see people, or the log, is shown neither; who may not see usage sees nothing.
func TestRequestsPages(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		cookie := s.administrator()
		alpha, beta, key, ids := s.lentSome()
		s.addUp()
		get := func(path string) answer { return s.do("GET", path, nil, "Cookie", cookie) }
		rows := func(a answer) int { return strings.Count(a.text, `href="/requests/req_`) }

		all := get("/requests")
		require.Equal(s, http.StatusOK, all.StatusCode, all.text)
		require.Equal(s, 3, rows(all))
		require.Less(s, strings.Index(all.text, ids[2]), strings.Index(all.text, ids[0]), "the newest first")
		for _, text := range []string{"team-alpha", "529", "team-beta", "claude-sonnet-4-5-20250929", "claude-odd", "complete", "pending", "failed", "2.1\u00a0s", "1,034 / 2,000", "client_key_id=" + key.ID} {
			require.Contains(s, all.text, text)
		}
		require.Equal(s, 2, rows(get("/requests?credential_id="+alpha.ID)))
		require.Equal(s, 2, rows(get("/requests?credential_id="+beta.ID)))
		require.Equal(s, 1, rows(get("/requests?outcome=failed&train_id=web&model=claude-odd")))
		require.Equal(s, 1, rows(get("/requests?outcome=pending&client_key_id="+key.ID)))
		require.Equal(s, 3, rows(get("/requests?from=2020-01-01T00:00&to="+url.QueryEscape(time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04")))))
		none := get("/requests?to=2020-01-01T00:00")
		require.Equal(s, 0, rows(none))
		require.Contains(s, none.text, "No account was lent for such a request.")
		for path, want := range map[string]string{"from=yesterday": `id="from-error"`, "outcome=planted": `class="alert"`, "cursor=planted": "cursor", "from=2026-01-02T00:00&to=2026-01-01T00:00": `id="from-error"`} {
			a := get("/requests?" + path)
			require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode, path)
			require.Contains(s, a.text, want, path)
		}
		require.Contains(s, all.text, `href="/requests.csv"`)
		require.Contains(s, get("/requests?outcome=failed").text, `href="/requests.csv?outcome=failed"`)
		require.NotContains(s, none.text, "/requests.csv")
		file := get("/requests.csv")
		require.Equal(s, http.StatusOK, file.StatusCode, file.text)
		require.Contains(s, file.Header.Get("Content-Disposition"), "requests.csv")
		lines, err := csv.NewReader(strings.NewReader(file.text)).ReadAll()
		require.NoError(s, err)
		require.Len(s, lines, 4, file.text)
		require.Equal(s, []string{"at", "request_id"}, lines[0][:2])
		require.Equal(s, []string{ids[2], ids[1], ids[0]}, []string{lines[1][1], lines[2][1], lines[3][1]})
		require.Equal(s, []string{beta.ID, "team-beta", "2", "team-alpha (529); team-beta", "complete", "200"}, lines[3][11:17])
		require.Equal(s, []string{"1000", "2000", "30", "4", "0", "3", "0.033024"}, lines[3][21:28])
		require.Equal(s, 2, strings.Count(get("/requests.csv?outcome=failed").text, "\n"))
		require.Equal(s, http.StatusUnprocessableEntity, get("/requests.csv?from=yesterday").StatusCode)
		require.Equal(s, http.StatusUnprocessableEntity, get("/requests.csv?outcome=planted").StatusCode)
		kept := get("/requests?outcome=failed")
		require.Contains(s, kept.text, "Keep this filter")

		one := get("/requests/" + ids[0])
		require.Equal(s, http.StatusOK, one.StatusCode, one.text)
		for _, text := range []string{"team-alpha", "team-beta", "529", "api.example.com", "1,234 bytes", "4,321 bytes", "claude-sonnet-4-5-20250929", "$0.0330", ids[0], "/audit/evt_", "request_id=" + ids[0], "/trains/"} {
			require.Contains(s, one.text, text)
		}
		require.NotContains(s, one.text, "192.0.2.77", "who asked from where stands in the audit log alone")
		records := strings.ReplaceAll(one.text[strings.Index(one.text, `href="/audit?`)+len(`href="`):], "&amp;", "&")
		records = records[:strings.Index(records, `"`)]
		require.Equal(s, 4, strings.Count(get(records).text, `href="/audit/evt_`))
		require.NotContains(s, one.text, "What was asked and answered")
		s.keepsOf("web", ids[0], "planted-asked", "planted-answered")
		require.Contains(s, get("/requests/"+ids[0]).text, `href="/requests/`+ids[0]+`/content"`)
		require.Equal(s, http.StatusOK, get("/requests/"+ids[1]).StatusCode)
		require.Equal(s, http.StatusNotFound, get("/requests/"+store.NewID("req")).StatusCode)
		require.Equal(s, http.StatusNotFound, get("/requests/nothing").StatusCode)

		operator := s.person(identity.Operator)
		list, own := s.do("GET", "/requests", nil, "Cookie", operator), s.do("GET", "/requests/"+ids[0], nil, "Cookie", operator)
		require.Equal(s, 3, rows(list))
		for _, a := range []answer{list, own} {
			require.NotContains(s, a.text, "user_id")
			require.NotContains(s, a.text, `href="/audit`)
		}
		require.Equal(s, http.StatusForbidden, s.do("GET", "/requests?user_id="+store.NewID("user"), nil, "Cookie", operator).StatusCode)
		require.Equal(s, http.StatusForbidden, s.do("GET", "/requests.csv?user_id="+store.NewID("user"), nil, "Cookie", operator).StatusCode)
		theirs := s.do("GET", "/requests.csv", nil, "Cookie", operator).text
		require.Contains(s, theirs, ids[0])
		require.NotContains(s, theirs, s.me(cookie))
		member := s.person(identity.Member)
		for _, path := range []string{"/requests", "/requests.csv", "/requests/" + ids[0]} {
			require.Equal(s, http.StatusForbidden, s.do("GET", path, nil, "Cookie", member).StatusCode, path)
		}
		for _, path := range []string{"/usage", "/usage.csv", "/usage?train_id=web"} { // of none
			a := s.do("GET", path, nil, "Cookie", member)
			require.Equal(s, http.StatusOK, a.StatusCode, path)
			require.NotContains(s, a.text, "alpha", path)
			require.NotContains(s, a.text, "/requests", path)
		}
		home := s.do("GET", "/", nil, "Cookie", member).text
		for _, path := range []string{"/requests", "/usage", "/trains"} {
			require.NotContains(s, home, `href="`+path+`"`)
		}

		for _, path := range []string{"/trains/web", "/accounts/" + alpha.ID, "/people/" + s.me(cookie)} {
			require.Contains(s, get(path).text, `href="/requests?`, path)
			require.Contains(s, get(path).text, `href="/usage?`, path)
		}
		s.weigh(cookie, "/requests")
		b := s.window(scripts)
		b.signInHere("/requests")
		b.inspect("requests")
		b.open("/requests?outcome=unsent")
		b.inspect("requests-none")
		b.open("/requests/" + ids[0])
		b.inspect("request")
	})
}

// TestUsagePage: what was used in all, how it went and by what, with the same figures as a file; what is not added up yet is said.
func TestUsagePage(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		cookie := s.administrator()
		alpha, beta, key, _ := s.lentSome()
		get := func(path string) answer { return s.do("GET", path, nil, "Cookie", cookie) }
		require.NoError(s, s.audit.Flush(s.Context()))
		early := get("/usage")
		require.Equal(s, http.StatusOK, early.StatusCode, early.text)
		require.Contains(s, early.text, "are not added up yet")
		require.Contains(s, early.text, "Nothing in this time.")
		s.addUp()

		page := get("/usage")
		require.NotContains(s, page.text, "are not added up yet")
		_, err := s.ledger.Rebuild(s.Context(), identity.Caller{Kind: identity.KindToken, ID: "tok_1", Role: identity.Administrator, Scopes: identity.Scopes{identity.UsageWrite}})
		require.NoError(s, err)
		anew := get("/usage")
		require.Regexp(s, "All sums are being made anew from the audit log: 0 of [1-9][0-9,]* records are added up", anew.text)
		require.NotContains(s, anew.text, "are not added up yet")
		s.addUp()
		require.NotContains(s, get("/usage").text, "made anew")
		for _, text := range []string{"Tokens by kind, by the hour", `class="layer0"`, `class="layer3"`, "<caption class=\"sr\">Tokens by kind", "list prices as they were on", "$0.0330", `href="/usage?by=train&amp;range=day&amp;train_id=train_`} {
			require.Contains(s, page.text, text)
		}
		require.Contains(s, get("/usage?chart=cost&range=30d").text, "Cost of what has a price, by the day")
		require.Contains(s, get("/usage?chart=requests&range=own&from=2025-01-01T00:00").text, "Requests by outcome, by the month")
		by := get("/usage?range=7d&step=day&by=train,credential,client_key,user,model")
		require.Equal(s, http.StatusOK, by.StatusCode, by.text)
		for _, text := range []string{"team-alpha", "team-beta", "laptop", "claude-sonnet-4-5-20250929", "/requests?", "client_key_id=" + key.ID, alpha.ID, beta.ID} {
			require.Contains(s, by.text, text)
		}
		ticked := get("/usage?range=7d&step=&by=train&by=model&train_id=web&model=")
		require.Equal(s, http.StatusSeeOther, ticked.StatusCode)
		require.Equal(s, "/usage?by=train%2Cmodel&range=7d&train_id=web", ticked.Header.Get("Location"))
		require.Contains(s, get("/usage?train_id=other").text, "Nothing like it was used in this time.")
		for path, want := range map[string]string{"range=planted": `class="alert"`, "range=own&from=yesterday": `id="from-error"`, "by=planted": `class="alert"`, "step=hour&range=own&from=2025-01-01T00:00": `id="from-error"`, "cursor=planted": "cursor"} {
			a := get("/usage?" + path)
			require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode, path)
			require.Contains(s, a.text, want, path)
			require.NotContains(s, a.text, "In all", path)
		}

		file := get("/usage.csv?range=7d&by=train,model")
		require.Equal(s, http.StatusOK, file.StatusCode, file.text)
		lines, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(file.text, "\ufeff"))).ReadAll()
		require.NoError(s, err)
		require.Len(s, lines, 4, file.text)
		var sum int
		for _, line := range lines[1:] {
			require.Equal(s, "web", line[1])
			if line[9] == "claude-sonnet-4-5-20250929" {
				require.Equal(s, []string{"1", "1", "0", "0", "0", "0", "1000", "2000", "30", "4", "0", "3", "0.033024", "0"}, line[10:])
			}
			sum += len(line[10])
		}
		require.Equal(s, 3, sum)
		require.Equal(s, http.StatusUnprocessableEntity, get("/usage.csv?range=planted").StatusCode)

		operator := s.person(identity.Operator)
		require.NotContains(s, s.do("GET", "/usage", nil, "Cookie", operator).text, "Person")
		require.Equal(s, http.StatusForbidden, s.do("GET", "/usage?by=user", nil, "Cookie", operator).StatusCode)

		s.weigh(cookie, "/usage")
		b := s.window(scripts)
		b.signInHere("/usage")
		b.open("/usage?range=7d&step=day&by=train,credential,model")
		b.inspect("usage")
		b.open("/usage?chart=requests")
		b.js(`document.querySelector("details").open = true; ""`)
		b.inspect("usage-table")
		b.open("/usage?train_id=other")
		b.inspect("usage-none")
	})
}
