package vault

import (
	"context"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// Rights are what a caller may do with one credential besides reading it.
type Rights struct{ Use, Reveal, Manage, Grant bool }

// Rights says what the caller may do with a credential now, by role, scopes, ownership and grants, so that what would be refused is not offered.
// It permits nothing and records nothing: each act asks again. A proof that is too old is not told of here.
func (r *Room) Rights(ctx context.Context, caller identity.Caller, id string) (out Rights, err error) {
	var v verbs
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		parties, err := identity.Principals(tx, caller)
		if err == nil {
			v, err = held(tx, parties, id)
		}
		return err
	})
	if err != nil {
		return Rights{}, err
	}
	may := func(p identity.Permission, n need) bool {
		reach, refusal := identity.Within(caller, p)
		return refusal == nil && (reach == identity.Everything || v.has(n) == nil)
	}
	return Rights{Use: may(identity.CredentialUse, toUse), Reveal: may(identity.CredentialReveal, toReveal), Manage: may(identity.CredentialWrite, toManage), Grant: may(identity.CredentialGrant, toManage)}, nil
}
