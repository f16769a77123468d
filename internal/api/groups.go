package api

import (
	"context"
	"net/http"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
)

type groupDraft struct {
	Name        string `json:"name" minLength:"1" maxLength:"100" doc:"Unique, in upper or lower case."`
	Description string `json:"description,omitempty" maxLength:"2000"`
}

type groupPatch struct {
	Name        *string      `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Description edit[string] `json:"description,omitempty" maxLength:"2000"`
}

type memberDraft struct {
	UserID string `json:"user_id" minLength:"1" maxLength:"254" doc:"The person's id or e-mail address."`
}

type groupBody struct {
	Group client.Group `json:"group"`
}

type groupAnswer struct {
	ETag     string `header:"ETag" doc:"Names this state, for If-Match."`
	Location string `header:"Location" hidden:"true"`
	Body     groupBody
}

type memberBody struct {
	Member client.GroupMember `json:"member"`
}

// OfMember is the path of a member of a group.
type OfMember struct {
	ByID
	User string `path:"user_id" doc:"The person's id."`
}

// NamePage is the query of a list of things that have a name.
type NamePage struct {
	Page
	Q string `query:"q" maxLength:"200" doc:"A part of the name."`
}

func (p NamePage) filter() identity.NameFilter {
	return identity.NameFilter{Q: p.Q, Limit: p.Limit, Cursor: p.Cursor, Skip: p.Skip}
}

func shownGroup(g identity.Group) client.Group {
	return client.Group{ID: g.ID, Name: g.Name, Description: g.Description, Members: g.Members, CreatedAt: g.CreatedAt, UpdatedAt: g.UpdatedAt}
}

func shownMember(m identity.GroupMember) client.GroupMember {
	return client.GroupMember{UserID: m.UserID, Email: m.Email, Name: m.Name, Active: m.Active, AddedAt: m.AddedAt, ByHand: m.ByHand, Providers: some(m.Providers)}
}

func groupOut(g identity.Group, err error) (*groupAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &groupAnswer{ETag: g.ETag(), Body: groupBody{shownGroup(g)}}, nil
}

func (s *service) addGroups() {
	const tag, all, one = "groups", "/api/groups", "/api/groups/{id}"
	read, write := string(identity.GroupRead), string(identity.GroupWrite)
	add(s, route{method: http.MethodGet, path: all, id: "list-groups", summary: "List groups of people", tag: tag, access: read}, s.listGroups)
	add(s, route{method: http.MethodPost, path: all, id: "create-group", summary: "Make a group of people", tag: tag, access: write, status: http.StatusCreated}, s.createGroup)
	add(s, route{method: http.MethodGet, path: one, id: "get-group", summary: "Read a group", tag: tag, access: read}, s.getGroup)
	add(s, route{method: http.MethodPatch, path: one, id: "patch-group", summary: "Change a group's name or description", tag: tag,
		description: "A merge patch (RFC 7396).", access: write}, s.updateGroup)
	add(s, route{method: http.MethodDelete, path: one, id: "delete-group", summary: "Delete a group", tag: tag,
		description: "What was granted to it goes with it, and so do the client keys that its people made on trains to which it was their only way (private ones and, with the role member, any).", access: write}, s.deleteGroup)
	add(s, route{method: http.MethodGet, path: one + "/members", id: "list-group-members", summary: "List the members of a group", tag: tag, access: read}, s.listMembers)
	add(s, route{method: http.MethodPost, path: one + "/members", id: "add-group-member", summary: "Put a person into a group", tag: tag,
		description: "201 for a new member, 200 for one who was in it.", access: write, status: http.StatusCreated, also: http.StatusOK}, s.addMember)
	add(s, route{method: http.MethodGet, path: one + "/members/{user_id}", id: "get-group-member", summary: "Read one membership", tag: tag, access: read}, s.getMember)
	add(s, route{method: http.MethodDelete, path: one + "/members/{user_id}", id: "remove-group-member", summary: "Take a person from a group", tag: tag,
		description: "What was granted to the group is theirs no longer, and the client keys end that they made on trains to which it was their only way (private ones and, with the role member, any). A single sign-on provider that gives the membership gives it again at their next sign-in there.", access: write}, s.removeMember)
}

func (s *service) listGroups(ctx context.Context, caller identity.Caller, in *NamePage) (*struct{ Body client.GroupPage }, error) {
	groups, next, err := s.Identity.ListGroups(ctx, caller, in.filter())
	if err != nil {
		return nil, err
	}
	out := client.GroupPage{Groups: make([]client.Group, len(groups)), NextCursor: next}
	for i, g := range groups {
		out.Groups[i] = shownGroup(g)
	}
	return &struct{ Body client.GroupPage }{out}, nil
}

func (s *service) createGroup(ctx context.Context, caller identity.Caller, in *struct{ Body groupDraft }) (*groupAnswer, error) {
	out, err := groupOut(s.Identity.CreateGroup(ctx, caller, identity.GroupDraft{Name: in.Body.Name, Description: in.Body.Description}))
	if err == nil {
		out.Location = "/api/groups/" + out.Body.Group.ID
	}
	return out, err
}

func (s *service) getGroup(ctx context.Context, caller identity.Caller, in *ByID) (*groupAnswer, error) {
	return groupOut(s.Identity.Group(ctx, caller, in.ID))
}

func (s *service) updateGroup(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
	Body groupPatch
}) (*groupAnswer, error) {
	return groupOut(s.Identity.UpdateGroup(ctx, caller, in.ID, identity.GroupPatch{
		Name: in.Body.Name, Description: in.Body.Description.pointer(), IfMatch: in.IfMatch.IfMatch,
	}))
}

func (s *service) deleteGroup(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
}) (*struct{}, error) {
	return nil, s.Identity.DeleteGroup(ctx, caller, in.ID, in.IfMatch.IfMatch)
}

func (s *service) listMembers(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	Page
}) (*struct{ Body client.GroupMemberPage }, error) {
	members, next, err := s.Identity.GroupMembers(ctx, caller, in.ID, identity.NameFilter{Limit: in.Limit, Cursor: in.Cursor, Skip: in.Skip})
	if err != nil {
		return nil, err
	}
	out := client.GroupMemberPage{Members: make([]client.GroupMember, len(members)), NextCursor: next}
	for i, m := range members {
		out.Members[i] = shownMember(m)
	}
	return &struct{ Body client.GroupMemberPage }{out}, nil
}

type memberAnswer struct {
	Status int
	ETag   string `header:"ETag" doc:"Names this state, for If-Match."`
	Body   memberBody
}

func (s *service) addMember(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	Body memberDraft
}) (*memberAnswer, error) {
	m, added, err := s.Identity.AddGroupMember(ctx, caller, in.ID, in.Body.UserID)
	if err != nil {
		return nil, err
	}
	out := &memberAnswer{Status: http.StatusOK, ETag: m.ETag(), Body: memberBody{shownMember(m)}}
	if added {
		out.Status = http.StatusCreated
	}
	return out, nil
}

type oneMemberAnswer struct {
	ETag string `header:"ETag" doc:"Names this state, for If-Match."`
	Body memberBody
}

func (s *service) getMember(ctx context.Context, caller identity.Caller, in *OfMember) (*oneMemberAnswer, error) {
	m, err := s.Identity.GroupMember(ctx, caller, in.ID, in.User)
	if err != nil {
		return nil, err
	}
	return &oneMemberAnswer{ETag: m.ETag(), Body: memberBody{shownMember(m)}}, nil
}

func (s *service) removeMember(ctx context.Context, caller identity.Caller, in *struct {
	OfMember
	IfMatch
}) (*struct{}, error) {
	return nil, s.Identity.RemoveGroupMember(ctx, caller, in.ID, in.User, in.IfMatch.IfMatch)
}
