package client

import (
	"context"
	"net/http"
	"time"
)

// TrainMember is a person or a group among the members of a train.
type TrainMember struct {
	Kind    string    `json:"kind" doc:"Person or group."`
	ID      string    `json:"id"`
	Name    string    `json:"name" doc:"A person's e-mail address, or what the group is called."`
	Role    string    `json:"role" doc:"An owner says who the members are; a member reaches the train."`
	Active  bool      `json:"active" doc:"Whether somebody can sign in who is meant: the person, or one of the group's people."`
	AddedBy string    `json:"added_by"`
	AddedAt time.Time `json:"added_at"`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// TrainMemberRole is what somebody is, or becomes, to a train: owner or member.
type TrainMemberRole struct {
	Role string `json:"role"`
}

// RemovedTrainMember is what ended with a membership.
type RemovedTrainMember struct {
	KeysRevoked []Key `json:"keys_revoked" nullable:"false" doc:"The client keys of the train that were made by whoever is left without a way to it."`
}

type trainMemberReply struct {
	Member TrainMember `json:"member"`
}

type trainMembersReply struct {
	Members []TrainMember `json:"members"`
}

// TrainMembers returns the members of a train, the owners first.
func (c *Client) TrainMembers(ctx context.Context, train string) ([]TrainMember, error) {
	var out trainMembersReply
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("trains", train, "members")}, &out)
	return out.Members, err
}

// GetTrainMember returns one member of a train: kind is person or group, who an id, an e-mail address or a group's name.
func (c *Client) GetTrainMember(ctx context.Context, train, kind, who string) (TrainMember, error) {
	var out trainMemberReply
	a, err := c.do(ctx, call{method: http.MethodGet, path: path("trains", train, "members", kind, who)}, &out)
	out.Member.ETag = a.etag
	return out.Member, err
}

// PutTrainMember makes a person or a group a member of a train, or changes their role; added says whether they were none. With an ETag it changes only that state.
func (c *Client) PutTrainMember(ctx context.Context, train, kind, who, role, etag string) (m TrainMember, added bool, err error) {
	var out trainMemberReply
	a, err := c.do(ctx, call{method: http.MethodPut, path: path("trains", train, "members", kind, who), body: TrainMemberRole{role}, ifMatch: etag}, &out)
	out.Member.ETag = a.etag
	return out.Member, a.status == http.StatusCreated, err
}

// RemoveTrainMember takes a person or a group from the members of a train, and returns what ended with that. With an ETag it removes only that state.
func (c *Client) RemoveTrainMember(ctx context.Context, train, kind, who, etag string) (RemovedTrainMember, error) {
	var out RemovedTrainMember
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("trains", train, "members", kind, who), ifMatch: etag}, &out)
	return out, err
}
