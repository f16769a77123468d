package app

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHeapPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 3200, 1 << 20: 3200, 4 << 20: 800, 16 << 20: 400, 64 << 20: 400, 128 << 20: 200, 255 << 20: 100, 256 << 20: 100, 1 << 30: 100} {
		require.Equal(t, want, heapPercent(live, heapCeiling), "%d bytes alive", live)
	}
	for live, want := range map[uint64]int{1 << 20: 3200, 128 << 20: 400, 512 << 20: 200, 1 << 30: 100, 2 << 30: 100} {
		require.Equal(t, want, heapPercent(live, 1<<30), "%d bytes alive, on a large machine", live)
	}
	require.EqualValues(t, heapCeiling, ceilingOf(0), "nobody says what there is")
	require.EqualValues(t, heapCeiling, ceilingOf(512<<20))
	require.EqualValues(t, 1<<30, ceilingOf(8<<30))
	require.Positive(t, memory())
}

func gogc() uint64 {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

func TestHeapIsPacedUntilStopped(t *testing.T) {
	t.Setenv("GOGC", "")
	before := gogc()
	p := &heapPacer{ceiling: heapCeiling}
	p.pace()
	stop := p.stop
	ballast := make([]byte, heapCeiling)
	require.Eventually(t, func() bool { runtime.GC(); return gogc() == heapDefault }, 5*time.Second, 10*time.Millisecond, "a large heap grows as usual")
	runtime.KeepAlive(ballast)
	ballast = nil
	require.Eventually(t, func() bool { runtime.GC(); return gogc() > heapDefault }, 5*time.Second, 10*time.Millisecond, "a small one is collected seldom")
	stop()
	for range 3 {
		runtime.GC()
		time.Sleep(20 * time.Millisecond)
		require.EqualValues(t, heapDefault, gogc())
	}
	require.EqualValues(t, heapDefault, before)
}

func TestOperatorsGOGCStands(t *testing.T) {
	t.Setenv("GOGC", "50")
	before := gogc()
	stop := paceHeap()
	require.Equal(t, before, gogc())
	stop()
	require.Equal(t, before, gogc())
}
