package api_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
)

// TestEmptyObjectIsNoBody: clients that always send JSON with a POST may, and nothing else may stand there.
func TestEmptyObjectIsNoBody(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		w, tried := h.world(), 0
		for _, o := range d.operations(t) {
			if o.RequestBody != nil {
				continue
			}
			if o.method == http.MethodPost {
				tried++
				for _, body := range []string{"{}", " {\n} ", ""} {
					h.prepare(o, &w, h.token)
					a := h.do(request{method: o.method, target: w.target(o), token: h.asker(o), body: []byte(body)})
					require.Contains(t, o.success(), strconv.Itoa(a.status), "%s with %q: %s", o, body, a.body)
				}
			}
			for _, body := range []string{"[]", "null", `""`, `{"a":1}`, `{}{}`, "{", "\xff", " {} x"} {
				a := h.do(request{method: o.method, target: w.target(o), token: h.token, body: []byte(body)})
				require.Equal(t, 400, a.status, "%s with %q: %s", o, body, a.body)
				require.Equal(t, "malformed_request", h.problem(a).Code)
			}
			if o.method != http.MethodPost {
				require.Equal(t, 400, h.do(request{method: o.method, target: w.target(o), token: h.token, body: []byte("{}")}).status, "%s", o)
			}
		}
		require.Positive(t, tried)
	})
}

// TestBadCursorsAreOneRefusal: every list says the same of a cursor that it did not return.
func TestBadCursorsAreOneRefusal(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		w, lists := h.world(), 0
		for _, o := range d.operations(t) {
			takes := false
			for _, p := range o.Parameters {
				takes = takes || p.In == "query" && p.Name == "cursor"
			}
			if !takes {
				continue
			}
			lists++
			for _, cursor := range []string{"planted", "cGxhbnRlZCE", "a2V5X3BsYW50ZWQ%0A", "key_planted", "%22", w.trainSlug + "!"} {
				a := h.do(request{method: o.method, target: w.target(o) + "?cursor=" + cursor, token: h.token})
				require.Equal(t, 422, a.status, "%s with %s: %s", o, cursor, a.body)
				p := h.problem(a)
				require.Equal(t, "validation_failed", p.Code)
				require.Equal(t, "The cursor is not one that this list returned. Begin the list again without a cursor.", p.Detail, "%s", o)
				require.Equal(t, []client.FieldError{{Pointer: "query.cursor", Message: "is not a cursor of this list"}}, p.Errors, "%s", o)
			}
		}
		require.Greater(t, lists, 6)
	})
}

// TestKeysNameTheirTrainBySlug: train_id is the slug wherever it stands.
func TestKeysNameTheirTrainBySlug(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		made, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web"})
		require.NoError(t, err)
		for _, ref := range []string{"web", made.ID} {
			key, err := h.client.IssueKey(ctx, ref, client.KeyDraft{Name: "laptop"})
			require.NoError(t, err)
			require.Equal(t, "web", key.TrainID)
			changed, err := h.client.UpdateKey(ctx, ref, key.ID, client.KeyPatch{Name: ptr("desk")})
			require.NoError(t, err)
			require.Equal(t, "web", changed.TrainID)
			next, err := h.client.ReplaceKey(ctx, ref, key.ID, client.KeyReplacement{})
			require.NoError(t, err)
			require.Equal(t, "web", next.TrainID)
			list, err := h.client.ListKeys(ctx, ref, client.KeyFilter{})
			require.NoError(t, err)
			for _, k := range list.APIKeys {
				require.Equal(t, "web", k.TrainID)
			}
		}
		a := h.do(request{method: "GET", target: "/api/trains/web/api-keys", token: h.token})
		var raw any
		require.NoError(t, json.Unmarshal(a.body, &raw))
		require.NotContains(t, string(a.body), made.ID)
	})
}
