package vault_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

func kinds() []vault.HomeKind {
	return []vault.HomeKind{vault.HomeClient, vault.HomeService, vault.HomeInfrastructure}
}

func (f *fixture) home(t *testing.T, kind vault.HomeKind, m vault.HomeMeta) vault.Home {
	t.Helper()
	h, err := f.CreateHome(t.Context(), admin, kind, m)
	require.NoError(t, err)
	return h
}

// acts are the recorded actions on homes of a kind, in order.
func (f *fixture) acts(t *testing.T, kind vault.HomeKind) (out []store.Event) {
	t.Helper()
	var bodies [][]byte
	require.NoError(t, f.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Select(&bodies, `SELECT body FROM audit_events ORDER BY at, id`) }))
	for _, b := range bodies {
		ev, err := store.DecodeEvent(b)
		require.NoError(t, err)
		if ev.Target.Kind == string(kind) {
			out = append(out, ev)
		}
	}
	return out
}

// TestHomesAreKept: each kind is stored, read, listed, changed and deleted, on record, and what is wrong is said.
func TestHomesAreKept(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			each(t, func(t *testing.T, f *fixture) {
				full := map[vault.HomeKind]vault.HomeMeta{
					vault.HomeClient:         {Name: "Münze & Söhne", Description: "two\nlines", Contact: "it@münze.example"},
					vault.HomeService:        {Name: "Münze Billing", Description: "x", ClientID: "acme", URL: "https://billing.example.com/münze"},
					vault.HomeInfrastructure: {Name: "db-1", Description: "x", ClientID: "acme", Sort: "device", Address: "10.0.0.0/8 münze"},
				}[kind]
				h := f.home(t, kind, full)
				require.Equal(t, full, h.HomeMeta)
				got, err := f.GetHome(t.Context(), auditor, kind, h.ID)
				require.NoError(t, err)
				require.Equal(t, h.HomeMeta, got.HomeMeta)
				require.Equal(t, h.ETag(), got.ETag())
				require.WithinDuration(t, h.CreatedAt, got.CreatedAt, 0)

				for _, q := range []string{"", "MÜNZE", "münze  " + full.Name} {
					items, next, err := f.ListHomes(t.Context(), reader, kind, vault.HomeFilter{Q: q})
					require.NoError(t, err)
					require.Empty(t, next)
					require.True(t, slices.ContainsFunc(items, func(x vault.Home) bool { return x.ID == h.ID }), q)
				}
				items, _, err := f.ListHomes(t.Context(), reader, kind, vault.HomeFilter{Q: "münze acme"})
				require.NoError(t, err)
				require.Empty(t, items, "ids are not searched")

				_, err = f.UpdateHome(t.Context(), admin, kind, h.ID, vault.HomePatch{Name: vault.To("x")}, `"7"`)
				requireCode(t, err, "etag_mismatch")
				changed, err := f.UpdateHome(t.Context(), admin, kind, h.ID, vault.HomePatch{Name: vault.To("renamed"), Description: vault.Clear[string]()}, h.ETag())
				require.NoError(t, err)
				require.NotEqual(t, h.ETag(), changed.ETag())
				require.Equal(t, "renamed", changed.Name)
				require.Empty(t, changed.Description)
				require.Equal(t, full.ClientID, changed.ClientID)
				if kind != vault.HomeClient {
					moved, err := f.UpdateHome(t.Context(), admin, kind, h.ID, vault.HomePatch{ClientID: vault.To("client_7")}, "")
					require.NoError(t, err)
					require.Equal(t, "client_7", moved.ClientID)
					_, err = f.UpdateHome(t.Context(), admin, kind, h.ID, vault.HomePatch{ClientID: vault.To("nobody")}, "")
					require.Equal(t, []string{"/client_id"}, pointers(requireCode(t, err, "validation_failed")))
					_, err = f.CreateHome(t.Context(), admin, kind, vault.HomeMeta{Name: "y", ClientID: "nobody"})
					require.Equal(t, []string{"/client_id"}, pointers(requireCode(t, err, "validation_failed")))
					cleared, err := f.UpdateHome(t.Context(), admin, kind, h.ID, vault.HomePatch{ClientID: vault.To("")}, "")
					require.NoError(t, err)
					require.Empty(t, cleared.ClientID)
				}
				_, err = f.CreateHome(t.Context(), admin, kind, vault.HomeMeta{Name: "renamed"})
				require.Equal(t, []string{"/name"}, pointers(requireCode(t, err, "already_exists")))
				other := f.home(t, kind, vault.HomeMeta{Name: "other"})
				_, err = f.UpdateHome(t.Context(), admin, kind, other.ID, vault.HomePatch{Name: vault.To("renamed")}, "")
				require.Equal(t, []string{"/name"}, pointers(requireCode(t, err, "already_exists")))
				for name, m := range map[string]vault.HomeMeta{
					"/name": {}, "/description": {Name: "z", Description: strings.Repeat("ü", 2001)}, "/url": {Name: "z", URL: "javascript:x"}, "/kind": {Name: "z", Sort: "cloud"},
					"/contact": {Name: "z", Contact: strings.Repeat("x", 501)}, "/address": {Name: "z", Address: "a\nb"},
				} {
					_, err := f.CreateHome(t.Context(), admin, kind, m)
					require.Contains(t, pointers(requireCode(t, err, "validation_failed")), name)
				}

				requireCode(t, f.DeleteHome(t.Context(), admin, kind, h.ID, `"1-0"`), "etag_mismatch")
				require.NoError(t, f.DeleteHome(t.Context(), admin, kind, h.ID, ""))
				for _, gone := range []string{h.ID, "", store.NewID("client"), "a\x00b", strings.Repeat("x", 101), "\xff"} {
					_, err = f.GetHome(t.Context(), admin, kind, gone)
					requireCode(t, err, "not_found")
					_, err = f.UpdateHome(t.Context(), admin, kind, gone, vault.HomePatch{Name: vault.To("x")}, "")
					requireCode(t, err, "not_found")
					requireCode(t, f.DeleteHome(t.Context(), admin, kind, gone, ""), "not_found")
				}
				var actions []string
				for _, ev := range f.acts(t, kind) {
					actions = append(actions, string(ev.Action)+" "+ev.Target.Name)
				}
				word := string(kind)
				want := []string{word + ".create " + full.Name, word + ".update renamed"}
				if kind != vault.HomeClient {
					want = append(want, word+".update renamed", word+".update renamed")
				}
				require.Equal(t, append(want, word+".create other", word+".delete renamed"), actions)
			})
		})
	}
}

// TestPagesOfHomes: every page follows the one before, whatever the ids look like, and a cursor of something else is refused.
func TestPagesOfHomes(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		storetest.Homes(t, f.db, "zz / top", "", "")
		for i := range 11 {
			f.home(t, vault.HomeClient, vault.HomeMeta{Name: fmt.Sprint("number ", i)})
		}
		all, _, err := f.ListHomes(t.Context(), admin, vault.HomeClient, vault.HomeFilter{})
		require.NoError(t, err)
		require.Len(t, all, 15)
		var paged []vault.Home
		for cursor := ""; ; {
			page, next, err := f.ListHomes(t.Context(), admin, vault.HomeClient, vault.HomeFilter{Limit: 4, Cursor: cursor})
			require.NoError(t, err)
			paged = append(paged, page...)
			if cursor = next; next == "" {
				break
			}
		}
		require.Equal(t, all, paged)
		skipped, _, err := f.ListHomes(t.Context(), admin, vault.HomeClient, vault.HomeFilter{Skip: 13})
		require.NoError(t, err)
		require.Equal(t, all[13:], skipped)
		for _, bad := range []vault.HomeFilter{{Cursor: "x y"}, {Cursor: "AAAA"}, {Limit: 1001}, {Limit: -1}, {Skip: -1}, {Q: strings.Repeat("x", 201)}, {Sort: "host"}, {ClientID: "\xff"}} {
			_, _, err := f.ListHomes(t.Context(), admin, vault.HomeClient, bad)
			requireCode(t, err, "validation_failed")
		}
	})
}

// TestCredentialsNameWhatThereIs: a credential belongs to a home that exists, or is refused with a pointer at what does not; what it belonged to
// before there were homes stays.
func TestCredentialsNameWhatThereIs(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		d := apiKey("team")
		d.ClientID, d.ServiceID, d.InfrastructureID = "nobody", "nothing", "nowhere"
		_, err := f.Create(t.Context(), admin, d)
		require.Equal(t, []string{"/client_id", "/service_id", "/infrastructure_id"}, pointers(requireCode(t, err, "validation_failed")))
		require.Zero(t, f.count(t, `SELECT COUNT(*) FROM credentials`))
		d.ClientID, d.ServiceID, d.InfrastructureID = "acme", "billing", "inf_1"
		c := f.create(t, d)
		for pointer, p := range map[string]vault.Patch{"/client_id": {ClientID: vault.To("billing")}, "/service_id": {ServiceID: vault.To("acme")}, "/infrastructure_id": {InfrastructureID: vault.To("acme")}} {
			_, err := f.Update(t.Context(), admin, c.ID, p, "")
			require.Equal(t, []string{pointer}, pointers(requireCode(t, err, "validation_failed")))
		}
		got, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, d.Meta.ClientID+d.Meta.ServiceID+d.Meta.InfrastructureID, got.ClientID+got.ServiceID+got.InfrastructureID)
		require.Equal(t, int64(1), got.Revision, "a refused change changed something")
		require.False(t, got.Tampered)

		// As an older instance beside this one leaves it behind: it can be changed otherwise, and be put elsewhere.
		f.exec(t, `DELETE FROM infrastructure WHERE id = 'inf_1'`)
		_, err = f.Update(t.Context(), admin, c.ID, vault.Patch{Description: vault.To("x")}, "")
		require.NoError(t, err)
		_, err = f.Update(t.Context(), admin, c.ID, vault.Patch{InfrastructureID: vault.To("")}, "")
		require.NoError(t, err)
		_, err = f.Update(t.Context(), admin, c.ID, vault.Patch{InfrastructureID: vault.To("inf_1")}, "")
		requireCode(t, err, "validation_failed")

		// Grants stand on what exists.
		requireCode(t, f.set(t, admin, vault.Scope{Kind: vault.OnClient, ID: "nobody"}), "not_found")
		_, err = f.Grants(t.Context(), admin, vault.Scope{Kind: vault.OnService, ID: "nothing"})
		requireCode(t, err, "not_found")
	})
}

// TestDeletingSaysWhatBelongs: what still has something is not deleted, and how much and the first names are said.
func TestDeletingSaysWhatBelongs(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		client := f.home(t, vault.HomeClient, vault.HomeMeta{Name: "Acme"})
		service := f.home(t, vault.HomeService, vault.HomeMeta{Name: "Billing", ClientID: client.ID})
		host := f.home(t, vault.HomeInfrastructure, vault.HomeMeta{Name: "db", ClientID: client.ID})
		var ids []string
		for i := range 7 {
			d := apiKey(fmt.Sprintf("key %d", i))
			d.ClientID, d.ServiceID, d.InfrastructureID = client.ID, service.ID, host.ID
			ids = append(ids, f.create(t, d).ID)
		}
		who := f.somebody(t)
		require.NoError(t, f.set(t, admin, vault.Scope{Kind: vault.OnClient, ID: client.ID}, to(who, "use")))

		err := f.DeleteHome(t.Context(), admin, vault.HomeClient, client.ID, "")
		no := requireCode(t, err, "in_use")
		require.Equal(t, fault.Conflict, no.Kind)
		require.Contains(t, no.Detail, "7 credentials and 1 service and 1 piece of infrastructure")
		require.Equal(t, []fault.Field{{Pointer: "credentials", Message: "belong to it: key 0, key 1, key 2, key 3, key 4 and 2 more"}, {Pointer: "services", Message: "belong to it: Billing"},
			{Pointer: "infrastructure", Message: "belong to it: db"}}, no.Fields)
		left, err := f.Dependents(t.Context(), auditor, vault.HomeService, service.ID)
		require.NoError(t, err)
		require.Equal(t, []vault.Dependent{{Kind: "credentials", Count: 7, First: []string{"key 0", "key 1", "key 2", "key 3", "key 4"}}}, left)
		_, err = f.Dependents(t.Context(), who, vault.HomeService, service.ID)
		requireCode(t, err, "forbidden")
		for _, id := range ids {
			require.NoError(t, f.Delete(t.Context(), admin, id, ""))
		}
		requireCode(t, f.DeleteHome(t.Context(), admin, vault.HomeClient, client.ID, ""), "in_use")
		require.NoError(t, f.DeleteHome(t.Context(), admin, vault.HomeInfrastructure, host.ID, ""))
		require.NoError(t, f.DeleteHome(t.Context(), admin, vault.HomeService, service.ID, ""))
		require.NoError(t, f.DeleteHome(t.Context(), admin, vault.HomeClient, client.ID, ""))
		require.Zero(t, f.count(t, `SELECT COUNT(*) FROM grants WHERE scope = 'client'`), "the grants went with the client")
		acts := f.acts(t, vault.HomeClient)
		grants, _ := acts[len(acts)-1].Details.Get("grants")
		require.Equal(t, "1", grants.Text())
	})
}

// TestNothingIsPutWhereItIsDeleted: of two at once, who deletes a home and who puts something there, one is refused.
func TestNothingIsPutWhereItIsDeleted(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			each(t, func(t *testing.T, f *fixture) {
				loose := f.create(t, apiKey("loose"))
				for i := range 12 {
					h := f.home(t, kind, vault.HomeMeta{Name: fmt.Sprint("h", i)})
					d := apiKey(fmt.Sprint("key ", i))
					p := vault.Patch{}
					switch kind {
					case vault.HomeClient:
						d.ClientID, p.ClientID = h.ID, vault.To(h.ID)
					case vault.HomeService:
						d.ServiceID, p.ServiceID = h.ID, vault.To(h.ID)
					default:
						d.InfrastructureID, p.InfrastructureID = h.ID, vault.To(h.ID)
					}
					var put, gone error
					var both sync.WaitGroup
					begin := make(chan struct{})
					both.Go(func() { <-begin; gone = f.DeleteHome(t.Context(), admin, kind, h.ID, "") })
					both.Go(func() {
						<-begin
						switch i % 3 {
						case 0:
							_, put = f.Create(t.Context(), admin, d)
						case 1:
							_, put = f.Update(t.Context(), admin, loose.ID, p, "")
						default:
							if kind == vault.HomeClient {
								_, put = f.CreateHome(t.Context(), admin, vault.HomeService, vault.HomeMeta{Name: "s", ClientID: h.ID})
							} else {
								_, put = f.Create(t.Context(), admin, d)
							}
						}
					})
					close(begin)
					both.Wait()
					if put == nil {
						requireCode(t, gone, "in_use")
					} else {
						requireCode(t, put, "validation_failed")
						require.NoError(t, gone)
					}
				}
			})
		})
	}
}

// TestHomesOfAMember: whoever reaches only what they own and were granted sees what their credentials name, and nothing tells them of more.
func TestHomesOfAMember(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		who, other := f.somebody(t), f.somebody(t)
		hidden := f.home(t, vault.HomeClient, vault.HomeMeta{Name: "Hidden GmbH"})
		mine := f.home(t, vault.HomeClient, vault.HomeMeta{Name: "Mine"})
		granted := f.home(t, vault.HomeClient, vault.HomeMeta{Name: "Granted"})
		service := f.home(t, vault.HomeService, vault.HomeMeta{Name: "Shown", ClientID: hidden.ID})
		hiddenService := f.home(t, vault.HomeService, vault.HomeMeta{Name: "Hidden service", ClientID: mine.ID})
		host := f.home(t, vault.HomeInfrastructure, vault.HomeMeta{Name: "db", ClientID: mine.ID})
		hiddenHost := f.home(t, vault.HomeInfrastructure, vault.HomeMeta{Name: "Hidden host", ClientID: mine.ID})
		d := apiKey("one")
		d.ClientID, d.ServiceID, d.InfrastructureID = mine.ID, service.ID, host.ID
		one := f.create(t, d)
		d = apiKey("two")
		d.ClientID, d.ServiceID, d.InfrastructureID = hidden.ID, hiddenService.ID, hiddenHost.ID
		f.create(t, d)
		require.NoError(t, f.set(t, admin, on(one.ID), to(who, "use")))
		require.NoError(t, f.set(t, admin, vault.Scope{Kind: vault.OnClient, ID: granted.ID}, to(who, "reveal")))

		names := func(by identity.Caller, kind vault.HomeKind, filter vault.HomeFilter) (out []string) {
			items, _, err := f.ListHomes(t.Context(), by, kind, filter)
			require.NoError(t, err)
			for _, h := range items {
				out = append(out, h.Name+"/"+h.ClientID)
			}
			return out
		}
		require.Equal(t, []string{"Mine/", "Granted/"}, names(who, vault.HomeClient, vault.HomeFilter{}))
		require.Equal(t, []string{"Shown/"}, names(who, vault.HomeService, vault.HomeFilter{}), "whose it is stays hidden")
		require.Equal(t, []string{"db/" + mine.ID}, names(who, vault.HomeInfrastructure, vault.HomeFilter{}))
		require.Empty(t, names(who, vault.HomeClient, vault.HomeFilter{Q: "hidden"}))
		require.Empty(t, names(who, vault.HomeService, vault.HomeFilter{ClientID: hidden.ID}), "a filter is no oracle either")
		require.Equal(t, []string{"db/" + mine.ID}, names(who, vault.HomeInfrastructure, vault.HomeFilter{ClientID: mine.ID}))
		for _, kind := range kinds() {
			require.Empty(t, names(other, kind, vault.HomeFilter{}))
		}
		require.Equal(t, []string{"Shown/" + hidden.ID}, names(auditor, vault.HomeService, vault.HomeFilter{ClientID: hidden.ID}))

		for _, h := range []vault.Home{hidden, hiddenService, hiddenHost} {
			_, err := f.GetHome(t.Context(), who, h.Kind, h.ID)
			there := requireCode(t, err, "not_found")
			_, err = f.GetHome(t.Context(), who, h.Kind, store.NewID("client"))
			require.Equal(t, there.Detail, requireCode(t, err, "not_found").Detail)
			_, err = f.UpdateHome(t.Context(), who, h.Kind, h.ID, vault.HomePatch{Name: vault.To("x")}, "")
			requireCode(t, err, "not_found")
			requireCode(t, f.DeleteHome(t.Context(), who, h.Kind, h.ID, ""), "not_found")
			acts := f.acts(t, h.Kind)
			require.Equal(t, store.CredentialRefused, acts[len(acts)-1].Action)
			require.Empty(t, acts[len(acts)-1].Target.ID, "what they did not reach is not named")
		}
		for _, h := range []vault.Home{mine, granted, service, host} {
			_, err := f.GetHome(t.Context(), who, h.Kind, h.ID)
			require.NoError(t, err)
			_, err = f.UpdateHome(t.Context(), who, h.Kind, h.ID, vault.HomePatch{Name: vault.To("x")}, "")
			requireCode(t, err, "forbidden")
			requireCode(t, f.DeleteHome(t.Context(), who, h.Kind, h.ID, ""), "forbidden")
			acts := f.acts(t, h.Kind)
			require.Equal(t, h.ID, acts[len(acts)-1].Target.ID)
		}
		for _, kind := range kinds() {
			_, err := f.CreateHome(t.Context(), who, kind, vault.HomeMeta{Name: "n"})
			requireCode(t, err, "forbidden")
			_, err = f.CreateHome(t.Context(), auditor, kind, vault.HomeMeta{Name: "n"})
			requireCode(t, err, "forbidden")
			_, err = f.CreateHome(t.Context(), reader, kind, vault.HomeMeta{Name: "n"})
			requireCode(t, err, "scope_missing")
			_, err = f.CreateHome(t.Context(), nobody, kind, vault.HomeMeta{Name: "n"})
			requireCode(t, err, "unauthenticated")
			_, _, err = f.ListHomes(t.Context(), agent, kind, vault.HomeFilter{})
			requireCode(t, err, "forbidden")
			_, err = f.GetHome(t.Context(), stranger, kind, "acme")
			requireCode(t, err, "forbidden")
		}

		// What they store they put where they see something; of the rest they learn nothing.
		d = password("theirs")
		d.ClientID, d.InfrastructureID = "", host.ID
		_, err := f.Create(t.Context(), who, d)
		require.NoError(t, err)
		var said []string
		for _, id := range []string{hiddenHost.ID, store.NewID("infra")} {
			d.InfrastructureID = id
			_, err = f.Create(t.Context(), who, d)
			no := requireCode(t, err, "validation_failed")
			said = append(said, fmt.Sprint(no.Detail, no.Fields))
		}
		require.Equal(t, said[0], said[1])
		for _, id := range []string{hidden.ID, mine.ID, store.NewID("client")} {
			d.ClientID, d.InfrastructureID = id, ""
			_, err = f.Create(t.Context(), who, d)
			requireCode(t, err, "forbidden")
		}
		require.NoError(t, f.set(t, admin, vault.Scope{Kind: vault.OnClient, ID: granted.ID}, to(who, "manage")))
		d.ClientID = granted.ID
		_, err = f.Create(t.Context(), who, d)
		require.NoError(t, err)
	})
}

// TestMigrationKeepsWhatWasNamed: texts that credentials and grants named before there were homes become homes with that id and name. The MACs
// fit, and the grants hold.
func TestMigrationKeepsWhatWasNamed(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		who := f.somebody(t)
		const odd = "Münze & Söhne / 'Hof' %_"
		storetest.Homes(t, f.db, odd, odd, odd)
		d := password("old")
		d.ClientID, d.ServiceID, d.InfrastructureID = odd, odd, odd
		c := f.create(t, d)
		d = password("older")
		d.ClientID, d.ServiceID, d.InfrastructureID = odd, "", ""
		f.create(t, d)
		storetest.Homes(t, f.db, "granted", "only granted", "")
		require.NoError(t, f.set(t, admin, vault.Scope{Kind: vault.OnClient, ID: odd}, to(who, "reveal")))
		require.NoError(t, f.set(t, admin, vault.Scope{Kind: vault.OnService, ID: "only granted"}, to(who, "use")))
		texts, err := store.Schema(f.db.Engine())
		require.NoError(t, err)
		i := slices.IndexFunc(texts, func(text string) bool { return strings.HasPrefix(text, "-- 00029_clients.sql") })
		require.GreaterOrEqual(t, i, 0)
		require.NoError(t, f.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			for _, query := range []string{`DROP TABLE infrastructure`, `DROP TABLE services`, `DROP TABLE clients`, `DROP INDEX credentials_of_infrastructure`, texts[i]} {
				if _, err := tx.Exec(query); err != nil {
					return err
				}
			}
			return nil
		}))

		for _, kind := range kinds() {
			h, err := f.GetHome(t.Context(), admin, kind, odd)
			require.NoError(t, err)
			require.Equal(t, odd, h.Name)
			require.WithinDuration(t, today, h.CreatedAt, time.Hour)
			items, _, err := f.ListHomes(t.Context(), admin, kind, vault.HomeFilter{Q: "Münze"})
			require.NoError(t, err)
			require.Len(t, items, 1)
		}
		clients, _, err := f.ListHomes(t.Context(), admin, vault.HomeClient, vault.HomeFilter{})
		require.NoError(t, err)
		require.Len(t, clients, 1)
		services, _, err := f.ListHomes(t.Context(), admin, vault.HomeService, vault.HomeFilter{})
		require.NoError(t, err)
		require.Len(t, services, 2)
		require.Equal(t, gitPassword, f.reveal(t, c.ID, "password"))
		v, err := f.Reveal(t.Context(), who, c.ID, "password", "the grant holds")
		require.NoError(t, err)
		require.Equal(t, gitPassword, v.Reveal())
		requireCode(t, f.DeleteHome(t.Context(), admin, vault.HomeClient, odd, ""), "in_use")
	})
}
