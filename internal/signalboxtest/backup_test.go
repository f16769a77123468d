package signalboxtest_test

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// must runs a command that opens the database and returns what it answers.
func must(t *testing.T, p *signalboxtest.Process, args ...string) []byte {
	t.Helper()
	cmd := p.Command(args...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%v\n%s", args, out)
	p.Planted().Absent(t, args[0], out)
	return out
}

// furnished is a running server with an account that agents use.
func furnished(t *testing.T, e store.Engine) (p *signalboxtest.Process, key string) {
	t.Helper()
	p = signalboxtest.NewProcess(t, e)
	up := p.Secret(t, "upstream key")
	_, upURL := signalboxtest.ServeUpstream(t, demo.Options{Keys: []secret.Value{up}})
	p.Start(t)
	admin, ctx := p.Admin(), t.Context()
	account, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: "api_key", Name: "acc", Provider: "anthropic", BaseURL: upURL, Secrets: map[string]string{"api_key": up.Reveal()}})
	require.NoError(t, err)
	_, err = admin.CreateTrain(ctx, client.TrainDraft{TrainID: "kill", Name: "Planted name of a train"})
	require.NoError(t, err)
	_, _, err = admin.Link(ctx, "kill", client.LinkDraft{CredentialID: account.ID})
	require.NoError(t, err)
	issued, err := admin.IssueKey(ctx, "kill", client.KeyDraft{Name: "agent"})
	require.NoError(t, err)
	require.Equal(t, 200, mustLend(t, p.URL, issued.APIKey).status)
	return p, issued.APIKey
}

// stop ends a server in order, once it has signed a checkpoint.
func stop(t *testing.T, p *signalboxtest.Process) {
	t.Helper()
	require.Eventually(t, func() bool { info, err := os.Stat(p.CheckpointFile()); return err == nil && info.Size() > 0 }, 20*time.Second, 20*time.Millisecond)
	p.Signal(t, syscall.SIGTERM)
	require.NoError(t, p.Wait())
}

// before is what was acknowledged before a moment and not touched since.
func (a *acked) before() (unchanged func() *acked) {
	a.mu.Lock()
	defer a.mu.Unlock()
	then := &acked{secrets: maps.Clone(a.secrets), unsure: maps.Clone(a.unsure), deleted: slices.Clone(a.deleted), revoked: slices.Clone(a.revoked), lent: slices.Clone(a.lent)}
	return func() *acked {
		a.mu.Lock()
		defer a.mu.Unlock()
		for id, value := range then.secrets {
			if a.unsure[id] || a.secrets[id] != value {
				delete(then.secrets, id)
			}
		}
		return then
	}
}

// TestBackupUnderLoad: a backup that is taken while agents and people work restores, into either engine, to a state that verifies and has every
// write that was acknowledged before it began; keys and tokens work there, and nothing of it lies readable in the file.
func TestBackupUnderLoad(t *testing.T) {
	for _, from := range storetest.Engines() {
		p, key := furnished(t, from)
		file := filepath.Join(t.TempDir(), "b.sealed")
		have := &acked{secrets: map[string]string{}, unsure: map[string]bool{}}
		var then *acked
		load(t, p, p.Admin(), key, have, rand.Uint64(), func() {
			time.Sleep(time.Second)
			unchanged := have.before()
			must(t, p, "backup", "--output", file)
			time.Sleep(200 * time.Millisecond) // what comes behind it is not in it
			then = unchanged()
		})
		require.NotEmpty(t, then.secrets)
		require.NotEmpty(t, then.lent)
		stop(t, p)
		sealed, err := os.ReadFile(file)
		require.NoError(t, err)
		p.Planted().Absent(t, "the backup", sealed)
		require.NotContains(t, string(sealed), "Planted name")
		require.NotContains(t, string(sealed), key)
		var check struct {
			Check struct {
				OK      bool  `json:"ok"`
				Opened  int64 `json:"secrets_opened"`
				Damaged int64 `json:"secrets_damaged"`
			} `json:"check"`
		}
		require.NoError(t, json.Unmarshal(must(t, p, "restore", "--check", "--input", file, "--json"), &check))
		require.True(t, check.Check.OK)
		require.Zero(t, check.Check.Damaged)
		require.GreaterOrEqual(t, check.Check.Opened, int64(len(then.secrets)))
		for _, into := range storetest.Engines() {
			t.Run(string(from)+" to "+string(into), func(t *testing.T) {
				q := p.Elsewhere(t, into)
				must(t, q, "restore", "--input", file)
				q.Start(t)
				require.Equal(t, 200, mustLend(t, q.URL, key).status)
				then.check(t, q, q.Admin(), 0, false, time.Time{})
				for _, want := range []string{"admin.restore", "admin.backup"} {
					found, err := q.Admin().AuditLogs(t.Context(), client.AuditFilter{Action: want})
					require.NoError(t, err)
					require.NotEmpty(t, found.Events, want)
				}
				stop(t, q)
				verifyFleet(t, []*signalboxtest.Process{q})
				q.Planted().Absent(t, "the log", q.Log())
			})
		}
	}
}

// TestMove: a server that has ended goes on with another database, and back again, as if nothing had been: keys, tokens, sessions, records, checkpoints.
func TestMove(t *testing.T) {
	for _, from := range storetest.Engines() {
		for _, into := range storetest.Engines() {
			t.Run(string(from)+" to "+string(into), func(t *testing.T) {
				p, key := furnished(t, from)
				made, err := p.Admin().CreateCredential(t.Context(), client.CredentialDraft{Type: "password", Name: "kept", Secrets: map[string]string{"password": "as it was"}})
				require.NoError(t, err)
				session, err := client.New(p.URL, "").Login(t.Context(), "admin@example.com", signalboxtest.AdminPassword)
				require.NoError(t, err)
				stop(t, p)
				file := filepath.Join(t.TempDir(), "move.sealed")
				must(t, p, "backup", "--output", file)
				q := p.Elsewhere(t, into)
				must(t, q, "restore", "--input", file, "--moved")
				checkpoints, err := os.ReadFile(p.CheckpointFile())
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(q.CheckpointFile(), checkpoints, 0o600))
				q.Start(t)
				require.Equal(t, 200, mustLend(t, q.URL, key).status)
				got, err := q.Admin().RevealCredential(t.Context(), made.ID, "password", "after a move")
				require.NoError(t, err)
				require.Equal(t, "as it was", got)
				_, err = client.New(q.URL, session.AccessToken).WhoAmI(t.Context())
				require.NoError(t, err, "sessions go on")
				stop(t, q)
				verifyFleet(t, []*signalboxtest.Process{q}) // against the checkpoints of both
			})
		}
	}
}

// TestRestoreOutlivesItsProcess: killed at any moment, a restore has done nothing or everything.
func TestRestoreOutlivesItsProcess(t *testing.T) {
	p, key := furnished(t, store.SQLite)
	stop(t, p)
	grown := storetest.OpenConfig(t, store.Config{DataDir: p.DataDir})
	const many = 40_000
	require.NoError(t, grown.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
		var args []any
		for range many {
			id := store.NewID("cl")
			args = append(args, id, id, "", "", "", 1, 1, 1)
		}
		return tx.InsertMany(`clients (id, name, description, contact, search, revision, created_at, updated_at)`, 8, args)
	}))
	require.NoError(t, grown.Close())
	file := filepath.Join(t.TempDir(), "b.sealed")
	must(t, p, "backup", "--output", file)
	for _, into := range storetest.Engines() {
		t.Run(string(into), func(t *testing.T) {
			q := p.Elsewhere(t, into)
			began := time.Now()
			must(t, q, "restore", "--input", file)
			whole := time.Since(began)
			killed := 0
			for try := range 8 {
				q := p.Elsewhere(t, into)
				cmd := q.Command("restore", "--input", file)
				require.NoError(t, cmd.Start())
				time.Sleep(whole * time.Duration(try+1) / 8)
				_ = cmd.Process.Kill()
				if cmd.Wait() != nil {
					killed++
				}
				// Done, or as it was: then another one is not refused.
				out, err := q.Command("restore", "--input", file).CombinedOutput()
				if err != nil {
					require.Contains(t, string(out), "the database is not empty")
				}
				var clients int
				db := q.OpenReadOnly(t)
				require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&clients, `SELECT COUNT(*) FROM clients`) }))
				require.NoError(t, db.Close())
				require.Equal(t, many, clients)
				if try == 3 {
					q.Start(t)
					require.Equal(t, 200, mustLend(t, q.URL, key).status)
					stop(t, q)
				}
			}
			require.Positive(t, killed)
		})
	}
}
