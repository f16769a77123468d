// Package vault stores credentials: readable metadata, sealed secret fields, and their versions.
//
// Whose permissions reach only what they own and were granted, see and do nothing else here: what they own is what they stored, and
// [Room.SetGrants] says who else may use, reveal or manage it. Grants are read in the transaction of each act, so that a revocation is
// obeyed everywhere at once.
//
// Promise: a secret field lies in the database only sealed, bound to its credential, field and version; it leaves by an authorised
// reveal that was recorded before it was decrypted, or as [Material] for lending, and either only while everything that decides where and
// how it goes is as it was set through this room. Every change is a recorded act and adds a version; deleting a credential destroys the
// sealed material of all of them.
//
// Limits: search covers readable metadata only, of which every instance that lists with a filter holds a copy in memory (some 50 MB for
// 100,000 credentials). On PostgreSQL deleted rows stay in the files, sealed, until vacuum removes them. Whoever writes the database can put
// back a whole older state of a credential (binding.go).
//
// Invariants: an unknown type, state or field is refused; an account's name and account id are unique among accounts; no error text
// holds a value that was given; whoever may not act learns nothing about whether the credential exists.
package vault

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Sealer is the part of the keyring that the vault needs.
type Sealer interface {
	Seal(purpose string, v secret.Value, aad secret.AAD) ([]byte, error)
	Open(purpose string, sealed []byte, aad secret.AAD) (secret.Value, error)
}

// Binder is the other part: it makes and compares the MACs that hold a credential to its destinations.
type Binder interface {
	MAC(purpose string, data []byte) ([]byte, error)
	SameMAC(purpose string, mac, data []byte) (bool, error)
}

// Config is what the vault needs.
type Config struct {
	DB     *store.DB
	Ring   Sealer
	Binder Binder // the same keyring
	Log    *slog.Logger
	// CheckURL refuses a URL that Signalbox would not call. Its error must be a fault that does not quote the URL.
	CheckURL func(*url.URL) error
	// Clock says how old a person's last proof is; nil means the wall clock. What is stored has the database's time.
	Clock func() time.Time
}

// Room is the vault. Make it with [New]. It is safe for concurrent use.
type Room struct {
	db     *store.DB
	ring   Sealer
	binder Binder
	log    *slog.Logger
	check  func(*url.URL) error
	now    func() time.Time
	trains Trains

	catalog   *catalog
	bench     chan struct{} // holds a place for each piece of long work under way
	reminders reminders
	uses      uses
}

// New returns the vault on a database and a keyring. It follows the change feed of the database.
func New(cfg Config) (*Room, error) {
	if cfg.DB == nil || cfg.Ring == nil || cfg.Binder == nil || cfg.CheckURL == nil {
		return nil, errors.New("vault: a database, a keyring and a check of URLs are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Room{db: cfg.DB, ring: cfg.Ring, binder: cfg.Binder, log: cfg.Log, check: cfg.CheckURL, now: cfg.Clock, trains: noTrains{}, catalog: newCatalog(cfg.DB),
		bench: make(chan struct{}, longWork)}, nil
}

// LendTo names the room of the trains, which is made after this one: it is asked who they are, and told what they may use no longer. It is
// called once, before the database is started. Until then no train is known, and nothing that one may use is taken from it.
func (r *Room) LendTo(trains Trains) { r.trains = trains }

// longWork is how many keys are made or tried at a time.
const longWork = 2

// Names of this room in the database and in records.
const (
	credentialPrefix = "cred"
	targetKind       = "credential"
	sealPurpose      = "credential"
)

// reach says how far the caller may do this, or returns the refusal, after it was recorded. Nobody at all is turned away without a record:
// unknown callers must not be able to fill the log.
func (r *Room) reach(ctx context.Context, caller identity.Caller, p identity.Permission, act, id string) (identity.Reach, error) {
	reach, refusal := identity.Within(caller, p)
	if refusal == nil && (p == identity.CredentialReveal || p == identity.CredentialGrant) {
		// Whoever finds a browser signed in must not take secrets out of it, nor give somebody the right to.
		refusal = identity.RequireFresh(caller, r.now())
	}
	if refusal == nil || fault.KindOf(refusal) == fault.Unauthenticated {
		return reach, refusal
	}
	return r.refuse(ctx, caller, act, id, refusal)
}

// refuse records the refusal of an act on the credential with that id, or on none, and returns it.
func (r *Room) refuse(ctx context.Context, caller identity.Caller, act, id string, refusal error) (identity.Reach, error) {
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		target := store.Target{Kind: targetKind}
		if id != "" {
			// The record names what exists; the caller is told the same either way.
			switch s, err := load(tx, id, false); {
			case err == nil:
				target = s.target()
			case fault.KindOf(err) != fault.NotFound:
				return err
			case store.ValidID(credentialPrefix, id):
				target.ID = id
			}
		}
		return tx.Record(refused(caller, target, act, refusal))
	})
	if err != nil {
		return identity.Nothing, err
	}
	return identity.Nothing, refusal
}

func refused(caller identity.Caller, target store.Target, act string, refusal error) store.Event {
	ev := caller.Event(store.CredentialRefused, target)
	ev.Outcome = store.OutcomeRefused
	if f, ok := fault.As(refusal); ok {
		ev.Reason = f.Code
	}
	ev.Details = store.Details{store.Str("act", act)}
	return ev
}

// damage is sealed material that does not open where it lies, or a credential that does not fit its MAC.
type damage struct {
	target   store.Target
	field    string
	version  int64
	cause    error
	tampered bool
	missing  []string // what a change would have had to name to mend it
}

func (d *damage) Error() string { return "a sealed field of " + d.target.ID + " does not open" }
func (d *damage) Unwrap() error { return d.cause }

// settle records the failure when err says that sealed material did not open, and turns what the database says into faults.
func (r *Room) settle(ctx context.Context, caller identity.Caller, action store.Action, err error) error {
	if store.IsConflict(err) {
		return taken().With("/name", "is taken").Because(err)
	}
	var d *damage
	if !errors.As(err, &d) {
		return err
	}
	if d.tampered {
		return r.settleTampered(ctx, caller, action, d)
	}
	out := fault.New(fault.Internal, "internal",
		"The sealed secret does not open where it lies: it was changed outside Signalbox, or its row was moved. Nothing was handed out and the failure is recorded. Store the secret anew (rotate with every field), or restore the database from a backup.").Because(d)
	ev := caller.Event(action, d.target)
	ev.Outcome, ev.Reason = store.OutcomeFailed, "the sealed field does not open"
	ev.Details = store.Details{store.Str("field", d.field), store.Int("version", d.version)}
	// The failure is recorded even if the caller has gone away meanwhile.
	if rerr := r.db.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.Record(ev) }); rerr != nil {
		return errors.Join(rerr, out)
	}
	return out
}

func (r *Room) openSecret(s stored, row secretRow) (secret.Value, error) {
	v, err := r.ring.Open(sealPurpose, row.Sealed, secretAAD(s.ID, row.Field, row.Version))
	if err != nil {
		return secret.Value{}, &damage{target: s.target(), field: row.Field, version: row.Version, cause: err}
	}
	return v, nil
}

// taken says no more of the other account than that there is one.
func taken() *fault.Error {
	return fault.New(fault.Conflict, "already_exists", "There is an account with this name or account id already. Choose another; nothing was changed.")
}
