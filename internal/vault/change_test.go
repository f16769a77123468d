package vault_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

func TestUpdateMergesAPatch(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		d := oauthDraft("team", ptr(today.Add(time.Hour)))
		d.Description, d.Tags, d.Port, d.Owner, d.RequiresVPN, d.RotateEvery = "what it is", []string{"a", "b"}, 443, "ops", true, 90
		d.ExpiresAt, d.Notes, d.BaseURL = ptr(today.AddDate(1, 0, 0)), secret.FromString("planted notes 0815"), "HTTPS://API.Example.com:443/llm/"
		c := f.create(t, d)
		require.Equal(t, "https://api.example.com/llm", c.BaseURL, "in the one form")

		// What the patch does not name stays.
		got, err := f.Update(t.Context(), admin, c.ID, vault.Patch{Description: vault.To("new"), OAuth: vault.OAuthPatch{Scopes: vault.To([]string{"org:x"})}}, "")
		require.NoError(t, err)
		want := c
		want.Description, want.OAuth.Scopes, want.Revision, want.UpdatedAt = "new", []string{"org:x"}, 2, got.UpdatedAt
		require.Equal(t, want, got)
		require.True(t, got.UpdatedAt.After(c.UpdatedAt))
		ev := f.lastEvent(t)
		require.Equal(t, store.CredentialUpdate, ev.Action)
		require.ElementsMatch(t, []string{"description", "oauth.scopes"}, ev.Fields)

		// Null clears, or brings the default back.
		got, err = f.Update(t.Context(), admin, c.ID, vault.Patch{
			Description: vault.Clear[string](), Tags: vault.Clear[[]string](), Port: vault.Clear[int](), Owner: vault.Clear[string](), RequiresVPN: vault.Clear[bool](),
			RotateEvery: vault.Clear[int](), ExpiresAt: vault.Clear[*time.Time](), Notes: vault.Clear[secret.Value](), BaseURL: vault.Clear[string](),
			AccountID: vault.Clear[string](), OAuth: vault.OAuthPatch{Clear: true, ClientID: vault.To("kept")},
		}, "")
		require.NoError(t, err)
		want.Meta = vault.Meta{Name: "team", AccountID: "acc_team", Provider: "anthropic", OAuth: vault.OAuthMeta{ClientID: "kept"}}
		want.HasNotes, want.Revision, want.UpdatedAt = false, 3, got.UpdatedAt
		require.Equal(t, want, got)
		require.Zero(t, f.count(t, `SELECT count(*) FROM credentials WHERE notes IS NOT NULL`))
		require.Zero(t, f.count(t, `SELECT count(*) FROM credential_tags`))

		read, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, got, read)
		require.Equal(t, accessToken, f.reveal(t, c.ID, "access_token"), "the secrets were not touched")
		require.Equal(t, `"1-3"`, read.ETag())
	})
}

func TestNotesAreSealedAnew(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, password("x"))
		for _, text := range []string{"planted notes 0815", "other notes"} {
			_, err := f.Update(t.Context(), admin, c.ID, vault.Patch{Notes: vault.To(secret.FromString(text))}, "")
			require.NoError(t, err)
			got, err := f.Get(t.Context(), admin, c.ID)
			require.NoError(t, err)
			require.Equal(t, text, got.Notes.Reveal())
		}
		_, err := f.Update(t.Context(), admin, c.ID, vault.Patch{Owner: vault.To("someone")}, "")
		require.NoError(t, err)
		got, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, "other notes", got.Notes.Reveal(), "another change leaves them as they are")
		require.Equal(t, int64(4), got.Revision)
	})
}

func TestAPatchThatChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		for _, p := range []vault.Patch{{}, {Name: vault.To("team"), Port: vault.To(0)}, {Hosts: vault.To([]string{})}} {
			got, err := f.Update(t.Context(), admin, c.ID, p, "")
			require.NoError(t, err)
			require.Equal(t, c, got)
			require.Equal(t, store.CredentialView, f.lastEvent(t).Action)
		}
	})
}

func TestBadPatches(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		before := len(f.events(t))
		for name, tc := range map[string]struct {
			p       vault.Patch
			pointer string
			code    string
		}{
			"name":             {vault.Patch{Name: vault.To("")}, "/name", "validation_failed"},
			"name cleared":     {vault.Patch{Name: vault.Clear[string]()}, "/name", "validation_failed"},
			"state":            {vault.Patch{State: vault.To(vault.Expired)}, "/status", "validation_failed"},
			"state cleared":    {vault.Patch{State: vault.Clear[vault.Status]()}, "/status", "validation_failed"},
			"account no more":  {vault.Patch{Provider: vault.To("openai"), AccountID: vault.Clear[string]()}, "/provider", "validation_failed"},
			"refused upstream": {vault.Patch{BaseURL: vault.To("https://10.0.0.1")}, "/base_url", "upstream_refused"},
			"hosts elsewhere":  {vault.Patch{Hosts: vault.To([]string{"evil.example"})}, "/hosts", "validation_failed"},
			"secret removed":   {vault.Patch{Secrets: map[string]*secret.Value{"api_key": nil}}, "/secrets/api_key", "secret_missing"},
			"secret empty":     {vault.Patch{Secrets: map[string]*secret.Value{"api_key": {}}}, "/secrets/api_key", "validation_failed"},
			"secret unknown":   {vault.Patch{Secrets: map[string]*secret.Value{accessToken: ptr(secret.FromString("x"))}}, "/secrets", "validation_failed"},
			"reason":           {vault.Patch{Reason: "a\x00b", Secrets: map[string]*secret.Value{"api_key": ptr(secret.FromString("x"))}}, "/reason", "validation_failed"},
		} {
			_, err := f.Update(t.Context(), admin, c.ID, tc.p, "")
			require.Equal(t, []string{tc.pointer}, pointers(requireCode(t, err, tc.code)), name)
		}
		require.Len(t, f.events(t), before)
		got, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, c, got)
		_, err = f.Rotate(t.Context(), admin, c.ID, nil, "")
		requireCode(t, err, "secret_missing")
		plain := f.create(t, password("p"))
		plain.Provider = "anthropic"
		_, err = f.Update(t.Context(), admin, plain.ID, vault.Patch{Provider: vault.To("anthropic")}, "")
		require.NoError(t, err, "a password is no account, whatever its provider")
	})
}

func TestETag(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		stale := c.ETag()
		c, err := f.Update(t.Context(), admin, c.ID, vault.Patch{Owner: vault.To("a")}, stale)
		require.NoError(t, err)
		require.NotEqual(t, stale, c.ETag())
		for _, bad := range []string{stale, `"1-3"`, `W/` + c.ETag(), `1-2`, `""`, `"x", "y"`} {
			_, err = f.Update(t.Context(), admin, c.ID, vault.Patch{Owner: vault.To("b")}, bad)
			require.Equal(t, fault.Precondition, requireCode(t, err, "etag_mismatch").Kind, bad)
		}
		for i, good := range []string{"", "*", `"9-9", "1-4"`} {
			c, err = f.Update(t.Context(), admin, c.ID, vault.Patch{Owner: vault.To(string(rune('c' + i)))}, good)
			require.NoError(t, err, good)
		}
		require.Equal(t, int64(5), c.Revision)
		tag := c.ETag()
		_, err = f.Rotate(t.Context(), admin, c.ID, secrets("api_key", "next-key"), "")
		require.NoError(t, err)
		_, err = f.Update(t.Context(), admin, c.ID, vault.Patch{Owner: vault.To("z")}, tag)
		requireCode(t, err, "etag_mismatch")
	})
}

func TestRotateVersionsAndRestore(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, oauthDraft("team", ptr(today.Add(time.Hour))))
		const rotated = "rotated-Planted-4711-value"
		second, err := f.Rotate(t.Context(), admin, c.ID, secrets("access_token", rotated), "leaked in a chat")
		require.NoError(t, err)
		require.Equal(t, int64(2), second.Version)
		require.Equal(t, int64(1), second.Revision)
		require.Equal(t, "alue", second.Suffix)
		require.NotNil(t, second.LastRotatedAt)
		require.Nil(t, second.OAuth.ExpiresAt, "the old token's expiry does not belong to the new one")
		require.Equal(t, rotated, f.reveal(t, c.ID, "access_token"))
		require.Equal(t, refreshToken, f.reveal(t, c.ID, "refresh_token"), "what was not named is carried over")

		evs := f.events(t)
		ev := evs[1]
		require.Equal(t, store.CredentialRotate, ev.Action)
		require.Equal(t, "leaked in a chat", ev.Reason)

		// A patch with secrets is a rotation too; null removes an optional field.
		third, err := f.Update(t.Context(), admin, c.ID, vault.Patch{Secrets: map[string]*secret.Value{"refresh_token": nil, "client_secret": ptr(secret.FromString("cs"))},
			OAuth: vault.OAuthPatch{ExpiresAt: vault.To(ptr(today.Add(2 * time.Hour)))}, Owner: vault.To("ops")}, second.ETag())
		require.NoError(t, err)
		require.Equal(t, []string{"access_token", "client_secret"}, third.SecretFields)
		require.Equal(t, `"3-2"`, third.ETag())
		require.Equal(t, today.Add(2*time.Hour), *third.OAuth.ExpiresAt)

		list, err := f.Versions(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Len(t, list, 3)
		require.Equal(t, []int64{3, 2, 1}, []int64{list[0].Number, list[1].Number, list[2].Number})
		require.Equal(t, []bool{true, false, false}, []bool{list[0].Current, list[1].Current, list[2].Current})
		require.Equal(t, "leaked in a chat", list[1].Reason)
		require.Equal(t, "Ada", list[1].CreatedByName)
		require.Equal(t, today.Add(time.Hour), *list[2].TokenExpires)
		require.Nil(t, list[1].TokenExpires, "the patch's expiry went to the new version alone")
		require.Equal(t, accessToken[len(accessToken)-4:], list[2].Suffix)

		restored, err := f.Restore(t.Context(), admin, c.ID, 1)
		require.NoError(t, err)
		require.Equal(t, int64(4), restored.Version, "history only grows")
		require.Equal(t, accessToken, f.reveal(t, c.ID, "access_token"))
		require.Equal(t, refreshToken, f.reveal(t, c.ID, "refresh_token"))
		require.Equal(t, today.Add(time.Hour), *restored.OAuth.ExpiresAt, "with the expiry of that version")
		require.Equal(t, third.LastRotatedAt, restored.LastRotatedAt, "an old secret is no rotation")
		list, err = f.Versions(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, int64(1), list[0].RestoredFrom)

		_, err = f.Restore(t.Context(), admin, c.ID, 4)
		requireCode(t, err, "state_conflict")
		for _, n := range []int64{0, -1, 5} {
			_, err = f.Restore(t.Context(), admin, c.ID, n)
			requireCode(t, err, "not_found")
		}
	})
}

func TestTheTokensExpiryCanBeCorrected(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, oauthDraft("team", ptr(today.Add(time.Hour))))
		_, err := f.Rotate(t.Context(), admin, c.ID, secrets("access_token", "next"), "")
		require.NoError(t, err)
		got, err := f.Update(t.Context(), admin, c.ID, vault.Patch{OAuth: vault.OAuthPatch{ExpiresAt: vault.To(ptr(today.Add(3 * time.Hour)))}}, "")
		require.NoError(t, err)
		require.Equal(t, `"2-2"`, got.ETag())
		require.Equal(t, []string{"oauth.expires_at"}, f.lastEvent(t).Fields)
		list, err := f.Versions(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, today.Add(3*time.Hour), *list[0].TokenExpires)
		require.Equal(t, today.Add(time.Hour), *list[1].TokenExpires)
	})
}

func TestStatusAndItsStates(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		d := password("x")
		d.ExpiresAt = ptr(today.AddDate(0, 0, 31))
		c := f.create(t, d)
		at := func(when time.Time) vault.Status {
			f.now.Set(when)
			got, err := f.Get(t.Context(), admin, c.ID)
			require.NoError(t, err)
			// The filter and the computed status must agree at every moment.
			for _, s := range vault.Statuses() {
				items, _, err := f.List(t.Context(), admin, vault.Filter{Status: s})
				require.NoError(t, err)
				require.Equal(t, s == got.Status, len(items) == 1, "%s listed as %s", got.Status, s)
			}
			return got.Status
		}
		require.Equal(t, vault.Active, at(today))
		require.Equal(t, vault.Expiring, at(today.AddDate(0, 0, 1)))
		require.Equal(t, vault.Expiring, at(d.ExpiresAt.Add(-time.Second)))
		require.Equal(t, vault.Expired, at(*d.ExpiresAt))
		for _, s := range []vault.Status{vault.Disabled, vault.Compromised, vault.Active} {
			now, err := f.Get(t.Context(), admin, c.ID)
			require.NoError(t, err)
			got, err := f.Update(t.Context(), admin, c.ID, vault.Patch{State: vault.To(s)}, now.ETag())
			require.NoError(t, err)
			require.Equal(t, []string{"status"}, f.lastEvent(t).Fields)
			if s == vault.Active {
				s = vault.Expired
			}
			require.Equal(t, s, got.Status, "what a person said weighs more than time")
			require.Equal(t, s, at(d.ExpiresAt.Add(time.Hour)))
		}
	})
}

// TestACompromisedMarkIsNotTakenBackUnseen: neither a pause nor a resume of who has not looked hides that somebody else may know the secret; who
// names the state that they saw takes the mark back.
func TestACompromisedMarkIsNotTakenBackUnseen(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("leaked"))
		set := func(to vault.Status, ifMatch string) (vault.Credential, error) {
			return f.Update(t.Context(), admin, c.ID, vault.Patch{State: vault.To(to)}, ifMatch)
		}
		for _, state := range []vault.Status{vault.Disabled, vault.Active, vault.Compromised, vault.Compromised} { // from any other state, unseen
			_, err := set(state, "")
			require.NoError(t, err)
		}
		for _, seen := range []string{"", "*", " * "} {
			for _, to := range []vault.Status{vault.Active, vault.Disabled} {
				_, err := set(to, seen)
				requireCode(t, err, "state_conflict")
				require.Contains(t, err.Error(), "leaked")
			}
		}
		_, err := set(vault.Active, c.ETag())
		requireCode(t, err, "etag_mismatch") // of before the mark
		marked, err := f.Update(t.Context(), admin, c.ID, vault.Patch{Description: vault.To("found on a forum")}, "")
		require.NoError(t, err, "the rest of it is changed as ever")
		require.Equal(t, vault.Compromised, marked.Status)
		back, err := set(vault.Active, marked.ETag())
		require.NoError(t, err)
		require.Equal(t, vault.Active, back.Status)
	})
}

// An upstream that is no longer allowed must not keep a leaked credential from being marked or rotated.
func TestAStaleUpstreamDoesNotBlockContainment(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		d := apiKey("local")
		d.BaseURL = "http://127.0.0.1:9999"
		c := f.create(t, d)
		policy, err := outbound.ParsePolicy(nil)
		require.NoError(t, err)
		strict, err := vault.New(vault.Config{DB: f.db, Ring: f.ring, Binder: f.ring, CheckURL: policy.CheckURL})
		require.NoError(t, err)
		_, err = strict.Update(t.Context(), admin, c.ID, vault.Patch{State: vault.To(vault.Compromised)}, "")
		require.NoError(t, err)
		_, err = strict.Rotate(t.Context(), admin, c.ID, secrets("api_key", "next-key"), "leaked")
		require.NoError(t, err)
		_, err = strict.Update(t.Context(), admin, c.ID, vault.Patch{Name: vault.To("renamed")}, "")
		requireCode(t, err, "upstream_refused")
	})
}

func TestChangesAreAnnounced(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		told := &changeLog{}
		f.db.Subscribe(told.take)
		require.NoError(t, f.db.Start(t.Context()))
		told.reset()
		c := f.create(t, apiKey("team"))
		require.Equal(t, []store.Change{{Topic: store.TopicCredential, Subject: c.ID}}, told.reset(), "told before Create returns")
		for name, act := range map[string]func() error{
			"update": func() error {
				_, err := f.Update(t.Context(), admin, c.ID, vault.Patch{Owner: vault.To("x")}, "")
				return err
			},
			"rotate": func() error { _, err := f.Rotate(t.Context(), admin, c.ID, secrets("api_key", "k"), ""); return err },
			"disable": func() error {
				_, err := f.Update(t.Context(), admin, c.ID, vault.Patch{State: vault.To(vault.Disabled)}, "")
				return err
			},
		} {
			require.NoError(t, act())
			require.Contains(t, told.reset(), store.Change{Topic: store.TopicCredential, Subject: c.ID}, name)
		}
		require.NoError(t, f.Delete(t.Context(), admin, c.ID, ""))
		require.Contains(t, told.reset(), store.Change{Topic: store.TopicCredential, Subject: c.ID})
	})
}

func TestConcurrentRotationsMakeDistinctVersions(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		const n = 8
		errs := make(chan error, n)
		for range n {
			go func() {
				_, err := f.Rotate(t.Context(), admin, c.ID, secrets("api_key", "next-key"), "")
				errs <- err
			}()
		}
		for range n {
			require.NoError(t, <-errs)
		}
		list, err := f.Versions(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Len(t, list, n+1)
		require.Equal(t, int64(n+1), list[0].Number)
		require.True(t, list[0].Current)
	})
}
