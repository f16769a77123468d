package train_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

// breakage is one way in which the audit log cannot be written.
type breakage struct {
	name string
	// on breaks it and returns how many uses were recorded until it was broken.
	on   func(y *yard, caller identity.Caller) int
	off  func(y *yard)
	says string
}

func breakages() []breakage {
	return []breakage{
		{"table gone",
			func(y *yard, _ identity.Caller) int { y.rename("audit_batches", "audit_batches_away"); return 0 },
			func(y *yard) { y.rename("audit_batches_away", "audit_batches") }, "refused the statement"},
		{"trigger refuses",
			func(y *yard, _ identity.Caller) int {
				y.ddl(`CREATE TRIGGER refusal BEFORE INSERT ON audit_batches BEGIN SELECT RAISE(ABORT, 'no'); END`, refusal("P0001"))
				return 0
			},
			func(y *yard) { y.ddl(`DROP TRIGGER refusal`, `DROP TRIGGER refusal ON audit_batches`) }, "refused the statement"},
		{"disk full", fill,
			func(y *yard) { y.ddl(`PRAGMA max_page_count = 1000000`, `DROP TRIGGER refusal ON audit_batches`) }, "disk is full"},
	}
}

// refusal makes PostgreSQL refuse batches with that error.
func refusal(code string) string {
	return fmt.Sprintf(`CREATE FUNCTION refusal() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no'' USING ERRCODE = ''%s''; END';
		CREATE TRIGGER refusal BEFORE INSERT ON audit_batches FOR EACH ROW EXECUTE FUNCTION refusal()`, code)
}

// fill lets the SQLite file grow no more and uses up what room is left in it; PostgreSQL is made to say that its disk is full.
func fill(y *yard, caller identity.Caller) int {
	var pages int
	require.NoError(y.t, y.db.Read(context.Background(), func(tx *store.Tx) error {
		if y.db.Engine() == store.Postgres {
			return nil
		}
		return tx.Get(&pages, `PRAGMA page_count`)
	}))
	y.ddl(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages), refusal("53100"))
	for n := 0; ; n++ {
		l, err := y.Lend(context.Background(), caller, want())
		if err != nil {
			requireFault(y.t, "audit_unavailable", err)
			return n
		}
		l.Done(train.Outcome{Result: train.OK})
		require.Less(y.t, n, 1000)
	}
}

// TestNothingIsLentUnrecorded: while the audit log cannot be written nothing is lent, and the reason is legible.
func TestNothingIsLentUnrecorded(t *testing.T) {
	t.Parallel()
	for _, b := range breakages() {
		t.Run(b.name, func(t *testing.T) {
			each(t, func(t *testing.T, y *yard) {
				caller, _, _ := y.line()
				y.link("web", y.account("beta"))
				running := y.lend(caller, want())
				recorded := 1 + b.on(y, caller)
				for range 3 {
					start := time.Now()
					f := y.refused("audit_unavailable", caller, want())
					require.Contains(t, f.Detail, b.says)
					require.Less(t, time.Since(start), 5*time.Second)
				}
				// A fail-over is another use.
				next, err := running.Next(context.Background(), train.Failure{Dial: true})
				require.Nil(t, next)
				requireFault(t, "audit_unavailable", err)
				require.Zero(t, y.OpenLeases())
				b.off(y)
				require.Len(t, y.events(store.LeaseGranted), recorded)
				y.clock.Add(time.Minute)
				y.lend(caller, want()).Done(train.Outcome{Result: train.OK})
			})
		})
	}
}
