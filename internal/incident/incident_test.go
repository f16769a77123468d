package incident_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

const planted = "planted-sensitive-text-4711"

func newRoom(t *testing.T, db *store.DB) *incident.Room {
	t.Helper()
	return newHouse(t, db).Room
}

func somebody(role identity.Role) identity.Caller {
	return identity.Caller{Kind: identity.KindPerson, ID: "user_1", Name: "Ada", UserID: "user_1", Role: role}
}

func refused(t *testing.T, err error, code string) *fault.Error {
	t.Helper()
	f, ok := fault.As(err)
	require.True(t, ok, "%v is no fault", err)
	require.Equal(t, code, f.Code, f.Detail)
	return f
}

func to[T any](v T) *T { return &v }

// records returns the bodies of the acts that are on record, the oldest first.
func records(t *testing.T, db *store.DB) []string {
	t.Helper()
	var out []string
	require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Select(&out, `SELECT body FROM audit_events ORDER BY id`)
	}))
	return out
}

// TestWorkflow: every move from every status, by the table, and what each leaves behind.
func TestWorkflow(t *testing.T) {
	legal := map[string]bool{
		"investigating contained": true, "investigating monitoring": true,
		"contained investigating": true, "contained monitoring": true, "contained resolved": true,
		"monitoring investigating": true, "monitoring contained": true, "monitoring resolved": true,
	}
	path := map[incident.Status][]incident.Status{
		incident.Investigating: nil, incident.Contained: {incident.Contained}, incident.Monitoring: {incident.Monitoring}, incident.Resolved: {incident.Contained, incident.Resolved},
	}
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r, ctx, who := newRoom(t, db), t.Context(), somebody(identity.Operator)
		for _, from := range incident.Statuses() {
			for _, next := range incident.Statuses() {
				t.Run(string(from)+" "+string(next), func(t *testing.T) {
					i, err := r.Open(ctx, who, incident.Draft{Meta: incident.Meta{Title: "x"}})
					require.NoError(t, err)
					for _, s := range path[from] {
						i, err = r.Update(ctx, who, i.ID, incident.Patch{Status: &s}, "")
						require.NoError(t, err)
					}
					require.Equal(t, from, i.Status)
					n := len(records(t, db))
					got, err := r.Update(ctx, who, i.ID, incident.Patch{Status: to(next), Note: planted}, "")
					entries, _, terr := r.Timeline(ctx, who, i.ID, 0, "")
					require.NoError(t, terr)
					last := entries[len(entries)-1]
					switch {
					case legal[string(from)+" "+string(next)]:
						require.NoError(t, err)
						require.Equal(t, next, got.Status)
						require.Equal(t, next == incident.Resolved, got.ResolvedAt != nil)
						require.Equal(t, incident.Moved, last.Kind)
						require.Equal(t, planted, last.Text)
						body := records(t, db)[n]
						require.Contains(t, body, `"action":"incident.advance"`)
						require.Contains(t, body, `"details":{"from":"`+string(from)+`","to":"`+string(next)+`"}`)
						require.NotContains(t, body, planted)
					case from == next: // no move, but a note
						require.NoError(t, err)
						require.Equal(t, i.Revision, got.Revision)
						require.Equal(t, incident.Note, last.Kind)
					default:
						f := refused(t, err, "state_conflict")
						require.Equal(t, fault.Conflict, f.Kind)
						require.Len(t, records(t, db), n)
						got, err = r.Get(ctx, who, i.ID)
						require.NoError(t, err)
						require.Equal(t, i, got)
					}
				})
			}
		}
		counts, err := r.Counts(ctx, who)
		require.NoError(t, err)
		total := 0
		for _, n := range counts {
			total += n
		}
		require.Equal(t, 16, total)
	})
}

// TestRoles: who may do what to incidents, for every role, nobody and a client key; a refusal is on record and changes nothing.
func TestRoles(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r, ctx := newRoom(t, db), t.Context()
		i, err := r.Open(ctx, somebody(identity.Administrator), incident.Draft{Meta: incident.Meta{Title: "x"}})
		require.NoError(t, err)
		acts := map[string]func(identity.Caller) error{
			"read":     func(c identity.Caller) error { _, err := r.Get(ctx, c, i.ID); return err },
			"list":     func(c identity.Caller) error { _, _, err := r.List(ctx, c, incident.Filter{}); return err },
			"timeline": func(c identity.Caller) error { _, _, err := r.Timeline(ctx, c, i.ID, 0, ""); return err },
			"counts":   func(c identity.Caller) error { _, err := r.Counts(ctx, c); return err },
			"open": func(c identity.Caller) error {
				_, err := r.Open(ctx, c, incident.Draft{Meta: incident.Meta{Title: "y"}})
				return err
			},
			"change": func(c identity.Caller) error {
				_, err := r.Update(ctx, c, i.ID, incident.Patch{Findings: to("f")}, "")
				return err
			},
			"note": func(c identity.Caller) error { _, err := r.AddNote(ctx, c, i.ID, "n"); return err },
			"delete": func(c identity.Caller) error {
				d, err := r.Open(ctx, somebody(identity.Administrator), incident.Draft{Meta: incident.Meta{Title: "z"}})
				require.NoError(t, err)
				return r.Delete(ctx, c, d.ID, "")
			},
		}
		reads := []string{"read", "list", "timeline", "counts"}
		may := map[identity.Role][]string{
			identity.Administrator: append(slices.Clone(reads), "open", "change", "note", "delete"),
			identity.Operator:      append(slices.Clone(reads), "open", "change", "note"),
			identity.Auditor:       reads,
			identity.Member:        nil,
			"wizard":               nil,
		}
		for role, allowed := range may {
			for name, act := range acts {
				before := len(records(t, db))
				err := act(somebody(role))
				if slices.Contains(allowed, name) {
					require.NoError(t, err, "%s %s", role, name)
					continue
				}
				refused(t, err, "forbidden")
				after := records(t, db)
				require.Greater(t, len(after), before, "%s %s is not on record", role, name)
				require.Contains(t, after[len(after)-1], `"action":"incident.refused"`)
			}
		}
		for _, c := range []identity.Caller{{}, {Kind: identity.KindClientKey, ID: "key_1", TrainID: "train_1"}} {
			for name, act := range acts {
				require.Error(t, act(c), name)
			}
		}
	})
}

// TestIncidentIsKept: what is stored comes back, what is wrong is told by its place, links outlive what they name, and nothing that somebody wrote but the
// title is in a record.
func TestIncidentIsKept(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r, ctx, who := newRoom(t, db), t.Context(), somebody(identity.Administrator)
		storetest.Homes(t, db, "client_1", "service_1", "infra_1")
		when := time.Now().Add(-48 * time.Hour).UTC().Truncate(time.Microsecond)
		i, err := r.Open(ctx, who, incident.Draft{
			Meta:  incident.Meta{Title: "Stolen laptop", Type: incident.DataBreach, Severity: incident.High, Description: planted, Findings: planted, Remediation: planted, IncidentDate: when},
			Touch: incident.Touch{ClientID: "client_1", ServiceID: "service_1", InfrastructureID: "infra_1"},
		})
		require.NoError(t, err)
		got, err := r.Get(ctx, who, i.ID)
		require.NoError(t, err)
		require.Equal(t, i, got)
		require.Equal(t, when, got.IncidentDate)
		require.Equal(t, []string{"client_1"}, got.Linked(incident.OfClient))

		require.NoError(t, db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM infrastructure WHERE id = 'infra_1'`)
			return err
		}))
		got, err = r.Update(ctx, who, i.ID, incident.Patch{InfrastructureID: to("infra_1"), ServiceID: to(""), Severity: to(incident.Critical)}, i.ETag())
		require.NoError(t, err, "what is linked may stay when it is gone")
		require.Empty(t, got.Linked(incident.OfService))
		require.Equal(t, []string{"infra_1"}, got.Linked(incident.OfInfrastructure))
		_, err = r.Update(ctx, who, i.ID, incident.Patch{Severity: to(incident.Low)}, i.ETag())
		refused(t, err, "etag_mismatch")
		got2, err := r.Update(ctx, who, i.ID, incident.Patch{}, "")
		require.NoError(t, err)
		require.Equal(t, got, got2)

		for pointer, p := range map[string]incident.Patch{
			"/title": {Title: to("")}, "/severity": {Severity: to(incident.Severity("worse"))}, "/incident_type": {Type: to(incident.Type("oops"))}, "/status": {Status: to(incident.Status("done"))},
			"/incident_date": {IncidentDate: to(time.Now().Add(time.Hour))}, "/description": {Description: to(strings.Repeat("x", 20001))}, "/note": {Note: strings.Repeat("x", 4001)},
			"/client_id": {ClientID: to("nobody")}, "/credential_ids/1": {Credentials: to([]string{"client_1", "cred_x"})}, "/train_ids/0": {Trains: to([]string{""})},
			"/resolved_at": {ResolvedAt: to(time.Now())}, "/findings": {Findings: to("\x00")}, "/key_ids": {ClientKeys: to(slices.Repeat([]string{"k"}, 101))},
		} {
			_, err := r.Update(ctx, who, i.ID, p, "")
			f := refused(t, err, "validation_failed")
			require.True(t, slices.ContainsFunc(f.Fields, func(x fault.Field) bool { return x.Pointer == pointer }), "%s: %v", pointer, f.Fields)
		}
		_, err = r.Update(ctx, who, i.ID, incident.Patch{Status: to(incident.Contained)}, "")
		require.NoError(t, err)
		_, err = r.Update(ctx, who, i.ID, incident.Patch{Status: to(incident.Resolved), ResolvedAt: to(when.Add(-time.Hour))}, "")
		refused(t, err, "validation_failed")
		over := when.Add(time.Hour)
		got, err = r.Update(ctx, who, i.ID, incident.Patch{Status: to(incident.Resolved), ResolvedAt: &over}, "")
		require.NoError(t, err)
		require.Equal(t, over, *got.ResolvedAt)
		_, err = r.AddNote(ctx, who, i.ID, planted+"\nmore")
		require.NoError(t, err)
		_, err = r.AddNote(ctx, who, "inc_nothing", "x")
		refused(t, err, "not_found")

		for _, body := range records(t, db) {
			require.NotContains(t, body, planted)
		}
		var actions []string
		require.NoError(t, db.Read(ctx, func(tx *store.Tx) error {
			return tx.Select(&actions, `SELECT action FROM audit_events WHERE target_id = $1 ORDER BY id`, i.ID)
		}))
		require.Equal(t, []string{"incident.open", "incident.update", "incident.update", "incident.advance", "incident.advance", "incident.note"}, actions)
		require.NoError(t, r.Delete(ctx, who, i.ID, got.ETag()))
		_, err = r.Get(ctx, who, i.ID)
		refused(t, err, "not_found")
		_, _, err = r.Timeline(ctx, who, i.ID, 0, "")
		refused(t, err, "not_found")
	})
}

// TestListsOfIncidents: filters, pages and their cursors.
func TestListsOfIncidents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r, ctx, who := newRoom(t, db), t.Context(), somebody(identity.Administrator)
		storetest.Homes(t, db, "client_1", "", "")
		var ids []string
		for n := range 7 {
			d := incident.Draft{Meta: incident.Meta{Title: fmt.Sprint("Ünlucky ", n)}}
			if n%2 == 1 {
				d.ClientID, d.Severity, d.Type = "client_1", incident.Low, incident.Phishing
			}
			i, err := r.Open(ctx, who, d)
			require.NoError(t, err)
			ids = append([]string{i.ID}, ids...)
		}
		_, err := r.Update(ctx, who, ids[0], incident.Patch{Status: to(incident.Contained)}, "")
		require.NoError(t, err)
		_, err = r.Update(ctx, who, ids[0], incident.Patch{Status: to(incident.Resolved)}, "")
		require.NoError(t, err)
		list := func(f incident.Filter) (out []string, next string) {
			t.Helper()
			items, next, err := r.List(ctx, who, f)
			require.NoError(t, err)
			for _, i := range items {
				out = append(out, i.ID)
			}
			return out, next
		}
		all, next := list(incident.Filter{})
		require.Equal(t, ids, all)
		require.Empty(t, next)
		odd := []string{ids[1], ids[3], ids[5]}
		for _, f := range []incident.Filter{{Severity: incident.Low}, {Type: incident.Phishing}, {Touches: incident.OfClient, TouchesID: "client_1"}} {
			got, _ := list(f)
			require.Equal(t, odd, got)
		}
		got, _ := list(incident.Filter{Open: true})
		require.Equal(t, ids[1:], got)
		got, _ = list(incident.Filter{Status: incident.Resolved})
		require.Equal(t, ids[:1], got)
		got, _ = list(incident.Filter{Q: "ünLUCKY 3"})
		require.Equal(t, ids[3:4], got)
		page, next := list(incident.Filter{Limit: 3})
		require.Equal(t, ids[:3], page)
		page, next = list(incident.Filter{Limit: 3, Cursor: next})
		require.Equal(t, ids[3:6], page)
		page, next = list(incident.Filter{Limit: 3, Cursor: next})
		require.Equal(t, ids[6:], page)
		require.Empty(t, next)
		for _, f := range []incident.Filter{{Cursor: "x"}, {Limit: -1}, {Skip: -1}, {Status: "x"}, {Type: "x"}, {Severity: "x"}, {TouchesID: "x"}, {Q: "\x00"}} {
			_, _, err := r.List(ctx, who, f)
			refused(t, err, "validation_failed")
		}
		for n := range 5 {
			_, err := r.AddNote(ctx, who, ids[1], fmt.Sprint(n))
			require.NoError(t, err)
		}
		entries, next, err := r.Timeline(ctx, who, ids[1], 4, "")
		require.NoError(t, err)
		require.Len(t, entries, 4)
		entries, next, err = r.Timeline(ctx, who, ids[1], 4, next)
		require.NoError(t, err)
		require.Len(t, entries, 2)
		require.Empty(t, next)
		require.Equal(t, "4", entries[1].Text)
	})
}

// TestOneOpenIncidentOfADetector: many that report at once open one; once it is resolved, the next report opens another.
func TestOneOpenIncidentOfADetector(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r, ctx := newRoom(t, db), t.Context()
		who, d := identity.System("detectors"), incident.Draft{Meta: incident.Meta{Title: "Canary used", Type: incident.CredentialLeak, Severity: incident.Critical}}
		round := func() (string, int) {
			var mu sync.Mutex
			var wg sync.WaitGroup
			ids, opened := map[string]bool{}, 0
			var failures []error
			for range 8 {
				wg.Go(func() {
					i, first, err := r.Report(ctx, who, "canary", "key_1", d)
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						failures = append(failures, err)
					}
					ids[i.ID] = true
					if first {
						opened++
					}
				})
			}
			wg.Wait()
			require.NoError(t, errors.Join(failures...))
			require.Len(t, ids, 1)
			for id := range ids {
				return id, opened
			}
			return "", 0
		}
		first, opened := round()
		require.Equal(t, 1, opened)
		i, err := r.Get(ctx, somebody(identity.Auditor), first)
		require.NoError(t, err)
		require.Equal(t, int64(7), i.Repeats)
		require.NotNil(t, i.LastSeenAt)
		require.Equal(t, "canary", i.Detector)
		require.Equal(t, "key_1", i.Subject)
		other, opened2, err := r.Report(ctx, who, "canary", "key_2", d)
		require.NoError(t, err)
		require.True(t, opened2)
		require.NotEqual(t, first, other.ID)
		for _, s := range []incident.Status{incident.Monitoring, incident.Resolved} {
			_, err = r.Update(ctx, somebody(identity.Operator), first, incident.Patch{Status: &s}, "")
			require.NoError(t, err)
		}
		again, opened := round()
		require.Equal(t, 1, opened)
		require.NotEqual(t, first, again)
		_, _, err = r.Report(ctx, who, "two words", "x", d)
		require.Error(t, err)
	})
}
