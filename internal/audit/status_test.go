package audit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store/storetest"
)

func TestInspect(t *testing.T) {
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			b := newBox(t, engine)
			s, err := Inspect(t.Context(), b.db)
			require.NoError(t, err)
			require.True(t, s.Waiting, "the keyring's own event is not sequenced yet")
			require.WithinDuration(t, time.Now(), s.WaitingSince, time.Minute)
			require.Zero(t, s.Size)
			require.True(t, s.SignedAt.IsZero())
			require.NoError(t, b.log.Flush(t.Context()))
			s, err = Inspect(t.Context(), b.db)
			require.NoError(t, err)
			require.False(t, s.Waiting)
			require.Positive(t, s.Size)
			require.Equal(t, s.Size, s.Signed)
			require.WithinDuration(t, time.Now(), s.SignedAt, time.Minute)
		})
	}
}
