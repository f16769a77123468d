package importer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// executorText is the key of the older program, and nodeRecord what Node.js' crypto module sealed under it (hkdfSync, createCipheriv):
// {"refreshToken":"rt-…","tokenEndpoint":"https://auth.example.com/token","clientId":"portal","clientSecret":"cs-…","scopes":"files:read files:write"}.
const (
	executorText = "planted-executor-key-0123456789"
	nodeRecord   = "AAECAwQFBgcICQoLG0Bens6X1QqELlsLmbjmQiMXygG5t0ia+ohad8dRSFpif6BOKdifdw3msselALHSXOKlJ3yX6g4N+CrmIE2e69M9Be9vaG/KI8o1evnJV8KbeH8g7ZBNXg4AaaVcnUsdbhJulRRd6/lnNESVErQDjfkj1jJPOCmLkEUvVJs/Sbg+OMO+ZWnQiuEG00t3SCypPe3+IvNQTipuu0V+7cR4O1yeHQ0tfMtuchvZpV4pBQuO+CSHffZuHCg5cDEfF39zUoA="
)

// sealedBy seals as the older program does, under a key in bytes.
func sealedBy(t *testing.T, key []byte, fields map[string]any) []byte {
	t.Helper()
	derived, err := hkdf.Key(sha256.New, key, nil, executorInfo, 32)
	require.NoError(t, err)
	block, err := aes.NewCipher(derived)
	require.NoError(t, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(t, err)
	iv := make([]byte, 12)
	_, _ = rand.Read(iv)
	text, err := json.Marshal(fields)
	require.NoError(t, err)
	out := gcm.Seal(nil, iv, text, nil)
	return append(append(iv, out[len(out)-16:]...), out[:len(out)-16]...)
}

func goodFields() map[string]any {
	return map[string]any{"refreshToken": "rt-" + planted, "tokenEndpoint": "https://auth.example.com/token"}
}

// issuer adds an outside issuer whose callers are nobody here, named by numbers.
func (y *yard) issuer(name string) string {
	y.t.Helper()
	id := store.NewID("jwi")
	require.NoError(y.t, y.db.Write(y.t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO jwt_issuers (id, name, iss, aud, jwks_url, algorithms, subject_claim, subject_form, subject_is, scopes, max_life, active, version, created_at, updated_at)
			VALUES ($1,$2,'','','','HS256','id','number','outsider','mcp_connections:write',0,1,1,0,0)`, id, name); err != nil {
			return err
		}
		return tx.Record(identity.System("test").Event(store.UserCreate, store.Target{Kind: "jwt_issuer", ID: id}))
	}))
	return id
}

// connected are the connections as "subject server", each with the owner of its credential behind it.
func (y *yard) connected() (out []string) {
	y.t.Helper()
	require.NoError(y.t, y.db.Read(y.t.Context(), func(tx *store.Tx) error {
		out = nil
		return tx.Select(&out, `SELECT c.subject || ' ' || c.server || ' ' || COALESCE((SELECT MAX(g.grantee_id) FROM grants g WHERE g.scope_id = c.credential_id), '-') FROM mcp_connections c ORDER BY 1`)
	}))
	return out
}

// TestImportExecutor: rows of the older keeper become connections of the people that they were of, and of nobody else; once.
func TestImportExecutor(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		portal := y.issuer("portal")
		bea := y.person("Bea", identity.Member)
		own := goodFields()
		own["accessToken"], own["clientSecretExpiresAt"], own["scopes"] = "at-"+planted, 4102444800, []string{"a", "b"}
		file := fmt.Sprintf(`[{"userId":7,"mcpServerId":"files","encryptedCredentials":%q,"id":1},
			{"user_id":%q,"mcp_server_id":"files","encrypted_credentials":%q},
			{"user_id":"8","mcp_server_id":"files","encrypted_credentials":%q,"issuer":"portal"}]`,
			nodeRecord, bea.UserID, `\x`+hex.EncodeToString(sealedBy(t, []byte(executorText), own)), base64.RawURLEncoding.EncodeToString(sealedBy(t, []byte(executorText), goodFields())))
		req := with("rows.json", file)
		req.Passphrase = secret.FromString(executorText + "\n")
		r := y.run(y.admin, req)
		require.Equal(t, []string{"mcp-executor"}, r.Formats)
		require.Equal(t, [4]int{3, 0, 0, 0}, [4]int{r.Created, r.Duplicates, r.Skipped, r.Wrong})
		require.Equal(t, []string{"mcp_connection", "files", "7", "record 1"}, []string{r.Rows[0].Kind, r.Rows[0].Name, r.Rows[0].Username, r.Rows[0].Place})
		require.Contains(t, strings.Join(r.Rows[1].Notes, " "), "access token is not taken over")
		require.ElementsMatch(t, []string{portal + "#7 files -", portal + "#8 files -", bea.UserID + " files " + bea.UserID}, y.connected())
		require.Equal(t, "rt-"+planted, y.connectionField(portal+"#7", "refresh_token"))
		require.Equal(t, "cs-"+planted, y.connectionField(portal+"#7", "client_secret"))

		// What is here stays: it may have been refreshed since.
		again := y.run(y.admin, req)
		require.Equal(t, [2]int{0, 3}, [2]int{again.Created, again.Duplicates})
		require.Equal(t, store.MCPDeposit, lastOf(y, store.MCPDeposit))

		// One row a line, and a key that was written down in hexadecimal or base64.
		raw := []byte("planted-raw-key-of-32-bytes-long")
		for n, key := range []string{hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw)} {
			line := fmt.Sprintf(`{"userId":"%d","mcpServerId":"notes","encryptedCredentials":%q}`+"\n", 20+n, base64.StdEncoding.EncodeToString(sealedBy(t, raw, goodFields())))
			req := with("rows.ndjson", line+strings.Replace(line, "notes", "mail", 1))
			req.Passphrase = secret.FromString(key)
			require.Equal(t, 2, y.run(y.admin, req).Created)
		}
	})
}

func lastOf(y *yard, want store.Action) (last store.Action) {
	y.t.Helper()
	var bodies []string
	require.NoError(y.t, y.db.Read(y.t.Context(), func(tx *store.Tx) error { return tx.Select(&bodies, `SELECT body FROM audit_events ORDER BY id`) }))
	for _, b := range bodies {
		require.NotContains(y.t, b, planted)
		if e, err := store.DecodeEvent([]byte(b)); err == nil && e.Action == want {
			last = e.Action
		}
	}
	return last
}

// connectionField opens a secret of the credential behind somebody's connection.
func (y *yard) connectionField(subject, field string) string {
	y.t.Helper()
	var id string
	require.NoError(y.t, y.db.Read(y.t.Context(), func(tx *store.Tx) error {
		return tx.Get(&id, `SELECT credential_id FROM mcp_connections WHERE subject = $1`, subject)
	}))
	v, err := y.vault.Reveal(y.t.Context(), y.admin, id, field, "test")
	require.NoError(y.t, err)
	return v.Reveal()
}

// TestImportExecutorRefuses: what does not open, belongs to nobody or is none stands in the way of the whole file, and nothing of it is quoted.
func TestImportExecutorRefuses(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		blob := func(change func(map[string]any)) string {
			fields := goodFields()
			if change != nil {
				change(fields)
			}
			return base64.StdEncoding.EncodeToString(sealedBy(t, []byte(executorText), fields))
		}
		row := func(user, server, sealed string) string {
			return fmt.Sprintf(`{"userId":%s,"mcpServerId":%q,"encryptedCredentials":%q}`, user, server, sealed)
		}
		good := row("7", "files", blob(nil))
		changed := sealedBy(t, []byte(executorText), goodFields())
		changed[20] ^= 1
		ask := func(caller identity.Caller, key, text string) (Report, error) {
			req := with("rows.json", text)
			req.Format, req.Passphrase = "mcp-executor", secret.FromString(key)
			return y.Import(t.Context(), caller, req)
		}
		_, err := ask(y.admin, executorText, "["+good+"]")
		require.Error(t, err, "there is no issuer yet")
		y.issuer("portal")
		for name, text := range map[string]string{
			"changed": row("7", "files", base64.StdEncoding.EncodeToString(changed)), "cut": row("7", "files", blob(nil)[:40]), "empty": row("7", "files", ""), "no base64": row("7", "files", "planted?"),
			"no user": row(`""`, "files", blob(nil)), "no number": row(`"planted-user"`, "files", blob(nil)), "negative": row("-7", "files", blob(nil)), "no server": row("7", "", blob(nil)), "odd server": row("7", "a\nb", blob(nil)),
			"another server": row("7", "files", blob(func(m map[string]any) { m["mcpServerId"] = "planted-other" })), "no refresh token": row("7", "files", blob(func(m map[string]any) { delete(m, "refreshToken") })),
			"no endpoint":    row("7", "files", blob(func(m map[string]any) { m["tokenEndpoint"] = "planted endpoint" })),
			"a list inside":  row("7", "files", blob(func(m map[string]any) { m["refreshToken"] = []string{"planted"} })),
			"unknown issuer": strings.Replace(good, `"userId"`, `"issuer":"planted-nobody","userId"`, 1),
			"two users":      strings.Replace(good, `"userId"`, `"user_id":"8","userId"`, 1),
		} {
			report, err := ask(y.admin, executorText, "["+good+","+text+"]")
			f, ok := fault.As(err)
			require.True(t, ok, "%s: %v", name, err)
			require.Equal(t, "validation_failed", f.Code, name)
			require.Equal(t, 1, report.Wrong, "%s: %+v", name, report.Rows)
			require.NotContains(t, fmt.Sprint(f.Detail, f.Fields, report), "planted", name)
			require.Empty(t, y.connected(), name)
		}
		for name, key := range map[string]string{"none": "", "wrong": "planted-another-key-0123456789", "nearly": executorText + "x"} {
			_, err := ask(y.admin, key, "["+good+"]")
			f, ok := fault.As(err)
			require.True(t, ok, name)
			require.NotContains(t, fmt.Sprint(f.Detail, f.Fields), "planted", name)
		}
		y.issuer("second")
		_, err = ask(y.admin, executorText, "["+good+"]")
		require.Error(t, err, "it is not said which of two")
		_, err = ask(y.admin, executorText, "["+strings.Replace(good, `"userId"`, `"issuer":"second","userId"`, 1)+"]")
		require.NoError(t, err)
		for _, role := range []identity.Role{identity.Member, identity.Auditor} {
			_, err = ask(y.person(string(role), role), executorText, "["+row("9", "files", blob(nil))+"]")
			f, ok := fault.As(err)
			require.True(t, ok, role)
			require.Equal(t, fault.Forbidden, f.Kind, role)
		}
		require.Len(t, y.connected(), 1)
	})
}
