package api

import (
	"context"
	"net/http"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
)

// OfLink is the path of a link.
type OfLink struct {
	OfTrain
	Credential string `path:"credential_id" doc:"The credential's id, account id or account name."`
}

type linkDraft struct {
	CredentialID string  `json:"credential_id" minLength:"1" maxLength:"255" doc:"The credential's id, account id or account name."`
	Alias        *string `json:"alias,omitempty" maxLength:"64" doc:"Unique within the train."`
	Priority     *int    `json:"priority,omitempty" minimum:"0" maximum:"1000000" doc:"1 is tried before 2; 100 when it is left out."`
}

type linkPatch struct {
	Alias    edit[string] `json:"alias,omitempty" maxLength:"64" doc:"Null or an empty text removes it."`
	Priority *int         `json:"priority,omitempty" minimum:"0" maximum:"1000000"`
}

type linkBody struct {
	Account client.Link `json:"account"`
}

type linkList struct {
	Accounts []client.Link `json:"accounts" nullable:"false"`
}

func shownLink(l train.Link) client.Link {
	return client.Link{
		CredentialID: l.CredentialID, AccountID: l.AccountID, Name: l.Name, Type: string(l.Type), Provider: l.Provider, Alias: l.Alias,
		Priority: l.Priority, CreatedAt: l.CreatedAt,
	}
}

func (s *service) addLinks() {
	const tag, all, one = "links", "/api/trains/{train_id}/accounts", "/api/trains/{train_id}/accounts/{credential_id}"
	add(s, route{method: http.MethodGet, path: all, id: "list-links", summary: "List what the train may be lent", tag: tag, access: string(identity.TrainRead)}, s.listLinks)
	add(s, route{method: http.MethodPost, path: all, id: "link-credential", summary: "Let the train be lent a credential", tag: tag,
		description: "201 for a new link, 200 for one that was there and is changed to what is given. A grant that lets the train use the credential does in place of credentials:read.",
		access:      string(identity.TrainWrite + " " + identity.CredentialRead), byGrant: identity.CredentialRead, again: s.linkAgain, status: http.StatusCreated, also: http.StatusOK}, s.link)
	add(s, route{method: http.MethodGet, path: one, id: "get-link", summary: "Read one link", tag: tag, access: string(identity.TrainRead)}, s.getLink)
	add(s, route{method: http.MethodPatch, path: one, id: "patch-link", summary: "Change a link's alias or priority", tag: tag, access: string(identity.TrainWrite)}, s.relink)
	add(s, route{method: http.MethodDelete, path: one, id: "unlink-credential", summary: "Take a credential from the train", tag: tag,
		description: "Open uses are cut.", access: string(identity.TrainWrite)}, s.unlink)
}

func (s *service) listLinks(ctx context.Context, caller identity.Caller, in *OfTrain) (*struct{ Body linkList }, error) {
	links, err := s.Trains.Links(ctx, caller, in.Train)
	if err != nil {
		return nil, err
	}
	out := linkList{Accounts: make([]client.Link, len(links))}
	for i, l := range links {
		out.Accounts[i] = shownLink(l)
	}
	return &struct{ Body linkList }{out}, nil
}

type linkAnswer struct {
	Status int
	ETag   string `header:"ETag" doc:"Names this state, for If-Match."`
	Body   linkBody
}

type oneLinkAnswer struct {
	ETag string `header:"ETag" doc:"Names this state, for If-Match."`
	Body linkBody
}

func linkOut(l train.Link, err error) (*oneLinkAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &oneLinkAnswer{ETag: l.ETag(), Body: linkBody{shownLink(l)}}, nil
}

// linkAgain asks whether the caller might still make the link that they made.
func (s *service) linkAgain(ctx context.Context, caller identity.Caller, train string, body []byte) error {
	var draft linkDraft
	if err := unmarshal(body, &draft); err != nil {
		return err
	}
	return s.Trains.MayStillLink(ctx, caller, train, draft.CredentialID)
}

func (s *service) link(ctx context.Context, caller identity.Caller, in *struct {
	OfTrain
	Body linkDraft
}) (*linkAnswer, error) {
	l, created, err := s.Trains.Link(ctx, caller, in.Train, train.LinkDraft{Credential: in.Body.CredentialID, Alias: in.Body.Alias, Priority: in.Body.Priority})
	if err != nil {
		return nil, err
	}
	out := &linkAnswer{Status: http.StatusOK, ETag: l.ETag(), Body: linkBody{shownLink(l)}}
	if created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

func (s *service) getLink(ctx context.Context, caller identity.Caller, in *OfLink) (*oneLinkAnswer, error) {
	return linkOut(s.Trains.GetLink(ctx, caller, in.Train, in.Credential))
}

func (s *service) relink(ctx context.Context, caller identity.Caller, in *struct {
	OfLink
	IfMatch
	Body linkPatch
}) (*oneLinkAnswer, error) {
	return linkOut(s.Trains.Relink(ctx, caller, in.Train, in.Credential, train.LinkPatch{
		Alias: in.Body.Alias.pointer(), Priority: in.Body.Priority, IfMatch: in.IfMatch.IfMatch,
	}))
}

func (s *service) unlink(ctx context.Context, caller identity.Caller, in *struct {
	OfLink
	IfMatch
}) (*struct{}, error) {
	return nil, s.Trains.Unlink(ctx, caller, in.Train, in.Credential, in.IfMatch.IfMatch)
}
