package mcp

import (
	"context"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// Foreign is somebody's connection to a server as another program kept it.
type Foreign struct {
	// User is whose it is: the id of a person or service account of ours, or else the subject by which an outside issuer's tokens name them.
	User string
	// Issuer is the name or id of that issuer; "" means the only one there is whose callers are nobody here.
	Issuer  string
	Deposit Deposit
}

// Taken says what became of it.
type Taken struct {
	ID string // of the connection
	// Known says that there was one already, which was left as it is.
	Known bool
}

// MayTakeForeign asks for [identity.MCPConnect] of everybody's connections.
func (r *Room) MayTakeForeign(ctx context.Context, caller identity.Caller) error {
	reach, err := identity.Within(caller, identity.MCPConnect)
	if err == nil && reach != identity.Everything {
		err = fault.New(fault.Forbidden, "forbidden", "Other people's connections to MCP servers are taken over by operators and administrators. Ask one of them.")
	}
	if err != nil {
		return r.refused(ctx, caller, store.Target{Kind: "mcp_connection"}, err)
	}
	return nil
}

// TakeForeign stores somebody's connection in the transaction of whoever takes it over, who has asked [Room.MayTakeForeign]. One that is there stays as it is, also one
// that only bars. Its faults are validation_failed; none quotes what came.
func (r *Room) TakeForeign(tx *store.Tx, caller identity.Caller, f Foreign) (Taken, error) {
	subject, owner, err := foreignSubject(tx, f)
	if err != nil {
		return Taken{}, err
	}
	if bad := r.Check(f.Deposit); len(bad) > 0 {
		refusal := invalidForeign(bad[0].Pointer, bad[0].Message)
		for _, field := range bad[1:] {
			_ = refusal.With(field.Pointer, field.Message)
		}
		return Taken{}, refusal
	}
	w, there, err := lockConnection(tx, subject, f.Deposit.Server)
	if err != nil {
		return Taken{}, err
	}
	if there {
		return Taken{ID: w.ID, Known: true}, nil
	}
	d := f.Deposit
	d.owner = &owner
	w, err = r.take(tx, caller, subject, d)
	return Taken{ID: w.ID}, err
}

func invalidForeign(pointer, message string) *fault.Error {
	return fault.New(fault.Unprocessable, "validation_failed", "The connection cannot be taken over like this; see errors.").With(pointer, message)
}

// number is how an issuer's tokens name somebody by a number.
var number = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)

// foreignSubject finds out whose a connection is, and who of ours owns its credential.
func foreignSubject(tx *store.Tx, f Foreign) (subject string, owner identity.Caller, err error) {
	if f.Issuer == "" {
		for table, who := range map[string]identity.Caller{"users": {UserID: f.User}, "service_accounts": {ServiceID: f.User}} {
			var n int
			if err := tx.Get(&n, `SELECT COUNT(*) FROM `+table+` WHERE id = $1`, f.User); err != nil {
				return "", identity.Caller{}, err
			}
			if n > 0 {
				return f.User, who, nil
			}
		}
	}
	var issuers []struct {
		ID   string               `db:"id"`
		Name string               `db:"name"`
		Form identity.SubjectForm `db:"subject_form"`
	}
	if err := tx.Select(&issuers, `SELECT id, name, subject_form FROM jwt_issuers WHERE subject_is = $1 AND ($2 = '' OR id = $2 OR name = $2) ORDER BY id`, string(identity.SubjectOutsider), f.Issuer); err != nil {
		return "", identity.Caller{}, err
	}
	switch {
	case len(issuers) == 0:
		return "", identity.Caller{}, invalidForeign("the user", "is nobody here, and there is no outside issuer of that name whose callers are nobody here; add the issuer first")
	case len(issuers) > 1:
		return "", identity.Caller{}, invalidForeign("the issuer", "is not said, and there are several outside issuers whose callers are nobody here; name it in the file")
	case issuers[0].Form == identity.SubjectNumber && !number.MatchString(f.User):
		return "", identity.Caller{}, invalidForeign("the user", "is no number, as which the issuer's tokens name people")
	}
	subject = issuers[0].ID + "#" + f.User
	if f.User == "" || len(subject) > maxSubject || !utf8.ValidString(subject) || strings.ContainsFunc(subject, unicode.IsControl) || strings.TrimSpace(f.User) != f.User {
		return "", identity.Caller{}, invalidForeign("the user", "is named in a form that no token can have")
	}
	return subject, identity.Caller{}, nil
}
