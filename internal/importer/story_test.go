package importer

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

const (
	anthropicKey = "sk-ant-api03-" + planted + "-Q7pX2vT9aZ4kLm"
	accessToken  = "sk-ant-oat01-" + planted + "-K8wR3mB6cY1xQz"
	refreshToken = "sk-ant-ort01-" + planted + "-H5nD0jS2eV7pWt"
	clientKey    = "ptk_" + planted + "-9f8e7d6c5b4a"
)

// envFile has what the rules of dotenv name: comments, export, quotes of each kind, escapes, values over lines.
const envFile = "# settings\n" +
	"ANTHROPIC_API_KEY=" + anthropicKey + "\n" +
	"export DB_URL='postgres://app:" + planted + "@db.example.com/app' # the database\n" +
	"PORT=8080\n" +
	"ADMIN_PASSWORD=\"" + planted + "\\\"x\\\\y\"\n" +
	"EMPTY=\n" +
	"DEPLOY_KEY=\"-----BEGIN OPENSSH PRIVATE KEY-----\n" + planted + "\n-----END OPENSSH PRIVATE KEY-----\"\n" +
	planted + " stands alone\n" +
	"HOOK_TOKEN=`" + planted + "kJ8$'\"a7Qx`\n"

func TestImportEnv(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		r := y.run(y.admin, with("project/.env", strings.ReplaceAll(envFile, "\n", "\r\n")))
		require.Equal(t, []string{"env"}, r.Formats)
		require.Equal(t, [4]int{5, 0, 3, 0}, [4]int{r.Created, r.Duplicates, r.Skipped, r.Wrong})
		require.Equal(t, anthropicKey, y.field("ANTHROPIC_API_KEY", "api_key"))
		require.Equal(t, "acc_ANTHROPIC_API_KEY", y.named("ANTHROPIC_API_KEY").AccountID)
		require.Equal(t, "postgres://app:"+planted+"@db.example.com/app", y.field("DB_URL", "connection_string"))
		require.Equal(t, planted+"\"x\\y", y.field("ADMIN_PASSWORD", "password"))
		require.Contains(t, y.field("DEPLOY_KEY", "private_key"), "KEY-----\n"+planted+"\n-----END")
		require.Equal(t, planted+"kJ8$'\"a7Qx", y.field("HOOK_TOKEN", "api_key"))
		require.Equal(t, "line 4 (PORT)", r.Rows[2].Place)
		require.Equal(t, "line 10", r.Rows[6].Place, "three lines of a key are three lines")

		again := y.run(y.admin, with(".env", envFile))
		require.Equal(t, [2]int{0, 5}, [2]int{again.Created, again.Duplicates}, "importing again stores nothing")
		require.Contains(t, again.Rows[0].Reason, "with the same secret")
	})
}

// TestImportClaude: the login keeps its lineage: both tokens, when the first ends, its scopes.
func TestImportClaude(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		in := with(".credentials.json", `{"claudeAiOauth":{"accessToken":"`+accessToken+`","refreshToken":"`+refreshToken+`","expiresAt":1893456000000,"scopes":["user:inference","user:profile"],"subscriptionType":"max"},
			"mcpOAuth":{"x|y":{"accessToken":"`+planted+`"}}}`)
		r := y.run(y.admin, in)
		require.Equal(t, [2]int{1, 1}, [2]int{r.Created, r.Skipped})
		require.Contains(t, r.Rows[0].Notes[0], "one refresh lineage must have one owner")
		c := y.named("claude-code")
		require.Equal(t, vault.OAuth, c.Type)
		require.Equal(t, "anthropic", c.Provider)
		require.Equal(t, "acc_claude-code", c.AccountID)
		require.Equal(t, []string{"user:inference", "user:profile"}, c.OAuth.Scopes)
		require.Equal(t, time.UnixMilli(1893456000000).UTC(), *c.OAuth.ExpiresAt)
		require.Equal(t, vault.Healthy, c.Health)
		require.Equal(t, accessToken, y.field("claude-code", "access_token"))
		require.Equal(t, refreshToken, y.field("claude-code", "refresh_token"))

		// The same lineage under another name is the same lineage.
		in.Name = "second"
		again := y.run(y.admin, in)
		require.Equal(t, 0, again.Created)
		require.Equal(t, c.ID, again.Rows[0].DuplicateOf)
		require.Contains(t, again.Rows[0].Reason, "same secret, under another name")
		require.Contains(t, y.events(), "credential.compare")
	})
}

// TestImportProxy: the older proxy's accounts and client keys, in every shape, with what is lost named.
func TestImportProxy(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		in := with(
			"accounts/alpha.credentials.json", `{"type":"oauth","accountId":"acc_a","oauth":{"accessToken":"`+accessToken+`","refreshToken":"`+refreshToken+`","expiresAt":1893456000000,"scopes":"a b","isMax":true},
				"slack":{"token":"xoxb-`+planted+`","channel":"#agents"}}`,
			"accounts/beta.credentials.json", `{"type":"api_key","api_key":"`+anthropicKey+`"}`,
			"train-client-keys/web.client-keys.json", `["`+clientKey+`", {"key":"cnp_live_`+planted+`_b","name":"laptop","expiresAt":"2099-01-01T00:00:00Z"}, {"apiKey":"old-`+planted+`-x","revoked":true}]`,
			"train-client-keys/batch.client-keys.json", `{"keys":["first-`+planted+`-key"]}`,
			"train-client-keys/night.client-keys.json", `{"client_api_keys":[{"api_key":"second-`+planted+`-key","name":"cron"}]}`,
		)
		r := y.run(y.admin, in)
		require.Equal(t, [4]int{7, 0, 1, 0}, [4]int{r.Created, r.Duplicates, r.Skipped, r.Wrong})
		require.Equal(t, []string{"web", "batch", "night"}, r.Trains)
		require.Equal(t, "acc_a", y.named("alpha").AccountID)
		require.Equal(t, "acc_beta", y.named("beta").AccountID)
		require.Contains(t, y.field("alpha Slack", "slack"), "xoxb-"+planted)
		require.Contains(t, r.Rows[1].Reason, "kept as a credential, and nothing is sent to Slack by it: they are not of the form that a train has")

		// A key of a foreign shape works, as its hash.
		caller, err := y.ids.Client(clientKey)
		require.NoError(t, err)
		web, err := y.trains.GetTrain(t.Context(), y.admin, "web")
		require.NoError(t, err)
		require.Equal(t, web.ID, caller.TrainID)
		var hashes [][]byte
		require.NoError(t, y.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Select(&hashes, `SELECT hash FROM client_keys`) }))
		require.Len(t, hashes, 4)

		again := y.run(y.admin, in)
		require.Equal(t, [2]int{0, 7}, [2]int{again.Created, again.Duplicates})
		require.Empty(t, again.Trains)
	})
}

// TestSlackMovesToTheLinkedTrains: the older proxy's Slack settings of an account stay a credential until trains link the account, and are then the trains' own, without prompts and replies.
func TestSlackMovesToTheLinkedTrains(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		ctx := t.Context()
		in := with("alpha.credentials.json", `{"type":"api_key","api_key":"`+anthropicKey+`","slack":{"enabled":true,"webhook_url":"https://hooks.slack.com/services/T0/B0/`+planted+`-long-enough-zQ9x","channel":"#agents","username":"Agents","icon_emoji":":robot_face:"}}`)
		first := y.run(y.admin, in)
		require.Equal(t, 2, first.Created)
		require.Contains(t, first.Rows[1].Reason, "kept as a credential, and nothing is sent to Slack by it: no train here that you may change links the account")
		for _, slug := range []string{"web", "api", "other"} {
			_, err := y.trains.CreateTrain(ctx, y.admin, train.Draft{Slug: slug})
			require.NoError(t, err)
			if slug != "other" {
				_, _, err = y.trains.Link(ctx, y.admin, slug, train.LinkDraft{Credential: y.named("alpha").ID})
				require.NoError(t, err)
			}
		}
		_, _, err := y.trains.PutChannel(ctx, y.admin, "api", notify.Slack, notify.TrainPatch{Secrets: map[string]*secret.Value{"url": ptr(secret.FromString("https://hooks.slack.com/services/own"))}}, "")
		require.NoError(t, err)

		dry := in
		dry.DryRun = true
		looked, err := y.Import(ctx, y.admin, dry)
		require.NoError(t, err)
		require.Equal(t, "moved to the trains web, whose people are told by it now", looked.Rows[1].Reason)
		_, err = y.trains.Channel(ctx, y.admin, "web", notify.Slack)
		require.Error(t, err, "a dry run stores nothing")
		in.Expect = looked.Sum
		moved, err := y.Import(ctx, y.admin, in)
		require.NoError(t, err)
		require.Equal(t, looked.Rows[1].Reason, moved.Rows[1].Reason)
		c, err := y.trains.Channel(ctx, y.admin, "web", notify.Slack)
		require.NoError(t, err)
		require.Equal(t, notify.Look{Channel: "#agents", Username: "Agents", Icon: ":robot_face:"}, c.Look)
		require.True(t, c.Enabled)
		require.False(t, c.Content, "that is an administrator's to switch on")
		require.Equal(t, "zQ9x", c.Suffix)
		own, err := y.trains.Channel(ctx, y.admin, "api", notify.Slack)
		require.NoError(t, err)
		require.Empty(t, own.Look.Channel, "a train that has a channel keeps it")
		var made int
		require.NoError(t, y.db.Read(ctx, func(tx *store.Tx) error {
			return tx.Get(&made, `SELECT COUNT(*) FROM audit_events WHERE action = 'notify.channel_create'`)
		}))
		require.Equal(t, 2, made)
		in.Expect = ""
		last := y.run(y.admin, in)
		require.Equal(t, [2]int{0, 2}, [2]int{last.Created, last.Duplicates})
	})
}

func ptr[T any](v T) *T { return &v }

// TestImportIsAllOrNothing: one entry that cannot be stored keeps everything out, and the report says which.
func TestImportIsAllOrNothing(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		in := with("a.credentials.json", `{"type":"api_key","api_key":"`+anthropicKey+`"}`,
			"b.credentials.json", `{"type":"api_key","api_key":"with a space `+planted+`"}`,
			"web.client-keys.json", `["`+clientKey+`","short"]`)
		f := y.refused(y.admin, in)
		require.Equal(t, "validation_failed", f.Code)
		require.Contains(t, why(f), "b.credentials.json, the account (entry 2): the secret field api_key must be visible ASCII")
		_, err := y.ids.Client(clientKey)
		require.Error(t, err)
		in.DryRun = true
		r, err := y.Import(t.Context(), y.admin, in)
		require.NoError(t, err)
		require.Equal(t, [2]int{2, 2}, [2]int{r.Created, r.Wrong})
		y.clean(r)
		require.Equal(t, []string{"credential.import", "credential.import"}, y.events())
	})
}

// TestImportTellsEntriesApart: what is here already is found by its name, its account id and its secret, and what only has the same name is kept.
func TestImportTellsEntriesApart(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		made, err := y.vault.Create(t.Context(), y.admin, vault.Draft{Type: vault.APIKey, Meta: vault.Meta{Name: "mine", AccountID: "acc_x", Provider: "anthropic"},
			Secrets: map[string]secret.Value{"api_key": secret.FromString(anthropicKey)}})
		require.NoError(t, err)
		other := strings.Replace(anthropicKey, "api03", "api04", 1)
		r := y.run(y.admin, with(
			"mine.credentials.json", `{"type":"api_key","api_key":"`+other+`"}`,
			"byid.credentials.json", `{"type":"api_key","accountId":"acc_x","api_key":"`+other+`2"}`,
			"bysecret.credentials.json", `{"type":"api_key","api_key":"`+anthropicKey+`"}`,
			"new.credentials.json", `{"type":"api_key","api_key":"`+other+`3"}`,
			"twin.credentials.json", `{"type":"api_key","api_key":"`+other+`3"}`,
			"p.csv", "Title,Url,Username,Password\ngit,https://git.example.com,root,"+planted+"1\ngit,https://git.example.com,root,"+planted+"2\ngit,https://git.example.com,ada,"+planted+"1\n",
		))
		require.Equal(t, made.ID, r.Rows[0].DuplicateOf)
		require.Contains(t, r.Rows[0].Reason, "its secret is another")
		require.Equal(t, made.ID, r.Rows[1].DuplicateOf)
		require.Equal(t, made.ID, r.Rows[2].DuplicateOf)
		require.Equal(t, Create, r.Rows[3].Action)
		require.Equal(t, 4, r.Rows[4].SameAs)
		require.Equal(t, []string{"git", "git (2)", "git"}, []string{r.Rows[5].Name, r.Rows[6].Name, r.Rows[7].Name})
		require.Equal(t, 4, r.Created)
		require.Equal(t, planted+"2", y.field("git (2)", "password"))
	})
}

// TestImportOfSomebodyNarrow: who reaches only what is their own imports for themselves, and learns nothing of what others have.
func TestImportOfSomebodyNarrow(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		max := y.person("Max", identity.Member)
		hidden, err := y.vault.Create(t.Context(), y.admin, vault.Draft{Type: vault.Password, Meta: vault.Meta{Name: "git", Username: "root"}, Secrets: map[string]secret.Value{"password": secret.FromString(planted)}})
		require.NoError(t, err)
		_, err = y.vault.Create(t.Context(), y.admin, vault.Draft{Type: vault.APIKey, Meta: vault.Meta{Name: "acct", Provider: "anthropic"}, Secrets: map[string]secret.Value{"api_key": secret.FromString(anthropicKey)}})
		require.NoError(t, err)

		csv := "Title,Url,Username,Password\ngit,,root," + planted + "\n"
		r := y.run(max, with("p.csv", csv))
		require.Equal(t, 1, r.Created, "another's entry of the same name is none of theirs")
		mine, _, err := y.vault.List(t.Context(), max, vault.Filter{})
		require.NoError(t, err)
		require.Len(t, mine, 1)
		require.NotEqual(t, hidden.ID, mine[0].ID)

		f := y.refused(max, with("acct.credentials.json", `{"type":"api_key","api_key":"`+anthropicKey+`x"}`))
		require.Contains(t, why(f), "taken by an account that you may not see")
		f = y.refused(max, with("web.client-keys.json", `["`+clientKey+`"]`))
		require.Equal(t, fault.Forbidden, f.Kind)

		many := "Title,Url,Username,Password\n" + strings.Repeat("a,,b,"+planted+"\n", narrowMost+1)
		f = y.refused(max, with("p.csv", many))
		require.Contains(t, why(f), "more than 5000 entries")

		for _, caller := range []identity.Caller{y.person("Olga", identity.Auditor), {Kind: identity.KindClientKey, ID: "key_1"}} {
			require.Equal(t, fault.Forbidden, y.refused(caller, with("p.csv", csv)).Kind)
		}
		stale := y.admin
		stale.SteppedUpAt = time.Now().Add(-time.Hour)
		require.Equal(t, "step_up_required", y.refused(stale, with("p.csv", csv)).Code)
	})
}

// TestImportComparesWhatMayBeRevealed: a token without the right to reveal learns nothing of stored secrets.
func TestImportComparesWhatMayBeRevealed(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		_, err := y.vault.Create(t.Context(), y.admin, vault.Draft{Type: vault.SharedSecret, Meta: vault.Meta{Name: "hook"}, Secrets: map[string]secret.Value{"secret": secret.FromString(planted)}})
		require.NoError(t, err)
		writer := identity.Caller{Kind: identity.KindToken, ID: "tok_1", Name: "ci", UserID: y.admin.UserID, Role: identity.Administrator, Scopes: identity.Scopes{identity.CredentialWrite}}
		in := with("p.csv", "Title,Url,Username,Password,OTPAuth\nother,,,,"+planted+"\n")
		in.DryRun = true
		r, err := y.Import(t.Context(), writer, in)
		require.NoError(t, err)
		require.False(t, r.SecretsCompared)
		require.Equal(t, 1, r.Created)
		r, err = y.Import(t.Context(), y.admin, in)
		require.NoError(t, err)
		require.True(t, r.SecretsCompared)
		require.Equal(t, 1, r.Duplicates)
	})
}
