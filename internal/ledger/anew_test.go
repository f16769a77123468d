package ledger_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/store"
)

// keeper is an administrator's token that may have the sums made anew.
func keeper() identity.Caller {
	return identity.Caller{Kind: identity.KindToken, ID: "tok_a", UserID: "user_a", Role: identity.Administrator, Scopes: identity.Scopes{identity.UsageWrite}}
}

// rebuild has the sums made anew, and waits for the record of it.
func (o *office) rebuild(r *ledger.Room) ledger.Progress {
	o.t.Helper()
	at, err := r.Rebuild(o.t.Context(), keeper())
	require.NoError(o.t, err)
	require.NoError(o.t, o.book.Flush(o.t.Context()))
	return at
}

// TestSumsSayThatTheyAreMadeAnew: from the order to the end every report says that the sums are not all, and how far they are; a second order does not begin
// again, and in the end they are what they were.
func TestSumsSayThatTheyAreMadeAnew(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		for range 12 {
			o.ended("claude-a", "ok", cost("complete", "claude-a", 5, 1, 0, 0, 0, 0)...)
		}
		r := o.another(o.db, 7)
		report := func() ledger.Report {
			t.Helper()
			got, err := r.Read(t.Context(), auditor(), ledger.Query{})
			require.NoError(t, err)
			return got
		}
		o.follow(r)
		want := o.all(r)
		require.False(t, report().Anew)
		size := report().Records
		require.GreaterOrEqual(t, size, int64(24))

		other := o.room(o.db) // the order may come from another instance than the one that follows
		at := o.rebuild(other)
		require.Equal(t, ledger.Progress{Added: 0, Records: size, Anew: true}, at)
		require.True(t, report().Anew)
		last := int64(-1)
		for range 3 {
			_, err := r.Pass(t.Context())
			require.NoError(t, err)
			got := report()
			require.True(t, got.Anew)
			require.Greater(t, got.Added, last)
			last = got.Added
		}
		require.Positive(t, last)
		require.Less(t, report().Total.Requests, want.Requests)

		again := o.rebuild(r)
		require.Equal(t, last, again.Added, "it is under way")
		require.True(t, again.Anew)
		o.follow(r)
		require.False(t, report().Anew)
		require.Equal(t, want, o.all(r))

		// One that is behind, without an order, is only behind.
		o.ended("claude-a", "ok", cost("complete", "claude-a", 5, 1, 0, 0, 0, 0)...)
		require.NoError(t, o.book.Flush(t.Context()))
		require.False(t, report().Anew)
		require.Positive(t, report().Behind())
	})
}

// TestWhoMayHaveSumsMadeAnew: administrators alone, with a fresh proof; everything else is refused on record, and nothing is dropped.
func TestWhoMayHaveSumsMadeAnew(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		o.ended("claude-a", "ok", cost("complete", "claude-a", 5, 1, 0, 0, 0, 0)...)
		r := o.room(o.db)
		o.follow(r)
		want := o.all(r)
		person := func(role identity.Role, proven time.Time) identity.Caller {
			return identity.Caller{Kind: identity.KindPerson, ID: "user_a", UserID: "user_a", Role: role, SteppedUpAt: proven}
		}
		scopeless := keeper()
		scopeless.Scopes = identity.Scopes{identity.UsageRead}
		for _, c := range []struct {
			caller identity.Caller
			code   string
			action store.Action
		}{
			{person(identity.Operator, o.now()), "forbidden", store.IdentityRefused},
			{person(identity.Auditor, o.now()), "forbidden", store.IdentityRefused},
			{person(identity.Member, o.now()), "forbidden", store.IdentityRefused},
			{scopeless, "scope_missing", store.IdentityRefused},
			{person(identity.Administrator, time.Time{}), "step_up_required", store.UsageRebuild},
			{person(identity.Administrator, o.now().Add(-time.Hour)), "step_up_required", store.UsageRebuild},
		} {
			_, err := r.Rebuild(t.Context(), c.caller)
			require.Equal(t, c.code, fault.Of(err).Code)
			require.NoError(t, o.book.Flush(t.Context()))
			found, err := o.book.Search(t.Context(), audit.Query{Action: c.action, Outcome: store.OutcomeRefused, Limit: 100})
			require.NoError(t, err)
			require.True(t, slices.ContainsFunc(found.Events, func(e store.Event) bool { return e.Reason == c.code && e.Target.Kind == "usage" }), "%+v", found)
		}
		o.follow(r)
		require.Equal(t, want, o.all(r))
		_, err := r.Rebuild(t.Context(), person(identity.Administrator, o.now()))
		require.NoError(t, err)
		require.NoError(t, o.book.Flush(t.Context()))
		found, err := o.book.Search(t.Context(), audit.Query{Action: store.UsageRebuild, Outcome: store.OutcomeOK, Limit: 100})
		require.NoError(t, err)
		require.Len(t, found.Events, 1)
		o.follow(r)
		require.Equal(t, want, o.all(r))
	})
}
