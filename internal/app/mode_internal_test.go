package app

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestModesServeTheirHalf asks every group of routes of an instance in every mode.
func TestModesServeTheirHalf(t *testing.T) {
	for _, engine := range storetest.Engines() {
		db := storetest.Config(t, engine) // one database, set up by the first instance, as in a fleet
		for _, mode := range []Mode{ModeFull, ModeAPI, ModeProxy} {
			t.Run(string(engine)+"/"+string(mode), func(t *testing.T) {
				env := Environ{
					"SIGNALBOX_DATA_DIR": db.DataDir, "DATABASE_URL": db.PostgresURL.Reveal(), "SIGNALBOX_MODE": string(mode),
					"SIGNALBOX_ROOT_KEY": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)),
				}
				if mode == ModeFull {
					delete(env, "SIGNALBOX_MODE") // the default
				}
				s := serveEnv(t, slog.LevelInfo, env)
				for _, path := range []string{"/healthz", "/readyz"} {
					status, _, body := s.get(t, path)
					require.Equal(t, http.StatusOK, status, "%s: %s", path, body)
				}
				s.checkLending(t, mode != ModeAPI)
				s.checkDeposits(t, mode != ModeAPI)
				s.checkManaging(t, mode != ModeProxy)
				var chores int64
				require.NoError(t, s.db.Read(t.Context(), func(tx *store.Tx) error {
					return tx.Get(&chores, `SELECT count(*) FROM elections`)
				}))
				require.Positive(t, chores, "an instance of any mode stands for the chores")
				require.NoError(t, s.audit.Flush(t.Context()), "and does them")
				s.stop()
				require.NoError(t, <-s.done)
				require.NoError(t, s.Close())
			})
		}
	}
}

func (s *served) checkLending(t *testing.T, lends bool) {
	t.Helper()
	for route, want := range map[string]int{"POST /v1/messages": 401, "POST /v1/messages/count_tokens": 401, "GET /v1/models": 401, "GET /v1/other": 404, "GET /v1": 404} {
		method, path, _ := strings.Cut(route, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(`{}`))
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		var got struct {
			Type      string
			Error     struct{ Type, Message string }
			RequestID string `json:"request_id"`
		}
		require.NoError(t, json.Unmarshal(body, &got), "%s: %s", route, body)
		require.Equal(t, "error", got.Type, route)
		require.NotEmpty(t, got.RequestID)
		if lends {
			require.Equal(t, want, resp.StatusCode, route)
			require.NotContains(t, got.Error.Message, "--mode", route)
			continue
		}
		require.Equal(t, http.StatusNotFound, resp.StatusCode, route)
		require.Equal(t, "not_found_error", got.Error.Type, route)
		require.Contains(t, got.Error.Message, "--mode api", route)
		require.Equal(t, "false", resp.Header.Get("X-Should-Retry"), "an SDK that tries again only hides the text")
	}
	for path, want := range map[string]int{"/mcp/files": 401, "/mcp": 400, "//mcp/files": 400} {
		status, h, body := s.get(t, path)
		require.Equal(t, "application/json", h.Get("Content-Type"), path)
		require.NotEmpty(t, h.Get("X-Request-Id"))
		require.Contains(t, body, `"jsonrpc":"2.0"`, path)
		if lends {
			require.Equal(t, want, status, path)
			continue
		}
		require.Equal(t, http.StatusNotFound, status, path)
		require.Contains(t, body, `"code":"not_served_here"`, path)
		require.Contains(t, body, "--mode api", path)
	}
	status, h, body := s.get(t, "/list-mcp-tools?mcpServerId=files")
	require.Equal(t, map[bool]int{true: http.StatusUnauthorized, false: http.StatusNotFound}[lends], status)
	require.NotEmpty(t, h.Get("X-Request-Id"))
	require.Equal(t, lends, body == `{"error":"Unauthorized"}`, body)
	status, _, body = s.get(t, "/.well-known/oauth-protected-resource/mcp/files")
	require.Equal(t, map[bool]int{true: http.StatusOK, false: http.StatusNotFound}[lends], status)
	require.Equal(t, lends, strings.Contains(body, `/mcp/files"`), body)
	for path, want := range map[string]int{"/use/tool/x": 401, "/use": 400, "//use/tool/x": 400} {
		status, h, body := s.get(t, path)
		require.Equal(t, "application/problem+json", h.Get("Content-Type"), path)
		require.NotEmpty(t, h.Get("X-Request-Id"))
		if lends {
			require.Equal(t, want, status, path)
			continue
		}
		require.Equal(t, http.StatusNotFound, status, path)
		require.Contains(t, body, `"code":"not_served_here"`, path)
		require.Contains(t, body, "--mode api", path)
	}
}

func (s *served) checkDeposits(t *testing.T, takes bool) {
	t.Helper()
	for route, want := range map[string]int{"POST /mcp-oauth-credentials": 401, "DELETE /mcp-oauth-credentials/files": 401, "GET /mcp-oauth-credentials": 405, "POST /mcp-oauth-credentials/a/b": 404} {
		method, path, _ := strings.Cut(route, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(`{}`))
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.NotEmpty(t, resp.Header.Get("X-Request-Id"))
		if takes {
			require.Equal(t, want, resp.StatusCode, route)
			require.NotContains(t, string(body), "--mode", route)
			continue
		}
		require.Equal(t, http.StatusNotFound, resp.StatusCode, route)
		require.Contains(t, string(body), "--mode api", route)
	}
}

func (s *served) checkManaging(t *testing.T, manages bool) {
	t.Helper()
	for path, want := range map[string]int{"/api/version": 200, "/api/openapi.json": 200, "/api/credentials": 401, "/api/nothing": 404, "/api": 404} {
		status, h, body := s.get(t, path)
		if manages {
			require.Equal(t, want, status, path)
			continue
		}
		require.Equal(t, http.StatusNotFound, status, path)
		require.Equal(t, "application/problem+json", h.Get("Content-Type"), path)
		require.Contains(t, body, `"code":"not_served_here"`, path)
		require.Contains(t, body, "--mode proxy", path)
		require.NotEmpty(t, h.Get("X-Request-Id"))
	}
	for path, want := range map[string]int{"/setup": 403, "/assets/style.css": 200, "/nothing": 404} {
		status, h, body := s.get(t, path)
		if manages {
			require.Equal(t, want, status, path)
			continue
		}
		require.Equal(t, http.StatusNotFound, status, path)
		require.Contains(t, body, "--mode proxy", path)
		require.NotEmpty(t, h.Get("Content-Security-Policy"), path)
	}
}

// TestAProxyDoesNotSetUpADatabase: the set-up link that a first start prints would lead nowhere.
func TestAProxyDoesNotSetUpADatabase(t *testing.T) {
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			db := storetest.Config(t, engine)
			dir := filepath.Join(t.TempDir(), "data")
			cfg, err := Load(Environ{
				"SIGNALBOX_DATA_DIR": dir, "DATABASE_URL": db.PostgresURL.Reveal(), "SIGNALBOX_MODE": "proxy",
				"SIGNALBOX_ROOT_KEY": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)),
			}, nil)
			require.NoError(t, err)
			_, err = Open(t.Context(), cfg)
			require.ErrorIs(t, err, errProxyFirst)
			if engine == store.SQLite { // an init that was cut off
				a, err := open(t.Context(), cfg, false)
				require.NoError(t, err)
				require.NoError(t, a.Close())
				_, err = Open(t.Context(), cfg)
				require.ErrorIs(t, err, errProxyFirst)
			}
			cfg.Mode = ModeFull
			a, err := Open(t.Context(), cfg)
			require.NoError(t, err)
			require.True(t, a.First().Done, "the refusal left nothing behind that hides the first start")
			require.NoError(t, a.Close())
		})
	}
	_, err := Load(Environ{"HOME": t.TempDir(), "SIGNALBOX_MODE": "plantedSecret"}, nil)
	require.ErrorContains(t, err, "SIGNALBOX_MODE must be one of: full, proxy, api")
}
