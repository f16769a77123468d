package audit

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
)

// TestRefreshesShowTheirOutcome: the intent of a call of a token endpoint shows what became of it, also where its process died and nothing did.
func TestRefreshesShowTheirOutcome(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		p := &past{t: t, x: b.attack(t), r: rand.New(rand.NewPCG(seed(t), 0)), now: time.Now(), used: map[string]bool{}}
		b.unguard(t, p.x)
		put := func(ago time.Duration, action store.Action, outcome, credential, claim string) string {
			at := p.now.Add(-ago).Truncate(time.Millisecond)
			id := p.id(at)
			body := fmt.Sprintf(`{"id":"%s","at":"%s","actor":{"kind":"system","id":"oauth"},"action":"%s","target":{"kind":"credential","id":"%s"},"outcome":"%s","details":{"claim":"%s"}}`,
				id, at.UTC().Format(store.TimeFormat), action, credential, outcome, claim)
			p.exec(`INSERT INTO audit_events (id, at, action, actor_id, target_id, on_behalf_of, request_id, body) VALUES ($1,$2,$3,'oauth',$4,'','',$5)`, id, at.UnixMicro(), string(action), credential, []byte(body))
			return id
		}
		const minute = time.Minute
		want := map[string]string{}
		want[put(2*minute, store.OAuthRefresh, "pending", "cred_a", "claim_young")] = "pending"
		want[put(16*minute, store.OAuthRefresh, "pending", "cred_a", "claim_old")] = "unknown"
		want[put(3*minute, store.OAuthRefresh, "pending", "cred_a", "claim_lapsed")] = "unknown"
		put(2*minute, store.OAuthRecovery, "ok", "cred_a", "claim_lapsed")
		want[put(6*minute, store.OAuthRefresh, "pending", "cred_a", "claim_late")] = "ok"
		put(5*minute, store.OAuthRecovery, "ok", "cred_a", "claim_late")
		for i := range 2 * claimPage { // much else happens to it in between
			put(4*minute, store.OAuthRefresh, "failed", "cred_a", fmt.Sprint("claim_", i))
		}
		put(3*minute, store.OAuthRefresh, "ok", "cred_a", "claim_late")
		want[put(50*minute, store.OAuthRefresh, "pending", "cred_b", "claim_failed")] = "failed"
		put(49*minute, store.OAuthRefresh, "failed", "cred_b", "claim_failed")
		put(49*minute, store.OAuthRefresh, "ok", "cred_c", "claim_old") // another credential's

		page, err := b.log.Search(t.Context(), Query{Action: store.OAuthRefresh, Limit: 1000})
		require.NoError(t, err)
		got := map[string]string{}
		for _, e := range page.Events {
			if _, asked := want[e.ID]; asked {
				got[e.ID] = e.Outcome
			}
		}
		require.Equal(t, want, got)
		page, err = b.log.Search(t.Context(), Query{Action: store.OAuthRefresh, Outcome: OutcomeUnknown, Limit: 1000})
		require.NoError(t, err)
		require.Len(t, page.Events, 2)
	})
}
