package identity_test

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// TestSavedFilters: a person keeps filters under names, which nobody else sees, renames or deletes.
func TestSavedFilters(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, ada := h.admin()
		bob := person(h.addUser(identity.Member, true))
		query := url.Values{"status": {"expired"}, "q": {"git & forge"}}
		made, err := h.SaveFilter(ctx, bob, "credentials", " Old keys ", query)
		require.NoError(t, err)
		require.Equal(t, "Old keys", made.Name)
		require.Equal(t, "q=git+%26+forge&status=expired", made.Query)
		_, err = h.SaveFilter(ctx, bob, "credentials", "OLD keys", query)
		requireFault(t, "already_exists", err)
		_, err = h.SaveFilter(ctx, bob, "trains", "Old keys", url.Values{"q": {"web"}}) // the name is free in another list
		require.NoError(t, err)
		_, err = h.SaveFilter(ctx, ada, "credentials", "Old keys", query) // and for another person
		require.NoError(t, err)

		list, err := h.SavedFilters(ctx, bob, "credentials")
		require.NoError(t, err)
		require.Equal(t, []identity.SavedFilter{made}, list)
		all, err := h.SavedFilters(ctx, bob, "")
		require.NoError(t, err)
		require.Len(t, all, 2)

		// An administrator neither reads nor changes what is somebody else's.
		_, err = h.SavedFilter(ctx, ada, made.ID)
		requireFault(t, "not_found", err)
		_, err = h.RenameFilter(ctx, ada, made.ID, "Mine")
		requireFault(t, "not_found", err)
		requireFault(t, "not_found", h.DeleteFilter(ctx, ada, made.ID))
		requireFault(t, "not_found", h.DeleteFilter(ctx, bob, "flt_none"))

		renamed, err := h.RenameFilter(ctx, bob, made.ID, "Ancient")
		require.NoError(t, err)
		got, err := h.SavedFilter(ctx, bob, made.ID)
		require.NoError(t, err)
		require.Equal(t, renamed, got)
		require.NoError(t, h.DeleteFilter(ctx, bob, made.ID))
		requireFault(t, "not_found", h.DeleteFilter(ctx, bob, made.ID))

		var of []store.Action
		for _, ev := range h.events() {
			if strings.HasPrefix(string(ev.Action), "identity.filter") {
				require.NotContains(t, fmt.Sprint(ev), "forge", "what a filter looks for is not on record")
				of = append(of, ev.Action)
			}
		}
		require.Equal(t, []store.Action{store.FilterSave, store.FilterSave, store.FilterSave, store.FilterRename, store.FilterDelete}, of)
	})
}

// TestSavedFiltersAreBounded: in number, also when they are saved at once, in size, and in what they may hold.
func TestSavedFiltersAreBounded(t *testing.T) {
	each(t, nil, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, ada := h.admin()
		good := url.Values{"q": {"web"}}
		_, bearer := h.mustIssue("train_x", "k")
		for name, c := range map[string]struct {
			list, name, pointer string
			query               url.Values
		}{
			"no name":       {"trains", " ", "/name", good},
			"long name":     {"trains", strings.Repeat("é", 101), "/name", good},
			"two lines":     {"trains", "a\nb", "/name", good},
			"no list":       {"", "a", "/list", good},
			"strange list":  {"../etc", "a", "/list", good},
			"nothing in it": {"trains", "a", "/query", url.Values{}},
			"too long":      {"trains", "a", "/query", url.Values{"q": {strings.Repeat("x", 2000)}}},
			"no text":       {"trains", "a", "/query", url.Values{"q": {"a\x00b"}}},
			"a client key":  {"trains", "a", "/query", url.Values{"q": {"look " + bearer}}},
			"a key as name": {"trains", bearer, "/name", good},
			"another's key": {"trains", "a", "/query", url.Values{"q": {"sk-ant-api03-" + strings.Repeat("aB3dE6gH9j", 9)}}},
		} {
			_, err := h.SaveFilter(ctx, ada, c.list, c.name, c.query)
			f := requireFault(t, "validation_failed", err)
			require.Equal(t, c.pointer, f.Fields[0].Pointer, name)
			require.NotContains(t, err.Error(), bearer, name)
		}
		service := identity.Caller{Kind: identity.KindService, ID: "tok_1", ServiceID: "svc_1", Role: identity.Operator}
		_, err := h.SaveFilter(ctx, service, "trains", "a", good)
		require.Error(t, err, "a service account keeps none")
		none, err := h.SavedFilters(ctx, identity.Caller{Kind: identity.KindPerson, Role: identity.Member}, "")
		require.NoError(t, err)
		require.Empty(t, none)

		for i := range identity.MaxSavedFilters - 2 {
			_, err := h.SaveFilter(ctx, ada, "trains", "f"+strconv.Itoa(i), good)
			require.NoError(t, err)
		}
		var wg sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			wg.Go(func() { _, errs[i] = h.SaveFilter(ctx, ada, "accounts", "at once "+strconv.Itoa(i), good) })
		}
		wg.Wait()
		done := 0
		for _, err := range errs {
			if err == nil {
				done++
				continue
			}
			requireFault(t, "state_conflict", err)
		}
		require.Equal(t, 2, done)
		all, err := h.SavedFilters(ctx, ada, "")
		require.NoError(t, err)
		require.Len(t, all, identity.MaxSavedFilters)
	})
}
