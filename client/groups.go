package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Group is a group of people, to whom something can be granted together.
type Group struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Members     int       `json:"members" doc:"How many people are in it."`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// GroupDraft is a group to be made.
type GroupDraft struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// GroupPatch changes a group: nil leaves a field as it is.
type GroupPatch struct {
	Name        *string `json:"name,omitempty"`
	Description *string `json:"description,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// GroupMember is a person in a group.
type GroupMember struct {
	UserID    string    `json:"user_id"`
	Email     string    `json:"email"`
	Name      string    `json:"name"`
	Active    bool      `json:"active"`
	AddedAt   time.Time `json:"added_at"`
	ByHand    bool      `json:"by_hand" doc:"Whether somebody put them in."`
	Providers []string  `json:"providers" nullable:"false" doc:"The single sign-on providers that put them in, and take them out when they no longer say so."`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// GroupPage is one page of a list. NextCursor is "" on the last.
type GroupPage struct {
	Groups     []Group `json:"groups" nullable:"false"`
	NextCursor string  `json:"next_cursor,omitempty"`
}

// GroupMemberPage is one page of a list. NextCursor is "" on the last.
type GroupMemberPage struct {
	Members    []GroupMember `json:"members" nullable:"false"`
	NextCursor string        `json:"next_cursor,omitempty"`
}

type groupReply struct {
	Group Group `json:"group"`
}

func (c *Client) group(ctx context.Context, k call) (Group, error) {
	var out groupReply
	a, err := c.do(ctx, k, &out)
	out.Group.ETag = a.etag
	return out.Group, err
}

// CreateGroup makes a group of people.
func (c *Client) CreateGroup(ctx context.Context, d GroupDraft) (Group, error) {
	return c.group(ctx, call{method: http.MethodPost, path: path("groups"), body: d})
}

// GetGroup returns one group.
func (c *Client) GetGroup(ctx context.Context, id string) (Group, error) {
	return c.group(ctx, call{method: http.MethodGet, path: path("groups", id)})
}

// ListGroups returns one page of groups, the oldest first.
func (c *Client) ListGroups(ctx context.Context, f ListFilter) (GroupPage, error) {
	var out GroupPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("groups"), query: f.query()}, &out)
	return out, err
}

// UpdateGroup changes a group.
func (c *Client) UpdateGroup(ctx context.Context, id string, p GroupPatch) (Group, error) {
	return c.group(ctx, call{method: http.MethodPatch, path: path("groups", id), body: p, ifMatch: p.IfMatch})
}

// DeleteGroup deletes a group, and with it what was granted to it.
func (c *Client) DeleteGroup(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("groups", id)}, nil)
	return err
}

// MemberDraft names the person who becomes a member.
type MemberDraft struct {
	UserID string `json:"user_id"`
}

type memberReply struct {
	Member GroupMember `json:"member"`
}

// AddGroupMember puts a person, named by id or e-mail address, into a group; added says whether they were not in it.
func (c *Client) AddGroupMember(ctx context.Context, id, person string) (m GroupMember, added bool, err error) {
	var out memberReply
	a, err := c.do(ctx, call{method: http.MethodPost, path: path("groups", id, "members"), body: MemberDraft{UserID: person}}, &out)
	out.Member.ETag = a.etag
	return out.Member, a.status == http.StatusCreated, err
}

// GroupMembers returns one page of a group's members.
func (c *Client) GroupMembers(ctx context.Context, id string, f PageFilter) (GroupMemberPage, error) {
	var out GroupMemberPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("groups", id, "members"), query: f.query()}, &out)
	return out, err
}

// PageFilter selects a part of a list that has no other filter.
type PageFilter struct {
	Limit  int // 0 means 100; at most 1000
	Cursor string
	Skip   int
}

func (f PageFilter) query() url.Values {
	return ListFilter{Limit: f.Limit, Cursor: f.Cursor, Skip: f.Skip}.query()
}

// GetGroupMember returns one member of a group.
func (c *Client) GetGroupMember(ctx context.Context, id, userID string) (GroupMember, error) {
	var out memberReply
	a, err := c.do(ctx, call{method: http.MethodGet, path: path("groups", id, "members", userID)}, &out)
	out.Member.ETag = a.etag
	return out.Member, err
}

// RemoveGroupMember takes a person from a group.
func (c *Client) RemoveGroupMember(ctx context.Context, id, userID string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("groups", id, "members", userID)}, nil)
	return err
}
