package identity

import (
	"cmp"
	"time"

	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
)

// Kind says what sort of caller asks.
type Kind string

// The kinds of caller.
const (
	KindAnonymous Kind = "anonymous"  // nobody that could be authenticated
	KindPerson    Kind = "person"     // a person with a session
	KindToken     Kind = "token"      // a personal access token, acting for its person
	KindService   Kind = "service"    // a service account, by a token of its own
	KindJWT       Kind = "jwt"        // the token of an outside issuer, acting for a person of ours or for somebody outside
	KindClientKey Kind = "client_key" // an agent's key, acting for its train
	KindSystem    Kind = "system"     // Signalbox itself, and the command line on the server's own machine
)

// Caller is who asks. It is an argument of everything that checks or records, and never hidden in a context. The zero Caller may do nothing.
type Caller struct {
	Kind Kind
	// ID and Name of the person, token, key or chore.
	ID, Name string
	// UserID is the person behind a session or a token, of ours or of an outside issuer; ServiceID the service account behind one of its tokens.
	UserID, ServiceID string
	// Role of the person or the service account.
	Role Role
	// Scopes narrow what a token may do, a service account's and an outside issuer's too; they say nothing about other kinds.
	Scopes Scopes
	// TrainID is the train of a client key, Limits are the key's own, and MadeBy is the person who made it.
	TrainID string
	Limits  *quota.Limits
	MadeBy  string
	// SessionID is the session of a person and SessionKind what holds it; Proofs are what they signed in with, AuthenticatedAt when, and SteppedUpAt when they last proved
	// who they are.
	SessionID                    string
	SessionKind                  SessionKind
	Proofs                       []Proof
	AuthenticatedAt, SteppedUpAt time.Time
	// IssuerID and Subject say whom an outside issuer's token is about.
	IssuerID, Subject string
	// Until is how long the session or the token is good; zero for good.
	Until time.Time
	// OnBehalf is whom the caller acts for; when empty, a client key acts for its train and a token for its person or service account.
	OnBehalf string
	// RequestID, IP and UserAgent are filled by the door, for the record only.
	RequestID, IP, UserAgent string
}

// System returns the caller of Signalbox's own chores; name says which ("init", "cooling", …).
func System(name string) Caller { return Caller{Kind: KindSystem, ID: name, Name: name} }

// CountedAs is under what the caller's requests are counted: a person or service account is one caller, however many tokens they have. Who is
// half signed in is another: somebody with the password alone must not use up what its person may ask. It is empty for nobody.
func (c Caller) CountedAs() string {
	if c.Kind == KindAnonymous && c.UserID != "" {
		return "half " + c.UserID
	}
	return cmp.Or(c.UserID, c.ServiceID, c.ID)
}

// Actor returns the caller as audit records name it.
func (c Caller) Actor() store.Actor {
	kind := c.Kind
	if kind == "" {
		kind = KindAnonymous
	}
	return store.Actor{Kind: string(kind), ID: c.ID, Name: c.Name}
}

// Event returns the beginning of an audit record of what the caller did to the target. Its outcome is ok unless it is changed.
func (c Caller) Event(action store.Action, target store.Target) store.Event {
	behalf := c.OnBehalf
	if behalf == "" {
		switch c.Kind {
		case KindClientKey:
			behalf = c.TrainID
		case KindToken:
			behalf = c.UserID
		case KindService:
			behalf = c.ServiceID
		}
	}
	return store.Event{Actor: c.Actor(), OnBehalf: behalf, Action: action, Target: target, RequestID: c.RequestID, IP: c.IP, UserAgent: c.UserAgent}
}
