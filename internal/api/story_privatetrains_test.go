package api_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// privateWorld is a world whose train is private and the administrator's.
func (h *house) privateWorld() (w world, trainID string) {
	h.t.Helper()
	w = h.world()
	ctx := h.t.Context()
	_, err := h.client.RemoveTrainMember(ctx, w.trainSlug, "person", w.user, "")
	require.NoError(h.t, err)
	made, err := h.client.UpdateTrain(ctx, w.trainSlug, client.TrainPatch{Visibility: ptr("private"), Name: ptr("Planted name " + w.trainSlug)})
	require.NoError(h.t, err)
	require.Equal(h.t, "private", made.Visibility)
	return w, made.ID
}

// refusedAlike is what a refusal says, but for who asked when.
func (h *house) refusedAlike(a answered) (int, client.Problem) {
	h.t.Helper()
	p := h.problem(a)
	p.RequestID = ""
	return a.status, p
}

// TestAPrivateTrainIsAsNone: every operation that names a train answers an operator who does not reach it as if there were none, by slug and by id, and changes nothing; and so it answers
// somebody with the role of a member of any train on which they are not, an open one too. Who is a member reads it, also with that role.
func TestAPrivateTrainIsAsNone(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		w, id := h.privateWorld()
		outside, members := h.withRole(identity.Operator), []string{h.withRole(identity.Operator), h.withRole(identity.Member)}
		for _, member := range members {
			who, err := h.as(member).WhoAmI(t.Context())
			require.NoError(t, err)
			_, added, err := h.client.PutTrainMember(t.Context(), w.trainSlug, "person", who.UserID, "member", "")
			require.NoError(t, err)
			require.True(t, added)
		}
		// Somebody with the role of a member who is on another train, and on none.
		none, elsewhere := h.withRole(identity.Member), h.withRole(identity.Member)
		on := h.world()
		them, err := h.as(elsewhere).WhoAmI(t.Context())
		require.NoError(t, err)
		_, _, err = h.client.PutTrainMember(t.Context(), on.trainSlug, "person", them.UserID, "owner", "")
		require.NoError(t, err)
		open := h.world()
		opened, err := h.client.GetTrain(t.Context(), open.trainSlug)
		require.NoError(t, err)
		tried := 0
		for _, o := range d.operations(t) {
			if !strings.Contains(o.path, "{train_id}") {
				continue
			}
			tried++
			before := h.countsBesideRecords()
			nowhere, ok := w.targetWith(o, "train_id", "nowhere-at-all")
			require.True(t, ok)
			status, want := h.refusedAlike(h.do(request{method: o.method, target: nowhere, token: outside, body: h.body(d, o, w)}))
			if o.ID == "purge-contents" { // for administrators alone, whatever the train
				require.Equal(t, 403, status)
			} else {
				require.Equal(t, 404, status, "%s", o)
			}
			for _, ref := range []string{w.trainSlug, id} {
				target, _ := w.targetWith(o, "train_id", ref)
				for _, header := range []http.Header{nil, {"If-Match": {"*"}}, {"Idempotency-Key": {store.NewID("idem")}}} {
					got, p := h.refusedAlike(h.do(request{method: o.method, target: target, token: outside, body: h.body(d, o, w), header: header}))
					require.Equal(t, status, got, "%s", o)
					require.Equal(t, want, p, "%s tells a private train from none", o)
				}
			}
			for _, token := range []string{none, elsewhere} {
				status, want := h.refusedAlike(h.do(request{method: o.method, target: nowhere, token: token, body: h.body(d, o, w)}))
				if slices.ContainsFunc(o.needs(t), func(p identity.Permission) bool { return p.Of(identity.Member) == identity.Nothing }) {
					require.Equal(t, 403, status, "%s", o)
				} else {
					require.Equal(t, 404, status, "%s", o)
				}
				for _, hidden := range []struct {
					world
					ref string
				}{{w, w.trainSlug}, {w, id}, {open, open.trainSlug}, {open, opened.ID}} {
					target, _ := hidden.targetWith(o, "train_id", hidden.ref)
					for _, header := range []http.Header{nil, {"If-Match": {"*"}}, {"Idempotency-Key": {store.NewID("idem")}}} {
						got, p := h.refusedAlike(h.do(request{method: o.method, target: target, token: token, body: h.body(d, o, hidden.world), header: header}))
						require.Equal(t, status, got, "%s", o)
						require.Equal(t, want, p, "%s tells a train from none", o)
					}
				}
			}
			require.Equal(t, before, h.countsBesideRecords(), "%s changed something", o)
			for i, member := range members {
				target := w.target(o)
				switch {
				case o.method != "GET" || i == 1 && o.ID == "get-key": // which is the administrator's
					continue
				case o.ID == "get-train-member": // the administrator is one
					target = "/api/trains/" + w.trainSlug + "/members/person/" + h.user.ID
				}
				a := h.do(request{method: "GET", target: target, token: member})
				require.Equal(t, 200, a.status, "%s for a member: %s", o, a.body)
			}
		}
		require.Greater(t, tried, 20)
		for _, token := range []string{outside, none, elsewhere} {
			require.Equal(t, 404, h.do(request{method: "GET", target: "/api/credentials?train_id=" + w.trainSlug, token: token}).status)
		}
		require.Equal(t, 404, h.do(request{method: "GET", target: "/api/credentials?train_id=" + open.trainSlug, token: elsewhere}).status)
		_, err = h.as(outside).CreateTrain(t.Context(), client.TrainDraft{TrainID: w.trainSlug})
		requireRefused(t, err, 409, "already_exists")
		require.NotContains(t, err.Error(), w.trainSlug)
		_, err = h.as(outside).SetCredentialGrants(t.Context(), w.credential, client.GrantsDraft{Grants: []client.GrantDraft{{Grantee: client.GranteeRef{Kind: "train", ID: w.trainSlug}, Use: true}}})
		requireRefused(t, err, 422, "validation_failed")
	})
}

// TestAPrivateTrainIsToldNowhere: no list, sum, search, timeline or delivery that an operator reads names a private train that is not theirs, or its key; a member, an auditor and an
// administrator read of it. Somebody with the role of a member is told of the train that they are on, and of no other, whether it is private or open.
func TestAPrivateTrainIsToldNowhere(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		w, id := h.privateWorld()
		_, err := h.client.UpdateKey(ctx, w.trainSlug, w.key, client.KeyPatch{Name: ptr("plantedkey")})
		require.NoError(t, err)
		_, err = h.client.SetCredentialGrants(ctx, w.credential, client.GrantsDraft{Grants: []client.GrantDraft{{Grantee: client.GranteeRef{Kind: "train", ID: w.trainSlug}, Use: true}}})
		require.NoError(t, err)
		h.used(w, "claude-sonnet-4-5", store.Str("usage", "complete"), store.Str("model", "claude-sonnet-4-5-20250929"), store.Int("input_tokens", 7_700_077), store.Int("output_tokens", 1))
		w.request = h.requested(w, "claude-sonnet-4-5", store.Str("result", "ok"), store.Str("usage", "unknown"))
		h.addUp()
		// An incident that names both in every way, opened by who reaches them.
		opened, err := h.client.OpenIncident(ctx, client.IncidentDraft{Title: "Leak in " + w.trainSlug, Description: "The key plantedkey of " + w.trainSlug + ".", TrainIDs: []string{w.trainSlug}, KeyIDs: []string{w.key}})
		require.NoError(t, err)
		_, err = h.client.AddIncidentNote(ctx, opened.ID, "plantedkey was seen")
		require.NoError(t, err)
		_, err = h.client.OpenIncident(ctx, client.IncidentDraft{Title: "The key plantedkey was lost", KeyIDs: []string{w.key}}) // the train is known by the key alone
		require.NoError(t, err)
		w.incident = opened.ID
		_, err = h.client.TestTrainChannel(ctx, w.trainSlug, "slack")
		require.NoError(t, err)
		outside, auditor, member := h.withRole(identity.Operator), h.withRole(identity.Auditor), h.withRole(identity.Operator)
		who, err := h.as(member).WhoAmI(ctx)
		require.NoError(t, err)
		group, err := h.client.CreateGroup(ctx, client.GroupDraft{Name: store.NewID("g")})
		require.NoError(t, err)
		_, _, err = h.client.AddGroupMember(ctx, group.ID, who.UserID)
		require.NoError(t, err)
		_, _, err = h.client.PutTrainMember(ctx, w.trainSlug, "group", group.Name, "member", "")
		require.NoError(t, err)
		// With the role of a member: one on this train by the group, one on another, one on none. A second train is open and nobody's.
		on, off, none := h.withRole(identity.Member), h.withRole(identity.Member), h.withRole(identity.Member)
		other, open := h.world(), h.world()
		for token, join := range map[string]func(user string) error{
			on: func(user string) error { _, _, err := h.client.AddGroupMember(ctx, group.ID, user); return err },
			off: func(user string) error {
				_, _, err := h.client.PutTrainMember(ctx, other.trainSlug, "person", user, "member", "")
				return err
			},
		} {
			who, err := h.as(token).WhoAmI(ctx)
			require.NoError(t, err)
			require.NoError(t, join(who.UserID))
		}
		h.used(open, "claude-sonnet-4-5", store.Str("usage", "complete"), store.Str("model", "claude-sonnet-4-5-20250929"), store.Int("input_tokens", 8_800_088), store.Int("output_tokens", 1))
		h.addUp()
		outsiders := []string{outside, off, none}

		var targets []string
		for _, o := range d.operations(t) {
			if o.method == "GET" && !strings.Contains(o.path, "{train_id}") && o.ID != "get-docs" && o.ID != "get-openapi" {
				targets = append(targets, w.target(o))
			}
		}
		for _, by := range []string{"", "train", "client_key", "credential", "model", "hour", "day,train,client_key", "month,credential"} {
			targets = append(targets, "/api/usage?group_by="+url.QueryEscape(by), "/api/usage.csv?group_by="+url.QueryEscape(by))
		}
		targets = append(targets, "/api/trains?q="+w.trainSlug[:9], "/api/usage?train_id="+w.trainSlug+"&group_by=train", "/api/usage?train_id="+id, "/api/usage?client_key_id="+w.key, "/api/usage?group_by=client_key&credential_id="+w.credential,
			"/api/security-incidents?q="+url.QueryEscape("leak "+w.trainSlug), "/api/security-incidents?touches=train:"+id, "/api/security-incidents?touches=key:"+w.key)
		told := func(token string) (names, sums int) {
			for _, target := range targets {
				a := h.do(request{method: "GET", target: target, token: token})
				body := string(a.body)
				if strings.Contains(body, w.trainSlug) || strings.Contains(body, "plantedkey") {
					names++
					require.NotContains(t, outsiders, token, "%s names it: %s", target, a.body)
				}
				if !strings.Contains(target, "/grants") && (strings.Contains(body, id) || strings.Contains(body, `"`+w.key)) {
					require.NotContains(t, outsiders, token, "%s has its id: %s", target, a.body)
				}
				if slices.Contains([]string{on, off, none}, token) {
					require.NotContains(t, body, open.trainSlug, target)
					require.NotContains(t, body, open.key, target)
					require.NotContains(t, body, "8800088", target)
					require.NotContains(t, body, "16500165", "%s has the sum of both", target)
				}
				if strings.Contains(body, "7700077") {
					sums++
				}
			}
			return names, sums
		}
		for _, token := range outsiders {
			_, sums := told(token)
			require.Zero(t, sums, "its usage is in a sum")
		}
		for _, token := range []string{h.token, auditor, member, on} {
			names, sums := told(token)
			require.Greater(t, names, 4)
			if token == on || token == member {
				require.Greater(t, sums, 8)
			}
		}

		// What an operator reads of the incident in the place of names does not take their place when it is sent back, and links that they do not see stay.
		op := h.as(outside)
		seen, err := op.GetIncident(ctx, opened.ID)
		require.NoError(t, err)
		require.Equal(t, "Leak in a private train", seen.Title)
		_, err = op.UpdateIncident(ctx, opened.ID, client.IncidentPatch{Title: &seen.Title, Description: &seen.Description, Findings: ptr("none yet"), TrainIDs: &[]string{}, KeyIDs: &[]string{}})
		require.NoError(t, err)
		kept, err := h.client.GetIncident(ctx, opened.ID)
		require.NoError(t, err)
		require.Equal(t, "Leak in "+w.trainSlug, kept.Title)
		require.Equal(t, "none yet", kept.Findings)
		require.Len(t, kept.Touches, 2)

		// When it is deleted, what is left of it is told as little.
		require.NoError(t, h.client.DeleteTrain(ctx, w.trainSlug, true))
		for _, token := range append(outsiders, on) {
			_, sums := told(token)
			require.Zero(t, sums)
		}
	})
}

// TestStoryPrivateTrain: a train is made private, shared, and handed on; the last owner stays, and who is taken away loses their keys.
func TestStoryPrivateTrain(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		ownerToken, otherToken := h.withRole(identity.Operator), h.withRole(identity.Operator)
		owner, other := h.as(ownerToken), h.as(otherToken)
		me, err := owner.WhoAmI(ctx)
		require.NoError(t, err)
		them, err := other.WhoAmI(ctx)
		require.NoError(t, err)
		before := len(h.events())
		made, err := owner.CreateTrain(ctx, client.TrainDraft{TrainID: "secret-project", Visibility: "private"})
		require.NoError(t, err)
		require.Equal(t, "private", made.Visibility)
		list, err := owner.TrainMembers(ctx, "secret-project")
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, []string{"person", me.UserID, "owner"}, []string{list[0].Kind, list[0].ID, list[0].Role})

		_, err = other.GetTrain(ctx, "secret-project")
		requireRefused(t, err, 404, "not_found")
		_, _, err = other.PutTrainMember(ctx, "secret-project", "person", them.UserID, "owner", "")
		requireRefused(t, err, 404, "not_found")

		// A plain member reads it, works with it as their role lets them, and lets nobody in.
		m, added, err := owner.PutTrainMember(ctx, "secret-project", "person", them.UserID+"@example.com", "member", "")
		require.NoError(t, err)
		require.True(t, added)
		require.Equal(t, them.UserID, m.ID)
		_, err = other.GetTrain(ctx, made.ID)
		require.NoError(t, err)
		key, err := other.IssueKey(ctx, "secret-project", client.KeyDraft{Name: "theirs"})
		require.NoError(t, err)
		_, _, err = other.PutTrainMember(ctx, "secret-project", "person", them.UserID, "owner", "")
		requireRefused(t, err, 403, "forbidden")
		_, err = other.UpdateTrain(ctx, "secret-project", client.TrainPatch{Visibility: ptr("organisation")})
		requireRefused(t, err, 403, "forbidden")
		_, err = other.RemoveTrainMember(ctx, "secret-project", "person", me.UserID, "")
		requireRefused(t, err, 403, "forbidden")

		// The last owner stays one.
		_, _, err = owner.PutTrainMember(ctx, "secret-project", "person", me.UserID, "member", "")
		requireRefused(t, err, 409, "last_owner")
		_, err = owner.RemoveTrainMember(ctx, "secret-project", "person", me.UserID, "")
		requireRefused(t, err, 409, "last_owner")
		empty, err := h.client.CreateGroup(ctx, client.GroupDraft{Name: "Nobody"})
		require.NoError(t, err)
		_, _, err = owner.PutTrainMember(ctx, "secret-project", "group", "Nobody", "owner", "")
		require.NoError(t, err)
		_, err = owner.RemoveTrainMember(ctx, "secret-project", "person", me.UserID, "")
		requireRefused(t, err, 409, "last_owner") // nobody is in the group
		_, err = h.client.RemoveTrainMember(ctx, "secret-project", "group", empty.ID, "")
		require.NoError(t, err)

		// A stale state is not changed.
		_, _, err = owner.PutTrainMember(ctx, "secret-project", "person", them.UserID, "owner", `"0"`)
		requireRefused(t, err, 412, "etag_mismatch")
		m, err = owner.GetTrainMember(ctx, "secret-project", "person", them.UserID)
		require.NoError(t, err)
		m, added, err = owner.PutTrainMember(ctx, "secret-project", "person", them.UserID, "owner", m.ETag)
		require.NoError(t, err)
		require.False(t, added)
		require.Equal(t, "owner", m.Role)
		_, _, err = other.PutTrainMember(ctx, "secret-project", "person", them.UserID, "member", "")
		require.NoError(t, err) // there is another owner

		// Who is taken away loses the train, and the keys that they made there.
		_, err = h.identity.Client(key.APIKey)
		require.NoError(t, err)
		gone, err := owner.RemoveTrainMember(ctx, "secret-project", "person", them.UserID, "")
		require.NoError(t, err)
		require.Len(t, gone.KeysRevoked, 1)
		require.Equal(t, key.ID, gone.KeysRevoked[0].ID)
		_, err = h.identity.Client(key.APIKey)
		require.Error(t, err)
		_, err = other.GetTrain(ctx, "secret-project")
		requireRefused(t, err, 404, "not_found")

		// Opened, it is everybody's; made private by somebody who is no owner while it has one, it is refused.
		_, err = owner.UpdateTrain(ctx, "secret-project", client.TrainPatch{Visibility: ptr("organisation")})
		require.NoError(t, err)
		_, err = other.UpdateTrain(ctx, "secret-project", client.TrainPatch{Visibility: ptr("private")})
		requireRefused(t, err, 403, "forbidden")

		var acts []store.Action
		all := h.events()
		for _, ev := range all[:len(all)-before] {
			if strings.HasPrefix(string(ev.Action), "train.") {
				acts = append(acts, ev.Action)
			}
		}
		slices.Reverse(acts)
		require.Equal(t, []store.Action{
			store.TrainCreate, store.TrainMemberAdd, store.TrainMemberAdd, store.TrainRefused, store.TrainRefused, store.TrainRefused, store.TrainMemberAdd, store.TrainMemberRemove,
			store.TrainMemberChange, store.TrainMemberChange, store.TrainMemberRemove, store.TrainUpdate, store.TrainRefused,
		}, acts)
	})
}
