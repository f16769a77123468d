package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// of returns a client with everything that a role may, and the id of its person.
func (h *house) of(role identity.Role) (*client.Client, string, string) {
	h.t.Helper()
	token := h.withRole(role)
	who, err := h.as(token).WhoAmI(h.t.Context())
	require.NoError(h.t, err)
	return h.as(token), who.UserID, token
}

// TestStoryKeysOfAMember: somebody with the role of a member is put on a private train, issues a key of it, reads what the train used and nothing else, and with the end of the membership
// loses the train and the key at once.
func TestStoryKeysOfAMember(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		other, w := h.world(), h.world()
		w.trainSlug = "moonshot"
		_, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "moonshot", Visibility: "private"})
		require.NoError(t, err)
		theirs, err := h.client.IssueKey(ctx, "moonshot", client.KeyDraft{Name: "the administrator's"})
		require.NoError(t, err)
		mia, id, token := h.of(identity.Member)
		_, err = mia.IssueKey(ctx, "moonshot", client.KeyDraft{Name: "early"})
		requireRefused(t, err, 404, "not_found")
		_, _, err = h.client.PutTrainMember(ctx, "moonshot", "person", id, "member", "")
		require.NoError(t, err)

		list, err := mia.ListTrains(ctx, client.ListFilter{})
		require.NoError(t, err)
		require.Len(t, list.Trains, 1)
		require.Equal(t, "moonshot", list.Trains[0].TrainID)
		members, err := mia.TrainMembers(ctx, "moonshot")
		require.NoError(t, err)
		require.Len(t, members, 2)

		issue := request{method: http.MethodPost, target: "/api/trains/moonshot/api-keys", token: token, body: []byte(`{"name":"by request"}`)}.keyed(store.NewID("try"))
		require.Equal(t, 201, h.do(issue).status)
		require.Equal(t, "already_issued", h.problem(h.do(issue)).Code)
		key, err := mia.IssueKey(ctx, "moonshot", client.KeyDraft{Name: "laptop"})
		require.NoError(t, err)
		caller, err := h.identity.Client(key.APIKey)
		require.NoError(t, err)
		require.Equal(t, id, key.CreatedBy)
		keys, err := mia.ListKeys(ctx, "moonshot", client.KeyFilter{})
		require.NoError(t, err)
		require.Len(t, keys.APIKeys, 2, "their own")
		key, err = mia.ReplaceKey(ctx, "moonshot", key.ID, client.KeyReplacement{})
		require.NoError(t, err)
		_, err = mia.UpdateKey(ctx, "moonshot", key.ID, client.KeyPatch{Name: ptr("desk")})
		require.NoError(t, err)
		for _, err := range []error{
			mia.RevokeKey(ctx, "moonshot", theirs.ID), mia.PurgeKey(ctx, "moonshot", theirs.ID),
			func() error { _, err := mia.GetKey(ctx, "moonshot", theirs.ID); return err }(),
			func() error {
				_, err := mia.ReplaceKey(ctx, "moonshot", theirs.ID, client.KeyReplacement{})
				return err
			}(),
			func() error {
				_, err := mia.UpdateKey(ctx, "moonshot", theirs.ID, client.KeyPatch{Name: ptr("x")})
				return err
			}(),
		} {
			requireRefused(t, err, 404, "not_found")
		}
		// What the role does not have, being on the train does not give.
		_, err = mia.UpdateTrain(ctx, "moonshot", client.TrainPatch{Name: ptr("Mine")})
		requireRefused(t, err, 403, "forbidden")
		_, _, err = mia.Link(ctx, "moonshot", client.LinkDraft{CredentialID: w.credential})
		requireRefused(t, err, 403, "forbidden")
		_, _, err = mia.PutTrainMember(ctx, "moonshot", "person", w.user, "member", "")
		requireRefused(t, err, 403, "forbidden")

		// What the train used is told them, and nothing of another.
		w.key = key.ID
		h.used(w, "claude-sonnet-4-5", store.Str("usage", "complete"), store.Str("model", "claude-sonnet-4-5"), store.Int("input_tokens", 77), store.Int("output_tokens", 1))
		h.used(other, "claude-sonnet-4-5", store.Str("usage", "complete"), store.Str("model", "claude-sonnet-4-5"), store.Int("input_tokens", 1000), store.Int("output_tokens", 1))
		h.addUp()
		for _, q := range []client.UsageQuery{{}, {TrainID: "moonshot"}, {ClientKeyID: key.ID}, {GroupBy: []string{"day", "train", "client_key", "model", "credential"}}} {
			report, err := mia.Usage(ctx, q)
			require.NoError(t, err)
			require.EqualValues(t, 77, report.Total.InputTokens)
		}
		for _, q := range []client.UsageQuery{{TrainID: other.trainSlug}, {ClientKeyID: other.key}} {
			report, err := mia.Usage(ctx, q)
			require.NoError(t, err)
			require.Empty(t, report.Usage)
			require.Zero(t, report.Total.Requests)
			require.Zero(t, report.Total.InputTokens)
		}
		// Client keys that others made are one sum to them, and by name to an owner.
		w.key = theirs.ID
		second, err := h.client.IssueKey(ctx, "moonshot", client.KeyDraft{Name: "the administrator's second"})
		require.NoError(t, err)
		for _, key := range []string{theirs.ID, second.ID} {
			w.key = key
			h.used(w, "claude-sonnet-4-5", store.Str("usage", "complete"), store.Str("model", "claude-sonnet-4-5"), store.Int("input_tokens", 10), store.Int("output_tokens", 1))
		}
		h.addUp()
		for _, by := range [][]string{{"client_key"}, {"hour", "client_key"}, {"train", "client_key", "model"}} {
			page, err := mia.Usage(ctx, client.UsageQuery{GroupBy: by, Limit: 1})
			require.NoError(t, err)
			rows := page.Usage
			require.EqualValues(t, 97, page.Total.InputTokens, "of all keys")
			page, err = mia.Usage(ctx, client.UsageQuery{GroupBy: by, Limit: 1, From: &page.From, To: &page.To, Cursor: page.NextCursor})
			require.NoError(t, err)
			require.Empty(t, page.NextCursor)
			rows = append(rows, page.Usage...)
			require.Len(t, rows, 2)
			require.Equal(t, []string{"", key.ID}, []string{*rows[0].ClientKeyID, *rows[1].ClientKeyID})
			require.Equal(t, []bool{true, false}, []bool{rows[0].ClientKeyName == "", rows[1].ClientKeyName == ""})
			require.EqualValues(t, []int64{20, 77}, []int64{rows[0].InputTokens, rows[1].InputTokens})
			require.Nil(t, rows[0].UserID)
		}
		for _, by := range [][]string{nil, {"client_key"}} {
			report, err := mia.Usage(ctx, client.UsageQuery{ClientKeyID: theirs.ID, GroupBy: by})
			require.NoError(t, err)
			require.Empty(t, report.Usage)
			require.Zero(t, report.Total.Requests)
		}
		file := h.do(request{method: http.MethodGet, target: "/api/usage.csv?group_by=client_key", token: token})
		require.Equal(t, 200, file.status)
		require.Contains(t, string(file.body), key.ID)
		require.NotContains(t, string(file.body), theirs.ID)
		_, _, err = h.client.PutTrainMember(ctx, "moonshot", "person", id, "owner", "")
		require.NoError(t, err)
		report, err := mia.Usage(ctx, client.UsageQuery{GroupBy: []string{"client_key"}})
		require.NoError(t, err)
		require.Len(t, report.Usage, 3)
		report, err = mia.Usage(ctx, client.UsageQuery{ClientKeyID: theirs.ID})
		require.NoError(t, err)
		require.EqualValues(t, 10, report.Total.InputTokens)
		_, _, err = h.client.PutTrainMember(ctx, "moonshot", "person", id, "member", "")
		require.NoError(t, err)
		_, err = mia.Usage(ctx, client.UsageQuery{GroupBy: []string{"user"}})
		requireRefused(t, err, 403, "forbidden")
		_, err = mia.Requests(ctx, client.RequestQuery{TrainID: "moonshot"})
		requireRefused(t, err, 403, "forbidden")

		// A token of fewer scopes does less, on the train too.
		narrow, err := mia.IssueToken(ctx, client.TokenDraft{Name: "n", Scopes: []string{"trains:read"}})
		require.NoError(t, err)
		_, err = h.as(narrow.Secret).GetTrain(ctx, "moonshot")
		require.NoError(t, err)
		_, err = h.as(narrow.Secret).IssueKey(ctx, "moonshot", client.KeyDraft{Name: "n"})
		requireRefused(t, err, 403, "scope_missing")

		// Taken from the train, they find none, and what they issued is refused.
		gone, err := h.client.RemoveTrainMember(ctx, "moonshot", "person", id, "")
		require.NoError(t, err)
		require.Len(t, gone.KeysRevoked, 2)
		_, err = h.identity.Client(key.APIKey)
		require.Error(t, err)
		_, err = h.identity.Client(theirs.APIKey)
		require.NoError(t, err)
		require.NotEmpty(t, caller.TrainID)
		_, err = mia.GetTrain(ctx, "moonshot")
		requireRefused(t, err, 404, "not_found")
		_, err = mia.IssueKey(ctx, "moonshot", client.KeyDraft{Name: "late"})
		requireRefused(t, err, 404, "not_found")
		again := h.do(issue)
		require.Equal(t, 404, again.status, "%s", again.body)
		require.NotContains(t, string(again.body), "key_")
		report, err = mia.Usage(ctx, client.UsageQuery{GroupBy: []string{"train"}})
		require.NoError(t, err)
		require.Empty(t, report.Usage)
	})
}

// TestStoryAnOpenTrainOfAMember: on a train of the organisation a membership is the one way to it of somebody with the role of a member: its end takes their keys, and leaves those of
// everybody whose role reaches the train.
func TestStoryAnOpenTrainOfAMember(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web"})
		require.NoError(t, err)
		mia, miaID, token := h.of(identity.Member)
		otto, ottoID, _ := h.of(identity.Operator)
		crew, err := h.client.CreateGroup(ctx, client.GroupDraft{Name: "crew"})
		require.NoError(t, err)
		for _, id := range []string{miaID, ottoID} {
			_, _, err = h.client.AddGroupMember(ctx, crew.ID, id)
			require.NoError(t, err)
		}
		_, err = mia.GetTrain(ctx, "web")
		requireRefused(t, err, 404, "not_found")
		_, _, err = h.client.PutTrainMember(ctx, "web", "group", "crew", "member", "")
		require.NoError(t, err)
		issue := request{method: http.MethodPost, target: "/api/trains/web/api-keys", token: token, body: []byte(`{"name":"by request"}`)}.keyed(store.NewID("try"))
		require.Equal(t, 201, h.do(issue).status)
		hers, err := mia.IssueKey(ctx, "web", client.KeyDraft{Name: "hers"})
		require.NoError(t, err)
		his, err := otto.IssueKey(ctx, "web", client.KeyDraft{Name: "his"})
		require.NoError(t, err)

		// Out of the group she finds no train, and her keys have ended.
		require.NoError(t, h.client.RemoveGroupMember(ctx, crew.ID, miaID))
		_, err = mia.GetTrain(ctx, "web")
		requireRefused(t, err, 404, "not_found")
		require.Equal(t, 404, h.do(issue).status)
		requireRefused(t, mia.RevokeKey(ctx, "web", hers.ID), 404, "not_found")
		_, err = h.identity.Client(hers.APIKey)
		require.Error(t, err)

		// Back in it she has none of before, and what she issues then ends with the membership of the group.
		_, _, err = h.client.AddGroupMember(ctx, crew.ID, miaID)
		require.NoError(t, err)
		require.Equal(t, 409, h.do(issue).status)
		_, err = h.identity.Client(hers.APIKey)
		require.Error(t, err)
		hers, err = mia.IssueKey(ctx, "web", client.KeyDraft{Name: "hers again"})
		require.NoError(t, err)
		gone, err := h.client.RemoveTrainMember(ctx, "web", "group", crew.ID, "")
		require.NoError(t, err)
		require.Len(t, gone.KeysRevoked, 1)
		require.Equal(t, hers.ID, gone.KeysRevoked[0].ID)
		_, err = h.identity.Client(hers.APIKey)
		require.Error(t, err)
		_, err = h.identity.Client(his.APIKey)
		require.NoError(t, err)
	})
}

// TestStoryAnOwnerWithTheRoleOfAMember: they say who the members of their train are and see to all of its keys, as any owner does; the last owner stays one; and nothing else of the train is
// theirs to change.
func TestStoryAnOwnerWithTheRoleOfAMember(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		mia, miaID, _ := h.of(identity.Member)
		max, maxID, _ := h.of(identity.Member)
		otto, ottoID, _ := h.of(identity.Operator)
		_, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "moonshot", Visibility: "private"})
		require.NoError(t, err)
		_, _, err = h.client.PutTrainMember(ctx, "moonshot", "person", miaID, "owner", "")
		require.NoError(t, err)
		_, err = mia.RemoveTrainMember(ctx, "moonshot", "person", h.user.ID, "")
		require.NoError(t, err, "an owner removes another")

		for _, id := range []string{maxID, ottoID} {
			_, added, err := mia.PutTrainMember(ctx, "moonshot", "person", id, "member", "")
			require.NoError(t, err)
			require.True(t, added)
		}
		_, _, err = mia.PutTrainMember(ctx, "moonshot", "person", "nobody@example.com", "member", "")
		requireRefused(t, err, 404, "not_found")
		_, _, err = max.PutTrainMember(ctx, "moonshot", "person", maxID, "owner", "")
		requireRefused(t, err, 403, "forbidden")
		_, err = max.RemoveTrainMember(ctx, "moonshot", "person", miaID, "")
		requireRefused(t, err, 403, "forbidden")
		_, _, err = otto.PutTrainMember(ctx, "moonshot", "person", ottoID, "owner", "")
		requireRefused(t, err, 403, "forbidden")

		// All keys of the train are the owner's to see to.
		his, err := max.IssueKey(ctx, "moonshot", client.KeyDraft{Name: "his"})
		require.NoError(t, err)
		list, err := mia.ListKeys(ctx, "moonshot", client.KeyFilter{})
		require.NoError(t, err)
		require.Len(t, list.APIKeys, 1)
		next, err := mia.ReplaceKey(ctx, "moonshot", his.ID, client.KeyReplacement{OverlapSeconds: 60})
		require.NoError(t, err)
		require.NoError(t, max.RevokeKey(ctx, "moonshot", next.ID)) // a successor has the same holder
		require.NoError(t, mia.RevokeKey(ctx, "moonshot", his.ID))
		hers, err := mia.IssueKey(ctx, "moonshot", client.KeyDraft{Name: "hers"})
		require.NoError(t, err)

		// The last owner stays one, and lets nobody else in by an act that the role does not have.
		_, err = mia.RemoveTrainMember(ctx, "moonshot", "person", miaID, "")
		requireRefused(t, err, 409, "last_owner")
		_, _, err = mia.PutTrainMember(ctx, "moonshot", "person", miaID, "member", "")
		requireRefused(t, err, 409, "last_owner")
		_, err = mia.UpdateTrain(ctx, "moonshot", client.TrainPatch{Visibility: ptr("organisation")})
		requireRefused(t, err, 403, "forbidden")
		requireRefused(t, mia.DeleteTrain(ctx, "moonshot", true), 403, "forbidden")

		// In a session it takes a fresh proof.
		h.setPassword(miaID)
		session := h.session(miaID)
		h.stale()
		_, _, err = h.as(session).PutTrainMember(ctx, "moonshot", "person", maxID, "owner", "")
		requireRefused(t, err, 403, "step_up_required")

		// Handed on, she is a member, and may leave; her keys end.
		_, _, err = mia.PutTrainMember(ctx, "moonshot", "person", maxID, "owner", "")
		require.NoError(t, err)
		_, _, err = max.PutTrainMember(ctx, "moonshot", "person", miaID, "member", "")
		require.NoError(t, err)
		_, _, err = mia.PutTrainMember(ctx, "moonshot", "person", ottoID, "member", "")
		requireRefused(t, err, 403, "forbidden")
		left, err := mia.RemoveTrainMember(ctx, "moonshot", "person", miaID, "")
		require.NoError(t, err)
		require.Len(t, left.KeysRevoked, 1)
		require.Equal(t, hers.ID, left.KeysRevoked[0].ID)
		_, err = mia.TrainMembers(ctx, "moonshot")
		requireRefused(t, err, 404, "not_found")

		// An owner by a group is one, of an open train too.
		leads, err := h.client.CreateGroup(ctx, client.GroupDraft{Name: "leads"})
		require.NoError(t, err)
		_, _, err = h.client.AddGroupMember(ctx, leads.ID, miaID)
		require.NoError(t, err)
		_, err = h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web"})
		require.NoError(t, err)
		_, _, err = h.client.PutTrainMember(ctx, "web", "group", "leads", "owner", "")
		require.NoError(t, err)
		_, _, err = mia.PutTrainMember(ctx, "web", "person", maxID, "member", "")
		require.NoError(t, err)
		_, _, err = max.PutTrainMember(ctx, "web", "person", ottoID, "member", "")
		requireRefused(t, err, 403, "forbidden")
		require.NoError(t, h.client.RemoveGroupMember(ctx, leads.ID, miaID))
		_, _, err = mia.PutTrainMember(ctx, "web", "person", ottoID, "member", "")
		requireRefused(t, err, 404, "not_found")
	})
}

// TestStoryAnybodyLeaves: people of every role take themselves from a train, by a token and in a session, private and open, and nobody else without trains:members.
func TestStoryAnybodyLeaves(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		for _, visibility := range identity.Visibilities() {
			slug := "yard-" + string(visibility)[:3]
			_, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: slug, Visibility: string(visibility)})
			require.NoError(t, err)
			_, _, err = h.client.PutTrainMember(ctx, slug, "person", h.user.ID, "owner", "")
			require.NoError(t, err)
			_, other, _ := h.of(identity.Operator)
			_, _, err = h.client.PutTrainMember(ctx, slug, "person", other, "member", "")
			require.NoError(t, err)
			for _, role := range identity.Roles() {
				_, id, token := h.of(role)
				for _, token := range []string{token, h.session(id)} {
					_, _, err = h.client.PutTrainMember(ctx, slug, "person", id, "member", "")
					require.NoError(t, err)
					if role == identity.Auditor {
						_, err = h.as(token).RemoveTrainMember(ctx, slug, "person", other, "")
						requireRefused(t, err, 403, "forbidden")
					}
					left := h.do(request{method: http.MethodDelete, target: "/api/trains/" + slug + "/members/person/" + id, token: token})
					require.Equal(t, http.StatusOK, left.status, "%s: %s", role, left.body)
					_, err = h.client.GetTrainMember(ctx, slug, "person", id)
					requireRefused(t, err, 404, "not_found")
				}
			}
			_, err = h.client.GetTrainMember(ctx, slug, "person", other)
			require.NoError(t, err)
		}
	})
}
