package identity

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Ceremony is what a passkey is asked for.
type Ceremony string

// The ceremonies.
const (
	PasskeyRegister Ceremony = "register"
	PasskeySignIn   Ceremony = "sign_in" // by somebody unknown: the passkey says who
	PasskeyProve    Ceremony = "prove"   // as the second factor of a pending sign-in, or to step up
)

const (
	// challengesMost bounds the unanswered challenges of one address.
	challengesMost = 100
	// maxPasskeyAnswer bounds what a browser sends.
	maxPasskeyAnswer = 32 << 10
)

// Site is where a browser meets this Signalbox: passkeys are bound to its host, and answers that were made on another origin do not count.
type Site struct{ host, origin string }

// Site returns the site of a request that was sent to host. It is the configured public URL, whatever the request says; without one there is only
// http://localhost. The fault is "passkeys_unavailable": browsers take no passkey on an address without a name.
func (r *Room) Site(host string) (Site, error) {
	if u := r.cfg.PublicURL; u != nil {
		if _, err := netip.ParseAddr(u.Hostname()); err == nil {
			return Site{}, fault.New(fault.Conflict, "passkeys_unavailable", "Passkeys need a host name, and the public URL of this Signalbox has an IP address. An administrator must set --public-url to one with a name.")
		}
		return Site{host: u.Hostname(), origin: u.Scheme + "://" + u.Host}, nil
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	if name != "localhost" {
		return Site{}, fault.New(fault.Conflict, "passkeys_unavailable", "Passkeys need a host name that this Signalbox knows as its own. An administrator must set --public-url, such as https://signalbox.example.com; on this machine, open http://localhost with the port instead of an IP address.")
	}
	return Site{host: "localhost", origin: "http://" + host}, nil
}

func (s Site) party() (*webauthn.WebAuthn, error) {
	w, err := webauthn.New(&webauthn.Config{RPID: s.host, RPDisplayName: "Signalbox", RPOrigins: []string{s.origin}})
	if err != nil {
		return nil, errors.New("the public URL cannot be used for passkeys")
	}
	return w, nil
}

// AskPasskey returns the options with which a page asks the browser for a passkey, as JSON. They hold a challenge that is answered once, within ten
// minutes, in the same session. Its faults are those of enrolling for [PasskeyRegister], "not_found" for [PasskeyProve] by somebody without
// passkeys, and "rate_limited" for an address that answers nothing.
func (r *Room) AskPasskey(ctx context.Context, caller Caller, site Site, what Ceremony) (json.RawMessage, error) {
	switch {
	case what == PasskeyRegister:
		if err := r.mayEnrol(ctx, caller); err != nil {
			return nil, err
		}
	case what == PasskeyProve && (caller.SessionID == "" || caller.Kind != KindPerson && caller.Kind != KindAnonymous):
		return nil, noSession()
	}
	party, err := site.party()
	if err != nil {
		return nil, err
	}
	from, err := r.attemptOf("", canonicalSource(caller.IP), "")
	if err != nil {
		return nil, err
	}
	var options any
	err = r.cfg.DB.Bookkeep(ctx, store.Ceremony, func(tx *store.Tx) error {
		var asked *webauthn.SessionData
		if options, asked, err = r.options(tx, caller, party, what); err != nil {
			return err
		}
		var waiting int
		if err := tx.Get(&waiting, `SELECT COUNT(*) FROM passkey_challenges WHERE source = $1 AND expires_at > $2`, from.address, store.TimeOf(tx.Now())); err != nil {
			return err
		}
		if waiting >= challengesMost {
			return fault.New(fault.TooMany, "rate_limited", "This address has asked for too many passkeys without using them. Wait ten minutes, or sign in with your password.").After(int(FactorOfferLife.Seconds()))
		}
		sum := sha256.Sum256([]byte(asked.Challenge))
		_, err := tx.Exec(`INSERT INTO passkey_challenges (hash, purpose, session_id, source, expires_at) VALUES ($1,$2,$3,$4,$5)`,
			sum[:], string(what), sessionFor(caller, what), from.address, store.TimeOf(tx.Now().Add(FactorOfferLife)))
		return err
	})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(options)
	if err != nil {
		return nil, errors.New("the options of a passkey cannot be encoded")
	}
	return text, nil
}

// sessionFor is the session that a challenge is bound to. Whoever signs in with a passkey has none yet.
func sessionFor(caller Caller, what Ceremony) string {
	if what == PasskeySignIn {
		return ""
	}
	return caller.SessionID
}

// options asks the library for what a page shall ask the browser. A verified person (biometrics, PIN) is always required: a passkey alone signs in.
func (r *Room) options(tx *store.Tx, caller Caller, party *webauthn.WebAuthn, what Ceremony) (any, *webauthn.SessionData, error) {
	if what == PasskeySignIn {
		options, asked, err := party.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
		return options, asked, err
	}
	var person userRow
	if what == PasskeyRegister {
		var have Factors
		var err error
		if person, have, err = r.enrolling(tx, caller); err != nil {
			return nil, nil, err
		}
		if len(have.Passkeys) >= MaxPasskeys {
			return nil, nil, tooManyPasskeys()
		}
	} else if err := tx.Get(&person, `SELECT `+userColumns+` FROM users WHERE id = $1`, caller.UserID); err != nil {
		return nil, nil, err
	}
	rows, err := passkeyRows(tx, person.ID)
	if err != nil {
		return nil, nil, err
	}
	holder, err := r.holderOf(person, rows...)
	if err != nil {
		return nil, nil, err
	}
	if what == PasskeyProve {
		if len(rows) == 0 {
			return nil, nil, noFactor()
		}
		options, asked, err := party.BeginLogin(holder, webauthn.WithUserVerification(protocol.VerificationRequired))
		return options, asked, err
	}
	options, asked, err := party.BeginRegistration(holder, webauthn.WithConveyancePreference(protocol.PreferNoAttestation),
		webauthn.WithExclusions(webauthn.Credentials(holder.keys).CredentialDescriptors()),
		webauthn.WithAuthenticatorSelection(protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(), UserVerification: protocol.VerificationRequired,
		}))
	return options, asked, err
}

// answered takes the challenge of an answer, which is used up whatever becomes of the answer.
func (r *Room) answered(ctx context.Context, caller Caller, what Ceremony, challenge string) error {
	sum := sha256.Sum256([]byte(challenge))
	known := false
	err := r.cfg.DB.Bookkeep(ctx, store.Ceremony, func(tx *store.Tx) error {
		n, err := tx.Exec(`DELETE FROM passkey_challenges WHERE hash = $1 AND purpose = $2 AND session_id = $3 AND expires_at > $4`,
			sum[:], string(what), sessionFor(caller, what), store.TimeOf(tx.Now()))
		known = n == 1
		return err
	})
	if err == nil && !known {
		err = passkeyRefused()
	}
	return err
}

// RegisterPasskey takes a browser's answer to [PasskeyRegister]. Its faults are "passkey_refused", "already_exists" and those of enrolling.
func (r *Room) RegisterPasskey(ctx context.Context, caller Caller, site Site, name string, answer secret.Value) (Enrolment, error) {
	if err := r.mayEnrol(ctx, caller); err != nil {
		return Enrolment{}, err
	}
	var p problems
	name = p.name("/name", name)
	if err := p.result(); err != nil {
		return Enrolment{}, err
	}
	party, err := site.party()
	if err != nil {
		return Enrolment{}, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(bounded(answer))
	if err != nil {
		return Enrolment{}, r.passkeyFailed(ctx, caller, err)
	}
	challenge := parsed.Response.CollectedClientData.Challenge
	if err := r.answered(ctx, caller, PasskeyRegister, challenge); err != nil {
		return Enrolment{}, r.passkeyFailed(ctx, caller, err)
	}
	var out Enrolment
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		out = Enrolment{}
		person, have, err := r.enrolling(tx, caller)
		if err != nil {
			return err
		}
		if len(have.Passkeys) >= MaxPasskeys {
			return tooManyPasskeys()
		}
		key, err := party.CreateCredential(holderOf{person: person}, webauthn.SessionData{
			Challenge: challenge, RelyingPartyID: site.host, UserID: []byte(person.ID), UserVerification: protocol.VerificationRequired,
			CredParams: webauthn.CredentialParametersDefault(),
		}, parsed)
		if err != nil {
			return passkeyRefused().Because(err)
		}
		row := passkeyRow{
			ID: store.NewID("psk"), UserID: person.ID, CredentialID: key.ID, Name: name, SignCount: int64(key.Authenticator.SignCount), CreatedAt: store.TimeOf(tx.Now()),
		}
		if row.Sealed, err = r.sealPasskey(row, *key); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO passkeys (`+passkeyColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9)`,
			row.ID, row.UserID, row.CredentialID, row.Name, row.Sealed, row.SignCount, row.CreatedAt, row.LastUsedAt, row.SuspectAt); err != nil {
			if store.IsConflict(err) {
				return fault.New(fault.Conflict, "already_exists", "This passkey is enrolled already. Use another device or security key.")
			}
			return err
		}
		if out, err = r.enrol(tx, caller, person, have, ProofPasskey, row.details()); err != nil {
			return err
		}
		out.Passkey = row.passkey()
		return nil
	})
	return out, r.passkeyFailed(ctx, caller, err)
}

// PasskeyLogin takes a browser's answer to [PasskeySignIn] and signs its person in, without a password. The fault is "passkey_refused".
func (r *Room) PasskeyLogin(ctx context.Context, caller Caller, site Site, answer secret.Value, kind SessionKind) (Admission, error) {
	return r.passkey(ctx, caller, site, PasskeySignIn, answer, func(tx *store.Tx, person userRow) (Admission, error) {
		return r.StartSession(tx, caller, person.ID, kind, ProofPasskey)
	})
}

// ProvePasskey takes a browser's answer to [PasskeyProve]: a pending sign-in is complete, another session is stepped up. The session has a new
// secret. The fault is "passkey_refused".
func (r *Room) ProvePasskey(ctx context.Context, caller Caller, site Site, answer secret.Value) (Admission, error) {
	if caller.SessionID == "" || caller.Kind != KindPerson && caller.Kind != KindAnonymous {
		return Admission{}, noSession()
	}
	return r.passkey(ctx, caller, site, PasskeyProve, answer, func(tx *store.Tx, person userRow) (Admission, error) {
		if person.ID != caller.UserID {
			return Admission{}, passkeyRefused()
		}
		return r.Proved(tx, caller, caller.SessionID, ProofPasskey)
	})
}

// passkey checks an answer and lets its person in. A counter that went backwards is on record, and refused.
func (r *Room) passkey(ctx context.Context, caller Caller, site Site, what Ceremony, answer secret.Value, in func(*store.Tx, userRow) (Admission, error)) (Admission, error) {
	party, err := site.party()
	if err != nil {
		return Admission{}, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(bounded(answer))
	if err != nil || len(parsed.Response.UserHandle) == 0 && what == PasskeySignIn {
		return Admission{}, r.passkeyFailed(ctx, caller, passkeyRefused())
	}
	challenge := parsed.Response.CollectedClientData.Challenge
	if err := r.answered(ctx, caller, what, challenge); err != nil {
		return Admission{}, r.passkeyFailed(ctx, caller, err)
	}
	var out Admission
	var verdict error
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		out, verdict = Admission{}, nil
		const query = `SELECT ` + passkeyColumns + ` FROM passkeys WHERE credential_id = $1`
		var row passkeyRow
		if err := tx.Get(&row, query, []byte(parsed.RawID)); errors.Is(err, store.ErrNotFound) {
			return passkeyRefused()
		} else if err != nil {
			return err
		}
		person, err := lockUser(tx, row.UserID)
		if err != nil {
			return err
		}
		if err := tx.Get(&row, query+tx.ForUpdate(), []byte(parsed.RawID)); errors.Is(err, store.ErrNotFound) {
			return passkeyRefused()
		} else if err != nil {
			return err
		}
		holder, err := r.holderOf(person, row)
		if err != nil {
			return err
		}
		key, err := party.ValidateLogin(holder, webauthn.SessionData{
			Challenge: challenge, RelyingPartyID: site.host, UserID: holder.WebAuthnID(), UserVerification: protocol.VerificationRequired,
		}, parsed)
		if err != nil {
			return passkeyRefused().Because(err)
		}
		if person.Active != 1 {
			return passkeyRefused()
		}
		now := store.TimeOf(tx.Now())
		if key.Authenticator.CloneWarning {
			verdict = passkeyRefused()
			if _, err := tx.Exec(`UPDATE passkeys SET suspect_at = $1 WHERE id = $2`, now, row.ID); err != nil {
				return err
			}
			user := person.user()
			ev := caller.Event(store.FactorSuspect, user.Target())
			ev.Outcome, ev.Reason, ev.Details = store.OutcomeRefused, "passkey_refused", row.details()
			if err := tx.Record(ev); err != nil {
				return err
			}
			return r.tell(tx, News{Kind: NewsPasskeyCopied, Person: user, Caller: caller, About: store.Target{Kind: "passkey", ID: row.ID, Name: row.Name}})
		}
		if _, err := tx.Exec(`UPDATE passkeys SET sign_count = $1, last_used_at = $2 WHERE id = $3`, int64(key.Authenticator.SignCount), now, row.ID); err != nil {
			return err
		}
		if out, err = in(tx, person); err != nil {
			return err
		}
		return r.familiar(tx, caller, person)
	})
	if err == nil {
		err = verdict
	}
	if err != nil {
		return Admission{}, r.passkeyFailed(ctx, caller, err)
	}
	return out, nil
}

// passkeyFailed counts a refused answer. What the library says of it stays here.
func (r *Room) passkeyFailed(ctx context.Context, caller Caller, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*protocol.Error](err); ok {
		if _, ok := fault.As(err); !ok {
			err = passkeyRefused()
		}
	}
	if f, ok := fault.As(err); ok && f.Code == "passkey_refused" {
		return r.Refuse(ctx, caller.IP, FailedFactor, err)
	}
	return err
}

// bounded is a browser's answer, nothing of one that is too long.
func bounded(answer secret.Value) []byte {
	if answer.Len() > maxPasskeyAnswer {
		return nil
	}
	return answer.Bytes()
}

// trimChallenges forgets challenges that nobody answered.
func (r *Room) trimChallenges(ctx context.Context) error {
	return r.cfg.DB.Bookkeep(ctx, store.Ceremony, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM passkey_challenges WHERE expires_at < $1`, store.TimeOf(tx.Now()))
		return err
	})
}

// ParsePublicURL reads the address under which browsers reach a Signalbox: https, or http on localhost, and nothing after the host.
func ParsePublicURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" || u.Opaque != "" {
		return nil, errors.New("must be https:// and a host, such as https://signalbox.example.com")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost") {
		return nil, errors.New("must begin with https://; http:// only with localhost")
	}
	if (u.Scheme == "https" && u.Port() == "443") || (u.Scheme == "http" && u.Port() == "80") { // browsers leave it out of an origin
		u.Host = u.Hostname()
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}, nil
}
