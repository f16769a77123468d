package api_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/contents"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/store"
)

// world is one thing of every kind, for requests that must succeed.
type world struct {
	credential, trainSlug, key, token, event string
	setup, user, session, invitation         string
	channel, hooks, sink                     string
	group, member, service                   string
	mcp, tied                                string // an MCP server, and a connection to one
	client, serviceID, infrastructure        string // what credentials are put under
	issuer, refresh, login                   string
	incident                                 string
	passkey, code, sso, request              string
	provider, state, device, connected       string // of OAuth
}

// told makes a request of the world's train that is in the log, and of which something is kept.
func (h *house) told(w *world) {
	h.t.Helper()
	w.request = h.requested(*w, "claude-sonnet-4-5")
	require.NoError(h.t, h.audit.Flush(h.t.Context()))
	h.kept(w.trainSlug, w.request)
}

// kept has something kept of a request of the train.
func (h *house) kept(slug, id string) {
	h.t.Helper()
	on := true
	_, err := h.client.SetRequestLogging(h.t.Context(), slug, client.RequestLoggingPatch{Enabled: &on})
	require.NoError(h.t, err)
	train, err := h.client.GetTrain(h.t.Context(), slug)
	require.NoError(h.t, err)
	h.contents.Start(context.Background())
	require.Eventually(h.t, func() bool {
		tap := h.contents.Listen(train.ID, []byte("asked"), func() contents.About { return contents.About{Request: id} })
		tap.Add([]byte("answered"))
		tap.Done()
		return tap != nil
	}, 10*time.Second, 5*time.Millisecond)
	require.Eventually(h.t, func() bool {
		var n int
		require.NoError(h.t, h.db.Read(h.t.Context(), func(tx *store.Tx) error { return tx.Get(&n, `SELECT COUNT(*) FROM request_contents WHERE id = $1`, id) }))
		return n == 1
	}, 10*time.Second, 20*time.Millisecond)
}

// world makes the things. Each call makes fresh ones, since a request may use one up.
func (h *house) world() world {
	h.t.Helper()
	ctx := h.t.Context()
	w := world{trainSlug: strings.ReplaceAll(store.NewID("t"), "_", "-"), credential: h.account(store.NewID("a")), setup: "planted-not-a-link", refresh: "planted-not-a-token", login: "planted-not-a-code", invitation: "planted-not-a-link"}
	_, err := h.client.RotateCredential(ctx, w.credential, map[string]string{"api_key": "sk-ant-planted-second"}, "")
	require.NoError(h.t, err)
	_, err = h.client.CreateTrain(ctx, client.TrainDraft{TrainID: w.trainSlug})
	require.NoError(h.t, err)
	_, _, err = h.client.Link(ctx, w.trainSlug, client.LinkDraft{CredentialID: w.credential})
	require.NoError(h.t, err)
	key, err := h.client.IssueKey(ctx, w.trainSlug, client.KeyDraft{Name: "sample"})
	require.NoError(h.t, err)
	w.key = key.ID
	channels, err := h.client.ListChannels(ctx, client.ChannelFilter{Limit: 200})
	require.NoError(h.t, err)
	if len(channels.Channels) >= 150 { // there may be 200; those of earlier worlds are used up
		for _, c := range channels.Channels {
			require.NoError(h.t, h.client.DeleteChannel(ctx, c.ID))
		}
	}
	_, err = h.client.PutTrainChannel(ctx, w.trainSlug, "slack", client.TrainChannelPatch{WebhookURL: ptr(h.hooks.URL + "/planted")})
	require.NoError(h.t, err)
	channel, err := h.client.CreateChannel(ctx, client.ChannelDraft{Kind: "slack", Name: store.NewID("n"), Secrets: map[string]string{"url": h.hooks.URL + "/planted"}})
	require.NoError(h.t, err)
	w.channel, w.hooks = channel.ID, h.hooks.URL
	sinks, err := h.client.ListSinks(ctx)
	require.NoError(h.t, err)
	if len(sinks) >= 15 { // there may be 20; those of earlier worlds are used up
		for _, s := range sinks {
			require.NoError(h.t, h.client.DeleteSink(ctx, s.ID))
		}
	}
	made, err := h.client.CreateSink(ctx, client.SinkDraft{Kind: "slack", Name: store.NewID("n"), Secrets: map[string]string{"url": h.hooks.URL + "/planted"}})
	require.NoError(h.t, err)
	w.sink = made.ID
	w.token = store.NewID("tok")
	w.mcp, w.tied = h.mcpServer(), h.mcpConnection(h.token)
	w.user, w.session = h.person(identity.Member), store.NewID("ses")
	w.issuer = h.outsideIssuer("https://"+store.NewID("i")+".example.com", identity.SubjectOutsider).ID
	w.passkey, w.code = store.NewID("psk"), "000000"
	newest, err := h.audit.Search(ctx, audit.Query{Limit: 1})
	require.NoError(h.t, err)
	w.event = newest.Events[0].ID
	w.provider, w.state, w.device = h.roomForProvider(), "planted-no-state", store.NewID("oaf")
	connected, err := h.client.CreateCredential(ctx, oauthSample(store.NewID("o"), "elsewhere"))
	require.NoError(h.t, err)
	w.connected = connected.ID
	group, err := h.client.CreateGroup(ctx, client.GroupDraft{Name: store.NewID("g")})
	require.NoError(h.t, err)
	_, _, err = h.client.AddGroupMember(ctx, group.ID, w.user) // a person may be in 200 groups
	require.NoError(h.t, err)
	_, _, err = h.client.PutTrainMember(ctx, w.trainSlug, "person", w.user, "member", "")
	require.NoError(h.t, err)
	account, err := h.client.CreateServiceAccount(ctx, client.ServiceAccountDraft{Name: store.NewID("s")})
	require.NoError(h.t, err)
	w.group, w.member, w.service = group.ID, w.user, account.ID
	w.client, w.serviceID, w.infrastructure = h.homes()
	opened, err := h.client.OpenIncident(ctx, client.IncidentDraft{Title: store.NewID("i")})
	require.NoError(h.t, err)
	w.incident = opened.ID
	if list, err := h.client.ListSSOProviders(ctx); err == nil && len(list) > 10 { // there may be only so many
		for _, p := range list {
			require.NoError(h.t, h.client.DeleteSSOProvider(ctx, p.ID))
		}
	}
	issuer, id, label := "http://127.0.0.1:1/", "signalbox", "Work"
	p, err := h.client.CreateSSOProvider(ctx, client.SSOEdit{Name: "p" + strings.ToLower(w.trainSlug[len(w.trainSlug)-20:]), Issuer: &issuer, ClientID: &id, Label: &label})
	require.NoError(h.t, err)
	w.sso = p.ID
	return w
}

// homes makes a client, a service and infrastructure, and returns their ids.
func (h *house) homes() (clientID, serviceID, infrastructureID string) {
	h.t.Helper()
	c, err := h.client.CreateCustomer(h.t.Context(), client.CustomerDraft{Name: store.NewID("c")})
	require.NoError(h.t, err)
	s, err := h.client.CreateService(h.t.Context(), client.ServiceDraft{Name: store.NewID("s")})
	require.NoError(h.t, err)
	i, err := h.client.CreateInfrastructure(h.t.Context(), client.InfrastructureDraft{Name: store.NewID("i")})
	require.NoError(h.t, err)
	return c.ID, s.ID, i.ID
}

// roomForProvider adds a provider; there may be 200, and those of earlier worlds are used up.
func (h *house) roomForProvider() string {
	h.t.Helper()
	list, err := h.client.ListOAuthProviders(h.t.Context())
	require.NoError(h.t, err)
	if len(list) > 150 {
		for _, p := range list {
			if !p.Catalogue {
				_ = h.client.DeleteOAuthProvider(h.t.Context(), p.Name) // one that is in use stays
			}
		}
	}
	return h.oauthProvider()
}

// rekeyed waits until no change of the data key is under way.
func (h *house) rekeyed() {
	h.t.Helper()
	h.rekeyer.Start(h.t.Context())
	require.Eventually(h.t, func() bool {
		at, err := h.rekeyer.Status(h.t.Context())
		return err == nil && (at.ID == "" || at.State == keyring.RekeyDone)
	}, time.Minute, 5*time.Millisecond)
}

// prepare brings the world into the state in which the operation succeeds for the caller.
func (h *house) prepare(o operation, w *world, token string) {
	h.t.Helper()
	switch o.ID {
	case "get-request-content":
		w.request = store.NewID("req")
		h.kept(w.trainSlug, w.request)
	case "begin-rekey": // one at a time
		h.rekeyed()
	case "seal": // one at a time
		require.NoError(h.t, h.db.Write(h.t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM keyring_seals`)
			return errors.Join(err, tx.Record(identity.System("test").Event(store.AdminUnseal, store.Target{Kind: "keyring"})))
		}))
	case "revoke-token": // one's own
		tok, err := h.as(token).IssueToken(h.t.Context(), client.TokenDraft{Name: "sample"})
		require.NoError(h.t, err)
		w.token = tok.ID
	case "get-user", "patch-user", "put-user": // oneself
		who, err := h.as(token).WhoAmI(h.t.Context())
		require.NoError(h.t, err)
		w.user = who.UserID
	case "end-session": // one's own
		who, err := h.as(token).WhoAmI(h.t.Context())
		require.NoError(h.t, err)
		own, err := h.as(h.session(who.UserID)).WhoAmI(h.t.Context())
		require.NoError(h.t, err)
		w.session = own.SessionID
	case "use-invitation":
		made, err := h.client.ResetPassword(h.t.Context(), w.user)
		require.NoError(h.t, err)
		w.invitation = made.Link.Token
	case "change-password", "step-up":
		who, err := h.as(token).WhoAmI(h.t.Context())
		require.NoError(h.t, err)
		h.setPassword(who.UserID)
		h.factors(operation{ID: "offer-totp"}, w, who.UserID) // none: who has one confirms that
	case "offer-totp", "confirm-totp", "remove-totp", "renew-recovery-codes", "rename-passkey", "remove-passkey":
		who, err := h.as(token).WhoAmI(h.t.Context())
		require.NoError(h.t, err)
		h.factors(o, w, who.UserID)
	case "log-in":
		h.factors(operation{ID: "offer-totp"}, w, h.user.ID) // none
	case "exchange-login-code":
		w.login = h.agreed(h.user.ID)
	case "refresh-login", "revoke-login":
		h.factors(operation{ID: "offer-totp"}, w, h.user.ID)
		in, err := h.as("").Login(h.t.Context(), adminEmail, adminPassword)
		require.NoError(h.t, err)
		w.refresh = in.RefreshToken
	case "delete-train":
		require.NoError(h.t, h.client.Unlink(h.t.Context(), w.trainSlug, w.credential))
		require.NoError(h.t, h.client.RevokeKey(h.t.Context(), w.trainSlug, w.key))
	case "finish-login":
		w.state = h.consented(h.as(token), w.provider)
	case "poll-device-login":
		begun, err := h.as(token).StartDeviceLogin(h.t.Context(), client.LoginDraft{Provider: w.provider, Name: "sample"})
		require.NoError(h.t, err)
		w.device = begun.ID
	case "get-request":
		w.request = h.requested(*w, "claude-sonnet-4-5")
	case "get-checkpoint", "prove-event":
		require.NoError(h.t, h.audit.Flush(h.t.Context()))
	case "add-group-member":
		require.NoError(h.t, h.client.RemoveGroupMember(h.t.Context(), w.group, w.member))
	case "link-credential":
		require.NoError(h.t, h.client.Unlink(h.t.Context(), w.trainSlug, w.credential))
	}
}

// asker returns who may do the operation: the administrator's token or, where a session alone can, a session of theirs.
func (h *house) asker(o operation) string {
	h.t.Helper()
	if o.sessionOnly() {
		return h.session(h.user.ID)
	}
	return h.token
}

// target fills the parameters of an operation's path.
func (w world) target(o operation) string {
	fill := map[string]string{
		"{client_id}": w.client, "{train_id}": w.trainSlug, "{credential_id}": w.credential, "{key_id}": w.key, "{n}": "1",
		"{provider}": w.provider, "{user_id}": w.member, "{service_id}": w.serviceID, "{infrastructure_id}": w.infrastructure, "{status}": "contained",
		"{kind}": "slack",
	}
	if strings.Contains(o.path, "/members/{kind}/") {
		fill["{kind}"], fill["{member_id}"] = "person", w.member
	}
	switch {
	case w.connected != "" && (strings.HasSuffix(o.path, "/connection") || strings.HasSuffix(o.path, "/refresh") && strings.HasPrefix(o.path, "/api/credentials/")):
		fill["{id}"] = w.connected
	case strings.HasPrefix(o.path, "/api/credentials/"), strings.HasPrefix(o.path, "/api/credential-audit-logs/by-credential/"), strings.HasPrefix(o.path, "/api/audit/blast-radius/"):
		fill["{id}"] = w.credential
	case strings.HasPrefix(o.path, "/api/credential-audit-logs/by-user/"):
		fill["{id}"] = store.NewID("user")
	case strings.HasPrefix(o.path, "/api/audit/sinks/"):
		fill["{id}"] = w.sink
	case strings.HasPrefix(o.path, "/api/notifications/channels/"):
		fill["{id}"] = w.channel
	case strings.HasPrefix(o.path, "/api/tokens/"):
		fill["{id}"] = w.token
	case strings.HasPrefix(o.path, "/api/oauth/device/"):
		fill["{id}"] = w.device
	case strings.HasPrefix(o.path, "/api/mcp/connections/"):
		fill["{id}"] = w.tied
	case strings.HasPrefix(o.path, "/api/mcp/servers/"):
		fill["{id}"] = w.mcp
	case strings.HasPrefix(o.path, "/api/groups/"):
		fill["{id}"] = w.group
	case strings.HasPrefix(o.path, "/api/service-accounts/"):
		fill["{id}"] = w.service
	case strings.HasPrefix(o.path, "/api/users/"):
		fill["{id}"] = w.user
	case strings.HasPrefix(o.path, "/api/auth/issuers/"):
		fill["{id}"] = w.issuer
	case strings.HasPrefix(o.path, "/api/factors/passkeys/"):
		fill["{id}"] = w.passkey
	case strings.HasPrefix(o.path, "/api/auth/sso/"):
		fill["{id}"] = w.sso
	case strings.HasPrefix(o.path, "/api/security-incidents/"):
		fill["{id}"] = w.incident
	case strings.HasPrefix(o.path, "/api/sessions/"):
		fill["{id}"] = w.session
	case strings.HasPrefix(o.path, "/api/requests/"):
		fill["{id}"] = cmp.Or(w.request, store.NewID("req"))
	default:
		fill["{id}"] = w.event
	}
	segments := strings.Split(o.path, "/")
	for i, s := range segments {
		if v, ok := fill[s]; ok {
			segments[i] = url.PathEscape(v)
		}
	}
	return strings.Join(segments, "/")
}

// sample is a body that fits the operation's schema and, in this world, its meaning. An operation with a body and no sample here fails the
// tests that are derived from the document.
func (w world) sample(t *testing.T, o operation) map[string]any {
	t.Helper()
	text := map[string]string{
		"create-credential": `{"type":"oauth","name":"n","provider":"p","description":"d","username":"u","base_url":"https://a.example.com","hosts":["a.example.com"],
			"inject":{"type":"header","name":"X-Key"},"methods":["GET"],"paths":["/a/**"],"external_url":"https://b.example.com","internal_url":"https://c.example.com","port":1,"requires_vpn":true,"requires_2fa":true,"tags":["t"],"notes":"n","owner":"o",
			"client_id":"` + w.client + `","service_id":"` + w.serviceID + `","infrastructure_id":"` + w.infrastructure + `","plugin_name":"p","expires_at":"2090-01-01T00:00:00Z","rotate_every_days":1,
			"oauth":{"expires_at":"2090-01-01T00:00:00Z","scopes":["s"],"client_id":"c","token_endpoint":"https://t.example.com","token_endpoint_auth_method":"none","token_request_format":"json"},
			"secrets":{"access_token":"a"}}`,
		"patch-credential":       `{"description":"changed","secrets":{"api_key":"k"},"reason":"r","status":"active"}`,
		"rotate-credential":      `{"secrets":{"api_key":"k"},"reason":"r"}`,
		"pause-account":          `{"reason":"r"}`,
		"drain-account":          `{"reason":"r"}`,
		"resume-account":         `{"reason":"r"}`,
		"import-credentials":     `{"files":[{"name":"p.csv","content":"` + base64.StdEncoding.EncodeToString([]byte("Title,Password\n"+store.NewID("n")+",planted\n")) + `"}],"format":"1password-csv","name":"n","passphrase":"p","dry_run":false}`,
		"export-credentials":     `{"passphrase":"correct horse battery staple","reason":"r"}`,
		"reveal-credential":      `{"field":"api_key","reason":"r"}`,
		"test-credential":        `{"offline":true}`,
		"create-train":           `{"train_id":"` + w.trainSlug + `-2","name":"n","description":"d","strategy":"hash","disabled":true,"key_limit":1,"visibility":"private"}`,
		"patch-train":            `{"name":"n","description":"d","strategy":"hash","disabled":false,"key_limit":5,"visibility":"organisation"}`,
		"put-train-member":       `{"role":"owner"}`,
		"link-credential":        `{"credential_id":"` + w.credential + `","alias":"a","priority":1}`,
		"patch-link":             `{"alias":"a","priority":1}`,
		"issue-key":              `{"name":"n","expires_at":"2090-01-01T00:00:00Z","with_session":false}`,
		"patch-key":              `{"name":"n","expires_at":"2090-01-01T00:00:00Z"}`,
		"replace-key":            `{"name":"n","expires_at":"2090-01-01T00:00:00Z","overlap_seconds":60}`,
		"issue-token":            `{"name":"n","expires_at":"2090-01-01T00:00:00Z"}`,
		"put-credential-grants":  `{"grants":[{"grantee":{"kind":"person","id":"` + w.member + `"},"use":true,"reveal":true,"manage":true,"owner":true}]}`,
		"put-client-grants":      `{"grants":[{"grantee":{"kind":"person","id":"` + w.member + `"},"use":true,"reveal":true,"manage":true}]}`,
		"put-service-grants":     `{"grants":[{"grantee":{"kind":"person","id":"` + w.member + `"},"use":true,"reveal":true,"manage":true}]}`,
		"create-client":          `{"name":"` + store.NewID("n") + `","description":"d","contact":"c"}`,
		"patch-client":           `{"name":"` + store.NewID("n") + `","description":"d","contact":"c"}`,
		"create-service":         `{"name":"` + store.NewID("n") + `","description":"d","client_id":"` + w.client + `","url":"https://a.example.com"}`,
		"patch-service":          `{"name":"` + store.NewID("n") + `","description":"d","client_id":null,"url":"https://a.example.com"}`,
		"create-infrastructure":  `{"name":"` + store.NewID("n") + `","description":"d","client_id":"` + w.client + `","kind":"network","address":"a"}`,
		"patch-infrastructure":   `{"name":"` + store.NewID("n") + `","description":"d","client_id":null,"kind":"device","address":"a"}`,
		"create-mcp-server":      `{"slug":"` + store.NewID("m") + `","name":"Files","url":"https://mcp.example.com/mcp","auth":"oauth","active":true}`,
		"patch-mcp-server":       `{"name":"Files","url":"https://mcp.example.com/mcp","auth":"none","active":false}`,
		"create-group":           `{"name":"` + store.NewID("g") + `","description":"d"}`,
		"patch-group":            `{"name":"` + store.NewID("g") + `","description":"d"}`,
		"add-group-member":       `{"user_id":"` + w.member + `"}`,
		"create-service-account": `{"name":"` + store.NewID("s") + `","description":"d","role":"member"}`,
		"patch-service-account":  `{"name":"` + store.NewID("s") + `","description":"d","role":"member","active":false}`,
		"create-user":            `{"email":"` + store.NewID("u") + `@example.com","name":"n","role":"member"}`,
		"patch-user":             `{"name":"n"}`,
		"step-up":                `{"password":"` + adminPassword + `"}`,
		"change-password":        `{"current_password":"` + adminPassword + `","new_password":"` + adminPassword + `"}`,
		"use-invitation":         `{"token":"` + w.invitation + `","password":"a long enough one"}`,
		"set-up":                 `{"token":"` + w.setup + `","email":"b@example.com","name":"b","password":"a long enough one"}`,
		"log-in":                 `{"email":"` + adminEmail + `","password":"` + adminPassword + `"}`,
		"exchange-login-code":    `{"code":"` + w.login + `","verifier":"` + loginVerifier + `"}`,
		"refresh-login":          `{"refresh_token":"` + w.refresh + `"}`,
		"revoke-login":           `{"refresh_token":"` + w.refresh + `"}`,
		"rotate-signing-keys":    `{"compromised":true}`,
		"begin-rekey":            `{"give_up":true}`,
		"seal":                   `{"reason":"somebody is in"}`,
		"create-issuer": `{"name":"` + store.NewID("i") + `","active":true,"issuer":"https://id.example.com","audience":"a","jwks_url":"https://keys.example.com/jwks","algorithms":["ES256"],
			"subject_claim":"id","subject_form":"number","subject_is":"listed","subjects":[{"subject":"7","user_id":"` + w.user + `"}],"scopes":[],"max_life_seconds":3600}`,
		"patch-issuer":      `{"any_issuer":true,"any_audience":true,"shared_secret":"planted-shared-secret-of-forty-characters","algorithms":["HS256"],"subject_form":"text","scopes":[]}`,
		"confirm-totp":      `{"code":"` + w.code + `"}`,
		"rename-passkey":    `{"name":"n"}`,
		"put-factor-policy": `{"roles":[]}`,
		"create-sso-provider": `{"name":"` + strings.ToLower(store.NewID("q")[7:]) + `","issuer":"https://id.example.com","client_id":"c","client_secret":"planted-client-secret","label":"l","enabled":true,"scopes":["email"],
			"email_claim":"email","verified_claim":"email_verified","name_claim":"name","groups_claim":"groups","allowed_domains":["example.com"],"link_domains":[],"create_people":true,
			"roles":[{"group":"g","role":"member"}],"default_role":"","second_factor":"claims","acr_values":["mfa"]}`,
		"patch-sso-provider": `{"label":"l","client_secret":"planted-client-secret"}`,
	}
	text["create-channel"] = `{"kind":"email","name":"` + w.channel + `-2","disabled":true,"severity":"info","kinds":["test"],
		"email":{"host":"mail.example.com","port":1,"tls":"starttls","username":"u","from":"a@example.com","to":["b@example.com"]},"secrets":{"password":"p"}}`
	text["patch-channel"] = `{"name":"` + w.channel + `","enabled":false,"severity":"info","kinds":["test"],"secrets":{"url":"` + w.hooks + `/planted"}}`
	text["set-request-logging"] = `{"enabled":false}`
	text["put-train-channel"] = `{"enabled":true,"webhook_url":"` + w.hooks + `/planted","channel":"#agents","username":"n","icon_emoji":":robot_face:","content":false,"severity":"info","kinds":["test"]}`
	text["put-channel"] = text["patch-channel"]
	text["create-sink"] = `{"kind":"syslog","name":"` + w.sink + `-2","carries":"checkpoints","disabled":true,"every_seconds":60,
		"syslog":{"transport":"tls","host":"logs.example.com","port":6514,"unconfirmed":true}}`
	text["patch-sink"] = `{"name":"` + w.sink + `","enabled":false,"every_seconds":60,"secrets":{"url":"` + w.hooks + `/planted"}}`
	text["put-sink"] = text["patch-sink"]
	login := `"provider":"` + w.provider + `","name":"` + store.NewID("n") + `","description":"d","base_url":"https://a.example.com","hosts":["a.example.com"],"plugin_name":"p","tags":["t"],
		"scopes":["read"],"resource":"https://a.example.com/mcp"`
	text["add-oauth-provider"] = `{"name":"` + w.provider + `-2","enabled":true,"title":"t","issuer":"https://id.example.com","names_itself":true,"authorize_url":"https://id.example.com/a",
		"token_urls":["https://id.example.com/t"],"device_url":"https://id.example.com/d","revoke_url":"https://id.example.com/r","scopes":["s"],"scope_separator":",","client_id":"c",
		"client_secret":"planted-client-secret","auth":"client_secret_post","format":"json","authorize_params":[{"name":"access_type","value":"offline"}],
		"token_headers":[{"name":"x-beta","value":"1"}],"state_in_exchange":true,"grace_seconds":30,"base_url":"https://api.example.com","hosts":["api.example.com"]}`
	text["patch-oauth-provider"] = `{"title":"t","scopes":["s"],"client_secret":"planted-client-secret","grace_seconds":1}`
	text["put-oauth-provider"] = text["patch-oauth-provider"]
	text["start-login"] = `{` + login + `,"redirect_uri":"http://127.0.0.1:49152/callback","return_to":"/account"}`
	text["finish-login"] = `{"code":"planted-code","state":"` + w.state + `"}`
	text["start-device-login"] = `{` + login + `}`
	text["login-client"] = `{` + login + `,"client_id":"c","client_secret":"planted-client-secret"}`
	text["refresh-credential"] = `{"force":false}`
	text["open-incident"] = `{"title":"t","incident_type":"phishing","severity":"high","description":"d","findings":"f","remediation_steps":"r","incident_date":"2020-01-01T00:00:00Z","client_id":"` + w.client + `",
		"service_id":"` + w.serviceID + `","infrastructure_id":"` + w.infrastructure + `","credential_ids":["` + w.credential + `"],"user_ids":["` + w.user + `"],"service_account_ids":["` + w.service + `"],
		"train_ids":["` + w.trainSlug + `"],"key_ids":["` + w.key + `"]}`
	text["patch-incident"] = `{"title":"t","incident_type":"other","severity":"low","status":"monitoring","note":"n","description":"d","findings":"f","remediation_steps":null,"incident_date":"2020-01-01T00:00:00Z",
		"client_id":null,"service_id":"` + w.serviceID + `","infrastructure_id":null,"credential_ids":[],"user_ids":null,"service_account_ids":[],"train_ids":["` + w.trainSlug + `"],"key_ids":[]}`
	text["put-incident"] = text["patch-incident"]
	text["contain-incident"] = `{"scope":{"key_ids":["` + w.key + `"],"train_ids":["` + w.trainSlug + `"]},"dry_run":false,"note":"n"}`
	text["contain-now"] = `{"incident":{"title":"t","incident_type":"phishing","severity":"high","description":"d","incident_date":"2020-01-01T00:00:00Z"},"scope":{"key_ids":["` + w.key + `"],"train_ids":["` + w.trainSlug + `"]},"dry_run":false,"note":"n"}`
	text["add-incident-note"] = `{"text":"t"}`
	text["put-credential"], text["put-train"], text["put-user"] = text["patch-credential"], text["patch-train"], text["patch-user"]
	text["put-sso-provider"] = text["patch-sso-provider"]
	text["put-client"], text["put-service"], text["put-infrastructure"] = text["patch-client"], text["patch-service"], text["patch-infrastructure"]
	if text[o.ID] == "" {
		return nil
	}
	var out map[string]any
	require.NoError(t, json.Unmarshal([]byte(text[o.ID]), &out), o.ID)
	return out
}

// oauthSample is a credential of type oauth whose token is not near its end.
func oauthSample(name, provider string) client.CredentialDraft {
	ends := time.Now().Add(time.Hour)
	return client.CredentialDraft{Type: "oauth", Name: name, Provider: provider, OAuth: &client.OAuth{ExpiresAt: &ends},
		Secrets: map[string]string{"access_token": "planted-access-0123456789", "refresh_token": "planted-refresh-0123456789"}}
}

// targetWith fills the operation's path with one parameter replaced; false when the path has no such parameter.
func (w world) targetWith(o operation, name, value string) (string, bool) {
	if !strings.Contains(o.path, "{"+name+"}") {
		return "", false
	}
	changed := o
	changed.path = strings.ReplaceAll(o.path, "{"+name+"}", url.PathEscape(value))
	return w.target(changed), true
}
