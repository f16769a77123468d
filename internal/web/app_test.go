package web_test

import (
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"
)

// appCode is what an authenticator app shows, or has shown.
func appCode(s *site, key string, off time.Duration) string {
	s.Helper()
	code, err := totp.GenerateCode(key, time.Now().Add(off))
	require.NoError(s, err)
	return code
}
