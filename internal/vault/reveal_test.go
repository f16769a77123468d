package vault_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

type changeLog struct {
	mu  sync.Mutex
	all []store.Change
}

func (l *changeLog) take(_ context.Context, changes []store.Change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, changes...)
	return nil
}

func (l *changeLog) reset() []store.Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.all
	l.all = nil
	return out
}

// watched is the real keyring with a look at what is on record whenever something is opened.
type watched struct {
	*keyring.Ring
	onOpen func(aad secret.AAD)
}

func (w watched) Open(purpose string, sealed []byte, aad secret.AAD) (secret.Value, error) {
	w.onOpen(aad)
	return w.Ring.Open(purpose, sealed, aad)
}

func TestRevealIsRecordedBeforeItDecrypts(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		var opened []secret.AAD
		room := f.room(t, watched{f.ring, func(aad secret.AAD) {
			opened = append(opened, aad)
			require.Zero(t, f.db.OpenTransactions(), "the record's transaction has ended")
			ev := f.lastEvent(t) // read by another connection, so it is committed
			require.Equal(t, store.CredentialReveal, ev.Action)
			require.Equal(t, store.OutcomeOK, ev.Outcome)
			require.Equal(t, c.ID, ev.Target.ID)
		}})
		v, err := room.Reveal(t.Context(), admin, c.ID, "api_key", "to test")
		require.NoError(t, err)
		require.Equal(t, anthropicKey, v.Reveal())
		require.Equal(t, []secret.AAD{{Table: "credential_secrets", ID: c.ID, Field: "api_key", Version: 1}}, opened)

		// What cannot be recorded does not happen: nothing is opened.
		opened = nil
		breakAudit(t, f)
		_, err = room.Reveal(t.Context(), admin, c.ID, "api_key", "to test")
		requireCode(t, err, "audit_unavailable")
		require.Empty(t, opened)
	})
}

// When even the failure cannot be recorded, the caller hears of that, and still gets nothing.
func TestAFailureThatCannotBeRecorded(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		f.exec(t, `UPDATE credential_secrets SET field = 'api_key', sealed = $1`, []byte("garbage"))
		room := f.room(t, watched{f.ring, func(secret.AAD) { breakAudit(t, f) }})
		v, err := room.Reveal(t.Context(), admin, c.ID, "api_key", "to test")
		requireCode(t, err, "audit_unavailable")
		require.ErrorIs(t, err, secret.ErrOpen, "the log still gets the first cause")
		require.True(t, v.IsZero())
	})
}

// breakAudit makes the audit log refuse every new record.
func breakAudit(t *testing.T, f *fixture) {
	t.Helper()
	ddl := `CREATE TRIGGER broken BEFORE INSERT ON audit_pending BEGIN SELECT RAISE(ABORT, 'no space'); END`
	if f.db.Engine() == store.Postgres {
		ddl = `CREATE TRIGGER broken BEFORE INSERT ON audit_pending FOR EACH STATEMENT EXECUTE FUNCTION signalbox_immutable()`
	}
	require.NoError(t, f.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error { _, err := tx.Exec(ddl); return err }))
}

func TestNothingHappensUnrecorded(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		_, err := f.Rotate(t.Context(), admin, c.ID, secrets("api_key", anthropicKey), "") // so that there is something to restore
		require.NoError(t, err)
		breakAudit(t, f)
		for name, act := range acts(f, c.ID) {
			requireCode(t, act(admin), "audit_unavailable")
			require.Equal(t, 1, f.count(t, `SELECT count(*) FROM credentials WHERE version = 2 AND revision = 1`), name)
			// A refusal that cannot be recorded is no permission either.
			requireCode(t, act(member), "audit_unavailable")
		}
		require.Equal(t, 2, f.count(t, `SELECT count(*) FROM credential_versions`))
	})
}

// acts are all acts of the room that ask for a permission, by name.
func acts(f *fixture, id string) map[string]func(identity.Caller) error {
	ctx := context.Background()
	return map[string]func(identity.Caller) error{
		"create":   func(c identity.Caller) error { _, err := f.Create(ctx, c, apiKey("another")); return err },
		"view":     func(c identity.Caller) error { _, err := f.Get(ctx, c, id); return err },
		"list":     func(c identity.Caller) error { _, _, err := f.List(ctx, c, vault.Filter{}); return err },
		"versions": func(c identity.Caller) error { _, err := f.Versions(ctx, c, id); return err },
		"update": func(c identity.Caller) error {
			_, err := f.Update(ctx, c, id, vault.Patch{Owner: vault.To("x")}, "")
			return err
		},
		"rotate":  func(c identity.Caller) error { _, err := f.Rotate(ctx, c, id, secrets("api_key", "k"), ""); return err },
		"restore": func(c identity.Caller) error { _, err := f.Restore(ctx, c, id, 1); return err },
		"delete":  func(c identity.Caller) error { return f.Delete(ctx, c, id, "") },
		"reveal":  func(c identity.Caller) error { _, err := f.Reveal(ctx, c, id, "api_key", "why"); return err },
	}
}

func TestRefusalsAreRecorded(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		_, err := f.Rotate(t.Context(), admin, c.ID, secrets("api_key", anthropicKey), "") // so that there is something to restore
		require.NoError(t, err)
		all := acts(f, c.ID)
		reads := []string{"view", "list", "versions"}
		for who, tc := range map[string]struct {
			caller identity.Caller
			may    []string
			code   string
			silent bool
		}{
			"auditor":       {auditor, reads, "forbidden", false},
			"unknown role":  {identity.Caller{Kind: identity.KindPerson, ID: "user_9", UserID: "user_9", Role: "wizard"}, nil, "forbidden", false},
			"reading token": {reader, reads, "scope_missing", false},
			"client key":    {agent, nil, "forbidden", false},
			"unknown kind":  {stranger, nil, "forbidden", false},
			"nobody":        {nobody, nil, "unauthenticated", true},
		} {
			for act, do := range all {
				before := len(f.events(t))
				err := do(tc.caller)
				if slices.Contains(tc.may, act) {
					require.NoError(t, err, "%s %s", who, act)
					continue
				}
				requireCode(t, err, tc.code)
				evs := f.events(t)
				if tc.silent {
					require.Len(t, evs, before, "nobody at all fills no log")
					continue
				}
				require.Len(t, evs, before+1, "%s %s", who, act)
				ev := evs[before]
				require.Equal(t, store.CredentialRefused, ev.Action)
				require.Equal(t, store.OutcomeRefused, ev.Outcome)
				require.Equal(t, tc.code, ev.Reason)
				did, _ := ev.Details.Get("act")
				require.Equal(t, act, did.Text())
				require.Equal(t, string(tc.caller.Kind), ev.Actor.Kind)
				if act != "create" && act != "list" {
					require.Equal(t, store.Target{Kind: "credential", ID: c.ID, Name: "team"}, ev.Target)
				}
			}
		}
		got, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, int64(2), got.Version)
		require.Equal(t, int64(1), got.Revision)
		require.Equal(t, 1, f.count(t, `SELECT count(*) FROM credentials`))
	})
}

// Who may not act cannot tell whether a credential exists; who may gets the same 404 for every id that is not one.
func TestUnknownAndForbiddenTellNothing(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		there, away := acts(f, c.ID), acts(f, store.NewID("cred"))
		for _, act := range []string{"view", "versions", "update", "rotate", "restore", "delete", "reveal"} {
			require.Equal(t, there[act](member).Error(), away[act](member).Error(), act)
			missing := requireCode(t, away[act](admin), "not_found")
			for _, id := range []string{"", "team", "cred_", "cred_'; DROP TABLE credentials", strings.ToUpper(c.ID), c.ID + "0", "train_" + c.ID[5:], strings.Repeat("x", 1<<20)} {
				require.Equal(t, missing.Error(), acts(f, id)[act](admin).Error(), act)
				require.Equal(t, there[act](member).Error(), acts(f, id)[act](member).Error(), act)
			}
		}
		for _, ev := range f.events(t) {
			require.Less(t, len(ev.Target.ID), 32, "an id that is none is not recorded")
		}
	})
}

func TestRevealNeedsAReasonAndAField(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, oauthDraft("team", nil))
		for _, reason := range []string{"", "  ", strings.Repeat("x", 501), "a\x00b", "a\xff"} {
			_, err := f.Reveal(t.Context(), admin, c.ID, "access_token", reason)
			require.Equal(t, []string{"/reason"}, pointers(requireCode(t, err, "validation_failed")))
		}
		require.Len(t, f.events(t), 1)
		for _, field := range []string{"", "client_secret", "password", "notes", "access_token ", strings.Repeat("x", 1000)} {
			_, err := f.Reveal(t.Context(), admin, c.ID, field, "why")
			require.Equal(t, fault.Conflict, requireCode(t, err, "not_revealable").Kind)
			ev := f.lastEvent(t)
			require.Equal(t, store.CredentialRefused, ev.Action)
			require.Equal(t, "not_revealable", ev.Reason)
			require.Less(t, len(ev.Details), 2, "the field asked for is not recorded: it may be anything")
		}
		_, err := f.Update(t.Context(), admin, c.ID, vault.Patch{State: vault.To(vault.Disabled)}, "")
		require.NoError(t, err)
		require.Equal(t, accessToken, f.reveal(t, c.ID, "access_token"), "a person may see what is disabled")
		v, err := f.Reveal(t.Context(), fullTok, c.ID, "access_token", "why")
		require.NoError(t, err)
		require.Equal(t, accessToken, v.Reveal())
		_, err = f.Reveal(t.Context(), identity.System("chore"), c.ID, "access_token", "why")
		requireCode(t, err, "forbidden")
	})
}

// TestProofsAgeByTheClock: how long ago somebody proved who they are, the room's clock says, as it says when a session has ended.
func TestProofsAgeByTheClock(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team"))
		who := admin
		who.SteppedUpAt = today
		acts := map[string]func() error{
			"reveal": func() error { _, err := f.Reveal(t.Context(), who, c.ID, "api_key", "look"); return err },
			"grant": func() error {
				_, err := f.SetGrants(t.Context(), who, on(c.ID), []vault.Grant{to(f.somebody(t), "use")}, "")
				return err
			},
			"redirect": func() error {
				_, err := f.Update(t.Context(), who, c.ID, vault.Patch{BaseURL: vault.To("https://" + store.NewID("h")[2:] + ".example.com"), Hosts: vault.Clear[[]string]()}, "")
				return err
			},
		}
		f.now.Set(today.Add(identity.FreshFor - time.Second))
		for name, act := range acts {
			require.NoError(t, act(), name)
		}
		f.now.Set(today.Add(identity.FreshFor + time.Second))
		for _, act := range acts {
			requireCode(t, act(), "step_up_required")
		}
	})
}
