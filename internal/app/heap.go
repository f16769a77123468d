package app

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const (
	// heapFloor is what may be allocated, in bytes, between two collections at least. A warm proxy keeps few megabytes alive, so Go's
	// default (a collection whenever the heap has doubled) would collect many times a second under load.
	heapFloor = 32 << 20
	// heapShare is how many times what is alive may be allocated meanwhile, so that a collection costs a request the same with many trains,
	// keys and accounts as with few.
	heapShare = 4
	// heapCeiling is what may be allocated at most because of that, or heapPart of what memory there is where that is more. With more alive than this, Go's own percentage (GOGC)
	// counts.
	heapCeiling = 256 << 20
	heapPart    = 8
	heapDefault = 100
)

// heapPacer sets the collector's percentage after each collection, so that small heaps are collected seldom and large ones grow no more
// than with Go's default. It owns no goroutine: an object that only the collector can reach runs it.
type heapPacer struct {
	ceiling uint64
	mu      sync.Mutex
	stopped bool
}

// paceHeap starts pacing until the returned function is called. An operator's GOGC is left alone.
func paceHeap() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	p := &heapPacer{ceiling: ceilingOf(memory())}
	p.pace()
	return p.stop
}

func (p *heapPacer) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	debug.SetGCPercent(heapDefault)
}

func (p *heapPacer) pace() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetGCPercent(heapPercent(live[0].Value.Uint64(), p.ceiling))
	runtime.AddCleanup(new([16]*byte), func(p *heapPacer) { p.pace() }, p)
}

// memory is how many bytes of memory this process may have: those of the machine, or of its control group (of either version) where it allows fewer; 0 where nobody says.
func memory() uint64 {
	least := uint64(0)
	for _, says := range [...]memlimit.Provider{memlimit.FromSystem, memlimit.FromCgroup} {
		if has, err := says(); err == nil && (least == 0 || has < least) {
			least = has
		}
	}
	return least
}

// ceilingOf returns what may be allocated between two collections at most, with so many bytes of memory.
func ceilingOf(memory uint64) uint64 { return max(heapCeiling, memory/heapPart) }

// heapPercent returns the percentage at which a heap of which so many bytes are alive is collected next.
func heapPercent(live, ceiling uint64) int {
	if live >= ceiling {
		return heapDefault
	}
	room := min(max(heapShare*live, heapFloor), ceiling)
	return int(room * 100 / max(live, heapFloor/32))
}
