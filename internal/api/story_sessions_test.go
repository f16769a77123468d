package api_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestSessionAtTheAPI: the cookie opens the API like a token, for changes only from our own pages, and never beside a token.
func TestSessionAtTheAPI(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		session := h.session(h.user.ID)
		who, err := h.as(session).WhoAmI(t.Context())
		require.NoError(t, err)
		require.Equal(t, "person", who.Kind)
		require.Equal(t, h.user.ID, who.ID)
		require.NotEmpty(t, who.SessionID)
		require.Len(t, who.Scopes, len(identity.Permissions()))

		make := func(header ...string) answered {
			r := request{method: "POST", target: "/api/trains", token: session, header: http.Header{}, body: []byte(`{"train_id":"` + strings.ReplaceAll(store.NewID("t"), "_", "-") + `"}`)}
			for i := 0; i < len(header); i += 2 {
				r.header[header[i]] = []string{header[i+1]}
			}
			return h.do(r)
		}
		for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
			before := h.countsBesideRecords()
			a := make(header...)
			require.Equal(t, 403, a.status, "%v: %s", header, a.body)
			require.Equal(t, "cross_origin", h.problem(a).Code)
			require.Equal(t, before, h.countsBesideRecords())
		}
		require.Equal(t, 201, make("Sec-Fetch-Site", "same-origin").status)
		require.Equal(t, 201, make("Origin", h.server.URL).status)
		require.Equal(t, 201, make("Sec-Fetch-Site", "same-origin", "Origin", "https://spoofed.example").status, "the browser's own word counts")

		// Authorization alone decides, whatever cookie comes along; a cookie under another name is none.
		cookie := http.Header{"Cookie": {identity.SessionCookie + "=" + session}}
		require.Equal(t, 401, h.do(request{method: "GET", target: "/api/whoami", token: "garbage", header: cookie}).status)
		a := h.do(request{method: "POST", target: "/api/trains", token: h.token, body: []byte(`{"train_id":"beside"}`),
			header: http.Header{"Cookie": {identity.SessionCookie + "=" + session}, "Sec-Fetch-Site": {"cross-site"}}})
		require.Equal(t, 201, a.status, "no other site knows a token: %s", a.body)
		for _, other := range []string{"signalbox=", "__Secure-signalbox=", "__host-signalbox=", "__Host-Signalbox="} {
			require.Equal(t, 401, h.do(request{method: "GET", target: "/api/whoami", header: http.Header{"Cookie": {other + session}}}).status, other)
		}

		a = h.do(request{method: "POST", target: "/api/auth/logout", token: session, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}})
		require.Equal(t, 204, a.status)
		require.Contains(t, a.header.Get("Set-Cookie"), "Max-Age=0")
		require.Equal(t, 401, h.do(request{method: "GET", target: "/api/whoami", token: session}).status)
		require.NotContains(t, h.log.String(), session)
	})
}

// TestWhatNeedsAFreshProof: in a session that is older than five minutes secrets stay in; a token has its scopes.
func TestWhatNeedsAFreshProof(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		w := h.world()
		session := h.session(h.user.ID)
		h.stale()
		asks := map[string]request{
			"reveal":        {method: "POST", target: "/api/credentials/" + w.credential + "/reveal", body: []byte(`{"field":"api_key","reason":"r"}`)},
			"export":        {method: "GET", target: "/api/audit/export"},
			"replace a key": {method: "POST", target: "/api/trains/" + w.trainSlug + "/api-keys/" + w.key + "/replace", body: []byte(`{"overlap_seconds":60}`)},
			"add a person":  {method: "POST", target: "/api/users", body: []byte(`{"email":"eve@example.com","name":"Eve","role":"administrator"}`)},
			"change a role": {method: "PATCH", target: "/api/users/" + w.user, body: []byte(`{"role":"administrator"}`)},
			"reset":         {method: "POST", target: "/api/users/" + w.user + "/reset-password"},
			"issue a key":   {method: "POST", target: "/api/trains/" + w.trainSlug + "/api-keys", body: []byte(`{"name":"for later"}`)},
			"send it away":  {method: "PATCH", target: "/api/credentials/" + w.credential, body: []byte(`{"base_url":"https://collector.example.net"}`)},
			"issue a token": {method: "POST", target: "/api/tokens", body: []byte(`{"name":"for later"}`)},
		}
		for name, r := range asks {
			r.token = session
			before := h.countsBesideRecords()
			a := h.do(r)
			require.Equal(t, 403, a.status, "%s: %s", name, a.body)
			p := h.problem(a)
			require.Equal(t, "step_up_required", p.Code, name)
			require.Contains(t, p.Detail, "/step-up")
			require.Equal(t, before, h.countsBesideRecords(), name)
			last := h.events()[0]
			require.Equal(t, store.OutcomeRefused, last.Outcome, name)
			require.Equal(t, "step_up_required", last.Reason, name)
			require.Equal(t, h.user.ID, last.Actor.ID)
		}
		wrong := h.do(request{method: "POST", target: "/api/auth/step-up", token: session, body: []byte(`{"password":"planted-wrong"}`)})
		require.Equal(t, 403, wrong.status)
		require.Equal(t, "password_wrong", h.problem(wrong).Code)
		up := h.do(request{method: "POST", target: "/api/auth/step-up", token: session, body: []byte(`{"password":"` + adminPassword + `"}`)})
		require.Equal(t, 204, up.status, "%s", up.body)
		fresh, _, _ := strings.Cut(strings.TrimPrefix(up.header.Get("Set-Cookie"), identity.SessionCookie+"="), ";")
		require.NotEqual(t, session, fresh)
		for name, r := range asks {
			r.token = session
			require.Equal(t, 401, h.do(r).status, "the old cookie: %s", name)
			r.token = fresh
			require.Less(t, h.do(r).status, 300, name)
		}
		require.NotContains(t, h.log.String(), "planted-wrong")
		require.NotContains(t, h.log.String(), adminPassword)
	})
}

// TestInvariant9ADeactivationCutsAnExport: what a person has open on another instance ends within a second of their deactivation, also while
// they take nothing from it.
func TestInvariant9ADeactivationCutsAnExport(t *testing.T) {
	cfg := storetest.Config(t, store.Postgres)
	root, err := secret.NewRootKey()
	require.NoError(t, err)
	h := newInstance(t, store.Postgres, cfg, root)
	h.setUp()
	second := newInstance(t, store.Postgres, cfg, root)
	for range 40 { // over 10 MiB, far more than the buffers of a connection whose client takes little
		h.write(func(tx *store.Tx) error {
			for range 100 {
				ev := identity.System("test").Event(store.IdentitySetup, store.Target{Kind: "test"})
				ev.Details = store.Details{store.Str("text", strings.Repeat("x", 2500))}
				if err := tx.Record(ev); err != nil {
					return err
				}
			}
			return nil
		})
	}
	auditor := h.person(identity.Auditor)
	session := h.session(auditor)
	require.Eventually(t, func() bool {
		return second.do(request{method: "GET", target: "/api/whoami", token: session}).status == 200
	}, 5*time.Second, 10*time.Millisecond)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, second.server.URL+"/api/audit/export", nil)
	require.NoError(t, err)
	req.Header.Set("Cookie", identity.SessionCookie+"="+session)
	slow := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if tcp, ok := conn.(*net.TCPConn); ok {
			err = tcp.SetReadBuffer(4 << 10)
		}
		return conn, err
	}}
	defer slow.CloseIdleConnections()
	resp, err := slow.RoundTrip(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, 200, resp.StatusCode)
	_, err = io.ReadFull(resp.Body, make([]byte, 1000)) // and then nothing more: the server waits for this client
	require.NoError(t, err)
	_, err = h.client.UpdateUser(t.Context(), auditor, client.UserPatch{Active: ptr(false)})
	require.NoError(t, err)
	ended := func() bool {
		for _, ev := range h.events() {
			if d, ok := ev.Details.Get("complete"); ok && ev.Action == store.AuditExport && d.Text() == "false" {
				require.Equal(t, "revoked", ev.Reason)
				return true
			}
		}
		return false
	}
	require.Eventually(t, ended, 5*time.Second, 20*time.Millisecond, "the stream of a deactivated person goes on")
}
