package train

import (
	"context"
	"errors"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// IssueKey issues a client key of a train and returns its secret, which is known only now. It needs keys:write. Over the train's limit it
// is key_limit_reached. The draft's own limit is ignored: the train sets it. In a session it needs a fresh proof, unless the key ends with that session.
func (r *Room) IssueKey(ctx context.Context, caller identity.Caller, ref string, d identity.KeyDraft) (identity.Key, secret.Value, error) {
	var key identity.Key
	var value secret.Value
	if !d.WithSession { // what whoever has stolen the session, or an access token of it, gets by this ends with the session, and within 12 hours
		if err := r.allowFresh(ctx, caller, store.KeyIssue, ref); err != nil {
			return identity.Key{}, secret.Value{}, err
		}
	}
	err := r.withKeys(ctx, caller, store.KeyIssue, ref, "", func(tx *store.Tx, t Train) (err error) {
		d.Limit = t.KeyLimit
		if d.Bound, err = t.holdWay(tx, caller); err != nil {
			return err
		}
		key, value, err = r.keys.IssueKey(tx, caller, t.ID, d)
		key.TrainSlug = t.Slug
		return err
	})
	if err != nil {
		return identity.Key{}, secret.Value{}, err
	}
	return key, value, nil
}

// ImportKey takes over a client key that another system issued, so that its holders need not change it. It needs keys:write for every key.
func (r *Room) ImportKey(ctx context.Context, caller identity.Caller, ref string, d identity.KeyDraft, value secret.Value) (identity.Key, error) {
	var key identity.Key
	if err := r.allowFresh(ctx, caller, store.KeyIssue, ref); err != nil {
		return identity.Key{}, err
	}
	if err := identity.Allow(caller, identity.KeyWrite); err != nil { // what others hold is brought by who answers for all of them
		return identity.Key{}, errors.Join(r.recordRefusal(ctx, caller, named(ref), err, store.Str("act", string(store.KeyIssue))), err)
	}
	err := r.withKeys(ctx, caller, store.KeyIssue, ref, "", func(tx *store.Tx, t Train) (err error) {
		d.Limit = t.KeyLimit
		if d.Bound, err = t.holdWay(tx, caller); err != nil {
			return err
		}
		key, err = r.keys.ImportKey(tx, caller, t.ID, d, value)
		key.TrainSlug = t.Slug
		return err
	})
	return key, err
}

// ListKeys returns a train's client keys, and the cursor of the next page, "" at the end. It needs keys:read; whoever has it only for what is theirs, and does not own the train, is told
// the keys that they made.
func (r *Room) ListKeys(ctx context.Context, caller identity.Caller, ref string, f identity.KeyFilter) (keys []identity.Key, next string, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.KeyRead, ref, "")
		if err != nil {
			return err
		}
		if all, err := allKeys(tx, t.ID, caller, identity.KeyRead); err != nil {
			return err
		} else if !all {
			if f.Of = caller.UserID; f.Of == "" {
				keys, next = nil, ""
				return nil
			}
		}
		keys, next, err = r.keys.ListKeys(tx, t.ID, f)
		for i := range keys {
			keys[i].TrainSlug = t.Slug
		}
		return err
	})
	return keys, next, err
}

// GetKey returns one client key; a key of another train is not_found, and so is one that [Room.ListKeys] leaves out. It needs keys:read.
func (r *Room) GetKey(ctx context.Context, caller identity.Caller, ref, id string) (identity.Key, error) {
	var key identity.Key
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.KeyRead, ref, "")
		if err != nil {
			return err
		}
		if err := r.theirs(tx, t, caller, identity.KeyRead, id); err != nil {
			return err
		}
		key, err = r.keys.GetKey(tx, t.ID, id)
		key.TrainSlug = t.Slug
		return err
	})
	return key, err
}

// theirs returns nil when the caller, who reaches the train, may do p with this key of it, and otherwise what is said of one that there is not.
func (r *Room) theirs(tx *store.Tx, t Train, caller identity.Caller, p identity.Permission, id string) error {
	all, err := allKeys(tx, t.ID, caller, p)
	if err != nil || all {
		return err
	}
	key, err := r.keys.GetKey(tx, t.ID, id)
	if err == nil && (caller.UserID == "" || key.CreatedBy != caller.UserID) {
		err = identity.NoSuchKey()
	}
	return err
}

// MayStillKey returns nil when the caller might now do to a client key what they did, and otherwise what they would be told; a refusal of rights is recorded. It is for an answer that is
// given a second time.
func (r *Room) MayStillKey(ctx context.Context, caller identity.Caller, act store.Action, id string) error {
	if err := r.allow(ctx, caller, act, store.Target{Kind: "client_key"}, identity.KeyWrite); err != nil {
		return err
	}
	if identity.Allow(caller, identity.KeyWrite) == nil {
		return nil // the train was asked about by its name, see MayName
	}
	return r.db.Read(ctx, func(tx *store.Tx) error {
		trainID, err := r.keys.TrainOfKey(tx, id)
		if fault.KindOf(err) == fault.NotFound {
			err = identity.NoSuchKey()
		}
		if err != nil {
			return err
		}
		t, err := behind(tx, caller, identity.KeyWrite, trainID, "")
		if err != nil {
			return err
		}
		return r.theirs(tx, t, caller, identity.KeyWrite, id)
	})
}

// UpdateKey changes a key's name or expiry. It needs keys:write.
func (r *Room) UpdateKey(ctx context.Context, caller identity.Caller, ref, id string, p identity.KeyPatch) (identity.Key, error) {
	var key identity.Key
	err := r.withKeys(ctx, caller, store.KeyUpdate, ref, id, func(tx *store.Tx, t Train) (err error) {
		p.Limit = t.KeyLimit
		key, err = r.keys.UpdateKey(tx, caller, t.ID, id, p)
		key.TrainSlug = t.Slug
		return err
	})
	return key, err
}

// RevokeKey revokes a key and cuts its leases. It needs keys:write. With ifMatch, the key must still have that ETag.
func (r *Room) RevokeKey(ctx context.Context, caller identity.Caller, ref, id, ifMatch string) (identity.Key, error) {
	var key identity.Key
	err := r.withKeys(ctx, caller, store.KeyRevoke, ref, id, func(tx *store.Tx, t Train) (err error) {
		if err := r.unchanged(tx, t, id, ifMatch); err != nil {
			return err
		}
		key, err = r.keys.RevokeKey(tx, caller, t.ID, id)
		key.TrainSlug = t.Slug
		return err
	})
	return key, err
}

// PurgeKey removes a revoked key from the list. It needs keys:write. With ifMatch, the key must still have that ETag.
func (r *Room) PurgeKey(ctx context.Context, caller identity.Caller, ref, id, ifMatch string) error {
	return r.withKeys(ctx, caller, store.KeyPurge, ref, id, func(tx *store.Tx, t Train) error {
		if err := r.unchanged(tx, t, id, ifMatch); err != nil {
			return err
		}
		return r.keys.PurgeKey(tx, caller, t.ID, id)
	})
}

// unchanged returns the fault etag_mismatch when the key's state is not the one that the caller has seen. The lock on the train's row, which
// every act on its keys takes, keeps it so.
func (r *Room) unchanged(tx *store.Tx, t Train, id, ifMatch string) error {
	if ifMatch == "" {
		return nil
	}
	key, err := r.keys.GetKey(tx, t.ID, id)
	if err != nil {
		return err
	}
	return key.Unless(ifMatch)
}

// allowFresh asks for keys:write and, in a session, for a fresh proof: a session lasts for hours, a key for good.
func (r *Room) allowFresh(ctx context.Context, caller identity.Caller, act store.Action, ref string) error {
	if err := r.allow(ctx, caller, act, named(ref), identity.KeyWrite); err != nil {
		return err
	}
	if err := identity.RequireFresh(caller, r.now()); err != nil {
		return errors.Join(r.recordRefusal(ctx, caller, named(ref), err, store.Str("act", string(act))), err)
	}
	return nil
}

// ReplaceKey issues the successor of a key, which itself stays valid for the overlap that is asked for. It needs keys:write.
func (r *Room) ReplaceKey(ctx context.Context, caller identity.Caller, ref, id string, d identity.KeyReplacement) (identity.Key, secret.Value, error) {
	var key identity.Key
	var value secret.Value
	if err := r.allowFresh(ctx, caller, store.KeyReplace, ref); err != nil {
		return identity.Key{}, secret.Value{}, err
	}
	err := r.withKeys(ctx, caller, store.KeyReplace, ref, id, func(tx *store.Tx, t Train) (err error) {
		d.Limit = t.KeyLimit
		key, value, err = r.keys.ReplaceKey(tx, caller, t.ID, id, d)
		key.TrainSlug = t.Slug
		return err
	})
	if err != nil {
		return identity.Key{}, secret.Value{}, err
	}
	return key, value, nil
}

// withKeys runs an act on the keys of a train, whose row is locked so that the train cannot go meanwhile; id is the key that it is about, "" for a new one. Whoever has keys:write only for
// what is theirs issues keys of the trains that they are a member of, and does the rest to those that they made; to the owners of the train all are theirs. Identity records the act.
func (r *Room) withKeys(ctx context.Context, caller identity.Caller, act store.Action, ref, id string, fn func(*store.Tx, Train) error) error {
	if err := r.allow(ctx, caller, act, named(ref), identity.KeyWrite); err != nil {
		return err
	}
	var refused error
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		refused = nil
		t, err := behind(tx, caller, identity.KeyWrite, ref, tx.ForUpdate())
		if err == nil && id != "" {
			err = r.theirs(tx, t, caller, identity.KeyWrite, id)
		}
		if err != nil {
			if fault.KindOf(err) == fault.Forbidden {
				refused = err
			}
			return err
		}
		return fn(tx, t)
	})
	if err != nil && refused != nil {
		return errors.Join(r.recordRefusal(ctx, caller, named(ref), refused, store.Str("act", string(act))), refused)
	}
	return err
}

// dropKeys removes the keys of a train that is being deleted, and returns how many of them were active.
func (r *Room) dropKeys(tx *store.Tx, caller identity.Caller, t Train, force bool) (int, error) {
	if !force {
		active, err := r.keys.ActiveKeys(tx, t.ID)
		if err != nil {
			return 0, err
		}
		if active > 0 {
			return 0, errInUse()
		}
	}
	return r.keys.DropKeys(tx, caller, t.ID)
}
