package api_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
)

const loginVerifier = "planted-verifier-planted-verifier-planted-verifier"

// agreed is the code of a person who agreed in the browser that a command line acts as them.
func (h *house) agreed(user string) string {
	h.t.Helper()
	caller, err := h.identity.Session(context.Background(), h.session(user))
	require.NoError(h.t, err)
	sum := sha256.Sum256([]byte(loginVerifier))
	code, err := h.identity.AllowCommandLine(context.Background(), caller, identity.CommandLine{Challenge: base64.RawURLEncoding.EncodeToString(sum[:]), Port: 40123})
	require.NoError(h.t, err)
	return code.Reveal()
}

// TestACommandLineSignsIn: a code becomes tokens once, with its verifier; the session is one of the person's, and says how long it is good.
func TestACommandLineSignsIn(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx, anyone := t.Context(), h.as("")
		stolen, code := h.agreed(h.user.ID), h.agreed(h.user.ID)
		_, err := anyone.ExchangeLoginCode(ctx, stolen, strings.Repeat("planted-guess", 4))
		refused(t, err, 401, "unauthenticated")
		_, err = anyone.ExchangeLoginCode(ctx, stolen, loginVerifier)
		refused(t, err, 401, "unauthenticated") // the guess has spent it
		in, err := anyone.ExchangeLoginCode(ctx, code, loginVerifier)
		require.NoError(t, err)
		require.Equal(t, 3600, in.ExpiresIn)
		_, err = anyone.ExchangeLoginCode(ctx, code, loginVerifier)
		refused(t, err, 401, "unauthenticated")

		who, err := h.as(in.AccessToken).WhoAmI(ctx)
		require.NoError(t, err)
		require.Equal(t, h.user.ID, who.UserID)
		require.Equal(t, in.SessionID, who.SessionID)
		require.NotNil(t, who.ExpiresAt)
		require.WithinDuration(t, time.Now().Add(identity.RefreshLife), *who.ExpiresAt, time.Hour)
		next, err := anyone.Refresh(ctx, in.RefreshToken)
		require.NoError(t, err)
		require.NoError(t, anyone.RevokeLogin(ctx, next.RefreshToken))
		_, err = h.as(next.AccessToken).WhoAmI(ctx)
		refused(t, err, 401, "unauthenticated")

		expires := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		token, err := h.client.IssueToken(ctx, client.TokenDraft{Name: "dated", ExpiresAt: &expires})
		require.NoError(t, err)
		who, err = h.as(token.Secret).WhoAmI(ctx)
		require.NoError(t, err)
		require.Equal(t, expires, *who.ExpiresAt)

		seen := h.log.String()
		for _, e := range h.events() {
			b, err := json.Marshal(e)
			require.NoError(t, err)
			seen += string(b)
		}
		for _, planted := range []string{stolen, code, loginVerifier, "planted-guess", in.RefreshToken, strings.Split(in.AccessToken, ".")[2]} {
			require.NotContains(t, seen, planted)
		}
	})
}
