package train

import (
	"strconv"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/vault"
)

// holding is the state of an account that somebody has paused or drained.
func (a *account) holding() State {
	if a.Lending.State == vault.Drained {
		return Drained
	}
	return Paused
}

func isHeld(x Ranked) bool { return x.State == Paused || x.State == Drained }

// unstartable says why a lease that was not used yet must not be: what ends running ones, and an account that was drained meanwhile.
func (r *Room) unstartable(l *Lease) *fault.Error {
	b := r.lines.Load()
	if f := r.dead(b, l); f != nil {
		return f
	}
	if a := b.accounts.get(l.account.id); a != nil && a.held() != "" {
		return fault.New(fault.Forbidden, "no_account", "The account of this request was paused or drained a moment ago. Send it again; another linked account will serve it.")
	}
	return nil
}

// errHeld is the refusal where people have paused or drained what could be lent.
func errHeld(l *line, t *trip) *fault.Error {
	which := "The accounts of the train " + l.Slug + " that could be used are paused or drained."
	switch {
	case t.want.Pinned != "":
		which = "The account on which this batch or file lies is paused or drained."
	case t.want.Account != "":
		which = "The account that the request names is paused or drained."
	}
	return fault.New(fault.Forbidden, "no_account", which+" An operator can have it lent again: signalbox account resume ACCOUNT. `signalbox train explain "+l.Slug+"` says who paused what, and why.")
}

// running returns how many leases on an account this instance has open.
func (r *Room) running(id string) (n int) {
	for i := range r.leases.parts {
		p := &r.leases.parts[i]
		p.mu.Lock()
		for l := p.head; l != nil; l = l.next {
			if l.account.id == id {
				n++
			}
		}
		p.mu.Unlock()
	}
	return n
}

// finishing says of a drained account what still runs on it. Other instances know of theirs alone.
func (r *Room) finishing(a *account) string {
	switch n := r.running(a.id); n {
	case 0:
		return a.held() + "; nothing runs on it at this instance"
	case 1:
		return a.held() + "; one request still runs on it at this instance"
	default:
		return a.held() + "; " + strconv.Itoa(n) + " requests still run on it at this instance"
	}
}

func (r *Room) tellFinishing(l *line, accounts []Ranked) {
	for i := range accounts {
		if accounts[i].State != Drained {
			continue
		}
		if g, linked := l.rung(accounts[i].CredentialID); linked {
			accounts[i].Why = r.finishing(g.account)
		}
	}
}
