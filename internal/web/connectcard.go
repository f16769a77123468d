package web

import (
	"net/http"
	"net/url"

	"signalbox.dev/signalbox/internal/connect"
	"signalbox.dev/signalbox/internal/web/ui"
)

// connectPart is how programs are set up to use a train.
type connectPart struct {
	Cards []connect.Card
	// Guessed is the server's address where nobody has set it, as far as the request tells; "" where somebody has.
	Guessed string
	// Issue is where to get a client key, "" for who may not issue one, and for the page that has just shown one.
	Issue string
}

// ownAddress is the server's own address: the one that was set, else as far as the request tells. Of another machine it is never http: what is sent there is a key,
// and a listener that others reach has TLS, or a proxy with it before it.
func (s *site) ownAddress(r *http.Request) (address string, set bool) {
	if s.PublicURL != nil {
		return s.PublicURL.String(), true
	}
	address = origin(r)
	u, err := url.Parse(address)
	if err == nil && (r.TLS != nil || !thisMachine(u.Hostname())) {
		u.Scheme = "https"
		address = u.String()
	}
	return address, false
}

// connectOf returns how programs are set up to use a train. The key is "" but where it was just made.
func (s *site) connectOf(r *http.Request, slug, key string) connectPart {
	address, set := s.ownAddress(r)
	p := connectPart{Cards: connect.Cards(connect.Setup{URL: address, Train: slug, Key: key})}
	if !set {
		p.Guessed = address
	}
	return p
}

// keyOnce shows a client key, this once, with how programs are set up to use it.
type keyOnce struct {
	ui.Frame
	Once    ui.Once
	Connect connectPart
}
