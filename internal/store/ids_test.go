package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

func TestIDTime(t *testing.T) {
	for range 1000 {
		before := time.Now().Add(-time.Microsecond)
		id := store.NewID("evt")
		after := time.Now().Add(time.Microsecond)
		at, ok := store.IDTime("evt", id)
		require.True(t, ok)
		require.False(t, at.Before(before) || at.After(after), "%v not in %v..%v", at, before, after)
	}
	at, ok := store.IDTime("evt", store.IDFloor("evt", time.UnixMilli(1795312823123)))
	require.True(t, ok)
	require.EqualValues(t, 1795312823123, at.UnixMilli())
	for _, bad := range []string{"", "evt_", "req_01m80fmzf3e569grc3aqskawxy", "evt_81m80fmzf3e569grc3aqskawxy", "evt_01m80fmzf3e569grc3aqskawxu"} {
		_, ok := store.IDTime("evt", bad)
		require.False(t, ok, bad)
	}
}
