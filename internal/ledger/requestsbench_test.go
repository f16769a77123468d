package ledger_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// BenchmarkRequests asks for a page of 50 requests of a log of a million records: half a million requests of ten days, of 20 trains, one in 5,000 failed.
func BenchmarkRequests(b *testing.B) {
	for _, e := range storetest.Engines() {
		b.Run(string(e), func(b *testing.B) {
			o := newOffice(b, e)
			o.set(time.Now().UTC().Truncate(time.Microsecond))
			p := &past{o: o}
			var trains, keys []string
			for range 20 {
				trains, keys = append(trains, store.NewID("train")), append(keys, store.NewID("key"))
			}
			credentials := []string{store.NewID("cred"), store.NewID("cred")}
			rare := store.NewID("cred")
			const all, span = 500_000, 10 * 24 * time.Hour
			begin := o.now().Add(-span)
			require.NoError(b, o.db.Bookkeep(b.Context(), store.Cursor, func(tx *store.Tx) error {
				for i := 0; i < all; i += 25 {
					var intents, outcomes []string
					at := begin.Add(span / all * time.Duration(i))
					first, second := p.idAt("evt", at), p.idAt("evt", at.Add(800*time.Millisecond))
					for j := range 25 {
						n := i + j
						a := &asked{id: p.idAt("req", at), train: trains[n%20], key: keys[n%20], model: "claude-a"}
						h := &hop{credential: credentials[n%2], lease: p.idAt("lease", at)}
						result, status, cost := "ok", 200, `,"usage":"complete","input_tokens":3,"output_tokens":4`
						if n%5000 == 0 {
							result, status, cost, h.credential = "upstream_error", 400, "", rare
						}
						intents = append(intents, p.line("lease.granted", h.lease, a, h, at, "pending", `"train":"SLUG","version":1,"attempt":1,"method":"POST","path":"/v1/messages","model":"claude-a","host":"api.example.com","body_bytes":120`)(fmt.Sprintf("%s_%d", first, j)))
						outcomes = append(outcomes, p.line("lease.outcome", h.lease, a, h, at.Add(800*time.Millisecond), "ok", fmt.Sprintf(`"attempt":1,"result":"%s","status":%d,"bytes":7,"first_byte_ms":5,"duration_ms":800%s`, result, status, cost))(fmt.Sprintf("%s_%d", second, j)))
					}
					for id, lines := range map[string][]string{first: intents, second: outcomes} {
						if _, err := tx.Exec(`INSERT INTO audit_batches (id, at, count, body) VALUES ($1, $2, $3, $4)`, id, at.UnixMicro(), len(lines), []byte(strings.Join(lines, "\n"))); err != nil {
							return err
						}
						if _, err := tx.Exec(`INSERT INTO audit_pending (source_id) VALUES ($1) ON CONFLICT DO NOTHING`, id); err != nil {
							return err
						}
					}
				}
				return nil
			}))
			r := o.another(o.db, 0)
			o.follow(r)
			require.NoError(b, o.book.Flush(b.Context()))
			for _, one := range []struct {
				name string
				q    ledger.RequestQuery
			}{
				{"newest", ledger.RequestQuery{}}, {"old", ledger.RequestQuery{To: begin.Add(48 * time.Hour)}}, {"train", ledger.RequestQuery{Train: trains[3]}}, {"key_old", ledger.RequestQuery{Key: keys[3], To: begin.Add(48 * time.Hour)}},
				{"rare_account", ledger.RequestQuery{Credential: rare}}, {"failed", ledger.RequestQuery{State: ledger.Failed}}, {"none", ledger.RequestQuery{State: ledger.Partial}}, {"other_model", ledger.RequestQuery{Model: "claude-z"}},
			} {
				b.Run(one.name, func(b *testing.B) {
					found := 0
					for b.Loop() {
						page, err := r.Requests(b.Context(), auditor(), one.q)
						require.NoError(b, err)
						found = len(page.Requests)
					}
					b.ReportMetric(float64(found), "found")
				})
			}
			page, err := r.Requests(b.Context(), auditor(), ledger.RequestQuery{To: begin.Add(48 * time.Hour), Limit: 1})
			require.NoError(b, err)
			b.Run("one", func(b *testing.B) {
				for b.Loop() {
					_, err := r.Request(b.Context(), auditor(), page.Requests[0].ID)
					require.NoError(b, err)
				}
			})
		})
	}
}
