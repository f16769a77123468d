package app_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

const planted = "planted-password-8f3k2"

// logBuffer takes log lines of many goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// config loads the configuration of a server on a data directory of its own.
func config(t *testing.T, more ...string) app.Config {
	t.Helper()
	cfg, err := app.Load(home(t, append([]string{"SIGNALBOX_DATA_DIR", filepath.Join(t.TempDir(), "data"), "SIGNALBOX_LISTEN", "127.0.0.1:0"}, more...)...), nil)
	require.NoError(t, err)
	return cfg
}

// rootText makes a root key as it stands in the environment.
func rootText(fill byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32))
}

func rootID(t *testing.T, text string) string {
	t.Helper()
	key, err := secret.ParseRootKey(secret.FromString(text))
	require.NoError(t, err)
	return key.ID()
}

func mustOpen(t *testing.T, cfg app.Config) *app.App {
	t.Helper()
	a, err := app.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func refusesToOpen(t *testing.T, cfg app.Config) string {
	t.Helper()
	a, err := app.Open(t.Context(), cfg)
	if err == nil {
		_ = a.Close()
	}
	require.Error(t, err)
	return err.Error()
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Mode().Perm()
}

func TestFirstStartMakesEverythingOnce(t *testing.T) {
	cfg := config(t)
	a := mustOpen(t, cfg)
	first := a.First()
	require.True(t, first.Done)
	require.False(t, first.Setup.IsZero())
	require.Regexp(t, `^rk_[0-9a-f]{8}$`, first.RootKeyID)
	require.EqualValues(t, 0o700, mode(t, cfg.DataDir))
	entries, err := os.ReadDir(cfg.DataDir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		want := 0o600
		if e.IsDir() {
			want = 0o700
		}
		require.EqualValues(t, want, mode(t, filepath.Join(cfg.DataDir, e.Name())), e.Name())
	}
	require.Subset(t, names, []string{"root.key", "operator.token", "signalbox.db"})
	require.NotContains(t, names, "first-start")
	require.NotContains(t, names, "root.key.new")
	token, err := app.ReadOperatorToken(cfg.DataDir)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(token.Reveal(), "sbp_"))
	require.NoError(t, a.Close())

	again := mustOpen(t, cfg)
	require.Equal(t, app.First{}, again.First(), "the second start makes nothing and has no set-up link to show")
	kept, err := app.ReadOperatorToken(cfg.DataDir)
	require.NoError(t, err)
	require.True(t, token.Equal(kept))
	require.NoError(t, again.Close())

	require.NoError(t, os.Remove(filepath.Join(cfg.DataDir, "operator.token")))
	third := mustOpen(t, cfg)
	require.Equal(t, app.First{}, third.First())
	require.NoFileExists(t, filepath.Join(cfg.DataDir, "operator.token"), "what somebody removed does not come back")
}

func TestFirstStartThatWasCutOffGoesOn(t *testing.T) {
	cfg := config(t)
	a := mustOpen(t, cfg)
	token, err := app.ReadOperatorToken(cfg.DataDir)
	require.NoError(t, err)
	require.NoError(t, a.Close())
	// As after a crash just before the last step: the marker and half a token file lie there, and the database has everything.
	marker := filepath.Join(cfg.DataDir, "first-start")
	require.NoError(t, os.WriteFile(marker, nil, 0o600))
	require.NoError(t, os.Rename(filepath.Join(cfg.DataDir, "operator.token"), filepath.Join(cfg.DataDir, "operator.token.tmp")))
	require.NoError(t, os.WriteFile(filepath.Join(cfg.DataDir, "root.key.new"), []byte("half"), 0o600))

	b := mustOpen(t, cfg)
	require.True(t, b.First().Done)
	require.False(t, b.First().Setup.IsZero())
	fresh, err := app.ReadOperatorToken(cfg.DataDir)
	require.NoError(t, err)
	require.False(t, token.Equal(fresh))
	require.NoFileExists(t, marker)
	require.NoFileExists(t, filepath.Join(cfg.DataDir, "operator.token.tmp"))
	require.NoError(t, b.Close())

	// As after a crash before anything was made: only the marker.
	young := config(t)
	require.NoError(t, os.MkdirAll(young.DataDir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(young.DataDir, "first-start"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(young.DataDir, "root.key.new"), []byte("half"), 0o600))
	c := mustOpen(t, young)
	require.True(t, c.First().Done)
	require.FileExists(t, filepath.Join(young.DataDir, "operator.token"))
	require.FileExists(t, filepath.Join(young.DataDir, "root.key"))
}

func TestRootKeyIsNeverMadeForAKeyringThatExists(t *testing.T) {
	cfg := config(t)
	a := mustOpen(t, cfg)
	id := a.First().RootKeyID
	require.NoError(t, a.Close())
	path := filepath.Join(cfg.DataDir, "root.key")
	right, err := os.ReadFile(path)
	require.NoError(t, err)

	require.NoError(t, os.Remove(path))
	text := refusesToOpen(t, cfg)
	require.Contains(t, text, id)
	require.NoFileExists(t, path, "a new key would hide that the old one is missing")

	other := rootText(7)
	require.NoError(t, os.WriteFile(path, []byte(other), 0o600))
	text = refusesToOpen(t, cfg)
	require.Contains(t, text, id)
	require.Contains(t, text, rootID(t, other))
	require.NotContains(t, text, other)
	require.NotContains(t, text, strings.TrimSpace(string(right)))

	require.NoError(t, os.WriteFile(path, []byte("garbage-8f3k2"), 0o600))
	text = refusesToOpen(t, cfg)
	require.Contains(t, text, path)
	require.NotContains(t, text, "garbage-8f3k2")

	require.NoError(t, os.WriteFile(path, right, 0o600))
	require.NoError(t, os.Chmod(path, 0o644))
	require.Contains(t, refusesToOpen(t, cfg), "chmod 600")

	require.NoError(t, os.Remove(path))
	env := config(t, "SIGNALBOX_ROOT_KEY", strings.TrimSpace(string(right)))
	env.DataDir = cfg.DataDir
	mustOpen(t, env)
	require.NoFileExists(t, path, "a key from the environment is not written down")
}

func TestPostgresNeedsAConfiguredRootKey(t *testing.T) {
	for _, engine := range storetest.Engines() {
		if engine == store.Postgres {
			postgresNeedsAConfiguredRootKey(t, storetest.PostgresURL(t))
		}
	}
}

func postgresNeedsAConfiguredRootKey(t *testing.T, url string) {
	t.Helper()
	without := config(t, "DATABASE_URL", url)
	text := refusesToOpen(t, without)
	require.Contains(t, text, "SIGNALBOX_ROOT_KEY")
	require.Contains(t, text, "signalbox keygen --output FILE")
	require.NoFileExists(t, filepath.Join(without.DataDir, "root.key"))

	right := rootText(1)
	first := mustOpen(t, config(t, "DATABASE_URL", url, "SIGNALBOX_ROOT_KEY", right))
	require.True(t, first.First().Done)
	require.False(t, first.First().Setup.IsZero())
	require.Empty(t, first.First().OperatorTokenFile, "a token file is for one machine's own database")
	require.Empty(t, first.First().RootKeyFile)

	second := mustOpen(t, config(t, "DATABASE_URL", url, "SIGNALBOX_ROOT_KEY", right))
	require.False(t, second.First().Done, "instances share the database, each with a data directory of its own")

	shared := config(t, "DATABASE_URL", url, "SIGNALBOX_ROOT_KEY", right)
	third := mustOpen(t, shared)
	text = refusesToOpen(t, shared)
	require.Contains(t, text, "in use by another signalbox process")
	require.Contains(t, text, "--data-dir")
	require.NoError(t, third.Close())
	mustOpen(t, shared)

	require.Contains(t, refusesToOpen(t, without), rootID(t, right))
	wrong := rootText(2)
	text = refusesToOpen(t, config(t, "DATABASE_URL", url, "SIGNALBOX_ROOT_KEY", wrong))
	require.Contains(t, text, rootID(t, right))
	require.Contains(t, text, rootID(t, wrong))
	require.NotContains(t, text, wrong)
	require.NotContains(t, refusesToOpen(t, config(t, "DATABASE_URL", url, "SIGNALBOX_ROOT_KEY", "malformed-8f3k2")), "malformed-8f3k2")
}

func TestASecondServerOnADataDirectoryIsRefused(t *testing.T) {
	cfg := config(t)
	mustOpen(t, cfg)
	text := refusesToOpen(t, cfg)
	require.Contains(t, text, "in use")
	require.Contains(t, text, "--data-dir")
}

func TestADataDirectoryThatOthersMayReadIsToldOf(t *testing.T) {
	log := &logBuffer{}
	cfg := config(t)
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	require.NoError(t, os.MkdirAll(cfg.DataDir, 0o755))
	require.NoError(t, os.Chmod(cfg.DataDir, 0o755))
	mustOpen(t, cfg)
	require.Contains(t, log.String(), "chmod 700")

	file := config(t)
	require.NoError(t, os.WriteFile(file.DataDir, nil, 0o600))
	require.Contains(t, refusesToOpen(t, file), "--data-dir")
}

func TestInit(t *testing.T) {
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			var env []string
			if engine == store.Postgres {
				env = []string{"DATABASE_URL", storetest.PostgresURL(t), "SIGNALBOX_ROOT_KEY", rootText(3)}
			}
			log := &logBuffer{}
			cfg := config(t, env...)
			cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			admin := app.Admin{Email: "ada@example.com", Name: "Ada", Password: secret.FromString(planted), TokenLife: 2 * time.Hour}

			weak := admin
			weak.Password = secret.FromString("short")
			_, err := app.Init(t.Context(), cfg, weak)
			require.Error(t, err)

			made, err := app.Init(t.Context(), cfg, admin)
			require.NoError(t, err)
			require.Equal(t, identity.Administrator, made.User.Role)
			require.True(t, strings.HasPrefix(made.AccessToken.Reveal(), "sbp_"))
			require.WithinDuration(t, time.Now().Add(2*time.Hour), made.ExpiresAt, time.Minute)
			require.NoFileExists(t, filepath.Join(cfg.DataDir, "operator.token"))
			require.NotContains(t, log.String(), planted)
			require.NotContains(t, log.String(), made.AccessToken.Reveal())

			for _, other := range []app.Admin{
				{Email: "eve@example.com", Name: "Eve", Password: admin.Password, TokenLife: time.Hour},
				{Email: admin.Email, Name: "Ada", Password: secret.FromString("another password"), TokenLife: time.Hour},
			} {
				_, err = app.Init(t.Context(), cfg, other)
				require.ErrorContains(t, err, "administrator already")
			}
			again, err := app.Init(t.Context(), cfg, admin)
			require.NoError(t, err, "the token of an init that was cut off reached nobody, so whoever knows the password gets another")
			require.True(t, again.Again)
			require.Equal(t, made.User.ID, again.User.ID)
			require.False(t, again.AccessToken.Equal(made.AccessToken))

			a := mustOpen(t, cfg)
			require.False(t, a.First().Done, "init has made what a first start makes")
		})
	}
}

// TestServeAfterInitFailed: a refused password must not leave a directory that nobody gets into.
func TestServeAfterInitFailed(t *testing.T) {
	cfg := config(t)
	_, err := app.Init(t.Context(), cfg, app.Admin{Email: "ada@example.com", Name: "Ada", Password: secret.FromString("short"), TokenLife: time.Hour})
	require.Error(t, err)
	a := mustOpen(t, cfg)
	require.True(t, a.First().Done)
	require.False(t, a.First().Setup.IsZero())
	require.FileExists(t, filepath.Join(cfg.DataDir, "operator.token"))
}

// TestInitAfterServe: the set-up link is lost, and init takes its place.
func TestInitAfterServe(t *testing.T) {
	cfg := config(t)
	a := mustOpen(t, cfg)
	admin := app.Admin{Email: "ada@example.com", Name: "Ada", Password: secret.FromString(planted), TokenLife: time.Hour}
	_, err := app.Init(context.Background(), cfg, admin)
	require.ErrorContains(t, err, "in use")
	require.NoError(t, a.Close())
	_, err = app.Init(t.Context(), cfg, admin)
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(cfg.DataDir, "operator.token"))
}

func TestDevRemovesItsData(t *testing.T) {
	log := &logBuffer{}
	cfg := config(t, "DATABASE_URL", "postgres://nobody@127.0.0.1:1/none", "SIGNALBOX_ROOT_KEY", rootText(9))
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	d, err := app.OpenDev(t.Context(), cfg)
	require.NoError(t, err)
	require.NotEqual(t, cfg.DataDir, d.DataDir())
	require.NoDirExists(t, cfg.DataDir, "a trial touches nothing of a real installation")
	require.Equal(t, []string{"team-alpha", "team-beta"}, d.Accounts())
	require.True(t, strings.HasPrefix(d.Key.Reveal(), "sbx_live_"))
	require.NotContains(t, log.String(), d.Key.Reveal())
	require.NoError(t, d.Close())
	require.NoDirExists(t, d.DataDir())
}

// TestStoppedWhileStarting: an interrupt between the greeting and the first request ends the server like any other, with both records.
func TestStoppedWhileStarting(t *testing.T) {
	cfg := config(t)
	a, err := app.Open(t.Context(), cfg)
	require.NoError(t, err)
	l, err := app.Listen(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, a.Serve(ctx, l))
	require.NoError(t, a.Close())
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	before := goleak.IgnoreCurrent()
	cfg := config(t)
	a, err := app.Open(t.Context(), cfg)
	require.NoError(t, err)
	l, err := app.Listen(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, l) }()
	client := &http.Client{Transport: &http.Transport{}}
	require.Eventually(t, func() bool {
		resp, err := client.Get(app.Config{}.LocalURL(l.Addr()) + "/readyz")
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}, 5*time.Second, 10*time.Millisecond)
	client.CloseIdleConnections()
	cancel()
	require.NoError(t, <-served)
	require.NoError(t, a.Close())
	require.NoError(t, a.Close(), "closing twice is fine")
	goleak.VerifyNone(t, before)
}
