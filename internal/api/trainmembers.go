package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
)

// visibility says who reaches a train.
type visibility string

// Schema lists the visibilities.
func (visibility) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, v := range identity.Visibilities() {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}

// trainRole is what somebody is to a train.
type trainRole string

// Schema lists the roles.
func (trainRole) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, r := range train.Roles() {
		s.Enum = append(s.Enum, string(r))
	}
	return s
}

// OfTrainMember is the path of a member of a train.
type OfTrainMember struct {
	OfTrain
	Kind   string `path:"kind" doc:"Whether it is a person or a group: person, group."`
	Member string `path:"member_id" doc:"The person's id or e-mail address, the group's id or name."`
}

type trainMemberRole struct {
	Role trainRole `json:"role" doc:"An owner says who the members are; a member reaches the train."`
}

type trainMemberBody struct {
	Member client.TrainMember `json:"member"`
}

type trainMemberList struct {
	Members []client.TrainMember `json:"members" nullable:"false"`
}

func (s *service) addTrainMembers() {
	const tag, all, one = "trains", "/api/trains/{train_id}/members", "/api/trains/{train_id}/members/{kind}/{member_id}"
	read, write := string(identity.TrainRead), string(identity.TrainMembers)
	add(s, route{method: http.MethodGet, path: all, id: "list-train-members", summary: "List the owners and members of a train", tag: tag, access: read}, s.listTrainMembers)
	add(s, route{method: http.MethodGet, path: one, id: "get-train-member", summary: "Read one membership", tag: tag, access: read}, s.getTrainMember)
	add(s, route{method: http.MethodPut, path: one, id: "put-train-member", summary: "Make a person or a group an owner or a member of a train", tag: tag,
		description: "201 for a new member, 200 for one whose role is changed. Of a private train its owners decide, and administrators. The last owner of a private train stays one.",
		access:      write, status: http.StatusCreated, also: http.StatusOK}, s.putTrainMember)
	add(s, route{method: http.MethodDelete, path: one, id: "remove-train-member", summary: "Take a person or a group from the members of a train", tag: tag,
		description: "Client keys of the train that were made by whoever is left without a way to it are revoked, and told. Anybody who reaches the train may take themselves away, for which trains:read will do.", access: read + " " + write, byGrant: identity.TrainMembers}, s.removeTrainMember)
}

func shownTrainMember(m train.Membership) client.TrainMember {
	return client.TrainMember{Kind: string(m.Party.Kind), ID: m.Party.ID, Name: m.Party.Name, Role: string(m.Role), Active: m.Active, AddedBy: m.AddedBy, AddedAt: m.AddedAt}
}

func (s *service) listTrainMembers(ctx context.Context, caller identity.Caller, in *OfTrain) (*struct{ Body trainMemberList }, error) {
	list, err := s.Trains.Members(ctx, caller, in.Train)
	if err != nil {
		return nil, err
	}
	out := trainMemberList{Members: make([]client.TrainMember, len(list))}
	for i, m := range list {
		out.Members[i] = shownTrainMember(m)
	}
	return &struct{ Body trainMemberList }{out}, nil
}

type oneTrainMemberAnswer struct {
	ETag string `header:"ETag" doc:"Names this state, for If-Match."`
	Body trainMemberBody
}

func (s *service) getTrainMember(ctx context.Context, caller identity.Caller, in *OfTrainMember) (*oneTrainMemberAnswer, error) {
	m, err := s.Trains.Member(ctx, caller, in.Train, identity.PartyKind(in.Kind), in.Member)
	if err != nil {
		return nil, err
	}
	return &oneTrainMemberAnswer{ETag: m.ETag(), Body: trainMemberBody{shownTrainMember(m)}}, nil
}

type trainMemberAnswer struct {
	Status int
	ETag   string `header:"ETag" doc:"Names this state, for If-Match."`
	Body   trainMemberBody
}

func (s *service) putTrainMember(ctx context.Context, caller identity.Caller, in *struct {
	OfTrainMember
	IfMatch
	Body trainMemberRole
}) (*trainMemberAnswer, error) {
	m, added, err := s.Trains.PutMember(ctx, caller, in.Train, identity.PartyKind(in.Kind), in.Member, train.Role(in.Body.Role), in.IfMatch.IfMatch)
	if err != nil {
		return nil, err
	}
	out := &trainMemberAnswer{Status: http.StatusOK, ETag: m.ETag(), Body: trainMemberBody{shownTrainMember(m)}}
	if added {
		out.Status = http.StatusCreated
	}
	return out, nil
}

func (s *service) removeTrainMember(ctx context.Context, caller identity.Caller, in *struct {
	OfTrainMember
	IfMatch
}) (*struct{ Body client.RemovedTrainMember }, error) {
	ended, err := s.Trains.RemoveMember(ctx, caller, in.Train, identity.PartyKind(in.Kind), in.Member, in.IfMatch.IfMatch)
	if err != nil {
		return nil, err
	}
	out := client.RemovedTrainMember{KeysRevoked: make([]client.Key, len(ended))}
	for i, k := range ended {
		out.KeysRevoked[i] = shownKey(k)
	}
	return &struct{ Body client.RemovedTrainMember }{out}, nil
}
