package identity

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Proof is one way in which a person has shown who they are. The list below is closed; a new way adds its line.
type Proof string

// The proofs.
const (
	ProofPassword  Proof = "password"
	ProofSSO       Proof = "sso"        // a sign-in at a provider
	ProofSSOStrong Proof = "sso_mfa"    // one at a provider that vouches for a second factor
	ProofHeader    Proof = "sso_header" // a trusted proxy's word
	ProofTOTP      Proof = "totp"
	ProofRecovery  Proof = "recovery_code"
	ProofPasskey   Proof = "passkey"

	// ProofEnrolment is demanded of somebody who must have a second factor and has none: they enrol one, and prove that.
	ProofEnrolment Proof = "enrolment"
)

// SessionKind says what holds the secret of a session.
type SessionKind string

// The kinds of session.
const (
	SessionBrowser SessionKind = "browser" // a cookie
	SessionAPI     SessionKind = "api"     // a program that signed in
)

const (
	sessionPrefix = "sbc_"

	// MaxSessions bounds the sessions of one person. One more ends the oldest.
	MaxSessions = 50
	// PendingLife is how long somebody may take to give the further proof that a sign-in demands.
	PendingLife = 10 * time.Minute

	maxAgent = 300 // bytes of a User-Agent that are kept with a session
)

// Session is a signed-in person as it may be shown. Its secret is known only when it is made or rotated.
type Session struct {
	ID     string
	UserID string
	Kind   SessionKind
	Proofs []Proof
	// Demanded are the proofs any one of which is still wanted. While there are some, the session is pending and good for nothing else.
	Demanded  []Proof
	IP        string
	UserAgent string
	CreatedAt time.Time
	// AuthenticatedAt is when the sign-in was complete, SteppedUpAt when a proof was last given.
	AuthenticatedAt, SteppedUpAt time.Time
	LastUsedAt                   time.Time
	ExpiresAt                    time.Time // whatever happens; earlier when it lies idle
}

// Target returns the session as audit records name it.
func (s Session) Target() store.Target { return store.Target{Kind: "session", ID: s.ID} }

// Admission is what a sign-in led to.
type Admission struct {
	User    User
	Session Session
	// Secret of the session, for the cookie. It is never known again.
	Secret secret.Value
}

// Pending reports whether a further proof is demanded before the person is signed in.
func (a Admission) Pending() bool { return len(a.Session.Demanded) > 0 }

const sessionColumns = `id, user_id, kind, proofs, demanded, ip, user_agent, created_at, authenticated_at, stepped_up_at, last_used_at, expires_at`

type sessionRow struct {
	ID              string      `db:"id"`
	UserID          string      `db:"user_id"`
	Kind            SessionKind `db:"kind"`
	Proofs          string      `db:"proofs"`
	Demanded        string      `db:"demanded"`
	IP              string      `db:"ip"`
	UserAgent       string      `db:"user_agent"`
	CreatedAt       store.Time  `db:"created_at"`
	AuthenticatedAt store.Time  `db:"authenticated_at"`
	SteppedUpAt     store.Time  `db:"stepped_up_at"`
	LastUsedAt      store.Time  `db:"last_used_at"`
	ExpiresAt       store.Time  `db:"expires_at"`
}

func (r *Room) session(row sessionRow) (Session, error) {
	proofs, err := decodeProofs(row.Proofs)
	demanded, err2 := decodeProofs(row.Demanded)
	used := row.LastUsedAt
	if later := lastUse(&used, r.sessions.get(row.ID)); later != nil {
		used = store.TimeOf(*later)
	}
	return Session{
		ID: row.ID, UserID: row.UserID, Kind: row.Kind, Proofs: proofs, Demanded: demanded, IP: row.IP, UserAgent: row.UserAgent, CreatedAt: row.CreatedAt.Time(),
		AuthenticatedAt: row.AuthenticatedAt.Time(), SteppedUpAt: row.SteppedUpAt.Time(), LastUsedAt: used.Time(), ExpiresAt: row.ExpiresAt.Time(),
	}, errors.Join(err, err2)
}

func encodeProofs(list []Proof) string {
	if len(list) == 0 {
		return "[]"
	}
	b, _ := json.Marshal(list) // strings
	return string(b)
}

// decodeProofs keeps proofs that this version does not know: they satisfy nothing here, and a demand for one stays a demand.
func decodeProofs(text string) ([]Proof, error) {
	var list []Proof
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, errors.New("the proofs of a session are not readable")
	}
	return list, nil
}

func texts(list []Proof) []string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = string(p)
	}
	return out
}

// demands returns the proofs any one of which a person must give besides those that they gave. A first factor alone is enough only for who has
// enrolled no second one, and whose role need not have one.
func demands(tx *store.Tx, userID string, given []Proof) ([]Proof, error) {
	if slices.ContainsFunc(given, Proof.second) {
		return nil, nil
	}
	have, err := enrolled(tx, userID)
	if err != nil || len(have) > 0 {
		return have, err
	}
	if err := lock(tx, "factor_demands"); err != nil { // so that a demand that is made at this moment finds the session and ends it
		return nil, err
	}
	if must, err := factorDemanded(tx, userID); err != nil || !must {
		return nil, err
	}
	return []Proof{ProofEnrolment}, nil
}

// second reports whether a proof stands for a second factor. A password does not, nor does the word of a proxy, or that of a provider which nobody
// has said to vouch for one. What this version does not know does not either.
func (p Proof) second() bool {
	switch p {
	case ProofTOTP, ProofRecovery, ProofPasskey, ProofSSOStrong:
		return true
	}
	return false
}

// StartSession signs a person in who has given these proofs, and records it; caller says where they sit. Every way to sign in ends here.
// When the proofs do not suffice the session is pending: [Room.Proved] completes it. A deactivated person is the fault "login_failed".
func (r *Room) StartSession(tx *store.Tx, caller Caller, userID string, kind SessionKind, proofs ...Proof) (Admission, error) {
	return r.startSession(tx, caller, userID, kind, proven{proofs, tx.Now(), tx.Now()})
}

// proven is what somebody has shown of who they are: when the sign-in was complete, and when the last proof was given.
type proven struct {
	proofs                   []Proof
	authenticated, steppedUp time.Time
}

func (r *Room) startSession(tx *store.Tx, caller Caller, userID string, kind SessionKind, has proven) (Admission, error) {
	// The lock on the person makes the count of sessions safe, and keeps a deactivation from missing this one.
	row, err := lockUser(tx, userID)
	if err != nil {
		return Admission{}, err
	}
	if row.Active != 1 || len(has.proofs) == 0 {
		return Admission{}, loginFailed()
	}
	demanded, err := demands(tx, row.ID, has.proofs)
	if err != nil {
		return Admission{}, err
	}
	if err := r.endOldest(tx, caller, row); err != nil {
		return Admission{}, err
	}
	now := tx.Now()
	life, _ := r.sessionLimits(kind)
	if len(demanded) > 0 {
		life = PendingLife
	}
	value := newBearer(sessionPrefix)
	sum := digest(value.Reveal())
	s := sessionRow{
		ID: store.NewID("ses"), UserID: row.ID, Kind: kind, Proofs: encodeProofs(has.proofs), Demanded: encodeProofs(demanded), IP: clip(caller.IP, 64),
		UserAgent: clip(caller.UserAgent, maxAgent), CreatedAt: store.TimeOf(now), AuthenticatedAt: store.TimeOf(has.authenticated), SteppedUpAt: store.TimeOf(has.steppedUp),
		LastUsedAt: store.TimeOf(now), ExpiresAt: store.TimeOf(now.Add(life)),
	}
	if _, err := tx.Exec(`INSERT INTO sessions (hash, `+sessionColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13)`,
		sum[:], s.ID, s.UserID, string(s.Kind), s.Proofs, s.Demanded, s.IP, s.UserAgent, s.CreatedAt, s.AuthenticatedAt, s.SteppedUpAt, s.LastUsedAt, s.ExpiresAt); err != nil {
		return Admission{}, err
	}
	tx.Change(store.TopicSession, s.ID)
	shown, err := r.session(s)
	if err != nil {
		return Admission{}, err
	}
	if err := r.recordLogin(tx, caller, row, shown); err != nil {
		return Admission{}, err
	}
	return Admission{User: row.user(), Session: shown, Secret: value}, nil
}

// recordLogin records a sign-in, or the half of one.
func (r *Room) recordLogin(tx *store.Tx, caller Caller, row userRow, s Session) error {
	user := row.user()
	action := store.IdentityLogin
	details := store.Details{store.Str("session", s.ID), store.Str("kind", string(s.Kind)), store.Strs("proofs", texts(s.Proofs))}
	if len(s.Demanded) > 0 {
		action = store.IdentityLoginBegun
		details = append(details, store.Strs("demanded", texts(s.Demanded)))
	} else if _, err := tx.Exec(`UPDATE users SET last_login_at = $1 WHERE id = $2`, store.TimeOf(tx.Now()), row.ID); err != nil {
		return err
	}
	ev := user.caller(caller).Event(action, user.Target())
	ev.Details = details
	return tx.Record(ev)
}

// Proved notes that the person of a session has just given one more proof: a pending sign-in that demanded it is complete, any other session
// is stepped up. The session gets a new secret, which is in the answer; the old one is good for nothing.
func (r *Room) Proved(tx *store.Tx, caller Caller, sessionID string, proof Proof) (Admission, error) {
	var row sessionRow
	person, err := r.lockSession(tx, sessionID, &row)
	if errors.Is(err, store.ErrNotFound) {
		return Admission{}, sessionOver()
	} else if err != nil {
		return Admission{}, err
	}
	s, err := r.session(row)
	if err != nil {
		return Admission{}, err
	}
	now := tx.Now()
	if person.Active != 1 || !now.Before(s.ExpiresAt) {
		return Admission{}, sessionOver()
	}
	pending := len(s.Demanded) > 0
	if pending && !satisfies(s.Demanded, proof) {
		return Admission{}, secondFactor()
	}
	if !pending {
		more, err := demands(tx, person.ID, []Proof{proof})
		if err != nil {
			return Admission{}, err
		}
		if len(more) > 0 { // the password is no fresh proof of who has something stronger
			return Admission{}, stepUpRequired()
		}
	}
	s.SteppedUpAt = now
	if !slices.Contains(s.Proofs, proof) {
		s.Proofs = append(s.Proofs, proof)
	}
	if pending {
		life, _ := r.sessionLimits(s.Kind)
		s.Demanded, s.AuthenticatedAt, s.ExpiresAt = nil, now, now.Add(life)
	}
	value := newBearer(sessionPrefix)
	sum := digest(value.Reveal())
	if _, err := tx.Exec(`UPDATE sessions SET hash = $1, proofs = $2, demanded = $3, authenticated_at = $4, stepped_up_at = $5, expires_at = $6, last_used_at = $5 WHERE id = $7`,
		sum[:], encodeProofs(s.Proofs), encodeProofs(s.Demanded), store.TimeOf(s.AuthenticatedAt), store.TimeOf(s.SteppedUpAt), store.TimeOf(s.ExpiresAt), s.ID); err != nil {
		return Admission{}, err
	}
	tx.Change(store.TopicSession, s.ID)
	if pending {
		err = r.recordLogin(tx, caller, person, s)
	} else {
		user := person.user()
		ev := user.caller(caller).Event(store.IdentityStepUp, user.Target())
		ev.Details = store.Details{store.Str("session", s.ID), store.Str("proof", string(proof))}
		err = tx.Record(ev)
	}
	return Admission{User: person.user(), Session: s, Secret: value}, err
}

// lockSession reads a session and locks its person and it, in this order, which is that of everything that ends sessions.
func (r *Room) lockSession(tx *store.Tx, id string, row *sessionRow) (userRow, error) {
	const query = `SELECT ` + sessionColumns + ` FROM sessions WHERE id = $1`
	if err := tx.Get(row, query, id); err != nil {
		return userRow{}, err
	}
	person, err := lockUser(tx, row.UserID)
	if err != nil {
		return userRow{}, err
	}
	return person, tx.Get(row, query+tx.ForUpdate(), id)
}

// endOldest makes room for one more session.
func (r *Room) endOldest(tx *store.Tx, caller Caller, person userRow) error {
	var rows []sessionRow
	if err := tx.Select(&rows, `SELECT `+sessionColumns+` FROM sessions WHERE user_id = $1 ORDER BY id DESC LIMIT 1000 OFFSET `+strconv.Itoa(MaxSessions-1), person.ID); err != nil {
		return err
	}
	return r.endRows(tx, person.user().caller(caller), rows, "too_many")
}

// endSessions ends every session of a person but the one with the id except, and returns how many those were.
func (r *Room) endSessions(tx *store.Tx, caller Caller, userID, except, why string) (int, error) {
	var rows []sessionRow
	if err := tx.Select(&rows, `SELECT `+sessionColumns+` FROM sessions WHERE user_id = $1 AND id <> $2 ORDER BY id`+tx.ForUpdate(), userID, except); err != nil {
		return 0, err
	}
	return len(rows), r.endRows(tx, caller, rows, why)
}

func (r *Room) endRows(tx *store.Tx, caller Caller, rows []sessionRow, why string) error {
	for _, row := range rows {
		if err := r.endSession(tx, caller, row, store.IdentitySessionEnd, why); err != nil {
			return err
		}
	}
	return nil
}

func (r *Room) endSession(tx *store.Tx, caller Caller, row sessionRow, action store.Action, why string) error {
	if _, err := tx.Exec(`DELETE FROM sessions WHERE id = $1`, row.ID); err != nil {
		return err
	}
	tx.Change(store.TopicSession, row.ID)
	ev := caller.Event(action, Session{ID: row.ID}.Target())
	ev.Reason = why
	ev.Details = store.Details{store.Str("user", row.UserID)}
	if err := tx.Record(ev); err != nil {
		return err
	}
	return r.endKeysOf(tx, caller, row.ID)
}

// lockUser returns the person and keeps others from changing them until the transaction ends.
func lockUser(tx *store.Tx, id string) (userRow, error) {
	var row userRow
	err := tx.Get(&row, `SELECT `+userColumns+` FROM users WHERE id = $1`+tx.ForUpdate(), id)
	if errors.Is(err, store.ErrNotFound) {
		return userRow{}, noPerson()
	}
	return row, err
}

// clip shortens what a stranger sent to what is kept of it.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "")
}

func sessionOver() error {
	return unauthenticated("Nobody is signed in with this session: it ended, or lay idle for too long. Sign in again.")
}

func secondFactor() error {
	return fault.New(fault.Unauthenticated, "second_factor_required", "The sign-in is not complete: it needs your second factor. Give it, or sign in again.")
}
