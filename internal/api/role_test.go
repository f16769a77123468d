package api_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
)

// body encodes the operation's sample, nil when it takes none.
func (h *house) body(d *document, o operation, w world) []byte {
	h.t.Helper()
	if d.body(o) == nil {
		return nil
	}
	s := w.sample(h.t, o)
	require.NotNil(h.t, s, "%s takes a body, and world.sample has none for it", o.ID)
	b, err := json.Marshal(s)
	require.NoError(h.t, err)
	return b
}

// needs returns the permissions that the document asks for.
func (o operation) needs(t *testing.T) []identity.Permission {
	t.Helper()
	require.NotEmpty(t, o.Permission, "%s does not say which permission it needs", o)
	if o.Permission == "none" || o.Permission == "authenticated" {
		return nil
	}
	var out []identity.Permission
	for name := range strings.FieldsSeq(o.Permission) {
		out = append(out, identity.Permission(name))
	}
	return out
}

// TestInvariant14RouteByRole derives one table from the OpenAPI document, every operation by every kind of caller, and asks the real door.
func TestInvariant14RouteByRole(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		roles := map[identity.Role]string{"wizard": h.withRole("wizard")} // an unknown role may nothing
		for _, role := range identity.Roles() {
			roles[role] = h.withRole(role)
		}
		people := map[identity.Role]string{"wizard": h.person("wizard")}
		for _, role := range identity.Roles() {
			people[role] = h.person(role)
		}
		gone := h.person(identity.Administrator)
		ended := h.session(gone)
		_, err := h.client.UpdateUser(t.Context(), gone, client.UserPatch{Active: ptr(false)})
		require.NoError(t, err)
		// Programs that signed in, and callers of outside issuers with every scope that there is.
		programs, outside := map[identity.Role]string{}, map[identity.Role]string{}
		iss := h.outsideIssuer("https://roles.example.com", identity.SubjectUserID)
		for role, user := range people {
			outside[role] = outsideToken(t, iss.Issuer, user)
		}
		outsider := outsideToken(t, h.outsideIssuer("https://others.example.com", identity.SubjectOutsider).Issuer, "42")
		for _, role := range identity.Roles() {
			people := h.person(role)
			h.setPassword(people)
			programs[role] = people
		}
		scopeless, key := h.withoutScopes(), h.clientKey()
		var all identity.Scopes
		for _, row := range identity.Permissions() {
			all = append(all, row.Permission)
		}
		tokens := map[string]string{} // by the scopes
		scoped := func(scopes identity.Scopes) string {
			id := strings.Join(texts(scopes), " ")
			if tokens[id] == "" {
				tokens[id] = h.with(scopes...)
			}
			return tokens[id]
		}

		for _, o := range d.operations(t) {
			t.Run(o.String(), func(t *testing.T) {
				h := h.in(t)
				needs := o.needs(t)
				open, signedIn := o.Permission == "none", o.Permission == "authenticated"
				may := func(yes bool, no int) int {
					if open || yes {
						return 0
					}
					return no
				}
				of := func(role identity.Role) int {
					has := !slices.ContainsFunc(needs, func(p identity.Permission) bool { return !identity.RoleScopes(role).Has(p) })
					if has && role == identity.Member && o.byReach(t) {
						if row, ofTrains := trainReach()[o.ID]; ofTrains {
							return row.none
						}
						return ownership()[o.ID].of("none") // everything in this table's world is the administrator's
					}
					return may(has, 403)
				}
				type row struct {
					who, token string
					want       int           // 0 for success, else the status of the refusal
					late       func() string // makes the token when its turn comes: rotating keys ends those that were made before
				}
				table := []row{
					{who: "administrator", token: h.token, want: 0},
					{who: "no scope", token: scopeless, want: may(signedIn, 403)},
					{who: "anonymous", token: "", want: may(false, 401)},
					{who: "client key", token: key, want: may(false, 401)},
					{who: "garbage", token: "garbage", want: may(false, 401)},
					{who: "damaged token", token: h.token[:len(h.token)-3] + "000", want: may(false, 401)},
				}
				for role, user := range people {
					table = append(table, row{who: "session of " + string(role), token: h.session(user), want: of(role)})
				}
				for role, user := range programs {
					table = append(table, row{who: "program of " + string(role), late: func() string { return h.program(user) }, want: of(role)})
				}
				for role, token := range outside {
					table = append(table, row{who: "outside token of " + string(role), token: token, want: of(role)})
				}
				table = append(table, row{who: "outsider", token: outsider, want: may(signedIn, 403)}, row{who: "outside token of nobody", token: outsideToken(t, iss.Issuer, "user_nobody"), want: may(false, 401)},
					row{who: "unsigned token", token: "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", want: may(false, 401)})
				table = append(table, row{who: "session of somebody deactivated", token: ended, want: may(false, 401)}, row{who: "damaged session", token: "sbc_" + h.token[4:], want: may(false, 401)})
				for role, token := range roles {
					table = append(table, row{who: "role " + string(role), token: token, want: of(role)})
				}
				if len(needs) > 0 {
					table = append(table, row{who: "exactly the scopes", token: scoped(needs), want: 0})
				}
				for _, p := range needs {
					rest := slices.DeleteFunc(slices.Clone(all), func(q identity.Permission) bool { return q == p })
					table = append(table, row{who: "without " + string(p), token: scoped(rest), want: 403})
				}
				// Who is refused asks first: they change nothing, so that one world does for all of them, and none is refused for want of what another took.
				slices.SortStableFunc(table, func(a, b row) int { return min(b.want, 1) - min(a.want, 1) })
				turn := &turn{}
				for _, r := range table {
					if r.late != nil {
						r.token, turn.counts = r.late(), nil
					}
					t.Run(r.who, func(t *testing.T) { h.in(t).ask(d, o, turn, r.token, r.want) })
				}
			})
		}
	})
}

// turn is what those who ask for one operation share.
type turn struct {
	world *world
	used  bool // by somebody who was let in; what the operation needs may be gone
	// counts is how many rows there were after a refusal; nil when something has happened since.
	counts map[string]int
}

// ask sends the operation's sample and checks the answer: success leaves no doubt, a refusal changes nothing.
func (h *house) ask(d *document, o operation, turn *turn, token string, want int) {
	h.t.Helper()
	send := func() (world, answered) {
		if turn.world == nil {
			fresh := h.world()
			turn.world, turn.used, turn.counts = &fresh, false, nil
		}
		w := *turn.world
		if want == 0 {
			h.prepare(o, &w, token)
			turn.counts = nil
		} else if turn.counts == nil {
			turn.counts = h.countsBesideRecords()
		}
		return w, h.do(request{method: o.method, target: w.target(o), token: token, body: h.body(d, o, w)})
	}
	isSession := h.hasSession(token)
	require.False(h.t, want != 0 && turn.used, "a refusal must not be for want of what is gone")
	if turn.used && o.method == "DELETE" {
		turn.world = nil
	}
	w, a := send()
	if want == 0 && turn.used && !slices.Contains(o.success(), strconv.Itoa(a.status)) {
		turn.world = nil // whoever came before may have used it up
		w, a = send()
	}
	if want == 0 && o.sessionOnly() && !isSession {
		require.Equal(h.t, 409, a.status, "a token is no session")
		require.Equal(h.t, "state_conflict", h.problem(a).Code)
		return
	}
	if want == 0 && o.ID == "set-up" {
		// Public, but it wants a link that works, and there is an administrator already; the story of set-up shows the success.
		require.Contains(h.t, []int{401, 409}, a.status)
		require.Contains(h.t, []string{"setup_refused", "already_set_up"}, h.problem(a).Code)
		return
	}
	if want == 0 {
		require.Contains(h.t, o.success(), strconv.Itoa(a.status), "%s", a.body)
		h.headers(a)
		if o.ID == "begin-rekey" { // it goes on by itself, and must not be taken for what a refused request did
			h.rekeyed()
		}
		if s := o.Responses[strconv.Itoa(a.status)].Content["application/json"].Schema; a.status == 204 {
			require.Empty(h.t, a.body)
		} else if s != nil && o.ID != "get-openapi" && o.ID != "get-jwks" && o.ID != "get-docs" { // whose own shapes are OpenAPI's, RFC 7517's and HTML's
			var v any
			require.NoError(h.t, json.Unmarshal(a.body, &v))
			d.conforms(h.t, "", s, v)
		}
		turn.used = turn.used || o.method != "GET"
		return
	}
	require.Equal(h.t, want, a.status, "%s", a.body)
	require.Contains(h.t, o.Responses, strconv.Itoa(want), "the document does not tell of this refusal")
	p := h.problem(a)
	switch want {
	case 401:
		require.Equal(h.t, "unauthenticated", p.Code)
		require.NotEmpty(h.t, a.header.Get("WWW-Authenticate"))
	case 404:
		require.Equal(h.t, "not_found", p.Code)
	default:
		require.Contains(h.t, []string{"forbidden", "scope_missing"}, p.Code)
	}
	require.NotContains(h.t, string(a.body), w.credential)
	require.NotContains(h.t, string(a.body), w.trainSlug)
	after := h.countsBesideRecords()
	require.Equal(h.t, turn.counts, after, "a refused request changed something")
	turn.counts = after
}

// sessionOnly reports whether only the session of a person may do it, and a token is told so.
func (o operation) sessionOnly() bool {
	switch o.ID {
	case "log-out", "step-up", "offer-totp", "confirm-totp", "remove-totp", "renew-recovery-codes", "remove-passkey":
		return true
	}
	return false
}

// in returns the house for a subtest.
func (h *house) in(t *testing.T) *house {
	own := *h
	own.t = t
	return &own
}

func texts(scopes identity.Scopes) []string {
	out := make([]string, len(scopes))
	for i, s := range scopes {
		out[i] = string(s)
	}
	return out
}

// TestRefusedInputIsNotJudged: who may not, hears that and nothing of their input.
func TestRefusedInputIsNotJudged(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		token, w := h.withoutScopes(), h.world()
		for _, o := range d.operations(t) {
			if len(o.needs(t)) == 0 {
				continue
			}
			var body []byte
			if d.body(o) != nil {
				body = []byte(`{"`)
			}
			a := h.do(request{method: o.method, target: w.target(o) + "?unknown=1", token: token, body: body})
			require.Equal(t, 403, a.status, "%s: %s", o, a.body)
		}
	})
}

// TestNotFoundLooksTheSame: a thing of another train, one that never was, and an id that cannot be one get the same answer.
func TestNotFoundLooksTheSame(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		w, other := h.world(), h.world()
		require.NoError(t, h.audit.Flush(t.Context()))
		tried := 0
		for _, o := range d.operations(t) {
			var bodies []string
			for _, change := range []struct{ name, value string }{
				{"credential_id", other.credential}, {"key_id", other.key},
				{"id", "cred_00000000000000000000000000"}, {"id", "inc_00000000000000000000000000"}, {"id", "tok_00000000000000000000000000"}, {"id", "user_00000000000000000000000000"}, {"id", "ses_00000000000000000000000000"}, {"id", "jwi_00000000000000000000000000"}, {"id", "sso_00000000000000000000000000"}, {"id", "evt_00000000000000000000000000"},
				{"id", "planted"}, {"id", strings.Repeat("a", 3000)}, {"id", "'; DROP TABLE users"}, {"id", "\u00e4\U0001F511"},
				{"train_id", "nowhere"}, {"train_id", "train_00000000000000000000000000"}, {"train_id", "planted!"}, {"train_id", strings.Repeat("a", 3000)},
				{"credential_id", "cred_00000000000000000000000000"}, {"credential_id", "planted"},
				{"client_id", "client_00000000000000000000000000"}, {"client_id", "planted"}, {"client_id", strings.Repeat("a", 3000)}, {"client_id", "\u00e4\U0001F511"},
				{"service_id", "service_00000000000000000000000000"}, {"service_id", "planted"}, {"service_id", "'; DROP TABLE users"},
				{"infrastructure_id", "infra_00000000000000000000000000"}, {"infrastructure_id", "planted"}, {"infrastructure_id", strings.Repeat("a", 3000)},
				{"key_id", "key_00000000000000000000000000"}, {"key_id", "planted"},
				{"member_id", "user_00000000000000000000000000"}, {"member_id", "planted"}, {"member_id", "\u00e4\U0001F511"},
			} {
				target, ok := w.targetWith(o, change.name, change.value)
				listed := o.ID == "list-audit-logs-by-credential" || o.ID == "list-audit-logs-by-user" || o.ID == "get-blast-radius"
				if !ok || listed && strings.HasSuffix(change.value, "0000") || o.ID == "list-credentials-by-client" || o.ID == "list-incidents-by-client" {
					continue // a list of what nobody did is empty
				}
				tried++
				a := h.do(request{method: o.method, target: target, token: h.asker(o), body: h.body(d, o, w)})
				require.Equal(t, 404, a.status, "%s with %s=%.40s: %s", o, change.name, change.value, a.body)
				require.Contains(t, o.Responses, "404", "the document does not tell of this refusal")
				p := h.problem(a)
				require.Equal(t, "not_found", p.Code)
				require.Empty(t, p.Errors)
				bodies = append(bodies, change.name+": "+p.Detail)
				require.NotContains(t, string(a.body), "planted")
			}
			slices.Sort(bodies)
			byName := map[string]bool{}
			for _, b := range slices.Compact(bodies) {
				name, _, _ := strings.Cut(b, ":")
				require.False(t, byName[name], "%s tells malformed, unknown and others' ids apart: %q", o, bodies)
				byName[name] = true
			}
		}
		require.Greater(t, tried, 80)
		require.NotContains(t, h.log.String(), "planted!")
	})
}
