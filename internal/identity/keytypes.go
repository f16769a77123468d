package identity

import (
	"time"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
)

// Status of a client key or a token.
type Status string

// The statuses.
const (
	StatusActive  Status = "active"
	StatusExpired Status = "expired"
	StatusRevoked Status = "revoked"
)

func status(expires, revoked *store.Time, now time.Time) Status {
	switch {
	case revoked != nil:
		return StatusRevoked
	case expires != nil && !now.Before(expires.Time()):
		return StatusExpired
	}
	return StatusActive
}

// Key is a client key as it may be shown. Its secret is known only when it is issued.
type Key struct {
	ID         string
	TrainID    string
	TrainSlug  string // filled by the train room, which knows it
	Name       string
	Preview    string // beginning and last four characters
	Status     Status
	CreatedBy  string // id of the person, or name of the chore
	CreatedAt  time.Time
	LastUsedAt *time.Time
	ExpiresAt  *time.Time
	RevokedAt  *time.Time
	ReplacedBy string // id of the successor, or empty
	SessionID  string // of the sign-in that it ends with, or empty
	// Limits are what it may use; nil for all that its train and its person may.
	Limits *quota.Limits
}

// ETag is the validator of this state of the key's settings (RFC 9110, section 8.8.3). Uses do not change it.
func (k Key) ETag() string {
	at := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.UTC().Format(store.TimeFormat)
	}
	return etag.Of(k.ID, k.Name, at(k.ExpiresAt), at(k.RevokedAt), k.ReplacedBy, k.Limits.Text())
}

// Unless returns the fault etag_mismatch when the caller has seen another state of the key; ifMatch is the If-Match header, or empty.
func (k Key) Unless(ifMatch string) error {
	if etag.Match(ifMatch, k.ETag()) {
		return nil
	}
	return fault.New(fault.Precondition, "etag_mismatch", "The client key was changed since it was read. Read it again, then repeat the change.")
}

// Target returns the key as audit records name it.
func (k Key) Target() store.Target {
	return store.Target{Kind: "client_key", ID: k.ID, Name: k.Name}
}

// KeyDraft says what key to issue.
type KeyDraft struct {
	Name      string
	ExpiresAt *time.Time   // nil: never
	CreatedBy string       // empty: the caller's person, or the caller itself
	Limit     int          // active keys that the train may have; 0: Config.MaxKeysPerTrain
	Limits    *quota.Patch // what the key may use; nil limits nothing
	// WithSession has the key end with the session that issues it, at the latest after [BriefLife]. Only a program's session may.
	WithSession bool
	// Bound has the key end with its maker's way to the train (lostkeys.go), which the caller holds.
	Bound bool
}

// BriefLife is the longest life of a client key that ends with the session that issued it.
const BriefLife = 12 * time.Hour

// KeyFilter narrows a list of keys.
type KeyFilter struct {
	Status Status // empty: all
	Limit  int    // 0: 100; at most 1000
	Cursor string // what the page before gave as next; empty: the newest keys
	Skip   int
	// Of is the id of the person who made them; empty: whoever did.
	Of string
}

// KeyPatch says what to change; what is nil or false stays as it is.
type KeyPatch struct {
	Name      *string
	SetExpiry bool         // whether ExpiresAt counts
	ExpiresAt *time.Time   // nil: never
	Limit     int          // as in KeyDraft; it counts when an expired key comes back to life
	Limits    *quota.Patch // what the key may use
	IfMatch   string       // the If-Match header that the key's ETag must satisfy, or empty
}

// KeyReplacement says how a key is replaced.
type KeyReplacement struct {
	Name      string        // empty: the old key's name
	ExpiresAt *time.Time    // of the successor; nil: never
	CreatedBy string        // as in KeyDraft
	Limit     int           // as in KeyDraft
	Overlap   time.Duration // how long the old key stays valid, at most MaxOverlap; 0: it is revoked now
}

// MaxOverlap is the longest time for which a replaced key may stay valid.
const MaxOverlap = 30 * 24 * time.Hour

const keyColumns = `id, train_id, name, preview, created_by, created_at, last_used_at, expires_at, revoked_at, replaced_by, limits, session_id, bound`

type keyRow struct {
	ID         string      `db:"id"`
	TrainID    string      `db:"train_id"`
	Name       string      `db:"name"`
	Preview    string      `db:"preview"`
	CreatedBy  string      `db:"created_by"`
	CreatedAt  store.Time  `db:"created_at"`
	LastUsedAt *store.Time `db:"last_used_at"`
	ExpiresAt  *store.Time `db:"expires_at"`
	RevokedAt  *store.Time `db:"revoked_at"`
	ReplacedBy *string     `db:"replaced_by"`
	Limits     string      `db:"limits"`
	SessionID  string      `db:"session_id"`
	Bound      int64       `db:"bound"`
}

func (k *keyRow) status(now time.Time) Status { return status(k.ExpiresAt, k.RevokedAt, now) }

func (r *Room) key(row keyRow, now time.Time) Key {
	k := Key{
		ID: row.ID, TrainID: row.TrainID, Name: row.Name, Preview: row.Preview, Status: row.status(now), CreatedBy: row.CreatedBy,
		CreatedAt: row.CreatedAt.Time(), LastUsedAt: lastUse(row.LastUsedAt, r.keys.get(row.ID)), ExpiresAt: row.ExpiresAt.Ptr(), RevokedAt: row.RevokedAt.Ptr(), Limits: quota.Parse(row.Limits), SessionID: row.SessionID,
	}
	if row.ReplacedBy != nil {
		k.ReplacedBy = *row.ReplacedBy
	}
	return k
}
