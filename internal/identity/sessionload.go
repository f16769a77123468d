package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"

	"signalbox.dev/signalbox/internal/store"
)

// SessionCookie is the name of the cookie that holds a session's secret. Browsers take a cookie of such a name only from the host itself,
// over TLS or from this machine, and for no other path, so that neither a neighbouring host nor plain http can plant one.
const SessionCookie = "__Host-signalbox"

// Cookie returns the cookie of a session. It is Lax, not Strict: a person who follows a link from a chat or comes back from single sign-on is
// signed in, and what changes anything asks for more than a cookie.
func (a Admission) Cookie() *http.Cookie {
	c := EndCookie()
	c.Value, c.MaxAge = a.Secret.Reveal(), 0 // gone with the browser; the server knows the limits
	return c
}

// EndCookie returns the cookie that makes a browser forget a session.
func EndCookie() *http.Cookie {
	return &http.Cookie{Name: SessionCookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// CookieSecret returns the session's secret that a request brings, "" without one. Of two cookies of that name neither counts.
func CookieSecret(r *http.Request) string {
	if all := r.CookiesNamed(SessionCookie); len(all) == 1 {
		return all[0].Value
	}
	return ""
}

// signedIn is what memory knows of a session besides what every holder has.
type signedIn struct {
	kind                     SessionKind
	proofs, demanded         []Proof
	authenticated, steppedUp time.Time
	idle                     time.Duration
}

const livingSessions = `SELECT id, user_id, kind, hash, proofs, demanded, authenticated_at, stepped_up_at, last_used_at, expires_at FROM sessions`

func (r *Room) sessionHolders(tx *store.Tx, query string, args ...any) (out []*holder, err error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var kind, proofs, demanded string
		var sum []byte
		var authenticated, steppedUp, used store.Time
		h := &holder{}
		if err := rows.Scan(&h.id, &h.owner, &kind, &sum, &proofs, &demanded, &authenticated, &steppedUp, &used, &h.expires); err != nil {
			return nil, err
		}
		if len(sum) != sha256.Size {
			return nil, fmt.Errorf("the hash of %s has %d bytes instead of %d", h.id, len(sum), sha256.Size)
		}
		copy(h.sum[:], sum)
		h.used.Store(int64(used))
		_, idle := r.sessionLimits(SessionKind(kind))
		h.session = &signedIn{kind: SessionKind(kind), authenticated: authenticated.Time(), steppedUp: steppedUp.Time(), idle: idle}
		if h.session.proofs, err = decodeProofs(proofs); err != nil {
			return nil, err
		}
		if h.session.demanded, err = decodeProofs(demanded); err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, rows.Err()
}

func (r *Room) reloadSession(tx *store.Tx, id string) error {
	found, err := r.sessionHolders(tx, livingSessions+" WHERE id = $1", id)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		r.sessions.remove(id)
		return nil
	}
	r.sessions.put(found[0])
	return nil
}

// Session returns the person whose session this is, with the role that they have now, and notes the use. It reads memory; only when a session
// seems to have lain idle the database is asked whether it was used on another instance. A refusal is a fault "unauthenticated", or
// "second_factor_required" for a sign-in that is not complete. News from the database that are too old are refused like a database that is away.
func (r *Room) Session(ctx context.Context, cookie string) (Caller, error) {
	h, caller, err := r.wholly(ctx, cookie)
	if err == nil {
		r.touches.note(h, r.now())
	}
	return caller, err
}

// Unattended is Session for what a page asks by itself: it notes no use, so that a page left open does not keep its session from lying idle.
func (r *Room) Unattended(ctx context.Context, cookie string) (Caller, error) {
	_, caller, err := r.wholly(ctx, cookie)
	return caller, err
}

func (r *Room) wholly(ctx context.Context, cookie string) (*holder, Caller, error) {
	h, caller, err := r.living(ctx, cookie)
	if err != nil {
		return nil, Caller{}, err
	}
	if len(h.session.demanded) > 0 {
		return nil, Caller{}, secondFactor()
	}
	return h, caller, nil
}

// Pending returns who is half signed in with this secret, as a caller who may do nothing, and the proofs any one of which completes it.
func (r *Room) Pending(ctx context.Context, cookie string) (Caller, []Proof, error) {
	h, caller, err := r.living(ctx, cookie)
	if err != nil {
		return Caller{}, nil, err
	}
	if len(h.session.demanded) == 0 {
		return Caller{}, nil, sessionOver()
	}
	return Caller{Kind: KindAnonymous, UserID: caller.UserID, SessionID: caller.SessionID}, h.session.demanded, nil
}

// living finds a session that has neither ended nor lain idle, of a person who is active.
func (r *Room) living(ctx context.Context, cookie string) (*holder, Caller, error) {
	if !wellFormed(sessionPrefix, cookie) {
		return nil, Caller{}, sessionOver()
	}
	if err := r.cfg.DB.Fresh(ctx); err != nil {
		return nil, Caller{}, err
	}
	sum := digest(cookie)
	h := r.sessions.find(&sum)
	if h == nil {
		if !r.loaded.Load() {
			return nil, Caller{}, notLoaded()
		}
		return nil, Caller{}, sessionOver()
	}
	caller, err := r.sessionCaller(ctx, h)
	return h, caller, err
}

func (r *Room) sessionCaller(ctx context.Context, h *holder) (Caller, error) {
	now := r.now()
	if h.expired(now) {
		return Caller{}, sessionOver()
	}
	if h.idle(now) {
		var used store.Time
		err := r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
			return tx.Get(&used, `SELECT last_used_at FROM sessions WHERE id = $1`, h.id)
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return Caller{}, err
		}
		h.usedAt(int64(used))
		if err != nil || h.idle(now) {
			return Caller{}, sessionOver()
		}
	}
	r.peopleMu.RLock()
	p, ok := r.people[h.owner]
	r.peopleMu.RUnlock()
	if !ok || !p.active {
		return Caller{}, sessionOver()
	}
	return Caller{
		Kind: KindPerson, ID: h.owner, Name: p.name, UserID: h.owner, Role: p.role,
		SessionID: h.id, SessionKind: h.session.kind, Proofs: h.session.proofs, AuthenticatedAt: h.session.authenticated, SteppedUpAt: h.session.steppedUp, Until: h.until(),
	}, nil
}

// Again returns the caller as they are now: a session or a token that has ended, or a person who was deactivated, is the fault
// "unauthenticated". It notes no use. Answers that take long ask it, and must end when it refuses.
func (r *Room) Again(ctx context.Context, caller Caller) (Caller, error) {
	if err := r.cfg.DB.Fresh(ctx); err != nil {
		return Caller{}, err
	}
	var now Caller
	var err error
	switch caller.Kind {
	case KindPerson:
		h := r.sessions.get(caller.SessionID)
		if h == nil || len(h.session.demanded) > 0 {
			return Caller{}, sessionOver()
		}
		now, err = r.sessionCaller(ctx, h)
	case KindToken, KindService:
		h := r.tokens.get(caller.ID)
		if h == nil {
			return Caller{}, unknownToken()
		}
		now, err = r.tokenCaller(h)
	case KindJWT:
		now, err = r.outsideAgain(caller)
	default:
		return Caller{}, unauthenticated("This caller cannot be asked for again.")
	}
	now.RequestID, now.IP, now.UserAgent = caller.RequestID, caller.IP, caller.UserAgent
	return now, err
}
