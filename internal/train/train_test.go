package train_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

func TestNewNeedsItsRooms(t *testing.T) {
	_, err := train.New(train.Config{})
	require.ErrorContains(t, err, "required")
}

// TestCloseLeavesNothing: open leases are cut, nothing more is lent, and no goroutine stays.
func TestCloseLeavesNothing(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			before := goleak.IgnoreCurrent()
			y := s.open(t)
			caller, _, _ := y.line()
			y.lend(caller, want()).Done(train.Outcome{Result: train.OK})
			l := y.lend(caller, want())
			y.Close()
			y.Close()
			requireFault(t, "draining", context.Cause(l.Context()))
			y.refused("draining", caller, want())
			_, err := l.Next(t.Context(), train.Failure{Dial: true})
			requireFault(t, "draining", err)
			require.Zero(t, y.OpenLeases())
			require.NoError(t, y.ids.Close())
			require.NoError(t, y.db.Close())
			goleak.VerifyNone(t, before)
		})
	}
}

// TestWarmLendReadsNothing: with every table that describes a train out of reach, a warm lend goes on.
func TestWarmLendReadsNothing(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, _ := y.line()
		y.link("web", y.account("beta"))
		tables := []string{"trains", "train_links", "cool_downs", "credentials", "credential_versions", "credential_secrets", "client_keys"}
		for _, table := range tables {
			y.rename(table, table+"_away")
		}
		for range 3 {
			l := y.lend(caller, want())
			require.NoError(t, l.Apply(request(t, "https://api.anthropic.com/v1/messages")))
			l.Done(train.Outcome{Result: train.OK})
		}
		for _, table := range tables {
			y.rename(table+"_away", table)
		}
	})
}

// TestLeasesPrintNoSecret: whatever printer gets hold of a lease, an explanation or an error.
func TestLeasesPrintNoSecret(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, _ := y.line()
		y.link("web", y.oauth("oscar", y.clock.Now().Add(time.Hour)))
		l := y.lend(caller, want())
		e, err := y.Explain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		for _, v := range []any{l, e, l.Context()} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
				require.NotContains(t, fmt.Sprintf(verb, v), planted)
			}
		}
		l.Done(train.Outcome{Result: train.OK})
	})
}

// TestUntrustedTextIsClipped: what a client calls its model and path goes into the record, bounded and as text.
func TestUntrustedTextIsClipped(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		caller, _, _ := y.line()
		w := want()
		w.Model, w.Path, w.Method = strings.Repeat("mödel", 1000), "/v1/"+strings.Repeat("x", 5000)+"\n", "\x00\xff\""
		y.lend(caller, w).Done(train.Outcome{Result: train.OK})
		ev := y.events(store.LeaseGranted)[0]
		require.LessOrEqual(t, len(detail(t, ev, "model")), 128)
		require.LessOrEqual(t, len(detail(t, ev, "path")), 256)
		require.True(t, strings.HasPrefix(detail(t, ev, "model"), "mödelmödel"))
	})
}

// TestChangesArriveByTheFeed: each kind of change made by one instance is what the other lends by, soon after.
func TestChangesArriveByTheFeed(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Postgres)
	one, two := s.open(t), s.open(t)
	one.train("web", train.Priority)
	one.linkAt("web", one.account("alpha"), 5)
	caller, _ := one.key("web")
	serves := func(name string) {
		t.Helper()
		require.Eventually(t, func() bool {
			l, err := two.Lend(context.Background(), caller, want())
			if err != nil {
				return false
			}
			defer l.Done(train.Outcome{Result: train.OK})
			return sent(t, l) == name
		}, 1500*time.Millisecond, 10*time.Millisecond, name)
	}
	serves("alpha")
	beta := one.account("beta")
	one.linkAt("web", beta, 1)
	serves("beta")
	_, err := one.Relink(t.Context(), one.admin, "web", beta, train.LinkPatch{Priority: ptr(9)})
	require.NoError(t, err)
	serves("alpha")
	one.rotate("alpha")
	serves("alpha-rotated")
	require.NoError(t, one.Unlink(t.Context(), one.admin, "web", "alpha", ""))
	serves("beta")
	// A new name is a new place in the hash order, and how the client may call it.
	_, err = one.vault.Update(t.Context(), one.admin, beta, vault.Patch{Name: vault.To("gamma")}, "")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		w := want()
		w.Account = "gamma"
		l, err := two.Lend(context.Background(), caller, w)
		if err == nil {
			l.Done(train.Outcome{Result: train.OK})
		}
		return err == nil
	}, 1500*time.Millisecond, 10*time.Millisecond)
}

// BenchmarkLend is the hot path on a real store: lend, apply, done, with a durable intent and an outcome each.
func BenchmarkLend(b *testing.B) {
	y := newSite(b, store.SQLite).open(b)
	caller, _, _ := y.line()
	for i := range 7 {
		y.link("web", y.account(fmt.Sprintf("account-%d", i)))
	}
	w := want()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	use := func(b *testing.B) {
		l, err := y.Lend(ctx, caller, w)
		if err != nil {
			b.Fatal(err)
		}
		req := &http.Request{Method: http.MethodPost, URL: l.BaseURL(), Header: http.Header{}}
		if err := l.Apply(req); err != nil {
			b.Fatal(err)
		}
		l.Done(train.Outcome{Result: train.OK, Status: 200, Bytes: 1000, FirstByte: time.Millisecond, Duration: 2 * time.Millisecond})
	}
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			use(b)
		}
	})
	b.Run("together", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(64)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				use(b)
			}
		})
	})
}
