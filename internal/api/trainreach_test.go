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
	"signalbox.dev/signalbox/internal/store"
)

// trainRow says what an operation answers to somebody whose role reaches only what is theirs: an owner of the train, a member who made the client key that it is about, a member who did not,
// and somebody who is on another train; 0 is success.
type trainRow struct{ owner, maker, member, none int }

func (r trainRow) of(relation string) int {
	return map[string]int{"owner": r.owner, "maker": r.maker, "member": r.member, "none": r.none}[relation]
}

// trainReach is the expected table, for people to read: every operation with a permission that some role has for the trains that it is a member of. An operation that is missing here, or here
// and not in the document, fails the suite.
func trainReach() map[string]trainRow {
	return map[string]trainRow{
		//                       owner maker member none
		"list-trains":         {0, 0, 0, 0}, // with the train, or without it
		"get-train":           {0, 0, 0, 404},
		"explain-train":       {0, 0, 0, 404},
		"list-links":          {0, 0, 0, 404},
		"get-link":            {0, 0, 0, 404},
		"list-train-channels": {0, 0, 0, 404},
		"get-train-channel":   {0, 0, 0, 404},
		"get-request-logging": {0, 0, 0, 404},
		"get-kept-contents":   {0, 0, 0, 404},
		"get-request-content": {403, 403, 403, 403}, // a member has no contents:read
		"list-train-members":  {0, 0, 0, 404},
		"get-train-member":    {0, 0, 0, 404},
		"put-train-member":    {0, 403, 403, 404},
		"remove-train-member": {0, 403, 403, 404},
		"list-keys":           {0, 0, 0, 404}, // all, or their own
		"issue-key":           {0, 0, 0, 404},
		"get-key":             {0, 0, 404, 404},
		"patch-key":           {0, 0, 404, 404},
		"replace-key":         {0, 0, 404, 404},
		"revoke-key":          {0, 0, 404, 404},
		"get-usage":           {0, 0, 0, 0}, // of the train, or of none
		"get-usage-csv":       {0, 0, 0, 0},
		"list-requests-csv":   {403, 403, 403, 403},
		"list-requests":       {403, 403, 403, 403}, // they show what others sent
		"get-request":         {403, 403, 403, 403},
		"contain-incident":    {403, 403, 403, 403}, // a member has no incidents:write
		"contain-now":         {403, 403, 403, 403},
	}
}

// TestInvariant14RouteByTrain asks every operation of the document that a role may do only to trains that it is a member of, in every relation that somebody can have to a train, in person and
// by a group, private and open, and compares with the one table.
func TestInvariant14RouteByTrain(t *testing.T) {
	d := readDocument(t)
	rows := trainReach()
	known := map[string]bool{}
	for _, o := range d.operations(t) {
		known[o.ID] = true
	}
	for id := range rows {
		require.True(t, known[id], "trainReach() has a row of no operation: %s", id)
	}
	each(t, func(t *testing.T, h *house) {
		ctx, base := t.Context(), h.world()
		someone := h.limited()[0]
		outside := h.outsideIssuer("https://"+store.NewID("i")+".example.com", identity.SubjectUserID)
		elsewhere := h.world().trainSlug
		_, _, err := h.client.PutTrainMember(ctx, elsewhere, "person", someone.id, "owner", "")
		require.NoError(t, err)
		ways := []struct {
			name, kind, id, token, visibility string
		}{
			{"person", "person", someone.id, someone.token, "private"},
			{"group", "group", someone.group, someone.token, "organisation"},
			{"outside", "group", someone.group, outsideToken(t, outside.Issuer, someone.id), "private"},
		}
		for _, o := range d.operations(t) {
			row, has := rows[o.ID]
			if !has {
				continue
			}
			t.Run(o.String(), func(t *testing.T) {
				h := h.in(t)
				for _, way := range ways {
					for _, relation := range []string{"owner", "maker", "member", "none"} {
						w := base
						w.trainSlug = strings.ToLower(store.NewID("t"))
						_, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: w.trainSlug, Visibility: way.visibility})
						require.NoError(t, err)
						_, _, err = h.client.Link(ctx, w.trainSlug, client.LinkDraft{CredentialID: w.credential})
						require.NoError(t, err)
						_, err = h.client.PutTrainChannel(ctx, w.trainSlug, "slack", client.TrainChannelPatch{WebhookURL: ptr(h.hooks.URL + "/planted")})
						require.NoError(t, err)
						_, _, err = h.client.PutTrainMember(ctx, w.trainSlug, "person", w.user, "member", "") // whom the operation is about
						require.NoError(t, err)
						as, role := h.client, "member"
						switch relation {
						case "owner":
							role = "owner"
						case "maker":
							as = h.as(way.token)
						}
						if relation != "none" {
							_, _, err = h.client.PutTrainMember(ctx, w.trainSlug, way.kind, way.id, role, "")
							require.NoError(t, err)
						}
						key, err := as.IssueKey(ctx, w.trainSlug, client.KeyDraft{Name: "planted " + relation})
						require.NoError(t, err)
						w.key = key.ID
						before := h.countsBesideRecords()
						a := h.do(request{method: o.method, target: w.target(o), token: way.token, body: h.body(d, o, w)})
						if want := row.of(relation); want != 0 {
							require.Equal(t, want, a.status, "%s %s: %s", way.name, relation, a.body)
							require.Equal(t, map[int]string{403: "forbidden", 404: "not_found"}[want], h.problem(a).Code)
							require.NotContains(t, string(a.body), w.trainSlug)
							require.Equal(t, before, h.countsBesideRecords(), "%s %s: a refused request changed something", way.name, relation)
							continue
						}
						require.Contains(t, o.success(), strconv.Itoa(a.status), "%s %s: %s", way.name, relation, a.body)
						switch o.ID {
						case "list-trains":
							require.Equal(t, relation != "none", strings.Contains(string(a.body), `"`+w.trainSlug+`"`), "%s %s", way.name, relation)
						case "list-keys":
							var page client.KeyPage
							require.NoError(t, json.Unmarshal(a.body, &page))
							require.Equal(t, relation != "member", slices.ContainsFunc(page.APIKeys, func(k client.Key) bool { return k.ID == w.key }), "%s %s", way.name, relation)
						}
					}
				}
			})
		}
	})
}
