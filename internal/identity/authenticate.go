package identity

import (
	"strings"

	"signalbox.dev/signalbox/internal/fault"
)

// Client returns the caller whose client key this is. It runs on every proxied request: memory only, and no allocation when the key is good.
// A refusal is a fault "unauthenticated" that says what to do; it never repeats the key.
func (r *Room) Client(bearer string) (Caller, error) {
	switch {
	case strings.HasPrefix(bearer, ClientKeyPrefix):
		if !wellFormed(ClientKeyPrefix, bearer) {
			return Caller{}, unauthenticated("This client key is damaged or was not copied whole. Copy it again, or issue a new one for the train.")
		}
	case bearer == "":
		return Caller{}, unauthenticated("This needs a client key. Send it as Authorization: Bearer sbx_live_…, or as x-api-key.")
	case strings.HasPrefix(bearer, tokenPrefix), strings.HasPrefix(bearer, setupPrefix):
		return Caller{}, unauthenticated("This is no client key. Requests to a provider need a client key of a train (sbx_live_…); issue one for the train.")
	case len(bearer) < foreignMin, len(bearer) > bearerMax:
		return Caller{}, unknownKey()
	}
	sum := digest(bearer)
	h := r.keys.find(&sum)
	if h == nil {
		if !r.loaded.Load() {
			return Caller{}, notLoaded()
		}
		return Caller{}, unknownKey()
	}
	if h.expired(r.now()) {
		return Caller{}, unauthenticated("This client key has expired. Issue a new one for the train and use that.")
	}
	return Caller{Kind: KindClientKey, ID: h.id, Name: h.name, TrainID: h.owner, OnBehalf: h.owner, Limits: h.limits, MadeBy: h.maker}, nil
}

// Token returns the caller whose token this is, with the role that its person or service account has now, and notes the use. It reads memory
// only. A refusal is a fault "unauthenticated" that says what to do; it never repeats the token.
func (r *Room) Token(bearer string) (Caller, error) {
	switch {
	case bearer == "":
		return Caller{}, unauthenticated("This needs a personal access token. Send it as Authorization: Bearer sbp_….")
	case strings.HasPrefix(bearer, ClientKeyPrefix):
		return Caller{}, unauthenticated("This is a client key, which only borrows credentials for its train. Use a personal access token (sbp_…) here.")
	case !strings.HasPrefix(bearer, tokenPrefix):
		return Caller{}, unauthenticated("This is no personal access token (they begin with sbp_). Issue one and send it as Authorization: Bearer sbp_….")
	case !wellFormed(tokenPrefix, bearer):
		return Caller{}, unauthenticated("This token is damaged or was not copied whole. Copy it again, or issue a new one.")
	}
	sum := digest(bearer)
	h := r.tokens.find(&sum)
	if h == nil {
		if !r.loaded.Load() {
			return Caller{}, notLoaded()
		}
		return Caller{}, unknownToken()
	}
	caller, err := r.tokenCaller(h)
	if err == nil {
		r.touches.note(h, r.now())
	}
	return caller, err
}

func (r *Room) tokenCaller(h *holder) (Caller, error) {
	if h.expired(r.now()) {
		return Caller{}, unauthenticated("This token has expired. Issue a new one and use that.")
	}
	if isService(h.owner) {
		return r.serviceCaller(h)
	}
	r.peopleMu.RLock()
	p, ok := r.people[h.owner]
	r.peopleMu.RUnlock()
	if !ok || !p.active {
		return Caller{}, unauthenticated("The person whose token this is has been deactivated. Ask an administrator of this Signalbox.")
	}
	return Caller{
		Kind: KindToken, ID: h.id, Name: p.name + " / " + h.name, UserID: h.owner, Role: p.role, Scopes: h.scopes, OnBehalf: h.owner, Until: h.until(),
	}, nil
}

// KeyAlive reports whether the client key is neither revoked nor expired, from memory. An open stream whose key is not alive must end.
func (r *Room) KeyAlive(id string) bool {
	h := r.keys.get(id)
	return h != nil && !h.expired(r.now())
}

func unauthenticated(detail string) error {
	return fault.New(fault.Unauthenticated, "unauthenticated", detail)
}

func unknownToken() error {
	return unauthenticated("This token is unknown or was revoked. Issue a new one and use that.")
}

func unknownKey() error {
	return unauthenticated("This client key is unknown or was revoked. Issue a new one for the train and use that.")
}

// notLoaded keeps a valid key from being called unknown while the memory is empty.
func notLoaded() error {
	return fault.New(fault.Unavailable, "database_unavailable", "Signalbox has not yet read its keys and tokens from the database. Try again in a second.").After(1)
}
