// Package incident keeps security incidents: what happened, how far it has been dealt with, what it touches, and a timeline of all that.
//
// Promise: an incident moves only along [Moves]; every change of one is in its timeline and, without the texts that people wrote, in the audit, in the
// transaction of the change. What a detector reports while its incident is open is that incident, whichever instance reports it. Containment does in one
// transaction exactly what its plan says. A grant that it has to end at an OAuth provider, and tokens that it has to replace there, are asked for until the provider agrees
// or it is given up, on record, also when the process dies in between. Tokens are replaced when the refresh token is another one. A credential whose tokens could not be replaced is
// lent to nobody from then on, and its grant is ended.
//
// Limits: texts are stored as they are typed, so a secret does not belong into them. Whoever may read incidents reads all of them. An incident that is
// deleted is gone with its timeline; what the audit says of it stays.
//
// Invariants: descriptions, findings, remediation steps and notes are in no audit record and in no notification; what a link names may be gone, and its
// name stays as it was; no network inside a transaction.
package incident

import (
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Config is what a [Room] is made of. All but Every, Log, Clock and At is required.
type Config struct {
	DB       *store.DB
	Identity *identity.Room
	Vault    *vault.Room
	Logins   *oauth.Logins
	// Tokens refreshes OAuth credentials.
	Tokens *oauth.Room
	Audit  *audit.Log
	// Every is how often this instance looks for grants that are to be ended; default 2 s. Those of its own acts it ends at once.
	Every time.Duration
	// Log receives what no caller is told. Nil discards it.
	Log *slog.Logger
	// Clock judges how old a person's last proof is; nil means the wall clock. What is stored has the database's time.
	Clock func() time.Time
	// At is called at each step of what a containment owes to others; an error ends the attempt there, as the death of the process would. Tests use it.
	At func(Point) error
}

// Point is a step of what a containment owes to others.
type Point string

// The points, in their order.
const (
	AtOwed  Point = "containment-owed"  // the act is stored, and nobody has claimed what follows it
	AtAsk   Point = "containment-ask"   // it is claimed, and nobody was asked yet
	AtAsked Point = "containment-asked" // the provider has answered, and nothing is written down
)

// Points returns the points in their order.
func Points() []Point { return []Point{AtOwed, AtAsk, AtAsked} }

// Room keeps incidents. Make it with [New], begin to end grants with [Room.Start], end with [Room.Close].
type Room struct {
	db       *store.DB
	identity *identity.Room
	vault    *vault.Room
	logins   *oauth.Logins
	tokens   *oauth.Room
	audit    *audit.Log
	log      *slog.Logger
	now      func() time.Time
	at       func(Point) error
	worker   worker
}

// New returns a room.
func New(cfg Config) (*Room, error) {
	if cfg.DB == nil || cfg.Identity == nil || cfg.Vault == nil || cfg.Logins == nil || cfg.Tokens == nil || cfg.Audit == nil {
		return nil, errors.New("incident: a database, people, a vault, logins, what refreshes and the audit are required")
	}
	r := &Room{db: cfg.DB, identity: cfg.Identity, vault: cfg.Vault, logins: cfg.Logins, tokens: cfg.Tokens, audit: cfg.Audit, log: cfg.Log, now: cfg.Clock, at: cfg.At}
	r.worker.prepare(cfg.Every)
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.at == nil {
		r.at = func(Point) error { return nil }
	}
	return r, nil
}

// Type says what kind of thing happened. The list is closed.
type Type string

// The types.
const (
	BEC                Type = "bec"
	Backdoor           Type = "backdoor"
	Malware            Type = "malware"
	UnauthorizedAccess Type = "unauthorized_access"
	DataBreach         Type = "data_breach"
	Phishing           Type = "phishing"
	Ransomware         Type = "ransomware"
	BruteForce         Type = "brute_force"
	CredentialLeak     Type = "credential_leak"
	Other              Type = "other"
)

// TypeRow explains one type.
type TypeRow struct {
	Type    Type
	Meaning string
}

// Types returns the table of types.
func Types() []TypeRow {
	return []TypeRow{
		{BEC, "business e-mail compromise: somebody writes in another's name"},
		{Backdoor, "a way in that nobody of the house made"},
		{Malware, "malicious software"},
		{UnauthorizedAccess, "somebody was where they may not be"},
		{DataBreach, "data left the house"},
		{Phishing, "somebody was lured into giving something away"},
		{Ransomware, "data was encrypted or taken for a ransom"},
		{BruteForce, "somebody guesses passwords, keys or tokens"},
		{CredentialLeak, "a credential came into the open"},
		{Other, "anything else"},
	}
}

func (t Type) known() bool {
	return slices.ContainsFunc(Types(), func(r TypeRow) bool { return r.Type == t })
}

// Severity says how bad it is.
type Severity string

// The severities, the least first.
const (
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

// Severities returns the severities, the least first.
func Severities() []Severity { return []Severity{Low, Medium, High, Critical} }

// Status says how far an incident has been dealt with.
type Status string

// The statuses.
const (
	Investigating Status = "investigating" // what happened is not known yet
	Contained     Status = "contained"     // it does not spread any more
	Monitoring    Status = "monitoring"    // it is watched whether it comes back
	Resolved      Status = "resolved"      // it is over, for good
)

// Statuses returns the statuses in the order of the work.
func Statuses() []Status { return []Status{Investigating, Contained, Monitoring, Resolved} }

// Moves returns where an incident may go from each status. Whatever is not in it is refused: what has not been contained or watched is not called
// resolved, and what is resolved stays so.
func Moves() map[Status][]Status {
	return map[Status][]Status{
		Investigating: {Contained, Monitoring},
		Contained:     {Investigating, Monitoring, Resolved},
		Monitoring:    {Investigating, Contained, Resolved},
		Resolved:      {},
	}
}

// LinkKind says what an incident touches.
type LinkKind string

// The kinds of links.
const (
	OfClient         LinkKind = "client"
	OfService        LinkKind = "service"
	OfInfrastructure LinkKind = "infrastructure"
	OfCredential     LinkKind = "credential"
	OfPerson         LinkKind = "user"
	OfServiceAccount LinkKind = "service_account"
	OfTrain          LinkKind = "train"
	OfKey            LinkKind = "key"
)

// Link is one thing that an incident touches, with the name that it had when it was linked.
type Link struct {
	Kind     LinkKind
	ID, Name string
}

// Incident is one incident.
type Incident struct {
	ID string
	Meta
	Status     Status
	ResolvedAt *time.Time
	Links      []Link // by kind and id
	// Detector says which detector opened it, Subject about what; "" for what people opened. Repeats counts how often it was reported again while it was
	// open, LastSeenAt is when it last was.
	Detector, Subject    string
	Repeats              int64
	LastSeenAt           *time.Time
	Revision             int64
	CreatedAt, UpdatedAt time.Time
}

// Meta is what a person may set.
type Meta struct {
	Title        string
	Type         Type
	Severity     Severity
	Description  string
	Findings     string
	Remediation  string // the remediation steps
	IncidentDate time.Time
}

// Touch names what an incident touches. Trains may be named by their slugs.
type Touch struct {
	ClientID, ServiceID, InfrastructureID                    string
	Credentials, People, ServiceAccounts, Trains, ClientKeys []string
}

// Draft is an incident to be opened. Only the title is required: the type is other and the severity medium when they are left out, the date is now.
type Draft struct {
	Meta
	Touch
}

// Patch changes an incident: nil leaves a field as it is, an empty text or list empties it.
type Patch struct {
	Title, Description, Findings, Remediation                *string
	Type                                                     *Type
	Severity                                                 *Severity
	Status                                                   *Status
	IncidentDate, ResolvedAt                                 *time.Time
	ClientID, ServiceID, InfrastructureID                    *string
	Credentials, People, ServiceAccounts, Trains, ClientKeys *[]string
	// Note is the reason; it stands in the timeline.
	Note string
}

// Filter narrows a list; empty fields do not.
type Filter struct {
	Status    Status
	Open      bool // those that are not resolved
	Type      Type
	Severity  Severity
	Touches   LinkKind // with TouchesID: what touches this
	TouchesID string
	Q         string // words; each must occur in the title, in upper or lower case
	Limit     int    // 0: 100; at most 1000
	Cursor    string // the next of the page before
	Skip      int
}

// EntryKind says what an entry of a timeline tells of.
type EntryKind string

// The kinds of entries.
const (
	Opened  EntryKind = "opened"
	Moved   EntryKind = "moved"
	Changed EntryKind = "changed"
	Note    EntryKind = "note"
	Act     EntryKind = "contained"
	Revoked EntryKind = "revoked_upstream"
	Renewed EntryKind = "refreshed"
)

// Entry is one entry of a timeline.
type Entry struct {
	ID      string
	At      time.Time
	Kind    EntryKind
	Actor   store.Actor
	Text    string // what a person wrote
	Details store.Details
}

// ETag names this state of the incident; entries by hand do not change it.
func (i Incident) ETag() string { return etag.Of(i.ID, strconv.FormatInt(i.Revision, 10)) }

// Target is the incident as records name it.
func (i Incident) Target() store.Target {
	return store.Target{Kind: targetKind, ID: i.ID, Name: i.Title}
}

// Linked returns the ids of the linked things of a kind.
func (i Incident) Linked(kind LinkKind) []string {
	var out []string
	for _, l := range i.Links {
		if l.Kind == kind {
			out = append(out, l.ID)
		}
	}
	return out
}

const (
	targetKind = "incident"
	idPrefix   = "inc"
)

func noIncident() error {
	return fault.New(fault.NotFound, "not_found", "There is no such incident. List the incidents to find its id.")
}

func changedMeanwhile() error {
	return fault.New(fault.Precondition, "etag_mismatch", "The incident changed since it was read. Read it again, then repeat the change on what it is now.")
}
