package identity

import (
	"context"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// User is a person. Its password is not part of it.
type User struct {
	ID     string
	Email  string // in lower case
	Name   string
	Role   Role
	Active bool
	// Invited says that the person has no password: they have not used their link yet.
	Invited     bool
	CreatedAt   time.Time
	UpdatedAt   time.Time
	LastLoginAt *time.Time
	// Limits are what all client keys that the person made may use together; nil for none.
	Limits *quota.Limits
}

// Target returns the person as audit records name it.
func (u User) Target() store.Target { return store.Target{Kind: "user", ID: u.ID, Name: u.Name} }

// caller is the person as the one who acts, reached as c was.
func (u User) caller(c Caller) Caller {
	return Caller{Kind: KindPerson, ID: u.ID, Name: u.Name, UserID: u.ID, Role: u.Role, RequestID: c.RequestID, IP: c.IP, UserAgent: c.UserAgent}
}

const userColumns = `id, email, name, role, password_hash, active, created_at, updated_at, last_login_at, limits`

type userRow struct {
	ID           string      `db:"id"`
	Email        string      `db:"email"`
	Name         string      `db:"name"`
	Role         Role        `db:"role"`
	PasswordHash string      `db:"password_hash"`
	Active       int64       `db:"active"`
	CreatedAt    store.Time  `db:"created_at"`
	UpdatedAt    store.Time  `db:"updated_at"`
	LastLoginAt  *store.Time `db:"last_login_at"`
	Limits       string      `db:"limits"`
}

func (u userRow) user() User {
	return User{ID: u.ID, Email: u.Email, Name: u.Name, Role: u.Role, Active: u.Active == 1, Invited: u.PasswordHash == "", CreatedAt: u.CreatedAt.Time(), UpdatedAt: u.UpdatedAt.Time(), LastLoginAt: u.LastLoginAt.Ptr(), Limits: quota.Parse(u.Limits)}
}

// HasAdministrator reports whether an administrator was ever made; a deactivated one counts, lest a set-up link take the place over.
// [LocalOperator] does not: nobody can sign in as that.
func (r *Room) HasAdministrator(ctx context.Context) (bool, error) {
	var has bool
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		has, err = hasAdministrator(tx)
		return err
	})
	return has, err
}

func hasAdministrator(tx *store.Tx) (bool, error) {
	var n int
	err := tx.Get(&n, `SELECT COUNT(*) FROM users WHERE role = $1 AND email <> $2`, string(Administrator), LocalOperator)
	return n > 0, err
}

func alreadySetUp() error {
	return fault.New(fault.Conflict, "already_set_up", "This Signalbox has an administrator already. Ask them for an account, or for a token.")
}

// CreateAdministrator makes the first administrator. Its faults are "forbidden", "validation_failed" and "already_set_up"; of several calls
// at once, one succeeds.
func (r *Room) CreateAdministrator(ctx context.Context, caller Caller, email, name string, password secret.Value) (User, error) {
	if err := r.allow(ctx, caller, UserWrite, store.Target{Kind: "user"}); err != nil {
		return User{}, err
	}
	row, err := r.newAdministrator(email, name, password)
	if err != nil {
		return User{}, err
	}
	// Known before the costly hash; what counts is asked again under the lock.
	if has, err := r.HasAdministrator(ctx); err != nil {
		return User{}, err
	} else if has {
		return User{}, alreadySetUp()
	}
	if row.PasswordHash, err = r.hasher.hash(ctx, password); err != nil {
		return User{}, err
	}
	var user User
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) (err error) {
		if err := lock(tx, "administrator"); err != nil {
			return err
		}
		user, err = insertAdministrator(tx, caller, row)
		return err
	})
	if err != nil {
		return User{}, err
	}
	return user, nil
}

func (r *Room) newAdministrator(email, name string, password secret.Value) (userRow, error) {
	var p problems
	row := userRow{ID: store.NewID("user"), Email: p.email("/email", email), Name: p.name("/name", name), Role: Administrator, Active: 1}
	if err := r.password(&p, "/password", password); err != nil {
		return userRow{}, err
	}
	if err := p.result(); err != nil {
		return userRow{}, err
	}
	if row.Email == LocalOperator {
		return userRow{}, personExists() // whether or not it was made yet: the set-up must make somebody else
	}
	return row, nil
}

func personExists() error {
	return fault.New(fault.Conflict, "already_exists", "There is a person with this e-mail address already. Use another one.")
}

// insertAdministrator runs under the lock "administrator". It voids every set-up link: there is nothing left to set up.
func insertAdministrator(tx *store.Tx, caller Caller, row userRow) (User, error) {
	if has, err := hasAdministrator(tx); err != nil {
		return User{}, err
	} else if has {
		return User{}, alreadySetUp()
	}
	row.CreatedAt = store.TimeOf(tx.Now())
	row.UpdatedAt = row.CreatedAt
	if err := insertUser(tx, caller, row); err != nil {
		return User{}, err
	}
	if _, err := tx.Exec(`DELETE FROM setup_links`); err != nil {
		return User{}, err
	}
	return row.user(), nil
}

// insertUser stores a person and records it.
func insertUser(tx *store.Tx, caller Caller, row userRow) error {
	if _, err := tx.Exec(`INSERT INTO users (`+userColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)`,
		row.ID, row.Email, row.Name, string(row.Role), row.PasswordHash, row.Active, row.CreatedAt, row.UpdatedAt, row.LastLoginAt, row.Limits); err != nil {
		if store.IsConflict(err) {
			return personExists()
		}
		return err
	}
	tx.Change(store.TopicUser, row.ID)
	user := row.user()
	ev := caller.Event(store.UserCreate, user.Target())
	ev.Details = store.Details{store.Str("role", string(user.Role))}
	return tx.Record(ev)
}

// Permit is [Allow] for a door that guards something of its own: a refusal is recorded like those of acts on people and tokens.
func (r *Room) Permit(ctx context.Context, caller Caller, p Permission, target store.Target) error {
	return r.allow(ctx, caller, p, target)
}

// PermitWithin is [Room.Permit] for an act that its room narrows to what the caller reaches, see [Within].
func (r *Room) PermitWithin(ctx context.Context, caller Caller, p Permission, target store.Target) error {
	_, verdict := Within(caller, p)
	if verdict == nil {
		return nil
	}
	return r.refused(ctx, caller, target, verdict)
}

// allow is [Allow] for acts on people and tokens: a refusal is recorded. Nobody's is not, since anyone can cause it as often as they like.
func (r *Room) allow(ctx context.Context, caller Caller, p Permission, target store.Target) error {
	verdict := Allow(caller, p)
	if verdict == nil {
		return nil
	}
	return r.refused(ctx, caller, target, verdict)
}

// refused records the refusal and returns it.
func (r *Room) refused(ctx context.Context, caller Caller, target store.Target, verdict error) error {
	if caller.Kind == KindAnonymous || caller.Kind == "" {
		return verdict
	}
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		ev := caller.Event(store.IdentityRefused, target)
		ev.Outcome, ev.Reason = store.OutcomeRefused, fault.Of(verdict).Code
		return tx.Record(ev)
	})
	if err != nil {
		return err
	}
	return verdict
}
