package signalboxtest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/signalboxtest"
)

// TestPeopleHearOfThefts: a webhook gets what looks like the theft of a sign-in, and none of the secrets that it is about.
func TestPeopleHearOfThefts(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		ctx := t.Context()
		type message struct {
			Type string
			Data struct {
				Title, Text, Severity string
				Facts                 []struct{ Name, Value string }
			}
		}
		var mu sync.Mutex
		got, raw := map[string]message{}, []string{}
		receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			var m message
			_ = json.Unmarshal(body, &m)
			mu.Lock()
			defer mu.Unlock()
			got[m.Type], raw = m, append(raw, string(body))
		}))
		defer receiver.Close()
		admin := box.Admin()
		_, err := admin.CreateChannel(ctx, client.ChannelDraft{Kind: "webhook", Name: "pager", Secrets: map[string]string{"url": receiver.URL, "signing_secret": "whsec_cGxhbnRlZC1zaWduaW5nLTEyMzQ1Njc4"}})
		require.NoError(t, err)

		const email, password = "grace@example.com", "planted-password-for-news"
		made, err := admin.CreateUser(ctx, client.UserDraft{Email: email, Name: "Grace", Role: "operator", Password: password})
		require.NoError(t, err)
		in, err := box.Anonymous().Login(ctx, email, password)
		require.NoError(t, err)
		grace := client.New(box.URL, in.AccessToken)
		offer, err := grace.OfferTOTP(ctx)
		require.NoError(t, err)
		code, err := totp.GenerateCode(offer.Secret, time.Now())
		require.NoError(t, err)
		codes, err := grace.ConfirmTOTP(ctx, code)
		require.NoError(t, err)
		for _, s := range append(codes, offer.Secret, in.RefreshToken, in.AccessToken) {
			box.Planted.Add("second factor or token", s)
		}

		program, err := box.Anonymous().LoginWith(ctx, email, password, "", codes[0])
		require.NoError(t, err)
		next, err := box.Anonymous().Refresh(ctx, program.RefreshToken)
		require.NoError(t, err)
		_, err = box.Anonymous().Refresh(ctx, program.RefreshToken)
		require.Error(t, err)
		_, err = client.New(box.URL, next.AccessToken).WhoAmI(ctx)
		require.Error(t, err, "the session ended")
		require.NoError(t, admin.ResetFactors(ctx, made.User.ID))

		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got) == 3
		}, 30*time.Second, 20*time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		for kind, severity := range map[string]string{"recovery_code.used": "warning", "refresh_token.reused": "critical", "second_factors.reset": "warning"} {
			m, ok := got[kind]
			require.True(t, ok, kind)
			require.Equal(t, severity, m.Data.Severity)
			require.Contains(t, m.Data.Title, "Grace")
			require.Equal(t, email, m.Data.Facts[1].Value)
		}
		require.Contains(t, got["recovery_code.used"].Data.Facts, struct{ Name, Value string }{"Codes left", "9"})
		for _, body := range raw {
			require.Empty(t, box.Planted.Find([]byte(body)))
		}
	})
}
