package signalboxtest_test

import (
	"context"
	"database/sql"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

// TestTypeScriptSDKErrors is the table of docs/design/http.md, "LLM proxy": each refusal arrives in one request as the SDK's own class with our
// text, and where a retry is the cure, the SDK's second try succeeds once the cause is gone.
func TestTypeScriptSDKErrors(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		y := &platform{t: t, box: box}
		calls := y.keys()
		calls = append(calls, y.accounts()...)
		calls = append(calls, y.bodies()...)
		calls = append(calls, y.upstream()...)
		calls = append(calls, y.streams()...)
		calls = append(calls, y.outages()...)
		calls = append(calls, y.drained()) // the last: the box is another one afterwards
		got := typescript(t, box, calls)
		logged := served(t, box)
		if y.again != nil {
			for id, n := range served(t, y.again) {
				logged[id] += n
			}
		}
		for _, c := range calls {
			t.Run(c.Name, func(t *testing.T) {
				c.check(t, got[c.Name])
				for _, try := range got[c.Name].Tries {
					require.Equal(t, 1, logged[try.RequestID], "the listener's own count")
					delete(logged, try.RequestID)
				}
			})
		}
		for _, id := range y.own {
			delete(logged, id)
		}
		require.Empty(t, logged, "the listener served requests that the SDK does not know of")
	})
}

// platform is where the calls depart from.
type platform struct {
	t     *testing.T
	box   *signalboxtest.Box
	again *signalboxtest.Box // after a restart
	own   []string           // ids of requests that the test made itself
}

func (y *platform) keys() []call {
	admin, ctx := y.box.Admin(), context.Background()
	lane, other := y.box.Lane(y.t, ""), y.box.Lane(y.t, "")
	revoked, purged, disabled := y.box.Lane(y.t, ""), y.box.Lane(y.t, ""), y.box.Lane(y.t, "")
	require.NoError(y.t, admin.RevokeKey(ctx, revoked.Train, revoked.KeyID))
	require.NoError(y.t, admin.RevokeKey(ctx, purged.Train, purged.KeyID))
	require.NoError(y.t, admin.PurgeKey(ctx, purged.Train, purged.KeyID))
	yes := true
	_, err := admin.UpdateTrain(ctx, disabled.Train, client.TrainPatch{Disabled: &yes})
	require.NoError(y.t, err)

	refused := func(says ...string) want {
		return want{class: "AuthenticationError", status: 401, kind: "authentication_error", says: says, retry: "false"}
	}
	last := lane.Key[len(lane.Key)-1:]
	damaged := lane.Key[:len(lane.Key)-1] + string("01"[strings.Count(last, "0")])
	return []call{
		{Name: "no key", Do: "messages", As: "none", want: refused("No Signalbox client key came", "signalbox connect")},
		{Name: "no key to count", Do: "count", As: "none", want: refused("No Signalbox client key came")},
		{Name: "no key for models", Do: "get", Path: "/v1/models", As: "none", want: refused("No Signalbox client key came")},
		{Name: "malformed key", Do: "messages", Key: "sk-ant-something-else", want: refused("key")},
		{Name: "damaged key", Do: "messages", Key: damaged, want: refused("key")},
		{Name: "unknown key", Do: "messages", Key: purged.Key, want: refused("key")},
		{Name: "revoked key", Do: "messages", Key: revoked.Key, want: refused("key")},
		{Name: "revoked key as x-api-key", Do: "stream", Key: revoked.Key, As: "x-api-key", want: refused("key")},
		{Name: "disabled train", Do: "messages", Key: disabled.Key, want: refused("disabled")},
		{Name: "another train", Do: "messages", Key: lane.Key, Headers: map[string]string{"MSL-Train-Id": other.Train},
			want: want{class: "PermissionDeniedError", status: 403, kind: "permission_error", says: []string{"another train"}, retry: "false"}},
		{Name: "another project", Do: "messages", Key: lane.Key, Headers: map[string]string{"MSL-Project-Id": other.Train},
			want: want{class: "PermissionDeniedError", status: 403, kind: "permission_error", says: []string{"another train"}, retry: "false"}},
		{Name: "another train's account", Do: "messages", Key: lane.Key, Headers: map[string]string{"MSL-Account": other.Accounts[0].Name},
			want: want{class: "PermissionDeniedError", status: 403, kind: "permission_error", says: []string{"not linked", "signalbox train link"}, retry: "false"}},
	}
}

func (y *platform) accounts() []call {
	admin, ctx := y.box.Admin(), context.Background()
	empty, err := admin.CreateTrain(ctx, client.TrainDraft{TrainID: "empty"})
	require.NoError(y.t, err)
	key, err := admin.IssueKey(ctx, empty.TrainID, client.KeyDraft{Name: "k"})
	require.NoError(y.t, err)
	y.box.Planted.Add("client key", key.APIKey)

	cooling := y.box.LaneOf(y.t, "", 2)
	for _, a := range cooling.Accounts {
		y.box.Upstream.SetKeyBehaviour(a.Secret, demo.Always(demo.Behaviour{Status: 429, RetryAfter: 40 * time.Second}))
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(y.t, err)
	require.NoError(y.t, nobody.Close())
	dead := y.box.Lane(y.t, "http://"+nobody.Addr().String())
	deadToo := y.box.Lane(y.t, "http://"+nobody.Addr().String())
	none := 0
	return []call{
		{Name: "no account", Do: "messages", Key: key.APIKey,
			want: want{class: "PermissionDeniedError", status: 403, kind: "permission_error", says: []string{"No account is linked", "signalbox train link"}, retry: "false"}},
		{Name: "rate limit passed on", Do: "messages", Key: cooling.Key, Retries: &none,
			want: want{class: "RateLimitError", status: 429, kind: "rate_limit_error", says: []string{"rate limit"}, retry: "true", waits: true, upstream: true}},
		{Name: "all cooling", Do: "messages", Key: cooling.Key,
			want: want{class: "RateLimitError", status: 429, kind: "rate_limit_error", says: []string{"cooling down", "signalbox train explain"}, retry: "false", waits: true}},
		{Name: "all cooling, to count", Do: "count", Key: cooling.Key,
			want: want{class: "RateLimitError", status: 429, kind: "rate_limit_error", says: []string{"cooling down"}, retry: "false", waits: true}},
		{Name: "upstream unreachable", Do: "messages", Key: dead.Key,
			want: want{class: "ServiceUnavailableError", status: 503, kind: "api_error", says: []string{"reached its upstream"}, retry: "false", waits: true}},
		{Name: "upstream unreachable, streamed", Do: "stream", Key: deadToo.Key,
			want: want{class: "ServiceUnavailableError", status: 503, kind: "api_error", says: []string{"reached its upstream"}, retry: "false", waits: true}},
	}
}

func (y *platform) bodies() []call {
	lane := y.box.Lane(y.t, "")
	bad := func(says ...string) want {
		return want{class: "BadRequestError", status: 400, kind: "invalid_request_error", says: says, retry: "false"}
	}
	return []call{
		{Name: "model twice", Do: "raw", Key: lane.Key, Raw: `{"model":"claude-x","model":"claude-y","max_tokens":9,"messages":[{"role":"user","content":"x"}]}`, want: bad("twice")},
		{Name: "too large", Do: "messages", Key: lane.Key, Megabytes: 33,
			want: want{class: "ContentTooLargeError", status: 413, kind: "request_too_large", says: []string{"32 MiB"}, retry: "false"}},
		{Name: "unknown path", Do: "post", Path: "/v1/complete", Key: lane.Key,
			want: want{class: "NotFoundError", status: 404, kind: "not_found_error", says: []string{"/v1/messages", "base URL"}, retry: "false"}},
		{Name: "wrong method", Do: "get", Path: "/v1/messages", Key: lane.Key,
			want: want{class: "APIError", status: 405, kind: "invalid_request_error", says: []string{"POST"}, retry: "false"}},
	}
}

// upstream is what the upstream itself answers: as it is when the client is to blame, and otherwise when no other account is left.
func (y *platform) upstream() []call {
	none := 0
	var out []call
	for _, row := range []struct {
		status int
		class  string
		kind   string
		says   string
		retry  string
		over   bool // another account is tried
		waits  bool
	}{
		{400, "BadRequestError", "invalid_request_error", "not valid", "false", false, false},
		{401, "AuthenticationError", "authentication_error", "invalid x-api-key", "false", true, false},
		{403, "PermissionDeniedError", "permission_error", "does not have permission", "false", true, false},
		{404, "NotFoundError", "not_found_error", "could not be found", "false", false, false},
		{413, "ContentTooLargeError", "request_too_large", "maximum size", "false", false, false},
		{429, "RateLimitError", "rate_limit_error", "rate limit", "true", true, true},
		{500, "InternalServerError", "api_error", "Internal server error", "true", true, false},
		{529, "OverloadedError", "overloaded_error", "Overloaded", "true", true, false},
	} {
		name := http.StatusText(row.status)
		if name == "" {
			name = "Overloaded"
		}
		passed := want{class: row.class, status: row.status, kind: row.kind, says: []string{row.says}, retry: row.retry, waits: row.waits, upstream: true}
		all := y.box.LaneOf(y.t, "", 2)
		for _, a := range all.Accounts {
			y.box.Upstream.SetKeyBehaviour(a.Secret, demo.Status(row.status))
		}
		out = append(out, call{Name: "upstream's " + name, Do: "messages", Key: all.Key, Retries: &none, want: passed})
		if !row.over {
			continue
		}
		first := y.box.LaneOf(y.t, "", 2)
		y.box.Upstream.SetKeyBehaviour(first.Accounts[0].Secret, demo.Status(row.status))
		out = append(out, call{Name: "upstream's " + name + " from the first of two accounts", Do: "messages", Key: first.Key})
		if row.retry == "true" && !row.waits {
			// The upstream's own advice to retry passes; the SDK follows it once and then reads our text.
			advised := y.box.Lane(y.t, "")
			y.box.Upstream.SetKeyBehaviour(advised.Accounts[0].Secret, demo.Status(row.status))
			out = append(out, call{Name: "upstream's " + name + ", retried", Do: "messages", Key: advised.Key,
				want: want{class: "RateLimitError", tries: []int{row.status, 429}, status: 429, kind: "rate_limit_error", says: []string{"cooling down"}, retry: "false", waits: true}})
		}
	}
	return out
}

// streams break after their first byte: never retried, and never taken for whole.
func (y *platform) streams() []call {
	lane, cut := y.box.Lane(y.t, ""), y.box.Lane(y.t, "")
	broken := func(kind string, says ...string) want {
		return want{class: "APIError", tries: []int{200}, kind: kind, says: says}
	}
	return []call{
		{Name: "overloaded in mid-stream", Do: "stream", Key: lane.Key, Model: "fake-stream-20-overloaded-midstream", want: broken("overloaded_error", "Overloaded")},
		{Name: "cut between events", Do: "stream", Key: lane.Key, Model: "fake-stream-20-cut-boundary", want: broken("api_error", "broke off")},
		{Name: "cut within an event", Do: "stream", Key: lane.Key, Model: "fake-stream-20-cut", want: want{class: "AnthropicError", tries: []int{200}}},
		// Here the SDK lets fetch's own error through.
		{Name: "cut within a body", Do: "messages", Key: lane.Key, Model: "fake-stream-20-cut", want: want{class: "TypeError", foreign: true, tries: []int{200}}},
		// The next event is a minute away when the key is revoked, so the cut falls between two.
		{Name: "revoked in mid-stream", Do: "stream", Key: cut.Key, want: broken("authentication_error", "revoked"), at: map[string]func(){
			"before": func() {
				y.box.Upstream.SetKeyBehaviour(cut.Accounts[0].Secret, func(int, *http.Request) (demo.Behaviour, bool) {
					return demo.Behaviour{Deltas: 2, Every: time.Second}, true
				})
			},
			"delta": func() { require.NoError(y.t, y.box.Admin().RevokeKey(context.Background(), cut.Train, cut.KeyID)) },
		}},
	}
}

// outages take the database away in three ways: for good, for a while with the news, and for a while for records only.
func (y *platform) outages() []call {
	lane := y.box.Lane(y.t, "")
	postgres := !y.box.Store.PostgresURL.IsZero()
	db := y.outside()
	run := func(statements ...string) {
		y.t.Helper()
		for _, s := range statements {
			_, err := db.ExecContext(context.Background(), s)
			require.NoError(y.t, err, s)
		}
	}
	var name string
	if postgres {
		require.NoError(y.t, db.QueryRow(`SELECT current_database()`).Scan(&name))
	}
	mends := func(says string) want { return want{tries: []int{503, 200}, says: []string{says}} }
	away := map[string]func(){
		// SQLite is a file of ours, so what goes away is a part of it that the caches need: from the next change on they cannot follow.
		"before": func() {
			run(`ALTER TABLE cool_downs RENAME TO cool_downs_gone`)
			other := "changed"
			_, err := y.box.Admin().UpdateCredential(context.Background(), lane.Accounts[0].ID, client.CredentialPatch{Description: &other})
			require.NoError(y.t, err)
		},
		"retry": func() { run(`ALTER TABLE cool_downs_gone RENAME TO cool_downs`); y.ready(http.StatusOK) },
	}
	busy := map[string]func(){}
	if postgres {
		server := y.maintenance()
		away = map[string]func(){
			"before": func() {
				_, err := server.Exec(`ALTER DATABASE ` + name + ` WITH ALLOW_CONNECTIONS false`)
				require.NoError(y.t, err)
				_, err = server.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, name)
				require.NoError(y.t, err)
				y.refusing(lane, "no news")
			},
			"retry": func() {
				_, err := server.Exec(`ALTER DATABASE ` + name + ` WITH ALLOW_CONNECTIONS true`)
				require.NoError(y.t, err)
				y.ready(http.StatusOK)
			},
		}
		busy["before"] = func() {
			run(`CREATE FUNCTION refusal() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no'' USING ERRCODE = ''57P03''; END'`,
				`CREATE TRIGGER refusal BEFORE INSERT ON audit_batches FOR EACH ROW EXECUTE FUNCTION refusal()`)
		}
		busy["retry"] = func() { run(`DROP TRIGGER refusal ON audit_batches`) }
	} else {
		var conn *sql.Conn
		busy["before"] = func() {
			var err error
			conn, err = db.Conn(context.Background())
			require.NoError(y.t, err)
			_, err = conn.ExecContext(context.Background(), `BEGIN IMMEDIATE`)
			require.NoError(y.t, err)
		}
		busy["retry"] = func() {
			_, err := conn.ExecContext(context.Background(), `ROLLBACK`)
			require.NoError(y.t, err)
			require.NoError(y.t, conn.Close())
		}
	}
	return []call{
		{Name: "records cannot be kept", Do: "messages", Key: lane.Key,
			want: want{class: "ServiceUnavailableError", status: 503, kind: "api_error", says: []string{"cannot record", "an operator must see to the database"}, retry: "false"},
			at:   map[string]func(){"before": func() { run(`ALTER TABLE audit_batches RENAME TO audit_batches_gone`) }}},
		{Name: "records can be kept again", Do: "messages", Key: lane.Key,
			at: map[string]func(){"before": func() { run(`ALTER TABLE audit_batches_gone RENAME TO audit_batches`) }}},
		{Name: "records cannot be kept for a while", Do: "messages", Key: lane.Key, want: mends("cannot record"), at: busy},
		{Name: "database away", Do: "messages", Key: lane.Key, want: mends("database"), at: away},
	}
}

// drained is a call that meets an instance on its way out, whose successor serves the retry.
func (y *platform) drained() call {
	lane := y.box.Lane(y.t, "")
	return call{Name: "draining", Do: "messages", Key: lane.Key, want: want{tries: []int{503, 200}, says: []string{"shutting down"}}, at: map[string]func(){
		"before": func() {
			req := lane.Request(context.Background(), []byte(longStream))
			resp, err := http.DefaultClient.Do(req)
			require.NoError(y.t, err)
			y.t.Cleanup(func() { _ = resp.Body.Close() })
			require.Equal(y.t, http.StatusOK, resp.StatusCode)
			y.own = append(y.own, resp.Header.Get("X-Request-Id"))
			y.box.Drain()
			y.ready(http.StatusServiceUnavailable)
		},
		"retry": func() {
			y.box.Stop()
			y.again = y.box.Again(y.t)
			y.ready(http.StatusOK)
		},
	}}
}

// outside is a connection to the box's database from outside of it.
func (y *platform) outside() *sql.DB {
	driver, source := "sqlite", "file:"+filepath.Join(y.box.DataDir, store.FileName)+"?_pragma=busy_timeout(5000)"
	if !y.box.Store.PostgresURL.IsZero() {
		driver, source = "pgx", y.box.Store.PostgresURL.Reveal()
	}
	return y.open(driver, source)
}

// maintenance is a connection to the same PostgreSQL server's database of its own.
func (y *platform) maintenance() *sql.DB {
	url := y.box.Store.PostgresURL.Reveal()
	at := strings.LastIndex(url, "/t_")
	rest := ""
	if q := strings.IndexByte(url, '?'); q > 0 {
		rest = url[q:]
	}
	return y.open("pgx", url[:at]+"/postgres"+rest)
}

func (y *platform) open(driver, source string) *sql.DB {
	y.t.Helper()
	db, err := sql.Open(driver, source)
	require.NoError(y.t, err)
	db.SetMaxIdleConns(0) // a connection that is taken away would be met again
	y.t.Cleanup(func() { _ = db.Close() })
	return db
}

// ready waits until the box says whether it is ready.
func (y *platform) ready(status int) {
	y.t.Helper()
	require.Eventually(y.t, func() bool {
		resp, err := http.Get(y.box.URL + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == status
	}, 20*time.Second, 20*time.Millisecond)
}

// refusing waits until the box refuses with that text: for the first second it still trusts its news.
func (y *platform) refusing(lane *signalboxtest.Lane, text string) {
	y.t.Helper()
	require.Eventually(y.t, func() bool {
		resp, err := http.DefaultClient.Do(lane.Request(context.Background(), []byte(`{"model":"claude-x","max_tokens":20,"messages":[{"role":"user","content":"hello"}]}`)))
		if err != nil {
			return false
		}
		var b strings.Builder
		buf := make([]byte, 4096)
		n, _ := resp.Body.Read(buf)
		b.Write(buf[:n])
		_ = resp.Body.Close()
		y.own = append(y.own, resp.Header.Get("X-Request-Id"))
		return resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(b.String(), text)
	}, 20*time.Second, 20*time.Millisecond)
}
