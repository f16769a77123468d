package train

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// TrainRef returns the id and the slug of a train by either, as far as it may be named to the caller; any other is the fault not_found. It checks no permission.
func (r *Room) TrainRef(tx *store.Tx, caller identity.Caller, ref string) (id, slug string, err error) {
	t, err := nameable(tx, caller, ref)
	return t.ID, t.Slug, err
}

// MayName returns nil unless the train that is named, by slug or id, is private and the caller does not reach it. One that there is not may be named, but by a role that reaches no trains
// but its own: to that all others are none. It is for an answer that is given a second time.
func (r *Room) MayName(ctx context.Context, caller identity.Caller, ref string) error {
	return r.db.Read(ctx, func(tx *store.Tx) error {
		sees, err := identity.TrainsAskedOf(tx, caller)
		if err != nil {
			return err
		}
		may, err := sees.Known(tx)
		if err != nil {
			return err
		}
		t, err := lookUp(tx, identity.EveryTrain(), ref)
		switch {
		case fault.KindOf(err) == fault.NotFound:
			t.ID = ref
		case err != nil:
			return err
		}
		if !may(t.ID) {
			return errNoTrain()
		}
		return nil
	})
}

// aPrivateTrain is what a train is called to whoever does not reach it, where they see that there is one.
const aPrivateTrain = "a private train"

// Slugs returns the slugs of trains by their ids, or for one that may not be named to the caller that it is private; what is gone is left out.
func (r *Room) Slugs(tx *store.Tx, caller identity.Caller, ids []string) (map[string]string, error) {
	out := map[string]string{}
	if len(ids) == 0 {
		return out, nil
	}
	marks, args := make([]string, len(ids)), make([]any, len(ids))
	for i, id := range ids {
		marks[i], args[i] = "$"+strconv.Itoa(i+1), id
	}
	var rows []struct {
		ID   string `db:"id"`
		Slug string `db:"slug"`
	}
	if err := tx.Select(&rows, `SELECT id, slug FROM trains WHERE id IN (`+strings.Join(marks, ", ")+`)`, args...); err != nil {
		return nil, err
	}
	sees, err := identity.TrainsKnown(tx, caller)
	if err != nil {
		return nil, err
	}
	may, err := sees.Known(tx)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if out[row.ID] = aPrivateTrain; may(row.ID) {
			out[row.ID] = row.Slug
		}
	}
	return out, nil
}

// Withdraw unlinks those of the credentials that are linked to the train, whose right to use them was taken back, and records each. It runs
// in the transaction of the act that took the right; what was lent on the links is cut when that has committed.
func (r *Room) Withdraw(tx *store.Tx, caller identity.Caller, trainID string, credentials []string) error {
	if len(credentials) == 0 {
		return nil
	}
	t, err := reach(tx, identity.System("train"), identity.TrainWrite, trainID, tx.ForUpdate()) // whoever takes the right, it ends
	if fault.KindOf(err) == fault.NotFound {
		return nil // it was deleted at this moment, and its links with it
	} else if err != nil {
		return err
	}
	for _, id := range credentials {
		link, err := getLink(tx, t.ID, id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		if cred, err := r.vault.Resolve(tx, id); err == nil {
			link.of(cred)
		}
		if _, err := tx.Exec(`DELETE FROM train_links WHERE train_id = $1 AND credential_id = $2`, t.ID, id); err != nil {
			return err
		}
		if err := recordLink(tx, caller, store.TrainUnlink, t, link, nil); err != nil {
			return err
		}
	}
	return nil
}

// mayLink says whether the caller may let the train be lent the credential: by the right to read every credential, by a grant to the caller
// that lets them use this one, or by one that lets the train. refusal is what the caller is told when the train has no such grant, of a
// credential that does not exist too; nil when the caller may link whatever there is.
func (r *Room) mayLink(ctx context.Context, caller identity.Caller, ref string) (refusal error, err error) {
	if err := r.allow(ctx, caller, store.TrainLink, named(ref), identity.TrainWrite); err != nil {
		return nil, err
	}
	return identity.Allow(caller, identity.CredentialRead), nil
}

// linkable returns the credential when the caller may let the train be lent it, or the refusal.
func (r *Room) linkable(tx *store.Tx, caller identity.Caller, trainID, credential string, refusal error) (vault.Credential, error) {
	cred, err := r.vault.Resolve(tx, credential)
	if refusal != nil && (err == nil || fault.KindOf(err) == fault.NotFound) {
		// What does not exist has no grant, and is refused by the same words.
		err = granted(tx, caller, trainID, cred.ID, refusal)
	}
	return cred, err
}

// MayStillLink returns nil when the caller might now make a link that they made, and otherwise what they would be told; a refusal of rights
// is recorded. It is for an answer that is given a second time.
func (r *Room) MayStillLink(ctx context.Context, caller identity.Caller, ref, credential string) error {
	refusal, err := r.mayLink(ctx, caller, ref)
	if err != nil || refusal == nil {
		return err
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.TrainWrite, ref, "")
		if err == nil {
			_, err = r.linkable(tx, caller, t.ID, credential, refusal)
		}
		return err
	})
	if err != refusal {
		return err
	}
	if err := r.recordRefusal(ctx, caller, named(ref), refusal, store.Str("act", string(store.TrainLink))); err != nil {
		return err
	}
	return refusal
}

// granted returns nil when a grant lets the train, or the caller, use the credential, and otherwise the refusal, which is recorded.
func granted(tx *store.Tx, caller identity.Caller, trainID, credentialID string, refusal error) error {
	may, err := vault.TrainMayUse(tx, trainID, credentialID)
	if err == nil && !may {
		may, err = vault.MayUse(tx, caller, credentialID)
	}
	if err == nil && !may {
		err = refusal
	}
	return err
}
