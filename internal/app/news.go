package app

import (
	"strconv"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
)

// tellOfSignIns has the channels tell of what a theft looks like, in the transaction of the act.
func tellOfSignIns(tx *store.Tx, n identity.News) error {
	who := n.Person.Name
	m := notify.Message{Subject: n.Person.Target(), Facts: []notify.Fact{{Name: "Person", Value: who}, {Name: "E-mail address", Value: n.Person.Email}}}
	switch n.Kind {
	case identity.NewsRecoveryUsed:
		m.Kind, m.Title = notify.RecoveryUsed, "A recovery code of "+who+" was used"
		m.Text = "It stood in for the second factor. If it was not " + who + ", somebody has the password and the codes: end the sessions, reset the password, and have new codes made under /account/factors. " +
			"If the factor is lost, remove it there and enrol another."
		m.Facts = append(m.Facts, notify.Fact{Name: "Codes left", Value: strconv.Itoa(n.Left)})
	case identity.NewsPasskeyCopied:
		m.Kind, m.Title, m.DedupKey = notify.PasskeyCopied, "A passkey of "+who+" may have been copied", n.About.ID
		m.Text = "Its counter went backwards, as that of a copy does, so the sign-in was refused. " + who + " removes the passkey under /account/factors and enrols another; an administrator can remove all with: signalbox user reset-factors"
		m.Facts = append(m.Facts, notify.Fact{Name: "Passkey", Value: n.About.Name})
	case identity.NewsFactorsReset:
		m.Kind, m.Title = notify.FactorsReset, "The second factors of "+who+" were removed"
		m.Text = "Until " + who + " enrols a new one, the password alone signs them in, unless their role must have one. If nobody asked for this, deactivate the account and look at who did it: signalbox audit search"
		m.Facts = append(m.Facts, notify.Fact{Name: "By", Value: n.Caller.Name})
	case identity.NewsRefreshReused:
		m.Kind, m.Title = notify.RefreshReused, "A refresh token of "+who+" came twice"
		m.Text = "Two have it, and one of them may be a thief, so the session ended. " + who + " signs in again where the program runs. If the program did not repeat itself, look for the copy: on that machine, and at the address below."
		m.Facts = append(m.Facts, notify.Fact{Name: "Session", Value: n.About.ID})
	}
	if n.Caller.IP != "" {
		m.Facts = append(m.Facts, notify.Fact{Name: "From", Value: n.Caller.IP})
	}
	return notify.Enqueue(tx, m)
}
