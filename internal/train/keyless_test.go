package train_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
)

// TestKeylessNeedsItsSwitch: with client keys required, not even a caller that looks like a keyless one borrows.
func TestKeylessNeedsItsSwitch(t *testing.T) {
	t.Parallel()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			y := s.open(t)
			caller, _, _ := y.line()
			_, err := y.Keyless("web")
			requireFault(t, "unauthenticated", err)
			y.refused("unauthenticated", identity.Caller{Kind: identity.KindAnonymous, ID: "keyless", TrainID: caller.TrainID}, want())
			require.Empty(t, y.events(store.LeaseGranted))
			y.Close()
			require.NoError(t, y.db.Close())

			s.keyless = true
			y = s.open(t)
			for _, ref := range []string{"", "nowhere", "WEB", store.NewID("train")} {
				_, err := y.Keyless(ref)
				requireFault(t, "unauthenticated", err)
			}
			y.refused("unauthenticated", identity.Caller{Kind: identity.KindAnonymous, TrainID: caller.TrainID}, want())
			y.refused("unauthenticated", identity.Caller{Kind: identity.KindAnonymous, ID: "keyless"}, want())
			var open []*train.Lease
			for _, ref := range []string{"web", caller.TrainID} {
				nobody, err := y.Keyless(ref)
				require.NoError(t, err)
				open = append(open, y.lend(nobody, want()))
			}
			open = append(open, y.lend(caller, want())) // keys work as before
			for _, ev := range y.events(store.LeaseGranted)[:2] {
				require.Equal(t, store.Actor{Kind: "anonymous", ID: "keyless", Name: "no client key"}, ev.Actor)
				require.Equal(t, caller.TrainID, ev.OnBehalf)
			}
			time.Sleep(1200 * time.Millisecond) // a look for expired keys: there is none to expire
			for _, l := range open {
				require.NoError(t, l.Context().Err())
			}
			_, err = y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Disabled: ptr(true)}, "")
			require.NoError(t, err)
			for _, l := range open {
				requireCut(t, l, time.Now(), onceASecond, "train_disabled")
			}
		})
	}
}
