package deposit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/deposit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

const shared = "planted-portal-secret-of-more-than-32-bytes"

// portal makes an outside issuer whose tokens carry a number and an end, and nothing else.
func portal(t *testing.T, box *signalboxtest.Box, scopes ...string) (sign func(claims gojwt.MapClaims) string, id string) {
	t.Helper()
	box.Planted.Add("shared secret", shared)
	secret := shared
	made, err := box.Admin().CreateJWTIssuer(t.Context(), client.JWTIssuerPatch{
		Name: ptr("Portal"), AnyIssuer: ptr(true), AnyAudience: ptr(true), SharedSecret: &secret, Algorithms: []string{"HS256"},
		SubjectClaim: ptr("id"), SubjectForm: ptr("number"), SubjectIs: ptr("outsider"), Scopes: &scopes,
	})
	require.NoError(t, err)
	return func(claims gojwt.MapClaims) string {
		if _, there := claims["exp"]; !there {
			claims["exp"] = time.Now().Add(time.Hour).Unix()
		}
		s, err := gojwt.NewWithClaims(gojwt.SigningMethodHS256, claims).SignedString([]byte(shared))
		require.NoError(t, err)
		return s
	}, made.ID
}

func ptr[T any](v T) *T { return &v }

// ask sends one request and returns what came back.
func ask(t *testing.T, box *signalboxtest.Box, method, path, token, body string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, box.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NotEmpty(t, resp.Header.Get("X-Request-Id"))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	box.Planted.Absent(t, "an answer", b)
	return resp.StatusCode, string(b)
}

// with returns a good body with some fields otherwise; nil takes a field away.
func with(t *testing.T, refresh string, changes map[string]any) string {
	t.Helper()
	m := map[string]any{"mcpServerId": "files", "refreshToken": refresh, "tokenEndpoint": "https://auth.example.com/token"}
	for k, v := range changes {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
	b, err := json.Marshal(m)
	require.NoError(t, err)
	return string(b)
}

const deposits = "/mcp-oauth-credentials"

// TestTheContract goes through the contract of the deposit row by row, as a caller with the token of an outside issuer that carries an id and an end.
func TestTheContract(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		sign, issuer := portal(t, box, "mcp_connections:write")
		refresh := box.Planted.Secret(t, "refresh token")
		key := box.Planted.Secret(t, "client secret")
		good := with(t, refresh, nil)

		unauthorized := `{"error":"Unauthorized"}`
		for name, token := range map[string]string{
			"none": "", "garbage": "planted", "ended": sign(gojwt.MapClaims{"id": 7, "exp": time.Now().Add(-time.Hour).Unix()}), "no id": sign(gojwt.MapClaims{}),
			"zero": sign(gojwt.MapClaims{"id": 0}), "negative": sign(gojwt.MapClaims{"id": -7}), "part": sign(gojwt.MapClaims{"id": 1.5}), "word": sign(gojwt.MapClaims{"id": "seven"}),
			"empty": sign(gojwt.MapClaims{"id": ""}), "list": sign(gojwt.MapClaims{"id": []int{7}}), "no end": sign(gojwt.MapClaims{"id": 7, "exp": nil}),
		} {
			for _, method := range []string{http.MethodPost, http.MethodDelete} {
				path := deposits
				if method == http.MethodDelete {
					path += "/files"
				}
				status, text := ask(t, box, method, path, token, good)
				require.Equal(t, 401, status, "%s %s: %s", name, method, text)
				require.Equal(t, unauthorized, text, name)
			}
		}

		seven := sign(gojwt.MapClaims{"id": 7})
		for body, want := range map[string]string{
			``:                               "body: is not JSON",
			`[]`:                             "body: is no JSON object",
			`{}`:                             "mcpServerId: is required; refreshToken: is required; tokenEndpoint: is required",
			good + `{}`:                      "body: goes on after its JSON text",
			`{"mcpServerId":"a",` + good[1:]: "body: has a key twice",
			with(t, refresh, map[string]any{refresh: 1}):                              "body: has a field that is not known",
			with(t, refresh, map[string]any{"mcpServerId": ""}):                       "mcpServerId: must have at least 1 character",
			with(t, refresh, map[string]any{"mcpServerId": strings.Repeat("x", 256)}): "mcpServerId: must have at most 255 characters",
			with(t, refresh, map[string]any{"mcpServerId": 7}):                        "mcpServerId: must be a string",
			with(t, "", nil): "refreshToken: must have at least 1 character",
			with(t, refresh, map[string]any{"refreshToken": []string{refresh}}):                                     "refreshToken: must be a string",
			with(t, refresh, map[string]any{"tokenEndpoint": "http://auth.example.com/token"}):                      "tokenEndpoint: An upstream must be an https URL",
			with(t, refresh, map[string]any{"tokenEndpoint": "https://10.1.2.3/token"}):                             "tokenEndpoint: ",
			with(t, refresh, map[string]any{"tokenEndpoint": "https://[::ffff:169.254.169.254]/t"}):                 "tokenEndpoint: ",
			with(t, refresh, map[string]any{"tokenEndpoint": "https://u:p@auth.example.com/token"}):                 "tokenEndpoint: ",
			with(t, refresh, map[string]any{"tokenEndpoint": "https://a.example/" + strings.Repeat("x", 2048)}):     "tokenEndpoint: must have at most 2048 characters",
			with(t, refresh, map[string]any{"clientId": ""}):                                                        "clientId: must have at least 1 character",
			with(t, refresh, map[string]any{"clientId": strings.Repeat("x", 256)}):                                  "clientId: must have at most 255 characters",
			with(t, refresh, map[string]any{"clientSecret": key}):                                                   "clientId: is required with a clientSecret",
			with(t, refresh, map[string]any{"clientId": "c", "clientSecret": key, "clientSecretExpiresAt": "soon"}): "clientSecretExpiresAt: must be a date",
			with(t, refresh, map[string]any{"tokenEndpointAuthMethod": "private_key_jwt"}):                          "tokenEndpointAuthMethod: must be client_secret_basic, client_secret_post or none",
			with(t, refresh, map[string]any{"scopes": strings.Repeat("x", 2049)}):                                   "scopes: must have at most 2048 characters",
			with(t, refresh, map[string]any{"userId": 8}):                                                           "body: has a field that is not known",
		} {
			status, text := ask(t, box, http.MethodPost, deposits, seven, body)
			require.Equal(t, 400, status, text)
			var got map[string]string
			require.NoError(t, json.Unmarshal([]byte(text), &got))
			require.Len(t, got, 1)
			require.True(t, strings.HasPrefix(got["error"], "Invalid request body — "), got["error"])
			require.Contains(t, got["error"], want)
		}
		status, text := ask(t, box, http.MethodPost, deposits, seven, `{"x":"`+strings.Repeat("x", 300<<10)+`"}`)
		require.Equal(t, 413, status, text)
		for route, want := range map[string]int{"GET " + deposits: 405, "PUT " + deposits: 405, "GET " + deposits + "/files": 405, "POST " + deposits + "/": 404, "POST " + deposits + "/a/b": 404} {
			method, path, _ := strings.Cut(route, " ")
			status, _ := ask(t, box, method, path, seven, good)
			require.Equal(t, want, status, route)
		}

		since := time.Now()
		stored := func(token, body string) {
			t.Helper()
			status, text := ask(t, box, http.MethodPost, deposits, token, body)
			require.Equal(t, 200, status, text)
			require.Equal(t, `{"stored":true}`, text)
		}
		stored(seven, good)
		stored(sign(gojwt.MapClaims{"id": "7"}), good) // the same one
		stored(sign(gojwt.MapClaims{"id": 8}), good)
		stored(box.Token, with(t, refresh, map[string]any{"mcpServerId": "ü/… " + strings.Repeat("x", 200), "clientId": strings.Repeat("c", 255), "clientSecret": key, "clientSecretExpiresAt": "2031-01-31T12:00:00Z",
			"tokenEndpointAuthMethod": "client_secret_post", "scopes": strings.Repeat("s", 2048)}))
		connections := func() (out []string) {
			t.Helper()
			db := box.OpenReadOnly(t)
			require.NoError(t, db.Read(context.Background(), func(tx *store.Tx) error {
				return tx.Select(&out, `SELECT subject FROM mcp_connections ORDER BY created_at`)
			}))
			return out
		}
		me, err := box.Admin().WhoAmI(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{issuer + "#7", issuer + "#8", me.UserID}, connections())
		for range 2 {
			status, text := ask(t, box, http.MethodDelete, deposits+"/files", seven, "")
			require.Equal(t, 204, status)
			require.Empty(t, text)
		}
		status, _ = ask(t, box, http.MethodDelete, deposits+"/"+url.PathEscape("ü/… "+strings.Repeat("x", 200)), box.Token, "")
		require.Equal(t, 204, status)
		status, _ = ask(t, box, http.MethodDelete, deposits+"/"+strings.Repeat("x", 300), seven, "")
		require.Equal(t, 204, status)
		require.Equal(t, []string{issuer + "#8"}, connections())
		box.RequireEvents(t, since, store.CredentialCreate, store.MCPDeposit, store.CredentialRotate, store.MCPDeposit, store.CredentialCreate, store.MCPDeposit, store.CredentialCreate, store.MCPDeposit,
			store.CredentialDelete, store.MCPDisconnect, store.MCPDisconnect, store.CredentialDelete, store.MCPDisconnect, store.MCPDisconnect)

		// The issuer's callers are nobody anywhere else, and nobody here either without the scope.
		_, err = client.New(box.URL, seven).ListTrains(t.Context(), client.ListFilter{})
		var problem *client.Error
		require.ErrorAs(t, err, &problem)
		require.Equal(t, 403, problem.Status)
		_, err = box.Admin().UpdateJWTIssuer(t.Context(), issuer, client.JWTIssuerPatch{Scopes: &[]string{"credentials:write"}})
		require.NoError(t, err)
		status, text = ask(t, box, http.MethodPost, deposits, seven, good)
		require.Equal(t, 401, status)
		require.Equal(t, unauthorized, text)
		_, err = box.Admin().UpdateJWTIssuer(t.Context(), issuer, client.JWTIssuerPatch{Active: ptr(false)})
		require.NoError(t, err)
		status, _ = ask(t, box, http.MethodDelete, deposits+"/files", sign(gojwt.MapClaims{"id": 8}), "")
		require.Equal(t, 401, status)
		require.Equal(t, []string{issuer + "#8"}, connections())
	})
}

// TestTwoInstances: what one instance took, the other deletes, and the other way round.
func TestTwoInstances(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		if box.Store.PostgresURL.IsZero() {
			return // SQLite has one process
		}
		sign, _ := portal(t, box, "mcp_connections:write")
		second := box.Second(t)
		seven := sign(gojwt.MapClaims{"id": 7})
		good := with(t, box.Planted.Secret(t, "refresh token"), nil)
		for _, pair := range [][2]*signalboxtest.Box{{box, second}, {second, box}} {
			status, text := ask(t, pair[0], http.MethodPost, deposits, seven, good)
			require.Equal(t, 200, status, text)
			status, _ = ask(t, pair[1], http.MethodDelete, deposits+"/files", seven, "")
			require.Equal(t, 204, status)
			var n int
			require.NoError(t, box.OpenReadOnly(t).Read(context.Background(), func(tx *store.Tx) error {
				return tx.Get(&n, `SELECT COUNT(*) FROM credentials`)
			}))
			require.Zero(t, n)
		}
	})
}

// TestWithoutAKey: a server that is sealed takes nothing, and says so in the words of the contract; another mode says where to go.
func TestWithoutAKey(t *testing.T) {
	for want, closed := range map[string]error{
		`503 {"code":"executor_encryption_key_missing"}`: fault.New(fault.Unavailable, "encryption_key_missing", "Signalbox is sealed."),
		`404 {"error":"Ask another instance."}`:          fault.New(fault.NotFound, "not_served_here", "Ask another instance."),
		`503 {"error":"Wait."}`:                          fault.New(fault.Unavailable, "draining", "Wait.").After(1),
	} {
		d, err := deposit.New(deposit.Config{Closed: closed})
		require.NoError(t, err)
		for _, route := range []string{"POST " + deposits, "DELETE " + deposits + "/files"} {
			method, path, _ := strings.Cut(route, " ")
			got := httptest.NewRecorder()
			d.ServeHTTP(got, httptest.NewRequest(method, path, nil))
			require.Equal(t, want, fmt.Sprintf("%d %s", got.Code, got.Body))
		}
	}
	_, err := deposit.New(deposit.Config{})
	require.Error(t, err)
}

// TestReadOnly: nothing is changed.
func TestReadOnly(t *testing.T) {
	box := signalboxtest.StartWith(t, store.SQLite, map[string]string{"SIGNALBOX_READ_ONLY": "true"})
	status, text := ask(t, box, http.MethodPost, deposits, box.Token, with(t, box.Planted.Secret(t, "refresh token"), nil))
	require.Equal(t, 403, status, text)
	require.Contains(t, text, "--read-only")
}
