package incident

import (
	"cmp"
	"strings"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// A canary is a credential that nobody has a reason to use. That it is one stands in the server's settings alone: no row, answer, page, export or record of
// it differs from another's, so that nobody who looks for it, administrators' tokens among them, can tell. The first use goes through, since a refusal would
// give it away, and since its secret should open nothing; what whoever used it acted with is taken at once, in the transaction that opens the incident.

// Canary is the name of the detector of canaries.
const Canary = "canary"

// seeCanary counts every use of what is in the set: reveals and exports, leases, tests.
func seeCanary(ids []string) func(store.Event) (subject, key string, ok bool) {
	set := make(map[string]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return func(e store.Event) (subject, key string, ok bool) {
		if !set[e.Target.ID] {
			return "", "", false
		}
		switch e.Action {
		case store.CredentialReveal, store.LeaseGranted:
		case store.CredentialTest:
			if e.Outcome != store.OutcomePending { // one try has two records
				return "", "", false
			}
		default:
			return "", "", false
		}
		return cmp.Or(callerOf(e), "unknown"), e.ID, true
	}
}

func draftCanary(e store.Event, f finding) Draft {
	d := Draft{Meta: Meta{Type: CredentialLeak, Severity: Critical, Title: "Canary used by " + named(e.Actor)}, Touch: touchOf(e)}
	d.Credentials = []string{e.Target.ID}
	act := map[store.Action]string{store.CredentialReveal: "revealed", store.LeaseGranted: "lent", store.CredentialTest: "tested"}[e.Action]
	d.Description = "The canary " + clean(e.Target.Name) + " was " + act + ". Nobody has a reason to. "
	var took []string
	for _, t := range f.took {
		what := t.Kind + " " + cmp.Or(clean(t.Name), t.ID)
		if t.Kind == "user" {
			what = "all sessions of " + cmp.Or(clean(t.Name), t.ID)
		}
		took = append(took, what)
	}
	switch {
	case len(took) > 0:
		d.Description += "Signalbox took what it was done with: " + strings.Join(took, ", ") + "."
	case identity.Kind(e.Actor.Kind) == identity.KindJWT:
		d.Description += "The caller has a token of an outside issuer, which Signalbox cannot revoke: see to it there, or delete the issuer here."
	default:
		d.Description += "There was nothing to take from the caller any more."
	}
	d.Description += " Find out what else they did, and contain it."
	return d
}
