package identity

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTOTPVectors are those of RFC 6238, appendix B, for SHA-1, and their last six digits are ours.
func TestTOTPVectors(t *testing.T) {
	key := []byte("12345678901234567890")
	for unix, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		step := unix / 30
		require.Equal(t, want, totpCode(key, step, 8))
		require.Equal(t, want[2:], totpCode(key, step, totpDigits))
		for skew := int64(-3); skew <= 3; skew++ {
			if unix+30*skew < 0 {
				continue
			}
			got := totpMatch(key, time.Unix(unix+30*skew, 0), 0, want[2:])
			if skew < -1 || skew > 1 {
				require.Zero(t, got, "%d steps off", skew)
			} else {
				require.Equal(t, step, got, "%d steps off", skew)
			}
		}
		require.Zero(t, totpMatch(key, time.Unix(unix, 0), step, want[2:]), "used")
		require.Equal(t, step, totpMatch(key, time.Unix(unix, 0), step-1, want[2:]))
		for _, wrong := range []string{"", want, want[3:], want[2:] + " ", "000000"} {
			require.Zero(t, totpMatch(key, time.Unix(unix, 0), 0, wrong))
		}
	}
}
