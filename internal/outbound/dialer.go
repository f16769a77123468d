package outbound

import (
	"context"
	"net"
)

// Dialer opens guarded connections for protocols other than HTTP. It knows nothing of TLS: whoever dials makes sure that what must be
// encrypted is, and asks [Policy.CheckServer] where it may be left out. Make it with [NewDialer].
type Dialer struct{ guard guard }

// NewDialer returns a dialer guarded by p. Of o it uses the connect timeout and the resolver.
func NewDialer(p Policy, o Options) *Dialer {
	o = o.withDefaults()
	return &Dialer{guard: newGuard(p, o)}
}

// Dial connects to host:port. A refusal matches [ErrRefused]; pass other errors through [Clean].
func (d *Dialer) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return d.guard.dial(ctx, network, address)
}

// CheckServer is [Policy.CheckURL] for a server that is named by host and port, such as a mail server: it refuses at once what no dial
// would be allowed to do, and a conversation that is not encrypted with a host that the list does not name.
func (p Policy) CheckServer(name string, port uint16, encrypted bool) error {
	h, ok := parseHost(unbracket(name))
	if !ok {
		return refuse(detailHost)
	}
	if port == 0 {
		return refuse(detailPort)
	}
	if p.named(h, port) {
		return nil
	}
	if !encrypted && !(h.isLiteral() && p.inNets(h.addr())) {
		return refuse(detailPlain)
	}
	return p.checkHost(h)
}

const detailPlain = "The server must be spoken to with TLS. To do without, allow its host by name in SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS."
