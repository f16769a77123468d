package importer

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

func manyRows(n int) string {
	var b strings.Builder
	b.WriteString("Title,Url,Username,Password,OTPAuth,Favorite,Archived,Tags,Notes\n")
	for i := range n {
		fmt.Fprintf(&b, "entry %06d,https://host%d.example.com,user%d@example.com,%s-%d,,false,false,team,some words of a note\n", i, i, i, planted, i)
	}
	return b.String()
}

// reads lists and reveals until stop, and returns how many it did and how long the slowest took.
func (y *yard) reads(stop <-chan struct{}) (n int, slowest time.Duration) {
	for {
		select {
		case <-stop:
			return n, slowest
		default:
		}
		at := time.Now()
		err := y.db.Read(context.Background(), func(tx *store.Tx) error {
			var count int
			return tx.Get(&count, `SELECT COUNT(*) FROM (SELECT id FROM credentials LIMIT 100) c`)
		})
		if err != nil {
			return -1, 0
		}
		n, slowest = n+1, max(slowest, time.Since(at))
		runtime.Gosched()
	}
}

// TestReadersSeeAllOrNothing: while many entries are stored, readers go on, and see none of them or all.
func TestReadersSeeAllOrNothing(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		const rows = 3000
		stop, done := make(chan struct{}), make(chan struct{})
		var reads, odd atomic.Int64
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
				}
				var n int
				if err := y.db.Read(context.Background(), func(tx *store.Tx) error { return tx.Get(&n, `SELECT COUNT(*) FROM credentials`) }); err != nil || n != 0 && n != rows {
					odd.Add(1)
				}
				reads.Add(1)
			}
		}()
		before := reads.Load()
		r, err := y.Import(t.Context(), y.admin, with("p.csv", manyRows(rows)))
		require.NoError(t, err)
		during := reads.Load() - before
		close(stop)
		<-done
		require.Equal(t, rows, r.Created)
		require.Positive(t, during)
		require.Zero(t, odd.Load())
		require.Equal(t, rows, y.count("credentials"))
		list, _, err := y.vault.List(t.Context(), y.admin, vault.Filter{Q: "entry 002999"})
		require.NoError(t, err)
		require.Len(t, list, 1, "the catalog has heard of it")
	})
}

// TestImportOfAHundredThousand says what SIGNALBOX_MEASURE rows cost; it is run by hand, and docs/guide/import-export.md has what it said.
func TestImportOfAHundredThousand(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("SIGNALBOX_MEASURE"))
	if n == 0 {
		n = 200
	}
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			y := newYard(t, e)
			in := with("p.csv", manyRows(n))
			for _, dry := range []bool{true, false, false} {
				in.DryRun = dry
				stop, done := make(chan struct{}), make(chan struct{})
				var reads int
				var slowest time.Duration
				go func() { defer close(done); reads, slowest = y.reads(stop) }()
				var most atomic.Uint64
				go func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(100 * time.Millisecond):
							var m runtime.MemStats
							runtime.ReadMemStats(&m)
							most.Store(max(most.Load(), m.HeapInuse))
						}
					}
				}()
				at := time.Now()
				r, err := y.Import(t.Context(), y.admin, in)
				took := time.Since(at)
				close(stop)
				<-done
				require.NoError(t, err)
				t.Logf("dry %v: %d entries, %d created, %d duplicates in %v; %d reads meanwhile, the slowest %v; heap at most %d MB", dry, r.Entries, r.Created, r.Duplicates, took, reads, slowest, most.Load()>>20)
			}
		})
	}
}
