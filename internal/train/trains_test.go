package train_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

func TestTrainLifeCycle(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ctx := t.Context()
		made, err := y.CreateTrain(ctx, y.admin, train.Draft{Slug: "Web-1.x_y", Description: "Größe\n2"})
		require.NoError(t, err)
		require.True(t, store.ValidID("train", made.ID))
		require.Equal(t, train.Train{ID: made.ID, Slug: "Web-1.x_y", Name: "Web-1.x_y", Description: "Größe\n2", Strategy: train.Hash, Visibility: identity.OfOrganisation, CreatedAt: y.clock.Now(), UpdatedAt: y.clock.Now(), Revision: 1}, made)
		for _, ref := range []string{made.ID, made.Slug} {
			got, err := y.GetTrain(ctx, y.admin, ref)
			require.NoError(t, err)
			require.Equal(t, made, got)
		}
		for _, ref := range []string{"", "web-1.x_y", "nowhere", store.NewID("train"), "train_", "%", strings.Repeat("x", 10_000), "a\x00b", "a\xffb"} {
			_, err := y.GetTrain(ctx, y.admin, ref)
			f, ok := fault.As(err)
			require.True(t, ok, "%q: %v", ref, err)
			require.Equal(t, "not_found", f.Code, "%q", ref)
		}
		_, err = y.CreateTrain(ctx, y.admin, train.Draft{Slug: "Web-1.x_y", Name: "again"})
		requireFault(t, "already_exists", err)

		got, err := y.UpdateTrain(ctx, y.admin, made.Slug, train.Patch{Name: ptr("Web"), Strategy: ptr(train.Priority), KeyLimit: ptr(3)}, made.ETag())
		require.NoError(t, err)
		require.Equal(t, int64(2), got.Revision)
		require.NotEqual(t, made.ETag(), got.ETag())
		_, err = y.UpdateTrain(ctx, y.admin, made.Slug, train.Patch{Name: ptr("late")}, made.ETag())
		requireFault(t, "etag_mismatch", err)
		_, err = y.UpdateTrain(ctx, y.admin, made.Slug, train.Patch{Description: ptr("")}, "*")
		require.NoError(t, err)
		got, err = y.GetTrain(ctx, y.admin, made.ID)
		require.NoError(t, err)
		require.Equal(t, "Web", got.Name)
		require.Empty(t, got.Description)
		require.Equal(t, train.Priority, got.Strategy)
		require.Equal(t, 3, got.KeyLimit)

		require.NoError(t, y.DeleteTrain(ctx, y.admin, made.Slug, false, ""))
		requireFault(t, "not_found", y.DeleteTrain(ctx, y.admin, made.Slug, true, ""))
		events := y.events(store.TrainCreate, store.TrainUpdate, store.TrainDelete)
		require.Len(t, events, 4)
		require.Equal(t, store.Target{Kind: "train", ID: made.ID, Name: made.Slug}, events[0].Target)
		require.Equal(t, []string{"name", "strategy", "key_limit"}, events[1].Fields)
		require.Equal(t, []string{"description"}, events[2].Fields)
		require.Equal(t, "req_admin", events[3].RequestID)
	})
}

func TestTrainInputIsChecked(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ok := train.Draft{Slug: "web"}
		for name, c := range map[string]struct {
			draft   train.Draft
			pointer string
		}{
			"no slug":   {train.Draft{Name: "x"}, "/train_id"},
			"long slug": {train.Draft{Slug: strings.Repeat("a", 65)}, "/train_id"},
			"space":     {train.Draft{Slug: "a b"}, "/train_id"},
			"slash":     {train.Draft{Slug: "a/b"}, "/train_id"},
			"colon":     {train.Draft{Slug: "a::b"}, "/train_id"},
			"dot first": {train.Draft{Slug: "..", Name: "x"}, "/train_id"},
			"umlaut":    {train.Draft{Slug: "größe"}, "/train_id"},
			"an id":     {train.Draft{Slug: store.NewID("train")}, "/train_id"},
			"long name": {train.Draft{Slug: "web", Name: strings.Repeat("ä", 201)}, "/name"},
			"bad UTF-8": {train.Draft{Slug: "web", Name: "a\xff"}, "/name"},
			"NUL":       {train.Draft{Slug: "web", Description: "a\x00"}, "/description"},
			"long text": {train.Draft{Slug: "web", Description: strings.Repeat("x", 2001)}, "/description"},
			"strategy":  {train.Draft{Slug: "web", Strategy: "random"}, "/strategy"},
			"lunar":     {train.Draft{Slug: "web", Strategy: "lunar"}, "/strategy"},
			"limit":     {train.Draft{Slug: "web", KeyLimit: -1}, "/key_limit"},
			"big limit": {train.Draft{Slug: "web", KeyLimit: 10_001}, "/key_limit"},
		} {
			_, err := y.CreateTrain(t.Context(), y.admin, c.draft)
			f := requireFault(t, "validation_failed", err)
			require.Len(t, f.Fields, 1, name)
			require.Equal(t, c.pointer, f.Fields[0].Pointer, name)
		}
		require.Empty(t, y.events(store.TrainCreate))
		_, err := y.CreateTrain(t.Context(), y.admin, ok)
		require.NoError(t, err)
		_, err = y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Name: ptr(""), Strategy: ptr(train.Strategy("x"))}, "")
		require.Len(t, requireFault(t, "validation_failed", err).Fields, 2)
		require.Empty(t, y.events(store.TrainUpdate))
	})
}

func TestListTrains(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		for _, slug := range []string{"delta", "alpha", "charlie", "bravo", "under_score"} {
			y.train(slug, train.Hash)
		}
		_, err := y.UpdateTrain(t.Context(), y.admin, "delta", train.Patch{Name: ptr("The Alpha Tester")}, "")
		require.NoError(t, err)
		y.link("bravo", y.account("x"))
		y.link("bravo", y.account("y"))
		list := func(f train.Filter) (slugs []string, next string) {
			trains, next, err := y.ListTrains(t.Context(), y.admin, f)
			require.NoError(t, err)
			for _, tr := range trains {
				slugs = append(slugs, tr.Slug)
				if tr.Slug == "bravo" {
					require.Equal(t, 2, tr.Links)
				}
			}
			return slugs, next
		}
		all, next := list(train.Filter{})
		require.Equal(t, []string{"alpha", "bravo", "charlie", "delta", "under_score"}, all)
		require.Empty(t, next)
		var paged []string
		for f := (train.Filter{Limit: 2}); ; {
			page, next := list(f)
			paged = append(paged, page...)
			if next == "" {
				break
			}
			f.Cursor = next
		}
		require.Equal(t, all, paged)
		skipped, _ := list(train.Filter{Skip: 3, Limit: 1})
		require.Equal(t, []string{"delta"}, skipped)
		found, _ := list(train.Filter{Q: "ALPHA"})
		require.Equal(t, []string{"alpha", "delta"}, found)
		found, _ = list(train.Filter{Q: "r_s"})
		require.Equal(t, []string{"under_score"}, found)
		found, _ = list(train.Filter{Q: "%"})
		require.Empty(t, found)
		_, _, err = y.ListTrains(t.Context(), y.admin, train.Filter{Cursor: "///"})
		requireFault(t, "validation_failed", err)
		_, _, err = y.ListTrains(t.Context(), y.admin, train.Filter{Cursor: "gA"})
		requireFault(t, "validation_failed", err)
	})
}

func TestLinks(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ctx := t.Context()
		tr := y.train("web", train.Hash)
		alpha, beta := y.account("alpha"), y.account("beta")
		gitea, err := y.vault.Create(ctx, y.admin, vault.Draft{Type: vault.Password, Meta: vault.Meta{Name: "gitea"}, Secrets: secrets("password", "pw-"+planted)})
		require.NoError(t, err)

		link, created, err := y.Link(ctx, y.admin, "web", train.LinkDraft{Credential: "alpha", Alias: ptr("git"), Priority: ptr(7)})
		require.NoError(t, err)
		require.True(t, created)
		require.Equal(t, train.Link{TrainID: tr.ID, CredentialID: alpha, Name: "alpha", AccountID: "acc_alpha", Type: vault.APIKey, Provider: "anthropic", Alias: "git", Priority: 7, CreatedAt: y.clock.Now()}, link)
		// Linking again changes only what it names.
		link, created, err = y.Link(ctx, y.admin, tr.ID, train.LinkDraft{Credential: alpha})
		require.NoError(t, err)
		require.False(t, created)
		require.Equal(t, "git", link.Alias)
		require.Equal(t, 7, link.Priority)
		link, _, err = y.Link(ctx, y.admin, "web", train.LinkDraft{Credential: "acc_alpha", Priority: ptr(8)})
		require.NoError(t, err)
		require.Equal(t, 8, link.Priority)

		_, _, err = y.Link(ctx, y.admin, "web", train.LinkDraft{Credential: beta, Alias: ptr("git")})
		requireFault(t, "already_exists", err)
		_, created, err = y.Link(ctx, y.admin, "web", train.LinkDraft{Credential: beta, Priority: ptr(0)})
		require.NoError(t, err)
		require.True(t, created)
		_, _, err = y.Link(ctx, y.admin, "web", train.LinkDraft{Credential: gitea.ID})
		require.NoError(t, err)
		_, err = y.Relink(ctx, y.admin, "web", beta, train.LinkPatch{Alias: ptr("git")})
		requireFault(t, "already_exists", err)

		for _, d := range []train.LinkDraft{{Credential: alpha, Alias: ptr("a/b")}, {Credential: alpha, Alias: ptr("..")}, {Credential: alpha, Alias: ptr(strings.Repeat("a", 65))},
			{Credential: alpha, Priority: ptr(-1)}, {Credential: alpha, Priority: ptr(1_000_001)}} {
			_, _, err = y.Link(ctx, y.admin, "web", d)
			requireFault(t, "validation_failed", err)
		}
		for _, ref := range []string{"nobody", store.NewID("cred"), "", "%"} {
			_, _, err = y.Link(ctx, y.admin, "web", train.LinkDraft{Credential: ref})
			requireFault(t, "not_found", err)
			_, err = y.Relink(ctx, y.admin, "web", ref, train.LinkPatch{})
			requireFault(t, "not_found", err)
			requireFault(t, "not_found", y.Unlink(ctx, y.admin, "web", ref, ""))
		}
		_, _, err = y.Link(ctx, y.admin, "nowhere", train.LinkDraft{Credential: alpha})
		requireFault(t, "not_found", err)

		names := func() (out []string) {
			links, err := y.Links(ctx, y.admin, "web")
			require.NoError(t, err)
			for _, l := range links {
				out = append(out, l.Name)
			}
			return out
		}
		require.Equal(t, []string{"beta", "alpha", "gitea"}, names())
		_, err = y.Relink(ctx, y.admin, "web", "alpha", train.LinkPatch{Alias: ptr("")})
		require.NoError(t, err)
		_, err = y.Relink(ctx, y.admin, "web", beta, train.LinkPatch{Alias: ptr("git")})
		require.NoError(t, err, "the alias is free again")

		// A credential that serves no LLM provider is linked but not ranked.
		e, err := y.Explain(ctx, y.admin, "web")
		require.NoError(t, err)
		require.Len(t, e.Accounts, 3)
		for _, a := range e.Accounts {
			if a.Name == "gitea" {
				require.Zero(t, a.Rank)
				require.Empty(t, a.Order)
				require.Equal(t, train.Unusable, a.State)
			} else {
				require.NotZero(t, a.Rank)
			}
		}

		requireFault(t, "train_in_use", y.DeleteTrain(ctx, y.admin, "web", false, ""))
		require.NoError(t, y.Unlink(ctx, y.admin, "web", "alpha", ""))
		requireFault(t, "not_found", y.Unlink(ctx, y.admin, "web", "alpha", ""))
		require.NoError(t, y.vault.Delete(ctx, y.admin, beta, ""))
		require.Equal(t, []string{"gitea"}, names())
		require.NoError(t, y.Unlink(ctx, y.admin, "web", gitea.ID, ""))
		y.key("web")
		requireFault(t, "train_in_use", y.DeleteTrain(ctx, y.admin, "web", false, ""))
		require.NoError(t, y.DeleteTrain(ctx, y.admin, "web", true, ""))
		require.Len(t, y.events(store.TrainLink), 3)
		require.Len(t, y.events(store.TrainUnlink), 2)
		relinks := y.events(store.TrainRelink)
		require.Equal(t, []string{"priority"}, relinks[1].Fields)
		require.Equal(t, alpha, detail(t, relinks[1], "credential"))
	})
}

// TestRacingLinks: however many link at once, there is one link and one "new".
func TestRacingLinks(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		y.train("web", train.Hash)
		id := y.account("alpha")
		var mu sync.Mutex
		fresh := 0
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				_, created, err := y.Link(t.Context(), y.admin, "web", train.LinkDraft{Credential: id})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if created {
					fresh++
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, fresh)
	})
}

func TestExplain(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		explain := func() train.Explanation {
			e, err := y.Explain(t.Context(), y.admin, "web")
			require.NoError(t, err)
			return e
		}
		tr := y.train("web", train.Priority)
		require.Contains(t, explain().Summary, "No account is linked")
		alpha := y.account("alpha")
		y.linkAt("web", alpha, 5)
		y.linkAt("web", y.account("beta"), 6)
		e := explain()
		require.Equal(t, "The next request is served by alpha.", e.Summary)
		require.Equal(t, tr.ID, e.Train.ID)
		a := e.Accounts[0]
		require.Equal(t, "alpha", a.Name)
		require.Equal(t, `priority 5, then hash 24c4a4ef00b496e7 of "web::alpha"`, a.Order)
		require.Equal(t, "ready", a.Why)
		require.Equal(t, int64(1), a.Version)
		require.True(t, a.Chosen)
		require.False(t, e.Accounts[1].Chosen)
		require.Equal(t, 2, e.Accounts[1].Rank)

		caller, _ := y.key("web")
		l, err := y.lend(caller, want()).Next(t.Context(), train.Failure{Status: 429})
		require.NoError(t, err)
		e = explain()
		require.Equal(t, "The next request is served by beta.", e.Summary)
		require.Equal(t, train.Cooling, e.Accounts[0].State)
		require.True(t, e.Accounts[1].Chosen)
		_, err = l.Next(t.Context(), train.Failure{Status: 500})
		require.ErrorIs(t, err, train.ErrNoOther)
		require.Equal(t, "All usable accounts are cooling down; the first is free in 20s.", explain().Summary)

		_, err = y.vault.Update(t.Context(), y.admin, alpha, vault.Patch{State: vault.To(vault.Compromised)}, "")
		require.NoError(t, err)
		a = explain().Accounts[0]
		require.Equal(t, train.Unusable, a.State)
		require.Equal(t, "it is marked as compromised", a.Why)
		_, err = y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Disabled: ptr(true)}, "")
		require.NoError(t, err)
		y.clock.Add(time.Minute)
		e = explain()
		require.Contains(t, e.Summary, "disabled")
		require.False(t, e.Accounts[1].Chosen)
		_, err = y.Explain(t.Context(), y.admin, "nowhere")
		requireFault(t, "not_found", err)
	})
}
