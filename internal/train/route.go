package train

import "signalbox.dev/signalbox/internal/outbound"

// Route returns how the request of this lease goes out: with the timeouts, the authorities and the proxy of its account. Nil is as all others.
func (l *Lease) Route() *outbound.Route { return l.account.route }
