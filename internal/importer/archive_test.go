package importer

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/vault"
)

const passphrase = "a passphrase of an archive"

func always(context.Context) error { return nil }

// export writes an archive of what the caller may reveal.
func (y *yard) export(caller identity.Caller, req ExportRequest) []byte {
	y.t.Helper()
	e, err := y.Export(y.t.Context(), caller, req)
	require.NoError(y.t, err)
	var b bytes.Buffer
	require.NoError(y.t, e.WriteTo(y.t.Context(), &b, always))
	require.NoError(y.t, e.Close(y.t.Context(), ""))
	require.NotContains(y.t, b.String(), planted)
	return b.Bytes()
}

// everyType is a credential of each type with all that it can have.
func everyType() []vault.Draft {
	at := time.Date(2031, 5, 4, 3, 2, 1, 0, time.UTC)
	meta := func(name string) vault.Meta {
		return vault.Meta{Name: name, Description: "d\nd", Username: "u", ExternalURL: "https://e.example.com", InternalURL: "https://i.example.com", Port: 22, RequiresVPN: true, Requires2FA: true,
			Tags: []string{"a", "b"}, Hosts: []string{"api.example.com"}, ExpiresAt: &at, RotateEvery: 30, Owner: "o", ClientID: "c", ServiceID: "s", InfrastructureID: "i", PluginName: "p"}
	}
	var out []vault.Draft
	for _, row := range vault.Types() {
		d := vault.Draft{Type: row.Type, Meta: meta("one of " + string(row.Type)), Notes: secret.FromString("notes " + planted), Secrets: map[string]secret.Value{}}
		for _, f := range row.Secrets {
			d.Secrets[f.Name] = secret.FromString(planted + "-" + f.Name + "-" + string(row.Type))
		}
		if row.AnyNames {
			d.Secrets["one"], d.Secrets["bytes"] = secret.FromString(planted), secret.FromString("\xff\x00"+planted)
		}
		if row.OAuth {
			d.Provider, d.Hosts, d.BaseURL = "anthropic", nil, ""
			d.OAuth = vault.OAuthMeta{ExpiresAt: &at, Scopes: []string{"x", "y"}, ClientID: "oc", TokenEndpoint: "https://t.example.com/token", AuthMethod: "none", RequestFormat: "json", Resource: "https://r.example.com"}
		}
		if row.Inject != "" {
			d.Inject, d.Methods, d.Paths = vault.Inject{Kind: vault.InjectHeader, Name: "X-Key"}, []string{"GET"}, []string{"/a/*", "/b/**"}
		}
		out = append(out, d)
	}
	return out
}

// TestArchiveRoundTrip: what an archive holds comes back as it was, on another installation: every type with its metadata, notes, state and present secret.
func TestArchiveRoundTrip(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		storetest.Homes(t, y.db, "c", "s", "i")
		for _, d := range everyType() {
			c, err := y.vault.Create(t.Context(), y.admin, d)
			require.NoError(t, err)
			if d.Type == vault.SSHKey {
				_, err = y.vault.Update(t.Context(), y.admin, c.ID, vault.Patch{State: vault.To(vault.Compromised)}, "")
				require.NoError(t, err)
			}
			if d.Type == vault.Password {
				_, err = y.vault.Rotate(t.Context(), y.admin, c.ID, map[string]secret.Value{"password": secret.FromString(planted + " now")}, "")
				require.NoError(t, err)
			}
		}
		archive := y.export(y.admin, ExportRequest{Passphrase: secret.FromString(passphrase), Reason: "move"})
		var reveals int
		require.NoError(t, y.db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Get(&reveals, `SELECT COUNT(*) FROM audit_events WHERE action = 'credential.reveal'`)
		}))
		require.Equal(t, len(vault.Types()), reveals, "each is on record")

		other := newYard(t, y.db.Engine())
		storetest.Homes(t, other.db, "c", "s", "i")
		in := with("vault.age", string(archive))
		in.Passphrase = secret.FromString("another passphrase here")
		require.Contains(t, why(other.refused(other.admin, in)), "does not open")
		in.Passphrase = secret.FromString(passphrase)
		r := other.run(other.admin, in)
		require.Equal(t, len(vault.Types()), r.Created)
		again := other.run(other.admin, in)
		require.Equal(t, [2]int{0, r.Created}, [2]int{again.Created, again.Duplicates})

		for _, d := range everyType() {
			a, b := y.named(d.Name), other.named(d.Name)
			require.Equal(t, a.Meta, b.Meta)
			require.Equal(t, a.Status, b.Status)
			require.Equal(t, a.Notes.Reveal(), b.Notes.Reveal())
			require.Equal(t, a.SecretFields, b.SecretFields)
			require.EqualValues(t, 1, b.Version, "the present version is the first one there")
			for _, field := range a.SecretFields {
				require.Equal(t, y.field(d.Name, field), other.field(d.Name, field))
			}
		}
		require.Equal(t, vault.Compromised, other.named("one of ssh_key").Status)
	})
}

// TestArchiveOfAnotherServer: what a credential belonged to there is left out where there is no such thing, which the report says, and all else is stored.
func TestArchiveOfAnotherServer(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		storetest.Homes(t, y.db, "c", "s", "i")
		_, err := y.vault.Create(t.Context(), y.admin, everyType()[0])
		require.NoError(t, err)
		archive := y.export(y.admin, ExportRequest{Passphrase: secret.FromString(passphrase), Reason: "move"})
		other := newYard(t, y.db.Engine())
		storetest.Homes(t, other.db, "", "s", "")
		in := with("vault.age", string(archive))
		in.Passphrase = secret.FromString(passphrase)
		r := other.run(other.admin, in)
		require.Equal(t, 1, r.Created, r.Rows)
		require.Equal(t, "without its client and infrastructure, which is not here", r.Rows[0].Reason)
		got := other.named(everyType()[0].Name)
		require.Equal(t, [3]string{"", "s", ""}, [3]string{got.ClientID, got.ServiceID, got.InfrastructureID})
	})
}

// TestArchiveForRecipients: age itself opens it, and so do we with the identity, armoured or not.
func TestArchiveForRecipients(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		storetest.Homes(t, y.db, "c", "s", "i")
		_, err := y.vault.Create(t.Context(), y.admin, everyType()[0])
		require.NoError(t, err)
		classic, err := age.GenerateX25519Identity()
		require.NoError(t, err)
		hybrid, err := age.GenerateHybridIdentity()
		require.NoError(t, err)
		_, err = y.Export(t.Context(), y.admin, ExportRequest{Recipients: []string{classic.Recipient().String(), hybrid.Recipient().String()}, Reason: "r"})
		require.Equal(t, fault.Unprocessable, fault.KindOf(err), "they do not mix")
		for recipient, ids := range map[string][]string{
			classic.Recipient().String(): {classic.String(), "# a comment\n" + classic.String() + "\n"}, hybrid.Recipient().String(): {hybrid.String()},
		} {
			archive := y.export(y.admin, ExportRequest{Recipients: []string{recipient}, Reason: "r"})
			var armoured bytes.Buffer
			w := armor.NewWriter(&armoured)
			_, _ = w.Write(archive)
			require.NoError(t, w.Close())
			for _, id := range ids {
				for _, data := range []string{string(archive), armoured.String()} {
					in := with("v.age", data)
					in.Passphrase = secret.FromString(id)
					require.Equal(t, 1, y.run(y.admin, in).Duplicates)
				}
			}
			in := with("v.age", string(archive))
			in.Passphrase = secret.FromString(passphrase)
			y.refused(y.admin, in)
		}
	})
}

// TestArchiveThatIsNotWhole: one that was cut at any place, or changed in any byte, is refused and nothing of it is stored.
func TestArchiveThatIsNotWhole(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		storetest.Homes(t, y.db, "c", "s", "i")
		for _, d := range everyType()[:2] {
			_, err := y.vault.Create(t.Context(), y.admin, d)
			require.NoError(t, err)
		}
		id, err := age.GenerateX25519Identity()
		require.NoError(t, err)
		archive := y.export(y.admin, ExportRequest{Recipients: []string{id.Recipient().String()}, Reason: "r"})
		try := func(b []byte) {
			in := with("v.age", string(b))
			in.Passphrase = secret.FromString(id.String())
			in.Format = "signalbox"
			y.refused(y.admin, in)
		}
		for at := 1; at < len(archive); at += 1 + len(archive)/60 {
			try(archive[:at])
			flipped := bytes.Clone(archive)
			flipped[at] ^= 1
			try(flipped)
		}
		seal := func(text string) []byte {
			var b bytes.Buffer
			w, err := age.Encrypt(&b, id.Recipient())
			require.NoError(t, err)
			_, _ = w.Write([]byte(text))
			require.NoError(t, w.Close())
			return b.Bytes()
		}
		const head = `{"archive":{"format":"signalbox-export","version":1,"created_at":"2026-01-01T00:00:00Z"}}` + "\n"
		const one = `{"credential":{"type":"password","name":"n","secrets":{"password":"` + planted + `"}}}` + "\n"
		for _, text := range []string{"", head, head + one, head + one + `{"end":{"credentials":2,"left_out":0}}`, one + `{"end":{"credentials":1,"left_out":0}}`,
			head + one + `{"end":{"credentials":1,"left_out":0}}` + one, strings.Replace(head, `"version":1`, `"version":2`, 1) + `{"end":{"credentials":0,"left_out":0}}`,
			head + strings.Replace(one, "name", "unknown_"+planted, 1) + `{"end":{"credentials":1,"left_out":0}}`} {
			try(seal(text))
		}
	})
}

// TestExportAsksBeforeEachPage: who lost the right gets no further page, and the record says how far it came.
func TestExportAsksBeforeEachPage(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		storetest.Homes(t, y.db, "c", "s", "i")
		_, err := y.Import(t.Context(), y.admin, with("p.csv", manyRows(150)))
		require.NoError(t, err)
		req := ExportRequest{Passphrase: secret.FromString(passphrase), Reason: "r"}
		e, err := y.Export(t.Context(), y.admin, req)
		require.NoError(t, err)
		enough, asked := errors.New("enough"), 0
		var b bytes.Buffer
		err = e.WriteTo(t.Context(), &b, func(context.Context) error {
			if asked++; asked == 2 {
				return enough
			}
			return nil
		})
		require.ErrorIs(t, err, enough)
		require.NoError(t, e.Close(t.Context(), "revoked"))
		in := with("v.age", b.String())
		in.Passphrase = req.Passphrase
		y.refused(y.admin, in)

		// The next one is not held up by it.
		require.NotEmpty(t, y.export(y.admin, req))
		for _, caller := range []identity.Caller{y.person("Olga", identity.Auditor), {Kind: identity.KindClientKey, ID: "key_1"}, {}} {
			_, err := y.Export(t.Context(), caller, req)
			require.Contains(t, []fault.Kind{fault.Forbidden, fault.Unauthenticated}, fault.KindOf(err))
		}
		stale := y.admin
		stale.SteppedUpAt = time.Now().Add(-time.Hour)
		_, err = y.Export(t.Context(), stale, req)
		require.Equal(t, "step_up_required", fault.Of(err).Code)
		for _, bad := range []ExportRequest{{Reason: "r"}, {Passphrase: secret.FromString("short"), Reason: "r"}, {Passphrase: req.Passphrase}, {Passphrase: req.Passphrase, Recipients: []string{"age1x"}, Reason: "r"},
			{Recipients: []string{planted}, Reason: "r"}} {
			_, err := y.Export(t.Context(), y.admin, bad)
			f, ok := fault.As(err)
			require.True(t, ok)
			require.NotContains(t, f.Error()+why(f), planted)
		}
	})
}

// TestExportLeavesOutWhatWasChanged: a credential that was changed outside Signalbox is left out, on record, and the others are there.
func TestExportLeavesOutWhatWasChanged(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		storetest.Homes(t, y.db, "c", "s", "i")
		for _, d := range everyType()[:3] {
			_, err := y.vault.Create(t.Context(), y.admin, d)
			require.NoError(t, err)
		}
		changed := y.named(everyType()[0].Name).ID
		require.NoError(t, y.db.Write(t.Context(), func(tx *store.Tx) error {
			if _, err := tx.Exec(`UPDATE credentials SET external_url = 'https://evil.example.com' WHERE id = $1`, changed); err != nil {
				return err
			}
			return tx.Record(identity.System("test").Event(store.CredentialUpdate, store.Target{Kind: "credential", ID: changed}))
		}))
		in := with("v.age", string(y.export(y.admin, ExportRequest{Passphrase: secret.FromString(passphrase), Reason: "r"})))
		in.Passphrase = secret.FromString(passphrase)
		require.Equal(t, 2, y.run(y.admin, in).Entries)
	})
}
