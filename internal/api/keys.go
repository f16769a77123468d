package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// bearerStatus is a status of client keys and tokens.
type bearerStatus string

// Schema lists the statuses.
func (bearerStatus) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{string(identity.StatusActive), string(identity.StatusExpired), string(identity.StatusRevoked)}}
}

// OfKey is the path of a client key.
type OfKey struct {
	OfTrain
	Key string `path:"key_id" doc:"The key's id."`
}

type keyDraft struct {
	Name      string            `json:"name" minLength:"1" maxLength:"100"`
	ExpiresAt *time.Time        `json:"expires_at,omitempty" doc:"Never when it is left out."`
	Limits    edit[limitsPatch] `json:"limits,omitempty" doc:"What it may use, beside what its train and the person who made it may."`
	// WithSession is for programs that hand out keys by themselves, such as signalbox helper.
	WithSession bool `json:"with_session,omitempty" doc:"Have the key end with the sign-in that issues it. Such a key needs no fresh proof. Only the sign-in of a command line or another program can, and it must have an expires_at; 12 hours from now is the latest, and stands for what is later."`
}

type keyPatch struct {
	Name      *string           `json:"name,omitempty" minLength:"1" maxLength:"100"`
	ExpiresAt edit[time.Time]   `json:"expires_at,omitempty" doc:"Null for never."`
	Limits    edit[limitsPatch] `json:"limits,omitempty" doc:"What it may use; null removes a limit, or all of them."`
}

type keyReplacement struct {
	Name           string     `json:"name,omitempty" maxLength:"100" doc:"The old key's when it is left out."`
	ExpiresAt      *time.Time `json:"expires_at,omitempty" doc:"Of the new key; never when it is left out."`
	OverlapSeconds int        `json:"overlap_seconds" minimum:"0" maximum:"2592000" doc:"How long the old key stays valid beside the new one; 0 ends it at once."`
}

type keyBody struct {
	APIKey client.Key `json:"api_key"`
}

type issuedKeyBody struct {
	APIKey client.IssuedKey `json:"api_key"`
}

type keyAnswer struct {
	ETag string `header:"ETag" doc:"Names this state of the key's settings, for If-Match. Uses do not change it."`
	Body keyBody
}

func keyOut(k identity.Key, err error) (*keyAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &keyAnswer{ETag: k.ETag(), Body: keyBody{shownKey(k)}}, nil
}

type issuedKeyAnswer struct {
	ETag string `header:"ETag" doc:"Names this state of the key's settings, for If-Match. Uses do not change it."`
	Body issuedKeyBody
}

func shownKey(k identity.Key) client.Key {
	return client.Key{
		ID: k.ID, TrainID: k.TrainSlug, Name: k.Name, KeyPreview: k.Preview, Status: string(k.Status), CreatedBy: k.CreatedBy, CreatedAt: k.CreatedAt,
		LastUsedAt: k.LastUsedAt, ExpiresAt: k.ExpiresAt, RevokedAt: k.RevokedAt, ReplacedBy: k.ReplacedBy, Limits: shownLimits(k.Limits),
		WithSession: k.SessionID != "",
	}
}

func issuedKey(k identity.Key, value secret.Value, err error) (*issuedKeyAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &issuedKeyAnswer{ETag: k.ETag(), Body: issuedKeyBody{client.IssuedKey{Key: shownKey(k), APIKey: value.Reveal()}}}, nil
}

func (s *service) addKeys() {
	const tag, all, one = "client keys", "/api/trains/{train_id}/api-keys", "/api/trains/{train_id}/api-keys/{key_id}"
	add(s, route{method: http.MethodGet, path: all, id: "list-keys", summary: "List the train's client keys", tag: tag, access: string(identity.KeyRead)}, s.listKeys)
	add(s, route{method: http.MethodPost, path: all, id: "issue-key", summary: "Issue a client key", tag: tag, description: "The key is in the answer and never shown again.",
		access: string(identity.KeyWrite), status: http.StatusCreated, showsSecret: true, again: s.keyAgain(store.KeyIssue)}, s.issueKey)
	add(s, route{method: http.MethodGet, path: one, id: "get-key", summary: "Read a client key", tag: tag, description: "Never the key itself.",
		access: string(identity.KeyRead), moving: true}, s.getKey)
	add(s, route{method: http.MethodPatch, path: one, id: "patch-key", summary: "Change a client key's name, expiry or limits", tag: tag, access: string(identity.KeyWrite)}, s.updateKey)
	add(s, route{method: http.MethodDelete, path: one, id: "revoke-key", summary: "Revoke a client key", tag: tag,
		description: "Open uses are cut. With purge=true a revoked key is removed from the list.", access: string(identity.KeyWrite)}, s.revokeKey)
	add(s, route{method: http.MethodPost, path: one + "/replace", id: "replace-key", summary: "Issue a successor of a client key", tag: tag,
		description: "The old key expires after the overlap. The new one is in the answer and never shown again.", access: string(identity.KeyWrite),
		status: http.StatusCreated, showsSecret: true, again: s.keyAgain(store.KeyReplace)}, s.replaceKey)
}

// keyAgain asks whether the caller might still do to a client key what they did.
func (s *service) keyAgain(act store.Action) func(context.Context, identity.Caller, string, []byte) error {
	return func(ctx context.Context, caller identity.Caller, id string, _ []byte) error {
		return s.Trains.MayStillKey(ctx, caller, act, id)
	}
}

func (s *service) listKeys(ctx context.Context, caller identity.Caller, in *struct {
	OfTrain
	Page
	Status bearerStatus `query:"status" doc:"Only those in this state."`
}) (*struct{ Body client.KeyPage }, error) {
	keys, next, err := s.Trains.ListKeys(ctx, caller, in.Train, identity.KeyFilter{Status: identity.Status(in.Status), Limit: in.Limit, Cursor: in.Cursor, Skip: in.Skip})
	if err != nil {
		return nil, err
	}
	out := client.KeyPage{APIKeys: make([]client.Key, len(keys)), NextCursor: next}
	for i, k := range keys {
		out.APIKeys[i] = shownKey(k)
	}
	return &struct{ Body client.KeyPage }{out}, nil
}

func (s *service) issueKey(ctx context.Context, caller identity.Caller, in *struct {
	OfTrain
	Body keyDraft
}) (*issuedKeyAnswer, error) {
	return issuedKey(s.Trains.IssueKey(ctx, caller, in.Train, identity.KeyDraft{Name: in.Body.Name, ExpiresAt: in.Body.ExpiresAt, Limits: limitsEdit(in.Body.Limits), WithSession: in.Body.WithSession}))
}

func (s *service) getKey(ctx context.Context, caller identity.Caller, in *OfKey) (*keyAnswer, error) {
	return keyOut(s.Trains.GetKey(ctx, caller, in.Train, in.Key))
}

func (s *service) updateKey(ctx context.Context, caller identity.Caller, in *struct {
	OfKey
	IfMatch
	Body keyPatch
}) (*keyAnswer, error) {
	p := identity.KeyPatch{Name: in.Body.Name, SetExpiry: in.Body.ExpiresAt.set, Limits: limitsEdit(in.Body.Limits), IfMatch: in.IfMatch.IfMatch}
	if !in.Body.ExpiresAt.null {
		p.ExpiresAt = in.Body.ExpiresAt.pointer()
	}
	return keyOut(s.Trains.UpdateKey(ctx, caller, in.Train, in.Key, p))
}

func (s *service) revokeKey(ctx context.Context, caller identity.Caller, in *struct {
	OfKey
	IfMatch
	Purge bool `query:"purge" doc:"Remove a key that was revoked before from the list."`
}) (*struct{}, error) {
	if in.Purge {
		return nil, s.Trains.PurgeKey(ctx, caller, in.Train, in.Key, in.IfMatch.IfMatch)
	}
	_, err := s.Trains.RevokeKey(ctx, caller, in.Train, in.Key, in.IfMatch.IfMatch)
	return nil, err
}

func (s *service) replaceKey(ctx context.Context, caller identity.Caller, in *struct {
	OfKey
	Body keyReplacement
}) (*issuedKeyAnswer, error) {
	return issuedKey(s.Trains.ReplaceKey(ctx, caller, in.Train, in.Key, identity.KeyReplacement{
		Name: in.Body.Name, ExpiresAt: in.Body.ExpiresAt, Overlap: time.Duration(in.Body.OverlapSeconds) * time.Second,
	}))
}
