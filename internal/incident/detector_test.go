package incident_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// guarded is a database with an audit log, whose clock the test sets.
type guarded struct {
	db    *store.DB
	log   *audit.Log
	room  *incident.Room
	clock atomic.Pointer[time.Time]
}

func eachHouse(t *testing.T, fn func(t *testing.T, h *guarded)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			h := &guarded{}
			h.set(time.Date(2026, 11, 22, 10, 0, 30, 0, time.UTC))
			cfg := storetest.Config(t, e)
			cfg.Clock = func() time.Time { return *h.clock.Load() }
			h.db = storetest.OpenConfig(t, cfg)
			below := newHouse(t, h.db)
			h.log, h.room = below.audit, below.Room
			fn(t, h)
		})
	}
}

func (h *guarded) set(at time.Time) { h.clock.Store(&at) }

func (h *guarded) wait(d time.Duration) { h.set(h.clock.Load().Add(d)) }

// watch makes an instance's detectors by a setting.
func (h *guarded) watch(t *testing.T, setting string) *incident.Detectors {
	t.Helper()
	rules, err := incident.ParseRules(setting)
	require.NoError(t, err)
	d, err := incident.NewDetectors(incident.DetectorConfig{DB: h.db, Audit: h.log, Rules: rules})
	require.NoError(t, err)
	return d
}

// act records events, one transaction each.
func (h *guarded) act(t *testing.T, events ...store.Event) {
	t.Helper()
	for _, e := range events {
		require.NoError(t, h.db.Write(t.Context(), func(tx *store.Tx) error { return tx.Record(e) }))
	}
}

// look has each of the instances judge all that is there.
func (h *guarded) look(t *testing.T, instances ...*incident.Detectors) {
	t.Helper()
	require.NoError(t, h.log.Flush(t.Context()))
	for _, d := range instances {
		for range 3 {
			require.NoError(t, d.Pass(t.Context()))
		}
	}
}

func (h *guarded) incidents(t *testing.T) []incident.Incident {
	t.Helper()
	list, _, err := h.room.List(t.Context(), somebody(identity.Auditor), incident.Filter{})
	require.NoError(t, err)
	return list
}

// opened returns how often a detector opened, and how often it counted up what was open.
func (h *guarded) opened(t *testing.T, detector string) (opened int, repeats int64) {
	t.Helper()
	for _, i := range h.incidents(t) {
		if i.Detector == detector {
			opened++
			repeats += i.Repeats
		}
	}
	return opened, repeats
}

func actor(user string) store.Actor {
	return store.Actor{Kind: "person", ID: user, Name: "Ada \u202e\x07 of " + user}
}

func cred(n int) store.Target {
	return store.Target{Kind: "credential", ID: fmt.Sprintf("cred_%d", n), Name: "prod"}
}

// samples make one sight of each detector that reads the log; n tells them apart.
func samples() map[string]func(user string, n int) store.Event {
	return map[string]func(string, int) store.Event{
		incident.MassAccess: func(user string, n int) store.Event {
			return store.Event{Actor: actor(user), Action: store.CredentialReveal, Target: cred(n)}
		},
		incident.DeniedReveals: func(user string, n int) store.Event {
			return store.Event{Actor: actor(user), Action: store.CredentialRefused, Target: cred(1), Outcome: store.OutcomeRefused, Reason: "forbidden", Details: store.Details{store.Str("act", "reveal")}}
		},
		incident.FailedDecryptions: func(user string, n int) store.Event {
			return store.Event{Actor: actor(user), Action: store.CredentialReveal, Target: cred(n), Outcome: store.OutcomeFailed, Reason: "credential_tampered"}
		},
		incident.RefreshReuse: func(user string, n int) store.Event {
			return store.Event{Actor: store.Actor{Kind: "anonymous"}, OnBehalf: user, Action: store.IdentityTokens, Target: store.Target{Kind: "session", ID: "ses_1"}, Outcome: store.OutcomeRefused, Reason: "reused"}
		},
	}
}

// TestDetectors: each fires at its threshold and not below it, not again in its quiet period, again after it, never when it is off, and not of what lies apart
// by more than an hour.
func TestDetectors(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *guarded) {
		for name, sample := range samples() {
			t.Run(name, func(t *testing.T) {
				h.set(h.clock.Load().Truncate(time.Hour).Add(5 * time.Hour))
				d := h.watch(t, name+"=3/30m")
				h.look(t, d)
				user := "user_" + name
				h.act(t, sample(user, 1), sample(user, 2))
				if name != incident.MassAccess { // for which that would be usual then
					h.wait(2 * time.Hour)
					h.act(t, sample(user, 3), sample(user, 4))
				}
				if name != incident.FailedDecryptions { // which looks at all together
					h.act(t, sample("user_2", 1), sample("user_3", 2))
				}
				h.look(t, d)
				opened, _ := h.opened(t, name)
				require.Zero(t, opened, "below the threshold")
				h.act(t, sample(user, 5))
				h.look(t, d)
				opened, repeats := h.opened(t, name)
				require.Equal(t, 1, opened, "at the threshold")
				require.Zero(t, repeats)

				h.wait(5 * time.Minute)
				h.act(t, sample(user, 6), sample(user, 7))
				h.look(t, d)
				opened, repeats = h.opened(t, name)
				require.Equal(t, 1, opened)
				require.Zero(t, repeats, "in the quiet period")
				h.wait(30 * time.Minute)
				h.act(t, sample(user, 8))
				h.look(t, d)
				opened, repeats = h.opened(t, name)
				require.Equal(t, 1, opened, "it is one incident while it is open")
				require.Equal(t, int64(1), repeats, "after the quiet period")

				for _, i := range h.incidents(t) {
					if i.Detector == name {
						for _, to := range []incident.Status{incident.Contained, incident.Resolved} {
							_, err := h.room.Update(t.Context(), somebody(identity.Operator), i.ID, incident.Patch{Status: &to}, "")
							require.NoError(t, err)
						}
					}
				}
				h.wait(2 * time.Hour)
				for n := range 3 {
					h.act(t, sample(user+"x", 20+n))
				}
				h.look(t, d)
				opened, _ = h.opened(t, name)
				require.Equal(t, 2, opened, "what is resolved stays so")

				h.wait(2 * time.Hour)
				for n := range 5 {
					h.act(t, sample(user+"y", 10+n))
				}
				h.look(t, h.watch(t, name+"=off"))
				opened, repeats = h.opened(t, name)
				require.Equal(t, 2, opened, "off")
				require.Equal(t, int64(1), repeats)
			})
		}
		for _, i := range h.incidents(t) {
			require.NotContains(t, i.Title, "\x07")
		}
	})
}

// TestDetectorsRestart: an instance that starts goes on in the middle of what its predecessor counted, and judges what came while there was none.
func TestDetectorsRestart(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *guarded) {
		sample, setting := samples()[incident.DeniedReveals], "denied_reveals=4/1h"
		h.act(t, sample("user_0", 1), sample("user_0", 1), sample("user_0", 1), sample("user_0", 1))
		h.look(t, h.watch(t, setting)) // the first one ever begins at the end
		require.Empty(t, h.incidents(t))
		h.act(t, sample("user_1", 1))
		h.look(t, h.watch(t, setting))
		h.act(t, sample("user_1", 1), sample("user_1", 1))
		h.look(t, h.watch(t, setting))
		require.Empty(t, h.incidents(t))
		h.act(t, sample("user_1", 1))
		h.look(t, h.watch(t, setting))
		require.Len(t, h.incidents(t), 1)
		h.act(t, sample("user_1", 1))
		h.look(t, h.watch(t, setting))
		require.Len(t, h.incidents(t), 1, "the quiet period survives as well")
		require.Zero(t, h.incidents(t)[0].Repeats)
	})
}

// TestDetectorsCrash: a pass that breaks off half-way stored nothing, and the next one makes up for it.
func TestDetectorsCrash(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *guarded) {
		sample, d := samples()[incident.DeniedReveals], h.watch(t, "denied_reveals=2/1h")
		h.look(t, d)
		h.act(t, sample("user_1", 1), sample("user_1", 1))
		require.NoError(t, h.log.Flush(t.Context()))
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, d.Pass(gone))
		require.Empty(t, h.incidents(t))
		h.look(t, d)
		require.Len(t, h.incidents(t), 1)
	})
}

// TestDetectorsFleet: of two instances that look at once, one counts each record: the threshold is reached at its number, and one incident is opened.
func TestDetectorsFleet(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *guarded) {
		setting, sample := "denied_reveals=20/1h", samples()[incident.DeniedReveals]
		fleet := []*incident.Detectors{h.watch(t, setting), h.watch(t, setting)}
		h.look(t, fleet...)
		for n := range 20 {
			if n == 19 {
				h.look(t, fleet...)
				require.Empty(t, h.incidents(t), "no record counts twice")
			}
			h.act(t, sample("user_1", n))
			if n%5 != 0 && n != 19 {
				continue
			}
			require.NoError(t, h.log.Flush(t.Context()))
			var all sync.WaitGroup
			for _, d := range fleet {
				all.Go(func() {
					for range 4 {
						if err := d.Pass(t.Context()); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
		}
		h.look(t, fleet...)
		list := h.incidents(t)
		require.Len(t, list, 1)
		require.Zero(t, list[0].Repeats)
		opens := 0
		for _, r := range records(t, h.db) {
			if strings.Contains(r, `"action":"incident.open"`) {
				opens++
				require.Contains(t, r, `"actor":{"kind":"system","id":"detectors","name":"detectors"}`)
			}
		}
		require.Equal(t, 1, opens)
	})
}

// TestMassAccessIsOfTheUnusual: the same credential again is one; whoever reads many each hour is measured by that; a raid is not what the next is measured by.
func TestMassAccessIsOfTheUnusual(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *guarded) {
		d, sample := h.watch(t, "mass_access=10/1m"), samples()[incident.MassAccess]
		h.look(t, d)
		for range 30 {
			h.act(t, sample("user_1", 1))
		}
		h.look(t, d)
		require.Empty(t, h.incidents(t))
		hour := func(user string, many int) {
			for n := range many {
				h.act(t, sample(user, n))
			}
			h.look(t, d)
			h.wait(3 * time.Hour)
		}
		for range 3 {
			hour("user_2", 8)
		}
		require.Empty(t, h.incidents(t))
		hour("user_2", 23)
		require.Empty(t, h.incidents(t), "usual are 8, so 24 are needed")
		hour("user_2", 40) // usual are (3·8 + 23)/4, so 35 are needed
		opened, _ := h.opened(t, incident.MassAccess)
		require.Equal(t, 1, opened)
		require.Contains(t, h.incidents(t)[0].Description, "The limit for them was 35")
		hour("user_3", 10)
		opened, _ = h.opened(t, incident.MassAccess)
		require.Equal(t, 2, opened, "nothing is usual for a caller who is new")
		hour("user_3", 29)
		opened, _ = h.opened(t, incident.MassAccess)
		require.Equal(t, 2, opened)
		hour("user_3", 100) // the raid counts as its limit: (10 + 29)/2 are usual, 58 needed
		h.wait(time.Hour)
		hour("user_3", 97) // (10 + 29 + 58)/3 are usual, 97 needed
		for _, i := range h.incidents(t) {
			if i.Subject == "user_3" {
				require.Equal(t, int64(2), i.Repeats)
			}
		}
		// A lease counts to the key, a token to its person.
		for n := range 10 {
			h.act(t, store.Event{Actor: store.Actor{Kind: "client_key", ID: "key_1", Name: "ci"}, Action: store.LeaseGranted, Target: cred(n), Outcome: store.OutcomePending})
			h.act(t, store.Event{Actor: store.Actor{Kind: "token", ID: fmt.Sprintf("tok_%d", n), Name: "ci"}, OnBehalf: "user_4", Action: store.CredentialReveal, Target: cred(n)})
			h.act(t, store.Event{Actor: store.Actor{Kind: "system", ID: "chore", Name: "chore"}, Action: store.CredentialReveal, Target: cred(n)})
		}
		h.look(t, d)
		subjects := map[string]bool{}
		for _, i := range h.incidents(t) {
			subjects[i.Subject] = true
		}
		require.Equal(t, map[string]bool{"user_2": true, "user_3": true, "user_4": true, "key_1": true}, subjects)
	})
}

// damagedLog is a log of which a record cannot be read, or which lacks a checkpoint.
type damagedLog struct {
	*audit.Log
	at     int64
	behind int64
}

func (l *damagedLog) Follow(ctx context.Context, after int64, limit int, without ...store.Action) ([]audit.Entry, int64, error) {
	entries, last, err := l.Log.Follow(ctx, after, limit, without...)
	for _, e := range entries {
		if e.Leaf == l.at {
			return nil, after, audit.ErrDamaged
		}
	}
	return entries, last, err
}

func (l *damagedLog) Health() audit.Health { return audit.Health{RolledBack: l.behind} }

// TestAuditVerificationOpensAnIncident: of a record that cannot be read, of a database that was rolled back and of a verification that finds something; and the
// others go on behind the record.
func TestAuditVerificationOpensAnIncident(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *guarded) {
		ctx, sample := t.Context(), samples()[incident.DeniedReveals]
		h.look(t, h.watch(t, ""))
		found, verified := 0, 0
		log := &damagedLog{Log: h.log, at: -1}
		instance := func(setting string) *incident.Detectors {
			rules, err := incident.ParseRules(setting)
			require.NoError(t, err)
			d, err := incident.NewDetectors(incident.DetectorConfig{DB: h.db, Audit: log, Rules: rules, Verify: func(context.Context) (int, error) { verified++; return found, nil }})
			require.NoError(t, err)
			return d
		}
		const setting = "denied_reveals=3/1h,audit_verification=1/1h"
		d := instance(setting)
		h.act(t, sample("user_1", 1))
		require.NoError(t, h.log.Flush(ctx))
		size, err := h.log.Size(ctx)
		require.NoError(t, err)
		log.at = size + 1
		h.act(t, sample("user_1", 1), sample("user_1", 1), sample("user_1", 1))
		require.NoError(t, h.log.Flush(ctx))
		for range 10 {
			require.NoError(t, d.Pass(ctx))
		}
		opened, _ := h.opened(t, incident.AuditVerification)
		require.Equal(t, 1, opened)
		opened, _ = h.opened(t, incident.DeniedReveals)
		require.Equal(t, 1, opened, "three of the four can be read")

		h.wait(2 * time.Hour)
		require.NoError(t, d.VerifyWhenDue(ctx))
		require.Zero(t, verified, "not yet a day")
		log.behind = 17
		require.NoError(t, d.VerifyWhenDue(ctx))
		require.NoError(t, d.VerifyWhenDue(ctx))
		_, repeats := h.opened(t, incident.AuditVerification)
		require.Equal(t, int64(1), repeats, "once in the quiet period")
		log.behind = 0

		h.wait(24 * time.Hour)
		require.NoError(t, instance(setting).VerifyWhenDue(ctx))
		require.NoError(t, d.VerifyWhenDue(ctx))
		require.Equal(t, 1, verified, "by one instance, once a day")
		_, repeats = h.opened(t, incident.AuditVerification)
		require.Equal(t, int64(1), repeats, "it found nothing")
		h.wait(24 * time.Hour)
		found = 2
		require.NoError(t, instance("audit_verification=3/1h").VerifyWhenDue(ctx))
		_, repeats = h.opened(t, incident.AuditVerification)
		require.Equal(t, int64(1), repeats, "below the threshold")
		h.wait(24 * time.Hour)
		require.NoError(t, instance("audit_verification=2/1h").VerifyWhenDue(ctx))
		_, repeats = h.opened(t, incident.AuditVerification)
		require.Equal(t, int64(2), repeats)
	})
}

// TestParseRules: what is said of detectors is what they do, and what cannot be meant is refused.
func TestParseRules(t *testing.T) {
	rules, err := incident.ParseRules(" mass_access = 100/12h, denied_reveals=off,refresh_reuse=2 ")
	require.NoError(t, err)
	for _, r := range rules {
		switch r.Detector {
		case incident.MassAccess:
			require.Equal(t, 100, r.Threshold)
			require.Equal(t, 12*time.Hour, r.Quiet)
		case incident.DeniedReveals:
			require.False(t, r.On)
			continue
		case incident.RefreshReuse:
			require.Equal(t, 2, r.Threshold)
			require.Equal(t, time.Hour, r.Quiet)
		}
		require.True(t, r.On)
	}
	for _, wrong := range []string{"mass", "mass_access", "mass_access=", "mass_access=0", "mass_access=2001", "mass_access=-1", "mass_access=10/1s", "mass_access=10/9000h", "mass_access=on", "mass_access=1,mass_access=2", "=off"} {
		_, err := incident.ParseRules(wrong)
		require.Error(t, err, wrong)
	}
}

// TestCanary: any use of a canary opens an incident and freezes the caller, also in the quiet period; a view, a refused reveal and another credential do not.
func TestCanary(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *guarded) {
		var frozen []string
		instance := func(setting string, canaries ...string) *incident.Detectors {
			rules, err := incident.ParseRules(setting)
			require.NoError(t, err)
			d, err := incident.NewDetectors(incident.DetectorConfig{DB: h.db, Audit: h.log, Rules: rules, Canaries: canaries,
				Freeze: func(_ *store.Tx, c identity.Caller, by store.Actor) ([]store.Target, error) {
					require.Equal(t, identity.System("detectors"), c)
					frozen = append(frozen, by.ID)
					return []store.Target{{Kind: by.Kind, ID: by.ID, Name: "its name"}}, nil
				}})
			require.NoError(t, err)
			return d
		}
		d := instance("", "cred_7")
		h.look(t, d)
		use := func(user string, action store.Action, outcome string, n int) store.Event {
			return store.Event{Actor: actor(user), Action: action, Target: cred(n), Outcome: outcome}
		}
		h.act(t, use("user_1", store.CredentialView, "", 7), use("user_1", store.CredentialRefused, store.OutcomeRefused, 7), use("user_1", store.CredentialReveal, "", 8), use("user_1", store.CredentialTest, "", 7))
		h.look(t, d)
		require.Empty(t, h.incidents(t))
		require.Empty(t, frozen)
		h.act(t, use("user_1", store.CredentialReveal, "", 7))
		h.look(t, d, instance("", "cred_7"))
		list := h.incidents(t)
		require.Len(t, list, 1)
		require.Equal(t, incident.Critical, list[0].Severity)
		require.Contains(t, list[0].Description, "its name")
		require.Equal(t, []string{"user_1"}, frozen)
		h.act(t, use("user_1", store.LeaseGranted, store.OutcomePending, 7), use("user_2", store.CredentialTest, store.OutcomePending, 7))
		h.look(t, instance("", "cred_7"))
		require.Equal(t, []string{"user_1", "user_1", "user_2"}, frozen, "in the quiet period as well")
		require.Len(t, h.incidents(t), 2)
		h.act(t, use("user_3", store.CredentialReveal, "", 7))
		h.look(t, instance("canary=off", "cred_7"), instance(""))
		require.Len(t, frozen, 3)
		require.Len(t, h.incidents(t), 2)
	})
}
