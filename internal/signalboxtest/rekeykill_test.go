package signalboxtest_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
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

// rekeySize is how much a run of the story below does: in full with SIGNALBOX_SOAK; SIGNALBOX_TEST_REKEY_CREDENTIALS says another number of credentials.
func rekeySize(t *testing.T) (credentials, kills, rate int) {
	credentials, kills, rate = 400, 3, 60
	switch {
	case os.Getenv("SIGNALBOX_SOAK") != "":
		credentials, kills, rate = 100_000, 10, 200
	case testing.Short():
		credentials, kills, rate = 100, 1, 40
	}
	if text := os.Getenv("SIGNALBOX_TEST_REKEY_CREDENTIALS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		credentials, kills, rate = n, 10, 200
	}
	return credentials, kills, rate
}

// fire is load at a fixed rate, and what came of it.
type fire struct {
	p        *signalboxtest.Process
	key      string
	admin    *client.Client
	ids      []string
	mu       sync.Mutex
	values   map[string]string // id → the last acknowledged secret
	unsure   map[string]bool   // those whose rotation got no answer
	down     atomic.Int64      // odd while the process is being killed and started again
	answered atomic.Int64
	revealed atomic.Int64
	rotated  atomic.Int64
	cut      atomic.Int64 // requests without an answer, all of them while the process was away
	wrong    []string
}

// excused reports whether the process was away at some time since before.
func (f *fire) excused(before int64) bool {
	now := f.down.Load()
	return before%2 == 1 || now != before
}

func (f *fire) fail(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

// lend is one request of an agent.
func (f *fire) lend(ctx context.Context) {
	before := f.down.Load()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.p.URL+"/v1/messages", strings.NewReader(`{"model":"claude-x","max_tokens":20,"messages":[{"role":"user","content":"go on"}]}`))
	if err != nil {
		return
	}
	req.Header.Set("X-Api-Key", f.key)
	resp, err := http.DefaultClient.Do(req)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	switch {
	case err != nil && (ctx.Err() != nil || f.excused(before)):
		f.cut.Add(1)
	case err != nil:
		f.fail("no answer although the process was there: %v", err)
	case resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"type":"message"`)):
		f.fail("a use was answered %d: %.200s", resp.StatusCode, body)
	default:
		f.answered.Add(1)
	}
}

// touch reads one secret, or rotates it.
func (f *fire) touch(ctx context.Context, rng *rand.Rand) {
	id, before := f.ids[rng.IntN(len(f.ids))], f.down.Load()
	if rng.IntN(4) == 0 {
		f.mu.Lock() // one rotation of a credential at a time
		if f.unsure[id] {
			f.mu.Unlock()
			return
		}
		f.unsure[id] = true
		f.mu.Unlock()
		value := fmt.Sprintf("rotated-%x", rng.Uint64())
		_, err := f.admin.RotateCredential(ctx, id, map[string]string{"password": value}, "soak")
		switch {
		case err == nil:
			f.mu.Lock()
			f.values[id] = value
			delete(f.unsure, id)
			f.mu.Unlock()
			f.rotated.Add(1)
		case ctx.Err() == nil && !f.excused(before):
			f.fail("rotate %s: %v", id, err)
		}
		return
	}
	f.mu.Lock()
	want, unsure := f.values[id], f.unsure[id]
	f.mu.Unlock()
	got, err := f.admin.RevealCredential(ctx, id, "password", "soak")
	f.mu.Lock()
	unsure = unsure || f.unsure[id] || f.values[id] != want
	f.mu.Unlock()
	switch {
	case err != nil && (ctx.Err() != nil || f.excused(before)):
	case err != nil:
		f.fail("reveal %s: %v", id, err)
	case got != want && !unsure:
		f.fail("%s reveals another secret than was stored", id)
	default:
		f.revealed.Add(1)
	}
}

// run sends rate requests a second, however slow the answers are, of which every twentieth reads or rotates a secret.
func (f *fire) run(ctx context.Context, rate int, seed uint64) {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	room := make(chan struct{}, 256)
	for n := uint64(0); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case room <- struct{}{}:
		default: // as many are open as a client of ours has connections
			continue
		}
		wg.Go(func() {
			defer func() { <-room }()
			if n%20 == 0 {
				f.touch(ctx, rand.New(rand.NewPCG(seed, n)))
			} else {
				f.lend(ctx)
			}
		})
	}
}

// TestRekeySurvivesKills changes the data key under load while the real binary is killed at random moments and started again. Every answer is right,
// the change goes on by itself, at the end every secret opens and lies under the new key, the old one is gone, and the audit log holds.
func TestRekeySurvivesKills(t *testing.T) {
	credentials, kills, rate := rekeySize(t)
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			ctx := t.Context()
			upKey := secret.FromString("sk-upstream-rekey-test-key")
			_, upURL := signalboxtest.ServeUpstream(t, demo.Options{Keys: []secret.Value{upKey}})
			p := signalboxtest.NewProcess(t, engine, "SIGNALBOX_LOG_LEVEL=warn")
			p.Start(t)
			admin := p.Admin()
			account, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: "api_key", Name: "acc", Provider: "anthropic", BaseURL: upURL, Secrets: map[string]string{"api_key": upKey.Reveal()}})
			require.NoError(t, err)
			_, err = admin.CreateTrain(ctx, client.TrainDraft{TrainID: "rekey", Name: "Rekey"})
			require.NoError(t, err)
			_, _, err = admin.Link(ctx, "rekey", client.LinkDraft{CredentialID: account.ID})
			require.NoError(t, err)
			key, err := admin.IssueKey(ctx, "rekey", client.KeyDraft{Name: "agent"})
			require.NoError(t, err)
			f := &fire{p: p, key: key.APIKey, admin: admin, values: map[string]string{}, unsure: map[string]bool{}}
			f.store(t, credentials)

			firing, cease := context.WithCancel(context.Background())
			var load sync.WaitGroup
			load.Go(func() { f.run(firing, rate, seed) })
			defer load.Wait()
			defer cease()
			began := time.Now()
			changes, midst := 1, 0
			_, err = admin.BeginRekey(ctx, false)
			require.NoError(t, err)
			for k := range kills {
				time.Sleep(time.Duration(100+rng.IntN(8000)) * time.Millisecond) // some before the lease of the killed one has run out, some after
				at, err := admin.Rekey(ctx)
				require.NoError(t, err)
				if at.State == "done" { // so few that it ended between two kills
					_, err = admin.BeginRekey(ctx, false)
					require.NoError(t, err)
					changes++
					time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
					at, err = admin.Rekey(ctx)
					require.NoError(t, err)
				}
				if at.State != "done" {
					midst++
				}
				f.down.Add(1)
				p.Kill(t)
				took := p.Start(t)
				f.down.Add(1)
				t.Logf("kill %d: %s, %d moved, %d to go; ready again after %v", k+1, at.State, at.Moved, at.Remaining, took)
			}
			require.Positive(t, midst, "no kill met a change")
			var end client.Rekey
			require.Eventually(t, func() bool {
				end, err = admin.Rekey(ctx)
				require.NoError(t, err)
				return end.State == "done"
			}, 90*time.Minute, 200*time.Millisecond)
			took := time.Since(began)
			cease()
			load.Wait()
			require.Empty(t, f.wrong, "%d wrong answers", len(f.wrong))
			require.Positive(t, f.answered.Load())
			require.Positive(t, f.revealed.Load())
			require.EqualValues(t, 1+changes, end.NewDataKey)

			read := time.Now()
			f.openEverything(t)
			t.Logf("%d credentials, %d kills (%d in the midst of a change), %d changes: %v; %d uses answered rightly, %d secrets read and %d rotated meanwhile, %d cut by a kill, 0 wrong; everything read again in %v",
				credentials, kills, midst, changes, took.Round(time.Millisecond), f.answered.Load(), f.revealed.Load(), f.rotated.Load(), f.cut.Load(), time.Since(read).Round(time.Millisecond))
			p.Signal(t, syscall.SIGTERM)
			require.NoError(t, p.Wait())
			db := p.OpenReadOnly(t)
			requireOneKey(t, db, uint32(end.NewDataKey))
			report, err := audit.Verify(ctx, db, audit.VerifyOptions{Anchors: anchors(t, p.CheckpointFile())})
			require.NoError(t, err)
			require.True(t, report.OK(), "%+v", report.Findings)
			p.Planted().Absent(t, "the server's log", p.Log())
		})
	}
}

// store imports passwords, of which it knows each.
func (f *fire) store(t *testing.T, n int) {
	t.Helper()
	const piece = 5000
	for from := 0; from < n; from += piece {
		var csv bytes.Buffer
		csv.WriteString("Title,Url,Username,Password,Notes\n")
		for i := from; i < min(n, from+piece); i++ {
			fmt.Fprintf(&csv, "soak %d,https://soak%d.example.com,ada,secret-%d-of-the-soak,noted %d\n", i, i, i, i)
		}
		got, err := f.admin.Import(t.Context(), client.ImportDraft{Format: "1password-csv", Files: []client.ImportFile{{Name: "soak.csv", Content: csv.Bytes()}}})
		require.NoError(t, err)
		require.Equal(t, min(n-from, piece), got.Created, "%+v", got)
	}
	filter := client.CredentialFilter{Type: "password", Limit: 1000}
	for {
		page, err := f.admin.ListCredentials(t.Context(), filter)
		require.NoError(t, err)
		for _, c := range page.Credentials {
			f.ids = append(f.ids, c.ID)
			f.values[c.ID] = "secret-" + strings.TrimPrefix(c.Name, "soak ") + "-of-the-soak"
		}
		if page.NextCursor == "" {
			break
		}
		filter.Cursor = page.NextCursor
	}
	require.Len(t, f.ids, n)
	slices.Sort(f.ids)
}

// openEverything reads every secret.
func (f *fire) openEverything(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	ids := make(chan string)
	for range 16 {
		wg.Go(func() {
			for id := range ids {
				got, err := f.admin.RevealCredential(t.Context(), id, "password", "after the change")
				f.mu.Lock()
				if err != nil {
					f.wrong = append(f.wrong, fmt.Sprintf("%s: %v", id, err))
				} else if got != f.values[id] && !f.unsure[id] {
					f.wrong = append(f.wrong, id+" is another")
				}
				f.mu.Unlock()
			}
		})
	}
	for _, id := range f.ids {
		ids <- id
	}
	close(ids)
	wg.Wait()
	require.Empty(t, f.wrong)
}

// requireOneKey requires that one data key is left, and that nothing lies under another.
func requireOneKey(t *testing.T, db *store.DB, active uint32) {
	t.Helper()
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
		var left, bytesOfGone int64
		require.NoError(t, tx.Get(&left, `SELECT COUNT(*) FROM keyring_keys WHERE state <> 'gone'`))
		require.EqualValues(t, 1, left)
		require.NoError(t, tx.Get(&bytesOfGone, `SELECT COALESCE(SUM(LENGTH(wrapped)), 0) FROM keyring_keys WHERE state = 'gone'`))
		require.Zero(t, bytesOfGone)
		tag := binary.BigEndian.AppendUint32(nil, active)
		for _, place := range [][2]string{{"credential_secrets", "substr(sealed, 2, 4)"}, {"credentials", "substr(notes, 2, 4)"}, {"credentials", "substr(binding, 2, 4)"},
			{"audit_signers", "substr(sealed, 2, 4)"}, {"jwt_keys", "substr(sealed, 2, 4)"}} {
			var under, other int64
			require.NoError(t, tx.Get(&under, `SELECT COUNT(*) FROM `+place[0]+` WHERE `+place[1]+` = $1`, tag))
			require.NoError(t, tx.Get(&other, `SELECT COUNT(*) FROM `+place[0]+` WHERE `+place[1]+` <> $1`, tag))
			require.Positive(t, under, place)
			require.Zero(t, other, "%v lies under a key that is gone", place)
		}
		return nil
	}))
}
