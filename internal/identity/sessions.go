package identity

import (
	"context"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// ListSessions returns the sessions of a person that have not ended, the newest first; an empty userID is the caller's. Those of others need
// [UserRead].
func (r *Room) ListSessions(ctx context.Context, caller Caller, userID string) ([]Session, error) {
	none := "" // service accounts have no sessions
	if err := r.allowOn(ctx, caller, ProfileRead, UserRead, ServiceRead, &userID, &none); err != nil {
		return nil, err
	}
	var out []Session
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		var rows []sessionRow
		if err := tx.Select(&rows, `SELECT `+sessionColumns+` FROM sessions WHERE user_id = $1 ORDER BY id DESC`, userID); err != nil {
			return err
		}
		out = make([]Session, 0, len(rows))
		now := r.now()
		for _, row := range rows {
			s, err := r.session(row)
			if err != nil {
				return err
			}
			_, idle := r.sessionLimits(s.Kind)
			if now.Before(s.ExpiresAt) && now.Sub(s.LastUsedAt) < idle {
				out = append(out, s)
			}
		}
		return nil
	})
	return out, err
}

// EndSession ends a session at once. One that has ended, or is somebody else's while the caller lacks [UserWrite], is the fault "not_found".
func (r *Room) EndSession(ctx context.Context, caller Caller, id string) error {
	if err := r.allow(ctx, caller, ProfileWrite, store.Target{Kind: "session", ID: id}); err != nil {
		return err
	}
	var verdict error
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		verdict = nil
		var row sessionRow
		if _, err := r.lockSession(tx, id, &row); errors.Is(err, store.ErrNotFound) {
			return noSuchSession()
		} else if err != nil {
			return err
		}
		if row.UserID != caller.UserID && Allow(caller, UserWrite) != nil {
			verdict = noSuchSession()
			ev := caller.Event(store.IdentityRefused, Session{ID: row.ID}.Target())
			ev.Outcome, ev.Reason = store.OutcomeRefused, "not_found"
			return tx.Record(ev)
		}
		return r.endSession(tx, caller, row, store.IdentitySessionEnd, "revoked")
	})
	if err == nil {
		err = verdict
	}
	return err
}

// EndOtherSessions ends every session of the caller's person but the caller's own, and returns how many those were.
func (r *Room) EndOtherSessions(ctx context.Context, caller Caller) (int, error) {
	target := store.Target{Kind: "user", ID: caller.UserID}
	if err := r.allow(ctx, caller, ProfileWrite, target); err != nil {
		return 0, err
	}
	n := 0
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) (err error) {
		if _, err = lockUser(tx, caller.UserID); err != nil {
			return err
		}
		if n, err = r.endSessions(tx, caller, caller.UserID, caller.SessionID, "revoked"); err != nil || n > 0 {
			return err
		}
		return tx.Record(caller.Event(store.IdentitySessionEnd, target))
	})
	return n, err
}

// Logout ends the caller's own session. A caller without one is the fault "state_conflict".
func (r *Room) Logout(ctx context.Context, caller Caller) error {
	if caller.Kind != KindPerson || caller.SessionID == "" {
		return noSession()
	}
	return r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		var row sessionRow
		if _, err := r.lockSession(tx, caller.SessionID, &row); errors.Is(err, store.ErrNotFound) {
			return sessionOver()
		} else if err != nil {
			return err
		}
		return r.endSession(tx, caller, row, store.IdentityLogout, "")
	})
}

const (
	// trimSessionsAfter is far longer than an instance may be late in writing down a last use.
	trimSessionsAfter = time.Hour
	trimSessionsBatch = 500
)

// trimSessions forgets sessions that reached one of their limits, on every instance.
func (r *Room) trimSessions(ctx context.Context) error {
	return r.cfg.DB.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		now := tx.Now()
		var ids []string
		if err := tx.Select(&ids, `SELECT id FROM sessions WHERE expires_at < $1 OR kind <> $4 AND last_used_at < $2 ORDER BY id LIMIT $3`,
			store.TimeOf(now), store.TimeOf(now.Add(-r.cfg.SessionIdle-trimSessionsAfter)), trimSessionsBatch, string(SessionAPI)); err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := tx.Exec(`DELETE FROM sessions WHERE id = $1`, id); err != nil {
				return err
			}
			tx.Change(store.TopicSession, id)
		}
		return nil
	})
}

func noSuchSession() error {
	return fault.New(fault.NotFound, "not_found", "There is no such session, or it has ended. List the sessions to see their ids.")
}
