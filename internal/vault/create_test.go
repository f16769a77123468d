package vault_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

func TestAnAPIKeyAccount(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, apiKey("team-alpha"))
		require.True(t, store.ValidID("cred", c.ID))
		require.Equal(t, "acc_team-alpha", c.AccountID)
		require.True(t, c.IsAccount())
		require.Equal(t, vault.Active, c.Status)
		require.Empty(t, c.Health)
		require.Equal(t, []string{"api_key"}, c.SecretFields)
		require.Equal(t, anthropicKey[len(anthropicKey)-4:], c.Suffix)
		require.Equal(t, `"1-1"`, c.ETag())
		require.Nil(t, c.LastRotatedAt)
		require.WithinDuration(t, today, c.CreatedAt, time.Second)

		got, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, c, got)
		require.Equal(t, anthropicKey, f.reveal(t, c.ID, "api_key"))

		evs := f.events(t)
		require.Equal(t, []store.Action{store.CredentialCreate, store.CredentialView, store.CredentialReveal}, actions(evs))
		require.Equal(t, store.Target{Kind: "credential", ID: c.ID, Name: "team-alpha"}, evs[0].Target)
		require.Equal(t, "user_1", evs[0].Actor.ID)
		require.Equal(t, "req_7", evs[0].RequestID)
		require.Equal(t, "to test", evs[2].Reason)
	})
}

func actions(evs []store.Event) []store.Action {
	var out []store.Action
	for _, e := range evs {
		out = append(out, e.Action)
	}
	return out
}

func TestAnOAuthAccount(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		expires := today.Add(time.Hour + 123456*time.Microsecond)
		c := f.create(t, oauthDraft("team-beta", &expires))
		require.Equal(t, vault.Healthy, c.Health)
		require.Equal(t, []string{"access_token", "refresh_token"}, c.SecretFields, "in the order of the table")
		require.Equal(t, accessToken[len(accessToken)-4:], c.Suffix)
		got, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, c, got)
		require.Equal(t, expires, *got.OAuth.ExpiresAt)
		require.Equal(t, []string{"user:inference", "user:profile"}, got.OAuth.Scopes)
		require.Equal(t, "https://console.example.com/v1/oauth/token", got.OAuth.TokenEndpoint)
		require.Equal(t, refreshToken, f.reveal(t, c.ID, "refresh_token"))

		f.now.Set(expires)
		got, err = f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, vault.Healthy, got.Health, "a refresh may bring the next access token")
		require.Equal(t, vault.Active, got.Status, "the token's end is not the credential's")
		_, err = f.Update(t.Context(), admin, c.ID, vault.Patch{Secrets: map[string]*secret.Value{"refresh_token": nil}, OAuth: vault.OAuthPatch{ExpiresAt: vault.To(&expires)}}, "")
		require.NoError(t, err)
		got, err = f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, vault.NeedsLogin, got.Health, "nothing brings another")
	})
}

func TestAPasswordWithNotes(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		d := password("Gitea Admin")
		d.Notes = secret.FromString("planted notes 0815\nsecond line")
		d.Tags = []string{"git", "Kunde Ä", "git"}
		d.Port, d.InternalURL, d.Description = 3000, "ssh://git.lan:22", "line one\nline two"
		c := f.create(t, d)
		require.Equal(t, []string{"git", "Kunde Ä"}, c.Tags)
		require.True(t, c.HasNotes)
		require.True(t, c.Notes.IsZero(), "notes come with Get alone")
		require.Empty(t, c.Suffix, "never of a password")
		require.False(t, c.IsAccount())
		got, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.Equal(t, "planted notes 0815\nsecond line", got.Notes.Reveal())
		require.Equal(t, 3000, got.Port)
		require.True(t, got.Requires2FA)
		require.False(t, got.RequiresVPN)
		require.Equal(t, "client_7", got.ClientID)
		require.Equal(t, "line one\nline two", got.Description)
		require.Equal(t, gitPassword, f.reveal(t, c.ID, "password"))
		items, _, err := f.List(t.Context(), admin, vault.Filter{})
		require.NoError(t, err)
		require.True(t, items[0].HasNotes)
		require.True(t, items[0].Notes.IsZero())
		f.events(t)
	})
}

// Every type of the table works from its row alone.
func TestEveryTypeOfTheTable(t *testing.T) {
	require.Len(t, vault.Types(), 9)
	each(t, func(t *testing.T, f *fixture) {
		for _, row := range vault.Types() {
			given := map[string]secret.Value{}
			for _, field := range row.Secrets {
				given[field.Name] = secret.FromString("value-of-" + field.Name + "-0123456789")
			}
			if row.AnyNames {
				given["pin_2"] = secret.FromString("value-of-pin_2")
			}
			c := f.create(t, vault.Draft{Type: row.Type, Meta: vault.Meta{Name: string(row.Type)}, Secrets: given})
			require.Len(t, c.SecretFields, len(given), row.Type)
			require.Equal(t, row.OAuth, c.Health != "", row.Type)
			for _, name := range c.SecretFields {
				require.Equal(t, given[name].Reveal(), f.reveal(t, c.ID, name))
			}
			_, err := f.Rotate(t.Context(), admin, c.ID, map[string]secret.Value{c.SecretFields[0]: secret.FromString("another")}, "")
			require.NoError(t, err)
			require.NoError(t, f.Delete(t.Context(), admin, c.ID, ""))
		}
	})
}

func TestBadDraftsAreRefusedWithoutAnEcho(t *testing.T) {
	f := newFixture(t, store.SQLite)
	// Each case puts this into the field that is wrong; it must come back nowhere.
	const bad = "echo-canary-Zx81"
	long := func(n int) string { return bad + strings.Repeat("x", n-len(bad)+1) }
	for name, c := range map[string]struct {
		change  func(*vault.Draft)
		pointer string
		code    string
	}{
		"unknown type":              {func(d *vault.Draft) { d.Type = bad }, "/type", ""},
		"no type":                   {func(d *vault.Draft) { d.Type = "" }, "/type", ""},
		"type in capitals":          {func(d *vault.Draft) { d.Type = "API_KEY" }, "/type", ""},
		"no name":                   {func(d *vault.Draft) { d.Name = "" }, "/name", ""},
		"long name":                 {func(d *vault.Draft) { d.Name = long(200) }, "/name", ""},
		"name with a newline":       {func(d *vault.Draft) { d.Name = bad + "\nx" }, "/name", ""},
		"name with NUL":             {func(d *vault.Draft) { d.Name = bad + "\x00" }, "/name", ""},
		"name not UTF-8":            {func(d *vault.Draft) { d.Name = bad + "\xff" }, "/name", ""},
		"name with outer spaces":    {func(d *vault.Draft) { d.Name = " " + bad }, "/name", ""},
		"account named as an id":    {func(d *vault.Draft) { d.Name = "acc_" + bad }, "/name", ""},
		"account id without prefix": {func(d *vault.Draft) { d.AccountID = bad }, "/account_id", ""},
		"account id of no account":  {func(d *vault.Draft) { d.Provider, d.AccountID = "other", "acc_"+bad }, "/account_id", ""},
		"long description":          {func(d *vault.Draft) { d.Description = long(2000) }, "/description", ""},
		"long username":             {func(d *vault.Draft) { d.Username = long(320) }, "/username", ""},
		"long owner":                {func(d *vault.Draft) { d.Owner = long(200) }, "/owner", ""},
		"long client":               {func(d *vault.Draft) { d.ClientID = long(100) }, "/client_id", ""},
		"long service":              {func(d *vault.Draft) { d.ServiceID = long(100) }, "/service_id", ""},
		"long infrastructure":       {func(d *vault.Draft) { d.InfrastructureID = long(100) }, "/infrastructure_id", ""},
		"long plugin":               {func(d *vault.Draft) { d.PluginName = long(100) }, "/plugin_name", ""},
		"long provider":             {func(d *vault.Draft) { d.Provider = long(100) }, "/provider", ""},
		"relative base_url":         {func(d *vault.Draft) { d.BaseURL = bad }, "/base_url", ""},
		"base_url not a URL":        {func(d *vault.Draft) { d.BaseURL = "https://" + bad + "%zz/" }, "/base_url", ""},
		"base_url with password":    {func(d *vault.Draft) { d.BaseURL = "https://u:" + bad + "@api.example.com" }, "/base_url", ""},
		"base_url with query":       {func(d *vault.Draft) { d.BaseURL = "https://api.example.com/?k=" + bad }, "/base_url", ""},
		"base_url in plain http":    {func(d *vault.Draft) { d.BaseURL = "http://" + bad + ".example.com" }, "/base_url", "upstream_refused"},
		"base_url loopback":         {func(d *vault.Draft) { d.BaseURL = "https://127.0.0.1/" + bad }, "/base_url", "upstream_refused"},
		"base_url metadata":         {func(d *vault.Draft) { d.BaseURL = "https://169.254.169.254/" + bad }, "/base_url", "upstream_refused"},
		"external_url with script":  {func(d *vault.Draft) { d.ExternalURL = "javascript://" + bad + "/%0aalert(1)" }, "/external_url", ""},
		"external_url with secrets": {func(d *vault.Draft) { d.ExternalURL = "https://u:" + bad + "@git.example.com" }, "/external_url", ""},
		"internal_url relative":     {func(d *vault.Draft) { d.InternalURL = bad + "/x" }, "/internal_url", ""},
		"host with scheme":          {func(d *vault.Draft) { d.Hosts = []string{"api.anthropic.com", "https://" + bad} }, "/hosts/1", ""},
		"host with path":            {func(d *vault.Draft) { d.Hosts = []string{"api.anthropic.com/" + bad} }, "/hosts/0", ""},
		"host with wildcard":        {func(d *vault.Draft) { d.Hosts = []string{"*." + bad + ".com"} }, "/hosts/0", ""},
		"host private":              {func(d *vault.Draft) { d.Hosts = []string{"10.0.0.1"} }, "/hosts/0", ""},
		"host with user":            {func(d *vault.Draft) { d.Hosts = []string{bad + "@api.anthropic.com"} }, "/hosts/0", ""},
		"hosts without base_url":    {func(d *vault.Draft) { d.Hosts = []string{strings.ToLower(bad) + ".example.com"} }, "/hosts", ""},
		"too many hosts":            {func(d *vault.Draft) { d.Hosts = make([]string, 51) }, "/hosts", ""},
		"negative port":             {func(d *vault.Draft) { d.Port = -1 }, "/port", ""},
		"port over the end":         {func(d *vault.Draft) { d.Port = 65536 }, "/port", ""},
		"empty tag":                 {func(d *vault.Draft) { d.Tags = []string{"a", ""} }, "/tags/1", ""},
		"long tag":                  {func(d *vault.Draft) { d.Tags = []string{long(100)} }, "/tags/0", ""},
		"too many tags":             {func(d *vault.Draft) { d.Tags = make([]string, 51) }, "/tags", ""},
		"long notes":                {func(d *vault.Draft) { d.Notes = secret.FromString(long(10_000)) }, "/notes", ""},
		"notes not UTF-8":           {func(d *vault.Draft) { d.Notes = secret.FromString(bad + "\xff") }, "/notes", ""},
		"expiry in seconds of 1970": {func(d *vault.Draft) { d.ExpiresAt = ptr(time.Unix(12, 0)) }, "/expires_at", ""},
		"expiry in the year 20000":  {func(d *vault.Draft) { d.ExpiresAt = ptr(time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)) }, "/expires_at", ""},
		"negative rotation":         {func(d *vault.Draft) { d.RotateEvery = -1 }, "/rotate_every_days", ""},
		"rotation over the end":     {func(d *vault.Draft) { d.RotateEvery = 3651 }, "/rotate_every_days", ""},
		"oauth block of a key":      {func(d *vault.Draft) { d.OAuth.ClientID = bad }, "/oauth", ""},
		"no secret":                 {func(d *vault.Draft) { d.Secrets = nil }, "/secrets/api_key", "secret_missing"},
		"empty secret":              {func(d *vault.Draft) { d.Secrets = secrets("api_key", "") }, "/secrets/api_key", ""},
		"long secret":               {func(d *vault.Draft) { d.Secrets = secrets("api_key", long(64<<10)) }, "/secrets/api_key", ""},
		"key with a line end":       {func(d *vault.Draft) { d.Secrets = secrets("api_key", bad+"\n") }, "/secrets/api_key", ""},
		"key with a header":         {func(d *vault.Draft) { d.Secrets = secrets("api_key", bad+"\r\nx-admin: 1") }, "/secrets/api_key", ""},
		"secret and name exchanged": {func(d *vault.Draft) { d.Secrets = secrets("api_key", "k", bad, "api_key") }, "/secrets", ""},
		"field of another type":     {func(d *vault.Draft) { d.Secrets = secrets("api_key", "k", "password", bad) }, "/secrets", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := apiKey("good")
			c.change(&d)
			_, err := f.Create(t.Context(), admin, d)
			if c.code == "" {
				c.code = "validation_failed"
			}
			fe := requireCode(t, err, c.code)
			require.Equal(t, fault.Unprocessable, fe.Kind)
			require.Equal(t, []string{c.pointer}, pointers(fe))
			require.NotContains(t, strings.ToLower(fmt.Sprintf("%v %+v", fe, fe.Fields)), strings.ToLower(bad))
		})
	}
	require.Zero(t, f.count(t, `SELECT count(*) FROM credentials`))
	require.Empty(t, f.events(t), "what cannot be stored is no act")
	require.NotContains(t, f.log.String(), bad)
}

func TestBadOAuthAndCustomDrafts(t *testing.T) {
	f := newFixture(t, store.SQLite)
	for name, c := range map[string]struct {
		change  func(*vault.OAuthMeta)
		pointer string
	}{
		"scope with a space":   {func(o *vault.OAuthMeta) { o.Scopes = []string{"a", "b c"} }, "/oauth/scopes/1"},
		"too many scopes":      {func(o *vault.OAuthMeta) { o.Scopes = make([]string, 101) }, "/oauth/scopes"},
		"endpoint with a path": {func(o *vault.OAuthMeta) { o.TokenEndpoint = "/token" }, "/oauth/token_endpoint"},
		"endpoint refused":     {func(o *vault.OAuthMeta) { o.TokenEndpoint = "https://[::1]/token" }, "/oauth/token_endpoint"},
		"auth method":          {func(o *vault.OAuthMeta) { o.AuthMethod = "private_key_jwt" }, "/oauth/token_endpoint_auth_method"},
		"request format":       {func(o *vault.OAuthMeta) { o.RequestFormat = "xml" }, "/oauth/token_request_format"},
		"long client id":       {func(o *vault.OAuthMeta) { o.ClientID = strings.Repeat("x", 256) }, "/oauth/client_id"},
		"expiry":               {func(o *vault.OAuthMeta) { o.ExpiresAt = ptr(time.Unix(3600, 0)) }, "/oauth/expires_at"},
	} {
		d := oauthDraft("x", nil)
		c.change(&d.OAuth)
		_, err := f.Create(t.Context(), admin, d)
		fe, ok := fault.As(err)
		require.True(t, ok, name)
		require.Equal(t, []string{c.pointer}, pointers(fe), name)
	}
	many := map[string]secret.Value{}
	for i := range 33 {
		many[fmt.Sprintf("f%d", i)] = secret.FromString("x")
	}
	for name, c := range map[string]struct {
		given map[string]secret.Value
		code  string
	}{
		"no field":       {nil, "secret_missing"},
		"capitals":       {secrets("Pin", "x"), "validation_failed"},
		"empty name":     {secrets("", "x"), "validation_failed"},
		"long name":      {secrets(strings.Repeat("a", 65), "x"), "validation_failed"},
		"path as a name": {secrets("a/b", "x"), "validation_failed"},
		"too many":       {many, "validation_failed"},
	} {
		_, err := f.Create(t.Context(), admin, vault.Draft{Type: vault.Custom, Meta: vault.Meta{Name: "x"}, Secrets: c.given})
		require.Equal(t, []string{"/secrets"}, pointers(requireCode(t, err, c.code)), name)
	}
	_, err := f.Create(t.Context(), admin, vault.Draft{Type: vault.Custom, Meta: vault.Meta{Name: "x"}, Secrets: secrets(strings.Repeat("a", 64), "x")})
	require.NoError(t, err)
}

func TestAllProblemsAreToldAtOnce(t *testing.T) {
	f := newFixture(t, store.SQLite)
	_, err := f.Create(t.Context(), admin, vault.Draft{Type: vault.APIKey, Meta: vault.Meta{Port: -1, BaseURL: "https://127.0.0.1"}})
	require.ElementsMatch(t, []string{"/name", "/port", "/base_url", "/secrets/api_key"}, pointers(requireCode(t, err, "validation_failed")))
}

func TestAccountNamesAreUnique(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		first := f.create(t, apiKey("team"))
		_, err := f.Create(t.Context(), admin, oauthDraft("team", nil))
		require.Equal(t, []string{"/name"}, pointers(requireCode(t, err, "already_exists")))
		d := apiKey("other")
		d.AccountID = "acc_team"
		_, err = f.Create(t.Context(), admin, d)
		require.Equal(t, []string{"/account_id"}, pointers(requireCode(t, err, "already_exists")))
		d.AccountID = "acc_f9e1"
		second := f.create(t, d)
		require.Equal(t, "acc_f9e1", second.AccountID)
		_, err = f.Update(t.Context(), admin, second.ID, vault.Patch{Name: vault.To("team")}, "")
		requireCode(t, err, "already_exists")

		// Other credentials share names freely, also with accounts.
		f.create(t, password("team"))
		f.create(t, password("team"))
		noAccount := apiKey("team")
		noAccount.Provider = "github"
		require.False(t, f.create(t, noAccount).IsAccount())

		require.NoError(t, f.Delete(t.Context(), admin, first.ID, ""))
		f.create(t, apiKey("team"))
	})
}

func TestAccountNamesAreUniqueUnderConcurrentCreates(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		const racers = 12
		errs := make([]error, racers)
		var all sync.WaitGroup
		for i := range racers {
			all.Go(func() {
				d := apiKey("contested")
				if i%2 == 1 { // half of them collide by name alone
					d.AccountID = fmt.Sprintf("acc_own-%d", i)
				}
				_, errs[i] = f.Create(t.Context(), admin, d)
			})
		}
		all.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
				continue
			}
			requireCode(t, err, "already_exists")
		}
		require.Equal(t, 1, won)
		require.Equal(t, 1, f.count(t, `SELECT count(*) FROM credentials`))
		require.Len(t, f.events(t), 1, "the losers left nothing")
	})
}

func TestSuffix(t *testing.T) {
	f := newFixture(t, store.SQLite)
	for _, c := range []struct {
		kind        vault.Type
		field, v, s string
	}{
		{vault.APIKey, "api_key", "0123456789abcdef", "cdef"}, {vault.APIKey, "api_key", "0123456789abcde", ""}, {vault.SharedSecret, "secret", "0123456789abcdef", "cdef"},
		{vault.SharedSecret, "secret", "0123456789abc\nde", ""}, {vault.SharedSecret, "secret", "0123456789abcdé", ""}, {vault.JWT, "token", "eyJhbGciOiJub25lIn0.e30.", "e30."},
		{vault.Password, "password", "0123456789abcdef", ""}, {vault.ConnectionString, "connection_string", "postgres://u:p@host/0123", ""}, {vault.Custom, "token", "0123456789abcdef", ""},
	} {
		got := f.create(t, vault.Draft{Type: c.kind, Meta: vault.Meta{Name: "x"}, Secrets: secrets(c.field, c.v)})
		require.Equal(t, c.s, got.Suffix, "%s", c.kind)
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	f := newFixture(t, store.SQLite)
	check := func(*url.URL) error { return nil }
	for _, cfg := range []vault.Config{{}, {DB: f.db, Ring: f.ring, Binder: f.ring}, {DB: f.db, Binder: f.ring, CheckURL: check},
		{Ring: f.ring, Binder: f.ring, CheckURL: check}, {DB: f.db, Ring: f.ring, CheckURL: check}} {
		_, err := vault.New(cfg)
		require.Error(t, err)
	}
}
