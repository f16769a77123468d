package api_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// reachRow says what an operation answers to a caller whose role reaches only what they own and were granted: 0 is success.
type reachRow struct{ own, use, reveal, manage, none int }

func (r reachRow) of(relation string) int {
	verb, _, _ := strings.Cut(relation, " ")
	return map[string]int{"own": r.own, "use": r.use, "reveal": r.reveal, "manage": r.manage, "none": r.none}[verb]
}

// ownership is the expected table, for people to read: every operation with a permission that some role has for its own and what was
// granted to it. An operation that is missing here, or here and not in the document, fails the suite.
func ownership() map[string]reachRow {
	return map[string]reachRow{
		//                           own  use  reveal manage none
		"get-credential":             {0, 0, 0, 0, 404},
		"list-credential-versions":   {0, 0, 0, 0, 404},
		"reveal-credential":          {0, 403, 0, 403, 404},
		"test-credential":            {0, 0, 403, 403, 404},
		"patch-credential":           {0, 403, 403, 0, 404},
		"put-credential":             {0, 403, 403, 0, 404},
		"rotate-credential":          {0, 403, 403, 0, 404},
		"restore-credential":         {0, 403, 403, 0, 404},
		"pause-account":              {0, 403, 403, 0, 404},
		"drain-account":              {0, 403, 403, 0, 404},
		"resume-account":             {0, 403, 403, 0, 404},
		"delete-credential":          {0, 403, 403, 0, 404},
		"get-credential-grants":      {0, 403, 403, 0, 404},
		"put-credential-grants":      {0, 403, 403, 0, 404},
		"list-mcp-connections":       {0, 0, 0, 0, 0},           // with those of one's own, or none
		"delete-mcp-connection":      {404, 404, 404, 404, 404}, // the sample is the administrator's; the story shows one's own
		"get-client-grants":          {404, 404, 404, 0, 404},   // the relation is to the client
		"put-client-grants":          {404, 404, 404, 0, 404},
		"get-service-grants":         {404, 404, 404, 0, 404},
		"put-service-grants":         {404, 404, 404, 0, 404},
		"get-client":                 {404, 0, 0, 0, 404}, // the relation is to a credential that names it; one's own names none
		"patch-client":               {404, 403, 403, 403, 404},
		"put-client":                 {404, 403, 403, 403, 404},
		"delete-client":              {404, 403, 403, 403, 404},
		"list-clients":               {0, 0, 0, 0, 0},
		"create-client":              {403, 403, 403, 403, 403},
		"get-service":                {404, 0, 0, 0, 404},
		"patch-service":              {404, 403, 403, 403, 404},
		"put-service":                {404, 403, 403, 403, 404},
		"delete-service":             {404, 403, 403, 403, 404},
		"list-services":              {0, 0, 0, 0, 0},
		"create-service":             {403, 403, 403, 403, 403},
		"get-infrastructure":         {404, 0, 0, 0, 404},
		"patch-infrastructure":       {404, 403, 403, 403, 404},
		"put-infrastructure":         {404, 403, 403, 403, 404},
		"delete-infrastructure":      {404, 403, 403, 403, 404},
		"list-infrastructure":        {0, 0, 0, 0, 0},
		"create-infrastructure":      {403, 403, 403, 403, 403},
		"list-credentials":           {0, 0, 0, 0, 0}, // with the credential, or without it
		"list-credentials-by-client": {0, 0, 0, 0, 0},
		"create-credential":          {403, 403, 403, 403, 403}, // the sample is put under a client; TestStoryGrants shows the rest
		"link-credential":            {403, 403, 403, 403, 403}, // a member has no trains:write; what is of trains is in trainReach
		"get-connection":             {0, 0, 0, 0, 404},
		"refresh-credential":         {0, 403, 403, 0, 404},
		"list-connections":           {0, 0, 0, 0, 0},
		"start-login":                {0, 0, 0, 0, 0}, // for a new credential; TestStoryLogin shows the rest
		"finish-login":               {0, 0, 0, 0, 0},
		"start-device-login":         {0, 0, 0, 0, 0},
		"poll-device-login":          {0, 0, 0, 0, 0},
		"login-client":               {0, 0, 0, 0, 0},
		"import-credentials":         {0, 0, 0, 0, 0}, // what one imports is one's own
		"export-credentials":         {0, 0, 0, 0, 0}, // what one may reveal, which may be nothing
	}
}

// byReach reports whether a permission of the operation is one that some role has only for its own and what was granted to it.
func (o operation) byReach(t *testing.T) bool {
	t.Helper()
	for _, p := range o.needs(t) {
		for _, row := range identity.Permissions() {
			if row.Permission == p && len(row.Granted) > 0 {
				return true
			}
		}
	}
	return false
}

// relations are the ways in which a caller can stand to a credential.
func relations() []string {
	out := []string{"own", "none"}
	for _, verb := range []string{"use", "reveal", "manage"} {
		for _, way := range []string{"directly", "group", "client", "service"} {
			out = append(out, verb+" "+way)
		}
	}
	return out
}

// limited is a caller whose role reaches only what they own and were granted.
type limited struct {
	kind, id, token string
	group           string // "" when the caller can be in none
	provider        string // an OAuth server, which no operation of the table changes
}

// limited returns a person of the role member, in a group, a service account of the same role, and that person by the token of an outside issuer.
func (h *house) limited() []limited {
	h.t.Helper()
	ctx := h.t.Context()
	token := h.withRole(identity.Member)
	who, err := h.as(token).WhoAmI(ctx)
	require.NoError(h.t, err)
	g, err := h.client.CreateGroup(ctx, client.GroupDraft{Name: store.NewID("g")})
	require.NoError(h.t, err)
	_, added, err := h.client.AddGroupMember(ctx, g.ID, who.UserID)
	require.NoError(h.t, err)
	require.True(h.t, added)
	a, err := h.client.CreateServiceAccount(ctx, client.ServiceAccountDraft{Name: store.NewID("s")})
	require.NoError(h.t, err)
	issued, err := h.client.IssueToken(ctx, client.TokenDraft{ServiceAccountID: a.ID, Name: "t"})
	require.NoError(h.t, err)
	// For whom an outside issuer speaks, has what they have.
	iss := h.outsideIssuer("https://"+store.NewID("i")+".example.com", identity.SubjectUserID)
	provider := h.oauthProvider()
	return []limited{{"person", who.UserID, token, g.ID, provider}, {"service_account", a.ID, issued.Secret, "", provider},
		{"person", who.UserID, outsideToken(h.t, iss.Issuer, who.UserID), g.ID, provider}}
}

// related makes a credential to which the caller stands so, and the target and body of the operation on it.
func (h *house) related(d *document, o operation, l limited, relation string) (credential, target string, body []byte) {
	h.t.Helper()
	ctx := h.t.Context()
	verb, way, _ := strings.Cut(relation, " ")
	w := world{member: h.user.ID, trainSlug: "nowhere", provider: l.provider}
	w.client, w.serviceID, w.infrastructure = h.homes()
	as := h.client
	draft := client.CredentialDraft{Type: "api_key", Name: store.NewID("a"), Provider: "anthropic", Secrets: map[string]string{"api_key": "sk-ant-planted-0123456789"}}
	if verb == "own" {
		as = h.as(l.token)
	} else if verb != "none" || !slices.Contains([]string{"delete-client", "delete-service", "delete-infrastructure"}, o.ID) { // an operator must be able to
		draft.ClientID, draft.ServiceID, draft.InfrastructureID = w.client, w.serviceID, w.infrastructure
	}
	switch o.ID {
	case "get-connection", "refresh-credential":
		oauth := oauthSample(draft.Name, w.provider)
		oauth.ClientID, oauth.ServiceID, oauth.InfrastructureID = draft.ClientID, draft.ServiceID, draft.InfrastructureID
		draft = oauth
	case "delete-mcp-connection":
		w.tied = h.mcpConnection(h.token)
	case "finish-login":
		w.state = h.consented(h.as(l.token), w.provider)
	case "poll-device-login":
		begun, err := h.as(l.token).StartDeviceLogin(ctx, client.LoginDraft{Provider: w.provider, Name: "n"})
		require.NoError(h.t, err)
		w.device = begun.ID
	}
	made, err := as.CreateCredential(ctx, draft)
	require.NoError(h.t, err)
	if draft.Type == "oauth" {
		_, err = as.RotateCredential(ctx, made.ID, map[string]string{"client_secret": "planted-client-secret"}, "")
	} else {
		_, err = as.RotateCredential(ctx, made.ID, map[string]string{"api_key": "sk-ant-planted-second"}, "")
	}
	require.NoError(h.t, err)
	w.credential = made.ID

	grant := client.GrantDraft{Grantee: client.GranteeRef{Kind: l.kind, ID: l.id}, Use: verb == "use", Reveal: verb == "reveal", Manage: verb == "manage"}
	// Operations on a client's or a service's grants look at what stands there.
	if strings.HasSuffix(o.ID, "-client-grants") && way != "" {
		way = "client"
	}
	if strings.HasSuffix(o.ID, "-service-grants") && way != "" {
		way = "service"
	}
	switch way {
	case "directly":
		h.grant(made.ID, grant)
	case "group":
		grant.Grantee = client.GranteeRef{Kind: "group", ID: l.group}
		h.grant(made.ID, grant)
	case "client":
		_, err = h.client.SetClientGrants(ctx, w.client, client.GrantsDraft{Grants: []client.GrantDraft{grant}})
	case "service":
		_, err = h.client.SetServiceGrants(ctx, w.serviceID, client.GrantsDraft{Grants: []client.GrantDraft{grant}})
	}
	require.NoError(h.t, err)
	body = h.body(d, o, w)
	if strings.HasPrefix(o.ID, "put-") && strings.HasSuffix(o.ID, "-grants") {
		// One who manages keeps the owners and gives what they have.
		a := h.do(request{method: "GET", target: w.target(o), token: h.token})
		require.Equal(h.t, 200, a.status)
		var g client.Grants
		require.NoError(h.t, json.Unmarshal(a.body, &g))
		list := drafts(g)
		if relation == "own" || verb == "manage" {
			list = append(list, client.GrantDraft{Grantee: client.GranteeRef{Kind: "group", ID: h.otherGroup()}, Manage: true})
		}
		body, err = json.Marshal(client.GrantsDraft{Grants: list})
		require.NoError(h.t, err)
	}
	target = w.target(o)
	if strings.HasPrefix(o.ID, "list-credentials") {
		target += "?limit=1000" // those of the rows before are there as well
	}
	return made.ID, target, body
}

func (h *house) otherGroup() string {
	h.t.Helper()
	g, err := h.client.CreateGroup(h.t.Context(), client.GroupDraft{Name: store.NewID("g")})
	require.NoError(h.t, err)
	return g.ID
}

// grant adds a grant to those of a credential, or replaces the grantee's.
func (h *house) grant(credential string, add client.GrantDraft) {
	h.t.Helper()
	ctx := h.t.Context()
	g, err := h.client.CredentialGrants(ctx, credential)
	require.NoError(h.t, err)
	list := slices.DeleteFunc(drafts(g), func(d client.GrantDraft) bool { return d.Grantee == add.Grantee })
	_, err = h.client.SetCredentialGrants(ctx, credential, client.GrantsDraft{Grants: append(list, add), IfMatch: g.ETag})
	require.NoError(h.t, err)
}

func drafts(g client.Grants) []client.GrantDraft {
	out := []client.GrantDraft{}
	for _, x := range g.Grants {
		out = append(out, client.GrantDraft{Grantee: client.GranteeRef{Kind: x.Grantee.Kind, ID: x.Grantee.ID}, Use: x.Use, Reveal: x.Reveal, Manage: x.Manage, Owner: x.Owner})
	}
	return out
}

// TestInvariant14RouteByOwnership asks every operation of the document that a role may do only to its own and what was granted to it, in
// every relation that a caller can have to a credential, and compares with the one table. Out of reach is as absent: the same answer, after
// as many statements.
func TestInvariant14RouteByOwnership(t *testing.T) {
	d := readDocument(t)
	rows := ownership()
	known := map[string]bool{}
	for _, o := range d.operations(t) {
		known[o.ID] = true
		_, has := rows[o.ID]
		_, ofTrains := trainReach()[o.ID]
		require.Equal(t, o.byReach(t), has != ofTrains, "%s needs a row in ownership() or in trainReach(), or has one and needs none", o)
	}
	for id := range rows {
		require.True(t, known[id], "ownership() has a row of no operation: %s", id)
	}
	each(t, func(t *testing.T, h *house) {
		callers := h.limited()
		operator, auditor := h.withRole(identity.Operator), h.withRole(identity.Auditor)
		for _, o := range d.operations(t) {
			row, has := rows[o.ID]
			if !has {
				continue
			}
			t.Run(o.String(), func(t *testing.T) {
				h := h.in(t)
				for _, l := range callers {
					for _, relation := range relations() {
						if strings.HasSuffix(relation, "group") && l.group == "" {
							continue
						}
						credential, target, body := h.related(d, o, l, relation)
						before := h.holding(credential)
						a := h.do(request{method: o.method, target: target, token: l.token, body: body})
						if want := row.of(relation); want != 0 {
							require.Equal(t, want, a.status, "%s %s: %s", l.kind, relation, a.body)
							require.Equal(t, map[int]string{403: "forbidden", 404: "not_found"}[want], h.problem(a).Code)
							require.Equal(t, before, h.holding(credential), "%s %s: a refused request changed something", l.kind, relation)
							continue
						}
						require.Contains(t, o.success(), strconv.Itoa(a.status), "%s %s: %s", l.kind, relation, a.body)
						if strings.HasPrefix(o.ID, "list-credentials") {
							require.Equal(t, relation != "none" && (relation != "own" || o.ID == "list-credentials"), strings.Contains(string(a.body), credential), "%s %s", l.kind, relation)
						}
					}
				}
				// Roles of another reach: grants give an auditor nothing, and an operator needs none.
				credential, target, body := h.related(d, o, callers[0], "none")
				if o.ID != "link-credential" && o.ID != "finish-login" && o.ID != "poll-device-login" { // those two are of who began
					require.Contains(t, o.success(), strconv.Itoa(h.do(request{method: o.method, target: target, token: operator, body: body}).status), "operator")
				}
				if o.method != http.MethodGet {
					credential, target, body = h.related(d, o, callers[0], "none")
					require.Equal(t, 403, h.do(request{method: o.method, target: target, token: auditor, body: body}).status, "auditor")
				}
				_ = credential
			})
		}
	})
}

// holding is what the database holds of a credential and of everything that was granted.
func (h *house) holding(credential string) string {
	h.t.Helper()
	var text, sum string
	require.NoError(h.t, h.db.Read(h.t.Context(), func(tx *store.Tx) error {
		if err := tx.Get(&text, `SELECT CAST(version AS TEXT) || '-' || CAST(revision AS TEXT) || name || description FROM credentials WHERE id = $1`, credential); err != nil {
			return err
		}
		return tx.Get(&sum, `SELECT CAST(COUNT(*) AS TEXT) || '-' || CAST(COALESCE(SUM(may_use + 3 * may_reveal + 9 * may_manage + 27 * owner), 0) AS TEXT) FROM grants`)
	}))
	return text + "|" + sum
}

var (
	requestID    = regexp.MustCompile(`req_[0-9a-z]{26}`)
	connectionID = regexp.MustCompile(`mcn_[0-9a-z]{26}`)
)

// TestOutOfReachIsAbsent: nobody can tell a credential that they have no right to from one that does not exist, by the answer or by the work
// that it took.
func TestOutOfReachIsAbsent(t *testing.T) {
	d := readDocument(t)
	rows := ownership()
	each(t, func(t *testing.T, h *house) {
		tried := 0
		for _, l := range h.limited() {
			for _, o := range d.operations(t) {
				if row, has := rows[o.ID]; !has || row.none != 404 || !strings.Contains(o.path, "{id}") {
					continue
				}
				tried++
				credential, there, body := h.related(d, o, l, "none")
				away := connectionID.ReplaceAllString(strings.Replace(there, credential, store.NewID("cred"), 1), store.NewID("mcn"))
				require.NotEqual(t, there, away, "%s", o)
				ask := func(target string) (answered, int64) {
					least := int64(1 << 62)
					var a answered
					for range 4 { // a chore in the background can only add to it
						before := h.db.Statements()
						a = h.do(request{method: o.method, target: target, token: l.token, body: body})
						least = min(least, h.db.Statements()-before)
					}
					return a, least
				}
				a, worked := ask(there)
				b, worked2 := ask(away)
				require.Equal(t, 404, a.status, "%s: %s", o, a.body)
				require.Equal(t, a.status, b.status)
				require.Equal(t, requestID.ReplaceAllString(string(a.body), "req"), requestID.ReplaceAllString(string(b.body), "req"), "%s", o)
				require.Equal(t, worked2, worked, "%s takes another number of statements for one that exists", o)
				require.Positive(t, worked, "%s", o)
				headers := func(x answered) []string {
					return slices.Sorted(maps.Keys(x.header))
				}
				require.Equal(t, headers(a), headers(b))
				require.Len(t, b.body, len(a.body))
			}
		}
		require.Equal(t, 51, tried)
	})
}
