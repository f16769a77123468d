package train

import (
	"cmp"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/identity"
)

// Cooled is a linked account that is left alone for a while after a failure.
type Cooled struct {
	CredentialID, Name string
	Until              time.Time
	Why                string
}

// Cooled returns the accounts in a cool-down, those that rest longest first, by what this instance goes by. It needs trains:read of every train, since
// accounts are of the organisation and not of a train.
func (r *Room) Cooled(caller identity.Caller) (out []Cooled, err error) {
	if err := identity.Allow(caller, identity.TrainRead); err != nil {
		return nil, err
	}
	now := r.now()
	for a := range r.lines.Load().accounts.all() {
		if c := a.coolsUntil(now); c != nil && a.isAccount() && a.barred(now) == "" && a.held() == "" {
			out = append(out, Cooled{CredentialID: a.id, Name: a.name, Until: c.until, Why: c.reason})
		}
	}
	slices.SortFunc(out, func(a, b Cooled) int {
		return cmp.Or(b.Until.Compare(a.Until), cmp.Compare(a.CredentialID, b.CredentialID))
	})
	return out, nil
}
