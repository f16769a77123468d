package signalboxtest_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// fresh makes a connection for each request: one that was left open is closed when its server is sealed, as in any drain.
var fresh = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// answered is what a server says at a path; the status is 0 when it cannot be reached.
func answered(url string) (status int, body string) {
	resp, err := fresh.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// stands waits until every server's /readyz says that.
func stands(t *testing.T, servers []*signalboxtest.Process, want string) {
	t.Helper()
	for _, p := range servers {
		require.Eventually(t, func() bool {
			_, body := answered(p.URL + "/readyz")
			return strings.Contains(body, `"status":"`+want+`"`)
		}, 20*time.Second, 20*time.Millisecond, "%s is not %s: %s", p.URL, want, p.Log())
	}
}

// TestSealUnderLoad seals real processes (two on PostgreSQL) while they lend and streams are open: within a second of the acknowledgement nothing is lent or
// revealed any more and every stream is cut, on each; the port never closes; a server that is killed and started again stays sealed; neither another root key
// nor who only writes to the database lifts the seal; with the root key all serve again, and the log holds.
func TestSealUnderLoad(t *testing.T) {
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			ctx := t.Context()
			upKey := secret.FromString("sk-upstream-seal-test-key")
			_, upURL := signalboxtest.ServeUpstream(t, demo.Options{Keys: []secret.Value{upKey}})
			p := signalboxtest.NewProcess(t, engine)
			p.Start(t)
			servers := []*signalboxtest.Process{p}
			if p.DatabaseURL() != "" {
				q := p.Peer(t, p.DatabaseURL())
				q.Start(t)
				servers = append(servers, q)
			}
			admin := p.Admin()
			account, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: "api_key", Name: "acc", Provider: "anthropic", BaseURL: upURL, Secrets: map[string]string{"api_key": upKey.Reveal()}})
			require.NoError(t, err)
			_, err = admin.CreateTrain(ctx, client.TrainDraft{TrainID: "seal", Name: "Seal"})
			require.NoError(t, err)
			_, _, err = admin.Link(ctx, "seal", client.LinkDraft{CredentialID: account.ID})
			require.NoError(t, err)
			key, err := admin.IssueKey(ctx, "seal", client.KeyDraft{Name: "agent"})
			require.NoError(t, err)
			var streams []func(time.Time) time.Duration
			for _, s := range servers {
				require.Eventually(t, func() bool { return ask(t, s.URL, key.APIKey) == 200 }, 3*time.Second, 20*time.Millisecond)
				streams = append(streams, longestStream(t, s.URL, key.APIKey))
			}

			var acked atomic.Int64
			var lent, revealed, late, unreachable, looked atomic.Int64
			var odd sync.Map
			stop := make(chan struct{})
			var load sync.WaitGroup
			again := func(do func()) {
				load.Go(func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(3 * time.Millisecond):
							do()
						}
					}
				})
			}
			used := func(began time.Time, n *atomic.Int64) {
				n.Add(1)
				if at := acked.Load(); at != 0 && began.After(time.Unix(0, at).Add(time.Second)) {
					late.Add(1)
				}
			}
			for _, s := range servers {
				again(func() {
					began := time.Now()
					if status, body := post(s.URL, key.APIKey); status == http.StatusOK {
						used(began, &lent)
					} else if status != 0 && status != http.StatusServiceUnavailable {
						odd.Store(fmt.Sprint("lend: ", status, body), true)
					}
				})
				again(func() {
					began := time.Now()
					got, err := client.New(s.URL, p.Token).RevealCredential(ctx, account.ID, "api_key", "under load")
					var problem *client.Error
					switch {
					case err == nil && got == upKey.Reveal():
						used(began, &revealed)
					case err == nil:
						odd.Store("another secret", true)
					case errors.As(err, &problem) && problem.Status != http.StatusServiceUnavailable:
						odd.Store("reveal: "+err.Error(), true)
					}
				})
				again(func() {
					looked.Add(1)
					if status, body := answered(s.URL + "/healthz"); status != http.StatusOK {
						unreachable.Add(1)
						odd.Store("healthz: "+body, true)
					}
				})
			}
			time.Sleep(500 * time.Millisecond)
			set, err := admin.Seal(ctx, "somebody is in")
			require.NoError(t, err)
			at := time.Now()
			acked.Store(at.UnixNano())
			for i, ended := range streams {
				took := ended(at)
				t.Logf("stream %d was cut %v after the acknowledgement", i, took)
				require.Less(t, took, time.Second)
			}
			stands(t, servers, "sealed")
			t.Logf("every server stood sealed after %v", time.Since(at))
			time.Sleep(1500*time.Millisecond - min(time.Since(at), 1500*time.Millisecond))
			close(stop)
			load.Wait()
			odd.Range(func(what, _ any) bool { t.Error(what); return true })
			require.Positive(t, lent.Load())
			require.Positive(t, revealed.Load())
			require.Zero(t, late.Load(), "uses that began a second and more after the acknowledgement")
			require.Zero(t, unreachable.Load(), "of %d looks", looked.Load())

			for _, s := range servers {
				status, body := post(s.URL, key.APIKey)
				require.Equal(t, http.StatusServiceUnavailable, status)
				require.Contains(t, body, `"api_error"`)
				require.Contains(t, body, "signalbox unseal")
				_, err = client.New(s.URL, p.Token).WhoAmI(ctx)
				var problem *client.Error
				require.ErrorAs(t, err, &problem)
				require.Equal(t, "encryption_key_missing", problem.Code)
				status, body = answered(s.URL + "/sign-in")
				require.Equal(t, http.StatusServiceUnavailable, status)
				require.Contains(t, body, "Signalbox is sealed")
				status, _ = answered(s.URL + "/assets/style.css")
				require.Equal(t, http.StatusOK, status, "what the notice looks like")
			}

			out, err := p.Command("doctor").CombinedOutput()
			require.Error(t, err, "what is broken")
			require.Contains(t, string(out), "signalbox unseal", "%s", out)

			last := servers[len(servers)-1]
			last.Kill(t)
			last.StartSealed(t)

			wrong := p.Command("unseal")
			wrong.Env = append(wrong.Env, "SIGNALBOX_ROOT_KEY="+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)))
			out, err = wrong.CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), "was made with root key", "another root key")
			db := p.OpenBeside(t)
			forge := func(query string) {
				require.NoError(t, db.Write(ctx, func(tx *store.Tx) error {
					_, err := tx.Exec(query)
					return errors.Join(err, tx.Record(store.Event{Actor: store.Actor{Kind: "system", Name: "test"}, Action: store.AdminStart, Target: store.Target{Kind: "test"}}))
				}))
			}
			forge(`UPDATE keyring_seals SET unsealed_at = sealed_at + 1`)
			time.Sleep(3 * time.Second)
			stands(t, servers, "sealed")
			forge(`UPDATE keyring_seals SET unsealed_at = 0`)
			require.NoError(t, db.Close())

			out, err = p.Command("unseal", "--json").CombinedOutput()
			require.NoError(t, err, "%s", out)
			var told struct {
				Unsealed bool   `json:"unsealed"`
				ID       string `json:"id"`
				Reason   string `json:"reason"`
			}
			require.NoError(t, json.Unmarshal(out, &told), "%s", out)
			require.True(t, told.Unsealed)
			require.Equal(t, []string{set.ID, "somebody is in"}, []string{told.ID, told.Reason})
			began := time.Now()
			stands(t, servers, "ready")
			t.Logf("every server served again after %v", time.Since(began))
			for _, s := range servers {
				require.Eventually(t, func() bool { return ask(t, s.URL, key.APIKey) == 200 }, 5*time.Second, 20*time.Millisecond)
				got, err := client.New(s.URL, p.Token).RevealCredential(ctx, account.ID, "api_key", "after the seal")
				require.NoError(t, err)
				require.Equal(t, upKey.Reveal(), got)
			}
			out, err = p.Command("unseal").CombinedOutput()
			require.NoError(t, err)
			require.Contains(t, string(out), "not sealed")

			_, err = admin.Seal(ctx, "a second time")
			require.NoError(t, err)
			stands(t, servers, "sealed")
			out, err = p.Command("unseal").CombinedOutput()
			require.NoError(t, err, "%s", out)
			stands(t, servers, "ready")

			for action, want := range map[string]int{"admin.seal": 2, "admin.unseal": 2} {
				require.Eventually(t, func() bool {
					found, err := admin.AuditLogs(ctx, client.AuditFilter{Action: action})
					require.NoError(t, err)
					return len(found.Events) == want
				}, 10*time.Second, 50*time.Millisecond, action)
			}
			for _, s := range servers {
				s.Signal(t, syscall.SIGTERM)
				require.NoError(t, s.Wait())
				p.Planted().Absent(t, "the server's log", s.Log())
			}
			report, err := audit.Verify(ctx, p.OpenReadOnly(t), audit.VerifyOptions{})
			require.NoError(t, err)
			require.True(t, report.OK(), "%+v", report.Findings)
		})
	}
}

// post is [ask] for a server that may be away; the status is 0 then.
func post(url, key string) (status int, body string) {
	req, err := http.NewRequest(http.MethodPost, url+"/v1/messages", strings.NewReader(`{"model":"claude-x","max_tokens":20,"messages":[{"role":"user","content":"hello"}]}`))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("X-Api-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}
