package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// outsideSecret is what the outside issuers of the tests sign with.
const outsideSecret = "planted-outside-secret-of-forty-letters-x"

// outsideIssuer makes an issuer with a shared secret whose callers get every scope.
func (h *house) outsideIssuer(iss string, is identity.SubjectIs) identity.Issuer {
	h.t.Helper()
	var all identity.Scopes
	for _, row := range identity.Permissions() {
		all = append(all, row.Permission)
	}
	known, err := h.identity.ListIssuers(h.t.Context(), identity.System("test"))
	require.NoError(h.t, err)
	if len(known) >= identity.MaxIssuers-8 { // worlds make many
		require.NoError(h.t, h.identity.DeleteIssuer(h.t.Context(), identity.System("test"), known[4].ID, ""))
	}
	i, err := h.identity.CreateIssuer(h.t.Context(), identity.System("test"), identity.IssuerEdit{
		Name: ptr(store.NewID("i")), Issuer: &iss, AnyAudience: ptr(true), Secret: ptr(secret.FromString(outsideSecret)), Algorithms: &[]string{"HS256"},
		SubjectIs: &is, Scopes: &all,
	})
	require.NoError(h.t, err)
	return i
}

func outsideToken(t *testing.T, iss, sub string) string {
	t.Helper()
	s, err := gojwt.NewWithClaims(gojwt.SigningMethodHS256, gojwt.MapClaims{"iss": iss, "sub": sub, "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(outsideSecret))
	require.NoError(t, err)
	return s
}

// program signs a person in as a program and returns the access token.
func (h *house) program(user string) string {
	h.t.Helper()
	ctx := context.Background()
	caller := identity.Caller{Kind: identity.KindAnonymous, IP: "192.0.2.44"}
	var in identity.Admission
	require.NoError(h.t, h.db.Write(ctx, func(tx *store.Tx) (err error) {
		in, err = h.identity.StartSession(tx, caller, user, identity.SessionAPI, identity.ProofPassword, identity.ProofTOTP)
		return err
	}))
	tokens, err := h.identity.IssueTokens(ctx, caller, in.Session.ID)
	require.NoError(h.t, err)
	return tokens.Access.Reveal()
}

// hasSession reports whether the token is a session's: of a browser, or an access token of ours.
func (h *house) hasSession(token string) bool {
	if strings.HasPrefix(token, sessionPrefix) {
		return true
	}
	c, err := h.identity.Bearer(h.t.Context(), token)
	return err == nil && c.SessionID != ""
}

// TestAProgramSignsIn: a password becomes tokens, they are refreshed, and signing out ends all of it at once.
func TestAProgramSignsIn(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		anyone := h.as("")
		_, err := anyone.Login(t.Context(), adminEmail, "planted-wrong-password")
		refused(t, err, 401, "login_failed")
		in, err := anyone.Login(t.Context(), adminEmail, adminPassword)
		require.NoError(t, err)
		require.Equal(t, 3600, in.ExpiresIn)
		require.Equal(t, "Bearer", in.TokenType)
		require.True(t, strings.HasPrefix(in.AccessToken, "eyJ"))
		require.True(t, strings.HasPrefix(in.RefreshToken, "sbr_"))
		who, err := h.as(in.AccessToken).WhoAmI(t.Context())
		require.NoError(t, err)
		require.Equal(t, h.user.ID, who.UserID)
		require.Equal(t, in.SessionID, who.SessionID)
		_, err = h.as(in.AccessToken).ListTrains(t.Context(), client.ListFilter{})
		require.NoError(t, err)

		next, err := anyone.Refresh(t.Context(), in.RefreshToken)
		require.NoError(t, err)
		_, err = h.as(in.AccessToken).WhoAmI(t.Context())
		require.NoError(t, err, "the older access token lives its hour")
		require.NoError(t, h.as(next.AccessToken).Logout(t.Context()))
		for _, token := range []string{in.AccessToken, next.AccessToken} {
			_, err = h.as(token).WhoAmI(t.Context())
			refused(t, err, 401, "unauthenticated")
		}
		_, err = anyone.Refresh(t.Context(), next.RefreshToken)
		refused(t, err, 401, "unauthenticated")

		stolen, err := anyone.Login(t.Context(), adminEmail, adminPassword)
		require.NoError(t, err)
		again, err := anyone.Refresh(t.Context(), stolen.RefreshToken)
		require.NoError(t, err)
		_, err = anyone.Refresh(t.Context(), stolen.RefreshToken)
		refused(t, err, 401, "unauthenticated")
		_, err = h.as(again.AccessToken).WhoAmI(t.Context())
		refused(t, err, 401, "unauthenticated")

		// Who sends the same request twice with one Idempotency-Key, because the answer was lost, does not end their session by it.
		safe, err := anyone.Login(t.Context(), adminEmail, adminPassword)
		require.NoError(t, err)
		once := anyone.Idempotent("planted-idempotency-1")
		got, err := once.Refresh(t.Context(), safe.RefreshToken)
		require.NoError(t, err)
		_, err = once.Refresh(t.Context(), safe.RefreshToken)
		refused(t, err, 409, "already_issued")
		_, err = h.as(got.AccessToken).WhoAmI(t.Context())
		require.NoError(t, err)
		require.NoError(t, anyone.RevokeLogin(t.Context(), got.RefreshToken))
		_, err = h.as(got.AccessToken).WhoAmI(t.Context())
		refused(t, err, 401, "unauthenticated")

		seen := h.log.String()
		for _, e := range h.events() {
			b, err := json.Marshal(e)
			require.NoError(t, err)
			seen += string(b)
		}
		require.NoError(t, h.db.Read(t.Context(), func(tx *store.Tx) error {
			var rows []string
			if err := tx.Select(&rows, `SELECT CAST(id AS TEXT) || ' ' || session_id FROM refresh_tokens`); err != nil {
				return err
			}
			seen += strings.Join(rows, "\n")
			return nil
		}))
		for _, token := range []client.Login{in, next, stolen, again, safe, got} {
			for _, planted := range []string{token.AccessToken, strings.Split(token.AccessToken, ".")[2], token.RefreshToken} {
				require.NotContains(t, seen, planted)
			}
		}
		require.NotContains(t, seen, "planted-wrong-password")
	})
}

// TestPublishedKeys: anybody may read the keys that verify our tokens, and keep them for a while; nothing else.
func TestPublishedKeys(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		_, err := h.as("").Login(t.Context(), adminEmail, adminPassword)
		require.NoError(t, err)
		a := h.do(request{method: http.MethodGet, target: "/api/auth/jwks.json"})
		require.Equal(t, 200, a.status)
		require.Equal(t, "public, max-age=900", a.header.Get("Cache-Control"))
		var set struct {
			Keys []map[string]string `json:"keys"`
		}
		require.NoError(t, json.Unmarshal(a.body, &set))
		require.Len(t, set.Keys, 2)
		for _, k := range set.Keys {
			require.Len(t, k, 7)
			require.Equal(t, "sig", k["use"])
		}
		require.NoError(t, h.client.RotateSigningKeys(t.Context(), true))
		b := h.do(request{method: http.MethodGet, target: "/api/auth/jwks.json"})
		require.NotContains(t, string(b.body), set.Keys[0]["kid"])
		refused(t, h.client.RotateSigningKeys(t.Context(), false), 409, "state_conflict")
	})
}

// TestOutsideIssuersByAPI: an administrator adds, changes and removes an issuer; its secret comes back nowhere.
func TestOutsideIssuersByAPI(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		planted := "planted-api-secret-of-more-than-32-bytes"
		made, err := h.client.CreateJWTIssuer(t.Context(), client.JWTIssuerPatch{
			Name: ptr("Portal"), Issuer: ptr("https://portal.example.com"), AnyAudience: ptr(true), SharedSecret: &planted, Algorithms: []string{"HS256"},
			SubjectClaim: ptr("id"), SubjectForm: ptr("number"), Subjects: &[]client.JWTSubject{{Subject: "7", UserID: h.user.ID}}, Scopes: &[]string{"trains:read"},
		})
		require.NoError(t, err)
		require.True(t, made.HasSharedSecret)
		sign := func(id any) string {
			s, err := gojwt.NewWithClaims(gojwt.SigningMethodHS256, gojwt.MapClaims{"iss": "https://portal.example.com", "id": id, "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(planted))
			require.NoError(t, err)
			return s
		}
		who, err := h.as(sign(7)).WhoAmI(t.Context())
		require.NoError(t, err)
		require.Equal(t, "jwt", who.Kind)
		require.Equal(t, []string{"trains:read"}, who.Scopes)
		_, err = h.as(sign(7)).ListTrains(t.Context(), client.ListFilter{})
		require.NoError(t, err)
		_, err = h.as(sign("7")).IssueToken(t.Context(), client.TokenDraft{Name: "more"})
		refused(t, err, 403, "scope_missing")
		_, err = h.as(sign(0)).WhoAmI(t.Context())
		refused(t, err, 401, "unauthenticated")

		_, err = h.client.UpdateJWTIssuer(t.Context(), made.ID, client.JWTIssuerPatch{Scopes: &[]string{}})
		require.NoError(t, err)
		_, err = h.as(sign(7)).ListTrains(t.Context(), client.ListFilter{})
		refused(t, err, 403, "scope_missing")
		list, err := h.client.ListJWTIssuers(t.Context())
		require.NoError(t, err)
		require.Len(t, list, 1)
		got, err := h.client.GetJWTIssuer(t.Context(), made.ID)
		require.NoError(t, err)
		require.NotEmpty(t, got.ETag)
		_, err = h.client.UpdateJWTIssuer(t.Context(), made.ID, client.JWTIssuerPatch{Name: ptr("Late"), IfMatch: `"0"`})
		refused(t, err, 412, "etag_mismatch")
		got.ETag = ""
		require.Equal(t, list[0], got)
		require.NoError(t, h.client.DeleteJWTIssuer(t.Context(), made.ID))
		_, err = h.as(sign(7)).WhoAmI(t.Context())
		refused(t, err, 401, "unauthenticated")
		seen := h.log.String()
		for _, e := range h.events() {
			b, err := json.Marshal(e)
			require.NoError(t, err)
			seen += string(b)
		}
		require.NotContains(t, seen, planted)
	})
}
