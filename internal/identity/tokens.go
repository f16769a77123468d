package identity

import (
	"context"
	"errors"
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Token is the token of a person or of a service account as it may be shown. Its secret is known only when it is issued.
type Token struct {
	ID         string
	UserID     string // or
	ServiceID  string
	Owner      string // the name of whose it is, as it was when this was read
	Name       string
	Preview    string // beginning and last four characters
	Scopes     Scopes
	Status     Status
	CreatedAt  time.Time
	LastUsedAt *time.Time
	ExpiresAt  *time.Time
	RevokedAt  *time.Time
}

// Target returns the token as audit records name it.
func (t Token) Target() store.Target { return store.Target{Kind: "token", ID: t.ID, Name: t.Name} }

// TokenDraft says what token to issue.
type TokenDraft struct {
	UserID    string // with ServiceID empty: the caller itself
	ServiceID string // the service account whose token it will be; then no UserID
	Name      string
	Scopes    Scopes     // none: all that the owner's role has and, when a token asks, that token has
	ExpiresAt *time.Time // nil: never
}

// TokenFilter narrows a list of tokens.
type TokenFilter struct {
	UserID    string // with ServiceID empty: the caller itself
	ServiceID string // the service account whose tokens are listed; then no UserID
	Everybody bool   // those of all people and service accounts, in place of both ids
	Status    Status // empty: all
	Limit     int    // 0: 100; at most 1000
	Cursor    string // what the page before gave as next; empty: the newest tokens
	Skip      int
}

// MaxTokens is how many active tokens a person or a service account may have.
const MaxTokens = 100

const tokenColumns = `id, COALESCE(user_id, '') AS user_id, COALESCE(service_account_id, '') AS service_account_id, name, preview, scopes, created_at, last_used_at, expires_at, revoked_at`

const ownerColumn = `, COALESCE((SELECT u.name FROM users u WHERE u.id = tokens.user_id), (SELECT a.name FROM service_accounts a WHERE a.id = tokens.service_account_id), '') AS owner`

type tokenRow struct {
	ID         string      `db:"id"`
	UserID     string      `db:"user_id"`
	ServiceID  string      `db:"service_account_id"`
	Owner      string      `db:"owner"`
	Name       string      `db:"name"`
	Preview    string      `db:"preview"`
	Scopes     string      `db:"scopes"`
	CreatedAt  store.Time  `db:"created_at"`
	LastUsedAt *store.Time `db:"last_used_at"`
	ExpiresAt  *store.Time `db:"expires_at"`
	RevokedAt  *store.Time `db:"revoked_at"`
}

func (r *Room) token(row tokenRow, now time.Time) (Token, error) {
	scopes, err := decodeScopes(row.Scopes)
	return Token{
		ID: row.ID, UserID: row.UserID, ServiceID: row.ServiceID, Owner: row.Owner, Name: row.Name, Preview: row.Preview, Scopes: scopes, Status: status(row.ExpiresAt, row.RevokedAt, now),
		CreatedAt: row.CreatedAt.Time(), LastUsedAt: lastUse(row.LastUsedAt, r.tokens.get(row.ID)), ExpiresAt: row.ExpiresAt.Ptr(), RevokedAt: row.RevokedAt.Ptr(),
	}, err
}

// IssueToken makes a token of a person or a service account and returns its secret, which is never known again. Nobody can issue a token
// that may do more than they or its owner may. Its faults are "forbidden", "scope_missing", "not_found" (no such owner),
// "validation_failed", "state_conflict" (the owner is deactivated or has [MaxTokens]) and, in a session, "step_up_required".
func (r *Room) IssueToken(ctx context.Context, caller Caller, d TokenDraft) (Token, secret.Value, error) {
	none := secret.Value{}
	if err := r.allowOn(ctx, caller, TokenWrite, UserWrite, ServiceWrite, &d.UserID, &d.ServiceID); err != nil {
		return Token{}, none, err
	}
	// A session lasts for hours, a token for good: who holds a stolen cookie must not turn the one into the other.
	if err := RequireFresh(caller, r.now()); err != nil {
		return Token{}, none, r.refused(ctx, caller, store.Target{Kind: "user", ID: d.UserID}, err)
	}
	var verdict error
	var token Token
	var value secret.Value
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) (err error) {
		verdict = nil
		own, err := tokenOwner(tx, d.UserID, d.ServiceID)
		if err != nil {
			return err
		}
		if !own.active {
			return fault.New(fault.Conflict, "state_conflict", "This "+own.noun+" is deactivated, so they get no token.")
		}
		if d.ServiceID != "" && d.ServiceID != caller.ServiceID {
			if verdict = beyond(caller, own.role); verdict != nil {
				return recordRefusal(tx, caller, own.target, verdict)
			}
		}
		draft := d
		if draft.Name, draft.Scopes, err = validToken(caller, own.role, d, tx.Now()); err != nil {
			return err
		}
		if caller.scoped() {
			for _, s := range draft.Scopes {
				if !caller.Scopes.Has(s) {
					verdict = fault.New(fault.Forbidden, "scope_missing", "A token cannot issue one that may do more than itself: it lacks the scope "+string(s)+". Use a token that has it, or ask for fewer scopes.")
					return recordRefusal(tx, caller, own.target, verdict)
				}
			}
		}
		var w store.Where
		w.Add(own.column+" = ?", own.target.ID)
		active(&w, tx.Now())
		var n int
		if err := tx.Get(&n, `SELECT COUNT(*) FROM tokens`+w.SQL(), w.Args()...); err != nil {
			return err
		}
		if n >= MaxTokens {
			return fault.New(fault.Conflict, "state_conflict", "This "+own.noun+" has "+strconv.Itoa(MaxTokens)+" active tokens, and may not have more. Revoke some that are not used.")
		}
		token, value, err = r.insertToken(tx, caller, draft)
		token.Owner = own.target.Name
		return err
	})
	if err == nil {
		err = verdict
	}
	if err != nil {
		return Token{}, none, err
	}
	return token, value, nil
}

// owner is whose a token is.
type owner struct {
	target       store.Target
	role         Role
	active       bool
	column, noun string
}

// tokenOwner reads the owner under a lock, which also makes a count of its tokens safe.
func tokenOwner(tx *store.Tx, userID, serviceID string) (owner, error) {
	if serviceID != "" {
		a, err := findService(tx, serviceID, tx.ForUpdate())
		return owner{target: a.Target(), role: a.Role, active: a.Active, column: "service_account_id", noun: "service account"}, err
	}
	var row userRow
	err := tx.Get(&row, `SELECT `+userColumns+` FROM users WHERE id = $1`+tx.ForUpdate(), userID)
	if errors.Is(err, store.ErrNotFound) {
		err = noPerson()
	}
	return owner{target: row.user().Target(), role: row.Role, active: row.Active == 1, column: "user_id", noun: "person"}, err
}

// validToken returns the name and the scopes that the token gets.
func validToken(caller Caller, role Role, d TokenDraft, now time.Time) (string, Scopes, error) {
	var p problems
	name := p.name("/name", d.Name)
	p.expiry("/expires_at", d.ExpiresAt, now)
	all := RoleScopes(role)
	if len(d.Scopes) == 0 {
		var scopes Scopes
		for _, s := range all {
			if !caller.scoped() || caller.Scopes.Has(s) {
				scopes = append(scopes, s)
			}
		}
		return name, scopes, p.result()
	}
	var scopes Scopes
	for i, s := range d.Scopes {
		at := "/scopes/" + strconv.Itoa(i)
		switch {
		case !s.Known():
			p.add(at, "is no scope that Signalbox knows")
		case !all.Has(s):
			p.add(at, "is beyond the role of its owner")
		case !scopes.Has(s):
			scopes = append(scopes, s)
		}
		if i >= len(permissions) {
			p.add("/scopes", "has more entries than there are scopes")
			break
		}
	}
	return name, scopes, p.result()
}

func (r *Room) insertToken(tx *store.Tx, caller Caller, d TokenDraft) (Token, secret.Value, error) {
	value := newBearer(tokenPrefix)
	text := value.Reveal()
	sum := digest(text)
	scopes, err := encodeScopes(d.Scopes)
	if err != nil {
		return Token{}, secret.Value{}, err
	}
	row := tokenRow{
		ID: store.NewID("tok"), UserID: d.UserID, ServiceID: d.ServiceID, Name: d.Name, Preview: preview(tokenPrefix, text), Scopes: scopes, CreatedAt: store.TimeOf(tx.Now()), ExpiresAt: store.TimePtr(d.ExpiresAt),
	}
	if _, err := tx.Exec(`INSERT INTO tokens (id, user_id, service_account_id, name, preview, hash, scopes, created_at, expires_at) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9)`,
		row.ID, unless0(row.UserID), unless0(row.ServiceID), row.Name, row.Preview, sum[:], row.Scopes, row.CreatedAt, row.ExpiresAt); err != nil {
		return Token{}, secret.Value{}, err
	}
	tx.Change(store.TopicToken, row.ID)
	t, err := r.token(row, tx.Now())
	if err != nil {
		return Token{}, secret.Value{}, err
	}
	return t, value, tx.Record(withToken(caller.Event(store.TokenIssue, t.Target()), t))
}

// unless0 makes an empty id NULL.
func unless0(id string) *string {
	if id == "" {
		return nil
	}
	return &id
}

func withToken(ev store.Event, t Token) store.Event {
	names := make([]string, 0, len(t.Scopes))
	for _, s := range t.Scopes {
		names = append(names, string(s))
	}
	if t.ServiceID != "" {
		ev.Details = append(ev.Details, store.Str("service_account", t.ServiceID))
	} else {
		ev.Details = append(ev.Details, store.Str("user", t.UserID))
	}
	ev.Details = append(ev.Details, store.Str("preview", t.Preview), store.Strs("scopes", names))
	if t.ExpiresAt != nil {
		ev.Details = append(ev.Details, store.Str("expires_at", t.ExpiresAt.Format(store.TimeFormat)))
	}
	return ev
}

// ListTokens returns the tokens of a person or a service account, newest first, and the cursor of the next page (empty at the end). Those
// of others need [UserRead], those of service accounts [ServiceRead], and those of everybody both.
func (r *Room) ListTokens(ctx context.Context, caller Caller, f TokenFilter) (tokens []Token, next string, err error) {
	if f.Everybody {
		for _, p := range []Permission{TokenRead, UserRead, ServiceRead} {
			if err := r.allow(ctx, caller, p, store.Target{Kind: "token"}); err != nil {
				return nil, "", err
			}
		}
	} else if err := r.allowOn(ctx, caller, TokenRead, UserRead, ServiceRead, &f.UserID, &f.ServiceID); err != nil {
		return nil, "", err
	}
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		var w store.Where
		switch {
		case f.Everybody:
		case f.ServiceID != "":
			w.Add("service_account_id = ?", f.ServiceID)
		default:
			w.Add("user_id = ?", f.UserID)
		}
		if err := narrow(&w, tx.Now(), "tok", f.Status, f.Cursor); err != nil {
			return err
		}
		size := pageSize(f.Limit)
		var rows []tokenRow
		if err := tx.Select(&rows, `SELECT `+tokenColumns+ownerColumn+` FROM tokens`+w.SQL()+` ORDER BY id DESC LIMIT `+w.Arg(size+1)+` OFFSET `+w.Arg(max(f.Skip, 0)), w.Args()...); err != nil {
			return err
		}
		next = ""
		if len(rows) > size {
			rows = rows[:size]
			next = rows[size-1].ID
		}
		tokens = make([]Token, 0, len(rows))
		for _, row := range rows {
			t, err := r.token(row, tx.Now())
			if err != nil {
				return err
			}
			tokens = append(tokens, t)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return tokens, next, nil
}

// GetToken returns one token, that of whoever may not list it being the fault "not_found".
func (r *Room) GetToken(ctx context.Context, caller Caller, id string) (Token, error) {
	target := store.Target{Kind: "token", ID: id}
	if err := r.allow(ctx, caller, TokenRead, target); err != nil {
		return Token{}, err
	}
	var t Token
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		var row tokenRow
		err := tx.Get(&row, `SELECT `+tokenColumns+ownerColumn+` FROM tokens WHERE id = $1`, id)
		if errors.Is(err, store.ErrNotFound) {
			return noToken()
		} else if err != nil {
			return err
		}
		t, err = r.token(row, tx.Now())
		return err
	})
	if err != nil {
		return Token{}, err
	}
	others, own := UserRead, t.UserID != "" && t.UserID == caller.UserID
	if t.ServiceID != "" {
		others, own = ServiceRead, t.ServiceID == caller.ServiceID
	}
	if !own && Allow(caller, others) != nil {
		return Token{}, r.refused(ctx, caller, target, noToken())
	}
	return t, nil
}

// RevokeToken ends a token at once and for good. A token that is revoked already, or is somebody else's while the caller lacks [UserWrite]
// or, for a service account's, [ServiceWrite], is the fault "not_found".
func (r *Room) RevokeToken(ctx context.Context, caller Caller, id string) error {
	if err := r.allow(ctx, caller, TokenWrite, store.Target{Kind: "token", ID: id}); err != nil {
		return err
	}
	var verdict error
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		verdict = nil
		var row tokenRow
		err := tx.Get(&row, `SELECT `+tokenColumns+` FROM tokens WHERE id = $1`+tx.ForUpdate(), id)
		if errors.Is(err, store.ErrNotFound) {
			return noToken()
		} else if err != nil {
			return err
		}
		t, err := r.token(row, tx.Now())
		if err != nil {
			return err
		}
		if !t.RevocableBy(caller) {
			verdict = noToken()
			return recordRefusal(tx, caller, t.Target(), verdict)
		}
		if row.RevokedAt != nil {
			return noToken()
		}
		_, err = r.revokeToken(tx, caller, row)
		return err
	})
	if err == nil {
		err = verdict
	}
	return err
}

// revokeToken revokes a token whose row the caller has read and not found revoked.
func (r *Room) revokeToken(tx *store.Tx, caller Caller, row tokenRow) (Token, error) {
	t, err := r.token(row, tx.Now())
	if err != nil {
		return Token{}, err
	}
	if _, err := tx.Exec(`UPDATE tokens SET revoked_at = $1 WHERE id = $2`, store.TimeOf(tx.Now()), row.ID); err != nil {
		return Token{}, err
	}
	tx.Change(store.TopicToken, row.ID)
	return t, tx.Record(withToken(caller.Event(store.TokenRevoke, t.Target()), t))
}

// RevocableBy reports whether a caller may revoke the token: their own, and with a permission those of others. Ending a service account's token needs no role that covers it.
func (t Token) RevocableBy(c Caller) bool {
	if t.ServiceID != "" {
		return t.ServiceID == c.ServiceID || Allow(c, ServiceWrite) == nil
	}
	return t.UserID == c.UserID || Allow(c, UserWrite) == nil
}

// allowOn checks an act on tokens: mine for one's own, people for those of another person, services for those of a service account. Both
// ids empty become the caller's own.
func (r *Room) allowOn(ctx context.Context, caller Caller, mine, people, services Permission, userID, serviceID *string) error {
	if *userID == "" && *serviceID == "" {
		*userID, *serviceID = caller.UserID, caller.ServiceID
	}
	if *userID != "" && *serviceID != "" {
		return fault.New(fault.Unprocessable, "validation_failed", "A token belongs to a person or to a service account. Name one of them.").
			With("/service_account_id", "cannot be given with user_id")
	}
	target, own, others := store.Target{Kind: "user", ID: *userID}, *userID == caller.UserID, people
	if *serviceID != "" {
		target, own, others = knownTarget("service_account", servicePrefix, *serviceID), *serviceID == caller.ServiceID, services
	}
	if err := r.allow(ctx, caller, mine, target); err != nil {
		return err
	}
	if !own {
		return r.allow(ctx, caller, others, target)
	}
	if *userID == "" && *serviceID == "" {
		return noPerson()
	}
	return nil
}

func noPerson() error {
	return fault.New(fault.NotFound, "not_found", "There is no such person.")
}

func noToken() error {
	return fault.New(fault.NotFound, "not_found", "There is no such token, or it was revoked before. List your tokens to see their ids.")
}
