package signalboxtest_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store"
)

func secretOf(s string) secret.Value { return secret.FromString(s) }

// recorder keeps every answer of the API but those that are meant to hold a secret.
type recorder struct {
	all  bytes.Buffer
	skip bool
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if !r.skip {
		_ = resp.Header.Write(&r.all)
		r.all.Write(body)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// TestInvariant10NoPlantedSecretInAnySink stores, lists, reads, changes, rotates, reveals, lends and refuses with planted secrets, and
// looks for them, whole, encoded and in pieces, wherever bytes end up. The log and the files are scanned by the box at its end.
func TestInvariant10NoPlantedSecretInAnySink(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		ctx := context.Background()
		rec := &recorder{}
		admin := client.New(box.URL, box.Token, client.WithHTTPClient(&http.Client{Transport: rec}))
		lane := box.Lane(t, "")
		shown := func(fn func()) { rec.skip = true; fn(); rec.skip = false }

		types := map[string]map[string]string{
			"api_key":  {"api_key": box.Planted.Secret(t, "api_key")},
			"password": {"password": box.Planted.Secret(t, "password")},
			"oauth":    {"access_token": box.Planted.Secret(t, "access_token"), "refresh_token": box.Planted.Secret(t, "refresh_token"), "client_secret": box.Planted.Secret(t, "client_secret")},
		}
		var ids []string
		for kind, secrets := range types {
			c, err := admin.CreateCredential(ctx, client.CredentialDraft{Type: kind, Name: "planted " + kind, Secrets: secrets})
			require.NoError(t, err, kind)
			ids = append(ids, c.ID)
			for field, want := range secrets {
				shown(func() {
					got, err := admin.RevealCredential(ctx, c.ID, field, "to see whether it is whole")
					require.NoError(t, err)
					require.Equal(t, want, got)
				})
				// Refused writes hold secrets as well, and in the wrong places.
				for _, bad := range []client.CredentialDraft{
					{Type: kind, Name: want + strings.Repeat("x", 500), Secrets: secrets},
					{Type: want, Name: "x", Secrets: secrets},
					{Type: kind, Name: "x", BaseURL: "http://user:" + want + "@10.0.0.1/", Secrets: secrets},
					{Type: kind, Name: "x", Provider: want, Secrets: map[string]string{want: want}},
				} {
					_, err := admin.CreateCredential(ctx, bad)
					require.Error(t, err)
					box.Planted.Absent(t, "an error", []byte(err.Error()))
				}
				_, err := admin.GetCredential(ctx, "cred_"+want)
				require.Error(t, err)
				box.Planted.Absent(t, "an error", []byte(err.Error()))
				_, err = client.New(box.URL, want).WhoAmI(ctx)
				require.Error(t, err)
			}
			_, err = admin.RotateCredential(ctx, c.ID, secrets, "rotate")
			require.NoError(t, err)
			_, err = admin.CredentialVersions(ctx, c.ID)
			require.NoError(t, err)
		}
		_, err := admin.ListCredentials(ctx, client.CredentialFilter{})
		require.NoError(t, err)

		// Notification channels: stored, tried in vain, changed and refused.
		signing := box.Planted.Secret(t, "signing secret")
		signing = "whsec_" + base64.StdEncoding.EncodeToString([]byte(signing))
		box.Planted.Add("signing secret", signing)
		address := "http://127.0.0.1:9/" + url.PathEscape(box.Planted.Secret(t, "webhook address"))
		mailPassword := box.Planted.Secret(t, "mail password")
		host, from, port, to := "127.0.0.1", "a@example.com", 9, []string{"b@example.com"}
		for _, d := range []client.ChannelDraft{
			{Kind: "slack", Name: "slack", Secrets: map[string]string{"url": address}},
			{Kind: "webhook", Name: "webhook", Secrets: map[string]string{"url": address, "signing_secret": signing}},
			{Kind: "email", Name: "email", Email: &client.ChannelEmailPatch{Host: &host, Port: &port, Username: &from, From: &from, To: &to}, Secrets: map[string]string{"password": mailPassword}},
		} {
			made, err := admin.CreateChannel(ctx, d)
			require.NoError(t, err, d.Kind)
			tried, err := admin.TestChannel(ctx, made.ID)
			require.NoError(t, err)
			require.Equal(t, "refused", tried.Outcome)
			for field, v := range d.Secrets {
				_, err := admin.UpdateChannel(ctx, made.ID, client.ChannelPatch{Secrets: map[string]*string{field: &v}})
				require.NoError(t, err)
				_, err = admin.UpdateChannel(ctx, made.ID, client.ChannelPatch{Secrets: map[string]*string{"url": &mailPassword, "signing_secret": &mailPassword, "x" + field: &v}})
				require.Error(t, err)
				box.Planted.Absent(t, "an error", []byte(err.Error()))
			}
		}
		_, err = admin.ListChannels(ctx, client.ChannelFilter{})
		require.NoError(t, err)

		// Lending: good, refused, and with the secrets where they do not belong.
		send := func(change func(*http.Request)) {
			req := lane.Request(ctx, []byte(`{"model":"claude-x","max_tokens":20,"messages":[{"role":"user","content":"hi"}]}`))
			if change != nil {
				change(req)
			}
			resp, err := (&http.Client{Transport: rec}).Do(req)
			require.NoError(t, err)
			_ = resp.Body.Close()
		}
		send(nil)
		planted := types["password"]["password"]
		for _, name := range []string{"X-Api-Key", "MSL-Account", "MSL-Train-Id"} {
			send(func(r *http.Request) { r.Header.Set(name, planted) })
		}
		send(func(r *http.Request) { r.URL.Path = "/v1/" + planted })
		send(func(r *http.Request) { r.URL.Path = "/v1/models/" + planted; r.Method = http.MethodGet })
		send(func(r *http.Request) { r.URL.RawQuery = "key=" + planted })

		for _, path := range []string{"/api/openapi.json", "/healthz", "/readyz", "/metrics", "/api/credential-audit-logs?limit=1000", "/api/audit/tail?after=0", "/api/trains", "/api/trains/" + lane.Train + "/api-keys", "/api/trains/" + lane.Train + "/accounts",
			"/api/trains/" + lane.Train + "/explain", "/api/tokens", "/", "/setup", "/api/nothing/" + "here"} {
			req, err := http.NewRequest(http.MethodGet, box.URL+path, nil)
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+box.Token)
			resp, err := (&http.Client{Transport: rec}).Do(req)
			require.NoError(t, err)
			_ = resp.Body.Close()
		}
		require.NoError(t, admin.DeleteCredential(ctx, ids[0]))
		box.Planted.Absent(t, "the API's answers", rec.all.Bytes())
		require.Greater(t, rec.all.Len(), 20_000, "there was something to look at")
		if box.App.DataDir() != "" && !box.Store.PostgresURL.IsZero() {
			box.Planted.Absent(t, "PostgreSQL", dump(t, box))
		}
	})
}

// dump returns every row of every table as text; bytes come in hexadecimal, which the scanner knows.
func dump(t *testing.T, box *signalboxtest.Box) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, box.OpenReadOnly(t).Read(context.Background(), func(tx *store.Tx) error {
		var tables []string
		if err := tx.Select(&tables, `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`); err != nil {
			return err
		}
		for _, name := range tables {
			var rows []string
			if err := tx.Select(&rows, `SELECT t::text FROM `+name+` t`); err != nil {
				return err
			}
			for _, r := range rows {
				out.WriteString(r + "\n")
			}
		}
		var bodies [][]byte
		if err := tx.Select(&bodies, `SELECT body FROM audit_events UNION ALL SELECT body FROM audit_batches`); err != nil {
			return err
		}
		for _, b := range bodies {
			out.Write(b)
		}
		return nil
	}))
	require.Greater(t, out.Len(), 5000)
	return out.Bytes()
}
