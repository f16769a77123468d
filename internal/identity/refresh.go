package identity

import (
	"context"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	refreshPrefix = "sbr_"

	// RefreshLife is how long a refresh token works, and so how long a program may leave its session unused.
	RefreshLife = 30 * 24 * time.Hour
	// APISessionLife is how long a program stays signed in at most, however often it refreshes.
	APISessionLife = 180 * 24 * time.Hour
)

// sessionLimits returns how long a session lives at first and how long it may lie unused.
func (r *Room) sessionLimits(kind SessionKind) (life, idle time.Duration) {
	if kind == SessionAPI {
		return RefreshLife, RefreshLife
	}
	return r.cfg.SessionLife, r.cfg.SessionIdle
}

type refreshRow struct {
	ID        string      `db:"id"`
	SessionID string      `db:"session_id"`
	ExpiresAt store.Time  `db:"expires_at"`
	UsedAt    *store.Time `db:"used_at"`
}

// IssueTokens returns the first tokens of a session of kind api that is complete. A session gets them once; a second time is the fault
// "state_conflict".
func (r *Room) IssueTokens(ctx context.Context, caller Caller, sessionID string) (Tokens, error) {
	var row sessionRow
	var person userRow
	var refresh secret.Value
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) (err error) {
		if person, err = r.lockTokens(tx, sessionID, &row); err != nil {
			return err
		}
		var n int
		if err := tx.Get(&n, `SELECT COUNT(*) FROM refresh_tokens WHERE session_id = $1`, row.ID); err != nil {
			return err
		}
		if n > 0 {
			return fault.New(fault.Conflict, "state_conflict", "This session has its tokens already. Refresh them, or sign in again.")
		}
		refresh, err = r.addRefresh(tx, caller, person, &row, "login")
		return err
	})
	if err != nil {
		return Tokens{}, err
	}
	return r.tokensOf(ctx, person, row, refresh)
}

// lockTokens locks a session that may have tokens, and its person.
func (r *Room) lockTokens(tx *store.Tx, sessionID string, row *sessionRow) (userRow, error) {
	person, err := r.lockSession(tx, sessionID, row)
	if errors.Is(err, store.ErrNotFound) {
		return userRow{}, sessionOver()
	} else if err != nil {
		return userRow{}, err
	}
	switch {
	case row.Kind != SessionAPI || person.Active != 1 || !tx.Now().Before(row.ExpiresAt.Time()):
		return userRow{}, sessionOver()
	case row.Demanded != encodeProofs(nil):
		return userRow{}, secondFactor()
	}
	return person, nil
}

// addRefresh gives the session its next refresh token, and lets it live as long as that.
func (r *Room) addRefresh(tx *store.Tx, caller Caller, person userRow, row *sessionRow, step string) (secret.Value, error) {
	now := tx.Now()
	expires := now.Add(RefreshLife)
	if end := row.CreatedAt.Time().Add(APISessionLife); end.Before(expires) {
		expires = end
	}
	value := newBearer(refreshPrefix)
	sum := digest(value.Reveal())
	if _, err := tx.Exec(`INSERT INTO refresh_tokens (id, session_id, hash, created_at, expires_at) VALUES ($1,$2,$3,$4,$5)`,
		store.NewID("rft"), row.ID, sum[:], store.TimeOf(now), store.TimeOf(expires)); err != nil {
		return secret.Value{}, err
	}
	row.ExpiresAt, row.LastUsedAt = store.TimeOf(expires), store.TimeOf(now)
	if _, err := tx.Exec(`UPDATE sessions SET expires_at = $1, last_used_at = $2 WHERE id = $3`, row.ExpiresAt, row.LastUsedAt, row.ID); err != nil {
		return secret.Value{}, err
	}
	tx.Change(store.TopicSession, row.ID)
	ev := person.user().caller(caller).Event(store.IdentityTokens, Session{ID: row.ID}.Target())
	ev.Details = store.Details{store.Str("step", step), store.Str("user", person.ID)}
	return value, tx.Record(ev)
}

func (r *Room) tokensOf(ctx context.Context, person userRow, row sessionRow, refresh secret.Value) (Tokens, error) {
	access, err := r.newAccessToken(ctx, person, row.ID)
	if err != nil {
		return Tokens{}, err
	}
	session, err := r.session(row)
	return Tokens{Access: access, Refresh: refresh, ExpiresIn: AccessLife, Session: session}, err
}

// Refresh takes a refresh token and returns the next tokens of its session. A token works once, whichever instances are asked at the same
// moment. When one comes a second time, two have it and nobody can tell which of them is the thief: the session ends (RFC 9700, section
// 4.14.2), for the one that repeats itself because it lost the answer too. Every refusal is the fault "unauthenticated".
func (r *Room) Refresh(ctx context.Context, caller Caller, token secret.Value) (Tokens, error) {
	var row sessionRow
	var person userRow
	var refresh secret.Value
	var verdict error
	id, err := r.refreshSession(ctx, token)
	if err == nil {
		err = r.cfg.DB.Write(ctx, func(tx *store.Tx) (err error) {
			verdict = nil
			// Under the lock of the session: of two that bring the same token at once, the second sees that it was used.
			if person, err = r.lockTokens(tx, id, &row); err != nil {
				return err
			}
			had, err := findRefresh(tx, token)
			if err != nil {
				return err
			}
			if had.SessionID != row.ID || !tx.Now().Before(had.ExpiresAt.Time()) {
				return badRefresh()
			}
			if had.UsedAt != nil {
				verdict = badRefresh()
				return r.endReused(tx, caller, person, row)
			}
			if _, err := tx.Exec(`UPDATE refresh_tokens SET used_at = $1 WHERE id = $2`, store.TimeOf(tx.Now()), had.ID); err != nil {
				return err
			}
			refresh, err = r.addRefresh(tx, caller, person, &row, "refresh")
			return err
		})
	}
	if err == nil {
		err = verdict
	}
	if err != nil {
		if fault.KindOf(err) == fault.Unauthenticated {
			err = r.Refuse(ctx, caller.IP, FailedRefresh, err)
		}
		return Tokens{}, err
	}
	return r.tokensOf(ctx, person, row, refresh)
}

// refreshSession returns the session that a refresh token belongs to. It only reads, so that guessing tokens locks nothing.
func (r *Room) refreshSession(ctx context.Context, token secret.Value) (string, error) {
	if !wellFormed(refreshPrefix, token.Reveal()) {
		return "", badRefresh()
	}
	var row refreshRow
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		row, err = findRefresh(tx, token)
		return err
	})
	return row.SessionID, err
}

func findRefresh(tx *store.Tx, token secret.Value) (refreshRow, error) {
	var row refreshRow
	sum := digest(token.Reveal())
	err := tx.Get(&row, `SELECT id, session_id, expires_at, used_at FROM refresh_tokens WHERE hash = $1`, sum[:])
	if errors.Is(err, store.ErrNotFound) {
		return refreshRow{}, badRefresh()
	}
	return row, err
}

// endReused ends the session of a refresh token that came twice.
func (r *Room) endReused(tx *store.Tx, caller Caller, person userRow, row sessionRow) error {
	ev := caller.Event(store.IdentityTokens, Session{ID: row.ID}.Target())
	ev.Outcome, ev.Reason, ev.OnBehalf = store.OutcomeRefused, "reused", person.ID
	ev.Details = store.Details{store.Str("step", "refresh"), store.Str("user", person.ID)}
	if err := tx.Record(ev); err != nil {
		return err
	}
	if err := r.endSession(tx, caller, row, store.IdentitySessionEnd, "refresh_reused"); err != nil {
		return err
	}
	return r.tell(tx, News{Kind: NewsRefreshReused, Person: person.user(), Caller: caller, About: Session{ID: row.ID}.Target()})
}

// LogoutRefresh ends the session of a refresh token, for a program whose access token has expired. A token that is not valid is the fault
// "unauthenticated"; one that was used ends its session as well.
func (r *Room) LogoutRefresh(ctx context.Context, caller Caller, token secret.Value) error {
	id, err := r.refreshSession(ctx, token)
	if err != nil {
		if fault.KindOf(err) == fault.Unauthenticated {
			err = r.Refuse(ctx, caller.IP, FailedRefresh, err)
		}
		return err
	}
	return r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		var row sessionRow
		person, err := r.lockSession(tx, id, &row)
		if errors.Is(err, store.ErrNotFound) {
			return badRefresh()
		} else if err != nil {
			return err
		}
		return r.endSession(tx, person.user().caller(caller), row, store.IdentityLogout, "")
	})
}

func badRefresh() error {
	return unauthenticated("This refresh token does not work: it was used or replaced, has expired, or its session has ended. Sign in again.")
}
