package oauth

import (
	"context"
	"regexp"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// RefreshDue refreshes a credential for a caller who manages it if its access token is near its end or past it, and obeys a cool-down. What is not
// due stays as it is.
func (r *Room) RefreshDue(ctx context.Context, caller identity.Caller, id string) (Connection, error) {
	var c Connection
	err := r.vault.Act(ctx, caller, identity.CredentialWrite, "refresh", id, func(tx *store.Tx) (err error) {
		if c, err = r.describe(tx, id); err != nil {
			return err
		}
		ev := caller.Event(store.CredentialView, store.Target{Kind: "credential", ID: c.CredentialID, Name: c.Name})
		ev.Details = store.Details{store.Str("part", "connection")}
		return tx.Record(ev)
	})
	if err != nil || c.Health == vault.Healthy && (c.TokenExpires == nil || r.now().Before(c.dueAt)) {
		return c, err
	}
	if _, err := r.await(ctx, want{credential: id, generation: c.Generation, on: Due, caller: caller}); err != nil {
		return Connection{}, err
	}
	return r.read(ctx, id)
}

// Connections returns what is known of the refreshing of credentials that the vault has listed for a caller. It records nothing: the list is on
// record. Those of other types are left out.
func (r *Room) Connections(ctx context.Context, list []vault.Credential) (out []Connection, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		ids := make([]string, 0, len(list))
		for _, cred := range list {
			if cred.Type == vault.OAuth {
				ids = append(ids, cred.ID)
			}
		}
		rows, err := loadConnections(tx, ids)
		if err != nil {
			return err
		}
		out = make([]Connection, 0, len(ids))
		for _, cred := range list {
			if cred.Type == vault.OAuth {
				out = append(out, described(cred, rows[cred.ID], tx.Now()))
			}
		}
		return nil
	})
	return out, err
}

// localPath are the paths of this server that a browser can be sent to after a login: letters that mean the same to every reader of an address, and
// no second slash at the beginning, behind which a host would stand.
const localPath = `^/([A-Za-z0-9_~-][A-Za-z0-9_.~/-]*)?(\?[A-Za-z0-9_.~=&%+,:-]*)?$`

// LocalPath reports whether an address is a page of this server.
func LocalPath(address string) bool {
	return len(address) <= 1000 && regexp.MustCompile(localPath).MatchString(address)
}
