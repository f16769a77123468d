package identity

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// ETag is the validator of this state of the person (RFC 9110, section 8.8.3). Sign-ins do not change it.
func (u User) ETag() string {
	return etag.Of(u.ID, u.Email, u.Name, string(u.Role), strconv.FormatBool(u.Active), strconv.FormatBool(u.Invited), u.Limits.Text())
}

// UserDraft says whom to add.
type UserDraft struct {
	Email, Name string
	Role        Role
	Password    secret.Value // zero: the person is invited, and sets their own
}

// UserFilter narrows a list of people.
type UserFilter struct {
	Q      string // part of the name or the e-mail address, in any case
	Role   Role   // empty: all
	Active *bool  // nil: all
	Limit  int    // 0: 100; at most 1000
	Cursor string
	Skip   int
}

// UserPatch says what to change of a person; what is nil stays as it is.
type UserPatch struct {
	Email, Name *string
	Role        *Role
	Active      *bool
	Limits      *quota.Patch // what all client keys that they made may use together
	IfMatch     string       // the If-Match header that the person's ETag must satisfy, or empty
}

// CreateUser adds a person. Without a password the answer has a link that works once, for [InviteLife], by which the person sets one.
// Its faults are "forbidden", "step_up_required", "validation_failed" and "already_exists".
func (r *Room) CreateUser(ctx context.Context, caller Caller, d UserDraft) (User, *Link, error) {
	target := store.Target{Kind: "user"}
	if err := r.allowFresh(ctx, caller, UserWrite, target); err != nil {
		return User{}, nil, err
	}
	var p problems
	row := userRow{ID: store.NewID("user"), Email: p.email("/email", d.Email), Name: p.name("/name", d.Name), Role: d.Role, Active: 1}
	p.role("/role", d.Role)
	if !d.Password.IsZero() {
		if err := r.password(&p, "/password", d.Password); err != nil {
			return User{}, nil, err
		}
	}
	if err := p.result(); err != nil {
		return User{}, nil, err
	}
	if row.Email == LocalOperator {
		return User{}, nil, personExists()
	}
	var err error
	if !d.Password.IsZero() {
		if row.PasswordHash, err = r.hasher.hash(ctx, d.Password); err != nil {
			return User{}, nil, err
		}
	}
	var link *Link
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		row.CreatedAt = store.TimeOf(tx.Now())
		row.UpdatedAt = row.CreatedAt
		if err := insertUser(tx, caller, row); err != nil {
			return err
		}
		link = nil
		if row.PasswordHash != "" {
			return nil
		}
		made, err := newLink(tx, caller, row, store.UserInvite, InviteLife)
		link = &made
		return err
	})
	if err != nil {
		return User{}, nil, err
	}
	return row.user(), link, nil
}

// Users returns people, the newest first, and the cursor of the next page (empty at the end). It needs [UserRead].
func (r *Room) Users(ctx context.Context, caller Caller, f UserFilter) (users []User, next string, err error) {
	if err := r.allow(ctx, caller, UserRead, store.Target{Kind: "user"}); err != nil {
		return nil, "", err
	}
	if err := checkQ(f.Q); err != nil {
		return nil, "", err
	}
	size := pageSize(f.Limit)
	var rows []userRow
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		rows = nil
		var w store.Where
		if err := narrow(&w, tx.Now(), "user", "", f.Cursor); err != nil {
			return err
		}
		if f.Q != "" {
			part := store.Like(strings.ToLower(f.Q))
			w.Add(`(LOWER(name) LIKE ? ESCAPE '\' OR email LIKE ? ESCAPE '\')`, part, part)
		}
		if f.Role != "" {
			w.Add("role = ?", string(f.Role))
		}
		if f.Active != nil {
			flag := 0
			if *f.Active {
				flag = 1
			}
			w.Add("active = ?", flag)
		}
		return tx.Select(&rows, `SELECT `+userColumns+` FROM users`+w.SQL()+` ORDER BY id DESC LIMIT `+w.Arg(size+1)+` OFFSET `+w.Arg(max(f.Skip, 0)), w.Args()...)
	})
	if err != nil {
		return nil, "", err
	}
	if len(rows) > size {
		rows = rows[:size]
		next = rows[size-1].ID
	}
	users = make([]User, len(rows))
	for i, row := range rows {
		users[i] = row.user()
	}
	return users, next, nil
}

// User returns a person. Everybody may read themselves; others need [UserRead], and without it are the fault "not_found".
func (r *Room) User(ctx context.Context, caller Caller, id string) (User, error) {
	target := store.Target{Kind: "user", ID: id}
	if err := r.allow(ctx, caller, ProfileRead, target); err != nil {
		return User{}, err
	}
	if id != caller.UserID && Allow(caller, UserRead) != nil {
		return User{}, r.refused(ctx, caller, target, noPerson())
	}
	var row userRow
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) error { return tx.Get(&row, `SELECT `+userColumns+` FROM users WHERE id = $1`, id) })
	if errors.Is(err, store.ErrNotFound) {
		return User{}, noPerson()
	} else if err != nil {
		return User{}, err
	}
	return row.user(), nil
}

// UpdateUser changes a person. Everybody may change their own name; everything else needs [UserWrite], and in a session a fresh proof. A new
// role ends the person's sessions, deactivation also their tokens; and the client keys end that they made on trains to which that leaves them no way (lostkeys.go). Its faults are "forbidden" (one's own role among it), "step_up_required",
// "not_found", "validation_failed", "already_exists", "etag_mismatch", "state_conflict" for the local operator, and "last_administrator".
func (r *Room) UpdateUser(ctx context.Context, caller Caller, id string, p UserPatch) (User, error) {
	target := store.Target{Kind: "user", ID: id}
	if err := r.allow(ctx, caller, ProfileWrite, target); err != nil {
		return User{}, err
	}
	switch {
	case id == caller.UserID && p.Role == nil && p.Active == nil && p.Email == nil && p.Limits == nil:
	case id == caller.UserID || Allow(caller, UserRead) == nil:
		if err := r.allowFresh(ctx, caller, UserWrite, target); err != nil {
			return User{}, err
		}
	case Allow(caller, UserWrite) != nil: // who may not see the person does not hear that there is one
		return User{}, r.refused(ctx, caller, target, noPerson())
	default:
		if err := r.allowFresh(ctx, caller, UserWrite, target); err != nil {
			return User{}, err
		}
	}
	var user User
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) (err error) {
		user, err = r.updateUser(tx, caller, id, p)
		return err
	})
	if f, ok := fault.As(err); ok && (f.Code == "last_administrator" || f.Kind == fault.Forbidden) {
		return User{}, r.refused(ctx, caller, target, err)
	}
	return user, err
}

func (r *Room) updateUser(tx *store.Tx, caller Caller, id string, p UserPatch) (User, error) {
	// The lock on the administrators comes before that on a person, here as in the set-up.
	if p.Role != nil || p.Active != nil {
		if err := lock(tx, "administrator"); err != nil {
			return User{}, err
		}
	}
	old, err := lockUser(tx, id)
	if err != nil {
		return User{}, err
	}
	if !etag.Match(p.IfMatch, old.user().ETag()) {
		return User{}, fault.New(fault.Precondition, "etag_mismatch", "The person was changed since they were read. Read them again, then repeat the change.")
	}
	row, fields, err := patched(old, p)
	if err != nil {
		return User{}, err
	}
	switch {
	case old.Email == LocalOperator && (row.Role != old.Role || row.Email != old.Email):
		return User{}, fault.New(fault.Conflict, "state_conflict", "The local operator is whoever works on the server's own machine, so their role and address stay. Deactivate them if nobody shall have that way in.")
	case row.Role != old.Role && id == caller.UserID:
		return User{}, fault.New(fault.Forbidden, "forbidden", "Nobody changes their own role. Ask another administrator.")
	}
	if old.Role == Administrator && old.Active == 1 && (row.Role != Administrator || row.Active != 1) {
		if err := anotherAdministrator(tx, old); err != nil {
			return User{}, err
		}
	}
	if err := r.BeginBudget(tx, row.ID, quota.Parse(old.Limits), quota.Parse(row.Limits)); err != nil {
		return User{}, err
	}
	row.UpdatedAt = store.TimeOf(tx.Now())
	if _, err := tx.Exec(`UPDATE users SET email = $1, name = $2, role = $3, active = $4, updated_at = $5, limits = $6 WHERE id = $7`,
		row.Email, row.Name, string(row.Role), row.Active, row.UpdatedAt, row.Limits, row.ID); err != nil {
		if store.IsConflict(err) {
			return User{}, personExists()
		}
		return User{}, err
	}
	tx.Change(store.TopicUser, row.ID)
	if err := r.recordChange(tx, caller, old, row, fields); err != nil {
		return User{}, err
	}
	return row.user(), r.endKeysOfPerson(tx, caller, old, row)
}

// patched returns the person as they will be, and the names of the plain fields that change.
func patched(row userRow, p UserPatch) (userRow, []string, error) {
	var bad problems
	var fields []string
	if p.Name != nil {
		if name := bad.name("/name", *p.Name); name != row.Name {
			row.Name = name
			fields = append(fields, "name")
		}
	}
	if p.Email != nil {
		if email := bad.email("/email", *p.Email); email != row.Email {
			row.Email = email
			fields = append(fields, "email")
		}
		if canonicalEmail(*p.Email) == LocalOperator && len(fields) > 0 && slices.Contains(fields, "email") {
			return row, nil, personExists()
		}
	}
	if p.Role != nil {
		bad.role("/role", *p.Role)
		row.Role = *p.Role
	}
	if p.Active != nil {
		row.Active = 0
		if *p.Active {
			row.Active = 1
		}
	}
	if err := bad.result(); err != nil {
		return row, nil, err
	}
	limits, changed, err := patchLimits(row.Limits, p.Limits)
	row.Limits = limits
	return row, append(fields, changed...), err
}

// recordChange records what became of a person, and ends what must end with it, but for their keys ([Room.endKeysOfPerson]).
func (r *Room) recordChange(tx *store.Tx, caller Caller, old, row userRow, fields []string) error {
	user := row.user()
	if len(fields) > 0 || old.Role == row.Role && old.Active == row.Active {
		ev := caller.Event(store.UserUpdate, user.Target())
		ev.Fields = fields
		if err := tx.Record(ev); err != nil {
			return err
		}
	}
	if old.Role != row.Role {
		ev := caller.Event(store.UserRole, user.Target())
		ev.Details = store.Details{store.Str("from", string(old.Role)), store.Str("to", string(row.Role))}
		if err := tx.Record(ev); err != nil {
			return err
		}
		if _, err := r.endSessions(tx, caller, row.ID, "", "role_changed"); err != nil {
			return err
		}
	}
	switch {
	case old.Active == row.Active:
		return nil
	case row.Active == 1:
		return tx.Record(caller.Event(store.UserActivate, user.Target()))
	}
	if err := tx.Record(caller.Event(store.UserDeactivate, user.Target())); err != nil {
		return err
	}
	if _, err := r.endSessions(tx, caller, row.ID, "", "deactivated"); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM user_links WHERE user_id = $1`, row.ID); err != nil {
		return err
	}
	return r.revokeAll(tx, caller, row.ID)
}

// anotherAdministrator returns nil when somebody else is an administrator who can sign in. It runs under the lock "administrator".
func anotherAdministrator(tx *store.Tx, one userRow) error {
	if one.Email == LocalOperator {
		return nil
	}
	var n int
	err := tx.Get(&n, `SELECT COUNT(*) FROM users WHERE role = $1 AND active = 1 AND password_hash <> '' AND email <> $2 AND id <> $3`, string(Administrator), LocalOperator, one.ID)
	if err == nil && n == 0 {
		err = lastAdministrator()
	}
	return err
}

func lastAdministrator() error {
	return fault.New(fault.Conflict, "last_administrator", "This is the last administrator who can sign in. Make another person an administrator first, and let them set their password.")
}

// allowFresh is allow for acts that in a session need a fresh proof.
func (r *Room) allowFresh(ctx context.Context, caller Caller, p Permission, target store.Target) error {
	if err := r.allow(ctx, caller, p, target); err != nil {
		return err
	}
	if err := RequireFresh(caller, r.now()); err != nil {
		return r.refused(ctx, caller, target, err)
	}
	return nil
}
