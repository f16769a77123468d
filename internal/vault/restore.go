package vault

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Restore makes the secret fields of an earlier version current again, as a new version. A refresh token that refreshes have used up is not sent
// again, since many a provider takes the whole grant away for that: in its place, with the access token, comes what those refreshes made of it last.
// When that is gone, the fault is state_conflict. What lies beside the secret ([SecretField.Aside]) stays as it is now: it belongs to what the credential's
// metadata say, which a restoration leaves alone.
func (r *Room) Restore(ctx context.Context, caller identity.Caller, id string, n int64) (Credential, error) {
	return r.change(ctx, caller, id, "restore", store.CredentialRotate, func(tx *store.Tx, s *stored) error {
		if err := r.vouched(s, Patch{}, false); err != nil {
			return err
		}
		all, err := versions(tx, *s)
		if err != nil {
			return err
		}
		at := func(n int64) int { return slices.IndexFunc(all, func(v Version) bool { return v.Number == n }) }
		i := at(n)
		if i < 0 {
			return fault.New(fault.NotFound, "not_found", "The credential has no such version. List its versions to find the number.")
		}
		if all[i].Current {
			return fault.New(fault.Conflict, "state_conflict", "This version is the current one already. Choose an earlier one.")
		}
		_, back := s.row.split(all[i].SecretFields)
		secrets, err := r.open(tx, *s, n, back)
		if err != nil {
			return err
		}
		stays, _ := s.row.split(s.SecretFields)
		beside, err := r.open(tx, *s, s.Version, stays)
		if err != nil {
			return err
		}
		maps.Copy(secrets, beside)
		s.OAuth.ExpiresAt = all[i].TokenExpires
		if slices.Contains(all[i].SecretFields, refreshField) {
			kept, err := r.refreshTokens(tx, *s)
			if err != nil {
				return err
			}
			newest, known := heir(kept, n)
			if !known {
				return fault.New(fault.Conflict, "state_conflict", "The refresh token of this version was used up by refreshes, and what they made of it is gone, so this login cannot be restored. Log in again instead: signalbox oauth login "+s.Name)
			}
			if newest != n {
				fresh, err := r.open(tx, *s, newest, []string{"access_token", refreshField})
				if err != nil {
					return err
				}
				secrets["access_token"], secrets[refreshField] = fresh["access_token"], fresh[refreshField]
				s.OAuth.ExpiresAt = all[at(newest)].TokenExpires
			}
		}
		found, err := s.desk.factsOf(s.row, secrets) // what was stored once is not refused now
		if err != nil {
			return err
		}
		next := version{secrets: secrets, reason: "restored version " + strconv.FormatInt(n, 10), restoredFrom: n, facts: found.facts}
		return r.newVersion(tx, caller, s, next, false)
	})
}

const refreshField = "refresh_token"

// keptToken is the refresh token of one version that is still there; it is empty in one without.
type keptToken struct {
	version int64
	// refreshed says that a refresh made the version.
	refreshed bool
	token     secret.Value
}

// refreshTokens opens the refresh tokens of a credential, the oldest version first.
func (r *Room) refreshTokens(tx *store.Tx, s stored) ([]keptToken, error) {
	var rows []struct {
		Version   int64 `db:"version"`
		Refreshed int64 `db:"refreshed"`
		Token     int64 `db:"token"`
	}
	if err := tx.Select(&rows, `SELECT v.version, v.refreshed, CASE WHEN f.field IS NULL THEN 0 ELSE 1 END AS token FROM credential_versions v
		LEFT JOIN credential_secrets f ON f.credential_id = v.credential_id AND f.version = v.version AND f.field = 'refresh_token'
		WHERE v.credential_id = $1 ORDER BY v.version`, s.ID); err != nil {
		return nil, err
	}
	out := make([]keptToken, len(rows))
	for i, v := range rows {
		out[i] = keptToken{version: v.Version, refreshed: v.Refreshed == 1}
		if v.Token == 1 {
			opened, err := r.open(tx, s, v.Version, []string{refreshField})
			if err != nil {
				return nil, err
			}
			out[i].token = opened[refreshField]
		}
	}
	return out, nil
}

// heir returns the version that holds what became of the refresh token of version n: n itself, as long as no refresh has put another one in its
// place. known is false when refreshes did, and their versions were dropped. Only versions that refreshes made are ever dropped.
func heir(all []keptToken, n int64) (version int64, known bool) {
	first := slices.IndexFunc(all, func(v keptToken) bool { return v.version == n })
	version = n
	for at := first; ; {
		last := at
		for i := at; i < len(all); i++ {
			if all[i].token.Equal(all[at].token) {
				last = i
			}
		}
		if at != first {
			version = all[last].version
		}
		if last == len(all)-1 {
			return version, true
		}
		next := all[last+1]
		switch {
		case next.refreshed:
			at = last + 1
		case next.version != all[last].version+1:
			return 0, false
		default: // a person has put another one in its place, which used up nothing
			return version, true
		}
	}
}
