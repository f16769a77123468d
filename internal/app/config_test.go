package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/app"
)

func home(t *testing.T, more ...string) app.Environ {
	t.Helper()
	env := app.Environ{"HOME": t.TempDir()}
	for i := 0; i < len(more); i += 2 {
		env[more[i]] = more[i+1]
	}
	return env
}

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "setting")
	require.NoError(t, os.WriteFile(path, []byte(text), mode))
	require.NoError(t, os.Chmod(path, mode))
	return path
}

func TestConfigDefaults(t *testing.T) {
	env := home(t)
	cfg, err := app.Load(env, nil)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(env["HOME"], ".local/share/signalbox"), cfg.DataDir)
	require.Equal(t, filepath.Join(cfg.DataDir, "checkpoints.log"), cfg.CheckpointFile)
	require.Equal(t, "127.0.0.1:8420", cfg.Listen)
	require.Equal(t, 30*time.Second, cfg.DrainTimeout)
	require.Equal(t, 600*time.Second, cfg.UpstreamTimeout)
	require.EqualValues(t, 32<<20, cfg.BodyLimit)
	require.Equal(t, 10, cfg.MaxKeysPerTrain)
	require.Zero(t, cfg.MaxKeys)
	require.True(t, cfg.ClientAuth)
	require.False(t, cfg.BehindTLSProxy)
	require.False(t, cfg.ForceNoClientAuth)
	require.Equal(t, "default", cfg.DefaultTrain)
	require.Equal(t, slog.LevelInfo, cfg.LogLevel)
	require.Equal(t, "http://127.0.0.1:8420", cfg.URL)
	require.True(t, cfg.RootKey.IsZero())
	require.True(t, cfg.DatabaseURL.IsZero())
	require.Equal(t, "default", cfg.Origin("listen"))
	require.Empty(t, cfg.Warnings())

	cfg, err = app.Load(home(t, "XDG_DATA_HOME", "/xdg"), nil)
	require.NoError(t, err)
	require.Equal(t, "/xdg/signalbox", cfg.DataDir)
	cfg, err = app.Load(home(t, "XDG_DATA_HOME", "relative"), nil)
	require.NoError(t, err)
	require.NotContains(t, cfg.DataDir, "relative")
	_, err = app.Load(app.Environ{}, nil)
	require.ErrorContains(t, err, "--data-dir")
}

func TestConfigPrecedence(t *testing.T) {
	file := write(t, "127.0.0.1:3333\n", 0o644)
	for _, c := range []struct {
		env    app.Environ
		flags  map[string]string
		want   string
		origin string
	}{
		{home(t), nil, "127.0.0.1:8420", "default"},
		{home(t, "SIGNALBOX_LISTEN", "127.0.0.1:2222"), nil, "127.0.0.1:2222", "SIGNALBOX_LISTEN"},
		{home(t, "SIGNALBOX_LISTEN", ""), nil, "127.0.0.1:8420", "default"},
		{home(t, "SIGNALBOX_LISTEN_FILE", file), nil, "127.0.0.1:3333", "SIGNALBOX_LISTEN_FILE"},
		{home(t, "SIGNALBOX_LISTEN", "127.0.0.1:2222"), map[string]string{"listen": "127.0.0.1:1111"}, "127.0.0.1:1111", "--listen"},
		{home(t, "SIGNALBOX_LISTEN_FILE", file), map[string]string{"listen": "127.0.0.1:1111"}, "127.0.0.1:1111", "--listen"},
	} {
		cfg, err := app.Load(c.env, c.flags)
		require.NoError(t, err)
		require.Equal(t, c.want, cfg.Listen)
		require.Equal(t, c.origin, cfg.Origin("listen"))
	}
	cfg, err := app.Load(home(t, "DATABASE_URL", "postgres://weak", "SIGNALBOX_DATABASE_URL", "postgres://strong"), nil)
	require.NoError(t, err)
	require.Equal(t, "postgres://strong", cfg.DatabaseURL.Reveal())
	cfg, err = app.Load(home(t, "DATABASE_URL", "postgres://weak", "ENABLE_CLIENT_AUTH", "false", "DEFAULT_TRAIN_ID", "web"), nil)
	require.NoError(t, err)
	require.Equal(t, "postgres://weak", cfg.DatabaseURL.Reveal())
	require.False(t, cfg.ClientAuth)
	require.Equal(t, "web", cfg.DefaultTrain)
}

func TestConfigFromFiles(t *testing.T) {
	secretFile := write(t, "c2VjcmV0\n", 0o600)
	cfg, err := app.Load(home(t, "SIGNALBOX_ROOT_KEY_FILE", secretFile, "DATABASE_URL_FILE", secretFile, "SIGNALBOX_TOKEN_FILE", secretFile), nil)
	require.NoError(t, err)
	require.Equal(t, "c2VjcmV0", cfg.RootKey.Reveal())
	require.Equal(t, "c2VjcmV0", cfg.DatabaseURL.Reveal())
	require.Equal(t, "c2VjcmV0", cfg.Token.Reveal())
	require.Equal(t, "DATABASE_URL_FILE", cfg.Origin("database-url"))

	for name, env := range map[string]app.Environ{
		"SIGNALBOX_ROOT_KEY and SIGNALBOX_ROOT_KEY_FILE are both set": home(t, "SIGNALBOX_ROOT_KEY", "x", "SIGNALBOX_ROOT_KEY_FILE", secretFile),
		"chmod 600":              home(t, "SIGNALBOX_ROOT_KEY_FILE", write(t, "planted", 0o644)),
		"names a file that is":   home(t, "SIGNALBOX_TOKEN_FILE", write(t, "", 0o600)),
		"no such file":           home(t, "SIGNALBOX_LISTEN_FILE", "/nowhere/at/all"),
		"SIGNALBOX_LISTEN_FILE:": home(t, "SIGNALBOX_LISTEN_FILE", write(t, strings.Repeat("x", 70<<10), 0o600)),
	} {
		_, err := app.Load(env, nil)
		require.ErrorContains(t, err, name)
		require.NotContains(t, err.Error(), "planted")
	}
}

// TestConfigErrorsNameTheSettingAndNotTheValue: people paste secrets into the wrong variable.
func TestConfigErrorsNameTheSettingAndNotTheValue(t *testing.T) {
	const planted = "plantedSecret8f3k2"
	refused := 0
	for _, s := range app.Settings() {
		for _, value := range []string{planted, "-" + planted, "http://" + planted + "/?q=" + planted, planted + ":" + planted, "1" + planted} {
			_, err := app.Load(home(t, s.Env[0], value), nil)
			if err == nil {
				continue
			}
			refused++
			require.Contains(t, err.Error(), s.Env[0])
			require.NotContains(t, err.Error(), planted, s.Name)
		}
	}
	require.Greater(t, refused, 40)

	for name, env := range map[string]app.Environ{
		"--listen":                    home(t),
		"SIGNALBOX_BODY_LIMIT":        home(t, "SIGNALBOX_BODY_LIMIT", "0"),
		"SIGNALBOX_MAX_KEYS":          home(t, "SIGNALBOX_MAX_KEYS", "-1"),
		"SIGNALBOX_LOG_LEVEL":         home(t, "SIGNALBOX_LOG_LEVEL", "INFO+1"),
		"SIGNALBOX_TRUSTED_PROXIES":   home(t, "SIGNALBOX_TRUSTED_PROXIES", "0.0.0.0/0"),
		"SIGNALBOX_DRAIN_TIMEOUT":     home(t, "SIGNALBOX_DRAIN_TIMEOUT", "-3s"),
		"SIGNALBOX_UPSTREAM_TIMEOUT":  home(t, "SIGNALBOX_UPSTREAM_TIMEOUT", "0s"),
		"SIGNALBOX_BEHIND_TLS_PROXY":  home(t, "SIGNALBOX_BEHIND_TLS_PROXY", "maybe"),
		"SIGNALBOX_ALLOW_PRIVATE_UPS": home(t, "SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS", "http://127.0.0.1"),
	} {
		flags := map[string]string{}
		if name == "--listen" {
			flags["listen"] = "8420"
		}
		_, err := app.Load(env, flags)
		require.ErrorContains(t, err, name)
	}
	_, err := app.Load(home(t), map[string]string{"root-key": planted})
	require.ErrorContains(t, err, "--root-key is no setting", "secrets have no flag")
	require.NotContains(t, err.Error(), planted)
}

func TestConfigWarnsOfUnknownVariables(t *testing.T) {
	cfg, err := app.Load(home(t, "SIGNALBOX_LISTN", "plantedSecret", "SIGNALBOX_ROOTKEY", "plantedSecret", "OTHER", "x"), nil)
	require.NoError(t, err)
	require.Len(t, cfg.Warnings(), 2)
	require.Contains(t, cfg.Warnings()[0], "SIGNALBOX_LISTN")
	require.Contains(t, cfg.Warnings()[1], "SIGNALBOX_ROOTKEY")
	require.NotContains(t, strings.Join(cfg.Warnings(), " "), "plantedSecret")
}

func TestConfigValues(t *testing.T) {
	cfg, err := app.Load(home(t), map[string]string{
		"allow-private-upstreams": " 127.0.0.1:9999, build.lan ,10.1.0.0/16,", "trusted-proxies": "10.0.0.5, 192.168.0.0/24,::1", "body-limit": "4GiB",
		"log-level": "DEBUG", "data-dir": "data", "url": "https://box.example/", "drain-timeout": "0s",
	})
	require.NoError(t, err)
	require.Equal(t, []string{"127.0.0.1:9999", "build.lan", "10.1.0.0/16"}, cfg.AllowPrivateUpstreams)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32"), netip.MustParsePrefix("192.168.0.0/24"), netip.MustParsePrefix("::1/128")}, cfg.TrustedProxies)
	require.EqualValues(t, 4<<30, cfg.BodyLimit)
	require.Equal(t, slog.LevelDebug, cfg.LogLevel)
	require.True(t, filepath.IsAbs(cfg.DataDir))
	require.Equal(t, filepath.Join(cfg.DataDir, "checkpoints.log"), cfg.CheckpointFile)
	require.Equal(t, "https://box.example", cfg.URL)
	require.Zero(t, cfg.DrainTimeout)
}

// TestSettingsAreComplete keeps the table fit for what is derived from it: flags, help and the reference.
func TestSettingsAreComplete(t *testing.T) {
	names, variables := map[string]bool{}, map[string]bool{}
	for _, s := range app.Settings() {
		require.NotEmpty(t, s.Doc, s.Name)
		require.NotEmpty(t, s.Kind, s.Name)
		require.False(t, names[s.Name], s.Name)
		names[s.Name] = true
		require.True(t, strings.HasPrefix(s.Env[0], "SIGNALBOX_"), s.Name)
		for _, v := range s.Env {
			require.False(t, variables[v], v)
			variables[v] = true
		}
		if s.Secret {
			require.Empty(t, s.Flag(), s.Name)
			require.Empty(t, s.Default, s.Name)
		}
		if s.Switch {
			require.Contains(t, []string{"true", "false"}, s.Default, s.Name)
		}
	}
}

func TestConfigPrintsNoSecret(t *testing.T) {
	cfg, err := app.Load(home(t, "SIGNALBOX_ROOT_KEY", "plantedRoot", "DATABASE_URL", "postgres://u:plantedURL@h/d", "SIGNALBOX_TOKEN", "plantedToken"), nil)
	require.NoError(t, err)
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "cfg", cfg)
	fmt.Fprintf(&b, "%v %+v %#v", cfg, cfg, cfg)
	for _, planted := range []string{"plantedRoot", "plantedURL", "plantedToken"} {
		require.NotContains(t, b.String(), planted)
	}
}

func TestLogFormat(t *testing.T) {
	for _, c := range []struct {
		format   string
		terminal bool
		json     bool
	}{{"auto", true, false}, {"auto", false, true}, {"json", true, true}, {"text", false, false}} {
		var b bytes.Buffer
		log := app.NewLog(&b, c.terminal, app.Config{LogFormat: c.format, LogLevel: slog.LevelWarn})
		log.Info("not written")
		require.Zero(t, b.Len())
		log.Warn("written")
		require.Equal(t, c.json, json.Valid(b.Bytes()), c)
	}
}
