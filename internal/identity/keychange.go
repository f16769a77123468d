package identity

import (
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// UpdateKey changes the name, the expiry or the limits of a key that is not revoked. Its faults are "not_found", "validation_failed",
// "state_conflict" for a revoked key or a longer life of a replaced one, and "key_limit_reached" when an expired key would come back to life.
func (r *Room) UpdateKey(tx *store.Tx, caller Caller, trainID, id string, p KeyPatch) (Key, error) {
	row, err := r.keyRow(tx, trainID, id, tx.ForUpdate())
	if err != nil {
		return Key{}, err
	}
	now := tx.Now()
	if err := r.key(row, now).Unless(p.IfMatch); err != nil {
		return Key{}, err
	}
	if row.RevokedAt != nil {
		return Key{}, fault.New(fault.Conflict, "state_conflict", "This client key was revoked, so it cannot be changed. Issue a new one.")
	}
	name, expires := row.Name, row.ExpiresAt.Ptr()
	if p.Name != nil {
		name = *p.Name
	}
	var future *time.Time // an expiry that is not being changed may well be in the past
	if p.SetExpiry {
		expires, future = p.ExpiresAt, p.ExpiresAt
	}
	if name, err = validKey(now, name, future); err != nil {
		return Key{}, err
	}
	var fields []string
	if name != row.Name {
		fields = append(fields, "name")
	}
	if p.SetExpiry && !sameTime(store.TimePtr(expires), row.ExpiresAt) {
		fields = append(fields, "expires_at")
		if row.ReplacedBy != nil && (expires == nil || row.ExpiresAt == nil || store.TimeOf(*expires) > *row.ExpiresAt) {
			return Key{}, fault.New(fault.Conflict, "state_conflict", "This client key was replaced; its life can be shortened but not extended. Use its successor.")
		}
		if row.SessionID != "" && (expires == nil || row.ExpiresAt == nil || store.TimeOf(*expires) > *row.ExpiresAt) {
			return Key{}, fault.New(fault.Conflict, "state_conflict", "This client key ends with the sign-in that issued it; its life can be shortened but not extended. Issue another one.")
		}
		if row.status(now) == StatusExpired {
			if err := r.haveRoom(tx, trainID, p.Limit, 1); err != nil {
				return Key{}, err
			}
		}
	}
	was := quota.Parse(row.Limits)
	var changed []string
	if row.Limits, changed, err = patchLimits(row.Limits, p.Limits); err != nil {
		return Key{}, err
	}
	if err := r.BeginBudget(tx, row.ID, was, quota.Parse(row.Limits)); err != nil {
		return Key{}, err
	}
	fields = append(fields, changed...)
	row.Name, row.ExpiresAt = name, store.TimePtr(expires)
	if _, err := tx.Exec(`UPDATE client_keys SET name = $1, expires_at = $2, limits = $3 WHERE id = $4`, row.Name, row.ExpiresAt, row.Limits, row.ID); err != nil {
		return Key{}, err
	}
	tx.Change(store.TopicKey, row.ID)
	k := r.key(row, now)
	ev := withKey(caller.Event(store.KeyUpdate, k.Target()), k)
	ev.Fields = fields
	if p.Limits != nil && k.Limits.Empty() {
		ev.Details = append(ev.Details, store.Str("limits", ""))
	}
	return k, tx.Record(ev)
}

func sameTime(a, b *store.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// ReplaceKey issues a successor of a key and lets the old one end after the overlap (or earlier, when it would have expired earlier), so that
// an agent can be given the new one without a gap; without an overlap the old one is revoked. It returns the successor and its secret. A key that is active can always be replaced
// without an overlap; otherwise the limits hold. Its faults are "not_found", "validation_failed", "key_limit_reached", and
// "state_conflict" for a key that was revoked or replaced before.
func (r *Room) ReplaceKey(tx *store.Tx, caller Caller, trainID, id string, d KeyReplacement) (Key, secret.Value, error) {
	none := secret.Value{}
	old, err := r.keyRow(tx, trainID, id, "")
	if err != nil {
		return Key{}, none, err
	}
	if old.Bound == 1 { // to its maker's way, as its successor will be: it is the same holder
		d.CreatedBy = old.CreatedBy
		if err := holdMaker(tx, trainID, old.CreatedBy); err != nil {
			return Key{}, none, err
		}
	}
	if old, err = r.keyRow(tx, trainID, id, tx.ForUpdate()); err != nil {
		return Key{}, none, err
	}
	now := tx.Now()
	switch {
	case old.RevokedAt != nil:
		return Key{}, none, fault.New(fault.Conflict, "state_conflict", "This client key was revoked, so it cannot be replaced. Issue a new one.")
	case old.ReplacedBy != nil:
		return Key{}, none, fault.New(fault.Conflict, "state_conflict", "This client key was replaced already. Replace its successor instead.")
	case d.Overlap < 0 || d.Overlap > MaxOverlap:
		return Key{}, none, fault.New(fault.Unprocessable, "validation_failed", "The overlap must be between nothing and 30 days.").With("/overlap_seconds", "must be between 0 and 2592000")
	}
	if d.Name == "" {
		d.Name = old.Name
	}
	if d.Name, err = validKey(now, d.Name, d.ExpiresAt); err != nil {
		return Key{}, none, err
	}
	wasActive := old.status(now) == StatusActive
	if !wasActive {
		err = r.haveRoom(tx, trainID, d.Limit, 1)
	} else if d.Overlap > 0 {
		err = r.haveRoom(tx, trainID, d.Limit, 0)
	}
	if err != nil {
		return Key{}, none, err
	}

	value := newBearer(ClientKeyPrefix)
	next, err := r.insertKey(tx, caller, trainID, KeyDraft{Name: d.Name, ExpiresAt: d.ExpiresAt, CreatedBy: d.CreatedBy, Bound: old.Bound == 1}, "", value, preview(ClientKeyPrefix, value.Reveal()))
	if err != nil {
		return Key{}, none, err
	}
	if old.Limits != "" { // it is the same holder, who may use no more than before
		if _, err := tx.Exec(`UPDATE client_keys SET limits = $1 WHERE id = $2`, old.Limits, next.ID); err != nil {
			return Key{}, none, err
		}
		if err := tx.InheritCounts(old.ID, next.ID); err != nil { // replacing it must not give it another budget
			return Key{}, none, err
		}
		next.Limits = quota.Parse(old.Limits)
	}
	end := store.TimeOf(now.Add(d.Overlap))
	if old.ExpiresAt == nil || *old.ExpiresAt > end {
		old.ExpiresAt = &end
	}
	if d.Overlap == 0 {
		old.RevokedAt = &end // expiry would depend on the clock of each instance
	}
	if _, err := tx.Exec(`UPDATE client_keys SET expires_at = $1, revoked_at = $2, replaced_by = $3 WHERE id = $4`, old.ExpiresAt, old.RevokedAt, next.ID, old.ID); err != nil {
		return Key{}, none, err
	}
	tx.Change(store.TopicKey, old.ID)
	ev := withKey(caller.Event(store.KeyReplace, r.key(old, now).Target()), next)
	ev.Details = append(ev.Details, store.Str("successor", next.ID), store.Str("old_ends_at", old.ExpiresAt.Time().Format(store.TimeFormat)))
	if err := tx.Record(ev); err != nil {
		return Key{}, none, err
	}
	return next, value, nil
}

// RevokeKey ends a key at once and for good. A key that is revoked already is the fault "not_found".
func (r *Room) RevokeKey(tx *store.Tx, caller Caller, trainID, id string) (Key, error) {
	row, err := r.keyRow(tx, trainID, id, tx.ForUpdate())
	if err != nil {
		return Key{}, err
	}
	if row.RevokedAt != nil {
		return Key{}, fault.New(fault.NotFound, "not_found", "This client key was revoked before. It stays in the list until it is purged.")
	}
	return r.revoke(tx, caller, row, "")
}

func (r *Room) revoke(tx *store.Tx, caller Caller, row keyRow, why string, more ...store.Detail) (Key, error) {
	now := store.TimeOf(tx.Now())
	row.RevokedAt = &now
	if _, err := tx.Exec(`UPDATE client_keys SET revoked_at = $1 WHERE id = $2`, now, row.ID); err != nil {
		return Key{}, err
	}
	tx.Change(store.TopicKey, row.ID)
	k := r.key(row, tx.Now())
	ev := withKey(caller.Event(store.KeyRevoke, k.Target()), k)
	ev.Reason, ev.Details = why, append(ev.Details, more...)
	return k, tx.Record(ev)
}

// PurgeKey removes a revoked key from the list. Any other key is the fault "key_active": what still has a holder must be revoked knowingly.
func (r *Room) PurgeKey(tx *store.Tx, caller Caller, trainID, id string) error {
	row, err := r.keyRow(tx, trainID, id, tx.ForUpdate())
	if err != nil {
		return err
	}
	if row.RevokedAt == nil {
		return fault.New(fault.Conflict, "key_active", "Only a revoked client key can be purged. Revoke it first.")
	}
	if _, err := tx.Exec(`DELETE FROM client_keys WHERE id = $1`, row.ID); err != nil {
		return err
	}
	tx.Change(store.TopicKey, row.ID)
	k := r.key(row, tx.Now())
	return tx.Record(withKey(caller.Event(store.KeyPurge, k.Target()), k))
}

// DropKeys removes all keys of a train that is being deleted. Those that are active are revoked first, each with its event; their number is
// returned. The train must be locked or gone in the same transaction, so that no key is issued after this.
func (r *Room) DropKeys(tx *store.Tx, caller Caller, trainID string) (int, error) {
	var rows []keyRow
	if err := tx.Select(&rows, `SELECT `+keyColumns+` FROM client_keys WHERE train_id = $1 AND revoked_at IS NULL ORDER BY id`+tx.ForUpdate(), trainID); err != nil {
		return 0, err
	}
	ended := 0
	for _, row := range rows {
		tx.Change(store.TopicKey, row.ID)
		if row.status(tx.Now()) != StatusActive {
			continue
		}
		if _, err := r.revoke(tx, caller, row, ""); err != nil {
			return 0, err
		}
		ended++
	}
	_, err := tx.Exec(`DELETE FROM client_keys WHERE train_id = $1`, trainID)
	return ended, err
}
