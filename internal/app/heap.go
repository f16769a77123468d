package app

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

const (
	// heapFloor is what may be allocated, in bytes, between two collections at least. A warm proxy keeps few megabytes alive, so Go's
	// default (a collection whenever the heap has doubled) would collect many times a second under load.
	heapFloor = 32 << 20
	// heapShare is how many times what is alive may be allocated meanwhile, so that a collection costs a request the same with many trains,
	// keys and accounts as with few.
	heapShare = 4
	// heapCeiling is what may be allocated at most because of that. With more alive than this, Go's own percentage (GOGC) counts.
	heapCeiling = 256 << 20
	heapDefault = 100
)

// heapPacer sets the collector's percentage after each collection, so that small heaps are collected seldom and large ones grow no more
// than with Go's default. It owns no goroutine: an object that only the collector can reach runs it.
type heapPacer struct {
	mu      sync.Mutex
	stopped bool
}

// paceHeap starts pacing until the returned function is called. An operator's GOGC is left alone.
func paceHeap() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	p := &heapPacer{}
	p.pace()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stopped = true
		debug.SetGCPercent(heapDefault)
	}
}

func (p *heapPacer) pace() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetGCPercent(heapPercent(live[0].Value.Uint64()))
	runtime.AddCleanup(new([16]*byte), func(p *heapPacer) { p.pace() }, p)
}

// heapPercent returns the percentage at which a heap of which so many bytes are alive is collected next.
func heapPercent(live uint64) int {
	if live >= heapCeiling {
		return heapDefault
	}
	room := min(max(heapShare*live, heapFloor), heapCeiling)
	return int(room * 100 / max(live, heapFloor/32))
}
