package train

import (
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
)

// Keyless returns the caller of a request without a client key, for the train that it names by slug or id. It works only where the
// operator has switched client keys off (Config.Keyless); else, and for an unknown or a private train, the fault is unauthenticated. Such requests are
// recorded under the name "no client key".
func (r *Room) Keyless(ref string) (identity.Caller, error) {
	if r.keyless {
		b := r.lines.Load()
		id := b.slugs.get(ref) // no slug looks like an id
		if id == "" {
			id = ref
		}
		if on := b.lines.get(id); on != nil && on.Visibility == identity.OfOrganisation { // who sends no key is nobody, and no member
			return identity.Caller{Kind: identity.KindAnonymous, ID: keylessID, Name: "no client key", TrainID: id, OnBehalf: id}, nil
		}
	}
	return identity.Caller{}, fault.New(fault.Unauthenticated, "unauthenticated",
		"The request has no client key, and names no train of this Signalbox that may be used without one. Send a client key, or the train's name as MSL-Train-Id.")
}

const keylessID = "keyless"

// mayAsk reports whether the caller is of a kind that anything is lent to.
func (r *Room) mayAsk(c identity.Caller) bool {
	if c.TrainID == "" {
		return false
	}
	return c.Kind == identity.KindClientKey && c.ID != "" || r.isKeyless(c)
}

func (r *Room) isKeyless(c identity.Caller) bool {
	return r.keyless && c.Kind == identity.KindAnonymous && c.ID == keylessID
}
