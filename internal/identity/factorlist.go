package identity

import (
	"context"
	"strings"

	"signalbox.dev/signalbox/internal/store"
)

// FactorKinds says in short which second factors a person has.
type FactorKinds struct {
	App      bool // an authenticator app
	Passkeys int
}

// FactorKinds returns what each of some people has; who has none is not in it. It needs [UserRead]. A list of people asks once for all its rows.
func (r *Room) FactorKinds(ctx context.Context, caller Caller, ids []string) (map[string]FactorKinds, error) {
	if err := r.allow(ctx, caller, UserRead, store.Target{Kind: "user"}); err != nil {
		return nil, err
	}
	out := map[string]FactorKinds{}
	if len(ids) == 0 {
		return out, nil
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	in := "user_id IN (" + strings.TrimSuffix(strings.Repeat("?,", len(ids)), ",") + ")"
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		clear(out)
		var w store.Where
		w.Add("confirmed_at IS NOT NULL")
		w.Add(in, args...)
		var apps []string
		if err := tx.Select(&apps, `SELECT user_id FROM totp_secrets`+w.SQL(), w.Args()...); err != nil {
			return err
		}
		for _, id := range apps {
			out[id] = FactorKinds{App: true}
		}
		var keys store.Where
		keys.Add(in, args...)
		var owners []string
		if err := tx.Select(&owners, `SELECT user_id FROM passkeys`+keys.SQL(), keys.Args()...); err != nil {
			return err
		}
		for _, id := range owners {
			has := out[id]
			has.Passkeys++
			out[id] = has
		}
		return nil
	})
	return out, err
}
